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
//! The search tries every such set and compares the keyspace exactly. If none explains what was
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
    let mut state = promise.base.clone();
    let mut begin = 0;
    let mut best = None;
    loop {
        let end = (begin..promise.tail.len())
            .find(|&i| is_barrier(&promise.tail[i], promise.order))
            .unwrap_or(promise.tail.len());
        let segment = Segment { begin, end };
        // The longest explanation is taken; a shorter one may exist when writes cancel out.
        if let Some(kept) = segment.survivors(promise, &state, &must, observed) {
            best = Some(begin + kept);
        }
        if end == promise.tail.len() {
            break;
        }
        for op in &promise.tail[begin..=end] {
            op.apply(&mut state);
        }
        begin = end + 1;
    }
    match best {
        Some(kept) => Ok(Survivors {
            kept,
            dropped: promise.tail.len() - kept,
        }),
        None => Err(diagnose(promise, &must, observed)),
    }
}

/// The tail between two barriers: `begin..end`.
struct Segment {
    begin: usize,
    end: usize,
}

impl Segment {
    /// If everything before the segment and a prefix per shard of the segment explain
    /// `observed`: how many operations of the segment are in these prefixes.
    fn survivors(
        &self,
        promise: &Promise<'_>,
        before: &State,
        must: &BTreeSet<usize>,
        observed: &State,
    ) -> Option<usize> {
        if must.range(self.end..).next().is_some() {
            return None;
        }
        let shards = promise.order.shards;
        let mut wrong: HashMap<ShardId, HashSet<DbKey>> = HashMap::new();
        for key in before.keys().chain(observed.keys()) {
            if before.get(key) != observed.get(key) {
                let shard = shards.shard_of_key(&key.key);
                wrong.entry(shard).or_default().insert(key.clone());
            }
        }
        let mut by_shard: BTreeMap<ShardId, Vec<usize>> = BTreeMap::new();
        for index in self.begin..self.end {
            if let Touched::Keys(keys) = promise.tail[index].touched()
                && let Some(key) = keys.first()
            {
                by_shard
                    .entry(shards.shard_of_key(&key.key))
                    .or_default()
                    .push(index);
            }
        }
        let mut kept = 0;
        let mut state = before.clone();
        for (shard, indexes) in by_shard {
            let mut wrong = wrong.remove(&shard).unwrap_or_default();
            let needed = indexes
                .iter()
                .rposition(|i| must.contains(i))
                .map_or(0, |p| p + 1);
            let mut longest = (needed == 0 && wrong.is_empty()).then_some(0);
            for (count, &index) in (1..).zip(&indexes) {
                let op = &promise.tail[index];
                op.apply(&mut state);
                if let Touched::Keys(keys) = op.touched() {
                    for key in keys {
                        if state.get(key) == observed.get(key) {
                            wrong.remove(key);
                        } else {
                            wrong.insert(key.clone());
                        }
                    }
                }
                if wrong.is_empty() && count >= needed {
                    longest = Some(count);
                }
            }
            kept += longest?;
        }
        // What is left are differences on shards that the segment does not touch.
        wrong.values().all(HashSet::is_empty).then_some(kept)
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
