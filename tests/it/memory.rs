//! Memory: what is counted, the limit and the policies, and that what was freed comes back.
//!
//! Limits are set at run time, so that a server that restarts has none: what it recovered can be
//! compared with what was there.

use crate::support::{
    assert_same_state, assert_survives_sigkill, is_other_server, run, start, state,
};
use moon_harness::{Client, FsyncPolicy, Reply, Server};
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;
const OOM: &str = "OOM command not allowed when used memory > 'maxmemory'.";

/// A number out of INFO.
fn info(client: &mut Client, section: &str, field: &str) -> u64 {
    let text = client.command(&["INFO", section]).unwrap().text().unwrap();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(&format!("{field}:")));
    line.unwrap().trim().parse().unwrap()
}

fn used(client: &mut Client) -> u64 {
    info(client, "memory", "used_memory")
}

/// What counts towards the limit.
fn counted(client: &mut Client) -> u64 {
    used(client) - info(client, "memory", "mem_not_counted_for_evict")
}

fn set_limit(client: &mut Client, policy: &str, bytes: u64) {
    let bytes = bytes.to_string();
    let set = [
        "CONFIG",
        "SET",
        "maxmemory-policy",
        policy,
        "maxmemory",
        &bytes,
    ];
    assert!(client.command(&set).unwrap().is_ok());
    // Asks every shard, each of which has heard of the limit by then.
    client.run("DBSIZE").unwrap();
}

/// Writes `count` values of `len` bytes; the replies.
fn fill(client: &mut Client, prefix: &str, count: usize, len: usize, more: &str) -> Vec<Reply> {
    let value = "v".repeat(len);
    let mut replies = Vec::new();
    let keys: Vec<usize> = (0..count).collect();
    for chunk in keys.chunks(200) {
        let sets: Vec<String> = chunk
            .iter()
            .map(|i| format!("SET {prefix}:{i} {value}{i}{more}"))
            .collect();
        replies.extend(client.pipeline(&sets).unwrap());
    }
    replies
}

/// Waits until `condition` holds; memory comes back a moment after the reply.
fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < Duration::from_secs(20), "never: {what}");
        std::thread::yield_now();
    }
}

fn server(shards: u16) -> Option<Server> {
    (!is_other_server()).then(|| start(shards, FsyncPolicy::Everysec))
}

/// Scenario 154: what was evicted stays evicted, what was not is there.
#[test]
fn evictions_keep_the_limit_and_the_rest_survives_sigkill() {
    for (shards, policy) in [
        (1, "allkeys-lru"),
        (3, "allkeys-lfu"),
        (2, "allkeys-random"),
    ] {
        let Some(mut server) = server(shards) else {
            return;
        };
        let mut client = server.client().unwrap();
        let limit = used(&mut client) + 24 * MIB;
        set_limit(&mut client, policy, limit);
        let replies = fill(&mut client, "key", 60_000, 1000, "");
        assert!(replies.iter().all(Reply::is_ok), "{policy}");
        eventually("within 2 % over the limit", || {
            counted(&mut client) <= limit + limit / 50
        });
        let left = counted(&mut client);
        assert!(left > limit - limit / 5, "{policy}: {left} of {limit}");
        // Nothing goes any more while this counts.
        set_limit(&mut client, policy, 0);
        let keys = run(&server, "DBSIZE").int().unwrap().cast_unsigned();
        let evicted = info(&mut client, "stats", "evicted_keys");
        assert_eq!(keys + evicted, 60_000, "{policy}");
        let before = assert_survives_sigkill(&mut server);
        assert_eq!(before.len() as u64, keys);
    }
}

#[test]
fn volatile_policies_leave_keys_without_a_deadline_alone() {
    for policy in [
        "volatile-lru",
        "volatile-lfu",
        "volatile-random",
        "volatile-ttl",
    ] {
        let Some(server) = server(2) else { return };
        let mut client = server.client().unwrap();
        fill(&mut client, "stays", 2000, 1000, "");
        let limit = used(&mut client) + 8 * MIB;
        set_limit(&mut client, policy, limit);
        let replies = fill(&mut client, "goes", 20_000, 1000, " PX 10000000");
        assert!(replies.iter().all(Reply::is_ok), "{policy}");
        set_limit(&mut client, policy, 0);
        let state = state(&server);
        let stayed = state
            .keys()
            .filter(|key| key.to_string().contains("stays"))
            .count();
        assert_eq!(stayed, 2000, "{policy}");
        assert!(
            info(&mut client, "stats", "evicted_keys") > 5000,
            "{policy}"
        );
    }
}

