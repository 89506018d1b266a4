//! Shards on real threads over a log whose progress the tests decide.
//!
//! In reading order:
//! * `disk`: a log that finishes frames when the test says so.
//! * `world`: shard threads, and clients that do what a connection does.
//! * `gate`: what leaves, and when. `room`: the in-flight bound. `borrow`: several shards.
//! * `stall`: a shard that stands still.
//! * `memory`: the memory limit. `tick`: what happens unasked.
//! * `replay`: the parallel replay against live data. `mailbox`: no lost wake-up.
#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

#[global_allocator]
static ALLOCATOR: moon_alloc::Allocator = moon_alloc::Allocator;

mod borrow;
mod disk;
mod gate;
mod mailbox;
mod memory;
mod replay;
mod room;
mod stall;
mod tick;
mod world;
