//! Names in the order of their deadlines: fields of a hash, and hashes of a database.

use crate::clock::AccessClock;
use crate::packed_key::PackedKey;
use moon_core::UnixMs;
use std::collections::BTreeSet;

/// Names, each with a deadline, the earliest first. Adding, removing and the look at either end
/// take logarithmic time.
///
/// Whoever keeps one knows the deadline of each name; here it is only found from its deadline.
#[derive(Clone, Debug, Default)]
pub(crate) struct DueSet {
    set: BTreeSet<Due>,
    /// What the names take outside the tree.
    heap: usize,
}

/// A name with its deadline, ordered by the deadline first.
#[derive(Clone, Debug)]
struct Due {
    at: UnixMs,
    name: PackedKey,
}

impl Due {
    fn new(at: UnixMs, name: &[u8]) -> Due {
        Due {
            at,
            name: PackedKey::new(name, AccessClock::default()),
        }
    }

    fn order(&self) -> (UnixMs, &[u8]) {
        (self.at, self.name.as_bytes())
    }
}

impl PartialEq for Due {
    fn eq(&self, other: &Due) -> bool {
        self.order() == other.order()
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Due) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Due) -> std::cmp::Ordering {
        self.order().cmp(&other.order())
    }
}

impl DueSet {
    /// How many names there are.
    pub(crate) fn len(&self) -> usize {
        self.set.len()
    }

    /// Adds a name that is not here.
    pub(crate) fn insert(&mut self, at: UnixMs, name: &[u8]) {
        let due = Due::new(at, name);
        self.heap += due.name.memory();
        let is_new = self.set.insert(due);
        debug_assert!(is_new, "the name is here already");
    }

    /// Removes a name that is here with this deadline.
    pub(crate) fn remove(&mut self, at: UnixMs, name: &[u8]) {
        let removed = self.set.take(&Due::new(at, name));
        debug_assert!(removed.is_some(), "the name has another deadline");
        self.heap -= removed.map_or(0, |due| due.name.memory());
    }

    /// Whether the name is here with this deadline.
    pub(crate) fn contains(&self, at: UnixMs, name: &[u8]) -> bool {
        self.set.contains(&Due::new(at, name))
    }

    /// The earliest deadline.
    #[inline]
    pub(crate) fn first(&self) -> Option<UnixMs> {
        self.set.first().map(|due| due.at)
    }

    /// The latest deadline.
    pub(crate) fn last(&self) -> Option<UnixMs> {
        self.set.last().map(|due| due.at)
    }

    /// The names whose deadline is not after `now`, the earliest first.
    pub(crate) fn until(&self, now: UnixMs) -> impl Iterator<Item = &[u8]> {
        (self.set.iter())
            .take_while(move |due| due.at <= now)
            .map(|due| due.name.as_bytes())
    }

    /// Bytes on the heap. The tree's nodes are between half full and full.
    pub(crate) fn memory(&self) -> usize {
        self.heap + self.set.len() * size_of::<Due>() * 3 / 2
    }
}
