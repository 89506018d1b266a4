//! Commands over several shards: atomic, without deadlock, and every box comes home.

use crate::world::{Client, World};
use moon_core::ShardId;
use moon_repl::FrameKind;
use moon_shard::ShardMask;
use std::rc::Rc;

/// Rounds of the tests that look for interleavings.
const ROUNDS: usize = 2000;

/// Scenario 125.
#[test]
fn transactions_in_opposite_order_never_deadlock_and_keep_the_sum() {
    let world = World::new(2);
    let (a, b) = (world.key(0, "a"), world.key(1, "b"));
    let clients: Vec<Client> = (0..2).map(|home| world.client(home)).collect();
    clients[0].call(&format!("MSET {a} 0 {b} 0"), "+OK\r\n");
    for _ in 0..ROUNDS {
        clients[0].transaction(&[format!("INCRBY {a} -1"), format!("INCRBY {b} 1")]);
        clients[1].transaction(&[format!("INCRBY {b} -1"), format!("INCRBY {a} 1")]);
        // Something that only one of the shards runs, between the borrows.
        clients[0].send(&format!("GET {b}x"));
        clients[1].send(&format!("GET {b}x"));
    }
    for client in &clients {
        client.send("ECHO end");
    }
    for client in &clients {
        client.wait_for("end\r\n");
    }
    let reader = world.client(1);
    reader.call(&format!("MGET {a} {b}"), "*2\r\n$1\r\n0\r\n$1\r\n0\r\n");
}

/// Scenario 121: the sum of two accounts on two shards is the same for every reader.
#[test]
fn no_reader_sees_half_a_transaction() {
    let world = World::new(3);
    let (a, b) = (world.key(0, "a"), world.key(2, "b"));
    let setup = world.client(0);
    setup.call(&format!("MSET {a} 500 {b} 500"), "+OK\r\n");
    let writers: Vec<Client> = (0..3).map(|home| world.client(home)).collect();
    let readers: Vec<Client> = (0..3).map(|home| world.client(home)).collect();
    for round in 0..300 {
        for (i, writer) in writers.iter().enumerate() {
            let amount = (round * 7 + i * 3) % 9;
            writer.transaction(&[
                format!("DECRBY {a} {amount}"),
                format!("INCRBY {b} {amount}"),
            ]);
        }
        for reader in &readers {
            reader.send(&format!("MGET {a} {b}"));
        }
    }
    for reader in &readers {
        reader.send("ECHO end");
        let replies = reader.wait_for("end\r\n");
        let numbers: Vec<i64> = replies
            .lines()
            .filter_map(|line| line.parse().ok())
            .collect();
        assert_eq!(numbers.len(), 600);
        for pair in numbers.chunks(2) {
            assert_eq!(pair[0] + pair[1], 1000, "{pair:?}");
        }
    }
}

#[test]
fn a_transaction_is_one_frame_behind_everything_before_it() {
    let world = World::new(2);
    let (a, b) = (world.key(0, "a"), world.key(1, "b"));
    let client = world.client(0);
    client.pipeline(&[
        format!("SET {a} 1"),
        format!("SET {b} 1"),
        format!("MSET {a} 2 {b} 2"),
        format!("SET {a} 3"),
        format!("SET {b} 3"),
    ]);
    client.expect(&"+OK\r\n".repeat(5));
    let history = world.history();
    let kinds: Vec<FrameKind> = history.iter().map(|frame| frame.kind).collect();
    let own = FrameKind::Own;
    assert_eq!(kinds, [own, own, FrameKind::Cross, own, own]);
    assert_eq!(history[2].shard, ShardId(0), "in the executor's file");
    for pair in history.windows(2) {
        assert_eq!(pair[0].end(), pair[1].lsn, "dense");
    }
}

