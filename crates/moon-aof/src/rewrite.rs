//! A rewrite: bases of all shards at one cut take the place of the log before it, while the log
//! goes on.
//!
//! Its steps, and who takes them:
//!
//! 1. [`AofHandle::begin_rewrite`] creates the segments of the next generation; a durable manifest
//!    names them beside those in force.
//! 2. The caller borrows the data of all shards and calls
//!    [`CommitLog::cut`](moon_repl::CommitLog::cut) on every shard's log, so that every later
//!    frame goes to the new segments; then it tells [`Rewrite::cut_at`].
//! 3. The caller writes each shard's state as of the cut to its [`Rewrite::base`], while it
//!    serves.
//! 4. [`Rewrite::finish`] waits until everything below the cut is durable and makes a manifest
//!    durable that names the bases; what they supersede is removed after that.
//!
//! Until the second manifest the generations from before tell everything, together with the new
//! segments: a crash, or an error and a dropped [`Rewrite`], loses nothing. After it the bases do.
//! A segment with frames from the cut on is never superseded, because a log that does not change
//! to the new segments makes the cut fail.

mod archive;
mod generations;

use crate::error::RewriteError;
use crate::failpoint;
use crate::handle::{AofHandle, DirLock};
use crate::manifest_file::{FreshSegment, ManifestFile, Points, ReplaceError};
use crate::rdb_file::{Finished, RdbFile, RdbFileInfo};
use crate::writer::CutPoint;
use generations::{Epoch, Retention};
use moon_core::{Generation, Lsn, ShardId};
use moon_manifest::{AofManifest, IncrLine};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Segments that cuts took out of use and that one shard has not synced, at most. Every cut that
/// was given up leaves one until its sync is done.
const RETIRED_MAX: usize = 4;

/// How often the last step looks whether everything below the cut is durable.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// A rewrite that has begun. Dropping it gives it up: the old generations stay in force, bases
/// that were written are removed, and the new segments stay named and in use.
pub struct Rewrite {
    log: AofHandle,
    _lock: Arc<DirLock>,
    generation: Generation,
    cut: Option<Cut>,
    /// Lengths of the finished bases.
    lengths: Arc<[AtomicU64]>,
    /// Whether the bases may be named by the manifest on disk: then they stay.
    named: bool,
    /// Of a log that is not in force yet: the files of what it replaces.
    replaces: Option<Vec<PathBuf>>,
}

/// All shards' logs have changed segments.
struct Cut {
    at: Lsn,
    points: Vec<CutPoint>,
}

/// What a rewrite did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RewriteSummary {
    /// The generation of the new bases.
    pub generation: Generation,
    /// The position their state belongs to.
    pub cut: Lsn,
    /// Bytes of all bases.
    pub base_bytes: u64,
    /// Files removed.
    pub removed_files: usize,
    /// Superseded generations moved to the archive directory.
    pub archived: usize,
}

impl Rewrite {
    pub(crate) fn begin(log: &AofHandle) -> Result<Rewrite, RewriteError> {
        let lock = log.hold_directory().ok_or(RewriteError::Stopped)?;
        if log.shared.rewriting.swap(true, Ordering::SeqCst) {
            return Err(RewriteError::InProgress);
        }
        let mut rewrite = Rewrite::new(log.clone(), lock, Generation(0));
        rewrite.name_segments()?;
        Ok(rewrite)
    }

    /// The rewrite that brings a log in force which stands beside what is: its segments are those
    /// of `generation`, and it takes the place of the files `replaces`.
    pub(crate) fn pending(
        log: &AofHandle,
        generation: Generation,
        replaces: Vec<PathBuf>,
    ) -> Option<Rewrite> {
        log.shared.rewriting.store(true, Ordering::SeqCst);
        let mut rewrite = Rewrite::new(log.clone(), log.hold_directory()?, generation);
        rewrite.replaces = Some(replaces);
        Some(rewrite)
    }

    fn new(log: AofHandle, lock: Arc<DirLock>, generation: Generation) -> Rewrite {
        let lengths = log.writers.iter().map(|_| AtomicU64::new(Finished::NOT));
        Rewrite {
            lengths: lengths.collect(),
            log,
            _lock: lock,
            generation,
            cut: None,
            named: false,
            replaces: None,
        }
    }

    fn name_segments(&mut self) -> Result<(), RewriteError> {
        let writers = &self.log.writers;
        if let Some(writer) = writers.iter().find(|w| w.retired() >= RETIRED_MAX) {
            let shard = writer.shard;
            return Err(RewriteError::NotSynced { shard });
        }
        let points = Points {
            created: "rewrite-segments-created",
            written: "",
        };
        // Frames that are issued before the cut and cannot be written before it come to the new
        // segments, too; none of them is durable now.
        let first = self.log.clock.durable();
        let segments = self
            .manifest()
            .start_generation_at(first, None, points, |_| {})
            .map_err(|source| RewriteError::Begin { source })?;
        failpoint::hit("rewrite-first-manifest");
        for (writer, segment) in writers.iter().zip(segments) {
            self.generation = segment.header.seq;
            writer.prepare(segment);
        }
        Ok(())
    }

