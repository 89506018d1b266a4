//! Listpacks: strings and integers in a row in one buffer, as Redis keeps and saves small values.
//!
//! ```text
//! [ total bytes u32 | elements u16 ] element element ... [ ff ]
//! element: [ kind and content ] [ its length, readable from behind ]
//! ```
//!
//! A string that is the canonical form of a 64-bit integer is kept as that integer. An element
//! count of 65535 means that there are at least that many. [`ListpackWriter`] makes one from front
//! to back; [`Listpack`] is one that is read at any place, in both directions, and changed.

use crate::elements::spell;

/// Bytes in front of the first element.
pub const HEADER_BYTES: usize = 6;

/// The last byte of a listpack.
const END: u8 = 0xff;

/// The element count of a header that did not fit its 16 bits.
const COUNT_UNKNOWN: u16 = u16::MAX;

/// What an element is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element<'a> {
    /// A string that is not the canonical form of an integer.
    Bytes(&'a [u8]),
    /// An integer.
    Int(i64),
}

impl Element<'_> {
    /// Whether this is how `bytes` are kept.
    #[inline]
    #[must_use]
    pub fn is(self, bytes: &[u8]) -> bool {
        match self {
            Element::Bytes(own) => own == bytes,
            Element::Int(own) => canonical_int(bytes) == Some(own),
        }
    }

    /// Appends the string that it stands for.
    pub fn spell(self, out: &mut Vec<u8>) {
        match self {
            Element::Bytes(bytes) => out.extend_from_slice(bytes),
            Element::Int(number) => spell(out, number),
        }
    }
}

/// The integer whose canonical decimal form `text` is: no sign but `-`, no leading zero, within
/// 64 bits. So writing the integer gives exactly `text` again.
#[inline]
#[must_use]
pub fn canonical_int(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    match digits {
        [b'0'] if !negative => return Some(0),
        [b'1'..=b'9', ..] if digits.len() <= 19 => {}
        _ => return None,
    }
    let mut magnitude = 0u64;
    for digit in digits {
        let digit = digit.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        // 19 digits do not overflow.
        magnitude = magnitude * 10 + u64::from(digit);
    }
    match negative {
        true => 0i64.checked_sub_unsigned(magnitude),
        false => i64::try_from(magnitude).ok(),
    }
}

/// Makes a listpack from front to back.
#[derive(Clone, Debug)]
pub struct ListpackWriter {
    bytes: Vec<u8>,
    count: usize,
}

impl Default for ListpackWriter {
    fn default() -> ListpackWriter {
        ListpackWriter::new()
    }
}

impl ListpackWriter {
    /// Begins one.
    #[must_use]
    pub fn new() -> ListpackWriter {
        ListpackWriter {
            bytes: vec![0; HEADER_BYTES],
            count: 0,
        }
    }

    /// Adds a string; one that spells an integer is kept as that.
    pub fn push(&mut self, bytes: &[u8]) {
        put(&mut self.bytes, bytes);
        self.count += 1;
    }

    /// Adds an integer.
    pub fn push_int(&mut self, number: i64) {
        put_int(&mut self.bytes, number);
        self.count += 1;
    }

    /// Adds `count` elements as they stand in another listpack.
    pub fn push_raw(&mut self, elements: &[u8], count: usize) {
        self.bytes.extend_from_slice(elements);
        self.count += count;
    }

    /// How many elements there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes so far; the finished listpack has one more.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The listpack. One of 4 GiB or more cannot be: whoever adds that much looks before.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        self.bytes.push(END);
        set_total(&mut self.bytes);
        let count = u16::try_from(self.count).unwrap_or(COUNT_UNKNOWN);
        self.bytes[4..6].copy_from_slice(&count.to_le_bytes());
        self.bytes
    }
}

/// A listpack. Places in it are byte offsets; one that is not the beginning of an element gives
/// nothing or something wrong, never a panic.
///
/// # Invariants
/// The bytes are a well-formed listpack, unless [`Listpack::from_finished`] was given others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listpack(Vec<u8>);

impl Listpack {
    /// From bytes that [`ListpackWriter::finish`] made.
    #[must_use]
    pub fn from_finished(bytes: Vec<u8>) -> Listpack {
        Listpack(bytes)
    }

    /// From bytes of anywhere; `None` if they are none.
    #[must_use]
    pub fn from_bytes(bytes: Vec<u8>) -> Option<Listpack> {
        is_listpack(&bytes).then_some(Listpack(bytes))
    }

