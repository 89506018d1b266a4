//! A shard that stands still, or whose log does: others wait for it, and nothing is answered in
//! part, given up or done twice.

use crate::world::World;
use std::sync::mpsc;

/// Scenario 207: no reply is an error because another shard takes long, and a request is not sent
/// to it a second time.
#[test]
fn what_a_stalled_shard_was_asked_is_done_once_and_answered_when_it_goes_on() {
    let world = World::new(2);
    let (a, b) = (world.key(0, "a"), world.key(1, "b"));
    let (patient, gone, other) = (world.client(0), world.client(0), world.client(0));
    let (go_on, stalled) = mpsc::channel::<()>();
    world.run(1, move |_| stalled.recv().unwrap_or_default());
    patient.pipeline(&[
        format!("INCR {b}"),
        format!("INCR {a}"),
        format!("MSET {a} 10 {b} 10"),
        format!("INCR {b}"),
    ]);
    gone.send(&format!("INCRBY {b} 100"));
    gone.close();
    // The shard that runs serves whoever needs it alone.
    other.call("ECHO hi", "$2\r\nhi\r\n");
    other.call(&format!("APPEND {a}x 1"), ":1\r\n");
    for _ in 0..50 {
        other.call(&format!("GET {a}x"), "$1\r\n1\r\n");
    }
    assert_eq!(
        patient.left(),
        "",
        "the first reply is of the stalled shard"
    );
    go_on.send(()).unwrap();
    patient.expect(":1\r\n:1\r\n+OK\r\n:11\r\n");
    let end = world.client(1);
    end.send(&format!("GET {b}"));
    // What the client that went away had sent counts once, before or after MSET.
    let found = end.wait_lines(2);
    assert!(
        ["$2\r\n11\r\n", "$3\r\n111\r\n"].contains(&&found[..]),
        "{found}"
    );
}

/// Scenario 123: the log of one shard stands still, and the transaction goes into the file of
/// another. It is not answered, and shown to nobody, while a part of the history before it may go.
#[test]
fn a_transaction_is_not_answered_while_the_log_of_one_of_its_shards_stands_still() {
    let world = World::new(3);
    let (a, b) = (world.key(0, "a"), world.key(1, "b"));
    let (early, writer, reader) = (world.client(1), world.client(0), world.client(2));
    world.disks[1].hold();
    early.send(&format!("SET {b} early"));
    world.settle();
    writer.transaction(&[format!("SET {a} 1"), format!("SET {b} 1")]);
    world.settle();
    assert_eq!(world.disks[0].held(), 0, "its own frame is written");
    reader.send(&format!("GET {a}"));
    world.settle();
    assert_eq!((writer.left(), reader.left()), Default::default());
    world.disks[1].release();
    early.expect("+OK\r\n");
    writer.expect("+OK\r\n+OK\r\n");
    reader.expect("$1\r\n1\r\n");
    let last = world.history().pop().unwrap();
    let payload = String::from_utf8_lossy(&last.payload).into_owned();
    assert!(
        payload.contains("MULTI") && payload.contains("EXEC"),
        "{payload}"
    );
}
