//! The shortest piece of a wrong history that is wrong by itself, to be read by a person.
//!
//! Three cuts keep a violation a violation. What was invoked after the return that cannot be explained
//! has no part in it. A history may begin at any moment when nothing is in flight, with the keyspaces
//! that are possible then. And a call that only read may be left out: what agrees with one serial
//! order still does without it, so what is wrong without it is wrong.

use crate::history::Record;
use crate::linear::{Verdict, check};
use crate::model::Keyspace;
use std::collections::HashSet;

/// The smallest part of `records` found that no serial order explains, in order of invocation, with
/// the keyspaces it may begin with. `failed` is the position that [`check`] named.
#[must_use]
pub fn shortest(
    initial: &HashSet<Keyspace>,
    records: &[Record],
    failed: usize,
    configurations_max: usize,
) -> (HashSet<Keyspace>, Vec<Record>) {
    let is_wrong = |initial: &HashSet<Keyspace>, records: &[Record]| {
        matches!(
            check(initial, records, configurations_max),
            Verdict::Violated(_)
        )
    };
    let end = records[failed].returned;
    let part: Vec<usize> = (0..records.len())
        .filter(|at| records[*at].invoked <= end)
        .collect();
    let mut piece = select(records, &part);
    // What was in flight at the end has not answered yet, as far as this piece tells.
    for record in &mut piece {
        if record.returned > end {
            record.answer = None;
        }
    }
    if !is_wrong(initial, &piece) {
        // Their answers tell something about what came before.
        piece = select(records, &part);
    }
    let (initial, mut piece) = later_begin(initial, piece, configurations_max, &is_wrong);
    let mut at = 0;
    while at < piece.len() {
        let rest: Vec<usize> = (0..piece.len()).filter(|other| *other != at).collect();
        if piece[at].call.is_read() && is_wrong(&initial, &select(&piece, &rest)) {
            piece = select(&piece, &rest);
        } else {
            at += 1;
        }
    }
    (initial, piece)
}

/// The same violation from the last moment at which nothing was in flight.
fn later_begin(
    initial: &HashSet<Keyspace>,
    piece: Vec<Record>,
    configurations_max: usize,
    is_wrong: &dyn Fn(&HashSet<Keyspace>, &[Record]) -> bool,
) -> (HashSet<Keyspace>, Vec<Record>) {
    let mut order: Vec<usize> = (0..piece.len()).collect();
    order.sort_by_key(|at| piece[*at].invoked);
    let piece = select(&piece, &order);
    let mut begins = Vec::new();
    let mut busy_until = 0;
    for (at, record) in piece.iter().enumerate() {
        if at > 0 && record.invoked > busy_until {
            begins.push(at);
        }
        busy_until = busy_until.max(record.returned);
    }
    for begin in begins.into_iter().rev() {
        let before: Vec<usize> = (0..begin).collect();
        let after: Vec<usize> = (begin..piece.len()).collect();
        let before = select(&piece, &before);
        if let Verdict::Explained(keyspaces) = check(initial, &before, configurations_max) {
            let after = select(&piece, &after);
            if is_wrong(&keyspaces, &after) {
                return (keyspaces, after);
            }
        }
    }
    (initial.clone(), piece)
}

/// The records at `positions`, with their order among each other.
fn select(records: &[Record], positions: &[usize]) -> Vec<Record> {
    let place = |old: &usize| positions.iter().position(|p| p == old);
    positions
        .iter()
        .map(|at| Record {
            after: records[*at].after.iter().filter_map(place).collect(),
            ..records[*at].clone()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Answer, Command, Key};
    use crate::linear::tests::{answered, keyspaces, one};

    #[test]
    fn what_has_no_part_in_a_violation_is_left_out() {
        let a = Key(0);
        let records = [
            answered(0, 0, 1, one(Command::Set(a, 1)), Answer::Ok),
            answered(1, 2, 3, one(Command::Get(a)), Answer::Number(1)),
            answered(0, 4, 9, one(Command::Set(a, 2)), Answer::Ok),
            answered(1, 5, 6, one(Command::Get(a)), Answer::Number(1)),
            answered(2, 10, 11, one(Command::Get(a)), Answer::Number(2)),
            answered(2, 12, 13, one(Command::Get(a)), Answer::Number(1)),
            answered(2, 14, 15, one(Command::Set(a, 3)), Answer::Ok),
        ];
        let Verdict::Violated(failed) = check(&keyspaces(1), &records, 1000) else {
            panic!("a stale read is explained");
        };
        assert_eq!(failed, 5);
        let (initial, piece) = shortest(&keyspaces(1), &records, failed, 1000);
        assert_eq!(initial.len(), 1);
        assert_eq!(piece.len(), 1, "{piece:?}");
        assert_eq!(piece[0].invoked, 12);
    }
}
