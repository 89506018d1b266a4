//! Commands on whole databases, over one shard and several.

use crate::harness::Instance;
use moon_commands::expire_cycle;
use moon_core::{Lsn, ShardId, UnixMs};
use moon_resp::OwnedArgs;
use moon_store::THIS_TURN;
use std::collections::BTreeSet;

const SHARD_COUNTS: [u16; 3] = [1, 2, 5];

fn filled(shards: u16, keys: usize) -> Instance {
    let mut instance = Instance::new(shards);
    for i in 0..keys {
        instance.run(&format!("set key:{i} {i}"));
    }
    instance
}

/// The bulk strings of a reply.
fn bulks(reply: &str) -> Vec<&str> {
    let lines: Vec<&str> = reply.split("\r\n").collect();
    let is_bulk = |at: &usize| lines[*at].starts_with('$');
    let found = (0..lines.len()).filter(is_bulk);
    found.map(|at| lines[at + 1]).collect()
}

#[test]
fn scan_returns_every_key_of_every_shard() {
    for shards in SHARD_COUNTS {
        let mut instance = filled(shards, 1000);
        let mut seen = BTreeSet::new();
        let mut cursor = "0".to_owned();
        let mut calls = 0;
        loop {
            let reply = instance.run(&format!("scan {cursor} COUNT 50"));
            let found = bulks(&reply);
            seen.extend(found[1..].iter().map(|key| (*key).to_owned()));
            found[0].clone_into(&mut cursor);
            calls += 1;
            if cursor == "0" {
                break;
            }
        }
        assert_eq!(seen.len(), 1000, "{shards} shards");
        assert!(calls > 5 && calls < 100, "{calls} calls");
    }
}

#[test]
fn scan_filters_by_pattern_and_type_and_hides_expired_keys() {
    let mut instance = Instance::new(1);
    instance.run("mset a 1 b 2 abc 3");
    instance.run("set axx 1 PX 10");
    instance.now.0 += 10;
    let reply = instance.run("scan 0 MATCH a* COUNT 100 TYPE STRING");
    let mut found = bulks(&reply);
    found.sort_unstable();
    assert_eq!(found, ["0", "a", "abc"]);
    instance.expect("scan 0 TYPE list", "*2\r\n$1\r\n0\r\n*0\r\n");
}

#[test]
fn randomkey_reaches_every_shard() {
    for shards in SHARD_COUNTS {
        let mut instance = filled(shards, 20);
        let mut seen = BTreeSet::new();
        for _ in 0..1000 {
            let reply = instance.run("randomkey");
            seen.insert(bulks(&reply)[0].to_owned());
        }
        assert_eq!(seen.len(), 20, "{shards} shards");
    }
}

#[test]
fn randomkey_never_returns_an_expired_key() {
    let mut instance = Instance::new(1);
    instance.run("set old 1 PX 1");
    instance.now.0 += 1;
    instance.expect("randomkey", "$-1\r\n");
    assert_eq!(
        instance.effects().last().map(String::as_str),
        Some("DEL old")
    );
}

#[test]
fn whole_databases_are_flushed_and_swapped_on_all_shards() {
    for shards in SHARD_COUNTS {
        let mut instance = filled(shards, 50);
        instance.expect("dbsize", ":50\r\n");
        instance.expect("swapdb 0 1", "+OK\r\n");
        instance.expect("dbsize", ":0\r\n");
        instance.expect("flushdb", "+OK\r\n");
        instance.db = 1;
        instance.expect("dbsize", ":50\r\n");
        let reply = instance.run("keys key:1?");
        assert_eq!(bulks(&reply).len(), 10);
        instance.expect("flushall", "+OK\r\n");
        instance.expect("dbsize", ":0\r\n");
    }
}

#[test]
fn replies_depend_on_what_they_looked_at() {
    let mut instance = Instance::new(1);
    instance.run("get missing");
    assert_eq!(instance.depends_on, Lsn::ZERO);
    instance.run("set k v");
    instance.run("get k");
    assert_eq!(instance.depends_on, THIS_TURN);
    instance.run("get other");
    assert_eq!(instance.depends_on, Lsn::ZERO, "another key is clean");
    for command in ["dbsize", "keys *", "scan 0", "randomkey"] {
        instance.run(command);
        assert_eq!(instance.depends_on, THIS_TURN, "{command}");
    }
    instance.shard(ShardId(0)).dirty.seal(Lsn(100));
    instance.run("mget other k");
    assert_eq!(instance.depends_on, Lsn(100));
    instance.run("del k");
    instance.run("get k");
    assert_eq!(instance.depends_on, THIS_TURN, "a missing key can be dirty");
}

#[test]
fn changes_in_another_database_reach_its_watchers() {
    let mut instance = Instance::new(1);
    instance.run("set k v");
    let commands: [(&str, &[u16]); 5] = [
        ("copy k k DB 2", &[2]),
        ("swapdb 0 3", &[0, 3]),
        ("swapdb 0 3", &[0, 3]),
        ("move k 3", &[0, 3]),
        ("flushall", &[2, 3]),
    ];
    for (command, changed) in commands {
        let watches = &mut instance.shard(ShardId(0)).watches;
        let before = [0, 1, 2, 3].map(|db| watches.watch(db, b"k"));
        instance.run(command);
        let watches = &instance.shard(ShardId(0)).watches;
        for db in 0..4u16 {
            let is_same = watches.version(db, b"k") == Some(before[usize::from(db)]);
            assert_eq!(!is_same, changed.contains(&db), "{command}: database {db}");
        }
    }
}

#[test]
fn several_keys_are_changed_on_all_their_shards() {
    for shards in SHARD_COUNTS {
        let mut instance = Instance::new(shards);
        let mut request = OwnedArgs::new(["mset"]);
        for i in 0..20 {
            request.push(format!("k{i}").as_bytes());
            request.push(b"v");
        }
        assert_eq!(instance.run_args(&request), b"+OK\r\n");
        instance.expect("dbsize", ":20\r\n");
        instance.expect("rename k1 k2", "+OK\r\n");
        instance.expect("copy k2 k1", ":1\r\n");
        instance.expect("del k1 k2 k3 k4", ":4\r\n");
        instance.expect("exists k5 k6 k1", ":2\r\n");
    }
}

/// Scenario 141.
#[test]
fn the_expiry_cycle_removes_what_is_expired_and_says_so() {
    let mut instance = Instance::new(1);
    for i in 0..500 {
        instance.run(&format!("set old:{i} 1 PX 10"));
        instance.run(&format!("set new:{i} 1 EX 10"));
        instance.run(&format!("set keep:{i} 1"));
    }
    instance.db = 1;
    instance.run("set old 1 PX 10");
    let mut before = instance.effects.take();
    let start = UnixMs(instance.now.0 + 10);
    let mut expired = 0;
    // Every cycle is allowed one batch, as on a shard with no time to spare.
    for i in 0..200 {
        let now = UnixMs(start.0 + i * 100);
        let effects = &mut instance.effects;
        let shard = instance.shards[0].as_deref_mut().expect("the only shard");
        expired += expire_cycle(
            shard,
            UnixMs(now.0.min(start.0 + 9_000)),
            effects,
            &mut || true,
        )
        .expired;
    }
    assert_eq!(expired, 501, "of both databases");
    before.extend(instance.effects.take());
    let mut copy = Instance::new(1);
    copy.replay(&before).expect("the effects are valid");
    assert_eq!(copy.dump(), instance.dump());
    assert_eq!(copy.dump().len(), 1000);
}
