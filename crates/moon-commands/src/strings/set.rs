//! Whole string values: GET, SET with all its options, and the commands that are SET or GET with
//! something added.
//!
//! The effect of every variant is `SET key value`, with `PXAT` and the deadline in milliseconds
//! or `KEEPTTL` where there is one, so that repeating it depends on no clock and no condition.

use super::{check_string, reply_string};
use crate::context::{CommandResult, Cx};
use crate::error::CommandError;
use crate::notify::Class;
use crate::parse::{self, Basis, Unit};
use moon_core::UnixMs;
use moon_resp::Args;
use moon_store::{Deadline, Key};

pub(super) fn get(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let (found, reply) = cx.read_with_reply(Key::new(args.at(1)));
    match found {
        Some((value, _)) => reply_string(reply, value),
        None => {
            reply.null();
            Ok(())
        }
    }
}

/// When SET sets.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Condition {
    /// NX.
    Missing,
    /// XX.
    Present,
}

/// Which options there are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Command {
    Set,
    Getex,
}

#[derive(Default)]
struct Options<'a> {
    condition: Option<Condition>,
    get: bool,
    keep_ttl: bool,
    persist: bool,
    expiry: Option<(Unit, Basis, &'a [u8])>,
}

impl<'a> Options<'a> {
    fn parse(args: Args<'a>, command: Command) -> Result<Self, CommandError> {
        use Condition::{Missing, Present};
        let mut options = Options::default();
        let is_set = command == Command::Set;
        let mut at = if is_set { 3 } else { 2 };
        while let Some(name) = parse::next_option(args, &mut at) {
            if is_set && parse::is(name, "nx") && options.condition != Some(Present) {
                options.condition = Some(Missing);
            } else if is_set && parse::is(name, "xx") && options.condition != Some(Missing) {
                options.condition = Some(Present);
            } else if is_set && parse::is(name, "get") {
                options.get = true;
            } else if is_set && parse::is(name, "keepttl") && options.expiry.is_none() {
                options.keep_ttl = true;
            } else if !is_set && parse::is(name, "persist") && options.expiry.is_none() {
                options.persist = true;
            } else if let Some((unit, basis)) = expiry_option(name)
                && !options.keep_ttl
                && !options.persist
                && options
                    .expiry
                    .is_none_or(|(u, b, _)| (u, b) == (unit, basis))
            {
                options.expiry = Some((unit, basis, parse::option_value(args, &mut at)?));
            } else {
                return Err(CommandError::Syntax);
            }
        }
        Ok(options)
    }

    fn deadline(&self, now: UnixMs, command: &str) -> Result<Deadline, CommandError> {
        let Some((unit, basis, time)) = self.expiry else {
            return Ok(None);
        };
        parse::positive_expire_time(time, unit, basis, now, command).map(Some)
    }
}

fn expiry_option(name: &[u8]) -> Option<(Unit, Basis)> {
    [
        ("ex", Unit::Seconds, Basis::Now),
        ("px", Unit::Milliseconds, Basis::Now),
        ("exat", Unit::Seconds, Basis::Epoch),
        ("pxat", Unit::Milliseconds, Basis::Epoch),
    ]
    .into_iter()
    .find(|(option, _, _)| parse::is(name, option))
    .map(|(_, unit, basis)| (unit, basis))
}

pub(super) fn set(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let key = Key::new(args.at(1));
    if args.len() == 3 {
        cx.live_if_told(key);
        cx.store_string(key, args.at(2), None);
        cx.changed_as_sent(&[key], args);
        cx.notify(Class::STRING, "set", key);
        cx.reply.ok();
        return Ok(());
    }
    let options = Options::parse(args, Command::Set)?;
    let deadline = options.deadline(cx.now, "set")?;
    let found = cx.live(cx.db, key);
    if options.get {
        reply_old(cx, key)?;
    }
    let allowed = match options.condition {
        None => true,
        Some(Condition::Missing) => found.is_none(),
        Some(Condition::Present) => found.is_some(),
    };
    if allowed {
        let keep = options.keep_ttl.then_some(found.flatten()).flatten();
        let expiry = match (deadline, keep) {
            (Some(at), _) => Expiry::At(at),
            (None, Some(at)) => Expiry::Kept(at),
            (None, None) => Expiry::Never,
        };
        assign(cx, key, args.at(2), expiry);
    }
    match (options.get, allowed) {
        (true, _) => {}
        (false, true) => cx.reply.ok(),
        (false, false) => cx.reply.null(),
    }
    Ok(())
}

