//! CLIENT PAUSE: for a while no write runs, or no command, on any shard.

use crate::support::{for_each_setup, info, is_other_server, keys_per_shard, script, start};
use moon_harness::{Client, FsyncPolicy, Reply, Server};
use nix::sys::signal::Signal;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Asks until `wanted` is answered.
fn until(client: &mut Client, line: &str, wanted: impl Fn(&Reply) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let reply = client.run(line).unwrap();
        if wanted(&reply) {
            return;
        }
        assert!(Instant::now() < deadline, "{line}: {reply:?}");
    }
}

fn blocked(count: usize) -> impl Fn(&Reply) -> bool {
    move |list| {
        let text = list.text().unwrap();
        let waits = |line: &&str| line.contains(" flags=b") || line.contains(" flags=xb");
        text.lines().filter(waits).count() == count
    }
}

/// When CLIENT PAUSE has answered, nothing is written any more, on no shard, however much was under
/// way.
#[test]
fn nothing_is_written_once_the_pause_is_answered() {
    if is_other_server() {
        return;
    }
    for_each_setup(|server| {
        let address = server.address();
        let shards = server.config().effective_shards();
        let keys: Vec<String> = keys_per_shard(shards, 3).concat();
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let writers: Vec<_> = (0..4)
                .map(|number| {
                    let (keys, stop) = (&keys, &stop);
                    scope.spawn(move || write_until(address, number, keys, stop))
                })
                .collect();
            let mut client = server.client().unwrap();
            for round in 0..12 {
                // It may have been the last of a pipeline that was under way.
                until(
                    &mut client,
                    "INCR warm",
                    |reply| matches!(reply, Reply::Int(n) if n % 20 == 0),
                );
                script(&mut client, "CLIENT PAUSE 100000 WRITE");
                let head = info(&mut client, "moon_lsn_head");
                let mget = format!("MGET {}", keys.join(" "));
                let before = client.run(&mget).unwrap();
                for _ in 0..50 {
                    assert_eq!(client.run(&mget).unwrap(), before, "round {round}");
                }
                assert_eq!(info(&mut client, "moon_lsn_head"), head, "round {round}");
                script(&mut client, "CLIENT UNPAUSE");
            }
            stop.store(true, Ordering::Relaxed);
            let written: u64 = writers.into_iter().map(|w| w.join().unwrap()).sum();
            assert!(written > 0);
        });
    });
}

/// One that waits to move an element to another shard borrows for it after the push; and when it
/// gives up, those behind it take over. Neither is a write that a pause lets through.
#[test]
fn nobody_who_waits_is_served_during_a_pause() {
    if is_other_server() {
        return;
    }
    for shards in [3, 8] {
        let server = start(shards, FsyncPolicy::Everysec);
        let keys = keys_per_shard(shards, 1).concat();
        for (pause, time) in [
            ("100000 WRITE", "0"),
            ("300 ALL", "0"),
            ("100000 WRITE", "0.2"),
        ] {
            // Where the one who pushes has the other shard in hand anyway, it serves at once.
            let mut held = 0;
            for to in &keys[1..3] {
                held += u32::from(is_held_by(&server, [&keys[0], to], pause, time));
            }
            assert!(held > 0, "{shards} shards, {pause}");
        }
    }
}

