//! Whether keys are there, what they hold, and their removal.

use crate::context::{CommandResult, Cx};
use crate::error::CommandError;
use crate::notify::Class;
use moon_resp::Args;
use moon_store::{Key, Kind};

pub(super) fn del(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    remove_all(cx, args, b"DEL")
}

pub(super) fn unlink(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    remove_all(cx, args, b"UNLINK")
}

/// The effect names only the keys that were there.
fn remove_all(cx: &mut Cx<'_>, args: Args<'_>, command: &[u8]) -> CommandResult {
    let db = cx.db;
    if args.len() == 2 {
        let key = Key::new(args.at(1));
        let removed = cx.live(db, key).is_some();
        if removed {
            cx.remove(key);
            cx.changed(&[key], &[command, key.bytes]);
            cx.notify(Class::GENERIC, "del", key);
        }
        cx.reply.flag(removed);
        return Ok(());
    }
    let mut effect = vec![command];
    for bytes in args.from(1).iter() {
        let key = Key::new(bytes);
        if cx.live(db, key).is_some() {
            cx.remove(key);
            cx.mark(db, key);
            cx.notify(Class::GENERIC, "del", key);
            effect.push(bytes);
        }
    }
    if effect.len() > 1 {
        cx.effects.push(db, &effect);
    }
    cx.reply.count(effect.len() - 1);
    Ok(())
}

pub(super) fn exists(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let keys = args.from(1);
    let is_there = |key: &&[u8]| cx.inspect(Key::new(key)).is_some();
    let found = keys.iter().filter(is_there).count();
    cx.reply.count(found);
    Ok(())
}

pub(super) fn touch(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let keys = args.from(1);
    let is_there = |key: &&[u8]| cx.read(Key::new(key)).is_some();
    let found = keys.iter().filter(is_there).count();
    cx.reply.count(found);
    Ok(())
}

pub(super) fn type_of(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let kind = cx
        .inspect(Key::new(args.at(1)))
        .map(|(value, _)| value.kind());
    cx.reply.simple(kind.map_or("none", Kind::name));
    Ok(())
}

const OBJECT_HELP: &[&str] = &[
    "OBJECT <subcommand> [<arg>]. What is known about the value of a key:",
    "ENCODING <key>",
    "    How the value is kept in memory.",
    "FREQ <key>",
    "    How often the key is used, on a logarithmic scale; under LFU policies only.",
    "IDLETIME <key>",
    "    Seconds since the key was last used.",
    "REFCOUNT <key>",
    "    How often the value is referred to.",
    "HELP",
    "    This text.",
];

pub(crate) fn object_help(cx: &mut Cx<'_>, _: Args<'_>) -> CommandResult {
    cx.reply.array(OBJECT_HELP.len());
    for line in OBJECT_HELP {
        cx.reply.simple(line);
    }
    Ok(())
}

pub(crate) fn object_encoding(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    match cx
        .inspect_quietly(Key::new(args.at(2)))
        .map(|(value, _)| value.encoding())
    {
        Some(encoding) => cx.reply.bulk(encoding.as_bytes()),
        None => cx.reply.null(),
    }
    Ok(())
}

/// Values are not shared here. Clients see what Redis shows, which shares small integers.
pub(crate) fn object_refcount(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    const SHARED_BELOW: i64 = 10_000;
    let found = cx
        .inspect_quietly(Key::new(args.at(2)))
        .map(|(value, _)| value.encoding() == "int" && value.as_int().is_some_and(is_small));
    fn is_small(n: i64) -> bool {
        (0..SHARED_BELOW).contains(&n)
    }
    match found {
        Some(true) => cx.reply.integer(i64::from(i32::MAX)),
        Some(false) => cx.reply.integer(1),
        None => cx.reply.null(),
    }
    Ok(())
}

/// Ends the errors about what the policy does not track.
macro_rules! not_tracked {
    ($text:literal) => {
        CommandError::Text(concat!(
            $text,
            " not tracked. Please note that when switching between policies at runtime LRU and \
             LFU data will take some time to adjust."
        ))
    };
}

pub(crate) fn object_idletime(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let key = Key::new(args.at(2));
    let is_there = cx.inspect_quietly(key).is_some();
    if is_there && cx.limits.maxmemory_policy.is_lfu() {
        return Err(not_tracked!(
            "ERR An LFU maxmemory policy is selected, idle time"
        ));
    }
    match cx.idle_seconds(key).filter(|_| is_there) {
        Some(seconds) => cx.reply.integer(i64::from(seconds)),
        None => cx.reply.null(),
    }
    Ok(())
}

pub(crate) fn object_freq(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let key = Key::new(args.at(2));
    let is_there = cx.inspect_quietly(key).is_some();
    if is_there && !cx.limits.maxmemory_policy.is_lfu() {
        return Err(not_tracked!(
            "ERR An LFU maxmemory policy is not selected, access frequency"
        ));
    }
    match cx.frequency(key).filter(|_| is_there) {
        Some(frequency) => cx.reply.integer(i64::from(frequency)),
        None => cx.reply.null(),
    }
    Ok(())
}
