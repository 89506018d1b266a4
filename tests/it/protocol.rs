//! What a connection may do to the server, and what it may not.

use crate::support::{assert_survives_sigkill, for_each_setup, run, start};
use moon_harness::{Client, FsyncPolicy, Reply, Server};
use std::time::{Duration, Instant};

/// Waits until `line` is answered with `expected`.
#[track_caller]
fn wait_for(server: &Server, line: &str, expected: &Reply) {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let reply = run(server, line);
        if reply == *expected {
            return;
        }
        assert!(Instant::now() < deadline, "{line}: {reply:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Closes the connection with RST instead of FIN.
fn reset(client: Client) {
    let linger = nix::libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    nix::sys::socket::setsockopt(client.stream(), nix::sys::socket::sockopt::Linger, &linger)
        .unwrap();
    drop(client);
}

/// Scenario 208.
#[test]
fn what_precedes_a_malformed_frame_is_executed_and_answered() {
    for_each_setup(|mut server| {
        for (n, (malformed, error)) in [
            ("*1\r\n:5\r\n", "-ERR Protocol error: expected '$', got ':'"),
            ("*-x\r\n", "-ERR Protocol error: invalid multibulk length"),
            (
                "*99999999999\r\n",
                "-ERR Protocol error: invalid multibulk length",
            ),
            ("*1\r\n$-5\r\n", "-ERR Protocol error: invalid bulk length"),
            (
                "*1\r\n$99999999999\r\n",
                "-ERR Protocol error: invalid bulk length",
            ),
            (
                "SET a \"unbalanced\r\n",
                "-ERR Protocol error: unbalanced quotes in request",
            ),
        ]
        .into_iter()
        .enumerate()
        {
            let mut client = server.client().unwrap();
            let mut bytes = format!("SET a{n} 1\r\nMSET b{n} 2 c{n} 3\r\n").into_bytes();
            bytes.extend_from_slice(b"*2\r\n$3\r\nGET\r\n$2\r\n");
            bytes.extend_from_slice(format!("a{n}\r\n").as_bytes());
            bytes.extend_from_slice(malformed.as_bytes());
            // What follows must not be executed.
            bytes.extend_from_slice(format!("SET after{n} 1\r\n").as_bytes());
            client.write_raw(&bytes).unwrap();
            let rest = client.read_to_close().unwrap();
            let text = String::from_utf8_lossy(&rest).into_owned();
            assert_eq!(
                text,
                format!("+OK\r\n+OK\r\n$1\r\n1\r\n{error}\r\n"),
                "{malformed:?}"
            );
        }
        assert_eq!(assert_survives_sigkill(&mut server).len(), 18);
    });
}

/// Inline requests have a limit.
#[test]
fn an_endless_line_is_refused() {
    let server = start(2, FsyncPolicy::Everysec);
    let mut client = server.client().unwrap();
    client.write_raw(&b"x".repeat(100_000)).ok();
    let rest = client.read_to_close().unwrap();
    let text = String::from_utf8_lossy(&rest).into_owned();
    assert_eq!(text, "-ERR Protocol error: too big inline request\r\n");
}

/// Requests that arrive byte by byte are the same requests.
#[test]
fn requests_may_arrive_in_any_pieces() {
    for_each_setup(|server| {
        let mut client = server.client().unwrap();
        let bytes =
            b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$4\r\na\r\nb\r\n\r\nGET k\r\n*1\r\n$4\r\nPING\r\n";
        for chunk in [1, 2, 3, 7, 19] {
            for piece in bytes.chunks(chunk) {
                client.write_raw(piece).unwrap();
                if chunk < 7 {
                    std::thread::yield_now();
                }
            }
            assert!(client.read_reply().unwrap().is_ok());
            assert_eq!(client.read_reply().unwrap(), Reply::bulk("a\r\nb"));
            assert_eq!(
                client.read_reply().unwrap(),
                Reply::Simple(b"PONG".to_vec())
            );
        }
    });
}

/// Scenario 203.
#[test]
fn connections_that_are_reset_leave_nothing_behind() {
    for_each_setup(|server| {
        for round in 0..30 {
            let mut client = server.client().unwrap();
            for n in 0..200 {
                client.queue(&["SET".to_owned(), format!("k{n}"), "v".repeat(round * 10)]);
                client.queue(&["MGET".to_owned(), format!("k{n}"), "other".to_owned()]);
            }
            if round % 3 == 0 {
                client.queue(&["WATCH", "k1"]);
                client.queue(&["MULTI"]);
                client.queue(&["SET", "never", "1"]);
            }
            client.flush().unwrap();
            reset(client);
        }
        wait_for_one_client(&server);
        assert_eq!(run(&server, "EXISTS never"), Reply::Int(0));
    });
}

fn wait_for_one_client(server: &Server) {
    let mut client = server.client().unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let info = client.run("INFO clients").unwrap().text().unwrap();
        if info.lines().any(|l| l.trim() == "connected_clients:1") {
            return;
        }
        assert!(Instant::now() < deadline, "{info}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Scenario 214.
#[test]
fn a_write_whose_client_is_gone_stays() {
    for_each_setup(|mut server| {
        for n in 0..50 {
            let mut client = server.client().unwrap();
            // Answered, so that the connection is served before it ends.
            client.run("PING").unwrap();
            client.queue(&["INCR", "counter"]);
            client.queue(&["SET".to_owned(), format!("done{n}"), "1".to_owned()]);
            client.flush().unwrap();
            wait_for(&server, &format!("EXISTS done{n}"), &Reply::Int(1));
            reset(client);
        }
        assert_eq!(run(&server, "GET counter"), Reply::bulk("50"));
        assert_survives_sigkill(&mut server);
    });
}

/// Scenario 205.
#[test]
fn absurd_times_are_errors_and_not_the_end_of_the_process() {
    let server = start(2, FsyncPolicy::Everysec);
    let mut client = server.client().unwrap();
    assert!(client.run("SET k v").unwrap().is_ok());
    for time in [
        "1e300",
        "nan",
        "inf",
        "-inf",
        "9223372036854775807",
        "99999999999999999999",
        "x",
        "1.5",
    ] {
        for line in [
            format!("EXPIRE k {time}"),
            format!("SET k v EX {time}"),
            format!("SET k v PXAT -{time}"),
            format!("GETEX k EX {time}"),
            format!("SETEX k {time} v"),
        ] {
            let reply = client.run(&line).unwrap();
            assert!(reply.error().is_some(), "{line}: {reply:?}");
        }
    }
    for line in [
        "SETEX k 0 v",
        "PSETEX k -1 v",
        "SET k v PX 0",
        "DEBUG SLEEP nan",
        "CONFIG SET timeout 1e300",
    ] {
        let reply = client.run(line).unwrap();
        assert!(
            reply.error().is_some() || line.starts_with("DEBUG"),
            "{line}: {reply:?}"
        );
    }
    assert_eq!(client.run("GET k").unwrap(), Reply::bulk("v"));
    assert_eq!(client.run("TTL k").unwrap(), Reply::Int(-1));
}

/// Scenario 206.
#[test]
fn a_client_that_never_reads_does_not_stop_the_others() {
    for_each_setup(|mut server| {
        let mut other = server.client().unwrap();
        let value = "x".repeat(100_000);
        assert!(other.command(&["SET", "big", &value]).unwrap().is_ok());
        let mut silent = server.client().unwrap();
        for n in 0..2000 {
            silent.queue(&["SET".to_owned(), format!("silent{n}"), "1".to_owned()]);
            silent.queue(&["GET", "big"]);
        }
        let writer = std::thread::spawn(move || {
            // Blocks or fails when the server stops reading; either is right.
            drop(silent.flush());
            silent
        });
        for n in 0..300 {
            let begun = Instant::now();
            assert!(other.run(&format!("SET mine{n} 1")).unwrap().is_ok());
            let replies = other.run(&format!("MGET mine{n} silent0")).unwrap();
            assert_eq!(replies.items().unwrap()[0], Reply::bulk("1"));
            assert!(
                begun.elapsed() < Duration::from_secs(3),
                "another client was held up"
            );
        }
        server.kill9().unwrap();
        drop(writer.join());
        server.restart().unwrap();
        for n in 0..300 {
            assert_eq!(run(&server, &format!("EXISTS mine{n}")), Reply::Int(1));
        }
    });
}

/// RESP3 is chosen with HELLO and changes the form of replies, not their content.
#[test]
fn hello_changes_the_protocol_of_the_connection() {
    for_each_setup(|server| {
        let mut client = server.client().unwrap();
        assert!(
            client
                .run("HELLO 4")
                .unwrap()
                .error()
                .unwrap()
                .starts_with("NOPROTO")
        );
        let Reply::Map(fields) = client.run("HELLO 3").unwrap() else {
            panic!("HELLO 3 answers with a map");
        };
        let field = |name: &str| {
            fields
                .iter()
                .find(|(k, _)| *k == Reply::bulk(name))
                .map(|(_, v)| v.clone())
                .unwrap()
        };
        assert_eq!(field("proto"), Reply::Int(3));
        assert_eq!(field("role"), Reply::bulk("master"));
        client.run("HSET h a 1").unwrap();
        client.run("SADD s m").unwrap();
        assert_eq!(
            client.run("HGETALL h").unwrap(),
            Reply::Map(vec![(Reply::bulk("a"), Reply::bulk("1"))])
        );
        assert_eq!(
            client.run("SMEMBERS s").unwrap(),
            Reply::Set(vec![Reply::bulk("m")])
        );
        assert_eq!(client.run("GET missing").unwrap(), Reply::Null);
        assert!(matches!(client.run("HELLO 2").unwrap(), Reply::Array(_)));
        assert!(matches!(client.run("HGETALL h").unwrap(), Reply::Array(_)));
    });
}

/// A connection without the password can do nothing but authenticate.
#[test]
fn a_password_is_asked_for_before_anything_else() {
    for shards in [1, 4] {
        let server = Server::start_temp(crate::support::flavor(), crate::support::binary(), |c| {
            c.shards(shards).append(FsyncPolicy::Everysec)
        })
        .unwrap();
        assert!(run(&server, "CONFIG SET requirepass secret").is_ok());
        let mut client = server.client().unwrap();
        for line in ["GET k", "SET k v", "MULTI", "CONFIG GET *", "FLUSHALL"] {
            let error = client.run(line).unwrap().error().unwrap();
            assert!(error.starts_with("NOAUTH"), "{line}: {error}");
        }
        let error = client.run("AUTH wrong").unwrap().error().unwrap();
        assert!(error.starts_with("WRONGPASS"), "{error}");
        assert!(client.run("AUTH secret").unwrap().is_ok());
        assert!(client.run("SET k v").unwrap().is_ok());
        let mut client = server.client().unwrap();
        assert!(matches!(
            client.run("HELLO 2 AUTH default secret").unwrap(),
            Reply::Array(_)
        ));
        assert_eq!(client.run("GET k").unwrap(), Reply::bulk("v"));
    }
}
