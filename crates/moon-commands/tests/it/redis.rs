//! A private `redis-server`, where one is installed.

use moon_resp::{ReplyParser, Value, write_request};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A private server and a connection to it; it ends with the test.
pub(crate) struct Redis {
    process: Child,
    connection: UnixStream,
    received: Vec<u8>,
    /// Its files, and its socket, which no other test can meet, as it could a port.
    pub(crate) dir: TempDir,
}

impl Drop for Redis {
    fn drop(&mut self) {
        // It may have ended by itself; either way it is gone afterwards.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

impl Redis {
    /// `None`, with a line about it, if there is no `redis-server` on this machine.
    pub(crate) fn start(config: &[&str]) -> Option<Redis> {
        Redis::start_in(tempfile::tempdir().expect("a directory"), config)
    }

    /// As [`Redis::start`], with the `dump.rdb` that lies in `dir`.
    pub(crate) fn start_in(dir: TempDir, config: &[&str]) -> Option<Redis> {
        let socket = dir.path().join("redis.sock");
        let process = Command::new("redis-server")
            .args(["--port", "0", "--unixsocket"])
            .arg(&socket)
            .args(["--save", "", "--appendonly", "no", "--databases", "4"])
            .args(["--enable-debug-command", "local", "--dir"])
            .arg(dir.path())
            .args(config)
            .stdout(Stdio::null())
            .spawn();
        let Ok(mut process) = process else {
            eprintln!("nothing compared: no redis-server on this machine");
            return None;
        };
        let deadline = Instant::now() + Duration::from_secs(10);
        let connection = loop {
            match UnixStream::connect(&socket) {
                Ok(connection) => break connection,
                Err(error) => {
                    let ended = process.try_wait().expect("its state can be asked");
                    assert!(ended.is_none(), "redis-server ended: {ended:?}");
                    assert!(Instant::now() < deadline, "no redis-server: {error}");
                }
            }
        };
        connection
            .set_read_timeout(Some(Duration::from_secs(10)))
            .expect("a timeout");
        let mut redis = Redis {
            process,
            connection,
            received: Vec::new(),
            dir,
        };
        while redis.run(&["PING"]) != b"+PONG\r\n" {
            assert!(Instant::now() < deadline, "redis-server does not load");
        }
        Some(redis)
    }

    /// A second connection that hears what is published on channels of these patterns.
    pub(crate) fn subscribe(&self, patterns: &[&str]) -> Subscriber {
        let socket = self.dir.path().join("redis.sock");
        let connection = UnixStream::connect(socket).expect("a second connection");
        connection
            .set_read_timeout(Some(Duration::from_secs(10)))
            .expect("a timeout");
        let mut subscriber = Subscriber {
            connection,
            received: Vec::new(),
        };
        let mut request = Vec::new();
        let parts: Vec<&str> = ["PSUBSCRIBE"]
            .into_iter()
            .chain(patterns.iter().copied())
            .collect();
        write_request(&mut request, &parts);
        subscriber.connection.write_all(&request).expect("sent");
        for _ in patterns {
            next_reply(&mut subscriber.connection, &mut subscriber.received);
        }
        subscriber
    }

    /// The reply to one command.
    pub(crate) fn run<P: AsRef<[u8]>>(&mut self, parts: &[P]) -> Vec<u8> {
        let mut request = Vec::new();
        write_request(&mut request, parts);
        self.connection.write_all(&request).expect("sent");
        next_reply(&mut self.connection, &mut self.received).1
    }
}

/// The next reply of a connection, behind what was `received` of it; and its bytes.
fn next_reply(connection: &mut UnixStream, received: &mut Vec<u8>) -> (Value, Vec<u8>) {
    loop {
        let mut parser = ReplyParser::new();
        let parsed = parser.parse(received).expect("a valid reply");
        if let Some((value, consumed)) = parsed {
            return (value, received.drain(..consumed).collect());
        }
        let mut chunk = [0; 4096];
        let len = connection.read(&mut chunk).expect("a reply");
        assert!(len > 0, "the server went away");
        received.extend_from_slice(&chunk[..len]);
    }
}

/// A connection that hears what is published.
pub(crate) struct Subscriber {
    connection: UnixStream,
    received: Vec<u8>,
}

impl Subscriber {
    /// The next message: its channel and what it says.
    pub(crate) fn next(&mut self) -> (Vec<u8>, Vec<u8>) {
        let (message, _) = next_reply(&mut self.connection, &mut self.received);
        let Value::Array(parts) = message else {
            panic!("no message: {message:?}");
        };
        let mut texts = parts.into_iter().map(|part| match part {
            Value::Bulk(text) => text.to_vec(),
            part => panic!("no text: {part:?}"),
        });
        let (_, _) = (texts.next(), texts.next());
        let channel = texts.next().expect("a channel");
        (channel, texts.next().expect("a text"))
    }
}
