//! The gate: the replies of one connection, in order, each held until what it depends on is
//! committed.
//!
//! ```text
//!   open                 parts
//!   [may leave now]  ->  [held: LSN 90] [hole: other shard] [held: this turn]
//! ```
//!
//! A reply is written straight behind the previous one. If it depends on nothing uncommitted and
//! nothing before it is held, it lands in `open` and no part is made, which is every clean read
//! and, with the log off, everything.

use bytes::Bytes;
use moon_core::Lsn;
use moon_store::THIS_TURN;
use std::collections::VecDeque;

/// Names a hole that a reply from another shard will fill.
pub type Ticket = u64;

/// Names the reply for which a connection executes nothing more until it has come. It has no part
/// of its own before.
const LAST: Ticket = Ticket::MAX;

#[derive(Debug)]
struct Part {
    bytes: PartBytes,
    depends_on: Lsn,
}

#[derive(Debug)]
enum PartBytes {
    /// Written here; more may be appended.
    Own(Vec<u8>),
    /// Came from another shard.
    Came(Bytes),
    /// Not there yet.
    Hole,
}

/// The replies of one connection.
///
/// # Invariants
/// * Bytes enter `open` in the order in which their commands were received.
/// * A part that depends on [`THIS_TURN`] is never opened; [`Gate::resolve_turn`] gives it its LSN.
#[derive(Debug, Default)]
pub struct Gate {
    open: Vec<u8>,
    parts: VecDeque<Part>,
    /// The ticket of `parts[0]`.
    first_ticket: Ticket,
    holes: usize,
    held_bytes: usize,
    /// What the shard has counted of `held_bytes`.
    accounted_bytes: usize,
    /// The LSN for which the shard has this connection on its list; zero if it has not.
    registered: Lsn,
    /// Whether the shard will resolve this gate at the end of the turn.
    in_turn: bool,
    /// See [`Gate::hold_back`].
    held_back: bool,
    spare: Vec<u8>,
    /// The most that was in `open` since [`Gate::forget_peak`].
    open_peak: usize,
    /// The highest LSN that anything here has depended on.
    latest: Lsn,
    /// Something here depends on a turn that has not ended.
    awaits_turn: bool,
}

/// What a gate holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GateSizes {
    /// Size of the buffer of replies that may leave.
    pub open_capacity: usize,
    /// Bytes in it.
    pub open: usize,
    /// The most that was in it lately.
    pub open_peak: usize,
    /// Replies, or runs of them, that are held.
    pub parts: usize,
    /// Memory of those.
    pub held_capacity: usize,
}

impl GateSizes {
    /// Bytes of all buffers.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.open_capacity + self.held_capacity
    }
}

impl Gate {
    /// Where the next reply is to be written, behind everything before it. Pass the length it
    /// had to [`Gate::settle`] afterwards.
    #[inline]
    pub fn tail(&mut self) -> &mut Vec<u8> {
        let Gate {
            open, parts, spare, ..
        } = self;
        match parts.back() {
            None => return open,
            Some(Part {
                bytes: PartBytes::Own(_),
                ..
            }) => {}
            Some(_) => {
                let bytes = PartBytes::Own(std::mem::take(spare));
                parts.push_back(Part {
                    bytes,
                    depends_on: Lsn::ZERO,
                });
            }
        }
        match parts.back_mut() {
            Some(Part {
                bytes: PartBytes::Own(bytes),
                ..
            }) => bytes,
            _ => unreachable!("the last part was just seen or made to be an own one"),
        }
    }

    /// What was written to the tail from `start` on depends on `depends_on`.
    #[inline]
    pub fn settle(&mut self, start: usize, depends_on: Lsn) {
        if depends_on != Lsn::ZERO {
            self.note(depends_on);
        }
        match self.parts.back_mut() {
            None if depends_on == Lsn::ZERO => {}
            None => {
                let mut bytes = std::mem::take(&mut self.spare);
                bytes.extend_from_slice(&self.open[start..]);
                self.open.truncate(start);
                self.push_own(bytes, depends_on);
            }
            Some(part) => {
                let PartBytes::Own(bytes) = &mut part.bytes else {
                    unreachable!("the tail is an own part");
                };
                if depends_on <= part.depends_on || start == 0 {
                    // What is before waits at least as long, or there is nothing before.
                    self.held_bytes += bytes.len() - start;
                    part.depends_on = part.depends_on.max(depends_on);
                } else {
                    let later = bytes.split_off(start);
                    self.push_own(later, depends_on);
                }
            }
        }
    }

