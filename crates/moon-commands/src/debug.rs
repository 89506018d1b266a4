//! What DEBUG does with data. The server parses the subcommands and has the data in hand when it
//! calls these; none of them has an effect that enters the log.
//!
//! * [`digest`]: DEBUG DIGEST and DIGEST-VALUE, in the numbers of Redis.
//! * [`mod@reload`]: DEBUG RELOAD.

pub mod digest;
pub mod reload;

use crate::context::Limits;
use crate::dump::serialized_len;
use moon_store::{DbIndex, Encoding, Key, List, ShardData, Value};

/// What DEBUG OBJECT answers; `None` if there is no such key, expired or not. `now_s` are the Unix
/// seconds.
#[must_use]
pub fn object(
    shard: &ShardData,
    db: DbIndex,
    key: Key<'_>,
    now_s: u64,
    limits: &Limits,
) -> Option<String> {
    let database = &shard.dbs[usize::from(db)];
    let (value, _) = database.get(key)?;
    let clock = moon_store::AccessClock::from_seconds(now_s);
    let idle_s = database.idle_seconds(key, clock)?;
    // The clock has 24 bits.
    let lru = now_s.wrapping_sub(u64::from(idle_s)) & 0xff_ffff;
    let nodes = match value {
        Value::List(list) if list.encoding() == Encoding::Quicklist => list_nodes(list, limits),
        _ => String::new(),
    };
    Some(format!(
        "Value at:{value:p} refcount:1 encoding:{} serializedlength:{} lru:{lru} \
         lru_seconds_idle:{idle_s}{nodes}",
        value.encoding(),
        serialized_len(value),
    ))
}

/// What DEBUG OBJECT adds for a list of several nodes. As in Redis, whether nodes are compressed is
/// what the setting says, and not whether that has paid.
fn list_nodes(list: &List, limits: &Limits) -> String {
    let nodes = list.nodes();
    let mean = list.len() as f64 / nodes as f64;
    let size = limits.list_max_listpack_size;
    format!(
        " ql_nodes:{nodes} ql_avg_node:{mean:.2} ql_listpack_max:{size} ql_compressed:{} \
         ql_uncompressed_size:{}",
        u8::from(limits.list_compress_depth > 0),
        list.plain_bytes(),
    )
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

#[cfg(test)]
mod tests {
    use super::*;
    use moon_core::ShardId;
    use moon_store::End;

    #[test]
    fn a_list_of_several_nodes_tells_of_them() {
        let limits = Limits {
            list_max_listpack_size: 2,
            list_compress_depth: 1,
            ..Limits::default()
        };
        let (mut shard, key) = (ShardData::new(ShardId(0), 1, false), Key::new(b"l"));
        let told = |shard: &ShardData| object(shard, 0, key, 0, &limits).unwrap();
        let mut list = List::default();
        list.push(End::Left, &[b'x'; 40], limits.list_nodes());
        shard
            .db(0)
            .store(key, Value::List(Box::new(list.clone())), None);
        assert!(!told(&shard).contains("ql_"), "{}", told(&shard));
        for _ in 0..6 {
            list.push(End::Left, &[b'x'; 40], limits.list_nodes());
        }
        assert!(list.memory() < list.plain_memory());
        shard.db(0).store(key, Value::List(Box::new(list)), None);
        let expected = " ql_nodes:4 ql_avg_node:1.75 ql_listpack_max:2 ql_compressed:1 \
                        ql_uncompressed_size:294";
        assert!(told(&shard).ends_with(expected), "{}", told(&shard));
    }
}
