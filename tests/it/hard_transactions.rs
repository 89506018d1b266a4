//! Transactions where they are hard: what counts as a change for WATCH, errors on the way to EXEC,
//! very long ones, and many in one pipeline beside others on the same keys.

use crate::support::{
    assert_survives_sigkill, binary, flavor, for_each_setup, is_installed, is_other_server,
    keys_per_shard, start,
};
use moon_harness::{Client, Flavor, FsyncPolicy, Reply, Server};
use std::time::{Duration, Instant};

/// Two servers that are given the same commands.
struct Pair {
    redis: Server,
    moon: Server,
}

impl Pair {
    fn start(shards: u16) -> Option<Pair> {
        if is_other_server() || !is_installed("redis-server") {
            return None;
        }
        let debug = ["--enable-debug-command", "yes"];
        let redis = Server::start_temp(Flavor::Redis, "redis-server", |c| {
            c.arg(debug[0]).arg(debug[1])
        });
        let moon = Server::start_temp(flavor(), binary(), |c| {
            let config = c.shards(shards).append(FsyncPolicy::Everysec);
            config.arg(debug[0]).arg(debug[1])
        });
        Some(Pair {
            redis: redis.unwrap(),
            moon: moon.unwrap(),
        })
    }
}

/// Runs steps with two connections, the one that watches and another; a line is `w: command` or
/// `o: command`, or `wait: milliseconds` for time to pass. Returns all replies.
fn replies(server: &Server, steps: &[String]) -> Vec<String> {
    let mut watcher = server.client().unwrap();
    let mut other = server.client().unwrap();
    let mut replies = Vec::new();
    for step in steps {
        let (who, line) = step.split_once(": ").unwrap();
        let reply = match who {
            "w" => watcher.run(line).unwrap(),
            "o" => other.run(line).unwrap(),
            _ => {
                std::thread::sleep(Duration::from_millis(line.parse().unwrap()));
                continue;
            }
        };
        replies.push(format!("{step} => {reply:?}"));
    }
    replies
}

fn compare(cases: &[Vec<String>]) {
    for shards in [1, 4] {
        let Some(pair) = Pair::start(shards) else {
            return;
        };
        for steps in cases {
            let expected = replies(&pair.redis, steps);
            assert_eq!(replies(&pair.moon, steps), expected, "{shards} shards");
        }
    }
}

fn steps(text: &str) -> Vec<String> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.map(str::to_owned).collect()
}

