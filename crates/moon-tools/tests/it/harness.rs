//! A log with commands in it, and the keyspace that it stands for.
//!
//! The model is the data itself: every payload that goes to the log is applied to shards in
//! memory by the code of the replay. A state is everything these shards hold, whichever shard
//! holds it, so that logs with different numbers of shards can be compared.

use bytes::Bytes;
use moon_aof::faulty::Random;
use moon_aof::{
    AofOptions, AofWriterPool, FaultyStorage, FsyncPolicy, NoProgress, RdbFileInfo, RecoverError,
    Recovery, ReplayError, ReplaySink, ShardLog, Storage,
};
use moon_commands::load::{LoadExpired, load_rdb};
use moon_commands::{Limits, ShardSet, replay};
use moon_core::{Lsn, ShardCount, ShardId, UnixMs};
use moon_rdb::encode::{self, ValueKind};
use moon_rdb::stream::StreamForm;
use moon_rdb::{RdbLimits, RdbValue};
use moon_repl::{Clock, CommitLog, CommitOn, FrameKind};
use moon_store::{ShardData, Value};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

pub(crate) const DIR: &str = "/data/appendonlydir";
const DATABASES: u16 = 4;
/// Longer payloads become runs.
const FRAME_MAX: usize = 400;

/// Database and key to deadline and value; sets and hashes in order.
pub(crate) type State = BTreeMap<(usize, Vec<u8>), (String, RdbValue)>;

pub(crate) fn shards(count: u16) -> ShardCount {
    ShardCount::new(count).unwrap()
}

/// A disk with an empty data directory.
pub(crate) fn disk(seed: u64) -> FaultyStorage {
    let disk = FaultyStorage::new(seed);
    disk.create_dir(Path::new("/data")).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    disk
}

pub(crate) fn storage(disk: &FaultyStorage) -> Arc<dyn Storage> {
    Arc::new(disk.clone())
}

pub(crate) fn segment(shard: u16, seq: u64) -> PathBuf {
    PathBuf::from(format!("{DIR}/shard-{shard}/moon.aof.{seq}.incr.aof"))
}

fn options(dir: &str, keep_generations: u32) -> AofOptions {
    AofOptions {
        dir: PathBuf::from(dir),
        policy: FsyncPolicy::EverySec,
        frame_max: FRAME_MAX,
        preallocate: 4096,
        // Syncs happen when a test asks for them.
        sync_interval: Duration::from_secs(3600),
        keep_generations,
        ..AofOptions::default()
    }
}

/// Shards in memory.
pub(crate) struct Data {
    count: ShardCount,
    shards: Vec<Option<Box<ShardData>>>,
}

impl Data {
    fn new(count: ShardCount) -> Data {
        let shards = count.ids();
        let shards = shards.map(|id| Some(Box::new(ShardData::new(id, DATABASES, false))));
        Data {
            count,
            shards: shards.collect(),
        }
    }

    fn apply(&mut self, shard: Option<ShardId>, db: u16, payload: &[u8]) {
        let limits = Limits::default();
        let set = match shard {
            Some(shard) => ShardSet::One(self.shards[shard.index()].as_mut().unwrap()),
            None => ShardSet::Many {
                count: self.count,
                shards: &mut self.shards,
            },
        };
        let done = replay(set, self.count, payload, db, &limits);
        done.unwrap_or_else(|e| panic!("{e}: {}", payload.escape_ascii()));
    }

    pub(crate) fn state(&self) -> State {
        let mut state = State::new();
        for data in self.shards.iter().flatten() {
            for (index, db) in data.dbs.iter().enumerate() {
                db.for_each(&mut |key, value, deadline| {
                    let held = (format!("{deadline:?}"), owned(value));
                    let twice = state.insert((index, key.to_vec()), held);
                    assert!(twice.is_none(), "a key on two shards");
                });
            }
        }
        state
    }

    /// The keys of one shard as they stand in a base, by database.
    fn encoded(&self, shard: ShardId) -> Vec<(u32, Vec<u8>)> {
        let mut out = Vec::new();
        let data = self.shards[shard.index()].as_ref().unwrap();
        for (index, db) in data.dbs.iter().enumerate() {
            let mut bytes = Vec::new();
            db.for_each(&mut |key, value, deadline| {
                encode_key(&mut bytes, key, &owned(value), deadline.map(|at| at.0));
            });
            if !bytes.is_empty() {
                out.push((index as u32, bytes));
            }
        }
        out
    }
}

