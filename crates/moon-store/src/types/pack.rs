//! Byte strings one after the other in one buffer.
//!
//! ```text
//! buf:  [ unused .. start ) [ len bytes len ] [ len bytes len ] ...
//! ```
//!
//! The length stands on both sides of an entry, so that it can be walked, and removed from, at
//! both ends. A length below 128 takes one byte; a longer one takes two or four bytes and a mark,
//! which stands outside: before the number in front of an entry, after the number behind it.

mod middle;

use crate::memory::allocated;

const MARK_U16: u8 = 0xFE;
const MARK_U32: u8 = 0xFF;
const SHORT_MAX: usize = 0x7F;

/// Buffers up to this capacity are not worth shrinking.
const SMALL_CAPACITY: usize = 64;

/// A sequence of byte strings, cheap to change at both ends, compact.
///
/// # Invariants
/// * `start <= buf.len()`, and `buf[start..]` is exactly `count` well-formed entries.
/// * At most as many bytes are unused in front as are used, plus a constant; the same holds
///   behind, within a factor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pack {
    buf: Vec<u8>,
    start: usize,
    count: usize,
}

/// Where an entry begins: a byte position in the pack, valid until the next change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position(usize);

impl Pack {
    /// Number of entries.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are no entries.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes that the entries take, lengths included.
    #[inline]
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.buf.len() - self.start
    }

    /// The entries as they lie in the buffer, for [`Pack::from_bytes`].
    #[must_use]
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.buf[self.start..]
    }

    /// A pack of `count` entries that [`Pack::as_bytes`] gave.
    #[must_use]
    pub(super) fn from_bytes(buf: Vec<u8>, count: usize) -> Pack {
        Pack {
            buf,
            start: 0,
            count,
        }
    }

    /// Bytes that the buffer has room for, which [`Pack::memory`] follows from.
    #[inline]
    #[must_use]
    pub(super) fn capacity(&self) -> usize {
        self.buf.capacity()
    }

    /// Bytes on the heap.
    #[inline]
    #[must_use]
    pub fn memory(&self) -> usize {
        allocated(self.buf.capacity())
    }

    /// Bytes that one entry of `len` bytes takes.
    #[inline]
    #[must_use]
    pub fn entry_bytes(len: usize) -> usize {
        len + 2 * length_bytes(len)
    }

    /// All entries in order.
    #[inline]
    #[must_use]
    pub fn iter(&self) -> Iter<'_> {
        Iter {
            bytes: &self.buf[self.start..],
            left: self.count,
        }
    }

    /// The entry that begins `at` bytes behind the first, which is then moved to the next one.
    /// `None` at the end. Any other number than one that came from here, or 0, means nothing.
    #[must_use]
    pub fn next_from(&self, at: &mut usize) -> Option<&[u8]> {
        let bytes = self.buf.get(self.start + *at..)?;
        let mut walk = Iter {
            bytes,
            left: usize::from(!bytes.is_empty()),
        };
        let entry = walk.next()?;
        *at += bytes.len() - walk.bytes.len();
        Some(entry)
    }

    /// The entry at `index`, walked to from the nearer end.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&[u8]> {
        if index >= self.count {
            None
        } else if index <= self.count / 2 {
            self.iter().nth(index)
        } else {
            self.iter().nth_back(self.count - 1 - index)
        }
    }

    /// Adds an entry at the end.
    ///
    /// # Panics
    /// When an entry is longer than 4 GiB; the protocol's limits are far below.
    #[inline]
    pub fn push_back(&mut self, entry: &[u8]) {
        self.buf.reserve(Pack::entry_bytes(entry.len()));
        write_entry(&mut self.buf, entry);
        self.count += 1;
    }

    /// Adds an entry at the front.
    ///
    /// # Panics
    /// As [`Pack::push_back`].
    #[inline]
    pub fn push_front(&mut self, entry: &[u8]) {
        let need = Pack::entry_bytes(entry.len());
        if self.start < need {
            self.make_room_in_front(need);
        }
        let at = self.start - need;
        place_entry(&mut self.buf[at..self.start], entry);
        self.start = at;
        self.count += 1;
    }

    /// Makes room for `need` bytes in front, and for as much as the content takes, so that pushing
    /// costs constant time on average.
    #[cold]
    fn make_room_in_front(&mut self, need: usize) {
        let used = self.bytes();
        let room = need + used;
        let mut grown = Vec::with_capacity(room + used);
        grown.resize(room, 0);
        grown.extend_from_slice(&self.buf[self.start..]);
        self.buf = grown;
        self.start = room;
    }

    /// Removes the first entry, if there is one, and shows it before it goes.
    #[inline]
    pub fn pop_front<R>(&mut self, look: impl FnOnce(&[u8]) -> R) -> Option<R> {
        let mut walk = self.iter();
        let result = look(walk.next()?);
        self.start = self.buf.len() - walk.bytes.len();
        self.count -= 1;
        self.give_back();
        Some(result)
    }

    /// Removes the last entry, if there is one, and shows it before it goes.
    #[inline]
    pub fn pop_back<R>(&mut self, look: impl FnOnce(&[u8]) -> R) -> Option<R> {
        let mut walk = self.iter();
        let result = look(walk.next_back()?);
        let end = self.start + walk.bytes.len();
        self.buf.truncate(end);
        self.count -= 1;
        self.give_back();
        Some(result)
    }

    /// The entry at `position`, and the position behind it.
    ///
    /// # Panics
    /// When the position is not one of this pack, or at its end.
    #[must_use]
    pub fn at(&self, position: Position) -> (&[u8], Position) {
        let mut walk = Iter {
            bytes: &self.buf[position.0..],
            left: 1,
        };
        let entry = walk.next().expect("a position lies at an entry");
        (entry, Position(self.buf.len() - walk.bytes.len()))
    }

    /// Removes `entries` entries from `position` on.
    ///
    /// # Panics
    /// As [`Pack::at`], for each of them.
    pub fn remove(&mut self, position: Position, entries: usize) {
        let mut end = position;
        for _ in 0..entries {
            end = self.at(end).1;
        }
        self.buf.drain(position.0..end.0);
        self.count -= entries;
        self.give_back();
    }

    /// Replaces the entry at `position`.
    ///
    /// # Panics
    /// As [`Pack::at`].
    pub fn replace(&mut self, position: Position, entry: &[u8]) {
        let (old, end) = self.at(position);
        if old.len() == entry.len() {
            let at = position.0 + length_bytes(entry.len());
            self.buf[at..at + entry.len()].copy_from_slice(entry);
            return;
        }
        let mut encoded = Vec::with_capacity(Pack::entry_bytes(entry.len()));
        write_entry(&mut encoded, entry);
        self.buf.splice(position.0..end.0, encoded);
        self.give_back();
    }

    /// Keeps no room to grow: for a pack that is not going to.
    pub fn shrink(&mut self) {
        if self.buf.capacity() > self.bytes() {
            self.rebuild(0);
        }
    }

    /// Gives memory back when most of it is unused. Costs no more than the changes that led here.
    #[inline]
    fn give_back(&mut self) {
        let used = self.bytes();
        if self.buf.capacity() / 4 > used || self.start > used {
            self.give_back_unused(used);
        }
    }

    #[cold]
    fn give_back_unused(&mut self, used: usize) {
        if self.buf.capacity() > SMALL_CAPACITY && self.buf.capacity() / 4 > used {
            self.rebuild(used);
        } else if self.start > used && self.start > SMALL_CAPACITY {
            self.buf.drain(..self.start);
            self.start = 0;
        }
    }

    fn rebuild(&mut self, room: usize) {
        let mut rebuilt = Vec::with_capacity(self.bytes() + room);
        rebuilt.extend_from_slice(&self.buf[self.start..]);
        self.buf = rebuilt;
        self.start = 0;
    }
}

