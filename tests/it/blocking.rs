//! Commands that wait: who is served, in which order, and that nothing is lost on the way.

use crate::support::{
    assert_survives_sigkill, flavor, info, is_other_server, keys_per_shard, run, script, start,
    state, wait_until,
};
use moon_harness::{Client, Flavor, FsyncPolicy, Reply, Server};
use nix::sys::signal::Signal;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Runs `scenario` with one shard and with several; connections spread over all of them.
fn with_servers(scenario: impl Fn(&mut Server)) {
    for shards in [1, 4] {
        eprintln!("shards {shards}");
        scenario(&mut start(shards, FsyncPolicy::Everysec));
    }
}

/// Sends requests without waiting for their replies.
pub(crate) fn send(client: &mut Client, lines: &[&str]) {
    for line in lines {
        client.queue(&line.split(' ').collect::<Vec<_>>());
    }
    client.flush().unwrap();
}

/// A client that waits, `number` clients with it.
fn waiting(server: &Server, line: &str, number: usize) -> Client {
    let mut client = server.client().unwrap();
    send(&mut client, &[line]);
    until_waiting(server, number);
    client
}

/// Returns when `number` clients wait.
fn until_waiting(server: &Server, number: usize) {
    let number = number.to_string();
    wait_until(&mut server.client().unwrap(), "blocked_clients", |n| {
        n == number
    });
}

pub(crate) fn reply(client: &mut Client) -> String {
    format!("{:?}", client.read_reply().unwrap())
}

/// A key of each of four shards, or of the only one.
fn keys() -> [String; 4] {
    let per_shard = keys_per_shard(4, 1);
    std::array::from_fn(|shard| per_shard[shard][0].clone())
}

#[test]
fn those_who_wait_longest_are_served_first_whatever_shard_they_live_on() {
    with_servers(|server| {
        let mut clients: Vec<Client> = (1..=8)
            .map(|number| waiting(server, "BLPOP k 0", number))
            .collect();
        run(server, "RPUSH k 0 1 2");
        for element in 3..8 {
            run(server, &format!("RPUSH k {element}"));
        }
        for (number, client) in clients.iter_mut().enumerate() {
            assert_eq!(reply(client), format!("[\"k\", \"{number}\"]"));
        }
        assert_eq!(run(server, "EXISTS k"), Reply::Int(0));
        until_waiting(server, 0);
    });
}

#[test]
fn whoever_waits_for_several_keys_gets_the_one_that_was_fed_first() {
    let [a, b, c, d] = keys();
    with_servers(|server| {
        let mut client = waiting(server, &format!("BLPOP {a} {b} {c} {a} 0"), 1);
        run(server, &format!("RPUSH {d} x"));
        run(server, &format!("RPUSH {b} 1 2"));
        assert_eq!(reply(&mut client), format!("[\"{b}\", \"1\"]"));
        // It waits for none of them any more.
        run(server, &format!("RPUSH {a} 3"));
        assert_eq!(run(server, &format!("LLEN {a}")), Reply::Int(1));
        assert_eq!(run(server, &format!("LLEN {b}")), Reply::Int(1));
        run(server, "FLUSHALL");

        let mut client = waiting(server, &format!("BLPOP {a} {b} 0"), 1);
        let mut feeder = server.client().unwrap();
        for line in [
            "MULTI",
            &format!("RPUSH {b} b"),
            &format!("RPUSH {a} a"),
            "EXEC",
        ] {
            feeder.run(line).unwrap();
        }
        assert_eq!(reply(&mut client), format!("[\"{b}\", \"b\"]"));
        assert_eq!(run(server, &format!("LLEN {a}")), Reply::Int(1));
        run(server, "FLUSHALL");

        let mut client = waiting(server, &format!("BZMPOP 0 2 {a} {b} MAX COUNT 2"), 1);
        run(server, &format!("ZADD {b} 1 x 2 y 3 z"));
        assert_eq!(
            reply(&mut client),
            format!("[\"{b}\", [[\"z\", \"3\"], [\"y\", \"2\"]]]")
        );
        let mut client = waiting(server, &format!("BLMPOP 0 2 {a} {c} LEFT COUNT 2"), 1);
        run(server, &format!("RPUSH {c} 1 2 3"));
        assert_eq!(reply(&mut client), format!("[\"{c}\", [\"1\", \"2\"]]"));
    });
}

