//! Operations on sorted sets, streams, bitmaps and places, and on values as a whole: what each does
//! to the model and what the server must answer.
//!
//! Scores are whole numbers and ids are `n-0`, so that the model needs no arithmetic of its own.
//! Places are taken from a table that holds the score Redis gives each of them.

use crate::groups;
use crate::model::{DbKey, Entry, State, Stream, Value};
use crate::reply::Reply;
use std::collections::BTreeMap;

/// The one consumer group of every stream.
const GROUP: &[u8] = b"g";
/// The field that every entry of a stream has.
const FIELD: &[u8] = b"v";
/// As many elements as no value of a workload has.
const ALL: &[u8] = b"1000000";

/// Places: longitude, latitude and the score of a sorted set that stands for them.
const PLACES: [(&str, &str, i64); 4] = [
    ("-122.27652", "37.805186", 1_367_952_638_197_536),
    ("13.361389", "38.115556", 3_479_099_956_230_698),
    ("15.087269", "37.502669", 3_479_447_370_796_909),
    ("2.349014", "48.864716", 3_663_832_805_879_806),
];

/// What Redis 7.0 dumps for the string `restored`.
const DUMPED: &[u8] = b"\x00\x08restored\x0a\x00\xb5\x65\xb8\xd8\xd2\x6f\x0a\xf4";

/// One write.
#[derive(Clone, Debug, PartialEq)]
pub enum TypedOp {
    /// `ZADD key score member`
    ZAdd(DbKey, i64, Vec<u8>),
    /// `ZINCRBY key by member`
    ZIncrBy(DbKey, i64, Vec<u8>),
    /// `ZREM key member`
    ZRem(DbKey, Vec<u8>),
    /// `ZPOPMIN key`
    ZPopMin(DbKey),
    /// `ZUNIONSTORE to 2 a b`
    ZUnionStore {
        /// The destination.
        to: DbKey,
        /// The sources.
        from: [DbKey; 2],
    },
    /// `GEOADD key longitude latitude member`, the place by its number in a table of four.
    GeoAdd(DbKey, usize, Vec<u8>),
    /// `SPOP key` with a count beyond its size: everything, in an order of the server's choice.
    SPopAll(DbKey),
    /// `XADD key [MAXLEN = max] n-0 v value`; numbers rise.
    XAdd(DbKey, u64, Vec<u8>, Option<usize>),
    /// `XDEL key n-0`
    XDel(DbKey, u64),
    /// `XGROUP CREATE key g 0 MKSTREAM`
    XGroup(DbKey),
    /// `XREADGROUP GROUP g consumer COUNT count STREAMS key >`
    XReadGroup(DbKey, &'static str, usize),
    /// `XACK key g n-0`
    XAck(DbKey, u64),
    /// `SETBIT key offset bit`
    SetBit(DbKey, usize, bool),
    /// `RESTORE key 0 payload REPLACE`, of a string.
    Restore(DbKey),
}

use TypedOp as Op;

impl TypedOp {
    /// The keys it changes or looks at.
    #[must_use]
    pub fn keys(&self) -> Vec<&DbKey> {
        match self {
            Op::ZUnionStore { to, from: [a, b] } => vec![to, a, b],
            Op::ZAdd(key, ..)
            | Op::ZIncrBy(key, ..)
            | Op::ZRem(key, _)
            | Op::ZPopMin(key)
            | Op::GeoAdd(key, ..)
            | Op::SPopAll(key)
            | Op::XAdd(key, ..)
            | Op::XDel(key, _)
            | Op::XGroup(key)
            | Op::XReadGroup(key, ..)
            | Op::XAck(key, _)
            | Op::SetBit(key, ..)
            | Op::Restore(key) => vec![key],
        }
    }

    /// Whether the reply may list its elements in another order.
    #[must_use]
    pub fn is_unordered(&self) -> bool {
        matches!(self, Op::SPopAll(_))
    }

