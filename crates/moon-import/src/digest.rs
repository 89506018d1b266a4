//! Whether two keyspaces are the same, without having both at once.
//!
//! A sum over all keys of a hash of database, key, value and deadline. It does not depend on
//! the order of keys, members and fields, on the number of shards, or on how values are kept.
//! It is for comparing within one process, and no protection against somebody who wants two
//! keyspaces to look the same.

use moon_store::{Deadline, IntText, ShardData, Stream, StreamId, Value};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

/// What a keyspace comes to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyspaceDigest {
    /// Keys of each database, and how many of them have a deadline.
    pub databases: Vec<(u64, u64)>,
    /// Sum of the hashes of keys and of libraries of functions.
    pub sum: u128,
}

impl KeyspaceDigest {
    /// Of all keys of these shards, expired or not.
    #[must_use]
    pub fn of<'a>(shards: impl IntoIterator<Item = &'a ShardData>) -> KeyspaceDigest {
        let mut digest = KeyspaceDigest::default();
        for shard in shards {
            let databases = digest.databases.len().max(shard.dbs.len());
            digest.databases.resize(databases, (0, 0));
            for library in shard.libraries.iter() {
                let text = hash(|hasher| library.code.hash(hasher));
                digest.sum = digest.sum.wrapping_add(text);
            }
            for (index, db) in shard.dbs.iter().enumerate() {
                let counts = &mut digest.databases[index];
                counts.0 += db.len() as u64;
                counts.1 += db.volatile_len() as u64;
                db.for_each(&mut |key, value, deadline| {
                    let entry = entry(index, key, value, deadline);
                    digest.sum = digest.sum.wrapping_add(entry);
                });
            }
        }
        digest
    }

    /// Keys in all databases.
    #[must_use]
    pub fn keys(&self) -> u64 {
        self.databases.iter().map(|(keys, _)| keys).sum()
    }
}

fn entry(db: usize, key: &[u8], value: &Value, deadline: Deadline) -> u128 {
    let content = content(value);
    hash(|hasher| {
        db.hash(hasher);
        key.hash(hasher);
        deadline.map(|at| at.0).hash(hasher);
        value.kind().name().hash(hasher);
        content.hash(hasher);
    })
}

fn content(value: &Value) -> u128 {
    match value {
        Value::Int(_) | Value::Str(_) => {
            let mut text = IntText::new();
            let bytes = value.as_bytes(&mut text).unwrap_or_default();
            hash(|hasher| bytes.hash(hasher))
        }
        Value::List(list) => hash(|hasher| {
            list.len().hash(hasher);
            list.for_each(|element| element.hash(hasher));
        }),
        Value::Set(set) => sum(set.iter().map(|member| {
            let member = member.to_vec();
            hash(|hasher| member.hash(hasher))
        })),
        Value::Stream(stream) => hash(|hasher| stream_content(stream, hasher)),
        Value::Hash(fields) => sum(fields.fields().map(|field| {
            let deadline = field.deadline.map(|at| at.0);
            hash(|hasher| (field.name, field.value, deadline).hash(hasher))
        })),
        Value::ZSet(members) => sum(members
            .iter()
            .map(|(member, score)| hash(|hasher| (member, score.to_bits()).hash(hasher)))),
    }
}

/// Everything but the times at which consumers were heard of: files of older versions do not have
/// them all, and no write depends on them.
fn stream_content(stream: &Stream, hasher: &mut DefaultHasher) {
    stream.len().hash(hasher);
    stream.last_id().hash(hasher);
    stream.max_deleted_id().hash(hasher);
    stream.entries_added().hash(hasher);
    let mut text = Vec::new();
    for entry in stream.range(StreamId::MIN, StreamId::MAX) {
        (entry.id, entry.len()).hash(hasher);
        for (name, value) in entry.fields() {
            for element in [name, value] {
                text.clear();
                element.spell(&mut text);
                text.hash(hasher);
            }
        }
    }
    for (name, group) in stream.groups() {
        (name, group.last_id, group.entries_read).hash(hasher);
        for (id, pending) in group.pending() {
            (id, pending.delivered_ms, pending.deliveries).hash(hasher);
        }
        for consumer in group.consumers() {
            (consumer.name(), consumer.pending()).hash(hasher);
        }
    }
}

fn sum(parts: impl Iterator<Item = u128>) -> u128 {
    parts.fold(0, u128::wrapping_add)
}

/// 128 bits: two hashes of 64 that differ in what goes before.
fn hash(feed: impl Fn(&mut DefaultHasher)) -> u128 {
    let half = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        hasher.write_u8(salt);
        feed(&mut hasher);
        u128::from(hasher.finish())
    };
    half(0) << 64 | half(1)
}
