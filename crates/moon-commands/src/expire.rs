//! The active expiry cycle: removes keys whose deadline has passed though nobody asks for them.

use crate::effects::Effects;
use moon_core::UnixMs;
use moon_store::{DbIndex, Key, ShardData};

/// Keys that are removed between two looks at the clock, and by one DEL.
const BATCH_LEN: usize = 64;

/// What a cycle did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExpireStats {
    /// Keys removed.
    pub expired: u64,
    /// Whether the time was used up before all databases were clear of expired keys.
    pub out_of_time: bool,
}

/// Removes expired keys of every database, a batch at a time, until there are none left or
/// `is_over` says that the caller's share of time is used up; it is asked after every batch.
/// So the work is in proportion to what is expired, and an idle shard does none.
///
/// `effects` gets one DEL per batch.
pub fn expire_cycle(
    shard: &mut ShardData,
    now: UnixMs,
    effects: &mut Effects,
    is_over: &mut dyn FnMut() -> bool,
) -> ExpireStats {
    let mut stats = ExpireStats::default();
    let databases = DbIndex::try_from(shard.dbs.len()).unwrap_or(DbIndex::MAX);
    let mut batch: Vec<Box<[u8]>> = Vec::new();
    for db in 0..databases {
        while shard.db(db).volatile_len() > 0 {
            batch.clear();
            shard.db(db).pop_expired(now, BATCH_LEN, &mut batch);
            tell(shard, db, effects, &batch);
            stats.expired += batch.len() as u64;
            if is_over() {
                stats.out_of_time = true;
                return stats;
            }
            if batch.len() < BATCH_LEN {
                break;
            }
        }
    }
    stats
}

fn tell(shard: &mut ShardData, db: DbIndex, effects: &mut Effects, removed: &[Box<[u8]>]) {
    if removed.is_empty() {
        return;
    }
    let mut effect: Vec<&[u8]> = Vec::with_capacity(removed.len() + 1);
    effect.push(b"DEL");
    for key in removed {
        shard.changed(db, Key::new(key));
        effect.push(key);
    }
    effects.begin_unit();
    effects.push(db, &effect);
    effects.end_unit();
}
