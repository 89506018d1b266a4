//! Rewrites on a disk that fails: the generations in force stay in force, nothing is left behind,
//! and the next rewrite works.

use crate::harness::{open, options, segment, wait_until};
use crate::rewrite::{POLICIES, World, base, info, leftovers, write_stream};
use bytes::Bytes;
use moon_aof::faulty::{Fault, Operation, Rule};
use moon_aof::{AofOptions, FaultyStorage, FsyncPolicy, RecoverError, RewriteError, ShutdownError};
use moon_core::{ShardId, UnixMs};
use moon_repl::{CommitLog, FrameKind, LogHealth};
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

const EIO: i32 = 5;
const EMFILE: i32 = 24;
const ENOSPC: i32 = 28;

/// Whether the log can be used as if nothing had happened.
fn settle(world: &mut World) {
    world.log.tick_until("the log is healthy", |log| {
        log.pool.status().health().0 == LogHealth::Healthy
            && log.clock.written() == log.clock.head()
    });
}

/// Scenarios 67, 73, 75 and 79: one operation fails, whichever it is.
#[test]
fn any_failed_operation_leaves_the_old_generation_or_the_new_one() {
    for policy in POLICIES {
        let options = options(policy);
        let mut step = 0;
        loop {
            let what = format!("{policy}, step {step}");
            let disk = FaultyStorage::new(step);
            let mut world = World::open(&disk, &options, 2);
            world.write(4);
            world.rewrite().unwrap();
            world.write(4);
            let before = disk.operations();
            let errno = if step.is_multiple_of(2) { EIO } else { ENOSPC };
            disk.add_rule(Rule {
                operation: None,
                path: String::new(),
                skip: step,
                times: 1,
                fault: Fault::Error(errno),
            });
            let done = world.rewrite_until(|_| false);
            let met = disk.operations() > before + step;
            disk.release();
            // Under `no` a log whose sync failed holds what comes until the next rewrite.
            if policy != FsyncPolicy::No {
                settle(&mut world);
            }
            world.log.tick();
            let written = world.log.clock.written().0 as usize;
            // A superseded file that could not be removed goes with those of the next rewrite.
            assert!(
                done.is_ok() || leftovers(&disk).is_empty(),
                "{what}: {done:?}"
            );
            let log = open(&disk.kill(), &options, 2).unwrap();
            let found = log.recovered.bytes;
            assert!(world.stream.starts_with(&found), "{what}: not a prefix");
            assert!(
                found.len() >= written,
                "{what}: {} of {written}",
                found.len()
            );
            world.write(3);
            for _ in 0..3 {
                // The first one may meet a log that is still on its way out of a failed file.
                if world.rewrite().is_ok() {
                    break;
                }
                world.log.tick();
            }
            settle(&mut world);
            assert_eq!(leftovers(&disk), Vec::<PathBuf>::new(), "{what}, again");
            world.log.sync();
            world.expect(&disk.crash(step), &options, &what);
            if !met {
                assert!(done.is_ok() && step > 30, "{what}: {done:?}");
                break;
            }
            step += 1;
        }
    }
}

/// Scenario 67: the disk is full for the bases, and has room for the log.
#[test]
fn a_base_that_does_not_fit_is_removed_and_the_log_goes_on() {
    let disk = FaultyStorage::new(1);
    let options = options(FsyncPolicy::EverySec);
    let mut world = World::open(&disk, &options, 2);
    world.write(20);
    disk.add_rule(Rule::every(Operation::Write, "base", Fault::Error(ENOSPC)));
    let used = disk.used();
    for _ in 0..3 {
        let failed = world.rewrite();
        assert!(
            matches!(failed, Err(RewriteError::Base { .. })),
            "{failed:?}"
        );
        assert!(!disk.snapshot().contains_key(&base(0, 2)));
        assert_eq!(world.log.clock.written(), world.log.clock.head());
    }
    assert!(disk.used() < used + 200_000, "what did not fit piles up");
    world.expect(&disk.kill(), &options, "without a base");
    disk.release();
    let summary = world.rewrite().unwrap();
    assert_eq!(summary.generation.0, 5, "a number is used once");
    assert_eq!(leftovers(&disk), Vec::<PathBuf>::new());
    world.expect(&disk.kill(), &options, "with bases");
}

