//! The table under a database: a directory over small hash tables, its *segments*.
//!
//! The directory has 2^depth entries and is indexed by the top bits of a key's [position]; each
//! entry names a segment. A segment of depth `d` owns all positions that share its first `d`
//! bits, so `2^(depth - d)` directory entries in a row name it (extendible hashing). A full
//! segment splits into two halves of its range; two small neighbours that once were one merge
//! again. So no operation ever touches more than one or two segments and, rarely, the directory,
//! which is a few bytes per thousand keys.
//!
//! A segment is a few [blocks] of equal size, and grows and shrinks by one at a time, so it is
//! mostly full. Its [groups] of places are what an entry is hashed to: it lies in the first one
//! from there on that had a free place.
//!
//! Splits and merges never change a position: whoever walks the table by position (SCAN, the
//! expiry cycle, the rewrite) meets every key that stays, however the table changes meanwhile.
//!
//! [position]: crate::position
//! [blocks]: blocks
//! [groups]: group

use crate::key::Key;
use crate::memory::allocated;
use crate::position::{position, share_below};
use crate::prefetch::prefetch;
use blocks::{BLOCK_SLOTS, Blocks, GROUPS, Owner};
use group::{Group, SLOTS, tag};
use smallvec::SmallVec;

mod blocks;
mod group;

/// A segment with this many blocks splits before it takes another.
const SEGMENT_BLOCKS_MAX: usize = 10;

/// A segment with this many entries splits before it takes another.
const SEGMENT_LEN_MAX: usize = full_len(SEGMENT_BLOCKS_MAX);

/// So many of a hundred places are taken when a segment is full. The higher, the more groups a
/// look-up visits: at nine tenths, one entry in ten or so lies outside of its own group.
const FULL_PERCENT: usize = 92;

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

/// Entries with which so many blocks are full.
const fn full_len(blocks: usize) -> usize {
    blocks * BLOCK_SLOTS * FULL_PERCENT / 100
}

/// Blocks for so many entries.
const fn blocks_for(len: usize) -> usize {
    (len * 100).div_ceil(BLOCK_SLOTS * FULL_PERCENT)
}

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
/// * `len` is the sum over the segments.
/// * An entry lies in its segment, in the group that its hash leads to or in a later one; all
///   groups from the former to the latter know that it passed.
pub(crate) struct Table<T> {
    directory: Vec<u32>,
    depth: u32,
    segments: Vec<Segment>,
    blocks: Blocks<T>,
    at_depth: [u32; DEPTH_MAX as usize + 1],
    len: usize,
    /// Entries on their way to new places. Kept, so that a segment that grows allocates nothing.
    moving: Vec<(u64, T)>,
    /// Segments are neither merged above this depth nor shrunk at it: the caller expects keys.
    depth_min: u32,
}

/// A range of positions, with room for what lies in it.
struct Segment {
    /// First position of the range.
    start: u64,
    /// The groups of all blocks, in this order, are the segment's groups. More than fit here are
    /// there only of keys with equal hash prefixes.
    blocks: SmallVec<[u32; SEGMENT_BLOCKS_MAX]>,
    len: u32,
    depth: u32,
}

// One cache line: every look-up passes through one.
const _: () = assert!(size_of::<Segment>() == 64);

impl Segment {
    /// Size of the range minus one.
    fn span(&self) -> u64 {
        u64::MAX.checked_shr(self.depth).unwrap_or(0)
    }

    #[inline]
    fn len(&self) -> usize {
        self.len as usize
    }

    /// First position behind the range; `None` at the end of the table.
    fn end(&self) -> Option<u64> {
        (self.start + self.span()).checked_add(1)
    }

    /// The groups in which an entry with this hash may be, the first first.
    #[inline]
    fn places(&self, hash: u64) -> impl Iterator<Item = (u32, usize)> {
        let groups = self.blocks.len() * GROUPS;
        // The low half of the hash, as a fraction of the groups.
        let first = ((hash & 0xffff_ffff) as usize * groups) >> 32;
        (first..groups)
            .chain(0..first)
            .map(|group| (self.blocks[group / GROUPS], group % GROUPS))
    }
}

/// Where an entry is.
#[derive(Clone, Copy)]
struct At {
    segment: usize,
    block: u32,
    group: usize,
    place: usize,
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
    table: &'a mut Table<T>,
    hash: u64,
}

