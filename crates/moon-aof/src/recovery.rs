//! From the files to a running log.
//!
//! Three steps, and their order is the whole point:
//!
//! 1. [`Recovery::scan`] reads the manifest and all segments and decides: `P`, the end of the
//!    longest gapless prefix, against `D`, the highest durable mark. `P < D` is damage, and the
//!    start is refused. Nothing on disk changes.
//! 2. [`Recovery::replay`] feeds the frames up to `P` to the data, in LSN order.
//! 3. [`Recovery::finish`] puts what lies beyond `P` into synced sidecar files, copies what lies
//!    between `D` and `P` to fresh segments and syncs these (page cache is not disk), and
//!    replaces the manifest by one that ends every old segment at `D` and has the fresh ones go
//!    on. Only then are LSNs issued. Shortening the old files is tidying afterwards: readers
//!    ignore what lies beyond the end.
//!
//! A crash at any point leaves a directory from which the same prefix is recovered.

mod adopt;
mod carry;
mod finish;
mod unnamed;

pub use adopt::open_for_rewrite;

use crate::error::{RecoverError, ReplayError};
use crate::failpoint;
use crate::frame::Piece;
use crate::inspect::read_frames;
use crate::plan::{Merge, Next, Unit, keep_until};
use crate::policy::FsyncPolicy;
use crate::scan::{FrameRef, SegmentScan, Window, scan};
use crate::segment::{SEGMENT_HEADER_LEN, SegmentHeader};
use crate::status::RecoverySummary;
use crate::storage::{Storage, StorageFile, read_full_at, read_whole};
use bytes::Bytes;
use moon_core::{Lsn, ShardCount, ShardId};
use moon_manifest::layout::PREPARING_FILE_NAME;
use moon_manifest::manifest::MANIFEST_BYTES_MAX;
use moon_manifest::{
    AofLayout, AofManifest, AofPaths, BaseLine, IncrLine, is_legacy_top_level_layout,
};
use moon_repl::FrameKind;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Where the log is and how it is written.
#[derive(Clone, Debug)]
pub struct AofOptions {
    /// The append-only directory: `<dir>/<appenddirname>`. Its parent exists.
    pub dir: PathBuf,
    /// `appendfsync`.
    pub policy: FsyncPolicy,
    /// Longest payload of one frame in bytes; longer effects become a run of frames. At most
    /// 2 GiB; larger values are taken as that.
    pub frame_max: usize,
    /// Bytes by which a segment is allocated ahead of its writes; 0 to not do that.
    pub preallocate: u64,
    /// Bound of a shard's bytes that are not synced under `everysec`; at half of it a sync
    /// starts early.
    pub unsynced_max: u64,
    /// How often `everysec` syncs. One second.
    pub sync_interval: Duration,
    /// How long after the last write of a burst a frame with the durable mark follows.
    pub mark_after: Duration,
    /// First pause between two attempts to replace a segment whose sync failed.
    pub retry_after: Duration,
    /// How many generations that a rewrite superseded stay in the directory: named, ignored by a
    /// start, for whoever wants the state at an earlier position.
    pub keep_generations: u32,
    /// Where a superseded generation goes that is not kept any more, as a directory of its own;
    /// `None` to delete it.
    pub archive_dir: Option<PathBuf>,
    /// Whether a log that `appendonly no` closed may be used: the caller has made sure that no
    /// newer dump exists.
    pub use_closed: bool,
    /// How long a sync runs before writes that go on meanwhile count as delayed. Two seconds, as
    /// in Redis.
    pub slow_sync: Duration,
}

impl Default for AofOptions {
    fn default() -> AofOptions {
        AofOptions {
            dir: PathBuf::from("appendonlydir"),
            policy: FsyncPolicy::EverySec,
            frame_max: 256 << 20,
            preallocate: 16 << 20,
            unsynced_max: 64 << 20,
            sync_interval: Duration::from_secs(1),
            mark_after: Duration::from_secs(1),
            retry_after: Duration::from_secs(1),
            keep_generations: 0,
            archive_dir: None,
            use_closed: false,
            slow_sync: Duration::from_secs(2),
        }
    }
}

