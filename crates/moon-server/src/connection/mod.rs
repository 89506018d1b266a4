//! One client connection: a task on its shard's thread.
//!
//! In reading order:
//! * [`socket`]: the two halves; writing what the gate lets out.
//! * [`read_buffer`]: the memory that connections read into, and the rest of one read.
//! * [`session`]: what the connection remembers: database, protocol, transaction, watches.
//! * [`pipeline`]: the requests of one read buffer: parsed, routed, executed, answered.
//! * [`transaction`]: MULTI, EXEC, WATCH.
//! * [`blocking`]: commands that wait.
//! * [`commands`]: the commands that the server itself runs: CONFIG, INFO, HELLO and the like.
//! * [`client_command`]: CLIENT and its subcommands; [`memory_command`]: MEMORY.
//! * [`pubsub_command`]: SUBSCRIBE and its kin, PUBLISH, PUBSUB.
//! * [`debug`]: DEBUG and its subcommands.
//! * [`watch_commands`]: SLOWLOG, LATENCY, MONITOR; [`told`]: server commands, told to these.
//! * [`pause`]: CLIENT PAUSE. [`busy`]: waiting for data, unless a script has it for long.
//! * [`migrate`]: MIGRATE, and the servers it talks to.

mod blocking;
pub(crate) mod busy;
mod client_command;
mod commands;
mod debug;
mod memory_command;
mod migrate;
pub(crate) mod pause;
mod pipeline;
mod pubsub_command;
mod read_buffer;
mod session;
mod socket;
mod told;
mod tracking_command;
mod transaction;
mod watch_commands;

pub use client_command::measure_clients;
pub(crate) use commands::run_in_transaction as run_server_command;
pub use pipeline::serve;
pub(crate) use pipeline::{Close, Connection};
pub use socket::Socket;