impl<'a, T: Keyed> Vacant<'a, T> {
    /// Stores the entry, which has the key that was looked for.
    #[inline]
    pub(crate) fn insert(self, entry: T) -> &'a mut T {
        let segment = self.table.make_room(position(self.hash));
        self.table.len += 1;
        self.table.put(segment, self.hash, entry)
    }
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
        let count = (keys * 2 / SEGMENT_LEN_MAX).next_power_of_two();
        let depth = count.ilog2();
        let mut at_depth = [0; DEPTH_MAX as usize + 1];
        at_depth[depth as usize] = count as u32;
        let segments = (0..count as u64).map(|i| Segment {
            start: if depth == 0 { 0 } else { i << (64 - depth) },
            blocks: SmallVec::new(),
            len: 0,
            depth,
        });
        let mut table = Table {
            directory: (0..count as u32).collect(),
            depth,
            segments: segments.collect(),
            blocks: Blocks::default(),
            at_depth,
            len: 0,
            moving: Vec::new(),
            depth_min: depth,
        };
        for number in 0..count {
            let Segment { start, .. } = table.segments[number];
            let end = start + table.segments[number].span();
            // Some room for chance, or half of the segments would grow once more.
            let expected = keys as f64 * (share_below(end) - share_below(start)) * 1.1;
            table.set_blocks(
                number,
                blocks_for(expected as usize).min(SEGMENT_BLOCKS_MAX),
            );
        }
        table
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
        self.blocks.allocated()
            + allocated(self.moving.capacity() * size_of::<(u64, T)>())
            + allocated(self.directory.capacity() * size_of::<u32>())
            + allocated(self.segments.capacity() * size_of::<Segment>())
    }

    /// Bytes of the table per entry. In a small one they would tell of the size of the table, so
    /// there they are what a large one comes to.
    pub(crate) fn share(&self) -> usize {
        if self.len >= SEGMENT_LEN_MAX {
            self.allocated() / self.len
        } else {
            size_of::<T>() * 5 / 4
        }
    }

    /// The segment that owns a position.
    #[inline]
    fn segment_at(&self, position: u64) -> usize {
        // Two shifts, because a shift by 64 (depth 0) is not defined.
        let index = (position >> 1) >> (63 - self.depth);
        self.directory[index as usize] as usize
    }

    /// Where an entry with this hash is for which `is_it` holds.
    #[inline]
    fn locate(&self, hash: u64, mut is_it: impl FnMut(&T) -> bool) -> Option<At> {
        let segment = self.segment_at(position(hash));
        for (block, group) in self.segments[segment].places(hash) {
            let there = &self.blocks.get(block)[group];
            for place in there.tagged(tag(hash)) {
                if there.slot(place).as_ref().is_some_and(&mut is_it) {
                    return Some(At {
                        segment,
                        block,
                        group,
                        place,
                    });
                }
            }
            if !there.was_passed() {
                return None;
            }
        }
        None
    }

    /// The entry of a key.
    #[inline]
    pub(crate) fn find(&self, key: Key<'_>) -> Option<&T> {
        self.find_where(key.hash, |e| e.key() == key.bytes)
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
        let at = self.locate(hash, is_it)?;
        self.blocks.get_mut(at.block)[at.group].slot_mut(at.place)
    }

    /// An entry whose key has this hash and for which `is_it` holds.
    #[inline]
    pub(crate) fn find_where(&self, hash: u64, is_it: impl FnMut(&T) -> bool) -> Option<&T> {
        let at = self.locate(hash, is_it)?;
        self.blocks.get(at.block)[at.group].slot(at.place).as_ref()
    }

    /// The place of a key, present or not.
    #[inline]
    pub(crate) fn entry(&mut self, key: Key<'_>) -> Slot<'_, T> {
        match self.locate(key.hash, |e| e.key() == key.bytes) {
            Some(at) => {
                let group = &mut self.blocks.get_mut(at.block)[at.group];
                Slot::Found(group.slot_mut(at.place).expect("it was just found"))
            }
            None => Slot::Vacant(Vacant {
                hash: key.hash,
                table: self,
            }),
        }
    }

    /// Removes the entry of a key.
    #[inline]
    pub(crate) fn remove(&mut self, key: Key<'_>) -> Option<T> {
        let at = self.locate(key.hash, |e| e.key() == key.bytes)?;
        for (block, group) in self.segments[at.segment].places(key.hash) {
            if (block, group) == (at.block, at.group) {
                break;
            }
            self.blocks.get_mut(block)[group].unpass();
        }
        let entry = self.blocks.get_mut(at.block)[at.group].take(at.place)?;
        self.segments[at.segment].len -= 1;
        self.len -= 1;
        self.give_back_memory(at.segment);
        Some(entry)
    }

    /// Puts an entry into a segment, which has room for it.
    #[inline]
    fn put(&mut self, segment: usize, hash: u64, entry: T) -> &mut T {
        self.segments[segment].len += 1;
        let mut to = None;
        for (block, group) in self.segments[segment].places(hash) {
            let there = &mut self.blocks.get_mut(block)[group];
            if let Some(place) = there.free() {
                to = Some((block, group, place));
                break;
            }
            there.pass();
        }
        let (block, group, place) = to.expect("a segment is never filled to the last place");
        self.blocks.get_mut(block)[group].put(place, tag(hash), entry)
    }

    /// The segment of a position, after splits and growth, so that one entry more fits.
    #[inline]
    fn make_room(&mut self, position: u64) -> usize {
        let segment = self.segment_at(position);
        let Segment { len, blocks, .. } = &self.segments[segment];
        if (*len as usize) < full_len(blocks.len()) {
            return segment;
        }
        self.grow(position)
    }

    #[cold]
    fn grow(&mut self, position: u64) -> usize {
        let segment = loop {
            let segment = self.segment_at(position);
            let Segment { len, depth, .. } = self.segments[segment];
            let even = self.segments.len().ilog2();
            let deepest = DEPTH_MAX.min(even + UNEVEN_DEPTH_MAX);
            if (len as usize) < SEGMENT_LEN_MAX || depth >= deepest {
                break segment;
            }
            self.split(segment);
        };
        let Segment { len, blocks, .. } = &self.segments[segment];
        if *len as usize >= full_len(blocks.len()) {
            // A block at a time; by an eighth those that could not split.
            let more = (blocks.len() / 8).max(1);
            self.rebuild(segment, blocks.len() + more);
        }
        segment
    }

    /// Gives the segment so many blocks, in which its entries are placed anew.
    fn rebuild(&mut self, segment: usize, blocks: usize) {
        self.take_all(segment);
        self.set_blocks(segment, blocks);
        self.put_all(|_| segment);
    }

    /// Takes all entries of a segment out, each with its hash, to those that move.
    fn take_all(&mut self, segment: usize) {
        for block in &self.segments[segment].blocks {
            for group in self.blocks.get_mut(*block) {
                let entries = group.drain().map(|entry| (entry.hash(), entry));
                self.moving.extend(entries);
            }
        }
        self.segments[segment].len = 0;
    }

    /// Puts the entries that move into the segments for their hashes, which have room for them.
    fn put_all(&mut self, segment: impl Fn(u64) -> usize) {
        let mut entries = std::mem::take(&mut self.moving);
        for (hash, entry) in entries.drain(..) {
            self.put(segment(hash), hash, entry);
        }
        // Of a segment that could not split it would be too much to keep.
        entries.shrink_to(2 * SEGMENT_LEN_MAX);
        self.moving = entries;
    }

    /// Gives the segment, which is empty, so many blocks.
    fn set_blocks(&mut self, segment: usize, count: usize) {
        while self.segments[segment].blocks.len() < count {
            let owner = Owner {
                segment: segment as u32,
                nth: self.segments[segment].blocks.len() as u32,
            };
            let block = self.blocks.add(owner);
            self.segments[segment].blocks.push(block);
        }
        while self.segments[segment].blocks.len() > count {
            if let Some(block) = self.segments[segment].blocks.pop()
                && let Some(moved) = self.blocks.remove(block)
            {
                self.segments[moved.segment as usize].blocks[moved.nth as usize] = block;
            }
        }
        self.segments[segment].blocks.shrink_to_fit();
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

        self.take_all(low);
        let is_high = |hash| position(hash) >= start;
        let high_len = (self.moving.iter().filter(|(hash, _)| is_high(*hash))).count();
        let high = self.segments.len();
        self.segments.push(Segment {
            start,
            blocks: SmallVec::new(),
            len: 0,
            depth,
        });
        // The half that gives blocks back first: the other takes them.
        self.set_blocks(low, blocks_for(self.moving.len() - high_len));
        self.set_blocks(high, blocks_for(high_len));
        self.put_all(|hash| if is_high(hash) { high } else { low });
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

    /// After a removal: merges or shrinks a segment with too much room.
    #[inline]
    fn give_back_memory(&mut self, segment: usize) {
        let Segment {
            len, blocks, depth, ..
        } = &self.segments[segment];
        let len = *len as usize;
        // Half a block below the size at which it would grow again.
        let is_roomy = len <= full_len(blocks.len() - 1).saturating_sub(BLOCK_SLOTS / 2);
        if (is_roomy || len < MERGE_LEN_MAX) && *depth >= self.depth_min {
            self.merge_or_shrink(segment, is_roomy);
        }
    }

    fn merge_or_shrink(&mut self, segment: usize, is_roomy: bool) {
        let Segment { start, depth, .. } = self.segments[segment];
        if depth > self.depth_min {
            let buddy = self.segment_at(start ^ (1 << (64 - depth)));
            let len = self.segments[segment].len() + self.segments[buddy].len();
            if self.segments[buddy].depth == depth && len <= MERGE_LEN_MAX {
                self.merge(segment, buddy);
                return;
            }
        } else if self.depth_min > 0 {
            return;
        }
        if is_roomy {
            self.rebuild(segment, self.segments[segment].blocks.len() - 1);
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
        self.take_all(high);
        self.take_all(low);
        self.set_blocks(high, 0);
        self.set_blocks(low, blocks_for(self.moving.len()));
        self.put_all(|_| low);
        self.segments[low].depth = depth - 1;
        self.at_depth[depth as usize] -= 2;
        self.at_depth[depth as usize - 1] += 1;
        self.point_directory_at(low);

        self.segments.swap_remove(high);
        if high < self.segments.len() {
            self.point_directory_at(high);
            for (nth, block) in (0..).zip(&self.segments[high].blocks) {
                let segment = high as u32;
                self.blocks.set_owner(*block, Owner { segment, nth });
            }
        }
        if self.segments.len() < self.segments.capacity() / 4 {
            self.segments.shrink_to(self.segments.len() * 2);
        }
        while self.at_depth[self.depth as usize] == 0 {
            self.directory = self.directory.iter().copied().step_by(2).collect();
            self.depth -= 1;
        }
    }

    /// The groups of a segment.
    fn groups(&self, segment: &Segment) -> impl Iterator<Item = &Group<T>> + Clone {
        (segment.blocks.iter()).flat_map(|block| self.blocks.get(*block))
    }

    /// The entries of a segment.
    fn entries(&self, segment: &Segment) -> impl Iterator<Item = &T> + Clone {
        self.groups(segment).flat_map(Group::entries)
    }

    /// The segment that owns `position`: its first position; its entries, in no order; the first
    /// position behind it, `None` at the end of the table.
    pub(crate) fn segment_from(
        &self,
        position: u64,
    ) -> (u64, impl Iterator<Item = &T> + Clone, Option<u64>) {
        let segment = &self.segments[self.segment_at(position)];
        (segment.start, self.entries(segment), segment.end())
    }

    /// Drops the entries of the segment that owns `position` for which `keep` does not hold. The
    /// segment gives its memory back and stays.
    pub(crate) fn retain_in_segment(&mut self, position: u64, mut keep: impl FnMut(&T) -> bool) {
        let segment = self.segment_at(position);
        let mut left = 0;
        for block in &self.segments[segment].blocks {
            for group in self.blocks.get_mut(*block) {
                left += group.retain(&mut keep);
            }
        }
        self.len -= self.segments[segment].len() - left;
        self.segments[segment].len = left as u32;
        self.rebuild(segment, blocks_for(left));
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
            if is_whole && segment.len() <= wanted {
                self.entries(segment).for_each(&mut visit);
                wanted -= segment.len();
            } else {
                let mut part: Vec<(u64, &T)> = (self.entries(segment))
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
            if segment.len > 0 {
                // The low bits of `r` had no part in the choice of the segment.
                let nth = (r & 0xffff_ffff) as usize % segment.len();
                return self.entries(segment).nth(nth);
            }
            at = segment.end().unwrap_or(0);
        }
    }

    /// Visits about `count` neighbours from a place drawn by the random number `r` on. In a table
    /// they stand in the order of their hashes, so they have nothing else in common.
    pub(crate) fn sample(&self, r: u64, count: usize, mut visit: impl FnMut(&T)) {
        let mut left = count.min(self.len);
        let mut at = position(r);
        // What came first into a group lies in front: a look begins anywhere in it.
        let mut first = r as usize % SLOTS;
        for _ in 0..SAMPLED_SEGMENTS_MAX {
            let segment = &self.segments[self.segment_at(at)];
            for (block, group) in segment.places(r) {
                let from = std::mem::take(&mut first);
                for entry in self.blocks.get(block)[group].entries_from(from) {
                    if left == 0 {
                        return;
                    }
                    visit(entry);
                    left -= 1;
                }
            }
            at = segment.end().unwrap_or(0);
        }
    }

    /// Loads what look-ups of `keys` will touch, with the cache misses of all keys at once, and
    /// calls `found` with entries that are likely those keys', and with the keys' numbers.
    pub(crate) fn warm(&self, keys: &[Key<'_>], mut found: impl FnMut(usize, &T)) {
        for (number, batch) in keys.chunks(WARM_BATCH).enumerate() {
            let mut slots = [None; WARM_BATCH];
            // The tags of a group are compared, but no entry is read, so nothing here waits for
            // more than one load, and the processor runs ahead into the next keys.
            for (key, slot) in batch.iter().zip(&mut slots) {
                let segment = &self.segments[self.segment_at(position(key.hash))];
                *slot = segment.places(key.hash).next().and_then(|(block, group)| {
                    let there = &self.blocks.get(block)[group];
                    let place = there.tagged(tag(key.hash)).next()?;
                    prefetch(there.slot(place));
                    Some(there.slot(place))
                });
            }
            for (index, slot) in slots[..batch.len()].iter().enumerate() {
                if let Some(entry) = slot.and_then(Option::as_ref) {
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
        let (mut len, mut blocks, mut named) = (0, 0, 0);
        for (number, segment) in self.segments.iter().enumerate() {
            at_depth[segment.depth as usize] += 1;
            len += segment.len();
            blocks += segment.blocks.len();
            assert_eq!(segment.start & segment.span(), 0, "ranges are aligned");
            let first = (segment.start >> 1) >> (63 - self.depth);
            let count = 1u64 << (self.depth - segment.depth);
            for index in first..first + count {
                assert_eq!(self.directory[index as usize] as usize, number, "directory");
            }
            named += count;
            self.check_segment(segment);
        }
        self.blocks.self_check(|block| {
            let is_in = |segment: &Segment| segment.blocks.contains(&block);
            let segment = self.segments.iter().position(is_in).expect("an owner");
            let nth = self.segments[segment]
                .blocks
                .iter()
                .position(|b| *b == block);
            let (segment, nth) = (segment as u32, nth.unwrap_or(0) as u32);
            Owner { segment, nth }
        });
        assert_eq!(self.blocks.len(), blocks, "blocks without an owner");
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
    }

    fn check_segment(&self, segment: &Segment) {
        let mut len = 0;
        let mut passed: Vec<usize> = vec![0; segment.blocks.len() * GROUPS];
        let order: Vec<*const Group<T>> = self.groups(segment).map(std::ptr::from_ref).collect();
        for group in self.groups(segment) {
            group.self_check(|entry| tag(entry.hash()));
            for entry in group.entries() {
                let at = position(entry.hash());
                assert!(at >= segment.start && at - segment.start <= segment.span());
                for (block, number) in segment.places(entry.hash()) {
                    let there = &self.blocks.get(block)[number];
                    if std::ptr::eq(there, group) {
                        break;
                    }
                    let nth = order.iter().position(|g| std::ptr::eq(*g, there));
                    passed[nth.expect("a group of the segment")] += 1;
                }
                len += 1;
            }
        }
        assert_eq!(segment.len(), len, "length of a segment");
        for (group, passed) in self.groups(segment).zip(passed) {
            let known = usize::from(group.passed());
            assert!(known == passed || known > 1000, "who passed a group");
        }
    }
}

#[cfg(test)]
mod tests;
