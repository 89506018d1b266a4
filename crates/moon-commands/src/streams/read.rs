//! XLEN, XRANGE, XREVRANGE, XREAD.

use super::ids::{self, IdRange};
use super::write_entry;
use crate::blocking::{Wait, milliseconds};
use crate::collection::read;
use crate::context::{CommandResult, Cx};
use crate::error::CommandError;
use crate::parse::{self, detailed, is, next_option, option_value};
use moon_resp::{Args, OwnedArgs, Protocol, Reply};
use moon_store::stream::Entry;
use moon_store::{Key, Stream, StreamId};

pub(super) fn xlen(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let (stream, reply) = read::<Stream>(cx, Key::new(args.at(1)))?;
    reply.count(stream.map_or(0, Stream::len));
    Ok(())
}

pub(super) fn xrange(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let start = ids::range_start(args.at(2))?;
    let end = ids::range_end(args.at(3))?;
    reply_range(cx, args, IdRange { start, end }, |stream, range, count| {
        Box::new(stream.range(range.start, range.end).take(count))
    })
}

pub(super) fn xrevrange(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let start = ids::range_start(args.at(3))?;
    let end = ids::range_end(args.at(2))?;
    reply_range(cx, args, IdRange { start, end }, |stream, range, count| {
        Box::new(stream.range_back(range.start, range.end).take(count))
    })
}

fn reply_range(
    cx: &mut Cx<'_>,
    args: Args<'_>,
    range: IdRange,
    entries: fn(&Stream, IdRange, usize) -> Box<dyn Iterator<Item = Entry<'_>> + '_>,
) -> CommandResult {
    let mut count = usize::MAX;
    let mut at = 4;
    while let Some(option) = next_option(args, &mut at) {
        if !is(option, "count") {
            return Err(CommandError::Syntax);
        }
        let number = parse::integer(option_value(args, &mut at)?)?;
        count = usize::try_from(number).unwrap_or(0);
    }
    let (stream, reply) = read::<Stream>(cx, Key::new(args.at(1)))?;
    match stream {
        None => reply.array(0),
        Some(_) if count == 0 => reply.null_array(),
        Some(stream) => {
            write_entries(reply, entries(stream, range, count));
        }
    }
    Ok(())
}

/// Answers with entries; how many there were.
pub(super) fn write_entries<'e>(
    reply: &mut Reply<'_>,
    entries: impl Iterator<Item = Entry<'e>>,
) -> usize {
    let start = reply.position();
    let mut count = 0;
    for entry in entries {
        write_entry(reply, &entry);
        count += 1;
    }
    reply.array_since(start, count);
    count
}

/// Where the keys are, for XREAD and XREADGROUP: the first half of what stands behind STREAMS.
pub(super) fn keys(args: Args<'_>, positions: &mut Vec<usize>) {
    let mut at = 1;
    while let Some(option) = next_option(args, &mut at) {
        if is(option, "streams") {
            let count = (args.len() - at) / 2;
            positions.extend(at..at + count);
            return;
        }
        if is(option, "block") || is(option, "count") {
            at += 1;
        } else if is(option, "group") {
            at += 2;
        } else if !is(option, "noack") {
            return;
        }
    }
}

/// The options of XREAD and XREADGROUP.
pub(super) struct ReadOptions<'a> {
    /// Most entries of one stream; `None` for all.
    pub(super) count: Option<usize>,
    /// The timeout of BLOCK in milliseconds, zero for ever; `None` without BLOCK.
    pub(super) block_ms: Option<u64>,
    /// NOACK.
    pub(super) no_ack: bool,
    /// The group and the consumer.
    pub(super) group: Option<(&'a [u8], &'a [u8])>,
    /// The keys.
    pub(super) keys: Args<'a>,
    /// The first of the ids, which are as many.
    ids: Args<'a>,
}

