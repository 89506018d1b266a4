//! Shape of the table and what SCAN promises.

use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// An entry that chooses its own hash.
#[derive(Debug)]
struct Item {
    name: [u8; 8],
    hash: u64,
}

impl Keyed for Item {
    fn key(&self) -> &[u8] {
        &self.name
    }

    fn hash(&self) -> u64 {
        self.hash
    }
}

fn mixed(i: u64) -> u64 {
    let x = (i ^ (i >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 32)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 29)
}

fn add(table: &mut Table<Item>, i: u64, hash: u64) {
    let name = i.to_be_bytes();
    match table.entry(Key { bytes: &name, hash }) {
        Slot::Found(_) => {}
        Slot::Vacant(slot) => {
            slot.insert(Item { name, hash });
        }
    }
}

fn take(table: &mut Table<Item>, i: u64, hash: u64) -> bool {
    let name = i.to_be_bytes();
    table.remove(Key { bytes: &name, hash }).is_some()
}

fn number(item: &Item) -> u64 {
    u64::from_be_bytes(item.name)
}

#[test]
fn growth_keeps_segments_small_and_shrinking_gives_the_directory_back() {
    let mut table = Table::default();
    const N: u64 = 60_000;
    for i in 0..N {
        add(&mut table, i, mixed(i));
    }
    table.self_check();
    assert!(table.segments.iter().all(|s| s.len() <= SEGMENT_LEN_MAX));
    assert!(table.segments.len() < 200, "{}", table.segments.len());
    assert!(table.directory.len() <= 512, "{}", table.directory.len());
    for i in 0..N {
        assert!(take(&mut table, i, mixed(i)));
        if i % 1000 == 0 {
            table.self_check();
        }
    }
    table.self_check();
    assert!(table.segments.len() <= 2, "{}", table.segments.len());
}

/// Memory per key must not depend on where between two powers of two the table stands.
#[test]
fn memory_per_key_is_even_over_all_sizes() {
    let mut table = Table::default();
    let mut per_key = vec![];
    for i in 0..200_000 {
        add(&mut table, i, mixed(i));
        // Before that a single slab is too large a part.
        if i >= 100_000 && i % 5000 == 0 {
            per_key.push(table.allocated() as f64 / table.len() as f64);
        }
    }
    let bucket = size_of::<group::Group<Item>>() as f64 / group::SLOTS as f64;
    let (min, max) = per_key
        .iter()
        .fold((f64::MAX, 0f64), |(a, b), x| (a.min(*x), b.max(*x)));
    assert!(max / min < 1.08, "{min}..{max}");
    assert!(max < bucket * 1.35, "{max}");
}

#[test]
fn keys_with_one_hash_neither_split_forever_nor_get_lost() {
    let mut table = Table::default();
    for i in 0..3000 {
        add(&mut table, i, 42);
    }
    table.self_check();
    assert!(
        table.directory.len() <= 1 << 12,
        "{}",
        table.directory.len()
    );
    let mut seen = BTreeSet::new();
    let next = table.scan(0, 10, |item| assert!(seen.insert(number(item))));
    assert_eq!(seen.len(), 3000, "equal positions are never cut apart");
    assert_eq!(table.scan(next, 10, |_| panic!("all were visited")), 0);
    for i in 0..3000 {
        assert!(take(&mut table, i, 42));
    }
    table.self_check();
}

#[test]
fn a_hint_makes_room_for_its_keys_and_keeps_it() {
    let mut table = Table::with_hint(100_000);
    table.self_check();
    let segments = table.segments.len();
    for i in 0..100_000 {
        add(&mut table, i, mixed(i));
    }
    table.self_check();
    assert_eq!(table.segments.len(), segments, "no segment was split");
    for i in 0..100_000 {
        assert!(take(&mut table, i, mixed(i)));
    }
    table.self_check();
    assert_eq!(table.segments.len(), segments);
}

