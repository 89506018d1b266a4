//! Publish and subscribe: what clients see, in which order, and what happens to those who do not
//! read.

use crate::support::{
    binary, flavor, info, is_installed, is_other_server, limit_files, start, wait_until,
    wait_until_the_log_fails,
};
use moon_harness::server::free_port;
use moon_harness::{Client, Flavor, FsyncPolicy, Reply, Server};
use std::collections::{BTreeMap, HashMap};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;

/// What several connections say (`name: command`) and what each of them then reads, in order
/// (indented, `name reply`). The same on Redis.
const CONVERSATION: &str = r#"
a: SUBSCRIBE x x y
  a ["subscribe", "x", :1]
  a ["subscribe", "x", :1]
  a ["subscribe", "y", :2]
p: PUBLISH x hello
  p :1
  a ["message", "x", "hello"]
p: PUBLISH nobody hello
  p :0
p: PUBLISH x
  p -ERR wrong number of arguments for \'publish\' command
# A client of RESP2 that listens may do nothing else.
a: GET k
  a -ERR Can\'t execute \'get\': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context
a: CLIENT LIST
  a -ERR Can\'t execute \'client|list\': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context
a: PUBLISH x y
  a -ERR Can\'t execute \'publish\': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context
a: MULTI
  a -ERR Can\'t execute \'multi\': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context
a: GET
  a -ERR wrong number of arguments for \'get\' command
a: NOSUCH
  a -ERR unknown command \'NOSUCH\', with args beginning with: 
a: PING
  a ["pong", ""]
a: PING words
  a ["pong", "words"]
a: PING two words
  a -ERR wrong number of arguments for \'ping\' command
# Patterns count with channels, shard channels by themselves.
a: PSUBSCRIBE x* *y
  a ["psubscribe", "x*", :3]
  a ["psubscribe", "*y", :4]
p: PUBLISH x two
  p :2
  a ["message", "x", "two"]
  a ["pmessage", "x*", "x", "two"]
p: PUBLISH alley three
  p :1
  a ["pmessage", "*y", "alley", "three"]
a: SSUBSCRIBE x s
  a ["ssubscribe", "x", :1]
  a ["ssubscribe", "s", :2]
p: SPUBLISH x shard
  p :1
  a ["smessage", "x", "shard"]
p: SPUBLISH xx shard
  p :0
b: SUBSCRIBE x
  b ["subscribe", "x", :1]
p: PUBLISH x all
  p :3
  a ["message", "x", "all"]
  a ["pmessage", "x*", "x", "all"]
  b ["message", "x", "all"]
p: PUBSUB NUMSUB x y z
  p ["x", :2, "y", :1, "z", :0]
p: PUBSUB NUMSUB
  p []
p: PUBSUB NUMPAT
  p :2
p: PUBSUB CHANNELS x*
  p ["x"]
p: PUBSUB CHANNELS [yz]
  p ["y"]
p: PUBSUB CHANNELS nothing
  p []
p: PUBSUB CHANNELS a b
  p -ERR unknown subcommand or wrong number of arguments for \'CHANNELS\'. Try PUBSUB HELP.
p: PUBSUB SHARDCHANNELS s
  p ["s"]
p: PUBSUB SHARDNUMSUB x y
  p ["x", :1, "y", :0]
p: PUBSUB NUMPAT x
  p -ERR wrong number of arguments for \'pubsub|numpat\' command
p: PUBSUB NOSUCH
  p -ERR unknown subcommand \'NOSUCH\'. Try PUBSUB HELP.
p: PUBSUB
  p -ERR wrong number of arguments for \'pubsub\' command
a: UNSUBSCRIBE z
  a ["unsubscribe", "z", :4]
a: UNSUBSCRIBE x
  a ["unsubscribe", "x", :3]
a: UNSUBSCRIBE
  a ["unsubscribe", "y", :2]
a: UNSUBSCRIBE
  a ["unsubscribe", nil, :2]
