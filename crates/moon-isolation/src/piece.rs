//! The shortest piece of a wrong history that is wrong by itself, to be read by a person.
//!
//! A part may be left out if whatever explains the whole explains the rest, too: then a rest that is
//! wrong makes the whole wrong. That holds for
//!
//! * what was invoked after the return that cannot be explained, and answers that came after it;
//! * what came before a moment at which nothing was in flight, if the piece begins with the keyspaces
//!   that are possible then;
//! * a call without an answer, because it may never have happened;
//! * all that was done to other keys, if no command uses both these and those;
//! * what only read, or changed nothing as its answer shows, alone or inside of a transaction.

use crate::command::{Answer, Command, Key};
use crate::history::{Call, Record};
use crate::linear::{Verdict, check};
use crate::model::Keyspace;
use std::collections::{BTreeSet, HashSet};

/// Groups of keys of which all combinations are tried.
const GROUPS_MAX: usize = 10;

/// A piece of a history that no serial order explains.
#[derive(Clone, Debug)]
pub struct Piece {
    /// What the keys may hold in the beginning.
    pub initial: HashSet<Keyspace>,
    /// Its calls, in the order in which they were sent.
    pub records: Vec<Record>,
    configurations_max: usize,
}

/// The smallest part of `records` found that no serial order explains. `failed` is the position that
/// [`check`] named.
#[must_use]
pub fn shortest(
    initial: &HashSet<Keyspace>,
    records: &[Record],
    failed: usize,
    configurations_max: usize,
) -> Piece {
    let end = records[failed].returned;
    let mut part: Vec<usize> = (0..records.len())
        .filter(|at| records[*at].invoked <= end)
        .collect();
    part.sort_by_key(|at| records[*at].invoked);
    let mut piece = Piece {
        initial: initial.clone(),
        records: select(records, &part),
        configurations_max,
    };
    piece.try_without(|piece| {
        for record in &mut piece.records {
            if record.returned > end {
                record.answer = None;
            }
        }
        piece.keep(|record| record.answer.is_some());
    });
    piece.begin_later();
    // Reads join keys that have nothing else in common.
    piece.leave_idle_out();
    piece.leave_keys_out();
    piece.leave_idle_out();
    piece.begin_later();
    piece
}

impl Piece {
    /// What the keys that the piece uses hold in the beginning.
    #[must_use]
    pub fn begins_with(&self) -> String {
        let used = self.records.iter().flat_map(|record| record.call.keys());
        let used: BTreeSet<Key> = used.collect();
        let keyspaces = self.initial.iter().map(|keys| keys.show(&used));
        let keyspaces: BTreeSet<String> = keyspaces.collect();
        keyspaces.into_iter().collect::<Vec<_>>().join(" or ")
    }

    fn is_wrong(&self) -> bool {
        let verdict = check(&self.initial, &self.records, self.configurations_max);
        matches!(verdict, Verdict::Violated(_))
    }

    /// Makes a change if the piece is wrong after it.
    fn try_without(&mut self, change: impl FnOnce(&mut Piece)) -> bool {
        let mut changed = self.clone();
        change(&mut changed);
        let is_wrong = changed.is_wrong();
        if is_wrong {
            *self = changed;
        }
        is_wrong
    }

    fn keep(&mut self, stays: impl Fn(&Record) -> bool) {
        let positions = 0..self.records.len();
        let positions: Vec<usize> = positions.filter(|at| stays(&self.records[*at])).collect();
        self.records = select(&self.records, &positions);
    }

    /// Begins at the last moment possible at which nothing was in flight.
    fn begin_later(&mut self) {
        let mut begins = Vec::new();
        let mut busy_until = 0;
        for (at, record) in self.records.iter().enumerate() {
            if at > 0 && record.invoked > busy_until {
                begins.push(at);
            }
            busy_until = busy_until.max(record.returned);
        }
        for begin in begins.into_iter().rev() {
            let before = select(&self.records, &(0..begin).collect::<Vec<_>>());
            let verdict = check(&self.initial, &before, self.configurations_max);
            if let Verdict::Explained(keyspaces) = verdict
                && self.try_without(|piece| {
                    piece.initial = keyspaces;
                    let rest: Vec<usize> = (begin..piece.records.len()).collect();
                    piece.records = select(&piece.records, &rest);
                })
            {
                return;
            }
        }
    }

