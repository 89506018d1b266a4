//! Clients that wait for keys, and how they are served.
//!
//! Who finds nothing becomes a [`Waiter`] in the queues of its keys (`ShardData::waits`), in the same
//! step in which it found nothing. Every change of a key with a queue makes it *ready*; at the end
//! of the unit that changed it, before any other client's command runs, whoever holds the data
//! serves those who wait for it, in the order in which they began to wait. What one of them writes
//! is a unit of its own behind the unit that fed it, and may make other keys ready.
//!
//! Whether a waiter is served, times out, is unblocked or goes is decided once, under the lock of its
//! state: whoever finds it waiting there decides. The lock is held while the waiter's request is
//! tried, and never across anything that waits.
//!
//! A waiter may need a shard that is not in hand: the destination of BLMOVE. Then its connection gets
//! a *hint* and borrows what is needed, and those behind it wait with it.

use crate::batch::{BatchReply, Run};
use crate::caller::Caller;
use crate::gate::Ticket;
use crate::observer::Observer;
use crate::running::tell_events;
use crate::shard::{SessionId, Shard};
use bytes::Bytes;
use moon_commands::blocking::{self, Retried};
use moon_commands::context::{Counts, Origin};
use moon_commands::execute::Outcome;
use moon_commands::{CommandId, CommandSpec, Cx, Effects, Limits, ShardSet, by_id};
use moon_core::{Lsn, ShardCount, ShardId, UnixMs};
use moon_resp::{Args, OwnedArgs, Protocol, Reply};
use moon_store::{DbIndex, DbKey, Key, Kind, THIS_TURN, WaitOrder, Waiting};
use rand::rngs::SmallRng;
use std::any::Any;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use tokio::sync::Notify;

/// How a wait ended without being served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Its time was over.
    TimedOut,
    /// CLIENT UNBLOCK ended it as if its time were over.
    Unblocked,
    /// CLIENT UNBLOCK ended it with an error.
    UnblockedWithError,
    /// The connection has gone.
    Gone,
}

/// What has become of a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitState {
    /// Nothing yet.
    Waiting,
    /// There is something, but it needs shards that only its connection can borrow.
    Hinted,
    /// Its reply is on its way to the gate.
    Served,
    /// It ended without being served.
    Ended(Ending),
}

/// What is to be tried again for one that waits.
#[derive(Debug)]
pub struct WaitingRequest {
    /// The command.
    pub id: CommandId,
    /// Its arguments.
    pub args: OwnedArgs,
    /// Its database.
    pub db: DbIndex,
    /// How its reply is written.
    pub protocol: Protocol,
    /// The client.
    pub caller: Caller,
    /// Whether the client wants a reply (CLIENT REPLY).
    pub wants_reply: bool,
}

impl WaitingRequest {
    fn spec(&self) -> &'static CommandSpec {
        by_id(self.id)
    }
}

/// What is known of a wait when its command has been tried.
#[derive(Debug)]
pub struct Settled {
    /// For how long it waits, in milliseconds; zero for ever.
    pub timeout_ms: u64,
    /// What it shows that nothing was found.
    pub shown: Lsn,
    /// The arguments to try again, if they are not those that were sent.
    pub args: Option<OwnedArgs>,
}

/// A client that waits, for keys or for something else.
#[derive(Debug)]
pub struct Waiter {
    order: WaitOrder,
    home: ShardId,
    session: SessionId,
    ticket: Ticket,
    /// What is tried when a key is ready; `None` if it waits for no key.
    request: Option<WaitingRequest>,
    /// The shard that its request needs beside that of the ready key.
    needs: Option<ShardId>,
    settled: OnceLock<Settled>,
    state: Mutex<WaitState>,
    wake: Notify,
}

impl Waiting for Waiter {}

/// The next place in the order of all that wait.
static NEXT_ORDER: AtomicU64 = AtomicU64::new(0);

impl Waiter {
    /// One whose reply has the `ticket` of the connection `session` of the shard
    /// `home`. To be made with the data of all its keys in hand: its place in the order is
    /// that of this moment.
    #[must_use]
    pub fn new(
        home: ShardId,
        count: ShardCount,
        session: SessionId,
        ticket: Ticket,
        request: Option<WaitingRequest>,
    ) -> Arc<Waiter> {
        let needs = request.as_ref().and_then(|request| {
            let key = blocking::other_key(request.spec(), request.args.as_args())?;
            Some(count.shard_of_key(key))
        });
        Arc::new(Waiter {
            order: NEXT_ORDER.fetch_add(1, Ordering::Relaxed),
            home,
            session,
            ticket,
            request,
            needs,
            settled: OnceLock::new(),
            state: Mutex::new(WaitState::Waiting),
            wake: Notify::new(),
        })
    }

    /// Its place in the order of all that wait.
    #[must_use]
    pub fn order(&self) -> WaitOrder {
        self.order
    }

    /// Where its reply belongs.
    #[must_use]
    pub fn ticket(&self) -> Ticket {
        self.ticket
    }

