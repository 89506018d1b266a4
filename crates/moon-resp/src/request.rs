//! Reading requests incrementally, in place.
//!
//! A read buffer holds a pipeline of requests. [`RequestParser::parse_at`] finds the end of one
//! request and where its arguments lie; nothing is copied. When the request is not complete yet,
//! the parser remembers how far it came, counted from the request's first byte, so the caller may
//! move or grow the buffer in between and no byte is looked at twice.
//!
//! The rules are those of a Redis server, its leniency included: the byte after a CR in a header
//! and the two bytes after an argument are skipped unread, and a request of zero or fewer
//! arguments is nothing. Which error a broken request gets depends only on its bytes, not on
//! how they were split into reads.

use crate::args::{OwnedArgs, Span};
use crate::error::ProtocolError;
use crate::inline;

/// What a connection may ask of the parser.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestLimits {
    /// Longest argument in bytes (`proto-max-bulk-len`). Values above 4 GiB act as 4 GiB.
    pub max_bulk_len: usize,
    /// Most arguments of one request.
    pub max_multibulk: usize,
    /// Longest line in bytes, its end excluded: inline requests and headers.
    pub max_inline: usize,
    /// Whether the client has authenticated or need not; else a request may have at most
    /// [`UNAUTHENTICATED_MULTIBULK_MAX`] arguments of [`UNAUTHENTICATED_BULK_LEN_MAX`] bytes.
    pub authenticated: bool,
}

impl Default for RequestLimits {
    fn default() -> Self {
        RequestLimits {
            max_bulk_len: 512 << 20,
            max_multibulk: i32::MAX as usize,
            max_inline: 64 << 10,
            authenticated: true,
        }
    }
}

/// Most arguments in a request of a client that has yet to authenticate.
pub const UNAUTHENTICATED_MULTIBULK_MAX: usize = 10;
/// Longest argument, in bytes, of a client that has yet to authenticate.
pub const UNAUTHENTICATED_BULK_LEN_MAX: usize = 16 << 10;

/// What [`RequestParser::parse`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// A whole request; its spans were appended. None appended (an empty line, `*0`) means that
    /// there is nothing to execute.
    Request {
        /// Length of the request in bytes.
        consumed: usize,
    },
    /// A whole inline request with quotes. Its arguments need not lie in the buffer as they are,
    /// so they come as a copy and no spans were appended. Inline requests without quotes
    /// are a [`Parsed::Request`].
    Inline {
        /// Length of the request in bytes.
        consumed: usize,
        /// The arguments; there is at least one.
        args: OwnedArgs,
    },
    /// The request goes on behind the end of the buffer.
    Incomplete {
        /// So many more bytes are needed at least, to finish the argument in progress; never 0.
        needed: usize,
    },
}

/// Finds requests in a read buffer and keeps the progress inside a partial one.
///
/// # Invariants
/// * Between calls, `at` and the spans count from the first byte of the request in progress, and
///   everything before `at` is understood.
/// * A parser that has returned an error has forgotten the request; the caller closes the
///   connection.
#[derive(Debug, Default)]
pub struct RequestParser {
    /// Arguments found so far of the request in progress; empty between requests.
    partial: Vec<Span>,
    /// First byte not understood yet: a header, or an argument's data.
    at: usize,
    /// Bytes from `at` on that are known not to hold the end of the line in progress.
    scanned: usize,
    /// Arguments still to come; 0 while the first line is not complete.
    remaining: usize,
    /// Length of the argument at `at`, once its header is understood.
    bulk_len: Option<usize>,
}

/// Where the walk through one request stands. Kept in registers; stored only when bytes run out.
#[derive(Default)]
struct Progress {
    at: usize,
    scanned: usize,
    remaining: usize,
    bulk_len: Option<usize>,
}

