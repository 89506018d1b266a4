//! The log and the snapshot written anew while the server serves: what a base and the segments
//! after it hold together is exactly what the server held.

use crate::support::{
    SHARDS, assert_same_state, assert_survives_sigkill, config, fill, info, is_installed,
    is_other_server, run, start, state, temp_dir, wait_until,
};
use moon_harness::{Client, Flavor, FsyncPolicy, Reply, Server, ServerConfig};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Rewrites the log and waits for its end.
fn rewrite(client: &mut Client) {
    let before: u64 = info(client, "aof_rewrites").parse().unwrap();
    let reply = client.run("BGREWRITEAOF").unwrap();
    assert_eq!(
        format!("{reply:?}"),
        "+Background append only file rewriting started"
    );
    wait_until(client, "aof_rewrite_scheduled", |n| n == "0");
    wait_until(client, "aof_rewrite_in_progress", |n| n == "0");
    assert_eq!(info(client, "aof_last_bgrewrite_status"), "ok");
    let after: u64 = info(client, "aof_rewrites").parse().unwrap();
    assert!(after > before);
}

fn files(dir: &Path, ending: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.to_string_lossy().ends_with(ending) {
                found.push(path.display().to_string());
            }
        }
    }
    found.sort();
    found
}

#[test]
fn a_rewritten_log_holds_every_key_and_nothing_else() {
    if is_other_server() {
        return;
    }
    for (number, shards) in SHARDS.into_iter().enumerate() {
        let mut server = start(shards, FsyncPolicy::ALL[number % 3]);
        let mut client = server.client().unwrap();
        fill(&mut client);
        rewrite(&mut client);
        fill(&mut client);
        rewrite(&mut client);
        client.run("SET after:the:rewrite 1").unwrap();
        let bases = files(&server.config().dir, ".base.rdb");
        assert_eq!(bases.len(), usize::from(shards), "{bases:?}");
        assert_survives_sigkill(&mut server);
    }
}

/// Scenarios 78, 85 and 86: the operations that show a double replay, on both sides of the cut.
#[test]
fn counters_and_lists_under_load_are_exact_after_a_rewrite_and_a_kill() {
    if is_other_server() {
        return;
    }
    for (number, shards) in SHARDS.into_iter().enumerate() {
        let mut server = start(shards, FsyncPolicy::ALL[number % 3]);
        fill(&mut server.client().unwrap());
        let stop = AtomicBool::new(false);
        let acknowledged: Vec<u64> = std::thread::scope(|scope| {
            let writers: Vec<_> = (0..3)
                .map(|w| {
                    let mut client = server.client().unwrap();
                    let stop = &stop;
                    scope.spawn(move || {
                        let mut rounds = 0;
                        while !stop.load(Ordering::Relaxed) {
                            let lines: Vec<String> = (0..40)
                                .flat_map(|k| {
                                    [
                                        format!("INCR w{w}:counter:{k}"),
                                        format!("RPUSH w{w}:list:{k} {rounds}"),
                                        format!("APPEND w{w}:text:{k} x"),
                                    ]
                                })
                                .collect();
                            for reply in client.pipeline(&lines).unwrap() {
                                assert!(reply.error().is_none(), "{reply:?}");
                            }
                            rounds += 1;
                        }
                        rounds
                    })
                })
                .collect();
            let mut client = server.client().unwrap();
            for _ in 0..4 {
                rewrite(&mut client);
            }
            stop.store(true, Ordering::Relaxed);
            writers.into_iter().map(|w| w.join().unwrap()).collect()
        });
        assert_survives_sigkill(&mut server);
        let mut client = server.client().unwrap();
        for (w, rounds) in acknowledged.iter().enumerate() {
            assert!(*rounds > 0, "writer {w} wrote nothing");
            for k in 0..40 {
                let counter = client.run(&format!("GET w{w}:counter:{k}")).unwrap();
                assert_eq!(counter, Reply::bulk(rounds.to_string()));
                let length = client.run(&format!("STRLEN w{w}:text:{k}")).unwrap();
                assert_eq!(format!("{length:?}"), format!(":{rounds}"));
                let list = client.run(&format!("LRANGE w{w}:list:{k} 0 -1")).unwrap();
                let expected: Vec<Reply> =
                    (0..*rounds).map(|n| Reply::bulk(n.to_string())).collect();
                assert_eq!(list, Reply::Array(expected));
            }
        }
    }
}

