//! The small form of a hash: fields one after the other in one buffer.
//!
//! ```text
//! lengths │ name length, if not among them │ value length, if not │ name │ value │ deadline
//! ```
//!
//! The first byte has four bits for the length of the name and four for that of the value: 0 to 13
//! is the length, 14 says that it stands in the next byte, 15 that it stands in the next four. The
//! deadline takes 8 bytes, in a hash whose fields have deadlines only. So a short field costs one
//! byte besides its content.

use super::Field;
use crate::memory::allocated;
use moon_core::UnixMs;
use std::ops::Range;

/// Longest length within four bits.
const NIBBLE_MAX: usize = 13;
/// The length stands in one byte.
const BYTE: u8 = 14;
/// The length stands in four bytes.
const FOUR_BYTES: u8 = 15;

const DEADLINE_BYTES: usize = 8;
/// What stands for no deadline.
const NO_DEADLINE: i64 = i64::MIN;

/// Buffers up to this capacity are not worth shrinking.
const SMALL_CAPACITY: usize = 64;

/// Fields in the order in which they came.
///
/// # Invariants
/// `buf` is exactly `len` well-formed fields, with deadlines if `with_deadlines`.
#[derive(Clone, Debug, Default)]
pub(super) struct Small {
    buf: Vec<u8>,
    len: u32,
    with_deadlines: bool,
}

impl Small {
    /// Number of fields.
    pub(super) fn len(&self) -> usize {
        self.len as usize
    }

    /// Bytes on the heap.
    pub(super) fn memory(&self) -> usize {
        allocated(self.buf.capacity())
    }

    /// All fields.
    pub(super) fn iter(&self) -> Iter<'_> {
        Iter {
            bytes: &self.buf,
            left: self.len(),
            with_deadlines: self.with_deadlines,
        }
    }

    /// The field that begins at a byte, which is then moved to the next one; `None` at the end.
    pub(super) fn next_from(&self, at: &mut usize) -> Option<Field<'_>> {
        let bytes = self.buf.get(*at..).filter(|bytes| !bytes.is_empty())?;
        let (field, rest) = split(bytes, self.with_deadlines);
        *at += bytes.len() - rest.len();
        Some(field)
    }

    /// A field, and where it lies.
    pub(super) fn find(&self, name: &[u8]) -> Option<(Range<usize>, Field<'_>)> {
        let mut fields = self.iter();
        loop {
            let start = self.buf.len() - fields.bytes.len();
            let field = fields.next()?;
            if field.name == name {
                let end = self.buf.len() - fields.bytes.len();
                return Some((start..end, field));
            }
        }
    }

    /// Adds a field that is not there.
    ///
    /// # Panics
    /// When a name or value is longer than 4 GiB; the protocol's limits are far below.
    pub(super) fn push(&mut self, field: Field<'_>) {
        self.reserve(encoded_len(field, self.with_deadlines));
        encode(&mut self.buf, field, self.with_deadlines);
        self.len += 1;
    }

    /// Replaces the field that lies there by one of the same name.
    pub(super) fn replace(&mut self, at: Range<usize>, old_value_len: usize, field: Field<'_>) {
        if field.value.len() == old_value_len {
            let behind = if self.with_deadlines {
                DEADLINE_BYTES
            } else {
                0
            };
            let end = at.end - behind;
            self.buf[end - old_value_len..end].copy_from_slice(field.value);
            self.set_deadline(&at, field.deadline);
            return;
        }
        let mut encoded = Vec::with_capacity(encoded_len(field, self.with_deadlines));
        encode(&mut encoded, field, self.with_deadlines);
        self.reserve(encoded.len().saturating_sub(at.len()));
        self.buf.splice(at, encoded);
        self.give_back();
    }

    /// Sets or clears the deadline of the field that lies there; nothing without room for one.
    pub(super) fn set_deadline(&mut self, at: &Range<usize>, deadline: Option<UnixMs>) {
        if self.with_deadlines {
            let number = deadline.map_or(NO_DEADLINE, |at| at.0);
            self.buf[at.end - DEADLINE_BYTES..at.end].copy_from_slice(&number.to_le_bytes());
        }
    }

    /// Removes the field that lies there.
    pub(super) fn remove(&mut self, at: Range<usize>) {
        self.buf.drain(at);
        self.len -= 1;
        self.give_back();
    }

    /// The same fields, with room for a deadline each.
    pub(super) fn with_deadlines(&self) -> Small {
        let mut wider = Small {
            with_deadlines: true,
            ..Small::default()
        };
        let room = self.buf.len() + self.len() * DEADLINE_BYTES;
        wider.buf.reserve_exact(allocated(room));
        self.iter().for_each(|field| wider.push(field));
        wider
    }

    /// Room for more bytes, and for an eighth as much beyond them: small hashes are many, and most
    /// of them do not grow once they are filled.
    fn reserve(&mut self, more: usize) {
        let need = self.buf.len() + more;
        if need > self.buf.capacity() {
            let room = allocated(need + need / 8);
            self.buf.reserve_exact(room - self.buf.len());
        }
    }

    /// Gives memory back when most of it is unused. Costs no more than the changes that led here.
    fn give_back(&mut self) {
        let used = self.buf.len();
        if self.buf.capacity() > SMALL_CAPACITY && self.buf.capacity() / 2 > used {
            self.buf.shrink_to(allocated(used + used / 8));
        }
    }
}

