//! XADD, XTRIM, XSETID: what a stream gets, and how much of it stays.
//!
//! The effect of XADD has the id in full. Both trim in replay to the number of entries that trimming
//! left, exactly: then it does not matter how the blocks lie.

use super::ids::{self, NewId};
use super::{block_limits, now_ms, write_id};
use crate::collection::write;
use crate::context::{CommandResult, Cx, Origin};
use crate::error::CommandError;
use crate::parse::{self, is, next_option, option_value};
use moon_resp::Args;
use moon_store::stream::{BLOCK_BYTES_MAX, Keep, Precision};
use moon_store::{Key, Stream, StreamId, Value};

/// What the options of XADD and XTRIM say about trimming.
#[derive(Default)]
struct Trimming {
    keep: Option<Keep>,
    is_approximate: bool,
    limit: Option<i64>,
}

impl Trimming {
    /// Takes the option `name`, if it is one of these.
    fn option(
        &mut self,
        name: &[u8],
        args: Args<'_>,
        at: &mut usize,
    ) -> Result<bool, CommandError> {
        let has_value = *at < args.len();
        if has_value && (is(name, "maxlen") || is(name, "minid")) {
            if self.keep.is_some() {
                return Err(CommandError::Text(
                    "ERR syntax error, MAXLEN and MINID options at the same time are not compatible",
                ));
            }
            self.is_approximate = false;
            if *at + 1 < args.len() && matches!(args.at(*at), b"~" | b"=") {
                self.is_approximate = args.at(*at) == b"~";
                *at += 1;
            }
            let value = option_value(args, at)?;
            self.keep = Some(if is(name, "maxlen") {
                let max = parse::integer(value)?;
                Keep::Newest(
                    u64::try_from(max)
                        .map_err(|_| CommandError::Text("ERR The MAXLEN argument must be >= 0."))?,
                )
            } else {
                Keep::From(ids::strict(value, 0)?)
            });
            return Ok(true);
        }
        if has_value && is(name, "limit") {
            let limit = parse::integer(option_value(args, at)?)?;
            if limit < 0 {
                return Err(CommandError::Text("ERR The LIMIT argument must be >= 0."));
            }
            self.limit = Some(limit);
            return Ok(true);
        }
        Ok(false)
    }

    /// Checks the options against each other.
    fn check(&self) -> CommandResult {
        if self.keep.is_none() && self.limit.is_some_and(|limit| limit != 0) {
            return Err(CommandError::Text(
                "ERR syntax error, LIMIT cannot be used without specifying a trimming strategy",
            ));
        }
        Ok(())
    }

    /// How exactly to trim.
    fn precision(&self, cx: &Cx<'_>) -> Result<Precision, CommandError> {
        if cx.origin == Origin::Replay {
            return Ok(match self.is_approximate {
                true => Precision::Blocks(None),
                false => Precision::Exact,
            });
        }
        match (self.is_approximate, self.limit) {
            (false, None) => Ok(Precision::Exact),
            (false, Some(_)) => Err(CommandError::Text(
                "ERR syntax error, LIMIT cannot be used without the special ~ option",
            )),
            (true, Some(limit)) => {
                let limit = u64::try_from(limit).unwrap_or(0);
                Ok(Precision::Blocks((limit > 0).then_some(limit)))
            }
            // About a hundred blocks, so that one command does not take too long.
            (true, None) => {
                let entries = cx.limits.stream_node_max_entries as u64;
                Ok(Precision::Blocks(Some(match entries.saturating_mul(100) {
                    0 => 10_000,
                    limit => limit.min(1_000_000),
                })))
            }
        }
    }
}

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
    let add = |stream: &mut Stream| -> Result<(StreamId, u64), CommandError> {
        let id = choose(new_id, stream.last_id(), now)?;
        if fields.bytes() > BLOCK_BYTES_MAX {
            return Err(CommandError::Text(
                "ERR Elements are too large to be stored",
            ));
        }
        let pairs =
            (0..fields.len() / 2).map(|pair| (fields.at(2 * pair), fields.at(2 * pair + 1)));
        stream.append(id, pairs, limits);
        let removed = trimming.keep.map_or(0, |keep| stream.trim(keep, precision));
        Ok((id, removed))
    };
    let (id, trimmed_to) = match write::<Stream>(cx, key)? {
        Some(stream) => {
            let (id, removed) = add(stream)?;
            (id, (removed > 0).then_some(stream.len()))
        }
        None if !creates => {
            cx.reply.null();
            return Ok(());
        }
        None => {
            let mut stream = Stream::default();
            let (id, removed) = add(&mut stream)?;
            let len = stream.len();
            cx.store(key, Value::Stream(Box::new(stream)), None);
            (id, (removed > 0).then_some(len))
        }
    };
    if trimmed_to.is_none() && at == 3 && new_id == NewId::Given(id) {
        cx.changed_as_sent(&[key], args);
    } else {
        let (mut digits, id) = (itoa::Buffer::new(), id.to_string());
        let mut effect = Vec::with_capacity(6 + fields.len());
        effect.extend_from_slice(&[b"XADD", key.bytes]);
        if let Some(len) = trimmed_to {
            effect.extend_from_slice(&[b"MAXLEN", b"=", digits.format(len).as_bytes()]);
        }
        effect.push(id.as_bytes());
        effect.extend(fields.iter());
        cx.changed(&[key], &effect);
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

pub(super) fn xtrim(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let mut trimming = Trimming::default();
    let mut at = 2;
    while let Some(option) = next_option(args, &mut at) {
        if !trimming.option(option, args, &mut at)? {
            return Err(CommandError::Syntax);
        }
    }
    trimming.check()?;
    let Some(keep) = trimming.keep else {
        return Err(CommandError::Text(
            "ERR syntax error, XTRIM must be called with a trimming strategy",
        ));
    };
    let precision = trimming.precision(cx)?;
    let key = Key::new(args.at(1));
    let Some(stream) = write::<Stream>(cx, key)? else {
        cx.reply.count(0);
        return Ok(());
    };
    let removed = stream.trim(keep, precision);
    let len = stream.len();
    if removed > 0 {
        let mut digits = itoa::Buffer::new();
        let len = digits.format(len).as_bytes();
        cx.changed(&[key], &[b"XTRIM", key.bytes, b"MAXLEN", b"=", len]);
    }
    cx.reply.integer(i64::try_from(removed).unwrap_or(i64::MAX));
    Ok(())
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
    cx.reply.ok();
    Ok(())
}
