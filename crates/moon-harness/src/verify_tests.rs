//! The verifier must accept what the promises allow and refuse everything else: each test takes
//! a lawful state and doctors it (harness rule H4).

use super::*;
use crate::model::Value;

fn key(name: &str) -> DbKey {
    DbKey::new(0, name)
}

fn set(name: &str, value: &str) -> Op {
    Op::Set(key(name), value.as_bytes().to_vec(), None)
}

fn state(pairs: &[(&str, &str)]) -> State {
    pairs
        .iter()
        .map(|(k, v)| (key(k), Entry::string(*v)))
        .collect()
}

fn order(shards: u16, pipeline: PipelineOrder) -> Order {
    let shards = ShardCount::new(shards).unwrap();
    Order { shards, pipeline }
}

/// Two keys on different shards of two.
fn two_shards() -> (String, String) {
    let shards = ShardCount::new(2).unwrap();
    let on = |shard| {
        (0..)
            .map(|i| format!("c0:k{i}"))
            .find(|k| shards.shard_of_key(k.as_bytes()) == ShardId(shard))
            .unwrap()
    };
    (on(0), on(1))
}

struct Case {
    base: State,
    tail: Vec<Op>,
    seen: HashMap<DbKey, Vec<u8>>,
    order: Order,
}

impl Case {
    fn verify(&self, observed: &State) -> Result<Survivors, Vec<Fault>> {
        let promise = Promise {
            base: &self.base,
            tail: &self.tail,
            seen: &self.seen,
            order: self.order,
        };
        verify(&promise, observed).map_err(|v| v.iter().map(|v| v.fault).collect())
    }
}

fn one_shard_case() -> Case {
    Case {
        base: state(&[("c0:a", "0:1"), ("c0:b", "0:2")]),
        tail: vec![set("c0:a", "0:3"), set("c0:b", "0:4"), set("c0:a", "0:5")],
        seen: HashMap::new(),
        order: order(1, PipelineOrder::Relaxed),
    }
}

#[test]
fn every_prefix_of_the_tail_is_accepted() {
    let case = one_shard_case();
    let mut observed = case.base.clone();
    assert_eq!(case.verify(&observed).unwrap().kept, 0);
    for (index, op) in case.tail.iter().enumerate() {
        op.apply(&mut observed);
        let survivors = case.verify(&observed).unwrap();
        assert_eq!((survivors.kept, survivors.dropped), (index + 1, 2 - index));
    }
}

#[test]
fn a_missing_acknowledged_key_is_lost() {
    let case = one_shard_case();
    let mut observed = case.base.clone();
    observed.remove(&key("c0:b"));
    assert_eq!(case.verify(&observed), Err(vec![Fault::Lost]));
}

#[test]
fn an_older_value_than_the_acknowledged_one_is_lost() {
    let case = one_shard_case();
    let mut observed = case.base.clone();
    observed.insert(key("c0:b"), Entry::string("0:1"));
    assert_eq!(case.verify(&observed), Err(vec![Fault::Lost]));
}

#[test]
fn a_key_that_nobody_wrote_is_invented() {
    let case = one_shard_case();
    let mut observed = case.base.clone();
    observed.insert(key("c0:z"), Entry::string("0:1"));
    assert_eq!(case.verify(&observed), Err(vec![Fault::Invented]));
}

#[test]
fn a_counter_replayed_twice_is_invented() {
    let mut case = one_shard_case();
    case.base = state(&[("c0:n", "7")]);
    case.tail = vec![Op::IncrBy(key("c0:n"), 1)];
    assert_eq!(case.verify(&state(&[("c0:n", "8")])).unwrap().kept, 1);
    assert_eq!(
        case.verify(&state(&[("c0:n", "9")])),
        Err(vec![Fault::Invented])
    );
    assert_eq!(
        case.verify(&state(&[("c0:n", "6")])),
        Err(vec![Fault::Lost])
    );
}

#[test]
fn a_lost_expiry_is_noticed() {
    let mut case = one_shard_case();
    let mut entry = Entry::string("0:1");
    entry.expires_at_ms = Some(4_102_444_800_000);
    case.base.insert(key("c0:a"), entry);
    case.tail.clear();
    let mut observed = case.base.clone();
    assert!(case.verify(&observed).is_ok());
    observed.insert(key("c0:a"), Entry::string("0:1"));
    assert!(case.verify(&observed).is_err());
}

#[test]
fn a_later_write_without_an_earlier_one_is_a_hole() {
    let case = one_shard_case();
    // The second write survived, the first did not.
    let observed = state(&[("c0:a", "0:1"), ("c0:b", "0:4")]);
    assert_eq!(case.verify(&observed), Err(vec![Fault::Hole]));
}

#[test]
fn relaxed_order_allows_shards_to_lose_different_tails_and_strict_does_not() {
    let (a, b) = two_shards();
    let mut case = Case {
        base: State::new(),
        tail: vec![set(&a, "0:1"), set(&b, "0:2")],
        seen: HashMap::new(),
        order: order(2, PipelineOrder::Relaxed),
    };
    let only_later = state(&[(&b, "0:2")]);
    assert_eq!(case.verify(&only_later).unwrap().kept, 1);
    case.order = order(2, PipelineOrder::Strict);
    assert_eq!(case.verify(&only_later), Err(vec![Fault::Hole]));
}