a: PUNSUBSCRIBE *y
  a ["punsubscribe", "*y", :1]
a: PUNSUBSCRIBE
  a ["punsubscribe", "x*", :0]
a: GET k
  a -ERR Can\'t execute \'get\': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context
a: SUNSUBSCRIBE x s
  a ["sunsubscribe", "x", :1]
  a ["sunsubscribe", "s", :0]
a: SUNSUBSCRIBE
  a ["sunsubscribe", nil, :0]
a: GET k
  a nil
p: PUBLISH x last
  p :1
  b ["message", "x", "last"]
b: RESET
  b +RESET
p: PUBLISH x nobody
  p :0
p: PUBSUB NUMSUB x
  p ["x", :0]
p: PUBSUB CHANNELS
  p []
# RESP3: pushes, and everything else goes on.
c: HELLO
  c *
c: HELLO 3
  c *
c: SUBSCRIBE x
  c >["subscribe", "x", :1]
c: SET k v
  c +OK
c: PING
  c +PONG
p: PUBLISH x push
  p :1
  c >["message", "x", "push"]
c: UNSUBSCRIBE nothing
  c >["unsubscribe", "nothing", :1]
c: PUNSUBSCRIBE
  c >["punsubscribe", nil, :1]
c: CLIENT REPLY OFF
p: PUBLISH x quiet
  p :1
  c >["message", "x", "quiet"]
c: PSUBSCRIBE x?
  c >["psubscribe", "x?", :2]
c: CLIENT REPLY ON
  c +OK
c: HELLO 2
  c *
c: GET k
  c -ERR Can\'t execute \'get\': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context
p: PUBLISH x1 two
  p :1
  c ["pmessage", "x?", "x1", "two"]
c: RESET
  c +RESET
c: GET k
  c "v"
# Inside MULTI.
d: MULTI
  d +OK
d: SSUBSCRIBE t
  d +QUEUED
d: UNSUBSCRIBE t
  d +QUEUED
d: PUBLISH x 1
  d +QUEUED
d: SET k w
  d +QUEUED
d: PUBLISH x 2
  d +QUEUED
d: PUBSUB NUMSUB x
  d +QUEUED
b: SUBSCRIBE x
  b ["subscribe", "x", :1]
