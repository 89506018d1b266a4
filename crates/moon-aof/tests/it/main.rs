//! Scenarios of the log over a disk that fails, and over the real one.

mod crash;
mod damage;
#[cfg(feature = "failpoints")]
mod failpoints;
mod failures;
mod golden;
mod harness;
mod real;
mod tails;
