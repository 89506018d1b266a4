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

/// Removes expired keys of every database, a batch at a time. A database is left when at most a
/// tenth of the keys looked at were expired; everything is left when `is_over`, asked after every
/// batch, says that the caller's share of time is used up. So the work is in proportion to what
/// is expired; the next cycle goes on where this one stopped. Which database comes first is drawn
/// by the time, so that none waits for ever behind a busy one.
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
    let first = first_database(now, databases);
    for db in (first..databases).chain(0..first) {
        while shard.db(db).volatile_len() > 0 {
            batch.clear();
            let scan = shard.db(db).pop_expired(now, BATCH_LEN, &mut batch);
            remove(shard, db, effects, &batch);
            stats.expired += scan.expired as u64;
            if is_over() {
                stats.out_of_time = true;
                return stats;
            }
            if scan.expired * 10 <= scan.examined {
                break;
            }
        }
    }
    stats
}

/// Spread over all databases even when cycles come at regular times.
fn first_database(now: UnixMs, databases: DbIndex) -> DbIndex {
    let mixed = now.0.cast_unsigned().wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
    DbIndex::try_from(mixed % u64::from(databases.max(1))).unwrap_or(0)
}

fn remove(shard: &mut ShardData, db: DbIndex, effects: &mut Effects, expired: &[Box<[u8]>]) {
    if expired.is_empty() {
        return;
    }
    let mut effect: Vec<&[u8]> = Vec::with_capacity(expired.len() + 1);
    effect.push(b"DEL");
    for key in expired {
        shard.db(db).delete(Key::new(key));
        shard.changed(db, Key::new(key));
        effect.push(key);
    }
    effects.begin_unit();
    effects.push(db, &effect);
    effects.end_unit();
}
