//! What a real `redis-server` wrote, loaded and compared with what it answers itself.

use crate::harness::{Keys, load_into, migrates, options};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A private server over a directory; it ends with the test.
struct Redis {
    process: Child,
    connection: BufReader<UnixStream>,
}

impl Drop for Redis {
    fn drop(&mut self) {
        // It may have ended by itself; either way it is gone afterwards.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

#[derive(Debug)]
enum Answer {
    Text(Vec<u8>),
    Nil,
    List(Vec<Answer>),
}

impl Answer {
    fn text(self) -> String {
        match self {
            Answer::Text(bytes) => bytes.escape_ascii().to_string(),
            other => panic!("{other:?}"),
        }
    }

    fn list(self) -> Vec<String> {
        match self {
            Answer::List(items) => items.into_iter().map(Answer::text).collect(),
            other => panic!("{other:?}"),
        }
    }
}

impl Redis {
    /// `None`, with a line, if there is no `redis-server` here.
    fn start(dir: &Path, settings: &[&str]) -> Option<Redis> {
        let socket = dir.join("s");
        let process = Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--unixsocket"])
            .arg(&socket)
            .arg("--dir")
            .arg(dir)
            .args(settings)
            .stdout(Stdio::null())
            .spawn();
        let Ok(process) = process else {
            eprintln!("left out: no redis-server");
            return None;
        };
        let deadline = Instant::now() + Duration::from_secs(60);
        let connection = loop {
            match UnixStream::connect(&socket) {
                Ok(connection) => break connection,
                Err(error) => assert!(Instant::now() < deadline, "no redis-server: {error}"),
            }
        };
        Some(Redis {
            process,
            connection: BufReader::new(connection),
        })
    }

    fn send<P: AsRef<[u8]>>(&mut self, parts: &[P]) -> Answer {
        let mut request = Vec::new();
        moon_resp::write_request(&mut request, parts);
        self.connection.get_mut().write_all(&request).unwrap();
        self.answer()
    }

    fn run(&mut self, line: &str) -> Answer {
        self.send(&line.split(' ').collect::<Vec<_>>())
    }

    fn answer(&mut self) -> Answer {
        let mut line = Vec::new();
        self.connection.read_until(b'\n', &mut line).unwrap();
        let text = String::from_utf8(line).unwrap();
        let (kind, rest) = text.trim_end().split_at(1);
        match (kind, rest) {
            ("$" | "*", "-1") => Answer::Nil,
            ("$", len) => {
                let mut bytes = vec![0; len.parse::<usize>().unwrap() + 2];
                self.connection.read_exact(&mut bytes).unwrap();
                bytes.truncate(bytes.len() - 2);
                Answer::Text(bytes)
            }
            ("*", len) => {
                let len = len.parse::<usize>().unwrap();
                Answer::List((0..len).map(|_| self.answer()).collect())
            }
            ("+" | ":", rest) => Answer::Text(rest.as_bytes().to_vec()),
            _ => panic!("{text}"),
        }
    }

    /// Everything it holds, as [`crate::harness::keys`] shows it.
    fn keys(&mut self) -> Keys {
        let mut keys = Keys::new();
        for db in 0..16 {
            self.run(&format!("SELECT {db}"));
            let Answer::List(names) = self.run("KEYS *") else {
                panic!("no list");
            };
            for name in names {
                let Answer::Text(name) = name else {
                    panic!("no name");
                };
                let entry = self.entry(&name);
                keys.insert((db, name.escape_ascii().to_string()), entry);
            }
        }
        self.run("SELECT 0");
        keys
    }

    fn entry(&mut self, name: &[u8]) -> (String, Option<i64>) {
        let kind = self.send(&[b"TYPE", name]).text();
        let content = match kind.as_str() {
            "string" => self.send(&[b"GET", name]).text(),
            "list" => self.send(&[b"LRANGE", name, b"0", b"-1"]).list().join(","),
            "set" => {
                let mut members = self.send(&[b"SMEMBERS", name]).list();
                members.sort();
                members.join(",")
            }
            _ => {
                let flat = self.send(&[b"HGETALL", name]).list();
                let mut fields: Vec<String> = flat.chunks(2).map(|pair| pair.join("=")).collect();
                fields.sort();
                fields.join(",")
            }
        };
        let at: i64 = self.send(&[b"PEXPIRETIME", name]).text().parse().unwrap();
        (format!("{kind} {content}"), (at >= 0).then_some(at))
    }

    /// Waits for a rewrite of the log to end.
    fn rewrite(&mut self) {
        self.run("BGREWRITEAOF");
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let info = self.run("INFO persistence").text();
            if info.contains("aof_rewrite_in_progress:0")
                && info.contains("aof_rewrite_scheduled:0")
            {
                assert!(info.contains("aof_last_bgrewrite_status:ok"), "{info}");
                return;
            }
            assert!(Instant::now() < deadline, "{info}");
        }
    }

    fn stop(mut self) {
        let mut request = Vec::new();
        moon_resp::write_request(&mut request, &["SHUTDOWN"]);
        self.connection.get_mut().write_all(&request).unwrap();
        self.process.wait().unwrap();
    }

    /// Every type in every encoding, databases, deadlines, transactions, binary data.
    fn fill(&mut self, round: usize) {
        let long = "x".repeat(100);
        for line in [
            "SET int 12345",
            "SET short hello",
            "APPEND short more",
            "INCRBYFLOAT float 1.5",
            "SETEX soon 100000 v",
            "SET px v PX 100000000",
            "SET keep v EX 100000",
            "SET keep w KEEPTTL",
            "SETRANGE range 10 tail",
            "SADD ints 1 2 3 -7",
            "SADD words a b c 9",
            "SPOP words",
            "HSET h f v g w",
            "HINCRBY h n 5",
            "HDEL h f",
            "RPUSH l a b c d",
            "LPOP l",
            "EXPIRE l 100000",
            "MSET m1 1 m2 2 m3 3",
            "RENAME m1 m4",
            "DEL m2",
            "PERSIST m3",
            "GETDEL m3",
            "SELECT 9",
            "SET nine 9",
            "MULTI",
            "SET t1 1",
            "INCR t1",
            "SELECT 3",
            "RPUSH t2 a",
            "EXEC",
            "SADD three z",
            "SELECT 0",
            "SET to-move x",
            "MOVE to-move 5",
            "COPY int copied",
            "SWAPDB 9 10",
        ] {
            let command = line.split(' ').next().unwrap_or_default();
            if matches!(command, "MOVE" | "COPY" | "SETRANGE" | "GETDEL")
                && moon_commands::lookup(command.to_lowercase().as_bytes()).is_none()
            {
                continue;
            }
            self.run(line);
        }
        self.send(&[&b"SET"[..], b"\0bin\r\n\xff", b"*1\r\n$4\r\nPING\r\n\0"]);
        self.send(&["SET", "compressible", &long.repeat(50)]);
        for number in 0..700 {
            let item = format!("item-{round}-{number}");
            self.send(&["SADD", "bigset", &item]);
            self.send(&[
                "SADD",
                "bigints",
                &(number * 1_000_003 * (round + 1)).to_string(),
            ]);
            self.send(&["HSET", "bighash", &item, &long]);
            self.send(&["RPUSH", "biglist", &item, &long]);
            self.send(&["SET", &format!("{item}:key"), &item]);
        }
    }
}

/// Starts it with these settings, fills it, and compares what is loaded from `source` afterwards.
fn compare(settings: &[&str], source: &str, work: impl Fn(&mut Redis)) {
    let dir = tempfile::tempdir().unwrap();
    let Some(mut redis) = Redis::start(dir.path(), settings) else {
        return;
    };
    redis.fill(0);
    work(&mut redis);
    let expected = redis.keys();
    assert!(expected.len() > 700);
    redis.stop();
    let loaded = migrates(&dir.path().join(source));
    assert!(loaded == expected, "{settings:?}: not equal");
}

const LOG: &[&str] = &["--appendonly", "yes", "--auto-aof-rewrite-percentage", "0"];

#[test]
fn a_log_in_parts_is_loaded_as_redis_loads_it() {
    compare(LOG, "", |_| {});
}

#[test]
fn a_rewritten_log_in_parts_is_loaded_as_redis_loads_it() {
    compare(LOG, "appendonlydir", |redis| {
        redis.rewrite();
        redis.fill(1);
        redis.rewrite();
        redis.fill(2);
    });
}

#[test]
fn a_log_with_time_stamps_is_loaded_as_redis_loads_it() {
    let settings = [LOG, &["--aof-timestamp-enabled", "yes"]].concat();
    compare(&settings, "", |redis| redis.fill(1));
}

#[test]
fn a_log_without_preamble_is_loaded_as_redis_loads_it() {
    let settings = [LOG, &["--aof-use-rdb-preamble", "no"]].concat();
    compare(
        &settings,
        "appendonlydir/appendonly.aof.manifest",
        |redis| {
            redis.rewrite();
            redis.fill(1);
        },
    );
}

#[test]
fn a_dump_is_loaded_as_redis_loads_it() {
    compare(&["--appendonly", "no"], "dump.rdb", |redis| {
        redis.run("SAVE");
    });
    let plain = ["--rdbcompression", "no", "--rdbchecksum", "no"];
    compare(&plain, "", |redis| {
        redis.run("SAVE");
    });
}

/// A log of one file, as before Redis 7, is a base with the requests behind it.
#[test]
fn a_log_of_one_file_is_loaded_with_and_without_preamble() {
    for preamble in ["yes", "no"] {
        let dir = tempfile::tempdir().unwrap();
        let settings = [LOG, &["--aof-use-rdb-preamble", preamble]].concat();
        let Some(mut redis) = Redis::start(dir.path(), &settings) else {
            return;
        };
        redis.fill(0);
        redis.rewrite();
        redis.fill(1);
        let expected = redis.keys();
        redis.stop();
        let parts = dir.path().join("appendonlydir");
        let base = match preamble {
            "yes" => "appendonly.aof.2.base.rdb",
            _ => "appendonly.aof.2.base.aof",
        };
        let mut bytes = std::fs::read(parts.join(base)).unwrap();
        bytes.extend(std::fs::read(parts.join("appendonly.aof.2.incr.aof")).unwrap());
        let old = tempfile::tempdir().unwrap();
        std::fs::write(old.path().join("appendonly.aof"), &bytes).unwrap();
        assert!(migrates(old.path()) == expected, "preamble {preamble}");
    }
}

#[test]
fn what_does_not_exist_here_stops_with_its_name_and_place() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mut redis) = Redis::start(dir.path(), LOG) else {
        return;
    };
    redis.run("SET a 1");
    redis.stop();
    let parts = dir.path().join("appendonlydir");
    let newest = parts.join("appendonly.aof.1.incr.aof");
    let mut bytes = std::fs::read(&newest).unwrap();
    bytes.extend_from_slice(b"*2\r\n$8\r\nJSON.SET\r\n$1\r\na\r\n");
    std::fs::write(&newest, bytes).unwrap();
    let log = load_into(&parts, 2, &options()).unwrap_err();
    let text = format!("{log}: {}", std::error::Error::source(&log).unwrap());
    assert!(
        text.contains("appendonly.aof.1.incr.aof: the command 'JSON.SET' at byte "),
        "{text}"
    );
}

#[test]
fn libraries_of_functions_come_along_from_log_and_dump() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mut redis) = Redis::start(dir.path(), LOG) else {
        return;
    };
    let library = "#!lua name=mylib\nredis.register_function('f', function() return 1 end)";
    redis.send(&["FUNCTION", "LOAD", library]);
    redis.run("SAVE");
    redis.stop();
    for from in ["appendonlydir", "dump.rdb"] {
        let (shards, _) = load_into(&dir.path().join(from), 2, &options()).unwrap();
        let found: Vec<_> = shards[0].libraries.iter().collect();
        assert_eq!(found.len(), 1, "{from}");
        assert_eq!(&*found[0].code, library.as_bytes(), "{from}");
    }
}
