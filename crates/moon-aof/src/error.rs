//! What can go wrong, one enum per operation.

use crate::segment::SegmentHeaderError;
use moon_core::{Lsn, ShardId};
use moon_manifest::{ManifestError, ShardCountError};
use std::io;
use std::path::PathBuf;

/// Why a log cannot be recovered. None of these changed anything on disk, except where the text
/// says that something could not be written.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// A file or directory could not be read.
    #[error("cannot read {path}")]
    Read {
        /// What was read.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file or directory could not be written, synced or renamed.
    #[error("cannot write {path}")]
    Write {
        /// What was written.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The manifest is not what any version writes.
    #[error("cannot use {path}")]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// What is wrong.
        source: ManifestError,
    },
    /// The directory was written with another number of shards.
    #[error(transparent)]
    ShardCount(#[from] ShardCountError),
    /// There are segments that hold frames, or bases, that belong to a manifest which is lost.
    #[error(
        "{path} holds data, but there is no manifest that names it; restore the manifest or move \
         the file away"
    )]
    Unnamed {
        /// The file.
        path: PathBuf,
    },
    /// The directory has the layout of version 1 or 2.
    #[error("{path} is an append-only directory of an earlier version; it must be migrated first")]
    Legacy {
        /// The directory.
        path: PathBuf,
    },
    /// The log was closed by `appendonly no`.
    #[error("the log was closed at LSN {at} by `appendonly no`; a newer dump may exist")]
    Closed {
        /// Where it ends.
        at: Lsn,
    },
    /// The directory holds a log that was not closed: it must be recovered, not replaced.
    #[error(
        "{path} is the manifest of a log that is in force; it cannot be replaced by another state"
    )]
    InForce {
        /// The manifest.
        path: PathBuf,
    },
    /// A file that the manifest names does not exist.
    #[error("{path} is named by the manifest, but missing")]
    Missing {
        /// The segment.
        path: PathBuf,
    },
    /// A segment has no good header.
    #[error("{path} is damaged at byte 0")]
    SegmentHeader {
        /// The segment.
        path: PathBuf,
        /// What is wrong.
        source: SegmentHeaderError,
    },
    /// A segment's header belongs to another place.
    #[error("{path} is not the segment that belongs here: its header says {field} {found}")]
    WrongSegment {
        /// The file.
        path: PathBuf,
        /// Which field differs.
        field: &'static str,
        /// Its value.
        found: u64,
    },
    /// Bytes below the durable mark are missing or changed.
    #[error(
        "{path} is damaged at byte {offset}: LSN {missing_from} to {missing_to} cannot be read, \
         but everything below LSN {durable} was durable; nothing was changed. Restore the \
         append-only directory from a backup or a replica"
    )]
    Damage {
        /// The segment in which the missing frame should be.
        path: PathBuf,
        /// Where in it the damage starts.
        offset: u64,
        /// First missing position.
        missing_from: Lsn,
        /// First position that can be read again, or the durable mark.
        missing_to: Lsn,
        /// The durable mark.
        durable: Lsn,
    },
    /// Two frames claim overlapping parts of the stream.
    #[error("{path} at byte {offset}: the frame at LSN {lsn} overlaps the one that ends at {end}")]
    Overlap {
        /// The segment of the later frame.
        path: PathBuf,
        /// Where the frame starts.
        offset: u64,
        /// Its position.
        lsn: Lsn,
        /// Where the frame before it ends.
        end: Lsn,
    },
    /// A frame changed between scan and replay.
    #[error("{path} changed while it was read: the frame at byte {offset} was good before")]
    Changed {
        /// The segment or manifest.
        path: PathBuf,
        /// Where.
        offset: u64,
    },
    /// Another process uses the directory.
    #[error("{path} is in use by another process")]
    InUse {
        /// The lock file.
        path: PathBuf,
    },
    /// A frame could not be applied.
    #[error("cannot replay the frame of {shard} at LSN {lsn}")]
    Replay {
        /// Whose frame.
        shard: ShardId,
        /// Its position.
        lsn: Lsn,
        /// Why not.
        source: ReplayError,
    },
    /// The replay was not finished before the log was to be opened.
    #[error("the log cannot be opened before it was replayed")]
    NotReplayed,
    /// The clock given does not stand at the recovered end, or has another number of shards.
    #[error("the clock stands at LSN {clock}, the log ends at {end}")]
    Clock {
        /// The clock's head.
        clock: Lsn,
        /// The recovered end.
        end: Lsn,
    },
    /// A thread could not be started.
    #[error("cannot start the sync thread of {shard}")]
    Thread {
        /// Whose.
        shard: ShardId,
        /// Why not.
        source: io::Error,
    },
}

/// Why a sink did not take a frame.
pub type ReplayError = Box<dyn std::error::Error + Send + Sync>;

/// Why a shutdown was not clean. What is in the files stays there and is recovered by the next
/// start like after a crash.
#[derive(Debug, thiserror::Error)]
pub enum ShutdownError {
    /// Frames could not be written or synced.
    #[error("{shard} has frames that are not durable")]
    NotDurable {
        /// The shard.
        shard: ShardId,
    },
    /// A sync did not come back in time.
    #[error("a sync of {shard} did not finish in time")]
    Timeout {
        /// The shard.
        shard: ShardId,
    },
    /// The last marks or the manifest could not be written.
    #[error("cannot write the clean-stop mark")]
    Mark {
        /// Why not.
        source: io::Error,
    },
}

/// Why a rewrite did not happen. The log goes on as before: the generations in force stay in
/// force, and another rewrite may be tried.
#[derive(Debug, thiserror::Error)]
pub enum RewriteError {
    /// There is one rewrite at a time.
    #[error("a rewrite of the append-only log is in progress")]
    InProgress,
    /// The log has stopped, or is stopping.
    #[error("the append-only log has stopped")]
    Stopped,
    /// Segments that earlier cuts took out of use are not synced yet.
    #[error("{shard} has segments of earlier rewrites that are not synced yet")]
    NotSynced {
        /// The shard.
        shard: ShardId,
    },
    /// The next segments, or the manifest that names them, could not be made durable.
    #[error("cannot begin the next generation of the append-only log")]
    Begin {
        /// Why not.
        source: io::Error,
    },
    /// A shard did not change to its new segment: the tail of its old one is being brought to
    /// safety after a failed sync.
    #[error("{shard} could not change to its new segment, because its old one is failing")]
    Refused {
        /// The shard.
        shard: ShardId,
    },
    /// The step before was not taken.
    #[error("the cut has not been made")]
    NotCut,
    /// A shard's base was not finished.
    #[error("the base of {shard} is not finished")]
    Unfinished {
        /// The shard.
        shard: ShardId,
    },
    /// A base could not be created or made durable.
    #[error("cannot write {path}")]
    Base {
        /// The base, or its directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Somebody asked for an end.
    #[error("the rewrite was told to stop")]
    Interrupted,
    /// The manifest that names the bases could not be made durable.
    #[error("cannot put the new generation in force")]
    Manifest {
        /// Why not.
        source: io::Error,
    },
}
