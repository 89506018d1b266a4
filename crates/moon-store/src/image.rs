//! Keys as the bytes that an RDB file has for them: whole, or in pieces if a value is huge.
//!
//! An [`Outbox`] collects what was encoded until somebody takes it. Its bytes come out in an order
//! that is valid in a file: between the pieces of one value there is never anything else, however
//! many whole keys are encoded meanwhile.

use crate::db::Deadline;
use crate::shard::DbIndex;
use crate::types::stream::StreamWriter;
use crate::types::{Cursor, Member, OpenNode, ZSet};
use crate::value::{IntText, Value};
use moon_rdb::encode::{self, Compressor, ValueKind};
use std::collections::VecDeque;

/// An outbox begins a new buffer when the present one has this many bytes.
const BUFFER_BYTES: usize = 64 << 10;

/// Longer strings are not compressed. LZF needs a string as a whole, with its compressed length in
/// front, so it cannot be written in pieces: a string this long takes about a millisecond, and a
/// longer one would hold up its shard for longer.
const COMPRESSED_MAX: usize = 256 << 10;

/// The next bytes of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageChunk {
    /// The number that the database of these keys had at the cut.
    pub db: DbIndex,
    /// Whole keys in RDB form, or the next part of one.
    pub bytes: Vec<u8>,
    /// Whether the last key here is complete; if not, the next chunk of the same image goes on
    /// in the middle of it, and nothing may be written between the two.
    pub ends_entry: bool,
}

/// Appends one whole key in RDB form to `out`.
///
/// Nothing for a collection without elements: Redis has no such keys, and readers refuse them.
pub fn encode_entry(out: &mut Vec<u8>, key: &[u8], value: &Value, deadline: Deadline) {
    encode_entry_with(out, key, value, deadline, None);
}

/// As [`encode_entry`], the value's strings compressed where there is a compressor. The key is not:
/// names rarely become shorter.
pub(crate) fn encode_entry_with(
    out: &mut Vec<u8>,
    key: &[u8],
    value: &Value,
    deadline: Deadline,
    compressor: Option<&mut Compressor>,
) {
    if encode_head(out, key, value, deadline) {
        ValueWriter::default().write(value, out, usize::MAX, compressor);
    }
}

/// Appends the type of a value and the value, as a payload of DUMP begins; its strings are
/// compressed as those of a file. `false`, and nothing is written, if the value is a collection
/// without elements.
pub fn encode_value(out: &mut Vec<u8>, value: &Value, compressor: Option<&mut Compressor>) -> bool {
    let Some((kind, len)) = kind_and_len(value) else {
        return false;
    };
    encode::value_head(out, kind);
    put_len(out, value, len);
    ValueWriter::default().write(value, out, usize::MAX, compressor);
    true
}

/// What stands in front of a value's strings. `false`, and nothing is written, if the value is a
/// collection without elements.
pub(crate) fn encode_head(
    out: &mut Vec<u8>,
    key: &[u8],
    value: &Value,
    deadline: Deadline,
) -> bool {
    let Some((kind, len)) = kind_and_len(value) else {
        return false;
    };
    encode::entry_head(out, kind, key, deadline.map(|at| at.0));
    put_len(out, value, len);
    true
}

/// What a value is in a file, and how many elements it has if it is a collection; `None` for one
/// without any.
fn kind_and_len(value: &Value) -> Option<(ValueKind, Option<usize>)> {
    let (kind, len) = match value {
        Value::Int(_) | Value::Str(_) => (ValueKind::String, None),
        Value::List(list) => (ValueKind::List, Some(list.len())),
        Value::Set(set) => (ValueKind::Set, Some(set.len())),
        Value::Hash(hash) if hash.next_deadline().is_some() => {
            (ValueKind::VolatileHash, Some(hash.len()))
        }
        Value::Hash(hash) => (ValueKind::Hash, Some(hash.len())),
        Value::ZSet(zset) => (ValueKind::ZSet, Some(zset.len())),
        // Its length is somewhere else, and it may be empty.
        Value::Stream(_) => (ValueKind::Stream, None),
    };
    (len != Some(0)).then_some((kind, len))
}

/// What stands between the kind and key of a value and its strings.
fn put_len(out: &mut Vec<u8>, value: &Value, len: Option<usize>) {
    if let Some(first) = value.next_field_deadline() {
        encode::millis(out, first.0);
    }
    if let Some(len) = len {
        encode::len(out, len as u64);
    }
}