    /// The shard that its request needs beside that of a ready key.
    #[must_use]
    pub fn needs(&self) -> Option<ShardId> {
        self.needs
    }

    /// Its command was tried and found nothing. Done once; where the arguments change, before
    /// anybody else can try it.
    pub fn settle(&self, settled: Settled) {
        let is_first = self.settled.set(settled).is_ok();
        debug_assert!(is_first, "a command that waits is tried first once");
    }

    /// What is known of it, once its command has been tried.
    #[must_use]
    pub fn settled(&self) -> Option<&Settled> {
        self.settled.get()
    }

    /// What has become of it.
    #[must_use]
    pub fn state(&self) -> WaitState {
        *self.lock()
    }

    /// Ends the wait; `false` if it has ended or been served already. Whoever ends it answers, or
    /// wakes the connection with [`Waiter::wake`], which does.
    #[must_use]
    pub fn end(&self, ending: Ending) -> bool {
        let mut state = self.lock();
        let waits = matches!(*state, WaitState::Waiting | WaitState::Hinted);
        if waits {
            *state = WaitState::Ended(ending);
        }
        waits
    }

    /// Its connection follows the hint.
    pub fn take_hint(&self) {
        let mut state = self.lock();
        if *state == WaitState::Hinted {
            *state = WaitState::Waiting;
        }
    }

