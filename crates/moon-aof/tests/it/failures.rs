//! A disk that fails while the log runs. Nothing false is acknowledged, the failing shard is
//! named, and there is a way back without a restart.

use crate::harness::{Open, open, options, segment, wait_until};
use bytes::Bytes;
use moon_aof::faulty::{Fault, Operation, Rule};
use moon_aof::frame::FrameHeader;
use moon_aof::segment::SegmentHeader;
use moon_aof::storage::write_all_at;
use moon_aof::{AofOptions, FaultyStorage, FsyncPolicy, ShutdownError, StorageFile};
use moon_core::{Lsn, ShardId, UnixMs};
use moon_repl::{CommitLog, FrameKind, FrameSink, LogHealth};
use std::io::{self, IoSlice};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

fn new(policy: FsyncPolicy, count: u16) -> (FaultyStorage, Open) {
    let disk = FaultyStorage::new(1);
    let log = open(&disk, &options(policy), count).unwrap();
    (disk, log)
}

fn recovered(disk: &FaultyStorage, count: u16) -> Vec<u8> {
    let log = open(disk, &options(FsyncPolicy::EverySec), count).unwrap();
    log.recovered.bytes
}

fn wait_latched(log: &Open) {
    let status = log.pool.status();
    wait_until("the sync fails", || {
        status.health().0 == LogHealth::SyncFailing
    });
}

/// Scenario 59: a sync fails once, the next ones succeed. The bytes of the failed one count only
/// once they are in another file.
#[test]
fn a_failed_sync_is_never_made_good_by_a_later_one() {
    let (disk, mut log) = new(FsyncPolicy::Always, 2);
    let first = log.append(0, b"before ");
    let clock = log.clock.clone();
    wait_until("the first frame is durable", || clock.committed() == first);
    disk.add_rule(Rule::once(Operation::Sync, "shard-0", Fault::Error(EIO)));
    // As long as no manifest can be made durable there is no replacement.
    disk.add_rule(Rule::every(Operation::SyncDir, "", Fault::Error(EIO)));
    let end = log.append(0, b"at risk ");
    wait_latched(&log);
    let so_far = disk.operations();
    log.tick_until("several attempts to replace it", |_| {
        disk.operations() >= so_far + 20
    });
    let later = log.append(0, b"held");
    assert_eq!(log.clock.committed(), first, "a failed sync was counted");
    assert_eq!(log.logs[0].health(), LogHealth::SyncFailing);
    assert_eq!(log.logs[1].health(), LogHealth::Healthy);
    assert_eq!(
        log.pool.status().health(),
        (LogHealth::SyncFailing, Some(ShardId(0)))
    );
    // The disk is well again: the way back needs no restart.
    disk.release();
    log.tick_until("the tail is safe in a replacement", |log| {
        log.clock.committed() >= later && log.logs[0].health() == LogHealth::Healthy
    });
    assert!(end < later);
    for seed in 0..50 {
        assert_eq!(recovered(&disk.crash(seed), 2), b"before at risk held");
    }
    log.append(0, b" and on");
    log.stop();
    assert_eq!(recovered(&disk, 2), b"before at risk held and on");
}

/// Scenario 59, without a way back: under `no` the tail is not in memory.
#[test]
fn under_no_a_failed_sync_stays_failed() {
    let (disk, mut log) = new(FsyncPolicy::No, 1);
    log.append(0, b"written");
    disk.add_rule(Rule::once(Operation::Sync, "shard-0", Fault::Error(EIO)));
    log.pool.set_policy(FsyncPolicy::EverySec);
    log.pool.set_policy(FsyncPolicy::Always);
    wait_latched(&log);
    for _ in 0..200 {
        log.tick();
        std::thread::yield_now();
    }
    assert_eq!(log.clock.durable(), Lsn(0));
    assert_eq!(log.logs[0].health(), LogHealth::SyncFailing);
    let stopped = log
        .pool
        .shutdown(log.logs, UnixMs(1), Duration::from_secs(5));
    assert!(matches!(stopped, Err(ShutdownError::NotDurable { .. })));
    assert_eq!(recovered(&disk.kill(), 1), b"written");
}

/// The moment the replacement is there the shard writes on, while the sync thread still counts
/// the tail: what is written then has seen no sync.
#[test]
fn a_frame_behind_the_tail_of_a_replacement_is_not_durable_with_it() {
    for round in 0..200 {
        let (disk, mut log) = new(FsyncPolicy::EverySec, 1);
        disk.add_rule(Rule::once(Operation::Sync, "shard-0", Fault::Error(EIO)));
        let tail = log.append(0, b"the tail ");
        log.pool.set_policy(FsyncPolicy::Always);
        wait_latched(&log);
        log.pool.set_policy(FsyncPolicy::EverySec);
        let held = log.append(0, b"held");
        log.tick_until("the replacement is there", |log| {
            log.clock.written() == held
        });
        for _ in 0..100 {
            assert!(log.clock.durable() <= tail, "round {round}");
            std::thread::yield_now();
        }
        wait_until("the tail is durable", || log.clock.durable() == tail);
    }
}

