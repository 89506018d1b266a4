//! Running `redis-benchmark` against a server and reading what the server spent.

use super::plan::{Case, VALUE_BYTES};
use crate::binary::ServerBinary;
use anyhow::{Context as _, Result, bail};
use moon_harness::{FsyncPolicy, Server, ServerConfig};
use std::path::Path;
use std::process::Command;

/// Requests per pipeline while keys are loaded.
const PRELOAD_DEPTH: u64 = 500;

/// Which core runs what, as `taskset -c` takes them.
#[derive(Clone, Debug)]
pub(crate) struct Cores {
    pub(crate) server: String,
    pub(crate) client: String,
}

/// Two servers that take turns.
pub(crate) struct Pair {
    pub(crate) first: Server,
    pub(crate) second: Server,
}

impl Pair {
    /// Writes the keys that `redis-benchmark -r keys` uses into both servers.
    pub(crate) fn preload(&self, keys: u64) -> Result<()> {
        for server in [&self.first, &self.second] {
            preload(server, keys)
                .with_context(|| format!("loading {keys} keys\n{}", server.log_tail()))?;
        }
        Ok(())
    }
}

/// One round: what the client saw and what the server spent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    /// Requests per second.
    pub(crate) throughput: f64,
    /// Server CPU per request, microseconds.
    pub(crate) cpu_us: f64,
}

impl Sample {
    /// The median of each figure.
    pub(crate) fn median(samples: &[Sample]) -> Sample {
        let median = |figure: fn(&Sample) -> f64| {
            let mut figures: Vec<f64> = samples.iter().map(figure).collect();
            figures.sort_by(f64::total_cmp);
            figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
        };
        Sample {
            throughput: median(|s| s.throughput),
            cpu_us: median(|s| s.cpu_us),
        }
    }
}

/// Starts a server pinned to the server core, with its data below `data`.
pub(crate) fn start(
    binary: &ServerBinary,
    append: Option<FsyncPolicy>,
    shards: u16,
    cores: &Cores,
    data: &Path,
) -> Result<Server> {
    let mut config = ServerConfig::new(binary.flavor, &binary.path, data);
    config.dir = data.join(format!("port-{}", config.port));
    config.append = append;
    config.shards = Some(shards);
    config.cores = Some(cores.server.clone());
    // No rewrite during a measurement.
    if binary.flavor == moon_harness::Flavor::Redis {
        config = config.arg("--auto-aof-rewrite-percentage").arg("0");
    }
    Server::start(config)
}

fn preload(server: &Server, keys: u64) -> Result<()> {
    let mut client = server.client()?;
    let value = "x".repeat(VALUE_BYTES as usize);
    for begin in (0..keys).step_by(usize::try_from(PRELOAD_DEPTH)?) {
        let end = keys.min(begin + PRELOAD_DEPTH);
        for number in begin..end {
            client.queue(&["SET", &format!("key:{number:012}"), &value]);
        }
        client.flush()?;
        for _ in begin..end {
            let reply = client.read_reply()?;
            if !reply.is_ok() {
                bail!("loading keys: SET was answered with {reply:?}");
            }
        }
    }
    Ok(())
}

/// One round of `case`.
pub(crate) fn run_benchmark(
    server: &Server,
    case: &Case,
    keys: u64,
    cores: &Cores,
) -> Result<Sample> {
    let before = cpu_ns(server.pid())?;
    let output = Command::new("taskset")
        .args(["-c", &cores.client, "redis-benchmark", "--csv"])
        .args([
            "-h",
            "127.0.0.1",
            "-p",
            &server.address().port().to_string(),
        ])
        .args(["-t", case.command, "-d", &VALUE_BYTES.to_string()])
        .args(["-r", &keys.to_string(), "-n", &case.requests.to_string()])
        .args([
            "-P",
            &case.pipeline.to_string(),
            "-c",
            &case.clients.to_string(),
        ])
        .output()
        .context("running taskset and redis-benchmark")?;
    let after = cpu_ns(server.pid())?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr);
        bail!("redis-benchmark ended with {}: {error}", output.status);
    }
    let throughput =
        throughput(&text).with_context(|| format!("redis-benchmark printed no figure:\n{text}"))?;
    Ok(Sample {
        throughput,
        cpu_us: (after - before) as f64 / 1000.0 / case.requests as f64,
    })
}

/// The requests per second in `redis-benchmark --csv`: second column of the last line.
fn throughput(csv: &str) -> Option<f64> {
    let line = csv.lines().rfind(|line| line.starts_with('"'))?;
    line.split(',').nth(1)?.trim_matches('"').parse().ok()
}

/// CPU time of all threads of a process, nanoseconds.
pub(crate) fn cpu_ns(pid: u32) -> Result<u64> {
    let mut sum = 0;
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let path = task?.path().join("schedstat");
        // A thread may end between the listing and the reading.
        let Ok(text) = std::fs::read_to_string(&path) else {
            continue;
        };
        let first = text.split_whitespace().next().unwrap_or_default();
        sum += first
            .parse::<u64>()
            .with_context(|| format!("reading {}", path.display()))?;
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figure_is_the_second_column_of_the_last_line() {
        let csv = "\"test\",\"rps\",\"avg_latency_ms\"\n\"SET\",\"81234.50\",\"0.3\"\n";
        assert_eq!(throughput(csv), Some(81234.5));
        assert_eq!(throughput("nothing"), None);
    }

    #[test]
    fn the_median_ignores_one_slow_round() {
        let sample = |n: f64| Sample {
            throughput: n,
            cpu_us: n,
        };
        let median = Sample::median(&[sample(3.0), sample(100.0), sample(2.0)]);
        assert!((median.throughput - 3.0).abs() < f64::EPSILON);
    }
}
