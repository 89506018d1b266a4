//! What cannot be written to disk, and the error that refuses writes meanwhile.
//!
//! One failing log stops the acks of all shards, because the history is one. So new writes are
//! refused everywhere as long as any log fails, with the error of the first shard that does.
//! A failed snapshot stops nothing by itself; writes are refused because the configuration asks
//! for it.

use moon_core::{ShardCount, ShardId};
use moon_repl::{LogHealth, OsError};
use std::fmt;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64};

/// The logs that fail now, shared by all shards, and whether the snapshot does. Each shard notes
/// its own log.
#[derive(Debug)]
pub struct FailingLogs {
    /// One bit per shard.
    shards: AtomicU64,
    /// The last error number of each; means nothing while its bit is not set.
    errnos: [AtomicI32; ShardCount::MAX as usize],
    /// See [`FailingLogs::note_snapshot`].
    snapshot: AtomicBool,
}

const _: () = assert!(
    ShardCount::MAX as u32 <= u64::BITS,
    "a word has a bit for every shard"
);

impl Default for FailingLogs {
    fn default() -> FailingLogs {
        FailingLogs {
            shards: AtomicU64::new(0),
            errnos: std::array::from_fn(|_| AtomicI32::new(0)),
            snapshot: AtomicBool::new(false),
        }
    }
}

impl FailingLogs {
    /// The error with which writes are refused now, if they are. Where both fail, Redis tells of
    /// the snapshot.
    #[inline]
    #[must_use]
    pub fn refusal(&self) -> Option<Misconf> {
        if self.snapshot.load(Relaxed) {
            return Some(Misconf::Snapshot);
        }
        let failing = self.shards.load(Relaxed);
        (failing != 0).then(|| {
            let first = failing.trailing_zeros() as usize;
            Misconf::Log(OsError::new(self.errnos[first].load(Relaxed)))
        })
    }

    /// Whether any log fails: then nothing may change, not even by itself.
    #[inline]
    #[must_use]
    pub fn any(&self) -> bool {
        self.shards.load(Relaxed) != 0
    }

    /// Whether writes are to be refused because the last snapshot failed.
    pub fn note_snapshot(&self, refuses: bool) {
        self.snapshot.store(refuses, Relaxed);
    }

    /// What the log of `shard` says of itself, on its own thread.
    pub(crate) fn note(&self, shard: ShardId, health: LogHealth, cause: Option<OsError>) {
        let bit = 1u64 << shard.0;
        let failing = self.shards.load(Relaxed) & bit != 0;
        if health == LogHealth::Healthy {
            if failing {
                self.shards.fetch_and(!bit, Relaxed);
            }
            return;
        }
        if let Some(cause) = cause {
            self.errnos[shard.index()].store(cause.errno(), Relaxed);
        }
        if !failing {
            self.shards.fetch_or(bit, Relaxed);
        }
    }
}

/// The refusal of a write while something cannot be written to disk. `Display` is the reply, in
/// the words of Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misconf {
    /// The log cannot take it.
    Log(OsError),
    /// The last snapshot failed, and `stop-writes-on-bgsave-error` is on.
    Snapshot,
}

impl fmt::Display for Misconf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Misconf::Log(cause) => write!(f, "MISCONF Errors writing to the AOF file: {cause}"),
            Misconf::Snapshot => f.write_str(
                "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to \
                 persist to disk. Commands that may modify the data set are disabled, because \
                 this instance is configured to report errors during writes if RDB snapshotting \
                 fails (stop-writes-on-bgsave-error option). Please check the Redis logs for \
                 details about the RDB error.",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failing_shard_gives_the_words() {
        let logs = FailingLogs::default();
        let text = || logs.refusal().map(|misconf| misconf.to_string());
        assert_eq!(text(), None);
        let fails = |shard, errno| {
            let cause = Some(OsError::new(errno));
            logs.note(ShardId(shard), LogHealth::AppendFailing, cause);
        };
        fails(63, 28);
        let full = "MISCONF Errors writing to the AOF file: No space left on device";
        assert_eq!(text().unwrap(), full);
        fails(2, 5);
        let broken = "MISCONF Errors writing to the AOF file: Input/output error";
        assert_eq!(text().unwrap(), broken);
        logs.note(ShardId(2), LogHealth::Healthy, None);
        assert_eq!(text().unwrap(), full);
        logs.note(ShardId(63), LogHealth::Healthy, None);
        assert_eq!(text(), None);
    }

    #[test]
    fn a_failed_snapshot_refuses_writes_and_leaves_the_log_alone() {
        let logs = FailingLogs::default();
        logs.note_snapshot(true);
        assert_eq!(logs.refusal(), Some(Misconf::Snapshot));
        assert!(!logs.any());
        let cause = OsError::new(28);
        logs.note(ShardId(1), LogHealth::AppendFailing, Some(cause));
        assert_eq!(logs.refusal(), Some(Misconf::Snapshot));
        assert!(logs.any());
        logs.note_snapshot(false);
        assert_eq!(logs.refusal(), Some(Misconf::Log(cause)));
    }
}
