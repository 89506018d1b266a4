//! Starting a log from a state that does not come from one: a new directory, one of version 1 or
//! 2, a log that `appendonly no` closed while a newer dump exists, or a server that runs without a
//! log and is told to have one.
//!
//! The state arrives as bases. Until a manifest names them, whatever was in force before stays in
//! force, and nothing in the new files counts: a manifest of version 3 says so with its
//! `preparing` line, in all other directories a marker file does. The new log is a history of its
//! own: nobody may go on from a position of the one before.

use super::finish::write_error;
use super::unnamed::holds_frames;
use super::{Recovery, list, read_manifest_file};
use crate::AofOptions;
use crate::error::RecoverError;
use crate::failpoint;
use crate::handle::DirLock;
use crate::log::ShardLog;
use crate::manifest_file::ManifestFile;
use crate::pool::AofWriterPool;
use crate::rdb_file::{RdbFile, RdbFileInfo};
use crate::rewrite::Rewrite;
use crate::status::RecoverySummary;
use crate::storage::{Storage, write_new};
use moon_core::{Generation, Lsn, ShardCount, ShardId};
use moon_manifest::layout::{PREPARING_FILE_NAME, parse_file_name, parse_shard_dir_name};
use moon_manifest::{
    AofLayout, AofManifest, AofPaths, BaseLine, FileKind, ManifestVersion,
    is_legacy_top_level_layout,
};
use moon_repl::Clock;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// What was in force in the directory before.
pub(super) struct Before {
    pub(super) manifest: AofManifest,
    pub(super) bytes: Vec<u8>,
}

impl Recovery {
    /// Takes a directory whose state the caller has loaded from elsewhere, for
    /// [`finish_with_bases`](Recovery::finish_with_bases): one that is new, that has the layout of
    /// version 1 or 2, or whose log was closed by `appendonly no`. Changes nothing. A new
    /// directory that was scanned can be finished with bases as well.
    ///
    /// # Errors
    /// [`RecoverError::InForce`] if the directory holds a log that was not closed; else as
    /// [`scan`](Recovery::scan).
    pub fn adopt(
        storage: Arc<dyn Storage>,
        options: &AofOptions,
        shards: ShardCount,
    ) -> Result<Recovery, RecoverError> {
        let recovery = Recovery::adopt_any(storage, options, shards)?;
        match &recovery.before {
            Some(before)
                if before.manifest.version == ManifestVersion::V3
                    && before.manifest.closed_at.is_none() =>
            {
                let path = recovery.paths.manifest();
                Err(RecoverError::InForce { path })
            }
            _ => Ok(recovery),
        }
    }

    fn adopt_any(
        storage: Arc<dyn Storage>,
        options: &AofOptions,
        shards: ShardCount,
    ) -> Result<Recovery, RecoverError> {
        let paths = AofPaths::new(&options.dir);
        let names = list(&*storage, paths.root())?;
        let before = read_manifest_file(&*storage, &paths)?;
        if before.is_none() && is_legacy_top_level_layout(None, &names) {
            let path = paths.root().to_owned();
            return Err(RecoverError::Legacy { path });
        }
        let mut recovery = Recovery {
            storage,
            options: options.clone(),
            paths,
            shards,
            manifest: None,
            before: before.map(|(manifest, bytes)| Before { manifest, bytes }),
            segments: Vec::new(),
            unnamed: Vec::new(),
            superseded: Vec::new(),
            preparing: Vec::new(),
            marker: names.iter().any(|name| name == PREPARING_FILE_NAME),
            base_bytes: 0,
            start: Lsn::ZERO,
            end: Lsn::ZERO,
            unproven_from: Lsn::ZERO,
            summary: RecoverySummary::default(),
            replayed: true,
        };
        recovery.find_leftovers(&names)?;
        Ok(recovery)
    }

    /// Files above the generation in force: left by an attempt that did not come to its end. What
    /// holds data counts as such only where it is known that somebody was preparing.
    fn find_leftovers(&mut self, names: &[String]) -> Result<(), RecoverError> {
        let manifest = self.before.as_ref().map(|before| &before.manifest);
        let seq = manifest.map_or(Generation(0), |manifest| manifest.seq);
        let preparing = manifest.and_then(|manifest| manifest.preparing);
        let current = manifest.is_some_and(|m| m.version == ManifestVersion::V3);
        for shard in names.iter().filter_map(|name| parse_shard_dir_name(name)) {
            let dir = self.paths.shard_dir(shard);
            for name in list(&*self.storage, &dir)? {
                let Some((kind, of)) = parse_file_name(&name).filter(|(_, of)| *of > seq) else {
                    continue;
                };
                let path = dir.join(name);
                let prepared = preparing == Some(of) || (self.marker && !current);
                let counts =
                    !prepared && (kind == FileKind::Base || holds_frames(&*self.storage, &path)?);
                if counts {
                    return Err(RecoverError::Unnamed { path });
                }
                self.preparing.push(path);
            }
        }
        Ok(())
    }

