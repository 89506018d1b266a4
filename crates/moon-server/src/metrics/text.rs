//! The numbers as Prometheus text. Counters and gauges go through the `metrics` recorder;
//! histograms are counted in buckets already, which it cannot take, so their text is appended.

use super::{ListenNumbers, Source};
use crate::histogram::{HistogramValue, bucket_end};
use crate::info::{MemoryInfo, failing_word};
use crate::pubsub::Kind;
use crate::scripts::ScriptsInfo;
use metrics::{counter, describe_counter, describe_gauge, gauge};
use metrics_exporter_prometheus::PrometheusBuilder;
use moon_aof::status::ShardStatus;
use moon_repl::{LogHealth, OsError};
use std::fmt::Write as _;

/// The whole answer to `/metrics`.
#[must_use]
pub fn render(source: &dyn Source) -> String {
    // A recorder per scrape: nothing of an earlier scrape can stay in it.
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    metrics::with_local_recorder(&recorder, || {
        describe();
        publish(source);
    });
    let mut text = handle.render();
    histograms(source, &mut text);
    text
}

fn describe() {
    describe_gauge!("moon_connected_clients", "Clients connected now");
    describe_counter!("moon_connections_total", "Connections accepted");
    describe_counter!("moon_rejected_connections_total", "Connections turned away");
    describe_counter!(
        "moon_evicted_clients_total",
        "Clients disconnected because of maxmemory-clients"
    );
    describe_counter!("moon_commands_total", "Commands executed, by name");
    describe_gauge!("moon_keys", "Keys per database");
    describe_counter!("moon_expired_keys_total", "Keys that expired");
    describe_counter!("moon_expired_fields_total", "Fields of hashes that expired");
    describe_counter!("moon_keyspace_hits_total", "Look-ups that found a key");
    describe_counter!("moon_keyspace_misses_total", "Look-ups that found none");
    describe_counter!(
        "moon_evicted_keys_total",
        "Keys removed because memory had run out"
    );
    describe_counter!("moon_pubsub_messages_total", "Messages published");
    describe_gauge!("moon_pubsub_subscriptions", "Subscriptions, by kind");
    describe_gauge!(
        "moon_pubsub_names",
        "Channels and patterns that somebody has subscribed to, by kind"
    );
    describe_listening();
    describe_scripts();
    describe_counter!(
        "moon_output_limit_disconnections_total",
        "Clients disconnected because of client-output-buffer-limit"
    );
    describe_memory();
    describe_counter!("moon_aof_bytes_total", "Bytes appended to the log");
    describe_gauge!(
        "moon_aof_inflight_bytes",
        "Bytes executed and not committed, by shard"
    );
    describe_counter!("moon_aof_append_failures_total", "Appends that failed");
    describe_counter!("moon_aof_sync_failures_total", "Syncs that failed");
    describe_counter!(
        "moon_aof_delayed_fsync_total",
        "Times that more was written behind a sync that had been running for long"
    );
    describe_gauge!(
        "moon_aof_failing",
        "1 if this operation of this shard's log fails now"
    );
    describe_gauge!(
        "moon_aof_failing_errno",
        "The operating system's number of the error that stops this shard's log, or 0"
    );
    describe_gauge!(
        "moon_aof_sync_running_seconds",
        "How long the sync that runs now has been running, by shard"
    );
    describe_snapshots();
    describe_gauge!("moon_commit_lag_bytes", "Head minus committed");
    describe_gauge!(
        "moon_commit_lag_seconds",
        "Age of the oldest uncommitted frame"
    );
    describe_gauge!("moon_recovery_seconds", "Duration of the last recovery");
    describe_gauge!("moon_recovery_truncated_bytes", "Torn tail cut off by it");
    describe_gauge!("moon_lsn_head", "Next position of the stream");
    describe_gauge!(
        "moon_lsn_committed",
        "Position up to which replies may leave"
    );
    describe_gauge!("moon_lsn_durable", "Position up to which the log is synced");
    describe_gauge!("moon_ready", "1 if /readyz answers 200");
}

fn describe_listening() {
    describe_gauge!("moon_blocked_clients", "Clients that wait");
    describe_gauge!("moon_monitors", "Clients that are shown what runs");
    describe_gauge!("moon_tracking_clients", "Clients that keep copies of keys");
    describe_gauge!("moon_tracking_keys", "Keys of which clients have copies");
    describe_gauge!("moon_tracking_prefixes", "Prefixes that are broadcast");
    describe_counter!(
        "moon_slow_commands_total",
        "Commands that took longer than slowlog-log-slower-than"
    );
}

