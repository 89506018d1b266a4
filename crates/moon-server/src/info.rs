//! INFO: Redis's sections and field names from plain numbers. No clock and no I/O here, so that
//! every field can be tested; [`process_memory`] and [`process_cpu`] read what the kernel knows.

use crate::persistence::PersistenceInfo;
use crate::stats::{CommandTotals, DbTotals, RatesNow, Totals};
use moon_aof::LogFailure;
use moon_repl::LogHealth;
use std::fmt::Write as _;
use std::time::Duration;

/// The version of Redis whose behaviour clients may expect.
pub const REDIS_VERSION: &str = "7.2.0";

/// Everything INFO prints. Times are seconds unless the name says otherwise.
#[derive(Clone, Debug, Default)]
#[expect(missing_docs, reason = "the field names are the words of INFO")]
pub struct InfoSource {
    pub os: String,
    pub process_id: u32,
    pub run_id: String,
    pub tcp_port: u16,
    pub now_us: u64,
    pub uptime_s: u64,
    pub hz: u32,
    pub executable: String,
    pub config_file: String,
    pub shards: u16,

    pub connected_clients: u64,
    pub maxclients: u32,
    pub blocked_clients: u64,
    pub watching_clients: u64,

    pub memory: MemoryInfo,
    /// Bytes that shards have executed and not yet committed.
    pub aof_inflight_bytes: u64,

    /// `Some((done, total))` in bytes while the log is replayed.
    pub loading: Option<(u64, u64)>,
    pub loading_start_s: u64,
    pub persistence: PersistenceInfo,
    /// `None` with `appendonly no`.
    pub aof: Option<AofInfo>,

    pub totals: Totals,
    /// Time beyond the memory limit, in milliseconds: in all, and without a break until now.
    pub eviction_exceeded_ms: (u64, u64),
    pub rates: RatesNow,
    pub connections_received: u64,
    pub rejected_connections: u64,
    pub turns: u64,
    pub frames: u64,

    pub replid: String,
    /// The head of the history: the next LSN.
    pub lsn_head: u64,
    pub lsn_committed: u64,
    pub recovery_us: u64,
    pub recovery_truncated_bytes: u64,

    pub cpu: CpuTimes,
    /// Name (subcommands as `config|get`) and counts of each command.
    pub commands: Vec<(String, CommandTotals)>,
    pub errors: Vec<(String, u64)>,
    pub databases: Vec<DbTotals>,
}

/// What INFO prints about the log.
#[derive(Clone, Debug, Default)]
#[expect(missing_docs, reason = "the field names are the words of INFO")]
pub struct AofInfo {
    pub fsync_policy: &'static str,
    pub current_size: u64,
    pub base_size: u64,
    pub last_write_ok: bool,
    pub pending_syncs: u64,
    pub delayed_syncs: u64,
    pub sync_failures: u64,
    pub append_failures: u64,
    /// The failure that stops writes now.
    pub failure: Option<LogFailure>,
    /// Age of the longest sync that runs now, in milliseconds.
    pub sync_running_ms: u64,
    pub lsn_written: u64,
    pub lsn_durable: u64,
    /// Age of the oldest acknowledged byte that a power loss would cost now, in milliseconds.
    pub ms_at_risk: u64,
    /// The shard whose frame holds up `committed`; `None` if nothing waits.
    pub holding_up_shard: Option<u16>,
}

/// CPU time in microseconds.
#[derive(Clone, Copy, Debug, Default)]
#[expect(missing_docs, reason = "the words of INFO")]
pub struct CpuTimes {
    pub sys_us: u64,
    pub user_us: u64,
}

/// One section of INFO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the words of INFO")]
pub enum Section {
    Server,
    Clients,
    Memory,
    Persistence,
    Stats,
    Replication,
    Cpu,
    Modules,
    Commandstats,
    Errorstats,
    Latencystats,
    Cluster,
    Keyspace,
}

