//! Copying one log into another: the base entry by entry, then the units of the stream in order.
//! Changing the shard count and restoring to a point are both this.
//!
//! Nothing is executed and no frame is taken apart: a frame keeps its position, its time, its
//! durable mark and its payload, whichever segment it stands in. Where the number of shards
//! changes, only one thing about a frame can: a frame of one shard whose keys now belong to
//! several becomes a frame over shards, which a replay applies with all of them in hand.
//!
//! Memory is bounded by the largest key, the largest unit, the buffers of the open files, and
//! some forty bytes per frame, as in a start.

use crate::Progress;
use crate::rdb::{RdbFileError, encode_entry, read_base};
use bytes::Bytes;
use moon_aof::copy::{FrameToCopy, SegmentWriter, create_shard_dirs};
use moon_aof::inspect::{LogFiles, LogUnit, Step, Units};
use moon_aof::segment::SegmentHeader;
use moon_aof::{RdbFile, RdbFileInfo, RecoverError, Storage, failpoint};
use moon_commands::ReplayError;
use moon_commands::requests::{Touched, touched_shards};
use moon_core::{Generation, Lsn, ShardCount, ShardId};
use moon_manifest::{AofPaths, BaseLine};
use moon_rdb::format::{AUX_CTIME, AUX_REDIS_VER, AUX_USED_MEM};
use moon_rdb::value::RdbItemRef;
use moon_repl::FrameKind;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// Where a copy comes from: a log, from one of its bases on, up to a position.
#[derive(Clone, Copy)]
pub struct Source<'a> {
    /// The log.
    pub log: &'a LogFiles,
    /// Where to begin; `None` begins at the first position of the log with nothing.
    pub base: Option<BaseLine>,
    /// Units that end beyond it are not copied.
    pub upto: Lsn,
}

/// Where a copy goes: one generation of an append-only directory that exists.
#[derive(Clone, Debug)]
pub struct Target {
    /// The directory.
    pub paths: AofPaths,
    /// Its number of shards.
    pub shards: ShardCount,
    /// The generation.
    pub seq: Generation,
    /// The history that its segments name.
    pub history: u64,
}

/// What was copied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    /// Where the copy begins.
    pub start: Lsn,
    /// Where it ends: the end of the last unit copied.
    pub end: Lsn,
    /// End of the last frame of every shard.
    pub max_lsn: Vec<Lsn>,
    /// Keys in bases.
    pub keys: u64,
    /// Units of the stream.
    pub units: u64,
    /// Of these, frames of one shard that are now frames over shards.
    pub now_cross: u64,
}

/// Why a log cannot be copied.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// A base cannot be used.
    #[error("cannot use the base {}", path.display())]
    Base {
        /// The base.
        path: PathBuf,
        /// Why not.
        source: RdbFileError,
    },
    /// A segment cannot be read.
    #[error(transparent)]
    Log(#[from] RecoverError),
    /// A frame holds what no replay would accept.
    #[error("the frame at LSN {lsn}, {} at byte {offset}, cannot be replayed", path.display())]
    Payload {
        /// The segment.
        path: PathBuf,
        /// Where the frame begins.
        offset: u64,
        /// Its position.
        lsn: Lsn,
        /// Why not.
        source: ReplayError,
    },
    /// Part of the stream is not there.
    #[error(
        "LSN {from} cannot be read{}",
        next.map(|next| format!("; the next that can is {next}")).unwrap_or_default()
    )]
    Missing {
        /// First missing position.
        from: Lsn,
        /// The next readable position.
        next: Option<Lsn>,
    },
    /// Two frames claim overlapping parts of the stream.
    #[error("{} at byte {offset}: the frame at LSN {lsn} overlaps the one before", path.display())]
    Overlap {
        /// The segment of the later frame.
        path: PathBuf,
        /// Where it begins.
        offset: u64,
        /// Its position.
        lsn: Lsn,
    },
    /// Something could not be written or synced.
    #[error("cannot write {}", path.display())]
    Write {
        /// What.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// Writes bases and segments of `target` with what `source` holds, and syncs them and their
/// directories. No manifest is touched: until one names the new files nothing in them counts.
///
/// # Errors
/// [`CopyError`]; files of the generation may be left.
pub fn copy(
    storage: &dyn Storage,
    source: &Source<'_>,
    target: &Target,
    progress: &dyn Progress,
) -> Result<Copied, CopyError> {
    let root = target.paths.root();
    create_shard_dirs(storage, &target.paths, target.shards.ids()).map_err(write_error(root))?;
    let mut copied = Copied {
        start: source.base.map_or(source.log.first(), |base| base.cut),
        ..Copied::default()
    };
    if let Some(base) = source.base {
        copied.keys = copy_bases(storage, source.log, base, target, progress)?;
    }
    copy_units(storage, source, target, &mut copied, progress)?;
    for shard in target.shards.ids() {
        let dir = target.paths.shard_dir(shard);
        storage.sync_dir(&dir).map_err(write_error(&dir))?;
    }
    Ok(copied)
}

fn write_error(path: &Path) -> impl Fn(io::Error) -> CopyError + '_ {
    move |source| CopyError::Write {
        path: path.to_owned(),
        source,
    }
}

