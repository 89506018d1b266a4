//! What a command's code may use.

use crate::effects::Effects;
use crate::error::CommandError;
use crate::hashes;
use crate::notify::{Class, Events};
use crate::shard_set::ShardSet;
use moon_core::{Lsn, ShardCount, UnixMs};
use moon_resp::{Args, Reply};
use moon_store::{
    AccessClock, AccessRule, Change, DbIndex, Deadline, EvictionPolicy, Key, NodeLimit, PackLimits,
    ShardData, Value,
};
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
    /// `list-compress-depth`: nodes at each end of a list that are not compressed, 0 for all.
    pub list_compress_depth: usize,
    /// `set-max-intset-entries`.
    pub set_max_intset_entries: usize,
    /// `set-max-listpack-entries`.
    pub set_max_listpack_entries: usize,
    /// `set-max-listpack-value` in bytes.
    pub set_max_listpack_value: usize,
    /// `hll-sparse-max-bytes`: longest HyperLogLog in the sparse encoding, header included.
    pub hll_sparse_max_bytes: usize,
    /// `zset-max-listpack-entries`.
    pub zset_max_listpack_entries: usize,
    /// `zset-max-listpack-value` in bytes.
    pub zset_max_listpack_value: usize,
    /// `maxmemory` in bytes, for the whole instance; 0 means none.
    pub maxmemory: u64,
    /// `maxmemory-policy`.
    pub maxmemory_policy: EvictionPolicy,
    /// `maxmemory-samples`: keys looked at for each that goes.
    pub maxmemory_samples: usize,
    /// `maxmemory-eviction-tenacity`, 0 to 100: how long a command may be held up.
    pub maxmemory_eviction_tenacity: u32,
    /// `lfu-log-factor`.
    pub lfu_log_factor: u32,
    /// `lfu-decay-time` in minutes.
    pub lfu_decay_time: u32,
    /// `stream-node-max-bytes`: bytes that a block of entries stays below; 0 for any number.
    pub stream_node_max_bytes: usize,
    /// `stream-node-max-entries`: entries of a block; 0 for any number.
    pub stream_node_max_entries: usize,
    /// `notify-keyspace-events`: which events clients are told of. In force is what
    /// [`crate::notify::Events::set_classes`] was told.
    pub notify_keyspace_events: Class,
    /// `tracking-table-max-keys`: keys of which clients keep copies, of the whole instance; 0 for
    /// no bound.
    pub tracking_table_max_keys: usize,
}

impl Limits {
    /// Up to where a sorted set stays in its small form.
    #[must_use]
    pub fn zset_pack(&self) -> PackLimits {
        PackLimits {
            entries: self.zset_max_listpack_entries,
            value_bytes: self.zset_max_listpack_value,
        }
    }

    /// How large the nodes of lists get, and which are compressed.
    #[must_use]
    pub fn list_nodes(&self) -> NodeLimit {
        NodeLimit::from_setting(self.list_max_listpack_size)
            .with_compress_depth(self.list_compress_depth)
    }

    /// How uses of keys are remembered at `now`.
    #[must_use]
    pub fn access_rule(&self, now: UnixMs) -> AccessRule {
        if self.maxmemory_policy.is_lfu() {
            AccessRule::Frequency {
                minutes: minutes(now),
                decay_minutes: self.lfu_decay_time,
                log_factor: self.lfu_log_factor,
            }
        } else {
            let now = access_clock(now);
            AccessRule::Recency { now }
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_bulk_len: 512 << 20,
            hash_max_listpack_entries: 128,
            hash_max_listpack_value: 64,
            list_max_listpack_size: -2,
            list_compress_depth: 0,
            set_max_intset_entries: 512,
            set_max_listpack_entries: 128,
            set_max_listpack_value: 64,
            hll_sparse_max_bytes: 3000,
            zset_max_listpack_entries: 128,
            zset_max_listpack_value: 64,
            maxmemory: 0,
            maxmemory_policy: EvictionPolicy::NoEviction,
            maxmemory_samples: 5,
            maxmemory_eviction_tenacity: 10,
            lfu_log_factor: 10,
            lfu_decay_time: 1,
            stream_node_max_bytes: 4096,
            stream_node_max_entries: 100,
            notify_keyspace_events: Class::empty(),
            tracking_table_max_keys: 1_000_000,
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
    /// Fields of hashes removed because their deadline had passed.
    pub expired_fields: u64,
    /// Keys changed, once per command and key: what `save` counts.
    pub changes: u64,
}

/// What the code of a command works with: data, time, reply, effects.
///
/// Look-ups go through here, so that expiry, the gate's dependency and the statistics are in one
/// place; changes are made known with [`Cx::changed`] or one of its variants.
///
/// Commands that only read use [`Cx::read`] and its kin; commands that may change a key use
/// [`Cx::write`] or [`Cx::live`] for it. The difference matters for a key past its deadline: a
/// write finds it removed, with the deletion in the effects before anything the command adds; a
/// read only takes note of it, and [`crate::execute()`] removes it when the command is done. So a
/// read costs one probe of the table.
pub struct Cx<'a> {
    /// The data in hand.
    pub shards: ShardSet<'a>,
    /// How many shards the instance has, in hand or not.
    pub shard_count: ShardCount,
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
    /// Keys past their deadline are not removed by reads, only not shown (the log's disk is full).
    pub keep_expired: bool,
}

impl<'a> Cx<'a> {
    /// The shard of `key`.
    #[inline]
    pub fn shard(&mut self, key: Key<'_>) -> &mut ShardData {
        self.shards.of_key(key.bytes)
    }

