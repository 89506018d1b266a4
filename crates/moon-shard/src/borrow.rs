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

use crate::caller::Caller;
use crate::mailbox::{ControlMessage, Directory};
use crate::observer::Executed;
use crate::running::{Meter, tell_events};
use crate::shard::{Shard, unix_now};
use crate::waiting::{self, Hands};
use bytes::Bytes;
use moon_commands::blocking::Wait;
use moon_commands::context::{Counts, Origin};
use moon_commands::execute::Outcome;
use moon_commands::subcommands::row_of;
use moon_commands::{CommandId, CommandSpec, Cx, Effects, Limits, ShardSet, by_id, execute};
use moon_core::{Lsn, ShardCount, ShardId, UnixMs};
use moon_repl::{CommitLog, FrameKind};
use moon_resp::{Args, Protocol, Reply};
use moon_store::{DbIndex, DbKey, ShardData, THIS_TURN};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use std::collections::VecDeque;
use std::pin::pin;
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

    /// Whether all shards of `other` are in it.
    #[must_use]
    pub fn contains_all(self, other: ShardMask) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether no shard is in it.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The shards in it, in their order.
    pub fn iter(self) -> impl Iterator<Item = ShardId> {
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
    caller: Caller,
    /// Keys that somebody waits for, in the order in which they were changed.
    ready: VecDeque<DbKey>,
    /// Set if the data was taken out of its place on this thread, and not lent.
    taken: Option<Taken>,
}

/// How data was taken that belongs to the executing shard itself.
#[derive(Clone, Copy, Debug)]
struct Taken {
    /// Whether the turn had no effects then.
    was_clean: bool,
    /// The end of the turn as it was, once others were let on.
    aside: Option<Lsn>,
}

impl Shard {
    /// Takes the data of this shard out of its place, without a message: what is executed joins
    /// the turn in progress, as if it had stayed. `None` while it is away.
    ///
    /// Nothing else may run on this thread before the data is back, unless
    /// [`Borrowed::step_aside`] comes first.
    pub fn take(self: &Rc<Self>) -> Option<Borrowed> {
        let now = self.begin()?.now();
        let (limits, seed) = self.borrow_settings();
        let mut core = self.core.borrow_mut();
        let data = core.data.take()?;
        let mut effects = std::mem::take(&mut core.effects);
        let taken = Taken {
            was_clean: effects.is_empty(),
            aside: None,
        };
        effects.begin_unit();
        let mut boxes: Vec<_> = (0..self.config.count.get()).map(|_| None).collect();
        boxes[self.config.id.index()] = Some(data);
        Some(Borrowed {
            shard: Rc::clone(self),
            boxes,
            effects,
            rng: SmallRng::seed_from_u64(seed),
            limits,
            now,
            caller: Caller::default(),
            ready: VecDeque::new(),
            taken: Some(taken),
        })
    }

    /// Borrows the data of the shards in `mask` and of this one.
    pub async fn borrow(self: &Rc<Self>, mask: ShardMask) -> Borrowed {
        self.borrow_with(mask, |_| None).await
    }

