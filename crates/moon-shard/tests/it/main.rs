//! Shards on real threads over a log whose progress the tests decide.
//!
//! In reading order:
//! * `disk`: a log that finishes frames when the test says so.
//! * `world`: shard threads, and clients that do what a connection does.
//! * `gate`: what leaves, and when. `room`: the in-flight bound. `borrow`: several shards.
//! * `tick`: what happens unasked.
//! * `replay`: the parallel replay against live data. `mailbox`: no lost wake-up.
#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

mod borrow;
mod disk;
mod gate;
mod mailbox;
mod replay;
mod room;
mod tick;
mod world;
