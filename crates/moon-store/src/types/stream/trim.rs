//! Trimming: the oldest entries go, whole blocks first.

use super::{Stream, StreamId};

/// What trimming leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// At most this many entries, the newest ones.
    Newest(u64),
    /// Entries from this id on.
    From(StreamId),
}

/// How exactly entries are trimmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// To the entry.
    Exact,
    /// Whole blocks only, and no block beyond this many removed entries if it is `Some`.
    Blocks(Option<u64>),
}

impl Stream {
    /// Removes the oldest entries; how many.
    pub fn trim(&mut self, keep: Keep, precision: Precision) -> u64 {
        let mut removed = 0;
        while let Some((base, block)) = self.blocks.first_key_value() {
            let base = *base;
            let Some(head) = block.head() else {
                break;
            };
            let is_whole = match keep {
                Keep::Newest(max) if self.len <= max => break,
                Keep::Newest(max) => self.len - head.live >= max,
                Keep::From(min) if self.first_id >= min => break,
                Keep::From(min) => {
                    let mut back = block.places_back(base, &head);
                    back.find(|place| !place.is_deleted)
                        .is_some_and(|last| last.id < min)
                }
            };
            if is_whole {
                if let Precision::Blocks(Some(limit)) = precision
                    && removed + head.live > limit
                {
                    break;
                }
                if let Some((_, block)) = self.blocks.pop_first() {
                    self.block_bytes -= block.memory();
                }
                self.len -= head.live;
                removed += head.live;
                if matches!(keep, Keep::From(_)) {
                    self.find_first();
                }
                continue;
            }
            if precision != Precision::Exact {
                break;
            }
            let mut left = self.len;
            let part = self.change_block(base, |block| {
                block.delete_while(base, |id| match keep {
                    Keep::Newest(max) => {
                        let is_doomed = left > max;
                        left -= u64::from(is_doomed);
                        is_doomed
                    }
                    Keep::From(min) => id < min,
                })
            });
            self.len -= part;
            removed += part;
            break;
        }
        if removed > 0 {
            self.find_first();
        }
        removed
    }

    /// The entries that trimming would remove if it passed over those that may not go, in order.
    /// If all may go, these are the ones that [`Stream::trim`] removes. Entries passed over count
    /// towards the limit of [`Precision::Blocks`], which bounds the work.
    pub fn trimmable(
        &self,
        keep: Keep,
        precision: Precision,
        mut may_go: impl FnMut(StreamId) -> bool,
    ) -> Vec<StreamId> {
        let mut ids = Vec::new();
        let (mut left, mut examined) = (self.len, 0);
        for (base, block) in &self.blocks {
            let Some(head) = block.head() else {
                break;
            };
            if let Precision::Blocks(limit) = precision {
                let mut back = block.places_back(*base, &head);
                let is_whole = match keep {
                    Keep::Newest(max) => left - head.live >= max,
                    Keep::From(min) => back
                        .find(|place| !place.is_deleted)
                        .is_some_and(|last| last.id < min),
                };
                if !is_whole || limit.is_some_and(|limit| examined + head.live > limit) {
                    break;
                }
            }
            examined += head.live;
            let live = block.places(*base, &head).filter(|place| !place.is_deleted);
            for place in live {
                let is_doomed = match keep {
                    Keep::Newest(max) => left > max,
                    Keep::From(min) => place.id < min,
                };
                if !is_doomed {
                    return ids;
                }
                if may_go(place.id) {
                    ids.push(place.id);
                    left -= 1;
                }
            }
        }
        ids
    }
}
