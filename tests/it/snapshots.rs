//! Snapshots: when they are written, what they hold, and what follows if one fails.

use crate::shutdown::stop_under_load;
use crate::support::{
    SHARDS, assert_same_state, assert_survives_sigkill, config, fill, info, is_installed,
    is_other_server, run, script, start, state, temp_dir, wait_until,
};
use moon_harness::model::State;
use moon_harness::{Client, Flavor, FsyncPolicy, Reply, Server, ServerConfig};
use nix::sys::signal::Signal;
use std::fs;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How writes are refused while the last snapshot failed.
const MISCONF: &str = "MISCONF Redis is configured to save RDB snapshots, but it's currently \
                       unable to persist to disk. Commands that may modify the data set are \
                       disabled, because this instance is configured to report errors during \
                       writes if RDB snapshotting fails (stop-writes-on-bgsave-error option). \
                       Please check the Redis logs for details about the RDB error.";

/// A server without a log, and these save points.
fn without_log(dir: &TempDir, shards: u16, save: &str) -> ServerConfig {
    let config = config(dir).shards(shards);
    (config.arg("--appendonly").arg("no"))
        .arg("--save")
        .arg(save)
}

fn assert_refused(client: &mut Client, line: &str) {
    let reply = client.run(line).unwrap();
    assert_eq!(reply, Reply::Error(MISCONF.into()), "{line}");
}

fn config_set(client: &mut Client, name: &str, value: &str) {
    let reply = client.command(&["CONFIG", "SET", name, value]).unwrap();
    assert_eq!(reply, Reply::ok(), "{name} {value:?}");
}

/// Writes a snapshot and waits for its end, good or bad.
fn save_in_background(client: &mut Client, outcome: &str) {
    let reply = client.run("BGSAVE").unwrap();
    assert_eq!(format!("{reply:?}"), "+Background saving started");
    wait_until(client, "rdb_bgsave_in_progress", |n| n == "0");
    wait_until(client, "rdb_last_bgsave_status", |status| status == outcome);
}

fn wait_for_log(server: &Server, text: &str) {
    let until = Instant::now() + Duration::from_secs(30);
    while !server.log().contains(text) {
        assert!(Instant::now() < until, "{}", server.log_tail());
        std::thread::yield_now();
    }
}

/// Nothing of Redis's rule is different but that commands which free memory still run.
#[test]
fn writes_are_refused_while_snapshots_fail() {
    for shards in [1, 4] {
        let dir = temp_dir();
        let server = Server::start(without_log(&dir, shards, "3600 1")).unwrap();
        let mut client = server.client().unwrap();
        script(&mut client, "SET k 1\nSET short x PX 1");
        // A file cannot replace a directory.
        let blocked = server.config().dir.join("dump.rdb");
        fs::create_dir(&blocked).unwrap();
        save_in_background(&mut client, "err");
        assert_refused(&mut client, "SET k 2");
        assert_refused(&mut client, "MSET k 2 l 2 m 2 n 2");
        script(&mut client, "GET k => \"1\"\nGET short => nil");
        script(&mut client, "MULTI");
        assert_refused(&mut client, "INCR k");
        let reply = client.run("EXEC").unwrap();
        let text = "-EXECABORT Transaction discarded because of previous errors.";
        assert_eq!(format!("{reply:?}"), text);
        // Unlike a log that fails, this leaves what INFO says of the data.
        let keys = client.run("INFO keyspace").unwrap();
        assert!(keys.text().unwrap().contains("db0:keys=1"), "{keys:?}");

        for (name, lifts, brings_back) in [
            ("stop-writes-on-bgsave-error", "no", "yes"),
            ("save", "", "3600 1"),
        ] {
            config_set(&mut client, name, lifts);
            script(&mut client, "SET k 1");
            config_set(&mut client, name, brings_back);
            assert_refused(&mut client, "SET k 2");
        }
        fs::remove_dir(&blocked).unwrap();
        save_in_background(&mut client, "ok");
        script(&mut client, "SET k 3");
        assert_eq!(run(&server, "GET k"), Reply::bulk("3"));
    }
}

/// With a log and without save points a snapshot is only a copy.
#[test]
fn a_failed_snapshot_refuses_nothing_without_save_points() {
    let dir = temp_dir();
    let server = Server::start(config(&dir).shards(2).append(FsyncPolicy::Everysec)).unwrap();
    let mut client = server.client().unwrap();
    fs::create_dir(server.config().dir.join("dump.rdb")).unwrap();
    config_set(&mut client, "save", "");
    script(&mut client, "SET k 1");
    save_in_background(&mut client, "err");
    script(&mut client, "SET k 2");
    assert_eq!(info(&mut client, "rdb_changes_since_last_save"), "2");
}

