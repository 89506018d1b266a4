//! Deadlines of keys of every type and of fields of hashes: absolute, exact to the millisecond, kept
//! or dropped by the commands that should, and final, whatever rewrites and restarts come between.
//!
//! Nothing here waits for so long; it waits until the server's own clock has passed a deadline.

use crate::support::{
    assert_survives_sigkill, binary, flavor, info, is_other_server, run, script, start, state,
    wait_until,
};
use crate::types::{NAMES, VALUES, fill};
use moon_harness::model::DbKey;
use moon_harness::{Client, FsyncPolicy, Reply, Server};
use std::path::Path;
use std::time::{Duration, Instant};

fn unix_ms() -> i64 {
    let since = std::time::UNIX_EPOCH.elapsed().unwrap();
    i64::try_from(since.as_millis()).unwrap()
}

fn wait_for_time(ms: i64) {
    while unix_ms() <= ms {
        std::thread::yield_now();
    }
}

fn rewrite(client: &mut Client) {
    client.run("BGREWRITEAOF").unwrap();
    wait_until(client, "aof_rewrite_scheduled", |n| n == "0");
    wait_until(client, "aof_rewrite_in_progress", |n| n == "0");
    assert_eq!(info(client, "aof_last_bgrewrite_status"), "ok");
}

fn run_all(client: &mut Client, lines: &[String]) {
    for (line, reply) in lines.iter().zip(client.pipeline(lines).unwrap()) {
        assert!(reply.error().is_none(), "{line}: {reply:?}");
    }
}

fn for_number(lines: &[&str], n: usize) -> Vec<String> {
    let with = |line: &&str| line.replace('#', &n.to_string());
    lines.iter().map(with).collect()
}

/// Scenarios 88 and 201, for every type and for fields: what expires while a base is written and
/// while the server is down is gone before the first command, and nothing else is.
#[test]
fn what_expires_during_a_rewrite_and_a_pause_is_gone_and_nothing_else() {
    if is_other_server() {
        return;
    }
    const KEYS: usize = 150;
    for (number, shards) in [1, 3, 8].into_iter().enumerate() {
        let mut server = start(shards, FsyncPolicy::ALL[number]);
        let mut client = server.client().unwrap();
        // Some deadlines come while the base is written, some in the log behind it, some while
        // nobody runs.
        let begun = unix_ms();
        let mut last = 0;
        for n in 0..KEYS {
            let mut lines = for_number(VALUES, n);
            for (i, name) in NAMES.iter().enumerate().filter(|(i, _)| (i + n) % 3 == 0) {
                let at = begun + 200 + ((i * 131 + n * 17) % 1200) as i64;
                last = last.max(at);
                lines.push(format!("PEXPIREAT {name}:{n} {at}"));
            }
            let at = begun + 200 + ((n * 29) % 1200) as i64;
            last = last.max(at);
            lines.push(format!("HSETEX brief:{n} PXAT {at} FIELDS 2 f v g w"));
            lines.push(format!("HSETEX mixed:{n} PXAT {at} FIELDS 1 f v"));
            lines.push(format!("HSET mixed:{n} stays v"));
            run_all(&mut client, &lines);
            if n == KEYS / 2 {
                client.run("BGREWRITEAOF").unwrap();
            }
        }
        wait_until(&mut client, "aof_rewrite_in_progress", |n| n == "0");
        server.kill9().unwrap();
        wait_for_time(last);
        server.restart().unwrap();
        let mut expected: Vec<DbKey> = Vec::new();
        for n in 0..KEYS {
            let stays = NAMES.iter().enumerate().filter(|(i, _)| (i + n) % 3 != 0);
            expected.extend(stays.map(|(_, name)| DbKey::new(0, format!("{name}:{n}"))));
            expected.push(DbKey::new(0, format!("mixed:{n}")));
        }
        // The first command sees none of them; those that nobody asks for are removed, and that is
        // in the log, a moment later.
        assert_eq!(state(&server).len(), expected.len());
        let expected_size = i64::try_from(expected.len()).unwrap();
        eventually("all removed", || {
            run(&server, "DBSIZE").int() == Some(expected_size)
        });
        let found = assert_survives_sigkill(&mut server);
        let missing: Vec<_> = expected
            .iter()
            .filter(|k| !found.contains_key(*k))
            .collect();
        assert!(missing.is_empty(), "{missing:?}");
        assert_eq!(found.len(), expected.len());
        let mixed = &found[&DbKey::new(0, "mixed:7")];
        assert_eq!(format!("{mixed:?}"), "hash of 1: [(\"stays\", \"v\")]");
    }
}

