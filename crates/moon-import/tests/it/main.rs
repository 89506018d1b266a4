//! Sources of all kinds, written by real servers where there are some, and damaged on purpose.

#![allow(
    clippy::unwrap_used,
    reason = "a test ends at the first thing that is not as expected"
)]

mod damage;
mod golden;
mod harness;
mod redis;
