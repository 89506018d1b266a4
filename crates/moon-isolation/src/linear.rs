//! Whether one serial order explains a history: a search for linearization points.
//!
//! The method is that of Wing and Gong ("Testing and verifying concurrent objects", 1993) in the form
//! of Lowe's just-in-time linearization ("Testing for linearizability", 2017), which tries a call
//! only when a return needs it, with the memo of configurations that Horn and Kroening describe
//! ("Faster linearizability checking via P-compositionality", 2015), here over whole keyspaces.
//!
//! Invocations and returns are walked in time order. A *configuration* is a keyspace and the set of
//! calls in flight that have happened already. An invocation puts its call in flight. When a call
//! returns, it must have happened: from each configuration in which it has not, every order of calls
//! in flight that ends with it and agrees with their answers makes a new configuration. If none is
//! left, no serial order explains the history. A call whose server died before it answered may have
//! happened until then, or not at all.
//!
//! The search visits a bounded number of configurations. Beyond that nothing is decided, and that is
//! said, never counted as right.

use crate::history::Record;
use crate::model::Keyspace;
use std::collections::HashSet;

/// Calls in flight at one time, at most: bits of a set.
const IN_FLIGHT_MAX: usize = 64;

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There is a serial order. It leaves behind one of these keyspaces.
    Explained(HashSet<Keyspace>),
    /// The search was given up at its bound.
    NotDecided,
    /// No serial order agrees with the answers up to and including that of this record, by its
    /// position.
    Violated(usize),
}

/// Searches for a serial order of `records` that begins with one of `initial` and visits at most
/// `configurations_max` configurations per return.
#[must_use]
pub fn check(
    initial: &HashSet<Keyspace>,
    records: &[Record],
    configurations_max: usize,
) -> Verdict {
    let mut search = Search {
        records,
        slots: vec![None; IN_FLIGHT_MAX],
        slot_of: vec![None; records.len()],
        configurations: initial
            .iter()
            .map(|keys| Configuration {
                happened: 0,
                keys: keys.clone(),
            })
            .collect(),
        configurations_max,
    };
    for event in events(records) {
        let is_decided = match event.kind {
            EventKind::Invoked => search.invoke(event.record),
            EventKind::Returned => search.settle(event.record),
        };
        if !is_decided {
            return Verdict::NotDecided;
        }
        if search.configurations.is_empty() {
            return Verdict::Violated(event.record);
        }
    }
    let keyspaces = search.configurations.into_iter().map(|c| c.keys);
    Verdict::Explained(keyspaces.collect())
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum EventKind {
    // At the same moment invocations come first: then the calls overlap, and nothing is asked of
    // their order.
    Invoked,
    Returned,
}

struct Event {
    at: u64,
    kind: EventKind,
    record: usize,
}

fn events(records: &[Record]) -> Vec<Event> {
    let mut events: Vec<Event> = (0..records.len())
        .flat_map(|record| {
            let event = |at, kind| Event { at, kind, record };
            [
                event(records[record].invoked, EventKind::Invoked),
                event(records[record].returned, EventKind::Returned),
            ]
        })
        .collect();
    events.sort_by_key(|event| (event.at, event.kind, event.record));
    events
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Configuration {
    /// One bit per slot: the call in flight there has happened.
    happened: u64,
    keys: Keyspace,
}

struct Search<'a> {
    records: &'a [Record],
    /// Which record is in flight in which slot.
    slots: Vec<Option<usize>>,
    /// The slot of each record in flight.
    slot_of: Vec<Option<usize>>,
    configurations: HashSet<Configuration>,
    configurations_max: usize,
}

impl Search<'_> {
    /// Puts a call in flight; false if there are too many.
    fn invoke(&mut self, record: usize) -> bool {
        let Some(slot) = self.slots.iter().position(Option::is_none) else {
            return false;
        };
        self.slots[slot] = Some(record);
        self.slot_of[record] = Some(slot);
        true
    }

    /// A call is over; false if the bound is reached.
    fn settle(&mut self, record: usize) -> bool {
        let Some(slot) = self.slot_of[record] else {
            return false;
        };
        let bit = 1 << slot;
        let is_answered = self.records[record].answer.is_some();
        let mut settled = HashSet::new();
        let mut open = Vec::new();
        let mut visited = HashSet::new();
        for configuration in std::mem::take(&mut self.configurations) {
            if configuration.happened & bit != 0 {
                settled.insert(without(configuration, bit));
            } else {
                if !is_answered {
                    settled.insert(configuration.clone());
                }
                visited.insert(configuration.clone());
                open.push(configuration);
            }
        }
        while let Some(configuration) = open.pop() {
            if visited.len() + settled.len() > self.configurations_max {
                return false;
            }
            for (other, next) in self.slots.iter().enumerate() {
                let Some(next) = *next else { continue };
                let next_bit = 1 << other;
                if configuration.happened & next_bit != 0 || !self.may_happen(next, &configuration)
                {
                    continue;
                }
                let call = &self.records[next];
                for keys in call
                    .call
                    .outcomes(&configuration.keys, call.answer.as_ref())
                {
                    let after = Configuration {
                        happened: configuration.happened | next_bit,
                        keys,
                    };
                    if other == slot {
                        settled.insert(without(after, bit));
                    } else if visited.insert(after.clone()) {
                        open.push(after);
                    }
                }
            }
        }
        self.slots[slot] = None;
        self.slot_of[record] = None;
        self.configurations = settled;
        true
    }

    /// Whether everything has happened that comes before `record` in its own pipeline.
    fn may_happen(&self, record: usize, configuration: &Configuration) -> bool {
        self.records[record].after.iter().all(|earlier| {
            // What is not in flight any more is over.
            self.slot_of[*earlier].is_none_or(|slot| configuration.happened & (1 << slot) != 0)
        })
    }
}

fn without(configuration: Configuration, bit: u64) -> Configuration {
    Configuration {
        happened: configuration.happened & !bit,
        keys: configuration.keys,
    }
}

#[cfg(test)]
#[path = "linear_tests.rs"]
pub(crate) mod tests;
