//! ZRANDMEMBER and ZSCAN: members in no order.

use super::{WithScores, write_entries};
use crate::collection::read;
use crate::context::{CommandResult, Cx};
use crate::error::CommandError;
use crate::parse::{integer_between, is};
use crate::scan::{OwnOption, collection_scan};
use moon_resp::{Args, Reply, format_double};
use moon_store::{Key, ZSet};
use rand::rngs::SmallRng;
use rand::seq::index;
use rand::{RngExt as _, SeedableRng as _};

/// A reply of picks with repetition may have about this many bytes: its length is the client's
/// choice, independent of what is stored, and it is built in memory.
const REPLY_BYTES_MAX: usize = 1 << 30;

pub(super) fn zrandmember(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    const OUT_OF_RANGE: CommandError = CommandError::Text("ERR value is out of range");
    let key = Key::new(args.at(1));
    let mut rng = cx.rng.fork();
    let Some(count) = args.get(2) else {
        let (zset, reply) = read::<ZSet>(cx, key)?;
        match zset.and_then(|zset| nth(zset, rng.random_range(0..zset.len()))) {
            Some((member, _)) => reply.bulk(member),
            None => reply.null(),
        }
        return Ok(());
    };
    let count = integer_between(count, -i64::MAX, i64::MAX)?;
    let scores = match args.get(3) {
        None => WithScores::No,
        Some(option) if args.len() == 4 && is(option, "withscores") => WithScores::Yes,
        Some(_) => return Err(CommandError::Syntax),
    };
    if scores == WithScores::Yes && count.unsigned_abs() > i64::MAX.unsigned_abs() / 2 {
        return Err(OUT_OF_RANGE);
    }
    let (zset, reply) = read::<ZSet>(cx, key)?;
    let wanted = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX);
    let Some(zset) = zset.filter(|_| wanted > 0) else {
        reply.array(0);
        return Ok(());
    };
    if count > 0 {
        distinct_picks(zset, wanted, &mut rng, reply, scores);
        return Ok(());
    }
    // The reply's head and line ends take some bytes of each member, too.
    let mean_bytes = zset.memory() / zset.len() + 16;
    if wanted.saturating_mul(mean_bytes) > REPLY_BYTES_MAX {
        return Err(OUT_OF_RANGE);
    }
    repeated_picks(zset, wanted, &mut rng, reply, scores);
    Ok(())
}

pub(super) fn zscan(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    collection_scan(
        cx,
        args,
        OwnOption::None,
        |zset: &ZSet, cursor, count, visit| {
            zset.scan(cursor, count, &mut |member, score| {
                visit(member, Some(format_double(score).as_bytes()));
            })
        },
    )
}

fn nth(zset: &ZSet, rank: usize) -> Option<(&[u8], f64)> {
    zset.range(rank..rank + 1).next()
}

fn repeated_picks(
    zset: &ZSet,
    wanted: usize,
    rng: &mut SmallRng,
    reply: &mut Reply<'_>,
    scores: WithScores,
) {
    let picks = (0..wanted).map(|_| {
        let rank = rng.random_range(0..zset.len());
        nth(zset, rank).unwrap_or_default()
    });
    write_entries(reply, picks, scores);
}

fn distinct_picks(
    zset: &ZSet,
    wanted: usize,
    rng: &mut SmallRng,
    reply: &mut Reply<'_>,
    scores: WithScores,
) {
    if wanted >= zset.len() {
        return write_entries(reply, zset.iter(), scores);
    }
    let ranks = index::sample(rng, zset.len(), wanted).into_vec();
    let picks = ranks
        .iter()
        .map(|rank| nth(zset, *rank).unwrap_or_default());
    write_entries(reply, picks, scores);
}
