//! What a command's code may use.

use crate::effects::Effects;
use crate::error::CommandError;
use crate::shard_set::ShardSet;
use moon_core::{Lsn, UnixMs};
use moon_resp::{Args, Reply};
use moon_store::{DbIndex, Deadline, Key, ShardData, Value};
use rand::rngs::SmallRng;

/// Bounds and thresholds that CONFIG SET can change.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Longest string, `proto-max-bulk-len`.
    pub max_bulk_len: usize,
    /// `hash-max-listpack-entries`, for OBJECT ENCODING.
    pub hash_max_listpack_entries: usize,
    /// `hash-max-listpack-value` in bytes.
    pub hash_max_listpack_value: usize,
    /// `list-max-listpack-size`: entries if positive, -1 to -5 for 4 to 64 KiB.
    pub list_max_listpack_size: i64,
    /// `set-max-intset-entries`.
    pub set_max_intset_entries: usize,
    /// `set-max-listpack-entries`.
    pub set_max_listpack_entries: usize,
    /// `set-max-listpack-value` in bytes.
    pub set_max_listpack_value: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_bulk_len: 512 << 20,
            hash_max_listpack_entries: 128,
            hash_max_listpack_value: 64,
            list_max_listpack_size: -2,
            set_max_intset_entries: 512,
            set_max_listpack_entries: 128,
            set_max_listpack_value: 64,
        }
    }
}

/// Where a command comes from, which decides what it may do on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A client.
    Client,
    /// The log, or a primary: nothing expires by itself, nothing is logged again.
    Replay,
}

/// Counters of one execution, added to the shard's statistics afterwards.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Look-ups by read commands that found a key.
    pub hits: u64,
    /// Look-ups by read commands that found none.
    pub misses: u64,
    /// Keys removed because their deadline had passed.
    pub expired: u64,
}

/// What the code of a command works with: data, time, reply, effects.
///
/// Look-ups go through here, so that expiry, the gate's dependency and the statistics are in one
/// place; changes are made known with [`Cx::changed`] or one of its variants.
pub struct Cx<'a> {
    /// The data in hand.
    pub shards: ShardSet<'a>,
    /// The database the connection has selected.
    pub db: DbIndex,
    /// The time of this turn; [`UnixMs::BEFORE_ALL`] in replay.
    pub now: UnixMs,
    /// Who asks.
    pub origin: Origin,
    /// Where the reply goes.
    pub reply: Reply<'a>,
    /// Where the effects go.
    pub effects: &'a mut Effects,
    /// The highest uncommitted LSN among what this command looked at.
    pub depends_on: Lsn,
    /// For random picks; what was picked goes into the effect.
    pub rng: &'a mut SmallRng,
    /// Bounds and thresholds.
    pub limits: &'a Limits,
    /// What is counted.
    pub counts: Counts,
    /// Keys past their deadline are not removed, only not shown (the log's disk is full).
    pub keep_expired: bool,
}

impl<'a> Cx<'a> {
    /// The shard of `key`.
    #[inline]
    pub fn shard(&mut self, key: Key<'_>) -> &mut ShardData {
        self.shards.of_key(key.bytes)
    }

    /// The value of a key for a command that only reads. Counts a hit or a miss.
    #[inline]
    pub fn read(&mut self, key: Key<'_>) -> Option<&Value> {
        // Two look-ups on a hit would be one too many on the hot path, but the borrow checker
        // cannot return from a conditional borrow; `expire` costs nothing without a deadline.
        let present = self.prepare(key);
        if present {
            self.counts.hits += 1;
        } else {
            self.counts.misses += 1;
            return None;
        }
        let db = self.db;
        self.shard(key).db(db).get(key).map(|(value, _)| value)
    }

    /// The value of a key for a command that may change it, with its deadline.
    pub fn write(&mut self, key: Key<'_>) -> Option<(&mut Value, Deadline)> {
        if !self.prepare(key) {
            return None;
        }
        let db = self.db;
        let db = self.shard(key).db(db);
        let deadline = db.get(key)?.1;
        db.get_mut(key).map(|value| (value, deadline))
    }

    /// Whether the key is there, after removing it if its deadline has passed.
    fn prepare(&mut self, key: Key<'_>) -> bool {
        let (db, now) = (self.db, self.now);
        let shard = self.shard(key);
        let dependency = shard.dirty.dependency(db, key.hash);
        let found = shard.db(db).get(key).map(|(_, deadline)| deadline);
        self.depends_on = self.depends_on.max(dependency);
        match found {
            None => false,
            Some(Some(deadline)) if deadline <= now => {
                if !self.keep_expired {
                    self.remove(key);
                    self.counts.expired += 1;
                    self.changed(&[key], &[b"DEL", key.bytes]);
                }
                false
            }
            Some(_) => true,
        }
    }

    /// Stores a value. The effect is the caller's to tell, with [`Cx::changed`].
    pub fn store(&mut self, key: Key<'_>, value: Value, deadline: Deadline) {
        let db = self.db;
        self.shard(key).db(db).insert(key, value, deadline);
    }

    /// Removes a key. The effect is the caller's to tell, with [`Cx::changed`].
    pub fn remove(&mut self, key: Key<'_>) -> Option<(Value, Deadline)> {
        let db = self.db;
        self.shard(key).db(db).remove(key)
    }

    /// `keys` were changed, and `effect` repeats the change.
    pub fn changed<P: AsRef<[u8]>>(&mut self, keys: &[Key<'_>], effect: &[P]) {
        self.mark(keys);
        self.effects.push(self.db, effect);
    }

    /// `keys` were changed, and the request as it came repeats the change.
    pub fn changed_as_sent(&mut self, keys: &[Key<'_>], args: Args<'_>) {
        self.mark(keys);
        self.effects.push_args(self.db, args);
    }

    fn mark(&mut self, keys: &[Key<'_>]) {
        let db = self.db;
        for key in keys {
            self.shard(*key).changed(db, *key);
        }
    }
}

/// What a command's code returns; an error leaves everything as it was.
pub type CommandResult = Result<(), CommandError>;
