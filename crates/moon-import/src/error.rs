//! Why a source cannot be loaded. Every error names its file; where bytes are wrong, the offset.

use crate::redis_manifest::RedisManifestFault;
use moon_aof::RecoverError;
use moon_commands::ReplayError;
use moon_commands::load::LoadError;
use moon_core::Lsn;
use moon_manifest::{ManifestError, ShardCountError};
use std::io;
use std::path::PathBuf;

/// Why a source cannot be loaded. The source is unchanged, and nothing of it counts.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// A file or directory could not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// What was read.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The directory holds nothing that could be loaded.
    #[error(
        "nothing in {} can be loaded: there is no dump.rdb, no appendonly.aof, and no append-only \
         directory",
        path.display()
    )]
    NothingThere {
        /// The directory.
        path: PathBuf,
    },
    /// The file is nothing that could be loaded.
    #[error(
        "{} is neither an RDB file nor an append-only log nor a manifest",
        path.display()
    )]
    UnknownFile {
        /// The file.
        path: PathBuf,
    },
    /// The file is one of several that belong together.
    #[error("{} is a part of the log of {}; name that file or its directory", path.display(), manifest.display())]
    PartOfLog {
        /// The file.
        path: PathBuf,
        /// The manifest beside it.
        manifest: PathBuf,
    },
    /// Two sources lie there, and which one counts is not for a program to guess.
    #[error(
        "{} and {} are both there; name the one that holds the newest data",
        first.display(),
        second.display()
    )]
    Ambiguous {
        /// The one.
        first: PathBuf,
        /// The other.
        second: PathBuf,
    },
    /// A manifest of this server is not what any version writes.
    #[error("cannot use {}", path.display())]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// What is wrong.
        source: ManifestError,
    },
    /// A manifest of Redis is not what Redis writes.
    #[error("{} line {line}: {fault}", path.display())]
    RedisManifest {
        /// The manifest.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        fault: RedisManifestFault,
    },
    /// There are files of a log, but no manifest that names them.
    #[error(
        "{} holds bases or segments, but no manifest; restore the manifest",
        path.display()
    )]
    ManifestMissing {
        /// The append-only directory.
        path: PathBuf,
    },
    /// A file that the manifest names does not exist.
    #[error("{} is named by {}, but missing", path.display(), named_by.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// The manifest.
        named_by: PathBuf,
    },
    /// A base that the manifest names does not exist.
    #[error("AOF base RDB missing: {}; nothing was changed", path.display())]
    BaseMissing {
        /// The base.
        path: PathBuf,
    },
    /// An RDB file cannot be loaded.
    #[error("cannot load {}", path.display())]
    Rdb {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: LoadError,
    },
    /// Something follows the end of an RDB file.
    #[error(
        "{} goes on behind the end of the RDB data at byte {offset}; if it is an append-only log \
         with a preamble, its name must end in .aof",
        path.display()
    )]
    TrailingBytes {
        /// The file.
        path: PathBuf,
        /// Where the RDB data ends.
        offset: u64,
    },
    /// A request of a log cannot be applied.
    #[error("cannot load {}", path.display())]
    Replay {
        /// The log.
        path: PathBuf,
        /// What is wrong, with the offset in the file.
        source: ReplayError,
    },
    /// A log that others follow, or that must be whole, ends in the middle of something.
    #[error(
        "{} is cut off: {bytes} bytes from byte {offset} on are no whole request or transaction",
        path.display()
    )]
    Truncated {
        /// The log.
        path: PathBuf,
        /// Where the last whole request or transaction ends.
        offset: u64,
        /// Bytes from there on.
        bytes: u64,
    },
    /// A frame of version 2 is damaged.
    #[error("{} is damaged at byte {offset}: {fault}", path.display())]
    Frame {
        /// The file.
        path: PathBuf,
        /// Where the frame begins.
        offset: u64,
        /// What is wrong with it.
        fault: FrameFault,
    },
    /// A start with a log finds none but one that Redis wrote.
    #[error(
        "{} is an append-only log of Redis. Convert it with `moon-server migrate-aof --from {} \
         --to NEW_DIR --shards N` and start with --dir NEW_DIR, or move it away",
        path.display(),
        path.display()
    )]
    LogOfRedis {
        /// Its file or manifest.
        path: PathBuf,
    },
    /// A log of an earlier version has another number of shards than is configured.
    #[error(
        "{counts}. {} is an {kind} and is started with {} shards, or converted with `moon-server \
         migrate-aof --from {} --to NEW_DIR --shards {}`",
        path.display(),
        counts.manifest,
        path.display(),
        counts.config
    )]
    ShardCount {
        /// Both numbers.
        counts: ShardCountError,
        /// What it is.
        kind: &'static str,
        /// Its directory.
        path: PathBuf,
    },
    /// A dump was written after the log was closed.
    #[error(
        "the append-only log in {} was closed at LSN {at} by `appendonly no`, and the dump {} is \
         newer. To use the dump, move that directory away; to use the log, move the dump away",
        log.display(),
        dump.display()
    )]
    NewerDump {
        /// The append-only directory.
        log: PathBuf,
        /// Where the log ends.
        at: Lsn,
        /// The dump.
        dump: PathBuf,
    },
    /// The log holds what the dump does not, and is not to be loaded.
    #[error(
        "appendonly is no, but the dump {} is older than the append-only log in {}. Start with \
         appendonly yes and switch it off with CONFIG SET; or, to lose what the dump does not \
         have, move the log away",
        dump.display(),
        log.display()
    )]
    OlderDump {
        /// The dump.
        dump: PathBuf,
        /// The append-only directory.
        log: PathBuf,
    },
    /// A log of this version cannot be read.
    #[error(transparent)]
    Log(#[from] RecoverError),
}

/// What is wrong with a frame of version 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameFault {
    /// It has no payload.
    #[error("a frame of no bytes")]
    Empty,
    /// Its position is before the one of the frame in front of it.
    #[error("LSN {lsn} stands behind LSN {before}")]
    Descends {
        /// Its position.
        lsn: u64,
        /// The position of the frame before it.
        before: u64,
    },
    /// Its payload ends inside a request.
    #[error("the frame ends in the middle of a request")]
    CutRequest,
    /// It says that it goes on behind the end of the file, but what is there is no beginning of a
    /// payload: the length is wrong.
    #[error("a frame of {len} bytes, more than the file has, and not because it was cut off")]
    Length {
        /// The length it gives.
        len: u32,
    },
}

pub(crate) fn read_error(path: &std::path::Path) -> impl FnOnce(io::Error) -> ImportError {
    let path = path.to_owned();
    |source| ImportError::Read { path, source }
}