    fn note(&mut self, depends_on: Lsn) {
        if depends_on == THIS_TURN {
            self.awaits_turn = true;
        } else {
            self.latest = self.latest.max(depends_on);
        }
    }

    /// What a reply depends on that may leave when everything before it has: [`THIS_TURN`], or an
    /// LSN, which may be committed already. Holes are not counted; wait for them first.
    #[must_use]
    pub fn dependency(&self) -> Lsn {
        if self.awaits_turn {
            THIS_TURN
        } else {
            self.latest
        }
    }

    fn push_own(&mut self, bytes: Vec<u8>, depends_on: Lsn) {
        self.held_bytes += bytes.len();
        self.parts.push_back(Part {
            bytes: PartBytes::Own(bytes),
            depends_on,
        });
    }

    /// Keeps a place for a reply that another shard will send.
    pub fn reserve(&mut self) -> Ticket {
        self.parts.push_back(Part {
            bytes: PartBytes::Hole,
            depends_on: Lsn::ZERO,
        });
        self.holes += 1;
        self.first_ticket + self.parts.len() as u64 - 1
    }

    /// Awaits a reply before anything more is executed, so that it will be the last one whenever it
    /// comes. What is pushed to the client meanwhile does not wait for it.
    pub fn reserve_last(&mut self) -> Ticket {
        self.holes += 1;
        LAST
    }

    /// The reply for `ticket` came.
    pub fn fill(&mut self, ticket: Ticket, bytes: Bytes, depends_on: Lsn) {
        debug_assert_ne!(depends_on, THIS_TURN, "the other shard has ended its turn");
        self.held_bytes += bytes.len();
        self.holes -= 1;
        self.latest = self.latest.max(depends_on);
        let came = Part {
            bytes: PartBytes::Came(bytes),
            depends_on,
        };
        if ticket == LAST {
            self.parts.push_back(came);
            return;
        }
        let index =
            usize::try_from(ticket - self.first_ticket).expect("a ticket names a held part");
        let part = &mut self.parts[index];
        assert!(
            matches!(part.bytes, PartBytes::Hole),
            "a hole is filled once"
        );
        *part = came;
    }

    /// Notes that the shard will resolve the turn here; `false` if it is noted already, or if no
    /// reply depends on the turn.
    pub(crate) fn join_turn(&mut self) -> bool {
        let depends = self
            .parts
            .iter()
            .rev()
            .any(|part| part.depends_on == THIS_TURN);
        depends && !std::mem::replace(&mut self.in_turn, true)
    }

    /// Whether this gate is about to be settled, by the end of the turn or by who holds it back:
    /// what may leave already goes with what may leave then, in one system call.
    #[inline]
    #[must_use]
    pub fn is_settled_soon(&self) -> bool {
        self.in_turn || self.held_back
    }

    /// Whoever sets this settles the gate soon, and takes it back before. Returns what it was.
    pub fn hold_back(&mut self, held_back: bool) -> bool {
        std::mem::replace(&mut self.held_back, held_back)
    }

    /// Notes that the shard has this connection on its list for `lsn`; `false` if it is there for
    /// that or an earlier one already.
    pub(crate) fn register(&mut self, lsn: Lsn) -> bool {
        let needed = self.registered == Lsn::ZERO || lsn < self.registered;
        if needed {
            self.registered = lsn;
        }
        needed
    }

    /// The shard has taken this connection off its list.
    pub(crate) fn unregister(&mut self) {
        self.registered = Lsn::ZERO;
    }

    /// Whether the shard has this connection on its list.
    pub(crate) fn is_registered(&self) -> bool {
        self.registered != Lsn::ZERO
    }

    /// Bytes that wait for a commit more, and less, than the shard has counted.
    pub(crate) fn account(&mut self) -> (usize, usize) {
        let now = self.committing_bytes();
        let before = std::mem::replace(&mut self.accounted_bytes, now);
        (now.saturating_sub(before), before.saturating_sub(now))
    }

    /// Held bytes that only commits hold. What is behind a hole waits for another shard to
    /// execute; if it took room from the messages of other shards, two shards could wait for each
    /// other for ever. The connection bounds it.
    fn committing_bytes(&self) -> usize {
        if self.holes == 0 {
            return self.held_bytes;
        }
        let before_hole = self.parts.iter().map_while(|part| match &part.bytes {
            PartBytes::Own(bytes) => Some(bytes.len()),
            PartBytes::Came(bytes) => Some(bytes.len()),
            PartBytes::Hole => None,
        });
        before_hole.sum()
    }

