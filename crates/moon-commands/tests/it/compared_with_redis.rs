//! Replies compared byte for byte with a real `redis-server`, where one is installed.

use crate::harness::Instance;
use moon_core::UnixMs;
use moon_resp::{OwnedArgs, Protocol, ReplyParser, write_request};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tempfile::TempDir;

/// A private server and a connection to it; it ends with the test.
struct Redis {
    process: Child,
    connection: UnixStream,
    received: Vec<u8>,
    /// Holds its socket, which no other test can meet, as it could a port.
    _dir: TempDir,
}

impl Drop for Redis {
    fn drop(&mut self) {
        // It may have ended by itself; either way it is gone afterwards.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

impl Redis {
    /// `None` if there is no `redis-server` on this machine.
    fn start() -> Option<Redis> {
        let dir = tempfile::tempdir().expect("a directory");
        let socket = dir.path().join("redis.sock");
        let process = Command::new("redis-server")
            .args(["--port", "0", "--unixsocket"])
            .arg(&socket)
            .args(["--save", "", "--appendonly", "no", "--databases", "4"])
            .stdout(Stdio::null())
            .spawn()
            .ok()?;
        let deadline = Instant::now() + Duration::from_secs(10);
        let connection = loop {
            match UnixStream::connect(&socket) {
                Ok(connection) => break connection,
                Err(error) => assert!(Instant::now() < deadline, "no redis-server: {error}"),
            }
        };
        connection
            .set_read_timeout(Some(Duration::from_secs(10)))
            .expect("a timeout");
        Some(Redis {
            process,
            connection,
            received: Vec::new(),
            _dir: dir,
        })
    }

    fn run(&mut self, parts: &[&str]) -> Vec<u8> {
        let mut request = Vec::new();
        write_request(&mut request, parts);
        self.connection.write_all(&request).expect("sent");
        loop {
            let mut parser = ReplyParser::new();
            let parsed = parser.parse(&self.received).expect("a valid reply");
            if let Some((_, consumed)) = parsed {
                return self.received.drain(..consumed).collect();
            }
            let mut chunk = [0; 4096];
            let len = self.connection.read(&mut chunk).expect("a reply");
            assert!(len > 0, "the server went away");
            self.received.extend_from_slice(&chunk[..len]);
        }
    }
}

/// Both servers, given the same commands.
struct Pair {
    redis: Redis,
    moon: Instance,
}

impl Pair {
    fn start(shards: u16) -> Option<Pair> {
        let redis = Redis::start();
        if redis.is_none() {
            eprintln!("nothing compared: no redis-server on this machine");
        }
        Some(Pair {
            redis: redis?,
            moon: Instance::new(shards),
        })
    }

    fn resp3(&mut self) {
        self.redis.run(&["HELLO", "3"]);
        self.moon.protocol = Protocol::Resp3;
    }

    /// Runs a command on both and returns the reply; `''` stands for an empty argument.
    fn compare(&mut self, command: &str) -> Vec<u8> {
        let expected = self.redis.run(&parts_of(command));
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .expect("after 1970");
        self.moon.now = UnixMs(i64::try_from(now.as_millis()).expect("in range"));
        assert_same(command, &run(&mut self.moon, command), &expected);
        expected
    }
}

fn parts_of(command: &str) -> Vec<&str> {
    let part = |part| if part == "''" { "" } else { part };
    command.split_whitespace().map(part).collect()
}

fn run(moon: &mut Instance, command: &str) -> Vec<u8> {
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

/// Commands whose replies depend on neither time nor chance. Databases 0 to 3 are empty before.
const COMMANDS: &str = include_str!("commands.txt");

fn commands() -> impl Iterator<Item = &'static str> {
    COMMANDS
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// The replies of Redis to [`COMMANDS`], escaped, a line each. They are recorded anew by the
/// tests below when `MOON_RECORD_REPLIES` is set.
const RECORDED: [(Protocol, &str, &str); 2] = [
    (
        Protocol::Resp2,
        "tests/golden/replies-resp2.txt",
        include_str!("../golden/replies-resp2.txt"),
    ),
    (
        Protocol::Resp3,
        "tests/golden/replies-resp3.txt",
        include_str!("../golden/replies-resp3.txt"),
    ),
];

#[test]
fn replies_are_those_recorded_from_redis() {
    for (protocol, _, replies) in RECORDED {
        let mut moon = Instance::new(2);
        moon.protocol = protocol;
        assert_eq!(commands().count(), replies.lines().count());
        for (command, expected) in commands().zip(replies.lines()) {
            let found = run(&mut moon, command).escape_ascii().to_string();
            assert_eq!(found, expected, "{command}");
        }
    }
}

fn compare_all(pair: &mut Pair) {
    let mut replies = String::new();
    for command in commands() {
        let reply = pair.compare(command);
        replies.push_str(&format!("{}\n", reply.escape_ascii()));
    }
    if std::env::var_os("MOON_RECORD_REPLIES").is_some() {
        for (protocol, path, _) in RECORDED {
            if protocol == pair.moon.protocol {
                std::fs::write(path, &replies).expect("recorded");
            }
        }
    }
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
