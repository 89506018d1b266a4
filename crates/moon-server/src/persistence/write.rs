//! Writing a snapshot to its files.

use super::Persistence;
use super::job::{AtCut, Snapshot, Stopped, receive};
use moon_aof::{
    DumpFile, RdbFile, RdbFileInfo, RecoverError, Rewrite, RewriteError, ShutdownError,
};
use moon_core::{Lsn, ShardId};
use moon_shard::{Image, SnapshotProgress};
use moon_store::{Compression, Libraries};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc;

/// Why a snapshot was not written. What was there before stays in force.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// It was given up.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// The log cannot take a new generation.
    #[error(transparent)]
    Rewrite(#[from] RewriteError),
    /// A log cannot be begun.
    #[error(transparent)]
    Open(#[from] RecoverError),
    /// A log cannot be closed; it goes on.
    #[error("cannot note in the manifest that the log is closed")]
    CloseMark(#[source] io::Error),
    /// A log was closed, but its end may not be on disk.
    #[error(transparent)]
    Close(ShutdownError),
    /// The dump could not be written.
    #[error("cannot write {}", path.display())]
    Dump {
        /// The dump.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The base of a shard could not be written.
    #[error("cannot write the base of {shard}")]
    Base {
        /// Whose.
        shard: ShardId,
        /// Why not.
        source: io::Error,
    },
}

impl Persistence {
    /// A new generation of the log. Segments first, then the cut, then the bases while the shards
    /// serve, then the manifest: the order is [`Rewrite`]'s.
    pub(super) fn write_generation(
        &self,
        progress: &Arc<SnapshotProgress>,
    ) -> Result<(), SnapshotError> {
        let Some(aof) = self.aof() else {
            return Err(Stopped.into());
        };
        let rewrite = aof.begin_rewrite()?;
        self.write_bases(rewrite, Arc::new(|_, log, _| log.cut()), progress)
    }

    /// The part of a rewrite from the cut on; `at_cut` makes each shard's later frames go to the
    /// new segments.
    pub(super) fn write_bases(
        &self,
        mut rewrite: Rewrite,
        at_cut: AtCut,
        progress: &Arc<SnapshotProgress>,
    ) -> Result<(), SnapshotError> {
        let mut snapshot = Snapshot::begin(
            &self.parts.directory,
            self.parts.shards,
            Some(at_cut),
            // A base is read by the next start, which should be quick.
            Compression::Off,
            progress,
        )?;
        let cut = snapshot.cut;
        rewrite.cut_at(cut)?;
        let written = std::thread::scope(|scope| {
            let mut writers = Vec::new();
            let databases = std::mem::take(&mut snapshot.databases);
            let libraries = std::mem::take(&mut snapshot.libraries);
            // The first shard's base has them.
            let libraries =
                std::iter::once(libraries).chain(std::iter::repeat(Libraries::default()));
            let of_shards = snapshot.images.drain(..).zip(databases).zip(libraries);
            for (shard, ((images, databases), libraries)) in self.parts.shards.ids().zip(of_shards)
            {
                let info = self.file_info(cut, true, databases);
                let rewrite = &rewrite;
                writers.push(scope.spawn(move || {
                    let result = write_base(rewrite, shard, &libraries, images, &info);
                    if result.is_err() {
                        // The other walks need not go on.
                        progress.stop.store(true, Relaxed);
                    }
                    result
                }));
            }
            let mut results: Vec<_> = writers
                .into_iter()
                .map(|writer| writer.join().expect("a panic aborts the process"))
                .collect();
            // A walk that was stopped because of another one's failure is not the reason.
            results.sort_by_key(|result| matches!(result, Err(SnapshotError::Stopped(_))));
            results.into_iter().collect::<Result<(), _>>()
        });
        written?;
        rewrite.finish(&self.stop)?;
        Ok(())
    }

    /// One file of all shards.
    pub(super) fn write_dump(&self, progress: &Arc<SnapshotProgress>) -> Result<(), SnapshotError> {
        let config = self.parts.config.snapshot();
        let (dir, name) = (config.dir.clone(), config.dbfilename.clone());
        let path = dir.join(&name);
        let failed = |source| SnapshotError::Dump {
            path: path.clone(),
            source,
        };
        let compression = match config.rdbcompression {
            true => Compression::Lzf,
            false => Compression::Off,
        };
        let mut snapshot = Snapshot::begin(
            &self.parts.directory,
            self.parts.shards,
            None,
            compression,
            progress,
        )?;
        let info = self.file_info(snapshot.cut, false, snapshot.databases_of_all());
        let mut file =
            DumpFile::create(Arc::clone(&self.storage), &dir, &name, &info).map_err(failed)?;
        for library in snapshot.libraries.iter() {
            file.function(&library.code).map_err(failed)?;
        }
        // An entry of one shard is never interrupted by another shard's.
        let mut open: Vec<_> = snapshot.images.drain(..).collect();
        while !open.is_empty() {
            let mut still_open = Vec::new();
            for mut images in open {
                let more = receive(&mut images, &mut |chunk| {
                    file.chunk(u32::from(chunk.db), &chunk.bytes)
                        .map_err(failed)
                })?;
                if more {
                    still_open.push(images);
                }
            }
            open = still_open;
        }
        file.commit().map_err(failed)?;
        Ok(())
    }

    fn file_info(&self, cut: Lsn, aof_base: bool, databases: Vec<(u32, u64, u64)>) -> RdbFileInfo {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        RdbFileInfo {
            redis_ver: crate::info::REDIS_VERSION.to_owned(),
            ctime_s: now.map_or(0, |now| now.as_secs()),
            used_mem_bytes: crate::info::process_memory().0,
            aof_base,
            cut_lsn: Some(cut.0),
            databases,
        }
    }
}

fn write_base(
    rewrite: &Rewrite,
    shard: ShardId,
    libraries: &Libraries,
    mut images: mpsc::Receiver<Image>,
    info: &RdbFileInfo,
) -> Result<(), SnapshotError> {
    let failed = |source| SnapshotError::Base { shard, source };
    let mut file: RdbFile = rewrite.base(shard, info)?;
    for library in libraries.iter() {
        file.function(&library.code).map_err(failed)?;
    }
    while receive(&mut images, &mut |chunk| {
        file.chunk(u32::from(chunk.db), &chunk.bytes)
            .map_err(failed)
    })? {}
    file.finish().map_err(failed)?;
    Ok(())
}
