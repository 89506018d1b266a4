//! The workload `handoff`: producers push elements that nobody pushes twice, consumers wait for them
//! with BLPOP, BLMPOP, BLMOVE, BZPOPMIN, BZMPOP and XREADGROUP, and the server is killed.
//!
//! Wherever the server dies, every acknowledged element is in exactly one place: where it was pushed,
//! where a BLMOVE took it, or with one consumer that was answered. It may be with nobody only if a
//! consumer was waiting for the answer that would have carried it. What holds for streams is said
//! in [`streams`].

mod ledger;
mod streams;

use super::cell::{Break, Cell, CellOptions, CellReport, millis};
use super::kill::{Fired, Kill, arm, recover, schedule};
use super::progress::Progress;
use crate::binary::ServerBinary;
use anyhow::{Context as _, Result};
use moon_harness::rewriter::Rewriter;
use moon_harness::verify::{Fault, Violation};
use moon_harness::workload::Workload;
use moon_harness::{Client, Reply, Server, ServerConfig};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Where elements are pushed: names that lie on all shards.
const QUEUES: [&str; 4] = ["q:a", "q:b", "q:c", "q:d"];
/// Where BLMOVE takes them.
const DONE: [&str; 2] = ["done:a", "done:b"];
/// Sorted sets of elements.
const RANKS: [&str; 2] = ["z:a", "z:b"];
const PRODUCERS: u64 = 3;
const CONSUMERS: u64 = 6;
const STREAM_PRODUCERS: u64 = 2;
const STREAM_CONSUMERS: u64 = 3;
/// How long a consumer waits, seconds.
const WAIT_S: &str = "0.3";
/// Elements acknowledged before a kill from outside.
const ACKED_MIN: u64 = 60;
/// How long a load waits for its fail point.
const FAIL_POINT_TIMEOUT: Duration = Duration::from_millis(1500);

/// An element, as producers number them.
type Element = u64;

