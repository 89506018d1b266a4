//! Copying what was read and not proven durable.
//!
//! `page-cache-is-not-disk`: a frame that can be read need not be on disk. After a failed sync the
//! kernel may take the pages for clean: every read still shows the bytes, every later sync of
//! the file succeeds without writing them, and a power loss takes them. The process that saw the
//! failure may have been killed before it could act, and nobody tells the next one. So a sync of
//! a file from before this start proves nothing about what lies above the durable mark, and only
//! fresh writes to a fresh file do.
//!
//! The copies keep their LSNs, kinds, marks and times, and go to their shard's segment of the
//! new generation in the order of the stream. Only the checksums change with the segment.

use super::finish::write_error;
use super::{Recovery, Segment, read_error};
use crate::error::RecoverError;
use crate::failpoint;
use crate::frame::{FrameHeader, HEADER_LEN, Seeds, padding};
use crate::manifest_file::FreshSegment;
use crate::plan::{Merge, Next};
use crate::scan::{FrameRef, Window};
use crate::storage::{StorageFile, write_all_at};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Bytes of whole frames collected for one write; longer frames are passed through. Each shard
/// has one such buffer.
const BUFFER: usize = 256 << 10;

/// Bytes written to one segment before they are synced, so that the last sync is no longer than
/// the ones before, and progress is steady.
const SYNC_EVERY: u64 = 64 << 20;

/// How often the log tells how far the copy is.
const TELL_EVERY: Duration = Duration::from_secs(5);

impl Recovery {
    /// Copies every unit from `unproven_from` on to `fresh`, which has the shards in order, and
    /// syncs it. Nothing of it counts before a manifest says so.
    pub(super) fn carry_over(&self, fresh: &mut [FreshSegment]) -> Result<(), RecoverError> {
        let started = Instant::now();
        let total = self.summary.unproven_bytes;
        tracing::info!(
            from_lsn = self.unproven_from.0,
            to_lsn = self.end.0,
            bytes = total,
            "copying the part of the append-only file that no sync is known to cover"
        );
        let copied = self.copy_to(fresh);
        if copied.is_err() {
            // The start is refused. It should not be that which keeps a disk full; if this fails,
            // the next start empties them.
            for segment in fresh.iter() {
                if let Err(error) = segment.file.truncate(FreshSegment::START) {
                    tracing::warn!(error = %error, "cannot empty an unfinished copy");
                }
            }
        }
        copied?;
        tracing::info!(
            bytes = total,
            took_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
            "the copy is synced"
        );
        Ok(())
    }

    fn copy_to(&self, fresh: &mut [FreshSegment]) -> Result<(), RecoverError> {
        let mut readers = self.windows()?;
        let path = |fresh: &FreshSegment| self.paths.incr(fresh.header.shard, fresh.header.seq);
        let mut targets: Vec<Target> = fresh.iter().map(|f| Target::new(f, path(f))).collect();
        let frames = self.segments.iter().map(|s| s.scan.frames.as_slice());
        let mut merge = Merge::new(frames, self.start);
        let mut told = Instant::now();
        while merge.at < self.end {
            let Next::Unit(unit) = merge.next() else {
                break;
            };
            if unit.lsn < self.unproven_from {
                continue;
            }
            failpoint::hit("recovery-mid-copy");
            let segment = &self.segments[unit.segment];
            let target = &mut targets[segment.shard.index()];
            for frame in &segment.scan.frames[unit.frames] {
                target.copy(segment, &mut readers[unit.segment], frame)?;
            }
            if told.elapsed() >= TELL_EVERY {
                told = Instant::now();
                tracing::info!(
                    bytes = unit.end.bytes_since(self.unproven_from),
                    of_bytes = self.summary.unproven_bytes,
                    "copying"
                );
            }
        }
        assert!(
            merge.at == self.end,
            "the merge that found the end finds it again"
        );
        for target in &mut targets {
            target.finish()?;
        }
        let ends: Vec<u64> = targets.iter().map(|target| target.at).collect();
        for (segment, end) in fresh.iter_mut().zip(ends) {
            segment.position = end;
        }
        Ok(())
    }
}

