//! The append-only log: what a shard appends is in a file when [`ShardLog`] says so, and what is
//! recovered after any crash is a prefix of the one history.
//!
//! What it guarantees: a frame counts as written after its write returned, as durable after a
//! sync that began later; a failed sync is never counted; recovery finds everything durable and
//! no hole, or refuses and names file, offset and LSN range. What it does not know: commands,
//! sockets, and what the payloads mean.
//!
//! In reading order:
//!
//! * [`frame`], [`segment`]: the bytes (`docs/format/segment.md`).
//! * [`storage`], [`real`], [`faulty`]: the file operations, on a disk and on one that fails.
//! * [`policy`]: the values of `appendfsync`.
//! * [`log`], `writer`: a shard's end of the log, and the sync thread's.
//! * [`pool`]: all of them together.
//! * `manifest_file`: the one place that replaces the manifest.
//! * [`handle`], [`rdb_file`], [`rewrite`]: a smaller log, while the old one goes on.
//! * [`recovery`]: from files to a running log, with `scan` (one segment) and `plan` (all).
//! * [`migrate`]: version 1 brought to the layout of all later ones, in place.
//! * [`inspect`]: a log seen from outside, whatever is wrong with it; [`copy`](mod@copy): files of another
//!   directory or generation.
//! * [`status`], [`error`], `trouble`: what it tells.
//! * `failpoint`: where tests kill it.

pub mod frame;
pub mod segment;

pub mod faulty;
pub mod real;
pub mod storage;

pub mod policy;

pub mod log;
mod writer;

mod manifest_file;
pub mod pool;

pub mod handle;
pub mod rdb_file;
pub mod rewrite;

mod plan;
pub mod recovery;
mod scan;

pub mod migrate;

pub mod inspect;

pub mod copy;

pub mod error;
pub mod failpoint;
pub mod status;
mod trouble;

pub use error::{RecoverError, ReplayError, RewriteError, ShutdownError};
pub use faulty::FaultyStorage;
pub use handle::AofHandle;
pub use log::ShardLog;
pub use migrate::{MigrateError, Migrated, migrate_in_place};
pub use policy::FsyncPolicy;
pub use pool::AofWriterPool;
pub use rdb_file::{DumpFile, RdbFile, RdbFileInfo};
pub use real::RealStorage;
pub use recovery::{AofOptions, NoProgress, Progress, Recovery, ReplaySink, open_for_rewrite};
pub use rewrite::{Rewrite, RewriteSummary};
pub use status::{AofStatus, LogFailure, RecoverySummary};
pub use storage::{Storage, StorageFile};
