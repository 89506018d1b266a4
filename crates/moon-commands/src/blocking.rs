//! What commands that wait have in common: BLPOP, BLMOVE, BZPOPMIN, XREAD BLOCK and their kin.
//!
//! Such a command is tried like any other. If it finds nothing, it answers so, which is all that
//! there is inside a transaction or a script, and says with [`Effects::wait`](crate::Effects) what
//! it would wait for; [`crate::execute()`] then returns [`Outcome::Waits`]. Who can wait takes the
//! reply back, keeps the request, and has it [retried](retry) when one of its keys has changed.

use crate::context::{Cx, has_expired};
use crate::error::CommandError;
use crate::execute::{Outcome, execute};
use crate::parse::{self, canonical_integer, is, next_option};
use crate::spec::{CommandSpec, Flags};
use moon_core::UnixMs;
use moon_resp::{Args, OwnedArgs};
use moon_store::{DbIndex, Key, Kind, ShardData, Stream, Value};

/// What a command that found nothing would wait for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    /// For how long, in milliseconds; zero for ever.
    pub timeout_ms: u64,
    /// The request to try again, if it is not the one that was sent: ids that stand for the state of
    /// this moment are written out.
    pub request: Option<OwnedArgs>,
}

/// There is nothing to be had: the request, as it was sent, would wait for its keys.
pub(crate) fn waits(cx: &mut Cx<'_>, timeout_ms: u64) {
    cx.effects.wait(Wait {
        timeout_ms,
        request: None,
    });
}

/// Whether a request may wait for keys.
#[inline]
#[must_use]
pub fn may_wait(spec: &CommandSpec, args: Args<'_>) -> bool {
    spec.flags.contains(Flags::BLOCKING) && (!reads_streams(spec) || has_block(args))
}

fn reads_streams(spec: &CommandSpec) -> bool {
    matches!(spec.name, "xread" | "xreadgroup")
}

/// Whether XREAD or XREADGROUP has the option BLOCK.
fn has_block(args: Args<'_>) -> bool {
    let mut at = 1;
    while let Some(option) = next_option(args, &mut at) {
        if is(option, "block") {
            return true;
        }
        if is(option, "streams") {
            return false;
        }
        if is(option, "count") {
            at += 1;
        } else if is(option, "group") {
            at += 2;
        }
    }
    false
}

/// The type of value that a request waits for.
#[must_use]
pub fn kind_of(spec: &CommandSpec) -> Kind {
    match spec.name {
        "bzpopmin" | "bzpopmax" | "bzmpop" => Kind::ZSet,
        "xread" | "xreadgroup" => Kind::Stream,
        _ => Kind::List,
    }
}

/// Whether only the first key of a request is waited for; the second is where the element goes.
fn moves(spec: &CommandSpec) -> bool {
    matches!(spec.name, "blmove" | "brpoplpush")
}

/// The keys that a request waits for, each once.
#[must_use]
pub fn waited_keys<'a>(spec: &CommandSpec, args: Args<'a>) -> Vec<&'a [u8]> {
    let mut keys: Vec<&[u8]> = Vec::new();
    for at in waited_positions(spec, args) {
        let key = args.at(at);
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    keys
}

fn waited_positions(spec: &CommandSpec, args: Args<'_>) -> Vec<usize> {
    let mut positions = Vec::new();
    spec.key_positions(args, &mut positions);
    if moves(spec) {
        positions.truncate(1);
    }
    positions
}

/// The key beyond the one that is ready that a request needs to be served.
#[must_use]
pub fn other_key<'a>(spec: &CommandSpec, args: Args<'a>) -> Option<&'a [u8]> {
    if moves(spec) { args.get(2) } else { None }
}

/// The request as if it waited for `key` alone; `None` if it does, or not for that at all.
fn narrowed(spec: &CommandSpec, args: Args<'_>, key: &[u8]) -> Option<OwnedArgs> {
    let positions = waited_positions(spec, args);
    if positions.len() < 2 {
        return None;
    }
    let nth = positions.iter().position(|at| args.at(*at) == key)?;
    let (first, end) = (positions[0], positions[0] + positions.len());
    let mut request = OwnedArgs::new(args.iter().take(first));
    match spec.name {
        "blmpop" | "bzmpop" => {
            request = OwnedArgs::new([args.at(0), args.at(1), b"1", key]);
            args.from(end).iter().for_each(|arg| request.push(arg));
        }
        "xread" | "xreadgroup" => {
            request.push(key);
            request.push(args.at(end + nth));
        }
        _ => {
            request.push(key);
            args.from(end).iter().for_each(|arg| request.push(arg));
        }
    }
    Some(request)
}

