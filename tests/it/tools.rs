//! `check-aof`, `reshard` and `restore` as an operator runs them, on directories that a server
//! wrote, and the server again on what they leave.

use crate::support::{assert_same_state, binary, config, is_other_server, run, state, temp_dir};
use moon_harness::server::run_to_exit;
use moon_harness::{FsyncPolicy, Reply, Server, ServerConfig};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

/// Runs a subcommand: its exit code and everything it printed.
fn tool(args: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(binary());
    command.args(args);
    let (status, output) = run_to_exit(command, Duration::from_secs(60)).unwrap();
    (status.code(), output)
}

#[track_caller]
fn expect(code: i32, args: &[&str]) -> String {
    let (found, output) = tool(args);
    assert_eq!(found, Some(code), "{args:?}: {output}");
    output
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A stopped server's directory with keys of all kinds in two databases.
fn written(shards: u16, kill: bool) -> (TempDir, ServerConfig) {
    let dir = temp_dir();
    let config = config(&dir).shards(shards).append(FsyncPolicy::Always);
    let mut server = Server::start(config.clone()).unwrap();
    let mut client = server.client().unwrap();
    for n in 0..60 {
        let lines = [
            format!("SET key:{n} value:{n}"),
            format!("HSET hash:{n} field {n} other x"),
            format!("RPUSH list:{} {n}", n % 7),
            "MULTI".to_owned(),
            format!("MSET a:{n} 1 b:{n} 2 c:{n} 3"),
            format!("SADD set:{n} {n} x"),
            "EXEC".to_owned(),
        ];
        let replies = client.pipeline(&lines).unwrap();
        assert!(replies.iter().all(|reply| reply.error().is_none()));
    }
    for line in ["SELECT 3", "SET in:three 1 PX 100000000", "SWAPDB 3 4"] {
        assert!(client.run(line).unwrap().is_ok(), "{line}");
    }
    if kill {
        server.kill9().unwrap();
    } else {
        assert_eq!(server.sigterm().unwrap().code(), Some(0));
    }
    (dir, config)
}

/// The segment that holds `needle`, and where.
fn find_in_log(config: &ServerConfig, needle: &[u8]) -> (PathBuf, usize) {
    for entry in std::fs::read_dir(config.dir.join("appendonlydir")).unwrap() {
        let dir = entry.unwrap().path();
        if !dir.is_dir() {
            continue;
        }
        for file in std::fs::read_dir(&dir).unwrap() {
            let path = file.unwrap().path();
            let bytes = std::fs::read(&path).unwrap();
            if let Some(at) = bytes.windows(needle.len()).position(|w| w == needle) {
                return (path, at);
            }
        }
    }
    panic!("{} is in no segment", needle.escape_ascii());
}

/// Scenarios 51 to 53: the exit codes, and that the server says the same.
#[test]
fn check_aof_tells_good_torn_and_damaged_apart() {
    if is_other_server() {
        return;
    }
    let (_dir, config) = written(2, false);
    let data = text(&config.dir).to_owned();
    expect(0, &["check-aof", &data]);
    let report: Value = serde_json::from_str(&expect(0, &["check-aof", &data, "--json"])).unwrap();
    assert_eq!(report["verdict"]["outcome"], "good");
    assert_eq!(report["manifest"]["shards"], 2);
    assert!(report["manifest"]["clean"].is_u64());

    // A torn tail: a frame of which only a part is there.
    let (segment, _) = find_in_log(&config, b"value:40");
    let mut torn = std::fs::read(&segment).unwrap();
    torn.extend([0xA7; 77]);
    std::fs::write(&segment, &torn).unwrap();
    let output = expect(3, &["check-aof", &data]);
    assert!(output.contains("torn tail"), "{output}");
    let output = expect(0, &["check-aof", &data, "--fix"]);
    assert!(output.contains("truncated"), "{output}");
    expect(0, &["check-aof", &data]);
    let output = expect(0, &["check-aof", &data, "--fix"]);
    assert!(output.contains("nothing to fix"), "{output}");

    // Damage in the middle.
    let (segment, place) = find_in_log(&config, b"value:40");
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[place] ^= 1;
    std::fs::write(&segment, &bytes).unwrap();
    let output = expect(2, &["check-aof", &data]);
    let report: Value = serde_json::from_str(&expect(2, &["check-aof", &data, "--json"])).unwrap();
    assert_eq!(report["verdict"]["outcome"], "damage");
    let from = report["stream"]["end"].as_u64().unwrap().to_string();
    assert!(
        output.contains(&format!("--accept-loss-from {from}")),
        "{output}"
    );
    let mut start = config.command();
    start.arg("--check-config");
    let (status, refusal) = run_to_exit(start, Duration::from_secs(20)).unwrap();
    assert_eq!(status.code(), Some(2));
    let verdict = report["verdict"]["text"].as_str().unwrap();
    let reason = verdict.strip_prefix("a start refuses: ").unwrap();
    assert!(refusal.contains(reason), "{refusal}\nlacks\n{reason}");

    expect(2, &["check-aof", &data, "--fix"]);
    let fix = ["check-aof", &data, "--fix", "--accept-loss-from", &from];
    expect(2, &[&fix[..], &["--max-loss-bytes", "10"]].concat());
    let output = expect(0, &fix);
    assert!(output.contains("before-fix"), "{output}");
    let server = Server::start(config).unwrap();
    let kept = run(&server, "GET key:20");
    assert_eq!(format!("{kept:?}"), r#""value:20""#);
    assert!(matches!(run(&server, "EXISTS key:59"), Reply::Int(0)));
}

/// What cannot be used is exit code 1, and a log in use is left alone.
#[test]
fn tools_refuse_wrong_words_and_logs_in_use() {
    if is_other_server() {
        return;
    }
    let dir = temp_dir();
    let nowhere = dir.path().join("nowhere");
    expect(1, &["check-aof"]);
    expect(1, &["check-aof", text(&nowhere)]);
    expect(1, &["check-aof", text(dir.path())]);
    expect(1, &["check-aof", text(dir.path()), "--bogus"]);
    expect(1, &["reshard", "--dir", text(dir.path()), "--shards", "2"]);
    expect(1, &["reshard", "--dir", text(dir.path()), "--shards", "65"]);
    expect(
        1,
        &[
            "restore",
            "--dir",
            text(dir.path()),
            "--out",
            text(&nowhere),
        ],
    );
    for tool in ["check-aof", "reshard", "restore"] {
        let output = expect(0, &[tool, "--help"]);
        assert!(output.contains("Exit codes"), "{output}");
    }
    let (_dir, config) = written(2, false);
    let server = Server::start(config.clone()).unwrap();
    let data = text(&config.dir);
    let (_, output) = tool(&["check-aof", data]);
    assert!(output.contains("IN USE"), "{output}");
    let output = expect(1, &["check-aof", data, "--fix"]);
    assert!(output.contains("in use by another server"), "{output}");
    expect(1, &["reshard", "--dir", data, "--shards", "3"]);
    assert!(run(&server, "SET still 1").is_ok());
}

/// Scenario 103, through the program: 1 to 4 to 3 shards.
#[test]
fn reshard_keeps_every_key_of_every_database() {
    if is_other_server() {
        return;
    }
    let (_dir, config) = written(1, true);
    let before = {
        let server = Server::start(config.clone()).unwrap();
        state(&server)
    };
    assert!(before.len() > 200);
    let data = text(&config.dir);
    for shards in ["4", "3"] {
        let output = expect(0, &["reshard", "--dir", data, "--shards", shards]);
        assert!(output.contains(&format!("became {shards}")), "{output}");
        let output = expect(0, &["reshard", "--dir", data, "--shards", shards]);
        assert!(output.contains("nothing was changed"), "{output}");
        expect(0, &["check-aof", data]);
        let config = config.clone().shards(shards.parse().unwrap());
        let mut server = Server::start(config).unwrap();
        assert_same_state(&before, &state(&server), shards);
        assert!(run(&server, "SET one:more 1").is_ok());
        assert!(matches!(run(&server, "DEL one:more"), Reply::Int(1)));
        server.kill9().unwrap();
    }
}

/// Scenario 200, through the program: back to before a mistake, by its LSN and by its time.
#[test]
fn restore_goes_back_to_before_a_mistake() {
    if is_other_server() {
        return;
    }
    let (dir, config) = written(3, false);
    let mut server = Server::start(config.clone()).unwrap();
    let before = state(&server);
    // The mistake must not be of the same moment as the last write.
    std::thread::sleep(Duration::from_millis(300));
    assert!(run(&server, "FLUSHALL").is_ok());
    assert!(run(&server, "SET after 1").is_ok());
    server.sigterm().unwrap();
    let data = text(&config.dir);
    let dump = expect(0, &["check-aof", data, "--dump", "--json"]);
    let mut frames = dump
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let mistake = frames
        .rfind(|line| line["commands"].to_string().contains("FLUSHALL"))
        .unwrap();
    let lsn = mistake["lsn"].to_string();
    let time = (mistake["time_ms"].as_u64().unwrap() - 100).to_string();
    for (name, point) in [("lsn", ["--to-lsn", &lsn]), ("time", ["--to-time", &time])] {
        let out = dir.path().join(name);
        let args = [
            "restore",
            "--dir",
            data,
            point[0],
            point[1],
            "--out",
            text(&out),
        ];
        let output = expect(0, &args);
        assert!(output.contains(&format!("LSN {lsn}")), "{output}");
        let output = expect(1, &args);
        assert!(output.contains("not empty"), "{output}");
        let restored = ServerConfig::new(crate::support::flavor(), binary(), out).shards(3);
        let server = Server::start(restored.append(FsyncPolicy::Always)).unwrap();
        assert_same_state(&before, &state(&server), name);
        assert!(run(&server, "SET goes:on 1").is_ok());
    }
    let out = dir.path().join("other");
    let base = ["restore", "--dir", data, "--out", text(&out)];
    let early = expect(2, &[&base[..], &["--to-time", "1000"]].concat());
    assert!(early.contains("is before the first time"), "{early}");
    let zone = expect(
        1,
        &[&base[..], &["--to-time", "2026-11-23T10:00:00"]].concat(),
    );
    assert!(zone.contains("no offset"), "{zone}");
    let late = expect(2, &[&base[..], &["--to-lsn", "999999999999"]].concat());
    assert!(late.contains("beyond the end"), "{late}");
    assert!(!out.exists());
}
