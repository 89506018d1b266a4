//! From a checked configuration to a serving process and down again.
//!
//! ```text
//!   check -> bind -> scan the log -> replay -> one manifest -> shards serve
//!   SIGTERM -> stop accepting -> replies leave -> turns end -> last sync -> exit 0
//! ```
//!
//! Clients that connect during recovery are answered LOADING; nothing is served, no LSN issued
//! and no mark published before [`recover`](crate::recover::recover) has returned.

use crate::clients::Clients;
use crate::config::{Config, RuntimeConfig};
use crate::connection::measure_clients;
use crate::listener::{Door, ListenError, Listeners};
use crate::loading::{Progress as Loading, WaitingRoom};
use crate::observer::StatsObserver;
use crate::persistence::{self, LogInUse, Persistence};
use crate::pubsub::Hub;
use crate::recover::{Recovered, RecoveredLog, recover};
use crate::server::{Parts, Server, ShutdownRequest, limits_of};
use crate::stats::ServerStats;
use crate::tracking::Tracking;
use moon_aof::{MigrateError, RecoverError, ShutdownError};
use moon_commands::load::LoadError;
use moon_core::{Lsn, ShardCount, ShardId};
use moon_import::ImportError;
use moon_manifest::{AofManifest, AofPaths};
use moon_repl::{CommitLog, Lane, MemoryLog};
use moon_shard::mailbox::Directory;
use moon_shard::replay::ReplayFailed;
use moon_shard::shard::Shared;
use moon_shard::{LazyFree, Memory, Shard, ShardConfig, ShardSeed, spawn};
use moon_tools::ReshardError;
use rand::TryRng as _;
use rand::rngs::SysRng;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio::task::LocalSet;

/// How often the log says how far recovery is.
const PROGRESS: Duration = Duration::from_secs(1);
/// How long connections get to send their last replies when the server stops.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// Why a checked configuration does not serve.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// The log cannot be recovered; starting would lose data.
    #[error(transparent)]
    Recover(#[from] RecoverError),
    /// A frame of the log cannot be applied.
    #[error(transparent)]
    Replay(#[from] ReplayFailed),
    /// What lies there cannot be used, or a start would pass over newer data.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// A directory of version 1 cannot be brought to its new layout.
    #[error(transparent)]
    Migrate(#[from] MigrateError),
    /// The number of shards cannot be changed.
    #[error(transparent)]
    Reshard(#[from] ReshardError),
    /// The end of the log is torn, and the configuration forbids to cut it off.
    #[error(
        "the end of the log is torn: {bytes} bytes from LSN {from} on would be cut off, and \
         aof-load-truncated is no; nothing was changed"
    )]
    TornTail {
        /// File bytes beyond the recovered end.
        bytes: u64,
        /// The recovered end.
        from: Lsn,
    },
    /// The base of a shard cannot be opened.
    #[error("cannot open {}", path.display())]
    OpenBase {
        /// The base.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The base of a shard is damaged.
    #[error(
        "the base {} is damaged; nothing was changed. Restore the append-only directory from a \
         backup or a replica",
        path.display()
    )]
    Base {
        /// The base.
        path: PathBuf,
        /// What is wrong.
        source: LoadError,
    },
    /// The base of a shard is not the one that the manifest names.
    #[error(
        "the base {} is not the one that belongs here: it was cut at LSN {}, the manifest says \
         {expected}",
        path.display(),
        found.map_or_else(|| "none".to_owned(), |lsn| lsn.to_string())
    )]
    BaseCut {
        /// The base.
        path: PathBuf,
        /// What it says.
        found: Option<u64>,
        /// What the manifest says.
        expected: Lsn,
    },
    /// An address cannot be listened on.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The operating system refused a thread or an event queue.
    #[error("cannot start the server's threads")]
    Threads(#[from] io::Error),
    /// The log could not be closed cleanly; the next start recovers it.
    #[error(transparent)]
    Shutdown(#[from] ShutdownError),
}

/// Serves until asked to stop.
///
/// # Errors
/// [`BootError`]; before serving, or when the log could not be closed.
pub fn run(config: Arc<RuntimeConfig>, default_shards: ShardCount) -> Result<(), BootError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let local = LocalSet::new();
    local.block_on(&runtime, serve(config, default_shards))
}