    /// The generation of the new segments and bases.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// The second step has happened: [`CommitLog::cut`](moon_repl::CommitLog::cut) was called on
    /// every shard's log while the data of all shards was borrowed, and `cut` is the head then.
    ///
    /// # Errors
    /// If a shard did not change to its new segment. The rewrite must be dropped then.
    pub fn cut_at(&mut self, cut: Lsn) -> Result<(), RewriteError> {
        let mut points = Vec::new();
        for writer in self.log.writers.iter() {
            let shard = writer.shard;
            let point = if self.replaces.is_some() {
                // Its log starts at the cut.
                Some(writer.start_point(self.generation))
            } else {
                writer.cut_to_generation(self.generation)
            };
            let point = point.filter(|point| point.end <= cut);
            points.push(point.ok_or(RewriteError::Refused { shard })?);
        }
        self.cut = Some(Cut { at: cut, points });
        failpoint::hit("rewrite-after-cut");
        Ok(())
    }

    /// Begins the base of one shard, which may be written on any thread. `info.aof_base` and
    /// `info.cut_lsn` are set here.
    ///
    /// # Errors
    /// If the cut was not made, or as the disk's.
    pub fn base(&self, shard: ShardId, info: &RdbFileInfo) -> Result<RdbFile, RewriteError> {
        let cut = self.cut.as_ref().ok_or(RewriteError::NotCut)?;
        let index = shard.index();
        let length = self
            .lengths
            .get(index)
            .ok_or(RewriteError::Unfinished { shard })?;
        length.store(Finished::NOT, Ordering::SeqCst);
        let path = self.manifest().paths().base(shard, self.generation);
        let info = RdbFileInfo {
            aof_base: true,
            cut_lsn: Some(cut.at.0),
            ..info.clone()
        };
        let finished = Finished {
            lengths: self.lengths.clone(),
            index,
        };
        let storage = &**self.manifest().storage();
        RdbFile::begin(storage, &path, &info, Some(finished))
            .map_err(|source| RewriteError::Base { path, source })
    }

    /// The last step: all bases are finished. Makes their names durable, waits until everything
    /// below the cut is durable, makes the manifest durable that names them, and removes what they
    /// supersede. Blocks on the disk; gives up when `stop` is set before the manifest is written.
    ///
    /// # Errors
    /// If a base is not finished, the disk fails, or somebody asked for an end. The old
    /// generations are in force then.
    pub fn finish(mut self, stop: &AtomicBool) -> Result<RewriteSummary, RewriteError> {
        let cut = self.cut.take().ok_or(RewriteError::NotCut)?;
        let base_bytes = self.base_bytes()?;
        self.sync_directories()?;
        failpoint::hit("rewrite-bases-synced");
        self.wait_settled(&cut, stop)?;
        let superseded = self.put_in_force(&cut)?;
        failpoint::hit("rewrite-after-manifest");
        for (writer, point) in self.log.writers.iter().zip(&cut.points) {
            writer.fill_hole(point);
        }
        let appended = cut.points.iter().map(|point| point.appended).sum();
        let headers = cut.points.len() as u64 * FreshSegment::START;
        let status = &self.log.shared.status;
        status.set_size(base_bytes + headers, appended);
        self.manifest().remove_left_over();
        let mut removed_files = 0;
        for epoch in &superseded {
            removed_files += self.remove(epoch);
        }
        for path in self.replaces.take().unwrap_or_default() {
            failpoint::hit("rewrite-mid-delete");
            self.manifest().remove_for_good(&path);
            removed_files += 1;
        }
        let archived = self.archive();
        Ok(RewriteSummary {
            generation: self.generation,
            cut: cut.at,
            base_bytes,
            removed_files,
            archived,
        })
    }

    fn base_bytes(&self) -> Result<u64, RewriteError> {
        let mut bytes = 0;
        for (writer, length) in self.log.writers.iter().zip(self.lengths.iter()) {
            match length.load(Ordering::SeqCst) {
                Finished::NOT => {
                    let shard = writer.shard;
                    return Err(RewriteError::Unfinished { shard });
                }
                length => bytes += length,
            }
        }
        Ok(bytes)
    }

    fn sync_directories(&self) -> Result<(), RewriteError> {
        for shard in self.manifest().shards().ids() {
            let path = self.manifest().paths().shard_dir(shard);
            self.manifest()
                .storage()
                .sync_dir(&path)
                .map_err(|source| RewriteError::Base { path, source })?;
        }
        Ok(())
    }

