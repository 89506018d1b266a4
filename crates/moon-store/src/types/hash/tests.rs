//! Hashes against a map.

use super::*;
use crate::thin::COUNT_MAX;
use proptest::prelude::*;
use std::collections::BTreeMap;

const LIMITS: PackLimits = PackLimits {
    entries: 8,
    value_bytes: 16,
};

const LIMITS_OF_REDIS: PackLimits = PackLimits {
    entries: 128,
    value_bytes: 64,
};

fn plain<'a>(name: &'a [u8], value: &'a [u8]) -> Field<'a> {
    Field {
        name,
        value,
        deadline: None,
    }
}

fn text() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => (0..24_u8).prop_map(|n| vec![b'f', n]),
        1 => (0..20_usize).prop_map(|n| vec![b'x'; n * 20]),
    ]
}

#[derive(Clone, Debug)]
enum Step {
    Set(Vec<u8>, Vec<u8>),
    SetKeeping(Vec<u8>, Vec<u8>),
    Push(Vec<u8>, Vec<u8>, Deadline),
    Deadline(Vec<u8>, Deadline),
    Remove(Vec<u8>),
}

fn deadline() -> impl Strategy<Value = Deadline> {
    prop_oneof![1 => Just(None), 3 => (0..20_i64).prop_map(|at| Some(UnixMs(at)))]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (text(), text()).prop_map(|(f, v)| Step::Set(f, v)),
        1 => (text(), text()).prop_map(|(f, v)| Step::SetKeeping(f, v)),
        2 => (text(), text(), deadline()).prop_map(|(f, v, at)| Step::Push(f, v, at)),
        3 => (text(), deadline()).prop_map(|(f, at)| Step::Deadline(f, at)),
        2 => text().prop_map(Step::Remove),
    ]
}

type Model = BTreeMap<Vec<u8>, (Vec<u8>, Deadline)>;

fn apply(
    hash: &mut Hash,
    model: &mut Model,
    limits: PackLimits,
    step: Step,
) -> Result<(), TestCaseError> {
    match step {
        Step::Set(field, value) => {
            let is_new = model.insert(field.clone(), (value.clone(), None)).is_none();
            prop_assert_eq!(hash.set(&field, &value, limits), is_new);
        }
        Step::SetKeeping(field, value) => {
            let deadline = model.get(&field).and_then(|(_, at)| *at);
            let is_new = (model.insert(field.clone(), (value.clone(), deadline))).is_none();
            let found = hash.set_keeping_deadline(&field, &value, limits);
            prop_assert_eq!(found, is_new);
        }
        Step::Push(field, value, deadline) => {
            if !hash.contains(&field) {
                let (name, value) = (field.as_slice(), value.as_slice());
                let pushed = Field {
                    name,
                    value,
                    deadline,
                };
                hash.push(pushed, limits);
                model.insert(field.clone(), (value.to_vec(), deadline));
            }
        }
        Step::Deadline(field, deadline) => {
            let there = model.get_mut(&field);
            prop_assert_eq!(hash.set_deadline(&field, deadline), there.is_some());
            if let Some((_, at)) = there {
                *at = deadline;
            }
        }
        Step::Remove(field) => {
            prop_assert_eq!(hash.remove(&field), model.remove(&field).is_some());
        }
    }
    Ok(())
}

type Sorted = Vec<(Vec<u8>, (Vec<u8>, Deadline))>;

fn sorted<'a>(fields: impl Iterator<Item = Field<'a>>) -> Sorted {
    let mut all: Vec<_> = fields
        .map(|f| (f.name.to_vec(), (f.value.to_vec(), f.deadline)))
        .collect();
    all.sort_unstable();
    all
}

