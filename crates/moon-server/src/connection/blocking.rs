//! Commands that wait: BLPOP and its kin, XREAD BLOCK, WAIT, WAITAOF.
//!
//! The command is tried like any other. If it finds nothing, the connection enters the queues of its
//! keys in the same step, and executes nothing more until the wait is over, so that the reply is the
//! last in its gate; what is pushed to the client meanwhile leaves at once. Who changes a key serves those who wait for it (`moon_shard::waiting`); here are the
//! ways in which a wait ends otherwise: its time is over, CLIENT UNBLOCK, CLIENT KILL, the client goes
//! away. To notice the last, the connection goes on reading; what comes is executed after the wait.

use super::busy;
use super::pause;
use super::pipeline::{Close, Connection};
use super::session::ReplyMode;
use crate::clients::ClientHandle;
use moon_commands::blocking::{self as rules, Wait};
use moon_commands::error::CommandError;
use moon_commands::evict::OUT_OF_MEMORY;
use moon_commands::execute::Outcome;
use moon_commands::{CommandId, CommandSpec, Flags, by_id, parse};
use moon_core::{Lsn, ShardId};
use moon_resp::{Args, OwnedArgs, Reply};
use moon_shard::mailbox::DataMessage;
use moon_shard::shard::unix_now;
use moon_shard::{Ending, Session as _, Settled, ShardMask, WaitState, Waiter, WaitingRequest};
use moon_store::{DbKey, THIS_TURN};
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// What a connection that waits reads ahead. Beyond it, the rest stays in the socket, and that the
/// client has gone is noticed only when the wait is over.
const READ_AHEAD_MAX: usize = 1 << 20;

/// How often WAITAOF looks at the durable mark: first, and then less and less often.
const MARK_PAUSE_MIN: Duration = Duration::from_millis(1);
const MARK_PAUSE_MAX: Duration = Duration::from_millis(64);

const UNBLOCKED: &str = "UNBLOCKED client unblocked via CLIENT UNBLOCK";

/// The wait of a connection.
pub(super) struct Blocked {
    waiter: Arc<Waiter>,
    /// When it began. Its end counts from then, and is known once the waiter is settled.
    since: Instant,
    wants_reply: bool,
    on: On,
}

impl Blocked {
    /// When its time is over; `None` for never, or as long as that is not known.
    fn until(&self) -> Option<Instant> {
        let timeout_ms = match &self.on {
            On::Keys(_) => self.waiter.settled()?.timeout_ms,
            On::Safe(safety) => safety.timeout_ms,
        };
        let timeout = Some(timeout_ms).filter(|timeout| *timeout > 0)?;
        self.since.checked_add(Duration::from_millis(timeout))
    }
}

/// What a connection waits for.
enum On {
    /// Keys, in whose queues it is, or will be as soon as another shard has tried the command.
    Keys(Vec<DbKey>),
    /// What was written is safe, here or elsewhere.
    Safe(Safety),
}

/// What WAIT and WAITAOF ask for.
#[derive(Clone, Copy)]
struct Safety {
    /// Whether it is WAITAOF, which answers about this server too.
    counts_local: bool,
    /// Whether it must be synced here.
    needs_local: bool,
    /// On how many replicas it must be.
    replicas: i64,
    timeout_ms: u64,
    /// Everything below was written before.
    target: Lsn,
}

impl Safety {
    /// The arguments of WAIT or WAITAOF, whose arity was checked.
    fn parse(name: &str, args: Args<'_>) -> Result<Safety, CommandError> {
        let now = unix_now();
        let counts_local = name == "waitaof";
        let (needs_local, replicas, timeout) = if counts_local {
            let local = parse::integer_between(args.at(1), 0, 1)?;
            let positive = "ERR value is out of range, must be positive";
            let replicas = parse::at_least(0, args.at(2), positive)?;
            let replicas = i64::try_from(replicas).unwrap_or(i64::MAX);
            (local == 1, replicas, args.at(3))
        } else {
            (false, parse::integer(args.at(1))?, args.at(2))
        };
        Ok(Safety {
            counts_local,
            needs_local,
            replicas,
            timeout_ms: rules::milliseconds(timeout, now)?,
            target: Lsn::ZERO,
        })
    }

