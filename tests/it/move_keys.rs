//! MIGRATE: keys go to another server whole, or stay; and RESTORE over a crash.

use crate::support::{
    assert_same_state, assert_survives_sigkill, binary, flavor, is_installed, is_other_server, run,
    script, start, state,
};
use moon_harness::{Client, Flavor, FsyncPolicy, Reply, Server};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};

fn migrate(client: &mut Client, to: u16, rest: &str) -> Reply {
    client
        .run(&format!("MIGRATE 127.0.0.1 {to} {rest}"))
        .unwrap_or_else(|error| panic!("MIGRATE {rest}: {error}"))
}

/// As [`migrate`], with an empty key and these keys.
fn migrate_keys(client: &mut Client, to: u16, options: &[&str], keys: &[&str]) -> Reply {
    let port = to.to_string();
    let mut parts = vec!["MIGRATE", "127.0.0.1", &port, "", "0", "5000"];
    parts.extend(options);
    parts.push("KEYS");
    parts.extend(keys);
    client.command(&parts).unwrap()
}

fn port(server: &Server) -> u16 {
    server.address().port()
}

fn fill(client: &mut Client) {
    for line in [
        "SET s plain",
        "SET i 12345",
        "RPUSH l a b 1",
        "SADD set a b 1",
        "HSET h f v",
        "SET expires v PXAT 4102444800000",
    ] {
        client.run(line).unwrap();
    }
}

const KEYS: [&str; 6] = ["s", "i", "l", "set", "h", "expires"];

/// Servers to migrate to.
fn targets() -> Vec<Server> {
    let mut targets = vec![start(3, FsyncPolicy::No)];
    if is_installed("redis-server") {
        targets.push(Server::start_temp(Flavor::Redis, "redis-server", |c| c).unwrap());
    }
    targets
}

#[test]
fn keys_arrive_whole_and_are_deleted_only_then() {
    for target in targets() {
        let mut source = start(2, FsyncPolicy::Everysec);
        let mut client = source.client().unwrap();
        fill(&mut client);
        let before = state(&source);
        let to = port(&target);
        // One key, which stays because it is copied.
        assert!(migrate(&mut client, to, "s 0 5000 COPY").is_ok());
        assert_eq!(run(&target, "GET s"), Reply::bulk("plain"));
        assert_eq!(client.run("EXISTS s").unwrap(), Reply::Int(1));
        // It is there now, so nothing of it changes anywhere.
        let busy = migrate(&mut client, to, "s 0 5000");
        assert_eq!(
            busy.error().as_deref(),
            Some("ERR Target instance replied with error: BUSYKEY Target key name already exists.")
        );
        assert_eq!(client.run("EXISTS s").unwrap(), Reply::Int(1));
        assert!(migrate_keys(&mut client, to, &["REPLACE"], &KEYS).is_ok());
        assert_eq!(client.run("DBSIZE").unwrap(), Reply::Int(0));
        // What was left of a deadline goes along, and takes a moment.
        let mut after = state(&target);
        for (key, entry) in &mut after {
            let expected = before[key].expires_at_ms;
            let late = expected.zip(entry.expires_at_ms).map(|(a, b)| b - a);
            assert!(late.is_none_or(|ms| (0..10_000).contains(&ms)), "{late:?}");
            entry.expires_at_ms = expected.filter(|_| late.is_some());
        }
        assert_same_state(&before, &after, "after the move");
        assert_eq!(
            migrate_keys(&mut client, to, &[], &KEYS),
            Reply::Simple(b"NOKEY".to_vec())
        );
        // The deletion is in the log.
        assert!(assert_survives_sigkill(&mut source).len() <= 1);
    }
}

#[test]
fn only_what_the_target_confirms_is_deleted() {
    for target in targets() {
        let source = start(2, FsyncPolicy::Everysec);
        let mut client = source.client().unwrap();
        fill(&mut client);
        run(&target, "SET i there");
        let reply = migrate_keys(&mut client, port(&target), &[], &KEYS);
        assert!(
            reply.error().is_some_and(|text| text.contains("BUSYKEY")),
            "{reply:?}"
        );
        script(
            &mut client,
            "EXISTS s l set h expires => :0
             GET i => \"12345\"",
        );
        assert_eq!(run(&target, "GET i"), Reply::bulk("there"));
    }
}

