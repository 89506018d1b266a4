//! What scripts and functions leave behind: in the log, in snapshots, and in a log whose number of
//! shards changes.

use crate::support::{
    assert_same_state, assert_survives_sigkill, binary, config, info, is_other_server,
    keys_per_shard, run, start, state, temp_dir, wait_until,
};
use moon_harness::server::run_to_exit;
use moon_harness::{Client, FsyncPolicy, Reply, Server};
use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

fn eval(client: &mut Client, script: &str, keys: &[&str]) -> Reply {
    let count = keys.len().to_string();
    client
        .command(&[&["EVAL", script, &count], keys].concat())
        .unwrap()
}

/// Everything that a script may not know when it runs a second time: chance, the clock, orders that
/// nothing fixes, what is left of a deadline.
const UNDECIDED: &str = "
    local t = redis.call('TIME')
    redis.call('SET', KEYS[1], math.random(1, 1000000000) .. ':' .. t[1] .. ':' .. t[2])
    for _ = 1, 7 do redis.call('LPUSH', KEYS[2], redis.call('SPOP', KEYS[3])) end
    redis.call('RPUSH', KEYS[2], unpack(redis.call('SRANDMEMBER', KEYS[3], -20)))
    redis.call('RPUSH', KEYS[2], unpack(redis.call('SMEMBERS', KEYS[3])))
    redis.call('RPUSH', KEYS[2], unpack(redis.call('HRANDFIELD', KEYS[4], -10)))
    redis.call('RPUSH', KEYS[2], unpack(redis.call('HKEYS', KEYS[4])))
    redis.call('RPUSH', KEYS[2], redis.call('RANDOMKEY'))
    redis.call('RPUSH', KEYS[2], unpack(redis.call('SSCAN', KEYS[3], 0, 'COUNT', 100)[2]))
    redis.call('XADD', KEYS[5], '*', 'ms', redis.call('PTTL', KEYS[6]))
    redis.call('PEXPIRE', KEYS[4], 1000000)
    return redis.call('LLEN', KEYS[2])";

/// Scenario 132.
#[test]
fn what_chance_and_the_clock_decided_in_a_script_is_not_decided_again() {
    if is_other_server() {
        return;
    }
    for shards in [1, 4] {
        let mut server = start(shards, FsyncPolicy::Always);
        let mut client = server.client().unwrap();
        let keys = keys_per_shard(shards, 6).concat();
        let keys: Vec<&str> = keys[..6].iter().map(String::as_str).collect();
        let [_, _, set, hash, _, expiring] = keys[..] else {
            panic!("six keys");
        };
        for n in 0..60 {
            client.run(&format!("SADD {set} member:{n}")).unwrap();
            client.run(&format!("HSET {hash} field:{n} {n}")).unwrap();
        }
        client.run(&format!("SET {expiring} v PX 5000000")).unwrap();
        let length = eval(&mut client, UNDECIDED, &keys);
        assert!(length.int().is_some_and(|n| n > 150), "{length:?}");
        let library = format!(
            "#!lua name=chance\nredis.register_function('again', function(KEYS, ARGV) {UNDECIDED} \
             end)"
        );
        let loaded = client.command(&["FUNCTION", "LOAD", &library]).unwrap();
        assert_eq!(loaded, Reply::bulk("chance"));
        let again = [&["FCALL", "again", "6"], &keys[..]].concat();
        assert!(client.command(&again).unwrap().int().is_some());
        assert_survives_sigkill(&mut server);
    }
}

