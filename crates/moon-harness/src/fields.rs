//! Operations on fields of hashes that have deadlines: what each does to the model and what the
//! server must answer.
//!
//! A deadline is either far away, and then nothing about it is uncertain, or it comes while the load
//! still runs. When the server removes such a field nobody knows, so whatever depends on that is
//! left open: fields whose name begins with [`BRIEF`] are only written in ways after which it does
//! not matter whether they were still there, and what is answered then may be either.
//!
//! A test waits until all brief deadlines are behind it, and then everything is certain again:
//! [`expire`] takes from the model what has expired, and [`pass`] makes of an operation that gave a
//! deadline which has passed since one that removes the field.

use crate::model::{DbKey, Entry, State, Value};
use crate::op::{Op, same_reply};
use crate::reply::Reply;
use std::collections::BTreeMap;

/// How the names of fields begin whose deadlines come during a run.
pub const BRIEF: &[u8] = b"e";
/// A deadline that has passed whatever the time.
pub const PAST_MS: u64 = 1;

/// One write to a field.
#[derive(Clone, Debug, PartialEq)]
pub enum FieldOp {
    /// `HSET key field value`, of a brief field.
    Set(DbKey, Vec<u8>, Vec<u8>),
    /// `HSETEX key PXAT at FIELDS 1 field value`
    SetAt(DbKey, Vec<u8>, Vec<u8>, u64),
    /// `HSETEX key KEEPTTL FIELDS 1 field value`
    Replace(DbKey, Vec<u8>, Vec<u8>),
    /// `HDEL key field`
    Del(DbKey, Vec<u8>),
    /// `HPEXPIREAT key at FIELDS 1 field`
    ExpireAt(DbKey, Vec<u8>, u64),
    /// `HPERSIST key FIELDS 1 field`
    Persist(DbKey, Vec<u8>),
    /// `HGETEX key PXAT at FIELDS 1 field`
    GetAt(DbKey, Vec<u8>, u64),
    /// `HGETDEL key FIELDS 1 field`
    GetDel(DbKey, Vec<u8>),
    /// `DEL key`, of a hash whose fields may all have expired.
    DelKey(DbKey),
}

use FieldOp as F;

impl FieldOp {
    /// Its key and, unless it is for all of them, its field.
    fn target(&self) -> (&DbKey, &[u8]) {
        match self {
            F::DelKey(key) => (key, b""),
            F::Set(key, field, _)
            | F::SetAt(key, field, ..)
            | F::Replace(key, field, _)
            | F::Del(key, field)
            | F::ExpireAt(key, field, _)
            | F::Persist(key, field)
            | F::GetAt(key, field, _)
            | F::GetDel(key, field) => (key, field),
        }
    }

    /// The key it changes.
    #[must_use]
    pub fn key(&self) -> &DbKey {
        self.target().0
    }

    /// Its words.
    #[must_use]
    pub fn request(&self) -> Vec<Vec<u8>> {
        let (key, field) = self.target();
        let at = |at: &u64| at.to_string().into_bytes();
        let mut words: Vec<Vec<u8>> = Vec::new();
        let mut add = |more: &[&[u8]]| words.extend(more.iter().map(|word| word.to_vec()));
        match self {
            F::Set(_, _, value) => add(&[b"HSET", &key.key, field, value]),
            F::SetAt(_, _, value, ms) => {
                add(&[b"HSETEX", &key.key, b"PXAT", &at(ms)]);
                add(&[b"FIELDS", b"1", field, value]);
            }
            F::Replace(_, _, value) => {
                add(&[b"HSETEX", &key.key, b"KEEPTTL", b"FIELDS", b"1", field]);
                add(&[value]);
            }
            F::Del(..) => add(&[b"HDEL", &key.key, field]),
            F::ExpireAt(_, _, ms) => {
                add(&[b"HPEXPIREAT", &key.key, &at(ms), b"FIELDS", b"1", field]);
            }
            F::Persist(..) => add(&[b"HPERSIST", &key.key, b"FIELDS", b"1", field]),
            F::GetAt(_, _, ms) => {
                add(&[b"HGETEX", &key.key, b"PXAT", &at(ms)]);
                add(&[b"FIELDS", b"1", field]);
            }
            F::DelKey(key) => add(&[b"DEL", &key.key]),
            F::GetDel(..) => add(&[b"HGETDEL", &key.key, b"FIELDS", b"1", field]),
        }
        words
    }

