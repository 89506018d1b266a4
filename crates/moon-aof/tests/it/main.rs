//! Scenarios of the log over a disk that fails, and over the real one.

mod crash;
mod damage;
mod failures;
mod harness;
mod real;
mod tails;
