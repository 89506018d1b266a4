//! Values and deadlines of fields in one step: HGETDEL, HGETEX, HSETEX.

use super::access::{pack_limits, update, write};
use super::deadline::{
    NOT_POSITIVE, deadline_cleared, deadline_set, field_deadline, named_fields, removed,
};
use super::fields::{names_of_pairs, value_or_null};
use crate::context::{CommandResult, Cx};
use crate::error::CommandError;
use crate::notify::Class;
use crate::parse::{self, Basis, Unit, wrong_arity};
use moon_core::UnixMs;
use moon_resp::Args;
use moon_store::{Hash, Key};

/// The values of fields, for a reply that is written when the hash is changed.
fn values_of<'a>(
    hash: Option<&Hash>,
    names: impl Iterator<Item = &'a [u8]>,
) -> Vec<Option<Vec<u8>>> {
    names
        .map(|name| hash.and_then(|hash| hash.get(name)).map(<[u8]>::to_vec))
        .collect()
}

fn answer_values(cx: &mut Cx<'_>, values: &[Option<Vec<u8>>]) {
    cx.reply.array(values.len());
    for value in values {
        value_or_null(&mut cx.reply, value.as_deref());
    }
}

pub(super) fn hgetdel(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let key = Key::new(args.at(1));
    write(cx, key, std::iter::empty())?;
    let names = named_fields(args, 2, NOT_POSITIVE)?;
    let mut hash = write(cx, key, names.iter())?;
    let mut gone = Vec::new();
    let mut values = Vec::with_capacity(names.len());
    for name in names.iter() {
        values.extend(values_of(hash.as_deref(), std::iter::once(name)));
        if let Some(hash) = &mut hash
            && hash.remove(name)
        {
            gone.push(name);
        }
    }
    removed(cx, key, &gone);
    answer_values(cx, &values);
    Ok(())
}

/// What HGETEX and HSETEX do with deadlines.
#[derive(Clone, Copy)]
enum Expiry {
    /// HGETEX leaves them as they are; HSETEX clears them.
    Plain,
    /// EX, PX, EXAT, PXAT.
    At(UnixMs),
    /// PERSIST of HGETEX.
    Persist,
    /// KEEPTTL of HSETEX.
    Keep,
}

fn time_option(word: &[u8]) -> Option<(Unit, Basis)> {
    [
        ("ex", Unit::Seconds, Basis::Now),
        ("px", Unit::Milliseconds, Basis::Now),
        ("exat", Unit::Seconds, Basis::Epoch),
        ("pxat", Unit::Milliseconds, Basis::Epoch),
    ]
    .into_iter()
    .find(|(option, _, _)| parse::is(word, option))
    .map(|(_, unit, basis)| (unit, basis))
}

pub(super) fn hgetex(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let key = Key::new(args.at(1));
    write(cx, key, std::iter::empty())?;
    let (expiry, fields_at) = match time_option(args.at(2)) {
        Some((unit, basis)) => {
            let at = field_deadline(args.at(3), unit, basis, cx.now, "hgetex")?;
            (Expiry::At(at), 4)
        }
        None if parse::is(args.at(2), "persist") => (Expiry::Persist, 3),
        None => (Expiry::Plain, 2),
    };
    let names = named_fields(args, fields_at, NOT_POSITIVE)?;
    let now = cx.now;
    let Some(hash) = write(cx, key, names.iter())? else {
        answer_values(cx, &vec![None; names.len()]);
        return Ok(());
    };
    let mut values = Vec::with_capacity(names.len());
    let (mut set, mut cleared, mut gone) = (Vec::new(), Vec::new(), Vec::new());
    for name in names.iter() {
        let field = hash.field(name);
        values.push(field.map(|field| field.value.to_vec()));
        let Some(old) = field.map(|field| field.deadline) else {
            continue;
        };
        match expiry {
            Expiry::At(at) if at <= now => {
                hash.remove(name);
                gone.push(name);
            }
            Expiry::At(at) => {
                hash.set_deadline(name, Some(at));
                set.push(name);
            }
            Expiry::Persist if old.is_some() => {
                hash.set_deadline(name, None);
                cleared.push(name);
            }
            Expiry::Persist | Expiry::Plain | Expiry::Keep => {}
        }
    }
    removed(cx, key, &gone);
    deadline_cleared(cx, key, &cleared);
    if let Expiry::At(at) = expiry {
        deadline_set(cx, key, at, &set);
    }
    answer_values(cx, &values);
    Ok(())
}

/// When HSETEX sets; all fields count.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Condition {
    /// FNX: none of the fields is there.
    Missing,
    /// FXX: all of them are there.
    Present,
}

struct SetOptions<'a> {
    condition: Option<Condition>,
    expiry: Expiry,
    pairs: Args<'a>,
}

