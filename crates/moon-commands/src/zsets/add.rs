//! ZADD, ZINCRBY, ZREM.

use crate::collection::{shrink, write};
use crate::context::{CommandResult, Cx};
use crate::error::CommandError;
use crate::notify::Class;
use crate::parse::{double, is};
use moon_resp::Args;
use moon_store::{Key, PackLimits, Value, ZSet};

bitflags::bitflags! {
    /// The options of ZADD.
    #[derive(Clone, Copy, PartialEq, Eq)]
    struct Add: u8 {
        /// Only new members.
        const NX = 1;
        /// Only members that are there.
        const XX = 1 << 1;
        /// Only to a greater score.
        const GT = 1 << 2;
        /// Only to a lower score.
        const LT = 1 << 3;
        /// Counts changed members, too.
        const CH = 1 << 4;
        /// Adds to the score, and answers it.
        const INCR = 1 << 5;
    }
}

impl Add {
    fn option(arg: &[u8]) -> Option<Add> {
        const NAMES: [(&str, Add); 6] = [
            ("nx", Add::NX),
            ("xx", Add::XX),
            ("gt", Add::GT),
            ("lt", Add::LT),
            ("ch", Add::CH),
            ("incr", Add::INCR),
        ];
        let found = NAMES.iter().find(|(name, _)| is(arg, name));
        found.map(|(_, option)| *option)
    }

    fn check(self, pairs: usize) -> CommandResult {
        let both = |a, b| self.contains(a) && self.contains(b);
        if both(Add::NX, Add::XX) {
            return Err(CommandError::Text(
                "ERR XX and NX options at the same time are not compatible",
            ));
        }
        if both(Add::GT, Add::NX) || both(Add::LT, Add::NX) || both(Add::GT, Add::LT) {
            return Err(CommandError::Text(
                "ERR GT, LT, and/or NX options at the same time are not compatible",
            ));
        }
        if self.contains(Add::INCR) && pairs > 1 {
            return Err(CommandError::Text(
                "ERR INCR option supports a single increment-element pair",
            ));
        }
        Ok(())
    }
}

pub(crate) fn zadd(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    parse_and_add(cx, args, Add::empty())
}

/// Redis takes an option for one here, too, and then misses a score or a member.
pub(super) fn zincrby(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    parse_and_add(cx, args, Add::INCR)
}

fn parse_and_add(cx: &mut Cx<'_>, args: Args<'_>, mut options: Add) -> CommandResult {
    let mut first = 2;
    while let Some(option) = args.get(first).and_then(Add::option) {
        options |= option;
        first += 1;
    }
    let count = args.len().saturating_sub(first);
    if count == 0 || !count.is_multiple_of(2) {
        return Err(CommandError::Syntax);
    }
    options.check(count / 2)?;
    add(cx, args, args.from(first), options)
}

/// What became of the pairs.
#[derive(Default)]
struct Outcome {
    added: usize,
    updated: usize,
    /// The score of the last member that the options let through.
    score: Option<f64>,
}

/// Adds `pairs` of score and member to the set at index 1.
fn add(cx: &mut Cx<'_>, args: Args<'_>, pairs: Args<'_>, options: Add) -> CommandResult {
    let key = Key::new(args.at(1));
    let limits = cx.limits.zset_pack();
    // All scores are looked at before the first one is stored.
    let one = [double(pairs.at(0))?];
    let several: Vec<f64>;
    let scores: &[f64] = if pairs.len() == 2 {
        &one
    } else {
        let scores = pairs.iter().step_by(2).map(double);
        several = scores.collect::<Result<_, _>>()?;
        &several
    };
    let members = pairs.iter().skip(1).step_by(2);
    let pairs = members.zip(scores.iter().copied());
    let mut outcome = Outcome::default();
    match write::<ZSet>(cx, key)? {
        Some(zset) => outcome.put_all(zset, pairs, options, limits)?,
        None if options.contains(Add::XX) => {}
        None => {
            let mut zset = ZSet::default();
            outcome.put_all(&mut zset, pairs, options, limits)?;
            cx.store(key, Value::ZSet(Box::new(zset)), None);
        }
    }
    if outcome.added + outcome.updated > 0 {
        cx.changed_as_sent(&[key], args);
        let event = match options.contains(Add::INCR) {
            true => "zincr",
            false => "zadd",
        };
        cx.notify(Class::ZSET, event, key);
    }
    match outcome.score {
        Some(score) if options.contains(Add::INCR) => cx.reply.double(score),
        None if options.contains(Add::INCR) => cx.reply.null(),
        _ if options.contains(Add::CH) => cx.reply.count(outcome.added + outcome.updated),
        _ => cx.reply.count(outcome.added),
    }
    Ok(())
}

impl Outcome {
    fn put_all<'a>(
        &mut self,
        zset: &mut ZSet,
        pairs: impl Iterator<Item = (&'a [u8], f64)>,
        options: Add,
        limits: PackLimits,
    ) -> CommandResult {
        const CONDITIONS: Add = Add::NX
            .union(Add::XX)
            .union(Add::GT)
            .union(Add::LT)
            .union(Add::INCR);
        for (member, score) in pairs {
            let score = if options.intersects(CONDITIONS) {
                match admitted(zset.score(member), score, options)? {
                    Some(score) => score,
                    None => continue,
                }
            } else {
                score
            };
            match zset.set(member, score, limits) {
                None => self.added += 1,
                Some(before) => self.updated += usize::from(before != score),
            }
            self.score = Some(score);
        }
        Ok(())
    }
}

/// The score that a member gets, if the options let it through. An error concerns the only pair.
fn admitted(before: Option<f64>, score: f64, options: Add) -> Result<Option<f64>, CommandError> {
    let Some(before) = before else {
        return Ok((!options.contains(Add::XX)).then_some(score));
    };
    if options.contains(Add::NX) {
        return Ok(None);
    }
    let score = if options.contains(Add::INCR) {
        before + score
    } else {
        score
    };
    if score.is_nan() {
        return Err(CommandError::Text(
            "ERR resulting score is not a number (NaN)",
        ));
    }
    let is_refused = (options.contains(Add::LT) && score >= before)
        || (options.contains(Add::GT) && score <= before);
    Ok((!is_refused).then_some(score))
}

pub(super) fn zrem(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let key = Key::new(args.at(1));
    let removed = shrink(cx, key, |zset: &mut ZSet| {
        let members = args.from(2).iter();
        members.filter(|m| zset.remove(m).is_some()).count()
    })?
    .unwrap_or(0);
    if removed > 0 {
        cx.changed_as_sent(&[key], args);
        cx.notify_shrunk(Class::ZSET, "zrem", key);
    }
    cx.reply.count(removed);
    Ok(())
}
