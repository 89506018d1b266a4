//! What a connection has set, while its commands go to all shards.

use crate::support::{is_other_server, keys_per_shard, run, start};
use moon_harness::{Client, FsyncPolicy, Reply};

const SHARDS: u16 = 4;

/// One line of CLIENT INFO as its fields.
fn fields(client: &mut Client, names: &[&str]) -> String {
    let text = client.run("CLIENT INFO").unwrap().text().unwrap();
    let all = text.split_whitespace();
    let chosen = all.filter(|field| {
        let name = field.split('=').next().unwrap_or_default();
        names.contains(&name)
    });
    chosen.collect::<Vec<_>>().join(" ")
}

/// The next reply that is no message.
fn reply(client: &mut Client, line: &str, messages: &mut usize) -> Reply {
    client.queue(&line.split(' ').collect::<Vec<_>>());
    client.flush().unwrap();
    loop {
        match client.read_reply().unwrap() {
            Reply::Push(_) => *messages += 1,
            reply => return reply,
        }
    }
}

/// Scenario 211: its data moves from thread to thread, the connection does not; database, name,
/// protocol, login, subscription, watched keys and an open transaction are as they were left.
#[test]
fn a_connection_keeps_what_it_set_wherever_its_commands_run() {
    if is_other_server() {
        return;
    }
    let server = start(SHARDS, FsyncPolicy::Everysec);
    let keys = keys_per_shard(SHARDS, 1).concat();
    assert!(run(&server, "CONFIG SET requirepass secret").is_ok());
    let other = || {
        let mut other = server.client().unwrap();
        assert!(other.run("AUTH secret").unwrap().is_ok());
        other
    };
    let names = ["id", "name", "db", "sub", "resp", "multi"];
    // As many connections as shards: each begins on another one.
    for number in 0..SHARDS {
        let mut client = server.client().unwrap();
        let refused = client.run("GET k").unwrap().error().unwrap();
        assert!(refused.starts_with("NOAUTH"), "{refused}");
        let mut messages = 0;
        for line in [
            "HELLO 3 AUTH default secret",
            &format!("CLIENT SETNAME c{number}"),
            "SELECT 3",
        ] {
            assert!(client.run(line).unwrap().error().is_none(), "{line}");
        }
        client.run("SUBSCRIBE news").unwrap();
        let before = fields(&mut client, &names);
        let expected = format!("name=c{number} db=3 sub=1 multi=-1 resp=3");
        assert!(before.ends_with(&expected), "{before}");

        // A transaction over all shards, watched on all of them, with others in between.
        let watch = format!("WATCH {}", keys.join(" "));
        assert!(reply(&mut client, &watch, &mut messages).is_ok());
        assert!(reply(&mut client, "MULTI", &mut messages).is_ok());
        for key in &keys {
            let queued = reply(&mut client, &format!("INCR {key}"), &mut messages);
            assert_eq!(format!("{queued:?}"), "+QUEUED");
            // The same names in database 0 are not what is watched.
            let mut other = other();
            assert!(other.run(&format!("SET {key} x")).unwrap().is_ok());
            assert_eq!(other.run("PUBLISH news n").unwrap(), Reply::Int(1));
        }
        let all = i64::from(number) + 1;
        let done = reply(&mut client, "EXEC", &mut messages);
        assert_eq!(done, Reply::Array(vec![Reply::Int(all); keys.len()]));

        // A watch on one shard, broken from another connection while a wait is served from there.
        assert!(reply(&mut client, &watch, &mut messages).is_ok());
        let mut third = other();
        third.run("SELECT 3").unwrap();
        third.run(&format!("SET {} {all}", keys[2])).unwrap();
        assert!(reply(&mut client, "MULTI", &mut messages).is_ok());
        reply(&mut client, &format!("INCR {}", keys[0]), &mut messages);
        assert_eq!(reply(&mut client, "EXEC", &mut messages), Reply::Null);
        let lists: Vec<String> = keys.iter().map(|key| format!("{key}:l")).collect();
        client.queue(
            &[
                &["BLPOP"],
                &*lists.iter().map(String::as_str).collect::<Vec<_>>(),
                &["0"],
            ]
            .concat(),
        );
        client.flush().unwrap();
        third.run(&format!("RPUSH {} e", lists[3])).unwrap();
        let popped = reply(&mut client, "PING", &mut messages);
        assert_eq!(format!("{popped:?}"), format!(r#"["{}", "e"]"#, lists[3]));
        assert_eq!(format!("{:?}", client.read_reply().unwrap()), "+PONG");

        assert_eq!(fields(&mut client, &names), before);
        for key in &keys {
            let value = reply(&mut client, &format!("GET {key}"), &mut messages);
            assert_eq!(value, Reply::bulk(all.to_string()), "database 3");
        }
        assert_eq!(messages, keys.len(), "each message once");
    }
}
