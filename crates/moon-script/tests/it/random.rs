//! Round trips of the libraries, and random bytes.

use crate::support::{TestHost, eval_with, on_large_stack};
use moon_resp::{Protocol, ReplyParser};
use moon_script::{Engine, Limits};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::cell::RefCell;

fn runner(cases: u32) -> TestRunner {
    TestRunner::new(Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    })
}

/// A Lua value as source text. Tables are either lists or have keys that are strings.
fn literals() -> impl Strategy<Value = String> {
    let number = prop_oneof![
        any::<i32>().prop_map(f64::from),
        (-1e15..1e15_f64).prop_map(f64::round),
        -1e9..1e9_f64,
    ];
    let leaf = prop_oneof![
        number.prop_map(|number| format!("({number:.1})")),
        any::<bool>().prop_map(|value| value.to_string()),
        prop::collection::vec(any::<u8>(), 0..40).prop_map(|bytes| quoted(&bytes)),
    ];
    leaf.prop_recursive(4, 40, 8, |inner| {
        let pair = (prop::collection::vec(any::<u8>(), 0..8), inner.clone());
        let pair = pair.prop_map(|(key, value)| format!("[{}]={value}", quoted(&key)));
        prop_oneof![
            prop::collection::vec(inner, 0..8),
            prop::collection::vec(pair, 1..8),
        ]
        .prop_map(|parts| format!("{{{}}}", parts.join(",")))
    })
}

fn quoted(bytes: &[u8]) -> String {
    let escaped: String = bytes.iter().map(|byte| format!("\\{byte:03}")).collect();
    format!("'{escaped}'")
}

const SAME: &str = "local function same(a, b) \
    if type(a) ~= type(b) then return false end \
    if type(a) ~= 'table' then return a == b end \
    for k, v in pairs(a) do if not same(v, b[k]) then return false end end \
    for k in pairs(b) do if a[k] == nil then return false end end \
    return true end ";

#[test]
fn values_come_back_from_every_library() {
    on_large_stack(|| {
        let engine = RefCell::new(Engine::new(Limits::default()).expect("an engine"));
        let host = RefCell::new(TestHost::default());
        let mut runner = runner(200);
        let ran = runner.run(&literals(), |literal| {
            let (mut engine, mut host) = (engine.borrow_mut(), host.borrow_mut());
            let body = format!(
                "{SAME} local v = {literal} \
                 local m = same(v, cmsgpack.unpack(cmsgpack.pack(v))) \
                 local j = cjson.decode(cjson.encode(v)) \
                 local jj = same(j, cjson.decode(cjson.encode(j))) \
                 local s = type(v) ~= 'string' or select(2, struct.unpack('>I4c0', struct.pack('>I4c0', #v, v))) == #v + 5 \
                 return {{m and 1 or 0, jj and 1 or 0, s and 1 or 0}}"
            );
            let found = eval_with(&mut engine, &mut host, Protocol::Resp2, body.as_bytes(), &[], &[]);
            engine.flush();
            let found = found.escape_ascii().to_string();
            prop_assert_eq!(found, r"*3\r\n:1\r\n:1\r\n:1\r\n", "{}", literal);
            Ok(())
        });
        ran.expect("values come back");
    });
}

/// Calls that get random bytes as `ARGV[1]` and `ARGV[2]`.
const CALLS: &[&str] = &[
    "return cjson.decode(ARGV[1])",
    "return {cmsgpack.unpack(ARGV[1])}",
    "return {cmsgpack.unpack_one(ARGV[1], #ARGV[2])}",
    "return {struct.unpack(ARGV[1], ARGV[2])}",
    "return struct.pack(ARGV[1], 1, 2, ARGV[2], 3, ARGV[2], ARGV[2], 5)",
    "return struct.size(ARGV[1])",
    "return {loadstring(ARGV[1], ARGV[2])}",
    "return {ARGV[1]:find(ARGV[2])}",
    "return {ARGV[1]:gsub(ARGV[2], ARGV[1])}",
    "return {string.format(ARGV[1], ARGV[2], 1, 2)}",
    "return redis.call('raw', ARGV[1])",
    "redis.setresp(3) return redis.call('raw', ARGV[1])",
    "return {err = ARGV[1]}",
    "return {verbatim_string = {format = ARGV[1], string = ARGV[2]}}",
    "error(ARGV[1])",
    "return {pcall(redis.call, ARGV[1], ARGV[2])}",
    "return redis.error_reply(ARGV[1])",
    "return ARGV[1] + ARGV[2]",
    "return {tonumber(ARGV[1]), tonumber(ARGV[1], 16)}",
];

/// Bytes that mean something to one of the libraries.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let words = prop::sample::select(
        b"{}[]\",:\\u0019+-.eEnulltruefalsinf<>!bBhHlLTiIfdcsx %*()^$$\r\n~#_=|>".to_vec(),
    );
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..30),
        prop::collection::vec(words, 0..30),
    ]
}

#[test]
fn random_bytes_get_one_reply() {
    on_large_stack(|| {
        let engine = RefCell::new(Engine::new(Limits::default()).expect("an engine"));
        let host = RefCell::new(TestHost::default());
        let mut runner = runner(400);
        let ran = runner.run(&(bytes(), bytes()), |(first, second)| {
            let (mut engine, mut host) = (engine.borrow_mut(), host.borrow_mut());
            for call in CALLS {
                let sha = engine.load(call.as_bytes()).expect("a script");
                let args = [first.as_slice(), &second];
                let mut out = Vec::new();
                let mut reply = moon_resp::Reply::new(&mut out, Protocol::Resp2);
                if let Err(error) = engine.run(&sha, [], args, &mut *host, &mut reply) {
                    reply.error_bytes(error.text());
                }
                let parsed = ReplyParser::new().parse(&out);
                let one = matches!(&parsed, Ok(Some((_, len))) if *len == out.len());
                prop_assert!(one, "{call}: {}", out.escape_ascii());
            }
            prop_assert!(engine.load(&first).is_ok() || engine.script_count() > 0);
            Ok(())
        });
        ran.expect("one reply to each");
    });
}

#[test]
fn random_first_lines_are_refused_or_taken() {
    on_large_stack(|| {
        let engine = RefCell::new(Engine::new(Limits::default()).expect("an engine"));
        let host = RefCell::new(TestHost::default());
        let mut runner = runner(300);
        let ran = runner.run(&bytes(), |line| {
            let (mut engine, mut host) = (engine.borrow_mut(), host.borrow_mut());
            for begin in ["#!", "#!lua ", "#!lua flags=", "#!lua name="] {
                let body = [begin.as_bytes(), &line, b"\nreturn 1"].concat();
                // Both answers are fine; neither may panic.
                if let Ok(sha) = engine.load(&body) {
                    engine.forget(&sha);
                }
                prop_assert!(engine.load_library(&body, true, &mut *host).is_err());
            }
            Ok(())
        });
        ran.expect("no panic");
    });
}
