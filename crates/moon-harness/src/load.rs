//! The threads that drive a server, and the ledger they keep.
//!
//! A writer sends operations of its generator in pipelines of random depth and applies an
//! operation to its model when the reply was read and is the expected one. What is left in its
//! queue when the connection ends is the unacknowledged tail. Readers look at keys of all
//! writers and remember what they were shown.
//!
//! A test of power losses also needs what was acknowledged when: under `everysec` a loss of the
//! last moments is allowed, but not of earlier ones, and never with a gap. [`Writer::with_times`]
//! keeps that. The machine of such a test loses its power at [`Load::freeze`]: replies that are
//! read later count as not received.

use crate::client::Client;
use crate::model::{DbKey, State};
use crate::op::{Op, OpEncoder, ReplyShape};
use crate::reply::Reply;
use crate::shared::SeenEntry;
use crate::verify::{Fault, Violation};
use crate::workload::{Generator, Workload, shared_list};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use std::collections::{HashMap, VecDeque};
use std::io::{ErrorKind, Result};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Deepest pipeline of a writer, in operations.
const DEPTH_MAX: u32 = 64;
/// Keys that a reader asks for at once.
const READ_BATCH: usize = 16;
/// Wrong replies that one connection reports before it stops looking.
const WRONG_REPLIES_MAX: usize = 5;

/// An acknowledged operation and its times.
#[derive(Clone, Debug)]
pub struct Acked {
    /// The operation.
    pub op: Op,
    /// A moment before it was sent.
    pub sent: Instant,
    /// A moment after its reply was read.
    pub acked: Instant,
}

/// What a writer had and has done since, for tests that may lose acknowledged operations.
#[derive(Clone, Debug, Default)]
pub struct Times {
    /// Its keys when the load began.
    pub base: State,
    /// Operations acknowledged since, in order.
    pub acked: Vec<Acked>,
}

/// One writing connection, over all restarts of its server.
#[derive(Debug)]
pub struct Writer {
    /// Where its operations come from.
    pub generator: Generator,
    /// Its keys after everything acknowledged.
    pub state: State,
    /// Sent and not acknowledged, in order.
    pub tail: VecDeque<Op>,
    /// For each of these a moment before it was sent.
    pub tail_sent: VecDeque<Instant>,
    /// What was acknowledged when, if that is kept.
    pub times: Option<Times>,
    /// Operations acknowledged so far.
    pub acked: u64,
    /// Entries of the shared history acknowledged so far.
    pub acked_records: u64,
    /// Replies that were not the expected ones.
    pub violations: Vec<Violation>,
}

impl Writer {
    /// A connection that has sent nothing.
    #[must_use]
    pub fn new(generator: Generator) -> Self {
        Writer {
            generator,
            state: State::new(),
            tail: VecDeque::new(),
            tail_sent: VecDeque::new(),
            times: None,
            acked: 0,
            acked_records: 0,
            violations: Vec::new(),
        }
    }

    /// A connection that has sent nothing and keeps what was acknowledged when.
    #[must_use]
    pub fn with_times(generator: Generator) -> Self {
        Writer {
            times: Some(Times::default()),
            ..Writer::new(generator)
        }
    }

    /// Goes on from `state`, which is what the server holds of its keys now; everything that was
    /// sent before is settled.
    pub fn settle(&mut self, state: State) {
        self.tail.clear();
        self.tail_sent.clear();
        if let Some(times) = &mut self.times {
            times.base = state.clone();
            times.acked.clear();
        }
        self.state = state;
    }
}

/// Waits until every deadline that came during a run has passed, so that nothing about what they
/// took is uncertain any more.
pub fn wait_for_deadlines(writers: &[Writer]) {
    let of = |writer: &Writer| writer.generator.last_deadline_ms();
    let last = writers.iter().map(of).max().unwrap_or_default();
    while unix_ms() <= last {
        std::thread::sleep(Duration::from_millis(last + 1 - unix_ms().min(last)));
    }
}

