//! What a shard does unasked: expired keys go, and their going is in the history.

use crate::world::World;
use moon_store::Key;

/// Nobody asks for the keys; some are on a shard that no client is connected to.
#[test]
fn expired_keys_go_unasked_and_the_history_says_so() {
    let world = World::new(2);
    let client = world.client(0);
    let keys = [world.key(0, "a"), world.key(1, "b")];
    for key in &keys {
        client.call(&format!("SET {key} 1 PX 1"), "+OK\r\n");
    }
    for (shard, key) in keys.iter().enumerate() {
        let shard = u16::try_from(shard).unwrap();
        world.eventually(shard, |shard| {
            let Some(mut running) = shard.begin() else {
                return false;
            };
            running.data().dbs[0].is_empty()
        });
        world.settle();
        let deletion = format!("*2\r\n$3\r\nDEL\r\n${}\r\n{key}\r\n", key.len());
        let history = world.history();
        let mut own = history.iter().filter(|frame| frame.shard.0 == shard);
        assert!(
            own.any(|frame| *frame.payload == *deletion.as_bytes()),
            "{history:?}"
        );
    }
}

/// While the log cannot take a deletion, a key past its deadline is not shown, and stays.
#[test]
fn expiry_is_only_logical_while_the_log_fails() {
    let world = World::new(1);
    let (client, other) = (world.client(0), world.client(0));
    world.disks[0].fail();
    client.send("SET a 1 PX 1");
    world.settle();
    world.eventually(0, |shard| shard.refuses_writes().is_some());
    // Two ticks at least: the second sees what the first could have done.
    let started = std::time::Instant::now();
    world.eventually(0, move |_| started.elapsed().as_millis() > 250);
    other.send("GET a");
    world.settle();
    assert_eq!(world.disks[0].held(), 1, "nothing was added to the history");
    assert!(world.visit(0, |data| data.dbs[0].contains(Key::new(b"a"))));
    world.disks[0].release();
    client.expect("+OK\r\n");
    other.expect("$-1\r\n");
    world.eventually(0, |shard| {
        let Some(mut running) = shard.begin() else {
            return false;
        };
        running.data().dbs[0].is_empty()
    });
}
