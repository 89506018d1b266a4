//! MULTI, EXEC, WATCH over shards: atomic, isolated, all or nothing.

use crate::support::{
    assert_survives_sigkill, for_each_setup, keys_per_shard, script, start, state,
};
use moon_harness::{Client, FsyncPolicy, Reply, Server};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

fn two_clients(server: &Server) -> (Client, Client) {
    (server.client().unwrap(), server.client().unwrap())
}

/// Scenario 117.
#[test]
fn an_error_while_queueing_aborts_the_whole_transaction() {
    for_each_setup(|mut server| {
        let mut client = server.client().unwrap();
        for bad in ["NOSUCHCOMMAND x", "SET onlyone", "GET"] {
            script(
                &mut client,
                "MULTI\n SET a 1 => +QUEUED\n MSET b 1 c 1 => +QUEUED",
            );
            assert!(client.run(bad).unwrap().error().is_some(), "{bad}");
            script(
                &mut client,
                "SET d 1 => +QUEUED
                 EXEC => -EXECABORT Transaction discarded because of previous errors.
                 DBSIZE => :0",
            );
        }
        assert_eq!(assert_survives_sigkill(&mut server).len(), 0);
    });
}

/// An error while executing does not undo the rest, as in Redis.
#[test]
fn an_error_while_executing_leaves_the_other_commands_in_force() {
    for_each_setup(|mut server| {
        let mut client = server.client().unwrap();
        for n in 0..50 {
            script(
                &mut client,
                &format!(
                    "SET text{n} abc
                     MULTI
                     SET a{n} 1 => +QUEUED
                     INCR text{n} => +QUEUED
                     SET b{n} 1 => +QUEUED
                     EXEC => [+OK, -ERR value is not an integer or out of range, +OK]"
                ),
            );
        }
        assert_eq!(assert_survives_sigkill(&mut server).len(), 150);
    });
}

/// Scenario 118.
#[test]
fn every_command_is_queued_and_not_executed_at_once() {
    for_each_setup(|server| {
        let mut client = server.client().unwrap();
        script(
            &mut client,
            "MULTI
             CLIENT SETNAME later => +QUEUED
             CONFIG GET maxclients => +QUEUED
             CLIENT GETNAME => +QUEUED
             PING => +QUEUED
             ECHO hello => +QUEUED
             SELECT 2 => +QUEUED
             SET k v => +QUEUED",
        );
        assert_eq!(state(&server).len(), 0);
        let reply = client.run("EXEC").unwrap();
        let items = reply.items().unwrap();
        assert!(items[0].is_ok());
        assert_eq!(items[2], Reply::bulk("later"));
        assert_eq!(items[3], Reply::Simple(b"PONG".to_vec()));
        assert!(items[6].is_ok());
        script(
            &mut client,
            "GET k => \"v\"
             SELECT 0
             GET k => nil
             EXEC => -ERR EXEC without MULTI
             DISCARD => -ERR DISCARD without MULTI
             MULTI
             MULTI => -ERR MULTI calls can not be nested
             WATCH a => -ERR WATCH inside MULTI is not allowed
             DISCARD",
        );
    });
}

/// Scenario 119.
#[test]
fn a_watched_key_that_changed_stops_the_transaction_on_any_shard() {
    for shards in [1, 2, 3, 8] {
        let server = start(shards, FsyncPolicy::Everysec);
        let (mut watcher, mut other) = two_clients(&server);
        for (shard, keys) in keys_per_shard(shards, 2).iter().enumerate() {
            let (watched, target) = (&keys[0], "somewhere");
            for change in [
                // Changed, changed and changed back, deleted, created and deleted.
                vec![format!("SET {watched} new")],
                vec![format!("SET {watched} x"), format!("SET {watched} old")],
                vec![format!("DEL {watched}")],
                vec![format!("EXPIRE {watched} 1000")],
                vec![
                    format!("RENAME {watched} moved"),
                    format!("RENAME moved {watched}"),
                ],
                vec![format!("MSET {watched} old {target}2 x")],
            ] {
                script(&mut other, &format!("SET {watched} old"));
                script(
                    &mut watcher,
                    &format!(
                        "WATCH {watched}\n GET {watched} => \"old\"\n MULTI\n SET {target} {shard} => +QUEUED"
                    ),
                );
                for line in &change {
                    let reply = other.run(line).unwrap();
                    assert!(reply.error().is_none(), "{line}: {reply:?}");
                }
                assert_eq!(watcher.run("EXEC").unwrap(), Reply::NullArray, "{change:?}");
            }
            // Not changed: reads and writes to other keys do not count.
            script(
                &mut watcher,
                &format!("WATCH {watched} {target}\n MULTI\n INCR counter{shard} => +QUEUED"),
            );
            other.run(&format!("GET {watched}")).unwrap();
            other.run(&format!("SET {} x", keys[1])).unwrap();
            assert_eq!(
                watcher.run("EXEC").unwrap(),
                Reply::Array(vec![Reply::Int(1)])
            );
        }
    }
}