    /// There are no replicas, so that nobody has what was written but this server.
    fn is_reached(&self, durable: Lsn) -> bool {
        self.replicas <= 0 && (!self.needs_local || durable >= self.target)
    }

    fn write(&self, durable: Lsn, reply: &mut Reply<'_>) {
        if self.counts_local {
            reply.array(2);
            reply.integer(i64::from(durable >= self.target));
        }
        reply.integer(0);
    }
}

/// Runs a command that may wait for keys. If it does, the connection is blocked when this returns.
pub(super) async fn run(
    connection: &mut Connection,
    spec: &'static CommandSpec,
    id: CommandId,
    args: Args<'_>,
) -> Result<(), Close> {
    // Its reply is the only one that is awaited then.
    connection.barrier().await?;
    pause::wait(connection, pause::writes(spec)).await?;
    let mask = connection.shards_of(spec, args);
    let own = ShardMask::default().with(connection.shard.id());
    if mask.is_empty() || mask == own {
        match pause::ready(connection, pause::writes(spec)).await? {
            Ok(()) => run_here(connection, spec, id, args),
            Err(busy) => refuse(connection, id, busy.0),
        }
        return Ok(());
    }
    if let Some(other) = mask.single()
        && !connection.server.strict_order()
    {
        run_there(connection, other, spec, id, args);
        return Ok(());
    }
    if let Some(misconf) = super::commands::refuses(connection, spec) {
        refuse(connection, id, &misconf.to_string());
    } else if spec.flags.contains(Flags::DENYOOM) && !connection.shard.has_memory() {
        refuse(connection, id, OUT_OF_MEMORY);
    } else {
        run_borrowed(connection, mask, spec, id, args).await;
    }
    Ok(())
}

fn refuse(connection: &mut Connection, id: CommandId, text: &str) {
    let shard = &connection.shard;
    connection.server.note_refusal(shard, Some(id), text);
    connection.write_reply(|reply| reply.error(text));
}

fn run_here(
    connection: &mut Connection,
    spec: &'static CommandSpec,
    id: CommandId,
    args: Args<'_>,
) {
    let shard = Rc::clone(&connection.shard);
    let mut running = shard
        .begin()
        .expect("the data was home and nothing awaited since");
    let mut reply = Vec::new();
    let (db, protocol) = (connection.state.db, connection.state.protocol);
    running.set_caller(connection.caller());
    let (outcome, depends_on) = running.attempt(spec, id, args, db, protocol, &mut reply);
    let wait = running.take_wait().filter(|_| outcome == Outcome::Waits);
    let Some(mut wait) = wait else {
        running.finish();
        connection.write_dependent_reply(depends_on, |out| out.raw(&reply));
        return;
    };
    let (blocked, keys) = begin(connection, spec, id, args, wait.request.take());
    for (db, key) in &keys {
        let waiter = Arc::clone(&blocked.waiter) as _;
        let (kind, order) = (rules::kind_of(spec), blocked.waiter.order());
        running.data().waits.add(*db, key, kind, order, waiter);
    }
    running.finish();
    let shown = match depends_on {
        THIS_TURN => shard.end_turn(),
        lsn => lsn,
    };
    settle(connection, blocked, keys, &wait, shown);
}

/// All keys are on another shard, which tries the command and puts it into their queues.
fn run_there(
    connection: &mut Connection,
    other: ShardId,
    spec: &'static CommandSpec,
    id: CommandId,
    args: Args<'_>,
) {
    let (mut blocked, keys) = begin(connection, spec, id, args, None);
    let mailbox = connection.shard.directory().of(other);
    mailbox.send_data(DataMessage::Attempt(Arc::clone(&blocked.waiter)));
    blocked.on = On::Keys(keys);
    connection.blocked = Some(blocked);
}

