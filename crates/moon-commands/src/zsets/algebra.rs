//! ZUNION, ZINTER, ZDIFF, their STORE forms, ZINTERCARD.
//!
//! Sources are sorted sets or sets, whose members count as having score 1. Scores are added up in
//! the order in which Redis does, smaller sources first, because a sum of doubles depends on it.

use super::range::store;
use super::{WithScores, write_entries};
use crate::collection::Collection as _;
use crate::context::{CommandResult, Cx};
use crate::error::CommandError;
use crate::parse::{self, double, integer, is};
use moon_resp::Args;
use moon_store::{Key, Member, Set, Value, ZSet};
use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::HashMap;

/// A member of a source or a result.
type Name<'a> = Cow<'a, [u8]>;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Operation {
    Union,
    Intersection,
    Difference,
}

/// What becomes of the result.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Target {
    /// It is answered.
    Reply,
    /// It is stored at index 1, before the number of keys.
    Store,
    /// Its length is answered.
    Count,
}

/// How the scores of one member come together.
#[derive(Clone, Copy)]
enum Aggregate {
    Sum,
    Min,
    Max,
}

impl Aggregate {
    fn join(self, a: f64, b: f64) -> f64 {
        match self {
            // Opposite infinities come to nothing.
            Aggregate::Sum => not_nan(a + b),
            Aggregate::Min if b < a => b,
            Aggregate::Max if b > a => b,
            Aggregate::Min | Aggregate::Max => a,
        }
    }
}

/// Infinity times nothing is nothing.
fn not_nan(score: f64) -> f64 {
    if score.is_nan() { 0.0 } else { score }
}

struct Options {
    weights: Vec<f64>,
    aggregate: Aggregate,
    scores: WithScores,
    /// Of ZINTERCARD; 0 is none.
    limit: usize,
}

impl Options {
    /// Reads what stands behind the keys.
    fn parse(
        options: Args<'_>,
        keys: usize,
        operation: Operation,
        target: Target,
    ) -> Result<Options, CommandError> {
        let mut parsed = Options {
            weights: vec![1.0; keys],
            aggregate: Aggregate::Sum,
            scores: WithScores::No,
            limit: 0,
        };
        let has_rules = operation != Operation::Difference && target != Target::Count;
        let mut at = 0;
        while let Some(option) = options.get(at) {
            let behind = options.len() - at - 1;
            if has_rules && behind >= keys && is(option, "weights") {
                for (weight, arg) in parsed.weights.iter_mut().zip(options.from(at + 1).iter()) {
                    *weight = double(arg)
                        .map_err(|_| CommandError::Text("ERR weight value is not a float"))?;
                }
                at += 1 + keys;
            } else if has_rules && behind >= 1 && is(option, "aggregate") {
                let rule = options.at(at + 1);
                parsed.aggregate = if is(rule, "sum") {
                    Aggregate::Sum
                } else if is(rule, "min") {
                    Aggregate::Min
                } else if is(rule, "max") {
                    Aggregate::Max
                } else {
                    return Err(CommandError::Syntax);
                };
                at += 2;
            } else if target == Target::Reply && is(option, "withscores") {
                parsed.scores = WithScores::Yes;
                at += 1;
            } else if target == Target::Count && behind >= 1 && is(option, "limit") {
                let text = "ERR LIMIT can't be negative";
                parsed.limit = parse::at_least(0, options.at(at + 1), text)?;
                at += 2;
            } else {
                return Err(CommandError::Syntax);
            }
        }
        Ok(parsed)
    }
}

/// What a key holds, and the weight of its scores.
#[derive(Clone, Copy)]
struct Source<'a> {
    held: Held<'a>,
    weight: f64,
}