#[test]
fn what_one_moves_feeds_the_next_through_all_shards() {
    let [a, b, c, d] = keys();
    with_servers(|server| {
        for round in 0..10 {
            let mut last = waiting(server, &format!("BRPOP {d} 0"), 1);
            let mut third = waiting(server, &format!("BRPOPLPUSH {c} {d} 0"), 2);
            let mut second = waiting(server, &format!("BLMOVE {b} {c} LEFT RIGHT 0"), 3);
            let mut first = waiting(server, &format!("BLMOVE {a} {b} RIGHT LEFT 0"), 4);
            run(server, &format!("RPUSH {a} element:{round}"));
            for mover in [&mut first, &mut second, &mut third] {
                assert_eq!(reply(mover), format!("\"element:{round}\""));
            }
            assert_eq!(reply(&mut last), format!("[\"{d}\", \"element:{round}\"]"));
            until_waiting(server, 0);
            assert_eq!(run(server, "DBSIZE"), Reply::Int(0));
        }
    });
}

#[test]
fn those_behind_one_who_needs_another_shard_wait_for_their_turn() {
    let [a, b, ..] = keys();
    with_servers(|server| {
        for _ in 0..20 {
            let mut mover = waiting(server, &format!("BLMOVE {a} {b} LEFT LEFT 0"), 1);
            let mut popper = waiting(server, &format!("BLPOP {a} 0"), 2);
            run(server, &format!("RPUSH {a} 1 2 3"));
            assert_eq!(reply(&mut mover), "\"1\"");
            assert_eq!(reply(&mut popper), format!("[\"{a}\", \"2\"]"));
            assert_eq!(run(server, &format!("LPOP {a}")), Reply::bulk("3"));
            assert_eq!(run(server, &format!("LPOP {b}")), Reply::bulk("1"));
        }
        // The one in front gives up while those behind it are held.
        let mut mover = waiting(server, &format!("BLMOVE {a} {b} LEFT LEFT 0"), 1);
        let mut popper = waiting(server, &format!("BLPOP {a} 0"), 2);
        run(server, &format!("SET {b} string"));
        run(server, &format!("RPUSH {a} x"));
        assert!(reply(&mut mover).starts_with("-WRONGTYPE"));
        assert_eq!(reply(&mut popper), format!("[\"{a}\", \"x\"]"));
    });
}

#[test]
fn a_transaction_is_over_before_anybody_is_served() {
    let [a, b, ..] = keys();
    with_servers(|server| {
        let mut feeder = server.client().unwrap();
        let mut first = waiting(server, &format!("BLPOP {a} 0"), 1);
        let mut second = waiting(server, &format!("BLPOP {a} {b} 0"), 2);
        for (lines, length) in [
            (
                [
                    format!("RPUSH {a} 1"),
                    format!("DEL {a}"),
                    format!("LLEN {a}"),
                ],
                0,
            ),
            (
                [
                    format!("RPUSH {a} 1"),
                    format!("RPUSH {a} 2"),
                    format!("LLEN {a}"),
                ],
                2,
            ),
        ] {
            feeder.run("MULTI").unwrap();
            for line in &lines {
                feeder.run(line).unwrap();
            }
            let replies = feeder.run("EXEC").unwrap();
            assert_eq!(replies.items().unwrap()[2], Reply::Int(length));
        }
        assert_eq!(reply(&mut first), format!("[\"{a}\", \"1\"]"));
        assert_eq!(reply(&mut second), format!("[\"{a}\", \"2\"]"));

        // Inside a transaction nothing waits.
        script(
            &mut feeder,
            "MULTI
             BLPOP none 0 => +QUEUED
             BLMOVE none other LEFT LEFT 0 => +QUEUED
             BLMPOP 0 1 none LEFT => +QUEUED
             BZPOPMIN none 0 => +QUEUED
             BZMPOP 0 1 none MIN => +QUEUED
             XREAD BLOCK 0 STREAMS none $ => +QUEUED
             WAIT 1 0 => +QUEUED
             EXEC => [nil array, nil, nil array, nil array, nil array, nil array, :0]",
        );
    });
}

