//! Recovery's replay: frames of one shard go straight to that shard's thread and run in
//! parallel; a frame over several shards waits for all, runs under a borrow, and they go on.

use bytes::Bytes;
use moon_commands::replay::{ReplayError, replay};
use moon_commands::{Limits, ShardSet};
use moon_core::{Lsn, ShardCount, ShardId};
use moon_store::{DbIndex, ShardData};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

/// Frames that may wait for one shard's thread: bounds memory, and lets reading run ahead.
const QUEUE_FRAMES_MAX: usize = 256;

/// A frame that could not be applied.
#[derive(Debug, thiserror::Error)]
#[error("frame at LSN {lsn} cannot be replayed")]
pub struct ReplayFailed {
    /// Where the frame starts.
    pub lsn: Lsn,
    /// Why.
    pub source: ReplayError,
}

enum Work {
    Frame(Lsn, DbIndex, Bytes),
    Lend(SyncSender<Box<ShardData>>, Receiver<Box<ShardData>>),
}

struct Worker {
    queue: SyncSender<Work>,
    thread: JoinHandle<Result<Option<Box<ShardData>>, ReplayFailed>>,
}

/// Replays a history into the shards, one thread per shard.
pub struct ReplayPool {
    count: ShardCount,
    limits: Arc<Limits>,
    workers: Vec<Worker>,
}

impl ReplayPool {
    /// Starts a thread per shard over `data`, which is in the order of the shards.
    ///
    /// # Errors
    /// When the operating system gives no thread.
    pub fn start(
        count: ShardCount,
        data: Vec<Box<ShardData>>,
        limits: &Arc<Limits>,
    ) -> std::io::Result<ReplayPool> {
        let mut workers = Vec::new();
        for data in data {
            let (queue, work) = sync_channel(QUEUE_FRAMES_MAX);
            let limits = Arc::clone(limits);
            let thread = std::thread::Builder::new()
                .name(format!("replay-{}", data.id.0))
                .spawn(move || run(count, data, &limits, &work))?;
            workers.push(Worker { queue, thread });
        }
        Ok(ReplayPool {
            count,
            limits: Arc::clone(limits),
            workers,
        })
    }

    /// A frame of one shard. An earlier failure of that shard's thread is reported by
    /// [`ReplayPool::finish`]; returns `false` to say that there was one.
    pub fn own(&mut self, shard: ShardId, lsn: Lsn, db: DbIndex, payload: Bytes) -> bool {
        self.workers[shard.index()]
            .queue
            .send(Work::Frame(lsn, db, payload))
            .is_ok()
    }

    /// A frame over several shards: runs after everything before it, before everything after it.
    ///
    /// # Errors
    /// [`ReplayFailed`] when it cannot be applied. `Ok(false)` as for [`ReplayPool::own`].
    pub fn cross(&mut self, lsn: Lsn, db: DbIndex, payload: &[u8]) -> Result<bool, ReplayFailed> {
        let mut returns = Vec::new();
        let mut arrivals = Vec::new();
        for worker in &self.workers {
            let (lend, arrival) = sync_channel(1);
            let (give_back, home) = sync_channel(1);
            if worker.queue.send(Work::Lend(lend, home)).is_err() {
                return Ok(false);
            }
            arrivals.push(arrival);
            returns.push(give_back);
        }
        let mut boxes = Vec::new();
        for arrival in arrivals {
            let Ok(data) = arrival.recv() else {
                return Ok(false);
            };
            boxes.push(Some(data));
        }
        let set = ShardSet::Many {
            count: self.count,
            shards: &mut boxes,
        };
        let result = replay(set, self.count, payload, db, &self.limits);
        for (give_back, data) in returns.iter().zip(boxes) {
            // A worker that is gone has failed, which `finish` reports.
            drop(give_back.send(data.expect("replay leaves every box in its place")));
        }
        result
            .map(|_| true)
            .map_err(|source| ReplayFailed { lsn, source })
    }

    /// Waits for all threads and returns the data in the order of the shards.
    ///
    /// # Errors
    /// The first frame that could not be applied.
    ///
    /// # Panics
    /// Passes on a panic of a replay thread.
    pub fn finish(self) -> Result<Vec<Box<ShardData>>, ReplayFailed> {
        let mut all = Vec::new();
        let mut failures: Vec<ReplayFailed> = Vec::new();
        for worker in self.workers {
            drop(worker.queue);
            match worker.thread.join().expect("a panic aborts the process") {
                Ok(data) => all.extend(data),
                Err(error) => failures.push(error),
            }
        }
        // The shards ran side by side, so a later frame may have failed first.
        match failures.into_iter().min_by_key(|failure| failure.lsn) {
            Some(failure) => Err(failure),
            None => Ok(all),
        }
    }
}

fn run(
    count: ShardCount,
    mut data: Box<ShardData>,
    limits: &Limits,
    work: &Receiver<Work>,
) -> Result<Option<Box<ShardData>>, ReplayFailed> {
    while let Ok(work) = work.recv() {
        match work {
            Work::Frame(lsn, db, payload) => {
                replay(ShardSet::One(&mut data), count, &payload, db, limits)
                    .map_err(|source| ReplayFailed { lsn, source })?;
            }
            Work::Lend(lend, home) => {
                // Whoever borrows gives up only when another thread has failed.
                let Ok(()) = lend.send(data) else {
                    return Ok(None);
                };
                let Ok(back) = home.recv() else {
                    return Ok(None);
                };
                data = back;
            }
        }
    }
    Ok(Some(data))
}
