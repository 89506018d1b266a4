//! Every fault of the disk under every policy: what it is called, that nothing false is
//! acknowledged, that nothing piles up, and that service goes on when it is over.

use crate::harness::{DIR, Open, open, options, segment, wait_until};
use moon_aof::faulty::{Fault, Operation, Rule};
use moon_aof::{AofOptions, FaultyStorage, FsyncPolicy, LogFailure, Storage};
use moon_core::{Lsn, ShardId};
use moon_repl::{CommitLog, LogHealth, OsError};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

const ENOENT: i32 = 2;
const EIO: i32 = 5;
const EMFILE: i32 = 24;
const EFBIG: i32 = 27;
const ENOSPC: i32 = 28;
const EROFS: i32 = 30;
const EDQUOT: i32 = 122;

const POLICIES: [FsyncPolicy; 3] = [FsyncPolicy::Always, FsyncPolicy::EverySec, FsyncPolicy::No];

fn new(policy: FsyncPolicy, count: u16) -> (FaultyStorage, Open) {
    let disk = FaultyStorage::new(1);
    let log = open(&disk, &options(policy), count).unwrap();
    (disk, log)
}

/// As [`new`], with a sync (and a look at the file) every few milliseconds.
fn brisk(policy: FsyncPolicy, count: u16) -> (FaultyStorage, Open) {
    let disk = FaultyStorage::new(1);
    let options = AofOptions {
        sync_interval: Duration::from_millis(2),
        ..options(policy)
    };
    let log = open(&disk, &options, count).unwrap();
    (disk, log)
}

fn recovered(disk: &FaultyStorage, count: u16) -> Vec<u8> {
    let log = open(disk, &options(FsyncPolicy::EverySec), count).unwrap();
    log.recovered.bytes
}

fn segments(disk: &FaultyStorage) -> usize {
    let files = disk.snapshot();
    let is_segment = |path: &&std::path::PathBuf| path.to_string_lossy().ends_with(".incr.aof");
    files.keys().filter(is_segment).count()
}

fn failing(shard: u16, health: LogHealth, errno: i32) -> Option<LogFailure> {
    Some(LogFailure {
        shard: ShardId(shard),
        health,
        cause: OsError::new(errno),
    })
}

fn wait_all_durable(log: &mut Open) {
    log.tick_until("everything is durable", |log| {
        log.clock.durable() == log.clock.head() && log.pool.status().failure().is_none()
    });
}

/// Scenarios 65, 66, 71, 72.
#[test]
fn a_failed_append_is_held_under_its_own_name_and_finished_later() {
    let faults = [ENOSPC, EDQUOT, EFBIG, EIO, EROFS].map(|errno| (Fault::Error(errno), errno));
    // A write that takes nothing is a full disk.
    for (fault, errno) in faults.into_iter().chain([(Fault::Short(0), ENOSPC)]) {
        for policy in POLICIES {
            let (disk, mut log) = new(policy, 2);
            let before = log.append(1, b"before ");
            let clock = log.clock.clone();
            wait_until("the first frame is committed", || {
                clock.committed() == before
            });
            disk.add_rule(Rule::every(Operation::Write, "shard-1", fault));
            log.append(1, b"held ");
            log.append(0, b"behind it ");
            for _ in 0..3 {
                log.tick();
                assert_eq!(log.clock.committed(), before, "{policy}, error {errno}");
            }
            let status = log.pool.status();
            let expected = failing(1, LogHealth::AppendFailing, errno);
            assert_eq!(status.failure(), expected, "{policy}");
            assert_eq!(log.logs[1].cause(), Some(OsError::new(errno)));
            assert_eq!(log.logs[0].cause(), None, "a healthy shard names no cause");
            assert!(status.total(|s| &s.append_failures) >= 4);
            disk.release();
            log.tick();
            assert_eq!(status.failure(), None, "{policy}");
            assert_eq!(log.clock.written(), log.clock.head());
            assert_eq!(recovered(&disk.kill(), 2), b"before held behind it ");
            log.stop();
        }
    }
}

