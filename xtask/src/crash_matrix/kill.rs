//! Ways to end a server while it works, and the order in which a cell uses them.

use anyhow::{Result, bail};
use moon_harness::Server;
use moon_harness::load::Load;
use moon_harness::workload::Workload;
use rand::RngExt as _;
use rand::rngs::StdRng;
use std::fmt;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::time::Duration;

/// The environment variable with which a server built with fail points is told to die.
const FAILPOINT_ENV: &str = "MOON_FAILPOINT";
/// How long a load waits for its fail point.
const FAILPOINT_TIMEOUT: Duration = Duration::from_millis(1500);
/// The number of SIGKILL in an exit status.
const SIGKILL: i32 = 9;

/// A named place at which a process kills itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct FailPoint {
    name: &'static str,
    /// At which of its passes the process dies: one of `1..=passes_max`, or from a few passes on
    /// where a start's own work passes it, too.
    passes_min: u32,
    passes_max: u32,
}

impl FailPoint {
    const fn new(name: &'static str, passes_min: u32, passes_max: u32) -> Self {
        FailPoint {
            name,
            passes_min,
            passes_max,
        }
    }

    /// What the environment says to die here.
    pub(crate) fn armed(self, rng: &mut StdRng) -> (String, String) {
        let passes = rng.random_range(self.passes_min..=self.passes_max);
        (FAILPOINT_ENV.to_owned(), format!("{}:{passes}", self.name))
    }
}

impl fmt::Display for FailPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name)
    }
}

/// Where a server dies under any load. The first passes may be a start's own frames.
const UNDER_LOAD: [FailPoint; 3] = [
    FailPoint::new("between-issue-and-write", 5, 150),
    FailPoint::new("mid-write", 5, 150),
    FailPoint::new("between-write-and-ack", 5, 150),
];

/// Where it dies while it recovers.
const IN_RECOVERY: [FailPoint; 3] = [
    FailPoint::new("recovery-replay", 1, 40),
    FailPoint::new("recovery-before-manifest", 1, 1),
    FailPoint::new("recovery-after-manifest", 1, 1),
];

/// Where it dies during a rewrite, in the order of the steps.
const IN_REWRITE: [FailPoint; 8] = [
    FailPoint::new("rewrite-segments-created", 1, 3),
    FailPoint::new("rewrite-first-manifest", 1, 3),
    FailPoint::new("rewrite-after-cut", 1, 3),
    FailPoint::new("rewrite-mid-base", 1, 12),
    FailPoint::new("rewrite-bases-synced", 1, 3),
    FailPoint::new("rewrite-second-manifest", 1, 3),
    FailPoint::new("rewrite-after-manifest", 1, 3),
    FailPoint::new("rewrite-mid-delete", 1, 6),
];

/// Where the tool that changes the shard count dies.
pub(crate) const IN_RESHARD: [FailPoint; 5] = [
    FailPoint::new("reshard-preparing", 1, 1),
    FailPoint::new("reshard-mid-copy", 1, 30),
    FailPoint::new("reshard-before-manifest", 1, 1),
    FailPoint::new("reshard-after-manifest", 1, 1),
    FailPoint::new("reshard-mid-delete", 1, 4),
];

/// Where a start dies that brings a directory of version 1 into the present form.
pub(crate) const IN_MIGRATION: [FailPoint; 5] = [
    FailPoint::new("migrate-after-directory", 1, 1),
    FailPoint::new("migrate-after-rename", 1, 2),
    FailPoint::new("migrate-after-manifest", 1, 1),
    FailPoint::new("recovery-before-manifest", 1, 1),
    FailPoint::new("recovery-after-manifest", 1, 1),
];

/// How one cycle of a cell ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kill {
    /// SIGKILL at a random moment under load.
    Random,
    /// The server dies at a fail point under load.
    At(FailPoint),
    /// SIGKILL under load, then the recovery dies at a fail point.
    InRecovery(FailPoint),
    /// The server dies at a fail point under load, then the recovery at another.
    Twice(FailPoint, FailPoint),
    /// SIGKILL under load, then SIGKILL at a random moment of the recovery.
    RandomInRecovery,
    /// SIGTERM under load: a graceful stop, which keeps everything and exits with 0.
    Graceful,
}

impl fmt::Display for Kill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kill::Random => f.pad("SIGKILL"),
            Kill::Twice(first, second) => write!(f, "{first}, {second}"),
            Kill::At(point) | Kill::InRecovery(point) => fmt::Display::fmt(point, f),
            Kill::RandomInRecovery => f.pad("SIGKILL in recovery"),
            Kill::Graceful => f.pad("SIGTERM"),
        }
    }
}

/// The ways to die of one cell, which [`schedule`] goes through again and again.
fn pattern(workload: Workload, fail_points: bool) -> Vec<Kill> {
    if !fail_points {
        return vec![Kill::Random, Kill::Random, Kill::RandomInRecovery];
    }
    let [issue, mid_write, ack] = UNDER_LOAD;
    let [replay, before, after] = IN_RECOVERY;
    if workload != Workload::Rewrite {
        return vec![
            Kill::Random,
            Kill::At(issue),
            Kill::InRecovery(replay),
            Kill::At(mid_write),
            Kill::InRecovery(before),
            Kill::Random,
            Kill::At(ack),
            Kill::InRecovery(after),
            Kill::RandomInRecovery,
            Kill::Random,
        ];
    }
    // Each step of a rewrite, and the recovery from each of them.
    let mut all = Vec::new();
    for (number, point) in IN_REWRITE.into_iter().enumerate() {
        all.push(Kill::At(point));
        all.push(Kill::Twice(point, IN_RECOVERY[number % IN_RECOVERY.len()]));
        if number % 2 == 1 {
            all.push(Kill::Random);
        }
    }
    all
}