async fn serve(config: Arc<RuntimeConfig>, default_shards: ShardCount) -> Result<(), BootError> {
    let startup_memory = moon_alloc::allocated();
    let listeners = Listeners::bind(&config.snapshot())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let loading = Arc::new(Loading::default());
    let room = WaitingRoom::new(Arc::clone(&loading));
    let door = Door::new(Arc::clone(&config), Rc::clone(&room));
    let accepting = tokio::task::spawn_local(listeners.serve(Rc::clone(&door)));

    let monitored = crate::metrics::Later::default();
    if let Some(listener) = bind_metrics(&config.snapshot())? {
        crate::metrics::spawn(listener, Arc::clone(&monitored))?;
    }
    let (recovered, recovery) = oneshot::channel();
    let snapshot = config.snapshot();
    let for_thread = Arc::clone(&loading);
    std::thread::Builder::new()
        .name("recovery".to_owned())
        .spawn(move || {
            // Nobody listens any more only if the process is stopping.
            drop(recovered.send(recover(&snapshot, default_shards, &for_thread)));
        })?;
    tokio::pin!(recovery);
    let first_report = tokio::time::Instant::now() + PROGRESS;
    let mut progress = tokio::time::interval_at(first_report, PROGRESS);
    let recovered = loop {
        tokio::select! {
            result = &mut recovery => break result,
            _ = progress.tick() => tracing::info!("Loading the log: {}", loading.percent()),
            // Nothing is served yet, and recovery changes nothing that the next one cannot redo.
            _ = terminate.recv() => return stopped_while_loading(),
            _ = interrupt.recv() => return stopped_while_loading(),
        }
    };
    let started = recovered.expect("the recovery thread answers or aborts the process")?;
    log_recovery(&started);
    let running = Running::start(&config, started)?;
    let stats = &running.server.stats;
    stats.startup_memory.store(startup_memory, Relaxed);
    monitored.get_or_init(|| Arc::clone(&running.server) as _);
    door.open(Arc::clone(&running.server));
    log_ready(&config.snapshot(), &running.server);

    let mut sampling = tokio::time::interval(Duration::from_millis(100));
    loop {
        let request = tokio::select! {
            _ = sampling.tick() => {
                running.server.sample();
                continue;
            }
            _ = terminate.recv() => {
                tracing::warn!("Received SIGTERM scheduling shutdown...");
                ShutdownRequest::default()
            }
            _ = interrupt.recv() => {
                tracing::warn!("Received SIGINT scheduling shutdown...");
                ShutdownRequest::default()
            }
            request = running.server.shutdown_requested() => {
                tracing::warn!("User requested shutdown...");
                request
            }
        };
        // It outlives this when the server goes down.
        let minding = tokio::task::spawn_local(mind_scripts(Arc::clone(&running.server)));
        scripts_ended(&running.server).await;
        if running.save_before_stop(request).await {
            break;
        }
        minding.abort();
        tracing::error!("Error trying to save the DB, can't exit.");
        running.server.resume();
    }
    accepting.abort();
    if let Some(path) = &config.snapshot().unixsocket {
        // Whatever is in the way of removing it is for the next start to say.
        drop(std::fs::remove_file(path));
    }
    running.stop().await
}

/// How often a stop looks for scripts that take long, and how often it says what it waits for.
const SCRIPT_CHECK: Duration = Duration::from_millis(10);
const STOP_REPORT: Duration = Duration::from_secs(5);

