//! One shard's writer: what the shard's thread (which writes) and its sync thread share, and
//! the sync thread's work.
//!
//! # Invariants
//! * `synced-means-proven`: `synced_total` and the lane's durable mark rise only after a sync
//!   that began after the writes it covers had returned, on a file with no failed sync.
//! * A failed sync is never repeated on its file. The writer is *latched* until a replacement
//!   segment holds the whole unsynced tail and is synced.
//! * While the writer is latched, the shard writes nothing.
//! * A segment that a cut took out of use is *retired*: it is synced before anything in the one
//!   after it counts as durable.
//! * A writer with a *hole* (a failed sync whose tail is not in memory, left behind at a cut)
//!   proves nothing until the bases of that cut do.

mod cuts;

use crate::frame::FrameHeader;
use crate::manifest_file::{FreshSegment, ManifestFile};
use crate::policy::FsyncPolicy;
use crate::segment::SegmentHeader;
use crate::status::{AofStatus, ShardStatus};
use crate::storage::{StorageFile, write_all_at};
use crate::trouble::{Failure, Trouble};
use bytes::Bytes;
pub(crate) use cuts::CutPoint;
use cuts::Retired;
use moon_core::{Generation, Lsn, ShardId};
use moon_repl::{Lane, OsError};
use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::Thread;
use std::time::{Duration, Instant};

/// Zeros written ahead at once under `always`: the sync that follows writes them as well.
const ZEROS_MAX: u64 = 1 << 20;

/// Longest pause between two attempts to replace a failed segment.
const RETRY_MAX: Duration = Duration::from_secs(5);

/// A frame as it is kept in memory until it is safe.
#[derive(Clone, Debug)]
pub(crate) struct KeptFrame {
    /// Its payload checksum belongs to the segment the frame was made for.
    pub(crate) header: FrameHeader,
    pub(crate) payload: Bytes,
    /// Set on the frame that ends an issue (a whole frame, or the last of a run).
    pub(crate) finishes: Option<Lsn>,
}

/// What all writers of a log share.
pub(crate) struct Shared {
    pub(crate) policy: AtomicU8,
    pub(crate) manifest: ManifestFile,
    pub(crate) status: Arc<AofStatus>,
    pub(crate) sync_interval: Duration,
    pub(crate) retry_after: Duration,
    pub(crate) slow_sync: Duration,
    pub(crate) preallocate: u64,
    pub(crate) keep_generations: u32,
    pub(crate) archive_dir: Option<PathBuf>,
    /// Whether a rewrite is going on: there is one at a time.
    pub(crate) rewriting: AtomicBool,
    /// Unsynced bytes of one shard at which a sync starts early.
    pub(crate) sync_early: AtomicU64,
}

impl Shared {
    pub(crate) fn policy(&self) -> FsyncPolicy {
        FsyncPolicy::from_byte(self.policy.load(Ordering::SeqCst))
    }

    fn sync_early(&self) -> u64 {
        self.sync_early.load(Ordering::Relaxed)
    }

    /// Bounds the bytes of a shard that are not synced under `everysec`.
    pub(crate) fn set_unsynced_max(&self, bytes: u64) {
        self.sync_early.store((bytes / 2).max(1), Ordering::Relaxed);
    }
}

/// Shared by a shard's thread and its sync thread.
pub(crate) struct Writer {
    pub(crate) shard: ShardId,
    pub(crate) lane: Arc<Lane>,
    pub(crate) shared: Arc<Shared>,
    /// End of the last finished issue in the file. Stored before `written_total`.
    written_end: AtomicU64,
    /// Frame bytes in files since the start.
    written_total: AtomicU64,
    /// Frame bytes covered by finished syncs since the start.
    synced_total: AtomicU64,
    /// End of the last frame covered by a finished sync.
    synced_end: AtomicU64,
    /// Where in the file the next frame goes, for preallocation.
    position: AtomicU64,
    /// The file has space up to here, and everything the shard wrote ends here at most. Changed
    /// only under `space`.
    allocated: AtomicU64,
    /// Held while space is made behind `allocated`, and by the shard while it writes there: zeros
    /// that are written ahead must never meet a frame.
    space: Mutex<()>,
    latched: AtomicBool,
    /// Frames of this shard were lost by a failed sync and are not in memory; a cut left them
    /// behind. Set by the shard at the cut, taken back when the bases of a later cut prove what
    /// is below it.
    hole: AtomicBool,
    /// Somebody waits for a sync, whatever the policy says.
    sync_wanted: AtomicBool,
    trouble: Trouble,
    state: Mutex<State>,
    stopped: Condvar,
    thread: OnceLock<Thread>,
}