    /// Leaves out what was done to keys that have no part in it.
    fn leave_keys_out(&mut self) {
        let groups = self.groups();
        if groups.len() > GROUPS_MAX {
            return;
        }
        let mut choices: Vec<usize> = (1..1_usize << groups.len()).collect();
        choices.sort_by_key(|choice| choice.count_ones());
        for choice in choices {
            let chosen = groups.iter().enumerate();
            let chosen = chosen.filter(|(number, _)| choice & (1 << number) != 0);
            let keys: BTreeSet<Key> = chosen.flat_map(|(_, group)| group).copied().collect();
            let is_inside = |command: &Command| command.keys().iter().all(|k| keys.contains(k));
            if self.try_without(|piece| piece.keep_commands(&|_, _, command| is_inside(command))) {
                return;
            }
        }
    }

    /// Keys that are used together by one command, directly or by way of others.
    fn groups(&self) -> Vec<BTreeSet<Key>> {
        let mut groups: Vec<BTreeSet<Key>> = Vec::new();
        for command in self.records.iter().flat_map(|record| all_of(&record.call)) {
            let mut joined: BTreeSet<Key> = command.keys().into_iter().collect();
            groups.retain(|group| {
                let is_apart = group.is_disjoint(&joined);
                if !is_apart {
                    joined.extend(group);
                }
                is_apart
            });
            groups.push(joined);
        }
        groups
    }

    /// Leaves out what changed nothing, one command after the other.
    fn leave_idle_out(&mut self) {
        let mut record = 0;
        while record < self.records.len() {
            let mut command = 0;
            while let Some(did_nothing) = self.did_nothing(record, command) {
                let before = self.records.len();
                let is_this = |r: usize, c: usize| r == record && c == command;
                let is_left_out = did_nothing
                    && self.try_without(|piece| {
                        piece.keep_commands(&|r, c, _| !is_this(r, c));
                    });
                if is_left_out && self.records.len() < before {
                    // The next record has come to this place.
                    command = 0;
                } else if !is_left_out {
                    command += 1;
                }
            }
            record += 1;
        }
    }

    /// Whether the command at a place changed nothing; `None` if there is none.
    fn did_nothing(&self, record: usize, command: usize) -> Option<bool> {
        let record = self.records.get(record)?;
        let guards = match &record.call {
            Call::Watched { guard, .. } => guard.len(),
            _ => 0,
        };
        let what = all_of(&record.call).nth(command)?;
        let answer = match (&record.answer, command.checked_sub(guards)) {
            (Some(Answer::All(answers)), Some(at)) => answers.get(at),
            // It was refused as a whole.
            (Some(Answer::Nil), _) if matches!(record.call, Call::Watched { .. }) => {
                return Some(true);
            }
            (Some(answer), _) if matches!(record.call, Call::One(_)) => Some(answer),
            _ => None,
        };
        Some(what.is_read() || answer.is_some_and(|answer| what.did_nothing(answer)))
    }

    /// Keeps the commands of each record that `stays` allows, asked with the position of the record
    /// and that of the command in it, those of a guard first.
    fn keep_commands(&mut self, stays: &dyn Fn(usize, usize, &Command) -> bool) {
        for (number, record) in self.records.iter_mut().enumerate() {
            let stays = |at: usize, command: &Command| stays(number, at, command);
            project(record, &stays);
        }
        self.keep(|record| !record.call.commands().is_empty());
    }
}

