//! What each kind of write adds to the stream, and that the rest adds nothing.

use crate::harness::{Instance, START};

/// Commands, one after the other on one instance, with the effects of each.
pub(crate) fn check(cases: &[(&str, &[&str])]) {
    let mut instance = Instance::new(1);
    for (command, effects) in cases {
        instance.run(command);
        assert_eq!(instance.effects(), *effects, "{command}");
    }
}

#[test]
fn relative_times_become_absolute_and_conditions_are_gone() {
    let in_10_s = (START.0 + 10_000).to_string();
    let set = format!("SET k v PXAT {in_10_s}");
    let expire = format!("PEXPIREAT k {in_10_s}");
    check(&[
        ("set k v EX 10 NX", &[&set]),
        ("set k v XX GET px 10000", &[&set]),
        ("setex k 10 v", &[&set]),
        ("psetex k 10000 v", &[&set]),
        ("set k w KEEPTTL", &["SET k w KEEPTTL"]),
        ("getex k EX 10", &[&expire]),
        ("expire k 10", &[&expire]),
        ("pexpire k 10000 LT", &[]),
        ("incrbyfloat k 1", &[]),
        ("getset k 1", &["SET k 1"]),
        ("set k 1 keepttl", &["SET k 1"]),
        ("incrbyfloat k 0.5", &["SET k 1.5"]),
        ("pexpireat k 1700000010000", &[&expire]),
        ("incrbyfloat k 0.5", &["SET k 2 KEEPTTL"]),
        ("persist k", &["PERSIST k"]),
        ("setnx k 3", &[]),
        ("setnx l 3", &["SET l 3"]),
        ("msetnx l 1 m 1", &[]),
        ("msetnx n 1 m 1", &["MSET n 1 m 1"]),
        ("renamenx n o", &["RENAME n o"]),
        ("copy o n DB 2", &["copy o n DB 2"]),
        ("move o 3", &["MOVE o 3"]),
        ("del k l x", &["DEL k l"]),
        ("unlink m", &["UNLINK m"]),
    ]);
}

/// Scenario 18.
#[test]
fn what_changes_nothing_adds_nothing() {
    check(&[
        ("set k v XX", &[]),
        ("expire k 10", &[]),
        ("persist k", &[]),
        ("del k", &[]),
        ("getdel k", &[]),
        ("flushall", &[]),
        ("flushdb", &[]),
        ("set k v", &["set k v"]),
        ("set k v NX", &[]),
        ("append k  ", &[]),
        ("incr k", &[]),
        ("rename k k", &[]),
        ("copy k k", &[]),
        ("swapdb 1 1", &[]),
        ("expire k 10 XX", &[]),
        ("getex k PERSIST", &[]),
        ("getex k", &[]),
        ("flushdb", &["FLUSHDB"]),
    ]);
}

/// Scenario 145.
#[test]
fn a_deadline_in_the_past_deletes_at_once() {
    check(&[
        ("set k v PXAT 1", &[]),
        ("set k v", &["set k v"]),
        ("set k w EXAT 1 GET", &["DEL k"]),
        ("set k v", &["set k v"]),
        ("expire k -1", &["DEL k"]),
        ("set k v", &["set k v"]),
        ("getex k PXAT 5", &["DEL k"]),
        ("dbsize", &[]),
    ]);
}

#[test]
fn the_removal_of_an_expired_key_is_one_unit_with_what_the_command_does() {
    let mut instance = Instance::new(1);
    instance.run("set k 5 PX 100");
    instance.run("set l 5 PX 100");
    instance.effects();
    instance.now.0 += 100;
    instance.expect("incr k", ":1\r\n");
    assert_eq!(instance.effects(), ["MULTI", "DEL k", "incr k", "EXEC"]);
    instance.expect("get l", "$-1\r\n");
    assert_eq!(instance.effects(), ["DEL l"]);
    assert_eq!(instance.counts.expired, 2);
    assert_eq!((instance.counts.hits, instance.counts.misses), (0, 1));
}

#[test]
fn while_expiry_is_logical_reads_hide_keys_and_writes_remove_them() {
    let mut instance = Instance::new(1);
    instance.run("set k 5 PX 100");
    instance.effects();
    instance.now.0 += 100;
    instance.keep_expired = true;
    instance.expect("get k", "$-1\r\n");
    instance.expect("exists k", ":0\r\n");
    instance.expect("randomkey", "$-1\r\n");
    instance.expect("keys *", "*0\r\n");
    assert!(instance.effects().is_empty());
    instance.expect("append k x", ":1\r\n");
    assert_eq!(instance.effects(), ["MULTI", "DEL k", "append k x", "EXEC"]);
}

#[test]
fn writes_of_another_database_select_it() {
    let mut instance = Instance::new(1);
    instance.db = 2;
    instance.run("set k v");
    instance.run("set l v");
    assert_eq!(
        instance.effects(),
        ["SELECT 2", "set k v", "set l v", "SELECT 0"]
    );
}
