//! The hash at a key. Every command on hashes gets it here, so that the rule about fields past
//! their deadline is in one place:
//!
//! * A read does not see them, from the moment of the deadline on.
//! * A write finds them removed, with an HDEL in the effects before anything it adds; what a read
//!   came across is removed when it is done. At most [`EXPIRED_MAX`] are removed on the way, and
//!   always those that the command names; the rest is for the expiry cycle.
//! * A hash with nothing else left is a key past its deadline ([`Cx::live`]).
//!
//! In replay nothing is past its deadline, because the log says what was removed.

use crate::collection::{self, Collection};
use crate::context::{Cx, FoundLive};
use crate::error::CommandError;
use crate::notify::Class;
use moon_resp::Reply;
use moon_store::{Change, DbIndex, Hash, Key, LiveFields, PackLimits, Value};

/// Fields past their deadline that one command removes besides those it names.
const EXPIRED_MAX: usize = 128;

pub(super) fn pack_limits(cx: &Cx<'_>) -> PackLimits {
    PackLimits {
        entries: cx.limits.hash_max_listpack_entries,
        value_bytes: cx.limits.hash_max_listpack_value,
    }
}

/// The fields of the hash at `key` for a command that only reads, and the reply to write them to.
pub(crate) fn read<'c, 'a>(
    cx: &'c mut Cx<'a>,
    key: Key<'_>,
) -> Result<(Option<LiveFields<'c>>, &'c mut Reply<'a>), CommandError> {
    let now = cx.now;
    let (hash, reply) = collection::read::<Hash>(cx, key)?;
    Ok((hash.map(|hash| hash.at(now)), reply))
}

/// The hash at `key` for a command that may change the fields `named`. None of these is past its
/// deadline; others may be, if there are many.
pub(super) fn write<'c, 'f>(
    cx: &'c mut Cx<'_>,
    key: Key<'_>,
    named: impl Iterator<Item = &'f [u8]>,
) -> Result<Option<&'c mut Hash>, CommandError> {
    let db = cx.db;
    let Some(FoundLive {
        has_expired_fields, ..
    }) = cx.find_live(db, key)
    else {
        return Ok(None);
    };
    if has_expired_fields {
        remove_expired(cx, db, key, named);
    }
    match cx.found_mut(db, key) {
        None => Ok(None),
        Some(value) => Hash::of_mut(value).map(Some).ok_or(CommandError::WrongType),
    }
}

/// The hash at `key`, which is created if there is none, is changed. Call [`Cx::changed`] or a
/// variant afterwards.
pub(super) fn update<'f, R>(
    cx: &mut Cx<'_>,
    key: Key<'_>,
    named: impl Iterator<Item = &'f [u8]>,
    change: impl FnOnce(&mut Hash) -> Result<R, CommandError>,
) -> Result<R, CommandError> {
    let now = cx.now;
    let done = cx.update(key, |found, _| match found {
        Some(value) if value.next_field_deadline().is_some_and(|at| at <= now) => {
            (Change::Keep, Err(change))
        }
        Some(value) => match Hash::of_mut(value) {
            Some(hash) => (Change::Keep, Ok(change(hash))),
            None => (Change::Keep, Ok(Err(CommandError::WrongType))),
        },
        None => {
            let mut hash = Hash::default();
            match change(&mut hash) {
                Ok(result) => (Change::Store(Value::Hash(hash), None), Ok(Ok(result))),
                Err(error) => (Change::Keep, Ok(Err(error))),
            }
        }
    });
    match done {
        Ok(result) => result,
        // Not all of its fields are past their deadlines, so there is a hash.
        Err(change) => match write(cx, key, named)? {
            Some(hash) => change(hash),
            None => Err(CommandError::WrongType),
        },
    }
}

/// Removes the key if its hash has no fields left.
pub(super) fn remove_if_empty(cx: &mut Cx<'_>, key: Key<'_>) {
    let db = cx.db;
    if let Some(Value::Hash(hash)) = cx.peek(db, key)
        && hash.is_empty()
    {
        cx.remove(key);
    }
}

/// Removes fields past their deadline from a hash that is not as a whole, and tells the effect.
#[cold]
pub(crate) fn remove_expired<'f>(
    cx: &mut Cx<'_>,
    db: DbIndex,
    key: Key<'_>,
    named: impl Iterator<Item = &'f [u8]>,
) {
    let now = cx.now;
    let Some(Value::Hash(hash)) = cx.found_mut(db, key) else {
        return;
    };
    let mut gone: Vec<Box<[u8]>> = hash
        .expired_fields(now)
        .take(EXPIRED_MAX)
        .map(Box::from)
        .collect();
    for name in &gone {
        hash.remove(name);
    }
    if hash.has_expired_fields(now) {
        for name in named {
            if hash.field(name).is_some_and(|field| field.has_expired(now)) {
                hash.remove(name);
                gone.push(name.into());
            }
        }
    }
    if gone.is_empty() {
        return;
    }
    cx.counts.expired_fields += gone.len() as u64;
    cx.mark(db, key);
    let mut effect: Vec<&[u8]> = vec![b"HDEL", key.bytes];
    effect.extend(gone.iter().map(|name| &**name));
    cx.effects.push(db, &effect);
    cx.notify_in(Class::HASH, "hexpired", db, key);
}
