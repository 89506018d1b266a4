//! The one place that replaces the manifest, and that creates the segments it names.
//!
//! # Invariants
//! * `manifest-switch-is-atomic`: temporary file, sync, rename, sync of the directory.
//! * `named-before-used`: segments exist and are synced, with their directory, before a manifest
//!   names them; nobody gets one to write before that manifest is durable.
//! * A generation number is used once, even if the attempt that took it failed.

use crate::failpoint;
use crate::segment::{SEGMENT_HEADER_LEN, SegmentHeader};
use crate::storage::{Storage, StorageFile, write_all_at, write_new};
use moon_core::{Generation, Lsn, ShardCount, ShardId};
use moon_manifest::manifest::MANIFEST_BYTES_MAX;
use moon_manifest::{AofManifest, AofPaths, IncrLine};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// A segment that was created and can be written behind its header.
pub(crate) struct FreshSegment {
    pub(crate) file: Arc<dyn StorageFile>,
    pub(crate) header: SegmentHeader,
    /// Where its next frame goes.
    pub(crate) position: u64,
}

impl FreshSegment {
    /// Where its first frame goes.
    pub(crate) const START: u64 = SEGMENT_HEADER_LEN as u64;
}

/// Failpoints on the way to a new manifest; an empty name is none.
#[derive(Clone, Copy, Default)]
pub(crate) struct Points {
    /// The segments are there, and no manifest names them.
    pub(crate) created: &'static str,
    /// The manifest is written and has not taken its name.
    pub(crate) written: &'static str,
}

/// Why the manifest was not replaced.
pub(crate) struct ReplaceError {
    pub(crate) source: io::Error,
    /// Whether the new manifest may be the one on disk all the same: what it names must stay.
    pub(crate) unsure: bool,
}

impl From<ReplaceError> for io::Error {
    fn from(error: ReplaceError) -> io::Error {
        error.source
    }
}

/// The manifest in force, and the way to change it.
pub(crate) struct ManifestFile {
    storage: Arc<dyn Storage>,
    paths: AofPaths,
    shards: ShardCount,
    state: Mutex<State>,
    /// Files that nothing needs and that could not be removed. Their names are not used again.
    left_over: Mutex<Vec<PathBuf>>,
}

struct State {
    /// What the last successful replacement wrote.
    manifest: AofManifest,
    /// The highest generation ever tried.
    seq: Generation,
    /// The manifest on disk is that of a log which is not this one, until a rewrite brings this
    /// one in force: nothing of this log may be named in it.
    foreign: bool,
}

impl ManifestFile {
    /// `manifest` is what is on disk, or what the first replacement starts from.
    pub(crate) fn new(
        storage: Arc<dyn Storage>,
        paths: AofPaths,
        shards: ShardCount,
        manifest: AofManifest,
    ) -> ManifestFile {
        let seq = manifest
            .preparing
            .map_or(manifest.seq, |seq| seq.max(manifest.seq));
        ManifestFile {
            storage,
            paths,
            shards,
            state: Mutex::new(State {
                manifest,
                seq,
                foreign: false,
            }),
            left_over: Mutex::default(),
        }
    }

    pub(crate) fn storage(&self) -> &Arc<dyn Storage> {
        &self.storage
    }

    pub(crate) fn paths(&self) -> &AofPaths {
        &self.paths
    }

    pub(crate) fn shards(&self) -> ShardCount {
        self.shards
    }

    /// What the last successful replacement wrote.
    pub(crate) fn current(&self) -> AofManifest {
        self.lock().manifest.clone()
    }

    /// Creates the segments of the next generation and replaces the manifest by one that names
    /// them and is changed by `change`. Returns the segments in shard order. With an `end` of
    /// `first`, readers ignore whatever is written to them until another manifest takes it away.
    pub(crate) fn start_generation(
        &self,
        first: Lsn,
        end: Option<Lsn>,
        change: impl FnOnce(&mut AofManifest),
    ) -> io::Result<Vec<FreshSegment>> {
        self.start_generation_at(first, end, Points::default(), change)
    }

    /// The same, with failpoints.
    pub(crate) fn start_generation_at(
        &self,
        first: Lsn,
        end: Option<Lsn>,
        points: Points,
        change: impl FnOnce(&mut AofManifest),
    ) -> io::Result<Vec<FreshSegment>> {
        let mut state = self.lock();
        if state.foreign {
            // The first rewrite brings the log in force; until then it has these segments only.
            return Err(io::ErrorKind::Unsupported.into());
        }
        state.seq = state.seq.next();
        let seq = state.seq;
        let history = state.manifest.history;
        let segments = self.create_segments(seq, history).inspect_err(|_| {
            self.discard_segments(seq);
        })?;
        failpoint::hit(points.created);
        let mut next = state.manifest.clone();
        change(&mut next);
        next.seq = seq;
        next.incrs.push(IncrLine { seq, first, end });
        match self.replace(&mut state, next, points.written) {
            Ok(()) => Ok(segments),
            Err(error) => {
                if !error.unsure || self.restore(&mut state) {
                    self.discard_segments(seq);
                }
                Err(error.source)
            }
        }
    }

    /// Whether no generation after `seq` was ever tried.
    pub(crate) fn is_newest(&self, seq: Generation) -> bool {
        self.lock().seq == seq
    }

