//! Scenarios of the log over a disk that fails, and over the real one.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod crash;
mod damage;
#[cfg(feature = "failpoints")]
mod failpoints;
mod failures;
mod golden;
mod harness;
mod page_cache;
mod real;
mod rewrite;
mod tails;
