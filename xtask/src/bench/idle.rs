//! What a server costs that does nothing: CPU, and memory per idle connection.

use super::measure;
use super::process::{cpu_ns, resident_bytes};
use super::table::Table;
use super::throughput::Context;
use crate::binary::ServerBinary;
use anyhow::{Context as _, Result};
use moon_harness::{Client, FsyncPolicy, Server};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::time::{Duration, Instant};

/// Shards of the idle server: each has a thread with timers of its own.
const SHARDS: u16 = 4;
/// Descriptors beside those of the connections.
const SPARE_DESCRIPTORS: u64 = 200;

/// Measures both servers.
pub(crate) fn run(context: &Context, table: &mut Table) -> Result<()> {
    let connections = raise_descriptor_limit(context.connections)?;
    for binary in [&context.lab.peer, &context.lab.moon] {
        let name = match binary.flavor {
            moon_harness::Flavor::Redis => "redis-server".to_owned(),
            moon_harness::Flavor::Moon => format!("moon-server, {SHARDS} shards"),
        };
        let (cpu_percent, bytes) = measure(context, binary, connections)
            .with_context(|| format!("measuring idle {name}"))?;
        table.idle(&name, cpu_percent, connections, bytes);
    }
    Ok(())
}

fn measure(context: &Context, binary: &ServerBinary, connections: usize) -> Result<(f64, u64)> {
    let append = Some(FsyncPolicy::Everysec);
    let config = measure::config(binary, append, SHARDS, context.lab.data.path())
        .arg("--maxclients")
        .arg((connections + 100).to_string());
    let server = Server::start(config)?;
    // One write, so that whatever a server does after its last write is part of the figure.
    server.client()?.run("SET key value")?;
    let wall = Duration::from_secs(if context.lab.quick { 2 } else { 10 });
    let begun = Instant::now();
    let before = cpu_ns(server.pid())?;
    std::thread::sleep(wall);
    let spent_ns = cpu_ns(server.pid())? - before;
    let cpu_percent = spent_ns as f64 / begun.elapsed().as_nanos() as f64 * 100.0;

    let before = resident_bytes(server.pid())?;
    let mut clients = Vec::with_capacity(connections);
    for _ in 0..connections {
        let mut client = Client::connect(server.address())?;
        client.command(&["PING"])?;
        clients.push(client);
    }
    let grown = resident_bytes(server.pid())?.saturating_sub(before);
    Ok((cpu_percent, grown / connections.max(1) as u64))
}

/// Lets this process and the servers it starts have `connections` sockets; returns how many are
/// possible.
fn raise_descriptor_limit(connections: usize) -> Result<usize> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let wanted = (connections as u64 + SPARE_DESCRIPTORS).min(hard);
    if wanted > soft {
        setrlimit(Resource::RLIMIT_NOFILE, wanted, hard)?;
    }
    let possible = wanted.max(soft).saturating_sub(SPARE_DESCRIPTORS);
    Ok(connections.min(usize::try_from(possible)?))
}
