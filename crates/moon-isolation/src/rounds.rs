//! One discipline at work: its clients make a round of steps at the same time, then everything is at
//! rest and read, then the round is judged.
//!
//! What was read after one round is what the next one begins with, also when the server was killed
//! in between: so nothing may be lost while nobody looks.

use crate::command::Names;
use crate::connection::{Connection, Interrupted, Target};
use crate::discipline::Discipline;
use crate::finding::{Anomaly, Finding};
use crate::history::{Call, Record};
use crate::model::Keyspace;
use crate::step::{Features, Kinds, Step, Tokens};
use moon_core::shard::ShardCount;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// Findings after which a discipline gives up.
const FINDINGS_MAX: usize = 3;

/// What one discipline did and found.
#[derive(Debug, Default, serde::Serialize)]
pub struct Tally {
    /// Its name.
    pub discipline: &'static str,
    /// Rounds that were judged.
    pub rounds: u64,
    /// Rounds of which a search said nothing.
    pub not_decided: u64,
    /// Calls that were answered.
    pub calls: u64,
    /// Among them transactions and scripts that ran.
    pub transactions: u64,
    /// Transactions that were refused because of what they watched.
    pub refused: u64,
    /// Calls whose server died before it answered.
    pub unanswered: u64,
    /// What is wrong.
    pub findings: Vec<Finding>,
}

/// What all disciplines of a run share.
#[derive(Clone)]
pub struct Setting {
    /// The server.
    pub target: Arc<Target>,
    /// Its shards.
    pub shards: ShardCount,
    /// What it has.
    pub features: Features,
    /// Of all random decisions.
    pub seed: u64,
    /// When it ends.
    pub until: Instant,
    /// Whether everything ends when something is found.
    pub stops_at_first: bool,
    /// Set when something is so wrong that nobody goes on.
    pub stop: Arc<AtomicBool>,
}

/// Runs rounds until the time is over or enough is wrong.
#[must_use]
pub fn run(discipline: &dyn Discipline, setting: &Setting) -> Tally {
    let kinds = discipline.kinds();
    let prefix = format!("isolation:{}:", discipline.name());
    let count = u8::try_from(kinds.0.len()).unwrap_or(u8::MAX);
    let names = Arc::new(Names::spread(&prefix, count, setting.shards));
    let connect = |number| Connection::new(number, Arc::clone(&setting.target), Arc::clone(&names));
    let (clients, steps) = discipline.size();
    let clients = (0..clients).map(|number| Client {
        connection: connect(number),
        rng: StdRng::seed_from_u64(setting.seed.wrapping_add(number as u64)),
    });
    let mut rounds = Rounds {
        discipline,
        setting,
        leader: connect(discipline.size().0),
        kinds,
        tokens: Tokens::default(),
        tally: Tally {
            discipline: discipline.name(),
            ..Tally::default()
        },
    };
    let mut clients: Vec<Client> = clients.collect();
    if let Err(interrupted) = rounds.work(&mut clients, steps) {
        let finding = finding_of(&interrupted);
        rounds.tally.findings.push(finding);
        setting.stop.store(true, Ordering::Relaxed);
    }
    rounds.tally
}

/// What it means that a client could not go on although no kill explains it.
fn finding_of(interrupted: &Interrupted) -> Finding {
    let (anomaly, detail) = match interrupted {
        Interrupted::Gone(_) => (
            Anomaly::ConnectionLost,
            "a connection ended, and the server was not killed".to_owned(),
        ),
        Interrupted::Stuck => (Anomaly::Stuck, "no reply comes any more".to_owned()),
        Interrupted::Unreachable => (Anomaly::Stuck, "the server does not come back".to_owned()),
        Interrupted::Garbled(text) => (Anomaly::Reply, text.clone()),
    };
    Finding::new(anomaly, detail, [])
}

struct Client {
    connection: Connection,
    rng: StdRng,
}

struct Rounds<'a> {
    discipline: &'a dyn Discipline,
    setting: &'a Setting,
    leader: Connection,
    kinds: Kinds,
    tokens: Tokens,
    tally: Tally,
}

