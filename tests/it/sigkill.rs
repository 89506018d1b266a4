//! Every acknowledged write survives SIGKILL, whatever command, shard, database or connection it
//! came by.

use crate::support::{
    assert_survives_sigkill, flavor, for_each_setup, is_other_server, keys_per_shard, run, script,
    start, state,
};
use moon_harness::model::DbKey;
use moon_harness::{Flavor, FsyncPolicy, Reply};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

/// Scenario 1.
#[test]
fn five_thousand_acknowledged_writes_survive() {
    for shards in [1, 2, 3, 8] {
        for policy in FsyncPolicy::ALL {
            let mut server = start(shards, policy);
            let mut client = server.client().unwrap();
            for chunk in 0..50 {
                let sets: Vec<String> = (0..100)
                    .map(|i| format!("SET key:{chunk}:{i} value:{chunk}:{i}"))
                    .collect();
                let replies = client.pipeline(&sets).unwrap();
                assert!(replies.iter().all(Reply::is_ok));
            }
            let before = assert_survives_sigkill(&mut server);
            assert_eq!(before.len(), 5000);
        }
    }
}

/// Scenario 2.
#[test]
fn writes_to_shards_other_than_the_connections_survive_in_their_owners_file() {
    for shards in [2, 3, 8] {
        let mut server = start(shards, FsyncPolicy::Always);
        let keys = keys_per_shard(shards, 100);
        for keys in &keys {
            // A connection of its own, wherever it lands, writes to one shard only.
            let mut client = server.client().unwrap();
            let sets: Vec<String> = keys
                .iter()
                .map(|k| format!("SET {k} only-here-{k}."))
                .collect();
            assert!(client.pipeline(&sets).unwrap().iter().all(Reply::is_ok));
        }
        assert_survives_sigkill(&mut server);
        if flavor() == Flavor::Redis {
            continue;
        }
        let logs: Vec<Vec<u8>> = (0..shards)
            .map(|shard| {
                let dir = server
                    .config()
                    .dir
                    .join(format!("appendonlydir/shard-{shard}"));
                let mut bytes = Vec::new();
                for entry in std::fs::read_dir(dir).unwrap() {
                    bytes.extend(std::fs::read(entry.unwrap().path()).unwrap());
                }
                bytes
            })
            .collect();
        for (owner, keys) in keys.iter().enumerate() {
            let value = format!("only-here-{}.", keys[0]);
            for (shard, log) in logs.iter().enumerate() {
                let found = log.windows(value.len()).any(|w| w == value.as_bytes());
                assert_eq!(
                    found,
                    shard == owner,
                    "{value} of shard {owner} in shard {shard}"
                );
            }
        }
    }
}

/// Scenario 3.
#[test]
fn writes_in_the_inline_form_survive() {
    for_each_setup(|mut server| {
        let mut client = server.client().unwrap();
        let mut text = String::new();
        for number in 0..500 {
            text.push_str(&format!("SET inline:{number} \"value {number}\"\r\n"));
        }
        client.write_raw(text.as_bytes()).unwrap();
        for _ in 0..500 {
            assert!(client.read_reply().unwrap().is_ok());
        }
        assert_eq!(client.run("GET inline:7").unwrap(), Reply::bulk("value 7"));
        assert_eq!(assert_survives_sigkill(&mut server).len(), 500);
    });
}

/// Scenario 4.
#[test]
fn commands_over_several_shards_survive_on_all_of_them() {
    for_each_setup(|mut server| {
        let mut client = server.client().unwrap();
        for n in 0..100 {
            script(
                &mut client,
                &format!(
                    "MSET a{n} 1 b{n} 2 c{n} 3 d{n} 4 e{n} 5
                     MSETNX f{n} 1 g{n} 2 h{n} 3 => :1
                     MSETNX f{n} x i{n} x => :0
                     DEL a{n} b{n} nothing{n} => :2
                     UNLINK c{n} f{n} => :2
                     COPY d{n} copied{n} => :1
                     RENAME e{n} renamed{n}
                     RENAMENX g{n} h{n} => :0"
                ),
            );
        }
        let before = assert_survives_sigkill(&mut server);
        assert_eq!(before.len(), 500, "d, g, h, copied, renamed");
    });
}

