//! One numbered database: keys, values, deadlines.
//!
//! Keys with their values lie in one [`Table`]; deadlines in a second one, so that a key without
//! a deadline pays nothing for it. Whatever changes a key goes through `Db::before_change`.

use crate::clock::{AccessClock, AccessRule};
use crate::due::DueSet;
use crate::garbage::{Bin, Garbage};
use crate::key::Key;
use crate::memory::MemoryParts;
use crate::packed_key::PackedKey;
use crate::table::{Keyed, Slot, Table};
use crate::value::{Value, parse_int};
use moon_core::UnixMs;
use std::fmt;

mod evict;
mod expiry;
mod walk;

pub use expiry::ExpireScan;
pub use walk::Compression;
pub(crate) use walk::{DbWalk, WalkLimits};

/// When a key expires: at this time it is gone. `None` means never.
pub type Deadline = Option<UnixMs>;

/// A key with its value.
struct Entry {
    key: PackedKey,
    value: Value,
}

const _: () = assert!(size_of::<Entry>() == 40);

impl Keyed for Entry {
    #[inline]
    fn key(&self) -> &[u8] {
        self.key.as_bytes()
    }
}

impl Entry {
    /// Bytes on the heap that belong to the entry.
    fn memory(&self) -> usize {
        self.key.memory() + self.value.memory()
    }
}

/// The deadline of a key.
struct Expire {
    key: PackedKey,
    at: UnixMs,
}

const _: () = assert!(size_of::<Expire>() == 32);

impl Keyed for Expire {
    #[inline]
    fn key(&self) -> &[u8] {
        self.key.as_bytes()
    }
}

/// Remembers uses of keys, for eviction and OBJECT: the one place where that is done.
#[derive(Clone, Debug, Default)]
struct Access {
    rule: AccessRule,
    /// State of a generator of random numbers, for the logarithmic counter.
    random: u64,
}

impl Access {
    #[inline]
    fn touch(&mut self, key: &mut PackedKey) {
        match self.rule {
            AccessRule::Recency { now } => key.set_clock(now),
            AccessRule::Frequency {
                minutes,
                decay_minutes,
                log_factor,
            } => {
                let random = self.next_random();
                let used = key.clock().used(minutes, decay_minutes, log_factor, random);
                key.set_clock(used);
            }
        }
    }

    /// A Weyl sequence, mixed: good enough to toss a coin.
    fn next_random(&mut self) -> u32 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.random ^ (self.random >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        (mixed >> 32) as u32
    }
}

/// A key whose value was given out to be changed.
#[derive(Clone, Copy)]
struct Unsettled {
    /// Hash of the key.
    hash: u64,
    /// When a field of the value was the next to expire.
    field_deadline: Deadline,
}

/// What [`Db::update`] does with a key.
#[derive(Debug)]
pub enum Change {
    /// Nothing beyond what was changed in place.
    Keep,
    /// The value was changed in place to be a new one, with this deadline.
    Overwritten(Deadline),
    /// Stores a value with a deadline.
    Store(Value, Deadline),
    /// Removes the key.
    Remove,
}

/// Keys with their values and deadlines. Knows nothing of "now": a key past its deadline is
/// present here until somebody removes it.
///
/// # Invariants
/// * `expires` holds exactly the keys whose entry says that it has a deadline.
/// * `heap` is the memory of all entries and deadlines, except the value of `unsettled`.
/// * `due_hashes` holds exactly the keys of hashes with fields that have deadlines, under the
///   earliest of these; that of `unsettled` under the one it had when it was given out.
#[derive(Default)]
pub struct Db {
    table: Table<Entry>,
    expires: Table<Expire>,
    /// Where the next expiry scan begins.
    expire_position: u64,
    /// How uses of keys are remembered.
    access: Access,
    /// Bytes that entries and deadlines own outside the tables.
    heap: usize,
    /// The key whose value was given out to be changed, and counts again when the next change
    /// begins. Its entry is flagged.
    unsettled: Option<Unsettled>,
    /// Hashes in the order in which their fields expire.
    due_hashes: DueSet,
    /// The walk through the database, while its image is being written.
    walk: Option<Box<DbWalk>>,
    /// Removed values that are dropped elsewhere.
    bin: Bin,
}

impl Db {
    /// An empty database with memory for about `keys` keys.
    #[must_use]
    pub fn with_hint(keys: usize) -> Db {
        Db {
            table: Table::with_hint(keys),
            ..Db::default()
        }
    }

