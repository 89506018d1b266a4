//! Operations: how each is sent, which keys it touches, what it does to the model and what the
//! server must answer.

use crate::fields::{self, FieldOp};
use crate::groups::GroupOp;
use crate::model::{DbKey, Entry, State, Value};
use crate::reply::Reply;
use crate::scripts;
use crate::sketches::SketchOp;
use crate::typed::TypedOp;
use moon_resp::write_request;
use std::collections::{BTreeMap, BTreeSet};

/// One write as a client sends it. Every operation is answered by one *final* reply; a
/// transaction and a change of database add replies before it.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// `SET key value [PXAT expires_at_ms]`
    Set(DbKey, Vec<u8>, Option<u64>),
    /// `INCRBY key n`
    IncrBy(DbKey, i64),
    /// `APPEND key bytes`
    Append(DbKey, Vec<u8>),
    /// `RPUSH key item`
    RPush(DbKey, Vec<u8>),
    /// `LPOP key`
    LPop(DbKey),
    /// `HSET key field value`
    HSet(DbKey, Vec<u8>, Vec<u8>),
    /// `HINCRBY key field n`
    HIncrBy(DbKey, Vec<u8>, i64),
    /// `SADD key member`
    SAdd(DbKey, Vec<u8>),
    /// `SREM key member`
    SRem(DbKey, Vec<u8>),
    /// `DEL key...`, all in one database
    Del(Vec<DbKey>),
    /// `MSET key value...`, all in one database
    MSet(Vec<(DbKey, Vec<u8>)>),
    /// `RENAME from to`, in one database
    Rename(DbKey, DbKey),
    /// `COPY from to DB n REPLACE`
    Copy(DbKey, DbKey),
    /// `FLUSHDB` of one database
    FlushDb(u8),
    /// `SWAPDB a b`
    SwapDb(u8, u8),
    /// Sorted sets, streams, bitmaps, places.
    Typed(TypedOp),
    /// Fields of hashes with deadlines.
    Field(FieldOp),
    /// HyperLogLogs.
    Sketch(SketchOp),
    /// Streams that several consumers share.
    Group(GroupOp),
    /// `EVAL` of a script that runs the operations, all in one database
    Script(Vec<Op>),
    /// `FCALL` of a function that runs the operations, all in one database
    Function(Vec<Op>),
    /// `FUNCTION LOAD REPLACE` of the library with that function
    LoadLibrary,
    /// `MULTI`, the operations, `EXEC`
    Multi(Vec<Op>),
    /// One entry of the history that all connections write to: a transaction that counts it,
    /// appends it to the shared list and notes its number under the connection's own key.
    Record(Record),
}

/// An entry of the shared history.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Which connection writes it.
    pub connection: usize,
    /// Its number among the entries of this connection, from 1.
    pub number: u64,
    /// Where the connection notes the number.
    pub own: DbKey,
    /// The shared counter.
    pub counter: DbKey,
    /// The shared list.
    pub list: DbKey,
}

impl Record {
    /// The entry in the shared list.
    #[must_use]
    pub fn item(&self) -> Vec<u8> {
        format!("{}:{}", self.connection, self.number).into_bytes()
    }

    fn requests(&self) -> [Vec<Vec<u8>>; 3] {
        let number = self.number.to_string().into_bytes();
        [
            // Logged as a SET of the result, so that a lost entry in the middle cannot be hidden
            // by counting again at replay.
            vec![
                b"INCRBYFLOAT".to_vec(),
                self.counter.key.clone(),
                b"1".to_vec(),
            ],
            vec![b"RPUSH".to_vec(), self.list.key.clone(), self.item()],
            vec![b"SET".to_vec(), self.own.key.clone(), number],
        ]
    }
}

/// What an operation touches.
#[derive(Clone, Debug, PartialEq)]
pub enum Touched<'a> {
    /// These keys.
    Keys(Vec<&'a DbKey>),
    /// Whole databases, on every shard.
    Databases(Vec<u8>),
}

