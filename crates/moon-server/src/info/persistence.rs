//! The section Persistence: snapshots, the log, and how safe the data is.

use super::numbers::{percent, seconds, seconds_or_none, status, thousandths};
use super::{InfoSource, put, zeros};
use moon_aof::LogFailure;
use moon_repl::LogHealth;

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

pub(super) fn persistence(i: &InfoSource, s: &mut String) {
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

/// What of the log does not work, in one word.
#[must_use]
pub fn failing_word(health: LogHealth) -> &'static str {
    match health {
        LogHealth::Healthy => "no",
        LogHealth::AppendFailing => "append",
        LogHealth::SyncFailing => "sync",
    }
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
