//! The side of a rewrite that belongs to one database: how far the walk came, which keys ahead of
//! it are settled already, and the bytes that were encoded.
//!
//! The image is the database as it was at the cut. The walk goes over the table by position, one
//! table segment at a time. Whoever is about to change a key ahead of it first writes the key as
//! it is (its *pre-image*) and marks it; a key that is created ahead of the walk is marked too, as
//! no part of the image. The walk skips marked keys. Splits and merges change no position, so a
//! key never gets from one side of the walk to the other.
//!
//! A huge value is not encoded inside a segment. Its key becomes *pending*, and is then written in
//! pieces; while one is, it is *open*. A change of a pending or open key writes what is missing.

use super::{Db, deadline};
use crate::image::{Outbox, ValueWriter, encode_entry_with, encode_head};
use crate::key::Key;
use crate::packed_key::PackedKey;
use crate::position::position;
use crate::shard::DbIndex;
use crate::table::Keyed;
use moon_rdb::encode::Compressor;
use std::collections::BTreeSet;

/// Values whose memory is requested before the walk comes to them.
const PREFETCHED: usize = 16;

/// Sizes that shape the walk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WalkLimits {
    /// A value with more memory is huge.
    pub(crate) huge_bytes: usize,
    /// Bytes of one piece of a huge value, and what one segment may compress at once.
    pub(crate) piece_bytes: usize,
    /// The walk rests while this many bytes wait to be taken; what one segment may encode at once
    /// without compression.
    pub(crate) chunk_bytes: usize,
}

/// Whether the strings of an image are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// They are written as they are.
    Off,
    /// Those above 20 bytes that become shorter are, as with `rdbcompression yes` in Redis. Not
    /// strings too long to be compressed at once, and not huge values that must be encoded whole
    /// because they are about to change.
    Lzf,
}

/// The walk through one database.
///
/// # Invariants
/// * Each key of the cut is exactly one of: done; pending or open; in the table, not before
///   `position` and not marked.
/// * A marked key is in the table and not before `position`. So there are never more marks than
///   keys, and none are left behind the walk.
/// * `pending` and `open` name keys of the table, whose values are as they were at the cut.
pub(crate) struct DbWalk {
    /// The number that the database had at the cut.
    number: DbIndex,
    limits: WalkLimits,
    /// Keys before it are passed; `None` when all are.
    position: Option<u64>,
    marks: BTreeSet<Mark>,
    /// Keys that are written one by one, the next one last. No more than one table segment holds,
    /// and those that somebody asked for, so looking through them is quick.
    pending: Vec<Pending>,
    open: Option<Open>,
    /// With [`Compression::Lzf`].
    compressor: Option<Compressor>,
    pub(crate) outbox: Outbox,
    /// Keys of the cut that are encoded.
    done: u64,
    /// Whether the database was emptied and exists only for the walk: then nobody changes it, and
    /// what was written is freed.
    is_flushed: bool,
    /// Keys of a flushed database before this position are freed, but for the pending ones; `None`
    /// when all are.
    freed: Option<u64>,
}

/// A key ahead of the walk that the walk must skip, ordered by position.
struct Mark {
    position: u64,
    key: PackedKey,
}

impl Mark {
    fn new(at: u64, key: &[u8]) -> Mark {
        Mark {
            position: at,
            key: PackedKey::new(key, crate::AccessClock::default()),
        }
    }

    fn order(&self) -> (u64, &[u8]) {
        (self.position, self.key.as_bytes())
    }
}

impl PartialEq for Mark {
    fn eq(&self, other: &Mark) -> bool {
        self.order() == other.order()
    }
}

impl Eq for Mark {}

impl PartialOrd for Mark {
    fn partial_cmp(&self, other: &Mark) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Mark {
    fn cmp(&self, other: &Mark) -> std::cmp::Ordering {
        self.order().cmp(&other.order())
    }
}

struct Pending {
    hash: u64,
    key: Box<[u8]>,
}

/// The key whose value is being written in pieces.
struct Open {
    key: Box<[u8]>,
    writer: ValueWriter,
}

impl DbWalk {
    pub(crate) fn number(&self) -> DbIndex {
        self.number
    }

