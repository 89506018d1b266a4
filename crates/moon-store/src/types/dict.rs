//! The large form of collections: entries found by name, packed, growing in small steps.
//!
//! Entries lie in *buckets* of some dozens, each one buffer ([`bucket`]). The *position* of an
//! entry, some bits of its hash, never changes. A bucket owns a range of positions, so whoever goes
//! through the entries by position meets every one that stays, however the buckets change.
//!
//! The number of buckets follows the number of entries: growing means that the widest bucket is
//! split in two, shrinking that the two narrowest become one. No step touches more than two
//! buckets, whatever the size, and there is no directory ([`spiral`] tells where a position is).
//! The widths are spread evenly between one and two times the narrowest, and stay so while the
//! dictionary grows. That keeps memory together: buffers of every size come and go at all times, so
//! what one bucket gives back another one takes. Were all buckets to grow at once, most freed
//! buffers would be of a size that nobody wants again.

mod bucket;
mod spiral;

use self::bucket::{Bucket, Entries};
use self::spiral::{POSITION_BITS, POSITION_END};
use super::{Cursor, scaled};
use crate::key::Key;
use crate::memory::allocated;
use std::marker::PhantomData;

/// A bucket is split when there are more entries than this per bucket. The widest have about half
/// as many more.
const SPLIT_MEAN: usize = 32;

/// A bucket is merged when there are fewer entries than this per bucket. Well below the above, so
/// that an entry that comes and goes does not split and merge each time.
const MERGE_MEAN: usize = 20;

/// The array of buckets is in parts of this many, so that it never grows as a whole.
const CHUNK: usize = 1 << CHUNK_BITS;
const CHUNK_BITS: u32 = 9;

/// How often [`Dict::random`] tries before it takes what it can get.
const TRIES_MAX: usize = 128;

/// What the entries of a [`Dict`] look like.
pub trait Entry {
    /// The part of the entry that names it.
    fn name(entry: &[u8]) -> &[u8];
}

/// Entries with distinct names.
///
/// # Invariants
/// * Every entry is in the bucket of its position, with the tag that its hash says.
/// * `len` and `heap` are the sums over the buckets; `buckets` is their number. All chunks but the
///   last are full.
pub struct Dict<E> {
    chunks: Vec<Vec<Bucket>>,
    buckets: usize,
    len: usize,
    /// Bytes on the heap below `chunks`.
    heap: usize,
    kind: PhantomData<fn() -> E>,
}

impl<E> Clone for Dict<E> {
    fn clone(&self) -> Self {
        let mut clone = Dict {
            chunks: self.chunks.clone(),
            heap: 0,
            ..*self
        };
        // A clone has no spare room in its vectors.
        clone.heap = clone.count_heap();
        clone
    }
}

impl<E> std::fmt::Debug for Dict<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<E> Default for Dict<E> {
    fn default() -> Self {
        Dict {
            chunks: Vec::new(),
            buckets: 0,
            len: 0,
            heap: 0,
            kind: PhantomData,
        }
    }
}

impl<E> Dict<E> {
    /// Number of entries.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no entries.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes on the heap. O(1).
    #[must_use]
    pub fn memory(&self) -> usize {
        self.heap + allocated(self.chunks.capacity() * size_of::<Vec<Bucket>>())
    }

