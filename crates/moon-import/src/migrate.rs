//! A source made into a new directory of this version, by `moon-server migrate-aof`.
//!
//! Everything is loaded first, so that a source with an error leaves nothing behind; then each
//! shard's keys become a base, and one manifest puts them all in force; then the bases are read
//! back and compared with what was loaded. If anything goes wrong on the way, what was written is
//! removed. The source is only read.

use crate::digest::KeyspaceDigest;
use crate::error::ImportError;
use crate::load::{ImportOptions, ImportProgress, ImportSummary, load};
use crate::source::{Source, detect, names};
use moon_aof::{
    AofOptions, FsyncPolicy, RdbFile, RdbFileInfo, RealStorage, RecoverError, Recovery,
    ShutdownError, Storage as _,
};
use moon_commands::Limits;
use moon_core::{Lsn, ShardCount, ShardId};
use moon_manifest::AofPaths;
use moon_manifest::layout::parse_shard_dir_name;
use moon_repl::{Clock, CommitOn};
use moon_store::image::encode_entry;
use moon_store::{Db, DbIndex, ShardData};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Bytes of keys handed to a base at once.
const CHUNK_BYTES: usize = 256 << 10;

/// How long the last sync may take. A disk that takes longer is one to look at first.
const LAST_SYNC: Duration = Duration::from_secs(600);

/// What is to be done.
#[derive(Clone, Debug)]
pub struct MigrateOptions {
    /// A file or directory that [`detect`] knows.
    pub from: PathBuf,
    /// The data directory; created if it is not there.
    pub to: PathBuf,
    /// Name of the append-only directory in it.
    pub appenddirname: String,
    /// Shards of the new log.
    pub shards: ShardCount,
    /// Databases; a source that has data in a higher one is refused.
    pub databases: DbIndex,
    /// How values are kept while they are loaded.
    pub limits: Limits,
    /// How the source is loaded.
    pub import: ImportOptions,
    /// The Redis version whose behaviour the data has.
    pub redis_ver: String,
}

/// Told how far it is. Writing is reported by several threads.
pub trait MigrateProgress: Sync {
    /// The source was recognised.
    fn found(&self, source: &Source);
    /// `bytes` of `total` of the source were read.
    fn reading(&self, bytes: u64, total: u64);
    /// `keys` of `total` were written.
    fn writing(&self, keys: u64, total: u64);
    /// `bytes` of `total` were read back.
    fn verifying(&self, bytes: u64, total: u64);
}

/// What was done.
#[derive(Clone, Debug)]
pub struct MigrateReport {
    /// What the source was.
    pub source: Source,
    /// What was loaded from it.
    pub summary: ImportSummary,
    /// The new append-only directory.
    pub dir: PathBuf,
    /// Keys of each database, and how many of them have a deadline.
    pub databases: Vec<(u64, u64)>,
}

/// Why nothing was migrated. The source is as it was, and the target holds nothing new.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// The source cannot be loaded.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// The target holds something.
    #[error(
        "there is something in {} already; name a directory without one, or move it away",
        path.display()
    )]
    Occupied {
        /// The append-only directory.
        path: PathBuf,
    },
    /// The target could not be created or cleared.
    #[error("cannot write {}", path.display())]
    Write {
        /// What was written.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The bases or the manifest could not be written.
    #[error("cannot write the new log")]
    Log(#[from] RecoverError),
    /// The new log could not be closed.
    #[error("cannot close the new log")]
    Close(#[from] ShutdownError),
    /// What was read back is something else than what was written.
    #[error(
        "what was read back from {} is not what was written: {read} keys and {written} keys; \
         the disk is not to be trusted",
        path.display()
    )]
    Differs {
        /// The new append-only directory.
        path: PathBuf,
        /// Keys read back.
        read: u64,
        /// Keys written.
        written: u64,
    },
}

/// Loads the source, writes a new directory, and reads it back.
///
/// # Errors
/// [`MigrateError`], with nothing left behind.
pub fn migrate(
    options: &MigrateOptions,
    progress: &dyn MigrateProgress,
) -> Result<MigrateReport, MigrateError> {
    let dir = options.to.join(&options.appenddirname);
    let source = detect(&options.from)?;
    progress.found(&source);
    expect_vacant(&dir)?;
    let empty = || -> Vec<Box<ShardData>> {
        let shards = options.shards.ids();
        shards
            .map(|id| Box::new(ShardData::new(id, options.databases, false)))
            .collect()
    };
    let read_all = |source: &Source, progress: &dyn ImportProgress| {
        load(
            source,
            empty(),
            options.shards,
            &options.limits,
            &options.import,
            progress,
        )
    };
    let (data, summary) = read_all(&source, &Reading(progress))?;
    let written = KeyspaceDigest::of(data.iter().map(|shard| &**shard));
    // Reading may have taken long, and somebody may have come in between.
    expect_vacant(&dir)?;
    let result = write(options, &dir, &data, progress).and_then(|()| {
        // One of the two at a time is in memory.
        drop(data);
        let (data, _) = read_all(&Source::V3(dir.clone()), &Verifying(progress))?;
        let read = KeyspaceDigest::of(data.iter().map(|shard| &**shard));
        if read == written {
            return Ok(());
        }
        Err(MigrateError::Differs {
            path: dir.clone(),
            read: read.keys(),
            written: written.keys(),
        })
    });
    if let Err(error) = result {
        if !is_of_others(&error) {
            remove_leftovers(&dir)?;
        }
        return Err(error);
    }
    Ok(MigrateReport {
        source,
        summary,
        dir,
        databases: written.databases,
    })
}

