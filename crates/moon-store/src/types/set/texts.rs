//! Members one after the other in one buffer: the small form of a set that is not of integers.
//!
//! ```text
//! [ length │ member ] [ length │ member ] ...
//! ```
//!
//! A length up to 253 takes one byte. A longer one takes two or four, with a mark in front.

use crate::thin::{BYTES_MAX, COUNT_MAX, ThinBuf};
use crate::types::PackLimits;
use std::ops::Range;

/// The length stands in the next two bytes.
const TWO_BYTES: u8 = 0xFE;
/// The length stands in the next four bytes.
const FOUR_BYTES: u8 = 0xFF;

/// Members in the order in which they came.
///
/// # Invariants
/// `buf` is exactly as many well-formed members as it counts.
#[derive(Clone, Debug)]
pub(super) struct Texts {
    buf: ThinBuf<()>,
}

impl Default for Texts {
    fn default() -> Self {
        Texts {
            buf: ThinBuf::new(()),
        }
    }
}

impl Texts {
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.buf.count()
    }

    /// Bytes on the heap.
    pub(super) fn memory(&self) -> usize {
        self.buf.memory()
    }

    /// Starts loading the members.
    #[inline]
    pub(super) fn prefetch(&self) {
        self.buf.prefetch();
    }

    /// Whether there is room for one more member, and for this one.
    #[inline]
    pub(super) fn admits(&self, member: &[u8], limits: PackLimits) -> bool {
        self.len() < limits.entries.min(COUNT_MAX)
            && member.len() <= limits.value_bytes.min(BYTES_MAX)
            && self.buf.len() <= BYTES_MAX
    }

    /// All members.
    #[inline]
    pub(super) fn iter(&self) -> Iter<'_> {
        Iter {
            bytes: &self.buf,
            left: self.len(),
        }
    }

    /// The member that begins at a byte, which is then moved to the next one; `None` at the end.
    pub(super) fn next_from(&self, at: &mut usize) -> Option<&[u8]> {
        let bytes = self.buf.get(*at..).filter(|bytes| !bytes.is_empty())?;
        let range = head(bytes);
        *at += range.end;
        Some(&bytes[range])
    }

    /// Where a member lies, with its length.
    #[inline]
    pub(super) fn find(&self, member: &[u8]) -> Option<Range<usize>> {
        let mut start = 0;
        while start < self.buf.len() {
            let bytes = &self.buf[start..];
            let range = head(bytes);
            let end = start + range.end;
            let here = &bytes[range];
            // Members of one set often begin alike, and less often end alike.
            if here.len() == member.len() && here.last() == member.last() && here == member {
                return Some(start..end);
            }
            start = end;
        }
        None
    }

    /// Adds a member that is not there.
    ///
    /// # Panics
    /// Where [`Texts::admits`] was not asked.
    pub(super) fn push(&mut self, member: &[u8]) {
        let len = u32::try_from(member.len()).expect("a member is shorter than BYTES_MAX");
        let le = len.to_le_bytes();
        let (mark, more) = match le {
            [short, 0, 0, 0] if short < TWO_BYTES => (short, 0),
            [_, _, 0, 0] => (TWO_BYTES, 2),
            _ => (FOUR_BYTES, 4),
        };
        let out = self.buf.extend(1 + more + member.len());
        out[0] = mark;
        out[1..1 + more].copy_from_slice(&le[..more]);
        out[1 + more..].copy_from_slice(member);
        self.buf.set_count(self.len() + 1);
    }

    /// Removes the member that lies there.
    pub(super) fn remove(&mut self, at: Range<usize>) {
        self.buf.replace(at, 0);
        self.buf.set_count(self.len() - 1);
    }
}

/// Where the first member lies.
#[inline]
fn head(bytes: &[u8]) -> Range<usize> {
    let (start, len) = match bytes[0] {
        TWO_BYTES => (3, usize::from(u16::from_le_bytes([bytes[1], bytes[2]]))),
        FOUR_BYTES => {
            let number = [bytes[1], bytes[2], bytes[3], bytes[4]];
            (5, u32::from_le_bytes(number) as usize)
        }
        short => (1, usize::from(short)),
    };
    start..start + len
}

/// The members of a [`Texts`].
#[derive(Clone, Debug)]
pub(super) struct Iter<'a> {
    bytes: &'a [u8],
    left: usize,
}

impl<'a> Iterator for Iter<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        self.left = self.left.checked_sub(1)?;
        let range = head(self.bytes);
        let (here, behind) = self.bytes.split_at(range.end);
        self.bytes = behind;
        Some(&here[range])
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Iter<'_> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_of_every_length_come_back() {
        const LENGTHS: [usize; 9] = [0, 1, 127, 253, 254, 255, 256, 65_535, 65_536];
        let mut texts = Texts::default();
        for len in LENGTHS {
            texts.push(&vec![b'm'; len]);
        }
        assert!(texts.iter().map(<[u8]>::len).eq(LENGTHS));
        let mut at = 0;
        for len in LENGTHS {
            assert_eq!(texts.next_from(&mut at).map(<[u8]>::len), Some(len));
            let there = texts.find(&vec![b'm'; len]).expect("it was added");
            let mut less = texts.clone();
            less.remove(there);
            assert_eq!(less.find(&vec![b'm'; len]), None);
            assert_eq!(less.len(), LENGTHS.len() - 1);
        }
        assert_eq!(texts.next_from(&mut at), None);
    }

    #[test]
    fn a_buffer_admits_no_more_than_it_counts() {
        let limits = PackLimits {
            entries: usize::MAX,
            value_bytes: usize::MAX,
        };
        let mut buf = ThinBuf::zeroed((), COUNT_MAX - 1);
        buf.set_count(COUNT_MAX - 1);
        let mut texts = Texts { buf };
        assert!(texts.admits(b"last", limits));
        texts.push(b"last");
        assert!(!texts.admits(b"one too many", limits));
    }
}
