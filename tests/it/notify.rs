//! Keyspace notifications from the outside.

use crate::support::{is_other_server, keys_per_shard, script};
use crate::told::{Side, compare};
use moon_harness::{Client, Reply};

/// Commands over one shard and several, alone, in pipelines and in transactions, and settings.
const STEPS: &str = "
    w: CONFIG GET notify-keyspace-events
    w: CONFIG SET notify-keyspace-events KQ
    w: CONFIG SET notify-keyspace-events Elm
    w: CONFIG GET notify-keyspace-events
    w: FLUSHALL
    s: PSUBSCRIBE __key*__:*
    w: SET k v
    w: RPUSH l a b
    w: GET none
    w: LPOP l 2
    w: CONFIG SET notify-keyspace-events KEA
    w: CONFIG GET notify-keyspace-events
    w: FLUSHALL
    w: SET k v EX 1000
    w: MSET a 1 b 2 c 3 d 4 e 5
    w: DEL a b none
    w: RENAME c f
    w: SADD s1 x y
    w: SADD s2 y z
    w: SINTERSTORE s3 s1 s2
    w: SUNIONSTORE s3 none1 none2
    w: LPUSH l1 x
    w: LMOVE l1 l2 LEFT RIGHT
    w: SELECT 3
    w: SET k v
    w: MOVE k 5
    w: SELECT 0
    w: COPY k k2 DB 7
    w: MULTI
    w: INCR n
    w: PUBLISH __keyspace@0__:n mine
    w: INCR n
    w: DEL n
    w: EXEC
    w: MULTI
    w: MSET g 1 h 2 i 3 j 4
    w: RENAME g g2
    w: ZADD z 1 m
    w: EXEC
    w: MULTI
    w: SET k v
    w: EVAL redis.call('SET',KEYS[1],'v')redis.call('PUBLISH','__keyspace@0__:n','mine') 1 k
    w: EXEC
    w: MULTI
    w: EVAL redis.call('DEL',KEYS[1]) 1 k
    w: EXEC
    w: INCR d
    w: LPUSH d x
    w: PEXPIREAT d 1
    w: FLUSHALL
    w: CONFIG SET notify-keyspace-events A
    w: FLUSHALL
    w: SET k v
    w: CONFIG SET notify-keyspace-events K
    w: FLUSHALL
    w: SET k v
";

#[test]
fn clients_are_told_what_those_of_redis_are_told() {
    compare(STEPS);
}

/// Connects a client that hears everything about keys, and one that does not.
fn listener(side: &Side, classes: &str) -> (Client, Client) {
    let mut writer = side.server.client().unwrap();
    script(
        &mut writer,
        &format!("CONFIG SET notify-keyspace-events {classes}\n FLUSHALL"),
    );
    let mut listener = side.server.client().unwrap();
    listener.run("PSUBSCRIBE __keyevent@*__:*").unwrap();
    (writer, listener)
}

/// The next message: the event and the key.
fn next(listener: &mut Client) -> (String, String) {
    let message = listener.read_reply().unwrap();
    let parts: Vec<String> = message
        .items()
        .into_iter()
        .flatten()
        .filter_map(Reply::text)
        .collect();
    let [_, _, channel, key] = &parts[..] else {
        panic!("no message: {message:?}");
    };
    let event = channel.rsplit(':').next().unwrap_or_default();
    (event.to_owned(), key.clone())
}

#[test]
fn keys_that_expire_unasked_and_keys_that_make_room_are_told_of() {
    if is_other_server() {
        return;
    }
    for shards in [1, 4] {
        let side = Side::tested(shards);
        let (mut writer, mut listener) = listener(&side, "Exeh");
        let keys: Vec<String> = keys_per_shard(shards, 5).concat();
        for key in &keys {
            writer.run(&format!("SET {key} v PX 1")).unwrap();
        }
        let mut expired: Vec<String> = keys
            .iter()
            .map(|_| {
                let (event, key) = next(&mut listener);
                assert_eq!(event, "expired");
                key
            })
            .collect();
        expired.sort();
        let mut expected = keys.clone();
        expected.sort();
        assert_eq!(expired, expected);

        writer.run("HSET h f v g w").unwrap();
        assert_eq!(next(&mut listener), ("hset".to_owned(), "h".to_owned()));
        writer.run("HPEXPIRE h 1 FIELDS 1 f").unwrap();
        assert_eq!(next(&mut listener), ("hexpire".to_owned(), "h".to_owned()));
        assert_eq!(next(&mut listener), ("hexpired".to_owned(), "h".to_owned()));

        script(&mut writer, "CONFIG SET maxmemory-policy allkeys-random");
        for key in &keys {
            writer.run(&format!("SET {key} v")).unwrap();
        }
        script(&mut writer, "CONFIG SET maxmemory 1");
        let (event, _) = next(&mut listener);
        assert_eq!(event, "evicted");
    }
}

/// Events of one client's commands come in the order of the commands, whatever the shards.
#[test]
fn events_come_in_the_order_of_the_commands() {
    if is_other_server() {
        return;
    }
    let side = Side::tested(4);
    let (mut writer, mut listener) = listener(&side, "E$");
    let keys: Vec<String> = keys_per_shard(4, 50).concat();
    for key in &keys {
        writer.run(&format!("SET {key} v")).unwrap();
    }
    for key in &keys {
        assert_eq!(next(&mut listener), ("set".to_owned(), key.clone()));
    }
}

#[test]
fn replay_tells_nothing() {
    if is_other_server() {
        return;
    }
    let mut side = Side::tested(2);
    let mut writer = side.server.client().unwrap();
    writer.run("SET k v").unwrap();
    side.server.kill9().unwrap();
    side.server.restart().unwrap();
    let (mut writer, mut listener) = listener(&side, "KEA");
    writer.run("SET after v").unwrap();
    assert_eq!(next(&mut listener), ("set".to_owned(), "after".to_owned()));
}
