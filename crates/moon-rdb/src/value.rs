//! What a key can hold, borrowed for writing and owned after reading, and the items of a file.

use crate::elements::Elements;
use crate::stream::RdbStream;

/// A value to write. Collections come as iterators, so that no copy of them is ever made; they
/// must yield exactly as many elements as their length says, and at least one.
pub enum RdbValueRef<'a, 'b> {
    /// A string.
    String(&'a [u8]),
    /// Elements from head to tail.
    List(&'b mut dyn ExactSizeIterator<Item = &'a [u8]>),
    /// Members in any order, none twice.
    Set(&'b mut dyn ExactSizeIterator<Item = &'a [u8]>),
    /// Fields with their values in any order, no field twice.
    Hash(&'b mut dyn ExactSizeIterator<Item = (&'a [u8], &'a [u8])>),
    /// Fields with their values and the Unix milliseconds at which they expire, in any order, no
    /// field twice.
    VolatileHash {
        /// The earliest deadline.
        first: i64,
        /// The fields.
        fields: &'b mut dyn ExactSizeIterator<Item = (&'a [u8], &'a [u8], Option<i64>)>,
    },
    /// Members with their scores in any order, no member twice, no score NaN.
    ZSet(&'b mut dyn ExactSizeIterator<Item = (&'a [u8], f64)>),
    /// A stream, which may be empty.
    Stream(&'a RdbStream),
}

/// A value that was read. Collections are not empty; that members and fields are distinct is for
/// whoever loads them to check, because that takes a table.
#[derive(Clone, Debug, PartialEq)]
pub enum RdbValue {
    /// A string; integers are spelled out.
    String(Vec<u8>),
    /// Elements from head to tail.
    List(Vec<Vec<u8>>),
    /// Members.
    Set(Vec<Vec<u8>>),
    /// Fields with their values.
    Hash(Vec<(Vec<u8>, Vec<u8>)>),
    /// Fields with their values and the Unix milliseconds at which they expire.
    VolatileHash(Vec<(Vec<u8>, Vec<u8>, Option<i64>)>),
    /// Members with their scores, none of which is NaN.
    ZSet(Vec<(Vec<u8>, f64)>),
    /// A stream. Its blocks are listpacks; what they hold is for whoever loads them to check.
    Stream(Box<RdbStream>),
}

/// One key.
#[derive(Clone, Debug, PartialEq)]
pub struct RdbEntry {
    /// Number of its database.
    pub db: u32,
    /// The key.
    pub key: Vec<u8>,
    /// Unix milliseconds at which it expires.
    pub deadline: Option<i64>,
    /// Seconds since its last use, in files written under an LRU policy.
    pub idle_s: Option<u64>,
    /// Its access counter, in files written under an LFU policy.
    pub freq: Option<u8>,
    /// What it holds.
    pub value: RdbValue,
}

/// A value in the reader's buffers; see [`RdbValue`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RdbReadValue<'a> {
    /// A string; integers are spelled out.
    String(&'a [u8]),
    /// Elements from head to tail.
    List(&'a Elements),
    /// Members.
    Set(&'a Elements),
    /// Fields and their values in turns: [`Elements::pairs`].
    Hash(&'a Elements),
    /// A hash whose fields expire.
    VolatileHash(VolatileFields<'a>),
    /// Members and their scores, none of which is NaN, in turns: [`Elements::scored`].
    ZSet(&'a Elements),
    /// A stream.
    Stream(&'a RdbStream),
}

/// Fields with their values and deadlines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VolatileFields<'a> {
    /// Fields and values in turns.
    pub(crate) pairs: &'a Elements,
    /// The deadline of each field.
    pub(crate) deadlines: &'a [Option<i64>],
}

impl<'a> VolatileFields<'a> {
    /// All of them: field, value, Unix milliseconds at which the field expires.
    pub fn iter(self) -> impl ExactSizeIterator<Item = (&'a [u8], &'a [u8], Option<i64>)> + Clone {
        let pairs = self.pairs.pairs().zip(self.deadlines);
        pairs.map(|((field, value), deadline)| (field, value, *deadline))
    }
}

impl RdbReadValue<'_> {
    /// A copy.
    #[must_use]
    pub fn to_owned(self) -> RdbValue {
        match self {
            RdbReadValue::String(bytes) => RdbValue::String(bytes.to_vec()),
            RdbReadValue::List(elements) => {
                RdbValue::List(elements.iter().map(<[u8]>::to_vec).collect())
            }
            RdbReadValue::Set(members) => {
                RdbValue::Set(members.iter().map(<[u8]>::to_vec).collect())
            }
            RdbReadValue::Hash(fields) => {
                let fields = fields.pairs().map(|(f, v)| (f.to_vec(), v.to_vec()));
                RdbValue::Hash(fields.collect())
            }
            RdbReadValue::VolatileHash(fields) => {
                let fields = fields.iter().map(|(f, v, at)| (f.to_vec(), v.to_vec(), at));
                RdbValue::VolatileHash(fields.collect())
            }
            RdbReadValue::ZSet(members) => {
                let members = members.scored().map(|(m, score)| (m.to_vec(), score));
                RdbValue::ZSet(members.collect())
            }
            RdbReadValue::Stream(stream) => RdbValue::Stream(Box::new(stream.clone())),
        }
    }
}

/// One key in the reader's buffers; see [`RdbEntry`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RdbEntryRef<'a> {
    /// Number of its database.
    pub db: u32,
    /// The key.
    pub key: &'a [u8],
    /// Unix milliseconds at which it expires.
    pub deadline: Option<i64>,
    /// Seconds since its last use.
    pub idle_s: Option<u64>,
    /// Its access counter.
    pub freq: Option<u8>,
    /// What it holds.
    pub value: RdbReadValue<'a>,
}

impl RdbEntryRef<'_> {
    /// A copy.
    #[must_use]
    pub fn to_owned(self) -> RdbEntry {
        RdbEntry {
            db: self.db,
            key: self.key.to_vec(),
            deadline: self.deadline,
            idle_s: self.idle_s,
            freq: self.freq,
            value: self.value.to_owned(),
        }
    }
}

/// One item in the reader's buffers; see [`RdbItem`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RdbItemRef<'a> {
    /// Information about the file.
    Aux {
        /// Its name.
        key: &'a [u8],
        /// Its value; integers are spelled out.
        value: &'a [u8],
    },
    /// The following keys belong to this database.
    SelectDb(u32),
    /// How many keys follow in this database, and how many of them expire.
    ResizeDb {
        /// Keys.
        keys: u64,
        /// Of these, keys with a deadline.
        expires: u64,
    },
    /// A library of functions.
    Function(&'a [u8]),
    /// A key.
    Entry(RdbEntryRef<'a>),
}

impl RdbItemRef<'_> {
    /// A copy.
    #[must_use]
    pub fn to_owned(self) -> RdbItem {
        match self {
            RdbItemRef::Aux { key, value } => RdbItem::Aux {
                key: key.to_vec(),
                value: value.to_vec(),
            },
            RdbItemRef::SelectDb(db) => RdbItem::SelectDb(db),
            RdbItemRef::ResizeDb { keys, expires } => RdbItem::ResizeDb { keys, expires },
            RdbItemRef::Function(code) => RdbItem::Function(code.to_vec()),
            RdbItemRef::Entry(entry) => RdbItem::Entry(entry.to_owned()),
        }
    }
}

/// One item of a file, in file order.
#[derive(Clone, Debug, PartialEq)]
pub enum RdbItem {
    /// Information about the file; unknown names are to be ignored.
    Aux {
        /// Its name.
        key: Vec<u8>,
        /// Its value; integers are spelled out.
        value: Vec<u8>,
    },
    /// The following keys belong to this database.
    SelectDb(u32),
    /// How many keys follow in this database, and how many of them expire. A hint from outside:
    /// whoever allocates for it bounds it first.
    ResizeDb {
        /// Keys.
        keys: u64,
        /// Of these, keys with a deadline.
        expires: u64,
    },
    /// A library of functions: its code, which begins with a line that names engine and library.
    Function(Vec<u8>),
    /// A key.
    Entry(RdbEntry),
}
