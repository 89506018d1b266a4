//! Small histories, right and wrong, named after the mistake that a server could make.

use super::*;
use crate::command::{Answer, Command, Key, Side};
use crate::history::Call;

const A: Key = Key(0);
const B: Key = Key(1);

pub(crate) fn keyspaces(count: usize) -> HashSet<Keyspace> {
    HashSet::from([Keyspace::empty(count)])
}

pub(crate) fn one(command: Command) -> Call {
    Call::One(command)
}

pub(crate) fn answered(
    client: usize,
    invoked: u64,
    returned: u64,
    call: Call,
    answer: Answer,
) -> Record {
    Record {
        client,
        call,
        invoked,
        returned,
        answer: Some(answer),
        watched: None,
        after: Vec::new(),
    }
}

fn unanswered(client: usize, invoked: u64, died: u64, call: Call) -> Record {
    Record {
        answer: None,
        ..answered(client, invoked, died, call, Answer::Ok)
    }
}

fn verdict(records: &[Record]) -> Verdict {
    check(&keyspaces(2), records, 10_000)
}

fn is_right(records: &[Record]) -> bool {
    matches!(verdict(records), Verdict::Explained(_))
}

fn is_wrong(records: &[Record]) -> bool {
    matches!(verdict(records), Verdict::Violated(_))
}

fn get(key: Key) -> Call {
    one(Command::Get(key))
}

fn set(key: Key, n: i64) -> Call {
    one(Command::Set(key, n))
}

fn range(key: Key) -> Call {
    one(Command::LRange(key))
}

fn numbers(items: &[i64]) -> Answer {
    Answer::Numbers(items.iter().map(|n| Some(*n)).collect())
}

#[test]
fn calls_that_overlap_may_happen_in_either_order() {
    for seen in [1, 2] {
        assert!(is_right(&[
            answered(0, 0, 10, set(A, 1), Answer::Ok),
            answered(1, 0, 10, set(A, 2), Answer::Ok),
            answered(2, 11, 12, get(A), Answer::Number(seen)),
        ]));
    }
    assert!(is_wrong(&[
        answered(0, 0, 10, set(A, 1), Answer::Ok),
        answered(1, 0, 10, set(A, 2), Answer::Ok),
        answered(2, 11, 12, get(A), Answer::Nil),
    ]));
}

#[test]
fn a_stale_read_is_found() {
    let history = |read_begins| {
        [
            answered(0, 0, 1, set(A, 1), Answer::Ok),
            answered(0, 2, 9, set(A, 2), Answer::Ok),
            answered(1, read_begins, 12, get(A), Answer::Number(1)),
        ]
    };
    assert!(is_right(&history(8)), "it overlaps the second write");
    assert!(is_wrong(&history(10)));
    assert_eq!(verdict(&history(10)), Verdict::Violated(2));
}

/// Two readers that disagree about the order of two writes.
#[test]
fn values_that_go_back_are_found() {
    assert!(is_wrong(&[
        answered(0, 0, 20, set(A, 1), Answer::Ok),
        answered(1, 0, 20, set(A, 2), Answer::Ok),
        answered(2, 2, 3, get(A), Answer::Number(1)),
        answered(2, 4, 5, get(A), Answer::Number(2)),
        answered(3, 6, 7, get(A), Answer::Number(1)),
    ]));
}

/// Scenario 121.
#[test]
fn a_torn_read_is_found() {
    let both = Command::MSet(vec![(A, 7), (B, 7)]);
    for write in [
        one(both),
        Call::Multi(vec![Command::Set(A, 7), Command::Set(B, 7)]),
    ] {
        let answer = match write {
            Call::One(_) => Answer::Ok,
            _ => Answer::All(vec![Answer::Ok, Answer::Ok]),
        };
        let history = |seen: [Option<i64>; 2]| {
            let read = one(Command::MGet(vec![A, B]));
            [
                answered(0, 0, 20, write.clone(), answer.clone()),
                answered(1, 1, 5, read, Answer::Numbers(seen.to_vec())),
            ]
        };
        assert!(is_right(&history([Some(7), Some(7)])));
        assert!(is_right(&history([None, None])));
        assert!(is_wrong(&history([Some(7), None])));
        assert!(is_wrong(&history([None, Some(7)])));
    }
}

fn increment(client: usize, times: (u64, u64), from: i64, answer: Answer) -> Record {
    let guard = vec![(Command::Get(A), Answer::Number(from))];
    let body = vec![Command::Set(A, from + 1)];
    let call = Call::Watched { guard, body };
    answered(client, times.0, times.1, call, answer)
}

/// Scenario 119.
#[test]
fn a_lost_update_is_found() {
    let done = || Answer::All(vec![Answer::Ok]);
    let history = |second| {
        [
            answered(0, 0, 1, set(A, 5), Answer::Ok),
            increment(1, (2, 9), 5, done()),
            increment(2, (2, 9), 5, second),
        ]
    };
    assert!(is_right(&history(Answer::Nil)));
    assert!(is_wrong(&history(done())));
}

