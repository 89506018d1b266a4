//! Power losses: what is recovered is a prefix of the stream, and all of the durable part.

use crate::harness::{Open, open, options, payload, segment};
use bytes::Bytes;
use moon_aof::faulty::{Fault, Operation, Random, Rule};
use moon_aof::{AofOptions, FaultyStorage, FsyncPolicy, RecoverError};
use moon_core::{Lsn, UnixMs};
use moon_repl::{CommitLog, FrameKind, LogHealth};

/// Histories per run. `MOON_SEED=<n> cargo test -p moon-aof --test it crash` starts with
/// another one, and `MOON_SEEDS=<n>` takes more of them; a failure prints its own.
const SEEDS: u64 = 2000;

pub(crate) fn seeds(otherwise: u64) -> std::ops::Range<u64> {
    let number = |name, otherwise| match std::env::var(name) {
        Ok(number) => number.parse().unwrap(),
        Err(_) => otherwise,
    };
    let first: u64 = number("MOON_SEED", 0);
    first..first + number("MOON_SEEDS", otherwise)
}

/// What a run knows about the stream when the power goes.
struct Model {
    stream: Vec<u8>,
    /// Nothing below it may be lost.
    durable: usize,
}

impl Model {
    fn check(&self, recovered: &[u8], what: &str) {
        assert!(recovered.len() <= self.stream.len(), "{what}: invented");
        assert!(
            recovered == &self.stream[..recovered.len()],
            "{what}: not a prefix"
        );
        assert!(
            recovered.len() >= self.durable,
            "{what}: {} of {} durable bytes",
            recovered.len(),
            self.durable
        );
    }
}

pub(crate) fn random_options(random: &mut Random) -> AofOptions {
    let policies = [FsyncPolicy::Always, FsyncPolicy::EverySec, FsyncPolicy::No];
    AofOptions {
        frame_max: if random.below(4) == 0 { 300 } else { 1 << 20 },
        preallocate: random.below(3) * 3000,
        ..options(policies[random.below(3) as usize])
    }
}

/// Random frames and syncs. The disk may stop working at any operation.
fn work(log: &mut Open, policy: FsyncPolicy, random: &mut Random, model: &mut Model) {
    for _ in 0..random.below(30) {
        let shard = random.below(log.logs.len() as u64) as usize;
        match random.below(10) {
            0..7 => {
                let len = match random.below(3) {
                    0 => 1 + random.below(40),
                    1 => 1 + random.below(700),
                    _ => 1 + random.below(2500),
                };
                let frame = payload(random, len as usize);
                let kind = if random.below(4) == 0 {
                    FrameKind::Cross
                } else {
                    FrameKind::Own
                };
                let end = log.logs[shard].append(kind, Bytes::from(frame.clone()), UnixMs(1));
                model.stream.extend(frame);
                assert_eq!(end.0 as usize, model.stream.len(), "the numbering is dense");
            }
            7 => {
                log.logs[shard].append(FrameKind::Control, Bytes::new(), UnixMs(1));
            }
            8 => log.tick(),
            _ => sync_if_it_works(log),
        }
    }
    model.durable = model.durable.max(log.clock.durable().0 as usize);
    if policy == FsyncPolicy::Always {
        // What was acknowledged.
        model.durable = model.durable.max(log.clock.committed().0 as usize);
    }
}

fn sync_if_it_works(log: &mut Open) {
    let before = log.pool.policy();
    log.pool.set_policy(FsyncPolicy::Always);
    let target = log.clock.written();
    while log.clock.durable() < target {
        if log.pool.status().health().0 != LogHealth::Healthy {
            break;
        }
        std::thread::yield_now();
    }
    if before != FsyncPolicy::Always && log.pool.status().health().0 == LogHealth::Healthy {
        log.pool.set_policy(before);
    }
}

/// One failed sync somewhere, and the disk dead from some operation on; or neither.
fn fail_sometimes(disk: &FaultyStorage, random: &mut Random) {
    if random.below(2) == 0 {
        disk.add_rule(Rule {
            skip: random.below(8),
            ..Rule::once(Operation::Sync, "incr", Fault::Error(5))
        });
    }
    if random.below(2) == 0 {
        disk.add_rule(Rule {
            operation: None,
            path: String::new(),
            skip: random.below(60),
            times: 1,
            fault: Fault::Halt,
        });
    }
}