async fn run_borrowed(
    connection: &mut Connection,
    mask: ShardMask,
    spec: &'static CommandSpec,
    id: CommandId,
    args: Args<'_>,
) {
    let mut borrowed = match busy::borrow(connection, mask).await {
        Ok(borrowed) => borrowed,
        Err(busy) => return refuse(connection, id, busy.0),
    };
    let mut reply = Vec::new();
    let (db, protocol) = (connection.state.db, connection.state.protocol);
    borrowed.set_caller(connection.caller());
    let (outcome, depends_on) = borrowed.attempt(spec, id, args, db, protocol, &mut reply);
    let wait = borrowed.take_wait().filter(|_| outcome == Outcome::Waits);
    let resolved = |end| match depends_on {
        THIS_TURN => end,
        lsn => lsn,
    };
    let Some(mut wait) = wait else {
        let end = borrowed.commit();
        connection.write_dependent_reply(resolved(end), |out| out.raw(&reply));
        connection.flush();
        return;
    };
    let (blocked, keys) = begin(connection, spec, id, args, wait.request.take());
    for (db, key) in &keys {
        let owner = connection.shard.count().shard_of_key(key);
        let waiter = Arc::clone(&blocked.waiter) as _;
        if let Some(data) = borrowed.data(owner) {
            let (kind, order) = (rules::kind_of(spec), blocked.waiter.order());
            data.waits.add(*db, key, kind, order, waiter);
        }
    }
    let shown = resolved(borrowed.commit());
    settle(connection, blocked, keys, &wait, shown);
}

/// The command is in the queues of `keys`: from here on the connection is blocked.
fn settle(
    connection: &mut Connection,
    mut blocked: Blocked,
    keys: Vec<DbKey>,
    wait: &Wait,
    shown: Lsn,
) {
    blocked.waiter.settle(Settled {
        timeout_ms: wait.timeout_ms,
        shown,
        args: None,
    });
    blocked.on = On::Keys(keys);
    connection.blocked = Some(blocked);
}

/// Makes a place for the reply, and the waiter, which is in no queue yet. `again` is what is to be
/// tried again, if it is not what was sent.
fn begin(
    connection: &Connection,
    spec: &CommandSpec,
    id: CommandId,
    args: Args<'_>,
    again: Option<OwnedArgs>,
) -> (Blocked, Vec<DbKey>) {
    let db = connection.state.db;
    let keys = rules::waited_keys(spec, args);
    let keys: Vec<DbKey> = keys.into_iter().map(|key| (db, key.into())).collect();
    let wants_reply = connection.state.reply_mode == ReplyMode::On;
    let request = WaitingRequest {
        id,
        args: again.unwrap_or_else(|| args.into()),
        db,
        protocol: connection.state.protocol,
        caller: connection.caller(),
        wants_reply,
    };
    (block(connection, Some(request)), keys)
}

fn block(connection: &Connection, request: Option<WaitingRequest>) -> Blocked {
    let ticket = connection.outlet.gate().borrow_mut().reserve_last();
    let (home, count) = (connection.shard.id(), connection.shard.count());
    let waiter = Waiter::new(home, count, connection.outlet.id(), ticket, request);
    Blocked {
        waiter,
        since: Instant::now(),
        wants_reply: connection.state.reply_mode == ReplyMode::On,
        on: On::Keys(Vec::new()),
    }
}

/// Runs WAIT or WAITAOF. If it waits, the connection is blocked when this returns.
pub(super) async fn run_wait(
    connection: &mut Connection,
    id: CommandId,
    args: Args<'_>,
) -> Result<(), Close> {
    connection.barrier().await?;
    let started = std::time::Instant::now();
    let parsed = asked(connection, by_id(id).name, args);
    let failed = parsed.as_ref().err().cloned();
    let server = &connection.server;
    server.note_command(&connection.shard, id, started.elapsed(), failed);
    let durable = connection.shard.clock().durable();
    match parsed {
        Err(text) => connection.write_reply(|reply| reply.error(&text)),
        Ok(safety) if safety.is_reached(durable) => {
            connection.write_reply(|reply| safety.write(durable, reply));
        }
        Ok(safety) => {
            let mut blocked = block(connection, None);
            blocked.on = On::Safe(safety);
            connection.blocked = Some(blocked);
        }
    }
    Ok(())
}

