//! DEBUG: who may use it, and that its answers are those of Redis.

use crate::support::{
    assert_same_state, binary, flavor, is_installed, is_other_server, run, state,
};
use moon_harness::{Client, Flavor, FsyncPolicy, Reply, Server, ServerConfig};

fn with_debug(shards: u16) -> Server {
    let debug = |c: ServerConfig| c.arg("--enable-debug-command").arg("yes");
    Server::start_temp(flavor(), binary(), |c| {
        debug(c.shards(shards).append(FsyncPolicy::Everysec))
    })
    .unwrap()
}

fn redis_with_debug() -> Option<Server> {
    is_installed("redis-server").then(|| {
        let debug = |c: ServerConfig| c.arg("--enable-debug-command").arg("yes");
        Server::start_temp(Flavor::Redis, "redis-server", debug).unwrap()
    })
}

/// One key of each type in several databases, some with a deadline.
const DATA: &[&str] = &[
    "SET s plain",
    "SET i 12345",
    "SET long abcabcabcabcabcabcabcabcabcabcabcabcabcabcabcabcabcabc",
    "RPUSH l a b 1 2 a",
    "SADD ints 1 2 3",
    "SADD words a b 1",
    "HSET h f v 1 2",
    "SET expires v PXAT 4102444800000",
    "HSET he a b",
    "PEXPIREAT he 4102444800000",
    "SELECT 5",
    "SET s other",
    "SELECT 0",
];

/// More of it, which [`state`] does not read.
const MORE_DATA: &[&str] = &[
    "ZADD z 1 a 2.5 b -inf c 3.14 d 1e300 e",
    "ZINCRBY z 0.1 a",
    "XADD x 1-1 f v g 10",
    "XADD x 2-5 f v",
    "XGROUP CREATE x group 0",
    "PFADD hll a b",
];

fn fill(client: &mut Client) {
    for line in DATA {
        let reply = client.run(line).unwrap();
        assert!(reply.error().is_none(), "{line}: {reply:?}");
    }
}

#[test]
fn debug_is_refused_unless_it_is_allowed() {
    let refused = |allow: Option<&str>| {
        let server = Server::start_temp(flavor(), binary(), |c| match allow {
            None => c,
            Some(word) => c.arg("--enable-debug-command").arg(word),
        })
        .unwrap();
        let reply = run(&server, "DEBUG DIGEST");
        let text = reply.error().unwrap_or_default();
        text.starts_with("ERR DEBUG command not allowed. If the enable-debug-command option")
    };
    assert!(refused(None) && refused(Some("no")));
    // The tests come from the loopback address.
    assert!(!refused(Some("yes")) && !refused(Some("local")));
}

#[test]
fn equal_data_has_the_digest_that_redis_gives_it() {
    let Some(redis) = redis_with_debug() else {
        return;
    };
    for shards in [1, 3] {
        let server = with_debug(shards);
        let mut clients = [redis.client().unwrap(), server.client().unwrap()];
        let [theirs, ours] = clients.each_mut().map(|client| {
            client.run("FLUSHALL").unwrap();
            let mut replies = vec![client.run("DEBUG DIGEST").unwrap()];
            for line in DATA.iter().chain(MORE_DATA) {
                let reply = client.run(line).unwrap();
                assert!(reply.error().is_none(), "{line}: {reply:?}");
                replies.push(client.run("DEBUG DIGEST").unwrap());
            }
            replies.push(
                client
                    .run("DEBUG DIGEST-VALUE s i l words h z x hll he nokey")
                    .unwrap(),
            );
            replies.push(client.run("DEBUG DIGEST-VALUE").unwrap());
            replies
        });
        assert_eq!(theirs, ours, "{shards} shards");
    }
}

