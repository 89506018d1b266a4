//! Owners of heap memory that leave room for a tag beside them in a value of 16 bytes.
//!
//! A small collection is one buffer, and there may be millions of them. A `Vec` for the buffer in
//! a box of its own would cost 24 bytes and a second allocation each. [`ThinBuf`] has alignment 1
//! and takes 15 bytes in all: the address, the length in 32 bits, the number of entries in 16, and
//! one byte that says how the bytes are to be read. The capacity is not stored: it follows from
//! the length, as the size class of the allocator that the length falls into. [`ThinBox`] is a
//! `Box` of alignment 1, for the large form that lies in the same place.
//!
//! ```text
//! Value:  │ tag │ reading │ count, 2 │ length, 4 │ address, 8 │
//! ```
//!
//! This module uses `unsafe`. It is sound as long as every change of `len` goes through
//! [`ThinBuf::set_len`], which keeps the allocation that of [`room`]. Check it under
//! AddressSanitizer after every change, as `long_str` says.
#![allow(unsafe_code)]

use crate::memory::{allocated, roomy};
use crate::prefetch::prefetch_bytes;
use std::alloc::{Layout, alloc, dealloc, handle_alloc_error, realloc};
use std::fmt;
use std::ops::{Deref, DerefMut, Range};
use std::ptr::NonNull;

/// Most entries that a [`ThinBuf`] counts.
pub(crate) const COUNT_MAX: usize = u16::MAX as usize;

/// Small forms with more bytes than this take no more entries, whatever the thresholds say. Far
/// below what 32 bits count: the entry that passes it still fits.
pub(crate) const BYTES_MAX: usize = 1 << 30;

/// Up to this length a buffer has the room of its size class and no more.
const EXACT_MAX: usize = 256 << 10;

/// Bytes that a buffer of this length allocates: its size class. Long buffers grow by an eighth
/// at least, so that each byte is copied a constant number of times.
fn room(len: usize) -> usize {
    allocated(if len <= EXACT_MAX { len } else { roomy(len) })
}

fn layout(len: usize) -> Layout {
    Layout::array::<u8>(room(len)).expect("a size near 32 bits fits into isize")
}

/// Bytes on the heap with a number of entries, and with what `F` says about how to read them.
///
/// # Invariants
/// * `ptr` came from the global allocator with `layout(len)`, or dangles if `len` is 0.
/// * The first `len` bytes are initialised.
/// * Nobody else holds `ptr`.
//
// `repr(C)`: `F` is the first byte, and its unused bit patterns are where the enums around this
// type keep their tags.
#[repr(C, packed)]
pub(crate) struct ThinBuf<F: Copy> {
    reading: F,
    count: u16,
    len: u32,
    ptr: NonNull<u8>,
}

const _: () = assert!(size_of::<ThinBuf<bool>>() == 15 && align_of::<ThinBuf<bool>>() == 1);

// SAFETY: the pointer is owned exclusively, and bytes may be sent and shared.
unsafe impl<F: Copy + Send> Send for ThinBuf<F> {}
// SAFETY: as above; shared access only reads.
unsafe impl<F: Copy + Sync> Sync for ThinBuf<F> {}

impl<F: Copy> ThinBuf<F> {
    /// No bytes, no entries; allocates nothing.
    pub(crate) const fn new(reading: F) -> ThinBuf<F> {
        ThinBuf {
            reading,
            count: 0,
            len: 0,
            ptr: NonNull::dangling(),
        }
    }

    /// So many bytes, all zero, and no entries.
    pub(crate) fn zeroed(reading: F, len: usize) -> ThinBuf<F> {
        let mut buf = Self::new(reading);
        buf.set_len(len);
        buf
    }

    /// How the bytes are to be read.
    #[inline]
    pub(crate) fn reading(&self) -> F {
        self.reading
    }

    /// Number of entries, as it was set.
    #[inline]
    pub(crate) fn count(&self) -> usize {
        usize::from(self.count)
    }

    /// Sets the number of entries.
    ///
    /// # Panics
    /// Above [`COUNT_MAX`], which the caller keeps below.
    #[inline]
    pub(crate) fn set_count(&mut self, count: usize) {
        self.count = u16::try_from(count).expect("a small form has no more than COUNT_MAX entries");
    }

    /// Bytes allocated.
    pub(crate) fn memory(&self) -> usize {
        room(self.len as usize)
    }

