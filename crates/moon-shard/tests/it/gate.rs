//! What leaves a gate, and when: ack after append, no dirty reads, one history, order.

use crate::world::World;
use moon_repl::FrameKind;

#[test]
fn a_write_is_answered_only_when_its_frame_is_committed() {
    let world = World::new(1);
    let client = world.client(0);
    world.disks[0].hold();
    client.send("SET a 1");
    world.settle();
    assert_eq!(world.disks[0].held(), 1, "the frame is issued");
    assert_eq!(client.left(), "");
    world.disks[0].release();
    client.expect("+OK\r\n");
}

#[test]
fn a_read_of_a_dirty_key_waits_and_a_clean_read_does_not() {
    let world = World::new(2);
    let [dirty, missing, clean] = ["dirty", "missing", "clean"].map(|name| world.key(0, name));
    let writer = world.client(0);
    writer.call(&format!("MSET {missing} 1 {clean} 1"), "+OK\r\n");
    world.disks[0].hold();
    writer.pipeline(&[format!("SET {dirty} new"), format!("DEL {missing}")]);
    world.settle();
    // On the same shard and from another one.
    for home in [0, 1] {
        let readers = [&dirty, &missing].map(|key| {
            let reader = world.client(home);
            reader.send(&format!("GET {key}"));
            reader
        });
        let clean_reader = world.client(home);
        clean_reader.call(&format!("GET {clean}"), "$1\r\n1\r\n");
        world.settle();
        assert_eq!(readers[0].left(), "", "present");
        assert_eq!(readers[1].left(), "", "missing");
        // An error shows the key too.
        let failing = world.client(home);
        failing.send(&format!("LPUSH {dirty} x"));
        world.settle();
        assert_eq!(failing.left(), "", "an error reply");
        if home == 1 {
            world.disks[0].release();
            readers[0].expect("$3\r\nnew\r\n");
            readers[1].expect("$-1\r\n");
            failing
                .expect("-WRONGTYPE Operation against a key holding the wrong kind of value\r\n");
        }
    }
    writer.expect("+OK\r\n:1\r\n");
}

#[test]
fn a_read_in_the_turn_of_its_write_waits_for_that_turn() {
    let world = World::new(1);
    let (client, other) = (world.client(0), world.client(0));
    world.disks[0].hold();
    world.settle();
    let senders = (client.clone(), other.clone());
    world.run(0, move |_| {
        senders.0.pipeline(&["SET a 1", "GET a", "GET none"]);
        senders.1.send("GET a");
    });
    world.settle();
    assert_eq!((client.left(), other.left()), Default::default());
    assert_eq!(world.disks[0].held(), 1);
    world.disks[0].release();
    client.expect("+OK\r\n$1\r\n1\r\n$-1\r\n");
    other.expect("$1\r\n1\r\n");
}

/// The crash image: a frame over two shards lies in the file of one of them; a read on the other
/// must not show it before that file has it.
#[test]
fn a_dirty_key_waits_for_the_frame_in_another_shards_file() {
    let world = World::new(2);
    let (a, b) = (world.key(0, "a"), world.key(1, "b"));
    world.disks[0].hold();
    let writer = world.client(0);
    writer.send(&format!("MSET {a} 1 {b} 1"));
    world.settle();
    assert_eq!(
        world.disks[0].held(),
        1,
        "the frame is in the executor's file"
    );
    let (reader, elsewhere) = (world.client(1), world.client(1));
    reader.send(&format!("GET {b}"));
    elsewhere.call(&format!("GET {}", world.key(1, "c")), "$-1\r\n");
    world.settle();
    assert_eq!((reader.left(), writer.left()), Default::default());
    world.disks[0].release();
    reader.expect("$1\r\n1\r\n");
    writer.expect("+OK\r\n");
}

#[test]
fn commands_without_keys_wait_for_every_write_they_may_show() {
    let world = World::new(2);
    let (a, b) = (world.key(0, "a"), world.key(1, "b"));
    let reader = world.client(1);
    reader.call("DBSIZE", ":0\r\n");
    world.disks[0].hold();
    let writer = world.client(0);
    writer.send(&format!("SET {a} 1"));
    world.settle();
    reader.send("DBSIZE");
    let other = world.client(1);
    other.call(&format!("GET {b}"), "$-1\r\n");
    world.settle();
    assert_eq!(reader.left(), "");
    world.disks[0].release();
    reader.expect(":1\r\n");
}

