//! Counters: INCR, DECR, INCRBY, DECRBY and INCRBYFLOAT.

use super::check_string;
use crate::context::{CommandResult, Cx};
use crate::error::CommandError;
use crate::long_double::LongDouble;
use crate::notify::Class;
use crate::parse;
use moon_resp::Args;
use moon_store::{Change, IntText, Key, Value};

pub(super) fn incr(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    add(cx, args, 1)
}

pub(super) fn decr(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    add(cx, args, -1)
}

pub(super) fn incrby(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    add(cx, args, parse::integer(args.at(2))?)
}

pub(super) fn decrby(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let by = parse::integer(args.at(2))?;
    let by = by
        .checked_neg()
        .ok_or(CommandError::Text("ERR decrement would overflow"))?;
    add(cx, args, by)
}

/// What a value and `by` come to.
fn added(value: &Value, by: i64) -> Result<i64, CommandError> {
    const OVERFLOW: CommandError = CommandError::Text("ERR increment or decrement would overflow");
    check_string(value)?;
    let current = value.as_int().ok_or(CommandError::NotAnInteger)?;
    current.checked_add(by).ok_or(OVERFLOW)
}

fn add(cx: &mut Cx<'_>, args: Args<'_>, by: i64) -> CommandResult {
    let key = Key::new(args.at(1));
    let sum = cx.update(key, |found, _| match found {
        None => (Change::Store(Value::from_int(by), None), Ok(by)),
        Some(value) => {
            let sum = added(value, by);
            if let Ok(sum) = sum {
                *value = Value::from_int(sum);
            }
            (Change::Keep, sum)
        }
    })?;
    cx.changed_as_sent(&[key], args);
    cx.notify(Class::STRING, "incrby", key);
    cx.reply.integer(sum);
    Ok(())
}

/// The effect is a SET of the sum, so that it is the same on every machine.
pub(super) fn incrbyfloat(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let key = Key::new(args.at(1));
    let deadline = cx.live(cx.db, key);
    let mut text = IntText::new();
    let current: &[u8] = match cx.peek(cx.db, key) {
        Some(value) if deadline.is_some() => {
            value.as_bytes(&mut text).ok_or(CommandError::WrongType)?
        }
        _ => b"0",
    };
    let current = LongDouble::parse(current).ok_or(CommandError::NotAFloat)?;
    let by = LongDouble::parse(args.at(2)).ok_or(CommandError::NotAFloat)?;
    let sum = current
        .checked_add(by)
        .ok_or(CommandError::Text(
            "ERR increment would produce NaN or Infinity",
        ))?
        .to_text();
    let deadline = deadline.flatten();
    cx.store(key, Value::string(&sum), deadline);
    if deadline.is_some() {
        cx.changed(&[key], &[b"SET", key.bytes, &sum, b"KEEPTTL"]);
    } else {
        cx.changed(&[key], &[b"SET", key.bytes, &sum]);
    }
    cx.notify(Class::STRING, "incrbyfloat", key);
    cx.reply.bulk(&sum);
    Ok(())
}
