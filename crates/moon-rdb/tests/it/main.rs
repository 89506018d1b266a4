//! Against the real Redis: it loads what is written here, and what it saves is read here.
//!
//! Where `redis-server`, `redis-cli` or `redis-check-rdb` is not installed, these tests say so
//! on stderr and check nothing.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests fail where they stand, as the tests do"
)]

mod field_deadlines;
mod redis;

use moon_rdb::{
    RdbEntry, RdbInfo, RdbItem, RdbReader, RdbValue, RdbValueRef, RdbVersion, RdbWriter,
};
use redis::Redis;
use std::collections::BTreeMap;
use std::path::Path;

const INFO: RdbInfo<'static> = RdbInfo {
    redis_ver: "7.0.0",
    ctime_s: 1_700_000_000,
    used_mem_bytes: 1_000_000,
    aof_base: true,
    cut_lsn: Some(123_456_789_012),
};

const DEADLINE_MS: i64 = 4_102_444_800_123;

fn own_dump() -> Vec<u8> {
    let mut writer = RdbWriter::header(Vec::new(), RdbVersion::V10).unwrap();
    writer.info(&INFO).unwrap();
    writer.select_db(0, 8, 1).unwrap();
    for (key, text) in [
        ("text", "hello"),
        ("int8", "-128"),
        ("int16", "-32768"),
        ("int32", "2147483647"),
        ("int64", "9223372036854775807"),
    ] {
        let value = RdbValueRef::String(text.as_bytes());
        writer.entry(key.as_bytes(), None, value).unwrap();
    }
    let long = vec![b'z'; 100_000];
    writer
        .entry(b"long", Some(DEADLINE_MS), RdbValueRef::String(&long))
        .unwrap();
    let numbers: Vec<String> = (0..1000).map(|number| number.to_string()).collect();
    let mut elements = numbers.iter().map(String::as_bytes);
    writer
        .entry(b"list", None, RdbValueRef::List(&mut elements))
        .unwrap();
    let mut members = numbers.iter().map(String::as_bytes);
    writer
        .entry(b"set", None, RdbValueRef::Set(&mut members))
        .unwrap();
    writer.select_db(7, 1, 0).unwrap();
    let mut fields = numbers.iter().map(|n| (n.as_bytes(), b"value".as_slice()));
    writer
        .entry(b"hash", None, RdbValueRef::Hash(&mut fields))
        .unwrap();
    writer.finish().unwrap()
}

#[test]
fn redis_check_rdb_accepts_what_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("dump.rdb");
    std::fs::write(&path, own_dump()).unwrap();
    let Some((accepted, report)) = redis::check_rdb(&path) else {
        return;
    };
    assert!(accepted, "{report}");
    assert!(report.contains("Checksum OK"), "{report}");
    assert!(report.contains("9 keys read"), "{report}");

    // The canary: one changed byte must be seen by the tool that says "OK" above.
    let mut damaged = own_dump();
    let at = damaged.len() - 20;
    damaged[at] ^= 1;
    std::fs::write(&path, damaged).unwrap();
    let (accepted, _) = redis::check_rdb(&path).unwrap();
    assert!(!accepted, "a damaged file passed");
}

#[test]
fn redis_server_loads_what_is_written() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("dump.rdb"), own_dump()).unwrap();
    let Some(redis) = Redis::start(dir.path(), &[]) else {
        return;
    };
    for (command, expected) in [
        ("GET text", "hello"),
        ("GET int8", "-128"),
        ("GET int16", "-32768"),
        ("GET int32", "2147483647"),
        ("GET int64", "9223372036854775807"),
        ("STRLEN long", "100000"),
        ("PEXPIRETIME long", "4102444800123"),
        ("PEXPIRETIME text", "-1"),
        ("LLEN list", "1000"),
        ("LINDEX list 999", "999"),
        ("SCARD set", "1000"),
        ("SISMEMBER set 517", "1"),
        ("DBSIZE", "8"),
    ] {
        assert_eq!(redis.cli(0, command), expected, "{command}");
    }
    assert_eq!(redis.cli(7, "HLEN hash"), "1000");
    assert_eq!(redis.cli(7, "HGET hash 31"), "value");
}

