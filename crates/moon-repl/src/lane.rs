//! One shard's way into the history: issue, publish and enqueue as one operation.

use crate::clock::{Clock, IDLE};
use crate::sync::{Mutex, Word, lock};
use moon_core::{Lsn, ShardId};
use std::collections::VecDeque;
use std::sync::Arc;

/// Above this many frames that are not durable, neighbours are merged: the durable mark then
/// moves in larger steps, and a log that is never synced (`appendfsync no`) stays bounded.
const UNDURABLE_MAX: usize = 1 << 16;

/// Start (included) and end (excluded) of an unfinished frame.
type Range = (u64, u64);

/// The only type that issues LSNs: one per shard, shared by the shard's thread (which issues
/// and finishes writes) and its sync thread (which finishes syncs).
///
/// # Invariants
/// * Both queues are in LSN order and hold exactly the frames that are not yet written, or not
///   yet durable.
/// * Under the lock, the cell of a queue is the start of its first frame, or idle.
pub struct Lane {
    clock: Arc<Clock>,
    shard: ShardId,
    queues: Mutex<Queues>,
}

#[derive(Default)]
struct Queues {
    unwritten: VecDeque<Range>,
    undurable: VecDeque<Range>,
}

impl Lane {
    /// The lane of `shard`. There must be only one per shard of a clock.
    #[must_use]
    pub fn new(clock: Arc<Clock>, shard: ShardId) -> Arc<Lane> {
        assert!(
            shard.index() < clock.cells.len(),
            "{shard} is not on this clock"
        );
        Arc::new(Lane {
            clock,
            shard,
            queues: Mutex::new(Queues::default()),
        })
    }

    /// The clock this lane issues from.
    #[must_use]
    pub fn clock(&self) -> &Arc<Clock> {
        &self.clock
    }

    /// The shard this lane belongs to.
    #[must_use]
    pub fn shard(&self) -> ShardId {
        self.shard
    }

    /// Takes the next `bytes` bytes of the stream for one frame and returns where they start.
    /// When this returns, the frame is visible to the clock as unfinished; no mark passes its
    /// start before it is finished. Zero bytes take nothing and hold nobody up.
    pub fn issue(&self, bytes: u64) -> Lsn {
        if bytes == 0 {
            return self.clock.head();
        }
        let cell = &self.clock.cells[self.shard.index()];
        let mut queues = lock(&self.queues);
        // The floors. They must be stored before the head moves: see `clock`.
        let floor = self.clock.head.load();
        let (was_written, was_durable) = (queues.unwritten.is_empty(), queues.undurable.is_empty());
        if was_written {
            cell.written.store(floor);
        }
        if was_durable {
            cell.durable.store(floor);
        }
        let start = self.clock.head.fetch_add(bytes);
        let range = (start, Lsn(start).advance(bytes).0);
        queues.unwritten.push_back(range);
        queues.undurable.push_back(range);
        if queues.undurable.len() > UNDURABLE_MAX {
            merge_neighbours(&mut queues.undurable);
        }
        // Other lanes may have issued between the floor and the start.
        if was_written && start != floor {
            cell.written.store(start);
        }
        if was_durable && start != floor {
            cell.durable.store(start);
        }
        Lsn(start)
    }

    /// Issues a frame that is written and durable at once, because nothing is kept on disk.
    /// Returns where it starts.
    pub fn issue_finished(&self, bytes: u64) -> Lsn {
        let start = {
            let queues = lock(&self.queues);
            debug_assert!(
                queues.undurable.is_empty(),
                "a lane is used with a log or without, not both"
            );
            self.clock.head.fetch_add(bytes)
        };
        self.clock.wake_passed();
        Lsn(start)
    }

    /// All frames of this lane that end at or before `end` are in the file.
    pub fn finish_written(&self, end: Lsn) {
        {
            let mut queues = lock(&self.queues);
            if !pop_finished(&mut queues.unwritten, end) {
                return;
            }
            let cell = &self.clock.cells[self.shard.index()];
            publish(&cell.written, &queues.unwritten);
        }
        self.clock.wake_passed();
    }

    /// All frames of this lane that end at or before `end` are covered by a finished sync. They
    /// must have been finished as written before.
    pub fn finish_durable(&self, end: Lsn) {
        {
            let mut queues = lock(&self.queues);
            debug_assert!(
                queues.unwritten.front().is_none_or(|first| first.1 > end.0),
                "a frame was synced before it was written"
            );
            if !pop_finished(&mut queues.undurable, end) {
                return;
            }
            let cell = &self.clock.cells[self.shard.index()];
            publish(&cell.durable, &queues.undurable);
        }
        self.clock.wake_passed();
    }
}

/// Removes the frames that end at or before `end`; whether there were any.
fn pop_finished(queue: &mut VecDeque<Range>, end: Lsn) -> bool {
    let before = queue.len();
    while queue.front().is_some_and(|first| first.1 <= end.0) {
        queue.pop_front();
    }
    queue.len() != before
}

/// Shows the start of the oldest unfinished frame to the clock.
fn publish(cell: &Word, queue: &VecDeque<Range>) {
    cell.store(queue.front().map_or(IDLE, |first| first.0));
}

