//! What the clients do, and by what it is judged: one *discipline* has keys of its own.
//!
//! * [`Windows`]: any commands on a few keys, in rounds so small that a search decides them.
//! * [`Bank`], [`Pairs`], [`Counters`]: rounds of hundreds of transactions that one number decides.
//! * [`Append`]: rounds of hundreds of transactions on lists that only grow.

use crate::append;
use crate::command::{Answer, Command, Key, Side};
use crate::finding::{Anomaly, Finding};
use crate::generate;
use crate::history::{Call, Record};
use crate::linear::{Verdict, check};
use crate::model::{Keyspace, Value};
use crate::piece::shortest;
use crate::step::{Features, Kind, Kinds, Step, Tokens};
use crate::sums;
use rand::RngExt as _;
use rand::rngs::StdRng;
use std::collections::HashSet;

/// Configurations that the search for one window visits, at most.
const CONFIGURATIONS_MAX: usize = 100_000;
/// Elements of a list after which it begins anew.
const LIST_LEN_MAX: usize = 400;
/// What an account has in the beginning.
const FUNDS: i64 = 1000;

/// What the judgement of one round says.
#[derive(Debug)]
pub struct Judgement {
    /// What is wrong; nothing, if all is right.
    pub findings: Vec<Finding>,
    /// Whether all was judged: a search may reach its bound.
    pub is_decided: bool,
}

/// What clients do on keys of their own, in rounds, and what must be true of each round.
pub trait Discipline: Send + Sync {
    /// What it is called.
    fn name(&self) -> &'static str;
    /// Its keys.
    fn kinds(&self) -> Kinds;
    /// Clients, and steps that each of them makes in a round.
    fn size(&self) -> (usize, usize);
    /// What is done before a round, when nothing else happens, to keys that hold `now`.
    fn prepare(&self, now: &Keyspace) -> Vec<Command>;
    /// A step of a client.
    fn step(&self, rng: &mut StdRng, tokens: &Tokens, features: Features) -> Step;
    /// Judges what happened between two moments at which the keys held `before` and `after`. The last
    /// of `records` is the read that showed `after`.
    fn judge(&self, before: &Keyspace, after: &Keyspace, records: &[Record]) -> Judgement;
}

fn decided(findings: Vec<Finding>) -> Judgement {
    Judgement {
        findings,
        is_decided: true,
    }
}

/// All of them.
#[must_use]
pub fn all() -> Vec<Box<dyn Discipline>> {
    vec![
        Box::new(Windows),
        Box::new(Bank),
        Box::new(Append),
        Box::new(Pairs),
        Box::new(Counters),
    ]
}

/// Two different ones of `keys`.
fn two(rng: &mut StdRng, keys: &[Key]) -> (Key, Key) {
    let first = rng.random_range(0..keys.len());
    let second = (first + rng.random_range(1..keys.len())) % keys.len();
    (keys[first], keys[second])
}

/// A transaction, or a script now and then.
fn as_one(rng: &mut StdRng, features: Features, commands: Vec<Command>) -> Call {
    if features.scripts && rng.random_range(0..3) == 0 {
        Call::Script(commands)
    } else {
        Call::Multi(commands)
    }
}

/// Any commands on a few keys.
pub struct Windows;

impl Discipline for Windows {
    fn name(&self) -> &'static str {
        "windows"
    }

    fn kinds(&self) -> Kinds {
        generate::kinds()
    }

    fn size(&self) -> (usize, usize) {
        (5, 8)
    }

    fn prepare(&self, now: &Keyspace) -> Vec<Command> {
        let long = |key: &Key| matches!(now.get(*key), Value::List(items) if items.len() > 12);
        let lists = self.kinds().keys(Kind::List);
        let long: Vec<Key> = lists.into_iter().filter(long).collect();
        match long.is_empty() {
            true => Vec::new(),
            false => vec![Command::Del(long)],
        }
    }

    fn step(&self, rng: &mut StdRng, tokens: &Tokens, features: Features) -> Step {
        generate::step(rng, tokens, features)
    }

    fn judge(&self, before: &Keyspace, _: &Keyspace, records: &[Record]) -> Judgement {
        let initial = HashSet::from([before.clone()]);
        let mut findings = sums::check_aborts(records);
        let mut is_decided = true;
        match check(&initial, records, CONFIGURATIONS_MAX) {
            Verdict::Explained(_) => {}
            Verdict::NotDecided => is_decided = false,
            Verdict::Violated(at) => {
                let piece = shortest(&initial, records, at, CONFIGURATIONS_MAX);
                let begin = piece.begins_with();
                let detail = format!("no serial order explains this, beginning with {begin}");
                findings.push(Finding::new(
                    Anomaly::NotSerializable,
                    detail,
                    &piece.records,
                ));
            }
        }
        Judgement {
            findings,
            is_decided,
        }
    }
}

