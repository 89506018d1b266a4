//! A writer that changes segments at the cut of a rewrite.
//!
//! The shard's thread takes the segment made ready into use; the one before is *retired*. The sync
//! thread syncs retired segments before it counts anything behind them as durable.
//!
//! A log whose file failed and whose unsynced tail is in memory does not change segments: the tail
//! is on its way to a replacement segment, and where that one stands among the generations must
//! not depend on who was faster. A log whose tail is *not* in memory (`appendfsync no`) does, and
//! leaves a hole behind: what is in it is in the bases of the cut, so once they are in force it is
//! proven, and before that nothing of this log is.

use super::{State, WayOut, Writer};
use crate::manifest_file::FreshSegment;
use crate::storage::StorageFile;
use crate::trouble::Failure;
use moon_core::{Generation, Lsn};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

/// A segment that a cut took out of use.
pub(super) struct Retired {
    pub(super) file: Arc<dyn StorageFile>,
    /// What a sync of it proves: end of the last finished issue in it, frame bytes up to there.
    pub(super) end: Lsn,
    pub(super) total: u64,
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

/// The shard's side and the sync thread's.
impl Writer {
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

    /// Syncs the segments that cuts took out of use; whether all of them are.
    pub(super) fn sync_retired(&self) -> bool {
        loop {
            let next = {
                let state = self.state();
                let first = state.retired.front();
                first.map(|retired| (retired.file.clone(), retired.end, retired.total))
            };
            let Some((file, end, total)) = next else {
                return true;
            };
            let (synced, taken) = self.status().during_sync(|| file.sync_data());
            if let Err(error) = synced {
                self.state().retired_failed = true;
                self.sync_failed(&error);
                return false;
            }
            self.status().sync_finished(taken);
            // Only this thread takes one away, and a cut that leaves a hole, which comes after a
            // failed sync.
            self.state().retired.pop_front();
            self.proven(end, total);
        }
    }

    /// The unsynced tail is not in memory. If it lies in segments that a cut took out of use, the
    /// log goes on in the one it has, and the bases of that cut prove what is below it; whether
    /// the log can go on.
    pub(super) fn cannot_replace(&self, state: &mut State) -> bool {
        let goes_on = state.retired_failed && !state.sealed;
        if goes_on {
            self.leave_hole(state);
        } else {
            state.stuck = true;
        }
        self.trouble.tell(self.shard, Failure::TailLost, None);
        goes_on
    }
}

/// The side of whoever rewrites the log.
impl Writer {
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

    /// The start of a log in generation `seq`, as a cut: nothing of it lies before.
    pub(crate) fn start_point(&self, seq: Generation) -> CutPoint {
        CutPoint {
            seq,
            end: Lsn::ZERO,
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
}
