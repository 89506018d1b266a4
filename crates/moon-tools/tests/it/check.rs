//! What `check-aof` says, and what `--fix` does.

use crate::harness::{DIR, World, disk, recover, segment, stopped, storage};
use moon_aof::faulty::{Fault, Random, Rule};
use moon_aof::inspect::LogFiles;
use moon_aof::{FaultyStorage, Storage};
use moon_core::{Lsn, ShardId};
use moon_repl::FrameKind;
use moon_tools::NoProgress;
use moon_tools::check::{CheckError, Outcome, Report, Target, check, locate, print};
use moon_tools::dump::{DumpOptions, dump_log};
use moon_tools::fix::{FixError, FixOptions, FixOutcome, fix};
use std::path::{Path, PathBuf};

fn look(disk: &FaultyStorage, path: &str) -> Result<Report, CheckError> {
    let target = locate(disk, Path::new(path), "appendonlydir")?;
    check(&storage(disk), &target, &NoProgress)
}

fn outcome(disk: &FaultyStorage) -> Outcome {
    look(disk, "/data").unwrap().verdict.outcome
}

fn text(report: &Report) -> String {
    let mut out = Vec::new();
    print(report, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn run_fix(disk: &FaultyStorage, options: &FixOptions) -> Result<FixOutcome, FixError> {
    fix(&storage(disk), Path::new(DIR), options, &NoProgress)
}

fn accepting(from: Lsn) -> FixOptions {
    FixOptions {
        accept_loss_from: Some(from),
        ..FixOptions::default()
    }
}

/// Ten frames on two shards, all durable, and the damaged payload of the fifth.
fn damaged() -> (FaultyStorage, Vec<crate::harness::Mark>, u64) {
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
    let bytes = disk.snapshot()[&segment(0, 1)].clone();
    let place = bytes.windows(4).position(|four| four == b"key4").unwrap();
    disk.damage(&segment(0, 1), |bytes| bytes[place] ^= 1)
        .unwrap();
    (disk, marks, place as u64)
}

/// Scenario 52: a good directory.
#[test]
fn a_good_log_is_described_and_called_good() {
    let (disk, last) = stopped(4, 3, 20);
    let report = look(&disk, "/data").unwrap();
    assert_eq!(report.verdict.outcome, Outcome::Good);
    let stream = report.stream.as_ref().unwrap();
    assert_eq!((stream.end, stream.durable), (last.lsn.0, last.lsn.0));
    assert_eq!(report.bases.len(), 3);
    assert!(report.bases.iter().all(|base| base.problem.is_none()));
    let keys: u64 = report.bases.iter().map(|base| base.keys).sum();
    assert!(keys > 0);
    assert_eq!(
        outcome(&disk.kill()),
        look(&disk, DIR).unwrap().verdict.outcome
    );
    for needle in [
        "manifest: version 3",
        "generation",
        "base ",
        "verdict: a start recovers",
    ] {
        assert!(text(&report).contains(needle), "{}", text(&report));
    }
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["verdict"]["outcome"], "good");
    assert_eq!(json["stream"]["end"], last.lsn.0);
}

/// The verdict comes from the start's own code; whatever is damaged, the two agree, and nothing
/// panics or is changed.
#[test]
fn verdict_and_start_agree_on_whatever_is_damaged() {
    let (good, _) = stopped(5, 2, 20);
    let mut random = Random(11);
    let files: Vec<PathBuf> = good.snapshot().into_keys().collect();
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..400 {
        let disk = good.kill();
        let path = &files[random.below(files.len() as u64) as usize];
        disk.damage(path, |bytes| {
            let len = bytes.len() as u64;
            match random.below(3) {
                0 => bytes.truncate(random.below(len + 1) as usize),
                1 if len > 0 => bytes[random.below(len) as usize] ^= 1 << random.below(8),
                _ => bytes.extend((0..random.below(300)).map(|_| 0xA5)),
            }
        })
        .unwrap();
        let before = disk.snapshot();
        let report = look(&disk, "/data").unwrap();
        text(&report);
        assert_eq!(disk.snapshot(), before, "{}", path.display());
        let bases_load = report.bases.iter().all(|base| base.problem.is_none());
        let start = bases_load.then(|| recover(&disk, DIR));
        let expected = match start {
            None => Outcome::Damage,
            Some(Err(_)) => Outcome::Damage,
            Some(Ok(found)) if found.truncated_bytes > 0 => Outcome::TornTail,
            Some(Ok(_)) => Outcome::Good,
        };
        assert_eq!(
            report.verdict.outcome,
            expected,
            "{}: {}",
            path.display(),
            text(&report)
        );
        seen.insert(expected.exit_code());
        let log = LogFiles::open(&disk, Path::new(DIR));
        if let Ok(Some(log)) = log {
            let all = DumpOptions {
                from: Lsn(0),
                limit: u64::MAX,
                json: random.below(2) == 0,
            };
            dump_log(&log, all, &mut Vec::new()).unwrap();
        }
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), [0, 2, 3]);
}

