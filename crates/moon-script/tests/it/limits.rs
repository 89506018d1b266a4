//! Memory, time, depth: every script ends, and the engine works afterwards.

use crate::support::{TestHost, eval, eval_once, eval_with, on_large_stack, outcome};
use moon_resp::Protocol;
use moon_script::{Engine, Limits, RunError, Stop};

fn small_engine() -> Engine {
    let limits = Limits {
        memory_bytes: 4 << 20,
        ..Limits::default()
    };
    Engine::new(limits).expect("an engine")
}

#[test]
fn a_script_without_memory_fails_and_the_next_one_runs() {
    on_large_stack(|| {
        let mut engine = small_engine();
        let mut host = TestHost::default();
        for body in [
            "local t = {} for i = 1, 1e9 do t[i] = {i} end",
            "local s = 'x' while true do s = s .. s end",
            "return string.rep('x', 1e9)",
            "return string.rep('', 2147483647)",
            "return ('x'):rep(1e6):rep(1e6)",
            "return #string.rep('abc', 4e6)",
            "local t = {} for i = 1, 1e7 do t[i] = i end return #table.concat(t, ',')",
            "return ('x'):rep(3e6):gsub('x', 'yyyyyyyyyy')",
            "local t = {} for i = 1, 1e9 do t[i] = coroutine.create(function() end) end",
            "local t = {} for i = 1, 1e9 do t[i] = loadstring('return ' .. i) end",
            "return load(function() return 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx' end)",
            "local t = {('x'):rep(1e6)} for i = 1, 20 do t = {t[1], t[1], t, t} end return t",
            "local t = {} for i = 1, 40 do t = {t, t} end return t",
            "local t = {} for i = 1, 900 do t = {t, t} end return cjson.encode(t)",
            "local t = {} for i = 1, 15 do t = {t, t, t, t, t} end return cmsgpack.pack(t)",
            "local j = cjson.new() j.encode_sparse_array(true, 0) return j.encode({[2147483647] = 1})",
            "while true do redis.call('echo', ('x'):rep(1e6)) KEYS[#KEYS + 1] = ('x'):rep(1e6) .. #KEYS end",
            "local t = {} while true do t[#t + 1] = pcall(error, ('x'):rep(1e5) .. #t) and 1 or ('y'):rep(1e5) .. #t end",
            "return struct.pack(('x'):rep(1e6):rep(2) .. ('x'):rep(1e6):rep(2))",
            "return struct.pack('!1073741824bi', 1, 2)",
        ] {
            eval(&mut engine, &mut host, body);
            let after = "local t = {} for i = 1, 10000 do t[i] = 'v' .. i end return #t";
            assert_eq!(eval(&mut engine, &mut host, after), r":10000\r\n", "{body}");
            assert!(engine.memory() < 4 << 20, "{body}");
        }
        let text = eval(&mut engine, &mut host, "return string.rep('x', 1e9)");
        assert!(text.starts_with("-ERR not enough memory"), "{text}");
        let body = "local s = 'x' while true do s = s .. s end";
        assert_eq!(
            eval(&mut engine, &mut host, body),
            r"-ERR not enough memory\r\n"
        );
    });
}

#[test]
fn a_killed_script_ends_whatever_it_catches() {
    on_large_stack(|| {
        for body in [
            "while true do end",
            "while true do pcall(function() while true do end end) end",
            "while true do xpcall(function() while true do end end, function() while true do end end) end",
            "while true do xpcall(error, function() while true do end end) end",
            "while true do coroutine.wrap(function() while true do end end)() end",
            "local c = coroutine.create(function() while true do coroutine.yield() end end) while true do coroutine.resume(c) end",
            "while true do coroutine.resume(coroutine.create(function() while true do end end)) end",
            "while true do pcall(string.gsub, 'x', 'x', function() while true do end end) end",
            "while true do pcall(table.sort, {1, 2, 3}, function() while true do end end) end",
            "while true do pcall(load, function() while true do end end) end",
            "local t = setmetatable({}, {__index = function() while true do end end}) while true do pcall(function() return t.x end) end",
            "local function f() return pcall(f) end while true do f() end",
            "while true do pcall(redis.call, 'nope') end",
            "while true do pcall(cjson.decode, '{') end",
            "repeat local ok, e = pcall(function() while true do end end) until false",
        ] {
            let mut engine = Engine::new(Limits::default()).expect("an engine");
            let mut host = TestHost {
                patience: Some(2),
                ..TestHost::default()
            };
            let ended = outcome(&mut engine, &mut host, body);
            let Err(RunError::Stopped { stop, text }) = ended else {
                panic!("{body}: {ended:?}");
            };
            assert_eq!(stop, Stop::Killed, "{body}");
            let text = String::from_utf8_lossy(&text);
            let expected = "ERR Script killed by user with SCRIPT KILL. script: ";
            assert!(text.starts_with(expected), "{body}: {text}");
            host.patience = None;
            assert_eq!(
                eval(&mut engine, &mut host, "return 1"),
                r":1\r\n",
                "{body}"
            );
        }
    });
}

