//! Keys that clients wait for, and which of them have changed.
//!
//! Each key that somebody waits for has a queue for every type of value that can be waited for.
//! Every change of a key passes [`ShardData::changed`](crate::ShardData::changed); if it has a
//! queue, the key goes onto the list of *ready* keys, which whoever executes empties at the end of
//! the unit. Who waits, and how it is served, is not known here.

use crate::shard::DbIndex;
use crate::value::Kind;
use hashbrown::{Equivalent, HashMap};
use std::any::Any;
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Debug;
use std::hash::{Hash, Hasher};
use std::ops::Bound;
use std::sync::Arc;

/// A place in the order of all that wait on all shards: the lowest has waited longest.
pub type WaitOrder = u64;

/// One that waits, as those know it who serve it.
pub trait Waiting: Any + Debug + Send + Sync {}

/// A key of a database.
pub type DbKey = (DbIndex, Box<[u8]>);

/// A key to look up; hashed as a [`DbKey`] is.
struct Named<'a>(DbIndex, &'a [u8]);

impl Hash for Named<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
        self.1.hash(state);
    }
}

impl Equivalent<DbKey> for Named<'_> {
    fn equivalent(&self, key: &DbKey) -> bool {
        self.0 == key.0 && *self.1 == *key.1
    }
}

type Queue = BTreeMap<WaitOrder, Arc<dyn Waiting>>;

/// Those who wait for one key.
#[derive(Debug, Default)]
struct Queues {
    lists: Queue,
    zsets: Queue,
    streams: Queue,
    /// Its place on the list of ready keys, if it is there.
    ready: Option<u64>,
}

impl Queues {
    fn of(&mut self, kind: Kind) -> Option<&mut Queue> {
        match kind {
            Kind::List => Some(&mut self.lists),
            Kind::ZSet => Some(&mut self.zsets),
            Kind::Stream => Some(&mut self.streams),
            Kind::String | Kind::Set | Kind::Hash => None,
        }
    }

    fn is_empty(&self) -> bool {
        self.lists.is_empty() && self.zsets.is_empty() && self.streams.is_empty()
    }
}

/// Those who wait for keys of one shard.
#[derive(Debug, Default)]
pub struct Waits {
    keys: HashMap<DbKey, Queues>,
    /// Keys that have changed, with the number of the change. One whose queues do not have that
    /// number any more counts for nothing: those who waited for it have gone since.
    ready: VecDeque<(u64, DbKey)>,
    /// How many of `ready` count.
    ready_count: usize,
    changes: u64,
}

impl Waits {
    /// Adds `waiting` to those who wait for `key` to hold a value of `kind`, which is one that can
    /// be waited for: a list, a sorted set or a stream. Added twice, it waits once.
    pub fn add(
        &mut self,
        db: DbIndex,
        key: &[u8],
        kind: Kind,
        order: WaitOrder,
        waiting: Arc<dyn Waiting>,
    ) {
        let queues = self.keys.entry((db, key.into())).or_default();
        let queue = queues.of(kind);
        debug_assert!(queue.is_some(), "nobody can wait for a {kind:?}");
        if let Some(queue) = queue {
            queue.insert(order, waiting);
        }
    }

    /// Takes the one at `order` out of the queues of `key`, if it is there.
    pub fn remove(&mut self, db: DbIndex, key: &[u8], order: WaitOrder) {
        let Some(queues) = self.keys.get_mut(&Named(db, key)) else {
            return;
        };
        for queue in [&mut queues.lists, &mut queues.zsets, &mut queues.streams] {
            queue.remove(&order);
        }
        if queues.is_empty() {
            self.ready_count -= usize::from(queues.ready.is_some());
            self.keys.remove(&Named(db, key));
            if self.ready_count == 0 {
                self.ready.clear();
            }
        }
    }

    /// The first one behind `after` that waits for `key` to hold a value of `kind`.
    #[must_use]
    pub fn next(
        &mut self,
        db: DbIndex,
        key: &[u8],
        kind: Kind,
        after: Option<WaitOrder>,
    ) -> Option<(WaitOrder, Arc<dyn Waiting>)> {
        let queue = self.keys.get_mut(&Named(db, key))?.of(kind)?;
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let (order, waiting) = queue.range((from, Bound::Unbounded)).next()?;
        Some((*order, Arc::clone(waiting)))
    }

