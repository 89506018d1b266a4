//! The commit clock: the head of the stream, what is written, durable and committed, and who
//! waits for it.
//!
//! # The model
//!
//! The *head* is the LSN that the next frame gets. Each shard has two cells, *written* and
//! *durable*: the start of its oldest frame that is not yet so, or [`IDLE`]. A mark is the
//! minimum over the cells, bounded by the head. Only a [`Lane`](crate::lane::Lane) changes the
//! head and the cells.
//!
//! # Why a mark never jumps over an unfinished frame
//!
//! All words are sequentially consistent. A reader loads the head first and then the cells.
//! An issuing lane whose cell is idle first stores the head as a floor into it, and only then
//! moves the head. So if the reader saw the head behind the frame, it sees the floor (or what
//! followed it), which is not beyond the frame's start; if it saw the head before the frame, the
//! head itself bounds the mark. It does not matter how long the issuing thread is descheduled
//! between any two of these steps.
//!
//! A floor may lie below a mark that was read before. That mark was right, so each mark keeps
//! its highest value and never falls.
//!
//! # Why no wake-up is lost
//!
//! A waiter stores its target, then computes the mark. Whoever raises a cell computes the mark
//! after that, then looks at the targets. In the one order of all words, either the raise comes
//! before the waiter's computation, or the waiter's store before the raiser's look.

use crate::sync::Word;
use moon_core::{Lsn, ShardCount, ShardId};
use std::sync::{Arc, OnceLock};

/// Value of a cell whose shard has nothing unfinished, and of a target nobody waits for.
pub(crate) const IDLE: u64 = u64::MAX;

/// Which mark `committed` follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitOn {
    /// A frame is committed once its bytes are in the file: it survives the death of the
    /// process (`appendfsync everysec` and `no`, and a log in memory).
    Written,
    /// A frame is committed once a finished sync covers it: it survives a power loss
    /// (`appendfsync always`).
    Durable,
}

/// Called, from any thread, when a target was passed.
pub type Waker = Arc<dyn Fn() + Send + Sync>;

/// One shard's part of the clock, on cache lines of its own.
#[repr(align(128))]
pub(crate) struct ShardCell {
    /// Start of the oldest frame that is not written, [`IDLE`] if there is none. Changed only
    /// under the lane's lock.
    pub(crate) written: Word,
    /// The same for durable. Changed only under the lane's lock.
    pub(crate) durable: Word,
    /// The lowest LSN this shard waits for, [`IDLE`] if none. Stored by the shard, taken back
    /// by whoever sees it passed.
    target: Word,
    waker: OnceLock<Waker>,
}

/// The clock that all shards of one process share.
///
/// # Invariants
/// * `lsn-is-dense`: only a [`Lane`](crate::lane::Lane) moves the head, by the length of the
///   frame it issues.
/// * `marks-never-jump`: no mark is beyond the start of a frame that is not yet so.
/// * `marks-only-rise`: what [`committed`](Clock::committed) and its siblings return never falls.
pub struct Clock {
    pub(crate) head: Word,
    pub(crate) cells: Box<[ShardCell]>,
    /// The highest value each mark ever had.
    written: Word,
    durable: Word,
    committed: Word,
    /// 0: [`CommitOn::Written`], 1: [`CommitOn::Durable`].
    commit_on: Word,
}

impl Clock {
    /// A clock whose next frame starts at `start`, and where all before it is durable.
    #[must_use]
    pub fn new(shards: ShardCount, start: Lsn, on: CommitOn) -> Arc<Clock> {
        let cells = shards
            .ids()
            .map(|_| ShardCell {
                written: Word::new(IDLE),
                durable: Word::new(IDLE),
                target: Word::new(IDLE),
                waker: OnceLock::new(),
            })
            .collect();
        Arc::new(Clock {
            head: Word::new(start.0),
            cells,
            written: Word::new(start.0),
            durable: Word::new(start.0),
            committed: Word::new(start.0),
            commit_on: Word::new(as_word(on)),
        })
    }