impl<'a> SetOptions<'a> {
    fn parse(args: Args<'a>, now: UnixMs) -> Result<SetOptions<'a>, CommandError> {
        const ONE_EXPIRY: CommandError = CommandError::Text(
            "ERR Only one of EX, PX, EXAT, PXAT or KEEPTTL arguments can be specified",
        );
        let (mut condition, mut expiry) = (None, Expiry::Plain);
        let mut at = 2;
        while let Some(word) = parse::next_option(args, &mut at) {
            if parse::is(word, "fields") {
                let pairs = pairs(args, at)?;
                return Ok(SetOptions {
                    condition,
                    expiry,
                    pairs,
                });
            }
            let is_first = matches!(expiry, Expiry::Plain);
            if let Some((unit, basis)) = time_option(word) {
                if !is_first {
                    return Err(ONE_EXPIRY);
                }
                let time = parse::next_option(args, &mut at)
                    .ok_or(CommandError::Text("ERR missing expire time"))?;
                expiry = Expiry::At(field_deadline(time, unit, basis, now, "hsetex")?);
            } else if parse::is(word, "keepttl") {
                if !is_first {
                    return Err(ONE_EXPIRY);
                }
                expiry = Expiry::Keep;
            } else if parse::is(word, "fxx") || parse::is(word, "fnx") {
                if condition.is_some() {
                    return Err(CommandError::Text(
                        "ERR Only one of FXX or FNX arguments can be specified",
                    ));
                }
                condition = Some(match parse::is(word, "fxx") {
                    true => Condition::Present,
                    false => Condition::Missing,
                });
            } else {
                return Err(parse::detailed(format!(
                    "ERR unknown argument: {}",
                    String::from_utf8_lossy(word)
                )));
            }
        }
        Err(wrong_arity("hsetex"))
    }
}

/// The pairs behind their number, which stands at `at`.
fn pairs(args: Args<'_>, at: usize) -> Result<Args<'_>, CommandError> {
    if args.len() < at + 3 {
        return Err(wrong_arity("hsetex"));
    }
    let number = parse::canonical_integer(args.at(at))
        .filter(|number| (1..=i64::from(i32::MAX)).contains(number))
        .ok_or(CommandError::Text("ERR invalid number of fields"))?;
    let pairs = args.from(at + 1);
    if pairs.len().is_multiple_of(2) && usize::try_from(number) == Ok(pairs.len() / 2) {
        return Ok(pairs);
    }
    Err(wrong_arity("hsetex"))
}

/// The effect is HSET, followed by HPEXPIREAT for a deadline; `HSETEX key KEEPTTL ...` where
/// deadlines are kept.
pub(super) fn hsetex(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let options = SetOptions::parse(args, cx.now)?;
    let key = Key::new(args.at(1));
    let names = || names_of_pairs(options.pairs);
    let hash = write(cx, key, names())?;
    let is_there = |name: &[u8]| hash.as_deref().is_some_and(|hash| hash.contains(name));
    let allowed = match options.condition {
        None => true,
        Some(Condition::Missing) => !names().any(is_there),
        Some(Condition::Present) => names().all(is_there),
    };
    if allowed {
        set_pairs(cx, key, &options)?;
    }
    cx.reply.flag(allowed);
    Ok(())
}

fn set_pairs(cx: &mut Cx<'_>, key: Key<'_>, options: &SetOptions<'_>) -> CommandResult {
    let names = || names_of_pairs(options.pairs);
    if let Expiry::At(at) = options.expiry
        && at <= cx.now
    {
        // Set and past at once: what is left to do is to remove what was there.
        let hash = write(cx, key, names())?;
        let gone: Vec<&[u8]> = match hash {
            Some(hash) => names().filter(|name| hash.remove(name)).collect(),
            None => Vec::new(),
        };
        removed(cx, key, &gone);
        return Ok(());
    }
    let limits = pack_limits(cx);
    let pairs = options.pairs;
    update(cx, key, names(), |hash| {
        for at in (0..pairs.len()).step_by(2) {
            let (name, value) = (pairs.at(at), pairs.at(at + 1));
            match options.expiry {
                Expiry::Keep => hash.set_keeping_deadline(name, value, limits),
                _ => hash.set(name, value, limits),
            };
            if let Expiry::At(deadline) = options.expiry {
                hash.set_deadline(name, Some(deadline));
            }
        }
        Ok(())
    })?;
    let mut effect: Vec<&[u8]> = vec![b"HSET", key.bytes];
    let mut digits = itoa::Buffer::new();
    if let Expiry::Keep = options.expiry {
        effect[0] = b"HSETEX";
        effect.extend([
            &b"KEEPTTL"[..],
            b"FIELDS",
            digits.format(pairs.len() / 2).as_bytes(),
        ]);
    }
    effect.extend(pairs.iter());
    cx.changed(&[key], &effect);
    cx.notify(Class::HASH, "hset", key);
    if let Expiry::At(at) = options.expiry {
        deadline_set(cx, key, at, &names().collect::<Vec<_>>());
    }
    Ok(())
}
