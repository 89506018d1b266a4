//! XCLAIM, XAUTOCLAIM: pending entries change their owner.
//!
//! Entries that are not in the stream any more lose their place among the pending ones on the way.

use super::effects::Told;
use super::{ids, no_group, now_ms, write_entry, write_id};
use crate::collection::{write, write_source};
use crate::context::{CommandResult, Cx, Origin};
use crate::error::CommandError;
use crate::parse::{self, detailed, is, next_option, option_value};
use moon_resp::{Args, Reply};
use moon_store::stream::{ConsumerId, Group, Pending};
use moon_store::{Key, Stream, StreamId};

/// What the options of XCLAIM say.
#[derive(Default)]
struct Options {
    force: bool,
    just_id: bool,
    /// Unix milliseconds, as given.
    delivered_ms: Option<i64>,
    retry_count: Option<u64>,
    last_id: Option<StreamId>,
}

impl Options {
    fn parse(args: Args<'_>, from: usize, now: i64) -> Result<Options, CommandError> {
        let number = |at: &mut usize, text: &'static str| {
            let value = option_value(args, at)?;
            parse::canonical_integer(value).ok_or(CommandError::Text(text))
        };
        let mut options = Options::default();
        let mut at = from;
        while let Some(option) = next_option(args, &mut at) {
            let has_value = at < args.len();
            if is(option, "force") {
                options.force = true;
            } else if is(option, "justid") {
                options.just_id = true;
            } else if has_value && is(option, "idle") {
                let idle = number(&mut at, "ERR Invalid IDLE option argument for XCLAIM")?;
                options.delivered_ms = Some(now.wrapping_sub(idle));
            } else if has_value && is(option, "time") {
                let time = number(&mut at, "ERR Invalid TIME option argument for XCLAIM")?;
                options.delivered_ms = Some(time);
            } else if has_value && is(option, "retrycount") {
                let text = "ERR Invalid RETRYCOUNT option argument for XCLAIM";
                options.retry_count = u64::try_from(number(&mut at, text)?).ok();
            } else if has_value && is(option, "lastid") {
                options.last_id = Some(ids::strict(option_value(args, &mut at)?, 0)?);
            } else {
                let option = String::from_utf8_lossy(option);
                return Err(detailed(format!(
                    "ERR Unrecognized XCLAIM option '{option}'"
                )));
            }
        }
        Ok(options)
    }

    /// When the entries count as delivered: not in the future, nor before all time. The log is
    /// believed.
    fn delivered(&self, origin: Origin, now: i64) -> i64 {
        match self.delivered_ms {
            Some(time) if origin == Origin::Replay => time,
            Some(time) if (0..=now).contains(&time) => time,
            _ => now,
        }
    }
}

fn idle_min(arg: &[u8], command: &str) -> Result<i64, CommandError> {
    let number = parse::canonical_integer(arg)
        .ok_or_else(|| detailed(format!("ERR Invalid min-idle-time argument for {command}")))?;
    Ok(number.max(0))
}

/// A consumer who takes over entries of its group.
struct Claim<'a> {
    group: &'a [u8],
    claimant: ConsumerId,
    now: i64,
    idle_min_ms: i64,
    just_id: bool,
    /// XCLAIM may say when the entries count as delivered, and how often.
    delivered_ms: i64,
    retry_count: Option<u64>,
}

impl<'a> Claim<'a> {
    fn begin(
        stream: &mut Stream,
        group: &'a [u8],
        consumer: &[u8],
        now: i64,
        told: &mut Told<'_>,
    ) -> Option<Claim<'a>> {
        let claimant = stream.change_group(group, |group| {
            let (claimant, is_new) = group.create_consumer(consumer, now);
            group.seen(claimant, now);
            if is_new {
                told.created_consumer(consumer);
            }
            claimant
        })?;
        Some(Claim {
            group,
            claimant,
            now,
            idle_min_ms: 0,
            just_id: false,
            delivered_ms: now,
            retry_count: None,
        })
    }

    fn is_idle(&self, pending: &Pending) -> bool {
        self.idle_min_ms == 0 || self.now.saturating_sub(pending.delivered_ms) >= self.idle_min_ms
    }

    /// Takes over an entry that is in the stream, and answers with it.
    fn take(
        &self,
        stream: &mut Stream,
        id: StreamId,
        before: u64,
        reply: &mut Reply<'_>,
        told: &mut Told<'_>,
    ) {
        let deliveries = match self.retry_count {
            Some(count) => count,
            None if self.just_id => before,
            None => before.saturating_add(1),
        };
        let pending = Pending {
            consumer: self.claimant,
            delivered_ms: self.delivered_ms,
            deliveries,
        };
        stream.change_group(self.group, |group: &mut Group| {
            group.set_pending(id, pending);
            // In replay the time of the delivery is the newest that is known.
            group.active(self.claimant, self.now.max(self.delivered_ms));
            told.claimed(group, id, pending);
        });
        match stream.get(id) {
            Some(entry) if !self.just_id => write_entry(reply, &entry),
            _ => write_id(reply, id),
        }
    }
}