/// The entries of a [`Pack`].
#[derive(Clone, Debug)]
pub struct Iter<'a> {
    bytes: &'a [u8],
    left: usize,
}

impl<'a> Iterator for Iter<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        self.left = self.left.checked_sub(1)?;
        let bytes = self.bytes;
        let len = match bytes[0] {
            MARK_U16 => usize::from(u16::from_le_bytes([bytes[1], bytes[2]])),
            MARK_U32 => u32::from_le_bytes([bytes[1], bytes[2], bytes[3], bytes[4]]) as usize,
            short => usize::from(short),
        };
        let side = length_bytes(len);
        self.bytes = &bytes[len + 2 * side..];
        Some(&bytes[side..side + len])
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl DoubleEndedIterator for Iter<'_> {
    #[inline]
    fn next_back(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let (bytes, end) = (self.bytes, self.bytes.len());
        let len = match bytes[end - 1] {
            MARK_U16 => usize::from(u16::from_le_bytes([bytes[end - 3], bytes[end - 2]])),
            MARK_U32 => {
                let number = &bytes[end - 5..end - 1];
                u32::from_le_bytes([number[0], number[1], number[2], number[3]]) as usize
            }
            short => usize::from(short),
        };
        let side = length_bytes(len);
        self.bytes = &bytes[..end - len - 2 * side];
        Some(&bytes[end - side - len..end - side])
    }
}

impl ExactSizeIterator for Iter<'_> {}

/// Bytes that a length takes, on each side.
#[inline]
fn length_bytes(len: usize) -> usize {
    if len <= SHORT_MAX {
        1
    } else if len <= usize::from(u16::MAX) {
        3
    } else {
        5
    }
}

/// A length as it stands in front of an entry or, after [`Head::reverse`], behind it.
struct Head {
    encoded: [u8; 5],
    len: usize,
}