impl Op {
    /// The keys or databases that this operation may change or looks at to decide.
    #[must_use]
    pub fn touched(&self) -> Touched<'_> {
        Touched::Keys(match self {
            Op::Set(key, ..)
            | Op::IncrBy(key, _)
            | Op::Append(key, _)
            | Op::RPush(key, _)
            | Op::LPop(key)
            | Op::HSet(key, ..)
            | Op::HIncrBy(key, ..)
            | Op::SAdd(key, _)
            | Op::SRem(key, _) => vec![key],
            Op::Del(keys) => keys.iter().collect(),
            Op::Typed(op) => op.keys(),
            Op::Field(op) => vec![op.key()],
            Op::Sketch(op) => op.keys(),
            Op::Group(op) => op.keys(),
            Op::LoadLibrary => Vec::new(),
            Op::MSet(pairs) => pairs.iter().map(|(key, _)| key).collect(),
            Op::Rename(from, to) | Op::Copy(from, to) => vec![from, to],
            Op::FlushDb(db) => return Touched::Databases(vec![*db]),
            Op::SwapDb(a, b) => return Touched::Databases(vec![*a, *b]),
            Op::Multi(ops) | Op::Script(ops) | Op::Function(ops) => {
                let mut keys = Vec::new();
                let mut databases = Vec::new();
                for op in ops {
                    match op.touched() {
                        Touched::Keys(more) => keys.extend(more),
                        Touched::Databases(more) => databases.extend(more),
                    }
                }
                if !databases.is_empty() {
                    databases.extend(keys.iter().map(|k| k.db));
                    return Touched::Databases(databases);
                }
                keys
            }
            Op::Record(record) => vec![&record.own, &record.counter, &record.list],
        })
    }

    /// The database that must be selected before this is sent.
    fn db(&self) -> Option<u8> {
        match self {
            Op::FlushDb(db) => Some(*db),
            Op::SwapDb(..) | Op::Multi(_) => None,
            _ => match self.touched() {
                Touched::Keys(keys) => keys.first().map(|k| k.db),
                Touched::Databases(_) => None,
            },
        }
    }

    /// Does to `state` what the server does, and returns what the server must answer.
    pub fn apply(&self, state: &mut State) -> Reply {
        match self {
            Op::Set(key, value, expires_at_ms) => {
                let entry = Entry {
                    expires_at_ms: *expires_at_ms,
                    ..Entry::string(value.clone())
                };
                state.insert(key.clone(), entry);
                Reply::ok()
            }
            Op::IncrBy(key, by) => string(state, key, |bytes| {
                let text = if bytes.is_empty() {
                    "0".into()
                } else {
                    String::from_utf8_lossy(bytes)
                };
                let Ok(now) = text.parse::<i64>() else {
                    return Reply::Error(b"ERR value is not an integer or out of range".to_vec());
                };
                *bytes = (now + by).to_string().into_bytes();
                Reply::Int(now + by)
            }),
            Op::Append(key, more) => string(state, key, |bytes| {
                bytes.extend_from_slice(more);
                len(bytes.len())
            }),
            Op::RPush(key, item) => list(state, key, |items| {
                items.push(item.clone());
                len(items.len())
            }),
            Op::LPop(key) => list(state, key, |items| {
                if items.is_empty() {
                    Reply::Null
                } else {
                    Reply::Bulk(items.remove(0))
                }
            }),
            Op::HSet(key, field, value) => fields::set(state, key, field, value),
            Op::HIncrBy(key, field, by) => hash(state, key, |fields| {
                let slot = fields.entry(field.clone()).or_insert_with(|| b"0".to_vec());
                let Ok(now) = String::from_utf8_lossy(slot).parse::<i64>() else {
                    return Reply::Error(b"ERR hash value is not an integer".to_vec());
                };
                *slot = (now + by).to_string().into_bytes();
                Reply::Int(now + by)
            }),
            Op::SAdd(key, member) => set(state, key, |members| {
                len(usize::from(members.insert(member.clone())))
            }),
            Op::SRem(key, member) => set(state, key, |members| {
                len(usize::from(members.remove(member)))
            }),
            Op::Del(keys) => len(keys.iter().filter(|k| state.remove(k).is_some()).count()),
            Op::MSet(pairs) => {
                for (key, value) in pairs {
                    state.insert(key.clone(), Entry::string(value.clone()));
                }
                Reply::ok()
            }
            Op::Rename(from, to) => match state.remove(from) {
                None => Reply::Error(b"ERR no such key".to_vec()),
                Some(entry) => {
                    state.insert(to.clone(), entry);
                    Reply::ok()
                }
            },
            Op::Copy(from, to) => match state.get(from).cloned() {
                None => Reply::Int(0),
                Some(entry) => {
                    state.insert(to.clone(), entry);
                    Reply::Int(1)
                }
            },
            Op::FlushDb(db) => {
                state.retain(|key, _| key.db != *db);
                Reply::ok()
            }
            Op::SwapDb(a, b) => {
                let moved: State = state
                    .extract_if(|key, _| key.db == *a || key.db == *b)
                    .collect();
                state.extend(moved.into_iter().map(|(key, entry)| {
                    let db = if key.db == *a { *b } else { *a };
                    (DbKey::new(db, key.key), entry)
                }));
                Reply::ok()
            }
            Op::Typed(op) => op.apply(state),
            Op::Field(op) => op.apply(state),
            Op::Sketch(op) => op.apply(state),
            Op::Group(op) => op.apply(state),
            Op::LoadLibrary => Reply::bulk(scripts::LIBRARY),
            Op::Multi(ops) | Op::Script(ops) | Op::Function(ops) => {
                Reply::Array(ops.iter().map(|op| op.apply(state)).collect())
            }
            Op::Record(record) => {
                let number = record.number.to_string();
                state.insert(record.own.clone(), Entry::string(number));
                Reply::Null
            }
        }
    }

    /// Whether `actual` answers this operation, of which the model expects `expected`.
    #[must_use]
    pub fn is_answered_by(&self, expected: &Reply, actual: &Reply) -> bool {
        match self {
            // Counter and list are shared: what they answer depends on the other connections.
            Op::Record(_) => match actual {
                Reply::Array(items) => items.len() == 3 && items[2].is_ok(),
                _ => false,
            },
            Op::Typed(op) if op.is_unordered() => same_reply(&sorted(expected), &sorted(actual)),
            Op::Field(op) => op.is_answered_by(expected, actual),
            Op::Sketch(op) => op.is_answered_by(expected, actual),
            Op::Multi(ops) | Op::Script(ops) | Op::Function(ops) => match (expected, actual) {
                (Reply::Array(expected), Reply::Array(actual)) => {
                    let replies = expected.iter().zip(actual);
                    let mut of_ops = ops.iter().zip(replies);
                    ops.len() == actual.len()
                        && of_ops
                            .all(|(op, (expected, actual))| op.is_answered_by(expected, actual))
                }
                _ => false,
            },
            _ => same_reply(expected, actual),
        }
    }

    /// The names of the keys that it touches, each once.
    fn key_names(&self) -> Vec<Vec<u8>> {
        let Touched::Keys(keys) = self.touched() else {
            return Vec::new();
        };
        let names: BTreeSet<&Vec<u8>> = keys.iter().map(|key| &key.key).collect();
        names.into_iter().cloned().collect()
    }

    fn request(&self) -> Vec<Vec<u8>> {
        fn parts(name: &str, rest: &[&[u8]]) -> Vec<Vec<u8>> {
            let mut parts = vec![name.as_bytes().to_vec()];
            parts.extend(rest.iter().map(|p| p.to_vec()));
            parts
        }
        match self {
            Op::Set(k, v, None) => parts("SET", &[&k.key, v]),
            Op::Set(k, v, Some(at)) => {
                parts("SET", &[&k.key, v, b"PXAT", at.to_string().as_bytes()])
            }
            Op::IncrBy(k, 1) => parts("INCR", &[&k.key]),
            Op::IncrBy(k, n) => parts("INCRBY", &[&k.key, n.to_string().as_bytes()]),
            Op::Append(k, v) => parts("APPEND", &[&k.key, v]),
            Op::RPush(k, v) => parts("RPUSH", &[&k.key, v]),
            Op::LPop(k) => parts("LPOP", &[&k.key]),
            Op::HSet(k, f, v) => parts("HSET", &[&k.key, f, v]),
            Op::HIncrBy(k, f, n) => parts("HINCRBY", &[&k.key, f, n.to_string().as_bytes()]),
            Op::SAdd(k, m) => parts("SADD", &[&k.key, m]),
            Op::SRem(k, m) => parts("SREM", &[&k.key, m]),
            Op::Del(keys) => {
                let keys: Vec<&[u8]> = keys.iter().map(|k| &k.key[..]).collect();
                parts("DEL", &keys)
            }
            Op::MSet(pairs) => {
                let flat: Vec<&[u8]> = pairs
                    .iter()
                    .flat_map(|(k, v)| [&k.key[..], &v[..]])
                    .collect();
                parts("MSET", &flat)
            }
            Op::Rename(from, to) => parts("RENAME", &[&from.key, &to.key]),
            Op::Copy(from, to) => {
                let db = to.db.to_string();
                parts(
                    "COPY",
                    &[&from.key, &to.key, b"DB", db.as_bytes(), b"REPLACE"],
                )
            }
            Op::FlushDb(_) => parts("FLUSHDB", &[]),
            Op::SwapDb(a, b) => parts(
                "SWAPDB",
                &[a.to_string().as_bytes(), b.to_string().as_bytes()],
            ),
            Op::Typed(op) => op.request(),
            Op::Field(op) => op.request(),
            Op::Sketch(op) => op.request(),
            Op::Group(op) => op.request(),
            Op::Script(ops) => scripts::eval_all(&self.key_names(), &requests(ops)),
            Op::Function(ops) => scripts::fcall_all(&self.key_names(), &requests(ops)),
            Op::LoadLibrary => scripts::load_library(),
            Op::Multi(_) | Op::Record(_) => parts("MULTI", &[]),
        }
    }
}