fn same(hash: &Hash, model: &Model) -> Result<(), TestCaseError> {
    hash.self_check();
    prop_assert_eq!(hash.len(), model.len());
    let all: Vec<_> = model.clone().into_iter().collect();
    prop_assert_eq!(sorted(hash.fields()), all.clone());
    let mut cursor = Cursor::default();
    let by_cursor = std::iter::from_fn(|| hash.next_from(&mut cursor));
    prop_assert_eq!(sorted(by_cursor), all.clone());
    for (name, (value, at)) in model {
        let expected = Field {
            name,
            value,
            deadline: *at,
        };
        prop_assert_eq!(hash.field(name), Some(expected));
        prop_assert!(hash.contains(name));
    }
    let deadlines = || model.values().filter_map(|(_, at)| *at);
    prop_assert_eq!(hash.next_deadline(), deadlines().min());
    prop_assert_eq!(hash.volatile_len(), deadlines().count());
    for now in [UnixMs::BEFORE_ALL, UnixMs(0), UnixMs(7), UnixMs(19)] {
        let is_there = |at: &Deadline| at.is_none_or(|at| at > now);
        let live = hash.at(now);
        let expected: Vec<_> = all
            .iter()
            .filter(|(_, (_, at))| is_there(at))
            .cloned()
            .collect();
        prop_assert_eq!(live.len(), expected.len());
        prop_assert_eq!(live.is_empty(), expected.is_empty());
        prop_assert_eq!(
            hash.has_expired(now),
            expected.is_empty() && !all.is_empty()
        );
        prop_assert_eq!(live.whole().is_some(), expected.len() == all.len());
        prop_assert_eq!(sorted(live.iter()), expected);
        for (name, (value, at)) in model {
            prop_assert_eq!(live.get(name), is_there(at).then_some(value.as_slice()));
        }
        let mut gone: Vec<_> = hash.expired_fields(now).map(<[u8]>::to_vec).collect();
        gone.sort_unstable();
        let expected = all.iter().filter(|(_, (_, at))| !is_there(at));
        prop_assert_eq!(
            gone,
            expected.map(|(name, _)| name.clone()).collect::<Vec<_>>()
        );
    }
    Ok(())
}

proptest! {
    #[test]
    fn hash_behaves_like_a_map_with_deadlines(
        entries in 0_usize..24,
        steps in proptest::collection::vec(step(), 0..120),
    ) {
        let limits = PackLimits { entries, ..LIMITS };
        let mut hash = Hash::default();
        let mut model = BTreeMap::new();
        for step in steps {
            apply(&mut hash, &mut model, limits, step)?;
            if hash.encoding() != Encoding::Hashtable {
                prop_assert!(hash.len() <= entries);
            }
        }
        same(&hash, &model)?;
        same(&hash.clone(), &model)?;
    }
}

#[test]
fn a_small_hash_keeps_insertion_order() {
    let mut hash = Hash::default();
    for field in [b"c", b"a", b"b"] {
        hash.set(field, b"1", LIMITS);
    }
    hash.set(b"a", b"a longer value", LIMITS);
    let fields = |hash: &Hash| hash.iter().map(|(f, _)| f.to_vec()).collect::<Vec<_>>();
    assert_eq!(fields(&hash), [b"c", b"a", b"b"]);
    hash.set_deadline(b"a", Some(UnixMs(5)));
    assert_eq!(fields(&hash), [b"c", b"a", b"b"]);
}

#[test]
fn the_form_changes_beyond_the_thresholds_and_stays() {
    let mut hash = Hash::default();
    for field in 0..8_u8 {
        hash.set(&[field], &[b'v'; 16], LIMITS);
    }
    assert_eq!(hash.encoding(), Encoding::Listpack);
    hash.set_deadline(&[3], Some(UnixMs(5)));
    assert_eq!(hash.encoding(), Encoding::ListpackEx);
    hash.set_deadline(&[3], None);
    assert_eq!(hash.encoding(), Encoding::ListpackEx);
    hash.set(b"ninth", b"", LIMITS);
    assert_eq!(hash.encoding(), Encoding::Hashtable);
    hash.remove(b"ninth");
    assert_eq!(hash.encoding(), Encoding::Hashtable);

    let mut hash = Hash::default();
    hash.set(b"f", &[b'v'; 17], LIMITS);
    assert_eq!(hash.encoding(), Encoding::Hashtable);
}

#[test]
fn a_walk_by_cursor_sees_every_field_that_stays() {
    for entries in [8, 1000] {
        let limits = PackLimits { entries, ..LIMITS };
        let mut hash = Hash::default();
        for field in 0..100_u8 {
            hash.push(plain(&[field], b"v"), limits);
        }
        let mut seen = Vec::new();
        let mut cursor = 0;
        loop {
            cursor = hash.scan(cursor, 7, &mut |field| seen.push(field.name[0]));
            if cursor == 0 {
                break;
            }
            let step = u8::try_from(seen.len() % 50).expect("small");
            hash.remove(&[step * 2 + 1]);
            hash.set(&[b'n', step], b"v", limits);
        }
        for stays in (0..100).step_by(2) {
            assert!(seen.contains(&stays), "{stays} was skipped");
        }
    }
}

