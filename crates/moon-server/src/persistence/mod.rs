//! Snapshots and rewrites: who asks for them, which one runs, how the last one went.
//!
//! One thread does them, one at a time: a request that comes while another runs is refused,
//! joined or queued as Redis does. In reading order:
//!
//! * `schedule`: when one starts by itself, and when to complain that one does not come off.
//! * `job`: the cut and the walk that both share.
//! * `write`: the files: a new generation of the log, or a dump.
//! * `lent`, `switch`: the log in use, and `appendonly` at run time.

mod job;
mod lent;
mod schedule;
mod switch;
mod write;

use crate::config::{Config, RuntimeConfig, SavePoint};
use crate::stats::ServerStats;
use moon_aof::{AofHandle, RealStorage, Storage};
use moon_core::ShardCount;
use moon_repl::Clock;
use moon_shard::mailbox::Directory;
use moon_shard::{FailingLogs, SnapshotProgress};
use schedule::Watchdog;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::oneshot;

pub use lent::LogInUse;
pub use write::SnapshotError;

/// What a snapshot is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A new generation of the log (BGREWRITEAOF).
    Rewrite,
    /// A dump (SAVE, BGSAVE).
    Save,
}

/// What the snapshots of a server work on.
pub struct Parts {
    /// The configuration in force.
    pub config: Arc<RuntimeConfig>,
    /// What is counted.
    pub stats: Arc<ServerStats>,
    /// The shards' mailboxes.
    pub directory: Directory,
    /// Number of shards.
    pub shards: ShardCount,
    /// The clock of the history.
    pub clock: Arc<Clock>,
    /// Where a failed dump is noted, so that writes are refused.
    pub failing_logs: Arc<FailingLogs>,
}

/// The snapshots of a server.
pub struct Persistence {
    parts: Parts,
    /// The log, if it is on.
    log: Mutex<Option<LogInUse>>,
    storage: Arc<dyn Storage>,
    state: Mutex<State>,
    changed: Condvar,
    stop: Arc<AtomicBool>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// How the last one of a kind went.
#[derive(Clone, Copy, Debug)]
struct Last {
    ok: bool,
    taken: Duration,
    ended: Instant,
}

/// What the thread does next.
enum Job {
    Snapshot(Kind, Arc<SnapshotProgress>),
    Switch(
        bool,
        Arc<SnapshotProgress>,
        oneshot::Sender<Result<(), String>>,
    ),
}

struct Running {
    kind: Kind,
    /// Who waits for it.
    waiters: Vec<oneshot::Sender<Outcome>>,
    since: Instant,
    progress: Arc<SnapshotProgress>,
    watchdog: Watchdog,
}

/// Whether a snapshot was written.
type Outcome = Result<(), ()>;

#[derive(Default)]
struct State {
    running: Option<Running>,
    /// What is to run next, by kind.
    wanted_rewrite: bool,
    wanted_save: bool,
    /// `appendonly` as CONFIG SET wants it, and who waits for that.
    wanted_log: Option<(bool, oneshot::Sender<Result<(), String>>)>,
    /// Who waits for the next save to end (SAVE, SHUTDOWN).
    save_waiters: Vec<oneshot::Sender<Outcome>>,
    last_rewrite: Option<Last>,
    last_save: Option<Last>,
    rewrites: u64,
    rewrite_failures: u32,
    saves: u64,
    /// Changes counted when the last good dump was cut, and when it ended.
    saved_changes: u64,
    saved_at: Option<Instant>,
    /// Whether a switch of the log is under way.
    switching: bool,
    /// Since when there are changes that no dump holds, as far as save points ask for dumps.
    unsaved_since: Option<Instant>,
    /// When the log last said that no dump succeeds.
    overdue_said: Option<Instant>,
    stopping: bool,
}

/// What INFO persistence shows of the snapshots.
#[derive(Clone, Debug, Default)]
pub struct PersistenceInfo {
    /// Changes that no dump holds.
    pub changes_since_save: u64,
    /// Keys encoded, and to encode, of the one that runs.
    pub keys: Option<(u64, u64)>,
    /// Unix seconds of the last good dump, or of the start.
    pub last_save_s: u64,
    /// Dumps.
    pub save: KindInfo,
    /// Rewrites.
    pub rewrite: KindInfo,
    /// Failed rewrites in a row.
    pub rewrite_failures: u32,
}

/// What INFO persistence shows of one kind.
#[derive(Clone, Debug)]
pub struct KindInfo {
    /// Whether one runs.
    pub running_for: Option<Duration>,
    /// Whether one waits for another to end.
    pub scheduled: bool,
    /// Whether the last one was good; true before the first.
    pub last_ok: bool,
    /// How long the last one took.
    pub last_taken: Option<Duration>,
    /// Good ones since the start.
    pub count: u64,
}

impl Default for KindInfo {
    fn default() -> KindInfo {
        KindInfo {
            running_for: None,
            scheduled: false,
            last_ok: true,
            last_taken: None,
            count: 0,
        }
    }
}

impl Persistence {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the operating system gives none.
    pub fn start(parts: Parts, log: Option<LogInUse>) -> std::io::Result<Arc<Persistence>> {
        let persistence = Arc::new(Persistence {
            parts,
            log: Mutex::new(log),
            storage: Arc::new(RealStorage),
            state: Mutex::default(),
            changed: Condvar::new(),
            stop: Arc::default(),
            thread: Mutex::default(),
        });
        let runs = Arc::clone(&persistence);
        let thread = std::thread::Builder::new()
            .name("snapshot".to_owned())
            .spawn(move || runs.run())?;
        *persistence
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(thread);
        Ok(persistence)
    }