/// Scenario 5.
#[test]
fn acknowledged_transactions_survive_whole() {
    for_each_setup(|mut server| {
        let mut client = server.client().unwrap();
        for n in 0..100 {
            // Hash tags: the first transaction lies on one shard, the second on several.
            script(
                &mut client,
                &format!(
                    "MULTI
                     SET {{t{n}}}a {n} => +QUEUED
                     INCR {{t{n}}}b => +QUEUED
                     RPUSH {{t{n}}}c x y => +QUEUED
                     EXEC => [+OK, :1, :2]
                     MULTI
                     SET a{n} {n} => +QUEUED
                     INCRBY total {n} => +QUEUED
                     HSET b{n} f {n} => +QUEUED
                     SADD c{n} x y => +QUEUED
                     EXEC => [+OK, :{}, :1, :2]",
                    n * (n + 1) / 2
                ),
            );
        }
        assert_eq!(assert_survives_sigkill(&mut server).len(), 601);
    });
}

/// Scenario 10.
#[test]
fn every_key_is_recovered_in_its_database() {
    for_each_setup(|mut server| {
        let mut one = server.client().unwrap();
        let mut many: Vec<_> = [0, 3, 15]
            .into_iter()
            .map(|db| {
                let mut client = server.client().unwrap();
                assert!(client.run(&format!("SELECT {db}")).unwrap().is_ok());
                (db, client)
            })
            .collect();
        for n in 0..100 {
            for (db, client) in &mut many {
                let select = one.run(&format!("SELECT {db}")).unwrap();
                assert!(select.is_ok());
                assert!(one.run(&format!("SET one:{n} db{db}")).unwrap().is_ok());
                assert!(client.run(&format!("SET many:{n} db{db}")).unwrap().is_ok());
            }
        }
        let before = assert_survives_sigkill(&mut server);
        assert_eq!(before.len(), 600);
        for (key, entry) in &before {
            assert!(
                format!("{entry:?}").contains(&format!("db{}", key.db)),
                "{key}"
            );
        }
    });
}

/// Scenario 11.
#[test]
fn select_inside_a_transaction_moves_only_what_follows() {
    for_each_setup(|mut server| {
        let mut client = server.client().unwrap();
        for n in 0..50 {
            script(
                &mut client,
                &format!(
                    "SELECT 0
                     MULTI
                     SET a{n} 0 => +QUEUED
                     SELECT 3 => +QUEUED
                     SET b{n} 3 => +QUEUED
                     SELECT 5 => +QUEUED
                     SET c{n} 5 => +QUEUED
                     EXEC => [+OK, +OK, +OK, +OK, +OK]
                     SET d{n} 5"
                ),
            );
        }
        let before = assert_survives_sigkill(&mut server);
        for n in 0..50 {
            for (db, name) in [(0, "a"), (3, "b"), (5, "c"), (5, "d")] {
                assert!(before.contains_key(&DbKey::new(db, format!("{name}{n}"))));
            }
        }
        assert_eq!(before.len(), 200);
    });
}

/// Scenario 12.
#[test]
fn swapdb_is_recovered_on_every_shard() {
    for_each_setup(|mut server| {
        let mut client = server.client().unwrap();
        for n in 0..100 {
            script(
                &mut client,
                &format!("SELECT 1\n SET k{n} one\n SELECT 2\n SET k{n} two"),
            );
        }
        assert!(client.run("SWAPDB 1 2").unwrap().is_ok());
        let before = assert_survives_sigkill(&mut server);
        let one = before.get(&DbKey::new(1, "k0")).unwrap();
        assert_eq!(format!("{one:?}"), "\"two\"");
        assert_eq!(before.len(), 200);
    });
}