impl<'a> ReadOptions<'a> {
    /// `command` is `xread` or `xreadgroup`.
    pub(super) fn parse(
        args: Args<'a>,
        command: &str,
        cx: &Cx<'_>,
    ) -> Result<ReadOptions<'a>, CommandError> {
        let for_group = command == "xreadgroup";
        let mut options = ReadOptions {
            count: None,
            block_ms: None,
            no_ack: false,
            group: None,
            keys: args.from(args.len()),
            ids: args.from(args.len()),
        };
        let mut at = 1;
        let mut has_streams = false;
        while let Some(option) = next_option(args, &mut at) {
            let more = args.len() - at;
            if is(option, "block") && more > 0 {
                if cx.effects.is_in_script() {
                    return Err(detailed(format!(
                        "ERR {} command is not allowed with BLOCK option from scripts",
                        String::from_utf8_lossy(args.at(0))
                    )));
                }
                options.block_ms = Some(milliseconds(option_value(args, &mut at)?, cx.now)?);
            } else if is(option, "count") && more > 0 {
                let count = parse::integer(option_value(args, &mut at)?)?;
                options.count = usize::try_from(count).ok().filter(|count| *count > 0);
            } else if is(option, "streams") && more > 0 {
                if !more.is_multiple_of(2) {
                    return Err(unbalanced(command, if for_group { '>' } else { '$' }));
                }
                options.keys = args.from(at);
                options.ids = args.from(at + more / 2);
                has_streams = true;
                break;
            } else if is(option, "group") && more >= 2 {
                if !for_group {
                    return Err(CommandError::Text(
                        "ERR The GROUP option is only supported by XREADGROUP. You called XREAD \
                         instead.",
                    ));
                }
                options.group = Some((args.at(at), args.at(at + 1)));
                at += 2;
            } else if is(option, "noack") {
                if !for_group {
                    return Err(CommandError::Text(
                        "ERR The NOACK option is only supported by XREADGROUP. You called XREAD \
                         instead.",
                    ));
                }
                options.no_ack = true;
            } else {
                return Err(CommandError::Syntax);
            }
        }
        if !has_streams {
            return Err(CommandError::Syntax);
        }
        Ok(options)
    }

    /// How many streams are read.
    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }

    /// A key and the id that goes with it.
    pub(super) fn stream(&self, index: usize) -> (Key<'a>, &'a [u8]) {
        (Key::new(self.keys.at(index)), self.ids.at(index))
    }
}

fn unbalanced(command: &str, symbol: char) -> CommandError {
    detailed(format!(
        "ERR Unbalanced '{command}' list of streams: for each stream key an ID or '{symbol}' must be \
         specified."
    ))
}

/// Nothing can be answered now, which is the answer. With BLOCK, `request` is what waits for more;
/// `None` for the one that was sent.
pub(super) fn nothing(cx: &mut Cx<'_>, block_ms: Option<u64>, request: Option<OwnedArgs>) {
    cx.reply.null_array();
    if let Some(timeout_ms) = block_ms {
        cx.effects.wait(Wait {
            timeout_ms,
            request,
        });
    }
}

/// The request with the ids `after` in place of those that stand for the state of this moment.
fn with_ids(args: Args<'_>, after: &[StreamId]) -> OwnedArgs {
    let mut request = OwnedArgs::new(args.iter().take(args.len() - after.len()));
    for id in after {
        request.push(format!("{}-{}", id.ms, id.seq).as_bytes());
    }
    request
}

pub(super) fn xread(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let options = ReadOptions::parse(args, "xread", cx)?;
    let mut after = Vec::with_capacity(options.len());
    for index in 0..options.len() {
        let (key, id) = options.stream(index);
        let (stream, _) = read::<Stream>(cx, key)?;
        after.push(match id {
            b"$" => stream.map_or(StreamId::MIN, Stream::last_id),
            b"+" => stream
                .and_then(Stream::last_entry_id)
                .and_then(StreamId::previous)
                .unwrap_or(StreamId::MIN),
            b">" => {
                return Err(CommandError::Text(
                    "ERR The > ID can be specified only when calling XREADGROUP using the GROUP \
                     <group> <consumer> option.",
                ));
            }
            id => ids::strict(id, 0)?,
        });
    }
    let start = cx.reply.position();
    let mut served = 0;
    for (index, after) in after.iter().enumerate() {
        let (key, _) = options.stream(index);
        let (stream, reply) = read::<Stream>(cx, key)?;
        let Some((stream, from)) = stream.zip(after.next()) else {
            continue;
        };
        if stream.last_entry_id().is_none_or(|last| last < from) {
            continue;
        }
        begin_stream(reply, key.bytes);
        let entries = stream.range(from, StreamId::MAX);
        write_entries(reply, entries.take(options.count.unwrap_or(usize::MAX)));
        served += 1;
    }
    if served == 0 {
        let request = options.block_ms.map(|_| with_ids(args, &after));
        nothing(cx, options.block_ms, request);
        return Ok(());
    }
    end_streams(&mut cx.reply, start, served);
    Ok(())
}

/// Begins what one stream has: a pair in RESP2, an item of a map in RESP3.
pub(super) fn begin_stream(reply: &mut Reply<'_>, key: &[u8]) {
    if reply.protocol() == Protocol::Resp2 {
        reply.array(2);
    }
    reply.bulk(key);
}

/// Makes the `served` streams that were written since `start` the whole answer.
pub(super) fn end_streams(reply: &mut Reply<'_>, start: usize, served: usize) {
    match reply.protocol() {
        Protocol::Resp2 => reply.array_since(start, served),
        Protocol::Resp3 => reply.map_since(start, served),
    }
}
