//! The one table of directives: every setting this server has, for the command line, the file,
//! CONFIG GET and CONFIG SET alike.

use super::value::{Invalid, client_memory, integer, memory, optional_text, path};
use super::value::{show_yes_no, yes_no};
use super::{
    Config, DEBUG_COMMAND_WORDS, LOGLEVEL_WORDS, PIPELINE_ORDER_WORDS, UNDECLARED_KEYS_WORDS,
    maxmemory_policy_word,
};

mod words;

use words::*;
pub(super) use words::{show_save, start_afresh};

/// When a directive can be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// Only at start.
    Immutable,
    /// At start and with CONFIG SET.
    Runtime,
}

/// One directive.
pub struct Directive {
    /// Its name, in lower case.
    pub name: &'static str,
    /// An older name of the same directive, or "".
    pub alias: &'static str,
    /// Its default, as CONFIG GET prints it.
    pub default: &'static str,
    /// When it can be set.
    pub how: How,
    /// One line of help.
    pub doc: &'static str,
    /// Reads its words into the configuration. Changes nothing when it fails.
    pub set: fn(&mut Config, &[&str]) -> Result<(), Invalid>,
    /// Prints its value as CONFIG GET does.
    pub get: fn(&Config) -> String,
}

/// The directive called `name`, in any letter case, by its name or alias.
#[must_use]
pub fn find(name: &str) -> Option<&'static Directive> {
    DIRECTIVES.iter().find(|d| {
        d.name.eq_ignore_ascii_case(name)
            || (!d.alias.is_empty() && d.alias.eq_ignore_ascii_case(name))
    })
}

/// The only word, or an error.
fn single<'a>(words: &[&'a str]) -> Result<&'a str, Invalid> {
    match words {
        [word] => Ok(word),
        _ => Err(Invalid::WrongCount),
    }
}

/// A row for a yes/no field.
macro_rules! switch {
    ($field:ident) => {
        (
            |c, w| {
                c.$field = yes_no(single(w)?)?;
                Ok(())
            },
            |c| show_yes_no(c.$field),
        )
    };
}

/// A row for an integer field of type `$ty`; the range fits the type.
macro_rules! number {
    ($field:ident: $ty:ty, $min:expr, $max:expr) => {
        (
            |c, w| {
                let value = integer(single(w)?, $min, $max)?;
                c.$field = <$ty>::try_from(value).map_err(|_| Invalid::OutOfRange {
                    min: $min,
                    max: $max,
                })?;
                Ok(())
            },
            |c| c.$field.to_string(),
        )
    };
}

/// A row for a size in bytes.
macro_rules! size {
    ($field:ident, $min:expr, $max:expr) => {
        (
            |c, w| {
                c.$field = memory(single(w)?, $min, $max)?;
                Ok(())
            },
            |c| c.$field.to_string(),
        )
    };
}

/// A row for a text that may be empty.
macro_rules! text {
    ($field:ident) => {
        (
            |c, w| {
                c.$field = optional_text(single(w)?)?;
                Ok(())
            },
            |c| c.$field.clone(),
        )
    };
}

type Access = (
    fn(&mut Config, &[&str]) -> Result<(), Invalid>,
    fn(&Config) -> String,
);

const fn row(
    name: &'static str,
    alias: &'static str,
    default: &'static str,
    how: How,
    access: Access,
    doc: &'static str,
) -> Directive {
    Directive {
        name,
        alias,
        default,
        how,
        doc,
        set: access.0,
        get: access.1,
    }
}

/// Largest value of a threshold that counts entries or bytes: what fits Redis's `size_t` text.
const SIZE_MAX: i64 = i64::MAX;

use How::{Immutable, Runtime};