/// Scenario 13.
#[test]
fn flushes_are_recovered_on_every_shard_and_later_writes_kept() {
    for_each_setup(|mut server| {
        for flush in [
            "FLUSHALL",
            "FLUSHALL ASYNC",
            "FLUSHALL SYNC",
            "FLUSHDB",
            "FLUSHDB ASYNC",
        ] {
            let mut client = server.client().unwrap();
            for n in 0..100 {
                script(
                    &mut client,
                    &format!("SELECT 0\n SET gone{n} 1\n SELECT 4\n SET far{n} 1"),
                );
            }
            assert!(client.run("SELECT 0").unwrap().is_ok());
            assert!(client.run(flush).unwrap().is_ok());
            for n in 0..100 {
                assert!(client.run(&format!("SET later{n} 1")).unwrap().is_ok());
            }
            let before = assert_survives_sigkill(&mut server);
            let far = if flush.starts_with("FLUSHDB") { 100 } else { 0 };
            assert_eq!(before.len(), 100 + far, "{flush}");
            assert!(run(&server, "FLUSHALL").is_ok());
        }
    });
}

/// Scenario 14.
#[test]
fn a_flush_inside_a_transaction_is_recovered_with_it() {
    for_each_setup(|mut server| {
        let mut client = server.client().unwrap();
        for n in 0..200 {
            assert!(client.run(&format!("SET gone{n} 1")).unwrap().is_ok());
        }
        script(
            &mut client,
            "MULTI
             SET gone:too 1 => +QUEUED
             FLUSHALL => +QUEUED
             SET kept 1 => +QUEUED
             MSET kept2 1 kept3 1 => +QUEUED
             EXEC => [+OK, +OK, +OK, +OK]",
        );
        assert_eq!(assert_survives_sigkill(&mut server).len(), 3);
    });
}

/// Scenario 15, with the barriers that hold in every pipeline.
#[test]
fn one_pipeline_takes_effect_in_the_order_sent() {
    for_each_setup(|mut server| {
        for round in 0..50 {
            let mut client = server.client().unwrap();
            let replies = client
                .pipeline(&[
                    format!("SET a{round} 1"),
                    format!("MSET a{round} 2 b{round} 2"),
                    "FLUSHALL".to_owned(),
                    format!("SET c{round} 3"),
                    format!("MSET d{round} 4 c{round} 4"),
                    format!("GET c{round}"),
                    "DBSIZE".to_owned(),
                ])
                .unwrap();
            assert!(replies[..5].iter().all(Reply::is_ok), "{replies:?}");
            assert_eq!(replies[5..], [Reply::bulk("4"), Reply::Int(2)]);
        }
        assert_eq!(assert_survives_sigkill(&mut server).len(), 2);
    });
}

/// Scenario 16.
#[test]
fn whatever_part_of_a_long_pipeline_is_acknowledged_survives() {
    for_each_setup(|mut server| {
        let mut client = server.client().unwrap();
        for n in 0..10_000 {
            client.queue(&["SET".to_owned(), format!("k{n}"), "v".repeat(200)]);
        }
        // Sending and reading at once: a server that is slow to answer must not stop us.
        let mut acked = Vec::new();
        std::thread::scope(|scope| {
            let address = server.address();
            let reader = scope.spawn(move || {
                let mut acked = Vec::new();
                drop(client.flush());
                while let Ok(reply) = client.read_reply() {
                    acked.push(reply);
                }
                acked
            });
            let mut other = moon_harness::Client::connect(address).unwrap();
            while other.run("EXISTS k2000").unwrap() != Reply::Int(1) {
                std::thread::sleep(Duration::from_micros(200));
            }
            server.kill9().unwrap();
            acked = reader.join().unwrap();
        });
        assert!(acked.iter().all(Reply::is_ok));
        server.restart().unwrap();
        let found = state(&server);
        for n in 0..acked.len() {
            assert!(
                found.contains_key(&DbKey::new(0, format!("k{n}"))),
                "k{n} is lost"
            );
        }
        assert_survives_sigkill(&mut server);
    });
}

