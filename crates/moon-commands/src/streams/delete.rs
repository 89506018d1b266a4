//! XDEL, XDELEX, XACKDEL: entries taken out of the middle.
//!
//! The two newer ones mind the groups in whose lists of pending entries the deleted ones are. Their
//! effects are those of XACK and XDEL, which every version understands.

use super::ids;
use super::references::{Changes, References};
use crate::collection::write;
use crate::context::{CommandResult, Cx};
use crate::error::CommandError;
use crate::notify::Class;
use crate::parse::{self, is, next_option};
use moon_resp::Args;
use moon_store::{Key, Stream, StreamId};

pub(super) fn xdel(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let key = Key::new(args.at(1));
    let Some(stream) = write::<Stream>(cx, key)? else {
        cx.reply.count(0);
        return Ok(());
    };
    let ids = parse_ids(args.from(2))?;
    let deleted = ids.iter().filter(|id| stream.delete(**id)).count();
    if deleted > 0 {
        cx.changed_as_sent(&[key], args);
        cx.notify(Class::STREAM, "xdel", key);
    }
    cx.reply.count(deleted);
    Ok(())
}

pub(super) fn parse_ids(args: Args<'_>) -> Result<Vec<StreamId>, CommandError> {
    args.iter().map(|id| ids::strict(id, 0)).collect()
}

/// `[KEEPREF | DELREF | ACKED] IDS numids id [id ...]`, the block at any place.
fn parse_options(args: Args<'_>, from: usize) -> Result<(References, Vec<StreamId>), CommandError> {
    let mut references = None;
    let mut found = None;
    let mut at = from;
    while let Some(option) = next_option(args, &mut at) {
        if let Some(chosen) = References::named(option) {
            if references.replace(chosen).is_some() {
                return Err(CommandError::Syntax);
            }
        } else if is(option, "ids") && found.is_none() && at < args.len() {
            let count = parse::canonical_integer(args.at(at))
                .and_then(|count| usize::try_from(count).ok())
                .filter(|count| *count > 0)
                .ok_or(CommandError::Text(
                    "ERR Number of IDs must be a positive integer",
                ))?;
            at += 1;
            if count > args.len() - at {
                return Err(CommandError::Text(
                    "ERR The `numids` parameter must match the number of arguments",
                ));
            }
            let block = (at..at + count).map(|index| ids::strict(args.at(index), 0));
            found = Some(block.collect::<Result<Vec<_>, _>>()?);
            at += count;
        } else {
            return Err(CommandError::Syntax);
        }
    }
    let ids = found.ok_or(CommandError::Syntax)?;
    Ok((references.unwrap_or(References::Keep), ids))
}

/// How one id fared, as it is answered.
#[derive(Clone, Copy)]
enum Fate {
    NotFound,
    Deleted,
    StillReferred,
}

impl Fate {
    fn code(self) -> i64 {
        match self {
            Fate::NotFound => -1,
            Fate::Deleted => 1,
            Fate::StillReferred => 2,
        }
    }
}

fn reply_fates(cx: &mut Cx<'_>, fates: &[Fate]) {
    cx.reply.array(fates.len());
    for fate in fates {
        cx.reply.integer(fate.code());
    }
}

pub(super) fn xdelex(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let (references, ids) = parse_options(args, 2)?;
    let key = Key::new(args.at(1));
    let Some(stream) = write::<Stream>(cx, key)? else {
        reply_fates(cx, &vec![Fate::NotFound; ids.len()]);
        return Ok(());
    };
    let mut changes = Changes::default();
    let fates: Vec<Fate> = ids
        .iter()
        .map(|id| {
            let is_there = stream.contains(*id);
            if !is_there && references != References::Delete {
                return Fate::NotFound;
            }
            match (changes.delete(stream, *id, references), is_there) {
                (false, _) => Fate::StillReferred,
                (true, true) => Fate::Deleted,
                (true, false) => Fate::NotFound,
            }
        })
        .collect();
    let has_deleted = changes.has_deleted();
    changes.tell(cx, key);
    if has_deleted {
        cx.notify(Class::STREAM, "xdel", key);
    }
    reply_fates(cx, &fates);
    Ok(())
}

pub(super) fn xackdel(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let (references, ids) = parse_options(args, 3)?;
    let (key, group) = (Key::new(args.at(1)), args.at(2));
    let stream = write::<Stream>(cx, key)?.filter(|stream| stream.group(group).is_some());
    let Some(stream) = stream else {
        reply_fates(cx, &vec![Fate::NotFound; ids.len()]);
        return Ok(());
    };
    let mut changes = Changes::default();
    let fates: Vec<Fate> = ids
        .iter()
        .map(|id| {
            let was_pending = stream.change_group(group, |group| group.acknowledge(*id));
            if was_pending != Some(true) {
                return Fate::NotFound;
            }
            changes.acknowledge(group, *id);
            match changes.delete(stream, *id, references) {
                true => Fate::Deleted,
                false => Fate::StillReferred,
            }
        })
        .collect();
    let has_deleted = changes.has_deleted();
    changes.tell(cx, key);
    if has_deleted {
        cx.notify(Class::STREAM, "xdel", key);
    }
    reply_fates(cx, &fates);
    Ok(())
}
