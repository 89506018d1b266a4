//! The entries of one bucket of a [`Dict`](super::Dict), packed into one buffer.
//!
//! ```text
//! buf:  [ tags | room ] [ lengths | room ] [ entry | entry | entry | ... | unused ]
//! ```
//!
//! An entry has a tag (eight bits of its hash), which is what a look-up searches for, and a length
//! of one byte. Where it begins is the sum of the lengths in front of it, which for some dozens of
//! entries is cheaper to add up than to store. Entries above [`SHORT_MAX`] bytes are allocated one
//! by one, in the same order, so that closing a gap never moves much.

use crate::memory::allocated;
use crate::prefetch::prefetch;

/// The longest entry that lies in the buffer.
pub(super) const SHORT_MAX: usize = 0x7F;

/// The length that says: not in the buffer. Its lower bits count nothing towards an offset.
const LONG: u8 = 0x80;

/// Smaller buffers are not worth renewing to give memory back.
const WASTE_MIN: usize = 64;

/// Tags and lengths have room for a multiple of this many entries.
const ROOM_STEP: usize = 8;

/// The length byte of an entry.
fn length_byte(entry: &[u8]) -> u8 {
    match u8::try_from(entry.len()) {
        Ok(len) if entry.len() <= SHORT_MAX => len,
        _ => LONG,
    }
}

/// Bytes in the buffer of an entry with this length byte.
#[inline]
fn short_len(length: u8) -> usize {
    usize::from(length & !LONG)
}

#[inline]
fn room(count: usize) -> usize {
    count.next_multiple_of(ROOM_STEP)
}

/// Some dozens of entries, in the order in which they came.
///
/// # Invariants
/// * The first `count` tags and lengths are those of the entries; `used` is the sum of the lengths
///   that are not [`LONG`], and those entries follow each other behind the room for lengths.
/// * `long` has the other entries, in order, and is `None` if there are none.
#[derive(Clone, Debug, Default)]
pub(super) struct Bucket {
    buf: Box<[u8]>,
    used: u32,
    count: u32,
    long: Option<Box<Long>>,
}

// Two to a cache line, and little next to the dozens of entries it stands for.
const _: () = assert!(size_of::<Bucket>() == 32);

/// Entries outside the buffer.
#[derive(Clone, Debug, Default)]
struct Long(Vec<Box<[u8]>>);

impl Long {
    fn heap(&self) -> usize {
        let entries: usize = self.0.iter().map(|entry| allocated(entry.len())).sum();
        entries
            + allocated(self.0.capacity() * size_of::<Box<[u8]>>())
            + allocated(size_of::<Self>())
    }
}

/// Where an entry is. Valid until the bucket changes.
#[derive(Clone, Copy, Debug)]
pub(super) struct At {
    index: usize,
    /// Bytes of the short entries in front of it.
    offset: usize,
    /// Number of long entries in front of it.
    longs: usize,
}

impl Bucket {
    /// A bucket of `count` entries with their tags, the short ones with `used` bytes, in a buffer
    /// that fits.
    pub(super) fn filled<'e>(
        count: usize,
        used: usize,
        entries: impl Iterator<Item = (u8, &'e [u8])>,
    ) -> Bucket {
        let room = room(count);
        let mut buf = vec![0; allocated(2 * room + used)].into_boxed_slice();
        let mut long = Vec::new();
        let mut at = 2 * room;
        for (index, (tag, entry)) in entries.enumerate() {
            let length = length_byte(entry);
            buf[index] = tag;
            buf[room + index] = length;
            if length == LONG {
                long.push(entry.into());
            } else {
                let end = at + entry.len();
                buf[at..end].copy_from_slice(entry);
                at = end;
            }
        }
        debug_assert_eq!(at, 2 * room + used, "bytes of short entries");
        let mut bucket = Bucket {
            buf,
            long: (!long.is_empty()).then(|| Box::new(Long(long))),
            ..Bucket::default()
        };
        bucket.set_len(count, used);
        bucket
    }

