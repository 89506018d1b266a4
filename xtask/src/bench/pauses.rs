//! How long a client waits while another one makes the server do something large:
//! `cargo xtask bench pauses`.
//!
//! A client keeps a pace of one request per millisecond on a few keys of its own. Meanwhile
//! millions of keys are inserted into another database, which is then emptied, and a set with
//! millions of members is unlinked. What the client waits for longest is the figure.

use super::measure::{self, info_field, preload};
use super::paced::{Latencies, PacedClient};
use super::process::pin_this_thread;
use super::table::{Columns, Table, judged};
use super::{Common, Lab};
use crate::binary::ServerBinary;
use anyhow::{Context as _, Result, bail};
use moon_harness::{Client, Flavor, FsyncPolicy};
use std::time::{Duration, Instant};

/// Keys of the paced client.
const OWN_KEYS: u64 = 1000;
const OWN_VALUE_BYTES: u32 = 64;
/// Commands on their way at once.
const PIPELINE: u64 = 32;
/// Members per SADD.
const MEMBERS_AT_ONCE: u64 = 1000;
/// How long the client goes on when all is done.
const AFTER: Duration = Duration::from_millis(500);
/// Longest that freeing may take.
const FREEING_MAX: Duration = Duration::from_secs(120);
/// Goals: no request waits longer, in milliseconds.
const GROWTH_MAX_MS: f64 = 10.0;
const REMOVAL_MAX_MS: f64 = 5.0;

const COLUMNS: Columns = &[
    " while",
    " server",
    "took, s",
    "requests",
    "p99.9, ms",
    "longest, ms",
    " goal",
    "reached",
];

/// Options of `cargo xtask bench pauses`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Options {
    #[command(flatten)]
    common: Common,
    /// Keys to insert [default: 20000000, quick: 200000]
    #[arg(long)]
    keys: Option<u64>,
    /// Members of the set [default: 10000000, quick: 200000]
    #[arg(long)]
    members: Option<u64>,
    /// Shards of moon-server
    #[arg(long, default_value_t = 1)]
    shards: u16,
    /// Log what is written (everysec)
    #[arg(long)]
    append: bool,
    /// The core of the servers
    #[arg(long, default_value = "0")]
    server_core: String,
    /// The core of all clients
    #[arg(long, default_value = "1")]
    client_core: String,
    /// Leave the other server out
    #[arg(long)]
    alone: bool,
}

/// Measures both servers.
pub(super) fn run(options: &Options) -> Result<bool> {
    let quick = options.common.quick;
    let size = |given: Option<u64>, usual| given.unwrap_or(if quick { 200_000 } else { usual });
    let keys = size(options.keys, 20_000_000);
    let members = size(options.members, 10_000_000);
    let lab = options.common.lab()?;
    let mut table = Table::new(&lab.describe(&format!(
        "{keys} keys, a set of {members} members, {}; server on core {}, clients on core {}, the \
         paced one preferred",
        if options.append {
            "appendfsync everysec"
        } else {
            "no log"
        },
        options.server_core,
        options.client_core
    )));
    // Only now: the table says how many cores the machine has.
    pin_this_thread(&options.client_core)?;
    for binary in [&lab.peer, &lab.moon] {
        if options.alone && binary.flavor == Flavor::Redis {
            continue;
        }
        measure(&lab, binary, keys, members, options, &mut table)
            .with_context(|| format!("measuring {:?}", binary.flavor))?;
    }
    options.common.write(&table, "bench-pauses.md")?;
    Ok(true)
}

fn measure(
    lab: &Lab,
    binary: &ServerBinary,
    keys: u64,
    members: u64,
    options: &Options,
    table: &mut Table,
) -> Result<()> {
    let append = options.append.then_some(FsyncPolicy::Everysec);
    let cores = Some(options.server_core.clone());
    let server = measure::start(binary, append, options.shards, cores, lab.data.path())?;
    preload(&server, OWN_KEYS, OWN_VALUE_BYTES)?;
    let mut client = server.client()?;
    client.run("SELECT 1")?;
    let name = match binary.flavor {
        Flavor::Redis => "redis-server".to_owned(),
        Flavor::Moon if options.shards == 1 => "moon-server, 1 shard".to_owned(),
        Flavor::Moon => format!("moon-server, {} shards", options.shards),
    };
    let mut watch = |what: &str, goal: f64, work: &mut dyn FnMut(&mut Client) -> Result<()>| {
        let cores = &options.client_core;
        let paced = PacedClient::start(server.address(), cores, OWN_KEYS, OWN_VALUE_BYTES)?;
        let begun = Instant::now();
        let worked = work(&mut client);
        let took = begun.elapsed();
        std::thread::sleep(AFTER);
        let seen: Latencies = paced.finish()?.iter().map(|timed| timed.latency).collect();
        worked?;
        let longest = seen.quantile_ms(1000);
        table.row(
            COLUMNS,
            &[
                what.to_owned(),
                name.clone(),
                format!("{:.2}", took.as_secs_f64()),
                seen.len().to_string(),
                format!("{:.2}", seen.quantile_ms(999)),
                format!("{longest:.2}"),
                format!("at most {goal} ms"),
                judged(format!("{longest:.2}"), longest <= goal),
            ],
        );
        Ok::<(), anyhow::Error>(())
    };
    watch(&format!("inserting {keys} keys"), GROWTH_MAX_MS, &mut |c| {
        insert(c, keys)
    })?;
    watch("FLUSHDB ASYNC of them", REMOVAL_MAX_MS, &mut |client| {
        client.run("FLUSHDB ASYNC")?;
        wait_until_freed(client)
    })?;
    watch(
        &format!("adding {members} members"),
        GROWTH_MAX_MS,
        &mut |c| add_members(c, members),
    )?;
    watch("UNLINK of the set", REMOVAL_MAX_MS, &mut |client| {
        client.run("UNLINK big")?;
        wait_until_freed(client)
    })
}

fn insert(client: &mut Client, keys: u64) -> Result<()> {
    let mut next = 0;
    while next < keys {
        let batch = PIPELINE.min(keys - next);
        for number in next..next + batch {
            client.queue(&["SET", &format!("grow:{number:010}"), "12345678"]);
        }
        client.flush()?;
        for _ in 0..batch {
            let reply = client.read_reply()?;
            if !reply.is_ok() {
                bail!("unexpected reply {reply:?}");
            }
        }
        next += batch;
    }
    Ok(())
}

fn add_members(client: &mut Client, members: u64) -> Result<()> {
    let mut next = 0;
    while next < members {
        let batch = MEMBERS_AT_ONCE.min(members - next);
        let mut parts = vec!["SADD".to_owned(), "big".to_owned()];
        parts.extend((next..next + batch).map(|number| format!("member:{number:09}")));
        client.command(&parts)?;
        next += batch;
    }
    Ok(())
}

fn wait_until_freed(client: &mut Client) -> Result<()> {
    let begun = Instant::now();
    while info_field(client, "memory", "lazyfree_pending_objects")? != "0" {
        if begun.elapsed() > FREEING_MAX {
            bail!("not freed after {FREEING_MAX:?}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
