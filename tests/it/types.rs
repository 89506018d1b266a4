//! What every type owes: failed and idle commands leave nothing in the log, chance and time are not
//! asked again at replay, and commands over several keys are whole, whenever the server dies and
//! whatever a rewrite does meanwhile.
//!
//! Where a server is killed in the middle of a history, the history is [`command`], a function of a
//! number: a second server that nobody kills runs as much of it as was acknowledged, and one command
//! more, and what was recovered must be the one or the other.

use crate::support::{
    DATABASES, assert_same_state, assert_survives_sigkill, for_each_setup, info, is_other_server,
    run, script, start, state, wait_until,
};
use moon_harness::snapshot::read_state;
use moon_harness::{Client, FsyncPolicy, Reply, Server};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// One value of every type and of every form that commands tell apart; `#` is a number.
pub(crate) const VALUES: &[&str] = &[
    "SET string:# value",
    "SET number:# 17",
    "SETBIT bits:# 77 1",
    "PFADD sketch:# a b c",
    "RPUSH list:# a b c",
    "SADD set:# a b c",
    "SADD numbers:# 1 2 3",
    "HSET hash:# f v g 5",
    "HSETEX fields:# PXAT 4102444800123 FIELDS 1 f v",
    "ZADD scores:# 1 a 2 b",
    "GEOADD places:# 13.361389 38.115556 palermo",
    "XADD stream:# 1-0 f v",
    "XADD stream:# 2-0 f w",
    "XGROUP CREATE stream:# g 0",
    "XREADGROUP GROUP g c COUNT 1 STREAMS stream:# >",
];

/// The names of the values above.
pub(crate) const NAMES: &[&str] = &[
    "string", "number", "bits", "sketch", "list", "set", "numbers", "hash", "fields", "scores",
    "places", "stream",
];

/// Writes `count` values of every type.
pub(crate) fn fill(client: &mut Client, count: usize) {
    for n in 0..count {
        let lines: Vec<String> = VALUES
            .iter()
            .map(|line| line.replace('#', &n.to_string()))
            .collect();
        for (line, reply) in lines.iter().zip(client.pipeline(&lines).unwrap()) {
            assert!(reply.error().is_none(), "{line}: {reply:?}");
        }
    }
}

/// Writes and the kinds of values that they take; `@` is the key.
const WRITES: &[(&str, &[&str])] = &[
    (
        "string number bits sketch",
        &[
            "APPEND @ x",
            "INCR @",
            "INCRBYFLOAT @ 1",
            "SETRANGE @ 0 x",
            "GETSET @ x",
            "SET @ x GET",
            "GETDEL @",
            "GETEX @ PERSIST",
            "SETBIT @ 1 1",
            "BITFIELD @ SET u8 0 1",
            "BITOP OR other string:0 @",
        ],
    ),
    (
        "sketch",
        &["PFADD @ x", "PFMERGE other @", "PFMERGE @ sketch:0"],
    ),
    (
        "list",
        &[
            "LPUSH @ x",
            "RPUSHX @ x",
            "LPOP @",
            "RPOP @ 2",
            "LSET @ 0 x",
            "LINSERT @ BEFORE a x",
            "LREM @ 0 a",
            "LTRIM @ 1 1",
            "LMOVE @ other LEFT LEFT",
            "LMOVE list:0 @ LEFT LEFT",
            "RPOPLPUSH @ other",
            "LMPOP 1 @ LEFT",
        ],
    ),
    (
        "set numbers",
        &[
            "SADD @ x",
            "SREM @ a",
            "SPOP @",
            "SPOP @ 2",
            "SMOVE @ other a",
            "SMOVE set:0 @ a",
            "SUNIONSTORE other set:0 @",
            "SINTERSTORE other set:0 @",
            "SDIFFSTORE other @ set:0",
        ],
    ),
    (
        "hash fields",
        &[
            "HSET @ f v",
            "HSETNX @ x v",
            "HINCRBY @ f 1",
            "HINCRBYFLOAT @ f 1",
            "HDEL @ f",
            "HEXPIRE @ 100 FIELDS 1 f",
            "HPERSIST @ FIELDS 1 f",
            "HGETDEL @ FIELDS 1 f",
            "HGETEX @ EX 10 FIELDS 1 f",
            "HSETEX @ FIELDS 1 f v",
        ],
    ),
    (
        "scores places",
        &[
            "ZADD @ 1 x",
            "ZINCRBY @ 1 x",
            "ZREM @ a",
            "ZPOPMIN @",
            "ZPOPMAX @ 2",
            "ZMPOP 1 @ MIN",
            "ZREMRANGEBYRANK @ 0 -1",
            "ZREMRANGEBYSCORE @ 0 9",
            "ZREMRANGEBYLEX @ - +",
            "ZRANGESTORE other @ 0 -1",
            "GEOADD @ 1 1 x",
            "GEOSEARCHSTORE other @ FROMLONLAT 1 1 BYRADIUS 1 km",
        ],
    ),
    (
        "scores places set numbers",
        &[
            "ZUNIONSTORE other 2 scores:0 @",
            "ZINTERSTORE other 2 scores:0 @",
            "ZDIFFSTORE other 2 scores:0 @",
        ],
    ),
    (
        "list set numbers scores places",
        &["SORT @ ALPHA STORE other"],
    ),
    (
        "stream",
        &[
            "XADD @ 9-0 f v",
            "XDEL @ 1-0",
            "XTRIM @ MAXLEN 0",
            "XSETID @ 9-9",
            "XGROUP CREATE @ h 0",
            "XGROUP DESTROY @ g",
            "XREADGROUP GROUP g c STREAMS @ >",
            "XACK @ g 1-0",
            "XCLAIM @ g c 0 1-0",
            "XAUTOCLAIM @ g c 0 0",
        ],
    ),
];

