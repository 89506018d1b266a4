//! DUMP and RESTORE: both directions with a real `redis-server`, effects, and hostile payloads.

use crate::harness::{Instance, START};
use crate::redis::Redis;
use moon_core::UnixMs;
use moon_rdb::payload;
use moon_resp::{OwnedArgs, ReplyParser};
use proptest::prelude::*;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

/// A key of each type and form.
pub(crate) const MAKERS: &[&str] = &[
    "set k 10",
    "set k -2147483649",
    "set k plain",
    "set k abcabcabcabcabcabcabcabcabcabcabcabc",
    "rpush k a",
    "rpush k a b 1 -5 70000 5000000000 a",
    "sadd k 1 2 3 -40000",
    "sadd k 9000000000 1",
    "sadd k b a 1",
    "hset k f v 1 2 long 5000000000",
    "xadd k 1-1 f v 1 2",
    "xgroup create k g 5-0 mkstream",
    "zadd k 1 a 2.5 b -inf c 3.25 d 5 7",
    "pfadd k a b c",
    "setbit k 1000 1",
];

pub(crate) fn run(moon: &mut Instance, parts: &[&[u8]]) -> Vec<u8> {
    moon.run_args(&OwnedArgs::new(parts.iter()))
}

pub(crate) fn words(command: &str) -> Vec<&[u8]> {
    command.split(' ').map(str::as_bytes).collect()
}

/// The bytes of a bulk reply.
pub(crate) fn bulk(reply: &[u8]) -> Vec<u8> {
    let start = reply.iter().position(|b| *b == b'\n').expect("a line") + 1;
    assert_eq!(reply[0], b'$', "{}", reply.escape_ascii());
    reply[start..reply.len() - 2].to_vec()
}

pub(crate) fn dump(moon: &mut Instance, key: &[u8]) -> Vec<u8> {
    bulk(&run(moon, &[b"DUMP", key]))
}

/// As the other server has it: a list of commands that make `k` anew, larger than small forms hold.
pub(crate) fn large(kind: &str) -> Vec<String> {
    (0..700)
        .map(|n| match kind {
            "rpush" => format!("rpush k element-{n} {n}"),
            "sadd" => format!("sadd k member-{n} {n}"),
            "xadd" => format!("xadd k {n}-7 field {n} other value-{n}"),
            "hset" => format!("hset k field-{n} {n} {n} value-{n}"),
            "pfadd" => format!("pfadd k {n} member-{n}"),
            "zadd" => format!("zadd k {n} member-{n} {n}.25 {n}"),
            _ => format!("append k {n}-and-some-more-that-repeats-itself"),
        })
        .collect()
}

fn ordered(mut reply: Vec<u8>, is_ordered: bool) -> Vec<u8> {
    if !is_ordered {
        // Members and pairs come in any order; their lines sorted are the same.
        let mut lines: Vec<&[u8]> = reply.split(|b| *b == b'\n').collect();
        lines.sort_unstable();
        reply = lines.join(&b'\n');
    }
    reply
}

/// Both servers make the same key, and each takes what the other dumped.
fn exchange(redis: &mut Redis, commands: &[String], read: &str, is_ordered: bool) {
    exchange_after(
        redis,
        &mut Instance::new(2),
        commands,
        read,
        is_ordered,
        |_, _| {},
    );
}

/// The same, with something `between` making the key and dumping it.
pub(crate) fn exchange_after(
    redis: &mut Redis,
    moon: &mut Instance,
    commands: &[String],
    read: &str,
    is_ordered: bool,
    between: impl FnOnce(&mut Redis, &mut Instance),
) {
    redis.run(&["FLUSHALL"]);
    moon.run("flushall");
    for command in commands {
        redis.run(&words(command));
        moon.run(command);
    }
    between(redis, moon);
    let expected = redis.run(&words(read));
    let theirs = bulk(&redis.run(&[b"DUMP", &b"k"[..]]));
    let ours = dump(moon, b"k");
    if ["set", "append", "pfadd"]
        .iter()
        .any(|of_strings| commands[0].starts_with(of_strings))
    {
        let [ours, theirs] = [&ours, &theirs].map(|bytes| bytes.escape_ascii().to_string());
        assert_eq!(ours, theirs, "{}", commands[0]);
    }
    let what = &commands[0];
    let reply = run(moon, &[b"RESTORE", b"k", b"0", &theirs, b"REPLACE"]);
    assert_eq!(reply, b"+OK\r\n", "{what}: what Redis dumped");
    let found = run(moon, &words(read));
    assert_eq!(
        ordered(found, is_ordered).escape_ascii().to_string(),
        ordered(expected.clone(), is_ordered)
            .escape_ascii()
            .to_string(),
        "{what}"
    );
    let parts: [&[u8]; 5] = [b"RESTORE", b"k", b"0", &ours, b"REPLACE"];
    assert_eq!(redis.run(&parts), b"+OK\r\n", "{what}: what is dumped here");
    let found = redis.run(&words(read));
    assert_eq!(
        ordered(found, is_ordered),
        ordered(expected, is_ordered),
        "{what}"
    );
}

