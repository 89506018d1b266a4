//! The configuration: one table of directives for flags, file, CONFIG GET and CONFIG SET.
//!
//! * [`value`]: reading one value, strictly.
//! * [`table`]: every directive this server has, with its default and its place in [`Config`].
//! * [`redis`]: a verdict for every directive that Redis has and this server does not.
//! * [`file`](mod@file): the redis.conf syntax, `include` too.
//! * [`cli`]: flags, and flags over file over defaults.
//! * [`runtime`]: CONFIG GET and SET, and [`Settings`], the values that hot code reads.
//! * [`error`]: what is printed when any of this fails.

pub mod cli;
pub mod error;
pub mod file;
pub mod output_limits;
pub mod redis;
pub mod runtime;
pub mod table;
pub mod value;

pub use cli::{Loaded, Outcome, load};
pub use error::{ConfigError, Origin};
pub use output_limits::{OutputClass, OutputLimit, OutputLimits, OutputLimitsInForce};
pub use runtime::{RuntimeConfig, SetError, Settings};
pub use value::{ClientMemory, Invalid};

use moon_aof::FsyncPolicy;
use moon_commands::notify::Class;
use moon_core::ShardCount;
use moon_store::EvictionPolicy;
use std::path::PathBuf;

/// When appended bytes are synced: what an acknowledged write survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum AppendFsync {
    /// Synced about once a second: survives SIGKILL; a power loss may cost the last second.
    Everysec = 0,
    /// Synced before the reply: survives power loss.
    Always = 1,
    /// Left to the kernel: survives SIGKILL; a power loss may cost what the kernel still held.
    No = 2,
}

/// The words of [`AppendFsync`], in its order.
pub const APPENDFSYNC_WORDS: &[&str] = &["everysec", "always", "no"];

impl AppendFsync {
    /// The word in the configuration.
    #[must_use]
    pub fn word(self) -> &'static str {
        APPENDFSYNC_WORDS[self as usize]
    }

    /// The same for the log.
    #[must_use]
    pub fn policy(self) -> FsyncPolicy {
        match self {
            AppendFsync::Always => FsyncPolicy::Always,
            AppendFsync::Everysec => FsyncPolicy::EverySec,
            AppendFsync::No => FsyncPolicy::No,
        }
    }
}

/// Order of commands inside one pipeline that is not answered yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum PipelineOrder {
    /// Commands to different shards may run in parallel.
    Relaxed = 0,
    /// Redis's full program order.
    Strict = 1,
}

/// What happens when a script asks for a key of a shard that it did not declare, and whose data it
/// does not have in hand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UndeclaredKeys {
    /// A script that has not written runs again with all shards.
    #[default]
    Retry,
    /// Scripts run with all shards from the beginning.
    All,
    /// The command is refused.
    Refuse,
}

/// The words of [`UndeclaredKeys`], in its order.
pub const UNDECLARED_KEYS_WORDS: &[&str] = &["retry", "all", "refuse"];

/// The words of [`PipelineOrder`], in its order.
pub const PIPELINE_ORDER_WORDS: &[&str] = &["relaxed", "strict"];

/// Who may use DEBUG.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum DebugCommand {
    /// Nobody.
    No = 0,
    /// Everybody.
    Yes = 1,
    /// Clients on this machine: of the loopback addresses, or of the Unix socket.
    Local = 2,
}

/// The words of [`DebugCommand`], in its order.
pub const DEBUG_COMMAND_WORDS: &[&str] = &["no", "yes", "local"];

/// How much is logged: a level prints itself and everything after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum LogLevel {
    /// Everything.
    Debug = 0,
    /// Much that is rarely needed.
    Verbose = 1,
    /// What production wants to know.
    Notice = 2,
    /// Only what is wrong.
    Warning = 3,
    /// Nothing.
    Nothing = 4,
}

/// The words of [`LogLevel`], in its order.
pub const LOGLEVEL_WORDS: &[&str] = &["debug", "verbose", "notice", "warning", "nothing"];

/// The words of `maxmemory-policy`, as Redis lists them.
pub const MAXMEMORY_POLICY_WORDS: &[&str] = &[
    "volatile-lru",
    "volatile-lfu",
    "volatile-random",
    "volatile-ttl",
    "allkeys-lru",
    "allkeys-lfu",
    "allkeys-random",
    "noeviction",
];

