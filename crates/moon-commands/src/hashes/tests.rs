//! Replies and effects of commands on hashes.

use crate::testing::Session;

#[test]
fn fields_are_stored_counted_and_removed() {
    let mut s = Session::new();
    s.expect("HSET h a 1 b 2", ":2\r\n");
    s.expect("HSET h a 3 c 4", ":1\r\n");
    s.expect("HMSET h d 5", "+OK\r\n");
    s.expect("HGET h a", "$1\r\n3\r\n");
    s.expect("HGET h x", "$-1\r\n");
    s.expect("HLEN h", ":4\r\n");
    s.expect("HSTRLEN h a", ":1\r\n");
    s.expect("HEXISTS h x", ":0\r\n");
    s.expect("HMGET h a x", "*2\r\n$1\r\n3\r\n$-1\r\n");
    s.expect("HDEL h a b x a", ":2\r\n");
    s.expect("HKEYS h", "*2\r\n$1\r\nc\r\n$1\r\nd\r\n");
    s.expect("HVALS h", "*2\r\n$1\r\n4\r\n$1\r\n5\r\n");
    s.expect(
        "HGETALL h",
        "*4\r\n$1\r\nc\r\n$1\r\n4\r\n$1\r\nd\r\n$1\r\n5\r\n",
    );
    s.resp3();
    s.expect(
        "HGETALL h",
        "%2\r\n$1\r\nc\r\n$1\r\n4\r\n$1\r\nd\r\n$1\r\n5\r\n",
    );
    s.expect("HGETALL none", "%0\r\n");
    s.expect("HGET none a", "_\r\n");
}

#[test]
fn a_write_that_changes_nothing_has_no_effect() {
    let mut s = Session::new();
    s.expect("HSETNX h a 1", ":1\r\n");
    s.expect_effect("HSETNX h a 1");
    s.expect("HSETNX h a 2", ":0\r\n");
    s.expect_no_effect();
    s.expect("HDEL h x", ":0\r\n");
    s.expect_no_effect();
    s.expect("HDEL none x", ":0\r\n");
    s.expect_no_effect();
    s.expect(
        "HSET h a 1 b",
        "-ERR wrong number of arguments for 'hset' command\r\n",
    );
    s.expect(
        "HMSET h a 1 b",
        "-ERR wrong number of arguments for 'hmset' command\r\n",
    );
    s.expect_no_effect();
}

#[test]
fn the_last_field_takes_the_key_with_it() {
    let mut s = Session::new();
    s.expect("HSET h a 1", ":1\r\n");
    s.expect_effect("HSET h a 1");
    s.expect("HDEL h a", ":1\r\n");
    s.expect_effect("HDEL h a");
    assert_eq!(s.keys(), 0);
}

#[test]
fn counters_refuse_what_is_not_a_number_or_overflows() {
    let mut s = Session::new();
    s.expect("HINCRBY h n 5", ":5\r\n");
    s.expect_effect("HINCRBY h n 5");
    s.expect("HINCRBY h n -7", ":-2\r\n");
    s.expect_effect("HINCRBY h n -7");
    s.expect(
        "HINCRBY h n x",
        "-ERR value is not an integer or out of range\r\n",
    );
    s.expect("HSET h m 9223372036854775807 t 010", ":2\r\n");
    s.expect_effect("HSET h m 9223372036854775807 t 010");
    s.expect(
        "HINCRBY h m 1",
        "-ERR increment or decrement would overflow\r\n",
    );
    s.expect("HINCRBY h t 1", "-ERR hash value is not an integer\r\n");
    s.expect_no_effect();
}

#[test]
fn other_types_are_refused() {
    let wrong = "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n";
    let mut s = Session::new();
    s.expect("RPUSH l a", ":1\r\n");
    s.expect_effect("RPUSH l a");
    for command in [
        "HSET l a 1",
        "HMSET l a 1",
        "HSETNX l a 1",
        "HINCRBY l a 1",
        "HDEL l a",
        "HGET l a",
        "HMGET l a",
        "HEXISTS l a",
        "HLEN l",
        "HSTRLEN l a",
        "HGETALL l",
        "HKEYS l",
        "HVALS l",
    ] {
        s.expect(command, wrong);
    }
    s.expect_no_effect();
}
