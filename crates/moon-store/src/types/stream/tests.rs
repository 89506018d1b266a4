//! Streams against a sorted map, and through an RDB file and back.

use super::*;
use moon_rdb::encode::Compressor;
use moon_rdb::{RdbInfo, RdbItem, RdbReader, RdbStream, RdbValue, RdbVersion, RdbWriter};
use proptest::prelude::*;

type Fields = Vec<(Vec<u8>, Vec<u8>)>;

const SMALL: BlockLimits = BlockLimits {
    bytes: 200,
    entries: 5,
};

fn pairs(fields: &Fields) -> impl Iterator<Item = (&[u8], &[u8])> + Clone {
    fields.iter().map(|(n, v)| (n.as_slice(), v.as_slice()))
}

fn text(entry: &Entry<'_>) -> Fields {
    let spelled = |element: moon_rdb::listpack::Element<'_>| {
        let mut out = Vec::new();
        element.spell(&mut out);
        out
    };
    let fields = entry.fields();
    fields.map(|(n, v)| (spelled(n), spelled(v))).collect()
}

fn id(ms: u64) -> StreamId {
    StreamId::new(ms, ms % 3)
}

fn contents(stream: &Stream) -> Vec<(StreamId, Fields)> {
    let all = stream.range(StreamId::MIN, StreamId::MAX);
    all.map(|entry| (entry.id, text(&entry))).collect()
}

#[derive(Clone, Debug)]
enum Step {
    Add { gap: u64, fields: Fields },
    Delete(u64),
    TrimTo(u64),
    TrimFrom(u64),
    TrimBlocks(u64, Option<u64>),
    Deliver(u64, u8),
    Acknowledge(u64),
    Forget(u8),
}

fn string() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        any::<i64>().prop_map(|n| n.to_string().into_bytes()),
        proptest::collection::vec(any::<u8>(), 0..40),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let name = prop_oneof![Just(b"a".to_vec()), Just(b"17".to_vec()), string()];
    let fields = proptest::collection::vec((name, string()), 1..4);
    prop_oneof![
        6 => (1..4u64, fields).prop_map(|(gap, fields)| Step::Add { gap, fields }),
        2 => (0..60u64).prop_map(Step::Delete),
        1 => (0..30u64).prop_map(Step::TrimTo),
        1 => (0..60u64).prop_map(Step::TrimFrom),
        1 => ((0..30u64), proptest::option::of(0..9u64)).prop_map(|(n, l)| Step::TrimBlocks(n, l)),
        2 => (0..60u64, 0..3u8).prop_map(|(ms, to)| Step::Deliver(ms, to)),
        1 => (0..60u64).prop_map(Step::Acknowledge),
        1 => (0..3u8).prop_map(Step::Forget),
    ]
}

fn apply(stream: &mut Stream, model: &mut BTreeMap<StreamId, Fields>, step: Step) {
    match step {
        Step::Add { gap, fields } => {
            let new = id(stream.last_id().ms + gap);
            stream.append(new, pairs(&fields), SMALL);
            model.insert(new, fields);
        }
        Step::Delete(ms) => {
            let was_there = model.remove(&id(ms)).is_some();
            assert_eq!(stream.contains(id(ms)), was_there);
            assert_eq!(stream.delete(id(ms)), was_there);
            assert!(stream.get(id(ms)).is_none());
        }
        Step::TrimTo(max) => {
            let before = model.len();
            while model.len() as u64 > max {
                model.pop_first();
            }
            let doomed = stream.trimmable(Keep::Newest(max), Precision::Exact, |_| true);
            let removed = stream.trim(Keep::Newest(max), Precision::Exact);
            assert_eq!(doomed.len() as u64, removed);
            assert_eq!(removed, (before - model.len()) as u64);
        }
        Step::TrimFrom(ms) => {
            let before = model.len();
            model.retain(|at, _| *at >= id(ms));
            let doomed = stream.trimmable(Keep::From(id(ms)), Precision::Exact, |_| true);
            let removed = stream.trim(Keep::From(id(ms)), Precision::Exact);
            assert_eq!(doomed.len() as u64, removed);
            assert_eq!(removed, (before - model.len()) as u64);
        }
        Step::TrimBlocks(max, limit) => {
            let doomed = stream.trimmable(Keep::Newest(max), Precision::Blocks(limit), |_| true);
            let removed = stream.trim(Keep::Newest(max), Precision::Blocks(limit));
            assert!(doomed.iter().eq(model.keys().take(doomed.len())));
            assert_eq!(doomed.len() as u64, removed);
            assert!(limit.is_none_or(|limit| removed <= limit));
            (0..removed).for_each(|_| drop(model.pop_first()));
            assert!(removed == 0 || model.len() as u64 >= max);
        }
        Step::Deliver(ms, to) => {
            stream.create_group(b"g", StreamId::MIN, Some(0));
            stream.change_group(b"g", |group| {
                let (consumer, _) = group.create_consumer(&[b'c', to], 5);
                let pending = Pending {
                    consumer,
                    delivered_ms: 7,
                    deliveries: ms,
                };
                group.set_pending(id(ms), pending);
                assert_eq!(group.pending()[&id(ms)], pending);
            });
        }
        Step::Acknowledge(ms) => {
            let acknowledged = stream.change_group(b"g", |group| group.acknowledge(id(ms)));
            stream.forget_pending(id(ms));
            assert!(
                acknowledged.is_none()
                    || !stream
                        .group(b"g")
                        .expect("there")
                        .pending()
                        .contains_key(&id(ms))
            );
        }
        Step::Forget(who) => {
            stream.change_group(b"g", |group| group.remove_consumer(&[b'c', who]));
        }
    }
}