/// Scenarios 73 and 75.
#[test]
fn segments_that_cannot_be_created_or_named_change_nothing() {
    let faults = [
        (Operation::Create, "shard-1", EMFILE),
        (Operation::Sync, "incr", EIO),
        (Operation::SyncDir, "shard-0", EIO),
        (Operation::Create, "manifest", ENOSPC),
        (Operation::Sync, "manifest", EIO),
        (Operation::Rename, "manifest", EIO),
        (Operation::SyncDir, "appendonlydir", EIO),
    ];
    for (operation, path, errno) in faults {
        let what = format!("{operation:?} of {path}");
        let disk = FaultyStorage::new(1);
        let options = options(FsyncPolicy::EverySec);
        let mut world = World::open(&disk, &options, 2);
        world.write(5);
        disk.add_rule(Rule::every(operation, path, Fault::Error(errno)));
        let begun = world.log.pool.handle().begin_rewrite();
        assert!(matches!(begun, Err(RewriteError::Begin { .. })), "{what}");
        world.cut();
        world.write(5);
        disk.release();
        world.expect(&disk.kill(), &options, &what);
        world
            .rewrite()
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        world.log.sync();
        world.expect(&disk.crash(3), &options, &what);
    }
}

/// Scenario 63: the sync of the old segment hangs while the log changes to the new one.
#[test]
fn a_cut_during_a_sync_confuses_nobody() {
    for policy in POLICIES {
        let disk = FaultyStorage::new(1);
        let options = options(policy);
        let mut world = World::open(&disk, &options, 1);
        disk.add_rule(Rule::every(Operation::Sync, "aof.1.incr", Fault::Stall));
        world.write(3);
        let mut rewrite = world.log.pool.handle().begin_rewrite().unwrap();
        let before = world.log.clock.head();
        let cut = world.cut();
        assert_eq!(cut, before);
        rewrite.cut_at(cut).unwrap();
        world.write(3);
        // The new segment can be synced; that proves nothing as long as the old one hangs.
        world.log.pool.set_policy(FsyncPolicy::Always);
        for _ in 0..200 {
            world.log.tick();
            assert!(world.log.clock.durable() < cut, "{policy}");
            std::thread::yield_now();
        }
        disk.release();
        let clock = world.log.clock.clone();
        wait_until("all is durable", || clock.durable() == clock.head());
        assert_eq!(world.log.pool.status().health().0, LogHealth::Healthy);
        drop(rewrite);
        world.expect(&disk.crash(1), &options, "after a power loss");
    }
}

/// Scenario 80: a segment that a cut takes out of use is synced once, also under `no`, and
/// nothing behind it is durable before.
#[test]
fn the_old_segment_is_synced_under_every_policy() {
    for policy in POLICIES {
        let disk = FaultyStorage::new(1);
        let options = options(policy);
        let mut world = World::open(&disk, &options, 2);
        world.write(10);
        let mut rewrite = world.log.pool.handle().begin_rewrite().unwrap();
        let cut = world.cut();
        rewrite.cut_at(cut).unwrap();
        let clock = world.log.clock.clone();
        wait_until("the old segments are durable", || clock.durable() == cut);
        world.expect(&disk.crash(5), &options, "after a power loss");
    }
}

/// Scenario 59 at a cut: the tail of a failed file is on its way to a replacement segment.
#[test]
fn a_log_that_is_failing_refuses_the_cut_and_takes_the_next_one() {
    for policy in [FsyncPolicy::Always, FsyncPolicy::EverySec] {
        let disk = FaultyStorage::new(1);
        let options = options(policy);
        let mut world = World::open(&disk, &options, 2);
        world.write(5);
        world.log.sync();
        let handle = world.log.pool.handle();
        let mut rewrite = handle.begin_rewrite().unwrap();
        disk.add_rule(Rule::once(Operation::Sync, "shard-1", Fault::Error(EIO)));
        disk.add_rule(Rule::every(Operation::SyncDir, "", Fault::Error(EIO)));
        world.log.append(1, b"at risk");
        world.stream.extend(b"at risk");
        world.log.pool.set_policy(FsyncPolicy::Always);
        let status = handle.status();
        wait_until("the sync fails", || {
            status.health() == (LogHealth::SyncFailing, Some(ShardId(1)))
        });
        let cut = world.cut();
        let refused = rewrite.cut_at(cut);
        let shard = ShardId(1);
        assert!(matches!(refused, Err(RewriteError::Refused { shard: s }) if s == shard));
        drop(rewrite);
        world.write(4);
        disk.release();
        settle(&mut world);
        world.expect(&disk.kill(), &options, "after the refusal");
        world.rewrite().unwrap();
        world.log.sync();
        world.expect(&disk.crash(1), &options, "after the next rewrite");
    }
}