impl RequestParser {
    /// A parser at the start of a request.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether a request has begun and is not complete.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        self.at > 0 || self.scanned > 0
    }

    /// Parses the request that starts at `buf[0]`; as [`RequestParser::parse_at`] with `pos` 0.
    ///
    /// # Errors
    /// As [`RequestParser::parse_at`].
    #[inline]
    pub fn parse(
        &mut self,
        buf: &[u8],
        spans: &mut Vec<Span>,
        limits: &RequestLimits,
    ) -> Result<Parsed, ProtocolError> {
        self.parse_at(buf, 0, spans, limits)
    }

    /// Parses the request that starts at `buf[pos]`. Spans count from the start of `buf`, so that
    /// the requests of a batch share one buffer, and are appended only when the request is
    /// complete; `consumed` counts from `pos`.
    ///
    /// After [`Parsed::Incomplete`] the caller passes the same request again with more bytes
    /// behind it; `pos` may be another one.
    ///
    /// # Errors
    /// [`ProtocolError`] when the bytes cannot become a request, or `buf` is above 4 GiB. The
    /// requests found before stay valid; parsing cannot go on behind the error.
    #[inline]
    pub fn parse_at(
        &mut self,
        buf: &[u8],
        pos: usize,
        spans: &mut Vec<Span>,
        limits: &RequestLimits,
    ) -> Result<Parsed, ProtocolError> {
        let first_span = spans.len();
        let result = self.request(buf, pos, spans, limits);
        if result.is_err() {
            spans.truncate(first_span);
            *self = RequestParser::default();
        }
        result
    }

    #[inline]
    fn request(
        &mut self,
        buf: &[u8],
        pos: usize,
        spans: &mut Vec<Span>,
        limits: &RequestLimits,
    ) -> Result<Parsed, ProtocolError> {
        if u32::try_from(buf.len()).is_err() {
            return Err(ProtocolError::TooBigRequest);
        }
        let request = buf.get(pos..).unwrap_or_default();
        match request.first() {
            None => return Ok(Parsed::Incomplete { needed: 1 }),
            Some(b'*') => {}
            Some(_) => return self.inline(request, pos, spans, limits),
        }
        let first_span = spans.len();
        let mut progress = if self.is_partial() {
            self.resume(pos, spans)
        } else {
            Progress::default()
        };
        let needed = arguments(request, pos, &mut progress, spans, limits)?;
        if needed == 0 {
            return Ok(Parsed::Request {
                consumed: progress.at,
            });
        }
        self.suspend(&progress, pos, first_span, spans);
        Ok(Parsed::Incomplete { needed })
    }

    /// A request that is one line of text.
    #[cold]
    fn inline(
        &mut self,
        request: &[u8],
        pos: usize,
        spans: &mut Vec<Span>,
        limits: &RequestLimits,
    ) -> Result<Parsed, ProtocolError> {
        let Some(newline) = line(request, &mut self.scanned, b'\n', limits.max_inline) else {
            return match request.len() > limits.max_inline {
                true => Err(ProtocolError::TooBigInline),
                false => Ok(Parsed::Incomplete { needed: 1 }),
            };
        };
        self.scanned = 0;
        let consumed = newline + 1;
        let line = &request[..newline];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if inline::is_plain(line) {
            inline::plain_spans(line, span(pos, 0).start, spans);
            return Ok(Parsed::Request { consumed });
        }
        match inline::split_args(line) {
            Ok(args) => Ok(Parsed::Inline { consumed, args }),
            Err(inline::UnbalancedQuotes) => Err(ProtocolError::UnbalancedQuotes),
        }
    }

    #[cold]
    fn resume(&mut self, pos: usize, spans: &mut Vec<Span>) -> Progress {
        let moved = |kept: Span| span(pos + kept.start as usize, kept.len as usize);
        spans.extend(self.partial.drain(..).map(moved));
        Progress {
            at: std::mem::take(&mut self.at),
            scanned: std::mem::take(&mut self.scanned),
            remaining: std::mem::take(&mut self.remaining),
            bulk_len: self.bulk_len.take(),
        }
    }

    #[cold]
    fn suspend(
        &mut self,
        progress: &Progress,
        pos: usize,
        first_span: usize,
        spans: &mut Vec<Span>,
    ) {
        let moved = |found: Span| span(found.start as usize - pos, found.len as usize);
        self.partial.extend(spans.drain(first_span..).map(moved));
        self.at = progress.at;
        self.scanned = progress.scanned;
        self.remaining = progress.remaining;
        self.bulk_len = progress.bulk_len;
    }
}