/// Scenario 51: damage in the middle with good frames behind it.
#[test]
fn damage_is_named_by_file_offset_and_lsn() {
    let (disk, marks, place) = damaged();
    let report = look(&disk, "/data").unwrap();
    assert_eq!(report.verdict.outcome, Outcome::Damage);
    let bad: Vec<_> = report.segments.iter().flat_map(|s| &s.bad).collect();
    assert_eq!(bad.len(), 1);
    assert_eq!(bad[0].lsn, Some(marks[4].lsn.0));
    assert!(bad[0].offset < place && place < bad[0].end_offset);
    let stream = report.stream.as_ref().unwrap();
    assert_eq!(
        (stream.gaps[0].from, stream.gaps[0].to),
        (marks[4].lsn.0, marks[5].lsn.0)
    );
    assert!(text(&report).contains(&format!("--accept-loss-from {}", marks[4].lsn)));
}

/// Scenario 53: nothing durable is given up without its LSN, or above the limit; a copy is made
/// first; a second run has nothing to do.
#[test]
fn damage_is_cut_off_only_where_the_loss_is_accepted() {
    let (disk, marks, _) = damaged();
    let (from, end) = (marks[4].lsn, marks[10].lsn);
    let before = disk.snapshot();
    match run_fix(&disk, &FixOptions::default()) {
        Err(FixError::NotAccepted { from: f, to }) => assert_eq!((f, to), (from, end)),
        other => panic!("{other:?}"),
    }
    assert!(matches!(
        run_fix(&disk, &accepting(marks[3].lsn)),
        Err(FixError::OtherLoss { .. })
    ));
    let small = FixOptions {
        max_loss_bytes: end.bytes_since(from) - 1,
        ..accepting(from)
    };
    assert!(matches!(
        run_fix(&disk, &small),
        Err(FixError::TooMuch { .. })
    ));
    assert_eq!(disk.snapshot(), before, "a refusal changed something");

    let FixOutcome::GivenUp {
        from: f,
        to,
        backup,
    } = run_fix(&disk, &accepting(from)).unwrap()
    else {
        panic!("not given up");
    };
    assert_eq!((f, to), (from, end));
    let after = disk.crash(3);
    let files = after.snapshot();
    for shard in 0..2 {
        let copy = backup.join(format!("shard-{shard}/moon.aof.1.incr.aof"));
        assert_eq!(files[&copy], before[&segment(shard, 1)], "shard {shard}");
    }
    let manifest = Path::new(DIR).join("moon.aof.manifest");
    assert_eq!(files[&backup.join("moon.aof.manifest")], before[&manifest]);
    let found = recover(&after, DIR).unwrap();
    assert_eq!((found.end, found.state), (from, marks[4].state.clone()));
    assert_eq!(
        run_fix(&disk, &accepting(from)).unwrap(),
        FixOutcome::Nothing
    );
    assert_eq!(outcome(&disk), Outcome::Good);
    // What is given up never comes back.
    let mut world = World::open(&disk, None, 1, 0);
    world.write(5);
    let last = world.stop();
    assert_eq!(recover(&disk, DIR).unwrap().state, last.state);
}

