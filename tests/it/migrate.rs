//! `moon-server migrate-aof` as a user runs it: from the runbooks, and where it refuses.

use crate::documents::{command_lines, page};
use crate::support::{assert_same_state, binary, is_other_server, state, temp_dir};
use moon_harness::server::run_to_exit;
use moon_harness::{Flavor, FsyncPolicy, Reply, Server, ServerConfig};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const MANIFEST: &str = "file appendonly.aof.1.incr.aof seq 1 type i\n";

/// Requests as Redis logs them.
fn log(lines: &[&str]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for line in lines {
        let words: Vec<&str> = line.split(' ').collect();
        moon_resp::write_request(&mut bytes, &words);
    }
    bytes
}

/// A data directory of Redis below `dir`, with this in its log.
fn redis_directory(dir: &Path, bytes: &[u8]) {
    let log_dir = dir.join("redis/appendonlydir");
    fs::create_dir_all(&log_dir).unwrap();
    fs::write(log_dir.join("appendonly.aof.manifest"), MANIFEST).unwrap();
    fs::write(log_dir.join("appendonly.aof.1.incr.aof"), bytes).unwrap();
}

fn run(dir: &Path, words: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(binary());
    command.current_dir(dir).args(words);
    let (status, output) = run_to_exit(command, Duration::from_secs(60)).unwrap();
    (status.code(), output)
}

fn serve(dir: &Path, shards: u16) -> Server {
    let config = ServerConfig::new(Flavor::Moon, binary(), dir);
    Server::start(config.shards(shards).append(FsyncPolicy::Always)).unwrap()
}

const REQUESTS: &[&str] = &[
    "SELECT 0",
    "SET a 1",
    "SET gone 1 PXAT 1000",
    "RPUSH l x y z",
    "MULTI",
    "SADD s 1 2 3",
    "HSET h f v",
    "EXEC",
    "SELECT 7",
    "MSET b 2 c 3 d 4",
    "PEXPIREAT b 4102444800000",
];

/// The lines of the runbook, as they stand: what Redis had is served, and survives a kill.
#[test]
fn the_runbook_brings_the_data_of_redis() {
    if is_other_server() {
        return;
    }
    let dir = temp_dir();
    let mut bytes = log(REQUESTS);
    let whole = bytes.len();
    bytes.extend_from_slice(b"*3\r\n$3\r\nSET\r\n$5\r\nunfin");
    redis_directory(dir.path(), &bytes);
    let lines = command_lines(&page("docs/runbooks/migrate-from-redis.md"));
    let words: Vec<&str> = lines[0].split(' ').collect();
    assert_eq!(words[..2], ["moon-server", "migrate-aof"]);
    let (code, output) = run(dir.path(), &words[1..]);
    assert_eq!(code, Some(0), "{output}");
    let cut = format!("22 bytes from byte {whole} on were ignored");
    assert!(output.contains(&cut), "{output}");
    assert!(output.contains("db7: keys=3,expires=1"), "{output}");
    let line = "Migrated 8 keys to 2 shards in ./moon/appendonlydir; read back and equal";
    assert!(output.contains(line), "{output}");

    assert_eq!(lines[1], "moon-server --dir ./moon --shards 2");
    let mut server = serve(&dir.path().join("moon"), 2);
    let mut client = server.client().unwrap();
    let mut answers = |line: &str| client.run(line).unwrap();
    assert_eq!(answers("GET gone"), Reply::Null);
    assert_eq!(answers("GET a"), Reply::bulk("1"));
    assert_eq!(answers("LLEN l"), Reply::Int(3));
    assert_eq!(answers("SCARD s"), Reply::Int(3));
    assert_eq!(answers("SELECT 7"), Reply::ok());
    assert_eq!(answers("DBSIZE"), Reply::Int(3));
    assert_eq!(answers("PEXPIRETIME b"), Reply::Int(4_102_444_800_000));
    assert_eq!(answers("SET new 1"), Reply::ok());
    let before = state(&server);
    server.kill9().unwrap();
    server.restart().unwrap();
    assert_same_state(&before, &state(&server), "after SIGKILL");
}

/// Exit code 2, a reason in one line, and nothing left behind.
#[test]
fn what_cannot_be_migrated_is_refused_as_a_whole() {
    if is_other_server() {
        return;
    }
    let dir = temp_dir();
    let words = |from: &'static str| {
        [
            "migrate-aof",
            "--from",
            from,
            "--to",
            "./new",
            "--shards",
            "2",
        ]
    };
    let refused = |from: &'static str, reason: &str| {
        let (code, output) = run(dir.path(), &words(from));
        assert_eq!(code, Some(2), "{output}");
        let line = output
            .lines()
            .find(|l| l.starts_with("REFUSING TO MIGRATE: "));
        let line = line.unwrap_or_else(|| panic!("{output}"));
        assert!(line.contains(reason), "{line}");
        assert!(!dir.path().join("new").exists());
    };
    refused("./redis", "cannot read ./redis");
    fs::create_dir(dir.path().join("redis")).unwrap();
    refused("./redis", "nothing in ./redis can be loaded");
    redis_directory(dir.path(), &log(&["SET a 1", "NONE z 1 m"]));
    refused(
        "./redis",
        "appendonly.aof.1.incr.aof: the command 'NONE' at byte 27 cannot be replayed",
    );
    fs::write(dir.path().join("redis/dump.rdb"), "").unwrap();
    refused("./redis", "are both there; name the one");
    refused("./redis/dump.rdb", "is neither an RDB file nor");
    redis_directory(dir.path(), &log(&["SET a 1"]));
    let from = "./redis/appendonlydir";
    let (code, output) = run(dir.path(), &words(from));
    assert_eq!(code, Some(0), "{output}");
    let (code, output) = run(dir.path(), &words(from));
    assert_eq!(code, Some(2), "{output}");
    assert!(
        output.contains("there is something in ./new/appendonlydir already"),
        "{output}"
    );
}

#[test]
fn words_that_are_not_understood_end_with_exit_code_1() {
    if is_other_server() {
        return;
    }
    let dir = temp_dir();
    for words in [
        &["migrate-aof"][..],
        &["migrate-aof", "--from", "a", "--to", "b", "--shards", "65"],
        &["migrate-aof", "--from", "a", "--to", "b", "--shards", "0"],
        &[
            "migrate-aof",
            "--from",
            "a",
            "--to",
            "b",
            "--shards",
            "2",
            "--appenddirname",
            "a/b",
        ],
        &["migrate-aof", "--nonsense"],
    ] {
        let (code, output) = run(dir.path(), words);
        assert_eq!(code, Some(1), "{words:?}: {output}");
    }
    let (code, output) = run(dir.path(), &["migrate-aof", "--help"]);
    assert_eq!(code, Some(0), "{output}");
    assert!(output.contains("moon-server migrate-aof"), "{output}");
}