/// Its image in one piece, and in pieces of about `len_max` bytes.
fn image(stream: &Stream, len_max: usize, mut compressor: Option<&mut Compressor>) -> Vec<u8> {
    let mut writer = StreamWriter::default();
    let mut all = Vec::new();
    loop {
        let mut piece = Vec::new();
        let done = writer.write(stream, &mut piece, len_max, compressor.as_deref_mut());
        assert!(!piece.is_empty(), "no piece is empty");
        all.extend_from_slice(&piece);
        if done {
            return all;
        }
    }
}

/// What a file reads as whose one key has this for its value.
fn read(kind: u8, image: &[u8]) -> Result<RdbStream, ()> {
    let mut writer = RdbWriter::header(Vec::new(), RdbVersion::V11).expect("a vector");
    writer.encoded(&[kind, 1, b'k']).expect("a vector");
    writer.encoded(image).expect("a vector");
    let file = writer.finish().expect("a vector");
    match RdbReader::new(file.as_slice()).next() {
        Some(Ok(RdbItem::Entry(entry))) => match entry.value {
            RdbValue::Stream(stream) => Ok(*stream),
            other => panic!("not a stream: {other:?}"),
        },
        _ => Err(()),
    }
}

fn assert_same(a: &Stream, b: &Stream) {
    assert_eq!(contents(a), contents(b));
    let history = |s: &Stream| {
        (
            s.len,
            s.first_id,
            s.last_id,
            s.max_deleted_id,
            s.entries_added,
        )
    };
    assert_eq!(history(a), history(b));
    let groups = |s: &Stream| -> Vec<_> {
        let group = |(name, group): (&[u8], &Group)| {
            let consumers: Vec<_> = group
                .consumers()
                .map(|c| (c.name().to_vec(), c.seen_ms, c.pending().clone()))
                .collect();
            let pending: Vec<_> = (group.pending().iter())
                .map(|(id, p)| (*id, p.delivered_ms, p.deliveries))
                .collect();
            (
                name.to_vec(),
                group.last_id,
                group.entries_read,
                consumers,
                pending,
            )
        };
        s.groups().map(group).collect()
    };
    assert_eq!(groups(a), groups(b));
}

proptest! {
    #[test]
    fn a_stream_behaves_like_a_sorted_map(
        steps in proptest::collection::vec(step(), 0..80),
        start in 0..70u64,
        end in 0..70u64,
    ) {
        let (mut stream, mut model) = (Stream::default(), BTreeMap::new());
        for step in steps {
            apply(&mut stream, &mut model, step);
            stream.self_check();
        }
        prop_assert_eq!(stream.len(), model.len());
        let expected: Vec<_> = model.clone().into_iter().collect();
        prop_assert_eq!(contents(&stream), expected);
        let (start, end) = (StreamId::new(start, 0), StreamId::new(end, 1));
        let mut expected: Vec<_> = Vec::new();
        if start <= end {
            expected.extend(model.range(start..=end).map(|(id, f)| (*id, f.clone())));
        }
        let found: Vec<_> = stream.range(start, end).map(|e| (e.id, text(&e))).collect();
        prop_assert_eq!(&found, &expected);
        expected.reverse();
        let found: Vec<_> = stream.range_back(start, end).map(|e| (e.id, text(&e))).collect();
        prop_assert_eq!(&found, &expected);
    }

    #[test]
    fn a_stream_comes_back_from_its_image(
        steps in proptest::collection::vec(step(), 0..60),
        len_max in 1..200usize,
    ) {
        let (mut stream, mut model) = (Stream::default(), BTreeMap::new());
        steps.into_iter().for_each(|step| apply(&mut stream, &mut model, step));
        let whole = image(&stream, usize::MAX, None);
        prop_assert_eq!(&image(&stream, len_max, None), &whole);
        for image in [whole, image(&stream, 100, Some(&mut Compressor::default()))] {
            let rdb = read(19, &image).expect("readable");
            let loaded = Stream::from_rdb(&rdb).expect("as commands make it");
            loaded.self_check();
            assert_same(&loaded, &stream);
        }
    }

    #[test]
    fn damaged_images_never_panic(
        steps in proptest::collection::vec(step(), 0..40),
        flips in proptest::collection::vec((any::<prop::sample::Index>(), 0..8u8), 1..4),
    ) {
        let (mut stream, mut model) = (Stream::default(), BTreeMap::new());
        steps.into_iter().for_each(|step| apply(&mut stream, &mut model, step));
        let mut image = image(&stream, usize::MAX, None);
        for (at, bit) in flips {
            let at = at.index(image.len());
            image[at] ^= 1 << bit;
        }
        for kind in [15, 19, 21] {
            let Ok(rdb) = read(kind, &image) else {
                continue;
            };
            let Ok(mut loaded) = Stream::from_rdb(&rdb) else {
                continue;
            };
            loaded.self_check();
            // What was let in works like any other.
            let last = loaded.last_id();
            if let Some(next) = last.next() {
                loaded.append(next, [(&b"n"[..], &b"v"[..])].into_iter(), SMALL);
            }
            loaded.trim(Keep::Newest(3), Precision::Exact);
            loaded.self_check();
        }
    }
}