fn read_dump(dir: &Path) -> BTreeMap<String, RdbEntry> {
    let bytes = std::fs::read(dir.join("dump.rdb")).unwrap();
    let mut keys = BTreeMap::new();
    for item in RdbReader::new(bytes.as_slice()) {
        if let RdbItem::Entry(entry) = item.unwrap() {
            let name = String::from_utf8(entry.key.clone()).unwrap();
            keys.insert(name, entry);
        }
    }
    keys
}

fn sorted(mut members: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    members.sort();
    members
}

fn numbers(count: u32) -> Vec<Vec<u8>> {
    (0..count).map(|n| n.to_string().into_bytes()).collect()
}

/// Saves one keyspace with `config` and checks what is read from the file.
fn redis_saves_and_we_read(config: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    let Some(redis) = Redis::start(dir.path(), config) else {
        return;
    };
    let words = |count| {
        (0..count)
            .map(|n| n.to_string())
            .collect::<Vec<_>>()
            .join(" ")
    };
    let pairs = |count| {
        let pairs = (0..count).map(|n| format!("f{n} {n}"));
        pairs.collect::<Vec<_>>().join(" ")
    };
    let squeezable = "abcdefgh".repeat(500);
    for command in [
        "SET text hello".to_owned(),
        "SET number -32768".to_owned(),
        format!("SET squeezed {squeezable} PXAT {DEADLINE_MS}"),
        format!("RPUSH list {}", words(2000)),
        format!("RPUSH mixed {squeezable} -1 5000 -4096 70000 8388607 9000000000 {squeezable}"),
        "SADD ints 1 2 3 -70000".to_owned(),
        format!("SADD words a b {squeezable}"),
        format!("SADD many {}", words(2000)),
        format!("HSET small {}", pairs(10)),
        format!("HSET large {}", pairs(2000)),
    ] {
        redis.cli(3, &command);
    }
    assert_eq!(redis.cli(3, "SAVE"), "OK");

    let keys = read_dump(dir.path());
    assert_eq!(keys.len(), 10);
    assert!(keys.values().all(|entry| entry.db == 3));
    let value = |name: &str| keys[name].value.clone();
    let squeezable = squeezable.into_bytes();
    assert_eq!(value("text"), RdbValue::String(b"hello".to_vec()));
    assert_eq!(value("number"), RdbValue::String(b"-32768".to_vec()));
    assert_eq!(value("squeezed"), RdbValue::String(squeezable.clone()));
    assert_eq!(keys["squeezed"].deadline, Some(DEADLINE_MS));
    assert_eq!(value("list"), RdbValue::List(numbers(2000)));
    let mut mixed = vec![squeezable.clone()];
    for number in ["-1", "5000", "-4096", "70000", "8388607", "9000000000"] {
        mixed.push(number.into());
    }
    mixed.push(squeezable.clone());
    assert_eq!(value("mixed"), RdbValue::List(mixed));
    for (name, expected) in [
        ("ints", ["1", "2", "3", "-70000"].map(Into::into).to_vec()),
        ("words", vec![b"a".to_vec(), b"b".to_vec(), squeezable]),
        ("many", numbers(2000)),
    ] {
        let RdbValue::Set(members) = value(name) else {
            panic!("{name} is no set");
        };
        assert_eq!(sorted(members), sorted(expected), "{name}");
    }
    for (name, count) in [("small", 10), ("large", 2000)] {
        let RdbValue::Hash(mut fields) = value(name) else {
            panic!("{name} is no hash");
        };
        let mut expected: Vec<_> = numbers(count)
            .into_iter()
            .map(|n| ([b"f", n.as_slice()].concat(), n))
            .collect();
        fields.sort();
        expected.sort();
        assert_eq!(fields, expected, "{name}");
    }
}

#[test]
fn a_dump_of_redis_is_read() {
    redis_saves_and_we_read(&[]);
}

#[test]
fn a_dump_of_redis_without_compression_and_checksum_is_read() {
    redis_saves_and_we_read(&["--rdbcompression", "no", "--rdbchecksum", "no"]);
}

#[test]
fn a_dump_of_redis_with_small_nodes_and_eviction_counters_is_read() {
    let policy = ["--maxmemory-policy", "allkeys-lfu"];
    let sizes = [
        "--list-max-listpack-size",
        "3",
        "--hash-max-listpack-entries",
        "5",
    ];
    redis_saves_and_we_read(&[policy.as_slice(), &sizes].concat());
    redis_saves_and_we_read(&["--maxmemory-policy", "allkeys-lru"]);
}