#[test]
fn only_the_right_type_serves_and_group_readers_hear_that_theirs_is_gone() {
    with_servers(|server| {
        let mut lists = waiting(server, "BLPOP k 0", 1);
        let mut zsets = waiting(server, "BZPOPMAX k 0", 2);
        run(server, "SET k string");
        run(server, "DEL k");
        run(server, "ZADD k 5 m");
        assert_eq!(reply(&mut zsets), "[\"k\", \"m\", \"5\"]");
        run(server, "RPUSH k e");
        assert_eq!(reply(&mut lists), "[\"k\", \"e\"]");

        let gone = "-UNBLOCKED the stream key no longer exists";
        let destroyed = "-NOGROUP the consumer group this client was blocked on no longer exists";
        for (change, expected) in [
            ("DEL s", gone),
            ("SET s x", gone),
            ("RENAME s t", gone),
            ("FLUSHALL", gone),
            ("XGROUP DESTROY s g", destroyed),
        ] {
            run(server, "FLUSHALL");
            run(server, "XADD s 1-1 a b");
            run(server, "XGROUP CREATE s g $");
            let line = "XREADGROUP GROUP g c BLOCK 0 STREAMS s >";
            let mut reader = waiting(server, line, 1);
            run(server, change);
            assert_eq!(reply(&mut reader), expected, "{change}");
        }
    });
}

#[test]
fn all_who_read_a_stream_get_what_comes_and_a_group_gets_it_once() {
    with_servers(|server| {
        run(server, "XADD s 5-1 a b");
        run(server, "XGROUP CREATE s g $");
        let mut plain = waiting(server, "XREAD BLOCK 0 STREAMS s $", 1);
        let mut last = waiting(server, "XREAD COUNT 1 BLOCK 0 STREAMS s 5-1", 2);
        let line = "XREADGROUP GROUP g one BLOCK 0 STREAMS s >";
        let mut one = waiting(server, line, 3);
        let mut other = waiting(server, &line.replace("one", "other"), 4);
        let mut future = waiting(server, "XREAD BLOCK 0 STREAMS none s $ 6-0", 5);
        run(server, "XADD s 5-2 c d");
        let entry = "[[\"s\", [[\"5-2\", [\"c\", \"d\"]]]]]";
        for reader in [&mut plain, &mut last, &mut one] {
            assert_eq!(reply(reader), entry);
        }
        until_waiting(server, 2);
        run(server, "XADD s 6-1 e f");
        let entry = "[[\"s\", [[\"6-1\", [\"e\", \"f\"]]]]]";
        for reader in [&mut other, &mut future] {
            assert_eq!(reply(reader), entry);
        }
        script(
            &mut server.client().unwrap(),
            "XPENDING s g => [:2, \"5-2\", \"6-1\", [[\"one\", \"1\"], [\"other\", \"1\"]]]
             XREAD BLOCK 1 STREAMS s $ => nil array",
        );
    });
}

