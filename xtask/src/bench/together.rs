//! What runs as one, what waits and what listens, beside Redis: `cargo xtask bench together`.
//!
//! Scripts, transactions, hand-offs from a push to a client that waits, messages to subscribers:
//! CPU per request of a server on one core. Then what takes two shards at once: throughput and
//! latency of MSET and MULTI over keys of both.
//!
//! Each connection is a thread that sends an exchange, reads all its replies and sends the next;
//! what it waits for is its latency.

use super::measure;
use super::process::{cpu_ns, pin_this_thread};
use super::table::{Columns, Table, judged};
use super::{Common, Lab, median};
use crate::binary::ServerBinary;
use anyhow::{Context as _, Result, bail};
use moon_harness::{Client, FsyncPolicy, Reply, Server};
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use std::io::Read as _;
use std::time::{Duration, Instant};

/// Connections that send.
const CLIENTS: u64 = 50;
/// Different keys.
const KEYS: u64 = 100_000;
/// Exchanges that a connection has ready, so that making them is not measured.
const PREPARED: usize = 256;
/// A limiter of calls, as applications have it.
const SCRIPT: &str = "local n = redis.call('INCR', KEYS[1]) \
                      if n == 1 then redis.call('EXPIRE', KEYS[1], ARGV[1]) end \
                      return n";
const PAYLOAD: &str = "a message of forty-eight bytes, as a chat has it";
const CHANNEL: &str = "channel";
/// Longest that a subscriber waits for a message.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(60);

const COLUMNS: Columns = &[
    " case",
    " server",
    "requests/s",
    "server CPU µs/request",
    "p50, ms",
    "p99, ms",
    "CPU / Redis's",
];

/// Options of `cargo xtask bench together`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Options {
    #[command(flatten)]
    common: Common,
    /// Rounds per case and server [default: 5, quick: 1]
    #[arg(long)]
    rounds: Option<usize>,
    /// Exchanges of a round [default: 100000, quick: 5000]
    #[arg(long)]
    exchanges: Option<u64>,
    /// Log what is written (everysec)
    #[arg(long)]
    append: bool,
    /// Only cases whose name contains this
    #[arg(long)]
    only: Option<String>,
    /// The core of servers with one shard
    #[arg(long, default_value = "0")]
    server_core: String,
    /// The core of their clients
    #[arg(long, default_value = "1")]
    client_core: String,
    /// The cores of servers in the cases of several shards
    #[arg(long, default_value = "0,1")]
    shard_cores: String,
    /// The cores of their clients
    #[arg(long, default_value = "0,1")]
    shard_client_cores: String,
    /// Shards in the cases of several shards
    #[arg(long, default_value_t = 2)]
    shards: u16,
}

/// What the connections do.
#[derive(Clone, Copy, Debug)]
enum Work {
    /// Each sends so many requests at once and reads their replies.
    Requests { make: MakeRequest, at_once: u64 },
    /// Pairs of connections: what one pushes, the other waits for, and pushes back.
    HandOff,
    /// PUBLISH, so many at once, to so many subscribers.
    Publish { at_once: u64, subscribers: usize },
}

/// The commands of one request.
type MakeRequest = fn(&mut SmallRng, sha: &str) -> Vec<Vec<String>>;

#[derive(Clone, Copy, Debug)]
struct Case {
    name: &'static str,
    work: Work,
    /// An exchange is so much dearer than others.
    dearer: u64,
    over_shards: bool,
}

const fn case(name: &'static str, work: Work, dearer: u64, over_shards: bool) -> Case {
    Case {
        name,
        work,
        dearer,
        over_shards,
    }
}

const fn requests(make: MakeRequest, at_once: u64) -> Work {
    Work::Requests { make, at_once }
}

const fn publish(at_once: u64, subscribers: usize) -> Work {
    Work::Publish {
        at_once,
        subscribers,
    }
}

const CASES: &[Case] = &[
    case("EVALSHA", requests(evalsha, 1), 1, false),
    case("EVALSHA, pipeline 16", requests(evalsha, 16), 8, false),
    case("MULTI of 5 SETs", requests(multi, 1), 1, false),
    case("MULTI of 5 SETs, pipeline 4", requests(multi, 4), 4, false),
    case("BLPOP hand-off", Work::HandOff, 1, false),
    case("PUBLISH to 1 subscriber", publish(1, 1), 1, false),
    case(
        "PUBLISH to 1 subscriber, pipeline 16",
        publish(16, 1),
        4,
        false,
    ),
    case("PUBLISH to 100 subscribers", publish(1, 100), 10, false),
    case("MSET of 10 keys", requests(mset, 1), 1, true),
    case("MULTI of 5 SETs", requests(multi, 1), 1, true),
];

