//! Scripts that take long: those who wait for them, and how the server stops.

use crate::scripts::{BUSY, wait_busy};
use crate::support::{is_other_server, keys_per_shard, run, script, start};
use moon_harness::{Client, FsyncPolicy, Reply, Server};
use nix::sys::signal::Signal;
use std::time::Duration;

const ENDLESS: &str = "redis.call('GET', 'x') while true do end";
const ENDLESS_WRITE: &str = "redis.call('SET', 'x', 'half') while true do end";

/// A client that has sent a script.
fn runs(server: &Server, script: &str) -> Client {
    let mut client = server.client().unwrap();
    client.queue(&["EVAL", script, "1", "x"]);
    client.flush().unwrap();
    client
}

/// A client whose request is not answered: the script has the data. `None` if it has for long.
fn unanswered(server: &Server, key: &str) -> Option<Client> {
    loop {
        let mut client = server.client().unwrap();
        client.queue(&["GET", key]);
        client.flush().unwrap();
        client.set_read_timeout(Duration::from_millis(400)).unwrap();
        match client.read_reply() {
            Err(_) => return Some(client),
            Ok(reply) if reply.error().is_some() => return None,
            Ok(_) => {}
        }
    }
}

/// Scenario 134. What came before it was known that a script takes long waits for its data, on its
/// way to whatever shard; it hears BUSY like what comes later.
#[test]
fn who_waits_for_a_script_hears_that_it_takes_long() {
    if is_other_server() {
        return;
    }
    for shards in [1, 3] {
        let server = start(shards, FsyncPolicy::Everysec);
        let mut admin = server.client().unwrap();
        let keys = keys_per_shard(shards, 1).concat();
        let all = keys.join(" ");
        let mut lines: Vec<String> = Vec::new();
        for key in &keys {
            lines.push(format!("GET {key}"));
            lines.push(format!("INCR count:{key}"));
            lines.push(format!("BLPOP list:{key} 1"));
            lines.push(format!("EVAL return{{}} 1 {key}"));
        }
        lines.extend([
            format!("MGET {all}"),
            format!("BLPOP {all} 1"),
            format!("DEL {all}"),
            "DBSIZE".to_owned(),
            "FUNCTION FLUSH".to_owned(),
            "FUNCTION LIST".to_owned(),
            "CONFIG GET maxmemory".to_owned(),
        ]);
        script(&mut admin, "CONFIG SET busy-reply-threshold 2000");
        let mut clients: Vec<Client> = lines.iter().map(|_| server.client().unwrap()).collect();
        // Its queue is there already, over all shards and over one.
        let mut transactions: Vec<Client> = (0..2).map(|_| server.client().unwrap()).collect();
        for (client, number) in transactions.iter_mut().zip([1, keys.len()]) {
            script(client, "MULTI");
            for key in &keys[..number] {
                client.run(&format!("INCR {key}")).unwrap();
            }
        }
        let mut endless = runs(&server, ENDLESS);
        let probe = unanswered(&server, &keys[0]);
        for (client, line) in clients.iter_mut().zip(&lines) {
            // The second is behind the first wherever that waits.
            client.queue(&line.split(' ').collect::<Vec<_>>());
            client.queue(&["PING"]);
            client.flush().unwrap();
        }
        for client in &mut transactions {
            client.queue(&["EXEC"]);
            client.flush().unwrap();
        }
        if let Some(mut probe) = probe {
            probe.set_read_timeout(Duration::from_secs(20)).unwrap();
            let reply = probe.read_reply().unwrap();
            assert_eq!(reply.error().as_deref(), Some(BUSY));
        }
        let mut refused = 0;
        for (client, line) in clients.iter_mut().zip(&lines) {
            let reply = client.read_reply().unwrap();
            refused += u32::from(reply.error().as_deref() == Some(BUSY));
            let text = format!("{reply:?}");
            assert!(!text.contains("ERR"), "{line}: {text}");
            let behind = client.read_reply().unwrap();
            let is_pong = format!("{behind:?}") == "+PONG";
            assert!(
                is_pong || behind.error().as_deref() == Some(BUSY),
                "{behind:?}"
            );
        }
        let expected = lines.len() / 2;
        assert!(refused as usize > expected, "{refused} of {}", lines.len());
        for client in &mut transactions {
            let text = client.read_reply().unwrap().error().unwrap();
            assert_eq!(
                text,
                format!("EXECABORT Transaction discarded because of: {BUSY}")
            );
        }
        assert!(admin.run("SCRIPT KILL").unwrap().is_ok());
        assert!(endless.read_reply().unwrap().error().is_some());
        // What had been lent for those who gave up is home again.
        script(&mut admin, "CONFIG SET busy-reply-threshold 5000");
        let reply = admin.run(&format!("MGET {all}")).unwrap();
        assert!(
            reply
                .items()
                .unwrap()
                .iter()
                .all(|item| *item == Reply::Null),
            "{reply:?}"
        );
    }
}

