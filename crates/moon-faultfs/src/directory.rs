//! A directory: its names as a program sees them, as they were last synced, and the changes
//! between.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

/// Names and what they name.
pub(crate) type Names = BTreeMap<OsString, u64>;

/// One change of a directory that is not synced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// A name for `inode`: created, or linked, replacing what had it.
    Add { name: OsString, inode: u64 },
    /// The name is gone.
    Remove { name: OsString },
    /// A rename within the directory.
    Rename { from: OsString, to: OsString },
    /// Half of a rename to another directory; `rename` is the number of both halves.
    MoveOut { name: OsString, rename: u64 },
    /// The other half.
    MoveIn {
        name: OsString,
        inode: u64,
        rename: u64,
    },
}

impl Change {
    fn apply(&self, names: &mut Names) {
        match self {
            Change::Add { name, inode } | Change::MoveIn { name, inode, .. } => {
                names.insert(name.clone(), *inode);
            }
            Change::Remove { name } | Change::MoveOut { name, .. } => {
                names.remove(name);
            }
            Change::Rename { from, to } => {
                if let Some(inode) = names.remove(from) {
                    names.insert(to.clone(), inode);
                }
            }
        }
    }

    /// The number of the rename between two directories that this is half of.
    fn rename(&self) -> Option<u64> {
        match self {
            Change::MoveOut { rename, .. } | Change::MoveIn { rename, .. } => Some(*rename),
            _ => None,
        }
    }
}

/// A directory.
///
/// # Invariants
/// `pending` applied to `durable` gives `current`.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    current: Names,
    durable: Names,
    pending: Vec<Change>,
}

impl Directory {
    /// A directory that is durable as it is.
    pub(crate) fn durable(names: Names) -> Self {
        Directory {
            current: names.clone(),
            durable: names,
            pending: Vec::new(),
        }
    }

    /// What a program sees.
    pub(crate) fn names(&self) -> &Names {
        &self.current
    }

    /// What `name` names.
    pub(crate) fn get(&self, name: &OsStr) -> Option<u64> {
        self.current.get(name).copied()
    }

    pub(crate) fn change(&mut self, change: Change) {
        change.apply(&mut self.current);
        self.pending.push(change);
    }

    /// Number of changes that are not durable.
    pub(crate) fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Everything is durable now. Returns the renames to and from other directories whose half
    /// here became durable.
    pub(crate) fn synced(&mut self) -> Vec<u64> {
        let renames = self.pending.iter().filter_map(Change::rename).collect();
        self.pending.clear();
        self.durable = self.current.clone();
        renames
    }

    /// The renames between directories among the first `count` pending changes.
    pub(crate) fn renames(&self, count: usize) -> impl Iterator<Item = u64> {
        self.pending[..count].iter().filter_map(Change::rename)
    }

    /// The least number of pending changes, at least `count`, that has every rename for which
    /// `is_done` says that its other half took place.
    pub(crate) fn extended(&self, count: usize, is_done: impl Fn(u64) -> bool) -> usize {
        self.pending
            .iter()
            .rposition(|change| change.rename().is_some_and(&is_done))
            .map_or(count, |last| count.max(last + 1))
    }

    /// The names when the first `count` pending changes took place.
    pub(crate) fn survivor(&self, count: usize) -> Names {
        let mut names = self.durable.clone();
        for change in &self.pending[..count] {
            change.apply(&mut names);
        }
        names
    }

    /// Everything that is or may be named here after a power loss.
    pub(crate) fn inodes(&self) -> impl Iterator<Item = u64> {
        let added = self.pending.iter().filter_map(|change| match change {
            Change::Add { inode, .. } | Change::MoveIn { inode, .. } => Some(*inode),
            _ => None,
        });
        self.current
            .values()
            .chain(self.durable.values())
            .copied()
            .chain(added)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(name: &str, inode: u64) -> Change {
        Change::Add {
            name: name.into(),
            inode,
        }
    }

    fn rename(from: &str, to: &str) -> Change {
        Change::Rename {
            from: from.into(),
            to: to.into(),
        }
    }

    fn names(names: &Names) -> Vec<(&str, u64)> {
        names
            .iter()
            .map(|(name, inode)| (name.to_str().unwrap_or("?"), *inode))
            .collect()
    }

    #[test]
    fn a_rename_replaces_its_target_at_once_or_not_at_all() {
        let mut dir = Directory::default();
        dir.change(add("manifest", 1));
        dir.synced();
        dir.change(add("temp", 2));
        dir.change(rename("temp", "manifest"));
        assert_eq!(names(dir.names()), [("manifest", 2)]);
        assert_eq!(names(&dir.survivor(0)), [("manifest", 1)]);
        assert_eq!(names(&dir.survivor(1)), [("manifest", 1), ("temp", 2)]);
        assert_eq!(names(&dir.survivor(2)), [("manifest", 2)]);
        let mut inodes: Vec<_> = dir.inodes().collect();
        inodes.sort_unstable();
        inodes.dedup();
        assert_eq!(inodes, [1, 2]);
    }

    #[test]
    fn a_rename_between_directories_pulls_its_other_half_along() {
        let mut dir = Directory::default();
        dir.change(add("a", 1));
        dir.change(Change::MoveOut {
            name: "a".into(),
            rename: 7,
        });
        dir.change(add("b", 2));
        assert_eq!(dir.extended(0, |_| false), 0);
        assert_eq!(dir.extended(0, |rename| rename == 7), 2);
        assert_eq!(dir.extended(3, |rename| rename == 7), 3);
        assert_eq!(dir.renames(1).count(), 0);
        assert_eq!(dir.synced(), [7]);
    }
}
