//! Commands of Redis newer than the one that replies are compared with, and effects.

use crate::testing::Session;

#[test]
fn xdelex_minds_references_as_told() {
    let mut s = Session::new();
    for id in 1..=6 {
        s.run(&format!("XADD s {id}-0 f v"));
    }
    s.run("XGROUP CREATE s g 0");
    s.run("XREADGROUP GROUP g c COUNT 4 STREAMS s >");
    s.run("XACK s g 1-0");
    s.effects();
    // 1 was acknowledged, 2 waits for it, 5 is still to be read.
    s.expect(
        "XDELEX s ACKED IDS 4 1-0 2-0 5-0 9-0",
        "*4\r\n:1\r\n:2\r\n:2\r\n:-1\r\n",
    );
    s.expect_effect("XDEL s 1-0");
    s.expect("XDELEX s IDS 1 2-0", "*1\r\n:1\r\n");
    s.expect_effect("XDEL s 2-0");
    s.expect(
        "XPENDING s g",
        "*4\r\n:3\r\n$3\r\n2-0\r\n$3\r\n4-0\r\n*1\r\n*2\r\n$1\r\nc\r\n$1\r\n3\r\n",
    );
    // The reference to 2 goes although the entry is gone.
    s.expect("XDELEX s IDS 2 2-0 3-0 DELREF", "*2\r\n:-1\r\n:1\r\n");
    let effects = s.effects();
    assert!(
        effects.contains("XACK") && effects.contains("XDEL"),
        "{effects}"
    );
    s.expect(
        "XPENDING s g",
        "*4\r\n:1\r\n$3\r\n4-0\r\n$3\r\n4-0\r\n*1\r\n*2\r\n$1\r\nc\r\n$1\r\n1\r\n",
    );
    s.expect("XDELEX none KEEPREF IDS 2 1 2", "*2\r\n:-1\r\n:-1\r\n");
    s.expect_no_effect();
}

/// A stream of six, of which a group was given 1, 2, 3 and acknowledged 1 and 3.
fn half_read() -> Session {
    let mut s = Session::new();
    for id in 1..=6 {
        s.run(&format!("XADD s {id}-0 f v"));
    }
    s.run("XGROUP CREATE s g 0");
    s.run("XREADGROUP GROUP g c COUNT 3 STREAMS s >");
    s.run("XACK s g 1-0 3-0");
    s.effects();
    s
}

#[test]
fn trimming_leaves_what_a_group_refers_to_if_told_so() {
    let mut s = half_read();
    s.expect("XTRIM s MAXLEN 5 ACKED", ":1\r\n");
    s.expect_effect("XTRIM s MAXLEN = 5");
    // 2 is pending, 3 goes from behind it, 4 and later are still to be read.
    s.expect("XTRIM s ACKED MAXLEN 0", ":1\r\n");
    s.expect_effect("XDEL s 3-0");
    s.expect("XTRIM s MINID 6 ACKED", ":0\r\n");
    s.expect_no_effect();
    s.run("XREADGROUP GROUP g c STREAMS s >");
    s.run("XACK s g 4-0 5-0 6-0");
    s.effects();
    s.expect("XADD s ACKED MAXLEN = 3 7-0 f v", "$3\r\n7-0\r\n");
    let effects = s.effects();
    let (add, delete) = (effects.find("XADD"), effects.find("XDEL"));
    assert!(add.is_some() && add < delete, "{effects}");
    s.expect("XLEN s", ":3\r\n");
    s.expect("XDEL s 2-0 6-0 7-0", ":3\r\n");
}

#[test]
fn trimming_takes_references_along_if_told_so() {
    let mut s = half_read();
    s.expect("XTRIM s MAXLEN = 5 KEEPREF", ":1\r\n");
    s.expect_effect("XTRIM s MAXLEN = 5");
    s.expect("XTRIM s MINID 4 DELREF", ":2\r\n");
    let effects = s.effects();
    assert!(
        effects.contains("XTRIM") && effects.contains("XACK"),
        "{effects}"
    );
    s.expect("XPENDING s g", "*4\r\n:0\r\n$-1\r\n$-1\r\n*-1\r\n");
    s.run("XREADGROUP GROUP g c STREAMS s >");
    s.effects();
    s.expect("XADD s DELREF MAXLEN 1 7-0 f v", "$3\r\n7-0\r\n");
    let effects = s.effects();
    assert!(effects.contains("XACK"), "{effects}");
    s.expect("XPENDING s g", "*4\r\n:0\r\n$-1\r\n$-1\r\n*-1\r\n");
}

#[test]
fn trimming_minds_references_in_whole_blocks_too() {
    let mut s = half_read();
    s.limits.stream_node_max_entries = 2;
    for id in 7..=12 {
        s.run(&format!("XADD s {id}-0 f v"));
    }
    s.effects();
    // The first block has six entries, which are more than may be looked at.
    s.expect("XTRIM s MAXLEN ~ 6 LIMIT 5 ACKED", ":0\r\n");
    s.expect_no_effect();
    s.expect("XTRIM s MAXLEN ~ 6 ACKED", ":2\r\n");
    s.expect("XLEN s", ":10\r\n");
    s.expect("XTRIM s MAXLEN ~ 6 DELREF", ":4\r\n");
    s.expect("XPENDING s g", "*4\r\n:0\r\n$-1\r\n$-1\r\n*-1\r\n");
}

