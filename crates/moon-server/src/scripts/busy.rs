//! Scripts that take longer than `busy-reply-threshold`: who they are, and how they are ended.
//!
//! While there is one, everything but what a row allows is refused with BUSY, on every shard:
//! connections look at one flag. A script that has written can only be ended with the process.

use super::Kind;
use moon_commands::{CommandSpec, Flags};
use moon_resp::OwnedArgs;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

const BUSY_SCRIPT: &str = "BUSY Redis is busy running a script. You can only call SCRIPT KILL or \
                           SHUTDOWN NOSAVE.";
const BUSY_FUNCTION: &str = "BUSY Redis is busy running a script. You can only call FUNCTION KILL \
                             or SHUTDOWN NOSAVE.";
const NOT_BUSY: &str = "NOTBUSY No scripts in execution right now.";
const UNKILLABLE: &str = "UNKILLABLE Sorry the script already executed write commands against the \
                          dataset. You can either wait the script termination or kill the server \
                          in a hard way using the SHUTDOWN NOSAVE command.";

/// How a run may still end: it writes or it is killed, whichever comes first.
#[derive(Debug, Default)]
pub(super) struct Fate(AtomicU8);

const OPEN: u8 = 0;
const WROTE: u8 = 1;
const KILLED: u8 = 2;

impl Fate {
    /// The script is about to write; `false` if it was killed before.
    pub(super) fn write(&self) -> bool {
        let before = self.0.compare_exchange(OPEN, WROTE, AcqRel, Acquire);
        before != Err(KILLED)
    }

    /// `false` if the script has written and must go on.
    fn kill(&self) -> bool {
        let before = self.0.compare_exchange(OPEN, KILLED, AcqRel, Acquire);
        before != Err(WROTE)
    }

    /// Whether it is to end.
    pub(super) fn is_killed(&self) -> bool {
        self.0.load(Acquire) == KILLED
    }
}

/// A script that takes long.
#[derive(Debug)]
pub(super) struct BusyScript {
    pub(super) kind: Kind,
    /// The function, or the script's digest.
    pub(super) name: String,
    /// The request that runs it.
    pub(super) request: OwnedArgs,
    pub(super) since: Instant,
    pub(super) fate: Arc<Fate>,
}

/// The scripts that take long, the one that has done so for longest first.
#[derive(Debug, Default)]
pub(crate) struct BusyScripts {
    count: AtomicUsize,
    scripts: Mutex<Vec<Arc<BusyScript>>>,
    abandoned: AtomicBool,
    seen: AtomicU64,
    killed: AtomicU64,
}

/// What metrics show of scripts that take long.
#[derive(Clone, Copy, Debug, Default)]
pub struct BusyNumbers {
    /// How many take long now.
    pub now: u64,
    /// For how long the one has run that has taken longest.
    pub longest: Duration,
    /// How many have taken long since the start.
    pub seen: u64,
    /// How many of them were killed.
    pub killed: u64,
}

impl BusyScripts {
    fn scripts(&self) -> MutexGuard<'_, Vec<Arc<BusyScript>>> {
        // A panic aborts the process, so a poisoned lock is never seen.
        self.scripts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is one.
    #[inline]
    pub(crate) fn any(&self) -> bool {
        self.count.load(Relaxed) > 0
    }

    /// Enters a script; it leaves when the guard is dropped.
    pub(super) fn enter(self: &Arc<Self>, script: BusyScript) -> BusyGuard {
        let script = Arc::new(script);
        self.seen.fetch_add(1, Relaxed);
        let mut scripts = self.scripts();
        scripts.push(Arc::clone(&script));
        self.count.store(scripts.len(), Release);
        drop(scripts);
        BusyGuard {
            scripts: Arc::clone(self),
            script,
        }
    }

    /// What metrics show.
    pub(crate) fn numbers(&self) -> BusyNumbers {
        let scripts = self.scripts();
        BusyNumbers {
            now: scripts.len() as u64,
            longest: (scripts.first()).map_or(Duration::ZERO, |script| script.since.elapsed()),
            seen: self.seen.load(Relaxed),
            killed: self.killed.load(Relaxed),
        }
    }

