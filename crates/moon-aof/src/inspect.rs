//! Looking at a log without starting from it: every file, whatever is wrong with it, and the
//! units of the stream in order, from any position.
//!
//! [`Recovery::scan`](crate::Recovery::scan) decides whether a start is possible and stops at the
//! first reason against it. [`LogFiles`] decides nothing: it opens what can be opened, remembers
//! what cannot, and leaves the judgement to whoever looks. Both read with the same scanner and
//! merge with the same merge. Nothing here writes.

use crate::error::RecoverError;
use crate::frame::{FrameHeader, HEADER_LEN};
use crate::plan::{Merge, Next};
use crate::recovery::{is_void, open_segment, read_error};
use crate::scan::{FrameRef, SegmentScan, Window, scan};
use crate::segment::{SEGMENT_HEADER_LEN, SegmentHeader};
use crate::storage::{Storage, StorageFile, read_full_at, read_whole};
use bytes::{Bytes, BytesMut};
use moon_core::{Generation, Lsn, ShardId};
use moon_manifest::manifest::MANIFEST_BYTES_MAX;
use moon_manifest::{AofManifest, AofPaths, IncrLine, ManifestVersion};
use moon_repl::FrameKind;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Everything a manifest names, opened and scanned.
pub struct LogFiles {
    paths: AofPaths,
    manifest: AofManifest,
    segments: Vec<SegmentFile>,
}

/// One segment and what one pass over it told.
pub struct SegmentFile {
    path: PathBuf,
    shard: ShardId,
    line: IncrLine,
    /// The open file and its header; why not otherwise.
    opened: Result<(Arc<dyn StorageFile>, SegmentHeader), RecoverError>,
    scan: SegmentScan,
}

/// Bytes of a segment that are no frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadBytes {
    /// Where they begin.
    pub offset: u64,
    /// The next good frame, or the last byte that is not zero.
    pub end_offset: u64,
    /// End of the last good frame before, zero if there is none.
    pub after: Lsn,
    /// The next good frame's position; `None` if none follows in this file.
    pub next: Option<Lsn>,
    /// The header at the beginning, where that is good and the payload is not.
    pub header: Option<FrameHeader>,
}

impl LogFiles {
    /// Reads the manifest of the append-only directory `dir` and everything it names. `None` if
    /// there is no manifest.
    ///
    /// # Errors
    /// If the manifest cannot be read or used. A segment that cannot is no error here:
    /// [`SegmentFile::problem`] tells.
    pub fn open(storage: &dyn Storage, dir: &Path) -> Result<Option<LogFiles>, RecoverError> {
        let paths = AofPaths::new(dir);
        let Some(manifest) = read_manifest(storage, &paths)? else {
            return Ok(None);
        };
        let mut wanted = Vec::new();
        for line in &manifest.incrs {
            for shard in 0..manifest.shard_count() {
                wanted.push((*line, ShardId(shard)));
            }
        }
        let open = |(line, shard): (IncrLine, ShardId)| {
            let opened = open_segment(storage, &paths, &manifest, shard, line);
            let opened = opened.map(|(_, _, file, header, _)| (file, header));
            SegmentFile::new(paths.incr(shard, line.seq), shard, line, opened)
        };
        let segments = in_parallel(&wanted, open);
        Ok(Some(LogFiles {
            paths,
            manifest,
            segments,
        }))
    }

    /// What the manifest says.
    #[must_use]
    pub fn manifest(&self) -> &AofManifest {
        &self.manifest
    }

    /// Where the files lie.
    #[must_use]
    pub fn paths(&self) -> &AofPaths {
        &self.paths
    }

    /// All segments the manifest names, by generation and then by shard.
    #[must_use]
    pub fn segments(&self) -> &[SegmentFile] {
        &self.segments
    }

    /// The first position that can be replayed without a base: the lowest of all generations.
    #[must_use]
    pub fn first(&self) -> Lsn {
        let firsts = self.manifest.incrs.iter().map(|line| line.first);
        firsts.min().unwrap_or(Lsn::ZERO)
    }

    /// Where a start's replay begins: the newest base's cut.
    #[must_use]
    pub fn start(&self) -> Lsn {
        let base = self.manifest.newest_base();
        base.map_or_else(|| self.first(), |base| base.cut)
    }

    /// The highest durable mark of the manifest and of every frame with a good header: `D`.
    #[must_use]
    pub fn durable(&self) -> Lsn {
        let marks = self.segments.iter().map(|segment| segment.scan.durable);
        marks
            .max()
            .unwrap_or(Lsn::ZERO)
            .max(self.manifest.durable_floor())
    }

    /// The units of the stream from `from` on.
    ///
    /// # Errors
    /// If a file's length cannot be read.
    pub fn units(&self, from: Lsn) -> Result<Units<'_>, RecoverError> {
        Units::new(&self.segments, from)
    }
}

