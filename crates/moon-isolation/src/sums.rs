//! Histories whose rightness shows in one number: accounts whose sum stays, pairs that are written
//! together, counters that are only raised by whoever watched them.

use crate::command::{Answer, Command, Key};
use crate::finding::{Anomaly, Finding};
use crate::history::{Call, Record};
use crate::model::{Keyspace, Value};
use std::collections::HashMap;

/// Unanswered transfers that are tried in all combinations.
const UNANSWERED_MAX: usize = 12;

fn number(keyspace: &Keyspace, key: Key) -> i64 {
    match keyspace.get(key) {
        Value::Number(n) => *n,
        _ => 0,
    }
}

/// The commands that ran, each with its answer.
fn ran(record: &Record) -> Vec<(&Command, &Answer)> {
    match (&record.call, &record.answer) {
        (Call::One(command), Some(answer)) => vec![(command, answer)],
        (call, Some(Answer::All(answers))) => call.commands().iter().zip(answers).collect(),
        _ => Vec::new(),
    }
}

/// Judges transfers between `accounts`: pairs of INCRBY of which one takes what the other gives.
/// Whoever reads all accounts at one moment sees the same sum, and in the end each account has what
/// the transfers left there.
#[must_use]
pub fn check_bank(
    accounts: &[Key],
    before: &Keyspace,
    after: &Keyspace,
    records: &[Record],
) -> Vec<Finding> {
    let total: i64 = accounts.iter().map(|key| number(before, *key)).sum();
    let mut findings = Vec::new();
    for record in records {
        if let Some(seen) = snapshot(accounts, record)
            && seen != total
        {
            let detail = format!("all accounts together had {seen} instead of {total}");
            findings.push(Finding::new(Anomaly::SumChanged, detail, [record]));
        }
    }
    let at_end: i64 = accounts.iter().map(|key| number(after, *key)).sum();
    if at_end != total {
        let detail = format!("all accounts together have {at_end} instead of {total}");
        findings.push(Finding::new(Anomaly::SumChanged, detail, []));
        return findings;
    }
    let open: Vec<&Record> = records.iter().filter(|r| r.answer.is_none()).collect();
    if open.len() > UNANSWERED_MAX {
        return findings;
    }
    let mut expected: HashMap<Key, i64> =
        accounts.iter().map(|k| (*k, number(before, *k))).collect();
    for record in records {
        for (command, _) in ran(record) {
            move_money(&mut expected, command);
        }
    }
    let is_explained = (0..1_usize << open.len()).any(|chosen| {
        let mut balances = expected.clone();
        for (bit, record) in open.iter().enumerate() {
            if chosen & (1 << bit) != 0 {
                let commands = record.call.commands();
                commands.iter().for_each(|c| move_money(&mut balances, c));
            }
        }
        balances.iter().all(|(key, n)| number(after, *key) == *n)
    });
    if !is_explained {
        let wrong: Vec<String> = accounts
            .iter()
            .map(|key| format!("k{} {} for {}", key.0, number(after, *key), expected[key]))
            .collect();
        let detail = format!(
            "balances and what transfers made of them: {}",
            wrong.join(", ")
        );
        findings.push(Finding::new(Anomaly::Lost, detail, open));
    }
    findings
}

fn move_money(balances: &mut HashMap<Key, i64>, command: &Command) {
    if let Command::IncrBy(key, by) = command
        && let Some(balance) = balances.get_mut(key)
    {
        *balance += by;
    }
}

/// The sum of all accounts, if the record read all of them and changed nothing.
fn snapshot(accounts: &[Key], record: &Record) -> Option<i64> {
    let mut seen: HashMap<Key, i64> = HashMap::new();
    for (command, answer) in ran(record) {
        match (command, answer) {
            (Command::Get(key), Answer::Number(n)) => drop(seen.insert(*key, *n)),
            (Command::MGet(keys), Answer::Numbers(numbers)) => {
                let known = keys.iter().zip(numbers);
                seen.extend(known.filter_map(|(key, n)| Some((*key, (*n)?))));
            }
            _ => return None,
        }
    }
    let all = accounts.iter().map(|key| seen.get(key).copied());
    all.sum()
}

/// Judges keys that are only ever written together: whoever reads them at one moment sees the same
/// number, and one that had not been replaced before the read began.
#[must_use]
pub fn check_pairs(records: &[Record]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut written: HashMap<Vec<Key>, Vec<(i64, &Record)>> = HashMap::new();
    for record in records {
        for (keys, n) in writes(record) {
            written.entry(keys).or_default().push((n, record));
        }
    }
    for record in records {
        for (keys, seen) in reads(record) {
            if seen.iter().any(|n| *n != seen[0]) {
                let text: Vec<_> = seen.iter().map(|n| shown(*n)).collect();
                let detail = format!("values written together are {}", text.join(" and "));
                findings.push(Finding::new(Anomaly::Torn, detail, [record]));
                continue;
            }
            let writers = written.get(&keys).map_or(&[][..], Vec::as_slice);
            let source = writers.iter().find(|(n, _)| Some(*n) == seen[0]);
            let since = source.map_or(0, |(_, writer)| writer.returned);
            let newer = writers.iter().find(|(n, newer)| {
                Some(*n) != seen[0]
                    && newer.answer.is_some()
                    && (newer.invoked > since || source.is_none())
                    && newer.precedes(record)
            });
            // Where nobody is known to have written it, it is from before this history.
            if let Some((n, newer)) = newer {
                let detail = format!("{} was read although {n} had replaced it", shown(seen[0]));
                let piece = source.map(|(_, r)| *r).into_iter().chain([*newer, record]);
                findings.push(Finding::new(Anomaly::StaleRead, detail, piece));
            }
        }
    }
    findings
}

