//! What an allocation costs.

/// What the allocator sets aside for a request of `bytes`: its size class, none for none.
#[inline]
#[must_use]
pub fn allocated(bytes: usize) -> usize {
    moon_alloc::good_size(bytes)
}

/// The smallest capacity of at least `bytes` that an allocator serves without rounding: multiples
/// of 16 up to 128, then four sizes to each doubling, as mimalloc and jemalloc have them. A buffer
/// that grows by asking for this wastes nothing and grows by a quarter at most.
#[must_use]
pub fn size_class(bytes: usize) -> usize {
    if bytes <= 128 {
        return allocated(bytes);
    }
    let step = 1 << ((bytes - 1).ilog2() - 2);
    bytes.next_multiple_of(step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_hold_what_is_asked_and_at_most_a_quarter_more() {
        for bytes in 1..5000_usize {
            let class = size_class(bytes);
            assert!(class >= bytes && class == allocated(class), "{bytes}");
            assert!(bytes <= 128 || class * 4 <= bytes * 5, "{bytes}: {class}");
            assert_eq!(size_class(class), class, "{bytes}");
        }
        assert_eq!([129, 160, 161, 513].map(size_class), [160, 160, 192, 640]);
    }
}