#[test]
fn references_are_minded_in_one_way_only() {
    let mut s = half_read();
    for command in [
        "XTRIM s MAXLEN 0 ACKED DELREF",
        "XTRIM s MAXLEN 0 KEEPREF KEEPREF",
        "XADD s ACKED ACKED 9-0 f v",
    ] {
        s.expect(command, "-ERR syntax error\r\n");
    }
    // They may stand without anything to trim.
    s.expect("XADD s ACKED 9-0 f v", "$3\r\n9-0\r\n");
    s.expect_effect("XADD s 9-0 f v");
}

#[test]
fn xackdel_acknowledges_and_deletes() {
    let mut s = Session::new();
    for id in 1..=4 {
        s.run(&format!("XADD s {id}-0 f v"));
    }
    for group in ["g", "h"] {
        s.run(&format!("XGROUP CREATE s {group} 0"));
        s.run(&format!("XREADGROUP GROUP {group} c STREAMS s >"));
    }
    s.effects();
    s.expect(
        "XACKDEL s g ACKED IDS 3 1-0 1-0 9-0",
        "*3\r\n:2\r\n:-1\r\n:-1\r\n",
    );
    s.expect_effect("XACK s g 1-0");
    s.expect("XACKDEL s h ACKED IDS 1 1-0", "*1\r\n:1\r\n");
    s.expect("XLEN s", ":3\r\n");
    s.expect("XACKDEL s g IDS 1 2-0", "*1\r\n:1\r\n");
    s.expect("XACKDEL s h DELREF IDS 1 3-0", "*1\r\n:1\r\n");
    s.expect("XLEN s", ":1\r\n");
    s.expect(
        "XPENDING s g",
        "*4\r\n:1\r\n$3\r\n4-0\r\n$3\r\n4-0\r\n*1\r\n*2\r\n$1\r\nc\r\n$1\r\n1\r\n",
    );
    s.expect("XACKDEL s nosuch IDS 1 4-0", "*1\r\n:-1\r\n");
    s.expect("XACKDEL none g IDS 1 4-0", "*1\r\n:-1\r\n");
}

#[test]
fn blocks_of_ids_are_checked_before_anything_is_deleted() {
    let mut s = Session::new();
    s.run("XADD s 1-0 f v");
    s.effects();
    let invalid = "-ERR Invalid stream ID specified as stream command argument\r\n";
    let count = "-ERR Number of IDs must be a positive integer\r\n";
    let mismatch = "-ERR The `numids` parameter must match the number of arguments\r\n";
    let syntax = "-ERR syntax error\r\n";
    for (command, reply) in [
        ("XDELEX s IDS 2 1-0 x", invalid),
        ("XDELEX s IDS 0 1-0", count),
        ("XDELEX s IDS -1 1-0", count),
        ("XDELEX s IDS x 1-0", count),
        ("XDELEX s IDS 2 1-0", mismatch),
        ("XDELEX s IDS 1 1-0 1-0", syntax),
        ("XDELEX s KEEPREF ACKED IDS 1 1-0", syntax),
        ("XDELEX s KEEPREF ACKED 1-0", syntax),
        ("XACKDEL s g 1 1-0 1", syntax),
    ] {
        s.expect(command, reply);
    }
    s.expect_no_effect();
    s.expect("XLEN s", ":1\r\n");
}

#[test]
fn the_last_entry_is_read_with_a_plus() {
    let mut s = Session::new();
    s.expect("XREAD STREAMS s +", "*-1\r\n");
    s.run("XADD s 1-1 f a");
    s.run("XADD s 2-0 f b");
    let last = "*1\r\n*2\r\n$1\r\ns\r\n*1\r\n*2\r\n$3\r\n2-0\r\n*2\r\n$1\r\nf\r\n$1\r\nb\r\n";
    s.expect("XREAD COUNT 5 STREAMS s +", last);
    s.run("XDEL s 2-0");
    let first = last.replace("2-0", "1-1").replace("\r\nb\r\n", "\r\na\r\n");
    s.expect("XREAD STREAMS s +", &first);
    let error = s.run("XREADGROUP GROUP g c STREAMS s +");
    assert!(error.starts_with("-NOGROUP"), "{error}");
}

#[test]
fn what_would_wait_for_entries_changes_nothing() {
    let mut s = Session::new();
    s.run("XADD s 1-0 f v");
    s.run("XGROUP CREATE s g $");
    s.effects();
    s.expect("XREAD BLOCK 0 STREAMS s $", "*-1\r\n");
    s.expect("XREADGROUP GROUP g c BLOCK 0 STREAMS s >", "*-1\r\n");
    s.expect_no_effect();
    s.expect("XINFO CONSUMERS s g", "*0\r\n");
    let found = s.run("XREAD BLOCK 0 STREAMS s 0");
    assert!(found.contains("1-0"), "{found}");
}

#[test]
fn groups_know_how_far_behind_they_are_only_if_nothing_is_missing() {
    let mut s = Session::new();
    for id in 1..=9 {
        s.run(&format!("XADD s {id}-0 f v"));
    }
    s.run("XGROUP CREATE s g 0");
    s.run("XREADGROUP GROUP g c COUNT 3 STREAMS s >");
    assert!(
        s.run("XINFO GROUPS s")
            .ends_with("$12\r\nentries-read\r\n:3\r\n$3\r\nlag\r\n:6\r\n")
    );
    s.run("XDEL s 5-0");
    assert!(s.run("XINFO GROUPS s").ends_with("$3\r\nlag\r\n$-1\r\n"));
    s.run("XREADGROUP GROUP g c STREAMS s >");
    assert!(
        s.run("XINFO GROUPS s")
            .ends_with("$12\r\nentries-read\r\n:9\r\n$3\r\nlag\r\n:0\r\n")
    );
}