    pub(crate) fn done(&self) -> u64 {
        self.done
    }

    /// Whether every key of the cut is encoded.
    pub(crate) fn is_done(&self) -> bool {
        self.position.is_none() && self.pending.is_empty() && self.open.is_none()
    }

    pub(crate) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    pub(crate) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    #[cfg(test)]
    pub(crate) fn marks_len(&self) -> usize {
        self.marks.len()
    }

    /// Whether a flushed database still has keys that the walk passed before the flush.
    pub(crate) fn must_free(&self) -> bool {
        self.is_flushed && self.freed.is_some_and(|freed| self.has_passed(freed))
    }

    fn has_passed(&self, at: u64) -> bool {
        self.position.is_none_or(|position| at < position)
    }

    fn is_open_at(&self, key: Key<'_>) -> bool {
        (self.open.as_ref()).is_some_and(|open| *open.key == *key.bytes)
    }

    fn pending_at(&self, key: Key<'_>) -> Option<usize> {
        (self.pending.iter()).position(|p| p.hash == key.hash && *p.key == *key.bytes)
    }

    fn push_pending(&mut self, key: Key<'_>) {
        let (hash, key) = (key.hash, key.bytes.into());
        self.pending.push(Pending { hash, key });
    }

    fn is_marked(&self, at: u64, key: &[u8]) -> bool {
        // No key orders before the empty one.
        (self.marks.range(Mark::new(at, b"")..))
            .take_while(|mark| mark.position == at)
            .any(|mark| mark.key.as_bytes() == key)
    }

    /// Whether there are marks before `end`; `None` is the end of all.
    fn has_marks_before(&self, end: Option<u64>) -> bool {
        (self.marks.first()).is_some_and(|mark| end.is_none_or(|end| mark.position < end))
    }

    fn drop_marks_before(&mut self, end: Option<u64>) {
        while self.has_marks_before(end) {
            self.marks.pop_first();
        }
    }
}

impl Db {
    /// The state as it is now is what [`Db::walk_segment`] and the pieces write from here on.
    /// An empty database needs no walk and gets none.
    pub(crate) fn begin_walk(
        &mut self,
        number: DbIndex,
        limits: WalkLimits,
        compression: Compression,
    ) {
        self.walk = (!self.is_empty()).then(|| {
            Box::new(DbWalk {
                number,
                limits,
                position: Some(0),
                marks: BTreeSet::new(),
                pending: Vec::new(),
                open: None,
                compressor: (compression == Compression::Lzf).then(Compressor::default),
                outbox: Outbox::default(),
                done: 0,
                is_flushed: false,
                freed: Some(0),
            })
        });
    }

    /// The database was emptied, and this is what it held: nobody changes it any more, and what
    /// the walk has passed is freed.
    pub(crate) fn walk_as_flushed(&mut self) {
        if let Some(walk) = &mut self.walk {
            walk.is_flushed = true;
        }
    }

    /// The part of [`Db::before_change`] for a database that is being walked.
    #[cold]
    #[inline(never)]
    pub(super) fn write_pre_image(&mut self, key: Key<'_>) {
        let Some(walk) = self.walk.as_deref_mut() else {
            return;
        };
        let at = position(key.hash);
        if walk.is_open_at(key) {
            self.write_open(usize::MAX, Compression::Off);
            return;
        }
        let is_due = match walk.pending_at(key) {
            Some(index) => {
                walk.pending.swap_remove(index);
                true
            }
            None => {
                !walk.has_passed(at)
                    && self.table.find(key).is_some()
                    && walk.marks.insert(Mark::new(at, key.bytes))
            }
        };
        if is_due && let Some(entry) = self.table.find(key) {
            let deadline = deadline(&self.expires, entry, key);
            // Somebody waits for it.
            let is_huge = entry.value.plain_memory() > walk.limits.huge_bytes;
            let compressor = walk.compressor.as_mut().filter(|_| !is_huge);
            let out = walk.outbox.whole();
            encode_entry_with(out, key.bytes, &entry.value, deadline, compressor);
            walk.done += 1;
        }
    }

