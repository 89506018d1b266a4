//! What the program does besides serving: subcommands that work on directories.

mod migrate;

use std::process::ExitCode;

/// Runs the subcommand that the words begin with; `None` if they are a server's.
#[must_use]
pub fn run(args: &[String]) -> Option<ExitCode> {
    match args.first()?.as_str() {
        "migrate-aof" => Some(migrate::run(args)),
        _ => None,
    }
}