/// What the words mean, in the same order.
pub const MAXMEMORY_POLICIES: [EvictionPolicy; 8] = [
    EvictionPolicy::VolatileLru,
    EvictionPolicy::VolatileLfu,
    EvictionPolicy::VolatileRandom,
    EvictionPolicy::VolatileTtl,
    EvictionPolicy::AllKeysLru,
    EvictionPolicy::AllKeysLfu,
    EvictionPolicy::AllKeysRandom,
    EvictionPolicy::NoEviction,
];

/// The word for a policy.
#[must_use]
pub fn maxmemory_policy_word(policy: EvictionPolicy) -> &'static str {
    let at = MAXMEMORY_POLICIES.iter().position(|p| *p == policy);
    MAXMEMORY_POLICY_WORDS[at.unwrap_or(0)]
}

/// `save`: a dump is due after so many seconds if there were at least so many changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SavePoint {
    /// Seconds since the last dump.
    pub seconds: u64,
    /// Changes since then.
    pub changes: u64,
}

/// What Redis does unless told otherwise.
const DEFAULT_SAVE: [SavePoint; 3] = [
    SavePoint {
        seconds: 3600,
        changes: 1,
    },
    SavePoint {
        seconds: 300,
        changes: 100,
    },
    SavePoint {
        seconds: 60,
        changes: 10_000,
    },
];

