//! Replies compared byte for byte with a real `redis-server`, where one is installed.

use crate::harness::Instance;
use crate::redis::Redis;
use moon_core::UnixMs;
use moon_resp::{OwnedArgs, Protocol};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use std::time::{SystemTime, UNIX_EPOCH};

/// Both servers, given the same commands.
pub(crate) struct Pair {
    pub(crate) redis: Redis,
    pub(crate) moon: Instance,
}

impl Pair {
    pub(crate) fn start(shards: u16) -> Option<Pair> {
        Some(Pair {
            redis: Redis::start(&[])?,
            moon: Instance::new(shards),
        })
    }

    fn resp3(&mut self) {
        self.redis.run(&["HELLO", "3"]);
        self.moon.protocol = Protocol::Resp3;
    }

    /// Runs a command on both and returns the reply; `''` stands for an empty argument.
    #[track_caller]
    pub(crate) fn compare(&mut self, command: &str) {
        let (found, expected) = self.run(command);
        assert_same(command, &found, &expected);
    }

    /// The replies of both to a command.
    fn run(&mut self, command: &str) -> (Vec<u8>, Vec<u8>) {
        let expected = self.redis.run(&parts_of(command));
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .expect("after 1970");
        self.moon.now = UnixMs(i64::try_from(now.as_millis()).expect("in range"));
        (run(&mut self.moon, command), expected)
    }
}

pub(crate) fn parts_of(command: &str) -> Vec<&str> {
    let part = |part| if part == "''" { "" } else { part };
    command.split_whitespace().map(part).collect()
}

pub(crate) fn run(moon: &mut Instance, command: &str) -> Vec<u8> {
    let parts = parts_of(command);
    if parts[0].eq_ignore_ascii_case("select") {
        moon.db = parts[1].parse().expect("a number");
        return b"+OK\r\n".to_vec();
    }
    moon.run_args(&OwnedArgs::new(parts))
}

#[track_caller]
fn assert_same(command: &str, found: &[u8], expected: &[u8]) {
    let [found, expected] = [found, expected].map(String::from_utf8_lossy);
    assert_eq!(found, expected, "{command}");
}

/// Lists of commands whose replies depend on neither time nor chance, one a line; `''` is an empty
/// argument. A list a family, each run on empty servers.
const LISTS: &str = "tests/it/commands";

/// The replies of Redis to each list, escaped, a line each. They are recorded anew by the tests
/// below when `MOON_RECORD_REPLIES` is set.
const RECORDED: &str = "tests/golden/replies";

fn recorded(name: &str, protocol: Protocol) -> String {
    let protocol = match protocol {
        Protocol::Resp2 => "resp2",
        Protocol::Resp3 => "resp3",
    };
    format!("{RECORDED}/{name}-{protocol}.txt")
}

/// The lists by their names.
pub(crate) fn lists() -> Vec<(String, Vec<String>)> {
    let files = std::fs::read_dir(LISTS).expect("the lists of commands");
    let mut lists: Vec<_> = files
        .map(|file| {
            let path = file.expect("a list").path();
            let name = path.file_stem().expect("a name").to_string_lossy();
            let lines = std::fs::read_to_string(&path).expect("a list of commands");
            let commands = lines
                .lines()
                .filter(|line| !line.is_empty() && !line.starts_with('#'));
            (name.into_owned(), commands.map(str::to_owned).collect())
        })
        .collect();
    lists.sort();
    assert!(lists.len() > 4, "only {} lists were found", lists.len());
    lists
}

#[test]
fn replies_are_those_recorded_from_redis() {
    for (name, commands) in lists() {
        for protocol in [Protocol::Resp2, Protocol::Resp3] {
            let path = recorded(&name, protocol);
            let replies = std::fs::read_to_string(&path).expect(&path);
            let mut moon = Instance::new(2);
            moon.protocol = protocol;
            assert_eq!(commands.len(), replies.lines().count(), "{path}");
            for (command, expected) in commands.iter().zip(replies.lines()) {
                let found = run(&mut moon, command).escape_ascii().to_string();
                assert_eq!(found, expected, "{name}: {command}");
            }
        }
    }
}

