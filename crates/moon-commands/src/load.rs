//! Loading: the keys of an RDB file put into the shards that own them.
//!
//! A file is a base of one shard, or a dump of everything; both go through [`load_rdb`]. What a
//! server could not have written is refused with its name: a key of a shard that is not in hand,
//! a database that there is not, a key, field or member that comes twice. Items are put where
//! they belong as they are read, so an error in the middle, or in the checksum at the very end,
//! leaves shards half full: **after an error nothing that was loaded may be used.**

use crate::context::Limits;
use crate::shard_set::ShardSet;
use batch::Batch;
use moon_core::{ShardCount, ShardId, UnixMs};
use moon_rdb::{
    RdbEntry, RdbEntryRef, RdbError, RdbFault, RdbItemRef, RdbLimits, RdbReadValue, RdbReader,
};
use moon_store::libraries::MetadataError;
use moon_store::stream::StreamFault;
use moon_store::{Change, Db, DbIndex, Deadline, Key, Library, ShardData, Value};
use std::fmt;
use std::io::Read;
use values::{ValueFault, owned_value, read_value};

mod batch;
pub(crate) mod values;

/// Bytes read between two reports of progress.
const PROGRESS_BYTES: u64 = 1 << 20;

/// Keys that one file is believed to hold before they have come: their empty table takes some
/// 200 MB of addresses, of which a small part is touched.
const ROOM_KEYS_MAX: u64 = 4 << 20;

/// Room for fewer keys is not worth making ahead.
const ROOM_KEYS_MIN: usize = 1024;

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
    /// A list, set, hash or sorted set without elements.
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
    /// The score of a member of a sorted set is not a number.
    #[error(
        "key {} of database {db} gives {} a score that is not a number",
        Shown(key),
        Shown(member)
    )]
    NoScore {
        /// The database.
        db: u32,
        /// The key.
        key: Vec<u8>,
        /// The member.
        member: Vec<u8>,
    },
    /// A stream that no command could have made.
    #[error("key {} of database {db} is a stream with {fault}", Shown(key))]
    Stream {
        /// The database.
        db: u32,
        /// The key.
        key: Vec<u8>,
        /// What is wrong with it.
        fault: StreamFault,
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
    /// A library of functions without a name.
    #[error("the functions that begin with {}", Shown(head))]
    Functions {
        /// The first line of their code, which should name engine and library.
        head: Vec<u8>,
        /// What is wrong with it.
        source: MetadataError,
    },
    /// A library of functions comes twice.
    #[error("the library of functions {name} comes twice")]
    DuplicateLibrary {
        /// Its name.
        name: String,
    },
    /// Libraries of functions in the base of a shard that does not keep them.
    #[error("libraries of functions belong to another shard")]
    FunctionsOfOtherShard,
    /// The file says which LSN it was cut at, but not in digits.
    #[error("the file's cut LSN is {}, which is no number", Shown(text))]
    BadCutLsn {
        /// What it says.
        text: Vec<u8>,
    },
}

impl LoadError {
    fn function(code: &[u8], source: MetadataError) -> LoadError {
        let head = code.split(|byte| *byte == b'\n').next();
        let head = head.unwrap_or_default().to_vec();
        LoadError::Functions { head, source }
    }
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
    let place = Place {
        db: entry.db,
        key: &entry.key,
        deadline: entry.deadline.map(UnixMs),
    };
    let (shard, index) = place.find(&mut shards, shard_count.shard_of_key(place.key))?;
    let value = owned_value(&entry.value, limits).map_err(|fault| place.fault(fault))?;
    place.store(shard.db(index), Key::new(place.key), value)
}

/// Where a value goes.
struct Place<'a> {
    db: u32,
    key: &'a [u8],
    deadline: Deadline,
}

impl Place<'_> {
    /// The database of the shard in hand that the key belongs to, and its index.
    #[inline]
    fn find<'s>(
        &self,
        shards: &'s mut ShardSet<'_>,
        owner: ShardId,
    ) -> Result<(&'s mut ShardData, DbIndex), LoadError> {
        let Some(shard) = shards.get(owner) else {
            return Err(LoadError::WrongShard { key: self.key() });
        };
        match database(shard, self.db) {
            Some(index) => Ok((shard, index)),
            None => Err(LoadError::NoSuchDatabase {
                db: self.db,
                databases: shard.dbs.len(),
                key: self.key(),
            }),
        }
    }

    /// Stores the value, unless the key is there.
    #[inline]
    fn store(&self, database: &mut Db, key: Key<'_>, value: Value) -> Result<(), LoadError> {
        let is_new = database.update(key, |there, _| match there {
            Some(_) => (Change::Keep, false),
            None => (Change::Store(value, self.deadline), true),
        });
        if is_new {
            return Ok(());
        }
        let key = self.key();
        Err(LoadError::DuplicateKey { db: self.db, key })
    }

    fn fault(&self, fault: ValueFault) -> LoadError {
        let (db, key) = (self.db, self.key());
        match fault {
            ValueFault::Empty => LoadError::Empty { db, key },
            ValueFault::Duplicate(element) => LoadError::DuplicateElement { db, key, element },
            ValueFault::TooLong(bytes) => LoadError::TooLong { db, key, bytes },
            ValueFault::NoScore(member) => LoadError::NoScore { db, key, member },
            ValueFault::Stream(fault) => LoadError::Stream { db, key, fault },
        }
    }

    fn key(&self) -> Vec<u8> {
        self.key.to_vec()
    }
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
    shards: ShardSet<'_>,
    shard_count: ShardCount,
    source: impl Read,
    rdb_limits: RdbLimits,
    limits: &Limits,
    expired: LoadExpired,
    progress: &mut dyn FnMut(u64),
) -> Result<LoadSummary, LoadError> {
    let mut loader = Loader {
        shards,
        shard_count,
        limits,
        batches: shard_count.ids().map(|_| Batch::default()).collect(),
        db: 0,
        room_left: ROOM_KEYS_MAX,
        summary: LoadSummary::default(),
    };
    let mut reader = RdbReader::with_limits(source, rdb_limits);
    let mut next_progress = PROGRESS_BYTES;
    while let Some(item) = reader.next_ref() {
        match item.map_err(unsupported)? {
            RdbItemRef::Aux { key, value } => aux(&mut loader.summary, key, value)?,
            RdbItemRef::SelectDb(db) => loader.select(db)?,
            RdbItemRef::ResizeDb { keys, .. } => loader.reserve(keys),
            RdbItemRef::Function(code) => loader.function(code)?,
            RdbItemRef::Entry(entry) if has_expired(&entry, expired) => {
                loader.summary.expired += 1;
            }
            RdbItemRef::Entry(entry) => loader.entry(&entry)?,
        }
        if reader.offset() >= next_progress {
            progress(reader.offset());
            next_progress = reader.offset() + PROGRESS_BYTES;
        }
    }
    loader.flush()?;
    let mut summary = loader.summary;
    summary.bytes = reader.offset();
    progress(summary.bytes);
    Ok(summary)
}