    /// Sets what is called when the target of `shard` was passed: from any thread, without any
    /// lock held, at most once per [`wait_for`](Clock::wait_for). Set once, before serving;
    /// later calls for the same shard change nothing.
    pub fn set_waker(&self, shard: ShardId, waker: Waker) {
        if self.cells[shard.index()].waker.set(waker).is_err() {
            debug_assert!(false, "the waker of {shard} was already set");
        }
    }

    /// How many shards the clock has.
    #[must_use]
    pub fn shards(&self) -> usize {
        self.cells.len()
    }

    /// Where the next frame will start. The replication offset is this number.
    #[must_use]
    pub fn head(&self) -> Lsn {
        Lsn(self.head.load())
    }

    /// Everything before it survives what the policy survives. Never falls.
    #[must_use]
    pub fn committed(&self) -> Lsn {
        let now = match self.commit_on() {
            CommitOn::Written => self.written(),
            CommitOn::Durable => self.durable(),
        };
        Lsn(self.committed.raise(now.0))
    }

    /// Everything before it is in the files. Never falls.
    #[must_use]
    pub fn written(&self) -> Lsn {
        let head = self.head.load();
        let lowest = self.cells.iter().map(|cell| cell.written.load()).min();
        Lsn(self.written.raise(lowest.unwrap_or(head).min(head)))
    }

    /// Everything before it is covered by finished syncs. Never falls.
    #[must_use]
    pub fn durable(&self) -> Lsn {
        let head = self.head.load();
        let lowest = self.cells.iter().map(|cell| cell.durable.load()).min();
        Lsn(self.durable.raise(lowest.unwrap_or(head).min(head)))
    }

    /// Publishes the lowest LSN that `shard` waits for and returns `committed`, computed after
    /// that. If the result has reached `target`, the caller need not park (a stray wake-up may come);
    /// otherwise its waker is called once when `committed` passes `target`. One target per
    /// shard: a call replaces the target of the one before.
    pub fn wait_for(&self, shard: ShardId, target: Lsn) -> Lsn {
        let cell = &self.cells[shard.index()];
        cell.target.store(target.0);
        let committed = self.committed();
        if committed >= target {
            cell.target.replace(target.0, IDLE);
        }
        committed
    }

    /// Which mark `committed` follows now.
    #[must_use]
    pub fn commit_on(&self) -> CommitOn {
        if self.commit_on.load() == as_word(CommitOn::Durable) {
            CommitOn::Durable
        } else {
            CommitOn::Written
        }
    }

    /// Changes which mark `committed` follows (`appendfsync` at run time). What is committed
    /// already stays committed.
    pub fn set_commit_on(&self, on: CommitOn) {
        self.commit_on.store(as_word(on));
        self.wake_passed();
    }

    /// The shard whose oldest unfinished frame holds `committed` below the head, if any.
    #[must_use]
    pub fn holding_up(&self) -> Option<ShardId> {
        let head = self.head.load();
        let on = self.commit_on();
        let (index, lowest) = self
            .cells
            .iter()
            .map(|cell| match on {
                CommitOn::Written => cell.written.load(),
                CommitOn::Durable => cell.durable.load(),
            })
            .enumerate()
            .min_by_key(|&(_, lsn)| lsn)?;
        // A clock has at most ShardCount::MAX cells.
        (lowest < head).then(|| ShardId(u16::try_from(index).unwrap_or(u16::MAX)))
    }

    /// Wakes every shard whose target `committed` has reached. Called after each raise.
    pub(crate) fn wake_passed(&self) {
        let committed = self.committed().0;
        for cell in &self.cells {
            let target = cell.target.load();
            if target <= committed
                && cell.target.replace(target, IDLE)
                && let Some(waker) = cell.waker.get()
            {
                waker();
            }
        }
    }
}

fn as_word(on: CommitOn) -> u64 {
    match on {
        CommitOn::Written => 0,
        CommitOn::Durable => 1,
    }
}

impl std::fmt::Debug for Clock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Clock")
            .field("head", &self.head())
            .field("written", &self.written())
            .field("durable", &self.durable())
            .field("committed", &self.committed())
            .finish_non_exhaustive()
    }
}