    /// Makes room for about `keys` keys, if there are none yet: many that are about to come find
    /// their places without growing the table. Unlike that of [`Db::with_hint`], the memory is
    /// given back when they leave.
    pub fn reserve(&mut self, keys: usize) {
        if self.is_empty() {
            self.settle();
            self.table = Table::with_room(keys);
        }
    }

    /// Number of keys, those past their deadline included.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether there are no keys.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Number of keys with a deadline.
    #[inline]
    #[must_use]
    pub fn volatile_len(&self) -> usize {
        self.expires.len()
    }

    /// Bytes used: the tables and what keys and values own. O(1).
    #[must_use]
    pub fn memory(&self) -> usize {
        let out = self.unsettled.and_then(|out| {
            self.table
                .find_where(out.hash, |e| e.key.is_unsettled())
                .map(|e| e.value.memory())
        });
        self.table.allocated()
            + self.expires.allocated()
            + self.heap
            + self.due_hashes.memory()
            + out.unwrap_or(0)
    }

    /// What [`Db::memory`] consists of.
    #[must_use]
    pub fn memory_parts(&self) -> MemoryParts {
        let (keyspace, expiry) = (self.table.allocated(), self.expires.allocated());
        MemoryParts {
            keyspace,
            expiry,
            values: self.memory() - keyspace - expiry,
        }
    }

    /// Bytes that a key takes: what key and value own, and their share of the tables.
    #[must_use]
    pub fn memory_of(&self, key: Key<'_>) -> Option<usize> {
        let entry = self.table.find(key)?;
        let mut bytes = entry.memory() + self.table.share();
        if entry.key.has_deadline() {
            bytes += entry.key.memory() + self.expires.share();
        }
        Some(bytes)
    }

    /// The value and deadline of a key.
    #[inline]
    #[must_use]
    pub fn get(&self, key: Key<'_>) -> Option<(&Value, Deadline)> {
        let entry = self.table.find(key)?;
        Some((&entry.value, self.deadline_of(entry, key)))
    }

    /// As [`Db::get`]; also notes that the key was used.
    #[inline]
    pub fn get_and_touch(&mut self, key: Key<'_>) -> Option<(&Value, Deadline)> {
        let entry = self.table.find_mut(key)?;
        self.access.touch(&mut entry.key);
        let deadline = deadline(&self.expires, entry, key);
        Some((&entry.value, deadline))
    }

    /// Whether the key is here.
    #[inline]
    #[must_use]
    pub fn contains(&self, key: Key<'_>) -> bool {
        self.table.find(key).is_some()
    }

    /// The value of a key, to change it in place.
    #[inline]
    pub fn get_mut(&mut self, key: Key<'_>) -> Option<&mut Value> {
        self.before_change(key);
        let entry = self.table.find_mut(key)?;
        self.access.touch(&mut entry.key);
        Some(give_out(&mut self.heap, &mut self.unsettled, entry, key))
    }

    /// The value of a key, to change it in place; a missing one is created, without a deadline.
    pub fn get_or_insert_with(
        &mut self,
        key: Key<'_>,
        create: impl FnOnce() -> Value,
    ) -> &mut Value {
        self.before_change(key);
        let entry = match self.table.entry(key) {
            Slot::Found(entry) => {
                self.access.touch(&mut entry.key);
                entry
            }
            Slot::Vacant(slot) => {
                let entry = slot.insert(Entry {
                    key: PackedKey::new(key.bytes, self.access.rule.created()),
                    value: create(),
                });
                self.heap += entry.memory();
                move_due(&mut self.due_hashes, key.bytes, None, &entry.value);
                Self::after_create(&mut self.walk, key);
                entry
            }
        };
        give_out(&mut self.heap, &mut self.unsettled, entry, key)
    }

