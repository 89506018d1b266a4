//! One client: it makes steps, and writes down what it sent when and what it was answered when.

use crate::command::Names;
use crate::history::{Call, Record};
use crate::step::Step;
use moon_harness::{Client, Reply};
use std::io::{Error, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How long a client waits for a reply before the server counts as stuck.
const STUCK_AFTER: Duration = Duration::from_secs(10);
/// How long a server may take to come back.
const RESTART_MAX: Duration = Duration::from_secs(40);
const POLL_INTERVAL: Duration = Duration::from_millis(2);

/// The server that all clients talk to, over its kills and restarts.
#[derive(Debug)]
pub struct Target {
    address: SocketAddr,
    begun: Instant,
    /// Even while the server runs, odd from before it is killed until it answers again.
    epoch: AtomicU64,
}

impl Target {
    /// A server that runs at `address`.
    #[must_use]
    pub fn new(address: SocketAddr) -> Target {
        Target {
            address,
            begun: Instant::now(),
            epoch: AtomicU64::new(0),
        }
    }

    /// Nanoseconds since the run began.
    #[must_use]
    pub fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// To be called before the server is killed and after it answers again.
    pub fn next_epoch(&self) {
        self.epoch.fetch_add(1, Ordering::SeqCst);
    }

    /// Waits until the server runs in an epoch above `last`, and returns that; `None` if it takes
    /// too long.
    #[must_use]
    pub fn wait_epoch_above(&self, last: Option<u64>) -> Option<u64> {
        let deadline = Instant::now() + RESTART_MAX;
        while Instant::now() < deadline {
            let epoch = self.epoch.load(Ordering::SeqCst);
            if epoch.is_multiple_of(2) && last.is_none_or(|last| epoch > last) {
                return Some(epoch);
            }
            std::thread::sleep(POLL_INTERVAL);
        }
        None
    }
}

/// Why a client could not go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Interrupted {
    /// The connection that was made in this epoch is gone.
    Gone(u64),
    /// No reply came in time.
    Stuck,
    /// The server does not come back.
    Unreachable,
    /// The server sent what is no reply.
    Garbled(String),
}

/// A client.
pub struct Connection {
    number: usize,
    target: Arc<Target>,
    names: Arc<Names>,
    /// The connection and the epoch in which it was made.
    client: Option<(Client, u64)>,
}

impl Connection {
    /// The client with this number; it connects when it first needs to.
    #[must_use]
    pub fn new(number: usize, target: Arc<Target>, names: Arc<Names>) -> Connection {
        Connection {
            number,
            target,
            names,
            client: None,
        }
    }

    /// Makes one step and adds what happened to `records`. What was sent and not answered when the
    /// connection ended has no answer there and returns at the end of time.
    ///
    /// # Errors
    /// When the connection is gone or the server stuck.
    pub fn step(&mut self, step: Step, records: &mut Vec<Record>) -> Result<(), Interrupted> {
        match step {
            Step::Calls(calls) => self.calls(calls, None, records),
            Step::Watch { reads, then } => {
                let watched = self.target.now();
                let keys = reads.iter().flat_map(|read| read.keys());
                let mut watch = vec![b"WATCH".to_vec()];
                watch.extend(keys.map(|key| self.names.of(key).to_vec()));
                self.request(watch)?;
                let first = records.len();
                let calls = reads.iter().cloned().map(Call::One).collect();
                self.calls(calls, None, records)?;
                let seen = records[first..].iter();
                let seen: Vec<_> = seen.filter_map(|record| record.answer.clone()).collect();
                let body = then(&seen);
                if body.is_empty() {
                    return self.request(vec![b"UNWATCH".to_vec()]);
                }
                let guard = reads.into_iter().zip(seen).collect();
                let call = Call::Watched { guard, body };
                self.calls(vec![call], Some(watched), records)
            }
        }
    }

    /// Sends a request that no check needs to know of; it must be answered `+OK`.
    fn request(&mut self, words: Vec<Vec<u8>>) -> Result<(), Interrupted> {
        let (client, epoch) = self.connected()?;
        let reply = client.command(&words);
        match reply {
            Ok(reply) if reply.is_ok() => Ok(()),
            Ok(reply) => Err(Interrupted::Garbled(format!("{words:?}: {reply:?}"))),
            Err(error) => Err(self.interrupted(&error, epoch)),
        }
    }

