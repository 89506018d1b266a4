//! What a key holds.
//!
//! A string that is the canonical decimal form of a 64-bit integer is kept as that integer;
//! other strings up to 14 bytes lie in the value itself, longer ones on the heap.

use crate::prefetch::{prefetch, prefetch_bytes};
use crate::string::Str;
use crate::types::{Hash, List, Set, Stream, ZSet};
use moon_core::UnixMs;

// What a string is kept as an integer for is what the RDB format writes as one.
pub use moon_rdb::listpack::canonical_int as parse_int;

/// The type of a value, as TYPE names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A string.
    String,
    /// A list.
    List,
    /// A set.
    Set,
    /// A hash.
    Hash,
    /// A sorted set.
    ZSet,
    /// A stream.
    Stream,
}

impl Kind {
    /// The name that TYPE answers.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::String => "string",
            Kind::List => "list",
            Kind::Set => "set",
            Kind::Hash => "hash",
            Kind::ZSet => "zset",
            Kind::Stream => "stream",
        }
    }
}

/// Room for the decimal form of an integer, for [`Value::as_bytes`].
#[derive(Clone, Default)]
pub struct IntText(itoa::Buffer);

impl IntText {
    /// Room for one integer.
    #[must_use]
    pub fn new() -> IntText {
        IntText::default()
    }

    /// Writes `n` and returns its decimal form.
    pub fn format(&mut self, n: i64) -> &[u8] {
        self.0.format(n).as_bytes()
    }
}

/// A value of any type.
#[derive(Clone, Debug)]
pub enum Value {
    /// A string in integer form.
    Int(i64),
    /// A string.
    Str(Str),
    /// A list.
    List(Box<List>),
    /// A set.
    Set(Set),
    /// A hash.
    Hash(Hash),
    /// A sorted set.
    ZSet(Box<ZSet>),
    /// A stream.
    Stream(Box<Stream>),
}

const _: () = assert!(size_of::<Value>() == 16);

impl Value {
    /// A string, as an integer if it is the canonical decimal form of one.
    #[inline]
    #[must_use]
    pub fn string(bytes: &[u8]) -> Value {
        match parse_int(bytes) {
            Some(n) => Value::Int(n),
            None => Value::Str(Str::new(bytes)),
        }
    }

    /// A string that is never kept as an integer and that OBJECT ENCODING calls `raw`, as
    /// after APPEND.
    #[must_use]
    pub fn string_raw(bytes: &[u8]) -> Value {
        Value::Str(Str::modified(bytes))
    }

    /// A string in integer form.
    #[inline]
    #[must_use]
    pub fn from_int(n: i64) -> Value {
        Value::Int(n)
    }

    /// The bytes of a string, an integer's in `scratch`; `None` if this is no string.
    #[inline]
    #[must_use]
    pub fn as_bytes<'a>(&'a self, scratch: &'a mut IntText) -> Option<&'a [u8]> {
        match self {
            Value::Int(n) => Some(scratch.format(*n)),
            Value::Str(s) => Some(s.as_bytes()),
            _ => None,
        }
    }

    /// Length of a string in bytes; `None` if this is no string.
    #[must_use]
    pub fn str_len(&self) -> Option<usize> {
        self.as_bytes(&mut IntText::new()).map(<[u8]>::len)
    }

