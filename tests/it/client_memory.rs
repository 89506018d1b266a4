//! What clients hold is known, and those who hold too much go.

use crate::support::{is_other_server, start};
use moon_harness::{Client, FsyncPolicy, Server};
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;

fn server(shards: u16) -> Option<Server> {
    (!is_other_server()).then(|| start(shards, FsyncPolicy::Everysec))
}

fn named(server: &Server, name: &str) -> Client {
    let mut client = server.client().unwrap();
    let reply = client.run(&format!("CLIENT SETNAME {name}")).unwrap();
    assert!(reply.is_ok());
    client
}

/// A field of CLIENT LIST of the client of this name; `None` if there is none.
fn field(observer: &mut Client, name: &str, field: &str) -> Option<u64> {
    let list = observer.run("CLIENT LIST").unwrap().text().unwrap();
    let line = list
        .lines()
        .find(|line| line.contains(&format!(" name={name} ")))?;
    let value = line
        .split(' ')
        .find_map(|word| word.strip_prefix(&format!("{field}=")));
    Some(value.expect(field).parse().expect("a number"))
}

fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < Duration::from_secs(20), "never: {what}");
        std::thread::yield_now();
    }
}

/// The head of a request with one argument of `len` bytes, and `sent` of those.
fn half_request(len: usize, sent: usize) -> Vec<u8> {
    let mut bytes = format!("*2\r\n$4\r\nECHO\r\n${len}\r\n").into_bytes();
    bytes.resize(bytes.len() + sent, b'x');
    bytes
}

fn evicted(observer: &mut Client) -> u64 {
    let info = observer.run("INFO stats").unwrap().text().unwrap();
    let count = info
        .lines()
        .find_map(|line| line.strip_prefix("evicted_clients:"));
    count.expect("in INFO").trim().parse().expect("a number")
}

#[test]
fn client_list_says_what_each_client_holds() {
    for shards in [1, 2] {
        let Some(server) = server(shards) else { return };
        let mut observer = named(&server, "observer");
        assert_eq!(field(&mut observer, "observer", "qbuf"), Some(26));

        // Half a request.
        let mut sender = named(&server, "sender");
        assert_eq!(field(&mut observer, "sender", "qbuf"), Some(0));
        let idle = field(&mut observer, "sender", "tot-mem").unwrap();
        assert!(idle < 64 << 10, "{idle}");
        let half = half_request(200_000, 150_000);
        sender.write_raw(&half).unwrap();
        eventually("the bytes of half a request", || {
            field(&mut observer, "sender", "qbuf") == Some(half.len() as u64)
        });
        let free = field(&mut observer, "sender", "qbuf-free").unwrap();
        assert!((50_000..500_000).contains(&free), "{free}");
        let total = field(&mut observer, "sender", "tot-mem").unwrap();
        assert!(total >= idle + 200_000, "{total}");
        sender.write_raw(&vec![b'x'; 50_000]).unwrap();
        sender.write_raw(b"\r\n").unwrap();
        assert_eq!(sender.read_reply().unwrap().text().unwrap().len(), 200_000);
        assert!(sender.run("PING").is_ok());
        eventually("the buffer is given back", || {
            field(&mut observer, "sender", "tot-mem").unwrap() < 64 << 10
        });

        // Queued commands, and watched keys.
        let mut queueing = named(&server, "queueing");
        let long = "k".repeat(10_000);
        assert!(queueing.run(&format!("WATCH {long}")).unwrap().is_ok());
        let watching = field(&mut observer, "queueing", "tot-mem").unwrap();
        assert!(watching >= 10_000, "{watching}");
        assert!(queueing.run("MULTI").unwrap().is_ok());
        queueing.run(&format!("SET {long} {long}")).unwrap();
        let queued = field(&mut observer, "queueing", "multi-mem").unwrap();
        assert!((20_000..21_000).contains(&queued), "{queued}");
        assert!(queueing.run("DISCARD").unwrap().is_ok());
        assert_eq!(field(&mut observer, "queueing", "multi-mem"), Some(0));

        // Replies that nobody reads.
        let value = "v".repeat(1 << 20);
        assert!(observer.run(&format!("SET big {value}")).unwrap().is_ok());
        let mut lazy = named(&server, "lazy");
        for _ in 0..20 {
            lazy.queue(&["GET", "big"]);
        }
        lazy.flush().unwrap();
        eventually("replies wait", || {
            field(&mut observer, "lazy", "obl").unwrap() >= MIB
        });
        let total = field(&mut observer, "lazy", "tot-mem").unwrap();
        let held = field(&mut observer, "lazy", "rbs").unwrap();
        assert!(total > held && held >= MIB, "{total}, {held}");
        for _ in 0..20 {
            assert_eq!(lazy.read_reply().unwrap().text().unwrap().len(), 1 << 20);
        }
        eventually("nothing waits", || {
            field(&mut observer, "lazy", "obl") == Some(0)
                && field(&mut observer, "lazy", "tot-mem").unwrap() < 256 << 10
        });
    }
}

#[test]
fn beyond_maxmemory_clients_the_largest_go() {
    for (shards, limit) in [(1, "4mb"), (2, "10%")] {
        let Some(server) = server(shards) else { return };
        let mut observer = named(&server, "observer");
        let value = "v".repeat(1 << 20);
        assert!(observer.run(&format!("SET big {value}")).unwrap().is_ok());
        let mut small: Vec<Client> = (0..3).map(|n| named(&server, &format!("s{n}"))).collect();
        let mut protected = named(&server, "protected");
        assert!(protected.run("CLIENT NO-EVICT on").unwrap().is_ok());
        protected
            .write_raw(&half_request(3 << 19, 1 << 20))
            .unwrap();
        let set = format!("CONFIG SET maxmemory 40mb maxmemory-clients {limit}");
        assert!(observer.run(&set).unwrap().is_ok());
        assert_eq!(evicted(&mut observer), 0);

        // What is large by what it sends goes at once.
        let mut large = named(&server, "large");
        // The connection may end before all of it is taken.
        drop(large.write_raw(&half_request(16 << 20, 2 << 20)));
        assert_eq!(large.read_to_close().unwrap(), b"");
        assert_eq!(evicted(&mut observer), 1);

        // What is large by what it does not read goes with the next look.
        let mut lazy = named(&server, "lazy");
        for _ in 0..40 {
            lazy.queue(&["GET", "big"]);
        }
        lazy.flush().unwrap();
        eventually("the client that reads nothing is gone", || {
            field(&mut observer, "lazy", "id").is_none()
        });
        assert_eq!(evicted(&mut observer), 2);
        for client in &mut small {
            assert_eq!(client.run("PING").unwrap().text().unwrap(), "PONG");
        }
        assert!(field(&mut observer, "protected", "qbuf").unwrap() >= MIB);
        protected.write_raw(&vec![b'x'; 1 << 19]).unwrap();
        protected.write_raw(b"\r\n").unwrap();
        let echoed = protected.read_reply().unwrap().text().unwrap();
        assert_eq!(echoed.len(), 3 << 19);
        assert!(observer.run("CONFIG RESETSTAT").unwrap().is_ok());
        assert_eq!(evicted(&mut observer), 0);
    }
}