/// A task that is dropped while it waits for the second box leaves all boxes at home.
#[test]
fn a_borrow_dropped_while_it_waits_returns_every_box() {
    let world = World::new(3);
    world.settle();
    // Shard 2 does not answer for a while.
    let (go, wait) = std::sync::mpsc::channel::<()>();
    world.run(2, move |_| wait.recv().unwrap());
    let count = world.count;
    let (started, is_away) = std::sync::mpsc::channel();
    world.run(0, move |shard| {
        let shard = Rc::clone(shard);
        tokio::task::spawn_local(async move {
            let borrow = tokio::task::spawn_local({
                let shard = Rc::clone(&shard);
                async move { shard.borrow(ShardMask::all(count)).await.commit() }
            });
            while shard.is_home() {
                tokio::task::yield_now().await;
            }
            borrow.abort();
            assert!(borrow.await.unwrap_err().is_cancelled());
            started.send(()).unwrap();
        });
    });
    is_away.recv().unwrap();
    world.eventually(0, |shard| shard.is_home());
    world.eventually(1, |shard| shard.is_home());
    go.send(()).unwrap();
    world.settle();
    for shard in [0, 1, 2] {
        world.eventually(shard, |shard| shard.is_home());
    }
    assert!(world.history().is_empty());
    let (a, b, c) = (world.key(0, "a"), world.key(1, "b"), world.key(2, "c"));
    world
        .client(1)
        .call(&format!("MSET {a} 1 {b} 1 {c} 1"), "+OK\r\n");
}

/// Memory has changed already, so what was executed is in the history.
#[test]
fn a_borrow_dropped_after_execution_is_logged() {
    let world = World::new(2);
    let (a, b) = (world.key(0, "a"), world.key(1, "b"));
    let args = moon_resp::OwnedArgs::new(["MSET", &a, "1", &b, "1"]);
    let count = world.count;
    world.run(0, move |shard| {
        let shard = Rc::clone(shard);
        tokio::task::spawn_local(async move {
            let mut borrowed = shard.borrow(ShardMask::all(count)).await;
            let (id, _) = moon_commands::lookup(b"mset").unwrap();
            let protocol = moon_resp::Protocol::Resp2;
            borrowed.execute(id, args.as_args(), 0, protocol, &mut Vec::new());
        });
    });
    world.eventually(0, |shard| shard.clock().head() > moon_core::Lsn(1));
    world.settle();
    assert_eq!(world.history().len(), 1);
    let reader = world.client(1);
    reader.call(&format!("MGET {a} {b}"), "*2\r\n$1\r\n1\r\n$1\r\n1\r\n");
}

/// FLUSHALL and SWAPDB over all shards, beside readers of all shards: they see all or nothing.
#[test]
fn a_flush_is_one_step_for_readers_of_all_shards() {
    let world = World::new(2);
    let (a, b) = (world.key(0, "a"), world.key(1, "b"));
    let [writer, flusher, reader] = [0, 1, 0].map(|home| world.client(home));
    for _ in 0..300 {
        writer.send(&format!("MSET {a} 1 {b} 1"));
        flusher.send("FLUSHALL");
        flusher.send("SWAPDB 0 1");
        reader.send(&format!("EXISTS {a} {b}"));
        reader.send("DBSIZE");
    }
    for client in [&writer, &flusher, &reader] {
        client.send("ECHO end");
    }
    let replies = reader.wait_for("end\r\n");
    for reply in replies.lines().filter(|line| line.starts_with(':')) {
        assert!(reply == ":0" || reply == ":2", "{reply}");
    }
    writer.wait_for("end\r\n");
    flusher.wait_for("end\r\n");
}

#[test]
fn after_a_flush_even_missing_keys_wait_for_it() {
    let world = World::new(2);
    let (a, b) = (world.key(0, "a"), world.key(1, "b"));
    let client = world.client(0);
    client.call(&format!("MSET {a} 1 {b} 1"), "+OK\r\n");
    world.disks[0].hold();
    client.send("FLUSHALL");
    world.settle();
    let readers = [&b, &world.key(1, "never")].map(|key| {
        let reader = world.client(1);
        reader.send(&format!("GET {key}"));
        reader
    });
    world.settle();
    assert_eq!(readers[0].left(), "");
    world.disks[0].release();
    client.expect("+OK\r\n");
    for reader in &readers {
        reader.expect("$-1\r\n");
    }
}

