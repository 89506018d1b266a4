//! The table of an isolation run, and what is wrong in words.

use moon_isolation::cell::CellReport;
use std::path::Path;

/// Findings of one run that are printed in full.
const PRINTED_MAX: usize = 3;
/// Characters of a printed line.
const LINE_MAX: usize = 220;

pub(super) fn print_header() {
    println!(
        "\n{:>6}  {:<8}  {:>7}  {:>5}  {:>9}  {:>12}  {:>8}  {:>10}  {:>8}  {:>11}  {:>10}",
        "shards",
        "policy",
        "seconds",
        "kills",
        "calls",
        "transactions",
        "refused",
        "unanswered",
        "rounds",
        "not decided",
        "violations"
    );
}

pub(super) fn print_row(report: &CellReport) {
    println!(
        "{:>6}  {:<8}  {:>7.1}  {:>5}  {:>9}  {:>12}  {:>8}  {:>10}  {:>8}  {:>11}  {:>10}",
        report.cell.shards,
        report.cell.policy,
        report.seconds,
        report.kills,
        report.sum(|t| t.calls),
        report.sum(|t| t.transactions),
        report.sum(|t| t.refused),
        report.sum(|t| t.unanswered),
        report.sum(|t| t.rounds),
        report.sum(|t| t.not_decided),
        report.findings().count(),
    );
    print_findings(report);
}

fn print_findings(report: &CellReport) {
    for tally in &report.tallies {
        for finding in tally.findings.iter().take(PRINTED_MAX) {
            println!(
                "  {}: {}: {}",
                report.cell, tally.discipline, finding.anomaly
            );
            for line in std::iter::once(&finding.detail).chain(&finding.piece) {
                println!("    {}", shortened(line));
            }
        }
    }
}

/// A line as long as a terminal may be wide; the JSON file has all of it.
fn shortened(line: &str) -> String {
    match line.char_indices().nth(LINE_MAX) {
        Some((end, _)) => format!("{} ...", &line[..end]),
        None => line.to_owned(),
    }
}

/// Prints the sums; whether everything was explained.
pub(super) fn print_summary(reports: &[CellReport], json: &Path) -> bool {
    let names = reports
        .first()
        .map(|r| r.tallies.iter().map(|t| t.discipline));
    println!();
    for name in names.into_iter().flatten() {
        let of = || {
            let tallies = reports.iter().flat_map(|r| &r.tallies);
            tallies.filter(|t| t.discipline == name)
        };
        println!(
            "{name:<9} {:>9} calls, {:>8} transactions, {:>7} rounds, {} not decided, {} violations",
            of().map(|t| t.calls).sum::<u64>(),
            of().map(|t| t.transactions).sum::<u64>(),
            of().map(|t| t.rounds).sum::<u64>(),
            of().map(|t| t.not_decided).sum::<u64>(),
            of().map(|t| t.findings.len()).sum::<usize>(),
        );
    }
    for (missing, what) in [
        (reports.iter().any(|r| !r.scripts), "scripts"),
        (reports.iter().any(|r| !r.blocking), "blocking commands"),
    ] {
        if missing {
            println!("without {what}: the server has none");
        }
    }
    let seconds: f64 = reports.iter().map(|r| r.seconds).sum();
    let violations: usize = reports.iter().map(|r| r.findings().count()).sum();
    let judged: u64 = reports
        .iter()
        .map(|r| r.sum(|t| t.rounds - t.not_decided))
        .sum();
    println!("isolation: {violations} violations in {judged} decided rounds, {seconds:.0} s");
    println!("results: {}", json.display());
    // A run that decided nothing proves nothing.
    violations == 0 && judged > 0
}

/// Prints how a broken server was found out; whether it was.
pub(super) fn print_breach(name: &str, report: &CellReport) -> bool {
    let is_noticed = report.findings().next().is_some();
    let verdict = if is_noticed { "found" } else { "NOT FOUND" };
    println!(
        "{name}: {verdict} after {:.1} s, {} calls, {} kills",
        report.seconds,
        report.sum(|t| t.calls),
        report.kills
    );
    print_findings(report);
    is_noticed
}
