//! The database against a `BTreeMap`.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

type Model = BTreeMap<Vec<u8>, (Vec<u8>, Deadline)>;

fn text(value: &Value) -> Vec<u8> {
    value.as_bytes(&mut crate::IntText::new()).unwrap().to_vec()
}

/// Short, long and equal-prefix keys.
fn key_name(i: u32) -> Vec<u8> {
    match i % 3 {
        0 => format!("k{i}"),
        1 => format!("key:{i:012}"),
        _ => format!("a key that is too long to lie in place:{i}"),
    }
    .into_bytes()
}

fn contents(db: &Db) -> Model {
    let mut all = Model::new();
    db.for_each(&mut |key, value, deadline| {
        let old = all.insert(key.to_vec(), (text(value), deadline));
        assert!(old.is_none(), "for_each visits once");
    });
    all
}

#[derive(Clone, Debug)]
enum Op {
    Insert(u32, Vec<u8>, Option<i64>),
    Append(u32, Vec<u8>),
    AppendOrCreate(u32, Vec<u8>),
    KeepDeadline(u32, Vec<u8>),
    UpdateRemove(u32),
    SetDeadline(u32, Option<i64>),
    Remove(u32),
    /// Many keys from the first on, so that segments split.
    Fill(u32, u32),
    /// Removes all of a range, so that segments merge.
    Drain(u32, u32),
    Expire(i64, usize),
    Clear,
}

fn op() -> impl Strategy<Value = Op> {
    let key = || 0u32..4000;
    let bytes = || prop::collection::vec(any::<u8>(), 0..30);
    let deadline = || prop::option::of(0i64..1000);
    prop_oneof![
        8 => (key(), bytes(), deadline()).prop_map(|(k, v, d)| Op::Insert(k, v, d)),
        4 => (key(), bytes()).prop_map(|(k, v)| Op::Append(k, v)),
        4 => (key(), bytes()).prop_map(|(k, v)| Op::AppendOrCreate(k, v)),
        4 => (key(), bytes()).prop_map(|(k, v)| Op::KeepDeadline(k, v)),
        4 => key().prop_map(Op::UpdateRemove),
        4 => (key(), deadline()).prop_map(|(k, d)| Op::SetDeadline(k, d)),
        4 => key().prop_map(Op::Remove),
        3 => (key(), 0u32..3000).prop_map(|(k, n)| Op::Fill(k, n)),
        3 => (key(), 0u32..4000).prop_map(|(k, n)| Op::Drain(k, n)),
        2 => (0i64..1000, 1usize..50).prop_map(|(now, n)| Op::Expire(now, n)),
        1 => Just(Op::Clear),
    ]
}

