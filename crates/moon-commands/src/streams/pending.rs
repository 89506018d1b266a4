//! XACK, XPENDING: what waits to be acknowledged.

use super::delete::parse_ids;
use super::{elapsed, ids, no_group, write_id};
use crate::collection::{read, write_source};
use crate::context::{CommandResult, Cx};
use crate::error::CommandError;
use crate::parse::{self, is};
use moon_resp::{Args, Reply};
use moon_store::stream::{Consumer, Group, Pending};
use moon_store::{Key, Stream, StreamId};

pub(super) fn xack(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let (key, group) = (Key::new(args.at(1)), args.at(2));
    let stream = write_source::<Stream>(cx, key)?.filter(|stream| stream.group(group).is_some());
    let Some(stream) = stream else {
        cx.reply.count(0);
        return Ok(());
    };
    let ids = parse_ids(args.from(3))?;
    let acknowledged = stream.change_group(group, |group| {
        ids.iter().filter(|id| group.acknowledge(**id)).count()
    });
    let acknowledged = acknowledged.unwrap_or(0);
    if acknowledged > 0 {
        cx.changed_as_sent(&[key], args);
    }
    cx.reply.count(acknowledged);
    Ok(())
}

/// The long form: which entries are asked for.
struct Filter<'a> {
    start: StreamId,
    end: StreamId,
    count: usize,
    /// Milliseconds that have passed since the last delivery at least.
    idle_min_ms: i64,
    consumer: Option<&'a [u8]>,
}

impl<'a> Filter<'a> {
    fn parse(args: Args<'a>) -> Result<Filter<'a>, CommandError> {
        let mut at = 3;
        let mut idle_min_ms = 0;
        if is(args.at(3), "idle") {
            idle_min_ms = parse::integer(args.at(4))?;
            if args.len() < 8 {
                return Err(CommandError::Syntax);
            }
            at += 2;
        }
        let count = parse::integer(args.at(at + 2))?;
        Ok(Filter {
            start: ids::range_start(args.at(at))?,
            end: ids::range_end(args.at(at + 1))?,
            count: usize::try_from(count).unwrap_or(0),
            idle_min_ms,
            consumer: args.get(at + 3),
        })
    }
}

pub(super) fn xpending(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let filter = match args.len() {
        3 => None,
        6..=9 => Some(Filter::parse(args)?),
        _ => return Err(CommandError::Syntax),
    };
    let (key, name, now) = (Key::new(args.at(1)), args.at(2), cx.now.0);
    let (stream, reply) = read::<Stream>(cx, key)?;
    let Some(group) = stream.and_then(|stream| stream.group(name)) else {
        return Err(no_group(key.bytes, name));
    };
    match filter {
        None => summary(reply, group),
        Some(filter) => details(reply, group, &filter, now),
    }
    Ok(())
}

fn summary(reply: &mut Reply<'_>, group: &Group) {
    let pending = group.pending();
    reply.array(4);
    reply.count(pending.len());
    let edges = pending.first_key_value().zip(pending.last_key_value());
    let Some(((first, _), (last, _))) = edges else {
        reply.null();
        reply.null();
        reply.null_array();
        return;
    };
    write_id(reply, *first);
    write_id(reply, *last);
    let start = reply.position();
    let mut consumers = 0;
    for consumer in group.consumers().filter(|c| !c.pending().is_empty()) {
        reply.array(2);
        reply.bulk(consumer.name());
        let count = i64::try_from(consumer.pending().len()).unwrap_or(i64::MAX);
        reply.bulk_integer(count);
        consumers += 1;
    }
    reply.array_since(start, consumers);
}

fn details(reply: &mut Reply<'_>, group: &Group, filter: &Filter<'_>, now: i64) {
    let owner = match filter.consumer {
        None => None,
        Some(name) => match group.consumer_named(name).and_then(|id| group.consumer(id)) {
            Some(consumer) => Some(consumer),
            None => return reply.array(0),
        },
    };
    if filter.start > filter.end {
        return reply.array(0);
    }
    let range = filter.start..=filter.end;
    let pending: Box<dyn Iterator<Item = (StreamId, Pending)>> = match owner {
        None => Box::new(group.pending().range(range).map(|(id, p)| (*id, *p))),
        Some(consumer) => Box::new(
            (consumer.pending().range(range))
                .filter_map(|id| Some((*id, *group.pending().get(id)?))),
        ),
    };
    let is_idle = |(_, pending): &(StreamId, Pending)| {
        filter.idle_min_ms <= 0 || now.saturating_sub(pending.delivered_ms) >= filter.idle_min_ms
    };
    let start = reply.position();
    let mut written = 0;
    for (id, pending) in pending.filter(is_idle).take(filter.count) {
        let owner = group.consumer(pending.consumer);
        reply.array(4);
        write_id(reply, id);
        reply.bulk(owner.map_or(&b""[..], Consumer::name));
        reply.integer(elapsed(now, pending.delivered_ms));
        reply.integer(i64::try_from(pending.deliveries).unwrap_or(i64::MAX));
        written += 1;
    }
    reply.array_since(start, written);
}
