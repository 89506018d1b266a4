//! `cargo xtask isolation`: one serial order must explain what many clients saw.
//!
//! A run is shards x kills; the time is divided among them. `--break-order` is the control: a server
//! whose borrows are broken on purpose, in each of three ways, must be found out.

mod report;

use crate::binary::{ServerBinary, ServerOptions, target_dir};
use anyhow::{Context as _, Result};
use moon_harness::{Flavor, FsyncPolicy};
use moon_isolation::cell::{Cell, CellReport, Until, fresh, run as run_cell};
use std::path::PathBuf;
use std::time::Duration;

/// The variable that says how a server built with the feature `break-borrow-order` breaks.
const BREAK_ENV: &str = "MOON_BREAK_BORROW_ORDER";
/// How long a broken server may go unnoticed.
const NOTICED_WITHIN: Duration = Duration::from_secs(60);

/// Options of `cargo xtask isolation`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    server: ServerOptions,
    /// How long everything takes, in seconds
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Shard counts
    #[arg(long, value_delimiter = ',', default_values_t = [1, 2, 4])]
    shards: Vec<u16>,
    /// Kill the server now and then in a second run of each kind, with each appendfsync
    #[arg(long)]
    kills: bool,
    /// Only the runs with kills
    #[arg(long, requires = "kills")]
    only_kills: bool,
    /// Seed of all random decisions; printed
    #[arg(long)]
    seed: Option<u64>,
    /// Break the server on purpose: each way must be noticed
    #[arg(long)]
    break_order: bool,
    /// Where to write the results as JSON [default: target/isolation.json]
    #[arg(long)]
    json: Option<PathBuf>,
}

/// A way to break the server, and what makes it show.
struct Breach {
    /// What the variable is set to.
    name: &'static str,
    cell: Cell,
}

const BREACHES: [Breach; 3] = [
    Breach {
        name: "split",
        cell: Cell {
            shards: 4,
            policy: FsyncPolicy::Everysec,
            kills: false,
        },
    },
    Breach {
        name: "unordered",
        cell: Cell {
            shards: 4,
            policy: FsyncPolicy::Everysec,
            kills: false,
        },
    },
    // Memory is right and the log is not, so only a crash shows it.
    Breach {
        name: "early-return",
        cell: Cell {
            shards: 4,
            policy: FsyncPolicy::Everysec,
            kills: true,
        },
    },
];

/// Runs everything; true if one serial order explains every history, or if every breach was noticed.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let seed = options.seed.unwrap_or_else(|| {
        let now = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
        u64::from(now.subsec_micros())
    });
    if options.break_order {
        return run_broken(options, seed);
    }
    let binary = options.server.locate(&[], "release")?;
    println!("isolation of {}, seed {seed}", binary.path.display());
    let cells = cells(options);
    let count = u32::try_from(cells.len()).unwrap_or(1).max(1);
    let time = Duration::from_secs(options.seconds) / count;
    report::print_header();
    let mut reports = Vec::new();
    for (number, cell) in (0..).zip(cells) {
        let until = Until::Over(time);
        let report = run_one(cell, &binary, None, until, seed.wrapping_add(number))?;
        report::print_row(&report);
        reports.push(report);
    }
    let json = options.json.clone();
    let json = json.unwrap_or_else(|| target_dir().join("isolation.json"));
    let text = serde_json::to_string_pretty(&reports)?;
    std::fs::write(&json, text).with_context(|| format!("writing {}", json.display()))?;
    Ok(report::print_summary(&reports, &json))
}

fn cells(options: &Options) -> Vec<Cell> {
    let mut cells = Vec::new();
    for &shards in &options.shards {
        let cell = |policy, kills| Cell {
            shards,
            policy,
            kills,
        };
        if !options.only_kills {
            cells.push(cell(FsyncPolicy::Everysec, false));
        }
        if options.kills {
            cells.push(cell(FsyncPolicy::Always, true));
            cells.push(cell(FsyncPolicy::Everysec, true));
        }
    }
    cells
}

fn run_one(
    cell: Cell,
    binary: &ServerBinary,
    breach: Option<&str>,
    until: Until,
    seed: u64,
) -> Result<CellReport> {
    let (dir, mut config) = fresh(binary.flavor, &binary.path)?;
    if let Some(breach) = breach {
        config = config.env(BREAK_ENV, breach);
    }
    let report = run_cell(cell, config, until, seed).with_context(|| cell.to_string())?;
    if report.findings().next().is_some() && breach.is_none() {
        // What is on disk is evidence.
        println!("  the directory is kept: {}", dir.keep().display());
    }
    Ok(report)
}

fn run_broken(options: &Options, seed: u64) -> Result<bool> {
    anyhow::ensure!(
        options.server.server == Flavor::Moon,
        "only moon-server can be broken on purpose"
    );
    let binary = options.server.locate(&["break-borrow-order"], "dev")?;
    println!(
        "isolation of {}, broken, seed {seed}",
        binary.path.display()
    );
    let mut are_noticed = true;
    for breach in BREACHES {
        let report = run_one(
            breach.cell,
            &binary,
            Some(breach.name),
            Until::Found(NOTICED_WITHIN),
            seed,
        )?;
        are_noticed &= report::print_breach(breach.name, &report);
    }
    Ok(are_noticed)
}
