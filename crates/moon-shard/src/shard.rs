//! One shard on its thread: execution, turns, commit.
//!
//! A *turn* is what the shard executes before its committer runs. Commands append their effects
//! to the turn; ending it makes one frame, one issue and one write, and the replies that depend
//! on it wait in their gates until `committed` passes the frame's end.

use crate::gate::Gate;
use crate::mailbox::Directory;
use crate::memory::{Budget, Memory, inflight_bytes_max};
use crate::misconf::{FailingLogs, Misconf};
use crate::observer::{Executed, Observer};
use crate::pause::Pause;
use crate::replies::TurnReply;
use crate::running::{Meter, Running, tell_events};
use bytes::{Bytes, BytesMut};
use foldhash::fast::FixedState;
use moon_commands::{Effects, Limits, expire_cycle};
use moon_core::{Lsn, ShardCount, ShardId, UnixMs};
use moon_repl::{Clock, CommitLog, FrameKind};
use moon_store::{ShardData, THIS_TURN};
use rand::rngs::SmallRng;
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::Notify;

/// Names a connection on its shard.
pub type SessionId = u64;

/// A connection, as its shard sees it.
pub trait Session {
    /// Its id.
    fn id(&self) -> SessionId;
    /// Its replies. Never borrowed across a call into the shard.
    fn gate(&self) -> &RefCell<Gate>;
    /// The gate has opened further, or a reply came from another shard: send what may leave.
    fn progressed(&self);
    /// Bytes of all that it holds.
    fn memory(&self) -> u64 {
        self.gate().borrow().sizes().memory() as u64
    }
}

/// What does not change while the shard runs.
#[derive(Clone, Copy, Debug)]
pub struct ShardConfig {
    /// This shard.
    pub id: ShardId,
    /// All shards.
    pub count: ShardCount,
    /// Bound on bytes executed and not yet safe, held replies included.
    pub inflight_bytes_max: usize,
}

/// What all shards of an instance share.
#[derive(Clone)]
pub struct Shared {
    /// Everyone's mailbox.
    pub directory: Directory,
    /// The clock of the history.
    pub clock: Arc<Clock>,
    /// The shards whose logs cannot take writes.
    pub failing_logs: Arc<FailingLogs>,
    /// What all shards know about memory.
    pub memory: Arc<Memory>,
    /// Whether clients are paused.
    pub pause: Arc<Pause>,
}

/// What execution changes.
pub(crate) struct Core {
    /// `None` while it is lent.
    pub(crate) data: Option<Box<ShardData>>,
    pub(crate) log: Box<dyn CommitLog>,
    pub(crate) effects: Effects,
    pub(crate) rng: SmallRng,
    pub(crate) limits: Arc<Limits>,
    frame_memory: BytesMut,
}

/// A payload up to this size is copied into memory that frames share, so that a turn allocates
/// nothing; a larger one becomes its frame's own.
pub(crate) const SHARED_PAYLOAD_MAX: usize = 256 << 10;
/// Memory that frames share, allocated at once: for two large payloads. Every shard has as much.
const FRAME_MEMORY: usize = 2 * SHARED_PAYLOAD_MAX;

impl Core {
    /// The effects of the turn as the payload of a frame.
    fn take_payload(&mut self) -> Bytes {
        let payload = self.effects.payload();
        if payload.len() > SHARED_PAYLOAD_MAX {
            return Bytes::from(self.effects.take());
        }
        // Takes the old memory again if no frame uses it any more.
        if self.frame_memory.capacity() < payload.len() {
            self.frame_memory.reserve(FRAME_MEMORY);
        }
        self.frame_memory.extend_from_slice(payload);
        self.effects.clear();
        self.frame_memory.split().freeze()
    }

    pub(crate) fn rng_mut(&mut self) -> &mut SmallRng {
        &mut self.rng
    }

