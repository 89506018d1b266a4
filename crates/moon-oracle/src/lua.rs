//! Scripts: random ones that call commands or turn Lua values into replies, and the libraries of
//! functions.
//!
//! Two kinds are made by chance. [`calls`] lists the replies of requests of any family, so that each
//! of them is compared as it would be alone. [`value`] is one expression that becomes a reply, with
//! the libraries of the sandbox in it. No script depends on the order of a table with several names,
//! on an address, or on the clock.

use crate::request::Request;
use crate::words::{Word, Words};
use rand::RngExt as _;
use rand::rngs::StdRng;
use sha1_smol::Sha1;

/// Levels of tables in a random value.
const DEPTH_MAX: u32 = 3;

/// Requests whose replies are in no order that a comparison knows, once they are Lua maps.
const UNORDERED_AS_MAPS: &[&[u8]] = &[b"XINFO", b"XREAD", b"XREADGROUP"];
/// Requests that a script does not send: they change scripts themselves, or speak of the connection.
const NOT_CALLED: &[&[u8]] = &[b"SCRIPT", b"FUNCTION", b"EVAL", b"EVALSHA", b"SCAN"];

/// Runs the requests that stand in its arguments, each behind the number of its words.
const RUNS_ARGUMENTS: &str = "local replies, at = {}, 1 while at <= #ARGV do \
    local words = tonumber(ARGV[at]) \
    replies[#replies + 1] = redis.pcall(unpack(ARGV, at + 1, at + words)) \
    at = at + words + 1 end return replies";

