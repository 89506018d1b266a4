//! What the log did and how it is: numbers that any thread may read at any time.

use moon_core::{Lsn, ShardCount, ShardId};
use moon_repl::{LogHealth, OsError};
use std::sync::atomic::{AtomicI32, AtomicU8, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Buckets of a [`Histogram`].
pub const BUCKETS: usize = 32;

/// Adds to a counter that only one thread at a time changes, without the price of a locked
/// operation.
pub(crate) fn bump(counter: &AtomicU64, by: u64) {
    let now = counter.load(Ordering::Relaxed);
    counter.store(now.wrapping_add(by), Ordering::Relaxed);
}

/// Durations in buckets: bucket `i` counts those below 2^i microseconds that are not in an
/// earlier one; the last bucket takes all others.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    sum_ns: AtomicU64,
    /// The longest since it was last taken.
    longest_ns: AtomicU64,
}

impl Histogram {
    /// Counts one duration. Only one thread at a time records.
    pub fn record(&self, taken: Duration) {
        let micros = u64::try_from(taken.as_micros()).unwrap_or(u64::MAX);
        let bucket = (u64::BITS - micros.leading_zeros()) as usize;
        bump(&self.buckets[bucket.min(BUCKETS - 1)], 1);
        let nanos = u64::try_from(taken.as_nanos()).unwrap_or(u64::MAX);
        bump(&self.sum_ns, nanos);
        if nanos > self.longest_ns.load(Ordering::Relaxed) {
            self.longest_ns.fetch_max(nanos, Ordering::Relaxed);
        }
    }

    /// The longest duration since the last call; zero if there was none. For one caller.
    pub fn take_longest(&self) -> Duration {
        Duration::from_nanos(self.longest_ns.swap(0, Ordering::Relaxed))
    }

    /// The counts, bucket by bucket.
    #[must_use]
    pub fn counts(&self) -> [u64; BUCKETS] {
        std::array::from_fn(|i| self.buckets[i].load(Ordering::Relaxed))
    }

    /// The sum of all durations in nanoseconds.
    #[must_use]
    pub fn sum_ns(&self) -> u64 {
        self.sum_ns.load(Ordering::Relaxed)
    }
}

/// One shard's part of [`AofStatus`].
#[derive(Debug, Default)]
pub struct ShardStatus {
    /// Frame bytes written to the file since the start, headers and padding included.
    pub appended_bytes: AtomicU64,
    /// Frames written since the start.
    pub appended_frames: AtomicU64,
    /// Writes that failed; each of them was or will be repeated.
    pub append_failures: AtomicU64,
    /// Frame bytes appended and not yet safe as the policy asks.
    pub in_flight_bytes: AtomicU64,
    /// Finished syncs.
    pub fsync_count: AtomicU64,
    /// Failed syncs; each of them ended the use of a file.
    pub fsync_failures: AtomicU64,
    /// Times that, under `everysec`, more was written while a sync had been running for long.
    pub delayed_fsyncs: AtomicU64,
    /// Unix milliseconds of the last finished sync; 0 before the first. It does not advance when
    /// a sync fails.
    pub last_fsync_unix_ms: AtomicU64,
    /// How long writes took.
    pub append_latency: Histogram,
    /// How long syncs took.
    pub fsync_latency: Histogram,
    /// 0 healthy, 1 append failing, 2 sync failing: see [`ShardStatus::health`].
    health: AtomicU8,
    /// The last error; means nothing while all is well.
    errno: AtomicI32,
    /// When the sync that runs now began.
    sync_began: Mutex<Option<Instant>>,
}

/// A shard's log that does not work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogFailure {
    /// Whose log.
    pub shard: ShardId,
    /// What does not work; never [`LogHealth::Healthy`].
    pub health: LogHealth,
    /// The last error.
    pub cause: OsError,
}

impl ShardStatus {
    /// Whether this shard's part of the log works.
    #[must_use]
    pub fn health(&self) -> LogHealth {
        match self.health.load(Ordering::SeqCst) {
            0 => LogHealth::Healthy,
            1 => LogHealth::AppendFailing,
            _ => LogHealth::SyncFailing,
        }
    }

    /// The last error of a log that does not work.
    #[must_use]
    pub fn cause(&self) -> Option<OsError> {
        let failing = self.health() != LogHealth::Healthy;
        failing.then(|| OsError::new(self.errno.load(Ordering::SeqCst)))
    }

    /// How long the sync that runs now has been running; `None` while there is none.
    #[must_use]
    pub fn syncing_for(&self) -> Option<Duration> {
        self.sync_began().map(|began| began.elapsed())
    }

    fn sync_began(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        // One value, whole in any case.
        self.sync_began
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Before [`set_health`](ShardStatus::set_health), so that there is a cause once it fails.
    pub(crate) fn set_cause(&self, cause: OsError) {
        self.errno.store(cause.errno(), Ordering::SeqCst);
    }

    /// Runs `sync`, and shows meanwhile that it runs.
    pub(crate) fn during_sync<R>(&self, sync: impl FnOnce() -> R) -> (R, Duration) {
        let began = Instant::now();
        *self.sync_began() = Some(began);
        let done = sync();
        *self.sync_began() = None;
        (done, began.elapsed())
    }

    /// Returns what it was before.
    pub(crate) fn set_health(&self, health: LogHealth) -> LogHealth {
        let before = self.health();
        let byte = match health {
            LogHealth::Healthy => 0,
            LogHealth::AppendFailing => 1,
            LogHealth::SyncFailing => 2,
        };
        self.health.store(byte, Ordering::SeqCst);
        before
    }

    pub(crate) fn sync_finished(&self, taken: Duration) {
        self.fsync_count.fetch_add(1, Ordering::Relaxed);
        self.fsync_latency.record(taken);
        // For people only: no decision is made on the wall clock.
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let millis = now.map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(u64::MAX));
        self.last_fsync_unix_ms.store(millis, Ordering::Relaxed);
    }
}

