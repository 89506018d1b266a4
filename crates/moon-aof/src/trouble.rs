//! What goes wrong in one shard's log, told to people: a line when it begins, one now and then
//! while it lasts, and one when it is over. A disk that stays full for a day must not fill the
//! server's log.

use moon_core::ShardId;
use moon_repl::{LogHealth, OsError};
use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long the same failure is not told again.
const REPEAT_AFTER: Duration = Duration::from_secs(30);

/// Kinds of [`Failure`].
const KINDS: usize = 7;

/// What can go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// A frame could not be written.
    Append,
    /// A partly written frame could not be cut off.
    Cut,
    /// A sync failed.
    Sync,
    /// The file has lost its name: somebody removed or moved it.
    Gone,
    /// Nobody has the frames that a failed sync may have lost.
    TailLost,
    /// No replacement for a latched file could be made.
    Replace,
    /// A sync takes very long.
    SlowSync,
}

impl Failure {
    /// The health of a log to which it happens; `None` if the log works all the same.
    pub(crate) fn health(self) -> Option<LogHealth> {
        match self {
            Failure::Append => Some(LogHealth::AppendFailing),
            Failure::SlowSync => None,
            _ => Some(LogHealth::SyncFailing),
        }
    }

    fn text(self) -> &'static str {
        match self {
            Failure::Append => {
                "cannot append to the append-only file; replies wait and new writes are refused"
            }
            Failure::Cut => "cannot cut a partly written frame off; the file is not used any more",
            Failure::Sync => {
                "fsync of the append-only file failed; writes stop until its unsynced tail is \
                 safe in a replacement segment"
            }
            Failure::Gone => {
                "the append-only file was removed or moved while it is in use; writes stop until \
                 it is back in its place"
            }
            Failure::TailLost => {
                "the unsynced tail is not in memory; nothing more counts as durable until the log is \
                 rewritten"
            }
            Failure::Replace => "cannot replace the failed segment; it is tried again",
            Failure::SlowSync => {
                "Asynchronous AOF fsync is taking too long (disk is busy?). Writes go on without \
                 waiting for it; more than the last second is at risk"
            }
        }
    }
}

/// What was told of one shard's log.
#[derive(Debug, Default)]
pub(crate) struct Trouble(Mutex<Told>);

#[derive(Debug, Default)]
struct Told {
    /// When it began; `None` while all is well.
    since: Option<Instant>,
    /// Per kind: when it was last told, and the error.
    last: [Option<(Instant, Option<OsError>)>; KINDS],
    /// How often something went wrong since it began.
    failures: u64,
}

impl Told {
    /// Notes a failure; whether it is to be told.
    fn note(&mut self, failure: Failure, error: Option<OsError>, now: Instant) -> bool {
        if failure.health().is_some() {
            self.since.get_or_insert(now);
            self.failures += 1;
        }
        let last = &mut self.last[failure as usize];
        let is_known = last.is_some_and(|(at, before)| {
            before == error && now.saturating_duration_since(at) < REPEAT_AFTER
        });
        if !is_known {
            *last = Some((now, error));
        }
        !is_known
    }
}

impl Trouble {
    /// Something went wrong.
    pub(crate) fn tell(&self, shard: ShardId, failure: Failure, error: Option<&io::Error>) {
        let cause = error.map(OsError::from);
        if !self.told().note(failure, cause, Instant::now()) {
            return;
        }
        let (shard, text) = (shard.0, failure.text());
        match error {
            Some(error) => tracing::error!(shard, error = %error, "{text}"),
            None if failure == Failure::SlowSync => tracing::warn!(shard, "{text}"),
            None => tracing::error!(shard, "{text}"),
        }
    }

    /// The log works again.
    pub(crate) fn over(&self, shard: ShardId) {
        let told = std::mem::take(&mut *self.told());
        let lasted = told.since.map_or(Duration::ZERO, |since| since.elapsed());
        tracing::warn!(
            shard = shard.0,
            failures = told.failures,
            "the append-only file works again, after {:.1} seconds",
            lasted.as_secs_f64()
        );
    }

    fn told(&self) -> std::sync::MutexGuard<'_, Told> {
        // What was told is only for people.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_failure_is_told_once_in_half_a_minute() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let (full, broken) = (Some(OsError::new(28)), Some(OsError::new(5)));
        let mut told = Told::default();
        assert!(told.note(Failure::Append, full, start));
        assert!(!told.note(Failure::Append, full, after(1)));
        assert!(!told.note(Failure::Append, full, after(29)));
        assert!(told.note(Failure::Append, full, after(30)));
        // Another cause, and another failure, are news.
        assert!(told.note(Failure::Append, broken, after(31)));
        assert!(told.note(Failure::Sync, broken, after(31)));
        assert!(!told.note(Failure::Sync, broken, after(32)));
        assert_eq!((told.failures, told.since), (7, Some(start)));
    }

    #[test]
    fn a_slow_sync_is_told_and_is_no_failure() {
        let mut told = Told::default();
        assert!(told.note(Failure::SlowSync, None, Instant::now()));
        assert_eq!((told.failures, told.since), (0, None));
    }
}
