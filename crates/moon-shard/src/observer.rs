//! What a shard tells about itself, for INFO, metrics, the slow log and monitors.

use crate::caller::Caller;
use crate::shard::SessionId;
use moon_commands::context::Counts;
use moon_commands::notify::{Class, Event};
use moon_commands::{CommandId, CommandSpec};
use moon_core::Lsn;
use moon_resp::Args;
use moon_store::{DbIndex, ShardData, StaleKeys};
use std::time::Duration;

/// What a stretch of execution must tell beyond what is counted.
#[derive(Clone, Copy, Debug)]
pub struct Watch {
    /// From how many nanoseconds on a command is slow; `u64::MAX` if none is.
    pub slow_nanos: u64,
    /// Somebody wants to see each command.
    pub is_monitored: bool,
}

impl Default for Watch {
    fn default() -> Watch {
        Watch {
            slow_nanos: u64::MAX,
            is_monitored: false,
        }
    }
}

/// A command that ran.
#[derive(Clone, Copy)]
pub struct Executed<'a> {
    /// Its row, that of its subcommand if it has one.
    pub spec: &'a CommandSpec,
    /// For whom.
    pub caller: Caller,
    /// The database that was selected.
    pub db: DbIndex,
    /// The request.
    pub args: Args<'a>,
}

/// Receives what happens on one shard, on its thread.
pub trait Observer {
    /// Commands ran, each for about `nanos_each`; they are counted under these numbers
    /// ([`moon_commands::stat_id`]).
    fn commands(&self, ids: &[CommandId], nanos_each: u64);
    /// A command ran and answered with an error; `text` begins with its code.
    fn failed(&self, id: CommandId, text: &str);
    /// A command was refused with an error before it ran.
    fn refused(&self, _id: CommandId, _text: &str) {}
    /// The error with which commands are answered that wait for data while somebody has it for
    /// long, if they are not to wait on.
    fn refusal(&self) -> Option<&'static str> {
        None
    }
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

    /// What else is to be told; asked at the start of a stretch.
    fn watch(&self) -> Watch {
        Watch::default()
    }
    /// A command took at least [`Watch::slow_nanos`].
    fn slow(&self, _command: &Executed<'_>, _nanos: u64) {}
    /// A command ran, while somebody wants to see it; what shows it must not leave before
    /// `depends_on`, or the end of the turn if that is [`moon_store::THIS_TURN`].
    fn executed(&self, _command: &Executed<'_>, _depends_on: Lsn) {}
    /// Everything told with [`Observer::executed`] so far may be shown once `end` is committed.
    fn show(&self, _end: Lsn) {}
    /// Removing what has expired, unasked, took so long.
    fn expire_cycle(&self, _taken: Duration) {}
    /// Evicting keys took so long.
    fn eviction_cycle(&self, _taken: Duration) {}
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