/// Scenario 120.
#[test]
fn a_watched_key_that_is_flushed_swapped_or_expired_stops_the_transaction() {
    for_each_setup(|server| {
        let (mut watcher, mut other) = two_clients(&server);
        for change in ["FLUSHALL", "FLUSHDB", "SWAPDB 0 1", "SWAPDB 1 0"] {
            script(&mut other, "FLUSHALL\n SET watched 1");
            script(&mut watcher, "WATCH watched\n MULTI\n SET k 1 => +QUEUED");
            assert!(other.run(change).unwrap().is_ok());
            assert_eq!(watcher.run("EXEC").unwrap(), Reply::NullArray, "{change}");
        }
        script(&mut other, "FLUSHALL\n SET watched 1 PX 700");
        script(&mut watcher, "WATCH watched\n MULTI\n SET k 1 => +QUEUED");
        while other.run("EXISTS watched").unwrap() == Reply::Int(1) {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(watcher.run("EXEC").unwrap(), Reply::NullArray, "expired");
        // A missing key that is still missing after a flush is unchanged.
        script(&mut watcher, "WATCH missing\n MULTI\n SET k 1 => +QUEUED");
        script(&mut other, "FLUSHALL");
        assert_eq!(
            watcher.run("EXEC").unwrap(),
            Reply::Array(vec![Reply::ok()])
        );
        // UNWATCH and DISCARD forget.
        script(&mut watcher, "WATCH k\n UNWATCH\n MULTI\n PING => +QUEUED");
        script(&mut other, "SET k 2");
        assert_ne!(watcher.run("EXEC").unwrap(), Reply::NullArray);
        script(
            &mut watcher,
            "WATCH k\n MULTI\n DISCARD\n MULTI\n PING => +QUEUED",
        );
        script(&mut other, "SET k 3");
        assert_ne!(watcher.run("EXEC").unwrap(), Reply::NullArray);
    });
}

/// Scenario 121: money moves between accounts on different shards; whoever looks finds all of it.
#[test]
fn readers_see_transactions_over_shards_whole_or_not_at_all() {
    const ACCOUNTS: usize = 20;
    const EACH: i64 = 1000;
    for_each_setup(|mut server| {
        let mut client = server.client().unwrap();
        for account in 0..ACCOUNTS {
            assert!(
                client
                    .run(&format!("SET account:{account} {EACH}"))
                    .unwrap()
                    .is_ok()
            );
        }
        let stop = AtomicBool::new(false);
        let address = server.address();
        let transfers = std::thread::scope(|scope| {
            let writers: Vec<_> = (0..3)
                .map(|seed| {
                    let stop = &stop;
                    scope.spawn(move || {
                        let mut rng = StdRng::seed_from_u64(seed);
                        let mut client = Client::connect(address).unwrap();
                        let mut count = 0;
                        while !stop.load(Ordering::Relaxed) {
                            transfer(&mut client, &mut rng, ACCOUNTS);
                            count += 1;
                        }
                        count
                    })
                })
                .collect();
            let mut reader = Client::connect(address).unwrap();
            let mget: Vec<String> = std::iter::once("MGET".to_owned())
                .chain((0..ACCOUNTS).map(|a| format!("account:{a}")))
                .collect();
            for round in 0..600 {
                let balances = if round % 2 == 0 {
                    reader.command(&mget).unwrap()
                } else {
                    read_in_transaction(&mut reader, &mget[1..])
                };
                let sum: i64 = balances
                    .items()
                    .unwrap()
                    .iter()
                    .map(|b| b.text().unwrap().parse::<i64>().unwrap())
                    .sum();
                assert_eq!(sum, EACH * ACCOUNTS as i64, "round {round}: {balances:?}");
            }
            stop.store(true, Ordering::Relaxed);
            writers.into_iter().map(|w| w.join().unwrap()).sum::<u64>()
        });
        assert!(transfers > 100, "only {transfers} transfers");
        assert_survives_sigkill(&mut server);
    });
}

fn transfer(client: &mut Client, rng: &mut StdRng, accounts: usize) {
    let (from, to) = (rng.random_range(0..accounts), rng.random_range(0..accounts));
    let amount = rng.random_range(1..50);
    let replies = client
        .pipeline(&[
            "MULTI".to_owned(),
            format!("DECRBY account:{from} {amount}"),
            format!("INCRBY account:{to} {amount}"),
            "EXEC".to_owned(),
        ])
        .unwrap();
    assert!(
        replies[3].items().is_some_and(|i| i.len() == 2),
        "{replies:?}"
    );
}

fn read_in_transaction(client: &mut Client, keys: &[String]) -> Reply {
    client.queue(&["MULTI"]);
    for key in keys {
        client.queue(&["GET", key]);
    }
    client.queue(&["EXEC"]);
    client.flush().unwrap();
    for _ in 0..=keys.len() {
        client.read_reply().unwrap();
    }
    client.read_reply().unwrap()
}

/// Scenario 125: no deadlock, and every increment counts once.
#[test]
fn transactions_on_the_same_keys_in_opposite_order_all_finish() {
    const ROUNDS: i64 = 400;
    for_each_setup(|mut server| {
        let address = server.address();
        std::thread::scope(|scope| {
            for connection in 0..4 {
                scope.spawn(move || {
                    let mut client = Client::connect(address).unwrap();
                    let keys = if connection % 2 == 0 {
                        ["a", "b", "c", "d"]
                    } else {
                        ["d", "c", "b", "a"]
                    };
                    for _ in 0..ROUNDS {
                        client.queue(&["MULTI"]);
                        for key in keys {
                            client.queue(&["INCR", key]);
                        }
                        client.queue(&["EXEC"]);
                        client.flush().unwrap();
                        for _ in 0..5 {
                            client.read_reply().unwrap();
                        }
                        assert!(client.read_reply().unwrap().items().is_some());
                    }
                });
            }
        });
        let mut client = server.client().unwrap();
        let total = (4 * ROUNDS).to_string();
        for key in ["a", "b", "c", "d"] {
            assert_eq!(client.command(&["GET", key]).unwrap(), Reply::bulk(&total));
        }
        assert_survives_sigkill(&mut server);
    });
}

/// Optimistic locking: with WATCH, concurrent read-modify-write loses nothing.
#[test]
fn increments_guarded_by_watch_are_never_lost() {
    const ROUNDS: i64 = 50;
    for_each_setup(|server| {
        let address = server.address();
        std::thread::scope(|scope| {
            for connection in 0..3 {
                scope.spawn(move || {
                    let mut client = Client::connect(address).unwrap();
                    let mut done = 0;
                    while done < ROUNDS {
                        client.run("WATCH counter").unwrap();
                        let now = client.run("GET counter").unwrap().text();
                        let next = now.map_or(0, |t| t.parse::<i64>().unwrap()) + 1;
                        let replies = client
                            .pipeline(&[
                                "MULTI".to_owned(),
                                format!("SET counter {next}"),
                                format!("INCR by:{connection}"),
                                "EXEC".to_owned(),
                            ])
                            .unwrap();
                        done += i64::from(replies[3] != Reply::NullArray);
                    }
                });
            }
        });
        let mut client = server.client().unwrap();
        let total = (3 * ROUNDS).to_string();
        assert_eq!(client.run("GET counter").unwrap(), Reply::bulk(total));
    });
}

/// Scenario 129.
#[test]
fn a_connection_that_ends_before_exec_changes_nothing() {
    for_each_setup(|server| {
        for _ in 0..20 {
            let mut client = server.client().unwrap();
            script(
                &mut client,
                "WATCH x\n MULTI\n SET a 1 => +QUEUED\n MSET b 1 c 1 => +QUEUED",
            );
        }
        assert_eq!(state(&server).len(), 0);
    });
}

/// An empty transaction, and one that only reads, over shards.
#[test]
fn transactions_without_writes_answer_like_redis() {
    for_each_setup(|server| {
        let mut client = server.client().unwrap();
        script(
            &mut client,
            "MULTI
             EXEC => []
             MSET a 1 b 2 c 3
             MULTI
             GET a => +QUEUED
             MGET b c missing => +QUEUED
             EXISTS a b c missing => +QUEUED
             DBSIZE => +QUEUED
             EXEC => [\"1\", [\"2\", \"3\", nil], :3, :3]",
        );
    });
}
