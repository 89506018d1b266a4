//! What all threads of one server share.

use crate::clients::{ClientHandle, Clients, Flags as ClientFlags};
use crate::config::{Config, RuntimeConfig, Settings};
use crate::persistence::Persistence;
use crate::pubsub::Registry;
use crate::report::Lag;
use crate::scripts::Scripts;
use crate::stats::ServerStats;
use crate::tracking::Shared as Tracked;
use crate::watch::latency::LatencyMonitor;
use crate::watch::monitor::Monitors;
use crate::watch::slowlog::SlowLog;
use moon_aof::{AofHandle, FsyncPolicy};
use moon_commands::{CommandId, Limits};
use moon_core::{Lsn, ShardCount};
use moon_repl::Clock;
use moon_resp::RequestLimits;
use moon_shard::mailbox::{ControlMessage, Directory};
use moon_shard::{FailingLogs, Memory, Pause, Shard};
use moon_store::Libraries;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, watch};

/// What SHUTDOWN asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShutdownRequest {
    /// Do not wait for lagging replicas.
    pub now: bool,
    /// Stop even if the last snapshot cannot be written.
    pub force: bool,
    /// Whether to write a snapshot; `None` does if there are save points.
    pub save: Option<bool>,
}

/// The server, shared by its threads.
pub struct Server {
    /// The configuration, for CONFIG.
    pub config: Arc<RuntimeConfig>,
    /// Values that hot code reads.
    pub settings: Arc<Settings>,
    /// What is counted.
    pub stats: Arc<ServerStats>,
    /// Who is connected.
    pub clients: Arc<Clients>,
    /// The clock of the history.
    pub clock: Arc<Clock>,
    /// The shards' mailboxes.
    pub directory: Directory,
    /// Number of shards.
    pub shards: ShardCount,
    /// Snapshots, and the log.
    pub persistence: Arc<Persistence>,
    /// What cannot be written to disk.
    pub failing_logs: Arc<FailingLogs>,
    /// What is known about memory.
    pub memory: Arc<Memory>,
    /// Who has subscribed to what.
    pub pubsub: Arc<Registry>,
    /// Who keeps copies of keys.
    pub tracking: Arc<Tracked>,
    /// Scripts and functions.
    pub(crate) scripts: Arc<Scripts>,
    /// The id of the history, as replicas know it.
    pub replication_id: String,
    /// The commands that took long.
    pub slowlog: SlowLog,
    /// What was slow.
    pub latency: LatencyMonitor,
    /// Who wants to see what runs.
    pub monitors: Monitors,
    /// Whether clients are paused.
    pub pause: Arc<Pause>,
    databases: u16,
    shutdown: Mutex<Option<ShutdownRequest>>,
    shutdown_requested: Notify,
    stopping: AtomicBool,
    ended: watch::Sender<bool>,
    pub(crate) commit_lag: Lag,
    pub(crate) durable_lag: Lag,
}

/// The parts of a [`Server`] that recovery makes.
pub struct Parts {
    /// See [`Server::config`].
    pub config: Arc<RuntimeConfig>,
    /// See [`Server::stats`].
    pub stats: Arc<ServerStats>,
    /// See [`Server::clients`].
    pub clients: Arc<Clients>,
    /// See [`Server::clock`].
    pub clock: Arc<Clock>,
    /// See [`Server::directory`].
    pub directory: Directory,
    /// See [`Server::shards`].
    pub shards: ShardCount,
    /// See [`Server::persistence`].
    pub persistence: Arc<Persistence>,
    /// See [`Server::replication_id`].
    pub replication_id: String,
    /// See [`Server::failing_logs`].
    pub failing_logs: Arc<FailingLogs>,
    /// See [`Server::memory`].
    pub memory: Arc<Memory>,
    /// The libraries of functions that recovery found.
    pub libraries: Libraries,
}

impl Server {
    /// A server that serves what `parts` hold.
    #[must_use]
    pub fn new(parts: Parts) -> Arc<Server> {
        let settings = parts.config.settings();
        let config = parts.config.snapshot();
        let (databases, slowlog) = (config.databases, SlowLog::new(config.slowlog_max_len));
        Arc::new(Server {
            settings,
            config: parts.config,
            stats: parts.stats,
            clients: parts.clients,
            clock: parts.clock,
            directory: parts.directory,
            shards: parts.shards,
            persistence: parts.persistence,
            failing_logs: parts.failing_logs,
            memory: parts.memory,
            pubsub: Arc::default(),
            tracking: Tracked::new(parts.shards),
            scripts: Scripts::new(parts.shards, parts.libraries),
            replication_id: parts.replication_id,
            slowlog,
            latency: LatencyMonitor::default(),
            monitors: Monitors::default(),
            pause: Arc::default(),
            databases: u16::try_from(databases).unwrap_or(u16::MAX),
            shutdown: Mutex::new(None),
            shutdown_requested: Notify::new(),
            stopping: AtomicBool::new(false),
            ended: watch::Sender::new(false),
            commit_lag: Lag::new(Instant::now()),
            durable_lag: Lag::new(Instant::now()),
        })
    }

