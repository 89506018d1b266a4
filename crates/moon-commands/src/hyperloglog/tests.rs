//! Commands on HyperLogLogs, on one shard.

use crate::testing::Session;

#[test]
fn what_raises_no_register_adds_nothing() {
    let mut s = Session::new();
    s.expect("PFADD h", ":1\r\n");
    s.expect_effect("PFADD h");
    s.expect("PFADD h", ":0\r\n");
    s.expect_no_effect();
    s.expect("PFADD h a b", ":1\r\n");
    s.expect_effect("PFADD h a b");
    s.expect("PFADD h b a", ":0\r\n");
    s.expect("PFCOUNT h", ":2\r\n");
    s.expect("PFCOUNT h none", ":2\r\n");
    s.expect_no_effect();
    s.expect("PFMERGE h", "+OK\r\n");
    s.expect_effect("PFMERGE h");
}

#[test]
fn the_setting_decides_when_registers_get_six_bits_each() {
    let mut s = Session::new();
    s.limits.hll_sparse_max_bytes = 24;
    s.expect("PFADD h a", ":1\r\n");
    s.expect("PFDEBUG ENCODING h", "+sparse\r\n");
    s.expect("PFADD h b c", ":1\r\n");
    s.expect("PFDEBUG ENCODING h", "+dense\r\n");
    s.expect("STRLEN h", ":12304\r\n");
    s.expect("PFCOUNT h", ":3\r\n");
}

/// A string that is broken behind what a command changes first stays as it was.
#[test]
fn a_corrupted_string_is_left_alone() {
    let corrupted = "-INVALIDOBJ Corrupted HLL object detected\r\n";
    let wrong = "-WRONGTYPE Key is not a valid HyperLogLog string value.\r\n";
    let mut s = Session::new();
    // One run of 64 zeros; most elements belong behind it.
    let string = "HYLL\u{1}aaabbbbbbbb?";
    s.expect(&format!("SET h {string}"), "+OK\r\n");
    s.effects();
    s.expect("PFADD h a b c d e", corrupted);
    s.expect("PFMERGE r h", corrupted);
    s.expect("PFCOUNT h x", corrupted);
    s.expect("PFDEBUG TODENSE h", corrupted);
    s.expect_no_effect();
    s.expect("GET h", &format!("${}\r\n{string}\r\n", string.len()));
    // Its count is taken as it is.
    s.expect("PFCOUNT h", ":7089336938131513954\r\n");
    for string in ["5", "HYLL", "HYLL\u{2}aaabbbbbbbb?", "HYLL\0aaabbbbbbbb?"] {
        s.expect(&format!("SET h {string}"), "+OK\r\n");
        s.effects();
        for command in [
            "PFADD h a",
            "PFCOUNT h",
            "PFCOUNT h h",
            "PFMERGE h",
            "PFMERGE r h",
        ] {
            s.expect(command, wrong);
        }
        s.expect_no_effect();
    }
}