/// Writes the strings of one value, which must not change in between, in as many steps as wanted.
#[derive(Debug, Default)]
pub(crate) struct ValueWriter {
    /// The string that comes next.
    at: Place,
    /// Bytes of it that are written. Not 0 only in the middle of a long one, behind its length.
    written: usize,
    /// Where it is in a stream, which is more than strings.
    stream: StreamWriter,
    /// The node of a list that it is in, if that had to be opened.
    opened: OpenNode,
}

/// Room for strings that do not lie in a value as they are.
#[derive(Default)]
struct Scratch {
    digits: IntText,
    opened: OpenNode,
}

/// One string of a value.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    cursor: Cursor,
    /// Whether the first string of the element is done: the field of a hash, or a string value
    /// as a whole.
    is_second: bool,
}

impl ValueWriter {
    /// Appends to `out` until it has about `len_max` bytes; whether the value is complete now.
    /// Strings of up to [`COMPRESSED_MAX`] bytes are compressed where there is a compressor.
    pub(crate) fn write(
        &mut self,
        value: &Value,
        out: &mut Vec<u8>,
        len_max: usize,
        compressor: Option<&mut Compressor>,
    ) -> bool {
        match value {
            Value::ZSet(zset) => self.write_zset(zset, out, len_max, compressor),
            Value::Stream(stream) => self.stream.write(stream, out, len_max, compressor),
            _ => {
                let mut scratch = Scratch {
                    opened: std::mem::take(&mut self.opened),
                    ..Scratch::default()
                };
                let is_done = self.write_strings(value, out, len_max, compressor, &mut scratch);
                self.opened = scratch.opened;
                is_done
            }
        }
    }

    /// The strings of a value that is nothing but strings.
    fn write_strings(
        &mut self,
        value: &Value,
        out: &mut Vec<u8>,
        len_max: usize,
        mut compressor: Option<&mut Compressor>,
        scratch: &mut Scratch,
    ) -> bool {
        while out.len() < len_max {
            let before = self.at;
            if self.written == 0 && !before.is_second {
                field_deadline(value, before, out);
            }
            let Some(string) = next_string(value, &mut self.at, scratch) else {
                return true;
            };
            if !self.write_string(string, out, len_max, compressor.as_deref_mut()) {
                self.at = before;
            }
        }
        // Looks ahead, so that the last piece is known to be the last.
        self.written == 0 && next_string(value, &mut { self.at }, scratch).is_none()
    }

    /// Members with their scores in order. They are walked to by their rank once for each piece.
    fn write_zset(
        &mut self,
        zset: &ZSet,
        out: &mut Vec<u8>,
        len_max: usize,
        mut compressor: Option<&mut Compressor>,
    ) -> bool {
        let first = self.at.cursor.at;
        let mut entries = zset.range(first..zset.len());
        while out.len() < len_max {
            let Some((member, score)) = entries.next() else {
                break;
            };
            if !self.write_string(member, out, len_max, compressor.as_deref_mut()) {
                return false;
            }
            encode::score(out, score);
            self.at.cursor.at += 1;
        }
        self.at.cursor.at == zset.len()
    }

    /// Writes a string, or as much of it as there is room for; whether it is complete.
    fn write_string(
        &mut self,
        string: &[u8],
        out: &mut Vec<u8>,
        len_max: usize,
        compressor: Option<&mut Compressor>,
    ) -> bool {
        if self.written == 0 {
            if string.len() <= COMPRESSED_MAX
                && let Some(compressor) = compressor
            {
                encode::string_compressed(out, string, compressor);
                return true;
            }
            if !encode::string_head(out, string) {
                return true;
            }
        }
        let rest = &string[self.written..];
        // At least one byte, so that `written` tells that the head stands already.
        let room = len_max.saturating_sub(out.len()).max(1);
        if rest.len() <= room {
            out.extend_from_slice(rest);
            self.written = 0;
            return true;
        }
        out.extend_from_slice(&rest[..room]);
        self.written += room;
        false
    }
}

/// Writes what stands in front of a field of a hash whose fields have deadlines, if one is here.
fn field_deadline(value: &Value, at: Place, out: &mut Vec<u8>) {
    if let Value::Hash(hash) = value
        && let Some(first) = hash.next_deadline()
        && let Some(field) = hash.next_from(&mut { at.cursor })
    {
        encode::field_deadline(out, field.deadline.map(|at| at.0), first.0);
    }
}

