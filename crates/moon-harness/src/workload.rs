//! Seeded generators of operations.
//!
//! Every connection owns its keys (their names begin with `c<connection>:`), so that its own
//! order decides what they may hold. Values are never written twice, so that a value that a
//! reader saw names the write it came from.

mod newer;

use crate::model::DbKey;
use crate::op::{Op, Record};
use crate::server::Flavor;
use crate::typed::TypedOp;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use std::fmt;
use std::str::FromStr;

/// A time that no run reaches, in the year 2100.
const FAR_FUTURE_MS: u64 = 4_102_444_800_000;
/// Keys of one connection and one kind; four connections make several hundred over all shards.
const KEYS: u32 = 60;
/// Keys of one connection that make the walk of a rewrite last.
const MANY_KEYS: u32 = 3000;
/// Keys of one connection with values that a rewrite writes in pieces.
const HUGE_KEYS: u32 = 3;
/// The least size of such a value.
const HUGE_BYTES: usize = 300 * 1024;

/// What the connections write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Workload {
    /// SET with and without expiry, small and large values, DEL of one and several keys.
    Strings,
    /// The same on a server with `pipeline-order strict`: order over all shards.
    Strict,
    /// INCR, INCRBY, APPEND, HINCRBY: what a double replay would show.
    Counters,
    /// Lists, hashes, sets, commands that fail with WRONGTYPE.
    Types,
    /// Sorted sets: scores, increments, pops, places, unions stored over shards.
    Zsets,
    /// Streams with a consumer group: trimmed, deleted from, read and acknowledged.
    Streams,
    /// Bits of strings, values that are restored, sets that are popped empty, values that are
    /// renamed and copied whatever their type.
    Values,
    /// Fields of hashes with deadlines, far ones and such that come meanwhile.
    Fields,
    /// HyperLogLogs: counted, merged, copied.
    Sketches,
    /// Pairs written together by MSET or MULTI, RENAME and COPY between shards.
    Pairs,
    /// Several databases: SELECT, also inside MULTI, FLUSHDB, SWAPDB, COPY between databases.
    Databases,
    /// One history that all connections append to, in transactions over several shards.
    History,
    /// Streams that several consumers share: read over shards, claimed, acknowledged, set back.
    Groups,
    /// Transactions over several shards that are scripts.
    Scripts,
    /// The same as functions, whose library is loaded once and must be kept.
    Functions,
    /// Lists that producers fill and consumers empty, waiting when there is nothing. Only the
    /// producers' part is generated; who runs it adds the consumers.
    Handoff,
    /// Everything but the shared history, on many keys and a few huge ones: for rewrites of the
    /// log that go on meanwhile.
    Rewrite,
}

impl Workload {
    /// Whether a server of this kind has what it writes.
    #[must_use]
    pub fn is_for(self, flavor: Flavor) -> bool {
        flavor == Flavor::Moon || self != Workload::Fields
    }

    /// All workloads.
    pub const ALL: [Workload; 17] = [
        Workload::Strings,
        Workload::Strict,
        Workload::Counters,
        Workload::Types,
        Workload::Zsets,
        Workload::Streams,
        Workload::Values,
        Workload::Fields,
        Workload::Sketches,
        Workload::Pairs,
        Workload::Databases,
        Workload::History,
        Workload::Groups,
        Workload::Scripts,
        Workload::Functions,
        Workload::Handoff,
        Workload::Rewrite,
    ];

