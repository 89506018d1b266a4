//! The migration of a version 1 log in place, carried out: its two files move to the directory of
//! shard 0, and the manifest says so.
//!
//! The steps are [`moon_manifest::migrate_top_level_to_per_shard`]'s. Here each is made durable
//! before the manifest is replaced, and if one fails, those before it are undone. A crash leaves
//! some of the steps done; the next call does the rest.

use crate::failpoint;
use crate::storage::{Storage, read_whole, replace_file};
use moon_core::ShardId;
use moon_manifest::manifest::MANIFEST_BYTES_MAX;
use moon_manifest::{
    AofLayout, AofManifest, AofPaths, ManifestError, ManifestVersion, MigrationError,
    MigrationStep, Version1Files, migrate_top_level_to_per_shard,
};
use std::io;
use std::path::{Path, PathBuf};

/// What became of the directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Migrated {
    /// The files were moved, or the rest of them.
    Now,
    /// There was nothing to do: the files are in their place, or this is no log of version 1.
    Already,
}

/// Why a log of version 1 was not migrated.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// The directory or its manifest could not be read. Nothing was changed.
    #[error("cannot read {}", path.display())]
    Read {
        /// What was read.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The manifest is not what any version writes. Nothing was changed.
    #[error("cannot use {}", path.display())]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// What is wrong.
        source: ManifestError,
    },
    /// A file is missing or at two places. Nothing was changed.
    #[error(transparent)]
    Plan(#[from] MigrationError),
    /// Another process uses the directory. Nothing was changed.
    #[error("{} is in use by another process", path.display())]
    InUse {
        /// The lock file.
        path: PathBuf,
    },
    /// A step failed, and everything is as it was before.
    #[error("cannot migrate {}; everything was put back", path.display())]
    PutBack {
        /// What the step was to write or move.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A step failed, and so did putting things back. Nothing is lost: the next start goes on
    /// from what it finds.
    #[error(
        "cannot migrate {} ({undoing} while putting things back); a start goes on from here",
        path.display()
    )]
    HalfDone {
        /// What the step was to write or move.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
        /// Why it could not be undone.
        undoing: io::Error,
    },
}

/// Brings the log of version 1 in an append-only directory from the top level to the directory of
/// shard 0, or does what is left of that. Any other directory is left alone.
///
/// # Errors
/// [`MigrateError`]; a failure at any step leaves the directory as it was.
pub fn migrate_in_place(storage: &dyn Storage, paths: &AofPaths) -> Result<Migrated, MigrateError> {
    let Some((manifest, text)) = read_version_1(storage, paths)? else {
        return Ok(Migrated::Already);
    };
    let steps = plan(storage, paths, &manifest)?;
    if steps.is_empty() {
        return Ok(Migrated::Already);
    }
    let path = paths.lock();
    let _lock = match storage.lock(&path) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            return Err(MigrateError::InUse { path });
        }
        result => result.map_err(|source| MigrateError::Read { path, source })?,
    };
    let mut migration = Migration {
        storage,
        paths,
        before: text,
        done: Vec::new(),
    };
    for step in steps {
        let path = target(paths, &step);
        if let Err(source) = migration.take(step) {
            return Err(match migration.undo() {
                Ok(()) => MigrateError::PutBack { path, source },
                Err(undoing) => MigrateError::HalfDone {
                    path,
                    source,
                    undoing,
                },
            });
        }
    }
    Ok(Migrated::Now)
}

fn read_version_1(
    storage: &dyn Storage,
    paths: &AofPaths,
) -> Result<Option<(AofManifest, Vec<u8>)>, MigrateError> {
    let path = paths.manifest();
    let text = match read_whole(storage, &path, MANIFEST_BYTES_MAX + 1) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(MigrateError::Read { path, source }),
    };
    let manifest = match AofManifest::parse(&text) {
        Ok(manifest) => manifest,
        Err(source) => return Err(MigrateError::Manifest { path, source }),
    };
    let is_version_1 = manifest.version == ManifestVersion::V1;
    Ok(is_version_1.then_some((manifest, text)))
}

fn plan(
    storage: &dyn Storage,
    paths: &AofPaths,
    manifest: &AofManifest,
) -> Result<Vec<MigrationStep>, MigrateError> {
    let at_top = names(storage, paths.root())?;
    let in_shard = names(storage, &paths.shard_dir(ShardId(0)))?;
    let is_in = |names: &[String], path: &Path| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| names.iter().any(|there| there == name))
    };
    // The names are the same at both places.
    let [base, incr] = paths.version_1(AofLayout::TopLevel, manifest.seq);
    let files = Version1Files {
        top_base: is_in(&at_top, &base),
        top_incr: is_in(&at_top, &incr),
        shard_base: is_in(&in_shard, &base),
        shard_incr: is_in(&in_shard, &incr),
    };
    Ok(migrate_top_level_to_per_shard(paths, manifest, files)?)
}

fn names(storage: &dyn Storage, dir: &Path) -> Result<Vec<String>, MigrateError> {
    match storage.list(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        result => result.map_err(|source| MigrateError::Read {
            path: dir.to_owned(),
            source,
        }),
    }
}

fn target(paths: &AofPaths, step: &MigrationStep) -> PathBuf {
    match step {
        MigrationStep::CreateDir(dir) => dir.clone(),
        MigrationStep::Rename { to, .. } => to.clone(),
        MigrationStep::ReplaceManifest(_) => paths.manifest(),
    }
}

/// A migration under way.
struct Migration<'a> {
    storage: &'a dyn Storage,
    paths: &'a AofPaths,
    /// The manifest as it was.
    before: Vec<u8>,
    /// Steps that were begun, in order; the last one may have failed.
    done: Vec<MigrationStep>,
}

impl Migration<'_> {
    fn take(&mut self, step: MigrationStep) -> io::Result<()> {
        self.done.push(step.clone());
        match &step {
            MigrationStep::CreateDir(dir) => {
                self.storage.create_dir(dir)?;
                self.storage.sync_dir(self.paths.root())?;
                failpoint::hit("migrate-after-directory");
            }
            MigrationStep::Rename { from, to } => {
                self.storage.rename(from, to)?;
                self.sync_dirs()?;
                failpoint::hit("migrate-after-rename");
            }
            MigrationStep::ReplaceManifest(manifest) => {
                self.replace_manifest(manifest.to_text().as_bytes())?;
                failpoint::hit("migrate-after-manifest");
            }
        }
        Ok(())
    }

    /// Puts back what was done, last step first. The manifest comes first, so that at every
    /// moment a start finds the files where the plan looks for them.
    fn undo(&self) -> io::Result<()> {
        for step in self.done.iter().rev() {
            match step {
                MigrationStep::ReplaceManifest(_) => self.replace_manifest(&self.before)?,
                MigrationStep::Rename { from, to } => match self.storage.rename(to, from) {
                    // The step itself had failed.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    result => result.and_then(|()| self.sync_dirs())?,
                },
                MigrationStep::CreateDir(_) => {}
            }
        }
        Ok(())
    }

    /// The directory that a file arrives in, then the one that it leaves.
    fn sync_dirs(&self) -> io::Result<()> {
        self.storage.sync_dir(&self.paths.shard_dir(ShardId(0)))?;
        self.storage.sync_dir(self.paths.root())
    }

    fn replace_manifest(&self, text: &[u8]) -> io::Result<()> {
        let temporary = self.paths.manifest_temp();
        replace_file(self.storage, &temporary, &self.paths.manifest(), text)
    }
}