    /// The integer that a string is the canonical decimal form of, in whatever form it is kept.
    #[must_use]
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Value::Int(n) => Some(*n),
            Value::Str(s) => parse_int(s.as_bytes()),
            _ => None,
        }
    }

    /// Appends to a string; amortised cost is the length of `tail`. `false`, and nothing
    /// happens, if this is no string. The caller has checked that the sum stays within
    /// [`STRING_LEN_MAX`](crate::STRING_LEN_MAX).
    pub fn append(&mut self, tail: &[u8]) -> bool {
        self.to_mut_str().map(|s| s.append(tail)).is_some()
    }

    /// Overwrites a string from `offset` on, filling a gap with zero bytes; empty `bytes`
    /// change nothing. `false`, and nothing happens, if this is no string. The caller has
    /// checked that the end stays within [`STRING_LEN_MAX`](crate::STRING_LEN_MAX).
    pub fn set_range(&mut self, offset: usize, bytes: &[u8]) -> bool {
        self.to_mut_str()
            .map(|s| s.set_range(offset, bytes))
            .is_some()
    }

    /// A string's bytes, to change in place; an integer is first turned into text. `None` if
    /// this is no string.
    pub fn to_mut_str(&mut self) -> Option<&mut Str> {
        if let Value::Int(n) = *self {
            *self = Value::Str(Str::modified(IntText::new().format(n)));
        }
        match self {
            Value::Str(s) => Some(s),
            _ => None,
        }
    }

    /// The type.
    #[inline]
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Value::Int(_) | Value::Str(_) => Kind::String,
            Value::List(_) => Kind::List,
            Value::Set(_) => Kind::Set,
            Value::Hash(_) => Kind::Hash,
            Value::ZSet(_) => Kind::ZSet,
            Value::Stream(_) => Kind::Stream,
        }
    }

    /// As OBJECT ENCODING names it.
    #[must_use]
    pub fn encoding(&self) -> &'static str {
        match self {
            Value::Int(_) => "int",
            Value::Str(s) => s.encoding(),
            Value::List(list) => list.encoding().name(),
            Value::Set(set) => set.encoding().name(),
            Value::Hash(hash) => hash.encoding().name(),
            Value::ZSet(zset) => zset.encoding().name(),
            Value::Stream(_) => "stream",
        }
    }

    /// The earliest deadline of a field of a hash.
    #[inline]
    #[must_use]
    pub fn next_field_deadline(&self) -> Option<UnixMs> {
        match self {
            Value::Hash(hash) => hash.next_deadline(),
            _ => None,
        }
    }

    /// Whether this is a hash with nothing but fields past their deadlines: it counts as gone.
    #[inline]
    #[must_use]
    pub fn has_expired(&self, now: UnixMs) -> bool {
        match self {
            Value::Hash(hash) => hash.has_expired(now),
            _ => false,
        }
    }

    /// Starts loading what lies on the heap.
    #[inline]
    pub(crate) fn prefetch(&self) {
        match self {
            Value::Int(_) => {}
            Value::Str(s) => {
                if let Some(bytes) = s.heap_bytes() {
                    prefetch_bytes(bytes);
                }
            }
            Value::List(list) => prefetch(&**list),
            Value::Set(set) => set.prefetch(),
            Value::Hash(hash) => hash.prefetch(),
            Value::ZSet(zset) => prefetch(&**zset),
            Value::Stream(stream) => prefetch(&**stream),
        }
    }

    /// Starts loading what a look-up of a member, or of a field, touches.
    #[inline]
    pub(crate) fn prefetch_member(&self, member: &[u8]) {
        match self {
            Value::Set(set) => set.prefetch_member(member),
            Value::Hash(hash) => hash.prefetch_field(member),
            _ => {}
        }
    }

    /// As [`Value::memory`], with everything counted as large as it is for whoever reads it all:
    /// what decides whether that is done in one go.
    #[must_use]
    pub(crate) fn plain_memory(&self) -> usize {
        match self {
            Value::List(list) => list.plain_memory(),
            _ => self.memory(),
        }
    }

    /// Bytes on the heap. O(1): the accounting asks before and after every change.
    #[must_use]
    pub fn memory(&self) -> usize {
        match self {
            Value::Int(_) => 0,
            Value::Str(s) => s.memory(),
            Value::List(list) => list.memory(),
            Value::Set(set) => set.memory(),
            Value::Hash(hash) => hash.memory(),
            Value::ZSet(zset) => zset.memory(),
            Value::Stream(stream) => stream.memory(),
        }
    }
}

#[cfg(test)]
mod tests;
