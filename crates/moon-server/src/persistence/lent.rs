//! The log of one shard as its thread has it: lent, because closing all logs together takes them
//! back.

use bytes::Bytes;
use moon_aof::{AofHandle, AofWriterPool, ShardLog, ShutdownError};
use moon_core::{Lsn, UnixMs};
use moon_repl::{CommitLog, FrameKind, LogHealth, OsError};
use moon_shard::shard::unix_now;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

/// How long the last syncs may take when a log ends.
const LAST_SYNC: Duration = Duration::from_secs(60);

/// The log in use: its pool, and the way back for the logs of the shards.
pub struct LogInUse {
    pool: AofWriterPool,
    logs_back: Receiver<ShardLog>,
}

impl LogInUse {
    /// The log, and what is to be lent to the shards, in their order.
    pub(crate) fn lend(pool: AofWriterPool, logs: Vec<ShardLog>) -> (LogInUse, Vec<LentLog>) {
        let (back, logs_back) = channel();
        let lent = logs.into_iter().map(|log| LentLog {
            log: Some(log),
            back: back.clone(),
        });
        let lent = lent.collect();
        (LogInUse { pool, logs_back }, lent)
    }

    pub(crate) fn handle(&self) -> AofHandle {
        self.pool.handle()
    }

    /// Ends it with the server. The shards' threads have ended.
    pub(crate) fn shutdown(self) -> Result<(), ShutdownError> {
        let logs = self.logs_back.try_iter().collect();
        self.pool.shutdown(logs, unix_now(), LAST_SYNC)
    }

    /// Ends it while the server goes on: the shards changed to other logs at `at`.
    pub(crate) fn close(self, at: Lsn) -> Result<(), ShutdownError> {
        // Each shard has dropped what it was lent, or will before it takes part in anything else.
        let logs = self.logs_back.iter().collect();
        self.pool.close(logs, at, LAST_SYNC)
    }
}

/// A log that comes back to be closed when its shard's thread ends, or the shard gets another.
pub(crate) struct LentLog {
    log: Option<ShardLog>,
    back: Sender<ShardLog>,
}

impl LentLog {
    fn log(&mut self) -> &mut ShardLog {
        self.log
            .as_mut()
            .expect("the log goes back only when this is dropped")
    }
}

impl CommitLog for LentLog {
    fn append(&mut self, kind: FrameKind, payload: Bytes, now: UnixMs) -> Lsn {
        self.log().append(kind, payload, now)
    }

    fn tick(&mut self, now: UnixMs) {
        self.log().tick(now);
    }

    fn cut(&mut self) {
        self.log().cut();
    }

    fn health(&self) -> LogHealth {
        self.log
            .as_ref()
            .map_or(LogHealth::Healthy, CommitLog::health)
    }

    fn cause(&self) -> Option<OsError> {
        self.log.as_ref().and_then(CommitLog::cause)
    }

    fn bytes_at_risk(&self) -> u64 {
        self.log.as_ref().map_or(0, CommitLog::bytes_at_risk)
    }
}

impl Drop for LentLog {
    fn drop(&mut self) {
        if let Some(log) = self.log.take() {
            // If the server does not wait for it any more, nobody closes the log, which the next
            // start handles like a crash.
            drop(self.back.send(log));
        }
    }
}
