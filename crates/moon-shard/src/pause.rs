//! CLIENT PAUSE: for a while no write runs, or no command at all, on any shard.
//!
//! The flag is one for the instance. Whoever is about to execute looks at it and waits instead
//! ([`Pause::blocks`], [`Pause::changed`]); while it is set, nothing is deleted either only because
//! its time has come or memory has run out. Setting it does not end what is under way:
//! [`Shard::quiesce`] returns when everything has that was let through before.

use crate::mailbox::{ControlMessage, DataMessage};
use crate::shard::Shard;
use std::rc::Rc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, futures::Notified, oneshot};

/// What does not run while the server is paused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PauseMode {
    /// Commands that may write.
    Write,
    /// All commands.
    All,
}

/// A pause in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Paused {
    mode: PauseMode,
    until: Instant,
}

/// Whether the instance is paused.
///
/// # Invariants
/// * `is_on` is set whenever `paused` holds a pause whose time is not over; it may stay set a little
///   longer, and is cleared by whoever finds out.
#[derive(Debug, Default)]
pub struct Pause {
    is_on: AtomicBool,
    paused: Mutex<Option<Paused>>,
    ended: Notify,
}

impl Pause {
    /// Pauses for `time` from `now` on. On top of a pause in force the longer and the stricter of
    /// the two counts. Returns `false`, and does nothing, if that is beyond what the clock counts.
    #[must_use]
    pub fn begin(&self, mode: PauseMode, time: Duration, now: Instant) -> bool {
        let Some(until) = now.checked_add(time) else {
            return false;
        };
        let mut paused = self.lock();
        let before = paused.filter(|before| before.until > now);
        *paused = Some(before.map_or(Paused { mode, until }, |before| Paused {
            mode: mode.max(before.mode),
            until: until.max(before.until),
        }));
        self.is_on.store(true, SeqCst);
        true
    }

    /// Ends the pause, and wakes whoever waits for it.
    pub fn end(&self) {
        let mut paused = self.lock();
        *paused = None;
        self.is_on.store(false, SeqCst);
        drop(paused);
        self.ended.notify_waiters();
    }

    /// Whether there may be a pause: one load, for the path of every batch.
    #[inline]
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.is_on.load(SeqCst)
    }

    /// What does not run at `now`, and until when; `None` without a pause.
    #[must_use]
    pub fn in_force(&self, now: Instant) -> Option<(PauseMode, Instant)> {
        if !self.is_on() {
            return None;
        }
        let mut paused = self.lock();
        match *paused {
            Some(Paused { mode, until }) if until > now => Some((mode, until)),
            _ => {
                *paused = None;
                self.is_on.store(false, SeqCst);
                None
            }
        }
    }

    /// Until when a command must wait that may write, or not; `None` if it may run.
    #[must_use]
    pub fn blocks(&self, may_write: bool, now: Instant) -> Option<Instant> {
        let (mode, until) = self.in_force(now)?;
        (may_write || mode == PauseMode::All).then_some(until)
    }

    /// Is ready when the pause is ended before its time. To be made before the pause is looked at.
    pub fn changed(&self) -> Notified<'_> {
        self.ended.notified()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Paused>> {
        self.paused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shard {
    /// The pause of the instance.
    #[must_use]
    pub fn pause(&self) -> &Pause {
        &self.shared.pause
    }

    /// Whether nothing may be deleted that only its time has come for: the log fails, or the
    /// server is paused.
    #[inline]
    #[must_use]
    pub fn keeps_expired(&self) -> bool {
        self.log_fails() || self.shared.pause.is_on()
    }

    /// Returns when everything has been executed, on all shards, that was let through before a
    /// pause began, and has its place in the history.
    ///
    /// First an errand visits every thread. Connections are tasks there that look at the pause and
    /// then execute, send or ask to borrow without a break; so when the errand runs, what they let
    /// through is done or in a mailbox. Then a visit goes through the data lane of every shard,
    /// where it comes behind all of that: batches are taken in order, and data that was lent is
    /// home again when it is visited. Last, the turns end that are in progress.
    pub async fn quiesce(&self) {
        self.visit_threads(|_| ()).await;
        let mut passed = Vec::new();
        for shard in self.config.count.ids() {
            let (told, heard) = oneshot::channel::<()>();
            passed.push(heard);
            let visit = Box::new(move |_: &mut moon_store::ShardData| drop(told));
            let mailbox = self.directory().of(shard);
            mailbox.send_data(DataMessage::Visit(visit));
        }
        all_heard(passed).await;
        self.visit_threads(|shard| {
            shard.end_turn();
        })
        .await;
    }

    /// Has every shard's thread do `errand`, behind what was asked of it before by control
    /// messages; returns when all have.
    pub async fn visit_threads(&self, errand: fn(&Shard)) {
        let mut passed = Vec::new();
        for shard in self.config.count.ids() {
            let (told, heard) = oneshot::channel::<()>();
            passed.push(heard);
            let errand = Box::new(move |shard: &Rc<Shard>| {
                errand(shard);
                drop(told);
            });
            let mailbox = self.directory().of(shard);
            mailbox.send_control(ControlMessage::Run(errand));
        }
        all_heard(passed).await;
    }
}

/// Waits until every sender is gone: nothing is ever sent but that it is done.
async fn all_heard(passed: Vec<oneshot::Receiver<()>>) {
    for heard in passed {
        drop(heard.await);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn the_longer_and_the_stricter_pause_counts() {
        let start = Instant::now();
        let pause = Pause::default();
        assert_eq!(pause.in_force(start), None);
        assert!(pause.begin(PauseMode::All, ms(200), start));
        assert!(pause.begin(PauseMode::Write, ms(10), start));
        let until = start + ms(200);
        assert_eq!(pause.blocks(false, start + ms(199)), Some(until));
        assert_eq!(pause.in_force(until), None);
        assert!(!pause.is_on());
        // What is over does not make the next one stricter.
        assert!(pause.begin(PauseMode::Write, ms(10), until));
        assert_eq!(pause.blocks(false, until), None);
        assert_eq!(pause.blocks(true, until), Some(until + ms(10)));
        pause.end();
        assert_eq!(pause.blocks(true, until), None);
        assert!(!pause.begin(PauseMode::All, Duration::MAX, start));
        assert!(!pause.is_on());
    }
}