/// Scenarios 146, 147, 153 and 154: under every policy and with values of every type, what was
/// evicted does not come back, what was not is whole, and every key is the one or the other.
#[test]
fn keys_of_every_type_are_evicted_whole_and_for_good() {
    const KEYS: usize = 16_000;
    for (number, policy) in [
        "allkeys-lru",
        "allkeys-lfu",
        "allkeys-random",
        "volatile-lru",
        "volatile-lfu",
        "volatile-random",
        "volatile-ttl",
    ]
    .into_iter()
    .enumerate()
    {
        let Some(mut server) = server([1, 2][number % 2]) else {
            return;
        };
        let mut client = server.client().unwrap();
        let limit = used(&mut client) + 16 * MIB;
        set_limit(&mut client, policy, limit);
        let word = |i: usize, n: usize| format!("{i}:{}", "w".repeat(60 + n));
        let words = |i: usize| (0..10).map(|n| word(i, n)).collect::<Vec<_>>();
        let make = |i: usize| -> String {
            let all = words(i);
            match i % 7 {
                0 => format!("RPUSH k{i} {}", all.join(" ")),
                1 => format!("SADD k{i} {}", all.join(" ")),
                2 => format!("HSET k{i} {}", all.join(" ")),
                3 => format!("ZADD k{i} 1 {} 2 {}", all[..5].concat(), all[5..].concat()),
                4 => format!("XADD k{i} 1-0 f {}", all.concat()),
                5 => format!("SETBIT k{i} 7000 1"),
                _ => format!("SET k{i} {}", all.concat()),
            }
        };
        let keys: Vec<usize> = (0..KEYS).collect();
        for chunk in keys.chunks(100) {
            // Deadlines in the same turn as the values, so that volatile policies find victims.
            let lines: Vec<String> = chunk
                .iter()
                .flat_map(|i| {
                    [
                        make(*i),
                        format!("PEXPIREAT k{i} {}", 4_102_444_800_000 + i),
                    ]
                })
                .collect();
            for reply in client.pipeline(&lines).unwrap() {
                let limits = || {
                    let mut client = server.client().unwrap();
                    let keys = run(&server, "DBSIZE");
                    let evicted = info(&mut client, "stats", "evicted_keys");
                    let counted = counted(&mut client);
                    format!("{policy}: {keys:?} keys, {evicted} evicted, {counted} of {limit}")
                };
                assert_eq!(reply.error(), None, "{}", limits());
            }
        }
        set_limit(&mut client, policy, 0);
        let left = run(&server, "DBSIZE").int().unwrap().cast_unsigned();
        let evicted = info(&mut client, "stats", "evicted_keys");
        assert_eq!(left + evicted, KEYS as u64, "{policy}");
        assert!(evicted > 500 && left > 500, "{policy}: {evicted}, {left}");
        let before = assert_survives_sigkill(&mut server);
        assert_eq!(before.len() as u64, left, "{policy}");
        // Each of them is as it was made: nothing was emptied to make room.
        let fresh = start(1, FsyncPolicy::No);
        let names = before
            .keys()
            .map(|key| String::from_utf8_lossy(&key.key)[1..].to_owned());
        let numbers: Vec<usize> = names.map(|name| name.parse().unwrap()).collect();
        let lines: Vec<String> = numbers
            .iter()
            .flat_map(|i| {
                [
                    make(*i),
                    format!("PEXPIREAT k{i} {}", 4_102_444_800_000 + i),
                ]
            })
            .collect();
        fresh.client().unwrap().pipeline(&lines).unwrap();
        assert_same_state(&state(&fresh), &before, policy);
        let evicted_again = info(&mut server.client().unwrap(), "stats", "evicted_keys");
        assert_eq!(evicted_again, 0, "{policy}: a restart evicts nothing");
    }
}

