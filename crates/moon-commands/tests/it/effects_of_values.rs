//! What writes of lists, sets, bitmaps, HyperLogLogs and positions add to the stream.

use crate::effects_of_commands::check;
use crate::harness::{Instance, START};

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

/// Scenarios 18 and 28.
#[test]
fn sets_tell_which_members_came_and_went() {
    check(&[
        ("sadd s a b a", &["sadd s a b a"]),
        ("sadd s a", &[]),
        ("srem s x", &[]),
        ("smove s t x", &[]),
        ("smove s s a", &[]),
        ("smove s t a", &["smove s t a"]),
        ("smove s t b", &["smove s t b"]),
        ("sunionstore u t none", &["sunionstore u t none"]),
        ("sinterstore u t none", &["sinterstore u t none"]),
        ("sinterstore u t none", &[]),
        ("sdiffstore u none t", &[]),
        ("sunion t u", &[]),
        ("srandmember t 1", &[]),
        ("sscan t 0", &[]),
        ("srem t a", &["srem t a"]),
        ("spop t 0", &[]),
        ("spop t 5", &["DEL t"]),
        ("spop t", &[]),
    ]);
    let mut instance = Instance::new(1);
    instance.run("sadd s a b c");
    instance.effects();
    let popped = instance.run("spop s");
    let member = popped.split("\r\n").nth(1).expect("a member");
    assert_eq!(instance.effects(), [format!("SREM s {member}")]);
}

/// A store replayed later, when nothing expires by itself, must not find what was past its
/// deadline. Scenario 141.
#[test]
fn expired_sources_are_deleted_before_what_is_made_of_the_others() {
    for (command, result) in [
        ("sinterstore d old s", ":0\r\n"),
        ("sunionstore d old s", ":2\r\n"),
        ("sdiffstore d s old", ":2\r\n"),
    ] {
        let (mut live, mut copy) = (Instance::new(3), Instance::new(2));
        live.run("sadd d was-here");
        live.run("sadd old a b");
        live.run("sadd s a c");
        live.run(&format!("pexpireat old {}", START.0 + 100));
        live.now.0 += 100;
        live.expect(command, result);
        let payload = live.effects.take();
        copy.replay(&payload).expect("replayed");
        assert_eq!(live.dump(), copy.dump(), "{command}");
        let effects = crate::harness::requests(&payload);
        let deleted = effects.iter().position(|effect| effect == "DEL old");
        let stored = effects.iter().position(|effect| effect == command);
        assert!(deleted.is_some() && deleted < stored, "{effects:?}");
    }
}

/// The key of the last member goes with it, and its deadline does not come back. Scenario 142.
#[test]
fn a_set_that_was_emptied_begins_without_a_deadline() {
    let mut live = Instance::new(2);
    let mut copy = Instance::new(2);
    for command in [
        "sadd s a b",
        "pexpireat s 1700000000500",
        "spop s 2",
        "sadd s c",
        "sadd t d",
        "pexpireat t 1700000000500",
        "sunionstore t s",
    ] {
        live.run(command);
    }
    copy.replay(&live.effects.take()).expect("replayed");
    live.now.0 += 1000;
    live.expect("scard s", ":1\r\n");
    live.expect("scard t", ":1\r\n");
    assert_eq!(live.dump(), copy.dump());
}

#[test]
fn what_was_sorted_or_found_is_told_as_the_result() {
    check(&[
        ("rpush l 3 1 2", &["rpush l 3 1 2"]),
        ("sort l", &[]),
        ("sort l store d", &["RPUSH d 1 2 3"]),
        (
            "sort l by nosort store d",
            &["MULTI", "DEL d", "RPUSH d 3 1 2", "EXEC"],
        ),
        ("sort l limit 5 1 store d", &["DEL d"]),
        ("sort none store d", &[]),
        ("geoadd p 1 1 a", &["ZADD p 3377822707026402 a"]),
        ("geoadd p 1 1 a", &[]),
        (
            "georadius p 1 1 1 km store d",
            &["ZADD d 3377822707026402 a"],
        ),
        ("geosearch p fromlonlat 1 1 byradius 1 km", &[]),
        ("geosearchstore d p fromlonlat 9 9 byradius 1 m", &["DEL d"]),
    ]);
}

/// Scenario 141. A source past its deadline is gone before the effect of the command that found it.
#[test]
fn what_expired_is_told_before_what_was_made_of_the_rest() {
    let mut instance = crate::harness::Instance::new(1);
    for command in [
        "setbit b 0 1",
        "pfadd h a",
        "geoadd p 1 1 a",
        "rpush l a",
        "rpush d x",
    ] {
        instance.run(command);
    }
    for key in ["b", "h", "p", "l"] {
        instance.run(&format!("pexpire {key} 10"));
    }
    instance.now.0 += 100;
    instance.effects();
    for (command, effects) in [
        ("bitop or r b", &["DEL b"][..]),
        ("pfmerge m h", &["MULTI", "DEL h", "pfmerge m h", "EXEC"]),
        (
            "geosearchstore d p frommember a byradius 1 m",
            &["MULTI", "DEL p", "DEL d", "EXEC"],
        ),
        ("lmove l m2 left left", &["DEL l"]),
    ] {
        instance.run(command);
        assert_eq!(instance.effects(), effects, "{command}");
    }
}