/// Scenarios 19 and 134: with a snapshot to be written at the stop and without.
#[test]
fn a_stop_ends_a_script_that_has_written_nothing() {
    if is_other_server() {
        return;
    }
    for (shards, save) in [(1, ""), (3, ""), (1, "1000 1"), (3, "1000 1")] {
        let mut server = start(shards, FsyncPolicy::Everysec);
        let mut admin = server.client().unwrap();
        script(&mut admin, "SET x 1\n CONFIG SET busy-reply-threshold 50");
        let set = ["CONFIG", "SET", "save", save];
        assert!(admin.command(&set).unwrap().is_ok());
        let mut endless = runs(&server, ENDLESS);
        assert_eq!(wait_busy(&mut admin), BUSY);
        server.signal(Signal::SIGTERM).unwrap();
        assert!(endless.read_reply().unwrap().error().is_some());
        assert!(server.wait_exit(Duration::from_secs(20)).unwrap().success());
        server.restart().unwrap();
        assert_eq!(run(&server, "GET x"), Reply::bulk("1"));
    }
}

/// Scenario 134. As in Redis the stop waits for it, and says so; until somebody insists.
#[test]
fn a_stop_waits_for_a_script_that_has_written_until_somebody_insists() {
    if is_other_server() {
        return;
    }
    for (shards, save, insists) in [
        (1, "", "SIGTERM"),
        (3, "1000 1", "SIGTERM"),
        (3, "", "SHUTDOWN NOSAVE"),
        (1, "1000 1", "SHUTDOWN NOSAVE"),
    ] {
        let mut server = start(shards, FsyncPolicy::Everysec);
        let mut admin = server.client().unwrap();
        script(&mut admin, "SET x 1\n CONFIG SET busy-reply-threshold 50");
        let set = ["CONFIG", "SET", "save", save];
        assert!(admin.command(&set).unwrap().is_ok());
        let _endless = runs(&server, ENDLESS_WRITE);
        assert_eq!(wait_busy(&mut admin), BUSY);
        server.signal(Signal::SIGTERM).unwrap();
        while !server.log().contains("Waiting for the script") {
            assert_eq!(wait_busy(&mut admin), BUSY);
        }
        if insists == "SIGTERM" {
            server.signal(Signal::SIGTERM).unwrap();
        } else {
            admin.queue(&["SHUTDOWN", "NOSAVE"]);
            admin.flush().unwrap();
        }
        assert!(server.wait_exit(Duration::from_secs(20)).unwrap().success());
        server.restart().unwrap();
        assert_eq!(
            run(&server, "GET x"),
            Reply::bulk("1"),
            "{shards} {save} {insists}"
        );
    }
}

/// One that ends by itself while the server waits for it is there as a whole.
#[test]
fn a_script_that_the_stop_waited_for_is_kept() {
    if is_other_server() {
        return;
    }
    for shards in [1, 3] {
        let mut server = start(shards, FsyncPolicy::Everysec);
        let mut admin = server.client().unwrap();
        script(&mut admin, "CONFIG SET busy-reply-threshold 20");
        let slow = "redis.call('SET', 'x', 'half') local t = 0 \
                    for i = 1, 60000000 do t = t + i end \
                    redis.call('SET', 'x', 'whole') return 1";
        let mut client = runs(&server, slow);
        assert_eq!(wait_busy(&mut admin), BUSY);
        server.signal(Signal::SIGTERM).unwrap();
        assert_eq!(client.read_reply().unwrap(), Reply::Int(1));
        assert!(server.wait_exit(Duration::from_secs(20)).unwrap().success());
        server.restart().unwrap();
        assert_eq!(run(&server, "GET x"), Reply::bulk("whole"));
    }
}
