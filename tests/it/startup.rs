//! A start that could lose data is refused, with exit code 2 and a reason; `--check-config` says
//! the same without starting.

use crate::support::{assert_same_state, binary, config, is_other_server, run, state, temp_dir};
use moon_harness::server::{free_port, run_to_exit};
use moon_harness::{Client, FsyncPolicy, Reply, Server, ServerConfig};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

/// The exit code of a refusal.
const REFUSED: i32 = 2;
/// How every refusal begins.
const REFUSING: &str = "REFUSING TO START:";

/// Starts with `config` until the process ends: its exit code and everything it printed.
fn run_start(config: &ServerConfig, check_only: bool) -> (Option<i32>, String) {
    let mut command = config.command();
    if check_only {
        command.arg("--check-config");
    }
    let (status, output) = run_to_exit(command, Duration::from_secs(20)).unwrap();
    (status.code(), output)
}

/// A start and a check must both refuse with the same sentence, which contains `reason`.
#[track_caller]
fn assert_refused(config: &ServerConfig, reason: &str) -> String {
    let sentences: Vec<String> = [false, true]
        .into_iter()
        .map(|check_only| {
            let (code, output) = run_start(config, check_only);
            assert_eq!(code, Some(REFUSED), "check only: {check_only}\n{output}");
            let at = output
                .find(REFUSING)
                .unwrap_or_else(|| panic!("no refusal in:\n{output}"));
            output[at..]
                .lines()
                .next()
                .unwrap_or_default()
                .trim_end()
                .to_owned()
        })
        .collect();
    assert_eq!(
        sentences[0], sentences[1],
        "start and --check-config differ"
    );
    assert!(
        sentences[0].contains(reason),
        "{} lacks: {reason}",
        sentences[0]
    );
    sentences[0].clone()
}

/// A stopped server with some hundred keys over all its shards.
fn written_directory(shards: u16, kill: bool) -> (TempDir, ServerConfig) {
    let dir = temp_dir();
    let config = config(&dir).shards(shards).append(FsyncPolicy::Always);
    let mut server = Server::start(config.clone()).unwrap();
    let mut client = server.client().unwrap();
    for chunk in 0..20 {
        let sets: Vec<String> = (0..20)
            .map(|n| format!("SET key:{chunk}:{n} value:{chunk}:{n}"))
            .collect();
        assert!(client.pipeline(&sets).unwrap().iter().all(Reply::is_ok));
    }
    if kill {
        server.kill9().unwrap();
    } else {
        assert_eq!(server.sigterm().unwrap().code(), Some(0));
    }
    (dir, config)
}

fn aof_dir(config: &ServerConfig) -> PathBuf {
    config.dir.join("appendonlydir")
}

fn incr_files(config: &ServerConfig, shard: u16) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(aof_dir(config).join(format!("shard-{shard}")))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_string_lossy().ends_with(".incr.aof"))
        .collect();
    files.sort();
    files
}

/// Where `needle` lies in the incr files of any shard.
fn find_in_log(config: &ServerConfig, shards: u16, needle: &[u8]) -> (PathBuf, usize) {
    for shard in 0..shards {
        for path in incr_files(config, shard) {
            let bytes = std::fs::read(&path).unwrap();
            if let Some(at) = bytes.windows(needle.len()).position(|w| w == needle) {
                return (path, at);
            }
        }
    }
    panic!("{} is in no segment", needle.escape_ascii());
}

fn flip_byte(path: &Path, at: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at] ^= 0x20;
    std::fs::write(path, bytes).unwrap();
}

