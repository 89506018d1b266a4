//! Versions of watched keys.
//!
//! WATCH compares versions, not values: a key that was changed and changed back has changed.
//! Only watched keys have a version, so an unwatched write costs one test of emptiness.

use crate::shard::DbIndex;
use hashbrown::HashMap;

/// A version of a watched key; it differs from every earlier one on its shard.
pub type WatchVersion = u64;

#[derive(Debug)]
struct Watched {
    version: WatchVersion,
    /// How often it was changed since somebody began to watch it.
    changes: u64,
    watchers: u32,
}

/// The watched keys of one shard.
#[derive(Debug, Default)]
pub struct WatchTable {
    keys: HashMap<(DbIndex, Box<[u8]>), Watched>,
    last_version: WatchVersion,
}

impl WatchTable {
    /// Adds a watcher of the key and returns the version that EXEC must find.
    pub fn watch(&mut self, db: DbIndex, key: &[u8]) -> WatchVersion {
        let version = self.last_version;
        let watched = self.keys.entry((db, key.into())).or_insert(Watched {
            version,
            changes: 0,
            watchers: 0,
        });
        watched.watchers += 1;
        watched.version
    }

    /// Removes one watcher of the key.
    pub fn unwatch(&mut self, db: DbIndex, key: &[u8]) {
        let id = (db, Box::from(key));
        if let Some(watched) = self.keys.get_mut(&id) {
            watched.watchers -= 1;
            if watched.watchers == 0 {
                self.keys.remove(&id);
            }
        }
    }

    /// The version now; `None` if nobody watches the key.
    #[must_use]
    pub fn version(&self, db: DbIndex, key: &[u8]) -> Option<WatchVersion> {
        self.keys.get(&(db, Box::from(key))).map(|w| w.version)
    }

    /// How often the key was changed since it has been watched, by whomever; 0 if nobody does.
    #[must_use]
    pub fn changes(&self, db: DbIndex, key: &[u8]) -> u64 {
        let watched = self.keys.get(&(db, Box::from(key)));
        watched.map_or(0, |watched| watched.changes)
    }

    /// The key was changed.
    #[inline]
    pub fn changed(&mut self, db: DbIndex, key: &[u8]) {
        if self.keys.is_empty() {
            return;
        }
        self.last_version += 1;
        if let Some(watched) = self.keys.get_mut(&(db, Box::from(key))) {
            watched.version = self.last_version;
            watched.changes += 1;
        }
    }

    /// Every watched key of `db` for which `is_affected` holds was changed.
    pub fn changed_where(&mut self, db: DbIndex, mut is_affected: impl FnMut(&[u8]) -> bool) {
        self.last_version += 1;
        for ((watched_db, key), watched) in &mut self.keys {
            if *watched_db == db && is_affected(key) {
                watched.version = self.last_version;
                watched.changes += 1;
            }
        }
    }

    /// Whether nobody watches anything here.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_and_back_is_still_a_change() {
        let mut watches = WatchTable::default();
        let before = watches.watch(0, b"k");
        assert_eq!(watches.version(0, b"k"), Some(before));
        watches.changed(0, b"other");
        assert_eq!(watches.version(0, b"k"), Some(before));
        watches.changed(0, b"k");
        assert_ne!(watches.version(0, b"k"), Some(before));
        assert_eq!(watches.changes(0, b"k"), 1);
        watches.changed_where(0, |key| key == b"k");
        assert_eq!(
            (watches.changes(0, b"k"), watches.changes(0, b"other")),
            (2, 0)
        );
    }

    #[test]
    fn a_version_is_never_reused_after_the_last_watcher_left() {
        let mut watches = WatchTable::default();
        let first = watches.watch(0, b"k");
        watches.changed(0, b"k");
        watches.unwatch(0, b"k");
        assert!(watches.is_empty());
        assert_ne!(watches.watch(0, b"k"), first);
    }
}
