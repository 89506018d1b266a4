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
use crate::thin::{BYTES_MAX, COUNT_MAX, ThinBuf};
use crate::types::PackLimits;
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

/// Whether fields have room for their deadlines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    Plain,
    Deadlines,
}

impl Room {
    /// Bytes that a deadline takes.
    #[inline]
    fn bytes(self) -> usize {
        match self {
            Room::Plain => 0,
            Room::Deadlines => DEADLINE_BYTES,
        }
    }
}

/// Fields in the order in which they came.
///
/// # Invariants
/// `buf` is exactly as many well-formed fields as it counts, with deadlines if it has room for
/// them.
#[derive(Clone, Debug)]
pub(super) struct Small {
    buf: ThinBuf<Room>,
}

impl Default for Small {
    fn default() -> Self {
        Small {
            buf: ThinBuf::new(Room::Plain),
        }
    }
}

impl Small {
    /// Number of fields.
    pub(super) fn len(&self) -> usize {
        self.buf.count()
    }

    /// Bytes on the heap.
    pub(super) fn memory(&self) -> usize {
        self.buf.memory()
    }

    /// Starts loading the fields.
    #[inline]
    pub(super) fn prefetch(&self) {
        self.buf.prefetch();
    }

    /// Whether one more field leaves this a small form.
    pub(super) fn admits(&self, limits: PackLimits) -> bool {
        self.len() < limits.entries.min(COUNT_MAX)
    }

    /// Whether a field is short enough to be in here, in place of another one or beside them.
    pub(super) fn holds(&self, field: Field<'_>, limits: PackLimits) -> bool {
        let longest = field.name.len().max(field.value.len());
        longest <= limits.value_bytes && longest <= BYTES_MAX && self.buf.len() <= BYTES_MAX
    }

    /// All fields.
    pub(super) fn iter(&self) -> Iter<'_> {
        Iter {
            bytes: &self.buf,
            left: self.len(),
            room: self.buf.reading(),
        }
    }

    /// The field that begins at a byte, which is then moved to the next one; `None` at the end.
    pub(super) fn next_from(&self, at: &mut usize) -> Option<Field<'_>> {
        let bytes = self.buf.get(*at..).filter(|bytes| !bytes.is_empty())?;
        let (field, rest) = split(bytes, self.buf.reading());
        *at += bytes.len() - rest.len();
        Some(field)
    }

    /// A field, and where it lies.
    #[inline]
    pub(super) fn find(&self, name: &[u8]) -> Option<(Range<usize>, Field<'_>)> {
        let (room, mut start) = (self.buf.reading(), 0);
        while start < self.buf.len() {
            let bytes = &self.buf[start..];
            let head = Head::of(bytes);
            let end = start + head.field_len(room);
            // Names of one hash often begin alike, and less often end alike.
            if head.name_len == name.len()
                && head.name(bytes).last() == name.last()
                && head.name(bytes) == name
            {
                return Some((start..end, split(bytes, room).0));
            }
            start = end;
        }
        None
    }

    /// Adds a field that is not there, for which there is room.
    ///
    /// # Panics
    /// Where [`Small::admits`] and [`Small::holds`] were not asked.
    pub(super) fn push(&mut self, field: Field<'_>) {
        let room = self.buf.reading();
        encode(self.buf.extend(encoded_len(field, room)), field, room);
        self.buf.set_count(self.len() + 1);
    }

    /// Replaces the field that lies there by one of the same name.
    pub(super) fn replace(&mut self, at: Range<usize>, field: Field<'_>) {
        let room = self.buf.reading();
        let bytes = self.buf.replace(at, encoded_len(field, room));
        encode(bytes, field, room);
    }

    /// Sets or clears the deadline of the field that lies there; nothing without room for one.
    pub(super) fn set_deadline(&mut self, at: &Range<usize>, deadline: Option<UnixMs>) {
        if self.buf.reading() == Room::Deadlines {
            let number = deadline.map_or(NO_DEADLINE, |at| at.0);
            self.buf[at.end - DEADLINE_BYTES..at.end].copy_from_slice(&number.to_le_bytes());
        }
    }

    /// Removes the field that lies there.
    pub(super) fn remove(&mut self, at: Range<usize>) {
        self.buf.replace(at, 0);
        self.buf.set_count(self.len() - 1);
    }

    /// So many fields without name and value, as no hash has them.
    #[cfg(test)]
    pub(super) fn of_empty_fields(count: usize) -> Small {
        let mut buf = ThinBuf::zeroed(Room::Plain, count);
        buf.set_count(count);
        Small { buf }
    }

    /// The same fields, with room for a deadline each.
    pub(super) fn with_deadlines(&self) -> Small {
        let room = Room::Deadlines;
        let len = self.iter().map(|field| encoded_len(field, room)).sum();
        let mut buf = ThinBuf::zeroed(room, len);
        buf.set_count(self.len());
        let mut rest = &mut *buf;
        for field in self.iter() {
            rest = encode(rest, field, room);
        }
        Small { buf }
    }
}