#[test]
fn an_operation_over_several_shards_is_a_barrier() {
    let (a, b) = two_shards();
    let pair = |v: &str| {
        let v = v.as_bytes().to_vec();
        Op::MSet(vec![(key(&a), v.clone()), (key(&b), v)])
    };
    let case = Case {
        base: state(&[("c0:other", "0:1")]),
        tail: vec![set("c0:other", "0:2"), pair("0:3"), set(&a, "0:4")],
        seen: HashMap::new(),
        order: order(2, PipelineOrder::Relaxed),
    };
    // The pair survived, the write before it did not.
    let observed = state(&[("c0:other", "0:1"), (&a, "0:3"), (&b, "0:3")]);
    assert_eq!(case.verify(&observed), Err(vec![Fault::Hole]));
    // The write behind it survived, the pair did not.
    let observed = state(&[("c0:other", "0:2"), (&a, "0:4")]);
    assert!(case.verify(&observed).unwrap_err().contains(&Fault::Torn));
    // All of it.
    let observed = state(&[("c0:other", "0:2"), (&a, "0:4"), (&b, "0:3")]);
    assert_eq!(case.verify(&observed).unwrap().kept, 3);
}

#[test]
fn half_a_pair_is_torn() {
    let (a, b) = two_shards();
    let value = b"0:9".to_vec();
    for atomic in [
        Op::MSet(vec![(key(&a), value.clone()), (key(&b), value.clone())]),
        Op::Multi(vec![set(&a, "0:9"), set(&b, "0:9")]),
    ] {
        for shards in [1, 2] {
            let case = Case {
                base: state(&[(&a, "0:1"), (&b, "0:1")]),
                tail: vec![atomic.clone()],
                seen: HashMap::new(),
                order: order(shards, PipelineOrder::Relaxed),
            };
            let observed = state(&[(&a, "0:9"), (&b, "0:1")]);
            assert_eq!(case.verify(&observed), Err(vec![Fault::Torn]));
        }
    }
}

#[test]
fn what_a_reader_saw_must_survive() {
    let mut case = one_shard_case();
    case.seen.insert(key("c0:b"), b"0:4".to_vec());
    assert_eq!(case.verify(&case.base), Err(vec![Fault::SeenGone]));
    let mut observed = case.base.clone();
    case.tail[0].apply(&mut observed);
    assert_eq!(case.verify(&observed), Err(vec![Fault::SeenGone]));
    case.tail[1].apply(&mut observed);
    assert_eq!(case.verify(&observed).unwrap().kept, 2);
    // An acknowledged value that a reader saw is no new constraint.
    case.seen.insert(key("c0:b"), b"0:2".to_vec());
    assert!(case.verify(&case.base).is_ok());
}

#[test]
fn a_list_with_an_element_twice_is_invented() {
    let mut case = one_shard_case();
    let list = |items: &[&str]| {
        let items = items.iter().map(|i| i.as_bytes().to_vec()).collect();
        State::from([(key("c0:l"), Entry::new(Value::List(items)))])
    };
    case.base = list(&["x"]);
    case.tail = vec![Op::RPush(key("c0:l"), b"y".to_vec())];
    assert_eq!(case.verify(&list(&["x", "y"])).unwrap().kept, 1);
    assert_eq!(
        case.verify(&list(&["x", "y", "y"])),
        Err(vec![Fault::Invented])
    );
}

/// Scenario 43.
#[test]
fn only_what_every_explanation_has_is_certain() {
    let (a, b) = two_shards();
    let case = Case {
        base: State::new(),
        // The second deletion changes nothing: whether it survived cannot be seen.
        tail: vec![
            set(&a, "0:1"),
            Op::Del(vec![key(&b)]),
            set(&a, "0:3"),
            set(&b, "0:4"),
        ],
        seen: HashMap::new(),
        order: order(2, PipelineOrder::Relaxed),
    };
    let certain = |observed: &State| {
        let survivors = case.verify(observed).unwrap();
        (
            survivors.last_certainly_kept,
            survivors.first_certainly_dropped,
        )
    };
    assert_eq!(certain(&State::new()), (None, Some(0)));
    assert_eq!(certain(&state(&[(&a, "0:1")])), (Some(0), Some(2)));
    assert_eq!(certain(&state(&[(&b, "0:4")])), (Some(3), Some(0)));
    assert_eq!(
        certain(&state(&[(&a, "0:3"), (&b, "0:4")])),
        (Some(3), None)
    );
}

#[test]
fn a_long_tail_is_verified_in_one_pass() {
    let mut case = one_shard_case();
    case.base = (0..200)
        .map(|n| (key(&format!("c0:s{n}")), Entry::string("0:0")))
        .collect();
    case.tail = (1..50_000)
        .map(|n| set(&format!("c0:s{}", n % 200), &format!("0:{n}")))
        .collect();
    let mut observed = case.base.clone();
    for op in &case.tail[..30_000] {
        op.apply(&mut observed);
    }
    let survivors = case.verify(&observed).unwrap();
    assert_eq!((survivors.kept, survivors.dropped), (30_000, 19_999));
    assert_eq!(survivors.last_certainly_kept, Some(29_999));
    assert_eq!(survivors.first_certainly_dropped, Some(30_000));
}
