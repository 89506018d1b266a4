//! The servers that a run compares: the oracle, and the tested ones with their shards.

use crate::keyspace::{self, Keyspace};
use crate::request::{Connection, Request};
use anyhow::{Context as _, Result, bail};
use moon_harness::{Client, Flavor, FsyncPolicy, Reply, Server};
use moon_resp::Value;
use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long a rewrite of a small log may take.
const REWRITE_TIMEOUT: Duration = Duration::from_secs(20);
/// Pause between two looks at a rewrite, which nothing announces.
const POLL_INTERVAL: Duration = Duration::from_millis(2);

/// Thresholds of compact forms so low that small values pass them.
const LOW_THRESHOLDS: &[(&str, &str)] = &[
    ("hash-max-listpack-entries", "6"),
    ("hash-max-listpack-value", "16"),
    ("set-max-intset-entries", "5"),
    ("set-max-listpack-entries", "6"),
    ("set-max-listpack-value", "16"),
    ("list-max-listpack-size", "4"),
    ("list-compress-depth", "1"),
    ("zset-max-listpack-entries", "6"),
    ("zset-max-listpack-value", "16"),
    ("stream-node-max-entries", "5"),
    ("hll-sparse-max-bytes", "60"),
];
/// The same directives as servers have them at start.
const USUAL_THRESHOLDS: &[(&str, &str)] = &[
    ("hash-max-listpack-entries", "128"),
    ("hash-max-listpack-value", "64"),
    ("set-max-intset-entries", "512"),
    ("set-max-listpack-entries", "128"),
    ("set-max-listpack-value", "64"),
    ("list-max-listpack-size", "-2"),
    ("list-compress-depth", "0"),
    ("zset-max-listpack-entries", "128"),
    ("zset-max-listpack-value", "64"),
    ("stream-node-max-entries", "100"),
    ("hll-sparse-max-bytes", "3000"),
];

/// Which thresholds a sequence runs with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Thresholds {
    /// Those of a server that was told nothing.
    Usual,
    /// Very low ones, so that a few elements make a large value.
    Low,
}

impl Thresholds {
    fn directives(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Thresholds::Usual => USUAL_THRESHOLDS,
            Thresholds::Low => LOW_THRESHOLDS,
        }
    }
}

/// What to start.
#[derive(Clone, Debug)]
pub struct RigConfig {
    /// The program of the oracle.
    pub oracle: PathBuf,
    /// Whose command line the tested program takes.
    pub flavor: Flavor,
    /// The tested program.
    pub tested: PathBuf,
    /// One tested server for each number of shards.
    pub shards: Vec<u16>,
}

/// A server and the connections to it.
#[derive(Debug)]
pub struct Node {
    /// For messages: which one it is.
    pub label: String,
    /// Whether everything it holds changes in one order.
    pub(crate) is_one_shard: bool,
    server: Server,
    /// Those of the sequence, in the order of [`Connection::ALL`].
    clients: Vec<Client>,
    /// Their ids.
    ids: Vec<i64>,
    /// Hears of every change of a key, where a sequence asks for that.
    pub(crate) listener: Option<Client>,
    /// Speaks RESP2 and has no part in the sequence.
    inspect: Client,
    /// The thresholds it has now, and those of them it knows.
    thresholds: Option<Thresholds>,
    /// What `notify-keyspace-events` is now.
    notified: Option<&'static str>,
}

impl Node {
    fn start(label: String, server: Server, is_one_shard: bool) -> Result<Node> {
        let (clients, ids) = connect(&server)?;
        Ok(Node {
            clients,
            ids,
            listener: None,
            inspect: server.client()?,
            label,
            is_one_shard,
            server,
            thresholds: None,
            notified: None,
        })
    }

    /// A connection of the sequence.
    pub fn client(&mut self, connection: Connection) -> &mut Client {
        &mut self.clients[connection as usize]
    }

    /// Gives up a connection for a new one.
    pub(crate) fn renew(&mut self, connection: Connection) -> io::Result<()> {
        let (client, id) = connected(&self.server).map_err(io::Error::other)?;
        self.clients[connection as usize] = client;
        self.ids[connection as usize] = id;
        Ok(())
    }

    /// The id that the server has given a connection.
    #[must_use]
    pub fn id(&self, connection: Connection) -> i64 {
        self.ids[connection as usize]
    }

    /// Queues a request on its connection, with ids in the place of the names of connections.
    pub(crate) fn queue(&mut self, request: &Request) {
        let id_of = |arg: &Vec<u8>| {
            let name = std::str::from_utf8(arg.strip_prefix(b"@")?).ok()?;
            let id = self.ids[Connection::named(name)? as usize];
            Some(id.to_string().into_bytes())
        };
        let args: Vec<Vec<u8>> = request
            .args
            .iter()
            .map(|arg| id_of(arg).unwrap_or_else(|| arg.clone()))
            .collect();
        self.clients[request.connection as usize].queue(&args);
    }

