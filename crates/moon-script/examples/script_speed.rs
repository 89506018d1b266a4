//! What a run of a small script costs: `cargo run --release -p moon-script --example script_speed`.
//! Prints nanoseconds for each run, with a host whose commands cost next to nothing.

use moon_resp::{Args, Protocol, Reply};
use moon_script::{AclAnswer, Engine, Host, Limits, LogLevel, STACK_BYTES, Stop};
use std::time::Instant;

const RUNS: u32 = 200_000;

const SCRIPTS: [(&str, &str); 6] = [
    ("nothing", "return 1"),
    ("a key", "return KEYS[1]"),
    ("one command", "return redis.call('GET', KEYS[1])"),
    (
        "two commands",
        "redis.call('SET', KEYS[1], ARGV[1]) return redis.call('GET', KEYS[1])",
    ),
    ("a table", "return {KEYS[1], ARGV[1], 1, 2, 3}"),
    (
        "json",
        "return cjson.encode(cjson.decode('{\"a\":[1,2,3],\"b\":\"x\"}'))",
    ),
];

struct Echo;

impl Host for Echo {
    fn call(
        &mut self,
        args: Args<'_>,
        protocol: Protocol,
        reply: &mut Vec<u8>,
    ) -> Result<(), Stop> {
        Reply::new(reply, protocol).bulk(args.at(args.len() - 1));
        Ok(())
    }

    fn keep_running(&mut self) -> Result<(), Stop> {
        Ok(())
    }

    fn log(&mut self, _: LogLevel, _: &[u8]) {}

    fn acl_check(&mut self, _: Args<'_>) -> AclAnswer {
        AclAnswer::Allowed
    }

    fn clock(&mut self) -> f64 {
        0.0
    }
}

fn measure() {
    let mut engine = Engine::new(Limits::default()).expect("an engine");
    let mut out = Vec::new();
    for (name, body) in SCRIPTS {
        let sha = engine.load(body.as_bytes()).expect("a script");
        let begin = Instant::now();
        for _ in 0..RUNS {
            out.clear();
            let mut reply = Reply::new(&mut out, Protocol::Resp2);
            let keys = [b"key:000001".as_slice()];
            let ran = engine.run(&sha, keys, [b"value".as_slice()], &mut Echo, &mut reply);
            assert_eq!(ran, Ok(()));
        }
        println!(
            "{name:14} {:6} ns",
            begin.elapsed().as_nanos() / u128::from(RUNS)
        );
    }
    println!("{} bytes in Lua", engine.memory());
}

fn main() {
    let thread = std::thread::Builder::new().stack_size(STACK_BYTES);
    let thread = thread.spawn(measure).expect("a thread");
    thread.join().expect("measured");
}