/// Answers WAIT or WAITAOF inside EXEC, where nothing waits.
///
/// # Errors
/// The error reply.
pub(super) fn answer_at_once(
    connection: &Connection,
    name: &str,
    args: Args<'_>,
    reply: &mut Reply<'_>,
) -> Result<(), String> {
    let mut safety = Safety::parse(name, args).map_err(|error| error.text().to_owned())?;
    check_log(connection, &safety)?;
    // The turn is that of the transaction, which cannot be synced before it ends.
    safety.target = connection.shard.clock().head();
    safety.write(connection.shard.clock().durable(), reply);
    Ok(())
}

const LOG_IS_OFF: &str =
    "ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.";

/// Whether there is a log to wait for, if the command waits for it.
fn check_log(connection: &Connection, safety: &Safety) -> Result<(), &'static str> {
    if safety.needs_local && connection.server.persistence.aof().is_none() {
        return Err(LOG_IS_OFF);
    }
    Ok(())
}

/// What a connection asks for whose commands so far are executed.
fn asked(connection: &Connection, name: &str, args: Args<'_>) -> Result<Safety, String> {
    let mut safety = Safety::parse(name, args).map_err(|error| error.text().to_owned())?;
    check_log(connection, &safety)?;
    connection.shard.end_turn();
    safety.target = connection.shard.clock().head();
    Ok(safety)
}

/// What a connection that waits has noticed.
enum Event {
    Answered,
    Woken,
    PauseIsOver,
    TimeIsOver,
    LookAtMark,
    Killed,
    Gone,
    Read(usize),
}

/// Waits until the connection is not blocked any more.
///
/// # Errors
/// When the connection ends instead.
pub(super) async fn wait(
    connection: &mut Connection,
    killed: Pin<&mut impl Future<Output = ()>>,
) -> Result<(), Close> {
    let Some(blocked) = connection.blocked.take() else {
        return Ok(());
    };
    let client = Arc::clone(&connection.client);
    client.set_waiter(Some(Arc::clone(&blocked.waiter)));
    connection.flush();
    let result = wait_for(connection, &blocked, killed).await;
    client.set_waiter(None);
    leave_queues(connection, blocked);
    connection.flush();
    result
}

