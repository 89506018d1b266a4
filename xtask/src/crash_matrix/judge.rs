//! What was recovered against what was promised, over all connections of a load.
//!
//! Each connection is verified on its own by [`moon_harness::verify`]. Where acknowledged
//! operations may be gone, the connections are compared with each other as well: what was
//! acknowledged before something else was even sent comes before it in the one history, so it
//! cannot be gone while the other is there. This shows a hole across shards and connections.

use moon_harness::fields::{expire, pass};
use moon_harness::load::{Acked, Seen, Writer};
use moon_harness::model::{DbKey, State};
use moon_harness::op::Op;
use moon_harness::shared::{SeenEntry, Written, verify_history};
use moon_harness::verify::{Fault, Order, Promise, Survivors, Violation, verify};
use moon_harness::workload::{Workload, shared_counter, shared_list};
use std::collections::HashMap;
use std::time::Instant;

/// What has to be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// Everything acknowledged, and whatever a reader saw.
    Acknowledged,
    /// Everything acknowledged before this moment; of what came later, any prefix.
    AcknowledgedBefore(Instant),
    /// Any prefix.
    Prefix,
}

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    /// Operations that might have been gone and are there.
    pub(crate) kept: usize,
    /// Operations that might have been gone and are.
    pub(crate) dropped: usize,
    /// Acknowledged operations among those that are gone, at least.
    pub(crate) acknowledged_gone: usize,
    /// When the first of them was acknowledged.
    pub(crate) first_gone: Option<Instant>,
    /// Where a promise was broken, and how.
    pub(crate) violations: Vec<(String, Violation)>,
}

impl Verdict {
    fn violated(&mut self, context: &str, violations: impl IntoIterator<Item = Violation>) {
        let with_context = violations.into_iter().map(|v| (context.to_owned(), v));
        self.violations.extend(with_context);
    }
}

/// Compares the keyspace `observed` after a recovery with what `writers` were promised and
/// readers have `seen`, and lets the writers go on from what was found. Every deadline that came
/// during the run has passed before the keyspace was read.
pub(crate) fn judge(
    writers: &mut [Writer],
    workload: Workload,
    order: Order,
    rule: Rule,
    observed: State,
    seen: Seen,
) -> Verdict {
    let mut verdict = Verdict::default();
    verdict.violated("reader", seen.violations);
    let (owned, shared) = by_owner(observed, writers.len());
    // What a reader saw may be gone where acknowledged writes may.
    let (seen_values, seen_entries) = match rule {
        Rule::Acknowledged => (seen.values, seen.entries),
        _ => Default::default(),
    };
    let (seen_values, _) = by_owner(seen_values, writers.len());
    judge_shared(
        writers,
        workload,
        rule,
        &shared,
        &seen_entries,
        &mut verdict,
    );
    let mut times = Vec::new();
    for ((writer, observed), seen) in writers.iter_mut().zip(owned).zip(&seen_values) {
        let connection = writer.generator.connection();
        let context = format!("connection {connection}");
        verdict.violated(&context, std::mem::take(&mut writer.violations));
        let now_ms = writer.generator.last_deadline_ms();
        let (mut base, acked) = promised(writer, rule);
        expire(&mut base, now_ms);
        let tail: Vec<Op> = acked
            .iter()
            .map(|acked| acked.op.clone())
            .chain(writer.tail.iter().cloned())
            .map(|op| pass(op, now_ms))
            .collect();
        let promise = Promise {
            base: &base,
            tail: &tail,
            seen,
            order,
        };
        match verify(&promise, &observed) {
            Ok(survivors) => {
                verdict.kept += survivors.kept;
                verdict.dropped += survivors.dropped;
                verdict.acknowledged_gone += acked.len().saturating_sub(survivors.kept);
                times.push(Edge::new(connection, survivors, acked, writer));
            }
            Err(violations) => verdict.violated(&context, violations),
        }
        let records = last_record(&observed);
        writer.acked_records = records;
        writer.generator.set_records(records);
        writer.settle(observed);
    }
    verdict.first_gone = times.iter().filter_map(|edge| edge.gone).min();
    verdict.violated("history", hole(&times));
    verdict
}