    /// The one that takes longest.
    pub(super) fn first(&self) -> Option<Arc<BusyScript>> {
        self.scripts().first().cloned()
    }

    /// The error with which a command is refused now, if it is.
    pub(crate) fn refuses(&self, spec: &CommandSpec) -> Option<&'static str> {
        if spec.flags.contains(Flags::ALLOW_BUSY) {
            return None;
        }
        self.text()
    }

    /// The error that says what is under way.
    pub(crate) fn text(&self) -> Option<&'static str> {
        if !self.any() {
            return None;
        }
        Some(match self.first()?.kind {
            Kind::Script => BUSY_SCRIPT,
            Kind::Function => BUSY_FUNCTION,
        })
    }

    /// SCRIPT KILL and FUNCTION KILL.
    ///
    /// # Errors
    /// The error reply.
    pub(super) fn kill(&self, kind: Kind) -> Result<(), &'static str> {
        let scripts = self.scripts().clone();
        let Some(script) = scripts.iter().find(|script| script.kind == kind) else {
            drop(scripts);
            return Err(self.text().unwrap_or(NOT_BUSY));
        };
        if script.fate.kill() {
            Ok(())
        } else {
            Err(UNKILLABLE)
        }
    }

    /// The server is to stop: what has written nothing is killed. The one that has written, and takes
    /// longest, is to be waited for.
    pub(crate) fn stop(&self) -> Option<String> {
        let scripts = self.scripts().clone();
        let mut written = scripts.iter().filter(|script| !script.fate.kill());
        let first = written.next().map(|script| script.name.clone());
        // The rest has to be asked, too.
        written.for_each(drop);
        first
    }

    /// SHUTDOWN NOSAVE: scripts that take long do not go on, and keep the data for good.
    pub(crate) fn abandon(&self) {
        self.abandoned.store(true, Release);
    }

    /// Whether scripts that take long must not go on.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.abandoned.load(Acquire)
    }
}

/// A script among those that take long.
pub(super) struct BusyGuard {
    scripts: Arc<BusyScripts>,
    script: Arc<BusyScript>,
}

impl Drop for BusyGuard {
    fn drop(&mut self) {
        let mut scripts = self.scripts.scripts();
        scripts.retain(|other| !Arc::ptr_eq(other, &self.script));
        if self.script.fate.is_killed() {
            self.scripts.killed.fetch_add(1, Relaxed);
        }
        self.scripts.count.store(scripts.len(), Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn busy(scripts: &Arc<BusyScripts>, kind: Kind) -> (BusyGuard, Arc<Fate>) {
        let fate = Arc::<Fate>::default();
        let guard = scripts.enter(BusyScript {
            kind,
            name: String::new(),
            request: OwnedArgs::new(["EVAL"]),
            since: Instant::now(),
            fate: Arc::clone(&fate),
        });
        (guard, fate)
    }

    #[test]
    fn a_script_that_has_written_is_not_killed_and_a_killed_one_does_not_write() {
        let scripts = Arc::new(BusyScripts::default());
        assert_eq!(scripts.kill(Kind::Script), Err(NOT_BUSY));
        let (first, fate) = busy(&scripts, Kind::Script);
        assert_eq!(scripts.kill(Kind::Function), Err(BUSY_SCRIPT));
        assert_eq!(scripts.kill(Kind::Script), Ok(()));
        assert!(fate.is_killed() && !fate.write());
        drop(first);
        assert!(!scripts.any());
        let BusyNumbers {
            now, seen, killed, ..
        } = scripts.numbers();
        assert_eq!((now, seen, killed), (0, 1, 1));
        let (_second, fate) = busy(&scripts, Kind::Function);
        assert!(fate.write() && fate.write());
        assert_eq!(scripts.kill(Kind::Function), Err(UNKILLABLE));
        let (_third, unwritten) = busy(&scripts, Kind::Script);
        assert_eq!(scripts.stop(), Some(String::new()));
        assert!(!fate.is_killed() && unwritten.is_killed());
    }
}
