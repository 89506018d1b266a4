//! From the files to data in memory and a log to go on with: what a start loads, in which order.
//!
//! Nothing is served, no LSN issued and no mark published before [`recover`] has returned.

use crate::boot::BootError;
use crate::config::Config;
use crate::loading::Progress as Loading;
use crate::server::limits_of;
use bytes::Bytes;
use moon_aof::migrate::migrate_in_place;
use moon_aof::recovery::BaseFile;
use moon_aof::{
    AofOptions, AofWriterPool, RdbFileInfo, RealStorage, RecoverError, Recovery, RecoverySummary,
    ReplayError, ReplaySink, ShardLog, Storage,
};
use moon_commands::load::{LoadExpired, load_rdb};
use moon_commands::{Limits, ShardSet};
use moon_core::{Lsn, ShardCount, ShardId};
use moon_import::migrate::write_keys;
use moon_import::start::{Authority, StartSource, shards_in_place, start_source};
use moon_import::{ImportError, ImportOptions, ImportProgress, Source, load as import};
use moon_manifest::{AofManifest, AofPaths};
use moon_rdb::RdbLimits;
use moon_repl::{Clock, CommitOn};
use moon_shard::ReplayPool;
use moon_shard::replay::ReplayFailed;
use moon_shard::shard::unix_now;
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
fn scan_log(
    config: &Config,
    default_shards: ShardCount,
    use_closed: bool,
    loading: &Loading,
) -> Result<Recovery, BootError> {
    let options = AofOptions {
        use_closed,
        ..aof_options(config)
    };
    let storage = Arc::new(RealStorage);
    let recovery = Recovery::scan(storage, &options, config.shards, default_shards, loading)?;
    let bytes = recovery.summary().truncated_bytes;
    if bytes > 0 && !config.aof_load_truncated {
        let from = recovery.end();
        return Err(BootError::TornTail { bytes, from });
    }
    Ok(recovery)
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

/// Decides what a start would load, and whether it could. Changes nothing.
///
/// # Errors
/// Every reason not to start.
pub fn check(
    config: &Config,
    default_shards: ShardCount,
    loading: &Loading,
) -> Result<(), BootError> {
    match source_of(config)?.authority {
        Authority::Log { closed, .. } => {
            let has = shards_to_change(config)?;
            let config = Config {
                // A start would change the directory's number before it reads the log.
                shards: has.or(config.shards),
                ..config.clone()
            };
            scan_log(&config, default_shards, closed.is_some(), loading)?;
        }
        Authority::Nothing if config.appendonly => {
            scan_log(config, default_shards, false, loading)?;
        }
        Authority::Earlier(source) => {
            shards_in_place(&source, config.shards)?;
        }
        Authority::Nothing | Authority::Dump(_) => {}
    }
    Ok(())
}

fn source_of(config: &Config) -> Result<StartSource, ImportError> {
    start_source(
        &config.dir,
        &config.appenddirname,
        &config.dbfilename,
        config.appendonly,
    )
}

/// Loads what the directory holds and makes the log ready for new frames.
pub(crate) fn recover(
    config: &Config,
    default_shards: ShardCount,
    loading: &Loading,
) -> Result<Recovered, BootError> {
    let source = source_of(config)?;
    tracing::info!("{source}");
    let start = Start {
        config,
        default_shards,
        loading,
        since: Instant::now(),
    };
    match source.authority {
        Authority::Log { closed, .. } => {
            start.reshard_if_asked()?;
            start.load_log(closed.is_some())
        }
        Authority::Nothing if config.appendonly => start.load_log(false),
        Authority::Nothing => {
            let shards = config.shards.unwrap_or(default_shards);
            let data = start.make_data(shards, false);
            Ok(start.without_log(shards, data))
        }
        Authority::Dump(path) => {
            let shards = config.shards.unwrap_or(default_shards);
            start.load_elsewhere(&Source::Dump(path), shards)
        }
        Authority::Earlier(_) => start.load_earlier_version(),
    }
}

/// The number of shards that the directory has, if it is to be changed at start.
fn shards_to_change(config: &Config) -> Result<Option<ShardCount>, BootError> {
    if !config.reshard_on_start || config.shards.is_none() {
        return Ok(None);
    }
    let paths = AofPaths::new(aof_options(config).dir);
    let text = std::fs::read(paths.manifest())?;
    // What is wrong with it is for the scan to say.
    let has = AofManifest::parse(&text).ok().map(|m| m.shard_count());
    Ok(has
        .and_then(ShardCount::new)
        .filter(|has| Some(*has) != config.shards))
}

/// One start.
struct Start<'a> {
    config: &'a Config,
    default_shards: ShardCount,
    loading: &'a Loading,
    since: Instant,
}

