//! What the server counts: one block per shard, written by that shard alone, read by INFO and
//! the metrics.
//!
//! Every counter has one writer (see [`histogram`](crate::histogram)), so resetting (CONFIG
//! RESETSTAT) does not write into the counters: it remembers their values and readers subtract.

use crate::histogram::{Counter, Histogram, HistogramValue};
use rand::TryRng as _;
use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// What one shard counts about one command.
#[derive(Debug, Default)]
pub struct CommandStats {
    /// Time per call in nanoseconds; the number of values is the number of calls.
    pub latency_ns: Histogram,
    /// Calls that were executed and answered an error.
    pub failed: Counter,
    /// Calls that were refused before execution.
    pub rejected: Counter,
}

/// What one shard knows about one database. Absolute numbers, set now and then.
#[derive(Debug, Default)]
pub struct DbStats {
    /// Keys.
    pub keys: Counter,
    /// Keys with an expiry time.
    pub expires: Counter,
    /// Hashes with fields that have an expiry time.
    pub subexpiry: Counter,
    /// Estimate of the mean time to live, in milliseconds.
    pub avg_ttl_ms: Counter,
    /// Bytes of the table of keys.
    pub keyspace_bytes: Counter,
    /// Bytes of the table of deadlines.
    pub expiry_bytes: Counter,
}

/// Everything one shard counts. Written by its thread alone, except where noted.
#[derive(Debug)]
#[repr(align(128))]
#[expect(missing_docs, reason = "the field names are the words of INFO")]
pub struct ShardStats {
    pub commands: Counter,
    pub keyspace_hits: Counter,
    pub keyspace_misses: Counter,
    pub expired_keys: Counter,
    pub evicted_keys: Counter,
    /// Messages published, whether anybody listened or not.
    pub pubsub_messages: Counter,
    /// Clients closed because they had left too much unread.
    pub output_limit_disconnections: Counter,
    pub expired_subkeys: Counter,
    /// Changes of keys since the start; CONFIG RESETSTAT leaves them, `save` counts them.
    pub changes: Counter,
    pub net_input_bytes: Counter,
    pub net_output_bytes: Counter,
    /// Reads from and writes to client sockets.
    pub reads: Counter,
    pub writes: Counter,
    /// Connections whose home this shard is.
    pub connections: Counter,
    pub frames: Counter,
    pub aof_bytes: Counter,
    /// Executed and not yet committed, held replies included: what the shard's bound counts.
    pub inflight_bytes: Counter,
    /// Bytes of the shard's tables of keys.
    pub keyspace_bytes: Counter,
    /// Bytes that keys and values own outside the tables.
    pub value_bytes: Counter,
    /// Bytes of the shard's tables of deadlines.
    pub expiry_bytes: Counter,
    /// Buffers of the clients whose home this shard is.
    pub client_bytes: Counter,
    /// How long the last server command took that was noted here, for the slow log.
    pub noted_nanos: Counter,
    /// Effect bytes per turn; the number of values is the number of turns.
    pub turn_bytes: Histogram,
    dbs: Box<[DbStats]>,
    commands_by_id: Box<[CommandStats]>,
}

impl ShardStats {
    fn new(databases: usize, command_count: usize) -> ShardStats {
        ShardStats {
            commands: Counter::default(),
            keyspace_hits: Counter::default(),
            keyspace_misses: Counter::default(),
            expired_keys: Counter::default(),
            evicted_keys: Counter::default(),
            pubsub_messages: Counter::default(),
            output_limit_disconnections: Counter::default(),
            expired_subkeys: Counter::default(),
            changes: Counter::default(),
            net_input_bytes: Counter::default(),
            net_output_bytes: Counter::default(),
            reads: Counter::default(),
            writes: Counter::default(),
            connections: Counter::default(),
            frames: Counter::default(),
            aof_bytes: Counter::default(),
            inflight_bytes: Counter::default(),
            keyspace_bytes: Counter::default(),
            value_bytes: Counter::default(),
            expiry_bytes: Counter::default(),
            client_bytes: Counter::default(),
            noted_nanos: Counter::default(),
            turn_bytes: Histogram::default(),
            dbs: (0..databases).map(|_| DbStats::default()).collect(),
            commands_by_id: (0..command_count)
                .map(|_| CommandStats::default())
                .collect(),
        }
    }

    /// Counts `calls` executions of command `id` that took `ns_each` nanoseconds each. A batch
    /// that reads the clock once passes its mean.
    #[inline]
    pub fn record_command(&self, id: u16, calls: u64, ns_each: u64) {
        self.commands.add(calls);
        if let Some(command) = self.commands_by_id.get(usize::from(id)) {
            command.latency_ns.record(ns_each, calls);
        }
    }