/// Whether the error says that what is in the target was made by somebody else meanwhile.
fn is_of_others(error: &MigrateError) -> bool {
    use RecoverError as E;
    matches!(
        error,
        MigrateError::Log(
            E::InUse { .. } | E::InForce { .. } | E::Changed { .. } | E::Unnamed { .. }
        )
    )
}

/// Refuses a target that holds anything but what an earlier attempt left that did not come to its
/// end.
fn expect_vacant(dir: &Path) -> Result<(), MigrateError> {
    let names = match names(dir) {
        Err(ImportError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            return Ok(());
        }
        result => result?,
    };
    if names.is_empty() {
        return Ok(());
    }
    let occupied = || MigrateError::Occupied {
        path: dir.to_owned(),
    };
    let paths = AofPaths::new(dir);
    let is_marked = paths.preparing().is_file() && !paths.manifest().exists();
    let is_leftover = |name: &String| {
        let path = dir.join(name);
        path == paths.preparing()
            || path == paths.lock()
            || path == paths.manifest_temp()
            || parse_shard_dir_name(name).is_some()
    };
    if !is_marked || !names.iter().all(is_leftover) {
        return Err(occupied());
    }
    // Held until the directory is gone: a server that is preparing a log holds it too.
    let _lock = RealStorage.lock(&paths.lock()).map_err(|_| occupied())?;
    remove_leftovers(dir)
}

/// Only called where the directory was found to hold nothing of anybody else.
fn remove_leftovers(dir: &Path) -> Result<(), MigrateError> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result.map_err(|source| MigrateError::Write {
            path: dir.to_owned(),
            source,
        }),
    }
}

fn write(
    options: &MigrateOptions,
    dir: &Path,
    data: &[Box<ShardData>],
    progress: &dyn MigrateProgress,
) -> Result<(), MigrateError> {
    create_durably(&options.to).map_err(|source| MigrateError::Write {
        path: options.to.clone(),
        source,
    })?;
    let aof = AofOptions {
        dir: dir.to_owned(),
        policy: FsyncPolicy::Always,
        ..AofOptions::default()
    };
    let storage = Arc::new(RealStorage);
    let recovery = Recovery::adopt(storage, &aof, options.shards)?;
    let clock = Clock::new(options.shards, Lsn::ZERO, CommitOn::Durable);
    let seconds = options.import.now.0.max(0).cast_unsigned() / 1000;
    let info = RdbFileInfo {
        redis_ver: options.redis_ver.clone(),
        ctime_s: seconds,
        used_mem_bytes: data.iter().map(|shard| shard.memory() as u64).sum(),
        ..RdbFileInfo::default()
    };
    let total = data.iter().map(|shard| shard.len() as u64).sum();
    let done = AtomicU64::new(0);
    let write_base = |shard: ShardId, file: &mut RdbFile| {
        write_keys(&data[shard.index()], file, &mut |keys| {
            progress.writing(done.fetch_add(keys, Relaxed) + keys, total);
        })
    };
    let (pool, logs) = recovery.finish_with_bases(&clock, &info, &write_base)?;
    pool.shutdown(logs, options.import.now, LAST_SYNC)?;
    Ok(())
}

/// Writes all keys of a shard, and the libraries that it has, to its base, as
/// [`Recovery::finish_with_bases`] asks for them. `wrote` is told how many keys more there are.
///
/// # Errors
/// As the disk's.
pub fn write_keys(
    shard: &ShardData,
    file: &mut RdbFile,
    wrote: &mut dyn FnMut(u64),
) -> io::Result<()> {
    for library in shard.libraries.iter() {
        file.function(&library.code)?;
    }
    for (number, db) in (0u32..).zip(&shard.dbs) {
        write_db(number, db, file, wrote)?;
    }
    Ok(())
}

fn write_db(
    number: u32,
    db: &Db,
    file: &mut RdbFile,
    wrote: &mut dyn FnMut(u64),
) -> io::Result<()> {
    let mut bytes = Vec::new();
    let mut keys = 0;
    let mut result = Ok(());
    db.for_each(&mut |key, value, deadline| {
        if result.is_err() {
            return;
        }
        encode_entry(&mut bytes, key, value, deadline);
        keys += 1;
        if bytes.len() >= CHUNK_BYTES {
            result = file.chunk(number, &bytes);
            bytes.clear();
            wrote(keys);
            keys = 0;
        }
    });
    result?;
    if keys > 0 {
        file.chunk(number, &bytes)?;
        wrote(keys);
    }
    Ok(())
}

/// Creates the directory and those above it, and makes the names durable.
fn create_durably(dir: &Path) -> io::Result<()> {
    let dir = std::path::absolute(dir)?;
    if dir.is_dir() {
        return Ok(());
    }
    let missing: Vec<&Path> = dir
        .ancestors()
        .take_while(|above| !above.is_dir())
        .collect();
    fs::create_dir_all(&dir)?;
    for created in missing {
        if let Some(above) = created.parent() {
            File::open(above)?.sync_all()?;
        }
    }
    Ok(())
}

struct Reading<'a>(&'a dyn MigrateProgress);

impl ImportProgress for Reading<'_> {
    fn read(&self, bytes: u64, total: u64) {
        self.0.reading(bytes, total);
    }
}

struct Verifying<'a>(&'a dyn MigrateProgress);

impl ImportProgress for Verifying<'_> {
    fn read(&self, bytes: u64, total: u64) {
        self.0.verifying(bytes, total);
    }
}
