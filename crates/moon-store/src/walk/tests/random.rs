//! Random commands between random slices of the walk.

use super::*;
use crate::db::{Change, Deadline};
use proptest::prelude::*;

/// Keys have numbers below this; enough for several segments.
const KEYS: u32 = 2500;

#[derive(Clone, Debug)]
enum Op {
    Insert(DbIndex, u32, u8, usize, Option<i64>),
    InsertString(DbIndex, u32, usize),
    /// In place, if the key is there.
    Grow(DbIndex, u32, usize),
    GrowOrCreate(DbIndex, u32, usize),
    /// By `update`: keeps, replaces or removes.
    Update(DbIndex, u32, u8),
    SetDeadline(DbIndex, u32, Option<i64>),
    Remove(DbIndex, u32),
    Move(DbIndex, DbIndex, u32),
    Swap(DbIndex, DbIndex),
    Flush(DbIndex),
    Fill(DbIndex, u32, u32),
    Drain(DbIndex, u32, u32),
    Expire(DbIndex, i64),
    Touch(DbIndex, u32),
    // What follows has no effect on the keys.
    Walk(u32),
    Take(u32),
    WalkFirst(DbIndex, u32),
}

fn op() -> impl Strategy<Value = Op> {
    // Mostly few keys, so that the same ones change again and again.
    let key = || prop_oneof![0..40u32, 0..KEYS];
    let db = || prop_oneof![3 => 0..2u16, 1 => 0..4u16];
    let deadline = || prop::option::of(0..100i64);
    let len = || prop_oneof![3 => 0..20usize, 1 => 20..150usize];
    prop_oneof![
        8 => (db(), key(), 0..6u8, len(), deadline())
            .prop_map(|(d, k, kind, n, at)| Op::Insert(d, k, kind, n, at)),
        2 => (db(), key(), len()).prop_map(|(d, k, n)| Op::InsertString(d, k, n)),
        6 => (db(), key(), len()).prop_map(|(d, k, n)| Op::Grow(d, k, n)),
        4 => (db(), key(), len()).prop_map(|(d, k, n)| Op::GrowOrCreate(d, k, n)),
        4 => (db(), key(), 0..4u8).prop_map(|(d, k, what)| Op::Update(d, k, what)),
        4 => (db(), key(), deadline()).prop_map(|(d, k, at)| Op::SetDeadline(d, k, at)),
        4 => (db(), key()).prop_map(|(d, k)| Op::Remove(d, k)),
        4 => (db(), db(), key()).prop_map(|(a, b, k)| Op::Move(a, b, k)),
        1 => (db(), db()).prop_map(|(a, b)| Op::Swap(a, b)),
        1 => db().prop_map(Op::Flush),
        4 => (db(), key(), 0..1500u32).prop_map(|(d, k, n)| Op::Fill(d, k, n)),
        2 => (db(), key(), 0..2500u32).prop_map(|(d, k, n)| Op::Drain(d, k, n)),
        2 => (db(), 0..100i64).prop_map(|(d, now)| Op::Expire(d, now)),
        1 => (db(), key()).prop_map(|(d, k)| Op::Touch(d, k)),
        12 => (1..4u32).prop_map(Op::Walk),
        6 => (1..9u32).prop_map(Op::Take),
        3 => (db(), key()).prop_map(|(d, k)| Op::WalkFirst(d, k)),
    ]
}

fn value(kind: u8, n: usize) -> Value {
    match kind {
        0 => Value::from_int(n as i64),
        1 => Value::string(&vec![b's'; n * 5]),
        2 => list(n + 1),
        3 => set(n + 1),
        4 => hash(n + 1),
        _ => zset(n + 1),
    }
}