#[test]
fn the_host_is_asked_every_so_many_instructions() {
    on_large_stack(|| {
        for (per_check, least, most) in [(1000, 1500, 2500), (100_000, 15, 25)] {
            let limits = Limits {
                instructions_per_check: per_check,
                ..Limits::default()
            };
            let mut engine = Engine::new(limits).expect("an engine");
            let mut host = TestHost::default();
            eval(
                &mut engine,
                &mut host,
                "for i = 1, 1000000 do local x = i end",
            );
            assert!(
                (least..most).contains(&host.questions),
                "{}",
                host.questions
            );
        }
    });
}

#[test]
fn a_host_can_end_a_script_from_inside_of_a_command() {
    on_large_stack(|| {
        let mut engine = Engine::new(Limits::default()).expect("an engine");
        let mut host = TestHost::default();
        let body = "pcall(redis.call, 'again') redis.call('set', 'a', 1) return 1";
        let ended = outcome(&mut engine, &mut host, body);
        assert!(
            matches!(
                ended,
                Err(RunError::Stopped {
                    stop: Stop::RunAgain,
                    ..
                })
            ),
            "{ended:?}"
        );
        assert!(host.strings.is_empty(), "nothing ran after the end");
        assert_eq!(eval(&mut engine, &mut host, "return 1"), r":1\r\n");
    });
}

#[test]
fn depth_never_reaches_the_end_of_the_stack() {
    on_large_stack(|| {
        for body in [
            "local function f() return f() + 1 end return f()",
            "local function f() return pcall(f) end return f()",
            "local function f() return xpcall(f, f) end return f()",
            "local function f() return string.gsub('x', 'x', f) end return f()",
            "local function f() return table.sort({1, 2}, f) end return f()",
            "local function f() return load(f) end return f()",
            "local function f() return coroutine.wrap(f)() end return f()",
            "local function f() return coroutine.resume(coroutine.create(f)) end return f()",
            "local t = setmetatable({}, {}) getmetatable(t).__index = function(t, k) return t[k] end return t.x",
            "local t = {} t[1] = t return t",
            "local t = {} t.map = t return t",
            "local t = {} t[1] = t return cjson.encode(t)",
            "local t = {} for i = 1, 1e5 do t = {t} end return t",
            "local t = {} for i = 1, 1e5 do t = {map = {[1] = t}} end return t",
            "local j = cjson.new() j.encode_max_depth(2147483647) local t = {} t[1] = t return j.encode(t)",
            "local j = cjson.new() j.decode_max_depth(2147483647) return j.decode(('['):rep(1e6))",
            "local j = cjson.new() j.decode_max_depth(2147483647) return j.decode(('{\"a\":'):rep(1e6))",
            "return cmsgpack.unpack(('\\145'):rep(1e6))",
            "return cmsgpack.unpack(('\\129\\1'):rep(1e6))",
            "return loadstring(('('):rep(1e5))",
            "return loadstring('return ' .. ('{'):rep(1e5))",
            "return loadstring(('do '):rep(1e5))",
            "return string.find(('a'):rep(1e6), ('a?'):rep(1e5))",
            "return string.match(('a'):rep(1e6), ('(a'):rep(1e5))",
            "return string.gsub(('a'):rep(1e6), ('.-'):rep(1e5), '')",
            "for w in string.gmatch(('a'):rep(1e6), ('a*'):rep(1e5)) do end",
            "return #string.rep('(', 1e6):rep(1)",
            "local function f() return string.gsub('x', 'x', function() return string.find(('a'):rep(900), ('a?'):rep(450)) and f() end) end return f()",
            "return redis.call(unpack({}, 1, 7990))",
            "return select('#', unpack({}, 1, 7900))",
            "local t = {} for i = 1, 7990 do t[i] = 'v' .. i end return redis.call('echo', unpack(t))",
            "local t = {} for i = 1, 7990 do t[i] = {} end return redis.call('echo', unpack(t))",
            "local t = {} for i = 1, 7990 do t[i] = {} end return cmsgpack.pack(unpack(t))",
            "return {cmsgpack.unpack(('\\161x'):rep(1e5))}",
            "return {struct.unpack(('s'):rep(1e5), ('x\\0'):rep(1e5))}",
            "return unpack({}, -1e308, 1e308)",
            "return unpack({}, 0 / 0, 1)",
            "error(setmetatable({}, {__tostring = error}))",
            "error(coroutine.create(error))",
            "return string.format(('%s'):rep(1e5), 1)",
            "return string.format('%99.99f', -1e308)",
            "return ('x'):byte(1, -1), ('x'):rep(1e5):byte(1, -1)",
            "return string.char(unpack({}, 1, 100))",
        ] {
            // What it answers is not the point; that it answers is.
            eval_once(body);
        }
    });
}