#[test]
fn other_ways_to_fill_a_key_serve_as_a_push_does() {
    with_servers(|server| {
        for (before, change) in [
            ("RPUSH other x", "RENAME other k"),
            ("RPUSH other x", "COPY other k"),
            ("SADD other x", "SORT other BY nosort STORE k"),
            ("RPUSH other x", "LMOVE other k LEFT LEFT"),
        ] {
            run(server, "FLUSHALL");
            run(server, before);
            let mut client = waiting(server, "BLPOP k 0", 1);
            run(server, change);
            assert_eq!(reply(&mut client), "[\"k\", \"x\"]", "{change}");
        }
        let mut elsewhere = server.client().unwrap();
        script(&mut elsewhere, "SELECT 3 => +OK\n RPUSH k y => :1");
        let mut client = waiting(server, "BLPOP k 0", 1);
        run(server, "SWAPDB 0 3");
        assert_eq!(reply(&mut client), "[\"k\", \"y\"]");
        // Databases are apart.
        let mut client = waiting(server, "BLPOP k 0", 1);
        script(&mut elsewhere, "RPUSH k z => :1");
        until_waiting(server, 1);
        run(server, "RPUSH k 0");
        assert_eq!(reply(&mut client), "[\"k\", \"0\"]");
    });
}

#[test]
fn a_wait_ends_when_its_time_is_over_and_not_before() {
    with_servers(|server| {
        let mut client = server.client().unwrap();
        let limits = [
            "BLPOP k 0.1",
            "BRPOP a b c d 0.1",
            "BLMOVE k l LEFT RIGHT 0.1",
            "BRPOPLPUSH k l 0.1",
            "BLMPOP 0.1 2 a b LEFT",
            "BZPOPMIN k 0.1",
            "BZMPOP 0.1 1 k MIN",
            "XREAD BLOCK 100 STREAMS k $",
        ];
        for line in limits {
            let started = Instant::now();
            assert_eq!(client.run(line).unwrap(), Reply::NullArray, "{line}");
            let taken = started.elapsed();
            assert!(taken >= Duration::from_millis(100), "{line}: {taken:?}");
            assert!(taken < Duration::from_secs(10), "{line}: {taken:?}");
        }
        client.run("HELLO 3").unwrap();
        assert_eq!(
            client.run("BLMOVE k l LEFT LEFT 0.01").unwrap(),
            Reply::Null
        );
        // The element comes when nobody waits any more.
        run(server, "RPUSH k x");
        assert_eq!(run(server, "LLEN k"), Reply::Int(1));
        until_waiting(server, 0);
    });
}

#[test]
fn client_unblock_ends_a_wait_in_either_way() {
    with_servers(|server| {
        let mut control = server.client().unwrap();
        for (reason, expected) in [
            ("", "nil array"),
            (" TIMEOUT", "nil array"),
            (" error", "-UNBLOCKED client unblocked via CLIENT UNBLOCK"),
        ] {
            for line in [
                "BLPOP k 0",
                "BLMOVE a b LEFT LEFT 0",
                "XREAD BLOCK 0 STREAMS s $",
            ] {
                let mut client = server.client().unwrap();
                let id = client.run("CLIENT ID").unwrap().int().unwrap();
                let unblock = format!("CLIENT UNBLOCK {id}{reason}");
                assert_eq!(control.run(&unblock).unwrap(), Reply::Int(0));
                send(&mut client, &[line]);
                until_waiting(server, 1);
                let list = control.run(&format!("CLIENT LIST ID {id}")).unwrap();
                assert!(list.text().unwrap().contains("flags=b "), "{list:?}");
                assert_eq!(control.run(&unblock).unwrap(), Reply::Int(1));
                assert_eq!(reply(&mut client), expected);
                until_waiting(server, 0);
                assert_eq!(control.run(&unblock).unwrap(), Reply::Int(0));
                // Nothing is left of the wait.
                control.run("RPUSH k x").unwrap();
                assert_eq!(control.run("LPOP k").unwrap(), Reply::bulk("x"));
            }
        }
        script(
            &mut control,
            "CLIENT UNBLOCK 1 NEVER => -ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR
             CLIENT UNBLOCK x => -ERR value is not an integer or out of range
             CLIENT UNBLOCK 987654321 => :0",
        );
    });
}

