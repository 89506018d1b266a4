//! The workload `handoff`: producers push elements that nobody pushes twice, consumers wait for them
//! with BLPOP, BLMOVE and BZPOPMIN, and the server is killed.
//!
//! Wherever the server dies, every acknowledged element is in exactly one place: where it was pushed,
//! where a BLMOVE took it, or with one consumer that was answered. It may be with nobody only if a
//! consumer was waiting for the answer that would have carried it.

use super::cell::{Cell, CellOptions, CellReport, millis};
use super::kill::{Fired, Kill, arm, recover, schedule};
use crate::binary::ServerBinary;
use anyhow::{Context as _, Result};
use moon_harness::verify::{Fault, Violation};
use moon_harness::workload::Workload;
use moon_harness::{Client, Reply, Server, ServerConfig};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use std::collections::{BTreeMap, BTreeSet};
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
    /// Answers that are none.
    violations: Vec<Violation>,
}

/// Runs one cell. Stops at the first recovery that breaks a promise.
pub(super) fn run_cell(
    cell: Cell,
    binary: &ServerBinary,
    options: CellOptions,
) -> Result<CellReport> {
    let begun = Instant::now();
    let dir = tempfile::Builder::new().prefix("moon-crash-").tempdir()?;
    let config = ServerConfig::new(binary.flavor, &binary.path, dir.path().join("data"))
        .shards(cell.shards)
        .append(cell.policy);
    let seed = cell.seed(options.seed);
    let mut rng = StdRng::seed_from_u64(seed);
    let mut server = Server::start(config)?;
    super::cell::require(&mut server.client()?, cell.workload)?;
    let mut report = CellReport::default();
    let mut ledger = Ledger::default();
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
        let load = Load {
            address: server.address(),
            next: AtomicU64::new(ledger.last),
            acked: AtomicU64::new(0),
            stop: AtomicBool::new(false),
        };
        let (known, fired) = drive(&mut server, &load, kill, &mut rng)
            .with_context(|| format!("{cell}, {context}"))?;
        ledger.last = load.next.load(Ordering::Relaxed);
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
        report.acknowledged += load.acked.load(Ordering::Relaxed);
        let there = read_places(&mut server.client()?)?;
        let (kept, dropped) = ledger.settle(known, &there, &mut report, &context);
        report.unanswered_kept += kept;
        report.unanswered_dropped += dropped;
        if !report.is_clean() {
            let kept = dir.keep();
            let line = format!("the directory is kept: {}", kept.display());
            report.details.push(line);
            break;
        }
    }
    // The next start of this directory would die at what was armed last.
    arm(&mut server, Kill::Random, &mut rng);
    report.wall_ms = millis(begun.elapsed());
    Ok(report)
}

struct Load {
    address: SocketAddr,
    /// The last element that was numbered.
    next: AtomicU64,
    /// Pushes and pops that were answered.
    acked: AtomicU64,
    stop: AtomicBool,
}

