//! Ways to end a server while it works, and the order in which a cell uses them.

use anyhow::{Result, bail};
use moon_harness::Server;
use moon_harness::load::Load;
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

/// A named place at which the server kills itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum FailPoint {
    /// An LSN is issued and nothing of its frame is written.
    BetweenIssueAndWrite,
    /// A frame is partly written.
    MidWrite,
    /// A frame is written and its replies are held.
    BetweenWriteAndAck,
    /// In the middle of replaying.
    RecoveryReplay,
    /// Everything is replayed, the new manifest is not written.
    RecoveryBeforeManifest,
    /// The new manifest is written, nothing is served.
    RecoveryAfterManifest,
}

impl FailPoint {
    fn in_recovery(self) -> bool {
        matches!(
            self,
            FailPoint::RecoveryReplay
                | FailPoint::RecoveryBeforeManifest
                | FailPoint::RecoveryAfterManifest
        )
    }
}

impl fmt::Display for FailPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            FailPoint::BetweenIssueAndWrite => "between-issue-and-write",
            FailPoint::MidWrite => "mid-write",
            FailPoint::BetweenWriteAndAck => "between-write-and-ack",
            FailPoint::RecoveryReplay => "recovery-replay",
            FailPoint::RecoveryBeforeManifest => "recovery-before-manifest",
            FailPoint::RecoveryAfterManifest => "recovery-after-manifest",
        })
    }
}

/// How one cycle of a cell ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kill {
    /// SIGKILL at a random moment under load.
    Random,
    /// The server dies at a fail point under load.
    At(FailPoint),
    /// SIGKILL under load, then the recovery dies at a fail point.
    InRecovery(FailPoint),
    /// SIGKILL under load, then SIGKILL at a random moment of the recovery.
    RandomInRecovery,
    /// SIGTERM under load: a graceful stop, which keeps everything and exits with 0.
    Graceful,
}

impl fmt::Display for Kill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kill::Random => f.pad("SIGKILL"),
            Kill::At(point) | Kill::InRecovery(point) => fmt::Display::fmt(point, f),
            Kill::RandomInRecovery => f.pad("SIGKILL in recovery"),
            Kill::Graceful => f.pad("SIGTERM"),
        }
    }
}

/// The kills of one cell, in order: half at random moments, the rest at every fail point in turn,
/// and a graceful stop after every sixth, which does not count as a kill.
pub(crate) fn schedule(kills: usize, fail_points: bool, offset: usize) -> Vec<Kill> {
    let pattern: &[Kill] = if fail_points {
        &[
            Kill::Random,
            Kill::At(FailPoint::BetweenIssueAndWrite),
            Kill::InRecovery(FailPoint::RecoveryReplay),
            Kill::At(FailPoint::MidWrite),
            Kill::InRecovery(FailPoint::RecoveryBeforeManifest),
            Kill::Random,
            Kill::At(FailPoint::BetweenWriteAndAck),
            Kill::InRecovery(FailPoint::RecoveryAfterManifest),
            Kill::RandomInRecovery,
            Kill::Random,
        ]
    } else {
        &[Kill::Random, Kill::Random, Kill::RandomInRecovery]
    };
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
    let (Kill::At(point) | Kill::InRecovery(point)) = kill else {
        return;
    };
    let passes = match point {
        FailPoint::RecoveryReplay => rng.random_range(1..=40),
        point if point.in_recovery() => 1,
        // The first passes may be a start's own frames, with no load to interrupt.
        _ => rng.random_range(5..=150),
    };
    let value = format!("{point}:{passes}");
    config.envs.push((FAILPOINT_ENV.to_owned(), value));
}

/// Lets the load run and ends the server as `kill` says. The server is dead afterwards.
pub(crate) fn execute(
    server: &mut Server,
    load: &Load,
    kill: Kill,
    rng: &mut StdRng,
) -> Result<Fired> {
    if let Kill::At(_) = kill {
        return match server.wait_exit(FAILPOINT_TIMEOUT) {
            Ok(status) => expect_sigkill(server, status).map(|()| Fired::Yes),
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
        Kill::InRecovery(_) => {
            arm(server, kill, rng);
            server.respawn()?;
            match server.wait_ready_or_exit()? {
                Some(status) => expect_sigkill(server, status)?,
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
    let next = if matches!(next, Kill::At(_)) {
        next
    } else {
        Kill::Random
    };
    arm(server, next, rng);
    server.restart()?;
    Ok(fired)
}

fn expect_sigkill(server: &Server, status: ExitStatus) -> Result<()> {
    if status.signal() != Some(SIGKILL) {
        bail!(
            "the server ended with {status} instead of dying at its fail point\n{}",
            server.log_tail()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twenty_kills_use_every_way_at_least_twice() {
        let all = schedule(20, true, 3);
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
}
