//! Shards: parts of the keyspace, each owned by one thread.

use crate::slot::{SLOT_COUNT, Slot, key_slot};
use std::fmt;

/// The number of one shard, from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(pub u16);

impl ShardId {
    /// As an index into per-shard arrays.
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "shard {}", self.0)
    }
}

/// How many shards an instance has: 1 to [`ShardCount::MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardCount(u16);

impl ShardCount {
    /// One shard.
    pub const ONE: ShardCount = ShardCount(1);
    /// The largest count: a borrow names its shards in one 64-bit set.
    pub const MAX: u16 = 64;

    /// `None` unless `1 <= count <= MAX`.
    #[must_use]
    pub fn new(count: u16) -> Option<ShardCount> {
        (1..=Self::MAX)
            .contains(&count)
            .then_some(ShardCount(count))
    }

    /// The count as a number.
    #[must_use]
    pub fn get(self) -> u16 {
        self.0
    }

    /// Every shard, in order.
    pub fn ids(self) -> impl ExactSizeIterator<Item = ShardId> {
        (0..self.0).map(ShardId)
    }

    /// The shard that owns `slot`: contiguous, evenly sized ranges of slots.
    #[must_use]
    pub fn shard_of_slot(self, slot: Slot) -> ShardId {
        // slot < SLOT_COUNT, so the quotient is below the count and fits.
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the quotient is below the shard count"
        )]
        ShardId((u32::from(slot.0) * u32::from(self.0) / u32::from(SLOT_COUNT)) as u16)
    }

    /// The shard that owns `key`.
    #[inline]
    #[must_use]
    pub fn shard_of_key(self, key: &[u8]) -> ShardId {
        if self.0 == 1 {
            return ShardId(0);
        }
        self.shard_of_slot(key_slot(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_slot_belongs_to_a_shard_and_ranges_are_even() {
        for count in [1, 2, 3, 7, 64] {
            let shards = ShardCount::new(count).unwrap();
            let mut owned = vec![0u32; usize::from(count)];
            for slot in 0..SLOT_COUNT {
                owned[shards.shard_of_slot(Slot(slot)).index()] += 1;
            }
            let (min, max) = (owned.iter().min().unwrap(), owned.iter().max().unwrap());
            assert!(max - min <= 1, "{count} shards: {min}..{max}");
        }
    }

    #[test]
    fn shard_count_is_bounded() {
        assert!(ShardCount::new(0).is_none());
        assert!(ShardCount::new(ShardCount::MAX + 1).is_none());
    }
}
