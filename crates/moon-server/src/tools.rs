//! The subcommands that work on a directory without serving it.
//!
//! Each reads its words, calls the library that does the work, prints, and ends with an exit code
//! that scripts can use: 1 for words or files that cannot be used, 0 for done; what else there
//! is, its `--help` says.

mod check;
mod migrate;
mod progress;
mod reshard;
mod restore;

use clap::Parser;
use std::process::ExitCode;

/// Exit code of words that are not understood and of files that cannot be read or written.
const FAILED: u8 = 1;

/// Runs the subcommand that `args` begin with; `None` if they begin with none, so that they are
/// for the server.
#[must_use]
pub fn run(args: &[String]) -> Option<ExitCode> {
    Some(match args.first()?.as_str() {
        "check-aof" => with(args, check::run),
        "migrate-aof" => with(args, migrate::run),
        "reshard" => with(args, reshard::run),
        "restore" => with(args, restore::run),
        _ => return None,
    })
}

/// Parses the words for one subcommand, its name taking the place of the program's.
fn with<T: Parser>(args: &[String], run: impl FnOnce(T) -> ExitCode) -> ExitCode {
    match T::try_parse_from(args) {
        Ok(options) => run(options),
        Err(error) => {
            let code = if error.use_stderr() { FAILED } else { 0 };
            // Help and errors have nowhere else to go.
            drop(error.print());
            ExitCode::from(code)
        }
    }
}

/// Prints an error with its causes.
fn fail(error: &(dyn std::error::Error + 'static), code: u8) -> ExitCode {
    eprintln!("{}", moon_tools::check::chain(error));
    ExitCode::from(code)
}
