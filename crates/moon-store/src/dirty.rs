//! Which keys hold effects that are not committed yet.
//!
//! A reply may leave only when everything it shows is committed. So each shard remembers, per
//! key hash, the end of the last frame that wrote the key, until `committed` passes it. Hashes
//! stand for keys: two keys with one hash cost a needless wait, never a dirty read.

use crate::shard::DbIndex;
use hashbrown::HashMap;
use moon_core::Lsn;
use std::collections::VecDeque;
use std::hash::{BuildHasherDefault, Hasher};

/// The dependency on the turn in progress, whose LSN is not issued yet. It is greater than every
/// real LSN, so `max` of dependencies is right.
pub const THIS_TURN: Lsn = Lsn::MAX;

/// The uncommitted keys of one shard.
///
/// Keys remember the number of the turn that wrote them last, so that ending a turn is one step
/// however many keys it wrote.
///
/// # Invariants
/// * The number of a key is `open`, or that of a turn in `sealed`.
/// * `sealed` holds turns with neighbouring numbers that end before `open`, in LSN order.
#[derive(Debug, Default)]
pub struct DirtyKeys {
    enabled: bool,
    /// The turn that wrote each key last.
    keys: HashMap<u64, u64, BuildHasherDefault<KeyIsHash>>,
    /// Number of the turn in progress.
    open: u64,
    /// Hashes written by the turn in progress.
    turn: Vec<u64>,
    /// Turns that became frames, oldest first: the frame's end, and the hashes.
    sealed: VecDeque<(Lsn, Vec<u64>)>,
    /// Emptied vectors, kept so that a turn allocates nothing.
    spare: Vec<Vec<u64>>,
    /// Last write to a whole database (FLUSHDB, SWAPDB), per database.
    whole: Vec<(DbIndex, Lsn)>,
    /// Highest end ever sealed here.
    last: Lsn,
}

impl DirtyKeys {
    /// A table that does nothing unless `enabled`: with the log off nothing is ever at risk.
    #[must_use]
    pub fn new(enabled: bool) -> Self {
        DirtyKeys {
            enabled,
            ..DirtyKeys::default()
        }
    }

    /// The key was changed by the turn in progress.
    #[inline]
    pub fn mark(&mut self, db: DbIndex, hash: u64) {
        if !self.enabled {
            return;
        }
        let hash = mix(db, hash);
        if self.keys.insert(hash, self.open) != Some(self.open) {
            self.turn.push(hash);
        }
    }

    /// Every key of `db`, present or missing, was changed by the turn in progress.
    pub fn mark_whole(&mut self, db: DbIndex) {
        if !self.enabled {
            return;
        }
        self.whole.retain(|(d, _)| *d != db);
        self.whole.push((db, THIS_TURN));
    }

    /// What a reply that looked at the key depends on; [`Lsn::ZERO`] if on nothing.
    #[inline]
    #[must_use]
    pub fn dependency(&self, db: DbIndex, hash: u64) -> Lsn {
        if self.keys.is_empty() && self.whole.is_empty() {
            return Lsn::ZERO;
        }
        let turn = self.keys.get(&mix(db, hash));
        let key = turn.map_or(Lsn::ZERO, |turn| self.end_of(*turn));
        self.whole
            .iter()
            .filter(|(d, _)| *d == db)
            .map(|(_, lsn)| *lsn)
            .fold(key, Lsn::max)
    }

    /// Where the frame of a turn in the table ends.
    fn end_of(&self, turn: u64) -> Lsn {
        // The last sealed turn is just before the open one.
        let behind = usize::try_from(self.open - turn).unwrap_or(usize::MAX);
        match behind {
            0 => THIS_TURN,
            _ => self.sealed[self.sealed.len() - behind].0,
        }
    }

    /// What a reply that looked at the whole shard depends on.
    #[must_use]
    pub fn dependency_on_all(&self) -> Lsn {
        let turn = !self.turn.is_empty() || self.whole.iter().any(|(_, lsn)| *lsn == THIS_TURN);
        match (turn, self.is_clean()) {
            (true, _) => THIS_TURN,
            (false, true) => Lsn::ZERO,
            (false, false) => self.last,
        }
    }

    /// The turn in progress became a frame that ends at `end`.
    pub fn seal(&mut self, end: Lsn) {
        if self.turn.is_empty() && self.whole.is_empty() {
            return;
        }
        self.last = self.last.max(end);
        for (_, lsn) in &mut self.whole {
            *lsn = (*lsn).min(end);
        }
        let next = self.spare.pop().unwrap_or_default();
        let turn = std::mem::replace(&mut self.turn, next);
        self.sealed.push_back((end, turn));
        self.open += 1;
    }

    /// Everything below `committed` is safe: forgets what depended on it.
    pub fn committed(&mut self, committed: Lsn) {
        while let Some((end, _)) = self.sealed.front() {
            if *end > committed {
                break;
            }
            let turn = self.open - self.sealed.len() as u64;
            let (_, mut hashes) = self.sealed.pop_front().expect("the front was just seen");
            if self.sealed.is_empty() && self.turn.is_empty() {
                self.keys.clear();
            } else {
                for hash in &hashes {
                    // A later frame may have written the key again; its entry stays.
                    if self.keys.get(hash) == Some(&turn) {
                        self.keys.remove(hash);
                    }
                }
            }
            hashes.clear();
            if self.spare.len() < 4 {
                self.spare.push(hashes);
            }
        }
        self.whole.retain(|(_, lsn)| *lsn > committed);
    }

