//! SCAN, one walk over all shards, one shard after the other; and what it shares with SSCAN, HSCAN
//! and ZSCAN, which walk through one collection.
//!
//! A cursor of SCAN is `position << 6 | shard`. The position is the shard's own, at most 58 bits, and 0
//! at its start; after a shard's last position comes the next shard's start, and after the last
//! shard cursor 0. So any key that is there during the whole walk is returned.

use crate::collection::{Collection, read};
use crate::context::{CommandResult, Cx, has_expired};
use crate::error::CommandError;
use crate::glob::{self, Case};
use crate::parse;
use moon_core::{ShardCount, ShardId};
use moon_resp::{Args, Protocol, Reply};
use moon_store::{Key, Kind};

const SHARD_BITS: u32 = 6;
const _: () = assert!(ShardCount::MAX == 1 << SHARD_BITS);

const INVALID_CURSOR: CommandError = CommandError::Text("ERR invalid cursor");

/// The shard that a cursor names; shard 0 for what is no cursor or names a shard that is not
/// there, because SCAN itself finds that out.
#[must_use]
pub fn cursor_shard(cursor: &[u8], count: ShardCount) -> ShardId {
    parse_cursor(cursor)
        .map(|(_, shard)| shard)
        .filter(|shard| shard.0 < count.get())
        .unwrap_or_default()
}

/// Position and shard.
fn parse_cursor(cursor: &[u8]) -> Option<(u64, ShardId)> {
    let cursor = parse_number(cursor)?;
    let shard = u16::try_from(cursor % (1 << SHARD_BITS)).ok()?;
    Some((cursor >> SHARD_BITS, ShardId(shard)))
}

/// A number as `strtoul` of C reads it, which is what Redis does with cursors: a sign is fine, a
/// minus counts down from 2^64, a zero byte ends the text, and nothing at all is 0.
fn parse_number(cursor: &[u8]) -> Option<u64> {
    let cursor = cursor.split(|byte| *byte == 0).next().unwrap_or(cursor);
    let (minus, digits) = match cursor {
        [] => return Some(0),
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    let number: u64 = str::from_utf8(digits)
        .ok()
        .filter(|_| is_number)?
        .parse()
        .ok()?;
    Some(if minus { number.wrapping_neg() } else { number })
}

/// The option that a command has besides MATCH and COUNT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OwnOption {
    /// There is none.
    None,
    /// TYPE, with the name of a type.
    Type,
    /// NOVALUES.
    NoValues,
}

struct Options<'a> {
    pattern: Option<&'a [u8]>,
    count: usize,
    kind: Option<&'a [u8]>,
    no_values: bool,
}

impl<'a> Options<'a> {
    /// The options from index `at` on.
    fn parse(args: Args<'a>, mut at: usize, own: OwnOption) -> Result<Options<'a>, CommandError> {
        let mut options = Options {
            pattern: None,
            count: 10,
            kind: None,
            no_values: false,
        };
        while let Some(name) = parse::next_option(args, &mut at) {
            if own == OwnOption::NoValues && parse::is(name, "novalues") {
                options.no_values = true;
                continue;
            }
            let value = parse::option_value(args, &mut at)?;
            if parse::is(name, "count") {
                let count = parse::integer(value)?;
                if count < 1 {
                    return Err(CommandError::Syntax);
                }
                options.count = usize::try_from(count).unwrap_or(usize::MAX);
            } else if parse::is(name, "match") {
                options.pattern = Some(value).filter(|pattern| !glob::is_everything(pattern));
            } else if own == OwnOption::Type && parse::is(name, "type") {
                options.kind = Some(value);
            } else {
                return Err(CommandError::Syntax);
            }
        }
        Ok(options)
    }

    fn matches(&self, name: &[u8]) -> bool {
        self.pattern
            .is_none_or(|pattern| glob::matches(pattern, name, Case::Sensitive))
    }

    fn is_kind(&self, kind: Kind) -> bool {
        self.kind.is_none_or(|name| parse::is(name, kind.name()))
    }
}

/// What a walk has found, encoded already: the cursor that stands before it in the reply is known
/// only afterwards.
struct Found {
    bytes: Vec<u8>,
    strings: usize,
}

impl Found {
    fn new() -> Found {
        Found {
            bytes: Vec::new(),
            strings: 0,
        }
    }

    fn push(&mut self, string: &[u8]) {
        // Strings look the same in all protocols.
        Reply::new(&mut self.bytes, Protocol::Resp2).bulk(string);
        self.strings += 1;
    }

