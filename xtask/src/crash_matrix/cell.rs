//! One cell of the matrix: a server on one directory, killed and recovered again and again, each
//! time verified in full.

use super::judge::{Rule, judge};
use super::kill::{Fired, Kill, execute, recover, schedule};
use super::progress::Progress;
use crate::binary::ServerBinary;
use anyhow::{Context as _, Result};
use moon_core::shard::ShardCount;
use moon_harness::load::{Load, Writer, wait_for_deadlines};
use moon_harness::rewriter::Rewriter;
use moon_harness::snapshot::read_state;
use moon_harness::verify::{Fault, Order, Violation};
use moon_harness::workload::{Generator, Workload, shared_list};
use moon_harness::{Client, FsyncPolicy, PipelineOrder, Server, ServerConfig};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

/// Writing connections of a cell.
pub(super) const WRITERS: usize = 4;
/// Reading connections of a cell.
pub(super) const READERS: usize = 2;

/// What distinguishes the cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Cell {
    pub(crate) shards: u16,
    pub(crate) policy: FsyncPolicy,
    pub(crate) workload: Workload,
}

impl Cell {
    /// The seed of this cell in a run with `seed`: the same whether other cells run or not.
    pub(crate) fn seed(self, seed: u64) -> u64 {
        seed_of(&self.to_string(), seed)
    }
}

/// The seed of what is named `label` in a run with `seed`: FNV-1a.
pub(super) fn seed_of(label: &str, seed: u64) -> u64 {
    label
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325 ^ seed, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        })
}

/// What a server with `config` orders when `workload` is run on it.
pub(super) fn order_of(workload: Workload, config: &ServerConfig) -> Result<Order> {
    Ok(Order {
        shards: ShardCount::new(config.effective_shards()).context("shard count")?,
        pipeline: match workload {
            Workload::Strict => PipelineOrder::Strict,
            _ => PipelineOrder::Relaxed,
        },
    })
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Cell {
            shards,
            policy,
            workload,
        } = self;
        write!(f, "shards {shards}, {policy}, {workload}")
    }
}

/// A deliberate damage, to show that the verification notices it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Break {
    /// Deletes keys that were acknowledged.
    Drop,
    /// Writes a key that nobody wrote.
    Invent,
    /// Counts one counter further, as a double replay would.
    Double,
    /// Removes the first entry of the shared history.
    Hole,
}

impl Break {
    /// All of them.
    pub(crate) const ALL: [Break; 4] = [Break::Drop, Break::Invent, Break::Double, Break::Hole];

    /// A workload in which this damage is possible.
    pub(crate) fn workload(self) -> Workload {
        match self {
            Break::Drop | Break::Invent => Workload::Strings,
            Break::Double => Workload::Counters,
            Break::Hole => Workload::History,
        }
    }

    /// The fault that the verification must name.
    pub(crate) fn fault(self) -> Fault {
        match self {
            Break::Drop => Fault::Lost,
            Break::Invent | Break::Double => Fault::Invented,
            Break::Hole => Fault::Hole,
        }
    }
}

/// How a cell is run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CellOptions {
    pub(crate) kills: usize,
    pub(crate) seed: u64,
    pub(crate) fail_points: bool,
    pub(crate) damage: Option<Break>,
}