/// Requests that fail for another reason than the type.
const FAILING: &[&str] = &[
    "INCR string:0",
    "INCRBY number:0 9223372036854775807",
    "INCRBYFLOAT string:0 1",
    "SETRANGE string:0 -1 x",
    "SETBIT bits:0 -1 1",
    "SETBIT bits:0 1 2",
    "BITFIELD bits:0 SET u64 0 1",
    "BITOP NOT other bits:0 bits:0",
    "SET string:0 y EX 0",
    "SET string:0 y NX XX",
    "EXPIRE string:0 9223372036854775807",
    "RESTORE other 0 damaged",
    "COPY string:0 other DB 99",
    "RENAME missing string:0",
    "LSET list:0 9 x",
    "LSET missing 0 x",
    "LINSERT list:0 BESIDE a x",
    "LMOVE list:0 other UP DOWN",
    "LMPOP 0 list:0 LEFT",
    "LPOP list:0 -1",
    "SPOP set:0 -1",
    "SMOVE set:0",
    "HINCRBY hash:0 f 1",
    "HINCRBY hash:0 g 9223372036854775807",
    "HINCRBYFLOAT hash:0 f 1",
    "HSET hash:0 f",
    "HEXPIRE hash:0 -1 FIELDS 1 f",
    "HEXPIRE hash:0 10 FIELDS 2 f",
    "HEXPIRE hash:0 9223372036854775807 FIELDS 1 f",
    "HSETEX hash:0 EX 0 FIELDS 2 f v",
    "ZADD scores:0 NX XX 1 a",
    "ZADD scores:0 1 a x b",
    "ZADD scores:0 nan a",
    "ZADD scores:0 NX GT 1 a",
    "ZINCRBY scores:0 nan a",
    "ZPOPMIN scores:0 -1",
    "ZUNIONSTORE other 0 scores:0",
    "ZRANGESTORE other scores:0 x y",
    "GEOADD places:0 181 1 x",
    "GEOSEARCHSTORE other places:0 FROMMEMBER nobody BYRADIUS 1 km",
    "SORT hash:0 STORE other",
    "SORT set:0 STORE other",
    "XADD stream:0 1-0 f v",
    "XADD stream:0 0-0 f v",
    "XADD stream:0 9-0 f",
    "XSETID stream:0 1-0",
    "XGROUP CREATE stream:0 g 0",
    "XGROUP CREATE missing g 0",
    "XCLAIM stream:0 nogroup c 0 1-0",
    "XREADGROUP GROUP nogroup c STREAMS stream:0 >",
];

fn offset(client: &mut Client) -> String {
    info(client, "master_repl_offset")
}