/// Section, title, whether it is part of the default, how it is printed; in Redis's order.
type Row = (Section, &'static str, bool, fn(&InfoSource, &mut String));

const SECTIONS: &[Row] = &[
    (Section::Server, "Server", true, server),
    (Section::Clients, "Clients", true, clients),
    (Section::Memory, "Memory", true, memory),
    (Section::Persistence, "Persistence", true, persistence),
    (Section::Stats, "Stats", true, stats),
    (Section::Replication, "Replication", true, replication),
    (Section::Cpu, "CPU", true, cpu),
    (Section::Modules, "Modules", true, |_, _| {}),
    (Section::Commandstats, "Commandstats", false, commandstats),
    (Section::Errorstats, "Errorstats", true, errorstats),
    (Section::Latencystats, "Latencystats", false, latencystats),
    (Section::Cluster, "Cluster", true, |_, s| {
        put(s, "cluster_enabled", 0)
    }),
    (Section::Keyspace, "Keyspace", true, keyspace),
];

/// Which sections the words after INFO ask for. Unknown words ask for nothing, as in Redis.
#[must_use]
pub fn sections(args: &[&[u8]]) -> Vec<Section> {
    let default_only = args.is_empty();
    let wanted = |row: &&Row| {
        (default_only && row.2)
            || args
                .iter()
                .any(|arg| match arg.to_ascii_lowercase().as_slice() {
                    b"default" => row.2,
                    b"all" => row.0 != Section::Modules,
                    b"everything" => true,
                    name => name.eq_ignore_ascii_case(row.1.as_bytes()),
                })
    };
    SECTIONS.iter().filter(wanted).map(|row| row.0).collect()
}

/// Whether one of the sections tells of data, so that it must not run ahead of the log.
#[must_use]
pub fn shows_data(sections: &[Section]) -> bool {
    sections.contains(&Section::Keyspace)
}

/// The text of INFO for these sections.
#[must_use]
pub fn render(source: &InfoSource, sections: &[Section]) -> String {
    let mut s = String::with_capacity(4096);
    for (section, title, _, print) in SECTIONS {
        if !sections.contains(section) {
            continue;
        }
        if !s.is_empty() {
            s.push_str("\r\n");
        }
        // Writing to a String cannot fail.
        let _infallible = write!(s, "# {title}\r\n");
        print(source, &mut s);
    }
    s
}

fn put(s: &mut String, name: &str, value: impl std::fmt::Display) {
    // Writing to a String cannot fail.
    let _infallible = write!(s, "{name}:{value}\r\n");
}

/// Prints each `name: value` pair.
macro_rules! fields {
    ($s:expr, $($name:literal: $value:expr),+ $(,)?) => { $( put($s, $name, $value); )+ };
}

/// Fields of machinery that does not exist here, so that whoever reads them finds them.
fn zeros(s: &mut String, names: &[&str]) {
    for name in names {
        put(s, name, 0);
    }
}

fn server(i: &InfoSource, s: &mut String) {
    fields!(s,
        "redis_version": REDIS_VERSION,
        "redis_git_sha1": "00000000",
        "redis_git_dirty": 0,
        "redis_build_id": 0,
        "redis_mode": "standalone",
        "server_name": "moon",
        "moon_version": env!("CARGO_PKG_VERSION"),
        "moon_shards": i.shards,
        "os": &i.os,
        "arch_bits": usize::BITS,
        "monotonic_clock": "POSIX clock_gettime",
        "multiplexing_api": "epoll",
        "process_id": i.process_id,
        "process_supervised": "no",
        "run_id": &i.run_id,
        "tcp_port": i.tcp_port,
        "server_time_usec": i.now_us,
        "uptime_in_seconds": i.uptime_s,
        "uptime_in_days": i.uptime_s / 86_400,
        "hz": i.hz,
        "configured_hz": i.hz,
        "lru_clock": (i.now_us / 1_000_000) & 0xff_ffff,
        "executable": &i.executable,
        "config_file": &i.config_file,
        "io_threads_active": 0,
    );
}

fn clients(i: &InfoSource, s: &mut String) {
    fields!(s,
        "connected_clients": i.connected_clients,
        "cluster_connections": 0,
        "maxclients": i.maxclients,
        "client_recent_max_input_buffer": 0,
        "client_recent_max_output_buffer": 0,
        "blocked_clients": i.blocked_clients,
        "tracking_clients": 0,
        "pubsub_clients": 0,
        "watching_clients": i.watching_clients,
        "clients_in_timeout_table": 0,
        "total_blocking_keys": 0,
        "total_blocking_keys_on_nokey": 0,
    );
}

fn memory(i: &InfoSource, s: &mut String) {
    let m = &i.memory;
    fields!(s,
        "used_memory": m.used,
        "used_memory_human": human(m.used),
        "used_memory_rss": m.rss,
        "used_memory_rss_human": human(m.rss),
        "used_memory_peak": m.peak,
        "used_memory_peak_human": human(m.peak),
        "used_memory_peak_perc": percent(m.used, m.peak),
        "used_memory_overhead": m.overhead(),
        "used_memory_startup": m.startup,
        "used_memory_dataset": m.dataset(),
        "used_memory_dataset_perc": percent(m.dataset(), m.used.saturating_sub(m.startup)),
        "allocator_allocated": m.used,
        "allocator_active": m.committed,
        "allocator_resident": m.rss,
        "total_system_memory": m.total_system,
        "total_system_memory_human": human(m.total_system),
    );
    zeros(
        s,
        &[
            "used_memory_lua",
            "used_memory_vm_eval",
            "used_memory_scripts_eval",
            "number_of_cached_scripts",
            "number_of_functions",
            "number_of_libraries",
            "used_memory_vm_functions",
            "used_memory_vm_total",
            "used_memory_functions",
            "used_memory_scripts",
        ],
    );
    fields!(s,
        "maxmemory": m.maxmemory,
        "maxmemory_human": human(m.maxmemory),
        "maxmemory_policy": m.policy,
        "allocator_frag_ratio": ratio(m.committed, m.used),
        "allocator_frag_bytes": m.committed.saturating_sub(m.used),
        "allocator_rss_ratio": ratio(m.rss, m.committed),
        "allocator_rss_bytes": difference(m.rss, m.committed),
        "rss_overhead_ratio": "1.00",
        "rss_overhead_bytes": 0,
        "mem_fragmentation_ratio": ratio(m.rss, m.used),
        "mem_fragmentation_bytes": difference(m.rss, m.used),
        "mem_not_counted_for_evict": m.not_counted,
        "mem_replication_backlog": 0,
        "mem_total_replication_buffers": 0,
        "mem_clients_slaves": 0,
        "mem_clients_normal": m.clients,
        "mem_cluster_links": 0,
        "mem_aof_buffer": i.aof_inflight_bytes,
        "mem_allocator": "mimalloc",
        "active_defrag_running": 0,
        "lazyfree_pending_objects": m.lazyfree_pending,
        "lazyfreed_objects": m.lazyfreed,
    );
}

/// What is known about memory, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct MemoryInfo {
    /// Set aside by the allocator: all of it.
    pub used: u64,
    /// The highest `used` seen.
    pub peak: u64,
    /// `used` before any data was loaded.
    pub startup: u64,
    /// Resident, as the kernel counts.
    pub rss: u64,
    /// What the allocator has of the operating system.
    pub committed: u64,
    /// The machine's memory.
    pub total_system: u64,
    /// Tables of keys.
    pub keyspace: u64,
    /// What keys and values own outside the tables.
    pub values: u64,
    /// Tables of deadlines.
    pub expiry: u64,
    /// Buffers of clients.
    pub clients: u64,
    /// What the log has not written or made safe yet.
    pub aof_in_flight: u64,
    /// What does not count towards the limit.
    pub not_counted: u64,
    /// `maxmemory`; 0 means none.
    pub maxmemory: u64,
    /// `maxmemory-policy`.
    pub policy: &'static str,
    /// Values that wait to be dropped.
    pub lazyfree_pending: u64,
    /// Values that were dropped so.
    pub lazyfreed: u64,
}

