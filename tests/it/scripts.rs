//! Scripts and functions: answers as Redis gives them, one step over any shards, whole or absent
//! after a kill, and the server's voice while one takes long.

use crate::support::{
    binary, flavor, info, is_installed, is_other_server, keys_per_shard, run, start, temp_dir,
};
use moon_harness::{Client, Flavor, FsyncPolicy, Reply, Server, ServerConfig};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Requests for both servers; see its first line.
const COMPARED: &str = include_str!("scripts/compared.txt");

fn requests() -> impl Iterator<Item = Vec<String>> {
    let lines = COMPARED.lines();
    let requests = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    requests.map(|line| {
        let part = |part: &str| match part {
            "''" => String::new(),
            _ => part.replace("\\n", "\n"),
        };
        line.split('\t').map(part).collect()
    })
}

#[test]
fn scripts_and_functions_answer_as_redis_does() {
    if is_other_server() || !is_installed("redis-server") {
        return;
    }
    let redis = Server::start_temp(Flavor::Redis, "redis-server", |c| c).unwrap();
    let moon = start(1, FsyncPolicy::No);
    let mut clients = [redis.client().unwrap(), moon.client().unwrap()];
    let mut differences = Vec::new();
    for protocol in ["2", "3"] {
        for client in &mut clients {
            client.command(&["HELLO", protocol]).unwrap();
            client.command(&["FLUSHALL"]).unwrap();
            client.command(&["SCRIPT", "FLUSH"]).unwrap();
            client.command(&["FUNCTION", "FLUSH"]).unwrap();
        }
        for request in requests() {
            let [theirs, ours] = [0, 1].map(|n| {
                let client: &mut Client = &mut clients[n];
                client.queue(&request);
                client.flush().unwrap();
                format!("{:?}", client.read_value().unwrap())
            });
            if theirs != ours {
                let shown = request.join(" ");
                differences.push(format!("RESP{protocol} {shown}\n  {theirs}\n  {ours}"));
            }
        }
    }
    let count = differences.len();
    assert!(
        differences.is_empty(),
        "{count} differ:\n{}",
        differences.join("\n")
    );
}

fn eval(client: &mut Client, script: &str, keys: &[&str], args: &[&str]) -> Reply {
    let count = keys.len().to_string();
    let mut request = vec!["EVAL", script, &count];
    request.extend(keys);
    request.extend(args);
    client.command(&request).unwrap()
}

/// Moves one from a key to another, and counts how often it ran.
const TRANSFER: &str = "redis.call('DECR', KEYS[1]) redis.call('INCR', KEYS[2]) \
                        return redis.call('INCR', KEYS[3])";

/// Scenario 121.
#[test]
fn a_script_over_all_shards_is_one_step_for_everybody() {
    let server = start(4, FsyncPolicy::Everysec);
    let keys: Vec<String> = keys_per_shard(4, 1).concat();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..3)
            .map(|n| {
                let (server, keys) = (&server, &keys);
                scope.spawn(move || {
                    let mut client = server.client().unwrap();
                    for round in 0..200 {
                        let (from, to) = ((n + round) % 4, (n + round + 1) % 4);
                        let keys = [&keys[from][..], &keys[to], "count"];
                        let reply = eval(&mut client, TRANSFER, &keys, &[]);
                        assert!(reply.error().is_none(), "{reply:?}");
                    }
                })
            })
            .collect();
        let reader = scope.spawn(|| {
            let mut client = server.client().unwrap();
            let mut request = vec!["MGET"];
            request.extend(keys.iter().map(String::as_str));
            let mut read = 0;
            while !stop.load(Ordering::Relaxed) {
                let reply = client.command(&request).unwrap();
                let numbers = reply.items().unwrap().iter();
                let sum: i64 = numbers
                    .filter_map(|item| item.text()?.parse::<i64>().ok())
                    .sum();
                assert_eq!(sum, 0, "{reply:?}");
                read += 1;
            }
            read
        });
        for writer in writers {
            writer.join().unwrap();
        }
        stop.store(true, Ordering::Relaxed);
        assert!(reader.join().unwrap() > 0);
    });
    assert_eq!(run(&server, "GET count"), Reply::bulk("600"));
}

