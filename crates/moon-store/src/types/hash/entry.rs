//! An entry of the large form of a hash, in one piece:
//!
//! ```text
//! length of the field × 2, + 1 with a deadline │ deadline, 8 bytes, if any │ field │ value
//! ```
//!
//! The number stands in base 128, lowest digit first, all digits but the last with the top bit
//! set: one byte for fields of up to 63 bytes.

use super::Field;
use crate::db::Deadline;
use crate::types::dict;
use moon_core::UnixMs;

const DEADLINE_BYTES: usize = 8;

/// What the large form holds.
#[derive(Clone, Debug)]
pub(super) struct FieldEntry;

impl dict::Entry for FieldEntry {
    #[inline]
    fn name(entry: &[u8]) -> &[u8] {
        split(entry).name
    }
}

/// A field as an entry.
pub(super) fn join(field: Field<'_>) -> Box<[u8]> {
    let mut digits = [0_u8; 10];
    let mut used = 0;
    let mut rest = field.name.len() << 1 | usize::from(field.deadline.is_some());
    loop {
        let digit = u8::try_from(rest & 0x7F).expect("seven bits");
        rest >>= 7;
        digits[used] = if rest == 0 { digit } else { digit | 0x80 };
        used += 1;
        if rest == 0 {
            break;
        }
    }
    let mut entry =
        Vec::with_capacity(used + DEADLINE_BYTES + field.name.len() + field.value.len());
    entry.extend_from_slice(&digits[..used]);
    if let Some(at) = field.deadline {
        entry.extend_from_slice(&at.0.to_le_bytes());
    }
    entry.extend_from_slice(field.name);
    entry.extend_from_slice(field.value);
    entry.into_boxed_slice()
}

/// An entry as a field.
#[inline]
pub(super) fn split(entry: &[u8]) -> Field<'_> {
    let (mut number, mut used) = (0, 0);
    loop {
        let digit = entry[used];
        number |= usize::from(digit & 0x7F) << (7 * used);
        used += 1;
        if digit & 0x80 == 0 {
            break;
        }
    }
    let mut rest = &entry[used..];
    let mut deadline: Deadline = None;
    if number & 1 != 0
        && let Some((at, behind)) = rest.split_first_chunk::<DEADLINE_BYTES>()
    {
        deadline = Some(UnixMs(i64::from_le_bytes(*at)));
        rest = behind;
    }
    let (name, value) = rest.split_at(number >> 1);
    Field {
        name,
        value,
        deadline,
    }
}