impl MemoryInfo {
    /// What the server needs beside keys and values.
    #[must_use]
    pub fn overhead(&self) -> u64 {
        self.startup + self.keyspace + self.expiry + self.clients + self.aof_in_flight
    }

    /// Keys and values.
    #[must_use]
    pub fn dataset(&self) -> u64 {
        self.used.saturating_sub(self.overhead())
    }
}

/// `a - b`, which may be negative.
fn difference(a: u64, b: u64) -> i64 {
    a.cast_signed().saturating_sub(b.cast_signed())
}

fn persistence(i: &InfoSource, s: &mut String) {
    let p = &i.persistence;
    let (keys_done, keys_total) = p.keys.unwrap_or_default();
    put(s, "loading", u8::from(i.loading.is_some()));
    zeros(
        s,
        &[
            "async_loading",
            "current_cow_peak",
            "current_cow_size",
            "current_cow_size_age",
        ],
    );
    fields!(s,
        "current_fork_perc": percent(keys_done, keys_total).trim_end_matches('%'),
        "current_save_keys_processed": keys_done,
        "current_save_keys_total": keys_total,
        "rdb_changes_since_last_save": p.changes_since_save,
        "rdb_bgsave_in_progress": u8::from(p.save.running_for.is_some()),
        "rdb_last_save_time": p.last_save_s,
        "rdb_last_bgsave_status": status(p.save.last_ok),
        "rdb_last_bgsave_time_sec": seconds_or_none(p.save.last_taken),
        "rdb_current_bgsave_time_sec": seconds_or_none(p.save.running_for),
        "rdb_saves": p.save.count,
        "rdb_last_cow_size": 0,
        "rdb_last_load_keys_expired": 0,
        "rdb_last_load_keys_loaded": 0,
        "aof_enabled": u8::from(i.aof.is_some()),
        "aof_rewrite_in_progress": u8::from(p.rewrite.running_for.is_some()),
        "aof_rewrite_scheduled": u8::from(p.rewrite.scheduled),
        "aof_last_rewrite_time_sec": seconds_or_none(p.rewrite.last_taken),
        "aof_current_rewrite_time_sec": seconds_or_none(p.rewrite.running_for),
        "aof_last_bgrewrite_status": status(p.rewrite.last_ok),
        "aof_rewrites": p.rewrite.count,
        "aof_rewrites_consecutive_failures": p.rewrite_failures,
        "aof_last_write_status": status(i.aof.as_ref().is_none_or(|a| a.last_write_ok)),
        "aof_last_cow_size": 0,
        "module_fork_in_progress": 0,
        "module_fork_last_cow_size": 0,
    );
    if let Some(a) = &i.aof {
        fields!(s,
            "aof_current_size": a.current_size,
            "aof_base_size": a.base_size,
            "aof_pending_rewrite": u8::from(p.rewrite.scheduled),
            "aof_buffer_length": i.aof_inflight_bytes,
            "aof_pending_bio_fsync": a.pending_syncs,
            "aof_delayed_fsync": a.delayed_syncs,
            "moon_aof_fsync_policy": a.fsync_policy,
            "moon_aof_sync_failures": a.sync_failures,
            "moon_aof_append_failures": a.append_failures,
            "moon_aof_sync_running_seconds": thousandths(a.sync_running_ms),
            "moon_aof_failing": a.failure.map_or("no", |f| failing_word(f.health)),
            "moon_aof_failing_shard": a.failure.map_or(-1, |f| i32::from(f.shard.0)),
            "moon_aof_failing_error": a.failure.map_or_else(String::new, |f| f.cause.to_string()),
        );
    }
    durability(i, s);
    if let Some((done, total)) = i.loading {
        fields!(s,
            "loading_start_time": i.loading_start_s,
            "loading_total_bytes": total,
            "loading_rdb_used_mem": 0,
            "loading_loaded_bytes": done,
            "loading_loaded_perc": percent(done, total).trim_end_matches('%'),
        );
    }
}

