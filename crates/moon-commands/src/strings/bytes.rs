//! Parts of strings: APPEND, STRLEN, GETRANGE, SETRANGE.

use super::check_string;
use crate::context::{CommandResult, Cx, Origin};
use crate::error::CommandError;
use crate::notify::Class;
use crate::parse;
use moon_resp::Args;

use moon_store::{IntText, Key, STRING_LEN_MAX, Value};
use std::ops::Range;

pub(super) fn append(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let (key, tail) = (Key::new(args.at(1)), args.at(2));
    let len_max = string_len_max(cx);
    let len = match cx.write(key) {
        None => {
            cx.store(key, Value::string(tail), None);
            tail.len()
        }
        Some((value, _)) => {
            let len = value.str_len().ok_or(CommandError::WrongType)? + tail.len();
            check_len(len, len_max)?;
            if tail.is_empty() {
                cx.notify(Class::STRING, "append", key);
                cx.reply.count(len);
                return Ok(());
            }
            value.append(tail);
            len
        }
    };
    cx.changed_as_sent(&[key], args);
    cx.notify(Class::STRING, "append", key);
    cx.reply.count(len);
    Ok(())
}

pub(super) fn strlen(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let len = match cx.read(Key::new(args.at(1))) {
        None => 0,
        Some(value) => value.str_len().ok_or(CommandError::WrongType)?,
    };
    cx.reply.count(len);
    Ok(())
}

pub(super) fn setrange(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let (key, bytes) = (Key::new(args.at(1)), args.at(3));
    let offset = usize::try_from(parse::integer(args.at(2))?)
        .map_err(|_| CommandError::Text("ERR offset is out of range"))?;
    let len_max = string_len_max(cx);
    let end = offset.saturating_add(bytes.len());
    let len = match cx.write(key) {
        None if bytes.is_empty() => {
            cx.reply.count(0);
            return Ok(());
        }
        None => {
            check_len(end, len_max)?;
            let mut value = Value::string_raw(b"");
            value.set_range(offset, bytes);
            cx.store(key, value, None);
            end
        }
        Some((value, _)) => {
            let len = value.str_len().ok_or(CommandError::WrongType)?;
            if bytes.is_empty() {
                cx.reply.count(len);
                return Ok(());
            }
            check_len(end, len_max)?;
            value.set_range(offset, bytes);
            len.max(end)
        }
    };
    cx.changed_as_sent(&[key], args);
    cx.notify(Class::STRING, "setrange", key);
    cx.reply.count(len);
    Ok(())
}

/// GETRANGE and SUBSTR.
pub(super) fn getrange(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let start = parse::integer(args.at(2))?;
    let end = parse::integer(args.at(3))?;
    let (found, reply) = cx.read_with_reply(Key::new(args.at(1)));
    let Some((value, _)) = found else {
        reply.bulk(b"");
        return Ok(());
    };
    check_string(value)?;
    let mut text = IntText::new();
    let bytes = value.as_bytes(&mut text).unwrap_or_default();
    reply.bulk(&bytes[part(start, end, bytes.len())]);
    Ok(())
}

/// The part of a string of `len` bytes from `start` to `end`, both inclusive, negative ones
/// counted from the end. An end before the first byte means the first byte, as in Redis.
fn part(start: i64, end: i64, len: usize) -> Range<usize> {
    if len == 0 || (start < 0 && end < 0 && start > end) {
        return 0..0;
    }
    let count = i64::try_from(len).unwrap_or(i64::MAX);
    let absolute = |index: i64| {
        let index = if index < 0 {
            index.saturating_add(count)
        } else {
            index
        };
        usize::try_from(index).unwrap_or(0)
    };
    let (start, end) = (absolute(start), absolute(end).min(len - 1));
    if start > end { 0..0 } else { start..end + 1 }
}

/// The longest string a command may make. The log was written under the rules of its time, so
/// replay knows only the bound of the store.
fn string_len_max(cx: &Cx<'_>) -> usize {
    match cx.origin {
        Origin::Client => cx.limits.max_bulk_len.min(STRING_LEN_MAX),
        Origin::Replay => STRING_LEN_MAX,
    }
}

fn check_len(len: usize, len_max: usize) -> CommandResult {
    if len > len_max {
        return Err(CommandError::Text(
            "ERR string exceeds maximum allowed size (proto-max-bulk-len)",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::part;

    #[test]
    fn parts_are_those_of_redis() {
        for ((start, end, len), expected) in [
            ((0, -1, 5), 0..5),
            ((1, 2, 5), 1..3),
            ((-3, -2, 5), 2..4),
            ((-100, 100, 5), 0..5),
            ((0, -100, 5), 0..1),
            ((-1, -5, 5), 0..0),
            ((3, 1, 5), 0..0),
            ((5, 9, 5), 0..0),
            ((0, 0, 0), 0..0),
            ((i64::MIN, i64::MAX, 5), 0..5),
        ] {
            assert_eq!(part(start, end, len), expected, "{start} {end} of {len}");
        }
    }
}
