//! Opening a log, appending to it, and the model it is compared with: the stream as one string
//! of bytes.

use bytes::Bytes;
use moon_aof::faulty::Random;
use moon_aof::{
    AofOptions, AofWriterPool, FaultyStorage, FsyncPolicy, NoProgress, RecoverError, Recovery,
    RecoverySummary, ReplayError, ReplaySink, ShardLog, Storage,
};
use moon_core::{Lsn, ShardCount, ShardId, UnixMs};
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
    let mut recovery = Recovery::scan(storage, options, wanted, ShardCount::ONE, &NoProgress)?;
    let mut recovered = Stream::default();
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