/// Scenario 17, for every type: whatever a write finds wrong, it has changed nothing and told
/// nothing.
#[test]
fn failing_commands_of_every_type_leave_nothing_in_the_log() {
    if is_other_server() {
        return;
    }
    for_each_setup(|mut server| {
        let mut client = server.client().unwrap();
        fill(&mut client, 3);
        let before = offset(&mut client);
        for (takes, writes) in WRITES {
            let takes: Vec<&str> = takes.split(' ').collect();
            for name in NAMES.iter().filter(|name| !takes.contains(name)) {
                for write in *writes {
                    let line = write.replace('@', &format!("{name}:1"));
                    let reply = client.run(&line).unwrap();
                    let text = reply.error().unwrap_or_else(|| panic!("{line}: {reply:?}"));
                    assert!(text.starts_with("WRONGTYPE"), "{line}: {text}");
                }
            }
        }
        for line in FAILING {
            let reply = client.run(line).unwrap();
            assert!(reply.error().is_some(), "{line}: {reply:?}");
        }
        assert_eq!(offset(&mut client), before);
        let kept = assert_survives_sigkill(&mut server);
        assert_eq!(kept.len(), 3 * NAMES.len());
    });
}

/// Scenario 18, for every type.
#[test]
fn commands_of_every_type_that_change_nothing_enter_no_stream() {
    if is_other_server() {
        return;
    }
    for_each_setup(|mut server| {
        let mut client = server.client().unwrap();
        fill(&mut client, 1);
        let before = offset(&mut client);
        script(
            &mut client,
            "SETBIT bits:0 77 1 => :1
             BITFIELD bits:0 SET u1 77 1 => [:1]
             BITOP AND missing none none => :0
             PFADD sketch:0 a => :0
             PFCOUNT sketch:0 => :3
             LREM list:0 0 z => :0
             LTRIM list:0 0 -1
             LINSERT list:0 BEFORE z x => :-1
             LPUSHX missing x => :0
             LMOVE missing list:0 LEFT LEFT => nil
             LMPOP 2 missing none LEFT => nil array
             SADD set:0 a => :0
             SREM set:0 z => :0
             SPOP missing => nil
             SPOP set:0 0 => []
             SMOVE set:0 set:0 a => :1
             SMOVE set:0 missing z => :0
             SINTERSTORE missing set:0 none => :0
             SDIFFSTORE missing none set:0 => :0
             HSETNX hash:0 f x => :0
             HDEL hash:0 z => :0
             HPERSIST hash:0 FIELDS 1 f => [:-1]
             HGETEX fields:0 FIELDS 1 f => [\"v\"]
             HEXPIRE hash:0 10 FIELDS 1 z => [:-2]
             HEXPIRE fields:0 10 NX FIELDS 1 f => [:0]
             HEXPIRE hash:0 10 XX FIELDS 1 f => [:0]
             HGETDEL hash:0 FIELDS 1 z => [nil]
             HSETEX hash:0 FNX FIELDS 1 f w => :0
             ZADD scores:0 1 a => :0
             ZADD scores:0 NX 9 a => :0
             ZADD scores:0 GT 0 a => :0
             ZADD scores:0 XX 1 z => :0
             ZREM scores:0 z => :0
             ZPOPMIN missing => []
             ZMPOP 1 missing MIN => nil array
             ZREMRANGEBYSCORE scores:0 100 200 => :0
             ZUNIONSTORE missing 1 none => :0
             ZRANGESTORE missing scores:0 5 9 => :0
             GEOADD places:0 13.361389 38.115556 palermo => :0
             GEOSEARCHSTORE missing places:0 FROMLONLAT 1 1 BYRADIUS 1 m => :0
             SORT none STORE missing => :0
             XADD missing NOMKSTREAM 1-0 f v => nil
             XDEL stream:0 9-0 => :0
             XTRIM stream:0 MAXLEN 100 => :0
             XACK stream:0 g 9-0 => :0
             XGROUP CREATECONSUMER stream:0 g c => :0
             XGROUP DESTROY stream:0 none => :0
             XCLAIM stream:0 g c 0 9-0 => []
             EXPIRE missing 10 => :0
             PERSIST list:0 => :0
             EXPIRE list:0 10 XX => :0
             COPY missing other => :0
             COPY list:0 set:0 => :0
             RENAMENX list:0 set:0 => :0
             MOVE missing 3 => :0
             TOUCH list:0 => :1
             UNLINK missing => :0",
        );
        assert_eq!(offset(&mut client), before);
        assert_survives_sigkill(&mut server);
    });
}

/// Scenarios 28 and 143, for every type: what chance, the clock or a sum decided.
#[test]
fn what_was_decided_live_is_the_same_after_a_restart() {
    if is_other_server() {
        return;
    }
    const KEYS: usize = 25;
    for_each_setup(|mut server| {
        let mut client = server.client().unwrap();
        for n in 0..KEYS {
            let lines = [
                "SADD set:# a b c d e f 1 2 3 4 5 6 7 8 9",
                "SPOP set:# 5",
                "SPOP set:#",
                "SADD numbers:# 1 2 3 4 5 6 7 8 9",
                "SPOP numbers:# 4",
                "XADD stream:# * f 1",
                "XADD stream:# * f 2",
                "XADD stream:# MAXLEN ~ 1 * f 3",
                "XGROUP CREATE stream:# g $",
                "XADD stream:# * f 4",
                "XREADGROUP GROUP g c STREAMS stream:# >",
                "HINCRBYFLOAT hash:# f 0.1",
                "HINCRBYFLOAT hash:# f 0.2",
                "HSET fields:# f v g w",
                "HPEXPIRE fields:# 100000123 FIELDS 1 f",
                "HGETEX fields:# PX 100000456 FIELDS 1 g",
                "ZINCRBY scores:# 0.1 m",
                "ZINCRBY scores:# 0.2 m",
                "ZADD scores:# 1 a 2 b",
                "ZMPOP 1 scores:# MAX",
                "GEOADD places:# 13.361389 38.115556 p 15.087269 37.502669 q",
                "GEORADIUS places:# 15 37 200 km STORE near:#",
                "RPUSH list:# 3 1 2",
                "SORT list:# STORE sorted:#",
                "LMPOP 1 list:# RIGHT COUNT 2",
                "PEXPIRE sorted:# 100000789",
                "EXPIRE scores:# 100000",
                "SET float:# 10.5",
                "INCRBYFLOAT float:# 0.1",
            ];
            let lines: Vec<String> = lines
                .iter()
                .map(|line| line.replace('#', &n.to_string()))
                .collect();
            for (line, reply) in lines.iter().zip(client.pipeline(&lines).unwrap()) {
                assert!(reply.error().is_none(), "{line}: {reply:?}");
            }
        }
        let shown = |server: &Server| -> Vec<String> {
            let mut client = server.client().unwrap();
            let mut lines = Vec::new();
            for n in 0..KEYS {
                lines.extend(
                    [
                        "SORT set:# ALPHA",
                        "SORT numbers:#",
                        "XRANGE stream:# - +",
                        "XPENDING stream:# g - + 9 c",
                        "HGETALL hash:#",
                        "HPEXPIRETIME fields:# FIELDS 2 f g",
                        "ZRANGE scores:# 0 -1 WITHSCORES",
                        "ZRANGE near:# 0 -1 WITHSCORES",
                        "LRANGE list:# 0 -1",
                        "LRANGE sorted:# 0 -1",
                        "PEXPIRETIME sorted:#",
                        "PEXPIRETIME scores:#",
                        "GET float:#",
                    ]
                    .map(|line| line.replace('#', &n.to_string())),
                );
            }
            let replies = client.pipeline(&lines).unwrap();
            let lines = lines.iter().zip(replies);
            lines
                .map(|(line, reply)| {
                    // How long ago something was delivered goes on.
                    match (line.starts_with("XPENDING"), reply.items()) {
                        (true, Some([Reply::Array(row)])) => {
                            format!("{line}: {:?} {:?} {:?}", row[0], row[1], row[3])
                        }
                        _ => format!("{line}: {reply:?}"),
                    }
                })
                .collect()
        };
        let before = shown(&server);
        for _ in 0..2 {
            server.kill9().unwrap();
            server.restart().unwrap();
            assert_eq!(shown(&server), before);
        }
    });
}

/// Command number `i` of a history over all types, most of it between keys of several shards. It
/// says nothing of chance or time, and repeating one of its commands would show.
fn command(i: usize) -> String {
    let spread = i.wrapping_mul(2_654_435_761) >> 7;
    let (a, b, c) = (spread % 6, spread / 6 % 6, spread / 36 % 6);
    let member = spread / 216 % 40;
    match i % 33 {
        0 | 1 => format!("RPUSH l{a} {i} {member}"),
        2 => format!("LMOVE l{a} l{b} LEFT RIGHT"),
        3 => format!("RPOPLPUSH l{b} l{c}"),
        4 => format!("LMPOP 2 l{a} l{b} LEFT COUNT 2"),
        5 => format!("RENAME l{a} l{b}"),
        6 => format!("SORT l{a} ALPHA STORE sorted{b}"),
        7 | 8 => format!("SADD s{a} m{member} m{b}"),
        9 => format!("SMOVE s{a} s{b} m{member}"),
        10 => format!("SUNIONSTORE u{a} s{a} s{b} u{c}"),
        11 => format!("SDIFFSTORE u{b} s{a} s{c}"),
        12 => format!("ZINCRBY z{a} {i} m{member}"),
        13 => format!("ZUNIONSTORE y{a} 2 z{a} s{b}"),
        14 => format!("ZRANGESTORE y{b} z{c} 0 5"),
        15 => format!("ZMPOP 2 z{a} z{b} MIN"),
        16 => format!("HINCRBY h{a} f{member} 1"),
        17 => format!("RENAME h{a} h{b}"),
        18 => format!("COPY h{b} h{c} REPLACE"),
        19 => format!(
            "HSETEX h{a} PXAT 4102444800{:03} FIELDS 1 e{b} {i}",
            i % 1000
        ),
        20 => format!("HGETDEL h{a} FIELDS 1 e{b}"),
        21 => format!("PFADD p{a} {i}"),
        22 => format!("PFMERGE p{a} p{b} p{c}"),
        23 => format!("BITFIELD b{a} INCRBY u16 {member} 3"),
        24 => format!("BITOP XOR b{c} b{a} b{b}"),
        25 => format!("APPEND b{a} {i}"),
        26 => format!("XADD x{a} MAXLEN = 20 {i}-0 v {member}"),
        27 => format!("RENAME x{a} x{b}"),
        28 => format!("XGROUP CREATE x{a} g 0"),
        29 => format!("XDEL x{a} {}-0", i - 3),
        30 => format!("GEOADD g{a} 13.361389 38.115556 m{member}"),
        31 => format!("GEOSEARCHSTORE y{c} g{a} FROMLONLAT 13 38 BYRADIUS 500 km"),
        _ => format!("MSET n{a} {i} n{b} {i} n{c} {i}"),
    }
}

/// Runs the history from `first` on until `stop` says so or the server is gone, one command after
/// the other; the number of the first one that is not answered.
fn run_history(client: &mut Client, first: usize, stop: impl Fn(usize) -> bool) -> usize {
    let mut next = first;
    while !stop(next) && client.run(&command(next)).is_ok() {
        next += 1;
    }
    next
}

/// Fails unless `server` holds the history up to command `answered`, with or without that one.
/// Returns how many commands it holds. `reference` holds `done` of them.
fn assert_is_history(
    server: &Server,
    reference: &mut Client,
    done: usize,
    answered: usize,
) -> usize {
    let found = state(server);
    let lines: Vec<String> = (done..answered).map(command).collect();
    for chunk in lines.chunks(500) {
        reference.pipeline(chunk).unwrap();
    }
    let without = read_state(reference, DATABASES).unwrap();
    if without == found {
        return answered;
    }
    reference.run(&command(answered)).unwrap();
    let with = read_state(reference, DATABASES).unwrap();
    if with != found {
        // Names the keys; the one that the last command changed may be among them.
        assert_same_state(&without, &found, &format!("after {answered} commands"));
    }
    answered + 1
}

/// Scenario 8, for every type: what is moved, renamed or stored elsewhere is at both places or at
/// none, and nothing acknowledged is gone.
#[test]
fn commands_over_several_shards_are_whole_whenever_the_server_dies() {
    if is_other_server() {
        return;
    }
    for (number, shards) in [2, 3, 8].into_iter().enumerate() {
        let mut server = start(shards, FsyncPolicy::ALL[number]);
        let other = start(1, FsyncPolicy::No);
        let mut reference = other.client().unwrap();
        let mut done = 0;
        for round in 0..4 {
            let reached = AtomicUsize::new(done);
            let answered = std::thread::scope(|scope| {
                let mut client = server.client().unwrap();
                let reached = &reached;
                let load = scope.spawn(move || {
                    run_history(&mut client, done, |next| {
                        reached.store(next, Ordering::Relaxed);
                        false
                    })
                });
                while reached.load(Ordering::Relaxed) < done + 300 + 70 * round {
                    std::thread::yield_now();
                }
                server.kill9().unwrap();
                load.join().unwrap()
            });
            server.restart().unwrap();
            done = assert_is_history(&server, &mut reference, done, answered);
        }
        assert!(state(&server).len() > 40, "the history is about nothing");
    }
}

/// Scenarios 85 and 86, for every type: each command is on one side of the cut, and only on one.
#[test]
fn a_history_over_all_types_is_exact_after_rewrites_and_a_kill() {
    if is_other_server() {
        return;
    }
    for (number, shards) in [1, 2, 8].into_iter().enumerate() {
        let mut server = start(shards, FsyncPolicy::ALL[number]);
        let other = start(1, FsyncPolicy::No);
        let mut reference = other.client().unwrap();
        // So much that walking through it takes a while.
        fill(&mut server.client().unwrap(), 300);
        fill(&mut reference, 300);
        let mut done = 0;
        for _ in 0..3 {
            let stop = AtomicBool::new(false);
            let answered = std::thread::scope(|scope| {
                let mut client = server.client().unwrap();
                let stop = &stop;
                let load = scope.spawn(move || {
                    run_history(&mut client, done, |_| stop.load(Ordering::Relaxed))
                });
                let mut client = server.client().unwrap();
                for _ in 0..3 {
                    client.run("BGREWRITEAOF").unwrap();
                    wait_until(&mut client, "aof_rewrite_scheduled", |n| n == "0");
                    wait_until(&mut client, "aof_rewrite_in_progress", |n| n == "0");
                    assert_eq!(info(&mut client, "aof_last_bgrewrite_status"), "ok");
                }
                stop.store(true, Ordering::Relaxed);
                load.join().unwrap()
            });
            assert!(answered > done, "nothing was written meanwhile");
            server.kill9().unwrap();
            server.restart().unwrap();
            done = assert_is_history(&server, &mut reference, done, answered);
            assert_eq!(done, answered, "every command was answered");
        }
    }
}

/// A reply of XINFO without the times at which consumers were seen: a snapshot does not keep when
/// each of them last got something.
fn without_times(reply: &Reply) -> String {
    let text = format!("{reply:?}");
    let mut parts = text.split("-time\", :");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        out.push_str("-time");
        out.push_str(part.trim_start_matches(|c: char| c.is_ascii_digit() || c == '-'));
    }
    out
}