/// One shard's fresh segment while frames are copied into it.
struct Target {
    path: PathBuf,
    file: Arc<dyn StorageFile>,
    seeds: Seeds,
    /// Whole frames that are not written yet.
    buffer: Vec<u8>,
    /// Where in the file the buffer goes.
    at: u64,
    /// Bytes written and not synced.
    unsynced: u64,
}

impl Target {
    fn new(segment: &FreshSegment, path: PathBuf) -> Target {
        Target {
            path,
            file: segment.file.clone(),
            seeds: segment.header.seeds(),
            buffer: Vec::new(),
            at: segment.position,
            unsynced: 0,
        }
    }

    /// Copies a frame that the scan found good, if it still is.
    fn copy(
        &mut self,
        from: &Segment,
        window: &mut Window<'_>,
        frame: &FrameRef,
    ) -> Result<(), RecoverError> {
        let read = |source| read_error(&from.path, source);
        let changed = || RecoverError::Changed {
            path: from.path.clone(),
            offset: frame.offset,
        };
        let bytes = window.header(frame.offset).map_err(read)?;
        let mut header = bytes
            .and_then(|bytes| FrameHeader::decode(bytes, from.scan.seeds))
            .filter(|header| (header.lsn, header.len) == (frame.lsn, frame.len))
            .filter(|header| header.payload_crc == frame.payload_crc)
            .ok_or_else(changed)?;
        let fits = header.bytes_in_file() <= BUFFER as u64;
        if !fits || self.buffer.len() as u64 + header.bytes_in_file() > BUFFER as u64 {
            self.flush()?;
        }
        let place = self.buffer.len();
        // The header needs the new checksum of the payload: it comes last.
        if fits {
            self.buffer.resize(place + HEADER_LEN, 0);
        }
        let mut old = from.scan.seeds.payload_hasher();
        let mut new = self.seeds.payload_hasher();
        let mut at = self.at + HEADER_LEN as u64;
        let mut wrote = Ok(());
        let payload_at = frame.offset + HEADER_LEN as u64;
        let whole = window
            .each(payload_at, u64::from(frame.len), |part| {
                old.update(part);
                new.update(part);
                if fits {
                    self.buffer.extend_from_slice(part);
                } else if wrote.is_ok() {
                    wrote = write_all_at(&*self.file, &[part, &[], &[]], at);
                    at += part.len() as u64;
                }
            })
            .map_err(read)?;
        wrote.map_err(|source| write_error(&self.path, source))?;
        if !whole || old.finalize() != frame.payload_crc {
            return Err(changed());
        }
        header.payload_crc = new.finalize();
        let encoded = header.encode(self.seeds);
        let pad = padding(u64::from(frame.len));
        if fits {
            self.buffer[place..place + HEADER_LEN].copy_from_slice(&encoded);
            self.buffer.extend_from_slice(pad);
            return Ok(());
        }
        self.write(pad, at)?;
        self.write(&encoded, self.at)?;
        self.wrote(header.bytes_in_file())
    }

    fn flush(&mut self) -> Result<(), RecoverError> {
        let bytes = std::mem::take(&mut self.buffer);
        self.write(&bytes, self.at)?;
        self.wrote(bytes.len() as u64)?;
        self.buffer = bytes;
        self.buffer.clear();
        Ok(())
    }

    fn write(&self, bytes: &[u8], at: u64) -> Result<(), RecoverError> {
        write_all_at(&*self.file, &[bytes, &[], &[]], at)
            .map_err(|source| write_error(&self.path, source))
    }

    fn wrote(&mut self, bytes: u64) -> Result<(), RecoverError> {
        self.at += bytes;
        self.unsynced += bytes;
        if self.unsynced >= SYNC_EVERY {
            self.sync()?;
        }
        Ok(())
    }

    /// Everything copied is on disk.
    fn finish(&mut self) -> Result<(), RecoverError> {
        self.flush()?;
        if self.unsynced > 0 {
            self.sync()?;
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), RecoverError> {
        self.file
            .sync_data()
            .map_err(|source| write_error(&self.path, source))?;
        self.unsynced = 0;
        Ok(())
    }
}