fn unix_ms() -> u64 {
    let since = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// What the readers of one load saw.
#[derive(Debug, Default)]
pub struct Seen {
    /// The last value per key.
    pub values: HashMap<DbKey, Vec<u8>>,
    /// Positions of the shared list.
    pub entries: Vec<SeenEntry>,
    /// Reads that were made.
    pub reads: u64,
    /// What must never be shown.
    pub violations: Vec<Violation>,
}

/// A load that is running.
#[derive(Debug)]
pub struct Load {
    writers: Vec<JoinHandle<Writer>>,
    readers: Vec<JoinHandle<Seen>>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Set to let the connections finish what they have sent and end.
    stop: AtomicBool,
    /// Set when the machine has lost its power: nothing counts any more.
    frozen: AtomicBool,
    /// Operations acknowledged by all writers since the load began.
    acked: AtomicU64,
}

impl Shared {
    /// Fails once the power is off. Asked between reading a reply and believing it.
    fn powered(&self) -> Result<()> {
        if self.frozen.load(Ordering::SeqCst) {
            return Err(ErrorKind::ConnectionAborted.into());
        }
        Ok(())
    }
}

impl Load {
    /// Connects all writers and `readers` readers and lets them run until the server is gone or
    /// [`Load::finish`] is called.
    #[must_use]
    pub fn start(
        address: SocketAddr,
        workload: Workload,
        writers: Vec<Writer>,
        readers: usize,
        seed: u64,
    ) -> Load {
        let shared = Arc::new(Shared::default());
        let connections = writers.len();
        let writers = writers
            .into_iter()
            .map(|mut writer| {
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || {
                    // The end of the connection is how a load on a killed server ends.
                    drop(write_until_gone(address, &mut writer, &shared));
                    writer
                })
            })
            .collect();
        let readers = (0..readers)
            .map(|number| {
                let shared = Arc::clone(&shared);
                let seed = seed ^ (number as u64 + 1);
                std::thread::spawn(move || {
                    let mut seen = Seen::default();
                    let mut reader = Reader::new(workload, connections, seed);
                    drop(reader.read_until_gone(address, &mut seen, &shared));
                    seen
                })
            })
            .collect();
        Load {
            writers,
            readers,
            shared,
        }
    }

    /// Operations acknowledged since the load began.
    #[must_use]
    pub fn acked(&self) -> u64 {
        self.shared.acked.load(Ordering::Relaxed)
    }

    /// Waits until `count` operations are acknowledged; false if that takes longer than `timeout`.
    #[must_use]
    pub fn wait_acked(&self, count: u64, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        while self.acked() < count {
            if Instant::now() > deadline {
                return false;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        true
    }

    /// Tells the writers to send nothing more; they still read the replies they wait for.
    pub fn stop(&self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }

    /// The power is off: replies that are read from now on count as not received, and the
    /// connections end at their next one.
    pub fn freeze(&self) {
        self.shared.frozen.store(true, Ordering::SeqCst);
    }

    /// Waits for all connections to end and returns what they know.
    ///
    /// # Panics
    /// When a thread of the harness panicked.
    #[must_use]
    pub fn finish(self) -> (Vec<Writer>, Seen) {
        let writers = self
            .writers
            .into_iter()
            .map(|thread| thread.join().expect("writers do not panic"))
            .collect();
        self.shared.stop.store(true, Ordering::Relaxed);
        let mut seen = Seen::default();
        for thread in self.readers {
            let other = thread.join().expect("readers do not panic");
            seen.reads += other.reads;
            seen.violations.extend(other.violations);
            seen.entries.extend(other.entries);
            for (key, value) in other.values {
                // Values of one key grow: of two readers the later view wins.
                let newer = |old: &Vec<u8>| progress(&value) > progress(old);
                if seen.values.get(&key).is_none_or(newer) {
                    seen.values.insert(key, value);
                }
            }
        }
        (writers, seen)
    }
}

fn progress(value: &[u8]) -> u64 {
    crate::model::Value::Str(value.to_vec()).progress()
}

fn write_until_gone(address: SocketAddr, writer: &mut Writer, shared: &Shared) -> Result<()> {
    let mut client = Client::connect(address)?;
    let mut encoder = OpEncoder::default();
    let mut shapes: VecDeque<ReplyShape> = VecDeque::new();
    let mut out = Vec::new();
    loop {
        let stop = shared.stop.load(Ordering::Relaxed);
        if stop && writer.tail.is_empty() {
            return Ok(());
        }
        let mut broken = Ok(());
        if !stop {
            out.clear();
            let depth = writer.generator.below(DEPTH_MAX) + 1;
            let now = Instant::now();
            writer.generator.set_time(unix_ms());
            while writer.tail.len() < depth as usize {
                let op = writer.generator.next_op();
                shapes.push_back(encoder.encode(&op, &mut out));
                writer.tail.push_back(op);
                writer.tail_sent.push_back(now);
            }
            broken = client.write_raw(&out);
        }
        // Replies that arrived before the connection broke are acknowledgements too.
        let keep = if stop {
            0
        } else {
            writer.generator.below(DEPTH_MAX) as usize
        };
        while !writer.tail.is_empty() && (broken.is_err() || writer.tail.len() > keep) {
            let shape = shapes.front().expect("each operation has a shape");
            let (reply, wrong) = read_final(&mut client, shape)?;
            shared.powered()?;
            let room = WRONG_REPLIES_MAX.saturating_sub(writer.violations.len());
            writer.violations.extend(wrong.into_iter().take(room));
            shapes.pop_front();
            acknowledge(writer, &reply);
            shared.acked.fetch_add(1, Ordering::Relaxed);
        }
        broken?;
    }
}

/// Reads the replies of one operation and returns the last, without the parts that answer a
/// SELECT, and what is wrong with the others.
fn read_final(client: &mut Client, shape: &ReplyShape) -> Result<(Reply, Vec<Violation>)> {
    let mut violations = Vec::new();
    let mut wrong = |reply: &Reply| {
        let detail = format!("{reply:?} where +OK or +QUEUED belongs");
        violations.push(Violation::new(Fault::Reply, detail));
    };
    for _ in 0..shape.before {
        let reply = client.read_reply()?;
        if !reply.is_ok() && reply != Reply::Simple(b"QUEUED".to_vec()) {
            wrong(&reply);
        }
    }
    let mut reply = client.read_reply()?;
    if let Reply::Array(items) = &mut reply {
        for position in shape.selects.iter().rev() {
            if *position < items.len() && !items.remove(*position).is_ok() {
                wrong(&Reply::Array(items.clone()));
            }
        }
    }
    Ok((reply, violations))
}

fn acknowledge(writer: &mut Writer, reply: &Reply) {
    let op = writer
        .tail
        .pop_front()
        .expect("a reply answers an operation");
    let sent = writer
        .tail_sent
        .pop_front()
        .expect("every operation has its time");
    let expected = op.apply(&mut writer.state);
    if !op.is_answered_by(&expected, reply) && writer.violations.len() < WRONG_REPLIES_MAX {
        let detail = format!("{op:?} was answered with {reply:?} instead of {expected:?}");
        writer.violations.push(Violation::new(Fault::Reply, detail));
    }
    if matches!(op, Op::Record(_)) {
        writer.acked_records += 1;
    }
    writer.acked += 1;
    if let Some(times) = &mut writer.times {
        let acked = Instant::now();
        times.acked.push(Acked { op, sent, acked });
    }
}

struct Reader {
    rng: StdRng,
    keys: Vec<DbKey>,
    pairs: Vec<(DbKey, DbKey)>,
    list: bool,
}

impl Reader {
    fn new(workload: Workload, connections: usize, seed: u64) -> Self {
        let all = 0..connections;
        Reader {
            rng: StdRng::seed_from_u64(seed),
            keys: all
                .clone()
                .flat_map(|c| workload.readable_keys(c))
                .collect(),
            pairs: all.flat_map(|c| workload.readable_pairs(c)).collect(),
            list: workload == Workload::History,
        }
    }

    fn read_until_gone(
        &mut self,
        address: SocketAddr,
        seen: &mut Seen,
        shared: &Shared,
    ) -> Result<()> {
        let mut client = Client::connect(address)?;
        while !shared.stop.load(Ordering::Relaxed) {
            if self.keys.is_empty() {
                return Ok(());
            }
            self.read_keys(&mut client, seen, shared)?;
            if !self.pairs.is_empty() {
                self.read_pair(&mut client, seen, shared)?;
            }
            if self.list {
                read_list(&mut client, seen, shared)?;
            }
        }
        Ok(())
    }

    fn read_keys(&mut self, client: &mut Client, seen: &mut Seen, shared: &Shared) -> Result<()> {
        let keys: Vec<DbKey> = (0..READ_BATCH)
            .map(|_| self.keys[self.rng.random_range(0..self.keys.len())].clone())
            .collect();
        for key in &keys {
            client.queue(&[&b"GET"[..], &key.key]);
        }
        client.flush()?;
        for key in keys {
            let reply = client.read_reply()?;
            shared.powered()?;
            if let Reply::Bulk(value) = reply {
                seen.values.insert(key, value);
            }
            seen.reads += 1;
        }
        Ok(())
    }

    /// Both keys of a pair are only ever written together, so a reader must see them equal.
    fn read_pair(&mut self, client: &mut Client, seen: &mut Seen, shared: &Shared) -> Result<()> {
        let (a, b) = self.pairs[self.rng.random_range(0..self.pairs.len())].clone();
        let reply = client.command(&[&b"MGET"[..], &a.key, &b.key])?;
        shared.powered()?;
        seen.reads += 1;
        match reply.items() {
            Some([one, two]) if one == two => {
                if let Reply::Bulk(value) = one {
                    seen.values.insert(a, value.clone());
                    seen.values.insert(b, value.clone());
                }
            }
            _ => {
                let detail = format!("MGET {a} {b} shows half a pair: {reply:?}");
                seen.violations.push(Violation::new(Fault::Torn, detail));
            }
        }
        Ok(())
    }
}

fn read_list(client: &mut Client, seen: &mut Seen, shared: &Shared) -> Result<()> {
    let list = shared_list().key;
    for request in [
        vec![&b"MULTI"[..]],
        vec![b"LLEN", &list],
        vec![b"LRANGE", &list, b"-1", b"-1"],
        vec![b"EXEC"],
    ] {
        client.queue(&request);
    }
    client.flush()?;
    for _ in 0..3 {
        client.read_reply()?;
    }
    let reply = client.read_reply()?;
    shared.powered()?;
    seen.reads += 1;
    let Some([Reply::Int(len), Reply::Array(last)]) = reply.items() else {
        let detail = format!("MULTI LLEN LRANGE EXEC was answered with {reply:?}");
        seen.violations.push(Violation::new(Fault::Reply, detail));
        return Ok(());
    };
    if let (Some(position), [Reply::Bulk(item)]) = (
        usize::try_from(*len).ok().and_then(|n| n.checked_sub(1)),
        &last[..],
    ) {
        let entry = SeenEntry {
            position,
            item: item.clone(),
        };
        // The last sight implies the earlier ones, as positions never change.
        match seen.entries.last_mut() {
            Some(last) if last.position < entry.position => *last = entry,
            Some(_) => {}
            None => seen.entries.push(entry),
        }
    }
    Ok(())
}
