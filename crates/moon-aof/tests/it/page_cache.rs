//! Bytes that reads show and the disk does not have. After a failed sync the kernel may call the
//! pages clean: every later sync succeeds without them, every read still shows them, and a power
//! loss takes them. What no sync proved durable is not believed because a file can be read.

use crate::harness::{Open, open, options, payload, segment, wait_until};
use moon_aof::faulty::{Fault, Operation, Random, Rule};
use moon_aof::storage::write_all_at;
use moon_aof::{AofOptions, FaultyStorage, FsyncPolicy, RecoverError, Storage};
use moon_core::Lsn;
use moon_repl::LogHealth;

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

/// A log whose last sync failed, killed before a replacement segment had the tail. Returns what
/// the next process finds and the whole stream, of which `synced` bytes are on disk.
fn killed_after_a_failed_sync(seed: u64, options: &AofOptions) -> (FaultyStorage, Vec<u8>, usize) {
    let disk = FaultyStorage::new(seed);
    let mut random = Random(seed);
    let mut log = open(&disk, options, 2).unwrap();
    let mut stream = Vec::new();
    let mut append = |log: &mut Open, random: &mut Random, shard: usize| {
        let len = 1 + random.below(1200) as usize;
        let frame = payload(random, len);
        log.append(shard, &frame);
        stream.extend(frame);
    };
    for shard in [0, 1, 1, 0] {
        append(&mut log, &mut random, shard);
    }
    log.sync();
    let synced = log.clock.durable().0 as usize;
    // No replacement can be named.
    disk.add_rule(Rule::every(Operation::SyncDir, "", Fault::Error(EIO)));
    disk.add_rule(Rule::every(Operation::Sync, "incr", Fault::Error(EIO)));
    for shard in [1, 0, 0, 1] {
        append(&mut log, &mut random, shard);
    }
    log.pool.set_policy(FsyncPolicy::Always);
    let status = log.pool.status().clone();
    wait_until("both syncs fail", || {
        let failing = |s: &moon_aof::status::ShardStatus| s.health() == LogHealth::SyncFailing;
        status.shards().iter().all(failing)
    });
    let disk = disk.kill();
    drop(log);
    (disk, stream, synced)
}

fn random_options(seed: u64) -> AofOptions {
    AofOptions {
        frame_max: if seed.is_multiple_of(3) { 300 } else { 1 << 20 },
        ..options(FsyncPolicy::EverySec)
    }
}

/// Scenario 59, with the death of the process in between: the next start serves what it read and
/// calls it durable, so the bytes must be on disk by then.
#[test]
fn what_a_failed_sync_left_in_the_page_cache_survives_a_restart_and_then_a_power_loss() {
    for seed in 0..60 {
        let options = random_options(seed);
        let (disk, mut stream, synced) = killed_after_a_failed_sync(seed, &options);
        assert!(synced < stream.len());
        let mut log = open(&disk, &options, 2).unwrap();
        assert!(log.recovered.bytes == stream, "seed {seed}");
        assert_eq!(log.clock.durable().0 as usize, stream.len());
        log.append(0, b"later");
        log.append(1, b"and later");
        log.sync();
        stream.extend(b"laterand later");
        let disk = disk.crash(seed);
        let log = open(&disk, &options, 2)
            .unwrap_or_else(|error| panic!("seed {seed}, after the power loss: {error}"));
        assert!(log.recovered.bytes == stream, "seed {seed}");
    }
}

/// The same if the sync fails during the recovery: the start is refused, and the next one does
/// not take the success of a second sync for a proof.
#[test]
fn a_sync_that_fails_during_recovery_is_not_made_good_by_the_next_start() {
    for seed in 0..60 {
        let options = random_options(seed);
        let disk = FaultyStorage::new(seed);
        let mut log = open(&disk, &options, 2).unwrap();
        let mut random = Random(seed);
        let mut stream = Vec::new();
        for shard in [0, 1, 1, 0, 1] {
            let frame = payload(&mut random, 900);
            log.append(shard, &frame);
            stream.extend(frame);
        }
        let disk = disk.kill();
        drop(log);
        // Each of the syncs of segments in turn.
        disk.add_rule(Rule {
            skip: seed % 8,
            ..Rule::once(Operation::Sync, "incr", Fault::Error(EIO))
        });
        let refused = open(&disk, &options, 2);
        assert_eq!(refused.is_err(), seed % 8 < 6, "seed {seed}");
        drop(refused);
        let disk = disk.kill();
        let log = open(&disk, &options, 2).unwrap();
        assert!(log.recovered.bytes == stream, "seed {seed}");
        drop(log);
        let log = open(&disk.crash(seed), &options, 2).unwrap();
        assert!(log.recovered.bytes == stream, "seed {seed}");
    }
}