/// The request that `bytes` begin with, if they do.
fn request(bytes: &[u8]) -> Option<Vec<&[u8]>> {
    fn number(bytes: &mut &[u8], mark: u8) -> Option<usize> {
        let line = bytes.strip_prefix(&[mark])?;
        let end = line.windows(2).take(12).position(|w| w == b"\r\n")?;
        *bytes = &line[end + 2..];
        std::str::from_utf8(&line[..end]).ok()?.parse().ok()
    }
    let mut rest = bytes;
    let words = number(&mut rest, b'*')?;
    (0..words)
        .map(|_| {
            let len = number(&mut rest, b'$')?;
            let word = rest.get(..len)?;
            rest = rest.get(len + 2..)?;
            Some(word)
        })
        .collect()
}

/// How often the log under `dir` removes a key, or a field of it.
fn removals(dir: &Path, key: &str, field: Option<&str>) -> usize {
    let mut count = 0;
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.to_string_lossy().ends_with(".incr.aof") {
                let bytes = std::fs::read(path).unwrap();
                let begins = (0..bytes.len()).filter(|at| bytes[*at] == b'*');
                let requests = begins.filter_map(|at| request(&bytes[at..]));
                count += requests
                    .filter(|words| match (words.as_slice(), field) {
                        ([b"DEL", keys @ ..], None) => keys.contains(&key.as_bytes()),
                        ([b"HDEL", of, fields @ ..], Some(field)) => {
                            *of == key.as_bytes() && fields.contains(&field.as_bytes())
                        }
                        _ => false,
                    })
                    .count();
            }
        }
    }
    count
}

/// Waits until `condition` holds, which takes a moment.
fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < Duration::from_secs(20), "never: {what}");
        std::thread::yield_now();
    }
}

/// Scenario 141, for every type and for fields: whoever finds it first, the timer or a command, the
/// removal is in the log once, and reads add nothing.
#[test]
fn what_expired_is_removed_once_in_the_log() {
    if is_other_server() {
        return;
    }
    for is_active in [true, false] {
        let mut server = Server::start_temp(flavor(), binary(), |c| {
            let c = c.shards(3).append(FsyncPolicy::Always);
            c.arg("--enable-debug-command").arg("yes")
        })
        .unwrap();
        let mut client = server.client().unwrap();
        let active = format!("DEBUG SET-ACTIVE-EXPIRE {}", u8::from(is_active));
        assert!(client.run(&active).unwrap().is_ok());
        fill(&mut client, 1);
        // Far enough that every command arrives before it, also on a busy machine.
        let at = unix_ms() + 1500;
        let mut lines: Vec<String> = NAMES
            .iter()
            .map(|name| format!("PEXPIREAT {name}:0 {at}"))
            .collect();
        lines.push("HSET mixed f v stays v".into());
        lines.push(format!("HPEXPIREAT mixed {at} FIELDS 1 f"));
        lines.push(format!("HSETEX brief PXAT {at} FIELDS 1 f v"));
        run_all(&mut client, &lines);
        assert!(unix_ms() < at, "too slow for this test");
        wait_for_time(at);
        let written = |server: &Server, key: &str, field: Option<&str>| {
            removals(&server.config().dir, key, field)
        };
        if is_active {
            // The timer finds all of them; nobody asked.
            for name in NAMES {
                let key = format!("{name}:0");
                eventually(&key, || written(&server, &key, None) > 0);
            }
            eventually("the field", || written(&server, "mixed", Some("f")) > 0);
            eventually("the hash", || written(&server, "brief", None) > 0);
        }
        // A read that finds something expired removes it; the next one has nothing to tell.
        let mut offsets = Vec::new();
        for _ in 0..2 {
            let keys = NAMES.iter().map(|name| format!("{name}:0"));
            for key in keys.chain(["brief".into()]) {
                let reply = run(&server, &format!("TYPE {key}"));
                assert_eq!(reply, Reply::Simple(b"none".into()));
                assert_eq!(run(&server, &format!("EXISTS {key}")).int(), Some(0));
            }
            assert_eq!(run(&server, "HGET mixed f"), Reply::Null);
            offsets.push(info(&mut client, "master_repl_offset"));
        }
        assert_eq!(offsets[0], offsets[1], "the second reads told something");
        // A write finds what is left, and that is told once and first.
        for name in NAMES {
            assert_eq!(run(&server, &format!("SETNX {name}:0 new")).int(), Some(1));
        }
        assert_eq!(run(&server, "HSETNX mixed f new").int(), Some(1));
        assert_eq!(run(&server, "HSETNX brief g new").int(), Some(1));
        for name in NAMES {
            assert_eq!(written(&server, &format!("{name}:0"), None), 1, "{name}");
        }
        assert_eq!(written(&server, "mixed", Some("f")), 1);
        assert!(written(&server, "brief", None) + written(&server, "brief", Some("f")) == 1);
        let found = assert_survives_sigkill(&mut server);
        assert_eq!(found.len(), NAMES.len() + 2);
    }
}

