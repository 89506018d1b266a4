//! The one place that replaces the manifest, and that creates the segments it names.
//!
//! # Invariants
//! * `manifest-switch-is-atomic`: temporary file, sync, rename, sync of the directory.
//! * `named-before-used`: segments exist and are synced, with their directory, before a manifest
//!   names them; nobody gets one to write before that manifest is durable.
//! * A generation number is used once, even if the attempt that took it failed.

use crate::segment::{SEGMENT_HEADER_LEN, SegmentHeader};
use crate::storage::{Storage, StorageFile, read_whole, replace_file, write_all_at};
use moon_core::{Generation, Lsn, ShardCount, ShardId};
use moon_manifest::manifest::MANIFEST_BYTES_MAX;
use moon_manifest::{AofManifest, AofPaths, IncrLine};
use std::io;
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

/// The manifest in force, and the way to change it.
pub(crate) struct ManifestFile {
    storage: Arc<dyn Storage>,
    paths: AofPaths,
    shards: ShardCount,
    state: Mutex<State>,
}

struct State {
    /// What the last successful replacement wrote.
    manifest: AofManifest,
    /// The highest generation ever tried.
    seq: Generation,
}

impl ManifestFile {
    /// `manifest` is what is on disk, or what the first replacement starts from.
    pub(crate) fn new(
        storage: Arc<dyn Storage>,
        paths: AofPaths,
        shards: ShardCount,
        manifest: AofManifest,
    ) -> ManifestFile {
        let seq = manifest.seq;
        ManifestFile {
            storage,
            paths,
            shards,
            state: Mutex::new(State { manifest, seq }),
        }
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
        let mut state = self.lock();
        state.seq = state.seq.next();
        let seq = state.seq;
        let created = self.create_segments(seq, state.manifest.history);
        let named = created.and_then(|segments| {
            let mut next = state.manifest.clone();
            change(&mut next);
            next.seq = seq;
            next.incrs.push(IncrLine { seq, first, end });
            self.replace(&mut state, next)?;
            Ok(segments)
        });
        if named.is_err() {
            self.discard(seq);
        }
        named
    }

    /// Whether no generation after `seq` was ever tried.
    pub(crate) fn is_newest(&self, seq: Generation) -> bool {
        self.lock().seq == seq
    }

    /// Removes what a failed attempt left of a generation, so that a disk which fails for long
    /// does not collect files. Nobody has written to them.
    fn discard(&self, seq: Generation) {
        let text = read_whole(
            &*self.storage,
            &self.paths.manifest(),
            MANIFEST_BYTES_MAX + 1,
        );
        let on_disk = text.ok().and_then(|text| AofManifest::parse(&text).ok());
        // The new manifest may be there although its directory could not be synced. Then, and if
        // nobody can tell, the files stay: a named file that is missing stops the next start.
        let named = on_disk.is_none_or(|m| m.incrs.iter().any(|line| line.seq == seq));
        if named {
            return;
        }
        for shard in self.shards.ids() {
            // What cannot be removed holds no frame, and the next start removes it.
            drop(self.storage.remove(&self.paths.incr(shard, seq)));
        }
    }

    /// Replaces the manifest by a changed one.
    pub(crate) fn update(&self, change: impl FnOnce(&mut AofManifest)) -> io::Result<()> {
        let mut state = self.lock();
        let mut next = state.manifest.clone();
        change(&mut next);
        self.replace(&mut state, next)
    }

    fn replace(&self, state: &mut State, next: AofManifest) -> io::Result<()> {
        replace_file(
            &*self.storage,
            &self.paths.manifest_temp(),
            &self.paths.manifest(),
            next.to_text().as_bytes(),
        )?;
        state.manifest = next;
        Ok(())
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

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // The state changes only after a replacement succeeded, so it is whole in any case.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
