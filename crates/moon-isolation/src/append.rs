//! Lists to which transactions append numbers that nobody appends twice.
//!
//! Such a history decides itself: the final lists are the order of all writes, every read shows a
//! prefix of them, and both say which transaction came before which. This is how Elle infers what a
//! database did (Kingsbury and Alvaro, "Elle: Inferring Isolation Anomalies from Experimental
//! Observations", 2020). It takes no search, so a history may be as long as memory allows.

use crate::command::{Answer, Command, Key, Side};
use crate::finding::{Anomaly, Finding};
use crate::graph::Graph;
use crate::history::{Call, Record};
use crate::model::{Keyspace, Value};
use std::collections::HashMap;

/// Findings that are listed; what is wrong once is often wrong everywhere.
const LISTED_MAX: usize = 5;

/// Judges `records`, which run between two moments at which all lists were read. They append with
/// `RPUSH` and read with `LRANGE`, by themselves, in transactions or in scripts.
#[must_use]
pub fn check(
    lists: &[Key],
    before: &Keyspace,
    after: &Keyspace,
    records: &[Record],
) -> Vec<Finding> {
    let steps: Vec<Vec<Step>> = records.iter().map(steps).collect();
    let mut order = Order::new(lists, before, after);
    let mut findings = order.find_writers(records, &steps);
    for (record, steps) in records.iter().zip(&steps) {
        findings.extend(order.check_steps(record, steps));
        findings.extend(order.check_whole(record, steps));
    }
    if findings.is_empty() {
        findings.extend(order.check_circles(records, &steps));
    }
    findings.truncate(LISTED_MAX);
    findings
}

/// What one command of a transaction did to a list.
enum Step {
    /// Appended a number, and what length that made, if it was answered.
    Append(Key, i64, Option<i64>),
    /// Saw the list.
    Read(Key, Vec<i64>),
}

fn steps(record: &Record) -> Vec<Step> {
    let commands = record.call.commands();
    let mut pairs: Vec<(&Command, Option<&Answer>)> = Vec::new();
    match (&record.call, &record.answer) {
        (_, None) => pairs.extend(commands.iter().map(|c| (c, None))),
        (Call::One(command), Some(answer)) => pairs.push((command, Some(answer))),
        (call, Some(Answer::All(answers))) => {
            if let Call::Watched { guard, .. } = call {
                // It ran, so nothing had changed since these were read.
                pairs.extend(guard.iter().map(|(read, seen)| (read, Some(seen))));
            }
            pairs.extend(commands.iter().zip(answers.iter().map(Some)));
        }
        (_, Some(_)) => {}
    }
    let step = |(command, answer): (&Command, Option<&Answer>)| match (command, answer) {
        (Command::Push(Side::Right, key, n), None) => Some(Step::Append(*key, *n, None)),
        (Command::Push(Side::Right, key, n), Some(Answer::Int(len))) => {
            Some(Step::Append(*key, *n, Some(*len)))
        }
        (Command::LRange(key), Some(Answer::Numbers(seen))) => {
            Some(Step::Read(*key, seen.iter().flatten().copied().collect()))
        }
        _ => None,
    };
    pairs.into_iter().filter_map(step).collect()
}

/// The final lists, and who wrote them.
struct Order {
    lists: HashMap<Key, List>,
}

struct List {
    items: Vec<i64>,
    /// Elements that were there in the beginning.
    begin: usize,
    place: HashMap<i64, usize>,
    /// The record that appended the element at each place; `None` for those of the beginning.
    writers: Vec<Option<usize>>,
}

fn items(keyspace: &Keyspace, key: Key) -> Vec<i64> {
    match keyspace.get(key) {
        Value::List(items) => items.clone(),
        _ => Vec::new(),
    }
}