/// The fields of a [`Small`].
#[derive(Clone, Debug)]
pub(super) struct Iter<'a> {
    bytes: &'a [u8],
    left: usize,
    with_deadlines: bool,
}

impl<'a> Iterator for Iter<'a> {
    type Item = Field<'a>;

    #[inline]
    fn next(&mut self) -> Option<Field<'a>> {
        self.left = self.left.checked_sub(1)?;
        let (field, rest) = split(self.bytes, self.with_deadlines);
        self.bytes = rest;
        Some(field)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Iter<'_> {}

/// The field at the beginning, and what is behind it.
#[inline]
fn split(bytes: &[u8], with_deadlines: bool) -> (Field<'_>, &[u8]) {
    let lengths = bytes[0];
    let (name_len, rest) = split_length(lengths >> 4, &bytes[1..]);
    let (value_len, rest) = split_length(lengths & 0xF, rest);
    let (name, rest) = rest.split_at(name_len);
    let (value, mut rest) = rest.split_at(value_len);
    let mut deadline = None;
    if with_deadlines && let Some((number, behind)) = rest.split_first_chunk::<DEADLINE_BYTES>() {
        let number = i64::from_le_bytes(*number);
        deadline = (number != NO_DEADLINE).then_some(UnixMs(number));
        rest = behind;
    }
    let field = Field {
        name,
        value,
        deadline,
    };
    (field, rest)
}

#[inline]
fn split_length(nibble: u8, bytes: &[u8]) -> (usize, &[u8]) {
    match nibble {
        BYTE => (usize::from(bytes[0]), &bytes[1..]),
        FOUR_BYTES => {
            let number = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            (number as usize, &bytes[4..])
        }
        length => (usize::from(length), bytes),
    }
}

/// The four bits for a length, and how many bytes follow for it.
fn nibble(len: usize) -> (u8, usize) {
    match u8::try_from(len) {
        Ok(short) if len <= NIBBLE_MAX => (short, 0),
        Ok(_) => (BYTE, 1),
        Err(_) => (FOUR_BYTES, 4),
    }
}

fn encoded_len(field: Field<'_>, with_deadlines: bool) -> usize {
    let lengths = 1 + nibble(field.name.len()).1 + nibble(field.value.len()).1;
    let deadline = if with_deadlines { DEADLINE_BYTES } else { 0 };
    lengths + field.name.len() + field.value.len() + deadline
}

fn encode(out: &mut Vec<u8>, field: Field<'_>, with_deadlines: bool) {
    let (name, name_more) = nibble(field.name.len());
    let (value, value_more) = nibble(field.value.len());
    out.push(name << 4 | value);
    for (len, more) in [
        (field.name.len(), name_more),
        (field.value.len(), value_more),
    ] {
        let len = u32::try_from(len).expect("a string is shorter than 4 GiB");
        out.extend_from_slice(&len.to_le_bytes()[..more]);
    }
    out.extend_from_slice(field.name);
    out.extend_from_slice(field.value);
    if with_deadlines {
        let number = field.deadline.map_or(NO_DEADLINE, |at| at.0);
        out.extend_from_slice(&number.to_le_bytes());
    }
}
