//! The writer pool: one sync thread per shard, started together and stopped together.

use crate::error::ShutdownError;
use crate::handle::{AofHandle, DirLock};
use crate::log::ShardLog;
use crate::policy::FsyncPolicy;
use crate::status::AofStatus;
use crate::writer::{Shared, Writer};
use moon_core::{Lsn, ShardId, UnixMs};
use moon_repl::{Clock, CommitLog};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The sync threads of all shards, and the log as a whole.
///
/// Dropping it without [`shutdown`](AofWriterPool::shutdown) leaves the files as a crash would:
/// nothing written is lost to the process's death, and the next start recovers.
pub struct AofWriterPool {
    handle: AofHandle,
    /// Held as long as the log is in use.
    _lock: Arc<DirLock>,
}

impl AofWriterPool {
    /// Starts one sync thread per writer.
    pub(crate) fn start(
        clock: Arc<Clock>,
        shared: Arc<Shared>,
        writers: Vec<Arc<Writer>>,
        lock: DirLock,
    ) -> Result<AofWriterPool, (ShardId, io::Error)> {
        for writer in &writers {
            let shard = writer.shard;
            let runs = writer.clone();
            let thread = std::thread::Builder::new()
                .name(format!("aof-sync-{}", shard.0))
                .spawn(move || runs.run())
                .map_err(|error| (shard, error))?;
            writer.set_thread(thread.thread().clone());
        }
        let lock = Arc::new(lock);
        Ok(AofWriterPool {
            handle: AofHandle::new(clock, shared, writers, &lock),
            _lock: lock,
        })
    }

    /// A handle on the log, for any thread.
    #[must_use]
    pub fn handle(&self) -> AofHandle {
        self.handle.clone()
    }

    /// The numbers of the log, for any thread.
    #[must_use]
    pub fn status(&self) -> Arc<AofStatus> {
        self.handle.status()
    }

    /// The policy in force.
    #[must_use]
    pub fn policy(&self) -> FsyncPolicy {
        self.handle.policy()
    }

    /// See [`AofHandle::set_policy`].
    pub fn set_policy(&self, policy: FsyncPolicy) {
        self.handle.set_policy(policy);
    }

    /// Stops the log cleanly: everything issued becomes durable, each shard's file gets a last
    /// mark, and the manifest says so. All shards must have stopped appending and given their
    /// logs back. Returns within about `timeout`, whatever the disk does.
    ///
    /// # Errors
    /// If anything is not durable. The files are then as after a crash.
    pub fn shutdown(
        self,
        mut logs: Vec<ShardLog>,
        now: UnixMs,
        timeout: Duration,
    ) -> Result<(), ShutdownError> {
        let until = Instant::now() + timeout;
        logs.sort_by_key(|log| log.writer().shard);
        for log in &mut logs {
            log.tick(now);
        }
        self.stop_threads(until)?;
        self.check_durable()?;
        for log in &mut logs {
            let shard = log.writer().shard;
            if !log.append_stop_mark(now) || !log.writer().sync_last() {
                return Err(ShutdownError::NotDurable { shard });
            }
        }
        let end = self.handle.clock.durable();
        let ends: Vec<u64> = self
            .handle
            .writers
            .iter()
            .map(|w| w.synced_end().0)
            .collect();
        self.handle
            .shared
            .manifest
            .update(|manifest| {
                manifest.clean_stop = Some(end);
                for (shard, last) in manifest.shards.iter_mut().zip(ends) {
                    shard.max_lsn = last.min(end.0);
                }
            })
            .map_err(|source| ShutdownError::Mark { source })
    }

    /// Ends a log that `appendonly no` switches off while the server goes on: everything below `at`,
    /// the head when the shards changed to logs without files, becomes durable, and the manifest
    /// says that the log is closed there. All shards must have given their logs back. Whether it
    /// succeeds or not, nothing waits for this log afterwards.
    ///
    /// # Errors
    /// If anything below `at` is not durable. The files are then as after a crash, and closed where
    /// [`AofHandle::close_mark`] said.
    pub fn close(
        self,
        logs: Vec<ShardLog>,
        at: Lsn,
        timeout: Duration,
    ) -> Result<(), ShutdownError> {
        // No marks are appended: the stream goes on beyond `at` without this log, and a durable
        // mark beyond what the files hold would make the next start call them damaged.
        let until = Instant::now() + timeout;
        let closed = self
            .stop_threads(until)
            .and_then(|()| self.check_durable_to(at))
            .and_then(|()| {
                let manifest = &self.handle.shared.manifest;
                let update = manifest.update(|manifest| {
                    manifest.clean_stop = Some(at);
                    manifest.closed_at = Some(at);
                });
                update.map_err(|source| ShutdownError::Mark { source })
            });
        drop(logs);
        self.handle.give_up();
        closed
    }

    fn stop_threads(&self, until: Instant) -> Result<(), ShutdownError> {
        for writer in self.handle.writers.iter() {
            writer.stop();
        }
        for writer in self.handle.writers.iter() {
            if !writer.wait_stopped(until) {
                let shard = writer.shard;
                return Err(ShutdownError::Timeout { shard });
            }
        }
        Ok(())
    }

    fn check_durable(&self) -> Result<(), ShutdownError> {
        self.check_durable_to(self.handle.clock.head())
    }

    fn check_durable_to(&self, end: Lsn) -> Result<(), ShutdownError> {
        let latched = self
            .handle
            .writers
            .iter()
            .find(|writer| writer.is_latched());
        if let Some(writer) = latched {
            let shard = writer.shard;
            return Err(ShutdownError::NotDurable { shard });
        }
        if self.handle.clock.durable() < end {
            let shard = self.handle.clock.holding_up().unwrap_or_default();
            return Err(ShutdownError::NotDurable { shard });
        }
        Ok(())
    }
}

impl Drop for AofWriterPool {
    fn drop(&mut self) {
        for writer in self.handle.writers.iter() {
            writer.stop();
        }
    }
}