/// Scenario 53, crashes: at every operation the log is as it was or cut off, and a second run
/// finishes.
#[test]
fn a_crash_in_a_fix_leaves_the_log_as_it_was_or_cut_off() {
    let (disk, marks, _) = damaged();
    let original = disk.snapshot();
    let from = marks[4].lsn;
    let whole = disk.kill();
    let before = whole.operations();
    run_fix(&whole, &accepting(from)).unwrap();
    for skip in 0..whole.operations() - before {
        let dying = disk.kill();
        dying.add_rule(Rule {
            operation: None,
            path: String::new(),
            skip,
            times: 1,
            fault: Fault::Halt,
        });
        assert!(run_fix(&dying, &accepting(from)).is_err());
        let image = dying.crash(skip);
        match recover(&image, DIR) {
            Ok(found) => assert_eq!(found.end, from, "operation {skip}"),
            Err(_) => {
                let now = image.snapshot();
                assert_eq!(
                    now[&segment(0, 1)],
                    original[&segment(0, 1)],
                    "operation {skip}"
                );
            }
        }
        run_fix(&image, &accepting(from)).unwrap();
        assert_eq!(recover(&image, DIR).unwrap().state, marks[4].state);
    }
}

#[test]
fn a_torn_tail_is_fixed_as_a_start_does_it() {
    let disk = disk(9);
    let mut world = World::open(&disk, Some(2), 9, 0);
    world.write(10);
    let whole = world.last().clone();
    world.append(ShardId(0), FrameKind::Cross, &["SET torn 1".to_owned()]);
    let disk = disk.kill();
    drop(world);
    disk.damage(&segment(0, 1), |bytes| {
        let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
        bytes.truncate(end - 5);
    })
    .unwrap();
    assert_eq!(outcome(&disk), Outcome::TornTail);
    let limit = FixOptions {
        max_loss_bytes: 3,
        ..FixOptions::default()
    };
    assert!(matches!(
        run_fix(&disk, &limit),
        Err(FixError::TooMuch { .. })
    ));
    let FixOutcome::TornTail {
        end,
        bytes,
        kept_in,
    } = run_fix(&disk, &FixOptions::default()).unwrap()
    else {
        panic!("not fixed");
    };
    assert_eq!(end, whole.lsn);
    assert!(bytes > 0);
    assert!(
        disk.snapshot()
            .keys()
            .any(|path| path.starts_with(&kept_in))
    );
    let report = look(&disk.crash(1), "/data").unwrap();
    assert_eq!(report.verdict.outcome, Outcome::Good, "{}", text(&report));
    let found = recover(&disk.crash(1), DIR).unwrap();
    assert_eq!((found.end, found.state), (whole.lsn, whole.state));
    assert_eq!(
        run_fix(&disk, &FixOptions::default()).unwrap(),
        FixOutcome::Nothing
    );
}

#[test]
fn a_running_log_is_said_to_run_and_is_not_fixed() {
    let (disk, _, _) = damaged();
    let _held = disk.lock(&Path::new(DIR).join("moon.aof.lock")).unwrap();
    let marks = look(&disk, "/data").unwrap();
    let Outcome::Damage = marks.verdict.outcome else {
        panic!("{}", text(&marks));
    };
    let from = Lsn(marks.stream.unwrap().end);
    assert!(matches!(
        run_fix(&disk, &accepting(from)),
        Err(FixError::InUse { .. })
    ));
}

