//! Scripts whose replies are compared byte for byte with those of a real `redis-server`: live where
//! one is installed, with its recorded replies everywhere.

use crate::support::{TestHost, eval_with, on_large_stack};
use moon_resp::{OwnedArgs, Protocol, Reply, ReplyParser, write_args};
use moon_script::{Engine, Limits};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

/// Scripts, one a line; `␤` is a line end inside of one. Lines with `!` are about libraries.
const LISTS: &str = "tests/it/scripts";

/// The replies of Redis to each list, escaped, a line each. They are recorded anew when
/// `MOON_RECORD_REPLIES` is set.
const RECORDED: &str = "tests/golden";

fn lists() -> Vec<(String, Vec<String>)> {
    let files = std::fs::read_dir(LISTS).expect("the lists of scripts");
    let mut lists: Vec<_> = files
        .map(|file| {
            let path = file.expect("a list").path();
            let name = path.file_stem().expect("a name").to_string_lossy();
            let lines = std::fs::read_to_string(&path).expect("a list of scripts");
            let is_script = |line: &&str| !line.is_empty() && !line.starts_with("# ");
            let scripts = lines.lines().filter(is_script);
            let scripts = scripts.map(|line| line.replace('␤', "\n")).collect();
            (name.into_owned(), scripts)
        })
        .collect();
    lists.sort();
    assert!(lists.len() > 8, "only {} lists were found", lists.len());
    lists
}

fn recorded(name: &str, protocol: Protocol) -> String {
    let protocol = match protocol {
        Protocol::Resp2 => "resp2",
        Protocol::Resp3 => "resp3",
    };
    format!("{RECORDED}/{name}-{protocol}.txt")
}

/// The engine's reply to one line of a list.
fn reply_to(engine: &mut Engine, host: &mut TestHost, protocol: Protocol, line: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut reply = Reply::new(&mut out, protocol);
    match line.split_once(' ') {
        Some((how @ ("!load" | "!replace"), code)) => {
            match engine.load_library(code.as_bytes(), how == "!replace", host) {
                Ok(name) => reply.bulk(name.as_bytes()),
                Err(error) => reply.error(&format!("ERR {error}")),
            }
        }
        Some(("!fcall", name)) => {
            let (keys, args) = ([b"k".as_slice()], [b"a".as_slice(), b"b"]);
            if let Err(error) = engine.call(name, keys, args, host, &mut reply) {
                reply.error_bytes(error.text());
            }
        }
        _ => return eval_with(engine, host, protocol, line.as_bytes(), &[], &[]),
    }
    out
}

fn request_for(line: &str) -> OwnedArgs {
    match line.split_once(' ') {
        Some(("!load", code)) => OwnedArgs::new(["FUNCTION", "LOAD", code]),
        Some(("!replace", code)) => OwnedArgs::new(["FUNCTION", "LOAD", "REPLACE", code]),
        Some(("!fcall", name)) => OwnedArgs::new(["FCALL", name, "1", "k", "a", "b"]),
        _ => OwnedArgs::new(["EVAL", line, "0"]),
    }
}

/// The engine's replies to a list, escaped.
fn replies_to(scripts: &[String], protocol: Protocol) -> Vec<String> {
    let mut engine = Engine::new(Limits::default()).expect("an engine");
    let mut host = TestHost::default();
    let mut reply = |line| reply_to(&mut engine, &mut host, protocol, line);
    let replies = scripts
        .iter()
        .map(|line| reply(line).escape_ascii().to_string());
    replies.collect()
}

fn differences(name: &str, scripts: &[String], found: &[String], expected: &[String]) -> String {
    assert_eq!(found.len(), expected.len(), "{name}");
    let mut differences = String::new();
    for ((script, found), expected) in scripts.iter().zip(found).zip(expected) {
        if found != expected {
            differences += &format!("\n{name}: {script}\n  here:  {found}\n  Redis: {expected}");
        }
    }
    differences
}

#[test]
fn scripts_answer_as_recorded_from_redis() {
    on_large_stack(|| {
        let mut all = String::new();
        for (name, scripts) in lists() {
            for protocol in [Protocol::Resp2, Protocol::Resp3] {
                let path = recorded(&name, protocol);
                let replies = std::fs::read_to_string(&path).expect(&path);
                let expected: Vec<_> = replies.lines().map(str::to_owned).collect();
                let found = replies_to(&scripts, protocol);
                all += &differences(&path, &scripts, &found, &expected);
            }
        }
        assert!(all.is_empty(), "{all}");
    });
}

#[test]
fn scripts_answer_as_redis_does() {
    on_large_stack(|| {
        let Some(mut redis) = Redis::start() else {
            println!("skipped: there is no redis-server");
            return;
        };
        let mut all = String::new();
        for protocol in [Protocol::Resp2, Protocol::Resp3] {
            if protocol == Protocol::Resp3 {
                redis.run(&OwnedArgs::new(["HELLO", "3"]));
            }
            for (name, scripts) in lists() {
                redis.run(&OwnedArgs::new(["FLUSHALL"]));
                redis.run(&OwnedArgs::new(["FUNCTION", "FLUSH"]));
                let mut ask = |line| redis.run(&request_for(line));
                let expected = scripts
                    .iter()
                    .map(|line| ask(line).escape_ascii().to_string());
                let expected: Vec<_> = expected.collect();
                if std::env::var_os("MOON_RECORD_REPLIES").is_some() {
                    let path = recorded(&name, protocol);
                    std::fs::write(path, expected.join("\n") + "\n").expect("recorded");
                }
                let found = replies_to(&scripts, protocol);
                all += &differences(&name, &scripts, &found, &expected);
            }
        }
        assert!(all.is_empty(), "{all}");
    });
}

/// A `redis-server` of this test.
pub(crate) struct Redis {
    process: Child,
    connection: TcpStream,
}

impl Redis {
    /// `None` where there is none.
    pub(crate) fn start() -> Option<Redis> {
        // A port that was free a moment ago.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        drop(listener);
        let mut process = Command::new("redis-server")
            .args([
                "--port",
                &port.to_string(),
                "--save",
                "",
                "--bind",
                "127.0.0.1",
            ])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        loop {
            match TcpStream::connect(("127.0.0.1", port)) {
                Ok(connection) => {
                    return Some(Redis {
                        process,
                        connection,
                    });
                }
                Err(_) => {
                    let ended = process.try_wait().expect("a state");
                    assert!(ended.is_none(), "redis-server ended: {ended:?}");
                    std::thread::yield_now();
                }
            }
        }
    }

    /// The encoded reply to one request.
    pub(crate) fn run(&mut self, args: &OwnedArgs) -> Vec<u8> {
        let mut request = Vec::new();
        write_args(&mut request, args.as_args());
        self.connection.write_all(&request).expect("sent");
        let mut parser = ReplyParser::new();
        let mut reply = Vec::new();
        loop {
            if let Some((_, len)) = parser.parse(&reply).expect("a reply") {
                assert_eq!(len, reply.len(), "one reply to one request");
                return reply;
            }
            let mut part = [0; 1 << 14];
            let len = self.connection.read(&mut part).expect("a reply");
            assert!(len > 0, "redis-server went away");
            reply.extend_from_slice(&part[..len]);
        }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // Already gone is as good.
        let _ended = self.process.kill();
        let _reaped = self.process.wait();
    }
}
