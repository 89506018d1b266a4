//! The one request path: read, parse, route, execute, reply.
//!
//! A connection takes one read buffer per turn of its task: it finds all requests in it, then
//! executes them in order. What its own shard owns runs at once; what another shard owns is
//! collected into one message per shard; a command over several shards waits until everything
//! before it is executed, borrows the data, and everything after it waits in turn.
//!
//! * `routing`: which shard a request runs on. `outgoing`: messages for other shards.
//! * `waits`: what a connection waits for. `holdings`: what it holds.

mod holdings;
mod outgoing;
mod routing;
mod waits;

use super::blocking::{self, Blocked};
use super::busy;
use super::commands;
use super::pubsub_command;
use super::read_buffer::Unfinished;
use super::session::{ReplyMode, SessionState};
use super::socket::{Outlet, ReadHalf, Socket};
use super::{pause, told, transaction, watch_commands};
use crate::clients::{CMD_NONE, ClientHandle, Registration};
use crate::pubsub::Hub;
use crate::scripts;
use crate::server::Server;
use crate::tracking::Tracking;
use bytes::{Buf, BytesMut};
use moon_commands::evict::OUT_OF_MEMORY;
use moon_commands::{CommandId, CommandSpec, Flags, by_id, lookup};
use moon_core::Lsn;
use moon_resp::{Args, OwnedArgs, Parsed, Reply, RequestParser, Span};
use moon_shard::{Caller, Running, Session, Shard, ShardMask};
use outgoing::Outgoing;
use routing::Route;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Poll;

/// One request found in the read buffer.
struct Request {
    /// `None`: no such command, or wrong arity, or ...; the error is written in its turn.
    command: Option<CommandId>,
    first_span: u32,
    span_count: u32,
    /// Where it ends in the buffer.
    end: usize,
    /// Arguments that are not in the buffer as they are (a quoted inline request).
    owned: Option<OwnedArgs>,
}

/// Why a connection ends.
pub(crate) enum Close {
    /// The client went away, was killed, or the server stops.
    Now,
    /// After the replies so far have left.
    AfterReplies,
}

/// One connection, owned by its task.
pub(crate) struct Connection {
    pub(super) outlet: Rc<Outlet>,
    pub(super) session: Rc<dyn Session>,
    pub(crate) shard: Rc<Shard>,
    pub(crate) server: Arc<Server>,
    pub(crate) client: Arc<ClientHandle>,
    pub(crate) hub: Rc<Hub>,
    pub(crate) state: SessionState,
    /// The command that waits. Nothing is executed until it is answered.
    pub(super) blocked: Option<Blocked>,
    read: ReadHalf,
    parser: RequestParser,
    unfinished: Unfinished,
    spans: Vec<Span>,
    requests: Vec<Request>,
    key_positions: Vec<usize>,
    outgoing: Vec<Outgoing>,
    /// What the client's handle says of these buffers.
    shown: Option<holdings::OwnBuffers>,
    /// What the client held when it was last seen to be within the limit on clients.
    within_limit: u64,
}

/// What a connection keeps from one read buffer to the next: enough for usual pipelines, and
/// little enough for thousands of connections that each sent a long one some time.
const SPANS_KEPT_MAX: usize = 1024;
const REQUESTS_KEPT_MAX: usize = 256;
/// Serves one connection until it ends. `partial` is what was read of it already.
pub async fn serve(
    socket: Socket,
    partial: BytesMut,
    registration: Registration,
    shard: Rc<Shard>,
    server: Arc<Server>,
) {
    let client = Arc::clone(registration.handle());
    let (read, outlet) = Outlet::new(Arc::clone(&client), socket, Arc::clone(&server), shard.id());
    let outlet = Rc::new(outlet);
    let session: Rc<dyn Session> = Rc::clone(&outlet) as Rc<dyn Session>;
    shard.add_session(Rc::clone(&session));
    let hub = Hub::of_this_thread();
    hub.enter(Rc::clone(&session), Arc::clone(&client));
    client.shard.store(shard.id().0, Relaxed);
    let stats = Arc::clone(&server.stats);
    let connections = &stats.shard(shard.id().index()).connections;
    connections.add(1);
    let state = SessionState::new(!server.requires_password());
    let mut connection = Connection {
        outlet,
        session: Rc::clone(&session),
        shard: Rc::clone(&shard),
        server,
        client,
        hub: Rc::clone(&hub),
        state,
        blocked: None,
        read,
        parser: RequestParser::new(),
        unfinished: Unfinished::new(partial),
        spans: Vec::new(),
        requests: Vec::new(),
        key_positions: Vec::new(),
        outgoing: Vec::new(),
        shown: None,
        within_limit: 0,
    };
    connection.run().await;
    transaction::unwatch(&mut connection);
    hub.leave(session.id());
    Tracking::of_this_thread().end(session.id());
    watch_commands::end_monitor(&mut connection);
    connection.outlet.close();
    shard.remove_session(&*session);
    connections.sub(1);
    drop(registration);
}

