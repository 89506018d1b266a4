//! Which clients keep copies of which keys (CLIENT TRACKING).
//!
//! The table lies in [`crate::ShardData`], so an entry is made in the same step as the read that it
//! remembers, and found in the same step as the change that makes the copies stale, wherever the
//! data is. Whoever runs commands takes the [`StaleKeys`] and has the clients told. As in Redis,
//! keys are known by their names alone, whatever their database, and a key is forgotten with its
//! first change: a client that reads it again is entered again.

use crate::key::Key;
use crate::table::{Keyed, Slot, Table};
use moon_core::ShardId;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// A client that keeps copies of what it reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reader {
    /// Its id.
    pub client: u64,
    /// The shard of its connection.
    pub shard: ShardId,
}

/// A key of which copies are stale.
#[derive(Debug, PartialEq, Eq)]
pub struct StaleKey {
    /// The key.
    pub key: Box<[u8]>,
    /// Who has read it, each once.
    pub readers: Vec<Reader>,
    /// Whether it was changed. If not, the table was full: only its readers need to know.
    pub is_changed: bool,
}

/// Copies that are stale, in the order in which they became so.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct StaleKeys {
    /// All copies of all keys were stale before those of `keys`.
    pub all: bool,
    /// Keys of which copies are stale.
    pub keys: Vec<StaleKey>,
}

impl StaleKeys {
    /// Adds what became stale on another shard by the same command.
    pub fn join(&mut self, mut other: StaleKeys) {
        self.all |= other.all;
        self.keys.append(&mut other.keys);
    }
}

struct TrackedKey {
    key: Box<[u8]>,
    /// In order.
    readers: Vec<Reader>,
}

impl Keyed for TrackedKey {
    fn key(&self) -> &[u8] {
        &self.key
    }
}

/// Keys of which there were copies, on their way to be dropped.
pub(crate) struct TrackedKeys(Table<TrackedKey>);

impl TrackedKeys {
    /// Whether dropping them takes long.
    pub(crate) fn is_large(&self) -> bool {
        const LARGE: usize = 1000;
        self.0.len() > LARGE
    }
}

impl fmt::Debug for TrackedKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TrackedKeys").field(&self.0.len()).finish()
    }
}

/// The keys of one shard of which clients keep copies.
///
/// # Invariants
/// * `items` is the number of readers of all keys; no key is without.
#[derive(Default)]
pub struct TrackTable {
    keys: Table<TrackedKey>,
    items: usize,
    stale: StaleKeys,
    /// Somebody wants to know of all changes, whoever has read the key. Shared by all shards.
    broadcast: Arc<AtomicBool>,
    /// State of a generator of random numbers, for which key goes when the table is full.
    random: u64,
}

/// Keys that go at most, when the table is full, for one that comes. More than one only after the
/// bound was lowered.
const EVICTED_MAX: usize = 16;

impl TrackTable {
    /// From now on all changes are told while `broadcast` is set.
    pub fn share_broadcast(&mut self, broadcast: Arc<AtomicBool>) {
        self.broadcast = broadcast;
    }

    /// `reader` has read a key, present or not, and keeps what it read. Beyond `keys_max` keys (0
    /// for no bound) others are forgotten, and their readers told so.
    pub fn remember(&mut self, key: Key<'_>, reader: Reader, keys_max: usize) {
        let tracked = match self.keys.entry(key) {
            Slot::Found(tracked) => tracked,
            Slot::Vacant(vacant) => vacant.insert(TrackedKey {
                key: key.bytes.into(),
                readers: Vec::new(),
            }),
        };
        if let Err(place) = tracked.readers.binary_search(&reader) {
            tracked.readers.insert(place, reader);
            self.items += 1;
        }
        if keys_max > 0 && self.keys.len() > keys_max {
            self.forget_some(keys_max);
        }
    }