fn compare_all(pair: &mut Pair) {
    let mut differences = Vec::new();
    for (name, commands) in lists() {
        let mut replies = String::new();
        pair.run("select 0");
        pair.run("flushall");
        for command in commands {
            let (found, expected) = pair.run(&command);
            replies.push_str(&format!("{}\n", expected.escape_ascii()));
            if found != expected {
                let [found, expected] =
                    [found, expected].map(|reply| reply.escape_ascii().to_string());
                differences.push(format!(
                    "{name}: {command}\n  here:  {found}\n  Redis: {expected}"
                ));
            }
        }
        if std::env::var_os("MOON_RECORD_REPLIES").is_some() {
            let path = recorded(&name, pair.moon.protocol);
            std::fs::write(path, &replies).expect("recorded");
        }
    }
    assert!(differences.is_empty(), "\n{}", differences.join("\n"));
}

#[test]
fn replies_are_those_of_redis_in_resp2() {
    for shards in [1, 3] {
        let Some(mut pair) = Pair::start(shards) else {
            return;
        };
        compare_all(&mut pair);
    }
}

#[test]
fn replies_are_those_of_redis_in_resp3() {
    let Some(mut pair) = Pair::start(2) else {
        return;
    };
    pair.resp3();
    compare_all(&mut pair);
}

/// Arguments that any command may get: keys, values, numbers at the edges, options.
const WORDS: &[&str] = &[
    "a",
    "b",
    "c",
    "1",
    "-1",
    "0",
    "10",
    "3.5",
    "abc",
    "''",
    "nan",
    "inf",
    "1e3",
    "0x1f",
    "9223372036854775807",
    "-9223372036854775808",
    "99999999999999999999",
    "2147483648",
    "EX",
    "PX",
    "EXAT",
    "PXAT",
    "KEEPTTL",
    "NX",
    "XX",
    "GET",
    "PERSIST",
    "GT",
    "LT",
    "DB",
    "REPLACE",
    "LEN",
    "IDX",
    "MINMATCHLEN",
    "WITHMATCHLEN",
    "4102444800",
    "4102444800000",
    "SYNC",
    "ASYNC",
    "ENCODING",
    "REFCOUNT",
];
const NAMES: &[&str] = &[
    "get",
    "set",
    "set",
    "set",
    "setnx",
    "setex",
    "psetex",
    "getset",
    "getex",
    "getex",
    "getdel",
    "mget",
    "mset",
    "msetnx",
    "append",
    "strlen",
    "setrange",
    "getrange",
    "substr",
    "incr",
    "decr",
    "incrby",
    "decrby",
    "incrbyfloat",
    "lcs",
    "del",
    "unlink",
    "exists",
    "touch",
    "type",
    "object",
    "expireat",
    "pexpireat",
    "expiretime",
    "pexpiretime",
    "persist",
    "rename",
    "renamenx",
    "copy",
    "move",
    "dbsize",
    "flushdb",
    "swapdb",
];

/// Left out: a SETRANGE far behind the end only costs memory, and what expires at once may do so
/// between the two servers' looks at the clock.
fn is_left_out(parts: &[&str]) -> bool {
    let has = |words: &[&str]| parts[1..].iter().any(|part| words.contains(part));
    match parts[0] {
        "setrange" => has(&["9223372036854775807", "2147483648"]),
        "psetex" | "setex" => has(&["1", "10"]),
        _ => has(&["EX", "PX", "EXAT", "PXAT"]) && has(&["1", "10"]),
    }
}

#[test]
fn random_commands_get_the_replies_of_redis() {
    let Some(mut pair) = Pair::start(3) else {
        return;
    };
    let seed = 20_261;
    println!("seed {seed}");
    let mut rng = SmallRng::seed_from_u64(seed);
    for _ in 0..20_000 {
        let mut parts = vec![NAMES[rng.random_range(0..NAMES.len())]];
        for at in 0..rng.random_range(0..6) {
            // The first arguments are mostly keys and values, so that commands meet data.
            let words = if at < 2 { 9 } else { WORDS.len() };
            parts.push(WORDS[rng.random_range(0..words)]);
        }
        if !is_left_out(&parts) {
            pair.compare(&parts.join(" "));
        }
    }
}

