//! Loading: the keys of an RDB file put into the shards that own them.
//!
//! A file is a base of one shard, or a dump of everything; both go through [`load_rdb`]. What a
//! server could not have written is refused with its name: a key of a shard that is not in hand,
//! a database that there is not, a key, field or member that comes twice. Items are put where
//! they belong as they are read, so an error in the middle, or in the checksum at the very end,
//! leaves shards half full: **after an error nothing that was loaded may be used.**

use crate::context::Limits;
use crate::shard_set::ShardSet;
use moon_core::{ShardCount, UnixMs};
use moon_rdb::{RdbEntry, RdbError, RdbFault, RdbItem, RdbLimits, RdbReader, RdbValue};
use moon_store::{
    Change, DbIndex, End, Hash, Key, List, NodeLimit, PackLimits, STRING_LEN_MAX, Set, SetLimits,
    ShardData, Value,
};
use std::fmt;
use std::io::Read;

/// Bytes read between two reports of progress.
const PROGRESS_BYTES: u64 = 1 << 20;

/// Longest element of a list, set or hash: a length of 32 bits counts its framing too.
const ELEMENT_BYTES_MAX: usize = STRING_LEN_MAX - 64;

/// What to do with keys whose deadline has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadExpired {
    /// They are loaded like all others: the log that follows says when they went.
    Keep,
    /// Keys that have expired at this time are left out. For files that nothing follows.
    Drop(UnixMs),
}

/// What was loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadSummary {
    /// Keys that are in the shards now.
    pub keys: u64,
    /// Keys that were left out because they had expired.
    pub expired: u64,
    /// The file is the state just before this LSN; `None` if it does not say.
    pub cut_lsn: Option<u64>,
    /// Length of the file.
    pub bytes: u64,
    /// The version of the server that wrote the file, as it calls itself.
    pub redis_ver: Option<String>,
    /// Unix seconds at which the file was begun.
    pub ctime_s: Option<u64>,
    /// Whether the file says that it is the base of an append-only log.
    pub aof_base: bool,
}

/// Why a file cannot be loaded. Keys are named as far as a line has room for them.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read, or is damaged.
    #[error(transparent)]
    Rdb(#[from] RdbError),
    /// A key holds a type that this server does not have.
    #[error("key {} is a {type_name}, which this server does not have", Shown(key))]
    UnsupportedType {
        /// The key.
        key: Vec<u8>,
        /// What it holds.
        type_name: &'static str,
    },
    /// A key comes twice.
    #[error("key {} of database {db} comes twice", Shown(key))]
    DuplicateKey {
        /// The database.
        db: u32,
        /// The key.
        key: Vec<u8>,
    },
    /// A field of a hash or a member of a set comes twice.
    #[error("key {} of database {db} holds {} twice", Shown(key), Shown(element))]
    DuplicateElement {
        /// The database.
        db: u32,
        /// The key.
        key: Vec<u8>,
        /// The field or member.
        element: Vec<u8>,
    },
    /// A list, set or hash without elements.
    #[error("key {} of database {db} holds nothing", Shown(key))]
    Empty {
        /// The database.
        db: u32,
        /// The key.
        key: Vec<u8>,
    },
    /// A string or an element is longer than any that can be kept.
    #[error("key {} of database {db} holds {bytes} bytes in one piece", Shown(key))]
    TooLong {
        /// The database.
        db: u32,
        /// The key.
        key: Vec<u8>,
        /// Length of the piece.
        bytes: usize,
    },
    /// The key belongs to a shard that is not in hand.
    #[error("key {} belongs to another shard", Shown(key))]
    WrongShard {
        /// The key.
        key: Vec<u8>,
    },
    /// The key belongs to a database that the server does not have.
    #[error(
        "key {} belongs to database {db}, and there are {databases}",
        Shown(key)
    )]
    NoSuchDatabase {
        /// The database.
        db: u32,
        /// How many there are.
        databases: usize,
        /// The key.
        key: Vec<u8>,
    },
    /// The file says which LSN it was cut at, but not in digits.
    #[error("the file's cut LSN is {}, which is no number", Shown(text))]
    BadCutLsn {
        /// What it says.
        text: Vec<u8>,
    },
}

