//! Everything that executing a command touches, in one box that a borrow can move.

use crate::clock::AccessRule;
use crate::db::Db;
use crate::dirty::DirtyKeys;
use crate::evict::EvictionPool;
use crate::garbage::Garbage;
use crate::key::Key;
use crate::libraries::Libraries;
use crate::tracking::TrackTable;
use crate::waits::Waits;
use crate::walk::ShardWalk;
use crate::watch::WatchTable;
use moon_core::ShardId;

/// The number of a database, from 0.
pub type DbIndex = u16;

/// The data of one shard. It belongs to exactly one thread at a time: the shard's own, or the
/// executor that has borrowed it.
#[derive(Debug)]
pub struct ShardData {
    /// Whose data this is.
    pub id: ShardId,
    /// The numbered databases.
    pub dbs: Vec<Db>,
    /// Keys with effects that are not committed.
    pub dirty: DirtyKeys,
    /// Watched keys.
    pub watches: WatchTable,
    /// Keys of which clients keep copies.
    pub tracking: TrackTable,
    /// Those who wait for keys.
    pub waits: Waits,
    /// The libraries of functions. They belong to no key, so shard 0 has them for all shards, and
    /// whoever changes them holds the data of all.
    pub libraries: Libraries,
    /// The walk through all databases, while their image is being written.
    pub(crate) walk: Option<Box<ShardWalk>>,
    /// Databases that were emptied and are dropped elsewhere; `None` if nobody takes them.
    garbage: Option<Garbage>,
    /// Keys that go next when memory runs out.
    pub(crate) eviction: EvictionPool,
}

impl ShardData {
    /// An empty shard. `gated`: whether replies wait for a commit (the log is on).
    #[must_use]
    pub fn new(id: ShardId, databases: DbIndex, gated: bool) -> ShardData {
        ShardData {
            id,
            dbs: (0..databases).map(|_| Db::default()).collect(),
            dirty: DirtyKeys::new(gated),
            watches: WatchTable::default(),
            tracking: TrackTable::default(),
            waits: Waits::default(),
            libraries: Libraries::default(),
            walk: None,
            garbage: None,
            eviction: EvictionPool::default(),
        }
    }

    /// As [`ShardData::new`], with memory for about `keys` keys in database 0.
    #[must_use]
    pub fn with_hint(id: ShardId, databases: DbIndex, gated: bool, keys: usize) -> ShardData {
        let mut shard = Self::new(id, databases, gated);
        if let Some(db) = shard.dbs.first_mut() {
            *db = Db::with_hint(keys);
        }
        shard
    }

    /// The database `index`, which the caller has checked.
    #[inline]
    pub fn db(&mut self, index: DbIndex) -> &mut Db {
        &mut self.dbs[usize::from(index)]
    }

    /// A key was created, changed or removed: replies that show it must wait for the turn, and
    /// transactions that watch it must fail, and those who wait for it get a chance. Every effect
    /// names its keys through here.
    #[inline]
    pub fn changed(&mut self, db: DbIndex, key: Key<'_>) {
        self.dirty.mark(db, key.hash);
        self.watches.changed(db, key.bytes);
        self.tracking.changed(key);
        self.waits.changed(db, key.bytes);
    }

    /// Exchanges two databases (SWAPDB), which the caller has checked.
    pub fn swap_dbs(&mut self, a: DbIndex, b: DbIndex) {
        if a == b {
            return;
        }
        self.dirty.mark_whole(a);
        self.dirty.mark_whole(b);
        self.make_copies_stale();
        let [db_a, db_b] = [&self.dbs[usize::from(a)], &self.dbs[usize::from(b)]];
        let is_in_either = |key: &[u8]| {
            let key = Key::new(key);
            db_a.contains(key) || db_b.contains(key)
        };
        self.watches.changed_where(a, is_in_either);
        self.watches.changed_where(b, is_in_either);
        self.waits.changed_where(a, is_in_either);
        self.waits.changed_where(b, is_in_either);
        self.dbs.swap(usize::from(a), usize::from(b));
    }

    /// Any key may have changed: the copies that clients keep are stale.
    pub fn make_copies_stale(&mut self) {
        let tracked = self.tracking.all_changed();
        if let Some(garbage) = &mut self.garbage {
            garbage.put_tracked(tracked);
        }
    }

    /// From now on somebody takes the [`ShardData::garbage`]: large values and databases that are
    /// removed wait for that instead of being dropped at once.
    pub fn free_lazily(&mut self, is_lazy: bool) {
        self.garbage = is_lazy.then(Garbage::default);
        for db in &mut self.dbs {
            db.set_lazy(is_lazy);
        }
    }

    /// Takes what was removed and is to be dropped elsewhere. O(databases).
    pub fn garbage(&mut self) -> Garbage {
        let Some(garbage) = &mut self.garbage else {
            return Garbage::default();
        };
        let mut garbage = std::mem::take(garbage);
        for db in &mut self.dbs {
            db.empty_bin(&mut garbage);
        }
        garbage
    }

    /// Empties a database, which the caller has checked. What it held is dropped lazily; while a
    /// walk needs it, it stays with the walk.
    pub fn flush(&mut self, index: DbIndex) {
        let old = self.take_all(index);
        if let Some(garbage) = &mut self.garbage {
            garbage.put_db(old);
        }
    }