/// Whole seconds, or -1 for none, as Redis prints them.
fn seconds_or_none(taken: Option<Duration>) -> i64 {
    taken.map_or(-1, |taken| {
        i64::try_from(taken.as_secs()).unwrap_or(i64::MAX)
    })
}

/// What of the log does not work, in one word.
#[must_use]
pub fn failing_word(health: LogHealth) -> &'static str {
    match health {
        LogHealth::Healthy => "no",
        LogHealth::AppendFailing => "append",
        LogHealth::SyncFailing => "sync",
    }
}

/// Milliseconds as seconds.
fn thousandths(ms: u64) -> String {
    format!("{}.{:03}", ms / 1000, ms % 1000)
}

/// How safe the data is now.
fn durability(i: &InfoSource, s: &mut String) {
    let (written, durable, ms, holding) = match &i.aof {
        Some(a) => (
            a.lsn_written,
            a.lsn_durable,
            a.ms_at_risk,
            a.holding_up_shard,
        ),
        None => (0, 0, 0, None),
    };
    fields!(s,
        "moon_lsn_head": i.lsn_head,
        "moon_lsn_committed": i.lsn_committed,
        "moon_lsn_written": written,
        "moon_lsn_durable": durable,
        "moon_bytes_uncommitted": i.lsn_head.saturating_sub(i.lsn_committed),
        "moon_bytes_at_risk": i.lsn_head.saturating_sub(durable),
        "moon_seconds_at_risk": thousandths(ms),
        "moon_holding_up_shard": holding.map_or(-1, i32::from),
        "moon_recovery_seconds": seconds(i.recovery_us),
        "moon_recovery_truncated_bytes": i.recovery_truncated_bytes,
    );
}