    /// Number of databases.
    #[must_use]
    pub fn databases(&self) -> u16 {
        self.databases
    }

    /// Whether clients must authenticate.
    #[must_use]
    pub fn requires_password(&self) -> bool {
        self.settings.password_set.load(Relaxed)
    }

    /// Whether `password` is right for `user`; there is only the default user. Without
    /// `requirepass` every password of the default user is.
    #[must_use]
    pub fn accepts(&self, user: &[u8], password: &[u8]) -> bool {
        let config = self.config.snapshot();
        user == b"default"
            && (config.requirepass.is_empty()
                || equal_in_constant_time(password, config.requirepass.as_bytes()))
    }

    /// Limits of the request parser.
    #[inline]
    #[must_use]
    pub fn request_limits(&self, authenticated: bool) -> RequestLimits {
        let max_bulk_len = self.settings.proto_max_bulk_len.load(Relaxed);
        RequestLimits {
            max_bulk_len: usize::try_from(max_bulk_len).unwrap_or(usize::MAX),
            authenticated,
            ..RequestLimits::default()
        }
    }

    /// Whether one pipeline keeps Redis's full program order.
    #[inline]
    #[must_use]
    pub fn strict_order(&self) -> bool {
        self.settings.pipeline_strict()
    }

    /// Bytes came in from a client.
    #[inline]
    pub fn received(&self, shard: &Shard, client: &ClientHandle, bytes: usize) {
        client.touch(self.clients.now_ms());
        let stats = self.stats.shard(shard.id().index());
        stats.net_input_bytes.add(bytes as u64);
        stats.reads.add(1);
    }

    /// Bytes went out to a client.
    #[inline]
    pub fn sent(&self, shard: &Shard, bytes: u64) {
        if bytes > 0 {
            let stats = self.stats.shard(shard.id().index());
            stats.net_output_bytes.add(bytes);
            stats.writes.add(1);
        }
    }

    /// A server command ran on `shard`'s thread; it is counted under `id`
    /// ([`moon_commands::stat_id`]).
    pub fn note_command(
        &self,
        shard: &Shard,
        id: CommandId,
        taken: Duration,
        error: Option<String>,
    ) {
        let stats = self.stats.shard(shard.id().index());
        let nanos = u64::try_from(taken.as_nanos()).unwrap_or(u64::MAX);
        stats.record_command(id, 1, nanos);
        stats.noted_nanos.set(nanos);
        if let Some(text) = error {
            stats.record_failed(id);
            self.stats.record_error(error_code(&text));
        }
    }

    /// A command was refused before it ran; it is counted under `command`.
    pub fn note_refusal(&self, shard: &Shard, command: Option<CommandId>, text: &str) {
        if let Some(id) = command {
            self.stats.shard(shard.id().index()).record_rejected(id);
        }
        self.stats.record_error(error_code(text));
    }

    /// CONFIG SET. Returns what must be durable before the client is told that it is done: zero,
    /// or for `appendfsync always` all that was written before.
    ///
    /// # Errors
    /// The error reply; nothing has changed.
    pub fn config_set(&self, pairs: &[&[u8]]) -> Result<Lsn, String> {
        let mut durable_first = Lsn::ZERO;
        let apply = |_: &Config, next: &Config, names: &[&'static str]| {
            // The switch itself comes before this: it takes its time.
            if names.contains(&"appendonly") && next.appendonly != self.persistence.aof().is_some()
            {
                return Err((
                    "appendonly",
                    "not available inside a transaction".to_owned(),
                ));
            }
            if names.contains(&"appendfsync")
                && let Some(log) = self.persistence.aof()
            {
                durable_first = self.set_fsync_policy(&log, next.appendfsync.policy());
                tracing::info!("{}", next.durability_line());
            }
            Ok(())
        };
        self.config.set(pairs, apply).map_err(|e| e.to_string())?;
        self.slowlog
            .set_len_max(self.config.snapshot().slowlog_max_len);
        self.persistence.note_refusal();
        let limits = Arc::new(limits_of(&self.config.snapshot()));
        for shard in self.shards.ids() {
            let limits = Arc::clone(&limits);
            let set = Box::new(move |shard: &std::rc::Rc<Shard>| shard.set_limits(limits));
            self.directory
                .of(shard)
                .send_control(ControlMessage::Run(set));
        }
        Ok(durable_first)
    }