#[test]
fn a_scan_call_visits_about_count_entries() {
    let mut table = Table::default();
    for i in 0..30_000 {
        add(&mut table, i, mixed(i));
    }
    for count in [0, 1, 10, 100, 2500] {
        let (mut cursor, mut total, mut calls) = (0, 0, 0);
        loop {
            let mut visited = 0;
            cursor = table.scan(cursor, count, |_| visited += 1);
            assert!(cursor < CURSOR_END);
            assert!(visited <= count.max(1), "{visited} for {count}");
            total += visited;
            calls += 1;
            if cursor == 0 {
                break;
            }
            assert!(visited == count.max(1), "{visited} for {count}");
            if calls > 2000 {
                break;
            }
        }
        assert!(total == 30_000 || calls > 2000, "{total}");
    }
    for cursor in [u64::MAX, CURSOR_END, CURSOR_END - 1] {
        assert_eq!(table.scan(cursor, 10, |_| ()), 0, "any cursor is accepted");
    }
}

#[test]
fn random_reaches_every_entry_about_equally() {
    let mut table = Table::default();
    const N: usize = 4000;
    for i in 0..N as u64 {
        add(&mut table, i, mixed(i));
    }
    let mut hits = vec![0u32; N];
    for r in 0..N as u64 * 50 {
        let item = table.random(mixed(r + 1_000_000_007)).unwrap();
        hits[number(item) as usize] += 1;
    }
    let (min, max) = (hits.iter().min().unwrap(), hits.iter().max().unwrap());
    assert!(*min > 10 && *max < 120, "{min}..{max}");
    assert!(Table::<Item>::default().random(7).is_none());
}

#[derive(Clone, Debug)]
enum Step {
    Add(u64, u64),
    Take(u64, u64),
    Scan(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0u64..9000, 0u64..3000).prop_map(|(i, n)| Step::Add(i, n)),
        (0u64..9000, 0u64..6000).prop_map(|(i, n)| Step::Take(i, n)),
        prop_oneof![1usize..30, 100usize..2000].prop_map(Step::Scan),
        prop_oneof![1usize..30, 100usize..2000].prop_map(Step::Scan),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_scan_returns_every_entry_that_is_there_throughout(
        start in 0u64..9000,
        steps in prop::collection::vec(step(), 1..40),
        shift in prop_oneof![3 => Just(0u32), 1 => 0u32..50],
    ) {
        // A shift makes hashes uneven: most have equal top bits.
        let hash = |i: u64| mixed(i) >> shift;
        let mut table = Table::default();
        // Each entry with whether it was there since the scan began.
        let mut there: BTreeMap<u64, ()> = BTreeMap::new();
        for i in 0..start {
            add(&mut table, i, hash(i));
            there.insert(i, ());
        }
        let mut owed: BTreeSet<u64> = there.keys().copied().collect();
        let mut cursor = 0;
        for step in steps {
            match step {
                Step::Add(i, n) => {
                    for i in i..i + n {
                        add(&mut table, i, hash(i));
                        there.insert(i, ());
                    }
                }
                Step::Take(i, n) => {
                    for i in i..i + n {
                        prop_assert_eq!(take(&mut table, i, hash(i)), there.remove(&i).is_some());
                        owed.remove(&i);
                    }
                }
                Step::Scan(count) => {
                    cursor = table.scan(cursor, count, |item| {
                        assert!(there.contains_key(&number(item)), "nothing is invented");
                        owed.remove(&number(item));
                    });
                    if cursor == 0 {
                        prop_assert!(owed.is_empty(), "missed {:?}", owed);
                        owed = there.keys().copied().collect();
                    }
                }
            }
            table.self_check();
            prop_assert_eq!(table.len(), there.len());
        }
        for _ in 0..20_000 {
            cursor = table.scan(cursor, 50, |item| { owed.remove(&number(item)); });
            if cursor == 0 {
                break;
            }
        }
        prop_assert_eq!(cursor, 0, "a scan ends");
        prop_assert!(owed.is_empty(), "missed {:?}", owed);
        let all: BTreeSet<u64> = table.iter().map(number).collect();
        prop_assert!(all.iter().eq(there.keys()));
    }
}
