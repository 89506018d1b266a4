//! A source put into shards.
//!
//! Keys whose deadline has passed are loaded from logs, because what follows may still keep
//! them, and left out of a dump, as Redis does. Expire times that are relative count from the
//! time of loading, unless a time stamp in the log says when.

use crate::error::ImportError;
use crate::redis_manifest::{MANIFEST_BYTES_MAX, RedisManifest};
use crate::source::{Source, read_bounded};
use crate::{frames, log_file, own_log};
use moon_commands::load::{LoadExpired, LoadSummary, load_rdb};
use moon_commands::{Limits, ShardSet};
use moon_core::{ShardCount, ShardId, UnixMs};
use moon_manifest::{AofManifest, AofPaths};
use moon_rdb::RdbLimits;
use moon_store::ShardData;
use std::fs::{self, File};
use std::io::{self, BufReader, Read as _};
use std::path::{Path, PathBuf};

/// Bytes read from a file at once.
pub(crate) const BUFFER_BYTES: usize = 1 << 20;

/// How a source is loaded.
#[derive(Clone, Copy, Debug)]
pub struct ImportOptions {
    /// Whether a cut end of the last file of a log is ignored (`aof-load-truncated`). The end of
    /// any other file is never.
    pub load_truncated: bool,
    /// The time of loading: relative expire times count from it, and keys of a dump that have
    /// expired then are left out.
    pub now: UnixMs,
}

/// Told how far it is.
pub trait ImportProgress {
    /// `bytes` of `total` were read. `total` may grow while files are found.
    fn read(&self, bytes: u64, total: u64);
}

/// Nobody wants to know.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoProgress;

impl ImportProgress for NoProgress {
    fn read(&self, _bytes: u64, _total: u64) {}
}

/// A cut end that was ignored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IgnoredEnd {
    /// The file.
    pub path: PathBuf,
    /// Where the last whole request or transaction ends.
    pub offset: u64,
    /// Bytes from there on.
    pub bytes: u64,
}

/// What was loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImportSummary {
    /// Files read.
    pub files: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Keys of RDB data; later commands may have changed or removed them.
    pub rdb_keys: u64,
    /// Keys of a dump that had expired and were left out.
    pub expired: u64,
    /// Commands applied.
    pub commands: u64,
    /// Keys in all databases at the end.
    pub keys: u64,
    /// Cut ends that were ignored.
    pub ignored: Vec<IgnoredEnd>,
    /// The server that wrote the RDB data, as it calls itself.
    pub redis_ver: Option<String>,
}

/// Puts `source` into `data`, which are the empty shards of an instance of `count`, in order,
/// and gives them back. They must not be gated: nobody commits what is loaded.
///
/// # Errors
/// [`ImportError`]; nothing was changed on disk, and the data is dropped.
pub fn load(
    source: &Source,
    data: Vec<Box<ShardData>>,
    count: ShardCount,
    limits: &Limits,
    options: &ImportOptions,
    progress: &dyn ImportProgress,
) -> Result<(Vec<Box<ShardData>>, ImportSummary), ImportError> {
    let mut loader = Loader {
        shards: data.into_iter().map(Some).collect(),
        count,
        limits,
        options,
        meter: Meter {
            progress,
            done: 0,
            total: 0,
        },
        summary: ImportSummary::default(),
    };
    match source {
        Source::Dump(path) => loader.dump(path)?,
        Source::RedisSingleAof(path) => loader.logs(std::slice::from_ref(path))?,
        Source::RedisMultiPart { dir, manifest } => {
            let bytes = read_bounded(manifest, MANIFEST_BYTES_MAX)
                .map_err(|e| missing_or_read(manifest, dir, e))?;
            let files = RedisManifest::parse(manifest, &bytes)?.files(dir);
            loader.expect_files(&files, manifest)?;
            loader.logs(&files)?;
        }
        Source::V1 { dir, manifest } => loader.version_1(dir, manifest)?,
        Source::V2 { dir, manifest } => loader.version_2(dir, manifest)?,
        Source::V3(dir) => own_log::load(&mut loader, dir)?,
    }
    let Loader {
        shards,
        meter,
        mut summary,
        ..
    } = loader;
    let data: Vec<Box<ShardData>> = shards.into_iter().flatten().collect();
    summary.bytes = meter.done;
    summary.keys = data.iter().map(|shard| shard.len() as u64).sum();
    Ok((data, summary))
}

/// What is loaded, and into what.
pub(crate) struct Loader<'a> {
    shards: Vec<Option<Box<ShardData>>>,
    pub(crate) count: ShardCount,
    pub(crate) limits: &'a Limits,
    pub(crate) options: &'a ImportOptions,
    pub(crate) meter: Meter<'a>,
    pub(crate) summary: ImportSummary,
}

/// Counts what was read.
pub(crate) struct Meter<'a> {
    progress: &'a dyn ImportProgress,
    done: u64,
    total: u64,
}

impl Meter<'_> {
    pub(crate) fn expect(&mut self, bytes: u64) {
        self.total += bytes;
        self.progress.read(self.done, self.total);
    }

    pub(crate) fn add(&mut self, bytes: u64) {
        self.done += bytes;
        self.progress.read(self.done, self.total.max(self.done));
    }
}