/// What was proven durable is not copied: a clean stop makes the next start cheap.
#[test]
fn after_a_clean_stop_nothing_is_copied() {
    let disk = FaultyStorage::new(1);
    let options = options(FsyncPolicy::No);
    let mut log = open(&disk, &options, 1).unwrap();
    log.append(0, &[b'a'; 5000]);
    log.stop();
    let log = open(&disk.kill(), &options, 1).unwrap();
    assert_eq!(log.summary.unproven_bytes, 0);
    assert_eq!(log.recovered.bytes.len(), 5000);
    assert!(disk.snapshot()[&segment(0, 1)].len() > 5000);
}

/// Only what lies above the durable mark is copied, and the old file keeps the rest.
#[test]
fn only_what_was_not_proven_durable_is_copied() {
    let disk = FaultyStorage::new(1);
    let options = options(FsyncPolicy::EverySec);
    let mut log = open(&disk, &options, 1).unwrap();
    log.append(0, &[b'a'; 1000]);
    log.sync();
    // Carries the mark.
    log.append(0, &[b'b'; 100]);
    log.append(0, &[b'c'; 50]);
    let disk = disk.kill();
    drop(log);
    let log = open(&disk, &options, 1).unwrap();
    assert_eq!(log.summary.unproven_bytes, 150);
    assert_eq!(disk.snapshot()[&segment(0, 1)].len(), 64 + 1040);
    drop(log);
    // The copies are as good as the originals, and are not copied again.
    let log = open(&disk.kill(), &options, 1).unwrap();
    assert_eq!(log.summary.unproven_bytes, 0);
    assert_eq!(log.clock.head(), Lsn(1150));
    assert!(log.recovered.bytes.ends_with(&[b'c'; 50]));
    assert_eq!(log.recovered.units.len(), 3);
}

/// A frame longer than the copy's buffer, a run, and small ones around them.
#[test]
fn long_frames_and_runs_are_copied_byte_for_byte() {
    for frame_max in [3 << 20, 100_000] {
        let disk = FaultyStorage::new(1);
        let options = AofOptions {
            frame_max,
            ..options(FsyncPolicy::No)
        };
        let mut log = open(&disk, &options, 2).unwrap();
        let mut random = Random(7);
        let mut stream = Vec::new();
        for len in [10, 2_500_001, 1 << 20, 30, (1 << 20) - 40, 40, 99_960] {
            for shard in 0..2 {
                let frame = payload(&mut random, len);
                log.append(shard, &frame);
                stream.extend(frame);
            }
        }
        let disk = disk.kill();
        drop(log);
        let log = open(&disk, &options, 2).unwrap();
        assert_eq!(log.summary.unproven_bytes as usize, stream.len());
        let units = log.recovered.units.clone();
        drop(log);
        let again = open(&disk.crash(3), &options, 2).unwrap();
        assert!(again.recovered.bytes == stream);
        assert_eq!(again.recovered.units, units, "shard, place and length");
        assert_eq!(again.summary.unproven_bytes, 0);
    }
}

/// A disk without room for the copy: the start is refused, the space is given back by the next
/// attempt, and with room everything is there.
#[test]
fn a_copy_that_does_not_fit_refuses_the_start_and_does_not_pile_up() {
    let disk = FaultyStorage::new(1);
    let options = options(FsyncPolicy::No);
    let mut log = open(&disk, &options, 1).unwrap();
    let frame = vec![b'x'; 10_000];
    for _ in 0..300 {
        log.append(0, &frame);
    }
    let disk = disk.kill();
    drop(log);
    disk.set_capacity(Some(disk.used() + 2_000_000));
    for _ in 0..6 {
        match open(&disk, &options, 1).err() {
            Some(RecoverError::Write { source, .. }) => {
                assert_eq!(source.raw_os_error(), Some(ENOSPC));
            }
            other => panic!("{other:?}"),
        }
    }
    let segments = |disk: &FaultyStorage| {
        let files = disk.snapshot();
        let named = files.keys().map(|path| path.to_string_lossy().into_owned());
        named.filter(|path| path.ends_with("incr.aof")).count()
    };
    assert!(segments(&disk) <= 3, "{}", segments(&disk));
    disk.set_capacity(None);
    let log = open(&disk, &options, 1).unwrap();
    assert_eq!(log.recovered.bytes.len(), 3_000_000);
    assert_eq!(log.summary.truncated_bytes, 0);
    drop(log);
    let log = open(&disk.crash(5), &options, 1).unwrap();
    assert_eq!(log.recovered.bytes.len(), 3_000_000);
}

