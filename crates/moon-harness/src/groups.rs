//! Operations on streams whose entries several consumers share: read over several streams, claimed
//! from each other, acknowledged, taken back.
//!
//! Every stream has one group, `g`. What is pending is exact: which entry, whose it is and how often
//! it was delivered.

use crate::model::{DbKey, Group, Pending, State, Stream, Value};
use crate::reply::Reply;

/// The group of every stream.
const GROUP: &[u8] = b"g";

/// One operation.
#[derive(Clone, Debug, PartialEq)]
pub enum GroupOp {
    /// `XREADGROUP GROUP g consumer COUNT n STREAMS a b > >`, of streams on any shards.
    ReadTwo {
        /// The streams.
        keys: [DbKey; 2],
        /// Who reads.
        consumer: &'static str,
        /// Entries of each stream, at most.
        count: usize,
    },
    /// `XAUTOCLAIM key g consumer 0 0-0 COUNT n`
    AutoClaim(DbKey, &'static str, usize),
    /// `XCLAIM key g consumer 0 n-0 JUSTID`
    Claim(DbKey, &'static str, u64),
    /// `XACK key g n-0 m-0`
    AckTwo(DbKey, [u64; 2]),
    /// `XGROUP DELCONSUMER key g consumer`
    DelConsumer(DbKey, &'static str),
    /// `XGROUP SETID key g 0`: everything is delivered again.
    Rewind(DbKey),
}

impl GroupOp {
    /// The keys it changes or looks at.
    #[must_use]
    pub fn keys(&self) -> Vec<&DbKey> {
        match self {
            GroupOp::ReadTwo { keys: [a, b], .. } => vec![a, b],
            GroupOp::AutoClaim(key, ..)
            | GroupOp::Claim(key, ..)
            | GroupOp::AckTwo(key, _)
            | GroupOp::DelConsumer(key, _)
            | GroupOp::Rewind(key) => vec![key],
        }
    }

    /// Its words.
    #[must_use]
    pub fn request(&self) -> Vec<Vec<u8>> {
        let words = |words: &[&[u8]]| words.iter().map(|word| word.to_vec()).collect();
        let text = |n: &usize| n.to_string().into_bytes();
        match self {
            GroupOp::ReadTwo {
                keys: [a, b],
                consumer,
                count,
            } => {
                let mut all: Vec<Vec<u8>> = words(&[b"XREADGROUP", b"GROUP", GROUP]);
                all.push(consumer.as_bytes().to_vec());
                all.extend([b"COUNT".to_vec(), text(count), b"STREAMS".to_vec()]);
                all.extend([a.key.clone(), b.key.clone(), b">".to_vec(), b">".to_vec()]);
                all
            }
            GroupOp::AutoClaim(key, consumer, count) => {
                let mut all: Vec<Vec<u8>> = words(&[b"XAUTOCLAIM", &key.key, GROUP]);
                all.push(consumer.as_bytes().to_vec());
                all.extend(["0", "0-0", "COUNT"].map(|word| word.as_bytes().to_vec()));
                all.push(text(count));
                all
            }
            GroupOp::Claim(key, consumer, n) => words(&[
                b"XCLAIM",
                &key.key,
                GROUP,
                consumer.as_bytes(),
                b"0",
                &id(*n),
                b"JUSTID",
            ]),
            GroupOp::AckTwo(key, [a, b]) => words(&[b"XACK", &key.key, GROUP, &id(*a), &id(*b)]),
            GroupOp::DelConsumer(key, consumer) => words(&[
                b"XGROUP",
                b"DELCONSUMER",
                &key.key,
                GROUP,
                consumer.as_bytes(),
            ]),
            GroupOp::Rewind(key) => words(&[b"XGROUP", b"SETID", &key.key, GROUP, b"0"]),
        }
    }

    /// Does to `state` what the server does, and returns what the server must answer.
    pub fn apply(&self, state: &mut State) -> Reply {
        match self {
            GroupOp::ReadTwo {
                keys,
                consumer,
                count,
            } => read(state, keys, consumer, *count),
            GroupOp::AutoClaim(key, consumer, count) => {
                on_group(state, key, no_group(), |stream, group| {
                    let mut claimed = Vec::new();
                    let mut next = 0;
                    for (n, pending) in &mut group.pending {
                        if claimed.len() == *count {
                            next = *n;
                            break;
                        }
                        pending.consumer = consumer.as_bytes().to_vec();
                        pending.deliveries += 1;
                        claimed.push(entry(*n, &stream.entries[n]));
                    }
                    Reply::Array(vec![
                        Reply::Bulk(id(next)),
                        Reply::Array(claimed),
                        Reply::Array(Vec::new()),
                    ])
                })
            }
            GroupOp::Claim(key, consumer, n) => on_group(state, key, no_group(), |_, group| {
                let Some(pending) = group.pending.get_mut(n) else {
                    return Reply::Array(Vec::new());
                };
                pending.consumer = consumer.as_bytes().to_vec();
                Reply::Array(vec![Reply::Bulk(id(*n))])
            }),
            GroupOp::AckTwo(key, ids) => on_group(state, key, Reply::Int(0), |_, group| {
                let acked = ids.iter().filter(|n| group.pending.remove(n).is_some());
                int(acked.count())
            }),
            GroupOp::DelConsumer(key, consumer) => on_group(state, key, no_key(), |_, group| {
                let before = group.pending.len();
                let stays = |pending: &Pending| pending.consumer != consumer.as_bytes();
                group.pending.retain(|_, pending| stays(pending));
                int(before - group.pending.len())
            }),
            GroupOp::Rewind(key) => on_group(state, key, no_key(), |_, group| {
                group.delivered = 0;
                Reply::ok()
            }),
        }
    }
}

fn id(n: u64) -> Vec<u8> {
    format!("{n}-0").into_bytes()
}

fn int(n: usize) -> Reply {
    Reply::Int(i64::try_from(n).unwrap_or(i64::MAX))
}

/// What XGROUP answers where there is no key.
fn no_key() -> Reply {
    Reply::Error(b"ERR The XGROUP subcommand requires the key to exist".to_vec())
}

fn no_group() -> Reply {
    Reply::Error(b"NOGROUP No such key or consumer group".to_vec())
}

fn wrong_type() -> Reply {
    Reply::Error(b"WRONGTYPE Operation against a key holding the wrong kind of value".to_vec())
}

fn entry(n: u64, value: &[u8]) -> Reply {
    let fields = vec![Reply::bulk("v"), Reply::bulk(value)];
    Reply::Array(vec![Reply::Bulk(id(n)), Reply::Array(fields)])
}

/// Runs `change` on the stream at `key` and its group. Without the key the answer is `without_key`,
/// without the group the same or that there is none.
fn on_group(
    state: &mut State,
    key: &DbKey,
    without_key: Reply,
    change: impl FnOnce(&Stream, &mut Group) -> Reply,
) -> Reply {
    let Some(found) = state.get_mut(key) else {
        return without_key;
    };
    let Value::Stream(stream) = &mut found.value else {
        return wrong_type();
    };
    let Some(mut group) = stream.group.take() else {
        return match without_key {
            Reply::Error(_) => no_group(),
            nothing => nothing,
        };
    };
    let reply = change(stream, &mut group);
    stream.group = Some(group);
    reply
}

/// What a group gives to a consumer that asks for new entries.
pub(crate) fn deliver(stream: &mut Stream, consumer: &str, count: usize) -> Vec<Reply> {
    let Some(group) = &mut stream.group else {
        return Vec::new();
    };
    let mut read = Vec::new();
    for (n, value) in stream.entries.range(group.delivered + 1..).take(count) {
        group.delivered = *n;
        // An entry that is pending already, because the group was set back, changes hands.
        let pending = Pending {
            consumer: consumer.as_bytes().to_vec(),
            deliveries: 1,
        };
        group.pending.insert(*n, pending);
        read.push(entry(*n, value));
    }
    read
}

fn read(state: &mut State, keys: &[DbKey; 2], consumer: &str, count: usize) -> Reply {
    for key in keys {
        match state.get(key).map(|entry| &entry.value) {
            Some(Value::Stream(Stream { group: Some(_), .. })) => {}
            Some(Value::Stream(_)) | None => return no_group(),
            Some(_) => return wrong_type(),
        }
    }
    let mut streams = Vec::new();
    for key in keys {
        if let Some(entry) = state.get_mut(key)
            && let Value::Stream(stream) = &mut entry.value
        {
            let read = deliver(stream, consumer, count);
            if !read.is_empty() {
                streams.push(Reply::Array(vec![
                    Reply::bulk(&key.key),
                    Reply::Array(read),
                ]));
            }
        }
    }
    match streams.is_empty() {
        true => Reply::NullArray,
        false => Reply::Array(streams),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::typed::TypedOp;

    #[test]
    fn entries_go_from_hand_to_hand_as_redis_has_it() {
        let mut state = State::new();
        let key = |name: &str| DbKey::new(0, name);
        let (a, b) = (key("a"), key("b"));
        for stream in [&a, &b] {
            TypedOp::XGroup(stream.clone()).apply(&mut state);
        }
        for n in [1, 2] {
            TypedOp::XAdd(a.clone(), n, b"x".to_vec(), None).apply(&mut state);
        }
        let read = GroupOp::ReadTwo {
            keys: [a.clone(), b.clone()],
            consumer: "c1",
            count: 5,
        };
        for (op, reply) in [
            (
                read.clone(),
                r#"[["a", [["1-0", ["v", "x"]], ["2-0", ["v", "x"]]]]]"#,
            ),
            (read.clone(), "nil array"),
            (
                GroupOp::AutoClaim(a.clone(), "c2", 1),
                r#"["2-0", [["1-0", ["v", "x"]]], []]"#,
            ),
            (GroupOp::Claim(a.clone(), "c3", 7), "[]"),
            (GroupOp::Claim(a.clone(), "c3", 2), r#"["2-0"]"#),
            (GroupOp::AckTwo(key("none"), [1, 2]), ":0"),
            (GroupOp::DelConsumer(a.clone(), "c3"), ":1"),
            (GroupOp::Rewind(a.clone()), "+OK"),
            (
                read,
                r#"[["a", [["1-0", ["v", "x"]], ["2-0", ["v", "x"]]]]]"#,
            ),
            (GroupOp::AckTwo(a.clone(), [1, 2]), ":2"),
        ] {
            assert_eq!(format!("{:?}", op.apply(&mut state)), reply, "{op:?}");
        }
    }
}
