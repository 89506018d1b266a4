//! What one thread would do: a keyspace of numbers, lists and sets, and every command on it.

use crate::command::{Answer, Command, Key, SetOp, Side};
use std::collections::BTreeSet;
use std::fmt;

/// What a key holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Value {
    /// Nothing.
    #[default]
    Absent,
    /// A string that is a number.
    Number(i64),
    /// A list that is not empty, head first.
    List(Vec<i64>),
    /// A set that is not empty.
    Set(BTreeSet<i64>),
}

/// All keys of a history, by their number.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Keyspace(Vec<Value>);

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = |items: &mut dyn Iterator<Item = &i64>| {
            let items: Vec<String> = items.map(ToString::to_string).collect();
            items.join(" ")
        };
        match self {
            Value::Absent => write!(f, "nothing"),
            Value::Number(n) => write!(f, "{n}"),
            Value::List(items) => write!(f, "[{}]", all(&mut items.iter())),
            Value::Set(members) => write!(f, "{{{}}}", all(&mut members.iter())),
        }
    }
}

/// The command is for another type.
struct WrongType;

impl Keyspace {
    /// `count` keys that hold nothing.
    #[must_use]
    pub fn empty(count: usize) -> Keyspace {
        Keyspace(vec![Value::Absent; count])
    }

    /// What `key` holds.
    #[must_use]
    pub fn get(&self, key: Key) -> &Value {
        &self.0[key.index()]
    }

    /// What `keys` hold, in words.
    #[must_use]
    pub fn show(&self, keys: &BTreeSet<Key>) -> String {
        let shown = keys
            .iter()
            .map(|key| format!("k{}={}", key.0, self.get(*key)));
        shown.collect::<Vec<_>>().join(", ")
    }

    /// Lets `key` hold `value`.
    pub fn set(&mut self, key: Key, value: Value) {
        self.0[key.index()] = value;
    }

    /// Does what the server does, and returns what it answers. A blocking command finds what it
    /// waits for or answers nil.
    pub fn apply(&mut self, command: &Command) -> Answer {
        self.run(command)
            .unwrap_or_else(|WrongType| Answer::Error("WRONGTYPE".into()))
    }

    fn run(&mut self, command: &Command) -> Result<Answer, WrongType> {
        Ok(match command {
            Command::Get(key) => number_answer(self.number(*key)?),
            Command::Set(key, n) => {
                self.set(*key, Value::Number(*n));
                Answer::Ok
            }
            Command::IncrBy(key, by) => {
                let n = self.number(*key)?.unwrap_or(0) + by;
                self.set(*key, Value::Number(n));
                Answer::Int(n)
            }
            Command::MGet(keys) => {
                // As MGET has it, what is no string is no value.
                let numbers = keys.iter().map(|key| self.number(*key).unwrap_or(None));
                Answer::Numbers(numbers.collect())
            }
            Command::MSet(pairs) => {
                self.set_all(pairs);
                Answer::Ok
            }
            Command::MSetNx(pairs) => {
                let is_new = pairs.iter().all(|(key, _)| !self.has(*key));
                if is_new {
                    self.set_all(pairs);
                }
                Answer::Int(i64::from(is_new))
            }
            Command::Exists(keys) => count(keys.iter().filter(|key| self.has(**key)).count()),
            Command::Del(keys) => count(
                keys.iter()
                    .filter(|key| self.take(**key) != Value::Absent)
                    .count(),
            ),
            Command::Rename(from, to) => self.rename(*from, *to, true),
            Command::RenameNx(from, to) => self.rename(*from, *to, false),
            Command::Copy(from, to) => {
                let is_there = self.has(*from);
                if is_there {
                    self.set(*to, self.get(*from).clone());
                }
                Answer::Int(i64::from(is_there))
            }
            Command::Push(side, key, n) => {
                let mut items = self.list(*key)?;
                push(&mut items, *side, *n);
                let len = items.len();
                self.set(*key, Value::List(items));
                count(len)
            }
            Command::Pop(side, key) => number_answer(self.pop(*key, *side)?),
            Command::LRange(key) => {
                Answer::Numbers(self.list(*key)?.into_iter().map(Some).collect())
            }
            Command::LMove { from, to } | Command::BlockingMove { from, to, .. } => {
                self.list(from.0)?;
                if !self.has(from.0) {
                    return Ok(Answer::Nil);
                }
                self.list(to.0)?;
                let taken = self.pop(from.0, from.1)?;
                if let Some(n) = taken {
                    let mut items = self.list(to.0)?;
                    push(&mut items, to.1, n);
                    self.set(to.0, Value::List(items));
                }
                number_answer(taken)
            }
            Command::SAdd(key, n) => {
                let mut members = self.members(*key)?;
                let is_new = members.insert(*n);
                self.set(*key, Value::Set(members));
                Answer::Int(i64::from(is_new))
            }
            Command::SRem(key, n) => {
                let mut members = self.members(*key)?;
                let was_there = members.remove(n);
                self.set_members(*key, members);
                Answer::Int(i64::from(was_there))
            }
            Command::SMembers(key) => {
                Answer::Numbers(self.members(*key)?.into_iter().map(Some).collect())
            }
            Command::SMove(from, to, n) => {
                let (mut source, mut target) = (self.members(*from)?, self.members(*to)?);
                let was_there = source.remove(n);
                if was_there && from != to {
                    target.insert(*n);
                    self.set_members(*from, source);
                    self.set_members(*to, target);
                }
                Answer::Int(i64::from(was_there))
            }
            Command::Store(op, to, [a, b]) => {
                let (a, b) = (self.members(*a)?, self.members(*b)?);
                let made: BTreeSet<i64> = match op {
                    SetOp::Inter => &a & &b,
                    SetOp::Union => &a | &b,
                    SetOp::Diff => &a - &b,
                };
                let len = made.len();
                self.set_members(*to, made);
                count(len)
            }
            Command::BlockingPop(side, keys, _) => {
                for key in keys {
                    if let Some(n) = self.pop(*key, *side)? {
                        return Ok(Answer::Popped(*key, n));
                    }
                }
                Answer::Nil
            }
        })
    }

