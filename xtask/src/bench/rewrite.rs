//! What clients and memory see of a rewrite of the log: `cargo xtask bench rewrite`.
//!
//! Both servers hold the same keys and take turns. In a turn, four connections write random keys
//! as fast as the server lets them, and a client that keeps a pace times its requests
//! ([`paced`](super::paced)); first for some seconds without a rewrite, then during one. The
//! requests of all turns are put together before quantiles are taken.
//!
//! The server and its threads or child have one core, all clients the other. The paced client
//! runs ahead of the writers there, so that it times the server and not its own waiting for the
//! core.

use super::measure::{self, Cores, Writers, info_field, preload, rewrite_log};
use super::paced::{Latencies, PERIOD, PacedClient, Timed};
use super::process::{
    children, peak_resident_bytes, pin_this_thread, prefer_this_thread, proportional_bytes,
    reset_peak, resident_bytes,
};
use super::table::{Columns, Table, judged};
use super::{Common, median};
use anyhow::{Context as _, Result, bail};
use moon_harness::{Client, Flavor, FsyncPolicy, Server};
use std::time::{Duration, Instant};

/// Size of the values.
const VALUE_BYTES: u32 = 128;
/// Connections that write.
const WRITERS: u32 = 4;
/// Pause between two looks at memory and INFO.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// What a rewrite may add to the memory, as a factor.
const MEMORY_GOAL: f64 = 1.10;
/// What a rewrite may add to the 99.9th percentile.
const LATENCY_GOAL_MS: f64 = 3.0;

const LATENCY: Columns = &[
    " server",
    " phase",
    "requests",
    "p50, ms",
    "p99, ms",
    "p99.9, ms",
    "max, ms",
    "writers, requests/s",
];
const COSTS: Columns = &[
    " server",
    "rewrite, s",
    " memory counted",
    "before, MiB",
    "peak, MiB",
    "peak ÷ before",
    " goal",
    "p99.9 over idle, ms",
    " goal",
];

/// Options of `cargo xtask bench rewrite`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Options {
    #[command(flatten)]
    common: Common,
    /// Keys that the servers hold [default: 1000000, quick: 20000]
    #[arg(long)]
    keys: Option<u64>,
    /// Rewrites of each server [default: 3, quick: 1]
    #[arg(long)]
    rounds: Option<usize>,
    /// Shards of moon-server
    #[arg(long, default_value_t = 1)]
    shards: u16,
    /// The core of the servers
    #[arg(long, default_value = "0")]
    server_core: String,
    /// The core of all clients
    #[arg(long, default_value = "1")]
    client_core: String,
}

/// What all turns share.
struct Load {
    keys: u64,
    cores: Cores,
    settle: Duration,
    idle: Duration,
}

/// What the clients saw in a stretch of time.
struct Phase {
    requests: Vec<Timed>,
    /// Requests per second of all connections but the paced one.
    writers: f64,
}

/// One turn of one server.
struct Turn {
    idle: Phase,
    rewriting: Phase,
    rewrite: Duration,
    memory_before: u64,
    memory_peak: u64,
}

impl Turn {
    fn memory_ratio(&self) -> f64 {
        self.memory_peak as f64 / self.memory_before as f64
    }
}

/// Measures both servers.
pub(super) fn run(options: &Options) -> Result<bool> {
    let quick = options.common.quick;
    let seconds = |long: f64, short: f64| Duration::from_secs_f64(if quick { short } else { long });
    let load = Load {
        keys: options
            .keys
            .unwrap_or(if quick { 20_000 } else { 1_000_000 }),
        cores: Cores {
            server: options.server_core.clone(),
            client: options.client_core.clone(),
        },
        settle: seconds(1.0, 0.2),
        idle: seconds(5.0, 1.0),
    };
    let rounds = options.rounds.unwrap_or(if quick { 1 } else { 3 });
    let lab = options.common.lab()?;

    // On a thread of its own: servers and writers would inherit the priority.
    let is_preferred = std::thread::spawn(prefer_this_thread).join();
    let priority = if is_preferred.unwrap_or(false) {
        "real-time priority"
    } else {
        "no priority over the writers (not permitted here)"
    };
    let mut table = Table::new(&lab.describe(&format!(
        "{rounds} rewrites of each alternating; {} keys, values of {VALUE_BYTES} bytes, \
         appendfsync everysec; {WRITERS} connections write, pipeline 1; paced client: every {} ms \
         a GET or a SET, {priority}; idle phase {} s; server on core {}, clients on core {}; moon \
         with {} shard{}",
        load.keys,
        PERIOD.as_millis(),
        load.idle.as_secs(),
        load.cores.server,
        load.cores.client,
        options.shards,
        if options.shards == 1 { "" } else { "s" },
    )));

    // Only now: the table says how many cores the machine has.
    pin_this_thread(&load.cores.client)?;
    let mut servers = Vec::new();
    for (name, binary) in [("redis-server", &lab.peer), ("moon-server", &lab.moon)] {
        let cores = Some(load.cores.server.clone());
        let append = Some(FsyncPolicy::Everysec);
        let server = measure::start(binary, append, options.shards, cores, lab.data.path())?;
        preload(&server, load.keys, VALUE_BYTES)
            .with_context(|| format!("loading {name}\n{}", server.log_tail()))?;
        servers.push((name, server));
    }
    let mut turns: Vec<Vec<Turn>> = servers.iter().map(|_| Vec::new()).collect();
    for round in 0..rounds {
        for turn in 0..servers.len() {
            let at = (round + turn) % servers.len();
            let (name, server) = &servers[at];
            let turn = take_turn(server, &load)
                .with_context(|| format!("measuring {name}\n{}", server.log_tail()))?;
            turns[at].push(turn);
        }
    }
    for ((name, _), turns) in servers.iter().zip(&turns) {
        report_latency(&mut table, name, turns);
    }
    for ((name, server), turns) in servers.iter().zip(&turns) {
        report_costs(&mut table, name, server.config().flavor, turns);
    }
    options.common.write(&table, "bench-rewrite.md")?;
    Ok(true)
}