fn filled(entries: u64) -> Stream {
    let mut stream = Stream::default();
    let limits = BlockLimits {
        bytes: 4096,
        entries: 100,
    };
    for ms in 1..=entries {
        let value = format!("value-{ms:010}");
        let fields = [(&b"name"[..], value.as_bytes())];
        stream.append(
            StreamId::new(1_700_000_000_000 + ms, 0),
            fields.into_iter(),
            limits,
        );
    }
    stream
}

#[test]
fn deleting_entries_gives_their_memory_back() {
    let mut stream = filled(10_000);
    let full = stream.memory();
    assert!(full < 10_000 * 34, "{full} bytes");
    let ids: Vec<StreamId> = stream
        .range(StreamId::MIN, StreamId::MAX)
        .map(|entry| entry.id)
        .collect();
    // Nine of ten in every block, so that no block goes as a whole.
    for (_, id) in ids.iter().enumerate().filter(|(at, _)| at % 10 != 0) {
        assert!(stream.delete(*id));
    }
    stream.self_check();
    assert!(stream.memory() < full / 4, "{} of {full}", stream.memory());
    assert_eq!(stream.trim(Keep::Newest(0), Precision::Exact), 1000);
    assert!(stream.memory() < 1000, "{} bytes", stream.memory());
}

#[test]
fn large_deleted_values_do_not_stay_in_the_last_block() {
    let mut stream = filled(10);
    let last = stream.last_id();
    let large = vec![b'x'; 1 << 20];
    let limits = BlockLimits {
        bytes: 0,
        entries: 0,
    };
    for next in 1..=2 {
        let id = StreamId::new(last.ms + next, 0);
        stream.append(id, [(&b"name"[..], large.as_slice())].into_iter(), limits);
    }
    for next in 1..=2 {
        stream.delete(StreamId::new(last.ms + next, 0));
    }
    stream.append(
        StreamId::new(last.ms + 9, 0),
        [(&b"n"[..], &b"v"[..])].into_iter(),
        limits,
    );
    stream.self_check();
    for entry in (1..=10).rev() {
        stream.delete(StreamId::new(1_700_000_000_000 + entry, 0));
    }
    assert!(stream.memory() < 4096, "{} bytes", stream.memory());
}

/// The newest form, which images do not have, is read, with the times of consumers.
#[test]
fn every_form_is_read() {
    let mut stream = filled(250);
    stream.create_group(b"g", stream.last_id(), Some(250));
    stream.change_group(b"g", |group| {
        let (consumer, _) = group.create_consumer(b"c", 1000);
        group.active(consumer, 900);
        group.create_consumer(b"idle", 500);
    });
    let rdb = read(19, &image(&stream, usize::MAX, None)).expect("readable");
    for (version, active) in [
        (RdbVersion::V9, [Some(1000), Some(500)]),
        (RdbVersion::V10, [Some(1000), Some(500)]),
        (RdbVersion::V11, [Some(900), None]),
    ] {
        let mut rdb = rdb.clone();
        rdb.groups[0].consumers[0].active_ms = 900;
        rdb.groups[0].consumers[1].active_ms = -1;
        let mut writer = RdbWriter::header(Vec::new(), version).expect("a vector");
        writer
            .info(&RdbInfo {
                redis_ver: "7.2.0",
                ctime_s: 0,
                used_mem_bytes: 0,
                aof_base: false,
                cut_lsn: None,
            })
            .expect("a vector");
        writer
            .entry(b"k", None, moon_rdb::RdbValueRef::Stream(&rdb))
            .expect("a vector");
        let file = writer.finish().expect("a vector");
        let found =
            RdbReader::new(file.as_slice()).find_map(|item| match item.expect("readable") {
                RdbItem::Entry(entry) => Some(entry.value),
                _ => None,
            });
        let Some(RdbValue::Stream(found)) = found else {
            panic!("no stream");
        };
        let loaded = Stream::from_rdb(&found).expect("as commands make it");
        assert_same(&loaded, &stream);
        let group = loaded.group(b"g").expect("there");
        let times: Vec<_> = group.consumers().map(|c| c.active_ms).collect();
        assert_eq!(times, active);
    }
}