/// What recovery found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoverySummary {
    /// Segments read.
    pub segments: usize,
    /// Frames up to the recovered end.
    pub frames: u64,
    /// Payload bytes up to the recovered end.
    pub bytes: u64,
    /// The recovered end: where the first new frame starts.
    pub end: Lsn,
    /// File bytes beyond the recovered end, now in sidecar files.
    pub truncated_bytes: u64,
    /// The range of the stream that was cut off, as far as good frames tell: start (included)
    /// and end (excluded).
    pub truncated_range: Option<(Lsn, Lsn)>,
    /// Payload bytes up to the recovered end that no durable mark covers. They were read, which
    /// does not prove that the disk has them, so they are copied to new segments.
    pub unproven_bytes: u64,
    /// Whether the log was stopped cleanly.
    pub clean_stop: bool,
}

/// The state of the whole log.
#[derive(Debug)]
pub struct AofStatus {
    shards: Box<[ShardStatus]>,
    recovery: RecoverySummary,
    size: LogSize,
}

/// Sizes of the log in bytes. Changed by starts and rewrites; what is appended is counted by the
/// shards.
#[derive(Debug, Default)]
struct LogSize {
    /// Of the files in force when the size was last taken.
    measured: AtomicU64,
    /// The shards' counters of appended bytes that are in `measured`.
    appended: AtomicU64,
    /// After the last rewrite, or at the start.
    base: AtomicU64,
}

impl AofStatus {
    pub(crate) fn new(shards: ShardCount, recovery: RecoverySummary) -> AofStatus {
        AofStatus {
            shards: shards.ids().map(|_| ShardStatus::default()).collect(),
            recovery,
            size: LogSize::default(),
        }
    }

    /// Bytes of the log in force now: bases, and what is used of the segments
    /// (`aof_current_size`).
    #[must_use]
    pub fn current_size(&self) -> u64 {
        let measured = self.size.measured.load(Ordering::Relaxed);
        let counted = self.size.appended.load(Ordering::Relaxed);
        let appended = self.total(|shard| &shard.appended_bytes);
        measured + appended.saturating_sub(counted)
    }

    /// What [`current_size`](AofStatus::current_size) was after the last rewrite, or at the start
    /// if there was none (`aof_base_size`).
    #[must_use]
    pub fn base_size(&self) -> u64 {
        self.size.base.load(Ordering::Relaxed)
    }

    /// The files in force have `measured` bytes, in which `appended` of the bytes that the shards
    /// have counted are included.
    pub(crate) fn set_size(&self, measured: u64, appended: u64) {
        self.size.appended.store(appended, Ordering::Relaxed);
        self.size.measured.store(measured, Ordering::Relaxed);
        self.size.base.store(self.current_size(), Ordering::Relaxed);
    }

    /// Every shard's numbers, in shard order.
    #[must_use]
    pub fn shards(&self) -> &[ShardStatus] {
        &self.shards
    }

    /// What recovery found at this start.
    #[must_use]
    pub fn recovery(&self) -> &RecoverySummary {
        &self.recovery
    }

    /// The worst health of all shards, and the first shard that has it. A healthy shard never
    /// hides a failing one.
    #[must_use]
    pub fn health(&self) -> (LogHealth, Option<ShardId>) {
        let first = |wanted: LogHealth| {
            let index = self.shards.iter().position(|s| s.health() == wanted)?;
            Some(ShardId(u16::try_from(index).unwrap_or(u16::MAX)))
        };
        for failing in [LogHealth::SyncFailing, LogHealth::AppendFailing] {
            if let Some(shard) = first(failing) {
                return (failing, Some(shard));
            }
        }
        (LogHealth::Healthy, None)
    }

    /// The failure that [`health`](AofStatus::health) is about.
    #[must_use]
    pub fn failure(&self) -> Option<LogFailure> {
        let (health, shard) = self.health();
        let shard = shard?;
        let cause = self.shards[shard.index()].cause()?;
        Some(LogFailure {
            shard,
            health,
            cause,
        })
    }

    /// Sum of one counter over all shards.
    pub fn total(&self, counter: impl Fn(&ShardStatus) -> &AtomicU64) -> u64 {
        self.shards
            .iter()
            .map(|shard| counter(shard).load(Ordering::Relaxed))
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scenario 61.
    #[test]
    fn the_worst_shard_decides_and_is_named() {
        let shards = ShardCount::new(8).expect("in range");
        let status = AofStatus::new(shards, RecoverySummary::default());
        assert_eq!(status.health(), (LogHealth::Healthy, None));
        status.shards()[5].set_health(LogHealth::AppendFailing);
        assert_eq!(
            status.health(),
            (LogHealth::AppendFailing, Some(ShardId(5)))
        );
        status.shards()[6].set_health(LogHealth::SyncFailing);
        status.shards()[7].set_health(LogHealth::Healthy);
        assert_eq!(status.health(), (LogHealth::SyncFailing, Some(ShardId(6))));
    }

    #[test]
    fn durations_fall_into_powers_of_two() {
        let histogram = Histogram::default();
        histogram.record(Duration::from_nanos(10));
        histogram.record(Duration::from_micros(1));
        histogram.record(Duration::from_micros(100));
        histogram.record(Duration::from_secs(100_000));
        let counts = histogram.counts();
        assert_eq!((counts[0], counts[1], counts[7]), (1, 1, 1));
        assert_eq!(counts[BUCKETS - 1], 1);
    }
}
