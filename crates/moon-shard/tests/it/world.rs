//! Shard threads, and clients that do what a connection does: route, batch, borrow, keep order.

use crate::disk::{Disk, FakeLog, Frame, Frames};
use bytes::Bytes;
use moon_commands::subcommands::row_of;
use moon_commands::{CommandSpec, Flags, Limits, Scope, lookup};
use moon_core::{Lsn, ShardCount, ShardId};
use moon_repl::{Clock, CommitOn, Lane};
use moon_resp::{Args, OwnedArgs, Protocol, Reply, Span};
use moon_shard::mailbox::{ControlMessage, DataMessage};
use moon_shard::shard::Shared;
use moon_shard::{
    Batch, BatchCommand, Directory, Gate, LazyFree, Memory, NoObserver, Session, SessionId, Shard,
    ShardConfig, ShardMask, ShardSeed, spawn,
};
use moon_store::{ShardData, THIS_TURN};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::{mpsc as channel, oneshot};

/// Nothing here takes that long unless it hangs.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) const DATABASES: u16 = 4;

/// All shards of one instance.
pub(crate) struct World {
    pub(crate) count: ShardCount,
    pub(crate) directory: Directory,
    pub(crate) disks: Vec<Arc<Disk>>,
    pub(crate) memory: Arc<Memory>,
    frames: Frames,
    next_session: AtomicU64,
    stops: Vec<oneshot::Sender<()>>,
    threads: Vec<JoinHandle<()>>,
}

impl World {
    pub(crate) fn new(shards: u16) -> World {
        World::bounded(shards, usize::MAX)
    }

    /// With a bound on the bytes in flight of each shard.
    pub(crate) fn bounded(shards: u16, inflight_bytes_max: usize) -> World {
        let count = ShardCount::new(shards).unwrap();
        let clock = Clock::new(count, Lsn(1), CommitOn::Written);
        let directory = Directory::new(count);
        let failing_logs = Arc::default();
        let frames = Frames::default();
        let written = Arc::clone(&frames);
        // The history stays here, where a real one goes to the disk.
        let used = move || {
            let frames = written.lock().unwrap();
            let sizes = frames.iter().map(|frame| frame.payload.len());
            let history: usize = sizes.map(moon_alloc::good_size).sum();
            moon_alloc::allocated().saturating_sub(history as u64)
        };
        let free = LazyFree::start().unwrap();
        let memory = Memory::measured(count, free, Box::new(used));
        let (mut disks, mut stops, mut threads) = (vec![], vec![], vec![]);
        for id in count.ids() {
            let disk = Disk::new(Lane::new(Arc::clone(&clock), id));
            let log = FakeLog {
                disk: Arc::clone(&disk),
                frames: Arc::clone(&frames),
            };
            disks.push(disk);
            let (stop, stopped) = oneshot::channel::<()>();
            stops.push(stop);
            let seed = ShardSeed {
                config: ShardConfig {
                    id,
                    count,
                    inflight_bytes_max,
                },
                shared: Shared {
                    directory: directory.clone(),
                    clock: Arc::clone(&clock),
                    failing_logs: Arc::clone(&failing_logs),
                    memory: Arc::clone(&memory),
                    pause: Arc::default(),
                },
                data: Box::new(ShardData::new(id, DATABASES, true)),
                log: Box::new(log),
                limits: Arc::new(Limits::default()),
                seed: u64::from(id.0),
                observer: Box::new(|| Rc::new(NoObserver)),
            };
            let service = Box::new(move |_| Box::pin(async { drop(stopped.await) }) as _);
            threads.push(spawn(seed, service).unwrap());
        }
        World {
            count,
            directory,
            memory,
            disks,
            frames,
            next_session: AtomicU64::new(1),
            stops,
            threads,
        }
    }

    /// A key of `shard`; the same `name` on two shards gives two keys.
    pub(crate) fn key(&self, shard: u16, name: &str) -> String {
        let tag = (0..)
            .find(|i: &u32| self.count.shard_of_key(i.to_string().as_bytes()).0 == shard)
            .unwrap();
        format!("{{{tag}}}{name}")
    }

    /// A client whose home is `shard`.
    pub(crate) fn client(&self, shard: u16) -> Client {
        let id = self.next_session.fetch_add(1, Ordering::Relaxed);
        let outbox = Arc::<Outbox>::default();
        let (requests, receiver) = channel::unbounded_channel();
        let theirs = Arc::clone(&outbox);
        self.run(shard, move |shard| {
            tokio::task::spawn_local(serve(Rc::clone(shard), id, theirs, receiver));
        });
        Client { requests, outbox }
    }