    /// Starts loading what a look-up or a push touches.
    #[inline]
    pub(super) fn prefetch(&self) {
        for at in [0, 2 * room(self.len()), 2 * room(self.len()) + self.used()] {
            if let Some(byte) = self.buf.get(at) {
                prefetch(byte);
            }
        }
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.count as usize
    }

    #[inline]
    fn used(&self) -> usize {
        self.used as usize
    }

    /// Bytes on the heap.
    pub(super) fn heap(&self) -> usize {
        allocated(self.buf.len()) + self.long.as_ref().map_or(0, |long| long.heap())
    }

    /// Bytes that an entry takes in the buffer, apart from tag and length.
    pub(super) fn bytes_of(entry: &[u8]) -> usize {
        short_len(length_byte(entry))
    }

    #[inline]
    fn lengths(&self) -> &[u8] {
        &self.buf[room(self.len())..][..self.len()]
    }

    /// Where entry number `index` is.
    #[inline]
    pub(super) fn at(&self, index: usize) -> At {
        let before = &self.lengths()[..index];
        let longs = match self.long {
            None => 0,
            Some(_) => before.iter().map(|length| usize::from(length >> 7)).sum(),
        };
        At {
            index,
            offset: before.iter().map(|length| short_len(*length)).sum(),
            longs,
        }
    }

    /// The entry there.
    #[inline]
    pub(super) fn entry(&self, at: At) -> &[u8] {
        match (self.lengths()[at.index], &self.long) {
            (LONG, Some(long)) => &long.0[at.longs],
            (length, _) => &self.buf[2 * room(self.len()) + at.offset..][..short_len(length)],
        }
    }

    /// The first entry with this tag for which `is_it` holds.
    #[inline]
    pub(super) fn find(&self, tag: u8, mut is_it: impl FnMut(&[u8]) -> bool) -> Option<At> {
        memchr::memchr_iter(tag, &self.buf[..self.len()])
            .map(|index| self.at(index))
            .find(|at| is_it(self.entry(*at)))
    }

