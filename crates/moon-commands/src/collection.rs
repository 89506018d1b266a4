//! What commands on hashes, lists, sets and sorted sets share: the type check, and that no empty one is kept.

use crate::context::Cx;
use crate::error::CommandError;
use moon_resp::{Args, Reply};
use moon_store::{Change, Hash, Key, List, Set, Stream, Value, ZSet};
use rand::RngExt as _;
use rand::rngs::SmallRng;
use std::collections::HashSet;
use std::hash::Hash as Hashable;

/// A type of value that holds several things.
pub(crate) trait Collection: Sized {
    /// The value as this type, if it is.
    fn of(value: &Value) -> Option<&Self>;
    /// As [`Collection::of`], to change it.
    fn of_mut(value: &mut Value) -> Option<&mut Self>;
    /// Whether it holds nothing, so that its key must go.
    fn is_empty(&self) -> bool;
}

macro_rules! collection {
    ($type:ident) => {
        impl Collection for $type {
            fn of(value: &Value) -> Option<&Self> {
                match value {
                    Value::$type(it) => Some(it),
                    _ => None,
                }
            }

            fn of_mut(value: &mut Value) -> Option<&mut Self> {
                match value {
                    Value::$type(it) => Some(it),
                    _ => None,
                }
            }

            fn is_empty(&self) -> bool {
                $type::is_empty(self)
            }
        }
    };
}

collection!(Hash);
collection!(List);
collection!(Set);
collection!(ZSet);

/// A stream stays when its last entry goes: its ids go on, and its groups have a place in it.
impl Collection for Stream {
    fn of(value: &Value) -> Option<&Self> {
        match value {
            Value::Stream(stream) => Some(stream),
            _ => None,
        }
    }

    fn of_mut(value: &mut Value) -> Option<&mut Self> {
        match value {
            Value::Stream(stream) => Some(stream),
            _ => None,
        }
    }

    fn is_empty(&self) -> bool {
        false
    }
}

/// The collection at `key` for a command that only reads, and the reply to write it to.
pub(crate) fn read<'c, 'a, T: Collection>(
    cx: &'c mut Cx<'a>,
    key: Key<'_>,
) -> Result<(Option<&'c T>, &'c mut Reply<'a>), CommandError> {
    let (found, reply) = cx.read_with_reply(key);
    match found {
        None => Ok((None, reply)),
        Some((value, _)) => match T::of(value) {
            Some(collection) => Ok((Some(collection), reply)),
            None => Err(CommandError::WrongType),
        },
    }
}

/// The collection at `key` for a command that may change it.
pub(crate) fn write<'c, T: Collection>(
    cx: &'c mut Cx<'_>,
    key: Key<'_>,
) -> Result<Option<&'c mut T>, CommandError> {
    match cx.write(key) {
        None => Ok(None),
        Some((value, _)) => T::of_mut(value).map(Some).ok_or(CommandError::WrongType),
    }
}

/// As [`write`], for a command that to those who are told of misses is a read.
pub(crate) fn write_source<'c, T: Collection>(
    cx: &'c mut Cx<'_>,
    key: Key<'_>,
) -> Result<Option<&'c mut T>, CommandError> {
    let db = cx.db;
    if !cx.is_source_there(key) {
        return Ok(None);
    }
    match cx.found_mut(db, key) {
        None => Ok(None),
        Some(value) => T::of_mut(value).map(Some).ok_or(CommandError::WrongType),
    }
}

/// Runs `fill` on the collection at `key`, or on one that `create` makes if there is no such key
/// and `wrap` makes a value of. `None` if there is none and none was made. The effect is the
/// caller's to tell.
#[inline]
pub(crate) fn grow<T: Collection, R>(
    cx: &mut Cx<'_>,
    key: Key<'_>,
    wrap: fn(T) -> Value,
    create: impl FnOnce() -> Option<T>,
    fill: impl FnOnce(&mut T) -> R,
) -> Result<Option<R>, CommandError> {
    cx.update(key, |found, _| match (found.map(T::of_mut), create) {
        (Some(Some(collection)), _) => (Change::Keep, Ok(Some(fill(collection)))),
        (Some(None), _) => (Change::Keep, Err(CommandError::WrongType)),
        (None, create) => match create() {
            None => (Change::Keep, Ok(None)),
            Some(mut collection) => {
                let result = fill(&mut collection);
                let value = wrap(collection);
                (Change::Store(value, None), Ok(Some(result)))
            }
        },
    })
}

