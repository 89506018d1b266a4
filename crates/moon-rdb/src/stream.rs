//! What a stream is in a file: entries in blocks, totals, consumer groups.
//!
//! A block is the id of its first entry as it was when the block began, and a listpack with entries
//! that are told relative to that id. The file has it as it lies in memory. The forms differ in what
//! stands behind: the second adds totals to the stream and the group, the third the time at which a
//! consumer last got something.
//!
//! The functions named `encode_...` write one part each, for whoever writes a stream in pieces; the
//! parts come in the order of [`encode`].

use crate::encode::{self as plain, Compressor};
use crate::format::kind;
use std::fmt;

/// The id of an entry: a time and a number that tells entries of the same time apart. Ordered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId {
    /// Unix milliseconds, usually.
    pub ms: u64,
    /// Counts within them.
    pub seq: u64,
}

impl StreamId {
    /// The smallest id, which no entry has.
    pub const MIN: StreamId = StreamId::new(0, 0);
    /// The largest id.
    pub const MAX: StreamId = StreamId::new(u64::MAX, u64::MAX);

    /// An id.
    #[must_use]
    pub const fn new(ms: u64, seq: u64) -> StreamId {
        StreamId { ms, seq }
    }

    /// The id right behind; `None` behind the largest.
    #[must_use]
    pub fn next(self) -> Option<StreamId> {
        match self.seq.checked_add(1) {
            Some(seq) => Some(StreamId { seq, ..self }),
            None => Some(StreamId::new(self.ms.checked_add(1)?, 0)),
        }
    }

    /// The id right before; `None` before the smallest.
    #[must_use]
    pub fn previous(self) -> Option<StreamId> {
        match self.seq.checked_sub(1) {
            Some(seq) => Some(StreamId { seq, ..self }),
            None => Some(StreamId::new(self.ms.checked_sub(1)?, u64::MAX)),
        }
    }

    /// 16 bytes that sort as the ids do.
    #[must_use]
    pub fn to_be_bytes(self) -> [u8; 16] {
        (u128::from(self.ms) << 64 | u128::from(self.seq)).to_be_bytes()
    }

    /// From [`StreamId::to_be_bytes`].
    #[must_use]
    pub fn from_be_bytes(bytes: [u8; 16]) -> StreamId {
        let [ms, seq] = [&bytes[..8], &bytes[8..]]
            .map(|half| half.iter().fold(0, |n, byte| n << 8 | u64::from(*byte)));
        StreamId { ms, seq }
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.seq)
    }
}

/// A stream as a file has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RdbStream {
    /// Blocks in the order of their ids, each a well-formed listpack.
    pub blocks: Vec<(StreamId, Vec<u8>)>,
    /// Totals.
    pub totals: StreamTotals,
    /// Consumer groups.
    pub groups: Vec<RdbGroup>,
}

/// What a stream says about all its entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamTotals {
    /// Entries in all blocks that are not deleted.
    pub len: u64,
    /// The largest id ever added.
    pub last_id: StreamId,
    /// What the first form does not have.
    pub since_second: Option<StreamHistory>,
}

/// What the second form says in addition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamHistory {
    /// The id of the first entry; 0-0 if there is none.
    pub first_id: StreamId,
    /// The largest id that was deleted.
    pub max_deleted_id: StreamId,
    /// Entries ever added.
    pub entries_added: u64,
}

/// A consumer group as a file has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RdbGroup {
    /// Its name.
    pub name: Vec<u8>,
    /// The id delivered last.
    pub last_id: StreamId,
    /// How many entries of the stream's life it has read; `None` if that is not known, and in the
    /// first form.
    pub entries_read: Option<u64>,
    /// What was delivered and not acknowledged, in the order of the ids.
    pub pending: Vec<RdbPending>,
    /// Its consumers.
    pub consumers: Vec<RdbConsumer>,
}

/// An entry that waits for its acknowledgement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RdbPending {
    /// Its id.
    pub id: StreamId,
    /// Unix milliseconds of the last delivery.
    pub delivered_ms: i64,
    /// How often it was delivered.
    pub deliveries: u64,
}

/// A consumer as a file has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RdbConsumer {
    /// Its name.
    pub name: Vec<u8>,
    /// Unix milliseconds at which it was last heard of.
    pub seen_ms: i64,
    /// Unix milliseconds at which it last got something, -1 for never. Forms that do not have it
    /// read as `seen_ms`.
    pub active_ms: i64,
    /// Its part of the group's pending entries, in the order of the ids.
    pub pending: Vec<StreamId>,
}