/// Scenario 148: victims that are gone, or that may not go any more, are not looked for for ever.
#[test]
fn victims_that_are_gone_do_not_keep_a_server_busy() {
    for policy in ["volatile-ttl", "volatile-lru", "volatile-random"] {
        let Some(server) = server(2) else { return };
        let mut client = server.client().unwrap();
        fill(&mut client, "stays", 500, 1000, "");
        fill(&mut client, "goes", 1000, 1000, " PX 10000000");
        fill(&mut client, "kept", 1000, 1000, " PX 10000000");
        fill(&mut client, "soon", 500, 1000, " PX 20");
        let each = |name: &str, command: &str| -> Vec<String> {
            (0..1000).map(|i| format!("{command} {name}:{i}")).collect()
        };
        client.pipeline(&each("goes", "DEL")).unwrap();
        client.pipeline(&each("kept", "PERSIST")).unwrap();
        eventually("what expires is gone", || {
            run(&server, "DBSIZE").int() == Some(1500)
        });
        set_limit(&mut client, policy, 1);
        let begun = Instant::now();
        for i in 0..200 {
            let refused = run(&server, &format!("SET new:{i} 1"));
            assert_eq!(refused.error().as_deref(), Some(OOM), "{policy}");
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "{policy}");
        // One that may go goes, and only that one.
        set_limit(&mut client, policy, 0);
        assert!(run(&server, "SET victim 1 PX 10000000").is_ok());
        set_limit(&mut client, policy, 1);
        eventually("the victim is gone", || {
            drop(run(&server, "SET new 1"));
            run(&server, "EXISTS victim").int() == Some(0)
        });
        assert_eq!(run(&server, "DBSIZE").int(), Some(1500), "{policy}");
    }
}

#[test]
fn without_room_only_what_needs_memory_is_refused() {
    for (shards, policy) in [(1, "noeviction"), (2, "volatile-ttl")] {
        let Some(server) = server(shards) else { return };
        let mut client = server.client().unwrap();
        fill(&mut client, "key", 1000, 1000, "");
        for group in ["g", "i"] {
            let create = format!("XGROUP CREATE s {group} $ MKSTREAM");
            assert!(client.run(&create).unwrap().is_ok());
        }
        set_limit(&mut client, policy, 1);
        for refused in [
            "SET a 1",
            "LPUSH l 1",
            "MSET a 1 b 2 c 3 d 4",
            "COPY key:1 key:x",
        ] {
            assert_eq!(
                run(&server, refused).error().as_deref(),
                Some(OOM),
                "{refused}"
            );
        }
        assert_eq!(client.run("GET key:1").unwrap().text().unwrap().len(), 1001);
        assert_eq!(client.run("DEL key:1 key:2").unwrap(), Reply::Int(2));
        assert!(client.run("RENAME key:3 key:4").unwrap().is_ok());
        assert_eq!(client.run("PERSIST key:4").unwrap(), Reply::Int(0));

        // What a request may do, its subcommand says.
        for refused in ["XGROUP CREATE s h $", "XGROUP CREATECONSUMER s g d"] {
            let reply = client.run(refused).unwrap();
            assert_eq!(reply.error().as_deref(), Some(OOM), "{refused}");
        }
        for admitted in ["XGROUP DELCONSUMER s g c", "XGROUP DESTROY s g"] {
            assert_eq!(
                client.run(admitted).unwrap(),
                Reply::Int(1 - i64::from(admitted.contains("DEL"))),
                "{admitted}"
            );
        }
        assert!(client.run("XGROUP SETID s i 0").unwrap().is_ok());

        assert!(client.run("MULTI").unwrap().is_ok());
        assert_eq!(
            client.run("GET key:9").unwrap().error().as_deref(),
            Some(OOM)
        );
        let aborted = "EXECABORT Transaction discarded because of previous errors.";
        assert_eq!(
            client.run("EXEC").unwrap().error().as_deref(),
            Some(aborted)
        );

        set_limit(&mut client, policy, 0);
        assert!(client.run("MULTI").unwrap().is_ok());
        assert_eq!(client.run("SET a 1").unwrap().text().unwrap(), "QUEUED");
        let mut other = server.client().unwrap();
        set_limit(&mut other, policy, 1);
        let aborted = format!("EXECABORT Transaction discarded because of: {OOM}");
        assert_eq!(client.run("EXEC").unwrap().error(), Some(aborted));
        set_limit(&mut client, policy, 0);
        assert!(run(&server, "SET a 1").is_ok());
    }
}

