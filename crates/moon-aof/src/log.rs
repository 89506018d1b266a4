//! The shard's end of the log: frames go from here straight into the file.
//!
//! Between the issue of an LSN and its finished write stand the header fields and one write. The
//! payload's checksum is computed before, nothing is allocated, nothing waits. A frame that
//! cannot be written now is *held*: it stays in memory with its LSN, `committed` stays below it,
//! and [`tick`](CommitLog::tick) tries again.

use crate::failpoint;
use crate::frame::{FrameHeader, HEADER_LEN, Piece, Seeds, bytes_in_file, padding};
use crate::manifest_file::FreshSegment;
use crate::policy::FsyncPolicy;
use crate::status::bump;
use crate::storage::{StorageFile, write_all_at};
use crate::trouble::Failure;
use crate::writer::{KeptFrame, Tail, Writer};
use bytes::Bytes;
use moon_core::{Lsn, UnixMs};
use moon_repl::{CommitLog, FrameKind, FrameSink, LogHealth, OsError};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Above this payload length the payload is written first and the header last, so that a crash
/// in the long write leaves no header behind.
const PAYLOAD_FIRST: usize = 1 << 20;

/// One shard's [`CommitLog`] on disk.
///
/// # Invariants
/// * `held-frames-keep-order`: while a frame is held, every later one is held behind it.
/// * `position` is the end of the last whole frame in the file; what lies behind it is zero, or
///   the rest of a failed write that is cut off before the next one.
/// * Under `always` and `everysec`, `tail` holds every written frame that is not synced.
pub struct ShardLog {
    writer: Arc<Writer>,
    file: Arc<dyn StorageFile>,
    seeds: Seeds,
    position: u64,
    frame_max: usize,
    mark_after: Duration,
    /// Issued, not written.
    held: VecDeque<KeptFrame>,
    held_bytes: u64,
    /// Written, not synced, with the total of written bytes behind each.
    tail: VecDeque<(KeptFrame, u64)>,
    /// Frame bytes written since the start; `writer` learns it at the end of an issue.
    written_total: u64,
    last_time_ms: u64,
    /// The highest durable mark in the file.
    last_mark: Lsn,
    /// Whether anything was appended since the last tick; the time of that tick.
    appended: bool,
    last_append: Instant,
    delayed: Delayed,
    sink: Option<Box<dyn FrameSink>>,
}

/// Counts, as Redis does, the writes that go on behind a sync which takes very long.
#[derive(Default)]
struct Delayed {
    /// When more than `counted` was first seen in the file while a sync ran.
    since: Option<Instant>,
    /// The total of written bytes when nothing was delayed last.
    counted: u64,
}

impl ShardLog {
    pub(crate) fn new(
        writer: Arc<Writer>,
        segment: FreshSegment,
        frame_max: usize,
        mark_after: Duration,
        last_time_ms: u64,
    ) -> ShardLog {
        ShardLog {
            last_mark: writer.lane.clock().durable(),
            writer,
            file: segment.file,
            seeds: segment.header.seeds(),
            position: segment.position,
            frame_max,
            mark_after,
            held: VecDeque::new(),
            held_bytes: 0,
            tail: VecDeque::new(),
            written_total: 0,
            last_time_ms,
            appended: false,
            last_append: Instant::now(),
            delayed: Delayed::default(),
            sink: None,
        }
    }

    /// Passes every frame on to `sink` from now on.
    pub fn set_sink(&mut self, sink: Box<dyn FrameSink>) {
        self.sink = Some(sink);
    }

    /// Whether frames can go to the file now.
    fn is_ready(&self) -> bool {
        self.held.is_empty() && !self.writer.is_latched()
    }

    /// Writes or holds one frame. `crc` is the payload's checksum for the current segment.
    fn put(&mut self, mut frame: KeptFrame, crc: u32) {
        frame.header.payload_crc = crc;
        if self.is_ready() {
            match self.write(&frame) {
                Ok(()) => return self.written(frame),
                Err(error) => self.append_failed(&error),
            }
        }
        self.held_bytes += frame.header.bytes_in_file();
        self.held.push_back(frame);
    }

    fn write(&self, frame: &KeptFrame) -> io::Result<()> {
        let started = Instant::now();
        let header = frame.header.encode(self.seeds);
        let payload: &[u8] = &frame.payload;
        let pad = padding(payload.len() as u64);
        if failpoint::due("mid-write") {
            let half = &payload[..payload.len() / 2];
            write_all_at(&*self.file, &[&header, half, &[]], self.position)?;
            failpoint::die();
        }
        let end = self.position + frame.header.bytes_in_file();
        self.writer.write_until(end, || {
            if payload.len() > PAYLOAD_FIRST {
                let behind = self.position + HEADER_LEN as u64;
                write_all_at(&*self.file, &[payload, pad, &[]], behind)?;
                write_all_at(&*self.file, &[&header, &[], &[]], self.position)
            } else {
                write_all_at(&*self.file, &[&header, payload, pad], self.position)
            }
        })?;
        failpoint::hit("between-write-and-ack");
        self.writer
            .status()
            .append_latency
            .record(started.elapsed());
        Ok(())
    }