/// Scenarios 203, 204.
#[test]
fn an_element_does_not_go_to_a_client_that_has_gone() {
    let [a, b, ..] = keys();
    with_servers(|server| {
        let mut stays = waiting(server, &format!("BLPOP {b} 0"), 1);
        let pop = format!("BLPOP {a} {b} 0");
        let gone = waiting(server, &pop, 2);
        drop(gone);
        until_waiting(server, 1);
        let mut killed = server.client().unwrap();
        let id = killed.run("CLIENT ID").unwrap().int().unwrap();
        send(&mut killed, &[&pop]);
        until_waiting(server, 2);
        // Nothing comes between the end of the client and the push.
        let mut control = server.client().unwrap();
        let kill = format!("CLIENT KILL ID {id}");
        control.pipeline(&[kill, format!("RPUSH {a} 1")]).unwrap();
        assert_eq!(control.run(&format!("LPOP {a}")).unwrap(), Reply::bulk("1"));
        until_waiting(server, 1);
        // One that has sent more before it goes.
        let mut busy = server.client().unwrap();
        send(&mut busy, &[&pop, "SET never x", "GET never"]);
        until_waiting(server, 2);
        drop(busy);
        until_waiting(server, 1);
        run(server, &format!("RPUSH {a} x"));
        run(server, &format!("RPUSH {b} y"));
        assert_eq!(reply(&mut stays), format!("[\"{b}\", \"y\"]"));
        assert_eq!(
            run(server, &format!("LRANGE {a} 0 -1")),
            Reply::Array(vec![Reply::bulk("x")])
        );
        assert_eq!(run(server, "EXISTS never"), Reply::Int(0));
    });
}

/// Scenario 209.
#[test]
fn what_is_sent_behind_a_wait_is_executed_after_it() {
    let [a, b, c, d] = keys();
    with_servers(|server| {
        let mut client = server.client().unwrap();
        let lines = [
            format!("SET {c} before"),
            format!("BLPOP {a} 0"),
            format!("SET {c} after"),
            format!("GET {c}"),
            format!("BLPOP {b} {d} 0"),
            format!("INCR {a}"),
        ];
        send(&mut client, &lines.each_ref().map(String::as_str));
        until_waiting(server, 1);
        assert_eq!(reply(&mut client), "+OK");
        assert_eq!(run(server, &format!("GET {c}")), Reply::bulk("before"));
        // More comes while it waits, in pieces.
        client.write_raw(b"*2\r\n$3\r\nGE").unwrap();
        let rest = format!("T\r\n${}\r\n{c}\r\nPING\r\n*1\r\n$4\r\nPI", c.len());
        client.write_raw(rest.as_bytes()).unwrap();
        run(server, &format!("RPUSH {a} 1"));
        assert_eq!(reply(&mut client), format!("[\"{a}\", \"1\"]"));
        assert_eq!(reply(&mut client), "+OK");
        assert_eq!(reply(&mut client), "\"after\"");
        until_waiting(server, 1);
        client.write_raw(b"NG\r\n").unwrap();
        run(server, &format!("RPUSH {d} 2"));
        for expected in [
            format!("[\"{d}\", \"2\"]"),
            ":1".to_owned(),
            "\"after\"".to_owned(),
        ] {
            assert_eq!(reply(&mut client), expected);
        }
        assert_eq!(reply(&mut client), "+PONG");
        assert_eq!(reply(&mut client), "+PONG");
    });
}

#[test]
fn a_wait_whose_reply_is_not_wanted_takes_and_says_nothing() {
    with_servers(|server| {
        let mut client = server.client().unwrap();
        send(&mut client, &["CLIENT REPLY SKIP", "BLPOP k 0", "PING"]);
        until_waiting(server, 1);
        run(server, "RPUSH k x");
        assert_eq!(reply(&mut client), "+PONG");
        assert_eq!(run(server, "EXISTS k"), Reply::Int(0));
        send(
            &mut client,
            &["CLIENT REPLY OFF", "BLPOP k 0.01", "CLIENT REPLY ON"],
        );
        assert_eq!(reply(&mut client), "+OK");
    });
}

#[test]
fn a_server_stops_while_clients_wait() {
    with_servers(|server| {
        let mut clients: Vec<Client> = (1..=5)
            .map(|number| waiting(server, "BLPOP a b c 0", number))
            .collect();
        assert!(server.sigterm().unwrap().success());
        for client in &mut clients {
            assert!(client.read_reply().is_err());
        }
    });
}