/// Scenarios 60, 67, 71, 73, 75: the way out of a failed sync is barred, at each of its steps.
#[test]
fn while_no_replacement_can_be_made_nothing_counts_and_nothing_piles_up() {
    let steps = [
        (Operation::Create, "incr.aof", EMFILE),
        (Operation::Create, "moon.aof.manifest", EMFILE),
        (Operation::Write, "incr.aof", ENOSPC),
        (Operation::Write, "manifest", ENOSPC),
        (Operation::Sync, "incr.aof", EIO),
        (Operation::Sync, "manifest", EIO),
        (Operation::Rename, "manifest", EROFS),
        (Operation::SyncDir, "shard-0", EIO),
        (Operation::SyncDir, "appendonlydir", EMFILE),
    ];
    for policy in [FsyncPolicy::Always, FsyncPolicy::EverySec] {
        for (operation, path, errno) in steps {
            let case = format!("{policy}, {operation:?} of {path}");
            let (disk, mut log) = brisk(policy, 2);
            let before = log.append(0, b"before ");
            wait_all_durable(&mut log);
            let files = segments(&disk);
            disk.add_rule(Rule::once(Operation::Sync, "shard-0", Fault::Error(EIO)));
            if (operation, path) == (Operation::Write, "incr.aof") {
                // Of replacements only: the frame at risk, and what a quiet shard writes on its
                // own, go into the first segments.
                for seq in 2..100 {
                    let path = format!("moon.aof.{seq}.incr");
                    disk.add_rule(Rule::every(operation, &path, Fault::Error(errno)));
                }
            } else {
                disk.add_rule(Rule::every(operation, path, Fault::Error(errno)));
            }
            log.append(0, b"at risk ");
            let expected = failing(0, LogHealth::SyncFailing, errno);
            log.tick_until(&case, |log| log.pool.status().failure() == expected);
            let so_far = disk.operations();
            log.tick_until("several attempts", |_| disk.operations() >= so_far + 12);
            assert_eq!(log.clock.durable(), before, "{case}");
            // At most what the manifest names for the next attempt, or what it may name.
            assert!(segments(&disk) <= files + 4, "{case}: {}", segments(&disk));
            disk.release();
            wait_all_durable(&mut log);
            assert_eq!(recovered(&disk.crash(7), 2), b"before at risk ", "{case}");
            log.append(1, b"and on");
            log.stop();
            assert_eq!(recovered(&disk, 2), b"before at risk and on", "{case}");
        }
    }
}

/// Scenario 68: a disk that stays full while a replacement is wanted.
#[test]
fn a_replacement_that_cannot_be_filled_is_tried_again_in_the_same_segment() {
    let (disk, mut log) = new(FsyncPolicy::Always, 1);
    disk.add_rule(Rule::once(Operation::Sync, "shard-0", Fault::Error(EIO)));
    // The header of the next segment fits, the tail does not.
    disk.add_rule(Rule {
        skip: 1,
        ..Rule::every(Operation::Write, "moon.aof.2.incr", Fault::Error(ENOSPC))
    });
    log.append(0, b"the tail");
    let expected = failing(0, LogHealth::SyncFailing, ENOSPC);
    log.tick_until("the segment is full", |log| {
        log.pool.status().failure() == expected
    });
    let so_far = disk.operations();
    log.tick_until("several attempts", |_| disk.operations() >= so_far + 10);
    assert_eq!(segments(&disk), 2);
    disk.release();
    wait_all_durable(&mut log);
    assert_eq!(segments(&disk), 2);
    assert_eq!(recovered(&disk.crash(1), 1), b"the tail");
}

/// Scenario 71: the segment is moved away under the running log.
#[test]
fn what_goes_into_a_file_without_its_name_is_not_durable() {
    let away = Path::new(DIR).join("shard-0/away");
    for policy in POLICIES {
        let (disk, mut log) = brisk(policy, 1);
        let before = log.append(0, b"before ");
        if policy != FsyncPolicy::No {
            wait_all_durable(&mut log);
        }
        disk.rename(&segment(0, 1), &away).unwrap();
        if policy == FsyncPolicy::Always {
            log.append(0, b"not yet ");
        }
        let expected = failing(0, LogHealth::SyncFailing, ENOENT);
        log.tick_until("it is noticed", |log| {
            log.pool.status().failure() == expected
        });
        log.append(0, b"held");
        let so_far = disk.operations();
        for _ in 0..50 {
            log.tick();
            std::thread::yield_now();
        }
        assert_eq!(log.clock.committed(), before, "{policy}");
        assert_eq!(disk.operations(), so_far, "no attempt beside missing files");
        disk.rename(&away, &segment(0, 1)).unwrap();
        log.tick_until("it goes on", |log| {
            log.clock.written() == log.clock.head() && log.pool.status().failure().is_none()
        });
        let expected: &[u8] = match policy {
            FsyncPolicy::Always => b"before not yet held",
            _ => b"before held",
        };
        assert_eq!(recovered(&disk.kill(), 1), expected, "{policy}");
    }
}

