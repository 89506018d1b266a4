//! RDB files against the real Redis: what it saves loads here as what it holds, and what is
//! written of that here loads there as the same again.
//!
//! The same commands run on Redis and here. Redis saves, its file is loaded into fresh shards and
//! compared with what the commands made here. The shards are written to a file again, which
//! `redis-check-rdb` has to accept and a second Redis has to load; its digest over all keys,
//! values and deadlines must be that of the first.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests fail where they stand, as the tests do"
)]

use crate::harness::{DATABASES, Instance};
use crate::redis::Redis;
use moon_commands::{LoadExpired, LoadSummary, ShardSet, load_rdb};
use moon_rdb::{RdbCompression, RdbInfo, RdbLimits, RdbValueRef, RdbVersion, RdbWriter};
use moon_resp::OwnedArgs;
use moon_store::{IntText, Value};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use std::process::Command;

type Parts = Vec<Vec<u8>>;

fn parts(line: &str) -> Parts {
    line.split(' ')
        .map(|part| part.as_bytes().to_vec())
        .collect()
}

fn with(line: &str, values: impl IntoIterator<Item = Vec<u8>>) -> Parts {
    let mut parts = parts(line);
    parts.extend(values);
    parts
}

fn numbers(count: i64, step: i64) -> impl Iterator<Item = Vec<u8>> {
    (0..count).map(move |n| (n * step).to_string().into_bytes())
}

/// Commands that make every type in every form that Redis saves.
fn commands() -> Vec<Parts> {
    let mut rng = SmallRng::seed_from_u64(48);
    let noise: Vec<u8> = (0..4000).map(|_| rng.random()).collect();
    let text = b"compressible text, ".repeat(300);
    let long = b"0123456789abcdef".repeat(6250);
    let mut commands = vec![
        with("SET empty", [Vec::new()]),
        with("SET binary", [(0..=255).collect()]),
        with("SET noise", [noise.clone()]),
        with("SET long", [long.clone()]),
        with("SET text", [text.clone()]),
        parts("PEXPIREAT text 4102444800123"),
    ];
    // Around the length from which strings are compressed, and beyond each length of a length.
    for len in [20, 21, 22, 63, 64, 16_383, 16_384] {
        commands.push(with(&format!("SET a{len}"), [vec![b'a'; len]]));
    }
    for number in [
        "0",
        "-1",
        "127",
        "128",
        "-128",
        "-129",
        "32767",
        "32768",
        "-32769",
        "2147483647",
        "2147483648",
        "-2147483649",
        "9223372036854775807",
        "-9223372036854775808",
        "007",
        "-0",
        "9223372036854775808",
        "1e3",
    ] {
        commands.push(parts(&format!("SET number:{number} {number}")));
    }
    commands.push(parts("SELECT 1"));
    let mixed = [
        "-1",
        "5000",
        "-4096",
        "70000",
        "8388607",
        "9000000000",
        "x",
        "",
    ];
    commands.push(with("RPUSH list:mixed", mixed.map(Into::into)));
    commands.push(with(
        "RPUSH list:long",
        [text.clone(), long.clone(), noise.clone()],
    ));
    commands.push(with("RPUSH list:many", numbers(3000, 7)));
    commands.push(with(
        "RPUSH list:words",
        (0..500).map(|n| format!("word {n}").into()),
    ));
    commands.push(with("SADD set:int16", numbers(100, 3)));
    commands.push(with("SADD set:int32", numbers(100, -100_000)));
    commands.push(with("SADD set:int64", numbers(100, 1 << 40)));
    commands.push(with("SADD set:words", ["a", "b", "7", ""].map(Into::into)));
    commands.push(with(
        "SADD set:long",
        [text.clone(), noise.clone(), b"1".to_vec()],
    ));
    commands.push(with("SADD set:many", numbers(2000, 1)));
    commands.push(parts("PEXPIREAT set:many 4102444800999"));
    commands.push(parts("SELECT 3"));
    let fields = |count| (0..count).flat_map(|n| [format!("f{n}").into(), n.to_string().into()]);
    commands.push(with("HSET hash:small", fields(10)));
    commands.push(with("HSET hash:many", fields(1000)));
    commands.push(with(
        "HSET hash:long",
        [b"field".to_vec(), text, noise, b"1".to_vec()],
    ));
    commands.push(with("SET", [Vec::new(), b"a key without a name".to_vec()]));
    commands.extend(streams());
    commands
}