/// Scenario 87.
#[test]
fn databases_swapped_and_flushed_during_a_rewrite_stay_so() {
    if is_other_server() {
        return;
    }
    for shards in SHARDS {
        let mut server = start(shards, FsyncPolicy::Everysec);
        let mut client = server.client().unwrap();
        for round in 0..6 {
            fill(&mut client);
            client.run("BGREWRITEAOF").unwrap();
            let lines = match round % 3 {
                0 => ["SWAPDB 0 3", "SET s:1 swapped", "SWAPDB 3 15"],
                1 => ["FLUSHDB", "SET s:2 flushed", "SET s:new 1"],
                _ => ["FLUSHALL", "SET s:3 all", "SWAPDB 0 15"],
            };
            for reply in client.pipeline(&lines).unwrap() {
                assert!(reply.is_ok(), "{reply:?}");
            }
            wait_until(&mut client, "aof_rewrite_in_progress", |n| n == "0");
            wait_until(&mut client, "aof_rewrite_scheduled", |n| n == "0");
            assert_survives_sigkill(&mut server);
            client = server.client().unwrap();
        }
    }
}

/// A value that takes many slices, changed while it is written.
#[test]
fn huge_values_are_whole_whenever_they_change() {
    if is_other_server() {
        return;
    }
    for shards in [1, 2] {
        let mut server = start(shards, FsyncPolicy::Everysec);
        let mut client = server.client().unwrap();
        let long = "y".repeat(8 << 20);
        for n in 0..4 {
            client.run(&format!("SET long:{n} {long}")).unwrap();
        }
        for chunk in 0..50 {
            let fields: Vec<String> = (0..2000)
                .map(|i| format!("field:{} value:{i}", chunk * 2000 + i))
                .collect();
            client
                .run(&format!("HSET big {}", fields.join(" ")))
                .unwrap();
            client
                .run(&format!("RPUSH wide {}", fields.join(" ")))
                .unwrap();
        }
        client.run("BGREWRITEAOF").unwrap();
        for n in 0..4 {
            client.run(&format!("APPEND long:{n} z")).unwrap();
            client.run(&format!("HSET big field:{n} changed")).unwrap();
            client.run(&format!("LPUSH wide {n}")).unwrap();
            client
                .run(&format!("MSET pair:{n} 1 long:{n} short"))
                .unwrap();
        }
        // Declared and not: what a script changes is encoded first in either case.
        for (count, key) in [("1", "wide"), ("0", "wide"), ("1", "big")] {
            let script = match key {
                "wide" => "return redis.call('RPUSH', 'wide', 'scripted')",
                _ => "return redis.call('HSET', KEYS[1], 'field:1', 'scripted')",
            };
            let mut request = vec!["EVAL", script, count];
            request.extend((count == "1").then_some(key));
            assert!(client.command(&request).unwrap().error().is_none());
        }
        client.run("MULTI").unwrap();
        client.run("DEL long:3").unwrap();
        client.run("HDEL big field:9").unwrap();
        client.run("EXEC").unwrap();
        wait_until(&mut client, "aof_rewrite_in_progress", |n| n == "0");
        assert_eq!(info(&mut client, "aof_rewrites"), "1");
        assert_survives_sigkill(&mut server);
    }
}

