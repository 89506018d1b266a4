//! Consumer groups: what was delivered to whom, and not acknowledged.

use moon_rdb::StreamId;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Which consumer of a group; never used again within the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConsumerId(u64);

/// An entry that was delivered and not acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pending {
    /// To whom.
    pub consumer: ConsumerId,
    /// When, in Unix milliseconds.
    pub delivered_ms: i64,
    /// How often so far.
    pub deliveries: u64,
}

/// One that reads for a group.
#[derive(Clone, Debug)]
pub struct Consumer {
    name: Arc<[u8]>,
    /// Unix milliseconds at which it last asked for something.
    pub seen_ms: i64,
    /// Unix milliseconds at which it last got something; `None` if it never did.
    pub active_ms: Option<i64>,
    pending: BTreeSet<StreamId>,
}

impl Consumer {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// What it has not acknowledged, in the order of the ids.
    #[must_use]
    pub fn pending(&self) -> &BTreeSet<StreamId> {
        &self.pending
    }
}

/// Memory of a pending entry in the maps of its group and its consumer, computed: their nodes have
/// eleven places and are a bit more than half full when ids rise.
const PENDING_BYTES: usize = 110;

/// Memory of a consumer besides its name: itself in a map, and its name in another.
const CONSUMER_BYTES: usize = 2 * size_of::<Consumer>() + 64;

/// Readers that share the entries of a stream between them.
///
/// # Invariants
/// Every pending entry is that of one consumer, and is in its set; nothing else is.
#[derive(Clone, Debug)]
pub struct Group {
    /// The id delivered last.
    pub last_id: StreamId,
    /// How many entries of the stream's life it has read; `None` if that is not known.
    pub entries_read: Option<u64>,
    pending: BTreeMap<StreamId, Pending>,
    names: BTreeMap<Arc<[u8]>, ConsumerId>,
    consumers: BTreeMap<ConsumerId, Consumer>,
    next: u64,
    name_bytes: usize,
}

impl Group {
    pub(super) fn new(last_id: StreamId, entries_read: Option<u64>) -> Group {
        Group {
            last_id,
            entries_read,
            pending: BTreeMap::new(),
            names: BTreeMap::new(),
            consumers: BTreeMap::new(),
            next: 0,
            name_bytes: 0,
        }
    }

    /// What was delivered and not acknowledged, by id.
    #[must_use]
    pub fn pending(&self) -> &BTreeMap<StreamId, Pending> {
        &self.pending
    }

    /// The consumers in the order of their names.
    pub fn consumers(&self) -> impl ExactSizeIterator<Item = &Consumer> {
        self.names.values().map(|id| &self.consumers[id])
    }

    /// The consumer behind `name` in that order; the first for `None`.
    pub(super) fn consumer_behind(&self, name: Option<&Arc<[u8]>>) -> Option<&Consumer> {
        use std::ops::Bound::{Excluded, Unbounded};
        let after = name.map_or(Unbounded, Excluded);
        let (_, id) = self
            .names
            .range::<Arc<[u8]>, _>((after, Unbounded))
            .next()?;
        self.consumers.get(id)
    }

    pub(super) fn shared_name(consumer: &Consumer) -> Arc<[u8]> {
        Arc::clone(&consumer.name)
    }

    /// The consumer called `name`.
    #[must_use]
    pub fn consumer_named(&self, name: &[u8]) -> Option<ConsumerId> {
        self.names.get(name).copied()
    }

    /// A consumer.
    #[must_use]
    pub fn consumer(&self, id: ConsumerId) -> Option<&Consumer> {
        self.consumers.get(&id)
    }

    /// The consumer called `name`, who is created if needed, and whether that was so.
    pub fn create_consumer(&mut self, name: &[u8], seen_ms: i64) -> (ConsumerId, bool) {
        if let Some(id) = self.consumer_named(name) {
            return (id, false);
        }
        let id = ConsumerId(self.next);
        self.next += 1;
        let name: Arc<[u8]> = name.into();
        self.name_bytes += crate::memory::allocated(name.len() + 16);
        self.names.insert(Arc::clone(&name), id);
        let consumer = Consumer {
            name,
            seen_ms,
            active_ms: None,
            pending: BTreeSet::new(),
        };
        self.consumers.insert(id, consumer);
        (id, true)
    }

    /// Takes note that a consumer asked for something.
    pub fn seen(&mut self, id: ConsumerId, ms: i64) {
        if let Some(consumer) = self.consumers.get_mut(&id) {
            consumer.seen_ms = ms;
        }
    }

    /// Takes note that a consumer got something.
    pub fn active(&mut self, id: ConsumerId, ms: i64) {
        if let Some(consumer) = self.consumers.get_mut(&id) {
            consumer.active_ms = Some(ms);
        }
    }

    /// Removes a consumer with its pending entries; how many those were.
    pub fn remove_consumer(&mut self, name: &[u8]) -> Option<usize> {
        let id = self.names.remove(name)?;
        let consumer = self.consumers.remove(&id)?;
        self.name_bytes -= crate::memory::allocated(consumer.name.len() + 16);
        for id in &consumer.pending {
            self.pending.remove(id);
        }
        Some(consumer.pending.len())
    }

    /// Makes an entry pending, or changes what is said of it; it goes from one consumer to another
    /// if need be. Nothing happens if there is no such consumer.
    pub fn set_pending(&mut self, id: StreamId, pending: Pending) {
        if !self.consumers.contains_key(&pending.consumer) {
            return;
        }
        let old = self.pending.insert(id, pending);
        if old.is_some_and(|old| old.consumer == pending.consumer) {
            return;
        }
        if let Some(owner) = old.and_then(|old| self.consumers.get_mut(&old.consumer)) {
            owner.pending.remove(&id);
        }
        if let Some(owner) = self.consumers.get_mut(&pending.consumer) {
            owner.pending.insert(id);
        }
    }

    /// An entry is not pending any more; whether it was.
    pub fn acknowledge(&mut self, id: StreamId) -> bool {
        let Some(pending) = self.pending.remove(&id) else {
            return false;
        };
        if let Some(owner) = self.consumers.get_mut(&pending.consumer) {
            owner.pending.remove(&id);
        }
        true
    }

    /// Bytes of memory.
    #[must_use]
    pub fn memory(&self) -> usize {
        size_of::<Group>()
            + self.pending.len() * PENDING_BYTES
            + self.consumers.len() * CONSUMER_BYTES
            + self.name_bytes
    }

    #[cfg(test)]
    pub(super) fn self_check(&self) {
        assert_eq!(self.names.len(), self.consumers.len());
        for (name, id) in &self.names {
            assert_eq!(&self.consumers[id].name, name);
        }
        let owned: usize = self.consumers.values().map(|c| c.pending.len()).sum();
        assert_eq!(owned, self.pending.len());
        for (id, pending) in &self.pending {
            assert!(self.consumers[&pending.consumer].pending.contains(id));
        }
        let names = self.names.keys();
        let name_bytes: usize = names.map(|n| crate::memory::allocated(n.len() + 16)).sum();
        assert_eq!(self.name_bytes, name_bytes);
    }
}
