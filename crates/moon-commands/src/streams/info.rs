//! XINFO: what is known about a stream, its groups and their consumers.

use super::read::write_entries;
use super::{elapsed, no_group_of_key, write_entry, write_id, write_optional};
use crate::collection::read;
use crate::context::{CommandResult, Cx};
use crate::error::CommandError;
use crate::parse::{self, is};
use crate::subcommands;
use moon_resp::{Args, Reply};
use moon_store::stream::{Consumer, Group};
use moon_store::{Key, Stream, StreamId};

pub(crate) fn help(cx: &mut Cx<'_>, _: Args<'_>) -> CommandResult {
    subcommands::help_reply(&mut cx.reply, "xinfo");
    Ok(())
}

/// The stream at index 2, and the reply.
fn subject<'c, 'a>(
    cx: &'c mut Cx<'a>,
    args: Args<'_>,
) -> Result<(&'c Stream, &'c mut Reply<'a>), CommandError> {
    let (stream, reply) = read::<Stream>(cx, Key::new(args.at(2)))?;
    let stream = stream.ok_or(CommandError::Text("ERR no such key"))?;
    Ok((stream, reply))
}

fn label(reply: &mut Reply<'_>, name: &str) {
    reply.bulk(name.as_bytes());
}

fn number(reply: &mut Reply<'_>, name: &str, number: u64) {
    label(reply, name);
    reply.integer(i64::try_from(number).unwrap_or(i64::MAX));
}

fn count(reply: &mut Reply<'_>, name: &str, count: usize) {
    number(reply, name, count as u64);
}

fn id(reply: &mut Reply<'_>, name: &str, id: StreamId) {
    label(reply, name);
    write_id(reply, id);
}

pub(crate) fn consumers(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let now = cx.now.0;
    let (stream, reply) = subject(cx, args)?;
    let Some(group) = stream.group(args.at(3)) else {
        return Err(no_group_of_key(args.at(2), args.at(3)));
    };
    reply.array(group.consumers().len());
    for consumer in group.consumers() {
        reply.map(4);
        label(reply, "name");
        reply.bulk(consumer.name());
        count(reply, "pending", consumer.pending().len());
        label(reply, "idle");
        reply.integer(elapsed(now, consumer.seen_ms));
        label(reply, "inactive");
        reply.integer(
            consumer
                .active_ms
                .map_or(-1, |active| now.saturating_sub(active)),
        );
    }
    Ok(())
}

pub(crate) fn groups(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let (stream, reply) = subject(cx, args)?;
    reply.array(stream.groups().len());
    for (name, group) in stream.groups() {
        reply.map(6);
        label(reply, "name");
        reply.bulk(name);
        count(reply, "consumers", group.consumers().len());
        count(reply, "pending", group.pending().len());
        id(reply, "last-delivered-id", group.last_id);
        label(reply, "entries-read");
        write_optional(reply, group.entries_read.map(u64::cast_signed));
        label(reply, "lag");
        write_optional(reply, stream.lag(group));
    }
    Ok(())
}

/// How much of a stream is told.
enum Detail {
    Summary,
    /// At most this many entries, groups' and consumers' pending entries each; `None` for all.
    Full(Option<usize>),
}

impl Detail {
    fn parse(args: Args<'_>) -> Result<Detail, CommandError> {
        const ENTRIES: usize = 10;
        let syntax = || subcommands::wrong_arguments(args, "XINFO");
        match args.len() {
            3 => return Ok(Detail::Summary),
            4 | 6 if is(args.at(3), "full") => {}
            _ => return Err(syntax()),
        }
        if args.len() == 4 {
            return Ok(Detail::Full(Some(ENTRIES)));
        }
        if !is(args.at(4), "count") {
            return Err(syntax());
        }
        let count = parse::integer(args.at(5))?;
        let count = usize::try_from(count).unwrap_or(ENTRIES);
        Ok(Detail::Full((count > 0).then_some(count)))
    }
}

