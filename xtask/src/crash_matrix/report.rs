//! The table on the terminal and the JSON file.

use super::acknowledged::WRITES;
use super::cell::{Break, Cell, CellOptions, CellReport};
use super::offline::Offline;
use anyhow::{Context as _, Result};
use moon_harness::FsyncPolicy;
use moon_harness::verify::Fault;
use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A fail point that is armed so often and never reached does not exist in the server.
const ARMED_IN_VAIN_MAX: usize = 3;

/// How a cell ended.
#[derive(Debug, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// It ran; the report says what it found.
    Ran(CellReport),
    /// It could not be run to its end, which counts as a failure.
    Failed(String),
}

impl Outcome {
    pub(crate) fn of(result: Result<CellReport>) -> Outcome {
        match result {
            Ok(report) => Outcome::Ran(report),
            Err(error) => Outcome::Failed(format!("{error:#}")),
        }
    }

    fn is_clean(&self) -> bool {
        matches!(self, Outcome::Ran(report) if report.is_clean())
    }
}

#[derive(Debug, serde::Serialize)]
struct CellRow {
    #[serde(flatten)]
    cell: Cell,
    repeat: String,
    outcome: Outcome,
}

#[derive(Debug, serde::Serialize)]
struct OfflineRow {
    what: Offline,
    repeat: String,
    outcome: Outcome,
}

#[derive(Debug, serde::Serialize)]
struct AcknowledgedRow {
    policy: FsyncPolicy,
    acknowledged: usize,
    recovered: Option<usize>,
    error: Option<String>,
}

#[derive(Debug, serde::Serialize)]
struct ControlRow {
    damage: Break,
    noticed: bool,
    error: Option<String>,
}

/// Collects the results, printing each as it comes.
#[derive(Debug, serde::Serialize)]
pub(crate) struct Report {
    seed: u64,
    server: PathBuf,
    acknowledged: Vec<AcknowledgedRow>,
    cells: Vec<CellRow>,
    offline: Vec<OfflineRow>,
    controls: Vec<ControlRow>,
    /// Fail points that were armed often and never reached.
    dead_fail_points: Vec<String>,
    wall_s: f64,
}

impl Report {
    pub(crate) fn new(seed: u64, server: &Path) -> Self {
        Report {
            seed,
            server: server.to_owned(),
            acknowledged: Vec::new(),
            cells: Vec::new(),
            offline: Vec::new(),
            controls: Vec::new(),
            dead_fail_points: Vec::new(),
            wall_s: 0.0,
        }
    }

    /// Whether every part of the run kept its promise.
    pub(crate) fn is_clean(&self) -> bool {
        self.acknowledged
            .iter()
            .all(|row| row.recovered == Some(WRITES))
            && self.outcomes().all(Outcome::is_clean)
            && self.controls.iter().all(|row| row.noticed)
            && self.dead_fail_points.is_empty()
    }

    fn outcomes(&self) -> impl Iterator<Item = &Outcome> {
        let cells = self.cells.iter().map(|row| &row.outcome);
        cells.chain(self.offline.iter().map(|row| &row.outcome))
    }

    pub(crate) fn acknowledged(&mut self, policy: FsyncPolicy, outcome: Result<usize>) {
        let (recovered, error) = match outcome {
            Ok(recovered) => (Some(recovered), None),
            Err(error) => (None, Some(format!("{error:#}"))),
        };
        match (&recovered, &error) {
            (Some(recovered), _) => println!(
                "--shards 2 --appendfsync {policy:<8}  {WRITES} acknowledged, SIGKILL twice, \
                 {recovered} recovered"
            ),
            (None, error) => println!(
                "--shards 2 --appendfsync {policy:<8}  FAILED: {}",
                error.as_deref().unwrap_or_default()
            ),
        }
        self.acknowledged.push(AcknowledgedRow {
            policy,
            acknowledged: WRITES,
            recovered,
            error,
        });
    }

    pub(crate) fn print_header(&self) {
        println!(
            "\n{:>6}  {:<8}  {:<9}  {:>5}  {:>9}  {:>7}  {:>7}  {:>8}  {:>4} {:>4} {:>8} {:>5}  {:>6}",
            "shards",
            "policy",
            "workload",
            "kills",
            "acked",
            "unknown",
            "kept",
            "reads",
            "lost",
            "torn",
            "invented",
            "holes",
            "time"
        );
    }

    pub(crate) fn cell(&mut self, cell: Cell, options: CellOptions, outcome: Outcome) {
        let repeat = format!(
            "cargo xtask crash-matrix --shards {} --policy {} --workload {} --kills {} --seed {}",
            cell.shards, cell.policy, cell.workload, options.kills, options.seed
        );
        print!(
            "{:>6}  {:<8}  {:<9}  ",
            cell.shards, cell.policy, cell.workload
        );
        print_outcome(&outcome, &repeat);
        self.cells.push(CellRow {
            cell,
            repeat,
            outcome,
        });
    }