/// Pushes and pauses as one step while somebody waits to move between the keys, and another one
/// behind it, if the first waits for a `time`. Whether they waited for the end of the pause.
fn is_held_by(server: &Server, [from, to]: [&str; 2], pause: &str, time: &str) -> bool {
    let mut admin = server.client().unwrap();
    let mut lines = vec![format!("BLMOVE {from} {to} LEFT RIGHT {time}")];
    if time != "0" {
        lines.push(format!("BLPOP {from} 0"));
    }
    let mut waits: Vec<Client> = Vec::new();
    for line in &lines {
        let mut client = server.client().unwrap();
        client.queue(&line.split(' ').collect::<Vec<_>>());
        client.flush().unwrap();
        waits.push(client);
        until(&mut admin, "CLIENT LIST", blocked(waits.len()));
    }
    let pause_line = format!("CLIENT PAUSE {pause}");
    script(
        &mut admin,
        &format!("MULTI\n RPUSH {from} x => +QUEUED\n {pause_line} => +QUEUED\n EXEC => [:1, +OK]"),
    );
    let started = Instant::now();
    let mut is_held = true;
    if pause.ends_with("WRITE") {
        let read = format!("LRANGE {from} 0 -1");
        is_held = format!("{:?}", admin.run(&read).unwrap()) == "[\"x\"]";
        if is_held && time != "0" {
            assert_eq!(format!("{:?}", waits[0].read_reply().unwrap()), "nil array");
        }
        let head = info(&mut admin, "moon_lsn_head");
        for _ in 0..200 {
            let found = admin.run(&read).unwrap();
            assert_eq!(found == Reply::Array(vec![]), !is_held, "{found:?}");
        }
        assert_eq!(info(&mut admin, "moon_lsn_head"), head);
        script(&mut admin, "CLIENT UNPAUSE");
    }
    let took_over = is_held && time != "0";
    let served = waits[usize::from(took_over)].read_reply().unwrap();
    is_held &= pause.ends_with("WRITE") || started.elapsed() >= Duration::from_millis(250);
    let expected = match took_over {
        true => format!("[\"{from}\", \"x\"]"),
        false => "\"x\"".to_owned(),
    };
    assert_eq!(format!("{served:?}"), expected);
    drop(waits);
    script(&mut admin, &format!("EXISTS {from} => :0"));
    admin.run(&format!("DEL {to}")).unwrap();
    until(&mut admin, "CLIENT LIST", blocked(0));
    is_held
}

fn write_until(
    address: std::net::SocketAddr,
    number: usize,
    keys: &[String],
    stop: &AtomicBool,
) -> u64 {
    let mut client = Client::connect(address).unwrap();
    let (first, last) = (&keys[number % keys.len()], &keys[keys.len() - 1]);
    let mut rounds = 0;
    while !stop.load(Ordering::Relaxed) {
        let lines = [
            format!("INCR {first}"),
            format!("INCR {last}"),
            format!("MSET {first} 1 {last} 1"),
            "MULTI".to_owned(),
            format!("INCR {first}"),
            format!("INCR {last}"),
            "EXEC".to_owned(),
            format!("INCR {last}"),
            format!("GETDEL {first}"),
        ];
        for reply in client.pipeline(&lines).unwrap() {
            assert!(reply.error().is_none(), "{reply:?}");
        }
        rounds += 1;
    }
    rounds
}

