//! Byte for byte what `redis-server` answers: the same requests to both, the replies compared.
//!
//! Two sources of requests: a list of lines, each with an odd option or an invalid one, and a
//! seeded generator that combines commands with odd arguments. Replies whose order Redis leaves
//! open are compared without it.

use crate::oracle_cases::{LINES, UNORDERED};
use crate::support::{assert_same_state, binary, flavor, is_installed, state};
use moon_harness::model::State;
use moon_harness::{Client, Flavor, FsyncPolicy, Reply, Server};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

/// Commands of one random run.
const RANDOM_COMMANDS: usize = 6000;
/// Seed of the random runs; a failure prints the request that shows it.
const SEED: u64 = 20_260;

struct Both {
    oracle: Server,
    tested: Server,
}

fn both(shards: u16) -> Option<Both> {
    if !is_installed("redis-server") {
        return None;
    }
    Some(Both {
        oracle: Server::start_temp(Flavor::Redis, "redis-server", |c| c).unwrap(),
        tested: Server::start_temp(flavor(), binary(), |c| {
            c.shards(shards).append(FsyncPolicy::Everysec)
        })
        .unwrap(),
    })
}

/// Sends one request to both and compares.
#[track_caller]
fn compare(oracle: &mut Client, tested: &mut Client, request: &[Vec<u8>], trail: &[String]) {
    let expected = oracle.command(request).unwrap();
    let found = tested.command(request).unwrap();
    let name = request[0].to_ascii_uppercase();
    let is_unordered = UNORDERED.iter().any(|n| n.as_bytes() == name);
    let same = if is_unordered {
        sorted(&expected) == sorted(&found)
    } else {
        expected == found
            || is_newer_encoding(&expected, &found)
            || is_same_time(&name, &expected, &found)
    };
    assert!(
        same,
        "{}\n redis: {expected:?}\n found: {found:?}\nafter:\n{}",
        show(request),
        trail.join("\n")
    );
}

/// Between the clock readings of two servers that get the same relative time, in milliseconds.
const CLOCKS_APART_MS: i64 = 2000;

/// Two servers read their clocks at different moments.
fn is_same_time(name: &[u8], expected: &Reply, found: &Reply) -> bool {
    let unit_ms = match name {
        b"TTL" | b"EXPIRETIME" => 1000,
        b"PTTL" | b"PEXPIRETIME" => 1,
        _ => return false,
    };
    let (Reply::Int(expected), Reply::Int(found)) = (expected, found) else {
        return false;
    };
    // Negative numbers are answers of another kind.
    *expected > 0 && *found > 0 && (expected - found).abs() * unit_ms <= CLOCKS_APART_MS
}

/// `found` with the deadlines of `expected` where they differ by no more than the clocks may.
fn with_aligned_deadlines(mut found: State, expected: &State) -> State {
    for (key, entry) in &mut found {
        let theirs = expected.get(key).and_then(|e| e.expires_at_ms);
        if let (Some(ours), Some(theirs)) = (entry.expires_at_ms, theirs)
            && ours.abs_diff(theirs) <= CLOCKS_APART_MS.unsigned_abs()
        {
            entry.expires_at_ms = Some(theirs);
        }
    }
    found
}

/// Since 7.2, Redis keeps small sets and lists in the compact form that 7.0 has for hashes only.
fn is_newer_encoding(expected: &Reply, found: &Reply) -> bool {
    let is_old = ["hashtable", "quicklist"]
        .iter()
        .any(|e| *expected == Reply::bulk(e));
    is_old && *found == Reply::bulk("listpack")
}

fn sorted(reply: &Reply) -> Reply {
    match reply {
        Reply::Array(items) => {
            let mut items = items.clone();
            items.sort_by_key(|item| format!("{item:?}"));
            Reply::Array(items)
        }
        other => other.clone(),
    }
}

fn show(request: &[Vec<u8>]) -> String {
    let parts: Vec<String> = request
        .iter()
        .map(|p| format!("\"{}\"", p.escape_ascii()))
        .collect();
    parts.join(" ")
}

/// Splits a line into words; `""` is the empty word, `_` inside a word stands for a space.
fn words(line: &str) -> Vec<Vec<u8>> {
    line.split_whitespace()
        .map(|word| match word {
            "\"\"" => Vec::new(),
            word => word.replace('_', " ").into_bytes(),
        })
        .collect()
}