/// Scripts for up to two keys and two values.
pub static SCRIPTS: &[&[u8]] = &[
    b"return redis.call('SET', KEYS[1], ARGV[1])",
    b"return redis.call('GET', KEYS[1])",
    b"return {KEYS[1], KEYS[2], ARGV[1], ARGV[2], #KEYS, #ARGV}",
    b"redis.call('RPUSH', KEYS[1], ARGV[1], ARGV[2]) return redis.call('LRANGE', KEYS[1], 0, -1)",
    b"redis.call('SADD', KEYS[1], ARGV[1]) return redis.call('SISMEMBER', KEYS[1], ARGV[2])",
    b"redis.call('ZADD', KEYS[1], 1.5, ARGV[1]) return redis.call('ZSCORE', KEYS[1], ARGV[1])",
    b"redis.setresp(3) redis.call('ZADD', KEYS[1], 0.1, ARGV[1]) return redis.call('ZSCORE', KEYS[1], ARGV[1])",
    b"redis.call('HSET', KEYS[1], ARGV[1], ARGV[2]) return redis.call('HGET', KEYS[1], ARGV[1])",
    b"redis.setresp(3) return redis.call('HMGET', KEYS[1], ARGV[1], ARGV[2])",
    b"local n = redis.call('INCR', KEYS[1]) return n * 1.5",
    b"for i = 1, 10 do redis.call('RPUSH', KEYS[1], i) end return redis.call('LLEN', KEYS[1])",
    b"redis.call('SET', KEYS[1], ARGV[1]) redis.call('INCR', KEYS[1]) return redis.call('SET', KEYS[2], 'after')",
    b"local r = redis.pcall('INCR', KEYS[1]) if type(r) == 'table' then return r.err end return r",
    b"local r = redis.pcall('LPUSH', KEYS[1], ARGV[1]) return r",
    b"redis.call('SET', KEYS[1], ARGV[1]) error('stop')",
    b"redis.call('SET', KEYS[1], ARGV[1]) return redis.error_reply('MINE of my own')",
    b"redis.call('RENAME', KEYS[1], KEYS[2]) return redis.call('TYPE', KEYS[2])",
    b"redis.call('MSET', KEYS[1], ARGV[1], KEYS[2], ARGV[2]) return redis.call('MGET', KEYS[1], KEYS[2], 'nokey')",
    b"return redis.call('LMOVE', KEYS[1], KEYS[2], 'LEFT', 'RIGHT')",
    b"return redis.call('BLPOP', KEYS[1], KEYS[2], 0)",
    b"return redis.call('BZPOPMIN', KEYS[1], 0)",
    b"redis.call('SELECT', 1) redis.call('SET', KEYS[1], ARGV[1]) return redis.call('GET', KEYS[1])",
    b"return redis.call('DEL', unpack(KEYS))",
    b"return redis.call(ARGV[1], KEYS[1])",
    b"return redis.pcall(ARGV[1], KEYS[1])",
    b"return redis.call('GETRANGE', KEYS[1], 1, 3) .. (ARGV[1] or '')",
    b"return redis.call('SUBSTR')",
    b"return redis.call('SET', KEYS[1])",
    b"return redis.call('SET', KEYS[1], {})",
    b"return redis.call('SET', KEYS[1], 3.25)",
    b"return redis.call('SET', KEYS[1], 1e15)",
    b"return redis.call('APPEND', KEYS[1], 2^53)",
    b"return redis.call()",
    b"return redis.sha1hex(ARGV[1])",
    b"return redis.status_reply(ARGV[1])",
    b"return redis.error_reply(ARGV[1])",
    b"return {ok = ARGV[1]}",
    b"return {err = ARGV[1]}",
    b"return tonumber(ARGV[1])",
    b"return tostring(tonumber(ARGV[1]))",
    b"return redis.call('SUBSCRIBE', 'x')",
    b"return redis.call('MULTI')",
    b"return redis.call('EVAL', 'return 1', 0)",
    b"return redis.call('PUBLISH', KEYS[1], ARGV[1])",
    b"global = ARGV[1]",
    b"return global",
    b"redis = nil",
    b"KEYS = {} return #KEYS",
    b"KEYS[3] = 'x' ARGV[3] = 'y' return {#KEYS, #ARGV}",
    b"local function f(n) if n == 0 then return 0 end return 1 + f(n - 1) end return f(100)",
    b"return cjson.encode({KEYS, ARGV})",
    b"return cjson.decode(ARGV[1])",
    b"return {pcall(cjson.decode, ARGV[1])}",
    b"return cmsgpack.unpack(cmsgpack.pack({KEYS[1], ARGV[1], 1, 2.5, true}))",
    b"return {pcall(cmsgpack.unpack, ARGV[1])}",
    b"return struct.pack('>I4s', 7, ARGV[1])",
    b"return {pcall(struct.unpack, '<h', ARGV[1])}",
    b"return bit.tohex(bit.bxor(#ARGV[1], 255), 4)",
    b"return string.rep(ARGV[1], 3, ',')",
    b"return #string.format('%10s|%-5d|%q', ARGV[1], #KEYS, ARGV[1])",
    b"return {string.find(ARGV[1], '(%a+)(%d*)')}",
    b"return table.concat(ARGV, '-')",
    b"local t = {} for word in string.gmatch(ARGV[1], '%w+') do t[#t + 1] = word end return t",
    b"#!lua\nreturn redis.call('SET', KEYS[1], ARGV[1])",
    b"#!lua flags=no-writes\nreturn redis.call('SET', KEYS[1], ARGV[1])",
    b"#!lua flags=no-writes\nreturn redis.call('STRLEN', KEYS[1])",
    b"#!lua flags=no-writes,allow-oom,allow-stale\nreturn redis.call('EXISTS', KEYS[1], KEYS[2])",
    b"#!lua flags=no-cluster\nreturn redis.call('EXISTS', KEYS[1])",
    b"return redis.call('EXPIREAT', KEYS[1], 4102444800) + redis.call('EXISTS', KEYS[2])",
    b"if redis.call('EXISTS', KEYS[1]) == 1 then return redis.call('COPY', KEYS[1], KEYS[2], 'REPLACE') else return redis.call('SET', KEYS[2], 'x') end",
    b"redis.call('SORT', KEYS[1], 'ALPHA', 'STORE', KEYS[2]) return redis.call('TYPE', KEYS[2])",
    b"redis.set_repl(redis.REPL_ALL) return redis.replicate_commands()",
    b"return redis.REDIS_VERSION_NUM >= 0x070000",
    b"return {redis.LOG_DEBUG, redis.LOG_WARNING, redis.REPL_NONE, redis.REPL_ALL, redis.REPL_AOF}",
    b"redis.setresp(4)",
    b"return redis.nosuch()",
];

/// Scripts that are none.
pub static ODD_SCRIPTS: &[&[u8]] = &[
    b"",
    b"return",
    b"return return",
    b"x = = 1",
    b"return 'unfinished",
    b"#!lua",
    b"#!lua\n",
    b"#!js\nreturn 1",
    b"#!lua flags=nosuch\nreturn 1",
    b"#!lua nosuch=1\nreturn 1",
    b"#!lua flags=no-writes flags=no-writes\nreturn 1",
    b"\x1bLua",
    b"-- \x00\xff\nreturn 1",
    b"goto x",
];

