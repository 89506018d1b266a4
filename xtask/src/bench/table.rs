//! The results as Markdown, printed while they come.

use super::measure::Sample;
use super::plan::{Case, Goal};
use anyhow::{Context as _, Result};
use std::path::Path;

/// Names of columns; those that begin with a space are aligned to the left.
pub(crate) type Columns = &'static [&'static str];

const COMPARISON: Columns = &[
    " case",
    " servers",
    "requests/s",
    "ratio",
    "server CPU µs/request",
    "times less",
    " goal",
    "reached",
];
const IDLE: Columns = &[" idle server", "CPU", "connections", "bytes each"];

/// Collects the lines of the document: a head, then tables.
pub(crate) struct Table {
    head: Vec<String>,
    sections: Vec<Section>,
}

/// Rows with the same columns.
struct Section {
    columns: Columns,
    rows: Vec<String>,
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
            sections: Vec::new(),
        }
    }

    /// One more row of the table with these columns.
    pub(crate) fn row(&mut self, columns: Columns, cells: &[String]) {
        debug_assert_eq!(columns.len(), cells.len(), "one cell per column");
        let row = line(cells);
        let known = self.sections.iter().position(|s| s.columns == columns);
        let at = known.unwrap_or_else(|| {
            println!("\n{}", header(columns).join("\n"));
            self.sections.push(Section {
                columns,
                rows: Vec::new(),
            });
            self.sections.len() - 1
        });
        println!("{row}");
        self.sections[at].rows.push(row);
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
        let cells = [
            case.name.clone(),
            format!("{first_name} → {second_name}"),
            format!("{:.0} → {:.0}", first.throughput, second.throughput),
            format!("{throughput:.2}"),
            format!("{:.2} → {:.2}", first.cpu_us, second.cpu_us),
            format!("{cpu_less:.2}"),
            case.goal.to_string(),
            judged(format!("{reached:.2}"), is_met),
        ];
        self.row(COMPARISON, &cells);
    }

    /// An idle server.
    pub(crate) fn idle(&mut self, name: &str, cpu_percent: f64, connections: usize, bytes: u64) {
        let cells = [
            name.to_owned(),
            format!("{cpu_percent:.2} %"),
            connections.to_string(),
            bytes.to_string(),
        ];
        self.row(IDLE, &cells);
    }

    /// The document.
    fn text(&self) -> String {
        let mut lines = self.head.clone();
        for section in &self.sections {
            lines.push(String::new());
            lines.extend(header(section.columns));
            lines.extend(section.rows.iter().cloned());
        }
        lines.join("\n") + "\n"
    }

    /// Writes the document.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(path, self.text()).with_context(|| format!("writing {}", path.display()))
    }
}

/// A figure and whether it reaches its goal.
pub(crate) fn judged(figure: String, is_met: bool) -> String {
    format!("{figure} {}", if is_met { "met" } else { "missed" })
}

fn line(cells: &[String]) -> String {
    format!("| {} |", cells.join(" | "))
}

fn header(columns: Columns) -> [String; 2] {
    let names: Vec<String> = columns.iter().map(|c| c.trim_start().to_owned()).collect();
    let rules: Vec<&str> = columns
        .iter()
        .map(|c| if c.starts_with(' ') { "---" } else { "--:" })
        .collect();
    [line(&names), format!("|{}|", rules.join("|"))]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_under_the_header_of_their_columns() {
        let mut table = Table::new(&["machine: any".to_owned()]);
        let cells = |a: &str, b: &str| [a.to_owned(), b.to_owned()];
        table.row(&[" server", "ms"], &cells("a", "1"));
        table.row(&[" server", "MiB"], &cells("a", "2"));
        table.row(&[" server", "ms"], &cells("b", "3"));
        assert_eq!(
            table.text(),
            "# Measurements\n\n- machine: any\n\n\
             | server | ms |\n|---|--:|\n| a | 1 |\n| b | 3 |\n\n\
             | server | MiB |\n|---|--:|\n| a | 2 |\n"
        );
    }
}
