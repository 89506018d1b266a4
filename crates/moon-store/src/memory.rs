//! What an allocation costs, and what memory is used for.

use std::ops::AddAssign;

/// What the allocator sets aside for a request of `bytes`: its size class, none for none. A buffer
/// that grows by asking for this capacity wastes nothing and grows by a quarter at most.
#[inline]
#[must_use]
pub fn allocated(bytes: usize) -> usize {
    moon_alloc::good_size(bytes)
}

/// What the memory of data is used for, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryParts {
    /// Tables of keys, with short keys and values in them.
    pub keyspace: usize,
    /// What keys and values own outside the tables.
    pub values: usize,
    /// Tables of deadlines.
    pub expiry: usize,
}

impl AddAssign for MemoryParts {
    fn add_assign(&mut self, other: MemoryParts) {
        self.keyspace += other.keyspace;
        self.values += other.values;
        self.expiry += other.expiry;
    }
}
