//! Steps in which clients wait for each other or listen: their requests are sent one by one, and
//! after each the servers come to rest before the next.
//!
//! The oracle decides what rest means. It serves those who wait before it answers the one who feeds
//! them, so behind that answer CLIENT LIST says who still waits, and everybody else has an answer. A
//! tested server must then answer the same connections, and let the same ones wait; it may take a
//! moment for that. No step leaves anybody waiting: whoever still does at its end is let go by
//! CLIENT UNBLOCK, which both servers must answer in the same way.
//!
//! What a listener receives is read up to the answers to two PINGs with a word of their own. From a tested
//! server as much is read before these PINGs as the oracle has sent: news may come from other shards,
//! behind which a PING does not queue.

use crate::differences::{has_comparable_changes, has_comparable_copies, has_comparable_misses};
use crate::request::{Connection, Kind, Request};
use crate::round::{Difference, Gone, Round};
use crate::told::{self, Rules};
use moon_harness::Client;
use moon_resp::Value;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::time::{Duration, Instant};

/// How long a tested server may take for what the oracle has done.
const REST_TIMEOUT: Duration = Duration::from_secs(2);
/// How long the oracle may take.
const ORACLE_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause between two looks at who waits, which nothing announces.
const POLL_INTERVAL: Duration = Duration::from_micros(100);
/// Answers that one connection may still owe when a step ends.
const OWED_MAX: usize = 20;

/// Those who wait and those who listen in one step.
#[derive(Debug, Default)]
struct Present {
    /// Positions of requests without an answer, by the connection they were sent on.
    waiting: BTreeMap<Connection, VecDeque<usize>>,
    listening: BTreeSet<Connection>,
}

type Found = Result<Option<Difference>, Gone>;

/// Leaves with a difference if there is one.
macro_rules! differs {
    ($found:expr) => {
        if let Some(found) = $found {
            return Ok(Some(found));
        }
    };
}

