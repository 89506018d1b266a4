//! Random waits, on a Redis and on this server: the same clients get the same.

use crate::blocking::{reply, send};
use crate::support::{assert_same_state, info, is_installed, is_other_server, start, state};
use moon_harness::{Client, Flavor, FsyncPolicy, Reply, Server};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use std::time::{Duration, Instant};

/// A server with clients that may wait, and one that never does.
struct Side {
    server: Server,
    control: Client,
    clients: Vec<Client>,
    ids: Vec<i64>,
}

impl Side {
    fn new(server: Server, clients: usize) -> Side {
        let mut clients: Vec<Client> = (0..clients).map(|_| server.client().unwrap()).collect();
        let id = |client: &mut Client| client.run("CLIENT ID").unwrap().int().unwrap();
        Side {
            control: server.client().unwrap(),
            ids: clients.iter_mut().map(id).collect(),
            clients,
            server,
        }
    }

    fn waiting(&mut self) -> String {
        info(&mut self.control, "blocked_clients")
    }

    /// The clients that wait.
    fn who_waits(&mut self) -> Vec<usize> {
        let list = self.control.run("CLIENT LIST").unwrap().text().unwrap();
        let waits = |id: &i64| {
            let start = format!("id={id} ");
            let mut lines = list.lines();
            lines.any(|line| line.starts_with(&start) && line.contains(" flags=b "))
        };
        (0..self.ids.len())
            .filter(|client| waits(&self.ids[*client]))
            .collect()
    }
}

/// One key of a few, so that clients meet.
fn any_key(rng: &mut StdRng) -> String {
    format!("k{}", rng.random_range(0..5))
}

/// How many commands that may wait have been tried.
fn blocking_calls(control: &mut Client) -> u64 {
    let text = control.run("INFO commandstats").unwrap().text().unwrap();
    let calls = text.lines().filter_map(|line| {
        let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
        let may_wait = name.starts_with('b') || name == "xread";
        let calls: u64 = rest.split(',').next()?.parse().ok()?;
        may_wait.then_some(calls)
    });
    calls.sum()
}

fn blocking_line(rng: &mut StdRng) -> String {
    let [a, b] = [any_key(rng), any_key(rng)];
    match rng.random_range(0..9) {
        0 => format!("BLPOP {a} 0"),
        1 => format!("BRPOP {a} {b} 0"),
        2 => format!("BLMOVE {a} {b} LEFT RIGHT 0"),
        3 => format!("BLMOVE {a} {b} RIGHT LEFT 0"),
        4 => format!("BRPOPLPUSH {a} {b} 0"),
        5 => format!("BLMPOP 0 2 {a} {b} LEFT COUNT 2"),
        6 => format!("BZPOPMIN {a} {b} 0"),
        7 => format!("BZMPOP 0 2 {a} {b} MAX COUNT 2"),
        _ => format!("XREAD BLOCK 0 STREAMS {a} {b} $ $"),
    }
}

fn feeding_line(rng: &mut StdRng, number: usize) -> String {
    let [a, b] = [any_key(rng), any_key(rng)];
    match rng.random_range(0..15) {
        0..3 => format!("RPUSH {a} {number} {number}b"),
        3..5 => format!("LPUSH {a} {number}"),
        5..7 => format!("ZADD {a} {number} m{number} 1 x"),
        7..9 => format!("XADD {a} {}-0 f {number}", number + 1),
        9 => format!("DEL {a}"),
        10 => format!("SET {a} string"),
        11 => format!("LMOVE {a} {b} LEFT LEFT"),
        12 => format!("RENAME {a} {b}"),
        13 => format!("LPOP {a}"),
        _ => format!("DEL {a} {b}"),
    }
}

/// Waits and what ends them, in any order, on a real `redis-server` and here: everybody is given the
/// same.
#[test]
fn random_waits_end_as_in_redis() {
    if is_other_server() || !is_installed("redis-server") {
        return;
    }
    const CLIENTS: usize = 7;
    const STEPS: usize = 400;
    for (shards, seed) in [(1, 1), (4, 2), (4, 3)] {
        let mut rng = StdRng::seed_from_u64(seed);
        let redis = Server::start_temp(Flavor::Redis, "redis-server", |c| c).unwrap();
        let mut sides =
            [redis, start(shards, FsyncPolicy::Everysec)].map(|s| Side::new(s, CLIENTS));
        let mut waiting: Vec<usize> = Vec::new();
        let mut said = Vec::new();
        for number in 0..STEPS {
            let idle = (0..CLIENTS).find(|client| !waiting.contains(client));
            match rng.random_range(0..10) {
                0..5 if idle.is_some() => {
                    let client = idle.unwrap();
                    let line = blocking_line(&mut rng);
                    said.push(format!("{client}: {line}"));
                    for side in &mut sides {
                        let before = blocking_calls(&mut side.control);
                        send(&mut side.clients[client], &[&line]);
                        // It has been tried, and waits or is answered, when it counts.
                        while blocking_calls(&mut side.control) == before {}
                    }
                    waiting.push(client);
                }
                5 if !waiting.is_empty() => {
                    let client = waiting[rng.random_range(0..waiting.len())];
                    said.push(format!("CLIENT UNBLOCK {client} ERROR"));
                    for side in &mut sides {
                        let line = format!("CLIENT UNBLOCK {} ERROR", side.ids[client]);
                        assert_eq!(side.control.run(&line).unwrap(), Reply::Int(1));
                    }
                }
                6 => {
                    let mut lines = vec!["MULTI".to_owned()];
                    lines.extend((0..3).map(|_| feeding_line(&mut rng, number)));
                    lines.push("EXEC".to_owned());
                    said.push(lines.join("; "));
                    let [expected, found] = sides
                        .each_mut()
                        .map(|side| side.control.pipeline(&lines).unwrap());
                    assert_eq!(found, expected, "{said:#?}");
                }
                _ => {
                    let line = feeding_line(&mut rng, number);
                    said.push(line.clone());
                    let [expected, found] = sides
                        .each_mut()
                        .map(|side| side.control.run(&line).unwrap());
                    assert_eq!(found, expected, "{said:#?}");
                }
            }
            // What one is given may take a moment where it takes data of other shards.
            let expected = sides[0].waiting();
            let until = Instant::now() + Duration::from_secs(60);
            while sides[1].waiting() != expected {
                assert!(
                    Instant::now() < until,
                    "{expected} wait in Redis: {said:#?}"
                );
            }
            let still = sides[0].who_waits();
            assert_eq!(sides[1].who_waits(), still, "{said:#?}");
            waiting.retain(|client| {
                let ended = !still.contains(client);
                if ended {
                    let [expected, found] = sides
                        .each_mut()
                        .map(|side| reply(&mut side.clients[*client]));
                    assert_eq!(found, expected, "client {client}: {said:#?}");
                }
                !ended
            });
        }
        let [expected, found] = sides.each_ref().map(|side| state(&side.server));
        assert_same_state(&expected, &found, &format!("seed {seed}"));
    }
}
