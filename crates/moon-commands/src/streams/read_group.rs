//! XREADGROUP: new entries for a consumer, who has to acknowledge them, or those that it has not
//! acknowledged yet.
//!
//! What becomes pending is told as XCLAIM with the time and the count, and the position of the group
//! as XGROUP SETID, so that the effects depend on nothing. A second look at old entries counts as
//! another delivery, which is told too.

use super::effects::Told;
use super::read::{ReadOptions, begin_stream, end_streams, nothing, write_entries};
use super::{ids, no_group, now_ms, write_entry, write_id};
use crate::collection::{write, write_source};
use crate::context::{CommandResult, Cx};
use crate::error::CommandError;
use moon_resp::{Args, Reply};
use moon_store::stream::{ConsumerId, Group, Pending};
use moon_store::{Key, Stream, StreamId};

/// What is asked of one stream.
#[derive(Clone, Copy)]
enum Wanted {
    /// Entries that no consumer got yet.
    New,
    /// The consumer's own pending entries behind an id.
    History(StreamId),
}

pub(super) fn xreadgroup(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let options = ReadOptions::parse(args, "xreadgroup", cx)?;
    let Some((group, consumer)) = options.group else {
        return Err(CommandError::Text(
            "ERR Missing GROUP option for XREADGROUP",
        ));
    };
    let mut wanted = Vec::with_capacity(options.len());
    for index in 0..options.len() {
        let (key, id) = options.stream(index);
        wanted.push(find(write_source::<Stream>(cx, key)?, key, group, id)?);
    }
    let waits = options.block_ms.is_some() && !cx.effects.is_in_transaction();
    if waits && !has_any(cx, &options, &wanted, group)? {
        nothing(cx, options.block_ms, None);
        return Ok(());
    }
    let mut served = 0;
    let mut encoded = Vec::new();
    for (index, wanted) in wanted.iter().enumerate() {
        let (key, _) = options.stream(index);
        let now = now_ms(cx);
        let mut reply = Reply::new(&mut encoded, cx.reply.protocol());
        let Some(stream) = write::<Stream>(cx, key)? else {
            continue;
        };
        let mut told = Told::new(key, group);
        let reader = stream.change_group(group, |group| {
            let (reader, is_new) = group.create_consumer(consumer, now);
            group.seen(reader, now);
            if is_new {
                told.created_consumer(consumer);
            }
            reader
        });
        let Some(reader) = reader else {
            continue;
        };
        let reading = Reading {
            group,
            reader,
            now,
            count: options.count.unwrap_or(usize::MAX),
            no_ack: options.no_ack,
        };
        // Looked at only now: a stream may be named twice.
        if is_served(*wanted, stream, group) {
            served += 1;
            begin_stream(&mut reply, key.bytes);
            match *wanted {
                Wanted::New => reading.new_entries(stream, &mut reply, &mut told),
                Wanted::History(after) => reading.history(stream, after, &mut reply, &mut told),
            }
        }
        told.tell(cx);
    }
    if served == 0 {
        nothing(cx, options.block_ms, None);
        return Ok(());
    }
    let start = cx.reply.position();
    cx.reply.raw(&encoded);
    end_streams(&mut cx.reply, start, served);
    Ok(())
}

/// Whether there is an answer about a stream: history always is one, if an empty one.
fn is_served(wanted: Wanted, stream: &Stream, group: &[u8]) -> bool {
    match (wanted, stream.group(group)) {
        (Wanted::History(_), _) => true,
        (Wanted::New, Some(group)) => {
            (stream.last_entry_id()).is_some_and(|last| last > group.last_id)
        }
        (Wanted::New, None) => false,
    }
}