    /// Empties a database and returns what it held and no walk needs.
    pub(crate) fn take_all(&mut self, index: DbIndex) -> Db {
        self.dirty.mark_whole(index);
        self.make_copies_stale();
        let db = &mut self.dbs[usize::from(index)];
        self.watches
            .changed_where(index, |key| db.contains(Key::new(key)));
        self.waits
            .changed_where(index, |key| db.contains(Key::new(key)));
        let old = db.clear();
        match &mut self.walk {
            Some(walk) => walk.keep_flushed(old),
            None => old,
        }
    }

    /// Puts `db`, which holds the same keys and values, in the place of a database, which the
    /// caller has checked, and returns what that held as [`ShardData::flush`] does. Whoever waits
    /// for a key or watches it notices nothing.
    #[must_use = "dropping a large database takes long; drop it where that does not matter"]
    pub fn reload(&mut self, index: DbIndex, db: Db) -> Db {
        let place = self.db(index);
        debug_assert_eq!(place.len(), db.len(), "a reload keeps what is there");
        let old = place.clear();
        *place = db;
        match &mut self.walk {
            Some(walk) => walk.keep_flushed(old),
            None => old,
        }
    }

    /// Bytes used by all databases. O(databases).
    #[must_use]
    pub fn memory(&self) -> usize {
        self.dbs.iter().map(Db::memory).sum()
    }

    /// Number of keys in all databases.
    #[must_use]
    pub fn len(&self) -> usize {
        self.dbs.iter().map(Db::len).sum()
    }

    /// Whether there are no keys in any database.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.dbs.iter().all(Db::is_empty)
    }

    /// How uses of keys are remembered from now on, in all databases.
    pub fn set_access(&mut self, rule: AccessRule) {
        for db in &mut self.dbs {
            db.set_access(rule);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::garbage::LAZY_STRING_BYTES;
    use crate::{THIS_TURN, Value};
    use moon_core::Lsn;

    fn shard() -> ShardData {
        let mut shard = ShardData::new(ShardId(0), 3, true);
        for (db, key) in [(0, b"a"), (1, b"b"), (2, b"c")] {
            shard
                .db(db)
                .insert(Key::new(key), Value::from_int(i64::from(db)), None);
        }
        shard
    }

    #[test]
    fn flush_fails_only_watches_that_saw_a_key() {
        let mut shard = shard();
        let present = shard.watches.watch(0, b"a");
        let missing = shard.watches.watch(0, b"b");
        let elsewhere = shard.watches.watch(1, b"b");
        shard.flush(0);
        assert_eq!(shard.len(), 2);
        assert_ne!(shard.watches.version(0, b"a"), Some(present));
        assert_eq!(shard.watches.version(0, b"b"), Some(missing));
        assert_eq!(shard.watches.version(1, b"b"), Some(elsewhere));
        let any = Key::new(b"any").hash;
        assert_eq!(shard.dirty.dependency(0, any), THIS_TURN);
        assert_eq!(shard.dirty.dependency(1, any), Lsn::ZERO);
    }

    #[test]
    fn large_values_wait_in_the_garbage_however_they_were_removed() {
        const LARGE: usize = LAZY_STRING_BYTES + 1;
        let large = || Value::string(&[b'x'; LARGE]);
        let key = Key::new(b"large");
        let mut shard = shard();
        shard.free_lazily(true);
        shard.db(1).store(key, large(), None);
        shard.db(1).store(key, large(), None);
        shard.db(1).insert_string(key, b"small", None);
        shard.db(1).store(key, large(), None);
        assert!(shard.db(1).delete(key));
        shard.db(2).store(key, large(), None);
        shard.flush(2);
        let garbage = shard.garbage();
        assert_eq!(
            garbage.objects(),
            3 + 2,
            "the flushed database had two keys"
        );
        assert!(garbage.bytes() > 4 * LARGE as u64);
        assert!(shard.garbage().is_empty());
        assert!(shard.memory() < LARGE);

        shard.db(1).delete(Key::new(b"b"));
        shard.flush(0);
        assert!(
            shard.garbage().is_empty(),
            "what is small is dropped at once"
        );
        shard.free_lazily(false);
        shard.db(1).store(key, large(), None);
        shard.flush(1);
        assert!(shard.garbage().is_empty(), "nobody takes it");
    }

    #[test]
    fn swapdb_fails_watches_of_keys_that_exist_on_either_side() {
        let mut shard = shard();
        let watched = [
            (0, b"a"),
            (0, b"b"),
            (0, b"c"),
            (1, b"a"),
            (1, b"b"),
            (2, b"c"),
        ];
        let before = watched.map(|(db, key)| shard.watches.watch(db, key));
        shard.swap_dbs(0, 1);
        let changed: Vec<bool> = watched
            .iter()
            .zip(before)
            .map(|((db, key), version)| shard.watches.version(*db, *key) != Some(version))
            .collect();
        assert_eq!(changed, [true, true, false, true, true, false]);
        assert!(shard.db(0).contains(Key::new(b"b")));
        assert!(shard.db(1).contains(Key::new(b"a")));
        let any = Key::new(b"any").hash;
        for (db, dependency) in [(0, THIS_TURN), (1, THIS_TURN), (2, Lsn::ZERO)] {
            assert_eq!(shard.dirty.dependency(db, any), dependency, "database {db}");
        }
    }
}