#[test]
fn a_reload_changes_nothing_but_the_memory() {
    if is_other_server() {
        return;
    }
    for shards in [1, 2] {
        let mut server = with_debug(shards);
        let mut client = server.client().unwrap();
        fill(&mut client);
        for n in 0..3000 {
            client.run(&format!("HSET big field-{n} {n}")).unwrap();
        }
        let (before, digest) = (state(&server), client.run("DEBUG DIGEST").unwrap());
        let offset = client.run("ROLE").unwrap();
        client.run("WATCH s").unwrap();
        for options in ["", " MERGE", " noflush merge"] {
            let reply = client.run(&format!("DEBUG RELOAD{options}")).unwrap();
            assert!(reply.is_ok(), "{reply:?}");
        }
        assert_eq!(client.run("ROLE").unwrap(), offset, "nothing is logged");
        for refused in ["DEBUG RELOAD NOSAVE", "DEBUG RELOAD AGAIN"] {
            assert!(client.run(refused).unwrap().error().is_some());
        }
        client.run("MULTI").unwrap();
        client.run("SET watched 1").unwrap();
        let executed = client.run("EXEC").unwrap();
        assert!(matches!(executed, Reply::Array(_)), "{executed:?}");
        client.run("DEL watched").unwrap();
        assert_eq!(client.run("DEBUG DIGEST").unwrap(), digest);
        assert_same_state(&before, &state(&server), "after the reload");
        server.kill9().unwrap();
        server.restart().unwrap();
        assert_same_state(&before, &state(&server), "after the recovery");
    }
}

#[test]
fn a_reload_during_a_snapshot_leaves_the_snapshot_whole() {
    if is_other_server() {
        return;
    }
    let mut server = with_debug(2);
    let mut client = server.client().unwrap();
    fill(&mut client);
    client.run("DEBUG POPULATE 50000 many 100").unwrap();
    let before = state(&server);
    client.run("BGREWRITEAOF").unwrap();
    for _ in 0..3 {
        assert!(client.run("DEBUG RELOAD").unwrap().is_ok());
    }
    server.kill9().unwrap();
    server.restart().unwrap();
    assert_same_state(&before, &state(&server), "after the recovery");
}

#[test]
fn populated_keys_are_those_of_redis_and_survive() {
    let Some(redis) = redis_with_debug() else {
        return;
    };
    let mut server = with_debug(3);
    for target in [&redis, &server] {
        let mut client = target.client().unwrap();
        client.run("SET key:7 mine").unwrap();
        for line in [
            "POPULATE 2500",
            "POPULATE 3 p",
            "POPULATE 3 q 4",
            "POPULATE 2 r 2000000",
        ] {
            assert!(client.run(&format!("DEBUG {line}")).unwrap().is_ok());
        }
        assert!(client.run("DEBUG POPULATE -1").unwrap().error().is_some());
    }
    let expected = run(&redis, "DEBUG DIGEST");
    assert_eq!(run(&server, "DEBUG DIGEST"), expected);
    server.kill9().unwrap();
    server.restart().unwrap();
    assert_eq!(run(&server, "DEBUG DIGEST"), expected);
}

#[test]
fn expired_keys_stay_while_active_expiry_is_off() {
    let server = with_debug(3);
    let mut client = server.client().unwrap();
    assert!(client.run("DEBUG SET-ACTIVE-EXPIRE 0").unwrap().is_ok());
    for n in 0..20 {
        client.run(&format!("PSETEX key:{n} 1 v")).unwrap();
    }
    // By the time this one has expired, many rounds of the removal could have come to the others.
    client.run("PSETEX later 700 v").unwrap();
    while client.run("PTTL later").unwrap() != Reply::Int(-2) {}
    // What is in memory, without the one that was asked for.
    assert_eq!(client.run("DBSIZE").unwrap(), Reply::Int(20));
    assert!(client.run("DEBUG SET-ACTIVE-EXPIRE 1").unwrap().is_ok());
    while client.run("DBSIZE").unwrap() != Reply::Int(0) {}
}

