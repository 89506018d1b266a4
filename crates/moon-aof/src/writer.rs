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

use crate::frame::FrameHeader;
use crate::manifest_file::{FreshSegment, ManifestFile};
use crate::policy::FsyncPolicy;
use crate::segment::SegmentHeader;
use crate::status::{AofStatus, ShardStatus};
use crate::storage::{StorageFile, write_all_at};
use bytes::Bytes;
use moon_core::{Generation, Lsn, ShardId};
use moon_repl::{Lane, LogHealth};
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
const RETRY_MAX: Duration = Duration::from_secs(30);

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
    pub(crate) preallocate: u64,
    pub(crate) keep_generations: u32,
    pub(crate) archive_dir: Option<PathBuf>,
    /// Whether a rewrite is going on: there is one at a time.
    pub(crate) rewriting: AtomicBool,
    /// Unsynced bytes of one shard at which a sync starts early.
    pub(crate) sync_early: u64,
}

impl Shared {
    pub(crate) fn policy(&self) -> FsyncPolicy {
        FsyncPolicy::from_byte(self.policy.load(Ordering::SeqCst))
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

/// A segment that a cut took out of use.
struct Retired {
    file: Arc<dyn StorageFile>,
    /// What a sync of it proves: end of the last finished issue in it, frame bytes up to there.
    end: Lsn,
    total: u64,
}

/// Where a shard's log changed segments.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CutPoint {
    /// The generation that went on.
    pub(crate) seq: Generation,
    /// End of the last issue before the cut, written or held.
    pub(crate) end: Lsn,
    /// Frame bytes written before the cut.
    pub(crate) total: u64,
    /// The counter of appended bytes at the cut.
    pub(crate) appended: u64,
    /// Whether the segments before the cut have everything below it, safely: no frame was held,
    /// no sync failed.
    pub(crate) intact: bool,
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
            FsyncPolicy::EverySec => self.unsynced() >= self.shared.sync_early,
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
    pub(crate) fn seal(&self) {
        let mut state = self.state();
        state.sealed = true;
        self.latched.store(true, Ordering::SeqCst);
        drop(state);
        self.status().set_health(LogHealth::SyncFailing);
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

    /// The cut, on the shard's thread: takes the segment that was made ready into use and returns
    /// it. `None` if there is none, or if the log cannot leave its file now: its unsynced tail is
    /// in memory and on its way to a replacement segment, or its file has a later generation than
    /// the one made ready. `issued_end` is the end of the last issue, `held` whether frames
    /// below it wait to be written, `tail_complete` whether every unsynced frame is in memory.
    ///
    /// A latched log whose tail is not in memory leaves its file with a hole: nothing counts as
    /// durable before the bases of this cut do.
    pub(crate) fn switch(
        &self,
        issued_end: Lsn,
        held: bool,
        tail_complete: bool,
    ) -> Option<FreshSegment> {
        // Space is made in the file of the state, behind `allocated`: both change together.
        let _space = self.space.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = self.state();
        let failing = self.is_failing();
        let lost = self.has_hole() || (state.sync_failed && !tail_complete);
        let replacing = matches!(state.way_out, WayOut::Replacing | WayOut::Replacement(_));
        if failing && (!lost || replacing) {
            return None;
        }
        let at = state.seq;
        let next = state.prepared.take_if(|next| at < next.header.seq)?;
        if failing {
            self.leave_hole(&mut state);
        } else {
            let retired = Retired {
                file: state.file.clone(),
                end: self.written_end(),
                total: self.written_total(),
            };
            state.retired.push_back(retired);
        }
        state.cut = Some(CutPoint {
            seq: next.header.seq,
            end: issued_end,
            total: self.written_total(),
            appended: self.status().appended_bytes.load(Ordering::Relaxed),
            intact: !held && !failing,
        });
        state.file = next.file.clone();
        state.seq = next.header.seq;
        state.sealed = false;
        self.position.store(next.position, Ordering::Relaxed);
        self.allocated.store(next.position, Ordering::SeqCst);
        drop(state);
        self.wake();
        Some(next)
    }

    /// Gives the unsynced part of the log up: the bases of a rewrite must prove it.
    fn leave_hole(&self, state: &mut State) {
        self.hole.store(true, Ordering::SeqCst);
        self.latched.store(false, Ordering::SeqCst);
        state.sync_failed = false;
        state.retired_failed = false;
        state.stuck = false;
        state.way_out = WayOut::None;
        state.retired.clear();
        if let Some(cut) = &mut state.cut {
            cut.intact = false;
        }
    }

    // --- a rewrite's side ---

    /// Makes a segment ready for the next cut.
    pub(crate) fn prepare(&self, segment: FreshSegment) {
        self.state().prepared = Some(segment);
    }

    /// Takes the segment made ready back, if the shard did not switch to it.
    pub(crate) fn unprepare(&self) {
        self.state().prepared = None;
    }

    /// How many segments are out of use and not synced.
    pub(crate) fn retired(&self) -> usize {
        self.state().retired.len()
    }

    /// The cut at which the log changed to generation `seq`.
    pub(crate) fn cut_to_generation(&self, seq: Generation) -> Option<CutPoint> {
        self.state().cut.filter(|cut| cut.seq == seq)
    }

    /// The start of a log in generation `seq`, as a cut.
    pub(crate) fn start_point(&self, seq: Generation) -> CutPoint {
        CutPoint {
            seq,
            end: self.written_end(),
            total: 0,
            appended: 0,
            intact: true,
        }
    }

    /// Whether everything the shard issued before `cut` is proven durable, or lies before a hole
    /// and waits for the bases. Asks for a sync if not.
    pub(crate) fn is_settled(&self, cut: &CutPoint) -> bool {
        let settled = if self.has_hole() {
            self.written_end() >= cut.end
        } else {
            self.synced_end() >= cut.end
        };
        if !settled && !self.sync_wanted.swap(true, Ordering::SeqCst) {
            self.wake();
        }
        settled
    }

    /// Whether the log waits for another cut than the last one.
    pub(crate) fn is_stuck(&self) -> bool {
        self.state().stuck
    }

    /// Whether the sync thread has ended.
    pub(crate) fn has_stopped(&self) -> bool {
        self.state().has_stopped
    }

    /// The bases of `cut` are in force, which proves everything below it. The frames of the shard
    /// up to there are written ([`is_settled`](Writer::is_settled)).
    pub(crate) fn fill_hole(&self, cut: &CutPoint) {
        if self.hole.swap(false, Ordering::SeqCst) {
            self.proven(cut.end, cut.total);
            self.wake();
        }
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
            FsyncPolicy::EverySec if self.unsynced() >= self.shared.sync_early => Duration::ZERO,
            FsyncPolicy::EverySec => self
                .shared
                .sync_interval
                .saturating_sub(last_sync.elapsed()),
            FsyncPolicy::Always | FsyncPolicy::No => self.shared.sync_interval,
        }
    }

    /// Syncs the segments that cuts took out of use; whether all of them are.
    fn sync_retired(&self) -> bool {
        loop {
            let next = {
                let state = self.state();
                let first = state.retired.front();
                first.map(|retired| (retired.file.clone(), retired.end, retired.total))
            };
            let Some((file, end, total)) = next else {
                return true;
            };
            let started = Instant::now();
            if let Err(error) = file.sync_data() {
                self.state().retired_failed = true;
                self.sync_failed(&error);
                return false;
            }
            self.status().sync_finished(started.elapsed());
            // Only this thread takes one away, and a cut that leaves a hole, which comes after a
            // failed sync.
            self.state().retired.pop_front();
            self.proven(end, total);
        }
    }

    fn sync(&self) {
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
            return;
        }
        let started = Instant::now();
        match file.sync_data() {
            Ok(()) => {
                self.status().sync_finished(started.elapsed());
                self.proven(end, total);
            }
            Err(error) => self.sync_failed(&error),
        }
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
        self.status().set_health(LogHealth::SyncFailing);
        tracing::error!(
            shard = self.shard.0,
            error = %error,
            "fsync of the append-only file failed; writes stop until its unsynced tail is safe \
             in a replacement segment"
        );
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

    /// The unsynced tail is not in memory. If it lies in segments that a cut took out of use, the
    /// log goes on in the one it has, and the bases of that cut prove what is below it; whether
    /// the log can go on.
    fn cannot_replace(&self, state: &mut State) -> bool {
        let goes_on = state.retired_failed && !state.sealed;
        if goes_on {
            self.leave_hole(state);
        } else {
            state.stuck = true;
        }
        tracing::error!(
            shard = self.shard.0,
            "the unsynced tail is not in memory; nothing more counts as durable until the log is \
             rewritten"
        );
        goes_on
    }

    /// Whether the shard can go on: its tail is safe, and there is a segment to write to.
    fn replace_tail(&self, tail: &Tail, sync_failed: bool) -> bool {
        // A file that was only sealed can still prove what it has.
        let proven_in_place = !sync_failed && {
            self.sync();
            !self.state().sync_failed
        };
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
                tracing::error!(shard = self.shard.0, error = %error, "cannot replace the failed segment");
                false
            }
        }
    }

    /// Writes `frames` to the segment of a new generation and syncs it.
    fn replace(&self, frames: &[KeptFrame]) -> io::Result<Replacement> {
        let durable = self.lane.clock().durable();
        let segments = self
            .shared
            .manifest
            .start_generation(durable, None, |_| {})?;
        let mut segments = segments.into_iter();
        let segment = segments
            .nth(self.shard.index())
            .ok_or(io::ErrorKind::NotFound)?;
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
        let started = Instant::now();
        if let Err(error) = segment.file.sync_data() {
            self.status().fsync_failures.fetch_add(1, Ordering::Relaxed);
            return Err(error);
        }
        self.status().sync_finished(started.elapsed());
        self.allocated.store(position, Ordering::SeqCst);
        Ok(Replacement {
            file: segment.file,
            header: segment.header,
            position,
        })
    }
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