/// Scenario 130. Keys of all shards behind keys that are not declared: before a write the script begins again
/// with all shards, after one it is told what to do; and the settings that say otherwise.
#[test]
fn a_script_reaches_keys_that_it_did_not_declare_or_hears_why_not() {
    if is_other_server() {
        return;
    }
    let server = start(4, FsyncPolicy::Everysec);
    let mut client = server.client().unwrap();
    let keys: Vec<String> = keys_per_shard(4, 1).concat();
    let list: Vec<&str> = keys.iter().map(String::as_str).collect();
    let reads_first = "for i = 1, #ARGV do redis.call('GET', ARGV[i]) end \
                       for i = 1, #ARGV do redis.call('INCR', ARGV[i]) end return #ARGV";
    let writes_first = "for i = 1, #ARGV do redis.call('INCR', ARGV[i]) end return #ARGV";
    let read_all = |client: &mut Client| {
        let mut request = vec!["MGET"];
        request.extend(&list);
        format!("{:?}", client.command(&request).unwrap())
    };
    for _ in 0..2 {
        let reply = eval(&mut client, reads_first, &[], &list);
        assert_eq!(format!("{reply:?}"), ":4");
    }
    assert_eq!(read_all(&mut client), r#"["2", "2", "2", "2"]"#);

    // What has never run may do anything.
    let reply = eval(&mut client, writes_first, &[], &list);
    assert_eq!(format!("{reply:?}"), ":4");

    // Once it has kept to its keys, a script that strays after a write hears so, and only once.
    let own = "redis.call('INCR', KEYS[1]) if ARGV[1] then redis.call('INCR', ARGV[1]) end";
    eval(&mut client, own, &[list[0]], &[]);
    let mut refused = 0;
    for (first, second) in [(0, 1), (1, 2), (2, 3), (3, 0)] {
        let reply = eval(&mut client, own, &[list[first]], &[list[second]]);
        if let Some(text) = reply.error() {
            assert!(text.contains("script-undeclared-keys"), "{text}");
            refused += 1;
        }
    }
    assert_eq!(refused, 1);
    client
        .command(&["CONFIG", "SET", "script-undeclared-keys", "all"])
        .unwrap();
    let reply = eval(&mut client, writes_first, &[], &list);
    assert_eq!(format!("{reply:?}"), ":4");
    client
        .command(&["CONFIG", "SET", "script-undeclared-keys", "refuse"])
        .unwrap();
    let other = "redis.call('GET', KEYS[1]) return redis.call('KEYS', '*')";
    let reply = eval(&mut client, other, &[list[0]], &[]);
    let text = reply.error().unwrap_or_default();
    assert!(text.contains("did not declare"), "{reply:?}");
}

/// Scenarios 6, 131, 134.
#[test]
fn what_a_script_wrote_is_there_as_a_whole_or_not_at_all_after_a_kill() {
    for shards in [1, 4] {
        let mut server = start(shards, FsyncPolicy::Everysec);
        let keys: Vec<String> = keys_per_shard(shards, 2).concat();
        let list: Vec<&str> = keys.iter().map(String::as_str).collect();
        let script = "for i = 1, #KEYS do redis.call('INCR', KEYS[i]) end return 1";
        let mut acknowledged = 0;
        for _ in 0..3 {
            let mut client = server.client().unwrap();
            for _ in 0..100 {
                assert_eq!(format!("{:?}", eval(&mut client, script, &list, &[])), ":1");
                acknowledged += 1;
            }
            // Sent, and perhaps executed, when the kill comes.
            let count = list.len().to_string();
            let mut request = vec!["EVAL", script, &count];
            request.extend(&list);
            for _ in 0..50 {
                client.queue(&request);
            }
            client.flush().unwrap();
            server.kill9().unwrap();
            server.restart().unwrap();
            let mut client = server.client().unwrap();
            let mut request = vec!["MGET"];
            request.extend(&list);
            let reply = client.command(&request).unwrap();
            let items = reply.items().unwrap();
            let first: u64 = items[0].text().unwrap().parse().unwrap();
            assert!(items.iter().all(|item| *item == items[0]), "{reply:?}");
            assert!(
                (acknowledged..=acknowledged + 50).contains(&first),
                "{reply:?}"
            );
            acknowledged = first;
        }
    }
}

const LIBRARY: &str = "#!lua name=mylib\nredis.register_function('add', function(keys, args) \
                       return redis.call('INCRBY', keys[1], args[1]) end)";

fn assert_has_library(server: &Server) {
    let mut client = server.client().unwrap();
    let list = client.command(&["FUNCTION", "LIST", "WITHCODE"]).unwrap();
    let shown = format!("{list:?}");
    assert!(
        shown.contains("mylib") && shown.contains("INCRBY"),
        "{shown}"
    );
    let before = client.command(&["FCALL", "add", "1", "n", "0"]).unwrap();
    let after = client.command(&["FCALL", "add", "1", "n", "1"]).unwrap();
    assert!(
        before.error().is_none() && after != before,
        "{before:?} {after:?}"
    );
    assert_eq!(info(&mut client, "number_of_functions"), "1");
    assert_eq!(info(&mut client, "number_of_libraries"), "1");
}

/// Scenario 140.
#[test]
fn functions_survive_a_kill_a_rewrite_and_a_snapshot() {
    if is_other_server() {
        return;
    }
    for shards in [1, 4] {
        let mut server = start(shards, FsyncPolicy::Everysec);
        let mut client = server.client().unwrap();
        client
            .command(&[
                "FUNCTION",
                "LOAD",
                "#!lua name=gone\nredis.register_function('x', function() return 1 end)",
            ])
            .unwrap();
        client.command(&["FUNCTION", "LOAD", LIBRARY]).unwrap();
        assert!(
            client
                .command(&["FUNCTION", "DELETE", "gone"])
                .unwrap()
                .is_ok()
        );
        assert_has_library(&server);
        server.kill9().unwrap();
        server.restart().unwrap();
        assert_has_library(&server);
        let mut client = server.client().unwrap();
        client.run("BGREWRITEAOF").unwrap();
        crate::support::wait_until(&mut client, "aof_rewrite_in_progress", |v| v == "0");
        crate::support::wait_until(&mut client, "aof_rewrite_scheduled", |v| v == "0");
        server.kill9().unwrap();
        server.restart().unwrap();
        assert_has_library(&server);
        assert!(
            server
                .client()
                .unwrap()
                .run("FUNCTION FLUSH")
                .unwrap()
                .is_ok()
        );
        server.kill9().unwrap();
        server.restart().unwrap();
        let list = server.client().unwrap().run("FUNCTION LIST").unwrap();
        assert_eq!(format!("{list:?}"), "[]");
    }
    let dir = temp_dir();
    let config = ServerConfig::new(flavor(), binary(), dir.path().join("data"));
    let config = config.shards(3).arg("--appendonly").arg("no");
    let mut server = Server::start(config).unwrap();
    let mut client = server.client().unwrap();
    client.command(&["FUNCTION", "LOAD", LIBRARY]).unwrap();
    assert!(client.run("SAVE").unwrap().is_ok());
    server.kill9().unwrap();
    server.restart().unwrap();
    assert_has_library(&server);
}

#[test]
fn function_payloads_go_to_redis_and_come_from_it() {
    if is_other_server() || !is_installed("redis-server") {
        return;
    }
    let redis = Server::start_temp(Flavor::Redis, "redis-server", |c| c).unwrap();
    let moon = start(2, FsyncPolicy::No);
    for (from, to) in [(&redis, &moon), (&moon, &redis)] {
        let (mut from, mut to) = (from.client().unwrap(), to.client().unwrap());
        for client in [&mut from, &mut to] {
            client.run("FUNCTION FLUSH").unwrap();
        }
        from.command(&["FUNCTION", "LOAD", LIBRARY]).unwrap();
        from.command(&[
            "FUNCTION",
            "LOAD",
            "#!lua name=a\nredis.register_function('x', function() return 1 end)",
        ])
        .unwrap();
        let payload = from.run("FUNCTION DUMP").unwrap();
        let payload = payload.bytes().unwrap().to_vec();
        let restore = [&b"FUNCTION"[..], b"RESTORE", &payload];
        assert!(to.command(&restore).unwrap().is_ok());
        let again = to.command(&restore).unwrap().error().unwrap();
        assert!(again.starts_with("ERR Library ") && again.ends_with(" already exists"));
        let replace = [&b"FUNCTION"[..], b"RESTORE", &payload, b"REPLACE"];
        assert!(to.command(&replace).unwrap().is_ok());
        assert_eq!(format!("{:?}", to.run("FCALL x 0").unwrap()), ":1");
        let back = to.run("FUNCTION DUMP").unwrap();
        let [mut theirs, mut ours] = [&payload[..], back.bytes().unwrap()].map(<[u8]>::to_vec);
        theirs.sort_unstable();
        ours.sort_unstable();
        assert_eq!(
            theirs.len(),
            ours.len(),
            "the same libraries in another order"
        );
    }
}

/// Waits until a client is answered with BUSY.
pub(crate) fn wait_busy(client: &mut Client) -> String {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let reply = client.run("GET x").unwrap();
        if let Some(text) = reply.error() {
            return text;
        }
        assert!(Instant::now() < until, "nobody is busy");
    }
}

