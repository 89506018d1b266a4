//! CPU per request of one command of each type, beside Redis.
//!
//! As in the throughput measurement the servers share one core and take turns, and what counts is
//! what the server's threads spent. A command that a server does not have is reported as such.

use super::measure::{self, Cores, Load, Pair, Sample, run_load};
use super::plan::{Case, Goal};
use super::table::Table;
use super::{Common, Lab};
use anyhow::{Result, bail};
use moon_harness::{Client, Server};

/// Requests that one connection sends at once.
const PIPELINE: u32 = 16;
/// Connections.
const CLIENTS: u32 = 50;
/// Elements of the list that LRANGE reads from.
const RANGE_ELEMENTS: usize = 100;

const COLUMNS: super::table::Columns = &[" case", " not measured"];

/// Options of `cargo xtask bench types`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    common: Common,
    /// Rounds per command and server [default: 5, quick: 1]
    #[arg(long)]
    rounds: Option<usize>,
    /// Requests of a round [default: 800000, quick: 20000]
    #[arg(long)]
    requests: Option<u64>,
    /// How many different keys, members, fields or scores are drawn [default: 1000000, quick: 20000]
    #[arg(long)]
    elements: Option<u64>,
    /// Only these commands, in lower case
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// The core of the servers
    #[arg(long, default_value = "0")]
    server_core: String,
    /// The core of redis-benchmark
    #[arg(long, default_value = "1")]
    client_core: String,
}

/// One command.
struct Measured {
    name: &'static str,
    /// Its words; `__rand_int__` stands for a number that is drawn for each request.
    words: &'static [&'static str],
    /// What is sent first, and how often, so that there is data. A round of its own each.
    before: Option<&'static [&'static str]>,
    /// How many times less CPU than Redis.
    goal: f64,
    /// Requests are so much dearer than others.
    dearer: u64,
}

const LPUSH: &[&str] = &["LPUSH", "mylist", "element-of-list-"];

const MEASURED: &[Measured] = &[
    Measured {
        name: "INCR",
        words: &["INCR", "counter:__rand_int__"],
        before: None,
        goal: 1.4,
        dearer: 1,
    },
    Measured {
        name: "LPUSH",
        words: LPUSH,
        before: None,
        goal: 1.4,
        dearer: 1,
    },
    Measured {
        name: "LPOP",
        words: &["LPOP", "mylist"],
        before: Some(LPUSH),
        goal: 1.4,
        dearer: 1,
    },
    Measured {
        name: "SADD",
        words: &["SADD", "myset", "element:__rand_int__"],
        before: None,
        goal: 1.4,
        dearer: 1,
    },
    Measured {
        name: "HSET",
        words: &["HSET", "myhash", "element:__rand_int__", "value-of-a-field"],
        before: None,
        goal: 1.4,
        dearer: 1,
    },
    Measured {
        name: "ZADD",
        words: &["ZADD", "myzset", "__rand_int__", "element:__rand_int__"],
        before: None,
        goal: 2.0,
        dearer: 1,
    },
    Measured {
        name: "XADD",
        words: &["XADD", "mystream", "*", "myfield", "value-of-a-field"],
        before: None,
        goal: 1.4,
        dearer: 1,
    },
    Measured {
        name: "LRANGE 100",
        words: &["LRANGE", "short", "0", "99"],
        before: None,
        goal: 1.4,
        dearer: 8,
    },
];

impl Measured {
    fn is_wanted(&self, only: &[String]) -> bool {
        let name = self.words[0];
        only.is_empty() || only.iter().any(|wanted| wanted.eq_ignore_ascii_case(name))
    }
}

/// Measures the selected commands and writes the table.
pub(super) fn run(options: &Options) -> Result<bool> {
    let quick = options.common.quick;
    let lab = options.common.lab()?;
    let rounds = options.rounds.unwrap_or(if quick { 1 } else { 5 });
    let requests = options.requests;
    let requests = requests.unwrap_or(if quick { 20_000 } else { 800_000 });
    let elements = options.elements;
    let elements = elements.unwrap_or(if quick { 20_000 } else { 1_000_000 });
    let cores = Cores {
        server: options.server_core.clone(),
        client: options.client_core.clone(),
    };
    let mut table = Table::new(&lab.describe(&format!(
        "{rounds} rounds alternating, median; {requests} requests a round, LRANGE an eighth; \
         {elements} different elements; the log off; server on core {}, client on core {}",
        cores.server, cores.client,
    )));
    for measured in MEASURED {
        if measured.is_wanted(&options.only) {
            let load = Load {
                words: measured.words,
                pipeline: PIPELINE,
                clients: CLIENTS,
                requests: (requests / measured.dearer).max(u64::from(PIPELINE)),
                keys: elements,
            };
            compare(&lab, &cores, measured, &load, rounds, &mut table)?;
        }
    }
    options.common.write(&table, "bench-types.md")?;
    Ok(true)
}

/// Each command gets servers of its own, so that none pays for what another left.
fn compare(
    lab: &Lab,
    cores: &Cores,
    measured: &Measured,
    load: &Load<'_>,
    rounds: usize,
    table: &mut Table,
) -> Result<()> {
    let start = |binary| {
        let cores = Some(cores.server.clone());
        measure::start(binary, None, 1, cores, lab.data.path())
    };
    let pair = Pair {
        first: start(&lab.peer)?,
        second: start(&lab.moon)?,
    };
    for (name, server) in [("redis-server", &pair.first), ("moon-server", &pair.second)] {
        if let Some(error) = prepare(server, measured)? {
            table.row(
                COLUMNS,
                &[measured.name.to_owned(), format!("{name}: {error}")],
            );
            return Ok(());
        }
    }
    let (mut first, mut second) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        for (server, samples) in [(&pair.first, &mut first), (&pair.second, &mut second)] {
            if let Some(words) = measured.before {
                run_load(server, &Load { words, ..*load }, cores)?;
            }
            samples.push(run_load(server, load, cores)?);
        }
    }
    let case = Case {
        name: format!("{}, pipeline {PIPELINE}, {CLIENTS} clients", measured.name),
        command: "",
        pipeline: PIPELINE,
        clients: CLIENTS,
        requests: load.requests,
        goal: Goal::CpuTimesLess(measured.goal),
    };
    let (peer, moon) = (Sample::median(&first), Sample::median(&second));
    table.comparison(&case, "redis-server", &peer, "moon-server", &moon);
    Ok(())
}

/// Sends the command once, on a key of its own, and makes the list that LRANGE reads; the error if
/// the server refuses it.
fn prepare(server: &Server, measured: &Measured) -> Result<Option<String>> {
    let mut client = server.client()?;
    let mut words: Vec<String> = measured
        .words
        .iter()
        .map(|word| word.replace("__rand_int__", "1"))
        .collect();
    words[1] = "probe".to_owned();
    let reply = client.command(&words)?;
    client.command(&["DEL", "probe"])?;
    fill_list(&mut client)?;
    Ok(reply.error())
}

fn fill_list(client: &mut Client) -> Result<()> {
    let mut push = vec!["RPUSH", "short"];
    push.extend([LPUSH[2]; RANGE_ELEMENTS]);
    let reply = client.command(&push)?;
    match reply.int() {
        Some(_) => Ok(()),
        None => bail!("RPUSH was answered with {reply:?}"),
    }
}