    fn wait_settled(&self, cut: &Cut, stop: &AtomicBool) -> Result<(), RewriteError> {
        let started = Instant::now();
        let mut told = false;
        loop {
            let mut all = self.log.writers.iter().zip(&cut.points);
            let Some((writer, _)) = all.find(|(writer, point)| !writer.is_settled(point)) else {
                return Ok(());
            };
            if stop.load(Ordering::SeqCst) {
                return Err(RewriteError::Interrupted);
            }
            if writer.is_stuck() {
                let shard = writer.shard;
                return Err(RewriteError::Refused { shard });
            }
            if writer.has_stopped() {
                return Err(RewriteError::Stopped);
            }
            if !told && started.elapsed() > Duration::from_secs(5) {
                told = true;
                tracing::warn!(
                    shard = writer.shard.0,
                    cut = cut.at.0,
                    "the rewrite waits until this shard's log is durable up to the cut"
                );
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// The second manifest: the step that decides. Returns what it does not name any more.
    fn put_in_force(&mut self, cut: &Cut) -> Result<Vec<Epoch>, RewriteError> {
        let durable = self.log.clock.durable().max(cut.at);
        let ends: Vec<Lsn> = self.log.writers.iter().map(|w| w.synced_end()).collect();
        let points = Points {
            created: "",
            written: "rewrite-second-manifest",
        };
        let mut dropped = Vec::new();
        let generation = self.generation;
        let retention = self.retention(cut);
        let at = cut.at;
        let pending = self.replaces.is_some();
        let mut change = |manifest: &mut AofManifest| {
            if pending {
                manifest.incrs.push(IncrLine {
                    seq: generation,
                    first: at,
                    end: None,
                });
            }
            dropped = generations::supersede(manifest, generation, at, retention);
            for (shard, end) in manifest.shards.iter_mut().zip(&ends) {
                shard.max_lsn = shard.max_lsn.max((*end).min(durable).0);
            }
        };
        let replaced = if pending {
            self.manifest().bring_in_force(points, &mut change)
        } else {
            self.manifest().update_at(points, &mut change)
        };
        match replaced {
            Ok(()) => {
                self.named = true;
                Ok(dropped)
            }
            Err(ReplaceError { source, unsure }) => {
                // If the new manifest may be the one on disk, the bases must stay.
                self.named = unsure;
                Err(RewriteError::Manifest { source })
            }
        }
    }

    /// What is kept of the log before the cut.
    fn retention(&self, cut: &Cut) -> Retention {
        // The points as they are now: a segment that the cut took out of use may have failed since.
        let writers = self.log.writers.iter();
        let points = writers.map(|writer| writer.cut_to_generation(self.generation));
        let intact = points
            .zip(&cut.points)
            .all(|(now, then)| now.unwrap_or(*then).intact);
        let wanted = self.keep() > 0 || self.log.shared.archive_dir.is_some();
        if !intact && wanted {
            tracing::warn!(
                cut = cut.at.0,
                "the log before the rewrite is not kept, because its files do not have all of it"
            );
        }
        // What goes to the archive stays named until it is there.
        let keep = match self.log.shared.archive_dir {
            Some(_) => usize::MAX,
            None => self.keep(),
        };
        Retention { keep, intact }
    }

    fn keep(&self) -> usize {
        usize::try_from(self.log.shared.keep_generations).unwrap_or(usize::MAX)
    }

    /// Moves what is not kept to the archive; how many generations. The new generation is in force,
    /// so an error ends nothing: what could not be moved stays named, and is tried again after the
    /// next rewrite.
    fn archive(&self) -> usize {
        let Some(dir) = &self.log.shared.archive_dir else {
            return 0;
        };
        match archive::archive_surplus(self.manifest(), dir, self.keep()) {
            Ok(moved) => moved,
            Err(error) => {
                tracing::error!(
                    dir = %dir.display(),
                    error = %error,
                    "cannot archive superseded generations of the append-only log; they stay"
                );
                0
            }
        }
    }

    /// Removes the files of generations that no manifest names any more; how many.
    fn remove(&self, epoch: &Epoch) -> usize {
        let files = epoch.files(self.manifest().shards());
        for file in &files {
            failpoint::hit("rewrite-mid-delete");
            let path = generations::path(self.manifest().paths(), *file);
            self.manifest().remove_for_good(&path);
        }
        files.len()
    }

    fn manifest(&self) -> &ManifestFile {
        &self.log.shared.manifest
    }
}

impl Drop for Rewrite {
    fn drop(&mut self) {
        for writer in self.log.writers.iter() {
            writer.unprepare();
        }
        if !self.named && self.generation > Generation(0) {
            for shard in self.manifest().shards().ids() {
                let path = self.manifest().paths().base(shard, self.generation);
                self.manifest().remove_for_good(&path);
            }
        }
        self.log.shared.rewriting.store(false, Ordering::SeqCst);
    }
}