/// The fields of a [`Small`].
#[derive(Clone, Debug)]
pub(super) struct Iter<'a> {
    bytes: &'a [u8],
    left: usize,
    room: Room,
}

impl<'a> Iterator for Iter<'a> {
    type Item = Field<'a>;

    #[inline]
    fn next(&mut self) -> Option<Field<'a>> {
        self.left = self.left.checked_sub(1)?;
        let (field, rest) = split(self.bytes, self.room);
        self.bytes = rest;
        Some(field)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Iter<'_> {}

/// What stands in front of a field.
#[derive(Clone, Copy)]
struct Head {
    /// Its own length.
    len: usize,
    name_len: usize,
    value_len: usize,
}

impl Head {
    /// The head at the beginning.
    #[inline]
    fn of(bytes: &[u8]) -> Head {
        let (name, value) = (bytes[0] >> 4, bytes[0] & 0xF);
        let mut head = Head {
            len: 1,
            name_len: usize::from(name),
            value_len: usize::from(value),
        };
        if name.max(value) >= BYTE {
            head.name_len = head.length(name, bytes);
            head.value_len = head.length(value, bytes);
        }
        head
    }

    /// The length that the four bits stand for, and that the head then includes.
    fn length(&mut self, nibble: u8, bytes: &[u8]) -> usize {
        let more = &bytes[self.len..];
        match nibble {
            BYTE => {
                self.len += 1;
                usize::from(more[0])
            }
            FOUR_BYTES => {
                self.len += 4;
                u32::from_le_bytes([more[0], more[1], more[2], more[3]]) as usize
            }
            length => usize::from(length),
        }
    }

    /// Bytes of the whole field.
    #[inline]
    fn field_len(self, room: Room) -> usize {
        self.len + self.name_len + self.value_len + room.bytes()
    }

    /// The name in the bytes that begin with this head.
    #[inline]
    fn name(self, bytes: &[u8]) -> &[u8] {
        &bytes[self.len..][..self.name_len]
    }
}

/// The field at the beginning, and what is behind it.
#[inline]
fn split(bytes: &[u8], room: Room) -> (Field<'_>, &[u8]) {
    let head = Head::of(bytes);
    let (name, rest) = bytes[head.len..].split_at(head.name_len);
    let (value, mut rest) = rest.split_at(head.value_len);
    let mut deadline = None;
    if room == Room::Deadlines
        && let Some((number, behind)) = rest.split_first_chunk::<DEADLINE_BYTES>()
    {
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

/// The four bits for a length, and how many bytes follow for it.
fn nibble(len: usize) -> (u8, usize) {
    match u8::try_from(len) {
        Ok(short) if len <= NIBBLE_MAX => (short, 0),
        Ok(_) => (BYTE, 1),
        Err(_) => (FOUR_BYTES, 4),
    }
}

fn encoded_len(field: Field<'_>, room: Room) -> usize {
    let lengths = 1 + nibble(field.name.len()).1 + nibble(field.value.len()).1;
    lengths + field.name.len() + field.value.len() + room.bytes()
}

/// Writes a field to the beginning of `out`; returns what is behind it.
#[inline]
fn encode<'o>(out: &'o mut [u8], field: Field<'_>, room: Room) -> &'o mut [u8] {
    let (name, name_more) = nibble(field.name.len());
    let (value, value_more) = nibble(field.value.len());
    let mut out = put(out, &[name << 4 | value]);
    for (len, more) in [
        (field.name.len(), name_more),
        (field.value.len(), value_more),
    ] {
        out = put(out, &len.to_le_bytes()[..more]);
    }
    out = put(out, field.name);
    out = put(out, field.value);
    if room == Room::Deadlines {
        let number = field.deadline.map_or(NO_DEADLINE, |at| at.0);
        out = put(out, &number.to_le_bytes());
    }
    out
}

#[inline]
fn put<'o>(out: &'o mut [u8], bytes: &[u8]) -> &'o mut [u8] {
    let (here, behind) = out.split_at_mut(bytes.len());
    here.copy_from_slice(bytes);
    behind
}
