//! One reply as an owned tree, for those who read replies: tools, tests, replicas.

use bytes::BufMut;

use crate::encode;

/// A reply of RESP2 or RESP3. Every variant stands for one form on the wire, so that
/// [`Value::write`] gives back exactly the bytes it was parsed from (numbers in the form that this
/// server writes).
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `+`: a status such as `OK`.
    Simple(Vec<u8>),
    /// `-`: an error with its code.
    Error(Vec<u8>),
    /// `:`.
    Integer(i64),
    /// `$`: a binary-safe string.
    Bulk(Vec<u8>),
    /// `$-1`: no value in RESP2.
    NullBulk,
    /// `*-1`: no array in RESP2.
    NullArray,
    /// `_`: nothing in RESP3.
    Null,
    /// `*`.
    Array(Vec<Value>),
    /// `%`: keys and values in the order sent.
    Map(Vec<(Value, Value)>),
    /// `~`: members in the order sent.
    Set(Vec<Value>),
    /// `>`: sent unasked, such as a message of a channel. Never the reply to a request.
    Push(Vec<Value>),
    /// `,`.
    Double(f64),
    /// `#`.
    Boolean(bool),
    /// `(`: the decimal digits with an optional sign.
    BigNumber(Vec<u8>),
    /// `!`: a binary-safe error.
    BulkError(Vec<u8>),
    /// `=`: a text with its format.
    Verbatim {
        /// Three letters such as `txt` or `mkd`.
        format: [u8; 3],
        /// The text itself.
        text: Vec<u8>,
    },
    /// `|`: something said about a value, and that value.
    Attribute {
        /// Keys and values in the order sent.
        attributes: Vec<(Value, Value)>,
        /// The value they belong to.
        value: Box<Value>,
    },
}

impl Value {
    /// A bulk string.
    #[must_use]
    pub fn bulk(bytes: impl AsRef<[u8]>) -> Value {
        Value::Bulk(bytes.as_ref().to_vec())
    }

    /// Whether this is one of the three ways to say nothing.
    #[must_use]
    pub fn is_null(&self) -> bool {
        matches!(self, Value::NullBulk | Value::NullArray | Value::Null)
    }

    /// Whether this is an error, in either form.
    #[must_use]
    pub fn is_error(&self) -> bool {
        matches!(self, Value::Error(_) | Value::BulkError(_))
    }

    /// The value without what is said about it.
    #[must_use]
    pub fn without_attributes(self) -> Value {
        match self {
            Value::Attribute { value, .. } => value.without_attributes(),
            other => other,
        }
    }

    /// The bytes of a string, an error, a big number or a text.
    #[must_use]
    pub fn as_bytes(&self) -> Option<&[u8]> {
        match self {
            Value::Simple(bytes)
            | Value::Error(bytes)
            | Value::Bulk(bytes)
            | Value::BigNumber(bytes)
            | Value::BulkError(bytes)
            | Value::Verbatim { text: bytes, .. } => Some(bytes),
            Value::Attribute { value, .. } => value.as_bytes(),
            _ => None,
        }
    }

    /// The integer, if this is one.
    #[must_use]
    pub fn as_integer(&self) -> Option<i64> {
        match self {
            Value::Integer(value) => Some(*value),
            Value::Attribute { value, .. } => value.as_integer(),
            _ => None,
        }
    }

    /// The elements of an array, a set or a push.
    #[must_use]
    pub fn as_slice(&self) -> Option<&[Value]> {
        match self {
            Value::Array(values) | Value::Set(values) | Value::Push(values) => Some(values),
            Value::Attribute { value, .. } => value.as_slice(),
            _ => None,
        }
    }

    /// Appends the form on the wire. A CR or LF inside a [`Value::Simple`] or [`Value::Error`]
    /// is written as a space, because both are one line.
    pub fn write<B: BufMut>(&self, out: &mut B) {
        match self {
            Value::Simple(text) => encode::line(out, b'+', &one_line(text)),
            Value::Error(text) => encode::line(out, b'-', &one_line(text)),
            Value::Integer(value) => encode::integer(out, b':', *value),
            Value::Bulk(bytes) => encode::blob(out, b'$', bytes),
            Value::NullBulk => out.put_slice(b"$-1\r\n"),
            Value::NullArray => out.put_slice(b"*-1\r\n"),
            Value::Null => out.put_slice(b"_\r\n"),
            Value::Array(values) => write_all(out, b'*', values),
            Value::Map(pairs) => write_pairs(out, b'%', pairs),
            Value::Set(values) => write_all(out, b'~', values),
            Value::Push(values) => write_all(out, b'>', values),
            Value::Double(value) => {
                encode::line(out, b',', crate::format_double(*value).as_bytes());
            }
            Value::Boolean(value) => out.put_slice(if *value { b"#t\r\n" } else { b"#f\r\n" }),
            Value::BigNumber(digits) => encode::line(out, b'(', digits),
            Value::BulkError(text) => encode::blob(out, b'!', text),
            Value::Verbatim { format, text } => {
                encode::header(out, b'=', text.len() + 4);
                out.put_slice(format);
                out.put_u8(b':');
                out.put_slice(text);
                out.put_slice(b"\r\n");
            }
            Value::Attribute { attributes, value } => {
                write_pairs(out, b'|', attributes);
                value.write(out);
            }
        }
    }
}

fn write_all<B: BufMut>(out: &mut B, kind: u8, values: &[Value]) {
    encode::header(out, kind, values.len());
    for value in values {
        value.write(out);
    }
}

fn write_pairs<B: BufMut>(out: &mut B, kind: u8, pairs: &[(Value, Value)]) {
    encode::header(out, kind, pairs.len());
    for (key, value) in pairs {
        key.write(out);
        value.write(out);
    }
}

fn one_line(text: &[u8]) -> std::borrow::Cow<'_, [u8]> {
    if memchr::memchr2(b'\r', b'\n', text).is_none() {
        return text.into();
    }
    let mut text = text.to_vec();
    for byte in &mut text {
        if matches!(byte, b'\r' | b'\n') {
            *byte = b' ';
        }
    }
    text.into()
}

/// Whether `text` is an optional sign and at least one digit.
pub(crate) fn is_big_number(text: &[u8]) -> bool {
    let digits = match text {
        [b'-' | b'+', digits @ ..] => digits,
        digits => digits,
    };
    !digits.is_empty() && digits.iter().all(u8::is_ascii_digit)
}
