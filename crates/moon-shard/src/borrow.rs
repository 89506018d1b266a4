//! Borrowing: the data of several shards in one executor's hands.
//!
//! To run a command over several shards, the executing thread asks each of them, its own
//! included, to lend its `Box<ShardData>`. Each ends its turn first, so everything it has
//! executed has its LSN, and takes no data messages until the box is back. While the executor
//! holds the boxes it is exactly single-threaded Redis over them; what it writes is one frame.
//!
//! # Why it cannot deadlock
//! The requests of one borrow enter all mailboxes as one step ([`Directory::send_borrow`]), so any
//! two borrows meet in the same order in every mailbox they share. The earliest unfinished borrow
//! is first everywhere, gets every box, and gives them back without waiting for anyone: replies
//! and boxes travel on lanes that always move.

use crate::mailbox::{ControlMessage, Directory};
use crate::running::Meter;
use crate::shard::{Shard, unix_now};
use bytes::Bytes;
use moon_commands::context::{Counts, Origin};
use moon_commands::subcommands::row_of;
use moon_commands::{CommandId, CommandSpec, Cx, Effects, Limits, ShardSet, by_id, execute};
use moon_core::{Lsn, ShardCount, ShardId, UnixMs};
use moon_repl::{CommitLog, FrameKind};
use moon_resp::{Args, Protocol, Reply};
use moon_store::{DbIndex, ShardData, THIS_TURN};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use std::rc::Rc;
use std::sync::Arc;
use tokio::sync::oneshot;

/// A set of shards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShardMask(u64);

const _: () = assert!(
    ShardCount::MAX as u32 <= u64::BITS,
    "a mask has a bit for every shard"
);

impl ShardMask {
    /// All of `count` shards.
    #[must_use]
    pub fn all(count: ShardCount) -> ShardMask {
        ShardMask(u64::MAX >> (64 - u32::from(count.get())))
    }

    /// With one more shard.
    #[must_use]
    pub fn with(self, shard: ShardId) -> ShardMask {
        ShardMask(self.0 | 1 << shard.0)
    }

    /// The shards of both.
    #[must_use]
    pub fn union(self, other: ShardMask) -> ShardMask {
        ShardMask(self.0 | other.0)
    }

    /// Whether `shard` is in it.
    #[must_use]
    pub fn contains(self, shard: ShardId) -> bool {
        self.0 & (1 << shard.0) != 0
    }

    /// The only shard in it, if it is one.
    #[must_use]
    pub fn single(self) -> Option<ShardId> {
        // trailing_zeros of a non-zero u64 is below 64.
        (self.0.count_ones() == 1)
            .then(|| ShardId(u16::try_from(self.0.trailing_zeros()).unwrap_or(0)))
    }

    /// Whether no shard is in it.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    fn iter(self) -> impl Iterator<Item = ShardId> {
        (0..ShardCount::MAX)
            .map(ShardId)
            .filter(move |shard| self.contains(*shard))
    }
}

/// What a shard does with its log and its data at the moment it lends for a cut: everything it
/// has executed has its LSN, and it issues nothing before the data is back.
pub type AtLend = Box<dyn FnOnce(&mut Box<dyn CommitLog>, &mut ShardData) + Send>;

/// Asks a shard for its data.
pub struct LendRequest {
    to: oneshot::Sender<Lent>,
    at_lend: Option<AtLend>,
}

impl LendRequest {
    /// Gives the data to the executor, or takes it straight home if the executor has gone.
    pub(crate) fn lend(
        self,
        mut data: Box<ShardData>,
        log: &mut Box<dyn CommitLog>,
        directory: Directory,
    ) {
        if let Some(at_lend) = self.at_lend {
            at_lend(log, &mut data);
        }
        // If the executor is gone, dropping the value sends the data home.
        drop(self.to.send(Lent {
            data: Some(data),
            directory,
        }));
    }
}

