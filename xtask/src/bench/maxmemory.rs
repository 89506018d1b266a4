//! What a memory limit costs and keeps: `cargo xtask bench maxmemory`.
//!
//! Two phases per server and policy. First ten times the limit is written, while another
//! connection looks at INFO: how far does `used_memory` go beyond the limit, and does a write
//! fail? Then a cache is used as caches are: keys are asked for with the frequencies of Zipf's
//! law, and what is missing is written. The share of hits says how well the policy chooses.
//! Nothing is logged, so that memory in flight does not blur the comparison; `--append` logs.

use super::measure::{self, info_field};
use super::table::{Columns, Table, judged};
use super::{Common, Lab};
use crate::binary::ServerBinary;
use anyhow::{Context as _, Result};
use moon_harness::{Client, Flavor, FsyncPolicy, Reply, Server};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

/// Time between two looks at INFO.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// Commands on their way at once.
const PIPELINE: usize = 64;
/// How uneven the uses of keys are.
const ZIPF_EXPONENT: f64 = 0.99;
/// Decides which keys are asked for; the same for all servers.
const SEED: u64 = 11;
/// `used_memory` may be beyond the limit by this, in percent.
const BEYOND_MAX_PERCENT: f64 = 2.0;
/// The share of hits may be below that of the other server by this, in percent.
const HITS_LESS_MAX: f64 = 1.0;

const COLUMNS: Columns = &[
    " policy",
    " server",
    "written, MiB",
    "writes refused",
    "used_memory beyond the limit",
    "counted beyond the limit",
    "evicted",
    "hits",
    "hits compared",
];

/// Options of `cargo xtask bench maxmemory`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Options {
    #[command(flatten)]
    common: Common,
    /// The limit in MiB [default: 200, quick: 24]
    #[arg(long)]
    limit: Option<u64>,
    /// Size of the values
    #[arg(long, default_value_t = 500)]
    value_bytes: u32,
    /// Shards of moon-server
    #[arg(long, default_value_t = 2)]
    shards: u16,
    /// Log what is written (everysec)
    #[arg(long)]
    append: bool,
    /// Policies to measure
    #[arg(long, value_delimiter = ',', default_value = "allkeys-lru,allkeys-lfu")]
    policies: Vec<String>,
}

/// What one server did.
struct Outcome {
    written_mib: u64,
    refused: u64,
    /// In percent of the limit; negative: below it.
    beyond_percent: f64,
    counted_beyond_percent: f64,
    evicted: String,
    hits_percent: f64,
}

/// Measures both servers.
pub(super) fn run(options: &Options) -> Result<bool> {
    let quick = options.common.quick;
    let limit = options.limit.unwrap_or(if quick { 24 } else { 200 }) << 20;
    let lab = options.common.lab()?;
    let mut table = Table::new(&lab.describe(&format!(
        "maxmemory {} MiB, values of {} bytes, {}; Zipf exponent {ZIPF_EXPONENT}, seed {SEED}",
        limit >> 20,
        options.value_bytes,
        if options.append {
            "appendfsync everysec"
        } else {
            "no log"
        }
    )));
    for policy in &options.policies {
        let mut first = None;
        for binary in [&lab.peer, &lab.moon] {
            let outcome = measure(&lab, binary, policy, limit, options)
                .with_context(|| format!("measuring {policy} of {:?}", binary.flavor))?;
            let compared = match first {
                None => "-".to_owned(),
                Some(hits) => {
                    let less: f64 = hits - outcome.hits_percent;
                    judged(format!("{:+.2}", -less), less <= HITS_LESS_MAX)
                }
            };
            first.get_or_insert(outcome.hits_percent);
            table.row(COLUMNS, &row(policy, binary, options, &outcome, compared));
        }
    }
    options.common.write(&table, "bench-maxmemory.md")?;
    Ok(true)
}

fn row(
    policy: &str,
    binary: &ServerBinary,
    options: &Options,
    outcome: &Outcome,
    compared: String,
) -> [String; 9] {
    let name = match binary.flavor {
        Flavor::Redis => "redis-server".to_owned(),
        Flavor::Moon => format!("moon-server, {} shards", options.shards),
    };
    let beyond = outcome.beyond_percent;
    [
        policy.to_owned(),
        name,
        outcome.written_mib.to_string(),
        outcome.refused.to_string(),
        judged(format!("{beyond:+.2} %"), beyond <= BEYOND_MAX_PERCENT),
        format!("{:+.2} %", outcome.counted_beyond_percent),
        outcome.evicted.clone(),
        format!("{:.2} %", outcome.hits_percent),
        compared,
    ]
}