fn requests(ops: &[Op]) -> Vec<Vec<Vec<u8>>> {
    ops.iter().map(Op::request).collect()
}

/// Writes operations of one connection and knows which database it has selected.
#[derive(Debug, Default)]
pub struct OpEncoder {
    db: u8,
}

/// The replies that come back for one operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplyShape {
    /// Replies before the final one: each must be `+OK` or `+QUEUED`.
    pub before: usize,
    /// Positions in an EXEC's array that answer a SELECT, ascending.
    pub selects: Vec<usize>,
}

impl OpEncoder {
    /// Appends the requests of `op` to `out`, a SELECT before them where it takes one.
    pub fn encode(&mut self, op: &Op, out: &mut Vec<u8>) -> ReplyShape {
        let mut shape = ReplyShape {
            before: 0,
            selects: Vec::new(),
        };
        shape.before += usize::from(self.select(op, out));
        write_request(out, &op.request());
        if let Op::Multi(ops) = op {
            let mut queued = 0;
            for op in ops {
                if self.select(op, out) {
                    shape.selects.push(queued);
                    queued += 1;
                }
                write_request(out, &op.request());
                queued += 1;
            }
            write_request(out, &["EXEC"]);
            shape.before += 1 + queued;
        }
        if let Op::Record(record) = op {
            for request in record.requests() {
                write_request(out, &request);
                shape.before += 1;
            }
            write_request(out, &["EXEC"]);
            shape.before += 1;
        }
        shape
    }