/// What a stop does about scripts that take long. One that has written nothing is killed. One that
/// has is waited for, as in Redis; SHUTDOWN NOSAVE or another signal ends it, and then nothing of it
/// is ever in the log.
async fn mind_scripts(server: Arc<Server>) -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let busy = &server.scripts.busy;
    let mut reports = tokio::time::interval(STOP_REPORT);
    // The first comes at once: it is for a script.
    let (mut is_first, mut is_due) = (true, true);
    loop {
        if let Some(name) = busy.stop().filter(|_| is_due && !busy.is_abandoned()) {
            tracing::warn!(
                "Waiting for the script {name} to end, which has written. SHUTDOWN NOSAVE or \
                 another signal ends it without a trace"
            );
        } else if is_due && !is_first {
            tracing::warn!("Still stopping: {} clients", server.clients.len());
        }
        is_due = false;
        tokio::select! {
            () = tokio::time::sleep(SCRIPT_CHECK) => {}
            _ = reports.tick() => (is_due, is_first) = (!is_first, false),
            _ = terminate.recv() => give_up_scripts(&server),
            _ = interrupt.recv() => give_up_scripts(&server),
        }
    }
}

fn give_up_scripts(server: &Server) {
    if server.scripts.busy.any() {
        tracing::warn!("Stopping without waiting for scripts; nothing of them is kept");
        server.scripts.busy.abandon();
    }
}

/// Waits until scripts that take long are given up.
async fn given_up(server: &Server) {
    while !server.scripts.busy.is_abandoned() {
        tokio::time::sleep(SCRIPT_CHECK).await;
    }
}

/// Waits until no script takes long, or those that do are given up.
async fn scripts_ended(server: &Server) {
    let busy = &server.scripts.busy;
    while busy.any() && !busy.is_abandoned() {
        tokio::time::sleep(SCRIPT_CHECK).await;
    }
}

fn bind_metrics(config: &Config) -> Result<Option<TcpListener>, ListenError> {
    let Some(port) = config.metrics_port else {
        return Ok(None);
    };
    let address = SocketAddr::new(config.metrics_bind, port);
    TcpListener::bind(address)
        .map(Some)
        .map_err(|source| ListenError {
            address: address.to_string(),
            source,
        })
}

fn stopped_while_loading() -> Result<(), BootError> {
    tracing::warn!("Stopped during recovery; nothing was changed");
    Ok(())
}

fn log_recovery(recovered: &Recovered) {
    let summary = &recovered.summary;
    if summary.segments == 0 {
        return;
    }
    tracing::info!(
        "Recovered {} frames, {} bytes, up to LSN {} in {:.3} seconds{}",
        summary.frames,
        summary.bytes,
        summary.end,
        recovered.taken.as_secs_f64(),
        if summary.clean_stop {
            ", after a clean stop"
        } else {
            ""
        }
    );
    if summary.unproven_bytes > 0 {
        tracing::info!(
            "{} bytes of them were in the files, but no sync had proven it; they were copied and \
             synced first",
            summary.unproven_bytes
        );
    }
}

fn log_ready(config: &Config, server: &Server) {
    tracing::info!(
        "{} shard{}, {}",
        server.shards.get(),
        if server.shards.get() == 1 { "" } else { "s" },
        if config.shards.is_some() {
            "as configured"
        } else {
            "as the directory has or the default"
        }
    );
    tracing::info!("{}", config.durability_line());
    tracing::info!("Ready to accept connections on port {}", config.port);
}

/// The id that recovery has just made durable.
fn replication_id(config: &Config) -> io::Result<String> {
    let paths = AofPaths::new(config.dir.join(&config.appenddirname));
    let manifest =
        AofManifest::parse(&std::fs::read(paths.manifest())?).map_err(io::Error::other)?;
    let id = manifest.current_replication_id();
    Ok(id.map(|id| id.as_str().to_owned()).unwrap_or_default())
}

