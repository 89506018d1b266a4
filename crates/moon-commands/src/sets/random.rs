//! SPOP and SRANDMEMBER.

use super::write_member;
use crate::collection::{distinct_picks, pop_count, read, shrink};
use crate::context::{CommandResult, Cx};
use crate::error::CommandError;
use crate::notify::Class;
use crate::parse::integer_between;
use moon_resp::{Args, Reply};
use moon_store::{Key, Member, Set};
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};

/// A reply of random picks with repetition may have about this many bytes: its length is the
/// client's choice, independent of what is stored, and it is built in memory.
const RANDOM_REPLY_BYTES_MAX: usize = 1 << 30;

/// Members that one effect of SPOP names at most.
const MEMBERS_PER_EFFECT: usize = 1024;

/// Takes up to `count` members at random out of `set`.
fn take_random(set: &mut Set, count: usize, rng: &mut SmallRng) -> Vec<Vec<u8>> {
    if count >= set.len() {
        let all = set.iter().map(Member::to_vec).collect();
        set.clear();
        return all;
    }
    let mut taken = Vec::with_capacity(count);
    while taken.len() < count {
        let Some(member) = set.random(rng.random()).map(Member::to_vec) else {
            break;
        };
        set.remove(&member);
        taken.push(member);
    }
    taken
}

pub(super) fn spop(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    if args.len() > 3 {
        return Err(CommandError::Syntax);
    }
    let count = pop_count(args, 2)?;
    let key = Key::new(args.at(1));
    let mut rng = cx.rng.fork();
    let taken = shrink(cx, key, |set: &mut Set| {
        let popped = take_random(set, count.unwrap_or(1), &mut rng);
        (popped, set.is_empty())
    })?;
    let Some((popped, emptied)) = taken else {
        match count {
            Some(_) => cx.reply.set(0),
            None => cx.reply.null(),
        }
        return Ok(());
    };
    if emptied {
        cx.changed(&[key], &[b"DEL", key.bytes]);
        cx.notify_shrunk(Class::SET, "spop", key);
    } else if !popped.is_empty() {
        cx.mark(cx.db, key);
        for members in popped.chunks(MEMBERS_PER_EFFECT) {
            let mut effect: Vec<&[u8]> = vec![b"SREM", key.bytes];
            effect.extend(members.iter().map(Vec::as_slice));
            cx.effects.push(cx.db, &effect);
        }
        cx.notify(Class::SET, "spop", key);
    }
    if count.is_some() {
        cx.reply.set(popped.len());
    }
    for member in &popped {
        cx.reply.bulk(member);
    }
    Ok(())
}

pub(super) fn srandmember(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    if args.len() > 3 {
        return Err(CommandError::Syntax);
    }
    let count = |arg| integer_between(arg, -i64::MAX, i64::MAX);
    let count = args.get(2).map(count).transpose()?;
    let mut rng = cx.rng.fork();
    let (set, reply) = read::<Set>(cx, Key::new(args.at(1)))?;
    match (set, count) {
        (None, None) => reply.null(),
        (None, Some(_)) | (_, Some(0)) => reply.array(0),
        (Some(set), None) => {
            if let Some(member) = set.random(rng.random()) {
                write_member(reply, member);
            }
        }
        (Some(set), Some(count)) => {
            let wanted = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX);
            if count < 0 {
                return answer_repeated(set, wanted, &mut rng, reply);
            }
            answer_distinct(set, wanted, &mut rng, reply);
        }
    }
    Ok(())
}

fn answer_repeated(
    set: &Set,
    wanted: usize,
    rng: &mut SmallRng,
    reply: &mut Reply<'_>,
) -> CommandResult {
    // The reply's head and line ends take some bytes of each member, too.
    let mean_bytes = set.memory() / set.len() + 16;
    if wanted.saturating_mul(mean_bytes) > RANDOM_REPLY_BYTES_MAX {
        return Err(CommandError::Text("ERR value is out of range"));
    }
    reply.array(wanted);
    for _ in 0..wanted {
        if let Some(member) = set.random(rng.random()) {
            write_member(reply, member);
        }
    }
    Ok(())
}

fn answer_distinct(set: &Set, wanted: usize, rng: &mut SmallRng, reply: &mut Reply<'_>) {
    if wanted >= set.len() {
        reply.array(set.len());
        set.iter().for_each(|member| write_member(reply, member));
        return;
    }
    let picks = distinct_picks(set.iter(), |r| set.random(r), wanted, rng);
    reply.array(picks.len());
    for member in picks {
        write_member(reply, member);
    }
}
