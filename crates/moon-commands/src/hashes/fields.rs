//! Fields and their values: HSET and its kin, HGET and its kin, HDEL, HGETALL and its kin, HLEN.

use super::access::{pack_limits, read, remove_if_empty, update, write};
use crate::context::{CommandResult, Cx};
use crate::error::CommandError;
use crate::notify::Class;
use crate::parse::wrong_arity;
use moon_resp::{Args, Reply};
use moon_store::{Key, LiveFields};

/// Every second of `args`: the fields of pairs.
pub(super) fn names_of_pairs<'a>(args: Args<'a>) -> impl Iterator<Item = &'a [u8]> + Clone {
    (0..args.len()).step_by(2).map(move |at| args.at(at))
}

/// Stores the pairs of `args` from index 2 on; how many fields are new.
fn set_pairs(cx: &mut Cx<'_>, args: Args<'_>, command: &str) -> Result<usize, CommandError> {
    if !args.len().is_multiple_of(2) {
        return Err(wrong_arity(command));
    }
    let key = Key::new(args.at(1));
    let limits = pack_limits(cx);
    let new = update(cx, key, names_of_pairs(args.from(2)), |hash| {
        let pairs = (2..args.len()).step_by(2);
        Ok(pairs
            .filter(|at| hash.set(args.at(*at), args.at(at + 1), limits))
            .count())
    })?;
    cx.changed_as_sent(&[key], args);
    cx.notify(Class::HASH, "hset", key);
    Ok(new)
}

pub(super) fn hset(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let new = set_pairs(cx, args, "hset")?;
    cx.reply.count(new);
    Ok(())
}

pub(super) fn hmset(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    set_pairs(cx, args, "hmset")?;
    cx.reply.ok();
    Ok(())
}

pub(super) fn hsetnx(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let (key, name) = (Key::new(args.at(1)), args.at(2));
    let hash = write(cx, key, std::iter::once(name))?;
    let present = hash.is_some_and(|hash| hash.contains(name));
    if !present {
        set_pairs(cx, args, "hsetnx")?;
    }
    cx.reply.flag(!present);
    Ok(())
}

pub(super) fn hdel(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let key = Key::new(args.at(1));
    let names = args.from(2);
    let removed = match write(cx, key, names.iter())? {
        Some(hash) => names.iter().filter(|name| hash.remove(name)).count(),
        None => 0,
    };
    if removed > 0 {
        remove_if_empty(cx, key);
        cx.changed_as_sent(&[key], args);
        cx.notify_shrunk(Class::HASH, "hdel", key);
    }
    cx.reply.count(removed);
    Ok(())
}

pub(super) fn value_or_null(reply: &mut Reply<'_>, value: Option<&[u8]>) {
    match value {
        Some(value) => reply.bulk(value),
        None => reply.null(),
    }
}

pub(super) fn hget(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let (fields, reply) = read(cx, Key::new(args.at(1)))?;
    value_or_null(reply, fields.and_then(|fields| fields.get(args.at(2))));
    Ok(())
}

pub(super) fn hmget(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let (fields, reply) = read(cx, Key::new(args.at(1)))?;
    let names = args.from(2);
    reply.array(names.len());
    for name in names.iter() {
        value_or_null(reply, fields.and_then(|fields| fields.get(name)));
    }
    Ok(())
}

pub(super) fn hexists(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let (fields, reply) = read(cx, Key::new(args.at(1)))?;
    let found = fields.and_then(|fields| fields.field(args.at(2)));
    reply.flag(found.is_some());
    Ok(())
}

pub(super) fn hlen(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let (fields, reply) = read(cx, Key::new(args.at(1)))?;
    reply.count(fields.map_or(0, |fields| fields.len()));
    Ok(())
}

pub(super) fn hstrlen(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let (fields, reply) = read(cx, Key::new(args.at(1)))?;
    let value = fields.and_then(|fields| fields.get(args.at(2)));
    reply.count(value.map_or(0, <[u8]>::len));
    Ok(())
}

pub(super) fn hgetall(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let (fields, reply) = read(cx, Key::new(args.at(1)))?;
    reply.map(fields.map_or(0, |fields| fields.len()));
    for field in fields.iter().flat_map(LiveFields::iter) {
        reply.bulk(field.name);
        reply.bulk(field.value);
    }
    Ok(())
}

pub(super) fn hkeys(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let (fields, reply) = read(cx, Key::new(args.at(1)))?;
    reply.array(fields.map_or(0, |fields| fields.len()));
    for field in fields.iter().flat_map(LiveFields::iter) {
        reply.bulk(field.name);
    }
    Ok(())
}

pub(super) fn hvals(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let (fields, reply) = read(cx, Key::new(args.at(1)))?;
    reply.array(fields.map_or(0, |fields| fields.len()));
    for field in fields.iter().flat_map(LiveFields::iter) {
        reply.bulk(field.value);
    }
    Ok(())
}
