//! A value as bytes and back: DUMP and RESTORE.
//!
//! The bytes are those of Redis: the value as an RDB file has it, with version and checksum
//! behind it ([`moon_rdb::payload`]). A checksum says nothing about intent, so RESTORE takes a
//! payload for what anybody may have made up: it is read within the bounds of a file from outside,
//! and a value that no command could have made is refused.
//!
//! The effect of RESTORE is `RESTORE key <unix ms, or 0> payload REPLACE ABSTTL`: it repeats the
//! value whatever was there, and depends on no clock.

use crate::context::{CommandResult, Cx, Origin, has_expired};
use crate::error::CommandError;
use crate::load::values::read_value;
use crate::notify::Class;
use crate::parse;
use crate::spec::{FIRST_KEY, commands};
use moon_core::UnixMs;
use moon_rdb::encode::Compressor;
use moon_rdb::{RdbLimits, RdbReader, payload};
use moon_resp::Args;
use moon_store::{AccessClock, AccessRule, Deadline, Key, Value, encode_value};
use std::cell::RefCell;

commands! { "generic":
    "dump" 2 [READONLY] FIRST_KEY, Keys, dump,
        "keyspace read slow", "2.6.0", "O(N) where N is the size of the value.",
        "Returns the value of a key as bytes that RESTORE takes.";
    "restore" -4 [WRITE DENYOOM] FIRST_KEY, Keys, restore,
        "keyspace write slow dangerous", "2.6.0", "O(N) where N is the size of the value.",
        "Creates a key from the bytes that DUMP returned.";
}

const BUSY: CommandError = CommandError::Text("BUSYKEY Target key name already exists.");
const BAD_TTL: CommandError = CommandError::Text("ERR Invalid TTL value, must be >= 0");
const BAD_SEAL: CommandError = CommandError::Text("ERR DUMP payload version or checksum are wrong");
const BAD_VALUE: CommandError = CommandError::Text("ERR Bad data format");

thread_local! {
    /// A quarter of a megabyte that is worth keeping. What it remembers of earlier strings never
    /// shows in later ones.
    static COMPRESSOR: RefCell<Compressor> = RefCell::default();
}

/// Appends the payload of a value to `out`; `false`, and nothing is appended, for a collection
/// without elements, which no key holds.
pub fn write_payload(out: &mut Vec<u8>, value: &Value) -> bool {
    let start = out.len();
    let written = COMPRESSOR.with_borrow_mut(|it| encode_value(out, value, Some(it)));
    if written {
        payload::seal(out, start);
    }
    written
}

/// Bytes of a value in a file, as DEBUG OBJECT shows them: without version and checksum.
#[must_use]
pub fn serialized_len(value: &Value) -> usize {
    let mut out = Vec::new();
    COMPRESSOR.with_borrow_mut(|it| encode_value(&mut out, value, Some(it)));
    out.len().saturating_sub(1)
}

fn dump(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let (found, reply) = cx.read_with_reply(Key::new(args.at(1)));
    let mut out = Vec::new();
    match found {
        Some((value, _)) if write_payload(&mut out, value) => reply.bulk(&out),
        _ => reply.null(),
    }
    Ok(())
}

/// What RESTORE may be told besides key, time and payload.
#[derive(Default)]
struct Options {
    replace: bool,
    absolute: bool,
    idle_s: Option<u64>,
    freq: Option<u8>,
}

impl Options {
    fn parse(args: Args<'_>) -> Result<Options, CommandError> {
        let mut options = Options::default();
        let mut at = 4;
        while let Some(option) = parse::next_option(args, &mut at) {
            if parse::is(option, "replace") {
                options.replace = true;
            } else if parse::is(option, "absttl") {
                options.absolute = true;
            } else if parse::is(option, "idletime") && options.freq.is_none() {
                let idle = parse::integer(parse::option_value(args, &mut at)?)?;
                let text = "ERR Invalid IDLETIME value, must be >= 0";
                let idle = u64::try_from(idle).map_err(|_| CommandError::Text(text))?;
                options.idle_s = Some(idle);
            } else if parse::is(option, "freq") && options.idle_s.is_none() {
                let freq = parse::integer(parse::option_value(args, &mut at)?)?;
                let text = "ERR Invalid FREQ value, must be >= 0 and <= 255";
                let freq = u8::try_from(freq).map_err(|_| CommandError::Text(text))?;
                options.freq = Some(freq);
            } else {
                return Err(CommandError::Syntax);
            }
        }
        Ok(options)
    }
}

