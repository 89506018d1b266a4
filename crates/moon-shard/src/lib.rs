//! The shard thread: where commands run, in which order, and when their replies may leave.
//!
//! Guarantees: a reply leaves only when everything it shows is committed (the gate); the LSN
//! order is the order of execution; a borrow is a barrier on every shard it touches. Knows no
//! sockets and no protocol state: connections come in through the [`Session`] trait, statistics
//! go out through [`Observer`], the log is a [`moon_repl::CommitLog`].
//!
//! In reading order:
//! * [`gate`]: [`Gate`], the replies of one connection, in order, held until they are safe.
//! * [`mailbox`]: how other threads reach a shard: data messages, and a lane that always moves.
//! * [`shard`]: [`Shard`], one shard on its thread: execution, turns, commit.
//! * [`running`]: [`Running`], a stretch of execution there.
//! * [`caller`]: [`Caller`], the client that commands run for.
//! * [`borrow`]: [`Borrowed`], the data of several shards in one executor's hands.
//! * [`waiting`]: clients that wait for keys, and how they are served.
//! * [`batch`]: commands that run on another shard than their connection's; `replies`: what comes
//!   back.
//! * [`lazy_free`]: the thread that drops what is large.
//! * [`memory`]: the memory limit, and evictions.
//! * [`misconf`]: what cannot be written to disk, and the error that refuses writes meanwhile.
//! * [`pause`]: CLIENT PAUSE: no writes, or no commands, on any shard.
//! * `refuse`: commands that do not wait for data which somebody has for long.
//! * [`observer`]: what a shard tells about itself.
//! * [`thread`]: the thread itself with its tasks: mailbox, committer, clock tick.
//! * [`snapshot`]: the walk: encoding the state at a cut while serving.
//! * [`huge`]: writes to huge values while a walk is on.
//! * [`replay`]: recovery's parallel replay into the shards.

pub mod batch;
pub mod borrow;
#[cfg(feature = "break-borrow-order")]
pub mod breach;
pub mod caller;
pub mod gate;
pub mod huge;
pub mod lazy_free;
pub mod mailbox;
pub mod memory;
pub mod misconf;
pub mod observer;
pub mod pause;
mod refuse;
pub mod replay;
mod replies;
mod running;
pub mod shard;
pub mod snapshot;
pub mod thread;
pub mod waiting;

pub use batch::{Batch, BatchCommand, BatchReply};
pub use borrow::{AtLend, Borrowed, ShardMask};
pub use caller::Caller;
pub use gate::{Gate, GateSizes, Ticket};
pub use lazy_free::LazyFree;
pub use mailbox::{Directory, Mailbox};
pub use memory::Memory;
pub use misconf::{FailingLogs, Misconf};
pub use observer::{Executed, NoObserver, Observer, Watch};
pub use pause::{Pause, PauseMode};
pub use replay::ReplayPool;
pub use running::{Running, WARM_KEYS_MAX};
pub use shard::{Session, SessionId, Shard, ShardConfig};
pub use snapshot::{Image, SnapshotProgress};
pub use thread::{ShardSeed, spawn};
pub use waiting::{Ending, Settled, WaitState, Waiter, WaitingRequest};