/// Scenario 69: writes go on behind a slow sync, and that is counted as Redis counts it.
#[test]
fn a_slow_sync_under_everysec_is_counted_while_writes_go_on() {
    let disk = FaultyStorage::new(1);
    let options = AofOptions {
        sync_interval: Duration::from_millis(1),
        slow_sync: Duration::from_millis(3),
        ..options(FsyncPolicy::EverySec)
    };
    let mut log = open(&disk, &options, 1).unwrap();
    let status = log.pool.status();
    let delayed = || status.total(|s| &s.delayed_fsyncs);
    disk.add_rule(Rule::every(Operation::Sync, "shard-0", Fault::Stall));
    log.append(0, b"first");
    wait_until("a sync runs", || status.shards()[0].syncing_for().is_some());
    log.tick();
    for round in 1..=3 {
        let end = log.append(0, b"more");
        assert_eq!(log.clock.committed(), end, "writes wait for a sync");
        log.tick_until("the delay is counted", |_| delayed() == round);
        // Without more to sync nothing is delayed.
        let waited = std::time::Instant::now();
        log.tick_until("time passes", |_| waited.elapsed() > options.slow_sync * 3);
        assert_eq!(delayed(), round);
    }
    assert_eq!(log.clock.durable(), Lsn(0), "no false success");
    assert_eq!(status.failure(), None, "slow is not broken");
    disk.release();
    wait_all_durable(&mut log);
    log.stop();
    assert!(status.shards()[0].syncing_for().is_none());
}

/// Issue 3: `appendfsync` at run time. What was written under `no` is not in memory; the first
/// sync covers it, and from then on a failed one can be made good again.
#[test]
fn a_switch_from_no_makes_everything_before_it_durable_first() {
    for policy in [FsyncPolicy::Always, FsyncPolicy::EverySec] {
        let (disk, mut log) = brisk(FsyncPolicy::No, 2);
        for _ in 0..20 {
            log.append(0, b"written ");
        }
        log.append(1, b"under no ");
        disk.add_rule(Rule::every(Operation::Sync, "shard-0", Fault::Stall));
        log.pool.handle().set_policy(policy);
        assert_eq!(log.logs[0].bytes_at_risk(), 0, "it is not in memory");
        // What is counted against the memory bound is what is kept.
        log.append(0, b"kept ");
        assert_eq!(log.logs[0].bytes_at_risk(), 48);
        assert_eq!(log.clock.durable(), Lsn(0));
        disk.release();
        let head = log.clock.head();
        let clock = log.clock.clone();
        wait_until("all of it is durable", || clock.durable() == head);
        disk.add_rule(Rule::once(Operation::Sync, "shard-0", Fault::Error(EIO)));
        log.append(0, b"in memory");
        wait_all_durable(&mut log);
        assert_eq!(log.pool.status().total(|s| &s.fsync_failures), 1);
        let expected = [&b"written ".repeat(20)[..], b"under no kept in memory"].concat();
        for seed in 0..20 {
            assert_eq!(recovered(&disk.crash(seed), 2), expected, "{policy}");
        }
        log.stop();
    }
}

/// The same when that first sync fails: nobody has the frames, so nothing counts any more.
#[test]
fn frames_written_under_no_in_between_make_the_tail_incomplete() {
    let (disk, mut log) = new(FsyncPolicy::EverySec, 1);
    log.append(0, b"kept ");
    log.pool.set_policy(FsyncPolicy::No);
    log.append(0, b"dropped ");
    disk.add_rule(Rule::once(Operation::Sync, "shard-0", Fault::Error(EIO)));
    let handle = log.pool.handle();
    handle.set_policy(FsyncPolicy::Always);
    assert_eq!(handle.policy(), FsyncPolicy::Always);
    let expected = failing(0, LogHealth::SyncFailing, EIO);
    log.tick_until("the sync fails", |log| {
        log.pool.status().failure() == expected
    });
    log.append(0, b"held");
    let syncs = handle.status().shards()[0]
        .fsync_count
        .load(Ordering::Relaxed);
    for _ in 0..200 {
        log.tick();
        std::thread::yield_now();
    }
    assert_eq!(log.clock.durable(), Lsn(0));
    let now = handle.status().shards()[0]
        .fsync_count
        .load(Ordering::Relaxed);
    assert_eq!(now, syncs, "the failed file was synced again");
    assert_eq!(recovered(&disk.kill(), 1), b"kept dropped ");
}
