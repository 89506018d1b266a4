//! The dictionary against a map.

use super::*;
use crate::memory::allocated;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// Entries whose first two bytes are their name.
#[derive(Clone, Copy, Debug)]
struct TwoBytes;

impl Entry for TwoBytes {
    fn name(entry: &[u8]) -> &[u8] {
        &entry[..2]
    }
}

fn of(names: std::ops::Range<u16>) -> Dict<TwoBytes> {
    let mut dict = Dict::default();
    for name in names {
        assert!(dict.put(&name.to_be_bytes()));
    }
    dict
}

fn number(entry: &[u8]) -> u16 {
    u16::from_be_bytes([entry[0], entry[1]])
}

/// Lengths on both sides of what lies in the buffer.
fn tail() -> impl Strategy<Value = Vec<u8>> {
    let len = prop_oneof![6 => 0..20_usize, 2 => 120..130_usize, 1 => 130..900_usize];
    (len, any::<u8>()).prop_map(|(len, byte)| vec![byte; len])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn dict_behaves_like_a_map(
        names in prop_oneof![Just(20_u16), Just(200), Just(2000)],
        steps in proptest::collection::vec((0..5_u8, any::<u16>(), tail()), 0..1500)
    ) {
        let mut dict = Dict::<TwoBytes>::default();
        let mut model = BTreeMap::<[u8; 2], Vec<u8>>::new();
        let third = steps.len() / 3;
        for (step, (what, name, tail)) in steps.into_iter().enumerate() {
            let name = (name % names).to_be_bytes();
            let entry = [&name[..], &tail].concat();
            // Removals are rare at first and frequent in the end.
            if usize::from(what) < step / third.max(1) + 1 {
                prop_assert_eq!(dict.remove(&name), model.remove(&name).is_some());
            } else if what == 4 {
                let is_new = !model.contains_key(&name);
                prop_assert_eq!(dict.add(&entry), is_new);
                model.entry(name).or_insert(entry);
            } else {
                prop_assert_eq!(dict.put(&entry), model.insert(name, entry).is_none());
            }
            prop_assert_eq!(dict.len(), model.len());
        }
        dict.self_check();
        dict.clone().self_check();
        for name in 0..names {
            let name = name.to_be_bytes();
            prop_assert_eq!(dict.get(&name), model.get(&name).map(Vec::as_slice));
        }
        let mut cursor = Cursor::default();
        let mut seen = BTreeSet::new();
        for entry in dict.iter() {
            prop_assert_eq!(dict.next_from(&mut cursor), Some(entry));
            prop_assert!(seen.insert(entry.to_vec()));
        }
        prop_assert_eq!(dict.next_from(&mut cursor), None);
        prop_assert!(seen.iter().eq(&model.into_values().collect::<BTreeSet<_>>()));
    }

    #[test]
    fn a_scan_visits_everything_that_stays(
        first in 1_u16..3000,
        counts in proptest::collection::vec(1..50_usize, 1..20),
        changes in proptest::collection::vec((any::<bool>(), 0..40_u16), 0..40),
    ) {
        // Those below 200 stay, whatever the others do.
        let mut dict = of(0..200);
        let mut last = 200;
        while last < first {
            dict.put(&last.to_be_bytes());
            last += 1;
        }
        let mut seen = BTreeSet::new();
        let (mut cursor, mut call) = (0, 0);
        loop {
            let count = counts[call % counts.len()];
            let mut visited = 0;
            cursor = dict.scan(cursor, count, &mut |entry| {
                seen.insert(number(entry));
                visited += 1;
            });
            prop_assert!(visited <= count, "{visited} of {count}");
            if cursor == 0 {
                break;
            }
            prop_assert!(call < 5000, "the scan does not end");
            if let Some((grow, by)) = changes.get(call) {
                for _ in 0..by * 8 {
                    if *grow {
                        dict.put(&last.to_be_bytes());
                        last += 1;
                    } else if last > 200 {
                        last -= 1;
                        dict.remove(&last.to_be_bytes());
                    }
                }
            }
            call += 1;
        }
        dict.self_check();
        for stays in 0..200 {
            prop_assert!(seen.contains(&stays), "{stays} was skipped");
        }
    }
}

#[test]
fn a_cursor_of_somebody_else_does_no_harm() {
    let dict = of(0..500);
    for cursor in [1, 12345, POSITION_END - 1, POSITION_END, u64::MAX] {
        assert!(dict.scan(cursor, 10, &mut |_| ()) < POSITION_END);
    }
    assert_eq!(Dict::<TwoBytes>::default().scan(99, 10, &mut |_| ()), 0);
    assert_eq!(dict.scan(0, usize::MAX, &mut |_| ()), 0);
}

#[test]
fn every_entry_is_as_likely_a_random_choice_as_any_other() {
    for len in [7_u16, 40, 300] {
        let dict = of(0..len);
        let mut times = vec![0_u32; usize::from(len)];
        for r in 0..u64::from(len) * 200 {
            let entry = dict.random(mixed(r)).expect("not empty");
            times[usize::from(number(entry))] += 1;
        }
        let (least, most) = (times.iter().min(), times.iter().max());
        assert!(
            least > Some(&140) && most < Some(&260),
            "{least:?} {most:?}"
        );
    }
}

/// A million members may take 37 bytes each, the allocator's own needs included.
#[test]
fn members_of_16_bytes_take_few_bytes_more() {
    #[derive(Clone, Copy, Debug)]
    struct Whole;
    impl Entry for Whole {
        fn name(entry: &[u8]) -> &[u8] {
            entry
        }
    }
    let mut dict = Dict::<Whole>::default();
    let mut largest: f64 = 0.0;
    for member in 0..100_000 {
        dict.add(format!("member:{member:09}").as_bytes());
        if member > 10_000 && member % 1000 == 0 {
            largest = largest.max(dict.memory() as f64 / dict.len() as f64);
        }
    }
    dict.self_check();
    assert!(largest < 26.0, "{largest} bytes per member");
}

#[test]
fn what_is_removed_gives_its_memory_back() {
    let mut dict = of(0..10_000);
    let full = dict.memory();
    for name in 10..10_000_u16 {
        dict.remove(&name.to_be_bytes());
    }
    assert!(dict.memory() < full / 50, "{} of {full}", dict.memory());
    dict.self_check();
    for name in 0..10_u16 {
        dict.remove(&name.to_be_bytes());
    }
    assert!(dict.memory() < 200, "{}", dict.memory());
}

/// However large the dictionary is, an insert or a removal moves at most two buckets.
#[test]
fn one_step_allocates_little() {
    let mut dict = Dict::<TwoBytes>::default();
    let bucket_max = allocated(4 * SPLIT_MEAN * 4);
    for name in 0..u16::MAX {
        let before = dict.memory();
        dict.put(&name.to_be_bytes());
        let chunk_max = CHUNK * size_of::<Bucket>();
        assert!(dict.memory() < before + chunk_max + 2 * bucket_max);
    }
    let fullest = dict.chunks.iter().flatten().map(Bucket::len).max();
    assert!(fullest < Some(4 * SPLIT_MEAN), "{fullest:?}");
}
