//! When the server starts a snapshot or a rewrite by itself, by the rules of Redis, and when it
//! complains that one is overdue or stuck. Functions of numbers.

use crate::config::SavePoint;
use std::time::{Duration, Instant};

/// After a failed snapshot the next one by a save point waits this long.
const SAVE_RETRY: Duration = Duration::from_secs(5);
/// Failed rewrites in a row from which on the next one waits.
const FAILURES_MAX: u32 = 3;
/// Longest pause between two failing rewrites.
const REWRITE_RETRY_MAX: Duration = Duration::from_secs(60 * 60);
/// A warning that no snapshot succeeds is repeated after this long.
const OVERDUE_REPEAT: Duration = Duration::from_secs(60 * 60);
/// A snapshot or rewrite that has written no key for this long is said to be stuck.
const STUCK_AFTER: Duration = Duration::from_secs(5 * 60);

/// The save point that asks for a snapshot now. `since_save` is the time since the last good
/// snapshot, `since_failure` that since the last attempt if it failed.
pub(super) fn due_save(
    points: &[SavePoint],
    changes: u64,
    since_save: Duration,
    since_failure: Option<Duration>,
) -> Option<SavePoint> {
    if since_failure.is_some_and(|since| since < SAVE_RETRY) {
        return None;
    }
    let due = |point: &&SavePoint| {
        changes >= point.changes.max(1) && since_save > Duration::from_secs(point.seconds)
    };
    points.iter().find(due).copied()
}

/// By how many percent the log has outgrown what the last rewrite left, if that asks for another.
pub(super) fn due_rewrite(
    percentage: u32,
    min_size: u64,
    current_size: u64,
    base_size: u64,
) -> Option<u64> {
    if percentage == 0 || current_size <= min_size {
        return None;
    }
    let base = base_size.max(1);
    let growth = (u128::from(current_size) * 100 / u128::from(base)).saturating_sub(100);
    let growth = u64::try_from(growth).unwrap_or(u64::MAX);
    (growth >= u64::from(percentage)).then_some(growth)
}

/// How long after the last of `failures` failed rewrites in a row the next one may begin by
/// itself: a minute from the third failure on, then twice as long each time, up to an hour.
pub(super) fn rewrite_pause(failures: u32) -> Duration {
    let Some(beyond) = failures.checked_sub(FAILURES_MAX) else {
        return Duration::ZERO;
    };
    let minutes = 1u64 << beyond.min(6);
    Duration::from_secs(minutes * 60).min(REWRITE_RETRY_MAX)
}

/// Whether to warn that no snapshot has succeeded for far longer than the save points allow:
/// three times the longest of them. `unsaved_for` is how long there have been changes that no
/// snapshot holds, `since_warning` the time since the last such warning.
pub(super) fn is_overdue(
    points: &[SavePoint],
    unsaved_for: Duration,
    since_warning: Option<Duration>,
) -> bool {
    let Some(longest) = points.iter().map(|point| point.seconds).max() else {
        return false;
    };
    unsaved_for > Duration::from_secs(longest.saturating_mul(3))
        && since_warning.is_none_or(|since| since >= OVERDUE_REPEAT)
}

/// Notices that a snapshot makes no progress.
#[derive(Debug)]
pub(super) struct Watchdog {
    keys_done: u64,
    /// When that number was seen first, or when this was last complained about.
    since: Instant,
    /// When that number was seen first.
    moved: Instant,
}

impl Watchdog {
    /// For a snapshot that begins now.
    pub(super) fn new(now: Instant) -> Watchdog {
        Watchdog {
            keys_done: 0,
            since: now,
            moved: now,
        }
    }

    /// For how long nothing has moved, if that is to be said now: after each [`STUCK_AFTER`].
    pub(super) fn look(&mut self, keys_done: u64, now: Instant) -> Option<Duration> {
        if keys_done != self.keys_done {
            *self = Watchdog {
                keys_done,
                since: now,
                moved: now,
            };
            return None;
        }
        if now.duration_since(self.since) < STUCK_AFTER {
            return None;
        }
        self.since = now;
        Some(now.duration_since(self.moved))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_1: SavePoint = SavePoint {
        seconds: 3600,
        changes: 1,
    };
    const MINUTE_10000: SavePoint = SavePoint {
        seconds: 60,
        changes: 10_000,
    };

    #[test]
    fn a_save_point_needs_its_changes_and_its_time() {
        let points = [HOUR_1, MINUTE_10000];
        let due = |changes, seconds| due_save(&points, changes, Duration::from_secs(seconds), None);
        assert_eq!(due(9_999, 61), None);
        assert_eq!(due(10_000, 60), None);
        assert_eq!(due(10_000, 61), Some(MINUTE_10000));
        assert_eq!(due(1, 3601), Some(HOUR_1));
        assert_eq!(due(0, 100_000), None);
        assert_eq!(due_save(&[], 1 << 40, Duration::MAX, None), None);
    }

    #[test]
    fn a_failed_snapshot_is_not_repeated_at_once() {
        let since_save = Duration::from_secs(100);
        let due = |since_failure| {
            let since = Some(Duration::from_secs(since_failure));
            due_save(&[MINUTE_10000], 20_000, since_save, since).is_some()
        };
        assert!(!due(4));
        assert!(due(5));
    }

    /// Scenario 116.
    #[test]
    fn snapshots_that_do_not_succeed_for_long_are_warned_of_once_an_hour() {
        let points = [MINUTE_10000, HOUR_1];
        let overdue = |seconds, warned: Option<u64>| {
            let warned = warned.map(Duration::from_secs);
            is_overdue(&points, Duration::from_secs(seconds), warned)
        };
        assert!(!overdue(3 * 3600, None));
        assert!(overdue(3 * 3600 + 1, None));
        assert!(!overdue(100_000, Some(3599)));
        assert!(overdue(100_000, Some(3600)));
        assert!(!is_overdue(&[], Duration::MAX, None));
    }

    /// Scenario 93.
    #[test]
    fn a_snapshot_without_progress_is_reported_every_five_minutes() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut watchdog = Watchdog::new(start);
        assert_eq!(watchdog.look(0, at(299)), None);
        assert_eq!(watchdog.look(1, at(299)), None);
        assert_eq!(watchdog.look(1, at(598)), None);
        assert_eq!(watchdog.look(1, at(599)), Some(Duration::from_secs(300)));
        assert_eq!(watchdog.look(1, at(600)), None);
        assert_eq!(watchdog.look(1, at(900)), Some(Duration::from_secs(601)));
        assert_eq!(watchdog.look(2, at(901)), None);
        assert_eq!(watchdog.look(2, at(1200)), None);
    }

    /// Scenario 90.
    #[test]
    fn a_rewrite_is_due_by_growth_over_the_last_one() {
        assert_eq!(due_rewrite(0, 0, u64::MAX, 1), None);
        assert_eq!(due_rewrite(100, 64 << 20, 64 << 20, 0), None);
        assert_eq!(due_rewrite(100, 10, 199, 100), None);
        assert_eq!(due_rewrite(100, 10, 200, 100), Some(100));
        assert!(due_rewrite(100, 10, 11, 0).is_some());
        assert_eq!(due_rewrite(100, 10, 50, 100), None);
    }

    /// Scenario 68.
    #[test]
    fn failing_rewrites_pause_longer_and_longer() {
        let minutes = |failures| rewrite_pause(failures).as_secs() / 60;
        let pauses: Vec<u64> = (0..12).map(minutes).collect();
        assert_eq!(pauses, [0, 0, 0, 1, 2, 4, 8, 16, 32, 60, 60, 60]);
    }
}