    #[cold]
    fn forget_some(&mut self, keys_max: usize) {
        for _ in 0..EVICTED_MAX {
            if self.keys.len() <= keys_max {
                break;
            }
            self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mixed = (self.random ^ (self.random >> 31)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            let picked = self.keys.random(mixed).map(|tracked| tracked.key.clone());
            let Some(tracked) = picked.and_then(|key| self.keys.remove(Key::new(&key))) else {
                break;
            };
            self.forgotten(tracked, false);
        }
    }

    fn forgotten(&mut self, tracked: TrackedKey, is_changed: bool) {
        self.items -= tracked.readers.len();
        self.stale.keys.push(StaleKey {
            key: tracked.key,
            readers: tracked.readers,
            is_changed,
        });
    }

    /// A key was created, changed or removed.
    #[inline]
    pub fn changed(&mut self, key: Key<'_>) {
        if !self.keys.is_empty() || self.broadcast.load(Relaxed) {
            self.note_change(key);
        }
    }

    #[cold]
    fn note_change(&mut self, key: Key<'_>) {
        match self.keys.remove(key) {
            Some(tracked) => self.forgotten(tracked, true),
            None if self.broadcast.load(Relaxed) => self.stale.keys.push(StaleKey {
                key: key.bytes.into(),
                readers: Vec::new(),
                is_changed: true,
            }),
            None => {}
        }
    }

    /// Any key may have changed: all copies of everything are stale. Returns what there was, to be
    /// dropped where that holds up nobody.
    pub(crate) fn all_changed(&mut self) -> TrackedKeys {
        let keys = std::mem::take(&mut self.keys);
        self.items = 0;
        // What was stale before is so again.
        self.stale.keys.clear();
        self.stale.all = true;
        TrackedKeys(keys)
    }

    /// Whether there are stale copies that nobody was told of.
    #[inline]
    #[must_use]
    pub fn has_stale(&self) -> bool {
        self.stale.all || !self.stale.keys.is_empty()
    }

    /// Takes what became stale since the last call.
    #[must_use]
    pub fn take_stale(&mut self) -> StaleKeys {
        std::mem::take(&mut self.stale)
    }

    /// Number of keys of which there are copies.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Number of copies: of each key, as many as clients have it.
    #[must_use]
    pub fn items(&self) -> usize {
        self.items
    }

    /// # Panics
    /// When an invariant does not hold.
    pub fn self_check(&self) {
        let mut items = 0;
        for tracked in self.keys.iter() {
            assert!(!tracked.readers.is_empty(), "a key without readers");
            assert!(tracked.readers.is_sorted_by(|a, b| a < b), "in order, once");
            items += tracked.readers.len();
        }
        assert_eq!(items, self.items, "copies");
    }
}

impl fmt::Debug for TrackTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrackTable")
            .field("keys", &self.len())
            .field("items", &self.items)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    fn reader(client: u64) -> Reader {
        Reader {
            client,
            shard: ShardId(0),
        }
    }

    /// Keys and the ids of their readers.
    fn told(table: &mut TrackTable) -> Vec<(Vec<u8>, Vec<u64>)> {
        let stale = table.take_stale();
        let ids = |readers: Vec<Reader>| readers.iter().map(|reader| reader.client).collect();
        let keys = stale.keys.into_iter();
        keys.map(|key| (key.key.into_vec(), ids(key.readers)))
            .collect()
    }

    #[test]
    fn a_change_is_told_once_to_everybody_who_has_read_the_key() {
        let mut table = TrackTable::default();
        let key = Key::new(b"k");
        for client in [3, 1, 3] {
            table.remember(key, reader(client), 0);
        }
        assert_eq!((table.len(), table.items()), (1, 2));
        table.changed(Key::new(b"other"));
        assert!(!table.has_stale());
        table.changed(key);
        table.changed(key);
        assert_eq!(told(&mut table), [(b"k".to_vec(), vec![1, 3])]);
        assert!(!table.has_stale() && table.is_empty());
    }

    #[test]
    fn a_key_that_was_never_read_is_told_only_to_those_who_want_everything() {
        let mut table = TrackTable::default();
        let broadcast = Arc::new(AtomicBool::new(false));
        table.share_broadcast(Arc::clone(&broadcast));
        table.changed(Key::new(b"a"));
        assert!(!table.has_stale());
        broadcast.store(true, Relaxed);
        table.changed(Key::new(b"a"));
        assert_eq!(told(&mut table), [(b"a".to_vec(), vec![])]);
    }

    #[test]
    fn a_full_table_forgets_keys_and_says_so() {
        let mut table = TrackTable::default();
        for number in 0..100_u32 {
            table.remember(Key::new(&number.to_le_bytes()), reader(7), 10);
        }
        assert_eq!((table.len(), table.items()), (10, 10));
        let stale = table.take_stale();
        assert_eq!(stale.keys.len(), 90);
        let is_told = |key: &StaleKey| !key.is_changed && key.readers == [reader(7)];
        assert!(stale.keys.iter().all(is_told));
        table.self_check();
    }

    proptest! {
        #[test]
        fn exactly_those_are_told_who_have_read_since_the_last_change(
            steps in proptest::collection::vec((0..5_u8, 0..4_u64, any::<bool>()), 0..80),
        ) {
            let mut table = TrackTable::default();
            let mut model: BTreeMap<u8, BTreeSet<u64>> = BTreeMap::new();
            for (key, client, reads) in steps {
                let name = [key];
                let name = Key::new(&name);
                if reads {
                    table.remember(name, reader(client), 0);
                    model.entry(key).or_default().insert(client);
                } else if client == 0 && key == 0 {
                    drop(table.all_changed());
                    prop_assert!(table.take_stale().all);
                    model.clear();
                } else {
                    table.changed(name);
                    let expected = model.remove(&key).map(|clients| {
                        (vec![key], clients.into_iter().collect::<Vec<u64>>())
                    });
                    prop_assert_eq!(told(&mut table), Vec::from_iter(expected));
                }
                table.self_check();
            }
        }
    }
}
