//! Everything that executing a command touches, in one box that a borrow can move.

use crate::clock::AccessClock;
use crate::db::Db;
use crate::dirty::DirtyKeys;
use crate::key::Key;
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
    /// The walk through all databases, while their image is being written.
    pub(crate) walk: Option<Box<ShardWalk>>,
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
            walk: None,
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
    /// transactions that watch it must fail. Every effect names its keys through here.
    #[inline]
    pub fn changed(&mut self, db: DbIndex, key: Key<'_>) {
        self.dirty.mark(db, key.hash);
        self.watches.changed(db, key.bytes);
    }

    /// Exchanges two databases (SWAPDB), which the caller has checked.
    pub fn swap_dbs(&mut self, a: DbIndex, b: DbIndex) {
        if a == b {
            return;
        }
        self.dirty.mark_whole(a);
        self.dirty.mark_whole(b);
        let [db_a, db_b] = [&self.dbs[usize::from(a)], &self.dbs[usize::from(b)]];
        let is_in_either = |key: &[u8]| {
            let key = Key::new(key);
            db_a.contains(key) || db_b.contains(key)
        };
        self.watches.changed_where(a, is_in_either);
        self.watches.changed_where(b, is_in_either);
        self.dbs.swap(usize::from(a), usize::from(b));
    }

    /// Empties a database, which the caller has checked, and returns what it held, to be dropped
    /// elsewhere or later. While a walk needs what it held, that stays with the walk, and what
    /// returns is empty.
    #[must_use = "dropping a large database takes long; drop it where that does not matter"]
    pub fn flush(&mut self, index: DbIndex) -> Db {
        self.dirty.mark_whole(index);
        let db = &mut self.dbs[usize::from(index)];
        self.watches
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

    /// The access clock that keys get when they are stored, in all databases.
    pub fn set_clock(&mut self, clock: AccessClock) {
        for db in &mut self.dbs {
            db.set_clock(clock);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
    fn flush_returns_the_old_keys_and_fails_only_watches_that_saw_one() {
        let mut shard = shard();
        let present = shard.watches.watch(0, b"a");
        let missing = shard.watches.watch(0, b"b");
        let elsewhere = shard.watches.watch(1, b"b");
        let old = shard.flush(0);
        assert_eq!((old.len(), shard.len()), (1, 2));
        assert_ne!(shard.watches.version(0, b"a"), Some(present));
        assert_eq!(shard.watches.version(0, b"b"), Some(missing));
        assert_eq!(shard.watches.version(1, b"b"), Some(elsewhere));
        let any = Key::new(b"any").hash;
        assert_eq!(shard.dirty.dependency(0, any), THIS_TURN);
        assert_eq!(shard.dirty.dependency(1, any), Lsn::ZERO);
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
