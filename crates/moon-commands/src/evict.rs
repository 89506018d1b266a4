//! Eviction: a key of the shard goes, and the log says so.

use crate::context::Limits;
use crate::effects::Effects;
use crate::notify::Class;
use moon_core::UnixMs;
use moon_store::{Key, ShardData};
use rand::Rng;
use rand::rngs::SmallRng;

/// The error for a command that needs memory while there is none.
pub const OUT_OF_MEMORY: &str = "OOM command not allowed when used memory > 'maxmemory'.";

/// Removes the key of `shard` that the policy in `limits` picks; `false` if no key may go.
/// `effects` gets its deletion, as a unit of its own.
pub fn evict_one(
    shard: &mut ShardData,
    now: UnixMs,
    limits: &Limits,
    effects: &mut Effects,
    rng: &mut SmallRng,
) -> bool {
    let rule = limits.access_rule(now);
    let victim = shard.pick_victim(
        limits.maxmemory_policy,
        limits.maxmemory_samples,
        rule,
        &mut || rng.next_u64(),
    );
    let Some(victim) = victim else {
        return false;
    };
    let key = Key::new(&victim.key);
    shard.db(victim.db).delete(key);
    shard.changed(victim.db, key);
    effects.begin_unit();
    effects.push(victim.db, &[b"DEL", key.bytes]);
    effects.end_unit();
    (effects.events).tell(Class::EVICTED, "evicted", victim.db, key.bytes);
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use moon_core::ShardId;
    use moon_store::{EvictionPolicy, THIS_TURN, Value};
    use rand::SeedableRng;

    #[test]
    fn an_eviction_is_a_deletion_in_the_log_that_watchers_and_replies_see() {
        let limits = Limits {
            maxmemory_policy: EvictionPolicy::AllKeysLru,
            ..Limits::default()
        };
        let mut shard = ShardData::new(ShardId(0), 4, true);
        let key = Key::new(b"old");
        shard.db(3).store(key, Value::from_int(1), None);
        let watched = shard.watches.watch(3, b"old");
        let mut effects = Effects::default();
        let mut rng = SmallRng::seed_from_u64(0);
        let mut evict = |shard: &mut ShardData, effects: &mut Effects| {
            evict_one(shard, UnixMs(5000), &limits, effects, &mut rng)
        };
        assert!(evict(&mut shard, &mut effects));
        assert_eq!(
            effects.take(),
            b"*2\r\n$6\r\nSELECT\r\n$1\r\n3\r\n*2\r\n$3\r\nDEL\r\n$3\r\nold\r\n*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n"
        );
        assert_ne!(shard.watches.version(3, b"old"), Some(watched));
        assert_eq!(shard.dirty.dependency(3, key.hash), THIS_TURN);
        assert!(!evict(&mut shard, &mut effects) && effects.is_empty());
    }
}
