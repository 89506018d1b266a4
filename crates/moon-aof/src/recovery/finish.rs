//! The last step of recovery: everything that changes the disk, in the one order that survives
//! a second crash.

use super::{Recovery, Segment, in_force, is_void, read_error};
use crate::copy::new_replication_id;
use crate::error::RecoverError;
use crate::failpoint;
use crate::handle::DirLock;
use crate::log::{FRAME_MAX_LIMIT, ShardLog};
use crate::manifest_file::{FreshSegment, ManifestFile};
use crate::pool::AofWriterPool;
use crate::segment::SEGMENT_HEADER_LEN;
use crate::status::AofStatus;
use crate::storage::{read_full_at, read_whole, write_all_at};
use crate::writer::{Shared, Writer};
use moon_core::{Generation, Lsn};
use moon_manifest::manifest::{MANIFEST_BYTES_MAX, REPLICATION_IDS_MAX};
use moon_manifest::{AofManifest, IncrLine, ReplicationId, ReplicationIdEntry};
use moon_repl::{Clock, Lane};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64};

/// Bytes copied at once into a sidecar.
const COPY: usize = 1 << 20;

impl Recovery {
    /// Makes the directory ready for new frames and starts the writers. `clock` stands at
    /// [`end`](Recovery::end) and has as many shards; its commit mark is set to the policy's.
    /// Returns the pool and the shards' logs in shard order.
    ///
    /// Before this returns nothing may be issued, served or called durable.
    ///
    /// # Errors
    /// If anything cannot be written or synced, or the log was not replayed. The directory can
    /// be recovered again after any of them.
    pub fn finish(
        self,
        clock: &Arc<Clock>,
    ) -> Result<(AofWriterPool, Vec<ShardLog>), RecoverError> {
        if !self.replayed && self.summary.frames > 0 {
            return Err(RecoverError::NotReplayed);
        }
        if self.before.is_some() {
            return Err(RecoverError::NotReplayed);
        }
        self.check_clock(clock)?;
        let lock = self.take_directory()?;
        self.sync_segments()?;
        self.write_sidecars()?;
        // Before segments of the same names are created: a new file has no failed sync behind it.
        for path in &self.unnamed {
            self.remove(path);
        }
        self.remove_preparing()?;
        let mut dropped = self.dropped_generations();
        dropped.extend(self.empty_void_generations());
        let (file, fresh) = self.switch(&dropped)?;
        failpoint::hit("recovery-after-manifest");
        self.tidy(&dropped);
        self.start_writers(clock, file, fresh, DirLock(lock))
    }

    /// Brings the recovered end to fresh segments and makes them the ones in force: the step
    /// that decides. Before it the old segments tell everything, after it these do.
    ///
    /// Copies go to segments that a manifest names already (`named-before-used`), but with an
    /// end at their start, so that no reader believes a copy that was interrupted. A second
    /// manifest takes that end away and ends the old segments where the copies begin, in one
    /// replacement.
    fn switch(
        &self,
        dropped: &[Generation],
    ) -> Result<(ManifestFile, Vec<FreshSegment>), RecoverError> {
        let next = self.next_manifest()?;
        let file = ManifestFile::new(
            self.storage.clone(),
            self.paths.clone(),
            self.shards,
            match &self.manifest {
                Some((manifest, _)) => manifest.clone(),
                None => next.clone(),
            },
        );
        let wrap = |source| write_error(self.paths.root(), source);
        let forget = |manifest: &mut AofManifest| {
            manifest.incrs.retain(|line| !dropped.contains(&line.seq));
            // Its files are removed.
            manifest.preparing = None;
        };
        let from = self.unproven_from;
        if from < self.end {
            let fresh = file.start_generation(from, Some(from), forget);
            let mut fresh = fresh.map_err(wrap)?;
            self.carry_over(&mut fresh)?;
            failpoint::hit("recovery-before-manifest");
            let switched = file.update(|manifest| {
                end_all(manifest, from);
                if let Some(line) = manifest.incrs.last_mut() {
                    line.end = None;
                }
                take_over(manifest, next);
            });
            switched.map_err(wrap)?;
            return Ok((file, fresh));
        }
        failpoint::hit("recovery-before-manifest");
        let fresh = file.start_generation(from, None, |manifest| {
            forget(manifest);
            end_all(manifest, from);
            take_over(manifest, next);
        });
        Ok((file, fresh.map_err(wrap)?))
    }