/// What another connection does to a watched key stops EXEC here exactly where it does in Redis.
#[test]
fn the_same_commands_count_as_changes_for_watch_as_in_redis() {
    let setup = "MSET s abc n 10 e x
        RPUSH l a b c
        SADD t a b 1
        HSET h f v n 1
        ZADD z 1 a 2 b
        XADD x 1-1 f v
        PFADD p a
        PEXPIRE e 10000000";
    let changes = "SET s abc
        SETNX s x
        SET s y NX
        SET missing y XX
        GETSET s abc
        GETEX s
        GETEX s PERSIST
        GETEX s EX 1000
        GETEX e PERSIST
        GETDEL s
        GETDEL missing
        APPEND s ''
        APPEND missing x
        SETRANGE s 0 ''
        SETRANGE s 0 a
        SETRANGE missing 0 ''
        INCRBY n 0
        INCRBYFLOAT n 0
        INCR s
        MSETNX s 1 q 2
        DEL missing
        DEL s missing
        UNLINK s
        EXPIRE s 100
        EXPIRE s -1
        EXPIRE missing 100
        EXPIRE s 100 XX
        PERSIST s
        PERSIST e
        PEXPIREAT e 1
        TOUCH s
        RENAME s s
        RENAME s q
        RENAME n s
        RENAMENX s n
        COPY s q
        COPY n s
        COPY n s REPLACE
        MOVE s 1
        MOVE missing 1
        LPUSHX missing a
        RPUSHX l d
        LPOP missing
        LPOP l 0
        LREM l 0 nosuch
        LREM l 0 a
        LTRIM l 1 1
        LSET l 0 z
        LINSERT l BEFORE nosuch z
        LINSERT l BEFORE a z
        LMOVE l l LEFT LEFT
        RPOPLPUSH missing l
        RPOPLPUSH l missing
        SADD t a
        SADD t c
        SREM t nosuch
        SMOVE t q nosuch
        SMOVE t q a
        SPOP t 0
        SINTERSTORE missing nosuch t
        SINTERSTORE t t t
        SUNIONSTORE q t
        HSET h g w
        HSETNX h f w
        HDEL h nosuch
        HDEL h f
        HINCRBY h n 0
        ZADD z 1 a
        ZADD z XX 5 nosuch
        ZADD z GT 0 a
        ZADD z 3 a
        ZINCRBY z 0 a
        ZREM z nosuch
        ZREM z a
        ZREMRANGEBYSCORE z 8 9
        ZPOPMIN z 0
        ZRANGESTORE missing z 5 9
        ZRANGESTORE z z 0 -1
        XADD x 2-1 f v
        XADD missing NOMKSTREAM * f v
        XDEL x 9-9
        XDEL x 1-1
        XTRIM x MAXLEN 100
        XTRIM x MAXLEN 0
        XGROUP CREATE missing g 0
        PFADD p b
        PFMERGE missing p
        PFMERGE p p
        SETBIT s 1 1
        SETBIT missing 1 0
        BITOP NOT missing nosuch
        BITOP NOT s s
        BITFIELD s GET u8 0
        SORT l ALPHA
        SORT l ALPHA STORE missing
        SORT nosuch STORE missing
        GEOADD missing 1 1 a
        RESTORE s 0 nonsense
        FLUSHDB
        FLUSHALL
        SWAPDB 0 1
        SWAPDB 1 2
        OBJECT ENCODING s
        DEBUG SET-ACTIVE-EXPIRE 1";
    let keys = "s n e l t h z x p missing";
    let mut cases = Vec::new();
    for change in changes.lines().map(str::trim) {
        for watched in keys.split(' ').filter(|key| {
            // Where the key is named, or everything is concerned.
            change.split(' ').any(|word| word == *key)
                || !change.contains(' ')
                || change.starts_with("SWAPDB")
        }) {
            let mut case = vec!["o: FLUSHALL".to_owned(), "o: SELECT 0".to_owned()];
            case.extend(setup.lines().map(|line| format!("o: {}", line.trim())));
            case.extend([
                format!("w: WATCH {watched}"),
                format!("o: {change}"),
                "w: MULTI".to_owned(),
                "w: PING".to_owned(),
                "w: EXEC".to_owned(),
            ]);
            // What it answers is the business of other tests.
            cases.push(case);
        }
    }
    for shards in [1, 4] {
        let Some(pair) = Pair::start(shards) else {
            return;
        };
        let mut differences = Vec::new();
        for case in &cases {
            let last = |server| replies(server, case).pop();
            let (expected, found) = (last(&pair.redis), last(&pair.moon));
            if expected != found {
                let (watch, change) = (&case[case.len() - 5], &case[case.len() - 4]);
                differences.push(format!("{watch}, {change}: {found:?}, Redis {expected:?}"));
            }
        }
        assert!(differences.is_empty(), "{}", differences.join("\n"));
    }
}

/// Scenarios 119 and 120, where databases and deadlines are part of it.
#[test]
fn watches_over_databases_and_deadlines_end_as_in_redis() {
    compare(&[
        // A key that another database has, or that both have.
        steps(
            "o: FLUSHALL
             o: SELECT 1
             o: SET k 1
             w: WATCH k
             o: SWAPDB 0 1
             w: MULTI
             w: GET k
             w: EXEC
             w: WATCH nosuch
             o: SWAPDB 0 1
             w: MULTI
             w: GET k
             w: EXEC
             o: SELECT 0
             o: SET k 1
             w: WATCH k
             o: SWAPDB 1 0
             w: MULTI
             w: GET k
             w: EXEC",
        ),
        // Databases that are not concerned.
        steps(
            "o: FLUSHALL
             o: SELECT 0
             o: SET k 1
             w: WATCH k
             o: SWAPDB 2 3
             o: SELECT 5
             o: SET k 2
             o: FLUSHDB
             w: MULTI
             w: GET k
             w: EXEC
             w: SELECT 5
             w: WATCH k
             w: SELECT 0
             o: SET k 3
             w: MULTI
             w: GET k
             w: EXEC",
        ),
        // It was past its deadline when it was watched: that it goes is no change, that it comes is.
        steps(
            "o: FLUSHALL
             o: SELECT 0
             o: DEBUG SET-ACTIVE-EXPIRE 0
             o: SET k v PX 1
             o: SET l v PX 1
             wait: 30
             w: WATCH k
             o: GET k
             w: MULTI
             w: GET k
             w: EXEC
             w: WATCH l
             o: SET l new
             w: MULTI
             w: GET l
             w: EXEC
             o: SET m v PX 40
             w: WATCH m
             wait: 80
             w: MULTI
             w: GET m
             w: EXEC
             o: SET m v PX 40
             w: WATCH m
             wait: 80
             o: FLUSHALL
             w: MULTI
             w: GET m
             w: EXEC
             o: DEBUG SET-ACTIVE-EXPIRE 1",
        ),
        // The connection's own changes count; what EXEC, DISCARD and UNWATCH end does not.
        steps(
            "o: FLUSHALL
             o: SELECT 0
             w: WATCH a b c d e f
             w: SET f 1
             w: MULTI
             w: EXEC
             w: WATCH a b c d e f
             o: MSET a 1 x 1
             w: UNWATCH
             w: MULTI
             w: EXEC
             w: WATCH a
             w: MULTI
             w: SET a 2
             w: INCR a
             w: EXEC
             w: MULTI
             w: GET a
             w: EXEC
             w: WATCH a
             w: MULTI
             w: DISCARD
             o: SET a 5
             w: MULTI
             w: EXEC",
        ),
    ]);
}