/// What one producer or consumer knows when its connection is gone.
#[derive(Debug, Default)]
struct Known {
    /// Elements whose push was answered, with the key.
    pushed: Vec<(&'static str, Element)>,
    /// Elements whose push was sent and not answered.
    maybe_pushed: Vec<(&'static str, Element)>,
    /// Elements that a consumer was given, in order, with the key they came from.
    given: Vec<(String, Element)>,
    /// Elements that an answered BLMOVE took.
    moved: Vec<Element>,
    /// The keys of a pop that was not answered.
    maybe_taken: Vec<&'static str>,
    /// How many elements it may have taken.
    maybe_taken_max: usize,
    /// Answers that are none.
    violations: Vec<Violation>,
    /// The same of streams.
    streams: streams::Seen,
}

/// Runs one cell. Stops at the first recovery that breaks a promise.
pub(super) fn run_cell(
    cell: Cell,
    binary: &ServerBinary,
    options: CellOptions,
    progress: &Progress,
) -> Result<CellReport> {
    let begun = Instant::now();
    let dir = tempfile::Builder::new().prefix("moon-crash-").tempdir()?;
    let config = ServerConfig::new(binary.flavor, &binary.path, dir.path().join("data"))
        .shards(cell.shards)
        .append(cell.policy);
    let seed = cell.seed(options.seed);
    let mut rng = StdRng::seed_from_u64(seed);
    let mut server = Server::start(config)?;
    let mut handoff = Handoff::begin(&server)?;
    let mut report = CellReport::default();
    let offset = (seed % 20) as usize;
    let kills = schedule(
        Workload::Handoff,
        options.kills,
        options.fail_points,
        offset,
    );
    for (cycle, kill) in kills.iter().copied().enumerate() {
        let kill = match (cycle, kill) {
            (0, Kill::At(_)) => Kill::Random,
            (_, kill) => kill,
        };
        let next = kills.get(cycle + 1).copied().unwrap_or(Kill::Random);
        let context = format!("cycle {cycle} ({kill})");
        let is_rewritten = rng.random_bool(0.5);
        let rewriter = is_rewritten.then(|| Rewriter::start(server.address(), rng.random()));
        let (worked, fired) = handoff
            .work(&mut server, rng.random(), |server, load| {
                end(server, load, kill, &mut rng)
            })
            .with_context(|| format!("{cell}, {context}"))?;
        report.rewrites += rewriter.map_or(0, |rewriter| rewriter.finish().begun);
        let recovery = Instant::now();
        let recovered = recover(&mut server, kill, next, &mut rng)?;
        report.recovery_ms_max = report.recovery_ms_max.max(millis(recovery.elapsed()));
        match kill {
            Kill::Graceful => report.graceful_stops += 1,
            _ => report.kills += 1,
        }
        let reached = fired == Fired::Yes && recovered == Fired::Yes;
        let by_kind = match reached {
            true => &mut report.kills_by_kind,
            false => &mut report.not_reached,
        };
        *by_kind.entry(kill.to_string()).or_default() += 1;
        report.acknowledged += worked.acknowledged;
        let mut client = server.client()?;
        if let Some(damage) = options.damage {
            apply_damage(damage, &mut client)?;
        }
        let settled = handoff.settle(worked, &mut client)?;
        report.unanswered_kept += settled.kept;
        report.unanswered_dropped += settled.dropped;
        for violation in settled.violations {
            report.violated(violation, &context);
        }
        progress.cycle(cell, kill != Kill::Graceful);
        if !report.is_clean() {
            if options.damage.is_none() {
                // What is on disk is the evidence.
                let kept = dir.keep();
                let line = format!("the directory is kept: {}", kept.display());
                report.details.push(line);
            }
            break;
        }
    }
    // The next start of this directory would die at what was armed last.
    arm(&mut server, Kill::Random, &mut rng);
    report.wall_ms = millis(begun.elapsed());
    Ok(report)
}

/// What is known of everything that was handed on, over all kills.
#[derive(Debug, Default)]
pub(super) struct Handoff {
    elements: ledger::Ledger,
    entries: streams::Ledger,
}

/// What the clients know whose server has ended.
pub(super) struct Worked {
    known: Vec<Known>,
    /// Pushes and pops that were answered.
    pub(super) acknowledged: u64,
}

/// What was found after a recovery.
#[derive(Debug, Default)]
pub(super) struct Settled {
    /// Pushes that were not answered and are there.
    pub(super) kept: usize,
    /// Pushes that were not answered and are not there.
    pub(super) dropped: usize,
    /// Where a promise was broken.
    pub(super) violations: Vec<Violation>,
}

impl Handoff {
    /// Prepares a fresh server.
    pub(super) fn begin(server: &Server) -> Result<Handoff> {
        let mut client = server.client()?;
        super::cell::require(&mut client, Workload::Handoff)?;
        streams::create(&mut client)?;
        Ok(Handoff::default())
    }

    /// Lets producers and consumers work until `end` has ended the server, in which way it likes.
    pub(super) fn work<T>(
        &mut self,
        server: &mut Server,
        seed: u64,
        end: impl FnOnce(&mut Server, &Load) -> Result<T>,
    ) -> Result<(Worked, T)> {
        let load = Load {
            address: server.address(),
            next: AtomicU64::new(self.elements.last),
            acked: AtomicU64::new(0),
            stop: AtomicBool::new(false),
        };
        let (known, ended) = std::thread::scope(|scope| {
            let mut threads = Vec::new();
            for number in 0..PRODUCERS + CONSUMERS + STREAM_PRODUCERS + STREAM_CONSUMERS {
                let load = &load;
                threads.push(scope.spawn(move || {
                    let mut known = Known::default();
                    let mut rng = StdRng::seed_from_u64(seed ^ number);
                    // The end of the connection is how this ends.
                    drop(work(load, number, &mut rng, &mut known));
                    let violations = &mut known.streams.violations;
                    known.violations.append(violations);
                    known
                }));
            }
            let ended = end(server, &load);
            load.stop.store(true, Ordering::Relaxed);
            if ended.is_err() {
                // Nobody answers any more, so nobody has to be waited for.
                drop(server.kill9());
            }
            let known = threads.into_iter().map(|thread| thread.join());
            let known: Vec<Known> = known
                .map(|known| known.expect("clients do not panic"))
                .collect();
            (known, ended)
        });
        self.elements.last = load.next.into_inner();
        let acknowledged = load.acked.into_inner();
        Ok((
            Worked {
                known,
                acknowledged,
            },
            ended?,
        ))
    }

    /// Compares what the recovered server holds with what its clients know, and goes on from it.
    pub(super) fn settle(&mut self, worked: Worked, client: &mut Client) -> Result<Settled> {
        let mut settled = Settled::default();
        let entries = streams::read(client)?;
        let seen: Vec<_> = worked.known.iter().map(|known| &known.streams).collect();
        self.entries.settle(&seen, &entries, &mut settled);
        let there = read_places(client)?;
        self.elements.settle(&worked.known, &there, &mut settled);
        Ok(settled)
    }
}

/// What the clients of one load share.
pub(super) struct Load {
    address: SocketAddr,
    /// The last element that was numbered.
    next: AtomicU64,
    /// Pushes and pops that were answered.
    acked: AtomicU64,
    stop: AtomicBool,
}

impl Load {
    /// Waits until enough was answered for a kill to be of interest.
    pub(super) fn wait_acked(&self, server: &Server) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(10);
        while self.acked.load(Ordering::Relaxed) < ACKED_MIN {
            anyhow::ensure!(Instant::now() < deadline, "no load\n{}", server.log_tail());
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }
}

/// What client `number` does until its connection ends.
fn work(load: &Load, number: u64, rng: &mut StdRng, known: &mut Known) -> std::io::Result<()> {
    const FIRST_CONSUMER: u64 = PRODUCERS;
    const FIRST_OF_STREAMS: u64 = FIRST_CONSUMER + CONSUMERS;
    const FIRST_STREAM_CONSUMER: u64 = FIRST_OF_STREAMS + STREAM_PRODUCERS;
    match number {
        0..FIRST_CONSUMER => produce(load, rng, known),
        FIRST_CONSUMER..FIRST_OF_STREAMS => consume(load, rng, known),
        FIRST_OF_STREAMS..FIRST_STREAM_CONSUMER => streams::produce(load, rng, &mut known.streams),
        _ => streams::consume(load, number, rng, &mut known.streams),
    }
}

fn end(server: &mut Server, load: &Load, kill: Kill, rng: &mut StdRng) -> Result<Fired> {
    if let Kill::At(_) | Kill::Twice(..) = kill {
        return match server.wait_exit(FAIL_POINT_TIMEOUT) {
            Ok(status) => {
                super::kill::expect_sigkill(status, &server.log_tail()).map(|()| Fired::Yes)
            }
            Err(_) => server.kill9().map(|()| Fired::No),
        };
    }
    load.wait_acked(server)?;
    std::thread::sleep(Duration::from_micros(rng.random_range(0..150_000)));
    if kill == Kill::Graceful {
        let status = server.sigterm()?;
        anyhow::ensure!(
            status.code() == Some(0),
            "SIGTERM ended the server with {status}\n{}",
            server.log_tail()
        );
        return Ok(Fired::Yes);
    }
    server.kill9().map(|()| Fired::Yes)
}

fn pick<'a>(rng: &mut StdRng, names: &[&'a str]) -> &'a str {
    names[rng.random_range(0..names.len())]
}

