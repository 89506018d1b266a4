//! Which data a start goes by.
//!
//! One source is the authority, and what else lies there is named and left alone: loading two of
//! them would apply writes twice, loading the older one would lose the newer.
//!
//! | appendonly | there | a start |
//! |---|---|---|
//! | yes | log of version 3 | loads it |
//! | yes | the same, closed by `appendonly no`, and a dump written after that | is refused |
//! | yes | log of version 1 or 2 | loads it and goes on in version 3 |
//! | yes | no log of this server, one of Redis | is refused |
//! | yes | only a dump | loads it and begins a log with it |
//! | no | dump | loads it, unless an open log holds later writes: then it is refused |
//! | no | no dump | is empty, whatever logs there are |

use crate::error::{ImportError, read_error};
use crate::source::{SINGLE_NAME, Source, append_only_dir, names};
use moon_core::{Lsn, ShardCount};
use moon_manifest::{AofManifest, AofPaths};
use moon_rdb::{RdbItem, RdbReader};
use std::fmt;
use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// What a start goes by, and what it leaves alone. Its text is the line for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartSource {
    /// What is loaded.
    pub authority: Authority,
    /// Data that lies there and is not loaded.
    pub not_loaded: Vec<PathBuf>,
}

/// What is loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authority {
    /// Nothing: the start is empty.
    Nothing,
    /// The log of version 3.
    Log {
        /// The append-only directory.
        dir: PathBuf,
        /// Where `appendonly no` closed it. It may be used: there is no newer dump.
        closed: Option<Lsn>,
    },
    /// A log of version 1 or 2 in place. One of version 1 is brought to its new place by
    /// [`moon_aof::migrate_in_place`] before it is loaded, and looked up again.
    Earlier(Source),
    /// The dump. With `appendonly yes` bases are written before anything is served.
    Dump(PathBuf),
}

impl fmt::Display for StartSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.authority {
            Authority::Nothing => write!(f, "Nothing to load: starting empty")?,
            Authority::Log { dir, closed } => {
                write!(f, "Loading the append-only log in {}", dir.display())?;
                if let Some(at) = closed {
                    write!(f, ", which `appendonly no` closed at LSN {at}")?;
                }
            }
            Authority::Earlier(source) => {
                let (kind, path) = (source.kind(), source.path().display());
                write!(f, "Loading the {kind} in {path}")?;
            }
            Authority::Dump(path) => write!(f, "Loading the dump {}", path.display())?,
        }
        for path in &self.not_loaded {
            write!(f, "; {} is NOT loaded", path.display())?;
        }
        Ok(())
    }
}

/// Decides which data a start with these settings goes by. Changes nothing.
///
/// # Errors
/// If a start could lose data, or what is there cannot be recognised.
pub fn start_source(
    dir: &Path,
    appenddirname: &str,
    dbfilename: &str,
    appendonly: bool,
) -> Result<StartSource, ImportError> {
    let log_dir = dir.join(appenddirname);
    let mut own = None;
    let mut others = Vec::new();
    if log_dir.is_dir() {
        for source in append_only_dir(&log_dir)? {
            match source {
                Source::RedisMultiPart { manifest, .. } => others.push(manifest),
                source => own = Some(source),
            }
        }
    }
    let single = dir.join(SINGLE_NAME);
    if single.is_file() {
        others.push(single);
    }
    let dump = Some(dir.join(dbfilename)).filter(|path| path.is_file());
    match appendonly {
        true => with_log(own, others, dump),
        false => without_log(own, others, dump),
    }
}

fn with_log(
    own: Option<Source>,
    others: Vec<PathBuf>,
    dump: Option<PathBuf>,
) -> Result<StartSource, ImportError> {
    let authority = match own {
        Some(Source::V3(dir)) => {
            let closed = manifest(&dir)?.closed_at;
            if let (Some(at), Some(dump)) = (closed, &dump) {
                expect_no_later_dump(&dir, at, dump)?;
            }
            Authority::Log { dir, closed }
        }
        Some(earlier) => Authority::Earlier(earlier),
        None => {
            return match (others.into_iter().next(), dump) {
                (Some(path), _) => Err(ImportError::LogOfRedis { path }),
                (None, dump) => Ok(StartSource {
                    authority: dump.map_or(Authority::Nothing, Authority::Dump),
                    not_loaded: Vec::new(),
                }),
            };
        }
    };
    Ok(StartSource {
        authority,
        not_loaded: others.into_iter().chain(dump).collect(),
    })
}