    pub(crate) fn limits(&self) -> Arc<Limits> {
        Arc::clone(&self.limits)
    }
}

/// One shard. Lives on its thread; everything here happens between two awaits.
pub struct Shard {
    pub(crate) config: ShardConfig,
    pub(crate) shared: Shared,
    pub(crate) core: RefCell<Core>,
    pub(crate) observer: Rc<dyn Observer>,
    /// Wakes the committer: a turn has begun, or `committed` has passed what was waited for.
    pub(crate) committer: Arc<Notify>,
    /// The data came home, or there is room again.
    pub(crate) moved: Notify,
    /// Whoever waits for data looks again whether to go on waiting.
    pub(crate) looked: Notify,
    /// A walk has encoded something.
    pub(crate) walked: Notify,
    /// Wakes the evictor: memory has run out.
    pub(crate) evictor: Notify,
    pub(crate) budget: Budget,
    committer_woken: Cell<bool>,
    pub(crate) sessions: RefCell<HashMap<SessionId, Rc<dyn Session>, FixedState>>,
    turn_sessions: RefCell<Vec<Rc<dyn Session>>>,
    pub(crate) turn_replies: RefCell<Vec<TurnReply>>,
    /// Sessions whose first held reply waits for this LSN, in order.
    waiting: RefCell<VecDeque<(Lsn, Rc<dyn Session>)>>,
    held_bytes: Cell<usize>,
    /// The bound in force on bytes executed and not yet safe.
    inflight_bytes_max: Cell<usize>,
    /// Somebody was told that there is no room, and waits for it.
    starved: Cell<bool>,
    last_end: Cell<Lsn>,
    /// Whether the mailbox was woken before the connections when there was room last.
    others_first: Cell<bool>,
    /// Whether the mailbox holds back a batch until the walk has encoded its values.
    pub(crate) parked: Cell<bool>,
    /// Whether keys that nobody asks for are removed when their deadline has passed.
    expires: Cell<bool>,
    /// Size of the last batch's replies, a guess at the next one's.
    pub(crate) batch_reply_bytes: Cell<usize>,
    /// The second that the data's access clock stands at.
    clock_second: Cell<u64>,
}

/// No clock has stood at this second.
const NO_SECOND: u64 = u64::MAX;

impl Shard {
    /// A shard with its data at home.
    pub(crate) fn new(
        config: ShardConfig,
        shared: Shared,
        mut data: Box<ShardData>,
        log: Box<dyn CommitLog>,
        limits: Arc<Limits>,
        rng: SmallRng,
        observer: Rc<dyn Observer>,
    ) -> Rc<Shard> {
        data.free_lazily(true);
        let committer = Arc::new(Notify::new());
        let waker = Arc::clone(&committer);
        shared
            .clock
            .set_waker(config.id, Arc::new(move || waker.notify_one()));
        let mut effects = Effects::default();
        effects.events.set_classes(limits.notify_keyspace_events);
        let core = Core {
            data: Some(data),
            log,
            effects,
            rng,
            limits,
            frame_memory: BytesMut::new(),
        };
        let shard = Rc::new(Shard {
            config,
            shared,
            core: RefCell::new(core),
            observer,
            committer,
            moved: Notify::new(),
            looked: Notify::new(),
            walked: Notify::new(),
            evictor: Notify::new(),
            budget: Budget::default(),
            committer_woken: Cell::new(false),
            sessions: RefCell::default(),
            turn_sessions: RefCell::default(),
            turn_replies: RefCell::default(),
            waiting: RefCell::default(),
            held_bytes: Cell::new(0),
            inflight_bytes_max: Cell::new(config.inflight_bytes_max),
            starved: Cell::new(false),
            last_end: Cell::new(Lsn::ZERO),
            others_first: Cell::new(false),
            parked: Cell::new(false),
            expires: Cell::new(true),
            batch_reply_bytes: Cell::new(0),
            clock_second: Cell::new(NO_SECOND),
        });
        let limits = Arc::clone(&shard.core.borrow().limits);
        shard.bound_inflight(&limits);
        shard
    }

