//! Which generations stay: retention, the archive, files that no manifest names, a closed log, the
//! sizes that are shown.

use crate::harness::{DIR, open, open_on, options, segment};
use crate::rewrite::{World, base, leftovers};
use moon_aof::faulty::{Fault, Operation, Rule};
use moon_aof::storage::{Storage, write_new};
use moon_aof::{AofOptions, FaultyStorage, FsyncPolicy, RealStorage, RecoverError};
use moon_core::Lsn;
use moon_manifest::AofManifest;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const EIO: i32 = 5;

fn everysec() -> AofOptions {
    options(FsyncPolicy::EverySec)
}

fn manifest(disk: &FaultyStorage) -> AofManifest {
    let path = PathBuf::from(format!("{DIR}/moon.aof.manifest"));
    AofManifest::parse(&disk.snapshot()[&path]).unwrap()
}

fn set_manifest(disk: &FaultyStorage, manifest: &AofManifest) {
    let path = PathBuf::from(format!("{DIR}/moon.aof.manifest"));
    let text = manifest.to_text().into_bytes();
    disk.damage(&path, |bytes| *bytes = text).unwrap();
}

fn files(disk: &FaultyStorage) -> BTreeSet<PathBuf> {
    disk.snapshot().into_keys().collect()
}

/// Scenario 112: superseded generations stay named as long as somebody may want them, and a start
/// needs none of them.
#[test]
fn kept_generations_stay_and_a_start_does_not_need_them() {
    let disk = FaultyStorage::new(1);
    let options = AofOptions {
        keep_generations: 2,
        ..everysec()
    };
    let mut world = World::open(&disk, &options, 2);
    let mut cuts = Vec::new();
    for _ in 0..4 {
        world.write(5);
        cuts.push(world.rewrite().unwrap().cut);
        world.write(2);
    }
    let named = manifest(&disk);
    let bases: Vec<Lsn> = named.bases.iter().map(|base| base.cut).collect();
    assert_eq!(bases, cuts[1..]);
    let ends: Vec<Option<Lsn>> = named.incrs.iter().map(|incr| incr.end).collect();
    assert_eq!(ends, [Some(cuts[2]), Some(cuts[3]), None]);
    assert_eq!(leftovers(&disk), Vec::<PathBuf>::new());
    // Starts, with and without writes, keep them.
    world.log.stop();
    for _ in 0..3 {
        let mut world = World::open(&disk, &options, 2);
        world.write(1);
        world.log.stop();
    }
    assert_eq!(manifest(&disk).bases, named.bases);
    for path in [
        base(0, named.bases[0].seq.0),
        segment(1, named.incrs[0].seq.0),
    ] {
        assert!(files(&disk).contains(&path), "{}", path.display());
        Storage::remove(&disk, &path).unwrap();
    }
    let world = World::open(&disk, &options, 2);
    // What is needed is needed.
    let damaged = disk.kill();
    drop(world);
    let newest = base(1, named.bases[2].seq.0);
    Storage::remove(&damaged, &newest).unwrap();
    let missing = open(&damaged, &options, 2).map(|_| ());
    assert!(matches!(missing, Err(RecoverError::Missing { path }) if path == newest));
}

/// Writes, rewrites and stops; returns the stream and the cuts.
fn archive(storage: Arc<dyn Storage>, options: &AofOptions) -> (Vec<u8>, Vec<Lsn>) {
    let mut world = World::of(open_on(storage, options, 2).unwrap());
    let mut cuts = Vec::new();
    for _ in 0..3 {
        world.write(6);
        cuts.push(world.rewrite().unwrap().cut);
    }
    let stream = world.stream.clone();
    world.log.stop();
    (stream, cuts)
}

/// Every archived epoch is an append-only directory that ends where the next one begins.
fn check_archive(storage: &Arc<dyn Storage>, archive: &Path, stream: &[u8], cuts: &[Lsn]) {
    let mut from = Lsn::ZERO;
    for cut in cuts {
        let options = AofOptions {
            dir: archive.join(format!("{from}-{cut}")),
            ..everysec()
        };
        let log = open_on(storage.clone(), &options, 2).unwrap();
        assert!(log.recovered.bytes == stream[..cut.0 as usize], "{cut}");
        assert!(log.summary.clean_stop);
        from = *cut;
    }
}

