//! Commands on lists, on one shard.

use crate::testing::Session;

#[test]
fn elements_go_in_and_out_at_both_ends() {
    let mut s = Session::new();
    s.expect("RPUSH l a b", ":2\r\n");
    s.expect("LPUSH l c d", ":4\r\n");
    s.expect(
        "LRANGE l 0 -1",
        "*4\r\n$1\r\nd\r\n$1\r\nc\r\n$1\r\na\r\n$1\r\nb\r\n",
    );
    s.expect("LPOP l", "$1\r\nd\r\n");
    s.expect("RPOP l 2", "*2\r\n$1\r\nb\r\n$1\r\na\r\n");
    s.expect("LLEN l", ":1\r\n");
    s.expect("RPOP l 9", "*1\r\n$1\r\nc\r\n");
    assert_eq!(s.keys(), 0);
}

#[test]
fn pops_say_whether_there_was_a_list() {
    let mut s = Session::new();
    s.expect("LPOP none", "$-1\r\n");
    s.expect("LPOP none 0", "*-1\r\n");
    s.expect("RPUSH l a", ":1\r\n");
    s.expect_effect("RPUSH l a");
    s.expect("RPOP l 0", "*0\r\n");
    s.expect_no_effect();
    let positive = "-ERR value is out of range, must be positive\r\n";
    s.expect("LPOP l -1", positive);
    s.expect("LPOP none x", positive);
    s.expect(
        "LPOP l 1 2",
        "-ERR wrong number of arguments for 'lpop' command\r\n",
    );
    s.expect(
        "RPOP l 1 2",
        "-ERR wrong number of arguments for 'rpop' command\r\n",
    );
    s.resp3();
    s.expect("LPOP none", "_\r\n");
    s.expect("LPOP none 1", "_\r\n");
    s.expect_no_effect();
    s.expect("LPOP l 5", "*1\r\n$1\r\na\r\n");
    s.expect_effect("LPOP l 5");
}

#[test]
fn pushx_leaves_what_is_missing_missing() {
    let mut s = Session::new();
    s.expect("LPUSHX l a", ":0\r\n");
    s.expect("RPUSHX l a", ":0\r\n");
    s.expect_no_effect();
    s.expect("LPUSH l a", ":1\r\n");
    s.expect("RPUSHX l b c", ":3\r\n");
    s.expect("LPUSHX l z", ":4\r\n");
    s.expect("LINDEX l 0", "$1\r\nz\r\n");
    s.expect("LINDEX l -1", "$1\r\nc\r\n");
}

#[test]
fn positions_outside_are_empty_or_cut() {
    let mut s = Session::new();
    s.expect("RPUSH l a b c", ":3\r\n");
    let all = "*3\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n";
    s.expect("LRANGE l -100 100", all);
    s.expect("LRANGE l -9223372036854775808 9223372036854775807", all);
    s.expect("LRANGE l 1 1", "*1\r\n$1\r\nb\r\n");
    s.expect("LRANGE l -2 -1", "*2\r\n$1\r\nb\r\n$1\r\nc\r\n");
    for empty in [
        "LRANGE l 2 1",
        "LRANGE l 3 9",
        "LRANGE l 0 -4",
        "LRANGE none 0 1",
    ] {
        s.expect(empty, "*0\r\n");
    }
    for nothing in ["LINDEX l 3", "LINDEX l -4", "LINDEX none x"] {
        s.expect(nothing, "$-1\r\n");
    }
    let number = "-ERR value is not an integer or out of range\r\n";
    s.expect("LINDEX l x", number);
    s.expect("LRANGE none x 1", number);
}

#[test]
fn other_types_are_refused() {
    let wrong = "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n";
    let mut s = Session::new();
    s.expect("SADD s a", ":1\r\n");
    s.expect_effect("SADD s a");
    for command in [
        "LPUSH s a",
        "RPUSH s a",
        "LPUSHX s a",
        "RPUSHX s a",
        "LPOP s",
        "RPOP s 0",
        "LLEN s",
        "LRANGE s 0 1",
        "LINDEX s x",
    ] {
        s.expect(command, wrong);
    }
    s.expect_no_effect();
}