    /// The connection has gone: forgets what is held, of which some would never be complete.
    /// Returns what the shard has counted of it.
    pub(crate) fn abandon(&mut self) -> usize {
        self.first_ticket += self.parts.len() as u64;
        self.parts.clear();
        self.holes = 0;
        self.held_bytes = 0;
        std::mem::take(&mut self.accounted_bytes)
    }

    /// The turn ended with a frame that ends at `end`.
    pub fn resolve_turn(&mut self, end: Lsn) {
        self.in_turn = false;
        if std::mem::take(&mut self.awaits_turn) {
            self.latest = self.latest.max(end);
        }
        for part in self.parts.iter_mut().rev() {
            if part.depends_on == THIS_TURN {
                part.depends_on = end;
            }
        }
    }

    /// Opens everything that depends on nothing above `committed`. Returns what the first part
    /// still held waits for: `None` if nothing is held or a hole is first.
    pub fn advance(&mut self, committed: Lsn) -> Option<Lsn> {
        while let Some(part) = self.parts.front() {
            if matches!(part.bytes, PartBytes::Hole) {
                return None;
            }
            if part.depends_on > committed {
                return Some(part.depends_on);
            }
            let part = self.parts.pop_front().expect("the front was just seen");
            self.first_ticket += 1;
            match part.bytes {
                PartBytes::Own(mut bytes) => {
                    self.held_bytes -= bytes.len();
                    if self.open.is_empty() {
                        std::mem::swap(&mut self.open, &mut bytes);
                    } else {
                        self.open.extend_from_slice(&bytes);
                    }
                    bytes.clear();
                    if bytes.capacity() <= SPARE_CAPACITY_MAX {
                        self.spare = bytes;
                    }
                }
                PartBytes::Came(bytes) => {
                    self.held_bytes -= bytes.len();
                    self.open.extend_from_slice(&bytes);
                }
                PartBytes::Hole => unreachable!("holes were handled above"),
            }
        }
        if self.parts.capacity() > PARTS_CAPACITY_MAX {
            self.parts = VecDeque::new();
        }
        None
    }

    /// Bytes that may leave now.
    #[inline]
    #[must_use]
    pub fn open(&self) -> &[u8] {
        &self.open
    }

    /// The first `count` open bytes have left.
    pub fn sent(&mut self, count: usize) {
        self.open_peak = self.open_peak.max(self.open.len());
        if count == self.open.len() {
            self.open.clear();
            if self.open.capacity() > OPEN_CAPACITY_MAX {
                self.open = Vec::new();
            }
        } else {
            self.open.drain(..count);
        }
    }

    /// Replies of other shards that have not come.
    #[must_use]
    pub fn holes(&self) -> usize {
        self.holes
    }

    /// What it holds.
    #[must_use]
    pub fn sizes(&self) -> GateSizes {
        let table = self.parts.capacity() * size_of::<Part>();
        GateSizes {
            open_capacity: self.open.capacity(),
            open: self.open.len(),
            open_peak: self.open_peak.max(self.open.len()),
            parts: self.parts.len(),
            held_capacity: self.held_bytes + self.spare.capacity() + table,
        }
    }

    /// What was in the open buffer before does not count any more as its highest use.
    pub fn forget_peak(&mut self) {
        self.open_peak = 0;
    }

    /// Bytes that wait for a commit.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// Whether nothing is held.
    #[inline]
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.parts.is_empty()
    }
}