pub(crate) const BUSY: &str = "BUSY Redis is busy running a script. You can only call SCRIPT KILL or \
                    SHUTDOWN NOSAVE.";

/// Scenario 134.
#[test]
fn a_script_that_takes_long_lets_others_speak_and_can_be_killed() {
    if is_other_server() {
        return;
    }
    for shards in [1, 3] {
        let server = start(shards, FsyncPolicy::Everysec);
        let (mut runs, mut asks) = (server.client().unwrap(), server.client().unwrap());
        asks.run("SET x 1").unwrap();
        asks.run("CONFIG SET busy-reply-threshold 50").unwrap();
        // Its end of the turn before, which the replies wait for.
        runs.queue(&["SET", "before", "1"]);
        runs.queue(&["EVAL", "redis.call('GET', 'x') while true do end", "1", "x"]);
        runs.flush().unwrap();
        assert!(runs.read_reply().unwrap().is_ok());
        assert_eq!(wait_busy(&mut asks), BUSY);
        let mut other = server.client().unwrap();
        for refused in [
            "SET y 1",
            "INFO",
            "EVAL x 0",
            "DBSIZE",
            "FUNCTION LIST",
            "SHUTDOWN",
            "FUNCTION KILL",
        ] {
            let reply = other.run(refused).unwrap();
            assert_eq!(reply.error().as_deref(), Some(BUSY), "{refused}");
        }
        assert!(other.run("MULTI").unwrap().is_ok());
        assert_eq!(other.run("GET x").unwrap().error().as_deref(), Some(BUSY));
        assert!(other.run("DISCARD").unwrap().is_ok());
        assert!(other.run("SCRIPT KILL").unwrap().is_ok());
        let ended = runs.read_reply().unwrap();
        let text = ended.error().unwrap();
        assert!(
            text.contains("Script killed by user with SCRIPT KILL"),
            "{text}"
        );
        assert_eq!(run(&server, "GET x"), Reply::bulk("1"));
        let error = run(&server, "SCRIPT KILL");
        assert_eq!(
            error.error().as_deref(),
            Some("NOTBUSY No scripts in execution right now.")
        );

        // One that ends by itself, after it stood aside.
        let script = "redis.call('INCR', 'x') local t = 0 for i = 1, 30000000 do t = t + i end \
                      redis.call('INCR', 'x') return redis.call('GET', 'x')";
        runs.queue(&["SET", "before", "2"]);
        runs.queue(&["EVAL", script, "1", "x"]);
        runs.flush().unwrap();
        assert!(runs.read_reply().unwrap().is_ok());
        assert_eq!(runs.read_reply().unwrap(), Reply::bulk("3"));
        assert_eq!(run(&server, "GET x"), Reply::bulk("3"));
    }
}