    /// As [`Shard::borrow`], unless `give_up` says so first: it is asked again after
    /// [`Shard::look_again`]. What was lent by then goes home.
    pub async fn borrow_unless(
        self: &Rc<Self>,
        mask: ShardMask,
        give_up: impl Fn() -> bool,
    ) -> Option<Borrowed> {
        let mut borrowing = pin!(self.borrow(mask));
        loop {
            let looked = self.looked.notified();
            if give_up() {
                return None;
            }
            tokio::select! {
                biased;
                borrowed = &mut borrowing => return Some(borrowed),
                () = looked => {}
            }
        }
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
            caller: Caller::default(),
            ready: VecDeque::new(),
            taken: None,
        };
        let classes = borrowed.limits.notify_keyspace_events;
        borrowed.effects.events.set_classes(classes);
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
        self.attempt(spec, id, args, db, protocol, replies).1
    }

    /// As [`Borrowed::execute_as`], for who can wait: says how the command ended, too. If it would
    /// wait, [`Borrowed::take_wait`] tells for what.
    pub fn attempt(
        &mut self,
        spec: &CommandSpec,
        id: CommandId,
        args: Args<'_>,
        db: DbIndex,
        protocol: Protocol,
        replies: &mut Vec<u8>,
    ) -> (Outcome, Lsn) {
        let mut meter = Meter::new(&*self.shard.observer);
        let is_light = meter.runs(spec, args);
        let reply_start = replies.len();
        let before = self.effects.len();
        self.effects.set_in_script(self.caller.in_script);
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
            keep_expired: self.shard.keeps_expired(),
        };
        let outcome = execute(&mut cx, spec, args);
        let (looked_at, counts) = (cx.depends_on, cx.counts);
        let wrote = self.effects.len() != before;
        let depends_on = if wrote { THIS_TURN } else { looked_at };
        let command = Executed {
            spec,
            caller: self.caller,
            db,
            args,
        };
        let reply = &replies[reply_start..];
        meter.ran(id, is_light, outcome, counts, reply, &command);
        meter.tell(&command, depends_on, false);
        tell_events(&*self.shard.observer, &mut self.effects, depends_on);
        if self.caller.keeps(spec) {
            let keys_max = self.limits.tracking_table_max_keys;
            let count = self.shard.config.count;
            let shards = ShardSet::Many {
                count,
                shards: &mut self.boxes,
            };
            (self.caller).remember(spec, args, keys_max, shards, count);
        }
        drop(meter);
        self.tell_stale(depends_on);
        let mut shards = ShardSet::Many {
            count: self.shard.config.count,
            shards: &mut self.boxes,
        };
        waiting::collect_ready(&mut shards, &mut self.ready);
        (outcome, depends_on)
    }

    /// What is executed from here on is for this client.
    pub fn set_caller(&mut self, caller: Caller) {
        self.caller = caller;
    }

    /// Has the clients told whose copies of keys are stale.
    fn tell_stale(&mut self, depends_on: Lsn) {
        let in_hand = self.boxes.iter_mut().flatten();
        let stale = in_hand
            .filter(|data| data.tracking.has_stale())
            .map(|data| data.tracking.take_stale())
            .reduce(|mut all, more| {
                all.join(more);
                all
            });
        if let Some(stale) = stale {
            (self.shard.observer).stale(stale, self.caller.client, depends_on);
        }
    }

    /// What the command would wait for that was attempted last.
    pub fn take_wait(&mut self) -> Option<Box<Wait>> {
        self.effects.take_wait()
    }

    /// Serves those who wait for keys that have changed, behind everything that was executed.
    fn serve_waiting(&mut self) -> Vec<waiting::ServedReply> {
        self.effects.set_in_transaction(false);
        // What they wait for is none of the script's that fed them.
        self.effects.set_in_script(false);
        let mut hands = Hands {
            shards: ShardSet::Many {
                count: self.shard.config.count,
                shards: &mut self.boxes,
            },
            count: self.shard.config.count,
            now: self.now,
            effects: &mut self.effects,
            rng: &mut self.rng,
            limits: &self.limits,
            keep_expired: self.shard.keeps_expired(),
            observer: &*self.shard.observer,
        };
        waiting::serve(&mut hands, std::mem::take(&mut self.ready))
    }

    /// The shards in hand.
    #[must_use]
    pub fn mask(&self) -> ShardMask {
        let ids = self.all().map(|data| data.id);
        ids.fold(ShardMask::default(), ShardMask::with)
    }

    /// Before others run on this thread while the data is in hand: what the turn had before gets
    /// its LSN, and its replies can leave. To be called before each time, which costs nothing
    /// after the first.
    pub fn step_aside(&mut self) {
        if let Some(taken) = &mut self.taken
            && taken.aside.is_none()
        {
            let ended = self.effects.take_ended_units();
            self.shard.core.borrow_mut().effects = ended;
            taken.aside = Some(self.shard.end_turn());
            taken.was_clean = true;
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
    /// gives the data back. Returns the frame's end, or zero if nothing was written. What
    /// [`Shard::take`] gave joins the turn, whose end is not known yet: that is [`THIS_TURN`].
    pub fn commit(mut self) -> Lsn {
        self.issue_and_return()
    }

    /// Puts the data back into its place, and what was written into the turn.
    fn put_back(&mut self, taken: Taken) -> Lsn {
        let shard = Rc::clone(&self.shard);
        let place = shard.config.id.index();
        if self.boxes[place].is_none() {
            return Lsn::ZERO;
        }
        self.effects.set_in_transaction(false);
        self.effects.set_in_script(false);
        self.effects.end_unit();
        self.tell_stale(match self.effects.is_empty() {
            true => Lsn::ZERO,
            false => THIS_TURN,
        });
        let served = self.serve_waiting();
        self.caller = Caller::default();
        self.tell_stale(THIS_TURN);
        let wrote = !self.effects.is_empty();
        let mut data = self.boxes[place].take().expect("it was just seen");
        if let Some(end) = taken.aside
            && !wrote
        {
            data.dirty.seal(end);
        }
        shard.observer.data(&data);
        {
            let mut core = shard.core.borrow_mut();
            core.effects = std::mem::take(&mut self.effects);
            // The setting may have changed while others were let on.
            let classes = core.limits.notify_keyspace_events;
            core.effects.events.set_classes(classes);
            let previous = core.data.replace(data);
            assert!(previous.is_none(), "{} got its data twice", shard.config.id);
        }
        if taken.was_clean && wrote {
            shard.open_turn();
        }
        shard.answer(served);
        if taken.aside.is_some() {
            shard.came_home();
        }
        THIS_TURN
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
        if let Some(taken) = self.taken {
            return self.put_back(taken);
        }
        let in_hand = self.boxes[self.shard.config.id.index()].is_some();
        let mut end = Lsn::ZERO;
        let mut served = Vec::new();
        if in_hand {
            self.effects.end_unit();
            // What was changed by other means than a command.
            self.tell_stale(match self.effects.is_empty() {
                true => Lsn::ZERO,
                false => THIS_TURN,
            });
            served = self.serve_waiting();
            self.caller = Caller::default();
            self.tell_stale(THIS_TURN);
            #[cfg(feature = "break-borrow-order")]
            if crate::breach::is(crate::breach::Breach::EarlyReturn) {
                for data in self.boxes.iter_mut().filter_map(Option::take) {
                    let owner = self.shard.shared.directory.of(data.id);
                    owner.send_control(ControlMessage::Home(data, Lsn::ZERO));
                }
                crate::breach::dawdle();
            }
            if !self.effects.is_empty() {
                let payload = Bytes::from(self.effects.take());
                let mut core = self.shard.core.borrow_mut();
                end = self.shard.append(&mut core, FrameKind::Cross, payload);
            }
            // Before another shard executes on this data: monitors see one order per shard.
            self.shard.observer.show(end);
        }
        self.shard.answer_borrowed(served, end);
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
