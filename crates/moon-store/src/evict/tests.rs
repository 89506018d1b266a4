//! Each policy takes only what it may, and the best of what it has seen.

use super::*;
use crate::{AccessClock, Value};
use moon_core::{ShardId, UnixMs};
use proptest::prelude::*;
use std::collections::BTreeMap;

const DATABASES: DbIndex = 2;

fn seconds(now: u64) -> AccessRule {
    AccessRule::Recency {
        now: AccessClock::from_seconds(now),
    }
}

fn minutes(now: u64) -> AccessRule {
    AccessRule::Frequency {
        minutes: now,
        decay_minutes: 1,
        log_factor: 0,
    }
}

/// A sequence of random numbers.
fn randoms(mut state: u64) -> impl FnMut() -> u64 {
    move || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed ^ (mixed >> 27)
    }
}

fn shard() -> ShardData {
    ShardData::new(ShardId(0), DATABASES, false)
}

fn name(i: usize) -> Vec<u8> {
    format!("key:{i}").into_bytes()
}

/// Keys with their idle seconds and deadlines; a shard that holds them at second 1000.
fn filled(keys: &[(u16, Option<i64>)], rule: fn(u64) -> AccessRule) -> ShardData {
    let mut shard = shard();
    for (i, (idle, deadline)) in keys.iter().enumerate() {
        shard.set_access(rule(1000 - u64::from(*idle % 1000)));
        let db = DbIndex::from(i % 3 == 0);
        let deadline = deadline.map(UnixMs);
        shard
            .db(db)
            .store(Key::new(&name(i)), Value::from_int(1), deadline);
    }
    shard.set_access(rule(1000));
    shard
}

fn rule_of(policy: EvictionPolicy) -> fn(u64) -> AccessRule {
    if policy.is_lfu() { minutes } else { seconds }
}

proptest! {
    /// Every policy empties the shard of exactly the keys that it may take, each once.
    #[test]
    fn a_policy_takes_all_that_it_may_and_nothing_else(
        keys in prop::collection::vec((any::<u16>(), prop::option::of(any::<i64>())), 0..120),
        policy in prop::sample::select(&EvictionPolicy::ALL[..]),
        samples in 1usize..12,
        seed in any::<u64>(),
    ) {
        let rule = rule_of(policy);
        let mut shard = filled(&keys, rule);
        let mut random = randoms(seed);
        let mut left: BTreeMap<Vec<u8>, Option<i64>> =
            keys.iter().enumerate().map(|(i, key)| (name(i), key.1)).collect();
        while let Some(victim) = shard.pick_victim(policy, samples, rule(1000), &mut random) {
            let deadline = left.remove(&*victim.key);
            prop_assert!(deadline.is_some(), "a key that is not there");
            prop_assert!(policy.is_all_keys() || deadline != Some(None), "without a deadline");
            prop_assert!(shard.db(victim.db).delete(Key::new(&victim.key)));
        }
        prop_assert_eq!(left.len(), shard.len());
        match policy {
            EvictionPolicy::NoEviction => prop_assert_eq!(left.len(), keys.len()),
            _ if policy.is_all_keys() => prop_assert!(left.is_empty()),
            _ => prop_assert!(left.values().all(Option::is_none)),
        }
        shard.dbs.iter().for_each(Db::self_check);
    }

    /// With as many looks as there are keys the order is exact.
    #[test]
    fn a_policy_that_sees_everything_takes_the_best(
        keys in prop::collection::vec((0u16..999, Just(Some(())), 1i64..1_000_000), 1..14),
        policy in prop::sample::select(&[
            EvictionPolicy::AllKeysLru,
            EvictionPolicy::VolatileLru,
            EvictionPolicy::AllKeysLfu,
            EvictionPolicy::VolatileLfu,
            EvictionPolicy::VolatileTtl,
        ][..]),
        seed in any::<u64>(),
    ) {
        let rule = rule_of(policy);
        let keys: Vec<_> = keys.into_iter().map(|(idle, _, at)| (idle, Some(at))).collect();
        let mut shard = filled(&keys, rule);
        let mut random = randoms(seed);
        let mut last = u64::MAX;
        while let Some(victim) = shard.pick_victim(policy, 64, rule(1000), &mut random) {
            let key = Key::new(&victim.key);
            let score = shard.db(victim.db).eviction_score(key, policy, rule(1000)).unwrap();
            prop_assert!(score <= last, "a better one was left");
            last = score;
            shard.db(victim.db).delete(key);
        }
        prop_assert!(shard.is_empty());
    }
}

#[test]
fn a_candidate_that_was_used_since_loses_its_place() {
    let mut shard = filled(&[(500, None), (100, None), (50, None)], seconds);
    let mut random = randoms(1);
    let policy = EvictionPolicy::AllKeysLru;
    let mut pick = |shard: &mut ShardData| {
        shard
            .pick_victim(policy, 64, seconds(1000), &mut random)
            .unwrap()
            .key
    };
    assert_eq!(*pick(&mut shard), *name(0));
    // It stays where it is and becomes the last used of all.
    shard.db(1).touch(Key::new(&name(0)));
    assert_eq!(*pick(&mut shard), *name(1));
}

#[test]
fn frequent_keys_stay_under_lfu() {
    let mut shard = filled(&[(0, None); 40], minutes);
    for i in 10..40 {
        for _ in 0..20 {
            let db = DbIndex::from(i % 3 == 0);
            shard.db(db).get_and_touch(Key::new(&name(i)));
        }
    }
    let mut random = randoms(5);
    for _ in 0..10 {
        let policy = EvictionPolicy::AllKeysLfu;
        let victim = shard
            .pick_victim(policy, 64, minutes(1000), &mut random)
            .unwrap();
        assert!((0..10).any(|i| *victim.key == *name(i)));
        shard.db(victim.db).delete(Key::new(&victim.key));
    }
    assert_eq!(shard.len(), 30);
}

#[test]
fn overwriting_a_key_counts_as_one_use_under_lfu() {
    let mut shard = filled(&[(0, None)], minutes);
    let key = Key::new(b"key:0");
    for _ in 0..10 {
        shard.db(1).insert_string(key, b"other", None);
    }
    let clock = shard.db(1).access_clock(key).unwrap();
    assert_eq!(clock.frequency(1000, 1), AccessClock::LFU_INITIAL + 10);
}

#[test]
fn few_looks_find_old_keys_far_more_often_than_chance() {
    const KEYS: usize = 3000;
    let keys: Vec<_> = (0..KEYS).map(|i| ((i * 999 / KEYS) as u16, None)).collect();
    let mut shard = filled(&keys, seconds);
    let mut random = randoms(3);
    let policy = EvictionPolicy::AllKeysLru;
    let mut old = 0;
    for _ in 0..KEYS / 4 {
        let victim = shard
            .pick_victim(policy, 5, seconds(1000), &mut random)
            .unwrap();
        let score =
            shard
                .db(victim.db)
                .eviction_score(Key::new(&victim.key), policy, seconds(1000));
        old += usize::from(score >= Some(666));
        shard.db(victim.db).delete(Key::new(&victim.key));
    }
    assert!(
        old > KEYS / 4 * 9 / 10,
        "{old} of {} were of the oldest third",
        KEYS / 4
    );
}