#[test]
fn each_server_restores_what_the_other_dumped() {
    let Some(mut redis) = Redis::start(&[]) else {
        return;
    };
    for make in MAKERS {
        let (read, is_ordered) = reader_of(make);
        exchange(&mut redis, &[(*make).to_owned()], read, is_ordered);
    }
    for kind in ["append", "rpush", "sadd", "hset", "zadd", "xadd", "pfadd"] {
        let (read, is_ordered) = reader_of(kind);
        exchange(&mut redis, &large(kind), read, is_ordered);
    }
}

pub(crate) fn reader_of(command: &str) -> (&'static str, bool) {
    match command.split(' ').next() {
        Some("rpush") => ("lrange k 0 -1", true),
        Some("sadd") => ("smembers k", false),
        Some("hset") => ("hgetall k", false),
        Some("xadd" | "xgroup") => ("xinfo stream k full", true),
        Some("zadd") => ("zrange k 0 -1 WITHSCORES", true),
        _ => ("get k", true),
    }
}

#[test]
fn dumped_strings_are_the_bytes_of_redis() {
    let Some(mut redis) = Redis::start(&[]) else {
        return;
    };
    let seed = 7;
    println!("seed {seed}");
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut moon = Instance::new(1);
    for round in 0..3000 {
        let alphabet = rng.random_range(1..40);
        let len = rng.random_range(0..if round % 50 == 0 { 40_000 } else { 300 });
        let mut text: Vec<u8> = Vec::new();
        while text.len() < len {
            if rng.random_range(0..4) == 0 && !text.is_empty() {
                let from = rng.random_range(0..text.len());
                let to = (from + rng.random_range(1..300)).min(text.len());
                text.extend_from_within(from..to);
            } else {
                text.push(rng.random_range(0..alphabet));
            }
        }
        redis.run(&[b"SET", &b"k"[..], &text]);
        run(&mut moon, &[b"SET", b"k", &text]);
        let theirs = bulk(&redis.run(&[b"DUMP", &b"k"[..]]));
        let ours = dump(&mut moon, b"k");
        assert_eq!(ours, theirs, "round {round}: {}", text.escape_ascii());
    }
}

#[test]
fn the_effect_of_restore_is_absolute_and_repeats_the_value() {
    let mut moon = Instance::new(2);
    moon.run("hset h f v");
    moon.run("set s old");
    let payload = dump(&mut moon, b"h");
    moon.effects();
    let cases: [(&[&[u8]], i64); 4] = [
        (&[b"0", &payload], 0),
        (&[b"5000", &payload, b"REPLACE"], START.0 + 5000),
        (
            &[b"4102444800000", &payload, b"ABSTTL", b"IDLETIME", b"9"],
            4_102_444_800_000,
        ),
        (&[b"0", &payload, b"FREQ", b"7", b"REPLACE"], 0),
    ];
    for (rest, at) in cases {
        run(&mut moon, &[b"DEL", b"copy"]);
        moon.effects();
        let mut parts: Vec<&[u8]> = vec![b"restore", b"copy"];
        parts.extend(rest);
        assert_eq!(run(&mut moon, &parts), b"+OK\r\n");
        let effect = moon.effects.take();
        let at = at.to_string();
        let mut expected = Vec::new();
        let parts: [&[u8]; 6] = [
            b"RESTORE",
            b"copy",
            at.as_bytes(),
            &payload,
            b"REPLACE",
            b"ABSTTL",
        ];
        moon_resp::write_request(&mut expected, &parts);
        assert_eq!(
            effect.escape_ascii().to_string(),
            expected.escape_ascii().to_string()
        );
        let mut other = Instance::new(1);
        other.replay(&effect).expect("an effect");
        assert_eq!(
            other.dump()[&(0, b"copy".to_vec())],
            moon.dump()[&(0, b"copy".to_vec())]
        );
    }
}