    fn select(&mut self, op: &Op, out: &mut Vec<u8>) -> bool {
        match op.db() {
            Some(db) if db != self.db => {
                write_request(out, &["SELECT", &db.to_string()]);
                self.db = db;
                true
            }
            _ => false,
        }
    }
}

/// Whether the server's reply is the model's; of errors only the code counts.
#[must_use]
pub fn same_reply(expected: &Reply, actual: &Reply) -> bool {
    match (expected, actual) {
        (Reply::Error(a), Reply::Error(b)) => {
            a.split(|c| *c == b' ').next() == b.split(|c| *c == b' ').next()
        }
        (Reply::Array(a), Reply::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_reply(a, b))
        }
        (a, b) => a == b,
    }
}

/// The reply with the elements of an array in an order of their own.
fn sorted(reply: &Reply) -> Reply {
    match reply {
        Reply::Array(items) => {
            let mut items = items.clone();
            items.sort_by_key(|item| format!("{item:?}"));
            Reply::Array(items)
        }
        other => other.clone(),
    }
}

fn len(n: usize) -> Reply {
    Reply::Int(i64::try_from(n).unwrap_or(i64::MAX))
}

fn wrong_type() -> Reply {
    Reply::Error(b"WRONGTYPE Operation against a key holding the wrong kind of value".to_vec())
}

