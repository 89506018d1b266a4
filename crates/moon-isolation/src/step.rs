//! What a client does next, and what the keys of a discipline hold.

use crate::command::{Answer, Command, Key};
use crate::history::Call;
use crate::model::{Keyspace, Value};
use std::sync::atomic::{AtomicI64, Ordering};

/// What the server under test has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// EVAL.
    pub scripts: bool,
    /// BLPOP and its kin.
    pub blocking: bool,
}

/// Makes a transaction of what was read; an empty one if the answers do not allow it.
pub type Then = Box<dyn FnOnce(&[Answer]) -> Vec<Command>>;

/// What a client does next.
pub enum Step {
    /// Calls, sent together; one call is the usual case.
    Calls(Vec<Call>),
    /// WATCH on the keys of `reads`, these reads, and then a transaction that depends on them.
    Watch {
        /// What it looks at.
        reads: Vec<Command>,
        /// Makes the transaction of the answers; nothing if they do not allow it.
        then: Then,
    },
}

impl Step {
    /// One call.
    #[must_use]
    pub fn call(call: Call) -> Step {
        Step::Calls(vec![call])
    }
}

/// Numbers that nobody has used.
#[derive(Debug, Default)]
pub struct Tokens(AtomicI64);

impl Tokens {
    /// The next one.
    pub fn next(&self) -> i64 {
        self.0.fetch_add(1, Ordering::Relaxed) + 1
    }
}

/// What a key holds, if anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A string that is a number.
    Number,
    /// A list.
    List,
    /// A set.
    Set,
}

/// The kinds of all keys of a discipline, by key number.
#[derive(Clone, Debug)]
pub struct Kinds(pub Vec<Kind>);

impl Kinds {
    /// The keys of one kind.
    #[must_use]
    pub fn keys(&self, kind: Kind) -> Vec<Key> {
        let numbered = (0..u8::MAX).zip(&self.0);
        let of_kind = numbered.filter(|(_, k)| **k == kind);
        of_kind.map(|(number, _)| Key(number)).collect()
    }

    /// A transaction that reads everything.
    #[must_use]
    pub fn read_all(&self) -> Call {
        let numbered = (0..u8::MAX).map(Key).zip(&self.0);
        let read = |(key, kind): (Key, &Kind)| match kind {
            Kind::Number => Command::Get(key),
            Kind::List => Command::LRange(key),
            Kind::Set => Command::SMembers(key),
        };
        Call::Multi(numbered.map(read).collect())
    }

    /// The keyspace that [`Kinds::read_all`] was answered with, unless the answer is of no such kind.
    #[must_use]
    pub fn keyspace(&self, answer: &Answer) -> Option<Keyspace> {
        let Answer::All(answers) = answer else {
            return None;
        };
        let mut keyspace = Keyspace::empty(self.0.len());
        for ((key, kind), answer) in (0..u8::MAX).map(Key).zip(&self.0).zip(answers) {
            let value = match (kind, answer) {
                (_, Answer::Nil) => Value::Absent,
                (Kind::Number, Answer::Number(n)) => Value::Number(*n),
                (Kind::List | Kind::Set, Answer::Numbers(items)) if items.is_empty() => {
                    Value::Absent
                }
                (Kind::List, Answer::Numbers(items)) => {
                    Value::List(items.iter().flatten().copied().collect())
                }
                (Kind::Set, Answer::Numbers(items)) => {
                    Value::Set(items.iter().flatten().copied().collect())
                }
                _ => return None,
            };
            keyspace.set(key, value);
        }
        Some(keyspace)
    }
}
