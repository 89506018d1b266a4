//! What replay refuses, and how it names it.

use crate::harness::Instance;
use moon_commands::{Limits, ReplayError, ShardSet, replay};
use moon_core::{ShardCount, ShardId};
use moon_resp::write_request;
use moon_store::ShardData;

fn payload(requests: &[&str]) -> Vec<u8> {
    let mut out = Vec::new();
    for request in requests {
        write_request(&mut out, &request.split(' ').collect::<Vec<_>>());
    }
    out
}

fn refusal(requests: &[&str]) -> ReplayError {
    Instance::new(1)
        .replay(&payload(requests))
        .expect_err("the payload is refused")
}

/// Scenario 137.
#[test]
fn an_unknown_command_is_named_with_its_place() {
    let first = payload(&["SET a 1"]).len();
    assert_eq!(
        refusal(&["SET a 1", "FROBNICATE a"]),
        ReplayError::UnknownCommand {
            name: "FROBNICATE".to_owned(),
            offset: first
        }
    );
    // Reads are in no log.
    assert!(matches!(
        refusal(&["GET a"]),
        ReplayError::UnknownCommand { offset: 0, .. }
    ));
    assert!(matches!(
        refusal(&["SET a"]),
        ReplayError::WrongArity { offset: 0, .. }
    ));
}

/// Scenario 137.
#[test]
fn a_command_that_fails_in_replay_is_named_with_its_error() {
    let error = refusal(&["SET a x", "INCR a"]);
    let ReplayError::Refused { name, text, .. } = &error else {
        panic!("{error:?}");
    };
    assert_eq!(name, "INCR");
    assert_eq!(text, "ERR value is not an integer or out of range");
}

#[test]
fn relative_expire_times_are_refused_because_replay_has_no_clock() {
    for request in [
        "EXPIRE a 10",
        "SET a 1 EX 10",
        "SETEX a 10 1",
        "PSETEX a 10 1",
    ] {
        assert!(matches!(
            refusal(&["SET a 1", request]),
            ReplayError::Refused { .. }
        ));
    }
}

#[test]
fn what_is_not_whole_is_refused() {
    let mut instance = Instance::new(1);
    let whole = payload(&["SET a 1"]);
    assert!(matches!(
        instance.replay(&whole[..whole.len() - 4]),
        Err(ReplayError::Truncated { offset: 0 })
    ));
    assert!(matches!(
        refusal(&["MULTI", "SET a 1"]),
        ReplayError::OpenTransaction { offset: 0 }
    ));
    assert!(matches!(refusal(&["EXEC"]), ReplayError::Misplaced { .. }));
    assert!(matches!(
        refusal(&["SELECT 99"]),
        ReplayError::Misplaced { .. }
    ));
    assert_eq!(
        instance.replay(b"SET a 1\r\n"),
        Err(ReplayError::NoRequest { offset: 0 })
    );
}

/// Scenario 126.
#[test]
fn a_key_of_another_shard_is_refused() {
    let count = ShardCount::new(2).expect("a valid count");
    let key = ["a", "b", "c", "d"]
        .into_iter()
        .find(|key| count.shard_of_key(key.as_bytes()) == ShardId(1))
        .expect("both shards own one of these");
    let mut shard = ShardData::new(ShardId(0), 1, false);
    let request = format!("SET {key} 1");
    let limits = Limits::default();
    let mut apply = |requests: &[&str]| {
        let payload = payload(requests);
        replay(ShardSet::One(&mut shard), count, &payload, 0, &limits)
    };
    for requests in [[request.as_str()], ["FLUSHALL"]] {
        assert!(matches!(
            apply(&requests),
            Err(ReplayError::OtherShard { offset: 0, .. })
        ));
    }
}

#[test]
fn what_is_not_data_is_passed_over() {
    let mut stream = payload(&["PING", "SELECT 0", "MULTI", "SET a 1", "EXEC"]);
    stream.extend_from_slice(b"#TS:1700000000\r\n");
    stream.extend(payload(&["REPLCONF GETACK *", "SET b 2"]));
    let mut instance = Instance::new(1);
    instance.replay(&stream).expect("a valid stream");
    assert_eq!(instance.dump().len(), 2);
}

#[test]
fn bounds_of_today_do_not_refuse_what_was_written_before() {
    let mut instance = Instance::new(1);
    instance.limits.max_bulk_len = 4;
    let requests = ["APPEND a 12345678", "APPEND a 12345678", "SETRANGE a 20 x"];
    instance
        .replay(&payload(&requests))
        .expect("a valid stream");
    instance.expect("strlen a", ":21\r\n");
    instance.expect(
        "append a x",
        "-ERR string exceeds maximum allowed size (proto-max-bulk-len)\r\n",
    );
}