/// Scenario 134.
#[test]
fn a_busy_script_that_has_written_ends_with_the_process_and_leaves_nothing() {
    if is_other_server() {
        return;
    }
    for shards in [1, 3] {
        let mut server = start(shards, FsyncPolicy::Everysec);
        let (mut runs, mut asks) = (server.client().unwrap(), server.client().unwrap());
        asks.run("SET x 1").unwrap();
        asks.run("CONFIG SET busy-reply-threshold 50").unwrap();
        runs.queue(&[
            "EVAL",
            "redis.call('SET', 'x', 'half') while true do end",
            "1",
            "x",
        ]);
        runs.flush().unwrap();
        assert_eq!(wait_busy(&mut asks), BUSY);
        let text = asks.run("SCRIPT KILL").unwrap();
        let text = text.error().unwrap();
        assert!(
            text.starts_with("UNKILLABLE Sorry the script already executed write"),
            "{text}"
        );
        asks.queue(&["SHUTDOWN", "NOSAVE"]);
        asks.flush().unwrap();
        server.wait_exit(Duration::from_secs(60)).unwrap();
        server.restart().unwrap();
        assert_eq!(run(&server, "GET x"), Reply::bulk("1"));
    }
}

/// Memory that has run out, a script that says what it does, and one that does not.
#[test]
fn scripts_that_write_are_refused_while_memory_has_run_out() {
    if is_other_server() {
        return;
    }
    let server = start(2, FsyncPolicy::No);
    let mut client = server.client().unwrap();
    client.run("SET k v").unwrap();
    client.run("CONFIG SET maxmemory 1").unwrap();
    let refused = eval(
        &mut client,
        "return redis.call('SET', KEYS[1], 'x')",
        &["k"],
        &[],
    );
    assert!(
        refused
            .error()
            .unwrap()
            .starts_with("OOM command not allowed"),
        "{refused:?}"
    );
    let says = "#!lua\nreturn redis.call('SET', KEYS[1], 'x')";
    let refused = eval(&mut client, says, &["k"], &[]);
    assert!(
        refused
            .error()
            .unwrap()
            .starts_with("OOM allow-oom flag is not set"),
        "{refused:?}"
    );
    let allowed = "#!lua flags=allow-oom\nreturn redis.call('SET', KEYS[1], 'x')";
    assert!(eval(&mut client, allowed, &["k"], &[]).is_ok());
    // Its first write frees memory; later ones do not fail half-way.
    let frees = "redis.call('DEL', KEYS[1]) return redis.call('SET', KEYS[1], 'y')";
    assert!(eval(&mut client, frees, &["k"], &[]).is_ok());
    let reads = eval(
        &mut client,
        "return redis.call('GET', KEYS[1])",
        &["k"],
        &[],
    );
    assert_eq!(reads, Reply::bulk("y"));
}

/// Scenario 133.
#[test]
fn a_script_that_one_connection_loads_is_known_to_all_shards() {
    let server = start(4, FsyncPolicy::No);
    let mut clients: Vec<Client> = (0..8).map(|_| server.client().unwrap()).collect();
    let sha = clients[0].command(&["SCRIPT", "LOAD", "return 7"]).unwrap();
    let sha = sha.text().unwrap();
    for client in &mut clients {
        let reply = client.command(&["EVALSHA", &sha, "0"]).unwrap();
        assert_eq!(format!("{reply:?}"), ":7");
    }
    let lines: Vec<String> = (0..1000).map(|_| format!("EVALSHA {sha} 0")).collect();
    for reply in clients[1].pipeline(&lines).unwrap() {
        assert_eq!(format!("{reply:?}"), ":7");
    }
    assert!(clients[2].run("SCRIPT FLUSH").unwrap().is_ok());
    for client in &mut clients {
        let reply = client.command(&["EVALSHA", &sha, "0"]).unwrap();
        assert_eq!(
            reply.error().as_deref(),
            Some("NOSCRIPT No matching script. Please use EVAL.")
        );
    }
}