/// Scenario 17.
#[test]
fn commands_that_fail_leave_nothing_in_the_log() {
    for_each_setup(|mut server| {
        let mut client = server.client().unwrap();
        for n in 0..100 {
            script(
                &mut client,
                &format!(
                    "RPUSH list{n} a b => :2
                     SET text{n} abc"
                ),
            );
            for failing in [
                format!("GETDEL list{n}"),
                format!("APPEND list{n} x"),
                format!("INCR text{n}"),
                format!("INCRBYFLOAT list{n} 1"),
                format!("HSET text{n} f v"),
                format!("SADD list{n} x"),
                format!("SET text{n} y EX 0"),
                format!("SET text{n} y NX XX"),
                format!("SETRANGE text{n} -1 x"),
                format!("EXPIRE text{n} abc"),
                format!("MSET text{n} y other{n}"),
                format!("LPUSH text{n} x"),
                format!("RENAME missing{n} text{n}"),
                format!("GETEX list{n} PERSIST"),
            ] {
                let reply = client.run(&failing).unwrap();
                assert!(reply.error().is_some(), "{failing}: {reply:?}");
            }
        }
        assert_eq!(assert_survives_sigkill(&mut server).len(), 200);
    });
}

/// Scenario 18.
#[test]
fn commands_that_change_nothing_enter_no_stream() {
    for_each_setup(|mut server| {
        let mut client = server.client().unwrap();
        script(&mut client, "SET k v\n SADD s a => :1\n HSET h f 1 => :1");
        let offset = |client: &mut moon_harness::Client| {
            let info = client.run("INFO replication").unwrap().text().unwrap();
            let line = info
                .lines()
                .find_map(|l| l.strip_prefix("master_repl_offset:"));
            line.map(str::to_owned).unwrap()
        };
        let before = offset(&mut client);
        script(
            &mut client,
            "SET k other NX => nil
             SETNX k other => :0
             SET missing v XX => nil
             MSETNX k 1 new 2 => :0
             EXPIRE missing 100 => :0
             PERSIST k => :0
             DEL missing => :0
             SADD s a => :0
             SREM s b => :0
             HDEL h g => :0
             LPOP missing => nil
             GETDEL missing => nil
             GETEX k => \"v\"
             COPY missing elsewhere => :0
             RENAMENX k s => :0
             MOVE missing 3 => :0",
        );
        assert_eq!(offset(&mut client), before);
        assert_survives_sigkill(&mut server);
    });
}

/// Scenario 28, for the commands that exist.
#[test]
fn what_a_command_computed_is_recovered_not_computed_again() {
    for_each_setup(|mut server| {
        let mut client = server.client().unwrap();
        for n in 0..50 {
            script(
                &mut client,
                &format!(
                    "SET f{n} 10.5
                     INCRBYFLOAT f{n} 0.1 => \"10.6\"
                     INCRBYFLOAT f{n} 1e2 => \"110.6\"
                     SET gone{n} x
                     GETDEL gone{n} => \"x\"
                     SET e{n} x
                     GETEX e{n} EX 100000 => \"x\"
                     SET p{n} x PX 100000000
                     GETEX p{n} PERSIST => \"x\"
                     SETRANGE r{n} 5 abc => :8
                     APPEND r{n} def => :11
                     SET ex{n} x EX 100000
                     EXPIRE e{n} 200000 GT => :1
                     GETSET old{n} new => nil
                     SET keep{n} x EX 90000
                     SET keep{n} y KEEPTTL
                     HINCRBY h{n} f 5 => :5
                     DECRBY d{n} 7 => :-7"
                ),
            );
        }
        let before = assert_survives_sigkill(&mut server);
        let expiring = before
            .values()
            .filter(|e| e.expires_at_ms.is_some())
            .count();
        assert_eq!(expiring, 150);
    });
}

