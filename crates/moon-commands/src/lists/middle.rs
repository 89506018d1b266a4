//! What goes through a list or changes its middle: LPOS, LINSERT, LSET, LREM, LTRIM.

use super::{node_limit, part, position};
use crate::collection::{read, shrink, write};
use crate::context::{CommandResult, Cx};
use crate::error::CommandError;
use crate::notify::Class;
use crate::parse::{at_least, integer, integer_between, is, next_option};
use moon_resp::Args;
use moon_store::{End, Key, List};
use std::ops::ControlFlow;

/// What LPOS looks for.
struct Search {
    /// From the tail.
    backwards: bool,
    /// The first match that counts; 1 is the first.
    rank: u64,
    /// How many matches are answered, 0 for all; without it one, which is no array.
    count: Option<usize>,
    /// How many elements are looked at; 0 for all.
    len_max: usize,
}

impl Search {
    fn parse(args: Args<'_>) -> Result<Search, CommandError> {
        let mut search = Search {
            backwards: false,
            rank: 1,
            count: None,
            len_max: 0,
        };
        let mut at = 3;
        while let Some(option) = next_option(args, &mut at) {
            let Some(value) = next_option(args, &mut at) else {
                return Err(CommandError::Syntax);
            };
            if is(option, "rank") {
                let rank = integer_between(value, -i64::MAX, i64::MAX)?;
                if rank == 0 {
                    return Err(CommandError::Text(RANK_ZERO));
                }
                search.backwards = rank < 0;
                search.rank = rank.unsigned_abs();
            } else if is(option, "count") {
                search.count = Some(at_least(0, value, "ERR COUNT can't be negative")?);
            } else if is(option, "maxlen") {
                search.len_max = at_least(0, value, "ERR MAXLEN can't be negative")?;
            } else {
                return Err(CommandError::Syntax);
            }
        }
        Ok(search)
    }

    /// The positions of the matches, in the order in which they are found.
    fn matches(&self, list: &List, wanted: &[u8]) -> Vec<usize> {
        let looked_at = match self.len_max {
            0 => usize::MAX,
            len => len,
        };
        let mut skipped = usize::try_from(self.rank - 1).unwrap_or(usize::MAX);
        let answered = match self.count {
            None => 1,
            Some(0) => usize::MAX,
            Some(count) => count,
        };
        let len = list.len();
        let (range, from) = match self.backwards {
            true => (len.saturating_sub(looked_at)..len, End::Right),
            false => (0..looked_at, End::Left),
        };
        let mut matches = Vec::new();
        list.visit(range, from, |at, element| {
            if element == wanted {
                match skipped.checked_sub(1) {
                    Some(left) => skipped = left,
                    None => matches.push(at),
                }
            }
            match matches.len() == answered {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        });
        matches
    }
}

const RANK_ZERO: &str = "ERR RANK can't be zero: use 1 to start from the first match, 2 from the \
    second ... or use negative to start from the end of the list";

pub(super) fn lpos(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let search = Search::parse(args)?;
    let (list, reply) = read::<List>(cx, Key::new(args.at(1)))?;
    let matches = list.map_or_else(Vec::new, |list| search.matches(list, args.at(2)));
    if search.count.is_some() {
        reply.array(matches.len());
        for at in matches {
            reply.count(at);
        }
    } else if let [at] = matches[..] {
        reply.count(at);
    } else {
        reply.null();
    }
    Ok(())
}

pub(super) fn linsert(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let behind = match args.at(2) {
        place if is(place, "after") => true,
        place if is(place, "before") => false,
        _ => return Err(CommandError::Syntax),
    };
    let (key, pivot, element) = (Key::new(args.at(1)), args.at(3), args.at(4));
    let limit = node_limit(cx);
    let Some(list) = write::<List>(cx, key)? else {
        cx.reply.count(0);
        return Ok(());
    };
    let mut place = None;
    list.visit(0..list.len(), End::Left, |at, element| {
        if element == pivot {
            place = Some(at);
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    });
    let Some(at) = place else {
        cx.reply.integer(-1);
        return Ok(());
    };
    list.insert(at + usize::from(behind), element, limit);
    let len = list.len();
    cx.changed_as_sent(&[key], args);
    cx.notify(Class::LIST, "linsert", key);
    cx.reply.count(len);
    Ok(())
}

pub(super) fn lset(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let (key, element) = (Key::new(args.at(1)), args.at(3));
    let limit = node_limit(cx);
    let Some(list) = write::<List>(cx, key)? else {
        return Err(CommandError::Text("ERR no such key"));
    };
    let at = position(integer(args.at(2))?, list.len());
    if !at.is_some_and(|at| list.set(at, element, limit)) {
        return Err(CommandError::Text("ERR index out of range"));
    }
    cx.changed_as_sent(&[key], args);
    cx.notify(Class::LIST, "lset", key);
    cx.reply.ok();
    Ok(())
}

pub(super) fn lrem(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let (key, element) = (Key::new(args.at(1)), args.at(3));
    let count = integer_between(args.at(2), -i64::MAX, i64::MAX)?;
    let end = if count < 0 { End::Right } else { End::Left };
    let most = match usize::try_from(count.unsigned_abs()) {
        Ok(0) | Err(_) => usize::MAX,
        Ok(count) => count,
    };
    let limit = node_limit(cx);
    let removed = shrink(cx, key, |list: &mut List| {
        list.remove_equal(element, most, end, limit)
    })?;
    let removed = removed.unwrap_or(0);
    if removed > 0 {
        cx.changed_as_sent(&[key], args);
        cx.notify_shrunk(Class::LIST, "lrem", key);
    }
    cx.reply.count(removed);
    Ok(())
}

pub(super) fn ltrim(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let (start, stop) = (integer(args.at(2))?, integer(args.at(3))?);
    let key = Key::new(args.at(1));
    let limit = node_limit(cx);
    let trimmed = shrink(cx, key, |list: &mut List| {
        let (start, count) = part(start, stop, list.len());
        let changes = count < list.len();
        list.trim(start, count, limit);
        changes
    })?;
    if trimmed == Some(true) {
        cx.changed_as_sent(&[key], args);
    }
    if trimmed.is_some() {
        cx.notify_shrunk(Class::LIST, "ltrim", key);
    }
    cx.reply.ok();
    Ok(())
}