    /// As [`finish`](Recovery::finish), for a state that does not come from a log of this version:
    /// has `write_base` write every shard's keys to its base, in parallel, and makes a manifest
    /// durable that names the bases as the state at [`end`](Recovery::end). Before that manifest
    /// the old state is in force; what it supersedes is removed afterwards. `info.aof_base` and
    /// `info.cut_lsn` are set here.
    ///
    /// # Errors
    /// If anything cannot be written or synced, or there is a log to be replayed
    /// ([`RecoverError::InForce`]).
    pub fn finish_with_bases(
        mut self,
        clock: &Arc<Clock>,
        info: &RdbFileInfo,
        write_base: &(dyn Fn(ShardId, &mut RdbFile) -> io::Result<()> + Sync),
    ) -> Result<(AofWriterPool, Vec<ShardLog>), RecoverError> {
        if self.manifest.is_some() {
            let path = self.paths.manifest();
            return Err(RecoverError::InForce { path });
        }
        self.check_clock(clock)?;
        let lock = self.take_directory()?;
        let seq = self.prepare()?;
        let written = self.write_bases(seq, info, write_base).inspect_err(|_| {
            // It should not be that which keeps a disk full.
            for shard in self.shards.ids() {
                self.remove(&self.paths.base(shard, seq));
            }
        });
        let file = self.fresh_history(seq)?;
        let cut = self.end;
        let named = written.and_then(|bytes| {
            self.base_bytes = bytes;
            failpoint::hit("recovery-before-manifest");
            let fresh = file.start_generation(cut, None, |manifest| {
                manifest.bases.push(BaseLine { seq, cut });
            });
            fresh.map_err(|source| write_error(self.paths.root(), source))
        });
        // After an error the marker or the `preparing` line stays, and the next start removes what
        // was written; or the manifest is in force after all.
        let fresh = named?;
        failpoint::hit("recovery-after-manifest");
        self.tidy(&[]);
        for path in self.files_before() {
            file.remove_for_good(&path);
        }
        self.start_writers(clock, file, fresh, DirLock(lock))
    }

    /// Makes it known that files of the next generation count for nothing yet, and returns its
    /// number.
    fn prepare(&mut self) -> Result<Generation, RecoverError> {
        // What was prepared before is removed while the line or the marker still stands.
        for path in std::mem::take(&mut self.unnamed) {
            self.preparing.push(path);
        }
        self.remove_preparing()?;
        let before = self.before.as_ref().map(|before| &before.manifest);
        let seq = before.map_or(Generation(0), |m| m.preparing.unwrap_or(m.seq).max(m.seq));
        let seq = seq.next();
        let root = self.paths.root();
        match before {
            Some(manifest) if manifest.version == ManifestVersion::V3 => {
                let file = ManifestFile::new(
                    self.storage.clone(),
                    self.paths.clone(),
                    self.shards,
                    manifest.clone(),
                );
                file.update(|manifest| manifest.preparing = Some(seq))
                    .map_err(|source| write_error(root, source))?;
            }
            _ => {
                let marker = self.paths.preparing();
                write_new(&*self.storage, &marker, b"")
                    .and_then(|()| self.storage.sync_dir(root))
                    .map_err(|source| write_error(&marker, source))?;
                self.marker = true;
            }
        }
        Ok(seq)
    }

    /// A manifest without generations, of a history that nothing before belongs to. The next
    /// generation is `seq`.
    fn fresh_history(&self, seq: Generation) -> Result<ManifestFile, RecoverError> {
        let mut manifest = self.next_manifest()?;
        manifest.seq = Generation(seq.0 - 1);
        if let Some(before) = &self.before {
            manifest.history = before.manifest.history + 1;
        }
        Ok(ManifestFile::new(
            self.storage.clone(),
            self.paths.clone(),
            self.shards,
            manifest,
        ))
    }