    /// Looks at a key, present or not, and says what becomes of it, with one probe of the table.
    /// `change` may change the value in place too.
    #[inline]
    pub fn update<R>(
        &mut self,
        key: Key<'_>,
        change: impl FnOnce(Option<&mut Value>, Deadline) -> (Change, R),
    ) -> R {
        self.before_change(key);
        let (had_deadline, to, result) = match self.table.entry(key) {
            Slot::Found(entry) => {
                let had_deadline = entry.key.has_deadline();
                let deadline = deadline(&self.expires, entry, key);
                self.access.touch(&mut entry.key);
                let before = entry.value.memory();
                let field_deadline = entry.value.next_field_deadline();
                let (change, result) = change(Some(&mut entry.value), deadline);
                let to = match change {
                    Change::Keep => None,
                    Change::Overwritten(to) => {
                        entry.key.set_has_deadline(to.is_some());
                        Some(to)
                    }
                    Change::Store(value, to) => {
                        self.bin.put(std::mem::replace(&mut entry.value, value));
                        entry.key.set_has_deadline(to.is_some());
                        Some(to)
                    }
                    Change::Remove => {
                        self.heap = self.heap - before + entry.value.memory();
                        move_due(
                            &mut self.due_hashes,
                            key.bytes,
                            field_deadline,
                            &entry.value,
                        );
                        self.take_and_drop(key);
                        return result;
                    }
                };
                self.heap = self.heap - before + entry.value.memory();
                move_due(
                    &mut self.due_hashes,
                    key.bytes,
                    field_deadline,
                    &entry.value,
                );
                (had_deadline, to, result)
            }
            Slot::Vacant(slot) => {
                let (change, result) = change(None, None);
                let to = match change {
                    Change::Keep | Change::Overwritten(_) | Change::Remove => None,
                    Change::Store(value, to) => {
                        let mut packed = PackedKey::new(key.bytes, self.access.rule.created());
                        packed.set_has_deadline(to.is_some());
                        let entry = Entry { key: packed, value };
                        // Asked before the entry moves: in the table it would have to wait for
                        // the slot's cache line.
                        self.heap += entry.memory();
                        move_due(&mut self.due_hashes, key.bytes, None, &entry.value);
                        slot.insert(entry);
                        Self::after_create(&mut self.walk, key);
                        Some(to)
                    }
                };
                (false, to, result)
            }
        };
        if let Some(to) = to {
            self.store_deadline(key, had_deadline, to);
        }
        result
    }

    /// Stores a value with a deadline, over what was there.
    #[inline]
    pub fn store(&mut self, key: Key<'_>, value: Value, deadline: Deadline) {
        self.update(key, |_, _| (Change::Store(value, deadline), ()));
    }

    /// As [`Db::store`]; returns what was there.
    #[inline]
    pub fn insert(&mut self, key: Key<'_>, value: Value, deadline: Deadline) -> Option<Value> {
        self.update(key, |there, _| match there {
            // The old value leaves through the place that `Store` would drop it from.
            Some(there) => {
                let old = std::mem::replace(there, Value::Int(0));
                (Change::Store(value, deadline), Some(old))
            }
            None => (Change::Store(value, deadline), None),
        })
    }

    /// Stores a string, in the memory of the old one if it has that length: a SET over a value
    /// of the same size allocates nothing.
    #[inline]
    pub fn insert_string(&mut self, key: Key<'_>, bytes: &[u8], deadline: Deadline) {
        self.update(key, |there, _| {
            if let Some(Value::Str(old)) = there
                && parse_int(bytes).is_none()
                && old.overwrite(bytes)
            {
                return (Change::Overwritten(deadline), ());
            }
            (Change::Store(Value::string(bytes), deadline), ())
        });
    }

    /// Sets or clears the deadline; `false` if the key is missing.
    pub fn set_deadline(&mut self, key: Key<'_>, deadline: Deadline) -> bool {
        self.before_change(key);
        let Some(entry) = self.table.find_mut(key) else {
            return false;
        };
        self.access.touch(&mut entry.key);
        let had_deadline = entry.key.has_deadline();
        entry.key.set_has_deadline(deadline.is_some());
        self.store_deadline(key, had_deadline, deadline);
        true
    }

    /// Removes a key and drops what was there, lazily; whether it was.
    #[inline]
    pub fn delete(&mut self, key: Key<'_>) -> bool {
        self.before_change(key);
        self.take_and_drop(key)
    }

    fn take_and_drop(&mut self, key: Key<'_>) -> bool {
        match self.take(key) {
            Some((value, _)) => {
                self.bin.put(value);
                true
            }
            None => false,
        }
    }

    /// Removes a key; returns what was there. Where that is not needed, [`Db::delete`] is better.
    #[inline]
    pub fn remove(&mut self, key: Key<'_>) -> Option<(Value, Deadline)> {
        self.before_change(key);
        self.take(key)
    }

    fn take(&mut self, key: Key<'_>) -> Option<(Value, Deadline)> {
        let entry = self.table.remove(key)?;
        self.heap -= entry.memory();
        if let Some(at) = entry.value.next_field_deadline() {
            self.due_hashes.remove(at, key.bytes);
        }
        Self::after_remove(&mut self.walk, key);
        let deadline = self.deadline_of(&entry, key);
        self.store_deadline(key, deadline.is_some(), None);
        Some((entry.value, deadline))
    }

