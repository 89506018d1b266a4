//! The walk: the state of a shard at one moment, the *cut*, is encoded bit by bit while commands
//! go on changing it.
//!
//! Nothing is copied at the cut. [`ShardData::walk`] goes through the tables in slices; a change
//! of a key that it has not reached yet first encodes the key as it is. Each database carries its
//! own walk ([`crate::db`]), so SWAPDB moves it along, and a flushed database stays with the walk
//! until it is written. What was encoded waits to be taken, in an order that is valid in a file.

use crate::db::{Compression, Db, DbWalk, WalkLimits};
use crate::image::ImageChunk;
use crate::key::Key;
use crate::shard::{DbIndex, ShardData};
use std::collections::VecDeque;

/// Above this much memory a value is huge: it is written in pieces.
pub const HUGE_BYTES: usize = 256 << 10;

/// Bytes of one piece of a huge value.
const PIECE_BYTES: usize = 64 << 10;

/// The walk rests while about this many bytes wait to be taken.
pub const CHUNK_BYTES: usize = 1 << 20;

const LIMITS: WalkLimits = WalkLimits {
    huge_bytes: HUGE_BYTES,
    piece_bytes: PIECE_BYTES,
    chunk_bytes: CHUNK_BYTES,
};

/// How far a walk is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WalkProgress {
    /// Keys of the cut that are encoded.
    pub keys_done: u64,
    /// Keys at the cut, in all databases.
    pub keys_total: u64,
}

/// The walk through all databases of a shard.
#[derive(Debug)]
pub(crate) struct ShardWalk {
    limits: WalkLimits,
    keys_total: u64,
    /// Databases that are not done, by their numbers at the cut; the first is being walked.
    numbers: VecDeque<DbIndex>,
    /// The database with an open key.
    open: Option<DbIndex>,
    /// Pending keys that are to be written next, and their databases by their numbers at the cut.
    first: VecDeque<(DbIndex, Box<[u8]>)>,
    /// Databases that were emptied before the walk was done with them.
    flushed: Vec<Db>,
}

impl ShardWalk {
    /// Takes what a flush removed; returns what is not needed.
    pub(crate) fn keep_flushed(&mut self, mut old: Db) -> Db {
        let Some(walk) = old.walked() else {
            return old;
        };
        if walk.is_done() {
            // Only the bytes that wait are needed.
            let mut shell = Db::default();
            *shell.walk_slot() = old.walk_slot().take();
            self.flushed.push(shell);
            return old;
        }
        old.walk_as_flushed();
        self.flushed.push(old);
        Db::default()
    }
}

/// What one step of the walk came to.
#[derive(PartialEq, Eq)]
enum Step {
    /// Something was encoded or passed.
    Done,
    /// Something must be taken first, or there is nothing left.
    Stuck,
}

impl ShardData {
    /// The cut: the image is the state as it is now. O(databases).
    ///
    /// # Panics
    /// When a walk is on already: its image would get a second beginning.
    pub fn begin_walk(&mut self, compression: Compression) {
        self.begin_walk_with(LIMITS, compression);
    }

    pub(crate) fn begin_walk_with(&mut self, limits: WalkLimits, compression: Compression) {
        assert!(self.walk.is_none(), "one walk at a time");
        let mut numbers = VecDeque::new();
        for (number, db) in (0..).zip(&mut self.dbs) {
            db.begin_walk(number, limits, compression);
            numbers.extend(db.walked().map(DbWalk::number));
        }
        self.walk = Some(Box::new(ShardWalk {
            limits,
            keys_total: self.len() as u64,
            numbers,
            open: None,
            first: VecDeque::new(),
            flushed: Vec::new(),
        }));
    }

    /// Whether a walk is on, done or not.
    #[must_use]
    pub fn is_walking(&self) -> bool {
        self.walk.is_some()
    }

    /// Whether every key of the cut is encoded. Chunks may still wait to be taken.
    ///
    /// # Panics
    /// When not exactly as many keys were encoded as there were at the cut: such an image must
    /// not replace anything.
    #[must_use]
    pub fn walk_is_done(&self) -> bool {
        let is_done = self.walks().all(DbWalk::is_done);
        if is_done {
            let progress = self.walk_progress();
            assert_eq!(progress.keys_done, progress.keys_total, "keys in the image");
        }
        is_done
    }

    /// Encodes more, in hash order, one table segment or one piece of a huge value at a time,
    /// until `is_over` says so after one of them, or about [`CHUNK_BYTES`] wait to be taken.
    pub fn walk(&mut self, is_over: &mut dyn FnMut() -> bool) {
        while !self.must_rest() && self.step() == Step::Done && !is_over() {}
    }

    fn must_rest(&self) -> bool {
        let Some(walk) = &self.walk else {
            return true;
        };
        let waiting = match self.walks().find(|db| db.outbox.is_mid_entry()) {
            // The others' bytes cannot leave before this value is complete.
            Some(db) => db.outbox.takeable_bytes(),
            None => self.image_bytes(),
        };
        waiting >= walk.limits.chunk_bytes
    }

    /// The bytes that come next; `None` if none are ready. Whoever puts them together selects a
    /// database where [`ImageChunk::db`] changes, which it does only between keys.
    pub fn take_image(&mut self) -> Option<ImageChunk> {
        let is_mid = self.walks().any(|db| db.outbox.is_mid_entry());
        self.walks_mut()
            .filter(|db| db.outbox.is_mid_entry() || !is_mid)
            .find_map(|db| {
                let (bytes, ends_entry) = db.outbox.take()?;
                Some(ImageChunk {
                    db: db.number(),
                    bytes,
                    ends_entry,
                })
            })
    }