/// Bytes as text, shortened.
struct Shown<'a>(&'a [u8]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LEN_MAX: usize = 128;
        let (head, more) = match self.0.split_at_checked(LEN_MAX) {
            Some((head, tail)) if !tail.is_empty() => (head, "..."),
            _ => (self.0, ""),
        };
        write!(f, "\"{}\"{more}", head.escape_ascii())
    }
}

/// Puts one entry that was read from an RDB file into the shard that owns it.
///
/// The key is not marked as changed: what was loaded is not at risk, and nobody watches it yet.
/// Whether it has expired is for the caller to look at. Idle time and frequency are not taken
/// over; the key counts as used when it is loaded.
///
/// # Errors
/// [`LoadError`], with nothing changed: the entry is of a database that the server does not have
/// or of a shard that is not in hand, its key is there already, or its value is none that this
/// server could hold.
pub fn load_entry(
    mut shards: ShardSet<'_>,
    shard_count: ShardCount,
    entry: RdbEntry,
    limits: &Limits,
) -> Result<(), LoadError> {
    let db = entry.db;
    let Some(shard) = shards.get(shard_count.shard_of_key(&entry.key)) else {
        return Err(LoadError::WrongShard { key: entry.key });
    };
    let Some(index) = database(shard, db) else {
        return Err(LoadError::NoSuchDatabase {
            db,
            databases: shard.dbs.len(),
            key: entry.key,
        });
    };
    let deadline = entry.deadline.map(UnixMs);
    let value = match value(entry.value, limits) {
        Ok(value) => value,
        Err(fault) => return Err(fault.at(db, entry.key)),
    };
    let is_new = (shard.db(index)).update(Key::new(&entry.key), |there, _| match there {
        Some(_) => (Change::Keep, false),
        None => (Change::Store(value, deadline), true),
    });
    if is_new {
        return Ok(());
    }
    Err(LoadError::DuplicateKey { db, key: entry.key })
}

/// The index of a database, if the shard has it.
fn database(shard: &ShardData, db: u32) -> Option<DbIndex> {
    let index = DbIndex::try_from(db).ok()?;
    (usize::from(index) < shard.dbs.len()).then_some(index)
}

/// Reads one whole RDB file, a base of one shard or a dump of all, into the shards in hand.
///
/// `progress` is told how many bytes have been read in all, about once per MiB and at the end.
/// The source should buffer. It is read exactly up to the end of the RDB file, so that what
/// follows there (an AOF with a preamble) can be read on from a `&mut` source.
///
/// # Errors
/// [`LoadError`]; nothing that was loaded may be used then.
pub fn load_rdb(
    mut shards: ShardSet<'_>,
    shard_count: ShardCount,
    source: impl Read,
    rdb_limits: RdbLimits,
    limits: &Limits,
    expired: LoadExpired,
    progress: &mut dyn FnMut(u64),
) -> Result<LoadSummary, LoadError> {
    let mut summary = LoadSummary::default();
    let mut reader = RdbReader::with_limits(source, rdb_limits);
    let mut next_progress = PROGRESS_BYTES;
    while let Some(item) = reader.next() {
        match item.map_err(unsupported)? {
            RdbItem::Aux { key, value } => aux(&mut summary, &key, value)?,
            RdbItem::SelectDb(_) | RdbItem::ResizeDb { .. } => {}
            RdbItem::Entry(entry) if has_expired(&entry, expired) => summary.expired += 1,
            RdbItem::Entry(entry) => {
                load_entry(shards.reborrow(), shard_count, entry, limits)?;
                summary.keys += 1;
            }
        }
        if reader.offset() >= next_progress {
            progress(reader.offset());
            next_progress = reader.offset() + PROGRESS_BYTES;
        }
    }
    summary.bytes = reader.offset();
    progress(summary.bytes);
    Ok(summary)
}

/// The reader's word about a type becomes the loader's, with the key in front.
fn unsupported(error: RdbError) -> LoadError {
    match error.fault {
        RdbFault::UnsupportedType { key, type_name, .. } => {
            LoadError::UnsupportedType { key, type_name }
        }
        _ => LoadError::Rdb(error),
    }
}

fn has_expired(entry: &RdbEntry, expired: LoadExpired) -> bool {
    match (expired, entry.deadline) {
        (LoadExpired::Drop(now), Some(deadline)) => deadline <= now.0,
        _ => false,
    }
}

