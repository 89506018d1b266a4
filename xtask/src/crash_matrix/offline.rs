//! What changes a directory while no server serves it, killed in the middle and run again: the
//! tool that changes the shard count, and a start that finds a directory of version 1.
//!
//! Whenever the process dies, the directory is as before or as afterwards: the next run ends what
//! was begun, a start in between serves one or the other, and all keys are there.

use super::cell::{CellOptions, CellReport, WRITERS, millis, order_of, seed_of};
use super::judge::{Rule, judge};
use super::kill::{FailPoint, IN_MIGRATION, IN_RESHARD, expect_sigkill};
use super::progress::Progress;
use super::v1;
use crate::binary::ServerBinary;
use anyhow::{Context as _, Result, bail};
use moon_harness::load::{Load, Seen, Writer, wait_for_deadlines};
use moon_harness::server::run_to_exit;
use moon_harness::snapshot::read_state;
use moon_harness::verify::Order;
use moon_harness::workload::{Generator, Workload};
use moon_harness::{FsyncPolicy, Server, ServerConfig};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use std::fmt;
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

/// Shard counts, one after the other, and again from the beginning.
const COUNTS: [u16; 3] = [8, 3, 5];
/// Kills before the tool is left alone.
const KILLS_PER_CHANGE: usize = 2;
/// How long a tool may take.
const TOOL_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a tool is thought to take before one was measured.
const FIRST_TOOL_TIME: Duration = Duration::from_millis(20);
/// What is written to a directory before it is changed.
const WORKLOAD: Workload = Workload::Rewrite;
/// A fail point that is armed so often and never reached does not exist in the program: to go on
/// would be to go on for ever.
const ARMED_IN_VAIN_MAX: usize = 5;
/// Time in which a start certainly meets a directory of version 1.
const MIGRATION_TIME: Duration = Duration::from_millis(80);

/// What is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Offline {
    /// `moon-server reshard`.
    Reshard,
    /// A start on a directory of version 1.
    Migration,
}

impl Offline {
    /// All of them.
    pub(crate) const ALL: [Offline; 2] = [Offline::Reshard, Offline::Migration];
}

impl fmt::Display for Offline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Offline::Reshard => "reshard",
            Offline::Migration => "migration",
        })
    }
}

/// Runs one cell. Stops at the first broken promise.
pub(crate) fn run(
    what: Offline,
    binary: &ServerBinary,
    options: CellOptions,
    progress: &Progress,
) -> Result<CellReport> {
    let begun = Instant::now();
    let seed = seed_of(&what.to_string(), options.seed);
    let mut run = Run {
        what,
        binary,
        kills: options.kills,
        fail_points: options.fail_points,
        progress,
        rng: StdRng::seed_from_u64(seed),
        seed,
        report: CellReport::default(),
        tool_time: FIRST_TOOL_TIME,
    };
    match what {
        Offline::Reshard => run.reshard()?,
        Offline::Migration => run.migrations()?,
    }
    run.report.wall_ms = millis(begun.elapsed());
    Ok(run.report)
}

struct Run<'a> {
    what: Offline,
    binary: &'a ServerBinary,
    kills: usize,
    progress: &'a Progress,
    fail_points: bool,
    rng: StdRng,
    seed: u64,
    report: CellReport,
    /// How long the tool took that nobody killed last.
    tool_time: Duration,
}

