//! Commands on bits, on one shard.

use crate::testing::Session;

#[test]
fn a_bit_that_is_as_wanted_already_adds_nothing() {
    let mut s = Session::new();
    s.expect("SETBIT b 7 1", ":0\r\n");
    s.expect_effect("SETBIT b 7 1");
    s.expect("SETBIT b 7 1", ":1\r\n");
    s.expect("SETBIT b 6 0", ":0\r\n");
    s.expect_no_effect();
    s.expect("SETBIT b 8 0", ":0\r\n");
    s.expect_effect("SETBIT b 8 0");
    s.expect("STRLEN b", ":2\r\n");
}

#[test]
fn offsets_end_where_strings_do() {
    let refused = "-ERR bit offset is not an integer or out of range\r\n";
    let mut s = Session::new();
    s.limits.max_bulk_len = 16;
    s.expect("SETBIT b 127 0", ":0\r\n");
    s.expect("SETBIT b 128 0", refused);
    s.expect("GETBIT b 128", refused);
    s.expect("BITFIELD b SET u8 #15 1 SET u8 #16 1", refused);
    s.expect("GETBIT b 127", ":0\r\n");
}

/// Redis creates the key without telling its replicas.
#[test]
fn a_failed_field_that_made_the_string_longer_is_told() {
    let mut s = Session::new();
    s.expect("BITFIELD b OVERFLOW FAIL INCRBY u2 0 9", "*1\r\n$-1\r\n");
    s.expect_effect("BITFIELD b OVERFLOW FAIL INCRBY u2 0 9");
    s.expect("STRLEN b", ":1\r\n");
    s.expect("BITFIELD b OVERFLOW FAIL INCRBY u2 0 9", "*1\r\n$-1\r\n");
    s.expect("BITFIELD b GET u2 0", "*1\r\n:0\r\n");
    s.expect("BITFIELD b SET u2 0 0", "*1\r\n:0\r\n");
    s.expect_no_effect();
}

/// The examples of the documentation of Redis 8.2, which is not at hand to compare with.
#[test]
fn first_source_against_the_others() {
    let mut s = Session::new();
    for (key, bits) in [("a", "1010"), ("b", "1100"), ("c", "0110")] {
        for (at, bit) in bits.chars().enumerate() {
            s.run(&format!("SETBIT {key} {at} {bit}"));
        }
    }
    for (operation, expected) in [
        ("DIFF a b c", ":0\r\n"),
        ("DIFF1 a b c", ":64\r\n"),
        ("ANDOR a b c", ":160\r\n"),
        ("ONE a b c", ":0\r\n"),
        ("ONE a b", ":96\r\n"),
        ("one a", ":160\r\n"),
        ("DIFF a none", ":160\r\n"),
        ("DIFF1 none a", ":160\r\n"),
        ("ANDOR a none", ":0\r\n"),
    ] {
        let (name, sources) = operation.split_once(' ').expect("a name and sources");
        s.expect(&format!("BITOP {name} r {sources}"), ":1\r\n");
        let first_byte = s.run("BITFIELD r GET u8 0").replace("*1\r\n", "");
        assert_eq!(first_byte, expected, "{operation}");
    }
    for name in ["DIFF", "DIFF1", "ANDOR"] {
        let error = format!("-ERR BITOP {name} must be called with at least two source keys.\r\n");
        s.expect(&format!("BITOP {name} r a"), &error);
    }
}

/// Redis 7.0 looks at the key first; 7.2 at the arguments.
#[test]
fn arguments_are_read_before_the_key() {
    let mut s = Session::new();
    let number = "-ERR value is not an integer or out of range\r\n";
    s.expect("BITCOUNT none a b", number);
    s.expect("BITCOUNT none 1", "-ERR syntax error\r\n");
    s.expect("BITPOS none 1 a", number);
    s.expect("BITPOS none 1 0 1 BITS", "-ERR syntax error\r\n");
    s.expect("RPUSH l a", ":1\r\n");
    s.expect("BITCOUNT l a b", number);
}