/// Seeds a shard's random picks.
fn random_seed() -> io::Result<u64> {
    SysRng.try_next_u64().map_err(io::Error::other)
}

/// A serving instance.
struct Running {
    server: Arc<Server>,
    threads: Vec<JoinHandle<()>>,
}

impl Running {
    fn start(config: &Arc<RuntimeConfig>, recovered: Recovered) -> io::Result<Running> {
        let snapshot = config.snapshot();
        let Recovered {
            shards,
            data,
            clock,
            log,
            summary,
            taken,
        } = recovered;
        let stats = ServerStats::new(
            usize::from(shards.get()),
            usize::try_from(snapshot.databases).unwrap_or(usize::MAX),
            moon_commands::stat_count(),
        );
        let micros = u64::try_from(taken.as_micros()).unwrap_or(u64::MAX);
        stats.recovery_us.store(micros, Relaxed);
        stats
            .recovery_truncated_bytes
            .store(summary.truncated_bytes, Relaxed);
        let (log, lent) = match log {
            RecoveredLog::Off => (None, Vec::new()),
            RecoveredLog::On { pool, logs } => {
                let (log, lent) = LogInUse::lend(pool, logs);
                (Some(log), lent)
            }
        };
        let replication_id = match &log {
            Some(_) => replication_id(&snapshot)?,
            None => stats.run_id.clone(),
        };
        let directory = Directory::new(shards);
        let stats = Arc::new(stats);
        let failing_logs = Arc::default();
        let parts = persistence::Parts {
            config: Arc::clone(config),
            stats: Arc::clone(&stats),
            directory: directory.clone(),
            shards,
            clock: Arc::clone(&clock),
            failing_logs: Arc::clone(&failing_logs),
        };
        let persistence = Persistence::start(parts, log)?;
        let libraries = data.first().map(|first| first.libraries.clone());
        let libraries = libraries.unwrap_or_default();
        let server = Server::new(Parts {
            config: Arc::clone(config),
            stats,
            clients: Clients::new(),
            clock: Arc::clone(&clock),
            directory: directory.clone(),
            shards,
            persistence,
            replication_id,
            failing_logs,
            memory: Memory::new(shards, LazyFree::start()?),
            libraries,
        });
        let shared = Shared {
            directory,
            clock: Arc::clone(&clock),
            failing_logs: Arc::clone(&server.failing_logs),
            memory: Arc::clone(&server.memory),
            pause: Arc::clone(&server.pause),
        };
        let limits = Arc::new(limits_of(&snapshot));
        let mut lent = lent.into_iter();
        let mut threads = Vec::new();
        for mut data in data {
            let id = data.id;
            let log: Box<dyn CommitLog + Send> = match lent.next() {
                Some(log) => Box::new(log),
                None => Box::new(MemoryLog::new(Lane::new(Arc::clone(&clock), id))),
            };
            let stats = Arc::clone(&server.stats);
            let (registry, mailboxes) = (Arc::clone(&server.pubsub), shared.directory.clone());
            let (tracked, clients) = (Arc::clone(&server.tracking), Arc::clone(&server.clients));
            data.tracking.share_broadcast(tracked.broadcast());
            let observed = Arc::clone(&server);
            let inflight = snapshot.inflight_max_bytes;
            let seed = ShardSeed {
                config: ShardConfig {
                    id,
                    count: shards,
                    inflight_bytes_max: usize::try_from(inflight).unwrap_or(usize::MAX),
                },
                shared: shared.clone(),
                data,
                log,
                limits: Arc::clone(&limits),
                seed: random_seed()?,
                observer: Box::new(move || {
                    let directory = mailboxes.clone();
                    let hub = Hub::install(id, registry, mailboxes, Arc::clone(&stats));
                    let for_tracking = Rc::clone(&hub);
                    let tracking = Tracking::install(id, for_tracking, tracked, clients, directory);
                    Rc::new(StatsObserver::new(observed, id, hub, tracking))
                }),
            };
            let server = Arc::clone(&server);
            let service = Box::new(move |shard| Box::pin(watch_over(shard, server)) as _);
            threads.push(spawn(seed, service)?);
        }
        Ok(Running { server, threads })
    }