/// A key whose time passed while the server was down is gone; one whose time is to come expires
/// at the moment that was promised, not later by the time of the restart.
#[test]
fn expiry_times_are_absolute_over_a_restart() {
    for_each_setup(|mut server| {
        let mut client = server.client().unwrap();
        for n in 0..100 {
            let replies = client
                .pipeline(&[
                    format!("SET short{n} x PX 50"),
                    format!("SET long{n} x EX 1000"),
                ])
                .unwrap();
            assert!(replies.iter().all(Reply::is_ok));
        }
        let expires = client.run("PEXPIRETIME long7").unwrap();
        server.kill9().unwrap();
        std::thread::sleep(Duration::from_millis(60));
        server.restart().unwrap();
        let mut client = server.client().unwrap();
        for n in 0..100 {
            assert_eq!(
                client.run(&format!("EXISTS short{n}")).unwrap(),
                Reply::Int(0)
            );
        }
        assert_eq!(client.run("PEXPIRETIME long7").unwrap(), expires);
        assert_eq!(state(&server).len(), 100);
    });
}

/// Scenario 215, for counters that all connections share: an answer is given once, what was
/// answered is never taken back, and what one connection sees never goes backwards.
#[test]
fn shared_counters_never_go_back_and_never_count_twice() {
    const COUNTERS: usize = 24;
    for_each_setup(|mut server| {
        let mut answered: Vec<BTreeSet<i64>> = vec![BTreeSet::new(); COUNTERS];
        for round in 0..3 {
            let address = server.address();
            let mut sent = [0_i64; COUNTERS];
            let before: Vec<i64> = (0..COUNTERS).map(|c| counter(&server, c)).collect();
            std::thread::scope(|scope| {
                let threads: Vec<_> = (0..4)
                    .map(|seed| scope.spawn(move || count_until_gone(address, seed, COUNTERS)))
                    .collect();
                std::thread::sleep(Duration::from_millis(100 + 40 * round));
                server.kill9().unwrap();
                for thread in threads {
                    let (replies, by_counter) = thread.join().unwrap();
                    for (counter, value) in replies {
                        let is_new = answered[counter].insert(value);
                        assert!(is_new, "{value} of counter {counter} was answered twice");
                    }
                    for (sum, count) in sent.iter_mut().zip(by_counter) {
                        *sum += count;
                    }
                }
            });
            server.restart().unwrap();
            for (number, answered) in answered.iter().enumerate() {
                let found = counter(&server, number);
                let highest = answered.last().copied().unwrap_or(0);
                assert!(
                    found >= highest,
                    "counter {number}: {found} after {highest}"
                );
                assert!(
                    found <= before[number] + sent[number],
                    "counter {number}: {found}"
                );
            }
        }
    });
}

fn counter(server: &moon_harness::Server, number: usize) -> i64 {
    let value = run(server, &format!("GET shared:{number}")).text();
    value.map_or(0, |text| text.parse().unwrap())
}

/// Increments and reads shared counters until the server is gone: the answers to increments, and
/// how many were sent to each counter.
fn count_until_gone(
    address: SocketAddr,
    seed: u64,
    counters: usize,
) -> (Vec<(usize, i64)>, Vec<i64>) {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut client = moon_harness::Client::connect(address).unwrap();
    let (mut replies, mut sent) = (Vec::new(), vec![0; counters]);
    let mut highest = vec![0; counters];
    loop {
        let batch: Vec<(usize, bool)> = (0..rng.random_range(1..20))
            .map(|_| (rng.random_range(0..counters), rng.random_range(0..3) > 0))
            .collect();
        for (counter, is_write) in &batch {
            let name = if *is_write { "INCR" } else { "GET" };
            client.queue(&[name.to_owned(), format!("shared:{counter}")]);
            sent[*counter] += i64::from(*is_write);
        }
        if client.flush().is_err() {
            return (replies, sent);
        }
        for (counter, is_write) in batch {
            let Ok(reply) = client.read_reply() else {
                return (replies, sent);
            };
            let value = match (&reply, reply.int()) {
                (_, Some(value)) => value,
                (Reply::Null, _) => 0,
                _ => reply.text().unwrap().parse().unwrap(),
            };
            assert!(
                value >= highest[counter],
                "counter {counter} went back to {value}"
            );
            highest[counter] = value;
            if is_write {
                replies.push((counter, value));
            }
        }
    }
}

