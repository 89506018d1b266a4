//! Reading replies incrementally into owned values.
//!
//! Nested replies are kept on a stack of the parser, not on the stack of the thread: depth is
//! limited by a number, and the parser goes on in the middle of a reply when more bytes
//! arrive. Unlike requests, replies come from a server, so the format is read strictly.

use crate::request::parse_integer;
use crate::value::{Value, is_big_number};

/// What a reply may ask of the parser.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplyLimits {
    /// Longest string or line in bytes.
    pub max_len: usize,
    /// Most elements (or pairs) of one array, set, push, map or attribute.
    pub max_elements: usize,
    /// Most arrays, maps and so on inside one another.
    pub max_depth: usize,
}

impl Default for ReplyLimits {
    fn default() -> Self {
        ReplyLimits {
            max_len: 512 << 20,
            max_elements: i32::MAX as usize,
            max_depth: 128,
        }
    }
}

/// Bytes that are no reply. Where the next reply would begin is not known any more, so the
/// connection is of no further use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    /// A reply begins with a byte that stands for no type.
    #[error("unknown reply type '{}'", .kind.escape_ascii())]
    UnknownType {
        /// The byte.
        kind: u8,
    },
    /// A type of RESP3 whose length comes in pieces, which no Redis server sends.
    #[error("streamed reply of type '{}' is not supported", .kind.escape_ascii())]
    Streamed {
        /// The type's byte.
        kind: u8,
    },
    /// A line or a string does not end with CR LF.
    #[error("reply of type '{}' does not end with CRLF", .kind.escape_ascii())]
    MissingCrlf {
        /// The type's byte.
        kind: u8,
    },
    /// The length of a string or the number of elements is no number, or negative.
    #[error("invalid length in reply of type '{}'", .kind.escape_ascii())]
    InvalidLength {
        /// The type's byte.
        kind: u8,
    },
    /// The text behind the type does not stand for a value of it.
    #[error("invalid value in reply of type '{}'", .kind.escape_ascii())]
    InvalidValue {
        /// The type's byte.
        kind: u8,
    },
    /// A string or line is above [`ReplyLimits::max_len`].
    #[error("reply exceeds {limit} bytes")]
    TooLong {
        /// The limit in bytes.
        limit: usize,
    },
    /// More elements than [`ReplyLimits::max_elements`].
    #[error("reply has more than {limit} elements")]
    TooManyElements {
        /// The limit.
        limit: usize,
    },
    /// Nested deeper than [`ReplyLimits::max_depth`].
    #[error("reply is nested deeper than {limit}")]
    TooDeep {
        /// The limit.
        limit: usize,
    },
}

/// Room taken for elements before they arrive; an announced number alone costs no more.
const ELEMENTS_RESERVED_MAX: usize = 64;

/// Turns bytes into [`Value`]s and keeps the progress inside a partial reply, nested values
/// included, so that no byte is read twice.
///
/// # Invariants
/// * Between calls, `at` counts from the first byte of the reply in progress.
/// * Every aggregate on the stack still lacks at least one element.
#[derive(Debug, Default)]
pub struct ReplyParser {
    limits: ReplyLimits,
    /// First byte not understood yet.
    at: usize,
    /// Bytes of the line at `at` that are known not to hold its CR.
    scanned: usize,
    /// Type and length of the string whose bytes begin at `at`.
    blob: Option<(u8, usize)>,
    /// Aggregates that lack elements, the outermost first.
    open: Vec<Aggregate>,
}

/// An array, map or the like that is being filled.
#[derive(Debug)]
struct Aggregate {
    kind: u8,
    /// Values still to come. Pairs count twice; an attribute's value counts too.
    remaining: usize,
    values: Vec<Value>,
}

/// One step of the parser.
enum Step {
    /// A value is complete.
    Value(Value),
    /// The head of an aggregate or a string was read; go on behind it.
    Head,
    /// More bytes are needed.
    Incomplete,
}

impl ReplyParser {
    /// A parser with the default limits, at the start of a reply.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A parser with other limits.
    #[must_use]
    pub fn with_limits(limits: ReplyLimits) -> Self {
        ReplyParser {
            limits,
            ..Self::default()
        }
    }