#[expect(
    clippy::vec_box,
    reason = "the boxes themselves go on to the shards; a borrow moves them"
)]
impl Start<'_> {
    /// Empty shards. `gated`: whether replies wait for a commit.
    fn make_data(&self, shards: ShardCount, gated: bool) -> Vec<Box<ShardData>> {
        let databases = DbIndex::try_from(self.config.databases).unwrap_or(DbIndex::MAX);
        let hint = keys_hint(self.config, shards);
        let ids = shards.ids();
        // What is loaded counts as used now.
        let rule = limits_of(self.config).access_rule(unix_now());
        ids.map(|id| {
            let mut data = Box::new(ShardData::with_hint(id, databases, gated, hint));
            data.set_access(rule);
            data
        })
        .collect()
    }

    fn without_log(&self, shards: ShardCount, data: Vec<Box<ShardData>>) -> Recovered {
        Recovered {
            shards,
            data,
            clock: Clock::new(shards, Lsn::ZERO, CommitOn::Written),
            log: RecoveredLog::Off,
            summary: RecoverySummary::default(),
            taken: self.since.elapsed(),
        }
    }

    fn with_log(
        &self,
        mut data: Vec<Box<ShardData>>,
        clock: Arc<Clock>,
        summary: RecoverySummary,
        (pool, logs): (AofWriterPool, Vec<ShardLog>),
    ) -> Recovered {
        for shard in &mut data {
            shard.dirty = DirtyKeys::new(true);
        }
        let shards = ShardCount::new(u16::try_from(data.len()).unwrap_or(u16::MAX));
        Recovered {
            shards: shards.expect("as many as were made"),
            data,
            clock,
            log: RecoveredLog::On { pool, logs },
            summary,
            taken: self.since.elapsed(),
        }
    }

    fn reshard_if_asked(&self) -> Result<(), BootError> {
        let (Some(has), Some(to)) = (shards_to_change(self.config)?, self.config.shards) else {
            return Ok(());
        };
        tracing::warn!(
            "Changing the number of shards of the directory from {} to {}",
            has.get(),
            to.get()
        );
        let storage: Arc<dyn Storage> = Arc::new(RealStorage);
        let dir = aof_options(self.config).dir;
        moon_tools::reshard(&storage, &dir, to, self.loading)?;
        Ok(())
    }

    /// Bases, then the frames since.
    fn load_log(&self, use_closed: bool) -> Result<Recovered, BootError> {
        let mut recovery = scan_log(self.config, self.default_shards, use_closed, self.loading)?;
        let shards = recovery.shards();
        let limits = Arc::new(limits_of(self.config));
        // Not gated yet: what is replayed is committed already.
        let mut data = self.make_data(shards, false);
        load_bases(&recovery.bases(), &mut data, shards, &limits, self.loading)?;
        let pool = ReplayPool::start(shards, data, &limits)?;
        let mut sink = PoolSink { pool, failed: None };
        let replayed = recovery.replay(&mut sink, self.loading);
        if let Some(failed) = sink.failed {
            return Err(failed.into());
        }
        // A failure on a replay thread shows first as a sink that takes no more.
        let data = sink.pool.finish()?;
        replayed?;
        let summary = recovery.summary().clone();
        let policy = aof_options(self.config).policy;
        let clock = Clock::new(shards, recovery.end(), policy.commit_on());
        let log = recovery.finish(&clock)?;
        Ok(self.with_log(data, clock, summary, log))
    }

    /// A directory of version 1 or 2, in place.
    fn load_earlier_version(&self) -> Result<Recovered, BootError> {
        let paths = AofPaths::new(aof_options(self.config).dir);
        let Authority::Earlier(source) = source_of(self.config)?.authority else {
            return Err(RecoverError::Legacy {
                path: paths.root().to_owned(),
            }
            .into());
        };
        let shards = shards_in_place(&source, self.config.shards)?.unwrap_or(ShardCount::ONE);
        migrate_in_place(&RealStorage, &paths)?;
        // Version 1 has moved.
        match source_of(self.config)?.authority {
            Authority::Earlier(source) => self.load_elsewhere(&source, shards),
            _ => Err(RecoverError::Legacy {
                path: paths.root().to_owned(),
            }
            .into()),
        }
    }

    /// Loads a state that does not come from a log of this version. With a log, its bases are
    /// written and synced before anything is served.
    fn load_elsewhere(&self, source: &Source, shards: ShardCount) -> Result<Recovered, BootError> {
        let options = ImportOptions {
            load_truncated: self.config.aof_load_truncated,
            now: unix_now(),
        };
        let limits = limits_of(self.config);
        let data = self.make_data(shards, false);
        let (data, summary) = import(source, data, shards, &limits, &options, self.loading)?;
        for ignored in &summary.ignored {
            tracing::warn!(
                "{} bytes at the end of {} are cut off and not loaded",
                ignored.bytes,
                ignored.path.display()
            );
        }
        tracing::info!(
            "Loaded {} keys from {} bytes; {} had expired",
            summary.keys,
            summary.bytes,
            summary.expired
        );
        if !self.config.appendonly {
            return Ok(self.without_log(shards, data));
        }
        let aof = aof_options(self.config);
        let clock = Clock::new(shards, Lsn::ZERO, aof.policy.commit_on());
        let recovery = Recovery::adopt(Arc::new(RealStorage), &aof, shards)?;
        let seconds = options.now.0.max(0).cast_unsigned() / 1000;
        let info = RdbFileInfo {
            redis_ver: crate::info::REDIS_VERSION.to_owned(),
            ctime_s: seconds,
            used_mem_bytes: data.iter().map(|shard| shard.memory() as u64).sum(),
            ..RdbFileInfo::default()
        };
        let log = recovery.finish_with_bases(&clock, &info, &|shard, file| {
            write_keys(&data[shard.index()], file, &mut |_| ())
        })?;
        Ok(self.with_log(data, clock, RecoverySummary::default(), log))
    }
}

impl ImportProgress for Loading {
    fn read(&self, bytes: u64, total: u64) {
        self.total_bytes.store(total, Relaxed);
        self.done_bytes.store(bytes, Relaxed);
    }
}

impl moon_tools::Progress for Loading {
    fn begin(&self, _what: &str, total_bytes: u64) {
        self.done_bytes.store(0, Relaxed);
        self.total_bytes.store(total_bytes, Relaxed);
    }

    fn advance(&self, bytes: u64) {
        self.done_bytes.fetch_add(bytes, Relaxed);
    }
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
fn load_bases(
    bases: &[BaseFile],
    data: &mut [Box<ShardData>],
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
    let summary = load_rdb(
        ShardSet::One(data),
        shards,
        BufReader::with_capacity(BASE_BUFFER, file),
        RdbLimits::own(),
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
