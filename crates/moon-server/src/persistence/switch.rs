//! `appendonly` at run time: a log begins or ends while the server serves.
//!
//! On: the log begins as a rewrite does. The shards change to it at one cut, and once its bases and
//! their manifest are durable it holds everything; until then what lay there before stays in force.
//! Off: the manifest says first that the log is closed, then the shards change to logs without
//! files at one cut, and everything below it is made durable.

use super::job::{AtCut, Stopped, cut};
use super::lent::{LentLog, LogInUse};
use super::{Persistence, SnapshotError};
use crate::recover::aof_options;
use moon_aof::open_for_rewrite;
use moon_core::{Lsn, ShardId};
use moon_repl::{CommitLog, Lane, MemoryLog};
use moon_shard::SnapshotProgress;
use moon_store::DirtyKeys;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How often the wait for a sync looks again.
const POLL: Duration = Duration::from_millis(2);

impl Persistence {
    /// `appendonly yes`. Nothing to do if the log is on.
    pub(super) fn switch_on(&self, progress: &Arc<SnapshotProgress>) -> Result<(), SnapshotError> {
        if self.aof().is_some() {
            return Ok(());
        }
        let parts = &self.parts;
        let options = aof_options(&parts.config.snapshot());
        let storage = Arc::clone(&self.storage);
        let (pool, logs, rewrite) =
            open_for_rewrite(storage, &options, parts.shards, &parts.clock)?;
        let (log, lent) = LogInUse::lend(pool, logs);
        let lent: Mutex<Vec<Option<LentLog>>> = Mutex::new(lent.into_iter().map(Some).collect());
        let at_cut: AtCut = Arc::new(move |shard, log, data| {
            let mut lent = lent.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(lent) = lent[shard.index()].take() {
                *log = Box::new(lent);
                // From here on replies wait for the log.
                data.dirty = DirtyKeys::new(true);
            }
        });
        let written = self.write_bases(rewrite, at_cut, progress);
        if written.is_err() {
            self.go_on_without_files()?;
            log.handle().give_up();
            self.ungate()?;
            return written;
        }
        *self.log() = Some(log);
        Ok(())
    }

    /// `appendonly no`. Nothing to do if the log is off.
    pub(super) fn switch_off(&self) -> Result<(), SnapshotError> {
        let Some(aof) = self.aof() else {
            return Ok(());
        };
        // A log that cannot be closed goes on.
        aof.close_mark().map_err(SnapshotError::CloseMark)?;
        let at = self.go_on_without_files()?;
        let closed = match self.log().take() {
            Some(log) => log.close(at),
            None => Ok(()),
        };
        self.ungate()?;
        closed.map_err(SnapshotError::Close)
    }

    /// All shards change to logs without files, at one cut.
    fn go_on_without_files(&self) -> Result<Lsn, Stopped> {
        let clock = Arc::clone(&self.parts.clock);
        let change = move |shard: ShardId, log: &mut Box<dyn CommitLog>, _: &mut _| {
            *log = Box::new(MemoryLog::new(Lane::new(Arc::clone(&clock), shard)));
        };
        let (at, _) = cut(&self.parts.directory, Arc::new(change), None)?;
        Ok(at)
    }

    /// Nothing waits for a log any more.
    fn ungate(&self) -> Result<(), Stopped> {
        let written = self.parts.clock.written();
        while self.parts.clock.committed() < written && !self.stop.load(Relaxed) {
            std::thread::sleep(POLL);
        }
        let ungate: AtCut = Arc::new(|_, _, data| data.dirty = DirtyKeys::new(false));
        cut(&self.parts.directory, ungate, None)?;
        Ok(())
    }
}
