//! End-to-end tests: a real server process, driven over its sockets.
//!
//! Each test starts its own server on its own port and directory. With `MOON_TEST_SERVER` set to
//! the path of a `redis-server`, the tests that say nothing of this server alone run against that
//! one, which shows that they ask for Redis's behaviour and not for ours.

#![allow(
    clippy::unwrap_used,
    reason = "a test ends at the first thing that is not as expected"
)]

mod support;

mod admission;
mod blocking;
mod blocking_compared;
mod busy;
mod client_memory;
mod clients;
mod connection_state;
mod deadlines;
mod debug;
mod disk;
mod documents;
mod expiry;
mod group_reads;
mod hard_transactions;
mod isolation;
mod memory;
mod migrate;
mod monitor;
mod move_keys;
mod notify;
mod oracle;
mod oracle_cases;
mod pause;
mod protocol;
mod pubsub;
mod rewrite;
mod script_effects;
mod scripts;
mod shutdown;
mod sigkill;
mod slowlog;
mod snapshots;
mod stale_reads;
mod startup;
mod stuck_log;
mod told;
mod tools;
mod tracking;
mod transactions;
mod types;