/// Every setting of one server. [`table::DIRECTIVES`] says how each is read and printed.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// TCP port; 0 means no TCP.
    pub port: u16,
    /// Addresses to listen on, in Redis's notation: `*`, `::*`, a leading `-` for "if possible".
    pub bind: Vec<String>,
    /// Unix socket path, if any.
    pub unixsocket: Option<PathBuf>,
    /// File mode of the Unix socket; 0 leaves what the umask gives.
    pub unixsocketperm: u32,
    /// Backlog of `listen`.
    pub tcp_backlog: u32,
    /// Seconds between keepalive probes; 0 means none.
    pub tcp_keepalive_s: u32,
    /// Most clients at a time.
    pub maxclients: u32,
    /// Seconds after which an idle client is closed; 0 means never.
    pub timeout_s: u32,
    /// Refuse clients from other hosts while there is no password and no explicit `bind`.
    pub protected_mode: bool,
    /// Who may use DEBUG.
    pub enable_debug_command: DebugCommand,
    /// Password of the default user; empty means none.
    pub requirepass: String,
    /// Directory of all data; `./data` unless set.
    pub dir: PathBuf,
    /// Shards; `None` means as the directory has, or the default for a new one.
    pub shards: Option<ShardCount>,
    /// Number of databases.
    pub databases: u32,
    /// Whether writes are logged.
    pub appendonly: bool,
    /// When the log is synced.
    pub appendfsync: AppendFsync,
    /// Folder of the log inside `dir`.
    pub appenddirname: String,
    /// Whether the process takes no transparent huge pages.
    pub disable_thp: bool,
    /// Whether a torn tail is truncated at start; if not, the start is refused.
    pub aof_load_truncated: bool,
    /// Growth of the log over what the last rewrite left, in percent, at which the next one
    /// starts by itself; 0 means never.
    pub auto_aof_rewrite_percentage: u32,
    /// Size of the log below which no rewrite starts by itself.
    pub auto_aof_rewrite_min_size: u64,
    /// Superseded generations of the log that are kept for a restore.
    pub aof_keep_generations: u32,
    /// Where generations go that are not kept in place; empty deletes them.
    pub aof_archive_dir: String,
    /// When a dump is written by itself; `None` is the default, see [`Config::save_points`].
    pub save: Option<Vec<SavePoint>>,
    /// Name of the dump in `dir`.
    pub dbfilename: String,
    /// Whether long strings of a dump are compressed.
    pub rdbcompression: bool,
    /// Refuse writes while dumps are configured and the last one failed.
    pub stop_writes_on_bgsave_error: bool,
    /// Rewrite the directory for another shard count at start.
    pub reshard_on_start: bool,
    /// Bytes by which a segment is allocated ahead; 0 means not at all.
    pub aof_preallocate_size: u64,
    /// Bound of what each shard has executed and not yet committed.
    pub inflight_max_bytes: u64,
    /// Program order inside a pipeline.
    pub pipeline_order: PipelineOrder,
    /// Keys for which the tables make room at start; 0 means none.
    pub initial_keyspace_hint: u64,
    /// Longest bulk string in a request.
    pub proto_max_bulk_len: u64,
    /// Most bytes of one client's unfinished request.
    pub client_query_buffer_limit: u64,
    /// How much a client of each class may leave unread.
    pub client_output_buffer_limit: OutputLimits,
    /// Hash: entries in the compact form.
    pub hash_max_listpack_entries: u64,
    /// Hash: longest field or value in the compact form.
    pub hash_max_listpack_value: u64,
    /// List: node size in the compact form; negative values are Redis's size classes.
    pub list_max_listpack_size: i64,
    /// List: nodes at each end that are not compressed, 0 for all.
    pub list_compress_depth: u64,
    /// Set: integers in the compact form.
    pub set_max_intset_entries: u64,
    /// Set: members in the compact form.
    pub set_max_listpack_entries: u64,
    /// Set: longest member in the compact form.
    pub set_max_listpack_value: u64,
    /// Sorted set: members in the compact form.
    pub zset_max_listpack_entries: u64,
    /// Sorted set: longest member in the compact form.
    pub zset_max_listpack_value: u64,
    /// Stream: bytes that a block of entries stays below.
    pub stream_node_max_bytes: u64,
    /// Stream: entries of a block.
    pub stream_node_max_entries: u64,
    /// Bytes that the instance may use; 0 means no limit.
    pub maxmemory: u64,
    /// What all clients together may hold.
    pub maxmemory_clients: ClientMemory,
    /// What goes when they are used up.
    pub maxmemory_policy: EvictionPolicy,
    /// Keys looked at for each that goes.
    pub maxmemory_samples: u32,
    /// How long a command may be held up by evictions, 0 to 100.
    pub maxmemory_eviction_tenacity: u32,
    /// How slowly the counter of uses grows.
    pub lfu_log_factor: u32,
    /// Minutes after which the counter of uses is counted down by one; 0 means never.
    pub lfu_decay_time: u32,
    /// Which events on keys clients are told of.
    pub notify_keyspace_events: Class,
    /// Keys of which clients keep copies; 0 means no limit.
    pub tracking_table_max_keys: u64,
    /// Accepted: evicted values are always freed lazily if they are large.
    pub lazyfree_lazy_eviction: bool,
    /// Accepted, as above: expired values.
    pub lazyfree_lazy_expire: bool,
    /// Accepted, as above: values that a command overwrites.
    pub lazyfree_lazy_server_del: bool,
    /// Accepted, as above: DEL.
    pub lazyfree_lazy_user_del: bool,
    /// Accepted, as above: FLUSHALL and FLUSHDB.
    pub lazyfree_lazy_user_flush: bool,
    /// HyperLogLog: longest string in the sparse encoding, header included.
    pub hll_sparse_max_bytes: u64,
    /// Milliseconds after which a script makes everybody else be answered BUSY; 0 means never.
    pub busy_reply_threshold_ms: u64,
    /// What scripts may do with keys of other shards that they did not declare.
    pub script_undeclared_keys: UndeclaredKeys,
    /// Background work per second.
    pub hz: u32,
    /// Share of time for active expiry, 1 to 10.
    pub active_expire_effort: u32,
    /// Microseconds from which on a command enters the slow log; negative means none does.
    pub slowlog_log_slower_than: i64,
    /// Entries of the slow log.
    pub slowlog_max_len: u64,
    /// Milliseconds from which on the latency monitor keeps what was slow; 0 means nothing.
    pub latency_monitor_threshold: u64,
    /// Whether INFO and LATENCY HISTOGRAM show how long commands took.
    pub latency_tracking: bool,
    /// The percentiles that INFO shows.
    pub latency_tracking_info_percentiles: Vec<f64>,
    /// Port of the metrics listener; `None` means off.
    pub metrics_port: Option<u16>,
    /// Address of the metrics listener.
    pub metrics_bind: std::net::IpAddr,
    /// How much is logged.
    pub loglevel: LogLevel,
    /// Log file; empty means standard output.
    pub logfile: String,
    /// File that holds the process id while the server runs; empty means none.
    pub pidfile: String,
    /// `--check-config`: run every check of a start, then exit.
    pub check_config: bool,
    /// The configuration file in force, absolute; empty if none.
    pub config_file: String,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            port: 6379,
            bind: vec!["*".to_owned(), "-::*".to_owned()],
            unixsocket: None,
            unixsocketperm: 0,
            tcp_backlog: 511,
            tcp_keepalive_s: 300,
            maxclients: 10_000,
            timeout_s: 0,
            protected_mode: true,
            enable_debug_command: DebugCommand::No,
            requirepass: String::new(),
            dir: PathBuf::from("./data"),
            shards: None,
            databases: 16,
            appendonly: true,
            appendfsync: AppendFsync::Everysec,
            appenddirname: "appendonlydir".to_owned(),
            disable_thp: true,
            aof_load_truncated: true,
            auto_aof_rewrite_percentage: 100,
            auto_aof_rewrite_min_size: 64 << 20,
            aof_keep_generations: 0,
            aof_archive_dir: String::new(),
            save: None,
            dbfilename: "dump.rdb".to_owned(),
            rdbcompression: true,
            stop_writes_on_bgsave_error: true,
            reshard_on_start: false,
            aof_preallocate_size: 16 << 20,
            inflight_max_bytes: 64 << 20,
            pipeline_order: PipelineOrder::Relaxed,
            initial_keyspace_hint: 0,
            proto_max_bulk_len: 512 << 20,
            client_query_buffer_limit: 1 << 30,
            client_output_buffer_limit: OutputLimits::default(),
            hash_max_listpack_entries: 512,
            hash_max_listpack_value: 64,
            list_max_listpack_size: -2,
            list_compress_depth: 0,
            set_max_intset_entries: 512,
            set_max_listpack_entries: 128,
            set_max_listpack_value: 64,
            zset_max_listpack_entries: 128,
            zset_max_listpack_value: 64,
            stream_node_max_bytes: 4096,
            stream_node_max_entries: 100,
            maxmemory: 0,
            maxmemory_clients: ClientMemory::Bytes(0),
            maxmemory_policy: EvictionPolicy::NoEviction,
            maxmemory_samples: 5,
            maxmemory_eviction_tenacity: 10,
            lfu_log_factor: 10,
            lfu_decay_time: 1,
            notify_keyspace_events: Class::empty(),
            tracking_table_max_keys: 1_000_000,
            lazyfree_lazy_eviction: false,
            lazyfree_lazy_expire: false,
            lazyfree_lazy_server_del: false,
            lazyfree_lazy_user_del: false,
            lazyfree_lazy_user_flush: false,
            hll_sparse_max_bytes: 3000,
            busy_reply_threshold_ms: 5000,
            script_undeclared_keys: UndeclaredKeys::Retry,
            hz: 10,
            active_expire_effort: 1,
            slowlog_log_slower_than: 10_000,
            slowlog_max_len: 128,
            latency_monitor_threshold: 0,
            latency_tracking: true,
            latency_tracking_info_percentiles: vec![50.0, 99.0, 99.9],
            metrics_port: None,
            metrics_bind: std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST),
            loglevel: LogLevel::Notice,
            logfile: String::new(),
            pidfile: String::new(),
            check_config: false,
            config_file: String::new(),
        }
    }
}