#[test]
fn idle_time_comes_back_and_what_has_expired_does_not() {
    let mut moon = Instance::new(1);
    moon.run("set s v");
    let payload = dump(&mut moon, b"s");
    run(
        &mut moon,
        &[b"RESTORE", b"i", b"0", &payload, b"IDLETIME", b"1000"],
    );
    moon.expect("object idletime i", ":1000\r\n");
    moon.effects();
    let past: [&[u8]; 5] = [b"RESTORE", b"gone", b"1000", &payload, b"ABSTTL"];
    assert_eq!(run(&mut moon, &past), b"+OK\r\n");
    moon.expect("exists gone", ":0\r\n");
    assert!(moon.effects().is_empty());
    let past: [&[u8]; 6] = [b"RESTORE", b"i", b"1000", &payload, b"ABSTTL", b"REPLACE"];
    assert_eq!(run(&mut moon, &past), b"+OK\r\n");
    moon.expect("exists i", ":0\r\n");
    assert_eq!(moon.effects(), ["DEL i"]);
    // A key past its deadline is no key.
    moon.run("psetex s 5 v");
    moon.now = UnixMs(START.0 + 10);
    assert_eq!(
        run(&mut moon, &[b"RESTORE", b"s", b"0", &payload]),
        b"+OK\r\n"
    );
    moon.expect("ttl s", ":-1\r\n");
}

/// Type and value with a footer that fits.
pub(crate) fn sealed(value: &[u8]) -> Vec<u8> {
    let mut out = value.to_vec();
    payload::seal(&mut out, 0);
    out
}

#[test]
fn values_that_no_command_makes_are_refused() {
    let mut moon = Instance::new(1);
    let cases: &[(&str, &[u8])] = &[
        ("nothing", b""),
        ("an unknown type", b"\x63\x01a"),
        ("an opcode", b"\xff"),
        ("an empty list", b"\x01\x00"),
        ("an empty set", b"\x02\x00"),
        ("an empty hash", b"\x04\x00"),
        ("a quicklist without nodes", b"\x12\x00"),
        ("an empty listpack", b"\x10\x07\x07\x00\x00\x00\x00\x00\xff"),
        ("a member twice", b"\x02\x02\x01a\x01a"),
        ("a field twice", b"\x04\x02\x01a\x01b\x01a\x01c"),
        ("a list of 2^32 elements", b"\x01\x80\xff\xff\xff\xff\x01a"),
        (
            "a list of 2^60 elements",
            b"\x01\x81\x10\x00\x00\x00\x00\x00\x00\x00\x01a",
        ),
        (
            "a string of 2^60 bytes",
            b"\x00\x81\x10\x00\x00\x00\x00\x00\x00\x00a",
        ),
        (
            "a string that expands too far",
            b"\x00\xc3\x01\x80\x0f\xff\xff\xff\x00",
        ),
        ("bytes behind the value", b"\x00\x01ab"),
    ];
    for (what, value) in cases {
        let reply = run(&mut moon, &[b"RESTORE", b"k", b"0", &sealed(value)]);
        assert_eq!(reply, b"-ERR Bad data format\r\n", "{what}");
    }
    assert!(moon.dump().is_empty() && moon.effects().is_empty());
}

/// Thresholds at which nearly everything is large.
const TINY: &[&str] = &[
    "--hash-max-listpack-entries",
    "2",
    "--set-max-intset-entries",
    "2",
    "--list-max-listpack-size",
    "2",
    "--list-compress-depth",
    "1",
    "--zset-max-listpack-entries",
    "2",
    "--stream-node-max-entries",
    "3",
    "--hll-sparse-max-bytes",
    "20",
];

/// Commands that make large values, for [`large`].
const KINDS: [&str; 7] = ["append", "rpush", "sadd", "hset", "zadd", "xadd", "pfadd"];

/// Hashes whose fields expire, in the forms that Redis 7.4 and its release candidates have: types 24
/// and 22, then 25 and 23, which are listpacks.
fn hashes_of_7_4() -> Vec<Vec<u8>> {
    let first = 4_102_444_800_123_i64;
    let earliest = first.to_le_bytes();
    let absolute = [&[0x81][..], &first.to_be_bytes()].concat();
    let entry = |bytes: &[u8]| [bytes, &[u8::try_from(bytes.len()).expect("short")]].concat();
    let number = [&[0xf4][..], &earliest].concat();
    let entries: [&[u8]; 6] = [b"\x81f", b"\x81v", &number, b"\x81g", b"\x07", b"\x00"];
    let body: Vec<u8> = entries.iter().flat_map(|e| entry(e)).collect();
    let len = u8::try_from(body.len() + 7).expect("short");
    let packed = [&[len, len, 0, 0, 0, 6, 0][..], &body, &[0xff]].concat();
    let parts: [&[&[u8]]; 4] = [
        &[&[24], &earliest, b"\x02\x00\x01f\x01v\x01\x01g\xc0\x07"],
        &[&[22, 2], &absolute, b"\x01f\x01v\x00\x01g\xc0\x07"],
        &[&[25], &earliest, &packed],
        &[&[23], &packed],
    ];
    parts.iter().map(|parts| sealed(&parts.concat())).collect()
}