#[test]
fn listed_requests_are_answered_as_redis_answers_them() {
    for shards in [1, 4] {
        let Some(both) = both(shards) else { return };
        let mut oracle = both.oracle.client().unwrap();
        let mut tested = both.tested.client().unwrap();
        let mut trail: Vec<String> = Vec::new();
        for line in LINES.lines().map(str::trim).filter(|l| !l.is_empty()) {
            if line.starts_with('#') {
                // Each section begins with an empty keyspace.
                trail.clear();
                for client in [&mut oracle, &mut tested] {
                    client.run("DISCARD").unwrap();
                    assert!(client.run("SELECT 0").unwrap().is_ok());
                    assert!(client.run("FLUSHALL").unwrap().is_ok());
                }
                continue;
            }
            compare(&mut oracle, &mut tested, &words(line), &trail);
            trail.push(line.to_owned());
        }
        assert_same_state(
            &state(&both.oracle),
            &with_aligned_deadlines(state(&both.tested), &state(&both.oracle)),
            "after all lines",
        );
    }
}

#[test]
fn random_requests_are_answered_as_redis_answers_them() {
    for shards in [1, 3] {
        let Some(both) = both(shards) else { return };
        let mut oracle = both.oracle.client().unwrap();
        let mut tested = both.tested.client().unwrap();
        let mut requests = Requests {
            rng: StdRng::seed_from_u64(SEED + u64::from(shards)),
        };
        let mut trail: Vec<String> = Vec::new();
        for _ in 0..RANDOM_COMMANDS {
            let request = requests.next();
            compare(&mut oracle, &mut tested, &request, &trail);
            trail.push(show(&request));
            if trail.len() > 60 {
                trail.remove(0);
            }
        }
        let expected = state(&both.oracle);
        let live = state(&both.tested);
        let aligned = with_aligned_deadlines(live.clone(), &expected);
        assert_same_state(&expected, &aligned, "after the random run");
        // What was answered is also what is recovered. (Redis 7.0 itself does not recover from
        // every mixture of SWAPDB and COPY between databases.)
        if flavor() == Flavor::Redis {
            continue;
        }
        let mut tested = both.tested;
        tested.kill9().unwrap();
        tested.restart().unwrap();
        assert_same_state(&live, &state(&tested), "after recovery");
    }
}

/// Generates requests: a command with a plausible number of arguments, each of them plausible or
/// odd.
struct Requests {
    rng: StdRng,
}

/// A template: `k` a key, `v` a value, `n` an integer, `f` a float, `d` a database, `i` an index,
/// `m` a hash field or member, `t` a time far ahead, `r` seconds from now, none of which end during
/// the run; anything else as it is.
const TEMPLATES: &[&str] = &[
    "SET k v",
    "SET k v",
    "SET k n",
    "SET k v NX",
    "SET k v XX",
    "SET k v GET",
    "SET k v NX GET",
    "SET k v PXAT t",
    "SET k v KEEPTTL",
    "SET k v EX r",
    "SETNX k v",
    "GET k",
    "GET k",
    "GETSET k v",
    "GETDEL k",
    "GETEX k PERSIST",
    "GETEX k PXAT t",
    "MGET k k k",
    "MSET k v k v",
    "MSETNX k v k v",
    "APPEND k v",
    "STRLEN k",
    "INCR k",
    "DECR k",
    "INCRBY k n",
    "DECRBY k n",
    "INCRBYFLOAT k f",
    "SETRANGE k i v",
    "GETRANGE k i i",
    "SUBSTR k i i",
    "LCS k k",
    "LCS k k LEN",
    "LCS k k IDX WITHMATCHLEN",
    "DEL k",
    "DEL k k",
    "UNLINK k",
    "EXISTS k k",
    "TOUCH k k",
    "TYPE k",
    "PEXPIREAT k t",
    "PEXPIREAT k t NX",
    "PEXPIREAT k t GT",
    "PEXPIREAT k t LT",
    "EXPIRE k r XX",
    "PEXPIRETIME k",
    "EXPIRETIME k",
    "PERSIST k",
    "RENAME k k",
    "RENAMENX k k",
    "COPY k k",
    "COPY k k REPLACE",
    "COPY k k DB d",
    "MOVE k d",
    "DBSIZE",
    "KEYS *",
    "KEYS k[1-3]",
    "OBJECT ENCODING k",
    "HSET k m v",
    "HSET k m v m v",
    "HGET k m",
    "HDEL k m m",
    "HGETALL k",
    "HLEN k",
    "HEXISTS k m",
    "HINCRBY k m n",
    "LPUSH k v v",
    "RPUSH k v",
    "LPOP k",
    "RPOP k",
    "LPOP k i",
    "RPOP k i",
    "LLEN k",
    "LRANGE k i i",
    "SADD k m m",
    "SADD k n",
    "SREM k m",
    "SMEMBERS k",
    "SISMEMBER k m",
    "SCARD k",
    "SELECT d",
    "SELECT 0",
    "SELECT 0",
    "SWAPDB 0 d",
    "FLUSHDB",
    "ECHO v",
    "PING v",
    "NOSUCH k i",
    "GET",
    "SET k",
    "HSET k m",
];

