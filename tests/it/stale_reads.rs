//! What the others know when a writer has its answer: whoever cached the key, and whoever listens to
//! it, has been told. So one who hears of the write by another way, and asks the server anything, is
//! not left with an old value.

use crate::support::{keys_per_shard, start};
use moon_harness::{Client, FsyncPolicy, Reply, Server};

const ROUNDS: usize = 240;

/// A connection of RESP3 that has said `lines`.
fn client(server: &Server, lines: &[&str]) -> Client {
    let mut client = server.client().unwrap();
    for line in ["HELLO 3"].iter().chain(lines) {
        let reply = client.run(line).unwrap();
        assert!(reply.error().is_none(), "{line}: {reply:?}");
    }
    client
}

/// What is pushed to a client before the answer to its next request.
fn told(client: &mut Client) -> String {
    client.queue(&["ECHO", "end"]);
    client.flush().unwrap();
    let mut pushed = String::new();
    loop {
        match client.read_reply().unwrap() {
            Reply::Push(items) => pushed += &format!("{items:?}\n"),
            reply => {
                assert_eq!(reply, Reply::bulk("end"));
                return pushed;
            }
        }
    }
}

/// Ways to change `key`, `other` being a key of some other shard; each is answered with its last
/// reply.
fn ways(key: &str, other: &str) -> [Vec<String>; 7] {
    let one = |line: String| vec![line];
    let multi = |lines: &[String]| {
        let mut all = vec!["MULTI".to_owned()];
        all.extend(lines.iter().cloned());
        all.push("EXEC".to_owned());
        all
    };
    [
        one(format!("SET {key} v")),
        one(format!("MSET {other} v {key} v")),
        multi(&[format!("SET {key} v")]),
        multi(&[format!("SET {other} v"), format!("SET {key} v")]),
        one(format!(
            "EVAL return(redis.call('SET',KEYS[2],'v')) 2 {other} {key}"
        )),
        one(format!("PEXPIRE {key} 1000000")),
        one(format!("COPY {other} {key} REPLACE")),
    ]
}

#[test]
fn caches_and_listeners_are_told_before_the_writer_is_answered() {
    for (shards, policy) in [
        (1, FsyncPolicy::Everysec),
        (4, FsyncPolicy::Everysec),
        (4, FsyncPolicy::Always),
    ] {
        eprintln!("shards {shards}, {policy}");
        let server = start(shards, policy);
        let keys = keys_per_shard(shards, 4).concat();
        let mut writers: Vec<Client> = (0..5).map(|_| client(&server, &[])).collect();
        for key in &keys {
            writers[0].run(&format!("SET {key} v")).unwrap();
        }
        writers[0]
            .run("CONFIG SET notify-keyspace-events KA")
            .unwrap();
        // Connections of each kind on all shards.
        let of_kind =
            |line: &str| -> Vec<Client> { (0..shards).map(|_| client(&server, &[line])).collect() };
        let mut readers = of_kind("CLIENT TRACKING ON");
        let mut broadcast = of_kind("CLIENT TRACKING ON BCAST");
        let mut listeners = of_kind("PSUBSCRIBE __keyspace@0__:*");
        for round in 0..ROUNDS {
            let key = &keys[round % keys.len()];
            let other = &keys[(round * 7 + 3) % keys.len()];
            if key == other {
                continue;
            }
            for reader in &mut readers {
                assert_eq!(reader.run(&format!("GET {key}")).unwrap(), Reply::bulk("v"));
            }
            let ways = ways(key, other);
            let lines = &ways[round / keys.len() % ways.len()];
            let replies = writers[round % 5].pipeline(lines).unwrap();
            let last = replies.last().unwrap();
            assert!(last.error().is_none(), "{lines:?}: {replies:?}");
            let clients = readers.iter_mut().map(|client| (client, "a cache"));
            let clients = clients.chain(broadcast.iter_mut().map(|c| (c, "a broadcast")));
            let clients = clients.chain(listeners.iter_mut().map(|c| (c, "a listener")));
            for (client, who) in clients {
                let told = told(client);
                let wanted = match who {
                    "a listener" => format!("\"__keyspace@0__:{key}\""),
                    _ => format!("\"{key}\""),
                };
                assert!(
                    told.contains(&wanted),
                    "round {round}: {who} knew nothing of {lines:?}: {told:?}"
                );
            }
        }
    }
}