    /// This shard.
    #[must_use]
    pub fn id(&self) -> ShardId {
        self.config.id
    }

    /// All shards.
    #[must_use]
    pub fn count(&self) -> ShardCount {
        self.config.count
    }

    /// Everyone's mailbox.
    #[must_use]
    pub fn directory(&self) -> &Directory {
        &self.shared.directory
    }

    /// The clock of the history.
    #[must_use]
    pub fn clock(&self) -> &Arc<Clock> {
        &self.shared.clock
    }

    /// Replaces the limits that CONFIG SET has changed.
    pub fn set_limits(&self, limits: Arc<Limits>) {
        self.bound_inflight(&limits);
        let mut core = self.core.borrow_mut();
        (core.effects.events).set_classes(limits.notify_keyspace_events);
        core.limits = limits;
        // The policy decides how uses of keys are remembered.
        self.clock_second.set(NO_SECOND);
    }

    fn bound_inflight(&self, limits: &Limits) {
        let configured = self.config.inflight_bytes_max as u64;
        let max = inflight_bytes_max(configured, limits.maxmemory, self.config.count);
        self.inflight_bytes_max
            .set(usize::try_from(max).unwrap_or(usize::MAX));
    }

    /// Bytes that the connections here hold. Each of them is asked.
    #[must_use]
    pub fn client_bytes(&self) -> u64 {
        let sessions = self.sessions.borrow();
        sessions.values().map(|session| session.memory()).sum()
    }

    /// Enters a connection, so that replies of other shards find it.
    pub fn add_session(&self, session: Rc<dyn Session>) {
        self.sessions.borrow_mut().insert(session.id(), session);
    }

    /// Forgets a connection. What it has executed stays executed.
    pub fn remove_session(&self, session: &dyn Session) {
        let mut gate = session.gate().borrow_mut();
        self.held_bytes.set(self.held_bytes.get() - gate.abandon());
        if gate.is_registered() {
            // A stuck disk must not collect connections that came and went.
            let mut waiting = self.waiting.borrow_mut();
            waiting.retain(|(_, other)| other.id() != session.id());
            gate.unregister();
        }
        drop(gate);
        self.sessions.borrow_mut().remove(&session.id());
        self.notice_room();
    }

    /// Whether data commands can run now: the data is at home.
    #[inline]
    #[must_use]
    pub fn is_home(&self) -> bool {
        self.core.borrow().data.is_some()
    }

    /// Whether more may be executed: the bytes executed here and not yet safe are below the
    /// bound. One item larger than the bound is admitted alone.
    #[must_use]
    pub fn has_room(&self) -> bool {
        let (own, images) = self.inflight();
        // The narrower bound of a memory limit is not for images: a walk rests by itself.
        let has_room = own < self.inflight_bytes_max.get()
            && own.saturating_add(images) < self.config.inflight_bytes_max;
        if !has_room {
            self.starved.set(true);
        }
        has_room
    }

    /// Bytes executed and not yet safe, held replies included, and what a walk has encoded and not
    /// sent.
    #[must_use]
    pub fn inflight_bytes(&self) -> u64 {
        let (own, images) = self.inflight();
        (own + images) as u64
    }

    /// The same in two parts, the second being what a walk has encoded.
    fn inflight(&self) -> (usize, usize) {
        let core = self.core.borrow();
        let images = core.data.as_ref().map_or(0, |data| data.image_bytes());
        let at_risk = usize::try_from(core.log.bytes_at_risk()).unwrap_or(usize::MAX);
        (at_risk.saturating_add(self.held_bytes.get()), images)
    }

