//! SLOWLOG, LATENCY and MONITOR.

use super::pipeline::Connection;
use crate::clients::Flags as ClientFlags;
use crate::histogram::{HistogramValue, bucket_end};
use crate::server::Server;
use crate::watch::{doctor, graph, slowlog};
use moon_commands::parse::canonical_integer;
use moon_commands::{by_id, by_stat_id, lookup, stat_count, stat_id, subcommands};
use moon_resp::{Args, Reply};
use std::sync::atomic::Ordering::Relaxed;
use std::time::{SystemTime, UNIX_EPOCH};

/// Entries that SLOWLOG GET answers unless it is told how many.
const SLOWLOG_COUNT: i64 = 10;

/// SLOWLOG.
///
/// # Errors
/// The error reply.
pub(super) fn slowlog(
    server: &Server,
    args: Args<'_>,
    reply: &mut Reply<'_>,
) -> Result<(), String> {
    let spec = subcommands::resolve("slowlog", args).map_err(|e| e.text().to_owned())?;
    let log = &server.slowlog;
    match subcommands::own_name(spec) {
        "get" => {
            if args.len() > 3 {
                return Err(
                    "ERR unknown subcommand or wrong number of arguments for 'get'. Try SLOWLOG \
                     HELP."
                        .to_owned(),
                );
            }
            let count = args.get(2).map_or(Some(SLOWLOG_COUNT), canonical_integer);
            let count = count
                .filter(|count| *count >= -1)
                .ok_or("ERR count should be greater than or equal to -1")?;
            // All of them for -1.
            let count = usize::try_from(count).unwrap_or(usize::MAX);
            slowlog::write_entries(reply, &log.newest(count));
        }
        "len" => reply.count(log.len()),
        "reset" => {
            log.reset();
            reply.ok();
        }
        "help" => subcommands::help_reply(reply, "slowlog"),
        other => unreachable!("slowlog|{other} is in the table without code here"),
    }
    Ok(())
}

fn unix_s() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_secs()
}

fn number(reply: &mut Reply<'_>, n: u64) {
    reply.integer(i64::try_from(n).unwrap_or(i64::MAX));
}

/// LATENCY.
///
/// # Errors
/// The error reply.
pub(super) fn latency(
    server: &Server,
    args: Args<'_>,
    reply: &mut Reply<'_>,
) -> Result<(), String> {
    let spec = subcommands::resolve("latency", args).map_err(|e| e.text().to_owned())?;
    let monitor = &server.latency;
    match subcommands::own_name(spec) {
        "latest" => {
            let all = monitor.all();
            reply.array(all.len());
            for (_, name, series) in all {
                reply.array(4);
                reply.bulk(name.as_bytes());
                let last = series.samples.back();
                number(reply, last.map_or(0, |sample| sample.unix_s));
                number(reply, last.map_or(0, |sample| sample.millis));
                number(reply, series.max_millis);
            }
        }
        "history" => {
            let found = monitor.of(args.at(2));
            let series = found.map(|(_, series)| series).unwrap_or_default();
            reply.array(series.samples.len());
            for sample in &series.samples {
                reply.array(2);
                number(reply, sample.unix_s);
                number(reply, sample.millis);
            }
        }
        "graph" => {
            let (name, series) = monitor.of(args.at(2)).ok_or_else(|| {
                let event = String::from_utf8_lossy(args.at(2));
                format!("ERR No samples available for event '{event}'")
            })?;
            reply.verbatim("txt", graph::draw(name, &series, unix_s()).as_bytes());
        }
        "doctor" => {
            let log = server.persistence.aof();
            let settings = doctor::Settings {
                threshold_ms: server.settings.latency_monitor_threshold_ms.load(Relaxed),
                slowlog_micros: server.settings.slowlog_log_slower_than.load(Relaxed),
                appendfsync: log.map_or("", |_| server.settings.appendfsync().word()),
            };
            let text = doctor::report(&monitor.all(), settings, unix_s());
            reply.verbatim("txt", text.as_bytes());
        }
        "reset" => {
            let names: Vec<&[u8]> = args.from(2).iter().collect();
            reply.count(monitor.reset(&names));
        }
        "histogram" => histogram(server, args, reply),
        "help" => subcommands::help_reply(reply, "latency"),
        other => unreachable!("latency|{other} is in the table without code here"),
    }
    Ok(())
}