impl Connection {
    async fn run(&mut self) {
        let waker = poll_fn(|cx| Poll::Ready(cx.waker().clone())).await;
        self.outlet.set_waker(waker);
        let client = Arc::clone(&self.client);
        let mut killed = pin!(client.killed());
        loop {
            self.server.sent(&self.shard, self.outlet.take_sent_bytes());
            let read = poll_fn(|cx| {
                self.outlet.poll_send(cx);
                if self.outlet.is_broken() {
                    return Poll::Ready(Err(Close::Now));
                }
                if killed.as_mut().poll(cx).is_ready() {
                    let stopping = self.server.is_stopping();
                    return Poll::Ready(Err(if stopping {
                        Close::AfterReplies
                    } else {
                        Close::Now
                    }));
                }
                if self.outlet.is_overloaded() {
                    return Poll::Pending;
                }
                // Taken only while bytes are there: a connection that waits holds no buffer.
                let mut buffer = self.unfinished.take();
                let read = std::pin::Pin::new(&mut self.read);
                match tokio_util::io::poll_read_buf(read, cx, &mut buffer) {
                    Poll::Pending => {
                        self.unfinished.give_back(buffer);
                        Poll::Pending
                    }
                    Poll::Ready(Ok(0) | Err(_)) => Poll::Ready(Err(Close::Now)),
                    Poll::Ready(Ok(count)) => Poll::Ready(Ok((buffer, count))),
                }
            })
            .await;
            let mut result = match read {
                Ok((mut buffer, count)) => {
                    self.server.received(&self.shard, &self.client, count);
                    if self.state.is_told() && self.hub.is_behind() {
                        // Boxed: hardly any connection needs the room for it.
                        Box::pin(self.hub.catch_up(&self.shard)).await;
                    }
                    let result = self.process(&mut buffer).await;
                    self.unfinished.give_back(buffer);
                    self.show_buffers();
                    result
                }
                Err(close) => Err(close),
            };
            while result.is_ok() && self.blocked.is_some() {
                result = blocking::wait(self, killed.as_mut()).await;
                if result.is_ok() {
                    result = self.process_rest().await;
                }
            }
            match result {
                Ok(()) => {}
                Err(Close::Now) => return,
                Err(Close::AfterReplies) => {
                    self.outlet
                        .wait_until(|gate| gate.is_open() && gate.open().is_empty())
                        .await;
                    return;
                }
            }
        }
    }

    /// Executes what was read while the connection waited.
    async fn process_rest(&mut self) -> Result<(), Close> {
        let mut buffer = self.unfinished.take();
        let result = self.process(&mut buffer).await;
        self.unfinished.give_back(buffer);
        self.show_buffers();
        result
    }

    /// What it reads from, and where the rest of a read is kept.
    pub(super) fn reading(&mut self) -> (&mut ReadHalf, &mut Unfinished) {
        (&mut self.read, &mut self.unfinished)
    }

