//! Ids and ranges of ids out of arguments.

use crate::error::CommandError;
use moon_store::StreamId;

const INVALID: CommandError =
    CommandError::Text("ERR Invalid stream ID specified as stream command argument");

/// Longer texts are no ids.
const LEN_MAX: usize = 127;

/// An id for a new entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NewId {
    /// `*`: the present time.
    Now,
    /// `ms-*`: the next within this time.
    Within(u64),
    /// All of it is given.
    Given(StreamId),
}

/// An id; one without its second part has `seq` there. `-` and `+` are none.
pub(super) fn strict(arg: &[u8], seq: u64) -> Result<StreamId, CommandError> {
    match arg {
        b"-" | b"+" => Err(INVALID),
        _ => lenient(arg, seq),
    }
}

/// As [`strict`], with `-` for the smallest and `+` for the largest.
pub(super) fn lenient(arg: &[u8], seq: u64) -> Result<StreamId, CommandError> {
    match arg {
        b"-" => Ok(StreamId::MIN),
        b"+" => Ok(StreamId::MAX),
        _ => match split(arg)? {
            (ms, None) => Ok(StreamId::new(number(ms)?, seq)),
            (ms, Some(seq)) => Ok(StreamId::new(number(ms)?, number(seq)?)),
        },
    }
}

/// The id of an entry to add, `*` as a whole aside.
pub(super) fn new(arg: &[u8]) -> Result<NewId, CommandError> {
    match arg {
        b"-" | b"+" => Err(INVALID),
        _ => match split(arg)? {
            (ms, Some(b"*")) => Ok(NewId::Within(number(ms)?)),
            _ => lenient(arg, 0).map(NewId::Given),
        },
    }
}

/// Both ends included; empty where the start is above the end.
#[derive(Clone, Copy, Debug)]
pub(super) struct IdRange {
    pub(super) start: StreamId,
    pub(super) end: StreamId,
}

/// The start of a range: `(` in front excludes the id.
pub(super) fn range_start(arg: &[u8]) -> Result<StreamId, CommandError> {
    match arg {
        [b'(', id @ ..] if !id.is_empty() => strict(id, 0)?
            .next()
            .ok_or(CommandError::Text("ERR invalid start ID for the interval")),
        _ => lenient(arg, 0),
    }
}

/// The end of a range.
pub(super) fn range_end(arg: &[u8]) -> Result<StreamId, CommandError> {
    match arg {
        [b'(', id @ ..] if !id.is_empty() => strict(id, u64::MAX)?
            .previous()
            .ok_or(CommandError::Text("ERR invalid end ID for the interval")),
        _ => lenient(arg, u64::MAX),
    }
}

/// The parts before and behind the first `-`. A zero byte ends the text, as it does in Redis.
fn split(arg: &[u8]) -> Result<(&[u8], Option<&[u8]>), CommandError> {
    if arg.len() > LEN_MAX {
        return Err(INVALID);
    }
    let end = arg.iter().position(|b| *b == 0).unwrap_or(arg.len());
    let text = &arg[..end];
    Ok(match text.iter().position(|b| *b == b'-') {
        Some(dash) => (&text[..dash], Some(&text[dash + 1..])),
        None => (text, None),
    })
}

/// A number of 64 bits without a sign, as Redis reads it: what is no plain integer goes through
/// `strtoull`, which also takes leading spaces and zeros and a sign, and counts `-1` backwards.
fn number(text: &[u8]) -> Result<u64, CommandError> {
    if let Some(plain) = crate::parse::canonical_integer(text) {
        return u64::try_from(plain).map_err(|_| INVALID);
    }
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t'..=b'\r');
    let start = text.iter().position(|b| !blank(b)).unwrap_or(text.len());
    let (negative, digits) = match &text[start..] {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] | digits => (false, digits),
    };
    if digits.is_empty() {
        return Err(INVALID);
    }
    let mut value = 0u64;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return Err(INVALID);
        }
        value = value
            .checked_mul(10)
            .and_then(|value| value.checked_add(u64::from(digit - b'0')))
            .ok_or(INVALID)?;
    }
    Ok(if negative {
        value.wrapping_neg()
    } else {
        value
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_as_redis_reads_them() {
        let id = |ms, seq| Ok(StreamId::new(ms, seq));
        let cases: [(&str, Result<StreamId, CommandError>); 16] = [
            ("5-7", id(5, 7)),
            ("5", id(5, 9)),
            (
                "18446744073709551615-18446744073709551615",
                id(u64::MAX, u64::MAX),
            ),
            ("18446744073709551616-0", Err(INVALID)),
            ("007-01", id(7, 1)),
            ("+5- 6", id(5, 6)),
            ("5--1", Err(INVALID)),
            ("5--01", id(5, u64::MAX)),
            ("-5", Err(INVALID)),
            ("5-", Err(INVALID)),
            ("", Err(INVALID)),
            ("-", Err(INVALID)),
            ("+", Err(INVALID)),
            ("5-*", Err(INVALID)),
            ("a-1", Err(INVALID)),
            ("5\0x", id(5, 9)),
        ];
        for (text, expected) in cases {
            assert_eq!(strict(text.as_bytes(), 9), expected, "{text:?}");
        }
        assert_eq!(strict(&[b'1'; 200], 0), Err(INVALID));
        assert_eq!(lenient(b"-", 5), Ok(StreamId::MIN));
        assert_eq!(lenient(b"+", 5), Ok(StreamId::MAX));
        assert_eq!(new(b"5-*"), Ok(NewId::Within(5)));
        assert_eq!(new(b"5"), Ok(NewId::Given(StreamId::new(5, 0))));
    }

    #[test]
    fn ranges_exclude_what_stands_behind_a_parenthesis() {
        assert_eq!(range_start(b"(5"), Ok(StreamId::new(5, 1)));
        assert_eq!(range_end(b"(5"), Ok(StreamId::new(5, u64::MAX - 1)));
        assert_eq!(range_end(b"(5-0"), Ok(StreamId::new(4, u64::MAX)));
        for (start, end) in [("(-", "(+"), ("(", "("), ("((1", "((1")] {
            assert!(range_start(start.as_bytes()).is_err(), "{start}");
            assert!(range_end(end.as_bytes()).is_err(), "{end}");
        }
        assert!(range_start(b"(18446744073709551615-18446744073709551615").is_err());
        assert!(range_end(b"(0-0").is_err());
    }
}