/// Streams of one block and of several, with deletions, groups and pending entries.
fn streams() -> Vec<Parts> {
    let mut commands = Vec::new();
    for entry in 1..=250 {
        let name = if entry % 7 == 0 { "other" } else { "name" };
        commands.push(parts(&format!(
            "XADD stream:many {entry}-{entry} {name} {entry} b 0{entry}"
        )));
    }
    for id in [1, 2, 3, 50, 150, 249, 250] {
        commands.push(parts(&format!("XDEL stream:many {id}-{id}")));
    }
    for text in [
        "XTRIM stream:many MAXLEN 180",
        "XGROUP CREATE stream:many g 100",
        "XGROUP CREATE stream:many h $ ENTRIESREAD 7",
        "XGROUP CREATE stream:many i 90",
        "XGROUP CREATECONSUMER stream:many g a",
        "XGROUP CREATECONSUMER stream:many g b",
        "XCLAIM stream:many g a 0 100-100 101-101 TIME 1600000000000 RETRYCOUNT 3 FORCE JUSTID",
        "XCLAIM stream:many g b 0 200-200 TIME 1600000000001 RETRYCOUNT 1 FORCE JUSTID LASTID 200",
        "XADD stream:empty 5-1 f v",
        "XDEL stream:empty 5-1",
        "XGROUP CREATE stream:new g 0 MKSTREAM",
        "XADD stream:numbers 18446744073709551615-0 1 -1 127 128 4096 9223372036854775807 007 -0",
        "PEXPIREAT stream:numbers 4102444800999",
    ] {
        commands.push(parts(text));
    }
    commands.push(with(
        "XADD stream:long 1-1 field",
        [b"0123456789abcdef".repeat(6250)],
    ));
    commands.push(with("XADD stream:long 1-2 field", [b"v".to_vec()]));
    commands
}

/// Redis and an instance here after the same commands.
fn both(config: &[&str], shards: u16) -> Option<(Redis, Instance)> {
    let mut redis = Redis::start(config)?;
    let mut moon = Instance::new(shards);
    for command in commands() {
        let reply = redis.run(&command);
        assert!(!reply.starts_with(b"-"), "{}", reply.escape_ascii());
        if command[0] == b"SELECT" {
            moon.db = std::str::from_utf8(&command[1]).unwrap().parse().unwrap();
        } else {
            assert_eq!(moon.run_args(&OwnedArgs::new(&command)), reply);
        }
    }
    assert_eq!(redis.run(&["SAVE"]), b"+OK\r\n");
    Some((redis, moon))
}

fn load(file: &[u8], shards: u16) -> (Instance, LoadSummary) {
    let mut loaded = Instance::new(shards);
    let set = ShardSet::Many {
        count: loaded.count,
        shards: &mut loaded.shards,
    };
    let summary = load_rdb(
        set,
        loaded.count,
        file,
        RdbLimits::default(),
        &loaded.limits,
        LoadExpired::Keep,
        &mut |_| {},
    )
    .expect("a good file");
    (loaded, summary)
}

/// All keys of the instance in one file.
fn write(instance: &mut Instance, version: RdbVersion, compression: RdbCompression) -> Vec<u8> {
    let writer = RdbWriter::header(Vec::new(), version).unwrap();
    let mut writer = writer.with_compression(compression);
    let info = RdbInfo {
        redis_ver: "7.2.0",
        ctime_s: 1_700_000_000,
        used_mem_bytes: 1,
        aof_base: false,
        cut_lsn: None,
    };
    writer.info(&info).unwrap();
    for db in 0..DATABASES {
        writer.select_db(u32::from(db), 10, 1).unwrap();
        for shard in instance.shards.iter_mut().flatten() {
            shard.db(db).for_each(&mut |key, value, deadline| {
                let deadline = deadline.map(|at| at.0);
                entry(&mut writer, key, deadline, value);
            });
        }
    }
    writer.finish().unwrap()
}