    /// Its words.
    #[must_use]
    pub fn request(&self) -> Vec<Vec<u8>> {
        let words = |words: &[&[u8]]| words.iter().map(|word| word.to_vec()).collect();
        match self {
            Op::ZAdd(k, score, member) => {
                words(&[b"ZADD", &k.key, number(score).as_bytes(), member])
            }
            Op::ZIncrBy(k, by, member) => {
                words(&[b"ZINCRBY", &k.key, number(by).as_bytes(), member])
            }
            Op::ZRem(k, member) => words(&[b"ZREM", &k.key, member]),
            Op::ZPopMin(k) => words(&[b"ZPOPMIN", &k.key]),
            Op::ZUnionStore { to, from: [a, b] } => {
                words(&[b"ZUNIONSTORE", &to.key, b"2", &a.key, &b.key])
            }
            Op::GeoAdd(k, place, member) => {
                let (longitude, latitude, _) = PLACES[place % PLACES.len()];
                words(&[
                    b"GEOADD",
                    &k.key,
                    longitude.as_bytes(),
                    latitude.as_bytes(),
                    member,
                ])
            }
            Op::SPopAll(k) => words(&[b"SPOP", &k.key, ALL]),
            Op::XAdd(k, n, value, None) => words(&[b"XADD", &k.key, &id(*n), FIELD, value]),
            Op::XAdd(k, n, value, Some(max)) => {
                let max = number(max);
                words(&[
                    b"XADD",
                    &k.key,
                    b"MAXLEN",
                    b"=",
                    max.as_bytes(),
                    &id(*n),
                    FIELD,
                    value,
                ])
            }
            Op::XDel(k, n) => words(&[b"XDEL", &k.key, &id(*n)]),
            Op::XGroup(k) => words(&[b"XGROUP", b"CREATE", &k.key, GROUP, b"0", b"MKSTREAM"]),
            Op::XReadGroup(k, consumer, count) => words(&[
                b"XREADGROUP",
                b"GROUP",
                GROUP,
                consumer.as_bytes(),
                b"COUNT",
                number(count).as_bytes(),
                b"STREAMS",
                &k.key,
                b">",
            ]),
            Op::XAck(k, n) => words(&[b"XACK", &k.key, GROUP, &id(*n)]),
            Op::SetBit(k, offset, bit) => {
                let bit = number(&u8::from(*bit));
                words(&[b"SETBIT", &k.key, number(offset).as_bytes(), bit.as_bytes()])
            }
            Op::Restore(k) => words(&[b"RESTORE", &k.key, b"0", DUMPED, b"REPLACE"]),
        }
    }