#[test]
fn hashes_of_redis_7_4_are_restored_in_every_form() {
    let deadlines = [
        "*2\r\n:4102444800123\r\n:-1\r\n",
        "*2\r\n:-1\r\n:4102444800123\r\n",
    ];
    for (number, payload) in hashes_of_7_4().iter().enumerate() {
        let mut moon = Instance::new(2);
        let reply = run(&mut moon, &[b"RESTORE", b"h", b"0", payload]);
        assert_eq!(reply, b"+OK\r\n", "form {number}");
        moon.expect("hmget h f g", "*2\r\n$1\r\nv\r\n$1\r\n7\r\n");
        // In the first form it is g that expires.
        let expected = deadlines[usize::from(number == 0)];
        moon.expect("hpexpiretime h fields 2 f g", expected);
    }
}

/// Dumps of every type and form, from the command that makes each.
fn dumps() -> Vec<Vec<u8>> {
    let mut dumps: Vec<Vec<u8>> = MAKERS
        .iter()
        .map(|make| {
            let mut moon = Instance::new(1);
            moon.run(make);
            dump(&mut moon, b"k")
        })
        .collect();
    for kind in KINDS {
        let mut moon = Instance::new(1);
        large(kind).iter().take(30).for_each(|line| {
            moon.run(line);
        });
        dumps.push(dump(&mut moon, b"k"));
    }
    // The compact forms too, which are not written here, and those of tiny thresholds.
    for config in [&[][..], TINY] {
        let Some(mut redis) = Redis::start(config) else {
            break;
        };
        let large = KINDS.map(|kind| large(kind).into_iter().take(30).collect());
        let makers = MAKERS.iter().map(|make| vec![(*make).to_owned()]);
        for commands in makers.chain(large) {
            redis.run(&["DEL", "k"]);
            for command in commands {
                redis.run(&words(&command));
            }
            dumps.push(bulk(&redis.run(&["DUMP", "k"])));
        }
    }
    dumps.extend(hashes_of_7_4());
    dumps
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 20,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn no_forged_payload_panics_or_makes_what_cannot_be_read(
        seed: u64,
    ) {
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut moon = Instance::new(1);
        let dumps = DUMPS.with(Clone::clone);
        for _ in 0..500 {
            let from = &dumps[rng.random_range(0..dumps.len())];
            let mut value = payload::open(from).expect("a dump").to_vec();
            for _ in 0..rng.random_range(1..4) {
                let other = &dumps[rng.random_range(0..dumps.len())];
                damage(&mut value, other, &mut rng);
            }
            let parts: [&[u8]; 5] = [b"RESTORE", b"k", b"0", &sealed(&value), b"REPLACE"];
            let reply = run(&mut moon, &parts);
            if reply == b"+OK\r\n" {
                // What was taken is a value like any other: it can be dumped and restored. A hash
                // whose fields have all expired leaves no key.
                let again = run(&mut moon, &[b"DUMP", b"k"]);
                if again == b"$-1\r\n" {
                    prop_assert!((22..=25).contains(&value[0]), "{}", value.escape_ascii());
                } else {
                    let again = bulk(&again);
                    let parts: [&[u8]; 4] = [b"RESTORE", b"again", b"0", &again];
                    prop_assert_eq!(run(&mut moon, &parts), b"+OK\r\n");
                }
                run(&mut moon, &[b"DEL", b"again"]);
                moon.shard(moon_core::ShardId(0)).db(0).self_check();
            } else {
                prop_assert_eq!(reply.as_slice(), b"-ERR Bad data format\r\n");
            }
            moon.effects.clear();
        }
    }
}

thread_local! {
    static DUMPS: Vec<Vec<u8>> = dumps();
}

/// Lengths and heads that promise much.
const GREEDY: [&[u8]; 6] = [
    b"\x81\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\x81\x10\x00\x00\x00\x00\x00\x00\x00",
    b"\x80\xff\xff\xff\xff",
    b"\xc3\x01\x80\x0f\xff\xff\xff",
    b"\x7f\xff",
    b"\xf4\xff\xff\xff\xff\xff\xff\xff\x7f",
];

