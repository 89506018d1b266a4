//! The programs people use work unchanged.

use crate::support::{for_each_setup, is_installed, run, start};
use moon_harness::{FsyncPolicy, Reply, Server};
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Output, Stdio};

fn redis_cli(server: &Server, args: &[&str]) -> Output {
    let output = Command::new("redis-cli")
        .args(["-p", &server.address().port().to_string()])
        .args(args)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "redis-cli {args:?}: {output:?}");
    output
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn fill(server: &Server) {
    let mut client = server.client().unwrap();
    for n in 0..300 {
        let replies = client
            .pipeline(&[
                format!("SET string:{n} {}", "x".repeat(n + 1)),
                format!("RPUSH list:{n} a b c"),
                format!("HSET hash:{n} f v"),
                format!("SADD set:{n} a b"),
            ])
            .unwrap();
        assert!(replies.iter().all(|r| r.error().is_none()));
    }
}

#[test]
fn redis_cli_scans_every_key_exactly_once() {
    if !is_installed("redis-cli") {
        return;
    }
    for_each_setup(|server| {
        fill(&server);
        let mut keys: Vec<String> = text(&redis_cli(&server, &["--scan"]))
            .lines()
            .map(str::to_owned)
            .collect();
        keys.sort();
        let count = keys.len();
        keys.dedup();
        assert_eq!((count, keys.len()), (1200, 1200));
        let hashes = text(&redis_cli(&server, &["--scan", "--pattern", "hash:1*"]));
        assert_eq!(hashes.lines().count(), 111);
    });
}

#[test]
fn redis_cli_bigkeys_names_the_biggest_of_each_type() {
    if !is_installed("redis-cli") {
        return;
    }
    for_each_setup(|server| {
        fill(&server);
        assert_eq!(run(&server, "RPUSH list:7 d e f"), Reply::Int(6));
        let output = text(&redis_cli(&server, &["--bigkeys"]));
        assert!(
            output.contains("Sampled 1200 keys in the keyspace!"),
            "{output}"
        );
        assert!(
            output.contains("Biggest string found '\"string:299\"' has 300 bytes"),
            "{output}"
        );
        assert!(
            output.contains("Biggest   list found '\"list:7\"' has 6 items"),
            "{output}"
        );
    });
}

#[test]
fn redis_cli_stat_prints_lines() {
    if !is_installed("redis-cli") {
        return;
    }
    for shards in [1, 4] {
        let server = start(shards, FsyncPolicy::Everysec);
        fill(&server);
        let mut child = Command::new("redis-cli")
            .args([
                "-p",
                &server.address().port().to_string(),
                "--stat",
                "-i",
                "0.05",
            ])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines: Vec<String> = BufReader::new(child.stdout.take().unwrap())
            .lines()
            .take(4)
            .map(Result::unwrap)
            .collect();
        child.kill().unwrap();
        child.wait().unwrap();
        let figures: Vec<&str> = lines[3].split_whitespace().collect();
        assert_eq!(figures.first(), Some(&"1200"), "keys in {lines:?}");
    }
}

