//! Changing the shard count.

use crate::harness::{DIR, State, World, disk, recover, segment, shards, stopped, storage};
use moon_aof::FaultyStorage;
use moon_aof::faulty::{Fault, Operation, Rule};
use moon_core::Lsn;
use moon_manifest::AofManifest;
use moon_repl::FrameKind;
use moon_tools::stream::CopyError;
use moon_tools::{NoProgress, ReshardError, ReshardOutcome, reshard};
use std::path::Path;

fn run(disk: &FaultyStorage, to: u16) -> Result<ReshardOutcome, ReshardError> {
    reshard(&storage(disk), Path::new(DIR), shards(to), &NoProgress)
}

fn manifest(disk: &FaultyStorage) -> AofManifest {
    let path = Path::new(DIR).join("moon.aof.manifest");
    AofManifest::parse(&disk.snapshot()[&path]).unwrap()
}

/// The names of all bases and segments.
fn files(disk: &FaultyStorage) -> Vec<String> {
    let files = disk.snapshot();
    let names = files.keys().map(|path| path.display().to_string());
    names.filter(|name| name.contains("/shard-")).collect()
}

/// What a start finds must be all of it.
#[track_caller]
fn assert_all_there(disk: &FaultyStorage, state: &State, end: Lsn, what: &str) -> u16 {
    let found = recover(disk, DIR).unwrap_or_else(|e| panic!("{what}: {e}"));
    assert_eq!(found.end, end, "{what}");
    assert_eq!(&found.state, state, "{what}");
    found.shards
}

/// Scenario 103.
#[test]
fn every_count_becomes_every_other_with_the_same_keyspace() {
    for from in 1..=8 {
        for to in 1..=8 {
            let seed = u64::from(from * 10 + to);
            let what = format!("{from} to {to}");
            let (disk, last) = stopped(seed, from, 25);
            let before = manifest(&disk);
            let outcome = run(&disk, to).unwrap();
            if from == to {
                assert_eq!(outcome, ReshardOutcome::Same);
                assert_eq!(manifest(&disk), before);
                continue;
            }
            assert!(matches!(outcome, ReshardOutcome::Done(_)));
            let found = recover(&disk, DIR).unwrap();
            assert_eq!((found.shards, found.end), (to, last.lsn), "{what}");
            assert_eq!(found.state, last.state, "{what}");
            assert_eq!(
                (found.truncated_bytes, found.unproven_bytes),
                (0, 0),
                "{what}"
            );
            let after = manifest(&disk);
            assert_eq!(after.history, before.history);
            assert_eq!(after.replication_ids, before.replication_ids);
            assert_eq!(after.clean_stop, before.clean_stop);
            assert_eq!(after.durable_floor(), last.lsn, "{what}: D");
            // Every file is of the new generation, and every directory of a shard there is.
            for name in files(&disk) {
                assert!(name.contains(&format!(".{}.", after.seq)), "{what}: {name}");
            }
            let dirs = (0..10).filter(|shard| {
                let dir = format!("{DIR}/shard-{shard}");
                moon_aof::Storage::list(&disk, Path::new(&dir)).is_ok()
            });
            assert_eq!(dirs.count(), usize::from(to), "{what}");
            // The log goes on, through a power loss as well.
            let mut world = World::open(&disk, Some(to), seed, 0);
            assert_eq!(world.last().state, last.state, "{what}");
            world.write(10);
            let last = world.stop();
            assert_all_there(&disk.crash(seed), &last.state, last.lsn, &what);
        }
    }
}

#[test]
fn there_and_back_again_keeps_every_frame_in_its_place() {
    let (disk, last) = stopped(4, 3, 40);
    for to in [5, 1, 8, 2, 3] {
        run(&disk, to).unwrap();
        let shards = assert_all_there(&disk, &last.state, last.lsn, &format!("to {to}"));
        assert_eq!(shards, to);
    }
}