impl SegmentFile {
    /// One segment by itself, with what its own header says.
    ///
    /// # Errors
    /// If it cannot be read or has no good header.
    pub fn open(storage: &dyn Storage, path: &Path) -> Result<SegmentFile, RecoverError> {
        let file = storage.open(path).map_err(|e| read_error(path, e))?;
        let mut bytes = [0; SEGMENT_HEADER_LEN];
        let read = read_full_at(&*file, &mut bytes, 0).map_err(|e| read_error(path, e))?;
        let header = SegmentHeader::decode(&bytes[..read]).map_err(|source| {
            let path = path.to_owned();
            RecoverError::SegmentHeader { path, source }
        })?;
        let line = IncrLine {
            seq: header.seq,
            first: Lsn::ZERO,
            end: None,
        };
        let segment = SegmentFile::new(path.to_owned(), header.shard, line, Ok((file, header)));
        match segment.opened {
            Err(error) => Err(error),
            Ok(_) => Ok(segment),
        }
    }

    fn new(
        path: PathBuf,
        shard: ShardId,
        line: IncrLine,
        opened: Result<(Arc<dyn StorageFile>, SegmentHeader), RecoverError>,
    ) -> SegmentFile {
        let scanned = opened.and_then(|(file, header)| {
            let scanned = if is_void(&line) {
                file.len().map(|len| SegmentScan::unread(&header, len))
            } else {
                scan(&*file, &header, line.end)
            };
            let scan = scanned.map_err(|source| read_error(&path, source))?;
            Ok((file, header, scan))
        });
        let (opened, scan) = match scanned {
            Ok((file, header, scan)) => (Ok((file, header)), scan),
            Err(error) => (Err(error), SegmentScan::unread(&NO_HEADER, 0)),
        };
        SegmentFile {
            path,
            shard,
            line,
            opened,
            scan,
        }
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whose frames it holds.
    #[must_use]
    pub fn shard(&self) -> ShardId {
        self.shard
    }

    /// Its generation.
    #[must_use]
    pub fn seq(&self) -> Generation {
        self.line.seq
    }

    /// What its header says, if that is good.
    #[must_use]
    pub fn header(&self) -> Option<SegmentHeader> {
        self.opened.as_ref().ok().map(|(_, header)| *header)
    }

    /// Why nothing of it can be used.
    #[must_use]
    pub fn problem(&self) -> Option<&RecoverError> {
        self.opened.as_ref().err()
    }

    /// How many good frames it has, those without payload included.
    #[must_use]
    pub fn frame_count(&self) -> usize {
        self.scan.frames.len()
    }

    /// Payload bytes of all good frames.
    #[must_use]
    pub fn payload_bytes(&self) -> u64 {
        let frames = self.scan.frames.iter();
        frames.map(|frame| u64::from(frame.len)).sum()
    }

    /// First position of the first and end of the last good frame.
    #[must_use]
    pub fn range(&self) -> Option<(Lsn, Lsn)> {
        let frames = &self.scan.frames;
        Some((frames.first()?.lsn, frames.last()?.end()))
    }

    /// The highest durable mark on a good frame header.
    #[must_use]
    pub fn durable(&self) -> Lsn {
        self.scan.durable
    }

    /// The highest frame time, Unix milliseconds; 0 without frames.
    #[must_use]
    pub fn time_ms(&self) -> u64 {
        self.scan.time_ms
    }

    /// The file's length in bytes.
    #[must_use]
    pub fn file_len(&self) -> u64 {
        self.scan.file_len
    }

    /// The first position that is in the file and not in the stream before `end`: file bytes from
    /// there on are lost when the log is cut off at `end`, up to [`data_end`](Self::data_end).
    #[must_use]
    pub fn keep_until(&self, end: Lsn) -> u64 {
        crate::plan::keep_until(&self.scan.frames, end, SEGMENT_HEADER_LEN as u64)
    }

    /// First byte behind the last one that is not zero.
    #[must_use]
    pub fn data_end(&self) -> u64 {
        self.scan.data_end
    }

    /// Where its bytes are no frames.
    ///
    /// # Errors
    /// If the file cannot be read again.
    pub fn bad(&self) -> Result<Vec<BadBytes>, RecoverError> {
        let Ok((file, _)) = &self.opened else {
            return Ok(Vec::new());
        };
        let wrap = |source| read_error(&self.path, source);
        let mut window = Window::new(&**file).map_err(wrap)?;
        let mut all = Vec::new();
        for bad in &self.scan.bad {
            let mut frames = self.scan.frames.iter();
            let next = frames.find(|frame| frame.offset > bad.from);
            let header = window.header(bad.from).map_err(wrap)?;
            all.push(BadBytes {
                offset: bad.from,
                end_offset: next.map_or(self.scan.data_end, |frame| frame.offset),
                after: bad.after,
                next: next.map(|frame| frame.lsn),
                header: header
                    .and_then(|bytes| FrameHeader::decode(bytes, self.scan.seeds))
                    .filter(|header| header.lsn >= bad.after),
            });
        }
        Ok(all)
    }

    /// The headers of the good frames with their offsets, in file order, and their payloads on
    /// demand.
    ///
    /// # Errors
    /// If the file's length cannot be read.
    pub fn frames(&self) -> Result<Frames<'_>, RecoverError> {
        Frames::new(self)
    }
}