/// Scripts that publish.
pub static PUBLISHING: &[&[u8]] = &[
    b"return redis.call('PUBLISH', KEYS[1], ARGV[1])",
    b"redis.call('PUBLISH', KEYS[1], 'first') redis.call('SET', 'k1', ARGV[1]) return redis.call('PUBLISH', KEYS[#KEYS], ARGV[1])",
    b"redis.call('PUBLISH', KEYS[1], 'before the error') return redis.call('INCR')",
    b"return {redis.call('SPUBLISH', KEYS[1], ARGV[1]), redis.call('PUBLISH', KEYS[#KEYS], 'second')}",
];

/// Libraries, some of which share a name or a function.
pub static LIBRARIES: &[&[u8]] = &[
    b"#!lua name=one\nredis.register_function('set', function(keys, args) return redis.call('SET', keys[1], args[1]) end)",
    b"#!lua name=one\nredis.register_function('set', function(keys, args) return redis.call('SET', keys[1], args[2]) end)\nredis.register_function('more', function() return 'more' end)",
    b"#!lua name=two\nredis.register_function{function_name='get', callback=function(keys) return redis.call('GET', keys[1]) end, flags={'no-writes'}, description='reads'}",
    b"#!lua name=two\nredis.register_function{function_name='get', callback=function(keys) return redis.call('TYPE', keys[1]) end, flags={'no-writes', 'allow-stale'}}\nredis.register_function('push', function(keys, args) redis.call('RPUSH', keys[1], args[1]) return redis.call('LRANGE', keys[1], 0, -1) end)",
    b"#!lua name=three\nlocal function inner(args) return {#args, args[1]} end\nredis.register_function('args', function(keys, args) return {inner(keys), inner(args)} end)\nredis.register_function{function_name='liar', callback=function(keys) return redis.call('DEL', keys[1]) end, flags={'no-writes'}}",
    b"#!lua name=three\nredis.register_function('set', function() return 'of three' end)",
    b"#!lua name=four\nredis.register_function('fails', function(keys, args) redis.call('SET', keys[1], 'before') return redis.call('INCR', keys[1]) end)\nredis.register_function('move', function(keys) return redis.call('LMOVE', keys[1], keys[2], 'LEFT', 'LEFT') end)",
    b"#!lua name=five\nredis.register_function('resp', function(keys, args) redis.setresp(3) redis.call('ZADD', keys[1], 2.5, args[1]) return redis.call('ZSCORE', keys[1], args[1]) end)",
];

/// Libraries that cannot be loaded.
pub static ODD_LIBRARIES: &[&[u8]] = &[
    b"",
    b"return 1",
    b"#!lua name=empty\nreturn 1",
    b"#!lua name=bad name\nreturn 1",
    b"#!lua\nredis.register_function('x', function() end)",
    b"#!js name=x\n1",
    b"#!lua name=calls\nredis.call('SET', 'k1', 'x')",
    b"#!lua name=broken\nredis.register_function('x', function() end",
    b"#!lua name=flags\nredis.register_function{function_name='x', callback=function() end, flags={'nosuch'}}",
];

/// What SHA1 says of `script`, as EVALSHA takes it.
#[must_use]
pub fn sha(script: &[u8]) -> Vec<u8> {
    Sha1::from(script).digest().to_string().into_bytes()
}

/// `bytes` as a Lua string.
fn quoted(bytes: &[u8]) -> String {
    let mut text = String::from("'");
    for &byte in bytes {
        match byte {
            b'\'' | b'\\' => text.extend(['\\', char::from(byte)]),
            b' '..=b'~' => text.push(char::from(byte)),
            _ => text.push_str(&format!("\\{byte:03}")),
        }
    }
    text.push('\'');
    text
}