    /// Does to `state` what the server does, and returns what the server must answer.
    pub fn apply(&self, state: &mut State) -> Reply {
        match self {
            Op::ZAdd(key, score, member) => scores(state, key, |scores| {
                let added = scores.insert(member.clone(), *score).is_none();
                Reply::Int(i64::from(added))
            }),
            Op::GeoAdd(key, place, member) => scores(state, key, |scores| {
                let score = PLACES[place % PLACES.len()].2;
                let added = scores.insert(member.clone(), score).is_none();
                Reply::Int(i64::from(added))
            }),
            Op::ZIncrBy(key, by, member) => scores(state, key, |scores| {
                let score = scores.entry(member.clone()).or_default();
                *score += by;
                Reply::bulk(number(score))
            }),
            Op::ZRem(key, member) => scores(state, key, |scores| {
                Reply::Int(i64::from(scores.remove(member).is_some()))
            }),
            Op::ZPopMin(key) => scores(state, key, |scores| {
                let lowest = scores
                    .iter()
                    .min_by_key(|(member, score)| (**score, *member));
                let Some((member, score)) = lowest.map(|(m, s)| (m.clone(), *s)) else {
                    return Reply::Array(Vec::new());
                };
                scores.remove(&member);
                Reply::Array(vec![Reply::Bulk(member), Reply::bulk(number(&score))])
            }),
            Op::ZUnionStore { to, from } => union_store(state, to, from),
            Op::SPopAll(key) => match state.get(key).map(|entry| &entry.value) {
                None => Reply::Array(Vec::new()),
                Some(Value::Set(members)) => {
                    let members = members.iter().map(Reply::bulk).collect();
                    state.remove(key);
                    Reply::Array(members)
                }
                Some(_) => wrong_type(),
            },
            Op::XAdd(key, n, value, max) => stream(state, key, true, |stream| {
                if *n <= stream.last {
                    return Reply::Error(b"ERR the id is too small".to_vec());
                }
                stream.entries.insert(*n, value.clone());
                stream.last = *n;
                while max.is_some_and(|max| stream.entries.len() > max) {
                    stream.entries.pop_first();
                }
                Reply::Bulk(id(*n))
            }),
            Op::XDel(key, n) => stream(state, key, false, |stream| {
                Reply::Int(i64::from(stream.entries.remove(n).is_some()))
            }),
            Op::XGroup(key) => stream(state, key, true, |stream| {
                if stream.group.is_some() {
                    return Reply::Error(b"BUSYGROUP Consumer Group name already exists".to_vec());
                }
                stream.group = Some(crate::model::Group::default());
                Reply::ok()
            }),
            Op::XReadGroup(key, consumer, count) => read_group(state, key, consumer, *count),
            Op::XAck(key, n) => stream(state, key, false, |stream| {
                let group = stream.group.as_mut();
                let acked = group.is_some_and(|group| group.pending.remove(n).is_some());
                Reply::Int(i64::from(acked))
            }),
            Op::SetBit(key, offset, bit) => set_bit(state, key, *offset, *bit),
            Op::Restore(key) => {
                state.insert(key.clone(), Entry::string("restored"));
                Reply::ok()
            }
        }
    }
}

fn number(n: &impl ToString) -> String {
    n.to_string()
}

fn id(n: u64) -> Vec<u8> {
    format!("{n}-0").into_bytes()
}

fn wrong_type() -> Reply {
    Reply::Error(b"WRONGTYPE Operation against a key holding the wrong kind of value".to_vec())
}

/// Runs `change` on the sorted set at `key`, an empty one if there is none; an empty one is removed.
fn scores(
    state: &mut State,
    key: &DbKey,
    change: impl FnOnce(&mut BTreeMap<Vec<u8>, i64>) -> Reply,
) -> Reply {
    let entry = state
        .entry(key.clone())
        .or_insert_with(|| Entry::new(Value::Scores(BTreeMap::new())));
    let Value::Scores(scores) = &mut entry.value else {
        return wrong_type();
    };
    let reply = change(scores);
    if scores.is_empty() {
        state.remove(key);
    }
    reply
}

fn union_store(state: &mut State, to: &DbKey, from: &[DbKey; 2]) -> Reply {
    let mut union: BTreeMap<Vec<u8>, i64> = BTreeMap::new();
    for key in from {
        match state.get(key).map(|entry| &entry.value) {
            None => {}
            Some(Value::Scores(scores)) => {
                for (member, score) in scores {
                    *union.entry(member.clone()).or_default() += score;
                }
            }
            // The members of a set count 1 each.
            Some(Value::Set(members)) => {
                for member in members {
                    *union.entry(member.clone()).or_default() += 1;
                }
            }
            Some(_) => return wrong_type(),
        }
    }
    let len = i64::try_from(union.len()).unwrap_or(i64::MAX);
    if union.is_empty() {
        state.remove(to);
    } else {
        state.insert(to.clone(), Entry::new(Value::Scores(union)));
    }
    Reply::Int(len)
}

/// Runs `change` on the stream at `key`. Where there is none it is created, or the answer is 0.
fn stream(
    state: &mut State,
    key: &DbKey,
    creates: bool,
    change: impl FnOnce(&mut Stream) -> Reply,
) -> Reply {
    if !creates && !state.contains_key(key) {
        return Reply::Int(0);
    }
    let entry = state
        .entry(key.clone())
        .or_insert_with(|| Entry::new(Value::Stream(Stream::default())));
    match &mut entry.value {
        Value::Stream(stream) => change(stream),
        _ => wrong_type(),
    }
}

fn read_group(state: &mut State, key: &DbKey, consumer: &str, count: usize) -> Reply {
    let no_group = || Reply::Error(b"NOGROUP No such key or consumer group".to_vec());
    let Some(entry) = state.get_mut(key) else {
        return no_group();
    };
    let Value::Stream(stream) = &mut entry.value else {
        return wrong_type();
    };
    if stream.group.is_none() {
        return no_group();
    }
    let read = groups::deliver(stream, consumer, count);
    if read.is_empty() {
        return Reply::NullArray;
    }
    Reply::Array(vec![Reply::Array(vec![
        Reply::bulk(&key.key),
        Reply::Array(read),
    ])])
}

fn set_bit(state: &mut State, key: &DbKey, offset: usize, bit: bool) -> Reply {
    let entry = state
        .entry(key.clone())
        .or_insert_with(|| Entry::string(""));
    let Value::Str(bytes) = &mut entry.value else {
        return wrong_type();
    };
    let byte = offset / 8;
    if bytes.len() <= byte {
        bytes.resize(byte + 1, 0);
    }
    let mask = 0x80 >> (offset % 8);
    let before = bytes[byte] & mask != 0;
    if bit {
        bytes[byte] |= mask;
    } else {
        bytes[byte] &= !mask;
    }
    Reply::Int(i64::from(before))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> DbKey {
        DbKey::new(0, name)
    }

    fn check(cases: &[(TypedOp, &str)]) -> State {
        let mut state = State::new();
        for (op, reply) in cases {
            assert_eq!(format!("{:?}", op.apply(&mut state)), *reply, "{op:?}");
        }
        state
    }

    #[test]
    fn sorted_sets_are_ordered_by_score_and_then_by_member() {
        let member = |name: &str| name.as_bytes().to_vec();
        let state = check(&[
            (Op::ZAdd(key("z"), 2, member("b")), ":1"),
            (Op::ZAdd(key("z"), 2, member("a")), ":1"),
            (Op::ZIncrBy(key("z"), 5, member("c")), "\"5\""),
            (Op::ZPopMin(key("z")), "[\"a\", \"2\"]"),
            (Op::GeoAdd(key("y"), 0, member("b")), ":1"),
            (
                Op::ZUnionStore {
                    to: key("u"),
                    from: [key("z"), key("y")],
                },
                ":2",
            ),
            (Op::ZRem(key("y"), member("b")), ":1"),
            (Op::ZPopMin(key("y")), "[]"),
            (
                Op::SetBit(key("u"), 1, true),
                &format!("{:?}", wrong_type()),
            ),
        ]);
        assert!(!state.contains_key(&key("y")));
        let Value::Scores(union) = &state[&key("u")].value else {
            panic!("a sorted set");
        };
        assert_eq!(union[&member("b")], PLACES[0].2 + 2);
    }

    #[test]
    fn a_group_delivers_each_entry_once() {
        let value = |text: &str| text.as_bytes().to_vec();
        let state = check(&[
            (Op::XDel(key("s"), 1), ":0"),
            (Op::XAdd(key("s"), 1, value("a"), None), "\"1-0\""),
            (Op::XGroup(key("s")), "+OK"),
            (Op::XAdd(key("s"), 3, value("b"), None), "\"3-0\""),
            (
                Op::XReadGroup(key("s"), "c1", 1),
                r#"[["s", [["1-0", ["v", "a"]]]]]"#,
            ),
            (
                Op::XReadGroup(key("s"), "c2", 5),
                r#"[["s", [["3-0", ["v", "b"]]]]]"#,
            ),
            (Op::XReadGroup(key("s"), "c2", 5), "nil array"),
            (Op::XAck(key("s"), 1), ":1"),
            (Op::XAck(key("s"), 1), ":0"),
            (Op::XAdd(key("s"), 4, value("c"), Some(1)), "\"4-0\""),
        ]);
        let Value::Stream(stream) = &state[&key("s")].value else {
            panic!("a stream");
        };
        assert_eq!(stream.entries.len(), 1);
        let pending: Vec<_> = stream.group.iter().flat_map(|g| g.pending.keys()).collect();
        assert_eq!(pending, [&3]);
    }

    #[test]
    fn bits_are_counted_from_the_highest() {
        let state = check(&[
            (Op::SetBit(key("b"), 9, true), ":0"),
            (Op::SetBit(key("b"), 9, true), ":1"),
            (Op::SetBit(key("b"), 0, true), ":0"),
            (Op::SetBit(key("b"), 9, false), ":1"),
        ]);
        assert_eq!(state[&key("b")], Entry::string([0x80, 0]));
    }
}