/// Runs `remove` on the collection at `key`, and removes the key if that leaves it empty. `None`
/// if there is no such collection. The effect is the caller's to tell.
#[inline]
pub(crate) fn shrink<T: Collection, R>(
    cx: &mut Cx<'_>,
    key: Key<'_>,
    remove: impl FnOnce(&mut T) -> R,
) -> Result<Option<R>, CommandError> {
    shrink_with_reply(cx, key, |collection, _| remove(collection))
}

/// As [`shrink`]; `remove` may write the reply.
#[inline]
pub(crate) fn shrink_with_reply<'a, T: Collection, R>(
    cx: &mut Cx<'a>,
    key: Key<'_>,
    remove: impl FnOnce(&mut T, &mut Reply<'a>) -> R,
) -> Result<Option<R>, CommandError> {
    cx.update(key, |found, reply| match found.map(T::of_mut) {
        None => (Change::Keep, Ok(None)),
        Some(None) => (Change::Keep, Err(CommandError::WrongType)),
        Some(Some(collection)) => {
            let result = remove(collection, reply);
            let becomes = match collection.is_empty() {
                true => Change::Remove,
                false => Change::Keep,
            };
            (becomes, Ok(Some(result)))
        }
    })
}

/// Makes the result of a command, which has `len` elements, the value of a key, whatever that
/// held; an empty result removes the key. The effect is the command as sent, which is exact if the
/// command has looked all its sources up as a write does. Answers the length. Returns whether that
/// changed something.
pub(crate) fn store_result(
    cx: &mut Cx<'_>,
    key: Key<'_>,
    result: Value,
    len: usize,
    args: Args<'_>,
) -> bool {
    let was_there = cx.live(cx.db, key).is_some();
    if len > 0 {
        cx.store(key, result, None);
    } else if was_there {
        cx.remove(key);
    }
    if len > 0 || was_there {
        cx.changed_as_sent(&[key], args);
    }
    cx.reply.count(len);
    len > 0 || was_there
}

/// The optional count of pops, at `index`: not negative.
pub(crate) fn pop_count(args: Args<'_>, index: usize) -> Result<Option<usize>, CommandError> {
    let Some(arg) = args.get(index) else {
        return Ok(None);
    };
    crate::parse::canonical_integer(arg)
        .and_then(|count| usize::try_from(count).ok())
        .map(Some)
        .ok_or(CommandError::Text(
            "ERR value is out of range, must be positive",
        ))
}

/// `wanted` distinct ones of `all`, fewer than there are; `random` turns a random number into one
/// of them. Takes time in proportion to what is wanted, whatever the size of the collection.
pub(crate) fn distinct_picks<T: Eq + Hashable + Copy>(
    all: impl ExactSizeIterator<Item = T>,
    random: impl Fn(u64) -> Option<T>,
    wanted: usize,
    rng: &mut SmallRng,
) -> Vec<T> {
    let mut left = all.len();
    let mut picks = Vec::with_capacity(wanted);
    if wanted > left / 3 {
        // One pass: each one is taken with the chance that makes up for those before it.
        for one in all {
            if rng.random_range(0..left) < wanted - picks.len() {
                picks.push(one);
            }
            left -= 1;
        }
        return picks;
    }
    // At most a third is taken already, so that few tries are in vain.
    let mut seen = HashSet::with_capacity(wanted);
    while picks.len() < wanted {
        let Some(one) = random(rng.random()) else {
            break;
        };
        if seen.insert(one) {
            picks.push(one);
        }
    }
    picks
}

/// Arguments of one effect of [`replaced`]; even, so that pairs stay together.
const PIECE_ARGS: usize = 1024;

/// Tells that `key`, which `was_there` before or not, now holds what `name` makes of `parts`, and
/// nothing without parts. A long effect comes in pieces of one unit.
pub(crate) fn replaced<P: AsRef<[u8]>>(
    cx: &mut Cx<'_>,
    key: Key<'_>,
    was_there: bool,
    name: &[u8],
    parts: &[P],
) {
    if !was_there && parts.is_empty() {
        return;
    }
    let db = cx.db;
    cx.mark(db, key);
    if was_there {
        cx.effects.push(db, &[b"DEL", key.bytes]);
    }
    for piece in parts.chunks(PIECE_ARGS) {
        let head = [name, key.bytes];
        let parts = piece.iter().map(AsRef::as_ref);
        let effect: Vec<&[u8]> = head.into_iter().chain(parts).collect();
        cx.effects.push(db, &effect);
    }
}