/// Scenarios 6, 138.
#[test]
fn the_log_holds_what_was_taken_and_nothing_that_waits() {
    if is_other_server() {
        return;
    }
    let [a, b, c, d] = keys();
    with_servers(|server| {
        let mut clients = [
            waiting(server, &format!("BLMOVE {a} {b} LEFT RIGHT 0"), 1),
            waiting(server, &format!("BRPOP {a} 0"), 2),
            waiting(server, &format!("BZPOPMIN {c} 0"), 3),
            waiting(server, &format!("BZMPOP 0 2 {d} {c} MAX COUNT 2"), 4),
            waiting(server, &format!("BLMPOP 0 2 {d} {a} LEFT COUNT 2"), 5),
        ];
        run(server, &format!("RPUSH {a} 1 2 3 4 5"));
        run(server, &format!("ZADD {c} 1 a 2 b 3 c 4 d"));
        run(server, &format!("XGROUP CREATE {d} g $ MKSTREAM"));
        let mut reader = waiting(
            server,
            &format!("XREADGROUP GROUP g me BLOCK 0 STREAMS {d} >"),
            1,
        );
        run(server, &format!("XADD {d} 1-0 f v"));
        for client in clients.iter_mut().chain([&mut reader]) {
            client.read_reply().unwrap();
        }
        let before = state(server);
        assert_eq!(
            run(server, &format!("LRANGE {a} 0 -1"))
                .items()
                .unwrap()
                .len(),
            1
        );
        assert_eq!(run(server, &format!("ZCARD {c}")), Reply::Int(1));
        assert_eq!(assert_survives_sigkill(server), before);
        let pending = run(server, &format!("XPENDING {d} g"));
        assert_eq!(pending.items().unwrap()[0], Reply::Int(1));
    });
}

/// Pushes elements, each once, until the server is gone; returns those that were acknowledged,
/// and the number of those that were sent.
fn push_until_gone(server: &Server, keys: &[String], stop: &AtomicBool) -> (usize, usize) {
    let mut client = server.client().unwrap();
    let (mut acknowledged, mut sent) = (0, 0);
    while !stop.load(Ordering::Relaxed) {
        let key = &keys[sent % keys.len()];
        sent += 1;
        match client.run(&format!("RPUSH {key} {}", sent - 1)) {
            Ok(Reply::Int(_)) => acknowledged = sent,
            _ => break,
        }
    }
    (acknowledged, sent)
}

/// Takes elements until the server is gone; returns those that were received.
fn take_until_gone(server: &Server, line: &str) -> Vec<usize> {
    let mut client = server.client().unwrap();
    let mut taken = Vec::new();
    while let Ok(reply) = client.run(line) {
        let element = match &reply {
            Reply::Array(items) => items[1].clone(),
            _ => reply,
        };
        taken.push(element.text().unwrap().parse().unwrap());
    }
    taken
}

/// Elements of a list.
fn elements(server: &Server, key: &str) -> Vec<usize> {
    let reply = run(server, &format!("LRANGE {key} 0 -1"));
    let items = reply.items().unwrap().iter();
    items
        .map(|item| item.text().unwrap().parse().unwrap())
        .collect()
}

