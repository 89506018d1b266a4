//! INFO: Redis's sections and field names from plain numbers. No clock and no I/O here, so that
//! every field can be tested; only [`process`] reads what the kernel knows.
//!
//! * [`server`]: the sections Server, Clients, CPU.
//! * [`memory`]: the section Memory.
//! * [`persistence`]: the section Persistence.
//! * [`stats`]: the sections Stats, Commandstats, Errorstats, Latencystats, Keyspace.
//! * [`replication`]: the section Replication.
//! * [`numbers`]: numbers as they are printed.

/// Prints each `name: value` pair.
macro_rules! fields {
    ($s:expr, $($name:literal: $value:expr),+ $(,)?) => { $( put($s, $name, $value); )+ };
}

mod memory;
mod numbers;
mod persistence;
mod process;
mod replication;
mod server;
mod stats;

pub use memory::MemoryInfo;
pub use numbers::human;
pub use persistence::{AofInfo, failing_word};
pub use process::{CpuTimes, process_cpu, process_memory};

use crate::persistence::PersistenceInfo;
use crate::stats::{CommandTotals, DbTotals, RatesNow, Totals};
use std::fmt::Write as _;

/// The version of Redis whose behaviour clients may expect.
pub const REDIS_VERSION: &str = "7.2.0";

/// Everything INFO prints. Times are seconds unless the name says otherwise.
#[derive(Clone, Debug, Default)]
#[expect(missing_docs, reason = "the field names are the words of INFO")]
pub struct InfoSource {
    pub os: String,
    pub process_id: u32,
    pub run_id: String,
    pub tcp_port: u16,
    pub now_us: u64,
    pub uptime_s: u64,
    pub hz: u32,
    pub executable: String,
    pub config_file: String,
    pub shards: u16,

    pub connected_clients: u64,
    pub maxclients: u32,
    pub blocked_clients: u64,
    pub watching_clients: u64,
    /// The largest buffers that a client has now for requests, and for replies.
    pub input_buffer_max: u64,
    pub output_buffer_max: u64,

    pub memory: MemoryInfo,
    /// Bytes that shards have executed and not yet committed.
    pub aof_inflight_bytes: u64,

    /// `Some((done, total))` in bytes while the log is replayed.
    pub loading: Option<(u64, u64)>,
    pub loading_start_s: u64,
    pub persistence: PersistenceInfo,
    /// `None` with `appendonly no`.
    pub aof: Option<AofInfo>,

    pub totals: Totals,
    /// Time beyond the memory limit, in milliseconds: in all, and without a break until now.
    pub eviction_exceeded_ms: (u64, u64),
    pub rates: RatesNow,
    pub connections_received: u64,
    pub rejected_connections: u64,
    pub evicted_clients: u64,
    /// Copies that clients keep of keys.
    pub tracking: crate::tracking::shared::Numbers,
    /// Names that have subscribers: channels, patterns, shard channels.
    pub pubsub: [u64; 3],
    pub turns: u64,
    pub frames: u64,

    pub replid: String,
    /// The head of the history: the next LSN.
    pub lsn_head: u64,
    pub lsn_committed: u64,
    pub recovery_us: u64,
    pub recovery_truncated_bytes: u64,

    pub cpu: CpuTimes,
    /// Name (subcommands as `config|get`) and counts of each command.
    pub commands: Vec<(String, CommandTotals)>,
    /// Whether INFO shows how long commands took, and which percentiles.
    pub latency_tracking: bool,
    pub latency_percentiles: Vec<f64>,
    pub errors: Vec<(String, u64)>,
    pub databases: Vec<DbTotals>,
}

/// One section of INFO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the words of INFO")]
pub enum Section {
    Server,
    Clients,
    Memory,
    Persistence,
    Stats,
    Replication,
    Cpu,
    Modules,
    Commandstats,
    Errorstats,
    Latencystats,
    Cluster,
    Keyspace,
}

