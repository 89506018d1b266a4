//! The table under a database: a directory over small hash tables, its *segments*.
//!
//! The directory has 2^depth entries and is indexed by the top bits of a key's [position]; each
//! entry names a segment. A segment of depth `d` owns all positions that share its first `d`
//! bits, so `2^(depth - d)` directory entries in a row name it (extendible hashing). A full
//! segment splits into two halves of its range; two small neighbours that once were one merge
//! again. So no operation ever touches more than one or two segments and, rarely, the directory,
//! which is a few bytes per thousand keys.
//!
//! Splits and merges never change a position: whoever walks the table by position (SCAN, the
//! expiry cycle, the rewrite) meets every key that stays, however the table changes meanwhile.
//!
//! [position]: crate::position

use crate::key::Key;
use crate::memory::allocated;
use crate::position::{position, share_below};
use crate::prefetch::prefetch;
use hashbrown::HashTable;
use hashbrown::hash_table;

/// A segment with this many entries splits before it takes another. It is what 1024 buckets of
/// hashbrown hold.
const SEGMENT_LEN_MAX: usize = 896;

/// Two neighbours with this many entries together merge. Far below half of the above, so that a
/// key that comes and goes does not split and merge each time.
const MERGE_LEN_MAX: usize = 256;

/// A segment's depth is at most this much above the even depth. Only keys with equal hash
/// prefixes would go deeper; their segment grows beyond [`SEGMENT_LEN_MAX`] instead of the
/// directory.
const UNEVEN_DEPTH_MAX: u32 = 6;

/// Absolute bound of the depth: a position has that many bits in a cursor.
const DEPTH_MAX: u32 = CURSOR_BITS;

/// Bits of a scan cursor. The rest of the 64 is left to the caller, for a shard number.
pub(crate) const CURSOR_BITS: u32 = 58;
const CURSOR_SHIFT: u32 = 64 - CURSOR_BITS;
const CURSOR_END: u64 = 1 << CURSOR_BITS;

/// Segments that a sample passes over in search of entries.
const SAMPLED_SEGMENTS_MAX: usize = 64;

/// Keys whose memory is requested before the first of them is needed.
const WARM_BATCH: usize = 64;

/// Something stored under a key.
pub(crate) trait Keyed {
    /// The key. It never changes while the entry is in a table.
    fn key(&self) -> &[u8];

    /// The hash of the key.
    fn hash(&self) -> u64 {
        Key::new(self.key()).hash
    }
}

/// Entries by key.
///
/// # Invariants
/// * `directory.len() == 1 << depth`.
/// * The segments' ranges do not overlap and cover all positions, and the directory names for
///   each position the segment whose range it is in.
/// * `at_depth[d]` counts segments of depth `d`; `at_depth[depth] > 0`.
/// * `len` and `allocated` are the sums over the segments.
pub(crate) struct Table<T> {
    directory: Vec<u32>,
    depth: u32,
    segments: Vec<Segment<T>>,
    at_depth: [u32; DEPTH_MAX as usize + 1],
    len: usize,
    /// Bytes allocated by the segments' hash tables.
    allocated: usize,
    /// Segments are neither merged above this depth nor shrunk at it: the caller expects keys.
    depth_min: u32,
}

struct Segment<T> {
    slots: HashTable<T>,
    /// First position of the range.
    start: u64,
    depth: u32,
}

impl<T> Segment<T> {
    /// Size of the range minus one.
    fn span(&self) -> u64 {
        u64::MAX.checked_shr(self.depth).unwrap_or(0)
    }
}

/// The place of a key.
pub(crate) enum Slot<'a, T> {
    /// The key is here.
    Found(&'a mut T),
    /// It is missing.
    Vacant(Vacant<'a, T>),
}

/// Where a missing key would go.
pub(crate) struct Vacant<'a, T> {
    slot: hash_table::VacantEntry<'a, T>,
    len: &'a mut usize,
}

impl<'a, T> Vacant<'a, T> {
    /// Stores the entry, which has the key that was looked for.
    #[inline]
    pub(crate) fn insert(self, entry: T) -> &'a mut T {
        *self.len += 1;
        self.slot.insert(entry).into_mut()
    }
}

/// The hash as hashbrown wants it: its 7-bit tag is taken from the top, the bucket from the
/// bottom. Inside a segment the top bits of all hashes are equal, so they go elsewhere.
#[inline]
fn slot_hash(hash: u64) -> u64 {
    hash.rotate_right(16)
}