    /// Commands that it takes and that not every server has.
    #[must_use]
    pub fn needs(self) -> &'static [&'static str] {
        match self {
            Workload::Scripts => &["EVAL"],
            Workload::Functions => &["FUNCTION", "FCALL"],
            Workload::Handoff => &["BLMPOP", "BLMOVE", "BZMPOP", "XREADGROUP"],
            _ => &[],
        }
    }

    /// Databases that the workload writes to, from 0.
    #[must_use]
    pub fn databases(self, connections: usize) -> u8 {
        match self {
            Workload::Databases => u8::try_from(2 * connections).unwrap_or(u8::MAX),
            Workload::Rewrite => u8::try_from(2 * connections + 1).unwrap_or(u8::MAX),
            _ => 1,
        }
    }

    /// Keys of `connection` in database 0 that hold strings and that readers look at.
    #[must_use]
    pub fn readable_keys(self, connection: usize) -> Vec<DbKey> {
        let names = |kind: &str| {
            (0..KEYS)
                .map(|i| own(connection, 0, &format!("{kind}{i}")))
                .collect::<Vec<_>>()
        };
        match self {
            Workload::Strings | Workload::Strict | Workload::Rewrite => names("s"),
            Workload::Counters => [names("n"), names("a")].concat(),
            // One key of a pair alone: it may lie on another shard than the frame that wrote it.
            Workload::Pairs | Workload::Scripts | Workload::Functions => self
                .readable_pairs(connection)
                .into_iter()
                .flat_map(|(a, b)| [a, b])
                .collect(),
            Workload::History => [names("s"), vec![last(connection)]].concat(),
            Workload::Types
            | Workload::Zsets
            | Workload::Streams
            | Workload::Values
            | Workload::Fields
            | Workload::Sketches
            | Workload::Groups
            | Workload::Handoff
            | Workload::Databases => Vec::new(),
        }
    }

    /// Pairs of keys of `connection` that always hold the same value.
    #[must_use]
    pub fn readable_pairs(self, connection: usize) -> Vec<(DbKey, DbKey)> {
        match self {
            Workload::Pairs | Workload::Scripts | Workload::Functions | Workload::Rewrite => {
                (0..KEYS).map(|i| pair(connection, i)).collect()
            }
            _ => Vec::new(),
        }
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Workload::Strings => "strings",
            Workload::Strict => "strict",
            Workload::Counters => "counters",
            Workload::Types => "types",
            Workload::Zsets => "zsets",
            Workload::Streams => "streams",
            Workload::Values => "values",
            Workload::Fields => "fields",
            Workload::Sketches => "sketches",
            Workload::Pairs => "pairs",
            Workload::Databases => "databases",
            Workload::History => "history",
            Workload::Groups => "groups",
            Workload::Scripts => "scripts",
            Workload::Functions => "functions",
            Workload::Handoff => "handoff",
            Workload::Rewrite => "rewrite",
        })
    }
}

impl FromStr for Workload {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Workload::ALL
            .into_iter()
            .find(|w| w.to_string() == text)
            .ok_or_else(|| {
                let names: Vec<_> = Workload::ALL.iter().map(ToString::to_string).collect();
                format!("{text}: expected one of {}", names.join(", "))
            })
    }
}

/// Generates the operations of one connection.
#[derive(Debug)]
pub struct Generator {
    workload: Workload,
    connection: usize,
    rng: StdRng,
    /// Number of the last operation; part of the values, so that none is written twice.
    sequence: u64,
    /// Entries of the shared history so far.
    records: u64,
    /// The time, Unix milliseconds, as far as the driver has told it.
    now_ms: u64,
    /// The latest deadline that comes during the run, Unix milliseconds.
    last_deadline_ms: u64,
    /// Whether the server knows deadlines of fields.
    fields_expire: bool,
}