impl Config {
    /// The save points in force. Unless they are set they are those of Redis without a log, and
    /// none with one: it holds every write.
    #[must_use]
    pub fn save_points(&self) -> &[SavePoint] {
        match &self.save {
            Some(points) => points,
            None if self.appendonly => &[],
            None => &DEFAULT_SAVE,
        }
    }

    /// One line that says what an acknowledged write survives with these settings.
    #[must_use]
    pub fn durability_line(&self) -> String {
        if !self.appendonly && self.save_points().is_empty() {
            return "Durability: appendonly no, nothing is kept on disk; all data is lost when \
                    the process ends"
                .to_owned();
        }
        if !self.appendonly {
            return format!(
                "Durability: appendonly no, snapshots in {} at save {}; a crash loses what was \
                 written since the last one",
                self.dir.join(&self.dbfilename).display(),
                table::show_save(self)
            );
        }
        let survives = match self.appendfsync {
            AppendFsync::Always => {
                "every acknowledged write is synced first and survives SIGKILL and power loss"
            }
            AppendFsync::Everysec => {
                "every acknowledged write survives SIGKILL; a power loss may cost about the last \
                 second, as a clean prefix"
            }
            AppendFsync::No => {
                "every acknowledged write survives SIGKILL; a power loss may cost what the kernel \
                 had not written yet, as a clean prefix"
            }
        };
        format!(
            "Durability: appendonly yes, appendfsync {}, in {}: {survives}",
            self.appendfsync.word(),
            self.dir.join(&self.appenddirname).display()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durability_line_names_policy_and_place() {
        let mut config = Config::default();
        assert!(
            config
                .durability_line()
                .contains("everysec, in ./data/appendonlydir")
        );
        config.appendonly = false;
        assert!(config.durability_line().contains("since the last one"));
        config.save = Some(Vec::new());
        assert!(config.durability_line().contains("all data is lost"));
    }
}
