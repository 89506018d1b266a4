//! How long a start takes that has data to load: `cargo xtask bench recovery`.
//!
//! Each server writes the same keys, once. Its log then lies there as it was written (only incr
//! segments) and later, rewritten, as a base. For each timed start the directory is copied, synced
//! and read once, so that every start finds the same files, none of them waiting to be written to
//! the disk, all of them in the page cache. The time is that from the start of the process to the
//! first DBSIZE that is answered with the number of keys; before, it is answered with LOADING.
//! Servers may use all cores unless told otherwise.

use super::measure::{self, preload, rewrite_log};
use super::plan::VALUE_BYTES;
use super::process::Stat;
use super::table::{Columns, Table, judged};
use super::{Common, Lab, median};
use crate::binary::ServerBinary;
use anyhow::{Context as _, Result, bail};
use moon_harness::{Client, FsyncPolicy, Reply, Server, ServerConfig};
use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, Instant};

/// Pause between two questions while a server loads.
const POLL_INTERVAL: Duration = Duration::from_millis(3);
/// Longest that a server may take to load its data.
const LOAD_TIMEOUT: Duration = Duration::from_secs(300);

const COLUMNS: Columns = &[
    " loaded from",
    " server",
    "start to reply, s",
    "slowest, s",
    "its log says, s",
    "CPU, s",
    "on disk, MiB",
    "times faster",
    " goal",
    "reached",
];

/// Options of `cargo xtask bench recovery`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Options {
    #[command(flatten)]
    common: Common,
    /// Keys to load [default: 1500000, quick: 20000]
    #[arg(long)]
    keys: Option<u64>,
    /// Starts per server and kind of log [default: 3, quick: 1]
    #[arg(long)]
    rounds: Option<usize>,
    /// Cores of the servers, as taskset -c takes them [default: all]
    #[arg(long)]
    server_cores: Option<String>,
}

/// What a directory holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Incr,
    Base,
}

impl Source {
    fn name(self) -> &'static str {
        match self {
            Source::Incr => "incr segments",
            Source::Base => "base",
        }
    }
}

/// A server with its data.
struct Contestant {
    name: String,
    /// Compared with the first contestant; how many times faster it is to be.
    goal: Option<f64>,
    config: ServerConfig,
}

/// One start.
#[derive(Clone, Copy, Debug)]
struct Start {
    seconds: f64,
    /// NaN if the log does not say.
    logged_seconds: f64,
    cpu_seconds: f64,
}

/// Measures all servers.
pub(super) fn run(options: &Options) -> Result<bool> {
    let quick = options.common.quick;
    let keys = options
        .keys
        .unwrap_or(if quick { 20_000 } else { 1_500_000 });
    let rounds = options.rounds.unwrap_or(if quick { 1 } else { 3 });
    let lab = options.common.lab()?;
    let mut table = Table::new(&lab.describe(&format!(
        "{rounds} starts of each alternating, median; {keys} keys, values of {VALUE_BYTES} bytes; \
         servers on {}; page cache warm",
        match &options.server_cores {
            None => "all cores".to_owned(),
            Some(cores) => format!("cores {cores}"),
        }
    )));
    let contestants = [
        contestant(&lab, &lab.peer, 1, None, options),
        contestant(&lab, &lab.moon, 1, Some(1.5), options),
        contestant(&lab, &lab.moon, 2, Some(2.5), options),
    ];
    for source in [Source::Incr, Source::Base] {
        for contestant in &contestants {
            prepare(&contestant.config, source, keys)
                .with_context(|| format!("preparing {} of {}", source.name(), contestant.name))?;
        }
        let mut starts = vec![Vec::new(); contestants.len()];
        for round in 0..rounds {
            for turn in 0..contestants.len() {
                let at = (round + turn) % contestants.len();
                let start = time_start(&lab, &contestants[at].config, keys)
                    .with_context(|| format!("starting {}", contestants[at].name))?;
                starts[at].push(start);
            }
        }
        report(&mut table, source, &contestants, &starts)?;
    }
    options.common.write(&table, "bench-recovery.md")?;
    Ok(true)
}

fn contestant(
    lab: &Lab,
    binary: &ServerBinary,
    shards: u16,
    goal: Option<f64>,
    options: &Options,
) -> Contestant {
    let append = Some(FsyncPolicy::Everysec);
    let mut config = measure::config(binary, append, shards, lab.data.path());
    config.cores.clone_from(&options.server_cores);
    let name = match (goal, shards) {
        (None, _) => "redis-server".to_owned(),
        (Some(_), 1) => "moon-server, 1 shard".to_owned(),
        (Some(_), n) => format!("moon-server, {n} shards"),
    };
    Contestant { name, goal, config }
}

/// Brings the data into the directory of `config`, for [`Source::Base`] from where
/// [`Source::Incr`] left it.
fn prepare(config: &ServerConfig, source: Source, keys: u64) -> Result<()> {
    let mut server = Server::spawn(config.clone())?;
    match source {
        Source::Incr => {
            server.wait_ready()?;
            preload(&server, keys, VALUE_BYTES)?;
        }
        Source::Base => {
            wait_for_keys(&server, keys)?;
            rewrite_log(&mut server.client()?, || {
                std::thread::sleep(POLL_INTERVAL);
                Ok(())
            })
            .with_context(|| server.log_tail())?;
        }
    }
    let status = server.sigterm()?;
    if !status.success() {
        bail!("the server stopped with {status}\n{}", server.log_tail());
    }
    Ok(())
}

