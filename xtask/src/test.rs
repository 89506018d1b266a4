//! `cargo xtask test`: every test of the workspace, after setting up what they need.
//!
//! Three steps, each a command that can also be run by hand: `scripts/setup.sh` installs the
//! programs that some tests compare with, `cargo test --workspace` runs the tests, and the loom
//! model of the history's clock runs with its own build of `moon-repl`.

use crate::binary::{cargo, target_dir, workspace_root};
use anyhow::{Context as _, Result};
use std::process::{Command, ExitStatus};

/// Options of `cargo xtask test`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// Install nothing: tests that need a program which is missing say so and are left out
    #[arg(long)]
    no_setup: bool,
}

/// Runs all steps, also after one that failed; true if none did.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let mut steps = Vec::new();
    if !options.no_setup {
        let script = workspace_root().join("scripts/setup.sh");
        steps.push(("scripts/setup.sh", Command::new(script)));
    }
    steps.push(("the tests", workspace_tests()));
    steps.push(("the loom model", loom_model()));

    let mut failed = Vec::new();
    for (name, mut command) in steps {
        println!("==> {command:?}");
        if !execute(&mut command)?.success() {
            failed.push(name);
        }
    }
    for name in &failed {
        println!("test: {name} failed");
    }
    Ok(failed.is_empty())
}

fn execute(command: &mut Command) -> Result<ExitStatus> {
    command
        .current_dir(workspace_root())
        .status()
        .with_context(|| format!("running {command:?}"))
}

fn workspace_tests() -> Command {
    let mut command = cargo();
    // A failure in one crate does not hide those of the next.
    command.args(["test", "--workspace", "--no-fail-fast"]);
    command
}

/// `cfg(loom)` replaces the atomics and locks, so this needs a build and a directory of its own.
fn loom_model() -> Command {
    let mut flags = std::env::var("RUSTFLAGS").unwrap_or_default();
    flags.push_str(" --cfg loom");
    let mut command = cargo();
    command
        .args(["test", "--package", "moon-repl", "--lib", "--target-dir"])
        .arg(target_dir().join("loom"))
        .arg("loom")
        .env("RUSTFLAGS", flags.trim_start());
    command
}
