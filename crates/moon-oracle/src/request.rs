//! What is sent: requests, and the steps they are sent in.

use crate::property::Property;
use std::fmt;

/// The connection of a server that a request is sent on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connection {
    /// Where nearly everything happens.
    Main,
    /// A second client, which changes keys that the first one watches.
    Other,
}

/// How a request is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// As it is; it can be pipelined.
    Plain,
    /// Again and again with the cursor of the reply before, until a walk ends. The reply stands
    /// for all elements together.
    Walk,
    /// `from to`: each server dumps `from`; the oracle restores what a tested server dumped and
    /// the tested ones what the oracle dumped. The rest of the words are options of RESTORE.
    Transplant,
}

/// One request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Its words, the name first.
    pub args: Vec<Vec<u8>>,
    /// Where it is sent.
    pub connection: Connection,
    /// How it is sent.
    pub kind: Kind,
}

impl Request {
    /// A request as it is, on the main connection.
    #[must_use]
    pub fn plain(args: Vec<Vec<u8>>) -> Request {
        Request {
            args,
            connection: Connection::Main,
            kind: Kind::Plain,
        }
    }

    /// The command's name in upper case.
    #[must_use]
    pub fn name(&self) -> Vec<u8> {
        self.args
            .first()
            .map(|name| name.to_ascii_uppercase())
            .unwrap_or_default()
    }

    /// The word at `position` in upper case, empty if there is none.
    #[must_use]
    pub fn word(&self, position: usize) -> Vec<u8> {
        self.args
            .get(position)
            .map(|word| word.to_ascii_uppercase())
            .unwrap_or_default()
    }

    /// Whether one of the words behind the name is `word`, in any letter case.
    #[must_use]
    pub fn has(&self, word: &str) -> bool {
        self.args
            .iter()
            .skip(1)
            .any(|arg| arg.eq_ignore_ascii_case(word.as_bytes()))
    }
}

/// As `redis-cli` takes it.
impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.connection == Connection::Other {
            write!(f, "other ")?;
        }
        match self.kind {
            Kind::Plain => {}
            Kind::Walk => write!(f, "walk ")?,
            Kind::Transplant => write!(f, "transplant ")?,
        }
        for (position, arg) in self.args.iter().enumerate() {
            if position > 0 {
                write!(f, " ")?;
            }
            write_word(f, arg)?;
        }
        Ok(())
    }
}

fn write_word(f: &mut fmt::Formatter<'_>, word: &[u8]) -> fmt::Result {
    let is_plain = |b: &u8| b.is_ascii_graphic() && !b"\"'\\;".contains(b);
    if !word.is_empty() && word.iter().all(is_plain) {
        return write!(f, "{}", String::from_utf8_lossy(word));
    }
    write!(f, "\"")?;
    for &byte in word {
        match byte {
            b'"' | b'\\' => write!(f, "\\{}", char::from(byte))?,
            b' '..=b'~' => write!(f, "{}", char::from(byte))?,
            _ => write!(f, "\\x{byte:02x}")?,
        }
    }
    write!(f, "\"")
}

/// Requests that stay together when a sequence is made shorter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// In the order they are sent.
    pub requests: Vec<Request>,
    /// What is known of the replies where chance decides them.
    pub property: Option<Property>,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, request) in self.requests.iter().enumerate() {
            if position > 0 {
                write!(f, " ; ")?;
            }
            write!(f, "{request}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_prints_as_redis_cli_takes_it() {
        let args = [&b"SET"[..], b"a;b", b"", b"\"x\\ \x00\xff"];
        let request = Request::plain(args.map(<[u8]>::to_vec).to_vec());
        assert_eq!(request.to_string(), r#"SET "a;b" "" "\"x\\ \x00\xff""#);
    }
}