/// Scenario 117, with every kind of error, and a transaction that is refused for want of memory.
#[test]
fn errors_on_the_way_to_exec_are_those_of_redis() {
    let mut cases = vec![
        steps(
            "o: FLUSHALL
             o: SELECT 0
             o: RPUSH list a
             w: MULTI
             w: GET list
             w: INCR list
             w: SET ok 1
             w: LPOP list x
             w: XGROUP CREATE nosuch g 0
             w: SPOP list -1
             w: EXEC
             w: GET ok
             w: MULTI
             w: XGROUP CREATE
             w: SET ok 2
             w: EXEC
             w: GET ok
             w: MULTI
             w: XGROUP NOSUCH a b
             w: EXEC
             w: MULTI
             w: WATCH ok
             w: EXEC
             w: MULTI
             w: MULTI
             w: SET ok 3
             w: EXEC
             w: MULTI x
             w: MULTI
             w: EXEC x
             w: SET ok 4
             w: EXEC
             w: MULTI
             w: SAVE
             w: EXEC
             w: UNWATCH
             w: MULTI
             w: UNWATCH
             w: RESET
             w: EXEC",
        ),
        steps(
            "o: FLUSHALL
             o: SELECT 0
             o: SET k 1
             w: MULTI
             w: SET k 2
             w: GET k
             o: CONFIG SET maxmemory 1
             w: EXEC
             w: GET k
             w: MULTI
             w: SET k 3
             w: GET k
             w: EXEC
             w: MULTI
             w: EXEC
             o: CONFIG SET maxmemory 0
             w: GET k
             w: MULTI
             w: GET k
             w: EXEC",
        ),
    ];
    // The same from a connection that selects another database halfway.
    cases.push(steps(
        "o: FLUSHALL
         o: SELECT 0
         w: MULTI
         w: SET k 1
         w: SELECT 3
         w: SET k 2
         w: SELECT 99
         w: SET k 3
         w: SWAPDB 0 3
         w: GET k
         w: SELECT 0
         w: GET k
         w: FLUSHDB
         w: DBSIZE
         w: EXEC
         w: GET k
         w: SELECT 3
         w: GET k",
    ));
    compare(&cases);
}

/// Scenarios 122 and 124, for want of memory: what writes to several shards is refused whole, and
/// what only reads still runs.
#[test]
fn without_memory_nothing_over_several_shards_is_done_in_part() {
    for_each_setup(|mut server| {
        let shards = server.config().effective_shards();
        let keys = keys_per_shard(shards, 2).concat();
        let mut client = server.client().unwrap();
        let mut other = server.client().unwrap();
        let mset: Vec<String> = keys.iter().map(|key| format!("{key} 1")).collect();
        let mset = mset.join(" ");
        let mget = format!("MGET {}", keys.join(" "));
        let missing = Reply::Array(vec![Reply::Null; keys.len()]);
        let transaction: Vec<String> = std::iter::once("MULTI".to_owned())
            .chain(keys.iter().map(|key| format!("SET {key} 1")))
            .collect();
        client.pipeline(&transaction).unwrap();
        assert!(other.run("CONFIG SET maxmemory 1").unwrap().is_ok());
        let refused = "EXECABORT Transaction discarded because of: OOM command not allowed when \
                       used memory > 'maxmemory'.";
        let found = client.run("EXEC").unwrap();
        assert_eq!(found.error().unwrap(), refused);
        for line in [format!("MSET {mset}"), format!("MSETNX {mset}")] {
            let reply = client.run(&line).unwrap();
            assert_eq!(
                reply.error().map(|text| text.starts_with("OOM ")),
                Some(true)
            );
        }
        let lines = [
            "MULTI".to_owned(),
            "DBSIZE".to_owned(),
            mget.clone(),
            "EXEC".to_owned(),
        ];
        assert_eq!(other.run(&mget).unwrap(), missing);
        assert!(other.run("CONFIG SET maxmemory 0").unwrap().is_ok());
        let replies = client.pipeline(&lines).unwrap();
        assert_eq!(
            replies[3],
            Reply::Array(vec![Reply::Int(0), missing.clone()])
        );
        assert!(assert_survives_sigkill(&mut server).is_empty());
    });
}

