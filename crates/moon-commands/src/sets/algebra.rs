//! SINTER, SUNION, SDIFF, their STORE forms, SINTERCARD.
//!
//! A missing key is an empty set. Every key is checked for its type, also those whose members
//! could make no difference.

use super::{set_limits, write_member};
use crate::collection::{Collection as _, store_result};
use crate::context::{CommandResult, Cx};
use crate::error::CommandError;
use crate::notify::Class;
use crate::parse::{at_least, is, next_option, option_value};
use crate::shard_set::ShardSet;
use moon_resp::Args;
use moon_store::{DbIndex, Key, Member, Set, SetLimits, Value};

#[derive(Clone, Copy)]
enum Operation {
    Intersection,
    Union,
    Difference,
}

pub(super) fn sinter(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    answer(cx, args.from(1), Operation::Intersection)
}

pub(super) fn sunion(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    answer(cx, args.from(1), Operation::Union)
}

pub(super) fn sdiff(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    answer(cx, args.from(1), Operation::Difference)
}

pub(super) fn sinterstore(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    store(cx, args, Operation::Intersection)
}

pub(super) fn sunionstore(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    store(cx, args, Operation::Union)
}

pub(super) fn sdiffstore(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    store(cx, args, Operation::Difference)
}

pub(super) fn sintercard(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let number = at_least(1, args.at(1), "ERR numkeys should be greater than 0")?;
    if number > args.len() - 2 {
        return Err(CommandError::Text(
            "ERR Number of keys can't be greater than number of args",
        ));
    }
    let mut at = 2 + number;
    let mut limit = 0;
    while let Some(option) = next_option(args, &mut at) {
        if !is(option, "limit") {
            return Err(CommandError::Syntax);
        }
        let value = option_value(args, &mut at)?;
        limit = at_least(0, value, "ERR LIMIT can't be negative")?;
    }
    let keys: Vec<Key<'_>> = args.from(2).iter().take(number).map(Key::new).collect();
    let is_there = look_up(cx, &keys, Use::Read)?;
    let sets = sets_at(&cx.shards, cx.db, &keys, &is_there);
    let common = intersection(&sets);
    let count = match limit {
        0 => common.count(),
        limit => common.take(limit).count(),
    };
    cx.reply.count(count);
    Ok(())
}

fn answer(cx: &mut Cx<'_>, keys: Args<'_>, operation: Operation) -> CommandResult {
    let limits = set_limits(cx);
    let keys: Vec<Key<'_>> = keys.iter().map(Key::new).collect();
    let is_there = look_up(cx, &keys, Use::Read)?;
    let sets = sets_at(&cx.shards, cx.db, &keys, &is_there);
    let (reply, mut count) = (&mut cx.reply, 0);
    let start = reply.position();
    let mut write = |member: Member<'_>| {
        write_member(reply, member);
        count += 1;
    };
    match operation {
        Operation::Intersection => intersection(&sets).for_each(&mut write),
        Operation::Union => union(&sets, limits).iter().for_each(&mut write),
        Operation::Difference => difference(&sets, limits).for_each(&mut write),
    }
    reply.set_since(start, count);
    Ok(())
}

fn store(cx: &mut Cx<'_>, args: Args<'_>, operation: Operation) -> CommandResult {
    let limits = set_limits(cx);
    let keys: Vec<Key<'_>> = args.from(2).iter().map(Key::new).collect();
    // What is past its deadline must go before the effect, which is the command itself and looks
    // at no clock.
    let is_there = look_up(cx, &keys, Use::Store)?;
    let sets = sets_at(&cx.shards, cx.db, &keys, &is_there);
    let result = match operation {
        Operation::Intersection => {
            // Integers stay as they are; anything else begins in one buffer.
            let ints = smallest_first(&sets)
                .first()
                .is_some_and(|set| set.is_ints());
            let mut result = match ints {
                true => Set::default(),
                false => Set::for_first(b"", 0, limits),
            };
            add_all(&mut result, intersection(&sets), limits);
            result.use_ints(limits);
            result
        }
        Operation::Union => union(&sets, limits),
        Operation::Difference => {
            let mut result = Set::default();
            add_all(&mut result, difference(&sets, limits), limits);
            result
        }
    };
    let len = result.len();
    let event = match operation {
        Operation::Intersection => "sinterstore",
        Operation::Union => "sunionstore",
        Operation::Difference => "sdiffstore",
    };
    let key = Key::new(args.at(1));
    if store_result(cx, key, Value::Set(result), len, args) {
        cx.notify_stored(Class::SET, event, key);
    }
    Ok(())
}