    /// Bytes that are encoded and not taken. O(databases) during a walk, O(1) without one.
    #[must_use]
    pub fn image_bytes(&self) -> usize {
        // Asked for every read buffer, and mostly there is no walk.
        if self.walk.is_none() {
            return 0;
        }
        self.walks().map(|db| db.outbox.bytes()).sum()
    }

    /// How far the walk is; all zero without one. O(databases).
    #[must_use]
    pub fn walk_progress(&self) -> WalkProgress {
        WalkProgress {
            keys_done: self.walks().map(DbWalk::done).sum(),
            keys_total: self.walk.as_ref().map_or(0, |walk| walk.keys_total),
        }
    }

    /// Ends the walk, whether it is done or not, and drops all of its state, flushed databases
    /// included. Of those, a walk that is done has already freed what they held.
    pub fn end_walk(&mut self) {
        for db in &mut self.dbs {
            *db.walk_slot() = None;
        }
        self.walk = None;
    }

    /// Whether a change of the key now would first have to encode a huge value whole. It may be
    /// made to wait instead, until the walk has written the value in pieces:
    /// [`ShardData::walk_first`].
    #[inline]
    #[must_use]
    pub fn is_held(&self, db: DbIndex, key: Key<'_>) -> bool {
        self.walk.is_some() && self.dbs[usize::from(db)].is_held(key)
    }

    /// Asks the walk to write a held key next, after those asked for before. Nothing for others.
    pub fn walk_first(&mut self, db: DbIndex, key: Key<'_>) {
        let Some(walk) = &mut self.walk else {
            return;
        };
        let db = &mut self.dbs[usize::from(db)];
        if !db.make_pending(key) {
            return;
        }
        let is_same = |(number, other): &(DbIndex, Box<[u8]>)| {
            db.walked().is_some_and(|db| db.number() == *number) && **other == *key.bytes
        };
        if !walk.first.iter().any(is_same) {
            let number = db.walked().map(DbWalk::number);
            walk.first.extend(number.map(|n| (n, key.bytes.into())));
        }
    }

    fn step(&mut self) -> Step {
        if self.walk_open() || self.open_first() {
            return Step::Done;
        }
        loop {
            let Some(number) = self.walk.as_ref().and_then(|w| w.numbers.front().copied()) else {
                return Step::Stuck;
            };
            let db = self.walked_db(number);
            let Some(walk) = db.walked() else {
                return Step::Stuck;
            };
            if walk.must_free() {
                db.free_passed();
                return Step::Done;
            }
            if walk.has_pending() {
                return match self.open_pending(number, None) {
                    true => Step::Done,
                    false => Step::Stuck,
                };
            }
            if !walk.is_done() {
                db.walk_segment();
                return Step::Done;
            }
            if let Some(walk) = &mut self.walk {
                walk.numbers.pop_front();
            }
        }
    }

    /// Writes a piece of the open key; `false` if there is none.
    fn walk_open(&mut self) -> bool {
        let Some(number) = self.walk.as_mut().and_then(|walk| walk.open.take()) else {
            return false;
        };
        let db = self.walked_db(number);
        // A change of the key may have completed it.
        let was_open = db.walked().is_some_and(DbWalk::is_open);
        db.walk_piece();
        self.note_open(number);
        was_open
    }

    /// Begins the key that was asked for first, if one still waits and can begin.
    fn open_first(&mut self) -> bool {
        while let Some((number, key)) = self.walk.as_mut().and_then(|w| w.first.pop_front()) {
            if self.open_pending(number, Some(Key::new(&key))) {
                return true;
            }
            if !self.walked_db(number).can_open()
                && let Some(walk) = &mut self.walk
            {
                walk.first.push_front((number, key));
                return false;
            }
        }
        false
    }

    /// Begins a pending key, `which` or any, with its first piece; `false` if it is not pending
    /// or cannot begin yet.
    fn open_pending(&mut self, number: DbIndex, which: Option<Key<'_>>) -> bool {
        let db = self.walked_db(number);
        if !db.can_open() || !db.open_pending(which) {
            return false;
        }
        db.walk_piece();
        self.note_open(number);
        true
    }

    fn note_open(&mut self, number: DbIndex) {
        let is_open = (self.walked_db(number).walked()).is_some_and(DbWalk::is_open);
        if let Some(walk) = &mut self.walk {
            walk.open = is_open.then_some(number);
        }
    }

    /// The database that had this number at the cut.
    ///
    /// # Panics
    /// When it is gone: then the image could not become complete.
    fn walked_db(&mut self, number: DbIndex) -> &mut Db {
        let flushed = self.walk.as_mut().map(|walk| &mut walk.flushed);
        (self.dbs.iter_mut())
            .chain(flushed.into_iter().flatten())
            .find(|db| db.walked().is_some_and(|walk| walk.number() == number))
            .expect("a database stays until its walk ends")
    }

    fn walks(&self) -> impl Iterator<Item = &DbWalk> {
        let flushed = self.walk.as_ref().map(|walk| &walk.flushed);
        (self.dbs.iter())
            .chain(flushed.into_iter().flatten())
            .filter_map(Db::walked)
    }

    fn walks_mut(&mut self) -> impl Iterator<Item = &mut DbWalk> {
        let flushed = self.walk.as_mut().map(|walk| &mut walk.flushed);
        (self.dbs.iter_mut())
            .chain(flushed.into_iter().flatten())
            .filter_map(|db| db.walk_slot().as_deref_mut())
    }
}

#[cfg(test)]
mod tests;
