//! An instance of some shards and one connection to it, without sockets.

use moon_commands::context::{Counts, Origin};
use moon_commands::subcommands;
use moon_commands::{
    CommandSpec, Cx, Effects, Limits, ReplayError, Scope, ShardSet, cursor_shard, execute, lookup,
    replay,
};
use moon_core::{Lsn, ShardCount, ShardId, UnixMs};
use moon_resp::{OwnedArgs, Protocol, Reply};
use moon_store::{DbIndex, Deadline, IntText, ShardData, Stream, StreamId, Value};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use std::collections::BTreeMap;

pub(crate) const DATABASES: DbIndex = 4;
pub(crate) const START: UnixMs = UnixMs(1_700_000_000_000);

/// Shards, and one connection that runs commands on them.
pub(crate) struct Instance {
    pub(crate) shards: Vec<Option<Box<ShardData>>>,
    pub(crate) count: ShardCount,
    pub(crate) db: DbIndex,
    pub(crate) now: UnixMs,
    pub(crate) protocol: Protocol,
    pub(crate) effects: Effects,
    pub(crate) limits: Limits,
    pub(crate) counts: Counts,
    pub(crate) depends_on: Lsn,
    pub(crate) keep_expired: bool,
    rng: SmallRng,
}

/// Every key with what it holds, by database.
pub(crate) type Dump = BTreeMap<(DbIndex, Vec<u8>), (String, Deadline)>;

impl Instance {
    pub(crate) fn new(shards: u16) -> Instance {
        let count = ShardCount::new(shards).expect("a valid count");
        Instance {
            shards: count
                .ids()
                .map(|id| Some(Box::new(ShardData::new(id, DATABASES, true))))
                .collect(),
            count,
            db: 0,
            now: START,
            protocol: Protocol::Resp2,
            effects: Effects::default(),
            limits: Limits::default(),
            counts: Counts::default(),
            depends_on: Lsn::ZERO,
            keep_expired: false,
            rng: SmallRng::seed_from_u64(1),
        }
    }

    pub(crate) fn shard(&mut self, id: ShardId) -> &mut ShardData {
        self.shards[id.index()]
            .as_deref_mut()
            .expect("all shards are here")
    }

    /// Runs one command, its arguments separated by spaces; returns the reply's bytes as text.
    pub(crate) fn run(&mut self, command: &str) -> String {
        let reply = self.run_args(&OwnedArgs::new(command.split(' ')));
        String::from_utf8(reply).expect("tests use text")
    }

    pub(crate) fn run_args(&mut self, args: &OwnedArgs) -> Vec<u8> {
        let mut out = Vec::new();
        let args = args.as_args();
        let Some((_, spec)) = lookup(args.at(0)) else {
            panic!("no command {:?}", String::from_utf8_lossy(args.at(0)));
        };
        if !spec.accepts(args.len()) {
            Reply::new(&mut out, self.protocol).error(&format!(
                "ERR wrong number of arguments for '{}' command",
                spec.name
            ));
            return out;
        }
        let spec = match subcommands::of(spec.name) {
            [] => spec,
            _ => match subcommands::resolve(spec.name, args) {
                Ok(row) => row,
                Err(error) => {
                    Reply::new(&mut out, self.protocol).error(error.text());
                    return out;
                }
            },
        };
        let shards = match self.single_shard(spec, args.get(1)) {
            Some(id) => ShardSet::One(self.shards[id.index()].as_deref_mut().expect("here")),
            None => ShardSet::Many {
                count: self.count,
                shards: &mut self.shards,
            },
        };
        let mut cx = Cx {
            shards,
            shard_count: self.count,
            db: self.db,
            now: self.now,
            origin: Origin::Client,
            reply: Reply::new(&mut out, self.protocol),
            effects: &mut self.effects,
            depends_on: Lsn::ZERO,
            rng: &mut self.rng,
            limits: &self.limits,
            counts: self.counts,
            keep_expired: self.keep_expired,
        };
        execute(&mut cx, spec, args);
        self.counts = cx.counts;
        self.depends_on = cx.depends_on;
        out
    }

    /// The shard that a command runs against, if it is a single one.
    fn single_shard(&self, spec: &CommandSpec, cursor: Option<&[u8]>) -> Option<ShardId> {
        match spec.scope {
            Scope::Cursor => Some(cursor_shard(cursor?, self.count)),
            _ => (self.count == ShardCount::ONE).then_some(ShardId(0)),
        }
    }

