//! The promise of effects: replayed into an empty instance, they give the same data.

use crate::harness::{Instance, START};
use moon_commands::Limits;
use moon_core::UnixMs;
use moon_resp::OwnedArgs;
use proptest::prelude::*;

/// Commands that write, and some that read and so meet expired keys. `K` is a key, `V` a value,
/// `N` an integer, `F` a number, `T` seconds, `M` milliseconds since the epoch, `D` a database.
const TEMPLATES: &[&str] = &[
    "set K V",
    "SET K V EX T",
    "set K V px N",
    "set K V PXAT M",
    "set K V KEEPTTL",
    "set K V NX",
    "set K V XX GET",
    "set K V NX GET EX T",
    "setnx K V",
    "setex K T V",
    "psetex K N V",
    "getset K V",
    "getdel K",
    "getex K",
    "getex K EX T",
    "getex K PXAT M",
    "getex K PERSIST",
    "mset K V K V",
    "msetnx K V K V",
    "append K V",
    "setrange K N V",
    "incr K",
    "decr K",
    "incrby K N",
    "decrby K N",
    "incrbyfloat K F",
    "get K",
    "mget K K",
    "strlen K",
    "lcs K K",
    "del K",
    "del K K K",
    "unlink K K",
    "exists K K",
    "type K",
    "ttl K",
    "expire K T",
    "expire K T NX",
    "expire K T GT",
    "pexpire K N LT",
    "pexpireat K M",
    "persist K",
    "rename K K",
    "renamenx K K",
    "copy K K",
    "copy K K REPLACE",
    "copy K K DB D REPLACE",
    "move K D",
    "swapdb D D",
    "flushdb",
    "flushall",
    "randomkey",
    "keys *",
    "scan 0",
    "dbsize",
    "object encoding K",
    "hset K V V",
    "hset K V V V V",
    "hsetnx K V V",
    "hincrby K V N",
    "hdel K V V",
    "hgetall K",
    "hget K V",
    "hincrbyfloat K V F",
    "hexpire K T FIELDS 2 V V",
    "hpexpire K N fields 1 V",
    "hpexpire K 300 GT fields 3 V V V",
    "hpexpireat K M LT FIELDS 1 V",
    "hpersist K FIELDS 1 V",
    "hgetdel K FIELDS 2 V V",
    "hgetex K EX T FIELDS 1 V",
    "hgetex K PERSIST FIELDS 1 V",
    "hsetex K PXAT M FIELDS 2 V V V V",
    "hsetex K PX 300 FNX FIELDS 1 V V",
    "hsetex K KEEPTTL FIELDS 1 V V",
    "hrandfield K 2",
    "lpush K V V",
    "rpush K V V V",
    "lpushx K V",
    "lpop K",
    "rpop K N",
    "lrange K 0 -1",
    "lset K 0 V",
    "lset K N V",
    "linsert K BEFORE V V",
    "linsert K AFTER V V",
    "lrem K N V",
    "ltrim K 0 N",
    "ltrim K 1 -2",
    "lpos K V COUNT 0",
    "lmove K K LEFT RIGHT",
    "lmove K K RIGHT RIGHT",
    "rpoplpush K K",
    "lmpop 2 K K LEFT COUNT N",
    "sort K ALPHA STORE K",
    "sort K BY *->V GET # GET K STORE K",
    "sort K BY nosort DESC LIMIT 1 N STORE K",
    "sort K",
    "setbit K N 1",
    "setbit K 12 0",
    "bitfield K SET u4 N V INCRBY i8 #1 N",
    "bitfield K OVERFLOW FAIL INCRBY u2 N V",
    "bitop AND K K K",
    "bitop NOT K K",
    "bitop ONE K K K K",
    "bitop DIFF K K K",
    "bitcount K",
    "pfadd Q V V",
    "pfadd Q V",
    "pfmerge Q Q Q",
    "pfcount Q Q",
    "pfdebug TODENSE Q",
    "pexpire Q N",
    "geoadd P F F V F F V",
    "geoadd P XX CH N N V",
    "georadius P 1 1 300 km STORE P",
    "georadiusbymember P V 300 km STOREDIST K",
    "geosearchstore P P FROMLONLAT N N BYBOX 900 900 km COUNT N",
    "pexpire P N",
    "sadd K V V V",
    "sadd K N V",
    "srem K V V",
    "spop K",
    "spop K N",
    "srandmember K N",
    "smembers K",
    "smove K K V",
    "sinter K K",
    "sinterstore K K K",
    "sinterstore K K K K",
    "sintercard 2 K K",
    "sunion K K",
    "sunionstore K K K",
    "sunionstore K K",
    "sdiff K K",
    "sdiffstore K K K",
    "sdiffstore K K",
    "sscan K 0",
    "zadd K F V F V",
    "zadd K N V N V F V",
    "zadd K XX GT CH F V N V",
    "zadd K NX F V N V",
    "zadd K LT INCR F V",
    "zincrby K F V",
    "zrem K V V",
    "zremrangebyrank K 1 N",
    "zremrangebyscore K (0 N",
    "zremrangebylex K - [hello",
    "zpopmin K",
    "zpopmax K N",
    "zmpop 2 K K MIN COUNT 2",
    "zrangestore K K 0 N",
    "zunionstore K 2 K K WEIGHTS F F",
    "zinterstore K 2 K K AGGREGATE MAX",
    "zdiffstore K 2 K K",
    "zunion 2 K K",
    "zrange K 0 -1 WITHSCORES",
    "zrandmember K N",
    "zscan K 0",
    "xadd S I V V",
    "xadd S I V V V V",
    "xadd S * V N",
    "xadd S nomkstream I V V",
    "xadd S maxlen N * V V",
    "xadd S maxlen ~ N I V V",
    "xadd S minid I * V V",
    "xtrim S maxlen N",
    "xtrim S maxlen ~ N",
    "xtrim S minid ~ I",
    "xtrim S maxlen N acked",
    "xtrim S minid I delref",
    "xadd S acked maxlen N * V V",
    "xadd S delref maxlen N * V V",
    "xdel S I I",
    "xsetid S I entriesadded N",
    "xgroup create S G I mkstream",
    "xgroup create S G 0 entriesread N",
    "xgroup create S G $",
    "xgroup setid S G 0",
    "xgroup setid S G I entriesread N",
    "xgroup destroy S G",
    "xgroup createconsumer S G G",
    "xgroup delconsumer S G G",
    "xreadgroup group G G count N streams S >",
    "xreadgroup group G G streams S S > >",
    "xreadgroup group G G noack streams S >",
    "xreadgroup group G G streams S 0",
    "xack S G I I",
    "xclaim S G G 0 I I",
    "xclaim S G G N I force",
    "xclaim S G G 0 I I force justid idle N",
    "xclaim S G G 0 I time M retrycount N lastid I",
    "xautoclaim S G G N 0",
    "xautoclaim S G G 0 I count N justid",
    "xdelex S acked ids 2 I I",
    "xdelex S delref ids 2 I I",
    "xackdel S G delref ids 1 I",
    "xackdel S G acked ids 2 I I",
    "xrange S - +",
    "xpending S G - + 10",
    "xinfo stream S full",
];
/// As the templates, for what is rare.
const RARE_FROM: usize = 200;