struct State {
    file: Arc<dyn StorageFile>,
    /// The generation of `file`.
    seq: Generation,
    /// Segments before `file` that are not synced to their end, oldest first.
    retired: VecDeque<Retired>,
    /// The segment for the next cut.
    prepared: Option<FreshSegment>,
    /// The last cut.
    cut: Option<CutPoint>,
    /// Whether a sync of `file` or of a retired one failed.
    sync_failed: bool,
    /// Whether it was a retired one's, and `file` itself is good.
    retired_failed: bool,
    /// Whether `file` could not be cut to whole frames: it is never written to again.
    sealed: bool,
    /// Whether only a cut helps: a sync of `file` failed, and its tail is not in memory.
    stuck: bool,
    /// How far a latched writer is on its way out.
    way_out: WayOut,
    /// A segment that a durable manifest names and that could not be filled: for the next attempt,
    /// so that a disk which stays full does not collect segments.
    spare: Option<FreshSegment>,
    stop: bool,
    has_stopped: bool,
}

/// A latched writer goes through these once, in this order, or from `Replacing` back to `None`
/// to try again. The shard takes the first and the last step, the sync thread those between. So
/// there is never a second tail beside the one that is being replaced: it would outlive the
/// replacement, and be written in place of the tail of a later failure.
enum WayOut {
    /// Not latched, or the shard has not handed its tail over yet.
    None,
    /// The unsynced tail, from the shard.
    Tail(Tail),
    /// The sync thread has the tail.
    Replacing,
    /// The segment that took the failed one's place, for the shard to write on.
    Replacement(Replacement),
}

/// What the shard has in memory of a latched file.
pub(crate) struct Tail {
    pub(crate) frames: Vec<KeptFrame>,
    /// Whether `frames` holds every frame that is not durable.
    pub(crate) complete: bool,
}

/// A segment ready for more frames.
pub(crate) struct Replacement {
    pub(crate) file: Arc<dyn StorageFile>,
    pub(crate) header: SegmentHeader,
    pub(crate) position: u64,
}

impl Writer {
    pub(crate) fn new(lane: Arc<Lane>, shared: Arc<Shared>, segment: &FreshSegment) -> Writer {
        let end = lane.clock().head().0;
        Writer {
            shard: lane.shard(),
            lane,
            shared,
            written_end: AtomicU64::new(end),
            written_total: AtomicU64::new(0),
            synced_total: AtomicU64::new(0),
            synced_end: AtomicU64::new(end),
            position: AtomicU64::new(segment.position),
            allocated: AtomicU64::new(segment.position),
            space: Mutex::new(()),
            latched: AtomicBool::new(false),
            hole: AtomicBool::new(false),
            sync_wanted: AtomicBool::new(false),
            trouble: Trouble::default(),
            state: Mutex::new(State {
                file: segment.file.clone(),
                seq: segment.header.seq,
                retired: VecDeque::new(),
                prepared: None,
                cut: None,
                sync_failed: false,
                retired_failed: false,
                sealed: false,
                stuck: false,
                way_out: WayOut::None,
                spare: None,
                stop: false,
                has_stopped: false,
            }),
            stopped: Condvar::new(),
            thread: OnceLock::new(),
        }
    }

