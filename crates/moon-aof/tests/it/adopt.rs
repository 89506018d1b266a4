//! Logs that start from a state which does not come from one.

use crate::harness::{DIR, open, options, shards, wait_until};
use crate::rewrite::{POLICIES, World, base, info, write_stream};
use moon_aof::faulty::{Fault, Operation, Random, Rule};
use moon_aof::storage::{Storage, read_whole, write_new};
use moon_aof::{
    AofOptions, FaultyStorage, FsyncPolicy, NoProgress, RecoverError, Recovery, Rewrite, ShardLog,
    open_for_rewrite,
};
use moon_core::{Lsn, ShardCount, ShardId, UnixMs};
use moon_manifest::AofManifest;
use moon_rdb::{RdbItem, RdbReader};
use moon_repl::{Clock, CommitLog, CommitOn, FrameKind, Lane, MemoryLog};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

const V1: &str = "seq 7\nbase moon.aof.7.base.rdb\nincr moon.aof.7.incr.aof\n";

fn manifest_path() -> PathBuf {
    PathBuf::from(format!("{DIR}/moon.aof.manifest"))
}

fn manifest(disk: &FaultyStorage) -> Option<AofManifest> {
    let bytes = disk.snapshot().remove(&manifest_path())?;
    Some(AofManifest::parse(&bytes).unwrap())
}

/// A directory of version 1.
fn v1() -> FaultyStorage {
    let disk = FaultyStorage::new(1);
    Storage::create_dir(&disk, Path::new(DIR)).unwrap();
    Storage::sync_dir(&disk, Path::new("/")).unwrap();
    let name = |name: &str| PathBuf::from(format!("{DIR}/{name}"));
    write_new(&disk, &manifest_path(), V1.as_bytes()).unwrap();
    write_new(&disk, &name("moon.aof.7.base.rdb"), b"its data").unwrap();
    write_new(&disk, &name("moon.aof.7.incr.aof"), b"its log").unwrap();
    Storage::sync_dir(&disk, Path::new(DIR)).unwrap();
    disk
}

/// A log that was closed, with a stream in it.
fn closed() -> FaultyStorage {
    let disk = FaultyStorage::new(1);
    let mut world = World::open(&disk, &options(FsyncPolicy::EverySec), 2);
    world.write(5);
    world.rewrite().unwrap();
    world.write(5);
    world.log.sync();
    world.log.pool.handle().close_mark().unwrap();
    disk.crash(1)
}

/// A start with a state from elsewhere; the keys of shard i are `state-i`.
fn start(disk: &FaultyStorage, options: &AofOptions) -> Result<(), RecoverError> {
    let storage: Arc<dyn Storage> = Arc::new(disk.clone());
    let recovery = match manifest(disk) {
        None => Recovery::scan(
            storage,
            options,
            Some(shards(2)),
            ShardCount::ONE,
            &NoProgress,
        )?,
        Some(_) => Recovery::adopt(storage, options, shards(2))?,
    };
    let clock = Clock::new(shards(2), recovery.end(), CommitOn::Written);
    let (pool, mut logs) = recovery.finish_with_bases(&clock, &info(), &|shard, file| {
        write_stream(file, format!("state-{}", shard.0).as_bytes())
    })?;
    for log in &mut logs {
        log.append(
            FrameKind::Own,
            bytes::Bytes::from_static(b"and more"),
            UnixMs(1),
        );
    }
    pool.shutdown(logs, UnixMs(2), Duration::from_secs(20))
        .unwrap();
    Ok(())
}

/// Whether the new state is there, whole.
fn has_new_state(disk: &FaultyStorage, options: &AofOptions) -> bool {
    let storage: Arc<dyn Storage> = Arc::new(disk.clone());
    let recovery = Recovery::scan(
        storage,
        options,
        Some(shards(2)),
        ShardCount::ONE,
        &NoProgress,
    )
    .unwrap();
    let bases = recovery.bases();
    for file in &bases {
        let bytes = read_whole(disk, &file.path, 1 << 20).unwrap();
        let items: Vec<RdbItem> = RdbReader::new(&*bytes).map(Result::unwrap).collect();
        assert!(items.iter().any(|item| matches!(item, RdbItem::Entry(_))));
    }
    assert_eq!(recovery.is_new(), bases.is_empty());
    bases.len() == 2
}