fn describe_scripts() {
    describe_gauge!("moon_scripts_cached", "Scripts that are kept");
    describe_counter!(
        "moon_scripts_evicted_total",
        "Scripts of EVAL that gave way to others"
    );
    describe_gauge!("moon_function_libraries", "Libraries of functions");
    describe_gauge!("moon_functions", "Functions in them");
    describe_gauge!(
        "moon_script_memory_bytes",
        "Memory for scripts and functions, by what it is used for"
    );
    describe_gauge!(
        "moon_busy_scripts",
        "Scripts that take longer than busy-reply-threshold now"
    );
    describe_gauge!(
        "moon_busy_script_seconds",
        "For how long the one has run that has taken longest"
    );
    describe_counter!(
        "moon_busy_scripts_total",
        "Scripts that took longer than busy-reply-threshold"
    );
    describe_counter!(
        "moon_killed_scripts_total",
        "Those of them that were killed"
    );
}

fn describe_memory() {
    describe_gauge!("moon_memory_bytes", "Memory in use, by what it is used for");
    describe_gauge!(
        "moon_memory_used_bytes",
        "Memory in use, as the allocator counts it"
    );
    describe_gauge!(
        "moon_memory_counted_bytes",
        "Memory that counts towards maxmemory"
    );
    describe_gauge!("moon_memory_limit_bytes", "maxmemory, or 0");
    describe_gauge!(
        "moon_lazyfree_pending_objects",
        "Values that wait to be freed"
    );
}

fn describe_snapshots() {
    describe_gauge!("moon_aof_size_bytes", "Bytes of the log's files in force");
    describe_gauge!(
        "moon_aof_base_size_bytes",
        "What moon_aof_size_bytes was after the last rewrite, or at start"
    );
    describe_counter!(
        "moon_aof_rewrites_total",
        "Rewrites of the log that succeeded"
    );
    describe_gauge!(
        "moon_aof_rewrite_failures_in_a_row",
        "Rewrites that failed since the last good one"
    );
    describe_counter!("moon_rdb_saves_total", "Snapshots written");
    describe_gauge!(
        "moon_rdb_last_save_timestamp_seconds",
        "Unix time of the last snapshot written, or of the start"
    );
    describe_gauge!(
        "moon_rdb_last_save_ok",
        "0 if the last attempt to write a snapshot failed"
    );
    describe_gauge!(
        "moon_rdb_changes_since_last_save",
        "Changes that no snapshot holds"
    );
    describe_gauge!(
        "moon_snapshot_keys_done",
        "Keys that the running snapshot or rewrite has encoded"
    );
    describe_gauge!(
        "moon_snapshot_keys_total",
        "Keys of the running snapshot or rewrite, or 0"
    );
}

/// Gauges are floating point in Prometheus.
#[expect(clippy::cast_precision_loss, reason = "the format has no integers")]
fn number(n: u64) -> f64 {
    n as f64
}

