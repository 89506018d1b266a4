//! Some of the fields: HRANDFIELD and HSCAN.

use super::access::read;
use crate::context::{CommandResult, Cx};
use crate::error::CommandError;
use crate::parse;
use crate::scan::{OwnOption, collection_scan};
use moon_resp::{Args, Protocol, Reply};
use moon_store::{Field, Hash, Key, LiveFields};
use rand::rngs::SmallRng;
use rand::seq::IteratorRandom;
use rand::{Rng, RngExt, SeedableRng};
use std::collections::HashSet;

/// A reply that would need more bytes is refused: a negative count can ask for any number.
const REPLY_BYTES_MAX: usize = 1 << 30;

/// What HRANDFIELD answers for each field.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shown {
    Names,
    NamesAndValues,
}

pub(super) fn hrandfield(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let key = Key::new(args.at(1));
    let mut rng = cx.rng.fork();
    let Some(count) = args.get(2) else {
        let (fields, reply) = read(cx, key)?;
        match fields.and_then(|fields| pick_one(fields, &mut rng)) {
            Some(field) => reply.bulk(field.name),
            None => reply.null(),
        }
        return Ok(());
    };
    let count = parse::integer_between(count, -i64::MAX, i64::MAX)?;
    let shown = match args.get(3) {
        None => Shown::Names,
        Some(word) if parse::is(word, "withvalues") && args.len() == 4 => Shown::NamesAndValues,
        Some(_) => return Err(CommandError::Syntax),
    };
    if shown == Shown::NamesAndValues && !(-i64::MAX / 2..=i64::MAX / 2).contains(&count) {
        return Err(CommandError::Text("ERR value is out of range"));
    }
    let (fields, reply) = read(cx, key)?;
    let wanted = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX);
    match fields.filter(|fields| wanted > 0 && !fields.is_empty()) {
        None => {
            reply.array(0);
            Ok(())
        }
        Some(fields) if count < 0 => repeated_picks(fields, wanted, shown, &mut rng, reply),
        Some(fields) => {
            distinct_picks(fields, wanted, shown, &mut rng, reply);
            Ok(())
        }
    }
}

pub(super) fn hscan(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let now = cx.now;
    collection_scan(
        cx,
        args,
        OwnOption::NoValues,
        |hash: &Hash, cursor, count, visit| {
            (hash.at(now)).scan(cursor, count, &mut |field| {
                visit(field.name, Some(field.value))
            })
        },
    )
}

/// A field, each as likely as any other.
fn pick_one<'a>(fields: LiveFields<'a>, rng: &mut SmallRng) -> Option<Field<'a>> {
    match fields.whole() {
        Some(hash) => hash.random(rng.next_u64()),
        None => fields.iter().choose(rng),
    }
}

/// Writes the head of the reply for `count` fields.
fn head(reply: &mut Reply<'_>, shown: Shown, count: usize) {
    match (shown, reply.protocol()) {
        (Shown::NamesAndValues, Protocol::Resp2) => reply.array(count * 2),
        _ => reply.array(count),
    }
}

fn show(reply: &mut Reply<'_>, shown: Shown, field: Field<'_>) {
    if shown == Shown::NamesAndValues && reply.protocol() == Protocol::Resp3 {
        reply.array(2);
    }
    reply.bulk(field.name);
    if shown == Shown::NamesAndValues {
        reply.bulk(field.value);
    }
}

fn repeated_picks(
    fields: LiveFields<'_>,
    wanted: usize,
    shown: Shown,
    rng: &mut SmallRng,
    reply: &mut Reply<'_>,
) -> CommandResult {
    // Where fields have expired and are not removed yet, the others are listed once.
    let rest: Vec<Field<'_>> = match fields.whole() {
        Some(_) => Vec::new(),
        None => fields.iter().collect(),
    };
    let bytes: usize = match fields.whole() {
        // The reply's heads and line ends take some bytes of each field, too.
        Some(hash) => hash.memory() / hash.len() + 16,
        None => {
            rest.iter()
                .map(|f| f.name.len() + f.value.len())
                .sum::<usize>()
                / rest.len()
                + 16
        }
    };
    if wanted.saturating_mul(bytes) > REPLY_BYTES_MAX {
        return Err(CommandError::Text("ERR value is out of range"));
    }
    head(reply, shown, wanted);
    for _ in 0..wanted {
        let field = match fields.whole() {
            Some(hash) => hash.random(rng.next_u64()),
            None => rest.get(rng.random_range(0..rest.len())).copied(),
        };
        if let Some(field) = field {
            show(reply, shown, field);
        }
    }
    Ok(())
}

fn distinct_picks(
    fields: LiveFields<'_>,
    wanted: usize,
    shown: Shown,
    rng: &mut SmallRng,
    reply: &mut Reply<'_>,
) {
    let len = fields.len();
    if wanted >= len {
        head(reply, shown, len);
        fields.iter().for_each(|field| show(reply, shown, field));
        return;
    }
    head(reply, shown, wanted);
    match fields.whole() {
        // Few of many: draws that hit the same field twice are rare.
        Some(hash) if wanted < len / 3 => few_of_many(hash, wanted, rng)
            .into_iter()
            .for_each(|field| show(reply, shown, field)),
        _ => fields
            .iter()
            .sample(rng, wanted)
            .into_iter()
            .for_each(|field| show(reply, shown, field)),
    }
}

fn few_of_many<'a>(hash: &'a Hash, wanted: usize, rng: &mut SmallRng) -> Vec<Field<'a>> {
    let mut names = HashSet::with_capacity(wanted);
    let mut picked = Vec::with_capacity(wanted);
    while picked.len() < wanted {
        let Some(field) = hash.random(rng.next_u64()) else {
            break;
        };
        if names.insert(field.name) {
            picked.push(field);
        }
    }
    picked
}