    fn written(&mut self, frame: KeptFrame) {
        let bytes = frame.header.bytes_in_file();
        self.position += bytes;
        self.written_total += bytes;
        self.last_mark = self.last_mark.max(frame.header.durable);
        let status = self.writer.status();
        bump(&status.appended_bytes, bytes);
        bump(&status.appended_frames, 1);
        let finishes = frame.finishes;
        // The pieces of an unfinished run are kept under every policy: a run lies in one file, so
        // a replacement segment needs them.
        let keep = self.writer.shared.policy() != FsyncPolicy::No;
        if keep || finishes.is_none() {
            self.tail.push_back((frame, self.written_total));
        } else {
            self.tail.clear();
        }
        if let Some(end) = finishes {
            self.writer.lane.finish_written(end);
            self.writer.wrote(end, self.written_total, self.position);
            self.prune();
        }
    }

    /// Drops the frames that are synced.
    fn prune(&mut self) {
        let synced = self.writer.synced_total();
        while self.tail.front().is_some_and(|(_, total)| *total <= synced) {
            self.tail.pop_front();
        }
    }

    /// A write failed: brings the file back to whole frames.
    fn append_failed(&mut self, error: &io::Error) {
        let status = self.writer.status();
        status.append_failures.fetch_add(1, Ordering::Relaxed);
        self.writer.failed(Failure::Append, error);
        let position = self.position;
        let cut = self
            .writer
            .cut_to(position, || self.file.truncate(position));
        if let Err(error) = cut {
            self.writer.seal(&error);
        }
    }

    fn retry_held(&mut self) {
        while let Some(frame) = self.held.front_mut() {
            frame.header.payload_crc = self.seeds.payload_crc(&frame.payload);
            let frame = frame.clone();
            if let Err(error) = self.write(&frame) {
                return self.append_failed(&error);
            }
            self.held.pop_front();
            self.held_bytes -= frame.header.bytes_in_file();
            self.written(frame);
        }
    }

    /// The way out of a latched file.
    fn switch_segment(&mut self) {
        if self.take_replacement() {
            return;
        }
        self.writer.offer_tail(|| Tail {
            complete: self.tail_is_complete(),
            frames: self.tail.iter().map(|(frame, _)| frame.clone()).collect(),
        });
    }

    /// Goes on in the replacement of a latched file, if it is there.
    fn take_replacement(&mut self) -> bool {
        let Some(replacement) = self.writer.take_replacement() else {
            return false;
        };
        self.file = replacement.file;
        self.seeds = replacement.header.seeds();
        self.position = replacement.position;
        self.prune();
        true
    }

    /// Whether `tail` holds every frame that is not synced.
    fn tail_is_complete(&self) -> bool {
        match self.tail.front() {
            Some((first, total)) => {
                total - first.header.bytes_in_file() <= self.writer.synced_total()
            }
            None => self.writer.written_total() == self.writer.synced_total(),
        }
    }

    /// Frames of a run whose last piece is not written are as if they were not: a run lies in one
    /// file. They are held again.
    fn hold_unfinished_run(&mut self) {
        while self
            .tail
            .back()
            .is_some_and(|(frame, _)| frame.finishes.is_none())
        {
            let Some((frame, _)) = self.tail.pop_back() else {
                break;
            };
            let bytes = frame.header.bytes_in_file();
            self.written_total -= bytes;
            self.held_bytes += bytes;
            self.held.push_front(frame);
        }
    }

    fn update_status(&self) {
        let status = self.writer.status();
        // In this order: a sync that fails in between is seen by the next tick at the latest.
        let before = status.health();
        let health = self.health();
        if health != before {
            status.set_health(health);
            if health == LogHealth::Healthy {
                self.writer.works_again();
            }
        }
        status
            .in_flight_bytes
            .store(self.bytes_at_risk(), Ordering::Relaxed);
    }

    fn count_delayed_syncs(&mut self) {
        let (status, shared) = (self.writer.status(), &self.writer.shared);
        if shared.policy() != FsyncPolicy::EverySec || status.syncing_for().is_none() {
            let counted = self.written_total;
            self.delayed = Delayed {
                since: None,
                counted,
            };
        } else if self.written_total > self.delayed.counted {
            let since = *self.delayed.since.get_or_insert_with(Instant::now);
            if since.elapsed() >= shared.slow_sync {
                bump(&status.delayed_fsyncs, 1);
                self.writer.sync_is_slow();
                self.delayed = Delayed {
                    since: None,
                    counted: self.written_total,
                };
            }
        }
    }

    /// The first idle moment after writes: one frame without payload, so that the durable mark
    /// that covers them is in a file.
    fn mark_when_idle(&mut self, now: UnixMs) {
        if std::mem::take(&mut self.appended) {
            self.last_append = Instant::now();
        }
        let durable = self.writer.lane.clock().durable();
        if durable > self.last_mark
            && self.is_ready()
            && self.last_append.elapsed() >= self.mark_after
        {
            self.append(FrameKind::Control, Bytes::new(), now);
        }
    }

