//! Deadlines of keys: EXPIRE and its kin set them, TTL and its kin show them, PERSIST clears them.
//!
//! The effect of every variant is `PEXPIREAT key milliseconds`, or DEL when the time has passed.

use crate::context::{CommandResult, Cx};
use crate::error::CommandError;
use crate::notify::Class;
use crate::parse::{self, Basis, Unit};
use moon_core::UnixMs;
use moon_resp::Args;
use moon_store::{Deadline, Key};

pub(super) fn expire(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    set_deadline(cx, args, Unit::Seconds, Basis::Now, "expire")
}

pub(super) fn pexpire(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    set_deadline(cx, args, Unit::Milliseconds, Basis::Now, "pexpire")
}

pub(super) fn expireat(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    set_deadline(cx, args, Unit::Seconds, Basis::Epoch, "expireat")
}

pub(super) fn pexpireat(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    set_deadline(cx, args, Unit::Milliseconds, Basis::Epoch, "pexpireat")
}

/// When EXPIRE sets; all that are given must hold.
#[derive(Default)]
struct Conditions {
    nx: bool,
    xx: bool,
    gt: bool,
    lt: bool,
}

impl Conditions {
    fn parse(args: Args<'_>) -> Result<Conditions, CommandError> {
        let mut conditions = Conditions::default();
        let mut at = 3;
        while let Some(option) = parse::next_option(args, &mut at) {
            if parse::is(option, "nx") {
                conditions.nx = true;
            } else if parse::is(option, "xx") {
                conditions.xx = true;
            } else if parse::is(option, "gt") {
                conditions.gt = true;
            } else if parse::is(option, "lt") {
                conditions.lt = true;
            } else {
                return Err(parse::detailed(format!(
                    "ERR Unsupported option {}",
                    String::from_utf8_lossy(option)
                )));
            }
        }
        if conditions.nx && (conditions.xx || conditions.gt || conditions.lt) {
            return Err(CommandError::Text(
                "ERR NX and XX, GT or LT options at the same time are not compatible",
            ));
        }
        if conditions.gt && conditions.lt {
            return Err(CommandError::Text(
                "ERR GT and LT options at the same time are not compatible",
            ));
        }
        Ok(conditions)
    }

    /// Whether a key with deadline `old` gets `new`. No deadline counts as an infinite one.
    fn hold(&self, old: Deadline, new: UnixMs) -> bool {
        !(self.nx && old.is_some()
            || self.xx && old.is_none()
            || self.gt && old.is_none_or(|old| new <= old)
            || self.lt && old.is_some_and(|old| new >= old))
    }
}

fn set_deadline(
    cx: &mut Cx<'_>,
    args: Args<'_>,
    unit: Unit,
    basis: Basis,
    command: &str,
) -> CommandResult {
    let conditions = Conditions::parse(args)?;
    let at = parse::expire_time(args.at(2), unit, basis, cx.now, command)?;
    let key = Key::new(args.at(1));
    let Some(old) = cx.live(cx.db, key) else {
        cx.reply.flag(false);
        return Ok(());
    };
    let set = conditions.hold(old, at);
    if set {
        cx.expire_at(key, at);
    }
    cx.reply.flag(set);
    Ok(())
}

pub(super) fn ttl(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let now = cx.now;
    show(cx, args, |at| rounded_seconds(remaining_ms(at, now)))
}

pub(super) fn pttl(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let now = cx.now;
    show(cx, args, |at| remaining_ms(at, now))
}

pub(super) fn expiretime(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    show(cx, args, |at| rounded_seconds(at.0))
}

pub(super) fn pexpiretime(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    show(cx, args, |at| at.0)
}

fn remaining_ms(at: UnixMs, now: UnixMs) -> i64 {
    at.0.saturating_sub(now.0)
}

fn rounded_seconds(time_ms: i64) -> i64 {
    time_ms.saturating_add(500) / 1000
}

/// Answers with what `of` makes of the deadline, -1 without one, -2 without a key.
fn show(cx: &mut Cx<'_>, args: Args<'_>, of: impl Fn(UnixMs) -> i64) -> CommandResult {
    let answer = match cx.inspect(Key::new(args.at(1))) {
        None => -2,
        Some((_, None)) => -1,
        Some((_, Some(at))) => of(at),
    };
    cx.reply.integer(answer);
    Ok(())
}

pub(super) fn persist(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let key = Key::new(args.at(1));
    let had_deadline = cx.live(cx.db, key).flatten().is_some();
    if had_deadline {
        cx.set_deadline(key, None);
        cx.changed(&[key], &[b"PERSIST", key.bytes]);
        cx.notify(Class::GENERIC, "persist", key);
    }
    cx.reply.flag(had_deadline);
    Ok(())
}
