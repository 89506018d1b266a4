//! What DEBUG does with data. The server parses the subcommands and has the data in hand when it
//! calls these; none of them has an effect that enters the log.
//!
//! * [`digest`]: DEBUG DIGEST and DIGEST-VALUE, in the numbers of Redis.
//! * [`mod@reload`]: DEBUG RELOAD.

pub mod digest;
pub mod reload;

use crate::dump::serialized_len;
use moon_store::{DbIndex, Key, ShardData};

/// What DEBUG OBJECT answers; `None` if there is no such key, expired or not. `now_s` are the Unix
/// seconds.
#[must_use]
pub fn object(shard: &ShardData, db: DbIndex, key: Key<'_>, now_s: u64) -> Option<String> {
    let database = &shard.dbs[usize::from(db)];
    let (value, _) = database.get(key)?;
    let clock = moon_store::AccessClock::from_seconds(now_s);
    let idle_s = database.idle_seconds(key, clock)?;
    // The clock has 24 bits.
    let lru = now_s.wrapping_sub(u64::from(idle_s)) & 0xff_ffff;
    Some(format!(
        "Value at:{value:p} refcount:1 encoding:{} serializedlength:{} lru:{lru} \
         lru_seconds_idle:{idle_s}",
        value.encoding(),
        serialized_len(value),
    ))
}

/// What DEBUG HTSTATS says about a database: how many keys it has on these shards, and how many of
/// them have a deadline. There is no chain whose length could be told.
#[must_use]
pub fn table_stats<'a>(shards: impl IntoIterator<Item = &'a ShardData>, db: DbIndex) -> String {
    let (mut keys, mut expires) = (0, 0);
    for shard in shards {
        let database = &shard.dbs[usize::from(db)];
        keys += database.len();
        expires += database.volatile_len();
    }
    let part = |title: &str, count: usize| {
        let stats = match count {
            0 => "No stats available for empty dictionaries\n".to_owned(),
            _ => format!("Hash table 0 stats (main hash table):\n number of elements: {count}\n"),
        };
        format!("[{title}]\n{stats}")
    };
    part("Dictionary HT", keys) + &part("Expires HT", expires)
}
