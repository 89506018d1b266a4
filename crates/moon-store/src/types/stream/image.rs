//! A stream as the bytes that an RDB file has for it, in as many steps as wanted.
//!
//! Between two steps the writer remembers what it wrote last, by id or name, and finds its place
//! again in logarithmic time.

use super::{Group, Stream};
use moon_rdb::StreamId;
use moon_rdb::encode::{self, Compressor};
use moon_rdb::stream::{
    RdbPending, StreamForm, StreamHistory, StreamTotals, encode_block_id, encode_consumer,
    encode_group, encode_pending, encode_pending_id, encode_totals,
};
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;

const FORM: StreamForm = StreamForm::of_images();

/// Longer blocks are not compressed: they could not be written in pieces. Only a stream of long
/// values, or with an unusual setting, has them.
const COMPRESSED_MAX: usize = 256 << 10;

/// Writes one stream, which must not change in between.
#[derive(Debug, Default)]
pub(crate) struct StreamWriter {
    at: At,
}

/// What comes next.
#[derive(Clone, Debug, Default)]
enum At {
    /// The number of blocks.
    #[default]
    Start,
    /// The block behind this id.
    Blocks(Option<StreamId>),
    /// The rest of a block, from this byte on.
    InBlock(StreamId, usize),
    /// The group behind the one of this name.
    Groups(Option<Box<[u8]>>),
    /// The pending entry of the group behind this id.
    Pending(Box<[u8]>, Option<StreamId>),
    /// The consumer of the group behind the one of this name.
    Consumers(Box<[u8]>, Option<Arc<[u8]>>),
    /// The pending entry of the consumer behind this id.
    ConsumerPending(Box<[u8]>, Arc<[u8]>, Option<StreamId>),
    Done,
}

impl StreamWriter {
    /// Appends to `out` until it has about `len_max` bytes; whether the stream is complete now.
    pub(crate) fn write(
        &mut self,
        stream: &Stream,
        out: &mut Vec<u8>,
        len_max: usize,
        mut compressor: Option<&mut Compressor>,
    ) -> bool {
        while out.len() < len_max && !matches!(self.at, At::Done) {
            let at = std::mem::replace(&mut self.at, At::Done);
            self.at = step(stream, at, out, len_max, compressor.as_deref_mut());
        }
        // Looks ahead, so that the last piece is known to be the last.
        self.at = settled(stream, std::mem::take(&mut self.at));
        matches!(self.at, At::Done)
    }
}

/// The same place, past all ends of lists that nothing is written for.
fn settled(stream: &Stream, mut at: At) -> At {
    loop {
        at = match at {
            At::ConsumerPending(name, consumer, behind)
                if pending_behind(stream, &name, &consumer, behind)
                    .next()
                    .is_none() =>
            {
                At::Consumers(name, Some(consumer))
            }
            At::Consumers(name, behind)
                if (stream.group(&name))
                    .is_none_or(|group| group.consumer_behind(behind.as_ref()).is_none()) =>
            {
                At::Groups(Some(name))
            }
            At::Groups(behind) if group_behind(stream, behind.as_deref()).is_none() => At::Done,
            settled => return settled,
        }
    }
}

fn group_behind<'a>(stream: &'a Stream, behind: Option<&[u8]>) -> Option<(&'a [u8], &'a Group)> {
    let after = behind.map_or(Unbounded, Excluded);
    let (name, group) = stream.groups.range::<[u8], _>((after, Unbounded)).next()?;
    Some((name, group))
}

/// The pending entries of a consumer behind an id.
fn pending_behind<'a>(
    stream: &'a Stream,
    group: &[u8],
    consumer: &[u8],
    behind: Option<StreamId>,
) -> impl Iterator<Item = StreamId> + use<'a> {
    let found = stream
        .group(group)
        .and_then(|group| group.consumer(group.consumer_named(consumer)?));
    let after = behind.map_or(Unbounded, Excluded);
    found
        .into_iter()
        .flat_map(move |consumer| consumer.pending().range((after, Unbounded)).copied())
}

/// Writes what comes next, as much of it as there is room for and at least something.
fn step(
    stream: &Stream,
    at: At,
    out: &mut Vec<u8>,
    len_max: usize,
    compressor: Option<&mut Compressor>,
) -> At {
    match at {
        At::Start => {
            encode::len(out, stream.blocks.len() as u64);
            At::Blocks(None)
        }
        At::Blocks(behind) => blocks(stream, behind, out, len_max, compressor),
        At::InBlock(id, written) => {
            let bytes = stream
                .blocks
                .get(&id)
                .map_or(&[][..], |block| block.as_bytes());
            rest_of_block(id, bytes, written, out, len_max)
        }
        At::Groups(behind) => groups(stream, behind.as_deref(), out),
        At::Pending(name, behind) => pending(stream, name, behind, out, len_max),
        At::Consumers(name, behind) => consumers(stream, name, behind, out),
        At::ConsumerPending(name, consumer, behind) => {
            consumer_pending(stream, name, consumer, behind, out, len_max)
        }
        At::Done => At::Done,
    }
}