    /// All entries. The order means nothing, and is the same until the next change.
    #[must_use]
    pub fn iter(&self) -> Iter<'_> {
        Iter {
            chunks: self.chunks.iter(),
            buckets: [].iter(),
            entries: Entries::default(),
            left: self.len,
        }
    }

    /// The entry at the cursor, which moves on; `None` at the end. In the order of
    /// [`Dict::iter`], in constant time.
    #[must_use]
    pub fn next_from(&self, cursor: &mut Cursor) -> Option<&[u8]> {
        while cursor.node < self.buckets {
            let bucket = self.bucket(cursor.node);
            if cursor.at < bucket.len() {
                let entry = bucket.entry(bucket.at(cursor.at));
                cursor.at += 1;
                return Some(entry);
            }
            *cursor = Cursor {
                node: cursor.node + 1,
                at: 0,
            };
        }
        None
    }

    /// An entry chosen by the random number `r`, each as likely as any other.
    #[must_use]
    pub fn random(&self, r: u64) -> Option<&[u8]> {
        if self.is_empty() {
            return None;
        }
        let mut r = r;
        if self.buckets == 1 {
            let bucket = self.bucket(0);
            return Some(bucket.entry(bucket.at(scaled(r, bucket.len()))));
        }
        // Choosing a place among as many as any bucket uses, and trying again where the bucket is
        // shorter, makes up for the differences in length.
        let places = 2 * (self.len / self.buckets) + 16;
        for _ in 0..TRIES_MAX {
            let bucket = self.bucket(scaled(r, self.buckets));
            r = mixed(r);
            let place = scaled(r, places.max(bucket.len()));
            if place < bucket.len() {
                return Some(bucket.entry(bucket.at(place)));
            }
            r = mixed(r);
        }
        self.iter().next()
    }

    #[inline]
    fn bucket(&self, index: usize) -> &Bucket {
        &self.chunks[index >> CHUNK_BITS][index & (CHUNK - 1)]
    }

    #[inline]
    fn bucket_mut(&mut self, index: usize) -> &mut Bucket {
        &mut self.chunks[index >> CHUNK_BITS][index & (CHUNK - 1)]
    }

    /// The bucket of a hash. There must be buckets.
    #[inline]
    fn bucket_of(&self, hash: u64) -> usize {
        spiral::place(spiral::number(position(hash), self.buckets))
    }

    fn count_heap(&self) -> usize {
        let own = |chunk: &Vec<Bucket>| allocated(chunk.capacity() * size_of::<Bucket>());
        let below = |chunk: &Vec<Bucket>| chunk.iter().map(Bucket::heap).sum::<usize>();
        self.chunks
            .iter()
            .map(|chunk| own(chunk) + below(chunk))
            .sum()
    }

    /// Appends a bucket.
    fn push_bucket(&mut self, bucket: Bucket) {
        if self.buckets.is_multiple_of(CHUNK) {
            self.chunks.push(Vec::new());
        }
        self.heap += bucket.heap();
        let chunk = &mut self.chunks[self.buckets >> CHUNK_BITS];
        self.heap -= allocated(chunk.capacity() * size_of::<Bucket>());
        if chunk.len() == chunk.capacity() {
            chunk.reserve_exact((chunk.len() / 4 + 1).min(CHUNK - chunk.len()));
        }
        chunk.push(bucket);
        self.heap += allocated(chunk.capacity() * size_of::<Bucket>());
        self.buckets += 1;
    }

    /// Takes the last bucket away.
    fn pop_bucket(&mut self) -> Bucket {
        self.buckets -= 1;
        let chunk = &mut self.chunks[self.buckets >> CHUNK_BITS];
        let bucket = chunk.pop().expect("the last bucket is in the last chunk");
        self.heap -= bucket.heap() + allocated(chunk.capacity() * size_of::<Bucket>());
        if chunk.len() <= chunk.capacity() / 2 {
            chunk.shrink_to(chunk.len() + chunk.len() / 4);
        }
        if chunk.is_empty() {
            self.chunks.pop();
            if self.chunks.len() <= self.chunks.capacity() / 4 {
                self.chunks.shrink_to(self.chunks.len() * 2);
            }
        } else {
            self.heap += allocated(chunk.capacity() * size_of::<Bucket>());
        }
        bucket
    }
}

impl<E: Entry> Dict<E> {
    /// The entry called `name`.
    #[inline]
    #[must_use]
    pub fn get(&self, name: &[u8]) -> Option<&[u8]> {
        if self.is_empty() {
            return None;
        }
        let hash = hash_of(name);
        let bucket = self.bucket(self.bucket_of(hash));
        let at = bucket.find(tag_of(hash), |entry| E::name(entry) == name)?;
        Some(bucket.entry(at))
    }

    /// Starts loading what a look-up of `name` touches.
    #[inline]
    pub(crate) fn prefetch(&self, name: &[u8]) {
        if !self.is_empty() {
            self.bucket(self.bucket_of(hash_of(name))).prefetch();
        }
    }

