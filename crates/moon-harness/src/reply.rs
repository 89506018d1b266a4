//! A reply as a value, and the incremental parser that makes it.
//!
//! Deliberately small and independent of the server's own codec: a test that read replies with
//! the code that wrote them would agree with its mistakes.

use std::fmt;
use std::io::{Error, ErrorKind, Result};

/// Deepest nesting that is accepted.
const DEPTH_MAX: usize = 32;

/// One reply, RESP2 or RESP3.
#[derive(Clone, PartialEq)]
pub enum Reply {
    /// `+text`
    Simple(Vec<u8>),
    /// `-CODE text`
    Error(Vec<u8>),
    /// `:n`
    Int(i64),
    /// `$n bytes`; also verbatim strings, without their format.
    Bulk(Vec<u8>),
    /// `$-1`, `*-1` or `_`
    Null,
    /// `*n`
    Array(Vec<Reply>),
    /// `%n`
    Map(Vec<(Reply, Reply)>),
    /// `~n`
    Set(Vec<Reply>),
    /// `>n`
    Push(Vec<Reply>),
    /// `,text`
    Double(f64),
    /// `#t` or `#f`
    Bool(bool),
    /// `(digits`
    BigNumber(Vec<u8>),
}

impl Reply {
    /// `+OK`.
    #[must_use]
    pub fn ok() -> Reply {
        Reply::Simple(b"OK".to_vec())
    }

    /// A bulk string.
    #[must_use]
    pub fn bulk(bytes: impl AsRef<[u8]>) -> Reply {
        Reply::Bulk(bytes.as_ref().to_vec())
    }

    /// Whether this is `+OK`.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        *self == Reply::ok()
    }

    /// The text of an error reply, code included.
    #[must_use]
    pub fn error(&self) -> Option<String> {
        match self {
            Reply::Error(text) => Some(String::from_utf8_lossy(text).into_owned()),
            _ => None,
        }
    }

    /// The number of an integer reply.
    #[must_use]
    pub fn int(&self) -> Option<i64> {
        match self {
            Reply::Int(n) => Some(*n),
            _ => None,
        }
    }

    /// The bytes of a simple or bulk string.
    #[must_use]
    pub fn bytes(&self) -> Option<&[u8]> {
        match self {
            Reply::Simple(b) | Reply::Bulk(b) => Some(b),
            _ => None,
        }
    }

    /// The text of a simple or bulk string; invalid UTF-8 is replaced.
    #[must_use]
    pub fn text(&self) -> Option<String> {
        self.bytes()
            .map(|b| String::from_utf8_lossy(b).into_owned())
    }

    /// The elements of an array, set or push.
    #[must_use]
    pub fn items(&self) -> Option<&[Reply]> {
        match self {
            Reply::Array(items) | Reply::Set(items) | Reply::Push(items) => Some(items),
            _ => None,
        }
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reply::Simple(b) => write!(f, "+{}", b.escape_ascii()),
            Reply::Error(b) => write!(f, "-{}", b.escape_ascii()),
            Reply::Int(n) => write!(f, ":{n}"),
            Reply::Bulk(b) => write!(f, "\"{}\"", b.escape_ascii()),
            Reply::Null => write!(f, "nil"),
            Reply::Array(items) => f.debug_list().entries(items).finish(),
            Reply::Map(pairs) => f
                .debug_map()
                .entries(pairs.iter().map(|(k, v)| (k, v)))
                .finish(),
            Reply::Set(items) => f.debug_set().entries(items).finish(),
            Reply::Push(items) => write!(f, ">{items:?}"),
            Reply::Double(n) => write!(f, ",{n}"),
            Reply::Bool(b) => write!(f, "#{b}"),
            Reply::BigNumber(b) => write!(f, "({}", b.escape_ascii()),
        }
    }
}

/// Reads one reply from the beginning of `input`: the reply and the bytes it took, or `None` when
/// it is not complete yet.
///
/// # Errors
/// `InvalidData` when the bytes are not RESP.
pub fn parse_reply(input: &[u8]) -> Result<Option<(Reply, usize)>> {
    let mut parser = Parser { input, at: 0 };
    let reply = parser.reply(0)?;
    Ok(reply.map(|reply| (reply, parser.at)))
}

struct Parser<'a> {
    input: &'a [u8],
    at: usize,
}