fn owned(value: &Value) -> RdbValue {
    match value {
        Value::Int(n) => RdbValue::String(n.to_string().into_bytes()),
        Value::Str(text) => RdbValue::String(text.as_bytes().to_vec()),
        Value::List(list) => RdbValue::List(list.to_vecs()),
        Value::Set(set) => {
            let mut members: Vec<_> = set.iter().map(|member| member.to_vec()).collect();
            members.sort();
            RdbValue::Set(members)
        }
        Value::Hash(hash) if hash.next_deadline().is_some() => {
            let fields = hash.fields().map(|field| {
                let deadline = field.deadline.map(|at| at.0);
                (field.name.to_vec(), field.value.to_vec(), deadline)
            });
            let mut fields: Vec<_> = fields.collect();
            fields.sort();
            RdbValue::VolatileHash(fields)
        }
        Value::Hash(hash) => {
            let fields = hash.iter().map(|(f, v)| (f.to_vec(), v.to_vec()));
            let mut fields: Vec<_> = fields.collect();
            fields.sort();
            RdbValue::Hash(fields)
        }
        Value::ZSet(zset) => {
            let members = zset.iter().map(|(m, score)| (m.to_vec(), score));
            RdbValue::ZSet(members.collect())
        }
        Value::Stream(stream) => RdbValue::Stream(Box::new(stream.to_rdb())),
    }
}

fn encode_key(out: &mut Vec<u8>, key: &[u8], value: &RdbValue, deadline: Option<i64>) {
    let list = |out: &mut Vec<u8>, kind, elements: &[Vec<u8>]| {
        encode::entry_head(out, kind, key, deadline);
        encode::len(out, elements.len() as u64);
        elements
            .iter()
            .for_each(|element| encode::string(out, element));
    };
    match value {
        RdbValue::String(bytes) => {
            encode::entry_head(out, ValueKind::String, key, deadline);
            encode::string(out, bytes);
        }
        RdbValue::List(elements) => list(out, ValueKind::List, elements),
        RdbValue::Set(members) => list(out, ValueKind::Set, members),
        RdbValue::Hash(fields) => {
            encode::entry_head(out, ValueKind::Hash, key, deadline);
            encode::len(out, fields.len() as u64);
            for (field, value) in fields {
                encode::string(out, field);
                encode::string(out, value);
            }
        }
        RdbValue::VolatileHash(fields) => {
            let first = fields.iter().filter_map(|(_, _, at)| *at).min().unwrap();
            encode::entry_head(out, ValueKind::VolatileHash, key, deadline);
            encode::millis(out, first);
            encode::len(out, fields.len() as u64);
            for (field, value, deadline) in fields {
                encode::field_deadline(out, *deadline, first);
                encode::string(out, field);
                encode::string(out, value);
            }
        }
        RdbValue::ZSet(members) => {
            encode::entry_head(out, ValueKind::ZSet, key, deadline);
            encode::len(out, members.len() as u64);
            for (member, score) in members {
                encode::string(out, member);
                encode::score(out, *score);
            }
        }
        RdbValue::Stream(stream) => {
            encode::entry_head(out, ValueKind::Stream, key, deadline);
            moon_rdb::stream::encode(out, stream, StreamForm::of_images(), None);
        }
    }
}

/// What a start finds: the state, the end, the number of shards.
pub(crate) struct Recovered {
    pub(crate) state: State,
    pub(crate) end: Lsn,
    pub(crate) shards: u16,
    pub(crate) truncated_bytes: u64,
    pub(crate) unproven_bytes: u64,
}

/// Scans, loads and replays as a start does, and changes nothing.
pub(crate) fn recover(disk: &FaultyStorage, dir: &str) -> Result<Recovered, RecoverError> {
    let options = options(dir, 0);
    let (one, quiet) = (ShardCount::ONE, &NoProgress);
    let mut recovery = Recovery::scan(storage(disk), &options, None, one, quiet)?;
    let mut data = Data::new(recovery.shards());
    load_bases(disk, &recovery, &mut data);
    recovery.replay(&mut Sink(&mut data), quiet)?;
    let summary = recovery.summary();
    Ok(Recovered {
        state: data.state(),
        end: recovery.end(),
        shards: recovery.shards().get(),
        truncated_bytes: summary.truncated_bytes,
        unproven_bytes: summary.unproven_bytes,
    })
}

fn load_bases(disk: &FaultyStorage, recovery: &Recovery, data: &mut Data) {
    let files = disk.snapshot();
    for base in recovery.bases() {
        let (count, limits) = (data.count, Limits::default());
        let shard = data.shards[base.shard.index()].as_mut().unwrap();
        let loaded = load_rdb(
            ShardSet::One(shard),
            count,
            &files[&base.path][..],
            RdbLimits::own(),
            &limits,
            LoadExpired::Keep,
            &mut |_| {},
        );
        assert_eq!(loaded.unwrap().cut_lsn, Some(base.cut.0));
    }
}

