//! The keyspace of one shard: tables, values, expiry. Pure: no clock, no I/O, no threads.
//!
//! In reading order:
//! * [`key`]: [`Key`], the bytes of a key with their hash, computed once per command.
//! * [`string`]: [`Str`], the bytes of a string value, compact.
//! * `thin`: owners of heap memory that fit beside the tag of a value.
//! * [`value`]: [`Value`], what a key holds.
//! * [`types`]: the values that hold several things: hashes, lists, sets, sorted sets.
//! * `packed_key`, [`clock`]: a stored key with its access clock and flags, in 24 bytes.
//! * `due`: names in the order of their deadlines.
//! * `position`, `table`: the order of keys, and the segmented table that keeps it.
//! * [`db`]: [`Db`], one numbered database: keys, deadlines, the expiry cycle, scan.
//! * [`dirty`]: which keys hold effects that are not committed yet, for the gate.
//! * [`waits`]: keys that clients wait for, for BLPOP and its kin.
//! * [`watch`]: versions of watched keys, for WATCH.
//! * [`tracking`]: which clients keep copies of which keys, for CLIENT TRACKING.
//! * [`evict`]: which key goes when memory runs out.
//! * [`garbage`]: large values that were removed, dropped elsewhere.
//! * [`shard`]: [`ShardData`], everything that execution touches and that a borrow moves.
//! * [`image`], [`walk`]: the state at one moment as RDB bytes, written while commands go on.

pub mod clock;
pub mod db;
pub mod dirty;
mod due;
pub mod evict;
pub mod garbage;
pub mod image;
pub mod key;
pub mod libraries;
mod long_str;
pub mod memory;
mod packed_key;
mod position;
mod prefetch;
pub mod shard;
pub mod string;
mod table;
mod thin;
pub mod tracking;
pub mod types;
pub mod value;
pub mod waits;
pub mod walk;
pub mod watch;

pub use clock::{AccessClock, AccessRule};
pub use db::{Change, Compression, Db, Deadline, ExpireScan};
pub use dirty::{DirtyKeys, THIS_TURN};
pub use evict::{EvictionPolicy, Victim};
pub use garbage::Garbage;
pub use image::{ImageChunk, encode_entry, encode_value};
pub use key::Key;
pub use libraries::{Libraries, Library};
pub use long_str::STRING_LEN_MAX;
pub use memory::MemoryParts;
pub use shard::{DbIndex, ShardData};
pub use string::Str;
pub use tracking::{Reader, StaleKey, StaleKeys, TrackTable};
pub use types::stream;
pub use types::{
    Direction, Encoding, End, Field, Hash, List, LiveFields, Member, NodeLimit, PackLimits, Set,
    SetLimits, Stream, StreamId, ZSet,
};
pub use value::{IntText, Kind, Value, parse_int};
pub use waits::{DbKey, WaitOrder, Waiting, Waits};
pub use walk::{CHUNK_BYTES, HUGE_BYTES, WalkProgress};
pub use watch::{WatchTable, WatchVersion};
