//! `cargo xtask bench`: side by side with `redis-server`, in one run on one machine.
//!
//! The servers share one core, `redis-benchmark` has another. Both servers are up at the same
//! time and take turns round by round, so that a slow minute of the machine hits both; each
//! figure is the median of the rounds. Throughput is what the client saw; CPU per request is what
//! the server's threads spent, read from the kernel, and is the steadier of the two: it also
//! holds where one client core cannot keep the server busy.

mod idle;
mod measure;
mod plan;
mod table;

use crate::binary::{ServerBinary, ServerOptions, target_dir, workspace_root};
use anyhow::{Context as _, Result};
use measure::{Cores, Pair, Sample, run_benchmark};
use moon_harness::{Flavor, FsyncPolicy};
use plan::{Case, Group};
use std::path::PathBuf;
use std::process::Command;
use table::Table;

/// Options of `cargo xtask bench`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    server: ServerOptions,
    /// The server to compare with
    #[arg(long, default_value = "redis-server")]
    peer_binary: PathBuf,
    /// A short run that shows that everything works; its figures mean little
    #[arg(long)]
    quick: bool,
    /// Rounds per case and server [default: 5, quick: 1]
    #[arg(long)]
    rounds: Option<usize>,
    /// Keys that are loaded before GET and SET are measured [default: 1000000, quick: 20000]
    #[arg(long)]
    keys: Option<u64>,
    /// Only these groups: get, set, everysec, always, shards, idle
    #[arg(long, value_delimiter = ',')]
    only: Vec<Group>,
    /// The core of the servers
    #[arg(long, default_value = "0")]
    server_core: String,
    /// The core of redis-benchmark
    #[arg(long, default_value = "1")]
    client_core: String,
    /// Idle connections of the memory figure [default: 10000, quick: 500]
    #[arg(long)]
    connections: Option<usize>,
    /// Where the servers keep their data [default: a directory under target/]
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// Where to write the table as Markdown [default: target/bench.md]
    #[arg(long)]
    out: Option<PathBuf>,
}

/// What all measurements of one run share.
struct Context {
    moon: ServerBinary,
    peer: ServerBinary,
    cores: Cores,
    data: tempfile::TempDir,
    rounds: usize,
    keys: u64,
    quick: bool,
    connections: usize,
}

/// Runs the selected groups and writes the table. The result does not depend on the figures:
/// goals that are missed are marked in the table.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let data_root = options
        .data_dir
        .clone()
        .unwrap_or_else(|| target_dir().join("bench-data"));
    std::fs::create_dir_all(&data_root)?;
    let quick = options.quick;
    let context = Context {
        moon: options.server.locate(&[], "release")?,
        peer: ServerBinary {
            flavor: Flavor::Redis,
            path: options.peer_binary.clone(),
        },
        cores: Cores {
            server: options.server_core.clone(),
            client: options.client_core.clone(),
        },
        data: tempfile::Builder::new()
            .prefix("run-")
            .tempdir_in(&data_root)?,
        rounds: options.rounds.unwrap_or(if quick { 1 } else { 5 }),
        keys: options
            .keys
            .unwrap_or(if quick { 20_000 } else { 1_000_000 }),
        quick,
        connections: options
            .connections
            .unwrap_or(if quick { 500 } else { 10_000 }),
    };
    let mut table = Table::new(&describe(&context));
    let wanted = |group: Group| options.only.is_empty() || options.only.contains(&group);
    for (append, groups) in [
        (None, &[Group::Get, Group::Set][..]),
        (Some(FsyncPolicy::Always), &[Group::Always]),
    ] {
        let cases: Vec<Case> = groups
            .iter()
            .filter(|g| wanted(**g))
            .flat_map(|g| plan::side_by_side(*g, quick))
            .collect();
        if !cases.is_empty() {
            side_by_side(&context, append, &cases, &mut table)?;
        }
    }
    if wanted(Group::Everysec) {
        everysec(&context, &mut table)?;
    }
    if wanted(Group::Shards) {
        shards(&context, &mut table)?;
    }
    if wanted(Group::Idle) {
        idle::run(&context, &mut table)?;
    }
    let out = options
        .out
        .clone()
        .unwrap_or_else(|| target_dir().join("bench.md"));
    table.write(&out)?;
    println!("\nwritten to {}", out.display());
    Ok(true)
}

