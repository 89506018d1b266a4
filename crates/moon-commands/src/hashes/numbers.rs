//! Counters in fields: HINCRBY and HINCRBYFLOAT. A field keeps its deadline.

use super::access::{pack_limits, update};
use crate::context::{CommandResult, Cx};
use crate::error::CommandError;
use crate::long_double::LongDouble;
use crate::notify::Class;
use crate::parse::{canonical_integer, integer};
use moon_resp::Args;
use moon_store::Key;

pub(super) fn hincrby(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let (key, name) = (Key::new(args.at(1)), args.at(2));
    let by = integer(args.at(3))?;
    let limits = pack_limits(cx);
    let sum = update(cx, key, std::iter::once(name), |hash| {
        let old = match hash.get(name) {
            Some(value) => canonical_integer(value)
                .ok_or(CommandError::Text("ERR hash value is not an integer"))?,
            None => 0,
        };
        let sum = old.checked_add(by).ok_or(CommandError::Text(
            "ERR increment or decrement would overflow",
        ))?;
        let mut digits = itoa::Buffer::new();
        hash.set_keeping_deadline(name, digits.format(sum).as_bytes(), limits);
        Ok(sum)
    })?;
    cx.changed_as_sent(&[key], args);
    cx.notify(Class::HASH, "hincrby", key);
    cx.reply.integer(sum);
    Ok(())
}

/// The effect sets the sum, so that it is the same on every machine.
pub(super) fn hincrbyfloat(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let (key, name) = (Key::new(args.at(1)), args.at(2));
    let by = LongDouble::parse(args.at(3)).ok_or(CommandError::NotAFloat)?;
    if by.is_infinite() {
        return Err(CommandError::Text("ERR value is NaN or Infinity"));
    }
    let limits = pack_limits(cx);
    let (sum, has_deadline) = update(cx, key, std::iter::once(name), |hash| {
        let (old, has_deadline) = match hash.field(name) {
            Some(field) => {
                let old = LongDouble::parse(field.value)
                    .ok_or(CommandError::Text("ERR hash value is not a float"))?;
                (old, field.deadline.is_some())
            }
            None => (LongDouble::ZERO, false),
        };
        let sum = old
            .checked_add(by)
            .ok_or(CommandError::Text(
                "ERR increment would produce NaN or Infinity",
            ))?
            .to_text();
        hash.set_keeping_deadline(name, &sum, limits);
        Ok((sum, has_deadline))
    })?;
    if has_deadline {
        let effect = [
            b"HSETEX", key.bytes, b"KEEPTTL", b"FIELDS", b"1", name, &sum,
        ];
        cx.changed(&[key], &effect);
    } else {
        cx.changed(&[key], &[b"HSET", key.bytes, name, &sum]);
    }
    cx.notify(Class::HASH, "hincrbyfloat", key);
    cx.reply.bulk(&sum);
    Ok(())
}