    /// The log, if it is on.
    #[must_use]
    pub fn aof(&self) -> Option<AofHandle> {
        self.log().as_ref().map(LogInUse::handle)
    }

    /// Takes the log away, to end it.
    #[must_use]
    pub fn take_log(&self) -> Option<LogInUse> {
        self.log().take()
    }

    fn log(&self) -> MutexGuard<'_, Option<LogInUse>> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // --- requests ---

    /// BGREWRITEAOF.
    ///
    /// # Errors
    /// The error reply.
    pub fn rewrite_in_background(&self) -> Result<&'static str, String> {
        if self.aof().is_none() {
            return Err(
                "ERR The append only file is off (appendonly no), so there is nothing to \
                        rewrite; BGSAVE writes a snapshot"
                    .to_owned(),
            );
        }
        let mut state = self.state();
        match state.running.as_ref().map(|r| r.kind) {
            Some(Kind::Rewrite) => {
                Err("ERR Background append only file rewriting already in progress".to_owned())
            }
            Some(Kind::Save) => {
                state.wanted_rewrite = true;
                Ok("Background append only file rewriting scheduled")
            }
            None if state.wanted_rewrite => {
                Err("ERR Background append only file rewriting already in progress".to_owned())
            }
            None => {
                state.wanted_rewrite = true;
                self.changed.notify_all();
                Ok("Background append only file rewriting started")
            }
        }
    }