/// Scenarios 59 and 62: under `no` the tail of a failed file is not in memory. The bases prove
/// what it had.
#[test]
fn under_no_a_rewrite_is_the_way_back_from_a_failed_sync() {
    for given_up in [0, 1, 2] {
        let disk = FaultyStorage::new(1);
        let options = options(FsyncPolicy::No);
        let mut world = World::open(&disk, &options, 2);
        world.write(20);
        disk.add_rule(Rule::once(Operation::Sync, "shard-0", Fault::Error(EIO)));
        world.log.pool.set_policy(FsyncPolicy::EverySec);
        world.log.pool.set_policy(FsyncPolicy::Always);
        let status = world.log.pool.status();
        wait_until("the sync fails", || {
            status.health().0 == LogHealth::SyncFailing
        });
        world.log.pool.set_policy(FsyncPolicy::No);
        world.log.tick();
        let lost_before = world.log.clock.head();
        for _ in 0..given_up {
            let mut rewrite = world.log.pool.handle().begin_rewrite().unwrap();
            let cut = world.cut();
            rewrite.cut_at(cut).unwrap();
            world.write(4);
            drop(rewrite);
            world.log.tick();
            assert_eq!(world.log.clock.written(), world.log.clock.head());
            assert_eq!(status.health().0, LogHealth::SyncFailing);
        }
        assert!(world.log.clock.durable() < lost_before);
        let cut = world.log.clock.head();
        world.rewrite().unwrap();
        settle(&mut world);
        assert!(world.log.clock.durable() >= cut);
        world.log.sync();
        for seed in 0..10 {
            world.expect(&disk.crash(seed), &options, "after a power loss");
        }
        world.log.stop();
    }
}

/// Scenario 59: a rewrite that was given up has moved the log to a new file. A good sync of that
/// one says nothing about what the old one lost.
#[test]
fn a_hole_that_no_bases_fill_is_never_called_durable() {
    let disk = FaultyStorage::new(1);
    let options = options(FsyncPolicy::No);
    let mut world = World::open(&disk, &options, 1);
    world.write(5);
    let lost_before = world.log.clock.head();
    disk.add_rule(Rule::once(Operation::Sync, "shard-0", Fault::Error(EIO)));
    world.log.pool.set_policy(FsyncPolicy::Always);
    let status = world.log.pool.status();
    wait_until("the sync fails", || {
        status.health().0 == LogHealth::SyncFailing
    });
    let rewrite = world.log.pool.handle().begin_rewrite().unwrap();
    world.cut();
    drop(rewrite);
    world.write(5);
    assert_eq!(world.log.clock.written(), world.log.clock.head());
    let clock = world.log.clock.clone();
    let stopped = world
        .log
        .pool
        .shutdown(world.log.logs, UnixMs(1), Duration::from_secs(20));
    assert!(matches!(stopped, Err(ShutdownError::NotDurable { .. })));
    assert!(clock.durable() < lost_before);
}

/// Scenario 59: under `no` it is the one sync of the segment that the cut took out of use which
/// fails, while the bases are written.
#[test]
fn under_no_the_bases_also_prove_what_the_last_sync_of_the_old_segment_lost() {
    let disk = FaultyStorage::new(1);
    let options = options(FsyncPolicy::No);
    let mut world = World::open(&disk, &options, 2);
    world.write(20);
    disk.add_rule(Rule::once(Operation::Sync, "aof.1.incr", Fault::Error(EIO)));
    let cut = world.log.clock.head();
    world.rewrite().unwrap();
    settle(&mut world);
    assert!(world.log.clock.durable() >= cut);
    assert!(world.log.pool.status().total(|shard| &shard.fsync_failures) == 1);
    world.log.sync();
    for seed in 0..10 {
        world.expect(&disk.crash(seed), &options, "after a power loss");
    }
}

/// Scenario 81: frames are held, or half of a run is written, when the log changes segments.
#[test]
fn what_is_held_at_the_cut_is_written_once_and_whole() {
    for policy in POLICIES {
        for writes in 0..5 {
            let disk = FaultyStorage::new(1);
            let options = AofOptions {
                frame_max: 100,
                ..options(policy)
            };
            let mut world = World::open(&disk, &options, 2);
            world.write(3);
            disk.add_rule(Rule {
                skip: writes,
                ..Rule::every(Operation::Write, "shard-0", Fault::Error(ENOSPC))
            });
            let run = [b'r'; 250];
            for _ in 0..2 {
                let frame = Bytes::copy_from_slice(&run);
                world.log.logs[0].append(FrameKind::Cross, frame, UnixMs(1));
                world.stream.extend(run);
            }
            let handle = world.log.pool.handle();
            let begun = handle.begin_rewrite();
            disk.release();
            let mut rewrite = match begun {
                Ok(rewrite) => rewrite,
                // The segments could not be created.
                Err(_) => handle.begin_rewrite().unwrap(),
            };
            let cut = world.cut();
            let state = world.stream.clone();
            rewrite.cut_at(cut).unwrap();
            world.write(2);
            for shard in 0..2 {
                let mut file = rewrite.base(ShardId(shard), &info()).unwrap();
                write_stream(&mut file, &state).unwrap();
                file.finish().unwrap();
            }
            world.log.tick();
            assert_eq!(world.log.clock.written(), world.log.clock.head());
            world.expect(&disk.kill(), &options, "before the bases");
            rewrite.finish(&AtomicBool::new(false)).unwrap();
            world.expect(&disk.kill(), &options, "with the bases");
        }
    }
}