fn stats(i: &InfoSource, s: &mut String) {
    let t = &i.totals;
    let errors: u64 = i.errors.iter().map(|(_, n)| n).sum();
    fields!(s,
        "total_connections_received": i.connections_received,
        "total_commands_processed": t.commands,
        "instantaneous_ops_per_sec": i.rates.ops_per_sec,
        "total_net_input_bytes": t.net_input_bytes,
        "total_net_output_bytes": t.net_output_bytes,
        "total_net_repl_input_bytes": 0,
        "total_net_repl_output_bytes": 0,
        "instantaneous_input_kbps": ratio(i.rates.input_bytes_per_sec, 1024),
        "instantaneous_output_kbps": ratio(i.rates.output_bytes_per_sec, 1024),
        "instantaneous_input_repl_kbps": "0.00",
        "instantaneous_output_repl_kbps": "0.00",
        "rejected_connections": i.rejected_connections,
        "sync_full": 0,
        "sync_partial_ok": 0,
        "sync_partial_err": 0,
        "expired_subkeys": t.expired_subkeys,
        "expired_keys": t.expired_keys,
        "expired_stale_perc": "0.00",
    );
    zeros(
        s,
        &[
            "expired_time_cap_reached_count",
            "expire_cycle_cpu_milliseconds",
        ],
    );
    fields!(s,
        "evicted_keys": t.evicted_keys,
        "evicted_clients": 0,
        "total_eviction_exceeded_time": i.eviction_exceeded_ms.0,
        "current_eviction_exceeded_time": i.eviction_exceeded_ms.1,
    );
    fields!(s, "keyspace_hits": t.keyspace_hits, "keyspace_misses": t.keyspace_misses);
    zeros(
        s,
        &[
            "pubsub_channels",
            "pubsub_patterns",
            "pubsubshard_channels",
            "latest_fork_usec",
            "total_forks",
            "migrate_cached_sockets",
            "slave_expires_tracked_keys",
            "active_defrag_hits",
            "active_defrag_misses",
            "active_defrag_key_hits",
            "active_defrag_key_misses",
            "total_active_defrag_time",
            "current_active_defrag_time",
            "tracking_total_keys",
            "tracking_total_items",
            "tracking_total_prefixes",
            "unexpected_error_replies",
        ],
    );
    fields!(s,
        "total_error_replies": errors,
        "dump_payload_sanitizations": 0,
        "total_reads_processed": t.reads,
        "total_writes_processed": t.writes,
    );
    zeros(
        s,
        &[
            "io_threaded_reads_processed",
            "io_threaded_writes_processed",
            "reply_buffer_shrinks",
            "reply_buffer_expands",
            "eventloop_cycles",
            "eventloop_duration_sum",
            "eventloop_duration_cmd_sum",
            "instantaneous_eventloop_cycles_per_sec",
            "instantaneous_eventloop_duration_usec",
            "acl_access_denied_auth",
            "acl_access_denied_cmd",
            "acl_access_denied_key",
            "acl_access_denied_channel",
        ],
    );
    fields!(s, "moon_turns": i.turns, "moon_frames": i.frames);
}