/// `rdbcompression`, with long values in every type; and Redis reads the result.
#[test]
fn a_compressed_snapshot_is_smaller_and_holds_the_same() {
    for shards in [1, 3] {
        let server = start(shards, FsyncPolicy::Everysec);
        let mut client = server.client().unwrap();
        let text = "a sentence again and again, ".repeat(10).replace(' ', "_");
        for n in 0..200 {
            let lines = [
                format!("SET s:{n} {n}{text}"),
                format!("RPUSH l:{} {n}{text} short", n % 10),
                format!("SADD t:{} {n}{text}", n % 10),
                // Huge ones, which are written in pieces.
                format!("HSET h f{n} {}", text.repeat(10)),
                format!("APPEND long {}", text.repeat(20)),
            ];
            for reply in client.pipeline(&lines).unwrap() {
                assert!(reply.error().is_none(), "{reply:?}");
            }
        }
        let dump = server.config().dir.join("dump.rdb");
        let mut sizes = Vec::new();
        for compression in ["no", "yes"] {
            config_set(&mut client, "rdbcompression", compression);
            assert_eq!(client.run("SAVE").unwrap(), Reply::ok());
            // The one string that is too long to be compressed at once.
            let long = 200 * 20 * text.len() as u64;
            sizes.push(fs::metadata(&dump).unwrap().len() - long);
        }
        assert!(sizes[1] < sizes[0] / 2, "{sizes:?}");
        if is_installed("redis-server") {
            let dir = temp_dir();
            let data = dir.path().join("data");
            fs::create_dir(&data).unwrap();
            fs::copy(&dump, data.join("dump.rdb")).unwrap();
            let redis = ServerConfig::new(Flavor::Redis, "redis-server", data);
            let redis = Server::start(redis.arg("--appendonly").arg("no")).unwrap();
            assert_same_state(&state(&server), &state(&redis), "what Redis loaded");
        }
    }
}

/// Scenario 116.
#[test]
fn the_log_says_that_no_snapshot_succeeds() {
    if is_other_server() {
        return;
    }
    let dir = temp_dir();
    let server = Server::start(without_log(&dir, 2, "1 1")).unwrap();
    let mut client = server.client().unwrap();
    fs::create_dir(server.config().dir.join("dump.rdb")).unwrap();
    script(&mut client, "SET k 1");
    let until = Instant::now() + Duration::from_secs(30);
    let warning = "No snapshot has succeeded for";
    while !server.log().contains(warning) {
        assert!(Instant::now() < until, "{}", server.log_tail());
    }
    assert_eq!(server.log().matches(warning).count(), 1);
}

/// What a stop keeps without a log: as in Redis, that depends on the save points and on what
/// SHUTDOWN says.
#[test]
fn a_stop_writes_a_snapshot_if_it_should() {
    for (save, command, kept) in [
        ("3600 1", "SHUTDOWN", true),
        ("3600 1", "SHUTDOWN NOSAVE", false),
        ("", "SHUTDOWN", false),
        ("", "SHUTDOWN SAVE", true),
    ] {
        for shards in [1, 3] {
            let dir = temp_dir();
            let mut server = Server::start(without_log(&dir, shards, save)).unwrap();
            let mut client = server.client().unwrap();
            fill(&mut client);
            let before = if kept { state(&server) } else { State::new() };
            let reply = client.run(command);
            assert!(reply.is_err(), "the connection closes: {reply:?}");
            let status = server.wait_exit(Duration::from_secs(20)).unwrap();
            assert_eq!(status.code(), Some(0), "{}", server.log_tail());
            server.restart().unwrap();
            let context = format!("save {save:?}, {command}");
            assert_same_state(&before, &state(&server), &context);
        }
    }
}

#[test]
fn a_stop_whose_snapshot_fails_does_not_happen_unless_forced() {
    let dir = temp_dir();
    let mut server = Server::start(without_log(&dir, 2, "3600 1")).unwrap();
    let mut client = server.client().unwrap();
    script(&mut client, "SET k 1");
    let blocked = server.config().dir.join("dump.rdb");
    fs::create_dir(&blocked).unwrap();
    // Redis answers an error; here the connection may be gone by then.
    drop(client.run("SHUTDOWN"));
    wait_for_log(&server, "can't exit");
    server.wait_ready().unwrap();
    assert_eq!(run(&server, "GET k"), Reply::bulk("1"));
    drop(server.client().unwrap().run("SHUTDOWN FORCE"));
    let status = server.wait_exit(Duration::from_secs(20)).unwrap();
    assert_eq!(status.code(), Some(0), "{}", server.log_tail());
}

