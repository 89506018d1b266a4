//! The project's automation: `cargo xtask <command>`.
//!
//! * [`test`](mod@test): sets up what the tests need and runs them all.
//! * [`crash_matrix`]: kills real servers and proves that they keep what they acknowledged.
//! * [`differential`]: compares replies and contents with those of `redis-server`.
//! * [`isolation`]: many clients at once, and one serial order that explains them.
//! * [`clients`]: runs client libraries of other people against a server.
//! * [`bench`](mod@bench): measures against `redis-server`, side by side.
//! * [`tidy`]: checks of the sources that neither compiler nor clippy makes.
//! * [`binary`]: which server program the others run.

mod bench;
mod binary;
mod clients;
mod crash_matrix;
mod differential;
mod isolation;
mod test;
mod tidy;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", about = "The project's automation")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Set up what the tests need, then run all of them
    Test(test::Options),
    /// Kill servers at random moments and fail points, and verify what they recover
    CrashMatrix(Box<crash_matrix::Options>),
    /// Run the same commands on redis-server and moon-server, and compare everything
    Differential(Box<differential::Options>),
    /// Let many clients work at once and check that one serial order explains what they saw
    Isolation(Box<isolation::Options>),
    /// Run real client libraries against the server; needs Python, Node and the registries
    Clients(Box<clients::Options>),
    /// Measure side by side with redis-server
    Bench(Box<bench::Options>),
    /// Check the sources: file heads, sizes, crate floors
    Tidy,
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Test(options) => test::run(&options),
        Command::CrashMatrix(options) => crash_matrix::run(&options),
        Command::Differential(options) => differential::run(&options),
        Command::Isolation(options) => isolation::run(&options),
        Command::Clients(options) => clients::run(&options),
        Command::Bench(options) => bench::run(&options),
        Command::Tidy => tidy::run(),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scenario 194: every `cargo xtask` line of the documents is one.
    #[test]
    fn the_documents_name_commands_that_exist() {
        let root = binary::workspace_root();
        let mut pages = vec![root.join("README.md"), root.join("CONTRIBUTING.md")];
        for dir in ["docs", "docs/runbooks"] {
            let entries = std::fs::read_dir(root.join(dir)).expect("the documents are there");
            pages.extend(entries.map(|entry| entry.expect("readable").path()));
        }
        let mut checked = 0;
        for page in pages
            .iter()
            .filter(|p| p.extension().is_some_and(|e| e == "md"))
        {
            let text = std::fs::read_to_string(page).expect("readable");
            for (at, _) in text.match_indices("xtask ") {
                let line = text[at..].lines().next().unwrap_or_default();
                let line = &line[..line.find(['`', '#', ')']).unwrap_or(line.len())];
                // In `--break <damage>` a name stands for any value.
                if text[..at].ends_with("cargo ") && !line.contains('<') {
                    let parsed = Cli::try_parse_from(line.split_whitespace());
                    assert!(parsed.is_ok(), "{}: {line}", page.display());
                    checked += 1;
                }
            }
        }
        assert!(checked > 5, "only {checked} lines found");
    }
}
