//! One server and one disk through several power losses: load, cut, recover, verify, and on.

use super::table::CellReport;
use crate::binary::ServerBinary;
use crate::crash_matrix::cell::{READERS, WRITERS, millis, order_of};
use crate::crash_matrix::handoff::Handoff;
use crate::crash_matrix::judge::{Rule, judge};
use anyhow::{Context as _, Result, bail};
use moon_faultfs::{FaultFs, Image};
use moon_harness::load::{Load, Writer, wait_for_deadlines};
use moon_harness::rewriter::Rewriter;
use moon_harness::snapshot::read_state;
use moon_harness::verify::Order;
use moon_harness::workload::{Generator, Workload};
use moon_harness::{FsyncPolicy, Server, ServerConfig};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Cuts of one chain: enough for a recovery to meet what several others left, few enough for the
/// log to stay short.
pub(super) const CHAIN_CUTS: usize = 4;
/// How long a load may take to begin.
const LOAD_TIMEOUT: Duration = Duration::from_secs(15);

/// What one chain does.
pub(super) struct ChainPlan {
    pub(super) shards: u16,
    pub(super) policy: FsyncPolicy,
    pub(super) workload: Workload,
    pub(super) cuts: usize,
    pub(super) seed: u64,
    /// What has to survive a cut at a moment.
    pub(super) rule: fn(FsyncPolicy, Instant) -> Rule,
    /// Whether a disk that shows a broken promise is of interest.
    pub(super) keeps_evidence: bool,
}

/// Runs a chain, adding what it finds to `report`. Stops at the first broken promise; the disk
/// that shows it is kept.
///
/// A failure to run (the server refuses to start, say) is an error: it is never counted as kept.
pub(super) fn run_chain(
    plan: &ChainPlan,
    binary: &ServerBinary,
    report: &mut CellReport,
) -> Result<()> {
    let dir = tempfile::Builder::new().prefix("moon-power-").tempdir()?;
    let data = dir.path().join("data");
    std::fs::create_dir(&data)?;
    let mut chain = Chain {
        plan,
        rng: StdRng::seed_from_u64(plan.seed),
        disk: None,
        image: Image::default(),
        data: data.clone(),
        handoff: None,
    };
    chain.power_on()?;
    let mut config = ServerConfig::new(binary.flavor, &binary.path, data)
        .shards(plan.shards)
        .append(plan.policy);
    let order = order_of(plan.workload, &config)?;
    config.order = Some(order.pipeline);
    // Declared after the disk, so that it is killed before the disk goes.
    let mut server = Server::start(config)?;
    // What consumers were given is judged where everything acknowledged has to survive. Elsewhere
    // the producers alone are at work.
    if plan.workload == Workload::Handoff && plan.policy == FsyncPolicy::Always {
        chain.handoff = Some(Handoff::begin(&server)?);
    }
    let mut writers: Vec<Writer> = (0..WRITERS)
        .map(|number| Generator::new(plan.workload, number, plan.seed).for_flavor(binary.flavor))
        .map(Writer::with_times)
        .collect();
    for number in 0..plan.cuts {
        let outcome = match chain.handoff.take() {
            Some(handoff) => chain.handoff_cycle(handoff, &mut server, number, report),
            None => chain.cycle(&mut server, &mut writers, order, number, report),
        };
        if outcome.is_ok() && !report.is_clean() && !plan.keeps_evidence {
            return Ok(());
        }
        if outcome.is_err() || !report.is_clean() {
            let kept = keep(dir.path(), &chain.image)?;
            let place = format!("what the disk held is kept in {}", kept.display());
            outcome.with_context(|| format!("cut {number}; {place}"))?;
            report.details.push(place);
            return Ok(());
        }
    }
    Ok(())
}

/// Copies a disk and the server's output to where nobody removes them.
fn keep(dir: &Path, image: &Image) -> Result<PathBuf> {
    let kept = tempfile::Builder::new()
        .prefix("moon-power-kept-")
        .tempdir()?
        .keep();
    image.write_to(&kept.join("data"))?;
    let log = dir.join("data.log");
    if log.exists() {
        std::fs::copy(log, kept.join("data.log"))?;
    }
    Ok(kept)
}

struct Chain<'a> {
    plan: &'a ChainPlan,
    rng: StdRng,
    /// The mounted disk; none while the power is off.
    disk: Option<FaultFs>,
    /// What it held when it was mounted last.
    image: Image,
    data: PathBuf,
    /// What is known where consumers wait for what producers push.
    handoff: Option<Handoff>,
}