/// Every directive, in the order of the documentation.
pub static DIRECTIVES: &[Directive] = &[
    row(
        "port",
        "",
        "6379",
        Immutable,
        number!(port: u16, 0, 65535),
        "TCP port; 0 means no TCP",
    ),
    row(
        "bind",
        "",
        "* -::*",
        Immutable,
        (set_bind, |c| c.bind.join(" ")),
        "Addresses to listen on; a leading '-' means: only if it is available",
    ),
    row(
        "unixsocket",
        "",
        "",
        Immutable,
        (set_unixsocket, show_unixsocket),
        "Path of a Unix socket to listen on",
    ),
    row(
        "unixsocketperm",
        "",
        "0",
        Immutable,
        (set_unixsocketperm, |c| format!("{:o}", c.unixsocketperm)),
        "File mode of the Unix socket, in octal; 0 leaves what the umask gives",
    ),
    row(
        "tcp-backlog",
        "",
        "511",
        Immutable,
        number!(tcp_backlog: u32, 1, 65535),
        "Connections that may wait to be accepted",
    ),
    row(
        "tcp-keepalive",
        "",
        "300",
        Runtime,
        number!(tcp_keepalive_s: u32, 0, 2_147_483_647),
        "Seconds between TCP keepalive probes; 0 means none",
    ),
    row(
        "maxclients",
        "",
        "10000",
        Runtime,
        number!(maxclients: u32, 1, 4_294_967_295),
        "Most clients at a time",
    ),
    row(
        "timeout",
        "",
        "0",
        Runtime,
        number!(timeout_s: u32, 0, 2_147_483_647),
        "Seconds after which an idle client is closed; 0 means never",
    ),
    row(
        "protected-mode",
        "",
        "yes",
        Runtime,
        switch!(protected_mode),
        "Refuse clients from other hosts while no password is set",
    ),
    row(
        "enable-debug-command",
        "",
        "no",
        Immutable,
        (set_debug_command, |c| {
            DEBUG_COMMAND_WORDS[c.enable_debug_command as usize].to_owned()
        }),
        "Allow DEBUG, which tests of clients use: no, yes, or local clients only",
    ),
    row(
        "requirepass",
        "",
        "",
        Runtime,
        text!(requirepass),
        "Password of the default user; empty means none",
    ),
    row(
        "dir",
        "",
        "./data",
        Immutable,
        (
            |c, w| {
                c.dir = path(single(w)?)?;
                Ok(())
            },
            |c| c.dir.display().to_string(),
        ),
        "Directory of all data; created if it does not exist",
    ),
    row(
        "shards",
        "",
        "auto",
        Immutable,
        (set_shards, |c| {
            c.shards
                .map_or_else(|| "auto".to_owned(), |s| s.get().to_string())
        }),
        "Shards, one thread each; auto means as the directory has, or chosen for a new one",
    ),
    row(
        "databases",
        "",
        "16",
        Immutable,
        number!(databases: u32, 1, 65535),
        "Number of databases",
    ),
    row(
        "appendonly",
        "",
        "yes",
        Runtime,
        switch!(appendonly),
        "Log every write before it is acknowledged",
    ),
    row(
        "appendfsync",
        "",
        "everysec",
        Runtime,
        (set_appendfsync, |c| c.appendfsync.word().to_owned()),
        "When the log is synced: always (before the reply), everysec, no",
    ),
    row(
        "appenddirname",
        "",
        "appendonlydir",
        Immutable,
        (set_appenddirname, |c| c.appenddirname.clone()),
        "Folder of the log inside dir",
    ),
    row(
        "aof-load-truncated",
        "",
        "yes",
        Immutable,
        switch!(aof_load_truncated),
        "Truncate a torn tail at start; with no, refuse to start",
    ),
    row(
        "auto-aof-rewrite-percentage",
        "",
        "100",
        Runtime,
        number!(auto_aof_rewrite_percentage: u32, 0, i64::from(i32::MAX)),
        "Growth of the log in percent at which it is rewritten; 0 means never",
    ),
    row(
        "auto-aof-rewrite-min-size",
        "",
        "67108864",
        Runtime,
        size!(auto_aof_rewrite_min_size, 0, i64::MAX.cast_unsigned()),
        "Size below which the log is not rewritten by itself",
    ),
    row(
        "aof-keep-generations",
        "",
        "0",
        Immutable,
        number!(aof_keep_generations: u32, 0, 10_000),
        "Superseded generations of the log kept in place, for moon-server restore",
    ),
    row(
        "aof-archive-dir",
        "archive-dir",
        "",
        Immutable,
        text!(aof_archive_dir),
        "Where superseded generations of the log are moved; empty means they are deleted",
    ),
    row(
        "reshard-on-start",
        "",
        "no",
        Immutable,
        switch!(reshard_on_start),
        "Rewrite the directory at start if it has another number of shards",
    ),
    row(
        "save",
        "",
        "",
        Runtime,
        (set_save, show_save),
        "Seconds and changes after which a snapshot is written; default 3600 1 300 100 60 10000 \
         without a log, none with one",
    ),
    row(
        "dbfilename",
        "",
        "dump.rdb",
        Immutable,
        (set_dbfilename, |c| c.dbfilename.clone()),
        "Name of the snapshot in dir",
    ),
    row(
        "rdbcompression",
        "",
        "yes",
        Runtime,
        switch!(rdbcompression),
        "Compress long strings in snapshots",
    ),
    row(
        "stop-writes-on-bgsave-error",
        "",
        "yes",
        Runtime,
        switch!(stop_writes_on_bgsave_error),
        "Refuse writes while save points are set and the last snapshot failed",
    ),
    row(
        "aof-preallocate-size",
        "",
        "16777216",
        Runtime,
        size!(aof_preallocate_size, 0, 1 << 40),
        "Bytes by which a segment is allocated ahead; 0 means not at all",
    ),
    row(
        "inflight-max-bytes",
        "",
        "67108864",
        Runtime,
        size!(inflight_max_bytes, 1 << 20, 1 << 40),
        "Bound of what each shard has executed and not yet committed; over it clients wait",
    ),
    row(
        "pipeline-order",
        "",
        "relaxed",
        Immutable,
        (set_pipeline_order, |c| {
            PIPELINE_ORDER_WORDS[c.pipeline_order as usize].to_owned()
        }),
        "Inside one pipeline: relaxed (per shard) or strict (Redis's full program order)",
    ),
    row(
        "initial-keyspace-hint",
        "",
        "0",
        Immutable,
        number!(initial_keyspace_hint: u64, 0, 1 << 36),
        "Keys for which the tables make room at start",
    ),
    row(
        "proto-max-bulk-len",
        "",
        "536870912",
        Runtime,
        size!(proto_max_bulk_len, 1 << 20, 1 << 40),
        "Longest string in a request",
    ),
    row(
        "client-query-buffer-limit",
        "",
        "1073741824",
        Runtime,
        size!(client_query_buffer_limit, 1 << 20, 1 << 40),
        "Most bytes of one client's unfinished request",
    ),
    row(
        "client-output-buffer-limit",
        "",
        "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60",
        Runtime,
        (
            |c, w| c.client_output_buffer_limit.set(w),
            |c| c.client_output_buffer_limit.show(),
        ),
        "Class, hard limit, soft limit and its seconds, for normal, replica, pubsub: a client \
         that leaves more unread is closed, at once or when it has for so long; 0 means no limit",
    ),
    row(
        "hash-max-listpack-entries",
        "hash-max-ziplist-entries",
        "512",
        Runtime,
        number!(hash_max_listpack_entries: u64, 0, SIZE_MAX),
        "Hash: entries up to which the compact form is kept",
    ),
    row(
        "hash-max-listpack-value",
        "hash-max-ziplist-value",
        "64",
        Runtime,
        size!(hash_max_listpack_value, 0, 1 << 40),
        "Hash: longest field or value in the compact form",
    ),
    row(
        "list-max-listpack-size",
        "list-max-ziplist-size",
        "-2",
        Runtime,
        number!(list_max_listpack_size: i64, -2_147_483_648, 2_147_483_647),
        "List: entries of the compact form, or -1 to -5 for 4 kb to 64 kb",
    ),
    row(
        "list-compress-depth",
        "",
        "0",
        Runtime,
        number!(list_compress_depth: u64, 0, 2_147_483_647),
        "List: nodes at each end that are not compressed, 0 for all",
    ),
    row(
        "set-max-intset-entries",
        "",
        "512",
        Runtime,
        number!(set_max_intset_entries: u64, 0, SIZE_MAX),
        "Set: integers up to which the compact form is kept",
    ),
    row(
        "set-max-listpack-entries",
        "",
        "128",
        Runtime,
        number!(set_max_listpack_entries: u64, 0, SIZE_MAX),
        "Set: members up to which the compact form is kept",
    ),
    row(
        "set-max-listpack-value",
        "",
        "64",
        Runtime,
        size!(set_max_listpack_value, 0, 1 << 40),
        "Set: longest member in the compact form",
    ),
    row(
        "zset-max-listpack-entries",
        "zset-max-ziplist-entries",
        "128",
        Runtime,
        number!(zset_max_listpack_entries: u64, 0, SIZE_MAX),
        "Sorted set: members up to which the compact form is kept",
    ),
    row(
        "zset-max-listpack-value",
        "zset-max-ziplist-value",
        "64",
        Runtime,
        size!(zset_max_listpack_value, 0, 1 << 40),
        "Sorted set: longest member in the compact form",
    ),
    row(
        "stream-node-max-bytes",
        "",
        "4096",
        Runtime,
        size!(stream_node_max_bytes, 0, 1 << 40),
        "Stream: bytes that a block of entries stays below; 0 means no limit",
    ),
    row(
        "stream-node-max-entries",
        "",
        "100",
        Runtime,
        number!(stream_node_max_entries: u64, 0, SIZE_MAX),
        "Stream: entries of a block; 0 means no limit",
    ),
    row(
        "maxmemory",
        "",
        "0",
        Runtime,
        size!(maxmemory, 0, i64::MAX.cast_unsigned()),
        "Bytes of memory that the instance may use; 0 means no limit",
    ),
    row(
        "maxmemory-policy",
        "",
        "noeviction",
        Runtime,
        (set_maxmemory_policy, |c| {
            maxmemory_policy_word(c.maxmemory_policy).to_owned()
        }),
        "What goes when maxmemory is reached: noeviction, or allkeys-lru, allkeys-lfu, allkeys-random, volatile-lru, volatile-lfu, volatile-random, volatile-ttl",
    ),
    row(
        "maxmemory-clients",
        "",
        "0",
        Runtime,
        (
            |c, w| {
                c.maxmemory_clients = client_memory(single(w)?)?;
                Ok(())
            },
            |c| c.maxmemory_clients.to_string(),
        ),
        "What all clients together may hold, in bytes or, as `5%`, as a part of maxmemory; 0 means no limit. Beyond it the largest are disconnected",
    ),
    row(
        "maxmemory-samples",
        "",
        "5",
        Runtime,
        number!(maxmemory_samples: u32, 1, i64::from(i32::MAX)),
        "Keys looked at for each that is evicted",
    ),
    row(
        "maxmemory-eviction-tenacity",
        "",
        "10",
        Runtime,
        number!(maxmemory_eviction_tenacity: u32, 0, 100),
        "How long a command may be held up by evictions, from 0 to 100",
    ),
    row(
        "lfu-log-factor",
        "",
        "10",
        Runtime,
        number!(lfu_log_factor: u32, 0, i64::from(i32::MAX)),
        "How slowly the counter of uses grows under the lfu policies",
    ),
    row(
        "lfu-decay-time",
        "",
        "1",
        Runtime,
        number!(lfu_decay_time: u32, 0, i64::from(i32::MAX)),
        "Minutes after which an unused counter of uses is counted down by one; 0 means never",
    ),
    row(
        "notify-keyspace-events",
        "",
        "",
        Runtime,
        (set_notify_keyspace_events, |c| {
            c.notify_keyspace_events.letters()
        }),
        "Which events on keys are published: K on `__keyspace@<db>__:<key>`, E on `__keyevent@<db>__:<event>`; g generic, $ strings, l lists, s sets, h hashes, z sorted sets, t streams, x expired, e evicted, A for all of these, n new keys, m misses",
    ),
    row(
        "tracking-table-max-keys",
        "",
        "1000000",
        Runtime,
        number!(tracking_table_max_keys: u64, 0, i64::MAX),
        "Keys of which clients keep copies (CLIENT TRACKING), over all shards; 0 means no limit. Beyond it clients are told to forget some",
    ),
    row(
        "lazyfree-lazy-eviction",
        "",
        "no",
        Runtime,
        switch!(lazyfree_lazy_eviction),
        "Without effect: evicted values are always freed lazily if they are large",
    ),
    row(
        "lazyfree-lazy-expire",
        "",
        "no",
        Runtime,
        switch!(lazyfree_lazy_expire),
        "Without effect: expired values are always freed lazily if they are large",
    ),
    row(
        "lazyfree-lazy-server-del",
        "",
        "no",
        Runtime,
        switch!(lazyfree_lazy_server_del),
        "Without effect: values that are overwritten are always freed lazily if they are large",
    ),
    row(
        "disable-thp",
        "",
        "yes",
        Immutable,
        switch!(disable_thp),
        "No huge pages of the kernel: memory of small data is up to a half less, look-ups in large data take about a tenth more processor time",
    ),
    row(
        "lazyfree-lazy-user-del",
        "",
        "no",
        Runtime,
        switch!(lazyfree_lazy_user_del),
        "Without effect: values removed by DEL are always freed lazily if they are large",
    ),
    row(
        "lazyfree-lazy-user-flush",
        "",
        "no",
        Runtime,
        switch!(lazyfree_lazy_user_flush),
        "Without effect: databases emptied by FLUSHALL and FLUSHDB are always freed lazily if they are large",
    ),
    row(
        "hll-sparse-max-bytes",
        "",
        "3000",
        Runtime,
        size!(hll_sparse_max_bytes, 0, 1 << 40),
        "HyperLogLog: longest string in the sparse encoding",
    ),
    row(
        "busy-reply-threshold",
        "lua-time-limit",
        "5000",
        Runtime,
        number!(busy_reply_threshold_ms: u64, 0, SIZE_MAX),
        "Milliseconds after which a script makes everybody else be answered BUSY; 0 means never",
    ),
    row(
        "script-undeclared-keys",
        "",
        "retry",
        Runtime,
        (set_script_undeclared_keys, |c| {
            UNDECLARED_KEYS_WORDS[c.script_undeclared_keys as usize].to_owned()
        }),
        "Keys of other shards that a script did not declare: retry (with all shards), all or refuse",
    ),
    row(
        "hz",
        "",
        "10",
        Runtime,
        number!(hz: u32, 1, 500),
        "Background work per second",
    ),
    row(
        "active-expire-effort",
        "",
        "1",
        Runtime,
        number!(active_expire_effort: u32, 1, 10),
        "Share of time spent on expired keys that nobody asks for",
    ),
    row(
        "slowlog-log-slower-than",
        "",
        "10000",
        Runtime,
        number!(slowlog_log_slower_than: i64, -1, SIZE_MAX),
        "Microseconds from which on SLOWLOG keeps a command; 0 means all, -1 none",
    ),
    row(
        "slowlog-max-len",
        "",
        "128",
        Runtime,
        number!(slowlog_max_len: u64, 0, SIZE_MAX),
        "Commands that SLOWLOG keeps",
    ),
    row(
        "latency-monitor-threshold",
        "",
        "0",
        Runtime,
        number!(latency_monitor_threshold: u64, 0, SIZE_MAX),
        "Milliseconds from which on LATENCY keeps what was slow; 0 means nothing",
    ),
    row(
        "latency-tracking",
        "",
        "yes",
        Runtime,
        switch!(latency_tracking),
        "Show in INFO and LATENCY HISTOGRAM how long commands took",
    ),
    row(
        "latency-tracking-info-percentiles",
        "",
        "50 99 99.9",
        Runtime,
        (set_percentiles, show_percentiles),
        "Percentiles that INFO latencystats shows",
    ),
    row(
        "metrics-port",
        "",
        "0",
        Immutable,
        (set_metrics_port, |c| {
            c.metrics_port.unwrap_or(0).to_string()
        }),
        "Port of /metrics, /healthz and /readyz; 0 means off",
    ),
    row(
        "metrics-bind",
        "",
        "127.0.0.1",
        Immutable,
        (set_metrics_bind, |c| c.metrics_bind.to_string()),
        "Address of the metrics listener",
    ),
    row(
        "loglevel",
        "",
        "notice",
        Runtime,
        (set_loglevel, |c| {
            LOGLEVEL_WORDS[c.loglevel as usize].to_owned()
        }),
        "debug, verbose, notice, warning or nothing",
    ),
    row(
        "logfile",
        "",
        "",
        Immutable,
        text!(logfile),
        "Log file; empty means standard output",
    ),
    row(
        "pidfile",
        "",
        "",
        Immutable,
        text!(pidfile),
        "File that holds the process id while the server runs",
    ),
];

#[cfg(test)]
mod tests;
