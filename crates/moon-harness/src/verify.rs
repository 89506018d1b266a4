//! Whether the recovered keyspace is what one connection was promised.
//!
//! Given are the state after everything acknowledged (*base*), the operations that were sent and
//! not answered (*tail*), and values that readers saw. The server may have kept any set of tail
//! operations that is closed under the order it guarantees:
//!
//! * operations on the same shard: a prefix;
//! * an operation over several shards is a barrier: if it survived, everything before it did,
//!   and nothing behind it survives without it;
//! * under `pipeline-order strict`, or with one shard, the whole tail is one order;
//! * whatever a reader saw survived.
//!
//! The search tries every such set and compares the keyspace exactly, in one pass over the tail:
//! after a power loss, the tail is everything of the last seconds. If no set explains what was
//! found, [`diagnose`] says what is wrong with which key.

use crate::model::{DbKey, Entry, State};
use crate::op::{Op, Touched};
use crate::server::PipelineOrder;
use moon_core::shard::{ShardCount, ShardId};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;

/// Violations that are listed for one connection; the rest is counted.
const LISTED_MAX: usize = 12;

/// Which operations of a connection the server orders.
#[derive(Clone, Copy, Debug)]
pub struct Order {
    /// Shards of the server.
    pub shards: ShardCount,
    /// Its `pipeline-order`.
    pub pipeline: PipelineOrder,
}

/// What one connection may expect after recovery.
#[derive(Clone, Copy, Debug)]
pub struct Promise<'a> {
    /// Its keys after every acknowledged operation.
    pub base: &'a State,
    /// What was sent and not acknowledged, in order.
    pub tail: &'a [Op],
    /// String values that readers saw at its keys, the last one per key.
    pub seen: &'a HashMap<DbKey, Vec<u8>>,
    /// What is ordered.
    pub order: Order,
}

/// How much of the unacknowledged tail survived.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Survivors {
    /// Tail operations that are there.
    pub kept: usize,
    /// Tail operations that are not.
    pub dropped: usize,
    /// The last tail operation that is there in every explanation of what was found.
    pub last_certainly_kept: Option<usize>,
    /// The first tail operation that is there in none.
    pub first_certainly_dropped: Option<usize>,
}

/// What is wrong with a recovered keyspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Fault {
    /// An acknowledged write is missing.
    Lost,
    /// Something is there that was never written, or more often than it was written.
    Invented,
    /// Part of an atomic operation is there.
    Torn,
    /// A write is missing although a later one of the same order survived.
    Hole,
    /// A value that a reader was shown is gone.
    SeenGone,
    /// The running server answered what it must not answer.
    Reply,
}

/// One violation.
#[derive(Clone, Debug)]
pub struct Violation {
    /// Its kind.
    pub fault: Fault,
    /// What was expected and what was found.
    pub detail: String,
}

impl Violation {
    /// A violation of kind `fault`.
    #[must_use]
    pub fn new(fault: Fault, detail: impl Into<String>) -> Self {
        Violation {
            fault,
            detail: detail.into(),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.fault, self.detail)
    }
}

/// Compares `observed`, the connection's keys after recovery, with its promise.
///
/// # Errors
/// The violations, at least one, if no admissible set of survivors explains `observed`.
pub fn verify(promise: &Promise<'_>, observed: &State) -> Result<Survivors, Vec<Violation>> {
    let must = operations_seen(promise);
    let mut replay = Replay::new(promise, observed);
    let mut shortest: Option<Explanation> = None;
    let mut longest: Option<Explanation> = None;
    let mut begin = 0;
    loop {
        let end = (begin..promise.tail.len())
            .find(|&i| is_barrier(&promise.tail[i], promise.order))
            .unwrap_or(promise.tail.len());
        if let Some(explanation) = replay.segment(begin, end, &must) {
            shortest.get_or_insert_with(|| explanation.clone());
            // The longest explanation is taken; a shorter one may exist when writes cancel out.
            longest = Some(explanation);
        }
        if end == promise.tail.len() {
            break;
        }
        replay.apply(end);
        begin = end + 1;
    }
    let (Some(shortest), Some(longest)) = (shortest, longest) else {
        return Err(diagnose(promise, &must, observed));
    };
    let kept = longest.kept_max();
    Ok(Survivors {
        kept,
        dropped: promise.tail.len() - kept,
        last_certainly_kept: shortest.last_certainly_kept(),
        first_certainly_dropped: longest.first_certainly_dropped(promise.tail.len()),
    })
}

/// A way to explain what was found: everything before a segment of the tail, and a prefix per
/// shard of the segment.
#[derive(Clone)]
struct Explanation {
    /// The segment is `begin..end`; what stands at `end` is a barrier.
    begin: usize,
    end: usize,
    /// By shard.
    lanes: Vec<Lane>,
}

/// The operations of one segment on one shard.
#[derive(Clone, Default)]
struct Lane {
    operations: Vec<usize>,
    /// The counts of operations, ascending, after which the shard holds what was found.
    counts: Vec<usize>,
}