/// Walks through the request until its end, which answers 0, or until bytes run out, which
/// answers how many are needed.
#[inline]
fn arguments(
    request: &[u8],
    pos: usize,
    progress: &mut Progress,
    spans: &mut Vec<Span>,
    limits: &RequestLimits,
) -> Result<usize, ProtocolError> {
    if progress.remaining == 0 {
        let header = match short_header(request, 0, b'*') {
            Some(header) => header,
            None => match multibulk_header(request, &mut progress.scanned, limits)? {
                Some(header) => header,
                None => return Ok(1),
            },
        };
        if header.value > limits.max_multibulk {
            return Err(ProtocolError::InvalidMultibulkLength);
        }
        if !limits.authenticated && header.value > UNAUTHENTICATED_MULTIBULK_MAX {
            return Err(ProtocolError::UnauthenticatedMultibulkLength);
        }
        progress.at = header.end;
        progress.scanned = 0;
        progress.remaining = header.value;
    }
    while progress.remaining > 0 {
        let len = match progress.bulk_len {
            Some(len) => len,
            None => {
                let header = match short_header(request, progress.at, b'$') {
                    Some(header) => header,
                    None => match bulk_header(request, progress, limits)? {
                        Some(header) => header,
                        None => return Ok(1),
                    },
                };
                check_bulk_len(header, limits)?;
                progress.at = header.end;
                progress.scanned = 0;
                header.value
            }
        };
        let end = progress.at + len + 2;
        if end > request.len() {
            progress.bulk_len = Some(len);
            return Ok(end - request.len());
        }
        spans.push(span(pos + progress.at, len));
        progress.bulk_len = None;
        progress.at = end;
        progress.remaining -= 1;
    }
    Ok(0)
}

/// The first line, where its number is not a short one that is wholly there.
#[cold]
fn multibulk_header(
    request: &[u8],
    scanned: &mut usize,
    limits: &RequestLimits,
) -> Result<Option<Header>, ProtocolError> {
    let Some(line_len) = line(request, scanned, b'\r', limits.max_inline) else {
        return match request.len() > limits.max_inline {
            true => Err(ProtocolError::TooBigMultibulkCount),
            false => Ok(None),
        };
    };
    if line_len + 2 > request.len() {
        return Ok(None);
    }
    let value =
        parse_integer(&request[1..line_len]).ok_or(ProtocolError::InvalidMultibulkLength)?;
    // Zero or fewer arguments are no request, and no error.
    let value = usize::try_from(value.max(0)).unwrap_or(usize::MAX);
    Ok(Some(Header {
        value,
        end: line_len + 2,
    }))
}

/// An argument's header, where its number is not a short one that is wholly there.
#[cold]
fn bulk_header(
    request: &[u8],
    progress: &mut Progress,
    limits: &RequestLimits,
) -> Result<Option<Header>, ProtocolError> {
    let at = progress.at;
    let rest = &request[at..];
    let Some(line_len) = line(rest, &mut progress.scanned, b'\r', limits.max_inline) else {
        return match rest.len() > limits.max_inline {
            true => Err(ProtocolError::TooBigBulkCount),
            false => Ok(None),
        };
    };
    if line_len + 2 > rest.len() {
        return Ok(None);
    }
    if rest[0] != b'$' {
        return Err(ProtocolError::ExpectedBulk { got: rest[0] });
    }
    let value = parse_integer(&rest[1..line_len])
        .and_then(|value| usize::try_from(value).ok())
        .ok_or(ProtocolError::InvalidBulkLength)?;
    Ok(Some(Header {
        value,
        end: at + line_len + 2,
    }))
}