/// Data on its way to an executor. Dropped before it arrives, it goes home.
struct Lent {
    data: Option<Box<ShardData>>,
    directory: Directory,
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(data) = self.data.take() {
            let id = data.id;
            self.directory
                .of(id)
                .send_control(ControlMessage::Home(data, Lsn::ZERO));
        }
    }
}

/// The data of several shards in hand. Dropping it gives everything back; what was executed and
/// not [committed](Borrowed::commit) is committed first, because memory has changed already.
pub struct Borrowed {
    shard: Rc<Shard>,
    boxes: Vec<Option<Box<ShardData>>>,
    effects: Effects,
    rng: SmallRng,
    limits: Arc<Limits>,
    now: UnixMs,
}

impl Shard {
    /// Borrows the data of the shards in `mask` and of this one.
    pub async fn borrow(self: &Rc<Self>, mask: ShardMask) -> Borrowed {
        self.borrow_with(mask, |_| None).await
    }

    /// The global cut: a borrow of all shards without work. Each of them does what `at_lend` makes
    /// for it; when the last has lent, everything below the position returned was executed
    /// before that and nothing above it exists. `look` sees the data of every shard then.
    pub async fn cut(
        self: &Rc<Self>,
        mut at_lend: impl FnMut(ShardId) -> AtLend,
        mut look: impl FnMut(&ShardData),
    ) -> Lsn {
        let all = ShardMask::all(self.config.count);
        let borrowed = self.borrow_with(all, |shard| Some(at_lend(shard))).await;
        borrowed.boxes.iter().flatten().for_each(|data| look(data));
        self.shared.clock.head()
    }

    async fn borrow_with(
        self: &Rc<Self>,
        mask: ShardMask,
        mut at_lend: impl FnMut(ShardId) -> Option<AtLend>,
    ) -> Borrowed {
        let mask = mask.with(self.config.id);
        let mut requests = Vec::new();
        let mut answers = Vec::new();
        for shard in mask.iter() {
            let (to, answer) = oneshot::channel();
            let at_lend = at_lend(shard);
            requests.push((shard, LendRequest { to, at_lend }));
            answers.push((shard, answer));
        }
        self.shared.directory.send_borrow(requests.into_iter());
        let (limits, seed) = self.borrow_settings();
        let mut borrowed = Borrowed {
            shard: Rc::clone(self),
            boxes: (0..self.config.count.get()).map(|_| None).collect(),
            effects: Effects::default(),
            rng: SmallRng::seed_from_u64(seed),
            limits,
            now: unix_now(),
        };
        borrowed.effects.begin_unit();
        for (shard, answer) in answers {
            let mut lent = answer
                .await
                .expect("a shard thread lives as long as the process");
            borrowed.boxes[shard.index()] = lent.data.take();
        }
        borrowed.now = unix_now();
        // A shard that executes nothing itself does not move its access clock.
        let rule = borrowed.limits.access_rule(borrowed.now);
        for data in borrowed.boxes.iter_mut().flatten() {
            data.set_access(rule);
        }
        borrowed
    }
}

impl Borrowed {
    /// What is executed from here on is a transaction of a client, in which no command waits.
    pub fn begin_transaction(&mut self) {
        self.effects.set_in_transaction(true);
    }

    /// Runs one data command against the shards in hand and writes its reply behind `replies`.
    /// Returns what the reply depends on; [`THIS_TURN`] stands for what [`Borrowed::commit`]
    /// returns.
    pub fn execute(
        &mut self,
        id: CommandId,
        args: Args<'_>,
        db: DbIndex,
        protocol: Protocol,
        replies: &mut Vec<u8>,
    ) -> Lsn {
        self.execute_as(row_of(by_id(id), args), id, args, db, protocol, replies)
    }