/// Scenario 104: the process dies, and the power fails, at every single operation.
#[test]
fn a_crash_at_any_operation_leaves_the_old_log_or_the_new_one() {
    for (seed, from, to) in [(1, 2, 3), (2, 4, 1), (3, 1, 2)] {
        let (disk, last) = stopped(seed, from, 12);
        let whole = disk.kill();
        let before = whole.operations();
        run(&whole, to).unwrap();
        let operations = whole.operations() - before;
        assert!(operations > 15);
        let (mut old, mut new) = (0, 0);
        for at in 0..operations {
            let dying = disk.kill();
            dying.add_rule(Rule {
                operation: None,
                path: String::new(),
                skip: at,
                times: 1,
                fault: Fault::Halt,
            });
            let outcome = run(&dying, to);
            for power in [false, true] {
                let what = format!("seed {seed}, operation {at}, power loss {power}: {outcome:?}");
                let image = if power {
                    dying.crash(seed + at)
                } else {
                    dying.kill()
                };
                let shards = assert_all_there(&image, &last.state, last.lsn, &what);
                assert!(shards == from || shards == to, "{what}");
                if shards == from {
                    old += 1
                } else {
                    new += 1
                }
                // A start goes on from there ...
                let started = image.kill();
                let mut world = World::open(&started, None, seed, 0);
                world.write(3);
                let later = world.stop();
                assert_all_there(&started, &later.state, later.lsn, &what);
                let seq = manifest(&started).seq;
                assert_eq!(manifest(&started).preparing, None);
                assert!(
                    files(&started)
                        .iter()
                        .all(|name| !name.contains(&format!(".{}.", seq.0 + 1)))
                );
                // ... and so does another run.
                run(&image, to).unwrap_or_else(|e| panic!("{what}: {e}"));
                let shards = assert_all_there(&image, &last.state, last.lsn, &what);
                assert_eq!(shards, to, "{what}");
            }
        }
        assert!(old > 10 && new > 0, "old {old}, new {new}");
    }
}

/// Scenario 104: a full disk, anywhere.
#[test]
fn a_full_disk_keeps_the_old_log_and_gives_its_space_back() {
    let (disk, last) = stopped(5, 2, 30);
    let used = disk.used();
    let mut refused = 0;
    for room in (0..used + 4000).step_by(251) {
        let full = disk.kill();
        full.set_capacity(Some(used + room));
        match run(&full, 3) {
            Ok(_) => continue,
            Err(ReshardError::Write { .. } | ReshardError::Copy(CopyError::Write { .. })) => {}
            Err(error) => panic!("{error:?}"),
        }
        refused += 1;
        let shards = assert_all_there(&full, &last.state, last.lsn, "full");
        assert_eq!(shards, 2);
        assert!(
            files(&full).iter().all(|name| !name.contains("shard-2")),
            "{:?}",
            files(&full)
        );
        full.set_capacity(None);
        run(&full, 3).unwrap();
        assert_eq!(
            assert_all_there(&full, &last.state, last.lsn, "room again"),
            3
        );
    }
    assert!(refused > 5);
}

#[test]
fn any_failing_operation_is_an_error_and_changes_nothing() {
    let (disk, last) = stopped(7, 2, 12);
    let kinds = [
        Operation::Write,
        Operation::Sync,
        Operation::SyncDir,
        Operation::Rename,
        Operation::Create,
    ];
    for operation in kinds {
        for skip in 0..12 {
            let failing = disk.kill();
            failing.add_rule(Rule {
                skip,
                ..Rule::once(operation, "", Fault::Error(5))
            });
            let outcome = run(&failing, 4);
            let what = format!("{operation:?} {skip}: {outcome:?}");
            failing.release();
            let shards = assert_all_there(&failing.crash(1), &last.state, last.lsn, &what);
            assert!(outcome.is_err() || shards == 4, "{what}");
            run(&failing, 4).unwrap();
            assert_eq!(
                assert_all_there(&failing.crash(2), &last.state, last.lsn, &what),
                4
            );
        }
    }
}