/// One failure after the other, and a shard that ticks all the time: each tail is replaced once,
/// and no tail by an earlier one's.
#[test]
fn every_one_of_many_failed_syncs_is_made_good_by_its_own_tail() {
    for seed in 0..4 {
        let (disk, mut log) = new(FsyncPolicy::Always, 2);
        let mut stream = Vec::new();
        for round in 0..30u8 {
            disk.add_rule(Rule::once(Operation::Sync, "shard-0", Fault::Error(EIO)));
            let frame = [b'a' + round % 26; 100];
            for shard in [0, 1, 0] {
                log.append(shard, &frame);
                stream.extend(frame);
            }
            log.tick_until("everything is durable", |log| {
                log.clock.durable() == log.clock.head()
            });
            let crashed = disk.crash(seed * 100 + u64::from(round));
            assert!(
                recovered(&crashed, 2) == stream,
                "seed {seed}, round {round}"
            );
        }
    }
}

/// Scenario 60.
#[test]
fn repeated_sync_failures_are_shown_and_the_last_sync_time_stands() {
    let (disk, mut log) = new(FsyncPolicy::EverySec, 1);
    log.append(0, b"one");
    log.sync();
    let status = log.pool.status();
    let last = status.shards()[0]
        .last_fsync_unix_ms
        .load(Ordering::Relaxed);
    assert!(last > 0);
    disk.add_rule(Rule::every(Operation::Sync, "incr", Fault::Error(EIO)));
    log.append(0, b"two");
    log.pool.set_policy(FsyncPolicy::Always);
    log.tick_until("several attempts failed", |log| {
        log.pool.status().total(|s| &s.fsync_failures) >= 1
            && log.logs[0].health() == LogHealth::SyncFailing
    });
    let so_far = disk.operations();
    log.tick_until("several attempts to replace it", |_| {
        disk.operations() >= so_far + 20
    });
    assert_eq!(log.clock.durable(), Lsn(3));
    assert_eq!(
        status.shards()[0]
            .last_fsync_unix_ms
            .load(Ordering::Relaxed),
        last
    );
    disk.release();
    log.tick_until("the log works again", |log| {
        log.clock.durable() == log.clock.head()
    });
    assert_eq!(recovered(&disk.crash(9), 1), b"onetwo");
}

/// Scenarios 62 and 65.
#[test]
fn a_full_disk_holds_replies_and_space_lets_them_go() {
    let (disk, mut log) = new(FsyncPolicy::EverySec, 2);
    log.append(0, b"before ");
    disk.add_rule(Rule::every(
        Operation::Write,
        "shard-0",
        Fault::Error(ENOSPC),
    ));
    let ends = [log.append(0, b"held "), log.append(0, b"held too ")];
    let other = log.append(1, b"behind it");
    assert_eq!(log.clock.committed(), Lsn(7));
    assert_eq!(log.logs[0].health(), LogHealth::AppendFailing);
    assert_eq!(log.logs[1].health(), LogHealth::Healthy);
    assert_eq!(log.clock.holding_up(), Some(ShardId(0)));
    assert!(log.logs[0].bytes_at_risk() > 0);
    log.tick();
    assert_eq!(log.clock.committed(), Lsn(7));
    disk.release();
    log.tick();
    assert_eq!(log.clock.committed(), other);
    assert!(ends[1] < other);
    assert_eq!(log.logs[0].health(), LogHealth::Healthy);
    assert_eq!(
        recovered(&disk.kill(), 2),
        b"before held held too behind it"
    );
}

/// Scenario 66: the disk fills in the middle of a frame.
#[test]
fn a_partly_written_frame_is_cut_off_before_the_next_one() {
    let (disk, mut log) = new(FsyncPolicy::No, 1);
    log.append(0, b"before ");
    wait_until("space was allocated", || {
        disk.snapshot()[&segment(0, 1)].len() >= 64 + 48
    });
    let used = disk.used();
    for room in [1, 39, 40, 41, 90] {
        let start = disk.snapshot()[&segment(0, 1)].len() as u64;
        // Fill what is allocated, so that the frame runs out of space.
        disk.set_capacity(Some(used.max(disk.used()) + room));
        let head = log.clock.head();
        let long = vec![b'x'; 9000];
        log.append(0, &long);
        assert_eq!(log.clock.written(), head, "room {room}");
        let left = disk.snapshot()[&segment(0, 1)].len() as u64;
        assert!(left <= start, "a partial frame was left, room {room}");
        disk.set_capacity(None);
        log.tick();
        assert_eq!(log.clock.written(), log.clock.head(), "room {room}");
    }
    assert_eq!(recovered(&disk.kill(), 1).len(), 7 + 5 * 9000);
}

