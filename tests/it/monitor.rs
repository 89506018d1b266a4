//! MONITOR: every command of every shard, in one order that is the order of execution.

use crate::support::{for_each_setup, is_other_server, script, start};
use moon_harness::{Client, FsyncPolicy, Reply, Server};
use std::time::{Duration, Instant};

fn monitor(server: &Server) -> Client {
    let mut client = server.client().unwrap();
    assert!(client.run("MONITOR").unwrap().is_ok());
    client
}

/// The next line without its time and without the port of the client.
fn next(monitor: &mut Client) -> String {
    let Reply::Simple(line) = monitor.read_reply().unwrap() else {
        panic!("a monitor is sent simple strings");
    };
    let line = String::from_utf8(line).unwrap();
    let (time, rest) = line.split_once(' ').unwrap();
    let (seconds, micros) = time.split_once('.').unwrap();
    assert!(seconds.len() == 10 && micros.len() == 6, "{line}");
    let (client, args) = rest.split_once("] ").unwrap();
    let (db, address) = client.strip_prefix('[').unwrap().split_once(' ').unwrap();
    if address == "lua" {
        return format!("{db} lua {args}");
    }
    assert!(address.starts_with("127.0.0.1:"), "{line}");
    format!("{db} {args}")
}

#[test]
fn monitors_are_shown_what_redis_shows() {
    for_each_setup(|server| {
        let (mut first, mut second) = (monitor(&server), monitor(&server));
        let mut client = server.client().unwrap();
        client
            .command(&[&b"set"[..], b"a", b"x\n\r\t\x07\x08\\\"\x00\xff"])
            .unwrap();
        for line in [
            "AUTH secret",
            "HELLO 2 AUTH default secret",
            "MULTI",
            "SET b 1",
            "MSET c 1 d 1",
            "SELECT 2",
            "PING",
            "EXEC",
            // Not shown: commands of administrators, and what never ran.
            "CONFIG GET save",
            "CLIENT LIST",
            "SLOWLOG LEN",
            "NOSUCH",
            "SET a",
            "MULTI",
            "NOSUCH",
            "EXEC",
            "EXEC",
            "INCR a",
            "CLIENT ID",
            "SELECT 0",
            "INCR a",
            "WATCH a",
            "RESET",
            "MGET a b c",
            "GET a",
        ] {
            client.run(line).unwrap();
        }
        let script = "return redis.call('incr', KEYS[1])";
        client.command(&["EVAL", script, "1", "a"]).unwrap();
        client.run("MULTI").unwrap();
        client.command(&["EVAL", script, "1", "a"]).unwrap();
        client.run("EXEC").unwrap();
        let expected = [
            "0 \"set\" \"a\" \"x\\n\\r\\t\\a\\b\\\\\\\"\\x00\\xff\"",
            "0 \"AUTH\" \"(redacted)\"",
            "0 \"HELLO\" \"2\" \"AUTH\" \"(redacted)\" \"(redacted)\"",
            "0 \"MULTI\"",
            "0 \"SET\" \"b\" \"1\"",
            "0 \"MSET\" \"c\" \"1\" \"d\" \"1\"",
            "2 \"SELECT\" \"2\"",
            "2 \"PING\"",
            "2 \"EXEC\"",
            "2 \"MULTI\"",
            "2 \"EXEC\"",
            "2 \"EXEC\"",
            "2 \"INCR\" \"a\"",
            "2 \"CLIENT\" \"ID\"",
            "0 \"SELECT\" \"0\"",
            "0 \"INCR\" \"a\"",
            "0 \"WATCH\" \"a\"",
            "0 \"RESET\"",
            "0 \"MGET\" \"a\" \"b\" \"c\"",
            "0 \"GET\" \"a\"",
            "0 \"EVAL\" \"return redis.call('incr', KEYS[1])\" \"1\" \"a\"",
            "0 lua \"incr\" \"a\"",
            "0 \"MULTI\"",
            "0 \"EVAL\" \"return redis.call('incr', KEYS[1])\" \"1\" \"a\"",
            "0 lua \"incr\" \"a\"",
            "0 \"EXEC\"",
        ];
        for monitor in [&mut first, &mut second] {
            for line in expected {
                assert_eq!(next(monitor), line);
            }
        }
    });
}

