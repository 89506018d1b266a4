//! Whom commands run for: for client-side caching, monitors and the slow log.

use crate::shard::SessionId;
use moon_commands::{CommandSpec, Flags, ShardSet};
use moon_core::{ShardCount, ShardId};
use moon_resp::Args;
use moon_store::{Key, Reader, ShardData};

/// The client that commands run for; the default is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// The client's id; 0 for what no client asked for.
    pub client: SessionId,
    /// The shard of its connection.
    pub shard: ShardId,
    /// Whether it keeps copies of what it reads now (CLIENT TRACKING), so that it must be told when
    /// that changes.
    pub remembers: bool,
    /// A script of the client runs, and not the client itself.
    pub in_script: bool,
}

impl Caller {
    /// Whether what a command reads is to be remembered.
    #[inline]
    pub(crate) fn keeps(self, spec: &CommandSpec) -> bool {
        self.remembers
            && spec.flags.contains(Flags::READONLY)
            && !spec.flags.contains(Flags::PUBSUB)
    }

    /// Remembers one key that a command has just read, which `data` holds. `keys_max` as in
    /// [`Caller::remember`].
    pub(crate) fn remember_key(
        self,
        key: Key<'_>,
        keys_max: usize,
        data: &mut ShardData,
        count: ShardCount,
    ) {
        let reader = Reader {
            client: self.client,
            shard: self.shard,
        };
        let keys_max = keys_max.div_ceil(usize::from(count.get()));
        data.tracking.remember(key, reader, keys_max);
    }

    /// Remembers the keys that a command has just read. Each is entered where it was read, before
    /// anybody else can change it. `keys_max` bounds the table of the whole instance of `count`
    /// shards, 0 for no bound.
    #[cold]
    pub(crate) fn remember(
        self,
        spec: &CommandSpec,
        args: Args<'_>,
        keys_max: usize,
        mut shards: ShardSet<'_>,
        count: ShardCount,
    ) {
        let mut positions = Vec::new();
        spec.key_positions(args, &mut positions);
        for key in positions.iter().filter_map(|at| args.get(*at)) {
            self.remember_key(Key::new(key), keys_max, shards.of_key(key), count);
        }
    }
}
