//! Walking through the entries of a stream.

use super::block::{Block, Entry, Head};
use super::{Stream, StreamId};
use std::collections::btree_map;

/// Entries between two ids, in order.
pub struct Entries<'a> {
    blocks: btree_map::Range<'a, StreamId, Block>,
    current: Option<Current<'a>>,
    start: StreamId,
    end: StreamId,
}

/// Entries between two ids, from the last on.
pub struct EntriesBack<'a> {
    blocks: btree_map::Range<'a, StreamId, Block>,
    current: Option<Current<'a>>,
    start: StreamId,
    end: StreamId,
}

/// A block that is being walked through.
struct Current<'a> {
    base: StreamId,
    block: &'a Block,
    head: Head,
    /// The place that was reached.
    at: usize,
}

impl Stream {
    /// The entries from `start` to `end`, both included.
    #[must_use]
    pub fn range(&self, start: StreamId, end: StreamId) -> Entries<'_> {
        Entries {
            blocks: self.blocks_between(start, end),
            current: None,
            start,
            end,
        }
    }

    /// As [`Stream::range`], from the last on.
    #[must_use]
    pub fn range_back(&self, start: StreamId, end: StreamId) -> EntriesBack<'_> {
        EntriesBack {
            blocks: self.blocks_between(start, end),
            current: None,
            start,
            end,
        }
    }

    /// The blocks that may have entries between two ids.
    fn blocks_between(
        &self,
        start: StreamId,
        end: StreamId,
    ) -> btree_map::Range<'_, StreamId, Block> {
        if start > end {
            return self.blocks.range(StreamId::MIN..StreamId::MIN);
        }
        let from = self.blocks.range(..=start).next_back();
        let from = from.map_or(start, |(base, _)| *base);
        self.blocks.range(from..=end)
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        loop {
            if let Some(current) = &mut self.current {
                let Current {
                    base,
                    block,
                    head,
                    at,
                } = current;
                while let Some(place) = block.place_behind(*base, head, at) {
                    if place.id > self.end {
                        return None;
                    }
                    if place.id >= self.start && !place.is_deleted {
                        return Some(block.entry(head, &place));
                    }
                }
            }
            let (base, block) = self.blocks.next()?;
            let head = block.head()?;
            self.current = Some(Current {
                base: *base,
                block,
                head,
                at: Block::first_place(&head),
            });
        }
    }
}

impl<'a> Iterator for EntriesBack<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        loop {
            if let Some(current) = &mut self.current {
                let Current {
                    base,
                    block,
                    head,
                    at,
                } = current;
                while let Some(place) = block.place_before(*base, head, at) {
                    if place.id < self.start {
                        return None;
                    }
                    if place.id <= self.end && !place.is_deleted {
                        return Some(block.entry(head, &place));
                    }
                }
            }
            let (base, block) = self.blocks.next_back()?;
            let head = block.head()?;
            self.current = Some(Current {
                base: *base,
                block,
                head,
                at: block.last_place(),
            });
        }
    }
}
