//! Values that hold several things: hashes, lists, sets, sorted sets, streams.
//!
//! Each type has a small form, bytes in one buffer, and a large one with constant-time access.
//! The form changes by thresholds that come in with every mutation, because CONFIG SET can move
//! them; a value in its large form stays there until it is empty (lists return when short), as in
//! Redis. Removing things gives memory back.
//!
//! In reading order:
//! * [`pack`]: [`Pack`], byte strings in one buffer, cheap at both ends.
//! * [`dict`]: [`Dict`], the large form of hashes and sets: entries found by name, packed.
//! * [`mod@hash`]: [`struct@Hash`], fields with values and deadlines.
//! * [`list`]: [`List`], elements in order.
//! * [`set`]: [`Set`], distinct members.
//! * [`zset`]: [`ZSet`], distinct members with scores, in order.
//! * [`stream`]: [`Stream`], entries with ids, and groups of readers.

pub mod dict;
pub mod hash;
pub mod list;
pub mod pack;
pub mod set;
pub mod stream;
pub mod zset;

pub use dict::Dict;
pub use hash::live::LiveFields;
pub use hash::{Field, Hash};
pub(crate) use list::OpenNode;
pub use list::{End, List, NodeLimit};
pub use pack::Pack;
pub use set::{Member, Set, SetLimits};
pub use stream::{Stream, StreamId};
pub use zset::{Direction, ZSet};

/// Where somebody stands who goes through a value step by step, without holding on to it. Begins
/// at the default; means nothing any more once the value changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// Node of a list, or bucket of a dictionary.
    node: usize,
    /// Byte in the buffer, index in the array, or rank in the order.
    pub(crate) at: usize,
}

/// Random bits as a number below `end` (0 if that is 0), decided by the top bits.
#[inline]
fn scaled(r: u64, end: usize) -> usize {
    usize::try_from((u128::from(r) * end as u128) >> 64).expect("below a usize")
}

/// Up to where a hash or a set stays in one buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackLimits {
    /// Most entries (fields or members), inclusive.
    pub entries: usize,
    /// Longest field, value or member in bytes, inclusive.
    pub value_bytes: usize,
}

/// The internal form of a value, as OBJECT ENCODING names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// One buffer.
    Listpack,
    /// One buffer, with deadlines of fields.
    ListpackEx,
    /// A hash table.
    Hashtable,
    /// A chain of buffers.
    Quicklist,
    /// Sorted integers.
    Intset,
    /// A tree in order of scores, with a table of the members.
    Skiplist,
}

impl Encoding {
    /// The name in replies.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Encoding::Listpack => "listpack",
            Encoding::ListpackEx => "listpackex",
            Encoding::Hashtable => "hashtable",
            Encoding::Quicklist => "quicklist",
            Encoding::Intset => "intset",
            Encoding::Skiplist => "skiplist",
        }
    }
}