    pub(crate) fn offline(&mut self, what: Offline, options: CellOptions, outcome: Outcome) {
        let repeat = format!(
            "cargo xtask crash-matrix --offline {what} --kills {} --seed {}",
            options.kills, options.seed
        );
        print!("{:>6}  {:<8}  {what:<9}  ", "", "offline");
        print_outcome(&outcome, &repeat);
        self.offline.push(OfflineRow {
            what,
            repeat,
            outcome,
        });
    }

    pub(crate) fn control(&mut self, damage: Break, noticed: Result<bool>) {
        let (noticed, error) = match noticed {
            Ok(noticed) => (noticed, None),
            Err(error) => (false, Some(format!("{error:#}"))),
        };
        let verdict = if noticed { "noticed" } else { "NOT NOTICED" };
        println!(
            "control {damage:?}: {verdict} {}",
            error.as_deref().unwrap_or_default()
        );
        self.controls.push(ControlRow {
            damage,
            noticed,
            error,
        });
    }

    /// Prints the sums.
    pub(crate) fn finish(&mut self, wall: Duration) {
        self.wall_s = wall.as_secs_f64();
        let reports: Vec<&CellReport> = self
            .outcomes()
            .filter_map(|outcome| match outcome {
                Outcome::Ran(report) => Some(report),
                Outcome::Failed(_) => None,
            })
            .collect();
        let kinds = by_kind(&reports, |r| &r.kills_by_kind);
        let not_reached = by_kind(&reports, |r| &r.not_reached);
        let dead: Vec<String> = not_reached
            .iter()
            .filter(|(kind, count)| **count >= ARMED_IN_VAIN_MAX && !kinds.contains_key(*kind))
            .map(|(kind, _)| (*kind).to_owned())
            .collect();
        let list = |kinds: &BTreeMap<&str, usize>| {
            let kinds: Vec<String> = kinds.iter().map(|(k, n)| format!("{k} {n}")).collect();
            if kinds.is_empty() {
                "none".to_owned()
            } else {
                kinds.join(", ")
            }
        };
        let (kinds, not_reached) = (list(&kinds), list(&not_reached));
        let sum = |f: fn(&CellReport) -> u64| reports.iter().map(|r| f(r)).sum::<u64>();
        println!(
            "\n{} cells ({} failed), {} kills, {} acknowledged, {} reads, {} rewrites begun, {:.0} s",
            self.outcomes().count(),
            self.outcomes().filter(|o| !o.is_clean()).count(),
            sum(|r| r.kills as u64),
            sum(|r| r.acknowledged),
            sum(|r| r.reads),
            sum(|r| r.rewrites),
            self.wall_s,
        );
        println!("ways to die: {kinds}; fail points armed and not reached: {not_reached}");
        for kind in &dead {
            println!("fail point {kind} was never reached: it proves nothing");
        }
        println!(
            "lost {}, torn {}, invented {}, holes {}",
            fault_sum(&reports, &[Fault::Lost, Fault::SeenGone]),
            fault_sum(&reports, &[Fault::Torn]),
            fault_sum(&reports, &[Fault::Invented, Fault::Reply]),
            fault_sum(&reports, &[Fault::Hole]),
        );
        self.dead_fail_points = dead;
        println!("{}", if self.is_clean() { "PASSED" } else { "FAILED" });
    }

    /// Writes everything to `path`.
    pub(crate) fn write_json(&self, path: &Path) -> Result<()> {
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

fn by_kind<'a>(
    reports: &[&'a CellReport],
    kinds: impl Fn(&'a CellReport) -> &'a BTreeMap<String, usize>,
) -> BTreeMap<&'a str, usize> {
    let mut sums = BTreeMap::new();
    for (kind, count) in reports.iter().flat_map(|r| kinds(r)) {
        *sums.entry(kind.as_str()).or_default() += count;
    }
    sums
}

fn fault_sum(reports: &[&CellReport], faults: &[Fault]) -> usize {
    faults
        .iter()
        .map(|fault| format!("{fault:?}"))
        .flat_map(|name| {
            reports
                .iter()
                .filter_map(move |r| r.faults.get(&name).copied())
        })
        .sum()
}

fn print_outcome(outcome: &Outcome, repeat: &str) {
    match outcome {
        Outcome::Ran(report) => {
            print_cell(report);
            for detail in &report.details {
                println!("        {detail}");
            }
        }
        Outcome::Failed(error) => println!("FAILED: {error}"),
    }
    if !outcome.is_clean() {
        println!("        repeat: {repeat}");
    }
}

fn print_cell(report: &CellReport) {
    let of = |faults: &[Fault]| fault_sum(&[report], faults);
    println!(
        "{:>5}  {:>9}  {:>7}  {:>7}  {:>8}  {:>4} {:>4} {:>8} {:>5}  {:>5.1}s",
        report.kills,
        report.acknowledged,
        report.unanswered_kept + report.unanswered_dropped,
        report.unanswered_kept,
        report.reads,
        of(&[Fault::Lost, Fault::SeenGone]),
        of(&[Fault::Torn]),
        of(&[Fault::Invented, Fault::Reply]),
        of(&[Fault::Hole]),
        report.wall_ms as f64 / 1000.0,
    );
}
