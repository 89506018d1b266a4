//! The interface between whoever executes writes and whoever keeps them.

use bytes::Bytes;
use moon_core::{Lsn, UnixMs};
use std::{fmt, io};

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FrameKind {
    /// Effects on keys of the shard that appends it, replayed by that shard alone.
    Own,
    /// Effects of one transaction over several shards, replayed under a borrow.
    Cross,
    /// No effect on data: marks, or stream bytes such as a PING to replicas.
    Control,
}

/// Whether the log can take new writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogHealth {
    /// Appends and syncs work.
    Healthy,
    /// The last append failed (a full disk, say). What was executed is kept in memory and is
    /// retried; new writes must be refused with MISCONF.
    AppendFailing,
    /// A sync failed. Nothing more counts as durable in that file until its tail is proven in
    /// a replacement; new writes must be refused with MISCONF.
    SyncFailing,
}

/// What the operating system said when the log failed: its error number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OsError(i32);

impl OsError {
    /// `EIO` and `ENOSPC`, which have the same number on every Linux.
    const EIO: OsError = OsError(5);
    const ENOSPC: OsError = OsError(28);

    /// An error number. Zero, which is none, becomes `EIO`.
    #[must_use]
    pub fn new(errno: i32) -> OsError {
        if errno == 0 {
            OsError::EIO
        } else {
            OsError(errno)
        }
    }

    /// The error number.
    #[must_use]
    pub fn errno(self) -> i32 {
        self.0
    }
}

impl From<&io::Error> for OsError {
    fn from(error: &io::Error) -> OsError {
        match (error.raw_os_error(), error.kind()) {
            (Some(errno), _) => OsError::new(errno),
            // A write that takes nothing: Redis, too, calls that a full disk.
            (None, io::ErrorKind::WriteZero) => OsError::ENOSPC,
            (None, _) => OsError::EIO,
        }
    }
}

impl fmt::Display for OsError {
    /// The words of `strerror`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = io::Error::from_raw_os_error(self.0).to_string();
        // The standard library adds the number.
        let words = text.split(" (os error").next().unwrap_or(&text);
        f.write_str(words)
    }
}

/// The history as one shard sees it. Owned by the shard's thread.
///
/// `append` is *issue + publish + enqueue* in one: the LSN is taken, the frame becomes visible
/// to the commit clock as unfinished and enters the shard's queue before anyone can compute a
/// `committed` that jumps over it. It never fails: a frame that cannot be written now is kept
/// and retried, and `committed` stays below its end until it is safe.
pub trait CommitLog {
    /// Adds one frame at the head of the history and returns its end, which `committed` must
    /// reach before any reply that depends on it may leave. `payload` is never empty unless
    /// `kind` is [`FrameKind::Control`]. Above `frame_max` it becomes a run of frames.
    fn append(&mut self, kind: FrameKind, payload: Bytes, now: UnixMs) -> Lsn;

    /// Retries what could not be written, starts a sync that is due, appends the mark that
    /// covers the last writes of a burst. Called every now and then (10 times a second).
    fn tick(&mut self, now: UnixMs);

    /// The global cut of a rewrite: every later frame goes to the segment that was made ready for
    /// it. Called while the shard lends its data to the executor that holds all shards' data, so
    /// nothing is issued between the cuts of the shards. Nothing to do for a log without files.
    fn cut(&mut self);

    /// Whether new writes may be taken.
    fn health(&self) -> LogHealth;

    /// Why it is not healthy. Whoever wraps a log passes this on: clients are told.
    fn cause(&self) -> Option<OsError> {
        None
    }

    /// Bytes appended by this shard and not yet safe as its policy asks: counted against the
    /// shard's memory bound.
    fn bytes_at_risk(&self) -> u64;
}

/// Whoever else wants the frames of a shard: replication, change capture. A log calls it for
/// every frame right after its issue, with no lock held that another shard could wait for.
/// Frames of one shard arrive in LSN order; the numbering is dense, so a receiver that takes
/// frames from all shards knows which one is next. A frame is not committed when it arrives.
pub trait FrameSink: Send {
    /// `payload` covers `[lsn, lsn + payload.len())`.
    fn frame(&mut self, kind: FrameKind, lsn: Lsn, payload: &Bytes);
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn an_error_has_the_words_of_strerror() {
        for (error, words) in [
            (io::Error::from_raw_os_error(28), "No space left on device"),
            (io::Error::from_raw_os_error(5), "Input/output error"),
            (io::Error::from_raw_os_error(27), "File too large"),
            (io::Error::from_raw_os_error(30), "Read-only file system"),
            (io::ErrorKind::WriteZero.into(), "No space left on device"),
            (io::Error::other("whatever"), "Input/output error"),
        ] {
            assert_eq!(OsError::from(&error).to_string(), words);
        }
    }
}