/// Scenario 84, and the texts of Redis.
#[test]
fn requests_for_snapshots_are_answered_truthfully() {
    if is_other_server() {
        return;
    }
    let dir = temp_dir();
    let off = Server::start(config(&dir).arg("--appendonly").arg("no")).unwrap();
    let reply = run(&off, "BGREWRITEAOF");
    assert!(reply.error().is_some(), "{reply:?}");
    assert_eq!(
        format!("{:?}", run(&off, "BGSAVE now")),
        "-ERR syntax error"
    );
    assert_eq!(run(&off, "SAVE"), Reply::ok());
    drop(off);

    let server = start(2, FsyncPolicy::Everysec);
    let mut client = server.client().unwrap();
    fill(&mut client);
    let last = client.run("LASTSAVE").unwrap();
    assert_eq!(client.run("SAVE").unwrap(), Reply::ok());
    assert!(format!("{:?}", client.run("LASTSAVE").unwrap()) >= format!("{last:?}"));
    assert_eq!(info(&mut client, "rdb_saves"), "1");
    assert_eq!(info(&mut client, "rdb_changes_since_last_save"), "0");
    client.run("SET one more").unwrap();
    assert_eq!(info(&mut client, "rdb_changes_since_last_save"), "1");
    let replies = client
        .pipeline(&["BGSAVE", "BGSAVE", "BGREWRITEAOF"])
        .unwrap();
    assert_eq!(format!("{:?}", replies[0]), "+Background saving started");
    wait_until(&mut client, "rdb_saves", |n| n.parse::<u64>().unwrap() >= 2);
    wait_until(&mut client, "aof_rewrite_in_progress", |n| n == "0");
    client.run("MULTI").unwrap();
    let refused = client.run("SAVE").unwrap();
    assert_eq!(
        format!("{refused:?}"),
        "-ERR Command not allowed inside a transaction"
    );
}

/// What a snapshot or a base holds, read by Redis itself.
#[test]
fn redis_reads_what_is_written_here() {
    if is_other_server() || !is_installed("redis-server") || !is_installed("redis-check-rdb") {
        return;
    }
    for shards in [1, 4] {
        let server = start(shards, FsyncPolicy::Everysec);
        let mut client = server.client().unwrap();
        fill(&mut client);
        rewrite(&mut client);
        assert_eq!(client.run("SAVE").unwrap(), Reply::ok());
        let dump = server.config().dir.join("dump.rdb");
        let mut written = files(&server.config().dir, ".base.rdb");
        written.push(dump.display().to_string());
        for file in written {
            let check = Command::new("redis-check-rdb").arg(&file).output().unwrap();
            let text = String::from_utf8_lossy(&check.stdout).into_owned();
            assert!(
                check.status.success() && text.contains("RDB looks OK"),
                "{file}: {text}"
            );
        }
        let dir = temp_dir();
        std::fs::create_dir(dir.path().join("data")).unwrap();
        std::fs::copy(&dump, dir.path().join("data/dump.rdb")).unwrap();
        let redis = ServerConfig::new(Flavor::Redis, "redis-server", dir.path().join("data"));
        let redis = Server::start(redis.arg("--appendonly").arg("no")).unwrap();
        assert_same_state(&state(&server), &state(&redis), "what Redis loaded");
    }
}

/// Scenario 67: what fails leaves the generation in force as it was.
#[test]
fn a_rewrite_that_fails_is_reported_and_costs_nothing() {
    if is_other_server() {
        return;
    }
    let mut server = start(2, FsyncPolicy::Always);
    let mut client = server.client().unwrap();
    fill(&mut client);
    // A directory where the next base of shard 1 goes.
    let shard = server.config().dir.join("appendonlydir/shard-1");
    for seq in 2..40 {
        let blocked = shard.join(format!("moon.aof.{seq}.base.rdb"));
        std::fs::create_dir_all(blocked).unwrap();
    }
    client.run("BGREWRITEAOF").unwrap();
    wait_until(&mut client, "aof_last_bgrewrite_status", |s| s == "err");
    assert_eq!(info(&mut client, "aof_rewrites_consecutive_failures"), "1");
    client.run("INCR c:1").unwrap();
    for seq in 2..40 {
        let blocked = shard.join(format!("moon.aof.{seq}.base.rdb"));
        drop(std::fs::remove_dir(blocked));
    }
    assert_survives_sigkill(&mut server);
    rewrite(&mut server.client().unwrap());
    assert_survives_sigkill(&mut server);
}