/// Scenarios 142, 143 and 144, for every type: deadlines given relative to now are kept as absolute
/// ones to the millisecond, in the base and behind it, and follow the value; taken away, they stay
/// away.
#[test]
fn deadlines_of_every_type_are_kept_and_dropped_with_the_value() {
    if is_other_server() {
        return;
    }
    for shards in [1, 3] {
        let mut server = start(shards, FsyncPolicy::Everysec);
        let mut client = server.client().unwrap();
        fill(&mut client, 2);
        let mut kept = Vec::new();
        let mut dropped = Vec::new();
        let soon = unix_ms() + 700;
        for (i, name) in NAMES.iter().enumerate() {
            let more = 100_000 + 7 * i;
            let lines = [
                format!("COPY {name}:0 {name}:base"),
                format!("PEXPIRE {name}:base {more}123"),
                format!("COPY {name}:0 {name}:lives"),
                format!("PEXPIREAT {name}:lives {soon}"),
                format!("COPY {name}:0 {name}:first"),
                format!("EXPIRE {name}:first {more}"),
            ];
            run_all(&mut client, &lines);
        }
        rewrite(&mut client);
        for name in NAMES {
            let lines = [
                format!("PERSIST {name}:lives"),
                format!("RENAME {name}:first {name}:renamed"),
                format!("COPY {name}:renamed {name}:copied"),
                format!("PEXPIRE {name}:1 999123"),
            ];
            run_all(&mut client, &lines);
            kept.extend(["base", "renamed", "copied", "1"].map(|n| format!("{name}:{n}")));
            dropped.push(format!("{name}:lives"));
        }
        let times = |client: &mut Client| -> Vec<i64> {
            let lines = kept.iter().map(|key| format!("PEXPIRETIME {key}"));
            let replies = client.pipeline(&lines.collect::<Vec<_>>()).unwrap();
            replies.iter().map(|r| r.int().unwrap()).collect()
        };
        let before = times(&mut client);
        assert!(before.iter().all(|at| *at > unix_ms()), "{before:?}");
        server.kill9().unwrap();
        wait_for_time(soon);
        server.restart().unwrap();
        let mut client = server.client().unwrap();
        assert_eq!(times(&mut client), before);
        for key in &dropped {
            assert_eq!(
                run(&server, &format!("PEXPIRETIME {key}")).int(),
                Some(-1),
                "{key}"
            );
        }
    }
}

/// Scenario 144: nothing goes before its millisecond, also through a restart.
#[test]
fn short_deadlines_are_not_early() {
    if is_other_server() {
        return;
    }
    for is_rewritten in [false, true] {
        let mut server = start(2, FsyncPolicy::Everysec);
        let mut client = server.client().unwrap();
        let at = unix_ms() + 2999;
        let mut lines: Vec<String> = (0..50)
            .map(|n| format!("SET k{n} v PXAT {}", at + n))
            .collect();
        lines.extend((0..50).map(|n| format!("HSETEX h{n} PXAT {} FIELDS 1 f v", at + n)));
        run_all(&mut client, &lines);
        if is_rewritten {
            rewrite(&mut client);
        }
        server.kill9().unwrap();
        server.restart().unwrap();
        let mut client = server.client().unwrap();
        for n in 0..50 {
            loop {
                let found = client.run(&format!("EXISTS k{n} h{n}")).unwrap().int();
                // Asked after the reply: if it is still before the deadline now, it was then.
                if unix_ms() < at + n {
                    assert_eq!(found, Some(2), "{n} is gone before its time");
                } else {
                    break;
                }
            }
        }
        // A command's time is that of its turn's beginning, which may lie a little before the reply.
        eventually("all gone", || state(&server).is_empty());
    }
}