    fn calls(
        &mut self,
        calls: Vec<Call>,
        watched: Option<u64>,
        records: &mut Vec<Record>,
    ) -> Result<(), Interrupted> {
        let names = Arc::clone(&self.names);
        let target = Arc::clone(&self.target);
        let first = records.len();
        let (client, epoch) = self.connected()?;
        let mut replies = Vec::new();
        for call in &calls {
            let requests = call.requests(&names);
            replies.push(requests.len());
            requests.iter().for_each(|request| client.queue(request));
        }
        let invoked = target.now();
        for (position, call) in calls.iter().enumerate() {
            let after = (0..position).filter(|earlier| in_order(&calls[*earlier], call, &names));
            records.push(Record {
                client: self.number,
                call: call.clone(),
                invoked,
                returned: u64::MAX,
                answer: None,
                watched,
                after: after.map(|earlier| first + earlier).collect(),
            });
        }
        let (client, _) = self.connected()?;
        let mut outcome = client.flush();
        for (position, count) in replies.into_iter().enumerate() {
            // What was answered before the connection broke is acknowledged, too.
            match read_last(client, count) {
                Ok(reply) => {
                    let record = &mut records[first + position];
                    record.returned = target.now();
                    record.answer = Some(record.call.answer(&reply, &names));
                }
                Err(error) => {
                    outcome = outcome.and(Err(error));
                    break;
                }
            }
        }
        outcome.map_err(|error| self.interrupted(&error, epoch))
    }

    fn connected(&mut self) -> Result<(&mut Client, u64), Interrupted> {
        let deadline = Instant::now() + RESTART_MAX;
        while self.client.is_none() {
            if Instant::now() > deadline {
                return Err(Interrupted::Unreachable);
            }
            let before = self.target.wait_epoch_above(None);
            let before = before.ok_or(Interrupted::Unreachable)?;
            let Ok(mut client) = Client::connect(self.target.address) else {
                // It was killed in between; the next epoch is awaited, or this one still.
                std::thread::sleep(POLL_INTERVAL);
                continue;
            };
            let is_same = self.target.wait_epoch_above(None) == Some(before);
            if is_same && client.set_read_timeout(STUCK_AFTER).is_ok() {
                self.client = Some((client, before));
            }
        }
        match &mut self.client {
            Some((client, epoch)) => Ok((client, *epoch)),
            None => Err(Interrupted::Unreachable),
        }
    }

    /// Connects again if the server was killed since.
    pub fn refresh(&mut self) {
        let epoch = self.target.wait_epoch_above(None);
        if let Some((_, made_in)) = &self.client
            && epoch != Some(*made_in)
        {
            self.client = None;
        }
    }

    fn interrupted(&mut self, error: &Error, epoch: u64) -> Interrupted {
        self.client = None;
        match error.kind() {
            ErrorKind::TimedOut | ErrorKind::WouldBlock => Interrupted::Stuck,
            ErrorKind::InvalidData => Interrupted::Garbled(error.to_string()),
            _ => Interrupted::Gone(epoch),
        }
    }
}

/// Whether the server promises that `earlier` happens before `later` in one pipeline: they share a
/// shard, or one of them needs several.
fn in_order(earlier: &Call, later: &Call, names: &Names) -> bool {
    let shards = |call: &Call| {
        let mut shards: Vec<_> = call.keys().iter().map(|key| names.shard(*key)).collect();
        shards.sort_unstable();
        shards.dedup();
        shards
    };
    let (earlier, later) = (shards(earlier), shards(later));
    earlier.len() > 1 || later.len() > 1 || earlier == later
}

/// The last of `count` replies. Those before it must be `+OK` or `+QUEUED`; if one is not, the last
/// one is an error, which no call expects.
fn read_last(client: &mut Client, count: usize) -> std::io::Result<Reply> {
    let mut last = client.read_reply()?;
    for _ in 1..count {
        last = client.read_reply()?;
    }
    Ok(last)
}
