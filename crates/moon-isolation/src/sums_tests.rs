//! Small histories, right and wrong.

use super::*;
use crate::linear::tests::{answered, one};

const A: Key = Key(0);
const B: Key = Key(1);

fn keys(a: i64, b: i64) -> Keyspace {
    let mut keys = Keyspace::empty(2);
    keys.set(A, Value::Number(a));
    keys.set(B, Value::Number(b));
    keys
}

fn anomalies(findings: &[Finding]) -> Vec<Anomaly> {
    findings.iter().map(|finding| finding.anomaly).collect()
}

fn transfer(amount: i64, answer: Option<Answer>) -> Record {
    let call = Call::Multi(vec![
        Command::IncrBy(A, -amount),
        Command::IncrBy(B, amount),
    ]);
    Record {
        answer,
        ..answered(0, 0, 9, call, Answer::Ok)
    }
}

fn done() -> Option<Answer> {
    Some(Answer::All(vec![Answer::Int(0), Answer::Int(0)]))
}

/// Scenario 121.
#[test]
fn money_that_is_under_way_is_found() {
    let read = |a, b| {
        let seen = Answer::Numbers(vec![Some(a), Some(b)]);
        answered(1, 0, 9, one(Command::MGet(vec![A, B])), seen)
    };
    let judge = |record: Record| {
        let records = [transfer(30, done()), record];
        anomalies(&check_bank(
            &[A, B],
            &keys(100, 100),
            &keys(70, 130),
            &records,
        ))
    };
    assert_eq!(judge(read(100, 100)), []);
    assert_eq!(judge(read(70, 130)), []);
    assert_eq!(judge(read(70, 100)), [Anomaly::SumChanged]);
}

#[test]
fn money_that_went_elsewhere_is_found() {
    let judge = |answer, a, b| {
        let records = [transfer(30, answer), transfer(1, None)];
        anomalies(&check_bank(&[A, B], &keys(100, 100), &keys(a, b), &records))
    };
    assert_eq!(judge(done(), 70, 130), []);
    assert_eq!(judge(done(), 69, 131), []);
    assert_eq!(judge(done(), 100, 100), [Anomaly::Lost]);
    assert_eq!(judge(None, 100, 100), []);
    assert_eq!(judge(done(), 70, 129), [Anomaly::SumChanged]);
}

#[test]
fn a_torn_or_stale_pair_is_found() {
    let write = |times: (u64, u64), n| {
        let call = one(Command::MSet(vec![(A, n), (B, n)]));
        answered(0, times.0, times.1, call, Answer::Ok)
    };
    let judge = |invoked, seen: [Option<i64>; 2]| {
        let read = one(Command::MGet(vec![A, B]));
        let read = answered(1, invoked, 20, read, Answer::Numbers(seen.to_vec()));
        anomalies(&check_pairs(&[write((0, 1), 1), write((5, 9), 2), read]))
    };
    assert_eq!(judge(10, [Some(2), Some(2)]), []);
    assert_eq!(judge(8, [Some(1), Some(1)]), []);
    assert_eq!(judge(10, [Some(1), Some(1)]), [Anomaly::StaleRead]);
    assert_eq!(judge(10, [None, None]), [Anomaly::StaleRead]);
    assert_eq!(judge(8, [Some(1), Some(2)]), [Anomaly::Torn]);
}

fn raise(times: (u64, u64), from: i64, answer: Option<Answer>) -> Record {
    let call = Call::Watched {
        guard: vec![(Command::Get(A), Answer::Number(from))],
        body: vec![Command::Set(A, from + 1)],
    };
    Record {
        answer,
        watched: Some(times.0),
        ..answered(0, times.0, times.1, call, Answer::Ok)
    }
}

/// Scenario 119.
#[test]
fn a_lost_update_and_a_lost_count_are_found() {
    let ok = || Some(Answer::All(vec![Answer::Ok]));
    let judge = |records: &[Record], after| {
        anomalies(&check_counters(&[A], &keys(5, 0), &keys(after, 0), records))
    };
    let (first, second) = (raise((0, 9), 5, ok()), raise((0, 9), 6, ok()));
    assert_eq!(judge(&[first.clone(), second.clone()], 7), []);
    assert_eq!(judge(&[first.clone(), second], 6), [Anomaly::Lost]);
    let both = judge(&[first.clone(), first.clone()], 6);
    assert_eq!(both, [Anomaly::LostUpdate, Anomaly::Lost]);
    let open = raise((0, 9), 6, None);
    assert_eq!(judge(&[first.clone(), open.clone()], 6), []);
    assert_eq!(judge(&[first, open], 7), []);
}

#[test]
fn a_refusal_without_a_reason_is_found() {
    let refused = raise((10, 19), 5, Some(Answer::Nil));
    let write = |times: (u64, u64), key| {
        answered(1, times.0, times.1, one(Command::Set(key, 9)), Answer::Ok)
    };
    let judge = |record| anomalies(&check_aborts(&[refused.clone(), record]));
    assert_eq!(judge(write((12, 13), A)), []);
    assert_eq!(judge(write((0, 10), A)), []);
    assert_eq!(judge(write((12, 13), B)), [Anomaly::SpuriousAbort]);
    assert_eq!(judge(write((0, 9), A)), [Anomaly::SpuriousAbort]);
    assert_eq!(judge(write((20, 21), A)), [Anomaly::SpuriousAbort]);
}