/// Told how far recovery is. Called from several threads.
pub trait Progress: Sync {
    /// `bytes` more file bytes of `total` were checked.
    fn scanned(&self, bytes: u64, total: u64);
    /// `bytes` of `total` payload bytes were handed to the sink.
    fn replayed(&self, bytes: u64, total: u64);
}

/// Nobody wants to know.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoProgress;

impl Progress for NoProgress {
    fn scanned(&self, _bytes: u64, _total: u64) {}
    fn replayed(&self, _bytes: u64, _total: u64) {}
}

/// Takes the frames of a recovery, in LSN order. It may queue; an error may belong to an
/// earlier frame.
pub trait ReplaySink {
    /// Effects on keys of `shard` alone.
    fn own(&mut self, shard: ShardId, lsn: Lsn, db: u32, payload: Bytes)
    -> Result<(), ReplayError>;

    /// Effects of one transaction over several shards: applied with nothing before it pending
    /// and before anything after it.
    fn cross(&mut self, lsn: Lsn, db: u32, payload: Bytes) -> Result<(), ReplayError>;
}

/// A base that must be loaded before the replay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseFile {
    /// Whose keys it holds.
    pub shard: ShardId,
    /// The RDB file.
    pub path: PathBuf,
    /// The position its state belongs to; the replay starts there.
    pub cut: Lsn,
}

/// One segment as it was found.
struct Segment {
    path: PathBuf,
    shard: ShardId,
    line: IncrLine,
    file: Arc<dyn StorageFile>,
    header: SegmentHeader,
    scan: SegmentScan,
}

/// What was found in an append-only directory, before anything is changed.
pub struct Recovery {
    storage: Arc<dyn Storage>,
    options: AofOptions,
    paths: AofPaths,
    shards: ShardCount,
    /// `None` for a new directory.
    manifest: Option<(AofManifest, Vec<u8>)>,
    /// What a directory has in force that is not recovered but replaced.
    before: Option<adopt::Before>,
    segments: Vec<Segment>,
    /// Segments without frames that no manifest names: left by a crash before the manifest that
    /// would have named them. In a directory that was being prepared, everything.
    unnamed: Vec<PathBuf>,
    /// Files of generations that the manifest passed: bases of rewrites that were given up, and
    /// what a crash kept a rewrite from removing.
    superseded: Vec<PathBuf>,
    /// Files of a generation that was being prepared: nothing in them counts.
    preparing: Vec<PathBuf>,
    /// Whether the directory has the marker of one that is being prepared.
    marker: bool,
    /// Bytes of the bases that are loaded.
    base_bytes: u64,
    start: Lsn,
    end: Lsn,
    /// Start of the first unit that reaches beyond the durable mark; `end` if none does.
    unproven_from: Lsn,
    summary: RecoverySummary,
    replayed: bool,
}

impl Recovery {
    /// Reads the manifest and all segments it names, in parallel, and decides what is recovered.
    /// Changes nothing. `config_shards` is the configured shard count; without one the
    /// directory's count is used, or `default_shards` for a new directory.
    ///
    /// # Errors
    /// Every reason not to start: see [`RecoverError`].
    pub fn scan(
        storage: Arc<dyn Storage>,
        options: &AofOptions,
        config_shards: Option<ShardCount>,
        default_shards: ShardCount,
        progress: &dyn Progress,
    ) -> Result<Recovery, RecoverError> {
        let paths = AofPaths::new(&options.dir);
        let names = list(&*storage, paths.root())?;
        let manifest = read_manifest(&*storage, &paths, &names, options.use_closed)?;
        let shards = match &manifest {
            Some((manifest, _)) => shard_count(manifest, config_shards)?,
            None => config_shards.unwrap_or(default_shards),
        };
        let mut recovery = Recovery {
            storage,
            options: options.clone(),
            paths,
            shards,
            manifest,
            before: None,
            segments: Vec::new(),
            unnamed: Vec::new(),
            superseded: Vec::new(),
            preparing: Vec::new(),
            marker: names.iter().any(|name| name == PREPARING_FILE_NAME),
            base_bytes: 0,
            start: Lsn::ZERO,
            end: Lsn::ZERO,
            unproven_from: Lsn::ZERO,
            summary: RecoverySummary::default(),
            replayed: false,
        };
        recovery.find_unnamed(&names)?;
        recovery.look_at_bases()?;
        recovery.scan_segments(progress)?;
        recovery.decide()?;
        recovery.summarize();
        Ok(recovery)
    }

