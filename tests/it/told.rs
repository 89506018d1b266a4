//! The same steps of several clients on two servers, with what each of them is told unasked: for
//! keyspace notifications and client-side caching.

use crate::support::{is_installed, start};
use moon_harness::{Client, Flavor, FsyncPolicy, Reply, Server};
use std::collections::{BTreeMap, BTreeSet};

/// A server and the clients that a list of steps names, by a letter each.
pub(crate) struct Side {
    /// Dropped last.
    clients: BTreeMap<char, Client>,
    /// Their numbers, also of those that are gone.
    ids: BTreeMap<char, i64>,
    /// Those inside MULTI, who give no sign of life.
    in_multi: BTreeSet<char>,
    pub(crate) server: Server,
    /// Numbers the questions that show that everything before them has been answered.
    asked: u32,
}

/// What a step does: the reply, and what each client is told.
#[derive(Debug, PartialEq)]
pub(crate) struct Done {
    pub(crate) reply: String,
    pub(crate) told: BTreeMap<char, Vec<String>>,
}

/// Whether a server sends this without having been asked.
fn is_told(reply: &Reply) -> bool {
    match reply {
        Reply::Push(_) => true,
        Reply::Array(items) => {
            let first = items.first().and_then(Reply::text).unwrap_or_default();
            matches!(first.as_str(), "message" | "pmessage")
        }
        _ => false,
    }
}

impl Side {
    /// The server that is tested, with so many shards.
    pub(crate) fn tested(shards: u16) -> Side {
        Side::of(start(shards, FsyncPolicy::Everysec))
    }

    /// A `redis-server`, where one is installed.
    pub(crate) fn redis() -> Option<Side> {
        let program = "redis-server";
        if !is_installed(program) {
            return None;
        }
        Some(Side::of(
            Server::start_temp(Flavor::Redis, program, |c| c).unwrap(),
        ))
    }

    fn of(server: Server) -> Side {
        Side {
            clients: BTreeMap::new(),
            ids: BTreeMap::new(),
            in_multi: BTreeSet::new(),
            server,
            asked: 0,
        }
    }

    fn client(&mut self, name: char) -> &mut Client {
        let (server, ids) = (&self.server, &mut self.ids);
        self.clients.entry(name).or_insert_with(|| {
            let mut client = server.client().unwrap();
            ids.insert(name, client.run("CLIENT ID").unwrap().int().unwrap());
            client
        })
    }

    /// A reply with `@name` instead of the clients' numbers.
    fn without_ids(&self, mut text: String) -> String {
        for (name, id) in &self.ids {
            text = text.replace(&format!(":{id}]"), &format!(":@{name}]"));
            text = text.replace(&format!(":{id},"), &format!(":@{name},"));
            if text == format!(":{id}") {
                text = format!(":@{name}");
            }
        }
        text
    }

    /// A text with the clients' numbers instead of `@name`.
    fn with_ids(&mut self, text: &str) -> String {
        let names: Vec<char> = text
            .split('@')
            .skip(1)
            .filter_map(|at| at.chars().next())
            .filter(char::is_ascii_lowercase)
            .collect();
        let mut text = text.to_owned();
        for name in names {
            self.client(name);
            let id = self.ids[&name];
            text = text.replace(&format!("@{name}"), &id.to_string());
        }
        text
    }

    /// Runs `name: command` (`name: CLOSE` ends a connection). Every client is then asked for a
    /// sign of life and read up to it, and on until it was told at least as much as `expected`.
    pub(crate) fn step(&mut self, line: &str, expected: Option<&Done>) -> Done {
        let (name, command) = line.split_once(": ").expect("a client and a command");
        let name = name.chars().next().expect("a letter");
        let mut told: BTreeMap<char, Vec<String>> = BTreeMap::new();
        let mut reply = String::new();
        if command == "CLOSE" {
            drop(self.clients.remove(&name));
            let id = self.ids[&name];
            let watcher = self.client('z');
            // Until the server has noticed.
            while watcher.run(&format!("CLIENT LIST ID {id}")).unwrap().text()
                != Some(String::new())
            {
                std::thread::yield_now();
            }
        } else {
            let command = self.with_ids(command);
            let client = self.client(name);
            let parts: Vec<&str> = command.split_whitespace().collect();
            client.queue(&parts);
            client.flush().unwrap();
            let answer = loop {
                let next = client.read_reply().unwrap();
                if !is_told(&next) {
                    break next;
                }
                told.entry(name).or_default().push(format!("{next:?}"));
            };
            reply = format!("{answer:?}");
            match &*command {
                "MULTI" => drop(self.in_multi.insert(name)),
                "EXEC" => drop(self.in_multi.remove(&name)),
                // It tells the version of the server.
                "HELLO 3" => reply.clear(),
                _ => {}
            }
            if command.to_ascii_uppercase().starts_with("CLIENT") {
                reply = self.without_ids(reply);
            }
        }
        self.asked += 1;
        let sign = format!("sign-{}", self.asked);
        let in_multi = &self.in_multi;
        let clients = self.clients.iter_mut();
        for (name, client) in clients.filter(|(name, _)| !in_multi.contains(name)) {
            client.queue(&["PING", &sign]);
            client.flush().unwrap();
            let wanted = expected
                .and_then(|done| done.told.get(name))
                .map_or(0, Vec::len);
            let mut is_alive = false;
            while !is_alive || told.get(name).map_or(0, Vec::len) < wanted {
                let next = client.read_reply().unwrap_or_else(|error| {
                    panic!("{line}: {name} was told {told:?} and not {expected:?}: {error}")
                });
                let text = format!("{next:?}");
                if !is_told(&next) && text.contains(&sign) {
                    is_alive = true;
                } else {
                    told.entry(*name).or_default().push(text);
                }
            }
        }
        for told in told.values_mut() {
            for text in told.iter_mut().filter(|text| text.contains("broken")) {
                *text = self.without_ids(std::mem::take(text));
            }
            // Keys of several shards come in the order of the shards.
            told.sort();
        }
        Done { reply, told }
    }
}

/// Runs `steps` on a Redis, where one is installed, and on the server that is tested with 1 and with
/// 4 shards; replies and what is told must be the same. Tested against Redis itself, it shows that
/// the steps leave nothing to chance.
pub(crate) fn compare(steps: &str) {
    let Some(mut redis) = Side::redis() else {
        return;
    };
    let lines: Vec<&str> = steps
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect();
    let expected: Vec<Done> = lines.iter().map(|line| redis.step(line, None)).collect();
    for shards in [1, 4] {
        let mut tested = Side::tested(shards);
        for (line, expected) in lines.iter().zip(&expected) {
            let found = tested.step(line, Some(expected));
            assert_eq!(&found, expected, "{line} ({shards} shards)");
        }
    }
}