/// Nothing is acknowledged behind the snapshot that a signal makes the server write.
#[test]
fn a_signal_under_load_keeps_what_was_acknowledged_without_a_log() {
    for shards in [1, 4] {
        let dir = temp_dir();
        let mut server = Server::start(without_log(&dir, shards, "3600 1")).unwrap();
        stop_under_load(&mut server, |server| {
            server.signal(Signal::SIGTERM).unwrap();
            server.wait_exit(Duration::from_secs(20)).unwrap()
        });
    }
}

/// Scenario 106: the log that begins beside a snapshot holds it before anybody is served.
#[test]
fn a_log_that_begins_beside_a_snapshot_holds_it() {
    if is_other_server() {
        return;
    }
    let dir = temp_dir();
    let source = Server::start(without_log(&dir, 2, "")).unwrap();
    fill(&mut source.client().unwrap());
    assert_eq!(run(&source, "SAVE"), Reply::ok());
    let dump = source.config().dir.join("dump.rdb");
    for (number, shards) in SHARDS.into_iter().enumerate() {
        let dir = temp_dir();
        let config = config(&dir)
            .shards(shards)
            .append(FsyncPolicy::ALL[number % 3]);
        fs::create_dir(&config.dir).unwrap();
        fs::copy(&dump, config.dir.join("dump.rdb")).unwrap();
        let mut server = Server::start(config).unwrap();
        for shard in 0..shards {
            let log = format!("appendonlydir/shard-{shard}/moon.aof.1.base.rdb");
            assert!(server.config().dir.join(&log).is_file(), "{log}");
        }
        // Before anything was written, so that nothing but the start can have kept it.
        server.kill9().unwrap();
        fs::remove_file(server.config().dir.join("dump.rdb")).unwrap();
        server.restart().unwrap();
        assert_same_state(&state(&source), &state(&server), "the log alone");
        fill(&mut server.client().unwrap());
        assert_survives_sigkill(&mut server);
    }
}

/// The forms of `save` that CONFIG takes and prints, as in Redis.
#[test]
fn save_points_are_set_and_shown_as_in_redis() {
    let dir = temp_dir();
    let server = Server::start(without_log(&dir, 1, "3600 1 300 100")).unwrap();
    let mut client = server.client().unwrap();
    let assert_shown = |client: &mut Client, expected: &str| {
        let reply = client.run("CONFIG GET save").unwrap();
        let expected = [Reply::bulk("save"), Reply::bulk(expected)];
        assert_eq!(reply, Reply::Array(expected.into()));
    };
    assert_shown(&mut client, "3600 1 300 100");
    for value in ["60 1000", "", "10 5 20 4 30 3"] {
        config_set(&mut client, "save", value);
        assert_shown(&mut client, value);
    }
    for wrong in ["60", "60 x", "0 1", "60 -1", "60 1 300"] {
        let reply = client.command(&["CONFIG", "SET", "save", wrong]).unwrap();
        let text = "ERR CONFIG SET failed (possibly related to argument 'save') - Invalid save \
                    parameters";
        assert_eq!(reply, Reply::Error(text.into()), "{wrong}");
    }
    assert_shown(&mut client, "10 5 20 4 30 3");
}

#[test]
fn save_lines_of_a_file_add_up() {
    for (file, expected) in [
        (
            "save 3600 1\nsave 300 100\nsave 60 10000 10 1000000\n",
            "3600 1 300 100 60 10000 10 1000000",
        ),
        ("save 3600 1\nsave \"\"\nsave 60 5\n", "60 5"),
        ("save 3600 1\nsave \"\"\n", ""),
    ] {
        let dir = temp_dir();
        let path = dir.path().join("redis.conf");
        fs::write(&path, file).unwrap();
        let mut config = config(&dir);
        config.config_file = Some(path);
        if is_other_server() {
            // The harness says `--save ""` to Redis, which wins over the file.
            return;
        }
        let server = Server::start(config).unwrap();
        let reply = run(&server, "CONFIG GET save");
        let expected = [Reply::bulk("save"), Reply::bulk(expected)];
        assert_eq!(reply, Reply::Array(expected.into()), "{file}");
    }
}