/// EVAL of a script that calls one to four requests, as `any` gives them, and lists their replies;
/// and these requests.
pub fn calls(
    words: &mut Words<'_>,
    any: &mut dyn FnMut(&mut Words<'_>) -> Vec<Vec<u8>>,
) -> (Vec<Vec<u8>>, Vec<Request>) {
    let in_resp3 = words.rng.random_range(0..4) == 0;
    let mut inner = Vec::new();
    let count = words.rng.random_range(1..=4);
    while inner.len() < count {
        let request = Request::plain(any(words));
        let name = request.name();
        let is_left_out =
            NOT_CALLED.contains(&&name[..]) || (in_resp3 && UNORDERED_AS_MAPS.contains(&&name[..]));
        inner.push(match is_left_out || request.args.is_empty() {
            true => Request::plain(vec![b"GET".to_vec(), words.word(Word::Key)]),
            false => request,
        });
    }
    let name: &[u8] = match words.rng.random_range(0..8) {
        0 => b"EVAL_RO",
        _ => b"EVAL",
    };
    let mut keys = Vec::new();
    if words.rng.random_range(0..3) > 0 {
        keys.extend(
            inner
                .iter()
                .filter_map(|request| request.args.get(1))
                .cloned(),
        );
    }
    let in_arguments = words.rng.random_range(0..3) == 0 && !in_resp3;
    let (script, arguments) = if in_arguments {
        let with_length = |request: &Request| {
            let length = request.args.len().to_string().into_bytes();
            [vec![length], request.args.clone()].concat()
        };
        let arguments = inner.iter().flat_map(with_length).collect();
        (RUNS_ARGUMENTS.to_owned(), arguments)
    } else {
        (script_of(&inner, in_resp3), Vec::new())
    };
    let number = keys.len().to_string().into_bytes();
    let head = vec![name.to_vec(), script.into_bytes(), number];
    ([head, keys, arguments].concat(), inner)
}

fn script_of(inner: &[Request], in_resp3: bool) -> String {
    let calls: Vec<String> = inner
        .iter()
        .map(|request| {
            let args: Vec<String> = request.args.iter().map(|arg| quoted(arg)).collect();
            format!("redis.pcall({})", args.join(", "))
        })
        .collect();
    if !in_resp3 {
        return format!("return {{{}}}", calls.join(", "));
    }
    // A null of RESP3 is nil, which would end the list.
    let calls: Vec<String> = calls.iter().map(|call| format!("some({call})")).collect();
    format!(
        "redis.setresp(3) local function some(x) if x == nil then return false end return x end \
         return {{{}}}",
        calls.join(", ")
    )
}

/// A script that answers one random value.
#[must_use]
pub fn value(rng: &mut StdRng) -> Vec<u8> {
    let depth = DEPTH_MAX;
    let text = match rng.random_range(0..12) {
        0..4 => format!("return {}", expression(rng, depth)),
        4 => format!("return {{{}}}", list(rng, depth)),
        5 => format!("return cjson.encode({})", expression(rng, depth)),
        6 => format!(
            "return cjson.decode(cjson.encode({}))",
            expression(rng, depth)
        ),
        7 => format!(
            "return cmsgpack.unpack(cmsgpack.pack({}))",
            expression(rng, depth)
        ),
        8 => format!("return {{cmsgpack.pack({})}}", list(rng, 1)),
        9 => format!(
            "local ok, text = pcall(error, {}) return {{ok, text}}",
            scalar(rng)
        ),
        10 => packed(rng),
        _ => format!("return tostring({})", scalar(rng)),
    };
    text.into_bytes()
}

fn list(rng: &mut StdRng, depth: u32) -> String {
    let length = rng.random_range(0..5);
    let items: Vec<String> = (0..length).map(|_| expression(rng, depth)).collect();
    items.join(", ")
}

fn pick<'t>(rng: &mut StdRng, of: &[&'t str]) -> &'t str {
    of[rng.random_range(0..of.len())]
}

fn scalar(rng: &mut StdRng) -> String {
    let fixed = pick(
        rng,
        &[
            "nil",
            "true",
            "false",
            "0",
            "-0",
            "1",
            "-1",
            "3.99",
            "-3.99",
            "1e15",
            "2^53",
            "2^63",
            "-2^63",
            "1e300",
            "1/0",
            "-1/0",
            "0/0",
            "0.1",
            "1e-7",
            "''",
            "'text'",
            "'a\\0b\\r\\nc'",
            "'\\255\\254'",
            "'12'",
            "' 12 '",
            "'0x10'",
            "'3.5'",
            "cjson.null",
            "#ARGV",
            "math.pi",
            "('x'):rep(70)",
            "tonumber('1e1')",
            "tonumber('z', 36)",
            "7 % -3",
            "-7 % 3",
            "2 ^ 0.5",
        ],
    );
    match rng.random_range(0..4) {
        0 => rng.random_range(-100_000..100_000_i64).to_string(),
        1 => format!(
            "{}",
            f64::from(rng.random_range(-1_000_000..1_000_000)) / 64.0
        ),
        _ => fixed.to_owned(),
    }
}