/// Lets producers and consumers work until the server is dead.
fn drive(
    server: &mut Server,
    load: &Load,
    kill: Kill,
    rng: &mut StdRng,
) -> Result<(Vec<Known>, Fired)> {
    let seed: u64 = rng.random();
    std::thread::scope(|scope| {
        let mut threads = Vec::new();
        for number in 0..PRODUCERS + CONSUMERS {
            threads.push(scope.spawn(move || {
                let mut known = Known::default();
                let mut rng = StdRng::seed_from_u64(seed ^ number);
                // The end of the connection is how this ends.
                drop(match number < PRODUCERS {
                    true => produce(load, &mut rng, &mut known),
                    false => consume(load, &mut rng, &mut known),
                });
                known
            }));
        }
        let fired = end(server, load, kill, rng);
        load.stop.store(true, Ordering::Relaxed);
        if fired.is_err() {
            // Nobody answers any more, so nobody has to be waited for.
            drop(server.kill9());
        }
        let known = threads.into_iter().map(|thread| thread.join());
        let known: Vec<Known> = known
            .map(|known| known.expect("clients do not panic"))
            .collect();
        Ok((known, fired?))
    })
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
    let deadline = Instant::now() + Duration::from_secs(10);
    while load.acked.load(Ordering::Relaxed) < ACKED_MIN {
        anyhow::ensure!(Instant::now() < deadline, "no load\n{}", server.log_tail());
        std::thread::sleep(Duration::from_millis(1));
    }
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

fn consume(load: &Load, rng: &mut StdRng, known: &mut Known) -> std::io::Result<()> {
    let mut client = Client::connect(load.address)?;
    while !load.stop.load(Ordering::Relaxed) {
        let queue = pick(rng, &QUEUES);
        let kind = rng.random_range(0..4);
        let (words, may_take) = match kind {
            0 => (vec!["BLPOP", queue, WAIT_S], vec![queue]),
            1 => {
                let mut words = vec!["BLPOP"];
                words.extend(QUEUES);
                words.push(WAIT_S);
                (words, QUEUES.to_vec())
            }
            2 => {
                let to = pick(rng, &DONE);
                (
                    vec!["BLMOVE", queue, to, "LEFT", "RIGHT", WAIT_S],
                    Vec::new(),
                )
            }
            _ => (vec!["BZPOPMIN", RANKS[0], RANKS[1], WAIT_S], RANKS.to_vec()),
        };
        known.maybe_taken = may_take;
        let reply = client.command(&words)?;
        known.maybe_taken.clear();
        load.acked.fetch_add(1, Ordering::Relaxed);
        let number = |reply: &Reply| reply.text().and_then(|text| text.parse::<Element>().ok());
        match (&reply, reply.items()) {
            (Reply::Null | Reply::NullArray, _) => {}
            (_, Some([key, element, ..])) if kind != 2 && number(element).is_some() => {
                let from = key.text().unwrap_or_default();
                known.given.extend(number(element).map(|n| (from, n)));
            }
            (Reply::Bulk(_), _) if kind == 2 && number(&reply).is_some() => {
                known.moved.extend(number(&reply));
            }
            _ => {
                let text = format!("{} answered {reply:?}", words.join(" "));
                known.violations.push(Violation::new(Fault::Reply, text));
                return Ok(());
            }
        }
    }
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

/// What is known of all elements.
#[derive(Debug, Default)]
struct Ledger {
    last: Element,
    /// Elements that must be somewhere, and the key they were pushed to.
    alive: BTreeMap<Element, &'static str>,
    /// Elements that a consumer has, or that are gone with an answer that nobody got.
    gone: BTreeSet<Element>,
}

impl Ledger {
    /// Compares what is there with what the clients know, and goes on from it. Returns how many
    /// elements of unanswered pushes are there, and how many are not.
    fn settle(
        &mut self,
        known: Vec<Known>,
        there: &BTreeMap<&'static str, Vec<Element>>,
        report: &mut CellReport,
        context: &str,
    ) -> (usize, usize) {
        let mut violate = |fault, text: String| {
            report.violated(Violation::new(fault, text), context);
        };
        let mut maybe: BTreeMap<Element, &'static str> = BTreeMap::new();
        let mut may_take: Vec<Vec<&'static str>> = Vec::new();
        let mut moved = BTreeSet::new();
        for known in &known {
            self.alive
                .extend(known.pushed.iter().map(|(key, n)| (*n, *key)));
            maybe.extend(known.maybe_pushed.iter().map(|(key, n)| (*n, *key)));
            moved.extend(known.moved.iter().copied());
            if !known.maybe_taken.is_empty() {
                may_take.push(known.maybe_taken.clone());
            }
            for violation in &known.violations {
                violate(violation.fault, violation.detail.clone());
            }
        }
        let mut places: BTreeMap<Element, &'static str> = BTreeMap::new();
        for (key, elements) in there {
            for element in elements {
                if let Some(other) = places.insert(*element, key) {
                    violate(
                        Fault::Invented,
                        format!("{element} is in {other} and in {key}"),
                    );
                }
            }
        }
        let mut given: BTreeMap<Element, &str> = BTreeMap::new();
        for (key, n) in known.iter().flat_map(|known| &known.given) {
            let was_gone = !self.gone.insert(*n);
            if was_gone || given.insert(*n, key).is_some() {
                violate(Fault::Invented, format!("{n} was given to two consumers"));
            }
            if let Some(place) = places.get(n) {
                violate(
                    Fault::Invented,
                    format!("{n} was given away and is in {place}"),
                );
            }
            if self.alive.remove(n).or_else(|| maybe.remove(n)).is_none() && !was_gone {
                violate(
                    Fault::Invented,
                    format!("{n} was given to a consumer and never pushed"),
                );
            }
        }
        for n in &moved {
            match places.get(n) {
                Some(place) if DONE.contains(place) => {}
                place => violate(Fault::Lost, format!("{n} was moved and is in {place:?}")),
            }
        }
        for (n, place) in &places {
            if !self.alive.contains_key(n) && !maybe.contains_key(n) {
                violate(
                    Fault::Invented,
                    format!("{n} is in {place}, and nobody pushed it"),
                );
            }
        }
        let (kept, dropped): (Vec<_>, Vec<_>) =
            maybe.into_iter().partition(|(n, _)| places.contains_key(n));
        let missing: Vec<(Element, &'static str)> = self
            .alive
            .iter()
            .filter(|(n, _)| !places.contains_key(n))
            .map(|(n, key)| (*n, *key))
            .collect();
        // Each consumer without an answer may have taken one, from a key it waited for. What they
        // wait for is nested, so whoever has the least choice goes first.
        may_take.sort_by_key(Vec::len);
        for (n, key) in missing {
            self.alive.remove(&n);
            self.gone.insert(n);
            match may_take.iter().position(|keys| keys.contains(&key)) {
                Some(consumer) => drop(may_take.remove(consumer)),
                None => violate(Fault::Lost, format!("{n}, pushed to {key}, is nowhere")),
            }
        }
        let counts = (kept.len(), dropped.len());
        self.alive.extend(kept);
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(known: Known, there: &[(&'static str, Vec<Element>)]) -> Vec<String> {
        let mut report = CellReport::default();
        let there = there.iter().cloned().collect();
        Ledger::default().settle(vec![known], &there, &mut report, "");
        report.faults.into_keys().collect()
    }

    #[test]
    fn unanswered_consumers_are_matched_with_what_is_gone() {
        let waits = |keys: &[&'static str]| Known {
            maybe_taken: keys.to_vec(),
            ..Known::default()
        };
        let settle = |known: Vec<Known>| {
            let mut report = CellReport::default();
            let mut all = vec![Known {
                pushed: vec![(QUEUES[1], 1), (QUEUES[0], 2)],
                ..Known::default()
            }];
            all.extend(known);
            Ledger::default().settle(all, &BTreeMap::new(), &mut report, "");
            report.is_clean()
        };
        assert!(settle(vec![waits(&QUEUES), waits(&QUEUES[1..2])]));
        assert!(settle(vec![waits(&QUEUES[1..2]), waits(&QUEUES)]));
        assert!(!settle(vec![waits(&QUEUES[1..2]), waits(&QUEUES[1..2])]));
        assert!(!settle(vec![waits(&QUEUES)]));
    }

    fn pushed(elements: &[Element]) -> Known {
        Known {
            pushed: elements.iter().map(|n| (QUEUES[0], *n)).collect(),
            ..Known::default()
        }
    }

    #[test]
    fn an_element_in_one_place_is_right() {
        let known = Known {
            given: vec![(QUEUES[0].to_owned(), 1)],
            moved: vec![2],
            maybe_pushed: vec![(QUEUES[1], 4)],
            ..pushed(&[1, 2, 3])
        };
        let there = [(QUEUES[0], vec![3]), (DONE[0], vec![2])];
        assert_eq!(faults(known, &there), [""; 0]);
    }

    /// Scenarios 7 and 204.
    #[test]
    fn a_lost_and_a_doubled_element_are_found() {
        assert_eq!(faults(pushed(&[1]), &[]), ["Lost"]);
        let eaten = Known {
            maybe_taken: vec![QUEUES[0]],
            ..pushed(&[1])
        };
        assert_eq!(faults(eaten, &[]), [""; 0]);
        let one_answer = Known {
            maybe_taken: vec![QUEUES[0]],
            ..pushed(&[1, 2])
        };
        assert_eq!(faults(one_answer, &[]), ["Lost"]);
        let twice = Known {
            given: vec![(String::new(), 1), (String::new(), 1)],
            ..pushed(&[1])
        };
        assert_eq!(faults(twice, &[]), ["Invented"]);
        let back = Known {
            given: vec![(String::new(), 1)],
            ..pushed(&[1])
        };
        assert_eq!(faults(back, &[(QUEUES[0], vec![1])]), ["Invented"]);
        let moved = Known {
            moved: vec![1],
            ..pushed(&[1])
        };
        assert_eq!(faults(moved, &[(QUEUES[0], vec![1])]), ["Lost"]);
        assert_eq!(faults(pushed(&[]), &[(QUEUES[0], vec![9])]), ["Invented"]);
    }
}