impl Loader<'_> {
    /// All shards, for one command or file.
    pub(crate) fn shards(&mut self) -> ShardSet<'_> {
        ShardSet::Many {
            count: self.count,
            shards: &mut self.shards,
        }
    }

    fn dump(&mut self, path: &Path) -> Result<(), ImportError> {
        self.meter.expect(file_len(path)?);
        let file = File::open(path).map_err(|source| ImportError::Read {
            path: path.to_owned(),
            source,
        })?;
        let mut source = BufReader::with_capacity(BUFFER_BYTES, file);
        let expired = LoadExpired::Drop(self.options.now);
        let loaded = self.rdb(path, &mut source, expired)?;
        let mut next = [0];
        match source.read(&mut next) {
            Ok(0) => Ok(()),
            Ok(_) => Err(ImportError::TrailingBytes {
                path: path.to_owned(),
                offset: loaded.bytes,
            }),
            Err(source) => Err(ImportError::Read {
                path: path.to_owned(),
                source,
            }),
        }
    }

    /// Loads the RDB data that begins here; the source stands right behind it afterwards.
    pub(crate) fn rdb(
        &mut self,
        path: &Path,
        source: &mut BufReader<File>,
        expired: LoadExpired,
    ) -> Result<LoadSummary, ImportError> {
        let shards = ShardSet::Many {
            count: self.count,
            shards: &mut self.shards,
        };
        let meter = &mut self.meter;
        let mut before = 0;
        let loaded = load_rdb(
            shards,
            self.count,
            source,
            RdbLimits::default(),
            self.limits,
            expired,
            &mut |bytes| {
                meter.add(bytes - before);
                before = bytes;
            },
        );
        let loaded = loaded.map_err(|source| ImportError::Rdb {
            path: path.to_owned(),
            source,
        })?;
        self.summary.files += 1;
        self.summary.rdb_keys += loaded.keys;
        self.summary.expired += loaded.expired;
        if loaded.redis_ver.is_some() {
            self.summary.redis_ver.clone_from(&loaded.redis_ver);
        }
        Ok(loaded)
    }

    /// Loads logs that go on from one to the next, the first one perhaps a base.
    fn logs(&mut self, paths: &[PathBuf]) -> Result<(), ImportError> {
        for path in paths {
            self.meter.expect(file_len(path)?);
        }
        for (index, path) in paths.iter().enumerate() {
            let is_last = index + 1 == paths.len();
            log_file::load(self, path, is_last)?;
        }
        Ok(())
    }

    /// Refuses before anything is read if one of the files that `manifest` names is missing.
    fn expect_files(&self, files: &[PathBuf], manifest: &Path) -> Result<(), ImportError> {
        let missing = files.iter().find(|path| !path.is_file());
        missing.map_or(Ok(()), |path| {
            Err(ImportError::Missing {
                path: path.clone(),
                named_by: manifest.to_owned(),
            })
        })
    }

    fn version_1(&mut self, dir: &Path, manifest: &AofManifest) -> Result<(), ImportError> {
        let paths = AofPaths::new(dir);
        let [base, incr] = paths.version_1(manifest.layout, manifest.seq);
        expect_base(&base)?;
        self.expect_files(std::slice::from_ref(&incr), &paths.manifest())?;
        self.logs(&[base, incr])
    }

    fn version_2(&mut self, dir: &Path, manifest: &AofManifest) -> Result<(), ImportError> {
        let paths = AofPaths::new(dir);
        let shards = || manifest.shards.iter();
        let mut incrs = Vec::new();
        for shard in shards() {
            let id = ShardId(shard.shard_id);
            expect_base(&paths.base(id, manifest.seq))?;
            let incr = paths.incr(id, manifest.seq);
            // A shard that had not written anything may have no file yet.
            if incr.is_file() || shard.max_lsn > 0 {
                self.expect_files(std::slice::from_ref(&incr), &paths.manifest())?;
                incrs.push(incr);
            }
        }
        for shard in shards() {
            let base = paths.base(ShardId(shard.shard_id), manifest.seq);
            self.meter.expect(file_len(&base)?);
            let file = File::open(&base).map_err(crate::error::read_error(&base))?;
            let mut source = BufReader::with_capacity(BUFFER_BYTES, file);
            self.rdb(&base, &mut source, LoadExpired::Keep)?;
        }
        frames::load(self, &incrs)
    }
}

fn expect_base(path: &Path) -> Result<(), ImportError> {
    match path.is_file() {
        true => Ok(()),
        false => Err(ImportError::BaseMissing {
            path: path.to_owned(),
        }),
    }
}

pub(crate) fn file_len(path: &Path) -> Result<u64, ImportError> {
    let metadata = fs::metadata(path).map_err(crate::error::read_error(path))?;
    Ok(metadata.len())
}

fn missing_or_read(path: &Path, named_by: &Path, source: io::Error) -> ImportError {
    match source.kind() {
        io::ErrorKind::NotFound => ImportError::Missing {
            path: path.to_owned(),
            named_by: named_by.to_owned(),
        },
        _ => ImportError::Read {
            path: path.to_owned(),
            source,
        },
    }
}