/// Scenario 112: what is not kept goes to the archive, across file systems (directories of this
/// disk in memory are different ones) and in one.
#[test]
fn an_archived_generation_is_a_complete_directory() {
    let disk = FaultyStorage::new(1);
    let options = AofOptions {
        archive_dir: Some(PathBuf::from("/archive")),
        ..everysec()
    };
    let storage: Arc<dyn Storage> = Arc::new(disk.clone());
    let (stream, cuts) = archive(storage.clone(), &options);
    assert_eq!(leftovers(&disk), Vec::<PathBuf>::new());
    check_archive(&storage, Path::new("/archive"), &stream, &cuts);

    let dir = tempfile::tempdir().unwrap();
    let options = AofOptions {
        dir: dir.path().join("appendonlydir"),
        archive_dir: Some(dir.path().join("archive")),
        ..everysec()
    };
    let storage: Arc<dyn Storage> = Arc::new(RealStorage);
    let (stream, cuts) = archive(storage.clone(), &options);
    check_archive(&storage, &dir.path().join("archive"), &stream, &cuts);
    let left = std::fs::read_dir(options.dir.join("shard-0")).unwrap();
    assert_eq!(left.count(), 2, "a base and a segment");
}

/// A move that fails or is cut short is finished by the next rewrite; nothing is lost on the way.
#[test]
fn an_interrupted_move_to_the_archive_is_finished_later() {
    for step in 0..40 {
        let disk = FaultyStorage::new(step);
        let options = AofOptions {
            archive_dir: Some(PathBuf::from("/archive")),
            ..everysec()
        };
        let mut world = World::open(&disk, &options, 2);
        world.write(6);
        let fault = if step.is_multiple_of(2) {
            Fault::Error(EIO)
        } else {
            Fault::Halt
        };
        disk.add_rule(Rule {
            operation: None,
            path: "archive".to_owned(),
            skip: step / 2,
            times: 1,
            fault,
        });
        let cut = world.rewrite_until(|_| disk.is_halted()).unwrap().cut;
        let killed = disk.kill();
        let mut world = World::open(&killed, &options, 2);
        world.write(6);
        let next = world.rewrite().unwrap().cut;
        let stream = world.stream.clone();
        let storage: Arc<dyn Storage> = Arc::new(killed.clone());
        check_archive(&storage, Path::new("/archive"), &stream, &[cut, next]);
        assert_eq!(leftovers(&killed), Vec::<PathBuf>::new(), "step {step}");
    }
}

/// Scenario 111: bases of rewrites that were given up and files that a crash kept a rewrite from
/// removing go, but only once the log was recovered without them.
#[test]
fn what_no_manifest_names_goes_only_after_a_recovery_without_it() {
    let disk = FaultyStorage::new(1);
    let mut world = World::open(&disk, &everysec(), 2);
    world.write(5);
    disk.add_rule(Rule::every(Operation::Remove, "", Fault::Error(EIO)));
    world.rewrite().unwrap();
    // Given up, and its bases cannot be removed.
    let mut rewrite = world.log.pool.handle().begin_rewrite().unwrap();
    let cut = world.cut();
    rewrite.cut_at(cut).unwrap();
    let file = rewrite.base(moon_core::ShardId(0), &crate::rewrite::info());
    file.unwrap().finish().unwrap();
    drop(rewrite);
    world.write(5);
    world.log.sync();
    let disk = disk.kill();
    let orphans = [segment(0, 1), segment(1, 1), base(0, 3)];
    let mut found = leftovers(&disk);
    found.sort();
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(orphans.iter().all(|path| found.contains(path)), "{found:?}");

    // A damaged log is refused, and everything stays: it may be what somebody needs.
    let damaged = disk.kill();
    damaged
        .damage(&segment(0, 3), |bytes| bytes.truncate(64))
        .unwrap();
    damaged
        .damage(&segment(1, 3), |bytes| bytes.truncate(64))
        .unwrap();
    let mut lost = manifest(&damaged);
    lost.shards[0].max_lsn = world.stream.len() as u64;
    set_manifest(&damaged, &lost);
    let before = files(&damaged);
    assert!(open(&damaged, &everysec(), 2).is_err());
    assert_eq!(files(&damaged), before);

    world.expect(&disk, &everysec(), "with orphans");
    assert_eq!(leftovers(&disk), Vec::<PathBuf>::new());
}

