//! The results as Markdown, printed while they come.

use super::measure::Sample;
use super::plan::{Case, Goal};
use anyhow::{Context as _, Result};
use std::path::Path;

/// Collects the lines of the document.
pub(crate) struct Table {
    head: Vec<String>,
    comparisons: Vec<String>,
    idle: Vec<String>,
}

impl Table {
    /// A document that begins with `parameters`.
    pub(crate) fn new(parameters: &[String]) -> Self {
        let mut head = vec!["# Measurements".to_owned(), String::new()];
        head.extend(parameters.iter().map(|p| format!("- {p}")));
        for line in &head {
            println!("{line}");
        }
        Table {
            head,
            comparisons: Vec::new(),
            idle: Vec::new(),
        }
    }

    /// One case measured on two servers.
    pub(crate) fn comparison(
        &mut self,
        case: &Case,
        first_name: &str,
        first: &Sample,
        second_name: &str,
        second: &Sample,
    ) {
        let throughput = second.throughput / first.throughput;
        let cpu_less = first.cpu_us / second.cpu_us;
        let (reached, is_met) = match case.goal {
            Goal::CpuTimesLess(n) => (cpu_less, cpu_less >= n),
            Goal::CpuAtMost(n) => (1.0 / cpu_less, 1.0 / cpu_less <= n),
            Goal::ThroughputAtLeast(n) => (throughput, throughput >= n),
        };
        let line = format!(
            "| {} | {first_name} → {second_name} | {:.0} → {:.0} | {throughput:.2} | {:.2} → {:.2} | {cpu_less:.2} | {} | {reached:.2} {} |",
            case.name,
            first.throughput,
            second.throughput,
            first.cpu_us,
            second.cpu_us,
            case.goal,
            if is_met { "met" } else { "missed" },
        );
        println!("{line}");
        self.comparisons.push(line);
    }

    /// An idle server.
    pub(crate) fn idle(&mut self, name: &str, cpu_percent: f64, connections: usize, bytes: u64) {
        let line = format!("| {name} | {cpu_percent:.2} % | {connections} | {bytes} |");
        println!("{line}");
        self.idle.push(line);
    }

    /// Writes the document.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let mut lines = self.head.clone();
        if !self.comparisons.is_empty() {
            lines.push(String::new());
            lines.push(
                "| case | servers | requests/s | ratio | server CPU µs/request | times less | goal | reached |"
                    .to_owned(),
            );
            lines.push("|---|---|--:|--:|--:|--:|---|--:|".to_owned());
            lines.extend(self.comparisons.iter().cloned());
        }
        if !self.idle.is_empty() {
            lines.push(String::new());
            lines.push("| idle server | CPU | connections | bytes each |".to_owned());
            lines.push("|---|--:|--:|--:|".to_owned());
            lines.extend(self.idle.iter().cloned());
        }
        let text = lines.join("\n") + "\n";
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))
    }
}