#[test]
fn a_thousand_runs_need_no_new_state() {
    on_large_stack(|| {
        let mut engine = Engine::new(Limits::default()).expect("an engine");
        let mut host = TestHost::default();
        let body = b"redis.call('set', KEYS[1], ARGV[1]) return {KEYS[1], ARGV[1], #KEYS, #ARGV}";
        let mut run = |n: usize| {
            let (key, value) = (format!("key{n}"), format!("value{n}"));
            let engine = &mut engine;
            let reply = eval_with(engine, &mut host, Protocol::Resp2, body, &[&key], &[&value]);
            let expected = format!(
                "*4\r\n${}\r\n{key}\r\n${}\r\n{value}\r\n:1\r\n:1\r\n",
                key.len(),
                value.len()
            );
            assert_eq!(reply, expected.as_bytes());
            engine.memory()
        };
        let first = (0..1000).map(&mut run).max().expect("runs");
        let later = (0..9000).map(&mut run).max().expect("runs");
        assert!(later < first + (64 << 10), "{first} grew to {later}");
        assert_eq!(engine.script_count(), 1);
    });
}

#[test]
fn many_scripts_are_kept_and_given_back() {
    on_large_stack(|| {
        let mut engine = Engine::new(Limits::default()).expect("an engine");
        let empty = engine.memory();
        let bodies: Vec<_> = (0..10_000).map(|n| format!("return {n}")).collect();
        let load = |engine: &mut Engine, body: &String| engine.load(body.as_bytes());
        let shas: Vec<_> = bodies.iter().map(|body| load(&mut engine, body)).collect();
        for (sha, body) in shas.iter().zip(&bodies) {
            let sha = sha.as_ref().expect("loaded");
            assert_eq!(&*engine.body(sha).expect("kept"), body.as_bytes());
        }
        let mut host = TestHost::default();
        assert_eq!(eval(&mut engine, &mut host, "return 9999"), r":9999\r\n");
        let sha = *shas[5].as_ref().expect("loaded");
        engine.forget(&sha);
        assert!(!engine.exists(&sha));
        engine.flush();
        assert_eq!(engine.script_count(), 0);
        assert!(engine.memory() < empty + (2 << 20), "{}", engine.memory());
    });
}

#[test]
fn conversions_of_endless_values_are_interrupted() {
    on_large_stack(|| {
        let endless = "local t = {} for i = 1, 14 do t = {t, t, t, t, t, t} end ";
        for what in [
            "return t",
            "return cjson.encode(t)",
            "return cmsgpack.pack(t)",
        ] {
            let mut engine = Engine::new(Limits::default()).expect("an engine");
            let mut host = TestHost {
                patience: Some(2),
                ..TestHost::default()
            };
            let ended = outcome(&mut engine, &mut host, &format!("{endless}{what}"));
            let is_killed = matches!(
                ended,
                Err(RunError::Stopped {
                    stop: Stop::Killed,
                    ..
                })
            );
            assert!(is_killed, "{what}: {ended:?}");
        }
    });
}
