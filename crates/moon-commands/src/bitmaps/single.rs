//! Single bits and parts of one string: SETBIT, GETBIT, BITCOUNT, BITPOS.

use super::{bits, grown, offset};
use crate::context::{CommandResult, Cx};
use crate::error::CommandError;
use crate::notify::Class;
use crate::parse::{canonical_integer, integer, is};
use moon_resp::Args;
use moon_store::{IntText, Key};

pub(super) fn setbit(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let at = offset(cx, args.at(2), None)?;
    let on = match canonical_integer(args.at(3)) {
        Some(0) => false,
        Some(1) => true,
        _ => {
            return Err(CommandError::Text(
                "ERR bit is not an integer or out of range",
            ));
        }
    };
    let key = Key::new(args.at(1));
    let (string, has_grown) = grown(cx, key, at / 8 + 1)?;
    let was_on = bits::get(string, at);
    if was_on != on {
        string.as_mut_bytes()[at / 8] ^= 0x80 >> (at % 8);
    }
    if has_grown || was_on != on {
        cx.changed_as_sent(&[key], args);
        cx.notify(Class::STRING, "setbit", key);
    }
    cx.reply.count(usize::from(was_on));
    Ok(())
}

pub(super) fn getbit(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let at = offset(cx, args.at(2), None)?;
    let bit = with_bytes(cx, args.at(1), |bytes| bits::get(bytes, at))?;
    cx.reply.count(usize::from(bit == Some(true)));
    Ok(())
}

/// Shows the string at `key` to `look`; `None` if there is none.
fn with_bytes<R>(
    cx: &mut Cx<'_>,
    key: &[u8],
    look: impl FnOnce(&[u8]) -> R,
) -> Result<Option<R>, CommandError> {
    match cx.read(Key::new(key)) {
        None => Ok(None),
        Some(value) => match value.as_bytes(&mut IntText::new()) {
            Some(bytes) => Ok(Some(look(bytes))),
            None => Err(CommandError::WrongType),
        },
    }
}

/// What positions of a part count.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unit {
    Byte,
    Bit,
}

impl Unit {
    fn parse(arg: &[u8]) -> Result<Unit, CommandError> {
        if is(arg, "bit") {
            Ok(Unit::Bit)
        } else if is(arg, "byte") {
            Ok(Unit::Byte)
        } else {
            Err(CommandError::Syntax)
        }
    }

    /// The bits from `start` to `end`, both included and negative ones counted from the end, in a
    /// string of `len` bytes.
    fn part(self, start: i64, end: i64, len: usize) -> std::ops::Range<usize> {
        let bits_each = match self {
            Unit::Bit => 1,
            Unit::Byte => 8,
        };
        let units = i64::try_from(len * 8 / bits_each).unwrap_or(i64::MAX);
        let absolute = |at: i64| if at < 0 { (units + at).max(0) } else { at };
        let (start, end) = (absolute(start), absolute(end).min(units - 1));
        match (usize::try_from(start), usize::try_from(end)) {
            (Ok(start), Ok(end)) if start <= end => start * bits_each..(end + 1) * bits_each,
            _ => 0..0,
        }
    }
}

pub(super) fn bitcount(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let part = match args.len() {
        2 => None,
        4 | 5 => {
            let (start, end) = (integer(args.at(2))?, integer(args.at(3))?);
            let unit = args.get(4).map_or(Ok(Unit::Byte), Unit::parse)?;
            Some((start, end, unit))
        }
        _ => return Err(CommandError::Syntax),
    };
    let count = with_bytes(cx, args.at(1), |bytes| match part {
        None => bits::count(bytes),
        // Two positions before the start are not the same one, as they would be when cut off.
        Some((start, end, _)) if start < 0 && end < 0 && start > end => 0,
        Some((start, end, unit)) => bits::count_in(bytes, unit.part(start, end, bytes.len())),
    })?;
    cx.reply.integer(count.unwrap_or(0).cast_signed());
    Ok(())
}

pub(super) fn bitpos(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let wanted = match integer(args.at(2))? {
        0 => false,
        1 => true,
        _ => {
            return Err(CommandError::Text("ERR The bit argument must be 1 or 0."));
        }
    };
    if args.len() > 6 {
        return Err(CommandError::Syntax);
    }
    let start = args.get(3).map_or(Ok(0), integer)?;
    let unit = args.get(5).map_or(Ok(Unit::Byte), Unit::parse)?;
    let end = args.get(4).map(integer).transpose()?;
    let found = with_bytes(cx, args.at(1), |bytes| {
        let part = unit.part(start, end.unwrap_or(-1), bytes.len());
        match bits::find(bytes, wanted, part.clone()) {
            // Without an end, the string goes on in clear bits.
            None if !wanted && end.is_none() && !part.is_empty() => Some(part.end),
            found => found,
        }
    })?;
    match found {
        None if wanted => cx.reply.integer(-1),
        None => cx.reply.count(0),
        Some(None) => cx.reply.integer(-1),
        Some(Some(at)) => cx.reply.count(at),
    }
    Ok(())
}