/// Scenario 52: each file by itself, and files that are not ours.
#[test]
fn files_are_recognised_by_their_bytes() {
    let (disk, _) = stopped(4, 2, 20);
    let put = |name: &str, bytes: &[u8]| {
        let file = disk.create(Path::new(name)).unwrap();
        moon_aof::storage::write_all_at(&*file, &[bytes, &[], &[]], 0).unwrap();
    };
    let of = |name: &str| {
        let report = look(&disk, name).unwrap();
        (report.what.clone(), report.verdict.outcome)
    };
    let files = disk.snapshot();
    let find = |end: &str| {
        let path = files
            .keys()
            .find(|path| path.to_string_lossy().ends_with(end));
        path.unwrap().display().to_string()
    };
    assert_eq!(
        of(&find(".incr.aof")),
        ("segment".to_owned(), Outcome::Good)
    );
    assert_eq!(
        of(&find(".base.rdb")),
        ("RDB file".to_owned(), Outcome::Good)
    );
    assert_eq!(
        of(&find(".manifest")),
        ("manifest".to_owned(), Outcome::Good)
    );
    put("/x", b"*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n");
    assert!(of("/x").0.contains("append-only file of Redis"));
    put("/x", b"file appendonly.aof.1.base.rdb seq 1 type b\n");
    assert!(of("/x").0.contains("manifest of Redis"));
    let mut preamble = files[Path::new(&find(".base.rdb"))].clone();
    preamble.extend(b"*1\r\n$4\r\nPING\r\n");
    put("/x", &preamble);
    assert!(of("/x").0.contains("RDB preamble"));
    for (bytes, outcome) in [
        (
            &b"seq 7\nbase moon.aof.7.base.rdb\nincr moon.aof.7.incr.aof\n"[..],
            Outcome::Refused,
        ),
        (b"version 3\nseq 1\n", Outcome::Damage),
        (b"REDIS9999", Outcome::Damage),
        (b"MOON-AOF", Outcome::Damage),
        (b"", Outcome::NotALog),
        (b"hello", Outcome::NotALog),
    ] {
        put("/x", bytes);
        assert_eq!(of("/x").1, outcome, "{}", bytes.escape_ascii());
    }
    put("/x", b"REDIS0099");
    let newer = look(&disk, "/x").unwrap();
    assert!(text(&newer).contains("newer version"), "{}", text(&newer));
    assert!(matches!(
        locate(&disk, Path::new("/nowhere"), "appendonlydir"),
        Err(CheckError::Read { .. })
    ));
    assert!(matches!(
        locate(&disk, Path::new("/"), "appendonlydir"),
        Ok(Target::OtherDirectory { .. })
    ));
}

#[test]
fn a_dump_shows_every_unit_in_order_and_every_hole() {
    let (disk, marks, _) = damaged();
    let log = LogFiles::open(&disk, Path::new(DIR)).unwrap().unwrap();
    let dump = |from, limit, json| {
        let options = DumpOptions {
            from: Lsn(from),
            limit,
            json,
        };
        let mut out = Vec::new();
        dump_log(&log, options, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    };
    let all = dump(0, u64::MAX, false);
    let commands: Vec<&str> = all
        .lines()
        .filter(|line| line.starts_with("    "))
        .collect();
    assert_eq!(commands.len(), 9);
    assert_eq!(commands[0], r#"    "SET" "key0" "0""#);
    let gap = format!(
        "--- gap: LSN {} to {} cannot be read",
        marks[4].lsn, marks[5].lsn
    );
    assert!(all.lines().any(|line| line == gap), "{all}");
    assert!(all.contains("1970-01-01T00:16:40.010Z"), "{all}");
    let some = dump(marks[1].lsn.0, 2, true);
    let frames: Vec<serde_json::Value> = some
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(frames.len(), 2);
    assert_eq!(frames[0]["lsn"], marks[1].lsn.0);
    assert_eq!(frames[0]["commands"][0], r#""SET" "key1" "1""#);
}
