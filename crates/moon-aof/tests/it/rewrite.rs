//! Rewrites: bases take the place of the log before them while it goes on. In these tests the base
//! of every shard holds the whole stream below the cut, so that base and log together are the
//! stream again.

use crate::harness::{Open, STREAM_KEY, open, options, payload, segment};
use moon_aof::faulty::{Fault, Random, Rule};
use moon_aof::{
    AofOptions, FaultyStorage, FsyncPolicy, RdbFile, RdbFileInfo, RewriteError, RewriteSummary,
};
use moon_core::{Lsn, ShardId};
use moon_rdb::encode;
use moon_repl::CommitLog;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

pub(crate) const POLICIES: [FsyncPolicy; 3] =
    [FsyncPolicy::Always, FsyncPolicy::EverySec, FsyncPolicy::No];

/// Bytes of one element of the list in a base.
const PART: usize = 512;

pub(crate) fn info() -> RdbFileInfo {
    RdbFileInfo {
        redis_ver: "7.2.0".to_owned(),
        databases: vec![(0, 1, 0)],
        ..RdbFileInfo::default()
    }
}

/// The path of a base as part of a name.
pub(crate) fn base(shard: u16, seq: u64) -> PathBuf {
    PathBuf::from(format!(
        "{}/shard-{shard}/moon.aof.{seq}.base.rdb",
        crate::harness::DIR
    ))
}

/// Writes `stream` as the one key of a base, in chunks.
pub(crate) fn write_stream(file: &mut RdbFile, stream: &[u8]) -> std::io::Result<()> {
    if stream.is_empty() {
        return Ok(());
    }
    let mut out = Vec::new();
    encode::entry_head(&mut out, encode::ValueKind::List, STREAM_KEY, None);
    encode::len(&mut out, stream.len().div_ceil(PART) as u64);
    for part in stream.chunks(PART) {
        encode::string(&mut out, part);
        file.chunk(0, &out)?;
        out.clear();
    }
    Ok(())
}

/// A log and the stream it holds.
pub(crate) struct World {
    pub(crate) log: Open,
    pub(crate) stream: Vec<u8>,
    pub(crate) random: Random,
}

impl World {
    pub(crate) fn open(disk: &FaultyStorage, options: &AofOptions, count: u16) -> World {
        World::of(open(disk, options, count).unwrap())
    }

    pub(crate) fn of(log: Open) -> World {
        World {
            stream: log.recovered.bytes.clone(),
            log,
            random: Random(7),
        }
    }

    pub(crate) fn write(&mut self, frames: usize) {
        for _ in 0..frames {
            let shard = self.random.below(self.log.logs.len() as u64) as usize;
            let len = 1 + self.random.below(700) as usize;
            let frame = payload(&mut self.random, len);
            self.log.append(shard, &frame);
            self.stream.extend(frame);
        }
    }

    /// The cut on all shards.
    pub(crate) fn cut(&mut self) -> Lsn {
        for log in &mut self.log.logs {
            log.cut();
        }
        self.log.clock.head()
    }

    pub(crate) fn rewrite(&mut self) -> Result<RewriteSummary, RewriteError> {
        self.rewrite_until(|_| false)
    }