/// Section, title, whether it is part of the default, how it is printed; in Redis's order.
type Row = (Section, &'static str, bool, fn(&InfoSource, &mut String));

const SECTIONS: &[Row] = &[
    (Section::Server, "Server", true, server::server),
    (Section::Clients, "Clients", true, server::clients),
    (Section::Memory, "Memory", true, memory::memory),
    (
        Section::Persistence,
        "Persistence",
        true,
        persistence::persistence,
    ),
    (Section::Stats, "Stats", true, stats::stats),
    (
        Section::Replication,
        "Replication",
        true,
        replication::replication,
    ),
    (Section::Cpu, "CPU", true, server::cpu),
    (Section::Modules, "Modules", true, |_, _| {}),
    (
        Section::Commandstats,
        "Commandstats",
        false,
        stats::commandstats,
    ),
    (Section::Errorstats, "Errorstats", true, stats::errorstats),
    (
        Section::Latencystats,
        "Latencystats",
        false,
        stats::latencystats,
    ),
    (Section::Cluster, "Cluster", true, |_, s| {
        put(s, "cluster_enabled", 0)
    }),
    (Section::Keyspace, "Keyspace", true, stats::keyspace),
];

/// Which sections the words after INFO ask for. Unknown words ask for nothing, as in Redis.
#[must_use]
pub fn sections(args: &[&[u8]]) -> Vec<Section> {
    let default_only = args.is_empty();
    let wanted = |row: &&Row| {
        (default_only && row.2)
            || args
                .iter()
                .any(|arg| match arg.to_ascii_lowercase().as_slice() {
                    b"default" => row.2,
                    b"all" => row.0 != Section::Modules,
                    b"everything" => true,
                    name => name.eq_ignore_ascii_case(row.1.as_bytes()),
                })
    };
    SECTIONS.iter().filter(wanted).map(|row| row.0).collect()
}

/// Whether one of the sections tells of data, so that it must not run ahead of the log.
#[must_use]
pub fn shows_data(sections: &[Section]) -> bool {
    sections.contains(&Section::Keyspace)
}

/// The text of INFO for these sections.
#[must_use]
pub fn render(source: &InfoSource, sections: &[Section]) -> String {
    let mut s = String::with_capacity(4096);
    for (section, title, _, print) in SECTIONS {
        if !sections.contains(section) {
            continue;
        }
        if !s.is_empty() {
            s.push_str("\r\n");
        }
        // Writing to a String cannot fail.
        let _infallible = write!(s, "# {title}\r\n");
        print(source, &mut s);
    }
    s
}

fn put(s: &mut String, name: &str, value: impl std::fmt::Display) {
    // Writing to a String cannot fail.
    let _infallible = write!(s, "{name}:{value}\r\n");
}

/// Fields of machinery that does not exist here, so that whoever reads them finds them.
fn zeros(s: &mut String, names: &[&str]) {
    for name in names {
        put(s, name, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::histogram::HistogramValue;

    #[test]
    fn sections_are_chosen_as_in_redis() {
        let default = sections(&[]);
        assert!(!default.contains(&Section::Commandstats));
        assert!(default.contains(&Section::Keyspace));
        assert_eq!(sections(&[b"default"]), default);
        assert_eq!(sections(&[b"everything"]).len(), SECTIONS.len());
        assert_eq!(
            sections(&[b"KEYSPACE", b"cpu"]),
            [Section::Cpu, Section::Keyspace]
        );
        assert!(sections(&[b"nonsense"]).is_empty());
    }

    #[test]
    fn text_has_redis_line_ends_and_blank_lines_between_sections() {
        let text = render(
            &InfoSource::default(),
            &[Section::Cluster, Section::Keyspace],
        );
        assert_eq!(text, "# Cluster\r\ncluster_enabled:0\r\n\r\n# Keyspace\r\n");
    }

    #[test]
    fn durability_is_always_told() {
        let source = InfoSource {
            lsn_head: 1000,
            lsn_committed: 900,
            aof: Some(AofInfo {
                lsn_written: 950,
                lsn_durable: 400,
                ms_at_risk: 1250,
                holding_up_shard: Some(3),
                last_write_ok: true,
                ..AofInfo::default()
            }),
            ..InfoSource::default()
        };
        let text = render(&source, &[Section::Persistence]);
        for line in [
            "aof_enabled:1",
            "aof_last_write_status:ok",
            "moon_lsn_head:1000",
            "moon_bytes_uncommitted:100",
            "moon_bytes_at_risk:600",
            "moon_seconds_at_risk:1.250",
            "moon_holding_up_shard:3",
        ] {
            assert!(text.contains(&format!("{line}\r\n")), "{line}\n{text}");
        }
    }

    #[test]
    fn commands_databases_and_errors_have_the_form_of_redis() {
        let mut latency_ns = HistogramValue {
            sum: 40_000,
            ..HistogramValue::default()
        };
        latency_ns.buckets[8] = 2;
        let command = CommandTotals {
            latency_ns,
            failed: 1,
            rejected: 0,
        };
        let source = InfoSource {
            commands: vec![
                ("config|get".to_owned(), command),
                ("set".to_owned(), CommandTotals::default()),
            ],
            latency_tracking: true,
            latency_percentiles: vec![50.0, 99.0, 99.9],
            errors: vec![("ERR".to_owned(), 3)],
            databases: vec![DbTotals {
                keys: 1,
                expires: 0,
                subexpiry: 2,
                avg_ttl_ms: 0,
                ..DbTotals::default()
            }],
            ..InfoSource::default()
        };
        let text = render(&source, &sections(&[b"all"]));
        for line in [
            "cmdstat_config|get:calls=2,usec=40,usec_per_call=20.00,rejected_calls=0,failed_calls=1",
            "latency_percentiles_usec_config|get:p50=32.768,p99=32.768,p99.9=32.768",
            "errorstat_ERR:count=3",
            "db0:keys=1,expires=0,avg_ttl=0,subexpiry=2",
        ] {
            assert!(text.contains(&format!("{line}\r\n")), "{line}\n{text}");
        }
        assert!(!text.contains("cmdstat_set:"));
    }

    #[test]
    fn sizes_for_people_and_process_numbers() {
        assert_eq!(human(966_080), "943.44K");
        assert_eq!(human(25_276_502_016), "23.54G");
        assert_eq!(human(200), "200B");
        let (rss, total) = process_memory();
        assert!(rss > 0 && total > rss);
    }
}