fn entry(writer: &mut RdbWriter<Vec<u8>>, key: &[u8], deadline: Option<i64>, value: &Value) {
    let mut text = IntText::new();
    match value {
        Value::List(list) => {
            let elements = list.to_vecs();
            let mut elements = elements.iter().map(Vec::as_slice);
            writer.entry(key, deadline, RdbValueRef::List(&mut elements))
        }
        Value::Set(set) => {
            let members: Vec<Vec<u8>> = set.iter().map(|member| member.to_vec()).collect();
            let mut members = members.iter().map(Vec::as_slice);
            writer.entry(key, deadline, RdbValueRef::Set(&mut members))
        }
        Value::Hash(hash) if hash.next_deadline().is_some() => {
            let first = hash.next_deadline().expect("there is one").0;
            let fields = hash.fields();
            let mut fields = fields.map(|f| (f.name, f.value, f.deadline.map(|at| at.0)));
            let fields = &mut fields;
            writer.entry(key, deadline, RdbValueRef::VolatileHash { first, fields })
        }
        Value::Hash(hash) => writer.entry(key, deadline, RdbValueRef::Hash(&mut hash.iter())),
        Value::ZSet(zset) => writer.entry(key, deadline, RdbValueRef::ZSet(&mut zset.iter())),
        Value::Stream(stream) => {
            let rdb = stream.to_rdb();
            writer.entry(key, deadline, RdbValueRef::Stream(&rdb))
        }
        Value::Int(_) | Value::Str(_) => {
            let bytes = value.as_bytes(&mut text).expect("a string");
            writer.entry(key, deadline, RdbValueRef::String(bytes))
        }
    }
    .unwrap();
}

fn there_and_back(config: &[&str], shards: u16) {
    let Some((mut redis, mut moon)) = both(config, shards) else {
        return;
    };
    let saved = std::fs::read(redis.dir.path().join("dump.rdb")).unwrap();
    let (mut loaded, summary) = load(&saved, shards);
    let expected = moon.dump();
    let found = loaded.dump();
    assert_eq!(summary.keys, expected.len() as u64);
    assert!(summary.redis_ver.is_some() && !summary.aof_base);
    for (key, value) in &expected {
        assert_eq!(found.get(key), Some(value), "{key:?}");
    }
    assert_eq!(found.len(), expected.len());

    let digest = redis.run(&["DEBUG", "DIGEST"]);
    for version in [RdbVersion::V9, RdbVersion::V10] {
        for compression in [RdbCompression::Off, RdbCompression::Lzf] {
            let label = format!("{version:?}, {compression:?}");
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("dump.rdb");
            std::fs::write(&path, write(&mut loaded, version, compression)).unwrap();
            match Command::new("redis-check-rdb").arg(&path).output() {
                Ok(report) => {
                    let text = String::from_utf8_lossy(&report.stdout);
                    assert!(report.status.success(), "{label}: {text}");
                    assert!(text.contains("Checksum OK"), "{label}: {text}");
                }
                Err(_) => eprintln!("not checked: no redis-check-rdb on this machine"),
            }
            let mut again = Redis::start_in(dir, &[]).expect("there was one before");
            assert_eq!(again.run(&["DEBUG", "DIGEST"]), digest, "{label}");
            // The canary: the digest sees a changed element.
            again.run(&["SELECT", "1"]);
            again.run(&["LSET", "list:many", "1500", "other"]);
            assert_ne!(again.run(&["DEBUG", "DIGEST"]), digest, "{label}");
        }
    }
}

#[test]
fn a_keyspace_goes_from_redis_to_here_and_back_without_change() {
    there_and_back(&[], 3);
}

#[test]
fn so_does_one_that_redis_saved_without_compression_and_checksum() {
    there_and_back(&["--rdbcompression", "no", "--rdbchecksum", "no"], 1);
}

#[test]
fn so_does_one_that_redis_kept_in_other_forms() {
    let packed = "--hash-max-listpack-entries 5000 --hash-max-listpack-value 100000 \
                  --set-max-intset-entries 5000 --list-max-listpack-size -5 \
                  --maxmemory-policy allkeys-lfu";
    let small = "--hash-max-listpack-entries 2 --set-max-intset-entries 2 \
                 --list-max-listpack-size 2 --list-compress-depth 1 \
                 --maxmemory-policy allkeys-lru";
    for config in [packed, small] {
        there_and_back(&config.split_whitespace().collect::<Vec<_>>(), 2);
    }
}
