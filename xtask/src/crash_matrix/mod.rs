//! `cargo xtask crash-matrix`: proof by killing.
//!
//! Real servers on temporary directories are driven over TCP, killed, restarted and verified.
//! The cells are shards x fsync policy x workload; every cell kills many times and recovers on
//! the same directory, so that what one recovery leaves behind is met by the next.
//! First comes the failure that this project exists to end: 5,000 acknowledged writes on two
//! shards, SIGKILL, 5,000 recovered. Last come controls: damage that the verification must
//! notice, or nothing above would mean anything.
//!
//! * [`cell`]: one server, killed and recovered again and again.
//! * [`handoff`]: elements that go from producers to consumers who wait.
//! * [`kill`]: ways to end it.
//! * [`judge`]: what was recovered against what was promised.
//! * [`acknowledged`]: the one failure that everything began with.
//! * [`offline`]: what changes a directory offline, killed in the middle.
//! * [`v1`]: directories as version 1 left them.
//! * [`power`]: power losses instead of kills.
//! * [`progress`]: how far a run is.
//! * [`report`]: the table and the JSON file.

mod acknowledged;
mod cell;
mod handoff;
mod judge;
mod kill;
mod offline;
mod power;
mod progress;
mod report;
mod v1;

use crate::binary::{ServerBinary, ServerOptions, target_dir};
use anyhow::{Context as _, Result};
use cell::{Break, Cell, CellOptions, CellReport, run_cell};
use moon_harness::workload::Workload;
use moon_harness::{Flavor, FsyncPolicy};
use offline::Offline;
use progress::Progress;
use report::{Outcome, Report};
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// Shard counts of the full matrix.
const SHARDS: [u16; 4] = [1, 2, 4, 8];

/// Kills of a tool that changes a directory offline.
const OFFLINE_KILLS: usize = 50;
/// The same in a quick run.
const OFFLINE_KILLS_QUICK: usize = 6;

/// Options of `cargo xtask crash-matrix`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    server: ServerOptions,
    /// A smaller matrix for every commit: all combinations once, few kills
    #[arg(long)]
    quick: bool,
    /// Kills per cell [default: 20, quick: 3]
    #[arg(long)]
    kills: Option<usize>,
    /// Cut the power instead of killing: the server runs on a file system that loses what was
    /// not synced; needs FUSE
    #[arg(long)]
    power_loss: bool,
    /// Power losses in all [default: 207, quick: 9]
    #[arg(long, requires = "power_loss")]
    cuts: Option<usize>,
    /// Seed of all random decisions; printed, to repeat a run
    #[arg(long)]
    seed: Option<u64>,
    /// Only these shard counts
    #[arg(long, value_delimiter = ',')]
    shards: Vec<u16>,
    /// Only these policies: always, everysec, no
    #[arg(long, visible_alias = "appendfsync", value_delimiter = ',')]
    policy: Vec<FsyncPolicy>,
    /// Only these workloads
    #[arg(long, value_delimiter = ',')]
    workload: Vec<Workload>,
    /// Only what changes a directory offline, killed in the middle
    #[arg(long, value_enum, value_delimiter = ',')]
    offline: Vec<Offline>,
    /// Cells that run at the same time
    #[arg(long, default_value_t = 1)]
    jobs: usize,
    /// Only kills from outside, none at fail points inside the server
    #[arg(long)]
    no_fail_points: bool,
    /// Damage the recovered data on purpose: the run must fail
    #[arg(long = "break", value_enum)]
    damage: Option<Break>,
    /// Where to write the results as JSON [default: target/crash-matrix.json]
    #[arg(long)]
    json: Option<PathBuf>,
}

impl Options {
    /// A quick run is for every commit: it takes what the tests have built already.
    fn profile(&self) -> &'static str {
        if self.quick { "dev" } else { "release" }
    }
}