async fn wait_for(
    connection: &mut Connection,
    blocked: &Blocked,
    mut killed: Pin<&mut impl Future<Output = ()>>,
) -> Result<(), Close> {
    let mut time_is_over = pin!(sleep_until(blocked.since));
    let (mut has_time_limit, mut is_over) = (false, false);
    let looks = matches!(
        &blocked.on,
        On::Safe(safety) if safety.replicas <= 0 || safety.needs_local
    );
    let mut mark_pause = MARK_PAUSE_MIN;
    let server = Arc::clone(&connection.server);
    // There is something for it, which it may take when the server is not paused any more.
    let mut paused: Option<Pin<Box<dyn Future<Output = ()> + '_>>> = None;
    loop {
        // Where another shard tries the command, it tells the limit.
        if let Some(until) = blocked.until()
            && !has_time_limit
            && !is_over
        {
            time_is_over.as_mut().reset(until);
            has_time_limit = true;
        }
        let mut look = pin!(tokio::time::sleep(mark_pause));
        let mut woken = pin!(blocked.waiter.woken());
        let outlet = Rc::clone(&connection.outlet);
        outlet.uncork();
        let (read, unfinished) = connection.reading();
        let event = poll_fn(|cx| {
            outlet.poll_send(cx);
            if outlet.is_broken() {
                return Poll::Ready(Event::Gone);
            }
            if outlet.awaits_no_reply() {
                return Poll::Ready(Event::Answered);
            }
            if killed.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Event::Killed);
            }
            if woken.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Event::Woken);
            }
            if let Some(paused) = &mut paused
                && paused.as_mut().poll(cx).is_ready()
            {
                return Poll::Ready(Event::PauseIsOver);
            }
            if has_time_limit && time_is_over.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Event::TimeIsOver);
            }
            if looks && look.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Event::LookAtMark);
            }
            if unfinished.sizes().0 >= READ_AHEAD_MAX {
                return Poll::Pending;
            }
            let mut buffer = unfinished.take();
            let count = tokio_util::io::poll_read_buf(Pin::new(&mut *read), cx, &mut buffer);
            unfinished.give_back(buffer);
            match count {
                Poll::Pending => Poll::Pending,
                Poll::Ready(Ok(0) | Err(_)) => Poll::Ready(Event::Gone),
                Poll::Ready(Ok(count)) => Poll::Ready(Event::Read(count)),
            }
        })
        .await;
        match event {
            Event::Answered => return Ok(()),
            Event::Read(count) => {
                let (server, shard) = (&connection.server, &connection.shard);
                server.received(shard, &connection.client, count);
                connection.show_buffers();
            }
            Event::Woken => match blocked.waiter.state() {
                // What it would do is a write, whoever fed it.
                WaitState::Hinted if pause::blocks(connection, true) => {
                    paused = Some(Box::pin(pause::ended(&server.pause, true)));
                }
                WaitState::Hinted => follow_hint(connection, blocked).await,
                // Whoever was killed hears of it otherwise.
                WaitState::Ended(Ending::Gone) => {}
                WaitState::Ended(ending) => answer(connection, blocked, ending),
                WaitState::Waiting | WaitState::Served => {}
            },
            Event::PauseIsOver => {
                paused = None;
                if blocked.waiter.state() == WaitState::Hinted {
                    follow_hint(connection, blocked).await;
                }
            }
            Event::TimeIsOver => {
                // Otherwise the reply is on its way, or the end was another one.
                (has_time_limit, is_over) = (false, true);
                if blocked.waiter.end(Ending::TimedOut) {
                    answer(connection, blocked, Ending::TimedOut);
                }
            }
            Event::LookAtMark => {
                mark_pause = (mark_pause * 2).min(MARK_PAUSE_MAX);
                let On::Safe(safety) = &blocked.on else {
                    continue;
                };
                if check_log(connection, safety).is_err() {
                    if blocked.waiter.end(Ending::TimedOut) {
                        answer(connection, blocked, Ending::TimedOut);
                    }
                    continue;
                }
                if safety.is_reached(connection.shard.clock().durable())
                    && blocked.waiter.end(Ending::TimedOut)
                {
                    answer(connection, blocked, Ending::TimedOut);
                }
            }
            Event::Killed => {
                let _was_waiting = blocked.waiter.end(Ending::Gone);
                if let WaitState::Ended(_) = blocked.waiter.state() {
                    answer(connection, blocked, Ending::Gone);
                }
                if !connection.server.is_stopping() {
                    return Err(Close::Now);
                }
                // One that was served is told so before the server ends.
                outlet.wait_until(|gate| gate.holes() == 0).await;
                return Err(Close::AfterReplies);
            }
            Event::Gone => {
                // If it was served already, what it took is gone with it, as in Redis.
                let _was_waiting = blocked.waiter.end(Ending::Gone);
                return Err(Close::Now);
            }
        }
    }
}

