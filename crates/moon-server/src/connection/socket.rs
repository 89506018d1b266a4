//! The socket of one connection, seen from its shard.
//!
//! The read half belongs to the connection's task. The write half is used by whoever finds that
//! replies may leave: the task itself, or the shard's committer, which saves waking the task for
//! every commit.

use crate::clients::{ClientHandle, OutputGuard, output_limit};
use crate::server::Server;
use moon_core::ShardId;
use moon_shard::{Gate, Session, SessionId};
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};
use tokio::io::AsyncRead;
use tokio::net::{TcpStream, UnixStream, tcp, unix};

/// An accepted connection, before it is split.
pub enum Socket {
    /// TCP.
    Tcp(TcpStream),
    /// A Unix domain socket.
    Unix(UnixStream),
}

/// What a connection reads from.
pub(super) type ReadHalf = Box<dyn AsyncRead + Unpin>;

enum WriteHalf {
    Tcp(tcp::OwnedWriteHalf),
    Unix(unix::OwnedWriteHalf),
}

impl Socket {
    fn split(self) -> (ReadHalf, WriteHalf) {
        match self {
            Socket::Tcp(stream) => {
                let (read, write) = stream.into_split();
                (Box::new(read), WriteHalf::Tcp(write))
            }
            Socket::Unix(stream) => {
                let (read, write) = stream.into_split();
                (Box::new(read), WriteHalf::Unix(write))
            }
        }
    }
}

/// The part of a connection that its shard knows: the gate and the way out.
pub(super) struct Outlet {
    id: SessionId,
    client: Arc<ClientHandle>,
    gate: RefCell<Gate>,
    /// `None` once the connection has ended: what is still held then has nowhere to go.
    write: RefCell<Option<WriteHalf>>,
    /// The socket took less than there was; the task waits until it takes more.
    blocked: Cell<bool>,
    /// Replies of other shards are about to come: what is open waits a moment, so that one system
    /// call sends all of it.
    corked: Cell<bool>,
    /// On the shard's list of connections to uncork.
    listed: Cell<bool>,
    /// Writing failed; the task must close.
    broken: Cell<bool>,
    /// The task waits for replies of other shards, or for held replies to leave.
    awaited: Cell<bool>,
    /// Wakes the task.
    waker: RefCell<Option<Waker>>,
    /// Bytes written since the task last asked.
    sent_bytes: Cell<u64>,
    /// For its limit on what is unread.
    server: Arc<Server>,
    shard: ShardId,
    guard: Cell<OutputGuard>,
    /// Since when the highest use of the buffer of replies is remembered.
    peak_since: Cell<Instant>,
}

/// How long the highest use of a buffer of replies is remembered.
const PEAK_KEPT: Duration = Duration::from_secs(5);

/// More unsent bytes than this, and the connection executes nothing until its client has read.
pub(super) const UNSENT_BYTES_MAX: usize = 1 << 20;

/// Longest time for which a reply waits for those of other shards behind it. Mostly they come
/// within microseconds, and one system call then sends them all.
const CORK_MAX: Duration = Duration::from_millis(1);

thread_local! {
    /// Connections of this shard to uncork when [`CORK_MAX`] is over.
    static CORKED: RefCell<Vec<Rc<Outlet>>> = const { RefCell::new(Vec::new()) };
}

/// More commands than this under way on other shards, and the connection executes nothing until
/// they are answered: it bounds what waits in their mailboxes.
const HOLES_MAX: usize = 1024;

impl Outlet {
    /// Splits `socket` into what the task reads from and the way out.
    pub(super) fn new(
        client: Arc<ClientHandle>,
        socket: Socket,
        server: Arc<Server>,
        shard: ShardId,
    ) -> (ReadHalf, Outlet) {
        let (read, write) = socket.split();
        let outlet = Outlet {
            id: client.id,
            client,
            gate: RefCell::default(),
            write: RefCell::new(Some(write)),
            blocked: Cell::new(false),
            corked: Cell::new(false),
            listed: Cell::new(false),
            broken: Cell::new(false),
            awaited: Cell::new(false),
            waker: RefCell::new(None),
            sent_bytes: Cell::new(0),
            server,
            shard,
            guard: Cell::default(),
            peak_since: Cell::new(Instant::now()),
        };
        (read, outlet)
    }

    /// Keeps the task's waker: the same for the whole life of the task.
    pub(super) fn set_waker(&self, waker: Waker) {
        *self.waker.borrow_mut() = Some(waker);
    }

    /// Whether writing failed.
    pub(super) fn is_broken(&self) -> bool {
        self.broken.get()
    }

    /// Whether so much is under way that nothing more may be executed. If so, progress wakes the
    /// task.
    pub(super) fn is_overloaded(&self) -> bool {
        let gate = self.gate.borrow();
        // Replies behind a hole do not count against the shard's bound, so they are bounded here.
        let overloaded = gate.open().len() > UNSENT_BYTES_MAX
            || gate.holes() > HOLES_MAX
            || gate.holes() > 0 && gate.held_bytes() > UNSENT_BYTES_MAX;
        self.awaited.set(overloaded);
        overloaded
    }

    /// Whether every reply of other shards has come. If not, progress wakes the task.
    pub(super) fn awaits_no_reply(&self) -> bool {
        let complete = self.gate.borrow().holes() == 0;
        self.awaited.set(!complete);
        complete
    }

