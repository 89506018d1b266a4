//! GEOSEARCH, GEOSEARCHSTORE, GEORADIUS, GEORADIUSBYMEMBER and the forms that only read.
//!
//! The cells that cover the shape are ranges of scores; their members are looked at one by one.

use super::cell::{Position, position_of_score};
use super::query::{Form, Order, Query};
use super::{reply_distance, reply_position};
use crate::collection::replaced;
use crate::context::{CommandResult, Cx};
use crate::error::CommandError;
use crate::notify::Class;
use crate::parse::is;
use moon_resp::{Args, Reply};
use moon_store::{Key, PackLimits, Value, ZSet};
use std::ops::Bound;

pub(super) fn geosearch(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    search(cx, args, Form::Search, false)
}

pub(super) fn geosearchstore(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    search(cx, args, Form::SearchStore, true)
}

pub(super) fn georadius(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    search(cx, args, Form::Radius, true)
}

pub(super) fn georadius_ro(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    search(cx, args, Form::Radius, false)
}

pub(super) fn georadiusbymember(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    search(cx, args, Form::Member, true)
}

pub(super) fn georadiusbymember_ro(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    search(cx, args, Form::Member, false)
}

/// Where GEORADIUS and GEORADIUSBYMEMBER store to: the last one counts.
pub(super) fn stored_key(args: Args<'_>, positions: &mut Vec<usize>) {
    let (mut at, mut found) = (5, None);
    while let Some(option) = args.get(at) {
        if is(option, "store") || is(option, "storedist") {
            at += 1;
            found = Some(at).filter(|at| *at < args.len()).or(found);
        }
        at += 1;
    }
    positions.extend(found);
}

/// A member that was found.
struct Found<'z> {
    member: &'z [u8],
    score: f64,
    position: Position,
    /// In the unit of the search.
    distance: f64,
}

fn search(cx: &mut Cx<'_>, args: Args<'_>, form: Form, may_store: bool) -> CommandResult {
    let source = Key::new(match form {
        Form::SearchStore => args.at(2),
        _ => args.at(1),
    });
    let (protocol, limits) = (cx.reply.protocol(), cx.limits.zset_pack());
    let value = match may_store {
        // What has expired must be gone before the effect of this command.
        true if !cx.is_source_there(source) => None,
        true => cx.peek(cx.db, source),
        false => cx.read(source),
    };
    let zset = match value {
        None => None,
        Some(Value::ZSet(zset)) => Some(&**zset),
        Some(_) => return Err(CommandError::WrongType),
    };
    let query = Query::parse(form, args, zset, may_store)?;
    let found = zset.map_or_else(Vec::new, |zset| find(zset, &query));
    let Some(destination) = query.destination else {
        let mut encoded = Vec::new();
        answer(&mut Reply::new(&mut encoded, protocol), &query, &found);
        cx.reply.raw(&encoded);
        return Ok(());
    };
    let (stored, pairs) = stored(&query, &found, limits);
    let event = match form {
        Form::SearchStore => "geosearchstore",
        _ => "georadiusstore",
    };
    store(cx, Key::new(destination), stored, &pairs, event);
    Ok(())
}

/// The members inside the shape, as many and in the order as asked for.
fn find<'z>(zset: &'z ZSet, query: &Query<'_>) -> Vec<Found<'z>> {
    let count = query.count.unwrap_or(usize::MAX);
    let enough = if query.any { count } else { usize::MAX };
    let mut found = Vec::new();
    for cell in query.shape.cells() {
        let (start, end) = cell.scores();
        let ranks = zset.ranks_by_score(Bound::Included(start as f64), Bound::Excluded(end as f64));
        for (member, score) in zset.range(ranks) {
            if found.len() >= enough {
                break;
            }
            let position = position_of_score(score);
            if let Some(distance) = query.shape.distance_inside(position) {
                found.push(Found {
                    member,
                    score,
                    position,
                    distance,
                });
            }
        }
    }
    match query.order {
        Some(Order::Nearest) => found.sort_by(|a, b| a.distance.total_cmp(&b.distance)),
        Some(Order::Farthest) => found.sort_by(|a, b| b.distance.total_cmp(&a.distance)),
        None => {}
    }
    found.truncate(count);
    for one in &mut found {
        one.distance /= query.shape.metres;
    }
    found
}

fn answer(reply: &mut Reply<'_>, query: &Query<'_>, found: &[Found<'_>]) {
    let extras = [query.with_distance, query.with_hash, query.with_position];
    let extras = extras.into_iter().filter(|with| *with).count();
    reply.array(found.len());
    for one in found {
        if extras > 0 {
            reply.array(1 + extras);
        }
        reply.bulk(one.member);
        if query.with_distance {
            reply_distance(reply, one.distance);
        }
        if query.with_hash {
            reply.integer(one.score as i64);
        }
        if query.with_position {
            reply_position(reply, one.position);
        }
    }
}

/// The members as a sorted set, and as the scores and members of a ZADD.
fn stored(query: &Query<'_>, found: &[Found<'_>], limits: PackLimits) -> (ZSet, Vec<Vec<u8>>) {
    let mut zset = ZSet::default();
    let mut pairs = Vec::with_capacity(found.len() * 2);
    for one in found {
        let score = match query.store_distance {
            true => one.distance,
            false => one.score,
        };
        zset.set(one.member, score, limits);
        pairs.push(score.to_string().into_bytes());
        pairs.push(one.member.to_vec());
    }
    (zset, pairs)
}

/// Puts the result in the place of whatever is at `key`. The effect is the result, not the search,
/// because distances depend on the mathematics library of the machine.
fn store(cx: &mut Cx<'_>, key: Key<'_>, zset: ZSet, pairs: &[Vec<u8>], event: &'static str) {
    let len = zset.len();
    let was_there = cx.live(cx.db, key).is_some();
    if len > 0 {
        cx.store(key, Value::ZSet(Box::new(zset)), None);
    } else if was_there {
        cx.remove(key);
    }
    replaced(cx, key, was_there, b"ZADD", pairs);
    if len > 0 || was_there {
        cx.notify_stored(Class::ZSET, event, key);
    }
    cx.reply.count(len);
}
