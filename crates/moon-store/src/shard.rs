//! Everything that executing a command touches, in one box that a borrow can move.

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
}