pub(super) fn xclaim(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let (key, name, consumer) = (Key::new(args.at(1)), args.at(2), args.at(3));
    let (now, origin) = (now_ms(cx), cx.origin);
    let mut encoded = Vec::new();
    let mut reply = Reply::new(&mut encoded, cx.reply.protocol());
    let stream = write_source::<Stream>(cx, key)?.filter(|stream| stream.group(name).is_some());
    let Some(stream) = stream else {
        return Err(no_group(key.bytes, name));
    };
    let idle_min_ms = idle_min(args.at(4), "XCLAIM")?;
    let claimed: Vec<StreamId> = (args.from(5).iter())
        .map_while(|id| ids::strict(id, 0).ok())
        .collect();
    let options = Options::parse(args, 5 + claimed.len(), now)?;
    let delivered_ms = options.delivered(origin, now);
    let mut told = Told::new(key, name);
    let moved = options.last_id.filter(|last_id| {
        let group = stream.group(name);
        group.is_some_and(|group| *last_id > group.last_id)
    });
    if let Some(last_id) = moved {
        stream.change_group(name, |group| group.last_id = last_id);
    }
    let seen = now.max(if origin == Origin::Replay {
        delivered_ms
    } else {
        now
    });
    let Some(mut claim) = Claim::begin(stream, name, consumer, seen, &mut told) else {
        return Err(no_group(key.bytes, name));
    };
    claim.now = now;
    claim.idle_min_ms = idle_min_ms;
    claim.just_id = options.just_id;
    claim.delivered_ms = delivered_ms;
    claim.retry_count = options.retry_count;
    let (mut taken, mut is_told) = (0, false);
    for id in claimed {
        let pending = stream
            .group(name)
            .and_then(|group| group.pending().get(&id).copied());
        if !stream.contains(id) {
            if pending.is_some() {
                stream.change_group(name, |group| group.acknowledge(id));
                told.acknowledged(&[id]);
            }
            continue;
        }
        let deliveries = match pending {
            Some(pending) if !claim.is_idle(&pending) => continue,
            Some(pending) => pending.deliveries,
            None if options.force => 1,
            None => continue,
        };
        claim.take(stream, id, deliveries, &mut reply, &mut told);
        taken += 1;
        is_told = true;
    }
    if moved.is_some() && !is_told {
        stream.change_group(name, |group| told.moved(group));
    }
    told.tell(cx);
    cx.reply.array(taken);
    cx.reply.raw(&encoded);
    Ok(())
}

/// Entries looked at for each one that may be claimed.
const ATTEMPTS_PER_ENTRY: usize = 10;

pub(super) fn xautoclaim(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let (key, name, consumer) = (Key::new(args.at(1)), args.at(2), args.at(3));
    // A miss is told before anything is complained about.
    cx.is_source_there(key);
    let idle_min_ms = idle_min(args.at(4), "XAUTOCLAIM")?;
    let start = ids::range_start(args.at(5))?;
    let (mut count, mut just_id) = (100, false);
    let mut at = 6;
    while let Some(option) = next_option(args, &mut at) {
        if is(option, "count") && at < args.len() {
            // Redis keeps room for as many ids, of 16 bytes each.
            const COUNT_MAX: usize = (i64::MAX / 16) as usize;
            count = parse::canonical_integer(option_value(args, &mut at)?)
                .and_then(|count| usize::try_from(count).ok())
                .filter(|count| (1..=COUNT_MAX).contains(count))
                .ok_or(CommandError::Text("ERR COUNT must be > 0"))?;
        } else if is(option, "justid") {
            just_id = true;
        } else {
            return Err(CommandError::Syntax);
        }
    }
    let now = now_ms(cx);
    let mut encoded = Vec::new();
    let mut reply = Reply::new(&mut encoded, cx.reply.protocol());
    let stream = write::<Stream>(cx, key)?.filter(|stream| stream.group(name).is_some());
    let Some(stream) = stream else {
        return Err(no_group(key.bytes, name));
    };
    let mut told = Told::new(key, name);
    let Some(mut claim) = Claim::begin(stream, name, consumer, now, &mut told) else {
        return Err(no_group(key.bytes, name));
    };
    claim.idle_min_ms = idle_min_ms;
    claim.just_id = just_id;
    let (mut taken, mut gone) = (0, Vec::new());
    let mut attempts = count.saturating_mul(ATTEMPTS_PER_ENTRY);
    let mut from = Some(start);
    let next = loop {
        let next = from.and_then(|from| {
            let mut rest = stream.group(name)?.pending().range(from..);
            rest.next().map(|(id, pending)| (*id, *pending))
        });
        let Some((id, pending)) = next else {
            break StreamId::MIN;
        };
        if attempts == 0 || taken + gone.len() == count {
            break id;
        }
        attempts -= 1;
        from = id.next();
        if !stream.contains(id) {
            stream.change_group(name, |group| group.acknowledge(id));
            gone.push(id);
        } else if claim.is_idle(&pending) {
            claim.take(stream, id, pending.deliveries, &mut reply, &mut told);
            taken += 1;
        }
    };
    told.acknowledged(&gone);
    told.tell(cx);
    cx.reply.array(3);
    write_id(&mut cx.reply, next);
    cx.reply.array(taken);
    cx.reply.raw(&encoded);
    cx.reply.array(gone.len());
    for id in gone {
        write_id(&mut cx.reply, id);
    }
    Ok(())
}