/// Arguments of commands on sorted sets: keys and members, scores, bounds, options.
const ZSET_WORDS: &[&str] = &[
    "z",
    "y",
    "x",
    "s",
    "a",
    "b",
    "c",
    "d",
    "''",
    "0",
    "1",
    "2",
    "3",
    "-1",
    "-2",
    "1.5",
    "(1",
    "(2.5",
    "inf",
    "-inf",
    "+inf",
    "(inf",
    "-",
    "+",
    "[a",
    "(b",
    "[c",
    "(",
    "[",
    "nan",
    "foo",
    "NX",
    "XX",
    "GT",
    "LT",
    "CH",
    "INCR",
    "WITHSCORES",
    "LIMIT",
    "REV",
    "BYSCORE",
    "BYLEX",
    "WEIGHTS",
    "AGGREGATE",
    "MIN",
    "MAX",
    "SUM",
    "COUNT",
    "1000000",
    "-4503599627370496",
];
/// The name, how many arguments there are mostly, and which of them are keys.
const ZSET_NAMES: &[(&str, usize, &[usize])] = &[
    ("zadd", 4, &[0]),
    ("zadd", 3, &[0]),
    ("zadd", 3, &[0]),
    ("zadd", 5, &[0]),
    ("zincrby", 3, &[0]),
    ("zrem", 2, &[0]),
    ("zcard", 1, &[0]),
    ("zscore", 2, &[0]),
    ("zmscore", 3, &[0]),
    ("zrank", 2, &[0]),
    ("zrevrank", 2, &[0]),
    ("zcount", 3, &[0]),
    ("zlexcount", 3, &[0]),
    ("zrange", 3, &[0]),
    ("zrange", 5, &[0]),
    ("zrange", 7, &[0]),
    ("zrangestore", 4, &[0, 1]),
    ("zrangestore", 6, &[0, 1]),
    ("zrevrange", 3, &[0]),
    ("zrangebyscore", 4, &[0]),
    ("zrevrangebyscore", 3, &[0]),
    ("zrangebylex", 3, &[0]),
    ("zrevrangebylex", 3, &[0]),
    ("zremrangebyrank", 3, &[0]),
    ("zremrangebyscore", 3, &[0]),
    ("zremrangebylex", 3, &[0]),
    ("zpopmin", 1, &[0]),
    ("zpopmax", 2, &[0]),
    ("zmpop", 4, &[1, 2]),
    ("zunion", 3, &[1, 2]),
    ("zunion", 6, &[1, 2]),
    ("zunionstore", 4, &[0, 2, 3]),
    ("zunionstore", 7, &[0, 2, 3]),
    ("zinter", 4, &[1, 2]),
    ("zinterstore", 4, &[0, 2, 3]),
    ("zintercard", 5, &[1, 2]),
    ("zdiff", 4, &[1, 2]),
    ("zdiffstore", 4, &[0, 2, 3]),
    ("sadd", 2, &[0]),
    ("type", 1, &[0]),
];

#[test]
fn random_commands_on_sorted_sets_get_the_replies_of_redis() {
    let Some(mut pair) = Pair::start(3) else {
        return;
    };
    let seed = 20_262;
    println!("seed {seed}");
    let mut rng = SmallRng::seed_from_u64(seed);
    for entries in ["128", "0"] {
        let setting = "zset-max-listpack-entries";
        pair.redis.run(&["config", "set", setting, entries]);
        pair.moon.limits.zset_max_listpack_entries = entries.parse().expect("a number");
        pair.compare("flushall");
        for _ in 0..15_000 {
            let (name, usual, keys) = ZSET_NAMES[rng.random_range(0..ZSET_NAMES.len())];
            let is_by_member = name.contains("lex");
            let mut parts = vec![name];
            let count = match rng.random_range(0..12) {
                0 => rng.random_range(0..8),
                _ => usual,
            };
            for at in 0..count {
                let words = match at {
                    _ if keys.contains(&at) => 0..4,
                    // Which command is asked for shows in its number of keys most of all.
                    0 if keys.len() > 1 => 11..12,
                    1 if keys == [0, 2, 3] => 11..12,
                    _ => 4..ZSET_WORDS.len(),
                };
                parts.push(ZSET_WORDS[rng.random_range(words)]);
            }
            // Members are in order only where all scores are the same; the large form of Redis
            // answers by chance elsewhere.
            let by_chance = is_by_member || parts.contains(&"BYLEX");
            // Redis 7.2 has an option there.
            let is_newer = matches!(name, "zrank" | "zrevrank") && parts.len() > 3;
            if (entries != "0" || !by_chance) && !is_newer {
                pair.compare(&parts.join(" "));
            }
        }
    }
}