    /// Finds and executes the requests of `buffer`, and leaves in it what is no whole request, and
    /// what is behind a command that waits.
    async fn process(&mut self, buffer: &mut BytesMut) -> Result<(), Close> {
        let mut consumed = 0;
        let mut protocol_error = None;
        self.unfinished.set_needed(0);
        let limits = self.server.request_limits(self.state.authenticated);
        loop {
            let first_span = self.spans.len();
            match self
                .parser
                .parse_at(buffer, consumed, &mut self.spans, &limits)
            {
                Ok(Parsed::Request { consumed: length }) => {
                    consumed += length;
                    self.found(buffer, first_span, consumed, None);
                    if !self.state.authenticated {
                        // The limits change with AUTH, so nothing is parsed ahead of it.
                        break;
                    }
                }
                Ok(Parsed::Inline {
                    consumed: length,
                    args,
                }) => {
                    consumed += length;
                    self.found(buffer, first_span, consumed, Some(args));
                }
                Ok(Parsed::Incomplete { needed }) => {
                    self.unfinished.set_needed(needed);
                    break;
                }
                Err(error) => {
                    protocol_error = Some(error);
                    break;
                }
            }
        }
        let more = !self.state.authenticated && !self.requests.is_empty();
        let result = self.execute_all(buffer).await;
        if let Ok(Some(end)) = result {
            // What is behind is parsed again when its time has come.
            consumed = end;
            protocol_error = None;
            self.parser = RequestParser::new();
            self.unfinished.set_needed(0);
        }
        clear_bounded(&mut self.spans, SPANS_KEPT_MAX);
        clear_bounded(&mut self.requests, REQUESTS_KEPT_MAX);
        clear_bounded(&mut self.key_positions, SPANS_KEPT_MAX);
        if consumed == buffer.len() {
            buffer.clear();
        } else {
            buffer.advance(consumed);
        }
        result?;
        if buffer.len() as u64 > self.server.settings.client_query_buffer_limit.load(Relaxed) {
            tracing::warn!(
                "Closing client {} beyond client-query-buffer-limit",
                self.client.id
            );
            return Err(Close::Now);
        }
        if let Some(error) = protocol_error {
            self.write_reply(|reply| reply.protocol_error(error));
            self.flush();
            return Err(Close::AfterReplies);
        }
        if more && !buffer.is_empty() && self.blocked.is_none() {
            return Box::pin(self.process(buffer)).await;
        }
        Ok(())
    }

    fn found(
        &mut self,
        buffer: &BytesMut,
        first_span: usize,
        end: usize,
        owned: Option<OwnedArgs>,
    ) {
        let name = match &owned {
            Some(args) => args.as_args().get(0),
            None => Args::new(buffer, &self.spans[first_span..]).get(0),
        };
        let Some(name) = name else { return };
        self.requests.push(Request {
            command: lookup(name).map(|(id, _)| id),
            // Spans are counted in 32 bits, as their offsets are.
            first_span: u32::try_from(first_span).unwrap_or(u32::MAX),
            span_count: u32::try_from(self.spans.len() - first_span).unwrap_or(u32::MAX),
            end,
            owned,
        });
    }

    /// Executes all requests, or those up to one that waits: then returns where that ends.
    async fn execute_all(&mut self, buffer: &BytesMut) -> Result<Option<usize>, Close> {
        // Taken out, so that the requests can be read while the connection changes.
        let requests = std::mem::take(&mut self.requests);
        let spans = std::mem::take(&mut self.spans);
        let result = self.execute_requests(buffer, &spans, &requests).await;
        self.requests = requests;
        self.spans = spans;
        self.flush();
        result
    }

    async fn execute_requests(
        &mut self,
        buffer: &BytesMut,
        spans: &[Span],
        requests: &[Request],
    ) -> Result<Option<usize>, Close> {
        let args_of = |request: &Request| match &request.owned {
            None => {
                let first = request.first_span as usize;
                (
                    &spans[first..first + request.span_count as usize],
                    &buffer[..],
                )
            }
            Some(_) => (&[][..], &buffer[..]),
        };
        let mut next = 0;
        let mut warmed = 0;
        while next < requests.len() {
            if self.server.scripts.busy.any() {
                let args = whole_args(&requests[next], &args_of);
                self.execute_alone(requests[next].command, args).await?;
                next += 1;
                continue;
            }
            if !self.shard.is_home() || !self.shard.has_room() {
                self.flush();
                let server = Arc::clone(&self.server);
                let is_busy = || server.scripts.busy.any();
                if !self.shard.ready_unless(is_busy).await {
                    continue;
                }
            }
            if next >= warmed && !self.runs_in_turn(&requests[next], &args_of) {
                // Those that run in turns are warmed by each turn.
                warmed = next + moon_shard::WARM_KEYS_MAX;
                self.warm(&requests[next..], &args_of);
            }
            let first = next;
            next = self.queue_ready(requests, next, &args_of);
            next = self.execute_ready(requests, next, &args_of);
            if let Some(id) = requests[first..next].last().and_then(|last| last.command) {
                self.client.cmd.store(id, Relaxed);
            }
            let Some(request) = requests.get(next) else {
                break;
            };
            if !self.shard.is_home() || !self.shard.has_room() {
                continue;
            }
            let args = whole_args(request, &args_of);
            if let Some(id) = request.command
                && self.wait_for_walk([(id, args)].into_iter()).await
            {
                continue;
            }
            self.show_request(buffer);
            self.execute_alone(request.command, args).await?;
            if self.blocked.is_some() {
                return Ok(Some(request.end));
            }
            next += 1;
        }
        Ok(None)
    }

