//! Commands on sorted sets.
//!
//! * here: the table, and what asks about one member.
//! * [`add`]: ZADD, ZINCRBY, ZREM.
//! * [`bounds`]: ranges as they stand in arguments: by rank, score or member.
//! * [`range`]: ZRANGE and its kin, ZRANGESTORE, ZCOUNT, ZLEXCOUNT, ZREMRANGEBY*.
//! * [`pop`]: ZPOPMIN, ZPOPMAX, ZMPOP, and BZPOPMIN and its kin, which wait for a member.
//! * [`algebra`]: ZUNION, ZINTER, ZDIFF, with and without STORE, ZINTERCARD.
//! * [`pick`]: ZRANDMEMBER, ZSCAN.

mod add;
mod algebra;
mod bounds;
mod pick;
mod pop;
mod range;

pub(crate) use add::zadd;

use crate::collection::read;
use crate::context::{CommandResult, Cx};
use crate::error::CommandError;
use crate::parse::is;
use crate::parse::wrong_arity;
use crate::spec::{
    DESTINATION_NUMKEYS, FIRST_KEY, KEYS_TIMEOUT, Keys, NUMKEYS, TIMEOUT_NUMKEYS, commands,
};
use moon_resp::{Args, Protocol, Reply};
use moon_store::{Key, ZSet};

const DESTINATION_SOURCE: Keys = Keys::Range {
    first: 1,
    last: 2,
    step: 1,
};

