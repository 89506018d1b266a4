//! Who gets in when there are as many clients as there may be.

use crate::support::{info, script, start};
use moon_harness::{Client, FsyncPolicy};
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
