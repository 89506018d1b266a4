//! Streams: entries in the order of their ids, and the groups that read them.
//!
//! Entries lie in blocks ([`block`]), which a map orders by id. New ones go to the last block, until
//! that is full; trimming takes whole blocks first. Every operation on one entry takes the time of a
//! look-up in the map and of a walk through one block.
//!
//! * [`block`]: entries in one buffer.
//! * [`group`]: consumer groups, consumers, what is pending.
//! * [`range`]: walking through entries in both directions.
//! * [`trim`]: the oldest entries go.
//! * [`progress`]: how far a group is behind.
//! * [`load`]: from an RDB file, everything checked.
//! * [`image`]: to an RDB file, in pieces.

mod block;
mod group;
mod image;
mod load;
mod progress;
mod range;
mod trim;

pub use block::Entry;
pub use group::{Consumer, ConsumerId, Group, Pending};
pub(crate) use image::StreamWriter;
pub use load::StreamFault;
pub use moon_rdb::StreamId;
pub use progress::Position;
pub use range::{Entries, EntriesBack};
pub use trim::{Keep, Precision};

use block::Block;
use std::collections::BTreeMap;

/// Up to where a block takes more entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockLimits {
    /// Bytes that a block must stay below, `stream-node-max-bytes`; 0 for any number.
    pub bytes: usize,
    /// Most entries, deleted ones included, `stream-node-max-entries`; 0 for any number.
    pub entries: usize,
}

/// No block gets larger than this, whatever the limits, unless by a single entry.
pub const BLOCK_BYTES_MAX: usize = 1 << 30;

/// Share of a block in a node of the map, computed for blocks added at the end: nodes have eleven
/// places and are a bit more than half full.
const BLOCK_NODE_BYTES: usize = 76;

/// Share of a group in a node of the map besides itself.
const GROUP_NODE_BYTES: usize = size_of::<Group>() + 2 * size_of::<Box<[u8]>>();

/// Above this many bytes even the last block is compacted, at the price of being filled differently
/// from how Redis would.
const TAIL_COMPACT_BYTES: usize = 8 << 10;

/// A stream.
///
/// # Invariants
/// * Every block has a live entry and is filed under an id not above its first one's and above all
///   of the block before. `len` is the sum of their live entries, `block_bytes` of their memory.
/// * `first_id` is that of the first live entry, 0-0 if there is none; no entry is above `last_id`.
/// * `group_bytes` is the sum of the memory of the groups and their names.
#[derive(Clone, Debug, Default)]
pub struct Stream {
    blocks: BTreeMap<StreamId, Block>,
    len: u64,
    first_id: StreamId,
    last_id: StreamId,
    max_deleted_id: StreamId,
    entries_added: u64,
    block_bytes: usize,
    groups: BTreeMap<Box<[u8]>, Group>,
    group_bytes: usize,
}