fn hash_of<T: Keyed>(entry: &T) -> u64 {
    slot_hash(entry.hash())
}

/// What the allocator sets aside for a hash table.
fn taken<T>(slots: &HashTable<T>) -> usize {
    allocated(slots.allocation_size())
}

impl<T: Keyed> Default for Table<T> {
    fn default() -> Self {
        Self::with_hint(0)
    }
}

impl<T: Keyed> Table<T> {
    /// An empty table with memory for about `keys` entries, which it keeps when they leave.
    pub(crate) fn with_hint(keys: usize) -> Self {
        // Beyond this no machine has the memory, and depths would not fit.
        let keys = keys.min(1 << 40);
        // Twice the mean density is more than the densest segment has.
        let segments = (keys * 2 / SEGMENT_LEN_MAX).next_power_of_two();
        let depth = segments.ilog2();
        let mut at_depth = [0; DEPTH_MAX as usize + 1];
        at_depth[depth as usize] = segments as u32;
        let span = u64::MAX.checked_shr(depth).unwrap_or(0);
        let segments: Vec<Segment<T>> = (0..segments as u64)
            .map(|i| {
                let start = if depth == 0 { 0 } else { i << (64 - depth) };
                let share = share_below(start + span) - share_below(start);
                // Some room for chance, or half of the segments would grow once more.
                let capacity = (keys as f64 * share * 1.1) as usize;
                Segment {
                    slots: HashTable::with_capacity(capacity.min(SEGMENT_LEN_MAX)),
                    start,
                    depth,
                }
            })
            .collect();
        Table {
            directory: (0..segments.len() as u32).collect(),
            depth,
            at_depth,
            len: 0,
            allocated: segments.iter().map(|s| taken(&s.slots)).sum(),
            depth_min: depth,
            segments,
        }
    }