/// Where the entries of one file go.
struct Loader<'a> {
    shards: ShardSet<'a>,
    shard_count: ShardCount,
    limits: &'a Limits,
    /// Short strings that wait, per shard; all of the selected database.
    batches: Vec<Batch>,
    /// The selected database.
    db: u32,
    /// Keys that the file can still make room for.
    room_left: u64,
    summary: LoadSummary,
}

impl Loader<'_> {
    fn select(&mut self, db: u32) -> Result<(), LoadError> {
        self.flush()?;
        self.db = db;
        Ok(())
    }

    fn function(&mut self, code: &[u8]) -> Result<(), LoadError> {
        let library = Library::new(code).map_err(|source| LoadError::function(code, source))?;
        let shard = self.shards.get(ShardId(0));
        let shard = shard.ok_or(LoadError::FunctionsOfOtherShard)?;
        if shard.libraries.get(&library.name).is_some() {
            let name = library.name.to_string();
            return Err(LoadError::DuplicateLibrary { name });
        }
        shard.libraries.insert(library);
        Ok(())
    }

    /// Makes room for the keys that the file promises, as far as it can be believed.
    fn reserve(&mut self, keys: u64) {
        let keys = keys.min(self.room_left);
        self.room_left -= keys;
        // The base of one shard holds its keys only.
        let parts = match &self.shards {
            ShardSet::One(_) => 1,
            ShardSet::Many { count, .. } => u64::from(count.get()),
        };
        let share = usize::try_from(keys / parts).unwrap_or(0);
        for shard in self.shards.iter() {
            if share >= ROOM_KEYS_MIN
                && let Some(index) = database(shard, self.db)
            {
                shard.db(index).reserve(share);
            }
        }
    }

    fn entry(&mut self, entry: &RdbEntryRef<'_>) -> Result<(), LoadError> {
        self.summary.keys += 1;
        let place = Place {
            db: entry.db,
            key: entry.key,
            deadline: entry.deadline.map(UnixMs),
        };
        let owner = self.shard_count.shard_of_key(place.key);
        let (shard, index) = place.find(&mut self.shards, owner)?;
        let batch = &mut self.batches[owner.index()];
        if let RdbReadValue::String(string) = entry.value
            && batch.admits(place.key, string)
        {
            batch.push(place.key, place.deadline, string);
            return match batch.is_full() {
                true => batch.flush(shard, self.db, index),
                false => Ok(()),
            };
        }
        let value = read_value(entry.value, self.limits).map_err(|fault| place.fault(fault))?;
        place.store(shard.db(index), Key::new(place.key), value)
    }

    /// Puts everything that waits where it belongs.
    fn flush(&mut self) -> Result<(), LoadError> {
        // A database that there is not has nothing waiting for it.
        let Ok(index) = DbIndex::try_from(self.db) else {
            return Ok(());
        };
        for (id, batch) in self.shard_count.ids().zip(&mut self.batches) {
            if let Some(shard) = self.shards.get(id)
                && database(shard, self.db).is_some()
            {
                batch.flush(shard, self.db, index)?;
            }
        }
        Ok(())
    }
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

fn has_expired(entry: &RdbEntryRef<'_>, expired: LoadExpired) -> bool {
    match (expired, entry.deadline) {
        (LoadExpired::Drop(now), Some(deadline)) => deadline <= now.0,
        _ => false,
    }
}

/// Takes note of what the file says about itself. Names that mean nothing here are ignored.
fn aux(summary: &mut LoadSummary, key: &[u8], value: &[u8]) -> Result<(), LoadError> {
    use moon_rdb::format::{AUX_AOF_BASE, AUX_CTIME, AUX_CUT_LSN, AUX_REDIS_VER};
    if key == AUX_CUT_LSN {
        match number(value) {
            Some(lsn) => summary.cut_lsn = Some(lsn),
            None => {
                return Err(LoadError::BadCutLsn {
                    text: value.to_vec(),
                });
            }
        }
    } else if key == AUX_REDIS_VER {
        summary.redis_ver = Some(String::from_utf8_lossy(value).into_owned());
    } else if key == AUX_CTIME {
        summary.ctime_s = number(value);
    } else if key == AUX_AOF_BASE {
        summary.aof_base = value == b"1";
    }
    Ok(())
}

fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
#[path = "load/tests.rs"]
mod tests;