impl Stream {
    /// Number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        usize::try_from(self.len).unwrap_or(usize::MAX)
    }

    /// Whether there are no entries. Such a stream is as good as any other.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The largest id ever added, or set.
    #[must_use]
    pub fn last_id(&self) -> StreamId {
        self.last_id
    }

    /// The id of the first entry; 0-0 if there is none.
    #[must_use]
    pub fn first_id(&self) -> StreamId {
        self.first_id
    }

    /// The id of the last entry; `None` if there is none.
    #[must_use]
    pub fn last_entry_id(&self) -> Option<StreamId> {
        let (base, block) = self.blocks.last_key_value()?;
        let head = block.head()?;
        let mut back = block.places_back(*base, &head);
        back.find(|place| !place.is_deleted).map(|place| place.id)
    }

    /// The largest id that was deleted, trimming left aside; 0-0 if none was.
    #[must_use]
    pub fn max_deleted_id(&self) -> StreamId {
        self.max_deleted_id
    }

    /// How many entries were ever added.
    #[must_use]
    pub fn entries_added(&self) -> u64 {
        self.entries_added
    }

    /// How many blocks there are.
    #[must_use]
    pub fn blocks_len(&self) -> usize {
        self.blocks.len()
    }

    /// The ids that the blocks are filed under, in order.
    pub fn block_ids(&self) -> impl ExactSizeIterator<Item = StreamId> {
        self.blocks.keys().copied()
    }

    /// Adds an entry. Its id is above [`Stream::last_id`], and its names and values together are
    /// not longer than [`BLOCK_BYTES_MAX`]: the caller has looked.
    pub fn append<'f>(
        &mut self,
        id: StreamId,
        fields: impl Iterator<Item = (&'f [u8], &'f [u8])> + Clone,
        limits: BlockLimits,
    ) {
        debug_assert!(id > self.last_id, "ids rise");
        let mut count = 0;
        let mut bytes = 0;
        for (name, value) in fields.clone() {
            count += 1;
            bytes += name.len() + value.len();
        }
        let last = self.blocks.last_entry();
        match last {
            Some(mut last) if admits(last.get(), bytes, limits) => {
                let base = *last.key();
                let block = last.get_mut();
                self.block_bytes -= block.memory();
                block.append(base, id, fields, count);
                self.block_bytes += block.memory();
            }
            full => {
                // It does not grow again.
                if let Some(mut full) = full {
                    let base = *full.key();
                    let block = full.get_mut();
                    self.block_bytes -= block.memory();
                    block.compact(base);
                    block.shrink();
                    self.block_bytes += block.memory();
                }
                let mut block = Block::new(fields.clone().map(|(name, _)| name), count);
                block.append(id, id, fields, count);
                self.block_bytes += block.memory();
                self.blocks.insert(id, block);
            }
        }
        self.len += 1;
        self.entries_added += 1;
        self.last_id = id;
        if self.len == 1 {
            self.first_id = id;
        }
    }

    /// The block that would have an entry.
    fn block_of(&self, id: StreamId) -> Option<(StreamId, &Block)> {
        let (base, block) = self.blocks.range(..=id).next_back()?;
        Some((*base, block))
    }

    /// The entry with an id.
    #[must_use]
    pub fn get(&self, id: StreamId) -> Option<Entry<'_>> {
        self.range(id, id).next()
    }

    /// Whether there is an entry with an id.
    #[must_use]
    pub fn contains(&self, id: StreamId) -> bool {
        let found = self.block_of(id).and_then(|(base, block)| {
            let head = block.head()?;
            let place = block
                .places(base, &head)
                .take_while(|place| place.id <= id)
                .last()?;
            Some(place.id == id && !place.is_deleted)
        });
        found.unwrap_or(false)
    }

    /// Deletes an entry; whether there was one.
    pub fn delete(&mut self, id: StreamId) -> bool {
        let Some((base, _)) = self.block_of(id) else {
            return false;
        };
        if !self.change_block(base, |block| block.delete(base, id)) {
            return false;
        }
        self.len -= 1;
        self.max_deleted_id = self.max_deleted_id.max(id);
        if id == self.first_id {
            self.find_first();
        }
        true
    }

    /// Changes a block, and removes it if it is empty then.
    fn change_block<R>(&mut self, base: StreamId, change: impl FnOnce(&mut Block) -> R) -> R
    where
        R: Default,
    {
        let is_last = self
            .blocks
            .last_key_value()
            .is_some_and(|(id, _)| *id == base);
        let Some(block) = self.blocks.get_mut(&base) else {
            return R::default();
        };
        self.block_bytes -= block.memory();
        let result = change(block);
        if block.head().is_none_or(|head| head.live == 0) {
            self.blocks.remove(&base);
            return result;
        }
        // The last block keeps its marks, so that it is as full as it would be in Redis.
        if !is_last || block.as_bytes().len() > TAIL_COMPACT_BYTES {
            block.compact(base);
        }
        self.block_bytes += block.memory();
        result
    }

    fn find_first(&mut self) {
        let first = self.range(StreamId::MIN, StreamId::MAX).next();
        self.first_id = first.map_or(StreamId::MIN, |entry| entry.id);
    }

    /// Says what the stream's history is: the largest id ever added, and if given, how many entries
    /// were added and the largest id deleted. No entry is above `last_id`: the caller has looked.
    pub fn set_history(
        &mut self,
        last_id: StreamId,
        entries_added: Option<u64>,
        max_deleted_id: Option<StreamId>,
    ) {
        // Ids of new entries must rise above all that lie in the last block, deleted ones included.
        if last_id < self.last_id
            && let Some(mut last) = self.blocks.last_entry()
        {
            let base = *last.key();
            self.block_bytes -= last.get().memory();
            last.get_mut().drop_deleted(base);
            self.block_bytes += last.get().memory();
        }
        self.last_id = last_id;
        self.entries_added = entries_added.unwrap_or(self.entries_added);
        self.max_deleted_id = max_deleted_id.unwrap_or(self.max_deleted_id);
    }

    /// A group.
    #[must_use]
    pub fn group(&self, name: &[u8]) -> Option<&Group> {
        self.groups.get(name)
    }

    /// All groups in the order of their names.
    pub fn groups(&self) -> impl ExactSizeIterator<Item = (&[u8], &Group)> {
        self.groups.iter().map(|(name, group)| (&**name, group))
    }

    /// Creates a group; `false`, and nothing happens, if there is one of that name.
    pub fn create_group(
        &mut self,
        name: &[u8],
        last_id: StreamId,
        entries_read: Option<u64>,
    ) -> bool {
        if self.groups.contains_key(name) {
            return false;
        }
        let group = Group::new(last_id, entries_read);
        self.group_bytes += group_memory(name, &group);
        self.groups.insert(name.into(), group);
        true
    }

    /// Removes a group; whether there was one.
    pub fn destroy_group(&mut self, name: &[u8]) -> bool {
        let Some(group) = self.groups.remove(name) else {
            return false;
        };
        self.group_bytes -= group_memory(name, &group);
        true
    }

    /// Changes a group; `None` if there is none of that name.
    pub fn change_group<R>(
        &mut self,
        name: &[u8],
        change: impl FnOnce(&mut Group) -> R,
    ) -> Option<R> {
        let group = self.groups.get_mut(name)?;
        self.group_bytes -= group.memory();
        let result = change(group);
        self.group_bytes += group.memory();
        Some(result)
    }

    /// An entry is pending in no group any more.
    pub fn forget_pending(&mut self, id: StreamId) {
        for group in self.groups.values_mut() {
            self.group_bytes -= group.memory();
            group.acknowledge(id);
            self.group_bytes += group.memory();
        }
    }

    /// Bytes of memory.
    #[must_use]
    pub fn memory(&self) -> usize {
        size_of::<Stream>()
            + self.blocks.len() * BLOCK_NODE_BYTES
            + self.block_bytes
            + self.group_bytes
    }

    #[cfg(test)]
    fn self_check(&self) {
        let (mut len, mut bytes) = (0, 0);
        let mut last = StreamId::MIN;
        for (base, block) in &self.blocks {
            assert!(*base > last, "blocks rise");
            assert!(moon_rdb::listpack::is_listpack(block.as_bytes()));
            let checked = block.check(*base).expect("a good block");
            len += checked.live;
            last = checked.last;
            bytes += block.memory();
        }
        assert!(last <= self.last_id);
        assert_eq!((self.len, self.block_bytes), (len, bytes));
        let first = self.range(StreamId::MIN, StreamId::MAX).next();
        let first = first.map_or(StreamId::MIN, |entry| entry.id);
        assert_eq!(self.first_id, first);
        let groups = self.groups.iter();
        let group_bytes: usize = groups.map(|(name, group)| group_memory(name, group)).sum();
        assert_eq!(self.group_bytes, group_bytes);
        self.groups.values().for_each(Group::self_check);
    }
}

fn group_memory(name: &[u8], group: &Group) -> usize {
    GROUP_NODE_BYTES - size_of::<Group>() + crate::memory::allocated(name.len()) + group.memory()
}

/// Whether a block takes one more entry of `bytes` bytes.
fn admits(block: &Block, bytes: usize, limits: BlockLimits) -> bool {
    let (entries, used) = block.extent();
    let sum = used + bytes;
    sum <= BLOCK_BYTES_MAX
        && match limits {
            BlockLimits { bytes: max, .. } if max > 0 && sum >= max => false,
            BlockLimits { entries: 0, .. } => true,
            BlockLimits { entries: max, .. } => entries < max,
        }
}

#[cfg(test)]
mod tests;