#[test]
fn a_monitor_is_one_until_reset_and_may_not_touch_keys() {
    for_each_setup(|server| {
        let mut client = monitor(&server);
        let refused = "-ERR Replica can\\'t interact with the keyspace";
        script(
            &mut client,
            &format!("GET a => {refused}\n SET a 1 => {refused}"),
        );
        let list = server.client().unwrap().run("CLIENT LIST").unwrap();
        assert!(list.text().unwrap().contains(" flags=O "), "{list:?}");
        script(&mut client, "PING => +PONG");
        assert_eq!(next(&mut client), "0 \"PING\"");
        // A second MONITOR has no reply.
        client.queue(&["MONITOR"]);
        script(
            &mut client,
            "RESET => +RESET
             GET a => nil
             MULTI
             MONITOR => +QUEUED
             EXEC => [-ERR MONITOR isn\\'t allowed for DENY BLOCKING client]
             MONITOR
             QUIT",
        );
        assert!(client.read_to_close().unwrap().is_empty());
    });
}

/// Connections of all shards push onto lists of all shards, alone, over shards and in transactions.
/// What a monitor sees of each list is what is in it, in that order, and all monitors see the same.
#[test]
fn monitors_see_the_order_in_which_each_shard_executed() {
    const CLIENTS: usize = 4;
    const ROUNDS: usize = 150;
    const LISTS: usize = 6;
    for_each_setup(|server| {
        let mut monitors = [monitor(&server), monitor(&server)];
        let address = server.address();
        std::thread::scope(|scope| {
            for number in 0..CLIENTS {
                scope.spawn(move || {
                    let mut client = Client::connect(address).unwrap();
                    for round in 0..ROUNDS {
                        let list = |n: usize| format!("l{}", (round + n) % LISTS);
                        let push = |n| format!("RPUSH {} {number}:{round}:{n}", list(n));
                        let lines = match round % 3 {
                            0 => vec![push(0), push(1), push(2)],
                            1 => vec!["MULTI".to_owned(), push(0), push(3), "EXEC".to_owned()],
                            _ => vec![format!("LMOVE {} {} LEFT LEFT", list(0), list(1)), push(4)],
                        };
                        client.pipeline(&lines).unwrap();
                    }
                });
            }
        });
        let mut client = server.client().unwrap();
        client.run("ECHO end").unwrap();
        let seen = monitors.each_mut().map(|monitor| {
            let mut lines = Vec::new();
            loop {
                let line = next(monitor);
                if line == "0 \"ECHO\" \"end\"" {
                    return lines;
                }
                lines.push(line);
            }
        });
        assert_eq!(seen[0], seen[1]);
        let mut lists = vec![Vec::<String>::new(); LISTS];
        for line in &seen[0] {
            let words: Vec<&str> = line.split('"').skip(1).step_by(2).collect();
            let at = |word: &str| word[1..].parse::<usize>().unwrap();
            match words[..] {
                ["RPUSH", list, value] => lists[at(list)].push(value.to_owned()),
                ["LMOVE", from, to, ..] if !lists[at(from)].is_empty() => {
                    let moved = lists[at(from)].remove(0);
                    lists[at(to)].insert(0, moved);
                }
                _ => {}
            }
        }
        for (number, expected) in lists.iter().enumerate() {
            let found = client.run(&format!("LRANGE l{number} 0 -1")).unwrap();
            let found = found.items().unwrap().iter();
            let found: Vec<_> = found.map(|item| item.text().unwrap()).collect();
            assert_eq!(&found, expected, "list {number}");
        }
    });
}

/// Scenario 206, for a monitor: its limit is that of normal clients; without one, that of replicas.
#[test]
fn a_monitor_that_does_not_read_is_closed_and_slows_nobody() {
    for (shards, limit) in [
        (1, "normal 1mb 0 0"),
        (3, "normal 1mb 0 0"),
        (3, "slave 1mb 0 0"),
    ] {
        if limit.starts_with("slave") && is_other_server() {
            continue;
        }
        let server = start(shards, FsyncPolicy::No);
        let mut client = server.client().unwrap();
        let set = ["CONFIG", "SET", "client-output-buffer-limit", limit];
        assert!(client.command(&set).unwrap().is_ok());
        let mut slow = monitor(&server);
        let value = "x".repeat(200 << 10);
        let started = Instant::now();
        for number in 0..60 {
            let key = format!("key:{number}");
            assert!(client.command(&["SET", &key, &value]).unwrap().is_ok());
        }
        assert!(started.elapsed() < Duration::from_secs(60));
        loop {
            let list = client.run("CLIENT LIST").unwrap().text().unwrap();
            if !list.contains(" flags=O") {
                break;
            }
            assert!(started.elapsed() < Duration::from_secs(120), "{list}");
            client.run("PING").unwrap();
        }
        slow.read_to_close().ok();
        assert_eq!(client.run("DBSIZE").unwrap(), Reply::Int(60));
    }
}