    /// Runs a command and compares the reply.
    #[track_caller]
    pub(crate) fn expect(&mut self, command: &str, reply: &str) {
        assert_eq!(self.run(command), reply, "{command}");
    }

    /// The effects since the last call, as requests with their arguments separated by spaces.
    pub(crate) fn effects(&mut self) -> Vec<String> {
        let payload = self.effects.take();
        requests(&payload)
    }

    /// Applies a payload to the data, as recovery does.
    pub(crate) fn replay(&mut self, payload: &[u8]) -> Result<(), ReplayError> {
        let shards = if self.count == ShardCount::ONE {
            ShardSet::One(self.shards[0].as_deref_mut().expect("here"))
        } else {
            ShardSet::Many {
                count: self.count,
                shards: &mut self.shards,
            }
        };
        let stats = replay(shards, self.count, payload, 0, &self.limits)?;
        assert_eq!(stats.db, 0, "the stream rests in database 0");
        Ok(())
    }

    pub(crate) fn dump(&mut self) -> Dump {
        let mut dump = Dump::new();
        for shard in self.shards.iter_mut().flatten() {
            for db in 0..DATABASES {
                shard.db(db).for_each(&mut |key, value, deadline| {
                    let old = dump.insert((db, key.to_vec()), (show(value), deadline));
                    assert!(old.is_none(), "a key is on one shard only");
                });
            }
        }
        dump
    }
}

fn show(value: &Value) -> String {
    let mut text = IntText::new();
    if let Some(bytes) = value.as_bytes(&mut text) {
        return format!("\"{}\"", bytes.escape_ascii());
    }
    let quoted = |bytes: &[u8]| format!("{:?}", String::from_utf8_lossy(bytes));
    let mut parts: Vec<String> = match value {
        Value::List(list) => list.to_vecs().iter().map(|e| quoted(e)).collect(),
        Value::Set(set) => set.iter().map(|m| quoted(&m.to_vec())).collect(),
        Value::Hash(hash) => hash
            .fields()
            .map(|field| {
                let at = field
                    .deadline
                    .map_or(String::new(), |at| format!(" @ {}", at.0));
                quoted(field.name) + ": " + &quoted(field.value) + &at
            })
            .collect(),
        Value::ZSet(zset) => zset
            .iter()
            .map(|(member, score)| format!("{}: {score:?}", quoted(member)))
            .collect(),
        Value::Stream(stream) => show_stream(stream),
        Value::Int(_) | Value::Str(_) => Vec::new(),
    };
    if !matches!(value, Value::List(_) | Value::Stream(_)) {
        parts.sort_unstable();
    }
    format!("{} {}", value.encoding(), parts.join(", "))
}

/// Everything but the times at which consumers were heard of, which are in no log.
fn show_stream(stream: &Stream) -> Vec<String> {
    let mut rdb = stream.to_rdb();
    for consumer in rdb.groups.iter_mut().flat_map(|g| &mut g.consumers) {
        (consumer.seen_ms, consumer.active_ms) = (0, 0);
    }
    let entries = stream.range(StreamId::MIN, StreamId::MAX);
    let mut parts: Vec<String> = entries
        .map(|entry| {
            let fields: Vec<_> = entry.fields().collect();
            format!("{}: {fields:?}", entry.id)
        })
        .collect();
    parts.push(format!("{:?} {:?}", rdb.totals, rdb.groups));
    parts
}

/// The requests of a payload, their arguments separated by spaces.
pub(crate) fn requests(payload: &[u8]) -> Vec<String> {
    let mut parser = moon_resp::RequestParser::new();
    let (mut found, mut offset) = (Vec::new(), 0);
    while offset < payload.len() {
        let mut spans = Vec::new();
        let limits = moon_resp::RequestLimits::default();
        let parsed = parser.parse_at(payload, offset, &mut spans, &limits);
        let Ok(moon_resp::Parsed::Request { consumed }) = parsed else {
            panic!("effects are whole requests: {parsed:?}");
        };
        let args = moon_resp::Args::new(payload, &spans);
        let words: Vec<_> = args.iter().map(String::from_utf8_lossy).collect();
        found.push(words.join(" "));
        offset += consumed;
    }
    found
}
