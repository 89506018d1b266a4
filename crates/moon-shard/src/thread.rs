//! The thread of one shard and its tasks.
//!
//! Four tasks beside the connections, all on one current-thread runtime:
//! * the *mailbox* task takes messages; it never waits for anything but messages,
//! * the *committer* ends turns and opens gates; it runs behind the connections that were ready
//!   when the turn began, so that one frame carries what all of them wrote,
//! * the *tick* lets the log retry and sync, and removes expired keys,
//! * the *evictor* removes keys while memory has run out.

use crate::batch::Batch;
use crate::mailbox::{ControlMessage, DataMessage};
use crate::observer::Observer;
use crate::shard::{Shard, ShardConfig, Shared};
use moon_commands::Limits;
use moon_repl::CommitLog;
use moon_store::ShardData;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::task::LocalSet;

/// Ticks per second, as Redis's default `hz`.
const TICK: Duration = Duration::from_millis(100);
/// Share of a tick that removing expired keys may take, in slices so that commands run between.
const EXPIRE_SLICE: Duration = Duration::from_micros(1000);
const EXPIRE_SLICES_PER_TICK: u32 = 25;
/// Messages taken before the connections get their turn.
const MESSAGES_PER_POLL: usize = 64;

/// What a shard's thread does besides its own tasks, until it ends: serving connections.
pub type Service = Box<dyn FnOnce(Rc<Shard>) -> Pin<Box<dyn Future<Output = ()>>> + Send>;

/// Everything a shard starts with.
pub struct ShardSeed {
    /// Its place.
    pub config: ShardConfig,
    /// What it shares with the others.
    pub shared: Shared,
    /// Its data, after recovery.
    pub data: Box<ShardData>,
    /// Its way into the history.
    pub log: Box<dyn CommitLog + Send>,
    /// Bounds and thresholds.
    pub limits: Arc<Limits>,
    /// Seeds its random picks.
    pub seed: u64,
    /// Makes its observer, on its thread.
    pub observer: Box<dyn FnOnce() -> Rc<dyn Observer> + Send>,
}

/// Starts the thread. It serves until `service` ends; then its last turn is in the log.
///
/// # Errors
/// When the operating system gives no thread or no event queue.
pub fn spawn(seed: ShardSeed, service: Service) -> std::io::Result<JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        // Look at the sockets after this many polls; larger turns per frame, fewer system calls.
        .event_interval(EVENT_INTERVAL)
        .global_queue_interval(EVENT_INTERVAL)
        .build()?;
    let name = format!("shard-{}", seed.config.id.0);
    std::thread::Builder::new().name(name).spawn(move || {
        let _counter = moon_alloc::OwnCounter::take();
        let local = LocalSet::new();
        local.block_on(&runtime, async move {
            let shard = Shard::new(
                seed.config,
                seed.shared,
                seed.data,
                seed.log,
                seed.limits,
                SmallRng::seed_from_u64(seed.seed),
                (seed.observer)(),
            );
            tokio::task::spawn_local(run_mailbox(Rc::clone(&shard)));
            tokio::task::spawn_local(run_committer(Rc::clone(&shard)));
            tokio::task::spawn_local(run_tick(Rc::clone(&shard)));
            tokio::task::spawn_local(run_evictor(Rc::clone(&shard)));
            service(Rc::clone(&shard)).await;
            shard.end_turn();
        });
    })
}

/// See tokio's `event_interval`.
const EVENT_INTERVAL: u32 = 61;

async fn run_mailbox(shard: Rc<Shard>) {
    let mailbox = shard.directory().clone();
    let mailbox = mailbox.of(shard.id());
    // Waits for a huge value that the walk encodes; what is behind it waits with it.
    let mut parked: Option<Batch> = None;
    loop {
        let mut taken = 0;
        while taken < MESSAGES_PER_POLL {
            taken += 1;
            if let Some(message) = mailbox.take_control() {
                let came_home = matches!(message, ControlMessage::Home(..));
                take_control(&shard, message);
                if came_home {
                    // The connections that waited for the data go before the next borrow.
                    tokio::task::yield_now().await;
                }
                continue;
            }
            if !shard.is_home() {
                if shard.refuse_waiting(&mut parked) {
                    continue;
                }
                break;
            }
            let message = if !shard.has_room() {
                mailbox.take_lend()
            } else if let Some(batch) = parked.take() {
                Some(DataMessage::Batch(batch))
            } else {
                mailbox.take_data()
            };
            let message = match message {
                Some(DataMessage::Batch(batch)) if shard.holds(&batch) => {
                    parked = Some(batch);
                    mailbox.take_lend()
                }
                message => message,
            };
            shard.parked.set(parked.is_some());
            match message {
                Some(message) => take_data(&shard, message),
                None => break,
            }
        }
        if taken == MESSAGES_PER_POLL {
            tokio::task::yield_now().await;
        } else {
            mailbox.filled().await;
        }
    }
}

fn take_control(shard: &Rc<Shard>, message: ControlMessage) {
    match message {
        ControlMessage::Home(data, end) => shard.take_home(data, end),
        ControlMessage::Replies(reply) => shard.take_replies(reply),
        ControlMessage::Run(run) => run(shard),
    }
}

fn take_data(shard: &Rc<Shard>, message: DataMessage) {
    match message {
        DataMessage::Batch(batch) => shard.run_batch(&batch),
        DataMessage::Attempt(waiter) => shard.attempt(&waiter),
        DataMessage::Lend(request) => {
            shard.end_turn();
            let mut core = shard.core.borrow_mut();
            let data = core.data.take().expect("a shard at home has its data");
            request.lend(data, &mut core.log, shard.directory().clone());
        }
        DataMessage::Visit(visit) => {
            let mut core = shard.core.borrow_mut();
            visit(core.data.as_mut().expect("a shard at home has its data"));
            drop(core);
            shard.serve_waiting();
        }
    }
}

async fn run_committer(shard: Rc<Shard>) {
    let committer = Arc::clone(&shard.committer);
    loop {
        committer.notified().await;
        shard.end_turn();
        shard.open_gates();
    }
}

async fn run_evictor(shard: Rc<Shard>) {
    loop {
        shard.evictor.notified().await;
        while shard.evict_slice() {
            tokio::task::yield_now().await;
        }
    }
}

async fn run_tick(shard: Rc<Shard>) {
    let mut interval = tokio::time::interval(TICK);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        shard.tick();
        for _ in 0..EXPIRE_SLICES_PER_TICK {
            if !shard.expire(EXPIRE_SLICE) {
                break;
            }
            tokio::task::yield_now().await;
        }
    }
}