fn take_turn(server: &Server, load: &Load) -> Result<Turn> {
    // What the other server has left to write is not to be this one's.
    nix::unistd::sync();
    let mut control = server.client()?;
    let mut memory = Memory::of(server);
    let mut writers = Writers::start(server, WRITERS, load.keys, VALUE_BYTES, &load.cores.client)?;
    let paced = PacedClient::start(server.address(), &load.cores.client, load.keys, VALUE_BYTES)?;
    std::thread::sleep(load.settle);

    let start = Mark::now(&mut control)?;
    let end = start.at + load.idle;
    let mut memory_before = 0;
    while Instant::now() < end {
        // The same looks as during the rewrite, so that they cost the same.
        memory_before = memory.look()?;
        info_field(&mut control, "persistence", "aof_rewrite_in_progress")?;
        std::thread::sleep(LOOK_INTERVAL);
    }
    let middle = Mark::now(&mut control)?;

    memory.reset_peak()?;
    let rewrite = rewrite_log(&mut control, || {
        memory.look()?;
        std::thread::sleep(LOOK_INTERVAL);
        Ok(())
    })?;
    let end = Mark::now(&mut control)?;
    let memory_peak = memory.peak()?;
    writers.expect_running()?;
    drop(writers);

    let requests = paced.finish()?;
    Ok(Turn {
        idle: phase(&requests, &start, &middle),
        rewriting: phase(&requests, &middle, &end),
        rewrite,
        memory_before,
        memory_peak,
    })
}

/// The border between two phases.
struct Mark {
    at: Instant,
    /// Commands that the server has executed.
    commands: u64,
}

impl Mark {
    fn now(control: &mut Client) -> Result<Mark> {
        let commands = info_field(control, "stats", "total_commands_processed")?;
        Ok(Mark {
            at: Instant::now(),
            commands: commands.parse()?,
        })
    }
}

fn phase(requests: &[Timed], from: &Mark, to: &Mark) -> Phase {
    let requests: Vec<Timed> = requests
        .iter()
        .filter(|r| from.at <= r.begun && r.begun < to.at)
        .copied()
        .collect();
    let others = (to.commands - from.commands).saturating_sub(requests.len() as u64);
    Phase {
        writers: others as f64 / (to.at - from.at).as_secs_f64(),
        requests,
    }
}

/// Follows the memory of a server.
struct Memory {
    flavor: Flavor,
    pid: u32,
    child: Option<u32>,
    peak: u64,
}

impl Memory {
    fn of(server: &Server) -> Memory {
        Memory {
            flavor: server.config().flavor,
            pid: server.pid(),
            child: None,
            peak: 0,
        }
    }