    /// The key has changed: if somebody waits for it, it is ready.
    #[inline]
    pub fn changed(&mut self, db: DbIndex, key: &[u8]) {
        if !self.keys.is_empty() {
            self.make_ready(db, key);
        }
    }

    fn make_ready(&mut self, db: DbIndex, key: &[u8]) {
        if let Some(queues) = self.keys.get_mut(&Named(db, key))
            && queues.ready.is_none()
        {
            queues.ready = Some(self.changes);
            self.ready.push_back((self.changes, (db, key.into())));
            self.ready_count += 1;
            self.changes += 1;
        }
    }

    /// Every key of `db` that somebody waits for and for which `is_affected` holds has changed.
    pub fn changed_where(&mut self, db: DbIndex, mut is_affected: impl FnMut(&[u8]) -> bool) {
        for ((waited_db, key), queues) in &mut self.keys {
            if *waited_db == db && is_affected(key) && queues.ready.is_none() {
                queues.ready = Some(self.changes);
                self.ready.push_back((self.changes, (db, key.clone())));
                self.ready_count += 1;
                self.changes += 1;
            }
        }
    }

    /// Whether there are ready keys.
    #[inline]
    #[must_use]
    pub fn has_ready(&self) -> bool {
        self.ready_count > 0
    }

    /// Takes the key that has been ready longest.
    pub fn take_ready(&mut self) -> Option<DbKey> {
        loop {
            let (change, (db, key)) = self.ready.pop_front()?;
            if let Some(queues) = self.keys.get_mut(&Named(db, &key))
                && queues.ready == Some(change)
            {
                queues.ready = None;
                self.ready_count -= 1;
                return Some((db, key));
            }
        }
    }

    /// Whether nobody waits here.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

#[cfg(test)]
mod model_tests;

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Client;

    impl Waiting for Client {}

    fn wait(waits: &mut Waits, db: DbIndex, key: &[u8], kind: Kind, order: WaitOrder) {
        waits.add(db, key, kind, order, Arc::new(Client));
    }

    fn order(waits: &mut Waits, key: &[u8], kind: Kind) -> Vec<WaitOrder> {
        let mut found = Vec::new();
        while let Some((order, _)) = waits.next(0, key, kind, found.last().copied()) {
            found.push(order);
        }
        found
    }

    #[test]
    fn those_who_wait_longest_come_first_whenever_they_were_added() {
        let mut waits = Waits::default();
        for number in [5, 2, 9, 2] {
            wait(&mut waits, 0, b"k", Kind::List, number);
        }
        wait(&mut waits, 0, b"k", Kind::ZSet, 1);
        assert_eq!(order(&mut waits, b"k", Kind::List), [2, 5, 9]);
        assert_eq!(order(&mut waits, b"k", Kind::ZSet), [1]);
        assert_eq!(order(&mut waits, b"other", Kind::List), []);
        waits.remove(0, b"k", 5);
        waits.remove(0, b"k", 5);
        assert_eq!(order(&mut waits, b"k", Kind::List), [2, 9]);
    }

    #[test]
    fn a_key_is_ready_once_and_only_if_somebody_waits_for_it() {
        let mut waits = Waits::default();
        waits.changed(0, b"k");
        assert!(!waits.has_ready());
        wait(&mut waits, 0, b"k", Kind::List, 1);
        wait(&mut waits, 0, b"l", Kind::List, 1);
        waits.changed(1, b"k");
        assert!(!waits.has_ready());
        for key in [b"l", b"k", b"l"] {
            waits.changed(0, key);
        }
        assert_eq!(waits.take_ready(), Some((0, b"l".as_slice().into())));
        waits.changed(0, b"l");
        assert_eq!(waits.take_ready(), Some((0, b"k".as_slice().into())));
        assert_eq!(waits.take_ready(), Some((0, b"l".as_slice().into())));
        assert_eq!(waits.take_ready(), None);
    }

    #[test]
    fn nothing_stays_behind_when_nobody_waits_any_more() {
        let mut waits = Waits::default();
        wait(&mut waits, 3, b"k", Kind::Stream, 1);
        waits.changed_where(3, |key| key == b"k");
        waits.changed_where(2, |_| true);
        waits.remove(3, b"k", 1);
        assert!(waits.is_empty());
        assert!(!waits.has_ready());
        assert_eq!(waits.take_ready(), None);
    }
}
