//! What groups refer to, and what becomes of it when entries go: KEEPREF, DELREF, ACKED.

use super::effects::Told;
use crate::context::Cx;
use crate::parse::is;
use moon_store::{Key, Stream, StreamId};

/// What becomes of references to a deleted entry in the groups.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum References {
    /// They stay.
    Keep,
    /// They go too.
    Delete,
    /// An entry with references, or that a group has still to read, stays.
    Respect,
}

impl References {
    /// The option of this name.
    pub(super) fn named(name: &[u8]) -> Option<References> {
        [
            ("keepref", References::Keep),
            ("delref", References::Delete),
            ("acked", References::Respect),
        ]
        .into_iter()
        .find(|(option, _)| is(name, option))
        .map(|(_, references)| references)
    }
}

/// Whether a group has an entry pending or has still to read it.
pub(super) fn is_referred(stream: &Stream, id: StreamId) -> bool {
    stream
        .groups()
        .any(|(_, group)| group.last_id < id || group.pending().contains_key(&id))
}

/// What was changed, group by group and in the stream.
#[derive(Default)]
pub(super) struct Changes {
    acknowledged: Vec<(Vec<u8>, Vec<StreamId>)>,
    deleted: Vec<StreamId>,
}

impl Changes {
    pub(super) fn acknowledge(&mut self, group: &[u8], id: StreamId) {
        match self.acknowledged.iter_mut().find(|(name, _)| name == group) {
            Some((_, ids)) => ids.push(id),
            None => self.acknowledged.push((group.to_vec(), vec![id])),
        }
    }

    /// No group refers to an entry any more.
    pub(super) fn forget(&mut self, stream: &mut Stream, id: StreamId) {
        let referring = stream
            .groups()
            .filter(|(_, group)| group.pending().contains_key(&id));
        for (name, _) in referring {
            self.acknowledge(name, id);
        }
        stream.forget_pending(id);
    }

    /// Deletes an entry with its references as asked for; whether it may go.
    pub(super) fn delete(
        &mut self,
        stream: &mut Stream,
        id: StreamId,
        references: References,
    ) -> bool {
        if references == References::Respect && is_referred(stream, id) {
            return false;
        }
        if references == References::Delete {
            self.forget(stream, id);
        }
        if stream.delete(id) {
            self.deleted.push(id);
        }
        true
    }

    /// Whether entries were deleted.
    pub(super) fn has_deleted(&self) -> bool {
        !self.deleted.is_empty()
    }

    pub(super) fn tell(self, cx: &mut Cx<'_>, key: Key<'_>) {
        let db = cx.db;
        if self.acknowledged.is_empty() && self.deleted.is_empty() {
            return;
        }
        cx.mark(db, key);
        for (group, ids) in &self.acknowledged {
            let mut told = Told::new(key, group);
            told.acknowledged(ids);
            told.tell_marked(cx);
        }
        let mut told = Told::new(key, b"");
        told.deleted(&self.deleted);
        told.tell_marked(cx);
    }
}
