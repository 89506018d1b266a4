//! `cargo xtask bench`: side by side with `redis-server`, in one run on one machine.
//!
//! Measurements, each with a table of its own:
//! * [`throughput`] (no subcommand): requests per second, CPU per request, the cost of idling;
//! * [`recovery`]: how long a start takes that has data to load;
//! * [`types`]: CPU per request of one command of each type;
//! * [`memory`]: memory per entry of each type;
//! * [`rewrite`]: what clients and memory see of a rewrite of the log;
//! * [`maxmemory`]: a memory limit, and how well keys are chosen to go;
//! * [`pauses`]: what a client waits for while another makes the server do something large;
//! * [`together`]: what runs as one, waits or listens: scripts, transactions, hand-offs, messages.
//!
//! All of them take turns between the servers, round by round, so that a slow minute of the
//! machine hits each of them, and report the median. Goals are printed as met or missed; they do
//! not decide the exit code.
//!
//! * [`measure`]: starting servers, loading keys, `redis-benchmark`.
//! * [`process`]: what the kernel says about a process.
//! * [`paced`]: a client that keeps a pace and times each request.
//! * [`plan`]: the cases of the throughput measurement.
//! * [`table`]: the results as Markdown.

mod idle;
mod maxmemory;
mod measure;
mod memory;
mod paced;
mod pauses;
mod plan;
mod process;
mod recovery;
mod rewrite;
mod table;
mod throughput;
mod together;
mod types;

use crate::binary::{ServerBinary, ServerOptions, target_dir, workspace_root};
use anyhow::{Context as _, Result};
use moon_harness::Flavor;
use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Command;
use table::Table;

/// Options of `cargo xtask bench`.
#[derive(Clone, Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Options {
    #[command(subcommand)]
    measurement: Option<Measurement>,
    #[command(flatten)]
    throughput: throughput::Options,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Measurement {
    /// Time starts that load a log
    Recovery(recovery::Options),
    /// Watch memory, latency and throughput while the log is rewritten
    Rewrite(rewrite::Options),
    /// Compare the CPU per request of one command of each type
    Types(types::Options),
    /// Compare the memory per entry of each type
    Memory(memory::Options),
    /// Watch a memory limit, and how well keys are chosen to go
    Maxmemory(maxmemory::Options),
    /// Time the requests of one client while another makes the server do something large
    Pauses(pauses::Options),
    /// Compare scripts, transactions, hand-offs and messages
    Together(together::Options),
}

/// Runs one measurement and writes its table.
pub(crate) fn run(options: &Options) -> Result<bool> {
    match &options.measurement {
        None => throughput::run(&options.throughput),
        Some(Measurement::Recovery(options)) => recovery::run(options),
        Some(Measurement::Rewrite(options)) => rewrite::run(options),
        Some(Measurement::Types(options)) => types::run(options),
        Some(Measurement::Memory(options)) => memory::run(options),
        Some(Measurement::Maxmemory(options)) => maxmemory::run(options),
        Some(Measurement::Pauses(options)) => pauses::run(options),
        Some(Measurement::Together(options)) => together::run(options),
    }
}

/// Options of every measurement.
#[derive(Clone, Debug, clap::Args)]
struct Common {
    #[command(flatten)]
    server: ServerOptions,
    /// The server to compare with
    #[arg(long, default_value = "redis-server")]
    peer_binary: PathBuf,
    /// A short run that shows that everything works; its figures mean little
    #[arg(long)]
    quick: bool,
    /// Where the servers keep their data [default: a directory under target/]
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// Where to write the table as Markdown [default: a file under target/]
    #[arg(long)]
    out: Option<PathBuf>,
}

/// What a measurement works with.
struct Lab {
    moon: ServerBinary,
    peer: ServerBinary,
    /// Gone with its contents at the end of the run.
    data: tempfile::TempDir,
    quick: bool,
}

impl Common {
    fn lab(&self) -> Result<Lab> {
        let data_root = self
            .data_dir
            .clone()
            .unwrap_or_else(|| target_dir().join("bench-data"));
        std::fs::create_dir_all(&data_root)?;
        Ok(Lab {
            moon: self.server.locate(&[], "release")?,
            peer: ServerBinary {
                flavor: Flavor::Redis,
                path: self.peer_binary.clone(),
            },
            data: tempfile::Builder::new()
                .prefix("run-")
                .tempdir_in(&data_root)?,
            quick: self.quick,
        })
    }

    /// Writes the table to the file of the options, or to `name` under `target/`.
    fn write(&self, table: &Table, name: &str) -> Result<()> {
        let out = self.out.clone().unwrap_or_else(|| target_dir().join(name));
        table.write(&out)?;
        println!("\nwritten to {}", out.display());
        Ok(())
    }
}

impl Lab {
    /// Machine, versions and parameters, one per line.
    fn describe(&self, parameters: &str) -> Vec<String> {
        let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpu
            .lines()
            .find_map(|l| {
                l.strip_prefix("model name")
                    .map(|m| m.trim_start_matches([' ', '\t', ':']))
            })
            .unwrap_or("unknown processor");
        let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
        let root = workspace_root();
        vec![
            format!(
                "machine: {model}, {cores} cores, {}",
                output("uname", &["-sr".as_ref()])
            ),
            format!("redis-server: {}", version(&self.peer)),
            // Built here, so the commit says more than its version.
            format!("moon-server: {}", self.moon.path.display()),
            format!(
                "commit: {}",
                output(
                    "git",
                    &[
                        "-C".as_ref(),
                        root.as_os_str(),
                        "rev-parse".as_ref(),
                        "--short".as_ref(),
                        "HEAD".as_ref()
                    ]
                )
            ),
            format!(
                "parameters: {parameters}{}",
                if self.quick {
                    "; quick run, figures mean little"
                } else {
                    ""
                }
            ),
        ]
    }
}

fn version(binary: &ServerBinary) -> String {
    output(&binary.path, &["--version".as_ref()])
}

fn output(program: impl AsRef<OsStr>, args: &[&OsStr]) -> String {
    Command::new(program)
        .args(args)
        .output()
        .context("running a program for its version")
        .map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned())
        .unwrap_or_else(|_| "unknown".to_owned())
}

/// The middle of `figures`; NaN if there are none.
fn median(figures: impl IntoIterator<Item = f64>) -> f64 {
    let mut figures: Vec<f64> = figures.into_iter().collect();
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}