/// Scenario 89, as far as there is what it names: consumer groups with what is pending, ids that
/// were given and deleted, also of a stream that is empty.
#[test]
fn streams_and_their_groups_are_whole_after_a_rewrite_and_a_restart() {
    if is_other_server() {
        return;
    }
    for shards in [1, 3] {
        let mut server = start(shards, FsyncPolicy::Everysec);
        let mut client = server.client().unwrap();
        for n in 0..20 {
            let mut lines: Vec<String> = (1..=120)
                .map(|id| format!("XADD s{n} {id}-{n} f {id} other value"))
                .collect();
            lines.extend(
                [
                    "XGROUP CREATE s# g 0",
                    "XGROUP CREATE s# empty 50-0",
                    "XGROUP CREATECONSUMER s# empty idle",
                    "XREADGROUP GROUP g c1 COUNT 40 STREAMS s# >",
                    "XREADGROUP GROUP g c2 COUNT 3 STREAMS s# >",
                    "XACK s# g 2-# 5-#",
                    "XCLAIM s# g c2 0 1-# TIME 1600000000123 RETRYCOUNT 9",
                    "XDEL s# 3-# 120-#",
                    "XTRIM s# MAXLEN 100",
                    "XADD gone# 7-7 f v",
                    "XGROUP CREATE gone# g $",
                    "XDEL gone# 7-7",
                    "XSETID s# 500-1 ENTRIESADDED 700 MAXDELETEDID 300-0",
                ]
                .map(|line| line.replace('#', &n.to_string())),
            );
            for (line, reply) in lines.iter().zip(client.pipeline(&lines).unwrap()) {
                assert!(reply.error().is_none(), "{line}: {reply:?}");
            }
        }
        let shown = |client: &mut Client| -> Vec<String> {
            let lines: Vec<String> = (0..20)
                .flat_map(|n| [format!("s{n}"), format!("gone{n}")])
                .map(|key| format!("XINFO STREAM {key} FULL COUNT 0"))
                .collect();
            let replies = client.pipeline(&lines).unwrap();
            replies.iter().map(without_times).collect()
        };
        let before = shown(&mut client);
        assert!(before[0].contains("1600000000123"), "{}", before[0]);
        for _ in 0..2 {
            client.run("BGREWRITEAOF").unwrap();
            wait_until(&mut client, "aof_rewrite_scheduled", |n| n == "0");
            wait_until(&mut client, "aof_rewrite_in_progress", |n| n == "0");
            server.kill9().unwrap();
            server.restart().unwrap();
            client = server.client().unwrap();
            for (found, expected) in shown(&mut client).iter().zip(&before) {
                assert_eq!(found, expected);
            }
        }
        // The empty stream still knows which ids it has given.
        let again = run(&server, "XADD gone0 7-7 f v");
        assert!(again.error().is_some(), "{again:?}");
    }
}
