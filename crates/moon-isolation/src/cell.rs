//! One server under all disciplines at once, killed now and then.

use crate::connection::Target;
use crate::discipline;
use crate::finding::{Anomaly, Finding};
use crate::rounds::{self, Setting, Tally, features_of};
use crate::step::Features;
use anyhow::{Context as _, Result};
use moon_core::shard::ShardCount;
use moon_harness::{FsyncPolicy, Server, ServerConfig};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Shortest and longest time from a start to the next kill, milliseconds.
const LIFE_MS: std::ops::Range<u64> = 200..1500;

/// What distinguishes the runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Cell {
    /// Shards of the server.
    pub shards: u16,
    /// Its `appendfsync`; the log is on in every run.
    pub policy: FsyncPolicy,
    /// Whether it is killed now and then.
    pub kills: bool,
}

/// How long a run takes.
#[derive(Clone, Copy, Debug)]
pub enum Until {
    /// So long, whatever is found.
    Over(Duration),
    /// Until something is found, or so long.
    Found(Duration),
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kills = if self.kills { "kills" } else { "no kills" };
        write!(f, "shards {}, {}, {kills}", self.shards, self.policy)
    }
}

/// What a run did and found.
#[derive(Debug, serde::Serialize)]
pub struct CellReport {
    /// Which run it was.
    pub cell: Cell,
    /// How long it took.
    pub seconds: f64,
    /// How often the server was killed.
    pub kills: u64,
    /// Whether there were scripts.
    pub scripts: bool,
    /// Whether there were blocking commands.
    pub blocking: bool,
    /// One per discipline.
    pub tallies: Vec<Tally>,
}

impl CellReport {
    /// Everything that is wrong.
    pub fn findings(&self) -> impl Iterator<Item = &Finding> {
        self.tallies.iter().flat_map(|tally| &tally.findings)
    }

    /// The sum over all disciplines.
    pub fn sum(&self, of: impl Fn(&Tally) -> u64) -> u64 {
        self.tallies.iter().map(of).sum()
    }
}

/// Runs `cell` on the server that `config` describes, on a fresh directory.
///
/// # Errors
/// When the server cannot be started. One that does not start again after a kill is a finding.
pub fn run(cell: Cell, config: ServerConfig, until: Until, seed: u64) -> Result<CellReport> {
    let (time, stops_at_first) = match until {
        Until::Over(time) => (time, false),
        Until::Found(time) => (time, true),
    };
    let mut config = config.append(cell.policy);
    config.shards = Some(cell.shards);
    let shards = ShardCount::new(config.effective_shards()).context("shard count")?;
    let mut server = Server::start(config)?;
    let features: Features = features_of(&mut server.client()?)?;
    let begun = Instant::now();
    let setting = Setting {
        target: Arc::new(Target::new(server.address())),
        shards,
        features,
        seed,
        until: begun + time,
        stops_at_first,
        stop: Arc::new(AtomicBool::new(false)),
    };
    let disciplines = discipline::all();
    let mut kills = 0;
    let mut tallies = Vec::new();
    let outcome = std::thread::scope(|scope| {
        let running: Vec<_> = (0..)
            .zip(&disciplines)
            .map(|(number, discipline)| {
                let mut setting = setting.clone();
                setting.seed = seed.wrapping_add(1000 * number);
                scope.spawn(move || rounds::run(discipline.as_ref(), &setting))
            })
            .collect();
        let outcome = match cell.kills {
            true => kill_again_and_again(&mut server, &setting, &mut kills),
            false => Ok(()),
        };
        for thread in running {
            tallies.push(thread.join().expect("disciplines do not panic"));
        }
        outcome
    });
    if let (Err(error), Some(tally)) = (&outcome, tallies.first_mut()) {
        let detail = format!("after kill {kills}: {error:#}");
        let finding = Finding::new(Anomaly::Lost, detail, []);
        tally.findings.insert(0, finding);
    }
    Ok(CellReport {
        cell,
        seconds: begun.elapsed().as_secs_f64(),
        kills,
        scripts: features.scripts,
        blocking: features.blocking,
        tallies,
    })
}

fn kill_again_and_again(server: &mut Server, setting: &Setting, kills: &mut u64) -> Result<()> {
    let mut rng = StdRng::seed_from_u64(setting.seed);
    let is_over = || Instant::now() >= setting.until || setting.stop.load(Ordering::Relaxed);
    loop {
        let life = Duration::from_millis(rng.random_range(LIFE_MS));
        let end = (Instant::now() + life).min(setting.until);
        while Instant::now() < end && !is_over() {
            std::thread::sleep(Duration::from_millis(1));
        }
        if is_over() {
            return Ok(());
        }
        setting.target.next_epoch();
        *kills += 1;
        if let Err(error) = server.kill9().and_then(|()| server.restart()) {
            setting.stop.store(true, Ordering::Relaxed);
            return Err(error);
        }
        setting.target.next_epoch();
    }
}

/// A fresh directory for a run, and a configuration on it.
///
/// # Errors
/// When there is no room for temporary files.
pub fn fresh(
    flavor: moon_harness::Flavor,
    binary: impl Into<PathBuf>,
) -> Result<(tempfile::TempDir, ServerConfig)> {
    let dir = tempfile::Builder::new()
        .prefix("moon-isolation-")
        .tempdir()?;
    let config = ServerConfig::new(flavor, binary, dir.path().join("data"));
    Ok((dir, config))
}