/// Scenarios 183, 184, 185.
#[test]
fn a_setting_that_is_not_understood_stops_start_and_check_alike() {
    if is_other_server() {
        return;
    }
    for (name, value) in [
        ("appendfsync", "allways"),
        ("appendfsync", "ALWAYS!"),
        ("appendfsync", ""),
        ("appendonly", "true"),
        ("appendonly", "on"),
        ("appendonly", "1"),
        ("appendonly", ""),
        ("shards", "0"),
        ("shards", "65"),
        ("shards", "-1"),
        ("shards", "two"),
        ("shards", "99999999999999999999"),
        ("port", "65536"),
        ("port", "-1"),
        ("databases", "0"),
        ("databases", "-5"),
        ("maxclients", "0"),
        ("maxclients", "99999999999999999999"),
        ("timeout", "-1"),
        ("proto-max-bulk-len", "100000000000gb"),
        ("proto-max-bulk-len", "-1"),
        ("pipeline-order", "sometimes"),
        ("no-such-directive", "yes"),
    ] {
        let dir = temp_dir();
        let mut outputs = Vec::new();
        for check_only in [false, true] {
            let mut command = Command::new(binary());
            command.arg("--dir").arg(dir.path().join("data"));
            if name != "port" {
                command.arg("--port").arg(free_port().to_string());
            }
            command.arg(format!("--{name}")).arg(value);
            if check_only {
                command.arg("--check-config");
            }
            let (status, output) = run_to_exit(command, Duration::from_secs(20)).unwrap();
            assert_ne!(
                status.code(),
                Some(0),
                "--{name} {value:?} was accepted:\n{output}"
            );
            assert!(status.code().is_some(), "--{name} {value:?}: {status}");
            assert!(
                output.contains(name),
                "--{name} {value:?} is not named:\n{output}"
            );
            outputs.push(status.code());
        }
        assert_eq!(
            outputs[0], outputs[1],
            "--{name} {value:?}: start and check differ"
        );

        let file = dir.path().join("moon.conf");
        let quoted = format!("port {}\n{name} \"{value}\"\n", free_port());
        std::fs::write(&file, quoted).unwrap();
        let mut command = Command::new(binary());
        command.arg(&file).arg("--dir").arg(dir.path().join("data"));
        let (status, output) = run_to_exit(command, Duration::from_secs(20)).unwrap();
        assert!(
            status.code().is_some_and(|c| c != 0),
            "{name} {value:?} in a file:\n{output}"
        );
    }
}

/// Scenario 184, at run time.
#[test]
fn config_set_refuses_what_a_start_refuses() {
    let server = crate::support::start(2, FsyncPolicy::Everysec);
    for line in [
        "CONFIG SET appendfsync allways",
        "CONFIG SET maxclients 0",
        "CONFIG SET timeout x",
    ] {
        let reply = run(&server, line);
        assert!(reply.error().is_some(), "{line}: {reply:?}");
    }
    let reply = run(&server, "CONFIG GET appendfsync");
    assert_eq!(reply.items().unwrap()[1], Reply::bulk("everysec"));
}

/// Flags win over the file, the file over the defaults.
#[test]
fn flags_win_over_the_file() {
    if is_other_server() {
        return;
    }
    let dir = temp_dir();
    let file = dir.path().join("moon.conf");
    std::fs::write(&file, "appendfsync no\nmaxclients 77\n").unwrap();
    let mut config = config(&dir).append(FsyncPolicy::Always);
    config.config_file = Some(file);
    let server = Server::start(config).unwrap();
    let value = |name: &str| {
        let reply = run(&server, &format!("CONFIG GET {name}"));
        reply.items().unwrap()[1].text().unwrap()
    };
    let values = (
        value("appendfsync"),
        value("maxclients"),
        value("databases"),
    );
    assert_eq!(values, ("always".into(), "77".into(), "16".into()));
}

/// Scenario 186.
#[test]
fn a_second_instance_on_a_directory_is_refused_and_a_dead_one_does_not_count() {
    if is_other_server() {
        return;
    }
    let dir = temp_dir();
    let config = config(&dir).shards(2).append(FsyncPolicy::Always);
    let mut server = Server::start(config.clone()).unwrap();
    assert!(run(&server, "SET k v").is_ok());
    let mut second = config.clone();
    second.port = free_port();
    assert_refused(&second, "");
    assert_eq!(run(&server, "GET k"), Reply::bulk("v"));
    server.kill9().unwrap();
    let third = Server::start(second).unwrap();
    assert_eq!(run(&third, "GET k"), Reply::bulk("v"));
}

/// Scenario 187.
#[test]
fn a_directory_that_cannot_be_used_is_refused() {
    if is_other_server() {
        return;
    }
    let dir = temp_dir();
    let file = dir.path().join("file");
    std::fs::write(&file, "not a directory").unwrap();
    let mut config = config(&dir).shards(2).append(FsyncPolicy::Always);
    for bad in [file.clone(), file.join("below"), "/proc/moon".into()] {
        config.dir = bad.clone();
        let mut commands = Vec::new();
        for check_only in [false, true] {
            let mut command = Command::new(binary());
            command
                .arg("--port")
                .arg(config.port.to_string())
                .arg("--dir")
                .arg(&bad);
            if check_only {
                command.arg("--check-config");
            }
            commands.push(run_to_exit(command, Duration::from_secs(20)).unwrap());
        }
        for (status, output) in commands {
            assert_eq!(status.code(), Some(REFUSED), "{}: {output}", bad.display());
            assert!(output.contains(REFUSING), "{output}");
        }
    }
}

