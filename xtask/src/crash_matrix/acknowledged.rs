//! The failure that this project exists to end: writes acknowledged by two shards, then SIGKILL.

use crate::binary::ServerBinary;
use anyhow::{Result, bail};
use moon_harness::{Client, FsyncPolicy, Reply, Server};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use std::collections::BTreeMap;

/// Writes that are acknowledged before the kill.
pub(crate) const WRITES: usize = 5000;
/// Requests per pipeline.
const DEPTH: usize = 50;

/// Writes [`WRITES`] random keys on `--shards 2`, kills, recovers and counts; twice, because a
/// recovery that leaves a broken directory behind shows only at the next. Returns the smaller
/// count of keys that hold their value.
pub(crate) fn run(binary: &ServerBinary, policy: FsyncPolicy, seed: u64) -> Result<usize> {
    let mut server =
        Server::start_temp(binary.flavor, &binary.path, |c| c.shards(2).append(policy))?;
    let mut rng = StdRng::seed_from_u64(seed);
    let mut pairs = BTreeMap::new();
    while pairs.len() < WRITES {
        let key = format!("key:{:012}", rng.random_range(0..1_000_000_000_000_u64));
        pairs.insert(key, format!("value:{}", rng.random_range(0..u64::MAX)));
    }
    let pairs: Vec<(String, String)> = pairs.into_iter().collect();
    let mut client = server.client()?;
    for chunk in pairs.chunks(DEPTH) {
        for (key, value) in chunk {
            client.queue(&["SET", key, value]);
        }
        client.flush()?;
        for _ in chunk {
            let reply = client.read_reply()?;
            if !reply.is_ok() {
                bail!("SET was answered with {reply:?}");
            }
        }
    }
    let mut recovered = WRITES;
    for _ in 0..2 {
        server.kill9()?;
        server.restart()?;
        recovered = recovered.min(count(&mut server.client()?, &pairs)?);
    }
    Ok(recovered)
}

fn count(client: &mut Client, pairs: &[(String, String)]) -> Result<usize> {
    let mut found = 0;
    for chunk in pairs.chunks(DEPTH) {
        for (key, _) in chunk {
            client.queue(&["GET", key]);
        }
        client.flush()?;
        for (_, value) in chunk {
            found += usize::from(client.read_reply()? == Reply::bulk(value));
        }
    }
    let size = client.run("DBSIZE")?;
    if size != Reply::Int(i64::try_from(found)?) {
        bail!("{found} keys hold their value, DBSIZE says {size:?}");
    }
    Ok(found)
}