    /// A key was created: the walk must not take it for one of the cut.
    #[inline]
    pub(super) fn after_create(walk: &mut Option<Box<DbWalk>>, key: Key<'_>) {
        if let Some(walk) = walk {
            let at = position(key.hash);
            if !walk.has_passed(at) {
                walk.marks.insert(Mark::new(at, key.bytes));
            }
        }
    }

    /// A key was removed: the walk cannot meet it any more.
    #[inline]
    pub(super) fn after_remove(walk: &mut Option<Box<DbWalk>>, key: Key<'_>) {
        if let Some(walk) = walk
            && !walk.marks.is_empty()
        {
            walk.marks.remove(&Mark::new(position(key.hash), key.bytes));
        }
    }

    /// Encodes what the table segment at the walk's position holds and passes it. Huge values,
    /// and everything once a piece's worth of bytes was encoded, become pending.
    pub(crate) fn walk_segment(&mut self) {
        let Some(walk) = self.walk.as_deref_mut() else {
            return;
        };
        let Some(from) = walk.position else {
            return;
        };
        let (start, entries, next) = self.table.segment_from(from);
        // After a merge the segment begins before the position.
        let is_part = start < from;
        let has_marks = walk.has_marks_before(next);
        let mut ahead = entries.clone();
        ahead
            .by_ref()
            .take(PREFETCHED)
            .for_each(|e| e.value.prefetch());
        // Time goes with what is read if that is compressed, and with what is written if not.
        let is_compressed = walk.compressor.is_some();
        let encoded_max = match is_compressed {
            true => walk.limits.piece_bytes,
            false => walk.limits.chunk_bytes,
        };
        let mut encoded = 0;
        for entry in entries {
            if let Some(later) = ahead.next() {
                later.value.prefetch();
            }
            let name = entry.key();
            if is_part || has_marks {
                let at = position(entry.hash());
                if at < from || (has_marks && walk.is_marked(at, name)) {
                    continue;
                }
            }
            let memory = entry.value.plain_memory();
            if memory > walk.limits.huge_bytes || encoded > encoded_max {
                walk.push_pending(Key::new(name));
                continue;
            }
            let deadline = if entry.key.has_deadline() {
                deadline(&self.expires, entry, Key::new(name))
            } else {
                None
            };
            let out = walk.outbox.whole();
            let before = out.len();
            let compressor = walk.compressor.as_mut();
            encode_entry_with(out, name, &entry.value, deadline, compressor);
            encoded += match is_compressed {
                true => memory,
                false => out.len() - before,
            };
            walk.done += 1;
        }
        drop(ahead);
        walk.drop_marks_before(next);
        walk.position = next;
        if walk.is_flushed {
            self.free_segment(from);
        }
    }

    /// Frees a segment of a flushed database that the walk passed before the flush.
    pub(crate) fn free_passed(&mut self) {
        if let Some(at) = self.walk.as_ref().and_then(|walk| walk.freed) {
            self.free_segment(at);
        }
    }

    /// Drops what the walk is done with in the segment at this position.
    fn free_segment(&mut self, at: u64) {
        let Some(walk) = self.walk.as_deref_mut() else {
            return;
        };
        let (_, _, next) = self.table.segment_from(at);
        let (heap, expires, due_hashes) = (&mut self.heap, &mut self.expires, &mut self.due_hashes);
        self.table.retain_in_segment(at, |entry| {
            let key = Key::new(entry.key());
            let is_needed = !walk.has_passed(position(key.hash))
                || walk.pending_at(key).is_some()
                || walk.is_open_at(key);
            if is_needed {
                return true;
            }
            *heap -= entry.memory();
            if let Some(at) = entry.value.next_field_deadline() {
                due_hashes.remove(at, key.bytes);
            }
            if entry.key.has_deadline()
                && let Some(expire) = expires.remove(key)
            {
                *heap -= expire.key.memory();
            }
            false
        });
        walk.freed = next;
    }

    /// Whether a pending key can begin now.
    pub(crate) fn can_open(&self) -> bool {
        (self.walk.as_ref()).is_some_and(|walk| walk.outbox.can_begin())
    }

