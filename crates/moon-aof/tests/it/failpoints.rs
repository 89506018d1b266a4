//! Killing the process at each failpoint: what it had acknowledged is there afterwards.
//!
//! `cargo test -p moon-aof --features failpoints failpoints`

use crate::harness::{Open, open_on, options};
use crate::rewrite::World;
use moon_aof::{AofOptions, FsyncPolicy, RealStorage};
use moon_core::Lsn;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

const CHILD: &str = "MOON_FAILPOINT_CHILD";

fn start(dir: &Path) -> Open {
    let options = AofOptions {
        dir: dir.join("appendonlydir"),
        ..options(FsyncPolicy::EverySec)
    };
    open_on(Arc::new(RealStorage), &options, 2).unwrap()
}

/// Not a test by itself: the process that is killed. It notes each acknowledged frame.
#[test]
fn child() {
    let Some(dir) = std::env::var_os(CHILD) else {
        return;
    };
    let dir = Path::new(&dir);
    let mut log = start(dir);
    let mut acknowledged = std::fs::File::create(dir.join("acknowledged")).unwrap();
    for i in 0..20u8 {
        let end = log.append(usize::from(i % 2), &[b'a' + i; 100]);
        if log.clock.committed() >= end {
            acknowledged
                .write_all(format!("{end} ").as_bytes())
                .unwrap();
        }
    }
    log.stop();
}

fn run_child(dir: &Path, failpoint: &str) -> std::process::ExitStatus {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "failpoints::child"])
        .env(CHILD, dir)
        .env("MOON_FAILPOINT", failpoint)
        .status()
        .unwrap()
}

#[test]
fn sigkill_at_any_failpoint_loses_nothing_acknowledged() {
    // What the process before came to. One that was killed behind its last write has everything
    // in the files and nothing proven durable: the recovery after it copies all.
    let (clean, killed) = (Some("none"), Some("between-write-and-ack:20"));
    for (before, failpoint, recovered_min) in [
        (None, "between-issue-and-write:8", 700),
        (None, "mid-write:8", 700),
        (None, "between-write-and-ack:8", 700),
        (clean, "recovery-replay:5", 2000),
        (clean, "recovery-before-manifest", 2000),
        (clean, "recovery-after-manifest", 2000),
        (killed, "recovery-mid-copy:1", 2000),
        (killed, "recovery-mid-copy:20", 2000),
        (killed, "recovery-before-manifest", 2000),
        (killed, "recovery-after-manifest", 2000),
    ] {
        let dir = tempfile::tempdir().unwrap();
        if let Some(before) = before {
            let status = run_child(dir.path(), before);
            assert_eq!(status.success(), before == "none", "{before}: {status}");
        }
        let status = run_child(dir.path(), failpoint);
        assert_eq!(status.signal(), Some(9), "{failpoint}: {status}");
        let log = start(dir.path());
        let noted = std::fs::read_to_string(dir.path().join("acknowledged")).unwrap();
        let last = noted
            .split_whitespace()
            .last()
            .map_or(0, |end| end.parse().unwrap());
        let found = log.recovered.bytes.len();
        assert!(
            found >= last && found >= recovered_min,
            "{failpoint}: {found}"
        );
        for (i, frame) in log.recovered.bytes.chunks(100).enumerate() {
            assert_eq!(frame, [b'a' + i as u8 % 20; 100], "{failpoint}");
        }
        assert_eq!(log.clock.head(), Lsn(found as u64));
        log.stop();
    }
}

/// Not a test by itself: the process that is killed in a rewrite. It notes what it wrote.
#[test]
fn rewriting_child() {
    let Some(dir) = std::env::var_os(CHILD) else {
        return;
    };
    let dir = Path::new(&dir);
    let mut world = World::of(start(dir));
    let note = |world: &World| std::fs::write(dir.join("written"), &world.stream).unwrap();
    world.write(10);
    note(&world);
    for _ in 0..2 {
        // The writes in between are in the file before the rewrite's next step.
        world.rewrite().unwrap();
        note(&world);
    }
    world.log.stop();
}

/// Scenario 79: the process is killed at each named place of a rewrite, and the next one as well.
#[test]
fn sigkill_at_any_failpoint_of_a_rewrite_loses_nothing() {
    for failpoint in [
        "rewrite-segments-created",
        "rewrite-first-manifest",
        "rewrite-after-cut",
        "rewrite-mid-base",
        "rewrite-bases-synced",
        "rewrite-second-manifest",
        "rewrite-after-manifest",
        "rewrite-mid-delete",
    ] {
        for pass in [1, 2] {
            let dir = tempfile::tempdir().unwrap();
            let armed = format!("{failpoint}:{pass}");
            for _ in 0..2 {
                let status = Command::new(std::env::current_exe().unwrap())
                    .args(["--exact", "failpoints::rewriting_child"])
                    .env(CHILD, dir.path())
                    .env("MOON_FAILPOINT", &armed)
                    .status()
                    .unwrap();
                assert_eq!(status.signal(), Some(9), "{armed}: {status}");
                let noted = std::fs::read(dir.path().join("written")).unwrap();
                let world = World::of(start(dir.path()));
                assert!(world.stream.starts_with(&noted), "{armed}");
                world.log.stop();
            }
            let mut world = World::of(start(dir.path()));
            world.rewrite().unwrap();
            world.log.stop();
            for shard in ["shard-0", "shard-1"] {
                let files = std::fs::read_dir(dir.path().join("appendonlydir").join(shard));
                assert_eq!(files.unwrap().count(), 2, "{armed}: a base and a segment");
            }
        }
    }
}
