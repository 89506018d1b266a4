//! Damage: loss below the durable mark. The start is refused, the place is named, and nothing on
//! disk changes.

use crate::harness::{DIR, open, options, segment, shards};
use moon_aof::{FaultyStorage, FsyncPolicy, NoProgress, RecoverError, Recovery};
use moon_core::Lsn;
use std::path::Path;
use std::sync::Arc;

const FRAME: usize = 40 + 24;

/// Five frames of 24 bytes, each synced before the next.
fn synced() -> FaultyStorage {
    let disk = FaultyStorage::new(1);
    let mut log = open(&disk, &options(FsyncPolicy::EverySec), 1).unwrap();
    for i in 0..5u8 {
        log.append(0, &[b'a' + i; 24]);
        log.sync();
    }
    disk.kill()
}

fn refused(disk: &FaultyStorage) -> RecoverError {
    let before = disk.snapshot();
    let options = options(FsyncPolicy::EverySec);
    let error = open(disk, &options, 1).err().expect("a refusal");
    assert!(
        disk.snapshot() == before,
        "a refused start changed the disk"
    );
    let checked = Recovery::scan(
        Arc::new(disk.clone()),
        &options,
        Some(shards(1)),
        shards(1),
        &NoProgress,
    );
    assert!(checked.is_err(), "a check of the configuration sees it too");
    error
}

/// Scenarios 35, 36 and 37: each bit of a frame in mid-file, header and payload.
#[test]
fn any_flipped_bit_below_the_durable_mark_is_refused_by_file_offset_and_lsn() {
    let disk = synced();
    let at = 64 + FRAME;
    for bit in 0..FRAME * 8 {
        let disk = disk.kill();
        disk.damage(&segment(0, 1), |bytes| {
            bytes[at + bit / 8] ^= 1 << (bit % 8);
        })
        .unwrap();
        match refused(&disk) {
            RecoverError::Damage {
                path,
                offset,
                missing_from,
                missing_to,
                durable,
            } => {
                assert_eq!(path, segment(0, 1), "bit {bit}");
                assert_eq!(offset, at as u64, "bit {bit}");
                assert_eq!((missing_from, missing_to), (Lsn(24), Lsn(48)), "bit {bit}");
                assert_eq!(durable, Lsn(96), "bit {bit}");
            }
            other => panic!("bit {bit}: {other}"),
        }
    }
}

/// The last frame has no mark behind it: it may be a torn write, and is treated as one.
#[test]
fn a_flipped_bit_above_the_durable_mark_is_a_torn_tail() {
    let disk = synced();
    disk.damage(&segment(0, 1), |bytes| bytes[64 + 4 * FRAME + 45] ^= 1)
        .unwrap();
    let log = open(&disk, &options(FsyncPolicy::EverySec), 1).unwrap();
    assert_eq!(log.recovered.bytes.len(), 96);
}

#[test]
fn after_a_clean_stop_every_lost_byte_is_damage() {
    let disk = FaultyStorage::new(1);
    let mut log = open(&disk, &options(FsyncPolicy::No), 2).unwrap();
    log.append(0, b"one");
    log.append(1, b"two");
    log.stop();
    for shard in 0..2 {
        let disk = disk.kill();
        disk.damage(&segment(shard, 1), |bytes| bytes.truncate(64))
            .unwrap();
        let error = open(&disk, &options(FsyncPolicy::No), 2).err().unwrap();
        assert!(matches!(error, RecoverError::Damage { .. }), "{error}");
    }
}

#[test]
fn a_damaged_or_missing_segment_is_refused() {
    let disk = synced();
    let flipped = disk.kill();
    flipped
        .damage(&segment(0, 1), |bytes| bytes[20] ^= 1)
        .unwrap();
    assert!(matches!(
        refused(&flipped),
        RecoverError::SegmentHeader { .. }
    ));
    let missing = disk.kill();
    moon_aof::Storage::remove(&missing, &segment(0, 1)).unwrap();
    assert!(matches!(refused(&missing), RecoverError::Missing { .. }));
}

#[test]
fn every_changed_byte_of_the_manifest_is_refused() {
    let disk = synced();
    let path = Path::new(DIR).join("moon.aof.manifest");
    let len = disk.snapshot()[&path].len();
    for at in 0..len {
        let disk = disk.kill();
        disk.damage(&path, |bytes| bytes[at] ^= 2).unwrap();
        assert!(
            matches!(refused(&disk), RecoverError::Manifest { .. }),
            "byte {at}"
        );
    }
    for cut in 0..len {
        let disk = disk.kill();
        disk.damage(&path, |bytes| bytes.truncate(cut)).unwrap();
        assert!(
            matches!(refused(&disk), RecoverError::Manifest { .. }),
            "cut at {cut}"
        );
    }
}

#[test]
fn frames_without_a_manifest_are_never_thrown_away() {
    let disk = synced();
    moon_aof::Storage::remove(&disk, &Path::new(DIR).join("moon.aof.manifest")).unwrap();
    match refused(&disk) {
        RecoverError::Unnamed { path } => assert_eq!(path, segment(0, 1)),
        other => panic!("{other}"),
    }
}

#[test]
fn another_shard_count_is_refused_in_the_words_of_the_runbook() {
    let disk = synced();
    let error = open(&disk, &options(FsyncPolicy::EverySec), 4)
        .err()
        .unwrap();
    assert!(
        error
            .to_string()
            .contains("shard count changed (manifest=1, config=4)"),
        "{error}"
    );
    // Without a configured count the directory's own is used.
    let recovery = Recovery::scan(
        Arc::new(disk),
        &options(FsyncPolicy::EverySec),
        None,
        shards(8),
        &NoProgress,
    )
    .unwrap();
    assert_eq!(recovery.shards(), shards(1));
}