/// Runs `change` on the value at `key`, an empty one if there is none, and removes the key when
/// the value is empty afterwards.
macro_rules! on_type {
    ($name:ident, $variant:ident, $type:ty) => {
        fn $name(
            state: &mut State,
            key: &DbKey,
            change: impl FnOnce(&mut $type) -> Reply,
        ) -> Reply {
            let entry = state
                .entry(key.clone())
                .or_insert_with(|| Entry::new(Value::$variant(Default::default())));
            let Value::$variant(value) = &mut entry.value else {
                return wrong_type();
            };
            let reply = change(value);
            if value.is_empty() {
                state.remove(key);
            }
            reply
        }
    };
}

on_type!(string, Str, Vec<u8>);
on_type!(list, List, Vec<Vec<u8>>);
on_type!(hash, Hash, BTreeMap<Vec<u8>, Vec<u8>>);
on_type!(set, Set, BTreeSet<Vec<u8>>);

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> DbKey {
        DbKey::new(0, name)
    }

    #[test]
    fn the_model_answers_as_redis_does() {
        let mut state = State::new();
        let mut run = |op: Op| format!("{:?}", op.apply(&mut state));
        assert_eq!(run(Op::IncrBy(key("n"), 2)), ":2");
        assert_eq!(run(Op::Append(key("n"), b"0".to_vec())), ":2");
        assert_eq!(run(Op::IncrBy(key("n"), 1)), ":21");
        assert_eq!(run(Op::LPop(key("l"))), "nil");
        assert_eq!(run(Op::RPush(key("l"), b"a".to_vec())), ":1");
        assert!(run(Op::RPush(key("n"), b"a".to_vec())).starts_with("-WRONGTYPE"));
        assert_eq!(run(Op::LPop(key("l"))), "\"a\"");
        assert_eq!(run(Op::Del(vec![key("l"), key("n")])), ":1");
    }

    #[test]
    fn swapdb_moves_the_keys_of_both_databases() {
        let mut state = State::new();
        state.insert(DbKey::new(1, "a"), Entry::string("1"));
        state.insert(DbKey::new(2, "b"), Entry::string("2"));
        Op::SwapDb(1, 2).apply(&mut state);
        assert_eq!(state.get(&DbKey::new(2, "a")), Some(&Entry::string("1")));
        assert_eq!(state.get(&DbKey::new(1, "b")), Some(&Entry::string("2")));
        assert_eq!(state.len(), 2);
    }

    #[test]
    fn a_select_is_sent_only_when_the_database_changes() {
        let mut encoder = OpEncoder::default();
        let mut out = Vec::new();
        let set = |db| Op::Set(DbKey::new(db, "k"), b"v".to_vec(), None);
        assert_eq!(encoder.encode(&set(0), &mut out).before, 0);
        assert_eq!(encoder.encode(&set(3), &mut out).before, 1);
        assert_eq!(encoder.encode(&set(3), &mut out).before, 0);
        let shape = encoder.encode(&Op::Multi(vec![set(3), set(4), set(5)]), &mut out);
        assert_eq!(
            shape,
            ReplyShape {
                before: 6,
                selects: vec![1, 3]
            }
        );
    }
}
