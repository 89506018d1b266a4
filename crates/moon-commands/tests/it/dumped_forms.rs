//! DUMP and RESTORE between this server and a real `redis-server` whatever the thresholds of the
//! compact forms are, on either side and when a value was made.

use crate::dumped_values::{MAKERS, bulk, dump, exchange_after, large, reader_of, run, words};
use crate::harness::Instance;
use crate::redis::Redis;
use moon_commands::context::Limits;

/// Thresholds by their directives, and the same here.
type Thresholds = (&'static [(&'static str, &'static str)], fn(&mut Limits));

/// Everything above a few elements is large.
const LOW: Thresholds = (
    &[
        ("hash-max-listpack-entries", "3"),
        ("hash-max-listpack-value", "8"),
        ("list-max-listpack-size", "3"),
        ("list-compress-depth", "1"),
        ("set-max-intset-entries", "3"),
        ("zset-max-listpack-entries", "3"),
        ("zset-max-listpack-value", "8"),
        ("hll-sparse-max-bytes", "40"),
        ("stream-node-max-entries", "3"),
    ],
    |limits| {
        limits.hash_max_listpack_entries = 3;
        limits.hash_max_listpack_value = 8;
        limits.list_max_listpack_size = 3;
        limits.set_max_intset_entries = 3;
        limits.set_max_listpack_entries = 3;
        limits.set_max_listpack_value = 8;
        limits.zset_max_listpack_entries = 3;
        limits.zset_max_listpack_value = 8;
        limits.hll_sparse_max_bytes = 40;
        limits.stream_node_max_entries = 3;
    },
);

/// Everything is compact.
const HIGH: Thresholds = (
    &[
        ("hash-max-listpack-entries", "5000"),
        ("hash-max-listpack-value", "5000"),
        ("list-max-listpack-size", "-5"),
        ("list-compress-depth", "0"),
        ("set-max-intset-entries", "5000"),
        ("zset-max-listpack-entries", "5000"),
        ("zset-max-listpack-value", "5000"),
        ("hll-sparse-max-bytes", "15000"),
        ("stream-node-max-entries", "5000"),
    ],
    |limits| {
        limits.hash_max_listpack_entries = 5000;
        limits.hash_max_listpack_value = 5000;
        limits.list_max_listpack_size = -5;
        limits.set_max_intset_entries = 5000;
        limits.set_max_listpack_entries = 5000;
        limits.set_max_listpack_value = 5000;
        limits.zset_max_listpack_entries = 5000;
        limits.zset_max_listpack_value = 5000;
        limits.hll_sparse_max_bytes = 15_000;
        limits.stream_node_max_entries = 5000;
    },
);

const KINDS: [&str; 7] = ["append", "rpush", "sadd", "hset", "zadd", "xadd", "pfadd"];

fn set(redis: &mut Redis, moon: &mut Instance, (directives, change): Thresholds) {
    for (name, value) in directives {
        let reply = redis.run(&["CONFIG", "SET", name, value]);
        assert_eq!(reply, b"+OK\r\n", "{name}");
    }
    change(&mut moon.limits);
}

/// The commands that make each value.
fn values() -> impl Iterator<Item = Vec<String>> {
    let small = MAKERS.iter().map(|make| vec![(*make).to_owned()]);
    small.chain(KINDS.map(|kind| large(kind).into_iter().take(200).collect()))
}

#[test]
fn values_are_exchanged_whatever_the_thresholds_were_and_are() {
    let Some(mut redis) = Redis::start(&[]) else {
        return;
    };
    let mut moon = Instance::new(2);
    for (then, now) in [(LOW, LOW), (HIGH, HIGH), (LOW, HIGH), (HIGH, LOW)] {
        for commands in values() {
            let (read, is_ordered) = reader_of(&commands[0]);
            // How the entries of a stream are laid out is shown by XINFO; what they are, is asked.
            let read = match read.starts_with("xinfo") {
                true => "xrange k - +",
                false => read,
            };
            set(&mut redis, &mut moon, then);
            exchange_after(
                &mut redis,
                &mut moon,
                &commands,
                read,
                is_ordered,
                |redis, moon| set(redis, moon, now),
            );
        }
    }
}

/// What a value was made and dumped with decides nothing about the form it is restored in.
#[test]
fn restored_values_take_the_form_that_the_thresholds_ask_for() {
    let mut moon = Instance::new(2);
    // The forms of strings do not depend on thresholds.
    let is_string = |line: &str| {
        ["set ", "append", "pfadd", "setbit"]
            .iter()
            .any(|w| line.starts_with(w))
    };
    for commands in values().filter(|commands| !is_string(&commands[0])) {
        let made_under = |moon: &mut Instance, thresholds: Thresholds| {
            thresholds.1(&mut moon.limits);
            moon.run("flushall");
            for command in &commands {
                moon.run(command);
            }
            (dump(moon, b"k"), moon.run("object encoding k"))
        };
        let (of_low, low) = made_under(&mut moon, LOW);
        let (of_high, high) = made_under(&mut moon, HIGH);
        for (thresholds, expected) in [(LOW, &low), (HIGH, &high)] {
            thresholds.1(&mut moon.limits);
            for payload in [&of_low, &of_high] {
                let parts: [&[u8]; 5] = [b"RESTORE", b"k", b"0", payload, b"REPLACE"];
                assert_eq!(run(&mut moon, &parts), b"+OK\r\n");
                let found = moon.run("object encoding k");
                assert_eq!(found, *expected, "{}", commands[0]);
                moon.shard(moon_core::ShardId(0)).db(0).self_check();
                moon.shard(moon_core::ShardId(1)).db(0).self_check();
            }
        }
    }
}

/// A list of Redis may have nodes of a single element each, beside packed ones.
#[test]
fn lists_with_nodes_of_one_large_element_are_restored() {
    let Some(mut redis) = Redis::start(&["--enable-debug-command", "yes"]) else {
        return;
    };
    let reply = redis.run(&["DEBUG", "QUICKLIST-PACKED-THRESHOLD", "100b"]);
    assert_eq!(reply, b"+OK\r\n");
    let long = "x".repeat(300);
    for command in [
        format!("rpush k a {long} b 1"),
        format!("lpush k {long}{long}"),
        "linsert k before b between".to_owned(),
    ] {
        redis.run(&words(&command));
    }
    let payload = bulk(&redis.run(&["DUMP", "k"]));
    let expected = redis.run(&["LRANGE", "k", "0", "-1"]);
    let mut moon = Instance::new(1);
    assert_eq!(
        run(&mut moon, &[b"RESTORE", b"k", b"0", &payload]),
        b"+OK\r\n"
    );
    assert_eq!(run(&mut moon, &[b"LRANGE", b"k", b"0", b"-1"]), expected);
}