    /// Empties the database and returns what it held, its walk included.
    #[must_use = "dropping a large database takes long; drop it where that does not matter"]
    pub(crate) fn clear(&mut self) -> Db {
        self.settle();
        let bin = std::mem::take(&mut self.bin);
        let access = self.access.clone();
        std::mem::replace(
            self,
            Db {
                access,
                bin,
                ..Db::default()
            },
        )
    }

    /// Whether somebody takes the garbage. Unless somebody does, what is removed is dropped at
    /// once.
    pub(crate) fn set_lazy(&mut self, is_lazy: bool) {
        self.bin.set_emptied(is_lazy);
    }

    /// Moves removed values that are to be dropped elsewhere.
    pub(crate) fn empty_bin(&mut self, into: &mut Garbage) {
        into.put_all_of(&mut self.bin);
    }

    /// Uses of keys are remembered by this rule from now on.
    pub fn set_access(&mut self, rule: AccessRule) {
        self.access.rule = rule;
    }

    /// The key was used; `false` if it is missing.
    pub fn touch(&mut self, key: Key<'_>) -> bool {
        match self.table.find_mut(key) {
            Some(entry) => {
                self.access.touch(&mut entry.key);
                true
            }
            None => false,
        }
    }

    /// Puts back when or how often the key was used; `false` if it is missing.
    pub fn set_access_clock(&mut self, key: Key<'_>, clock: AccessClock) -> bool {
        self.table
            .find_mut(key)
            .map(|entry| entry.key.set_clock(clock))
            .is_some()
    }

    /// When or how often the key was used.
    #[must_use]
    pub fn access_clock(&self, key: Key<'_>) -> Option<AccessClock> {
        self.table.find(key).map(|entry| entry.key.clock())
    }

    /// Seconds since the key was used, under the LRU sense of the clock.
    #[must_use]
    pub fn idle_seconds(&self, key: Key<'_>, now: AccessClock) -> Option<u32> {
        self.access_clock(key).map(|used| used.idle_seconds(now))
    }

    /// The logarithmic counter of uses, under the LFU sense of the clock.
    #[must_use]
    pub fn freq(&self, key: Key<'_>, minutes: u64, decay_minutes: u32) -> Option<u8> {
        self.access_clock(key)
            .map(|used| used.frequency(minutes, decay_minutes))
    }

    /// Visits keys from a cursor on and returns the cursor to go on with. 0 begins, and 0 says
    /// that the end was reached; every key that is here throughout is visited at least once
    /// between the two. A cursor is below 2^58, and any number is accepted as one. About `count`
    /// keys are visited.
    pub fn scan(
        &self,
        cursor: u64,
        count: usize,
        visit: &mut dyn FnMut(&[u8], &Value, Deadline),
    ) -> u64 {
        self.table.scan(cursor, count, |entry| {
            visit(entry.key(), &entry.value, self.deadline_found(entry));
        })
    }

    /// Visits every key.
    pub fn for_each(&self, visit: &mut dyn FnMut(&[u8], &Value, Deadline)) {
        for entry in self.table.iter() {
            visit(entry.key(), &entry.value, self.deadline_found(entry));
        }
    }

    /// A roughly uniform choice among the keys, made by the random number `r`.
    #[must_use]
    pub fn random(&self, r: u64) -> Option<(&[u8], &Value, Deadline)> {
        let entry = self.table.random(r)?;
        Some((entry.key(), &entry.value, self.deadline_found(entry)))
    }