fn render(template: &str, choices: &[u8], now: UnixMs) -> String {
    let mut choices = choices.iter().copied().map(usize::from);
    let mut pick = |from: &[&str]| {
        let choice = choices.next().unwrap_or(0);
        from[choice % from.len()].to_owned()
    };
    let words = template.split(' ').map(|word| match word {
        "K" => pick(&["a", "b", "c", "{a}1", "d", "e"]),
        // Streams keep to themselves, or few commands would meet one.
        "S" => pick(&["s", "s", "{a}2", "a"]),
        "G" => pick(&["g", "g", "h"]),
        // So do HyperLogLogs and positions.
        "Q" => pick(&["h", "i", "{a}h", "a"]),
        "P" => pick(&["p", "q", "{a}p", "a"]),
        "I" => pick(&["1-1", "2-0", "2-*", "3", "5-5", "9", "1", "4-*", "+", "0"]),
        "V" => pick(&[
            "7",
            "x",
            "hello",
            "-3",
            "1.5",
            "a-value-too-long-to-be-kept-in-place",
        ]),
        "N" => pick(&["1", "5", "300", "-2"]),
        "F" => pick(&["0.1", "-1.5", "3", "1e2"]),
        "T" => pick(&["1", "2", "100", "-1"]),
        "M" => pick(&["0", "1", "2"])
            .parse()
            .map(|step: i64| (now.0 + step * 700 - 300).to_string())
            .expect("digits"),
        "D" => pick(&["0", "1", "2"]),
        word => word.to_owned(),
    });
    words.collect::<Vec<_>>().join(" ")
}

