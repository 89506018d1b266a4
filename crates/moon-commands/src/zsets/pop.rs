//! ZPOPMIN, ZPOPMAX, ZMPOP, and BZPOPMIN, BZPOPMAX, BZMPOP, which would wait if there is nothing.
//! The effects of those are those of the commands that do not wait.

use super::range::remove_ranks;
use crate::blocking::{seconds, waits};
use crate::collection::{pop_count, write};
use crate::context::{CommandResult, Cx};
use crate::error::CommandError;
use crate::notify::Class;
use crate::parse::is;
use crate::pop_several::{self, PopEnd};
use moon_resp::{Args, Protocol, Reply};
use moon_store::types::zset::Direction;
use moon_store::{Key, ZSet};

/// What was taken out of a sorted set.
struct Popped {
    /// How many members.
    count: usize,
    /// Each member with its score, encoded.
    reply: Vec<u8>,
}

/// How members and scores stand in a reply.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Layout {
    /// Member, score, member, score, ...
    Flat,
    /// Pairs.
    Nested,
}

fn pop_event(from: Direction) -> &'static str {
    match from {
        Direction::Up => "zpopmin",
        Direction::Down => "zpopmax",
    }
}

/// Takes up to `count` members off one end. `None` if there is no such set.
fn pop(
    cx: &mut Cx<'_>,
    key: Key<'_>,
    from: Direction,
    count: usize,
    layout: Layout,
) -> Result<Option<Popped>, CommandError> {
    let protocol = cx.reply.protocol();
    let Some(zset) = write::<ZSet>(cx, key)? else {
        return Ok(None);
    };
    let len = zset.len();
    let mut popped = Popped {
        count: count.min(len),
        reply: Vec::new(),
    };
    let mut reply = Reply::new(&mut popped.reply, protocol);
    let mut write = |(member, score): (&[u8], f64)| {
        if layout == Layout::Nested {
            reply.array(2);
        }
        reply.bulk(member);
        reply.double(score);
    };
    let ranks = match from {
        Direction::Up => 0..popped.count,
        Direction::Down => len - popped.count..len,
    };
    let entries = zset.range(ranks.clone());
    match from {
        Direction::Up => entries.for_each(&mut write),
        Direction::Down => entries.rev().for_each(&mut write),
    }
    remove_ranks(cx, key, ranks)?;
    Ok(Some(popped))
}

pub(super) fn zpopmin(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    pop_one_set(cx, args, Direction::Up)
}

pub(super) fn zpopmax(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    pop_one_set(cx, args, Direction::Down)
}

fn pop_one_set(cx: &mut Cx<'_>, args: Args<'_>, from: Direction) -> CommandResult {
    if args.len() > 3 {
        return Err(CommandError::Syntax);
    }
    let key = Key::new(args.at(1));
    let count = pop_count(args, 2)?;
    let layout = match (cx.reply.protocol(), count) {
        (Protocol::Resp3, Some(_)) => Layout::Nested,
        _ => Layout::Flat,
    };
    let Some(popped) = pop(cx, key, from, count.unwrap_or(1), layout)? else {
        cx.reply.array(0);
        return Ok(());
    };
    if popped.count > 0 {
        cx.changed_as_sent(&[key], args);
        cx.notify_shrunk(Class::ZSET, pop_event(from), key);
    }
    cx.reply.array(match layout {
        Layout::Flat => popped.count * 2,
        Layout::Nested => popped.count,
    });
    cx.reply.raw(&popped.reply);
    Ok(())
}

pub(super) fn zmpop(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    pop_several::pop::<Direction>(cx, args)
}

impl PopEnd for Direction {
    const CLASS: Class = Class::ZSET;

    fn parse(word: &[u8]) -> Result<Direction, CommandError> {
        if is(word, "min") {
            Ok(Direction::Up)
        } else if is(word, "max") {
            Ok(Direction::Down)
        } else {
            Err(CommandError::Syntax)
        }
    }

    fn effect(self) -> &'static [u8] {
        match self {
            Direction::Up => b"ZPOPMIN",
            Direction::Down => b"ZPOPMAX",
        }
    }

    fn event(self) -> &'static str {
        pop_event(self)
    }

    fn take(
        self,
        cx: &mut Cx<'_>,
        key: Key<'_>,
        count: usize,
    ) -> Result<Option<usize>, CommandError> {
        let Some(popped) = pop(cx, key, self, count, Layout::Nested)? else {
            return Ok(None);
        };
        cx.reply.array(2);
        cx.reply.bulk(key.bytes);
        cx.reply.array(popped.count);
        cx.reply.raw(&popped.reply);
        Ok(Some(popped.count))
    }
}

pub(super) fn bzpopmin(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    pop_one_of_several(cx, args, Direction::Up, b"ZPOPMIN")
}

pub(super) fn bzpopmax(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    pop_one_of_several(cx, args, Direction::Down, b"ZPOPMAX")
}

fn pop_one_of_several(
    cx: &mut Cx<'_>,
    args: Args<'_>,
    from: Direction,
    effect: &[u8],
) -> CommandResult {
    let last = args.len() - 1;
    let timeout_ms = seconds(args.at(last), cx.now)?;
    for key in args.iter().take(last).skip(1).map(Key::new) {
        if let Some(popped) = pop(cx, key, from, 1, Layout::Flat)? {
            cx.reply.array(3);
            cx.reply.bulk(key.bytes);
            cx.reply.raw(&popped.reply);
            cx.changed(&[key], &[effect, key.bytes]);
            cx.notify_shrunk(Class::ZSET, pop_event(from), key);
            return Ok(());
        }
    }
    cx.reply.null_array();
    waits(cx, timeout_ms);
    Ok(())
}

pub(super) fn bzmpop(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    pop_several::pop_or_wait::<Direction>(cx, args)
}