/// A check changes nothing on disk.
#[test]
fn checking_the_configuration_leaves_the_directory_alone() {
    if is_other_server() {
        return;
    }
    let (_dir, config) = written_directory(2, true);
    let listing = |dir: &Path| {
        let mut files = Vec::new();
        let mut open = vec![dir.to_owned()];
        while let Some(dir) = open.pop() {
            for entry in std::fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    open.push(path);
                } else {
                    let bytes = std::fs::read(&path).unwrap();
                    files.push((path, bytes));
                }
            }
        }
        files.sort();
        files
    };
    let before = listing(&aof_dir(&config));
    let (code, output) = run_start(&config, true);
    assert_eq!(code, Some(0), "{output}");
    assert!(
        listing(&aof_dir(&config)) == before,
        "--check-config changed files"
    );
}

/// Scenario 188.
#[test]
fn a_port_in_use_stops_the_start() {
    let dir = temp_dir();
    let config = config(&dir).append(FsyncPolicy::Everysec);
    let _listener = TcpListener::bind((Ipv4Addr::LOCALHOST, config.port)).unwrap();
    let (code, output) = run_start(&config, false);
    assert!(code.is_some_and(|c| c != 0), "{code:?}: {output}");
    if !is_other_server() {
        assert!(output.contains(&config.port.to_string()), "{output}");
    }
}

/// Scenario 189: while loading, no client is shown a part of the data.
#[test]
fn clients_during_recovery_are_told_to_wait() {
    let dir = temp_dir();
    let mut server = Server::start(config(&dir).shards(2).append(FsyncPolicy::No)).unwrap();
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
    let mut loading = 0;
    loop {
        let Ok(mut client) = Client::connect(server.address()) else {
            std::thread::yield_now();
            continue;
        };
        match client.run("GET key:199:999") {
            Ok(Reply::Bulk(found)) => {
                assert_eq!(found, value.as_bytes());
                break;
            }
            Ok(Reply::Error(text)) => {
                assert!(text.starts_with(b"LOADING"), "{}", text.escape_ascii());
                loading += 1;
                let size = client.run("DBSIZE").unwrap();
                assert!(
                    size.error().is_some() || size == Reply::Int(200_000),
                    "{size:?}"
                );
            }
            Ok(other) => panic!("a key that was acknowledged: {other:?}"),
            Err(_) => {}
        }
    }
    eprintln!("answered with LOADING {loading} times");
    assert_eq!(run(&server, "DBSIZE"), Reply::Int(200_000));
}

/// The count that a directory was written with stays, unless another is asked for, which is
/// refused.
#[test]
fn a_changed_shard_count_is_refused() {
    if is_other_server() {
        return;
    }
    let (_dir, config) = written_directory(2, false);
    for other in [1, 3, 8] {
        assert_refused(
            &config.clone().shards(other),
            &format!(
                "ERR shard count changed (manifest=2, config={other}); refusing to start to \
                 avoid data loss. See docs/runbooks/shard-count-change.md"
            ),
        );
    }
    let mut unnamed = config;
    unnamed.shards = None;
    let server = Server::start(unnamed).unwrap();
    assert_eq!(run(&server, "DBSIZE"), Reply::Int(400));
}

/// Scenario 37, on the manifest.
#[test]
fn a_corrupt_manifest_is_refused() {
    if is_other_server() {
        return;
    }
    let (_dir, config) = written_directory(2, false);
    let manifest = aof_dir(&config).join("moon.aof.manifest");
    let good = std::fs::read(&manifest).unwrap();
    for at in [0, good.len() / 2, good.len() - 2] {
        flip_byte(&manifest, at);
        assert_refused(&config, "manifest");
        std::fs::write(&manifest, &good).unwrap();
    }
    for len in [0, 10, good.len() - 1] {
        std::fs::write(&manifest, &good[..len]).unwrap();
        assert_refused(&config, "manifest");
        std::fs::write(&manifest, &good).unwrap();
    }
    let server = Server::start(config).unwrap();
    assert_eq!(run(&server, "DBSIZE"), Reply::Int(400));
}

/// Scenarios 35 and 36, end to end: damage below the durable mark names its place.
#[test]
fn damage_below_the_durable_mark_is_refused_and_named() {
    if is_other_server() {
        return;
    }
    for kill in [false, true] {
        let (_dir, config) = written_directory(2, kill);
        let (path, at) = find_in_log(&config, 2, b"value:3:7");
        let good = std::fs::read(&path).unwrap();
        // In the payload, and in the length field of whatever frame comes before it.
        flip_byte(&path, at);
        let sentence = assert_refused(&config, "");
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        assert!(sentence.contains(&name), "{sentence} does not name {name}");
        std::fs::write(&path, &good).unwrap();
        // The undamaged directory starts: the refusals changed nothing.
        let server = Server::start(config).unwrap();
        assert_eq!(run(&server, "DBSIZE"), Reply::Int(400));
    }
}