impl Head {
    fn new(entry_len: usize) -> Head {
        let number = u32::try_from(entry_len).expect("an entry is shorter than 4 GiB");
        let len = length_bytes(entry_len);
        let le = number.to_le_bytes();
        let encoded = match len {
            1 => [le[0], 0, 0, 0, 0],
            3 => [MARK_U16, le[0], le[1], 0, 0],
            _ => [MARK_U32, le[0], le[1], le[2], le[3]],
        };
        Head { encoded, len }
    }

    /// Moves the mark to the other side of the number.
    fn reverse(&mut self) {
        self.encoded[..self.len].rotate_left(1);
    }

    fn bytes(&self) -> &[u8] {
        &self.encoded[..self.len]
    }
}

#[inline]
fn write_entry(out: &mut Vec<u8>, entry: &[u8]) {
    if entry.len() <= SHORT_MAX {
        let len = entry.len().to_le_bytes()[0];
        out.push(len);
        out.extend_from_slice(entry);
        out.push(len);
        return;
    }
    let mut head = Head::new(entry.len());
    out.extend_from_slice(head.bytes());
    out.extend_from_slice(entry);
    head.reverse();
    out.extend_from_slice(head.bytes());
}

/// Writes an entry into a place that has its size.
#[inline]
fn place_entry(place: &mut [u8], entry: &[u8]) {
    let side = length_bytes(entry.len());
    let end = place.len() - side;
    place[side..end].copy_from_slice(entry);
    // Most entries are short, and so is this way.
    if side == 1 {
        // At most `SHORT_MAX`.
        let len = entry.len().to_le_bytes()[0];
        place[0] = len;
        place[end] = len;
        return;
    }
    let mut head = Head::new(entry.len());
    place[..side].copy_from_slice(head.bytes());
    head.reverse();
    place[end..].copy_from_slice(head.bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    #[derive(Clone, Debug)]
    enum Step {
        PushBack(Vec<u8>),
        PushFront(Vec<u8>),
        DropBack,
        DropFront,
        Remove(usize),
        Replace(usize, Vec<u8>),
    }

    fn entry() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            6 => proptest::collection::vec(any::<u8>(), 0..20),
            2 => proptest::collection::vec(any::<u8>(), 120..300),
            1 => (65_530_usize..65_545).prop_map(|len| vec![0xFE; len]),
        ]
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => entry().prop_map(Step::PushBack),
            3 => entry().prop_map(Step::PushFront),
            2 => Just(Step::DropBack),
            2 => Just(Step::DropFront),
            1 => any::<usize>().prop_map(Step::Remove),
            1 => (any::<usize>(), entry()).prop_map(|(i, e)| Step::Replace(i, e)),
        ]
    }

    fn position(pack: &Pack, index: usize) -> Position {
        let mut at = Position(pack.start);
        for _ in 0..index {
            at = pack.at(at).1;
        }
        at
    }

    fn apply(pack: &mut Pack, model: &mut VecDeque<Vec<u8>>, step: Step) {
        match step {
            Step::PushBack(e) => {
                pack.push_back(&e);
                model.push_back(e);
            }
            Step::PushFront(e) => {
                pack.push_front(&e);
                model.push_front(e);
            }
            Step::DropBack => assert_eq!(pack.pop_back(<[u8]>::to_vec), model.pop_back()),
            Step::DropFront => assert_eq!(pack.pop_front(<[u8]>::to_vec), model.pop_front()),
            Step::Remove(i) if !model.is_empty() => {
                let i = i % model.len();
                pack.remove(position(pack, i), 1);
                model.remove(i);
            }
            Step::Replace(i, e) if !model.is_empty() => {
                let i = i % model.len();
                pack.replace(position(pack, i), &e);
                model[i] = e;
            }
            Step::Remove(_) | Step::Replace(..) => {}
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn pack_behaves_like_a_deque(steps in proptest::collection::vec(step(), 0..80)) {
            let mut pack = Pack::default();
            let mut model = VecDeque::new();
            for step in steps {
                apply(&mut pack, &mut model, step);
                prop_assert_eq!(pack.len(), model.len());
            }
            prop_assert!(pack.iter().eq(model.iter().map(Vec::as_slice)));
            prop_assert!(pack.iter().rev().eq(model.iter().rev().map(Vec::as_slice)));
            for (i, entry) in model.iter().enumerate() {
                prop_assert_eq!(pack.get(i), Some(entry.as_slice()));
            }
            pack.shrink();
            prop_assert_eq!(pack.memory(), allocated(pack.bytes()));
        }
    }

    #[test]
    fn what_is_dropped_gives_its_memory_back() {
        for front in [true, false] {
            let mut pack = Pack::default();
            for _ in 0..1000 {
                pack.push_back(&[7; 100]);
            }
            for _ in 0..999 {
                if front {
                    pack.pop_front(|_| ());
                } else {
                    pack.pop_back(|_| ());
                }
                assert!(pack.memory() <= allocated(4 * pack.bytes() + SMALL_CAPACITY + 3));
            }
        }
    }
}