    /// Starts loading the bytes.
    #[inline]
    pub(crate) fn prefetch(&self) {
        prefetch_bytes(self);
    }

    /// Makes room for `bytes` bytes in place of those at `at`, and returns it: whatever stands in
    /// there is to be overwritten.
    pub(crate) fn replace(&mut self, at: Range<usize>, bytes: usize) -> &mut [u8] {
        let (start, end, old_len) = (at.start, at.end, self.len as usize);
        let new_end = start + bytes;
        if bytes > at.len() {
            self.set_len(old_len + (bytes - at.len()));
            self.copy_within(end..old_len, new_end);
        } else if bytes < at.len() {
            self.copy_within(end..old_len, new_end);
            self.set_len(old_len - (at.len() - bytes));
        }
        &mut self[start..new_end]
    }

    /// Makes room for `bytes` bytes more at the end, and returns it.
    #[inline]
    pub(crate) fn extend(&mut self, bytes: usize) -> &mut [u8] {
        let len = self.len as usize;
        self.set_len(len + bytes);
        &mut self[len..]
    }

    /// Changes the length; new bytes are zero.
    ///
    /// # Panics
    /// At 4 GiB; small forms end far below.
    pub(crate) fn set_len(&mut self, len: usize) {
        let new_len = u32::try_from(len).expect("a small form is shorter than 4 GiB");
        let old_len = self.len as usize;
        let (old, new) = (layout(old_len), layout(len));
        if old.size() != new.size() {
            self.ptr = if new.size() == 0 {
                // SAFETY: the old size is not zero, so `ptr` was allocated with this layout.
                unsafe { dealloc(self.ptr.as_ptr(), old) };
                NonNull::dangling()
            } else if old.size() > 0 && new.size() > old.size() {
                // SAFETY: `ptr` was allocated with the layout `old`, and the new size, which is
                // not zero, fits into `isize`.
                let ptr = unsafe { realloc(self.ptr.as_ptr(), old, new.size()) };
                NonNull::new(ptr).unwrap_or_else(|| handle_alloc_error(new))
            } else {
                // The allocator may leave a block that shrinks where it is, and its size as it
                // is: memory would not be given back, and be counted as if it were.
                moved(self.ptr, old, new)
            };
        }
        if len > old_len {
            // SAFETY: the allocation holds `len` bytes.
            unsafe {
                let end = self.ptr.as_ptr().add(old_len);
                end.write_bytes(0, len - old_len);
            }
        }
        self.len = new_len;
    }
}

/// A new allocation with what fits of the old one, which is freed if there is one.
fn moved(ptr: NonNull<u8>, old: Layout, new: Layout) -> NonNull<u8> {
    debug_assert!(new.size() > 0, "nothing to allocate");
    // SAFETY: the new size is not zero.
    let fresh = unsafe { alloc(new) };
    let fresh = NonNull::new(fresh).unwrap_or_else(|| handle_alloc_error(new));
    if old.size() > 0 {
        // SAFETY: both allocations hold so many bytes, and the new one overlaps nothing. `ptr` was
        // allocated with the layout `old`, and the caller gives it up. Bytes that were never
        // initialised are copied as such.
        unsafe {
            let bytes = old.size().min(new.size());
            fresh.copy_from_nonoverlapping(ptr, bytes);
            dealloc(ptr.as_ptr(), old);
        }
    }
    fresh
}

impl<F: Copy> Deref for ThinBuf<F> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        let (ptr, len) = (self.ptr, self.len as usize);
        // SAFETY: `len` bytes are initialised and live as long as `self`; none are read at 0.
        unsafe { std::slice::from_raw_parts(ptr.as_ptr(), len) }
    }
}

impl<F: Copy> DerefMut for ThinBuf<F> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        let (ptr, len) = (self.ptr, self.len as usize);
        // SAFETY: as above, and `self` is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(ptr.as_ptr(), len) }
    }
}

impl<F: Copy> Drop for ThinBuf<F> {
    fn drop(&mut self) {
        let layout = layout(self.len as usize);
        if layout.size() > 0 {
            // SAFETY: `ptr` was allocated with this layout and nobody else holds it.
            unsafe { dealloc(self.ptr.as_ptr(), layout) };
        }
    }
}

impl<F: Copy> Clone for ThinBuf<F> {
    fn clone(&self) -> Self {
        let mut clone = Self::zeroed(self.reading, self.len as usize);
        clone.copy_from_slice(self);
        clone.count = self.count;
        clone
    }
}

