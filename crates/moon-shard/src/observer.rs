//! What a shard tells about itself, for INFO and metrics.

use moon_commands::CommandId;
use moon_commands::context::Counts;
use moon_commands::notify::{Class, Event};
use moon_core::Lsn;
use moon_store::{ShardData, StaleKeys};

use crate::shard::SessionId;

/// Receives what happens on one shard, on its thread.
pub trait Observer {
    /// Commands ran, each for about `nanos_each`.
    fn commands(&self, ids: &[CommandId], nanos_each: u64);
    /// A command answered with an error; `text` begins with its code.
    fn failed(&self, id: CommandId, text: &str);
    /// What a stretch of commands looked up and removed.
    fn counts(&self, counts: Counts);
    /// A turn or transaction of `payload_bytes` became a frame that ends at `end`.
    fn frame(&self, payload_bytes: usize, end: Lsn);
    /// Keys, and fields of hashes, were removed because their deadline had passed.
    fn expired(&self, keys: u64, fields: u64);
    /// Keys were removed because memory had run out.
    fn evicted(&self, keys: u64);
    /// What happened to keys, of the `classes` that are told of. Whoever is told must not be before
    /// `depends_on` is committed: [`moon_store::THIS_TURN`] for the frame that the turn in progress,
    /// or the transaction, becomes. Called while commands run.
    fn events(&self, classes: Class, events: Vec<Event>, depends_on: Lsn) {
        let _nobody_is_told = (classes, events, depends_on);
    }
    /// Copies that clients keep of keys are stale, by what the client `by` did, or 0. The clients
    /// are to be told when `depends_on` is committed, which is as for [`Observer::events`].
    fn stale(&self, keys: StaleKeys, by: SessionId, depends_on: Lsn) {
        let _nobody_is_told = (keys, by, depends_on);
    }
    /// The data after a batch of commands, for the counts of keys.
    fn data(&self, data: &ShardData);
}

/// Observes nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoObserver;

impl Observer for NoObserver {
    fn commands(&self, _: &[CommandId], _: u64) {}
    fn failed(&self, _: CommandId, _: &str) {}
    fn counts(&self, _: Counts) {}
    fn frame(&self, _: usize, _: Lsn) {}
    fn expired(&self, _: u64, _: u64) {}
    fn evicted(&self, _: u64) {}
    fn data(&self, _: &ShardData) {}
}
