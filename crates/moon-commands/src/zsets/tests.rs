//! What the comparison with a real server does not reach: effects, and what Redis 7.0 lacks.

use crate::testing::Session;
use std::collections::BTreeSet;

/// The bulk strings of an array reply.
fn bulks(reply: &str) -> Vec<String> {
    let lines: Vec<&str> = reply.split("\r\n").collect();
    let is_bulk = |pair: &&[&str]| pair[0].starts_with('$');
    let pairs = lines.windows(2).filter(is_bulk);
    pairs.map(|pair| pair[1].to_owned()).collect()
}

/// Scenario 18.
#[test]
fn a_write_that_changes_nothing_has_no_effect() {
    let mut s = Session::new();
    s.expect("ZADD z 1 a 2 b", ":2\r\n");
    s.expect_effect("ZADD z 1 a 2 b");
    for (command, reply) in [
        ("ZADD z 1 a", ":0\r\n"),
        ("ZADD z CH 1 a", ":0\r\n"),
        ("ZADD z NX 5 a", ":0\r\n"),
        ("ZADD z XX 5 c", ":0\r\n"),
        ("ZADD z GT 0 a", ":0\r\n"),
        ("ZADD z LT INCR 1 a", "$-1\r\n"),
        ("ZADD none XX 1 a", ":0\r\n"),
        ("ZINCRBY z 0 a", "$1\r\n1\r\n"),
        ("ZREM z c", ":0\r\n"),
        ("ZREM none a", ":0\r\n"),
        ("ZPOPMIN none", "*0\r\n"),
        ("ZPOPMIN z 0", "*0\r\n"),
        ("ZMPOP 1 none MIN", "*-1\r\n"),
        ("ZREMRANGEBYRANK z 5 9", ":0\r\n"),
        ("ZREMRANGEBYSCORE z 5 9", ":0\r\n"),
        ("ZREMRANGEBYLEX none - +", ":0\r\n"),
        ("ZRANGESTORE dst none 0 -1", ":0\r\n"),
        ("ZINTERSTORE dst 2 z none", ":0\r\n"),
        ("ZRANDMEMBER none", "$-1\r\n"),
    ] {
        s.expect(command, reply);
        s.expect_no_effect();
    }
}

/// Scenario 17.
#[test]
fn a_command_that_fails_changes_nothing_and_has_no_effect() {
    let wrong = "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n";
    let mut s = Session::new();
    s.run("SET s v");
    s.run("ZADD z inf i 1 a");
    s.effects();
    for command in [
        "ZADD s 1 a",
        "ZINCRBY s 1 a",
        "ZREM s a",
        "ZPOPMIN s",
        "ZPOPMAX s 2",
        "ZMPOP 1 s MIN",
        "ZREMRANGEBYRANK s 0 -1",
        "ZREMRANGEBYSCORE s 0 1",
        "ZREMRANGEBYLEX s - +",
        "ZRANGESTORE z s 0 -1",
        "ZUNIONSTORE z 2 z s",
        "ZDIFFSTORE z 2 z s",
        "ZSCAN s 0",
    ] {
        s.expect(command, wrong);
    }
    s.expect("ZADD z 5 b x c", "-ERR value is not a valid float\r\n");
    s.expect(
        "ZINCRBY z -inf i",
        "-ERR resulting score is not a number (NaN)\r\n",
    );
    s.expect("ZUNIONSTORE s 1 z WEIGHTS", "-ERR syntax error\r\n");
    s.expect("ZRANGE z 0 -1", "*2\r\n$1\r\na\r\n$1\r\ni\r\n");
    s.expect("GET s", "$1\r\nv\r\n");
    s.expect_no_effect();
}

#[test]
fn changes_are_logged_as_sent_and_pops_by_their_number() {
    let mut s = Session::new();
    for command in [
        "ZADD z 1 a 2 b 3 c 4 d 5 e 6 f",
        "ZADD z INCR 0.1 a",
        "ZINCRBY z 0.2 a",
        "ZADD z XX CH 9 a 9 x",
        "ZREM z a x",
        "ZPOPMIN z",
        "ZPOPMAX z 1",
        "ZRANGESTORE dst z 0 -1",
        "ZUNIONSTORE dst 2 dst z WEIGHTS 1 2",
        "ZREMRANGEBYRANK z 0 0",
        "ZRANGESTORE dst z 7 9",
    ] {
        s.run(command);
        s.expect_effect(command);
    }
    s.run("ZMPOP 2 none z MAX COUNT 10");
    s.expect_effect("ZPOPMAX z 2");
    assert_eq!(s.keys(), 0, "an empty sorted set does not stay");
}

