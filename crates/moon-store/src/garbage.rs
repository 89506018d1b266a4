//! Lazy free: large values and databases that were removed wait to be dropped on another thread.
//!
//! Dropping a set of ten million members takes a second, whatever removed it. So nothing large is
//! dropped where it was removed: [`Db`] puts it into its bin, and the thread of the shard takes the
//! [`Garbage`] out at the end of the turn and gives it to a thread that does nothing else.
//! The rule is in one place, [`Bin::put`], and it is the same for DEL, UNLINK, expiry, eviction
//! and whatever is stored over a value.

use crate::db::Db;
use crate::tracking::TrackedKeys;
use crate::value::Value;

/// A collection with more memory is not dropped where it was removed. This much is some thousand
/// small allocations at most, which take some 10 microseconds.
pub const LAZY_BYTES: usize = 32 << 10;

/// The same for a string, which is one allocation.
pub const LAZY_STRING_BYTES: usize = 1 << 20;

fn is_large(value: &Value) -> bool {
    match value {
        Value::Int(_) => false,
        Value::Str(string) => string.memory() > LAZY_STRING_BYTES,
        collection => collection.memory() > LAZY_BYTES,
    }
}

/// Removed values of one database.
#[derive(Debug, Default)]
pub(crate) struct Bin {
    /// Whether anybody empties the bin; without, everything is dropped at once (recovery).
    is_emptied: bool,
    values: Vec<Value>,
}

impl Bin {
    /// The value is needed no more.
    #[inline]
    pub(crate) fn put(&mut self, value: Value) {
        if self.is_emptied && is_large(&value) {
            self.values.push(value);
        }
    }

    pub(crate) fn set_emptied(&mut self, is_emptied: bool) {
        self.is_emptied = is_emptied;
        self.values.clear();
    }

    fn take_into(&mut self, values: &mut Vec<Value>) {
        if !self.values.is_empty() {
            values.append(&mut self.values);
            if values.capacity() > VALUES_KEPT_MAX {
                self.values = Vec::new();
            }
        }
    }
}

/// Room that a bin keeps.
const VALUES_KEPT_MAX: usize = 64;

/// What is to be dropped where it disturbs nobody.
#[derive(Debug, Default)]
pub struct Garbage {
    values: Vec<Value>,
    dbs: Vec<Db>,
    tracked: Vec<TrackedKeys>,
}

impl Garbage {
    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values.is_empty() && self.dbs.is_empty() && self.tracked.is_empty()
    }

    /// Values in it, those of whole databases included.
    #[must_use]
    pub fn objects(&self) -> u64 {
        let keys: usize = self.dbs.iter().map(Db::len).sum();
        (self.values.len() + keys) as u64
    }

    /// Bytes that come back when it is dropped.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let values: usize = self.values.iter().map(Value::memory).sum();
        let dbs: usize = self.dbs.iter().map(Db::memory).sum();
        (values + dbs) as u64
    }

    /// The same piece by piece: each value, each database.
    pub fn parts(self) -> impl Iterator<Item = Garbage> {
        let values = self.values.into_iter().map(|value| Garbage {
            values: vec![value],
            ..Garbage::default()
        });
        let dbs = self.dbs.into_iter().map(|db| Garbage {
            dbs: vec![db],
            ..Garbage::default()
        });
        let tracked = self.tracked.into_iter().map(|tracked| Garbage {
            tracked: vec![tracked],
            ..Garbage::default()
        });
        values.chain(dbs).chain(tracked)
    }

    /// A database that was emptied; a small one is dropped here.
    pub(crate) fn put_db(&mut self, db: Db) {
        if db.memory() > LAZY_BYTES {
            self.dbs.push(db);
        }
    }

    /// The keys of which clients kept copies; few are dropped here.
    pub(crate) fn put_tracked(&mut self, tracked: TrackedKeys) {
        if tracked.is_large() {
            self.tracked.push(tracked);
        }
    }

    pub(crate) fn put_all_of(&mut self, bin: &mut Bin) {
        bin.take_into(&mut self.values);
    }
}
