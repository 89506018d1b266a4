//! Changing the number of shards of a directory that nobody serves.
//!
//! The order is what makes it safe (`manifest-switch-is-atomic`):
//!
//! 1. A manifest says `preparing G`. From now on a start deletes files of generation `G`.
//! 2. The whole log, base and stream, is copied to generation `G` with the new number of shards
//!    ([`stream`](crate::stream)), and synced.
//! 3. One manifest puts generation `G` and the new number in force. Before that rename the old
//!    log tells everything, after it the new one does.
//! 4. The old files are removed.
//!
//! History, replication ids, positions and times stay: for a replica nothing has happened.

use crate::Progress;
use crate::check::scan_as_a_start;
use crate::stream::{Copied, CopyError, Source, Target, copy};
use moon_aof::copy::put_manifest;
use moon_aof::inspect::LogFiles;
use moon_aof::{RecoverError, Storage, failpoint};
use moon_core::{Generation, Lsn, ShardCount, ShardId};
use moon_manifest::layout::{parse_file_name, parse_shard_dir_name};
use moon_manifest::{AofManifest, AofPaths, BaseLine, IncrLine, ShardManifest};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What became of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReshardOutcome {
    /// It has that many shards already; nothing was changed.
    Same,
    /// It has another number of shards now.
    Done(ReshardSummary),
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReshardSummary {
    /// Shards before.
    pub from: ShardCount,
    /// Shards now.
    pub to: ShardCount,
    /// What was copied.
    pub copied: Copied,
    /// File bytes of a torn tail that were cut off as a start does.
    pub truncated_bytes: u64,
    /// Superseded generations that were kept for restoring, and went with the old shards.
    pub dropped_bases: usize,
    /// Old files that could not be removed; the next start tries again.
    pub left_over: Vec<PathBuf>,
}

/// Why a directory keeps its number of shards. The old log is in force after any of these.
#[derive(Debug, thiserror::Error)]
pub enum ReshardError {
    /// There is no log.
    #[error("there is no log in {}; a start makes one with any number of shards", path.display())]
    NoLog {
        /// The directory.
        path: PathBuf,
    },
    /// The log is of an earlier version.
    #[error(
        "{} is of an earlier version; moon-server migrate-aof brings it to this one, with any \
         number of shards",
        path.display()
    )]
    Legacy {
        /// The directory.
        path: PathBuf,
    },
    /// A server or another tool uses the directory.
    #[error("{} is in use by another process; stop the server first", path.display())]
    InUse {
        /// Its lock.
        path: PathBuf,
    },
    /// A start would refuse the log.
    #[error("a start would refuse this log, so it is not changed; see moon-server check-aof")]
    Refused(#[source] RecoverError),
    /// The log cannot be copied.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// A manifest or directory cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// What.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// Gives the append-only directory `dir` the number of shards `to`. A torn tail is cut off and
/// kept as a start does it.
///
/// # Errors
/// [`ReshardError`]. It can be run again after any of them, and after a crash.
pub fn reshard(
    storage: &Arc<dyn Storage>,
    dir: &Path,
    to: ShardCount,
    progress: &dyn Progress,
) -> Result<ReshardOutcome, ReshardError> {
    let paths = AofPaths::new(dir);
    let no_log = || ReshardError::NoLog {
        path: dir.to_owned(),
    };
    // Before a lock would be created where there is nothing to lock.
    if storage.list(dir).is_err() {
        return Err(no_log());
    }
    let _lock = lock(&**storage, &paths)?;
    let recovery = scan_as_a_start(storage, dir).map_err(|error| match error {
        RecoverError::Legacy { path } => ReshardError::Legacy { path },
        error => ReshardError::Refused(error),
    })?;
    if recovery.is_new() {
        return Err(no_log());
    }
    let (from, end) = (recovery.shards(), recovery.end());
    if from == to {
        // It may be so by a run whose last sync failed.
        let synced = storage.sync_dir(dir);
        synced.map_err(|source| ReshardError::Write {
            path: dir.to_owned(),
            source,
        })?;
        return Ok(ReshardOutcome::Same);
    }
    let truncated_bytes = recovery.summary().truncated_bytes;
    recovery.write_sidecars().map_err(ReshardError::Refused)?;
    drop(recovery);
    let log = LogFiles::open(&**storage, dir)
        .map_err(ReshardError::Refused)?
        .ok_or_else(no_log)?;
    let mut work = Work {
        storage: &**storage,
        log: &log,
        end,
        target: Target {
            seq: log.manifest().seq,
            shards: to,
            history: log.manifest().history,
            paths,
        },
    };
    work.target.seq = work.next_generation()?;
    work.prepare()?;
    let copied = match work.copy(progress) {
        Ok(copied) => copied,
        Err(error) => {
            work.give_up();
            return Err(error);
        }
    };
    work.switch(&copied)?;
    failpoint::hit("reshard-after-manifest");
    Ok(ReshardOutcome::Done(ReshardSummary {
        from,
        to,
        copied,
        truncated_bytes,
        dropped_bases: log.manifest().bases.len().saturating_sub(1),
        left_over: work.remove_old(),
    }))
}

fn lock(storage: &dyn Storage, paths: &AofPaths) -> Result<Box<dyn Send + Sync>, ReshardError> {
    let path = paths.lock();
    match storage.lock(&path) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            Err(ReshardError::InUse { path })
        }
        result => result.map_err(|source| ReshardError::Write { path, source }),
    }
}