d: EXEC
  d [-ERR SSUBSCRIBE isn\'t allowed for a DENY BLOCKING client, ["unsubscribe", "t", :0], :1, +OK, :1, ["x", :1]]
  b ["message", "x", "1"]
  b ["message", "x", "2"]
d: MULTI
  d +OK
d: SUBSCRIBE t
  d +QUEUED
d: EXEC
  d [["subscribe", "t", :1]]
p: PUBLISH t in
  p :1
  d ["message", "t", "in"]
d: QUIT
  d +OK
b: QUIT
  b +OK
"#;

fn say(client: &mut Client, line: &str) {
    client.queue(&line.split_whitespace().collect::<Vec<_>>());
    client.flush().unwrap();
}

fn hold_conversation(server: &Server, text: &str) {
    let mut clients: HashMap<String, Client> = HashMap::new();
    let mut last = "";
    for line in text.lines().filter(|line| !line.is_empty()) {
        if line.starts_with('#') {
            continue;
        }
        if let Some(expected) = line.strip_prefix("  ") {
            let (name, expected) = expected.split_once(' ').unwrap();
            let reply = clients.get_mut(name).unwrap().read_reply();
            let reply = format!(
                "{:?}",
                reply.unwrap_or_else(|e| panic!("{last}: {name} {e}"))
            );
            assert!(
                expected == "*" || reply == expected,
                "{last}\n expected: {name} {expected}\n found: {name} {reply}"
            );
            continue;
        }
        let (name, command) = line.split_once(": ").unwrap();
        let client = clients
            .entry(name.to_owned())
            .or_insert_with(|| server.client().unwrap());
        say(client, command);
        last = line;
    }
    // Nobody has got more than that.
    for (name, client) in &mut clients {
        match client.command(&["PING", "end"]) {
            Ok(reply) => assert_eq!(reply, Reply::bulk("end"), "{name}"),
            Err(error) => assert!(name == "d" || name == "b", "{name}: {error}"),
        }
    }
}

fn redis() -> Option<Server> {
    is_installed("redis-server")
        .then(|| Server::start_temp(Flavor::Redis, "redis-server", |c| c).unwrap())
}

#[test]
fn conversations_are_those_of_redis() {
    if let Some(redis) = redis() {
        hold_conversation(&redis, CONVERSATION);
    }
    for shards in [1, 4] {
        hold_conversation(&start(shards, FsyncPolicy::Everysec), CONVERSATION);
    }
}

/// As in Redis 7.2; 7.0 sends the message before the reply, in a transaction even inside it.
#[test]
fn who_publishes_to_itself_gets_the_message_after_the_reply() {
    if is_other_server() {
        return;
    }
    for shards in [1, 4] {
        let server = start(shards, FsyncPolicy::Everysec);
        let mut client = server.client().unwrap();
        client.run("HELLO 3").unwrap();
        say(&mut client, "SUBSCRIBE me");
        client.read_reply().unwrap();
        let replies = client.pipeline(&["PUBLISH me a", "SET k v"]).unwrap();
        assert_eq!(format!("{replies:?}"), "[:1, +OK]");
        let lines = ["MULTI", "PUBLISH me b", "SET k w", "EXEC"];
        for line in lines {
            say(&mut client, line);
        }
        let all: Vec<Reply> = (0..6).map(|_| client.read_reply().unwrap()).collect();
        let pushed = |reply: &&Reply| matches!(reply, Reply::Push(_));
        assert_eq!(
            format!("{:?}", all.iter().filter(pushed).collect::<Vec<_>>()),
            r#"[>["message", "me", "a"], >["message", "me", "b"]]"#
        );
        assert_eq!(format!("{:?}", all[4]), "[:1, +OK]");
    }
}

/// Its replies leave with the message to those on its shard, whatever it does next.
#[test]
fn who_publishes_and_leaves_at_once_gets_its_replies() {
    for shards in [1, 4] {
        let server = start(shards, FsyncPolicy::Everysec);
        let mut listeners: Vec<Client> = (0..4).map(|_| server.client().unwrap()).collect();
        for listener in &mut listeners {
            listener.run("SUBSCRIBE c").unwrap();
        }
        for (requests, replies) in [
            ("PUBLISH c 1\r\nQUIT\r\n", ":4\r\n+OK\r\n"),
            (
                "SET k v\r\nPUBLISH c 2\r\nGET k\r\nQUIT\r\n",
                "+OK\r\n:4\r\n$1\r\nv\r\n+OK\r\n",
            ),
            (
                "MULTI\r\nPUBLISH c 3\r\nEXEC\r\nQUIT\r\n",
                "+OK\r\n+QUEUED\r\n*1\r\n:4\r\n+OK\r\n",
            ),
        ] {
            let mut publisher = server.client().unwrap();
            publisher.write_raw(requests.as_bytes()).unwrap();
            let seen = publisher.read_to_close().unwrap();
            assert_eq!(String::from_utf8(seen).unwrap(), replies);
        }
        // Who is gone before its reply is no obstacle.
        for _ in 0..20 {
            let mut publisher = server.client().unwrap();
            publisher.write_raw(b"PUBLISH c x\r\n").unwrap();
        }
        let last = |reply: &Reply| format!("{reply:?}").contains("\"end\"");
        say(&mut server.client().unwrap(), "PUBLISH c end");
        for listener in &mut listeners {
            while !last(&listener.read_reply().unwrap()) {}
        }
    }
}

/// Reads so many messages, counting them in `progress`; the numbers of each publisher in the order
/// of arrival.
fn read_numbers(
    client: &mut Client,
    count: usize,
    progress: &AtomicU32,
) -> BTreeMap<String, Vec<u32>> {
    let mut seen: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    for _ in 0..count {
        let message = client.read_reply().unwrap();
        let text = message.items().unwrap().last().unwrap().text().unwrap();
        let (publisher, number) = text.split_once(':').unwrap();
        let numbers = seen.entry(publisher.to_owned()).or_default();
        numbers.push(number.parse().unwrap());
        progress.fetch_add(1, SeqCst);
    }
    seen
}

#[test]
fn each_publisher_is_heard_by_all_in_its_order() {
    const PUBLISHERS: usize = 4;
    const MESSAGES: u32 = 400;
    for shards in [1, 4] {
        let server = start(shards, FsyncPolicy::Everysec);
        let mut subscribers: Vec<Client> = (0..9).map(|_| server.client().unwrap()).collect();
        for (n, client) in subscribers.iter_mut().enumerate() {
            if n % 2 == 1 {
                client.run("HELLO 3").unwrap();
            }
            let line = match n % 3 {
                0 => "SUBSCRIBE news",
                1 => "PSUBSCRIBE n*",
                _ => "SUBSCRIBE other news",
            };
            say(client, line);
            for _ in 1..line.split(' ').count() {
                client.read_reply().unwrap();
            }
        }
        std::thread::scope(|scope| {
            for publisher in 0..PUBLISHERS {
                let mut client = server.client().unwrap();
                scope.spawn(move || {
                    for first in (0..MESSAGES).step_by(50) {
                        let lines: Vec<String> = (first..first + 50)
                            .flat_map(|n| {
                                // Writes to all shards in between: their turns end when they like.
                                [
                                    format!("SET key:{publisher}:{} {n}", n % 13),
                                    format!("PUBLISH news p{publisher}:{n}"),
                                ]
                            })
                            .collect();
                        for (n, reply) in client.pipeline(&lines).unwrap().iter().enumerate() {
                            let expected = if n % 2 == 0 {
                                Reply::ok()
                            } else {
                                Reply::Int(9)
                            };
                            assert_eq!(*reply, expected);
                        }
                    }
                });
            }
            for mut client in subscribers {
                scope.spawn(move || {
                    let seen = {
                        let count = PUBLISHERS * MESSAGES as usize;
                        read_numbers(&mut client, count, &AtomicU32::new(0))
                    };
                    assert_eq!(seen.len(), PUBLISHERS);
                    for (publisher, numbers) in seen {
                        assert!(
                            numbers.iter().copied().eq(0..MESSAGES),
                            "{publisher}: {numbers:?}"
                        );
                    }
                });
            }
        });
    }
}

#[test]
fn what_was_answered_before_is_heard_before() {
    const MESSAGES: u32 = 400;
    for shards in [1, 4] {
        let server = start(shards, FsyncPolicy::Everysec);
        let mut subscribers: Vec<Client> = (0..5).map(|_| server.client().unwrap()).collect();
        for client in &mut subscribers {
            say(client, "SUBSCRIBE c");
            client.read_reply().unwrap();
        }
        // On different shards; each speaks when the one before has been answered.
        let mut publishers: Vec<Client> = (0..5).map(|_| server.client().unwrap()).collect();
        for n in 0..MESSAGES {
            let publisher = &mut publishers[n as usize * 3 % 5];
            let message = format!("p:{n}");
            if n % 7 == 0 {
                publisher.queue(&["SET", &format!("k{n}"), "v"]);
                publisher.queue(&["PUBLISH", "c", &message]);
                publisher.flush().unwrap();
                assert!(publisher.read_reply().unwrap().is_ok());
            } else {
                publisher.queue(&["PUBLISH", "c", &message]);
                publisher.flush().unwrap();
            }
            assert_eq!(publisher.read_reply().unwrap(), Reply::Int(5));
        }
        for client in &mut subscribers {
            let seen = read_numbers(client, MESSAGES as usize, &AtomicU32::new(0));
            assert!(seen["p"].iter().copied().eq(0..MESSAGES), "{seen:?}");
        }
    }
}

#[test]
fn a_message_never_outruns_what_its_publisher_wrote_before() {
    for shards in [1, 4] {
        let server = start(shards, FsyncPolicy::Always);
        let mut subscriber = server.client().unwrap();
        say(&mut subscriber, "SUBSCRIBE written");
        subscriber.read_reply().unwrap();
        let mut reader = server.client().unwrap();
        let mut publisher = server.client().unwrap();
        for n in 0..100 {
            publisher.queue(&["SET", &format!("k:{n}"), "v"]);
            if n % 2 == 0 {
                publisher.queue(&["PUBLISH", "written", &format!("k:{n}")]);
            } else {
                let (a, b) = (format!("a:{n}"), format!("k:{n}"));
                publisher.queue(&["MULTI"]);
                publisher.queue(&["PUBLISH", "written", &b]);
                publisher.queue(&["MSET", &a, "v", &b, "w"]);
                publisher.queue(&["EXEC"]);
            }
        }
        publisher.flush().unwrap();
        for n in 0..100 {
            let message = subscriber.read_reply().unwrap();
            let key = message.items().unwrap()[2].text().unwrap();
            assert_eq!(key, format!("k:{n}"));
            let expected = if n % 2 == 0 { "v" } else { "w" };
            let found = reader.command(&["GET", &key]).unwrap();
            assert_eq!(found, Reply::bulk(expected), "{key}");
        }
    }
}

/// A push shows no more than a reply does: what a crash could take back stays inside.
#[test]
fn a_message_waits_for_the_log_with_what_its_publisher_wrote() {
    if is_other_server() {
        return;
    }
    for (shards, in_transaction) in [(1, false), (1, true), (4, false), (4, true)] {
        let server = start(shards, FsyncPolicy::Everysec);
        let mut hears_writer = server.client().unwrap();
        let mut hears_other = server.client().unwrap();
        for (client, channel) in [(&mut hears_writer, "writer"), (&mut hears_other, "other")] {
            say(client, &format!("SUBSCRIBE {channel}"));
            client.read_reply().unwrap();
        }
        let mut writer = server.client().unwrap();
        limit_files(&server, Some(1));
        let lines: &[&str] = match in_transaction {
            false => &["SET k v", "PUBLISH writer m"],
            true => &["MULTI", "PUBLISH writer m", "MSET k v l w", "EXEC"],
        };
        for line in lines {
            writer.queue(&line.split(' ').collect::<Vec<_>>());
        }
        writer.flush().unwrap();
        let mut other = server.client().unwrap();
        wait_until_the_log_fails(&mut other);
        assert_eq!(other.run("PUBLISH other m").unwrap(), Reply::Int(1));
        let heard = hears_other.read_reply().unwrap();
        assert_eq!(format!("{heard:?}"), r#"["message", "other", "m"]"#);
        let patience = Duration::from_millis(100);
        hears_writer.set_read_timeout(patience).unwrap();
        let early = hears_writer.read_reply();
        assert!(early.is_err(), "shown before it is in the log: {early:?}");

        limit_files(&server, None);
        let patience = Duration::from_secs(20);
        hears_writer.set_read_timeout(patience).unwrap();
        let heard = hears_writer.read_reply().unwrap();
        assert_eq!(format!("{heard:?}"), r#"["message", "writer", "m"]"#);
    }
}

/// Nobody writes after it.
#[test]
fn events_of_a_transaction_over_shards_are_told_when_it_is_logged() {
    for shards in [1, 4] {
        let server = start(shards, FsyncPolicy::Everysec);
        let mut listener = server.client().unwrap();
        let events = listener.run("CONFIG SET notify-keyspace-events KA");
        assert!(events.unwrap().is_ok());
        say(&mut listener, "PSUBSCRIBE __keyspace@0__:*");
        listener.read_reply().unwrap();
        let mut writer = server.client().unwrap();
        for round in 0..20 {
            let keys: Vec<String> = (0..6).map(|n| format!("key:{round}:{n}")).collect();
            writer.run("MULTI").unwrap();
            for key in &keys {
                writer.run(&format!("SET {key} v")).unwrap();
            }
            writer.run("EXEC").unwrap();
            for key in &keys {
                let event = listener.read_reply().unwrap();
                let channel = event.items().unwrap()[2].text().unwrap();
                assert_eq!(channel, format!("__keyspace@0__:{key}"));
            }
        }
    }
}

/// Scenario 206.
#[test]
fn who_does_not_read_is_cut_off_and_nobody_else_notices() {
    const MESSAGES: u32 = 300;
    for shards in [1, 4] {
        let server = start(shards, FsyncPolicy::Everysec);
        let mut admin = server.client().unwrap();
        let limit = [
            "CONFIG",
            "SET",
            "client-output-buffer-limit",
            "pubsub 2mb 0 0",
        ];
        assert!(admin.command(&limit).unwrap().is_ok());
        let mut slow = server.client().unwrap();
        say(&mut slow, "SUBSCRIBE big");
        slow.read_reply().unwrap();
        let mut quick: Vec<Client> = (0..3).map(|_| server.client().unwrap()).collect();
        for client in &mut quick {
            say(client, "SUBSCRIBE big");
            client.read_reply().unwrap();
        }
        let progress: Vec<AtomicU32> = quick.iter().map(|_| AtomicU32::new(0)).collect();
        std::thread::scope(|scope| {
            for (mut client, progress) in quick.into_iter().zip(&progress) {
                scope.spawn(move || {
                    let seen = read_numbers(&mut client, MESSAGES as usize, progress);
                    assert!(seen["p"].iter().copied().eq(0..MESSAGES));
                });
            }
            let mut publisher = server.client().unwrap();
            let padding = "0".repeat(100_000);
            for n in 0..MESSAGES {
                // On a busy machine the others might not get to read in time.
                while progress.iter().any(|read| read.load(SeqCst) + 5 < n) {
                    std::thread::yield_now();
                }
                // The number is what is behind the zeros.
                let reply = publisher.command(&["PUBLISH", "big", &format!("p:{padding}{n}")]);
                assert!(reply.unwrap().int().unwrap() >= 3);
            }
        });
        let gone = "client_output_buffer_limit_disconnections";
        if info(&mut admin, "redis_version").starts_with("7.0") {
            continue;
        }
        wait_until(&mut admin, gone, |count| count == "1");
        wait_until(&mut admin, "pubsub_channels", |count| count == "0");
        assert!(server.log().contains("client-output-buffer-limit"));
    }
}

#[test]
fn the_soft_limit_gives_a_client_its_time() {
    if is_other_server() {
        return;
    }
    let server = start(2, FsyncPolicy::Everysec);
    let mut admin = server.client().unwrap();
    let limit = [
        "CONFIG",
        "SET",
        "client-output-buffer-limit",
        "pubsub 0 1mb 1",
    ];
    assert!(admin.command(&limit).unwrap().is_ok());
    let mut slow = server.client().unwrap();
    say(&mut slow, "SUBSCRIBE big");
    slow.read_reply().unwrap();
    let payload = "x".repeat(1 << 20);
    for _ in 0..20 {
        let reply = admin.command(&["PUBLISH", "big", &payload]).unwrap();
        assert_eq!(reply, Reply::Int(1));
    }
    let gone = "client_output_buffer_limit_disconnections";
    wait_until(&mut admin, gone, |count| count == "1");
}

fn line_of(admin: &mut Client, name: &str) -> String {
    let list = admin.run("CLIENT LIST").unwrap().text().unwrap();
    let found = list.lines().find(|l| l.contains(&format!(" name={name} ")));
    found.unwrap_or_default().to_owned()
}

#[test]
fn subscribers_are_listed_counted_and_killed() {
    for shards in [1, 4] {
        let metrics = free_port();
        let server = Server::start_temp(flavor(), binary(), |c| {
            let c = c.shards(shards).append(FsyncPolicy::Everysec);
            match flavor() {
                Flavor::Moon => c.arg("--metrics-port").arg(metrics.to_string()),
                Flavor::Redis => c,
            }
        })
        .unwrap();
        let mut admin = server.client().unwrap();
        let mut client = server.client().unwrap();
        assert!(client.run("CLIENT SETNAME ear").unwrap().is_ok());
        for line in ["SUBSCRIBE a b", "PSUBSCRIBE c*", "SSUBSCRIBE d"] {
            say(&mut client, line);
        }
        for _ in 0..4 {
            client.read_reply().unwrap();
        }
        let line = line_of(&mut admin, "ear");
        for word in ["sub=2", "psub=1", "ssub=1", "flags=P"] {
            // Redis 7.0 has no ssub.
            let is_new = word == "ssub=1" && flavor() == Flavor::Redis;
            assert!(is_new || line.contains(&format!(" {word} ")), "{line}");
        }
        let typed = admin.run("CLIENT LIST TYPE pubsub").unwrap().text();
        assert_eq!(typed.unwrap().lines().count(), 1);
        for (field, count) in [
            ("pubsub_channels", "2"),
            ("pubsub_patterns", "1"),
            ("pubsubshard_channels", "1"),
        ] {
            let is_new = field == "pubsubshard_channels" && flavor() == Flavor::Redis;
            assert!(is_new || info(&mut admin, field) == count, "{field}");
        }
        assert_eq!(admin.run("PUBLISH c1 m").unwrap(), Reply::Int(1));
        if flavor() == Flavor::Moon {
            let mut stream = TcpStream::connect(("127.0.0.1", metrics)).unwrap();
            write!(stream, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            for line in [
                "moon_pubsub_messages_total 1\n",
                "moon_pubsub_subscriptions{kind=\"channel\"} 2\n",
                "moon_pubsub_subscriptions{kind=\"pattern\"} 1\n",
                "moon_pubsub_subscriptions{kind=\"shardchannel\"} 1\n",
            ] {
                assert!(text.contains(line), "{line}{text}");
            }
        }

        let reply = admin.run("CLIENT KILL TYPE pubsub").unwrap();
        assert_eq!(reply, Reply::Int(1));
        client.read_to_close().unwrap();
        for field in ["pubsub_channels", "pubsub_patterns"] {
            wait_until(&mut admin, field, |count| count == "0");
        }
        assert_eq!(admin.run("PUBLISH a m").unwrap(), Reply::Int(0));
        assert_eq!(admin.run("SPUBLISH d m").unwrap(), Reply::Int(0));
    }
}

/// Scenario 209, and 203: connections that end without a word.
#[test]
fn what_is_sent_behind_subscribe_is_executed_and_who_goes_is_forgotten() {
    for shards in [1, 4] {
        let server = start(shards, FsyncPolicy::Everysec);
        let mut admin = server.client().unwrap();
        for _ in 0..20 {
            let mut client = server.client().unwrap();
            for line in ["HELLO 3", "SUBSCRIBE a", "SET k v", "UNSUBSCRIBE", "GET k"] {
                client.queue(&line.split(' ').collect::<Vec<_>>());
            }
            client.queue(&["PSUBSCRIBE", "*"]);
            client.flush().unwrap();
            let replies: Vec<String> = (0..6)
                .map(|_| format!("{:?}", client.read_reply().unwrap()))
                .collect();
            assert_eq!(
                replies[1..],
                [
                    r#">["subscribe", "a", :1]"#,
                    "+OK",
                    r#">["unsubscribe", "a", :0]"#,
                    "\"v\"",
                    r#">["psubscribe", "*", :1]"#,
                ]
            );
            assert!(admin.run("PUBLISH a m").unwrap().int() >= Some(1));
        }
        wait_until(&mut admin, "pubsub_patterns", |count| count == "0");
    }
}