fn publish(source: &dyn Source) {
    use std::sync::atomic::Ordering::Relaxed;
    let stats = source.stats();
    gauge!("moon_connected_clients").set(number(stats.connected_clients()));
    counter!("moon_connections_total").absolute(stats.connections_received());
    counter!("moon_rejected_connections_total").absolute(stats.rejected_connections());
    counter!("moon_evicted_clients_total").absolute(stats.evicted_clients());
    counter!("moon_expired_keys_total").absolute(stats.sum(|s| &s.expired_keys));
    counter!("moon_expired_fields_total").absolute(stats.sum(|s| &s.expired_subkeys));
    counter!("moon_keyspace_hits_total").absolute(stats.sum(|s| &s.keyspace_hits));
    counter!("moon_keyspace_misses_total").absolute(stats.sum(|s| &s.keyspace_misses));
    counter!("moon_aof_bytes_total").absolute(stats.sum(|s| &s.aof_bytes));
    if let Some(aof) = source.aof() {
        counter!("moon_aof_append_failures_total").absolute(aof.total(|s| &s.append_failures));
        counter!("moon_aof_sync_failures_total").absolute(aof.total(|s| &s.fsync_failures));
        gauge!("moon_aof_size_bytes").set(number(aof.current_size()));
        gauge!("moon_aof_base_size_bytes").set(number(aof.base_size()));
        counter!("moon_aof_delayed_fsync_total").absolute(aof.total(|s| &s.delayed_fsyncs));
        for (n, shard) in aof.shards().iter().enumerate() {
            publish_log(n, shard);
        }
    }
    let snapshots = source.persistence();
    counter!("moon_aof_rewrites_total").absolute(snapshots.rewrite.count);
    gauge!("moon_aof_rewrite_failures_in_a_row").set(f64::from(snapshots.rewrite_failures));
    counter!("moon_rdb_saves_total").absolute(snapshots.save.count);
    gauge!("moon_rdb_last_save_timestamp_seconds").set(number(snapshots.last_save_s));
    gauge!("moon_rdb_last_save_ok").set(f64::from(u8::from(snapshots.save.last_ok)));
    gauge!("moon_rdb_changes_since_last_save").set(number(snapshots.changes_since_save));
    let (done, total) = snapshots.keys.unwrap_or_default();
    gauge!("moon_snapshot_keys_done").set(number(done));
    gauge!("moon_snapshot_keys_total").set(number(total));
    counter!("moon_pubsub_messages_total").absolute(stats.sum(|s| &s.pubsub_messages));
    for kind in Kind::ALL {
        gauge!("moon_pubsub_subscriptions", "kind" => kind.word())
            .set(number(source.subscriptions(kind)));
        gauge!("moon_pubsub_names", "kind" => kind.word()).set(number(source.subscribed(kind)));
    }
    publish_listening(&source.listening());
    counter!("moon_output_limit_disconnections_total")
        .absolute(stats.sum(|s| &s.output_limit_disconnections));
    counter!("moon_evicted_keys_total").absolute(stats.sum(|s| &s.evicted_keys));
    let memory = source.memory();
    publish_memory(&memory);
    publish_scripts(&memory.scripts);
    for (n, shard) in stats.shards().iter().enumerate() {
        gauge!("moon_aof_inflight_bytes", "shard" => n.to_string())
            .set(number(shard.inflight_bytes.get()));
    }
    for (n, db) in stats.databases().iter().enumerate() {
        if db.keys > 0 || n == 0 {
            gauge!("moon_keys", "db" => n.to_string()).set(number(db.keys));
        }
    }
    for (name, calls) in called(source) {
        counter!("moon_commands_total", "cmd" => name).absolute(calls.count());
    }
    let lsn = source.lsn();
    gauge!("moon_lsn_head").set(number(lsn.head));
    gauge!("moon_lsn_committed").set(number(lsn.committed));
    gauge!("moon_lsn_durable").set(number(lsn.durable));
    gauge!("moon_commit_lag_bytes").set(number(lsn.head.saturating_sub(lsn.committed)));
    gauge!("moon_commit_lag_seconds").set(number(lsn.commit_lag_ms) / 1000.0);
    gauge!("moon_recovery_seconds").set(number(stats.recovery_us.load(Relaxed)) / 1e6);
    gauge!("moon_recovery_truncated_bytes")
        .set(number(stats.recovery_truncated_bytes.load(Relaxed)));
    let ready = source.readiness() == super::Readiness::Ready;
    gauge!("moon_ready").set(f64::from(u8::from(ready)));
}

fn publish_listening(listening: &ListenNumbers) {
    gauge!("moon_blocked_clients").set(number(listening.blocked_clients));
    gauge!("moon_monitors").set(number(listening.monitors));
    gauge!("moon_tracking_clients").set(number(listening.tracking.clients));
    gauge!("moon_tracking_keys").set(number(listening.tracking.keys));
    gauge!("moon_tracking_prefixes").set(number(listening.tracking.prefixes));
    counter!("moon_slow_commands_total").absolute(listening.slow_commands);
}

fn publish_scripts(scripts: &ScriptsInfo) {
    gauge!("moon_scripts_cached").set(number(scripts.scripts));
    counter!("moon_scripts_evicted_total").absolute(scripts.evicted);
    gauge!("moon_function_libraries").set(number(scripts.libraries));
    gauge!("moon_functions").set(number(scripts.functions));
    let kinds = [
        ("engines", scripts.engine_bytes),
        ("scripts", scripts.script_bytes),
        ("libraries", scripts.function_bytes),
    ];
    for (kind, bytes) in kinds {
        gauge!("moon_script_memory_bytes", "kind" => kind).set(number(bytes));
    }
    gauge!("moon_busy_scripts").set(number(scripts.busy.now));
    gauge!("moon_busy_script_seconds").set(scripts.busy.longest.as_secs_f64());
    counter!("moon_busy_scripts_total").absolute(scripts.busy.seen);
    counter!("moon_killed_scripts_total").absolute(scripts.busy.killed);
}

fn publish_memory(memory: &MemoryInfo) {
    let kinds = [
        ("keyspace", memory.keyspace),
        ("values", memory.values),
        ("expiry", memory.expiry),
        ("aof_in_flight", memory.aof_in_flight),
        ("client_buffers", memory.clients),
        ("replication", 0),
        (
            "allocator_overhead",
            memory.committed.saturating_sub(memory.used),
        ),
    ];
    for (kind, bytes) in kinds {
        gauge!("moon_memory_bytes", "kind" => kind).set(number(bytes));
    }
    gauge!("moon_memory_used_bytes").set(number(memory.used));
    let counted = memory.used.saturating_sub(memory.not_counted);
    gauge!("moon_memory_counted_bytes").set(number(counted));
    gauge!("moon_memory_limit_bytes").set(number(memory.maxmemory));
    gauge!("moon_lazyfree_pending_objects").set(number(memory.lazyfree_pending));
}