/// Scenario 90.
#[test]
fn a_log_that_has_grown_is_rewritten_by_itself() {
    if is_other_server() {
        return;
    }
    let server = Server::start_temp(crate::support::flavor(), crate::support::binary(), |c| {
        c.shards(2)
            .append(FsyncPolicy::Everysec)
            .arg("--auto-aof-rewrite-min-size")
            .arg("100kb")
    })
    .unwrap();
    let mut client = server.client().unwrap();
    let value = "v".repeat(1000);
    for _ in 0..20 {
        let lines: Vec<String> = (0..50).map(|k| format!("SET k:{k} {value}")).collect();
        client.pipeline(&lines).unwrap();
    }
    wait_until(&mut client, "aof_rewrites", |n| n != "0");
    let size: u64 = info(&mut client, "aof_base_size").parse().unwrap();
    assert!((50_000..200_000).contains(&size), "{size}");
}

/// Scenarios 106 and 107: a log switched on holds what was there before, one switched off is not
/// taken for the newest data.
#[test]
fn the_log_is_switched_on_and_off_while_the_server_serves() {
    if is_other_server() {
        return;
    }
    for shards in [1, 3] {
        let dir = temp_dir();
        let mut server = Server::start(
            config(&dir)
                .shards(shards)
                .arg("--appendonly")
                .arg("no")
                .arg("--save")
                .arg(""),
        )
        .unwrap();
        let mut client = server.client().unwrap();
        fill(&mut client);
        assert_eq!(info(&mut client, "aof_enabled"), "0");
        let load = |client: &mut Client, round: u32| {
            let lines: Vec<String> = (0..200).map(|n| format!("INCR n:{n}")).collect();
            for reply in client.pipeline(&lines).unwrap() {
                assert_eq!(reply.int(), Some(i64::from(round)));
            }
        };
        load(&mut client, 1);
        let switched = client.run("CONFIG SET appendonly yes").unwrap();
        assert_eq!(switched, Reply::ok());
        assert_eq!(info(&mut client, "aof_enabled"), "1");
        load(&mut client, 2);
        let before = state(&server);
        server.kill9().unwrap();
        // As an operator who switched it on would start it.
        let with_log = || config(&dir).shards(shards).append(FsyncPolicy::Everysec);
        let mut server = Server::start(with_log()).unwrap();
        assert_same_state(&before, &state(&server), "after the switch and a kill");

        let mut client = server.client().unwrap();
        load(&mut client, 3);
        let switched = client.run("CONFIG SET appendonly no").unwrap();
        assert_eq!(switched, Reply::ok());
        assert_eq!(info(&mut client, "aof_enabled"), "0");
        let closed = state(&server);
        load(&mut client, 4);
        // On again: nothing that was written meanwhile is lost.
        let switched = client.run("CONFIG SET appendonly yes").unwrap();
        assert_eq!(switched, Reply::ok());
        load(&mut client, 5);
        let before = state(&server);
        assert_ne!(closed, before);
        server.kill9().unwrap();
        let mut server = Server::start(with_log()).unwrap();
        assert_same_state(&before, &state(&server), "after off and on and a kill");

        // Off, then a dump: the log is the older of the two, and a start says so.
        let mut client = server.client().unwrap();
        client.run("CONFIG SET appendonly no").unwrap();
        client.run("SET only:in the:dump").unwrap();
        assert_eq!(client.run("SAVE").unwrap(), Reply::ok());
        server.kill9().unwrap();
        let mut refused = Server::spawn(with_log()).unwrap();
        let status = refused.wait_exit(Duration::from_secs(20)).unwrap();
        assert_eq!(status.code(), Some(2), "{}", refused.log_tail());
        assert!(
            refused.log().contains("REFUSING TO START:"),
            "{}",
            refused.log()
        );
    }
}