impl Requests {
    fn next(&mut self) -> Vec<Vec<u8>> {
        let mut template = TEMPLATES[self.rng.random_range(0..TEMPLATES.len())];
        // Flushes are rare, so that there is something to work on.
        if template == "FLUSHDB" && self.rng.random_range(0..10) > 0 {
            template = "GET k";
        }
        let mut request: Vec<Vec<u8>> = template
            .split(' ')
            .enumerate()
            .map(|(position, word)| match (position, word) {
                (0, name) => self.letter_case(name),
                (_, word) => self.word(word),
            })
            .collect();
        // Now and then one argument too many or too few.
        if self.rng.random_range(0..50) == 0 {
            // Without odd bytes: Redis cuts an argument short where it quotes one in an error.
            request.push(self.word("i"));
        }
        if self.rng.random_range(0..50) == 0 && request.len() > 1 {
            request.pop();
        }
        request
    }

    fn letter_case(&mut self, name: &str) -> Vec<u8> {
        match self.rng.random_range(0..4) {
            0 => name.to_ascii_lowercase().into_bytes(),
            _ => name.as_bytes().to_vec(),
        }
    }

    fn pick<'a>(&mut self, words: &[&'a [u8]]) -> &'a [u8] {
        words[self.rng.random_range(0..words.len())]
    }

    fn word(&mut self, kind: &str) -> Vec<u8> {
        match kind {
            "k" => format!("k{}", self.rng.random_range(0..8)).into_bytes(),
            "m" => format!("m{}", self.rng.random_range(0..6)).into_bytes(),
            "d" => format!("{}", self.rng.random_range(0..4)).into_bytes(),
            "t" => {
                format!("{}", 4_102_444_800_000_u64 + self.rng.random_range(0..1000)).into_bytes()
            }
            "i" => self
                .pick(&[b"0", b"1", b"2", b"5", b"-1", b"-3", b"100", b"-100", b"x"])
                .to_vec(),
            "r" => match self.word("n").as_slice() {
                b"1" | b"10" => b"100000".to_vec(),
                other => other.to_vec(),
            },
            "n" => self
                .pick(&[
                    b"1",
                    b"-1",
                    b"0",
                    b"10",
                    b"9223372036854775807",
                    b"-9223372036854775808",
                    b"9223372036854775808",
                    b"1.5",
                    b"abc",
                    b"",
                    b" 1",
                    b"+1",
                    b"01",
                    b"1 ",
                ])
                .to_vec(),
            "f" => self
                .pick(&[
                    b"1.5",
                    b"-0.1",
                    b"1e3",
                    b"3.0e-2",
                    b"1e400",
                    b"nan",
                    b"inf",
                    b"abc",
                    b"0",
                    b"100000000",
                    b"5e-10",
                    b" 1.5",
                ])
                .to_vec(),
            "v" => {
                let length = self.rng.random_range(0..60);
                match self.rng.random_range(0..6) {
                    0 => format!("{}", self.rng.random_range(-1000..1000)).into_bytes(),
                    1 => b"\x00\xff\r\n".repeat(length / 4),
                    2 => "long ".repeat(length).into_bytes(),
                    3 => b"10.25".to_vec(),
                    _ => format!("value{length}").into_bytes(),
                }
            }
            other => other.as_bytes().to_vec(),
        }
    }
}