impl<F: Copy> fmt::Debug for ThinBuf<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// A `Box` of alignment 1.
///
/// # Invariants
/// `ptr` came from a `Box<T>`, and nobody else holds it.
#[repr(C, packed)]
pub(crate) struct ThinBox<T> {
    ptr: NonNull<T>,
}

// SAFETY: a `ThinBox` owns its content as a `Box` does.
unsafe impl<T: Send> Send for ThinBox<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for ThinBox<T> {}

impl<T> ThinBox<T> {
    pub(crate) fn new(content: T) -> ThinBox<T> {
        let ptr = NonNull::from(Box::leak(Box::new(content)));
        ThinBox { ptr }
    }
}

impl<T> Deref for ThinBox<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        let ptr = self.ptr;
        // SAFETY: the content is there until `self` is dropped.
        unsafe { ptr.as_ref() }
    }
}

impl<T> DerefMut for ThinBox<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        let mut ptr = self.ptr;
        // SAFETY: as above, and `self` is borrowed exclusively.
        unsafe { ptr.as_mut() }
    }
}

impl<T> Drop for ThinBox<T> {
    fn drop(&mut self) {
        // SAFETY: `ptr` came from a box and is used no more.
        drop(unsafe { Box::from_raw(self.ptr.as_ptr()) });
    }
}

impl<T: Clone> Clone for ThinBox<T> {
    fn clone(&self) -> Self {
        ThinBox::new((**self).clone())
    }
}

impl<T: fmt::Debug> fmt::Debug for ThinBox<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::rc::Rc;

    #[derive(Clone, Debug)]
    enum Step {
        Extend(u8, usize),
        Replace(usize, usize, u8, usize),
        SetLen(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        let len = prop_oneof![4 => 0..40_usize, 1 => 0..2000_usize];
        prop_oneof![
            3 => (any::<u8>(), len.clone()).prop_map(|(b, n)| Step::Extend(b, n)),
            3 => (any::<usize>(), 0..60_usize, any::<u8>(), len)
                .prop_map(|(at, old, b, n)| Step::Replace(at, old, b, n)),
            1 => (0..300_usize).prop_map(Step::SetLen),
        ]
    }

    proptest! {
        #[test]
        fn thin_buf_behaves_like_a_vec(steps in proptest::collection::vec(step(), 0..60)) {
            let mut buf = ThinBuf::new(false);
            let mut model = Vec::new();
            for step in steps {
                match step {
                    Step::Extend(byte, len) => {
                        buf.extend(len).fill(byte);
                        model.resize(model.len() + len, byte);
                    }
                    Step::Replace(at, old, byte, len) => {
                        let start = at % (model.len() + 1);
                        let end = (start + old).min(model.len());
                        buf.replace(start..end, len).fill(byte);
                        model.splice(start..end, std::iter::repeat_n(byte, len));
                    }
                    Step::SetLen(len) => {
                        buf.set_len(len);
                        model.resize(len, 0);
                    }
                }
                prop_assert_eq!(&*buf, model.as_slice());
                prop_assert_eq!(&*buf.clone(), model.as_slice());
                prop_assert_eq!(buf.memory(), allocated(model.len()));
            }
        }
    }

    #[test]
    fn growing_byte_by_byte_allocates_rarely() {
        let mut buf = ThinBuf::new(());
        let (mut changes, mut copied, mut last) = (0, 0, 0);
        for len in 1..=2_000_000 {
            buf.set_len(len);
            if buf.memory() != last {
                (changes, copied) = (changes + 1, copied + len);
                last = buf.memory();
            }
            assert!(buf.memory() <= len + len / 4 + 16, "{len}");
        }
        assert!(changes < 80, "{changes}");
        assert!(copied < 8 * 2_000_000, "{copied}");
    }

    #[test]
    fn a_box_drops_its_content_once() {
        let content = Rc::new(7);
        let mut thin = ThinBox::new(Rc::clone(&content));
        let other = thin.clone();
        assert_eq!((**thin, **other, Rc::strong_count(&content)), (7, 7, 3));
        *thin = Rc::new(8);
        assert_eq!((**thin, Rc::strong_count(&content)), (8, 2));
        drop((thin, other));
        assert_eq!(Rc::strong_count(&content), 1);
    }
}
