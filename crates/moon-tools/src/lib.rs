//! Offline tools over an append-only directory: look inside, repair, change the shard count,
//! restore to a point.
//!
//! What they guarantee: a directory in force stays in force until one rename, whatever happens
//! before it; nothing is reinterpreted on the way, a frame keeps its LSN, time and payload; and
//! what a start would do is said by the code of the start itself. They know files through
//! [`moon_aof::Storage`] alone, and no terminal: who wants to see progress passes a [`Progress`].
//!
//! In reading order:
//!
//! * [`time`]: points in time as people write them.
//! * [`progress`]: telling how far a long run is.
//! * [`rdb`]: reading bases whole.
//! * [`check`], [`dump`], [`fix`]: `check-aof`.
//! * [`stream`]: bases and frames of one log, copied into another.
//! * [`reshard`](mod@reshard), [`restore`](mod@restore): what the copy is for.

#![forbid(unsafe_code)]

pub mod time;

pub mod progress;

pub mod rdb;

pub mod check;
pub mod dump;
pub mod fix;

pub mod stream;

pub mod reshard;
pub mod restore;

pub use progress::{NoProgress, Progress};
pub use reshard::{ReshardError, ReshardOutcome, ReshardSummary, reshard};