    /// All its bytes.
    #[inline]
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Bytes of memory that it could hold.
    #[inline]
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.0.capacity()
    }

    /// Gives memory back that it does not use.
    pub fn shrink(&mut self) {
        self.0.shrink_to_fit();
    }

    /// Where the element behind the last would begin.
    #[inline]
    #[must_use]
    pub fn end(&self) -> usize {
        self.0.len().saturating_sub(1)
    }

    /// The element at `at`, and where the next begins; `None` at the end.
    #[inline]
    #[must_use]
    pub fn element(&self, at: usize) -> Option<(Element<'_>, usize)> {
        let rest = self.0.get(at..)?;
        let (element, content) = decode(rest)?;
        Some((element, at + content + backward_bytes(content)))
    }

    /// Where the element behind the one at `at` begins.
    #[inline]
    #[must_use]
    pub fn skip(&self, at: usize) -> Option<usize> {
        let content = content_bytes(self.0.get(at..)?)?;
        Some(at + content + backward_bytes(content))
    }

    /// Where the element before the place `at` begins.
    #[must_use]
    pub fn before(&self, at: usize) -> Option<usize> {
        let mut content = 0usize;
        let mut marks = 0;
        loop {
            let behind = at.checked_sub(1 + marks)?;
            if behind < HEADER_BYTES || marks == 5 {
                return None;
            }
            let byte = *self.0.get(behind)?;
            content |= usize::from(byte & 0x7f) << (7 * marks);
            marks += 1;
            if byte & 0x80 == 0 {
                break;
            }
        }
        let start = at.checked_sub(content + marks)?;
        (start >= HEADER_BYTES).then_some(start)
    }

    /// Adds elements at the end.
    #[inline]
    pub fn append(&mut self, add: impl FnOnce(&mut ListpackWriter)) {
        let mut bytes = std::mem::take(&mut self.0);
        bytes.pop();
        let mut writer = ListpackWriter { bytes, count: 0 };
        add(&mut writer);
        let ListpackWriter { mut bytes, count } = writer;
        bytes.push(END);
        set_total(&mut bytes);
        let stored = u16::from_le_bytes([bytes[4], bytes[5]]);
        if stored != COUNT_UNKNOWN {
            let sum = usize::from(stored) + count;
            let sum = u16::try_from(sum).unwrap_or(COUNT_UNKNOWN);
            bytes[4..6].copy_from_slice(&sum.to_le_bytes());
        }
        self.0 = bytes;
    }

    /// Puts an integer in place of the element at `at`. What stands behind may move.
    pub fn set_int(&mut self, at: usize, number: i64) {
        let Some(end) = self.skip(at) else {
            return;
        };
        let mut new = Vec::with_capacity(16);
        put_int(&mut new, number);
        if let Some(old) = self.0.get_mut(at..end)
            && old.len() == new.len()
        {
            old.copy_from_slice(&new);
        } else if end < self.0.len() {
            self.0.splice(at..end, new);
            set_total(&mut self.0);
        }
    }
}

fn set_total(bytes: &mut [u8]) {
    let total = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    bytes[..4].copy_from_slice(&total.to_le_bytes());
}

/// Appends an element for a string.
fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    if let Some(number) = canonical_int(bytes) {
        return put_int(out, number);
    }
    let head: usize = match bytes.len() {
        0..64 => {
            out.push(0x80 | low_byte(bytes.len()));
            1
        }
        64..4096 => {
            out.extend_from_slice(&[
                0xe0 | low_byte(bytes.len() >> 8),
                low_byte(bytes.len() & 0xff),
            ]);
            2
        }
        long => {
            out.push(0xf0);
            let long = u32::try_from(long).unwrap_or(u32::MAX);
            out.extend_from_slice(&long.to_le_bytes());
            5
        }
    };
    out.extend_from_slice(bytes);
    put_backward(out, head + bytes.len());
}

/// The lowest eight bits.
fn low_byte(number: usize) -> u8 {
    number.to_le_bytes()[0]
}

/// Appends an element for an integer, in the shortest form that holds it.
fn put_int(out: &mut Vec<u8>, number: i64) {
    let bytes = number.to_le_bytes();
    let content = match number {
        0..128 => {
            out.push(bytes[0]);
            1
        }
        -4096..4096 => {
            out.extend_from_slice(&[0xc0 | (bytes[1] & 0x1f), bytes[0]]);
            2
        }
        -0x8000..0x8000 => {
            out.push(0xf1);
            out.extend_from_slice(&bytes[..2]);
            3
        }
        -0x80_0000..0x80_0000 => {
            out.push(0xf2);
            out.extend_from_slice(&bytes[..3]);
            4
        }
        -0x8000_0000..0x8000_0000 => {
            out.push(0xf3);
            out.extend_from_slice(&bytes[..4]);
            5
        }
        _ => {
            out.push(0xf4);
            out.extend_from_slice(&bytes);
            9
        }
    };
    put_backward(out, content);
}