    /// Begins to write a pending key, `which` or any; whether it is open now.
    pub(crate) fn open_pending(&mut self, which: Option<Key<'_>>) -> bool {
        let Some(walk) = self.walk.as_deref_mut() else {
            return false;
        };
        let index = match which {
            Some(key) => walk.pending_at(key),
            None => walk.pending.len().checked_sub(1),
        };
        let Some(index) = index else {
            return false;
        };
        let key = walk.pending.swap_remove(index).key;
        walk.outbox.begin();
        let name = Key::new(&key);
        let entry = self
            .table
            .find(name)
            .expect("pending keys are in the table");
        let deadline = deadline(&self.expires, entry, name);
        encode_head(walk.outbox.piece(), &key, &entry.value, deadline);
        let writer = ValueWriter::default();
        walk.open = Some(Open { key, writer });
        true
    }

    /// Writes the next piece of the open key, if there is one.
    pub(crate) fn walk_piece(&mut self) {
        if let Some(walk) = &mut self.walk
            && walk.is_open()
        {
            let len_max = walk.outbox.piece().len() + walk.limits.piece_bytes;
            self.write_open(len_max, Compression::Lzf);
        }
    }

    /// Writes the open key until about `len_max` bytes of pieces wait, at most with this
    /// compression.
    fn write_open(&mut self, len_max: usize, compression: Compression) {
        let Some(walk) = self.walk.as_deref_mut() else {
            return;
        };
        let Some(mut open) = walk.open.take() else {
            return;
        };
        let key = Key::new(&open.key);
        let entry = self.table.find(key).expect("the open key is in the table");
        let may_compress = compression == Compression::Lzf;
        let compressor = walk.compressor.as_mut().filter(|_| may_compress);
        let out = walk.outbox.piece();
        if !open.writer.write(&entry.value, out, len_max, compressor) {
            walk.open = Some(open);
            return;
        }
        walk.outbox.end();
        walk.done += 1;
        if walk.is_flushed {
            self.take_and_drop(key);
        }
    }

    /// Whether a change of the key now has to encode a huge value first.
    pub(crate) fn is_held(&self, key: Key<'_>) -> bool {
        let Some(walk) = self.walk.as_deref() else {
            return false;
        };
        if walk.is_done() {
            return false;
        }
        if walk.is_open_at(key) {
            return true;
        }
        let at = position(key.hash);
        let waits = walk.pending_at(key).is_some()
            || !(walk.has_passed(at) || walk.is_marked(at, key.bytes));
        waits
            && (self.table.find(key))
                .is_some_and(|entry| entry.value.plain_memory() > walk.limits.huge_bytes)
    }

    /// Makes a held key pending, if it is not yet; whether it is now.
    pub(crate) fn make_pending(&mut self, key: Key<'_>) -> bool {
        if !self.is_held(key) {
            return false;
        }
        let Some(walk) = self.walk.as_deref_mut() else {
            return false;
        };
        if walk.is_open_at(key) {
            return false;
        }
        if walk.pending_at(key).is_none() {
            walk.push_pending(key);
            walk.marks.insert(Mark::new(position(key.hash), key.bytes));
        }
        true
    }

    /// # Panics
    /// When an invariant of the walk does not hold.
    pub(super) fn check_walk(&self) {
        let Some(walk) = &self.walk else {
            return;
        };
        for mark in &walk.marks {
            let key = Key::new(mark.key.as_bytes());
            assert!(self.contains(key), "a mark without its key");
            assert_eq!(mark.position, position(key.hash), "a mark elsewhere");
            assert!(!walk.has_passed(mark.position), "a mark behind the walk");
        }
        for pending in &walk.pending {
            let key = Key::new(&pending.key);
            assert!(self.contains(key), "pending without its key");
            let is_safe = walk.has_passed(position(key.hash))
                || walk.is_marked(position(key.hash), key.bytes);
            assert!(is_safe, "the walk would write a pending key twice");
        }
        if let Some(open) = &walk.open {
            assert!(self.contains(Key::new(&open.key)), "open without its key");
        }
    }
}
