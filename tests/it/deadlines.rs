//! Deadlines over rewrites and restarts: absolute, to the millisecond, and only those in force.

use crate::support::{config, info, is_other_server, run, start, temp_dir, wait_until};
use moon_harness::{FsyncPolicy, Reply, Server};
use std::time::{Duration, Instant};

/// Scenarios 142, 143, 144 and 201: what was made persistent after the base was written lives,
/// relative deadlines are kept as absolute ones, and what expired while the server was down is
/// gone before the first command sees it.
#[test]
fn deadlines_of_a_base_and_of_the_log_after_it_are_those_that_were_set() {
    if is_other_server() {
        return;
    }
    for shards in [1, 3] {
        let mut server = start(shards, FsyncPolicy::Everysec);
        let mut client = server.client().unwrap();
        let set_at = Instant::now();
        for line in [
            "SET persisted 1 PX 900",
            "SET gone:base 1 PX 900",
            "SET kept:base 1 PX 1000123",
            "SET later 1",
        ] {
            assert_eq!(client.run(line).unwrap(), Reply::ok());
        }
        client.run("BGREWRITEAOF").unwrap();
        wait_until(&mut client, "aof_rewrite_in_progress", |n| n == "0");
        assert_eq!(info(&mut client, "aof_last_bgrewrite_status"), "ok");
        assert_eq!(client.run("PERSIST persisted").unwrap().int(), Some(1));
        assert_eq!(client.run("PEXPIRE later 1000457").unwrap().int(), Some(1));
        client.run("SET gone:log 1 PX 900").unwrap();
        let deadlines = ["kept:base", "later"].map(|key| {
            let reply = client.run(&format!("PEXPIRETIME {key}")).unwrap();
            reply.int().expect("a deadline")
        });
        server.kill9().unwrap();
        while set_at.elapsed() < Duration::from_millis(1500) {
            std::thread::yield_now();
        }
        server.restart().unwrap();
        let mut client = server.client().unwrap();
        assert_eq!(client.run("GET gone:base").unwrap(), Reply::Null);
        assert_eq!(client.run("GET gone:log").unwrap(), Reply::Null);
        assert_eq!(client.run("TTL persisted").unwrap().int(), Some(-1));
        for (key, deadline) in ["kept:base", "later"].into_iter().zip(deadlines) {
            let found = client.run(&format!("PEXPIRETIME {key}")).unwrap();
            assert_eq!(found.int(), Some(deadline), "{key}");
        }
        assert_eq!(client.run("DBSIZE").unwrap().int(), Some(3));
    }
}

/// Scenarios 41 and 108: an orchestrator that restarts again and again, without saying how many
/// shards, neither grows the directory nor changes its number.
#[test]
fn many_restarts_leave_the_directory_as_large_as_one() {
    if is_other_server() {
        return;
    }
    let dir = temp_dir();
    let files = || -> usize {
        let log = dir.path().join("data/appendonlydir");
        let shards = (0..3).map(|n| log.join(format!("shard-{n}")));
        shards
            .map(|dir| std::fs::read_dir(dir).unwrap().count())
            .sum()
    };
    let first = Server::start(config(&dir).shards(3).append(FsyncPolicy::Always)).unwrap();
    assert_eq!(run(&first, "SET kept 1"), Reply::ok());
    drop(first);
    let mut counts = Vec::new();
    for _ in 0..12 {
        let mut server = Server::start(config(&dir).append(FsyncPolicy::Always)).unwrap();
        assert_eq!(run(&server, "GET kept"), Reply::bulk("1"));
        server.kill9().unwrap();
        counts.push(files());
    }
    assert!(counts[11] <= counts[2] + 3, "{counts:?}");
}
