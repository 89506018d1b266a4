//! What a shard's thread tells, put where INFO and metrics read it, and shown to monitors.

use crate::notify;
use crate::pubsub::Hub;
use crate::server::Server;
use crate::stats::ServerStats;
use crate::tracking::Tracking;
use crate::watch::latency::Event as LatencyEvent;
use crate::watch::monitor::Lines;
use moon_commands::CommandId;
use moon_commands::context::Counts;
use moon_commands::notify::{Class, Event};
use moon_core::{Lsn, ShardId};
use moon_shard::{Executed, Observer, SessionId, Watch};
use moon_store::{MemoryParts, ShardData, StaleKeys};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Writes the block of one shard in [`ServerStats`], and what is slow or monitored.
pub struct StatsObserver {
    stats: Arc<ServerStats>,
    server: Arc<Server>,
    shard: ShardId,
    /// Keeps what depends on the turn.
    hub: Rc<Hub>,
    /// Tells clients of stale copies.
    tracking: Rc<Tracking>,
    lines: Lines,
}

impl StatsObserver {
    /// The observer of `shard`.
    #[must_use]
    pub fn new(
        server: Arc<Server>,
        shard: ShardId,
        hub: Rc<Hub>,
        tracking: Rc<Tracking>,
    ) -> StatsObserver {
        StatsObserver {
            stats: Arc::clone(&server.stats),
            server,
            shard,
            hub,
            tracking,
            lines: Lines::default(),
        }
    }
}

impl Observer for StatsObserver {
    #[inline]
    fn commands(&self, ids: &[CommandId], nanos_each: u64) {
        let stats = self.stats.shard(self.shard.index());
        for id in ids {
            stats.record_command(*id, 1, nanos_each);
        }
    }

    fn failed(&self, id: CommandId, text: &str) {
        self.stats.shard(self.shard.index()).record_failed(id);
        self.stats
            .record_error(text.split(' ').next().unwrap_or("ERR"));
    }

    fn refused(&self, id: CommandId, text: &str) {
        self.stats.shard(self.shard.index()).record_rejected(id);
        self.stats
            .record_error(text.split(' ').next().unwrap_or("ERR"));
    }

    #[inline]
    fn refusal(&self) -> Option<&'static str> {
        self.server.scripts.busy.text()
    }

    fn watch(&self) -> Watch {
        Watch {
            slow_nanos: self.server.settings.slow_nanos.load(Relaxed),
            is_monitored: self.server.monitors.any(),
        }
    }

    fn slow(&self, command: &Executed<'_>, nanos: u64) {
        self.server.note_slow(command, nanos);
    }

    fn executed(&self, command: &Executed<'_>, depends_on: Lsn) {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH);
        let clients = &self.server.clients;
        self.lines
            .add(command, depends_on, unix.unwrap_or_default(), clients);
    }

    #[inline]
    fn show(&self, end: Lsn) {
        let server = &self.server;
        self.lines.show(end, &server.monitors, &server.directory);
    }

    fn expire_cycle(&self, taken: Duration) {
        self.server.note_latency(LatencyEvent::ExpireCycle, taken);
    }

    fn eviction_cycle(&self, taken: Duration) {
        self.server.note_latency(LatencyEvent::EvictionCycle, taken);
    }

    fn counts(&self, counts: Counts) {
        let stats = self.stats.shard(self.shard.index());
        if counts.hits > 0 {
            stats.keyspace_hits.add(counts.hits);
        }
        if counts.misses > 0 {
            stats.keyspace_misses.add(counts.misses);
        }
        if counts.expired > 0 {
            stats.expired_keys.add(counts.expired);
        }
        if counts.expired_fields > 0 {
            stats.expired_subkeys.add(counts.expired_fields);
        }
        stats.changes.add(counts.changes);
    }

    fn frame(&self, payload_bytes: usize, end: Lsn) {
        self.hub.frame_ended(end);
        self.tracking.frame_ended(end);
        let stats = self.stats.shard(self.shard.index());
        stats.turn_bytes.record(payload_bytes as u64, 1);
        stats.frames.add(1);
        stats.aof_bytes.add(payload_bytes as u64);
    }

    fn expired(&self, keys: u64, fields: u64) {
        let stats = self.stats.shard(self.shard.index());
        stats.expired_keys.add(keys);
        stats.expired_subkeys.add(fields);
        stats.changes.add(keys + fields);
    }

    fn evicted(&self, keys: u64) {
        let stats = self.stats.shard(self.shard.index());
        stats.evicted_keys.add(keys);
        stats.changes.add(keys);
    }

    fn stale(&self, keys: StaleKeys, by: SessionId, depends_on: Lsn) {
        self.tracking.stale(keys, by, depends_on);
    }

    fn events(&self, classes: Class, events: Vec<Event>, depends_on: Lsn) {
        notify::publish(&self.hub, classes, &events, depends_on);
    }

    fn data(&self, data: &ShardData) {
        let stats = self.stats.shard(data.id.index());
        let mut all = MemoryParts::default();
        for (index, db) in data.dbs.iter().enumerate() {
            let Some(block) = stats.db(index) else {
                continue;
            };
            // Most of them are never used.
            if db.is_empty() && block.keys.get() == 0 {
                continue;
            }
            let bytes = db.memory_parts();
            all += bytes;
            block.keys.set(db.len() as u64);
            block.expires.set(db.volatile_len() as u64);
            block.subexpiry.set(db.volatile_hashes() as u64);
            block.keyspace_bytes.set(bytes.keyspace as u64);
            block.expiry_bytes.set(bytes.expiry as u64);
        }
        let tracked = &data.tracking;
        (self.tracking).note_table(data.id, tracked.len(), tracked.items());
        stats.keyspace_bytes.set(all.keyspace as u64);
        stats.value_bytes.set(all.values as u64);
        stats.expiry_bytes.set(all.expiry as u64);
    }
}