/// All keys that may go are on one shard, and all writes on the other.
#[test]
fn a_shard_without_keys_makes_room_on_the_others() {
    let Some(server) = server(2) else { return };
    let mut client = server.client().unwrap();
    let keys = crate::support::keys_per_shard(2, 1);
    let tag = |shard: usize| format!("{{{}}}", keys[shard][0]);
    fill(&mut client, &tag(0), 16_000, 1000, "");
    eventually("the log is synced", || {
        info(&mut client, "memory", "mem_not_counted_for_evict") < 100_000
    });
    let limit = used(&mut client);
    set_limit(&mut client, "allkeys-lru", limit);
    let replies = fill(&mut client, &tag(1), 16_000, 1000, "");
    let first = replies.iter().find(|reply| !reply.is_ok());
    assert_eq!(first, None);
    eventually("the instance is within its limit", || {
        counted(&mut client) <= limit + limit / 50
    });
    set_limit(&mut client, "allkeys-lru", 0);
    let state = state(&server);
    let new = state
        .keys()
        .filter(|key| key.to_string().contains(&tag(1)))
        .count();
    assert!(new > 0, "{new} of {} keys", state.len());
}

#[test]
fn what_is_freed_lazily_comes_back() {
    let Some(server) = server(2) else { return };
    let mut client = server.client().unwrap();
    let fill_set = |client: &mut Client| {
        for chunk in 0..300 {
            let members: Vec<String> = (0..1000).map(|i| format!("member:{chunk}:{i}")).collect();
            let line = format!("SADD big {}", members.join(" "));
            assert_eq!(client.run(&line).unwrap(), Reply::Int(1000));
        }
        // What the log still holds is no part of what follows.
        eventually("the log is synced", || {
            info(client, "memory", "mem_not_counted_for_evict") < 100_000
        });
        used(client)
    };
    let removals = [
        "UNLINK big",
        "DEL big",
        "SET big small",
        "PEXPIRE big 0",
        "FLUSHDB ASYNC",
        "FLUSHALL SYNC",
        "SPOP big 400000",
    ];
    for removal in removals {
        let full = fill_set(&mut client);
        let freed = info(&mut client, "memory", "lazyfreed_objects");
        assert_eq!(client.run(removal).unwrap().error(), None);
        eventually(removal, || used(&mut client) < full - 4 * MIB);
        if !removal.starts_with("SPOP") {
            eventually(removal, || {
                info(&mut client, "memory", "lazyfreed_objects") > freed
            });
        }
        eventually(removal, || {
            info(&mut client, "memory", "lazyfree_pending_objects") == 0
        });
        client.run("DEL big").unwrap();
    }
}

/// The command that makes a key of a kind, by its number.
type MakeKey = fn(usize) -> String;