/// The string at a place, which moves on.
fn next_string<'a>(value: &'a Value, at: &mut Place, scratch: &'a mut Scratch) -> Option<&'a [u8]> {
    match value {
        Value::Int(_) | Value::Str(_) => {
            if std::mem::replace(&mut at.is_second, true) {
                return None;
            }
            value.as_bytes(&mut scratch.digits)
        }
        Value::List(list) => list.next_from(&mut at.cursor, &mut scratch.opened),
        Value::Set(set) => Some(match set.next_from(&mut at.cursor)? {
            Member::Int(number) => scratch.digits.format(number),
            Member::Bytes(bytes) => bytes,
        }),
        Value::Stream(_) => None,
        Value::Hash(hash) => {
            let mut behind = at.cursor;
            let field = hash.next_from(&mut behind)?;
            if at.is_second {
                *at = Place {
                    cursor: behind,
                    is_second: false,
                };
                return Some(field.value);
            }
            at.is_second = true;
            Some(field.name)
        }
        // Its scores are no strings: `ValueWriter::write_zset` is its way.
        Value::ZSet(_) => None,
    }
}

/// Encoded keys of one database that nobody has taken yet.
///
/// # Invariants
/// * `full` and `filling` hold whole keys only.
/// * `piece` is empty unless a value is being written in pieces or its end waits to be taken.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    full: VecDeque<Vec<u8>>,
    filling: Vec<u8>,
    /// Bytes of `full`.
    full_bytes: usize,
    piece: Vec<u8>,
    pieces: Pieces,
}

/// What becomes of the value that is written in pieces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Pieces {
    /// There is none.
    #[default]
    None,
    /// It is being written, and nothing of it was taken: whole keys may still go first.
    Fresh,
    /// It is being written, and its beginning was taken.
    Begun,
    /// Its end waits to be taken, and its beginning was.
    Ending,
}

impl Outbox {
    /// Where whole keys are appended.
    pub(crate) fn whole(&mut self) -> &mut Vec<u8> {
        if self.filling.len() >= BUFFER_BYTES {
            let full = std::mem::take(&mut self.filling);
            self.full_bytes += full.len();
            self.full.push_back(full);
        }
        &mut self.filling
    }

    /// Whether [`Outbox::begin`] is possible: the end of the last value in pieces is out.
    pub(crate) fn can_begin(&self) -> bool {
        self.pieces == Pieces::None
    }

    /// Begins a value in pieces.
    pub(crate) fn begin(&mut self) {
        debug_assert!(self.can_begin(), "one value in pieces at a time");
        self.pieces = Pieces::Fresh;
    }

    /// Where its bytes are appended.
    pub(crate) fn piece(&mut self) -> &mut Vec<u8> {
        debug_assert!(matches!(self.pieces, Pieces::Fresh | Pieces::Begun));
        &mut self.piece
    }

    /// The value in pieces is complete.
    pub(crate) fn end(&mut self) {
        if self.pieces == Pieces::Begun {
            self.pieces = Pieces::Ending;
            return;
        }
        self.pieces = Pieces::None;
        let whole = std::mem::take(&mut self.piece);
        self.full_bytes += whole.len();
        self.full.push_back(whole);
    }

    /// Whether the image stands in the middle of a value of this outbox, so that only this one
    /// can go on with it.
    pub(crate) fn is_mid_entry(&self) -> bool {
        matches!(self.pieces, Pieces::Begun | Pieces::Ending)
    }

    /// Bytes that wait here.
    pub(crate) fn bytes(&self) -> usize {
        self.full_bytes + self.filling.len() + self.piece.len()
    }

    /// Bytes that can be taken before anything else is written.
    pub(crate) fn takeable_bytes(&self) -> usize {
        if self.is_mid_entry() {
            self.piece.len()
        } else {
            self.bytes()
        }
    }

    /// The next bytes, and whether they end with the end of a key.
    pub(crate) fn take(&mut self) -> Option<(Vec<u8>, bool)> {
        if self.is_mid_entry() {
            let is_end = self.pieces == Pieces::Ending;
            if is_end {
                self.pieces = Pieces::None;
            } else if self.piece.is_empty() {
                return None;
            }
            return Some((std::mem::take(&mut self.piece), is_end));
        }
        if let Some(full) = self.full.pop_front() {
            self.full_bytes -= full.len();
            return Some((full, true));
        }
        if !self.filling.is_empty() {
            return Some((std::mem::take(&mut self.filling), true));
        }
        if self.piece.is_empty() {
            return None;
        }
        self.pieces = Pieces::Begun;
        Some((std::mem::take(&mut self.piece), false))
    }
}
