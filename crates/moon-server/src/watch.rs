//! Watching the server: what was slow, what runs, what made it wait.
//!
//! * [`slowlog`]: SLOWLOG, the last commands that took long.
//! * [`latency`]: LATENCY, when which part of the server was how slow.
//! * [`graph`], [`doctor`]: LATENCY GRAPH and LATENCY DOCTOR, as text.
//! * [`monitor`]: MONITOR, every command as it runs.
//! * [`redact`]: arguments that nobody may see.
//!
//! Shards tell of slow commands and of every command through [`moon_shard::Observer`]; without
//! anything slow and without monitors that costs a comparison per reading of the clock.

pub mod doctor;
pub mod graph;
pub mod latency;
pub mod monitor;
pub mod redact;
pub mod slowlog;

use crate::server::Server;
use moon_commands::Flags;
use moon_shard::Executed;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Unix seconds and microseconds within them.
fn unix_time() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

impl Server {
    /// Whether a command that took `nanos` is to be told with [`Server::note_slow`].
    #[inline]
    #[must_use]
    pub fn is_slow(&self, nanos: u64) -> bool {
        nanos >= self.settings.slow_nanos.load(Relaxed)
    }

    /// A command took `nanos`, which is slow: for the slow log, the latency monitor, or both.
    pub fn note_slow(&self, command: &Executed<'_>, nanos: u64) {
        let micros = nanos / 1000;
        let slower_than = self.settings.slowlog_log_slower_than.load(Relaxed);
        let is_logged = u64::try_from(slower_than).is_ok_and(|than| micros >= than);
        if is_logged && !command.spec.flags.contains(Flags::SKIP_SLOWLOG) {
            let client = self.clients.get(command.caller.client);
            let (address, name) = client.map_or_else(Default::default, |client| {
                (client.peer.addr.clone(), client.name())
            });
            self.slowlog.add(slowlog::New {
                unix_s: unix_time().as_secs(),
                micros,
                args: redact::shown(command.spec, command.args),
                address,
                name,
            });
        }
        let event = match command.spec.flags.contains(Flags::FAST) {
            true => latency::Event::FastCommand,
            false => latency::Event::Command,
        };
        self.note_latency(event, Duration::from_nanos(nanos));
    }

    /// Part of the server took so long: for the latency monitor, if it asks for as much.
    #[inline]
    pub fn note_latency(&self, event: latency::Event, taken: Duration) {
        let threshold_ms = self.settings.latency_monitor_threshold_ms.load(Relaxed);
        let millis = u64::try_from(taken.as_millis()).unwrap_or(u64::MAX);
        if threshold_ms > 0 && millis >= threshold_ms {
            self.latency.add(event, millis, unix_time().as_secs());
        }
    }
}
