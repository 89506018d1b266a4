//! The size classes of mimalloc: what it sets aside for a request.

/// Requests up to this many bytes come in classes; larger ones take whole pages.
const CLASS_MAX: usize = 512 << 10;

/// The memory page that large requests are rounded up to.
const PAGE: usize = 4096;

/// Bytes that the allocator sets aside for a request of `bytes`; none for none.
///
/// Up to 64 bytes they are rounded up to a multiple of 16 (or 8 in all), above that to one of
/// four classes per doubling.
#[inline]
#[must_use]
pub const fn good_size(bytes: usize) -> usize {
    if bytes <= 64 {
        return if bytes > 8 {
            (bytes + 15) & !15
        } else if bytes > 0 {
            8
        } else {
            0
        };
    }
    if bytes > CLASS_MAX {
        return match bytes.checked_next_multiple_of(PAGE) {
            Some(size) => size,
            None => bytes,
        };
    }
    // Not zero, because bytes is above 64.
    let last = bytes - 1;
    let step = 1usize << (last.ilog2() - 2);
    (last & !(step - 1)) + step
}

#[cfg(test)]
mod tests {
    #![allow(unsafe_code)]
    use super::*;

    #[test]
    fn classes_are_those_of_the_allocator() {
        for bytes in 1..=(1 << 20) {
            // SAFETY: a pure function of its argument.
            let expected = unsafe { libmimalloc_sys::mi_good_size(bytes) };
            assert_eq!(good_size(bytes), expected, "{bytes} bytes");
        }
        assert_eq!(good_size(0), 0);
        assert_eq!(good_size(usize::MAX), usize::MAX);
    }
}