/// One step: which template (rare ones less often), its choices, milliseconds that pass before.
fn step() -> impl Strategy<Value = (usize, [u8; 5], i64, bool)> {
    let template = (0..1000usize).prop_map(|n| {
        let at = n % TEMPLATES.len();
        // Databases are emptied and swapped now and then only.
        let is_rare = ["flush", "swap"]
            .iter()
            .any(|r| TEMPLATES[at].starts_with(r));
        if is_rare && n >= RARE_FROM { 0 } else { at }
    });
    let pass_ms = prop_oneof![3 => Just(0i64), 1 => 1..900i64];
    (template, any::<[u8; 5]>(), pass_ms, any::<bool>())
}

/// Thresholds that a few commands pass, so that collections are seen in all forms.
fn small_limits() -> Limits {
    Limits {
        hash_max_listpack_entries: 2,
        list_max_listpack_size: 3,
        set_max_intset_entries: 2,
        set_max_listpack_entries: 3,
        zset_max_listpack_entries: 2,
        ..Limits::default()
    }
}

fn effects_give_the_same_data(
    shards: u16,
    replay_shards: u16,
    steps: &[(usize, [u8; 5], i64, bool)],
) -> Result<(), TestCaseError> {
    let mut live = Instance::new(shards);
    let mut copy = Instance::new(replay_shards);
    live.limits = small_limits();
    copy.limits = small_limits();
    for (at, (template, choices, pass_ms, end_turn)) in steps.iter().enumerate() {
        live.now.0 += pass_ms;
        live.db = u16::from(choices[4] % 8 == 0);
        let command = render(TEMPLATES[*template], choices, live.now);
        let reply = live.run_args(&OwnedArgs::new(command.split(' ')));
        let reply = String::from_utf8_lossy(&reply);
        if *end_turn || at + 1 == steps.len() {
            let payload = live.effects.take();
            copy.replay(&payload)
                .map_err(|error| TestCaseError::fail(format!("{command}: {error:?}")))?;
            prop_assert_eq!(live.dump(), copy.dump(), "after {} -> {}", command, reply);
        }
    }
    prop_assert!(live.now >= START);
    Ok(())
}

/// Scenario 18: the log is read with the directives of that day, also where a damaged value is only
/// noticed by reading all of it.
#[test]
fn hyperloglogs_replay_whatever_their_directive_says_then() {
    for (then, now) in [(40, 3000), (3000, 40), (40, 40)] {
        let mut live = Instance::new(2);
        let mut copy = Instance::new(2);
        live.limits.hll_sparse_max_bytes = then;
        copy.limits.hll_sparse_max_bytes = now;
        for command in [
            "PFADD h a",
            "APPEND h damaged",
            "PFADD h b c d",
            "PFADD h e f g h i j k l",
            "PFADD i 1 2 3",
            "PEXPIREAT i 4102444800000",
            "PFADD i 4 5 6 7 8 9 10 11 12",
            "PFADD j a b c d e f g h i j",
            "PFMERGE k j",
            "PFADD k x y z",
            "PFMERGE l k i",
        ] {
            let reply = live.run(command);
            let payload = live.effects.take();
            let replayed = copy.replay(&payload);
            assert!(replayed.is_ok(), "{command}: {reply}: {replayed:?}");
            assert_eq!(live.dump(), copy.dump(), "{command} -> {reply}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Scenarios 18 and 145.
    #[test]
    fn replay_gives_the_same_data_on_one_shard(steps in prop::collection::vec(step(), 1..60)) {
        effects_give_the_same_data(1, 1, &steps)?;
    }

    /// Scenario 126.
    #[test]
    fn replay_gives_the_same_data_on_several_shards(
        steps in prop::collection::vec(step(), 1..60),
    ) {
        effects_give_the_same_data(3, 3, &steps)?;
    }

    #[test]
    fn replay_does_not_depend_on_the_number_of_shards(
        steps in prop::collection::vec(step(), 1..40),
    ) {
        effects_give_the_same_data(3, 1, &steps)?;
        effects_give_the_same_data(1, 3, &steps)?;
    }
}