/// LATENCY HISTOGRAM: of all commands, or of those named with their subcommands.
fn histogram(server: &Server, args: Args<'_>, reply: &mut Reply<'_>) {
    let ids: Vec<u16> = if args.len() > 2 {
        args.from(2).iter().flat_map(named).collect()
    } else {
        (0..u16::try_from(stat_count()).unwrap_or(u16::MAX)).collect()
    };
    let tracks = server.config.snapshot().latency_tracking;
    let called: Vec<(&str, HistogramValue)> = ids
        .into_iter()
        .filter_map(|id| Some((by_stat_id(id)?.name, server.stats.command(id).latency_ns)))
        .filter(|(_, latency)| tracks && latency.count() > 0)
        .collect();
    reply.map(called.len());
    for (name, latency) in called {
        reply.bulk(name.as_bytes());
        reply.map(2);
        reply.bulk(b"calls");
        number(reply, latency.count());
        reply.bulk(b"histogram_usec");
        let steps = cumulated(&latency);
        reply.map(steps.len());
        for (micros, count) in steps {
            number(reply, micros);
            number(reply, count);
        }
    }
}

/// The numbers under which a command is counted, with its subcommands; or of one subcommand, as in
/// `config|get`.
fn named(name: &[u8]) -> Vec<u16> {
    let (container, own) = match name.iter().position(|byte| *byte == b'|') {
        Some(at) => (&name[..at], Some(&name[at + 1..])),
        None => (name, None),
    };
    let Some((id, spec)) = lookup(container) else {
        return Vec::new();
    };
    match own {
        Some(own) => subcommands::lookup(spec.name, own)
            .map(|row| stat_id(id, row))
            .into_iter()
            .collect(),
        None => std::iter::once(by_id(id))
            .chain(subcommands::of(spec.name))
            .map(|row| stat_id(id, row))
            .collect(),
    }
}

/// How many calls took at most how many microseconds, wherever that number grows.
fn cumulated(latency: &HistogramValue) -> Vec<(u64, u64)> {
    /// Redis tells nothing shorter apart.
    const SHORTEST_NANOS: u64 = 1024;
    let (mut count, mut steps) = (0, Vec::<(u64, u64)>::new());
    for (index, calls) in latency.buckets.iter().enumerate() {
        if *calls == 0 {
            continue;
        }
        count += calls;
        let end = bucket_end(index).unwrap_or(u64::MAX).max(SHORTEST_NANOS);
        let micros = end / 1000;
        match steps.last_mut() {
            Some(last) if last.0 == micros => last.1 = count,
            _ => steps.push((micros, count)),
        }
    }
    steps
}

/// MONITOR. A connection that is a monitor already gets no reply, as in Redis.
pub(super) fn monitor(connection: &mut Connection) {
    if std::mem::replace(&mut connection.state.monitoring, true) {
        return;
    }
    connection.client.set_flag(ClientFlags::Monitor, true);
    connection.write_reply(|reply| reply.ok());
    let (id, shard) = (connection.client.id, connection.shard.id());
    connection.server.monitors.add(id, shard);
}

/// The connection is no monitor any more.
pub(super) fn end_monitor(connection: &mut Connection) {
    if std::mem::take(&mut connection.state.monitoring) {
        connection.client.set_flag(ClientFlags::Monitor, false);
        connection.server.monitors.remove(connection.client.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histograms_are_cumulated_in_the_steps_of_redis() {
        let mut latency = HistogramValue::default();
        // Below 128 ns, below 1024 ns, below 2048 ns, below 32768 ns.
        for (bucket, calls) in [(0, 1), (3, 2), (4, 10), (8, 100)] {
            latency.buckets[bucket] = calls;
        }
        assert_eq!(cumulated(&latency), [(1, 3), (2, 13), (32, 113)]);
    }

    #[test]
    fn a_container_stands_for_its_subcommands() {
        let names = |text: &str| -> Vec<_> {
            let ids = named(text.as_bytes()).into_iter();
            ids.map(|id| by_stat_id(id).unwrap().name).collect()
        };
        assert_eq!(names("SET"), ["set"]);
        assert_eq!(names("Config|Get"), ["config|get"]);
        assert_eq!(
            names("slowlog"),
            [
                "slowlog",
                "slowlog|get",
                "slowlog|help",
                "slowlog|len",
                "slowlog|reset"
            ]
        );
        assert!(names("nosuch").is_empty() && names("set|get").is_empty());
    }
}
