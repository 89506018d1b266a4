//! Killing the process at each failpoint: what it had acknowledged is there afterwards.
//!
//! `cargo test -p moon-aof --features failpoints failpoints`

use crate::harness::{Open, open_on, options};
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
