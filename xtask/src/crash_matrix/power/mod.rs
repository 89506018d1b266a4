//! `cargo xtask crash-matrix --power-loss`: proof by cutting the power.
//!
//! The server works on a FUSE file system of the project's own (`moon-faultfs`) that holds back
//! what was not synced. At a cut it keeps, drops or tears that at random, the server is killed, a
//! new file system is mounted with what is left, and the server starts again. Without FUSE there
//! is nothing to run, and the command fails.
//!
//! What is asked for depends on `appendfsync`: with `always` everything acknowledged and
//! everything a reader saw; with `everysec` everything acknowledged [`GRACE`] before the cut, and
//! of the rest a prefix of the one history; with `no` a prefix. Never may anything be torn,
//! invented or missing in the middle.

mod chain;
mod table;

use super::Options;
use super::judge::Rule;
use crate::binary::{ServerBinary, target_dir};
use anyhow::{Context as _, Result};
use chain::{CHAIN_CUTS, ChainPlan, run_chain};
use moon_faultfs::{FaultFs, Image};
use moon_harness::FsyncPolicy;
use moon_harness::verify::Fault;
use moon_harness::workload::Workload;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use table::{CellReport, Table};

/// Shard counts of a full run.
const SHARDS: [u16; 3] = [1, 2, 4];
/// Cuts of a full run, at least.
const CUTS: usize = 207;
/// Cuts of a quick run: one per cell.
const CUTS_QUICK: usize = 9;
/// What was acknowledged so long before the cut survives it under `everysec`: one second between
/// two syncs, and one for a sync that is under way.
const GRACE: Duration = Duration::from_secs(2);

/// One row: what a server is run with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
struct PowerCell {
    shards: u16,
    policy: FsyncPolicy,
}

/// What has to survive a cut at `moment`.
fn rule(policy: FsyncPolicy, moment: Instant) -> Rule {
    match policy {
        FsyncPolicy::Always => Rule::Acknowledged,
        // A clock that began less than so long ago has no earlier moment.
        FsyncPolicy::Everysec => moment
            .checked_sub(GRACE)
            .map_or(Rule::Prefix, Rule::AcknowledgedBefore),
        FsyncPolicy::No => Rule::Prefix,
    }
}

/// Fails where FUSE is not there, saying why.
fn probe() -> Result<()> {
    let dir = tempfile::Builder::new().prefix("moon-power-").tempdir()?;
    FaultFs::mount(dir.path(), &Image::default(), 0)
        .map(drop)
        .context("power losses need FUSE, and nothing is proven without it")
}

/// Runs all cells; true if every promise was kept and the controls were noticed.
pub(crate) fn run(options: &Options, binary: &ServerBinary, seed: u64) -> Result<bool> {
    probe()?;
    let begun = Instant::now();
    let cells = cells(options);
    let cuts = options
        .cuts
        .unwrap_or(if options.quick { CUTS_QUICK } else { CUTS });
    let cuts_per_cell = cuts.div_ceil(cells.len()).max(1);
    println!(
        "power losses of {}, seed {seed}: {cuts_per_cell} cuts in each of {} cells",
        binary.path.display(),
        cells.len()
    );
    let mut table = Table::new(seed, cuts_per_cell, &binary.path);
    table.print_header();
    run_cells(&cells, options, binary, seed, &mut table);
    let is_selected = !(options.shards.is_empty() && options.policy.is_empty());
    if !is_selected {
        table.control(control(binary, seed));
    }
    table.finish(begun.elapsed());
    let json = options
        .json
        .clone()
        .unwrap_or_else(|| target_dir().join("power-loss.json"));
    table.write_json(&json)?;
    Ok(table.is_clean())
}

/// The small part for every commit: runs where FUSE is there, and says so where it is not.
pub(crate) fn run_if_possible(options: &Options, binary: &ServerBinary, seed: u64) -> Result<bool> {
    match probe() {
        Ok(()) => {
            println!();
            let options = Options {
                json: None,
                ..options.clone()
            };
            run(&options, binary, seed)
        }
        Err(error) => {
            println!("power losses: NOT TESTED HERE: {error:#}");
            Ok(true)
        }
    }
}

fn cells(options: &Options) -> Vec<PowerCell> {
    let shards = super::non_empty(&options.shards, &SHARDS);
    let policies = super::non_empty(&options.policy, &FsyncPolicy::ALL);
    let with_policies = |shards: &u16| {
        let shards = *shards;
        let cell = move |policy: &FsyncPolicy| PowerCell {
            shards,
            policy: *policy,
        };
        policies.iter().map(cell).collect::<Vec<_>>()
    };
    shards.iter().flat_map(with_policies).collect()
}

fn run_cells(
    cells: &[PowerCell],
    options: &Options,
    binary: &ServerBinary,
    seed: u64,
    table: &mut Table,
) {
    let cuts_per_cell = table.cuts_per_cell();
    let next = AtomicUsize::new(0);
    let table = Mutex::new(table);
    std::thread::scope(|scope| {
        for _ in 0..options.jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(&cell) = cells.get(number) else {
                        return;
                    };
                    let outcome = run_cell(cell, number, options, binary, seed, cuts_per_cell);
                    let mut table = table.lock().unwrap_or_else(|e| e.into_inner());
                    table.cell(cell, outcome);
                }
            });
        }
    });
}

/// The chains of one cell, each on a fresh directory and with the next workload. Stops at the
/// first that breaks a promise.
fn run_cell(
    cell: PowerCell,
    number: usize,
    options: &Options,
    binary: &ServerBinary,
    seed: u64,
    cuts: usize,
) -> Result<CellReport> {
    let begun = Instant::now();
    let mut workloads = super::non_empty(&options.workload, &Workload::ALL);
    workloads.retain(|workload| workload.is_for(binary.flavor));
    let mut report = CellReport::default();
    let mut done = 0;
    for chain in 0.. {
        if done == cuts || !report.is_clean() {
            break;
        }
        let plan = ChainPlan {
            shards: cell.shards,
            policy: cell.policy,
            // Cells begin with different workloads, so that few chains meet all of them.
            workload: workloads[(chain + number) % workloads.len()],
            cuts: CHAIN_CUTS.min(cuts - done),
            seed: super::cell::seed_of(&format!("{cell:?} {chain}"), seed),
            rule,
            keeps_evidence: true,
        };
        done += plan.cuts;
        run_chain(&plan, binary, &mut report)
            .with_context(|| format!("chain {chain} ({})", plan.workload))?;
    }
    report.wall_ms = super::cell::millis(begun.elapsed());
    Ok(report)
}

/// A server that does not sync, judged as if it did: whether the loss is noticed.
fn control(binary: &ServerBinary, seed: u64) -> Result<bool> {
    let mut report = CellReport::default();
    let plan = ChainPlan {
        shards: 2,
        policy: FsyncPolicy::No,
        workload: Workload::Strings,
        cuts: 2 * CHAIN_CUTS,
        seed,
        rule: |_, _| Rule::Acknowledged,
        keeps_evidence: false,
    };
    run_chain(&plan, binary, &mut report)?;
    Ok(report.count(&[Fault::Lost]) > 0)
}