    /// The connections of the sequence that wait in a command.
    ///
    /// # Errors
    /// When the connection breaks.
    pub(crate) fn waiting(&mut self) -> io::Result<BTreeSet<Connection>> {
        let list = self.inspect.run("CLIENT LIST")?;
        let list = list.text().unwrap_or_default();
        let waits = |line: &str| {
            let mut fields = line.split(' ').filter_map(|field| field.split_once('='));
            let (_, id) = fields.find(|(name, _)| *name == "id")?;
            let (_, flags) = fields.find(|(name, _)| *name == "flags")?;
            let id: i64 = id.parse().ok()?;
            let at = self.ids.iter().position(|known| *known == id)?;
            flags.contains('b').then_some(Connection::ALL[at])
        };
        Ok(list.lines().filter_map(waits).collect())
    }

    /// Ends the wait of a connection; whether it waited.
    ///
    /// # Errors
    /// When the connection breaks.
    pub(crate) fn unblock(&mut self, connection: Connection, how: &str) -> io::Result<bool> {
        let id = self.id(connection);
        let reply = self.inspect.run(&format!("CLIENT UNBLOCK {id} {how}"))?;
        Ok(reply == Reply::Int(1))
    }

    /// The last lines the process has printed.
    #[must_use]
    pub fn log_tail(&self) -> String {
        self.server.log_tail()
    }

    /// Begins anew on some connections.
    pub(crate) fn reset_connections(
        &mut self,
        connections: impl Iterator<Item = Connection> + Clone,
        protocol: u8,
    ) -> io::Result<()> {
        for connection in connections.clone() {
            let client = self.client(connection);
            client.queue(&["RESET"]);
            client.queue(&["HELLO", &protocol.to_string()]);
            client.flush()?;
        }
        for connection in connections {
            let client = self.client(connection);
            client.read_value()?;
            if let Value::Error(text) = client.read_value()? {
                return Err(io::Error::other(format!("HELLO: {}", text.escape_ascii())));
            }
        }
        Ok(())
    }

    /// Removes everything it holds and begins anew on all connections.
    fn reset(&mut self, protocol: u8, thresholds: Thresholds) -> Result<()> {
        self.listener = None;
        self.reset_connections(Connection::ALL.into_iter(), protocol)?;
        for line in ["FLUSHALL", "FUNCTION FLUSH", "SCRIPT FLUSH"] {
            if !self.inspect.run(line)?.is_ok() {
                bail!("{} refuses {line}", self.label);
            }
        }
        if self.thresholds != Some(thresholds) {
            let mut known = Vec::new();
            for (name, value) in thresholds.directives() {
                if self
                    .inspect
                    .run(&format!("CONFIG SET {name} {value}"))?
                    .is_ok()
                {
                    known.push(format!("--{name}"));
                    known.push((*value).to_owned());
                }
            }
            self.server.config_mut().args = known;
            self.thresholds = Some(thresholds);
        }
        Ok(())
    }

    fn reconnect(&mut self) -> Result<()> {
        (self.clients, self.ids) = connect(&self.server)?;
        self.listener = None;
        self.inspect = self.server.client()?;
        Ok(())
    }

    /// Has changes of keys of these classes told, to a connection of their own.
    fn listen(&mut self, classes: &'static str, protocol: u8) -> Result<()> {
        if self.notified != Some(classes) {
            let request = ["CONFIG", "SET", "notify-keyspace-events", classes];
            if !self.inspect.command(&request)?.is_ok() {
                bail!("{} does not notify of {classes}", self.label);
            }
            self.notified = Some(classes);
        }
        if classes.is_empty() {
            return Ok(());
        }
        let mut listener = self.server.client()?;
        listener.run(&format!("HELLO {protocol}"))?;
        listener.run("PSUBSCRIBE __key*__:*")?;
        self.listener = Some(listener);
        Ok(())
    }

    /// Everything it holds.
    ///
    /// # Errors
    /// As [`keyspace::read`].
    pub fn keyspace(&mut self) -> Result<Keyspace> {
        keyspace::read(&mut self.inspect).with_context(|| format!("reading {}", self.label))
    }

    /// Kills the process, starts it again on the same directory and connects.
    ///
    /// # Errors
    /// When it does not start.
    pub fn crash_and_recover(&mut self) -> Result<()> {
        self.server.kill9()?;
        self.server.restart()?;
        self.notified = None;
        self.reconnect()
    }

    /// Rewrites the log and waits until that is done.
    ///
    /// # Errors
    /// When it is refused or does not end.
    pub fn rewrite_log(&mut self) -> Result<()> {
        let deadline = Instant::now() + REWRITE_TIMEOUT;
        while let Reply::Error(text) = self.inspect.run("BGREWRITEAOF")? {
            if Instant::now() > deadline {
                bail!("BGREWRITEAOF: {}", text.escape_ascii());
            }
            std::thread::sleep(POLL_INTERVAL);
        }
        loop {
            let info = self.inspect.run("INFO persistence")?;
            let info = info.text().context("INFO is answered by a text")?;
            let has = |field: &str| info.lines().any(|line| line.trim() == field);
            if has("aof_rewrite_in_progress:0") && has("aof_rewrite_scheduled:0") {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("the rewrite does not end");
            }
            std::thread::sleep(POLL_INTERVAL);
        }
    }

