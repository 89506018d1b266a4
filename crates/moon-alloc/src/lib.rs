//! The allocator of the server: mimalloc, counted. [`allocated`] is exact at any time and costs
//! nothing to keep: what the allocator sets aside for a request is a function of its size alone
//! ([`good_size`]), so neither counting up nor counting down asks the allocator.
//!
//! In reading order:
//! * [`size`]: the size classes of mimalloc.
//! * `counters`: who counts where, so that threads do not share cache lines.
//! * `allocator`: [`Allocator`], what a program declares as its global allocator.
//! * [`statistics`]: what mimalloc itself knows, and giving free memory back.
//!
//! A program that does not declare [`Allocator`] as its global allocator, such as a unit test,
//! sees zeros.

mod allocator;
mod counters;
pub mod size;
pub mod statistics;

pub use allocator::Allocator;
pub use counters::{OwnCounter, allocated, allocated_here};
pub use size::good_size;
pub use statistics::{collect, collect_by_hand, text};
