//! A real Redis on a Unix socket in a directory of its own.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const START_MAX: Duration = Duration::from_secs(30);

/// A running server; it is killed when dropped.
pub(crate) struct Redis {
    child: Child,
    socket: PathBuf,
}

impl Redis {
    /// Starts in `dir` and loads its `dump.rdb`; `None`, with the reason on stderr, where Redis
    /// is not installed.
    pub(crate) fn start(dir: &Path, config: &[&str]) -> Option<Redis> {
        if !installed("redis-server") || !installed("redis-cli") {
            return None;
        }
        let socket = dir.join("redis.sock");
        let log = dir.join("redis.log");
        let child = Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--appendonly", "no"])
            .arg("--dir")
            .arg(dir)
            .arg("--unixsocket")
            .arg(&socket)
            .arg("--logfile")
            .arg(&log)
            .args(config)
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server starts");
        let mut redis = Redis { child, socket };
        let start = Instant::now();
        while redis.cli(0, "PING") != "PONG" {
            let ended = redis.child.try_wait().expect("its state can be asked");
            if ended.is_some() || start.elapsed() > START_MAX {
                let log = std::fs::read_to_string(log).unwrap_or_default();
                panic!("redis-server does not come up:\n{log}");
            }
            std::thread::yield_now();
        }
        Some(redis)
    }

    /// The answer to one command line, sent to database `db`.
    pub(crate) fn cli(&self, db: u32, command: &str) -> String {
        let mut child = Command::new("redis-cli")
            .arg("-s")
            .arg(&self.socket)
            .args(["-n", &db.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("redis-cli starts");
        let mut stdin = child.stdin.take().expect("its input is piped");
        // Where the server is not up yet, the client may be gone before it reads this.
        let sent = stdin.write_all(command.as_bytes());
        drop(stdin);
        let output = child.wait_with_output().expect("redis-cli ends");
        if sent.is_err() {
            return String::new();
        }
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // Already ended is as good as killed.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Whether `redis-check-rdb` accepts a file, and its report; `None`, with the reason on stderr,
/// where it is not installed.
pub(crate) fn check_rdb(path: &Path) -> Option<(bool, String)> {
    if !installed("redis-check-rdb") {
        return None;
    }
    let output = Command::new("redis-check-rdb")
        .arg(path)
        .output()
        .expect("redis-check-rdb runs");
    let report = String::from_utf8_lossy(&output.stdout).into_owned();
    Some((output.status.success(), report))
}

fn installed(tool: &str) -> bool {
    // `redis-check-rdb` without a file prints its usage and fails: only starting counts.
    let found = Command::new(tool)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok();
    if !found {
        eprintln!("SKIPPED: {tool} is not installed, nothing was checked against the real Redis");
    }
    found
}
