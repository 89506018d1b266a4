//! A sorted set against an obvious one: a vector that is sorted after every change.

use super::*;
use proptest::prelude::*;
use std::ops::RangeBounds as _;

/// Members with scores, in order.
#[derive(Clone, Debug, Default)]
struct Model(Vec<(f64, Vec<u8>)>);

impl Model {
    fn position(&self, member: &[u8]) -> Option<usize> {
        self.0.iter().position(|(_, m)| m == member)
    }

    fn set(&mut self, member: &[u8], score: f64) -> Option<f64> {
        let before = self.position(member).map(|at| self.0[at].0);
        if before != Some(score) {
            self.0.retain(|(_, m)| m != member);
            self.0.push((score, member.to_vec()));
            self.0
                .sort_by(|a, b| a.partial_cmp(b).expect("no score is NaN"));
        }
        before
    }

    fn remove(&mut self, member: &[u8]) -> Option<f64> {
        self.position(member).map(|at| self.0.remove(at).0)
    }
}

fn limits(entries: usize) -> PackLimits {
    PackLimits {
        entries,
        value_bytes: 64,
    }
}

fn assert_same(zset: &ZSet, model: &Model) {
    zset.self_check();
    assert_eq!(zset.len(), model.0.len());
    let entries = model.0.iter().map(|(score, m)| (m.as_slice(), *score));
    assert!(zset.iter().eq(entries.clone()));
    assert!(zset.iter().rev().eq(entries.rev()));
    for (rank, (score, member)) in model.0.iter().enumerate() {
        assert_eq!(zset.score(member), Some(*score));
        assert_eq!(zset.rank(member), Some(rank));
    }
}

#[derive(Clone, Debug)]
enum Step {
    Set(Vec<u8>, f64),
    Remove(Vec<u8>),
    /// A rank and a count, as fractions of the length.
    RemoveRange(f64, f64),
}

fn member() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        20 => (0..400_u16).prop_map(|n| format!("m{n}").into_bytes()),
        4 => (0..400_u16).prop_map(|n| format!("{n:08}").into_bytes()),
        1 => (0..90_usize).prop_map(|n| vec![b'x'; n * 70]),
        1 => Just(Vec::new()),
    ]
}

fn score() -> impl Strategy<Value = f64> {
    prop_oneof![
        4 => (-3..4_i32).prop_map(f64::from),
        4 => (-40_000..40_000_i32).prop_map(f64::from),
        2 => any::<i32>().prop_map(f64::from),
        2 => -1e3..1e3_f64,
        1 => prop_oneof![Just(f64::INFINITY), Just(f64::NEG_INFINITY), Just(-0.0), Just(0.0)],
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        30 => (member(), score()).prop_map(|(m, s)| Step::Set(m, s)),
        8 => member().prop_map(Step::Remove),
        1 => (0.0..1.0, 0.0..0.4).prop_map(|(r, c)| Step::RemoveRange(r, c)),
    ]
}

fn share(of: usize, part: f64) -> usize {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a part of a length"
    )]
    let share = (of as f64 * part) as usize;
    share
}

fn apply(zset: &mut ZSet, model: &mut Model, step: Step, limits: PackLimits) {
    match step {
        Step::Set(member, score) => {
            assert_eq!(zset.set(&member, score, limits), model.set(&member, score));
        }
        Step::Remove(member) => assert_eq!(zset.remove(&member), model.remove(&member)),
        Step::RemoveRange(rank, count) => {
            let start = share(model.0.len(), rank);
            let end = (start + share(model.0.len(), count)).min(model.0.len());
            zset.remove_range(start..end);
            model.0.drain(start..end);
        }
    }
}

