//! [`Waits`] against an obvious model: one list of all that wait, longest first, and one of the
//! keys that are ready.

use super::{DbKey, WaitOrder, Waiting, Waits};
use crate::shard::DbIndex;
use crate::value::Kind;
use proptest::prelude::*;
use std::any::Any;
use std::sync::Arc;

const KINDS: [Kind; 3] = [Kind::List, Kind::ZSet, Kind::Stream];
const DBS: DbIndex = 2;
const KEYS: u8 = 4;

#[derive(Debug)]
struct Client(u32);

impl Waiting for Client {}

/// One step; clients are numbered by their steps, so that each is another one.
#[derive(Clone, Debug)]
enum Step {
    Add(DbKey, Kind, WaitOrder),
    Remove(DbKey, WaitOrder),
    /// All that wait for a key from the first behind this one on.
    Walk(DbKey, Kind, Option<WaitOrder>),
    Changed(DbKey),
    /// As a flush or SWAPDB: the keys below this one.
    ChangedBelow(DbIndex, u8),
    TakeReady,
}

fn key() -> impl Strategy<Value = DbKey> {
    let name = |key: u8| vec![key].into_boxed_slice();
    (0..DBS, 0..KEYS).prop_map(move |(db, key)| (db, name(key)))
}

fn kind() -> impl Strategy<Value = Kind> {
    prop::sample::select(&KINDS[..])
}

fn step() -> impl Strategy<Value = Step> {
    let order = 0..8_u64;
    prop_oneof![
        4 => (key(), kind(), order.clone()).prop_map(|(k, kind, n)| Step::Add(k, kind, n)),
        3 => (key(), order.clone()).prop_map(|(k, n)| Step::Remove(k, n)),
        2 => (key(), kind(), prop::option::of(order)).prop_map(|(k, kind, n)| Step::Walk(k, kind, n)),
        4 => key().prop_map(Step::Changed),
        1 => (0..DBS, 0..=KEYS).prop_map(|(db, n)| Step::ChangedBelow(db, n)),
        3 => Just(Step::TakeReady),
    ]
}

/// What [`Waits`] must do, in the simplest way.
#[derive(Debug, Default)]
struct Model {
    waiting: Vec<(DbKey, Kind, WaitOrder, u32)>,
    /// With the change that made it ready: of one change of many keys, any may come first.
    ready: Vec<(DbKey, usize)>,
}

impl Model {
    fn add(&mut self, key: &DbKey, kind: Kind, order: WaitOrder, client: u32) {
        self.waiting
            .retain(|(k, of, n, _)| (k, *of, *n) != (key, kind, order));
        self.waiting.push((key.clone(), kind, order, client));
        self.waiting.sort_by_key(|(_, _, order, _)| *order);
    }

    fn is_waited_for(&self, key: &DbKey) -> bool {
        self.waiting.iter().any(|(k, ..)| k == key)
    }

    fn remove(&mut self, key: &DbKey, order: WaitOrder) {
        self.waiting.retain(|(k, _, n, _)| (k, *n) != (key, order));
        if !self.is_waited_for(key) {
            self.ready.retain(|(ready, _)| ready != key);
        }
    }

    fn walk(&self, key: &DbKey, kind: Kind, after: Option<WaitOrder>) -> Vec<(WaitOrder, u32)> {
        let all = self.waiting.iter();
        let of_key = all.filter(|(k, of, n, _)| (k, *of) == (key, kind) && Some(*n) > after);
        of_key
            .map(|(_, _, order, client)| (*order, *client))
            .collect()
    }

    fn changed(&mut self, key: &DbKey, change: usize) {
        let is_ready = self.ready.iter().any(|(ready, _)| ready == key);
        if self.is_waited_for(key) && !is_ready {
            self.ready.push((key.clone(), change));
        }
    }

    /// Takes `key` out of the ready ones; false if it was not its turn.
    fn take(&mut self, key: &DbKey) -> bool {
        let Some(first) = self.ready.first().map(|(_, change)| *change) else {
            return false;
        };
        let is_it = |(ready, change): &(DbKey, usize)| *change == first && ready == key;
        let at = self.ready.iter().position(is_it);
        at.map(|at| self.ready.remove(at)).is_some()
    }
}

fn walk(
    waits: &mut Waits,
    (db, key): &DbKey,
    kind: Kind,
    mut after: Option<WaitOrder>,
) -> Vec<(WaitOrder, u32)> {
    let mut found = Vec::new();
    while let Some((order, client)) = waits.next(*db, key, kind, after) {
        let client = (&*client as &dyn Any).downcast_ref::<Client>();
        found.push((order, client.expect("the only kind here").0));
        after = Some(order);
    }
    found
}

proptest! {
    #[test]
    fn who_waits_and_what_is_ready_is_as_in_the_model(
        steps in prop::collection::vec(step(), 1..80),
    ) {
        let (mut waits, mut model) = (Waits::default(), Model::default());
        for (number, step) in (0_u32..).zip(&steps) {
            let change = number as usize;
            match step {
                Step::Add(key, kind, order) => {
                    waits.add(key.0, &key.1, *kind, *order, Arc::new(Client(number)));
                    model.add(key, *kind, *order, number);
                }
                Step::Remove(key, order) => {
                    waits.remove(key.0, &key.1, *order);
                    model.remove(key, *order);
                }
                Step::Walk(key, kind, after) => {
                    let expected = model.walk(key, *kind, *after);
                    prop_assert_eq!(walk(&mut waits, key, *kind, *after), expected);
                }
                Step::Changed(key) => {
                    waits.changed(key.0, &key.1);
                    model.changed(key, change);
                }
                Step::ChangedBelow(db, below) => {
                    waits.changed_where(*db, |key| key < &[*below][..]);
                    for key in 0..*below {
                        model.changed(&(*db, vec![key].into_boxed_slice()), change);
                    }
                }
                Step::TakeReady => match waits.take_ready() {
                    Some(key) => prop_assert!(model.take(&key), "{:?} is not next: {:?}", key, model.ready),
                    None => prop_assert!(model.ready.is_empty(), "{:?}", model.ready),
                },
            }
            prop_assert_eq!(waits.has_ready(), !model.ready.is_empty());
            prop_assert_eq!(waits.is_empty(), model.waiting.is_empty());
        }
        while let Some(key) = waits.take_ready() {
            prop_assert!(model.take(&key), "{:?} is not next: {:?}", key, model.ready);
        }
        prop_assert!(model.ready.is_empty(), "forgotten: {:?}", model.ready);
    }
}
