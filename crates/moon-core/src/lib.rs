//! The few words every moon crate shares.
//!
//! * [`lsn`]: [`Lsn`], a byte position in the one stream of all writes.
//! * [`shard`]: [`ShardId`], [`ShardCount`] and the way from a key to its shard.
//! * [`slot`]: the cluster hash slot of a key (CRC16 with hash tags).
//! * [`time`]: [`UnixMs`], wall-clock milliseconds as an argument, never a clock.
//!
//! There is no logic here beyond these words, and nothing does I/O.

pub mod lsn;
pub mod shard;
pub mod slot;
pub mod time;

pub use lsn::{Generation, Lsn};
pub use shard::{ShardCount, ShardId};
pub use slot::{SLOT_COUNT, Slot, key_slot};
pub use time::UnixMs;
