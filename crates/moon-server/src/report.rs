//! What the server says about itself: the numbers behind INFO and `/metrics`, gathered when
//! somebody asks.

use crate::clients::{ClientHandle, Flags};
use crate::config::{AppendFsync, maxmemory_policy_word};
use crate::info::{self, AofInfo, InfoSource, MemoryInfo, Section};
use crate::metrics::{ListenNumbers, LsnNumbers, Readiness, Source};
use crate::persistence::PersistenceInfo;
use crate::pubsub::Kind;
use crate::server::Server;
use crate::stats::ServerStats;
use crate::watch::latency::Event;
use moon_aof::AofStatus;
use moon_commands::{by_stat_id, stat_count};
use moon_core::Lsn;
use moon_repl::LogHealth;
use moon_shard::memory::inflight_bytes_max;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How long a mark of the history has been behind: measured ten times a second by remembering
/// where the head was, so the answer is right to a tenth of a second.
#[derive(Debug)]
pub struct Lag {
    state: Mutex<(Lsn, Instant)>,
}

impl Lag {
    /// A mark that is not behind.
    #[must_use]
    pub fn new(now: Instant) -> Lag {
        Lag {
            state: Mutex::new((Lsn::ZERO, now)),
        }
    }

    /// The mark stands at `mark`, the head at `head`.
    pub fn sample(&self, mark: Lsn, head: Lsn, now: Instant) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if mark >= state.0 {
            *state = (head, now);
        }
    }

    /// Age of the oldest byte that `mark` has not passed.
    #[must_use]
    pub fn age(&self, mark: Lsn, head: Lsn, now: Instant) -> Duration {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if mark >= head {
            Duration::ZERO
        } else {
            now.duration_since(state.1)
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Server {
    /// The text of INFO for these sections.
    #[must_use]
    pub fn info(&self, sections: &[Section]) -> String {
        info::render(&self.info_source(), sections)
    }

    fn info_source(&self) -> InfoSource {
        let config = self.config.snapshot();
        let stats = &self.stats;
        let now_us = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_micros();
        let clients = self.clients.all();
        let largest = |of: fn(&ClientHandle) -> u64| {
            let sizes = clients.iter().map(|client| of(client));
            sizes.max().unwrap_or(0)
        };
        let executable = std::env::current_exe().map(|p| p.display().to_string());
        InfoSource {
            os: os_name(),
            process_id: std::process::id(),
            run_id: stats.run_id.clone(),
            tcp_port: config.port,
            now_us: u64::try_from(now_us).unwrap_or(u64::MAX),
            uptime_s: stats.uptime_s(),
            hz: config.hz,
            executable: executable.unwrap_or_default(),
            config_file: config.config_file.clone(),
            shards: self.shards.get(),
            connected_clients: clients.len() as u64,
            maxclients: config.maxclients,
            blocked_clients: blocked(&clients),
            watching_clients: clients.iter().filter(|c| c.watch.load(Relaxed) > 0).count() as u64,
            input_buffer_max: largest(|c| c.qbuf.load(Relaxed) + c.qbuf_free.load(Relaxed)),
            output_buffer_max: largest(|c| c.rbs.load(Relaxed) + c.omem.load(Relaxed)),
            memory: self.memory_info(),
            aof_inflight_bytes: stats.sum(|s| &s.inflight_bytes),
            loading: None,
            loading_start_s: 0,
            persistence: self.persistence.info(),
            aof: self.aof().map(|aof| self.aof_info(&aof)),
            totals: stats.totals(),
            eviction_exceeded_ms: stats.beyond_limit_ms(Instant::now()),
            rates: stats.rates(),
            connections_received: stats.connections_received(),
            rejected_connections: stats.rejected_connections(),
            evicted_clients: stats.evicted_clients(),
            tracking: self.tracking.numbers(),
            pubsub: Kind::ALL.map(|kind| self.pubsub.names(kind) as u64),
            turns: stats.merged(|s| &s.turn_bytes).count(),
            frames: stats.sum(|s| &s.frames),
            replid: self.replication_id.clone(),
            lsn_head: self.clock.head().0,
            lsn_committed: self.clock.committed().0,
            recovery_us: stats.recovery_us.load(Relaxed),
            recovery_truncated_bytes: stats.recovery_truncated_bytes.load(Relaxed),
            cpu: info::process_cpu(),
            commands: self.called_commands(),
            latency_tracking: config.latency_tracking,
            latency_percentiles: config.latency_tracking_info_percentiles.clone(),
            errors: stats.errors(),
            databases: stats.databases(),
        }
    }

    /// What is known about memory now.
    #[must_use]
    pub fn memory_info(&self) -> MemoryInfo {
        let stats = &self.stats;
        let config = self.config.snapshot();
        let (rss, total_system) = info::process_memory();
        let used = self.memory.used();
        let lazy_free = self.memory.lazy_free();
        MemoryInfo {
            used,
            peak: stats.note_memory(used),
            startup: stats.startup_memory.load(Relaxed),
            rss,
            committed: moon_alloc::statistics::committed().0,
            total_system,
            keyspace: stats.sum(|s| &s.keyspace_bytes),
            values: stats.sum(|s| &s.value_bytes),
            expiry: stats.sum(|s| &s.expiry_bytes),
            clients: stats.sum(|s| &s.client_bytes),
            scripts: self.scripts.info(),
            aof_in_flight: stats.sum(|s| &s.inflight_bytes),
            not_counted: self.memory.uncounted(config.maxmemory),
            maxmemory: config.maxmemory,
            policy: maxmemory_policy_word(config.maxmemory_policy),
            lazyfree_pending: lazy_free.pending_objects(),
            lazyfreed: stats.lazyfreed(lazy_free.freed_objects()),
        }
    }

    /// The commands that were called, with what is counted of each.
    #[must_use]
    pub fn called_commands(&self) -> Vec<(String, crate::stats::CommandTotals)> {
        let ids = 0..u16::try_from(stat_count()).unwrap_or(u16::MAX);
        ids.filter_map(|id| Some((by_stat_id(id)?.name.to_owned(), self.stats.command(id))))
            .filter(|(_, t)| t.latency_ns.count() + t.rejected > 0)
            .collect()
    }

    fn aof_info(&self, aof: &AofStatus) -> AofInfo {
        let (head, durable) = (self.clock.head(), self.clock.durable());
        let running: Vec<Duration> = aof
            .shards()
            .iter()
            .filter_map(|s| s.syncing_for())
            .collect();
        AofInfo {
            fsync_policy: self.config.snapshot().appendfsync.word(),
            current_size: aof.current_size(),
            base_size: aof.base_size(),
            last_write_ok: aof.failure().is_none(),
            pending_syncs: running.len() as u64,
            delayed_syncs: aof.total(|s| &s.delayed_fsyncs),
            sync_failures: aof.total(|s| &s.fsync_failures),
            append_failures: aof.total(|s| &s.append_failures),
            failure: aof.failure(),
            sync_running_ms: millis(running.into_iter().max().unwrap_or_default()),
            lsn_written: self.clock.written().0,
            lsn_durable: durable.0,
            ms_at_risk: millis(self.durable_lag.age(durable, head, Instant::now())),
            holding_up_shard: self.clock.holding_up().map(|shard| shard.0),
        }
    }

    /// What is measured ten times a second.
    pub fn sample(&self) {
        let now = Instant::now();
        self.persistence.tick();
        self.stats.sample(now);
        let head = self.clock.head();
        self.commit_lag.sample(self.clock.committed(), head, now);
        self.durable_lag.sample(self.clock.durable(), head, now);
        self.stats.note_memory(self.memory.used());
        let config = self.config.snapshot();
        let limit = config.maxmemory;
        if let Some(log) = self.persistence.aof() {
            let bound = inflight_bytes_max(config.inflight_max_bytes, limit, self.shards);
            log.set_unsynced_max(bound);
        }
        self.note_slow_disk();
        let is_beyond = limit > 0 && self.memory.counted(limit) > limit;
        self.stats.note_beyond_limit(is_beyond, now);
    }
}

impl Server {
    /// What the log's disk took longest for since the last look.
    fn note_slow_disk(&self) {
        let Some(aof) = self.aof() else { return };
        let replies_wait = self.settings.appendfsync() == AppendFsync::Always;
        for shard in aof.shards() {
            self.note_latency(Event::AofWrite, shard.append_latency.take_longest());
            let sync = shard.fsync_latency.take_longest();
            if replies_wait {
                self.note_latency(Event::AofFsyncAlways, sync);
            }
        }
    }
}

fn blocked(clients: &[Arc<ClientHandle>]) -> u64 {
    let blocked = clients.iter().filter(|c| c.has_flag(Flags::Blocked));
    blocked.count() as u64
}

fn os_name() -> String {
    let name = nix::sys::utsname::uname();
    match name {
        Ok(name) => format!(
            "{} {} {}",
            name.sysname().to_string_lossy(),
            name.release().to_string_lossy(),
            name.machine().to_string_lossy()
        ),
        Err(_) => std::env::consts::OS.to_owned(),
    }
}

impl Source for Server {
    fn stats(&self) -> &ServerStats {
        &self.stats
    }

    fn aof(&self) -> Option<Arc<AofStatus>> {
        self.persistence.aof().map(|aof| aof.status())
    }

    fn persistence(&self) -> PersistenceInfo {
        self.persistence.info()
    }

    fn command_name(&self, id: u16) -> Option<&str> {
        by_stat_id(id).map(|spec| spec.name)
    }

    fn lsn(&self) -> LsnNumbers {
        let (head, committed) = (self.clock.head(), self.clock.committed());
        LsnNumbers {
            head: head.0,
            committed: committed.0,
            durable: self.clock.durable().0,
            commit_lag_ms: millis(self.commit_lag.age(committed, head, Instant::now())),
        }
    }

    fn readiness(&self) -> Readiness {
        if self.is_stopping() {
            return Readiness::NotReady("stopping".to_owned());
        }
        let Some(failure) = self.aof().and_then(|aof| aof.failure()) else {
            return Readiness::Ready;
        };
        let verb = match failure.health {
            LogHealth::Healthy => return Readiness::Ready,
            LogHealth::AppendFailing => "written",
            LogHealth::SyncFailing => "synced",
        };
        Readiness::NotReady(format!(
            "the log cannot be {verb} ({}): {}",
            failure.shard, failure.cause
        ))
    }

    fn memory(&self) -> MemoryInfo {
        self.memory_info()
    }

    fn subscriptions(&self, kind: Kind) -> u64 {
        self.pubsub.subscriptions(kind) as u64
    }

    fn subscribed(&self, kind: Kind) -> u64 {
        self.pubsub.names(kind) as u64
    }

    fn listening(&self) -> ListenNumbers {
        ListenNumbers {
            blocked_clients: blocked(&self.clients.all()),
            monitors: self.monitors.count() as u64,
            tracking: self.tracking.numbers(),
            slow_commands: self.slowlog.added(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lag_is_the_age_of_the_oldest_byte_not_passed() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let lag = Lag::new(start);
        lag.sample(Lsn(0), Lsn(100), at(0));
        assert_eq!(lag.age(Lsn(100), Lsn(100), at(50)), Duration::ZERO);
        assert_eq!(
            lag.age(Lsn(40), Lsn(100), at(500)),
            Duration::from_millis(500)
        );
        lag.sample(Lsn(40), Lsn(300), at(1000));
        assert_eq!(
            lag.age(Lsn(40), Lsn(300), at(1000)),
            Duration::from_millis(1000)
        );
        lag.sample(Lsn(100), Lsn(300), at(1100));
        assert_eq!(
            lag.age(Lsn(100), Lsn(300), at(1200)),
            Duration::from_millis(100)
        );
    }
}