impl Order {
    fn new(keys: &[Key], before: &Keyspace, after: &Keyspace) -> Order {
        let list = |key: &Key| {
            let items = items(after, *key);
            let list = List {
                begin: self::items(before, *key).len(),
                place: items.iter().enumerate().map(|(at, n)| (*n, at)).collect(),
                writers: vec![None; items.len()],
                items,
            };
            (*key, list)
        };
        Order {
            lists: keys.iter().map(list).collect(),
        }
    }

    /// Finds who appended what, and what is there twice or was appended by nobody.
    fn find_writers(&mut self, records: &[Record], steps: &[Vec<Step>]) -> Vec<Finding> {
        for (number, steps) in steps.iter().enumerate() {
            for step in steps {
                if let Step::Append(key, n, _) = step
                    && let Some(list) = self.lists.get_mut(key)
                    && let Some(place) = list.place.get(n)
                {
                    list.writers[*place] = Some(number);
                }
            }
        }
        let mut findings = Vec::new();
        for (key, list) in &self.lists {
            for (place, n) in list.items.iter().enumerate().skip(list.begin) {
                let is_twice = list.place[n] != place;
                if is_twice || list.writers[place].is_none() {
                    let what = if is_twice {
                        "twice"
                    } else {
                        "and nobody wrote it"
                    };
                    let detail = format!("{n} is in k{} at place {place}, {what}", key.0);
                    let writer = list.writers[list.place[n]].map(|w| &records[w]);
                    findings.push(Finding::new(Anomaly::Invented, detail, writer));
                }
            }
        }
        findings
    }

    /// Whether every append and read of one record agrees with the final lists.
    fn check_steps(&self, record: &Record, steps: &[Step]) -> Vec<Finding> {
        let mut findings = Vec::new();
        let mut add = |anomaly, detail: String| {
            findings.push(Finding::new(anomaly, detail, [record]));
        };
        for step in steps {
            match step {
                Step::Append(key, n, Some(len)) => {
                    let Some(list) = self.lists.get(key) else {
                        continue;
                    };
                    match list.place.get(n) {
                        None => add(
                            Anomaly::Lost,
                            format!("{n} was appended to k{} and is gone", key.0),
                        ),
                        Some(place) if i64::try_from(place + 1) != Ok(*len) => add(
                            Anomaly::Reordered,
                            format!("{n} was element {len} of k{}, and is {}", key.0, place + 1),
                        ),
                        Some(_) => {}
                    }
                }
                Step::Read(key, seen) => {
                    let Some(list) = self.lists.get(key) else {
                        continue;
                    };
                    if seen.len() < list.begin {
                        let detail = format!(
                            "k{} had {} elements before, and {} were read",
                            key.0,
                            list.begin,
                            seen.len()
                        );
                        add(Anomaly::StaleRead, detail);
                    }
                    let same = seen.iter().zip(&list.items).take_while(|(a, b)| a == b);
                    let same = same.count();
                    if let Some(n) = seen.get(same) {
                        let (anomaly, now) = match list.place.get(n) {
                            Some(place) => (Anomaly::Reordered, format!("is at {place}")),
                            None => (Anomaly::Lost, "is gone".into()),
                        };
                        add(
                            anomaly,
                            format!("{n} was seen in k{} at {same} and {now}", key.0),
                        );
                    }
                }
                Step::Append(_, _, None) => {}
            }
        }
        findings
    }

    /// Whether all or nothing of a record is there.
    fn check_whole(&self, record: &Record, steps: &[Step]) -> Option<Finding> {
        let is_there = |step: &Step| match step {
            Step::Append(key, n, _) => Some(self.lists.get(key)?.place.contains_key(n)),
            Step::Read(..) => None,
        };
        let there: Vec<bool> = steps.iter().filter_map(is_there).collect();
        let is_torn = there.contains(&true) && there.contains(&false);
        is_torn.then(|| {
            let detail = "a part of what a transaction appended is there";
            Finding::new(Anomaly::Torn, detail, [record])
        })
    }

