//! Loom models of issue, finish and wait: every interleaving of a few threads.

use crate::clock::{Clock, CommitOn};
use crate::lane::Lane;
use loom::sync::atomic::{AtomicU64, Ordering};
use loom::thread;
use moon_core::{Lsn, ShardCount, ShardId};
use std::sync::Arc;

fn two_lanes() -> (Arc<Clock>, Arc<Lane>, Arc<Lane>) {
    let clock = Clock::new(
        ShardCount::new(2).expect("in range"),
        Lsn(0),
        CommitOn::Written,
    );
    let first = Lane::new(clock.clone(), ShardId(0));
    let second = Lane::new(clock.clone(), ShardId(1));
    (clock, first, second)
}

fn model(preemptions: usize, body: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(body);
}

/// A shard that is descheduled anywhere between issue and publication: the mark another shard
/// computes never passes the start of its unfinished frame.
#[test]
fn loom_committed_never_jumps_over_an_unfinished_frame() {
    model(3, || {
        let (clock, a, b) = two_lanes();
        let slow = thread::spawn(move || {
            let start = a.issue(10);
            // Not finished: whatever anyone computes from here on is bounded by `start`.
            (a, start)
        });
        let start = b.issue(5);
        b.finish_written(start.advance(5));
        let seen = clock.committed();
        let (a, unfinished) = slow.join().unwrap();
        assert!(seen <= unfinished, "{seen} jumped over {unfinished}");
        assert!(clock.committed() <= unfinished);
        a.finish_written(unfinished.advance(10));
        assert_eq!(clock.committed(), clock.head());
    });
}

/// Two lanes that issue and finish, and a reader: what it reads never falls, and never passes a
/// frame that had not been finished when it read.
#[test]
fn loom_marks_are_right_for_a_third_thread() {
    model(2, || {
        let (clock, a, b) = two_lanes();
        // Starts of the frames as soon as they are known to their thread; finished + 1.
        let finished = Arc::new(AtomicU64::new(0));
        let flag = finished.clone();
        let first = thread::spawn(move || {
            let start = a.issue(10);
            flag.store(start.0 + 1, Ordering::SeqCst);
            a.finish_written(start.advance(10));
            start
        });
        let second = thread::spawn(move || {
            let start = b.issue(5);
            // Never finished.
            (b, start)
        });
        let one = clock.committed();
        let two = clock.committed();
        assert!(one <= two);
        first.join().unwrap();
        let (lane, unfinished) = second.join().unwrap();
        assert!(two <= unfinished, "{two} jumped over {unfinished}");
        assert!(finished.load(Ordering::SeqCst) > 0);
        lane.finish_written(unfinished.advance(5));
        assert_eq!(clock.committed(), Lsn(15));
    });
}

/// A waiter whose frame is finished by itself or held up by the other shard: either it sees its
/// target reached, or it is woken.
#[test]
fn loom_no_wake_up_is_lost() {
    model(3, || {
        let (clock, a, b) = two_lanes();
        let woken = Arc::new(AtomicU64::new(0));
        let flag = woken.clone();
        clock.set_waker(
            ShardId(1),
            Arc::new(move || {
                flag.fetch_add(1, Ordering::SeqCst);
            }),
        );
        let held = a.issue(10);
        let waiter_clock = clock.clone();
        let raiser = thread::spawn(move || a.finish_written(held.advance(10)));
        let end = b.issue(5).advance(5);
        b.finish_written(end);
        let seen = waiter_clock.wait_for(ShardId(1), end);
        raiser.join().unwrap();
        let woken = woken.load(Ordering::SeqCst);
        assert!(seen >= end || woken == 1, "parked forever at {end}");
        assert!(woken <= 1);
    });
}