    /// Stores an entry in place of the one with the same name; whether there was none. One of the
    /// same length is overwritten where it is.
    pub fn put(&mut self, entry: &[u8]) -> bool {
        self.store::<true>(entry, |_| {})
    }

    /// As [`Dict::put`]; shows the entry that is replaced.
    #[inline]
    pub fn swap(&mut self, entry: &[u8], replaced: impl FnOnce(&[u8])) -> bool {
        self.store::<true>(entry, replaced)
    }

    /// Stores an entry unless there is one with the same name; whether there was none.
    pub fn add(&mut self, entry: &[u8]) -> bool {
        self.store::<false>(entry, |_| {})
    }

    #[inline]
    fn store<const REPLACE: bool>(&mut self, entry: &[u8], replaced: impl FnOnce(&[u8])) -> bool {
        if self.buckets == 0 {
            self.push_bucket(Bucket::default());
        }
        let name = E::name(entry);
        let hash = hash_of(name);
        let index = self.bucket_of(hash);
        let bucket = self.bucket_mut(index);
        let found = bucket.find(tag_of(hash), |entry| E::name(entry) == name);
        if let Some(at) = found {
            replaced(bucket.entry(at));
            if !REPLACE || bucket.overwrite(at, entry) {
                return false;
            }
        }
        let before = bucket.heap();
        if let Some(at) = found {
            bucket.remove(at);
        }
        bucket.push(tag_of(hash), entry);
        let after = bucket.heap();
        self.heap = self.heap - before + after;
        if found.is_some() {
            return false;
        }
        self.len += 1;
        if self.len > self.buckets * SPLIT_MEAN {
            self.split();
        }
        true
    }

    /// Removes the entry called `name`. Returns whether it was there.
    pub fn remove(&mut self, name: &[u8]) -> bool {
        self.take(name, |_| {})
    }

    /// As [`Dict::remove`]; shows the entry before it goes.
    #[inline]
    pub fn take(&mut self, name: &[u8], taken: impl FnOnce(&[u8])) -> bool {
        if self.is_empty() {
            return false;
        }
        let hash = hash_of(name);
        let index = self.bucket_of(hash);
        let bucket = self.bucket_mut(index);
        let Some(at) = bucket.find(tag_of(hash), |entry| E::name(entry) == name) else {
            return false;
        };
        taken(bucket.entry(at));
        let before = bucket.heap();
        bucket.remove(at);
        let after = bucket.heap();
        self.heap = self.heap - before + after;
        self.len -= 1;
        if self.len < (self.buckets - 1) * MERGE_MEAN {
            self.merge();
        }
        true
    }

    /// Splits the widest bucket; the upper half comes last.
    fn split(&mut self) {
        let (low, buckets) = (spiral::place(self.buckets), self.buckets + 1);
        let old = std::mem::take(self.bucket_mut(low));
        self.heap -= old.heap();
        let mut entries = Vec::with_capacity(old.len());
        let (mut counts, mut used) = ([0; 2], [0; 2]);
        for (tag, entry) in old.tagged() {
            let hash = hash_of(E::name(entry));
            let goes = spiral::place(spiral::number(position(hash), buckets)) != low;
            counts[usize::from(goes)] += 1;
            used[usize::from(goes)] += Bucket::bytes_of(entry);
            entries.push((goes, (tag, entry)));
        }
        let half = |goes: bool| {
            let part = entries.iter().filter(|e| e.0 == goes).map(|e| e.1);
            let number = usize::from(goes);
            Bucket::filled(counts[number], used[number], part)
        };
        let (stays, moves) = (half(false), half(true));
        self.heap += stays.heap();
        *self.bucket_mut(low) = stays;
        self.push_bucket(moves);
    }

    /// Merges the last bucket into the one that it was split from.
    fn merge(&mut self) {
        let high = self.pop_bucket();
        let low = spiral::place(self.buckets);
        let old = std::mem::take(self.bucket_mut(low));
        self.heap -= old.heap();
        let used = |bucket: &Bucket| bucket.iter().map(Bucket::bytes_of).sum::<usize>();
        let entries = old.tagged().chain(high.tagged());
        let merged = Bucket::filled(old.len() + high.len(), used(&old) + used(&high), entries);
        self.heap += merged.heap();
        *self.bucket_mut(low) = merged;
    }