/// A buffer larger than this is given back instead of being kept for the next part.
const SPARE_CAPACITY_MAX: usize = 64 << 10;
/// As above, for the bytes on their way to the socket.
const OPEN_CAPACITY_MAX: usize = 64 << 10;
/// As above, for the list of parts: a long pipeline to other shards has thousands.
const PARTS_CAPACITY_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(gate: &mut Gate, text: &str, depends_on: Lsn) {
        let tail = gate.tail();
        let start = tail.len();
        tail.extend_from_slice(text.as_bytes());
        gate.settle(start, depends_on);
    }

    fn leave(gate: &mut Gate) -> String {
        let text = String::from_utf8(gate.open().to_vec()).unwrap();
        gate.sent(text.len());
        text
    }

    #[test]
    fn clean_replies_leave_at_once() {
        let mut gate = Gate::default();
        reply(&mut gate, "a", Lsn::ZERO);
        reply(&mut gate, "b", Lsn::ZERO);
        assert!(gate.is_open());
        assert_eq!(leave(&mut gate), "ab");
    }

    #[test]
    fn a_held_reply_holds_everything_behind_it_and_nothing_before_it() {
        let mut gate = Gate::default();
        reply(&mut gate, "a", Lsn::ZERO);
        reply(&mut gate, "b", THIS_TURN);
        reply(&mut gate, "c", Lsn::ZERO);
        assert_eq!(gate.advance(Lsn(5)), Some(THIS_TURN));
        assert_eq!(leave(&mut gate), "a");
        gate.resolve_turn(Lsn(10));
        assert_eq!(gate.advance(Lsn(9)), Some(Lsn(10)));
        assert_eq!(gate.held_bytes(), 2);
        assert_eq!(gate.advance(Lsn(10)), None);
        assert_eq!(leave(&mut gate), "bc");
        assert_eq!(gate.held_bytes(), 0);
    }

    #[test]
    fn replies_of_other_shards_take_their_place() {
        let mut gate = Gate::default();
        reply(&mut gate, "a", Lsn::ZERO);
        let first = gate.reserve();
        reply(&mut gate, "c", THIS_TURN);
        let second = gate.reserve();
        reply(&mut gate, "e", Lsn::ZERO);
        gate.resolve_turn(Lsn(3));
        gate.fill(second, Bytes::from_static(b"d"), Lsn(7));
        assert_eq!(gate.advance(Lsn(10)), None);
        assert_eq!(leave(&mut gate), "a");
        gate.fill(first, Bytes::from_static(b"b"), Lsn::ZERO);
        assert_eq!(gate.holes(), 0);
        assert_eq!(gate.advance(Lsn(6)), Some(Lsn(7)));
        assert_eq!(leave(&mut gate), "bc");
        assert_eq!(gate.advance(Lsn(7)), None);
        assert_eq!(leave(&mut gate), "de");
    }

    #[test]
    fn a_later_write_does_not_delay_the_reply_before_it() {
        let mut gate = Gate::default();
        reply(&mut gate, "a", Lsn(5));
        reply(&mut gate, "b", THIS_TURN);
        assert_eq!(gate.advance(Lsn(5)), Some(THIS_TURN));
        assert_eq!(leave(&mut gate), "a");
    }

    #[test]
    fn what_is_pushed_does_not_wait_for_the_last_reply() {
        let mut gate = Gate::default();
        reply(&mut gate, "a", Lsn(5));
        let last = gate.reserve_last();
        reply(&mut gate, "push", Lsn::ZERO);
        assert_eq!((gate.advance(Lsn(5)), gate.holes()), (None, 1));
        assert_eq!(leave(&mut gate), "apush");
        reply(&mut gate, "held", Lsn(7));
        gate.fill(last, Bytes::from_static(b"last"), Lsn(6));
        assert_eq!((gate.advance(Lsn(6)), gate.holes()), (Some(Lsn(7)), 0));
        gate.advance(Lsn(7));
        assert_eq!(leave(&mut gate), "heldlast");
        assert!(gate.is_open());
    }

    #[test]
    fn what_comes_next_depends_on_all_that_was_before() {
        let mut gate = Gate::default();
        assert_eq!(gate.dependency(), Lsn::ZERO);
        reply(&mut gate, "a", Lsn(7));
        reply(&mut gate, "b", Lsn(5));
        assert_eq!(gate.dependency(), Lsn(7));
        let ticket = gate.reserve();
        gate.fill(ticket, Bytes::from_static(b"c"), Lsn(9));
        assert_eq!(gate.dependency(), Lsn(9));
        reply(&mut gate, "d", THIS_TURN);
        assert_eq!(gate.dependency(), THIS_TURN);
        gate.resolve_turn(Lsn(20));
        assert_eq!(gate.dependency(), Lsn(20));
    }

    #[test]
    fn a_long_pipeline_leaves_little_memory_behind() {
        const REPLIES: usize = 10_000;
        let mut gate = Gate::default();
        for _ in 0..3 {
            let tickets: Vec<Ticket> = (0..REPLIES)
                .map(|_| {
                    reply(&mut gate, &"x".repeat(20), THIS_TURN);
                    gate.reserve()
                })
                .collect();
            gate.resolve_turn(Lsn(10));
            for ticket in tickets {
                gate.fill(ticket, Bytes::from_static(b"y"), Lsn(10));
            }
            assert_eq!(gate.advance(Lsn(10)), None);
            assert_eq!(leave(&mut gate).len(), REPLIES * 21);
            assert!(gate.parts.capacity() <= PARTS_CAPACITY_MAX);
            assert!(gate.open.capacity() <= OPEN_CAPACITY_MAX);
            assert!(gate.spare.capacity() <= SPARE_CAPACITY_MAX);
        }
    }
}
