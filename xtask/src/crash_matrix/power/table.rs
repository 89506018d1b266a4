//! What the cuts found: the table on the terminal and the JSON file.

use super::PowerCell;
use anyhow::{Context as _, Result};
use moon_faultfs::Tally;
use moon_harness::verify::{Fault, Violation};
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Violations that a cell lists.
const DETAILS_MAX: usize = 20;

/// What a cell found.
#[derive(Debug, Default, Serialize)]
pub(super) struct CellReport {
    /// Power losses, those in a recovery included.
    pub(super) cuts: usize,
    /// Power losses in a recovery.
    pub(super) cuts_in_recovery: usize,
    /// Operations acknowledged.
    pub(super) acknowledged: u64,
    /// Operations that might have been gone and are there.
    pub(super) kept: usize,
    /// Operations that might have been gone and are.
    pub(super) dropped: usize,
    /// Acknowledged ones among them, at least; the policy allows it.
    pub(super) acknowledged_gone: usize,
    /// Longest time between such an acknowledgement and the cut, milliseconds.
    pub(super) gone_ms_max: u64,
    /// Reads made, each checked under `always`.
    pub(super) reads: u64,
    /// Rewrites that began under load.
    pub(super) rewrites: u64,
    /// Longest time from start to serving, further cuts included, milliseconds.
    pub(super) recovery_ms_max: u64,
    /// What became of everything unsynced.
    #[serde(serialize_with = "tally")]
    pub(super) lost: Tally,
    /// Violations by kind.
    pub(super) faults: BTreeMap<String, usize>,
    /// The first violations in words.
    pub(super) details: Vec<String>,
    /// Wall time, milliseconds.
    pub(super) wall_ms: u64,
}

fn tally<S: serde::Serializer>(tally: &Tally, serializer: S) -> Result<S::Ok, S::Error> {
    BTreeMap::from([
        ("sectors_kept", tally.sectors_kept),
        ("sectors_dropped", tally.sectors_dropped),
        ("sectors_torn", tally.sectors_torn),
        ("lengths_kept", tally.lengths_kept),
        ("lengths_dropped", tally.lengths_dropped),
        ("names_kept", tally.names_kept),
        ("names_dropped", tally.names_dropped),
    ])
    .serialize(serializer)
}

impl CellReport {
    /// Whether every promise was kept.
    pub(super) fn is_clean(&self) -> bool {
        self.faults.is_empty()
    }

    /// Violations of these kinds.
    pub(super) fn count(&self, faults: &[Fault]) -> usize {
        let of = |fault: &Fault| self.faults.get(&format!("{fault:?}")).copied();
        faults.iter().filter_map(of).sum()
    }

    pub(super) fn violated(&mut self, violation: &Violation, context: &str) {
        let kind = format!("{:?}", violation.fault);
        *self.faults.entry(kind).or_default() += 1;
        if self.details.len() < DETAILS_MAX {
            self.details.push(format!("{context}: {violation}"));
        }
    }
}

#[derive(Debug, Serialize)]
struct Row {
    #[serde(flatten)]
    cell: PowerCell,
    repeat: String,
    report: Option<CellReport>,
    error: Option<String>,
}

/// Collects the results, printing each as it comes.
#[derive(Debug, Serialize)]
pub(super) struct Table {
    seed: u64,
    cuts_per_cell: usize,
    server: PathBuf,
    cells: Vec<Row>,
    /// Whether the loss of a server that does not sync was noticed; absent if not tried.
    control: Option<bool>,
    wall_s: f64,
}

impl Table {
    pub(super) fn new(seed: u64, cuts_per_cell: usize, server: &Path) -> Self {
        Table {
            seed,
            cuts_per_cell,
            server: server.to_owned(),
            cells: Vec::new(),
            control: None,
            wall_s: 0.0,
        }
    }

    pub(super) fn cuts_per_cell(&self) -> usize {
        self.cuts_per_cell
    }

    /// Whether every cell ran and kept its promise, and the cuts were cuts.
    pub(super) fn is_clean(&self) -> bool {
        let is_clean = |row: &Row| row.report.as_ref().is_some_and(CellReport::is_clean);
        self.cells.iter().all(is_clean) && self.control != Some(false) && self.unsynced_lost() > 0
    }

    /// Sectors and names that cuts took: without any, nothing was tried.
    fn unsynced_lost(&self) -> u64 {
        let of = |tally: &Tally| tally.sectors_dropped + tally.sectors_torn + tally.names_dropped;
        self.reports().map(|report| of(&report.lost)).sum()
    }

    fn reports(&self) -> impl Iterator<Item = &CellReport> {
        self.cells.iter().filter_map(|row| row.report.as_ref())
    }