    /// Whether nothing here is uncommitted.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.keys.is_empty() && self.whole.is_empty()
    }
}

/// One hash for a key of a database. The multiplier is odd, so databases differ in all bits.
fn mix(db: DbIndex, hash: u64) -> u64 {
    hash ^ u64::from(db).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// The keys of the map are hashes already.
#[derive(Default)]
pub struct KeyIsHash(u64);

impl Hasher for KeyIsHash {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("only u64 keys are hashed here");
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hash(i: u64) -> u64 {
        i.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    #[test]
    fn a_key_depends_on_the_last_frame_that_wrote_it_until_it_is_committed() {
        let mut dirty = DirtyKeys::new(true);
        dirty.mark(0, hash(1));
        assert_eq!(dirty.dependency(0, hash(1)), THIS_TURN);
        assert_eq!(dirty.dependency(1, hash(1)), Lsn::ZERO, "another database");
        dirty.seal(Lsn(10));
        dirty.mark(0, hash(2));
        dirty.mark(0, hash(1));
        dirty.seal(Lsn(20));
        assert_eq!(dirty.dependency(0, hash(1)), Lsn(20));
        dirty.committed(Lsn(10));
        assert_eq!(dirty.dependency(0, hash(1)), Lsn(20));
        dirty.committed(Lsn(20));
        assert_eq!(dirty.dependency(0, hash(1)), Lsn::ZERO);
        assert!(dirty.is_clean());
    }

    #[test]
    fn a_key_written_again_in_the_open_turn_stays_dirty_when_the_old_frame_commits() {
        let mut dirty = DirtyKeys::new(true);
        dirty.mark(0, hash(1));
        dirty.seal(Lsn(10));
        dirty.mark(0, hash(1));
        dirty.committed(Lsn(10));
        assert_eq!(dirty.dependency(0, hash(1)), THIS_TURN);
    }

    #[test]
    fn a_flush_makes_missing_keys_dirty_too() {
        let mut dirty = DirtyKeys::new(true);
        dirty.mark_whole(0);
        assert_eq!(dirty.dependency(0, hash(7)), THIS_TURN);
        assert_eq!(dirty.dependency_on_all(), THIS_TURN);
        dirty.seal(Lsn(5));
        assert_eq!(dirty.dependency(0, hash(7)), Lsn(5));
        dirty.committed(Lsn(5));
        assert!(dirty.is_clean());
    }

    #[test]
    fn nothing_is_dirty_when_disabled() {
        let mut dirty = DirtyKeys::new(false);
        dirty.mark(0, hash(1));
        dirty.mark_whole(0);
        assert!(dirty.is_clean());
    }

    #[derive(Clone, Debug)]
    enum Op {
        Mark(DbIndex, u64),
        MarkWhole(DbIndex),
        /// Bytes of the frame.
        Seal(u64),
        /// How many of the sealed frames are committed at least.
        Commit(usize),
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            6 => (0u16..3, 0u64..8).prop_map(|(db, key)| Op::Mark(db, key)),
            1 => (0u16..3).prop_map(Op::MarkWhole),
            3 => (1u64..50).prop_map(Op::Seal),
            2 => (0usize..6).prop_map(Op::Commit),
        ]
    }

    proptest! {
        /// The model keeps every write for ever, with the end of its frame.
        #[test]
        fn dependencies_are_those_of_the_full_history(ops in prop::collection::vec(op(), 1..80)) {
            let mut dirty = DirtyKeys::new(true);
            let mut writes: Vec<(DbIndex, Option<u64>, Lsn)> = vec![];
            let mut ends = vec![Lsn::ZERO];
            let mut committed = 0;
            for op in ops {
                match op {
                    Op::Mark(db, key) => {
                        dirty.mark(db, hash(key));
                        writes.push((db, Some(key), THIS_TURN));
                    }
                    Op::MarkWhole(db) => {
                        dirty.mark_whole(db);
                        writes.push((db, None, THIS_TURN));
                    }
                    Op::Seal(bytes) => {
                        let end = ends[ends.len() - 1].advance(bytes);
                        ends.push(end);
                        dirty.seal(end);
                        writes.iter_mut().for_each(|w| w.2 = w.2.min(end));
                    }
                    Op::Commit(frame) => {
                        committed = committed.max(frame.min(ends.len() - 1));
                        dirty.committed(ends[committed]);
                    }
                }
                let safe = ends[committed];
                let latest = |is_it: &dyn Fn(DbIndex, Option<u64>) -> bool| {
                    let hits = writes.iter().filter(|w| is_it(w.0, w.1) && w.2 > safe);
                    hits.map(|w| w.2).max().unwrap_or(Lsn::ZERO)
                };
                for db in 0..3 {
                    for key in 0..9 {
                        let expected = latest(&|d, k| d == db && k.is_none_or(|k| k == key));
                        prop_assert_eq!(dirty.dependency(db, hash(key)), expected);
                    }
                }
                let all = latest(&|_, _| true);
                prop_assert!(dirty.dependency_on_all() >= all, "never less than the truth");
                prop_assert_eq!(dirty.is_clean(), all == Lsn::ZERO);
            }
        }
    }
}
