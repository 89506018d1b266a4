//! Short strings on their way into one shard, put there a batch at a time.
//!
//! Most of the time that loading a small key takes is waiting for the memory of the table it goes
//! to. In a batch the loads of all keys wait together.

use super::{LoadError, Place};
use moon_store::{DbIndex, Deadline, Key, ShardData, Value};

/// Keys that wait at most.
const LEN_MAX: usize = 64;

/// Longest key with its value that is copied into a batch.
const ENTRY_BYTES_MAX: usize = 1024;

/// Keys of one database of one shard, with strings.
#[derive(Default)]
pub(super) struct Batch {
    /// Their keys and strings in turns.
    bytes: Vec<u8>,
    waiting: Vec<Waiting>,
}

struct Waiting {
    hash: u64,
    /// Where the key ends and the string begins.
    key_end: usize,
    end: usize,
    deadline: Deadline,
}

impl Batch {
    /// Whether there is room for one more entry of that size.
    pub(super) fn admits(&self, key: &[u8], string: &[u8]) -> bool {
        self.waiting.len() < LEN_MAX && key.len() + string.len() <= ENTRY_BYTES_MAX
    }

    /// Whether all the room is used.
    pub(super) fn is_full(&self) -> bool {
        self.waiting.len() >= LEN_MAX
    }

    /// Takes an entry that was admitted.
    pub(super) fn push(&mut self, key: &[u8], deadline: Deadline, string: &[u8]) {
        self.bytes.extend_from_slice(key);
        let key_end = self.bytes.len();
        self.bytes.extend_from_slice(string);
        self.waiting.push(Waiting {
            hash: Key::new(key).hash,
            key_end,
            end: self.bytes.len(),
            deadline,
        });
    }

    /// Puts all entries into database `db`, whose index is `index`.
    pub(super) fn flush(
        &mut self,
        shard: &mut ShardData,
        db: u32,
        index: DbIndex,
    ) -> Result<(), LoadError> {
        let mut keys = Vec::with_capacity(self.waiting.len());
        let mut start = 0;
        for waiting in &self.waiting {
            keys.push(Key {
                bytes: &self.bytes[start..waiting.key_end],
                hash: waiting.hash,
            });
            start = waiting.end;
        }
        let database = shard.db(index);
        database.warm(&keys, |_| &[]);
        for (key, waiting) in keys.iter().zip(&self.waiting) {
            let value = Value::string(&self.bytes[waiting.key_end..waiting.end]);
            let place = Place {
                db,
                key: key.bytes,
                deadline: waiting.deadline,
            };
            place.store(database, *key, value)?;
        }
        self.bytes.clear();
        self.waiting.clear();
        Ok(())
    }
}