    pub(super) fn print_header(&self) {
        println!(
            "{:>6}  {:<8}  {:>4}  {:>9}  {:>8}  {:>9}  {:>8}  {:>8}  {:>7}  {:>4} {:>4} {:>8} {:>5} {:>5}  {:>6}",
            "shards",
            "policy",
            "cuts",
            "acked",
            "gone ok",
            "oldest",
            "reads",
            "sectors",
            "names",
            "lost",
            "torn",
            "invented",
            "holes",
            "dirty",
            "time"
        );
    }

    pub(super) fn cell(&mut self, cell: PowerCell, outcome: Result<CellReport>) {
        let repeat = format!(
            "cargo xtask crash-matrix --power-loss --shards {} --appendfsync {} --cuts {} --seed {}",
            cell.shards, cell.policy, self.cuts_per_cell, self.seed
        );
        print!("{:>6}  {:<8}  ", cell.shards, cell.policy);
        let (report, error) = match outcome {
            Ok(report) => {
                print_report(&report);
                (Some(report), None)
            }
            Err(error) => {
                println!("FAILED: {error:#}");
                (None, Some(format!("{error:#}")))
            }
        };
        if !report.as_ref().is_some_and(CellReport::is_clean) {
            println!("        repeat: {repeat}");
        }
        self.cells.push(Row {
            cell,
            repeat,
            report,
            error,
        });
    }

    pub(super) fn control(&mut self, noticed: Result<bool>) {
        let verdict = match &noticed {
            Ok(true) => "noticed".to_owned(),
            Ok(false) => "NOT NOTICED".to_owned(),
            Err(error) => format!("NOT NOTICED: {error:#}"),
        };
        println!("control, policy no judged as always: {verdict}");
        self.control = Some(noticed.unwrap_or(false));
    }

    /// Prints the sums.
    pub(super) fn finish(&mut self, wall: Duration) {
        self.wall_s = wall.as_secs_f64();
        let mut lost = Tally::default();
        self.reports().for_each(|report| lost.add(report.lost));
        let sum = |f: fn(&CellReport) -> u64| self.reports().map(f).sum::<u64>();
        println!(
            "\n{} cuts ({} in a recovery), {} acknowledged, {} reads, {} rewrites begun, {:.0} s",
            sum(|r| r.cuts as u64),
            sum(|r| r.cuts_in_recovery as u64),
            sum(|r| r.acknowledged),
            sum(|r| r.reads),
            sum(|r| r.rewrites),
            self.wall_s,
        );
        println!(
            "unsynced at the cuts: sectors {} kept, {} dropped, {} torn; lengths {} kept, {} \
             dropped; names {} kept, {} dropped",
            lost.sectors_kept,
            lost.sectors_dropped,
            lost.sectors_torn,
            lost.lengths_kept,
            lost.lengths_dropped,
            lost.names_kept,
            lost.names_dropped,
        );
        if self.unsynced_lost() == 0 {
            println!("no cut took anything: it proves nothing");
        }
        let faults = |faults: &[Fault]| self.reports().map(|r| r.count(faults)).sum::<usize>();
        println!(
            "lost {}, torn {}, invented {}, holes {}, dirty reads {}",
            faults(&[Fault::Lost]),
            faults(&[Fault::Torn]),
            faults(&[Fault::Invented, Fault::Reply]),
            faults(&[Fault::Hole]),
            faults(&[Fault::SeenGone]),
        );
        println!("{}", if self.is_clean() { "PASSED" } else { "FAILED" });
    }

    /// Writes everything to `path`.
    pub(super) fn write_json(&self, path: &Path) -> Result<()> {
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        let mut file =
            std::fs::File::create(path).with_context(|| format!("creating {}", path.display()))?;
        serde_json::to_writer_pretty(&mut file, self)?;
        file.write_all(b"\n")?;
        println!("results: {}", path.display());
        Ok(())
    }
}

fn print_report(report: &CellReport) {
    let lost = &report.lost;
    println!(
        "{:>4}  {:>9}  {:>8}  {:>6} ms  {:>8}  {:>8}  {:>7}  {:>4} {:>4} {:>8} {:>5} {:>5}  {:>5.1}s",
        report.cuts,
        report.acknowledged,
        report.acknowledged_gone,
        report.gone_ms_max,
        report.reads,
        lost.sectors_dropped + lost.sectors_torn,
        lost.names_dropped,
        report.count(&[Fault::Lost]),
        report.count(&[Fault::Torn]),
        report.count(&[Fault::Invented, Fault::Reply]),
        report.count(&[Fault::Hole]),
        report.count(&[Fault::SeenGone]),
        report.wall_ms as f64 / 1000.0,
    );
    for detail in &report.details {
        println!("        {detail}");
    }
}