    /// How many shards the log has, or will have.
    #[must_use]
    pub fn shards(&self) -> ShardCount {
        self.shards
    }

    /// The recovered end: where the first new frame starts.
    #[must_use]
    pub fn end(&self) -> Lsn {
        self.end
    }

    /// Whether the directory holds no log yet.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.manifest.is_none()
    }

    /// What was found.
    #[must_use]
    pub fn summary(&self) -> &RecoverySummary {
        &self.summary
    }

    /// The bases the caller loads before the replay; empty until the first rewrite.
    #[must_use]
    pub fn bases(&self) -> Vec<BaseFile> {
        let Some(BaseLine { seq, cut }) = self.newest_base() else {
            return Vec::new();
        };
        self.shards
            .ids()
            .map(|shard| BaseFile {
                shard,
                path: self.paths.base(shard, seq),
                cut,
            })
            .collect()
    }

    fn newest_base(&self) -> Option<BaseLine> {
        let (manifest, _) = self.manifest.as_ref()?;
        manifest.newest_base()
    }

    /// Every base must be there and readable. Whether what is in it is good is found by whoever
    /// loads it.
    fn look_at_bases(&mut self) -> Result<(), RecoverError> {
        for BaseFile { path, .. } in self.bases() {
            let len = self.storage.open(&path).and_then(|file| file.len());
            self.base_bytes += match len {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    return Err(RecoverError::Missing { path });
                }
                result => result.map_err(|source| read_error(&path, source))?,
            };
        }
        Ok(())
    }

    /// Hands every frame up to [`end`](Recovery::end) to `sink`, in LSN order; a run as one.
    ///
    /// # Errors
    /// If a frame cannot be read again, or the sink does not take it.
    pub fn replay(
        &mut self,
        sink: &mut dyn ReplaySink,
        progress: &dyn Progress,
    ) -> Result<(), RecoverError> {
        let mut readers = self.windows()?;
        let frames = self.segments.iter().map(|s| s.scan.frames.as_slice());
        let mut merge = Merge::new(frames, self.start);
        while merge.at < self.end {
            let Next::Unit(unit) = merge.next() else {
                break;
            };
            failpoint::hit("recovery-replay");
            let segment = &self.segments[unit.segment];
            let payload = read_unit(segment, &mut readers[unit.segment], &unit)?;
            let first = &segment.scan.frames[unit.frames.start];
            let bytes = payload.len() as u64;
            let db = u32::from(first.db);
            match first.kind {
                FrameKind::Own => sink.own(segment.shard, unit.lsn, db, payload),
                FrameKind::Cross => sink.cross(unit.lsn, db, payload),
                FrameKind::Control => Ok(()),
            }
            .map_err(|source| RecoverError::Replay {
                shard: segment.shard,
                lsn: unit.lsn,
                source,
            })?;
            progress.replayed(bytes, self.summary.bytes);
        }
        self.replayed = true;
        Ok(())
    }

    /// A reader for every segment.
    fn windows(&self) -> Result<Vec<Window<'_>>, RecoverError> {
        let windows = self.segments.iter().map(|segment| {
            Window::new(&*segment.file).map_err(|source| read_error(&segment.path, source))
        });
        windows.collect()
    }

    fn scan_segments(&mut self, progress: &dyn Progress) -> Result<(), RecoverError> {
        let Some((manifest, _)) = &self.manifest else {
            return Ok(());
        };
        let mut opened = Vec::new();
        for line in manifest
            .incrs
            .iter()
            .filter(|line| in_force(manifest, line))
        {
            for shard in self.shards.ids() {
                opened.push(open_segment(
                    &*self.storage,
                    &self.paths,
                    manifest,
                    shard,
                    *line,
                )?);
            }
        }
        let total: u64 = opened.iter().map(|segment| segment.4).sum();
        let next = AtomicUsize::new(0);
        let done: Mutex<Vec<(usize, io::Result<SegmentScan>)>> = Mutex::new(Vec::new());
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        std::thread::scope(|scope| {
            for _ in 0..threads.min(opened.len()) {
                scope.spawn(|| {
                    loop {
                        let index = next.fetch_add(1, Ordering::Relaxed);
                        let Some((_, line, file, header, len)) = opened.get(index) else {
                            return;
                        };
                        let scanned = if is_void(line) {
                            Ok(SegmentScan::unread(header, *len))
                        } else {
                            scan(&**file, header, line.end)
                        };
                        progress.scanned(*len, total);
                        let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
                        done.push((index, scanned));
                    }
                });
            }
        });
        let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
        done.sort_by_key(|(index, _)| *index);
        for ((path, line, file, header, _), (_, scanned)) in opened.into_iter().zip(done) {
            let scan = scanned.map_err(|source| read_error(&path, source))?;
            self.segments.push(Segment {
                path,
                shard: header.shard,
                line,
                file,
                header,
                scan,
            });
        }
        Ok(())
    }

    /// `P` against `D`.
    fn decide(&mut self) -> Result<(), RecoverError> {
        let Some((manifest, _)) = &self.manifest else {
            return Ok(());
        };
        self.start = match manifest.bases.last() {
            Some(base) => base.cut,
            None => manifest
                .incrs
                .iter()
                .map(|i| i.first)
                .min()
                .unwrap_or(Lsn::ZERO),
        };
        let marks = self.segments.iter().map(|segment| segment.scan.durable);
        let durable = marks
            .max()
            .unwrap_or(Lsn::ZERO)
            .max(manifest.durable_floor());
        let frames = self.segments.iter().map(|s| s.scan.frames.as_slice());
        let mut merge = Merge::new(frames, self.start);
        let (mut units, mut bytes, mut unproven_from) = (0, 0, None);
        let found_again = loop {
            match merge.next() {
                Next::Unit(unit) => {
                    units += 1;
                    bytes += unit.end.bytes_since(unit.lsn);
                    if unit.end > durable {
                        unproven_from.get_or_insert(unit.lsn);
                    }
                }
                Next::Gap(next) => break next,
                Next::Overlap(unit) => return Err(self.overlap(&unit, merge.at)),
            }
        };
        let end = merge.at;
        if end < durable {
            let missing_to = found_again.unwrap_or(durable);
            return Err(self.damage(end, missing_to, durable));
        }
        self.end = end;
        self.unproven_from = unproven_from.unwrap_or(end);
        self.summary.frames = units;
        self.summary.bytes = bytes;
        Ok(())
    }

    fn overlap(&self, unit: &Unit, end: Lsn) -> RecoverError {
        let segment = &self.segments[unit.segment];
        RecoverError::Overlap {
            path: segment.path.clone(),
            offset: segment.scan.frames[unit.frames.start].offset,
            lsn: unit.lsn,
            end,
        }
    }

    /// Names the place where the frame at `missing` should be: a segment with bad bytes between
    /// the frames around it, else the one that ends before it with the least left.
    fn damage(&self, missing: Lsn, missing_to: Lsn, durable: Lsn) -> RecoverError {
        let bad = self.segments.iter().find_map(|segment| {
            let bad = segment.scan.bad.iter().rev();
            let bad = bad
                .filter(|bad| bad.after <= missing)
                .max_by_key(|b| b.from)?;
            let next = segment.scan.frames.iter().find(|f| f.offset > bad.from);
            let around = next.is_none_or(|frame| frame.lsn > missing);
            around.then(|| (segment.path.clone(), bad.from))
        });
        let ended = || {
            let open = self
                .segments
                .iter()
                .filter(|s| s.line.end.is_none_or(|end| end > missing) && s.line.first <= missing);
            let last = open.max_by_key(|s| s.scan.frames.last().map(FrameRef::end))?;
            let at = keep_until(&last.scan.frames, missing, SEGMENT_HEADER_LEN as u64);
            Some((last.path.clone(), at))
        };
        let (path, offset) = bad
            .or_else(ended)
            .unwrap_or_else(|| (self.paths.manifest(), 0));
        RecoverError::Damage {
            path,
            offset,
            missing_from: missing,
            missing_to,
            durable,
        }
    }

    fn summarize(&mut self) {
        let end = self.end;
        let mut cut_end = end;
        for segment in &self.segments {
            self.summary.truncated_bytes += segment.torn_bytes(end);
            if let Some(last) = segment.scan.frames.last() {
                cut_end = cut_end.max(last.end());
            }
        }
        self.summary.segments = self.segments.len();
        self.summary.end = end;
        self.summary.unproven_bytes = end.bytes_since(self.unproven_from);
        self.summary.truncated_range = (self.summary.truncated_bytes > 0).then_some((end, cut_end));
        self.summary.clean_stop = self
            .manifest
            .as_ref()
            .is_some_and(|(manifest, _)| manifest.clean_stop == Some(end));
    }
}