    fn set_fsync_policy(&self, log: &AofHandle, policy: FsyncPolicy) -> Lsn {
        log.set_policy(policy);
        // Read after the switch: whatever is issued later waits for its sync by itself.
        match policy {
            FsyncPolicy::Always => self.clock.head(),
            FsyncPolicy::EverySec | FsyncPolicy::No => Lsn::ZERO,
        }
    }

    /// Ends connections that said nothing for longer than `timeout`.
    pub fn close_idle_clients(&self) {
        let timeout_ms = u64::from(self.settings.timeout_s.load(Relaxed)) * 1000;
        if timeout_ms == 0 {
            return;
        }
        let now = self.clients.now_ms();
        for client in self.clients.all() {
            // Subscribers listen; they need not speak.
            if client.idle_ms(now) > timeout_ms && !client.has_flag(ClientFlags::PubSub) {
                client.kill();
            }
        }
    }

    /// Ends clients, the largest first, while all of them hold more than `maxmemory-clients`.
    pub fn evict_clients(&self) {
        let limit = self.settings.client_memory_max.load(Relaxed);
        if limit > 0 {
            self.stats.clients_evicted(self.clients.evict(limit));
        }
    }

    /// Asks the server to stop; the first request counts.
    pub fn request_shutdown(&self, request: ShutdownRequest) {
        let mut shutdown = self.shutdown.lock().unwrap_or_else(PoisonError::into_inner);
        shutdown.get_or_insert(request);
        self.shutdown_requested.notify_one();
    }

    /// Waits until the server was asked to stop.
    pub async fn shutdown_requested(&self) -> ShutdownRequest {
        loop {
            if let Some(request) = *self.shutdown.lock().unwrap_or_else(PoisonError::into_inner) {
                return request;
            }
            self.shutdown_requested.notified().await;
        }
    }

    /// From now on connections end once their replies have left.
    pub fn begin_stop(&self) {
        self.stopping.store(true, Relaxed);
        self.clients.kill_all();
    }

    /// The stop did not come off: connections are taken again.
    pub fn resume(&self) {
        let mut shutdown = self.shutdown.lock().unwrap_or_else(PoisonError::into_inner);
        *shutdown = None;
        self.stopping.store(false, Relaxed);
    }

    /// Connections are gone: the shards' threads end.
    pub fn end_shards(&self) {
        self.ended.send_replace(true);
    }

    /// Waits for [`Server::end_shards`].
    pub async fn shards_ended(&self) {
        let mut ended = self.ended.subscribe();
        // The sender lives as long as the server, which the caller holds.
        drop(ended.wait_for(|ended| *ended).await);
    }

    /// Whether the server is on its way down.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Relaxed)
    }
}

/// The bounds and thresholds that commands see.
#[must_use]
pub fn limits_of(config: &Config) -> Limits {
    let size = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    Limits {
        max_bulk_len: size(config.proto_max_bulk_len),
        hash_max_listpack_entries: size(config.hash_max_listpack_entries),
        hash_max_listpack_value: size(config.hash_max_listpack_value),
        list_max_listpack_size: config.list_max_listpack_size,
        list_compress_depth: size(config.list_compress_depth),
        set_max_intset_entries: size(config.set_max_intset_entries),
        set_max_listpack_entries: size(config.set_max_listpack_entries),
        set_max_listpack_value: size(config.set_max_listpack_value),
        stream_node_max_bytes: size(config.stream_node_max_bytes),
        stream_node_max_entries: size(config.stream_node_max_entries),
        zset_max_listpack_entries: size(config.zset_max_listpack_entries),
        zset_max_listpack_value: size(config.zset_max_listpack_value),
        maxmemory: config.maxmemory,
        maxmemory_policy: config.maxmemory_policy,
        maxmemory_samples: size(config.maxmemory_samples.into()),
        maxmemory_eviction_tenacity: config.maxmemory_eviction_tenacity,
        lfu_log_factor: config.lfu_log_factor,
        lfu_decay_time: config.lfu_decay_time,
        hll_sparse_max_bytes: size(config.hll_sparse_max_bytes),
        notify_keyspace_events: config.notify_keyspace_events,
        tracking_table_max_keys: size(config.tracking_table_max_keys),
    }
}

/// The first word of an error, as INFO errorstats counts it.
fn error_code(text: &str) -> &str {
    text.split(' ').next().unwrap_or("ERR")
}

/// Compares without telling by its time how much was right.
fn equal_in_constant_time(a: &[u8], b: &[u8]) -> bool {
    let mut difference = a.len() ^ b.len();
    for i in 0..a.len().max(b.len()) {
        let (x, y) = (a.get(i).unwrap_or(&0), b.get(i).unwrap_or(&0));
        difference |= usize::from(x ^ y);
    }
    difference == 0
}