fn key(rng: &mut SmallRng) -> String {
    measure::key(rng.random_range(0..KEYS))
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

fn evalsha(rng: &mut SmallRng, sha: &str) -> Vec<Vec<String>> {
    vec![words(&["EVALSHA", sha, "1", &key(rng), "60"])]
}

fn multi(rng: &mut SmallRng, _sha: &str) -> Vec<Vec<String>> {
    let sets = (0..5).map(|_| words(&["SET", &key(rng), "value-of-a-key"]));
    let mut commands = vec![words(&["MULTI"])];
    commands.extend(sets);
    commands.push(words(&["EXEC"]));
    commands
}

fn mset(rng: &mut SmallRng, _sha: &str) -> Vec<Vec<String>> {
    let pairs = (0..10).flat_map(|_| [key(rng), "value-of-a-key".to_owned()]);
    vec![std::iter::once("MSET".to_owned()).chain(pairs).collect()]
}

/// What was seen in one round.
#[derive(Clone, Copy, Debug)]
struct Seen {
    per_second: f64,
    cpu_us: f64,
    p50_ms: f64,
    p99_ms: f64,
}

/// Measures the selected cases and writes the table.
pub(super) fn run(options: &Options) -> Result<bool> {
    let quick = options.common.quick;
    let lab = options.common.lab()?;
    let rounds = options.rounds.unwrap_or(if quick { 1 } else { 5 });
    let exchanges = options.exchanges;
    let exchanges = exchanges.unwrap_or(if quick { 5_000 } else { 100_000 });
    let mut table = Table::new(&lab.describe(&format!(
        "{rounds} rounds alternating, median; {exchanges} exchanges a round, fewer of what is \
         dear; {CLIENTS} connections, {KEYS} keys; {}; one shard: servers on core {}, clients on \
         core {}; {} shards: servers on cores {}, clients on cores {}",
        if options.append {
            "appendfsync everysec"
        } else {
            "the log off"
        },
        options.server_core,
        options.client_core,
        options.shards,
        options.shard_cores,
        options.shard_client_cores,
    )));
    for case in CASES {
        if options.only.as_ref().is_none_or(|o| case.name.contains(o)) {
            compare(&lab, options, case, rounds, exchanges, &mut table)
                .with_context(|| case.name)?;
        }
    }
    options.common.write(&table, "bench-together.md")?;
    Ok(true)
}

/// Each case gets servers of its own, so that none pays for what another left.
fn compare(
    lab: &Lab,
    options: &Options,
    case: &Case,
    rounds: usize,
    exchanges: u64,
    table: &mut Table,
) -> Result<()> {
    let (server_cores, client_cores) = match case.over_shards {
        false => (&options.server_core, &options.client_core),
        true => (&options.shard_cores, &options.shard_client_cores),
    };
    let append = options.append.then_some(FsyncPolicy::Everysec);
    let start = |binary: &ServerBinary, shards| {
        let cores = Some(server_cores.clone());
        measure::start(binary, append, shards, cores, lab.data.path())
    };
    let mut servers = vec![
        ("redis-server".to_owned(), start(&lab.peer, 1)?),
        ("moon-server, 1 shard".to_owned(), start(&lab.moon, 1)?),
    ];
    if case.over_shards {
        let name = format!("moon-server, {} shards", options.shards);
        servers.push((name, start(&lab.moon, options.shards)?));
    }
    let exchanges = (exchanges / case.dearer / CLIENTS).max(1) * CLIENTS;
    let mut seen: Vec<Vec<Seen>> = vec![Vec::new(); servers.len()];
    for round in 0..rounds {
        for ((_, server), seen) in servers.iter().zip(&mut seen) {
            let one = round_of(server, case.work, exchanges, round as u64, client_cores)?;
            seen.push(one);
        }
    }
    let middle = |seen: &[Seen], figure: fn(&Seen) -> f64| median(seen.iter().map(figure));
    let redis_us = middle(&seen[0], |s| s.cpu_us);
    for (index, (name, _)) in servers.iter().enumerate() {
        let seen = &seen[index];
        let cpu_us = middle(seen, |s| s.cpu_us);
        let share = cpu_us / redis_us;
        let cells = [
            case.name.to_owned(),
            name.clone(),
            format!("{:.0}", middle(seen, |s| s.per_second)),
            format!("{cpu_us:.2}"),
            format!("{:.3}", middle(seen, |s| s.p50_ms)),
            format!("{:.3}", middle(seen, |s| s.p99_ms)),
            match index {
                0 => "1".to_owned(),
                1 if !case.over_shards => judged(format!("{share:.2}"), share <= 1.0),
                _ => format!("{share:.2}"),
            },
        ];
        table.row(COLUMNS, &cells);
    }
    Ok(())
}

fn round_of(server: &Server, work: Work, exchanges: u64, round: u64, cores: &str) -> Result<Seen> {
    // The connections' threads inherit it.
    pin_this_thread(cores)?;
    let sha = server.client()?.command(&["SCRIPT", "LOAD", SCRIPT])?;
    let sha = sha.text().context("SCRIPT LOAD answers with a digest")?;
    let subscribers = match work {
        Work::Publish { subscribers, .. } => (0..subscribers)
            .map(|_| subscribe(server))
            .collect::<Result<_>>()?,
        _ => Vec::new(),
    };
    let mine = exchanges / CLIENTS;
    let at_once = match work {
        Work::Requests { at_once, .. } | Work::Publish { at_once, .. } => at_once,
        Work::HandOff => 1,
    };
    let mut clients = (0..CLIENTS)
        .map(|_| server.client())
        .collect::<Result<Vec<_>>>()?;
    let cpu_before = cpu_ns(server.pid())?;
    let begun = Instant::now();
    let mut waits = std::thread::scope(|scope| -> Result<Vec<f64>> {
        let messages = exchanges * at_once;
        let listening: Vec<_> = subscribers
            .into_iter()
            .map(|client| scope.spawn(move || listen(&client, messages)))
            .collect();
        let sending: Vec<_> = clients
            .iter_mut()
            .enumerate()
            .map(|(number, client)| {
                let sha = &sha;
                scope.spawn(move || {
                    let mut rng = SmallRng::seed_from_u64(round << 32 | number as u64);
                    send(client, work, number, mine, &mut rng, sha)
                })
            })
            .collect();
        let mut waits = Vec::new();
        for thread in sending {
            waits.extend(thread.join().expect("a client does not panic")?);
        }
        for thread in listening {
            thread.join().expect("a subscriber does not panic")?;
        }
        Ok(waits)
    })?;
    let took = begun.elapsed().as_secs_f64();
    let cpu = cpu_ns(server.pid())? - cpu_before;
    waits.sort_by(f64::total_cmp);
    let at = |share: f64| waits[((waits.len() - 1) as f64 * share) as usize];
    let requests = (exchanges * at_once) as f64;
    Ok(Seen {
        per_second: requests / took,
        cpu_us: cpu as f64 / 1000.0 / requests,
        p50_ms: at(0.50),
        p99_ms: at(0.99),
    })
}

/// What one connection does in a round. Returns how long it waited each time, milliseconds.
fn send(
    client: &mut Client,
    work: Work,
    number: usize,
    exchanges: u64,
    rng: &mut SmallRng,
    sha: &str,
) -> Result<Vec<f64>> {
    let (make, at_once): (MakeRequest, u64) = match work {
        Work::Requests { make, at_once } => (make, at_once),
        Work::Publish { at_once, .. } => {
            let make: MakeRequest = |_, _| vec![words(&["PUBLISH", CHANNEL, PAYLOAD])];
            (make, at_once)
        }
        Work::HandOff => return hand_off(client, number, exchanges),
    };
    let prepared: Vec<(Vec<u8>, usize)> = (0..PREPARED)
        .map(|_| {
            let commands: Vec<_> = (0..at_once).flat_map(|_| make(rng, sha)).collect();
            let mut bytes = Vec::new();
            for command in &commands {
                moon_resp::write_request(&mut bytes, command);
            }
            (bytes, commands.len())
        })
        .collect();
    let mut waits = Vec::new();
    for exchange in 0..exchanges {
        let (bytes, replies) = &prepared[exchange as usize % PREPARED];
        let begun = Instant::now();
        client.write_raw(bytes)?;
        for _ in 0..*replies {
            expect_no_error(&client.read_reply()?)?;
        }
        waits.push(begun.elapsed().as_secs_f64() * 1000.0);
    }
    Ok(waits)
}

/// One of a pair. Half of the hand-offs go either way.
fn hand_off(client: &mut Client, number: usize, exchanges: u64) -> Result<Vec<f64>> {
    let (mine, other) = (format!("list:{number}"), format!("list:{}", number ^ 1));
    let begins = number.is_multiple_of(2);
    let mut waits = Vec::new();
    for exchange in 0..exchanges {
        let begun = Instant::now();
        let mut replies = 1;
        if begins || exchange > 0 {
            client.queue(&["LPUSH", &other, "element"]);
            replies += 1;
        }
        client.queue(&["BLPOP", &mine, "0"]);
        client.flush()?;
        for _ in 0..replies {
            expect_no_error(&client.read_reply()?)?;
        }
        waits.push(begun.elapsed().as_secs_f64() * 1000.0);
    }
    if !begins {
        expect_no_error(&client.command(&["LPUSH", &other, "element"])?)?;
    }
    Ok(waits)
}

fn expect_no_error(reply: &Reply) -> Result<()> {
    match reply.error() {
        Some(error) => bail!("the server answered {error}"),
        None => Ok(()),
    }
}

fn subscribe(server: &Server) -> Result<Client> {
    let mut client = server.client()?;
    expect_no_error(&client.command(&["SUBSCRIBE", CHANNEL])?)?;
    client.set_read_timeout(MESSAGE_TIMEOUT)?;
    Ok(client)
}

/// Reads so many messages, without looking at them.
fn listen(client: &Client, messages: u64) -> Result<()> {
    let mut message = Vec::new();
    moon_resp::write_request(&mut message, &["message", CHANNEL, PAYLOAD]);
    let mut left = usize::try_from(messages)? * message.len();
    let mut stream = client.stream();
    let mut chunk = vec![0; 64 << 10];
    while left > 0 {
        let wanted = chunk.len().min(left);
        match stream.read(&mut chunk[..wanted])? {
            0 => bail!("the server has cut a subscriber off"),
            read => left -= read,
        }
    }
    Ok(())
}