    /// Runs `errand` on the thread of `shard`, without waiting for it.
    pub(crate) fn run(&self, shard: u16, errand: impl FnOnce(&Rc<Shard>) + Send + 'static) {
        self.directory
            .of(ShardId(shard))
            .send_control(ControlMessage::Run(Box::new(errand)));
    }

    /// Runs `look` on the thread of `shard` and returns what it found.
    pub(crate) fn ask<T: Send + 'static>(
        &self,
        shard: u16,
        look: impl FnOnce(&Rc<Shard>) -> T + Send + 'static,
    ) -> T {
        let (answer, answered) = mpsc::channel();
        self.run(shard, move |shard| {
            answer.send(look(shard)).unwrap_or_default()
        });
        answered.recv_timeout(PATIENCE).expect("the shard answers")
    }

    /// Returns when every shard has run whatever was ready several times over: what has not
    /// left by then waits for something.
    pub(crate) fn settle(&self) {
        for _ in 0..6 {
            for id in self.count.ids() {
                let (done, finished) = mpsc::channel();
                self.run(id.0, move |_| {
                    tokio::task::spawn_local(async move {
                        for _ in 0..6 {
                            tokio::task::yield_now().await;
                        }
                        done.send(()).unwrap_or_default();
                    });
                });
                finished.recv_timeout(PATIENCE).expect("the shard runs");
            }
        }
    }

    /// Waits until `condition` holds on the thread of `shard`.
    pub(crate) fn eventually(
        &self,
        shard: u16,
        condition: impl Fn(&Shard) -> bool + Send + 'static,
    ) {
        let (done, finished) = mpsc::channel();
        self.run(shard, move |shard| {
            let shard = Rc::clone(shard);
            tokio::task::spawn_local(async move {
                while !condition(&shard) {
                    tokio::task::yield_now().await;
                }
                done.send(()).unwrap_or_default();
            });
        });
        finished.recv_timeout(PATIENCE).expect("it becomes true");
    }

    /// What `look` sees in the data of `shard`, when that is at home and there is room.
    pub(crate) fn visit<T: Send + 'static>(
        &self,
        shard: u16,
        look: impl FnOnce(&mut ShardData) -> T + Send + 'static,
    ) -> T {
        let (answer, answered) = mpsc::channel();
        let visit = move |data: &mut ShardData| answer.send(look(data)).unwrap_or_default();
        self.directory
            .of(ShardId(shard))
            .send_data(DataMessage::Visit(Box::new(visit)));
        answered.recv_timeout(PATIENCE).expect("the data is there")
    }

    /// The history, in LSN order.
    pub(crate) fn history(&self) -> Vec<Frame> {
        let mut frames = self.frames.lock().unwrap().clone();
        frames.sort_by_key(|frame| frame.lsn);
        frames
    }

    pub(crate) fn release_all(&self) {
        for disk in &self.disks {
            disk.release();
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        for stop in self.stops.drain(..) {
            stop.send(()).unwrap_or_default();
        }
        for thread in self.threads.drain(..) {
            thread.join().expect("no shard has panicked");
        }
    }
}

/// What has left a client's gate.
#[derive(Default)]
pub(crate) struct Outbox {
    text: Mutex<String>,
    grown: Condvar,
}

enum Request {
    Pipeline(Vec<OwnedArgs>),
    Transaction(Vec<OwnedArgs>),
    Close,
}

/// A connection, as its test sees it.
#[derive(Clone)]
pub(crate) struct Client {
    requests: channel::UnboundedSender<Request>,
    outbox: Arc<Outbox>,
}

fn parse(command: &str) -> OwnedArgs {
    OwnedArgs::new(command.split(' '))
}

impl Client {
    /// Sends one command, its arguments divided by spaces.
    pub(crate) fn send(&self, command: &str) {
        self.pipeline(&[command]);
    }

    /// Sends commands that arrive in one read.
    pub(crate) fn pipeline<T: AsRef<str>>(&self, commands: &[T]) {
        let commands = commands.iter().map(|c| parse(c.as_ref())).collect();
        self.request(Request::Pipeline(commands));
    }

    /// Sends MULTI, the commands and EXEC.
    pub(crate) fn transaction<T: AsRef<str>>(&self, commands: &[T]) {
        let commands = commands.iter().map(|c| parse(c.as_ref())).collect();
        self.request(Request::Transaction(commands));
    }

    /// Goes away, whatever is in flight.
    pub(crate) fn close(&self) {
        self.request(Request::Close);
    }