fn replication(i: &InfoSource, s: &mut String) {
    fields!(s,
        "role": "master",
        "connected_slaves": 0,
        "master_failover_state": "no-failover",
        "master_replid": &i.replid,
        "master_replid2": "0000000000000000000000000000000000000000",
        "master_repl_offset": i.lsn_head,
        "second_repl_offset": -1,
        "repl_backlog_active": 0,
        "repl_backlog_size": 0,
        "repl_backlog_first_byte_offset": 0,
        "repl_backlog_histlen": 0,
    );
}

fn cpu(i: &InfoSource, s: &mut String) {
    fields!(s,
        "used_cpu_sys": seconds(i.cpu.sys_us),
        "used_cpu_user": seconds(i.cpu.user_us),
        "used_cpu_sys_children": "0.000000",
        "used_cpu_user_children": "0.000000",
    );
}

/// Whether a command appears: called, or at least attempted.
fn used(c: &CommandTotals) -> bool {
    c.latency_ns.count() > 0 || c.failed > 0 || c.rejected > 0
}

fn commandstats(i: &InfoSource, s: &mut String) {
    for (name, c) in i.commands.iter().filter(|(_, c)| used(c)) {
        let (calls, usec) = (c.latency_ns.count(), c.latency_ns.sum / 1000);
        let value = format!(
            "calls={calls},usec={usec},usec_per_call={},rejected_calls={},failed_calls={}",
            ratio(usec, calls),
            c.rejected,
            c.failed
        );
        put(s, &format!("cmdstat_{name}"), value);
    }
}

fn errorstats(i: &InfoSource, s: &mut String) {
    for (code, count) in &i.errors {
        put(
            s,
            &format!("errorstat_{code}"),
            format_args!("count={count}"),
        );
    }
}

fn latencystats(i: &InfoSource, s: &mut String) {
    for (name, c) in i.commands.iter().filter(|(_, c)| c.latency_ns.count() > 0) {
        let usec = |p| {
            let ns = c.latency_ns.percentile(p);
            format!("{}.{:03}", ns / 1000, ns % 1000)
        };
        let value = format!("p50={},p99={},p99.9={}", usec(50.0), usec(99.0), usec(99.9));
        put(s, &format!("latency_percentiles_usec_{name}"), value);
    }
}

fn keyspace(i: &InfoSource, s: &mut String) {
    for (n, db) in i.databases.iter().enumerate().filter(|(_, db)| db.keys > 0) {
        let value = format!(
            "keys={},expires={},avg_ttl={},subexpiry={}",
            db.keys, db.expires, db.avg_ttl_ms, db.subexpiry
        );
        put(s, &format!("db{n}"), value);
    }
}

fn status(ok: bool) -> &'static str {
    if ok { "ok" } else { "err" }
}

fn seconds(us: u64) -> String {
    format!("{}.{:06}", us / 1_000_000, us % 1_000_000)
}

/// `a / b` with two digits; 0.00 if `b` is 0.
#[expect(clippy::cast_precision_loss, reason = "printed with two digits")]
fn ratio(a: u64, b: u64) -> String {
    let value = if b == 0 { 0.0 } else { a as f64 / b as f64 };
    format!("{value:.2}")
}

#[expect(clippy::cast_precision_loss, reason = "printed with two digits")]
fn percent(a: u64, b: u64) -> String {
    let value = if b == 0 {
        0.0
    } else {
        a as f64 * 100.0 / b as f64
    };
    format!("{value:.2}%")
}

/// A size as Redis prints it for people: `1.00K`, `23.54G`.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "printed with two digits")]
pub fn human(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["K", "M", "G", "T", "P"];
    if bytes < 1024 {
        return format!("{bytes}B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.2}{}", UNITS[unit])
}

/// Resident and total system memory in bytes; zeros where the kernel does not tell.
#[must_use]
pub fn process_memory() -> (u64, u64) {
    let pages = std::fs::read_to_string("/proc/self/statm")
        .ok()
        .and_then(|t| t.split_ascii_whitespace().nth(1)?.parse::<u64>().ok());
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE);
    let page = page.ok().flatten().and_then(|p| u64::try_from(p).ok());
    let total_kb = std::fs::read_to_string("/proc/meminfo").ok().and_then(|t| {
        let line = t.lines().find_map(|l| l.strip_prefix("MemTotal:"))?;
        line.split_ascii_whitespace().next()?.parse::<u64>().ok()
    });
    (
        pages.unwrap_or(0) * page.unwrap_or(4096),
        total_kb.unwrap_or(0) * 1024,
    )
}