    /// Parses the reply that starts at `buf[0]`: its value and its length in bytes, or `None`
    /// when it goes on behind the end of `buf`. Then the caller passes the same bytes again
    /// with more behind them.
    ///
    /// # Errors
    /// [`ReplyError`] when the bytes are no reply or pass a limit. The parser has forgotten the
    /// reply then.
    pub fn parse(&mut self, buf: &[u8]) -> Result<Option<(Value, usize)>, ReplyError> {
        let result = self.advance(buf);
        if !matches!(result, Ok(None)) {
            *self = ReplyParser::with_limits(self.limits);
        }
        result
    }

    fn advance(&mut self, buf: &[u8]) -> Result<Option<(Value, usize)>, ReplyError> {
        loop {
            let step = match self.blob {
                Some((kind, len)) => self.take_blob(buf, kind, len)?,
                None => self.take_line(buf)?,
            };
            match step {
                Step::Head => {}
                Step::Incomplete => return Ok(None),
                Step::Value(value) => {
                    if let Some(value) = self.close(value) {
                        return Ok(Some((value, self.at)));
                    }
                }
            }
        }
    }

    /// Puts a complete value where it belongs; the whole reply if nothing is open any more.
    fn close(&mut self, mut value: Value) -> Option<Value> {
        while let Some(parent) = self.open.last_mut() {
            parent.values.push(value);
            parent.remaining -= 1;
            if parent.remaining > 0 {
                return None;
            }
            let aggregate = self.open.pop()?;
            value = aggregate.into_value();
        }
        Some(value)
    }

    /// Reads the line at `at`: a whole value, or the head of one.
    fn take_line(&mut self, buf: &[u8]) -> Result<Step, ReplyError> {
        let rest = buf.get(self.at..).unwrap_or_default();
        let Some(&kind) = rest.first() else {
            return Ok(Step::Incomplete);
        };
        if !b"+-:$*%~>|,#(!=_".contains(&kind) {
            return Err(match kind {
                b';' | b'.' => ReplyError::Streamed { kind },
                _ => ReplyError::UnknownType { kind },
            });
        }
        let limit = self.limits.max_len;
        let searchable = &rest[..rest.len().min(limit.saturating_add(2))];
        let fresh = searchable.get(self.scanned..).unwrap_or_default();
        let Some(found) = memchr::memchr(b'\r', fresh) else {
            self.scanned = searchable.len();
            // The type byte and `limit` bytes of text are there, but no CR.
            return match searchable.len() > limit.saturating_add(1) {
                true => Err(ReplyError::TooLong { limit }),
                false => Ok(Step::Incomplete),
            };
        };
        self.scanned += found;
        let end = self.scanned;
        match rest.get(end + 1) {
            None => return Ok(Step::Incomplete),
            Some(b'\n') => {}
            Some(_) => return Err(ReplyError::MissingCrlf { kind }),
        }
        let text = &rest[1..end];
        self.at += end + 2;
        self.scanned = 0;
        match kind {
            b'$' | b'!' | b'=' => self.blob_head(kind, text),
            b'*' | b'%' | b'~' | b'>' | b'|' => self.aggregate_head(kind, text),
            _ => scalar(kind, text).map(Step::Value),
        }
    }

    fn blob_head(&mut self, kind: u8, text: &[u8]) -> Result<Step, ReplyError> {
        if kind == b'$' && text == b"-1" {
            return Ok(Step::Value(Value::NullBulk));
        }
        let limit = self.limits.max_len;
        match length(kind, text)? {
            len if len > limit => Err(ReplyError::TooLong { limit }),
            len => {
                self.blob = Some((kind, len));
                Ok(Step::Head)
            }
        }
    }

    fn aggregate_head(&mut self, kind: u8, text: &[u8]) -> Result<Step, ReplyError> {
        if kind == b'*' && text == b"-1" {
            return Ok(Step::Value(Value::NullArray));
        }
        let len = length(kind, text)?;
        let limit = self.limits.max_elements;
        if len > limit {
            return Err(ReplyError::TooManyElements { limit });
        }
        let remaining = match kind {
            b'%' => len.checked_mul(2),
            b'|' => len.checked_mul(2).and_then(|values| values.checked_add(1)),
            _ => Some(len),
        };
        let aggregate = Aggregate {
            kind,
            remaining: remaining.ok_or(ReplyError::TooManyElements { limit })?,
            values: Vec::new(),
        };
        // An empty aggregate opens nothing, but it does stand one level deeper.
        let limit = self.limits.max_depth;
        if self.open.len() >= limit {
            return Err(ReplyError::TooDeep { limit });
        }
        if aggregate.remaining == 0 {
            return Ok(Step::Value(aggregate.into_value()));
        }
        self.open.push(Aggregate {
            values: Vec::with_capacity(aggregate.remaining.min(ELEMENTS_RESERVED_MAX)),
            ..aggregate
        });
        Ok(Step::Head)
    }

