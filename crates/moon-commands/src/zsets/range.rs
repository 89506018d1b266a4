//! ZRANGE and its kin, ZRANGESTORE, ZCOUNT, ZLEXCOUNT, ZREMRANGEBYRANK, -SCORE, -LEX.

use super::bounds::{Bounds, By};
use super::{WithScores, write_entries};
use crate::collection::{Collection as _, read, store_result, write};
use crate::context::{CommandResult, Cx};
use crate::error::CommandError;
use crate::notify::Class;
use crate::parse::{integer, is};
use moon_resp::Args;
use moon_store::types::zset::Direction;
use moon_store::{Key, Value, ZSet};
use std::ops::Range;

/// A range of one of the commands, with its options.
struct Request<'a> {
    bounds: Bounds<'a>,
    direction: Direction,
    /// How many members of the range are left out, from where it begins; negative: all.
    offset: i64,
    /// How many are answered at most; negative: all.
    limit: i64,
    scores: WithScores,
}

/// What a command leaves open to its options.
#[derive(Clone, Copy)]
struct Form {
    /// `None`: by rank, unless BYSCORE or BYLEX is said.
    by: Option<By>,
    /// `None`: from the lowest score, unless REV is said.
    direction: Option<Direction>,
    /// Whether WITHSCORES may be said.
    may_have_scores: bool,
}