impl Generator {
    /// The generator of `connection`; the same seed gives the same operations.
    #[must_use]
    pub fn new(workload: Workload, connection: usize, seed: u64) -> Self {
        let seed = seed.wrapping_add((connection as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        Generator {
            workload,
            connection,
            rng: StdRng::seed_from_u64(seed),
            sequence: 0,
            records: 0,
            now_ms: 0,
            last_deadline_ms: 0,
            fields_expire: true,
        }
    }

    /// The same for a server of this kind: fields of Redis 7.0 have no deadlines.
    #[must_use]
    pub fn for_flavor(self, flavor: Flavor) -> Self {
        Generator {
            fields_expire: flavor == Flavor::Moon,
            ..self
        }
    }

    /// Tells it the time, Unix milliseconds: deadlines that come during the run are counted from
    /// there.
    pub fn set_time(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
    }

    /// The latest deadline so far that comes during the run; all others are far away.
    #[must_use]
    pub fn last_deadline_ms(&self) -> u64 {
        self.last_deadline_ms
    }

    /// The connection it writes for.
    #[must_use]
    pub fn connection(&self) -> usize {
        self.connection
    }

    /// Entries of the shared history generated so far.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Continues the shared history behind `records` entries: after a crash, those that did not
    /// survive are written again under the same numbers.
    pub fn set_records(&mut self, records: u64) {
        self.records = records;
    }

    /// A random number in `0..end`, for decisions of the driver.
    pub fn below(&mut self, end: u32) -> u32 {
        self.rng.random_range(0..end)
    }

    /// The next operation.
    pub fn next_op(&mut self) -> Op {
        self.sequence += 1;
        match self.workload {
            Workload::Strings | Workload::Strict => self.strings(),
            Workload::Counters => self.counters(),
            Workload::Types => self.types(),
            Workload::Zsets => self.zsets(),
            Workload::Streams => self.streams(),
            Workload::Values => self.values(),
            Workload::Fields => self.fields(),
            Workload::Sketches => self.sketches(),
            Workload::Pairs => self.pairs(),
            Workload::Databases => self.databases(0),
            Workload::History => self.history(),
            Workload::Groups => self.groups(),
            Workload::Scripts => self.scripted(Op::Script),
            Workload::Functions => self.functions(),
            Workload::Handoff => Op::RPush(self.key(0, "q"), self.value()),
            Workload::Rewrite => self.rewrite(),
        }
    }

    fn strings(&mut self) -> Op {
        let key = self.key(0, "s");
        match self.below(100) {
            0..3 => Op::Del(vec![key]),
            3..5 => Op::Del(vec![key, self.key(0, "s"), self.key(0, "s")]),
            5..12 => {
                let expires_at_ms = FAR_FUTURE_MS + u64::from(self.below(1_000_000));
                Op::Set(key, self.value(), Some(expires_at_ms))
            }
            12..16 => Op::Set(key, self.long_value(), None),
            _ => Op::Set(key, self.value(), None),
        }
    }

    fn counters(&mut self) -> Op {
        match self.below(100) {
            0..50 => Op::IncrBy(self.key(0, "n"), 1),
            50..65 => Op::IncrBy(self.key(0, "n"), i64::from(self.below(1000)) + 1),
            65..80 => {
                let more = format!(",{}", self.sequence).into_bytes();
                Op::Append(self.key(0, "a"), more)
            }
            80..82 => Op::Set(self.key(0, "a"), self.value(), None),
            _ => {
                let field = format!("f{}", self.below(4)).into_bytes();
                Op::HIncrBy(self.key(0, "h"), field, 1)
            }
        }
    }

    fn types(&mut self) -> Op {
        let field = format!("f{}", self.below(20)).into_bytes();
        match self.below(100) {
            0..30 => Op::RPush(self.key(0, "l"), self.value()),
            30..50 => Op::LPop(self.key(0, "l")),
            50..65 => Op::HSet(self.key(0, "h"), field, self.value()),
            65..80 => Op::SAdd(self.key(0, "m"), field),
            80..88 => Op::SRem(self.key(0, "m"), field),
            88..92 => Op::Del(vec![self.key(0, "l"), self.key(0, "h")]),
            92..94 => Op::Del(vec![self.key(0, "m")]),
            94..97 => Op::SAdd(self.key(0, "l"), field),
            _ => Op::IncrBy(self.key(0, "h"), 1),
        }
    }

    fn zsets(&mut self) -> Op {
        let key = self.key(0, "z");
        let member = format!("m{}", self.below(200)).into_bytes();
        let score = i64::from(self.below(1000)) - 500;
        Op::Typed(match self.below(100) {
            0..45 => TypedOp::ZAdd(key, score, member),
            45..60 => TypedOp::ZIncrBy(key, score, member),
            60..70 => TypedOp::ZRem(key, member),
            70..80 => TypedOp::ZPopMin(key),
            80..85 => TypedOp::GeoAdd(self.key(0, "g"), self.below(4) as usize, member),
            85..89 => TypedOp::ZUnionStore {
                to: self.key(0, "u"),
                from: [key, self.key(0, "g")],
            },
            89..92 => TypedOp::ZPopMin(self.key(0, "u")),
            92..94 => TypedOp::SetBit(key, 1, true),
            94..96 => return Op::Del(vec![key, self.key(0, "u")]),
            96..98 => return Op::Copy(key, self.key(0, "u")),
            _ => {
                return Op::Multi(vec![
                    Op::Typed(TypedOp::ZAdd(key.clone(), score, member.clone())),
                    Op::Typed(TypedOp::ZIncrBy(self.key(0, "z"), 1, member)),
                    Op::Typed(TypedOp::ZPopMin(key)),
                ]);
            }
        })
    }

    fn streams(&mut self) -> Op {
        let number = self.below(KEYS / 4);
        let key = own(self.connection, 0, &format!("t{number}"));
        // Entries of one stream are about this far apart.
        let earlier = self.sequence.saturating_sub(u64::from(self.below(300)));
        Op::Typed(match self.below(100) {
            0..45 => TypedOp::XAdd(key, self.sequence, self.value(), None),
            45..55 => TypedOp::XAdd(key, self.sequence, self.value(), Some(20)),
            55..62 => TypedOp::XDel(key, earlier),
            62..68 => TypedOp::XGroup(key),
            68..83 => {
                let consumer = ["c1", "c2"][self.below(2) as usize];
                TypedOp::XReadGroup(key, consumer, self.below(5) as usize + 1)
            }
            83..94 => TypedOp::XAck(key, earlier),
            94 => return Op::Del(vec![key]),
            95 => return Op::SAdd(key, b"m".to_vec()),
            96..98 => {
                let to = self.below(KEYS / 4);
                return Op::Copy(key, own(self.connection, 0, &format!("v{to}")));
            }
            _ => {
                return Op::Multi(vec![
                    Op::Typed(TypedOp::XGroup(key.clone())),
                    Op::Typed(TypedOp::XAdd(
                        key.clone(),
                        self.sequence,
                        self.value(),
                        None,
                    )),
                    Op::Typed(TypedOp::XReadGroup(key, "c1", 3)),
                ]);
            }
        })
    }

    fn values(&mut self) -> Op {
        let member = format!("m{}", self.below(30)).into_bytes();
        Op::Typed(match self.below(100) {
            0..35 => {
                let bit = self.below(3) > 0;
                TypedOp::SetBit(self.key(0, "b"), self.below(400) as usize, bit)
            }
            35..45 => TypedOp::Restore(self.key(0, "b")),
            45..70 => return Op::SAdd(self.key(0, "m"), member),
            70..78 => TypedOp::SPopAll(self.key(0, "m")),
            78..84 => TypedOp::ZAdd(self.key(0, "z"), 1, member),
            84..88 => return Op::HSet(self.key(0, "h"), member, self.value()),
            88..94 => {
                let from = ["b", "m", "z", "h"][self.below(4) as usize];
                let to = ["b", "m", "z", "h"][self.below(4) as usize];
                return Op::Rename(self.key(0, from), self.key(0, to));
            }
            94..98 => {
                let from = ["b", "m", "z", "h"][self.below(4) as usize];
                return Op::Copy(self.key(0, from), self.key(0, "y"));
            }
            _ => return Op::Del(vec![self.key(0, "b"), self.key(0, "m"), self.key(0, "y")]),
        })
    }

    fn pairs(&mut self) -> Op {
        let (a, b) = pair(self.connection, self.below(KEYS));
        let value = self.value();
        match self.below(100) {
            0..35 => Op::MSet(vec![(a, value.clone()), (b, value)]),
            35..65 => Op::Multi(vec![
                Op::Set(a, value.clone(), None),
                Op::IncrBy(self.key(0, "n"), 1),
                Op::Set(b, value, None),
            ]),
            65..70 => Op::Multi(vec![
                Op::RPush(self.key(0, "l"), value.clone()),
                Op::Del(vec![self.key(0, "x"), self.key(0, "x")]),
                Op::MSet(vec![(a, value.clone()), (b, value)]),
            ]),
            70..80 => Op::MSet((0..5).map(|_| (self.key(0, "x"), value.clone())).collect()),
            80..85 => Op::Rename(self.key(0, "x"), self.key(0, "x")),
            85..90 => {
                let from = self.key(0, "x");
                let to = self.key(0, "y");
                Op::Copy(from, to)
            }
            _ => Op::Set(self.key(0, "x"), value, None),
        }
    }

    /// Writes to two databases of its own, those of all connections beginning with `lowest`.
    fn databases(&mut self, lowest: u8) -> Op {
        let first = lowest + u8::try_from(2 * self.connection).unwrap_or(0);
        let here = first + u8::from(self.below(2) == 1);
        let there = if here == first { first + 1 } else { first };
        match self.below(1000) {
            0..600 => Op::Set(self.key(here, "s"), self.value(), None),
            600..750 => Op::IncrBy(self.key(here, "n"), 1),
            750..860 => Op::Multi(vec![
                Op::Set(self.key(here, "s"), self.value(), None),
                Op::IncrBy(self.key(there, "n"), 1),
                Op::Set(self.key(here, "s"), self.value(), None),
            ]),
            860..900 => Op::Copy(self.key(here, "s"), self.key(there, "s")),
            900..960 => Op::Del(vec![self.key(here, "s"), self.key(here, "n")]),
            960..980 => Op::SwapDb(first, first + 1),
            980..985 => Op::FlushDb(here),
            985..990 => Op::Multi(vec![
                Op::FlushDb(here),
                Op::Set(self.key(here, "s"), self.value(), None),
                Op::Set(self.key(there, "s"), self.value(), None),
            ]),
            _ => Op::RPush(self.key(here, "l"), self.value()),
        }
    }

    fn history(&mut self) -> Op {
        if self.below(4) == 0 {
            return Op::Set(self.key(0, "s"), self.value(), None);
        }
        self.records += 1;
        Op::Record(Record {
            connection: self.connection,
            number: self.records,
            own: last(self.connection),
            counter: shared_counter(),
            list: shared_list(),
        })
    }

    fn rewrite(&mut self) -> Op {
        match self.below(4000) {
            0 => {
                let number = self.below(HUGE_KEYS);
                let key = own(self.connection, 0, &format!("b{number}"));
                let fill = self.rng.random_range(HUGE_BYTES..2 * HUGE_BYTES);
                Op::Set(key, self.filled_value(fill), None)
            }
            1..1200 => {
                let number = self.below(MANY_KEYS);
                let key = own(self.connection, 0, &format!("f{number}"));
                Op::Set(key, self.value(), None)
            }
            1200..2000 => self.strings(),
            2000..2500 => self.counters(),
            2500..3000 => self.types(),
            3000..3200 => self.pairs(),
            3200..3300 => self.zsets(),
            3300..3400 => self.streams(),
            3400..3500 => self.values(),
            3500..3600 if self.fields_expire => self.fields(),
            3600..3650 => self.sketches(),
            // Database 0 holds the keys of all the others.
            _ => self.databases(1),
        }
    }

    fn key(&mut self, db: u8, kind: &str) -> DbKey {
        let number = self.below(KEYS);
        own(self.connection, db, &format!("{kind}{number}"))
    }

    fn value(&self) -> Vec<u8> {
        format!("{}:{}", self.connection, self.sequence).into_bytes()
    }

    fn long_value(&mut self) -> Vec<u8> {
        let fill = self.rng.random_range(100..5000);
        self.filled_value(fill)
    }

    fn filled_value(&self, fill: usize) -> Vec<u8> {
        let fill = "-".repeat(fill);
        format!("{}:{fill}:{}", self.connection, self.sequence).into_bytes()
    }
}

/// The counter of the shared history.
#[must_use]
pub fn shared_counter() -> DbKey {
    DbKey::new(0, "history:counter")
}

/// The list of the shared history.
#[must_use]
pub fn shared_list() -> DbKey {
    DbKey::new(0, "history:list")
}

fn last(connection: usize) -> DbKey {
    own(connection, 0, "last")
}

fn own(connection: usize, db: u8, name: &str) -> DbKey {
    DbKey::new(db, format!("c{connection}:{name}"))
}

fn pair(connection: usize, number: u32) -> (DbKey, DbKey) {
    (
        own(connection, 0, &format!("p{number}a")),
        own(connection, 0, &format!("p{number}b")),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_operations() {
        for workload in Workload::ALL {
            let run = || {
                let mut generator = Generator::new(workload, 1, 7);
                (0..500).map(|_| generator.next_op()).collect::<Vec<_>>()
            };
            assert_eq!(run(), run(), "{workload}");
        }
    }

    #[test]
    fn every_key_belongs_to_the_connection_that_writes_it() {
        for workload in Workload::ALL {
            let mut generator = Generator::new(workload, 3, 7);
            for _ in 0..2000 {
                let op = generator.next_op();
                if let crate::op::Touched::Keys(keys) = op.touched() {
                    for key in keys {
                        let shared = *key == shared_counter() || *key == shared_list();
                        assert!(shared || key.owner() == Some(3), "{key}");
                    }
                }
            }
        }
    }
}
