//! Ways out of the sandbox, and what one script could leave for the next.

use crate::support::{TestHost, eval, eval_once, on_large_stack};
use moon_script::{Engine, Limits};

/// Runs each attempt, then checks that the globals are as in a new engine.
#[test]
fn no_script_changes_what_the_next_one_finds() {
    let attempts = [
        "rawset(_G, 'leak', 1)",
        "rawset(redis, 'call', 1)",
        "rawset(string, 'rep', 1)",
        "setmetatable(_G, {__index = function() return 1 end})",
        "setmetatable(string, {})",
        "getmetatable('').__index = {}",
        "getmetatable('').__index.rep = 1",
        "rawset(getmetatable(''), '__index', {})",
        "rawset(getmetatable('').__index, 'rep', 1)",
        "getmetatable(_G).__index = nil",
        "rawset(getmetatable(_G), '__newindex', nil)",
        "local m = getmetatable(redis) if m then m.__index = nil end",
        "table.insert(redis, 1)",
        "table.insert(_G, 1, 2)",
        "table.sort(redis)",
        "table.remove(redis)",
        "for k, v in pairs(_G) do if type(v) == 'table' then v.leak = 1 end end",
        "for k, v in next, _G do if type(v) == 'table' then rawset(v, 'leak', 1) end end",
        "local f, t = pairs(redis) t.leak = 1",
        "local f, t = pairs(redis) rawset(t, 'leak', 1)",
        "local f, t = pairs(_G) rawset(t, 'leak', 1)",
        "table.foreach(_G, function(k, v) if type(v) == 'table' then v.leak = 1 end end)",
        "local t = setmetatable({}, {__index = _G, __newindex = _G}) t.leak = 1",
        "local t = setmetatable({}, {__newindex = redis}) t.leak = 1",
        "loadstring('leak = 1')()",
        "load(function() return nil end)() loadstring('_G.leak = 1')()",
        "coroutine.wrap(function() leak = 1 end)()",
        "string.gsub('x', 'x', function() leak = 1 end)",
        "string.gsub('x', 'x', redis)",
        "xpcall(function() leak = 1 end, function() leak = 1 end)",
        "server.leak = 1",
        "os.leak = 1",
        "rawset(os, 'clock', 1)",
        "KEYS = {1} ARGV = {2}",
        "rawset(_G, 'KEYS', {1})",
        "collectgarbage('stop')",
        "cjson.encode_max_depth(1) cjson.encode_number_precision(1)",
        "redis.setresp(3)",
        "getmetatable(cjson.null).x = 1",
        "_G._G = nil",
    ];
    on_large_stack(move || {
        let look = "local seen = {} local function walk(t, path) \
            for k, v in pairs(t) do local p = path .. '.' .. tostring(k) \
            seen[#seen + 1] = p .. type(v) \
            if type(v) == 'table' and v ~= _G then walk(v, p) end end end \
            walk(_G, '_G') table.sort(seen) seen[#seen + 1] = ('ab'):rep(2) \
            seen[#seen + 1] = #KEYS + #ARGV seen[#seen + 1] = cjson.encode({{1 / 3}}) \
            seen[#seen + 1] = tostring(redis.call('get', 'none')) \
            return table.concat(seen, ' ')";
        let expected = eval_once(look);
        assert!(expected.contains("_G.redis.call"), "{expected}");
        let mut engine = Engine::new(Limits::default()).expect("an engine");
        let mut host = TestHost::default();
        for attempt in attempts {
            eval(&mut engine, &mut host, attempt);
            assert_eq!(eval(&mut engine, &mut host, look), expected, "{attempt}");
        }
    });
}

#[test]
fn no_global_reaches_the_machine() {
    on_large_stack(|| {
        for name in [
            "dofile", "loadfile", "require", "module", "package", "io", "debug", "print",
            "getfenv", "setfenv", "newproxy", "builtin",
        ] {
            let reply = eval_once(&format!("return {name}"));
            assert!(
                reply.contains("nonexistent global variable"),
                "{name}: {reply}"
            );
        }
        let names = eval_once("local t = {} for k in pairs(os) do t[#t + 1] = k end return t");
        assert_eq!(names, r"*1\r\n$5\r\nclock\r\n");
        assert_eq!(eval_once("return tostring(os.clock())"), r"$3\r\n1.5\r\n");
    });
}

#[test]
fn bytecode_is_never_loaded() {
    on_large_stack(|| {
        for body in [
            "return loadstring(string.dump(function() return 1 end))",
            "local d = string.dump(function() end) return load(function() local x = d d = nil return x end)",
            "return loadstring('\\27Lua')",
        ] {
            assert_eq!(eval_once(body), r"$-1\r\n", "{body}");
        }
        let engine = &mut Engine::new(Limits::default()).expect("an engine");
        assert!(engine.load(b"\x1bLuaQ\0\x01\x04\x08\x04\x08\0").is_err());
        let library = b"#!lua name=x\n\x1bLuaQ\0\x01\x04\x08";
        let host = &mut TestHost::default();
        assert!(engine.load_library(library, false, host).is_err());
    });
}

#[test]
fn error_objects_of_the_engine_stay_hidden() {
    on_large_stack(|| {
        for body in [
            "local ok, e = pcall(redis.call, 'nope') return type(e)",
            "local ok, e = pcall(cjson.decode, '{') return type(e)",
            "local ok, e = pcall(function() x = 1 end) return type(e)",
            "local e = select(2, coroutine.resume(coroutine.create(function() return zz end))) return type(e)",
            "local t xpcall(function() cjson.decode('{') end, function(e) t = type(e) end) return t",
            "return type(select(2, pcall(coroutine.wrap(function() cjson.decode('{') end))))",
            "return type(select(2, pcall(string.gsub, 'x', 'x', function() return zz end)))",
            "return type(select(2, pcall(table.sort, {1, 2}, function() return zz end)))",
        ] {
            assert_eq!(eval_once(body), r"$6\r\nstring\r\n", "{body}");
        }
    });
}

#[test]
fn server_is_another_name_of_redis() {
    on_large_stack(|| {
        assert_eq!(eval_once("return server.call('echo', 'x')"), r"$1\r\nx\r\n");
        let body = "return tostring(server.call == redis.call) .. server.SERVER_NAME";
        assert_eq!(eval_once(body), r"$8\r\ntruemoon\r\n");
        let body = "return server.SERVER_VERSION_NUM == redis.REDIS_VERSION_NUM";
        assert_eq!(eval_once(body), r":1\r\n");
    });
}