    /// The entries in order.
    #[inline]
    pub(super) fn iter(&self) -> Entries<'_> {
        Entries {
            lengths: self.lengths(),
            bytes: &self.buf[2 * room(self.len())..],
            long: self.long.as_ref().map_or(&[], |long| &long.0),
        }
    }

    /// The entries in order, with their tags.
    pub(super) fn tagged(&self) -> impl Iterator<Item = (u8, &[u8])> {
        self.buf[..self.len()].iter().copied().zip(self.iter())
    }

    /// Adds an entry at the end.
    pub(super) fn push(&mut self, tag: u8, entry: &[u8]) {
        let length = length_byte(entry);
        let (count, used) = (self.len() + 1, self.used() + short_len(length));
        let room = room(count);
        let full = 2 * room + used;
        self.arrange(count, full, full > self.buf.len());
        self.buf[count - 1] = tag;
        self.buf[room + count - 1] = length;
        if length == LONG {
            let Long(entries) = &mut **self.long.get_or_insert_default();
            if entries.len() == entries.capacity() {
                entries.reserve_exact(entries.len() / 4 + 1);
            }
            entries.push(entry.into());
        } else {
            self.buf[2 * room..][self.used as usize..used].copy_from_slice(entry);
        }
        self.set_len(count, used);
    }

    /// Removes an entry; those behind it move up.
    pub(super) fn remove(&mut self, at: At) {
        let (count, room) = (self.len(), room(self.len()));
        let len = match self.lengths()[at.index] {
            LONG => {
                self.remove_long(at.longs);
                0
            }
            short => short_len(short),
        };
        let bytes = &mut self.buf[2 * room..][..self.used as usize];
        bytes.copy_within(at.offset + len.., at.offset);
        self.buf[room..room + count].copy_within(at.index + 1.., at.index);
        self.buf[..count].copy_within(at.index + 1.., at.index);
        let used = self.used() - len;
        // The old number of entries still says where lengths and entries lie; the new one says
        // how much of both is worth keeping.
        self.set_len(count, used);
        let full = 2 * self::room(count - 1) + used;
        let wastes = self.buf.len() > WASTE_MIN && full + full / 2 < self.buf.len();
        self.arrange(count - 1, full, wastes);
        self.set_len(count - 1, used);
    }

    fn remove_long(&mut self, number: usize) {
        let Some(long) = &mut self.long else { return };
        long.0.remove(number);
        if long.0.is_empty() {
            self.long = None;
        } else if long.0.len() < long.0.capacity() / 2 {
            long.0.shrink_to(long.0.len() + long.0.len() / 4);
        }
    }

    /// Overwrites an entry with one of the same length; `false`, and nothing happens, if the
    /// length differs.
    pub(super) fn overwrite(&mut self, at: At, entry: &[u8]) -> bool {
        let start = 2 * room(self.len()) + at.offset;
        let old = match (self.lengths()[at.index], &mut self.long) {
            (LONG, Some(long)) => &mut *long.0[at.longs],
            (length, _) => &mut self.buf[start..][..short_len(length)],
        };
        let fits = old.len() == entry.len();
        if fits {
            old.copy_from_slice(entry);
        }
        fits
    }

    fn set_len(&mut self, count: usize, used: usize) {
        // At most 128 bytes for each of at most 2^25 entries: a bucket has some dozens, and more
        // only of those whose hashes are equal.
        self.count = u32::try_from(count).expect("a bucket has some dozens of entries");
        self.used = u32::try_from(used).expect("short entries are short");
    }

    /// Lays the buffer out for `count` entries, one more or one less than now. It has to hold
    /// `full` bytes; `renew` says to take another one that is as large as that.
    fn arrange(&mut self, count: usize, full: usize, renew: bool) {
        let (old, new, used) = (room(self.len()), room(count), self.used());
        if renew {
            let kept = self.len().min(count);
            let mut buf = Vec::with_capacity(allocated(full));
            buf.extend_from_slice(&self.buf[..kept]);
            buf.resize(new, 0);
            buf.extend_from_slice(&self.buf[old..old + kept]);
            buf.resize(2 * new, 0);
            buf.extend_from_slice(&self.buf[2 * old..2 * old + used]);
            buf.resize(allocated(full), 0);
            self.buf = buf.into_boxed_slice();
        } else if new > old {
            self.buf.copy_within(2 * old..2 * old + used, 2 * new);
            self.buf.copy_within(old..2 * old, new);
        } else if new < old {
            self.buf.copy_within(old..old + new, new);
            self.buf.copy_within(2 * old..2 * old + used, 2 * new);
        }
    }

    /// # Panics
    /// When an invariant does not hold, or `tag` gives an entry another tag than it has.
    pub(super) fn self_check(&self, tag: impl Fn(&[u8]) -> u8) {
        let used: usize = self.lengths().iter().map(|l| short_len(*l)).sum();
        assert_eq!(used, self.used(), "bytes of short entries");
        assert!(2 * room(self.len()) + used <= self.buf.len(), "buffer");
        let longs = self.lengths().iter().filter(|l| **l == LONG).count();
        let kept = self.long.as_ref().map(|long| long.0.len());
        assert_eq!(kept, (longs > 0).then_some(longs), "long entries");
        assert_eq!(self.iter().count(), self.len(), "number of entries");
        for (index, entry) in self.iter().enumerate() {
            assert_eq!(self.buf[index], tag(entry), "tag");
            assert_eq!(self.entry(self.at(index)), entry, "place of an entry");
            assert_eq!(entry.len() > SHORT_MAX, self.lengths()[index] == LONG);
        }
    }
}

/// The entries of a bucket, or what is left of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Entries<'a> {
    lengths: &'a [u8],
    bytes: &'a [u8],
    long: &'a [Box<[u8]>],
}

impl<'a> Iterator for Entries<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        let (length, lengths) = self.lengths.split_first()?;
        self.lengths = lengths;
        if *length == LONG {
            let (entry, long) = self.long.split_first()?;
            self.long = long;
            return Some(entry);
        }
        let (entry, bytes) = self.bytes.split_at(short_len(*length));
        self.bytes = bytes;
        Some(entry)
    }
}
