//! How long a start takes: scan, replay, and the copy of what no sync is known to cover.
//!
//! `cargo run --release -p moon-aof --example recovery_speed -- <directory> [frames] [payload]`
//!
//! The files are in the page cache; a cold disk adds its own time. The replay counts bytes only,
//! so what applying them costs comes on top.

use bytes::Bytes;
use moon_aof::{
    AofOptions, FsyncPolicy, NoProgress, RealStorage, Recovery, ReplayError, ReplaySink,
};
use moon_core::{Lsn, ShardCount, ShardId, UnixMs};
use moon_repl::{Clock, CommitLog, CommitOn, FrameKind};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

const SHUTDOWN: Duration = Duration::from_secs(60);

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let dir = PathBuf::from(args.next().unwrap_or_else(|| ".".to_owned()));
    let mut number = |otherwise: usize| args.next().map_or(Ok(otherwise), |n| n.parse());
    let (frames, payload) = (number(1_500_000)?, number(64)?);
    println!("{frames} frames of {payload} bytes");
    for shards in [1, 2] {
        let dir = dir.join("recovery_speed.d");
        let options = AofOptions {
            dir: dir.clone(),
            policy: FsyncPolicy::No,
            ..AofOptions::default()
        };
        let shards = ShardCount::new(shards).ok_or("a shard count")?;
        fill(&options, shards, frames, payload)?;
        let file_bytes = size(&dir)?;
        println!("{} shards, {file_bytes} file bytes", shards.get());
        // Nothing was synced while frames were written, so everything is copied. That start ends
        // cleanly, and the next one has nothing to copy.
        for what in ["after a kill", "after a clean stop"] {
            start(&options, shards, what, file_bytes, frames)?;
        }
        std::fs::remove_dir_all(dir)?;
    }
    Ok(())
}

/// Writes the log and ends without a stop.
fn fill(
    options: &AofOptions,
    shards: ShardCount,
    frames: usize,
    payload: usize,
) -> Result<(), Box<dyn Error>> {
    let storage = Arc::new(RealStorage);
    let recovery = Recovery::scan(storage, options, Some(shards), shards, &NoProgress)?;
    let clock = Clock::new(shards, recovery.end(), CommitOn::Written);
    let (pool, mut logs) = recovery.finish(&clock)?;
    let payload = Bytes::from(vec![b'x'; payload]);
    for frame in 0..frames {
        let shard = frame % logs.len();
        logs[shard].append(FrameKind::Own, payload.clone(), UnixMs(0));
    }
    drop((pool, logs));
    Ok(())
}

fn start(
    options: &AofOptions,
    shards: ShardCount,
    what: &str,
    file_bytes: u64,
    frames: usize,
) -> Result<(), Box<dyn Error>> {
    let storage = Arc::new(RealStorage);
    let started = Instant::now();
    let mut recovery = Recovery::scan(storage, options, Some(shards), shards, &NoProgress)?;
    let scan = started.elapsed();
    let started = Instant::now();
    let mut count = Count::default();
    recovery.replay(&mut count, &NoProgress)?;
    let replay = started.elapsed();
    let clock = Clock::new(shards, recovery.end(), CommitOn::Written);
    let copied = recovery.summary().unproven_bytes;
    let started = Instant::now();
    let (pool, logs) = recovery.finish(&clock)?;
    let finish = started.elapsed();
    pool.shutdown(logs, UnixMs(0), SHUTDOWN)?;
    if count.frames != frames {
        return Err("not every frame was recovered".into());
    }
    let rate = |took: Duration| {
        let seconds = took.as_secs_f64();
        let (mega, million) = (file_bytes as f64 / 1e6, count.frames as f64 / 1e6);
        format!(
            "{took:9.2?} {:7.0} MB/s {:6.2} M frames/s",
            mega / seconds,
            million / seconds
        )
    };
    println!("  {what}");
    println!("    scan    {}", rate(scan));
    println!("    replay  {}", rate(replay));
    println!("    finish  {finish:9.2?}, {copied} payload bytes copied");
    Ok(())
}

#[derive(Default)]
struct Count {
    frames: usize,
    bytes: usize,
}

impl ReplaySink for Count {
    fn own(
        &mut self,
        _shard: ShardId,
        _lsn: Lsn,
        _db: u32,
        payload: Bytes,
    ) -> Result<(), ReplayError> {
        self.frames += 1;
        self.bytes += payload.len();
        Ok(())
    }

    fn cross(&mut self, lsn: Lsn, db: u32, payload: Bytes) -> Result<(), ReplayError> {
        self.own(ShardId(0), lsn, db, payload)
    }
}

/// Bytes of the files in a directory and those below it.
fn size(dir: &Path) -> std::io::Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        bytes += if entry.file_type()?.is_dir() {
            size(&entry.path())?
        } else {
            entry.metadata()?.len()
        };
    }
    Ok(bytes)
}