impl Chain<'_> {
    fn power_on(&mut self) -> Result<()> {
        let disk = FaultFs::mount(&self.data, &self.image, self.rng.random())?;
        // Without a delay hardly anything would wait for a sync when the power goes.
        let delay_us = match self.plan.policy {
            FsyncPolicy::Always => self.rng.random_range(0..3000),
            FsyncPolicy::Everysec | FsyncPolicy::No => self.rng.random_range(0..30_000),
        };
        disk.set_sync_delay(Duration::from_micros(delay_us));
        self.disk = Some(disk);
        Ok(())
    }

    /// The power goes: the server dies, what is left of the disk is mounted again.
    fn power_loss(&mut self, server: &mut Server, report: &mut CellReport) -> Result<()> {
        let disk = self.disk.take().context("the power is on")?;
        let tally = disk.cut();
        server.kill9()?;
        report.lost.add(tally);
        report.cuts += 1;
        self.image = disk.image().context("the power was cut")?;
        drop(disk);
        self.power_on()
    }

    fn cycle(
        &mut self,
        server: &mut Server,
        writers: &mut Vec<Writer>,
        order: Order,
        number: usize,
        report: &mut CellReport,
    ) -> Result<()> {
        let acked_before: u64 = writers.iter().map(|w| w.acked).sum();
        let load = Load::start(
            server.address(),
            self.plan.workload,
            std::mem::take(writers),
            READERS,
            self.rng.random(),
        );
        let is_rewritten = self.plan.workload == Workload::Rewrite || self.rng.random_bool(0.5);
        let rewriter = is_rewritten.then(|| Rewriter::start(server.address(), self.rng.random()));
        if !load.wait_acked(20, LOAD_TIMEOUT) {
            bail!("no load\n{}", server.log_tail());
        }
        std::thread::sleep(self.run_time(number));
        if self.rng.random_range(0..6) == 0 {
            // An idle server has unsynced bytes, too, and nobody who reminds it of them.
            load.stop();
            std::thread::sleep(Duration::from_micros(self.rng.random_range(0..1_500_000)));
        }
        if let Ok(status) = server.wait_exit(Duration::ZERO) {
            bail!(
                "the server ended under load: {status}\n{}",
                server.log_tail()
            );
        }
        load.freeze();
        let moment = Instant::now();
        self.power_loss(server, report)?;
        let (ended, seen) = load.finish();
        *writers = ended;
        let rewrites = rewriter.map(Rewriter::finish).unwrap_or_default();
        report.rewrites += rewrites.begun;
        report.reads += seen.reads;
        report.acknowledged += writers.iter().map(|w| w.acked).sum::<u64>() - acked_before;

        let begun = Instant::now();
        self.recover(server, report)?;
        report.recovery_ms_max = report.recovery_ms_max.max(millis(begun.elapsed()));
        wait_for_deadlines(writers);
        let observed = read_state(&mut server.client()?, self.plan.workload.databases(WRITERS))?;
        let rule = (self.plan.rule)(self.plan.policy, moment);
        let verdict = judge(writers, self.plan.workload, order, rule, observed, seen);
        report.kept += verdict.kept;
        report.dropped += verdict.dropped;
        report.acknowledged_gone += verdict.acknowledged_gone;
        if let Some(first) = verdict.first_gone {
            let age = millis(moment.saturating_duration_since(first));
            report.gone_ms_max = report.gone_ms_max.max(age);
        }
        for (context, violation) in verdict.violations {
            let context = format!("{}, cut {number}, {context}", self.plan.workload);
            report.violated(&violation, &context);
        }
        Ok(())
    }

    /// The same with producers and consumers that wait.
    fn handoff_cycle(
        &mut self,
        mut handoff: Handoff,
        server: &mut Server,
        number: usize,
        report: &mut CellReport,
    ) -> Result<()> {
        let is_rewritten = self.rng.random_bool(0.5);
        let rewriter = is_rewritten.then(|| Rewriter::start(server.address(), self.rng.random()));
        let run_time = self.run_time(number);
        let (worked, ()) = handoff.work(server, self.rng.random(), |server, load| {
            load.wait_acked(server)?;
            std::thread::sleep(run_time);
            self.power_loss(server, report)
        })?;
        let rewrites = rewriter.map(Rewriter::finish).unwrap_or_default();
        report.rewrites += rewrites.begun;
        report.acknowledged += worked.acknowledged;
        let begun = Instant::now();
        self.recover(server, report)?;
        report.recovery_ms_max = report.recovery_ms_max.max(millis(begun.elapsed()));
        let settled = handoff.settle(worked, &mut server.client()?)?;
        report.kept += settled.kept;
        report.dropped += settled.dropped;
        for violation in settled.violations {
            let context = format!("{}, cut {number}", self.plan.workload);
            report.violated(&violation, &context);
        }
        self.handoff = Some(handoff);
        Ok(())
    }

    /// Starts the server on what is left; now and then the power goes again before it serves.
    fn recover(&mut self, server: &mut Server, report: &mut CellReport) -> Result<()> {
        while self.rng.random_range(0..4) == 0 {
            server.respawn()?;
            std::thread::sleep(Duration::from_micros(self.rng.random_range(0..60_000)));
            self.power_loss(server, report)?;
            report.cuts_in_recovery += 1;
        }
        server.restart()
    }

    /// How long the load runs before the cut.
    fn run_time(&mut self, number: usize) -> Duration {
        let range = match self.plan.policy {
            // Some runs are longer than what may be lost.
            FsyncPolicy::Everysec if number.is_multiple_of(3) => 2200..3000,
            FsyncPolicy::Everysec => 300..1400,
            FsyncPolicy::Always | FsyncPolicy::No => 20..700,
        };
        Duration::from_millis(self.rng.random_range(range))
    }
}