/// Cases in which both servers do the same.
fn side_by_side(
    context: &Context,
    append: Option<FsyncPolicy>,
    cases: &[Case],
    table: &mut Table,
) -> Result<()> {
    let pair = Pair {
        first: context.start(&context.peer, append, 1)?,
        second: context.start(&context.moon, append, 1)?,
    };
    let keys = if append.is_some() {
        context.keys.min(100_000)
    } else {
        context.keys
    };
    pair.preload(keys)?;
    for case in cases {
        let (peer, moon) = context.alternate(&pair, case, keys)?;
        table.comparison(case, "redis-server", &peer, "moon-server", &moon);
    }
    Ok(())
}

/// What the log costs: the same server with `everysec` and without.
fn everysec(context: &Context, table: &mut Table) -> Result<()> {
    let pair = Pair {
        first: context.start(&context.moon, None, 1)?,
        second: context.start(&context.moon, Some(FsyncPolicy::Everysec), 1)?,
    };
    pair.preload(context.keys)?;
    let case = plan::everysec(context.quick);
    let (off, on) = context.alternate(&pair, &case, context.keys)?;
    table.comparison(&case, "log off", &off, "everysec", &on);
    Ok(())
}

/// What a second shard costs, both on the same core.
fn shards(context: &Context, table: &mut Table) -> Result<()> {
    let pair = Pair {
        first: context.start(&context.moon, None, 1)?,
        second: context.start(&context.moon, None, 2)?,
    };
    pair.preload(context.keys)?;
    for case in plan::shards(context.quick) {
        let (one, two) = context.alternate(&pair, &case, context.keys)?;
        table.comparison(&case, "1 shard", &one, "2 shards", &two);
    }
    Ok(())
}

impl Context {
    fn start(
        &self,
        binary: &ServerBinary,
        append: Option<FsyncPolicy>,
        shards: u16,
    ) -> Result<moon_harness::Server> {
        measure::start(binary, append, shards, &self.cores, self.data.path())
    }

    /// The medians of alternating rounds.
    fn alternate(&self, pair: &Pair, case: &Case, keys: u64) -> Result<(Sample, Sample)> {
        let (mut first, mut second) = (Vec::new(), Vec::new());
        for _ in 0..self.rounds {
            first.push(run_benchmark(&pair.first, case, keys, &self.cores)?);
            second.push(run_benchmark(&pair.second, case, keys, &self.cores)?);
        }
        Ok((Sample::median(&first), Sample::median(&second)))
    }
}

/// Machine, versions and parameters, one per line.
fn describe(context: &Context) -> Vec<String> {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu
        .lines()
        .find_map(|l| {
            l.strip_prefix("model name")
                .map(|m| m.trim_start_matches([' ', '\t', ':']))
        })
        .unwrap_or("unknown processor");
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let peer = context.peer.path.as_os_str();
    vec![
        format!(
            "machine: {model}, {cores} cores, {}",
            output("uname", &["-sr".as_ref()])
        ),
        format!("redis-server: {}", output(peer, &["--version".as_ref()])),
        format!("moon-server: {}", context.moon.path.display()),
        format!(
            "commit: {}",
            output(
                "git",
                &[
                    "-C".as_ref(),
                    workspace_root().as_os_str(),
                    "rev-parse".as_ref(),
                    "--short".as_ref(),
                    "HEAD".as_ref()
                ]
            )
        ),
        format!(
            "parameters: {} rounds alternating, median; {} keys, values of {} bytes; server on core {}, client on core {}{}",
            context.rounds,
            context.keys,
            plan::VALUE_BYTES,
            context.cores.server,
            context.cores.client,
            if context.quick {
                "; quick run, figures mean little"
            } else {
                ""
            }
        ),
    ]
}

fn output(program: impl AsRef<std::ffi::OsStr>, args: &[&std::ffi::OsStr]) -> String {
    Command::new(program)
        .args(args)
        .output()
        .context("running a program for its version")
        .map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned())
        .unwrap_or_else(|_| "unknown".to_owned())
}