    /// Runs `visit` with the data, as soon as it is at home.
    pub(crate) async fn with_data<R>(&self, visit: impl FnOnce(&mut ShardData) -> R) -> R {
        loop {
            let moved = self.moved.notified();
            if let Some(data) = &mut self.core.borrow_mut().data {
                return visit(data);
            }
            moved.await;
        }
    }

    /// A walk has encoded or sent something, or is over: there may be room, and a write that
    /// waited for its value may go on.
    pub(crate) fn walk_moved(&self) {
        self.notice_room();
        self.walked.notify_waiters();
        if self.parked.get() {
            self.shared.directory.of(self.config.id).nudge();
        }
    }

    /// Waits until the data is at home and there is room.
    pub async fn ready(&self) {
        loop {
            let moved = self.moved.notified();
            if self.is_home() && self.has_room() {
                return;
            }
            moved.await;
        }
    }

    /// As [`Shard::ready`], unless `give_up` says so first: it is asked again after
    /// [`Shard::look_again`]. Whether it is ready.
    pub async fn ready_unless(&self, give_up: impl Fn() -> bool) -> bool {
        loop {
            let moved = self.moved.notified();
            if give_up() {
                return false;
            }
            if self.is_home() && self.has_room() {
                return true;
            }
            moved.await;
        }
    }

    /// Whoever waits for the data looks again whether to go on waiting.
    pub fn look_again(&self) {
        self.looked.notify_waiters();
        self.moved.notify_waiters();
    }

    /// The data is back in its place after others ran without it.
    pub(crate) fn came_home(&self) {
        self.moved.notify_waiters();
        self.shared.directory.of(self.config.id).nudge();
    }

    /// The error with which a write must be refused now, if the log cannot take it or the last
    /// snapshot failed.
    #[inline]
    #[must_use]
    pub fn refuses_writes(&self) -> Option<Misconf> {
        self.shared.failing_logs.refusal()
    }

    /// Whether a log fails, so that nothing may be deleted that only its time has come for, and
    /// what shows data may have to wait.
    #[inline]
    #[must_use]
    pub fn log_fails(&self) -> bool {
        self.shared.failing_logs.any()
    }

