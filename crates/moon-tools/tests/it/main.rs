//! The tools over real logs: written by the log itself, on a disk that fails and loses power.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod check;
mod harness;
mod reshard;
mod restore;