/// Splits what belongs to keys by the connection that owns the key; the rest is shared.
fn by_owner<T>(
    all: impl IntoIterator<Item = (DbKey, T)>,
    owners: usize,
) -> (Vec<HashMap<DbKey, T>>, HashMap<DbKey, T>) {
    let mut owned: Vec<HashMap<DbKey, T>> = (0..owners).map(|_| HashMap::new()).collect();
    let mut shared = HashMap::new();
    for (key, value) in all {
        let owner = key.owner().and_then(|owner| owned.get_mut(owner));
        owner.unwrap_or(&mut shared).insert(key, value);
    }
    (owned, shared)
}

/// The state that must be there at least, and the acknowledged operations behind it.
fn promised(writer: &Writer, rule: Rule) -> (State, &[Acked]) {
    let (Some(times), false) = (&writer.times, rule == Rule::Acknowledged) else {
        return (writer.state.clone(), &[]);
    };
    let (must, may) = times.acked.split_at(required(&times.acked, rule));
    let mut base = times.base.clone();
    for acked in must {
        acked.op.apply(&mut base);
    }
    (base, may)
}

/// How many of the acknowledged operations, the first ones, must be there.
fn required(acked: &[Acked], rule: Rule) -> usize {
    match rule {
        Rule::Acknowledged => acked.len(),
        Rule::AcknowledgedBefore(moment) => acked.partition_point(|a| a.acked < moment),
        Rule::Prefix => 0,
    }
}

/// Where what is there ends on one connection, in time.
struct Edge {
    connection: usize,
    /// When the last operation that is there was sent.
    there: Option<Instant>,
    /// When the first operation that is not there was acknowledged.
    gone: Option<Instant>,
}

impl Edge {
    fn new(connection: usize, survivors: Survivors, acked: &[Acked], writer: &Writer) -> Edge {
        let sent = |index: usize| match index.checked_sub(acked.len()) {
            None => Some(acked[index].sent),
            Some(index) => writer.tail_sent.get(index).copied(),
        };
        Edge {
            connection,
            there: survivors.last_certainly_kept.and_then(sent),
            gone: survivors
                .first_certainly_dropped
                .and_then(|index| Some(acked.get(index)?.acked)),
        }
    }
}

/// An operation that is gone although it was acknowledged before one was sent that is there.
fn hole(edges: &[Edge]) -> Option<Violation> {
    let gone = edges
        .iter()
        .filter(|e| e.gone.is_some())
        .min_by_key(|e| e.gone)?;
    let there = edges
        .iter()
        .filter(|e| e.there.is_some())
        .max_by_key(|e| e.there)?;
    let later = there.there?.checked_duration_since(gone.gone?)?;
    (!later.is_zero()).then(|| {
        Violation::new(
            Fault::Hole,
            format!(
                "an operation of connection {} was acknowledged and is gone; one of connection {} \
                 was sent {later:?} later and is there",
                gone.connection, there.connection
            ),
        )
    })
}

fn judge_shared(
    writers: &[Writer],
    workload: Workload,
    rule: Rule,
    shared: &State,
    seen: &[SeenEntry],
    verdict: &mut Verdict,
) {
    let strangers = shared
        .keys()
        .filter(|key| **key != shared_counter() && **key != shared_list())
        .map(|key| Violation::new(Fault::Invented, format!("{key}, which nobody writes")));
    verdict.violated("keyspace", strangers);
    if workload != Workload::History {
        return;
    }
    let written: Vec<Written> = writers
        .iter()
        .map(|writer| {
            let acked = writer.times.as_ref().map_or(&[][..], |t| &t.acked);
            let may = &acked[required(acked, rule)..];
            let records = may.iter().filter(|a| matches!(a.op, Op::Record(_))).count();
            Written {
                acked: writer.acked_records - records as u64,
                sent: writer.generator.records(),
            }
        })
        .collect();
    if let Err(violations) = verify_history(shared, &written, seen) {
        verdict.violated("shared history", violations);
    }
}

/// The number that the connection noted with its last entry of the shared history.
fn last_record(state: &State) -> u64 {
    let noted = state.iter().find(|(key, _)| key.key.ends_with(b":last"));
    noted.map_or(0, |(_, entry)| entry.value.progress())
}

#[cfg(test)]
mod tests {
    use super::*;
    use moon_core::shard::ShardCount;
    use moon_harness::PipelineOrder;
    use moon_harness::model::Entry;
    use moon_harness::workload::Generator;
    use std::time::Duration;

