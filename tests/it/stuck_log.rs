//! What is shown while the log cannot be written: nothing that a crash could take back, by no way
//! on which the server speaks.

use crate::support::{
    is_other_server, keys_per_shard, limit_files, run, start, wait_until_the_log_fails,
};
use moon_harness::{Client, FsyncPolicy, Reply, Server};
use std::time::Duration;

/// How long somebody listens for what must not come.
const MOMENT: Duration = Duration::from_millis(100);
/// How long somebody waits for what must come.
const PATIENCE: Duration = Duration::from_secs(20);

/// Sends requests in one write and does not wait for their replies.
fn send(client: &mut Client, lines: &[&str]) {
    for line in lines {
        client.queue(&line.split(' ').collect::<Vec<_>>());
    }
    client.flush().unwrap();
}

/// A client that has sent `lines` and read as many replies.
fn prepared(server: &Server, lines: &[&str]) -> Client {
    let mut client = server.client().unwrap();
    for line in lines {
        let reply = client.run(line).unwrap();
        assert!(reply.error().is_none(), "{line}: {reply:?}");
    }
    client
}

#[track_caller]
fn assert_silent(client: &mut Client, who: &str) {
    client.set_read_timeout(MOMENT).unwrap();
    let early = client.read_reply();
    assert!(
        early.is_err(),
        "{who} was shown what may be lost: {early:?}"
    );
    client.set_read_timeout(PATIENCE).unwrap();
}

fn next(client: &mut Client) -> String {
    format!("{:?}", client.read_reply().unwrap())
}

/// A key of each shard, or of the only one.
fn keys(shards: u16) -> Vec<String> {
    keys_per_shard(shards, 1).concat()
}