/// The bases of one generation and their shards.
fn base_files(log: &LogFiles, base: BaseLine) -> impl Iterator<Item = (ShardId, PathBuf)> + '_ {
    let shards = 0..log.manifest().shard_count();
    shards.map(move |shard| {
        let shard = ShardId(shard);
        (shard, log.paths().base(shard, base.seq))
    })
}

/// Reads every base entry by entry into the bases of the shards that now own the keys.
fn copy_bases(
    storage: &dyn Storage,
    log: &LogFiles,
    base: BaseLine,
    target: &Target,
    progress: &dyn Progress,
) -> Result<u64, CopyError> {
    let info = read_heads(storage, log, base, target.shards)?;
    let mut files = Vec::new();
    for shard in target.shards.ids() {
        let path = target.paths.base(shard, target.seq);
        let file = RdbFile::create(storage, &path, &info).map_err(write_error(&path))?;
        files.push((path, file));
    }
    let lengths = base_files(log, base).map(|(_, path)| file_len(storage, &path));
    progress.begin("copying bases", lengths.sum());
    let before = ShardCount::new(log.manifest().shard_count());
    let mut keys = 0;
    let mut encoded = Vec::new();
    for (shard, path) in base_files(log, base) {
        let mut done = 0;
        let read = read_base(storage, &path, base.cut.0, |item, at| {
            progress.advance(at - done);
            done = at;
            match item {
                // All libraries are with the first shard, before and after.
                RdbItemRef::Function(_) if shard != ShardId(0) => {
                    Err(RdbFileError::Function.into())
                }
                RdbItemRef::Function(code) => {
                    let (path, file) = &mut files[0];
                    file.function(code)
                        .map_err(|source| Stop::Write(path.clone(), source))
                }
                RdbItemRef::Entry(entry) => {
                    failpoint::hit("reshard-mid-copy");
                    if before.map(|count| count.shard_of_key(entry.key)) != Some(shard) {
                        let key = entry.key.escape_ascii().to_string();
                        return Err(RdbFileError::WrongShard { key }.into());
                    }
                    encoded.clear();
                    encode_entry(&mut encoded, &entry);
                    keys += 1;
                    let owner = target.shards.shard_of_key(entry.key);
                    let (path, file) = &mut files[owner.index()];
                    file.chunk(entry.db, &encoded)
                        .map_err(|source| Stop::Write(path.clone(), source))
                }
                _ => Ok(()),
            }
        });
        read.map_err(|stop| match stop {
            Stop::Read(source) => CopyError::Base { path, source },
            Stop::Write(path, source) => CopyError::Write { path, source },
        })?;
    }
    for (path, file) in files {
        file.finish().map_err(write_error(&path))?;
    }
    Ok(keys)
}

/// What ends the reading of a base early.
enum Stop {
    Read(RdbFileError),
    Write(PathBuf, io::Error),
}

impl From<RdbFileError> for Stop {
    fn from(error: RdbFileError) -> Stop {
        Stop::Read(error)
    }
}

/// What the new bases say in front of their keys: as the old ones, with an equal share of the
/// keys that these announce.
fn read_heads(
    storage: &dyn Storage,
    log: &LogFiles,
    base: BaseLine,
    shards: ShardCount,
) -> Result<RdbFileInfo, CopyError> {
    /// Ends the reading behind the head.
    enum Head {
        Behind,
        Bad(RdbFileError),
    }
    impl From<RdbFileError> for Head {
        fn from(error: RdbFileError) -> Head {
            Head::Bad(error)
        }
    }
    let mut info = RdbFileInfo {
        aof_base: true,
        cut_lsn: Some(base.cut.0),
        ..RdbFileInfo::default()
    };
    let mut databases: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
    for (_, path) in base_files(log, base) {
        let mut db = 0;
        let read = read_base(storage, &path, base.cut.0, |item, _| {
            match item {
                RdbItemRef::Aux { key, value } => {
                    let text = String::from_utf8_lossy(value).into_owned();
                    match key {
                        key if key == AUX_REDIS_VER => info.redis_ver = text,
                        key if key == AUX_CTIME => info.ctime_s = text.parse().unwrap_or(0),
                        key if key == AUX_USED_MEM => {
                            let bytes: u64 = text.parse().unwrap_or(0);
                            info.used_mem_bytes = info.used_mem_bytes.saturating_add(bytes);
                        }
                        _ => {}
                    }
                }
                RdbItemRef::SelectDb(number) => db = number,
                RdbItemRef::ResizeDb { keys, expires } => {
                    let sums = databases.entry(db).or_default();
                    sums.0 = sums.0.saturating_add(keys);
                    sums.1 = sums.1.saturating_add(expires);
                }
                _ => return Err(Head::Behind),
            }
            Ok(())
        });
        if let Err(Head::Bad(source)) = read {
            return Err(CopyError::Base { path, source });
        }
    }
    let parts = u64::from(shards.get());
    info.used_mem_bytes /= parts;
    let share = |(db, (keys, expires)): (u32, (u64, u64))| {
        (db, keys.div_ceil(parts), expires.div_ceil(parts))
    };
    info.databases = databases.into_iter().map(share).collect();
    Ok(info)
}