    /// One rewrite with writes at every step. It is told to stop when `stop` says so.
    pub(crate) fn rewrite_until(
        &mut self,
        stop: impl Fn(&Open) -> bool,
    ) -> Result<RewriteSummary, RewriteError> {
        let mut rewrite = self.log.pool.handle().begin_rewrite()?;
        self.write(2);
        let cut = self.cut();
        let state = self.stream.clone();
        self.write(1);
        rewrite.cut_at(cut)?;
        for shard in 0..self.log.logs.len() as u16 {
            self.write(1);
            let mut file = rewrite.base(ShardId(shard), &info())?;
            let path = base(shard, rewrite.generation().0);
            let wrap = |source| RewriteError::Base {
                path: path.clone(),
                source,
            };
            write_stream(&mut file, &state).map_err(wrap)?;
            file.finish().map_err(wrap)?;
        }
        self.write(1);
        let told = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let finish = scope.spawn(|| rewrite.finish(&told));
            while !finish.is_finished() {
                self.log.tick();
                if stop(&self.log) {
                    told.store(true, Ordering::SeqCst);
                }
                std::thread::yield_now();
            }
            finish.join().unwrap()
        })
    }

    /// What a start on `disk` recovers is the whole stream.
    pub(crate) fn expect(&self, disk: &FaultyStorage, options: &AofOptions, what: &str) {
        let count = self.log.logs.len() as u16;
        let log = open(disk, options, count).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(log.recovered.bytes == self.stream, "{what}: another stream");
    }
}

/// Bases that no manifest in force names, and temporary files.
pub(crate) fn leftovers(disk: &FaultyStorage) -> Vec<PathBuf> {
    let files = disk.snapshot();
    let manifest = &files[&PathBuf::from(format!("{}/moon.aof.manifest", crate::harness::DIR))];
    let manifest = String::from_utf8(manifest.clone()).unwrap();
    let named = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap();
        let mut words = name.split('.').skip(2);
        match (words.next(), words.next()) {
            (Some(seq), Some(kind)) => manifest.contains(&format!("\n{kind} {seq} ")),
            _ => true,
        }
    };
    let in_question = |path: &PathBuf| {
        let text = path.to_string_lossy();
        let file =
            text.ends_with(".tmp") || text.contains("/moon.aof.") && text.contains("/shard-");
        text.starts_with(crate::harness::DIR) && file
    };
    files
        .into_keys()
        .filter(|path| in_question(path) && !named(path))
        .collect()
}

#[test]
fn base_and_log_together_are_the_stream() {
    for policy in POLICIES {
        for count in [1, 2, 3] {
            let disk = FaultyStorage::new(1);
            let options = options(policy);
            let mut world = World::open(&disk, &options, count);
            world.write(10);
            for generation in [2, 3, 4] {
                let summary = world.rewrite().unwrap();
                assert_eq!(summary.generation.0, generation, "{policy}");
                world.write(5);
                assert!(!disk.snapshot().contains_key(&segment(0, generation - 1)));
                assert_eq!(leftovers(&disk), Vec::<PathBuf>::new());
            }
            world.expect(&disk.kill(), &options, "after a kill");
            let head = world.log.clock.head();
            world.log.stop();
            let mut world = World::open(&disk, &options, count);
            assert_eq!(world.log.clock.head(), head);
            assert!(world.log.summary.clean_stop);
            world.write(3);
            world.rewrite().unwrap();
            world.expect(&disk.kill(), &options, "after a stop and a rewrite");
        }
    }
}

/// Shards write while the sync threads make space ahead and the log changes files again and again.
/// Scenario 82: rewrites that are given up leave every frame where a start finds it.
#[test]
fn space_made_ahead_never_meets_a_frame_of_another_file() {
    for seed in 0..30 {
        let disk = FaultyStorage::new(seed);
        let options = AofOptions {
            preallocate: 700,
            ..options(FsyncPolicy::Always)
        };
        let mut world = World::open(&disk, &options, 1);
        world.random = Random(seed);
        for round in 0..20 {
            if let Ok(mut rewrite) = world.log.pool.handle().begin_rewrite() {
                world.write(1);
                let cut = world.cut();
                world.write(3);
                rewrite.cut_at(cut).unwrap();
                assert!(rewrite.generation().0 > round);
            }
            world.write(2);
        }
        world.expect(&disk.kill(), &options, &format!("seed {seed}"));
        let clock = world.log.clock.clone();
        crate::harness::wait_until("all is durable", || clock.durable() == clock.head());
        world.expect(
            &disk.crash(seed),
            &options,
            &format!("seed {seed}, crashed"),
        );
        world.rewrite().unwrap();
        assert_eq!(leftovers(&disk), Vec::<PathBuf>::new());
    }
}