    /// Counts one execution that answered an error.
    #[inline]
    pub fn record_failed(&self, id: u16) {
        if let Some(command) = self.commands_by_id.get(usize::from(id)) {
            command.failed.add(1);
        }
    }

    /// Counts one call that was refused before execution.
    #[inline]
    pub fn record_rejected(&self, id: u16) {
        if let Some(command) = self.commands_by_id.get(usize::from(id)) {
            command.rejected.add(1);
        }
    }

    /// The block of one database; `None` beyond `databases`.
    #[inline]
    #[must_use]
    pub fn db(&self, db: usize) -> Option<&DbStats> {
        self.dbs.get(db)
    }

    fn totals(&self) -> Totals {
        Totals {
            commands: self.commands.get(),
            keyspace_hits: self.keyspace_hits.get(),
            keyspace_misses: self.keyspace_misses.get(),
            expired_keys: self.expired_keys.get(),
            evicted_keys: self.evicted_keys.get(),
            expired_subkeys: self.expired_subkeys.get(),
            net_input_bytes: self.net_input_bytes.get(),
            net_output_bytes: self.net_output_bytes.get(),
            reads: self.reads.get(),
            writes: self.writes.get(),
            output_limit_disconnections: self.output_limit_disconnections.get(),
        }
    }
}

/// Sums over all shards of what CONFIG RESETSTAT sets back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are those of ShardStats")]
pub struct Totals {
    pub commands: u64,
    pub keyspace_hits: u64,
    pub keyspace_misses: u64,
    pub expired_keys: u64,
    pub evicted_keys: u64,
    pub expired_subkeys: u64,
    pub net_input_bytes: u64,
    pub net_output_bytes: u64,
    pub reads: u64,
    pub writes: u64,
    pub output_limit_disconnections: u64,
}

impl Totals {
    fn zip(self, other: Totals, f: impl Fn(u64, u64) -> u64) -> Totals {
        Totals {
            commands: f(self.commands, other.commands),
            keyspace_hits: f(self.keyspace_hits, other.keyspace_hits),
            keyspace_misses: f(self.keyspace_misses, other.keyspace_misses),
            expired_keys: f(self.expired_keys, other.expired_keys),
            evicted_keys: f(self.evicted_keys, other.evicted_keys),
            expired_subkeys: f(self.expired_subkeys, other.expired_subkeys),
            net_input_bytes: f(self.net_input_bytes, other.net_input_bytes),
            net_output_bytes: f(self.net_output_bytes, other.net_output_bytes),
            reads: f(self.reads, other.reads),
            writes: f(self.writes, other.writes),
            output_limit_disconnections: f(
                self.output_limit_disconnections,
                other.output_limit_disconnections,
            ),
        }
    }
}

/// One command over all shards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CommandTotals {
    /// Time per call in nanoseconds.
    pub latency_ns: HistogramValue,
    /// Calls that answered an error.
    pub failed: u64,
    /// Calls refused before execution.
    pub rejected: u64,
}

/// One database over all shards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DbTotals {
    /// Keys.
    pub keys: u64,
    /// Keys with an expiry time.
    pub expires: u64,
    /// Hashes with fields that have an expiry time.
    pub subexpiry: u64,
    /// Mean time to live in milliseconds, weighted by keys that expire.
    pub avg_ttl_ms: u64,
    /// Bytes of the tables of keys.
    pub keyspace_bytes: u64,
    /// Bytes of the tables of deadlines.
    pub expiry_bytes: u64,
}

/// Samples in the ring of an instantaneous rate, as in Redis.
const RATE_SAMPLES: usize = 16;

#[derive(Debug, Default)]
struct Rate {
    last: u64,
    samples: [u64; RATE_SAMPLES],
    next: usize,
}

impl Rate {
    fn sample(&mut self, value: u64, elapsed_ms: u64) {
        let grown = value.saturating_sub(self.last);
        self.last = value;
        self.samples[self.next] = grown.saturating_mul(1000) / elapsed_ms.max(1);
        self.next = (self.next + 1) % RATE_SAMPLES;
    }

    fn mean(&self) -> u64 {
        self.samples.iter().sum::<u64>() / RATE_SAMPLES as u64
    }
}

#[derive(Debug, Default)]
struct Rates {
    at: Option<Instant>,
    commands: Rate,
    input: Rate,
    output: Rate,
}

/// Rates over about the last two seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RatesNow {
    /// Commands per second.
    pub ops_per_sec: u64,
    /// Bytes read per second.
    pub input_bytes_per_sec: u64,
    /// Bytes written per second.
    pub output_bytes_per_sec: u64,
}