    fn request(&self, request: Request) {
        let sent = self.requests.send(request);
        assert!(sent.is_ok(), "the client is gone");
    }

    /// What has left and was not taken yet.
    pub(crate) fn left(&self) -> String {
        self.outbox.text.lock().unwrap().clone()
    }

    /// Waits until exactly `replies` have left and takes them.
    #[track_caller]
    pub(crate) fn expect(&self, replies: &str) {
        let text = self.outbox.text.lock().unwrap();
        let (mut text, wait) = self
            .outbox
            .grown
            .wait_timeout_while(text, PATIENCE, |text| text.len() < replies.len())
            .unwrap();
        assert!(!wait.timed_out(), "{:?} left, not {replies:?}", *text);
        assert_eq!(*text, replies);
        text.clear();
    }

    /// Waits for `bytes` bytes and takes them.
    #[track_caller]
    pub(crate) fn take(&self, bytes: usize) -> String {
        self.take_when(|text| text.len() >= bytes)
    }

    /// Waits until what has left ends with `end`, and takes it.
    #[track_caller]
    pub(crate) fn wait_for(&self, end: &str) -> String {
        self.take_when(|text| text.ends_with(end))
    }

    /// Waits for `lines` lines and takes them.
    #[track_caller]
    pub(crate) fn wait_lines(&self, lines: usize) -> String {
        self.take_when(|text| text.matches('\n').count() >= lines)
    }

    #[track_caller]
    fn take_when(&self, is_enough: impl Fn(&str) -> bool) -> String {
        let text = self.outbox.text.lock().unwrap();
        let (mut text, wait) = self
            .outbox
            .grown
            .wait_timeout_while(text, PATIENCE, |text| !is_enough(text))
            .unwrap();
        assert!(!wait.timed_out(), "only {} bytes left", text.len());
        std::mem::take(&mut *text)
    }

    /// Sends one command and waits for its reply.
    #[track_caller]
    pub(crate) fn call(&self, command: &str, reply: &str) {
        self.send(command);
        self.expect(reply);
    }
}

/// The shard's view of a client.
struct Outlet {
    id: SessionId,
    gate: RefCell<Gate>,
    outbox: Arc<Outbox>,
    progress: tokio::sync::Notify,
}

impl Session for Outlet {
    fn id(&self) -> SessionId {
        self.id
    }

    fn gate(&self) -> &RefCell<Gate> {
        &self.gate
    }

    fn progressed(&self) {
        let mut gate = self.gate.borrow_mut();
        let open = gate.open().len();
        if open > 0 {
            let text = str::from_utf8(gate.open()).unwrap();
            self.outbox.text.lock().unwrap().push_str(text);
            gate.sent(open);
            self.outbox.grown.notify_all();
        }
        self.progress.notify_waiters();
    }
}

async fn serve(
    shard: Rc<Shard>,
    id: SessionId,
    outbox: Arc<Outbox>,
    mut requests: channel::UnboundedReceiver<Request>,
) {
    let outlet = Rc::new(Outlet {
        id,
        gate: RefCell::default(),
        outbox,
        progress: tokio::sync::Notify::new(),
    });
    let session: Rc<dyn Session> = Rc::clone(&outlet) as _;
    shard.add_session(Rc::clone(&session));
    let count = usize::from(shard.count().get());
    let mut connection = Connection {
        outgoing: (0..count).map(|_| Outgoing::default()).collect(),
        shard,
        outlet,
        session,
    };
    while let Some(request) = requests.recv().await {
        match request {
            Request::Pipeline(commands) => connection.pipeline(&commands).await,
            Request::Transaction(commands) => connection.transaction(&commands).await,
            Request::Close => break,
        }
    }
    connection.shard.remove_session(&*connection.session);
}

#[derive(Default)]
struct Outgoing {
    buf: Vec<u8>,
    spans: Vec<Span>,
    commands: Vec<BatchCommand>,
}

/// The order rules of a connection, without a socket.
struct Connection {
    shard: Rc<Shard>,
    outlet: Rc<Outlet>,
    session: Rc<dyn Session>,
    outgoing: Vec<Outgoing>,
}