/// Scenarios 49, 50 and 111: bases and frames without the manifest that named them are the only
/// copy.
#[test]
fn a_base_above_the_manifest_or_without_one_is_never_thrown_away() {
    let disk = FaultyStorage::new(1);
    let mut world = World::open(&disk, &everysec(), 2);
    world.write(5);
    let old = manifest(&disk);
    world.rewrite().unwrap();
    world.log.stop();
    let without = disk.kill();
    let path = PathBuf::from(format!("{DIR}/moon.aof.manifest"));
    Storage::remove(&without, &path).unwrap();
    let before = files(&without);
    let refused = open(&without, &everysec(), 2).map(|_| ());
    assert!(
        matches!(refused, Err(RecoverError::Unnamed { .. })),
        "{refused:?}"
    );
    assert_eq!(files(&without), before);
    // A manifest from a backup: its segments are gone, and the base of later is there.
    set_manifest(&disk, &old);
    assert!(open(&disk, &everysec(), 2).is_err());
    for shard in [0, 1] {
        assert!(files(&disk).contains(&base(shard, 2)));
        write_new(&disk, &segment(shard, 1), b"").unwrap();
    }
    assert!(open(&disk, &everysec(), 2).is_err());
}

/// What a tool was preparing counts for nothing, frames or not, in whatever shard's directory.
#[test]
fn a_generation_in_preparation_is_removed_by_the_next_start() {
    for crash in [false, true] {
        let disk = FaultyStorage::new(1);
        let mut world = World::open(&disk, &everysec(), 2);
        world.write(5);
        world.rewrite().unwrap();
        world.log.stop();
        let mut preparing = manifest(&disk);
        let seq = preparing.seq.next().next();
        preparing.preparing = Some(seq);
        set_manifest(&disk, &preparing);
        let frames = disk.snapshot()[&segment(0, 2)].clone();
        Storage::create_dir(&disk, Path::new(&format!("{DIR}/shard-5"))).unwrap();
        let mut made = Vec::new();
        for shard in [0, 1, 5] {
            for path in [segment(shard, seq.0), base(shard, seq.0)] {
                write_new(&disk, &path, &frames).unwrap();
                Storage::sync_dir(&disk, path.parent().unwrap()).unwrap();
                made.push(path);
            }
        }
        Storage::sync_dir(&disk, Path::new(DIR)).unwrap();
        let disk = if crash {
            disk.add_rule(Rule {
                operation: None,
                path: String::new(),
                skip: 6,
                times: 1,
                fault: Fault::Halt,
            });
            assert!(open(&disk, &everysec(), 2).is_err());
            disk.crash(3)
        } else {
            disk
        };
        let log = open(&disk, &everysec(), 2).unwrap();
        assert!(log.recovered.bytes == world.stream);
        let now = manifest(&disk);
        assert_eq!(now.preparing, None);
        assert!(now.seq > seq, "a number is used once");
        assert!(made.iter().all(|path| !files(&disk).contains(path)));
    }
}

/// Scenario 107: `appendonly no` closes the log; a start uses it only if it is told to.
#[test]
fn a_closed_log_is_used_only_on_demand() {
    let disk = FaultyStorage::new(1);
    let mut world = World::open(&disk, &everysec(), 2);
    world.write(5);
    world.log.sync();
    let at = world.log.pool.handle().close_mark().unwrap();
    assert_eq!(at, world.log.clock.head());
    let disk = disk.crash(1);
    let refused = open(&disk, &everysec(), 2).map(|_| ());
    assert!(matches!(refused, Err(RecoverError::Closed { at: found }) if found == at));
    let demanded = AofOptions {
        use_closed: true,
        ..everysec()
    };
    world.expect(&disk, &demanded, "on demand");
    // The line is gone.
    world.expect(&disk.kill(), &everysec(), "afterwards");
}

#[test]
fn the_size_of_the_log_is_what_its_files_use() {
    let disk = FaultyStorage::new(1);
    let options = AofOptions {
        preallocate: 0,
        ..everysec()
    };
    let on_disk = |disk: &FaultyStorage| -> u64 {
        let files = disk.snapshot();
        let data = |path: &&PathBuf| path.to_string_lossy().contains("/shard-");
        let lens = files
            .keys()
            .filter(data)
            .map(|path| files[path].len() as u64);
        lens.sum()
    };
    let mut world = World::open(&disk, &options, 2);
    let status = world.log.pool.status();
    assert_eq!(status.current_size(), on_disk(&disk));
    world.write(10);
    assert_eq!(status.current_size(), on_disk(&disk));
    assert_eq!(status.base_size(), 2 * 64);
    world.rewrite().unwrap();
    assert_eq!(status.current_size(), on_disk(&disk));
    let base_size = status.base_size();
    assert_eq!(base_size, on_disk(&disk));
    world.write(10);
    assert_eq!(status.base_size(), base_size);
    assert_eq!(status.current_size(), on_disk(&disk));
    let disk = disk.kill();
    let world = World::open(&disk, &options, 2);
    let status = world.log.pool.status();
    assert_eq!(status.current_size(), on_disk(&disk));
    assert_eq!(status.base_size(), on_disk(&disk));
}