/// Scenario 139: what is asked to go to the log alone, to replicas alone or to neither goes to both;
/// what is no write goes to neither. So one number says how far both are, and WAITAOF ends.
#[test]
fn what_a_script_may_ask_of_the_log_leaves_its_positions_comparable() {
    if is_other_server() {
        return;
    }
    for shards in [1, 4] {
        let mut server = start(shards, FsyncPolicy::Always);
        let mut client = server.client().unwrap();
        let keys = keys_per_shard(shards, 4).concat();
        let keys: Vec<&str> = keys[..4].iter().map(String::as_str).collect();
        let offset =
            |client: &mut Client| -> u64 { info(client, "master_repl_offset").parse().unwrap() };
        let script = "
            redis.set_repl(redis.REPL_NONE) redis.call('INCR', KEYS[1])
            redis.set_repl(redis.REPL_AOF) redis.call('INCR', KEYS[2])
            redis.set_repl(redis.REPL_REPLICA) redis.call('INCR', KEYS[3])
            redis.set_repl(redis.REPL_ALL) redis.call('INCR', KEYS[4])
            redis.call('PUBLISH', 'c', 'm') return redis.call('PING')";
        for round in 1..=3 {
            let before = offset(&mut client);
            let pong = eval(&mut client, script, &keys);
            assert_eq!(format!("{pong:?}"), "+PONG");
            let waited = client.run("WAITAOF 1 0 5000").unwrap();
            assert_eq!(format!("{waited:?}"), "[:1, :0]", "round {round}");
            let after = offset(&mut client);
            assert!(after > before, "{before} {after}");
            for line in ["PING", "PUBLISH c m", "WAIT 0 10", "REPLCONF ACK 1"] {
                client.run(line).unwrap();
            }
            let waited = client.run("WAITAOF 1 0 5000").unwrap();
            assert_eq!(format!("{waited:?}"), "[:1, :0]", "round {round}");
            assert_eq!(offset(&mut client), after, "nothing was written");
        }
        let found = assert_survives_sigkill(&mut server);
        assert_eq!(found.len(), keys.len());
        for key in keys {
            assert_eq!(run(&server, &format!("GET {key}")), Reply::bulk("3"));
        }
    }
}

/// The code of a library whose one function answers `version`.
fn library(name: &str, version: u32) -> String {
    format!("#!lua name={name}\nredis.register_function('{name}', function() return {version} end)")
}

fn load(client: &mut Client, name: &str, version: u32) {
    let code = library(name, version);
    let loaded = client.command(&["FUNCTION", "LOAD", "REPLACE", &code]);
    assert_eq!(loaded.unwrap(), Reply::bulk(name));
}

/// What each function answers, and that there are no others.
fn assert_functions(server: &Server, expected: &[(&str, i64)], context: &str) {
    let mut client = server.client().unwrap();
    let count = expected.len().to_string();
    assert_eq!(info(&mut client, "number_of_libraries"), count, "{context}");
    for (name, version) in expected {
        let reply = client.run(&format!("FCALL {name} 0")).unwrap();
        assert_eq!(reply, Reply::Int(*version), "{context}: {name}");
    }
}