    /// Replaces the manifest by a changed one.
    pub(crate) fn update(&self, change: impl FnOnce(&mut AofManifest)) -> io::Result<()> {
        Ok(self.update_at(Points::default(), change)?)
    }

    /// The same, with failpoints; says more about a failure, after which the manifest before is
    /// brought back if that can be done.
    pub(crate) fn update_at(
        &self,
        points: Points,
        change: impl FnOnce(&mut AofManifest),
    ) -> Result<(), ReplaceError> {
        let mut state = self.lock();
        if state.foreign {
            let source = io::ErrorKind::Unsupported.into();
            let unsure = false;
            return Err(ReplaceError { source, unsure });
        }
        let mut next = state.manifest.clone();
        change(&mut next);
        let replaced = self.replace(&mut state, next, points.written);
        replaced.map_err(|error| ReplaceError {
            unsure: error.unsure && !self.restore(&mut state),
            ..error
        })
    }

    /// Creates the segments of the next generation for a log that is not in force: the manifest on
    /// disk is another one's, and says that this generation is being prepared.
    pub(crate) fn prepare_generation(&self) -> io::Result<Vec<FreshSegment>> {
        let mut state = self.lock();
        state.seq = state.seq.next();
        state.foreign = true;
        self.create_segments(state.seq, state.manifest.history)
    }

    /// Brings a prepared log in force. If the manifest cannot be replaced, it stays a prepared one.
    pub(crate) fn bring_in_force(
        &self,
        points: Points,
        change: impl FnOnce(&mut AofManifest),
    ) -> Result<(), ReplaceError> {
        let mut state = self.lock();
        let mut next = state.manifest.clone();
        next.seq = state.seq;
        change(&mut next);
        self.replace(&mut state, next, points.written)?;
        state.foreign = false;
        Ok(())
    }

    fn replace(
        &self,
        state: &mut State,
        next: AofManifest,
        failpoint: &str,
    ) -> Result<(), ReplaceError> {
        let failed = |source, unsure| ReplaceError { source, unsure };
        let text = next.to_text();
        if text.len() > MANIFEST_BYTES_MAX {
            // No start would read it.
            return Err(failed(io::ErrorKind::FileTooLarge.into(), false));
        }
        let temporary = self.paths.manifest_temp();
        let discard = |error: &io::Error| {
            tracing::debug!(error = %error, "the manifest was not replaced");
            // Best effort: the next replacement writes it anew.
            if let Err(error) = remove_if_there(&*self.storage, &temporary) {
                tracing::debug!(error = %error, "cannot remove the temporary manifest");
            }
        };
        write_new(&*self.storage, &temporary, text.as_bytes())
            .inspect_err(discard)
            .map_err(|source| failed(source, false))?;
        failpoint::hit(failpoint);
        self.storage
            .rename(&temporary, &self.paths.manifest())
            .and_then(|()| self.storage.sync_dir(self.paths.root()))
            .inspect_err(discard)
            .map_err(|source| failed(source, true))?;
        state.manifest = next;
        Ok(())
    }

    /// After a replacement of which nobody knows whether it took place: makes the manifest before
    /// it durable again; whether that is sure.
    fn restore(&self, state: &mut State) -> bool {
        let before = state.manifest.clone();
        // A directory without a manifest has none to go back to.
        before.check().is_ok() && self.replace(state, before, "").is_ok()
    }

    fn create_segments(&self, seq: Generation, history: u64) -> io::Result<Vec<FreshSegment>> {
        self.shards
            .ids()
            .map(|shard| self.create_segment(shard, seq, history))
            .collect()
    }

    fn create_segment(
        &self,
        shard: ShardId,
        seq: Generation,
        history: u64,
    ) -> io::Result<FreshSegment> {
        let header = SegmentHeader {
            shard,
            shards: self.shards,
            seq,
            history,
            random: self.storage.random()?,
        };
        let file = self.storage.create(&self.paths.incr(shard, seq))?;
        write_all_at(&*file, &[&header.encode(), &[], &[]], 0)?;
        file.sync_data()?;
        self.storage.sync_dir(&self.paths.shard_dir(shard))?;
        Ok(FreshSegment {
            file,
            header,
            position: FreshSegment::START,
        })
    }

    /// Segments that no manifest names and nobody wrote to.
    fn discard_segments(&self, seq: Generation) {
        for shard in self.shards.ids() {
            self.remove_for_good(&self.paths.incr(shard, seq));
        }
    }

    /// Removes a file that nothing needs, and whose name is never used again. One that cannot be
    /// removed now is tried again by [`remove_left_over`](ManifestFile::remove_left_over), and by
    /// the next start.
    pub(crate) fn remove_for_good(&self, path: &Path) {
        if let Err(error) = remove_if_there(&*self.storage, path) {
            tracing::warn!(file = %path.display(), error = %error, "cannot remove");
            let mut left = self
                .left_over
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            left.push(path.to_owned());
        }
    }

    /// Tries again to remove what could not be removed.
    pub(crate) fn remove_left_over(&self) {
        let left = std::mem::take(
            &mut *self
                .left_over
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        );
        for path in left {
            self.remove_for_good(&path);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // The state changes only after a replacement succeeded, so it is whole in any case.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Removes a file, if it is there.
fn remove_if_there(storage: &dyn Storage, path: &Path) -> io::Result<()> {
    match storage.remove(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}