fn apply(db: &mut Db, model: &mut Model, op: &Op) {
    match op {
        Op::Insert(k, v, d) => {
            let (name, d) = (key_name(*k), d.map(UnixMs));
            let old = db.insert(Key::new(&name), Value::string(v), d);
            let model_old = model.insert(name, (v.clone(), d));
            assert_eq!(old.as_ref().map(text), model_old.map(|o| o.0));
        }
        Op::Append(k, v) => {
            let name = key_name(*k);
            let there = db.get_mut(Key::new(&name)).map(|value| value.append(v));
            assert_eq!(there.is_some(), model.contains_key(&name));
            if let Some((old, _)) = model.get_mut(&name) {
                old.extend_from_slice(v);
            }
        }
        Op::AppendOrCreate(k, v) => {
            let name = key_name(*k);
            db.get_or_insert_with(Key::new(&name), || Value::string(b"new"))
                .append(v);
            let there = model.entry(name).or_insert((b"new".to_vec(), None));
            there.0.extend_from_slice(v);
        }
        Op::KeepDeadline(k, v) => {
            let name = key_name(*k);
            let seen = db.update(Key::new(&name), |there, deadline| {
                let seen = there.map(|value| (text(value), deadline));
                (Change::Store(Value::string(v), deadline), seen)
            });
            assert_eq!(seen.as_ref(), model.get(&name));
            model.entry(name).or_insert((vec![], None)).0.clone_from(v);
        }
        Op::UpdateRemove(k) => {
            let name = key_name(*k);
            let there = db.update(Key::new(&name), |value, _| {
                (
                    Change::Remove,
                    value.map(|value| value.append(b"on the way out")),
                )
            });
            assert_eq!(there.is_some(), model.remove(&name).is_some());
        }
        Op::SetDeadline(k, d) => {
            let (name, d) = (key_name(*k), d.map(UnixMs));
            let there = db.set_deadline(Key::new(&name), d);
            assert_eq!(there, model.contains_key(&name));
            if let Some((_, old)) = model.get_mut(&name) {
                *old = d;
            }
        }
        Op::Remove(k) => {
            let name = key_name(*k);
            let old = db.remove(Key::new(&name)).map(|(v, d)| (text(&v), d));
            assert_eq!(old, model.remove(&name));
        }
        Op::Fill(k, n) => {
            for i in *k..*k + *n {
                apply(db, model, &Op::Insert(i, i.to_string().into(), None));
            }
        }
        Op::Drain(k, n) => {
            for i in *k..*k + *n {
                apply(db, model, &Op::Remove(i));
            }
        }
        Op::Expire(now, budget) => {
            let now = UnixMs(*now);
            let mut found = vec![];
            let scan = db.pop_expired(now, *budget, &mut found);
            assert_eq!(scan.expired, found.len());
            assert!(scan.expired <= scan.examined && found.len() <= *budget);
            for name in found {
                let (_, deadline) = model.remove(&name[..]).expect("it is a key");
                assert!(
                    deadline.is_some_and(|at| at <= now),
                    "it is past its deadline"
                );
                assert!(db.remove(Key::new(&name)).is_some());
            }
        }
        Op::Clear => {
            let old = db.clear();
            old.self_check();
            assert_eq!(&contents(&old), model);
            model.clear();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn a_database_behaves_like_a_map(
        hint in prop_oneof![Just(0usize), 0usize..5000],
        ops in prop::collection::vec(op(), 1..60),
    ) {
        let mut db = Db::with_hint(hint);
        let mut model = Model::new();
        for op in &ops {
            apply(&mut db, &mut model, op);
            db.self_check();
            prop_assert_eq!(db.len(), model.len());
            prop_assert_eq!(db.is_empty(), model.is_empty());
            let volatile = model.values().filter(|(_, d)| d.is_some()).count();
            prop_assert_eq!(db.volatile_len(), volatile);
        }
        prop_assert_eq!(contents(&db), model.clone());
        for i in 0..4000 {
            let name = key_name(i);
            let key = Key::new(&name);
            let found = db.get(key).map(|(v, d)| (text(v), d));
            prop_assert_eq!(found.as_ref(), model.get(&name));
            prop_assert_eq!(db.contains(key), found.is_some());
        }
    }
}

#[test]
fn every_expired_key_is_found_by_repeated_calls_and_no_other() {
    let mut db = Db::default();
    for i in 0..20_000u32 {
        let deadline = (i % 4 != 0).then_some(UnixMs(i64::from(i % 4)));
        db.insert(Key::new(&key_name(i)), Value::from_int(0), deadline);
    }
    let mut left = 10_000;
    let mut calls = 0;
    while left > 0 {
        let mut expired = vec![];
        let scan = db.pop_expired(UnixMs(2), 100, &mut expired);
        assert!(scan.examined <= 2000, "{scan:?}");
        for key in &expired {
            let (_, deadline) = db.remove(Key::new(key)).unwrap();
            assert!(deadline.unwrap() <= UnixMs(2));
        }
        left -= expired.len();
        calls += 1;
        assert!(calls < 1000, "{left} left");
    }
    let mut expired = vec![];
    for _ in 0..200 {
        db.pop_expired(UnixMs(2), 100, &mut expired);
    }
    assert!(expired.is_empty());
    assert_eq!(db.volatile_len(), 5000);
    assert_eq!(db.average_ttl(UnixMs(-7)), 10);
    assert_eq!(db.average_ttl(UnixMs(100)), 0);
    db.self_check();
}

#[test]
fn memory_follows_changes_in_place() {
    let mut db = Db::default();
    let key = Key::new(b"k");
    db.insert(key, Value::string(b"x"), None);
    let before = db.memory();
    db.get_mut(key).unwrap().append(&[b'y'; 100_000]);
    assert!(db.memory() >= before + 100_000);
    db.get_mut(key).unwrap().append(&[b'y'; 100_000]);
    assert!(db.memory() >= before + 200_000);
    db.remove(key);
    assert!(db.memory() <= before);
    db.self_check();
}

#[test]
fn memory_comes_back_when_keys_leave() {
    let mut db = Db::default();
    let empty = db.memory();
    for i in 0..100_000 {
        db.insert(Key::new(&key_name(i)), Value::from_int(1), Some(UnixMs(1)));
    }
    assert!(db.memory() > 5_000_000);
    for i in 0..100_000 {
        db.remove(Key::new(&key_name(i)));
    }
    db.self_check();
    // A slab of the table stays, and a piece of the table of deadlines.
    assert!(db.memory() < empty + 200_000, "{}", db.memory());
}

fn at(seconds: u64) -> AccessRule {
    AccessRule::Recency {
        now: AccessClock::from_seconds(seconds),
    }
}

#[test]
fn access_clocks_are_kept_per_key() {
    let mut db = Db::default();
    db.set_access(at(100));
    let (a, b) = (Key::new(b"a"), Key::new(b"b"));
    db.insert(a, Value::from_int(1), None);
    db.insert(b, Value::from_int(1), Some(UnixMs(5)));
    let now = AccessClock::from_seconds(150);
    assert_eq!(db.idle_seconds(a, now), Some(50));
    db.set_access(at(150));
    assert!(db.touch(a));
    db.set_access(at(120));
    let (value, deadline) = db.get_and_touch(b).unwrap();
    assert_eq!((value.as_int(), deadline), (Some(1), Some(UnixMs(5))));
    assert_eq!(db.idle_seconds(a, now), Some(0));
    assert_eq!(db.idle_seconds(b, now), Some(30));
    assert_eq!(db.idle_seconds(Key::new(b"c"), now), None);
    assert!(!db.touch(Key::new(b"c")));
}

#[test]
fn warming_changes_nothing() {
    let mut db = Db::default();
    for i in 0..5000 {
        db.insert(
            Key::new(&key_name(i)),
            Value::string(&[b'v'; 200]),
            Some(UnixMs(1)),
        );
    }
    let names: Vec<_> = (0..6000).map(key_name).collect();
    let keys: Vec<_> = names.iter().map(|n| Key::new(n)).collect();
    let before = contents(&db);
    db.warm(&keys, |number| if number == 0 { &[b"x"] } else { &[] });
    db.warm(&[], |_| &[]);
    assert_eq!(contents(&db), before);
    db.self_check();
}