/// Transfers between accounts.
pub struct Bank;

impl Discipline for Bank {
    fn name(&self) -> &'static str {
        "bank"
    }

    fn kinds(&self) -> Kinds {
        Kinds(vec![Kind::Number; 6])
    }

    fn size(&self) -> (usize, usize) {
        (4, 60)
    }

    fn prepare(&self, now: &Keyspace) -> Vec<Command> {
        let keys = self.kinds().keys(Kind::Number);
        let is_open = keys.iter().all(|key| *now.get(*key) != Value::Absent);
        match is_open {
            true => Vec::new(),
            false => vec![Command::MSet(
                keys.iter().map(|key| (*key, FUNDS)).collect(),
            )],
        }
    }

    fn step(&self, rng: &mut StdRng, _: &Tokens, features: Features) -> Step {
        let keys = self.kinds().keys(Kind::Number);
        let (from, to) = two(rng, &keys);
        let amount = rng.random_range(1..50);
        match rng.random_range(0..100) {
            0..25 => Step::call(Call::One(Command::MGet(keys))),
            25..45 => {
                let reads = keys.into_iter().map(Command::Get).collect();
                Step::call(as_one(rng, features, reads))
            }
            45..75 => {
                let moves = vec![Command::IncrBy(from, -amount), Command::IncrBy(to, amount)];
                Step::call(as_one(rng, features, moves))
            }
            _ => Step::Watch {
                reads: vec![Command::Get(from)],
                then: Box::new(move |seen| match seen {
                    [Answer::Number(funds)] if *funds >= amount => {
                        vec![Command::IncrBy(from, -amount), Command::IncrBy(to, amount)]
                    }
                    _ => Vec::new(),
                }),
            },
        }
    }

    fn judge(&self, before: &Keyspace, after: &Keyspace, records: &[Record]) -> Judgement {
        let keys = self.kinds().keys(Kind::Number);
        let mut findings = sums::check_bank(&keys, before, after, records);
        findings.extend(sums::check_aborts(records));
        findings.extend(unexpected(records));
        decided(findings)
    }
}

/// Lists to which transactions append.
pub struct Append;

impl Discipline for Append {
    fn name(&self) -> &'static str {
        "append"
    }

    fn kinds(&self) -> Kinds {
        Kinds(vec![Kind::List; 4])
    }

    fn size(&self) -> (usize, usize) {
        (5, 40)
    }

    fn prepare(&self, now: &Keyspace) -> Vec<Command> {
        let is_long = |key: &Key| match now.get(*key) {
            Value::List(items) => items.len() > LIST_LEN_MAX,
            _ => false,
        };
        let keys = self.kinds().keys(Kind::List);
        match keys.iter().any(is_long) {
            true => vec![Command::Del(keys)],
            false => Vec::new(),
        }
    }

    fn step(&self, rng: &mut StdRng, tokens: &Tokens, features: Features) -> Step {
        let keys = self.kinds().keys(Kind::List);
        let append = |key| Command::Push(Side::Right, key, tokens.next());
        let (a, b) = two(rng, &keys);
        match rng.random_range(0..100) {
            0..15 => Step::call(Call::One(append(a))),
            15..30 => Step::call(Call::One(Command::LRange(a))),
            30..50 => {
                let reads = keys.into_iter().map(Command::LRange).collect();
                Step::call(as_one(rng, features, reads))
            }
            50..60 => {
                let first = append(a);
                Step::Watch {
                    reads: vec![Command::LRange(a), Command::LRange(b)],
                    then: Box::new(move |_| vec![first]),
                }
            }
            60..70 => Step::Calls(vec![
                Call::One(append(a)),
                Call::Multi(vec![append(a), append(b)]),
            ]),
            _ => {
                let mut commands = vec![append(a), append(b)];
                if rng.random_range(0..2) == 0 {
                    commands.insert(1, Command::LRange(b));
                }
                Step::call(as_one(rng, features, commands))
            }
        }
    }

    fn judge(&self, before: &Keyspace, after: &Keyspace, records: &[Record]) -> Judgement {
        let keys = self.kinds().keys(Kind::List);
        let mut findings = append::check(&keys, before, after, records);
        findings.extend(sums::check_aborts(records));
        findings.extend(unexpected(records));
        decided(findings)
    }
}