/// Length of the line at the start of `rest`, if its end `newline` is there and at most
/// `max` bytes away. Notes what it has searched; the caller resets that with the line done.
fn line(rest: &[u8], scanned: &mut usize, newline: u8, max: usize) -> Option<usize> {
    let searchable = &rest[..rest.len().min(max.saturating_add(1))];
    let fresh = searchable.get(*scanned..).unwrap_or_default();
    match memchr::memchr(newline, fresh) {
        Some(found) => {
            // A CR without the byte after it is found again next time.
            *scanned += found;
            Some(*scanned)
        }
        None => {
            *scanned = searchable.len();
            None
        }
    }
}

/// A header line: its number, and where the line ends in the request.
#[derive(Clone, Copy)]
struct Header {
    value: usize,
    end: usize,
}

/// Reads a header of up to three digits. `None` leaves everything else (long, partial and broken
/// headers) to the exact reading; six bytes are always there in a request that is complete.
#[inline(always)]
fn short_header(request: &[u8], at: usize, kind: u8) -> Option<Header> {
    let bytes = request.get(at..)?.first_chunk::<6>()?;
    let digit = |index: usize| usize::from(bytes[index].wrapping_sub(b'0'));
    let (first, second, third) = (digit(1), digit(2), digit(3));
    if bytes[0] != kind || first > 9 {
        return None;
    }
    if bytes[2] == b'\r' {
        return Some(Header {
            value: first,
            end: at + 4,
        });
    }
    if first == 0 || second > 9 {
        return None;
    }
    if bytes[3] == b'\r' {
        return Some(Header {
            value: first * 10 + second,
            end: at + 5,
        });
    }
    if third > 9 || bytes[4] != b'\r' {
        return None;
    }
    Some(Header {
        value: first * 100 + second * 10 + third,
        end: at + 6,
    })
}

#[inline(always)]
fn check_bulk_len(header: Header, limits: &RequestLimits) -> Result<(), ProtocolError> {
    if header.value > limits.max_bulk_len {
        return Err(ProtocolError::InvalidBulkLength);
    }
    if !limits.authenticated && header.value > UNAUTHENTICATED_BULK_LEN_MAX {
        return Err(ProtocolError::UnauthenticatedBulkLength);
    }
    // Also keeps the end of the argument from overflowing, whatever the limit is.
    if header.value > (u32::MAX as usize).saturating_sub(header.end + 2) {
        return Err(ProtocolError::TooBigRequest);
    }
    Ok(())
}

/// A decimal integer exactly as Redis accepts it in headers: no sign but `-`, no leading zeros, no
/// blanks, in the range of 64 bits.
pub(crate) fn parse_integer(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    match digits {
        [b'0'] if !negative => return Some(0),
        [b'1'..=b'9', ..] => {}
        _ => return None,
    }
    // Summed up below zero, where the range has one number more.
    let mut value = 0_i64;
    for &byte in digits {
        if !byte.is_ascii_digit() {
            return None;
        }
        value = value.checked_mul(10)?.checked_sub(i64::from(byte - b'0'))?;
    }
    if negative {
        Some(value)
    } else {
        value.checked_neg()
    }
}

/// A span of a buffer that is known to be below 4 GiB.
#[expect(
    clippy::cast_possible_truncation,
    reason = "parse_at refuses buffers of 4 GiB and more"
)]
#[inline(always)]
fn span(start: usize, len: usize) -> Span {
    debug_assert!(
        u32::try_from(start + len).is_ok(),
        "spans lie inside a buffer below 4 GiB"
    );
    Span {
        start: start as u32,
        len: len as u32,
    }
}

#[cfg(test)]
mod tests;
