//! Test support for everything that runs a real server: it starts the process, talks to it, kills
//! it, remembers what it promised and checks what it kept.
//!
//! What the harness guarantees to a test:
//! * a server that was killed is dead and its port free before the next one starts;
//! * readiness is a reply, never a pause;
//! * an operation is *acknowledged* only when its reply was read and was the expected one;
//!   everything sent and not answered is *unknown* and may be there or not;
//! * verification compares exact sets, and a violation names what is wrong with which key.
//!
//! Used by `xtask` and by the end-to-end tests; no crate of the server depends on it.
//!
//! * [`reply`]: a reply as a value.
//! * [`client`]: a blocking, pipelining connection.
//! * [`server`]: a server process on its own port and directory.
//! * [`model`]: the keyspace a test expects.
//! * [`op`]: operations: how they are sent, what they do to the model, what they answer.
//! * [`typed`]: operations on sorted sets, streams and bitmaps.
//! * [`groups`]: operations on streams that several consumers share.
//! * [`fields`]: operations on fields of hashes that have deadlines.
//! * [`sketches`]: operations on HyperLogLogs.
//! * [`scripts`]: scripts and functions that run any commands.
//! * [`workload`]: seeded generators of operations.
//! * [`load`]: the threads that drive a server and keep the ledger.
//! * [`rewriter`]: a client that rewrites the log meanwhile.
//! * [`snapshot`]: the keyspace as a server shows it.
//! * [`verify`]: whether what was recovered is what was promised.
//! * [`shared`]: the same for one history that all connections write to.

pub mod client;
pub mod fields;
pub mod groups;
pub mod load;
pub mod model;
pub mod op;
pub mod reply;
pub mod rewriter;
pub mod scripts;
pub mod server;
pub mod shared;
pub mod sketches;
pub mod snapshot;
pub mod typed;
pub mod verify;
pub mod workload;

pub use client::Client;
pub use reply::Reply;
pub use server::{Flavor, FsyncPolicy, PipelineOrder, Server, ServerConfig};