    pub(crate) fn status(&self) -> &ShardStatus {
        &self.shared.status.shards()[self.shard.index()]
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change of the state is one assignment, so it is whole in any case.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // --- the shard's side ---

    /// All frames up to `end` are in the file, `total` bytes since the start.
    pub(crate) fn wrote(&self, end: Lsn, total: u64, position: u64) {
        self.written_end.store(end.0, Ordering::SeqCst);
        self.written_total.store(total, Ordering::SeqCst);
        self.position.store(position, Ordering::Relaxed);
        let wake = match self.shared.policy() {
            FsyncPolicy::Always => true,
            FsyncPolicy::EverySec => self.unsynced() >= self.shared.sync_early(),
            FsyncPolicy::No => false,
        };
        if wake || self.wants_space() {
            self.wake();
        }
    }

    /// Runs `write`, which writes to the file and not beyond `end`.
    pub(crate) fn write_until<R>(&self, end: u64, write: impl FnOnce() -> R) -> R {
        if end <= self.allocated.load(Ordering::SeqCst) {
            return write();
        }
        let _space = self.space.lock().unwrap_or_else(PoisonError::into_inner);
        let out = write();
        self.allocated.fetch_max(end, Ordering::SeqCst);
        out
    }

    /// Runs `cut`, which shortens the file to `position`.
    pub(crate) fn cut_to(
        &self,
        position: u64,
        cut: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<()> {
        let _space = self.space.lock().unwrap_or_else(PoisonError::into_inner);
        cut()?;
        self.allocated.store(position, Ordering::SeqCst);
        Ok(())
    }

    pub(crate) fn written_total(&self) -> u64 {
        self.written_total.load(Ordering::SeqCst)
    }

    pub(crate) fn synced_total(&self) -> u64 {
        self.synced_total.load(Ordering::SeqCst)
    }

    pub(crate) fn synced_end(&self) -> Lsn {
        Lsn(self.synced_end.load(Ordering::SeqCst))
    }

    fn unsynced(&self) -> u64 {
        // Loaded in this order, the second is never below the first.
        let synced = self.synced_total();
        self.written_total() - synced
    }

    pub(crate) fn is_latched(&self) -> bool {
        self.latched.load(Ordering::SeqCst)
    }

    /// Nothing more may be written to the file, because it could not be cut to whole frames.
    pub(crate) fn seal(&self, error: &io::Error) {
        let mut state = self.state();
        state.sealed = true;
        self.latched.store(true, Ordering::SeqCst);
        drop(state);
        self.failed(Failure::Cut, error);
    }

    /// Shows a failure wherever people look.
    pub(crate) fn failed(&self, failure: Failure, error: &io::Error) {
        if let Some(health) = failure.health() {
            self.status().set_cause(OsError::from(error));
            self.status().set_health(health);
        }
        self.trouble.tell(self.shard, failure, Some(error));
    }

    /// The sync that runs takes very long.
    pub(crate) fn sync_is_slow(&self) {
        self.trouble.tell(self.shard, Failure::SlowSync, None);
    }

    /// All failures are over.
    pub(crate) fn works_again(&self) {
        self.trouble.over(self.shard);
    }

    /// The replacement of a latched file, once it is there; the writer is not latched any more.
    pub(crate) fn take_replacement(&self) -> Option<Replacement> {
        let mut state = self.state();
        let replacement = match std::mem::replace(&mut state.way_out, WayOut::None) {
            WayOut::Replacement(replacement) => replacement,
            other => {
                state.way_out = other;
                return None;
            }
        };
        self.position.store(replacement.position, Ordering::Relaxed);
        self.latched.store(false, Ordering::SeqCst);
        Some(replacement)
    }

    /// Hands the unsynced tail of a latched file to the sync thread, if it does not have it.
    pub(crate) fn offer_tail(&self, tail: impl FnOnce() -> Tail) {
        let mut state = self.state();
        if matches!(state.way_out, WayOut::None) {
            state.way_out = WayOut::Tail(tail());
            drop(state);
            self.wake();
        }
    }

    /// Whether the writer can prove nothing: latched, or with a hole.
    pub(crate) fn is_failing(&self) -> bool {
        self.is_latched() || self.has_hole()
    }

    fn has_hole(&self) -> bool {
        self.hole.load(Ordering::SeqCst)
    }

    pub(crate) fn written_end(&self) -> Lsn {
        Lsn(self.written_end.load(Ordering::SeqCst))
    }

    pub(crate) fn wake(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    // --- the pool's side ---

    pub(crate) fn set_thread(&self, thread: Thread) {
        if self.thread.set(thread).is_err() {
            debug_assert!(false, "a writer has one sync thread");
        }
    }

    /// Asks the sync thread to sync what there is and end.
    pub(crate) fn stop(&self) {
        self.state().stop = true;
        self.wake();
    }

    /// Waits for the sync thread's end; false if it did not come in time.
    pub(crate) fn wait_stopped(&self, until: Instant) -> bool {
        let mut state = self.state();
        while !state.has_stopped {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let waited = self.stopped.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Syncs on the caller's thread. Only after the sync thread has ended.
    pub(crate) fn sync_last(&self) -> bool {
        self.sync();
        !self.is_latched()
    }

    // --- the sync thread's side ---

    /// The sync thread: syncs when the policy asks for it, preallocates, replaces a failed
    /// segment. Ends when told to.
    pub(crate) fn run(&self) {
        let mut last_sync = Instant::now();
        let mut last_look = Instant::now();
        let mut retry = Retry::new(self.shared.retry_after);
        loop {
            let stop = self.state().stop;
            let mut wait = self.shared.sync_interval;
            if !self.is_latched() {
                self.sync_retired();
            }
            if self.is_latched() {
                wait = wait.min(self.shared.retry_after);
                if retry.is_due() {
                    match self.try_replace() {
                        Some(true) => retry = Retry::new(self.shared.retry_after),
                        Some(false) => retry.attempted(),
                        None => {}
                    }
                }
            } else {
                let wanted = self.sync_wanted.swap(false, Ordering::SeqCst);
                let due_in = self.due_in(last_sync);
                let due = stop || wanted || due_in.is_zero();
                if due {
                    last_sync = Instant::now();
                    if self.unsynced() > 0 {
                        self.sync();
                    }
                }
                if last_look.elapsed() >= self.shared.sync_interval {
                    last_look = Instant::now();
                    let file = self.state().file.clone();
                    if self.is_gone(&file) {
                        self.gone();
                    }
                }
                // After the sync: replies may wait for that, and for this nobody does.
                if !stop && !self.is_latched() {
                    self.make_space();
                }
                if due && !stop && self.due_in(last_sync).is_zero() {
                    // More was written meanwhile.
                    continue;
                }
                if !due {
                    wait = wait.min(due_in);
                }
            }
            if stop {
                break;
            }
            std::thread::park_timeout(wait);
        }
        self.state().has_stopped = true;
        self.stopped.notify_all();
    }

    /// How long until the policy asks for a sync.
    fn due_in(&self, last_sync: Instant) -> Duration {
        match self.shared.policy() {
            // A sync proves nothing now: see `proven`.
            _ if self.has_hole() => self.shared.sync_interval,
            FsyncPolicy::Always if self.unsynced() > 0 => Duration::ZERO,
            FsyncPolicy::EverySec if self.unsynced() >= self.shared.sync_early() => Duration::ZERO,
            FsyncPolicy::EverySec => self
                .shared
                .sync_interval
                .saturating_sub(last_sync.elapsed()),
            FsyncPolicy::Always | FsyncPolicy::No => self.shared.sync_interval,
        }
    }

    /// Syncs what there is; whether it is proven then.
    fn sync(&self) -> bool {
        // The total first: the end loaded after it covers at least as much, and both were
        // stored after their writes had returned. What a cut retires after that is not in them,
        // and what one has retired before is synced first.
        let total = self.written_total();
        let end = self.written_end();
        let (file, retired) = {
            let state = self.state();
            (state.file.clone(), !state.retired.is_empty())
        };
        if retired && !self.sync_retired() {
            return false;
        }
        let (synced, taken) = self.status().during_sync(|| file.sync_data());
        match synced {
            // It reached the disk, and nobody will find it there.
            Ok(()) if self.is_gone(&file) => self.gone(),
            Ok(()) => {
                self.status().sync_finished(taken);
                self.proven(end, total);
                return true;
            }
            Err(error) => self.sync_failed(&error),
        }
        false
    }

    /// Whether somebody took away the file that the shard writes to.
    fn is_gone(&self, file: &Arc<dyn StorageFile>) -> bool {
        // One that is superseded meanwhile may be removed or archived.
        matches!(file.is_in_place(), Ok(false)) && Arc::ptr_eq(&self.state().file, file)
    }

    fn gone(&self) {
        self.latched.store(true, Ordering::SeqCst);
        self.failed(Failure::Gone, &gone_error());
    }

    /// Everything up to `end` is on disk, unless there is a hole.
    fn proven(&self, end: Lsn, total: u64) {
        if self.has_hole() {
            return;
        }
        self.synced_end.fetch_max(end.0, Ordering::SeqCst);
        self.synced_total.fetch_max(total, Ordering::SeqCst);
        self.lane.finish_durable(end);
    }

    fn sync_failed(&self, error: &io::Error) {
        self.state().sync_failed = true;
        self.latched.store(true, Ordering::SeqCst);
        self.status().fsync_failures.fetch_add(1, Ordering::Relaxed);
        self.failed(Failure::Sync, error);
    }

    /// Bytes by which the file is prepared ahead.
    fn space_step(&self) -> u64 {
        match self.shared.policy() {
            FsyncPolicy::Always => self.shared.preallocate.min(ZEROS_MAX),
            FsyncPolicy::EverySec | FsyncPolicy::No => self.shared.preallocate,
        }
    }

    fn wants_space(&self) -> bool {
        let step = self.space_step();
        step > 0
            && self.position.load(Ordering::Relaxed) + step / 4
                > self.allocated.load(Ordering::SeqCst)
    }

    /// Keeps space ahead of the writes, so that a sync need not commit the file's length. Under
    /// `always` the space is written with zeros, so that it need not commit extents either; see
    /// `docs/decisions/preallocation.md`.
    fn make_space(&self) {
        if !self.wants_space() {
            return;
        }
        let step = self.space_step();
        let _space = self.space.lock().unwrap_or_else(PoisonError::into_inner);
        // After the lock: a cut changes file and `allocated` under it.
        let file = self.state().file.clone();
        let from = self.allocated.load(Ordering::SeqCst);
        let made = if self.shared.policy() == FsyncPolicy::Always {
            let zeros = vec![0; usize::try_from(step).unwrap_or(0)];
            write_all_at(&*file, &[&zeros, &[], &[]], from)
        } else {
            file.allocate(from, step)
        };
        if let Err(error) = made {
            // Not needed for safety, and a full disk is the next write's to report. It is tried
            // again when the writes have come as far.
            tracing::debug!(shard = self.shard.0, error = %error, "cannot make space ahead");
        }
        self.allocated.store(from + step, Ordering::SeqCst);
    }

    /// Tries once to bring a latched file's tail to safety; whether the writer can go on. `None`
    /// if the shard did not hand its tail over yet.
    fn try_replace(&self) -> Option<bool> {
        let (tail, sync_failed) = {
            let mut state = self.state();
            match std::mem::replace(&mut state.way_out, WayOut::None) {
                WayOut::Tail(tail) => {
                    if state.sync_failed && !tail.complete {
                        return Some(self.cannot_replace(&mut state));
                    }
                    state.way_out = WayOut::Replacing;
                    (tail, state.sync_failed)
                }
                other => {
                    state.way_out = other;
                    return None;
                }
            }
        };
        let replaced = self.replace_tail(&tail, sync_failed);
        if !replaced {
            self.state().way_out = WayOut::None;
        }
        Some(replaced)
    }

    /// Whether the shard can go on: its tail is safe, and there is a segment to write to.
    fn replace_tail(&self, tail: &Tail, sync_failed: bool) -> bool {
        let old = self.state().file.clone();
        if matches!(old.is_in_place(), Ok(false)) {
            // A new segment beside files that are not there would be a log with a hole.
            self.failed(Failure::Gone, &gone_error());
            return false;
        }
        // A file that was only sealed can still prove what it has.
        let proven_in_place = !sync_failed && self.sync();
        if !proven_in_place && !tail.complete {
            return false;
        }
        let frames = if proven_in_place {
            unfinished_run(&tail.frames)
        } else {
            tail.frames.as_slice()
        };
        self.go_on_with(frames)
    }

    /// Brings `frames` to a replacement segment and offers that to the shard.
    fn go_on_with(&self, frames: &[KeptFrame]) -> bool {
        match self.replace(frames) {
            Ok(replacement) => {
                // Before the shard can have the replacement: what it writes to it is counted as
                // written at once, and is not synced.
                self.proven(self.written_end(), self.written_total());
                let mut state = self.state();
                state.file = replacement.file.clone();
                state.seq = replacement.header.seq;
                state.sync_failed = false;
                state.retired_failed = false;
                state.sealed = false;
                // All of it is in the replacement; but who reads the old segments alone may miss
                // some.
                if !state.retired.is_empty() {
                    state.retired.clear();
                    if let Some(cut) = &mut state.cut {
                        cut.intact = false;
                    }
                }
                state.way_out = WayOut::Replacement(replacement);
                drop(state);
                tracing::warn!(
                    shard = self.shard.0,
                    frames = frames.len(),
                    "a replacement segment holds the unsynced tail"
                );
                true
            }
            Err(error) => {
                self.failed(Failure::Replace, &error);
                false
            }
        }
    }

    /// Writes `frames` to the segment of a new generation and syncs it.
    fn replace(&self, frames: &[KeptFrame]) -> io::Result<Replacement> {
        let segment = self.segment_for_tail()?;
        let position = match write_frames(&segment, frames) {
            Ok(position) => position,
            Err(error) => {
                if segment.file.truncate(FreshSegment::START).is_ok() {
                    self.state().spare = Some(segment);
                }
                return Err(error);
            }
        };
        let (synced, taken) = self.status().during_sync(|| segment.file.sync_data());
        if let Err(error) = synced {
            self.status().fsync_failures.fetch_add(1, Ordering::Relaxed);
            return Err(error);
        }
        self.status().sync_finished(taken);
        self.allocated.store(position, Ordering::SeqCst);
        Ok(Replacement {
            file: segment.file,
            header: segment.header,
            position,
        })
    }

    /// An empty segment of this shard that a durable manifest names.
    fn segment_for_tail(&self) -> io::Result<FreshSegment> {
        let spare = self.state().spare.take();
        // A newer generation may supersede it, and it could be gone like any other file.
        let usable = |spare: &FreshSegment| {
            self.shared.manifest.is_newest(spare.header.seq)
                && !matches!(spare.file.is_in_place(), Ok(false))
        };
        if let Some(spare) = spare.filter(usable) {
            return Ok(spare);
        }
        let durable = self.lane.clock().durable();
        let segments = self
            .shared
            .manifest
            .start_generation(durable, None, |_| {})?;
        let mut segments = segments.into_iter();
        let segment = segments.nth(self.shard.index());
        segment.ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

/// Writes `frames` to an empty segment and returns where they end.
fn write_frames(segment: &FreshSegment, frames: &[KeptFrame]) -> io::Result<u64> {
    let seeds = segment.header.seeds();
    let mut position = FreshSegment::START;
    for frame in frames {
        let mut header = frame.header;
        header.payload_crc = seeds.payload_crc(&frame.payload);
        let pad = crate::frame::padding(u64::from(header.len));
        write_all_at(
            &*segment.file,
            &[&header.encode(seeds), &frame.payload, pad],
            position,
        )?;
        position += header.bytes_in_file();
    }
    Ok(position)
}

/// What Linux says of a name that is not there.
fn gone_error() -> io::Error {
    const ENOENT: i32 = 2;
    io::Error::from_raw_os_error(ENOENT)
}

/// When to try again to replace a failed segment: the pause doubles.
struct Retry {
    pause: Duration,
    next: Instant,
}

impl Retry {
    fn new(pause: Duration) -> Retry {
        Retry {
            pause,
            next: Instant::now(),
        }
    }

    fn is_due(&self) -> bool {
        Instant::now() >= self.next
    }

    fn attempted(&mut self) {
        self.next = Instant::now() + self.pause;
        self.pause = (self.pause * 2).min(RETRY_MAX);
    }
}

/// The pieces at the end that belong to a run whose last piece is not written.
fn unfinished_run(frames: &[KeptFrame]) -> &[KeptFrame] {
    let finished = frames.iter().rposition(|frame| frame.finishes.is_some());
    &frames[finished.map_or(0, |last| last + 1)..]
}
