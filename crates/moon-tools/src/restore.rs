//! Restoring to a point: a new directory with the state at one LSN or one time.
//!
//! A *span* is a stretch of the history that can be restored to: a base (or the beginning of the
//! history) and the gapless part of the stream behind it. A directory has one per base it names:
//! the newest, and those of superseded generations that were kept. An archive directory has one
//! directory per superseded generation. The span with the newest base at or below the point is
//! copied ([`stream`](crate::stream)) up to the last unit that ends there, so that a transaction
//! is never halved.
//!
//! What is restored is another history from its end on: the original may have gone on, or still
//! does. So the new directory has the next history number, so that its segments and the
//! original's can never be mixed, and a replication id of its own. The original's ids are valid up
//! to the end, where both histories are the same.

use crate::Progress;
use crate::check::{CheckError, Target as Found, locate};
use crate::stream::{Copied, CopyError, Source, Target, copy};
use crate::time::PointInTime;
use moon_aof::copy::{new_replication_id, put_manifest};
use moon_aof::inspect::{LogFiles, Step};
use moon_aof::{RecoverError, Storage};
use moon_core::{Generation, Lsn, ShardCount};
use moon_manifest::{AofManifest, AofPaths, BaseLine, IncrLine, ShardManifest};
use std::io;
use std::path::{Path, PathBuf};

/// The point to restore to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestorePoint {
    /// The state just before this position.
    Lsn(Lsn),
    /// The state behind the last unit whose time is not later.
    Time(PointInTime),
}

/// What to restore, and where to.
#[derive(Clone, Copy, Debug)]
pub struct RestoreRequest<'a> {
    /// Data directories, append-only directories, and archive directories.
    pub from: &'a [PathBuf],
    /// The point.
    pub to: RestorePoint,
    /// The new data directory: absent or empty, in a directory that exists.
    pub out: &'a Path,
    /// Name of the append-only directory in data directories.
    pub appenddirname: &'a str,
}

/// What was restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// The directory it came from.
    pub from: PathBuf,
    /// The new append-only directory.
    pub dir: PathBuf,
    /// Its number of shards.
    pub shards: ShardCount,
    /// The position of its state.
    pub lsn: Lsn,
    /// Time of the last unit before it; `None` if it is the state of a base.
    pub time: Option<PointInTime>,
    /// Position and time of the first unit left out; `None` at the end of what there is.
    pub next: Option<(Lsn, PointInTime)>,
    /// What was copied.
    pub copied: Copied,
}

