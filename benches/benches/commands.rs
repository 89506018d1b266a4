//! The command look-up, and commands as a shard runs them: arguments in, reply and effects out.
//!
//! The keys fit in the cache, so this is the cost of the code; `table` has that of memory.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use moon_commands::context::{Counts, Origin};
use moon_commands::{Cx, Effects, Limits, ShardSet, execute, lookup};
use moon_core::{Lsn, ShardCount, ShardId, UnixMs};
use moon_resp::{OwnedArgs, Protocol, Reply};
use moon_store::ShardData;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use std::hint::black_box;

/// Commands per measured iteration, each on a key of its own.
const COMMANDS: usize = 1000;

fn look_up(c: &mut Criterion) {
    let names: [&[u8]; 6] = [
        b"GET",
        b"set",
        b"PEXPIREAT",
        b"incrbyfloat",
        b"HGETALL",
        b"nosuch",
    ];
    let mut group = c.benchmark_group("lookup");
    group.throughput(Throughput::Elements(names.len() as u64));
    group.bench_function("six names", |b| {
        b.iter(|| {
            for name in names {
                black_box(lookup(black_box(name)));
            }
        });
    });
    group.finish();
}

fn run(c: &mut Criterion) {
    let value = "v".repeat(64);
    let cases = [
        ("get", vec![]),
        ("set", vec![value.as_str()]),
        ("incr", vec![]),
        ("expire", vec!["100"]),
        ("del", vec![]),
    ];
    let mut group = c.benchmark_group("execute");
    group.throughput(Throughput::Elements(COMMANDS as u64));
    for (name, rest) in cases {
        let requests: Vec<OwnedArgs> = (0..COMMANDS)
            .map(|i| {
                let key = format!("{name}:{i}");
                let head = [name, key.as_str()];
                OwnedArgs::new(head.iter().chain(rest.iter()))
            })
            .collect();
        let mut turn = Turn::new();
        if name == "get" {
            let fill = |i| OwnedArgs::new(["set", &format!("get:{i}"), &value]);
            turn.run(&(0..COMMANDS).map(fill).collect::<Vec<_>>());
        }
        group.bench_function(name, |b| b.iter(|| turn.run(&requests)));
    }
    group.finish();
}

/// A shard, and the buffers of its turns.
struct Turn {
    shard: ShardData,
    effects: Effects,
    replies: Vec<u8>,
    rng: SmallRng,
    limits: Limits,
    end: u64,
}

impl Turn {
    fn new() -> Turn {
        Turn {
            shard: ShardData::new(ShardId(0), 16, true),
            effects: Effects::default(),
            replies: Vec::new(),
            rng: SmallRng::seed_from_u64(1),
            limits: Limits::default(),
            end: 0,
        }
    }

    fn run(&mut self, requests: &[OwnedArgs]) {
        self.replies.clear();
        for request in requests {
            let args = request.as_args();
            let (_, spec) = lookup(args.at(0)).expect("a known command");
            let mut cx = Cx {
                shards: ShardSet::One(&mut self.shard),
                shard_count: ShardCount::ONE,
                db: 0,
                now: UnixMs(1_700_000_000_000),
                origin: Origin::Client,
                reply: Reply::new(&mut self.replies, Protocol::Resp2),
                effects: &mut self.effects,
                depends_on: Lsn::ZERO,
                rng: &mut self.rng,
                limits: &self.limits,
                counts: Counts::default(),
                keep_expired: false,
            };
            execute(&mut cx, spec, args);
            black_box(cx.depends_on);
        }
        self.end += self.effects.take().len() as u64;
        self.shard.dirty.seal(Lsn(self.end));
        self.shard.dirty.committed(Lsn(self.end));
    }
}

criterion_group!(benches, look_up, run);
criterion_main!(benches);
