//! Restoring to a point.

use crate::harness::{DIR, Mark, World, disk, recover, segment, stopped};
use moon_aof::FaultyStorage;
use moon_aof::Storage;
use moon_aof::faulty::{Fault, Rule};
use moon_core::{Lsn, ShardId};
use moon_manifest::AofManifest;
use moon_repl::FrameKind;
use moon_tools::NoProgress;
use moon_tools::restore::{RestoreError, RestorePoint, RestoreRequest, Restored, restore};
use moon_tools::time::PointInTime;
use std::path::{Path, PathBuf};

const OUT: &str = "/out";
const OUT_DIR: &str = "/out/appendonlydir";

fn run_from(
    disk: &FaultyStorage,
    from: &[&str],
    to: RestorePoint,
) -> Result<Restored, RestoreError> {
    let from: Vec<PathBuf> = from.iter().map(PathBuf::from).collect();
    let request = RestoreRequest {
        from: &from,
        to,
        out: Path::new(OUT),
        appenddirname: "appendonlydir",
    };
    restore(disk, &request, &NoProgress)
}

fn run(disk: &FaultyStorage, to: RestorePoint) -> Result<Restored, RestoreError> {
    run_from(disk, &["/data"], to)
}

fn at(lsn: u64) -> RestorePoint {
    RestorePoint::Lsn(Lsn(lsn))
}

fn time(ms: i64) -> RestorePoint {
    RestorePoint::Time(PointInTime(ms as u64))
}

fn manifest(disk: &FaultyStorage, dir: &str) -> AofManifest {
    AofManifest::parse(&disk.snapshot()[&Path::new(dir).join("moon.aof.manifest")]).unwrap()
}

/// The state that a start finds in the restored directory, even after a power loss.
#[track_caller]
fn assert_restored(disk: &FaultyStorage, mark: &Mark, what: &str) {
    let found = recover(&disk.crash(5), OUT_DIR).unwrap_or_else(|e| panic!("{what}: {e}"));
    assert_eq!(found.end, mark.lsn, "{what}");
    assert_eq!(found.state, mark.state, "{what}");
    assert_eq!(
        (found.truncated_bytes, found.unproven_bytes),
        (0, 0),
        "{what}"
    );
}

/// A log with two superseded generations kept, and every state it went through.
fn kept(seed: u64) -> (FaultyStorage, Vec<Mark>) {
    let disk = disk(seed);
    let mut world = World::open(&disk, Some(3), seed, 5);
    for _ in 0..2 {
        world.write(12);
        world.rewrite();
    }
    world.write(12);
    let marks = world.marks.clone();
    world.stop();
    (disk, marks)
}

/// Scenario 200: between the first and the last, at and inside every unit.
#[test]
fn every_position_gives_exactly_the_state_it_had() {
    let (disk, marks) = kept(1);
    let source = disk.snapshot();
    let end = marks.last().unwrap().lsn.0;
    let bases: std::collections::BTreeSet<_> = marks
        .windows(2)
        .map(|pair| {
            let (before, after) = (&pair[0], &pair[1]);
            let mut used = None;
            for lsn in [
                before.lsn.0,
                (before.lsn.0 + after.lsn.0) / 2,
                after.lsn.0 - 1,
            ] {
                let disk = disk.kill();
                let restored = run(&disk, at(lsn)).unwrap();
                assert_eq!(restored.lsn, before.lsn, "asked for {lsn}");
                assert_restored(&disk, before, &format!("LSN {lsn}"));
                let now = disk.snapshot();
                assert!(
                    source
                        .iter()
                        .all(|(path, bytes)| now.get(path) == Some(bytes))
                );
                used = Some(restored.copied.start);
            }
            used.unwrap()
        })
        .collect();
    assert_eq!(bases.len(), 3, "every kept base is used");
    let disk = disk.kill();
    assert_eq!(run(&disk, at(end)).unwrap().next, None);
    assert_restored(&disk, marks.last().unwrap(), "the end");
    assert!(matches!(
        run(&disk.kill(), at(end)),
        Err(RestoreError::NotEmpty { .. })
    ));
}

#[test]
fn what_is_restored_is_a_history_of_its_own_and_goes_on() {
    let (disk, marks) = kept(2);
    let mark = &marks[marks.len() / 2];
    run(&disk, RestorePoint::Lsn(mark.lsn)).unwrap();
    let (before, after) = (manifest(&disk, DIR), manifest(&disk, OUT_DIR));
    assert_eq!(after.history, before.history + 1);
    assert_ne!(
        after.current_replication_id(),
        before.current_replication_id()
    );
    let old = after
        .replication_ids
        .iter()
        .find(|entry| Some(entry.id) == before.current_replication_id());
    assert_eq!(
        old.unwrap().end,
        Some(mark.lsn),
        "the old id is valid up to the point"
    );
    assert!(after.durable_floor() <= mark.lsn);
}