/// Keyspace notifications, invalidations and the lines of a monitor tell of a write before its
/// reply does, so they wait for the log as it does.
#[test]
fn events_invalidations_and_monitors_wait_for_the_log_with_the_write_they_tell_of() {
    if is_other_server() {
        return;
    }
    for (shards, in_transaction) in [(1, false), (1, true), (4, false), (4, true)] {
        eprintln!("shards {shards}, in a transaction: {in_transaction}");
        let server = start(shards, FsyncPolicy::Everysec);
        let key = keys(shards).pop().unwrap();
        run(&server, "CONFIG SET notify-keyspace-events KA");
        let pattern = "PSUBSCRIBE __keyspace@0__:*";
        let mut listener = prepared(&server, &[pattern]);
        let get = format!("GET {key}");
        let mut tracker = prepared(&server, &["HELLO 3", "CLIENT TRACKING ON", &get]);
        let mut monitor = prepared(&server, &["MONITOR"]);
        let mut writer = prepared(&server, &["CLIENT ID"]);
        let shown = next(&mut monitor);
        assert!(shown.contains("CLIENT"), "{shown}");

        limit_files(&server, Some(1));
        let set = format!("SET {key} v");
        match in_transaction {
            false => send(&mut writer, &[&set]),
            true => send(
                &mut writer,
                &["MULTI", &set, "MSET a 1 b 2 c 3 d 4", "EXEC"],
            ),
        }
        wait_until_the_log_fails(&mut server.client().unwrap());
        assert_silent(&mut listener, "a listener");
        assert_silent(&mut tracker, "a client with a cache");
        monitor.set_read_timeout(MOMENT).unwrap();
        while let Ok(line) = monitor.read_reply() {
            let line = format!("{line:?}");
            assert!(!line.contains("SET"), "a monitor was shown {line}");
        }
        monitor.set_read_timeout(PATIENCE).unwrap();

        limit_files(&server, None);
        let event = next(&mut listener);
        let channel = format!("__keyspace@0__:{key}");
        assert!(event.contains(&channel) && event.contains("set"), "{event}");
        let invalidation = next(&mut tracker);
        assert!(
            invalidation.contains("invalidate") && invalidation.contains(&key),
            "{invalidation}"
        );
        while !next(&mut monitor).contains(&format!(r#"\"{key}\""#)) {}
    }
}

/// Scenario 7: a consumer is not given what a crash would put back, nor is its producer answered.
#[test]
fn an_element_is_handed_on_when_the_log_has_it() {
    if is_other_server() {
        return;
    }
    for shards in [1, 4] {
        for is_killed in [false, true] {
            let mut server = start(shards, FsyncPolicy::Everysec);
            let keys = keys(shards);
            let (from, to) = (&keys[0], &keys[keys.len() - 1]);
            let mut takes = prepared(&server, &[]);
            send(&mut takes, &[&format!("BLPOP {from} {to}x 0")]);
            let mut moves = prepared(&server, &[]);
            send(&mut moves, &[&format!("BLMOVE {to}q {to}done LEFT LEFT 0")]);
            crate::support::wait_until(&mut server.client().unwrap(), "blocked_clients", |n| {
                n == "2"
            });
            limit_files(&server, Some(1));
            let mut pushes = prepared(&server, &[]);
            let push_both = [
                "MULTI",
                &format!("RPUSH {from} x"),
                &format!("RPUSH {to}q y"),
                "EXEC",
            ];
            send(&mut pushes, &push_both);
            for _ in 0..3 {
                next(&mut pushes);
            }
            wait_until_the_log_fails(&mut server.client().unwrap());
            for client in [&mut takes, &mut moves, &mut pushes] {
                assert_silent(client, "somebody");
            }
            if is_killed {
                server.kill9().unwrap();
                server.restart().unwrap();
                // Nobody was answered, so nothing has happened: there was no room for it.
                let mut client = server.client().unwrap();
                assert_eq!(client.run("DBSIZE").unwrap(), Reply::Int(0));
                continue;
            }
            limit_files(&server, None);
            assert_eq!(next(&mut takes), format!(r#"["{from}", "x"]"#));
            assert_eq!(next(&mut moves), r#""y""#);
            assert_eq!(next(&mut pushes), "[:1, :1]");
            server.kill9().unwrap();
            server.restart().unwrap();
            let mut client = server.client().unwrap();
            assert_eq!(client.run("DBSIZE").unwrap(), Reply::Int(1));
            let done = client.run(&format!("LRANGE {to}done 0 -1")).unwrap();
            assert_eq!(format!("{done:?}"), r#"["y"]"#);
        }
    }
}

/// Scenario 123: while one part of a transaction cannot be kept, no part is answered or shown; then
/// all of it is there, or after a crash nothing.
#[test]
fn a_transaction_that_the_log_cannot_take_is_answered_as_a_whole_or_never() {
    if is_other_server() {
        return;
    }
    for shards in [1, 4] {
        for is_killed in [false, true] {
            let mut server = start(shards, FsyncPolicy::Everysec);
            let keys = keys(shards);
            for key in &keys {
                assert!(run(&server, &format!("SET {key} old")).is_ok());
            }
            limit_files(&server, Some(1));
            let mut writer = server.client().unwrap();
            let sets: Vec<String> = keys.iter().map(|key| format!("SET {key} new")).collect();
            let mut lines = vec!["MULTI"];
            lines.extend(sets.iter().map(String::as_str));
            lines.push("EXEC");
            send(&mut writer, &lines);
            for _ in 0..=keys.len() {
                assert!(writer.read_reply().unwrap().error().is_none());
            }
            wait_until_the_log_fails(&mut server.client().unwrap());
            assert_silent(&mut writer, "the writer");
            let mut readers: Vec<Client> = keys
                .iter()
                .map(|key| {
                    let mut reader = server.client().unwrap();
                    send(&mut reader, &[&format!("GET {key}")]);
                    reader
                })
                .collect();
            for reader in &mut readers {
                assert_silent(reader, "a reader");
            }
            // What comes now is refused before any part of it is done.
            let mut late = server.client().unwrap();
            let mset = keys.iter().map(|key| format!(" {key} late"));
            let refused = late.run(&format!("MSET{}", mset.collect::<String>()));
            let refused = refused.unwrap().error().unwrap();
            assert!(refused.starts_with("MISCONF "), "{refused}");
            let value = if is_killed {
                server.kill9().unwrap();
                server.restart().unwrap();
                "old"
            } else {
                limit_files(&server, None);
                let all = format!("[{}]", vec!["+OK"; keys.len()].join(", "));
                assert_eq!(next(&mut writer), all);
                for reader in &mut readers {
                    assert_eq!(next(reader), r#""new""#);
                }
                server.kill9().unwrap();
                server.restart().unwrap();
                "new"
            };
            for key in &keys {
                assert_eq!(run(&server, &format!("GET {key}")), Reply::bulk(value));
            }
        }
    }
}