/// Scenario 95: nothing is buffered for a rewrite, so however long a base takes, the log goes on
/// as before it, and memory holds what is not synced and no more.
#[test]
fn writes_during_a_slow_base_cost_no_memory_and_are_not_lost() {
    let disk = FaultyStorage::new(1);
    let options = options(FsyncPolicy::EverySec);
    let mut world = World::open(&disk, &options, 2);
    world.write(5);
    let mut rewrite = world.log.pool.handle().begin_rewrite().unwrap();
    let cut = world.cut();
    rewrite.cut_at(cut).unwrap();
    for _ in 0..20 {
        world.write(50);
        world.log.sync();
        world.log.tick();
        assert!(world.log.logs.iter().all(|log| log.bytes_at_risk() == 0));
    }
    let state = world.stream[..cut.0 as usize].to_vec();
    for shard in 0..2 {
        let mut file = rewrite.base(ShardId(shard), &info()).unwrap();
        write_stream(&mut file, &state).unwrap();
        file.finish().unwrap();
    }
    rewrite.finish(&AtomicBool::new(false)).unwrap();
    world.expect(&disk.crash(1), &options, "after a power loss");
}

#[test]
fn there_is_one_rewrite_at_a_time_and_none_after_the_end() {
    let disk = FaultyStorage::new(1);
    let options = options(FsyncPolicy::EverySec);
    let mut world = World::open(&disk, &options, 2);
    world.write(3);
    let handle = world.log.pool.handle();
    let rewrite = handle.begin_rewrite().unwrap();
    assert!(matches!(
        handle.begin_rewrite(),
        Err(RewriteError::InProgress)
    ));
    drop(rewrite);
    world.rewrite().unwrap();
    world.log.stop();
    assert!(matches!(handle.begin_rewrite(), Err(RewriteError::Stopped)));
}

/// The directory stays locked while a rewrite may still change it.
#[test]
fn a_rewrite_keeps_the_directory_after_the_end_of_the_log() {
    let disk = FaultyStorage::new(1);
    let options = options(FsyncPolicy::EverySec);
    let world = World::open(&disk, &options, 1);
    let rewrite = world.log.pool.handle().begin_rewrite().unwrap();
    world.log.stop();
    let second = open(&disk, &options, 1);
    assert!(matches!(second, Err(RecoverError::InUse { .. })));
    drop(rewrite);
    open(&disk, &options, 1).unwrap();
}

#[test]
fn a_step_out_of_order_is_refused() {
    let disk = FaultyStorage::new(1);
    let mut world = World::open(&disk, &options(FsyncPolicy::EverySec), 2);
    world.write(3);
    let handle = world.log.pool.handle();
    let stop = AtomicBool::new(false);
    let mut rewrite = handle.begin_rewrite().unwrap();
    let base_before_cut = rewrite.base(ShardId(0), &info()).map(|_| ());
    assert!(matches!(base_before_cut, Err(RewriteError::NotCut)));
    // Nobody called `cut` on the logs.
    let refused = rewrite.cut_at(world.log.clock.head());
    assert!(matches!(refused, Err(RewriteError::Refused { .. })));
    assert!(matches!(rewrite.finish(&stop), Err(RewriteError::NotCut)));
    let mut rewrite = handle.begin_rewrite().unwrap();
    let cut = world.cut();
    rewrite.cut_at(cut).unwrap();
    let mut file = rewrite.base(ShardId(0), &info()).unwrap();
    write_stream(&mut file, &world.stream).unwrap();
    file.finish().unwrap();
    let begun = rewrite.base(ShardId(1), &info()).unwrap();
    drop(begun);
    let unfinished = rewrite.finish(&stop);
    assert!(matches!(unfinished, Err(RewriteError::Unfinished { shard }) if shard == ShardId(1)));
    assert_eq!(leftovers(&disk), Vec::<PathBuf>::new());
}

/// A rewrite that waits for a disk which does not come back can be ended.
#[test]
fn a_rewrite_that_waits_for_the_disk_can_be_told_to_stop() {
    let disk = FaultyStorage::new(1);
    let options = options(FsyncPolicy::EverySec);
    let mut world = World::open(&disk, &options, 1);
    world.write(3);
    disk.add_rule(Rule::every(Operation::Sync, "aof.1.incr", Fault::Stall));
    let stopped = world.rewrite_until(|_| true);
    assert!(matches!(stopped, Err(RewriteError::Interrupted)));
    disk.release();
    assert_eq!(leftovers(&disk), Vec::<PathBuf>::new());
    world.rewrite().unwrap();
    world.expect(&disk.kill(), &options, "after the second one");
    assert!(!disk.snapshot().contains_key(&segment(0, 1)));
}