/// Bases are written by threads that share the rewrite.
#[test]
fn a_rewrite_can_be_shared_by_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<moon_aof::Rewrite>();
    shared::<moon_aof::AofHandle>();
    fn sent<T: Send>() {}
    sent::<RdbFile>();
    sent::<moon_aof::DumpFile>();
}

/// The stream as far as it must be there, and as far as it may.
struct Model {
    stream: Vec<u8>,
    must: usize,
    /// What must be there after one more power loss.
    durable: usize,
}

impl Model {
    /// Recovers, loses power in the middle of that as well, recovers again, rewrites, recovers.
    fn check(&self, disk: FaultyStorage, options: &AofOptions, seed: u64, what: &str) {
        let interrupted = disk.kill();
        interrupted.add_rule(Rule {
            operation: None,
            path: String::new(),
            skip: seed % 60,
            times: 1,
            fault: Fault::Halt,
        });
        let (mut must, mut durable) = (self.must, self.durable);
        let mut may = self.stream.clone();
        if let Ok(log) = open(&interrupted, options, 2) {
            let found = &log.recovered.bytes;
            assert!(may.starts_with(found), "{what}: not a prefix");
            // It came through, so what it recovered is durable.
            (must, durable) = (found.len(), found.len());
            may.truncate(must);
        }
        let disk = if seed.is_multiple_of(2) {
            must = durable;
            interrupted.crash(seed)
        } else {
            disk
        };
        let log = open(&disk, options, 2).unwrap_or_else(|error| panic!("{what}: {error}"));
        let found = log.recovered.bytes.len();
        assert!(
            may.starts_with(&log.recovered.bytes),
            "{what}: not a prefix"
        );
        assert!(found >= must, "{what}: {found} of {must} bytes");
        let mut world = World::of(log);
        assert_eq!(leftovers(&disk), Vec::<PathBuf>::new(), "{what}");
        world
            .rewrite()
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        world.log.sync();
        // Another seed than above: a disk's random bytes follow from it.
        world.expect(&disk.crash(seed ^ 0xffff_0000), options, what);
    }
}

/// Scenarios 45, 46, 54, 57, 79 and 80: the power goes, or the process, at every operation of a
/// rewrite under load.
#[test]
fn a_crash_at_any_operation_of_a_rewrite_loses_nothing() {
    for policy in POLICIES {
        let options = options(policy);
        let mut step = 0;
        loop {
            let what = format!("{policy}, step {step}");
            let disk = FaultyStorage::new(step);
            let mut world = World::open(&disk, &options, 2);
            world.write(6);
            world.rewrite().unwrap();
            world.write(6);
            disk.add_rule(Rule {
                operation: None,
                path: String::new(),
                skip: step,
                times: 1,
                fault: Fault::Halt,
            });
            let done = world.rewrite_until(|_| disk.is_halted());
            // Before it the process was alive; what it says now is what it had said.
            let must = match policy {
                FsyncPolicy::Always => world.log.clock.committed(),
                FsyncPolicy::EverySec | FsyncPolicy::No => world.log.clock.durable(),
            };
            let written = world.log.clock.written();
            let halted = disk.is_halted();
            assert!(halted || done.is_ok(), "{what}: {done:?}");
            for seed in 0..4 {
                let model = Model {
                    stream: world.stream.clone(),
                    must: must.0 as usize,
                    durable: must.0 as usize,
                };
                model.check(disk.crash(step * 7 + seed), &options, step + seed, &what);
            }
            let model = Model {
                stream: world.stream.clone(),
                must: written.0 as usize,
                durable: must.0 as usize,
            };
            model.check(disk.kill(), &options, step, &format!("{what}, killed"));
            if !halted {
                assert!(step > 30, "{what}");
                break;
            }
            step += 1;
        }
    }
}