/// The kills of one cell, in order: some at random moments, the rest at every fail point in turn,
/// and a graceful stop after every sixth, which does not count as a kill.
pub(crate) fn schedule(
    workload: Workload,
    kills: usize,
    fail_points: bool,
    offset: usize,
) -> Vec<Kill> {
    let pattern = pattern(workload, fail_points);
    let mut all = Vec::new();
    for number in 0..kills {
        all.push(pattern[(number + offset) % pattern.len()]);
        if number % 6 == 2 {
            all.push(Kill::Graceful);
        }
    }
    all
}

/// Whether a fail point did what it was asked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fired {
    /// Nothing to fire, or it did.
    Yes,
    /// The server passed the place less often than asked, and was killed from outside.
    No,
}

/// Arms a fail point for the next start.
pub(crate) fn arm(server: &mut Server, kill: Kill, rng: &mut StdRng) {
    let config = server.config_mut();
    config.envs.retain(|(name, _)| name != FAILPOINT_ENV);
    if let Kill::At(point) | Kill::InRecovery(point) = kill {
        config.envs.push(point.armed(rng));
    }
}

/// Lets the load run and ends the server as `kill` says. The server is dead afterwards.
pub(crate) fn execute(
    server: &mut Server,
    load: &Load,
    kill: Kill,
    rng: &mut StdRng,
) -> Result<Fired> {
    if let Kill::At(_) | Kill::Twice(..) = kill {
        return match server.wait_exit(FAILPOINT_TIMEOUT) {
            Ok(status) => expect_sigkill(status, &server.log_tail()).map(|()| Fired::Yes),
            Err(_) => server.kill9().map(|()| Fired::No),
        };
    }
    if !load.wait_acked(20, Duration::from_secs(10)) {
        bail!(
            "no load: {} acknowledged\n{}",
            load.acked(),
            server.log_tail()
        );
    }
    std::thread::sleep(Duration::from_micros(rng.random_range(0..150_000)));
    if kill == Kill::Graceful {
        let status = server.sigterm()?;
        if status.code() != Some(0) {
            bail!(
                "SIGTERM ended the server with {status}\n{}",
                server.log_tail()
            );
        }
        return Ok(Fired::Yes);
    }
    server.kill9().map(|()| Fired::Yes)
}

/// Starts the server again until it serves, through the kill that recovery is to suffer, and
/// prepares it for `next`.
pub(crate) fn recover(
    server: &mut Server,
    kill: Kill,
    next: Kill,
    rng: &mut StdRng,
) -> Result<Fired> {
    let mut fired = Fired::Yes;
    match kill {
        Kill::InRecovery(point) | Kill::Twice(_, point) => {
            arm(server, Kill::InRecovery(point), rng);
            server.respawn()?;
            match server.wait_ready_or_exit()? {
                Some(status) => expect_sigkill(status, &server.log_tail())?,
                None => {
                    fired = Fired::No;
                    server.kill9()?;
                }
            }
        }
        Kill::RandomInRecovery => {
            arm(server, Kill::Random, rng);
            server.respawn()?;
            std::thread::sleep(Duration::from_micros(rng.random_range(0..30_000)));
            server.kill9()?;
        }
        _ => {}
    }
    let next = match next {
        Kill::At(point) | Kill::Twice(point, _) => Kill::At(point),
        _ => Kill::Random,
    };
    arm(server, next, rng);
    server.restart()?;
    Ok(fired)
}

/// Fails unless a process ended as it does at a fail point.
pub(crate) fn expect_sigkill(status: ExitStatus, output: &str) -> Result<()> {
    if status.signal() != Some(SIGKILL) {
        bail!("the process ended with {status} instead of dying at its fail point\n{output}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twenty_kills_use_every_way_at_least_twice() {
        let all = schedule(Workload::Strings, 20, true, 3);
        let kills = all.iter().filter(|k| **k != Kill::Graceful).count();
        assert_eq!(kills, 20);
        let mut distinct = all.clone();
        distinct.sort();
        distinct.dedup();
        assert_eq!(distinct.len(), 9);
        for kill in distinct {
            assert!(all.iter().filter(|k| **k == kill).count() >= 2, "{kill}");
        }
    }

    #[test]
    fn twenty_kills_of_a_rewrite_meet_every_step_and_the_recovery_from_it() {
        let all = schedule(Workload::Rewrite, 20, true, 7);
        for point in IN_REWRITE {
            assert!(all.contains(&Kill::At(point)), "{point}");
            let twice = |kill: &Kill| matches!(kill, Kill::Twice(first, _) if *first == point);
            assert!(all.iter().any(twice), "{point}");
        }
        assert_eq!(all.iter().filter(|k| **k == Kill::Random).count(), 4);
    }
}