impl Run<'_> {
    fn config(&self, dir: &std::path::Path, shards: u16) -> ServerConfig {
        ServerConfig::new(self.binary.flavor, &self.binary.path, dir)
            .shards(shards)
            .append(FsyncPolicy::Everysec)
    }

    /// Half of the kills are at fail points, in turn, the others at random moments.
    fn next_kill(&mut self, points: &[FailPoint]) -> Option<FailPoint> {
        let number = self.report.kills;
        let is_random = !self.fail_points || number % 2 == 1;
        (!is_random).then(|| points[number / 2 % points.len()])
    }

    /// Counts a kill, or that it did not happen.
    ///
    /// Fails if the program does not know the fail point, as one that was built without them.
    fn killed(&mut self, kind: Option<FailPoint>, happened: bool) -> Result<()> {
        self.progress
            .cycle(format_args!("offline {}", self.what), happened);
        let label = kind.map_or("SIGKILL".to_owned(), |point| point.to_string());
        let counts = if happened {
            self.report.kills += 1;
            &mut self.report.kills_by_kind
        } else {
            &mut self.report.not_reached
        };
        let count = counts.entry(label.clone()).or_default();
        *count += 1;
        let is_in_vain = !happened
            && *count >= ARMED_IN_VAIN_MAX
            && !self.report.kills_by_kind.contains_key(&label);
        if is_in_vain {
            bail!(
                "fail point {label} is never reached: a program that was built without the \
                 feature failpoints needs --no-fail-points"
            );
        }
        Ok(())
    }

    fn verify(
        &mut self,
        server: &Server,
        writers: &mut [Writer],
        order: Order,
        seen: Seen,
        context: &str,
    ) -> Result<()> {
        wait_for_deadlines(writers);
        let observed = read_state(&mut server.client()?, WORKLOAD.databases(WRITERS))?;
        let verdict = judge(writers, WORKLOAD, order, Rule::Acknowledged, observed, seen);
        self.report.unanswered_kept += verdict.kept;
        self.report.unanswered_dropped += verdict.dropped;
        for (place, violation) in verdict.violations {
            self.report
                .violated(violation, &format!("{context}, {place}"));
        }
        Ok(())
    }

    fn reshard(&mut self) -> Result<()> {
        let dir = tempfile::Builder::new().prefix("moon-reshard-").tempdir()?;
        let config = self.config(&dir.path().join("data"), COUNTS[0]);
        let mut server = Server::start(config)?;
        let mut writers = new_writers(self.seed);
        for change in 0.. {
            if self.report.kills >= self.kills || !self.report.is_clean() {
                break;
            }
            let (from, to) = (
                COUNTS[change % COUNTS.len()],
                COUNTS[(change + 1) % COUNTS.len()],
            );
            let context = format!("change {change}, {from} to {to} shards");
            self.change(&mut server, &mut writers, from, to, &context)
                .with_context(|| context.clone())?;
        }
        if !self.report.is_clean() {
            let kept = dir.keep();
            let place = format!("the directory is kept: {}", kept.display());
            self.report.details.push(place);
        }
        Ok(())
    }

    /// Loads the server, stops it in one way or the other, and changes its shard count.
    fn change(
        &mut self,
        server: &mut Server,
        writers: &mut Vec<Writer>,
        from: u16,
        to: u16,
        context: &str,
    ) -> Result<()> {
        let order = order_of(WORKLOAD, server.config())?;
        let acked_before: u64 = writers.iter().map(|w| w.acked).sum();
        let seed = self.rng.random();
        let load = Load::start(server.address(), WORKLOAD, std::mem::take(writers), 1, seed);
        if !load.wait_acked(2000, TOOL_TIMEOUT) {
            bail!("no load\n{}", server.log_tail());
        }
        if self.rng.random() {
            server.kill9()?;
        } else {
            server.sigterm()?;
        }
        let (ended, mut seen) = load.finish();
        *writers = ended;
        self.report.reads += seen.reads;
        self.report.acknowledged += writers.iter().map(|w| w.acked).sum::<u64>() - acked_before;

        for _ in 0..KILLS_PER_CHANGE {
            let kill = self.next_kill(&IN_RESHARD);
            let status = self.killed_tool(server, to, kill)?;
            self.killed(kill, !status.success())?;
            if self.rng.random_range(0..3) == 0 {
                // Somebody starts the server instead of running the tool again.
                self.start_either(server, from, to)?;
                self.verify(server, writers, order, std::mem::take(&mut seen), context)?;
                server.kill9()?;
            }
        }
        let begun = Instant::now();
        let (status, output) = run_to_exit(tool(server, to), TOOL_TIMEOUT)?;
        if !status.success() {
            bail!("the tool ended with {status}:\n{output}");
        }
        self.tool_time = begun.elapsed();
        server.config_mut().shards = Some(to);
        server.restart()?;
        self.verify(server, writers, order, seen, context)
    }

    /// Starts the tool and kills it.
    fn killed_tool(
        &mut self,
        server: &Server,
        to: u16,
        kill: Option<FailPoint>,
    ) -> Result<ExitStatus> {
        let mut command = tool(server, to);
        if let Some(point) = kill {
            let (name, value) = point.armed(&mut self.rng);
            command.env(name, value);
            let (status, output) = run_to_exit(command, TOOL_TIMEOUT)?;
            if !status.success() {
                expect_sigkill(status, &output)?;
            }
            return Ok(status);
        }
        let mut child = command
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()?;
        let within = u64::try_from(self.tool_time.as_micros()).unwrap_or(1);
        std::thread::sleep(Duration::from_micros(
            self.rng.random_range(0..within.max(1)),
        ));
        child.kill()?;
        Ok(child.wait()?)
    }

    /// Starts the server with the count that the directory has now: the old one, or the new one
    /// if the tool got so far.
    fn start_either(&mut self, server: &mut Server, from: u16, to: u16) -> Result<()> {
        for shards in [from, to] {
            server.config_mut().shards = Some(shards);
            server.respawn()?;
            match server.wait_ready_or_exit()? {
                None => return Ok(()),
                Some(status) if status.code() == Some(2) && shards == from => {}
                Some(status) => bail!("{status}\n{}", server.log_tail()),
            }
        }
        bail!("no count fits\n{}", server.log_tail())
    }

    /// Each on a fresh directory, because a directory is migrated once.
    fn migrations(&mut self) -> Result<()> {
        while self.report.kills < self.kills && self.report.is_clean() {
            self.migration()?;
        }
        Ok(())
    }

    fn migration(&mut self) -> Result<()> {
        let dir = tempfile::Builder::new().prefix("moon-migrate-").tempdir()?;
        let data = dir.path().join("data");
        let mut writers = new_writers(self.rng.random());
        let operations = v1::write_directory(&data.join("appendonlydir"), &mut writers)?;
        self.report.acknowledged += operations;
        let kill = self.next_kill(&IN_MIGRATION);
        let mut config = self.config(&data, 1);
        let order = order_of(WORKLOAD, &config)?;
        config
            .envs
            .extend(kill.map(|point| point.armed(&mut self.rng)));
        let mut server = Server::spawn(config)?;
        let died = if kill.is_some() {
            match server.wait_ready_or_exit()? {
                Some(status) => {
                    expect_sigkill(status, &server.log_tail())?;
                    true
                }
                None => {
                    server.kill9()?;
                    false
                }
            }
        } else {
            let within = u64::try_from(MIGRATION_TIME.as_micros()).unwrap_or(1);
            std::thread::sleep(Duration::from_micros(self.rng.random_range(0..within)));
            server.kill9()?;
            true
        };
        self.killed(kill, died)?;
        server.config_mut().envs.clear();
        // Twice: what one start leaves is what the next one meets.
        for _ in 0..2 {
            server.restart()?;
            let context = kill.map_or("SIGKILL".to_owned(), |point| point.to_string());
            self.verify(&server, &mut writers, order, Seen::default(), &context)?;
            server.kill9()?;
        }
        if !self.report.is_clean() {
            let kept = dir.keep();
            let place = format!("the directory is kept: {}", kept.display());
            self.report.details.push(place);
        }
        Ok(())
    }
}