pub(crate) type Opened = (PathBuf, IncrLine, Arc<dyn StorageFile>, SegmentHeader, u64);

/// Whether nothing in a generation's segments counts: an interrupted copy, or old segments all of
/// whose frames were copied.
pub(crate) fn is_void(line: &IncrLine) -> bool {
    line.end.is_some_and(|end| end <= line.first)
}

/// Whether a start needs a generation's segments. Those that the newest base superseded are kept
/// for others: nobody opens them here.
fn in_force(manifest: &AofManifest, line: &IncrLine) -> bool {
    manifest.newest_base().is_none_or(|base| {
        let before = line.seq < base.seq && line.end.is_some_and(|end| end <= base.cut);
        !before
    })
}

impl Segment {
    /// Where the part of the file that belongs to the stream before `end` ends.
    fn keep_until(&self, end: Lsn) -> u64 {
        keep_until(&self.scan.frames, end, SEGMENT_HEADER_LEN as u64)
    }

    /// The same once a manifest holds the marks: a segment without data keeps its header only.
    fn keep_for_data(&self, end: Lsn) -> u64 {
        let data = |frame: &FrameRef| frame.len > 0 && frame.end() <= end;
        if self.scan.frames.iter().any(data) {
            self.keep_until(end)
        } else {
            SEGMENT_HEADER_LEN as u64
        }
    }