    /// As [`Borrowed::execute`], where `spec` is a subcommand of the command `id`.
    pub fn execute_as(
        &mut self,
        spec: &CommandSpec,
        id: CommandId,
        args: Args<'_>,
        db: DbIndex,
        protocol: Protocol,
        replies: &mut Vec<u8>,
    ) -> Lsn {
        let mut meter = Meter::new(&*self.shard.observer);
        let reply_start = replies.len();
        let before = self.effects.len();
        let mut cx = Cx {
            shards: ShardSet::Many {
                count: self.shard.config.count,
                shards: &mut self.boxes,
            },
            shard_count: self.shard.config.count,
            db,
            now: self.now,
            origin: Origin::Client,
            reply: Reply::new(replies, protocol),
            effects: &mut self.effects,
            depends_on: Lsn::ZERO,
            rng: &mut self.rng,
            limits: &self.limits,
            counts: Counts::default(),
            keep_expired: self.shard.log_fails(),
        };
        let outcome = execute(&mut cx, spec, args);
        let (depends_on, counts) = (cx.depends_on, cx.counts);
        meter.ran(id, outcome, counts, &replies[reply_start..]);
        if self.effects.len() == before {
            depends_on
        } else {
            THIS_TURN
        }
    }

    /// The data of one shard in hand.
    pub fn data(&mut self, shard: ShardId) -> Option<&mut ShardData> {
        self.boxes[shard.index()].as_deref_mut()
    }

    /// The data of all shards in hand, in their order.
    pub fn all(&self) -> impl Iterator<Item = &ShardData> {
        self.boxes.iter().flatten().map(|data| &**data)
    }

    /// The bounds and thresholds in force.
    #[must_use]
    pub fn limits(&self) -> Arc<Limits> {
        Arc::clone(&self.limits)
    }

    /// The time at which this executes.
    #[must_use]
    pub fn now(&self) -> UnixMs {
        self.now
    }

    /// Makes one frame of everything that was written, in the file of the executing shard, and
    /// gives the data back. Returns the frame's end, or zero if nothing was written.
    pub fn commit(mut self) -> Lsn {
        self.issue_and_return()
    }

    /// Commits and borrows again, if transactions are broken in this way.
    #[cfg(feature = "break-borrow-order")]
    pub async fn give_back_between(self, mask: ShardMask) -> Borrowed {
        if !crate::breach::is(crate::breach::Breach::Split) {
            return self;
        }
        let shard = Rc::clone(&self.shard);
        self.commit();
        shard.borrow(mask).await
    }

    fn issue_and_return(&mut self) -> Lsn {
        let in_hand = self.boxes[self.shard.config.id.index()].is_some();
        #[cfg(feature = "break-borrow-order")]
        if crate::breach::is(crate::breach::Breach::EarlyReturn) {
            for data in self.boxes.iter_mut().filter_map(Option::take) {
                let owner = self.shard.shared.directory.of(data.id);
                owner.send_control(ControlMessage::Home(data, Lsn::ZERO));
            }
            crate::breach::dawdle();
        }
        let mut end = Lsn::ZERO;
        if in_hand {
            self.effects.end_unit();
            if !self.effects.is_empty() {
                let payload = Bytes::from(self.effects.take());
                let mut core = self.shard.core.borrow_mut();
                end = self.shard.append(&mut core, FrameKind::Cross, payload);
            }
        }
        for data in self.boxes.iter_mut().filter_map(Option::take) {
            let mut data = data;
            if end > Lsn::ZERO {
                data.dirty.seal(end);
            }
            let owner = self.shard.shared.directory.of(data.id);
            owner.send_control(ControlMessage::Home(data, end));
        }
        end
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        if self.boxes.iter().any(Option::is_some) {
            self.issue_and_return();
        }
    }
}

impl Shard {
    fn borrow_settings(&self) -> (Arc<Limits>, u64) {
        let mut core = self.core.borrow_mut();
        let seed = core.rng_mut().next_u64();
        (core.limits(), seed)
    }
}