    /// Does to `state` what the server does, and returns what the server must answer.
    pub fn apply(&self, state: &mut State) -> Reply {
        match self {
            F::Set(key, field, value) => set(state, key, field, value),
            F::SetAt(key, field, value, at) => {
                let reply = match set(state, key, field, value) {
                    Reply::Int(_) => Reply::Int(1),
                    error => return error,
                };
                give_deadline(state, key, field, *at);
                reply
            }
            F::Replace(key, field, value) => on_fields(state, key, |fields, _| {
                fields.insert(field.clone(), value.clone());
                Reply::Int(1)
            }),
            F::Del(key, field) => on_fields(state, key, |fields, deadlines| {
                deadlines.remove(field);
                Reply::Int(i64::from(fields.remove(field).is_some()))
            }),
            F::ExpireAt(key, field, at) => {
                let found = on_fields(state, key, |fields, _| one(has(fields, field)));
                if found != one(1) {
                    return found;
                }
                one(give_deadline(state, key, field, *at))
            }
            F::Persist(key, field) => on_fields(state, key, |fields, deadlines| {
                one(
                    match (fields.contains_key(field), deadlines.remove(field)) {
                        (false, _) => -2,
                        (true, None) => -1,
                        (true, Some(_)) => 1,
                    },
                )
            }),
            F::GetAt(key, field, at) => {
                let reply = on_fields(state, key, |fields, _| value_of(fields.get(field)));
                give_deadline(state, key, field, *at);
                reply
            }
            F::DelKey(key) => Reply::Int(i64::from(state.remove(key).is_some())),
            F::GetDel(key, field) => on_fields(state, key, |fields, deadlines| {
                deadlines.remove(field);
                value_of(fields.remove(field).as_ref())
            }),
        }
    }

    /// Whether `actual` answers this operation, of which the model expects `expected`.
    #[must_use]
    pub fn is_answered_by(&self, expected: &Reply, actual: &Reply) -> bool {
        let is_brief = self.target().1.starts_with(BRIEF);
        match self {
            F::DelKey(_) => matches!(actual, Reply::Int(0 | 1)),
            F::Set(..) | F::Del(..) if is_brief => matches!(actual, Reply::Int(0 | 1)),
            // Its time may have passed on the way.
            F::ExpireAt(..) if is_brief => [1, 2].iter().any(|n| *actual == one(*n)),
            _ => same_reply(expected, actual),
        }
    }
}

/// An array of one number.
fn one(number: i64) -> Reply {
    Reply::Array(vec![Reply::Int(number)])
}

fn has(fields: &BTreeMap<Vec<u8>, Vec<u8>>, field: &[u8]) -> i64 {
    if fields.contains_key(field) { 1 } else { -2 }
}

fn value_of(value: Option<&Vec<u8>>) -> Reply {
    Reply::Array(vec![value.map_or(Reply::Null, Reply::bulk)])
}

type Fields = BTreeMap<Vec<u8>, Vec<u8>>;
type Deadlines = BTreeMap<Vec<u8>, u64>;

/// Runs `change` on the fields of the hash at `key` and their deadlines, on none if there is no such
/// key, and removes the key when no field is left.
fn on_fields(
    state: &mut State,
    key: &DbKey,
    change: impl FnOnce(&mut Fields, &mut Deadlines) -> Reply,
) -> Reply {
    let entry = state
        .entry(key.clone())
        .or_insert_with(|| Entry::new(Value::Hash(BTreeMap::new())));
    let Value::Hash(fields) = &mut entry.value else {
        return Reply::Error(b"WRONGTYPE Operation against another kind of value".to_vec());
    };
    let reply = change(fields, &mut entry.deadlines);
    if fields.is_empty() {
        state.remove(key);
    }
    reply
}