pub(super) fn setnx(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let key = Key::new(args.at(1));
    let missing = cx.live(cx.db, key).is_none();
    if missing {
        assign(cx, key, args.at(2), Expiry::Never);
    }
    cx.reply.flag(missing);
    Ok(())
}

pub(super) fn setex(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    set_for(cx, args, Unit::Seconds, "setex")
}

pub(super) fn psetex(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    set_for(cx, args, Unit::Milliseconds, "psetex")
}

fn set_for(cx: &mut Cx<'_>, args: Args<'_>, unit: Unit, command: &str) -> CommandResult {
    let at = parse::positive_expire_time(args.at(2), unit, Basis::Now, cx.now, command)?;
    let key = Key::new(args.at(1));
    cx.live_if_told(key);
    assign(cx, key, args.at(3), Expiry::At(at));
    cx.reply.ok();
    Ok(())
}

pub(super) fn getset(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let key = Key::new(args.at(1));
    cx.live(cx.db, key);
    reply_old(cx, key)?;
    assign(cx, key, args.at(2), Expiry::Never);
    Ok(())
}

/// Answers with the value that is about to be replaced, which [`Cx::live`] has looked at.
fn reply_old(cx: &mut Cx<'_>, key: Key<'_>) -> CommandResult {
    let (found, reply) = cx.read_with_reply(key);
    match found {
        Some((value, _)) => reply_string(reply, value),
        None => {
            reply.null();
            Ok(())
        }
    }
}

/// What becomes of the deadline when a value is set.
#[derive(Clone, Copy)]
enum Expiry {
    Never,
    At(UnixMs),
    /// The old one stays, and it is this.
    Kept(UnixMs),
}

/// Sets a value and tells the effect. With a deadline that has passed already, the key goes away
/// at once.
fn assign(cx: &mut Cx<'_>, key: Key<'_>, value: &[u8], expiry: Expiry) {
    let deadline = match expiry {
        Expiry::Never => None,
        Expiry::At(at) if at <= cx.now => {
            if cx.remove(key) {
                cx.changed(&[key], &[b"DEL", key.bytes]);
                cx.notify(Class::GENERIC, "del", key);
            }
            return;
        }
        Expiry::At(at) | Expiry::Kept(at) => Some(at),
    };
    cx.store_string(key, value, deadline);
    cx.notify(Class::STRING, "set", key);
    match expiry {
        Expiry::Never => cx.changed(&[key], &[b"SET", key.bytes, value]),
        Expiry::Kept(_) => cx.changed(&[key], &[b"SET", key.bytes, value, b"KEEPTTL"]),
        Expiry::At(at) => {
            let mut text = itoa::Buffer::new();
            let at = text.format(at.0).as_bytes();
            cx.changed(&[key], &[b"SET", key.bytes, value, b"PXAT", at]);
            cx.notify(Class::GENERIC, "expire", key);
        }
    }
}

pub(super) fn getex(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let options = Options::parse(args, Command::Getex)?;
    let key = Key::new(args.at(1));
    let (found, reply) = cx.read_with_reply(key);
    let Some((value, old)) = found else {
        reply.null();
        return Ok(());
    };
    reply_string(reply, value)?;
    if let Some(at) = options.deadline(cx.now, "getex")? {
        cx.expire_at(key, at);
    } else if options.persist && old.is_some() {
        cx.set_deadline(key, None);
        cx.changed(&[key], &[b"PERSIST", key.bytes]);
        cx.notify(Class::GENERIC, "persist", key);
    }
    Ok(())
}

pub(super) fn getdel(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let key = Key::new(args.at(1));
    let (found, reply) = cx.read_with_reply(key);
    let Some((value, _)) = found else {
        reply.null();
        return Ok(());
    };
    check_string(value)?;
    reply_string(reply, value)?;
    cx.remove(key);
    cx.changed(&[key], &[b"DEL", key.bytes]);
    cx.notify(Class::GENERIC, "del", key);
    Ok(())
}