#[test]
fn ten_small_fields_take_one_byte_each_beside_their_content() {
    let mut hash = Hash::default();
    let mut content = 0;
    for field in 0..10 {
        let (name, value) = (format!("field{field}"), format!("value-{field}"));
        content += name.len() + value.len();
        hash.set(name.as_bytes(), value.as_bytes(), LIMITS_OF_REDIS);
    }
    assert_eq!((content, hash.memory()), (130, allocated(130 + 10)));
    hash.set(b"field3", b"a value that is longer", LIMITS_OF_REDIS);
    hash.remove(b"field7");
    assert_eq!(hash.memory(), allocated(130 + 10 + 15 - 14));
    for field in 0..9 {
        hash.remove(format!("field{field}").as_bytes());
    }
    assert_eq!(hash.memory(), 16, "one field of 14 bytes with its head");
}

#[test]
fn a_hash_of_more_fields_than_the_small_form_counts_is_a_table() {
    let limits = PackLimits {
        entries: usize::MAX,
        value_bytes: usize::MAX,
    };
    for more in [false, true] {
        let small = Small::of_empty_fields(COUNT_MAX - 1 + usize::from(more));
        let form = Form::Small(small);
        let mut hash = Hash { form };
        hash.set(b"one more", b"v", limits);
        assert_eq!(hash.encoding() == Encoding::Hashtable, more);
        assert_eq!(hash.get(b"one more"), Some(b"v".as_slice()));
    }
}

/// Lengths around those that the small form keeps in four bits, one byte and four.
#[test]
fn fields_of_every_length_come_back_from_the_small_form() {
    const LENGTHS: [usize; 10] = [0, 1, 12, 13, 14, 15, 16, 255, 256, 70_000];
    let limits = PackLimits {
        entries: 1000,
        value_bytes: 100_000,
    };
    for volatile in [false, true] {
        let mut hash = Hash::default();
        let text = |byte: u8, len: usize| vec![byte; len];
        for (from, name_len) in LENGTHS.into_iter().enumerate() {
            for value_len in LENGTHS {
                let name = [text(b'n', name_len), value_len.to_string().into_bytes()].concat();
                hash.set(&name, &text(b'o', LENGTHS[from]), limits);
                if volatile {
                    hash.set_deadline(&name, Some(UnixMs(value_len as i64)));
                }
                hash.set_keeping_deadline(&name, &text(b'v', value_len), limits);
                let deadline = volatile.then_some(UnixMs(value_len as i64));
                let value = text(b'v', value_len);
                let expected = Field {
                    name: &name,
                    value: &value,
                    deadline,
                };
                assert_eq!(hash.field(&name), Some(expected));
            }
        }
        assert_eq!(hash.len(), 100);
        assert_ne!(hash.encoding(), Encoding::Hashtable);
        hash.self_check();
    }
}

#[test]
fn deadlines_cost_nothing_where_there_are_none() {
    let mut hash = Hash::default();
    let mut bare = Hash::default();
    for field in 0..8_u8 {
        hash.set(&[field], b"v", LIMITS);
        bare.set(&[field], b"v", LIMITS);
    }
    hash.set_deadline(&[1], None);
    assert_eq!(hash.memory(), bare.memory());
    hash.set_deadline(&[1], Some(UnixMs(5)));
    assert!(hash.memory() > bare.memory());
}

#[test]
fn removing_fields_gives_the_memory_of_their_deadlines_back() {
    let mut hash = Hash::default();
    let mut bare = Hash::default();
    for field in 0..5000_u16 {
        let name = format!("a-field-with-a-long-name:{field}");
        let deadline = Some(UnixMs(field.into()));
        let field = plain(name.as_bytes(), b"v");
        bare.push(field, LIMITS);
        hash.push(Field { deadline, ..field }, LIMITS);
    }
    let full = hash.memory();
    assert!(full < bare.memory() + 5000 * 120, "{full} bytes");
    let names: Vec<Vec<u8>> = hash.iter().map(|(name, _)| name.to_vec()).collect();
    for name in &names[10..] {
        hash.remove(name);
    }
    assert!(hash.memory() < full / 20, "{} of {full}", hash.memory());
    hash.self_check();
}