#[test]
fn keys_go_to_the_database_that_was_named_or_nowhere() {
    let target = start(2, FsyncPolicy::No);
    let source = start(1, FsyncPolicy::No);
    let mut client = source.client().unwrap();
    fill(&mut client);
    assert!(migrate(&mut client, port(&target), "s 3 5000").is_ok());
    let mut there = target.client().unwrap();
    there.run("SELECT 3").unwrap();
    assert_eq!(there.run("GET s").unwrap(), Reply::bulk("plain"));
    let reply = migrate(&mut client, port(&target), "i 999 5000");
    assert_eq!(
        reply.error().as_deref(),
        Some("ERR Target instance replied with error: ERR DB index is out of range")
    );
    assert_eq!(client.run("EXISTS i").unwrap(), Reply::Int(1));
    assert_eq!(run(&target, "DBSIZE"), Reply::Int(0));
}

#[test]
fn a_target_with_a_password_wants_it() {
    let target = Server::start_temp(flavor(), binary(), |c| c).unwrap();
    run(&target, "CONFIG SET requirepass secret");
    let source = start(1, FsyncPolicy::No);
    let mut client = source.client().unwrap();
    fill(&mut client);
    let to = port(&target);
    for wrong in [
        "s 0 5000",
        "s 0 5000 AUTH wrong",
        "s 0 5000 AUTH2 nobody secret",
    ] {
        let reply = migrate(&mut client, to, wrong);
        let text = reply.error().unwrap_or_default();
        assert!(
            text.starts_with("ERR Target instance replied with error: "),
            "{reply:?}"
        );
    }
    assert!(migrate(&mut client, to, "s 0 5000 AUTH secret").is_ok());
    assert!(migrate(&mut client, to, "i 0 5000 AUTH2 default secret").is_ok());
    assert_eq!(client.run("EXISTS s i").unwrap(), Reply::Int(0));
}

#[test]
fn a_target_that_is_not_there_or_silent_costs_no_key() {
    let source = start(1, FsyncPolicy::No);
    let mut client = source.client().unwrap();
    fill(&mut client);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = listener.local_addr().unwrap().port();
    let reply = migrate(&mut client, silent, "s 0 50");
    assert_eq!(
        reply.error().as_deref(),
        Some("IOERR error or timeout reading from target instance")
    );
    drop(listener);
    let reply = migrate(&mut client, silent, "s 0 5000");
    assert_eq!(
        reply.error().as_deref(),
        Some("IOERR error or timeout writing to target instance")
    );
    assert_eq!(client.run("EXISTS s").unwrap(), Reply::Int(1));
}

/// Answers SELECT, calls `meanwhile` when the RESTORE has come, and confirms it.
fn slow_target(meanwhile: impl FnOnce() + Send + 'static) -> (u16, std::thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let thread = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut lines = BufReader::new(stream.try_clone().unwrap());
        let read_until = |lines: &mut BufReader<TcpStream>, word: &str| {
            let mut line = Vec::new();
            while !line.starts_with(word.as_bytes()) {
                line.clear();
                assert!(lines.read_until(b'\n', &mut line).unwrap() > 0);
            }
        };
        read_until(&mut lines, "SELECT");
        stream.write_all(b"+OK\r\n").unwrap();
        read_until(&mut lines, "RESTORE");
        meanwhile();
        stream.write_all(b"+OK\r\n").unwrap();
    });
    (port, thread)
}