/// Scenario 66: and the cut fails, too.
#[test]
fn a_file_that_cannot_be_cut_is_never_appended_to_again() {
    for policy in [FsyncPolicy::Always, FsyncPolicy::EverySec, FsyncPolicy::No] {
        let (disk, mut log) = new(policy, 1);
        log.append(0, b"before ");
        disk.add_rule(Rule {
            skip: 1,
            ..Rule::once(Operation::Write, "shard-0", Fault::Error(ENOSPC))
        });
        disk.add_rule(Rule::once(Operation::Write, "shard-0", Fault::Short(45)));
        disk.add_rule(Rule::every(Operation::Truncate, "", Fault::Error(EIO)));
        // The first rule lets one write through, which is then short.
        log.append(0, b"this frame is torn ");
        log.append(0, b"this one waits");
        if log.logs[0].health() == LogHealth::Healthy {
            log.append(0, b"");
        }
        log.tick_until("the log goes on in another file", |log| {
            log.clock.written() == log.clock.head()
        });
        let expected = b"before this frame is torn this one waits";
        assert_eq!(recovered(&disk.kill(), 1), expected, "{policy}");
    }
}

/// Scenario 55.
#[test]
fn short_writes_are_finished() {
    for most in [1, 7, 39, 40, 41, 100] {
        let (disk, mut log) = new(FsyncPolicy::EverySec, 1);
        disk.add_rule(Rule::every(Operation::Write, "shard-0", Fault::Short(most)));
        log.append(0, &[b'a'; 500]);
        log.append(
            0,
            &vec![b'b'; 2 << 20][..if most < 100 { 90 } else { 2 << 20 }],
        );
        assert_eq!(log.clock.written(), log.clock.head());
        assert_eq!(recovered(&disk.kill(), 1).len() as u64, log.clock.head().0);
    }
}

/// A file that only counts, and takes at most what Linux takes.
struct KernelLimit(Mutex<Vec<(u64, usize)>>);

impl StorageFile for KernelLimit {
    fn read_at(&self, _: &mut [u8], _: u64) -> io::Result<usize> {
        Ok(0)
    }
    fn write_vectored_at(&self, buffers: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        let len: usize = buffers.iter().map(|b| b.len()).sum();
        let taken = len.min((2 << 30) - 4096);
        self.0.lock().unwrap().push((offset, taken));
        Ok(taken)
    }
    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }
    fn truncate(&self, _: u64) -> io::Result<()> {
        Ok(())
    }
    fn allocate(&self, _: u64, _: u64) -> io::Result<()> {
        Ok(())
    }
    fn len(&self) -> io::Result<u64> {
        Ok(0)
    }
}

/// Scenario 56.
#[test]
fn a_write_above_the_kernels_limit_goes_on_where_it_stopped() {
    // Untouched zero pages: this costs address space only.
    let big = vec![0; 5 << 30];
    let file = KernelLimit(Mutex::default());
    write_all_at(&file, &[b"header", &big, b"pad"], 100).unwrap();
    let mut next = 100;
    for (offset, taken) in file.0.into_inner().unwrap() {
        assert_eq!(offset, next);
        next += taken as u64;
    }
    assert_eq!(next, 100 + 6 + (5 << 30) + 3);
}

/// Scenario 69: the disk stalls. Under `always` nothing is acknowledged meanwhile; under
/// `everysec` writes go on.
#[test]
fn a_stalled_sync_gives_no_false_success() {
    let (disk, mut log) = new(FsyncPolicy::Always, 2);
    disk.add_rule(Rule::every(Operation::Sync, "shard-0", Fault::Stall));
    log.append(0, b"stalled ");
    let end = log.append(1, b"behind");
    let status = log.pool.status();
    wait_until("shard 1 has synced and shard 0 is at it", || {
        let [first, second] = status.shards() else {
            return false;
        };
        first.syncing_for().is_some() && second.fsync_count.load(Ordering::Relaxed) > 0
    });
    assert_eq!(log.clock.committed(), Lsn(0));
    assert_eq!(log.clock.written(), end);
    disk.release();
    let clock = log.clock.clone();
    wait_until("the stall is over", || clock.committed() == end);

    disk.add_rule(Rule::every(Operation::Sync, "shard-0", Fault::Stall));
    log.pool.set_policy(FsyncPolicy::EverySec);
    let end = log.append(0, b" more");
    assert_eq!(log.clock.committed(), end);
    assert!(log.logs[0].bytes_at_risk() > 0);
    disk.release();
    log.stop();
}

