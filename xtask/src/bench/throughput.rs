//! Requests per second and CPU per request, and what a server costs that does nothing.
//!
//! The servers share one core, `redis-benchmark` has another. Both servers are up at the same
//! time and take turns. Throughput is what the client saw; CPU per request is what the server's
//! threads spent, read from the kernel, and is the steadier of the two: it also holds where one
//! client core cannot keep the server busy.

use super::measure::{self, Cores, Pair, Sample, run_benchmark};
use super::plan::{self, Case, Group};
use super::table::Table;
use super::{Common, Lab, idle};
use crate::binary::ServerBinary;
use anyhow::Result;
use moon_harness::FsyncPolicy;

/// Options of `cargo xtask bench` without a subcommand.
#[derive(Clone, Debug, clap::Args)]
// Without a group: it would have the name of that of the command.
#[group(skip)]
pub(crate) struct Options {
    #[command(flatten)]
    common: Common,
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
}

/// What all groups of one run share.
pub(super) struct Context {
    pub(super) lab: Lab,
    cores: Cores,
    rounds: usize,
    keys: u64,
    pub(super) connections: usize,
}

/// Runs the selected groups and writes the table. The result does not depend on the figures:
/// goals that are missed are marked in the table.
pub(super) fn run(options: &Options) -> Result<bool> {
    let quick = options.common.quick;
    let context = Context {
        lab: options.common.lab()?,
        cores: Cores {
            server: options.server_core.clone(),
            client: options.client_core.clone(),
        },
        rounds: options.rounds.unwrap_or(if quick { 1 } else { 5 }),
        keys: options
            .keys
            .unwrap_or(if quick { 20_000 } else { 1_000_000 }),
        connections: options
            .connections
            .unwrap_or(if quick { 500 } else { 10_000 }),
    };
    let mut table = Table::new(&context.lab.describe(&format!(
        "{} rounds alternating, median; {} keys, values of {} bytes; server on core {}, client on core {}",
        context.rounds,
        context.keys,
        plan::VALUE_BYTES,
        context.cores.server,
        context.cores.client,
    )));
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
    options.common.write(&table, "bench.md")?;
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
        first: context.start(&context.lab.peer, append, 1)?,
        second: context.start(&context.lab.moon, append, 1)?,
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
        first: context.start(&context.lab.moon, None, 1)?,
        second: context.start(&context.lab.moon, Some(FsyncPolicy::Everysec), 1)?,
    };
    pair.preload(context.keys)?;
    let case = plan::everysec(context.lab.quick);
    let (off, on) = context.alternate(&pair, &case, context.keys)?;
    table.comparison(&case, "log off", &off, "everysec", &on);
    Ok(())
}

/// What a second shard costs, both on the same core.
fn shards(context: &Context, table: &mut Table) -> Result<()> {
    let pair = Pair {
        first: context.start(&context.lab.moon, None, 1)?,
        second: context.start(&context.lab.moon, None, 2)?,
    };
    pair.preload(context.keys)?;
    for case in plan::shards(context.lab.quick) {
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
        let cores = Some(self.cores.server.clone());
        measure::start(binary, append, shards, cores, self.lab.data.path())
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