/// Requests that both servers answer alike.
const COMPARED: &[&str] = &[
    "DEBUG LOG hello",
    "DEBUG ERROR MY-error",
    "DEBUG ERROR",
    "DEBUG nosuch",
    "DEBUG OBJECT",
    "DEBUG OBJECT nokey",
    "DEBUG LISTPACK h",
    "DEBUG LISTPACK s",
    "DEBUG LISTPACK nokey",
    "DEBUG HTSTATS-KEY s",
    "DEBUG HTSTATS-KEY nokey",
    "DEBUG HTSTATS 99",
    "DEBUG QUICKLIST-PACKED-THRESHOLD 100",
    "DEBUG QUICKLIST-PACKED-THRESHOLD 5gb",
    "DEBUG QUICKLIST-PACKED-THRESHOLD x",
    "DEBUG REPLYBUFFER PEAK-RESET-TIME NEVER",
    "DEBUG REPLYBUFFER PEAK-RESET-TIME 100",
    "DEBUG REPLYBUFFER PEAK-RESET-TIME x",
    "DEBUG REPLYBUFFER RESIZING 0",
    "DEBUG REPLYBUFFER nosuch 1",
    "DEBUG PAUSE-CRON 0",
    "DEBUG POPULATE x",
    "DEBUG POPULATE",
    "DEBUG SLEEP",
    "DEBUG SLEEP x",
    "DEBUG SLEEP -1",
    "DEBUG SLEEP 0.001x",
    "DEBUG STRINGMATCH-TEST",
    "DEBUG STRINGMATCH-TEST x",
    "DEBUG SET-ACTIVE-EXPIRE",
    "DEBUG SET-ACTIVE-EXPIRE x",
    "DEBUG SET-ACTIVE-EXPIRE 1 1",
    "DEBUG SET-DISABLE-DENY-SCRIPTS",
    "DEBUG SET-DISABLE-DENY-SCRIPTS 0",
    "DEBUG DIGEST x",
    "DEBUG DIGEST-VALUE",
    "DEBUG DIGEST-VALUE s i nokey",
    "DEBUG HELP x",
    "DEBUG HTSTATS",
    "DEBUG HTSTATS x",
    "DEBUG HTSTATS-KEY h x",
    "DEBUG OBJECT s x",
    "DEBUG LISTPACK",
    "DEBUG LOG",
    "DEBUG ERROR a b",
    "DEBUG POPULATE -1",
    "DEBUG POPULATE 1 a b",
    "DEBUG POPULATE 1 a 1 1",
    "DEBUG PROTOCOL",
    "DEBUG PAUSE-CRON",
    "DEBUG QUICKLIST-PACKED-THRESHOLD 0b",
    "DEBUG QUICKLIST-PACKED-THRESHOLD -1",
    "DEBUG QUICKLIST-PACKED-THRESHOLD 4gb",
    "DEBUG QUICKLIST-PACKED-THRESHOLD 4294967295",
    "DEBUG QUICKLIST-PACKED-THRESHOLD 1.5",
    "DEBUG REPLYBUFFER PEAK-RESET-TIME",
    "DEBUG REPLYBUFFER RESIZING x",
    "DEBUG",
    "DEBUG RELOAD nosuch",
    "DEBUG PROTOCOL string",
    "DEBUG PROTOCOL integer",
    "DEBUG PROTOCOL double",
    "DEBUG PROTOCOL bignum",
    "DEBUG PROTOCOL null",
    "DEBUG PROTOCOL array",
    "DEBUG PROTOCOL set",
    "DEBUG PROTOCOL map",
    "DEBUG PROTOCOL verbatim",
    "DEBUG PROTOCOL true",
    "DEBUG PROTOCOL false",
    "DEBUG PROTOCOL nosuch",
];

#[test]
fn subcommands_answer_as_redis_does_in_both_protocols() {
    let Some(redis) = redis_with_debug() else {
        return;
    };
    let server = with_debug(2);
    let mut clients = [redis.client().unwrap(), server.client().unwrap()];
    clients.iter_mut().for_each(fill);
    for protocol in ["HELLO 2", "HELLO 3"] {
        for client in &mut clients {
            client.run(protocol).unwrap();
        }
        for line in COMPARED {
            let [theirs, ours] = clients.each_mut().map(|client| client.run(line).unwrap());
            assert_eq!(theirs, ours, "{line} after {protocol}");
        }
    }
}

#[test]
fn debug_object_has_the_fields_of_redis() {
    let server = with_debug(2);
    let mut client = server.client().unwrap();
    fill(&mut client);
    let line = |client: &mut Client, key: &str| {
        let reply = client.run(&format!("DEBUG OBJECT {key}")).unwrap();
        match reply {
            Reply::Simple(text) => String::from_utf8(text).unwrap(),
            other => panic!("{other:?}"),
        }
    };
    let s = line(&mut client, "s");
    assert!(s.starts_with("Value at:0x"), "{s}");
    assert!(
        s.contains(" refcount:1 encoding:embstr serializedlength:6 lru:"),
        "{s}"
    );
    assert!(s.contains(" lru_seconds_idle:"), "{s}");
    assert!(line(&mut client, "ints").contains("encoding:intset"));
    client.run("MULTI").unwrap();
    client.run("DEBUG LOG inside").unwrap();
    client.run("DEBUG DIGEST").unwrap();
    let executed = client.run("EXEC").unwrap();
    let Reply::Array(replies) = executed else {
        panic!("{executed:?}");
    };
    assert!(replies[0].is_ok());
    if flavor() == Flavor::Moon {
        assert!(replies[1].error().is_some(), "{replies:?}");
    }
}