    fn has(&self, key: Key) -> bool {
        *self.get(key) != Value::Absent
    }

    fn take(&mut self, key: Key) -> Value {
        std::mem::take(&mut self.0[key.index()])
    }

    fn number(&self, key: Key) -> Result<Option<i64>, WrongType> {
        match self.get(key) {
            Value::Absent => Ok(None),
            Value::Number(n) => Ok(Some(*n)),
            _ => Err(WrongType),
        }
    }

    fn list(&self, key: Key) -> Result<Vec<i64>, WrongType> {
        match self.get(key) {
            Value::Absent => Ok(Vec::new()),
            Value::List(items) => Ok(items.clone()),
            _ => Err(WrongType),
        }
    }

    fn pop(&mut self, key: Key, side: Side) -> Result<Option<i64>, WrongType> {
        let mut items = self.list(key)?;
        let taken = match side {
            _ if items.is_empty() => return Ok(None),
            Side::Left => items.remove(0),
            Side::Right => items.remove(items.len() - 1),
        };
        let left = match items.is_empty() {
            true => Value::Absent,
            false => Value::List(items),
        };
        self.set(key, left);
        Ok(Some(taken))
    }

    fn members(&self, key: Key) -> Result<BTreeSet<i64>, WrongType> {
        match self.get(key) {
            Value::Absent => Ok(BTreeSet::new()),
            Value::Set(members) => Ok(members.clone()),
            _ => Err(WrongType),
        }
    }

    fn set_members(&mut self, key: Key, members: BTreeSet<i64>) {
        let value = match members.is_empty() {
            true => Value::Absent,
            false => Value::Set(members),
        };
        self.set(key, value);
    }

    fn set_all(&mut self, pairs: &[(Key, i64)]) {
        for (key, n) in pairs {
            self.set(*key, Value::Number(*n));
        }
    }

    fn rename(&mut self, from: Key, to: Key, replaces: bool) -> Answer {
        if !self.has(from) {
            return Answer::Error("ERR".into());
        }
        if !replaces && self.has(to) {
            return Answer::Int(0);
        }
        let value = self.take(from);
        self.set(to, value);
        match replaces {
            true => Answer::Ok,
            false => Answer::Int(1),
        }
    }
}

fn push(items: &mut Vec<i64>, side: Side, n: i64) {
    match side {
        Side::Left => items.insert(0, n),
        Side::Right => items.push(n),
    }
}

fn number_answer(n: Option<i64>) -> Answer {
    n.map_or(Answer::Nil, Answer::Number)
}

fn count(n: usize) -> Answer {
    Answer::Int(i64::try_from(n).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Key = Key(0);
    const B: Key = Key(1);

    #[test]
    fn commands_answer_as_redis_does() {
        let mut keys = Keyspace::empty(2);
        let numbers = |items: &[i64]| Answer::Numbers(items.iter().map(|n| Some(*n)).collect());
        let left = |key| (key, Side::Left);
        for (command, answer) in [
            (Command::Rename(A, B), Answer::Error("ERR".into())),
            (Command::Set(A, 5), Answer::Ok),
            (Command::IncrBy(A, 2), Answer::Int(7)),
            (Command::Rename(A, A), Answer::Ok),
            (Command::RenameNx(A, A), Answer::Int(0)),
            (Command::MSetNx(vec![(B, 1), (A, 2)]), Answer::Int(0)),
            (Command::LRange(A), Answer::Error("WRONGTYPE".into())),
            (Command::Rename(A, B), Answer::Ok),
            (
                Command::MGet(vec![A, B]),
                Answer::Numbers(vec![None, Some(7)]),
            ),
            (Command::Push(Side::Left, A, 1), Answer::Int(1)),
            (Command::Push(Side::Left, A, 2), Answer::Int(2)),
            (Command::LRange(A), numbers(&[2, 1])),
            (
                Command::LMove {
                    from: left(A),
                    to: left(B),
                },
                Answer::Error("WRONGTYPE".into()),
            ),
            (Command::Del(vec![B, B]), Answer::Int(1)),
            (
                Command::LMove {
                    from: left(A),
                    to: left(B),
                },
                Answer::Number(2),
            ),
            (
                Command::BlockingPop(Side::Left, vec![A, B], 9),
                Answer::Popped(A, 1),
            ),
            (Command::Exists(vec![A, B, B]), Answer::Int(2)),
            (Command::Pop(Side::Right, B), Answer::Number(2)),
            (Command::Pop(Side::Right, B), Answer::Nil),
            (Command::SAdd(A, 3), Answer::Int(1)),
            (Command::SMove(A, B, 3), Answer::Int(1)),
            (Command::SMove(A, B, 3), Answer::Int(0)),
            (Command::SMembers(B), numbers(&[3])),
            (Command::Store(SetOp::Inter, B, [A, B]), Answer::Int(0)),
        ] {
            assert_eq!(keys.apply(&command), answer, "{command}");
        }
        assert_eq!(keys, Keyspace::empty(2), "nothing empty stays");
    }
}
