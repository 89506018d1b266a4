//! XTRIM, and the options on trimming that XADD shares.
//!
//! Both trim in replay to the number of entries that trimming left, exactly: then it does not matter
//! how the blocks lie. Entries that go from behind one that stays are told as XDEL, references as
//! XACK.

use super::ids;
use super::references::{Changes, References, is_referred};
use crate::collection::write;
use crate::context::{CommandResult, Cx, Origin};
use crate::error::CommandError;
use crate::notify::Class;
use crate::parse::{self, is, next_option, option_value};
use moon_resp::Args;
use moon_store::stream::{Keep, Precision};
use moon_store::{Key, Stream};

/// What the options of XADD and XTRIM say about trimming.
#[derive(Default)]
pub(super) struct Trimming {
    keep: Option<Keep>,
    references: Option<References>,
    is_approximate: bool,
    limit: Option<i64>,
}

impl Trimming {
    /// Takes the option `name`, if it is one of these.
    pub(super) fn option(
        &mut self,
        name: &[u8],
        args: Args<'_>,
        at: &mut usize,
    ) -> Result<bool, CommandError> {
        let has_value = *at < args.len();
        if has_value && (is(name, "maxlen") || is(name, "minid")) {
            if self.keep.is_some() {
                return Err(CommandError::Text(
                    "ERR syntax error, MAXLEN and MINID options at the same time are not compatible",
                ));
            }
            self.is_approximate = false;
            if *at + 1 < args.len() && matches!(args.at(*at), b"~" | b"=") {
                self.is_approximate = args.at(*at) == b"~";
                *at += 1;
            }
            let value = option_value(args, at)?;
            self.keep = Some(if is(name, "maxlen") {
                let max = parse::integer(value)?;
                Keep::Newest(
                    u64::try_from(max)
                        .map_err(|_| CommandError::Text("ERR The MAXLEN argument must be >= 0."))?,
                )
            } else {
                Keep::From(ids::strict(value, 0)?)
            });
            return Ok(true);
        }
        if has_value && is(name, "limit") {
            let limit = parse::integer(option_value(args, at)?)?;
            if limit < 0 {
                return Err(CommandError::Text("ERR The LIMIT argument must be >= 0."));
            }
            self.limit = Some(limit);
            return Ok(true);
        }
        if let Some(chosen) = References::named(name) {
            if self.references.replace(chosen).is_some() {
                return Err(CommandError::Syntax);
            }
            return Ok(true);
        }
        Ok(false)
    }

    /// Checks the options against each other.
    pub(super) fn check(&self) -> CommandResult {
        if self.keep.is_none() && self.limit.is_some_and(|limit| limit != 0) {
            return Err(CommandError::Text(
                "ERR syntax error, LIMIT cannot be used without specifying a trimming strategy",
            ));
        }
        Ok(())
    }

    /// How exactly to trim.
    pub(super) fn precision(&self, cx: &Cx<'_>) -> Result<Precision, CommandError> {
        if cx.origin == Origin::Replay {
            return Ok(match self.is_approximate {
                true => Precision::Blocks(None),
                false => Precision::Exact,
            });
        }
        match (self.is_approximate, self.limit) {
            (false, None) => Ok(Precision::Exact),
            (false, Some(_)) => Err(CommandError::Text(
                "ERR syntax error, LIMIT cannot be used without the special ~ option",
            )),
            (true, Some(limit)) => {
                let limit = u64::try_from(limit).unwrap_or(0);
                Ok(Precision::Blocks((limit > 0).then_some(limit)))
            }
            // About a hundred blocks, so that one command does not take too long.
            (true, None) => {
                let entries = cx.limits.stream_node_max_entries as u64;
                Ok(Precision::Blocks(Some(match entries.saturating_mul(100) {
                    0 => 10_000,
                    limit => limit.min(1_000_000),
                })))
            }
        }
    }

    /// Trims a stream, of which nothing goes that the options do not name.
    pub(super) fn apply(&self, stream: &mut Stream, precision: Precision) -> Trimmed {
        let Some(keep) = self.keep else {
            return Trimmed::default();
        };
        let references = match self.references {
            Some(references) if stream.groups().len() > 0 => references,
            _ => References::Keep,
        };
        let mut trimmed = Trimmed::default();
        let oldest = match references {
            References::Keep => stream.trim(keep, precision),
            References::Delete => {
                for id in stream.trimmable(keep, precision, |_| true) {
                    trimmed.changes.forget(stream, id);
                }
                stream.trim(keep, precision)
            }
            References::Respect => {
                let mut first_kept = None;
                let ids = stream.trimmable(keep, precision, |id| {
                    let stays = is_referred(stream, id);
                    if stays {
                        first_kept = first_kept.or(Some(id));
                    }
                    !stays
                });
                // Those before the first that stays are trimmed, the others leave gaps.
                let oldest = ids.partition_point(|id| first_kept.is_none_or(|first| *id < first));
                let left = (stream.len() - oldest) as u64;
                let removed = stream.trim(Keep::Newest(left), Precision::Exact);
                for id in &ids[oldest..] {
                    trimmed.changes.delete(stream, *id, References::Keep);
                    trimmed.between += 1;
                }
                removed
            }
        };
        if oldest > 0 {
            trimmed.oldest = oldest;
            trimmed.len = Some(stream.len() + trimmed.between);
        }
        trimmed
    }
}

/// What trimming did.
#[derive(Default)]
pub(super) struct Trimmed {
    /// How many of the oldest entries went.
    oldest: u64,
    /// How many entries were left then, if any went.
    pub(super) len: Option<usize>,
    /// How many went from behind one that stayed.
    between: usize,
    /// Those, and the references that went.
    pub(super) changes: Changes,
}

impl Trimmed {
    /// How many entries went.
    pub(super) fn removed(&self) -> u64 {
        self.oldest + self.between as u64
    }
}

pub(super) fn xtrim(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let mut trimming = Trimming::default();
    let mut at = 2;
    while let Some(option) = next_option(args, &mut at) {
        if !trimming.option(option, args, &mut at)? {
            return Err(CommandError::Syntax);
        }
    }
    trimming.check()?;
    if trimming.keep.is_none() {
        return Err(CommandError::Text(
            "ERR syntax error, XTRIM must be called with a trimming strategy",
        ));
    }
    let precision = trimming.precision(cx)?;
    let key = Key::new(args.at(1));
    let Some(stream) = write::<Stream>(cx, key)? else {
        cx.reply.count(0);
        return Ok(());
    };
    let trimmed = trimming.apply(stream, precision);
    let removed = trimmed.removed();
    if let Some(len) = trimmed.len {
        let mut digits = itoa::Buffer::new();
        let len = digits.format(len).as_bytes();
        cx.changed(&[key], &[b"XTRIM", key.bytes, b"MAXLEN", b"=", len]);
    }
    trimmed.changes.tell(cx, key);
    if removed > 0 {
        cx.notify(Class::STREAM, "xtrim", key);
    }
    cx.reply.integer(i64::try_from(removed).unwrap_or(i64::MAX));
    Ok(())
}
