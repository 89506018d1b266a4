//! What is told of changes to a group, in the words of Redis: nothing of it depends on time or on
//! what else is in the stream.

use crate::context::Cx;
use crate::notify::Class;
use moon_resp::OwnedArgs;
use moon_store::stream::{Group, Pending};
use moon_store::{Key, StreamId};

/// Ids in one effect.
const IDS_MAX: usize = 1000;

/// The changes of one command to one key. Nothing is told before [`Told::tell`].
pub(super) struct Told<'k> {
    key: Key<'k>,
    group: &'k [u8],
    requests: Vec<OwnedArgs>,
    /// Claims that go into one request: their consumer and what is said of all of them.
    claims: Vec<StreamId>,
    claimed: Option<(Vec<u8>, Pending, StreamId)>,
    /// Whether a consumer is new.
    has_created: bool,
}

impl<'k> Told<'k> {
    pub(super) fn new(key: Key<'k>, group: &'k [u8]) -> Told<'k> {
        Told {
            key,
            group,
            requests: Vec::new(),
            claims: Vec::new(),
            claimed: None,
            has_created: false,
        }
    }

    fn request(&mut self, parts: &[&[u8]]) {
        self.end_claims();
        self.requests.push(OwnedArgs::new(parts));
    }

    /// A consumer was created.
    pub(super) fn created_consumer(&mut self, consumer: &[u8]) {
        let (key, group) = (self.key.bytes, self.group);
        self.request(&[b"XGROUP", b"CREATECONSUMER", key, group, consumer]);
        self.has_created = true;
    }

    /// The group has this position now.
    pub(super) fn moved(&mut self, group: &Group) {
        let last_id = group.last_id.to_string();
        let read = group
            .entries_read
            .map_or_else(|| "-1".to_owned(), |read| read.to_string());
        let (key, name) = (self.key.bytes, self.group);
        self.request(&[
            b"XGROUP",
            b"SETID",
            key,
            name,
            last_id.as_bytes(),
            b"ENTRIESREAD",
            read.as_bytes(),
        ]);
    }

    /// An entry is pending like this now.
    pub(super) fn claimed(&mut self, group: &Group, id: StreamId, pending: Pending) {
        let Some(consumer) = group.consumer(pending.consumer) else {
            return;
        };
        let is_like_others = self
            .claimed
            .as_ref()
            .is_some_and(|(name, claimed, last_id)| {
                name == consumer.name() && *claimed == pending && *last_id == group.last_id
            });
        if !is_like_others || self.claims.len() == IDS_MAX {
            self.end_claims();
            self.claimed = Some((consumer.name().to_vec(), pending, group.last_id));
        }
        self.claims.push(id);
    }

    fn end_claims(&mut self) {
        let Some((consumer, pending, last_id)) = self.claimed.take() else {
            return;
        };
        let mut request = OwnedArgs::new([b"XCLAIM", self.key.bytes, self.group, &consumer, b"0"]);
        for id in std::mem::take(&mut self.claims) {
            request.push(id.to_string().as_bytes());
        }
        request.push(b"TIME");
        request.push(pending.delivered_ms.to_string().as_bytes());
        request.push(b"RETRYCOUNT");
        request.push(pending.deliveries.to_string().as_bytes());
        for word in ["FORCE", "JUSTID", "LASTID"] {
            request.push(word.as_bytes());
        }
        request.push(last_id.to_string().as_bytes());
        self.requests.push(request);
    }

    /// Entries are not pending any more.
    pub(super) fn acknowledged(&mut self, ids: &[StreamId]) {
        let (key, group) = (self.key.bytes, self.group);
        self.with_ids(&[b"XACK", key, group], ids);
    }

    /// Entries were deleted.
    pub(super) fn deleted(&mut self, ids: &[StreamId]) {
        let key = self.key.bytes;
        self.with_ids(&[b"XDEL", key], ids);
    }

    fn with_ids(&mut self, head: &[&[u8]], ids: &[StreamId]) {
        self.end_claims();
        for ids in ids.chunks(IDS_MAX) {
            let mut request = OwnedArgs::new(head);
            for id in ids {
                request.push(id.to_string().as_bytes());
            }
            self.requests.push(request);
        }
    }

    /// Tells everything, if there is anything.
    pub(super) fn tell(mut self, cx: &mut Cx<'_>) {
        self.end_claims();
        if !self.requests.is_empty() {
            let db = cx.db;
            cx.mark(db, self.key);
            self.tell_marked(cx);
        }
    }

    /// As [`Told::tell`], for a key that was marked as changed.
    pub(super) fn tell_marked(mut self, cx: &mut Cx<'_>) {
        self.end_claims();
        for request in &self.requests {
            cx.effects.push_args(cx.db, request.as_args());
        }
        if self.has_created {
            cx.notify(Class::STREAM, "xgroup-createconsumer", self.key);
        }
    }
}
