//! `check-aof --fix`: cutting a log off at `P`, the end of its longest gapless prefix.
//!
//! A torn tail is cut off by the code of a start, which keeps what it cuts off in sidecar files.
//! Damage is cut off only where the operator names the LSN from which everything is given up: the
//! files concerned are copied first, and one replacement of the manifest then ends every
//! generation there. Neither shortens a file whose bytes are not kept elsewhere, on disk.
//!
//! Run again, both find nothing to do.

use crate::Progress;
use crate::check::{read_shard_base, scan_as_a_start};
use crate::rdb::RdbFileError;
use bytes::Bytes;
use moon_aof::copy::{copy_file, put_manifest};
use moon_aof::inspect::{LogFiles, SegmentFile};
use moon_aof::{
    AofOptions, RecoverError, Recovery, ReplayError, ReplaySink, ShutdownError, Storage,
};
use moon_core::{Lsn, ShardCount, ShardId, UnixMs};
use moon_manifest::AofPaths;
use moon_repl::{Clock, CommitOn};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How long the last syncs may take.
const LAST_SYNC: Duration = Duration::from_secs(60);

/// How far a fix may go.
#[derive(Clone, Copy, Debug)]
pub struct FixOptions {
    /// Everything from this position on may be given up; without it nothing durable is.
    pub accept_loss_from: Option<Lsn>,
    /// Most bytes that may be cut off.
    pub max_loss_bytes: u64,
    /// Now, for the marks of a clean end.
    pub now: UnixMs,
}

/// What a fix did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FixOutcome {
    /// A start recovers everything as it is.
    Nothing,
    /// A torn tail was cut off as a start does.
    TornTail {
        /// Where the log ends now.
        end: Lsn,
        /// File bytes that were cut off.
        bytes: u64,
        /// Where they are kept.
        kept_in: PathBuf,
    },
    /// Everything from `from` on was given up.
    GivenUp {
        /// Where the log ends now.
        from: Lsn,
        /// End of what is lost, as far as known.
        to: Lsn,
        /// Where the files are as they were.
        backup: PathBuf,
    },
}

/// Why a fix changed nothing, or did not finish. It can be run again after any of these.
#[derive(Debug, thiserror::Error)]
pub enum FixError {
    /// There is no log.
    #[error("there is no log in {}", path.display())]
    NoLog {
        /// The directory.
        path: PathBuf,
    },
    /// A server or another tool uses the directory.
    #[error("{} is in use by another process; stop the server first", path.display())]
    InUse {
        /// Its lock.
        path: PathBuf,
    },
    /// Durable data would be lost, and nobody agreed to that.
    #[error(
        "LSN {from} to {to} would be lost, {} bytes of durable writes on all shards; nothing was \
         changed. To give them up say --accept-loss-from {from}",
        to.bytes_since(*from)
    )]
    NotAccepted {
        /// First lost position.
        from: Lsn,
        /// End of what is lost, as far as known.
        to: Lsn,
    },
    /// The loss begins elsewhere than the operator thinks.
    #[error("the loss begins at LSN {from}, not at {given}; nothing was changed")]
    OtherLoss {
        /// First lost position.
        from: Lsn,
        /// What the operator named.
        given: Lsn,
    },
    /// More would be cut off than allowed.
    #[error(
        "{bytes} bytes would be cut off, more than the {max} of --max-loss-bytes; nothing was \
         changed. Look at --dump first, and raise the limit if that is what you want"
    )]
    TooMuch {
        /// Bytes concerned.
        bytes: u64,
        /// Bytes allowed.
        max: u64,
    },
    /// A base cannot be used, so a shorter log would not start either.
    #[error("cannot use {}; cutting the log off does not help", path.display())]
    Base {
        /// The base.
        path: PathBuf,
        /// Why not.
        source: RdbFileError,
    },
    /// A start refuses for a reason that cutting off does not remove.
    #[error("this cannot be fixed by cutting the log off")]
    NotFixable(#[source] RecoverError),
    /// Something could not be written or synced.
    #[error("cannot write {}", path.display())]
    Write {
        /// What.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The log could not be closed behind the cut.
    #[error("the log was cut off, but not closed cleanly; the next start recovers it")]
    Close(#[from] ShutdownError),
}

/// Cuts the log in the append-only directory `dir` off at `P` where a start would, or where
/// `options` accept the loss.
///
/// # Errors
/// [`FixError`].
pub fn fix(
    storage: &Arc<dyn Storage>,
    dir: &Path,
    options: &FixOptions,
    progress: &dyn Progress,
) -> Result<FixOutcome, FixError> {
    match scan_as_a_start(storage, dir) {
        Ok(recovery) if recovery.is_new() => Err(FixError::NoLog {
            path: dir.to_owned(),
        }),
        Ok(recovery) if recovery.summary().truncated_bytes == 0 => Ok(FixOutcome::Nothing),
        Ok(_) => cut_torn_tail(storage, dir, options, progress),
        Err(RecoverError::Damage { missing_from, .. }) => {
            give_up(storage, dir, missing_from, options, progress)
        }
        Err(error) => Err(FixError::NotFixable(error)),
    }
}

/// What a start does, without anybody's data: it keeps the tail, goes on behind the cut, and
/// stops again.
fn cut_torn_tail(
    storage: &Arc<dyn Storage>,
    dir: &Path,
    options: &FixOptions,
    progress: &dyn Progress,
) -> Result<FixOutcome, FixError> {
    check_bases(&**storage, dir, progress)?;
    let aof = AofOptions {
        dir: dir.to_owned(),
        preallocate: 0,
        ..AofOptions::default()
    };
    let (one, quiet) = (ShardCount::ONE, &moon_aof::NoProgress);
    let mut recovery = Recovery::scan(storage.clone(), &aof, None, one, quiet).map_err(start)?;
    let bytes = recovery.summary().truncated_bytes;
    limit(bytes, options)?;
    recovery.replay(&mut Nowhere, quiet).map_err(start)?;
    let end = recovery.end();
    let clock = Clock::new(recovery.shards(), end, CommitOn::Written);
    let (pool, logs) = recovery.finish(&clock).map_err(start)?;
    pool.shutdown(logs, options.now, LAST_SYNC)?;
    Ok(FixOutcome::TornTail {
        end,
        bytes,
        kept_in: AofPaths::new(dir).truncated_dir(),
    })
}

fn start(error: RecoverError) -> FixError {
    match error {
        RecoverError::InUse { path } => FixError::InUse { path },
        RecoverError::Write { path, source } => FixError::Write { path, source },
        error => FixError::NotFixable(error),
    }
}

/// A replay for its checks alone.
struct Nowhere;

impl ReplaySink for Nowhere {
    fn own(&mut self, _: ShardId, _: Lsn, _: u32, _: Bytes) -> Result<(), ReplayError> {
        Ok(())
    }

    fn cross(&mut self, _: Lsn, _: u32, _: Bytes) -> Result<(), ReplayError> {
        Ok(())
    }
}

/// Ends the log at `from`, below its durable mark.
fn give_up(
    storage: &Arc<dyn Storage>,
    dir: &Path,
    from: Lsn,
    options: &FixOptions,
    progress: &dyn Progress,
) -> Result<FixOutcome, FixError> {
    let paths = AofPaths::new(dir);
    let path = paths.lock();
    let _lock = match storage.lock(&path) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            return Err(FixError::InUse { path });
        }
        result => result.map_err(|source| FixError::Write { path, source })?,
    };
    let log = LogFiles::open(&**storage, dir)
        .map_err(FixError::NotFixable)?
        .ok_or_else(|| FixError::NoLog {
            path: dir.to_owned(),
        })?;
    let ends = log.segments().iter().filter_map(SegmentFile::range);
    let to = ends.map(|(_, end)| end).chain([log.durable()]).max();
    let to = to.unwrap_or(from).max(from);
    match options.accept_loss_from {
        None => return Err(FixError::NotAccepted { from, to }),
        Some(given) if given != from => return Err(FixError::OtherLoss { from, given }),
        Some(_) => limit(to.bytes_since(from), options)?,
    }
    check_bases(&**storage, dir, progress)?;
    let backup = back_up(&**storage, &log, from)?;
    let mut manifest = log.manifest().clone();
    manifest.cut_off_at(from);
    put_manifest(&**storage, &paths, &manifest).map_err(|source| FixError::Write {
        path: paths.manifest(),
        source,
    })?;
    Ok(FixOutcome::GivenUp { from, to, backup })
}

