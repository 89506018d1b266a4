//! What a key can hold, borrowed for writing and owned after reading, and the items of a file.

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
}

/// A value that was read. Collections are not empty; that members and fields are distinct is for
/// whoever loads them to check, because that takes a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RdbValue {
    /// A string; integers are spelled out.
    String(Vec<u8>),
    /// Elements from head to tail.
    List(Vec<Vec<u8>>),
    /// Members.
    Set(Vec<Vec<u8>>),
    /// Fields with their values.
    Hash(Vec<(Vec<u8>, Vec<u8>)>),
}

/// One key.
#[derive(Clone, Debug, PartialEq, Eq)]
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

/// One item of a file, in file order.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// A key.
    Entry(RdbEntry),
}
