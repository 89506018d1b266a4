//! The same log on the real file system.

use crate::harness::{open_on, options};
use moon_aof::{AofOptions, FsyncPolicy, RealStorage, RecoverError};
use moon_core::Lsn;
use std::fs::OpenOptions;
use std::io::Write;
use std::sync::Arc;

fn in_directory(dir: &tempfile::TempDir, policy: FsyncPolicy) -> AofOptions {
    AofOptions {
        dir: dir.path().join("appendonlydir"),
        ..options(policy)
    }
}

#[test]
fn a_clean_stop_and_a_start_give_the_same_stream() {
    for policy in [FsyncPolicy::Always, FsyncPolicy::EverySec, FsyncPolicy::No] {
        let dir = tempfile::tempdir().unwrap();
        let options = in_directory(&dir, policy);
        let mut log = open_on(Arc::new(RealStorage), &options, 2).unwrap();
        log.append(0, b"first ");
        log.append(1, b"second ");
        log.append(0, b"third");
        log.stop();
        let log = open_on(Arc::new(RealStorage), &options, 2).unwrap();
        assert_eq!(log.recovered.bytes, b"first second third");
        assert!(log.summary.clean_stop);
        assert_eq!(log.summary.truncated_bytes, 0);
        assert_eq!(log.clock.head(), Lsn(18));
        log.stop();
    }
}

#[test]
fn a_torn_tail_on_real_files_is_cut_and_the_next_frames_are_recovered() {
    let dir = tempfile::tempdir().unwrap();
    let options = in_directory(&dir, FsyncPolicy::EverySec);
    let mut log = open_on(Arc::new(RealStorage), &options, 1).unwrap();
    log.append(0, b"kept");
    // Ends without a clean stop.
    drop(log);
    let path = options.dir.join("shard-0/moon.aof.1.incr.aof");
    let mut file = OpenOptions::new().append(true).open(&path).unwrap();
    file.write_all(b"half a frame").unwrap();
    let mut log = open_on(Arc::new(RealStorage), &options, 1).unwrap();
    assert_eq!(log.recovered.bytes, b"kept");
    assert!(log.summary.truncated_bytes >= 12);
    log.append(0, b" and new");
    drop(log);
    let log = open_on(Arc::new(RealStorage), &options, 1).unwrap();
    assert_eq!(log.recovered.bytes, b"kept and new");
    log.stop();
}

#[test]
fn two_processes_never_use_one_directory() {
    let dir = tempfile::tempdir().unwrap();
    let options = in_directory(&dir, FsyncPolicy::EverySec);
    let log = open_on(Arc::new(RealStorage), &options, 1).unwrap();
    let second = open_on(Arc::new(RealStorage), &options, 1);
    assert!(matches!(second.err(), Some(RecoverError::InUse { .. })));
    log.stop();
}