    /// How many databases there are.
    pub fn databases(&mut self) -> usize {
        self.shards.iter().next().map_or(0, |shard| shard.dbs.len())
    }

    /// The value of a key for a command that only reads. Counts a hit or a miss, and notes that
    /// the key was used.
    #[inline]
    pub fn read(&mut self, key: Key<'_>) -> Option<&Value> {
        self.look_up::<true>(key).0.map(|(value, _)| value)
    }

    /// As [`Cx::read`], with the deadline, and together with the reply that the value is written
    /// to.
    #[inline]
    pub fn read_with_reply(
        &mut self,
        key: Key<'_>,
    ) -> (Option<(&Value, Deadline)>, &mut Reply<'a>) {
        self.look_up::<true>(key)
    }

    /// As [`Cx::read`], with the deadline, for a command that only asks about the key: that is no
    /// use of it.
    #[inline]
    pub fn inspect(&mut self, key: Key<'_>) -> Option<(&Value, Deadline)> {
        self.look_up::<false>(key).0
    }

    /// As [`Cx::inspect`], for a command that tells nobody if there is no such key.
    #[inline]
    pub(crate) fn inspect_quietly(&mut self, key: Key<'_>) -> Option<(&Value, Deadline)> {
        self.look_up_telling::<false, false>(key).0
    }

    #[inline]
    fn look_up<const TOUCH: bool>(
        &mut self,
        key: Key<'_>,
    ) -> (Option<(&Value, Deadline)>, &mut Reply<'a>) {
        self.look_up_telling::<TOUCH, true>(key)
    }

    #[inline]
    fn look_up_telling<const TOUCH: bool, const TELL: bool>(
        &mut self,
        key: Key<'_>,
    ) -> (Option<(&Value, Deadline)>, &mut Reply<'a>) {
        let (db, now) = (self.db, self.now);
        let shard = self.shards.of_key(key.bytes);
        self.depends_on = self.depends_on.max(shard.dirty.dependency(db, key.hash));
        let found = if TOUCH {
            shard.db(db).get_and_touch(key)
        } else {
            shard.db(db).get(key)
        };
        let found = match found {
            Some((value, deadline)) if !has_expired(value, deadline, now) => {
                self.counts.hits += 1;
                if value.next_field_deadline().is_some_and(|at| at <= now) && !self.keep_expired {
                    self.effects.lapsed(db, key.bytes);
                }
                Some((value, deadline))
            }
            past => {
                self.counts.misses += 1;
                if let Some((value, deadline)) = past
                    && !self.keep_expired
                    && self.effects.lapsed(db, key.bytes)
                {
                    // Told here, where the key is found to be gone; it is removed later.
                    notify_expired(&mut self.effects.events, db, key, value, deadline, now);
                }
                if TELL {
                    let events = &mut self.effects.events;
                    events.tell(Class::KEY_MISS, "keymiss", db, key.bytes);
                }
                None
            }
        };
        (found, &mut self.reply)
    }