    fn key(connection: usize) -> DbKey {
        DbKey::new(0, format!("c{connection}:s"))
    }

    /// Two connections; each acknowledged one write, the second one's sent after the first one's
    /// reply.
    fn writers(begun: Instant) -> Vec<Writer> {
        (0..2)
            .map(|connection: usize| {
                let generator = Generator::new(Workload::Strings, connection, 1);
                let mut writer = Writer::with_times(generator);
                let op = Op::Set(key(connection), b"0:1".to_vec(), None);
                op.apply(&mut writer.state);
                let at = |ms| begun + Duration::from_millis(ms + 10 * connection as u64);
                let times = writer.times.as_mut().expect("kept");
                times.acked.push(Acked {
                    op,
                    sent: at(0),
                    acked: at(5),
                });
                writer
            })
            .collect()
    }

    fn faults(rule: impl Fn(Instant) -> Rule, there: &[usize]) -> Vec<Fault> {
        let begun = Instant::now();
        let observed = there.iter().map(|c| (key(*c), Entry::string("0:1")));
        let order = Order {
            shards: ShardCount::new(2).expect("two"),
            pipeline: PipelineOrder::Relaxed,
        };
        let verdict = judge(
            &mut writers(begun),
            Workload::Strings,
            order,
            rule(begun),
            observed.collect(),
            Seen::default(),
        );
        verdict.violations.iter().map(|(_, v)| v.fault).collect()
    }

    /// Scenario 43.
    #[test]
    fn without_a_promise_any_prefix_of_the_one_history_is_accepted() {
        let prefix = |there: &[usize]| faults(|_| Rule::Prefix, there);
        assert_eq!(prefix(&[]), []);
        assert_eq!(prefix(&[0]), []);
        assert_eq!(prefix(&[0, 1]), []);
        assert_eq!(
            prefix(&[1]),
            [Fault::Hole],
            "acknowledged before it was sent"
        );
    }

    #[test]
    fn what_was_acknowledged_early_enough_must_be_there() {
        let rule = |begun: Instant| Rule::AcknowledgedBefore(begun + Duration::from_millis(8));
        assert_eq!(faults(rule, &[0]), []);
        assert_eq!(faults(rule, &[]), [Fault::Lost]);
    }

    #[test]
    fn with_the_full_promise_everything_acknowledged_must_be_there() {
        assert_eq!(faults(|_| Rule::Acknowledged, &[0]), [Fault::Lost]);
        assert_eq!(faults(|_| Rule::Acknowledged, &[0, 1]), []);
    }

    /// What a connection that wrote fields with deadlines was found to hold: `change` makes it of
    /// what it wrote and of the time by which all brief deadlines have passed.
    fn faults_of_fields(change: fn(&mut State, u64)) -> Vec<Fault> {
        let mut generator = Generator::new(Workload::Fields, 0, 3);
        generator.set_time(1_700_000_000_000);
        let mut writer = Writer::new(generator);
        for _ in 0..300 {
            let op = writer.generator.next_op();
            op.apply(&mut writer.state);
        }
        let mut observed = writer.state.clone();
        change(&mut observed, writer.generator.last_deadline_ms());
        let order = Order {
            shards: ShardCount::new(2).expect("two"),
            pipeline: PipelineOrder::Relaxed,
        };
        let writers = &mut [writer];
        let seen = Seen::default();
        let verdict = judge(
            writers,
            Workload::Fields,
            order,
            Rule::Acknowledged,
            observed,
            seen,
        );
        verdict.violations.iter().map(|(_, v)| v.fault).collect()
    }

    #[test]
    fn fields_are_gone_after_their_deadline_and_not_before() {
        assert_eq!(faults_of_fields(expire), []);
        let comes_back = faults_of_fields(|_, _| {});
        assert!(!comes_back.is_empty(), "fields are there after their time");
        let forgotten = faults_of_fields(|state, now_ms| {
            expire(state, now_ms);
            let mut entries = state.values_mut();
            let with_deadline = entries.find(|entry| !entry.deadlines.is_empty());
            with_deadline.expect("some are far").deadlines.pop_first();
        });
        assert!(!forgotten.is_empty(), "a deadline is lost");
    }
}
