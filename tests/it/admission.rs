//! Who gets in when there are as many clients as there may be.

use crate::support::{config, info, is_other_server, script, start, temp_dir};
use moon_harness::{Client, FsyncPolicy, Reply, Server};
use std::time::{Duration, Instant};

/// Scenario 210: a connection that is there already can make room for others.
#[test]
fn an_administrator_who_is_in_can_let_others_in() {
    for shards in [1, 3] {
        let server = start(shards, FsyncPolicy::Everysec);
        let mut admin = server.client().unwrap();
        let mut idle = server.client().unwrap();
        idle.run("PING").unwrap();
        script(&mut admin, "CONFIG SET maxclients 2\n CONFIG RESETSTAT");
        let refused = "-ERR max number of clients reached\r\n";
        for _ in 0..3 {
            let text = server.client().unwrap().read_to_close().unwrap();
            assert_eq!(String::from_utf8(text).unwrap(), refused);
        }
        assert_eq!(info(&mut admin, "rejected_connections"), "3");
        script(&mut admin, "CLIENT KILL TYPE normal => :1");
        assert!(idle.read_to_close().unwrap().is_empty());
        let mut next = until_let_in(server.address());
        assert!(server.client().unwrap().read_to_close().is_ok());
        script(&mut admin, "CONFIG SET maxclients 100");
        script(&mut server.client().unwrap(), "PING => +PONG");
        script(&mut next, "PING => +PONG");
    }
}

/// The place of a client that was closed is free a moment later.
fn until_let_in(address: std::net::SocketAddr) -> Client {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let mut client = Client::connect(address).unwrap();
        if client
            .run("PING")
            .is_ok_and(|reply| reply.error().is_none())
        {
            return client;
        }
        assert!(Instant::now() < deadline, "nobody is let in");
    }
}

/// Scenario 210: all places are taken while the server recovers. Whoever is in stays in and can make
/// room afterwards; who comes too late hears why.
#[test]
fn places_that_are_taken_during_recovery_are_kept_and_can_be_freed() {
    const PLACES: usize = 4;
    if is_other_server() {
        return;
    }
    let dir = temp_dir();
    let limit = PLACES.to_string();
    let config = config(&dir).shards(2).append(FsyncPolicy::No);
    let config = config.arg("--maxclients").arg(limit);
    let mut server = Server::start(config).unwrap();
    let mut client = server.client().unwrap();
    let value = "v".repeat(100);
    for chunk in 0..200 {
        let sets: Vec<String> = (0..1000)
            .map(|n| format!("SET key:{chunk}:{n} {value}"))
            .collect();
        assert!(client.pipeline(&sets).unwrap().iter().all(Reply::is_ok));
    }
    server.kill9().unwrap();
    server.respawn().unwrap();
    let mut inside: Vec<Client> = Vec::new();
    let mut told_to_wait = 0;
    while inside.len() < PLACES {
        let Ok(mut client) = Client::connect(server.address()) else {
            std::thread::yield_now();
            continue;
        };
        let reply = client.run("PING").unwrap();
        told_to_wait += usize::from(reply.error().is_some_and(|e| e.starts_with("LOADING")));
        inside.push(client);
    }
    // Beyond them nobody is let in, before and after the end of the recovery.
    let refused = "-ERR max number of clients reached\r\n";
    let mut is_loading = true;
    for round in 0.. {
        let text = server.client().unwrap().read_to_close().unwrap();
        assert_eq!(String::from_utf8(text).unwrap(), refused, "round {round}");
        if !is_loading {
            break;
        }
        let reply = inside[0].run("GET key:199:999").unwrap();
        is_loading = reply.error().is_some_and(|e| e.starts_with("LOADING"));
        assert!(is_loading || reply == Reply::bulk(&value), "{reply:?}");
    }
    eprintln!("{told_to_wait} of {PLACES} were there before the recovery ended");
    let mut admin = inside.swap_remove(0);
    script(
        &mut admin,
        "DBSIZE => :200000\n CLIENT KILL TYPE normal => :3",
    );
    for client in &mut inside {
        assert!(client.read_to_close().unwrap().is_empty());
    }
    let mut next = until_let_in(server.address());
    script(&mut next, "CONFIG SET maxclients 100");
    script(&mut server.client().unwrap(), "PING => +PONG");
    script(&mut admin, "PING => +PONG");
}
