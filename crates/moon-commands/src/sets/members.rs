//! SADD, SREM, SMOVE, SCARD, SISMEMBER, SMISMEMBER, SMEMBERS, SSCAN.

use super::{set_limits, write_member};
use crate::collection::{grow, read, shrink, write};
use crate::context::{CommandResult, Cx};
use crate::notify::Class;
use crate::scan::{OwnOption, collection_scan};
use moon_resp::Args;
use moon_store::{Key, Set, Value};

pub(super) fn sadd(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let key = Key::new(args.at(1));
    let members = args.from(2);
    let limits = set_limits(cx);
    let create = || Some(Set::for_first(members.at(0), members.len(), limits));
    let added = grow(cx, key, Value::Set, create, |set| {
        // Only if a member is new: without an effect nothing may change.
        if set.is_outgrown_by(members.len(), limits)
            && members.iter().any(|member| !set.contains(member))
        {
            set.use_table();
        }
        members.iter().filter(|m| set.add(m, limits)).count()
    })?
    .unwrap_or(0);
    if added > 0 {
        cx.changed_as_sent(&[key], args);
        cx.notify(Class::SET, "sadd", key);
    }
    cx.reply.count(added);
    Ok(())
}

pub(super) fn srem(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let key = Key::new(args.at(1));
    let removed = shrink(cx, key, |set: &mut Set| {
        args.from(2).iter().filter(|m| set.remove(m)).count()
    })?
    .unwrap_or(0);
    if removed > 0 {
        cx.changed_as_sent(&[key], args);
        cx.notify_shrunk(Class::SET, "srem", key);
    }
    cx.reply.count(removed);
    Ok(())
}

pub(super) fn smove(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let (from, to, member) = (Key::new(args.at(1)), Key::new(args.at(2)), args.at(3));
    // What is at the destination matters only if there is a source.
    let there = write::<Set>(cx, from)?.map(|set| set.contains(member));
    if there.is_some() {
        write::<Set>(cx, to)?;
    }
    let there = there.unwrap_or(false);
    if there && from.bytes != to.bytes {
        shrink(cx, from, |set: &mut Set| set.remove(member))?;
        cx.notify_shrunk(Class::SET, "srem", from);
        let limits = set_limits(cx);
        match write::<Set>(cx, to)? {
            Some(set) => {
                if set.add(member, limits) {
                    cx.notify(Class::SET, "sadd", to);
                }
            }
            None => {
                let mut set = Set::for_first(member, 1, limits);
                set.add(member, limits);
                cx.store(to, Value::Set(set), None);
                cx.notify(Class::SET, "sadd", to);
            }
        }
        cx.changed_as_sent(&[from, to], args);
    }
    cx.reply.flag(there);
    Ok(())
}

pub(super) fn scard(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let (set, reply) = read::<Set>(cx, Key::new(args.at(1)))?;
    reply.count(set.map_or(0, Set::len));
    Ok(())
}

pub(super) fn sismember(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let (set, reply) = read::<Set>(cx, Key::new(args.at(1)))?;
    reply.flag(set.is_some_and(|set| set.contains(args.at(2))));
    Ok(())
}

pub(super) fn smismember(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let (set, reply) = read::<Set>(cx, Key::new(args.at(1)))?;
    let members = args.from(2);
    reply.array(members.len());
    for member in members.iter() {
        reply.flag(set.is_some_and(|set| set.contains(member)));
    }
    Ok(())
}

pub(super) fn smembers(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let (set, reply) = read::<Set>(cx, Key::new(args.at(1)))?;
    reply.set(set.map_or(0, Set::len));
    for member in set.into_iter().flat_map(Set::iter) {
        write_member(reply, member);
    }
    Ok(())
}

pub(super) fn sscan(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    collection_scan(
        cx,
        args,
        OwnOption::None,
        |set: &Set, cursor, count, visit| {
            set.scan(cursor, count, &mut |member| {
                member.with_bytes(|bytes| visit(bytes, None));
            })
        },
    )
}