/// What a segment without a good header is scanned with: it has no frames.
const NO_HEADER: SegmentHeader = SegmentHeader {
    shard: ShardId(0),
    shards: moon_core::ShardCount::ONE,
    seq: Generation(0),
    history: 0,
    random: [0; 16],
};

/// Reads frames of one segment that were scanned before.
pub struct Frames<'a> {
    segment: &'a SegmentFile,
    window: Option<Window<'a>>,
    next: usize,
}

impl<'a> Frames<'a> {
    fn new(segment: &'a SegmentFile) -> Result<Frames<'a>, RecoverError> {
        let window = match &segment.opened {
            Ok((file, _)) => {
                let window = Window::new(&**file);
                Some(window.map_err(|source| read_error(&segment.path, source))?)
            }
            Err(_) => None,
        };
        let next = 0;
        Ok(Frames {
            segment,
            window,
            next,
        })
    }

    /// The next frame: its offset, its header and its payload.
    ///
    /// # Errors
    /// If it cannot be read again.
    pub fn next_frame(&mut self) -> Result<Option<(u64, FrameHeader, Bytes)>, RecoverError> {
        let Some(frame) = self.segment.scan.frames.get(self.next) else {
            return Ok(None);
        };
        self.next += 1;
        let header = self.header(frame)?;
        let payload = self.payload(std::slice::from_ref(frame))?;
        Ok(Some((frame.offset, header, payload)))
    }

    fn changed(&self, frame: &FrameRef) -> RecoverError {
        RecoverError::Changed {
            path: self.segment.path.clone(),
            offset: frame.offset,
        }
    }

    fn header(&mut self, frame: &FrameRef) -> Result<FrameHeader, RecoverError> {
        let changed = self.changed(frame);
        let Some(window) = &mut self.window else {
            return Err(changed);
        };
        let bytes = window
            .header(frame.offset)
            .map_err(|source| read_error(&self.segment.path, source))?;
        bytes
            .and_then(|bytes| FrameHeader::decode(bytes, self.segment.scan.seeds))
            .filter(|header| (header.lsn, header.len) == (frame.lsn, frame.len))
            .filter(|header| header.payload_crc == frame.payload_crc)
            .ok_or(changed)
    }

    /// The payload of a frame, or of a run as one.
    fn payload(&mut self, frames: &[FrameRef]) -> Result<Bytes, RecoverError> {
        let Some(window) = &mut self.window else {
            return Ok(Bytes::new());
        };
        read_frames(&self.segment.path, &self.segment.scan, window, frames)
    }
}

/// The payload of frames that the scan found good, if they still are.
pub(crate) fn read_frames(
    path: &Path,
    scan: &SegmentScan,
    window: &mut Window<'_>,
    frames: &[FrameRef],
) -> Result<Bytes, RecoverError> {
    let len: u64 = frames.iter().map(|frame| u64::from(frame.len)).sum();
    // All of it was read before, so it is no longer than the files.
    let mut payload = BytesMut::with_capacity(usize::try_from(len).unwrap_or(0));
    for frame in frames {
        let mut crc = scan.seeds.payload_hasher();
        let at = frame.offset + HEADER_LEN as u64;
        let whole = window
            .each(at, u64::from(frame.len), |part| {
                crc.update(part);
                payload.extend_from_slice(part);
            })
            .map_err(|source| read_error(path, source))?;
        if !whole || crc.finalize() != frame.payload_crc {
            return Err(RecoverError::Changed {
                path: path.to_owned(),
                offset: frame.offset,
            });
        }
    }
    Ok(payload.freeze())
}

/// A whole frame, or a whole run of frames.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogUnit {
    /// Whose segment it lies in.
    pub shard: ShardId,
    /// What it is.
    pub kind: FrameKind,
    /// The database in force at its first byte.
    pub db: u16,
    /// Its first position.
    pub lsn: Lsn,
    /// The first position behind it.
    pub end: Lsn,
    segment: usize,
    frames: Range<usize>,
}

/// What comes next in the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The unit that starts where the last one ended.
    Unit(LogUnit),
    /// Nothing starts here, and nothing later can be read.
    End,
    /// Nothing starts here; the next readable unit starts at the position given.
    Gap(Lsn),
    /// A unit that starts before the last one ended and ends behind it.
    Overlap(LogUnit),
}

