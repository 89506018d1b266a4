//! Superseded generations that leave the directory, as append-only directories of their own.
//!
//! An archived epoch is `<archive>/<first-lsn>-<end-lsn>/`: its files under the names they had, and
//! a manifest of the same history that says that it was stopped cleanly at its end. Whatever reads
//! an append-only directory reads it.
//!
//! The epoch stays named in the directory it leaves until all of it has arrived. A start ignores
//! superseded generations, so files that have left already are missed by nobody, and an
//! interrupted move is finished by the next rewrite.

use super::generations::{self, Epoch};
use crate::failpoint;
use crate::manifest_file::ManifestFile;
use crate::storage::{Storage, read_full_at, replace_file, write_all_at};
use moon_manifest::{AofManifest, AofPaths};
use std::io;
use std::path::Path;

/// Bytes copied at once.
const COPY: usize = 1 << 20;

/// Bytes copied between two syncs.
const SYNC_EVERY: u64 = 8 << 20;

/// Moves all superseded epochs but the newest `keep` to `archive`, oldest first; returns how many.
pub(crate) fn archive_surplus(
    file: &ManifestFile,
    archive: &Path,
    keep: usize,
) -> io::Result<usize> {
    let mut moved = 0;
    loop {
        let manifest = file.current();
        let epochs = generations::superseded(&manifest);
        let Some(oldest) = epochs.first().filter(|_| epochs.len() > keep) else {
            return Ok(moved);
        };
        move_epoch(file, &manifest, oldest, archive)?;
        file.update(|manifest| generations::forget(manifest, oldest))?;
        moved += 1;
    }
}

fn move_epoch(
    file: &ManifestFile,
    manifest: &AofManifest,
    epoch: &Epoch,
    archive: &Path,
) -> io::Result<()> {
    let storage = &**file.storage();
    make_dir(storage, archive)?;
    let to = AofPaths::new(archive.join(format!("{}-{}", epoch.start(), epoch.end)));
    make_dir(storage, to.root())?;
    for shard in file.shards().ids() {
        make_dir(storage, &to.shard_dir(shard))?;
    }
    for name in epoch.files(file.shards()) {
        failpoint::hit("rewrite-mid-delete");
        let from = generations::path(file.paths(), name);
        move_file(storage, &from, &generations::path(&to, name))?;
    }
    let Some(manifest) = manifest_of(manifest, epoch) else {
        return Ok(());
    };
    let text = manifest.to_text();
    replace_file(
        storage,
        &to.manifest_temp(),
        &to.manifest(),
        text.as_bytes(),
    )
}

/// The manifest of an archived epoch; `None` if it has no segments, which makes no directory.
fn manifest_of(manifest: &AofManifest, epoch: &Epoch) -> Option<AofManifest> {
    let mut of_epoch = manifest.clone();
    of_epoch.bases = epoch.base.into_iter().collect();
    of_epoch.incrs.clone_from(&epoch.incrs);
    let bases = of_epoch.bases.iter().map(|base| base.seq);
    let incrs = of_epoch.incrs.iter().map(|incr| incr.seq);
    of_epoch.seq = bases.chain(incrs).max()?;
    for shard in &mut of_epoch.shards {
        shard.max_lsn = shard.max_lsn.min(epoch.end.0);
    }
    of_epoch.clean_stop = Some(epoch.end);
    of_epoch.closed_at = None;
    of_epoch.preparing = None;
    of_epoch.check().is_ok().then_some(of_epoch)
}

fn make_dir(storage: &dyn Storage, dir: &Path) -> io::Result<()> {
    storage.create_dir(dir)?;
    storage.sync_dir(dir.parent().unwrap_or(dir))
}

/// Moves a file durably. One that is not there any more has been moved before.
fn move_file(storage: &dyn Storage, from: &Path, to: &Path) -> io::Result<()> {
    match storage.rename(from, to) {
        Ok(()) => {
            storage.sync_dir(to.parent().unwrap_or(to))?;
            storage.sync_dir(from.parent().unwrap_or(from))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => storage.open(to).map(|_| ()),
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
            copy_file(storage, from, to)?;
            storage.remove(from)
        }
        Err(error) => Err(error),
    }
}

fn copy_file(storage: &dyn Storage, from: &Path, to: &Path) -> io::Result<()> {
    let source = storage.open(from)?;
    let temporary = to.with_extension("tmp");
    let target = storage.create(&temporary)?;
    let mut buffer = vec![0; COPY];
    let (mut at, mut unsynced) = (0, 0);
    loop {
        let read = read_full_at(&*source, &mut buffer, at)?;
        if read == 0 {
            break;
        }
        write_all_at(&*target, &[&buffer[..read], &[], &[]], at)?;
        at += read as u64;
        unsynced += read as u64;
        if unsynced >= SYNC_EVERY {
            unsynced = 0;
            target.sync_data()?;
        }
    }
    target.sync_data()?;
    storage.rename(&temporary, to)?;
    storage.sync_dir(to.parent().unwrap_or(to))
}
