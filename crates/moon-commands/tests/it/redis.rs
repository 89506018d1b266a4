//! A private `redis-server`, where one is installed.

use moon_resp::{ReplyParser, write_request};
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

    /// The reply to one command.
    pub(crate) fn run<P: AsRef<[u8]>>(&mut self, parts: &[P]) -> Vec<u8> {
        let mut request = Vec::new();
        write_request(&mut request, parts);
        self.connection.write_all(&request).expect("sent");
        loop {
            let mut parser = ReplyParser::new();
            let parsed = parser.parse(&self.received).expect("a valid reply");
            if let Some((_, consumed)) = parsed {
                return self.received.drain(..consumed).collect();
            }
            let mut chunk = [0; 4096];
            let len = self.connection.read(&mut chunk).expect("a reply");
            assert!(len > 0, "the server went away");
            self.received.extend_from_slice(&chunk[..len]);
        }
    }
}
