//! The memory that a connection reads into.
//!
//! The connections of a shard share a few buffers: one is taken for a read and given back when
//! its requests are executed. What is left of a request whose rest has not come is kept by its
//! connection: a short rest as a copy, which goes in front of the next read, and a long one
//! together with the buffer it lies in, which the shard then replaces. So a connection that waits
//! between two requests holds nothing, and one that sends pipelines without a pause always reads
//! a whole buffer at once.

use bytes::BytesMut;
use std::cell::RefCell;

/// Bytes read at once. One buffer per shard is in use at a time, so its size costs nothing per
/// connection.
pub(super) const READ_BYTES: usize = 64 << 10;

/// A rest of at most so many bytes is copied into the next buffer; beyond, it keeps its own.
const COPIED_MAX: usize = 4 << 10;

/// Least room to read into behind a rest in its own buffer.
const ROOM_MIN: usize = 4 << 10;

/// Buffers that the shard keeps while nobody reads. More are in use at once only while many
/// connections wait in the middle of a pipeline.
const KEPT_MAX: usize = 16;

/// A buffer that has grown beyond this is not kept.
const KEPT_CAPACITY_MAX: usize = 2 * READ_BYTES;

thread_local! {
    static KEPT: RefCell<Vec<BytesMut>> = const { RefCell::new(Vec::new()) };
}

/// The beginning of a request whose rest has not come, of one connection.
#[derive(Default)]
pub(super) struct Unfinished {
    rest: BytesMut,
    /// So many bytes more are needed at least, as far as the parser knows.
    needed: usize,
}

/// Bytes of the buffers that the connections of this thread share and nobody reads into now.
pub(super) fn shared_bytes() -> usize {
    KEPT.with_borrow(|kept| kept.iter().map(BytesMut::capacity).sum())
}

impl Unfinished {
    /// A connection of which `rest` was read before.
    pub(super) fn new(rest: BytesMut) -> Unfinished {
        Unfinished { rest, needed: 0 }
    }

    /// What the parser needs behind the bytes that it has seen last; zero if it does not say.
    pub(super) fn set_needed(&mut self, needed: usize) {
        self.needed = needed;
    }

    /// Bytes of the unfinished request, and room behind it in its buffer.
    pub(super) fn sizes(&self) -> (usize, usize) {
        (self.rest.len(), self.rest.capacity() - self.rest.len())
    }

    /// A buffer to read into, behind what it holds already. Goes back with
    /// [`Unfinished::give_back`].
    pub(super) fn take(&mut self) -> BytesMut {
        if self.keeps_own(self.rest.len()) {
            let mut own = std::mem::take(&mut self.rest);
            // Large arguments are read in place: room for all of one is made at once, and its last
            // bytes do not move it.
            if own.capacity() - own.len() < self.needed.max(1) {
                own.reserve(self.needed.max(ROOM_MIN));
            }
            return own;
        }
        let mut shared = KEPT
            .with_borrow_mut(Vec::pop)
            .unwrap_or_else(|| BytesMut::with_capacity(READ_BYTES));
        shared.extend_from_slice(&self.rest);
        shared
    }

    /// Takes `buffer` back, with the unfinished request that is left in it.
    pub(super) fn give_back(&mut self, mut buffer: BytesMut) {
        if !buffer.is_empty() && self.keeps_own(buffer.len()) {
            self.rest = buffer;
            return;
        }
        if buffer.is_empty() {
            self.rest = BytesMut::new();
        } else {
            self.rest.clear();
            self.rest.extend_from_slice(&buffer);
        }
        buffer.clear();
        // Reclaiming also makes `capacity` count what was consumed at the front.
        if buffer.try_reclaim(READ_BYTES) && buffer.capacity() <= KEPT_CAPACITY_MAX {
            KEPT.with_borrow_mut(|kept| {
                if kept.len() < KEPT_MAX {
                    kept.push(buffer);
                }
            });
        }
    }

