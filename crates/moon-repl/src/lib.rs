//! The clock of the one history: who issues an LSN, what is committed, who waits for it.
//!
//! * [`log`]: [`CommitLog`], the one way by which a shard adds a frame to the history, and
//!   [`FrameSink`], by which others see the frames.
//! * [`clock`]: [`Clock`], the head and the marks that all shards share.
//! * [`lane`]: [`Lane`], the only type that issues.
//! * [`memory`]: [`MemoryLog`], the log without files.
//!
//! What this crate guarantees: the numbering is dense, and no mark ever jumps over a frame that
//! is not finished. It knows no files and no sockets.
//!
//! The ordering is checked by a loom model:
//! `RUSTFLAGS="--cfg loom" cargo test -p moon-repl --release --lib loom`

pub mod clock;
pub mod lane;
pub mod log;
pub mod memory;
mod sync;

#[cfg(all(test, loom))]
mod loom_model;

pub use clock::{Clock, CommitOn, Waker};
pub use lane::Lane;
pub use log::{CommitLog, FrameKind, FrameSink, LogHealth, OsError};
pub use memory::MemoryLog;
