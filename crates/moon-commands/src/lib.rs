//! The command table and the code of every command on data. Knows no sockets, clock or files.
//!
//! In reading order:
//! * [`spec`]: [`CommandSpec`], the one description of a command: name, arity, flags, keys.
//! * [`table`]: every command there is, and the look-up by name.
//! * [`context`]: [`Cx`], what a command's code may use: keys, reply, effects.
//! * [`shard_set`]: [`ShardSet`], the data of one shard or of several that were borrowed.
//! * [`effects`]: [`Effects`], the bytes that repeat a write elsewhere.
//! * [`notify`]: keyspace notifications: what clients are told about keys.
//! * [`execute`](mod@execute): [`execute::execute`], the one way a command runs, live or in replay.
//! * [`error`]: [`CommandError`] and the texts that clients see.
//! * [`parse`]: numbers and options out of arguments; [`long_double`], [`glob`].
//! * [`server_commands`], [`subcommands`], [`pubsub`]: rows of what the server runs itself.
//! * [`docs`]: what COMMAND answers; [`syntax`]: the arguments of every command.
//! * the commands, one module per family: [`strings`], [`keys`], [`keyspace`] with [`scan`],
//!   [`hashes`], [`lists`], [`sets`], [`zsets`], [`streams`], [`dump`], `memory`.
//! * [`blocking`]: what commands that wait have in common; `pop_several`: LMPOP and ZMPOP.
//! * `scripting`: rows around scripts and functions; [`libraries`]: functions as data.
//! * [`debug`]: what DEBUG does with data.
//! * [`requests`]: the requests in a payload and whose data they touch.
//! * [`mod@replay`]: a payload applied again; [`expire`]: keys that expire unasked; [`evict`]: keys
//!   that make room;
//!   [`load`]: the keys of an RDB file.

pub mod bitmaps;
pub mod blocking;
mod collection;
mod command_keys;
pub mod context;
pub mod debug;
pub mod docs;
mod double;
pub mod dump;
pub mod effects;
pub mod error;
pub mod evict;
pub mod execute;
pub mod expire;
pub mod geo;
pub mod glob;
pub mod hashes;
pub mod hyperloglog;
pub mod keys;
pub mod keyspace;
pub mod libraries;
pub mod lists;
pub mod load;
pub mod long_double;
mod memory;
pub mod notify;
pub mod parse;
mod pop_several;
pub mod pubsub;
pub mod replay;
pub mod requests;
pub mod scan;
mod scripting;
pub mod server_commands;
pub mod sets;
pub mod shard_set;
pub mod sort;
pub mod spec;
pub mod streams;
pub mod strings;
pub mod subcommands;
pub mod syntax;
pub mod table;
#[cfg(test)]
mod testing;
pub mod zsets;

pub use context::{Cx, Limits};
pub use effects::Effects;
pub use error::CommandError;
pub use execute::{Outcome, execute};
pub use expire::{ExpireStats, expire_cycle};
pub use load::{LoadError, LoadExpired, LoadSummary, load_entry, load_rdb};
pub use replay::{ReplayError, ReplayStats, StreamEnd, StreamReplay, replay};
pub use scan::cursor_shard;
pub use shard_set::ShardSet;
pub use spec::{CommandId, CommandSpec, Flags, Keys, Run, Scope};
pub use table::{all, by_id, by_stat_id, lookup, stat_count, stat_id};