/// Runs the matrix; true if nothing was lost, torn, invented or out of order and all controls
/// were noticed.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let seed = options.seed.unwrap_or_else(seed_of_now);
    if options.power_loss {
        let binary = options.server.locate(&[], options.profile())?;
        return power::run(options, &binary, seed);
    }
    let begun = Instant::now();
    let fail_points = options.server.server == Flavor::Moon && !options.no_fail_points;
    let features: &[&str] = if fail_points { &["failpoints"] } else { &[] };
    let binary = options.server.locate(features, options.profile())?;
    let cell_options = CellOptions {
        kills: options.kills.unwrap_or(if options.quick { 3 } else { 20 }),
        seed,
        fail_points,
        damage: options.damage,
    };
    let mut report = Report::new(seed, &binary.path);
    println!("crash-matrix of {}, seed {seed}", binary.path.display());

    let selected = !(options.shards.is_empty()
        && options.policy.is_empty()
        && options.workload.is_empty()
        && options.offline.is_empty());
    if !selected {
        for policy in FsyncPolicy::ALL {
            let outcome = acknowledged::run(&binary, policy, seed);
            report.acknowledged(policy, outcome);
        }
    }
    report.print_header();
    if options.offline.is_empty() {
        let cells = cells(options);
        run_cells(&cells, &binary, cell_options, options.jobs, &mut report);
    }
    if binary.flavor == Flavor::Moon && options.damage.is_none() {
        let offline = match selected {
            true => &options.offline[..],
            false => &Offline::ALL,
        };
        let kills = options.kills.unwrap_or(if options.quick {
            OFFLINE_KILLS_QUICK
        } else {
            OFFLINE_KILLS
        });
        let options = CellOptions {
            kills,
            ..cell_options
        };
        for &what in offline {
            let progress = Progress::new(kills);
            let outcome = offline::run(what, &binary, options, &progress);
            progress.print(|| report.offline(what, options, Outcome::of(outcome)));
        }
    }
    if !selected && options.damage.is_none() {
        for damage in Break::ALL {
            let noticed = control(damage, &binary, cell_options);
            report.control(damage, noticed);
        }
    }
    report.finish(begun.elapsed());
    let json = options
        .json
        .clone()
        .unwrap_or_else(|| target_dir().join("crash-matrix.json"));
    report.write_json(&json)?;
    let mut is_clean = report.is_clean();
    if options.quick && !selected && options.server.server == Flavor::Moon {
        is_clean &= power::run_if_possible(options, &binary, seed)?;
    }
    Ok(is_clean)
}

fn seed_of_now() -> u64 {
    let now = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
    u64::from(now.subsec_micros())
}

/// The cells that `options` select. The quick matrix has every shard count with every policy and
/// walks through the workloads on the way, so that each of them is met with several counts.
fn cells(options: &Options) -> Vec<Cell> {
    let shards = non_empty(&options.shards, &SHARDS);
    let flavor = options.server.server;
    let policies = non_empty(&options.policy, &FsyncPolicy::ALL);
    let workloads = non_empty(&options.workload, &Workload::ALL);
    let mut cells = Vec::new();
    for &shards in &shards {
        for &policy in &policies {
            for &workload in workloads.iter().filter(|w| w.is_for(flavor)) {
                cells.push(Cell {
                    shards,
                    policy,
                    workload,
                });
            }
        }
    }
    if options.quick && options.workload.is_empty() {
        // Every fourth workload of each combination, beginning with another one each time.
        let workloads = workloads.iter().filter(|w| w.is_for(flavor)).count();
        let is_chosen = |at: usize| (at % workloads + at / workloads).is_multiple_of(4);
        let numbered = cells.into_iter().enumerate();
        cells = numbered
            .filter(|(at, _)| is_chosen(*at))
            .map(|(_, cell)| cell)
            .collect();
    }
    cells
}

fn non_empty<T: Clone>(chosen: &[T], all: &[T]) -> Vec<T> {
    if chosen.is_empty() {
        all.to_vec()
    } else {
        chosen.to_vec()
    }
}

fn run_cells(
    cells: &[Cell],
    binary: &ServerBinary,
    options: CellOptions,
    jobs: usize,
    report: &mut Report,
) {
    let next = AtomicUsize::new(0);
    let report = Mutex::new(report);
    let progress = Progress::new(cells.len() * options.kills);
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                while let Some(&cell) = cells.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let outcome = Outcome::of(run_cell(cell, binary, options, &progress));
                    let mut report = report.lock().unwrap_or_else(|e| e.into_inner());
                    progress.print(|| report.cell(cell, options, outcome));
                }
            });
        }
    });
}

/// Runs one small cell with deliberate damage; whether exactly this damage was noticed.
fn control(damage: Break, binary: &ServerBinary, options: CellOptions) -> Result<bool> {
    let cell = Cell {
        shards: 2,
        policy: FsyncPolicy::Everysec,
        workload: damage.workload(),
    };
    let options = CellOptions {
        kills: 1,
        fail_points: false,
        damage: Some(damage),
        ..options
    };
    let report: CellReport = run_cell(cell, binary, options, &Progress::hidden())
        .with_context(|| format!("control {damage:?}"))?;
    Ok(report.faults.contains_key(&format!("{:?}", damage.fault())))
}