    /// Whether some transactions come before each other in a circle: by what they wrote, by what
    /// they saw, or because one was answered before the other was sent.
    fn check_circles(&self, records: &[Record], steps: &[Vec<Step>]) -> Option<Finding> {
        let mut graph = Graph::new(records.len());
        for list in self.lists.values() {
            for pair in list.writers.windows(2) {
                if let [Some(first), Some(second)] = pair {
                    graph.add(*first, *second);
                }
            }
        }
        for (number, steps) in steps.iter().enumerate() {
            for step in steps {
                let Step::Read(key, seen) = step else {
                    continue;
                };
                let Some(list) = self.lists.get(key) else {
                    continue;
                };
                // The last element of another transaction: its own come behind that.
                let others = list.writers[..seen.len().min(list.writers.len())].iter();
                let last = others.rev().flatten().find(|writer| **writer != number);
                if let Some(writer) = last {
                    graph.add(*writer, number);
                }
                let next = list.writers.iter().skip(seen.len()).flatten();
                if let Some(writer) = next.copied().find(|writer| *writer != number) {
                    graph.add(number, writer);
                }
            }
        }
        let happened = |at: usize| records[at].answer.is_some() || self.check_any(&steps[at]);
        let known: Vec<usize> = (0..records.len()).filter(|at| happened(*at)).collect();
        add_times(&mut graph, records, &known);
        let circle = graph.cycle()?;
        let members = circle.iter().filter_map(|node| records.get(*node));
        let detail = "transactions come before each other in a circle";
        Some(Finding::new(Anomaly::Cycle, detail, members))
    }

    fn check_any(&self, steps: &[Step]) -> bool {
        steps.iter().any(|step| match step {
            Step::Append(key, n, _) => self
                .lists
                .get(key)
                .is_some_and(|list| list.place.contains_key(n)),
            Step::Read(..) => false,
        })
    }
}