    fn keeps_own(&self, rest: usize) -> bool {
        rest > COPIED_MAX || self.needed > READ_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Buf;

    /// Fills `buffer` as a client does that never pauses, and consumes all but `rest` bytes.
    fn read_all_but(rest: usize, buffer: &mut BytesMut) {
        buffer.resize(buffer.capacity(), b'x');
        buffer.advance(buffer.len() - rest);
    }

    #[test]
    fn a_long_pipeline_reads_whole_buffers_and_holds_one() {
        let mut client = Unfinished::default();
        for turn in 0..1000 {
            // Sometimes a buffer ends with a request, mostly in the middle of one.
            let rest = turn % 170;
            let mut buffer = client.take();
            assert!(buffer.capacity() - buffer.len() >= READ_BYTES - COPIED_MAX);
            read_all_but(rest, &mut buffer);
            client.give_back(buffer);
            assert_eq!(client.rest.len(), rest);
            assert!(client.rest.capacity() <= COPIED_MAX);
            assert!(shared_bytes() <= READ_BYTES, "{} kept", shared_bytes());
        }
    }

    #[test]
    fn requests_of_any_size_in_long_pipelines_keep_a_bound() {
        for rest in [COPIED_MAX, COPIED_MAX + 1, READ_BYTES / 2, READ_BYTES - 1] {
            let mut clients: Vec<Unfinished> = Vec::new();
            clients.resize_with(3, Unfinished::default);
            for _ in 0..100 {
                for client in &mut clients {
                    let mut buffer = client.take();
                    read_all_but(rest, &mut buffer);
                    client.give_back(buffer);
                    assert!(client.rest.capacity() <= 4 * READ_BYTES);
                }
                assert!(shared_bytes() <= KEPT_MAX * KEPT_CAPACITY_MAX);
            }
        }
    }

    #[test]
    fn many_readers_at_once_leave_few_buffers_behind() {
        let mut clients: Vec<Unfinished> = Vec::new();
        clients.resize_with(10 * KEPT_MAX, Unfinished::default);
        let buffers: Vec<BytesMut> = clients.iter_mut().map(Unfinished::take).collect();
        for (client, buffer) in clients.iter_mut().zip(buffers) {
            client.give_back(buffer);
            assert_eq!(client.rest.capacity(), 0);
        }
        assert_eq!(shared_bytes(), KEPT_MAX * READ_BYTES);
    }

    #[test]
    fn a_large_argument_is_read_in_place_and_its_memory_given_back() {
        const LARGE: usize = 10 << 20;
        let mut client = Unfinished::default();
        let mut buffer = client.take();
        buffer.extend_from_slice(b"*1\r\n$10485760\r\n");
        client.set_needed(LARGE);
        client.give_back(buffer);
        let start = client.take();
        assert!(start.capacity() - start.len() >= LARGE);
        let place = start.as_ptr();
        client.give_back(start);
        for missing in [LARGE / 2, READ_BYTES + 1, 100] {
            let mut buffer = client.take();
            assert_eq!(buffer.as_ptr(), place);
            buffer.resize(15 + LARGE - missing, b'x');
            client.set_needed(missing);
            client.give_back(buffer);
        }
        let mut buffer = client.take();
        assert_eq!(buffer.as_ptr(), place);
        buffer.clear();
        buffer.extend_from_slice(b"next");
        client.set_needed(1);
        client.give_back(buffer);
        assert_eq!(&client.rest[..], b"next");
        assert!(client.rest.capacity() <= COPIED_MAX);
        assert!(shared_bytes() <= KEPT_CAPACITY_MAX);
    }

    #[test]
    fn a_rest_goes_in_front_of_what_comes_next() {
        for rest in [1, COPIED_MAX, COPIED_MAX + 1] {
            let mut client = Unfinished::new(BytesMut::from(&vec![b'a'; rest][..]));
            let waiting = client.take();
            client.give_back(waiting);
            let mut buffer = client.take();
            buffer.extend_from_slice(b"b");
            assert_eq!(buffer.len(), rest + 1);
            assert!(buffer.ends_with(b"ab"));
        }
    }
}