/// Scenarios 43 and 44. Thousands of histories: random frames on one to four shards, random
/// syncs, a power loss at a random operation; then a recovery that loses power as well, another
/// one, more frames, and another power loss.
#[test]
fn recovered_is_a_prefix_with_everything_durable_after_every_power_loss() {
    for seed in seeds(SEEDS) {
        let mut random = Random(seed);
        let options = random_options(&mut random);
        let count = 1 + random.below(4) as u16;
        let disk = FaultyStorage::new(seed);
        let mut model = Model {
            stream: Vec::new(),
            durable: 0,
        };
        let mut log = open(&disk, &options, count).unwrap();
        fail_sometimes(&disk, &mut random);
        work(&mut log, options.policy, &mut random, &mut model);
        let mut disk = disk.crash(random.next());
        drop(log);

        // A recovery that is interrupted anywhere, by a power loss.
        let interrupted = disk.kill();
        interrupted.add_rule(Rule {
            operation: None,
            path: String::new(),
            skip: random.below(40),
            times: 1,
            fault: Fault::Halt,
        });
        if let Ok(log) = open(&interrupted, &options, count) {
            model.check(
                &log.recovered.bytes,
                &format!("seed {seed}, first recovery"),
            );
            // It came through, so what it recovered is durable.
            model.durable = log.recovered.bytes.len();
            model.stream.truncate(model.durable);
        }
        if random.below(3) > 0 {
            disk = interrupted.crash(random.next());
        } else {
            model.durable = model.durable.min(model.stream.len());
            disk = interrupted.kill();
        }

        let mut log = open(&disk, &options, count)
            .unwrap_or_else(|error| panic!("seed {seed}, second recovery: {error}"));
        model.check(
            &log.recovered.bytes,
            &format!("seed {seed}, second recovery"),
        );
        model.durable = log.recovered.bytes.len();
        model.stream.truncate(model.durable);

        fail_sometimes(&disk, &mut random);
        work(&mut log, options.policy, &mut random, &mut model);
        let disk = disk.crash(random.next());
        let log = open(&disk, &options, count)
            .unwrap_or_else(|error| panic!("seed {seed}, third recovery: {error}"));
        model.check(
            &log.recovered.bytes,
            &format!("seed {seed}, third recovery"),
        );
    }
}

/// Operations that fail, above all syncs, and a disk that stops, at random, in a start as well
/// as after it.
pub(crate) fn fail_anywhere(disk: &FaultyStorage, random: &mut Random) {
    for _ in 0..random.below(3) {
        disk.add_rule(Rule {
            skip: random.below(16),
            times: 1 + random.below(3),
            ..Rule::once(Operation::Sync, "", Fault::Error(5))
        });
    }
    let others = [
        Operation::SyncDir,
        Operation::Write,
        Operation::Truncate,
        Operation::Allocate,
        Operation::Rename,
        Operation::Create,
    ];
    for operation in others {
        if random.below(6) == 0 {
            let fault = match operation {
                Operation::Write if random.below(2) == 0 => {
                    Fault::Short(1 + random.below(90) as usize)
                }
                _ => Fault::Error(5),
            };
            disk.add_rule(Rule {
                skip: random.below(20),
                ..Rule::once(operation, "", fault)
            });
        }
    }
    if random.below(3) == 0 {
        disk.add_rule(Rule {
            operation: None,
            path: String::new(),
            skip: random.below(120),
            times: 1,
            fault: Fault::Halt,
        });
    }
}