    /// Seconds since the key was used; `None` if it is missing.
    pub fn idle_seconds(&mut self, key: Key<'_>) -> Option<u32> {
        let (db, clock) = (self.db, access_clock(self.now));
        self.shard(key).db(db).idle_seconds(key, clock)
    }

    /// How often the key was used, on a logarithmic scale, under an LFU policy; `None` if it is
    /// missing.
    pub fn frequency(&mut self, key: Key<'_>) -> Option<u8> {
        let (db, now, decay) = (self.db, minutes(self.now), self.limits.lfu_decay_time);
        self.shard(key).db(db).freq(key, now, decay)
    }

    /// Whether a key that was come across is there and not past its deadline; one that is past it
    /// is removed. For commands that name no keys: counts neither hit nor miss.
    pub fn is_live(&mut self, key: Key<'_>) -> bool {
        if self.keep_expired {
            let (db, now) = (self.db, self.now);
            let found = self.shard(key).db(db).get(key);
            return found.is_some_and(|(value, deadline)| !has_expired(value, deadline, now));
        }
        self.live(self.db, key).is_some()
    }

    /// The value of a key for a command that may change it, with its deadline.
    #[inline]
    pub fn write(&mut self, key: Key<'_>) -> Option<(&mut Value, Deadline)> {
        self.write_in(self.db, key)
    }

    /// As [`Cx::write`], in database `db`.
    pub fn write_in(&mut self, db: DbIndex, key: Key<'_>) -> Option<(&mut Value, Deadline)> {
        let deadline = self.live(db, key)?;
        let value = self.shard(key).db(db).get_mut(key)?;
        Some((value, deadline))
    }

