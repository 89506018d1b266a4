//! From the files to data in memory and a log to go on with: what a start loads, in which order.
//!
//! Nothing is served, no LSN issued and no mark published before [`recover`] has returned.

use crate::boot::BootError;
use crate::config::Config;
use crate::loading::Progress as Loading;
use crate::server::limits_of;
use bytes::Bytes;
use moon_aof::recovery::BaseFile;
use moon_aof::{
    AofOptions, AofWriterPool, RealStorage, Recovery, RecoverySummary, ReplayError, ReplaySink,
    ShardLog,
};
use moon_commands::load::{LoadExpired, load_rdb};
use moon_commands::{Limits, ShardSet};
use moon_core::{Lsn, ShardCount, ShardId};
use moon_rdb::RdbLimits;
use moon_repl::{Clock, CommitOn};
use moon_shard::ReplayPool;
use moon_shard::replay::ReplayFailed;
use moon_store::{DbIndex, DirtyKeys, ShardData};
use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// The log options that `config` asks for.
#[must_use]
pub fn aof_options(config: &Config) -> AofOptions {
    AofOptions {
        dir: config.dir.join(&config.appenddirname),
        policy: config.appendfsync.policy(),
        preallocate: config.aof_preallocate_size,
        unsynced_max: config.inflight_max_bytes,
        keep_generations: config.aof_keep_generations,
        archive_dir: (!config.aof_archive_dir.is_empty())
            .then(|| PathBuf::from(&config.aof_archive_dir)),
        ..AofOptions::default()
    }
}

/// Reads the log in `config.dir` and decides what a start would recover. Changes nothing.
///
/// # Errors
/// Every reason not to start.
pub fn scan_log(
    config: &Config,
    default_shards: ShardCount,
    loading: &Loading,
) -> Result<Recovery, BootError> {
    let recovery = Recovery::scan(
        Arc::new(RealStorage),
        &aof_options(config),
        config.shards,
        default_shards,
        loading,
    )?;
    if recovery.is_new()
        && let Some(path) = log_of_redis(config)
    {
        return Err(BootError::LogOfRedis { path });
    }
    let bytes = recovery.summary().truncated_bytes;
    if bytes > 0 && !config.aof_load_truncated {
        let from = recovery.end();
        return Err(BootError::TornTail { bytes, from });
    }
    Ok(recovery)
}

/// An append-only file that Redis wrote, where ours would be or beside it.
fn log_of_redis(config: &Config) -> Option<PathBuf> {
    let directory = config.dir.join(&config.appenddirname);
    let multi_part = std::fs::read_dir(&directory)
        .into_iter()
        .flatten()
        .flatten()
        .find(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            name.ends_with(".manifest") && name != moon_manifest::layout::MANIFEST_FILE_NAME
        });
    let single = config.dir.join("appendonly.aof");
    multi_part
        .map(|entry| entry.path())
        .or_else(|| single.is_file().then_some(single))
}

impl moon_aof::Progress for Loading {
    fn scanned(&self, bytes: u64, total: u64) {
        // Scanning and replaying read everything once each.
        self.total_bytes.store(total * 2, Relaxed);
        self.done_bytes.fetch_add(bytes, Relaxed);
    }

    fn replayed(&self, bytes: u64, _total: u64) {
        self.done_bytes.fetch_add(bytes, Relaxed);
    }
}

/// What recovery leaves behind.
#[expect(
    clippy::vec_box,
    reason = "the boxes themselves go on to the shards; a borrow moves them"
)]
pub(crate) struct Recovered {
    pub(crate) shards: ShardCount,
    pub(crate) data: Vec<Box<ShardData>>,
    pub(crate) clock: Arc<Clock>,
    pub(crate) log: RecoveredLog,
    pub(crate) summary: RecoverySummary,
    pub(crate) taken: Duration,
}

pub(crate) enum RecoveredLog {
    Off,
    On {
        pool: AofWriterPool,
        logs: Vec<ShardLog>,
    },
}