#[test]
fn a_rank_is_answered_with_its_score() {
    let mut s = Session::new();
    s.run("ZADD z 1 a 2.5 b");
    s.expect("ZRANK z b WITHSCORE", "*2\r\n:1\r\n$3\r\n2.5\r\n");
    s.expect("ZREVRANK z b withscore", "*2\r\n:0\r\n$3\r\n2.5\r\n");
    s.expect("ZRANK z x WITHSCORE", "*-1\r\n");
    s.expect("ZRANK none x WITHSCORE", "*-1\r\n");
    s.expect("ZRANK z b SCORE", "-ERR syntax error\r\n");
    s.expect(
        "ZRANK z b WITHSCORE x",
        "-ERR wrong number of arguments for 'zrank' command\r\n",
    );
    s.resp3();
    s.expect("ZRANK z b WITHSCORE", "*2\r\n:1\r\n,2.5\r\n");
    s.expect("ZREVRANK z x WITHSCORE", "_\r\n");
}

#[test]
fn scores_have_as_few_digits_as_say_them() {
    let mut s = Session::new();
    s.run("ZADD z 0.1 a 1e17 b 1e300 c -0.3 d");
    s.expect("ZSCORE z a", "$3\r\n0.1\r\n");
    s.expect("ZINCRBY z 0.2 a", "$19\r\n0.30000000000000004\r\n");
    s.expect("ZSCORE z b", "$18\r\n100000000000000000\r\n");
    s.expect(
        "ZSCAN z 0 MATCH [cd]",
        "*2\r\n$1\r\n0\r\n*4\r\n$1\r\nd\r\n$4\r\n-0.3\r\n$1\r\nc\r\n$6\r\n1e+300\r\n",
    );
    s.resp3();
    s.expect("ZPOPMIN z", "*2\r\n$1\r\nd\r\n,-0.3\r\n");
    s.expect("ZPOPMAX z 1", "*1\r\n*2\r\n$1\r\nc\r\n,1e+300\r\n");
}

#[test]
fn random_members_are_distinct_unless_the_count_is_negative() {
    for size in [5, 1000] {
        let mut s = Session::new();
        for n in 0..size {
            s.run(&format!("ZADD z {n}.5 m{n}"));
        }
        s.effects();
        let some = bulks(&s.run(&format!("ZRANDMEMBER z {}", size - 2)));
        let distinct: BTreeSet<&String> = some.iter().collect();
        assert_eq!((some.len(), distinct.len()), (size - 2, size - 2));
        assert_eq!(bulks(&s.run("ZRANDMEMBER z 99999")).len(), size);
        assert_eq!(bulks(&s.run("ZRANDMEMBER z -3000")).len(), 3000);
        let pairs = bulks(&s.run("ZRANDMEMBER z -20 WITHSCORES"));
        for pair in pairs.chunks(2) {
            assert_eq!(format!("m{}", pair[1].trim_end_matches(".5")), pair[0]);
        }
        s.expect(
            "ZRANDMEMBER z -9223372036854775807",
            "-ERR value is out of range\r\n",
        );
        s.expect_no_effect();
    }
}

#[test]
fn a_scan_comes_to_every_member_of_any_form() {
    for size in [100, 3000] {
        let mut s = Session::new();
        for n in 0..size {
            s.run(&format!("ZADD z {n} m{n}"));
        }
        let mut found = BTreeSet::new();
        let mut cursor = "0".to_owned();
        loop {
            let mut parts = bulks(&s.run(&format!("ZSCAN z {cursor} COUNT 20"))).into_iter();
            cursor = parts.next().expect("a cursor");
            let parts: Vec<String> = parts.collect();
            for pair in parts.chunks(2) {
                assert_eq!(format!("m{}", pair[1]), pair[0]);
                found.insert(pair[0].clone());
            }
            assert!(size < 1000 || parts.len() <= 200, "{} at once", parts.len());
            if cursor == "0" {
                break;
            }
        }
        assert_eq!(found.len(), size);
    }
}

#[test]
fn the_thresholds_of_the_forms_can_be_set() {
    let mut s = Session::new();
    s.limits.zset_max_listpack_entries = 2;
    s.limits.zset_max_listpack_value = 3;
    for (command, encoding) in [
        ("ZADD a 1 x 2 y", "listpack"),
        ("ZADD a 3 z", "skiplist"),
        ("ZADD b 1 xyz", "listpack"),
        ("ZADD b 1 wxyz", "skiplist"),
        ("ZRANGESTORE c a 0 1", "listpack"),
        ("ZUNIONSTORE d 2 a b", "skiplist"),
        ("ZINTERSTORE e 1 a AGGREGATE MIN", "skiplist"),
        ("ZREM a x y", "skiplist"),
        ("ZDIFFSTORE f 1 a", "listpack"),
    ] {
        s.run(command);
        let key = command.split(' ').nth(1).expect("a key");
        let expected = format!("${}\r\n{encoding}\r\n", encoding.len());
        s.expect(&format!("OBJECT ENCODING {key}"), &expected);
    }
}
