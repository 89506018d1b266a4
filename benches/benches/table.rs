//! Get and insert over a large database, key by key and in pipelines whose keys are warmed
//! first; and the slowest single insert while a database grows.
//!
//! `MOON_BENCH_KEYS` sets the number of keys (default one million).

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use moon_store::{Db, Key, Value};
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Runs over which the fastest of each insert is taken.
const GROWTH_RUNS: usize = 3;

/// Look-ups per measured iteration.
const LOOKUPS: usize = 4096;

/// `cargo bench` says so with `--bench`; a test run only sees that the bench still works.
fn key_count() -> usize {
    let default = if std::env::args().any(|arg| arg == "--bench") {
        1_000_000
    } else {
        10_000
    };
    let chosen = std::env::var("MOON_BENCH_KEYS").ok();
    chosen.and_then(|n| n.parse().ok()).unwrap_or(default)
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
                db.warm(hashed, |_| &[]);
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

/// Not a distribution but a worst case, so it is printed instead of sampled. Growth is
/// deterministic: the same inserts split the same segments each time. The fastest of a few runs
/// of each insert is its own cost without what the machine did besides.
fn growth(_: &mut Criterion) {
    let keys = key_count() * 5;
    let mut insert_ns = vec![u32::MAX; keys];
    for _ in 0..GROWTH_RUNS {
        let mut db = Db::default();
        for (i, best) in insert_ns.iter_mut().enumerate() {
            let name = name(i);
            let before = Instant::now();
            db.insert(Key::new(&name), Value::from_int(1), None);
            let took = before.elapsed().as_nanos();
            *best = (*best).min(u32::try_from(took).unwrap_or(u32::MAX));
        }
    }
    let above = |us: u32| insert_ns.iter().filter(|ns| **ns > us * 1000).count();
    let (above_20, above_50, above_100) = (above(20), above(50), above(100));
    insert_ns.sort_unstable();
    println!(
        "table/growth: {keys} keys, median {} ns, slowest {:.1} us, next {:.1} us; \
         above 20 us {above_20}, 50 us {above_50}, 100 us {above_100}",
        insert_ns[keys / 2],
        f64::from(insert_ns[keys - 1]) / 1000.0,
        f64::from(insert_ns[keys - 2]) / 1000.0,
    );
}

criterion_group!(benches, table, growth);
criterion_main!(benches);
