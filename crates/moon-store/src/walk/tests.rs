//! The image against a copy of the state at the cut.

use super::*;
use crate::db::{Change, Deadline};
use crate::types::{End, Hash, List, NodeLimit, PackLimits, Set, SetLimits};
use crate::value::{IntText, Value};
use moon_core::{ShardId, UnixMs};
use moon_rdb::{RdbItem, RdbReader, RdbValue, RdbVersion, RdbWriter};
use std::collections::BTreeMap;

const PACK: PackLimits = PackLimits {
    entries: 8,
    value_bytes: 64,
};
const SET: SetLimits = SetLimits {
    intset_entries: 8,
    pack: PACK,
};
/// Small enough that most collections and many strings of a test are huge.
const SMALL: WalkLimits = WalkLimits {
    huge_bytes: 300,
    piece_bytes: 50,
    chunk_bytes: 2000,
};

/// What a key holds, in a form that two equal values share.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Plain {
    String(Vec<u8>),
    List(Vec<Vec<u8>>),
    Set(Vec<Vec<u8>>),
    Hash(BTreeMap<Vec<u8>, Vec<u8>>),
}

/// Keys by database number.
type State = BTreeMap<(u32, Vec<u8>), (Plain, Option<i64>)>;

fn plain(value: &Value) -> Plain {
    match value {
        Value::Int(_) | Value::Str(_) => {
            Plain::String(value.as_bytes(&mut IntText::new()).unwrap().to_vec())
        }
        Value::List(list) => Plain::List(list.iter().map(<[u8]>::to_vec).collect()),
        Value::Set(set) => {
            let mut members: Vec<_> = set.iter().map(|member| member.to_vec()).collect();
            members.sort();
            Plain::Set(members)
        }
        Value::Hash(hash) => {
            let fields = hash.iter().map(|(f, v)| (f.to_vec(), v.to_vec()));
            Plain::Hash(fields.collect())
        }
    }
}

fn state_of(shard: &ShardData) -> State {
    let mut state = State::new();
    for (number, db) in (0..).zip(&shard.dbs) {
        db.for_each(&mut |key, value, deadline| {
            let kept = (plain(value), deadline.map(|at| at.0));
            state.insert((number, key.to_vec()), kept);
        });
    }
    state
}

/// Puts chunks together as the receiver of an image does.
struct Receiver {
    file: RdbWriter<Vec<u8>>,
    db: Option<DbIndex>,
    in_entry: bool,
}

impl Receiver {
    fn new() -> Receiver {
        Receiver {
            file: RdbWriter::header(Vec::new(), RdbVersion::V11).unwrap(),
            db: None,
            in_entry: false,
        }
    }

    fn put(&mut self, chunk: ImageChunk) {
        if self.db != Some(chunk.db) {
            assert!(!self.in_entry, "another database inside a value");
            self.file.select(u32::from(chunk.db)).unwrap();
            self.db = Some(chunk.db);
        }
        assert!(!chunk.bytes.is_empty(), "a chunk without bytes");
        self.file.encoded(&chunk.bytes).unwrap();
        self.in_entry = !chunk.ends_entry;
    }

    fn take_all(&mut self, shard: &mut ShardData) {
        while let Some(chunk) = shard.take_image() {
            self.put(chunk);
        }
    }

    /// Walks to the end and decodes the image.
    fn finish(mut self, shard: &mut ShardData) -> State {
        while !shard.walk_is_done() {
            shard.walk(&mut || false);
            self.take_all(shard);
        }
        self.take_all(shard);
        assert_eq!(shard.image_bytes(), 0);
        assert!(!self.in_entry, "the last value is complete");
        let file = self.file.finish().unwrap();
        let mut state = State::new();
        for item in RdbReader::new(&file[..]) {
            let RdbItem::Entry(entry) = item.expect("the image is valid") else {
                continue;
            };
            let value = match entry.value {
                RdbValue::String(bytes) => Plain::String(bytes),
                RdbValue::List(elements) => Plain::List(elements),
                RdbValue::Set(mut members) => {
                    members.sort();
                    Plain::Set(members)
                }
                RdbValue::Hash(fields) => Plain::Hash(fields.into_iter().collect()),
            };
            let at = (entry.db, entry.key);
            let old = state.insert(at, (value, entry.deadline));
            assert!(old.is_none(), "a key is in the image once");
        }
        state
    }
}

fn shard() -> ShardData {
    ShardData::new(ShardId(0), 4, false)
}

fn name(i: u32) -> Vec<u8> {
    match i % 3 {
        0 => format!("k{i}"),
        _ => format!("a key that is too long to lie in place:{i}"),
    }
    .into_bytes()
}

fn fill(shard: &mut ShardData, db: DbIndex, keys: std::ops::Range<u32>) {
    for i in keys {
        let deadline = (i % 5 == 0).then_some(UnixMs(i64::from(i)));
        let key = name(i);
        shard
            .db(db)
            .insert(Key::new(&key), Value::from_int(i64::from(i)), deadline);
    }
}

#[test]
fn the_image_of_a_quiet_shard_is_its_state() {
    let mut shard = shard();
    fill(&mut shard, 0, 0..5000);
    fill(&mut shard, 2, 0..50);
    let expected = state_of(&shard);
    shard.begin_walk();
    let image = Receiver::new().finish(&mut shard);
    assert!(image == expected);
    shard.end_walk();
    assert!(!shard.is_walking());
}