fn bound<T>(kind: u8, value: T) -> Bound<T> {
    match kind {
        0 => Bound::Unbounded,
        1 => Bound::Included(value),
        _ => Bound::Excluded(value),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn zset_behaves_like_a_sorted_vector(
        entries in prop_oneof![Just(0), Just(8), Just(1000)],
        steps in prop::collection::vec(step(), 0..900),
        ranges in prop::collection::vec((0..3_u8, score(), 0..3_u8, score()), 8),
    ) {
        let (mut zset, mut model) = (ZSet::default(), Model::default());
        for (at, step) in steps.into_iter().enumerate() {
            apply(&mut zset, &mut model, step, limits(entries));
            if at % 64 == 0 {
                assert_same(&zset, &model);
            }
        }
        assert_same(&zset, &model);
        for (min_kind, min, max_kind, max) in ranges {
            let (min, max) = (bound(min_kind, min), bound(max_kind, max));
            let is_in = |entry: &&(f64, Vec<u8>)| (min, max).contains(&entry.0);
            let expected: Vec<_> = model.0.iter().filter(is_in).map(|(_, m)| m.as_slice()).collect();
            let ranks = zset.ranks_by_score(min, max);
            let found: Vec<_> = zset.range(ranks).map(|(m, _)| m).collect();
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn members_with_one_score_lie_between_bounds_by_their_bytes(
        entries in prop_oneof![Just(0), Just(1000)],
        members in prop::collection::btree_set(member(), 0..400),
        ranges in prop::collection::vec((0..3_u8, member(), 0..3_u8, member()), 16),
    ) {
        let mut zset = ZSet::default();
        for member in &members {
            zset.set(member, 2.5, limits(entries));
        }
        zset.self_check();
        for (min_kind, min, max_kind, max) in ranges {
            let min = bound(min_kind, min.as_slice());
            let max = bound(max_kind, max.as_slice());
            let is_in = |m: &&[u8]| {
                (match min {
                    Bound::Included(min) => *m >= min,
                    Bound::Excluded(min) => *m > min,
                    Bound::Unbounded => true,
                }) && (match max {
                    Bound::Included(max) => *m <= max,
                    Bound::Excluded(max) => *m < max,
                    Bound::Unbounded => true,
                })
            };
            let expected: Vec<_> = members.iter().map(Vec::as_slice).filter(is_in).collect();
            for from in [Direction::Up, Direction::Down] {
                let ranks = zset.ranks_by_member(min, max, from);
                let found: Vec<_> = zset.range(ranks).map(|(m, _)| m).collect();
                prop_assert_eq!(&found, &expected);
            }
        }
    }
}

/// Enough members for three levels, in every order of coming and going.
#[test]
fn a_large_set_keeps_its_order_while_it_grows_and_shrinks() {
    const LEN: u32 = 20_000;
    let up: Vec<u32> = (0..LEN).collect();
    let down: Vec<u32> = (0..LEN).rev().collect();
    let mixed: Vec<u32> = (0..LEN).map(|n| n * 7919 % LEN).collect();
    for (adding, removing) in [
        (&up, &mixed),
        (&down, &up),
        (&mixed, &down),
        (&mixed, &mixed),
    ] {
        let mut zset = ZSet::default();
        let name = |n: u32| format!("member {n}").into_bytes();
        for n in adding {
            zset.set(&name(*n), f64::from(*n) / 8.0, limits(128));
        }
        zset.self_check();
        zset.clone().self_check();
        let full = zset.memory();
        for (n, rank) in (0..LEN).zip(0..).step_by(997) {
            assert_eq!(zset.rank(&name(n)), Some(rank));
            assert_eq!(
                zset.range(rank..rank + 1).next(),
                Some((&name(n)[..], f64::from(n) / 8.0))
            );
        }
        for (at, n) in removing.iter().enumerate() {
            assert_eq!(zset.remove(&name(*n)), Some(f64::from(*n) / 8.0));
            if at % 4096 == 0 {
                zset.self_check();
            }
            if at + 100 == removing.len() {
                assert!(zset.memory() < full / 20, "{} of {full}", zset.memory());
            }
        }
        zset.self_check();
        assert!(zset.is_empty());
    }
}

#[test]
fn a_score_may_change_everywhere() {
    let mut zset = ZSet::default();
    let mut model = Model::default();
    for n in 0..1000_u32 {
        let member = format!("{n:04}").into_bytes();
        zset.set(&member, f64::from(n), limits(0));
        model.set(&member, f64::from(n));
    }
    for n in 0..3000_u32 {
        let member = format!("{:04}", n * 7 % 1000).into_bytes();
        let score = match n % 4 {
            0 => f64::from(n * 7 % 1000) + 0.5,
            1 => f64::from(n % 13),
            2 => 1e9,
            _ => -f64::from(n),
        };
        assert_eq!(
            zset.set(&member, score, limits(0)),
            model.set(&member, score)
        );
    }
    assert_same(&zset, &model);
}

#[test]
fn removing_in_steps_shows_every_member_once() {
    for entries in [0, 1000] {
        let mut zset = ZSet::default();
        for n in 0..500_u32 {
            zset.set(&n.to_be_bytes(), 1.0, limits(entries));
        }
        let mut shown = Vec::new();
        while zset.remove_some(100, 300 - shown.len(), &mut |m, _| shown.push(m.to_vec())) > 0 {
            zset.self_check();
        }
        let expected: Vec<Vec<u8>> = (100..400_u32).map(|n| n.to_be_bytes().to_vec()).collect();
        assert_eq!((shown, zset.len()), (expected, 200));
        assert_eq!(zset.remove_some(200, 1, &mut |_, _| {}), 0);
        assert_eq!(zset.remove_some(5, 0, &mut |_, _| {}), 0);
    }
}

/// However scores and sizes change meanwhile.
#[test]
fn a_scan_visits_every_member_that_stays() {
    for entries in [0, 10_000] {
        let mut zset = ZSet::default();
        for n in 0..2000_u32 {
            zset.set(&n.to_be_bytes(), f64::from(n), limits(entries));
        }
        let mut seen = std::collections::BTreeSet::new();
        let (mut cursor, mut calls) = (0, 0_u32);
        loop {
            cursor = zset.scan(cursor, 10, &mut |member, score| {
                assert!(!score.is_nan());
                seen.insert(member.to_vec());
            });
            if cursor == 0 {
                break;
            }
            calls += 1;
            for n in (0..2000_u32).step_by(2).filter(|n| n % 64 == calls % 64) {
                zset.remove(&n.to_be_bytes());
                zset.set(&(n + 1).to_be_bytes(), -f64::from(calls), limits(entries));
            }
        }
        let stayed = (1..2000_u32).step_by(2).map(|n| n.to_be_bytes().to_vec());
        assert!(stayed.into_iter().all(|member| seen.contains(&member)));
        assert_eq!(calls > 50, entries == 0, "{calls} calls");
    }
}

/// A million members of 16 bytes may take at most 66 bytes each, all included; Redis takes 133.
#[test]
fn a_member_of_sixteen_bytes_takes_less_than_sixty_six() {
    const LEN: u32 = 100_000;
    let mut worst = 0;
    for fraction in [0.0, 0.25] {
        let mut zset = ZSet::default();
        for n in 0..LEN {
            let member = format!(
                "member:{:09}",
                n.wrapping_mul(2_654_435_761) % 1_000_000_000
            );
            let score = f64::from(n.wrapping_mul(40_503) % 1_000_000) + fraction;
            zset.set(member.as_bytes(), score, limits(128));
        }
        println!("{} bytes a member", zset.memory() / zset.len());
        worst = worst.max(zset.memory() / zset.len());
    }
    assert!(worst < 66, "{worst}");
}

#[test]
fn the_form_changes_beyond_the_thresholds_and_stays() {
    let mut zset = ZSet::default();
    for n in 0..8_u8 {
        zset.set(&[n; 64], 0.0, limits(8));
    }
    assert_eq!(zset.encoding(), Encoding::Listpack);
    zset.set(&[1; 64], 7.0, limits(8));
    assert_eq!(zset.encoding(), Encoding::Listpack, "no member is new");
    zset.set(b"ninth", 0.0, limits(8));
    assert_eq!(zset.encoding(), Encoding::Skiplist);
    zset.remove_range(1..9);
    assert_eq!((zset.encoding(), zset.len()), (Encoding::Skiplist, 1));
    let mut zset = ZSet::default();
    zset.set(&[0; 65], 0.0, limits(8));
    assert_eq!(zset.encoding(), Encoding::Skiplist);
}

/// As in Redis, where the small form writes scores as integers.
#[test]
fn a_zero_keeps_its_sign_in_the_large_form_only() {
    for (entries, minus) in [(0, -0.0_f64), (8, 0.0)] {
        let mut zset = ZSet::default();
        zset.set(b"minus", -0.0, limits(entries));
        zset.set(b"plus", 0.0, limits(entries));
        zset.set(b"a", 3.0, limits(entries));
        zset.set(b"minus", 0.0, limits(entries));
        let bits: Vec<u64> = zset.iter().map(|(_, score)| score.to_bits()).collect();
        assert_eq!(bits, [minus, 0.0, 3.0].map(f64::to_bits));
        assert_eq!(zset.rank(b"plus"), Some(1));
    }
}

/// Two members of an element's size do not make their neighbours expensive.
#[test]
fn long_members_lie_in_leaves_of_their_own() {
    let mut zset = ZSet::default();
    for n in 0..400_u32 {
        let len = if n % 50 == 0 { 100_000 } else { 10 };
        let member = [&n.to_be_bytes()[..], &vec![b'x'; len]].concat();
        zset.set(&member, 1.0, limits(0));
        zset.self_check();
    }
    let bytes: usize = zset.iter().map(|(member, _)| member.len()).sum();
    assert!(zset.memory() < 3 * bytes, "{} for {bytes}", zset.memory());
}