    /// What [`Memory::look`] counts, for the table.
    fn name(flavor: Flavor) -> &'static str {
        match flavor {
            Flavor::Moon => "RSS; peak is VmHWM",
            Flavor::Redis => "PSS of parent and child every 20 ms",
        }
    }

    /// The memory at this moment, bytes.
    fn look(&mut self) -> Result<u64> {
        let now = match self.flavor {
            Flavor::Moon => resident_bytes(self.pid)?,
            Flavor::Redis => {
                if self
                    .child
                    .is_none_or(|pid| proportional_bytes(pid).is_err())
                {
                    self.child = children(self.pid)?.first().copied();
                }
                // It may end between the two looks at it.
                let child = self.child.and_then(|pid| proportional_bytes(pid).ok());
                proportional_bytes(self.pid)? + child.unwrap_or(0)
            }
        };
        self.peak = self.peak.max(now);
        Ok(now)
    }

    fn reset_peak(&mut self) -> Result<()> {
        self.peak = 0;
        match self.flavor {
            Flavor::Moon => reset_peak(self.pid),
            Flavor::Redis => Ok(()),
        }
    }

    /// The most since [`Memory::reset_peak`].
    fn peak(&mut self) -> Result<u64> {
        if self.flavor == Flavor::Moon {
            self.peak = self.peak.max(peak_resident_bytes(self.pid)?);
        }
        if self.peak == 0 {
            bail!("nobody looked at the memory");
        }
        Ok(self.peak)
    }
}

/// The latencies that all turns saw in one phase.
fn latencies(turns: &[Turn], phase: fn(&Turn) -> &Phase) -> Latencies {
    turns
        .iter()
        .flat_map(|turn| phase(turn).requests.iter().map(|r| r.latency))
        .collect()
}

fn report_latency(table: &mut Table, name: &str, turns: &[Turn]) {
    let idle = figures(turns, |turn| &turn.idle);
    let rewriting = figures(turns, |turn| &turn.rewriting);
    for (phase, figures) in [("idle of rewrite", &idle), ("rewriting", &rewriting)] {
        let requests = figures.requests.to_string();
        let times = figures.quantiles_ms.map(|q| format!("{q:.3}"));
        let writers = format!("{:.0}", figures.writers);
        latency_row(table, name, phase, requests, times, writers);
    }
    let pair = |at: usize| (rewriting.quantiles_ms[at], idle.quantiles_ms[at]);
    let ratios = [0, 1, 2, 3].map(|at| format!("{:.2}", pair(at).0 / pair(at).1));
    let writers = format!("{:.2}", rewriting.writers / idle.writers);
    latency_row(table, name, "ratio", "-".to_owned(), ratios, writers);
    let differences = [0, 1, 2, 3].map(|at| format!("{:+.3}", pair(at).0 - pair(at).1));
    let writers = format!("{:+.0}", rewriting.writers - idle.writers);
    latency_row(
        table,
        name,
        "difference",
        "-".to_owned(),
        differences,
        writers,
    );
}

/// One phase over all turns.
struct Figures {
    requests: usize,
    /// p50, p99, p99.9 and the maximum.
    quantiles_ms: [f64; 4],
    writers: f64,
}

fn figures(turns: &[Turn], phase: fn(&Turn) -> &Phase) -> Figures {
    let latencies = latencies(turns, phase);
    Figures {
        requests: latencies.len(),
        quantiles_ms: [500, 990, 999, 1000].map(|q| latencies.quantile_ms(q)),
        writers: median(turns.iter().map(|turn| phase(turn).writers)),
    }
}

fn latency_row(
    table: &mut Table,
    name: &str,
    phase: &str,
    requests: String,
    [p50, p99, p999, max]: [String; 4],
    writers: String,
) {
    let (name, phase) = (name.to_owned(), phase.to_owned());
    table.row(
        LATENCY,
        &[name, phase, requests, p50, p99, p999, max, writers],
    );
}

fn report_costs(table: &mut Table, name: &str, flavor: Flavor, turns: &[Turn]) {
    let Some(worst) = turns
        .iter()
        .max_by(|a, b| a.memory_ratio().total_cmp(&b.memory_ratio()))
    else {
        return;
    };
    let ratio = worst.memory_ratio();
    let p999 = |phase| latencies(turns, phase).quantile_ms(999);
    let over_idle_ms = p999(|turn| &turn.rewriting) - p999(|turn| &turn.idle);
    let mebibytes = |bytes: u64| format!("{:.1}", bytes as f64 / f64::from(1 << 20));
    // The goals are those of moon-server.
    let goal = |text: String, is_met| match flavor {
        Flavor::Moon => judged(text, is_met),
        Flavor::Redis => "-".to_owned(),
    };
    let cells = [
        name.to_owned(),
        format!(
            "{:.2}",
            median(turns.iter().map(|turn| turn.rewrite.as_secs_f64()))
        ),
        Memory::name(flavor).to_owned(),
        mebibytes(worst.memory_before),
        mebibytes(worst.memory_peak),
        format!("{ratio:.3}"),
        goal(format!("at most {MEMORY_GOAL:.2}:"), ratio <= MEMORY_GOAL),
        format!("{over_idle_ms:+.3}"),
        goal(
            format!("at most {LATENCY_GOAL_MS}:"),
            over_idle_ms <= LATENCY_GOAL_MS,
        ),
    ];
    table.row(COSTS, &cells);
}
