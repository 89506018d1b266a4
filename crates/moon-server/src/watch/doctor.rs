//! LATENCY DOCTOR: what was slow, in words, and what helps.

use super::latency::{Event, Series};
use std::fmt::Write as _;

/// What the advice depends on, beside what was slow.
#[derive(Clone, Copy, Debug, Default)]
pub struct Settings {
    /// `latency-monitor-threshold`, in milliseconds.
    pub threshold_ms: u64,
    /// `slowlog-log-slower-than`, in microseconds; negative if off.
    pub slowlog_micros: i64,
    /// `appendfsync` in force; empty without a log.
    pub appendfsync: &'static str,
}

/// The report, as of `now_s` in Unix seconds.
#[must_use]
pub fn report(events: &[(Event, &str, Series)], settings: Settings, now_s: u64) -> String {
    if settings.threshold_ms == 0 {
        return "Nothing is watched: latency-monitor-threshold is 0. Set it to the milliseconds \
                from which on you call something slow, as in: CONFIG SET \
                latency-monitor-threshold 100\n"
            .to_owned();
    }
    if events.is_empty() {
        return format!(
            "Nothing took {} ms or longer since the latency monitor was turned on or reset.\n",
            settings.threshold_ms
        );
    }
    let mut text = String::from("What was slow:\n\n");
    for (number, (_, name, series)) in (1..).zip(events) {
        let stats = Stats::of(series, now_s);
        // Writing to a String cannot fail.
        let _infallible = writeln!(
            text,
            "{number}. {name}: {} latency spikes (average {}ms, mean deviation {}ms, period {:.2} \
             sec). Worst all time event {}ms.",
            series.samples.len(),
            stats.average,
            stats.deviation,
            stats.period_s,
            series.max_millis,
        );
    }
    text.push_str("\nWhat may help:\n\n");
    for advice in advice(events, settings) {
        text.push_str("- ");
        text.push_str(&advice);
        text.push('\n');
    }
    text
}

struct Stats {
    average: u64,
    deviation: u64,
    period_s: f64,
}

impl Stats {
    #[expect(clippy::cast_precision_loss, reason = "printed with two digits")]
    fn of(series: &Series, now_s: u64) -> Stats {
        let count = series.samples.len().max(1) as u64;
        let values = || series.samples.iter().map(|sample| sample.millis);
        let average = values().sum::<u64>() / count;
        let deviation = values().map(|value| value.abs_diff(average)).sum::<u64>() / count;
        let first = series.samples.front().map_or(now_s, |first| first.unix_s);
        Stats {
            average,
            deviation,
            period_s: now_s.saturating_sub(first) as f64 / count as f64,
        }
    }
}

fn advice(events: &[(Event, &str, Series)], settings: Settings) -> Vec<String> {
    let has = |wanted: &[Event]| events.iter().any(|(event, _, _)| wanted.contains(event));
    let mut advice = Vec::new();
    if has(&[Event::Command]) {
        let threshold_us = settings.threshold_ms.saturating_mul(1000);
        match u64::try_from(settings.slowlog_micros) {
            Ok(micros) if micros <= threshold_us => advice.push(
                "SLOWLOG GET shows which commands these were. Split the large ones, or use SCAN \
                 and its kin in their place."
                    .to_owned(),
            ),
            _ => advice.push(format!(
                "SLOWLOG does not hold all of these commands. Let it, with: CONFIG SET \
                 slowlog-log-slower-than {threshold_us}"
            )),
        }
    }
    if has(&[Event::FastCommand]) {
        advice.push(
            "Commands that are fast by nature were held up by something else: other processes on \
             the same cores, memory that the system swaps out, or a virtual machine that stands \
             still. Compare the number of shards with that of cores."
                .to_owned(),
        );
    }
    if has(&[Event::ExpireCycle]) {
        advice.push(
            "Many keys expire at about the same time. Spread their deadlines by a random part."
                .to_owned(),
        );
    }
    if has(&[Event::EvictionCycle]) {
        advice.push(
            "Memory is full, and commands wait for evictions. Raise maxmemory, or lower \
             maxmemory-eviction-tenacity."
                .to_owned(),
        );
    }
    if has(&[Event::AofWrite]) {
        advice.push(
            "Writing to the log is slow: the disk does not keep up, or something else uses it. \
             INFO persistence says which shard holds the others up."
                .to_owned(),
        );
    }
    if has(&[Event::AofFsyncAlways]) {
        advice.push(format!(
            "Syncs of the log are slow, and with appendfsync always every reply to a write waits \
             for one (now: {}). Use a disk that syncs faster; appendfsync everysec gives up the \
             last second at a power loss.",
            settings.appendfsync
        ));
    }
    advice
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::latency::LatencyMonitor;

    #[test]
    fn every_event_gets_a_line_and_advice() {
        let monitor = LatencyMonitor::default();
        for (event, _) in crate::watch::latency::EVENTS {
            monitor.add(event, 10, 100);
            monitor.add(event, 30, 104);
        }
        let settings = Settings {
            threshold_ms: 5,
            slowlog_micros: 10_000,
            appendfsync: "always",
        };
        let text = report(&monitor.all(), settings, 110);
        let line = "3. command: 2 latency spikes (average 20ms, mean deviation 10ms, period 5.00 \
                    sec). Worst all time event 30ms.\n";
        assert!(text.contains(line), "{text}");
        assert!(text.contains("slowlog-log-slower-than 5000"), "{text}");
        assert_eq!(text.matches("\n- ").count(), 6, "{text}");
        let quiet = report(&[], settings, 110);
        assert!(quiet.contains("Nothing took 5 ms"), "{quiet}");
        let off = report(&[], Settings::default(), 110);
        assert!(off.contains("latency-monitor-threshold is 0"), "{off}");
    }
}