/// Which fields a stream has in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StreamForm {
    /// Value type 15, of Redis 5.
    First,
    /// Value type 19, of Redis 7.0.
    Second,
    /// Value type 21, of Redis 7.2.
    Third,
}

impl StreamForm {
    /// The byte in front of the key.
    #[must_use]
    pub fn kind(self) -> u8 {
        match self {
            StreamForm::First => kind::STREAM,
            StreamForm::Second => kind::STREAM_2,
            StreamForm::Third => kind::STREAM_3,
        }
    }

    /// The form that goes with [`ValueKind::Stream`](crate::encode::ValueKind::Stream): the newest
    /// that Redis 7.0 reads.
    #[must_use]
    pub const fn of_images() -> StreamForm {
        StreamForm::Second
    }

    pub(crate) fn of_kind(kind: u8) -> Option<StreamForm> {
        [StreamForm::First, StreamForm::Second, StreamForm::Third]
            .into_iter()
            .find(|form| form.kind() == kind)
    }
}

/// What a file has for a number of entries read that is not known.
pub(crate) const ENTRIES_READ_UNKNOWN: u64 = u64::MAX;

/// Appends a whole stream: what follows the key.
pub fn encode(
    out: &mut Vec<u8>,
    stream: &RdbStream,
    form: StreamForm,
    mut compressor: Option<&mut Compressor>,
) {
    plain::len(out, stream.blocks.len() as u64);
    for (id, block) in &stream.blocks {
        encode_block_id(out, *id);
        match compressor.as_deref_mut() {
            Some(compressor) => plain::string_compressed(out, block, compressor),
            None => plain::string(out, block),
        }
    }
    encode_totals(out, &stream.totals, form);
    plain::len(out, stream.groups.len() as u64);
    for group in &stream.groups {
        encode_group(out, &group.name, group.last_id, group.entries_read, form);
        plain::len(out, group.pending.len() as u64);
        for pending in &group.pending {
            encode_pending(out, pending);
        }
        plain::len(out, group.consumers.len() as u64);
        for consumer in &group.consumers {
            let times = [consumer.seen_ms, consumer.active_ms];
            encode_consumer(out, &consumer.name, times, form);
            plain::len(out, consumer.pending.len() as u64);
            for id in &consumer.pending {
                encode_pending_id(out, *id);
            }
        }
    }
}

/// The id of a block; the listpack follows as a string.
pub fn encode_block_id(out: &mut Vec<u8>, id: StreamId) {
    plain::string(out, &id.to_be_bytes());
}

/// The totals; the number of groups follows.
pub fn encode_totals(out: &mut Vec<u8>, totals: &StreamTotals, form: StreamForm) {
    plain::len(out, totals.len);
    encode_id(out, totals.last_id);
    if form >= StreamForm::Second {
        let history = totals.since_second.unwrap_or_default();
        encode_id(out, history.first_id);
        encode_id(out, history.max_deleted_id);
        plain::len(out, history.entries_added);
    }
}

/// The head of a group; the number of its pending entries follows.
pub fn encode_group(
    out: &mut Vec<u8>,
    name: &[u8],
    last_id: StreamId,
    entries_read: Option<u64>,
    form: StreamForm,
) {
    plain::string(out, name);
    encode_id(out, last_id);
    if form >= StreamForm::Second {
        plain::len(out, entries_read.unwrap_or(ENTRIES_READ_UNKNOWN));
    }
}

/// A pending entry of a group.
pub fn encode_pending(out: &mut Vec<u8>, pending: &RdbPending) {
    encode_pending_id(out, pending.id);
    out.extend_from_slice(&pending.delivered_ms.to_le_bytes());
    plain::len(out, pending.deliveries);
}

/// The head of a consumer: its name, and when it was seen and active. The number of its pending
/// entries follows.
pub fn encode_consumer(out: &mut Vec<u8>, name: &[u8], times: [i64; 2], form: StreamForm) {
    plain::string(out, name);
    let [seen_ms, active_ms] = times;
    out.extend_from_slice(&seen_ms.to_le_bytes());
    if form >= StreamForm::Third {
        out.extend_from_slice(&active_ms.to_le_bytes());
    }
}

/// A pending entry of a consumer.
pub fn encode_pending_id(out: &mut Vec<u8>, id: StreamId) {
    out.extend_from_slice(&id.to_be_bytes());
}

fn encode_id(out: &mut Vec<u8>, id: StreamId) {
    plain::len(out, id.ms);
    plain::len(out, id.seq);
}