    /// Looks at a key, present or not, as a command does that may change it, and says what becomes
    /// of it, with one probe of the table. `change` may also change the value in place, and write
    /// the reply. The effect is the caller's to tell.
    #[inline]
    pub(crate) fn update<R>(
        &mut self,
        key: Key<'_>,
        change: impl FnOnce(Option<&mut Value>, &mut Reply<'a>) -> (Change, R),
    ) -> R {
        if self.effects.events.are_wanted(Class::NEW) {
            return self.update_telling(key, change);
        }
        let (db, now, reply) = (self.db, self.now, &mut self.reply);
        let shard = self.shards.of_key(key.bytes);
        self.depends_on = self.depends_on.max(shard.dirty.dependency(db, key.hash));
        let done = shard.db(db).update(key, |found, deadline| match found {
            Some(value) if has_expired(value, deadline, now) => (Change::Keep, Err(change)),
            found => {
                let (becomes, result) = change(found, reply);
                (becomes, Ok(result))
            }
        });
        match done {
            Ok(result) => result,
            Err(change) => self.update_expired(key, change),
        }
    }

    /// As [`Cx::update`], and tells if that has made a new key.
    #[cold]
    fn update_telling<R>(
        &mut self,
        key: Key<'_>,
        change: impl FnOnce(Option<&mut Value>, &mut Reply<'a>) -> (Change, R),
    ) -> R {
        let db = self.db;
        let was_there = self.live(db, key).is_some();
        let reply = &mut self.reply;
        let shard = self.shards.of_key(key.bytes);
        let result = shard.db(db).update(key, |found, _| change(found, reply));
        if !was_there && self.peek(db, key).is_some() {
            self.notify(Class::NEW, "new", key);
        }
        result
    }

    /// As [`Cx::update`], for a key past its deadline: it is removed first.
    #[cold]
    fn update_expired<R>(
        &mut self,
        key: Key<'_>,
        change: impl FnOnce(Option<&mut Value>, &mut Reply<'a>) -> (Change, R),
    ) -> R {
        let db = self.db;
        let gone = self.live(db, key);
        debug_assert!(gone.is_none(), "a key past its deadline is removed");
        let reply = &mut self.reply;
        let shard = self.shards.of_key(key.bytes);
        shard.db(db).update(key, |found, _| change(found, reply))
    }

    /// The deadline of a key for a command that may change it, after removing the key if that has
    /// passed; `None` if there is no such key (any more). A hash with nothing but fields past
    /// their deadlines counts as past its own.
    #[inline]
    pub fn live(&mut self, db: DbIndex, key: Key<'_>) -> Option<Deadline> {
        self.find_live(db, key).map(|found| found.deadline)
    }

    /// As [`Cx::live`], and says whether the key holds a hash with fields past their deadlines.
    #[inline]
    pub(crate) fn find_live(&mut self, db: DbIndex, key: Key<'_>) -> Option<FoundLive> {
        self.find_live_telling::<true>(db, key)
    }

    #[inline]
    fn find_live_telling<const TELL: bool>(
        &mut self,
        db: DbIndex,
        key: Key<'_>,
    ) -> Option<FoundLive> {
        let now = self.now;
        let shard = self.shards.of_key(key.bytes);
        self.depends_on = self.depends_on.max(shard.dirty.dependency(db, key.hash));
        let (value, deadline) = shard.db(db).get(key)?;
        if has_expired(value, deadline, now) {
            let fields = match value {
                // Its fields were past their deadlines, and not the key.
                Value::Hash(hash) if deadline.is_none_or(|at| at > now) => Some(hash.len() as u64),
                _ => None,
            };
            self.counts.expired += u64::from(fields.is_none());
            self.counts.expired_fields += fields.unwrap_or(0);
            if TELL {
                let events = &mut self.effects.events;
                notify_expired(events, db, key, value, deadline, now);
            }
            self.remove_expired(db, key);
            return None;
        }
        let has_expired_fields = value.next_field_deadline().is_some_and(|at| at <= now);
        Some(FoundLive {
            deadline,
            has_expired_fields,
        })
    }

    /// The value of a key that [`Cx::live`] has just found, to change it.
    #[inline]
    pub(crate) fn found_mut(&mut self, db: DbIndex, key: Key<'_>) -> Option<&mut Value> {
        self.shard(key).db(db).get_mut(key)
    }

    /// The value of a key that [`Cx::live`] has just found. Counts nothing.
    #[inline]
    pub fn peek(&mut self, db: DbIndex, key: Key<'_>) -> Option<&Value> {
        self.shard(key).db(db).get(key).map(|(value, _)| value)
    }

    #[cold]
    fn remove_expired(&mut self, db: DbIndex, key: Key<'_>) {
        self.remove_in(db, key);
        self.mark(db, key);
        self.effects.push(db, &[b"DEL", key.bytes]);
    }

    /// Removes the keys that reads of this command found past their deadline, and fields.
    #[cold]
    pub(crate) fn remove_lapsed(&mut self) {
        for (db, bytes) in self.effects.take_lapsed() {
            // Only what is still past its deadline: the command may have written the key since.
            let key = Key::new(&bytes);
            let found = self.find_live_telling::<false>(db, key);
            // A huge hash that a snapshot still has to write would be written at once now.
            if found.is_some_and(|found| found.has_expired_fields)
                && !self.shard(key).is_held(db, key)
            {
                hashes::access::remove_expired(self, db, key, std::iter::empty());
            }
        }
    }

    /// Stores a value. The effect is the caller's to tell, with [`Cx::changed`].
    #[inline]
    pub fn store(&mut self, key: Key<'_>, value: Value, deadline: Deadline) {
        self.store_in(self.db, key, value, deadline);
    }

    /// As [`Cx::store`], in database `db`.
    #[inline]
    pub fn store_in(&mut self, db: DbIndex, key: Key<'_>, value: Value, deadline: Deadline) {
        self.notify_if_new(db, key);
        self.shard(key).db(db).store(key, value, deadline);
    }

    /// Stores a string value. The effect is the caller's to tell, with [`Cx::changed`].
    #[inline]
    pub fn store_string(&mut self, key: Key<'_>, bytes: &[u8], deadline: Deadline) {
        let db = self.db;
        self.notify_if_new(db, key);
        self.shard(key).db(db).insert_string(key, bytes, deadline);
    }

    /// Removes a key, whose value is dropped lazily; whether it was there. The effect is the
    /// caller's to tell, with [`Cx::changed`].
    pub fn remove(&mut self, key: Key<'_>) -> bool {
        self.remove_in(self.db, key)
    }

    /// As [`Cx::remove`], in database `db`.
    pub fn remove_in(&mut self, db: DbIndex, key: Key<'_>) -> bool {
        self.shard(key).db(db).delete(key)
    }

    /// Removes a key and returns what was there, for who goes on to use it. The effect is the
    /// caller's to tell, with [`Cx::changed`].
    pub fn take(&mut self, key: Key<'_>) -> Option<(Value, Deadline)> {
        let db = self.db;
        self.shard(key).db(db).remove(key)
    }

    /// Sets or clears the deadline of a key that is there. The effect is the caller's to tell.
    pub fn set_deadline(&mut self, key: Key<'_>, deadline: Deadline) {
        let db = self.db;
        self.shard(key).db(db).set_deadline(key, deadline);
    }

    /// Gives a key that is there a deadline and tells the effect. One that has passed removes the
    /// key at once.
    pub fn expire_at(&mut self, key: Key<'_>, at: UnixMs) {
        if at <= self.now {
            self.remove(key);
            self.changed(&[key], &[b"DEL", key.bytes]);
            self.notify(Class::GENERIC, "del", key);
            return;
        }
        self.set_deadline(key, Some(at));
        let mut text = itoa::Buffer::new();
        let at = text.format(at.0).as_bytes();
        self.changed(&[key], &[b"PEXPIREAT", key.bytes, at]);
        self.notify(Class::GENERIC, "expire", key);
    }

    /// `keys` were changed, and `effect` repeats the change.
    #[inline]
    pub fn changed<P: AsRef<[u8]>>(&mut self, keys: &[Key<'_>], effect: &[P]) {
        for key in keys {
            self.mark(self.db, *key);
        }
        self.effects.push(self.db, effect);
    }

    /// `keys` were changed, and the request as it came repeats the change.
    #[inline]
    pub fn changed_as_sent(&mut self, keys: &[Key<'_>], args: Args<'_>) {
        for key in keys {
            self.mark(self.db, *key);
        }
        self.effects.push_args(self.db, args);
    }

    /// Keys of several databases were changed, and `effect`, sent with this connection's database
    /// selected, repeats the change.
    pub fn changed_across<P: AsRef<[u8]>>(&mut self, keys: &[(DbIndex, Key<'_>)], effect: &[P]) {
        for (db, key) in keys {
            self.mark(*db, *key);
        }
        self.effects.push(self.db, effect);
    }

    /// The libraries of functions were changed, and the request as it came repeats the change.
    pub(crate) fn changed_libraries(&mut self, args: Args<'_>) {
        self.counts.changes += 1;
        self.effects.push_args(self.db, args);
    }

    /// A key of `db` was changed; its effect is told apart, with [`Effects::push`].
    #[inline]
    pub fn mark(&mut self, db: DbIndex, key: Key<'_>) {
        self.counts.changes += 1;
        self.shard(key).changed(db, key);
    }

    /// The reply shows something of all keys of the shards in hand.
    pub fn depends_on_all(&mut self) {
        let all = self
            .shards
            .iter()
            .map(|shard| shard.dirty.dependency_on_all())
            .fold(Lsn::ZERO, Lsn::max);
        self.depends_on = self.depends_on.max(all);
    }
}

/// What [`Cx::find_live`] found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FoundLive {
    /// The key's deadline, which has not passed.
    pub(crate) deadline: Deadline,
    /// Whether it holds a hash with fields past their deadlines.
    pub(crate) has_expired_fields: bool,
}

/// Tells that a key was found past its deadline, or all fields of its hash past theirs.
#[cold]
pub(crate) fn notify_expired(
    events: &mut Events,
    db: DbIndex,
    key: Key<'_>,
    value: &Value,
    deadline: Deadline,
    now: UnixMs,
) {
    match value {
        Value::Hash(_) if deadline.is_none_or(|at| at > now) => {
            events.tell(Class::HASH, "hexpired", db, key.bytes);
            events.tell(Class::GENERIC, "del", db, key.bytes);
        }
        _ => events.tell(Class::EXPIRED, "expired", db, key.bytes),
    }
}

/// Whether a key with this value and deadline is not there any more.
#[inline]
pub(crate) fn has_expired(value: &Value, deadline: Deadline, now: UnixMs) -> bool {
    deadline.is_some_and(|at| at <= now) || value.has_expired(now)
}

/// The access clock at `now`: its seconds.
#[inline]
fn access_clock(now: UnixMs) -> AccessClock {
    AccessClock::from_seconds((now.0 / 1000).cast_unsigned())
}

/// The minutes of `now`, as frequencies are dated.
fn minutes(now: UnixMs) -> u64 {
    (now.0 / 60_000).cast_unsigned()
}

/// What a command's code returns; an error leaves everything as it was.
pub type CommandResult = Result<(), CommandError>;