fn measure(
    lab: &Lab,
    binary: &ServerBinary,
    policy: &str,
    limit: u64,
    options: &Options,
) -> Result<Outcome> {
    let append = options.append.then_some(FsyncPolicy::Everysec);
    let config = measure::config(binary, append, options.shards, lab.data.path())
        .arg("--maxmemory")
        .arg(limit.to_string())
        .arg("--maxmemory-policy")
        .arg(policy);
    let server = Server::start(config)?;
    let mut client = server.client()?;
    let watcher = Watcher::start(server.address())?;
    let value = measure::value(options.value_bytes);
    let total = limit * if lab.quick { 3 } else { 10 };
    let writes = total / u64::from(options.value_bytes);
    let refused = write_all(&mut client, writes, &value)?;
    let most = watcher.finish()?;
    let evicted = info_field(&mut client, "stats", "evicted_keys")?;
    // So many keys that about a quarter of them finds room.
    let keys = limit * 4 / u64::from(options.value_bytes + 100);
    let asked = keys * if lab.quick { 2 } else { 4 };
    let hits_percent = use_as_cache(&mut client, keys, asked, &value)?;
    let beyond = |bytes: u64| (bytes as f64 / limit as f64 - 1.0) * 100.0;
    Ok(Outcome {
        written_mib: total >> 20,
        refused,
        beyond_percent: beyond(most.used),
        counted_beyond_percent: beyond(most.counted),
        evicted,
        hits_percent,
    })
}

/// Writes keys that are never used again; how many of the writes were refused.
fn write_all(client: &mut Client, writes: u64, value: &str) -> Result<u64> {
    let mut refused = 0;
    let mut next = 0;
    while next < writes {
        let batch = (writes - next).min(PIPELINE as u64);
        for number in next..next + batch {
            client.queue(&["SET", &format!("once:{number}"), value]);
        }
        client.flush()?;
        for _ in 0..batch {
            refused += u64::from(!client.read_reply()?.is_ok());
        }
        next += batch;
    }
    Ok(refused)
}

/// Asks for keys by Zipf's law and writes what is missing; the share of hits in the second half,
/// in percent.
fn use_as_cache(client: &mut Client, keys: u64, asked: u64, value: &str) -> Result<f64> {
    let zipf = Zipf::new(keys);
    let mut rng = StdRng::seed_from_u64(SEED);
    let (mut hits, mut counted) = (0u64, 0u64);
    let mut done = 0;
    while done < asked {
        let batch: Vec<String> = (0..PIPELINE)
            .map(|_| measure::key(zipf.draw(&mut rng)))
            .collect();
        for key in &batch {
            client.queue(&["GET", key]);
        }
        client.flush()?;
        let mut missing = Vec::new();
        for key in &batch {
            match client.read_reply()? {
                Reply::Bulk(_) => hits += u64::from(done >= asked / 2),
                _ => missing.push(key),
            }
        }
        counted += if done >= asked / 2 {
            PIPELINE as u64
        } else {
            0
        };
        missing.dedup();
        for key in &missing {
            client.queue(&["SET", key, value]);
        }
        client.flush()?;
        for _ in &missing {
            client.read_reply()?;
        }
        done += PIPELINE as u64;
    }
    Ok(hits as f64 * 100.0 / counted.max(1) as f64)
}

/// Numbers below a bound, the small ones more often.
struct Zipf {
    /// Sums of the weights.
    sums: Vec<f64>,
}

impl Zipf {
    fn new(count: u64) -> Zipf {
        let mut sum = 0.0;
        let sums = (1..=count)
            .map(|rank| {
                sum += (rank as f64).powf(-ZIPF_EXPONENT);
                sum
            })
            .collect();
        Zipf { sums }
    }

    fn draw(&self, rng: &mut StdRng) -> u64 {
        let all = self.sums.last().copied().unwrap_or(0.0);
        let at = rng.random_range(0.0..1.0) * all;
        self.sums.partition_point(|sum| *sum <= at) as u64
    }
}

/// The most memory that INFO showed.
#[derive(Clone, Copy, Debug, Default)]
struct Most {
    used: u64,
    counted: u64,
}

/// Looks at INFO again and again.
struct Watcher {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<Result<Most>>,
}

impl Watcher {
    fn start(address: SocketAddr) -> Result<Watcher> {
        let stop = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&stop);
        let mut client = Client::connect(address)?;
        let thread = std::thread::spawn(move || {
            let mut most = Most::default();
            while !flag.load(Relaxed) {
                let number = |client: &mut Client, field| -> Result<u64> {
                    Ok(info_field(client, "memory", field)?.parse()?)
                };
                let used = number(&mut client, "used_memory")?;
                let not_counted = number(&mut client, "mem_not_counted_for_evict")?;
                most.used = most.used.max(used);
                most.counted = most.counted.max(used.saturating_sub(not_counted));
                std::thread::sleep(LOOK_INTERVAL);
            }
            Ok(most)
        });
        Ok(Watcher { stop, thread })
    }

    fn finish(self) -> Result<Most> {
        self.stop.store(true, Relaxed);
        let outcome = self.thread.join();
        outcome.map_err(|_| anyhow::anyhow!("the watcher panicked"))?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_numbers_are_drawn_as_often_as_zipf_says() {
        let zipf = Zipf::new(1000);
        let mut rng = StdRng::seed_from_u64(1);
        let draws: Vec<u64> = (0..100_000).map(|_| zipf.draw(&mut rng)).collect();
        let share = |below| draws.iter().filter(|n| **n < below).count() as f64 / 1e5;
        assert!(draws.iter().all(|n| *n < 1000));
        // Of the weights of 1000 ranks, 7.73 in all, the first has 1 and the first ten 2.95.
        assert!((share(1) - 1.0 / 7.73).abs() < 0.01, "{}", share(1));
        assert!((share(10) - 2.95 / 7.73).abs() < 0.01, "{}", share(10));
    }
}
