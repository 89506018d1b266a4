//! What an allocation costs, and what memory is used for.

use std::ops::AddAssign;

/// What the allocator sets aside for a request of `bytes`: its size class, none for none. A buffer
/// that grows by asking for this capacity wastes nothing and grows by a quarter at most.
#[inline]
#[must_use]
pub fn allocated(bytes: usize) -> usize {
    moon_alloc::good_size(bytes)
}

/// Room for bytes that grow: their number rounded up to a quarter of its power of two. So growing
/// byte by byte copies each of them a constant number of times and wastes at most a quarter.
pub(crate) fn roomy(bytes: usize) -> usize {
    let step = (bytes.next_power_of_two() / 8).max(16);
    bytes.div_ceil(step) * step
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_at_least_the_length_and_at_most_a_quarter_more() {
        for len in (1..5000).chain([65_535, 65_536, 65_537, 1 << 29]) {
            let room = roomy(len);
            assert!(room >= len, "{len}");
            assert!(room <= len + (len / 4).max(16), "{len}: {room}");
            assert!(roomy(room) == room, "{len}: growing to the room is free");
        }
    }
}
