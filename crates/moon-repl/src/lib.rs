//! The clock of the one history: who issues an LSN, what is committed, who waits for it.
//!
//! * [`log`]: [`CommitLog`], the one way by which a shard adds a frame to the history.

pub mod log;

pub use log::{CommitLog, FrameKind, LogHealth};
