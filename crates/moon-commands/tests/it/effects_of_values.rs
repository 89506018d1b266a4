//! What writes of lists, bitmaps, HyperLogLogs and positions add to the stream.

use crate::effects_of_commands::check;

/// Scenario 18.
#[test]
fn lists_tell_what_was_moved_and_nothing_else() {
    check(&[
        ("rpush l a b c b a", &["rpush l a b c b a"]),
        ("lset l 9 x", &[]),
        ("lset l 1 x", &["lset l 1 x"]),
        ("linsert l before none y", &[]),
        ("linsert l after x y", &["linsert l after x y"]),
        ("linsert none after x y", &[]),
        ("lrem l 0 none", &[]),
        ("lrem l -1 a", &["lrem l -1 a"]),
        ("ltrim l 0 -1", &[]),
        ("ltrim l 0 3", &["ltrim l 0 3"]),
        ("lpos l a", &[]),
        ("lmove l m left right", &["lmove l m left right"]),
        ("lmove l l left left", &["lmove l l left left"]),
        ("lmove none m left right", &[]),
        ("rpoplpush l l", &["rpoplpush l l"]),
        ("lmpop 2 none none left", &[]),
        ("lmpop 3 none m l right count 9", &["RPOP m 1"]),
        ("lmpop 2 m l left count 2", &["LPOP l 2"]),
        ("lmpop 1 l left", &["LPOP l 1"]),
        ("lmpop 1 l left", &[]),
        ("rpush l a", &["rpush l a"]),
        ("ltrim l 5 9", &["ltrim l 5 9"]),
        ("llen l", &[]),
    ]);
}

#[test]
fn registers_tell_what_raised_them() {
    check(&[
        ("pfadd h", &["pfadd h"]),
        ("pfadd h a b", &["pfadd h a b"]),
        ("pfadd h b", &[]),
        ("pfcount h", &[]),
        ("pfcount h h", &[]),
        ("pfmerge m h none", &["pfmerge m h none"]),
        ("pfdebug encoding h", &[]),
        ("pfdebug todense h", &["pfdebug todense h"]),
        ("pfdebug todense h", &[]),
    ]);
}

#[test]
fn bits_tell_what_was_asked_if_it_changed_something() {
    check(&[
        ("getbit b 5", &[]),
        ("bitop or r none", &[]),
        ("setbit b 5 1", &["setbit b 5 1"]),
        ("setbit b 5 1", &[]),
        ("bitop not r b", &["bitop not r b"]),
        ("bitop and r none", &["bitop and r none"]),
        ("exists r", &[]),
        ("bitfield b get u8 0", &[]),
        ("bitfield b set u8 0 4", &[]),
        ("bitfield b incrby u8 0 1", &["bitfield b incrby u8 0 1"]),
        ("bitcount b", &[]),
        ("pexpireat b 1700000000001", &["PEXPIREAT b 1700000000001"]),
    ]);
}