impl Round<'_> {
    /// Runs step `at`.
    pub(crate) fn conversation(&mut self, at: usize, protocol: u8) -> Found {
        let mut present = Present::default();
        let steps = self.steps;
        let requests = &steps[at].requests;
        for (position, request) in requests.iter().enumerate() {
            self.outcome.requests += 1;
            let queues_behind = present
                .waiting
                .get(&request.connection)
                .is_some_and(|waiting| !waiting.is_empty());
            match request.kind {
                Kind::Hear => {
                    differs!(self.hear(at, request, &mut present)?);
                }
                Kind::Plain if !queues_behind => differs!(self.answered(at, position, request)?),
                _ => {
                    self.send(at, request)?;
                    let waiting = present.waiting.entry(request.connection).or_default();
                    waiting.push_back(position);
                }
            }
            differs!(self.rest(at, &mut present)?);
        }
        differs!(self.let_go(at, &mut present)?);
        differs!(self.read_listeners(at, &present)?);
        let guests: BTreeSet<_> = requests
            .iter()
            .map(|request| request.connection)
            .filter(|connection| *connection != Connection::Main)
            .collect();
        // The oracle remembers what a connection has read while it tracked that.
        let tracked = requests
            .iter()
            .any(|request| request.name() == b"CLIENT" && request.word(1) == b"TRACKING");
        for (index, node) in self.rig.nodes.iter_mut().enumerate() {
            if tracked {
                for guest in &guests {
                    node.renew(*guest).map_err(gone(index, at))?;
                }
            }
            node.reset_connections(guests.iter().copied(), protocol)
                .map_err(gone(index, at))?;
        }
        for sessions in &mut self.sessions {
            for guest in &guests {
                sessions[*guest as usize].reset();
            }
        }
        self.read_changes(at, at)
    }

    fn send(&mut self, at: usize, request: &Request) -> Result<(), Gone> {
        for (index, node) in self.rig.nodes.iter_mut().enumerate() {
            node.queue(request);
            let flushed = node.client(request.connection).flush();
            flushed.map_err(gone(index, at))?;
        }
        Ok(())
    }

    fn answered(&mut self, at: usize, position: usize, request: &Request) -> Found {
        self.send(at, request)?;
        let mut replies = Vec::new();
        for (index, node) in self.rig.nodes.iter_mut().enumerate() {
            let reply = node.client(request.connection).read_value();
            replies.push(reply.map_err(gone(index, at))?);
        }
        Ok(self.check(at, position, replies))
    }

    /// Waits until everybody has an answer or waits for one, on all servers.
    fn rest(&mut self, at: usize, present: &mut Present) -> Found {
        present.waiting.retain(|_, positions| !positions.is_empty());
        if present.waiting.is_empty() {
            return Ok(None);
        }
        let answers = self.oracle_at_rest(present).map_err(gone(0, at))?;
        let mut replies: Vec<Vec<Value>> = answers.iter().map(|a| vec![a.2.clone()]).collect();
        for index in 1..self.rig.nodes.len() {
            for ((connection, position, _), replies) in answers.iter().zip(&mut replies) {
                let client = self.rig.nodes[index].client(*connection);
                let reply = client.value_within(REST_TIMEOUT).map_err(gone(index, at))?;
                let Some(reply) = reply else {
                    let request = &self.steps[at].requests[*position];
                    return Ok(Some(self.unlike(at, index, request, "still waits")));
                };
                replies.push(reply);
            }
            differs!(self.tested_at_rest(at, index, present)?);
        }
        for ((_, position, _), replies) in answers.into_iter().zip(replies) {
            differs!(self.check(at, position, replies));
        }
        Ok(None)
    }

    /// What the oracle answers now: connection, position of the request, reply. The rest waits.
    fn oracle_at_rest(
        &mut self,
        present: &mut Present,
    ) -> io::Result<Vec<(Connection, usize, Value)>> {
        let oracle = &mut self.rig.nodes[0];
        let deadline = Instant::now() + ORACLE_TIMEOUT;
        let mut answers = Vec::new();
        loop {
            let waits = oracle.waiting()?;
            let mut is_at_rest = true;
            for (&connection, positions) in &mut present.waiting {
                while let Some(&position) = positions.front() {
                    let Some(reply) = oracle.client(connection).arrived_value()? else {
                        break;
                    };
                    answers.push((connection, position, reply));
                    positions.pop_front();
                }
                is_at_rest &= positions.is_empty() || waits.contains(&connection);
            }
            if is_at_rest {
                return Ok(answers);
            }
            if Instant::now() > deadline {
                return Err(io::Error::other("neither answers nor waits"));
            }
            std::thread::sleep(POLL_INTERVAL);
        }
    }

    /// Waits until those wait who do so on the oracle.
    fn tested_at_rest(&mut self, at: usize, index: usize, present: &Present) -> Found {
        let deadline = Instant::now() + REST_TIMEOUT;
        loop {
            let waits = self.rig.nodes[index].waiting().map_err(gone(index, at))?;
            let mut missing = present
                .waiting
                .iter()
                .filter(|(connection, positions)| {
                    !positions.is_empty() && !waits.contains(connection)
                })
                .map(|(connection, positions)| (*connection, positions[0]));
            let Some((connection, position)) = missing.next() else {
                return Ok(None);
            };
            let request = &self.steps[at].requests[position];
            let client = self.rig.nodes[index].client(connection);
            if let Some(reply) = client.arrived_value().map_err(gone(index, at))? {
                let mut difference = self.unlike(at, index, request, "does not wait");
                difference.detail += &format!("\n  reply: {}", crate::keyspace::show(&reply));
                return Ok(Some(difference));
            }
            if Instant::now() > deadline {
                return Ok(Some(self.unlike(
                    at,
                    index,
                    request,
                    "neither answers nor waits",
                )));
            }
            std::thread::sleep(POLL_INTERVAL);
        }
    }

    /// Ends all waits.
    fn let_go(&mut self, at: usize, present: &mut Present) -> Found {
        for _ in 0..OWED_MAX {
            present.waiting.retain(|_, positions| !positions.is_empty());
            let Some((&connection, positions)) = present.waiting.first_key_value() else {
                return Ok(None);
            };
            let request = &self.steps[at].requests[positions[0]];
            let how = if positions[0] % 2 == 0 {
                "TIMEOUT"
            } else {
                "ERROR"
            };
            for index in 0..self.rig.nodes.len() {
                let unblocked = self.rig.nodes[index].unblock(connection, how);
                if !unblocked.map_err(gone(index, at))? {
                    return Ok(Some(self.unlike(at, index, request, "cannot be unblocked")));
                }
            }
            differs!(self.rest(at, present)?);
        }
        Ok(None)
    }

    /// Sends what a listener asks for.
    fn hear(&mut self, at: usize, request: &Request, present: &mut Present) -> Found {
        differs!(self.read_listeners(at, present)?);
        self.send(at, request)?;
        present.listening.insert(request.connection);
        // What it says is about the next request, which must not be a PING.
        if request.name() == b"CLIENT" && request.word(1) == b"CACHING" {
            return Ok(None);
        }
        self.read_listeners(at, present)
    }

    /// Reads and compares everything that those who listen have received.
    fn read_listeners(&mut self, at: usize, present: &Present) -> Found {
        for &connection in &present.listening {
            let mut expected = Vec::new();
            for index in 0..self.rig.nodes.len() {
                let rules = Rules {
                    is_in_one_order: self.rig.nodes[index].is_one_shard,
                    misses: true,
                    stale: has_comparable_copies(&self.steps[at].requests),
                };
                let client = self.rig.nodes[index].client(connection);
                let stream = stream(client, &expected, rules).map_err(gone(index, at))?;
                if index == 0 {
                    expected = stream;
                } else if !self.parted
                    && let Some(found) = told::difference(&expected, &stream, rules)
                {
                    return Ok(Some(self.told_else(at, index, connection.name(), found)));
                }
            }
        }
        Ok(None)
    }

    /// Reads and compares which changes of keys were told, where a sequence asks for that.
    /// What was executed since they were read last are the steps from `from` to `at`.
    pub(crate) fn read_changes(&mut self, from: usize, at: usize) -> Found {
        let mut expected = Vec::new();
        let requests = self.steps[from..=at].iter().flat_map(|step| &step.requests);
        let misses = has_comparable_misses(requests.clone());
        let compares = !self.parted && has_comparable_changes(requests);
        for index in 0..self.rig.nodes.len() {
            let node = &mut self.rig.nodes[index];
            let rules = Rules {
                is_in_one_order: node.is_one_shard,
                misses,
                stale: true,
            };
            let Some(listener) = &mut node.listener else {
                return Ok(None);
            };
            let awaited = if compares { &expected[..] } else { &[] };
            let stream = stream(listener, awaited, rules).map_err(gone(index, at))?;
            if index == 0 {
                expected = stream;
            } else if compares && let Some(found) = told::difference(&expected, &stream, rules) {
                return Ok(Some(self.told_else(at, index, "notifications", found)));
            }
        }
        Ok(None)
    }

    fn told_else(
        &self,
        at: usize,
        index: usize,
        who: &str,
        (about, detail): (String, String),
    ) -> Difference {
        Difference {
            class: format!("{who}: {about}"),
            detail: format!("{}: {who}: {about}\n{detail}", self.rig.nodes[index].label),
            steps: at + 1,
        }
    }

    fn unlike(&self, at: usize, index: usize, request: &Request, what: &str) -> Difference {
        Difference {
            class: format!("{}: {what}", request.name().escape_ascii()),
            detail: format!("{request}\n  {} {what}", self.rig.nodes[index].label),
            steps: at + 1,
        }
    }
}