/// One start on a copy of the prepared directory.
fn time_start(lab: &Lab, prepared: &ServerConfig, keys: u64) -> Result<Start> {
    let mut config = prepared.clone();
    config.dir = lab.data.path().join("copy");
    copy_synced(&prepared.dir, &config.dir)?;
    let (dir, log) = (config.dir.clone(), config.log_path());

    let begun = Instant::now();
    let mut server = Server::spawn(config)?;
    wait_for_keys(&server, keys)?;
    let seconds = begun.elapsed().as_secs_f64();
    let cpu_seconds = Stat::read(server.pid())?.cpu_seconds()?;
    let logged_seconds = logged_seconds(&server.log()).unwrap_or(f64::NAN);

    server.kill9()?;
    fs::remove_dir_all(&dir).with_context(|| format!("removing {}", dir.display()))?;
    fs::remove_file(&log).with_context(|| format!("removing {}", log.display()))?;
    Ok(Start {
        seconds,
        logged_seconds,
        cpu_seconds,
    })
}

/// Returns when the server has answered DBSIZE with `keys`.
fn wait_for_keys(server: &Server, keys: u64) -> Result<()> {
    let deadline = Instant::now() + LOAD_TIMEOUT;
    let mut connection: Option<Client> = None;
    loop {
        // A connection may be refused or closed until the server is up.
        let reply = match &mut connection {
            Some(client) => client.command(&["DBSIZE"]).ok(),
            None => None,
        };
        match reply {
            Some(Reply::Int(found)) if u64::try_from(found) == Ok(keys) => return Ok(()),
            Some(Reply::Error(text)) if text.starts_with(b"LOADING") => {}
            Some(other) => bail!("DBSIZE after loading {keys} keys: {other:?}"),
            None => {
                connection = Client::connect(server.address()).ok();
                if connection.is_some() {
                    continue;
                }
            }
        }
        if Stat::read(server.pid())?.state == 'Z' {
            bail!("the server ended at start\n{}", server.log_tail());
        }
        if Instant::now() > deadline {
            bail!("the server does not come up\n{}", server.log_tail());
        }
        std::thread::sleep(POLL_INTERVAL);
    }
}

/// What the server itself calls the time of loading.
fn logged_seconds(log: &str) -> Option<f64> {
    let line = log.lines().rfind(|line| {
        line.contains("DB loaded from append only file: ") || line.contains("Recovered ")
    })?;
    let (before, _) = line.split_once(" seconds")?;
    before.split_whitespace().next_back()?.parse().ok()
}

fn copy_synced(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("creating {}", to.display()))?;
    for entry in fs::read_dir(from).with_context(|| format!("reading {}", from.display()))? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_synced(&entry.path(), &target)?;
            continue;
        }
        fs::copy(entry.path(), &target)
            .with_context(|| format!("copying {}", entry.path().display()))?;
        let mut copy = File::open(&target)?;
        copy.sync_all()?;
        std::io::copy(&mut copy, &mut std::io::sink())?;
    }
    File::open(to)?.sync_all()?;
    Ok(())
}

fn report(
    table: &mut Table,
    source: Source,
    contestants: &[Contestant],
    starts: &[Vec<Start>],
) -> Result<()> {
    let time = |starts: &[Start]| median(starts.iter().map(|s| s.seconds));
    let reference = starts.first().map_or(f64::NAN, |first| time(first));
    for (contestant, starts) in contestants.iter().zip(starts) {
        let faster = reference / time(starts);
        let (goal, reached) = match contestant.goal {
            None => ("-".to_owned(), "-".to_owned()),
            Some(goal) => (
                format!("at least {goal} times"),
                judged(format!("{faster:.2}"), faster >= goal),
            ),
        };
        let slowest = starts.iter().map(|s| s.seconds).fold(f64::NAN, f64::max);
        let cells = [
            source.name().to_owned(),
            contestant.name.clone(),
            format!("{:.3}", time(starts)),
            format!("{slowest:.3}"),
            format!("{:.3}", median(starts.iter().map(|s| s.logged_seconds))),
            format!("{:.2}", median(starts.iter().map(|s| s.cpu_seconds))),
            format!("{:.1}", mebibytes(bytes_below(&contestant.config.dir)?)),
            format!("{faster:.2}"),
            goal,
            reached,
        ];
        table.row(COLUMNS, &cells);
    }
    Ok(())
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// Length of all files in a directory and those below it.
fn bytes_below(dir: &Path) -> Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(dir).with_context(|| format!("reading {}", dir.display()))? {
        let entry = entry?;
        sum += if entry.file_type()?.is_dir() {
            bytes_below(&entry.path())?
        } else {
            entry.metadata()?.len()
        };
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_in_a_log_is_that_of_the_last_load() {
        let redis = "1:M * DB loaded from incr file appendonly.aof.1.incr.aof: 0.301 seconds\n\
                     1:M * DB loaded from append only file: 0.302 seconds\n\
                     1:M * Opening AOF incr file appendonly.aof.1.incr.aof on server start\n";
        assert_eq!(logged_seconds(redis), Some(0.302));
        let moon = "INFO Recovered 3 frames, 90 bytes, up to LSN 90 in 0.125 seconds, after a \
                    clean stop\n";
        assert_eq!(logged_seconds(moon), Some(0.125));
        assert_eq!(logged_seconds("Ready to accept connections"), None);
    }

    #[test]
    fn a_copy_has_all_files() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::create_dir_all(from.join("log/shard-0")).unwrap();
        fs::write(from.join("log/manifest"), "abc").unwrap();
        fs::write(from.join("log/shard-0/incr"), "defgh").unwrap();
        copy_synced(&from, &to).unwrap();
        assert_eq!(bytes_below(&to).unwrap(), 8);
        assert_eq!(fs::read(to.join("log/shard-0/incr")).unwrap(), b"defgh");
    }
}