    /// BGSAVE, with SCHEDULE or without.
    ///
    /// # Errors
    /// The error reply.
    pub fn save_in_background(&self, schedule: bool) -> Result<&'static str, String> {
        let mut state = self.state();
        match state.running.as_ref().map(|r| r.kind) {
            Some(Kind::Save) => Err(SAVE_IN_PROGRESS.to_owned()),
            Some(Kind::Rewrite) if schedule => {
                state.wanted_save = true;
                Ok("Background saving scheduled")
            }
            Some(Kind::Rewrite) => Err(
                "ERR Another child process is active (AOF?): can't BGSAVE right now. Use BGSAVE \
                 SCHEDULE in order to schedule a BGSAVE whenever possible."
                    .to_owned(),
            ),
            None if state.wanted_save => Err(SAVE_IN_PROGRESS.to_owned()),
            None => {
                state.wanted_save = true;
                self.changed.notify_all();
                Ok("Background saving started")
            }
        }
    }

    /// SAVE: the outcome comes when the dump is written.
    ///
    /// # Errors
    /// The error reply, if one is being written already.
    pub fn save(&self) -> Result<oneshot::Receiver<Outcome>, String> {
        let mut state = self.state();
        let is_saving = state.running.as_ref().is_some_and(|r| r.kind == Kind::Save);
        if is_saving || state.wanted_save {
            return Err(SAVE_IN_PROGRESS.to_owned());
        }
        Ok(self.want_save(&mut state))
    }

    /// A dump whose cut comes after this call, whatever runs now.
    pub fn save_next(&self) -> oneshot::Receiver<Outcome> {
        self.want_save(&mut self.state())
    }

    fn want_save(&self, state: &mut State) -> oneshot::Receiver<Outcome> {
        let (to, outcome) = oneshot::channel();
        state.wanted_save = true;
        state.save_waiters.push(to);
        self.changed.notify_all();
        outcome
    }

    /// CONFIG SET appendonly. The outcome comes when the log holds everything, or is closed.
    ///
    /// # Errors
    /// If another switch is under way.
    pub fn switch_log(&self, on: bool) -> Result<oneshot::Receiver<Result<(), String>>, String> {
        let mut state = self.state();
        if state.wanted_log.is_some() || state.switching {
            return Err("the log is being switched already".to_owned());
        }
        let (to, outcome) = oneshot::channel();
        state.wanted_log = Some((on, to));
        self.changed.notify_all();
        Ok(outcome)
    }

    /// Ten times a second: starts what is due by configuration, and complains of what hangs.
    pub fn tick(&self) {
        let config = self.parts.config.snapshot();
        let changes = self.parts.stats.changes();
        let mut state = self.state();
        let since_save = match state.saved_at {
            Some(at) => at.elapsed(),
            None => Duration::from_secs(self.parts.stats.uptime_s()),
        };
        let unsaved = changes.saturating_sub(state.saved_changes);
        let points = config.save_points();
        state.complain(points, unsaved);
        if state.running.is_some() || state.stopping || state.wanted_save || state.wanted_rewrite {
            return;
        }
        let failed = state.last_save.filter(|last| !last.ok);
        let since_failure = failed.map(|last| last.ended.elapsed());
        if let Some(point) = schedule::due_save(points, unsaved, since_save, since_failure) {
            tracing::info!(
                "{} changes in {} seconds. Saving...",
                point.changes,
                point.seconds
            );
            state.wanted_save = true;
            self.changed.notify_all();
            return;
        }
        let Some(aof) = self.aof() else { return };
        let pause = schedule::rewrite_pause(state.rewrite_failures);
        let paused = state
            .last_rewrite
            .is_some_and(|last| last.ended.elapsed() < pause);
        let status = aof.status();
        let growth = schedule::due_rewrite(
            config.auto_aof_rewrite_percentage,
            config.auto_aof_rewrite_min_size,
            status.current_size(),
            status.base_size(),
        );
        if let Some(growth) = growth.filter(|_| !paused) {
            tracing::info!("Starting automatic rewriting of AOF on {growth}% growth");
            state.wanted_rewrite = true;
            self.changed.notify_all();
        }
    }

    /// Gives up what runs, and takes no more. Waits for the thread.
    pub fn stop(&self) {
        {
            let mut state = self.state();
            state.stopping = true;
            self.stop.store(true, Relaxed);
            if let Some(running) = &state.running {
                running.progress.stop.store(true, Relaxed);
            }
            self.changed.notify_all();
        }
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(thread) = thread {
            thread.join().expect("a panic aborts the process");
        }
    }

    /// Refuses writes from now on if the last dump failed although dumps are configured and
    /// `stop-writes-on-bgsave-error` says so, and takes them again if not. To be called after
    /// each change of the configuration.
    pub fn note_refusal(&self) {
        self.note_refusal_of(&self.state());
    }

    /// The configuration is read under the lock of the state: whoever comes last has seen the last
    /// change of both.
    fn note_refusal_of(&self, state: &State) {
        let refuses = refuses_writes(&self.parts.config.snapshot(), state.last_save);
        self.parts.failing_logs.note_snapshot(refuses);
    }

    /// For INFO.
    #[must_use]
    pub fn info(&self) -> PersistenceInfo {
        let changes = self.parts.stats.changes();
        let state = self.state();
        let kind = |kind, scheduled: bool, last: Option<Last>, count| KindInfo {
            running_for: match &state.running {
                Some(running) => (running.kind == kind).then(|| running.since.elapsed()),
                // Its reply says that it has begun, and the thread is on its way.
                None => scheduled.then_some(Duration::ZERO),
            },
            scheduled: scheduled && state.running.is_some(),
            last_ok: last.is_none_or(|last| last.ok),
            last_taken: last.map(|last| last.taken),
            count,
        };
        let keys = state.running.as_ref().map(|running| {
            let progress = &running.progress;
            (
                progress.keys_done.load(Relaxed),
                progress.keys_total.load(Relaxed),
            )
        });
        PersistenceInfo {
            changes_since_save: changes.saturating_sub(state.saved_changes),
            keys,
            last_save_s: self.parts.stats.last_save_s.load(Relaxed),
            save: kind(Kind::Save, state.wanted_save, state.last_save, state.saves),
            rewrite: kind(
                Kind::Rewrite,
                state.wanted_rewrite,
                state.last_rewrite,
                state.rewrites,
            ),
            rewrite_failures: state.rewrite_failures,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change of the state is whole when the lock is released.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // --- the thread ---

    fn run(&self) {
        while let Some(job) = self.next() {
            let (kind, progress) = match job {
                Job::Snapshot(kind, progress) => (kind, progress),
                Job::Switch(on, progress, waiter) => {
                    self.switch(on, &progress, waiter);
                    continue;
                }
            };
            let started = Instant::now();
            let changes = self.parts.stats.changes();
            let result = match kind {
                Kind::Rewrite => self.write_generation(&progress),
                Kind::Save => self.write_dump(&progress),
            };
            self.ended(kind, started, changes, &result);
        }
    }

    /// Waits for work; `None` when the server stops.
    fn next(&self) -> Option<Job> {
        let mut state = self.state();
        loop {
            if state.stopping {
                state.save_waiters.clear();
                state.wanted_log = None;
                return None;
            }
            if let Some((on, waiter)) = state.wanted_log.take() {
                let progress = Arc::<SnapshotProgress>::default();
                state.switching = true;
                state.running = on.then(|| Running {
                    kind: Kind::Rewrite,
                    waiters: Vec::new(),
                    since: Instant::now(),
                    progress: Arc::clone(&progress),
                    watchdog: Watchdog::new(Instant::now()),
                });
                return Some(Job::Switch(on, progress, waiter));
            }
            let kind = if std::mem::take(&mut state.wanted_save) {
                Kind::Save
            } else if std::mem::take(&mut state.wanted_rewrite) {
                Kind::Rewrite
            } else {
                let waited = self.changed.wait(state);
                state = waited.unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let progress = Arc::<SnapshotProgress>::default();
            let waiters = match kind {
                Kind::Save => std::mem::take(&mut state.save_waiters),
                Kind::Rewrite => Vec::new(),
            };
            state.running = Some(Running {
                kind,
                waiters,
                since: Instant::now(),
                progress: Arc::clone(&progress),
                watchdog: Watchdog::new(Instant::now()),
            });
            return Some(Job::Snapshot(kind, progress));
        }
    }

    fn switch(
        &self,
        on: bool,
        progress: &Arc<SnapshotProgress>,
        waiter: oneshot::Sender<Result<(), String>>,
    ) {
        let word = if on { "yes" } else { "no" };
        tracing::info!("Switching to appendonly {word}");
        let result = if on {
            self.switch_on(progress)
        } else {
            self.switch_off()
        };
        {
            let mut state = self.state();
            state.running = None;
            state.switching = false;
        }
        let result = result.map_err(|error| crate::startup::chain(&error));
        match &result {
            Ok(()) => tracing::info!("appendonly {word} is in force"),
            Err(text) => tracing::error!("appendonly {word} failed: {text}"),
        }
        // Whoever asked may have gone.
        waiter.send(result).ok();
    }

    fn ended(
        &self,
        kind: Kind,
        started: Instant,
        changes: u64,
        result: &Result<(), SnapshotError>,
    ) {
        let what = kind.title();
        let last = Last {
            ok: result.is_ok(),
            taken: started.elapsed(),
            ended: Instant::now(),
        };
        match result {
            Ok(()) => {
                tracing::info!("{what} finished in {:.3} seconds", last.taken.as_secs_f64());
            }
            Err(SnapshotError::Stopped(_)) => tracing::warn!("{what} was given up"),
            Err(error) => {
                let text = crate::startup::chain(error);
                tracing::error!("{what} failed, what was there before stays in force: {text}");
            }
        }
        let mut state = self.state();
        let waiters = state.running.take().map_or(Vec::new(), |r| r.waiters);
        match kind {
            Kind::Rewrite => {
                state.rewrites += u64::from(last.ok);
                state.rewrite_failures = if last.ok {
                    0
                } else {
                    state.rewrite_failures.saturating_add(1)
                };
                state.last_rewrite = Some(last);
            }
            Kind::Save => {
                if last.ok {
                    state.saves += 1;
                    state.saved_changes = changes;
                    state.saved_at = Some(last.ended);
                    state.unsaved_since = None;
                    let now = SystemTime::now().duration_since(UNIX_EPOCH);
                    let seconds = now.map_or(0, |now| now.as_secs());
                    self.parts.stats.last_save_s.store(seconds, Relaxed);
                }
                state.last_save = Some(last);
                self.note_refusal_of(&state);
            }
        }
        drop(state);
        for waiter in waiters {
            // Whoever asked may have gone.
            waiter.send(if last.ok { Ok(()) } else { Err(()) }).ok();
        }
    }
}

impl Kind {
    /// As the log calls it.
    fn title(self) -> &'static str {
        match self {
            Kind::Rewrite => "AOF rewrite",
            Kind::Save => "Snapshot",
        }
    }
}

impl State {
    /// Says in the log what an operator should know: that no dump succeeds although save points
    /// ask for them, and that the running snapshot does not move.
    fn complain(&mut self, points: &[SavePoint], unsaved: u64) {
        if unsaved == 0 || points.is_empty() {
            self.unsaved_since = None;
        } else {
            // Not since the last dump: after a quiet week one change is not overdue at once.
            let since = *self.unsaved_since.get_or_insert_with(Instant::now);
            let since_warning = self.overdue_said.map(|at| at.elapsed());
            if schedule::is_overdue(points, since.elapsed(), since_warning) {
                self.overdue_said = Some(Instant::now());
                tracing::warn!(
                    "No snapshot has succeeded for {} seconds, and {unsaved} changes are in none",
                    since.elapsed().as_secs()
                );
            }
        }
        if let Some(running) = &mut self.running {
            let done = running.progress.keys_done.load(Relaxed);
            if let Some(stuck) = running.watchdog.look(done, Instant::now()) {
                tracing::warn!(
                    "{} has made no progress for {} seconds: {done} of {} keys are written",
                    running.kind.title(),
                    stuck.as_secs(),
                    running.progress.keys_total.load(Relaxed)
                );
            }
        }
    }
}

/// As in Redis, only servers with save points refuse writes.
fn refuses_writes(config: &Config, last_save: Option<Last>) -> bool {
    config.stop_writes_on_bgsave_error
        && !config.save_points().is_empty()
        && last_save.is_some_and(|last| !last.ok)
}

const SAVE_IN_PROGRESS: &str = "ERR Background save already in progress";