/// How another try of a request that waits ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retried {
    /// There is nothing for it yet: it goes on waiting, and nothing was written.
    Waits,
    /// Its reply is written.
    Answered,
}

/// Tries a request that waits once more, because `key` has changed. It is answered from that key
/// alone, whatever its other keys hold, which may be in other hands.
pub fn retry(cx: &mut Cx<'_>, spec: &CommandSpec, args: Args<'_>, key: &[u8]) -> Retried {
    if let Err(text) = group_is_there(cx, spec, args, key) {
        cx.reply.error(text);
        return Retried::Answered;
    }
    let start = cx.reply.position();
    let narrowed = narrowed(spec, args, key);
    let request = narrowed.as_ref().map_or(args, OwnedArgs::as_args);
    match execute(cx, spec, request) {
        Outcome::Done | Outcome::Failed => Retried::Answered,
        Outcome::Waits => {
            cx.reply.truncate(start);
            Retried::Waits
        }
    }
}

/// Whether the stream and group are still there that a waiting XREADGROUP reads.
///
/// # Errors
/// The error with which it ends, if one is not.
fn group_is_there(
    cx: &mut Cx<'_>,
    spec: &CommandSpec,
    args: Args<'_>,
    key: &[u8],
) -> Result<(), &'static str> {
    if spec.name != "xreadgroup" {
        return Ok(());
    }
    let (db, now) = (cx.db, cx.now);
    let data = cx.shards.of_key(key);
    let Some(Value::Stream(stream)) = live_value(data, db, key, now) else {
        return Err("UNBLOCKED the stream key no longer exists");
    };
    if group_name(args).is_some_and(|group| has_group(stream, group)) {
        Ok(())
    } else {
        Err("NOGROUP the consumer group this client was blocked on no longer exists")
    }
}

fn has_group(stream: &Stream, group: &[u8]) -> bool {
    stream.group(group).is_some()
}

/// The argument behind GROUP.
fn group_name(args: Args<'_>) -> Option<&[u8]> {
    let mut at = 1;
    while let Some(option) = next_option(args, &mut at) {
        if is(option, "group") {
            return args.get(at);
        }
        at += usize::from(is(option, "block") || is(option, "count"));
    }
    None
}

fn live_value<'d>(data: &'d ShardData, db: DbIndex, key: &[u8], now: UnixMs) -> Option<&'d Value> {
    let (value, deadline) = data.dbs[usize::from(db)].get(Key::new(key))?;
    (!has_expired(value, deadline, now)).then_some(value)
}

/// The type of the value of a key, if it is there and not past its deadline.
#[must_use]
pub fn live_kind(data: &ShardData, db: DbIndex, key: &[u8], now: UnixMs) -> Option<Kind> {
    live_value(data, db, key, now).map(Value::kind)
}

const NEGATIVE: CommandError = CommandError::Text("ERR timeout is negative");
const OUT_OF_RANGE: CommandError = CommandError::Text("ERR timeout is out of range");

/// A timeout in seconds, in milliseconds rounded up; zero for ever.
///
/// # Errors
/// When it is no number, negative, or so long that its end would be no time.
pub fn seconds(arg: &[u8], now: UnixMs) -> Result<u64, CommandError> {
    let seconds = parse::double(arg)
        .map_err(|_| CommandError::Text("ERR timeout is not a float or out of range"))?;
    let millis = (seconds * 1000.0).ceil();
    if millis < 0.0 {
        return Err(NEGATIVE);
    }
    // The largest number of milliseconds, as the float that it rounds to, is one too large.
    if millis >= i64::MAX as f64 {
        return Err(OUT_OF_RANGE);
    }
    in_range(millis as i64, now)
}

/// A timeout in milliseconds; zero for ever.
///
/// # Errors
/// As [`seconds`].
pub fn milliseconds(arg: &[u8], now: UnixMs) -> Result<u64, CommandError> {
    let millis = canonical_integer(arg).ok_or(CommandError::Text(
        "ERR timeout is not an integer or out of range",
    ))?;
    in_range(millis, now)
}

fn in_range(millis: i64, now: UnixMs) -> Result<u64, CommandError> {
    // Replay knows no time, and nothing waits in it.
    let latest = i64::MAX - now.0.max(0);
    match u64::try_from(millis) {
        Err(_) => Err(NEGATIVE),
        Ok(_) if millis > latest => Err(OUT_OF_RANGE),
        Ok(millis) => Ok(millis),
    }
}

#[cfg(test)]
mod tests;