fn limit(bytes: u64, options: &FixOptions) -> Result<(), FixError> {
    let max = options.max_loss_bytes;
    if bytes > max {
        return Err(FixError::TooMuch { bytes, max });
    }
    Ok(())
}

/// A shorter log is of no use beside a base that does not load.
fn check_bases(storage: &dyn Storage, dir: &Path, progress: &dyn Progress) -> Result<(), FixError> {
    let log = LogFiles::open(storage, dir).map_err(FixError::NotFixable)?;
    let Some(log) = log else {
        return Ok(());
    };
    let shards = ShardCount::new(log.manifest().shard_count());
    let (Some(line), Some(shards)) = (log.manifest().newest_base(), shards) else {
        return Ok(());
    };
    for shard in shards.ids() {
        let paths = log.paths();
        if let Err(source) = read_shard_base(storage, paths, line, shard, shards, progress) {
            let path = paths.base(shard, line.seq);
            return Err(FixError::Base { path, source });
        }
    }
    Ok(())
}

/// Copies the manifest and every segment with bytes that a start would now cut off to a directory
/// beside the log, and makes the copies durable.
fn back_up(storage: &dyn Storage, log: &LogFiles, from: Lsn) -> Result<PathBuf, FixError> {
    let root = log.paths().root();
    let name = root.file_name().unwrap_or_default().to_string_lossy();
    let parent = root.parent().unwrap_or(Path::new("/"));
    let backup = AofPaths::new(parent.join(format!("{name}.before-fix-{from}")));
    let failed = |path: &Path, source| FixError::Write {
        path: path.to_owned(),
        source,
    };
    let dir = |path: &Path| storage.create_dir(path).map_err(|e| failed(path, e));
    let sync = |path: &Path| storage.sync_dir(path).map_err(|e| failed(path, e));
    let copy = |source: &Path, target: &Path| {
        copy_file(storage, source, target).map_err(|e| failed(target, e))
    };
    dir(backup.root())?;
    sync(parent)?;
    for segment in log.segments() {
        if segment.data_end() <= segment.keep_until(from) {
            continue;
        }
        let shard_dir = backup.shard_dir(segment.shard());
        dir(&shard_dir)?;
        copy(segment.path(), &backup.incr(segment.shard(), segment.seq()))?;
        sync(&shard_dir)?;
    }
    copy(&log.paths().manifest(), &backup.manifest())?;
    sync(backup.root())?;
    Ok(backup.root().to_owned())
}

impl Default for FixOptions {
    fn default() -> FixOptions {
        FixOptions {
            accept_loss_from: None,
            max_loss_bytes: 1 << 20,
            now: UnixMs::BEFORE_ALL,
        }
    }
}
