//! The pieces of a key as bytes, for whoever makes them apart from the file: a snapshot encodes
//! keys where the data lives and writes them elsewhere.

use crate::format::{kind, opcode, string};
use crate::listpack::canonical_int;
use crate::stream::StreamForm;

pub use crate::lzf::Compressor;

/// Strings up to this length are not compressed.
const COMPRESS_ABOVE: usize = 20;

/// Compressed bytes are used if they are at least this much shorter.
const COMPRESS_GAIN_MIN: usize = 4;

/// What a value is, as the byte in front of its key says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueKind {
    /// One string follows the key.
    String,
    /// A length and as many strings, from head to tail.
    List,
    /// A length and as many strings.
    Set,
    /// A length and as many pairs of strings.
    Hash,
    /// [`millis`] with the earliest deadline of a field, a length, and for as many fields
    /// [`field_deadline`] and two strings.
    VolatileHash,
    /// A length and as many pairs of a string and a score.
    ZSet,
    /// What [`crate::stream::encode`] writes, in the form that Redis 7.0 reads.
    Stream,
}

impl ValueKind {
    fn byte(self) -> u8 {
        match self {
            ValueKind::String => kind::STRING,
            ValueKind::List => kind::LIST,
            ValueKind::Set => kind::SET,
            ValueKind::Hash => kind::HASH,
            ValueKind::VolatileHash => kind::HASH_METADATA,
            ValueKind::ZSet => kind::ZSET_2,
            ValueKind::Stream => StreamForm::of_images().kind(),
        }
    }
}

/// Begins a key: its deadline in Unix milliseconds, its kind, its name. The value follows.
pub fn entry_head(out: &mut Vec<u8>, kind: ValueKind, key: &[u8], deadline: Option<i64>) {
    if let Some(deadline) = deadline {
        out.push(opcode::EXPIRETIME_MS);
        out.extend_from_slice(&deadline.to_le_bytes());
    }
    out.push(kind.byte());
    string(out, key);
}

/// A time in Unix milliseconds.
pub fn millis(out: &mut Vec<u8>, time_ms: i64) {
    out.extend_from_slice(&time_ms.to_le_bytes());
}

/// The deadline of a field: 0 for none, else how much later it is than the earliest one, plus 1.
pub fn field_deadline(out: &mut Vec<u8>, deadline: Option<i64>, first: i64) {
    len(
        out,
        deadline.map_or(0, |at| at.abs_diff(first).saturating_add(1)),
    );
}

/// Begins a value that stands alone: its kind. The value follows.
pub fn value_head(out: &mut Vec<u8>, kind: ValueKind) {
    out.push(kind.byte());
}

/// A length takes 6, 14, 32 or 64 bits, big-endian; the top bits of the first byte tell.
pub fn len(out: &mut Vec<u8>, len: u64) {
    if let Ok(short) = u16::try_from(len)
        && short < 1 << 14
    {
        let [high, low] = short.to_be_bytes();
        return match high {
            0 if low < 64 => out.push(low),
            _ => out.extend_from_slice(&[0x40 | high, low]),
        };
    }
    if let Ok(medium) = u32::try_from(len) {
        out.push(0x80);
        return out.extend_from_slice(&medium.to_be_bytes());
    }
    out.push(0x81);
    out.extend_from_slice(&len.to_be_bytes());
}

/// A string; what spells a 32-bit integer in the one usual way is written as that integer.
pub fn string(out: &mut Vec<u8>, bytes: &[u8]) {
    if string_head(out, bytes) {
        out.extend_from_slice(bytes);
    }
}

/// As [`string`], compressed where that is shorter, as Redis does with `rdbcompression yes`.
pub fn string_compressed(out: &mut Vec<u8>, bytes: &[u8], compressor: &mut Compressor) {
    if bytes.len() <= COMPRESS_ABOVE {
        return string(out, bytes);
    }
    // Both lengths stand in front, so they are put there when the bytes are known.
    let start = out.len();
    if !compressor.compress(bytes, bytes.len() - COMPRESS_GAIN_MIN, out) {
        return string(out, bytes);
    }
    let compressed_len = (out.len() - start) as u64;
    let body_end = out.len();
    out.push(0xc0 | string::LZF);
    len(out, compressed_len);
    len(out, bytes.len() as u64);
    let head_len = out.len() - body_end;
    out[start..].rotate_right(head_len);
}

/// A library of functions, as it stands between the keys of a file and in a payload.
pub fn function(out: &mut Vec<u8>, code: &[u8], compressor: &mut Compressor) {
    out.push(opcode::FUNCTION2);
    string_compressed(out, code, compressor);
}

/// A score of a sorted set.
pub fn score(out: &mut Vec<u8>, score: f64) {
    out.extend_from_slice(&score.to_le_bytes());
}

/// What stands in front of a string's bytes, and whether they follow: an integer is all head.
pub fn string_head(out: &mut Vec<u8>, bytes: &[u8]) -> bool {
    let Some(number) = canonical_i32(bytes) else {
        len(out, bytes.len() as u64);
        return true;
    };
    if let Ok(number) = i8::try_from(number) {
        out.push(0xc0 | string::INT8);
        out.extend_from_slice(&number.to_le_bytes());
    } else if let Ok(number) = i16::try_from(number) {
        out.push(0xc0 | string::INT16);
        out.extend_from_slice(&number.to_le_bytes());
    } else {
        out.push(0xc0 | string::INT32);
        out.extend_from_slice(&number.to_le_bytes());
    }
    false
}

/// The number that prints as exactly these bytes.
fn canonical_i32(bytes: &[u8]) -> Option<i32> {
    const LEN_MAX: usize = "-2147483648".len();
    if bytes.len() > LEN_MAX {
        return None;
    }
    i32::try_from(canonical_int(bytes)?).ok()
}