    /// Visits entries from a cursor on and returns the cursor to go on with; 0 begins, and 0 says
    /// that the end was reached. An entry that is there throughout is visited at least once
    /// between the two. About `count` entries are visited per call: fewer where many buckets are
    /// empty, more only where entries share a hash.
    pub fn scan(&self, cursor: u64, count: usize, visit: &mut dyn FnMut(&[u8])) -> u64 {
        if self.is_empty() {
            return 0;
        }
        let mut wanted = count.max(1);
        let mut buckets_left = 16 + wanted / 16;
        let mut from = cursor;
        while from < POSITION_END && wanted > 0 && buckets_left > 0 {
            let number = spiral::number(from, self.buckets);
            let bucket = self.bucket(spiral::place(number));
            // Only a cursor from outside may point into the middle of a bucket.
            let is_start = from != cursor || cursor == 0;
            if is_start && bucket.len() <= wanted {
                bucket.iter().for_each(&mut *visit);
                wanted -= bucket.len();
            } else {
                let mut part: Vec<(u64, &[u8])> = (bucket.iter())
                    .map(|entry| (position(hash_of(E::name(entry))), entry))
                    .filter(|(at, _)| *at >= from)
                    .collect();
                part.sort_unstable_by_key(|(at, _)| *at);
                if part.len() > wanted {
                    // All that share the last position, or the next call would miss some of them.
                    let last = part[wanted - 1].0;
                    part.iter()
                        .take_while(|e| e.0 <= last)
                        .for_each(|e| visit(e.1));
                    return (last + 1) % POSITION_END;
                }
                part.iter().for_each(|e| visit(e.1));
                wanted -= part.len();
            }
            from = spiral::end_of(number);
            buckets_left -= 1;
        }
        if from < POSITION_END { from } else { 0 }
    }

    /// # Panics
    /// When an invariant does not hold.
    pub fn self_check(&self) {
        let len: usize = self.chunks.iter().flatten().map(Bucket::len).sum();
        assert_eq!(self.len, len, "number of entries");
        assert_eq!(self.heap, self.count_heap(), "memory");
        assert_eq!(self.iter().count(), len, "entries on the way");
        for (number, chunk) in self.chunks.iter().enumerate() {
            let full = number + 1 < self.chunks.len();
            assert!(chunk.len() == CHUNK || !full && !chunk.is_empty(), "chunks");
        }
        assert_eq!(
            self.chunks.iter().map(Vec::len).sum::<usize>(),
            self.buckets
        );
        for index in 0..self.buckets {
            let bucket = self.bucket(index);
            bucket.self_check(|entry| tag_of(hash_of(E::name(entry))));
            for entry in bucket.iter() {
                assert_eq!(self.bucket_of(hash_of(E::name(entry))), index, "bucket");
            }
        }
    }
}

/// The entries of a [`Dict`].
#[derive(Clone, Debug)]
pub struct Iter<'a> {
    chunks: std::slice::Iter<'a, Vec<Bucket>>,
    buckets: std::slice::Iter<'a, Bucket>,
    entries: Entries<'a>,
    left: usize,
}

impl<'a> Iterator for Iter<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        loop {
            if let Some(entry) = self.entries.next() {
                self.left -= 1;
                return Some(entry);
            }
            match self.buckets.next() {
                Some(bucket) => self.entries = bucket.iter(),
                None => self.buckets = self.chunks.next()?.iter(),
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Iter<'_> {}

#[inline]
fn hash_of(name: &[u8]) -> u64 {
    Key::new(name).hash
}

/// The bits that choose the bucket.
#[inline]
fn position(hash: u64) -> u64 {
    hash & (POSITION_END - 1)
}

/// Bits of the hash that have no part in choosing the bucket.
#[inline]
fn tag_of(hash: u64) -> u8 {
    hash.to_be_bytes()[0]
}

const _: () = assert!(POSITION_BITS <= 56, "the tag has bits of its own");

/// The next of a row of random numbers.
#[inline]
fn mixed(r: u64) -> u64 {
    let r = r.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let r = (r ^ (r >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let r = (r ^ (r >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    r ^ (r >> 31)
}

#[cfg(test)]
mod tests;