/// How many bytes the backward length of an element takes whose content has `content` bytes. The
/// bounds are those of Redis: the largest number of each size but the first takes a byte more than
/// it would need.
#[inline]
fn backward_bytes(content: usize) -> usize {
    match content {
        0..=0x7f => 1,
        0x80..0x3fff => 2,
        0x3fff..0x1f_ffff => 3,
        0x1f_ffff..0xfff_ffff => 4,
        _ => 5,
    }
}

/// Behind each element stands the length of its content, for walking backwards: groups of seven
/// bits, the most significant first, and all but the first byte with the top bit set.
#[inline]
fn backward(content: usize) -> ([u8; 5], usize) {
    let groups = backward_bytes(content);
    let mut bytes = [0; 5];
    for (at, byte) in bytes[..groups].iter_mut().enumerate() {
        let seven = low_byte((content >> (7 * (groups - 1 - at))) & 0x7f);
        *byte = if at == 0 { seven } else { seven | 0x80 };
    }
    (bytes, groups)
}

#[inline]
fn put_backward(out: &mut Vec<u8>, content: usize) {
    if content <= 0x7f {
        return out.push(low_byte(content));
    }
    let (bytes, len) = backward(content);
    out.extend_from_slice(&bytes[..len]);
}

/// The element at the front of `bytes`, and how many bytes its content takes; `None` at the end
/// and where there is none.
#[inline]
fn decode(bytes: &[u8]) -> Option<(Element<'_>, usize)> {
    let first = *bytes.first()?;
    Some(match first {
        0x00..=0x7f => (Element::Int(i64::from(first)), 1),
        0x80..=0xbf => {
            let end = 1 + usize::from(first & 0x3f);
            (Element::Bytes(bytes.get(1..end)?), end)
        }
        0xc0..=0xdf => {
            let raw = (i64::from(first & 0x1f) << 8) | i64::from(*bytes.get(1)?);
            // Thirteen bits with their sign.
            let number = if raw >= 1 << 12 { raw - (1 << 13) } else { raw };
            (Element::Int(number), 2)
        }
        0xe0..=0xf0 => {
            let end = content_bytes(bytes)?;
            let head = if first == 0xf0 { 5 } else { 2 };
            (Element::Bytes(bytes.get(head..end)?), end)
        }
        0xf1..=0xf4 => {
            let end = content_bytes(bytes)?;
            (Element::Int(little_endian(bytes.get(1..end)?)), end)
        }
        _ => return None,
    })
}

/// How many bytes the content of the element at the front of `bytes` takes by its head.
#[inline]
fn content_bytes(bytes: &[u8]) -> Option<usize> {
    let first = *bytes.first()?;
    Some(match first {
        0x00..=0x7f => 1,
        0x80..=0xbf => 1 + usize::from(first & 0x3f),
        0xc0..=0xdf => 2,
        0xe0..=0xef => 2 + ((usize::from(first & 0x0f) << 8) | usize::from(*bytes.get(1)?)),
        0xf0 => {
            let len = u32::from_le_bytes(bytes.get(1..5)?.try_into().ok()?);
            usize::try_from(len).ok()?.checked_add(5)?
        }
        0xf1 => 3,
        0xf2 => 4,
        0xf3 => 5,
        0xf4 => 9,
        _ => return None,
    })
}

/// A little-endian integer of 1 to 8 bytes, its sign extended.
fn little_endian(bytes: &[u8]) -> i64 {
    let negative = bytes.last().is_some_and(|top| top & 0x80 != 0);
    let mut wide = [if negative { 0xff } else { 0 }; 8];
    wide[..bytes.len()].copy_from_slice(bytes);
    i64::from_le_bytes(wide)
}

/// Hands every element to `take`; whether the bytes are a listpack. If they are not, some elements
/// may have been handed out.
pub(crate) fn walk<'a>(bytes: &'a [u8], mut take: impl FnMut(Element<'a>)) -> bool {
    let Some((header, body)) = bytes.split_at_checked(HEADER_BYTES) else {
        return false;
    };
    let total = u32::from_le_bytes([header[0], header[1], header[2], header[3]]);
    let count = u16::from_le_bytes([header[4], header[5]]);
    if usize::try_from(total) != Ok(bytes.len()) {
        return false;
    }
    let mut rest = body;
    let mut found = 0usize;
    while rest.first().is_some_and(|first| *first != END) {
        let Some((element, content)) = decode(rest) else {
            return false;
        };
        let (expected, len) = backward(content);
        let Some(behind) = rest[content..].strip_prefix(&expected[..len]) else {
            return false;
        };
        take(element);
        found += 1;
        rest = behind;
    }
    rest == [END] && (count == COUNT_UNKNOWN || usize::from(count) == found)
}

/// Whether bytes of anywhere are a listpack.
#[must_use]
pub fn is_listpack(bytes: &[u8]) -> bool {
    walk(bytes, |_| {})
}

#[cfg(test)]
#[path = "listpack/tests.rs"]
mod tests;