/// Loads what the directory holds and makes the log ready for new frames.
pub(crate) fn recover(
    config: &Config,
    default_shards: ShardCount,
    loading: &Loading,
) -> Result<Recovered, BootError> {
    let started = Instant::now();
    let databases = DbIndex::try_from(config.databases).unwrap_or(DbIndex::MAX);
    let make_data = |shards: ShardCount, gated: bool| -> Vec<Box<ShardData>> {
        shards
            .ids()
            .map(|id| {
                Box::new(ShardData::with_hint(
                    id,
                    databases,
                    gated,
                    keys_hint(config, shards),
                ))
            })
            .collect()
    };
    if !config.appendonly {
        let shards = config.shards.unwrap_or(default_shards);
        return Ok(Recovered {
            shards,
            data: make_data(shards, false),
            clock: Clock::new(shards, Lsn::ZERO, CommitOn::Written),
            log: RecoveredLog::Off,
            summary: RecoverySummary::default(),
            taken: started.elapsed(),
        });
    }
    let mut recovery = scan_log(config, default_shards, loading)?;
    let shards = recovery.shards();
    let limits = Arc::new(limits_of(config));
    // Not gated yet: what is replayed is committed already.
    let mut data = make_data(shards, false);
    load_bases(&recovery.bases(), &mut data, shards, &limits, loading)?;
    let pool = ReplayPool::start(shards, data, &limits)?;
    let mut sink = PoolSink { pool, failed: None };
    let replayed = recovery.replay(&mut sink, loading);
    if let Some(failed) = sink.failed {
        return Err(failed.into());
    }
    // A failure on a replay thread shows first as a sink that takes no more.
    let mut data = sink.pool.finish()?;
    replayed?;
    for shard in &mut data {
        shard.dirty = DirtyKeys::new(true);
    }
    let summary = recovery.summary().clone();
    let policy = aof_options(config).policy;
    let clock = Clock::new(shards, recovery.end(), policy.commit_on());
    let (pool, logs) = recovery.finish(&clock)?;
    let log = RecoveredLog::On { pool, logs };
    Ok(Recovered {
        shards,
        data,
        clock,
        log,
        summary,
        taken: started.elapsed(),
    })
}

/// Keys for which each shard makes room.
fn keys_hint(config: &Config, shards: ShardCount) -> usize {
    let each = config.initial_keyspace_hint / u64::from(shards.get());
    usize::try_from(each).unwrap_or(usize::MAX)
}

/// Feeds recovery's frames to the replay threads.
struct PoolSink {
    pool: ReplayPool,
    failed: Option<ReplayFailed>,
}

impl ReplaySink for PoolSink {
    fn own(
        &mut self,
        shard: ShardId,
        lsn: Lsn,
        db: u32,
        payload: Bytes,
    ) -> Result<(), ReplayError> {
        let db = DbIndex::try_from(db).unwrap_or(DbIndex::MAX);
        if self.pool.own(shard, lsn, db, payload) {
            Ok(())
        } else {
            Err(gave_up(lsn))
        }
    }

    fn cross(&mut self, lsn: Lsn, db: u32, payload: Bytes) -> Result<(), ReplayError> {
        let db = DbIndex::try_from(db).unwrap_or(DbIndex::MAX);
        match self.pool.cross(lsn, db, &payload) {
            Ok(true) => Ok(()),
            Ok(false) => Err(gave_up(lsn)),
            Err(failed) => {
                self.failed = Some(failed);
                Err(gave_up(lsn))
            }
        }
    }
}

fn gave_up(lsn: Lsn) -> ReplayError {
    format!("replay stopped before LSN {lsn}").into()
}

/// Loads the state of every shard at the cut, side by side.
#[expect(clippy::vec_box, reason = "the boxes themselves go on to the shards")]
fn load_bases(
    bases: &[BaseFile],
    data: &mut Vec<Box<ShardData>>,
    shards: ShardCount,
    limits: &Limits,
    loading: &Loading,
) -> Result<(), BootError> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut jobs: Vec<_> = bases.iter().zip(data.iter_mut()).collect();
    let per_thread = jobs.len().div_ceil(threads).max(1);
    std::thread::scope(|scope| {
        let workers: Vec<_> = jobs
            .chunks_mut(per_thread)
            .map(|part| {
                scope.spawn(move || {
                    part.iter_mut()
                        .try_for_each(|(base, data)| load_base(base, data, shards, limits, loading))
                })
            })
            .collect();
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().expect("a panic aborts the process"))
    })
}

/// Bytes read at once from a base.
const BASE_BUFFER: usize = 1 << 20;

fn load_base(
    base: &BaseFile,
    data: &mut ShardData,
    shards: ShardCount,
    limits: &Limits,
    loading: &Loading,
) -> Result<(), BootError> {
    let path = || base.path.clone();
    let file = File::open(&base.path).map_err(|source| BootError::OpenBase {
        path: path(),
        source,
    })?;
    let rdb_limits = RdbLimits {
        require_checksum: true,
        ..RdbLimits::default()
    };
    let summary = load_rdb(
        ShardSet::One(data),
        shards,
        BufReader::with_capacity(BASE_BUFFER, file),
        rdb_limits,
        limits,
        // The log that follows says when they went, or that they stay.
        LoadExpired::Keep,
        &mut |bytes| {
            loading.done_bytes.fetch_add(bytes, Relaxed);
        },
    )
    .map_err(|source| BootError::Base {
        path: path(),
        source,
    })?;
    if summary.cut_lsn != Some(base.cut.0) {
        return Err(BootError::BaseCut {
            path: path(),
            found: summary.cut_lsn,
            expected: base.cut,
        });
    }
    Ok(())
}