    /// Commands went to other shards. For at most [`CORK_MAX`], nothing leaves before their
    /// replies are there.
    pub(super) fn cork(self: &Rc<Self>) {
        self.corked.set(true);
        if self.listed.replace(true) {
            return;
        }
        let is_first = CORKED.with_borrow_mut(|corked| {
            corked.push(Rc::clone(self));
            corked.len() == 1
        });
        if is_first {
            tokio::task::spawn_local(async {
                tokio::time::sleep(CORK_MAX).await;
                for outlet in CORKED.take() {
                    outlet.listed.set(false);
                    outlet.uncork();
                }
            });
        }
    }

    /// Sends what may leave, also if replies are missing behind it.
    pub(super) fn uncork(&self) {
        if self.corked.replace(false) && !self.blocked.get() {
            self.send(None);
        }
    }

    /// Bytes sent since the last call.
    pub(super) fn take_sent_bytes(&self) -> u64 {
        self.sent_bytes.take()
    }

    /// Sends what may leave, as far as the socket takes it.
    pub(super) fn send(&self, cx: Option<&mut Context<'_>>) {
        let mut gate = self.gate.borrow_mut();
        while !gate.open().is_empty() && !self.broken.get() {
            let result = match &*self.write.borrow() {
                None => Err(io::ErrorKind::BrokenPipe.into()),
                Some(WriteHalf::Tcp(half)) => half.try_write(gate.open()),
                Some(WriteHalf::Unix(half)) => half.try_write(gate.open()),
            };
            match result {
                Ok(count) => {
                    gate.sent(count);
                    self.sent_bytes.set(self.sent_bytes.get() + count as u64);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.blocked.set(true);
                    break;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => self.broken.set(true),
            }
        }
        drop(gate);
        if (self.blocked.get() || self.broken.get()) && cx.is_none() {
            self.wake();
        }
    }

    /// Polled by the task: goes on sending when the socket takes more.
    pub(super) fn poll_send(&self, cx: &mut Context<'_>) {
        while self.blocked.get() {
            let ready = {
                match &*self.write.borrow() {
                    None => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
                    Some(WriteHalf::Tcp(half)) => half.as_ref().poll_write_ready(cx),
                    Some(WriteHalf::Unix(half)) => half.as_ref().poll_write_ready(cx),
                }
            };
            match ready {
                Poll::Pending => return,
                Poll::Ready(Err(_)) => {
                    self.broken.set(true);
                    return;
                }
                Poll::Ready(Ok(())) => {
                    self.blocked.set(false);
                    self.send(Some(cx));
                }
            }
        }
    }

    /// Waits until `done` holds, sending meanwhile; `false` if the connection broke instead.
    pub(super) async fn wait_until(&self, mut done: impl FnMut(&Gate) -> bool) -> bool {
        self.uncork();
        poll_fn(|cx| {
            self.poll_send(cx);
            if self.broken.get() {
                return Poll::Ready(false);
            }
            if done(&self.gate.borrow()) {
                self.awaited.set(false);
                return Poll::Ready(true);
            }
            self.awaited.set(true);
            Poll::Pending
        })
        .await
    }

    /// The connection has ended: the socket closes now, whatever is still held.
    pub(super) fn close(&self) {
        self.broken.set(true);
        drop(self.write.borrow_mut().take());
    }

    /// Closes the connection if its client has left too much unread: what could not be sent, and
    /// what waits for a commit.
    fn limit_unread(&self) {
        let unread = {
            let gate = self.gate.borrow();
            (gate.open().len() + gate.held_bytes()) as u64
        };
        let limits = &self.server.settings.client_output_buffer_limit;
        let limit = output_limit(&self.client, limits);
        let mut guard = self.guard.get();
        let is_exceeded = guard.is_exceeded(unread, limit, Instant::now());
        self.guard.set(guard);
        if is_exceeded && !self.broken.replace(true) {
            tracing::warn!(
                "Closing client {} ({}): it has left {unread} bytes unread, more than \
                 client-output-buffer-limit",
                self.client.id,
                self.client.peer.addr
            );
            let stats = self.server.stats.shard(self.shard.index());
            stats.output_limit_disconnections.add(1);
            self.client.kill();
            self.wake();
        }
    }

    /// As [`Outlet::limit_unread`], where mostly nothing is unread.
    #[inline]
    fn limit_unread_if_any(&self) {
        let is_all_sent = {
            let gate = self.gate.borrow();
            gate.is_open() && gate.open().is_empty()
        };
        if !is_all_sent {
            self.limit_unread();
        }
    }

    fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }
}

impl Session for Outlet {
    fn id(&self) -> SessionId {
        self.id
    }

    fn gate(&self) -> &RefCell<Gate> {
        &self.gate
    }

    fn memory(&self) -> u64 {
        let mut gate = self.gate.borrow_mut();
        let total = self.client.note_gate(gate.sizes());
        if self.peak_since.get().elapsed() >= PEAK_KEPT {
            self.peak_since.set(Instant::now());
            gate.forget_peak();
        }
        drop(gate);
        self.limit_unread();
        total
    }

    fn progressed(&self) {
        if self.corked.get() && self.gate.borrow().holes() == 0 {
            self.corked.set(false);
        }
        let waits = self.corked.get() || self.gate.borrow().is_settled_soon();
        if !waits && !self.blocked.get() {
            self.send(None);
        }
        self.limit_unread_if_any();
        if self.awaited.get() {
            self.wake();
        }
    }
}
