//! What an allocation costs.

/// What the allocator sets aside for a request of `bytes`: its size class, none for none. A buffer
/// that grows by asking for this capacity wastes nothing and grows by a quarter at most.
#[inline]
#[must_use]
pub fn allocated(bytes: usize) -> usize {
    moon_alloc::good_size(bytes)
}