    /// An empty table with memory for about `keys` entries, which is given back as they leave.
    pub(crate) fn with_room(keys: usize) -> Self {
        Table {
            depth_min: 0,
            ..Self::with_hint(keys)
        }
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes allocated by the table itself, without what the entries own.
    pub(crate) fn allocated(&self) -> usize {
        self.allocated
            + allocated(self.directory.capacity() * size_of::<u32>())
            + allocated(self.segments.capacity() * size_of::<Segment<T>>())
    }

    /// Bytes of the table per entry. In a small one they would tell of the size of the table, so
    /// there they are what a large one comes to.
    pub(crate) fn share(&self) -> usize {
        if self.len >= SEGMENT_LEN_MAX {
            self.allocated() / self.len
        } else {
            size_of::<T>() * 3 / 2
        }
    }

    /// The segment that owns a position.
    #[inline]
    fn segment_at(&self, position: u64) -> usize {
        // Two shifts, because a shift by 64 (depth 0) is not defined.
        let index = (position >> 1) >> (63 - self.depth);
        self.directory[index as usize] as usize
    }

    #[inline]
    fn slots(&self, hash: u64) -> &HashTable<T> {
        &self.segments[self.segment_at(position(hash))].slots
    }

    /// The entry of a key.
    #[inline]
    pub(crate) fn find(&self, key: Key<'_>) -> Option<&T> {
        self.slots(key.hash)
            .find(slot_hash(key.hash), |e| e.key() == key.bytes)
    }

    /// The entry of a key, to change anything but the key.
    #[inline]
    pub(crate) fn find_mut(&mut self, key: Key<'_>) -> Option<&mut T> {
        self.find_mut_where(key.hash, |e| e.key() == key.bytes)
    }

    /// An entry whose key has this hash and for which `is_it` holds.
    #[inline]
    pub(crate) fn find_mut_where(
        &mut self,
        hash: u64,
        is_it: impl FnMut(&T) -> bool,
    ) -> Option<&mut T> {
        let segment = self.segment_at(position(hash));
        self.segments[segment]
            .slots
            .find_mut(slot_hash(hash), is_it)
    }

    /// An entry whose key has this hash and for which `is_it` holds.
    pub(crate) fn find_where(&self, hash: u64, is_it: impl FnMut(&T) -> bool) -> Option<&T> {
        self.slots(hash).find(slot_hash(hash), is_it)
    }

    /// The place of a key, present or not, with one probe.
    #[inline]
    pub(crate) fn entry(&mut self, key: Key<'_>) -> Slot<'_, T> {
        let segment = self.make_room(position(key.hash));
        let slots = &mut self.segments[segment].slots;
        match slots.entry(slot_hash(key.hash), |e| e.key() == key.bytes, hash_of) {
            hash_table::Entry::Occupied(slot) => Slot::Found(slot.into_mut()),
            hash_table::Entry::Vacant(slot) => Slot::Vacant(Vacant {
                slot,
                len: &mut self.len,
            }),
        }
    }

    /// Removes the entry of a key.
    #[inline]
    pub(crate) fn remove(&mut self, key: Key<'_>) -> Option<T> {
        let segment = self.segment_at(position(key.hash));
        let slots = &mut self.segments[segment].slots;
        let slot = slots
            .find_entry(slot_hash(key.hash), |e| e.key() == key.bytes)
            .ok()?;
        let (entry, _) = slot.remove();
        self.len -= 1;
        self.give_back_memory(segment);
        Some(entry)
    }

    /// The segment of a position, after splits and growth, so that one entry more fits.
    #[inline]
    fn make_room(&mut self, position: u64) -> usize {
        let segment = self.segment_at(position);
        let slots = &self.segments[segment].slots;
        if slots.len() < slots.capacity() && slots.len() < SEGMENT_LEN_MAX {
            return segment;
        }
        self.grow(position)
    }

    #[cold]
    fn grow(&mut self, position: u64) -> usize {
        let segment = loop {
            let segment = self.segment_at(position);
            let Segment { slots, depth, .. } = &self.segments[segment];
            let even = self.segments.len().ilog2();
            let deepest = DEPTH_MAX.min(even + UNEVEN_DEPTH_MAX);
            if slots.len() < SEGMENT_LEN_MAX || *depth >= deepest {
                break segment;
            }
            self.split(segment);
        };
        let slots = &mut self.segments[segment].slots;
        self.allocated -= taken(slots);
        slots.reserve(1, hash_of);
        self.allocated += taken(slots);
        segment
    }

    fn split(&mut self, low: usize) {
        if self.segments[low].depth == self.depth {
            self.directory = self.directory.iter().flat_map(|s| [*s, *s]).collect();
            self.depth += 1;
        }
        let segment = &mut self.segments[low];
        self.at_depth[segment.depth as usize] -= 1;
        segment.depth += 1;
        let depth = segment.depth;
        self.at_depth[depth as usize] += 2;
        let start = segment.start + segment.span() + 1;

        let mut old = std::mem::take(&mut segment.slots);
        self.allocated -= taken(&old);
        let hashes: Vec<u64> = old.iter().map(Keyed::hash).collect();
        let high_len = hashes.iter().filter(|h| position(**h) >= start).count();
        let mut low_slots = HashTable::with_capacity(old.len() - high_len);
        let mut high_slots = HashTable::with_capacity(high_len);
        for (entry, hash) in old.drain().zip(hashes) {
            let half = if position(hash) >= start {
                &mut high_slots
            } else {
                &mut low_slots
            };
            half.insert_unique(slot_hash(hash), entry, hash_of);
        }
        self.allocated += taken(&low_slots) + taken(&high_slots);
        segment.slots = low_slots;
        let high = self.segments.len();
        self.segments.push(Segment {
            slots: high_slots,
            start,
            depth,
        });
        self.point_directory_at(high);
    }

    /// Makes the directory name `segment` for its whole range.
    fn point_directory_at(&mut self, segment: usize) {
        let Segment { start, depth, .. } = self.segments[segment];
        let first = ((start >> 1) >> (63 - self.depth)) as usize;
        let count = 1usize << (self.depth - depth);
        let number = u32::try_from(segment).expect("2^32 segments are more than memory");
        self.directory[first..first + count].fill(number);
    }

    /// After a removal: merges or shrinks a segment that is mostly empty.
    #[inline]
    fn give_back_memory(&mut self, segment: usize) {
        let Segment { slots, depth, .. } = &self.segments[segment];
        if slots.len() >= MERGE_LEN_MAX || *depth < self.depth_min {
            return;
        }
        self.merge_or_shrink(segment);
    }

    fn merge_or_shrink(&mut self, segment: usize) {
        let Segment { start, depth, .. } = self.segments[segment];
        if depth > self.depth_min {
            let buddy = self.segment_at(start ^ (1 << (64 - depth)));
            let len = self.segments[segment].slots.len() + self.segments[buddy].slots.len();
            if self.segments[buddy].depth == depth && len <= MERGE_LEN_MAX {
                self.merge(segment, buddy);
                return;
            }
        } else if self.depth_min > 0 {
            return;
        }
        let slots = &mut self.segments[segment].slots;
        if slots.capacity() >= 28 && slots.len() * 8 < slots.capacity() {
            self.allocated -= taken(slots);
            slots.shrink_to(slots.len() * 2, hash_of);
            self.allocated += taken(slots);
        }
    }

    /// Joins two segments that came from one split.
    fn merge(&mut self, a: usize, b: usize) {
        let depth = self.segments[a].depth;
        let (low, high) = if self.segments[a].start < self.segments[b].start {
            (a, b)
        } else {
            (b, a)
        };
        let mut from = std::mem::take(&mut self.segments[high].slots);
        let into = &mut self.segments[low].slots;
        self.allocated -= taken(&from) + taken(into);
        into.shrink_to(into.len() + from.len(), hash_of);
        into.reserve(from.len(), hash_of);
        for entry in from.drain() {
            into.insert_unique(hash_of(&entry), entry, hash_of);
        }
        self.allocated += taken(into);
        self.segments[low].depth = depth - 1;
        self.at_depth[depth as usize] -= 2;
        self.at_depth[depth as usize - 1] += 1;
        self.point_directory_at(low);

        self.segments.swap_remove(high);
        if high < self.segments.len() {
            self.point_directory_at(high);
        }
        if self.segments.len() < self.segments.capacity() / 4 {
            self.segments.shrink_to(self.segments.len() * 2);
        }
        while self.at_depth[self.depth as usize] == 0 {
            self.directory = self.directory.iter().copied().step_by(2).collect();
            self.depth -= 1;
        }
    }

    /// The segment that owns `position`: its first position; its entries, in no order; the first
    /// position behind it, `None` at the end of the table.
    pub(crate) fn segment_from(
        &self,
        position: u64,
    ) -> (u64, hash_table::Iter<'_, T>, Option<u64>) {
        let segment = &self.segments[self.segment_at(position)];
        let next = (segment.start + segment.span()).checked_add(1);
        (segment.start, segment.slots.iter(), next)
    }

    /// Drops the entries of the segment that owns `position` for which `keep` does not hold. The
    /// segment gives its memory back and stays.
    pub(crate) fn retain_in_segment(&mut self, position: u64, mut keep: impl FnMut(&T) -> bool) {
        let segment = self.segment_at(position);
        let slots = &mut self.segments[segment].slots;
        self.len -= slots.len();
        self.allocated -= taken(slots);
        slots.retain(|entry| keep(entry));
        slots.shrink_to_fit(hash_of);
        self.len += slots.len();
        self.allocated += taken(slots);
    }

    /// All entries, segment by segment in the order of positions.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        let mut next = Some(0);
        std::iter::from_fn(move || {
            let (_, entries, after) = self.segment_from(next?);
            next = after;
            Some(entries)
        })
        .flatten()
    }

    /// Visits entries from a cursor on and returns the cursor to go on with; 0 begins, and 0
    /// says that the end was reached. An entry that is in the table throughout is visited at
    /// least once between the two.
    ///
    /// About `count` entries are visited per call. It is fewer where many segments are empty,
    /// and more only where keys share a hash.
    pub(crate) fn scan(&self, cursor: u64, count: usize, mut visit: impl FnMut(&T)) -> u64 {
        let count = count.max(1);
        let mut wanted = count;
        let mut segments_left = 16 + count / 16;
        let mut from = cursor;
        while from < CURSOR_END {
            let segment = &self.segments[self.segment_at(from << CURSOR_SHIFT)];
            let is_whole = from == segment.start >> CURSOR_SHIFT;
            if is_whole && segment.slots.len() <= wanted {
                segment.slots.iter().for_each(&mut visit);
                wanted -= segment.slots.len();
            } else {
                let mut part: Vec<(u64, &T)> = (segment.slots.iter())
                    .map(|e| (position(e.hash()) >> CURSOR_SHIFT, e))
                    .filter(|(at, _)| *at >= from)
                    .collect();
                if part.len() > wanted {
                    let (_, (last, _), _) = part.select_nth_unstable_by_key(wanted - 1, |e| e.0);
                    let last = *last;
                    part.iter().filter(|e| e.0 <= last).for_each(|e| visit(e.1));
                    return if last + 1 < CURSOR_END { last + 1 } else { 0 };
                }
                part.iter().for_each(|e| visit(e.1));
                wanted -= part.len();
            }
            from = ((segment.start + segment.span()) >> CURSOR_SHIFT) + 1;
            segments_left -= 1;
            if wanted == 0 || segments_left == 0 {
                break;
            }
        }
        if from < CURSOR_END { from } else { 0 }
    }

    /// A roughly uniform choice among the entries, made by the random number `r`.
    pub(crate) fn random(&self, r: u64) -> Option<&T> {
        if self.is_empty() {
            return None;
        }
        let mut at = position(r);
        loop {
            let segment = &self.segments[self.segment_at(at)];
            if !segment.slots.is_empty() {
                // The low bits of `r` had no part in the choice of the segment.
                let nth = (r & 0xffff_ffff) as usize % segment.slots.len();
                return segment.slots.iter().nth(nth);
            }
            at = (segment.start + segment.span()).wrapping_add(1);
        }
    }

    /// Visits about `count` neighbours from a place drawn by the random number `r` on. In a table
    /// they stand in the order of their hashes, so they have nothing else in common.
    pub(crate) fn sample(&self, r: u64, count: usize, mut visit: impl FnMut(&T)) {
        let mut left = count.min(self.len);
        let mut at = position(r);
        let mut first = (r & 0xffff_ffff) as usize;
        for _ in 0..SAMPLED_SEGMENTS_MAX {
            let segment = &self.segments[self.segment_at(at)];
            // A power of two.
            let buckets = segment.slots.num_buckets();
            for step in 0..buckets {
                if left == 0 {
                    return;
                }
                if let Some(entry) = segment.slots.get_bucket((first + step) & (buckets - 1)) {
                    visit(entry);
                    left -= 1;
                }
            }
            first = 0;
            at = (segment.start + segment.span()).wrapping_add(1);
        }
    }

    /// Loads what look-ups of `keys` will touch, with the cache misses of all keys at once, and
    /// calls `found` with entries that are likely those keys', and with the keys' numbers.
    pub(crate) fn warm(&self, keys: &[Key<'_>], mut found: impl FnMut(usize, &T)) {
        for (number, batch) in keys.chunks(WARM_BATCH).enumerate() {
            let mut entries = [None; WARM_BATCH];
            // The tags of a group are compared, but no entry is read, so nothing here waits for
            // more than one load, and the processor runs ahead into the next keys.
            for (key, entry) in batch.iter().zip(&mut entries) {
                *entry = self.slots(key.hash).find(slot_hash(key.hash), |e| {
                    prefetch(e);
                    true
                });
            }
            for (index, entry) in entries[..batch.len()].iter().enumerate() {
                if let Some(entry) = entry {
                    found(number * WARM_BATCH + index, entry);
                }
            }
        }
    }

    /// # Panics
    /// When an invariant of the table does not hold.
    pub(crate) fn self_check(&self) {
        assert_eq!(self.directory.len(), 1 << self.depth, "directory size");
        let mut at_depth = [0; DEPTH_MAX as usize + 1];
        let (mut len, mut allocated, mut named) = (0, 0, 0);
        for (number, segment) in self.segments.iter().enumerate() {
            at_depth[segment.depth as usize] += 1;
            len += segment.slots.len();
            allocated += taken(&segment.slots);
            assert_eq!(segment.start & segment.span(), 0, "ranges are aligned");
            let first = (segment.start >> 1) >> (63 - self.depth);
            let count = 1u64 << (self.depth - segment.depth);
            for index in first..first + count {
                assert_eq!(self.directory[index as usize] as usize, number, "directory");
            }
            named += count;
            for entry in &segment.slots {
                let at = position(entry.hash());
                assert!(at >= segment.start && at - segment.start <= segment.span());
            }
        }
        assert_eq!(
            named,
            1 << self.depth,
            "every directory entry has one segment"
        );
        assert_eq!(self.at_depth, at_depth, "segments per depth");
        assert!(
            at_depth[self.depth as usize] > 0,
            "the directory is no deeper than needed"
        );
        assert_eq!(self.len, len, "length");
        assert_eq!(self.allocated, allocated, "memory");
    }
}

#[cfg(test)]
mod tests;