fn new_writers(seed: u64) -> Vec<Writer> {
    (0..WRITERS)
        .map(|number| Writer::new(Generator::new(WORKLOAD, number, seed)))
        .collect()
}

fn tool(server: &Server, to: u16) -> Command {
    let config = server.config();
    let mut command = Command::new(&config.binary);
    command.arg("reshard").arg("--dir").arg(&config.dir);
    command.arg("--shards").arg(to.to_string());
    command
}

#[cfg(test)]
mod tests {
    use super::super::kill::IN_MIGRATION;
    use super::*;
    use moon_harness::Flavor;
    use std::path::PathBuf;

    /// A program without fail points used to be started again and again, for ever.
    #[test]
    fn a_fail_point_that_is_never_reached_ends_the_run() {
        let binary = ServerBinary {
            flavor: Flavor::Moon,
            path: PathBuf::new(),
        };
        let progress = Progress::hidden();
        let mut run = Run {
            what: Offline::Migration,
            binary: &binary,
            kills: 50,
            progress: &progress,
            fail_points: true,
            rng: StdRng::seed_from_u64(1),
            seed: 1,
            report: CellReport::default(),
            tool_time: FIRST_TOOL_TIME,
        };
        let mut starts = 0;
        let error = loop {
            let point = run.next_kill(&IN_MIGRATION);
            assert_eq!(point, Some(IN_MIGRATION[0]), "no kill has happened");
            starts += 1;
            if let Err(error) = run.killed(point, false) {
                break error.to_string();
            }
        };
        assert_eq!(starts, ARMED_IN_VAIN_MAX);
        assert!(error.contains("--no-fail-points"), "{error}");
        run.killed(Some(IN_MIGRATION[1]), true)
            .expect("it is there");
        for _ in 0..2 * ARMED_IN_VAIN_MAX {
            let passed_less_often = run.killed(Some(IN_MIGRATION[1]), false);
            passed_less_often.expect("it was reached once");
        }
    }
}