/// What sets are looked up for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    /// To answer with what they have.
    Read,
    /// To store it.
    Store,
}

/// Whether there are sets at `keys`, one after the other up to the first that holds something else.
fn look_up(cx: &mut Cx<'_>, keys: &[Key<'_>], purpose: Use) -> Result<Vec<bool>, CommandError> {
    let db = cx.db;
    let mut found = Vec::with_capacity(keys.len());
    for key in keys {
        let value = match purpose {
            Use::Read => cx.read(*key),
            Use::Store if cx.is_source_there(*key) => cx.peek(db, *key),
            Use::Store => None,
        };
        if value.is_some_and(|value| Set::of(value).is_none()) {
            return Err(CommandError::WrongType);
        }
        found.push(value.is_some());
    }
    Ok(found)
}

/// The sets at keys that have been looked up.
fn sets_at<'s>(
    shards: &'s ShardSet<'_>,
    db: DbIndex,
    keys: &[Key<'_>],
    is_there: &[bool],
) -> Vec<Option<&'s Set>> {
    let keys = keys.iter().zip(is_there);
    keys.map(|(key, is_there)| {
        shards
            .peek(db, *key)
            .filter(|_| *is_there)
            .and_then(Set::of)
    })
    .collect()
}

fn add_all<'a>(result: &mut Set, members: impl Iterator<Item = Member<'a>>, limits: SetLimits) {
    for member in members {
        member.with_bytes(|bytes| result.add(bytes, limits));
    }
}

/// The sets in order of size; none if one of them is empty.
fn smallest_first<'a>(sets: &[Option<&'a Set>]) -> Vec<&'a Set> {
    let sets: Option<Vec<_>> = sets.iter().copied().collect();
    let mut sets = sets.unwrap_or_default();
    sets.sort_by_key(|set| set.len());
    sets
}

/// What all sets have, found by going through the smallest.
fn intersection<'a>(sets: &[Option<&'a Set>]) -> impl Iterator<Item = Member<'a>> + use<'a> {
    let mut others = smallest_first(sets).into_iter();
    let smallest = others.next();
    let members = smallest.into_iter().flat_map(Set::iter);
    let others: Vec<_> = others.collect();
    members.filter(move |member| others.iter().all(|set| set.has(*member)))
}

fn union(sets: &[Option<&Set>], limits: SetLimits) -> Set {
    let mut result = Set::default();
    for set in sets.iter().flatten() {
        add_all(&mut result, set.iter(), limits);
    }
    result
}

/// What the first set has and no other does.
fn difference<'a>(
    sets: &[Option<&'a Set>],
    limits: SetLimits,
) -> impl Iterator<Item = Member<'a>> + use<'a> {
    let first = sets.first().copied().flatten();
    let mut others: Vec<&'a Set> = sets.iter().skip(1).copied().flatten().collect();
    // The largest is the most likely to have a member.
    others.sort_by_key(|set| std::cmp::Reverse(set.len()));
    let in_others: usize = others.iter().map(|set| set.len()).sum();
    // Where the others are small, what they take away is looked up once for each of theirs instead
    // of everywhere for each of the first.
    let taken = first.filter(|first| in_others < first.len()).map(|first| {
        let mut taken = Set::for_first(b"", usize::MAX, limits);
        let members = others.iter().flat_map(|set| set.iter());
        add_all(
            &mut taken,
            members.filter(|member| first.has(*member)),
            limits,
        );
        taken
    });
    first
        .into_iter()
        .flat_map(Set::iter)
        .filter(move |member| match &taken {
            Some(taken) => !taken.has(*member),
            None => !others.iter().any(|set| set.has(*member)),
        })
}