/// Scenario 7.
#[test]
fn after_a_kill_every_element_is_still_there_or_was_delivered() {
    if is_other_server() {
        return;
    }
    const MOVERS: usize = 4;
    const POPPERS: usize = 4;
    let keys = keys();
    for (shards, policy) in [
        (1, FsyncPolicy::No),
        (4, FsyncPolicy::Everysec),
        (4, FsyncPolicy::Always),
    ] {
        let mut server = start(shards, policy);
        let stop = AtomicBool::new(false);
        let [from, to] =
            ["pop", "move"].map(|what| keys.each_ref().map(|key| format!("{what}:{key}")));
        let sources = [from.to_vec(), to.to_vec()].concat();
        let pop = format!("BLPOP {} 0", from.join(" "));
        let (pushed, popped, moved) = std::thread::scope(|scope| {
            let server = &server;
            let (stop, sources, pop) = (&stop, &sources, &pop);
            let pusher = scope.spawn(move || push_until_gone(server, sources, stop));
            let poppers: Vec<_> = (0..POPPERS)
                .map(|_| scope.spawn(move || take_until_gone(server, pop)))
                .collect();
            let movers: Vec<_> = (0..MOVERS)
                .map(|mover| {
                    let line = format!("BLMOVE {} done:{mover} LEFT RIGHT 0", to[mover]);
                    scope.spawn(move || take_until_gone(server, &line))
                })
                .collect();
            let mut control = server.client().unwrap();
            wait_until(&mut control, "total_commands_processed", |n| {
                n.parse::<u64>().unwrap() > 4000
            });
            server.signal(Signal::SIGKILL).unwrap();
            drop(control);
            let taken = |all: Vec<std::thread::ScopedJoinHandle<'_, Vec<usize>>>| {
                all.into_iter()
                    .map(|one| one.join().unwrap())
                    .collect::<Vec<_>>()
            };
            (pusher.join().unwrap(), taken(poppers), taken(movers))
        });
        server.kill9().ok();
        server.restart().unwrap();
        let (acknowledged, sent) = pushed;
        let mut found = BTreeSet::new();
        let mut note = |element: usize| {
            assert!(element < sent, "{element} was never pushed");
            assert!(found.insert(element), "{element} is there twice");
        };
        for (mover, taken) in moved.iter().enumerate() {
            let done = elements(&server, &format!("done:{mover}"));
            // Its client was told of all of them, but perhaps not of the last.
            assert!(done.starts_with(taken) && done.len() <= taken.len() + 1);
            done.into_iter().for_each(&mut note);
        }
        for key in &sources {
            elements(&server, key).into_iter().for_each(&mut note);
        }
        let delivered = popped.iter().flatten().copied();
        delivered.for_each(&mut note);
        let lost: Vec<usize> = (0..acknowledged)
            .filter(|element| !found.contains(element))
            .collect();
        // A reply that was on its way when the server died is gone with it, one for each client.
        assert!(lost.len() <= POPPERS, "{lost:?} of {acknowledged}");
        let moved_ones = lost
            .iter()
            .filter(|element| *element % sources.len() >= from.len());
        assert_eq!(moved_ones.count(), 0, "{lost:?}");
    }
}

#[test]
fn waiting_for_replicas_that_do_not_exist_takes_its_time() {
    with_servers(|server| {
        let mut client = server.client().unwrap();
        script(
            &mut client,
            "SET k 1 => +OK
             WAIT 0 0 => :0
             WAIT -1 0 => :0
             WAIT 1 -1 => -ERR timeout is negative
             WAIT x 0 => -ERR value is not an integer or out of range
             WAIT 1 x => -ERR timeout is not an integer or out of range",
        );
        let started = Instant::now();
        assert_eq!(client.run("WAIT 1 100").unwrap(), Reply::Int(0));
        assert!(started.elapsed() >= Duration::from_millis(100));
        let mut waits = waiting(server, "WAIT 1 0", 1);
        let id = info(&mut client, "blocked_clients");
        assert_eq!(id, "1");
        let list = client.run("CLIENT LIST").unwrap().text().unwrap();
        let line = list.lines().find(|line| line.contains("flags=b ")).unwrap();
        let id = line.strip_prefix("id=").unwrap().split(' ').next().unwrap();
        assert_eq!(
            client.run(&format!("CLIENT UNBLOCK {id}")).unwrap(),
            Reply::Int(1)
        );
        assert_eq!(reply(&mut waits), ":0");
    });
}

