//! Which shard a request runs on.

use super::Connection;
use moon_commands::{CommandSpec, Run, Scope};
use moon_core::ShardId;
use moon_resp::Args;
use moon_shard::ShardMask;

/// What to do with a request.
pub(in crate::connection) enum Route {
    /// Execute on this shard.
    Here,
    /// Send to another shard.
    To(ShardId),
    /// Borrow these shards and execute.
    Borrow(ShardMask),
    /// A server command, or one that must not run now: taken one by one.
    Alone,
}

impl Connection {
    /// Decides who runs a request. Everything that is not plain is `Alone`.
    #[inline]
    pub(super) fn route(&mut self, spec: &CommandSpec, args: Args<'_>) -> Route {
        if self.is_plain(spec, args) {
            self.route_data(spec, args)
        } else {
            Route::Alone
        }
    }

    /// Whether a request is a data command that runs at once and as it stands.
    #[inline]
    pub(super) fn is_plain(&self, spec: &CommandSpec, args: Args<'_>) -> bool {
        matches!(spec.run, Run::Data(_))
            && self.state.runs_plainly()
            && !moon_commands::blocking::may_wait(spec, args)
            && spec.accepts(args.len())
    }

    /// Decides where a data command runs.
    pub(in crate::connection) fn route_data(
        &mut self,
        spec: &CommandSpec,
        args: Args<'_>,
    ) -> Route {
        let mask = self.shards_of(spec, args);
        match mask.single() {
            Some(shard) if shard == self.shard.id() => Route::Here,
            // In strict order nothing may be under way elsewhere while later commands run; a
            // borrow gives exactly that, because it ends this shard's turn first.
            Some(_) if self.server.strict_order() => Route::Borrow(mask),
            Some(shard) => Route::To(shard),
            None if mask.is_empty() => Route::Here,
            None => Route::Borrow(mask),
        }
    }

    /// The shards that a data command touches.
    pub(in crate::connection) fn shards_of(
        &mut self,
        spec: &CommandSpec,
        args: Args<'_>,
    ) -> ShardMask {
        let count = self.shard.count();
        if count.get() == 1 {
            return ShardMask::default().with(ShardId(0));
        }
        match spec.scope_of(args) {
            Scope::None => ShardMask::default(),
            Scope::AllShards => ShardMask::all(count),
            Scope::Cursor => {
                let cursor = args.get(1).unwrap_or_default();
                let shard = moon_commands::scan::cursor_shard(cursor, count);
                ShardMask::default().with(shard)
            }
            Scope::Keys | Scope::Patterns => {
                self.key_positions.clear();
                spec.key_positions(args, &mut self.key_positions);
                let keys = self.key_positions.iter().filter_map(|at| args.get(*at));
                keys.fold(ShardMask::default(), |mask, key| {
                    mask.with(count.shard_of_key(key))
                })
            }
        }
    }
}
