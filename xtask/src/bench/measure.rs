//! Starting servers, loading keys, and running `redis-benchmark` against them.

use super::median;
use super::plan::{Case, VALUE_BYTES};
use super::process::cpu_ns;
use crate::binary::ServerBinary;
use anyhow::{Context as _, Result, bail};
use moon_harness::{Client, Flavor, FsyncPolicy, Server, ServerConfig};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Requests per pipeline while keys are loaded.
const PRELOAD_DEPTH: u64 = 500;
/// Longest that a server may take to rewrite its log.
const REWRITE_TIMEOUT: Duration = Duration::from_secs(300);

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
            preload(server, keys, VALUE_BYTES)
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
        let median = |figure: fn(&Sample) -> f64| median(samples.iter().map(figure));
        Sample {
            throughput: median(|s| s.throughput),
            cpu_us: median(|s| s.cpu_us),
        }
    }
}

/// A server with its data below `data` that saves and rewrites only when it is told to.
pub(crate) fn config(
    binary: &ServerBinary,
    append: Option<FsyncPolicy>,
    shards: u16,
    data: &Path,
) -> ServerConfig {
    let mut config = ServerConfig::new(binary.flavor, &binary.path, data);
    config.dir = data.join(format!("port-{}", config.port));
    config.append = append;
    config.shards = Some(shards);
    // `redis-server` gets it from the harness.
    if binary.flavor == Flavor::Moon {
        config = config.arg("--save").arg("");
    }
    config.arg("--auto-aof-rewrite-percentage").arg("0")
}

/// Starts a server of this [`config`], on `cores` if given.
pub(crate) fn start(
    binary: &ServerBinary,
    append: Option<FsyncPolicy>,
    shards: u16,
    cores: Option<String>,
    data: &Path,
) -> Result<Server> {
    let mut config = config(binary, append, shards, data);
    config.cores = cores;
    Server::start(config)
}

/// The key with this number, as `redis-benchmark -r` forms it.
pub(crate) fn key(number: u64) -> String {
    format!("key:{number:012}")
}

/// A value of so many bytes.
pub(crate) fn value(bytes: u32) -> String {
    "x".repeat(bytes as usize)
}

/// Writes the first `keys` keys.
pub(crate) fn preload(server: &Server, keys: u64, value_bytes: u32) -> Result<()> {
    let mut client = server.client()?;
    let value = value(value_bytes);
    for begin in (0..keys).step_by(usize::try_from(PRELOAD_DEPTH)?) {
        let end = keys.min(begin + PRELOAD_DEPTH);
        for number in begin..end {
            client.queue(&["SET", &key(number), &value]);
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

/// One field of INFO.
pub(crate) fn info_field(client: &mut Client, section: &str, field: &str) -> Result<String> {
    let reply = client.command(&["INFO", section])?;
    let text = reply.text().unwrap_or_default();
    find_field(&text, field).with_context(|| format!("INFO {section} has no {field}: {reply:?}"))
}

fn find_field(info: &str, field: &str) -> Option<String> {
    info.lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))
        .map(str::to_owned)
}

/// Has the log rewritten and waits until this is done; calls `tick` again and again meanwhile,
/// which also sets the pace of looking.
pub(crate) fn rewrite_log(
    client: &mut Client,
    mut tick: impl FnMut() -> Result<()>,
) -> Result<Duration> {
    let begun = Instant::now();
    let reply = client.command(&["BGREWRITEAOF"])?;
    if reply.error().is_some() {
        bail!("BGREWRITEAOF was answered with {reply:?}");
    }
    loop {
        tick()?;
        let info = client.command(&["INFO", "persistence"])?;
        let info = info.text().unwrap_or_default();
        let is_zero = |name| find_field(&info, name).as_deref() == Some("0");
        if is_zero("aof_rewrite_in_progress") && is_zero("aof_rewrite_scheduled") {
            let taken = begun.elapsed();
            let status = find_field(&info, "aof_last_bgrewrite_status");
            if status.as_deref() != Some("ok") {
                bail!("the rewrite failed:\n{info}");
            }
            return Ok(taken);
        }
        if begun.elapsed() > REWRITE_TIMEOUT {
            bail!("the rewrite does not end:\n{info}");
        }
    }
}

/// Connections that write random keys as fast as the server lets them. Dropping it ends them.
pub(crate) struct Writers {
    child: Child,
}

impl Writers {
    /// Begins, with one request at a time per connection, over the keys of [`preload`].
    pub(crate) fn start(
        server: &Server,
        connections: u32,
        keys: u64,
        value_bytes: u32,
        cores: &str,
    ) -> Result<Writers> {
        let child = Command::new("taskset")
            .args(["-c", cores, "redis-benchmark", "-h", "127.0.0.1"])
            .args(["-p", &server.address().port().to_string()])
            .args(["-t", "set", "-P", "1", "-c", &connections.to_string()])
            .args(["-d", &value_bytes.to_string(), "-r", &keys.to_string()])
            .args(["-n", &i32::MAX.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("running taskset and redis-benchmark")?;
        Ok(Writers { child })
    }

    /// An error if they have ended by themselves: then there was no load.
    pub(crate) fn expect_running(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("redis-benchmark ended with {status}"),
        }
    }
}

impl Drop for Writers {
    fn drop(&mut self) {
        // It may have ended already; both calls then fail or return at once.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Requests for `redis-benchmark` to send.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load<'a> {
    /// The words of a request; `__rand_int__` stands for a number below `keys`.
    pub(crate) words: &'a [&'a str],
    /// Requests that one connection sends at once.
    pub(crate) pipeline: u32,
    /// Connections.
    pub(crate) clients: u32,
    /// How many requests.
    pub(crate) requests: u64,
    /// How many different numbers are drawn.
    pub(crate) keys: u64,
}

/// One round of `case`.
pub(crate) fn run_benchmark(
    server: &Server,
    case: &Case,
    keys: u64,
    cores: &Cores,
) -> Result<Sample> {
    let load = Load {
        words: &["-t", case.command, "-d", &VALUE_BYTES.to_string()],
        pipeline: case.pipeline,
        clients: case.clients,
        requests: case.requests,
        keys,
    };
    run_load(server, &load, cores)
}

/// One round of `load`.
pub(crate) fn run_load(server: &Server, load: &Load<'_>, cores: &Cores) -> Result<Sample> {
    let before = cpu_ns(server.pid())?;
    let output = Command::new("taskset")
        .args(["-c", &cores.client, "redis-benchmark", "--csv"])
        .args([
            "-h",
            "127.0.0.1",
            "-p",
            &server.address().port().to_string(),
        ])
        .args(["-r", &load.keys.to_string()])
        .args(["-n", &load.requests.to_string()])
        .args(["-P", &load.pipeline.to_string()])
        .args(["-c", &load.clients.to_string()])
        .args(load.words)
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
        cpu_us: (after - before) as f64 / 1000.0 / load.requests as f64,
    })
}

/// The requests per second in `redis-benchmark --csv`: second column of the last line.
fn throughput(csv: &str) -> Option<f64> {
    let line = csv.lines().rfind(|line| line.starts_with('"'))?;
    line.split(',').nth(1)?.trim_matches('"').parse().ok()
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
    fn a_field_of_info_is_found_by_its_whole_name() {
        let info = "# Persistence\r\naof_rewrites_done:3\r\naof_rewrites:2\r\n";
        assert_eq!(find_field(info, "aof_rewrites").as_deref(), Some("2"));
        assert_eq!(find_field(info, "aof"), None);
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