#[test]
fn waitaof_answers_when_what_was_written_is_synced() {
    if flavor() == Flavor::Redis {
        return;
    }
    for policy in [FsyncPolicy::Always, FsyncPolicy::Everysec] {
        let server = start(4, policy);
        let mut client = server.client().unwrap();
        script(
            &mut client,
            "MSET a 1 b 2 c 3 d 4 => +OK
             WAITAOF 1 0 0 => [:1, :0]
             WAITAOF 0 0 0 => [:1, :0]
             WAITAOF 1 1 10 => [:1, :0]
             WAITAOF 2 0 0 => -ERR value is out of range, value must between 0 and 1
             WAITAOF 1 -1 0 => -ERR value is out of range, must be positive
             WAITAOF 1 0 -1 => -ERR timeout is negative
             CONFIG SET appendonly no => +OK
             WAITAOF 1 0 0 => -ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.",
        );
    }
}

/// As in Redis: nothing is synced unless something asks for it, and who waits for a log that is
/// switched off hears so.
#[test]
fn waitaof_waits_for_its_time_without_syncs_and_not_for_a_log_that_is_off() {
    if flavor() == Flavor::Redis {
        return;
    }
    let server = start(2, FsyncPolicy::No);
    let mut client = server.client().unwrap();
    script(&mut client, "SET a 1");
    let started = Instant::now();
    script(&mut client, "WAITAOF 1 0 60 => [:0, :0]");
    assert!(started.elapsed() >= Duration::from_millis(60));
    let mut waits = ["WAITAOF 1 0 0", "WAITAOF 1 1 0"].map(|line| {
        let mut client = server.client().unwrap();
        client.run("SET b 1").unwrap();
        send(&mut client, &[line]);
        client
    });
    until_waiting(&server, 2);
    script(&mut client, "CONFIG SET appendfsync always");
    // One has what it waited for, as soon as it is synced.
    assert_eq!(reply(&mut waits[0]), "[:1, :0]");
    script(&mut client, "CONFIG SET appendonly no");
    assert_eq!(
        reply(&mut waits[1]),
        "-ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled."
    );
}

#[test]
fn messages_reach_a_client_while_it_waits() {
    with_servers(|server| {
        let mut client = server.client().unwrap();
        client.run("HELLO 3").unwrap();
        assert_eq!(
            format!("{:?}", client.run("SUBSCRIBE news").unwrap()),
            ">[\"subscribe\", \"news\", :1]"
        );
        send(&mut client, &["BLPOP k 0"]);
        until_waiting(server, 1);
        assert_eq!(run(server, "PUBLISH news first"), Reply::Int(1));
        assert_eq!(reply(&mut client), ">[\"message\", \"news\", \"first\"]");
        run(server, "RPUSH k x");
        assert_eq!(reply(&mut client), "[\"k\", \"x\"]");
        run(server, "PUBLISH news second");
        assert_eq!(reply(&mut client), ">[\"message\", \"news\", \"second\"]");
    });
}

/// Queues are built like this: a script feeds those who wait, whichever shards its keys are on.
#[test]
fn a_script_over_shards_feeds_those_who_wait_for_entries() {
    for shards in [1, 4] {
        let server = start(shards, FsyncPolicy::Everysec);
        let mut client = server.client().unwrap();
        for number in 0..20 {
            let mut waiting = server.client().unwrap();
            waiting.run("CLIENT ID").unwrap();
            waiting.queue(&["XREAD", "BLOCK", "0", "STREAMS", &format!("s{number}"), "$"]);
            waiting.flush().unwrap();
            let is_blocked = |reply: &Reply| reply.text().unwrap().contains("blocked_clients:1");
            while !is_blocked(&client.run("INFO clients").unwrap()) {}
            let script = "redis.call('SET', KEYS[2], 'v') \
                          return redis.call('XADD', KEYS[1], '1-1', 'f', 'v')";
            let keys = [format!("s{number}"), format!("k{number}")];
            let added = client.command(&["EVAL", script, "2", &keys[0], &keys[1]]);
            assert_eq!(added.unwrap().text().unwrap(), "1-1");
            let entries = format!("{:?}", waiting.read_reply().unwrap());
            assert!(entries.contains("1-1"), "{entries}");
        }
    }
}
