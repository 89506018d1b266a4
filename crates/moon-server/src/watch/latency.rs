//! LATENCY: when which part of the server was how slow.
//!
//! Each kind of event keeps its last samples, at most one a second: the slowest. Nothing is kept
//! that is faster than `latency-monitor-threshold`.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Samples that are kept of an event, as in Redis.
const SAMPLES_MAX: usize = 160;

/// What can be slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Event {
    /// Writing a frame to the log.
    AofWrite,
    /// Syncing the log under `appendfsync always`, which replies wait for.
    AofFsyncAlways,
    /// A command that is not flagged as fast.
    Command,
    /// Evicting keys.
    EvictionCycle,
    /// Removing what has expired, unasked.
    ExpireCycle,
    /// A command that is flagged as fast.
    FastCommand,
}

/// The events with their names, in alphabetical order.
pub const EVENTS: [(Event, &str); 6] = [
    (Event::AofFsyncAlways, "aof-fsync-always"),
    (Event::AofWrite, "aof-write"),
    (Event::Command, "command"),
    (Event::EvictionCycle, "eviction-cycle"),
    (Event::ExpireCycle, "expire-cycle"),
    (Event::FastCommand, "fast-command"),
];

/// The slowest of one second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// The second, in Unix time.
    pub unix_s: u64,
    /// How long it took, in milliseconds.
    pub millis: u64,
}

/// What is kept of one event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Series {
    /// The last samples, the oldest first.
    pub samples: VecDeque<Sample>,
    /// The slowest since the last reset, in milliseconds.
    pub max_millis: u64,
}

impl Series {
    fn add(&mut self, millis: u64, unix_s: u64) {
        self.max_millis = self.max_millis.max(millis);
        match self.samples.back_mut() {
            // A clock that went back does not make the samples go back.
            Some(last) if last.unix_s >= unix_s => last.millis = last.millis.max(millis),
            _ => {
                if self.samples.len() == SAMPLES_MAX {
                    self.samples.pop_front();
                }
                self.samples.push_back(Sample { unix_s, millis });
            }
        }
    }
}

/// What was slow.
#[derive(Debug, Default)]
pub struct LatencyMonitor {
    series: Mutex<[Series; EVENTS.len()]>,
}

impl LatencyMonitor {
    /// Adds what happened at `unix_s` and took so long.
    pub fn add(&self, event: Event, millis: u64, unix_s: u64) {
        self.lock()[event as usize].add(millis, unix_s);
    }

    /// The events that happened, by name, with what is kept of each.
    #[must_use]
    pub fn all(&self) -> Vec<(Event, &'static str, Series)> {
        let series = self.lock();
        let all = EVENTS.iter().map(|(event, name)| (*event, *name));
        all.map(|(event, name)| (event, name, series[event as usize].clone()))
            .filter(|(_, _, series)| !series.samples.is_empty())
            .collect()
    }

    /// What is kept of the event called `name`; `None` if nothing is.
    #[must_use]
    pub fn of(&self, name: &[u8]) -> Option<(&'static str, Series)> {
        let all = self.all().into_iter();
        let mut found = all.filter(|(_, own, _)| own.as_bytes() == name);
        found.next().map(|(_, name, series)| (name, series))
    }

    /// Forgets the events called so, or all if no name is given. Returns how many there were.
    pub fn reset(&self, names: &[&[u8]]) -> usize {
        let mut series = self.lock();
        let mut count = 0;
        for (event, name) in EVENTS {
            let is_named = |other: &&[u8]| *other == name.as_bytes();
            let own = &mut series[event as usize];
            if (names.is_empty() || names.iter().any(is_named)) && !own.samples.is_empty() {
                *own = Series::default();
                count += 1;
            }
        }
        count
    }

    fn lock(&self) -> MutexGuard<'_, [Series; EVENTS.len()]> {
        self.series.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_has_one_sample_and_old_ones_go() {
        let monitor = LatencyMonitor::default();
        for (unix_s, millis) in [(10, 5), (10, 9), (10, 7), (12, 3), (11, 4)] {
            monitor.add(Event::Command, millis, unix_s);
        }
        let (name, series) = monitor.of(b"command").unwrap();
        assert_eq!((name, series.max_millis), ("command", 9));
        let samples: Vec<_> = series
            .samples
            .iter()
            .map(|s| (s.unix_s, s.millis))
            .collect();
        assert_eq!(samples, [(10, 9), (12, 4)]);
        for unix_s in 100..1000 {
            monitor.add(Event::Command, 1, unix_s);
        }
        let (_, series) = monitor.of(b"command").unwrap();
        assert_eq!(series.samples.len(), SAMPLES_MAX);
        assert_eq!((series.samples[0].unix_s, series.max_millis), (840, 9));
    }

    #[test]
    fn reset_counts_what_it_forgets() {
        let monitor = LatencyMonitor::default();
        for event in [Event::Command, Event::AofWrite, Event::FastCommand] {
            monitor.add(event, 5, 10);
        }
        let names = || monitor.all().iter().map(|(_, n, _)| *n).collect::<Vec<_>>();
        assert_eq!(names(), ["aof-write", "command", "fast-command"]);
        assert_eq!(monitor.reset(&[b"command", b"fork"]), 1);
        assert_eq!(monitor.reset(&[b"COMMAND"]), 0);
        assert_eq!(names(), ["aof-write", "fast-command"]);
        assert_eq!(monitor.reset(&[]), 2);
        assert!(monitor.of(b"aof-write").is_none());
    }

    #[test]
    fn every_event_has_its_own_place() {
        let mut places: Vec<usize> = EVENTS.iter().map(|(event, _)| *event as usize).collect();
        places.sort_unstable();
        assert!(places.into_iter().eq(0..EVENTS.len()));
    }
}