pub(crate) fn stream_info(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let (stream, reply) = subject(cx, args)?;
    let detail = Detail::parse(args)?;
    reply.map(match detail {
        Detail::Summary => 10,
        Detail::Full(_) => 9,
    });
    count(reply, "length", stream.len());
    count(reply, "radix-tree-keys", stream.blocks_len());
    count(reply, "radix-tree-nodes", radix_nodes(stream));
    id(reply, "last-generated-id", stream.last_id());
    id(reply, "max-deleted-entry-id", stream.max_deleted_id());
    number(reply, "entries-added", stream.entries_added());
    id(reply, "recorded-first-entry-id", stream.first_id());
    let (first, last) = (StreamId::MIN, StreamId::MAX);
    match detail {
        Detail::Summary => {
            count(reply, "groups", stream.groups().len());
            label(reply, "first-entry");
            match stream.range(first, last).next() {
                Some(entry) => write_entry(reply, &entry),
                None => reply.null(),
            }
            label(reply, "last-entry");
            match stream.range_back(first, last).next() {
                Some(entry) => write_entry(reply, &entry),
                None => reply.null(),
            }
        }
        Detail::Full(most) => {
            let most = most.unwrap_or(usize::MAX);
            label(reply, "entries");
            write_entries(reply, stream.range(first, last).take(most));
            label(reply, "groups");
            reply.array(stream.groups().len());
            for (name, group) in stream.groups() {
                full_group(reply, stream, name, group, most);
            }
        }
    }
    Ok(())
}

fn full_group(reply: &mut Reply<'_>, stream: &Stream, name: &[u8], group: &Group, most: usize) {
    reply.map(7);
    label(reply, "name");
    reply.bulk(name);
    id(reply, "last-delivered-id", group.last_id);
    label(reply, "entries-read");
    write_optional(reply, group.entries_read.map(u64::cast_signed));
    label(reply, "lag");
    write_optional(reply, stream.lag(group));
    count(reply, "pel-count", group.pending().len());
    label(reply, "pending");
    reply.array(group.pending().len().min(most));
    for (id, pending) in group.pending().iter().take(most) {
        let owner = group.consumer(pending.consumer);
        reply.array(4);
        write_id(reply, *id);
        reply.bulk(owner.map_or(&b""[..], Consumer::name));
        reply.integer(pending.delivered_ms);
        reply.integer(i64::try_from(pending.deliveries).unwrap_or(i64::MAX));
    }
    label(reply, "consumers");
    reply.array(group.consumers().len());
    for consumer in group.consumers() {
        reply.map(5);
        label(reply, "name");
        reply.bulk(consumer.name());
        label(reply, "seen-time");
        reply.integer(consumer.seen_ms);
        label(reply, "active-time");
        reply.integer(consumer.active_ms.unwrap_or(-1));
        count(reply, "pel-count", consumer.pending().len());
        label(reply, "pending");
        reply.array(consumer.pending().len().min(most));
        for id in consumer.pending().iter().take(most) {
            let pending = group.pending().get(id);
            reply.array(3);
            write_id(reply, *id);
            reply.integer(pending.map_or(0, |pending| pending.delivered_ms));
            let deliveries = pending.map_or(0, |pending| pending.deliveries);
            reply.integer(i64::try_from(deliveries).unwrap_or(i64::MAX));
        }
    }
}

/// Beyond this many blocks their tree is guessed from the first of them.
const COUNTED_BLOCKS: usize = 10_000;

/// How many nodes Redis's tree of the same blocks has: there is none here. A node for every place
/// where ids part, one for what single children have in common, one for every id's end.
fn radix_nodes(stream: &Stream) -> usize {
    let blocks = stream.blocks_len();
    if blocks == 0 {
        return 1;
    }
    let ids: Vec<[u8; 16]> = stream
        .block_ids()
        .take(COUNTED_BLOCKS)
        .map(StreamId::to_be_bytes)
        .collect();
    let nodes = count_nodes(&ids);
    nodes * blocks / ids.len()
}

/// The nodes of a compressed tree of these distinct keys, which are sorted.
fn count_nodes(ids: &[[u8; 16]]) -> usize {
    // Lengths of the prefixes at which the path to the key before parted from others.
    let mut forks: Vec<usize> = Vec::new();
    let mut nodes = ids.len();
    // A chain of single children ends at `end`; it is a node if it has any bytes.
    let chain = |start: usize, end: usize| usize::from(end > start);
    for pair in ids.windows(2) {
        let [a, b] = pair else { continue };
        let common = a.iter().zip(b).take_while(|(a, b)| a == b).count();
        let mut below = a.len();
        while let Some(fork) = forks.pop_if(|fork| *fork > common) {
            nodes += 1 + chain(fork + 1, below);
            below = fork;
        }
        if forks.last() == Some(&common) {
            nodes += chain(common + 1, below);
        } else {
            // What was one path parts here: the part below is counted now.
            nodes += chain(common + 1, below);
            forks.push(common);
        }
    }
    let mut below = 16;
    while let Some(fork) = forks.pop() {
        nodes += 1 + chain(fork + 1, below);
        below = fork;
    }
    nodes + chain(0, below)
}