#[test]
fn a_torn_tail_is_kept_in_a_sidecar_as_a_start_does() {
    let disk = disk(9);
    let mut world = World::open(&disk, Some(2), 9, 0);
    world.write(10);
    let whole = world.last().clone();
    world.append(
        moon_core::ShardId(0),
        FrameKind::Cross,
        &["SET torn 1".to_owned()],
    );
    let killed = disk.kill();
    killed
        .damage(&segment(0, 1), |bytes| {
            let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
            bytes.truncate(end - 5);
        })
        .unwrap();
    let ReshardOutcome::Done(done) = run(&killed, 3).unwrap() else {
        panic!("nothing done");
    };
    assert!(done.truncated_bytes > 0);
    assert_all_there(&killed.crash(3), &whole.state, whole.lsn, "torn");
    let sidecars = killed.snapshot();
    assert!(
        sidecars
            .keys()
            .any(|path| path.to_string_lossy().contains("/truncated/shard-0"))
    );
}

/// Scenario 103: input that is damaged, or no replay would take, stops it.
#[test]
fn what_a_start_would_refuse_is_not_copied() {
    let (disk, _) = stopped(3, 2, 20);
    let damaged = disk.kill();
    damaged
        .damage(&segment(1, 1), |bytes| bytes[64 + 50] ^= 1)
        .unwrap();
    let before = damaged.snapshot();
    assert!(matches!(run(&damaged, 4), Err(ReshardError::Refused(_))));
    assert_eq!(damaged.snapshot(), before, "something was changed");

    let disk = crate::harness::disk(1);
    let mut world = World::open(&disk, Some(1), 1, 0);
    world.append(
        moon_core::ShardId(0),
        FrameKind::Control,
        &["NOSUCHCOMMAND x".to_owned()],
    );
    world.stop();
    assert!(run(&disk, 2).is_ok(), "a control frame is nobody's data");
    assert!(matches!(
        reshard(
            &storage(&disk),
            Path::new("/nowhere"),
            shards(2),
            &NoProgress
        ),
        Err(ReshardError::NoLog { .. })
    ));
}

#[test]
fn a_base_that_does_not_load_stops_it() {
    let (disk, last) = stopped(4, 2, 20);
    let seq = manifest(&disk).bases[0].seq;
    let base = format!("{DIR}/shard-1/moon.aof.{seq}.base.rdb");
    let good = disk.kill();
    disk.damage(Path::new(&base), |bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 4;
    })
    .unwrap();
    assert!(matches!(
        run(&disk, 3),
        Err(ReshardError::Copy(CopyError::Base { .. }))
    ));
    let names = files(&disk);
    assert!(
        names.iter().all(|name| !name.contains("shard-2")),
        "{names:?}"
    );
    assert_eq!(manifest(&disk).preparing, None);
    assert_all_there(&good, &last.state, last.lsn, "the same base, undamaged");
}

/// Scenario 105.
#[test]
fn stale_files_of_higher_shards_are_never_mixed_in() {
    let (disk, last) = stopped(6, 4, 20);
    let stale = disk.snapshot();
    run(&disk, 2).unwrap();
    // The old shards' files come back, as from an incomplete copy.
    for (path, bytes) in stale {
        let name = path.to_string_lossy();
        if name.contains("/shard-3/") || name.contains("/shard-0/") {
            moon_aof::Storage::create_dir(&disk, path.parent().unwrap()).unwrap();
            let file = moon_aof::Storage::create(&disk, &path).unwrap();
            moon_aof::storage::write_all_at(&*file, &[&bytes, &[], &[]], 0).unwrap();
        }
    }
    assert_eq!(assert_all_there(&disk, &last.state, last.lsn, "stale"), 2);
    let world = World::open(&disk, None, 1, 0);
    assert_eq!(world.last().state, last.state);
    world.stop();
    assert_eq!(
        assert_all_there(&disk, &last.state, last.lsn, "after a start"),
        2
    );
}

#[test]
fn a_running_server_is_left_alone() {
    let disk = disk(2);
    let mut world = World::open(&disk, Some(2), 2, 0);
    world.write(5);
    assert!(matches!(run(&disk, 3), Err(ReshardError::InUse { .. })));
    world.stop();
    run(&disk, 3).unwrap();
}
