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

/// However many members one SPOP takes, no effect names more than some of them.
#[test]
fn many_pops_are_logged_in_pieces() {
    let mut s = Session::new();
    for from in (0..5000).step_by(500) {
        let members: Vec<_> = (from..from + 500).map(|n| format!("m{n}")).collect();
        s.run(&format!("SADD s {}", members.join(" ")));
    }
    s.effects();
    let popped: BTreeSet<_> = bulks(&s.run("SPOP s 4990")).into_iter().collect();
    assert_eq!(popped.len(), 4990);
    let effects = s.effects();
    assert_eq!(effects.matches("SREM").count(), 5);
    assert!(effects.starts_with("*1\r\n$5\r\nMULTI\r\n*1026\r\n"));
    for member in &popped {
        assert!(effects.contains(&format!("\r\n{member}\r\n")), "{member}");
    }
    s.expect("SCARD s", ":10\r\n");
}

#[test]
fn results_keep_the_encoding_that_suits_them() {
    let mut s = Session::new();
    s.run("SADD ints 1 2 3");
    s.run("SADD more 2 3 4");
    s.run("SADD words 2 3 x");
    let cases = [
        ("SINTERSTORE d ints more", "intset"),
        ("SINTERSTORE d ints words", "intset"),
        ("SINTERSTORE d words words", "listpack"),
        ("SUNIONSTORE d ints more", "intset"),
        ("SUNIONSTORE d ints words", "listpack"),
        ("SDIFFSTORE d words more", "listpack"),
        ("SDIFFSTORE d ints more", "intset"),
    ];
    for (command, encoding) in cases {
        s.run(command);
        let reply = format!("${}\r\n{encoding}\r\n", encoding.len());
        s.expect("OBJECT ENCODING d", &reply);
    }
    s.limits.set_max_intset_entries = 2;
    s.limits.set_max_listpack_entries = 2;
    s.expect("SUNIONSTORE d ints more", ":4\r\n");
    s.expect("OBJECT ENCODING d", "$9\r\nhashtable\r\n");
    s.expect("SINTERSTORE d ints more", ":2\r\n");
    s.expect("OBJECT ENCODING d", "$6\r\nintset\r\n");
    s.run("SADD new 1 2 3");
    s.expect("OBJECT ENCODING new", "$9\r\nhashtable\r\n");
}

/// What is answered agrees with sets of the standard library, whatever the forms and sizes.
#[test]
fn large_and_small_sets_combine() {
    let mut s = Session::new();
    let mut model = Vec::new();
    for (name, range, step) in [
        ("a", 0..3000, 1),
        ("b", 0..3000, 7),
        ("c", 100..200, 2),
        ("d", 140..160, 1),
        ("e", 5000..5001, 1),
    ] {
        let members: Vec<String> = range.step_by(step).map(|n| n.to_string()).collect();
        for some in members.chunks(500) {
            s.run(&format!("SADD {name} {}", some.join(" ")));
        }
        model.push((name, members.into_iter().collect::<BTreeSet<_>>()));
    }
    s.run("SADD b word");
    model[1].1.insert("word".to_owned());
    for (x, of_x) in &model {
        for (y, of_y) in &model {
            for (z, of_z) in &model {
                let keys = format!("{x} {y} {z}");
                let found = |reply: &str| bulks(reply).into_iter().collect::<BTreeSet<_>>();
                let common = &(of_x & of_y) & of_z;
                assert_eq!(found(&s.run(&format!("SINTER {keys}"))), common, "{keys}");
                let union = &(of_x | of_y) | of_z;
                assert_eq!(found(&s.run(&format!("SUNION {keys}"))), union, "{keys}");
                let rest = &(of_x - of_y) - of_z;
                assert_eq!(found(&s.run(&format!("SDIFF {keys}"))), rest, "{keys}");
                let count = format!(":{}\r\n", common.len().min(5));
                s.expect(&format!("SINTERCARD 3 {keys} LIMIT 5"), &count);
                for (command, stored) in [
                    ("SINTERSTORE", &common),
                    ("SUNIONSTORE", &union),
                    ("SDIFFSTORE", &rest),
                ] {
                    s.expect(
                        &format!("{command} stored {keys}"),
                        &format!(":{}\r\n", stored.len()),
                    );
                    assert_eq!(
                        &found(&s.run("SMEMBERS stored")),
                        stored,
                        "{command} {keys}"
                    );
                }
            }
        }
    }
}