/// Halves the queue: each pair becomes one range that is finished when its second half is.
fn merge_neighbours(queue: &mut VecDeque<Range>) {
    let mut pairs = std::mem::take(queue).into_iter();
    while let Some(first) = pairs.next() {
        let end = pairs.next().map_or(first.1, |second| second.1);
        queue.push_back((first.0, end));
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::clock::CommitOn;
    use moon_core::ShardCount;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn two_lanes(on: CommitOn) -> (Arc<Clock>, Arc<Lane>, Arc<Lane>) {
        let clock = Clock::new(ShardCount::new(2).expect("in range"), Lsn(1000), on);
        let first = Lane::new(clock.clone(), ShardId(0));
        let second = Lane::new(clock.clone(), ShardId(1));
        (clock, first, second)
    }

    #[test]
    fn lsn_is_dense_over_all_lanes() {
        let (clock, a, b) = two_lanes(CommitOn::Written);
        assert_eq!(a.issue(10), Lsn(1000));
        assert_eq!(b.issue(5), Lsn(1010));
        assert_eq!(a.issue(1), Lsn(1015));
        assert_eq!(clock.head(), Lsn(1016));
    }

    #[test]
    fn committed_waits_for_the_slowest_earlier_frame() {
        let (clock, a, b) = two_lanes(CommitOn::Written);
        a.issue(10);
        b.issue(10);
        a.issue(10);
        b.finish_written(Lsn(1020));
        assert_eq!(clock.committed(), Lsn(1000));
        assert_eq!(clock.holding_up(), Some(ShardId(0)));
        a.finish_written(Lsn(1010));
        assert_eq!(clock.committed(), Lsn(1020));
        a.finish_written(Lsn(1030));
        assert_eq!(clock.committed(), Lsn(1030));
        assert_eq!(clock.holding_up(), None);
        assert_eq!(clock.durable(), Lsn(1000));
    }

    #[test]
    fn under_always_committed_is_the_durable_mark() {
        let (clock, a, _) = two_lanes(CommitOn::Durable);
        let end = a.issue(10).advance(10);
        a.finish_written(end);
        assert_eq!(clock.committed(), Lsn(1000));
        assert_eq!(clock.written(), end);
        a.finish_durable(end);
        assert_eq!(clock.committed(), end);
    }

    #[test]
    fn an_idle_shard_holds_nobody_up_and_an_empty_frame_neither() {
        let (clock, a, b) = two_lanes(CommitOn::Durable);
        assert_eq!(b.issue(0), Lsn(1000));
        let end = a.issue(10).advance(10);
        a.finish_written(end);
        assert_eq!(b.issue(0), end);
        a.finish_durable(end);
        assert_eq!(clock.committed(), end);
    }

    #[test]
    fn committed_never_falls_when_the_policy_gets_stricter() {
        let (clock, a, _) = two_lanes(CommitOn::Written);
        let end = a.issue(10).advance(10);
        a.finish_written(end);
        assert_eq!(clock.committed(), end);
        clock.set_commit_on(CommitOn::Durable);
        assert_eq!(clock.committed(), end);
        let next = a.issue(10).advance(10);
        a.finish_written(next);
        assert_eq!(clock.committed(), end);
    }

    #[test]
    fn a_passed_target_wakes_once() {
        let (clock, a, b) = two_lanes(CommitOn::Written);
        let woken = Arc::new(AtomicUsize::new(0));
        let count = woken.clone();
        clock.set_waker(
            ShardId(1),
            Arc::new(move || {
                count.fetch_add(1, Ordering::SeqCst);
            }),
        );
        let first = a.issue(10).advance(10);
        let second = b.issue(10).advance(10);
        b.finish_written(second);
        assert!(clock.wait_for(ShardId(1), second) < second);
        assert_eq!(woken.load(Ordering::SeqCst), 0);
        a.finish_written(first);
        assert_eq!(woken.load(Ordering::SeqCst), 1);
        a.issue(10);
        a.finish_written(clock.head());
        assert_eq!(woken.load(Ordering::SeqCst), 1);
        assert_eq!(clock.wait_for(ShardId(1), second), clock.head());
    }

    #[test]
    fn a_lane_that_is_never_synced_stays_bounded_and_honest() {
        let (clock, a, _) = two_lanes(CommitOn::Written);
        for _ in 0..3 * UNDURABLE_MAX {
            let end = a.issue(3).advance(3);
            a.finish_written(end);
        }
        assert!(lock(&a.queues).undurable.len() <= UNDURABLE_MAX);
        assert_eq!(clock.durable(), Lsn(1000));
        a.finish_durable(Lsn(1000 + 3 * 1000 + 1));
        assert!(clock.durable() <= Lsn(1000 + 3 * 1000 + 1));
        a.finish_durable(clock.head());
        assert_eq!(clock.durable(), clock.head());
    }

    /// Real threads against the obvious model: a mark is never beyond an unfinished frame.
    #[test]
    fn marks_never_jump_under_real_threads() {
        let (clock, a, b) = two_lanes(CommitOn::Written);
        let shard = |lane: Arc<Lane>| {
            std::thread::spawn(move || {
                for i in 0..20_000u64 {
                    let bytes = 1 + i % 7;
                    let start = lane.issue(bytes);
                    assert!(lane.clock().committed() <= start, "jumped over {start}");
                    lane.finish_written(start.advance(bytes));
                }
            })
        };
        let (first, second) = (shard(a), shard(b));
        let mut last = Lsn::ZERO;
        while !(first.is_finished() && second.is_finished()) {
            let now = clock.committed();
            assert!(now >= last, "committed fell from {last} to {now}");
            last = now;
        }
        first.join().unwrap();
        second.join().unwrap();
        assert_eq!(clock.committed(), clock.head());
    }
}