    /// Loads into the cache what commands on these keys will touch, all at once. `members_of` says
    /// what the key with a number is asked for. No effect besides; worth it from two commands on.
    pub fn warm<'m>(&self, keys: &[Key<'_>], members_of: impl Fn(usize) -> &'m [&'m [u8]]) {
        self.table.warm(keys, |number, entry| {
            entry.value.prefetch();
            for member in members_of(number) {
                entry.value.prefetch_member(member);
            }
        });
        if !self.expires.is_empty() {
            self.expires.warm(keys, |_, _| ());
        }
    }

    /// # Panics
    /// When an invariant of the database does not hold. Visits everything.
    pub fn self_check(&self) {
        self.table.self_check();
        self.expires.self_check();
        let mut heap = 0;
        let mut volatile = 0;
        let mut due = 0;
        for entry in self.table.iter() {
            heap += entry.memory();
            volatile += usize::from(entry.key.has_deadline());
            let is_out = self.unsettled.is_some_and(|out| out.hash == entry.hash());
            let field_deadline = match self.unsettled {
                Some(out) if entry.key.is_unsettled() => out.field_deadline,
                _ => entry.value.next_field_deadline(),
            };
            if let Some(at) = field_deadline {
                due += 1;
                let is_due = self.due_hashes.contains(at, entry.key());
                assert!(is_due, "fields that nobody would expire");
            }
            assert!(is_out || !entry.key.is_unsettled(), "a forgotten flag");
        }
        for expire in self.expires.iter() {
            heap += expire.key.memory();
            let entry = self.table.find(Key::new(expire.key()));
            assert!(
                entry.is_some_and(|e| e.key.has_deadline()),
                "stray deadline"
            );
        }
        assert_eq!(volatile, self.expires.len(), "keys with a deadline");
        assert_eq!(due, self.due_hashes.len(), "hashes with fields that expire");
        let tables = self.table.allocated() + self.expires.allocated();
        assert_eq!(
            self.memory(),
            tables + self.due_hashes.memory() + heap,
            "memory"
        );
        self.check_walk();
    }

    /// Every change of a key begins here, whether the key is present or not. Of a database that
    /// is being walked, the key's state at the cut is written first.
    #[inline]
    fn before_change(&mut self, key: Key<'_>) {
        self.settle();
        if self.walk.is_some() {
            self.write_pre_image(key);
        }
    }

    /// The walk through the database.
    pub(crate) fn walked(&self) -> Option<&DbWalk> {
        self.walk.as_deref()
    }

    /// Takes the walk away or puts it where there is none.
    pub(crate) fn walk_slot(&mut self) -> &mut Option<Box<DbWalk>> {
        &mut self.walk
    }

    /// Accounts for the value that was given out last; whoever had it is done with it.
    #[inline]
    fn settle(&mut self) {
        if let Some(out) = self.unsettled.take()
            && let Some(entry) = (self.table).find_mut_where(out.hash, |e| e.key.is_unsettled())
        {
            entry.key.set_unsettled(false);
            self.heap += entry.value.memory();
            let name = entry.key.as_bytes();
            move_due(&mut self.due_hashes, name, out.field_deadline, &entry.value);
        }
    }

    #[inline]
    fn deadline_of(&self, entry: &Entry, key: Key<'_>) -> Deadline {
        deadline(&self.expires, entry, key)
    }

    fn deadline_found(&self, entry: &Entry) -> Deadline {
        if entry.key.has_deadline() {
            self.deadline_of(entry, Key::new(entry.key()))
        } else {
            None
        }
    }

    /// Brings the side table to what the entry's flag says already.
    #[inline]
    fn store_deadline(&mut self, key: Key<'_>, had_deadline: bool, deadline: Deadline) {
        match deadline {
            Some(at) => match self.expires.entry(key) {
                Slot::Found(expire) => expire.at = at,
                Slot::Vacant(slot) => {
                    let packed = PackedKey::new(key.bytes, AccessClock::default());
                    self.heap += packed.memory();
                    slot.insert(Expire { key: packed, at });
                }
            },
            None if had_deadline => {
                if let Some(expire) = self.expires.remove(key) {
                    self.heap -= expire.key.memory();
                }
            }
            None => {}
        }
    }
}

#[inline]
fn deadline(expires: &Table<Expire>, entry: &Entry, key: Key<'_>) -> Deadline {
    if entry.key.has_deadline() {
        expires.find(key).map(|expire| expire.at)
    } else {
        None
    }
}

/// A value that had fields with deadlines, the earliest at `was`, is now this one.
#[inline]
fn move_due(due_hashes: &mut DueSet, key: &[u8], was: Deadline, value: &Value) {
    let is = value.next_field_deadline();
    if was == is {
        return;
    }
    if let Some(at) = was {
        due_hashes.remove(at, key);
    }
    if let Some(at) = is {
        due_hashes.insert(at, key);
    }
}

/// Takes the value out of the accounting while somebody may change it.
#[inline]
fn give_out<'a>(
    heap: &mut usize,
    unsettled: &mut Option<Unsettled>,
    entry: &'a mut Entry,
    key: Key<'_>,
) -> &'a mut Value {
    *heap -= entry.value.memory();
    *unsettled = Some(Unsettled {
        hash: key.hash,
        field_deadline: entry.value.next_field_deadline(),
    });
    entry.key.set_unsettled(true);
    &mut entry.value
}

impl fmt::Debug for Db {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Db")
            .field("keys", &self.len())
            .field("volatile", &self.volatile_len())
            .field("memory", &self.memory())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