commands! { "sorted-set":
    "zadd" -4 [WRITE DENYOOM FAST] FIRST_KEY, Keys, zadd,
        "write sortedset fast", "1.2.0", "O(log(N)) for each member given.",
        "Adds members with scores to a sorted set, or gives members other scores.";
    "zincrby" 4 [WRITE DENYOOM FAST] FIRST_KEY, Keys, add::zincrby,
        "write sortedset fast", "1.2.0", "O(log(N))",
        "Adds to the score of a member, which is added if needed.";
    "zrem" -3 [WRITE FAST FREES_MEMORY] FIRST_KEY, Keys, add::zrem,
        "write sortedset fast", "1.2.0", "O(M*log(N)) for M members given.",
        "Removes members, and the sorted set with its last one.";
    "zcard" 2 [READONLY FAST] FIRST_KEY, Keys, zcard,
        "read sortedset fast", "1.2.0", "O(1)", "Counts the members of a sorted set.";
    "zscore" 3 [READONLY FAST] FIRST_KEY, Keys, zscore,
        "read sortedset fast", "1.2.0", "O(1)", "Answers the score of a member.";
    "zmscore" -3 [READONLY FAST] FIRST_KEY, Keys, zmscore,
        "read sortedset fast", "6.2.0", "O(N) for N members asked for.",
        "Answers the scores of several members.";
    "zrank" -3 [READONLY FAST] FIRST_KEY, Keys, zrank,
        "read sortedset fast", "2.0.0", "O(log(N))",
        "Answers how many members stand before one, from the lowest score.";
    "zrevrank" -3 [READONLY FAST] FIRST_KEY, Keys, zrevrank,
        "read sortedset fast", "2.0.0", "O(log(N))",
        "Answers how many members stand before one, from the highest score.";
    "zcount" 4 [READONLY FAST] FIRST_KEY, Keys, range::zcount,
        "read sortedset fast", "2.0.0", "O(log(N))",
        "Counts the members whose scores lie between two bounds.";
    "zlexcount" 4 [READONLY FAST] FIRST_KEY, Keys, range::zlexcount,
        "read sortedset fast", "2.8.9", "O(log(N))",
        "Counts the members between two bounds, where all have the same score.";
    "zrange" -4 [READONLY] FIRST_KEY, Keys, range::zrange,
        "read sortedset slow", "1.2.0", "O(log(N)+M) for M members answered.",
        "Answers the members of a range by rank, score or member, in either order.";
    "zrangestore" -5 [WRITE DENYOOM] DESTINATION_SOURCE, Keys, range::zrangestore,
        "write sortedset slow", "6.2.0", "O(log(N)+M*log(M)) for M members stored.",
        "Stores a range of a sorted set as another one.";
    "zrevrange" -4 [READONLY] FIRST_KEY, Keys, range::zrevrange,
        "read sortedset slow", "1.2.0", "O(log(N)+M) for M members answered.",
        "Answers the members of a range of ranks, from the highest score.";
    "zrangebyscore" -4 [READONLY] FIRST_KEY, Keys, range::zrangebyscore,
        "read sortedset slow", "1.0.5", "O(log(N)+M) for M members answered.",
        "Answers the members whose scores lie between two bounds.";
    "zrevrangebyscore" -4 [READONLY] FIRST_KEY, Keys, range::zrevrangebyscore,
        "read sortedset slow", "2.2.0", "O(log(N)+M) for M members answered.",
        "Answers the members whose scores lie between two bounds, from the highest score.";
    "zrangebylex" -4 [READONLY] FIRST_KEY, Keys, range::zrangebylex,
        "read sortedset slow", "2.8.9", "O(log(N)+M) for M members answered.",
        "Answers the members between two bounds, where all have the same score.";
    "zrevrangebylex" -4 [READONLY] FIRST_KEY, Keys, range::zrevrangebylex,
        "read sortedset slow", "2.8.9", "O(log(N)+M) for M members answered.",
        "Answers the members between two bounds backwards, where all have the same score.";
    "zremrangebyrank" 4 [WRITE FREES_MEMORY] FIRST_KEY, Keys, range::zremrangebyrank,
        "write sortedset slow", "2.0.0", "O(log(N)+M) for M members removed.",
        "Removes the members of a range of ranks.";
    "zremrangebyscore" 4 [WRITE FREES_MEMORY] FIRST_KEY, Keys, range::zremrangebyscore,
        "write sortedset slow", "1.2.0", "O(log(N)+M) for M members removed.",
        "Removes the members whose scores lie between two bounds.";
    "zremrangebylex" 4 [WRITE FREES_MEMORY] FIRST_KEY, Keys, range::zremrangebylex,
        "write sortedset slow", "2.8.9", "O(log(N)+M) for M members removed.",
        "Removes the members between two bounds, where all have the same score.";
    "zpopmin" -2 [WRITE FAST FREES_MEMORY] FIRST_KEY, Keys, pop::zpopmin,
        "write sortedset fast", "5.0.0", "O(M*log(N)) for M members removed.",
        "Takes the members with the lowest scores out of a sorted set.";
    "zpopmax" -2 [WRITE FAST FREES_MEMORY] FIRST_KEY, Keys, pop::zpopmax,
        "write sortedset fast", "5.0.0", "O(M*log(N)) for M members removed.",
        "Takes the members with the highest scores out of a sorted set.";
    "zmpop" -4 [WRITE MOVABLEKEYS FREES_MEMORY] NUMKEYS, Keys, pop::zmpop,
        "write sortedset slow", "7.0.0", "O(K+M*log(N)): K keys looked at, M members removed.",
        "Takes members with extreme scores out of the first of several sorted sets that has any.";
    "bzpopmin" -3 [WRITE NOSCRIPT BLOCKING FAST FREES_MEMORY] KEYS_TIMEOUT, Keys, pop::bzpopmin,
        "write sortedset fast blocking", "5.0.0", "O(log(N))",
        "Takes the member with the lowest score out of the first of several sorted sets that has any, \
         or waits for one.";
    "bzpopmax" -3 [WRITE NOSCRIPT BLOCKING FAST FREES_MEMORY] KEYS_TIMEOUT, Keys, pop::bzpopmax,
        "write sortedset fast blocking", "5.0.0", "O(log(N))",
        "Takes the member with the highest score out of the first of several sorted sets that has any, \
         or waits for one.";
    "bzmpop" -5 [WRITE BLOCKING MOVABLEKEYS FREES_MEMORY] TIMEOUT_NUMKEYS, Keys, pop::bzmpop,
        "write sortedset slow blocking", "7.0.0",
        "O(K+M*log(N)): K keys looked at, M members removed.",
        "Takes members with extreme scores out of the first of several sorted sets that has any, or \
         waits for some.";
    "zunion" -3 [READONLY MOVABLEKEYS] NUMKEYS, Keys, algebra::zunion,
        "read sortedset slow", "6.2.0", "O(N+M*log(M)): N members of all sets, M of the result.",
        "Answers the union of sorted sets.";
    "zunionstore" -4 [WRITE DENYOOM MOVABLEKEYS] DESTINATION_NUMKEYS, Keys, algebra::zunionstore,
        "write sortedset slow", "2.0.0", "O(N+M*log(M)): N members of all sets, M of the result.",
        "Stores the union of sorted sets.";
    "zinter" -3 [READONLY MOVABLEKEYS] NUMKEYS, Keys, algebra::zinter,
        "read sortedset slow", "6.2.0",
        "O(N*K+M*log(M)): N members of the smallest of K sets, M of the result.",
        "Answers the intersection of sorted sets.";
    "zinterstore" -4 [WRITE DENYOOM MOVABLEKEYS] DESTINATION_NUMKEYS, Keys, algebra::zinterstore,
        "write sortedset slow", "2.0.0",
        "O(N*K+M*log(M)): N members of the smallest of K sets, M of the result.",
        "Stores the intersection of sorted sets.";
    "zintercard" -3 [READONLY MOVABLEKEYS] NUMKEYS, Keys, algebra::zintercard,
        "read sortedset slow", "7.0.0", "O(N*K): N members of the smallest of K sets.",
        "Counts the members of the intersection of sorted sets.";
    "zdiff" -3 [READONLY MOVABLEKEYS] NUMKEYS, Keys, algebra::zdiff,
        "read sortedset slow", "6.2.0", "O(N*K+M*log(M)): N members of the first of K sets, M of the result.",
        "Answers what the first of several sorted sets has and no other.";
    "zdiffstore" -4 [WRITE DENYOOM MOVABLEKEYS] DESTINATION_NUMKEYS, Keys, algebra::zdiffstore,
        "write sortedset slow", "6.2.0", "O(N*K+M*log(M)): N members of the first of K sets, M of the result.",
        "Stores what the first of several sorted sets has and no other.";
    "zrandmember" -2 [READONLY] FIRST_KEY, Keys, pick::zrandmember,
        "read sortedset slow", "6.2.0", "O(M*log(N)) for M members answered.",
        "Answers one or several members at random and leaves them.";
    "zscan" -3 [READONLY] FIRST_KEY, Keys, pick::zscan,
        "read sortedset slow", "2.8.0", "O(1) per call, O(N) for a whole iteration.",
        "Iterates over the members of a sorted set and their scores.";
}