/// Scenarios 103 and 140: libraries of the base, of the log behind it, replaced and deleted ones,
/// with the shard count going up and down in between.
#[test]
fn functions_stay_through_rewrites_and_changes_of_the_shard_count() {
    if is_other_server() {
        return;
    }
    let dir = temp_dir();
    let start_with = |shards: u16| {
        let config = config(&dir).shards(shards).append(FsyncPolicy::Everysec);
        Server::start(config).unwrap()
    };
    let mut server = start_with(4);
    let mut client = server.client().unwrap();
    load(&mut client, "base", 1);
    load(&mut client, "replaced", 1);
    load(&mut client, "deleted", 1);
    client.run("MSET a 1 b 2 c 3 d 4").unwrap();
    let mut version = 1;
    for (round, (from, to)) in [(4, 3), (3, 8), (8, 1), (1, 4)].into_iter().enumerate() {
        let context = format!("round {round}, {from} to {to} shards");
        let mut client = server.client().unwrap();
        if round % 2 == 0 {
            client.run("BGREWRITEAOF").unwrap();
            wait_until(&mut client, "aof_rewrite_in_progress", |v| v == "0");
            wait_until(&mut client, "aof_rewrite_scheduled", |v| v == "0");
        }
        // Behind the base now: changed, deleted and new.
        version += 1;
        load(&mut client, "replaced", version);
        load(&mut client, &format!("new{round}"), version);
        if round == 0 {
            assert!(client.run("FUNCTION DELETE deleted").unwrap().is_ok());
        } else {
            let last = format!("FUNCTION DELETE new{}", round - 1);
            assert!(client.run(&last).unwrap().is_ok());
        }
        let new = format!("new{round}");
        let expected = [
            ("base", 1),
            ("replaced", i64::from(version)),
            (&*new, i64::from(version)),
        ];
        assert_functions(&server, &expected, &context);
        let before = state(&server);
        match round % 2 {
            0 => server.kill9().unwrap(),
            _ => drop(server.sigterm().unwrap()),
        }
        let mut tool = Command::new(binary());
        tool.arg("reshard")
            .arg("--dir")
            .arg(dir.path().join("data"));
        tool.args(["--shards", &to.to_string()]);
        let (status, output) = run_to_exit(tool, Duration::from_secs(60)).unwrap();
        assert!(status.success(), "{context}: {output}");
        server = start_with(to);
        assert_functions(&server, &expected, &context);
        assert_same_state(&before, &state(&server), &context);
        // And once more from what this start has left.
        server.kill9().unwrap();
        server.restart().unwrap();
        assert_functions(&server, &expected, &context);
    }
}

/// The names of all libraries.
fn libraries(server: &Server) -> BTreeSet<String> {
    let list = run(server, "FUNCTION LIST");
    let name = |library: &Reply| library.items()?.get(1)?.text();
    let names: Option<BTreeSet<String>> = list.items().unwrap().iter().map(name).collect();
    names.unwrap()
}

/// Scenarios 85 and 140: each change of the libraries is on one side of the cut of a rewrite. Loaded
/// twice, a library would stop the start.
#[test]
fn libraries_that_come_and_go_during_a_rewrite_are_there_once() {
    if is_other_server() {
        return;
    }
    for shards in [1, 4] {
        let mut server = start(shards, FsyncPolicy::Everysec);
        let mut client = server.client().unwrap();
        let value = "v".repeat(100);
        for chunk in 0..60 {
            let sets: Vec<String> = (0..1000)
                .map(|n| format!("SET key:{chunk}:{n} {value}"))
                .collect();
            assert!(client.pipeline(&sets).unwrap().iter().all(Reply::is_ok));
        }
        let (mut number, mut changes) = (0, 0);
        let mut expected = BTreeSet::new();
        for round in 0..4 {
            let mut client = server.client().unwrap();
            client.run("BGREWRITEAOF").unwrap();
            // The last one is killed in the middle.
            let changes_max = if round == 3 { 10 } else { u32::MAX };
            for change in 0..changes_max {
                let name = format!("lib{number}");
                let code = library(&name, number);
                let loaded = client.command(&["FUNCTION", "LOAD", &code]);
                assert_eq!(loaded.unwrap(), Reply::bulk(&name));
                expected.insert(name);
                if number >= 3 {
                    let old = format!("lib{}", number - 3);
                    let deleted = client.run(&format!("FUNCTION DELETE {old}"));
                    assert!(deleted.unwrap().is_ok(), "{old}");
                    expected.remove(&old);
                }
                number += 1;
                changes += 1;
                let is_over = info(&mut client, "aof_rewrite_in_progress") == "0"
                    && info(&mut client, "aof_rewrite_scheduled") == "0";
                if change >= 3 && is_over {
                    break;
                }
            }
            server.kill9().unwrap();
            server.restart().unwrap();
            assert_eq!(libraries(&server), expected, "round {round}");
        }
        eprintln!("shards {shards}: {changes} changes during rewrites");
        let keys = run(&server, "DBSIZE");
        assert_eq!(keys, Reply::Int(60_000));
    }
}
