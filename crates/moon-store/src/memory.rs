//! Estimates of what an allocation costs.

/// What the allocator sets aside for a request of `bytes`: rounded up to 16, none for none.
#[must_use]
pub fn allocated(bytes: usize) -> usize {
    bytes.next_multiple_of(16)
}
