//! Starting from what users have: dumps and logs of Redis, directories of earlier versions.
//!
//! What it guarantees: the source is only read; what cannot be read as a whole is refused with
//! file and offset, and nothing of it counts; a torn end is ignored only where Redis ignores it,
//! and reported. Files are read in bounded buffers. What it does not know: sockets,
//! configuration, and how the new directory is served.
//!
//! In reading order:
//!
//! * [`source`]: what lies at a path, and which of several sources a start goes by.
//! * [`redis_manifest`]: the manifest of a multi-part log of Redis.
//! * [`load`](mod@load): a source put into shards; `log_file` reads one log, `frames` those of
//!   version 2, `own_log` those of version 3.
//! * [`digest`]: whether two keyspaces are the same.
//! * [`start`]: which data a start goes by.
//! * [`mod@migrate`]: a source made into a new directory.
//! * [`error`]: what can be wrong.

#![forbid(unsafe_code)]

pub mod source;

pub mod redis_manifest;

mod frames;
pub mod load;
mod log_file;
mod own_log;

pub mod digest;

pub mod start;

pub mod migrate;

pub mod error;

pub use digest::KeyspaceDigest;
pub use error::ImportError;
pub use load::{ImportOptions, ImportProgress, ImportSummary, NoProgress, load};
pub use source::{Source, detect};
pub use start::{Authority, StartSource, shards_in_place, start_source};
