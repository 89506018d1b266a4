//! Rewrites: bases take the place of the log before them while it goes on. In these tests the base
//! of every shard holds the whole stream below the cut, so that base and log together are the
//! stream again.

use crate::harness::{Open, STREAM_KEY, open, options, payload, segment, wait_until};
use moon_aof::faulty::{Fault, Operation, Random, Rule};
use moon_aof::{
    AofOptions, FaultyStorage, FsyncPolicy, RdbFile, RdbFileInfo, RewriteError, RewriteSummary,
};
use moon_core::{Lsn, ShardId};
use moon_rdb::encode;
use moon_repl::CommitLog;
use std::sync::atomic::AtomicBool;

const POLICIES: [FsyncPolicy; 3] = [FsyncPolicy::Always, FsyncPolicy::EverySec, FsyncPolicy::No];

/// Bytes of one element of the list in a base.
const PART: usize = 512;

pub(crate) fn info() -> RdbFileInfo {
    RdbFileInfo {
        redis_ver: "7.2.0".to_owned(),
        databases: vec![(0, 1, 0)],
        ..RdbFileInfo::default()
    }
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

/// The log and the stream it holds.
struct World {
    log: Open,
    stream: Vec<u8>,
    random: Random,
}

impl World {
    fn open(disk: &FaultyStorage, options: &AofOptions, count: u16) -> World {
        let log = open(disk, options, count).unwrap();
        World {
            stream: log.recovered.bytes.clone(),
            log,
            random: Random(7),
        }
    }

    fn write(&mut self, frames: usize) {
        for _ in 0..frames {
            let shard = self.random.below(self.log.logs.len() as u64) as usize;
            let len = 1 + self.random.below(700) as usize;
            let frame = payload(&mut self.random, len);
            self.log.append(shard, &frame);
            self.stream.extend(frame);
        }
    }

    fn cut(&mut self) -> Lsn {
        for log in &mut self.log.logs {
            log.cut();
        }
        self.log.clock.head()
    }

    /// One rewrite with writes at every step.
    fn rewrite(&mut self) -> Result<RewriteSummary, RewriteError> {
        let mut rewrite = self.log.pool.handle().begin_rewrite()?;
        self.write(2);
        let cut = self.cut();
        let state = self.stream.clone();
        self.write(1);
        rewrite.cut_at(cut)?;
        for shard in 0..self.log.logs.len() {
            self.write(1);
            let shard = ShardId(u16::try_from(shard).unwrap());
            let mut file = rewrite.base(shard, &info())?;
            let path = std::path::PathBuf::new();
            let wrap = |source| RewriteError::Base {
                path: path.clone(),
                source,
            };
            write_stream(&mut file, &state).map_err(wrap)?;
            file.finish().map_err(wrap)?;
        }
        self.write(1);
        rewrite.finish(&AtomicBool::new(false))
    }

    fn expect(&self, disk: &FaultyStorage, options: &AofOptions, what: &str) {
        let count = self.log.logs.len() as u16;
        let log = open(disk, options, count).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(log.recovered.bytes == self.stream, "{what}: another stream");
    }
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