/// Fills the place of the reply of a wait that was not served.
fn answer(connection: &mut Connection, blocked: &Blocked, ending: Ending) {
    let mut out = Vec::new();
    let mut reply = Reply::new(&mut out, connection.state.protocol);
    let mut depends_on = Lsn::ZERO;
    let settled = blocked.waiter.settled();
    match (ending, &blocked.on) {
        (Ending::Gone, _) => {}
        (Ending::UnblockedWithError, _) => reply.error(UNBLOCKED),
        (Ending::TimedOut | Ending::Unblocked, On::Keys(_)) => {
            // Before it was tried, it shows nothing.
            depends_on = settled.map_or(Lsn::ZERO, |settled| settled.shown);
            reply.null_array();
        }
        (Ending::TimedOut | Ending::Unblocked, On::Safe(safety)) => {
            // The log may have been switched off meanwhile.
            match check_log(connection, safety) {
                Err(text) => reply.error(text),
                Ok(()) => safety.write(connection.shard.clock().durable(), &mut reply),
            }
        }
    }
    if !blocked.wants_reply {
        out.clear();
    }
    let mut gate = connection.outlet.gate().borrow_mut();
    gate.fill(blocked.waiter.ticket(), out.into(), depends_on);
    drop(gate);
    connection.flush();
}

/// There is something for this connection, which needs shards that only it can borrow: it holds
/// them while those who wait for its keys are served.
async fn follow_hint(connection: &Connection, blocked: &Blocked) {
    let On::Keys(keys) = &blocked.on else {
        return;
    };
    let shard = &connection.shard;
    let owner = |key: &[u8]| shard.count().shard_of_key(key);
    let mut mask = ShardMask::default();
    for (_, key) in keys {
        mask = mask.with(owner(key));
    }
    if let Some(needed) = blocked.waiter.needs() {
        mask = mask.with(needed);
    }
    let mut borrowed = shard.borrow(mask).await;
    blocked.waiter.take_hint();
    for (db, key) in keys {
        if let Some(data) = borrowed.data(owner(key)) {
            data.waits.changed(*db, key);
        }
    }
    borrowed.commit();
}

/// Takes the waiter out of the queues that it is still in. Nobody waits for that: those who meet it
/// there see that it waits no more.
fn leave_queues(connection: &Connection, blocked: Blocked) {
    let On::Keys(keys) = blocked.on else {
        return;
    };
    let waiter = &blocked.waiter;
    if keys.len() == 1 && waiter.state() == WaitState::Served {
        return;
    }
    let (order, held_others) = (waiter.order(), waiter.needs().is_some());
    let mut by_shard: Vec<(ShardId, Vec<DbKey>)> = Vec::new();
    for key in keys {
        let owner = connection.shard.count().shard_of_key(&key.1);
        match by_shard.iter_mut().find(|(shard, _)| *shard == owner) {
            Some((_, of_shard)) => of_shard.push(key),
            None => by_shard.push((owner, vec![key])),
        }
    }
    let directory = connection.shard.directory().clone();
    let leave = move || {
        for (shard, keys) in by_shard {
            let leave = Box::new(move |data: &mut moon_store::ShardData| {
                for (db, key) in keys {
                    data.waits.remove(db, &key, order);
                    if held_others {
                        data.waits.changed(db, &key);
                    }
                }
            });
            directory.of(shard).send_data(DataMessage::Visit(leave));
        }
    };
    if held_others && pause::blocks(connection, true) {
        // Those behind it would be served at once, and what that does is a write.
        let server = Arc::clone(&connection.server);
        tokio::task::spawn_local(async move {
            pause::ended(&server.pause, true).await;
            leave();
        });
    } else {
        leave();
    }
}

/// CLIENT UNBLOCK for `client`: whether it waited.
///
/// # Errors
/// The error reply.
pub(super) fn unblock(
    client: Option<&ClientHandle>,
    reason: Option<&[u8]>,
) -> Result<bool, String> {
    let ending = match reason.map(<[u8]>::to_ascii_lowercase).as_deref() {
        None | Some(b"timeout") => Ending::Unblocked,
        Some(b"error") => Ending::UnblockedWithError,
        Some(_) => return Err("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR".to_owned()),
    };
    let waiter = client.and_then(ClientHandle::waiter);
    let ended = waiter.filter(|waiter| waiter.end(ending));
    if let Some(waiter) = &ended {
        waiter.wake();
    }
    Ok(ended.is_some())
}
