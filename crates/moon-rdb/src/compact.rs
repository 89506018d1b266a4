//! Listpacks, ziplists and intsets: small collections that Redis keeps, and saves, in one string.
//!
//! Read only here; [`crate::listpack`] also makes them. Each is walked once from its front; every
//! length is checked against the bytes that are there, and the counts and sizes in the headers must
//! agree with what was walked.

use crate::elements::Elements;
use crate::error::RdbFault;
use crate::listpack::{self, Element};

/// The element count of a header that did not fit its 16 bits.
const COUNT_UNKNOWN: u16 = u16::MAX;

/// The last byte of a ziplist.
const END: u8 = 0xff;

const LISTPACK: RdbFault = RdbFault::BadCompact("listpack");
const ZIPLIST: RdbFault = RdbFault::BadCompact("ziplist");
const INTSET: RdbFault = RdbFault::BadCompact("intset");

/// Appends the elements of a listpack, integers spelled out. After an error `out` is not to be
/// used; so with the others.
pub(crate) fn listpack(bytes: &[u8], out: &mut Elements) -> Result<(), RdbFault> {
    match listpack::walk(bytes, |element| push(element, out)) {
        true => Ok(()),
        false => Err(LISTPACK),
    }
}

/// Appends the elements of a ziplist, integers spelled out.
pub(crate) fn ziplist(bytes: &[u8], out: &mut Elements) -> Result<(), RdbFault> {
    walk_ziplist(bytes, out).ok_or(ZIPLIST)
}

/// Appends the members of an intset, spelled out.
pub(crate) fn intset(bytes: &[u8], out: &mut Elements) -> Result<(), RdbFault> {
    walk_intset(bytes, out).ok_or(INTSET)
}

/// Bytes not read yet.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn byte(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// A little-endian integer of 1 to 8 bytes, its sign extended.
    fn int(&mut self, len: usize) -> Option<i64> {
        let taken = self.take(len)?;
        let negative = taken.last().is_some_and(|top| top & 0x80 != 0);
        let mut bytes = [if negative { 0xff } else { 0 }; 8];
        bytes[..len].copy_from_slice(taken);
        Some(i64::from_le_bytes(bytes))
    }
}

fn push(element: Element<'_>, out: &mut Elements) {
    match element {
        Element::Bytes(bytes) => out.push(bytes),
        Element::Int(number) => out.push_int(number),
    }
}

fn as_len(number: u32) -> Option<usize> {
    usize::try_from(number).ok()
}

fn count_agrees(stored: u16, found: usize) -> bool {
    stored == COUNT_UNKNOWN || usize::from(stored) == found
}

fn walk_ziplist(bytes: &[u8], out: &mut Elements) -> Option<()> {
    let mut cursor = Cursor(bytes);
    let total = as_len(u32::from_le_bytes(cursor.array()?))?;
    let _tail_offset: [u8; 4] = cursor.array()?;
    let count = u16::from_le_bytes(cursor.array()?);
    if total != bytes.len() {
        return None;
    }
    let before_all = out.len();
    let mut previous_len = 0;
    loop {
        let before = cursor.0.len();
        let stored_previous = match cursor.byte()? {
            END => break,
            0xfe => as_len(u32::from_le_bytes(cursor.array()?))?,
            short => usize::from(short),
        };
        if stored_previous != previous_len {
            return None;
        }
        push(ziplist_element(&mut cursor)?, out);
        previous_len = before - cursor.0.len();
    }
    (cursor.0.is_empty() && count_agrees(count, out.len() - before_all)).then_some(())
}

fn ziplist_element<'a>(cursor: &mut Cursor<'a>) -> Option<Element<'a>> {
    match cursor.byte()? {
        first @ 0x00..=0x3f => cursor.take(usize::from(first)).map(Element::Bytes),
        first @ 0x40..=0x7f => {
            let len = (usize::from(first & 0x3f) << 8) | usize::from(cursor.byte()?);
            cursor.take(len).map(Element::Bytes)
        }
        0x80 => {
            let len = as_len(u32::from_be_bytes(cursor.array()?))?;
            cursor.take(len).map(Element::Bytes)
        }
        0xc0 => cursor.int(2).map(Element::Int),
        0xd0 => cursor.int(4).map(Element::Int),
        0xe0 => cursor.int(8).map(Element::Int),
        0xf0 => cursor.int(3).map(Element::Int),
        0xfe => cursor.int(1).map(Element::Int),
        small @ 0xf1..=0xfd => Some(Element::Int(i64::from(small & 0x0f) - 1)),
        _ => None,
    }
}

fn walk_intset(bytes: &[u8], out: &mut Elements) -> Option<()> {
    let mut cursor = Cursor(bytes);
    let width = as_len(u32::from_le_bytes(cursor.array()?))?;
    let count = as_len(u32::from_le_bytes(cursor.array()?))?;
    if !matches!(width, 2 | 4 | 8) || count.checked_mul(width)? != cursor.0.len() {
        return None;
    }
    out.reserve(count);
    let mut previous = None;
    for _ in 0..count {
        let member = cursor.int(width)?;
        // Sorted and distinct, or look-ups would miss members.
        if previous.is_some_and(|previous| previous >= member) {
            return None;
        }
        previous = Some(member);
        out.push_int(member);
    }
    Some(())
}

#[cfg(test)]
#[path = "compact/tests.rs"]
mod tests;