/// Scenarios 119 and 120: a watch compares versions, so change and change back is a change; a
/// flush changes only keys that were there.
#[test]
fn watch_versions_see_changes_of_every_kind_on_every_way() {
    let world = World::new(2);
    let (own, crossed, flushed, kept) = (
        world.key(1, "own"),
        world.key(1, "crossed"),
        world.key(1, "flushed"),
        world.key(1, "kept"),
    );
    let client = world.client(0);
    let other = world.key(0, "other");
    client.call(&format!("MSET {own} 1 {crossed} 1 {flushed} 1"), "+OK\r\n");
    let keys = [own.clone(), crossed.clone(), flushed, kept];
    let watched = keys.clone();
    let versions = world.visit(1, move |data| {
        watched.map(|key| data.watches.watch(0, key.as_bytes()))
    });
    let changed = move |world: &World| {
        let keys = keys.clone();
        world.visit(1, move |data| {
            let mut now = keys
                .iter()
                .map(|key| data.watches.version(0, key.as_bytes()));
            versions.map(|version| now.next().unwrap() != Some(version))
        })
    };
    client.call(&format!("MGET {own} {other}"), "*2\r\n$1\r\n1\r\n$-1\r\n");
    assert_eq!(changed(&world), [false; 4], "reading changes nothing");
    client.pipeline(&[format!("SET {own} 2"), format!("SET {own} 1")]);
    client.expect("+OK\r\n+OK\r\n");
    assert_eq!(changed(&world), [true, false, false, false]);
    client.call(&format!("MSET {crossed} 1 {other} 1"), "+OK\r\n");
    assert_eq!(changed(&world), [true, true, false, false]);
    client.call("FLUSHALL", "+OK\r\n");
    assert_eq!(changed(&world), [true, true, true, false]);
}

/// The access clock of a shard that executes nothing itself goes on.
#[test]
fn a_key_stored_under_a_borrow_is_not_idle() {
    let world = World::new(2);
    let (a, b) = (world.key(0, "a"), world.key(1, "b"));
    let client = world.client(0);
    client.call(&format!("MSET {a} 1 {b} 1"), "+OK\r\n");
    client.send(&format!("OBJECT IDLETIME {b}"));
    let idle = client.wait_for("\r\n");
    assert!(idle == ":0\r\n" || idle == ":1\r\n", "{idle:?}");
}

/// The same from a queue of errands: whatever order boxes, replies and errands arrive in.
#[test]
fn many_borrows_of_random_shards_all_end() {
    let world = World::new(4);
    let keys: Vec<String> = (0..4).map(|shard| world.key(shard, "k")).collect();
    let clients: Vec<Client> = (0..8).map(|i| world.client(i % 4)).collect();
    let mut seed = 0x9E37_79B9_7F4A_7C15_u64;
    let mut random = |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        usize::try_from(seed % 1000).unwrap() % below
    };
    let mut increments = 0;
    for _ in 0..150 {
        for client in &clients {
            let (x, y) = (random(4), random(4));
            match random(3) {
                0 => {
                    client.transaction(&[format!("INCR {}", keys[x]), format!("INCR {}", keys[y])])
                }
                1 => client.pipeline(&[format!("INCR {}", keys[x]), format!("INCR {}", keys[y])]),
                _ => {
                    client.pipeline(&[
                        format!("INCR {}", keys[x]),
                        format!("MGET {} {}", keys[x], keys[y]),
                        format!("INCR {}", keys[y]),
                    ]);
                }
            }
            increments += 2;
        }
    }
    for client in &clients {
        client.send("ECHO end");
        client.wait_for("end\r\n");
    }
    let reader = world.client(0);
    reader.send(&format!("MGET {}", keys.join(" ")));
    let replies = reader.wait_lines(9);
    let sum: usize = replies
        .lines()
        .skip(2)
        .step_by(2)
        .map(|count| count.parse::<usize>().unwrap())
        .sum();
    assert_eq!(sum, increments, "{replies}");
}