fn produce(load: &Load, rng: &mut StdRng, known: &mut Known) -> std::io::Result<()> {
    let mut client = Client::connect(load.address)?;
    while !load.stop.load(Ordering::Relaxed) {
        let number = || load.next.fetch_add(1, Ordering::Relaxed) + 1;
        let (a, b) = (number(), number());
        let (first, second) = (pick(rng, &QUEUES), pick(rng, &QUEUES));
        let rank = pick(rng, &RANKS);
        let (text_a, text_b) = (a.to_string(), b.to_string());
        let (elements, replies) = match rng.random_range(0..4) {
            0 => {
                client.queue(&["MULTI"]);
                client.queue(&["RPUSH", first, &text_a]);
                client.queue(&["RPUSH", second, &text_b]);
                client.queue(&["EXEC"]);
                (vec![(first, a), (second, b)], 4)
            }
            1 => {
                client.queue(&["ZADD", rank, &text_a, &text_a]);
                (vec![(rank, a)], 1)
            }
            2 => {
                client.queue(&["RPUSH", first, &text_a, &text_b]);
                (vec![(first, a), (first, b)], 1)
            }
            _ => {
                client.queue(&["RPUSH", first, &text_a]);
                (vec![(first, a)], 1)
            }
        };
        known.maybe_pushed = elements;
        client.flush()?;
        for _ in 0..replies {
            let reply = client.read_reply()?;
            if let Some(error) = reply.error() {
                let violation = Violation::new(Fault::Reply, format!("a push answered {error}"));
                known.violations.push(violation);
                return Ok(());
            }
        }
        known.pushed.append(&mut known.maybe_pushed);
        load.acked.fetch_add(1, Ordering::Relaxed);
        // Consumers are faster at times, so that they have to wait.
        if rng.random_range(0..4) == 0 {
            std::thread::sleep(Duration::from_micros(rng.random_range(0..3000)));
        }
    }
    Ok(())
}

/// A way to wait for elements.
struct Pop {
    words: Vec<&'static str>,
    /// The keys it may take from. One set of them always holds another or has nothing in common
    /// with it, see [`ledger::Ledger::settle`].
    keys: Vec<&'static str>,
    /// The most elements it takes.
    count: usize,
}

