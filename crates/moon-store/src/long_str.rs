//! A heap string behind a thin pointer, so that a whole value fits into 16 bytes.
//!
//! `Box<[u8]>` and `Vec<u8>` need 16 and 24 bytes for themselves, which leaves no room for the
//! tag of the value. Here the length is 32 bits, and the capacity is not stored at all: it
//! follows from the length and from whether the string was ever changed in place.
//!
//! This module uses `unsafe`. Check it under AddressSanitizer after every change:
//! `RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address cargo test -p moon-store --target
//! x86_64-unknown-linux-gnu`.
#![allow(unsafe_code)]

use crate::memory::roomy;
use std::alloc::{Layout, alloc, dealloc, handle_alloc_error, realloc};
use std::fmt;
use std::ptr::NonNull;

/// Longest string, in bytes. Commands refuse longer ones (`proto-max-bulk-len`) before they get
/// here.
pub const STRING_LEN_MAX: usize = u32::MAX as usize;

/// A string on the heap.
///
/// # Invariants
/// * `ptr` came from the global allocator with the layout of `capacity()` bytes, alignment 1.
/// * The first `len` bytes are initialised.
/// * Nobody else holds `ptr`.
//
// `repr(C)`: the flag is the first byte, and its unused bit patterns are where the enums around
// this type keep their tags.
#[repr(C)]
pub(crate) struct LongStr {
    modified: bool,
    len: u32,
    ptr: NonNull<u8>,
}

// SAFETY: the pointer is owned exclusively, and bytes may be sent and shared.
unsafe impl Send for LongStr {}
// SAFETY: as above; shared access only reads.
unsafe impl Sync for LongStr {}

impl LongStr {
    /// A copy of `bytes`, in an allocation of exactly that size.
    pub(crate) fn new(bytes: &[u8]) -> LongStr {
        Self::with_parts(bytes, &[], false)
    }

    /// `head` and `tail` joined, with room to grow.
    pub(crate) fn modified(head: &[u8], tail: &[u8]) -> LongStr {
        Self::with_parts(head, tail, true)
    }

    fn with_parts(head: &[u8], tail: &[u8], modified: bool) -> LongStr {
        let len = checked_len(head.len() + tail.len());
        let layout = layout(modified, len);
        // SAFETY: the layout has at least one byte.
        let ptr = unsafe { alloc(layout) };
        let Some(ptr) = NonNull::new(ptr) else {
            handle_alloc_error(layout)
        };
        // SAFETY: the allocation holds `len` bytes and is new, so it overlaps neither source.
        unsafe {
            ptr.as_ptr()
                .copy_from_nonoverlapping(head.as_ptr(), head.len());
            ptr.as_ptr()
                .add(head.len())
                .copy_from_nonoverlapping(tail.as_ptr(), tail.len());
        }
        LongStr { modified, len, ptr }
    }

    #[inline]
    pub(crate) fn as_slice(&self) -> &[u8] {
        // SAFETY: `len` bytes are initialised and live as long as `self`.
        unsafe { std::slice::from_raw_parts(self.ptr.as_ptr(), self.len as usize) }
    }

    #[inline]
    pub(crate) fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: as above, and `self` is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.ptr.as_ptr(), self.len as usize) }
    }

    /// Whether it was ever changed in place.
    pub(crate) fn is_modified(&self) -> bool {
        self.modified
    }

    /// Bytes allocated.
    pub(crate) fn capacity(&self) -> usize {
        layout(self.modified, self.len).size()
    }

    /// Marks the string as changed in place and makes it `new_len` bytes long; new bytes are
    /// zero. Does nothing to the length if it is that long already.
    pub(crate) fn extend_to(&mut self, new_len: usize) {
        let old_len = self.len as usize;
        let len = checked_len(new_len.max(old_len));
        let (old, new) = (layout(self.modified, self.len), layout(true, len));
        if old.size() != new.size() {
            // SAFETY: `ptr` was allocated with the layout `old`; the new size is not zero, and
            // fits into `isize` because it is rounded up from 32 bits.
            let ptr = unsafe { realloc(self.ptr.as_ptr(), old, new.size()) };
            let Some(ptr) = NonNull::new(ptr) else {
                handle_alloc_error(new)
            };
            self.ptr = ptr;
        }
        // From here on the layout is `new`, whatever happens below.
        self.modified = true;
        let added = len as usize - old_len;
        // SAFETY: the allocation holds `len` bytes, and `old_len + added == len`.
        unsafe { self.ptr.as_ptr().add(old_len).write_bytes(0, added) };
        self.len = len;
    }

    /// Overwrites the whole string; `false`, and nothing happens, unless `bytes` has its length
    /// and it was never changed in place.
    #[inline]
    pub(crate) fn overwrite(&mut self, bytes: &[u8]) -> bool {
        let fits = !self.modified && bytes.len() == self.len as usize;
        if fits {
            self.as_mut_slice().copy_from_slice(bytes);
        }
        fits
    }

    /// Appends `tail`.
    pub(crate) fn append(&mut self, tail: &[u8]) {
        let old_len = self.len as usize;
        self.extend_to(old_len + tail.len());
        self.as_mut_slice()[old_len..].copy_from_slice(tail);
    }
}

fn checked_len(len: usize) -> u32 {
    u32::try_from(len).expect("commands refuse strings longer than STRING_LEN_MAX")
}

/// The layout of a string: exact, or with room to grow once it was changed in place.
fn layout(modified: bool, len: u32) -> Layout {
    let len = (len as usize).max(1);
    let size = if modified { roomy(len) } else { len };
    Layout::array::<u8>(size).expect("a size near 32 bits fits into isize")
}

impl Drop for LongStr {
    fn drop(&mut self) {
        // SAFETY: `ptr` was allocated with this layout and nobody else holds it.
        unsafe { dealloc(self.ptr.as_ptr(), layout(self.modified, self.len)) };
    }
}

impl Clone for LongStr {
    fn clone(&self) -> LongStr {
        Self::with_parts(self.as_slice(), &[], self.modified)
    }
}

impl fmt::Debug for LongStr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_slice().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn appending_byte_by_byte_allocates_rarely() {
        let mut s = LongStr::new(b"x");
        let (mut capacities, mut last) = (0, 0);
        for _ in 0..100_000 {
            s.append(b"y");
            if s.capacity() != last {
                last = s.capacity();
                capacities += 1;
            }
        }
        assert_eq!(s.as_slice().len(), 100_001);
        assert!(s.as_slice()[1..].iter().all(|b| *b == b'y'));
        assert!(capacities < 80, "{capacities}");
    }

    #[test]
    fn a_clone_is_equal_and_separate() {
        let mut a = LongStr::modified(b"abc", b"def");
        let b = a.clone();
        a.as_mut_slice()[0] = b'z';
        a.extend_to(40);
        assert_eq!(b.as_slice(), b"abcdef");
        assert_eq!(&a.as_slice()[..7], b"zbcdef\0");
    }
}
