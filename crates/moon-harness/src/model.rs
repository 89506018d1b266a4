//! The keyspace a test expects: a slow, obvious model of the few types that workloads use.

use crate::sketches::Sketch;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

/// A key and the database it is in.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DbKey {
    /// Database number.
    pub db: u8,
    /// The key.
    pub key: Vec<u8>,
}

impl DbKey {
    /// `key` in database `db`.
    #[must_use]
    pub fn new(db: u8, key: impl Into<Vec<u8>>) -> Self {
        DbKey {
            db,
            key: key.into(),
        }
    }

    /// The connection that owns this key: the number in its prefix `c<n>:`.
    #[must_use]
    pub fn owner(&self) -> Option<usize> {
        let text = std::str::from_utf8(&self.key).ok()?;
        // A hash tag may stand before the prefix.
        let text = match text.strip_prefix('{') {
            Some(rest) => rest.split_once('}')?.1,
            None => text,
        };
        let (number, _) = text.strip_prefix('c')?.split_once(':')?;
        number.parse().ok()
    }
}

impl fmt::Debug for DbKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.db, self.key.escape_ascii())
    }
}

impl fmt::Display for DbKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A value of one of the types that workloads use.
#[derive(Clone, PartialEq, Eq)]
pub enum Value {
    /// A string; counters are strings too.
    Str(Vec<u8>),
    /// A list, head first.
    List(Vec<Vec<u8>>),
    /// A hash.
    Hash(BTreeMap<Vec<u8>, Vec<u8>>),
    /// A set.
    Set(BTreeSet<Vec<u8>>),
    /// A sorted set whose scores are whole numbers.
    Scores(BTreeMap<Vec<u8>, i64>),
    /// A stream.
    Stream(Stream),
    /// A HyperLogLog.
    Sketch(Sketch),
}

/// A stream whose ids are `n-0`, each entry with one field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stream {
    /// The value of each entry, by `n`.
    pub entries: BTreeMap<u64, Vec<u8>>,
    /// The last id that was ever given.
    pub last: u64,
    /// Its consumer group, once there is one.
    pub group: Option<Group>,
}

/// A consumer group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    /// The last id that was delivered.
    pub delivered: u64,
    /// The entries that are delivered and not acknowledged.
    pub pending: BTreeMap<u64, Pending>,
}

/// An entry that a consumer has and has not acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// Who has it.
    pub consumer: Vec<u8>,
    /// How often it was delivered.
    pub deliveries: u64,
}

impl Value {
    /// A number that grows with every write of the workloads to the same key, to tell an older
    /// value from a newer one in a message.
    #[must_use]
    pub fn progress(&self) -> u64 {
        match self {
            Value::Str(bytes) => {
                let text = String::from_utf8_lossy(bytes);
                let last = text.rsplit(':').next().unwrap_or_default();
                last.parse().unwrap_or(bytes.len() as u64)
            }
            Value::List(items) => items.len() as u64,
            Value::Hash(fields) => fields
                .values()
                .map(|v| Value::Str(v.clone()).progress())
                .fold(0, u64::wrapping_add),
            Value::Set(members) => members.len() as u64,
            Value::Scores(scores) => scores.len() as u64,
            Value::Stream(stream) => stream.last,
            Value::Sketch(sketch) => sketch.progress(),
        }
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Str(b) => write!(f, "\"{}\"", b.escape_ascii()),
            Value::List(items) => {
                let last = items.last().map(|b| b.escape_ascii().to_string());
                write!(f, "list of {}, last {last:?}", items.len())
            }
            Value::Hash(fields) => write!(f, "hash of {}: {:?}", fields.len(), {
                let text = |b: &Vec<u8>| b.escape_ascii().to_string();
                fields
                    .iter()
                    .map(|(k, v)| (text(k), text(v)))
                    .take(8)
                    .collect::<Vec<_>>()
            }),
            Value::Set(members) => {
                let last = members.last().map(|b| b.escape_ascii().to_string());
                write!(f, "set of {}, last {last:?}", members.len())
            }
            Value::Scores(scores) => {
                let last = scores.last_key_value();
                let last = last.map(|(m, score)| (m.escape_ascii().to_string(), score));
                write!(f, "sorted set of {}, last {last:?}", scores.len())
            }
            Value::Sketch(sketch) => write!(f, "{sketch:?}"),
            Value::Stream(stream) => {
                let group = stream.group.as_ref();
                let group = group.map(|g| (g.delivered, g.pending.len()));
                let (len, last) = (stream.entries.len(), stream.last);
                write!(
                    f,
                    "stream of {len}, last {last}, delivered and pending {group:?}"
                )
            }
        }
    }
}

/// What a key holds.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its value.
    pub value: Value,
    /// When it expires, Unix milliseconds; workloads use times that a run never reaches.
    pub expires_at_ms: Option<u64>,
    /// When which field of a hash expires, Unix milliseconds.
    pub deadlines: BTreeMap<Vec<u8>, u64>,
}

impl Entry {
    /// A value that never expires.
    #[must_use]
    pub fn new(value: Value) -> Self {
        Entry {
            value,
            expires_at_ms: None,
            deadlines: BTreeMap::new(),
        }
    }

    /// A string that never expires.
    #[must_use]
    pub fn string(bytes: impl Into<Vec<u8>>) -> Self {
        Entry::new(Value::Str(bytes.into()))
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.value)?;
        if let Some(at) = self.expires_at_ms {
            write!(f, " until {at}")?;
        }
        for (field, at) in &self.deadlines {
            write!(f, ", {} until {at}", field.escape_ascii())?;
        }
        Ok(())
    }
}

/// A keyspace: every database of a server, or the part of it that one connection owns.
pub type State = HashMap<DbKey, Entry>;