/// What a cell found.
#[derive(Debug, Default, serde::Serialize)]
pub(crate) struct CellReport {
    /// Kills that happened.
    pub(crate) kills: usize,
    /// Graceful stops beside them.
    pub(crate) graceful_stops: usize,
    /// How often the server died in which way.
    pub(crate) kills_by_kind: BTreeMap<String, usize>,
    /// How often which fail point was armed and not reached; the kill then came from outside.
    pub(crate) not_reached: BTreeMap<String, usize>,
    /// Operations acknowledged, and found after the next recovery.
    pub(crate) acknowledged: u64,
    /// Operations that were unanswered at a kill and survived it.
    pub(crate) unanswered_kept: usize,
    /// Operations that were unanswered at a kill and did not survive it.
    pub(crate) unanswered_dropped: usize,
    /// Reads made by readers, each checked.
    pub(crate) reads: u64,
    /// Rewrites that began under load.
    pub(crate) rewrites: u64,
    /// Longest time from start to serving, milliseconds.
    pub(crate) recovery_ms_max: u64,
    /// Violations by kind.
    pub(crate) faults: BTreeMap<String, usize>,
    /// The first violations in words.
    pub(crate) details: Vec<String>,
    /// Wall time of the cell, milliseconds.
    pub(crate) wall_ms: u64,
}

impl CellReport {
    /// Whether everything was kept.
    pub(crate) fn is_clean(&self) -> bool {
        self.faults.is_empty()
    }

    pub(super) fn violated(&mut self, violation: Violation, context: &str) {
        *self
            .faults
            .entry(format!("{:?}", violation.fault))
            .or_default() += 1;
        if self.details.len() < 20 {
            self.details.push(format!("{context}: {violation}"));
        }
    }
}

/// Runs one cell. Stops at the first recovery that breaks a promise.
///
/// A failure to run (the server does not start, say) is an error and not a report: it is never
/// counted as kept.
pub(crate) fn run_cell(
    cell: Cell,
    binary: &ServerBinary,
    options: CellOptions,
    progress: &Progress,
) -> Result<CellReport> {
    if cell.workload == Workload::Handoff {
        return super::handoff::run_cell(cell, binary, options, progress);
    }
    let begun = Instant::now();
    let dir = tempfile::Builder::new().prefix("moon-crash-").tempdir()?;
    let mut config = ServerConfig::new(binary.flavor, &binary.path, dir.path().join("data"))
        .shards(cell.shards)
        .append(cell.policy);
    let order = order_of(cell.workload, &config)?;
    config.order = Some(order.pipeline);
    let seed = cell.seed(options.seed);
    let mut run = Run {
        workload: cell.workload,
        order,
        rng: StdRng::seed_from_u64(seed),
        writers: (0..WRITERS)
            .map(|number| Generator::new(cell.workload, number, seed).for_flavor(binary.flavor))
            .map(Writer::new)
            .collect(),
        report: CellReport::default(),
    };
    let kills = schedule(
        cell.workload,
        options.kills,
        options.fail_points,
        (seed % 20) as usize,
    );
    let mut server = Server::spawn(config)?;
    server.wait_ready()?;
    require(&mut server.client()?, cell.workload)?;
    // The first cycle starts unarmed: a kill at a fail point needs a restart before it.
    for (cycle, kill) in kills.iter().copied().enumerate() {
        let kill = match (cycle, kill) {
            (0, Kill::At(_) | Kill::Twice(..)) => Kill::Random,
            (_, kill) => kill,
        };
        let next = kills.get(cycle + 1).copied().unwrap_or(Kill::Random);
        let context = format!("cycle {cycle} ({kill})");
        run.cycle(&mut server, kill, next, cycle as u64, options.damage)
            .with_context(|| format!("{cell}, {context}"))?;
        progress.cycle(cell, kill != Kill::Graceful);
        if !run.report.is_clean() {
            let details = &mut run.report.details;
            details
                .iter_mut()
                .for_each(|d| *d = format!("{context}: {d}"));
            break;
        }
    }
    run.report.wall_ms = millis(begun.elapsed());
    if !run.report.is_clean() && options.damage.is_none() {
        // What is on disk is the evidence.
        let kept = dir.keep();
        run.report
            .details
            .push(format!("the directory is kept: {}", kept.display()));
    }
    Ok(run.report)
}

