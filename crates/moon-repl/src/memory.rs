//! The log that keeps nothing: `appendonly no`.

use crate::lane::Lane;
use crate::log::{CommitLog, FrameKind, FrameSink, LogHealth};
use bytes::Bytes;
use moon_core::{Lsn, UnixMs};
use std::sync::Arc;

/// A [`CommitLog`] without files. Frames are issued all the same, because the replication
/// offset and the order of pushes depend on them; they count as written and durable at once.
pub struct MemoryLog {
    lane: Arc<Lane>,
    sink: Option<Box<dyn FrameSink>>,
}

impl MemoryLog {
    /// A log that issues through `lane`.
    #[must_use]
    pub fn new(lane: Arc<Lane>) -> MemoryLog {
        MemoryLog { lane, sink: None }
    }

    /// Passes every frame on to `sink` from now on.
    pub fn set_sink(&mut self, sink: Box<dyn FrameSink>) {
        self.sink = Some(sink);
    }
}

impl CommitLog for MemoryLog {
    fn append(&mut self, kind: FrameKind, payload: Bytes, _now: UnixMs) -> Lsn {
        let start = self.lane.issue_finished(payload.len() as u64);
        let end = start.advance(payload.len() as u64);
        if let Some(sink) = &mut self.sink {
            sink.frame(kind, start, &payload);
        }
        end
    }

    fn tick(&mut self, _now: UnixMs) {}

    fn cut(&mut self) {}

    fn health(&self) -> LogHealth {
        LogHealth::Healthy
    }

    fn bytes_at_risk(&self) -> u64 {
        0
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::clock::{Clock, CommitOn};
    use moon_core::{ShardCount, ShardId};
    use std::sync::mpsc;

    struct Collect(mpsc::Sender<(FrameKind, Lsn, Bytes)>);

    impl FrameSink for Collect {
        fn frame(&mut self, kind: FrameKind, lsn: Lsn, payload: &Bytes) {
            self.0
                .send((kind, lsn, payload.clone()))
                .expect("the test reads until the end");
        }
    }

    #[test]
    fn a_memory_log_commits_at_once_and_feeds_its_sink_the_stream() {
        let clock = Clock::new(ShardCount::ONE, Lsn(7), CommitOn::Durable);
        let mut log = MemoryLog::new(Lane::new(clock.clone(), ShardId(0)));
        let (sender, frames) = mpsc::channel();
        log.set_sink(Box::new(Collect(sender)));
        let first = Bytes::from_static(b"*1\r\n$4\r\nPING\r\n");
        let end = log.append(FrameKind::Control, first.clone(), UnixMs(0));
        assert_eq!(end, Lsn(21));
        assert_eq!(clock.committed(), end);
        log.append(FrameKind::Own, Bytes::from_static(b"x"), UnixMs(0));
        drop(log);
        let got: Vec<_> = frames.iter().collect();
        assert_eq!(
            got,
            [
                (FrameKind::Control, Lsn(7), first),
                (FrameKind::Own, Lsn(21), Bytes::from_static(b"x")),
            ]
        );
    }
}