/// Damages `value` in one place, perhaps with a part of another.
fn damage(value: &mut Vec<u8>, other: &[u8], rng: &mut SmallRng) {
    let at = rng.random_range(0..=value.len());
    let to = (at + rng.random_range(0..12)).min(value.len());
    match rng.random_range(0..7) {
        4 => {
            let from = rng.random_range(0..other.len());
            let end = (from + rng.random_range(1..40)).min(other.len());
            value.splice(at..to, other[from..end].iter().copied());
        }
        5 => drop(value.splice(at..to, GREEDY[rng.random_range(0..GREEDY.len())].to_vec())),
        // A value under the type of another.
        6 if !value.is_empty() => value[0] = other[0],
        0 if at < value.len() => value[at] ^= 1 << rng.random_range(0..8),
        1 if at < value.len() => value[at] = rng.random(),
        2 => value.truncate(at),
        _ => value.insert(at, rng.random()),
    }
}

#[test]
fn replies_are_whole() {
    let mut moon = Instance::new(1);
    moon.run("rpush k a b");
    let reply = run(&mut moon, &[b"DUMP", b"k"]);
    let parsed = ReplyParser::new().parse(&reply).expect("a reply");
    assert_eq!(parsed.map(|(_, len)| len), Some(reply.len()));
}

#[test]
fn streams_come_with_their_groups_in_both_directions() {
    let Some(mut redis) = Redis::start(&[]) else {
        return;
    };
    let mut moon = Instance::new(2);
    for command in [
        "xadd k 1-1 f v",
        "xadd k 2-1 f v",
        "xadd k 3-1 g w h x",
        "xdel k 2-1",
        "xgroup create k group 0",
        "xgroup create k other 1-1 ENTRIESREAD 1",
        "xreadgroup GROUP group consumer COUNT 1 STREAMS k >",
        "xgroup createconsumer k group idle",
    ] {
        redis.run(&words(command));
        moon.run(command);
    }
    let reads = [
        "xrange k - +",
        "xinfo groups k",
        "xpending k group",
        "xinfo stream k",
    ];
    let expected: Vec<_> = reads.iter().map(|read| redis.run(&words(read))).collect();
    let theirs = bulk(&redis.run(&[b"DUMP", &b"k"[..]]));
    let ours = dump(&mut moon, b"k");
    for payload in [&theirs, &ours] {
        let parts: [&[u8]; 5] = [b"RESTORE", b"k", b"0", payload, b"REPLACE"];
        assert_eq!(redis.run(&parts), b"+OK\r\n");
        assert_eq!(run(&mut moon, &parts), b"+OK\r\n");
        for (read, expected) in reads.iter().zip(&expected) {
            // How the blocks of a stream lie in memory is no part of it.
            let shown = |reply: &[u8]| {
                let text = reply.escape_ascii().to_string();
                let radix = text.find("radix-tree-keys").unwrap_or(text.len());
                let last = text.find("last-generated-id").unwrap_or(radix);
                format!("{}{}", &text[..radix], &text[last..])
            };
            assert_eq!(shown(&redis.run(&words(read))), shown(expected), "{read}");
            assert_eq!(
                shown(&run(&mut moon, &words(read))),
                shown(expected),
                "{read}"
            );
        }
    }
}

#[test]
fn a_hash_whose_fields_have_all_expired_does_not_come_back() {
    let mut moon = Instance::new(2);
    moon.run("hset h f v g w");
    let at = START.0 + 5;
    moon.run(&format!("hpexpireat h {at} FIELDS 1 f"));
    let one_left = dump(&mut moon, b"h");
    moon.run(&format!("hpexpireat h {at} FIELDS 1 g"));
    let none_left = dump(&mut moon, b"h");
    moon.now = UnixMs(at + 5);
    moon.effects();
    let restore = |moon: &mut Instance, key: &[u8], payload: &[u8]| {
        run(moon, &[b"RESTORE", key, b"0", payload])
    };
    assert_eq!(restore(&mut moon, b"none", &none_left), b"+OK\r\n");
    assert!(moon.effects().is_empty());
    moon.expect("exists none", ":0\r\n");
    assert_eq!(restore(&mut moon, b"one", &one_left), b"+OK\r\n");
    moon.expect("hgetall one", "*2\r\n$1\r\ng\r\n$1\r\nw\r\n");
}