/// Every command of a call, those that it read before it first.
fn all_of(call: &Call) -> impl Iterator<Item = &Command> {
    let guard = match call {
        Call::Watched { guard, .. } => &guard[..],
        _ => &[],
    };
    let guard = guard.iter().map(|(read, _)| read);
    guard.chain(call.commands())
}

/// Leaves the commands out that do not stay, with their answers.
fn project(record: &mut Record, stays: &dyn Fn(usize, &Command) -> bool) {
    let stays: Vec<bool> = all_of(&record.call)
        .enumerate()
        .map(|(at, command)| stays(at, command))
        .collect();
    let mut next = stays.iter();
    let mut keep = || next.next().copied().unwrap_or(true);
    match &mut record.call {
        Call::One(_) => {
            if !keep() {
                // Whoever asked leaves a transaction of nothing out.
                record.call = Call::Multi(Vec::new());
                record.answer = record.answer.take().map(|_| Answer::All(Vec::new()));
            }
        }
        Call::Watched { guard, body } => {
            guard.retain(|_| keep());
            let kept: Vec<bool> = body.iter().map(|_| keep()).collect();
            keep_marked(body, &mut record.answer, &kept);
        }
        Call::Multi(body) | Call::Script(body) => {
            let kept: Vec<bool> = body.iter().map(|_| keep()).collect();
            keep_marked(body, &mut record.answer, &kept);
        }
    }
}

fn keep_marked(body: &mut Vec<Command>, answer: &mut Option<Answer>, kept: &[bool]) {
    let mut marks = kept.iter();
    body.retain(|_| marks.next() == Some(&true));
    if let Some(Answer::All(answers)) = answer {
        let mut marks = kept.iter();
        answers.retain(|_| marks.next() == Some(&true));
    }
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
    use crate::command::Side;
    use crate::linear::tests::{answered, keyspaces, one};

    const A: Key = Key(0);
    const B: Key = Key(1);

    fn piece_of(records: &[Record]) -> Piece {
        let Verdict::Violated(failed) = check(&keyspaces(2), records, 1000) else {
            panic!("this is explained");
        };
        shortest(&keyspaces(2), records, failed, 1000)
    }

    #[test]
    fn what_has_no_part_in_a_violation_is_left_out() {
        let get = || one(Command::Get(A));
        let piece = piece_of(&[
            answered(0, 0, 1, one(Command::Set(A, 1)), Answer::Ok),
            answered(1, 2, 3, get(), Answer::Number(1)),
            answered(0, 4, 9, one(Command::Set(A, 2)), Answer::Ok),
            answered(1, 5, 6, get(), Answer::Number(1)),
            answered(2, 10, 11, get(), Answer::Number(2)),
            answered(2, 12, 13, get(), Answer::Number(1)),
            answered(2, 14, 15, one(Command::Set(A, 3)), Answer::Ok),
        ]);
        assert_eq!(piece.records.len(), 1, "{piece:?}");
        assert_eq!(piece.records[0].invoked, 12);
        assert_eq!(piece.begins_with(), "k0=2");
    }

    #[test]
    fn other_keys_and_reads_inside_of_transactions_are_left_out() {
        let mixed = Call::Multi(vec![
            Command::Push(Side::Right, B, 9),
            Command::LRange(B),
            Command::Get(A),
            Command::Set(A, 2),
        ]);
        let answers = vec![
            Answer::Int(1),
            Answer::Numbers(vec![Some(9)]),
            Answer::Nil,
            Answer::Ok,
        ];
        let piece = piece_of(&[
            answered(0, 0, 9, mixed, Answer::All(answers)),
            answered(
                1,
                1,
                9,
                one(Command::Push(Side::Left, B, 8)),
                Answer::Int(2),
            ),
            answered(1, 1, 12, one(Command::Get(A)), Answer::Number(3)),
        ]);
        let calls = piece.records.iter().map(|record| record.call.to_string());
        let calls: Vec<String> = calls.collect();
        assert_eq!(calls, ["MULTI { SET k0 2 }", "GET k0"]);
    }
}
