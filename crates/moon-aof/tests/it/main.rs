//! Scenarios of the log over a disk that fails, and over the real one.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod adopt;
mod crash;
mod damage;
mod disk_faults;
#[cfg(feature = "failpoints")]
mod failpoints;
mod failures;
mod generations;
mod golden;
mod harness;
mod migrate;
mod page_cache;
mod rdb_files;
mod real;
mod rewrite;
mod rewrite_failures;
mod tails;