/// Scenario 145, for every type: a deadline in the past removes at once, live and at replay; one
/// that cannot be is refused and changes nothing.
#[test]
fn past_deadlines_remove_and_impossible_ones_change_nothing() {
    if is_other_server() {
        return;
    }
    for shards in [1, 3] {
        let mut server = start(shards, FsyncPolicy::Everysec);
        let mut client = server.client().unwrap();
        fill(&mut client, 6);
        let offset = info(&mut client, "master_repl_offset");
        for name in NAMES {
            for line in [
                "EXPIRE @:0 9223372036854775807",
                "EXPIREAT @:0 9223372036854775807",
                "PEXPIRE @:0 9223372036854775807",
                "EXPIRE @:0 -9223372036854775807",
                "PEXPIREAT @:0 x",
                "HEXPIRE @:0 9223372036854775807 FIELDS 1 f",
                "HPEXPIREAT @:0 -1 FIELDS 1 f",
                "SET @:0 v EX 9223372036854775807",
                "SET @:0 v PX 0",
                "GETEX @:0 EXAT -1",
            ] {
                let line = line.replace('@', name);
                let reply = client.run(&line).unwrap();
                assert!(reply.error().is_some(), "{line}: {reply:?}");
            }
        }
        assert_eq!(info(&mut client, "master_repl_offset"), offset);
        for name in NAMES {
            for (n, line) in [
                "EXPIRE @ -1",
                "PEXPIRE @ 0",
                "EXPIREAT @ 1",
                "PEXPIREAT @ 1600000000000",
            ]
            .iter()
            .enumerate()
            {
                let line = line.replace('@', &format!("{name}:{n}"));
                assert_eq!(client.run(&line).unwrap().int(), Some(1), "{line}");
            }
        }
        script(
            &mut client,
            "SET string:4 v EXAT 1
             GETEX number:4 PXAT 1600000000000 => \"17\"
             SET new v PXAT 1
             HEXPIRE hash:4 0 FIELDS 2 f g => [:2, :2]
             HPEXPIREAT fields:4 1 FIELDS 1 f => [:2]
             HSETEX hash:5 PXAT 1 FIELDS 1 f v => :1
             HGETEX hash:5 EXAT 1 FIELDS 1 g => [\"5\"]",
        );
        let found = assert_survives_sigkill(&mut server);
        let gone = [
            "string:4", "number:4", "new", "hash:4", "fields:4", "hash:5",
        ];
        assert!(
            gone.iter()
                .all(|key| !found.contains_key(&DbKey::new(0, *key)))
        );
        assert_eq!(found.len(), 2 * NAMES.len() - 5);
    }
}

/// Scenario 149: which commands keep, set and drop the deadline of a field, and what is left of the
/// hash, out of the log and out of a base.
#[test]
fn deadlines_of_fields_are_those_that_were_set_last() {
    if is_other_server() {
        return;
    }
    for shards in [1, 3] {
        for is_rewritten in [false, true] {
            let mut server = start(shards, FsyncPolicy::Everysec);
            let mut client = server.client().unwrap();
            let soon = unix_ms() + 400;
            let far = 4_102_444_800_123_i64;
            for n in 0..10 {
                let lines = [
                    format!("HSET last:{n} f v"),
                    format!("HPEXPIREAT last:{n} {soon} FIELDS 1 f"),
                    format!("HSETEX h:{n} PXAT {soon} FIELDS 5 persisted 1 got 1 set 1 kept 1 n 1"),
                    format!("HPERSIST h:{n} FIELDS 1 persisted"),
                    format!("HGETEX h:{n} PXAT {far} FIELDS 1 got"),
                    format!("HSET h:{n} set 2"),
                    format!("HSETEX h:{n} KEEPTTL FIELDS 1 kept 2"),
                    format!("HINCRBY h:{n} n 1"),
                    format!("HSET h:{n} later 1"),
                    format!("COPY h:{n} copied:{n}"),
                    format!("COPY h:{n} x:{n}"),
                    format!("RENAME x:{n} renamed:{n}"),
                ];
                run_all(&mut client, &lines);
            }
            if is_rewritten {
                rewrite(&mut client);
            }
            for n in 0..10 {
                for key in ["h", "copied", "renamed"] {
                    let line = format!("HPEXPIREAT {key}:{n} {far} FIELDS 1 later");
                    assert_eq!(format!("{:?}", client.run(&line).unwrap()), "[:1]");
                }
            }
            server.kill9().unwrap();
            wait_for_time(soon);
            server.restart().unwrap();
            let found = assert_survives_sigkill(&mut server);
            assert_eq!(found.len(), 30, "a hash without fields is no key");
            for (key, entry) in &found {
                assert_eq!(
                    format!("{entry:?}"),
                    format!(
                        "hash of 4: [(\"got\", \"1\"), (\"later\", \"1\"), (\"persisted\", \"1\"), \
                         (\"set\", \"2\")], got until {far}, later until {far}"
                    ),
                    "{key}"
                );
            }
        }
    }
}

/// Scenario 196: a clock that is behind what was written before costs neither order nor ids. The
/// stream's last id stands for the time before the clock went back.
#[test]
fn ids_and_the_stream_go_on_when_the_clock_is_behind() {
    if is_other_server() {
        return;
    }
    for is_rewritten in [false, true] {
        let mut server = start(2, FsyncPolicy::Everysec);
        let mut client = server.client().unwrap();
        let in_an_hour = unix_ms() + 3_600_000;
        let lines: Vec<String> = (0..20)
            .map(|n| format!("XADD s{n} {in_an_hour}-7 f v"))
            .collect();
        run_all(&mut client, &lines);
        if is_rewritten {
            rewrite(&mut client);
        }
        for next in 8..11 {
            let before: u64 = info(&mut client, "master_repl_offset").parse().unwrap();
            server.kill9().unwrap();
            server.restart().unwrap();
            client = server.client().unwrap();
            for n in 0..20 {
                let id = client.run(&format!("XADD s{n} * f v")).unwrap();
                assert_eq!(id.text(), Some(format!("{in_an_hour}-{next}")));
            }
            let after: u64 = info(&mut client, "master_repl_offset").parse().unwrap();
            assert!(after > before, "{after} after {before}");
        }
        assert_survives_sigkill_of_streams(&mut server);
    }
}

/// Streams whose ids are times are not what a model reads.
fn assert_survives_sigkill_of_streams(server: &mut Server) {
    let shown = |server: &Server| -> Vec<Reply> {
        let lines: Vec<String> = (0..20).map(|n| format!("XRANGE s{n} - +")).collect();
        server.client().unwrap().pipeline(&lines).unwrap()
    };
    let before = shown(server);
    server.kill9().unwrap();
    server.restart().unwrap();
    assert_eq!(shown(server), before);
}

/// Scenario 202: in one long pipeline a deadline is counted from when its command runs, not from
/// when the pipeline came.
#[test]
fn deadlines_inside_one_long_pipeline_are_counted_from_their_command() {
    if is_other_server() {
        return;
    }
    /// How far the server's clock may be behind.
    const TOLERANCE_MS: i64 = 100;
    for shards in [1, 3] {
        let server = start(shards, FsyncPolicy::Everysec);
        let mut client = server.client().unwrap();
        let mut lines = Vec::new();
        for n in 0..2500 {
            lines.push(format!("SET k{} v PX 100000", n % 50));
            lines.push("TIME".to_owned());
            lines.push(format!("PEXPIRETIME k{}", n % 50));
            // Something that takes time, so that the pipeline does.
            lines.push(format!("SETRANGE long{} {} x", n % 7, 10_000 + n));
        }
        let before = unix_ms();
        let replies = client.pipeline(&lines).unwrap();
        let after = unix_ms();
        let mut last = before;
        for four in replies.chunks(4) {
            let time = four[1].items().unwrap();
            let number = |i: usize| time[i].text().unwrap().parse::<i64>().unwrap();
            let now = number(0) * 1000 + number(1) / 1000;
            let set = four[2].int().unwrap() - 100_000;
            assert!((now - set).abs() <= TOLERANCE_MS, "set at {set}, at {now}");
            assert!(
                set >= before - TOLERANCE_MS && set <= after,
                "{before} {set} {after}"
            );
            assert!(set >= last - TOLERANCE_MS, "the clock goes back");
            last = set;
        }
        assert_eq!(state(&server).len(), 57);
    }
}