/// Any of them but BLMOVE.
fn any_pop(rng: &mut StdRng) -> Pop {
    let queue = pick(rng, &QUEUES);
    let pop = |words: Vec<&'static str>, keys: &[&'static str], count| Pop {
        words,
        keys: keys.to_vec(),
        count,
    };
    let [a, b, c, d] = QUEUES;
    match rng.random_range(0..6) {
        0 => pop(vec!["BLPOP", queue, WAIT_S], &[queue], 1),
        1 => pop(vec!["BRPOP", a, b, c, d, WAIT_S], &QUEUES, 1),
        2 => {
            let words = vec!["BLMPOP", WAIT_S, "4", a, b, c, d, "LEFT", "COUNT", "3"];
            pop(words, &QUEUES, 3)
        }
        3 => {
            let words = vec!["BLMPOP", WAIT_S, "1", queue, "RIGHT", "COUNT", "2"];
            pop(words, &[queue], 2)
        }
        4 => pop(vec!["BZPOPMIN", RANKS[0], RANKS[1], WAIT_S], &RANKS, 1),
        _ => {
            let mut words = vec!["BZMPOP", WAIT_S, "2", RANKS[0], RANKS[1]];
            words.extend(["MAX", "COUNT", "2"]);
            pop(words, &RANKS, 2)
        }
    }
}

/// What a pop answered, none of it if it waited in vain: the key, and the elements from it.
fn taken_of(reply: &Reply) -> Option<Vec<(String, Element)>> {
    if let Reply::Null | Reply::NullArray = reply {
        return Some(Vec::new());
    }
    let number = |reply: &Reply| reply.text().and_then(|text| text.parse::<Element>().ok());
    let [key, rest @ ..] = reply.items()? else {
        return None;
    };
    let key = key.text()?;
    let elements: Option<Vec<Element>> = match rest {
        // BLMPOP: elements; BZMPOP: pairs of an element and its score.
        [Reply::Array(items)] => items
            .iter()
            .map(|item| number(item.items().and_then(<[_]>::first).unwrap_or(item)))
            .collect(),
        [element] | [element, _] => number(element).map(|n| vec![n]),
        _ => None,
    };
    let elements = elements?.into_iter();
    Some(elements.map(|element| (key.clone(), element)).collect())
}

fn consume(load: &Load, rng: &mut StdRng, known: &mut Known) -> std::io::Result<()> {
    let mut client = Client::connect(load.address)?;
    while !load.stop.load(Ordering::Relaxed) {
        let is_move = rng.random_range(0..5) == 0;
        let pop = match is_move {
            true => Pop {
                words: vec![
                    "BLMOVE",
                    pick(rng, &QUEUES),
                    pick(rng, &DONE),
                    "LEFT",
                    "RIGHT",
                    WAIT_S,
                ],
                keys: Vec::new(),
                count: 0,
            },
            false => any_pop(rng),
        };
        known.maybe_taken = pop.keys;
        known.maybe_taken_max = pop.count;
        let reply = client.command(&pop.words)?;
        known.maybe_taken.clear();
        load.acked.fetch_add(1, Ordering::Relaxed);
        let moved = reply.text().and_then(|text| text.parse::<Element>().ok());
        match (taken_of(&reply), moved) {
            (None, Some(element)) if is_move => known.moved.push(element),
            (Some(taken), _) if taken.is_empty() || !is_move => known.given.extend(taken),
            _ => {
                let text = format!("{} answered {reply:?}", pop.words.join(" "));
                known.violations.push(Violation::new(Fault::Reply, text));
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Damages what was recovered, which must be noticed.
fn apply_damage(damage: Break, client: &mut Client) -> Result<()> {
    let line = match damage {
        Break::Drop => "XTRIM x:a MAXLEN 0",
        Break::Invent => "RPUSH done:a 18446744073709551615",
        // What was delivered would be delivered again.
        Break::Double => "XGROUP SETID x:a workers 0",
        Break::Hole => "XTRIM x:b MAXLEN 1",
    };
    println!("damage {damage:?}: {:?}", client.run(line)?);
    Ok(())
}

/// What every key holds, in its order.
fn read_places(client: &mut Client) -> Result<BTreeMap<&'static str, Vec<Element>>> {
    let mut places = BTreeMap::new();
    for key in QUEUES.into_iter().chain(DONE).chain(RANKS) {
        let command = if RANKS.contains(&key) {
            "ZRANGE"
        } else {
            "LRANGE"
        };
        let reply = client.command(&[command, key, "0", "-1"])?;
        let items = reply.items().unwrap_or_default().iter();
        let elements = items.map(|item| item.text()?.parse().ok());
        let elements: Option<Vec<Element>> = elements.collect();
        let elements = elements.with_context(|| format!("{key}: {reply:?}"))?;
        places.insert(key, elements);
    }
    Ok(places)
}