/// Fails if the server lacks a command that the workload is about: a cell without it proves nothing.
pub(super) fn require(client: &mut Client, workload: Workload) -> Result<()> {
    for command in workload.needs() {
        let reply = client.command(&["COMMAND", "INFO", command])?;
        let is_known = |item: &moon_harness::Reply| item.items().is_some_and(|i| !i.is_empty());
        let knows = reply
            .items()
            .is_some_and(|items| items.iter().any(is_known));
        anyhow::ensure!(knows, "workload {workload}: the server has no {command}");
    }
    Ok(())
}

struct Run {
    workload: Workload,
    order: Order,
    rng: StdRng,
    writers: Vec<Writer>,
    report: CellReport,
}

impl Run {
    fn cycle(
        &mut self,
        server: &mut Server,
        kill: Kill,
        next: Kill,
        number: u64,
        damage: Option<Break>,
    ) -> Result<()> {
        let acked_before: u64 = self.writers.iter().map(|w| w.acked).sum();
        let load = Load::start(
            server.address(),
            self.workload,
            std::mem::take(&mut self.writers),
            READERS,
            number,
        );
        let rewriter =
            (self.workload == Workload::Rewrite).then(|| Rewriter::start(server.address(), number));
        let fired = execute(server, &load, kill, &mut self.rng)?;
        let (writers, seen) = load.finish();
        self.report.rewrites += rewriter.map_or(0, |rewriter| rewriter.finish().begun);
        self.writers = writers;
        self.report.reads += seen.reads;
        self.report.acknowledged +=
            self.writers.iter().map(|w| w.acked).sum::<u64>() - acked_before;
        if kill == Kill::Graceful {
            self.report.graceful_stops += 1;
        } else {
            self.report.kills += 1;
        }
        let begun = Instant::now();
        let recovered = recover(server, kill, next, &mut self.rng)?;
        let recovery_ms = millis(begun.elapsed());
        self.report.recovery_ms_max = self.report.recovery_ms_max.max(recovery_ms);
        let reached = fired == Fired::Yes && recovered == Fired::Yes;
        let by_kind = if reached {
            &mut self.report.kills_by_kind
        } else {
            &mut self.report.not_reached
        };
        *by_kind.entry(kill.to_string()).or_default() += 1;

        let mut client = server.client()?;
        if let Some(damage) = damage {
            apply_damage(damage, &mut client, &self.writers)?;
        }
        wait_for_deadlines(&self.writers);
        let observed = read_state(&mut client, self.workload.databases(WRITERS))?;
        let verdict = judge(
            &mut self.writers,
            self.workload,
            self.order,
            Rule::Acknowledged,
            observed,
            seen,
        );
        self.report.unanswered_kept += verdict.kept;
        self.report.unanswered_dropped += verdict.dropped;
        for (context, violation) in verdict.violations {
            self.report.violated(violation, &context);
        }
        Ok(())
    }
}

fn apply_damage(damage: Break, client: &mut Client, writers: &[Writer]) -> Result<()> {
    let victim = |kind: &str| {
        let key = |w: &Writer| {
            w.state
                .keys()
                .find(|k| k.to_string().contains(kind))
                .cloned()
        };
        writers.iter().find_map(key).context("nothing to damage")
    };
    let reply = match damage {
        // All of them: an operation without an answer may have deleted a single one.
        Break::Drop => {
            victim(":s")?;
            let keys = writers.iter().flat_map(|w| w.state.keys());
            let strings = keys.filter(|k| k.to_string().contains(":s"));
            let mut parts: Vec<&[u8]> = vec![b"DEL"];
            parts.extend(strings.map(|k| &k.key[..]));
            client.command(&parts)?
        }
        Break::Invent => client.run("SET c0:nobody 0:1")?,
        Break::Double => client.command(&[&b"INCRBY"[..], &victim(":n")?.key, b"100000"])?,
        Break::Hole => client.command(&[&b"LPOP"[..], &shared_list().key])?,
    };
    println!("damage {damage:?}: {reply:?}");
    Ok(())
}

pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