    /// Bytes of a torn tail. A segment with an end has none: the start that gave it its end has
    /// kept what was beyond.
    fn torn_bytes(&self, end: Lsn) -> u64 {
        match self.line.end {
            Some(_) => 0,
            None => self.scan.data_end.saturating_sub(self.keep_until(end)),
        }
    }
}

/// Opens a segment and checks that its header is the one that belongs there.
pub(crate) fn open_segment(
    storage: &dyn Storage,
    paths: &AofPaths,
    manifest: &AofManifest,
    shard: ShardId,
    line: IncrLine,
) -> Result<Opened, RecoverError> {
    let path = paths.incr(shard, line.seq);
    let file = match storage.open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(RecoverError::Missing { path });
        }
        result => result.map_err(|source| read_error(&path, source))?,
    };
    let mut bytes = [0; SEGMENT_HEADER_LEN];
    let read = read_full_at(&*file, &mut bytes, 0).map_err(|source| read_error(&path, source))?;
    let header = match SegmentHeader::decode(&bytes[..read]) {
        Ok(header) => header,
        Err(source) => return Err(RecoverError::SegmentHeader { path, source }),
    };
    let wrong = [
        ("shard", u64::from(header.shard.0), u64::from(shard.0)),
        (
            "shard count",
            u64::from(header.shards.get()),
            u64::from(manifest.shard_count()),
        ),
        ("seq", header.seq.0, line.seq.0),
        ("history", header.history, manifest.history),
    ]
    .into_iter()
    .find(|(_, found, expected)| found != expected);
    if let Some((field, found, _)) = wrong {
        return Err(RecoverError::WrongSegment { path, field, found });
    }
    let len = file.len().map_err(|source| read_error(&path, source))?;
    Ok((path, line, file, header, len))
}