/// A start that dies in the copy, again and again, on a disk with room for one copy.
#[test]
fn a_copy_that_was_interrupted_gives_its_space_back_before_the_next_one() {
    let disk = FaultyStorage::new(1);
    let options = options(FsyncPolicy::No);
    let mut log = open(&disk, &options, 2).unwrap();
    let frame = vec![b'x'; 10_000];
    for shard in [0, 1].repeat(50) {
        log.append(shard, &frame);
    }
    let mut disk = disk.kill();
    drop(log);
    let room = disk.used() + 1_100_000;
    for life in 0..4 {
        disk.set_capacity(Some(room));
        // Both copies are synced; the second manifest is not.
        disk.add_rule(Rule {
            skip: 1,
            ..Rule::once(Operation::Sync, "manifest", Fault::Halt)
        });
        let refused = open(&disk, &options, 2).err();
        assert!(
            matches!(refused, Some(RecoverError::Write { .. })),
            "life {life}: {refused:?}"
        );
        let before = disk.used();
        disk = if life % 2 == 0 {
            disk.kill()
        } else {
            disk.crash(life)
        };
        assert!(before > room - 200_000, "life {life}: the copy was there");
    }
    disk.set_capacity(Some(room));
    let log = open(&disk, &options, 2).unwrap();
    assert_eq!(log.recovered.bytes.len(), 1_000_000);
    assert_eq!(log.summary.truncated_bytes, 0);
}

/// A file of a generation that a manifest dropped comes back: its removal was not on disk, and
/// the sync that emptied it had failed before. It is no reason to refuse a start, nor is it read.
#[test]
fn a_file_of_a_dropped_generation_is_left_alone() {
    let disk = FaultyStorage::new(1);
    let options = options(FsyncPolicy::No);
    let mut log = open(&disk, &options, 1).unwrap();
    log.append(0, b"copied to the second");
    let disk = disk.kill();
    drop(log);
    let first = disk.snapshot()[&segment(0, 1)].clone();
    open(&disk, &options, 1).unwrap().stop();
    open(&disk, &options, 1).unwrap().stop();
    assert!(!disk.snapshot().contains_key(&segment(0, 1)), "dropped");
    let file = disk.create(&segment(0, 1)).unwrap();
    write_all_at(&*file, &[&first, &[], &[]], 0).unwrap();
    let log = open(&disk.kill(), &options, 1).unwrap();
    assert_eq!(log.recovered.bytes, b"copied to the second");
    assert!(disk.snapshot()[&segment(0, 1)] == first);
}

/// The old file cannot be shortened, and what it has above the mark turns into noise.
#[test]
fn what_the_old_file_has_where_the_copies_begin_does_not_matter() {
    let disk = FaultyStorage::new(1);
    let options = options(FsyncPolicy::EverySec);
    let mut log = open(&disk, &options, 1).unwrap();
    log.append(0, &[b'a'; 1000]);
    log.sync();
    log.append(0, &[b'b'; 100]);
    log.append(0, &[b'c'; 50]);
    let disk = disk.kill();
    drop(log);
    disk.add_rule(Rule::every(Operation::Truncate, "", Fault::Error(EIO)));
    let recovered = open(&disk, &options, 1).unwrap().recovered.bytes;
    let kept = 64 + 1040;
    for seed in 0..20 {
        let disk = disk.kill();
        let mut random = Random(seed);
        disk.damage(&segment(0, 1), |bytes| {
            assert!(bytes.len() > kept, "it was not shortened");
            let noise = payload(&mut random, bytes.len() - kept);
            bytes.truncate(kept + random.below(2) as usize * noise.len() / 2);
            bytes.splice(kept.., noise);
        })
        .unwrap();
        let log = open(&disk, &options, 1).unwrap();
        assert!(log.recovered.bytes == recovered, "seed {seed}");
        assert_eq!(log.summary.truncated_bytes, 0);
        assert_eq!(disk.snapshot()[&segment(0, 1)].len(), kept, "shortened now");
    }
}

/// A failed sync while the log runs: both the failed file and its replacement have the tail. One
/// good copy is enough, whichever it is.
#[test]
fn a_bad_copy_of_a_range_that_another_segment_has_is_no_damage() {
    let disk = FaultyStorage::new(1);
    let options = options(FsyncPolicy::EverySec);
    let mut log = open(&disk, &options, 1).unwrap();
    log.append(0, &[b'a'; 24]);
    log.sync();
    log.append(0, &[b'b'; 24]);
    disk.add_rule(Rule::once(Operation::Sync, "incr", Fault::Error(EIO)));
    log.pool.set_policy(FsyncPolicy::Always);
    let clock = log.clock.clone();
    log.tick_until("the tail is safe", |_| clock.durable() == Lsn(48));
    log.append(0, &[b'c'; 24]);
    log.tick_until("the last frame is synced", |_| clock.durable() == Lsn(72));
    let disk = disk.kill();
    drop(log);
    // The tail is the second frame of the failed file and the first of the replacement.
    for (seq, at) in [(1, 64 + 64), (2, 64)] {
        let disk = disk.kill();
        disk.damage(&segment(0, seq), |bytes| bytes[at + 50] ^= 1)
            .unwrap();
        let log = open(&disk, &options, 1).unwrap();
        assert_eq!(log.recovered.bytes.len(), 72, "generation {seq}");
    }
}
