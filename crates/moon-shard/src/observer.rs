//! What a shard tells about itself, for INFO and metrics.

use moon_commands::CommandId;
use moon_commands::context::Counts;
use moon_commands::execute::Outcome;
use moon_core::Lsn;
use moon_store::ShardData;

/// Receives what happens on one shard, on its thread.
pub trait Observer {
    /// A command ran for `nanos`.
    fn command(&self, id: CommandId, nanos: u64, outcome: Outcome, counts: Counts);
    /// An error reply was written; `text` begins with its code.
    fn error(&self, text: &str);
    /// A turn or transaction of `payload_bytes` became a frame that ends at `end`.
    fn frame(&self, payload_bytes: usize, end: Lsn);
    /// Keys were removed because their deadline had passed.
    fn expired(&self, keys: u64);
    /// The data after a batch of commands, for the counts of keys.
    fn data(&self, data: &ShardData);
}

/// Observes nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoObserver;

impl Observer for NoObserver {
    fn command(&self, _: CommandId, _: u64, _: Outcome, _: Counts) {}
    fn error(&self, _: &str) {}
    fn frame(&self, _: usize, _: Lsn) {}
    fn expired(&self, _: u64) {}
    fn data(&self, _: &ShardData) {}
}
