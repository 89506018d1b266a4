//! The memory of a table: blocks of one size, without gaps.
//!
//! Segments come, go and change size all the time. If each had memory of its own size, the
//! allocator would keep what no other size can use. Here all take blocks of one size, numbered
//! from 0 without gaps: where one is given back, the last one moves. So a table never holds more
//! than its blocks and the rest of one slab.

use super::group::{Group, SLOTS};
use crate::memory::allocated;

/// Groups of a block.
pub(super) const GROUPS: usize = 8;

/// Entries for which a block has places.
pub(super) const BLOCK_SLOTS: usize = GROUPS * SLOTS;

/// Blocks are asked of the allocator in slabs that just fit into this size class of it.
const SLAB_BYTES: usize = 128 << 10;

/// A block.
pub(super) type Block<T> = [Group<T>; GROUPS];

/// Whose block it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    /// The segment.
    pub(super) segment: u32,
    /// Which of the segment's blocks it is.
    pub(super) nth: u32,
}

/// All blocks of a table.
///
/// # Invariants
/// * All slabs but the last are full, and none is empty.
/// * `owners` has an entry for each block.
#[derive(Debug)]
pub(super) struct Blocks<T> {
    slabs: Vec<Vec<Block<T>>>,
    owners: Vec<Owner>,
    /// Bytes of the slabs.
    allocated: usize,
}

impl<T> Default for Blocks<T> {
    fn default() -> Self {
        Blocks {
            slabs: Vec::new(),
            owners: Vec::new(),
            allocated: 0,
        }
    }
}

impl<T> Blocks<T> {
    /// Blocks of a full slab.
    const PER_SLAB: usize = SLAB_BYTES / size_of::<Block<T>>();

    /// Number of blocks.
    pub(super) fn len(&self) -> usize {
        self.owners.len()
    }

    /// Bytes allocated.
    pub(super) fn allocated(&self) -> usize {
        self.allocated
            + allocated(self.slabs.capacity() * size_of::<Vec<Block<T>>>())
            + allocated(self.owners.capacity() * size_of::<Owner>())
    }

    #[inline]
    pub(super) fn get(&self, block: u32) -> &Block<T> {
        let block = block as usize;
        &self.slabs[block / Self::PER_SLAB][block % Self::PER_SLAB]
    }

    #[inline]
    pub(super) fn get_mut(&mut self, block: u32) -> &mut Block<T> {
        let block = block as usize;
        &mut self.slabs[block / Self::PER_SLAB][block % Self::PER_SLAB]
    }

    /// The number of a new, empty block.
    pub(super) fn add(&mut self, owner: Owner) -> u32 {
        let number = u32::try_from(self.len()).expect("2^32 blocks are more than memory");
        match self.slabs.last() {
            Some(slab) if slab.len() < Self::PER_SLAB => {}
            // The first slab grows with the table; a table that has one can afford another.
            Some(_) => {
                self.slabs.push(Vec::new());
                self.resize_last(Self::PER_SLAB);
            }
            None => self.slabs.push(Vec::new()),
        }
        let slab = &self.slabs[self.slabs.len() - 1];
        if slab.len() == slab.capacity() {
            self.resize_last((slab.len() * 2).clamp(1, Self::PER_SLAB));
        }
        let last = self.slabs.len() - 1;
        self.slabs[last].push(std::array::from_fn(|_| Group::default()));
        self.owners.push(owner);
        number
    }

    /// Removes a block, whose entries are dropped. Another one may take its number; returns who
    /// owns that.
    pub(super) fn remove(&mut self, block: u32) -> Option<Owner> {
        let last = self.slabs.last_mut().and_then(Vec::pop)?;
        let slab = &self.slabs[self.slabs.len() - 1];
        if slab.is_empty() {
            self.resize_last(0);
            self.slabs.pop();
        } else if self.slabs.len() == 1 && slab.len() * 4 <= slab.capacity() {
            self.resize_last(slab.len() * 2);
        }
        self.owners.swap_remove(block as usize);
        if self.owners.len() * 4 <= self.owners.capacity() {
            self.owners.shrink_to(self.owners.len() * 2);
        }
        let moved = *self.owners.get(block as usize)?;
        *self.get_mut(block) = last;
        Some(moved)
    }

    /// Makes room for so many blocks in the last slab, which has at most as many.
    fn resize_last(&mut self, room: usize) {
        let Some(slab) = self.slabs.last_mut() else {
            return;
        };
        self.allocated -= allocated(slab.capacity() * size_of::<Block<T>>());
        if room > slab.capacity() {
            slab.reserve_exact(room - slab.len());
        } else {
            slab.shrink_to(room);
        }
        self.allocated += allocated(slab.capacity() * size_of::<Block<T>>());
    }

    /// The block has another owner from now on.
    pub(super) fn set_owner(&mut self, block: u32, owner: Owner) {
        self.owners[block as usize] = owner;
    }

    /// # Panics
    /// When an invariant does not hold, or a block is not `owner_of` its number's.
    pub(super) fn self_check(&self, owner_of: impl Fn(u32) -> Owner) {
        let full = self.slabs.split_last().map_or(&[][..], |(_, full)| full);
        assert!(
            full.iter().all(|slab| slab.len() == Self::PER_SLAB),
            "full slabs"
        );
        let blocks: usize = self.slabs.iter().map(Vec::len).sum();
        assert_eq!(blocks, self.len(), "an owner for each block");
        assert!(
            self.slabs.iter().all(|slab| !slab.is_empty()),
            "empty slabs"
        );
        let bytes = |slab: &Vec<Block<T>>| allocated(slab.capacity() * size_of::<Block<T>>());
        assert_eq!(self.allocated, self.slabs.iter().map(bytes).sum(), "memory");
        for (number, owner) in (0..).zip(&self.owners) {
            assert_eq!(*owner, owner_of(number), "owner of block {number}");
        }
    }
}