/// Redis 7.0 wraps around here; 7.2 refuses.
#[test]
fn the_number_without_a_negation_is_refused() {
    let refused = "-ERR value is out of range, value must between -9223372036854775807 and \
        9223372036854775807\r\n";
    let mut s = Session::new();
    s.expect("RPUSH l a b", ":2\r\n");
    s.expect("LPOS l a RANK -9223372036854775808", refused);
    s.expect("LREM l -9223372036854775808 a", refused);
    s.expect("LLEN l", ":2\r\n");
}

#[test]
fn the_form_follows_the_settings_of_the_moment() {
    let mut s = Session::new();
    s.limits.list_max_listpack_size = 4;
    s.expect("RPUSH l a b c d", ":4\r\n");
    s.expect("OBJECT ENCODING l", "$8\r\nlistpack\r\n");
    s.expect("LINSERT l AFTER b x", ":5\r\n");
    s.expect("OBJECT ENCODING l", "$9\r\nquicklist\r\n");
    s.expect("LTRIM l 0 2", "+OK\r\n");
    s.expect("OBJECT ENCODING l", "$9\r\nquicklist\r\n");
    s.expect("LREM l 0 a", ":1\r\n");
    s.expect("OBJECT ENCODING l", "$8\r\nlistpack\r\n");
    s.expect("LMOVE l l LEFT RIGHT", "$1\r\nb\r\n");
    s.expect("LRANGE l 0 -1", "*2\r\n$1\r\nx\r\n$1\r\nb\r\n");
}

#[test]
fn every_command_sees_through_compressed_nodes() {
    let element = |number: usize| format!("{:_>40}", number % 30);
    let mut plain = Session::new();
    let mut compressed = Session::new();
    for session in [&mut plain, &mut compressed] {
        session.limits.list_max_listpack_size = 8;
    }
    compressed.limits.list_compress_depth = 1;
    let mut commands = Vec::new();
    for number in 0..100 {
        commands.push(format!("RPUSH l {}", element(number)));
    }
    let (few, many, new) = (element(17), element(5), element(99));
    commands.extend([
        "LRANGE l 0 -1".to_owned(),
        "LRANGE l 20 60".to_owned(),
        "LINDEX l 47".to_owned(),
        format!("LPOS l {few} COUNT 0"),
        format!("LPOS l {few} RANK -2 MAXLEN 60"),
        format!("LINSERT l AFTER {few} {new}"),
        format!("LSET l 33 {new}"),
        "SORT l LIMIT 3 20 ALPHA".to_owned(),
        "SORT l BY nosort LIMIT 30 50 DESC".to_owned(),
        format!("LREM l -2 {many}"),
        "LRANGE l 0 -1".to_owned(),
        "COPY l m".to_owned(),
        "LTRIM l 21 66".to_owned(),
        "LRANGE l 0 -1".to_owned(),
        "LMOVE l m LEFT RIGHT".to_owned(),
        "LPOP l 30".to_owned(),
        "RPOP l 30".to_owned(),
        "LRANGE m 0 -1".to_owned(),
        "EXISTS l".to_owned(),
    ]);
    for command in commands {
        assert_eq!(compressed.run(&command), plain.run(&command), "{command}");
    }
}

#[test]
fn commands_that_wait_write_the_effects_of_those_that_do_not() {
    let mut s = Session::new();
    s.expect("RPUSH l a b c d e f", ":6\r\n");
    s.expect_effect("RPUSH l a b c d e f");
    s.expect("BLPOP none l 0", "*2\r\n$1\r\nl\r\n$1\r\na\r\n");
    s.expect_effect("LPOP l");
    s.expect("BRPOP l 0", "*2\r\n$1\r\nl\r\n$1\r\nf\r\n");
    s.expect_effect("RPOP l");
    s.expect("BLMOVE l m left RIGHT 0", "$1\r\nb\r\n");
    s.expect_effect("LMOVE l m LEFT RIGHT");
    s.expect("BRPOPLPUSH l m 0", "$1\r\ne\r\n");
    s.expect_effect("RPOPLPUSH l m");
    s.expect(
        "BLMPOP 0 2 none l LEFT COUNT 5",
        "*2\r\n$1\r\nl\r\n*2\r\n$1\r\nc\r\n$1\r\nd\r\n",
    );
    s.expect_effect("LPOP l 2");
    for nothing in ["BLPOP l 0", "BRPOP l k 0", "BLMPOP 0 1 l LEFT"] {
        s.expect(nothing, "*-1\r\n");
    }
    s.expect("BLMOVE l m LEFT LEFT 0", "$-1\r\n");
    s.expect_no_effect();
}
