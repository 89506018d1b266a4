//! Deadlines of fields: HEXPIRE and its kin set them, HTTL and its kin show them, HPERSIST clears
//! them.
//!
//! The effects are `HPEXPIREAT key milliseconds FIELDS n field ...` with the fields whose deadline
//! was set, `HDEL key field ...` with those whose time has passed, `HPERSIST key FIELDS n field
//! ...` with those that had one.

use super::access::{read, remove_if_empty, write};
use crate::context::{CommandResult, Cx};
use crate::error::CommandError;
use crate::notify::Class;
use crate::parse::{self, Basis, Unit};
use moon_core::UnixMs;
use moon_resp::Args;
use moon_store::{Deadline, Key};

/// Answer for a field: there is none, or no key.
const NO_FIELD: i64 = -2;
/// Answer for a field: it has no deadline.
const NO_DEADLINE: i64 = -1;
/// Answer for a field: the condition does not hold, and nothing was done.
const NOT_MET: i64 = 0;
/// Answer for a field: done.
const DONE: i64 = 1;
/// Answer for a field: it was removed, because the time has passed.
const REMOVED: i64 = 2;

/// Latest deadline of a field: Redis keeps them in 48 bits.
const DEADLINE_MAX_MS: i64 = (1 << 48) - 2;
/// Latest number that a command takes, in milliseconds.
const TIME_MAX_MS: i64 = DEADLINE_MAX_MS >> 2;

/// The deadline that a command gives to fields.
///
/// # Errors
/// When it is no integer, negative, or too late to be kept, and for a time relative to now where
/// there is no now.
pub(super) fn field_deadline(
    arg: &[u8],
    unit: Unit,
    basis: Basis,
    now: UnixMs,
    command: &str,
) -> Result<UnixMs, CommandError> {
    let time = parse::integer(arg)?;
    if time < 0 {
        return Err(CommandError::Text("ERR invalid expire time, must be >= 0"));
    }
    let too_late = || parse::detailed(format!("ERR invalid expire time in '{command}' command"));
    let time_max = match unit {
        Unit::Seconds => TIME_MAX_MS / 1000,
        Unit::Milliseconds => TIME_MAX_MS,
    };
    if time > time_max {
        return Err(too_late());
    }
    let at = parse::expire_time(arg, unit, basis, now, command)?;
    match at.0 <= DEADLINE_MAX_MS {
        true => Ok(at),
        false => Err(too_late()),
    }
}

/// The fields behind `FIELDS` and their number, which stand at `at` and must be all that follows.
///
/// # Errors
/// When they do not; `bad_number` is the text for a number that is none or below 1.
pub(super) fn named_fields<'a>(
    args: Args<'a>,
    at: usize,
    bad_number: &'static str,
) -> Result<Args<'a>, CommandError> {
    if !args.get(at).is_some_and(|word| parse::is(word, "fields")) {
        return Err(CommandError::Text(
            "ERR Mandatory argument FIELDS is missing or not at the right position",
        ));
    }
    let number = args.get(at + 1).and_then(parse::canonical_integer);
    let Some(number) = number.filter(|number| *number > 0) else {
        return Err(CommandError::Text(bad_number));
    };
    let fields = args.from(at + 2);
    if usize::try_from(number) == Ok(fields.len()) {
        return Ok(fields);
    }
    Err(CommandError::Text(
        "ERR The `numfields` parameter must match the number of arguments",
    ))
}

pub(super) const NOT_POSITIVE: &str = "ERR Number of fields must be a positive integer";

/// Tells that the deadline of `fields` was set.
pub(super) fn deadline_set(cx: &mut Cx<'_>, key: Key<'_>, at: UnixMs, fields: &[&[u8]]) {
    let mut text = itoa::Buffer::new();
    changed_fields(
        cx,
        key,
        &[b"HPEXPIREAT", key.bytes, text.format(at.0).as_bytes()],
        fields,
        "hexpire",
    );
}

/// Tells that the deadlines of `fields` were cleared.
pub(super) fn deadline_cleared(cx: &mut Cx<'_>, key: Key<'_>, fields: &[&[u8]]) {
    let head: [&[u8]; 2] = [b"HPERSIST", key.bytes];
    changed_fields(cx, key, &head, fields, "hpersist");
}

/// Tells the effect `head FIELDS n field ...`, unless there are no fields.
fn changed_fields(
    cx: &mut Cx<'_>,
    key: Key<'_>,
    head: &[&[u8]],
    fields: &[&[u8]],
    event: &'static str,
) {
    if fields.is_empty() {
        return;
    }
    let mut text = itoa::Buffer::new();
    let mut effect = head.to_vec();
    effect.extend([b"FIELDS", text.format(fields.len()).as_bytes()]);
    effect.extend(fields);
    cx.changed(&[key], &effect);
    cx.notify(Class::HASH, event, key);
}

/// Tells that `fields` were removed, and removes the key if none is left.
pub(super) fn removed(cx: &mut Cx<'_>, key: Key<'_>, fields: &[&[u8]]) {
    if fields.is_empty() {
        return;
    }
    remove_if_empty(cx, key);
    let mut effect: Vec<&[u8]> = vec![b"HDEL", key.bytes];
    effect.extend(fields);
    cx.changed(&[key], &effect);
    cx.notify_shrunk(Class::HASH, "hdel", key);
}