/// Expressions are nested at most [`DEPTH_MAX`] deep.
fn expression(rng: &mut StdRng, depth: u32) -> String {
    if depth == 0 {
        return scalar(rng);
    }
    let depth = depth - 1;
    match rng.random_range(0..20) {
        0..8 => scalar(rng),
        8..12 => format!("{{{}}}", list(rng, depth)),
        12 => format!("{{ok = {}}}", scalar(rng)),
        13 => format!("{{err = {}}}", scalar(rng)),
        14 => format!("{{double = {}}}", scalar(rng)),
        15 => format!("{{map = {{[{}] = {}}}}}", key(rng), expression(rng, depth)),
        16 => format!("{{set = {{[{}] = {}}}}}", key(rng), scalar(rng)),
        17 => pick(
            rng,
            &[
                "{big_number = '12345678901234567890'}",
                "{verbatim_string = {format = 'txt', string = 'a\\nb'}}",
                "{verbatim_string = {format = 'markdown', string = 'b'}}",
                "{verbatim_string = 'x'}",
                "redis.status_reply('FINE')",
                "redis.error_reply('BAD thing')",
                "redis.error_reply('-bad')",
                "redis.sha1hex('')",
            ],
        )
        .to_owned(),
        18 => format!("{{[{}] = {}}}", key(rng), expression(rng, depth)),
        _ => format!("{{{}, a = {}}}", scalar(rng), scalar(rng)),
    }
}

/// What can be the name of a field: neither nil nor not-a-number.
fn key(rng: &mut StdRng) -> &'static str {
    pick(
        rng,
        &[
            "1",
            "2",
            "'a'",
            "'1'",
            "''",
            "1.5",
            "-1",
            "true",
            "'long name'",
        ],
    )
}

/// A line that packs by `struct`, or reckons by `bit`.
fn packed(rng: &mut StdRng) -> String {
    const FORMATS: &[&str] = &[
        ">I2", "<I4", "!4bi8", "<d", ">f", "h", "B", "s", "c3", ">L", "<l", "i3", "xI2", "c0",
        "I33", "!3i4", "q",
    ];
    const OPERATIONS: &[&str] = &[
        "band", "bor", "bxor", "lshift", "rshift", "arshift", "rol", "ror", "tohex",
    ];
    const ONE: &[&str] = &["tobit", "bnot", "bswap", "tohex"];
    let (a, b) = (scalar(rng), scalar(rng));
    match rng.random_range(0..4) {
        0 => format!(
            "return {{pcall(struct.pack, '{}', {a}, {b})}}",
            pick(rng, FORMATS)
        ),
        1 => format!(
            "return {{pcall(struct.unpack, '{}', 'some bytes\\0to read\\255')}}",
            pick(rng, FORMATS)
        ),
        2 => format!("return {{pcall(bit.{}, {a}, {b})}}", pick(rng, OPERATIONS)),
        _ => format!("return {{pcall(bit.{}, {a})}}", pick(rng, ONE)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng as _;

    #[test]
    fn a_script_says_what_its_requests_say() {
        let mut rng = StdRng::seed_from_u64(1);
        let mut words = Words::new(&mut rng, 0);
        for _ in 0..100 {
            let request = || vec![b"SET".to_vec(), b"a'\\".to_vec(), b"\x00\xff".to_vec()];
            let (args, inner) = calls(&mut words, &mut |_| request());
            assert!((1..=4).contains(&inner.len()));
            assert!(inner.iter().all(|r| r.args == request()));
            let script = String::from_utf8_lossy(&args[1]);
            let literal = r"redis.pcall('SET', 'a\'\\', '\000\255')";
            match script.matches(literal).count() {
                0 => assert_eq!(script, RUNS_ARGUMENTS),
                some => assert_eq!(some, inner.len()),
            }
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_value() {
        let values = |seed| {
            let mut rng = StdRng::seed_from_u64(seed);
            (0..50).map(|_| value(&mut rng)).collect::<Vec<_>>()
        };
        assert_eq!(values(3), values(3));
        assert_ne!(values(3), values(4));
    }

    #[test]
    fn a_script_is_known_by_what_sha1_says() {
        assert_eq!(
            sha(b"return 1"),
            b"e0e1f9fabfc9d4800c877a703b823ac0578ff8db"
        );
    }
}