#[test]
fn in_a_pause_of_writes_only_what_may_write_waits() {
    for_each_setup(|server| {
        let mut admin = server.client().unwrap();
        let mut clients: Vec<Client> = (0..5).map(|_| server.client().unwrap()).collect();
        script(&mut admin, "MSET a 1 b 2 c 3");
        script(&mut clients[1], "MULTI\n SET d 1 => +QUEUED");
        script(&mut clients[2], "MULTI\n GET a => +QUEUED");
        script(&mut clients[4], "MULTI");
        script(&mut admin, "CLIENT PAUSE 100000 WRITE");
        for (at, line) in [
            (0, "SET a 2"),
            (1, "EXEC"),
            (3, "MSET a 3 b 3"),
            (4, "SET a 4"),
        ] {
            let parts: Vec<&str> = line.split(' ').collect();
            clients[at].queue(&parts);
            clients[at].flush().unwrap();
        }
        until(&mut admin, "CLIENT LIST", blocked(4));
        script(&mut clients[2], "EXEC => [\"1\"]");
        script(
            &mut admin,
            "GET a => \"1\"
             MGET a b c => [\"1\", \"2\", \"3\"]
             EXISTS d => :0
             CLIENT UNPAUSE",
        );
        assert!(clients[0].read_reply().unwrap().is_ok());
        assert_eq!(
            clients[1].read_reply().unwrap(),
            Reply::Array(vec![Reply::ok()])
        );
        assert!(clients[3].read_reply().unwrap().is_ok());
        assert_eq!(format!("{:?}", clients[4].read_reply().unwrap()), "+QUEUED");
        script(&mut admin, "GET d => \"1\"\n GET c => \"3\"");
    });
}

#[test]
fn a_pause_of_all_ends_by_itself_and_a_shorter_one_does_not_shorten_it() {
    for_each_setup(|server| {
        let mut admin = server.client().unwrap();
        let mut reader = server.client().unwrap();
        let started = Instant::now();
        // Sent as one, because the second waits for nobody once the first has run.
        script(&mut admin, "MULTI");
        script(
            &mut admin,
            "CLIENT PAUSE 300 ALL => +QUEUED
             CLIENT PAUSE 10 WRITE => +QUEUED
             EXEC => [+OK, +OK]",
        );
        script(&mut reader, "GET a => nil");
        assert!(started.elapsed() >= Duration::from_millis(300));
        script(&mut reader, "SET a 1");
        for (line, expected) in [
            (
                "CLIENT PAUSE abc",
                "-ERR timeout is not an integer or out of range",
            ),
            ("CLIENT PAUSE -1", "-ERR timeout is negative"),
            (
                "CLIENT PAUSE 1 some",
                "-ERR CLIENT PAUSE mode must be WRITE or ALL",
            ),
            ("CLIENT PAUSE 0", "+OK"),
            ("CLIENT UNPAUSE", "+OK"),
        ] {
            assert_eq!(
                format!("{:?}", admin.run(line).unwrap()),
                expected,
                "{line}"
            );
        }
    });
}

/// What has expired is not shown, and not deleted either before the pause is over.
#[test]
fn nothing_expires_for_good_during_a_pause() {
    if is_other_server() {
        return;
    }
    for shards in [1, 3] {
        let server = start(shards, FsyncPolicy::Everysec);
        let mut client = server.client().unwrap();
        let keys: Vec<String> = (0..20).map(|n| format!("k{n}")).collect();
        for key in &keys {
            client.run(&format!("SET {key} v PX 2000")).unwrap();
        }
        script(&mut client, "CLIENT PAUSE 100000 WRITE");
        let (head, expired) = (
            info(&mut client, "moon_lsn_head"),
            info(&mut client, "expired_keys"),
        );
        assert_eq!(expired, "0", "the machine is too slow for this test");
        let exists = format!("EXISTS {}", keys.join(" "));
        until(&mut client, &exists, |reply| *reply == Reply::Int(0));
        // Some ticks, in which keys would be removed otherwise.
        let started = Instant::now();
        while started.elapsed() < Duration::from_millis(350) {
            script(
                &mut client,
                "GET k1 => nil\n TTL k2 => :-2\n RANDOMKEY => nil",
            );
        }
        assert_eq!(info(&mut client, "moon_lsn_head"), head);
        assert_eq!(info(&mut client, "expired_keys"), "0");
        script(&mut client, "CLIENT UNPAUSE");
        until(&mut client, "DBSIZE", |reply| *reply == Reply::Int(0));
        assert_eq!(info(&mut client, "expired_keys"), "20");
    }
}

/// Scenarios 203 and 204, for clients that a pause holds up.
#[test]
fn a_client_that_ends_during_a_pause_does_not_write() {
    for_each_setup(|server| {
        let mut admin = server.client().unwrap();
        let mut victims: Vec<Client> = (0..3).map(|_| server.client().unwrap()).collect();
        script(&mut admin, "CLIENT PAUSE 100000 WRITE");
        for victim in &mut victims {
            victim.queue(&["INCR", "count"]);
            victim.queue(&["INCR", "count"]);
            victim.flush().unwrap();
        }
        until(&mut admin, "CLIENT LIST", blocked(3));
        script(&mut admin, "CLIENT KILL TYPE normal => :3");
        for victim in &mut victims {
            assert!(victim.read_to_close().unwrap().is_empty());
        }
        until(&mut admin, "CLIENT LIST", blocked(0));
        script(&mut admin, "CLIENT UNPAUSE\n INCR count => :1");
    });
}

#[test]
fn a_paused_server_stops_when_it_is_asked_to() {
    for shards in [1, 3] {
        let mut server: Server = start(shards, FsyncPolicy::Everysec);
        let mut admin = server.client().unwrap();
        script(&mut admin, "SET a 1\n CLIENT PAUSE 100000 ALL");
        let mut waiting = server.client().unwrap();
        waiting.queue(&["SET", "a", "2"]);
        waiting.flush().unwrap();
        server.signal(Signal::SIGTERM).unwrap();
        assert!(server.wait_exit(Duration::from_secs(20)).unwrap().success());
        server.respawn().unwrap();
        server.wait_ready().unwrap();
        script(&mut server.client().unwrap(), "GET a => \"1\"");
    }
}