type Source = (&'static str, fn() -> FaultyStorage);

const SOURCES: [Source; 3] = [
    ("new", || FaultyStorage::new(1)),
    ("version 1", v1),
    ("closed", closed),
];

/// Scenarios 106, 107 and 113: the new state is in force as a whole or the old one still is,
/// wherever the power goes; and the next start can do it all again.
#[test]
fn a_state_from_elsewhere_is_in_force_as_a_whole_or_not_at_all() {
    for (what, source) in SOURCES {
        let options = options(FsyncPolicy::EverySec);
        let mut step = 0;
        loop {
            let disk = source();
            let before = manifest(&disk);
            disk.add_rule(Rule {
                operation: None,
                path: String::new(),
                skip: step,
                times: 1,
                fault: Fault::Halt,
            });
            let storage: Arc<dyn Storage> = Arc::new(disk.clone());
            let done = start_until_open(storage, &options, before.is_none());
            let halted = disk.is_halted();
            assert!(done.is_ok() || halted, "{what}, step {step}");
            for (seed, crashed) in [disk.crash(step), disk.crash(!step), disk.kill()]
                .into_iter()
                .enumerate()
            {
                let at = format!("{what}, step {step}, {seed}");
                let now = manifest(&crashed);
                let in_force = now.as_ref().is_some_and(|m| !m.bases.is_empty())
                    && now
                        .as_ref()
                        .is_some_and(|m| m.closed_at.is_none() && m.history > 0);
                assert!(in_force || done.is_err(), "{at}: it said that it was done");
                if in_force {
                    assert!(has_new_state(&crashed, &options), "{at}");
                } else {
                    if let (Some(now), Some(before)) = (&now, &before) {
                        assert_eq!((now.seq, &now.bases), (before.seq, &before.bases), "{at}");
                    }
                    start(&crashed, &options).unwrap_or_else(|error| panic!("{at}: {error}"));
                    assert!(has_new_state(&crashed, &options), "{at}");
                }
                let left = crashed.snapshot();
                if in_force {
                    let again = Arc::new(crashed.clone());
                    let wanted = Some(shards(2));
                    let mut recovery =
                        Recovery::scan(again, &options, wanted, ShardCount::ONE, &NoProgress)
                            .unwrap();
                    let mut sink = crate::harness::Stream::default();
                    recovery.replay(&mut sink, &NoProgress).unwrap();
                    let clock = Clock::new(shards(2), recovery.end(), CommitOn::Written);
                    recovery.finish(&clock).unwrap();
                } else {
                    let marker = PathBuf::from(format!("{DIR}/moon.aof.preparing"));
                    assert!(!left.contains_key(&marker), "{at}");
                    assert!(
                        !left.contains_key(&PathBuf::from(format!("{DIR}/moon.aof.7.base.rdb")))
                    );
                }
            }
            if !halted {
                assert!(step > 20, "{what}");
                break;
            }
            step += 1;
        }
    }
}

fn start_until_open(
    storage: Arc<dyn Storage>,
    options: &AofOptions,
    is_new: bool,
) -> Result<(), RecoverError> {
    let recovery = if is_new {
        Recovery::scan(
            storage,
            options,
            Some(shards(2)),
            ShardCount::ONE,
            &NoProgress,
        )?
    } else {
        Recovery::adopt(storage, options, shards(2))?
    };
    let clock = Clock::new(shards(2), recovery.end(), CommitOn::Written);
    recovery
        .finish_with_bases(&clock, &info(), &|shard, file| {
            write_stream(file, format!("state-{}", shard.0).as_bytes())
        })
        .map(|_| ())
}

#[test]
fn a_log_in_force_is_not_replaced_by_another_state() {
    let disk = FaultyStorage::new(1);
    let options = options(FsyncPolicy::EverySec);
    let mut world = World::open(&disk, &options, 2);
    world.write(3);
    world.log.stop();
    let adopted = Recovery::adopt(Arc::new(disk.clone()), &options, shards(2)).map(|_| ());
    assert!(matches!(adopted, Err(RecoverError::InForce { .. })));
    let storage: Arc<dyn Storage> = Arc::new(disk.clone());
    let recovery = Recovery::scan(
        storage,
        &options,
        Some(shards(2)),
        ShardCount::ONE,
        &NoProgress,
    )
    .unwrap();
    let clock = Clock::new(shards(2), recovery.end(), CommitOn::Written);
    let finished = recovery.finish_with_bases(&clock, &info(), &|_, _| Ok(()));
    assert!(matches!(
        finished.map(|_| ()),
        Err(RecoverError::InForce { .. })
    ));
    world.log = open(&disk, &options, 2).unwrap();
    assert!(world.log.recovered.bytes == world.stream);
}

/// A base that cannot be written leaves the old state in force and takes no space.
#[test]
fn a_start_whose_bases_do_not_fit_is_refused_and_leaves_nothing() {
    for (what, source) in SOURCES {
        let disk = source();
        let options = options(FsyncPolicy::EverySec);
        disk.add_rule(Rule::every(Operation::Write, "base", Fault::Error(28)));
        let is_new = manifest(&disk).is_none();
        let refused = start_until_open(Arc::new(disk.clone()), &options, is_new);
        assert!(matches!(refused, Err(RecoverError::Write { .. })), "{what}");
        let named = |seq| disk.snapshot().contains_key(&base(0, seq));
        assert!(!named(1) && !named(8), "{what}");
        disk.release();
        start(&disk, &options).unwrap();
        assert!(has_new_state(&disk, &options), "{what}");
    }
}

/// A server without a log: it issues all the same.
struct Server {
    clock: Arc<Clock>,
    logs: Vec<MemoryLog>,
    stream: Vec<u8>,
    random: Random,
}

impl Server {
    fn new() -> Server {
        let clock = Clock::new(shards(2), Lsn::ZERO, CommitOn::Written);
        let lane = |shard| MemoryLog::new(Lane::new(clock.clone(), shard));
        Server {
            logs: shards(2).ids().map(lane).collect(),
            clock,
            stream: Vec::new(),
            random: Random(3),
        }
    }

    fn write(&mut self, log: Option<&mut ShardLog>, shard: usize) {
        let frame = crate::harness::payload(&mut self.random, 300);
        self.stream.extend_from_slice(&frame);
        let payload = bytes::Bytes::from(frame);
        match log {
            Some(log) => log.append(FrameKind::Own, payload, UnixMs(1)),
            None => self.logs[shard].append(FrameKind::Own, payload, UnixMs(1)),
        };
    }
}

/// Scenario 106 at run time: `appendonly yes`. What was in force before stays in force until the
/// bases are, wherever the power goes; afterwards the log has everything from the cut on.
#[test]
fn a_log_that_is_switched_on_counts_once_its_bases_do() {
    for (what, source) in [SOURCES[0], SOURCES[2]] {
        for policy in POLICIES {
            let options = options(policy);
            let mut step = 0;
            loop {
                let at = format!("{what}, {policy}, step {step}");
                let disk = source();
                let before = manifest(&disk);
                disk.add_rule(Rule {
                    operation: None,
                    path: String::new(),
                    skip: step,
                    times: 1,
                    fault: Fault::Halt,
                });
                let mut server = Server::new();
                for shard in [0, 1, 1, 0] {
                    server.write(None, shard);
                }
                let done = switch_on(&disk, &options, &mut server);
                let halted = disk.is_halted();
                assert!(halted || done.is_some(), "{at}");
                for crashed in [disk.crash(step), disk.crash(!step)] {
                    let now = manifest(&crashed);
                    let in_force = now
                        .as_ref()
                        .is_some_and(|m| m.closed_at.is_none() && !m.bases.is_empty());
                    assert!(in_force || done.is_none(), "{at}");
                    if in_force {
                        let log = open(&crashed, &options, 2).unwrap();
                        let found = log.recovered.bytes;
                        assert!(server.stream.starts_with(&found), "{at}");
                        let must = done.unwrap_or(Lsn(4 * 300)).0 as usize;
                        assert!(found.len() >= must, "{at}: {}", found.len());
                    } else if let (Some(now), Some(before)) = (now, before.clone()) {
                        assert_eq!((now.seq, now.bases), (before.seq, before.bases), "{at}");
                        assert_eq!(now.closed_at, before.closed_at, "{at}");
                        let use_closed = AofOptions {
                            use_closed: true,
                            ..options.clone()
                        };
                        open(&crashed, &use_closed, 2).unwrap();
                    } else {
                        let log = open(&crashed, &options, 2).unwrap();
                        assert!(log.recovered.bytes.is_empty(), "{at}");
                    }
                }
                if !halted {
                    assert!(step > 20, "{at}");
                    break;
                }
                step += 1;
            }
        }
    }
}

/// Switches the log on and writes to it; the durable mark at the end.
fn switch_on(disk: &FaultyStorage, options: &AofOptions, server: &mut Server) -> Option<Lsn> {
    let storage: Arc<dyn Storage> = Arc::new(disk.clone());
    let opened = open_for_rewrite(storage, options, shards(2), &server.clock);
    let (pool, mut logs, rewrite): (_, _, Rewrite) = opened.ok()?;
    // Until the cut the shards go on without.
    assert_eq!(server.clock.head(), Lsn(4 * 300));
    let cut = server.clock.head();
    let state = server.stream.clone();
    let mut rewrite = rewrite;
    // The shards go on as soon as they have their data back.
    server.write(Some(&mut logs[0]), 0);
    rewrite.cut_at(cut).unwrap();
    for shard in [1, 0, 1] {
        server.write(Some(&mut logs[shard]), shard);
    }
    for shard in 0..2 {
        let mut file = rewrite.base(ShardId(shard), &info()).ok()?;
        write_stream(&mut file, &state).ok()?;
        file.finish().ok()?;
    }
    rewrite.finish(&AtomicBool::new(false)).ok()?;
    pool.set_policy(FsyncPolicy::Always);
    let (clock, halted) = (server.clock.clone(), disk.clone());
    wait_until("all is durable", || {
        clock.durable() == clock.head() || halted.is_halted()
    });
    Some(server.clock.durable())
}

/// The new log is another history: nobody goes on from a position of the one before.
#[test]
fn a_log_that_is_switched_on_is_a_history_of_its_own() {
    let disk = closed();
    let before = manifest(&disk).unwrap();
    let mut server = Server::new();
    for shard in [0, 1, 1, 0] {
        server.write(None, shard);
    }
    switch_on(&disk, &options(FsyncPolicy::EverySec), &mut server).unwrap();
    let now = manifest(&disk).unwrap();
    assert_eq!(now.history, before.history + 1);
    let ids: Vec<_> = before
        .replication_ids
        .iter()
        .map(|entry| entry.id)
        .collect();
    assert!(
        now.replication_ids
            .iter()
            .all(|entry| !ids.contains(&entry.id))
    );
    assert!(now.seq > before.seq);
}