/// How the log of one shard is.
fn publish_log(shard: usize, status: &ShardStatus) {
    let health = status.health();
    for kind in [LogHealth::AppendFailing, LogHealth::SyncFailing] {
        let operation = failing_word(kind);
        gauge!("moon_aof_failing", "shard" => shard.to_string(), "operation" => operation)
            .set(f64::from(u8::from(health == kind)));
    }
    let errno = status.cause().map_or(0, OsError::errno);
    gauge!("moon_aof_failing_errno", "shard" => shard.to_string()).set(f64::from(errno));
    let running = status.syncing_for().unwrap_or_default();
    gauge!("moon_aof_sync_running_seconds", "shard" => shard.to_string())
        .set(running.as_secs_f64());
}

/// Commands that were called, with their latencies.
fn called(source: &dyn Source) -> Vec<(String, HistogramValue)> {
    let count = u16::try_from(source.stats().command_count()).unwrap_or(u16::MAX);
    (0..count)
        .filter_map(|id| {
            let latency = source.stats().command(id).latency_ns;
            let name = source.command_name(id)?;
            (latency.count() > 0).then(|| (name.to_owned(), latency))
        })
        .collect()
}

/// What one counted unit is in the unit of the metric.
#[derive(Clone, Copy)]
enum Unit {
    Bytes,
    Nanoseconds,
}

impl Unit {
    fn show(self, n: u64) -> String {
        match self {
            Unit::Bytes => n.to_string(),
            Unit::Nanoseconds => format!("{}.{:09}", n / 1_000_000_000, n % 1_000_000_000),
        }
    }
}

fn histograms(source: &dyn Source, out: &mut String) {
    let name = "moon_command_duration_seconds";
    title(out, name, "Time per command");
    for (cmd, value) in called(source) {
        histogram(out, name, ("cmd", &cmd), &value, Unit::Nanoseconds);
    }
    let name = "moon_turn_bytes";
    title(out, name, "Effect bytes per turn");
    for (n, shard) in source.stats().shards().iter().enumerate() {
        let counts = shard.turn_bytes.read();
        histogram(out, name, ("shard", &n.to_string()), &counts, Unit::Bytes);
    }
    let Some(aof) = source.aof() else { return };
    title(out, "moon_aof_append_seconds", "Time per append");
    for (n, shard) in aof.shards().iter().enumerate() {
        durations(out, "moon_aof_append_seconds", n, &shard.append_latency);
    }
    title(out, "moon_aof_fsync_seconds", "Time per sync");
    for (n, shard) in aof.shards().iter().enumerate() {
        durations(out, "moon_aof_fsync_seconds", n, &shard.fsync_latency);
    }
}

/// A histogram of the log, whose bucket `i` counts what took less than 2^i microseconds.
fn durations(out: &mut String, name: &str, shard: usize, counts: &moon_aof::status::Histogram) {
    let mut seen = 0;
    let counted = counts.counts();
    for (i, n) in counted.iter().enumerate() {
        seen += n;
        let end = if i + 1 < counted.len() {
            Unit::Nanoseconds.show(1000 << i)
        } else {
            "+Inf".to_owned()
        };
        let _infallible = writeln!(
            out,
            "{name}_bucket{{shard=\"{shard}\",le=\"{end}\"}} {seen}"
        );
    }
    let sum = Unit::Nanoseconds.show(counts.sum_ns());
    let _infallible = write!(
        out,
        "{name}_sum{{shard=\"{shard}\"}} {sum}\n{name}_count{{shard=\"{shard}\"}} {seen}\n"
    );
}

fn title(out: &mut String, name: &str, help: &str) {
    // Writing to a String cannot fail, here and below.
    let _infallible = write!(out, "# HELP {name} {help}\n# TYPE {name} histogram\n");
}

/// Buckets count up to and including their end in Prometheus and below it here: for values that
/// are measured the difference does not matter.
fn histogram(
    out: &mut String,
    name: &str,
    (label, value): (&str, &str),
    counts: &HistogramValue,
    unit: Unit,
) {
    let mut seen = 0;
    for (i, n) in counts.buckets.iter().enumerate() {
        seen += n;
        let end = bucket_end(i).map_or_else(|| "+Inf".to_owned(), |end| unit.show(end));
        let _infallible = writeln!(
            out,
            "{name}_bucket{{{label}=\"{value}\",le=\"{end}\"}} {seen}"
        );
    }
    let sum = unit.show(counts.sum);
    let _infallible = write!(
        out,
        "{name}_sum{{{label}=\"{value}\"}} {sum}\n{name}_count{{{label}=\"{value}\"}} {seen}\n"
    );
}