    /// The snapshot that a stop writes, if it was asked for or there are save points; whether the
    /// server may stop then. Nothing is acknowledged after its cut: the connections end first.
    async fn save_before_stop(&self, request: ShutdownRequest) -> bool {
        let has_points = !self.server.config.snapshot().save_points().is_empty();
        if !request.save.unwrap_or(has_points) {
            return true;
        }
        self.end_connections().await;
        if self.server.scripts.busy.is_abandoned() {
            // Its data never comes back, so there is nothing whole to save.
            return true;
        }
        tracing::info!("Saving the final RDB snapshot before exiting.");
        let save = self.server.persistence.save_next();
        tokio::select! {
            saved = save => matches!(saved, Ok(Ok(()))) || request.force,
            () = given_up(&self.server) => true,
        }
    }

    /// Connections end once their replies have left.
    async fn end_connections(&self) {
        self.server.begin_stop();
        let until = Instant::now() + STOP_GRACE;
        while !self.server.clients.is_empty() && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        // One that was not known to take long when the stop began.
        scripts_ended(&self.server).await;
    }

    /// Stops: connections end once their replies have left, then every shard's last turn is in
    /// the log, then everything is synced.
    async fn stop(self) -> Result<(), BootError> {
        self.end_connections().await;
        let persistence = Arc::clone(&self.server.persistence);
        let joined = tokio::task::spawn_blocking(move || persistence.stop());
        if self.server.scripts.busy.is_abandoned() {
            // A snapshot that waits for data which never comes back ends with the shards, once it
            // has asked for it; and it asks for nothing new.
            tokio::time::sleep(SCRIPT_CHECK).await;
            self.server.end_shards();
        }
        joined.await.expect("joining threads does not panic");
        self.server.end_shards();
        let joined = tokio::task::spawn_blocking(move || {
            for thread in self.threads {
                thread.join().expect("a panic aborts the process");
            }
        });
        joined.await.expect("joining threads does not panic");
        if let Some(log) = self.server.persistence.take_log() {
            tracing::info!("Syncing the log a last time...");
            log.shutdown()?;
        }
        tracing::warn!("moon is now ready to exit, bye bye...");
        Ok(())
    }
}

/// How often a shard looks whether its clients hold too much.
const CLIENT_CHECK: Duration = Duration::from_millis(100);
/// How many of these pass until it looks for idle clients, and adds up what all hold although there
/// is no limit.
const CHECKS_PER_SECOND: u32 = 10;

/// What a shard does besides its connections, until the server stops.
async fn watch_over(shard: Rc<Shard>, server: Arc<Server>) {
    tokio::task::spawn_local(Hub::of_this_thread().run(Rc::clone(&shard)));
    if shard.id() == ShardId(0) {
        crate::scripts::load_recovered(&server.scripts, &shard);
    }
    let mut interval = tokio::time::interval(CLIENT_CHECK);
    let mut checks: u32 = 0;
    let ended = server.shards_ended();
    tokio::pin!(ended);
    loop {
        tokio::select! {
            () = &mut ended => return,
            _ = interval.tick() => {
                let is_first = shard.id() == ShardId(0);
                let is_second = checks.is_multiple_of(CHECKS_PER_SECOND);
                checks = checks.wrapping_add(1);
                if is_second || server.settings.client_memory_max.load(Relaxed) > 0 {
                    measure_clients(&shard, &server);
                }
                if is_first {
                    server.evict_clients();
                }
                if is_second {
                    let stats = server.stats.shard(shard.id().index());
                    stats.inflight_bytes.set(shard.inflight_bytes());
                    if is_first {
                        server.close_idle_clients();
                    }
                }
            }
        }
    }
}
