//! What is sent: requests, and the steps they are sent in.

use crate::property::Property;
use std::fmt;

/// The connection of a server that a request is sent on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Connection {
    /// Where nearly everything happens.
    Main,
    /// A second client, which changes keys that the first one watches.
    Other,
    /// One that waits or listens.
    Third,
    /// Another one that waits or listens.
    Fourth,
}

impl Connection {
    /// All of them.
    pub const ALL: [Connection; 4] = [
        Connection::Main,
        Connection::Other,
        Connection::Third,
        Connection::Fourth,
    ];

    /// As templates and reports call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Connection::Main => "main",
            Connection::Other => "other",
            Connection::Third => "third",
            Connection::Fourth => "fourth",
        }
    }

    /// The connection that templates call `name`.
    #[must_use]
    pub fn named(name: &str) -> Option<Connection> {
        Connection::ALL.into_iter().find(|c| c.name() == name)
    }
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
    /// `policy`: as `Transplant`, with FUNCTION DUMP and FUNCTION RESTORE.
    Functions,
    /// It may wait for what others do; its reply is read when it comes.
    Wait,
    /// Sent by one who listens: its replies and what it is told are read as one stream.
    Hear,
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
    /// Where its reply lists the replies of other requests, those requests.
    pub inner: Vec<Request>,
}

impl Request {
    /// A request as it is, on the main connection.
    #[must_use]
    pub fn plain(args: Vec<Vec<u8>>) -> Request {
        Request {
            args,
            connection: Connection::Main,
            kind: Kind::Plain,
            inner: Vec::new(),
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
        match self.kind {
            Kind::Plain => {}
            Kind::Walk => write!(f, "walk ")?,
            Kind::Transplant => write!(f, "transplant ")?,
            Kind::Functions => write!(f, "functions ")?,
            Kind::Wait => write!(f, "wait ")?,
            Kind::Hear => write!(f, "hear ")?,
        }
        if self.connection != Connection::Main {
            write!(f, "{} ", self.connection.name())?;
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

impl Step {
    /// Whether its requests have to be sent one after the other, because some of them wait or
    /// listen.
    #[must_use]
    pub fn is_conversation(&self) -> bool {
        let is_spoken = |request: &Request| matches!(request.kind, Kind::Wait | Kind::Hear);
        self.requests.iter().any(is_spoken)
    }
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