struct Sink<'a>(&'a mut Data);

impl ReplaySink for Sink<'_> {
    fn own(&mut self, shard: ShardId, _: Lsn, db: u32, payload: Bytes) -> Result<(), ReplayError> {
        self.0.apply(Some(shard), db as u16, &payload);
        Ok(())
    }

    fn cross(&mut self, _: Lsn, db: u32, payload: Bytes) -> Result<(), ReplayError> {
        self.0.apply(None, db as u16, &payload);
        Ok(())
    }
}

/// A point of the history.
#[derive(Clone)]
pub(crate) struct Mark {
    pub(crate) lsn: Lsn,
    pub(crate) time_ms: i64,
    pub(crate) state: State,
}

/// A running log, what it should hold, and every state it has gone through.
pub(crate) struct World {
    count: ShardCount,
    pool: AofWriterPool,
    logs: Vec<ShardLog>,
    clock: Arc<Clock>,
    data: Data,
    keys: Vec<Vec<String>>,
    random: Random,
    pub(crate) now_ms: i64,
    /// The state at the beginning and behind every unit since.
    pub(crate) marks: Vec<Mark>,
}

impl World {
    /// Opens the log on `disk`, or a new one with `count` shards.
    pub(crate) fn open(disk: &FaultyStorage, count: Option<u16>, seed: u64, keep: u32) -> World {
        let wanted = count.map(shards);
        let (one, quiet) = (ShardCount::ONE, &NoProgress);
        let options = options(DIR, keep);
        let recovery = Recovery::scan(storage(disk), &options, wanted, one, quiet);
        let mut recovery = recovery.unwrap();
        let count = recovery.shards();
        let mut data = Data::new(count);
        load_bases(disk, &recovery, &mut data);
        recovery.replay(&mut Sink(&mut data), quiet).unwrap();
        let clock = Clock::new(count, recovery.end(), CommitOn::Written);
        let lsn = recovery.end();
        let (pool, logs) = recovery.finish(&clock).unwrap();
        let now_ms = 1_000_000;
        let first = Mark {
            lsn,
            time_ms: 0,
            state: data.state(),
        };
        World {
            count,
            pool,
            logs,
            clock,
            data,
            keys: keys_of(count),
            random: Random(seed),
            now_ms,
            marks: vec![first],
        }
    }

    pub(crate) fn last(&self) -> &Mark {
        self.marks.last().unwrap()
    }

    /// Appends one unit and applies it to the model.
    pub(crate) fn append(&mut self, shard: ShardId, kind: FrameKind, commands: &[String]) {
        let payload = Bytes::from(resp(commands));
        let of = (kind == FrameKind::Own).then_some(shard);
        if kind != FrameKind::Control {
            self.data.apply(of, 0, &payload);
        }
        self.now_ms += 10;
        let now = UnixMs(self.now_ms);
        let lsn = self.logs[shard.index()].append(kind, payload, now);
        self.marks.push(Mark {
            lsn,
            time_ms: self.now_ms,
            state: self.data.state(),
        });
    }

    /// Units of every kind.
    pub(crate) fn write(&mut self, units: usize) {
        for _ in 0..units {
            let shard = ShardId(self.random.below(u64::from(self.count.get())) as u16);
            let (kind, commands) = match self.random.below(10) {
                0 => (FrameKind::Control, vec!["PING".to_owned()]),
                1 => {
                    let all = ["FLUSHDB", "SWAPDB 0 1", "SWAPDB 1 2", "FLUSHALL"];
                    let which = if self.random.below(8) == 0 {
                        3
                    } else {
                        self.random.below(3)
                    };
                    let command = all[which as usize].to_owned();
                    // The only shard owns everything.
                    let own = self.count == ShardCount::ONE && self.random.below(2) == 0;
                    let kind = if own {
                        FrameKind::Own
                    } else {
                        FrameKind::Cross
                    };
                    (kind, vec![command])
                }
                2..5 => (FrameKind::Cross, self.commands(None)),
                _ => (FrameKind::Own, self.commands(Some(shard))),
            };
            self.append(shard, kind, &commands);
            if self.random.below(6) == 0 {
                self.logs[shard.index()].append(
                    FrameKind::Control,
                    Bytes::new(),
                    UnixMs(self.now_ms),
                );
            }
        }
    }