    /// Writes and syncs all bases and their names; returns how many bytes.
    fn write_bases(
        &self,
        seq: Generation,
        info: &RdbFileInfo,
        write_base: &(dyn Fn(ShardId, &mut RdbFile) -> io::Result<()> + Sync),
    ) -> Result<u64, RecoverError> {
        let info = RdbFileInfo {
            aof_base: true,
            cut_lsn: Some(self.end.0),
            ..info.clone()
        };
        let write = |shard: ShardId| {
            let path = self.paths.base(shard, seq);
            let mut file = RdbFile::create(&*self.storage, &path, &info)
                .map_err(|source| write_error(&path, source))?;
            write_base(shard, &mut file)
                .and_then(|()| file.finish())
                .and_then(|bytes| {
                    self.storage.sync_dir(&self.paths.shard_dir(shard))?;
                    Ok(bytes)
                })
                .map_err(|source| write_error(&path, source))
        };
        let shards: Vec<ShardId> = self.shards.ids().collect();
        let next = AtomicUsize::new(0);
        let total = Mutex::new(Ok(0));
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        std::thread::scope(|scope| {
            for _ in 0..threads.min(shards.len()) {
                scope.spawn(|| {
                    while let Some(shard) = shards.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let written = write(*shard);
                        let mut total = total.lock().unwrap_or_else(PoisonError::into_inner);
                        match (&mut *total, written) {
                            (Ok(total), Ok(bytes)) => *total += bytes,
                            (Ok(_), Err(error)) => *total = Err(error),
                            (Err(_), _) => return,
                        }
                    }
                });
            }
        });
        total.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// The files of what was in force before.
    fn files_before(&self) -> Vec<PathBuf> {
        let Some(Before { manifest, .. }) = &self.before else {
            return Vec::new();
        };
        let mut files = Vec::new();
        let (bases, incrs) = (manifest.bases.iter(), manifest.incrs.iter());
        if manifest.layout == AofLayout::TopLevel {
            files.extend(bases.map(|base| self.paths.legacy_base(base.seq)));
            files.extend(incrs.map(|incr| self.paths.legacy_incr(incr.seq)));
            return files;
        }
        for shard in (0..manifest.shard_count()).map(ShardId) {
            let base = bases.clone().map(|base| self.paths.base(shard, base.seq));
            let incr = incrs.clone().map(|incr| self.paths.incr(shard, incr.seq));
            files.extend(base.chain(incr));
        }
        files
    }
}

/// Starts a log beside a server that runs without one (`appendonly yes` at run time). The
/// directory may be new, or hold a log from before, closed or not: it is not replayed, because the
/// server's data is newer. The shards' logs stand at the clock's head; they take the place of the
/// logs without files at the cut, under the same borrow as in every rewrite, and until
/// [`Rewrite::finish`] what was in force before stays in force: nothing is durable yet. If the
/// rewrite fails, pool and logs are of no use and the shards go on without.
///
/// # Errors
/// As [`Recovery::scan`] and [`Recovery::finish`]; [`RecoverError::Legacy`] for a directory of
/// version 1 or 2.
pub fn open_for_rewrite(
    storage: Arc<dyn Storage>,
    options: &AofOptions,
    shards: ShardCount,
    clock: &Arc<Clock>,
) -> Result<(AofWriterPool, Vec<ShardLog>, Rewrite), RecoverError> {
    let mut recovery = Recovery::adopt_any(storage, options, shards)?;
    if let Some(before) = &recovery.before
        && before.manifest.version != ManifestVersion::V3
    {
        let path = recovery.paths.root().to_owned();
        return Err(RecoverError::Legacy { path });
    }
    recovery.end = clock.head();
    recovery.unproven_from = recovery.end;
    recovery.summary.end = recovery.end;
    if clock.shards() != usize::from(shards.get()) {
        let (clock, end) = (clock.head(), recovery.end);
        return Err(RecoverError::Clock { clock, end });
    }
    let lock = recovery.take_directory()?;
    let seq = recovery.prepare()?;
    let file = recovery.fresh_history(seq)?;
    let fresh = file
        .prepare_generation()
        .map_err(|source| write_error(recovery.paths.root(), source))?;
    let mut replaced = recovery.files_before();
    replaced.extend(recovery.superseded.iter().cloned());
    if recovery.marker {
        replaced.push(recovery.paths.preparing());
    }
    let (pool, logs) = recovery.start_writers(clock, file, fresh, DirLock(lock))?;
    let rewrite = Rewrite::pending(&pool.handle(), seq, replaced).ok_or_else(|| {
        let path = recovery.paths.root().to_owned();
        RecoverError::InUse { path }
    })?;
    Ok((pool, logs, rewrite))
}

impl Recovery {
    /// What was found in place of a log to recover, for a check that nobody changed it since.
    pub(super) fn bytes_found(&self) -> Option<&Vec<u8>> {
        let before = self.before.as_ref().map(|before| &before.bytes);
        self.manifest.as_ref().map(|(_, bytes)| bytes).or(before)
    }

    pub(super) fn check_clock(&self, clock: &Clock) -> Result<(), RecoverError> {
        if clock.head() == self.end && clock.shards() == usize::from(self.shards.get()) {
            return Ok(());
        }
        let (clock, end) = (clock.head(), self.end);
        Err(RecoverError::Clock { clock, end })
    }
}