/// Scenario 70: a sync that never returns does not keep the process from ending, and nothing is
/// called durable.
#[test]
fn shutdown_comes_back_from_a_hanging_disk() {
    let (disk, mut log) = new(FsyncPolicy::EverySec, 1);
    log.append(0, b"unsure");
    disk.add_rule(Rule::every(Operation::Sync, "shard-0", Fault::Stall));
    let stopped = log
        .pool
        .shutdown(log.logs, UnixMs(1), Duration::from_millis(50));
    assert!(matches!(stopped, Err(ShutdownError::Timeout { .. })));
    assert_eq!(log.clock.durable(), Lsn(0));
    assert_eq!(recovered(&disk.kill(), 1), b"unsure");
    disk.release();
}

/// Scenario 75: only the directory cannot be synced.
#[test]
fn a_failed_directory_sync_fails_what_it_protects() {
    let disk = FaultyStorage::new(1);
    for (path, skip) in [("shard-0", 0), ("appendonlydir", 0), ("appendonlydir", 2)] {
        let disk = disk.kill();
        disk.add_rule(Rule {
            skip,
            ..Rule::every(Operation::SyncDir, path, Fault::Error(EIO))
        });
        assert!(open(&disk, &options(FsyncPolicy::No), 1).is_err());
        disk.release();
        open(&disk, &options(FsyncPolicy::No), 1).unwrap().stop();
    }
}

/// Scenario 195: the wall clock jumps; frame times never fall, and syncs do not depend on it.
#[test]
fn a_jump_of_the_wall_clock_changes_nothing() {
    let (disk, mut log) = new(FsyncPolicy::Always, 1);
    for now in [1_000, 86_401_000, 500, -5] {
        log.logs[0].append(FrameKind::Own, Bytes::from_static(b"12345678"), UnixMs(now));
        let clock = log.clock.clone();
        wait_until("durable", || clock.committed() == clock.head());
    }
    let bytes = &disk.snapshot()[&segment(0, 1)];
    let seeds = SegmentHeader::decode(bytes).unwrap().seeds();
    let times: Vec<u64> = (0..4)
        .map(|i| {
            let at = 64 + i * 48;
            let header = bytes[at..].first_chunk().unwrap();
            FrameHeader::decode(header, seeds).unwrap().time_ms
        })
        .collect();
    assert_eq!(times, [1_000, 86_401_000, 86_401_000, 86_401_000]);
}

#[test]
fn under_everysec_a_sync_starts_at_half_of_the_bound() {
    let disk = FaultyStorage::new(1);
    let options = AofOptions {
        unsynced_max: 4000,
        preallocate: 1024,
        ..options(FsyncPolicy::EverySec)
    };
    let mut log = open(&disk, &options, 1).unwrap();
    log.append(0, &[b'a'; 900]);
    // It makes space after it has decided not to sync.
    wait_until("the sync thread has seen the frame", || {
        disk.snapshot()[&segment(0, 1)].len() >= 2000
    });
    assert_eq!(log.clock.durable(), Lsn(0));
    let end = log.append(0, &[b'b'; 1100]);
    let clock = log.clock.clone();
    wait_until("the sync came early", || clock.durable() == end);
    assert_eq!(log.pool.status().total(|s| &s.fsync_count), 1);
    assert_eq!(log.logs[0].bytes_at_risk(), 0);
    log.stop();
}

struct Seen(Arc<Mutex<Vec<(FrameKind, Lsn, usize)>>>);

impl FrameSink for Seen {
    fn frame(&mut self, kind: FrameKind, lsn: Lsn, payload: &Bytes) {
        self.0.lock().unwrap().push((kind, lsn, payload.len()));
    }
}

/// A frame that cannot be written is in the stream all the same: it has its LSN.
#[test]
fn a_sink_sees_every_frame_of_the_stream_once() {
    let (disk, mut log) = new(FsyncPolicy::EverySec, 1);
    let seen = Arc::new(Mutex::new(Vec::new()));
    log.logs[0].set_sink(Box::new(Seen(seen.clone())));
    log.append(0, b"one");
    disk.add_rule(Rule::once(
        Operation::Write,
        "shard-0",
        Fault::Error(ENOSPC),
    ));
    log.append(0, b"two");
    log.tick();
    log.append(0, b"three");
    let seen = seen.lock().unwrap();
    let expected = [(0, 3), (3, 3), (6, 5)].map(|(lsn, len)| (FrameKind::Own, Lsn(lsn), len));
    assert_eq!(*seen, expected);
}