/// Time beyond the memory limit.
#[derive(Debug, Default)]
struct BeyondLimit {
    total: Duration,
    since: Option<Instant>,
}

/// What CONFIG RESETSTAT remembers.
#[derive(Debug, Default)]
struct Baseline {
    totals: Totals,
    connections_received: u64,
    rejected_connections: u64,
    evicted_clients: u64,
    lazyfreed: u64,
    commands: Vec<CommandTotals>,
}

/// Codes that the map of errors holds at most; as in Redis, what comes after is not told apart.
const ERROR_CODES_MAX: usize = 128;

/// Everything the server counts.
#[derive(Debug)]
pub struct ServerStats {
    shards: Box<[ShardStats]>,
    command_count: usize,
    databases: usize,
    started: Instant,
    /// Wall-clock time of the start, in Unix seconds.
    pub start_time_s: u64,
    /// 40 hexadecimal digits, new at every start.
    pub run_id: String,
    connections_received: AtomicU64,
    rejected_connections: AtomicU64,
    evicted_clients: AtomicU64,
    peak_memory: AtomicU64,
    /// Memory in use before any data was loaded; set once.
    pub startup_memory: AtomicU64,
    beyond_limit: Mutex<BeyondLimit>,
    /// Unix seconds of the last save; the start until there is one.
    pub last_save_s: AtomicU64,
    /// Duration of recovery in microseconds; set once.
    pub recovery_us: AtomicU64,
    /// Bytes that recovery cut off beyond the recovered prefix; set once.
    pub recovery_truncated_bytes: AtomicU64,
    errors: Mutex<BTreeMap<String, u64>>,
    rates: Mutex<Rates>,
    baseline: Mutex<Baseline>,
}

