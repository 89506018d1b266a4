//! One turn of a shard: commands in, one frame out, replies open. Without sockets and files.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use moon_commands::{Limits, lookup};
use moon_core::{Lsn, ShardCount, ShardId};
use moon_repl::{Clock, CommitOn, Lane, MemoryLog};
use moon_resp::{OwnedArgs, Protocol};
use moon_shard::shard::Shared;
use moon_shard::{
    Directory, Gate, LazyFree, Memory, NoObserver, Session, SessionId, Shard, ShardConfig,
    ShardSeed, spawn,
};
use moon_store::ShardData;
use std::cell::RefCell;
use std::hint::black_box;
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

/// Commands per turn: a short pipeline, and one per connection of a busy shard.
const TURNS: [usize; 2] = [16, 64];
const VALUE_BYTES: usize = 64;

struct Connection {
    gate: RefCell<Gate>,
}

impl Session for Connection {
    fn id(&self) -> SessionId {
        1
    }

    fn gate(&self) -> &RefCell<Gate> {
        &self.gate
    }

    fn progressed(&self) {
        let mut gate = self.gate.borrow_mut();
        let open = gate.open().len();
        black_box(gate.open());
        gate.sent(open);
    }
}

/// Runs `work` on the thread of a shard of its own.
fn on_shard<T: Send + 'static>(
    gated: bool,
    work: impl FnOnce(Rc<Shard>) -> T + Send + 'static,
) -> T {
    let count = ShardCount::ONE;
    let clock = Clock::new(count, Lsn::ZERO, CommitOn::Written);
    let lane = Lane::new(Arc::clone(&clock), ShardId(0));
    let seed = ShardSeed {
        config: ShardConfig {
            id: ShardId(0),
            count,
            inflight_bytes_max: usize::MAX,
        },
        shared: Shared {
            directory: Directory::new(count),
            clock,
            failing_logs: Arc::default(),
            memory: Memory::new(count, LazyFree::start().expect("a thread")),
            pause: Arc::default(),
        },
        data: Box::new(ShardData::new(ShardId(0), 1, gated)),
        log: Box::new(MemoryLog::new(lane)),
        limits: Arc::new(Limits::default()),
        seed: 1,
        observer: Box::new(|| Rc::new(NoObserver)),
    };
    let (send, result) = mpsc::channel();
    let service = Box::new(move |shard| {
        Box::pin(async move { send.send(work(shard)).unwrap_or_default() }) as _
    });
    let thread = spawn(seed, service).expect("a thread for the bench");
    let result = result.recv().expect("the shard runs the bench");
    thread.join().expect("the shard ends");
    result
}

/// Time of `turns` turns of `commands` SETs each, over keys that are there already.
fn time_turns(gated: bool, commands: usize, turns: u64) -> Duration {
    on_shard(gated, move |shard| {
        let value = "v".repeat(VALUE_BYTES);
        let requests: Vec<OwnedArgs> = (0..commands)
            .map(|i| OwnedArgs::new(["set", &format!("key:{i}"), &value]))
            .collect();
        let (id, _) = lookup(b"set").expect("SET is a command");
        let session: Rc<dyn Session> = Rc::new(Connection {
            gate: RefCell::default(),
        });
        shard.add_session(Rc::clone(&session));
        let started = Instant::now();
        for _ in 0..turns {
            {
                let mut gate = session.gate().borrow_mut();
                let mut running = shard.begin().expect("the data is at home");
                for request in &requests {
                    let tail = gate.tail();
                    let start = tail.len();
                    let args = request.as_args();
                    let depends_on = running.execute(id, args, 0, Protocol::Resp2, tail);
                    gate.settle(start, depends_on);
                }
            }
            shard.join_turn(&session);
            shard.settle(&session);
            shard.end_turn();
            // As the committer does; it does not run here.
            let mut running = shard.begin().expect("the data is at home");
            running.data().dirty.committed(shard.clock().committed());
        }
        started.elapsed()
    })
}

fn turn(c: &mut Criterion) {
    for (name, gated) in [("turn/log off", false), ("turn/gated", true)] {
        let mut group = c.benchmark_group(name);
        for commands in TURNS {
            group.throughput(Throughput::Elements(commands as u64));
            group.bench_function(BenchmarkId::from_parameter(commands), |b| {
                b.iter_custom(|turns| time_turns(gated, commands, turns));
            });
        }
        group.finish();
    }
}

criterion_group!(benches, turn);
criterion_main!(benches);
