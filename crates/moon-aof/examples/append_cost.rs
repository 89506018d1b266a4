//! What an append costs, and which way of growing a file makes its sync cheapest.
//!
//! `cargo run --release -p moon-aof --example append_cost -- <directory> [rounds]`
//!
//! The directory should be on the disk in question. The numbers in
//! `docs/decisions/preallocation.md` come from here.

use bytes::Bytes;
use moon_aof::storage::{Storage, StorageFile, write_all_at};
use moon_aof::{AofOptions, FsyncPolicy, NoProgress, RealStorage, Recovery};
use moon_core::{ShardCount, ShardId, UnixMs};
use moon_repl::{Clock, CommitLog, CommitOn, FrameKind};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

const SPACE: u64 = 8 << 20;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let dir = PathBuf::from(args.next().unwrap_or_else(|| ".".to_owned()));
    let rounds: usize = match args.next() {
        Some(rounds) => rounds.parse()?,
        None => 500,
    };
    println!("directory {}, {rounds} rounds", dir.display());
    for bytes in [120, 4096] {
        for (name, prepare) in WAYS {
            let taken = write_and_sync(&dir, bytes, rounds, prepare)?;
            report(&format!("write + fdatasync, {bytes} B, {name}"), taken);
        }
    }
    for policy in [FsyncPolicy::No, FsyncPolicy::EverySec] {
        let taken = log_appends(&dir, policy, rounds * 40)?;
        report(&format!("log append, 80 B, {policy}"), taken);
    }
    report("bare pwritev, 120 B", bare_writes(&dir, rounds * 40)?);
    let taken = log_always(&dir, rounds)?;
    report("log append until committed, 80 B, always", taken);
    Ok(())
}

type Prepare = fn(&dyn StorageFile) -> std::io::Result<()>;

const WAYS: [(&str, Prepare); 3] = [
    ("growing file", |_| Ok(())),
    ("allocated (unwritten extents)", |file| {
        file.allocate(0, SPACE)
    }),
    ("written with zeros", |file| {
        let zeros = vec![0; 1 << 20];
        for at in (0..SPACE).step_by(zeros.len()) {
            write_all_at(file, &[&zeros, &[], &[]], at)?;
        }
        Ok(())
    }),
];

fn write_and_sync(
    dir: &Path,
    bytes: usize,
    rounds: usize,
    prepare: Prepare,
) -> std::io::Result<Vec<Duration>> {
    let path = dir.join("append_cost.tmp");
    let file = RealStorage.create(&path)?;
    prepare(&*file)?;
    file.sync_data()?;
    let data = vec![b'x'; bytes];
    let mut taken = Vec::with_capacity(rounds);
    for round in 0..rounds {
        let started = Instant::now();
        write_all_at(&*file, &[&data, &[], &[]], (round * bytes) as u64)?;
        file.sync_data()?;
        taken.push(started.elapsed());
    }
    RealStorage.remove(&path)?;
    Ok(taken)
}

fn bare_writes(dir: &Path, rounds: usize) -> std::io::Result<Vec<Duration>> {
    let path = dir.join("append_cost.tmp");
    let file = RealStorage.create(&path)?;
    file.allocate(0, SPACE)?;
    let mut taken = Vec::with_capacity(rounds);
    for round in 0..rounds {
        let started = Instant::now();
        write_all_at(&*file, &[&[0; 40], &[b'x'; 80], &[]], round as u64 * 120)?;
        taken.push(started.elapsed());
    }
    RealStorage.remove(&path)?;
    Ok(taken)
}

fn with_log<R>(
    dir: &Path,
    policy: FsyncPolicy,
    body: impl FnOnce(&Clock, &mut dyn CommitLog) -> R,
) -> Result<R, Box<dyn Error>> {
    let dir = dir.join("append_cost.d");
    let options = AofOptions {
        dir: dir.clone(),
        policy,
        ..AofOptions::default()
    };
    let storage = Arc::new(RealStorage);
    let one = ShardCount::ONE;
    let recovery = Recovery::scan(storage, &options, Some(one), one, &NoProgress)?;
    let clock = Clock::new(one, recovery.end(), CommitOn::Written);
    let this = std::thread::current();
    clock.set_waker(ShardId(0), Arc::new(move || this.unpark()));
    let (pool, mut logs) = recovery.finish(&clock)?;
    let out = body(&clock, &mut logs[0]);
    pool.shutdown(logs, UnixMs(0), Duration::from_secs(30))?;
    std::fs::remove_dir_all(dir)?;
    Ok(out)
}

fn log_appends(
    dir: &Path,
    policy: FsyncPolicy,
    rounds: usize,
) -> Result<Vec<Duration>, Box<dyn Error>> {
    let payload = Bytes::from(vec![b'x'; 80]);
    with_log(dir, policy, |_, log| {
        let mut taken = Vec::with_capacity(rounds);
        for _ in 0..rounds {
            let payload = payload.clone();
            let started = Instant::now();
            log.append(FrameKind::Own, payload, UnixMs(0));
            taken.push(started.elapsed());
        }
        taken
    })
}

fn log_always(dir: &Path, rounds: usize) -> Result<Vec<Duration>, Box<dyn Error>> {
    let payload = Bytes::from(vec![b'x'; 80]);
    with_log(dir, FsyncPolicy::Always, |clock, log| {
        let mut taken = Vec::with_capacity(rounds);
        for _ in 0..rounds {
            let started = Instant::now();
            let end = log.append(FrameKind::Own, payload.clone(), UnixMs(0));
            while clock.wait_for(ShardId(0), end) < end {
                std::thread::park();
            }
            taken.push(started.elapsed());
        }
        taken
    })
}

fn report(what: &str, mut taken: Vec<Duration>) {
    taken.sort();
    let at = |part: f64| taken[((taken.len() - 1) as f64 * part) as usize];
    // On a machine that does other things as well the tenth percentile tells most.
    println!(
        "{what:55} p10 {:9.2?}  median {:9.2?}  p99 {:9.2?}",
        at(0.1),
        at(0.5),
        at(0.99)
    );
}
