//! A handle on the running log, for any thread.

use crate::error::RewriteError;
use crate::policy::FsyncPolicy;
use crate::rewrite::Rewrite;
use crate::status::AofStatus;
use crate::writer::{Shared, Writer};
use moon_core::Lsn;
use moon_repl::Clock;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

/// The lock on the append-only directory. The pool holds it, and whoever may still change the
/// directory after the pool is gone.
pub(crate) struct DirLock(
    #[expect(dead_code, reason = "held, not read")] pub(crate) Box<dyn Send + Sync>,
);

/// The running log as any thread may use it. It keeps nothing alive: after the pool's end the
/// numbers stand still and nothing can be begun.
#[derive(Clone)]
pub struct AofHandle {
    pub(crate) clock: Arc<Clock>,
    pub(crate) shared: Arc<Shared>,
    /// In shard order.
    pub(crate) writers: Arc<[Arc<Writer>]>,
    lock: Weak<DirLock>,
}

impl AofHandle {
    pub(crate) fn new(
        clock: Arc<Clock>,
        shared: Arc<Shared>,
        writers: Vec<Arc<Writer>>,
        lock: &Arc<DirLock>,
    ) -> AofHandle {
        AofHandle {
            clock,
            shared,
            writers: writers.into(),
            lock: Arc::downgrade(lock),
        }
    }

    /// The numbers of the log.
    #[must_use]
    pub fn status(&self) -> Arc<AofStatus> {
        self.shared.status.clone()
    }

    /// The policy in force.
    #[must_use]
    pub fn policy(&self) -> FsyncPolicy {
        self.shared.policy()
    }

    /// Changes `appendfsync` at run time. A switch to `always` may be answered once the durable
    /// mark has reached the head at the switch.
    pub fn set_policy(&self, policy: FsyncPolicy) {
        self.shared.policy.store(policy.as_byte(), Ordering::SeqCst);
        self.clock.set_commit_on(policy.commit_on());
        for writer in self.writers.iter() {
            writer.wake();
        }
    }

    /// Bounds, from the next append on, the bytes of a shard that are not synced under `everysec`;
    /// at half of it a sync starts early.
    pub fn set_unsynced_max(&self, bytes: u64) {
        self.shared.set_unsynced_max(bytes);
    }

    /// The first step of a rewrite: creates and syncs the next segments, makes a manifest durable
    /// that names them beside the generation in force, and gives each shard's log its new segment
    /// for the cut. Blocks on the disk.
    ///
    /// # Errors
    /// If a rewrite is going on, the log has stopped, or the disk fails. The log goes on as
    /// before.
    pub fn begin_rewrite(&self) -> Result<Rewrite, RewriteError> {
        Rewrite::begin(self)
    }

    /// Notes in the manifest that the log ends here because `appendonly no` switched it off, and
    /// returns where: the durable mark. A start refuses such a log unless it is told that no newer
    /// dump exists. What is appended until the shards change to logs without files is still
    /// recovered. Blocks on the disk.
    ///
    /// # Errors
    /// If the manifest could not be made durable. Either it or the one before is found after a
    /// crash.
    pub fn close_mark(&self) -> io::Result<Lsn> {
        let at = self.clock.durable();
        self.shared
            .manifest
            .update(|manifest| manifest.closed_at = Some(at))?;
        Ok(at)
    }

    /// The log is off: whoever waits for one of its frames does not any more. Only after the shards
    /// have changed to logs without files.
    pub fn give_up(&self) {
        let head = self.clock.head();
        for writer in self.writers.iter() {
            writer.lane.finish_written(head);
            writer.lane.finish_durable(head);
        }
    }

    /// Keeps the directory locked as long as it lives; `None` once the pool is gone.
    pub(crate) fn hold_directory(&self) -> Option<Arc<DirLock>> {
        self.lock.upgrade()
    }
}