/// Takes note of what the file says about itself. Names that mean nothing here are ignored.
fn aux(summary: &mut LoadSummary, key: &[u8], value: Vec<u8>) -> Result<(), LoadError> {
    use moon_rdb::format::{AUX_AOF_BASE, AUX_CTIME, AUX_CUT_LSN, AUX_REDIS_VER};
    if key == AUX_CUT_LSN {
        match number(&value) {
            Some(lsn) => summary.cut_lsn = Some(lsn),
            None => return Err(LoadError::BadCutLsn { text: value }),
        }
    } else if key == AUX_REDIS_VER {
        summary.redis_ver = Some(String::from_utf8_lossy(&value).into_owned());
    } else if key == AUX_CTIME {
        summary.ctime_s = number(&value);
    } else if key == AUX_AOF_BASE {
        summary.aof_base = value == b"1";
    }
    Ok(())
}

fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// What is wrong with a value.
enum ValueFault {
    Empty,
    Duplicate(Vec<u8>),
    TooLong(usize),
}

impl ValueFault {
    fn at(self, db: u32, key: Vec<u8>) -> LoadError {
        match self {
            ValueFault::Empty => LoadError::Empty { db, key },
            ValueFault::Duplicate(element) => LoadError::DuplicateElement { db, key, element },
            ValueFault::TooLong(bytes) => LoadError::TooLong { db, key, bytes },
        }
    }
}

/// The value in the form in which commands would have made it.
fn value(value: RdbValue, limits: &Limits) -> Result<Value, ValueFault> {
    match value {
        RdbValue::String(bytes) => {
            check_bytes(&bytes, STRING_LEN_MAX)?;
            Ok(Value::string(&bytes))
        }
        RdbValue::List(elements) => list(&elements, limits),
        RdbValue::Set(members) => set(members, limits),
        RdbValue::Hash(fields) => hash(fields, limits),
    }
}

fn list(elements: &[Vec<u8>], limits: &Limits) -> Result<Value, ValueFault> {
    if elements.is_empty() {
        return Err(ValueFault::Empty);
    }
    let limit = NodeLimit::from_setting(limits.list_max_listpack_size);
    let mut list = List::default();
    for element in elements {
        check_bytes(element, ELEMENT_BYTES_MAX)?;
        list.push(End::Right, element, limit);
    }
    Ok(Value::List(Box::new(list)))
}

fn set(members: Vec<Vec<u8>>, limits: &Limits) -> Result<Value, ValueFault> {
    let limits = SetLimits {
        intset_entries: limits.set_max_intset_entries,
        pack: PackLimits {
            entries: limits.set_max_listpack_entries,
            value_bytes: limits.set_max_listpack_value,
        },
    };
    let Some(first) = members.first() else {
        return Err(ValueFault::Empty);
    };
    let mut set = Set::for_first(first, members.len(), limits);
    for member in members {
        check_bytes(&member, ELEMENT_BYTES_MAX)?;
        if !set.add(&member, limits) {
            return Err(ValueFault::Duplicate(member));
        }
    }
    Ok(Value::Set(Box::new(set)))
}

fn hash(fields: Vec<(Vec<u8>, Vec<u8>)>, limits: &Limits) -> Result<Value, ValueFault> {
    if fields.is_empty() {
        return Err(ValueFault::Empty);
    }
    let limits = PackLimits {
        entries: limits.hash_max_listpack_entries,
        value_bytes: limits.hash_max_listpack_value,
    };
    let mut hash = Hash::default();
    for (field, value) in fields {
        check_bytes(&field, ELEMENT_BYTES_MAX)?;
        check_bytes(&value, ELEMENT_BYTES_MAX)?;
        if !hash.set(&field, &value, limits) {
            return Err(ValueFault::Duplicate(field));
        }
    }
    Ok(Value::Hash(Box::new(hash)))
}

fn check_bytes(bytes: &[u8], max: usize) -> Result<(), ValueFault> {
    if bytes.len() <= max {
        return Ok(());
    }
    Err(ValueFault::TooLong(bytes.len()))
}

#[cfg(test)]
#[path = "load/tests.rs"]
mod tests;