fn without_log(
    own: Option<Source>,
    others: Vec<PathBuf>,
    dump: Option<PathBuf>,
) -> Result<StartSource, ImportError> {
    if let (Some(source), Some(dump)) = (&own, &dump) {
        let manifest = manifest(source.path())?;
        if manifest.closed_at.is_none() && is_older(dump, source.path(), &manifest)? {
            return Err(ImportError::OlderDump {
                dump: dump.clone(),
                log: source.path().to_owned(),
            });
        }
    }
    let logs = own.map(|source| source.path().to_owned());
    Ok(StartSource {
        authority: dump.map_or(Authority::Nothing, Authority::Dump),
        not_loaded: logs.into_iter().chain(others).collect(),
    })
}

/// A closed log is the newest data only if no dump was written after it was closed.
fn expect_no_later_dump(dir: &Path, at: Lsn, dump: &Path) -> Result<(), ImportError> {
    let is_the_same = cut_lsn(dump)? == Some(at.0);
    let closed = modified(&AofPaths::new(dir).manifest())?;
    if is_the_same || modified(dump)? < closed {
        return Ok(());
    }
    Err(ImportError::NewerDump {
        log: dir.to_owned(),
        at,
        dump: dump.to_owned(),
    })
}

/// Whether the log goes on where the dump ends. After a clean stop the positions tell; else the
/// times of the files.
fn is_older(dump: &Path, dir: &Path, manifest: &AofManifest) -> Result<bool, ImportError> {
    if let (Some(cut), Some(end)) = (cut_lsn(dump)?, manifest.clean_stop) {
        return Ok(cut < end.0);
    }
    let mut newest = modified(&AofPaths::new(dir).manifest())?;
    for name in names(dir)? {
        let path = dir.join(&name);
        if !name.starts_with("shard-") || !path.is_dir() {
            continue;
        }
        for file in names(&path)? {
            newest = newest.max(modified(&path.join(file))?);
        }
    }
    Ok(modified(dump)? < newest)
}

fn modified(path: &Path) -> Result<SystemTime, ImportError> {
    let metadata = fs::metadata(path).map_err(read_error(path))?;
    metadata.modified().map_err(read_error(path))
}

/// The position that a dump says it was made at; `None` from another server, or if it cannot be
/// read: whoever loads it says so.
fn cut_lsn(path: &Path) -> Result<Option<u64>, ImportError> {
    let file = File::open(path).map_err(read_error(path))?;
    for item in RdbReader::new(BufReader::new(file)) {
        match item {
            Ok(RdbItem::Aux { key, value }) if key == moon_rdb::format::AUX_CUT_LSN => {
                let text = std::str::from_utf8(&value).ok();
                return Ok(text.and_then(|text| text.parse().ok()));
            }
            Ok(RdbItem::Aux { .. }) => {}
            _ => break,
        }
    }
    Ok(None)
}

fn manifest(dir: &Path) -> Result<AofManifest, ImportError> {
    let path = AofPaths::new(dir).manifest();
    let bytes = fs::read(&path).map_err(read_error(&path))?;
    AofManifest::parse(&bytes).map_err(|source| ImportError::Manifest { path, source })
}

/// How many shards a log of version 1 or 2 is started with in place: as many as it has.
/// `configured` is the configured number, if there is one. Dumps and logs of version 3 are for
/// others to judge.
///
/// # Errors
/// If another number is configured; the text names the command that converts.
pub fn shards_in_place(
    source: &Source,
    configured: Option<ShardCount>,
) -> Result<Option<ShardCount>, ImportError> {
    let (Source::V1 { dir, manifest } | Source::V2 { dir, manifest }) = source else {
        return Ok(None);
    };
    let has = manifest.shard_count();
    match (ShardCount::new(has), configured) {
        (Some(has), None) => Ok(Some(has)),
        (Some(has), Some(configured)) if configured == has => Ok(Some(has)),
        (_, configured) => Err(ImportError::ShardCount {
            counts: moon_manifest::ShardCountError {
                manifest: has,
                config: configured.map_or(ShardCount::MAX, ShardCount::get),
            },
            kind: source.kind(),
            path: dir.clone(),
        }),
    }
}

#[cfg(test)]
#[path = "start/tests.rs"]
mod tests;