    /// Creates the directories, and makes sure that nobody else uses them or did since the scan.
    pub(super) fn take_directory(&self) -> Result<Box<dyn Send + Sync>, RecoverError> {
        let root = self.paths.root();
        let wrap = |source| write_error(root, source);
        self.storage.create_dir(root).map_err(wrap)?;
        if let Some(parent) = root.parent() {
            self.storage.sync_dir(parent).map_err(wrap)?;
        }
        let path = self.paths.lock();
        let lock = match self.storage.lock(&path) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(RecoverError::InUse { path });
            }
            result => result.map_err(|source| write_error(&path, source))?,
        };
        let path = self.paths.manifest();
        let now = match read_whole(&*self.storage, &path, MANIFEST_BYTES_MAX + 1) {
            Ok(bytes) => Some(bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(source) => return Err(read_error(&path, source)),
        };
        if now.as_ref() != self.bytes_found() {
            return Err(RecoverError::Changed { path, offset: 0 });
        }
        for shard in self.shards.ids() {
            let dir = self.paths.shard_dir(shard);
            self.storage
                .create_dir(&dir)
                .map_err(|source| write_error(&dir, source))?;
        }
        self.storage.sync_dir(root).map_err(wrap)?;
        Ok(lock)
    }

    /// Removes the files of a generation that was being prepared, durably, before a manifest
    /// without that line makes them look like those of a lost manifest.
    pub(super) fn remove_preparing(&self) -> Result<(), RecoverError> {
        for path in &self.preparing {
            self.storage
                .remove(path)
                .and_then(|()| self.storage.sync_dir(path.parent().unwrap_or(path)))
                .map_err(|source| write_error(path, source))?;
            tracing::info!(file = %path.display(), "removed what was being prepared");
        }
        Ok(())
    }

    /// A disk that cannot sync what it has is not one to go on with. It proves nothing about the
    /// part above the durable mark, which is copied.
    fn sync_segments(&self) -> Result<(), RecoverError> {
        for segment in &self.segments {
            segment
                .file
                .sync_data()
                .map_err(|source| write_error(&segment.path, source))?;
        }
        Ok(())
    }

    /// Copies what lies beyond the recovered end, so that a person can look at it: each sidecar
    /// is the segment's header and then the bytes cut off.
    ///
    /// [`finish`](Recovery::finish) does this; whoever goes on from the recovered end in another
    /// way does it first.
    ///
    /// # Errors
    /// If a sidecar cannot be written or synced.
    pub fn write_sidecars(&self) -> Result<(), RecoverError> {
        let cut = |segment: &&Segment| segment.torn_bytes(self.end) > 0;
        let mut wrote = false;
        for segment in self.segments.iter().filter(cut) {
            let dir = self.paths.truncated_dir();
            if !wrote {
                self.storage
                    .create_dir(&dir)
                    .map_err(|source| write_error(&dir, source))?;
            }
            wrote = true;
            let at = self.end;
            let path = self
                .paths
                .truncated_tail(segment.shard, segment.line.seq, at);
            self.write_sidecar(segment, &path)
                .map_err(|source| write_error(&path, source))?;
            tracing::warn!(
                file = %segment.path.display(),
                offset = segment.keep_until(self.end),
                from_lsn = self.end.0,
                sidecar = %path.display(),
                "the end of the append-only file is torn and is cut off"
            );
        }
        if wrote {
            for dir in [self.paths.truncated_dir(), self.paths.root().to_owned()] {
                self.storage
                    .sync_dir(&dir)
                    .map_err(|source| write_error(&dir, source))?;
            }
        }
        Ok(())
    }

    fn write_sidecar(&self, segment: &Segment, path: &Path) -> io::Result<()> {
        let sidecar = self.storage.create(path)?;
        write_all_at(&*sidecar, &[&segment.header.encode(), &[], &[]], 0)?;
        let mut from = segment.keep_until(self.end);
        let mut to = SEGMENT_HEADER_LEN as u64;
        let mut buffer = vec![0; COPY];
        while from < segment.scan.data_end {
            let left = segment.scan.data_end - from;
            let want = usize::try_from(left).unwrap_or(COPY).min(COPY);
            let read = read_full_at(&*segment.file, &mut buffer[..want], from)?;
            if read == 0 {
                break;
            }
            write_all_at(&*sidecar, &[&buffer[..read], &[], &[]], to)?;
            from += read as u64;
            to += read as u64;
        }
        sidecar.sync_data()
    }

    /// The manifest to go on with: marks and ids as they will be. Of its generations only the
    /// absence of any in a new directory counts.
    pub(super) fn next_manifest(&self) -> Result<AofManifest, RecoverError> {
        let Some((manifest, _)) = &self.manifest else {
            let id = self.new_replication_id()?;
            let mut manifest = AofManifest::initialize_multi(self.shards, 1, id);
            // `start_generation` names generation 1.
            manifest.seq = Generation(0);
            manifest.incrs.clear();
            return Ok(manifest);
        };
        let mut manifest = manifest.clone();
        if !self.summary.clean_stop {
            // What a replica of the old id has beyond the end is another history from now on.
            if let Some(current) = manifest.replication_ids.last_mut() {
                current.end = Some(self.end);
            }
            let id = self.new_replication_id()?;
            manifest
                .replication_ids
                .push(ReplicationIdEntry { id, end: None });
            let extra = manifest
                .replication_ids
                .len()
                .saturating_sub(REPLICATION_IDS_MAX);
            manifest.replication_ids.drain(..extra);
        }
        manifest.clean_stop = None;
        for shard in &mut manifest.shards {
            let segments = self.segments.iter().filter(|s| s.shard.0 == shard.shard_id);
            let frames = segments.flat_map(|segment| segment.scan.frames.last());
            let last = frames.map(|frame| frame.end().min(self.end)).max();
            shard.max_lsn = last
                .unwrap_or(Lsn::ZERO)
                .0
                .max(shard.max_lsn.min(self.end.0));
        }
        Ok(manifest)
    }

    fn new_replication_id(&self) -> Result<ReplicationId, RecoverError> {
        new_replication_id(&*self.storage).map_err(|source| read_error(self.paths.root(), source))
    }

    /// Generations whose segments have nothing behind their headers: kept named, every start
    /// would add one for ever. One that had nothing of the stream but marks or a torn tail is
    /// emptied by [`tidy`](Recovery::tidy) and dropped by the next start, which syncs it first:
    /// so an unnamed segment never holds a frame.
    fn dropped_generations(&self) -> Vec<Generation> {
        let Some((manifest, _)) = &self.manifest else {
            return Vec::new();
        };
        let empty = |seq: Generation| {
            let mut of_seq = self.segments.iter().filter(|s| s.line.seq == seq);
            of_seq.all(|segment| segment.scan.data_end <= SEGMENT_HEADER_LEN as u64)
        };
        let lines = manifest.incrs.iter();
        lines
            .filter(|line| in_force(manifest, line))
            .map(|line| line.seq)
            .filter(|seq| empty(*seq))
            .collect()
    }

    /// Empties the segments of generations in which nothing counts. The ones returned are empty
    /// on disk and can be dropped: an interrupted copy must not take space until the next one
    /// is finished. Nothing depends on it.
    fn empty_void_generations(&self) -> Vec<Generation> {
        let mut emptied = Vec::new();
        let Some((manifest, _)) = &self.manifest else {
            return emptied;
        };
        let void = |line: &&IncrLine| is_void(line) && in_force(manifest, line);
        for line in manifest.incrs.iter().filter(void) {
            let mut of_line = self.segments.iter().filter(|s| s.line.seq == line.seq);
            let done = of_line.try_for_each(|segment| {
                let file = self.storage.open_write(&segment.path)?;
                file.truncate(SEGMENT_HEADER_LEN as u64)?;
                file.sync_data()
            });
            match done {
                Ok(()) => emptied.push(line.seq),
                Err(error) => {
                    tracing::warn!(seq = line.seq.0, error = %error, "cannot empty old segments");
                }
            }
        }
        emptied
    }

    /// Frees what the new manifest does not name any more. Nothing depends on it: a reader
    /// ignores what lies beyond a segment's end, and the next start tidies again.
    pub(super) fn tidy(&self, dropped: &[Generation]) {
        for path in &self.superseded {
            self.remove(path);
        }
        if self.marker {
            self.remove(&self.paths.preparing());
        }
        for segment in &self.segments {
            if dropped.contains(&segment.line.seq) {
                self.remove(&segment.path);
                continue;
            }
            let keep = segment.keep_for_data(self.unproven_from);
            if keep < segment.scan.file_len {
                let cut = self.storage.open_write(&segment.path);
                if let Err(error) = cut.and_then(|file| file.truncate(keep)) {
                    tracing::warn!(file = %segment.path.display(), error = %error, "cannot shorten");
                }
            }
        }
    }

    pub(super) fn remove(&self, path: &Path) {
        if let Err(error) = self.storage.remove(path) {
            tracing::warn!(file = %path.display(), error = %error, "cannot remove");
        }
    }

    pub(super) fn start_writers(
        &self,
        clock: &Arc<Clock>,
        manifest: ManifestFile,
        fresh: Vec<FreshSegment>,
        lock: DirLock,
    ) -> Result<(AofWriterPool, Vec<ShardLog>), RecoverError> {
        let options = &self.options;
        clock.set_commit_on(options.policy.commit_on());
        let shared = Arc::new(Shared {
            policy: AtomicU8::new(options.policy.as_byte()),
            manifest,
            status: Arc::new(AofStatus::new(self.shards, self.summary.clone())),
            sync_interval: options.sync_interval,
            retry_after: options.retry_after,
            slow_sync: options.slow_sync,
            preallocate: options.preallocate,
            keep_generations: options.keep_generations,
            archive_dir: options.archive_dir.clone(),
            rewriting: AtomicBool::new(false),
            sync_early: AtomicU64::new((options.unsynced_max / 2).max(1)),
        });
        let used = self.segments.iter().map(|segment| {
            let keep = segment.keep_for_data(self.unproven_from);
            keep.min(segment.scan.file_len)
        });
        let fresh_bytes: u64 = fresh.iter().map(|segment| segment.position).sum();
        let measured = self.base_bytes + used.sum::<u64>() + fresh_bytes;
        shared.status.set_size(measured, 0);
        let mut writers = Vec::new();
        let mut logs = Vec::new();
        for (shard, segment) in self.shards.ids().zip(fresh) {
            let lane = Lane::new(clock.clone(), shard);
            let writer = Arc::new(Writer::new(lane, shared.clone(), &segment));
            let of_shard = self.segments.iter().filter(|s| s.shard == shard);
            let last_time = of_shard.map(|s| s.scan.time_ms).max().unwrap_or(0);
            let frame_max = options.frame_max.clamp(1, FRAME_MAX_LIMIT);
            logs.push(ShardLog::new(
                writer.clone(),
                segment,
                frame_max,
                options.mark_after,
                last_time,
            ));
            writers.push(writer);
        }
        let pool = AofWriterPool::start(clock.clone(), shared, writers, lock)
            .map_err(|(shard, source)| RecoverError::Thread { shard, source })?;
        Ok((pool, logs))
    }
}

/// Readers ignore what the old segments have from `from` on.
fn end_all(manifest: &mut AofManifest, from: Lsn) {
    for line in &mut manifest.incrs {
        line.first = line.first.min(from);
        line.end = Some(line.end.unwrap_or(from).min(from));
    }
}

/// Takes over what `next` says beside generations.
fn take_over(manifest: &mut AofManifest, next: AofManifest) {
    manifest.replication_ids = next.replication_ids;
    manifest.clean_stop = next.clean_stop;
    manifest.closed_at = None;
    manifest.shards = next.shards;
}

pub(super) fn write_error(path: &Path, source: io::Error) -> RecoverError {
    RecoverError::Write {
        path: path.to_owned(),
        source,
    }
}