/// Scenario 59 over several lives. A chain of processes on one disk: each may be refused, may
/// fail to sync during its recovery or later, and ends by a kill (the next one reads the page
/// cache, in which failed syncs left bytes that are not on disk) or by a power loss. What a start
/// that came through has recovered is never lost again.
#[test]
fn what_a_start_came_through_with_outlives_failed_syncs_kills_and_power_losses() {
    for seed in seeds(SEEDS / 10) {
        let mut random = Random(seed ^ 0x5eed);
        let options = random_options(&mut random);
        let count = 1 + random.below(3) as u16;
        let mut disk = FaultyStorage::new(seed);
        let mut model = Model {
            stream: Vec::new(),
            durable: 0,
        };
        let lives = 3 + random.below(6);
        for life in 0..=lives {
            let what = format!("seed {seed}, life {life}");
            if life < lives {
                fail_anywhere(&disk, &mut random);
            }
            let mut read_back = None;
            match open(&disk, &options, count) {
                Ok(mut log) => {
                    model.check(&log.recovered.bytes, &what);
                    model.durable = log.recovered.bytes.len();
                    model.stream.truncate(model.durable);
                    work(&mut log, options.policy, &mut random, &mut model);
                    // The sync thread may go on until the log is dropped.
                    drop(log.pool);
                    read_back = Some(log.clock.written().0 as usize);
                }
                Err(error) => {
                    let injected = matches!(error, RecoverError::Write { .. });
                    assert!(injected && life < lives, "{what}: {error}");
                }
            }
            if random.below(3) == 0 {
                disk = disk.crash(random.next());
            } else {
                disk = disk.kill();
                if let Some(written) = read_back {
                    let check = open(&disk.kill(), &options, count)
                        .unwrap_or_else(|error| panic!("{what}, read back: {error}"));
                    assert!(
                        check.recovered.bytes.len() >= written,
                        "{what}: after a kill"
                    );
                }
            }
        }
    }
}

/// A shard that has its LSN and did not write: later frames of other shards, though synced, are
/// not acknowledged and not recovered.
#[test]
fn a_frame_that_was_issued_and_never_written_ends_the_prefix() {
    for seed in 0..50 {
        let disk = FaultyStorage::new(seed);
        let mut log = open(&disk, &options(FsyncPolicy::Always), 2).unwrap();
        log.append(0, b"before ");
        log.sync();
        disk.add_rule(Rule::every(Operation::Write, "shard-1", Fault::Error(5)));
        log.append(1, b"held ");
        for _ in 0..5 {
            log.append(0, b"after ");
        }
        crate::harness::wait_until("the later frames are synced", || {
            log.pool.status().shards()[0]
                .fsync_count
                .load(std::sync::atomic::Ordering::Relaxed)
                > 1
        });
        assert_eq!(log.clock.committed(), Lsn(7));
        let disk = disk.crash(seed);
        let log = open(&disk, &options(FsyncPolicy::Always), 2).unwrap();
        assert_eq!(log.recovered.bytes, b"before ");
    }
}

/// The process dies, the next one starts from the page cache and serves; then the power goes.
#[test]
fn what_a_start_read_from_the_page_cache_is_durable_before_it_serves() {
    for seed in 0..100 {
        let disk = FaultyStorage::new(seed);
        let mut log = open(&disk, &options(FsyncPolicy::No), 2).unwrap();
        let mut stream = Vec::new();
        let mut random = Random(seed);
        for shard in [0, 1, 1, 0, 1] {
            let frame = payload(&mut random, 900);
            log.append(shard, &frame);
            stream.extend(frame);
        }
        let disk = disk.kill();
        let log = open(&disk, &options(FsyncPolicy::No), 2).unwrap();
        assert_eq!(log.recovered.bytes, stream);
        assert_eq!(log.clock.durable().0 as usize, stream.len());
        let disk = disk.crash(seed);
        let log = open(&disk, &options(FsyncPolicy::No), 2).unwrap();
        assert_eq!(log.recovered.bytes, stream, "seed {seed}");
    }
}