/// Scenario 50: a segment that the manifest names is not there.
#[test]
fn a_missing_segment_is_refused() {
    if is_other_server() {
        return;
    }
    let (_dir, config) = written_directory(2, false);
    let (path, _) = find_in_log(&config, 2, b"value:3:7");
    let aside = path.with_extension("aside");
    std::fs::rename(&path, &aside).unwrap();
    assert_refused(&config, "");
    std::fs::rename(&aside, &path).unwrap();
    let server = Server::start(config).unwrap();
    assert_eq!(run(&server, "DBSIZE"), Reply::Int(400));
}

/// Scenario 32: what follows a torn tail survives the next recovery.
#[test]
fn writes_after_a_torn_tail_survive_the_next_crash() {
    if is_other_server() {
        return;
    }
    for cut in [1, 7, 40] {
        let dir = temp_dir();
        let config = config(&dir).shards(1).append(FsyncPolicy::No);
        let mut server = Server::start(config.clone()).unwrap();
        for n in 0..20 {
            assert!(run(&server, &format!("SET key:{n} value:{n}.")).is_ok());
        }
        server.kill9().unwrap();
        // Tear the last frame: cut the file inside its payload.
        let (path, at) = find_in_log(&config, 1, b"value:19.");
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..at + 9 - cut.min(9)]).unwrap();
        server.restart().unwrap();
        let recovered = state(&server);
        assert_eq!(
            recovered.len(),
            19,
            "the torn write is gone, all before it are there"
        );
        for n in 0..10 {
            assert!(run(&server, &format!("SET later:{n} x")).is_ok());
        }
        let before = state(&server);
        for _ in 0..2 {
            server.kill9().unwrap();
            server.restart().unwrap();
            assert_same_state(&before, &state(&server), "after the torn tail");
        }
    }
}

/// With `aof-load-truncated no` nobody cuts anything off.
#[test]
fn a_torn_tail_is_refused_where_the_configuration_asks_for_it() {
    if is_other_server() {
        return;
    }
    let dir = temp_dir();
    let config = config(&dir).shards(2).append(FsyncPolicy::No);
    let mut server = Server::start(config.clone()).unwrap();
    for n in 0..20 {
        assert!(run(&server, &format!("SET key:{n} value:{n}.")).is_ok());
    }
    server.kill9().unwrap();
    let (path, at) = find_in_log(&config, 2, b"value:19.");
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..at + 3]).unwrap();
    let strict = config.clone().arg("--aof-load-truncated").arg("no");
    assert_refused(&strict, "aof-load-truncated is no");
    // The refusals changed nothing.
    assert_eq!(std::fs::read(&path).unwrap(), &bytes[..at + 3]);
    let server = Server::start(config).unwrap();
    assert_eq!(run(&server, "DBSIZE"), Reply::Int(19));
}

/// A first generation layout belongs to one shard.
#[test]
fn a_legacy_top_level_layout_is_refused_with_several_shards() {
    if is_other_server() {
        return;
    }
    let dir = temp_dir();
    let config = config(&dir).append(FsyncPolicy::Always);
    let aof = aof_dir(&config);
    std::fs::create_dir_all(&aof).unwrap();
    std::fs::write(
        aof.join("moon.aof.manifest"),
        "seq 1\nbase moon.aof.1.base.rdb\nincr moon.aof.1.incr.aof\n",
    )
    .unwrap();
    std::fs::write(aof.join("moon.aof.1.base.rdb"), b"").unwrap();
    std::fs::write(
        aof.join("moon.aof.1.incr.aof"),
        b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n",
    )
    .unwrap();
    assert_refused(&config.shards(2), "");
}

/// The default is a log that is on, in a directory that is created, and a line that says so.
#[test]
fn a_log_that_redis_wrote_is_not_started_beside() {
    if is_other_server() {
        return;
    }
    for name in ["appendonlydir/appendonly.aof.manifest", "appendonly.aof"] {
        let dir = temp_dir();
        let config = config(&dir).shards(2).append(FsyncPolicy::Always);
        let path = dir.path().join("data").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, "file appendonly.aof.1.incr.aof seq 1 type i\n").unwrap();
        assert_refused(&config, "is an append-only log of Redis");
    }
}

#[test]
fn the_effective_durability_is_printed_at_start() {
    if is_other_server() {
        return;
    }
    let dir = temp_dir();
    for policy in FsyncPolicy::ALL {
        let mut server = Server::start(config(&dir).shards(2).append(policy)).unwrap();
        let log = server.log();
        let said = log
            .lines()
            .any(|l| l.contains("appendfsync") && l.contains(&policy.to_string()));
        assert!(said, "nothing about appendfsync {policy} in:\n{log}");
        assert_eq!(server.sigterm().unwrap().code(), Some(0));
        std::fs::remove_file(server.config().log_path()).unwrap();
    }
}