#[test]
fn redis_cli_pipe_loads_raw_protocol() {
    if !is_installed("redis-cli") {
        return;
    }
    for_each_setup(|server| {
        let mut child = Command::new("redis-cli")
            .args(["-p", &server.address().port().to_string(), "--pipe"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut bytes = Vec::new();
        for n in 0..5000 {
            let key = format!("k{n}");
            moon_resp::write_request(&mut bytes, &["SET", &key, "value"]);
        }
        child.stdin.take().unwrap().write_all(&bytes).unwrap();
        let output = child.wait_with_output().unwrap();
        let output = text(&output);
        assert!(output.contains("errors: 0, replies: 5000"), "{output}");
        assert_eq!(run(&server, "DBSIZE"), Reply::Int(5000));
    });
}

#[test]
fn redis_cli_runs_commands_in_both_protocols() {
    if !is_installed("redis-cli") {
        return;
    }
    for_each_setup(|server| {
        redis_cli(&server, &["SET", "greeting", "hello"]);
        assert_eq!(text(&redis_cli(&server, &["GET", "greeting"])), "hello\n");
        redis_cli(&server, &["HSET", "h", "f", "v"]);
        assert_eq!(text(&redis_cli(&server, &["-3", "HGETALL", "h"])), "f v\n");
        assert_eq!(text(&redis_cli(&server, &["-n", "5", "DBSIZE"])), "0\n");
        let info = text(&redis_cli(&server, &["INFO", "keyspace"]));
        assert!(info.contains("db0:keys=2"), "{info}");
        assert!(
            text(&redis_cli(&server, &["COMMAND", "COUNT"]))
                .trim()
                .parse::<u32>()
                .unwrap()
                > 50
        );
    });
}

#[test]
fn redis_benchmark_runs_without_errors() {
    if !is_installed("redis-benchmark") {
        return;
    }
    for_each_setup(|server| {
        for pipeline in ["1", "16"] {
            let output = Command::new("redis-benchmark")
                .args([
                    "-p",
                    &server.address().port().to_string(),
                    "-n",
                    "2000",
                    "-r",
                    "1000",
                ])
                .args(["-P", pipeline, "-q", "--csv"])
                .args([
                    "-t",
                    "ping,set,get,incr,lpush,rpush,lpop,rpop,sadd,hset,lrange_100,mset",
                ])
                .output()
                .unwrap();
            assert!(output.status.success(), "{output:?}");
            let errors = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(!errors.contains("rror"), "{errors}");
            let text = text(&output);
            let tests = text
                .lines()
                .filter(|l| l.starts_with('"') && !l.contains("\"test\""));
            assert!(tests.count() >= 12, "{text}");
        }
    });
}

#[test]
fn redis_py_works_unchanged() {
    let imports = Command::new("python3")
        .args(["-c", "import redis"])
        .status();
    if !imports.is_ok_and(|status| status.success()) {
        eprintln!("LEFT OUT: redis-py is not installed");
        return;
    }
    const SCRIPT: &str = r#"
import sys, redis
for protocol in (2, 3):
    r = redis.Redis(port=int(sys.argv[1]), protocol=protocol, decode_responses=True)
    r.flushall()
    assert r.set("a", "1", ex=100) is True and 0 < r.ttl("a") <= 100
    assert r.incr("a") == 2 and r.get("missing") is None
    assert r.mset({f"k{i}": i for i in range(100)}) is True
    assert r.mget([f"k{i}" for i in range(100)]) == [str(i) for i in range(100)]
    assert len(list(r.scan_iter(count=7))) == 101
    r.hset("h", mapping={"x": "1", "y": "2"}); assert r.hgetall("h") == {"x": "1", "y": "2"}
    r.rpush("l", 1, 2, 3); assert r.lrange("l", 0, -1) == ["1", "2", "3"]
    r.sadd("s", "m", "n"); assert r.smembers("s") == {"m", "n"}
    with r.pipeline(transaction=True) as p:
        assert p.set("t1", 1).incr("t2").get("t1").execute() == [True, 1, "1"]
    with r.pipeline() as p:
        p.watch("t1"); r.set("t1", 5); p.multi(); p.set("t1", 6)
        try:
            p.execute(); raise SystemExit("the watch did not hold")
        except redis.WatchError:
            pass
    assert r.info("server")["redis_version"] and r.config_get("maxclients")
    assert r.client_setname("me") and r.client_getname() == "me"
    try:
        r.lpush("a", "x"); raise SystemExit("no error")
    except redis.ResponseError as e:
        assert "WRONGTYPE" in str(e) or "wrong kind" in str(e), e
    assert r.dbsize() == 106, r.dbsize()
print("fine")
"#;
    for_each_setup(|server| {
        let output = Command::new("python3")
            .args(["-c", SCRIPT, &server.address().port().to_string()])
            .output()
            .unwrap();
        assert_eq!(
            text(&output),
            "fine\n",
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    });
}

#[test]
fn the_redis_crate_works_unchanged() {
    use redis::Commands as _;
    for_each_setup(|server| {
        let url = format!("redis://{}/", server.address());
        for protocol in ["resp2", "resp3"] {
            let client = redis::Client::open(format!("{url}?protocol={protocol}")).unwrap();
            let mut connection = client.get_connection().unwrap();
            let () = redis::cmd("FLUSHALL").query(&mut connection).unwrap();
            let () = connection.set("counter", 41).unwrap();
            assert_eq!(connection.incr::<_, _, i64>("counter", 1).unwrap(), 42);
            let pairs: Vec<(String, i64)> = (0..50).map(|n| (format!("k{n}"), n)).collect();
            let () = connection.mset(&pairs).unwrap();
            let keys: Vec<&str> = pairs.iter().map(|(key, _)| key.as_str()).collect();
            let values: Vec<i64> = connection.mget(keys).unwrap();
            assert_eq!(values, (0..50).collect::<Vec<_>>());
            let () = connection
                .hset_multiple("h", &[("a", "1"), ("b", "2")])
                .unwrap();
            let all: std::collections::BTreeMap<String, i64> = connection.hgetall("h").unwrap();
            assert_eq!(all, [("a".to_owned(), 1), ("b".to_owned(), 2)].into());
            let (new, old): (i64, Option<String>) = redis::transaction(
                &mut connection,
                &["counter", "missing"],
                |connection, pipe| {
                    let seen: i64 = connection.get("counter")?;
                    pipe.set("counter", seen + 1).ignore();
                    pipe.get("counter").get("missing").query(connection)
                },
            )
            .unwrap();
            assert_eq!((new, old), (43, None));
            let mut scanned: Vec<String> = connection
                .scan()
                .unwrap()
                .collect::<Result<_, _>>()
                .unwrap();
            scanned.sort();
            assert_eq!(scanned.len(), 52);
        }
    });
}