fn file_len(storage: &dyn Storage, path: &Path) -> u64 {
    let len = storage.open(path).and_then(|file| file.len());
    len.unwrap_or(0)
}

fn copy_units(
    storage: &dyn Storage,
    source: &Source<'_>,
    target: &Target,
    copied: &mut Copied,
    progress: &dyn Progress,
) -> Result<(), CopyError> {
    let mut writers = Vec::new();
    for shard in target.shards.ids() {
        let header = SegmentHeader {
            shard,
            shards: target.shards,
            seq: target.seq,
            history: target.history,
            random: [0; 16],
        };
        let path = target.paths.incr(shard, target.seq);
        let writer = SegmentWriter::create(storage, &target.paths, header);
        writers.push(writer.map_err(write_error(&path))?);
    }
    let mut units = source.log.units(copied.start)?;
    let total = source.upto.0.saturating_sub(copied.start.0);
    progress.begin("copying the stream", total);
    copied.end = copied.start;
    while copied.end < source.upto {
        let unit = match units.step() {
            Step::Unit(unit) if unit.end > source.upto => break,
            Step::Unit(unit) => unit,
            Step::Gap(next) => {
                let from = units.at();
                let next = Some(next);
                return Err(CopyError::Missing { from, next });
            }
            Step::End => {
                let from = units.at();
                return Err(CopyError::Missing { from, next: None });
            }
            Step::Overlap(unit) => {
                let (path, offset) = units.place(&unit);
                return Err(CopyError::Overlap {
                    path: path.to_owned(),
                    offset,
                    lsn: unit.lsn,
                });
            }
        };
        failpoint::hit("reshard-mid-copy");
        let payload = units.payload(&unit)?;
        let (shard, kind) = route(source.log, &units, target.shards, &unit, &payload)?;
        copied.now_cross += u64::from(kind != unit.kind);
        let writer = &mut writers[shard.index()];
        copy_unit(&mut units, &unit, kind, &payload, writer)?;
        copied.units += 1;
        copied.end = unit.end;
        progress.advance(unit.end.bytes_since(unit.lsn));
    }
    for writer in writers {
        let path = writer.path().to_owned();
        copied
            .max_lsn
            .push(writer.finish().map_err(write_error(&path))?);
    }
    Ok(())
}

/// In which shard's segment a unit stands in the copy, and as what.
fn route(
    log: &LogFiles,
    units: &Units<'_>,
    shards: ShardCount,
    unit: &LogUnit,
    payload: &Bytes,
) -> Result<(ShardId, FrameKind), CopyError> {
    if log.manifest().shard_count() == shards.get() {
        return Ok((unit.shard, unit.kind));
    }
    // Any segment would do for what is not one shard's own; this spreads them.
    let any = ShardId(unit.shard.0 % shards.get());
    if unit.kind != FrameKind::Own {
        return Ok((any, unit.kind));
    }
    let touched = touched_shards(payload, shards).map_err(|source| {
        let (path, offset) = units.place(unit);
        CopyError::Payload {
            path: path.to_owned(),
            offset,
            lsn: unit.lsn,
            source,
        }
    })?;
    Ok(match touched {
        Touched::One(shard) => (shard, FrameKind::Own),
        Touched::Nothing => (any, FrameKind::Own),
        Touched::Several => (any, FrameKind::Cross),
    })
}

/// A run stays a run.
fn copy_unit(
    units: &mut Units<'_>,
    unit: &LogUnit,
    kind: FrameKind,
    payload: &Bytes,
    writer: &mut SegmentWriter,
) -> Result<(), CopyError> {
    let path = writer.path().to_owned();
    let mut at = 0;
    for header in units.headers(unit)? {
        let end = at + header.len as usize;
        let frame = FrameToCopy {
            kind,
            header,
            payload: &payload[at..end],
        };
        writer.frame(&frame).map_err(write_error(&path))?;
        at = end;
    }
    Ok(())
}