/// Under `pipeline-order strict`, what survives of one pipeline over many shards is a prefix.
#[test]
fn strict_pipelines_survive_as_a_prefix() {
    if is_other_server() {
        return;
    }
    for shards in [2, 4, 8] {
        for policy in FsyncPolicy::ALL {
            let mut server =
                moon_harness::Server::start_temp(flavor(), crate::support::binary(), |mut c| {
                    c.order = Some(moon_harness::PipelineOrder::Strict);
                    c.shards(shards).append(policy)
                })
                .unwrap();
            let mut client = server.client().unwrap();
            for n in 0..5000 {
                client.queue(&["SET".to_owned(), format!("k{n}"), "v".to_owned()]);
            }
            let writer = std::thread::spawn(move || drop(client.flush()));
            let mut other = server.client().unwrap();
            while other.run("EXISTS k50").unwrap() != Reply::Int(1) {
                std::thread::sleep(Duration::from_micros(100));
            }
            server.kill9().unwrap();
            writer.join().unwrap();
            server.restart().unwrap();
            let found = state(&server);
            let kept = (0..5000)
                .take_while(|n| found.contains_key(&DbKey::new(0, format!("k{n}"))))
                .count();
            assert!(kept > 50, "only {kept} survived, and 51 were seen");
            assert_eq!(
                found.len(),
                kept,
                "a later write survived without an earlier one"
            );
        }
    }
}

/// Scenario 19, with SIGKILL.
#[test]
fn the_first_write_after_listening_survives() {
    for shards in [1, 2, 3, 8] {
        let mut server = start(shards, FsyncPolicy::Everysec);
        for round in 0..5 {
            // The readiness probe was the first request; this is the first write.
            let mut client = server.client().unwrap();
            assert!(client.run(&format!("SET first{round} x")).unwrap().is_ok());
            server.kill9().unwrap();
            server.restart().unwrap();
            assert_eq!(run(&server, "DBSIZE"), Reply::Int(round + 1));
        }
    }
}

/// Scenario 38: a value that looks like a log is still a value.
#[test]
fn values_that_look_like_the_log_are_recovered_as_values() {
    for_each_setup(|mut server| {
        let mut client = server.client().unwrap();
        let forged = b"*3\r\n$3\r\nSET\r\n$6\r\nforged\r\n$1\r\nx\r\n";
        for n in 0..200_usize {
            let mut value = b"x".repeat(n % 17);
            value.extend_from_slice(&forged.repeat(1 + n % 3));
            let key = format!("k{n}");
            assert!(
                client
                    .command(&[&b"SET"[..], key.as_bytes(), &value])
                    .unwrap()
                    .is_ok()
            );
        }
        if !is_other_server() {
            // A segment's own bytes as values.
            let dir = server.config().dir.join("appendonlydir/shard-0");
            for entry in std::fs::read_dir(dir).unwrap() {
                let mut bytes = std::fs::read(entry.unwrap().path()).unwrap();
                bytes.truncate(100_000);
                assert!(
                    client
                        .command(&[&b"SET"[..], b"segment", &bytes])
                        .unwrap()
                        .is_ok()
                );
            }
        }
        let before = assert_survives_sigkill(&mut server);
        assert!(!before.contains_key(&DbKey::new(0, "forged")));
    });
}