    /// A turn or a transaction over keys of `shard`, or of all.
    fn commands(&mut self, shard: Option<ShardId>) -> Vec<String> {
        let mut commands: Vec<String> = (0..1 + self.random.below(4))
            .map(|_| {
                let one = self.key(shard);
                self.command(&one, shard)
            })
            .collect();
        if self.random.below(3) == 0 {
            commands.insert(0, "MULTI".to_owned());
            commands.push("EXEC".to_owned());
        }
        if self.random.below(3) == 0 {
            let db = 1 + self.random.below(u64::from(DATABASES) - 1);
            commands.insert(0, format!("SELECT {db}"));
            commands.push("SELECT 0".to_owned());
        }
        commands
    }

    fn key(&mut self, shard: Option<ShardId>) -> String {
        let count = u64::from(self.count.get());
        let shard = shard.map_or_else(|| self.random.below(count) as usize, ShardId::index);
        let keys = &self.keys[shard];
        keys[self.random.below(keys.len() as u64) as usize].clone()
    }

    fn command(&mut self, key: &str, shard: Option<ShardId>) -> String {
        let n = self.random.below(1000);
        match self.random.below(11) {
            0 => format!("SET s{key} {}", "v".repeat(1 + n as usize)),
            1 => format!("INCRBY i{key} {n}"),
            2 => format!("RPUSH l{key} a{n} b{n}"),
            3 => format!("SADD m{key} {n} x{n}"),
            4 => format!("HSET h{key} f{n} v{n} g v{n}"),
            5 => format!("DEL s{key}"),
            6 => format!("SET s{key} {n} PXAT 9999999999{:03}", n % 1000),
            7 => format!("PEXPIREAT i{key} 99999999{n:03}000"),
            8 => {
                let other = self.key(shard);
                format!("MSET s{key} {n} s{other} other")
            }
            9 => format!("APPEND s{key} +{n}"),
            _ => format!("LPOP l{key}"),
        }
    }

    /// A rewrite: bases with the state of now take the place of the log before.
    pub(crate) fn rewrite(&mut self) {
        let mut rewrite = self.pool.handle().begin_rewrite().unwrap();
        for log in &mut self.logs {
            log.cut();
        }
        rewrite.cut_at(self.clock.head()).unwrap();
        for shard in self.count.ids() {
            let info = RdbFileInfo {
                redis_ver: "7.2.0".to_owned(),
                databases: vec![(0, 100, 10), (1, 50, 5)],
                ..RdbFileInfo::default()
            };
            let mut base = rewrite.base(shard, &info).unwrap();
            for (db, bytes) in self.data.encoded(shard) {
                base.chunk(db, &bytes).unwrap();
            }
            base.finish().unwrap();
        }
        // The cut has to be durable first.
        let before = self.pool.policy();
        self.pool.set_policy(FsyncPolicy::Always);
        rewrite.finish(&AtomicBool::new(false)).unwrap();
        self.pool.set_policy(before);
    }

    /// A clean stop.
    pub(crate) fn stop(self) -> Mark {
        let last = self.last().clone();
        let now = UnixMs(self.now_ms + 1000);
        let done = self.pool.shutdown(self.logs, now, Duration::from_secs(20));
        done.unwrap();
        last
    }
}

/// Some keys of every shard.
fn keys_of(count: ShardCount) -> Vec<Vec<String>> {
    let mut keys = vec![Vec::new(); usize::from(count.get())];
    let mut n = 0;
    while keys.iter().any(|keys| keys.len() < 5) {
        let key = format!("{{k{n}}}");
        n += 1;
        let of = &mut keys[count.shard_of_key(key.as_bytes()).index()];
        if of.len() < 5 {
            of.push(key);
        }
    }
    keys
}

pub(crate) fn resp(commands: &[String]) -> Vec<u8> {
    let mut out = Vec::new();
    for command in commands {
        let words: Vec<&str> = command.split(' ').collect();
        out.extend(format!("*{}\r\n", words.len()).bytes());
        for word in words {
            out.extend(format!("${}\r\n{word}\r\n", word.len()).bytes());
        }
    }
    out
}

/// A stopped log: some units, a rewrite, more units.
pub(crate) fn stopped(seed: u64, count: u16, units: usize) -> (FaultyStorage, Mark) {
    let disk = disk(seed);
    let mut world = World::open(&disk, Some(count), seed, 0);
    world.write(units);
    if !seed.is_multiple_of(3) {
        world.rewrite();
        world.write(units);
    }
    let last = world.stop();
    (disk, last)
}