/// What MEMORY USAGE says of all keys together is what the allocator counts for them.
#[test]
fn memory_usage_is_within_a_tenth_of_the_truth() {
    let kinds: [(&str, MakeKey); 8] = [
        ("integers", |i| format!("SET key:{i} {i}")),
        ("strings", |i| format!("SET key:{i} {}", "v".repeat(100))),
        ("long keys", |i| format!("SET {}{i} value", "k".repeat(40))),
        ("deadlines", |i| format!("SET key:{i} {i} PX 100000000")),
        ("small hashes", |i| {
            format!("HSET key:{i} f1 value-{i} f2 value-{i} f3 x")
        }),
        ("small sets", |i| {
            format!("SADD key:{i} a{i} b{i} c{i} d{i}")
        }),
        ("lists", |i| {
            format!("RPUSH key:{i} {}", vec![format!("e{i}"); 30].join(" "))
        }),
        ("large hashes", |i| {
            let pairs: Vec<String> = (0..200)
                .map(|f| format!("field:{f} value:{f}:{i}"))
                .collect();
            format!("HSET key:{} {}", i % 2000, pairs.join(" "))
        }),
    ];
    if is_other_server() {
        return;
    }
    let mut wrong = Vec::new();
    for (kind, command) in kinds {
        let (flavor, binary) = (crate::support::flavor(), crate::support::binary());
        let server = Server::start_temp(flavor, binary, |c| {
            c.shards(2)
                .arg("--appendonly")
                .arg("no")
                .arg("--save")
                .arg("")
        })
        .unwrap();
        let mut client = server.client().unwrap();
        // Buffers of the connection have their size when counting begins.
        let lines: Vec<String> = (0..10_000).map(command).collect();
        client.pipeline(&lines[..500]).unwrap();
        client.run("FLUSHALL").unwrap();
        eventually("nothing is pending", || {
            info(&mut client, "memory", "lazyfree_pending_objects") == 0
        });
        let before = used(&mut client);
        for chunk in lines.chunks(500) {
            client.pipeline(chunk).unwrap();
        }
        let names = client.run("KEYS *").unwrap();
        let mut sum = 0;
        for chunk in names.items().unwrap().chunks(500) {
            let asked: Vec<String> = chunk
                .iter()
                .map(|name| format!("MEMORY USAGE {}", name.text().unwrap()))
                .collect();
            let replies = client.pipeline(&asked).unwrap();
            sum += replies
                .iter()
                .map(|r| r.int().unwrap().cast_unsigned())
                .sum::<u64>();
        }
        // What requests and replies needed is given back a moment after them.
        let begun = Instant::now();
        loop {
            let truth = used(&mut client) - before;
            let off = sum.abs_diff(truth) as f64 / truth as f64;
            if off < 0.1 {
                eprintln!("{kind}: {sum} of {truth}, off by {:.1} %", off * 100.0);
                break;
            }
            if begun.elapsed() > Duration::from_secs(5) {
                wrong.push(format!("{kind}: {sum} said, {truth} counted"));
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn uses_of_keys_are_remembered_in_the_sense_of_the_policy() {
    let Some(server) = server(2) else { return };
    let mut client = server.client().unwrap();
    client.run("SET a 1").unwrap();
    assert_eq!(client.run("OBJECT IDLETIME a").unwrap(), Reply::Int(0));
    let error = client.run("OBJECT FREQ a").unwrap().error().unwrap();
    assert!(
        error.starts_with("ERR An LFU maxmemory policy is not selected"),
        "{error}"
    );
    set_limit(&mut client, "allkeys-lfu", 0);
    let error = client.run("OBJECT IDLETIME a").unwrap().error().unwrap();
    assert!(
        error.starts_with("ERR An LFU maxmemory policy is selected"),
        "{error}"
    );
    client.run("SET b 1").unwrap();
    assert_eq!(client.run("OBJECT FREQ b").unwrap(), Reply::Int(5));
    assert!(client.run("CONFIG SET lfu-log-factor 0").unwrap().is_ok());
    client.run("GET b").unwrap();
    client.run("APPEND b 2").unwrap();
    client.run("TTL b").unwrap();
    assert_eq!(client.run("OBJECT FREQ b").unwrap(), Reply::Int(7));
}

#[test]
fn memory_answers_what_redis_answers() {
    let Some(server) = server(2) else { return };
    let mut client = server.client().unwrap();
    fill(&mut client, "key", 100, 10, " PX 10000000");
    let stats = client.run("MEMORY STATS").unwrap();
    let items = stats.items().unwrap();
    let names: Vec<String> = items.iter().step_by(2).map(|n| n.text().unwrap()).collect();
    for name in [
        "peak.allocated",
        "total.allocated",
        "db.0",
        "keys.count",
        "fragmentation",
    ] {
        assert!(names.iter().any(|n| n == name), "{name} of {names:?}");
    }
    assert_eq!(items.len(), names.len() * 2);
    let keys = names.iter().position(|n| n == "keys.count").unwrap();
    assert_eq!(items[keys * 2 + 1], Reply::Int(100));
    assert!(client.run("MEMORY PURGE").unwrap().is_ok());
    assert!(client.run("MEMORY DOCTOR").unwrap().text().is_some());
    assert!(
        client
            .run("MEMORY MALLOC-STATS")
            .unwrap()
            .text()
            .unwrap()
            .contains("committed")
    );
    assert_eq!(client.run("MEMORY USAGE none").unwrap().bytes(), None);
    client.run("MULTI").unwrap();
    client.run("MEMORY USAGE key:1").unwrap();
    client.run("MEMORY USAGE key:2 SAMPLES 0").unwrap();
    let replies = client.run("EXEC").unwrap();
    let usages = replies.items().unwrap();
    assert!(
        usages.iter().all(|usage| usage.int() > Some(10)),
        "{usages:?}"
    );
}
