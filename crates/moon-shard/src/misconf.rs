//! Which shards' logs cannot take writes, and the error that refuses writes meanwhile.
//!
//! One failing log stops the acks of all shards, because the history is one. So new writes are
//! refused everywhere as long as any log fails, with the error of the first shard that does.

use moon_core::{ShardCount, ShardId};
use moon_repl::{LogHealth, OsError};
use std::fmt;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicI32, AtomicU64};

/// The logs that fail now, shared by all shards. Each shard notes its own.
#[derive(Debug)]
pub struct FailingLogs {
    /// One bit per shard.
    shards: AtomicU64,
    /// The last error number of each; means nothing while its bit is not set.
    errnos: [AtomicI32; ShardCount::MAX as usize],
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
        }
    }
}

impl FailingLogs {
    /// The error with which writes are refused now, if any log fails.
    #[inline]
    #[must_use]
    pub fn refusal(&self) -> Option<Misconf> {
        let failing = self.shards.load(Relaxed);
        (failing != 0).then(|| {
            let first = failing.trailing_zeros() as usize;
            Misconf(OsError::new(self.errnos[first].load(Relaxed)))
        })
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

/// The refusal of a write that the log cannot take. `Display` is the reply, in the words of Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Misconf(pub OsError);

impl fmt::Display for Misconf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MISCONF Errors writing to the AOF file: {}", self.0)
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
}
