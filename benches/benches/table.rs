//! Get and insert over a large database, key by key and in pipelines whose keys are warmed
//! first; and the slowest single insert while a database grows.
//!
//! `MOON_BENCH_KEYS` sets the number of keys (default one million).

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use moon_store::{Db, Key, Value};
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Look-ups per measured iteration.
const LOOKUPS: usize = 4096;

fn key_count() -> usize {
    std::env::var("MOON_BENCH_KEYS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(1_000_000)
}

fn name(i: usize) -> [u8; 16] {
    let mut name = *b"key:000000000000";
    let mut rest = i;
    for digit in name[4..].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    name
}

fn filled(keys: usize, value: &[u8]) -> Db {
    let mut db = Db::default();
    for i in 0..keys {
        db.insert(Key::new(&name(i)), Value::string(value), None);
    }
    db
}

/// Key numbers in an order that no prefetcher foresees.
struct Shuffled {
    state: u64,
    keys: usize,
}

impl Shuffled {
    fn fill(&mut self, names: &mut [[u8; 16]]) {
        for slot in names {
            self.state ^= self.state << 13;
            self.state ^= self.state >> 7;
            self.state ^= self.state << 17;
            *slot = name((self.state % self.keys as u64) as usize);
        }
    }
}

/// Runs `work` on pipelines of `depth` keys, hashed and (from two on) warmed together. The time
/// of choosing keys is left out.
fn pipelines(
    iterations: u64,
    db: &mut Db,
    keys: usize,
    depth: usize,
    mut work: impl FnMut(&mut Db, Key<'_>),
) -> Duration {
    let mut order = Shuffled {
        state: 0x9E37_79B9_7F4A_7C15,
        keys,
    };
    let mut names = vec![[0; 16]; LOOKUPS];
    let mut spent = Duration::ZERO;
    for _ in 0..iterations {
        order.fill(&mut names);
        let start = Instant::now();
        for batch in names.chunks(depth) {
            let mut hashed = [Key {
                bytes: &[],
                hash: 0,
            }; 64];
            let hashed = &mut hashed[..batch.len()];
            for (key, name) in hashed.iter_mut().zip(batch) {
                *key = Key::new(name);
            }
            if depth > 1 {
                db.warm(hashed);
            }
            for key in hashed {
                work(db, *key);
            }
        }
        spent += start.elapsed();
    }
    spent
}

fn table(c: &mut Criterion) {
    let keys = key_count();
    let mut group = c.benchmark_group("table");
    group.throughput(Throughput::Elements(LOOKUPS as u64));
    group.sample_size(20);
    for (label, value) in [("8B", &b"value---"[..]), ("64B", &[b'v'; 64])] {
        let mut db = filled(keys, value);
        for depth in [1, 16, 64] {
            group.bench_function(format!("get/{label}/depth {depth}"), |b| {
                b.iter_custom(|iterations| {
                    pipelines(iterations, &mut db, keys, depth, |db, key| {
                        if let Some((Value::Str(value), _)) = db.get(key) {
                            black_box(value.as_bytes().first());
                        }
                    })
                });
            });
            group.bench_function(format!("overwrite/{label}/depth {depth}"), |b| {
                b.iter_custom(|iterations| {
                    pipelines(iterations, &mut db, keys, depth, |db, key| {
                        black_box(db.insert(key, Value::string(value), None));
                    })
                });
            });
        }
    }
    group.finish();
}

/// Not a distribution but a worst case, so it is printed instead of sampled.
fn growth(_: &mut Criterion) {
    let keys = key_count() * 5;
    let mut db = Db::default();
    let (mut slowest, start) = (Duration::ZERO, Instant::now());
    let mut slow = [0u32; 3];
    for i in 0..keys {
        let name = name(i);
        let before = Instant::now();
        db.insert(Key::new(&name), Value::from_int(1), None);
        let took = before.elapsed();
        slowest = slowest.max(took);
        for (count, limit_us) in slow.iter_mut().zip([50, 100, 1000]) {
            *count += u32::from(took > Duration::from_micros(limit_us));
        }
    }
    println!(
        "table/growth: {keys} keys, {} ns/insert, slowest insert {} us, above 50/100/1000 us: {slow:?}",
        start.elapsed().as_nanos() / keys as u128,
        slowest.as_micros(),
    );
}

criterion_group!(benches, table, growth);
criterion_main!(benches);