/// Whatever returned before another was invoked comes before it. A chain of moments stands between
/// them, so that there are no more edges than records.
fn add_times(graph: &mut Graph, records: &[Record], known: &[usize]) {
    let mut returns = known.to_vec();
    returns.sort_by_key(|at| records[*at].returned);
    let mut moments: Vec<(u64, usize)> = Vec::new();
    for at in returns {
        let moment = graph.add_node();
        if let Some((_, last)) = moments.last() {
            graph.add(*last, moment);
        }
        graph.add(at, moment);
        moments.push((records[at].returned, moment));
    }
    for at in known {
        let earlier = moments.partition_point(|(time, _)| *time < records[*at].invoked);
        if let Some((_, moment)) = earlier.checked_sub(1).map(|last| moments[last]) {
            graph.add(moment, *at);
        }
        for earlier in &records[*at].after {
            graph.add(*earlier, *at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linear::tests::{answered, one};

    const A: Key = Key(0);
    const B: Key = Key(1);

    fn numbers(items: &[i64]) -> Answer {
        Answer::Numbers(items.iter().map(|n| Some(*n)).collect())
    }

    fn push(client: usize, times: (u64, u64), key: Key, n: i64, len: i64) -> Record {
        let call = one(Command::Push(Side::Right, key, n));
        answered(client, times.0, times.1, call, Answer::Int(len))
    }

    fn read(client: usize, times: (u64, u64), key: Key, seen: &[i64]) -> Record {
        answered(
            client,
            times.0,
            times.1,
            one(Command::LRange(key)),
            numbers(seen),
        )
    }

    fn lists(a: &[i64], b: &[i64]) -> Keyspace {
        let mut keys = Keyspace::empty(2);
        for (key, items) in [(A, a), (B, b)] {
            if !items.is_empty() {
                keys.set(key, Value::List(items.to_vec()));
            }
        }
        keys
    }

    fn anomalies(a: &[i64], b: &[i64], records: &[Record]) -> Vec<Anomaly> {
        let findings = check(&[A, B], &Keyspace::empty(2), &lists(a, b), records);
        findings.iter().map(|finding| finding.anomaly).collect()
    }

    #[test]
    fn a_history_of_one_thread_is_right() {
        let both = Call::Multi(vec![
            Command::Push(Side::Right, A, 2),
            Command::LRange(A),
            Command::Push(Side::Right, B, 3),
        ]);
        let answer = Answer::All(vec![Answer::Int(2), numbers(&[1, 2]), Answer::Int(1)]);
        let records = [
            push(0, (0, 1), A, 1, 1),
            answered(1, 2, 5, both, answer),
            read(2, (3, 4), B, &[]),
            read(2, (6, 7), A, &[1, 2]),
        ];
        assert_eq!(anomalies(&[1, 2], &[3], &records), []);
    }

    #[test]
    fn a_lost_a_doubled_and_a_reordered_element_are_found() {
        let records = [push(0, (0, 9), A, 1, 1), push(1, (0, 9), A, 2, 2)];
        assert_eq!(anomalies(&[1, 2], &[], &records), []);
        assert_eq!(anomalies(&[1], &[], &records), [Anomaly::Lost]);
        assert_eq!(anomalies(&[1, 2, 3], &[], &records), [Anomaly::Invented]);
        let reordered = anomalies(&[2, 1], &[], &records);
        assert_eq!(reordered, [Anomaly::Reordered, Anomaly::Reordered]);
        let doubled = anomalies(&[1, 2, 2], &[], &records);
        assert!(doubled.contains(&Anomaly::Invented), "{doubled:?}");
    }

    #[test]
    fn a_read_of_what_is_gone_or_was_elsewhere_is_found() {
        let mut records = vec![push(0, (0, 9), A, 1, 1), push(1, (0, 9), A, 2, 2)];
        records.push(read(2, (3, 4), A, &[2]));
        assert_eq!(anomalies(&[1, 2], &[], &records), [Anomaly::Reordered]);
        records[2] = read(2, (3, 4), A, &[1, 7]);
        assert_eq!(anomalies(&[1, 2], &[], &records), [Anomaly::Lost]);
    }

    #[test]
    fn a_transaction_of_which_a_part_survived_is_found() {
        let both = Call::Multi(vec![
            Command::Push(Side::Right, A, 1),
            Command::Push(Side::Right, B, 2),
        ]);
        let record = Record {
            answer: None,
            ..answered(0, 0, 9, both, Answer::Ok)
        };
        assert_eq!(anomalies(&[], &[], std::slice::from_ref(&record)), []);
        assert_eq!(anomalies(&[1], &[2], std::slice::from_ref(&record)), []);
        let torn = anomalies(&[1], &[], std::slice::from_ref(&record));
        assert_eq!(torn, [Anomaly::Torn]);
    }

    /// Two readers see two writes in different orders.
    #[test]
    fn orders_that_contradict_each_other_are_a_circle() {
        let both = |client, a: &[i64], b: &[i64]| {
            let call = Call::Multi(vec![Command::LRange(A), Command::LRange(B)]);
            answered(
                client,
                0,
                9,
                call,
                Answer::All(vec![numbers(a), numbers(b)]),
            )
        };
        let writes = [push(0, (0, 9), A, 1, 1), push(1, (0, 9), B, 2, 1)];
        let mut records = writes.to_vec();
        records.push(both(2, &[1], &[]));
        assert_eq!(anomalies(&[1], &[2], &records), []);
        records.push(both(3, &[], &[2]));
        assert_eq!(anomalies(&[1], &[2], &records), [Anomaly::Cycle]);
    }

    #[test]
    fn a_read_that_misses_what_was_acknowledged_before_it_is_a_circle() {
        let mut records = vec![push(0, (0, 1), A, 1, 1), read(1, (2, 3), A, &[])];
        assert_eq!(anomalies(&[1], &[], &records), [Anomaly::Cycle]);
        records[1] = read(1, (0, 3), A, &[]);
        assert_eq!(anomalies(&[1], &[], &records), []);
    }
}
