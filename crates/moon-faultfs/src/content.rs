//! The bytes of a file: sparse pages that copies share until one of them changes.
//!
//! A log preallocates megabytes and writes little of them, and every file exists twice (as it is
//! and as it was last synced), so holes cost nothing and equal pages are stored once.

use std::collections::BTreeMap;
use std::sync::Arc;

/// Bytes per page.
const PAGE: usize = 4096;

/// A sequence of bytes with a length; what was never written reads as zero.
///
/// # Invariants
/// No page lies wholly behind the length, and bytes of the last page behind it are zero.
#[derive(Clone, Debug, Default)]
pub(crate) struct Content {
    pages: BTreeMap<u64, Arc<[u8; PAGE]>>,
    len: u64,
}

impl Content {
    /// Length in bytes.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Up to `len` bytes from `offset` on; fewer at the end.
    pub(crate) fn read(&self, offset: u64, len: usize) -> Vec<u8> {
        let end = offset.saturating_add(len as u64).min(self.len);
        let Some(len) = end.checked_sub(offset) else {
            return Vec::new();
        };
        let mut bytes = vec![0; as_usize(len)];
        for (at, number, within) in pieces(offset, bytes.len()) {
            if let Some(page) = self.pages.get(&number) {
                bytes[at..at + within.len()].copy_from_slice(&page[within]);
            }
        }
        bytes
    }

    /// Writes `bytes` at `offset`, making the file longer if need be.
    pub(crate) fn write(&mut self, offset: u64, bytes: &[u8]) {
        self.len = self.len.max(offset + bytes.len() as u64);
        self.patch(offset, bytes);
    }

    /// Writes those of `bytes` that lie within the file.
    pub(crate) fn patch(&mut self, offset: u64, bytes: &[u8]) {
        let room = self.len.saturating_sub(offset);
        let bytes = &bytes[..bytes.len().min(as_usize(room))];
        for (at, number, within) in pieces(offset, bytes.len()) {
            let page = self
                .pages
                .entry(number)
                .or_insert_with(|| Arc::new([0; PAGE]));
            let len = within.len();
            Arc::make_mut(page)[within].copy_from_slice(&bytes[at..at + len]);
        }
    }

    /// Cuts the file off at `len` bytes, or extends it with zeros.
    pub(crate) fn set_len(&mut self, len: u64) {
        if len < self.len {
            self.pages.split_off(&len.div_ceil(PAGE as u64));
            if let Some(page) = self.pages.get_mut(&(len / PAGE as u64)) {
                Arc::make_mut(page)[as_usize(len % PAGE as u64)..].fill(0);
            }
        }
        self.len = len;
    }

    /// Makes the file at least `len` bytes long.
    pub(crate) fn grow(&mut self, len: u64) {
        self.len = self.len.max(len);
    }
}

/// The parts of `offset..offset + len` by page: position in the range, page number, range in the
/// page.
fn pieces(offset: u64, len: usize) -> impl Iterator<Item = (usize, u64, std::ops::Range<usize>)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        if at == len {
            return None;
        }
        let position = offset + at as u64;
        let begin = as_usize(position % PAGE as u64);
        let end = PAGE.min(begin + len - at);
        let piece = (at, position / PAGE as u64, begin..end);
        at += end - begin;
        Some(piece)
    })
}

fn as_usize(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_reads_as_the_same_bytes_in_a_vector() {
        let mut content = Content::default();
        let mut model: Vec<u8> = Vec::new();
        let steps = [
            (0, 10),
            (4090, 20),
            (20_000, 5000),
            (8000, 1),
            (4095, 8194),
            (3, 0),
        ];
        for (number, (offset, len)) in (1..).zip(steps) {
            let bytes = vec![number; len];
            content.write(offset as u64, &bytes);
            model.resize(model.len().max(offset + len), 0);
            model[offset..offset + len].copy_from_slice(&bytes);
            assert_eq!(content.read(0, 1 << 20), model);
            assert_eq!(
                content.read(4000, 200),
                model[4000.min(model.len())..4200.min(model.len())]
            );
        }
        for len in [24_000, 20_001, 4096, 4000, 30_000, 0, 5] {
            content.set_len(len as u64);
            model.resize(len, 0);
            assert_eq!(content.read(0, 1 << 20), model, "{len}");
        }
    }

    #[test]
    fn a_copy_keeps_its_bytes() {
        let mut content = Content::default();
        content.write(0, b"before");
        let copy = content.clone();
        content.write(0, b"after!");
        assert_eq!(copy.read(0, 10), b"before");
        assert_eq!(content.read(0, 10), b"after!");
    }

    #[test]
    fn bytes_behind_the_end_are_not_patched() {
        let mut content = Content::default();
        content.set_len(3);
        content.patch(1, b"abc");
        content.patch(9, b"x");
        content.grow(6);
        assert_eq!(content.read(0, 10), b"\0ab\0\0\0");
    }
}