/// Scenario 200: before the first, between, after the last.
#[test]
fn a_time_gives_the_last_unit_that_is_not_later() {
    let (disk, marks) = kept(3);
    for pair in marks[1..].windows(2) {
        for ms in [pair[0].time_ms, pair[1].time_ms - 1] {
            let disk = disk.kill();
            let restored = run(&disk, time(ms)).unwrap();
            // The state of a base has no time of its own.
            let is_base = restored.copied.start == restored.lsn;
            let time = PointInTime(pair[0].time_ms as u64);
            assert_eq!(restored.time, (!is_base).then_some(time));
            assert_eq!(
                restored.next.unwrap().1,
                PointInTime(pair[1].time_ms as u64)
            );
            assert_restored(&disk, &pair[0], &format!("time {ms}"));
        }
    }
    let last = marks.last().unwrap();
    let late = disk.kill();
    let restored = run(&late, time(last.time_ms + 1_000_000)).unwrap();
    assert_eq!((restored.lsn, restored.next), (last.lsn, None));
    match run(&disk, time(marks[1].time_ms - 1)) {
        Err(RestoreError::TimeTooEarly {
            earliest,
            lsn,
            start,
            ..
        }) => {
            assert_eq!(earliest, PointInTime(marks[1].time_ms as u64));
            assert_eq!((lsn, start), (marks[1].lsn, Lsn(0)));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_point_that_is_not_covered_is_refused_by_what_is() {
    // Only the newest generation is there.
    let (disk, last) = stopped(4, 2, 15);
    let base = manifest(&disk, DIR).bases[0].cut;
    match run(&disk, at(base.0 - 1)) {
        Err(RestoreError::TooEarly { earliest, .. }) => assert_eq!(earliest, base),
        other => panic!("{other:?}"),
    }
    match run(&disk, at(last.lsn.0 + 1)) {
        Err(RestoreError::TooLate { end, .. }) => assert_eq!(end, last.lsn),
        other => panic!("{other:?}"),
    }
    assert!(
        Storage::list(&disk, Path::new(OUT)).is_err(),
        "nothing was made"
    );
    run(&disk, RestorePoint::Lsn(base)).unwrap();
    let empty = crate::harness::disk(1);
    World::open(&empty, Some(2), 1, 0).stop();
    assert!(matches!(run(&empty, time(5)), Err(RestoreError::NoTimes)));
    assert!(matches!(
        run_from(&empty, &["/"], at(0)),
        Ok(_) | Err(RestoreError::NoLog { .. })
    ));
}

/// A damaged log can still be restored to what lies before the damage, and never beyond.
#[test]
fn a_hole_in_the_stream_is_never_crossed() {
    let disk = disk(6);
    let mut world = World::open(&disk, Some(2), 6, 0);
    for n in 0..10 {
        world.append(
            ShardId(n % 2),
            FrameKind::Cross,
            &[format!("SET key{n} {n}")],
        );
    }
    let marks = world.marks.clone();
    world.stop();
    // The fifth unit is the third of shard 0's frames.
    let bytes = disk.snapshot()[&segment(0, 1)].clone();
    let place = bytes.windows(4).position(|four| four == b"key4").unwrap();
    disk.damage(&segment(0, 1), |bytes| bytes[place] ^= 1)
        .unwrap();
    assert!(recover(&disk, DIR).is_err());
    for mark in &marks[..5] {
        let disk = disk.kill();
        run(&disk, RestorePoint::Lsn(mark.lsn)).unwrap();
        assert_restored(&disk, mark, "before the hole");
    }
    for mark in &marks[5..] {
        match run(&disk, RestorePoint::Lsn(mark.lsn)) {
            Err(RestoreError::Hole { from, to, .. }) => {
                assert_eq!((from, to), (marks[4].lsn, marks[5].lsn));
            }
            other => panic!("{other:?}"),
        }
        let result = run(&disk, time(mark.time_ms));
        assert!(
            matches!(result, Err(RestoreError::TimeInHole { .. })),
            "{result:?}"
        );
    }
}

/// A start takes what an interrupted restore leaves for no log, and says so.
#[test]
fn a_crash_at_any_operation_leaves_a_whole_restore_or_none() {
    let (disk, marks) = kept(7);
    let mark = &marks[20];
    let point = RestorePoint::Lsn(mark.lsn);
    let whole = disk.kill();
    let before = whole.operations();
    run(&whole, point).unwrap();
    for skip in 0..whole.operations() - before {
        let dying = disk.kill();
        dying.add_rule(Rule {
            operation: None,
            path: String::new(),
            skip,
            times: 1,
            fault: Fault::Halt,
        });
        let outcome = run(&dying, point);
        for image in [dying.kill(), dying.crash(skip)] {
            let has_manifest = image
                .snapshot()
                .contains_key(&Path::new(OUT_DIR).join("moon.aof.manifest"));
            if has_manifest {
                let found = recover(&image, OUT_DIR).unwrap();
                assert_eq!(found.end, mark.lsn, "operation {skip}: {outcome:?}");
                assert_eq!(found.state, mark.state, "operation {skip}: {outcome:?}");
            } else if let Ok(found) = recover(&image, OUT_DIR) {
                assert!(found.state.is_empty(), "operation {skip}");
            }
            assert_eq!(recover(&image, DIR).unwrap().end, marks.last().unwrap().lsn);
        }
    }
}
