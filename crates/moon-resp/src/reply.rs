//! Writing replies in the protocol version of the connection.

use crate::args::Args;
use crate::double::format_double;
use crate::encode::{self, BLOB_OVERHEAD};
use crate::error::ProtocolError;

/// The protocol version a connection has chosen with `HELLO`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// RESP2, what every connection begins with.
    #[default]
    Resp2,
    /// RESP3.
    Resp3,
}

/// Appends one reply after the other to a buffer, in RESP2 or RESP3.
///
/// Types that RESP2 lacks are written as Redis downgrades them: a map as a flat array, a set as
/// an array, a double and a big number as a bulk string, a boolean as an integer, a null as a
/// null bulk string.
#[derive(Debug)]
pub struct Reply<'a> {
    out: &'a mut Vec<u8>,
    protocol: Protocol,
}

impl<'a> Reply<'a> {
    /// Writes behind what `out` holds already.
    pub fn new(out: &'a mut Vec<u8>, protocol: Protocol) -> Self {
        Reply { out, protocol }
    }

    /// The protocol version in use.
    #[must_use]
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Bytes written so far, to roll back to with [`Reply::truncate`].
    #[must_use]
    pub fn position(&self) -> usize {
        self.out.len()
    }

    /// Forgets what was written after `position`.
    pub fn truncate(&mut self, position: usize) {
        self.out.truncate(position);
    }

    /// Bytes that are already encoded.
    pub fn raw(&mut self, encoded: &[u8]) {
        self.out.extend_from_slice(encoded);
    }

    /// `+OK`.
    #[inline]
    pub fn ok(&mut self) {
        self.raw(b"+OK\r\n");
    }

    /// A simple string. Must not contain CR or LF.
    pub fn simple(&mut self, text: &str) {
        debug_assert!(!text.contains(['\r', '\n']), "a simple string is one line");
        encode::line(self.out, b'+', text.as_bytes());
    }

    /// An error with its code, such as `ERR syntax error`. CR and LF become spaces, as in Redis.
    pub fn error(&mut self, text: &str) {
        self.error_bytes(text.as_bytes());
    }

    /// As [`Reply::error`], for a text that quotes what a client sent and need not be UTF-8.
    pub fn error_bytes(&mut self, text: &[u8]) {
        self.out.reserve(text.len() + 3);
        self.out.push(b'-');
        let one_line = |&byte: &u8| match byte {
            b'\r' | b'\n' => b' ',
            other => other,
        };
        self.out.extend(text.iter().map(one_line));
        self.raw(b"\r\n");
    }

    /// The error for a broken request, with the code `ERR`; the connection is closed after it.
    pub fn protocol_error(&mut self, error: ProtocolError) {
        match error {
            // The byte goes back as it came, whatever it is in UTF-8.
            ProtocolError::ExpectedBulk { got } => self.error_bytes(
                &[b"ERR Protocol error: expected '$', got '", &[got][..], b"'"].concat(),
            ),
            other => self.error(&format!("ERR {other}")),
        }
    }

    /// An integer.
    #[inline]
    pub fn integer(&mut self, value: i64) {
        encode::integer(self.out, b':', value);
    }

    /// A length or count as an integer.
    ///
    /// # Panics
    /// Never in practice: counts of things in memory fit in 63 bits.
    #[inline]
    pub fn count(&mut self, value: usize) {
        self.integer(i64::try_from(value).expect("a count fits in 63 bits"));
    }

    /// 1 or 0, as Redis answers yes-or-no questions in both protocols.
    #[inline]
    pub fn flag(&mut self, value: bool) {
        self.raw(if value { b":1\r\n" } else { b":0\r\n" });
    }

    /// A binary-safe string.
    #[inline]
    pub fn bulk(&mut self, bytes: &[u8]) {
        self.out.reserve(bytes.len() + BLOB_OVERHEAD);
        encode::blob(self.out, b'$', bytes);
    }

    /// A binary-safe string of `len` bytes that `fill` appends, for values that are put together
    /// from parts.
    ///
    /// # Panics
    /// When `fill` appends another number of bytes: the client could not read any reply after it.
    pub fn bulk_with(&mut self, len: usize, fill: impl FnOnce(&mut Vec<u8>)) {
        self.out.reserve(len + BLOB_OVERHEAD);
        encode::header(self.out, b'$', len);
        let end = self.out.len() + len;
        fill(self.out);
        assert_eq!(
            self.out.len(),
            end,
            "a bulk string has the announced length"
        );
        self.raw(b"\r\n");
    }

    /// An integer as a bulk string, as GET answers a counter.
    pub fn bulk_integer(&mut self, value: i64) {
        let mut digits = itoa::Buffer::new();
        self.bulk(digits.format(value).as_bytes());
    }

    /// No value: `$-1` or `_`.
    #[inline]
    pub fn null(&mut self) {
        match self.protocol {
            Protocol::Resp2 => self.raw(b"$-1\r\n"),
            Protocol::Resp3 => self.raw(b"_\r\n"),
        }
    }

    /// No array: `*-1` or `_`.
    pub fn null_array(&mut self) {
        match self.protocol {
            Protocol::Resp2 => self.raw(b"*-1\r\n"),
            Protocol::Resp3 => self.raw(b"_\r\n"),
        }
    }

