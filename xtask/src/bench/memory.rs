//! Memory per entry of each type, beside Redis.
//!
//! Each case has servers of its own: what the process has in RAM after the data came, less what it
//! had before, divided by the entries.

use super::measure;
use super::process::resident_bytes;
use super::table::{Columns, Table, judged};
use super::{Common, Lab};
use crate::binary::ServerBinary;
use anyhow::{Context as _, Result, bail};
use moon_harness::Client;

/// Requests that are on their way at once while data is loaded.
const LOAD_DEPTH: u64 = 500;
/// Fields of a hash.
const FIELDS: u64 = 10;

const COLUMNS: Columns = &[
    " case",
    "entries",
    "redis-server bytes each",
    "moon-server bytes each",
    "moon / redis",
    " goal",
    "reached",
];

/// Options of `cargo xtask bench memory`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    common: Common,
    /// Entries of each case [default: 1000000, quick: 20000]
    #[arg(long)]
    entries: Option<u64>,
    /// Only cases whose name contains one of these
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
}

/// One kind of data.
struct Case {
    name: &'static str,
    /// The request that makes entry `n`.
    request: fn(u64) -> Vec<String>,
    /// Bytes on moon as a share of those on Redis, at most.
    goal: Option<f64>,
}

const CASES: &[Case] = &[
    Case {
        name: "strings, 16-byte keys, 8-byte values",
        request: |n| vec!["SET".to_owned(), name(n), name(n)[8..].to_owned()],
        goal: Some(0.60),
    },
    Case {
        name: "strings, 16-byte keys, 100-byte values",
        request: |n| {
            vec![
                "SET".to_owned(),
                name(n),
                name(n).repeat(7)[..100].to_owned(),
            ]
        },
        goal: Some(0.80),
    },
    Case {
        name: "hashes of 10 small fields",
        request: hash,
        goal: Some(0.80),
    },
    Case {
        name: "members of one set, 16 bytes",
        request: |n| words(&["SADD", "set"], [name(n)]),
        goal: Some(0.50),
    },
    Case {
        name: "members of one sorted set, 16 bytes",
        request: |n| {
            words(
                &["ZADD", "zset"],
                [(mixed(n) % 1_000_000).to_string(), name(n)],
            )
        },
        goal: Some(0.50),
    },
    Case {
        name: "elements of one list, 16 bytes",
        request: |n| words(&["RPUSH", "list"], [name(n)]),
        goal: None,
    },
    Case {
        name: "fields of one hash, 16 bytes, 8-byte values",
        request: |n| words(&["HSET", "hash"], [name(n), name(n)[8..].to_owned()]),
        goal: None,
    },
    Case {
        name: "entries of one stream, two small fields",
        request: |n| {
            let (a, b) = ((n % 1000).to_string(), (mixed(n) % 100).to_string());
            words(&["XADD", "stream", "*", "sensor", &a, "value", &b], [])
        },
        goal: None,
    },
];

fn words<const N: usize>(head: &[&str], tail: [String; N]) -> Vec<String> {
    head.iter()
        .map(|word| (*word).to_owned())
        .chain(tail)
        .collect()
}

fn hash(n: u64) -> Vec<String> {
    let mut request = vec!["HSET".to_owned(), name(n)];
    for field in 0..FIELDS {
        request.push(format!("field{field}"));
        request.push(format!("value{}", mixed(n + field) % 1000));
    }
    request
}

/// 16 characters that say nothing about their neighbours.
fn name(n: u64) -> String {
    format!("{:016x}", mixed(n))
}

/// A number that looks random, another one for each `n`.
fn mixed(n: u64) -> u64 {
    let mut x = n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Measures the selected cases and writes the table.
pub(super) fn run(options: &Options) -> Result<bool> {
    let lab = options.common.lab()?;
    let quick = options.common.quick;
    let entries = options.entries;
    let entries = entries.unwrap_or(if quick { 20_000 } else { 1_000_000 });
    let mut table = Table::new(&lab.describe(&format!(
        "{entries} entries; resident memory after loading less that before; the log off, one \
         shard"
    )));
    for case in CASES {
        let wanted = |part: &String| case.name.contains(part.as_str());
        if options.only.is_empty() || options.only.iter().any(wanted) {
            compare(&lab, case, entries, &mut table)?;
        }
    }
    options.common.write(&table, "bench-memory.md")?;
    Ok(true)
}

fn compare(lab: &Lab, case: &Case, entries: u64, table: &mut Table) -> Result<()> {
    let peer = bytes_each(lab, &lab.peer, case, entries)?;
    let moon = bytes_each(lab, &lab.moon, case, entries)?;
    let figure = |bytes: &Result<f64, String>| match bytes {
        Ok(bytes) => format!("{bytes:.1}"),
        Err(error) => error.clone(),
    };
    let ratio = match (&peer, &moon) {
        (Ok(peer), Ok(moon)) => Some(moon / peer),
        _ => None,
    };
    let shown = ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.2}"));
    let reached = match (ratio, case.goal) {
        (Some(ratio), Some(goal)) => judged(format!("{ratio:.2}"), ratio <= goal),
        _ => "-".to_owned(),
    };
    let goal = case
        .goal
        .map_or("-".to_owned(), |goal| format!("at most {goal:.2}"));
    let cells = [
        case.name.to_owned(),
        entries.to_string(),
        figure(&peer),
        figure(&moon),
        shown,
        goal,
        reached,
    ];
    table.row(COLUMNS, &cells);
    Ok(())
}

/// What an entry takes, or the error of a server that does not have the command.
fn bytes_each(
    lab: &Lab,
    binary: &ServerBinary,
    case: &Case,
    entries: u64,
) -> Result<Result<f64, String>> {
    let server = measure::start(binary, None, 1, None, lab.data.path())?;
    let mut client = server.client()?;
    // What the first connection and request take is no part of the data.
    client.run("PING")?;
    let before = resident_bytes(server.pid())?;
    match load(&mut client, case, entries) {
        Ok(None) => {}
        Ok(Some(error)) => return Ok(Err(error)),
        Err(error) => return Err(error.context(server.log_tail())),
    }
    // Its buffers go with it.
    drop(client);
    server.client()?.run("PING")?;
    let after = resident_bytes(server.pid())?;
    Ok(Ok(
        after.saturating_sub(before) as f64 / entries.max(1) as f64
    ))
}

/// Makes all entries; the first error reply, if it is that of the first request.
fn load(client: &mut Client, case: &Case, entries: u64) -> Result<Option<String>> {
    for begin in (0..entries).step_by(usize::try_from(LOAD_DEPTH)?) {
        let end = entries.min(begin + LOAD_DEPTH);
        for n in begin..end {
            client.queue(&(case.request)(n));
        }
        client.flush()?;
        for n in begin..end {
            let reply = client.read_reply().context("loading")?;
            match reply.error() {
                None => {}
                Some(error) if n == 0 => return Ok(Some(error)),
                Some(error) => bail!("entry {n} of {}: {error}", case.name),
            }
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_have_the_sizes_that_their_names_say() {
        let strings = |case: &Case| (case.request)(7);
        assert_eq!(
            strings(&CASES[0])[1..]
                .iter()
                .map(String::len)
                .collect::<Vec<_>>(),
            [16, 8]
        );
        assert_eq!(
            strings(&CASES[1])[1..]
                .iter()
                .map(String::len)
                .collect::<Vec<_>>(),
            [16, 100]
        );
        assert_eq!(hash(7).len() as u64, 2 + 2 * FIELDS);
        assert_ne!(name(1), name(2));
    }
}
