//! What all threads know about clients that track: how many each shard has, and whose prefixes are
//! broadcast. Written when a client begins or ends to track, read when something becomes stale.

use moon_core::{ShardCount, ShardId};
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock};

/// How many clients of a shard have a prefix.
type Counts = BTreeMap<ShardId, usize>;

/// See the [module](self).
pub struct Shared {
    shards: Box<[OfShard]>,
    prefixes: RwLock<BTreeMap<Arc<[u8]>, Counts>>,
    /// Whether there are prefixes. The tables of all shards look at it with every change.
    broadcast: Arc<AtomicBool>,
}

/// Numbers of one shard, written by its thread.
#[derive(Default)]
struct OfShard {
    clients: AtomicU64,
    keys: AtomicU64,
    items: AtomicU64,
}

/// The numbers of INFO.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Numbers {
    /// Clients that track.
    pub clients: u64,
    /// Keys of which there are copies.
    pub keys: u64,
    /// Copies.
    pub items: u64,
    /// Prefixes that are broadcast.
    pub prefixes: u64,
}

impl Shared {
    /// For so many shards.
    #[must_use]
    pub fn new(count: ShardCount) -> Arc<Shared> {
        Arc::new(Shared {
            shards: count.ids().map(|_| OfShard::default()).collect(),
            prefixes: RwLock::default(),
            broadcast: Arc::default(),
        })
    }

    /// The flag for [`moon_store::TrackTable::share_broadcast`].
    #[must_use]
    pub fn broadcast(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.broadcast)
    }

    /// Whether anything is broadcast.
    pub(super) fn broadcasts(&self) -> bool {
        self.broadcast.load(Relaxed)
    }

    /// Clients that track.
    #[must_use]
    pub fn clients(&self) -> u64 {
        let clients = self.shards.iter().map(|shard| &shard.clients);
        clients.map(|clients| clients.load(Relaxed)).sum()
    }

    /// The numbers of INFO.
    #[must_use]
    pub fn numbers(&self) -> Numbers {
        let sum = |of: fn(&OfShard) -> &AtomicU64| {
            let numbers = self.shards.iter().map(|shard| of(shard).load(Relaxed));
            numbers.sum()
        };
        let prefixes = self.prefixes.read().unwrap_or_else(PoisonError::into_inner);
        Numbers {
            clients: self.clients(),
            keys: sum(|shard| &shard.keys),
            items: sum(|shard| &shard.items),
            prefixes: prefixes.len() as u64,
        }
    }

    pub(super) fn shards_with_clients(&self) -> impl Iterator<Item = ShardId> {
        let shards = (0..).map(ShardId).zip(&self.shards);
        shards
            .filter(|(_, shard)| shard.clients.load(Relaxed) > 0)
            .map(|(id, _)| id)
    }

    pub(super) fn client_came(&self, shard: ShardId) {
        self.shards[shard.index()].clients.fetch_add(1, Relaxed);
    }

    pub(super) fn client_went(&self, shard: ShardId) {
        self.shards[shard.index()].clients.fetch_sub(1, Relaxed);
    }

    pub(super) fn note_table(&self, shard: ShardId, keys: usize, items: usize) {
        let shard = &self.shards[shard.index()];
        shard.keys.store(keys as u64, Relaxed);
        shard.items.store(items as u64, Relaxed);
    }

    pub(super) fn add_prefix(&self, prefix: &Arc<[u8]>, shard: ShardId) {
        let mut prefixes = self
            .prefixes
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let counts = prefixes.entry(Arc::clone(prefix)).or_default();
        *counts.entry(shard).or_default() += 1;
        self.broadcast.store(true, Relaxed);
    }

    pub(super) fn remove_prefix(&self, prefix: &Arc<[u8]>, shard: ShardId) {
        let mut prefixes = self
            .prefixes
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(counts) = prefixes.get_mut(prefix) {
            if let Some(count) = counts.get_mut(&shard) {
                *count -= 1;
            }
            counts.retain(|_, count| *count > 0);
            if counts.is_empty() {
                prefixes.remove(prefix);
            }
        }
        self.broadcast.store(!prefixes.is_empty(), Relaxed);
    }

    /// The prefixes that some of the keys have, and the shards whose clients want to know.
    pub(super) fn prefixes_of<T>(
        &self,
        keys: &BTreeMap<Arc<[u8]>, T>,
    ) -> Vec<(Arc<[u8]>, Vec<ShardId>)> {
        if keys.is_empty() {
            return Vec::new();
        }
        let prefixes = self.prefixes.read().unwrap_or_else(PoisonError::into_inner);
        prefixes
            .iter()
            .filter(|(prefix, _)| range_of(keys, prefix).next().is_some())
            .map(|(prefix, counts)| (Arc::clone(prefix), counts.keys().copied().collect()))
            .collect()
    }
}

/// The entries whose keys begin with `prefix`.
pub(super) fn range_of<'m, T>(
    keys: &'m BTreeMap<Arc<[u8]>, T>,
    prefix: &'m [u8],
) -> impl Iterator<Item = (&'m Arc<[u8]>, &'m T)> {
    let from = (Bound::Included(prefix), Bound::Unbounded);
    let entries = keys.range::<[u8], _>(from);
    entries.take_while(move |(key, _)| key.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_broadcast_while_anybody_has_it() {
        let shared = Shared::new(ShardCount::new(2).unwrap());
        let prefix: Arc<[u8]> = Arc::from(&b"user:"[..]);
        let keys: BTreeMap<Arc<[u8]>, ()> = [&b"a"[..], b"user:1", b"user:2", b"v"]
            .into_iter()
            .map(|key| (Arc::from(key), ()))
            .collect();
        assert!(!shared.broadcasts());
        shared.add_prefix(&prefix, ShardId(1));
        shared.add_prefix(&prefix, ShardId(1));
        shared.remove_prefix(&prefix, ShardId(1));
        assert!(shared.broadcasts());
        let found = shared.prefixes_of(&keys);
        assert_eq!(found, [(Arc::clone(&prefix), vec![ShardId(1)])]);
        assert_eq!(range_of(&keys, &prefix).count(), 2);
        shared.remove_prefix(&prefix, ShardId(1));
        assert!(!shared.broadcasts());
        assert!(shared.prefixes_of(&keys).is_empty());
    }
}
