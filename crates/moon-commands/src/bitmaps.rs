//! Commands on the bits of strings.
//!
//! Bit 0 is the highest bit of the first byte. Behind the end of a string, and in a missing one,
//! all bits are 0.
//!
//! * [`bits`]: counting, finding, reading and writing bits of a slice.
//! * [`single`]: SETBIT, GETBIT, BITCOUNT, BITPOS.
//! * [`combine`]: BITOP, which combines several strings.
//! * [`field`]: BITFIELD, BITFIELD_RO.

pub mod bits;
mod combine;
mod field;
mod single;

use crate::context::{Cx, Origin};
use crate::error::CommandError;
use crate::parse::canonical_integer;
use crate::spec::{FIRST_KEY, Keys, commands};
use moon_store::{Key, STRING_LEN_MAX, Str, Value};

const DESTINATION_SOURCES: Keys = Keys::Range {
    first: 2,
    last: -1,
    step: 1,
};

commands! { "bitmap":
    "setbit" 4 [WRITE DENYOOM] FIRST_KEY, Keys, single::setbit,
        "write bitmap slow", "2.2.0", "O(1)",
        "Sets or clears the bit at an offset of a string, which is made long enough.";
    "getbit" 3 [READONLY FAST] FIRST_KEY, Keys, single::getbit,
        "read bitmap fast", "2.2.0", "O(1)", "Answers the bit at an offset of a string.";
    "bitcount" -2 [READONLY] FIRST_KEY, Keys, single::bitcount,
        "read bitmap slow", "2.6.0", "O(N) for N bytes.",
        "Counts the bits that are set in a string or a part of it.";
    "bitpos" -3 [READONLY] FIRST_KEY, Keys, single::bitpos,
        "read bitmap slow", "2.8.7", "O(N) for N bytes.",
        "Finds the first bit that is set, or clear, in a string or a part of it.";
    "bitop" -4 [WRITE DENYOOM] DESTINATION_SOURCES, Keys, combine::bitop,
        "write bitmap slow", "2.6.0", "O(N) for N bytes of all strings together.",
        "Combines strings bit by bit and stores the result.";
    "bitfield" -2 [WRITE DENYOOM] FIRST_KEY, Keys, field::bitfield,
        "write bitmap slow", "3.2.0", "O(1) for each integer.",
        "Reads, sets and increments integers of any width inside a string.";
    "bitfield_ro" -2 [READONLY FAST] FIRST_KEY, Keys, field::bitfield_ro,
        "read bitmap fast", "6.0.0", "O(1) for each integer.",
        "Reads integers of any width inside a string.";
}

/// Longest field of BITFIELD, in bytes: one of 64 bits that begins at the last bit of a byte.
const FIELD_BYTES_MAX: usize = 9;

/// The offset of a bit. With a `width`, `#n` is the offset of the `n`-th field of so many bits.
fn offset(cx: &Cx<'_>, arg: &[u8], width: Option<usize>) -> Result<usize, CommandError> {
    // The log was written under the rules of its time, so replay knows only the bound of the store.
    let bytes_max = match cx.origin {
        Origin::Client => cx.limits.max_bulk_len.min(STRING_LEN_MAX - FIELD_BYTES_MAX),
        Origin::Replay => STRING_LEN_MAX - FIELD_BYTES_MAX,
    };
    let offset = match (arg, width) {
        ([b'#', nth @ ..], Some(width)) => canonical_integer(nth)
            .and_then(|nth| usize::try_from(nth).ok())
            .and_then(|nth| nth.checked_mul(width)),
        _ => canonical_integer(arg).and_then(|offset| usize::try_from(offset).ok()),
    };
    offset
        .filter(|offset| offset / 8 < bytes_max)
        .ok_or(CommandError::Text(
            "ERR bit offset is not an integer or out of range",
        ))
}

/// The string at `key`, to change it, made at least `len` bytes long, and whether that changed it
/// already: it was shorter or missing.
fn grown<'c>(
    cx: &'c mut Cx<'_>,
    key: Key<'_>,
    len: usize,
) -> Result<(&'c mut Str, bool), CommandError> {
    let old_len = match cx.write(key) {
        Some((value, _)) => value.str_len().ok_or(CommandError::WrongType)?,
        None => {
            cx.store(key, Value::string_raw(b""), None);
            0
        }
    };
    let string = cx.write(key).and_then(|(value, _)| value.to_mut_str());
    let string = string.expect("it is a string, or was stored as one");
    if old_len < len {
        string.set_range(len - 1, b"\0");
    }
    Ok((string, old_len < len))
}

#[cfg(test)]
mod tests;