    fn answer(&self, next: u64, reply: &mut Reply<'_>) {
        let mut text = itoa::Buffer::new();
        reply.array(2);
        reply.bulk(text.format(next).as_bytes());
        reply.array(self.strings);
        reply.raw(&self.bytes);
    }
}

/// Where [`collection_scan`] gets an element: its name, which MATCH looks at, and what is answered
/// behind it, if anything.
pub(crate) type Visit<'v> = &'v mut dyn FnMut(&[u8], Option<&[u8]>);

/// SSCAN, HSCAN and ZSCAN: a walk through the collection at a key.
///
/// `walk` visits about as many elements from a cursor on as the count says, and returns the cursor
/// to go on with. An element that is there from cursor 0 to cursor 0 must be visited; what fits in
/// one reply may be visited all at once.
pub(crate) fn collection_scan<T: Collection>(
    cx: &mut Cx<'_>,
    args: Args<'_>,
    own: OwnOption,
    walk: impl FnOnce(&T, u64, usize, Visit<'_>) -> u64,
) -> CommandResult {
    let cursor = parse_number(args.at(2)).ok_or(INVALID_CURSOR)?;
    let mut found = Found::new();
    let (collection, reply) = read::<T>(cx, Key::new(args.at(1)))?;
    let next = match collection {
        // The options are not even looked at, as in Redis.
        None => 0,
        Some(collection) => {
            let options = Options::parse(args, 3, own)?;
            walk(collection, cursor, options.count, &mut |name, value| {
                if options.matches(name) {
                    found.push(name);
                    if let Some(value) = value.filter(|_| !options.no_values) {
                        found.push(value);
                    }
                }
            })
        }
    };
    found.answer(next, reply);
    Ok(())
}

pub(crate) fn scan(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let (position, id) = parse_cursor(args.at(1)).ok_or(INVALID_CURSOR)?;
    let options = Options::parse(args, 2, OwnOption::Type)?;
    let (db, now, count) = (cx.db, cx.now, cx.shard_count);
    let mut found = Found::new();
    let next = match cx.shards.get(id) {
        // A cursor that was never handed out ends the walk, as in Redis. That of a shard which
        // is there but not in hand must not: keys would be left out unseen.
        None if id.0 < count.get() => return Err(INVALID_CURSOR),
        None => 0,
        Some(shard) => {
            cx.depends_on = cx.depends_on.max(shard.dirty.dependency_on_all());
            let next = shard
                .db(db)
                .scan(position, options.count, &mut |key, value, deadline| {
                    let live = !has_expired(value, deadline, now);
                    if live && options.is_kind(value.kind()) && options.matches(key) {
                        found.push(key);
                    }
                });
            next_cursor(next, id, count)
        }
    };
    found.answer(next, &mut cx.reply);
    Ok(())
}

fn next_cursor(position: u64, shard: ShardId, count: ShardCount) -> u64 {
    debug_assert!(position >> (64 - SHARD_BITS) == 0, "a position has 58 bits");
    match (position, shard.0 + 1) {
        (0, next) if next < count.get() => u64::from(next),
        (0, _) => 0,
        (position, _) => position << SHARD_BITS | u64::from(shard.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_walk_goes_from_shard_to_shard_and_ends_at_0() {
        let count = ShardCount::new(3).expect("a valid count");
        assert_eq!(next_cursor(5, ShardId(1), count), 5 << 6 | 1);
        assert_eq!(next_cursor(0, ShardId(1), count), 2);
        assert_eq!(next_cursor(0, ShardId(2), count), 0);
        assert_eq!(cursor_shard(b"321", count), ShardId(1));
        assert_eq!(parse_cursor(b"321"), Some((5, ShardId(1))));
        assert_eq!(cursor_shard(b"63", count), ShardId(0));
    }

    #[test]
    fn what_is_no_cursor_is_refused() {
        let texts: [&[u8]; 8] = [
            b"-",
            b"+",
            b"+-1",
            b" 1",
            b"1 ",
            b"1.5",
            b"abc",
            b"18446744073709551616",
        ];
        for text in texts {
            assert_eq!(parse_cursor(text), None);
        }
        assert_eq!(parse_number(b""), Some(0));
        assert_eq!(parse_number(b"+7"), Some(7));
        assert_eq!(parse_number(b"-1"), Some(u64::MAX));
    }
}