struct Work<'a> {
    storage: &'a dyn Storage,
    log: &'a LogFiles,
    /// The recovered end.
    end: Lsn,
    target: Target,
}

impl Work<'_> {
    /// A generation number that no file has: an interrupted run before this one may have taken
    /// some.
    fn next_generation(&self) -> Result<Generation, ReshardError> {
        let manifest = self.log.manifest();
        let on_disk = self.files(|_| true)?;
        let on_disk = on_disk.iter().filter_map(|path| {
            let name = path.file_name()?.to_str()?;
            parse_file_name(name).map(|(_, seq)| seq)
        });
        let highest = on_disk
            .chain(manifest.preparing)
            .chain([manifest.seq])
            .max();
        Ok(highest.unwrap_or(manifest.seq).next())
    }

    /// Removes what an interrupted run has left, and says that this one begins.
    fn prepare(&self) -> Result<(), ReshardError> {
        let before = self.log.manifest();
        if let Some(left) = before.preparing {
            for path in self.files(|seq| seq == left)? {
                let removed = self.storage.remove(&path);
                removed.map_err(|source| ReshardError::Write { path, source })?;
            }
            for shard in self.shard_dirs()? {
                let path = self.target.paths.shard_dir(shard);
                let synced = self.storage.sync_dir(&path);
                synced.map_err(|source| ReshardError::Write { path, source })?;
            }
        }
        self.put(&AofManifest {
            preparing: Some(self.target.seq),
            ..before.clone()
        })?;
        failpoint::hit("reshard-preparing");
        Ok(())
    }

    fn copy(&self, progress: &dyn Progress) -> Result<Copied, ReshardError> {
        let source = Source {
            log: self.log,
            base: self.log.manifest().newest_base(),
            upto: self.end,
        };
        let copied = copy(self.storage, &source, &self.target, progress)?;
        // The merge that found the end has found it again.
        if copied.end != self.end {
            let (from, next) = (copied.end, None);
            return Err(CopyError::Missing { from, next }.into());
        }
        Ok(copied)
    }

    /// The step that decides.
    fn switch(&self, copied: &Copied) -> Result<(), ReshardError> {
        failpoint::hit("reshard-before-manifest");
        let seq = self.target.seq;
        let before = self.log.manifest();
        let base = before.newest_base();
        let shards = self.target.shards.ids().zip(&copied.max_lsn);
        self.put(&AofManifest {
            seq,
            bases: base
                .map(|base| BaseLine { seq, cut: base.cut })
                .into_iter()
                .collect(),
            // All of it is synced, so the end says the truth: nothing below it can be missing.
            // The next start begins a fresh generation behind it.
            incrs: vec![IncrLine {
                seq,
                first: copied.start,
                end: Some(copied.end),
            }],
            shards: shards
                .map(|(shard, max_lsn)| ShardManifest {
                    shard_id: shard.0,
                    max_lsn: max_lsn.0,
                })
                .collect(),
            preparing: None,
            ..before.clone()
        })
        // Nothing is removed after a failure here: either manifest may be the one in force.
    }

    fn put(&self, manifest: &AofManifest) -> Result<(), ReshardError> {
        let paths = &self.target.paths;
        put_manifest(self.storage, paths, manifest).map_err(|source| ReshardError::Write {
            path: paths.manifest(),
            source,
        })
    }

    /// Frees what an unfinished copy takes, so that it is not that which keeps a disk full. What
    /// cannot be removed is left to the next run or start.
    fn give_up(&self) {
        let seq = self.target.seq;
        let mut clean = true;
        for path in self.files(|found| found == seq).unwrap_or_default() {
            clean &= self.storage.remove(&path).is_ok();
        }
        // Before the manifest forgets them: a removal that a power loss takes back would leave files
        // that belong to nobody.
        for shard in self.shard_dirs().unwrap_or_default() {
            let dir = self.target.paths.shard_dir(shard);
            clean &= self.storage.sync_dir(&dir).is_ok();
        }
        self.remove_shard_dirs(self.log.manifest().shard_count());
        if clean && self.log.manifest().preparing.is_none() {
            drop(self.put(self.log.manifest()));
        }
    }

    /// Removes the generations before. The new one is in force and synced.
    fn remove_old(&self) -> Vec<PathBuf> {
        let mut left_over = Vec::new();
        for path in self.files(|seq| seq < self.target.seq).unwrap_or_default() {
            failpoint::hit("reshard-mid-delete");
            if self.storage.remove(&path).is_err() {
                left_over.push(path);
            }
        }
        self.remove_shard_dirs(self.target.shards.get());
        left_over
    }

    /// Removes the directories of shards from `count` on, as far as they are empty.
    fn remove_shard_dirs(&self, count: u16) {
        for shard in self.shard_dirs().unwrap_or_default() {
            if shard.0 < count {
                continue;
            }
            let dir = self.target.paths.shard_dir(shard);
            // Removed names first, so that no power loss brings back half of them.
            if self.storage.sync_dir(&dir).is_ok() {
                drop(self.storage.remove_dir(&dir));
            }
        }
        drop(self.storage.sync_dir(self.target.paths.root()));
    }

    fn shard_dirs(&self) -> Result<Vec<ShardId>, ReshardError> {
        let root = self.target.paths.root();
        let names = self.storage.list(root).map_err(read_error(root))?;
        let mut shards: Vec<ShardId> = names
            .iter()
            .filter_map(|name| parse_shard_dir_name(name))
            .collect();
        shards.sort_unstable();
        Ok(shards)
    }

    /// Bases and segments of the generations that are `wanted`, in every shard's directory.
    fn files(&self, wanted: impl Fn(Generation) -> bool) -> Result<Vec<PathBuf>, ReshardError> {
        let mut files = Vec::new();
        for shard in self.shard_dirs()? {
            let dir = self.target.paths.shard_dir(shard);
            for name in self.storage.list(&dir).map_err(read_error(&dir))? {
                if parse_file_name(&name).is_some_and(|(_, seq)| wanted(seq)) {
                    files.push(dir.join(name));
                }
            }
        }
        files.sort();
        Ok(files)
    }
}

fn read_error(path: &Path) -> impl Fn(io::Error) -> ReshardError + '_ {
    move |source| {
        ReshardError::Refused(RecoverError::Read {
            path: path.to_owned(),
            source,
        })
    }
}