fn gone(node: usize, step: usize) -> impl Fn(io::Error) -> Gone {
    move |error| Gone { node, error, step }
}

/// Everything that a listener has received: as much as `expected`, if it comes in time, and whatever
/// else precedes the answers to two PINGs.
fn stream(client: &mut Client, expected: &[Value], rules: Rules) -> io::Result<Vec<Value>> {
    const MARK: &[u8] = b"everything before this was received";
    let is_mark = |value: &Value| match value {
        Value::Bulk(text) => text == MARK,
        Value::Array(parts) | Value::Push(parts) => {
            matches!(&parts[..], [Value::Bulk(pong), Value::Bulk(text)] if pong == b"pong" && text == MARK)
        }
        _ => false,
    };
    let mut stream = Vec::new();
    let expected = told::amount(expected, rules);
    while told::amount(&stream, rules) < expected {
        match client.value_within(REST_TIMEOUT)? {
            Some(value) => stream.push(value),
            None => break,
        }
    }
    // Redis broadcasts which copies are stale behind all requests that have arrived, the first PING
    // among them.
    for _ in 0..2 {
        client.queue(&[b"PING", MARK]);
        client.flush()?;
        loop {
            let value = client.read_value()?;
            if is_mark(&value) {
                break;
            }
            stream.push(value);
        }
    }
    Ok(stream)
}