/// Runs the part of an operation that commands have.
fn apply(shard: &mut ShardData, op: &Op) {
    let key = |k: u32| name(k);
    match *op {
        Op::Insert(d, k, kind, n, at) => {
            let deadline: Deadline = at.map(UnixMs);
            shard
                .db(d)
                .insert(Key::new(&key(k)), value(kind, n), deadline);
        }
        Op::InsertString(d, k, n) => {
            shard
                .db(d)
                .insert_string(Key::new(&key(k)), &vec![b'i'; n * 5], None);
        }
        Op::Grow(d, k, n) => {
            if let Some(value) = shard.db(d).get_mut(Key::new(&key(k))) {
                grow(value, n);
            }
        }
        Op::GrowOrCreate(d, k, n) => {
            let kind = (k % 6) as u8;
            let there = shard
                .db(d)
                .get_or_insert_with(Key::new(&key(k)), || value(kind, 0));
            grow(there, n);
        }
        Op::Update(d, k, what) => shard.db(d).update(Key::new(&key(k)), |there, deadline| {
            let there = there.map(|value| grow(value, 3));
            let change = match what {
                0 => Change::Keep,
                1 if there.is_some() => Change::Overwritten(None),
                2 => Change::Remove,
                _ => Change::Store(Value::from_int(-1), deadline),
            };
            (change, ())
        }),
        Op::SetDeadline(d, k, at) => {
            shard.db(d).set_deadline(Key::new(&key(k)), at.map(UnixMs));
        }
        Op::Remove(d, k) => {
            shard.db(d).remove(Key::new(&key(k)));
        }
        Op::Move(from, to, k) => {
            let name = key(k);
            let name = Key::new(&name);
            if from != to
                && !shard.db(to).contains(name)
                && let Some((value, deadline)) = shard.db(from).remove(name)
            {
                shard.db(to).insert(name, value, deadline);
            }
        }
        Op::Swap(a, b) => shard.swap_dbs(a, b),
        Op::Flush(d) => shard.flush(d),
        Op::Fill(d, k, n) => fill(shard, d, k..k + n),
        Op::Drain(d, k, n) => (k..k + n).for_each(|k| apply(shard, &Op::Remove(d, k))),
        Op::Expire(d, now) => {
            let mut gone = vec![];
            shard.db(d).pop_expired(UnixMs(now), 40, &mut gone);
            for key in gone {
                shard.db(d).remove(Key::new(&key));
            }
        }
        Op::Touch(d, k) => {
            shard.db(d).get_and_touch(Key::new(&key(k)));
        }
        Op::Walk(_) | Op::Take(_) | Op::WalkFirst(..) => {}
    }
}

/// Runs the part of an operation that concerns the walk.
fn walk(shard: &mut ShardData, receiver: &mut Receiver, op: &Op) {
    match *op {
        Op::Walk(steps) => {
            let mut left = steps;
            shard.walk(&mut || {
                left -= 1;
                left == 0
            });
        }
        Op::Take(chunks) => {
            for chunk in (0..chunks).map_while(|_| shard.take_image()) {
                receiver.put(chunk);
            }
        }
        Op::WalkFirst(d, k) => {
            let name = name(k);
            shard.walk_first(d, Key::new(&name));
        }
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Scenarios 21, 22, 85, 86, 87, 88, 91, 92.
    #[test]
    fn the_image_is_the_state_at_the_cut_whatever_happens_meanwhile(
        before in prop::collection::vec(op(), 1..50),
        meanwhile in prop::collection::vec(op(), 1..120),
        limits in prop_oneof![
            Just(SMALL),
            Just(LIMITS),
            Just(WalkLimits { huge_bytes: 30, piece_bytes: 1, chunk_bytes: 100 }),
        ],
        compression in prop_oneof![Just(Compression::Off), Just(Compression::Lzf)],
    ) {
        let mut shard = shard();
        before.iter().for_each(|op| apply(&mut shard, op));
        let mut quiet = super::shard();
        before.iter().for_each(|op| apply(&mut quiet, op));

        let expected = state_of(&shard);
        shard.begin_walk_with(limits, compression);
        let mut receiver = Receiver::new();
        let mut keys_done = 0;
        for op in &meanwhile {
            apply(&mut shard, op);
            apply(&mut quiet, op);
            walk(&mut shard, &mut receiver, op);
            shard.dbs.iter().for_each(Db::self_check);
            let progress = shard.walk_progress();
            prop_assert_eq!(progress.keys_total, expected.len() as u64);
            prop_assert!((keys_done..=progress.keys_total).contains(&progress.keys_done));
            keys_done = progress.keys_done;
        }
        let image = receiver.finish(&mut shard);
        prop_assert!(image == expected, "the image differs");
        shard.end_walk();

        // The walk has no effect on the data.
        prop_assert!(state_of(&shard) == state_of(&quiet));
        prop_assert_eq!(shard.memory(), quiet.memory());
        shard.dbs.iter().for_each(Db::self_check);
    }
}
