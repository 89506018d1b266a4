//! Everything that executing a command touches, in one box that a borrow can move.

use crate::clock::AccessClock;
use crate::db::Db;
use crate::dirty::DirtyKeys;
use crate::key::Key;
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
        }
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
    /// elsewhere or later.
    #[must_use = "dropping a large database takes long; drop it where that does not matter"]
    pub fn flush(&mut self, index: DbIndex) -> Db {
        self.dirty.mark_whole(index);
        let db = &mut self.dbs[usize::from(index)];
        self.watches
            .changed_where(index, |key| db.contains(Key::new(key)));
        db.clear()
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
