//! Files in the directory that no manifest names: which of them are in nobody's way, and which
//! mean that a manifest is lost.

use super::{Recovery, list, read_error};
use crate::error::RecoverError;
use crate::scan::scan;
use crate::segment::{SEGMENT_HEADER_LEN, SegmentHeader};
use crate::storage::{Storage, read_full_at};
use moon_core::{Generation, ShardId};
use moon_manifest::layout::{parse_file_name, parse_shard_dir_name};
use moon_manifest::{AofManifest, FileKind};
use std::path::{Path, PathBuf};

impl Recovery {
    /// Sorts the files that no manifest names. A segment that holds frames was acknowledged from,
    /// and a base may be the only copy of what is in it, so a start without them would lose
    /// writes; unless they belong to a generation that the manifest passed, or to one that was
    /// being prepared. Nothing is removed before the recovery has succeeded without it.
    pub(super) fn find_unnamed(&mut self, names: &[String]) -> Result<(), RecoverError> {
        let manifest = self.manifest.as_ref().map(|(manifest, _)| manifest.clone());
        let shards = names.iter().filter_map(|name| parse_shard_dir_name(name));
        for shard in shards {
            let dir = self.paths.shard_dir(shard);
            for name in list(&*self.storage, &dir)? {
                let Some((kind, seq)) = parse_file_name(&name) else {
                    continue;
                };
                let path = dir.join(name);
                match &manifest {
                    None => self.sort_in_new_directory(kind, path)?,
                    Some(manifest) if names_file(manifest, shard, kind, seq) => {}
                    Some(manifest) => self.sort_unnamed(manifest, kind, seq, path)?,
                }
            }
        }
        Ok(())
    }

    fn sort_in_new_directory(&mut self, kind: FileKind, path: PathBuf) -> Result<(), RecoverError> {
        let counts = || match kind {
            FileKind::Base => Ok(true),
            FileKind::Incr => holds_frames(&*self.storage, &path),
        };
        if !self.marker && counts()? {
            return Err(RecoverError::Unnamed { path });
        }
        self.unnamed.push(path);
        Ok(())
    }

    fn sort_unnamed(
        &mut self,
        manifest: &AofManifest,
        kind: FileKind,
        seq: Generation,
        path: PathBuf,
    ) -> Result<(), RecoverError> {
        let superseded = match kind {
            // Bases are written after a manifest has named their generation's segments.
            FileKind::Base => seq <= manifest.seq,
            FileKind::Incr => manifest.newest_base().is_some_and(|base| seq < base.seq),
        };
        if manifest.preparing == Some(seq) {
            self.preparing.push(path);
        } else if superseded {
            self.superseded.push(path);
        } else if kind == FileKind::Incr && !holds_frames(&*self.storage, &path)? {
            self.unnamed.push(path);
        } else if kind == FileKind::Incr && seq < manifest.seq {
            tracing::warn!(file = %path.display(), "the manifest dropped this file; it is left");
        } else {
            return Err(RecoverError::Unnamed { path });
        }
        Ok(())
    }
}

/// Whether a file's name follows from the manifest.
fn names_file(manifest: &AofManifest, shard: ShardId, kind: FileKind, seq: Generation) -> bool {
    shard.0 < manifest.shard_count()
        && match kind {
            FileKind::Incr => manifest.incrs.iter().any(|line| line.seq == seq),
            FileKind::Base => manifest.bases.iter().any(|line| line.seq == seq),
        }
}

/// Whether a segment that no manifest names holds anything.
pub(super) fn holds_frames(storage: &dyn Storage, path: &Path) -> Result<bool, RecoverError> {
    let wrap = |source| read_error(path, source);
    let file = storage.open(path).map_err(wrap)?;
    let mut bytes = [0; SEGMENT_HEADER_LEN];
    let read = read_full_at(&*file, &mut bytes, 0).map_err(wrap)?;
    let Ok(header) = SegmentHeader::decode(&bytes[..read]) else {
        // The header is synced before a manifest names the segment, and frames come after
        // that: without a header there are none.
        return Ok(false);
    };
    Ok(!scan(&*file, &header, None).map_err(wrap)?.frames.is_empty())
}