/// A transaction as long as memory allows is one step too.
#[test]
fn a_hundred_thousand_commands_are_one_transaction() {
    const COMMANDS: usize = 100_000;
    for shards in [1, 4] {
        let mut server = start(shards, FsyncPolicy::Everysec);
        let keys = keys_per_shard(shards, 25).concat();
        let mut client = server.client().unwrap();
        let mut lines = vec!["MULTI".to_owned()];
        lines.extend((0..COMMANDS).map(|n| format!("INCR {}", keys[n % keys.len()])));
        lines.push("EXEC".to_owned());
        let replies = client.pipeline(&lines).unwrap();
        let answered = replies[COMMANDS + 1].items().unwrap();
        assert_eq!(answered.len(), COMMANDS);
        let each = i64::try_from(COMMANDS / keys.len()).unwrap();
        assert_eq!(answered[COMMANDS - 1], Reply::Int(each));
        let state = assert_survives_sigkill(&mut server);
        assert_eq!(state.len(), keys.len());
    }
}

/// Many transactions in one pipeline, among plain commands, while others do the same on the same
/// keys: in every one of them all counters are equal.
#[test]
fn transactions_in_long_pipelines_are_isolated_from_each_other() {
    const CLIENTS: i64 = 3;
    const PIPELINES: i64 = 6;
    const EACH: i64 = 40;
    for_each_setup(|server| {
        let shards = server.config().effective_shards();
        let counters = keys_per_shard(shards, 2).concat();
        let address = server.address();
        std::thread::scope(|scope| {
            for number in 0..CLIENTS {
                let counters = &counters;
                scope.spawn(move || {
                    let mut client = Client::connect(address).unwrap();
                    for _ in 0..PIPELINES {
                        let mut lines = Vec::new();
                        for n in 0..EACH {
                            lines.push("MULTI".to_owned());
                            let incr = |key| format!("INCR {key}");
                            match n % 2 {
                                0 => lines.extend(counters.iter().map(incr)),
                                _ => lines.extend(counters.iter().rev().map(incr)),
                            }
                            lines.push("EXEC".to_owned());
                            lines.push(format!("SET own:{number} {n}"));
                            lines.push(format!("GET own:{number}"));
                        }
                        let replies = client.pipeline(&lines).unwrap();
                        let per = counters.len() + 4;
                        for (n, replies) in replies.chunks(per).enumerate() {
                            let values = replies[per - 3].items().unwrap();
                            assert!(values.iter().all(|v| *v == values[0]), "{values:?}");
                            assert_eq!(replies[per - 1], Reply::bulk(n.to_string()));
                        }
                    }
                });
            }
        });
        let mut client = server.client().unwrap();
        let total = (CLIENTS * PIPELINES * EACH).to_string();
        for key in counters {
            assert_eq!(client.command(&["GET", &key]).unwrap(), Reply::bulk(&total));
        }
    });
}

/// Scenarios 203 and 208: what stands before a malformed request in a pipeline is executed and
/// answered, a transaction that is still open then is not.
#[test]
fn a_malformed_request_ends_the_connection_after_what_came_before_it() {
    for_each_setup(|server| {
        let mut client = server.client().unwrap();
        for key in ["a", "b", "c"] {
            client.queue(&["INCR", key]);
        }
        client.queue(&["MULTI"]);
        client.queue(&["INCR", "open"]);
        client.flush().unwrap();
        client.write_raw(b"*1\r\n$-5\r\n").unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        let all = client.read_to_close().unwrap();
        assert!(Instant::now() < deadline);
        let text = String::from_utf8(all).unwrap();
        let expected =
            ":1\r\n:1\r\n:1\r\n+OK\r\n+QUEUED\r\n-ERR Protocol error: invalid bulk length\r\n";
        assert_eq!(text, expected);
        let mut other = server.client().unwrap();
        assert_eq!(
            other.run("MGET a b c open").unwrap().items().unwrap()[3],
            Reply::Null
        );
    });
}
