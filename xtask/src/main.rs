//! The project's automation: `cargo xtask <command>`.
//!
//! * [`test`]: sets up what the tests need and runs them all.
//! * [`crash_matrix`]: kills real servers and proves that they keep what they acknowledged.
//! * [`bench`]: measures against `redis-server`, side by side.
//! * [`tidy`]: checks of the sources that neither compiler nor clippy makes.
//! * [`binary`]: which server program the others run.

mod bench;
mod binary;
mod crash_matrix;
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
    CrashMatrix(crash_matrix::Options),
    /// Measure side by side with redis-server
    Bench(bench::Options),
    /// Check the sources: file heads, sizes, crate floors
    Tidy,
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Test(options) => test::run(&options),
        Command::CrashMatrix(options) => crash_matrix::run(&options),
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