    /// Lets chance and the clock change what it holds: some of each set is popped, each stream gets
    /// an entry whose id is the time. What is recovered must be what came of it.
    ///
    /// # Errors
    /// When the connection breaks.
    pub fn change_by_chance(&mut self, keyspace: &Keyspace) -> Result<()> {
        for ((db, key), holding) in keyspace {
            let request: &[&[u8]] = match &holding.kind[..] {
                "set" => &[b"SPOP", key, b"2"],
                "stream" => &[b"XADD", key, b"*", b"f", b"v"],
                _ => continue,
            };
            self.inspect.run(&format!("SELECT {db}"))?;
            self.inspect.command(request)?;
        }
        self.inspect.run("SELECT 0")?;
        Ok(())
    }

    /// Saves to an RDB and loads that again, where the server does so when it is asked to.
    ///
    /// # Errors
    /// When it refuses.
    pub fn reload(&mut self) -> Result<()> {
        let reply = self.inspect.run("DEBUG RELOAD")?;
        if !reply.is_ok() {
            bail!("DEBUG RELOAD: {reply:?}");
        }
        Ok(())
    }
}

/// A connection and its id.
fn connected(server: &Server) -> Result<(Client, i64)> {
    let mut client = server.client()?;
    let id = client.run("CLIENT ID")?;
    let id = id.int().context("CLIENT ID is answered by a number")?;
    Ok((client, id))
}

/// The connections of a sequence, and their ids.
fn connect(server: &Server) -> Result<(Vec<Client>, Vec<i64>)> {
    let all: Result<Vec<_>> = Connection::ALL.iter().map(|_| connected(server)).collect();
    Ok(all?.into_iter().unzip())
}

/// All servers of a run.
#[derive(Debug)]
pub struct Rig {
    /// `nodes[0]` is the oracle.
    pub nodes: Vec<Node>,
    config: RigConfig,
}

impl Rig {
    /// Starts all of them on directories of their own.
    ///
    /// # Errors
    /// When one does not start.
    pub fn start(config: &RigConfig) -> Result<Rig> {
        let oracle = Server::start_temp(Flavor::Redis, &config.oracle, |c| {
            c.arg("--enable-debug-command").arg("yes")
        })?;
        let mut nodes = vec![Node::start("redis-server".into(), oracle, true)?];
        for &shards in &config.shards {
            let server = Server::start_temp(config.flavor, &config.tested, |c| {
                c.shards(shards).append(FsyncPolicy::Everysec)
            })?;
            nodes.push(Node::start(
                format!("{shards} shards"),
                server,
                shards == 1,
            )?);
        }
        Ok(Rig {
            nodes,
            config: config.clone(),
        })
    }

    /// Starts everything anew, on new directories.
    ///
    /// # Errors
    /// As [`Rig::start`].
    pub fn start_over(&mut self) -> Result<()> {
        *self = Rig::start(&self.config)?;
        Ok(())
    }

    /// Empties all of them for the next sequence.
    ///
    /// # Errors
    /// When one of them does not answer.
    pub fn reset(&mut self, protocol: u8, thresholds: Thresholds) -> Result<()> {
        for node in &mut self.nodes {
            node.reset(protocol, thresholds)
                .with_context(|| format!("resetting {}\n{}", node.label, node.log_tail()))?;
        }
        Ok(())
    }

    /// Has changes of keys of these classes told to the listener of each of them; of none, if they
    /// are empty.
    ///
    /// # Errors
    /// When one of them does not answer.
    pub fn listen(&mut self, classes: &'static str, protocol: u8) -> Result<()> {
        for node in &mut self.nodes {
            node.listen(classes, protocol)?;
        }
        Ok(())
    }

    /// Gives up all connections, of which some may wait or be told things, for new ones.
    ///
    /// # Errors
    /// When one of them does not accept.
    pub fn reconnect(&mut self) -> Result<()> {
        self.nodes.iter_mut().try_for_each(Node::reconnect)
    }

    /// Starts those again that have ended.
    ///
    /// # Errors
    /// When one of them does not start.
    pub fn revive(&mut self) -> Result<()> {
        for node in &mut self.nodes {
            // It may hang as well as be gone.
            let is_alive = node.inspect.run("PING").is_ok() && node.reconnect().is_ok();
            if !is_alive && node.crash_and_recover().is_err() {
                return self.start_over();
            }
        }
        Ok(())
    }

    /// Those of `names` that a tested server does not have.
    ///
    /// # Errors
    /// When a server does not answer.
    pub fn missing(&mut self, names: &BTreeSet<Vec<u8>>) -> Result<BTreeSet<Vec<u8>>> {
        let mut missing = BTreeSet::new();
        for node in &mut self.nodes {
            for name in names {
                let info = node.inspect.command(&[&b"COMMAND"[..], b"INFO", name])?;
                let known = info.items().and_then(<[Reply]>::first);
                if !matches!(known, Some(Reply::Array(_))) {
                    missing.insert(name.clone());
                }
            }
        }
        // What the sequences send on purpose although nobody has it.
        missing.retain(|name| !name.starts_with(b"NOSUCH"));
        Ok(missing)
    }
}