/// A recovery that could not shorten a file: the frame beyond the end stays in it, and its LSN
/// is given to another frame.
#[test]
fn an_orphan_beyond_the_end_is_ignored_for_ever() {
    let disk = FaultyStorage::new(1);
    let always = options(FsyncPolicy::EverySec);
    let mut log = open(&disk, &always, 2).unwrap();
    log.append(0, b"0123456789");
    log.append(1, b"lost......");
    log.append(0, b"orphan....");
    let disk = disk.kill();
    disk.damage(&segment(1, 1), |bytes| bytes.truncate(64))
        .unwrap();
    disk.add_rule(Rule::every(Operation::Truncate, "", Fault::Error(5)));
    let mut log = open(&disk, &always, 2).unwrap();
    assert_eq!(log.recovered.bytes, b"0123456789");
    assert_eq!(log.summary.truncated_range, Some((Lsn(10), Lsn(30))));
    log.append(1, b"new.......");
    let disk = disk.kill();
    disk.add_rule(Rule::every(Operation::Truncate, "", Fault::Error(5)));
    assert!(
        disk.snapshot()[&segment(0, 1)].len() > 64 + 56,
        "the orphan"
    );
    let mut log = open(&disk, &always, 2).unwrap();
    assert_eq!(log.recovered.bytes, b"0123456789new.......");
    log.append(0, b"and more");
    let log = open(&disk.kill(), &always, 2).unwrap();
    assert_eq!(log.recovered.bytes, b"0123456789new.......and more");
}

/// Scenario 198: a burst, then nothing. The sync does not wait for another write.
#[test]
fn the_end_of_a_burst_is_synced_without_another_write() {
    let disk = FaultyStorage::new(1);
    let options = AofOptions {
        sync_interval: std::time::Duration::from_millis(5),
        mark_after: std::time::Duration::ZERO,
        ..options(FsyncPolicy::EverySec)
    };
    let mut log = open(&disk, &options, 2).unwrap();
    log.append(0, b"a burst");
    let clock = log.clock.clone();
    crate::harness::wait_until("the burst is durable", || clock.durable() == Lsn(7));
    let frames = |log: &Open| log.pool.status().total(|s| &s.appended_frames);
    let before = frames(&log);
    log.tick();
    // Both shards note the mark, once.
    assert_eq!(frames(&log), before + 2);
    log.tick();
    log.tick();
    assert_eq!(frames(&log), before + 2);
    // The mark protects the burst: losing it now is damage, not a torn tail.
    let killed = disk.kill();
    killed
        .damage(&segment(0, 1), |bytes| bytes[64 + 41] ^= 1)
        .unwrap();
    assert!(open(&killed, &options, 2).is_err());
    for seed in 0..20 {
        let log = open(&disk.crash(seed), &options, 2).unwrap();
        assert_eq!(log.recovered.bytes, b"a burst");
    }
}

/// Effects above `frame_max` are one unit: all of them or none.
#[test]
fn a_run_is_recovered_whole_or_not_at_all() {
    let disk = FaultyStorage::new(1);
    let options = AofOptions {
        frame_max: 100,
        ..options(FsyncPolicy::EverySec)
    };
    let mut log = open(&disk, &options, 2).unwrap();
    log.append(1, b"before");
    let big = payload(&mut Random(1), 1050);
    let end = log.logs[0].append(FrameKind::Cross, Bytes::from(big.clone()), UnixMs(1));
    assert_eq!(end, Lsn(6 + 1050));
    log.append(1, b"after");
    let used = disk.snapshot()[&segment(0, 1)].len();
    let whole = open(&disk.kill(), &options, 2).unwrap();
    assert_eq!(whole.recovered.units.len(), 3);
    assert_eq!(whole.recovered.bytes.len(), 6 + 1050 + 5);
    for cut in (64..used.min(64 + 11 * 40 + 1050)).step_by(37) {
        let disk = disk.kill();
        disk.damage(&segment(0, 1), |bytes| bytes.truncate(cut))
            .unwrap();
        let log = open(&disk, &options, 2).unwrap();
        assert_eq!(log.recovered.bytes, b"before", "cut at {cut}");
    }
}

/// The sync thread writes zeros ahead of the frames while the shard writes frames.
#[test]
fn space_made_ahead_never_meets_a_frame() {
    for seed in 0..20 {
        let disk = FaultyStorage::new(seed);
        let mut log = open(&disk, &options(FsyncPolicy::Always), 1).unwrap();
        let mut random = Random(seed);
        let mut stream = Vec::new();
        for _ in 0..300 {
            let len = 1 + random.below(1500) as usize;
            let frame = vec![1 + random.below(255) as u8; len];
            log.append(0, &frame);
            stream.extend(frame);
        }
        let log = open(&disk.kill(), &options(FsyncPolicy::Always), 1).unwrap();
        assert!(log.recovered.bytes == stream, "seed {seed}");
    }
}