/// What HSET does: the field has no deadline afterwards.
pub(crate) fn set(state: &mut State, key: &DbKey, field: &[u8], value: &[u8]) -> Reply {
    on_fields(state, key, |fields, deadlines| {
        deadlines.remove(field);
        let before = fields.insert(field.to_vec(), value.to_vec());
        Reply::Int(i64::from(before.is_none()))
    })
}

/// Gives a field that is there a deadline, or removes it if that has passed; the number that
/// HPEXPIREAT answers.
fn give_deadline(state: &mut State, key: &DbKey, field: &[u8], at: u64) -> i64 {
    let mut answer = -2;
    on_fields(state, key, |fields, deadlines| {
        if at <= PAST_MS {
            deadlines.remove(field);
            if fields.remove(field).is_some() {
                answer = 2;
            }
        } else if fields.contains_key(field) {
            deadlines.insert(field.to_vec(), at);
            answer = 1;
        }
        Reply::Null
    });
    answer
}

/// Removes the fields whose deadline is at `now_ms` or earlier, and the hashes that have no others.
pub fn expire(state: &mut State, now_ms: u64) {
    state.retain(|_, entry| {
        let Value::Hash(fields) = &mut entry.value else {
            return true;
        };
        entry.deadlines.retain(|field, at| {
            let stays = *at > now_ms;
            if !stays {
                fields.remove(field);
            }
            stays
        });
        !fields.is_empty()
    });
}

/// The operation as it is at `now_ms`: a deadline that it gave and that has passed since is one in
/// the past.
#[must_use]
pub fn pass(op: Op, now_ms: u64) -> Op {
    match op {
        Op::Field(mut op) => {
            if let F::SetAt(_, _, _, at) | F::ExpireAt(_, _, at) | F::GetAt(_, _, at) = &mut op
                && *at <= now_ms
            {
                *at = PAST_MS;
            }
            Op::Field(op)
        }
        Op::Multi(ops) => Op::Multi(ops.into_iter().map(|op| pass(op, now_ms)).collect()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAR: u64 = 4_102_444_800_000;

    fn key() -> DbKey {
        DbKey::new(0, "h")
    }

    fn name(text: &str) -> Vec<u8> {
        text.as_bytes().to_vec()
    }

    #[test]
    fn the_model_answers_as_the_server_does() {
        let mut state = State::new();
        for (op, reply) in [
            (F::ExpireAt(key(), name("f"), FAR), "[:-2]"),
            (F::SetAt(key(), name("f"), name("v"), FAR), ":1"),
            (F::Persist(key(), name("f")), "[:1]"),
            (F::Persist(key(), name("f")), "[:-1]"),
            (F::Persist(key(), name("g")), "[:-2]"),
            (F::GetAt(key(), name("f"), FAR), "[\"v\"]"),
            (F::Replace(key(), name("f"), name("w")), ":1"),
            (F::GetDel(key(), name("g")), "[nil]"),
        ] {
            assert_eq!(format!("{:?}", op.apply(&mut state)), reply, "{op:?}");
        }
        assert_eq!(state[&key()].deadlines, BTreeMap::from([(name("f"), FAR)]));
        set(&mut state, &key(), b"f", b"x");
        assert!(state[&key()].deadlines.is_empty());
        let gone = F::ExpireAt(key(), name("f"), PAST_MS).apply(&mut state);
        assert_eq!(format!("{gone:?}"), "[:2]");
        assert!(state.is_empty());
    }

    #[test]
    fn what_has_expired_is_as_if_it_had_been_removed() {
        let ops = [
            F::SetAt(key(), name("e1"), name("v"), 500),
            F::SetAt(key(), name("e2"), name("v"), 501),
            F::Set(key(), name("e3"), name("v")),
            F::ExpireAt(key(), name("e3"), 400),
        ];
        let mut expired = State::new();
        let mut passed = State::new();
        for op in ops {
            op.apply(&mut expired);
            pass(Op::Field(op), 500).apply(&mut passed);
        }
        expire(&mut expired, 500);
        assert_eq!(expired, passed);
        assert_eq!(
            expired[&key()].deadlines,
            BTreeMap::from([(name("e2"), 501)])
        );
        expire(&mut expired, 501);
        assert!(expired.is_empty(), "a hash without fields is no key");
    }
}
