//! ZPOPMIN, ZPOPMAX, ZMPOP, and BZPOPMIN, BZPOPMAX, BZMPOP, which would wait if there is nothing.
//! The effects of those are those of the commands that do not wait.

use super::range::remove_ranks;
use crate::blocking::{Wait, seconds};
use crate::collection::{pop_count, write};
use crate::context::{CommandResult, Cx};
use crate::error::CommandError;
use crate::notify::Class;
use crate::parse::{at_least, is, next_option, option_value};
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
    let pop = PopOfSeveral::parse(args.from(1))?;
    pop.run(cx)?;
    Ok(())
}

/// What ZMPOP and BZMPOP ask for.
struct PopOfSeveral<'a> {
    keys: Args<'a>,
    /// How many of `keys` are keys.
    key_count: usize,
    from: Direction,
    count: usize,
}

impl<'a> PopOfSeveral<'a> {
    /// Arguments that begin with the number of keys.
    fn parse(args: Args<'a>) -> Result<PopOfSeveral<'a>, CommandError> {
        let key_count = at_least(1, args.at(0), "ERR numkeys should be greater than 0")?;
        let mut at = key_count.saturating_add(1);
        let end = option_value(args, &mut at)?;
        let from = if is(end, "min") {
            Direction::Up
        } else if is(end, "max") {
            Direction::Down
        } else {
            return Err(CommandError::Syntax);
        };
        let mut count = None;
        while let Some(option) = next_option(args, &mut at) {
            if count.is_some() || !is(option, "count") {
                return Err(CommandError::Syntax);
            }
            let value = option_value(args, &mut at)?;
            count = Some(at_least(1, value, "ERR count should be greater than 0")?);
        }
        Ok(PopOfSeveral {
            keys: args.from(1),
            key_count,
            from,
            count: count.unwrap_or(1),
        })
    }

    /// Takes from the first sorted set that there is and answers; whether there was one.
    fn run(&self, cx: &mut Cx<'_>) -> Result<bool, CommandError> {
        for key in self.keys.iter().take(self.key_count).map(Key::new) {
            let Some(popped) = pop(cx, key, self.from, self.count, Layout::Nested)? else {
                continue;
            };
            cx.reply.array(2);
            cx.reply.bulk(key.bytes);
            cx.reply.array(popped.count);
            cx.reply.raw(&popped.reply);
            let name: &[u8] = match self.from {
                Direction::Up => b"ZPOPMIN",
                Direction::Down => b"ZPOPMAX",
            };
            let mut text = itoa::Buffer::new();
            let count = text.format(popped.count).as_bytes();
            cx.changed(&[key], &[name, key.bytes, count]);
            cx.notify_shrunk(Class::ZSET, pop_event(self.from), key);
            return Ok(true);
        }
        cx.reply.null_array();
        Ok(false)
    }
}

/// There is no member to be had.
fn waits(cx: &mut Cx<'_>, timeout_ms: u64) {
    cx.effects.wait(Wait {
        timeout_ms,
        request: None,
    });
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
    let pop = PopOfSeveral::parse(args.from(2))?;
    let timeout_ms = seconds(args.at(1), cx.now)?;
    if !pop.run(cx)? {
        waits(cx, timeout_ms);
    }
    Ok(())
}