impl Connection {
    async fn pipeline(&mut self, commands: &[OwnedArgs]) {
        for command in commands {
            if !self.shard.is_home() || !self.shard.has_room() {
                self.flush();
                self.shard.ready().await;
            }
            let args = command.as_args();
            let (id, spec) = lookup(args.at(0)).unwrap();
            if spec.name == "echo" {
                self.answer(args.at(1));
                continue;
            }
            let mask = self.shards_of(spec, args);
            match mask.single() {
                Some(shard) if shard == self.shard.id() => {
                    let mut gate = self.outlet.gate.borrow_mut();
                    let tail = gate.tail();
                    let start = tail.len();
                    let mut running = self.shard.begin().unwrap();
                    let depends_on = running.execute(id, args, 0, Protocol::Resp2, tail);
                    gate.settle(start, depends_on);
                }
                Some(shard) => self.collect(shard, id, args),
                None => self.borrow(mask, std::slice::from_ref(command)).await,
            }
        }
        self.flush();
    }

    /// What the server answers without the shard.
    fn answer(&self, text: &[u8]) {
        let mut gate = self.outlet.gate.borrow_mut();
        let tail = gate.tail();
        let start = tail.len();
        Reply::new(tail, Protocol::Resp2).bulk(text);
        gate.settle(start, Lsn::ZERO);
    }

    async fn transaction(&mut self, commands: &[OwnedArgs]) {
        self.shard.ready().await;
        let mask = commands.iter().fold(ShardMask::default(), |mask, command| {
            let args = command.as_args();
            mask.union(self.shards_of(lookup(args.at(0)).unwrap().1, args))
        });
        self.borrow(mask, commands).await;
        self.flush();
    }

    async fn borrow(&mut self, mask: ShardMask, commands: &[OwnedArgs]) {
        self.flush();
        while self.outlet.gate.borrow().holes() > 0 {
            self.outlet.progress.notified().await;
        }
        let writes = commands.iter().any(|command| {
            let spec = lookup(command.as_args().at(0)).unwrap().1;
            spec.is_write() && !spec.flags.contains(Flags::FREES_MEMORY)
        });
        let mut replies = Vec::new();
        let mut depends_on = Lsn::ZERO;
        if let Some(misconf) = self.shard.refuses_writes().filter(|_| writes) {
            Reply::new(&mut replies, Protocol::Resp2).error(&misconf.to_string());
        } else {
            let mut borrowed = self.shard.borrow(mask).await;
            for command in commands {
                let args = command.as_args();
                let (id, _) = lookup(args.at(0)).unwrap();
                let one = borrowed.execute(id, args, 0, Protocol::Resp2, &mut replies);
                depends_on = depends_on.max(one);
            }
            let end = borrowed.commit();
            if depends_on == THIS_TURN {
                depends_on = end;
            }
        }
        let mut gate = self.outlet.gate.borrow_mut();
        let tail = gate.tail();
        let start = tail.len();
        tail.extend_from_slice(&replies);
        gate.settle(start, depends_on);
        drop(gate);
        self.flush();
    }

    fn shards_of(&self, spec: &'static CommandSpec, args: Args<'_>) -> ShardMask {
        let spec = row_of(spec, args);
        let count = self.shard.count();
        if spec.scope == Scope::AllShards {
            return ShardMask::all(count);
        }
        let mut positions = Vec::new();
        spec.key_positions(args, &mut positions);
        positions.iter().fold(ShardMask::default(), |mask, at| {
            mask.with(count.shard_of_key(args.at(*at)))
        })
    }

    fn collect(&mut self, to: ShardId, id: u16, args: Args<'_>) {
        let ticket = self.outlet.gate.borrow_mut().reserve();
        let outgoing = &mut self.outgoing[to.index()];
        let first = u32::try_from(outgoing.spans.len()).unwrap();
        for arg in args.iter() {
            outgoing.spans.push(Span {
                start: u32::try_from(outgoing.buf.len()).unwrap(),
                len: u32::try_from(arg.len()).unwrap(),
            });
            outgoing.buf.extend_from_slice(arg);
        }
        outgoing.commands.push(BatchCommand {
            id,
            first,
            count: u32::try_from(args.len()).unwrap(),
            ticket,
        });
    }

    fn flush(&mut self) {
        for (to, outgoing) in self.shard.count().ids().zip(&mut self.outgoing) {
            let Outgoing {
                buf,
                spans,
                commands,
            } = std::mem::take(outgoing);
            if commands.is_empty() {
                continue;
            }
            let batch = Batch {
                remembers: false,
                from: self.shard.id(),
                session: self.outlet.id,
                db: 0,
                protocol: Protocol::Resp2,
                buf: Bytes::from(buf),
                spans,
                commands,
            };
            self.shard
                .directory()
                .of(to)
                .send_data(DataMessage::Batch(batch));
        }
        self.shard.join_turn(&self.session);
        self.shard.settle(&self.session);
    }
}