/// A member that stays is answered, whatever else comes and goes between the calls.
#[test]
fn a_scan_answers_everything_that_stays() {
    let mut s = Session::new();
    let stay: BTreeSet<String> = (0..300).map(|n| format!("stays{n}")).collect();
    for member in &stay {
        s.run(&format!("SADD s {member}"));
    }
    let (mut seen, mut cursor, mut call) = (BTreeSet::new(), "0".to_owned(), 0);
    loop {
        let reply = s.run(&format!("SSCAN s {cursor} COUNT 7 MATCH stays*"));
        let mut lines = reply.split("\r\n").skip(2);
        cursor = lines.next().expect("a cursor").to_owned();
        seen.extend(
            lines
                .filter(|line| line.starts_with("stays"))
                .map(str::to_owned),
        );
        if cursor == "0" {
            break;
        }
        for n in 0..40 {
            // The set grows by many at first, and loses all of them again.
            let name = if call < 20 { "SADD" } else { "SREM" };
            s.run(&format!("{name} s comes{}", (call % 20) * 40 + n));
        }
        call += 1;
    }
    assert!(call > 20, "only {call} calls");
    assert_eq!(seen, stay);
    s.expect("SSCAN s 0 NOVALUES", "-ERR syntax error\r\n");
}

#[test]
fn moves_are_logged_as_sent_and_take_the_last_member_with_the_key() {
    let mut s = Session::new();
    s.run("SADD from a b");
    s.effects();
    s.expect("SMOVE from to a", ":1\r\n");
    s.expect_effect("SMOVE from to a");
    s.expect("SMOVE from to x", ":0\r\n");
    s.expect("SMOVE from from b", ":1\r\n");
    s.expect("SMOVE none to b", ":0\r\n");
    s.expect_no_effect();
    s.expect("SMOVE from to b", ":1\r\n");
    s.expect_effect("SMOVE from to b");
    assert_eq!(s.keys(), 1);
}

#[test]
fn an_empty_result_removes_the_destination() {
    let mut s = Session::new();
    s.run("SADD a 1");
    s.run("SADD d 9");
    s.effects();
    s.expect("SINTERSTORE d a none", ":0\r\n");
    s.expect_effect("SINTERSTORE d a none");
    s.expect("SINTERSTORE d a none", ":0\r\n");
    s.expect("SDIFFSTORE d none a", ":0\r\n");
    s.expect("SUNIONSTORE d none", ":0\r\n");
    s.expect_no_effect();
    s.expect("SUNIONSTORE a a none", ":1\r\n");
    s.expect_effect("SUNIONSTORE a a none");
}

/// An addition that adds nothing has no effect, so it must not change the form either.
#[test]
fn what_adds_nothing_keeps_the_form() {
    let mut s = Session::new();
    s.limits.set_max_intset_entries = 2;
    s.run("SADD s 1 2");
    s.effects();
    s.expect("SADD s 1 2 1 2", ":0\r\n");
    s.expect_no_effect();
    s.expect("OBJECT ENCODING s", "$6\r\nintset\r\n");
    s.expect("SADD s 1 2 1 3", ":1\r\n");
    s.expect("OBJECT ENCODING s", "$9\r\nhashtable\r\n");
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
        "SSCAN h 0",
        "SMOVE h x a",
        "SINTER none h",
        "SUNION none h",
        "SDIFF none h",
        "SINTERSTORE d none h",
        "SUNIONSTORE d none h",
        "SDIFFSTORE d none h",
        "SINTERCARD 2 none h",
    ] {
        s.expect(command, wrong);
    }
    s.expect_no_effect();
}
