//! A reply in the form that tests compare and print.
//!
//! [`moon_resp::Value`] keeps every detail of the wire; here, forms that mean the same to a client
//! are one, and the debug form is short enough to be written down as an expectation.

use moon_resp::Value;
use std::fmt;

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
    /// `$-1` or `_`
    Null,
    /// `*-1`
    NullArray,
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
            Reply::NullArray => write!(f, "nil array"),
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

impl From<Value> for Reply {
    fn from(value: Value) -> Reply {
        let all = |items: Vec<Value>| items.into_iter().map(Reply::from).collect();
        match value {
            Value::Simple(text) => Reply::Simple(text),
            Value::Error(text) | Value::BulkError(text) => Reply::Error(text),
            Value::Integer(n) => Reply::Int(n),
            Value::Bulk(bytes) => Reply::Bulk(bytes),
            Value::Verbatim { text, .. } => Reply::Bulk(text),
            Value::NullBulk | Value::Null => Reply::Null,
            Value::NullArray => Reply::NullArray,
            Value::Array(items) => Reply::Array(all(items)),
            Value::Set(items) => Reply::Set(all(items)),
            Value::Push(items) => Reply::Push(all(items)),
            Value::Map(pairs) => Reply::Map(
                pairs
                    .into_iter()
                    .map(|(key, value)| (key.into(), value.into()))
                    .collect(),
            ),
            Value::Double(n) => Reply::Double(n),
            Value::Boolean(b) => Reply::Bool(b),
            Value::BigNumber(digits) => Reply::BigNumber(digits),
            Value::Attribute { value, .. } => Reply::from(*value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use moon_resp::ReplyParser;

    fn parse(bytes: &[u8]) -> Reply {
        let (value, used) = ReplyParser::new().parse(bytes).unwrap().unwrap();
        assert_eq!(used, bytes.len());
        value.into()
    }

    #[test]
    fn a_reply_prints_as_scenarios_write_it() {
        for (bytes, text) in [
            (&b"+OK\r\n"[..], "+OK"),
            (b"-ERR no\r\n", "-ERR no"),
            (
                b"*3\r\n:1\r\n$3\r\na\r\n\r\n$-1\r\n",
                "[:1, \"a\\r\\n\", nil]",
            ),
            (b"*-1\r\n", "nil array"),
            (b"%1\r\n+k\r\n#t\r\n", "{+k: #true}"),
            (b"=5\r\ntxt:x\r\n", "\"x\""),
        ] {
            assert_eq!(format!("{:?}", parse(bytes)), text);
        }
    }
}