    /// Reads the bytes of a string and the CRLF behind them.
    fn take_blob(&mut self, buf: &[u8], kind: u8, len: usize) -> Result<Step, ReplyError> {
        let rest = buf.get(self.at..).unwrap_or_default();
        let Some((bytes, end)) = rest.split_at_checked(len) else {
            return Ok(Step::Incomplete);
        };
        match end {
            [b'\r', b'\n', ..] => {}
            [] | [b'\r'] => return Ok(Step::Incomplete),
            _ => return Err(ReplyError::MissingCrlf { kind }),
        }
        self.blob = None;
        self.at += len + 2;
        let value = match (kind, bytes) {
            (b'!', text) => Value::BulkError(text.to_vec()),
            (b'=', &[a, b, c, b':', ref text @ ..]) => Value::Verbatim {
                format: [a, b, c],
                text: text.to_vec(),
            },
            (b'=', _) => return Err(ReplyError::InvalidValue { kind }),
            (_, bytes) => Value::Bulk(bytes.to_vec()),
        };
        Ok(Step::Value(value))
    }
}

impl Aggregate {
    /// The value, once every element is there.
    fn into_value(mut self) -> Value {
        match self.kind {
            b'%' => Value::Map(pairs(self.values)),
            b'~' => Value::Set(self.values),
            b'>' => Value::Push(self.values),
            b'|' => match self.values.pop() {
                Some(value) => Value::Attribute {
                    attributes: pairs(self.values),
                    value: Box::new(value),
                },
                None => Value::Null,
            },
            _ => Value::Array(self.values),
        }
    }
}

fn pairs(values: Vec<Value>) -> Vec<(Value, Value)> {
    let mut pairs = Vec::with_capacity(values.len() / 2);
    let mut values = values.into_iter();
    while let (Some(key), Some(value)) = (values.next(), values.next()) {
        pairs.push((key, value));
    }
    pairs
}

/// The value of a type that is one line.
fn scalar(kind: u8, text: &[u8]) -> Result<Value, ReplyError> {
    let value = match kind {
        b'+' => Some(Value::Simple(text.to_vec())),
        b'-' => Some(Value::Error(text.to_vec())),
        b':' => match text {
            [b'+', digits @ ..] if !digits.starts_with(b"-") => parse_integer(digits),
            digits => parse_integer(digits),
        }
        .map(Value::Integer),
        b',' => parse_double(text).map(Value::Double),
        b'#' => match text {
            b"t" => Some(Value::Boolean(true)),
            b"f" => Some(Value::Boolean(false)),
            _ => None,
        },
        b'(' if is_big_number(text) => Some(Value::BigNumber(text.to_vec())),
        b'_' if text.is_empty() => Some(Value::Null),
        _ => None,
    };
    value.ok_or(ReplyError::InvalidValue { kind })
}

/// A double in the forms of RESP3, which are fewer than Rust reads.
fn parse_double(text: &[u8]) -> Option<f64> {
    match text {
        b"inf" | b"+inf" => Some(f64::INFINITY),
        b"-inf" => Some(f64::NEG_INFINITY),
        b"nan" | b"-nan" => Some(f64::NAN),
        _ => {
            let plain = |b: &u8| b.is_ascii_digit() || b"+-.eE".contains(b);
            let text = std::str::from_utf8(text).ok()?;
            text.bytes().all(|b| plain(&b)).then(|| text.parse().ok())?
        }
    }
}

fn length(kind: u8, text: &[u8]) -> Result<usize, ReplyError> {
    if text == b"?" {
        return Err(ReplyError::Streamed { kind });
    }
    parse_integer(text)
        .and_then(|len| usize::try_from(len).ok())
        .ok_or(ReplyError::InvalidLength { kind })
}

#[cfg(test)]
mod tests;
