//! BITFIELD and BITFIELD_RO: integers of 1 to 64 bits anywhere inside a string.

use super::{bits, grown, offset};
use crate::context::{CommandResult, Cx};
use crate::error::CommandError;
use crate::notify::Class;
use crate::parse::{canonical_integer, integer, is, next_option};
use moon_resp::Args;
use moon_store::{IntText, Key, Str};

/// The type of an integer in a string: `i1` to `i64`, `u1` to `u63`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Type {
    signed: bool,
    width: usize,
}

/// What happens when a number does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Overflow {
    /// Its lowest bits are stored.
    Wrap,
    /// The nearest number that fits is stored.
    Saturate,
    /// Nothing is stored, and the reply is nil.
    Fail,
}

#[derive(Clone, Copy, Debug)]
enum Change {
    Set(i64),
    Increment(i64),
}

/// One of the operations of a request, in order.
#[derive(Clone, Copy, Debug)]
struct Operation {
    ty: Type,
    at: usize,
    /// `None` only reads.
    change: Option<Change>,
    overflow: Overflow,
}

impl Type {
    fn parse(arg: &[u8]) -> Result<Type, CommandError> {
        let (signed, width) = match arg {
            [b'i', width @ ..] => (true, width),
            [b'u', width @ ..] => (false, width),
            _ => return Err(INVALID_TYPE),
        };
        let width_max = if signed { 64 } else { 63 };
        canonical_integer(width)
            .and_then(|width| usize::try_from(width).ok())
            .filter(|width| (1..=width_max).contains(width))
            .map(|width| Type { signed, width })
            .ok_or(INVALID_TYPE)
    }

    fn min(self) -> i128 {
        if self.signed {
            -(1 << (self.width - 1))
        } else {
            0
        }
    }

    fn max(self) -> i128 {
        (1 << (self.width - usize::from(self.signed))) - 1
    }

    /// The number that a field's bits mean.
    fn number(self, field: u64) -> i64 {
        let unused = 64 - self.width;
        let to_the_top = field << unused;
        if self.signed {
            to_the_top.cast_signed() >> unused
        } else {
            (to_the_top >> unused).cast_signed()
        }
    }

    /// The bits to store for a number that may not fit; `None` to store nothing.
    fn fit(self, number: i128, overflow: Overflow) -> Option<u64> {
        let fits = (self.min()..=self.max()).contains(&number);
        let stored = match overflow {
            Overflow::Fail if !fits => return None,
            Overflow::Saturate => number.clamp(self.min(), self.max()),
            // Only the lowest bits are stored.
            Overflow::Wrap | Overflow::Fail => number,
        };
        Some(stored as u64)
    }
}

const INVALID_TYPE: CommandError = CommandError::Text(
    "ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 \
     is.",
);

fn parse(cx: &Cx<'_>, args: Args<'_>) -> Result<Vec<Operation>, CommandError> {
    let mut operations = Vec::new();
    let mut overflow = Overflow::Wrap;
    let mut at = 2;
    while let Some(name) = next_option(args, &mut at) {
        let left = args.len() - at;
        let changes = is(name, "set") || is(name, "incrby");
        if is(name, "overflow") && left >= 1 {
            overflow = match args.at(at) {
                how if is(how, "wrap") => Overflow::Wrap,
                how if is(how, "sat") => Overflow::Saturate,
                how if is(how, "fail") => Overflow::Fail,
                _ => return Err(CommandError::Text("ERR Invalid OVERFLOW type specified")),
            };
            at += 1;
            continue;
        }
        if !(changes && left >= 3 || is(name, "get") && left >= 2) {
            return Err(CommandError::Syntax);
        }
        let ty = Type::parse(args.at(at))?;
        let offset = offset(cx, args.at(at + 1), Some(ty.width))?;
        at += 2;
        let mut change = None;
        if changes {
            let number = integer(args.at(at))?;
            at += 1;
            change = Some(match is(name, "set") {
                true => Change::Set(number),
                false => Change::Increment(number),
            });
        }
        operations.push(Operation {
            ty,
            at: offset,
            change,
            overflow,
        });
    }
    Ok(operations)
}

pub(super) fn bitfield(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let operations = parse(cx, args)?;
    let ends = operations
        .iter()
        .filter(|operation| operation.change.is_some())
        .map(|operation| (operation.at + operation.ty.width).div_ceil(8));
    let Some(len) = ends.max() else {
        return read_fields(cx, args, &operations);
    };
    let key = Key::new(args.at(1));
    let (string, has_grown) = grown(cx, key, len)?;
    let (mut has_changed, mut has_stored) = (false, false);
    let mut answers = Vec::with_capacity(operations.len());
    for operation in &operations {
        let answer = apply(string, operation, &mut has_changed);
        has_stored |= operation.change.is_some() && answer.is_some();
        answers.push(answer);
    }
    if has_grown || has_changed {
        cx.changed_as_sent(&[key], args);
    }
    if has_changed || (has_grown && has_stored) {
        cx.notify(Class::STRING, "setbit", key);
    }
    cx.reply.array(answers.len());
    for answer in answers {
        match answer {
            Some(number) => cx.reply.integer(number),
            None => cx.reply.null(),
        }
    }
    Ok(())
}

/// Runs one operation; the reply, `None` for nil.
fn apply(string: &mut Str, operation: &Operation, has_changed: &mut bool) -> Option<i64> {
    let Operation { ty, at, .. } = *operation;
    let old = bits::read_field(string, at, ty.width);
    let Some(change) = operation.change else {
        return Some(ty.number(old));
    };
    let wanted = match change {
        // So far below the least number that the distance to the greatest one has no 64 bits, Redis
        // takes a number for one that is too great.
        Change::Set(number)
            if ty.signed
                && ty.width < 64
                && operation.overflow == Overflow::Saturate
                && i64::try_from(ty.max() - i128::from(number)).is_err() =>
        {
            ty.max()
        }
        Change::Set(number) if ty.signed => i128::from(number),
        // A negative number is one beyond the largest: Redis reads it as 64 bits without a sign.
        Change::Set(number) => i128::from(number.cast_unsigned()),
        Change::Increment(by) => i128::from(ty.number(old)) + i128::from(by),
    };
    let new = ty.fit(wanted, operation.overflow)?;
    bits::write_field(string.as_mut_bytes(), at, ty.width, new);
    let stored = bits::read_field(string, at, ty.width);
    *has_changed |= stored != old;
    Some(match change {
        Change::Set(_) => ty.number(old),
        Change::Increment(_) => ty.number(stored),
    })
}

pub(super) fn bitfield_ro(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let operations = parse(cx, args)?;
    if operations
        .iter()
        .any(|operation| operation.change.is_some())
    {
        return Err(CommandError::Text(
            "ERR BITFIELD_RO only supports the GET subcommand",
        ));
    }
    read_fields(cx, args, &operations)
}

/// Answers operations that only read.
fn read_fields(cx: &mut Cx<'_>, args: Args<'_>, operations: &[Operation]) -> CommandResult {
    let (found, reply) = cx.read_with_reply(Key::new(args.at(1)));
    let mut digits = IntText::new();
    let bytes = match found {
        None => b"".as_slice(),
        Some((value, _)) => value.as_bytes(&mut digits).ok_or(CommandError::WrongType)?,
    };
    reply.array(operations.len());
    for Operation { ty, at, .. } in operations {
        reply.integer(ty.number(bits::read_field(bytes, *at, ty.width)));
    }
    Ok(())
}
