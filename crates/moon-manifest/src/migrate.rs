//! The plan that brings the files of a v1 log into the directory of shard 0.
//!
//! ```text
//!   moon.aof.7.base.rdb   ->   shard-0/moon.aof.7.base.rdb
//!   moon.aof.7.incr.aof   ->   shard-0/moon.aof.7.incr.aof
//!   moon.aof.manifest     says so
//! ```
//!
//! The plan follows from what exists, so that a start which finds a migration half done does the
//! rest of it, and one that finds it done has nothing to do. Whoever carries it out undoes the
//! steps taken if one fails.

use crate::layout::AofPaths;
use crate::manifest::{AofLayout, AofManifest, ManifestVersion};
use moon_core::ShardId;
use std::path::PathBuf;

/// Which files of a v1 log exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version1Files {
    /// The base, directly in the append-only directory.
    pub top_base: bool,
    /// The incr file there.
    pub top_incr: bool,
    /// The base in the directory of shard 0.
    pub shard_base: bool,
    /// The incr file there.
    pub shard_incr: bool,
}

/// One step. Steps are durable before the manifest is replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MigrationStep {
    /// Creates a directory, unless it is there. An empty one means nothing, so undoing leaves it.
    CreateDir(PathBuf),
    /// Moves a file. Undone by moving it back.
    Rename {
        /// Where it is.
        from: PathBuf,
        /// Where it belongs.
        to: PathBuf,
    },
    /// Replaces the manifest as a whole. Undone by putting the old one back.
    ReplaceManifest(Box<AofManifest>),
}

/// Why a directory cannot be migrated. Nothing was moved.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MigrationError {
    /// Only v1 has this layout.
    #[error("the manifest is not of version 1")]
    NotVersion1,
    /// The base is gone, and with it all data that it held.
    #[error("AOF base RDB missing: {}; nothing was moved", path.display())]
    BaseMissing {
        /// Where it should be.
        path: PathBuf,
    },
    /// The log on top of the base is gone.
    #[error("the AOF incr file is missing: {}; nothing was moved", path.display())]
    IncrMissing {
        /// Where it should be.
        path: PathBuf,
    },
    /// One file is at both places, and which one counts is not to be guessed.
    #[error(
        "{} and {} are both there; nothing was moved. Move the one away that does not belong to \
         this log",
        top.display(),
        shard.display()
    )]
    Both {
        /// Directly in the append-only directory.
        top: PathBuf,
        /// In the directory of shard 0.
        shard: PathBuf,
    },
}

/// The steps that are left to bring a v1 log from the top level to the directory of shard 0, in
/// order: directory, base, incr file, manifest. None if the log is there already.
///
/// # Errors
/// If a file is missing or at both places.
pub fn migrate_top_level_to_per_shard(
    paths: &AofPaths,
    manifest: &AofManifest,
    files: Version1Files,
) -> Result<Vec<MigrationStep>, MigrationError> {
    if manifest.version != ManifestVersion::V1 {
        return Err(MigrationError::NotVersion1);
    }
    let [top_base, top_incr] = paths.version_1(AofLayout::TopLevel, manifest.seq);
    let [shard_base, shard_incr] = paths.version_1(AofLayout::PerShard, manifest.seq);
    // All that can be refused is, before the first step is planned.
    let base = to_move(top_base, files.top_base, shard_base, files.shard_base)
        .map_err(|fault| fault.of(|path| MigrationError::BaseMissing { path }))?;
    let incr = to_move(top_incr, files.top_incr, shard_incr, files.shard_incr)
        .map_err(|fault| fault.of(|path| MigrationError::IncrMissing { path }))?;
    let mut steps = Vec::new();
    let moves: Vec<MigrationStep> = base.into_iter().chain(incr).collect();
    if !moves.is_empty() {
        steps.push(MigrationStep::CreateDir(paths.shard_dir(ShardId(0))));
        steps.extend(moves);
    }
    if manifest.layout == AofLayout::TopLevel {
        let mut migrated = manifest.clone();
        migrated.layout = AofLayout::PerShard;
        steps.push(MigrationStep::ReplaceManifest(Box::new(migrated)));
    }
    Ok(steps)
}

enum Fault {
    Missing(PathBuf),
    Both { top: PathBuf, shard: PathBuf },
}

impl Fault {
    fn of(self, missing: impl FnOnce(PathBuf) -> MigrationError) -> MigrationError {
        match self {
            Fault::Missing(path) => missing(path),
            Fault::Both { top, shard } => MigrationError::Both { top, shard },
        }
    }
}