impl<'a> Request<'a> {
    /// Reads two bounds at `first`, and the options behind them.
    fn parse(args: Args<'a>, first: usize, form: Form) -> Result<Request<'a>, CommandError> {
        let (mut by, mut direction) = (form.by, form.direction);
        let (mut offset, mut limit, mut scores) = (0, -1, WithScores::No);
        let mut at = first + 2;
        while let Some(option) = args.get(at) {
            at += 1;
            if form.may_have_scores && is(option, "withscores") {
                scores = WithScores::Yes;
            } else if is(option, "limit")
                && let (Some(skip), Some(count)) = (args.get(at), args.get(at + 1))
            {
                offset = integer(skip)?;
                limit = integer(count)?;
                at += 2;
            } else if direction.is_none() && is(option, "rev") {
                direction = Some(Direction::Down);
            } else if by.is_none() && is(option, "bylex") {
                by = Some(By::Member);
            } else if by.is_none() && is(option, "byscore") {
                by = Some(By::Score);
            } else {
                return Err(CommandError::Syntax);
            }
        }
        let by = by.unwrap_or(By::Rank);
        let direction = direction.unwrap_or(Direction::Up);
        // A limit of -1 cannot be told from none, and then the offset is passed over.
        if limit != -1 && by == By::Rank {
            return Err(CommandError::Text(
                "ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX",
            ));
        }
        if scores == WithScores::Yes && by == By::Member {
            return Err(CommandError::Text(
                "ERR syntax error, WITHSCORES not supported in combination with BYLEX",
            ));
        }
        // Bounds stand in the order in which they are met; ranks count from where they begin.
        let (mut min, mut max) = (args.at(first), args.at(first + 1));
        if direction == Direction::Down && by != By::Rank {
            std::mem::swap(&mut min, &mut max);
        }
        if by == By::Rank {
            offset = 0;
        }
        Ok(Request {
            bounds: Bounds::parse(by, min, max)?,
            direction,
            offset,
            limit,
            scores,
        })
    }

    /// The ranks that are answered, from the lowest score.
    fn ranks(&self, zset: &ZSet) -> Range<usize> {
        let all = self.bounds.ranks(zset, self.direction);
        let Ok(skipped) = usize::try_from(self.offset) else {
            return all.start..all.start;
        };
        let skipped = skipped.min(all.len());
        let left = all.len() - skipped;
        let count = usize::try_from(self.limit).map_or(left, |limit| limit.min(left));
        match self.direction {
            Direction::Up => {
                let start = all.start + skipped;
                start..start + count
            }
            Direction::Down => {
                let end = all.end - skipped;
                end - count..end
            }
        }
    }
}

/// Removes the members of these ranks. The key goes as a whole, and is freed elsewhere, if they are
/// all. The effect is the caller's to tell.
pub(super) fn remove_ranks(cx: &mut Cx<'_>, key: Key<'_>, ranks: Range<usize>) -> CommandResult {
    if let Some(zset) = write::<ZSet>(cx, key)? {
        if ranks.len() == zset.len() {
            cx.remove(key);
        } else {
            zset.remove_range(ranks);
        }
    }
    Ok(())
}

fn answer_range(cx: &mut Cx<'_>, args: Args<'_>, form: Form) -> CommandResult {
    let request = Request::parse(args, 2, form)?;
    let (zset, reply) = read::<ZSet>(cx, Key::new(args.at(1)))?;
    let Some(zset) = zset else {
        reply.array(0);
        return Ok(());
    };
    let entries = zset.range(request.ranks(zset));
    match request.direction {
        Direction::Up => write_entries(reply, entries, request.scores),
        Direction::Down => write_entries(reply, entries.rev(), request.scores),
    }
    Ok(())
}

/// The form of a command that says itself what it counts by and from where.
fn fixed(by: By, direction: Direction) -> Form {
    Form {
        by: Some(by),
        direction: Some(direction),
        may_have_scores: true,
    }
}

pub(super) fn zrange(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let form = Form {
        by: None,
        direction: None,
        may_have_scores: true,
    };
    answer_range(cx, args, form)
}

pub(super) fn zrevrange(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    answer_range(cx, args, fixed(By::Rank, Direction::Down))
}

pub(super) fn zrangebyscore(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    answer_range(cx, args, fixed(By::Score, Direction::Up))
}

pub(super) fn zrevrangebyscore(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    answer_range(cx, args, fixed(By::Score, Direction::Down))
}

pub(super) fn zrangebylex(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    answer_range(cx, args, fixed(By::Member, Direction::Up))
}

pub(super) fn zrevrangebylex(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    answer_range(cx, args, fixed(By::Member, Direction::Down))
}

pub(super) fn zrangestore(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let form = Form {
        by: None,
        direction: None,
        may_have_scores: false,
    };
    let request = Request::parse(args, 3, form)?;
    let (destination, source) = (Key::new(args.at(1)), Key::new(args.at(2)));
    let limits = cx.limits.zset_pack();
    let mut stored = ZSet::default();
    if cx.is_source_there(source)
        && let Some(value) = cx.peek(cx.db, source)
    {
        let zset = ZSet::of(value).ok_or(CommandError::WrongType)?;
        for (member, score) in zset.range(request.ranks(zset)) {
            stored.push(member, score, limits);
        }
    }
    store(cx, destination, stored, args, "zrangestore");
    Ok(())
}

/// Makes `zset` the value of a key, whatever it held; an empty one removes the key. Answers its
/// length.
pub(super) fn store(
    cx: &mut Cx<'_>,
    key: Key<'_>,
    zset: ZSet,
    args: Args<'_>,
    event: &'static str,
) {
    let len = zset.len();
    if store_result(cx, key, Value::ZSet(Box::new(zset)), len, args) {
        cx.notify_stored(Class::ZSET, event, key);
    }
}

pub(super) fn zcount(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    count(cx, args, By::Score)
}

pub(super) fn zlexcount(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    count(cx, args, By::Member)
}

fn count(cx: &mut Cx<'_>, args: Args<'_>, by: By) -> CommandResult {
    let bounds = Bounds::parse(by, args.at(2), args.at(3))?;
    let (zset, reply) = read::<ZSet>(cx, Key::new(args.at(1)))?;
    reply.count(zset.map_or(0, |zset| bounds.ranks(zset, Direction::Up).len()));
    Ok(())
}

pub(super) fn zremrangebyrank(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    remove_range(cx, args, By::Rank)
}

pub(super) fn zremrangebyscore(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    remove_range(cx, args, By::Score)
}

pub(super) fn zremrangebylex(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    remove_range(cx, args, By::Member)
}

fn remove_range(cx: &mut Cx<'_>, args: Args<'_>, by: By) -> CommandResult {
    let bounds = Bounds::parse(by, args.at(2), args.at(3))?;
    let key = Key::new(args.at(1));
    let ranks = match write::<ZSet>(cx, key)? {
        Some(zset) => bounds.ranks(zset, Direction::Up),
        None => 0..0,
    };
    let removed = ranks.len();
    remove_ranks(cx, key, ranks)?;
    if removed > 0 {
        cx.changed_as_sent(&[key], args);
        let event = match by {
            By::Rank => "zremrangebyrank",
            By::Score => "zremrangebyscore",
            By::Member => "zremrangebylex",
        };
        cx.notify_shrunk(Class::ZSET, event, key);
    }
    cx.reply.count(removed);
    Ok(())
}