    /// Appends the frame that carries the last durable mark of a clean stop; whether it is in
    /// the file.
    pub(crate) fn append_stop_mark(&mut self, now: UnixMs) -> bool {
        self.append(FrameKind::Control, Bytes::new(), now);
        self.is_ready()
    }

    pub(crate) fn writer(&self) -> &Arc<Writer> {
        &self.writer
    }

    /// The time of the next frame.
    fn time_ms(&mut self, now: UnixMs) -> u64 {
        let now = u64::try_from(now.0).unwrap_or(0);
        self.last_time_ms = self.last_time_ms.max(now);
        self.last_time_ms
    }
}

impl CommitLog for ShardLog {
    fn append(&mut self, kind: FrameKind, payload: Bytes, now: UnixMs) -> Lsn {
        debug_assert!(
            !payload.is_empty() || kind == FrameKind::Control,
            "a data frame has data"
        );
        self.appended = true;
        let time_ms = self.time_ms(now);
        let durable = self.writer.lane.clock().durable();
        let whole = payload.len() <= self.frame_max;
        let crc = if whole {
            self.seeds.payload_crc(&payload)
        } else {
            0
        };
        let lsn = self.writer.lane.issue(payload.len() as u64);
        failpoint::hit("between-issue-and-write");
        let end = lsn.advance(payload.len() as u64);
        if let Some(sink) = &mut self.sink {
            sink.frame(kind, lsn, &payload);
        }
        let header = FrameHeader {
            kind,
            piece: Piece::Whole,
            db: 0,
            len: len_u32(payload.len()),
            lsn,
            durable,
            time_ms,
            payload_crc: crc,
        };
        if whole {
            let finishes = Some(end);
            self.put(
                KeptFrame {
                    header,
                    payload,
                    finishes,
                },
                crc,
            );
        } else {
            self.append_run(header, &payload, end);
        }
        end
    }

    fn tick(&mut self, now: UnixMs) {
        self.prune();
        if self.writer.is_latched() {
            self.switch_segment();
        }
        if !self.writer.is_latched() {
            self.retry_held();
        }
        self.mark_when_idle(now);
        self.count_delayed_syncs();
        self.update_status();
    }

    fn cut(&mut self) {
        if self.writer.is_latched() {
            self.take_replacement();
        }
        let last = self.held.back().map(|frame| &frame.header);
        let end = last.map_or(self.writer.written_end(), |header| {
            header.lsn.advance(u64::from(header.len))
        });
        let held = !self.held.is_empty();
        let complete = self.tail_is_complete();
        // Without a switch the rewrite sees it, and gives up.
        if let Some(segment) = self.writer.switch(end, held, complete) {
            self.hold_unfinished_run();
            self.file = segment.file;
            self.seeds = segment.header.seeds();
            self.position = segment.position;
        }
    }

    fn health(&self) -> LogHealth {
        if self.writer.is_failing() {
            LogHealth::SyncFailing
        } else if self.held.is_empty() {
            LogHealth::Healthy
        } else {
            LogHealth::AppendFailing
        }
    }

    fn cause(&self) -> Option<OsError> {
        self.writer.status().cause()
    }

    fn bytes_at_risk(&self) -> u64 {
        // What is kept in memory. Under `no` that is nothing, and what was written under it must
        // not count all at once when a stricter policy begins.
        let unsynced = self.tail.front().map_or(0, |(first, total)| {
            let kept_from = total - first.header.bytes_in_file();
            let safe = kept_from.max(self.writer.synced_total());
            self.written_total.saturating_sub(safe)
        });
        self.held_bytes + unsynced
    }
}

impl ShardLog {
    /// Effects above `frame_max`: one issue, several frames behind each other in one file.
    fn append_run(&mut self, first: FrameHeader, payload: &Bytes, end: Lsn) {
        let mut from = 0;
        while from < payload.len() {
            let to = (from + self.frame_max).min(payload.len());
            let part = payload.slice(from..to);
            let last = to == payload.len();
            let header = FrameHeader {
                piece: if last { Piece::Last } else { Piece::Part },
                len: len_u32(part.len()),
                lsn: first.lsn.advance(from as u64),
                ..first
            };
            let crc = self.seeds.payload_crc(&part);
            self.put(
                KeptFrame {
                    header,
                    payload: part,
                    finishes: last.then_some(end),
                },
                crc,
            );
            from = to;
        }
    }
}

/// Lengths are bounded by `frame_max`, which [`AofOptions`](crate::AofOptions) keeps below 4 GiB.
fn len_u32(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

/// Largest `frame_max` whose frames a header can describe.
pub(crate) const FRAME_MAX_LIMIT: usize = (u32::MAX as usize) / 2;

const _: () = assert!(bytes_in_file(0) == HEADER_LEN as u64);
