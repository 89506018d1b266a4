//! What the scenarios share: the server under test, its setups, and comparing whole keyspaces.

use moon_core::shard::{ShardCount, ShardId};
use moon_harness::model::State;
use moon_harness::snapshot::read_state;
use moon_harness::{Client, Flavor, FsyncPolicy, Reply, Server, ServerConfig};
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Shard counts that every durability scenario runs with (harness rule H8).
pub(crate) const SHARDS: [u16; 4] = [1, 2, 3, 8];

/// The databases of a server.
pub(crate) const DATABASES: u8 = 16;

/// Which server is tested.
pub(crate) fn flavor() -> Flavor {
    if std::env::var_os("MOON_TEST_SERVER").is_some() {
        Flavor::Redis
    } else {
        Flavor::Moon
    }
}

/// The program of the server that is tested.
pub(crate) fn binary() -> PathBuf {
    let built = option_env!("CARGO_BIN_EXE_moon-server").map(PathBuf::from);
    std::env::var_os("MOON_TEST_SERVER")
        .map(PathBuf::from)
        .or(built)
        .expect("the tests are built as a target of moon-server")
}

/// True, with a line on stderr, when a test that only makes sense for this server must be left
/// out because another one is tested.
pub(crate) fn is_other_server() -> bool {
    if flavor() == Flavor::Redis {
        eprintln!("left out: not moon-server");
    }
    flavor() == Flavor::Redis
}

/// A server with so many shards and the log on.
pub(crate) fn start(shards: u16, policy: FsyncPolicy) -> Server {
    Server::start_temp(flavor(), binary(), |c| c.shards(shards).append(policy)).unwrap()
}

/// A configuration whose directory the caller keeps.
pub(crate) fn config(dir: &TempDir) -> ServerConfig {
    ServerConfig::new(flavor(), binary(), dir.path().join("data"))
}

/// A fresh directory with a name that says where it comes from.
pub(crate) fn temp_dir() -> TempDir {
    tempfile::Builder::new()
        .prefix("moon-it-")
        .tempdir()
        .unwrap()
}

/// Runs `scenario` once for every shard count, with fsync policies in turn; each runs under at
/// least one policy that syncs and, over the counts, under all of them.
pub(crate) fn for_each_setup(scenario: impl Fn(Server)) {
    for (number, shards) in SHARDS.into_iter().enumerate() {
        let policy = FsyncPolicy::ALL[number % FsyncPolicy::ALL.len()];
        eprintln!("shards {shards}, appendfsync {policy}");
        scenario(start(shards, policy));
    }
}

/// Everything that the server holds.
pub(crate) fn state(server: &Server) -> State {
    read_state(&mut server.client().unwrap(), DATABASES).unwrap()
}

/// Kills and recovers twice, each time comparing the whole keyspace with what it was before; the
/// second recovery meets what the first left on disk (harness rule H7).
pub(crate) fn assert_survives_sigkill(server: &mut Server) -> State {
    let key = moon_harness::model::DbKey::new(0, "written:after:recovery");
    let mut before = state(server);
    for round in 1..=2 {
        server.kill9().unwrap();
        server.restart().unwrap();
        assert_same_state(&before, &state(server), &format!("recovery {round}"));
    }
    // What was recovered can be written to, and that survives as well.
    let written = run(server, "SET written:after:recovery 1");
    assert!(written.is_ok(), "{written:?}");
    server.kill9().unwrap();
    server.restart().unwrap();
    let mut after = state(server);
    assert!(
        after.remove(&key).is_some(),
        "the write after the recovery is lost"
    );
    // An earlier call may have left it.
    before.remove(&key);
    assert_same_state(&before, &after, "recovery 3");
    before
}

/// Fails with the first differences, not with two whole keyspaces.
pub(crate) fn assert_same_state(expected: &State, found: &State, context: &str) {
    let mut differences: Vec<String> = expected
        .keys()
        .chain(found.keys().filter(|key| !expected.contains_key(*key)))
        .filter(|key| expected.get(*key) != found.get(*key))
        .map(|key| {
            format!(
                "{key}: {:?}, expected {:?}",
                found.get(key),
                expected.get(key)
            )
        })
        .collect();
    differences.sort();
    let count = differences.len();
    differences.truncate(10);
    assert!(
        differences.is_empty(),
        "{context}: {count} of {} keys differ:\n{}",
        expected.len(),
        differences.join("\n")
    );
}