impl Explanation {
    fn kept_max(&self) -> usize {
        let in_lanes = self.lanes.iter().filter_map(|lane| lane.counts.last());
        self.begin + in_lanes.sum::<usize>()
    }

    fn last_certainly_kept(&self) -> Option<usize> {
        let in_lanes = self.lanes.iter().filter_map(|lane| {
            let count = *lane.counts.first()?;
            lane.operations.get(count.checked_sub(1)?).copied()
        });
        in_lanes.chain(self.begin.checked_sub(1)).max()
    }

    fn first_certainly_dropped(&self, tail_len: usize) -> Option<usize> {
        let in_lanes = self.lanes.iter().filter_map(|lane| {
            let count = *lane.counts.last()?;
            lane.operations.get(count).copied()
        });
        let barrier = (self.end < tail_len).then_some(self.end);
        in_lanes.chain(barrier).min()
    }
}

/// The model on its way through the tail, with the keys that differ from what was found.
struct Replay<'a> {
    promise: &'a Promise<'a>,
    observed: &'a State,
    state: State,
    /// By shard; shards without a difference are absent.
    wrong: BTreeMap<ShardId, HashSet<DbKey>>,
}

impl<'a> Replay<'a> {
    fn new(promise: &'a Promise<'a>, observed: &'a State) -> Self {
        let mut replay = Replay {
            promise,
            observed,
            state: promise.base.clone(),
            wrong: BTreeMap::new(),
        };
        replay.compare_all();
        replay
    }

    fn shard(&self, key: &DbKey) -> ShardId {
        self.promise.order.shards.shard_of_key(&key.key)
    }

    /// Applies one operation of the tail.
    fn apply(&mut self, index: usize) {
        let op = &self.promise.tail[index];
        op.apply(&mut self.state);
        match op.touched() {
            Touched::Keys(keys) => keys.into_iter().for_each(|key| self.compare(key)),
            Touched::Databases(_) => self.compare_all(),
        }
    }

    fn compare(&mut self, key: &DbKey) {
        let shard = self.shard(key);
        if self.state.get(key) != self.observed.get(key) {
            self.wrong.entry(shard).or_default().insert(key.clone());
        } else if let Some(keys) = self.wrong.get_mut(&shard)
            && keys.remove(key)
            && keys.is_empty()
        {
            self.wrong.remove(&shard);
        }
    }

    fn compare_all(&mut self) {
        self.wrong.clear();
        let keys: HashSet<DbKey> = self
            .state
            .keys()
            .chain(self.observed.keys())
            .cloned()
            .collect();
        keys.iter().for_each(|key| self.compare(key));
    }

    /// Applies the operations `begin..end`, each of them on one shard, and returns the
    /// explanation that ends among them, if there is one.
    fn segment(&mut self, begin: usize, end: usize, must: &BTreeSet<usize>) -> Option<Explanation> {
        let mut lanes: BTreeMap<ShardId, Lane> = BTreeMap::new();
        // A shard that the segment does not touch must hold what was found already.
        let mut unexplained: BTreeSet<ShardId> = self.wrong.keys().copied().collect();
        for index in begin..end {
            let Touched::Keys(keys) = self.promise.tail[index].touched() else {
                continue;
            };
            let Some(shard) = keys.first().map(|key| self.shard(key)) else {
                continue;
            };
            let is_right_before = !self.wrong.contains_key(&shard);
            let lane = lanes.entry(shard).or_insert_with(|| Lane {
                operations: Vec::new(),
                counts: is_right_before.then_some(0).into_iter().collect(),
            });
            if must.contains(&index) {
                lane.counts.clear();
            }
            lane.operations.push(index);
            let count = lane.operations.len();
            unexplained.remove(&shard);
            self.apply(index);
            if !self.wrong.contains_key(&shard)
                && let Some(lane) = lanes.get_mut(&shard)
            {
                lane.counts.push(count);
            }
        }
        let is_explained = unexplained.is_empty()
            && lanes.values().all(|lane| !lane.counts.is_empty())
            && must.range(end..).next().is_none();
        is_explained.then(|| Explanation {
            begin,
            end,
            lanes: lanes.into_values().collect(),
        })
    }
}

/// Whether everything earlier of the connection is ordered before `op`, and everything later
/// behind it.
fn is_barrier(op: &Op, order: Order) -> bool {
    if order.pipeline == PipelineOrder::Strict || order.shards == ShardCount::ONE {
        return true;
    }
    match op.touched() {
        Touched::Databases(_) => true,
        Touched::Keys(keys) => {
            let mut shards = keys.iter().map(|k| order.shards.shard_of_key(&k.key));
            let first = shards.next();
            shards.any(|shard| Some(shard) != first)
        }
    }
}