/// CPU time of this process.
#[must_use]
pub fn process_cpu() -> CpuTimes {
    use nix::sys::resource::{UsageWho, getrusage};
    use nix::sys::time::TimeValLike as _;
    let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) else {
        return CpuTimes::default();
    };
    let us = |t: nix::sys::time::TimeVal| u64::try_from(t.num_microseconds()).unwrap_or(0);
    CpuTimes {
        sys_us: us(usage.system_time()),
        user_us: us(usage.user_time()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::histogram::HistogramValue;

    #[test]
    fn sections_are_chosen_as_in_redis() {
        let default = sections(&[]);
        assert!(!default.contains(&Section::Commandstats));
        assert!(default.contains(&Section::Keyspace));
        assert_eq!(sections(&[b"default"]), default);
        assert_eq!(sections(&[b"everything"]).len(), SECTIONS.len());
        assert_eq!(
            sections(&[b"KEYSPACE", b"cpu"]),
            [Section::Cpu, Section::Keyspace]
        );
        assert!(sections(&[b"nonsense"]).is_empty());
    }

    #[test]
    fn text_has_redis_line_ends_and_blank_lines_between_sections() {
        let text = render(
            &InfoSource::default(),
            &[Section::Cluster, Section::Keyspace],
        );
        assert_eq!(text, "# Cluster\r\ncluster_enabled:0\r\n\r\n# Keyspace\r\n");
    }

    #[test]
    fn durability_is_always_told() {
        let source = InfoSource {
            lsn_head: 1000,
            lsn_committed: 900,
            aof: Some(AofInfo {
                lsn_written: 950,
                lsn_durable: 400,
                ms_at_risk: 1250,
                holding_up_shard: Some(3),
                last_write_ok: true,
                ..AofInfo::default()
            }),
            ..InfoSource::default()
        };
        let text = render(&source, &[Section::Persistence]);
        for line in [
            "aof_enabled:1",
            "aof_last_write_status:ok",
            "moon_lsn_head:1000",
            "moon_bytes_uncommitted:100",
            "moon_bytes_at_risk:600",
            "moon_seconds_at_risk:1.250",
            "moon_holding_up_shard:3",
        ] {
            assert!(text.contains(&format!("{line}\r\n")), "{line}\n{text}");
        }
    }

    #[test]
    fn commands_databases_and_errors_have_the_form_of_redis() {
        let mut latency_ns = HistogramValue {
            sum: 40_000,
            ..HistogramValue::default()
        };
        latency_ns.buckets[8] = 2;
        let command = CommandTotals {
            latency_ns,
            failed: 1,
            rejected: 0,
        };
        let source = InfoSource {
            commands: vec![
                ("config|get".to_owned(), command),
                ("set".to_owned(), CommandTotals::default()),
            ],
            errors: vec![("ERR".to_owned(), 3)],
            databases: vec![DbTotals {
                keys: 1,
                expires: 0,
                subexpiry: 2,
                avg_ttl_ms: 0,
                ..DbTotals::default()
            }],
            ..InfoSource::default()
        };
        let text = render(&source, &sections(&[b"all"]));
        for line in [
            "cmdstat_config|get:calls=2,usec=40,usec_per_call=20.00,rejected_calls=0,failed_calls=1",
            "latency_percentiles_usec_config|get:p50=32.768,p99=32.768,p99.9=32.768",
            "errorstat_ERR:count=3",
            "db0:keys=1,expires=0,avg_ttl=0,subexpiry=2",
        ] {
            assert!(text.contains(&format!("{line}\r\n")), "{line}\n{text}");
        }
        assert!(!text.contains("cmdstat_set:"));
    }

    #[test]
    fn sizes_for_people_and_process_numbers() {
        assert_eq!(human(966_080), "943.44K");
        assert_eq!(human(25_276_502_016), "23.54G");
        assert_eq!(human(200), "200B");
        let (rss, total) = process_memory();
        assert!(rss > 0 && total > rss);
    }
}
