//! A log in memory whose frames become safe when the test says so.

use bytes::Bytes;
use moon_core::{Lsn, ShardId, UnixMs};
use moon_repl::{CommitLog, FrameKind, Lane, LogHealth, OsError};
use std::sync::{Arc, Mutex};

const ENOSPC: i32 = 28;

/// One frame of the history.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) shard: ShardId,
    pub(crate) kind: FrameKind,
    pub(crate) lsn: Lsn,
    pub(crate) payload: Bytes,
}

impl Frame {
    pub(crate) fn end(&self) -> Lsn {
        self.lsn.advance(self.payload.len() as u64)
    }
}

/// Every frame of every shard, in the order of issue per shard.
pub(crate) type Frames = Arc<Mutex<Vec<Frame>>>;

#[derive(Default)]
struct State {
    /// Frames stay unfinished until [`Disk::release`].
    slow: bool,
    failing: bool,
    unfinished: Vec<(Lsn, u64)>,
}

/// What the test holds of one shard's log.
pub(crate) struct Disk {
    lane: Arc<Lane>,
    state: Mutex<State>,
}

impl Disk {
    pub(crate) fn new(lane: Arc<Lane>) -> Arc<Disk> {
        Arc::new(Disk {
            lane,
            state: Mutex::default(),
        })
    }

    /// Frames from now on are issued and stay unfinished.
    pub(crate) fn hold(&self) {
        self.state.lock().unwrap().slow = true;
    }

    /// Everything held is safe, and what follows is safe at once.
    pub(crate) fn release(&self) {
        let mut state = self.state.lock().unwrap();
        state.slow = false;
        state.failing = false;
        for (end, _) in state.unfinished.drain(..) {
            self.finish(end);
        }
    }

    /// The oldest held frame is safe.
    pub(crate) fn release_one(&self) {
        let mut state = self.state.lock().unwrap();
        let (end, _) = state.unfinished.remove(0);
        self.finish(end);
    }

    /// Appends fail from now on: frames are held and the log says so.
    pub(crate) fn fail(&self) {
        let mut state = self.state.lock().unwrap();
        state.slow = true;
        state.failing = true;
    }

    /// How many frames are held.
    pub(crate) fn held(&self) -> usize {
        self.state.lock().unwrap().unfinished.len()
    }

    fn finish(&self, end: Lsn) {
        self.lane.finish_written(end);
        self.lane.finish_durable(end);
    }
}

/// The shard's end.
pub(crate) struct FakeLog {
    pub(crate) disk: Arc<Disk>,
    pub(crate) frames: Frames,
}

impl CommitLog for FakeLog {
    fn append(&mut self, kind: FrameKind, payload: Bytes, _: UnixMs) -> Lsn {
        let bytes = payload.len() as u64;
        let lsn = self.disk.lane.issue(bytes);
        let end = lsn.advance(bytes);
        let frame = Frame {
            shard: self.disk.lane.shard(),
            kind,
            lsn,
            // As with a disk, the memory of the payload is free afterwards.
            payload: Bytes::copy_from_slice(&payload),
        };
        self.frames.lock().unwrap().push(frame);
        let mut state = self.disk.state.lock().unwrap();
        if state.slow {
            state.unfinished.push((end, bytes));
        } else {
            self.disk.finish(end);
        }
        end
    }

    fn tick(&mut self, _: UnixMs) {}

    fn cut(&mut self) {}

    fn health(&self) -> LogHealth {
        let state = self.disk.state.lock().unwrap();
        if state.failing {
            LogHealth::AppendFailing
        } else {
            LogHealth::Healthy
        }
    }

    fn cause(&self) -> Option<OsError> {
        let state = self.disk.state.lock().unwrap();
        state.failing.then(|| OsError::new(ENOSPC))
    }

    fn bytes_at_risk(&self) -> u64 {
        let state = self.disk.state.lock().unwrap();
        state.unfinished.iter().map(|(_, bytes)| bytes).sum()
    }
}
