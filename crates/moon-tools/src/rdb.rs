//! Reading RDB files from one end to the other.

use moon_aof::Storage;
use moon_aof::copy::FileReader;
use moon_rdb::encode::{self, ValueKind};
use moon_rdb::stream::{self, StreamForm};
use moon_rdb::value::{RdbEntryRef, RdbItemRef, RdbReadValue};
use moon_rdb::{RdbError, RdbLimits, RdbReader};
use std::collections::BTreeMap;
use std::io::{self, BufReader};
use std::path::Path;

/// Bytes read at once.
const WINDOW: usize = 256 << 10;

/// Why an RDB file is not usable.
#[derive(Debug, thiserror::Error)]
pub enum RdbFileError {
    /// It cannot be opened or read.
    #[error("cannot read it")]
    Io(#[from] io::Error),
    /// It holds something else than an RDB file does.
    #[error(transparent)]
    Rdb(#[from] RdbError),
    /// It says that it is the state at another position than the manifest says.
    #[error("it is the state at LSN {found}, where the manifest says {expected}")]
    Cut {
        /// What the file says.
        found: u64,
        /// What the manifest says.
        expected: u64,
    },
    /// It holds a key that belongs to another shard.
    #[error("the key \"{key}\" belongs to another shard")]
    WrongShard {
        /// The key, escaped.
        key: String,
    },
    /// It holds a library of functions, and is not the base of the first shard, which has them.
    #[error("it holds a library of functions, which belongs to the first shard")]
    Function,
    /// Bytes follow behind its checksum.
    #[error("{bytes} bytes follow behind its end")]
    Trailing {
        /// How many.
        bytes: u64,
    },
}

/// What one RDB file holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RdbSummary {
    /// Keys of all databases.
    pub keys: u64,
    /// Of these, keys with a deadline.
    pub expires: u64,
    /// Keys per database.
    pub databases: BTreeMap<u32, u64>,
    /// Libraries of functions.
    pub functions: u64,
    /// Its AUX fields, in order.
    pub aux: Vec<(String, String)>,
    /// Its length up to and with the checksum.
    pub bytes: u64,
}

/// Reads a whole base and hands every item to `take`, with the file bytes read so far. `cut` is
/// the position its manifest gives it. A file without a checksum is refused: every base has one.
///
/// # Errors
/// The first fault; items handed over before it must not be used.
pub fn read_base<E: From<RdbFileError>>(
    storage: &dyn Storage,
    path: &Path,
    cut: u64,
    mut take: impl FnMut(RdbItemRef<'_>, u64) -> Result<(), E>,
) -> Result<u64, E> {
    let source = FileReader::open(storage, path).map_err(RdbFileError::Io)?;
    let file_len = source.file_len().map_err(RdbFileError::Io)?;
    let source = BufReader::with_capacity(WINDOW, source);
    let mut reader = RdbReader::with_limits(source, RdbLimits::own());
    loop {
        // Bytes before the item: the item itself borrows the reader.
        let at = reader.offset();
        let Some(item) = reader.next_ref() else {
            break;
        };
        let item = item.map_err(RdbFileError::Rdb)?;
        if let RdbItemRef::Aux { key, value } = item {
            check_cut(key, value, cut)?;
        }
        take(item, at)?;
    }
    let bytes = reader.offset();
    if bytes < file_len {
        let bytes = file_len - bytes;
        return Err(RdbFileError::Trailing { bytes }.into());
    }
    Ok(bytes)
}

/// The bytes of one key as they stand in a file.
pub fn encode_entry(out: &mut Vec<u8>, entry: &RdbEntryRef<'_>) {
    let kind = match entry.value {
        RdbReadValue::String(_) => ValueKind::String,
        RdbReadValue::List(_) => ValueKind::List,
        RdbReadValue::Set(_) => ValueKind::Set,
        RdbReadValue::Hash(_) => ValueKind::Hash,
        RdbReadValue::VolatileHash(_) => ValueKind::VolatileHash,
        RdbReadValue::ZSet(_) => ValueKind::ZSet,
        RdbReadValue::Stream(_) => ValueKind::Stream,
    };
    encode::entry_head(out, kind, entry.key, entry.deadline);
    match entry.value {
        RdbReadValue::String(bytes) => encode::string(out, bytes),
        RdbReadValue::List(elements) | RdbReadValue::Set(elements) => {
            encode::len(out, elements.iter().count() as u64);
            elements
                .iter()
                .for_each(|element| encode::string(out, element));
        }
        RdbReadValue::Hash(fields) => {
            encode::len(out, fields.pairs().count() as u64);
            for (field, value) in fields.pairs() {
                encode::string(out, field);
                encode::string(out, value);
            }
        }
        RdbReadValue::VolatileHash(fields) => {
            let first = fields.iter().filter_map(|(_, _, at)| at).min();
            let first = first.unwrap_or_default();
            encode::millis(out, first);
            encode::len(out, fields.iter().len() as u64);
            for (field, value, deadline) in fields.iter() {
                encode::field_deadline(out, deadline, first);
                encode::string(out, field);
                encode::string(out, value);
            }
        }
        RdbReadValue::ZSet(members) => {
            encode::len(out, members.scored().count() as u64);
            for (member, score) in members.scored() {
                encode::string(out, member);
                encode::score(out, score);
            }
        }
        RdbReadValue::Stream(value) => {
            let form = StreamForm::of_images();
            stream::encode(out, value, form, None);
        }
    }
}

fn check_cut(key: &[u8], value: &[u8], expected: u64) -> Result<(), RdbFileError> {
    if key != moon_rdb::format::AUX_CUT_LSN {
        return Ok(());
    }
    let found = std::str::from_utf8(value).ok().and_then(|v| v.parse().ok());
    match found {
        Some(found) if found == expected => Ok(()),
        found => Err(RdbFileError::Cut {
            found: found.unwrap_or(u64::MAX),
            expected,
        }),
    }
}

/// Reads a whole RDB file of any origin; bytes behind its end are the caller's to judge.
///
/// # Errors
/// The first fault.
pub fn summarize(storage: &dyn Storage, path: &Path) -> Result<RdbSummary, RdbFileError> {
    let source = FileReader::open(storage, path)?;
    let mut reader = RdbReader::new(BufReader::with_capacity(WINDOW, source));
    let mut summary = RdbSummary::default();
    while let Some(item) = reader.next_ref() {
        summary.add(item?);
    }
    summary.bytes = reader.offset();
    Ok(summary)
}

impl RdbSummary {
    /// Counts an item in.
    pub fn add(&mut self, item: RdbItemRef<'_>) {
        match item {
            RdbItemRef::Aux { key, value } => {
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                self.aux.push((text(key), text(value)));
            }
            RdbItemRef::Entry(entry) => {
                self.keys += 1;
                self.expires += u64::from(entry.deadline.is_some());
                *self.databases.entry(entry.db).or_default() += 1;
            }
            RdbItemRef::Function(_) => self.functions += 1,
            RdbItemRef::SelectDb(_) | RdbItemRef::ResizeDb { .. } => {}
        }
    }
}
