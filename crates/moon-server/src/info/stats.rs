//! The sections on what was done: Stats, Commandstats, Errorstats, Latencystats, Keyspace.

use super::numbers::ratio;
use super::{InfoSource, put, zeros};
use crate::stats::CommandTotals;

pub(super) fn stats(i: &InfoSource, s: &mut String) {
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
        "evicted_clients": i.evicted_clients,
        "evicted_scripts": i.memory.scripts.evicted,
        "total_eviction_exceeded_time": i.eviction_exceeded_ms.0,
        "current_eviction_exceeded_time": i.eviction_exceeded_ms.1,
    );
    fields!(s, "keyspace_hits": t.keyspace_hits, "keyspace_misses": t.keyspace_misses);
    let [channels, patterns, shard_channels] = i.pubsub;
    fields!(s,
        "pubsub_channels": channels,
        "pubsub_patterns": patterns,
        "pubsubshard_channels": shard_channels,
    );
    zeros(
        s,
        &[
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
        ],
    );
    fields!(s,
        "tracking_total_keys": i.tracking.keys,
        "tracking_total_items": i.tracking.items,
        "tracking_total_prefixes": i.tracking.prefixes,
        "unexpected_error_replies": 0,
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
        ],
    );
    fields!(s, "client_output_buffer_limit_disconnections": t.output_limit_disconnections);
    zeros(
        s,
        &[
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

/// Whether a command appears: called, or at least attempted.
fn used(c: &CommandTotals) -> bool {
    c.latency_ns.count() > 0 || c.failed > 0 || c.rejected > 0
}

pub(super) fn commandstats(i: &InfoSource, s: &mut String) {
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

pub(super) fn errorstats(i: &InfoSource, s: &mut String) {
    for (code, count) in &i.errors {
        put(
            s,
            &format!("errorstat_{code}"),
            format_args!("count={count}"),
        );
    }
}

pub(super) fn latencystats(i: &InfoSource, s: &mut String) {
    if !i.latency_tracking {
        return;
    }
    for (name, c) in i.commands.iter().filter(|(_, c)| c.latency_ns.count() > 0) {
        let shown: Vec<String> = i
            .latency_percentiles
            .iter()
            .map(|percent| {
                let ns = c.latency_ns.percentile(*percent);
                format!("p{percent}={}.{:03}", ns / 1000, ns % 1000)
            })
            .collect();
        let name = format!("latency_percentiles_usec_{name}");
        put(s, &name, shown.join(","));
    }
}

pub(super) fn keyspace(i: &InfoSource, s: &mut String) {
    for (n, db) in i.databases.iter().enumerate().filter(|(_, db)| db.keys > 0) {
        let value = format!(
            "keys={},expires={},avg_ttl={},subexpiry={}",
            db.keys, db.expires, db.avg_ttl_ms, db.subexpiry
        );
        put(s, &format!("db{n}"), value);
    }
}