impl Rounds<'_> {
    fn work(&mut self, clients: &mut [Client], steps: usize) -> Result<(), Interrupted> {
        let (mut before, _) = self.read_all()?;
        while Instant::now() < self.setting.until
            && !self.setting.stop.load(Ordering::Relaxed)
            && self.tally.findings.len() < FINDINGS_MAX
        {
            before = self.prepare(before)?;
            let mut records = self.round(clients, steps)?;
            let (after, read) = self.read_all()?;
            self.count(&records);
            records.push(read);
            let judgement = self.discipline.judge(&before, &after, &records);
            self.tally.rounds += 1;
            self.tally.not_decided += u64::from(!judgement.is_decided);
            self.tally.findings.extend(judgement.findings);
            if self.setting.stops_at_first && !self.tally.findings.is_empty() {
                self.setting.stop.store(true, Ordering::Relaxed);
            }
            before = after;
        }
        Ok(())
    }

    /// Lets all clients make their steps at the same time.
    fn round(&mut self, clients: &mut [Client], steps: usize) -> Result<Vec<Record>, Interrupted> {
        let features = self.setting.features;
        let (discipline, tokens) = (self.discipline, &self.tokens);
        let mut outcomes = Vec::new();
        std::thread::scope(|scope| {
            let work = |client: &mut Client| {
                let mut records = Vec::new();
                client.connection.refresh();
                for _ in 0..steps {
                    let step = discipline.step(&mut client.rng, tokens, features);
                    if let Err(interrupted) = client.connection.step(step, &mut records) {
                        return (records, Some(interrupted));
                    }
                }
                (records, None)
            };
            let threads = clients
                .iter_mut()
                .map(|client| scope.spawn(move || work(client)));
            let threads: Vec<_> = threads.collect();
            for thread in threads {
                outcomes.push(thread.join().expect("clients do not panic"));
            }
        });
        let mut all: Vec<Record> = Vec::new();
        for (mut records, interrupted) in outcomes {
            match interrupted {
                None => {}
                Some(Interrupted::Gone(epoch)) => {
                    let restarted = self.setting.target.wait_epoch_above(Some(epoch));
                    restarted.ok_or(Interrupted::Gone(epoch))?;
                }
                Some(other) => return Err(other),
            }
            let offset = all.len();
            for record in &mut records {
                record.after.iter_mut().for_each(|at| *at += offset);
            }
            all.append(&mut records);
        }
        // The server that owed these answers is dead, so they have happened or never will.
        let dead = self.setting.target.now();
        for record in &mut all {
            record.returned = record.returned.min(dead);
        }
        Ok(all)
    }

    fn count(&mut self, records: &[Record]) {
        for record in records {
            let answer = &record.answer;
            self.tally.calls += u64::from(answer.is_some());
            self.tally.unanswered += u64::from(answer.is_none());
            let is_refused = record.watched.is_some() && !record.may_have_written();
            self.tally.refused += u64::from(is_refused);
            let is_transaction = !matches!(record.call, Call::One(_));
            let ran = is_transaction && answer.is_some() && !is_refused;
            self.tally.transactions += u64::from(ran);
        }
    }

    /// Brings the keys into the state in which a round may begin.
    fn prepare(&mut self, before: Keyspace) -> Result<Keyspace, Interrupted> {
        let commands = self.discipline.prepare(&before);
        if commands.is_empty() {
            return Ok(before);
        }
        let mut prepared = before.clone();
        for command in &commands {
            prepared.apply(command);
        }
        let was_answered = self.lead(Call::Multi(commands))?.is_some();
        let (found, _) = self.read_all()?;
        let is_right = found == prepared || (!was_answered && found == before);
        if !is_right {
            let detail = format!("between two rounds: {found:?} instead of {prepared:?}");
            self.tally
                .findings
                .push(Finding::new(Anomaly::Lost, detail, []));
        }
        Ok(found)
    }

    /// Everything that the keys hold, read at one moment at which nobody else works on them.
    fn read_all(&mut self) -> Result<(Keyspace, Record), Interrupted> {
        loop {
            let Some(record) = self.lead(self.kinds.read_all())? else {
                continue;
            };
            let keyspace = record.answer.as_ref().and_then(|a| self.kinds.keyspace(a));
            return match keyspace {
                Some(keyspace) => Ok((keyspace, record)),
                None => Err(Interrupted::Garbled(record.to_string())),
            };
        }
    }

    /// Makes one call when nobody else does; `None` if the server was killed meanwhile.
    fn lead(&mut self, call: Call) -> Result<Option<Record>, Interrupted> {
        let mut records = Vec::new();
        self.leader.refresh();
        match self.leader.step(Step::call(call), &mut records) {
            Ok(()) => Ok(records.pop()),
            Err(Interrupted::Gone(epoch)) => {
                let restarted = self.setting.target.wait_epoch_above(Some(epoch));
                restarted.map(|_| None).ok_or(Interrupted::Gone(epoch))
            }
            Err(other) => Err(other),
        }
    }
}

/// What a server has, asked by COMMAND INFO.
///
/// # Errors
/// When it cannot be asked.
pub fn features_of(client: &mut moon_harness::Client) -> std::io::Result<Features> {
    let mut has = |command: &str| {
        let reply = client.command(&["COMMAND", "INFO", command])?;
        let known = reply.items().is_some_and(|items| {
            items
                .iter()
                .any(|item| item.items().is_some_and(|words| !words.is_empty()))
        });
        std::io::Result::Ok(known)
    };
    Ok(Features {
        scripts: has("EVAL")?,
        blocking: has("BLPOP")? && has("BLMOVE")?,
    })
}
