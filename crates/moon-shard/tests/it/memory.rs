//! The memory limit: evictions are in the history before the write that needed room, and the
//! shards make room for each other.
//!
//! All tests of this program share an allocator, so values are large beside what others use, and
//! the tests run one at a time.

use crate::world::World;
use moon_commands::Limits;
use moon_store::{EvictionPolicy, Key};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

const VALUE_BYTES: usize = 100_000;
/// Values that fit under the limit of the tests.
const FIT: u64 = 200;
/// Frames share memory in pieces, so counts are right to some of these.
const OFF: u64 = 60;
const OOM: &str = "-OOM command not allowed when used memory > 'maxmemory'.\r\n";

/// Room for some [`FIT`] more values.
fn limit(world: &World, policy: EvictionPolicy) -> u64 {
    let maxmemory = world.memory.counted(0) + FIT * VALUE_BYTES as u64;
    set_limits(world, maxmemory, policy);
    maxmemory
}

fn set_limits(world: &World, maxmemory: u64, policy: EvictionPolicy) {
    let limits = Arc::new(Limits {
        maxmemory,
        maxmemory_policy: policy,
        maxmemory_eviction_tenacity: 100,
        ..Limits::default()
    });
    for shard in world.count.ids() {
        let limits = Arc::clone(&limits);
        world.ask(shard.0, move |shard| shard.set_limits(limits));
    }
}

fn set(key: &str) -> String {
    format!("SET {key} {}", "v".repeat(VALUE_BYTES))
}

/// The keys that the history leaves, and those that it deletes on the way.
fn outcome(world: &World) -> (BTreeSet<String>, usize) {
    let (mut keys, mut deleted) = (BTreeSet::new(), 0);
    for frame in world.history() {
        let text = String::from_utf8_lossy(&frame.payload).into_owned();
        let words: Vec<&str> = text.split("\r\n").collect();
        for (at, word) in words.iter().enumerate() {
            match *word {
                "SET" => assert!(keys.insert(words[at + 2].to_owned())),
                "DEL" => {
                    assert!(keys.remove(words[at + 2]), "deleted before it was there");
                    deleted += 1;
                }
                _ => {}
            }
        }
    }
    (keys, deleted)
}

#[test]
fn an_eviction_is_in_the_history_before_the_write_that_needed_room() {
    let _alone = alone();
    for policy in EvictionPolicy::ALL {
        let world = World::new(1);
        let client = world.client(0);
        let limit = limit(&world, policy);
        let takes_any = matches!(
            policy,
            EvictionPolicy::AllKeysLru | EvictionPolicy::AllKeysLfu | EvictionPolicy::AllKeysRandom
        );
        let mut written = 0;
        for i in 0..FIT * 3 {
            client.send(&set(&format!("key:{i}")));
            match client.wait_lines(1).as_str() {
                "+OK\r\n" => written += 1,
                text => assert_eq!((text, takes_any), (OOM, false), "{policy:?}"),
            }
        }
        let counted = world.memory.counted(0);
        // Without a limit nothing goes while this looks.
        set_limits(&world, 0, policy);
        world.settle();
        let (keys, deleted) = outcome(&world);
        assert_eq!(keys.len() + deleted, written, "{policy:?}");
        if takes_any {
            assert_eq!(written as u64, FIT * 3, "{policy:?}");
            assert!(deleted as u64 > FIT, "{policy:?}: {deleted}");
            assert!(
                counted < limit + OFF * VALUE_BYTES as u64,
                "{policy:?}: {counted}"
            );
        } else {
            assert_eq!(deleted, 0, "{policy:?}");
            assert!(
                (written as u64) < FIT * 2,
                "{policy:?}: {written}, {counted} of {limit}"
            );
        }
        let live = world.visit(0, |data| {
            let mut live = BTreeSet::new();
            data.dbs[0].for_each(&mut |key, _, _| {
                live.insert(String::from_utf8_lossy(key).into_owned());
            });
            live
        });
        assert_eq!(live, keys, "{policy:?}");
    }
}

#[test]
fn what_frees_memory_passes_and_makes_room() {
    let _alone = alone();
    let world = World::new(1);
    let client = world.client(0);
    limit(&world, EvictionPolicy::NoEviction);
    let mut refused = String::new();
    for i in 0.. {
        client.send(&set(&format!("key:{i}")));
        refused = client.wait_lines(1);
        if refused != "+OK\r\n" {
            break;
        }
    }
    assert_eq!(refused, OOM);
    client.call("EXISTS key:0", ":1\r\n");
    for i in 0..OFF {
        client.call(&format!("DEL key:{i}"), ":1\r\n");
    }
    // Freed lazily, and counted as free at once.
    client.call(&set("key:new"), "+OK\r\n");
}

#[test]
fn a_shard_with_nothing_to_evict_has_room_made_by_the_others() {
    let _alone = alone();
    let world = World::new(2);
    let client = world.client(0);
    let limit = limit(&world, EvictionPolicy::AllKeysLru);
    let key = |shard: u16, i: u64| world.key(shard, &i.to_string());
    for i in 0..FIT * 2 {
        client.call(&set(&key(1, i)), "+OK\r\n");
    }
    for i in 0..FIT * 2 {
        client.call(&set(&key(0, i)), "+OK\r\n");
    }
    let memory = Arc::clone(&world.memory);
    let off = OFF * VALUE_BYTES as u64;
    world.eventually(0, move |_| memory.counted(0) <= limit + off);
    let count = |shard| world.visit(shard, |data| data.dbs[0].len() as u64);
    let (mine, others) = (count(0), count(1));
    assert!(mine >= FIT / 8, "{mine} here, {others} there");
    assert!(mine + others <= FIT + OFF, "{mine} here, {others} there");
}

#[test]
fn evicted_keys_fail_the_transactions_that_watch_them() {
    let _alone = alone();
    let world = World::new(1);
    let client = world.client(0);
    client.call(&set("watched"), "+OK\r\n");
    let version = world.visit(0, |data| data.watches.watch(0, b"watched"));
    limit(&world, EvictionPolicy::AllKeysRandom);
    let mut i = 0;
    while world.visit(0, |data| data.dbs[0].contains(Key::new(b"watched"))) {
        i += 1;
        client.call(&set(&format!("key:{i}")), "+OK\r\n");
        assert!(i < FIT * 100);
    }
    let now = world.visit(0, |data| data.watches.version(0, b"watched"));
    assert_ne!(now, Some(version));
}
