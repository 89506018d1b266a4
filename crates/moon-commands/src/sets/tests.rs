//! Commands on sets, with their effects.

use crate::testing::Session;
use std::collections::BTreeSet;

/// The bulk strings of an array or set reply.
fn bulks(reply: &str) -> Vec<String> {
    let lines: Vec<&str> = reply.split("\r\n").collect();
    lines[1..lines.len() - 1]
        .chunks(2)
        .map(|bulk| bulk[1].to_owned())
        .collect()
}

#[test]
fn members_are_added_found_and_removed() {
    let mut s = Session::new();
    s.expect("SADD s 3 1 2 1", ":3\r\n");
    s.expect("SMEMBERS s", "*3\r\n$1\r\n1\r\n$1\r\n2\r\n$1\r\n3\r\n");
    s.expect("SCARD s", ":3\r\n");
    s.expect("SISMEMBER s 2", ":1\r\n");
    s.expect("SMISMEMBER s 2 02 x", "*3\r\n:1\r\n:0\r\n:0\r\n");
    s.expect("SMISMEMBER none a", "*1\r\n:0\r\n");
    s.expect("SREM s 1 9 2", ":2\r\n");
    s.resp3();
    s.expect("SMEMBERS s", "~1\r\n$1\r\n3\r\n");
    s.expect("SMEMBERS none", "~0\r\n");
    s.expect("SREM s 3", ":1\r\n");
    assert_eq!(s.keys(), 0);
}

#[test]
fn a_write_that_changes_nothing_has_no_effect() {
    let mut s = Session::new();
    s.expect("SADD s a", ":1\r\n");
    s.expect_effect("SADD s a");
    s.expect("SADD s a", ":0\r\n");
    s.expect("SREM s b", ":0\r\n");
    s.expect("SREM none b", ":0\r\n");
    s.expect("SPOP none", "$-1\r\n");
    s.expect("SPOP none 1", "*0\r\n");
    s.expect("SPOP s 0", "*0\r\n");
    s.expect(
        "SPOP s -1",
        "-ERR value is out of range, must be positive\r\n",
    );
    s.expect("SPOP s 1 2", "-ERR syntax error\r\n");
    s.expect_no_effect();
}

/// What was picked is in the effect, so that replay picks the same.
#[test]
fn pops_are_logged_as_what_was_popped() {
    let mut s = Session::new();
    s.expect("SADD s a b c d", ":4\r\n");
    s.effects();
    let popped = s.run("SPOP s");
    let member = popped
        .split("\r\n")
        .nth(1)
        .expect("a bulk string")
        .to_owned();
    s.expect_effect(&format!("SREM s {member}"));
    s.expect(&format!("SISMEMBER s {member}"), ":0\r\n");
    let popped = bulks(&s.run("SPOP s 2"));
    s.expect_effect(&format!("SREM s {} {}", popped[0], popped[1]));
    assert_eq!(bulks(&s.run("SPOP s 7")).len(), 1);
    s.expect_effect("DEL s");
    assert_eq!(s.keys(), 0);
}

#[test]
fn random_members_are_distinct_unless_the_count_is_negative() {
    for prefix in ["", "m"] {
        for size in [5, 200, 1000] {
            let mut s = Session::new();
            let all: BTreeSet<String> = (0..size).map(|n| format!("{prefix}{n}")).collect();
            for member in &all {
                s.run(&format!("SADD s {member}"));
            }
            let half = bulks(&s.run(&format!("SRANDMEMBER s {}", size / 2)));
            let distinct: BTreeSet<String> = half.iter().cloned().collect();
            assert_eq!((half.len(), distinct.len()), (size / 2, size / 2));
            assert!(distinct.is_subset(&all));
            assert_eq!(bulks(&s.run("SRANDMEMBER s 9999")).len(), size);
            assert_eq!(bulks(&s.run("SRANDMEMBER s -3000")).len(), 3000);
            assert!(s.run("SRANDMEMBER s").starts_with('$'));
        }
    }
}

#[test]
fn random_members_answer_odd_counts_with_an_error() {
    let mut s = Session::new();
    s.expect("SADD s a", ":1\r\n");
    s.expect("SRANDMEMBER none", "$-1\r\n");
    s.expect("SRANDMEMBER none 3", "*0\r\n");
    s.expect("SRANDMEMBER s 0", "*0\r\n");
    s.expect("SRANDMEMBER s 1 2", "-ERR syntax error\r\n");
    s.expect(
        "SRANDMEMBER s x",
        "-ERR value is not an integer or out of range\r\n",
    );
    s.expect(
        "SRANDMEMBER s -9223372036854775808",
        "-ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807\r\n",
    );
    s.expect(
        "SRANDMEMBER s -9223372036854775807",
        "-ERR value is out of range\r\n",
    );
}

#[test]
fn other_types_are_refused() {
    let wrong = "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n";
    let mut s = Session::new();
    s.expect("HSET h a 1", ":1\r\n");
    s.expect_effect("HSET h a 1");
    for command in [
        "SADD h a",
        "SREM h a",
        "SPOP h",
        "SPOP h 0",
        "SRANDMEMBER h",
        "SRANDMEMBER h 1",
        "SMEMBERS h",
        "SISMEMBER h a",
        "SMISMEMBER h a",
        "SCARD h",
    ] {
        s.expect(command, wrong);
    }
    s.expect_no_effect();
}