/// Keys that are only written together.
pub struct Pairs;

impl Discipline for Pairs {
    fn name(&self) -> &'static str {
        "pairs"
    }

    fn kinds(&self) -> Kinds {
        Kinds(vec![Kind::Number; 3])
    }

    fn size(&self) -> (usize, usize) {
        (4, 60)
    }

    fn prepare(&self, _: &Keyspace) -> Vec<Command> {
        Vec::new()
    }

    fn step(&self, rng: &mut StdRng, tokens: &Tokens, features: Features) -> Step {
        let keys = self.kinds().keys(Kind::Number);
        let n = tokens.next();
        match rng.random_range(0..100) {
            0..25 => Step::call(Call::One(Command::MSet(
                keys.into_iter().map(|key| (key, n)).collect(),
            ))),
            25..45 => {
                let sets = keys.into_iter().map(|key| Command::Set(key, n)).collect();
                Step::call(as_one(rng, features, sets))
            }
            45..75 => Step::call(Call::One(Command::MGet(keys))),
            _ => {
                let reads = keys.into_iter().map(Command::Get).collect();
                Step::call(as_one(rng, features, reads))
            }
        }
    }

    fn judge(&self, _: &Keyspace, after: &Keyspace, records: &[Record]) -> Judgement {
        let mut findings = sums::check_pairs(records);
        let keys = self.kinds().keys(Kind::Number);
        if keys.iter().any(|key| after.get(*key) != after.get(keys[0])) {
            let detail = format!("values written together are {after:?}");
            findings.push(Finding::new(Anomaly::Torn, detail, []));
        }
        findings.extend(unexpected(records));
        decided(findings)
    }
}

/// Counters that are raised by whoever watched them.
pub struct Counters;

impl Discipline for Counters {
    fn name(&self) -> &'static str {
        "counters"
    }

    fn kinds(&self) -> Kinds {
        Kinds(vec![Kind::Number; 2])
    }

    fn size(&self) -> (usize, usize) {
        (3, 60)
    }

    fn prepare(&self, _: &Keyspace) -> Vec<Command> {
        Vec::new()
    }

    fn step(&self, rng: &mut StdRng, _: &Tokens, _: Features) -> Step {
        let keys = self.kinds().keys(Kind::Number);
        let both = rng.random_range(0..3) == 0;
        let first = rng.random_range(0..keys.len());
        let raised = match both {
            true => keys,
            false => vec![keys[first]],
        };
        Step::Watch {
            reads: raised.iter().map(|key| Command::Get(*key)).collect(),
            then: Box::new(move |seen| {
                let next = |answer: &Answer| match answer {
                    Answer::Number(n) => n + 1,
                    _ => 1,
                };
                let raised = raised.iter().zip(seen);
                raised.map(|(key, n)| Command::Set(*key, next(n))).collect()
            }),
        }
    }

    fn judge(&self, before: &Keyspace, after: &Keyspace, records: &[Record]) -> Judgement {
        let keys = self.kinds().keys(Kind::Number);
        let mut findings = sums::check_counters(&keys, before, after, records);
        findings.extend(sums::check_aborts(records));
        findings.extend(unexpected(records));
        decided(findings)
    }
}

/// Answers that no command here gives.
fn unexpected(records: &[Record]) -> Vec<Finding> {
    let is_odd = |answer: &Answer| matches!(answer, Answer::Error(_) | Answer::Unexpected(_));
    let odd = records.iter().filter(|record| match &record.answer {
        Some(Answer::All(answers)) => answers.iter().any(is_odd),
        Some(answer) => is_odd(answer),
        None => false,
    });
    let finding = |record| Finding::new(Anomaly::Reply, "not an answer to this", [record]);
    odd.take(3).map(finding).collect()
}
