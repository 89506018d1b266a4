//! The active expiry cycle: removes keys, and fields of hashes, whose deadline has passed though
//! nobody asks for them.

use crate::effects::Effects;
use crate::notify::Class;
use moon_core::UnixMs;
use moon_store::{DbIndex, Hash, Key, ShardData, Value};

/// Keys that are removed between two looks at the clock, and by one DEL.
const BATCH_LEN: usize = 64;

/// Hashes with expired fields that are looked for at once.
const HASHES_LEN: usize = 64;

/// What a cycle did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExpireStats {
    /// Keys removed.
    pub expired: u64,
    /// Fields of hashes removed, with their hash or without.
    pub expired_fields: u64,
    /// Whether the time was used up before all databases were clear of expired keys.
    pub out_of_time: bool,
}

/// Removes expired keys and fields of every database, a batch at a time. A database is left when at most a
/// tenth of the keys looked at were expired; everything is left when `is_over`, asked after every
/// batch, says that the caller's share of time is used up. So the work is in proportion to what
/// is expired; fields are removed until there are no expired ones. The next cycle goes on where this one stopped. Which database comes first is drawn
/// by the time, so that none waits for ever behind a busy one.
///
/// `effects` gets one DEL per batch of keys, and one HDEL per batch of fields of a hash.
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
            for key in &batch {
                effects.events.tell(Class::EXPIRED, "expired", db, key);
            }
            stats.expired += scan.expired as u64;
            if is_over() {
                stats.out_of_time = true;
                return stats;
            }
            if scan.expired * 10 <= scan.examined {
                break;
            }
        }
        expire_fields(shard, db, now, effects, &mut stats, is_over);
        if stats.out_of_time {
            return stats;
        }
    }
    stats
}

/// Removes the expired fields of a database, those that expired first before others.
fn expire_fields(
    shard: &mut ShardData,
    db: DbIndex,
    now: UnixMs,
    effects: &mut Effects,
    stats: &mut ExpireStats,
    is_over: &mut dyn FnMut() -> bool,
) {
    loop {
        let before = stats.expired_fields;
        // Knows the hash that was changed last, which the count of hashes does not know yet.
        let due = shard.db(db).due_hashes(now, HASHES_LEN);
        for name in due {
            let key = Key::new(&name);
            // A huge hash that a snapshot still has to write would be written at once now.
            if shard.is_held(db, key) {
                continue;
            }
            stats.expired_fields += remove_fields(shard, db, key, now, effects);
            if is_over() {
                stats.out_of_time = true;
                return;
            }
        }
        if stats.expired_fields == before {
            return;
        }
    }
}

/// Removes a batch of expired fields of a hash, or the whole hash if no others are left; how many.
fn remove_fields(
    shard: &mut ShardData,
    db: DbIndex,
    key: Key<'_>,
    now: UnixMs,
    effects: &mut Effects,
) -> u64 {
    let Some((Value::Hash(hash), _)) = shard.db(db).get(key) else {
        return 0;
    };
    if hash.has_expired(now) {
        let fields = hash.len();
        remove(shard, db, effects, &[key.bytes.into()]);
        effects.events.tell(Class::HASH, "hexpired", db, key.bytes);
        effects.events.tell(Class::GENERIC, "del", db, key.bytes);
        return fields as u64;
    }
    let expired: Vec<Box<[u8]>> = (hash.expired_fields(now).take(BATCH_LEN))
        .map(Box::from)
        .collect();
    let Some(Value::Hash(hash)) = shard.db(db).get_mut(key) else {
        return 0;
    };
    let removed = remove_all(hash, &expired);
    shard.changed(db, key);
    let mut effect: Vec<&[u8]> = vec![b"HDEL", key.bytes];
    effect.extend(expired.iter().map(|name| &**name));
    effects.begin_unit();
    effects.push(db, &effect);
    effects.end_unit();
    effects.events.tell(Class::HASH, "hexpired", db, key.bytes);
    removed as u64
}

fn remove_all(hash: &mut Hash, names: &[Box<[u8]>]) -> usize {
    names.iter().filter(|name| hash.remove(name)).count()
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
