//! XADD, XSETID: what a stream gets.
//!
//! The effect of XADD has the id in full.

use super::ids::{self, NewId};
use super::trim::{Trimmed, Trimming};
use super::{block_limits, now_ms, write_id};
use crate::collection::write;
use crate::context::{CommandResult, Cx, Origin};
use crate::error::CommandError;
use crate::notify::Class;
use crate::parse::{self, is, next_option, option_value};
use moon_resp::Args;
use moon_store::stream::BLOCK_BYTES_MAX;
use moon_store::{Key, Stream, StreamId, Value};

pub(super) fn xadd(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let mut trimming = Trimming::default();
    let mut creates = true;
    let mut new_id = None;
    let mut at = 2;
    while let Some(option) = next_option(args, &mut at) {
        if option == b"*" {
            new_id = Some(NewId::Now);
            break;
        }
        if trimming.option(option, args, &mut at)? {
            continue;
        }
        if is(option, "nomkstream") {
            creates = false;
            continue;
        }
        new_id = Some(ids::new(option)?);
        break;
    }
    trimming.check()?;
    let precision = trimming.precision(cx)?;
    let fields = args.from(at);
    let Some(new_id) = new_id else {
        return Err(parse::wrong_arity("xadd"));
    };
    if fields.is_empty() || !fields.len().is_multiple_of(2) {
        return Err(parse::wrong_arity("xadd"));
    }
    if new_id == NewId::Given(StreamId::MIN) {
        return Err(CommandError::Text(
            "ERR The ID specified in XADD must be greater than 0-0",
        ));
    }
    let key = Key::new(args.at(1));
    let limits = block_limits(cx);
    let now = u64::try_from(now_ms(cx)).unwrap_or(0);
    let add = |stream: &mut Stream| -> Result<(StreamId, Trimmed), CommandError> {
        let id = choose(new_id, stream.last_id(), now)?;
        if fields.bytes() > BLOCK_BYTES_MAX {
            return Err(CommandError::Text(
                "ERR Elements are too large to be stored",
            ));
        }
        let pairs =
            (0..fields.len() / 2).map(|pair| (fields.at(2 * pair), fields.at(2 * pair + 1)));
        stream.append(id, pairs, limits);
        Ok((id, trimming.apply(stream, precision)))
    };
    let (id, trimmed) = match write::<Stream>(cx, key)? {
        Some(stream) => add(stream)?,
        None if !creates => {
            cx.reply.null();
            return Ok(());
        }
        None => {
            let mut stream = Stream::default();
            let added = add(&mut stream)?;
            cx.store(key, Value::Stream(Box::new(stream)), None);
            added
        }
    };
    if trimmed.len.is_none() && at == 3 && new_id == NewId::Given(id) {
        cx.changed_as_sent(&[key], args);
    } else {
        let (mut digits, id) = (itoa::Buffer::new(), id.to_string());
        let mut effect = Vec::with_capacity(6 + fields.len());
        effect.extend_from_slice(&[b"XADD", key.bytes]);
        if let Some(len) = trimmed.len {
            effect.extend_from_slice(&[b"MAXLEN", b"=", digits.format(len).as_bytes()]);
        }
        effect.push(id.as_bytes());
        effect.extend(fields.iter());
        cx.changed(&[key], &effect);
    }
    let has_trimmed = trimmed.removed() > 0;
    trimmed.changes.tell(cx, key);
    cx.notify(Class::STREAM, "xadd", key);
    if has_trimmed {
        cx.notify(Class::STREAM, "xtrim", key);
    }
    write_id(&mut cx.reply, id);
    Ok(())
}

/// The id of a new entry, above `last`.
fn choose(new_id: NewId, last: StreamId, now: u64) -> Result<StreamId, CommandError> {
    const SMALLER: CommandError = CommandError::Text(
        "ERR The ID specified in XADD is equal or smaller than the target stream top item",
    );
    if last == StreamId::MAX {
        return Err(CommandError::Text(
            "ERR The stream has exhausted the last possible ID, unable to add more items",
        ));
    }
    let id = match new_id {
        NewId::Now if now > last.ms => StreamId::new(now, 0),
        NewId::Now => last.next().ok_or(SMALLER)?,
        NewId::Within(ms) if ms == last.ms => {
            StreamId::new(ms, last.seq.checked_add(1).ok_or(SMALLER)?)
        }
        NewId::Within(ms) => StreamId::new(ms, 0),
        NewId::Given(id) => id,
    };
    if id > last { Ok(id) } else { Err(SMALLER) }
}

pub(super) fn xsetid(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let id = ids::strict(args.at(2), 0)?;
    let (mut added, mut max_deleted) = (None, StreamId::MIN);
    let mut at = 3;
    while let Some(option) = next_option(args, &mut at) {
        let has_value = at < args.len();
        if has_value && is(option, "entriesadded") {
            let number = parse::integer(option_value(args, &mut at)?)?;
            added = Some(
                u64::try_from(number)
                    .map_err(|_| CommandError::Text("ERR entries_added must be positive"))?,
            );
        } else if has_value && is(option, "maxdeletedid") {
            max_deleted = ids::strict(option_value(args, &mut at)?, 0)?;
            if id < max_deleted {
                return Err(CommandError::Text(
                    "ERR The ID specified in XSETID is smaller than the provided max_deleted_entry_id",
                ));
            }
        } else {
            return Err(CommandError::Syntax);
        }
    }
    let key = Key::new(args.at(1));
    let is_replay = cx.origin == Origin::Replay;
    let Some(stream) = write::<Stream>(cx, key)? else {
        return Err(CommandError::Text("ERR no such key"));
    };
    if !stream.is_empty() {
        if stream.last_entry_id().is_some_and(|last| id < last) {
            return Err(CommandError::Text(
                "ERR The ID specified in XSETID is smaller than the target stream top item",
            ));
        }
        if added.is_some_and(|added| added < stream.len() as u64) {
            return Err(CommandError::Text(
                "ERR The entries_added specified in XSETID is smaller than the target stream length",
            ));
        }
    }
    // Older versions of Redis let this pass, and their logs have it.
    if !is_replay && id < stream.max_deleted_id() {
        return Err(CommandError::Text(
            "ERR The ID specified in XSETID is smaller than current max_deleted_entry_id",
        ));
    }
    let max_deleted = (max_deleted != StreamId::MIN).then_some(max_deleted);
    stream.set_history(id, added, max_deleted);
    cx.changed_as_sent(&[key], args);
    cx.notify(Class::STREAM, "xsetid", key);
    cx.reply.ok();
    Ok(())
}