    /// Wakes its connection.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// Returns when it was woken. For the one task of its connection.
    pub async fn woken(&self) {
        self.wake.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, WaitState> {
        // A panic aborts the process, so a poisoned lock is never seen.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What serving needs: the data in hand, and what execution changes beside it.
pub(crate) struct Hands<'a> {
    pub(crate) shards: ShardSet<'a>,
    pub(crate) count: ShardCount,
    pub(crate) now: UnixMs,
    pub(crate) effects: &'a mut Effects,
    pub(crate) rng: &'a mut SmallRng,
    pub(crate) limits: &'a Limits,
    pub(crate) keep_expired: bool,
    pub(crate) observer: &'a dyn Observer,
}

/// The reply to one that was served, and the shard of its connection.
pub(crate) struct ServedReply {
    pub(crate) to: ShardId,
    pub(crate) reply: BatchReply,
}

/// What looking at one that waits has shown.
enum Looked {
    /// It is in the queue for nothing any more.
    Over,
    /// There is nothing for it.
    Waits,
    /// It waits for data that its connection must borrow.
    Held,
}

/// Serves those who wait for the keys in `ready`, and for those that become ready by it, until no
/// key is ready.
pub(crate) fn serve(hands: &mut Hands<'_>, mut ready: VecDeque<DbKey>) -> Vec<ServedReply> {
    let mut replies = Vec::new();
    loop {
        collect_ready(&mut hands.shards, &mut ready);
        let Some((db, key)) = ready.pop_front() else {
            return replies;
        };
        for kind in [Kind::List, Kind::ZSet, Kind::Stream] {
            serve_queue(hands, db, &key, kind, &mut replies);
        }
    }
}

/// Moves the ready keys of all shards in hand behind `ready`.
pub(crate) fn collect_ready(shards: &mut ShardSet<'_>, ready: &mut VecDeque<DbKey>) {
    for data in shards.iter() {
        while let Some(key) = data.waits.take_ready() {
            ready.push_back(key);
        }
    }
}

/// Serves those who wait for `key` to hold a value of `kind`, as long as it does. Those who read a
/// stream as a group are told too when it does not any more.
fn serve_queue(
    hands: &mut Hands<'_>,
    db: DbIndex,
    key: &[u8],
    kind: Kind,
    replies: &mut Vec<ServedReply>,
) {
    let mut after = None;
    loop {
        let data = hands.shards.of_key(key);
        let holds_kind = blocking::live_kind(data, db, key, hands.now) == Some(kind);
        if !holds_kind && kind != Kind::Stream {
            return;
        }
        let Some((order, waiting)) = data.waits.next(db, key, kind, after) else {
            return;
        };
        after = Some(order);
        let waiter = (&*waiting as &dyn Any)
            .downcast_ref::<Waiter>()
            .expect("only this module puts anything into the queues");
        match look(hands, waiter, key, holds_kind, replies) {
            Looked::Over => hands.shards.of_key(key).waits.remove(db, key, order),
            Looked::Waits => {}
            Looked::Held => return,
        }
    }
}

fn look(
    hands: &mut Hands<'_>,
    waiter: &Waiter,
    key: &[u8],
    holds_kind: bool,
    replies: &mut Vec<ServedReply>,
) -> Looked {
    let mut state = waiter.lock();
    let Some(request) = &waiter.request else {
        return Looked::Over;
    };
    match *state {
        WaitState::Served | WaitState::Ended(_) => return Looked::Over,
        WaitState::Waiting | WaitState::Hinted => {}
    }
    if !holds_kind && !request.spec().is_write() {
        return Looked::Waits;
    }
    if let Some(needed) = waiter.needs
        && hands.shards.get(needed).is_none()
    {
        if *state == WaitState::Waiting {
            *state = WaitState::Hinted;
            waiter.wake();
        }
        return Looked::Held;
    }
    let settled = waiter.settled.get();
    let args = settled.and_then(|settled| settled.args.as_ref());
    let args = args.unwrap_or(&request.args).as_args();
    let Some((bytes, depends_on)) = retry(hands, request, args, key) else {
        return Looked::Waits;
    };
    *state = WaitState::Served;
    replies.push(waiter.reply(request, bytes, depends_on));
    Looked::Over
}

impl Waiter {
    /// A command that was sent here and not tried yet is answered with an error instead, unless its
    /// client waits no more.
    pub(crate) fn refuse(&self, text: &str) -> Option<(CommandId, ServedReply)> {
        let request = self.request.as_ref()?;
        let mut state = self.lock();
        if *state != WaitState::Waiting {
            return None;
        }
        *state = WaitState::Served;
        let mut out = Vec::new();
        Reply::new(&mut out, request.protocol).error(text);
        let reply = self.reply(request, out.into(), Lsn::ZERO);
        Some((request.id, reply))
    }

    fn reply(&self, request: &WaitingRequest, bytes: Bytes, depends_on: Lsn) -> ServedReply {
        let bytes = if request.wants_reply {
            bytes
        } else {
            Bytes::new()
        };
        let run = Run {
            ticket: self.ticket,
            end: bytes.len(),
            depends_on,
        };
        ServedReply {
            to: self.home,
            reply: BatchReply {
                session: self.session,
                bytes,
                runs: vec![run],
            },
        }
    }
}

impl Shard {
    /// Tries a command for the first time that a connection of another shard sent and whose keys
    /// are all here. If it finds nothing, it is in their queues when this returns.
    pub(crate) fn attempt(&self, waiter: &Arc<Waiter>) {
        let Some(request) = &waiter.request else {
            return;
        };
        let mut running = self
            .begin()
            .expect("the mailbox runs commands with the data at home");
        running.set_caller(request.caller);
        let mut state = waiter.lock();
        if *state != WaitState::Waiting {
            // Its client has gone meanwhile, or was unblocked.
            return;
        }
        let (spec, args, db) = (request.spec(), request.args.as_args(), request.db);
        let mut out = Vec::new();
        let (outcome, depends_on) =
            running.attempt(spec, request.id, args, db, request.protocol, &mut out);
        let wait = running.take_wait().filter(|_| outcome == Outcome::Waits);
        let Some(wait) = wait else {
            running.finish();
            *state = WaitState::Served;
            self.answer(vec![waiter.reply(request, out.into(), depends_on)]);
            return;
        };
        let sent = wait.request.as_ref().unwrap_or(&request.args).as_args();
        for key in blocking::waited_keys(spec, sent) {
            let (kind, waiting) = (blocking::kind_of(spec), Arc::clone(waiter) as _);
            running
                .data()
                .waits
                .add(db, key, kind, waiter.order, waiting);
        }
        running.finish();
        waiter.settle(Settled {
            timeout_ms: wait.timeout_ms,
            shown: match depends_on {
                THIS_TURN => self.end_turn(),
                lsn => lsn,
            },
            args: wait.request,
        });
        drop(state);
        waiter.wake();
    }
}

/// The reply and what it depends on, if there is one now.
fn retry(
    hands: &mut Hands<'_>,
    request: &WaitingRequest,
    args: Args<'_>,
    key: &[u8],
) -> Option<(Bytes, Lsn)> {
    let mut out = Vec::new();
    let mut cx = Cx {
        shards: hands.shards.reborrow(),
        shard_count: hands.count,
        db: request.db,
        now: hands.now,
        origin: Origin::Client,
        reply: Reply::new(&mut out, request.protocol),
        effects: hands.effects,
        depends_on: Lsn::ZERO,
        rng: hands.rng,
        limits: hands.limits,
        counts: Counts::default(),
        keep_expired: hands.keep_expired,
    };
    let before = cx.effects.len();
    // An error shows how the key is, as a reply does.
    let seen = {
        let key = Key::new(key);
        let (db, shard) = (cx.db, cx.shard(key));
        shard.dirty.dependency(db, key.hash)
    };
    let retried = blocking::retry(&mut cx, request.spec(), args, key);
    let depends_on = if cx.effects.len() == before {
        cx.depends_on.max(seen)
    } else {
        THIS_TURN
    };
    let counts = cx.counts;
    hands.observer.counts(counts);
    tell_events(hands.observer, hands.effects, depends_on);
    if retried == Retried::Answered && request.caller.keeps(request.spec()) {
        let keys_max = hands.limits.tracking_table_max_keys;
        let data = hands.shards.of_key(key);
        (request.caller).remember_key(Key::new(key), keys_max, data, hands.count);
    }
    (retried == Retried::Answered).then(|| (Bytes::from(out), depends_on))
}