/// That a database is empty already may rest on a write that is not safe yet.
#[test]
fn a_flush_with_nothing_left_to_do_waits_for_what_emptied_the_database() {
    let world = World::new(2);
    let a = world.key(0, "a");
    let client = world.client(0);
    client.call(&format!("SET {a} 1"), "+OK\r\n");
    world.disks[0].hold();
    client.send(&format!("DEL {a}"));
    world.settle();
    let flushers = [world.client(0), world.client(1)];
    flushers[0].send("FLUSHDB");
    flushers[1].send("FLUSHALL");
    world.settle();
    assert_eq!(flushers[0].left(), "");
    assert_eq!(flushers[1].left(), "");
    world.disks[0].release();
    flushers[0].expect("+OK\r\n");
    flushers[1].expect("+OK\r\n");
    client.expect(":1\r\n");
}

#[test]
fn replies_keep_their_order_around_other_shards() {
    let world = World::new(3);
    let keys: Vec<String> = (0..60).map(|i| world.key(i % 3, &i.to_string())).collect();
    let client = world.client(1);
    let mut expected = String::new();
    let mut pipeline = Vec::new();
    for (i, key) in keys.iter().enumerate() {
        pipeline.push(format!("SET {key} {i}"));
        expected.push_str("+OK\r\n");
        pipeline.push(format!("GET {key}"));
        expected.push_str(&format!("${}\r\n{i}\r\n", i.to_string().len()));
        if i % 20 == 19 {
            pipeline.push(format!("MGET {} {} nokey", keys[i], keys[i - 1]));
            expected.push_str(&format!("*3\r\n$2\r\n{i}\r\n$2\r\n{}\r\n$-1\r\n", i - 1));
        }
    }
    for disk in &world.disks {
        disk.hold();
    }
    client.pipeline(&pipeline);
    for shard in [2, 0, 1] {
        world.settle();
        world.disks[shard].release();
    }
    client.expect(&expected);
}

/// One history: what shard 1 wrote later is not acknowledged while a frame that shard 0 issued
/// earlier may still be lost.
#[test]
fn a_slow_shard_holds_up_the_acks_of_all() {
    let world = World::new(2);
    let (slow, fast) = (world.client(0), world.client(1));
    let (a, b) = (world.key(0, "a"), world.key(1, "b"));
    world.disks[0].hold();
    slow.send(&format!("SET {a} 1"));
    world.settle();
    fast.send(&format!("SET {b} 1"));
    world.settle();
    assert_eq!(world.disks[1].held(), 0, "shard 1 has done its part");
    assert_eq!(fast.left(), "");
    world.disks[0].release();
    fast.expect("+OK\r\n");
    slow.expect("+OK\r\n");
}

#[test]
fn an_earlier_ack_does_not_wait_for_a_later_frame() {
    let world = World::new(2);
    let (a, b) = (world.key(0, "a"), world.key(1, "b"));
    world.disks[0].hold();
    world.disks[1].hold();
    let (first, second) = (world.client(0), world.client(1));
    first.send(&format!("SET {a} 1"));
    world.settle();
    second.send(&format!("SET {b} 1"));
    world.settle();
    world.disks[0].release_one();
    first.expect("+OK\r\n");
    world.settle();
    assert_eq!(second.left(), "");
    world.disks[1].release_one();
    second.expect("+OK\r\n");
}

