//! Opening a log, appending to it, and the model it is compared with: the stream as one string
//! of bytes.

use bytes::Bytes;
use moon_aof::faulty::Random;
use moon_aof::recovery::BaseFile;
use moon_aof::storage::read_whole;
use moon_aof::{
    AofOptions, AofWriterPool, FaultyStorage, FsyncPolicy, NoProgress, RecoverError, Recovery,
    RecoverySummary, ReplayError, ReplaySink, ShardLog, Storage,
};
use moon_core::{Lsn, ShardCount, ShardId, UnixMs};
use moon_rdb::{RdbItem, RdbReader, RdbValue};
use moon_repl::{Clock, CommitLog, CommitOn, FrameKind};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(crate) const DIR: &str = "/appendonlydir";

pub(crate) fn shards(count: u16) -> ShardCount {
    ShardCount::new(count).expect("in range")
}

pub(crate) fn options(policy: FsyncPolicy) -> AofOptions {
    AofOptions {
        dir: PathBuf::from(DIR),
        policy,
        preallocate: 4096,
        // Syncs happen when a test asks for them.
        sync_interval: Duration::from_secs(3600),
        retry_after: Duration::from_millis(1),
        ..AofOptions::default()
    }
}

/// The path of a segment as part of a name, for rules and damage.
pub(crate) fn segment(shard: u16, seq: u64) -> PathBuf {
    PathBuf::from(format!("{DIR}/shard-{shard}/moon.aof.{seq}.incr.aof"))
}

/// Collects the stream as it is replayed.
#[derive(Default)]
pub(crate) struct Stream {
    pub(crate) start: Option<Lsn>,
    pub(crate) bytes: Vec<u8>,
    pub(crate) units: Vec<(Option<ShardId>, Lsn, usize)>,
}

impl Stream {
    fn take(&mut self, shard: Option<ShardId>, lsn: Lsn, payload: &Bytes) {
        let start = *self.start.get_or_insert(lsn);
        assert_eq!(lsn.0, start.0 + self.bytes.len() as u64, "a hole");
        self.units.push((shard, lsn, payload.len()));
        self.bytes.extend_from_slice(payload);
    }
}

impl ReplaySink for Stream {
    fn own(
        &mut self,
        shard: ShardId,
        lsn: Lsn,
        _db: u32,
        payload: Bytes,
    ) -> Result<(), ReplayError> {
        self.take(Some(shard), lsn, &payload);
        Ok(())
    }

    fn cross(&mut self, lsn: Lsn, _db: u32, payload: Bytes) -> Result<(), ReplayError> {
        self.take(None, lsn, &payload);
        Ok(())
    }
}

/// The key under which a base in these tests holds the whole stream below its cut.
pub(crate) const STREAM_KEY: &[u8] = b"stream";

/// The stream below the cut as the bases tell it: each holds all of it.
fn stream_of_bases(storage: &dyn Storage, bases: &[BaseFile]) -> Vec<u8> {
    let mut found: Option<Vec<u8>> = None;
    for BaseFile { path, cut, .. } in bases {
        let bytes = read_whole(storage, path, 1 << 30).unwrap();
        let mut stream = Vec::new();
        let mut cut_lsn = None;
        for item in RdbReader::new(&*bytes) {
            match item.unwrap_or_else(|error| panic!("{}: {error}", path.display())) {
                RdbItem::Entry(entry) => {
                    assert_eq!(entry.key, STREAM_KEY);
                    let RdbValue::List(parts) = entry.value else {
                        panic!("a base of another test");
                    };
                    stream = parts.concat();
                }
                RdbItem::Aux { key, value } if key == b"moon-cut-lsn" => cut_lsn = Some(value),
                _ => {}
            }
        }
        assert_eq!(cut_lsn, Some(cut.to_string().into_bytes()));
        assert_eq!(stream.len() as u64, cut.0, "{}", path.display());
        assert!(found.is_none_or(|found| found == stream));
        found = Some(stream);
    }
    found.unwrap_or_default()
}

/// A running log.
pub(crate) struct Open {
    pub(crate) clock: Arc<Clock>,
    pub(crate) pool: AofWriterPool,
    pub(crate) logs: Vec<ShardLog>,
    pub(crate) recovered: Stream,
    pub(crate) summary: RecoverySummary,
}

pub(crate) fn open_on(
    storage: Arc<dyn Storage>,
    options: &AofOptions,
    count: u16,
) -> Result<Open, RecoverError> {
    let wanted = Some(shards(count));
    let one = ShardCount::ONE;
    let mut recovery = Recovery::scan(storage.clone(), options, wanted, one, &NoProgress)?;
    let mut recovered = Stream::default();
    let bases = recovery.bases();
    if let Some(base) = bases.first() {
        recovered.start = Some(Lsn::ZERO);
        recovered.bytes = stream_of_bases(&*storage, &bases);
        assert_eq!(recovered.bytes.len() as u64, base.cut.0);
    }
    recovery.replay(&mut recovered, &NoProgress)?;
    let clock = Clock::new(recovery.shards(), recovery.end(), CommitOn::Written);
    let summary = recovery.summary().clone();
    let (pool, logs) = recovery.finish(&clock)?;
    Ok(Open {
        clock,
        pool,
        logs,
        recovered,
        summary,
    })
}

pub(crate) fn open(
    disk: &FaultyStorage,
    options: &AofOptions,
    count: u16,
) -> Result<Open, RecoverError> {
    open_on(Arc::new(disk.clone()), options, count)
}

impl Open {
    /// Appends `payload` on a shard and returns the frame's end.
    pub(crate) fn append(&mut self, shard: usize, payload: &[u8]) -> Lsn {
        let payload = Bytes::copy_from_slice(payload);
        self.logs[shard].append(FrameKind::Own, payload, UnixMs(1))
    }

    pub(crate) fn tick(&mut self) {
        for log in &mut self.logs {
            log.tick(UnixMs(2));
        }
    }

    pub(crate) fn stop(self) {
        let done = self
            .pool
            .shutdown(self.logs, UnixMs(3), Duration::from_secs(20));
        done.expect("a clean stop");
    }

    /// Syncs everything written, by way of the policy.
    pub(crate) fn sync(&mut self) {
        let before = self.pool.policy();
        self.pool.set_policy(FsyncPolicy::Always);
        let target = self.clock.written();
        let clock = self.clock.clone();
        wait_until("everything written is durable", || {
            clock.durable() >= target
        });
        self.pool.set_policy(before);
    }

    /// Ticks until the condition holds.
    pub(crate) fn tick_until(&mut self, what: &str, mut holds: impl FnMut(&mut Open) -> bool) {
        let until = Instant::now() + Duration::from_secs(20);
        while !holds(self) {
            assert!(Instant::now() < until, "never happened: {what}");
            self.tick();
            std::thread::yield_now();
        }
    }
}

pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < until, "never happened: {what}");
        std::thread::yield_now();
    }
}

/// `len` bytes that look like nothing else.
pub(crate) fn payload(random: &mut Random, len: usize) -> Vec<u8> {
    (0..len).map(|_| random.next() as u8 | 1).collect()
}