pub(crate) fn read_error(path: &Path, source: io::Error) -> RecoverError {
    RecoverError::Read {
        path: path.to_owned(),
        source,
    }
}

/// The names in a directory; none if it does not exist.
fn list(storage: &dyn Storage, dir: &Path) -> Result<Vec<String>, RecoverError> {
    match storage.list(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        result => result.map_err(|source| read_error(dir, source)),
    }
}

fn read_manifest(
    storage: &dyn Storage,
    paths: &AofPaths,
    names: &[String],
    use_closed: bool,
) -> Result<Option<(AofManifest, Vec<u8>)>, RecoverError> {
    let legacy = || RecoverError::Legacy {
        path: paths.root().to_owned(),
    };
    let Some((manifest, bytes)) = read_manifest_file(storage, paths)? else {
        if is_legacy_top_level_layout(None, names) {
            return Err(legacy());
        }
        return Ok(None);
    };
    if manifest.version != moon_manifest::ManifestVersion::V3
        || manifest.layout != AofLayout::PerShard
    {
        return Err(legacy());
    }
    if let Some(at) = manifest.closed_at.filter(|_| !use_closed) {
        return Err(RecoverError::Closed { at });
    }
    Ok(Some((manifest, bytes)))
}

/// The manifest, of whatever version.
fn read_manifest_file(
    storage: &dyn Storage,
    paths: &AofPaths,
) -> Result<Option<(AofManifest, Vec<u8>)>, RecoverError> {
    let path = paths.manifest();
    let bytes = match read_whole(storage, &path, MANIFEST_BYTES_MAX + 1) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(read_error(&path, source)),
    };
    match AofManifest::parse(&bytes) {
        Ok(manifest) => Ok(Some((manifest, bytes))),
        Err(source) => Err(RecoverError::Manifest { path, source }),
    }
}

fn shard_count(
    manifest: &AofManifest,
    config: Option<ShardCount>,
) -> Result<ShardCount, RecoverError> {
    if let Some(config) = config {
        manifest.verify_shard_count(config)?;
        return Ok(config);
    }
    let count = manifest.shard_count();
    // A parsed manifest has 1 to MAX shards.
    ShardCount::new(count).ok_or(RecoverError::ShardCount(moon_manifest::ShardCountError {
        manifest: count,
        config: ShardCount::MAX,
    }))
}

/// The payload of a frame, or of a run as one.
fn read_unit(
    segment: &Segment,
    window: &mut Window<'_>,
    unit: &Unit,
) -> Result<Bytes, RecoverError> {
    let frames = &segment.scan.frames[unit.frames.clone()];
    debug_assert!(frames.len() == 1 || frames.iter().all(|f| f.piece != Piece::Whole));
    read_frames(&segment.path, &segment.scan, window, frames)
}