fn blocks(
    stream: &Stream,
    mut behind: Option<StreamId>,
    out: &mut Vec<u8>,
    len_max: usize,
    mut compressor: Option<&mut Compressor>,
) -> At {
    let after = behind.map_or(Unbounded, Excluded);
    for (id, block) in stream.blocks.range((after, Unbounded)) {
        if out.len() >= len_max {
            return At::Blocks(behind);
        }
        let bytes = block.as_bytes();
        encode_block_id(out, *id);
        match compressor.as_deref_mut() {
            Some(compressor) if bytes.len() <= COMPRESSED_MAX => {
                encode::string_compressed(out, bytes, compressor);
            }
            _ => {
                encode::len(out, bytes.len() as u64);
                if let unfinished @ At::InBlock(..) = rest_of_block(*id, bytes, 0, out, len_max) {
                    return unfinished;
                }
            }
        }
        behind = Some(*id);
    }
    let totals = StreamTotals {
        len: stream.len() as u64,
        last_id: stream.last_id(),
        since_second: Some(StreamHistory {
            first_id: stream.first_id(),
            max_deleted_id: stream.max_deleted_id(),
            entries_added: stream.entries_added(),
        }),
    };
    encode_totals(out, &totals, FORM);
    encode::len(out, stream.groups.len() as u64);
    At::Groups(None)
}

fn rest_of_block(
    id: StreamId,
    bytes: &[u8],
    written: usize,
    out: &mut Vec<u8>,
    len_max: usize,
) -> At {
    let rest = bytes.get(written..).unwrap_or_default();
    let room = len_max.saturating_sub(out.len()).max(1).min(rest.len());
    out.extend_from_slice(&rest[..room]);
    if room < rest.len() {
        At::InBlock(id, written + room)
    } else {
        At::Blocks(Some(id))
    }
}

fn groups(stream: &Stream, behind: Option<&[u8]>, out: &mut Vec<u8>) -> At {
    let Some((name, group)) = group_behind(stream, behind) else {
        return At::Done;
    };
    encode_group(out, name, group.last_id, group.entries_read, FORM);
    encode::len(out, group.pending().len() as u64);
    At::Pending(name.into(), None)
}

fn pending(
    stream: &Stream,
    name: Box<[u8]>,
    mut behind: Option<StreamId>,
    out: &mut Vec<u8>,
    len_max: usize,
) -> At {
    let Some(group) = stream.group(&name) else {
        return At::Done;
    };
    let after = behind.map_or(Unbounded, Excluded);
    for (id, pending) in group.pending().range((after, Unbounded)) {
        if out.len() >= len_max {
            return At::Pending(name, behind);
        }
        let pending = RdbPending {
            id: *id,
            delivered_ms: pending.delivered_ms,
            deliveries: pending.deliveries,
        };
        encode_pending(out, &pending);
        behind = Some(*id);
    }
    encode::len(out, group.consumers().len() as u64);
    At::Consumers(name, None)
}

fn consumers(stream: &Stream, name: Box<[u8]>, behind: Option<Arc<[u8]>>, out: &mut Vec<u8>) -> At {
    let Some(group) = stream.group(&name) else {
        return At::Done;
    };
    let Some(consumer) = group.consumer_behind(behind.as_ref()) else {
        return At::Groups(Some(name));
    };
    let times = [consumer.seen_ms, consumer.active_ms.unwrap_or(-1)];
    encode_consumer(out, consumer.name(), times, FORM);
    encode::len(out, consumer.pending().len() as u64);
    At::ConsumerPending(name, Group::shared_name(consumer), None)
}

fn consumer_pending(
    stream: &Stream,
    name: Box<[u8]>,
    consumer: Arc<[u8]>,
    mut behind: Option<StreamId>,
    out: &mut Vec<u8>,
    len_max: usize,
) -> At {
    for id in pending_behind(stream, &name, &consumer, behind) {
        if out.len() >= len_max {
            return At::ConsumerPending(name, consumer, behind);
        }
        encode_pending_id(out, id);
        behind = Some(id);
    }
    At::Consumers(name, Some(consumer))
}
