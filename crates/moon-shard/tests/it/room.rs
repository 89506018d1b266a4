//! The bound on bytes in flight: over it a shard executes nothing, and loses nothing.

use crate::world::World;

const BOUND: usize = 4096;

fn big() -> String {
    "x".repeat(BOUND)
}

#[test]
fn over_the_bound_nothing_is_executed_nothing_is_dropped_and_it_resumes() {
    let world = World::bounded(2, BOUND);
    let filler = world.client(1);
    world.disks[1].hold();
    filler.send(&format!("SET {} {}", world.key(1, "fill"), big()));
    world.settle();
    let clean = world.key(1, "clean");
    let clients: Vec<_> = [0, 1, 0, 1].map(|home| world.client(home)).into();
    for client in &clients {
        client.pipeline(&[format!("INCR {clean}"), format!("GET {clean}")]);
    }
    world.settle();
    assert_eq!(world.disks[1].held(), 1, "nothing more was executed");
    world.disks[1].release();
    filler.expect("+OK\r\n");
    let replies: Vec<String> = clients.iter().map(|client| client.take(11)).collect();
    let mut counts: Vec<&str> = replies.iter().map(|reply| &reply[1..2]).collect();
    counts.sort_unstable();
    assert_eq!(counts, ["1", "2", "3", "4"], "{replies:?}");
}

/// Lending executes nothing on the lender, so it goes on, also past messages that wait for room.
#[test]
fn lending_goes_on_without_room() {
    let world = World::bounded(2, BOUND);
    let (a, b) = (world.key(0, "a"), world.key(1, "b"));
    let filler = world.client(1);
    world.disks[1].hold();
    filler.send(&format!("SET {} {}", world.key(1, "fill"), big()));
    world.settle();
    let (waiting, borrower) = (world.client(0), world.client(0));
    waiting.send(&format!("GET {b}"));
    world.settle();
    borrower.call(&format!("MGET {a} {b}"), "*2\r\n$-1\r\n$-1\r\n");
    world.client(0).call(&format!("GET {a}"), "$-1\r\n");
    assert_eq!(waiting.left(), "", "a data message waits for room");
    world.disks[1].release();
    waiting.expect("$-1\r\n");
}

#[test]
fn one_item_larger_than_the_bound_is_admitted_alone() {
    let world = World::bounded(1, BOUND);
    let client = world.client(0);
    let value = "v".repeat(4 * BOUND);
    client.call(&format!("SET big {value}"), "+OK\r\n");
    client.call("GET big", &format!("${}\r\n{value}\r\n", value.len()));
}

/// Replies behind a hole wait for the other shard's execution. If they took room from the other
/// shard's messages, two shards could wait for each other for ever.
#[test]
fn replies_behind_a_hole_take_no_room_from_other_shards() {
    let world = World::bounded(3, BOUND);
    let keys = [0, 1, 2].map(|shard| world.key(shard, "big"));
    let value = big();
    for key in &keys {
        world
            .client(0)
            .call(&format!("SET {key} {value}"), "+OK\r\n");
    }
    let reply = format!("${}\r\n{value}\r\n", value.len());
    let clients = [world.client(0), world.client(1)];
    world.settle();
    let (go, wait) = std::sync::mpsc::channel::<()>();
    world.run(2, move |_| wait.recv().unwrap());
    // Each has a hole that shard 2 leaves open, and behind it more than the bound.
    for (client, own) in clients.iter().zip(&keys) {
        client.pipeline(&[
            format!("GET {}", keys[2]),
            format!("GET {own}"),
            format!("GET {own}"),
        ]);
    }
    world.eventually(0, |shard| shard.is_home());
    for (home, other) in [(0, 1), (1, 0)] {
        world
            .client(home)
            .call(&format!("GET {}", keys[other]), &reply);
    }
    go.send(()).unwrap();
    for client in &clients {
        client.expect(&reply.repeat(3));
    }
}

/// Room that appears without a commit is noticed at once, too.
#[test]
fn no_bytes_stay_counted_when_all_is_answered() {
    let world = World::bounded(2, BOUND);
    let keys = [world.key(0, "k"), world.key(1, "k")];
    let clients: Vec<_> = (0..8).map(|i| world.client(i % 2)).collect();
    for round in 0..20 {
        for client in &clients {
            client.pipeline(&[
                format!("SET {} {}", keys[0], "v".repeat(300)),
                format!("SET {} {round}", keys[1]),
                format!("STRLEN {}", keys[0]),
            ]);
        }
        for client in &clients {
            client.expect("+OK\r\n+OK\r\n:300\r\n");
        }
    }
    for shard in [0, 1] {
        assert_eq!(world.ask(shard, |shard| shard.inflight_bytes()), 0);
    }
}
