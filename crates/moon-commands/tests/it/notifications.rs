//! Keyspace notifications compared with those of a real `redis-server`, where one is installed, for
//! every command of the lists whose replies are compared, and some more.

use crate::compared_with_redis::{lists, parts_of, run};
use crate::harness::Instance;
use crate::redis::{Redis, Subscriber};
use moon_commands::notify::Class;
use moon_core::UnixMs;
use std::time::{SystemTime, UNIX_EPOCH};

/// The events that Redis tells of each list, a line for each command. They are recorded anew by the
/// test below when `MOON_RECORD_REPLIES` is set.
const RECORDED: &str = "tests/golden/events";

/// What Redis 7.0 tells otherwise, with what is told here. From 7.2 on a consumer is new as soon as it is
/// named, and not with the first entry that it gets.
const NEWER: &[(&str, &str)] = &[
    ("xclaim st g c3 0 10-0", "0 xgroup-createconsumer st"),
    (
        "xreadgroup group g e streams w g1 > >",
        "0 xgroup-createconsumer g1",
    ),
    ("xreadgroup group g e streams w g1 0 0", ""),
];

fn newer(command: &str) -> Option<&'static str> {
    let found = NEWER.iter().find(|(other, _)| *other == command);
    found.map(|(_, told)| *told)
}

/// Everything that can be told.
const EVERYTHING: &str = "KEAmn";

fn moon(shards: u16) -> Instance {
    let mut moon = Instance::new(shards);
    let classes = Class::parse(EVERYTHING).expect("letters of classes");
    moon.effects.events.set_classes(classes);
    moon
}

/// Runs a command and returns what it tells, one event after the other.
fn told_here(moon: &mut Instance, command: &str) -> String {
    run(moon, command);
    let events = moon.effects.events.take();
    let events: Vec<String> = events
        .iter()
        .map(|event| format!("{} {} {}", event.db, event.name, event.key.escape_ascii()))
        .collect();
    events.join(", ")
}

/// A `redis-server` that tells everything.
struct Told {
    redis: Redis,
    heard: Subscriber,
}

impl Told {
    fn start() -> Option<Told> {
        let redis = Redis::start(&["--notify-keyspace-events", EVERYTHING])?;
        let heard = redis.subscribe(&["__keyspace@*__:*", "end"]);
        Some(Told { redis, heard })
    }

    fn told(&mut self, command: &str) -> String {
        self.redis.run(&parts_of(command));
        self.redis.run(&["PUBLISH", "end", ""]);
        let mut events = Vec::new();
        loop {
            let (channel, event) = self.heard.next();
            if channel == b"end" {
                return events.join(", ");
            }
            let channel = channel.escape_ascii().to_string();
            let (db, key) = channel
                .strip_prefix("__keyspace@")
                .and_then(|rest| rest.split_once("__:"))
                .expect("a channel of a key");
            events.push(format!("{db} {} {key}", event.escape_ascii()));
        }
    }
}

#[test]
fn events_are_those_recorded_from_redis() {
    for (name, commands) in lists() {
        let path = format!("{RECORDED}/{name}.txt");
        let recorded = std::fs::read_to_string(&path).expect(&path);
        assert_eq!(commands.len(), recorded.lines().count(), "{path}");
        let mut moon = moon(2);
        for (command, expected) in commands.iter().zip(recorded.lines()) {
            assert_eq!(told_here(&mut moon, command), expected, "{name}: {command}");
        }
    }
}

#[test]
fn events_are_those_of_redis() {
    let Some(mut redis) = Told::start() else {
        return;
    };
    let mut differences = Vec::new();
    for (name, commands) in lists() {
        redis.told("select 0");
        redis.told("flushall");
        let mut moon = moon(3);
        let mut recorded = String::new();
        for command in commands {
            let now = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .expect("after 1970");
            moon.now = UnixMs(i64::try_from(now.as_millis()).expect("in range"));
            let (found, expected) = (told_here(&mut moon, &command), redis.told(&command));
            let expected = newer(&command).map_or(expected, str::to_owned);
            recorded.push_str(&format!("{expected}\n"));
            if found != expected {
                differences.push(format!(
                    "{name}: {command}\n  here:  {found}\n  Redis: {expected}"
                ));
            }
        }
        if std::env::var_os("MOON_RECORD_REPLIES").is_some() {
            std::fs::write(format!("{RECORDED}/{name}.txt"), &recorded).expect("recorded");
        }
    }
    assert!(
        differences.is_empty(),
        "{} differences\n{}",
        differences.len(),
        differences.join("\n")
    );
}

/// Commands that meet a key past its deadline, which is named by `key` and holds a string.
const MEETING_EXPIRED: &[&str] = &[
    "get key",
    "mget key key other",
    "exists key key",
    "ttl key",
    "object encoding key",
    "set key v",
    "set key v xx",
    "set key v get",
    "setnx key v",
    "setex key 1000 v",
    "mset key v key w",
    "getset key v",
    "getex key persist",
    "getdel key",
    "append key v",
    "incr key",
    "incrbyfloat key 1",
    "setrange key 1 v",
    "setbit key 1 1",
    "del key",
    "del key key",
    "unlink key",
    "expire key 100",
    "persist key",
    "rename key other",
    "rename list key",
    "copy key other",
    "copy other key",
    "copy list key",
    "move key 1",
    "lpush key v",
    "lpushx key v",
    "lpop key",
    "lmove key other left left",
    "lmove list key left left",
    "sadd key v",
    "sunionstore key key other",
    "sinter key other",
    "zadd key 1 v",
    "zunionstore other 1 key",
    "zunionstore key 1 zset",
    "hset key f v",
    "hget key f",
    "hdel key f",
    "xadd key 1-0 f v",
    "xread streams key 0",
    "pfadd key v",
    "sort key",
    "sort list alpha store key",
    "bitop or key key other",
    "type key",
    "touch key",
];

#[test]
fn an_expired_key_is_told_where_it_is_found_and_once() {
    let Some(mut redis) = Told::start() else {
        return;
    };
    redis.redis.run(&["DEBUG", "SET-ACTIVE-EXPIRE", "0"]);
    let mut differences = Vec::new();
    for command in MEETING_EXPIRED {
        let mut moon = moon(2);
        moon.now = UnixMs(500);
        for command in [
            "flushall",
            "rpush list a b",
            "zadd zset 1 a",
            "set key 7 pxat 1000",
        ] {
            redis.told(command);
            told_here(&mut moon, command);
        }
        moon.now = UnixMs(2000);
        let (found, expected) = (told_here(&mut moon, command), redis.told(command));
        assert!(!expected.is_empty(), "{command}");
        if found != expected {
            differences.push(format!("{command}\n  here:  {found}\n  Redis: {expected}"));
        }
    }
    assert!(differences.is_empty(), "\n{}", differences.join("\n"));
}
