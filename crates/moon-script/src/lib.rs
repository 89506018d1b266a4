//! Lua 5.1 for scripts and functions, as tight a sandbox as that of Redis. Pure: no sockets, no
//! clock, no files; commands, time and interruption come in through [`Host`].
//!
//! What it promises:
//!
//! * A script sees the globals of Redis and no others, cannot change any of them, and leaves
//!   nothing behind for the next one.
//! * Whatever a script does, it ends when the host says so, and neither panics nor takes more
//!   memory than [`Limits`] allows. The state works afterwards.
//! * A run costs no new Lua state: functions are compiled once and kept by their digest.
//! * Replies, conversions and error texts are those of Redis, byte for byte.
//!
//! A thread that runs an [`Engine`] needs a stack of [`STACK_BYTES`], because Lua nests up to 200
//! C calls.
//!
//! Modules, in reading order:
//!
//! * [`host`]: what the engine asks of the server.
//! * [`engine`]: [`Engine`], the scripts it knows and how one runs.
//! * [`functions`]: libraries, and the functions in them.
//! * [`shebang`]: the first line of a script.
//! * `sandbox` and `prelude.lua`: the globals that scripts see, and what guards them.
//! * `api`: the `redis` table.
//! * `from_reply` and `to_reply`: both conversions between replies and Lua values.
//! * `raised`: errors on their way through Lua.
//! * `json`, `msgpack`, `packing`, `bits`, `maths`: the libraries.

#![forbid(unsafe_code)]

mod api;
mod bits;
pub mod engine;
mod from_reply;
pub mod functions;
pub mod host;
mod json;
mod maths;
mod msgpack;
mod number;
mod packing;
mod raised;
mod sandbox;
pub mod shebang;
mod state;
mod to_reply;

pub use engine::{Engine, EngineError, Limits, LoadError, RunError, STACK_BYTES, ScriptSha};
pub use functions::{Function, Library, LibraryError};
pub use host::{AclAnswer, Host, LogLevel, Stop};
pub use shebang::Flags;