/// One command on a connection of its own.
pub(crate) fn run(server: &Server, line: &str) -> Reply {
    server.client().unwrap().run(line).unwrap()
}

/// Runs commands on one connection; each line is `command => reply`, the reply as `Reply`'s
/// debug form prints it.
pub(crate) fn script(client: &mut Client, lines: &str) {
    for line in lines.lines().map(str::trim).filter(|l| !l.is_empty()) {
        let (command, expected) = line.split_once(" => ").unwrap_or((line, "+OK"));
        let reply = client.run(command).unwrap();
        assert_eq!(format!("{reply:?}"), expected, "{command}");
    }
}

/// Numbers as keys such that `count` of them belong to each of `shards` shards.
pub(crate) fn keys_per_shard(shards: u16, count: usize) -> Vec<Vec<String>> {
    let shard_count = ShardCount::new(shards).unwrap();
    let mut keys = vec![Vec::new(); usize::from(shards)];
    for number in 0.. {
        let key = format!("key:{number}");
        let ShardId(shard) = shard_count.shard_of_key(key.as_bytes());
        let of_shard = &mut keys[usize::from(shard)];
        if of_shard.len() < count {
            of_shard.push(key);
        }
        if keys.iter().all(|k| k.len() == count) {
            break;
        }
    }
    keys
}

/// Whether a program can be executed; if not, says on stderr that a test is left out.
pub(crate) fn is_installed(program: &str) -> bool {
    let found = Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !found {
        eprintln!("LEFT OUT: {program} is not installed");
    }
    found
}

/// One field of INFO.
pub(crate) fn info(client: &mut Client, field: &str) -> String {
    let text = client
        .run("INFO")
        .unwrap()
        .text()
        .expect("INFO answers text");
    text.lines()
        .find_map(|line| {
            line.strip_prefix(field)?
                .strip_prefix(':')
                .map(str::to_owned)
        })
        .unwrap_or_else(|| panic!("INFO has no {field}"))
}

/// Waits until a field of INFO is as `wanted`.
pub(crate) fn wait_until(client: &mut Client, field: &str, wanted: impl Fn(&str) -> bool) {
    let until = Instant::now() + Duration::from_secs(120);
    loop {
        let value = info(client, field);
        if wanted(&value) {
            return;
        }
        assert!(Instant::now() < until, "{field} stays {value}");
        std::thread::yield_now();
    }
}

/// Writes some thousand keys of every type to three databases.
pub(crate) fn fill(client: &mut Client) {
    for db in [0, 3, 15] {
        client.run(&format!("SELECT {db}")).unwrap();
        for chunk in 0..10 {
            let lines: Vec<String> = (0..60)
                .flat_map(|i| {
                    let n = chunk * 60 + i;
                    [
                        format!("SET s:{n} value:{n}"),
                        format!("RPUSH l:{} {n} a b", n % 20),
                        format!("HSET h:{} f{n} v{n}", n % 20),
                        format!("SADD t:{} {n} m{n}", n % 20),
                        format!("SET e:{n} x PX 10000000"),
                        format!("INCR c:{}", n % 7),
                    ]
                })
                .collect();
            for reply in client.pipeline(&lines).unwrap() {
                assert!(reply.error().is_none(), "{reply:?}");
            }
        }
    }
    client.run("SELECT 0").unwrap();
}

/// Lets the server's files have at most `bytes` bytes; `None` for as many as they like. A write
/// beyond gives EFBIG, and SIGXFSZ, which kills a process that does not expect it.
pub(crate) fn limit_files(server: &Server, bytes: Option<u64>) {
    let pid = Pid::from_raw(i32::try_from(server.pid()).unwrap());
    let limit = Rlimit {
        current: bytes,
        maximum: None,
    };
    prlimit(pid, Resource::Fsize, limit).unwrap();
}

/// Returns when the server has noticed that its log cannot be written. Asks for one section only:
/// the whole of INFO would wait for the log.
pub(crate) fn wait_until_the_log_fails(client: &mut Client) {
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        let text = client.run("INFO persistence").unwrap().text().unwrap();
        if text.contains("aof_last_write_status:err") {
            return;
        }
        assert!(Instant::now() < until, "the log does not fail");
        std::thread::yield_now();
    }
}