/// Whether there is an answer about any of the streams.
fn has_any(
    cx: &mut Cx<'_>,
    options: &ReadOptions<'_>,
    wanted: &[Wanted],
    group: &[u8],
) -> Result<bool, CommandError> {
    for (index, wanted) in wanted.iter().enumerate() {
        let (key, _) = options.stream(index);
        let stream = write::<Stream>(cx, key)?;
        if stream.is_some_and(|stream| is_served(*wanted, stream, group)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What `id` asks of a stream, which must have the group.
fn find(
    stream: Option<&mut Stream>,
    key: Key<'_>,
    name: &[u8],
    id: &[u8],
) -> Result<Wanted, CommandError> {
    let stream = stream.as_deref();
    if stream.and_then(|stream| stream.group(name)).is_none() {
        return Err(CommandError::Detailed(
            format!(
                "{} in XREADGROUP with GROUP option",
                no_group(key.bytes, name).text()
            )
            .into(),
        ));
    }
    match id {
        b"$" => Err(CommandError::Text(
            "ERR The $ ID is meaningless in the context of XREADGROUP: you want to read the history \
             of this consumer by specifying a proper ID, or use the > ID to get new messages. The $ \
             ID would just return an empty result set.",
        )),
        b"+" => Err(CommandError::Text(
            "ERR The + ID is meaningless in the context of XREADGROUP: you want to read the history \
             of this consumer by specifying a proper ID, or use the > ID to get new messages. The + \
             ID would just return an empty result set.",
        )),
        b">" => Ok(Wanted::New),
        id => match ids::strict(id, 0)? {
            // Redis does not tell this id from `>`.
            StreamId::MAX => Ok(Wanted::New),
            after => Ok(Wanted::History(after)),
        },
    }
}

/// One consumer reading one stream.
struct Reading<'a> {
    group: &'a [u8],
    reader: ConsumerId,
    now: i64,
    count: usize,
    no_ack: bool,
}

impl Reading<'_> {
    fn new_entries(&self, stream: &mut Stream, reply: &mut Reply<'_>, told: &mut Told<'_>) {
        let Some(before) = stream.group(self.group).map(Group::position) else {
            return;
        };
        let mut delivered = Vec::new();
        let from = before.last_id.next().unwrap_or(StreamId::MAX);
        let entries = stream.range(from, StreamId::MAX).take(self.count);
        write_entries(reply, entries.inspect(|entry| delivered.push(entry.id)));
        let position = stream.position_behind(before, &delivered);
        stream.change_group(self.group, |group| {
            group.last_id = position.last_id;
            group.entries_read = position.entries_read;
            if !self.no_ack {
                for id in delivered {
                    let pending = Pending {
                        consumer: self.reader,
                        delivered_ms: self.now,
                        deliveries: 1,
                    };
                    group.set_pending(id, pending);
                    told.claimed(group, id, pending);
                }
                group.active(self.reader, self.now);
            }
            told.moved(group);
        });
    }

    fn history(
        &self,
        stream: &mut Stream,
        after: StreamId,
        reply: &mut Reply<'_>,
        told: &mut Told<'_>,
    ) {
        let owned = stream
            .group(self.group)
            .and_then(|group| group.consumer(self.reader));
        let ids: Vec<StreamId> = after.next().map_or_else(Vec::new, |from| {
            owned
                .into_iter()
                .flat_map(|consumer| consumer.pending().range(from..).take(self.count).copied())
                .collect()
        });
        reply.array(ids.len());
        let mut again = Vec::new();
        for id in ids {
            match stream.get(id) {
                Some(entry) => {
                    write_entry(reply, &entry);
                    again.push(id);
                }
                None => {
                    reply.array(2);
                    write_id(reply, id);
                    reply.null_array();
                }
            }
        }
        stream.change_group(self.group, |group| {
            for id in again {
                let Some(pending) = group.pending().get(&id).copied() else {
                    continue;
                };
                let pending = Pending {
                    delivered_ms: self.now,
                    deliveries: pending.deliveries.saturating_add(1),
                    ..pending
                };
                group.set_pending(id, pending);
                told.claimed(group, id, pending);
            }
        });
    }
}