impl ServerStats {
    /// Counters for `shards` shards, `databases` databases and command ids below
    /// `command_count`.
    #[must_use]
    pub fn new(shards: usize, databases: usize, command_count: usize) -> ServerStats {
        let now_s = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |d| d.as_secs());
        ServerStats {
            shards: (0..shards)
                .map(|_| ShardStats::new(databases, command_count))
                .collect(),
            command_count,
            databases,
            started: Instant::now(),
            start_time_s: now_s,
            run_id: random_id(),
            connections_received: AtomicU64::new(0),
            rejected_connections: AtomicU64::new(0),
            evicted_clients: AtomicU64::new(0),
            peak_memory: AtomicU64::new(0),
            startup_memory: AtomicU64::new(0),
            beyond_limit: Mutex::default(),
            last_save_s: AtomicU64::new(now_s),
            recovery_us: AtomicU64::new(0),
            recovery_truncated_bytes: AtomicU64::new(0),
            errors: Mutex::default(),
            rates: Mutex::default(),
            baseline: Mutex::default(),
        }
    }

    /// The block of one shard.
    ///
    /// # Panics
    /// When there is no such shard.
    #[inline]
    #[must_use]
    pub fn shard(&self, index: usize) -> &ShardStats {
        &self.shards[index]
    }

    /// The blocks of all shards, in order.
    #[must_use]
    pub fn shards(&self) -> &[ShardStats] {
        &self.shards
    }

    /// Seconds since the start, by a clock that never jumps.
    #[must_use]
    pub fn uptime_s(&self) -> u64 {
        self.started.elapsed().as_secs()
    }

    /// Counts a connection that was accepted.
    pub fn connection_received(&self) {
        self.connections_received.fetch_add(1, Relaxed);
    }

    /// Counts a connection that was turned away (maxclients).
    pub fn connection_rejected(&self) {
        self.rejected_connections.fetch_add(1, Relaxed);
    }

    /// Connections accepted since the last reset.
    #[must_use]
    pub fn connections_received(&self) -> u64 {
        self.connections_received
            .load(Relaxed)
            .saturating_sub(lock(&self.baseline).connections_received)
    }

    /// Connections turned away since the last reset.
    #[must_use]
    pub fn rejected_connections(&self) -> u64 {
        self.rejected_connections
            .load(Relaxed)
            .saturating_sub(lock(&self.baseline).rejected_connections)
    }

    /// Counts clients that were ended because of `maxmemory-clients`.
    pub fn clients_evicted(&self, count: u64) {
        self.evicted_clients.fetch_add(count, Relaxed);
    }

    /// Clients ended because of `maxmemory-clients` since the last reset.
    #[must_use]
    pub fn evicted_clients(&self) -> u64 {
        self.evicted_clients
            .load(Relaxed)
            .saturating_sub(lock(&self.baseline).evicted_clients)
    }

    /// Clients connected now.
    #[must_use]
    pub fn connected_clients(&self) -> u64 {
        self.sum(|s| &s.connections)
    }

    /// Sum of one counter over the shards.
    #[must_use]
    pub fn sum(&self, field: impl Fn(&ShardStats) -> &Counter) -> u64 {
        self.shards
            .iter()
            .fold(0, |n, s| n.wrapping_add(field(s).get()))
    }

    /// Sum of one histogram over the shards.
    #[must_use]
    pub fn merged(&self, field: impl Fn(&ShardStats) -> &Histogram) -> HistogramValue {
        let mut all = HistogramValue::default();
        for shard in &self.shards {
            all.merge(&field(shard).read());
        }
        all
    }

    /// Takes note of the memory in use and returns the highest value seen.
    pub fn note_memory(&self, used: u64) -> u64 {
        self.peak_memory.fetch_max(used, Relaxed).max(used)
    }

    /// Values dropped lazily since the last reset, of `freed` since the start.
    #[must_use]
    pub fn lazyfreed(&self, freed: u64) -> u64 {
        freed.saturating_sub(lock(&self.baseline).lazyfreed)
    }

    /// Whether the memory limit is exceeded at `now`; to be told now and then.
    pub fn note_beyond_limit(&self, is_beyond: bool, now: Instant) {
        let mut state = lock(&self.beyond_limit);
        match (state.since, is_beyond) {
            (None, true) => state.since = Some(now),
            (Some(since), false) => {
                state.total += now.saturating_duration_since(since);
                state.since = None;
            }
            _ => {}
        }
    }

    /// Milliseconds beyond the memory limit: in all, and without a break until `now`.
    #[must_use]
    pub fn beyond_limit_ms(&self, now: Instant) -> (u64, u64) {
        let state = lock(&self.beyond_limit);
        let current = (state.since).map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        (millis(state.total + current), millis(current))
    }

    /// Changes of keys since the start.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.sum(|s| &s.changes)
    }

    /// Totals since the last reset.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.raw_totals()
            .zip(lock(&self.baseline).totals, u64::saturating_sub)
    }

    fn raw_totals(&self) -> Totals {
        self.shards.iter().fold(Totals::default(), |sum, s| {
            sum.zip(s.totals(), u64::wrapping_add)
        })
    }

    /// One command since the last reset.
    #[must_use]
    pub fn command(&self, id: u16) -> CommandTotals {
        let now = self.raw_command(usize::from(id));
        match lock(&self.baseline).commands.get(usize::from(id)) {
            None => now,
            Some(earlier) => CommandTotals {
                latency_ns: now.latency_ns.since(&earlier.latency_ns),
                failed: now.failed.saturating_sub(earlier.failed),
                rejected: now.rejected.saturating_sub(earlier.rejected),
            },
        }
    }

    fn raw_command(&self, id: usize) -> CommandTotals {
        let mut sum = CommandTotals::default();
        for command in self.shards.iter().filter_map(|s| s.commands_by_id.get(id)) {
            sum.latency_ns.merge(&command.latency_ns.read());
            sum.failed = sum.failed.wrapping_add(command.failed.get());
            sum.rejected = sum.rejected.wrapping_add(command.rejected.get());
        }
        sum
    }

    /// Number of command ids that are counted.
    #[must_use]
    pub fn command_count(&self) -> usize {
        self.command_count
    }

    /// Every database over all shards, in order.
    #[must_use]
    pub fn databases(&self) -> Vec<DbTotals> {
        (0..self.databases)
            .map(|db| {
                let mut sum = DbTotals::default();
                let mut ttl = 0u128;
                for block in self.shards.iter().filter_map(|s| s.db(db)) {
                    let expires = block.expires.get();
                    sum.keys += block.keys.get();
                    sum.expires += expires;
                    sum.subexpiry += block.subexpiry.get();
                    sum.keyspace_bytes += block.keyspace_bytes.get();
                    sum.expiry_bytes += block.expiry_bytes.get();
                    ttl += u128::from(block.avg_ttl_ms.get()) * u128::from(expires);
                }
                let mean = ttl / u128::from(sum.expires.max(1));
                sum.avg_ttl_ms = u64::try_from(mean).unwrap_or(u64::MAX);
                sum
            })
            .collect()
    }

    /// Counts an error reply by its first word, such as `WRONGTYPE`.
    pub fn record_error(&self, code: &str) {
        let mut errors = lock(&self.errors);
        if let Some(n) = errors.get_mut(code) {
            *n += 1;
        } else if errors.len() < ERROR_CODES_MAX {
            errors.insert(code.to_owned(), 1);
        }
    }

    /// Error replies by first word since the last reset.
    #[must_use]
    pub fn errors(&self) -> Vec<(String, u64)> {
        let errors = lock(&self.errors);
        errors.iter().map(|(code, n)| (code.clone(), *n)).collect()
    }

    /// Takes the samples of the instantaneous rates; to be called ten times a second.
    pub fn sample(&self, now: Instant) {
        let totals = self.raw_totals();
        let mut rates = lock(&self.rates);
        if let Some(at) = rates.at {
            let ms = now.saturating_duration_since(at).as_millis();
            let ms = u64::try_from(ms).unwrap_or(u64::MAX);
            rates.commands.sample(totals.commands, ms);
            rates.input.sample(totals.net_input_bytes, ms);
            rates.output.sample(totals.net_output_bytes, ms);
        }
        rates.at = Some(now);
    }

    /// The instantaneous rates.
    #[must_use]
    pub fn rates(&self) -> RatesNow {
        let rates = lock(&self.rates);
        RatesNow {
            ops_per_sec: rates.commands.mean(),
            input_bytes_per_sec: rates.input.mean(),
            output_bytes_per_sec: rates.output.mean(),
        }
    }

    /// CONFIG RESETSTAT.
    pub fn reset(&self, lazyfreed: u64) {
        *lock(&self.beyond_limit) = BeyondLimit::default();
        *lock(&self.baseline) = Baseline {
            totals: self.raw_totals(),
            connections_received: self.connections_received.load(Relaxed),
            rejected_connections: self.rejected_connections.load(Relaxed),
            evicted_clients: self.evicted_clients.load(Relaxed),
            lazyfreed,
            commands: (0..self.command_count)
                .map(|id| self.raw_command(id))
                .collect(),
        };
        lock(&self.errors).clear();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// 40 random hexadecimal digits.
fn random_id() -> String {
    let mut bytes = [0u8; 20];
    rand::rngs::SysRng
        .try_fill_bytes(&mut bytes)
        .expect("the kernel hands out random bytes");
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reset_sets_back_what_readers_see_without_writing_counters() {
        let stats = ServerStats::new(2, 16, 10);
        stats.shard(0).record_command(3, 5, 1000);
        stats.shard(1).record_command(3, 1, 1000);
        stats.shard(1).record_failed(3);
        stats.shard(1).record_command(999, 1, 1);
        stats.connection_received();
        stats.record_error("ERR");
        assert_eq!(stats.totals().commands, 7);
        assert_eq!(stats.command(3).latency_ns.count(), 6);
        stats.reset(0);
        assert_eq!(stats.totals(), Totals::default());
        assert_eq!(stats.command(3), CommandTotals::default());
        assert_eq!(stats.connections_received(), 0);
        assert!(stats.errors().is_empty());
        stats.shard(0).record_command(3, 1, 1000);
        assert_eq!(stats.totals().commands, 1);
        assert_eq!(stats.command(3).latency_ns.count(), 1);
        assert_eq!(stats.shard(0).commands.get(), 6);
    }

    #[test]
    fn rates_are_means_of_the_last_samples() {
        let stats = ServerStats::new(1, 16, 1);
        let mut now = Instant::now();
        stats.sample(now);
        for _ in 0..RATE_SAMPLES {
            stats.shard(0).commands.add(50);
            now += Duration::from_millis(100);
            stats.sample(now);
        }
        assert_eq!(stats.rates().ops_per_sec, 500);
    }

    #[test]
    fn databases_are_summed_over_shards() {
        let stats = ServerStats::new(2, 16, 1);
        for (shard, keys, ttl) in [(0, 10, 100), (1, 30, 300)] {
            let db = stats.shard(shard).db(2).unwrap();
            db.keys.set(keys);
            db.expires.set(keys);
            db.subexpiry.set(shard as u64 + 1);
            db.avg_ttl_ms.set(ttl);
        }
        let expected = DbTotals {
            keys: 40,
            expires: 40,
            subexpiry: 3,
            avg_ttl_ms: 250,
            ..DbTotals::default()
        };
        assert_eq!(stats.databases()[2], expected);
        assert!(stats.shard(0).db(16).is_none());
    }

    #[test]
    fn the_map_of_errors_is_bounded() {
        let stats = ServerStats::new(1, 16, 1);
        for i in 0..1000 {
            stats.record_error(&format!("E{i}"));
        }
        assert_eq!(stats.errors().len(), ERROR_CODES_MAX);
        assert_eq!(stats.run_id.len(), 40);
    }
}