/// Goes through the units of all segments in the order of the stream. Frames without payload are
/// passed over.
pub struct Units<'a> {
    segments: &'a [SegmentFile],
    readers: Vec<Frames<'a>>,
    merge: Merge<'a>,
}

impl<'a> Units<'a> {
    fn new(segments: &'a [SegmentFile], from: Lsn) -> Result<Units<'a>, RecoverError> {
        let readers = segments.iter().map(Frames::new).collect::<Result<_, _>>()?;
        let frames = segments.iter().map(|s| s.scan.frames.as_slice());
        let merge = Merge::new(frames, from);
        Ok(Units {
            segments,
            readers,
            merge,
        })
    }

    /// Where the next unit starts.
    #[must_use]
    pub fn at(&self) -> Lsn {
        self.merge.at
    }

    /// What comes next. Only after a unit there is something behind it.
    pub fn step(&mut self) -> Step {
        match self.merge.next() {
            Next::Unit(unit) => Step::Unit(self.unit(unit)),
            Next::Overlap(unit) => Step::Overlap(self.unit(unit)),
            Next::Gap(None) => Step::End,
            Next::Gap(Some(next)) => Step::Gap(next),
        }
    }

    /// Goes on at `lsn`, behind a gap.
    pub fn skip_to(&mut self, lsn: Lsn) {
        self.merge.at = self.merge.at.max(lsn);
    }

    fn unit(&self, unit: crate::plan::Unit) -> LogUnit {
        let segment = &self.segments[unit.segment];
        let first = &segment.scan.frames[unit.frames.start];
        LogUnit {
            shard: segment.shard,
            kind: first.kind,
            db: first.db,
            lsn: unit.lsn,
            end: unit.end,
            segment: unit.segment,
            frames: unit.frames,
        }
    }

    /// The file a unit lies in, and where.
    #[must_use]
    pub fn place(&self, unit: &LogUnit) -> (&'a Path, u64) {
        let segment = &self.segments[unit.segment];
        let first = &segment.scan.frames[unit.frames.start];
        (&segment.path, first.offset)
    }

    /// The headers of a unit's frames: one, or all of a run.
    ///
    /// # Errors
    /// If they cannot be read again.
    pub fn headers(&mut self, unit: &LogUnit) -> Result<Vec<FrameHeader>, RecoverError> {
        let frames = &self.segments[unit.segment].scan.frames[unit.frames.clone()];
        let reader = &mut self.readers[unit.segment];
        frames.iter().map(|frame| reader.header(frame)).collect()
    }

    /// A unit's time: that of its first frame, Unix milliseconds.
    ///
    /// # Errors
    /// If it cannot be read again.
    pub fn time_ms(&mut self, unit: &LogUnit) -> Result<u64, RecoverError> {
        let first = &self.segments[unit.segment].scan.frames[unit.frames.start];
        Ok(self.readers[unit.segment].header(first)?.time_ms)
    }

    /// A unit's payload; that of a run as one.
    ///
    /// # Errors
    /// If it cannot be read again.
    pub fn payload(&mut self, unit: &LogUnit) -> Result<Bytes, RecoverError> {
        let frames = &self.segments[unit.segment].scan.frames[unit.frames.clone()];
        self.readers[unit.segment].payload(frames)
    }
}

/// The manifest of version 3, if there is one.
fn read_manifest(
    storage: &dyn Storage,
    paths: &AofPaths,
) -> Result<Option<AofManifest>, RecoverError> {
    let path = paths.manifest();
    let bytes = match read_whole(storage, &path, MANIFEST_BYTES_MAX + 1) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(read_error(&path, source)),
    };
    match AofManifest::parse(&bytes) {
        Ok(manifest) if manifest.version == ManifestVersion::V3 => Ok(Some(manifest)),
        Ok(_) => Err(RecoverError::Legacy {
            path: paths.root().to_owned(),
        }),
        Err(source) => Err(RecoverError::Manifest { path, source }),
    }
}

/// Applies `work` to every item on all cores, and returns the results in order.
fn in_parallel<T: Copy + Sync, R: Send>(items: &[T], work: impl Fn(T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<(usize, R)>> = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads.min(items.len()) {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(index) else {
                        return;
                    };
                    let result = work(*item);
                    let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
                    done.push((index, result));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, result)| result).collect()
}

/// Whether some process holds the lock of the append-only directory `dir`; `None` if that cannot
/// be told. Creates nothing.
pub fn is_in_use(storage: &dyn Storage, dir: &Path) -> Option<bool> {
    let path = AofPaths::new(dir).lock();
    match storage.open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Some(false),
        Err(_) => return None,
        Ok(_) => {}
    }
    match storage.lock(&path) {
        Ok(_) => Some(false),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Some(true),
        Err(_) => None,
    }
}