    /// The head of an array; `len` elements follow.
    #[inline]
    pub fn array(&mut self, len: usize) {
        encode::header(self.out, b'*', len);
    }

    /// The head of a map; `pairs` times a key and a value follow.
    pub fn map(&mut self, pairs: usize) {
        match self.protocol {
            Protocol::Resp2 => encode::header(self.out, b'*', pairs * 2),
            Protocol::Resp3 => encode::header(self.out, b'%', pairs),
        }
    }

    /// The head of a set; `len` members follow.
    pub fn set(&mut self, len: usize) {
        match self.protocol {
            Protocol::Resp2 => encode::header(self.out, b'*', len),
            Protocol::Resp3 => encode::header(self.out, b'~', len),
        }
    }

    /// The head of an out-of-band push; `len` elements follow.
    pub fn push(&mut self, len: usize) {
        match self.protocol {
            Protocol::Resp2 => encode::header(self.out, b'*', len),
            Protocol::Resp3 => encode::header(self.out, b'>', len),
        }
    }

    /// A floating point number, as [`format_double`] prints it.
    pub fn double(&mut self, value: f64) {
        let text = format_double(value);
        match self.protocol {
            Protocol::Resp2 => self.bulk(text.as_bytes()),
            Protocol::Resp3 => encode::line(self.out, b',', text.as_bytes()),
        }
    }

    /// An integer of any size, given as its decimal digits with an optional `-`.
    pub fn big_number(&mut self, digits: &str) {
        debug_assert!(
            crate::value::is_big_number(digits.as_bytes()),
            "a big number has only digits"
        );
        match self.protocol {
            Protocol::Resp2 => self.bulk(digits.as_bytes()),
            Protocol::Resp3 => encode::line(self.out, b'(', digits.as_bytes()),
        }
    }

    /// A boolean: `:1`/`:0` or `#t`/`#f`.
    pub fn boolean(&mut self, value: bool) {
        match (self.protocol, value) {
            (Protocol::Resp2, true) => self.raw(b":1\r\n"),
            (Protocol::Resp2, false) => self.raw(b":0\r\n"),
            (Protocol::Resp3, true) => self.raw(b"#t\r\n"),
            (Protocol::Resp3, false) => self.raw(b"#f\r\n"),
        }
    }

    /// A text with its format, three letters such as `txt`; a plain bulk string in RESP2.
    pub fn verbatim(&mut self, format: &str, text: &[u8]) {
        debug_assert_eq!(format.len(), 3, "a verbatim format has three letters");
        match self.protocol {
            Protocol::Resp2 => self.bulk(text),
            Protocol::Resp3 => {
                self.out.reserve(text.len() + 4 + BLOB_OVERHEAD);
                encode::header(self.out, b'=', text.len() + 4);
                self.raw(format.as_bytes());
                self.raw(b":");
                self.raw(text);
                self.raw(b"\r\n");
            }
        }
    }

    /// The head of an attribute, which says something about the value written after it; `pairs`
    /// times a key and a value follow, then that value. RESP2 has none: `false` means that
    /// nothing was written and the pairs must be left out.
    #[must_use]
    pub fn attribute(&mut self, pairs: usize) -> bool {
        match self.protocol {
            Protocol::Resp2 => false,
            Protocol::Resp3 => {
                encode::header(self.out, b'|', pairs);
                true
            }
        }
    }

    /// Makes everything written since `position` the `len` elements of an array, for commands that
    /// know their number only at the end.
    pub fn array_since(&mut self, position: usize, len: usize) {
        self.head_at(position, |reply| reply.array(len));
    }

    /// Makes everything written since `position` the `pairs` of a map.
    pub fn map_since(&mut self, position: usize, pairs: usize) {
        self.head_at(position, |reply| reply.map(pairs));
    }

    /// Makes everything written since `position` the `len` members of a set.
    pub fn set_since(&mut self, position: usize, len: usize) {
        self.head_at(position, |reply| reply.set(len));
    }

    /// Writes a head, then moves it before what was written since `position`.
    fn head_at(&mut self, position: usize, head: impl FnOnce(&mut Self)) {
        let end = self.position();
        head(self);
        let head_len = self.out.len() - end;
        self.out[position..].rotate_right(head_len);
    }
}

/// Appends one request (an array of bulk strings) to `out`: the form of effects in the log.
pub fn write_request<P: AsRef<[u8]>>(out: &mut Vec<u8>, parts: &[P]) {
    let bytes: usize = parts.iter().map(|part| part.as_ref().len()).sum();
    // Exact for common lengths; more only costs the vector's own growth.
    out.reserve(bytes + 8 * (parts.len() + 1));
    encode::request(out, parts.iter().map(AsRef::as_ref));
}

/// As [`write_request`], from arguments.
pub fn write_args(out: &mut Vec<u8>, args: Args<'_>) {
    if let Some(sent) = args.as_sent() {
        out.extend_from_slice(sent);
        return;
    }
    out.reserve(args.bytes() + 8 * (args.len() + 1));
    encode::request(out, args.iter());
}

#[cfg(test)]
mod tests;
