//! A stream out of an RDB file, which anybody may have written.

use super::block::Block;
use super::group::Pending;
use super::{Stream, StreamId};
use moon_rdb::stream::{RdbConsumer, RdbGroup, RdbPending, RdbStream, StreamHistory, StreamTotals};
use std::collections::BTreeSet;
use std::fmt;

/// What no stream can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamFault {
    /// A block does not hold entries with rising ids, or not as many as it says.
    Block,
    /// The blocks do not have rising ids.
    Order,
    /// The stream says another number of entries than its blocks have.
    Len,
    /// An entry is above the largest id.
    LastId,
    /// Two groups have the same name.
    DuplicateGroup,
    /// Two consumers of a group have the same name.
    DuplicateConsumer,
    /// The pending entries of a group are not those of its consumers.
    Pending,
}

impl fmt::Display for StreamFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            StreamFault::Block => "a damaged block of entries",
            StreamFault::Order => "blocks of entries out of order",
            StreamFault::Len => "another number of entries than it says",
            StreamFault::LastId => "an entry above its largest id",
            StreamFault::DuplicateGroup => "two groups of one name",
            StreamFault::DuplicateConsumer => "two consumers of one name in a group",
            StreamFault::Pending => "pending entries that belong to no one consumer",
        })
    }
}

impl std::error::Error for StreamFault {}

impl Stream {
    /// What a file has for it.
    #[must_use]
    pub fn to_rdb(&self) -> RdbStream {
        let blocks = self.blocks.iter();
        let groups = self.groups.iter().map(|(name, group)| RdbGroup {
            name: name.to_vec(),
            last_id: group.last_id,
            entries_read: group.entries_read,
            pending: (group.pending().iter())
                .map(|(id, pending)| RdbPending {
                    id: *id,
                    delivered_ms: pending.delivered_ms,
                    deliveries: pending.deliveries,
                })
                .collect(),
            consumers: (group.consumers())
                .map(|consumer| RdbConsumer {
                    name: consumer.name().to_vec(),
                    seen_ms: consumer.seen_ms,
                    active_ms: consumer.active_ms.unwrap_or(-1),
                    pending: consumer.pending().iter().copied().collect(),
                })
                .collect(),
        });
        RdbStream {
            blocks: blocks
                .map(|(base, block)| (*base, block.as_bytes().to_vec()))
                .collect(),
            totals: StreamTotals {
                len: self.len,
                last_id: self.last_id,
                since_second: Some(StreamHistory {
                    first_id: self.first_id,
                    max_deleted_id: self.max_deleted_id,
                    entries_added: self.entries_added,
                }),
            },
            groups: groups.collect(),
        }
    }

    /// From what a file has.
    ///
    /// # Errors
    /// When it is none that commands could have made.
    pub fn from_rdb(rdb: &RdbStream) -> Result<Stream, StreamFault> {
        let mut stream = Stream::default();
        let mut last: Option<StreamId> = None;
        for (base, bytes) in &rdb.blocks {
            let block = Block::from_bytes(bytes.clone());
            let checked = block.check(*base).ok_or(StreamFault::Block)?;
            if last.is_some_and(|last| *base <= last) {
                return Err(StreamFault::Order);
            }
            last = Some(checked.last);
            stream.len += checked.live;
            stream.block_bytes += block.memory();
            stream.blocks.insert(*base, block);
        }
        if stream.len != rdb.totals.len {
            return Err(StreamFault::Len);
        }
        stream.last_id = rdb.totals.last_id;
        if last.is_some_and(|last| last > stream.last_id) {
            return Err(StreamFault::LastId);
        }
        stream.entries_added = stream.len;
        if let Some(history) = &rdb.totals.since_second {
            stream.max_deleted_id = history.max_deleted_id;
            stream.entries_added = history.entries_added;
        }
        stream.find_first();
        for group in &rdb.groups {
            let entries_read = match rdb.totals.since_second {
                Some(_) => group.entries_read,
                None => stream.entries_up_to(group.last_id),
            };
            stream.load_group(group, entries_read)?;
        }
        Ok(stream)
    }

    fn load_group(&mut self, rdb: &RdbGroup, entries_read: Option<u64>) -> Result<(), StreamFault> {
        if !self.create_group(&rdb.name, rdb.last_id, entries_read) {
            return Err(StreamFault::DuplicateGroup);
        }
        if !rdb.pending.is_sorted_by(|a, b| a.id < b.id) {
            return Err(StreamFault::Pending);
        }
        let mut unowned: BTreeSet<StreamId> = rdb.pending.iter().map(|p| p.id).collect();
        let loaded = self.change_group(&rdb.name, |group| {
            for consumer in &rdb.consumers {
                let (id, is_new) = group.create_consumer(&consumer.name, consumer.seen_ms);
                if !is_new {
                    return Err(StreamFault::DuplicateConsumer);
                }
                if consumer.active_ms >= 0 {
                    group.active(id, consumer.active_ms);
                }
                for pending in &consumer.pending {
                    let found = rdb.pending.binary_search_by_key(pending, |p| p.id);
                    let (Ok(at), true) = (found, unowned.remove(pending)) else {
                        return Err(StreamFault::Pending);
                    };
                    let pending = rdb.pending[at];
                    group.set_pending(
                        pending.id,
                        Pending {
                            consumer: id,
                            delivered_ms: pending.delivered_ms,
                            deliveries: pending.deliveries,
                        },
                    );
                }
            }
            Ok(())
        });
        loaded.unwrap_or(Ok(()))?;
        match unowned.is_empty() {
            true => Ok(()),
            false => Err(StreamFault::Pending),
        }
    }
}