fn restore(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let options = Options::parse(args)?;
    let key = Key::new(args.at(1));
    let was_there = cx.live(cx.db, key).is_some();
    if was_there && !options.replace {
        return Err(BUSY);
    }
    let time_ms = parse::integer(args.at(2))?;
    if time_ms < 0 {
        return Err(BAD_TTL);
    }
    let value = restored(cx, args.at(3))?;
    let deadline = deadline(cx, time_ms, options.absolute)?;
    if has_expired(&value, deadline, cx.now) {
        if was_there {
            cx.remove(key);
            cx.changed(&[key], &[b"DEL", key.bytes]);
            cx.notify(Class::GENERIC, "del", key);
        }
        cx.reply.ok();
        return Ok(());
    }
    // What was there is deleted, and not changed.
    cx.notify(Class::NEW, "new", key);
    let db = cx.db;
    cx.shard(key).db(db).store(key, value, deadline);
    set_use(cx, key, &options);
    let mut text = itoa::Buffer::new();
    let at = text.format(deadline.map_or(0, |at| at.0)).as_bytes();
    let effect = [b"RESTORE", key.bytes, at, args.at(3), b"REPLACE", b"ABSTTL"];
    cx.changed(&[key], &effect);
    cx.notify(Class::GENERIC, "restore", key);
    cx.reply.ok();
    Ok(())
}

/// The deadline that a time of 0 (for none) or more means.
fn deadline(cx: &Cx<'_>, time_ms: i64, absolute: bool) -> Result<Deadline, CommandError> {
    match time_ms {
        0 => Ok(None),
        _ if absolute => Ok(Some(UnixMs(time_ms))),
        _ if cx.origin == Origin::Replay => Err(CommandError::Text(
            "ERR a relative expire time cannot be replayed",
        )),
        _ => cx
            .now
            .0
            .checked_add(time_ms)
            .map(UnixMs)
            .map(Some)
            .ok_or(BAD_TTL),
    }
}

/// The value in a payload.
fn restored(cx: &Cx<'_>, sealed: &[u8]) -> Result<Value, CommandError> {
    let bytes = payload::open(sealed).map_err(|_| BAD_SEAL)?;
    let limits = match cx.origin {
        Origin::Client => RdbLimits {
            string_bytes_max: cx.limits.max_bulk_len as u64,
            ..RdbLimits::default()
        },
        // What was accepted once is accepted again, whatever the setting is now.
        Origin::Replay => RdbLimits::own(),
    };
    let mut reader = RdbReader::of_value(bytes, limits);
    let value = reader.value_alone().map_err(|_| BAD_VALUE)?;
    read_value(value, cx.limits).map_err(|_| BAD_VALUE)
}

/// Puts back how the key was used, if the eviction policy of today counts that.
fn set_use(cx: &mut Cx<'_>, key: Key<'_>, options: &Options) {
    /// What fits the 24 bits that a key has for it.
    const IDLE_S_MAX: u64 = (1 << 24) - 1;
    let clock = match (cx.limits.access_rule(cx.now), options.idle_s, options.freq) {
        (AccessRule::Recency { .. }, Some(idle_s), _) => {
            let now_s = u64::try_from(cx.now.0 / 1000).unwrap_or(0);
            AccessClock::from_seconds(now_s.saturating_sub(idle_s.min(IDLE_S_MAX)))
        }
        (AccessRule::Frequency { minutes, .. }, _, Some(freq)) => {
            AccessClock::from_frequency(minutes, freq)
        }
        _ => return,
    };
    let db = cx.db;
    cx.shard(key).db(db).set_access_clock(key, clock);
}