fn shown(n: Option<i64>) -> String {
    n.map_or("nothing".to_owned(), |n| n.to_string())
}

/// Keys that a record wrote together, and what.
fn writes(record: &Record) -> Vec<(Vec<Key>, i64)> {
    let mut pairs: Vec<(Key, i64)> = Vec::new();
    for command in record.call.commands() {
        match command {
            Command::MSet(all) => pairs.extend(all),
            Command::Set(key, n) => pairs.push((*key, *n)),
            _ => {}
        }
    }
    pairs.sort_unstable();
    match pairs.first() {
        Some((_, n)) => vec![(pairs.iter().map(|(key, _)| *key).collect(), *n)],
        None => Vec::new(),
    }
}

/// Keys that a record read at one moment, and what they held.
fn reads(record: &Record) -> Vec<(Vec<Key>, Vec<Option<i64>>)> {
    let mut seen: Vec<(Key, Option<i64>)> = Vec::new();
    for (command, answer) in ran(record) {
        match (command, answer) {
            (Command::MGet(keys), Answer::Numbers(numbers)) => {
                seen.extend(keys.iter().copied().zip(numbers.iter().copied()));
            }
            (Command::Get(key), Answer::Number(n)) => seen.push((*key, Some(*n))),
            (Command::Get(key), Answer::Nil) => seen.push((*key, None)),
            _ => {}
        }
    }
    seen.sort_unstable();
    match seen.is_empty() {
        true => Vec::new(),
        false => vec![seen.into_iter().unzip()],
    }
}

/// Judges counters that clients raise by one after watching and reading them: each success counts
/// once, and no two write the same number.
#[must_use]
pub fn check_counters(
    counters: &[Key],
    before: &Keyspace,
    after: &Keyspace,
    records: &[Record],
) -> Vec<Finding> {
    let mut findings = Vec::new();
    for counter in counters {
        let mut by_value: HashMap<i64, &Record> = HashMap::new();
        let (mut succeeded, mut open) = (0, 0);
        for record in records {
            let Call::Watched { body, .. } = &record.call else {
                continue;
            };
            let raised = body.iter().find_map(|command| match command {
                Command::Set(key, n) if key == counter => Some(*n),
                _ => None,
            });
            let Some(n) = raised else { continue };
            match &record.answer {
                None => open += 1,
                Some(Answer::All(_)) => {
                    succeeded += 1;
                    if let Some(other) = by_value.insert(n, record) {
                        let detail = format!("two transactions raised k{} to {n}", counter.0);
                        findings.push(Finding::new(Anomaly::LostUpdate, detail, [other, record]));
                    }
                }
                Some(_) => {}
            }
        }
        let counted = number(after, *counter) - number(before, *counter);
        if counted < succeeded || counted > succeeded + open {
            let detail = format!(
                "k{} rose by {counted}, {succeeded} transactions raised it, {open} may have",
                counter.0
            );
            findings.push(Finding::new(Anomaly::Lost, detail, []));
        }
    }
    findings
}

/// Watched transactions that were refused although nobody wrote to what they watched.
#[must_use]
pub fn check_aborts(records: &[Record]) -> Vec<Finding> {
    let is_refused = |record: &&Record| {
        matches!(record.call, Call::Watched { .. }) && record.answer == Some(Answer::Nil)
    };
    let refused = records.iter().filter(is_refused);
    let has_reason = |record: &Record| {
        let Call::Watched { guard, .. } = &record.call else {
            return true;
        };
        let watched: Vec<Key> = guard.iter().flat_map(|(read, _)| read.keys()).collect();
        let since = record.watched.unwrap_or(record.invoked);
        records.iter().any(|other| {
            other.may_have_written()
                && other.returned >= since
                && other.invoked <= record.returned
                && other
                    .call
                    .commands()
                    .iter()
                    .filter(|c| !c.is_read())
                    .any(|c| c.keys().iter().any(|key| watched.contains(key)))
        })
    };
    let findings = refused.filter(|record| !has_reason(record)).map(|record| {
        let detail = "EXEC was refused, and nobody wrote to the watched keys";
        Finding::new(Anomaly::SpuriousAbort, detail, [record])
    });
    findings.collect()
}

#[cfg(test)]
#[path = "sums_tests.rs"]
mod tests;
