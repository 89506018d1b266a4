//! The image against a copy of the state at the cut.

use super::*;
use crate::image::encode_entry;
use crate::types::stream::{BlockLimits, Pending, Stream, StreamId};
use crate::types::{End, Hash, List, NodeLimit, PackLimits, Set, SetLimits, ZSet};
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
    Hash(BTreeMap<Vec<u8>, (Vec<u8>, Option<i64>)>),
    /// Members and the bits of their scores.
    ZSet(BTreeMap<Vec<u8>, u64>),
    Stream(Box<moon_rdb::RdbStream>),
}

/// Keys by database number.
type State = BTreeMap<(u32, Vec<u8>), (Plain, Option<i64>)>;

fn plain(value: &Value) -> Plain {
    match value {
        Value::Int(_) | Value::Str(_) => {
            Plain::String(value.as_bytes(&mut IntText::new()).unwrap().to_vec())
        }
        Value::List(list) => Plain::List(list.to_vecs()),
        Value::Set(set) => {
            let mut members: Vec<_> = set.iter().map(|member| member.to_vec()).collect();
            members.sort();
            Plain::Set(members)
        }
        Value::Hash(hash) => {
            let fields = hash.fields().map(|field| {
                let deadline = field.deadline.map(|at| at.0);
                (field.name.to_vec(), (field.value.to_vec(), deadline))
            });
            Plain::Hash(fields.collect())
        }
        Value::ZSet(zset) => {
            let members = zset.iter().map(|(m, score)| (m.to_vec(), score.to_bits()));
            Plain::ZSet(members.collect())
        }
        Value::Stream(stream) => Plain::Stream(Box::new(stream.to_rdb())),
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
                RdbValue::Hash(fields) => {
                    let fields = fields.into_iter().map(|(f, v)| (f, (v, None)));
                    Plain::Hash(fields.collect())
                }
                RdbValue::VolatileHash(fields) => {
                    let fields = fields.into_iter().map(|(f, v, at)| (f, (v, at)));
                    Plain::Hash(fields.collect())
                }
                RdbValue::ZSet(members) => {
                    let members = members.into_iter().map(|(m, score)| (m, score.to_bits()));
                    Plain::ZSet(members.collect())
                }
                RdbValue::Stream(stream) => Plain::Stream(stream),
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

fn value_len(value: &Value) -> usize {
    match value {
        Value::List(list) => list.len(),
        Value::Set(set) => set.len(),
        Value::Hash(hash) => hash.len(),
        Value::ZSet(zset) => zset.len(),
        Value::Stream(stream) => stream.len(),
        string => string.str_len().unwrap(),
    }
}

/// Makes a value longer by about `n` of what it consists of.
fn grow(value: &mut Value, n: usize) {
    let len = value_len(value);
    for i in len..len + n {
        let element = format!("{i}").repeat(1 + i % 7);
        match value {
            Value::List(list) => {
                let end = if i % 2 == 0 { End::Left } else { End::Right };
                let nodes = NodeLimit::from_setting(5).with_compress_depth(i % 3);
                list.push(end, element.as_bytes(), nodes);
            }
            Value::Set(set) => {
                set.add(element.as_bytes(), SET);
            }
            Value::Hash(hash) => {
                let field = format!("{}", i * 7 % 50_021);
                hash.set(field.as_bytes(), element.as_bytes(), PACK);
                if i % 5 == 4 {
                    let deadline = UnixMs(1_700_000_000_000 + i as i64 * 977 % 10_007);
                    hash.set_deadline(field.as_bytes(), Some(deadline));
                }
            }
            Value::ZSet(zset) => {
                let member = format!("{}", i * 7 % 50_021);
                zset.set(member.as_bytes(), i as f64 / 3.0, PACK);
            }
            Value::Stream(stream) => grow_stream(stream, element.as_bytes()),
            Value::Int(_) | Value::Str(_) => {
                value.append(b"+");
            }
        }
    }
}

/// Adds an entry, pending for one of some consumers of a group.
fn grow_stream(stream: &mut Stream, value: &[u8]) {
    let last = stream.last_id();
    let id = StreamId::new(last.ms + 1, 0);
    let limits = BlockLimits {
        bytes: 4096,
        entries: 100,
    };
    stream.append(id, [(&b"field"[..], value)].into_iter(), limits);
    stream.create_group(b"group", StreamId::MIN, None);
    stream.change_group(b"group", |group| {
        let name = (id.ms % 50).to_string();
        let (consumer, _) = group.create_consumer(name.as_bytes(), 7);
        group.active(consumer, 7);
        let pending = Pending {
            consumer,
            delivered_ms: 7,
            deliveries: 1,
        };
        group.set_pending(id, pending);
    });
}

fn list(n: usize) -> Value {
    let mut value = Value::List(Box::default());
    grow(&mut value, n);
    value
}

fn set(n: usize) -> Value {
    let mut set = Set::for_first(b"0", 1, SET);
    if n > 20 {
        set.add(b"no number", SET);
    }
    let mut value = Value::Set(set);
    grow(&mut value, n);
    value
}

fn hash(n: usize) -> Value {
    let mut value = Value::Hash(Hash::default());
    grow(&mut value, n);
    value
}

fn zset(n: usize) -> Value {
    let mut value = Value::ZSet(Box::default());
    grow(&mut value, n);
    value
}

mod huge;
mod random;

/// Walks in steps of one table segment or piece until everything is encoded and taken.
fn in_small_steps(shard: &mut ShardData) -> State {
    let mut receiver = Receiver::new();
    while !shard.walk_is_done() {
        shard.walk(&mut || true);
        receiver.take_all(shard);
    }
    receiver.finish(shard)
}

#[test]
fn the_image_of_a_quiet_shard_is_its_state() {
    let mut shard = shard();
    fill(&mut shard, 0, 0..5000);
    fill(&mut shard, 2, 0..50);
    for (i, value) in [
        list(3),
        list(90),
        set(5),
        set(90),
        hash(4),
        hash(90),
        zset(4),
        zset(90),
    ]
    .into_iter()
    .enumerate()
    {
        shard.db(3).insert(Key::new(&[i as u8]), value, None);
    }
    let expected = state_of(&shard);
    shard.begin_walk(Compression::Off);
    assert!(in_small_steps(&mut shard) == expected);
    let progress = shard.walk_progress();
    assert_eq!((progress.keys_done, progress.keys_total), (5058, 5058));
    shard.end_walk();
    assert!(!shard.is_walking());
    assert_eq!(shard.walk_progress(), WalkProgress::default());
}

#[test]
fn a_walk_through_nothing_is_done_at_once() {
    let mut shard = shard();
    shard.begin_walk(Compression::Off);
    assert!(shard.is_walking() && shard.walk_is_done());
    fill(&mut shard, 0, 0..2000);
    assert!(Receiver::new().finish(&mut shard).is_empty());
}

#[test]
fn the_walk_rests_while_its_bytes_wait() {
    let mut shard = shard();
    fill(&mut shard, 0, 0..3000);
    shard.begin_walk_with(SMALL, Compression::Off);
    shard.walk(&mut || false);
    let waiting = shard.image_bytes();
    assert!((SMALL.chunk_bytes..40_000).contains(&waiting), "{waiting}");
    shard.walk(&mut || false);
    assert_eq!(shard.image_bytes(), waiting);
    assert!(!shard.walk_is_done());
    let mut taken = 0;
    while let Some(chunk) = shard.take_image() {
        taken += chunk.bytes.len();
    }
    assert_eq!((taken, shard.image_bytes()), (waiting, 0));
}

/// What the tests here rely on: without the hook, the image is not the state at the cut.
#[test]
fn a_change_that_bypasses_the_hook_spoils_the_image() {
    let mut shard = shard();
    fill(&mut shard, 0, 0..3000);
    let expected = state_of(&shard);
    shard.begin_walk_with(SMALL, Compression::Off);
    shard.walk(&mut || true);
    let walk = shard.db(0).walk_slot().take();
    for i in 0..3000 {
        let key = name(i);
        shard.db(0).insert(Key::new(&key), Value::from_int(7), None);
    }
    *shard.db(0).walk_slot() = walk;
    let image = Receiver::new().finish(&mut shard);
    assert_eq!(image.len(), expected.len());
    assert!(image != expected);
}

/// Scenarios 21, 86: an increment is in the image, or in what follows the cut, never in both.
#[test]
fn counters_in_the_image_have_their_value_at_the_cut() {
    let mut shard = shard();
    for i in 0..4000u32 {
        let key = name(i);
        shard
            .db(0)
            .insert(Key::new(&key), Value::from_int(10), None);
    }
    let expected = state_of(&shard);
    shard.begin_walk(Compression::Off);
    let mut receiver = Receiver::new();
    let mut round = 0;
    while !shard.walk_is_done() {
        round += 1;
        for i in (0..4000).filter(|i| i % 7 == round % 7) {
            let key = name(i);
            let counter = shard.db(0).get_mut(Key::new(&key)).unwrap();
            *counter = Value::from_int(counter.as_int().unwrap() + 1);
        }
        shard.walk(&mut || true);
        receiver.take_all(&mut shard);
    }
    assert!(round > 3);
    assert!(receiver.finish(&mut shard) == expected);
}

/// Scenarios 22, 85: written twice, deleted, created again, expired.
#[test]
fn a_key_that_changes_often_is_in_the_image_once_as_it_was() {
    let mut shard = shard();
    fill(&mut shard, 0, 0..3000);
    let expected = state_of(&shard);
    shard.begin_walk_with(SMALL, Compression::Off);
    let mut receiver = Receiver::new();
    for round in 0..6 {
        for i in 0..3100 {
            let key = name(i);
            let key = Key::new(&key);
            let db = shard.db(0);
            db.insert(key, Value::from_int(1), None);
            if i % 2 == round % 2 {
                db.remove(key);
            }
            if i % 3 == 0 {
                db.insert(key, Value::from_int(2), Some(UnixMs(1)));
            }
        }
        let mut gone = vec![];
        shard.db(0).pop_expired(UnixMs(1), 500, &mut gone);
        for key in gone {
            shard.db(0).remove(Key::new(&key));
        }
        shard.db(0).self_check();
        shard.walk(&mut || true);
        receiver.take_all(&mut shard);
    }
    assert!(receiver.finish(&mut shard) == expected);
}

/// Scenario 88: deadlines are those of the cut, also past ones; who loads decides.
#[test]
fn deadlines_in_the_image_are_those_at_the_cut() {
    let mut shard = shard();
    fill(&mut shard, 1, 0..3000);
    let expected = state_of(&shard);
    shard.begin_walk_with(SMALL, Compression::Off);
    for i in 0..3000 {
        let key = name(i);
        let deadline = (i % 2 == 0).then_some(UnixMs(-1));
        assert!(shard.db(1).set_deadline(Key::new(&key), deadline));
    }
    assert!(Receiver::new().finish(&mut shard) == expected);
}

/// Scenario 92: new keys split segments on both sides of the walk; mass deletes merge them.
#[test]
fn splits_and_merges_during_the_walk_lose_and_repeat_nothing() {
    let mut shard = shard();
    fill(&mut shard, 0, 0..6000);
    let expected = state_of(&shard);
    shard.begin_walk_with(SMALL, Compression::Off);
    let mut receiver = Receiver::new();
    let mut step = 0;
    while !shard.walk_is_done() {
        let grows = step % 4 < 2;
        for i in 0..3000 {
            let key = name(6000 + i);
            if grows {
                shard.db(0).insert(Key::new(&key), Value::from_int(0), None);
            } else {
                shard.db(0).remove(Key::new(&key));
                let old = name(i * 2 + step % 2);
                shard.db(0).remove(Key::new(&old));
            }
        }
        shard.db(0).self_check();
        shard.walk(&mut || true);
        receiver.take_all(&mut shard);
        step += 1;
    }
    assert!(step > 3, "the walk took {step} steps");
    assert!(receiver.finish(&mut shard) == expected);
}

/// Scenario 91: a mass delete during the walk; marks do not outlive the keys.
#[test]
fn deleting_everything_leaves_no_marks() {
    let mut shard = shard();
    fill(&mut shard, 0, 0..3000);
    let expected = state_of(&shard);
    shard.begin_walk_with(SMALL, Compression::Off);
    for i in 0..4000 {
        let key = name(i);
        shard.db(0).remove(Key::new(&key));
    }
    assert_eq!(shard.db(0).walked().unwrap().marks_len(), 0);
    assert!(Receiver::new().finish(&mut shard) == expected);
}

/// Scenario 87.
#[test]
fn databases_keep_their_number_at_the_cut() {
    let mut shard = shard();
    fill(&mut shard, 0, 0..2000);
    fill(&mut shard, 1, 1000..1500);
    let expected = state_of(&shard);
    shard.begin_walk_with(SMALL, Compression::Off);
    shard.walk(&mut || true);
    shard.swap_dbs(0, 1);
    fill(&mut shard, 0, 0..10);
    shard.swap_dbs(1, 3);
    assert!(Receiver::new().finish(&mut shard) == expected);
}

/// Scenario 87: what a flush removes stays until it is written, and is freed on the way.
#[test]
fn a_flushed_database_stays_with_the_walk_and_is_freed_by_it() {
    for steps_before in [0, 2, 100] {
        let mut shard = shard();
        fill(&mut shard, 0, 0..5000);
        shard.db(0).insert(Key::new(b"huge"), list(90), None);
        let expected = state_of(&shard);
        shard.begin_walk_with(SMALL, Compression::Off);
        let mut receiver = Receiver::new();
        for _ in 0..steps_before {
            shard.walk(&mut || true);
            receiver.take_all(&mut shard);
        }
        let was_done = shard.walk_is_done();
        let old = shard.take_all(0);
        assert_eq!(old.is_empty(), !was_done);
        assert!(shard.is_empty());
        assert!(!shard.is_held(0, Key::new(b"huge")));
        fill(&mut shard, 0, 0..100);
        // The new one can be flushed as ever.
        assert_eq!(shard.take_all(0).len(), 100);
        fill(&mut shard, 0, 50..60);
        while !shard.walk_is_done() {
            shard.walk(&mut || true);
            receiver.take_all(&mut shard);
            let kept = &shard.walk.as_ref().unwrap().flushed;
            kept.iter().for_each(Db::self_check);
        }
        let kept = &shard.walk.as_ref().unwrap().flushed;
        assert!(kept.iter().all(|db| db.is_empty()), "{kept:?}");
        assert!(receiver.finish(&mut shard) == expected);
    }
}

#[test]
fn an_aborted_walk_leaves_nothing_and_the_next_one_is_whole() {
    let mut shard = shard();
    fill(&mut shard, 0, 0..3000);
    shard.begin_walk_with(SMALL, Compression::Off);
    shard.walk(&mut || true);
    for i in 0..2000 {
        let key = name(i);
        shard.db(0).insert(Key::new(&key), Value::from_int(3), None);
    }
    shard.swap_dbs(0, 2);
    shard.end_walk();
    assert_eq!((shard.image_bytes(), shard.take_image()), (0, None));
    let expected = state_of(&shard);
    shard.begin_walk_with(SMALL, Compression::Off);
    assert!(Receiver::new().finish(&mut shard) == expected);
}

/// A collection without elements is no key of Redis; no command leaves one behind.
#[test]
fn an_empty_collection_is_not_in_the_image() {
    let mut out = vec![];
    encode_entry(&mut out, b"k", &list(0), Some(UnixMs(1)));
    assert!(out.is_empty());
    let mut shard = shard();
    shard.db(0).insert(Key::new(b"k"), list(0), None);
    shard.begin_walk(Compression::Off);
    assert!(Receiver::new().finish(&mut shard).is_empty());
}