    /// Queues requests from `next` on for the transaction that is open, if one is, as long as
    /// there is nothing special about them. Returns the index of the first that is left.
    fn queue_ready<'b>(
        &mut self,
        requests: &'b [Request],
        mut next: usize,
        args_of: &impl Fn(&Request) -> (&'b [Span], &'b [u8]),
    ) -> usize {
        let is_special = self.server.pause.is_on() || self.state.reply_mode != ReplyMode::On;
        if self.state.transaction.is_none() || is_special {
            return next;
        }
        while let Some(request) = requests.get(next) {
            let args = whole_args(request, args_of);
            match commands::admit(self, request.command, args) {
                Ok((id, spec)) if !transaction::runs_at_once(spec) => {
                    transaction::queue(self, id, args);
                }
                // Another way leads there, which finds the same.
                _ => break,
            }
            next += 1;
        }
        next
    }

    /// Executes requests from `next` on as long as they need no waiting. Returns the index of the
    /// first that does.
    fn execute_ready<'b>(
        &mut self,
        requests: &'b [Request],
        mut next: usize,
        args_of: &impl Fn(&Request) -> (&'b [Span], &'b [u8]),
    ) -> usize {
        if self.state.monitoring || pause::blocks(self, true) {
            // Each request is looked at by itself.
            return next;
        }
        if !(requests.get(next)).is_some_and(|request| self.runs_in_turn(request, args_of)) {
            // Commands of a transaction, scripts: no turn is worth beginning.
            return next;
        }
        let shard = Rc::clone(&self.shard);
        let Some(mut running) = shard.begin() else {
            return next;
        };
        running.set_caller(self.caller());
        running.warm(
            self.state.db,
            requests[next..].iter().filter_map(|request| {
                let (request_spans, buf) = args_of(request);
                Some((request.command?, Args::new(buf, request_spans)))
            }),
        );
        while let Some(request) = requests.get(next) {
            let args = whole_args(request, args_of);
            let Some(id) = request.command else {
                return self.finish(running, next);
            };
            let spec = by_id(id);
            match self.route(spec, args) {
                Route::Here if running.is_held(id, args, self.state.db) => {
                    return self.finish(running, next);
                }
                Route::Here => self.execute_here(&mut running, id, args),
                Route::To(to) => self.collect(to, id, args),
                Route::Alone if pubsub_command::publishes_now(self, spec, args) => {
                    pubsub_command::publish_now(self, id, args);
                }
                Route::Borrow(_) | Route::Alone => return self.finish(running, next),
            }
            next += 1;
            if running.turn_is_full() {
                drop(running);
                shard.join_turn(&self.session);
                shard.end_turn();
                if !shard.has_room() {
                    return next;
                }
                running = shard.begin().expect("ending a turn does not lend the data");
                running.set_caller(self.caller());
            }
        }
        self.finish(running, next)
    }

    /// Whether [`Connection::execute_ready`] does more with a request than to leave it.
    fn runs_in_turn<'b>(
        &self,
        request: &'b Request,
        args_of: &impl Fn(&Request) -> (&'b [Span], &'b [u8]),
    ) -> bool {
        let args = whole_args(request, args_of);
        request.command.is_some_and(|id| {
            self.is_plain(by_id(id), args) || pubsub_command::publishes_now(self, by_id(id), args)
        })
    }

    /// Brings near what the first of `requests` will look at.
    fn warm<'b>(
        &self,
        requests: &'b [Request],
        args_of: &impl Fn(&Request) -> (&'b [Span], &'b [u8]),
    ) {
        if let Some(running) = self.shard.begin() {
            let commands = requests
                .iter()
                .filter_map(|request| Some((request.command?, whole_args(request, args_of))));
            running.warm(self.state.db, commands);
        }
    }

    fn finish(&self, running: Running<'_>, next: usize) -> usize {
        running.finish();
        next
    }

    /// Whom this connection runs commands for.
    #[inline]
    pub(crate) fn caller(&self) -> Caller {
        Caller {
            client: self.client.id,
            shard: self.shard.id(),
            remembers: (self.state.tracking.as_ref()).is_some_and(|it| it.remembers()),
            in_script: false,
        }
    }

    #[inline]
    fn execute_here(&mut self, running: &mut Running<'_>, id: CommandId, args: Args<'_>) {
        let mut gate = self.outlet.gate().borrow_mut();
        let tail = gate.tail();
        let start = tail.len();
        let depends_on = running.execute(id, args, self.state.db, self.state.protocol, tail);
        gate.settle(start, depends_on);
    }

    /// Writes one reply that depends on nothing, in its place.
    pub(super) fn write_reply(&mut self, write: impl FnOnce(&mut Reply<'_>)) {
        self.write_dependent_reply(Lsn::ZERO, write);
    }

    /// Writes one reply in its place.
    pub(crate) fn write_dependent_reply(
        &mut self,
        depends_on: Lsn,
        write: impl FnOnce(&mut Reply<'_>),
    ) {
        let mut gate = self.outlet.gate().borrow_mut();
        let tail = gate.tail();
        let start = tail.len();
        write(&mut Reply::new(tail, self.state.protocol));
        if self.state.reply_mode == ReplyMode::On {
            gate.settle(start, depends_on);
        } else {
            tail_truncate(&mut gate, start);
        }
    }

    /// Writes what is no reply in its place: CLIENT REPLY does not hold it back.
    pub(super) fn write_unasked(&mut self, bytes: &[u8]) {
        let mut gate = self.outlet.gate().borrow_mut();
        let tail = gate.tail();
        let start = tail.len();
        tail.extend_from_slice(bytes);
        gate.settle(start, Lsn::ZERO);
    }

    /// Runs one request that is not plain.
    async fn execute_alone(
        &mut self,
        command: Option<CommandId>,
        args: Args<'_>,
    ) -> Result<(), Close> {
        // What was collected for other shards carries the database and protocol of this moment,
        // which the command may change.
        self.dispatch();
        let counted = command.and_then(|id| told::counted_as(id, args));
        self.client.cmd.store(counted.unwrap_or(CMD_NONE), Relaxed);
        if self.state.reply_mode == ReplyMode::SkipNext {
            self.state.reply_mode = ReplyMode::Skip;
        }
        let result = self.execute_checked(command, args).await;
        if self.state.reply_mode == ReplyMode::Skip {
            self.state.reply_mode = ReplyMode::On;
        }
        // What CLIENT CACHING says is for one command, or one transaction.
        if self.state.is_caching()
            && self.state.transaction.is_none()
            && command.is_none_or(|id| by_id(id).name != "client")
            && let Some(tracked) = &self.state.tracking
        {
            tracked.caching.set(false);
        }
        result?;
        if self.state.closing {
            Err(Close::AfterReplies)
        } else {
            Ok(())
        }
    }

    async fn execute_checked(
        &mut self,
        command: Option<CommandId>,
        args: Args<'_>,
    ) -> Result<(), Close> {
        let (id, spec) = loop {
            match commands::admit(self, command, args) {
                Ok((_, spec)) if pause::blocks(self, pause::may_write(self, spec)) => {
                    // If a script takes long, it is not admitted any more.
                    let _ready = pause::ready(self, pause::may_write(self, spec)).await?;
                }
                Ok(admitted) => break admitted,
                Err(text) => {
                    self.refuse(command, args, text);
                    return Ok(());
                }
            }
        };
        if self.state.transaction.is_some() && !transaction::runs_at_once(spec) {
            transaction::queue(self, id, args);
            return Ok(());
        }
        if !spec.flags.contains(Flags::ALLOW_BUSY) {
            // A script that took long may have ended just now, and the data be on its way home; a
            // pause may begin meanwhile.
            let ready = pause::ready(self, pause::may_write(self, spec)).await?;
            if let Err(busy) = ready {
                self.refuse(command, args, busy.0.to_owned());
                return Ok(());
            }
        }
        if scripts::runs(id) {
            return told::run_script(self, id, args).await;
        }
        let Some(spec) = commands::data_spec(id, args) else {
            return told::run(self, id, args).await;
        };
        if moon_commands::blocking::may_wait(spec, args) {
            return blocking::run(self, spec, id, args).await;
        }
        match self.route_data(spec, args) {
            Route::Here | Route::Alone => {
                self.execute_discardable(spec, id, args);
                Ok(())
            }
            Route::To(shard) => {
                let mask = ShardMask::default().with(shard);
                self.borrow_and_execute(mask, spec, id, args).await
            }
            Route::Borrow(mask) => self.borrow_and_execute(mask, spec, id, args).await,
        }
    }

    /// Answers a command with an error that has not run.
    fn refuse(&mut self, command: Option<CommandId>, args: Args<'_>, text: String) {
        let text = transaction::refuse(self, command, text);
        let counted = command.and_then(|id| told::counted_as(id, args));
        self.server.note_refusal(&self.shard, counted, &text);
        self.write_reply(|reply| reply.error(&text));
    }

    /// Runs a local command whose reply may be unwanted (CLIENT REPLY).
    fn execute_discardable(&mut self, spec: &CommandSpec, id: CommandId, args: Args<'_>) {
        let shard = Rc::clone(&self.shard);
        let mut running = shard
            .begin()
            .expect("the data was home and nothing awaited since");
        running.set_caller(self.caller());
        let mut reply = Vec::new();
        let (db, protocol) = (self.state.db, self.state.protocol);
        let depends_on = running.execute_as(spec, id, args, db, protocol, &mut reply);
        running.finish();
        self.write_dependent_reply(depends_on, |out| out.raw(&reply));
    }

    /// Runs a command over several shards: after everything before it, as one step.
    async fn borrow_and_execute(
        &mut self,
        mask: ShardMask,
        spec: &CommandSpec,
        id: CommandId,
        args: Args<'_>,
    ) -> Result<(), Close> {
        self.barrier().await?;
        pause::wait(self, pause::writes(spec)).await?;
        if let Some(misconf) = commands::refuses(self, spec) {
            self.refuse(Some(id), args, misconf.to_string());
            return Ok(());
        }
        if spec.flags.contains(Flags::DENYOOM) && !self.shard.has_memory() {
            self.refuse(Some(id), args, OUT_OF_MEMORY.to_owned());
            return Ok(());
        }
        let mut borrowed = match busy::borrow(self, mask).await {
            Ok(borrowed) => borrowed,
            Err(busy) => {
                self.refuse(Some(id), args, busy.0.to_owned());
                return Ok(());
            }
        };
        borrowed.set_caller(self.caller());
        let mut reply = Vec::new();
        let (db, protocol) = (self.state.db, self.state.protocol);
        let depends_on = borrowed.execute_as(spec, id, args, db, protocol, &mut reply);
        let end = borrowed.commit();
        let depends_on = if depends_on == moon_store::THIS_TURN {
            end
        } else {
            depends_on
        };
        self.write_dependent_reply(depends_on, |out| out.raw(&reply));
        Ok(())
    }
}

/// The arguments of a request, wherever they are.
fn whole_args<'b>(
    request: &'b Request,
    args_of: &impl Fn(&Request) -> (&'b [Span], &'b [u8]),
) -> Args<'b> {
    let (spans, buf) = args_of(request);
    match &request.owned {
        Some(owned) => owned.as_args(),
        None => Args::new(buf, spans),
    }
}

/// Forgets a reply that nobody wants.
fn tail_truncate(gate: &mut moon_shard::Gate, start: usize) {
    gate.tail().truncate(start);
}

/// Empties `vec`, and gives its memory back if it has grown beyond `kept_max` items.
fn clear_bounded<T>(vec: &mut Vec<T>, kept_max: usize) {
    if vec.capacity() > kept_max {
        *vec = Vec::new();
    } else {
        vec.clear();
    }
}
