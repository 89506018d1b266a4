//! How many of a stream's entries a group has still to read, as far as that can be told.
//!
//! A group counts what it reads. The count says something as long as nothing was deleted ahead of
//! the group; otherwise the position of an id in the stream's life is known only for the last entry,
//! and for the first as long as everything deleted lies before it.

use super::{Group, Stream, StreamId};

/// Where a group stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The id delivered last.
    pub last_id: StreamId,
    /// How many entries of the stream's life were read; `None` if that is not known.
    pub entries_read: Option<u64>,
}

impl Group {
    /// Where it stands.
    #[must_use]
    pub fn position(&self) -> Position {
        Position {
            last_id: self.last_id,
            entries_read: self.entries_read,
        }
    }
}

impl Stream {
    /// Where a group stands that has read the entries with these rising ids.
    #[must_use]
    pub fn position_behind(&self, mut position: Position, ids: &[StreamId]) -> Position {
        for id in ids {
            if *id <= position.last_id {
                continue;
            }
            position.last_id = *id;
            position.entries_read = match position.entries_read {
                Some(read) if !self.has_deleted_from(*id) => Some(read + 1),
                _ => self.entries_up_to(*id),
            };
        }
        position
    }

    /// How many entries lie ahead of a group; `None` if that cannot be told. Negative where somebody
    /// said that a group has read more than there was.
    #[must_use]
    pub fn lag(&self, group: &Group) -> Option<i64> {
        if self.entries_added == 0 {
            return Some(0);
        }
        let read = match group.entries_read {
            Some(read) if !self.has_deleted_from(group.last_id) => read,
            _ => self.entries_up_to(group.last_id)?,
        };
        Some(self.entries_added.wrapping_sub(read).cast_signed())
    }

    /// Whether an entry at `id` or behind may have been deleted.
    #[must_use]
    pub fn has_deleted_from(&self, id: StreamId) -> bool {
        self.len > 0
            && self.max_deleted_id != StreamId::MIN
            && self.first_id <= self.max_deleted_id
            && id <= self.max_deleted_id
    }

    /// How many entries were ever added up to `id`, that one included; `None` if that cannot be
    /// told.
    #[must_use]
    pub fn entries_up_to(&self, id: StreamId) -> Option<u64> {
        if self.entries_added == 0 {
            return Some(0);
        }
        if self.len == 0 && id <= self.last_id {
            return Some(self.entries_added);
        }
        if id == self.last_id {
            return Some(self.entries_added);
        }
        if id > self.last_id {
            return None;
        }
        if self.max_deleted_id == StreamId::MIN || self.max_deleted_id < self.first_id {
            let before_first = self.entries_added.saturating_sub(self.len);
            if id < self.first_id {
                return Some(before_first);
            }
            if id == self.first_id {
                return Some(before_first + 1);
            }
        }
        None
    }
}
