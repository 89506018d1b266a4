//! What a connection waits for: its commands on other shards, a mark of the clock, a walk.

use super::{Close, Connection};
use moon_commands::CommandId;
use moon_core::Lsn;
use moon_resp::Args;
use moon_shard::Session as _;
use moon_shard::huge::Keys as HeldKeys;
use std::sync::Arc;
use std::time::Duration;

/// How often a connection that waits for a mark of the clock looks at it: first, and then less and
/// less often. Only CONFIG SET and MIGRATE wait so.
const MARK_PAUSE_MIN: Duration = Duration::from_millis(1);
const MARK_PAUSE_MAX: Duration = Duration::from_millis(64);

impl Connection {
    /// Waits until a walk has encoded the huge values that `commands` would change; whether there
    /// were any that it may have to.
    pub(in crate::connection) async fn wait_for_walk<'b>(
        &mut self,
        commands: impl Iterator<Item = (CommandId, Args<'b>)>,
    ) -> bool {
        if !self.shard.is_walking() {
            return false;
        }
        let db = self.state.db;
        let keys: HeldKeys = commands
            .flat_map(|(id, args)| self.shard.held_keys(id, args, db))
            .collect();
        self.wait_for_held(keys).await
    }

    /// As [`Connection::wait_for_walk`], for a script that may write to `keys`.
    pub(crate) async fn wait_for_walk_of(&mut self, keys: impl Iterator<Item = &[u8]>) {
        if self.shard.is_walking() {
            let held = self.shard.held_of(keys, self.state.db);
            self.wait_for_held(held).await;
        }
    }

    async fn wait_for_held(&mut self, keys: HeldKeys) -> bool {
        let is_held = keys
            .iter()
            .any(|(_, key)| self.shard.count().shard_of_key(key) == self.shard.id());
        if !keys.is_empty() {
            self.flush();
            self.shard.written_out(keys).await;
        }
        is_held
    }

    /// Waits until every command sent to another shard is executed there and logged.
    pub(crate) async fn barrier(&mut self) -> Result<(), Close> {
        self.dispatch();
        if self.outlet.gate().borrow().holes() == 0 {
            return Ok(());
        }
        self.flush();
        if self.outlet.wait_until(|gate| gate.holes() == 0).await {
            Ok(())
        } else {
            Err(Close::Now)
        }
    }

    /// Waits for the durable mark if the present command asked for it: its reply would say that
    /// everything so far survives a power loss. The gate cannot hold that reply, because what
    /// was committed under a weaker `appendfsync` stays committed.
    pub(in crate::connection) async fn durable_first(&mut self) -> Result<(), Close> {
        let target = std::mem::replace(&mut self.state.durable_first, Lsn::ZERO);
        let clock = Arc::clone(self.shard.clock());
        self.passed(|| clock.durable() >= target).await
    }

    /// Waits until what is below `target` is committed: what shows it may leave for another server.
    pub(in crate::connection) async fn committed(&mut self, target: Lsn) -> Result<(), Close> {
        let clock = Arc::clone(self.shard.clock());
        self.passed(|| clock.committed() >= target).await
    }

    /// Waits until a mark of the clock has passed what the present command needs.
    async fn passed(&mut self, is_passed: impl Fn() -> bool) -> Result<(), Close> {
        if is_passed() {
            return Ok(());
        }
        self.flush();
        let mut pause = MARK_PAUSE_MIN;
        while !is_passed() {
            if self.client.is_killed() {
                return Err(Close::Now);
            }
            let waited = tokio::time::timeout(pause, self.outlet.wait_until(|_| is_passed())).await;
            if waited == Ok(false) {
                return Err(Close::Now);
            }
            pause = (pause * 2).min(MARK_PAUSE_MAX);
        }
        Ok(())
    }
}