#[test]
fn a_key_that_changes_on_its_way_stays() {
    if is_other_server() {
        return;
    }
    for shards in [1, 3] {
        let source = start(shards, FsyncPolicy::No);
        let mut client = source.client().unwrap();
        fill(&mut client);
        let mut other = source.client().unwrap();
        // Others are served while the target takes its time, also for this very key.
        let (to, target) = slow_target(move || {
            assert!(other.run("SET s changed").unwrap().is_ok());
        });
        let reply = migrate(&mut client, to, "s 0 5000");
        target.join().unwrap();
        let text = reply.error().unwrap_or_default();
        assert!(
            text.starts_with("IOERR some keys were changed"),
            "{reply:?}"
        );
        assert_eq!(client.run("GET s").unwrap(), Reply::bulk("changed"));
        // One that goes meanwhile is not missed.
        let mut other = source.client().unwrap();
        let (to, target) = slow_target(move || {
            assert_eq!(other.run("DEL i").unwrap(), Reply::Int(1));
        });
        assert!(migrate(&mut client, to, "i 0 5000").is_ok());
        target.join().unwrap();
    }
}

/// Requests that both servers refuse alike, without a target.
const REFUSED: &[&[&str]] = &[
    &["MIGRATE"],
    &["MIGRATE", "127.0.0.1", "1", "k", "0"],
    &["MIGRATE", "127.0.0.1", "1", "k", "0", "x"],
    &["MIGRATE", "127.0.0.1", "1", "k", "x", "10"],
    &["MIGRATE", "127.0.0.1", "1", "k", "x", "y"],
    &["MIGRATE", "127.0.0.1", "1", "k", "0", "10", "NOSUCH"],
    &["MIGRATE", "127.0.0.1", "1", "k", "0", "10", "AUTH"],
    &["MIGRATE", "127.0.0.1", "1", "k", "0", "10", "AUTH2", "u"],
    &["MIGRATE", "127.0.0.1", "1", "k", "0", "10", "KEYS", "a"],
    &["MIGRATE", "127.0.0.1", "1", "", "0", "10", "KEYS", "a"],
    &["MIGRATE", "127.0.0.1", "1", "", "0", "10", "KEYS"],
    &["MIGRATE", "127.0.0.1", "1", "", "0", "10"],
    &[
        "MIGRATE",
        "127.0.0.1",
        "1",
        "k",
        "0",
        "10",
        "COPY",
        "REPLACE",
    ],
    &["MIGRATE", "127.0.0.1", "1", "k", "0", "-1"],
    &["MIGRATE", "127.0.0.1", "1", "there", "0", "10"],
    &["MIGRATE", "127.0.0.1", "0", "there", "0", "10"],
    &["MIGRATE", "127.0.0.1", "x", "there", "0", "10"],
    &["COMMAND", "GETKEYS", "MIGRATE", "h", "1", "k", "0", "10"],
    &[
        "COMMAND", "GETKEYS", "MIGRATE", "h", "1", "", "0", "10", "KEYS", "a", "b",
    ],
];

#[test]
fn requests_are_refused_as_redis_refuses_them() {
    if !is_installed("redis-server") {
        return;
    }
    let redis = Server::start_temp(Flavor::Redis, "redis-server", |c| c).unwrap();
    let tested = start(2, FsyncPolicy::No);
    let mut clients = [redis.client().unwrap(), tested.client().unwrap()];
    for client in &mut clients {
        client.run("SET there 1").unwrap();
    }
    for request in REFUSED {
        let [theirs, ours] = clients.each_mut().map(|c| c.command(request).unwrap());
        assert_eq!(theirs, ours, "{request:?}");
    }
}

#[test]
fn restored_keys_survive_sigkill_with_their_deadlines() {
    let mut server = start(3, FsyncPolicy::Everysec);
    let mut client = server.client().unwrap();
    fill(&mut client);
    for key in KEYS {
        let Reply::Bulk(payload) = client.run(&format!("DUMP {key}")).unwrap() else {
            panic!("{key} can be dumped");
        };
        for (to, ttl) in [("a", "0"), ("b", "100000000")] {
            let to = format!("{to}:{key}");
            let parts: [&[u8]; 4] = [b"RESTORE", to.as_bytes(), ttl.as_bytes(), &payload];
            assert!(client.command(&parts).unwrap().is_ok());
        }
    }
    assert_eq!(assert_survives_sigkill(&mut server).len(), 3 * KEYS.len());
}