/// Why nothing was restored. What was read is as it was; what was begun in the new directory has
/// no manifest, and no start takes it for a log.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// A directory cannot be looked at.
    #[error(transparent)]
    Look(#[from] CheckError),
    /// A directory holds no log of this server.
    #[error("{} holds no log of this server: {hint}", path.display())]
    NoLog {
        /// The directory.
        path: PathBuf,
        /// What it seems to be.
        hint: String,
    },
    /// A log cannot be read.
    #[error(transparent)]
    Log(#[from] RecoverError),
    /// The point lies before everything that can be restored.
    #[error("LSN {asked} cannot be restored any more: the earliest position is LSN {earliest}")]
    TooEarly {
        /// What was asked for.
        asked: Lsn,
        /// The earliest possible.
        earliest: Lsn,
    },
    /// The point lies behind everything that can be restored.
    #[error("LSN {asked} is beyond the end of the log: the last position is LSN {end}")]
    TooLate {
        /// What was asked for.
        asked: Lsn,
        /// The last possible.
        end: Lsn,
    },
    /// The point lies where part of the stream cannot be read.
    #[error(
        "LSN {asked} cannot be restored: the stream from LSN {from} to LSN {to} is not there or \
         cannot be read. --to-lsn {from} is the nearest state before; if the part behind it was \
         archived, name that directory, too"
    )]
    Hole {
        /// What was asked for.
        asked: Lsn,
        /// Where the hole begins.
        from: Lsn,
        /// Where it ends.
        to: Lsn,
    },
    /// The time lies before everything that can be restored.
    #[error(
        "{asked} is before the first time that can be restored, {earliest} (LSN {lsn}); the state \
         before that, without a time of its own, is --to-lsn {start}"
    )]
    TimeTooEarly {
        /// What was asked for.
        asked: PointInTime,
        /// The first time.
        earliest: PointInTime,
        /// End of the unit of that time.
        lsn: Lsn,
        /// Where that span begins.
        start: Lsn,
    },
    /// The time lies where part of the stream is not there, so what was the last write before it
    /// cannot be known.
    #[error(
        "{asked} cannot be restored: the stream from LSN {from} to LSN {to} is not there or \
         cannot be read, and the time falls into it. --to-lsn {from} is the last state before"
    )]
    TimeInHole {
        /// What was asked for.
        asked: PointInTime,
        /// Where the hole begins.
        from: Lsn,
        /// Where it ends.
        to: Lsn,
    },
    /// There is nothing with a time.
    #[error("there are no writes in the log, so there is no time to restore to")]
    NoTimes,
    /// The new directory has something in it.
    #[error("{} is not empty; restoring takes a directory that is new or empty", path.display())]
    NotEmpty {
        /// The directory.
        path: PathBuf,
    },
    /// The log cannot be copied.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// Something could not be written or synced.
    #[error("cannot write {}", path.display())]
    Write {
        /// What.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// Restores. The directories of `request.from` are only read, and may be in use.
///
/// # Errors
/// [`RestoreError`].
pub fn restore(
    storage: &dyn Storage,
    request: &RestoreRequest<'_>,
    progress: &dyn Progress,
) -> Result<Restored, RestoreError> {
    check_empty(storage, request.out)?;
    let mut logs = Vec::new();
    for path in request.from {
        open_logs(storage, path, request.appenddirname, &mut logs)?;
    }
    let spans = find_spans(&logs)?;
    let upto = match request.to {
        RestorePoint::Lsn(lsn) => lsn,
        RestorePoint::Time(time) => lsn_at(&logs, &spans, time)?,
    };
    let span = choose(&spans, upto)?;
    let log = &logs[span.log];
    let paths = AofPaths::new(request.out.join(request.appenddirname));
    make_directories(storage, request.out, paths.root())?;
    let before = log.manifest();
    let target = Target {
        shards: shard_count(before)?,
        seq: Generation(1),
        history: before.history.saturating_add(1),
        paths,
    };
    let source = Source {
        log,
        base: span.base,
        upto,
    };
    let copied = copy(storage, &source, &target, progress)?;
    let write = |path: &Path| {
        let path = path.to_owned();
        move |source| RestoreError::Write { path, source }
    };
    let mut manifest = manifest_of(before, span.base, &copied, &target);
    let id = new_replication_id(storage).map_err(write(target.paths.root()))?;
    manifest.begin_replication_id(id, copied.end);
    put_manifest(storage, &target.paths, &manifest).map_err(write(&target.paths.manifest()))?;
    let (time, next) = times_around(log, span, copied.end)?;
    Ok(Restored {
        from: log.paths().root().to_owned(),
        dir: target.paths.root().to_owned(),
        shards: target.shards,
        lsn: copied.end,
        time,
        next,
        copied,
    })
}

fn shard_count(manifest: &AofManifest) -> Result<ShardCount, RestoreError> {
    let count = manifest.shard_count();
    // A parsed manifest has 1 to MAX shards.
    ShardCount::new(count).ok_or(RestoreError::Log(RecoverError::ShardCount(
        moon_manifest::ShardCountError {
            manifest: count,
            config: ShardCount::MAX,
        },
    )))
}

/// What is in force in the new directory.
fn manifest_of(
    before: &AofManifest,
    base: Option<BaseLine>,
    copied: &Copied,
    target: &Target,
) -> AofManifest {
    let seq = target.seq;
    let mut manifest = before.clone();
    manifest.cut_off_at(copied.end);
    AofManifest {
        seq,
        history: target.history,
        bases: base
            .map(|base| BaseLine { seq, cut: base.cut })
            .into_iter()
            .collect(),
        incrs: vec![IncrLine {
            seq,
            first: copied.start,
            end: Some(copied.end),
        }],
        shards: (0..)
            .zip(&copied.max_lsn)
            .map(|(shard_id, max_lsn)| ShardManifest {
                shard_id,
                max_lsn: max_lsn.0,
            })
            .collect(),
        // Nobody has the new replication id yet, so the first start may keep it.
        clean_stop: Some(copied.end),
        preparing: None,
        ..manifest
    }
}

fn check_empty(storage: &dyn Storage, out: &Path) -> Result<(), RestoreError> {
    match storage.list(out) {
        Ok(names) if names.is_empty() => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Ok(_) => Err(RestoreError::NotEmpty {
            path: out.to_owned(),
        }),
        Err(source) => Err(RestoreError::Write {
            path: out.to_owned(),
            source,
        }),
    }
}

fn make_directories(storage: &dyn Storage, out: &Path, root: &Path) -> Result<(), RestoreError> {
    for dir in [out, root] {
        let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
        let made = storage.create_dir(dir);
        made.and_then(|()| storage.sync_dir(parent.unwrap_or(Path::new("."))))
            .map_err(|source| RestoreError::Write {
                path: dir.to_owned(),
                source,
            })?;
    }
    Ok(())
}

/// Opens the log under `path`, or all logs in it if it is an archive directory.
fn open_logs(
    storage: &dyn Storage,
    path: &Path,
    appenddirname: &str,
    logs: &mut Vec<LogFiles>,
) -> Result<(), RestoreError> {
    let hint = match locate(storage, path, appenddirname)? {
        Found::Log(dir) => {
            let log = LogFiles::open(storage, &dir)?;
            let no_log = || RestoreError::NoLog {
                path: dir.clone(),
                hint: "there is no manifest".to_owned(),
            };
            logs.push(log.ok_or_else(no_log)?);
            return Ok(());
        }
        Found::File(_) => "it is a file".to_owned(),
        Found::OtherDirectory { hint, .. } => hint.to_owned(),
    };
    let mut names = storage.list(path).unwrap_or_default();
    names.sort();
    let before = logs.len();
    for name in names {
        let below = path.join(name);
        if let Ok(Found::Log(dir)) = locate(storage, &below, appenddirname)
            // One without a manifest is still on its way there.
            && let Some(log) = LogFiles::open(storage, &dir)?
        {
            logs.push(log);
        }
    }
    if logs.len() == before {
        let path = path.to_owned();
        return Err(RestoreError::NoLog { path, hint });
    }
    Ok(())
}

/// A stretch of the history that can be restored to.
#[derive(Clone, Copy)]
struct Span {
    /// Index of its log.
    log: usize,
    /// Where it begins; `None` at the beginning of the history.
    base: Option<BaseLine>,
    start: Lsn,
    /// End of the gapless part of the stream behind it.
    end: Lsn,
    /// Where what is missing behind the end ends: the stream went on, durably, and cannot be read
    /// there. A torn tail is nothing missing.
    missing_to: Option<Lsn>,
}

/// All spans, in the order of their starts.
fn find_spans(logs: &[LogFiles]) -> Result<Vec<Span>, RestoreError> {
    let mut spans = Vec::new();
    for (index, log) in logs.iter().enumerate() {
        let bases = log.manifest().bases.iter().map(|base| Some(*base));
        let beginning = has_beginning(log)?.then_some(None);
        for base in bases.chain(beginning) {
            let start = base.map_or(Lsn::ZERO, |base| base.cut);
            let mut units = log.units(start)?;
            let next = loop {
                match units.step() {
                    Step::Unit(_) => {}
                    Step::Gap(next) => break next,
                    Step::End | Step::Overlap(_) => break log.durable(),
                }
            };
            let end = units.at();
            spans.push(Span {
                log: index,
                base,
                start,
                end,
                missing_to: (end < log.durable()).then_some(next),
            });
        }
    }
    spans.sort_by_key(|span| (span.start, span.end));
    Ok(spans)
}

/// Whether the log has the history from its beginning on, where the state is known without a base:
/// nothing. A generation's first position is a lower bound and proves nothing; its first unit
/// does. A base at the beginning says that there was something.
fn has_beginning(log: &LogFiles) -> Result<bool, RestoreError> {
    let bases = &log.manifest().bases;
    if bases.is_empty() {
        return Ok(log.first() == Lsn::ZERO);
    }
    let from_zero = matches!(log.units(Lsn::ZERO)?.step(), Step::Unit(_));
    Ok(from_zero && bases.iter().all(|base| base.cut > Lsn::ZERO))
}

/// The span that reaches `upto` with the least to replay.
fn choose(spans: &[Span], upto: Lsn) -> Result<&Span, RestoreError> {
    let covering = |span: &&Span| span.start <= upto && upto <= span.end;
    if let Some(span) = spans.iter().rev().find(covering) {
        return Ok(span);
    }
    let asked = upto;
    let nearest = spans.iter().filter(|span| span.end < upto);
    let Some(nearest) = nearest.max_by_key(|span| span.end) else {
        let earliest = spans.first().map_or(Lsn::ZERO, |span| span.start);
        return Err(RestoreError::TooEarly { asked, earliest });
    };
    let end = nearest.end;
    Err(match hole_behind(spans, end) {
        Some(to) => RestoreError::Hole {
            asked,
            from: end,
            to,
        },
        None => RestoreError::TooLate { asked, end },
    })
}

/// Where the hole ends that begins at `end`, the end of a span: nothing goes on there, and
/// something later is known.
fn hole_behind(spans: &[Span], end: Lsn) -> Option<Lsn> {
    if spans.iter().any(|span| span.start <= end && end < span.end) {
        return None;
    }
    let ends_here = spans.iter().filter(|span| span.end == end);
    let missing = ends_here.filter_map(|span| span.missing_to);
    let later = spans.iter().map(|span| span.start);
    missing.chain(later.filter(|start| *start > end)).min()
}

/// The end of the last unit whose time is not later than `asked`.
fn lsn_at(logs: &[LogFiles], spans: &[Span], asked: PointInTime) -> Result<Lsn, RestoreError> {
    let mut covered = Lsn::ZERO;
    let mut best: Option<Lsn> = None;
    let mut first: Option<(PointInTime, Lsn, Lsn)> = None;
    for span in spans {
        let mut units = logs[span.log].units(span.start)?;
        while let Step::Unit(unit) = units.step() {
            // An earlier span went through it.
            if unit.end <= covered {
                continue;
            }
            let time = PointInTime(units.time_ms(&unit)?);
            first.get_or_insert((time, unit.end, span.start));
            if time <= asked {
                best = best.max(Some(unit.end));
            }
        }
        covered = covered.max(span.end);
    }
    let Some((earliest, lsn, start)) = first else {
        return Err(RestoreError::NoTimes);
    };
    let Some(best) = best else {
        return Err(RestoreError::TimeTooEarly {
            asked,
            earliest,
            lsn,
            start,
        });
    };
    // The last write before the time may be one that cannot be read.
    match hole_behind(spans, best) {
        Some(to) => Err(RestoreError::TimeInHole {
            asked,
            from: best,
            to,
        }),
        None => Ok(best),
    }
}

/// The time of the unit that ends at `end`, and place and time of the one behind it.
type Around = (Option<PointInTime>, Option<(Lsn, PointInTime)>);

fn times_around(log: &LogFiles, span: &Span, end: Lsn) -> Result<Around, RestoreError> {
    let mut units = log.units(span.start)?;
    let mut time = None;
    loop {
        match units.step() {
            Step::Unit(unit) if unit.end < end => {}
            Step::Unit(unit) if unit.end == end => {
                time = Some(PointInTime(units.time_ms(&unit)?));
            }
            Step::Unit(unit) => {
                let next = PointInTime(units.time_ms(&unit)?);
                return Ok((time, Some((unit.lsn, next))));
            }
            _ => return Ok((time, None)),
        }
    }
}