#[derive(Clone, Copy)]
enum Held<'a> {
    Nothing,
    Set(&'a Set),
    ZSet(&'a ZSet),
}

impl<'a> Held<'a> {
    fn of(value: Option<&'a Value>) -> Result<Held<'a>, CommandError> {
        match value {
            None => Ok(Held::Nothing),
            Some(value) => ZSet::of(value)
                .map(Held::ZSet)
                .or_else(|| Set::of(value).map(Held::Set))
                .ok_or(CommandError::WrongType),
        }
    }

    fn len(self) -> usize {
        match self {
            Held::Nothing => 0,
            Held::Set(set) => set.len(),
            Held::ZSet(zset) => zset.len(),
        }
    }

    fn score(self, member: &[u8]) -> Option<f64> {
        match self {
            Held::Nothing => None,
            Held::Set(set) => set.contains(member).then_some(1.0),
            Held::ZSet(zset) => zset.score(member),
        }
    }

    fn entries(self) -> Box<dyn Iterator<Item = (Name<'a>, f64)> + 'a> {
        match self {
            Held::Nothing => Box::new(std::iter::empty()),
            Held::Set(set) => Box::new(set.iter().map(|member| {
                let name = match member {
                    Member::Bytes(bytes) => Cow::Borrowed(bytes),
                    Member::Int(_) => Cow::Owned(member.to_vec()),
                };
                (name, 1.0)
            })),
            Held::ZSet(zset) => Box::new(
                zset.iter()
                    .map(|(member, score)| (Cow::Borrowed(member), score)),
            ),
        }
    }
}

pub(super) fn zunion(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    combine(cx, args, "zunion", Operation::Union, Target::Reply)
}

pub(super) fn zunionstore(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    combine(cx, args, "zunionstore", Operation::Union, Target::Store)
}

pub(super) fn zinter(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    combine(cx, args, "zinter", Operation::Intersection, Target::Reply)
}

pub(super) fn zinterstore(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    combine(
        cx,
        args,
        "zinterstore",
        Operation::Intersection,
        Target::Store,
    )
}

pub(super) fn zintercard(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    combine(
        cx,
        args,
        "zintercard",
        Operation::Intersection,
        Target::Count,
    )
}

pub(super) fn zdiff(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    combine(cx, args, "zdiff", Operation::Difference, Target::Reply)
}

pub(super) fn zdiffstore(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    combine(cx, args, "zdiffstore", Operation::Difference, Target::Store)
}

fn combine(
    cx: &mut Cx<'_>,
    args: Args<'_>,
    name: &str,
    operation: Operation,
    target: Target,
) -> CommandResult {
    let number_at = if target == Target::Store { 2 } else { 1 };
    let number = integer(args.at(number_at))?;
    let keys = usize::try_from(number).ok().filter(|keys| *keys > 0);
    let keys = keys.ok_or_else(|| {
        parse::detailed(format!(
            "ERR at least 1 input key is needed for '{name}' command"
        ))
    })?;
    let behind = args.from(number_at + 1);
    if keys > behind.len() {
        return Err(CommandError::Syntax);
    }
    // A command that stores must not only pass over what has expired: its effect, which may be
    // executed before anybody has removed that, is the command itself.
    let mut is_there = Vec::with_capacity(keys);
    let db = cx.db;
    for key in behind.iter().take(keys).map(Key::new) {
        let value = match target {
            Target::Store if cx.is_source_there(key) => cx.peek(db, key),
            Target::Store => None,
            Target::Reply | Target::Count => cx.read(key),
        };
        // One that holds something else is the last that is looked up.
        Held::of(value)?;
        is_there.push(value.is_some());
    }
    let mut sources = Vec::with_capacity(keys);
    for (key, is_there) in behind.iter().map(Key::new).zip(is_there) {
        let value = cx.shards.peek(cx.db, key).filter(|_| is_there);
        sources.push(Source {
            held: Held::of(value)?,
            weight: 1.0,
        });
    }
    let options = Options::parse(behind.from(keys), keys, operation, target)?;
    for (source, weight) in sources.iter_mut().zip(&options.weights) {
        source.weight = *weight;
    }
    if operation != Operation::Difference {
        sources.sort_by_key(|source| source.held.len());
    }
    let mut result = match operation {
        Operation::Union => union(&sources, options.aggregate),
        Operation::Intersection => {
            let found = intersection(&sources, options.aggregate);
            if target == Target::Count {
                let count = match options.limit {
                    0 => found.count(),
                    limit => found.take(limit).count(),
                };
                cx.reply.count(count);
                return Ok(());
            }
            found.collect()
        }
        Operation::Difference => difference(&sources),
    };
    result.sort_unstable_by(|(a, a_score), (b, b_score)| {
        let scores = a_score.partial_cmp(b_score).unwrap_or(Ordering::Equal);
        scores.then_with(|| a.cmp(b))
    });
    if target == Target::Store {
        let limits = cx.limits.zset_pack();
        let mut zset = ZSet::default();
        for (member, score) in &result {
            zset.push(member, *score, limits);
        }
        let event = match operation {
            Operation::Union => "zunionstore",
            Operation::Intersection => "zinterstore",
            Operation::Difference => "zdiffstore",
        };
        store(cx, Key::new(args.at(1)), zset, args, event);
    } else {
        let entries = result.iter().map(|(member, score)| (&**member, *score));
        write_entries(&mut cx.reply, entries, options.scores);
    }
    Ok(())
}

fn union<'a>(sources: &[Source<'a>], aggregate: Aggregate) -> Vec<(Name<'a>, f64)> {
    if let [source] = sources {
        let entries = source.held.entries();
        return entries
            .map(|(member, score)| (member, not_nan(source.weight * score)))
            .collect();
    }
    let largest = sources.last().map_or(0, |source| source.held.len());
    let mut joined: HashMap<Name<'a>, f64> = HashMap::with_capacity(largest);
    for source in sources {
        for (member, score) in source.held.entries() {
            let score = not_nan(source.weight * score);
            joined
                .entry(member)
                .and_modify(|there| *there = aggregate.join(*there, score))
                .or_insert(score);
        }
    }
    joined.into_iter().collect()
}

/// What all sources have, found by going through the first, which is the smallest.
fn intersection<'a, 's>(
    sources: &'s [Source<'a>],
    aggregate: Aggregate,
) -> impl Iterator<Item = (Name<'a>, f64)> + 's
where
    'a: 's,
{
    let (first, others) = sources.split_at(1);
    let first = first[0];
    first.held.entries().filter_map(move |(member, score)| {
        let mut score = not_nan(first.weight * score);
        for other in others {
            let value = other.held.score(&member)? * other.weight;
            score = aggregate.join(score, value);
        }
        Some((member, score))
    })
}

/// What the first source has and no other.
fn difference<'a>(sources: &[Source<'a>]) -> Vec<(Name<'a>, f64)> {
    let (first, others) = sources.split_at(1);
    let is_only_there = |(member, _): &(Name<'a>, f64)| {
        others
            .iter()
            .all(|other| other.held.score(member).is_none())
    };
    first[0].held.entries().filter(is_only_there).collect()
}