    /// Starts to execute commands here; `None` while the data is away.
    #[inline]
    #[must_use]
    pub fn begin(&self) -> Option<Running<'_>> {
        let mut core = self.core.borrow_mut();
        let Core { data, limits, .. } = &mut *core;
        let data = data.as_mut()?;
        let now = unix_now();
        let second = u64::try_from(now.0 / 1000).unwrap_or(0);
        if self.clock_second.replace(second) != second {
            data.set_access(limits.access_rule(now));
        }
        let refuses_writes = self.refuses_writes();
        let meter = Meter::new(&*self.observer);
        Some(Running::new(self, core, now, refuses_writes, meter))
    }

    /// Notes that `session` holds replies of the turn in progress.
    pub fn join_turn(&self, session: &Rc<dyn Session>) {
        if session.gate().borrow_mut().join_turn() {
            self.turn_sessions.borrow_mut().push(Rc::clone(session));
        }
    }

    /// Wakes the committer, once per turn.
    #[inline]
    pub(crate) fn open_turn(&self) {
        if !self.committer_woken.replace(true) {
            self.committer.notify_one();
        }
    }

    /// Ends the turn: its effects become a frame, and what waited for it gets its LSN. Returns
    /// the end of the last frame of this shard.
    pub fn end_turn(&self) -> Lsn {
        self.committer_woken.set(false);
        let end = {
            let mut core = self.core.borrow_mut();
            if core.effects.is_empty() {
                self.last_end.get()
            } else {
                let payload = core.take_payload();
                // What was changed by other means than a command: keys that expired, say.
                if let Some(data) = core.data.as_mut().filter(|data| data.tracking.has_stale()) {
                    self.observer
                        .stale(data.tracking.take_stale(), 0, THIS_TURN);
                }
                let end = self.append(&mut core, FrameKind::Own, payload);
                // Who has taken the data out of its place seals it when it comes back.
                if let Some(data) = core.data.as_mut() {
                    data.dirty.seal(end);
                    self.observer.data(data);
                    self.publish_memory(data);
                    self.free(data.garbage());
                }
                end
            }
        };
        // Before the data may be lent: monitors see one order per shard.
        self.observer.show(end);
        self.send_turn_replies(end);
        let sessions = std::mem::take(&mut *self.turn_sessions.borrow_mut());
        for session in &sessions {
            session.gate().borrow_mut().resolve_turn(end);
            self.settle(session);
        }
        let mut emptied = sessions;
        emptied.clear();
        let mut slot = self.turn_sessions.borrow_mut();
        if slot.is_empty() {
            *slot = emptied;
        }
        end
    }

    /// Adds a frame to the history.
    pub(crate) fn append(&self, core: &mut Core, kind: FrameKind, payload: Bytes) -> Lsn {
        let bytes = payload.len();
        let end = core.log.append(kind, payload, unix_now());
        self.note_health(&*core.log);
        self.last_end.set(end);
        self.observer.frame(bytes, end);
        end
    }

    fn note_health(&self, log: &dyn CommitLog) {
        let failing = &self.shared.failing_logs;
        failing.note(self.config.id, log.health(), log.cause());
    }

    /// Lets out what `session` may send, and remembers what it waits for otherwise.
    pub fn settle(&self, session: &Rc<dyn Session>) {
        let removed = {
            let mut gate = session.gate().borrow_mut();
            let waits_for = gate.advance(self.shared.clock.committed());
            let (added, removed) = gate.account();
            self.held_bytes.set(self.held_bytes.get() + added - removed);
            if let Some(lsn) = waits_for.filter(|lsn| *lsn != THIS_TURN)
                && gate.register(lsn)
            {
                drop(gate);
                self.wait(lsn, Rc::clone(session));
            }
            removed
        };
        if removed > 0 {
            self.notice_room();
        }
        session.progressed();
    }

    fn wait(&self, lsn: Lsn, session: Rc<dyn Session>) {
        let mut waiting = self.waiting.borrow_mut();
        // Ends grow, so the place is nearly always at the back.
        let at = waiting
            .iter()
            .rposition(|(other, _)| *other <= lsn)
            .map_or(0, |i| i + 1);
        waiting.insert(at, (lsn, session));
        if at == 0 {
            let target = lsn;
            drop(waiting);
            if self.shared.clock.wait_for(self.config.id, target) >= target {
                self.committer.notify_one();
            }
        }
    }

    /// Opens the gates that `committed` has passed.
    pub(crate) fn open_gates(&self) {
        loop {
            let committed = self.shared.clock.committed();
            loop {
                let session = {
                    let mut waiting = self.waiting.borrow_mut();
                    match waiting.front() {
                        Some((lsn, _)) if *lsn <= committed => waiting.pop_front().map(|(_, s)| s),
                        _ => None,
                    }
                };
                let Some(session) = session else { break };
                session.gate().borrow_mut().unregister();
                self.settle(&session);
            }
            let front = self.waiting.borrow().front().map(|(lsn, _)| *lsn);
            match front {
                Some(target) if self.shared.clock.wait_for(self.config.id, target) >= target => {}
                _ => break,
            }
        }
        if let Some(data) = &mut self.core.borrow_mut().data {
            data.dirty.committed(self.shared.clock.committed());
        }
        self.notice_room();
    }

    /// Wakes whoever waits for room, if there is some.
    fn notice_room(&self) {
        if self.starved.get() && self.has_room() {
            self.starved.set(false);
            // Who is woken first takes room first: the others' commands and the shard's own
            // connections in turn.
            let others_first = !self.others_first.get();
            self.others_first.set(others_first);
            if others_first {
                self.shared.directory.of(self.config.id).nudge();
            }
            self.moved.notify_waiters();
            if !others_first {
                self.shared.directory.of(self.config.id).nudge();
            }
        }
    }

    /// The data came home.
    pub(crate) fn take_home(&self, mut data: Box<ShardData>, end: Lsn) {
        data.dirty.committed(self.shared.clock.committed());
        self.observer.data(&data);
        self.free(data.garbage());
        let previous = self.core.borrow_mut().data.replace(data);
        assert!(previous.is_none(), "{} got its data twice", self.config.id);
        // What was told meanwhile is of commands without data.
        self.observer.show(Lsn::ZERO);
        self.last_end.set(self.last_end.get().max(end));
        self.moved.notify_waiters();
    }

    /// Serves those who wait for keys that have changed other than by a command here. Does
    /// nothing while the data is away: whoever has it serves them.
    pub(crate) fn serve_waiting(&self) {
        let core = self.core.borrow();
        let data = core.data.as_ref();
        let has_ready = data.is_some_and(|data| data.waits.has_ready());
        drop(core);
        if has_ready && let Some(mut running) = self.begin() {
            running.serve_waiting();
        }
    }

    /// A command that needs no data has run on this thread: tells whoever wants to see each. What
    /// is told is shown with [`Shard::show`], or with what is executed next.
    pub fn executed(&self, command: &Executed<'_>) {
        if self.observer.watch().is_monitored {
            self.observer.executed(command, Lsn::ZERO);
        }
    }

    /// Lets monitors see what was told, unless a turn is in progress or an executor has the data:
    /// then its end does.
    pub fn show(&self) {
        let core = self.core.borrow();
        if core.data.is_some() && core.effects.is_empty() {
            drop(core);
            self.observer.show(Lsn::ZERO);
        }
    }

    /// Whoever observes this shard, to be told of what is not executed here.
    #[must_use]
    pub fn observer(&self) -> &dyn Observer {
        &*self.observer
    }

    /// Begins or ends the removal of expired keys that nobody asks for. Off, they stay in memory
    /// and are still never shown; for tests of clients.
    pub fn set_active_expire(&self, on: bool) {
        self.expires.set(on);
    }

    /// Removes keys and fields of hashes whose deadline has passed, for at most `budget`. Returns
    /// whether it ran out
    /// of time, so that there is more to do. Does nothing while the data is away or the log
    /// cannot take the deletions.
    pub(crate) fn expire(&self, budget: std::time::Duration) -> bool {
        if !self.expires.get() || self.keeps_expired() || !self.has_room() {
            return false;
        }
        let started = Instant::now();
        let stats = {
            let mut core = self.core.borrow_mut();
            let Core {
                data: Some(data),
                effects,
                ..
            } = &mut *core
            else {
                return false;
            };
            let mut is_over = || started.elapsed() >= budget;
            let stats = expire_cycle(data, unix_now(), effects, &mut is_over);
            tell_events(&*self.observer, effects, THIS_TURN);
            stats
        };
        self.observer.expire_cycle(started.elapsed());
        if stats.expired + stats.expired_fields > 0 {
            self.observer.expired(stats.expired, stats.expired_fields);
            self.open_turn();
            self.serve_waiting();
        }
        stats.out_of_time
    }

    /// What the log does now and then.
    pub(crate) fn tick(&self) {
        {
            let mut core = self.core.borrow_mut();
            core.log.tick(unix_now());
            self.note_health(&*core.log);
        }
        // A pause that nobody looks at ends here.
        let _in_force = self.pause().in_force(Instant::now());
        self.tick_memory();
        self.open_gates();
    }

    /// Whether nothing here waits: no turn in progress, no held reply, the data at home.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        let core = self.core.borrow();
        core.data.is_some() && core.effects.is_empty() && self.waiting.borrow().is_empty()
    }
}

/// The wall clock, read at the edge.
#[must_use]
pub fn unix_now() -> UnixMs {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    UnixMs(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