/// The step that brings one file to its place, if it is not there.
fn to_move(
    top: PathBuf,
    is_at_top: bool,
    shard: PathBuf,
    is_in_shard: bool,
) -> Result<Option<MigrationStep>, Fault> {
    match (is_at_top, is_in_shard) {
        (true, false) => Ok(Some(MigrationStep::Rename {
            from: top,
            to: shard,
        })),
        (false, true) => Ok(None),
        (false, false) => Err(Fault::Missing(top)),
        (true, true) => Err(Fault::Both { top, shard }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V1: &[u8] = b"seq 7\nbase moon.aof.7.base.rdb\nincr moon.aof.7.incr.aof\n";

    fn plan(
        layout: AofLayout,
        [top_base, top_incr, shard_base, shard_incr]: [bool; 4],
    ) -> Result<Vec<MigrationStep>, MigrationError> {
        let mut manifest = AofManifest::parse(V1).unwrap();
        manifest.layout = layout;
        let files = Version1Files {
            top_base,
            top_incr,
            shard_base,
            shard_incr,
        };
        migrate_top_level_to_per_shard(&AofPaths::new("/d"), &manifest, files)
    }

    fn name(step: &MigrationStep) -> &'static str {
        match step {
            MigrationStep::CreateDir(_) => "mkdir",
            MigrationStep::Rename { to, .. } if to.to_string_lossy().contains("base") => "base",
            MigrationStep::Rename { .. } => "incr",
            MigrationStep::ReplaceManifest(_) => "manifest",
        }
    }

    /// Scenario 102: every state that a crash can leave, and every other one.
    #[test]
    fn the_plan_follows_from_what_exists() {
        for bits in 0..32 {
            let files = [0, 1, 2, 3].map(|bit| bits >> bit & 1 == 1);
            let layout = match bits >> 4 {
                0 => AofLayout::TopLevel,
                _ => AofLayout::PerShard,
            };
            let [top_base, top_incr, shard_base, shard_incr] = files;
            let result = plan(layout, files);
            if top_base == shard_base || top_incr == shard_incr {
                assert!(result.is_err(), "{layout:?} {files:?}");
                continue;
            }
            let mut expected = Vec::new();
            if top_base || top_incr {
                expected.push("mkdir");
            }
            if top_base {
                expected.push("base");
            }
            if top_incr {
                expected.push("incr");
            }
            if layout == AofLayout::TopLevel {
                expected.push("manifest");
            }
            let steps: Vec<&str> = result.unwrap().iter().map(name).collect();
            assert_eq!(steps, expected, "{layout:?} {files:?}");
        }
    }

    #[test]
    fn base_incr_paths_route_to_shard_zero_after_migration() {
        let steps = plan(AofLayout::TopLevel, [true, true, false, false]).unwrap();
        let Some(MigrationStep::ReplaceManifest(manifest)) = steps.last() else {
            panic!("{steps:?}");
        };
        let text = manifest.to_text();
        assert_eq!(
            text,
            "seq 7\nbase shard-0/moon.aof.7.base.rdb\nincr shard-0/moon.aof.7.incr.aof\n"
        );
        let read = AofManifest::parse(text.as_bytes()).unwrap();
        assert_eq!(&read, &**manifest);
        let paths = AofPaths::new("/d").version_1(read.layout, read.seq);
        let renamed: Vec<PathBuf> = steps
            .iter()
            .filter_map(|step| match step {
                MigrationStep::Rename { to, .. } => Some(to.clone()),
                _ => None,
            })
            .collect();
        assert_eq!(paths.to_vec(), renamed);
        assert_eq!(paths[1], PathBuf::from("/d/shard-0/moon.aof.7.incr.aof"));
    }

    #[test]
    fn a_manifest_names_both_files_at_the_same_place() {
        for text in [
            "seq 7\nbase shard-0/moon.aof.7.base.rdb\nincr moon.aof.7.incr.aof\n",
            "seq 7\nbase moon.aof.7.base.rdb\nincr shard-0/moon.aof.7.incr.aof\n",
            "seq 7\nbase shard-1/moon.aof.7.base.rdb\nincr shard-1/moon.aof.7.incr.aof\n",
        ] {
            assert!(AofManifest::parse(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn only_version_1_is_migrated_this_way() {
        let v2 = b"version 2\nseq 1\nshards 1\nshard 0 max_lsn 0\n";
        let manifest = AofManifest::parse(v2).unwrap();
        let files = Version1Files {
            top_base: true,
            top_incr: true,
            shard_base: false,
            shard_incr: false,
        };
        let result = migrate_top_level_to_per_shard(&AofPaths::new("/d"), &manifest, files);
        assert_eq!(result, Err(MigrationError::NotVersion1));
    }
}