#[test]
fn write_skew_is_found() {
    // Each may take from its account as long as there is enough in both together.
    let withdraw = |client, from: Key| {
        let guard = vec![
            (Command::Get(A), Answer::Number(60)),
            (Command::Get(B), Answer::Number(60)),
        ];
        let body = vec![Command::IncrBy(from, -100)];
        let answer = Answer::All(vec![Answer::Int(-40)]);
        answered(client, 2, 9, Call::Watched { guard, body }, answer)
    };
    let funds = one(Command::MSet(vec![(A, 60), (B, 60)]));
    let funds = answered(0, 0, 1, funds, Answer::Ok);
    assert!(is_right(&[funds.clone(), withdraw(1, A)]));
    assert!(is_wrong(&[funds, withdraw(1, A), withdraw(2, B)]));
}

#[test]
fn a_reordered_list_is_found() {
    let push = |client, from, to, n, len| {
        let call = one(Command::Push(Side::Right, A, n));
        answered(client, from, to, call, Answer::Int(len))
    };
    let history = |first: [i64; 2], then: [i64; 2]| {
        [
            push(0, 0, 9, 1, 1),
            push(1, 0, 9, 2, 2),
            answered(2, 10, 11, range(A), numbers(&first)),
            answered(3, 12, 13, range(A), numbers(&then)),
        ]
    };
    assert!(is_right(&history([1, 2], [1, 2])));
    assert!(is_wrong(&history([1, 2], [2, 1])), "two orders");
    assert!(
        is_wrong(&history([2, 1], [2, 1])),
        "the answers say which came first"
    );
}

#[test]
fn an_element_given_to_two_consumers_is_found() {
    let pop = |client| {
        let call = one(Command::BlockingPop(Side::Left, vec![A, B], 50));
        answered(client, 2, 9, call, Answer::Popped(A, 1))
    };
    let push = |n, len| {
        let call = one(Command::Push(Side::Right, A, n));
        answered(0, 0, 1, call, Answer::Int(len))
    };
    assert!(is_right(&[push(1, 1), pop(1)]));
    assert!(is_wrong(&[push(1, 1), pop(1), pop(2)]));
    let timed_out = |from, to| {
        let call = one(Command::BlockingPop(Side::Left, vec![A], 50));
        answered(3, from, to, call, Answer::Nil)
    };
    assert!(is_right(&[push(1, 1), pop(1), timed_out(3, 9)]));
    assert!(is_wrong(&[push(1, 1), timed_out(3, 9)]), "it was there");
}

#[test]
fn what_was_in_flight_at_a_crash_is_there_as_a_whole_or_not_at_all() {
    let both = Call::Multi(vec![Command::Set(A, 7), Command::Set(B, 7)]);
    let history = |seen: [Option<i64>; 2]| {
        let read = one(Command::MGet(vec![A, B]));
        [
            unanswered(0, 0, 20, both.clone()),
            answered(1, 30, 31, read, Answer::Numbers(seen.to_vec())),
        ]
    };
    assert!(is_right(&history([Some(7), Some(7)])));
    assert!(is_right(&history([None, None])));
    assert!(is_wrong(&history([Some(7), None])));
}

#[test]
fn what_was_acknowledged_or_seen_before_a_crash_stays() {
    let lost = |answer: Option<Answer>| {
        let write = Record {
            answer,
            ..unanswered(0, 0, 20, set(A, 7))
        };
        vec![write, answered(1, 30, 31, get(A), Answer::Nil)]
    };
    assert!(is_right(&lost(None)));
    assert!(is_wrong(&lost(Some(Answer::Ok))));
    let mut seen = lost(None);
    seen.push(answered(2, 5, 6, get(A), Answer::Number(7)));
    assert!(is_wrong(&seen));
}

/// A call cannot happen after the crash that took its answer.
#[test]
fn what_was_not_there_after_a_crash_does_not_come_later() {
    assert!(is_wrong(&[
        unanswered(0, 0, 20, set(A, 7)),
        answered(1, 30, 31, get(A), Answer::Nil),
        answered(1, 32, 33, get(A), Answer::Number(7)),
    ]));
}

#[test]
fn the_order_inside_a_pipeline_is_kept_where_it_is_promised() {
    let history = |after: Vec<usize>| {
        [
            answered(0, 0, 9, set(A, 1), Answer::Ok),
            Record {
                after,
                ..answered(0, 0, 9, set(A, 2), Answer::Ok)
            },
            answered(1, 10, 11, get(A), Answer::Number(1)),
        ]
    };
    assert!(is_right(&history(vec![])));
    assert!(is_wrong(&history(vec![0])));
}

#[test]
fn an_answer_that_no_command_gives_is_found() {
    let odd = Answer::Unexpected("+PONG".into());
    assert!(is_wrong(&[answered(0, 0, 1, get(A), odd)]));
    let error = Answer::Error("MISCONF".into());
    assert!(is_wrong(&[answered(0, 0, 1, set(A, 1), error)]));
}

#[test]
fn a_search_that_reaches_its_bound_decides_nothing() {
    // All orders of eight writes are possible, and a wrong read comes last.
    let mut records: Vec<Record> = (0..8)
        .map(|n| answered(n, 0, 20, set(A, n as i64), Answer::Ok))
        .collect();
    records.push(answered(9, 30, 31, get(A), Answer::Nil));
    assert_eq!(check(&keyspaces(2), &records, 50), Verdict::NotDecided);
    assert!(is_wrong(&records));
}