impl Parser<'_> {
    fn line(&mut self) -> Option<&[u8]> {
        let rest = &self.input[self.at..];
        let end = rest.windows(2).position(|w| w == b"\r\n")?;
        self.at += end + 2;
        Some(&rest[..end])
    }

    fn reply(&mut self, depth: usize) -> Result<Option<Reply>> {
        if depth > DEPTH_MAX {
            return Err(bad("nested too deeply", &[]));
        }
        let Some(line) = self.line() else {
            return Ok(None);
        };
        let Some((&kind, rest)) = line.split_first() else {
            return Err(bad("an empty line where a reply begins", line));
        };
        let rest = rest.to_vec();
        Ok(Some(match kind {
            b'+' => Reply::Simple(rest),
            b'-' => Reply::Error(rest),
            b':' => Reply::Int(number(&rest)?),
            b',' => Reply::Double(double(&rest)?),
            b'#' => Reply::Bool(rest == b"t"),
            b'(' => Reply::BigNumber(rest),
            b'_' => Reply::Null,
            b'$' | b'=' | b'!' => return self.blob(kind, number(&rest)?),
            b'*' | b'~' | b'>' => {
                let len = number(&rest)?;
                if len < 0 {
                    return Ok(Some(Reply::Null));
                }
                let Some(items) = self.replies(len, depth)? else {
                    return Ok(None);
                };
                match kind {
                    b'*' => Reply::Array(items),
                    b'~' => Reply::Set(items),
                    _ => Reply::Push(items),
                }
            }
            b'%' => {
                let Some(items) = self.replies(number(&rest)?.saturating_mul(2), depth)? else {
                    return Ok(None);
                };
                let mut items = items.into_iter();
                let mut pairs = Vec::new();
                while let (Some(key), Some(value)) = (items.next(), items.next()) {
                    pairs.push((key, value));
                }
                Reply::Map(pairs)
            }
            _ => return Err(bad("an unknown reply type", &rest)),
        }))
    }

    fn replies(&mut self, len: i64, depth: usize) -> Result<Option<Vec<Reply>>> {
        let mut items = Vec::new();
        for _ in 0..len.max(0) {
            let Some(item) = self.reply(depth + 1)? else {
                return Ok(None);
            };
            items.push(item);
        }
        Ok(Some(items))
    }

    fn blob(&mut self, kind: u8, len: i64) -> Result<Option<Reply>> {
        let Ok(len) = usize::try_from(len) else {
            return Ok(Some(Reply::Null));
        };
        let Some(body) = self.input[self.at..].get(..len.saturating_add(2)) else {
            return Ok(None);
        };
        if &body[len..] != b"\r\n" {
            return Err(bad("a bulk string without its end", &body[len..]));
        }
        self.at += len + 2;
        let body = body[..len].to_vec();
        Ok(Some(match kind {
            b'!' => Reply::Error(body),
            b'=' => Reply::Bulk(body.get(4..).unwrap_or_default().to_vec()),
            _ => Reply::Bulk(body),
        }))
    }
}

fn number(text: &[u8]) -> Result<i64> {
    std::str::from_utf8(text)
        .ok()
        .and_then(|t| t.parse().ok())
        .ok_or_else(|| bad("not a number", text))
}

fn double(text: &[u8]) -> Result<f64> {
    std::str::from_utf8(text)
        .ok()
        .and_then(|t| t.parse().ok())
        .ok_or_else(|| bad("not a double", text))
}

fn bad(what: &str, bytes: &[u8]) -> Error {
    Error::new(
        ErrorKind::InvalidData,
        format!("not RESP: {what}: \"{}\"", bytes.escape_ascii()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_is_parsed_only_when_it_is_whole() {
        let input = b"*4\r\n:1\r\n$3\r\na\r\n\r\n$-1\r\n%1\r\n+k\r\n#t\r\n";
        for end in 0..input.len() {
            assert_eq!(parse_reply(&input[..end]).unwrap(), None, "{end} bytes");
        }
        let (reply, used) = parse_reply(input).unwrap().unwrap();
        assert_eq!(used, input.len());
        assert_eq!(
            reply,
            Reply::Array(vec![
                Reply::Int(1),
                Reply::bulk("a\r\n"),
                Reply::Null,
                Reply::Map(vec![(Reply::Simple(b"k".to_vec()), Reply::Bool(true))]),
            ])
        );
    }

    #[test]
    fn bytes_that_are_not_resp_are_an_error() {
        for input in [&b"hello\r\n"[..], b":x\r\n", b"$1\r\nabc", b"\r\n"] {
            assert!(parse_reply(input).is_err(), "{}", input.escape_ascii());
        }
    }
}
