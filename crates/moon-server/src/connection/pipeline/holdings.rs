//! What a connection holds, told to its client's handle: for CLIENT LIST, and for the limit on the
//! memory of all clients.
//!
//! The connection tells of what only it knows, when that has changed; what its gate holds is asked
//! for now and then ([`moon_shard::Session::memory`]).

use super::{Connection, Outgoing, Request};
use bytes::BytesMut;
use moon_resp::Span;
use std::sync::atomic::Ordering::Relaxed;

/// Bytes of what a connection keeps from one read to the next.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct OwnBuffers {
    unfinished: usize,
    room: usize,
    tables: usize,
}

/// A client that has grown by this is looked at at once, not when all are.
const GROWTH_CHECKED: u64 = 1 << 20;

impl Connection {
    /// Tells the client's handle what this connection keeps, if that has changed.
    pub(in crate::connection) fn show_buffers(&mut self) {
        let tables = self.spans.capacity() * size_of::<Span>()
            + self.requests.capacity() * size_of::<Request>()
            + self.key_positions.capacity() * size_of::<usize>()
            + self.outgoing.capacity() * size_of::<Outgoing>();
        let (unfinished, room) = self.unfinished.sizes();
        let now = OwnBuffers {
            unfinished,
            room,
            tables,
        };
        if self.shown == Some(now) {
            return;
        }
        self.shown = Some(now);
        self.client.qbuf.store(unfinished as u64, Relaxed);
        self.client.qbuf_free.store(room as u64, Relaxed);
        self.client.argv_mem.store(tables as u64, Relaxed);
        self.check_growth();
    }

    /// The client's handle has changed: if that made it much larger, it may be too large.
    pub(in crate::connection) fn check_growth(&mut self) {
        let total = self.client.note_total();
        if total > self.within_limit.saturating_add(GROWTH_CHECKED) {
            self.server.evict_clients();
            self.within_limit = total;
        }
        self.within_limit = self.within_limit.min(total);
    }

    /// While a request runs that may ask for it, the handle shows the buffer that the request lies
    /// in, as Redis does.
    pub(super) fn show_request(&mut self, buffer: &BytesMut) {
        self.shown = None;
        let room = buffer.capacity() - buffer.len();
        self.client.qbuf.store(buffer.len() as u64, Relaxed);
        self.client.qbuf_free.store(room as u64, Relaxed);
    }
}
