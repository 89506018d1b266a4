//! Reading RDB files from one end to the other.

use moon_aof::Storage;
use moon_aof::copy::FileReader;
use moon_rdb::{RdbEntry, RdbError, RdbItem, RdbLimits, RdbReader};
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
    /// Its AUX fields, in order.
    pub aux: Vec<(String, String)>,
    /// Its length up to and with the checksum.
    pub bytes: u64,
}

/// Reads a whole base and hands every item to `take`. `cut` is the position its manifest gives
/// it. A file without a checksum is refused: every base has one.
///
/// # Errors
/// The first fault; items handed over before it must not be used.
pub fn read_base<E: From<RdbFileError>>(
    storage: &dyn Storage,
    path: &Path,
    cut: u64,
    mut take: impl FnMut(BaseItem, u64) -> Result<(), E>,
) -> Result<u64, E> {
    let limits = RdbLimits {
        require_checksum: true,
        ..RdbLimits::default()
    };
    let source = FileReader::open(storage, path).map_err(RdbFileError::Io)?;
    let file_len = source.file_len().map_err(RdbFileError::Io)?;
    let mut reader = RdbReader::with_limits(BufReader::with_capacity(WINDOW, source), limits);
    while let Some(item) = reader.next() {
        let item = item.map_err(RdbFileError::Rdb)?;
        let item = match item {
            RdbItem::Aux { key, value } => {
                check_cut(&key, &value, cut)?;
                BaseItem::Aux(key, value)
            }
            RdbItem::SelectDb(db) => BaseItem::Select(db),
            RdbItem::ResizeDb { keys, expires } => BaseItem::Resize(keys, expires),
            RdbItem::Entry(entry) => BaseItem::Entry(entry),
        };
        take(item, reader.offset())?;
    }
    let bytes = reader.offset();
    if bytes < file_len {
        let bytes = file_len - bytes;
        return Err(RdbFileError::Trailing { bytes }.into());
    }
    Ok(bytes)
}

/// One item of a base.
pub enum BaseItem {
    /// Information about the file.
    Aux(Vec<u8>, Vec<u8>),
    /// The following keys belong to this database.
    Select(u32),
    /// About how many keys follow there, and how many of them expire.
    Resize(u64, u64),
    /// A key.
    Entry(RdbEntry),
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
    while let Some(item) = reader.next() {
        let item = match item? {
            RdbItem::Aux { key, value } => BaseItem::Aux(key, value),
            RdbItem::Entry(entry) => BaseItem::Entry(entry),
            _ => continue,
        };
        summary.add(item);
    }
    summary.bytes = reader.offset();
    Ok(summary)
}

impl RdbSummary {
    /// Counts an item in.
    pub fn add(&mut self, item: BaseItem) {
        match item {
            BaseItem::Aux(key, value) => {
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                self.aux.push((text(&key), text(&value)));
            }
            BaseItem::Entry(entry) => {
                self.keys += 1;
                self.expires += u64::from(entry.deadline.is_some());
                *self.databases.entry(entry.db).or_default() += 1;
            }
            BaseItem::Select(_) | BaseItem::Resize(..) => {}
        }
    }
}