/// Whether scores follow the members in a reply.
#[derive(Clone, Copy, PartialEq, Eq)]
enum WithScores {
    No,
    Yes,
}

/// Members as an array; with scores, RESP2 has one flat array and RESP3 an array of pairs.
fn write_entries<'a>(
    reply: &mut Reply<'_>,
    entries: impl ExactSizeIterator<Item = (&'a [u8], f64)>,
    scores: WithScores,
) {
    let flat = reply.protocol() == Protocol::Resp2;
    let len = entries.len();
    match scores {
        WithScores::No => {
            reply.array(len);
            entries.for_each(|(member, _)| reply.bulk(member));
        }
        WithScores::Yes => {
            reply.array(if flat { len * 2 } else { len });
            for (member, score) in entries {
                if !flat {
                    reply.array(2);
                }
                reply.bulk(member);
                reply.double(score);
            }
        }
    }
}

fn zcard(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let (zset, reply) = read::<ZSet>(cx, Key::new(args.at(1)))?;
    reply.count(zset.map_or(0, ZSet::len));
    Ok(())
}

fn write_score(reply: &mut Reply<'_>, zset: Option<&ZSet>, member: &[u8]) {
    match zset.and_then(|zset| zset.score(member)) {
        Some(score) => reply.double(score),
        None => reply.null(),
    }
}

fn zscore(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let (zset, reply) = read::<ZSet>(cx, Key::new(args.at(1)))?;
    write_score(reply, zset, args.at(2));
    Ok(())
}

fn zmscore(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let (zset, reply) = read::<ZSet>(cx, Key::new(args.at(1)))?;
    let members = args.from(2);
    reply.array(members.len());
    for member in members.iter() {
        write_score(reply, zset, member);
    }
    Ok(())
}

fn zrank(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    answer_rank(cx, args, "zrank", |_, rank| rank)
}

fn zrevrank(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    answer_rank(cx, args, "zrevrank", |zset, rank| zset.len() - 1 - rank)
}

fn answer_rank(
    cx: &mut Cx<'_>,
    args: Args<'_>,
    name: &str,
    counted: fn(&ZSet, usize) -> usize,
) -> CommandResult {
    if args.len() > 4 {
        return Err(wrong_arity(name));
    }
    let with_score = match args.get(3) {
        None => false,
        Some(option) if is(option, "withscore") => true,
        Some(_) => return Err(CommandError::Syntax),
    };
    let member = args.at(2);
    let (zset, reply) = read::<ZSet>(cx, Key::new(args.at(1)))?;
    let found =
        zset.and_then(|zset| Some((counted(zset, zset.rank(member)?), zset.score(member)?)));
    match found {
        None if with_score => reply.null_array(),
        None => reply.null(),
        Some((rank, score)) => {
            if with_score {
                reply.array(2);
            }
            reply.count(rank);
            if with_score {
                reply.double(score);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