#[test]
fn a_log_that_cannot_append_refuses_new_writes_everywhere_and_keeps_the_old_ones() {
    let world = World::new(2);
    let (a, b) = (world.key(0, "a"), world.key(1, "b"));
    let (writer, other) = (world.client(0), world.client(1));
    world.disks[0].fail();
    writer.send(&format!("SET {a} 1"));
    world.settle();
    assert_eq!(writer.left(), "");
    let misconf = "-MISCONF Errors writing to the AOF file: No space left on device\r\n";
    other.call(&format!("SET {b} 1"), misconf);
    other.call(&format!("MSET {a} 2 {b} 2"), misconf);
    other.call(&format!("GET {b}"), "$-1\r\n");
    world.disks[0].release();
    writer.expect("+OK\r\n");
    // The next tick sees that the log works again.
    world.eventually(1, |shard| shard.refuses_writes().is_none());
    other.call(&format!("SET {b} 3"), "+OK\r\n");
    other.call(&format!("GET {a}"), "$1\r\n1\r\n");
}

/// A client that goes away takes nothing with it: what it wrote stays, and nothing of it counts
/// against the shard afterwards.
#[test]
fn a_client_that_goes_away_leaves_its_writes_and_no_debt() {
    let world = World::new(2);
    let (a, b) = (world.key(0, "a"), world.key(1, "b"));
    world.disks[0].hold();
    world.disks[1].hold();
    let client = world.client(0);
    client.pipeline(&[
        format!("SET {a} 1"),
        format!("SET {b} 1"),
        format!("SET {a} 2"),
        format!("GET {b}"),
    ]);
    client.close();
    world.settle();
    world.release_all();
    world.settle();
    assert_eq!(client.left(), "", "nothing reaches a client that has gone");
    for shard in [0, 1] {
        assert_eq!(world.ask(shard, |shard| shard.inflight_bytes()), 0);
    }
    let reader = world.client(1);
    reader.call(&format!("MGET {a} {b}"), "*2\r\n$1\r\n2\r\n$1\r\n1\r\n");
}

/// Clients that come, look at a dirty key and go while the disk is stuck leave nothing behind.
#[test]
fn a_client_that_went_away_is_not_waited_for() {
    let world = World::new(1);
    world.disks[0].hold();
    let writer = world.client(0);
    writer.send("SET a 1");
    world.settle();
    let readers = [0; 3].map(|_| {
        let reader = world.client(0);
        reader.send("GET a");
        reader
    });
    world.settle();
    for client in readers.iter().chain([&writer]) {
        assert_eq!(client.left(), "");
        client.close();
    }
    world.settle();
    assert!(world.ask(0, |shard| shard.is_quiet()));
    world.disks[0].release();
    world.client(0).call("GET a", "$1\r\n1\r\n");
}

#[test]
fn a_turn_is_one_frame_whoever_wrote_in_it() {
    let world = World::new(1);
    let clients: Vec<_> = (0..20).map(|_| world.client(0)).collect();
    world.settle();
    // All of them become ready on the shard's own thread, as sockets do.
    let senders = clients.clone();
    world.run(0, move |_| {
        for (i, client) in senders.iter().enumerate() {
            client.send(&format!("SET {i} x"));
        }
    });
    for client in &clients {
        client.expect("+OK\r\n");
    }
    let history = world.history();
    assert_eq!(history.len(), 1);
    assert!(history.iter().all(|frame| frame.kind == FrameKind::Own));
}

/// What a monitor is shown is no reply, and leaves like one: in order, and not before the write that
/// it tells of is committed.
#[test]
fn what_is_pushed_waits_for_what_it_shows() {
    let world = World::new(2);
    let key = world.key(0, "a");
    let (writer, listener) = (world.client(0), world.client(1));
    listener.call("GET nosuch", "$-1\r\n");
    world.disks[0].hold();
    writer.send(&format!("SET {key} 1"));
    world.settle();
    let end = world.ask(0, |shard| shard.clock().head());
    // Sessions are numbered in the order in which they begin.
    let unsent = world.ask(1, move |shard| {
        let first = shard.push_to(2, b"+first\r\n", moon_core::Lsn::ZERO);
        assert_eq!(first, Some(0), "nothing holds it");
        shard.push_to(2, b"+line\r\n", end);
        shard.push_to(99, b"+line\r\n", end)
    });
    assert_eq!(unsent, None, "nobody of that number");
    listener.expect("+first\r\n");
    world.settle();
    assert_eq!((writer.left(), listener.left()), Default::default());
    world.disks[0].release();
    listener.expect("+line\r\n");
    writer.expect("+OK\r\n");
}