/// Tail operations whose result a reader saw. Values are written once, so the first operation
/// that makes one is the operation it came from.
fn operations_seen(promise: &Promise<'_>) -> BTreeSet<usize> {
    let is_seen = |state: &State, key: &DbKey, value: &Vec<u8>| matches!(state.get(key), Some(Entry { value: crate::model::Value::Str(v), .. }) if v == value);
    let mut open: Vec<_> = promise
        .seen
        .iter()
        .filter(|(key, value)| !is_seen(promise.base, key, value))
        .collect();
    let mut must = BTreeSet::new();
    if open.is_empty() {
        return must;
    }
    let mut state = promise.base.clone();
    for (index, op) in promise.tail.iter().enumerate() {
        op.apply(&mut state);
        open.retain(|(key, value)| {
            let found = is_seen(&state, key, value);
            if found {
                must.insert(index);
            }
            !found
        });
    }
    must
}

/// What a key holds after `ops` operations of the tail, until the next entry.
type Chain = Vec<(usize, Option<Entry>)>;

/// Names what is wrong when no admissible set of survivors explains `observed`.
fn diagnose(promise: &Promise<'_>, must: &BTreeSet<usize>, observed: &State) -> Vec<Violation> {
    let chains = chains(promise, observed);
    let mut violations = Vec::new();
    // For each key whose value the tail explains: the first and last count of operations at
    // which it held this value.
    let mut explained: BTreeMap<&DbKey, (usize, usize)> = BTreeMap::new();
    for (key, chain) in &chains {
        let found = observed.get(key);
        let mut span: Option<(usize, usize)> = None;
        for (position, (from, entry)) in chain.iter().enumerate() {
            if entry.as_ref() == found {
                let to = chain
                    .get(position + 1)
                    .map_or(promise.tail.len(), |next| next.0 - 1);
                span = Some((span.map_or(*from, |s| s.0), to));
            }
        }
        if let Some(span) = span {
            explained.insert(key, span);
            continue;
        }
        let base = promise.base.get(key);
        let older = match (base, found) {
            (Some(_), None) => true,
            (Some(base), Some(found)) => found.value.progress() < base.value.progress(),
            (None, _) => false,
        };
        let fault = if older { Fault::Lost } else { Fault::Invented };
        let show = |entry: Option<&Entry>| entry.map_or("nothing".into(), |e| format!("{e:?}"));
        violations.push(Violation::new(
            fault,
            format!(
                "{key} holds {}, acknowledged was {}, {} later writes were unanswered",
                show(found),
                show(base),
                chain.len() - 1
            ),
        ));
    }
    for (index, op) in promise.tail.iter().enumerate() {
        let Touched::Keys(keys) = op.touched() else {
            continue;
        };
        let spans = || {
            keys.iter()
                .filter_map(|k| explained.get(k).map(|span| (k, span)))
        };
        let absent = spans().find(|(_, span)| span.1 <= index);
        let present = spans().find(|(_, span)| span.0 > index);
        if let (Some((absent, _)), Some((present, _))) = (absent, present) {
            violations.push(Violation::new(
                Fault::Torn,
                format!("unanswered operation {index}: {present} is there, {absent} is not"),
            ));
        }
        if must.contains(&index)
            && let Some((key, _)) = absent
        {
            violations.push(Violation::new(
                Fault::SeenGone,
                format!("a reader saw operation {index} at {key}, and it is gone"),
            ));
        }
    }
    if violations.is_empty() {
        let gaps: Vec<String> = explained
            .iter()
            .filter(|(key, _)| chains.get(**key).is_some_and(|c| c.len() > 1))
            .map(|(key, (from, to))| format!("{key} as after {from}..={to}"))
            .take(LISTED_MAX)
            .collect();
        violations.push(Violation::new(
            Fault::Hole,
            format!(
                "no order-closed part of {} unanswered operations explains: {}",
                promise.tail.len(),
                gaps.join(", ")
            ),
        ));
    }
    if violations.len() > LISTED_MAX {
        let more = violations.len() - LISTED_MAX;
        let fault = violations[LISTED_MAX].fault;
        violations.truncate(LISTED_MAX);
        violations.push(Violation::new(fault, format!("and {more} more")));
    }
    violations
}

fn chains(promise: &Promise<'_>, observed: &State) -> BTreeMap<DbKey, Chain> {
    let mut chains: BTreeMap<DbKey, Chain> = promise
        .base
        .keys()
        .chain(observed.keys())
        .map(|key| (key.clone(), vec![(0, promise.base.get(key).cloned())]))
        .collect();
    let mut state = promise.base.clone();
    for (index, op) in promise.tail.iter().enumerate() {
        op.apply(&mut state);
        for key in state.keys() {
            if !chains.contains_key(key) {
                chains.insert(key.clone(), vec![(0, None)]);
            }
        }
        for (key, chain) in &mut chains {
            let now = state.get(key);
            if chain.last().is_some_and(|(_, entry)| entry.as_ref() != now) {
                chain.push((index + 1, now.cloned()));
            }
        }
    }
    chains
}

#[cfg(test)]
#[path = "verify_tests.rs"]
mod tests;