pub(super) fn hexpire(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    expire(cx, args, Unit::Seconds, Basis::Now, "hexpire")
}

pub(super) fn hpexpire(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    expire(cx, args, Unit::Milliseconds, Basis::Now, "hpexpire")
}

pub(super) fn hexpireat(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    expire(cx, args, Unit::Seconds, Basis::Epoch, "hexpireat")
}

pub(super) fn hpexpireat(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    expire(cx, args, Unit::Milliseconds, Basis::Epoch, "hpexpireat")
}

/// When HEXPIRE sets a deadline; one may be given.
#[derive(Clone, Copy)]
enum Condition {
    Always,
    /// NX: there is none.
    Missing,
    /// XX: there is one.
    Present,
    /// GT: the new one is later.
    Later,
    /// LT: the new one is earlier.
    Earlier,
}

impl Condition {
    fn parse(word: &[u8]) -> Condition {
        let conditions = [
            ("nx", Condition::Missing),
            ("xx", Condition::Present),
            ("gt", Condition::Later),
            ("lt", Condition::Earlier),
        ];
        let found = conditions.iter().find(|(name, _)| parse::is(word, name));
        found.map_or(Condition::Always, |(_, condition)| *condition)
    }

    /// No deadline counts as an infinite one.
    fn holds(self, old: Deadline, new: UnixMs) -> bool {
        match self {
            Condition::Always => true,
            Condition::Missing => old.is_none(),
            Condition::Present => old.is_some(),
            Condition::Later => old.is_some_and(|old| new > old),
            Condition::Earlier => old.is_none_or(|old| new < old),
        }
    }
}

fn expire(
    cx: &mut Cx<'_>,
    args: Args<'_>,
    unit: Unit,
    basis: Basis,
    command: &str,
) -> CommandResult {
    let key = Key::new(args.at(1));
    write(cx, key, std::iter::empty())?;
    let at = field_deadline(args.at(2), unit, basis, cx.now, command)?;
    let condition = Condition::parse(args.at(3));
    let fields_at = match condition {
        Condition::Always => 3,
        _ => 4,
    };
    let names = named_fields(
        args,
        fields_at,
        "ERR Parameter `numFields` should be greater than 0",
    )?;
    let now = cx.now;
    let mut answers = Vec::with_capacity(names.len());
    let (mut set, mut gone) = (Vec::new(), Vec::new());
    let mut hash = write(cx, key, names.iter())?;
    for name in names.iter() {
        let Some((hash, field)) = hash.as_deref_mut().and_then(|hash| {
            hash.field(name)
                .map(|field| field.deadline)
                .map(|old| (hash, old))
        }) else {
            answers.push(NO_FIELD);
            continue;
        };
        answers.push(if !condition.holds(field, at) {
            NOT_MET
        } else if at <= now {
            hash.remove(name);
            gone.push(name);
            REMOVED
        } else {
            hash.set_deadline(name, Some(at));
            set.push(name);
            DONE
        });
    }
    removed(cx, key, &gone);
    deadline_set(cx, key, at, &set);
    answer(cx, &answers);
    Ok(())
}

fn answer(cx: &mut Cx<'_>, answers: &[i64]) {
    cx.reply.array(answers.len());
    for number in answers {
        cx.reply.integer(*number);
    }
}

pub(super) fn httl(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let now = cx.now;
    show(cx, args, |at| whole_seconds(at.0.saturating_sub(now.0)))
}

pub(super) fn hpttl(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let now = cx.now;
    show(cx, args, |at| at.0.saturating_sub(now.0))
}

pub(super) fn hexpiretime(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    show(cx, args, |at| whole_seconds(at.0))
}

pub(super) fn hpexpiretime(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    show(cx, args, |at| at.0)
}

/// Rounded up, other than for keys.
fn whole_seconds(time_ms: i64) -> i64 {
    time_ms.saturating_add(999) / 1000
}

fn show(cx: &mut Cx<'_>, args: Args<'_>, of: impl Fn(UnixMs) -> i64) -> CommandResult {
    let (fields, reply) = read(cx, Key::new(args.at(1)))?;
    let names = named_fields(args, 2, NOT_POSITIVE)?;
    reply.array(names.len());
    for name in names.iter() {
        let field = fields.and_then(|fields| fields.field(name));
        reply.integer(match field.map(|field| field.deadline) {
            None => NO_FIELD,
            Some(None) => NO_DEADLINE,
            Some(Some(at)) => of(at),
        });
    }
    Ok(())
}

pub(super) fn hpersist(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let key = Key::new(args.at(1));
    write(cx, key, std::iter::empty())?;
    let names = named_fields(args, 2, NOT_POSITIVE)?;
    let mut answers = Vec::with_capacity(names.len());
    let mut cleared = Vec::new();
    let mut hash = write(cx, key, names.iter())?;
    for name in names.iter() {
        let old = hash
            .as_deref()
            .and_then(|hash| hash.field(name))
            .map(|field| field.deadline);
        answers.push(match (old, hash.as_deref_mut()) {
            (Some(Some(_)), Some(hash)) => {
                hash.set_deadline(name, None);
                cleared.push(name);
                DONE
            }
            (Some(None), _) => NO_DEADLINE,
            _ => NO_FIELD,
        });
    }
    deadline_cleared(cx, key, &cleared);
    answer(cx, &answers);
    Ok(())
}
