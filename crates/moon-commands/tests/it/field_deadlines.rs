//! Deadlines of fields. Redis 7.0 has none, so the oracle is what the documentation of Redis 7.4
//! and 8.0 says: <https://redis.io/docs/latest/commands/hexpire/> and the pages beside it.

use crate::harness::{Instance, START};
use moon_commands::expire_cycle;
use moon_core::{ShardId, UnixMs};
use moon_resp::{OwnedArgs, Protocol};

fn array(integers: &[i64]) -> String {
    let items: String = integers.iter().map(|n| format!(":{n}\r\n")).collect();
    format!("*{}\r\n{items}", integers.len())
}

/// Commands with their replies, one after the other on one instance.
fn check(cases: &[(&str, &str)]) -> Instance {
    let mut instance = Instance::new(1);
    for (command, reply) in cases {
        instance.expect(command, reply);
    }
    instance
}

/// `HEXPIRE`, `HTTL` and their kin answer a number for each field.
fn check_numbers(instance: &mut Instance, cases: &[(&str, &[i64])]) {
    for (command, answers) in cases {
        instance.expect(command, &array(answers));
    }
}

fn effects(instance: &mut Instance, command: &str) -> Vec<String> {
    instance.run(command);
    instance.effects()
}

/// The example of `HEXPIRE`, and those of `HTTL`, `HPTTL`, `HEXPIRETIME`, `HPEXPIRETIME`,
/// `HPERSIST`: -2 no such key or field, -1 no deadline, 0 condition not met, 1 done, 2 removed.
#[test]
fn examples_of_the_documentation() {
    let mut i = Instance::new(1);
    check_numbers(
        &mut i,
        &[("HEXPIRE no-key 20 NX FIELDS 2 field1 field2", &[-2, -2])],
    );
    i.expect("HSET mykey field1 hello field2 world", ":2\r\n");
    check_numbers(
        &mut i,
        &[
            (
                "HEXPIRE mykey 10 FIELDS 3 field1 field2 field3",
                &[1, 1, -2],
            ),
            ("HTTL mykey FIELDS 3 field1 field2 field3", &[10, 10, -2]),
            ("HPEXPIRE mykey 2000 FIELDS 2 field1 field2", &[1, 1]),
            ("HPTTL mykey FIELDS 2 field1 field2", &[2000, 2000]),
            ("HEXPIREAT mykey 1715704971 FIELDS 2 field1 field2", &[1, 1]),
            (
                "HEXPIRETIME mykey FIELDS 2 field1 field2",
                &[1_715_704_971; 2],
            ),
            ("HPEXPIREAT mykey 1715704971001 FIELDS 1 field1", &[1]),
            ("HPEXPIRETIME mykey FIELDS 1 field1", &[1_715_704_971_001]),
            ("HEXPIRETIME mykey FIELDS 1 field1", &[1_715_704_972]),
            ("HPERSIST mykey FIELDS 3 field1 field2 nofield", &[1, 1, -2]),
            ("HPERSIST mykey FIELDS 1 field1", &[-1]),
            ("HTTL mykey FIELDS 2 field1 nofield", &[-1, -2]),
            ("HTTL no-key FIELDS 1 field1", &[-2]),
            ("HPERSIST no-key FIELDS 1 field1", &[-2]),
            ("HEXPIRE mykey 0 FIELDS 2 field1 nofield", &[2, -2]),
            ("HEXPIREAT mykey 1 FIELDS 1 field2", &[2]),
        ],
    );
    i.expect("EXISTS mykey", ":0\r\n");
}

#[test]
fn conditions_are_those_of_expire_for_each_field() {
    let mut i = Instance::new(1);
    i.run("hset h none 1 early 1 late 1");
    i.run("hpexpireat h 1800000000000 fields 1 early");
    i.run("hpexpireat h 1900000000000 fields 1 late");
    let fields = "fields 4 none early late missing";
    let set = "1850000000000";
    let mut run = |condition: &str, answers: &[i64]| {
        let mut copy = Instance::new(1);
        std::mem::swap(&mut copy, &mut i);
        copy.expect(
            &format!("hpexpireat h {set} {condition} {fields}"),
            &array(answers),
        );
        copy.run("hpexpireat h 1800000000000 fields 1 early");
        copy.run("hpexpireat h 1900000000000 fields 1 late");
        copy.run("hpersist h fields 1 none");
        i = copy;
    };
    run("NX", &[1, 0, 0, -2]);
    run("XX", &[0, 1, 1, -2]);
    run("GT", &[0, 1, 0, -2]);
    run("lt", &[1, 0, 1, -2]);
    check_numbers(
        &mut i,
        &[
            ("hpexpireat h 1900000000000 gt fields 1 late", &[0]),
            ("hpexpireat h 1900000000000 lt fields 1 late", &[0]),
            // The condition is looked at before the time is.
            ("hexpire h 0 gt fields 2 none late", &[0, 0]),
            ("hexpire h 0 lt fields 1 late", &[2]),
        ],
    );
}

#[test]
fn values_and_deadlines_in_one_step_as_documented() {
    let mut i = check(&[
        ("HSET mykey field1 Hello field2 World field3 !", ":3\r\n"),
        (
            "HGETEX mykey EX 120 FIELDS 1 field1",
            "*1\r\n$5\r\nHello\r\n",
        ),
        ("HTTL mykey FIELDS 1 field1", "*1\r\n:120\r\n"),
        (
            "HGETEX mykey PERSIST FIELDS 1 field1",
            "*1\r\n$5\r\nHello\r\n",
        ),
        ("HTTL mykey FIELDS 1 field1", "*1\r\n:-1\r\n"),
        (
            "HGETEX mykey FIELDS 2 field1 no",
            "*2\r\n$5\r\nHello\r\n$-1\r\n",
        ),
        ("HGETEX no FIELDS 2 field1 no", "*2\r\n$-1\r\n$-1\r\n"),
        (
            "HGETDEL mykey FIELDS 3 field3 no field3",
            "*3\r\n$1\r\n!\r\n$-1\r\n$-1\r\n",
        ),
        ("HGETDEL no FIELDS 1 field3", "*1\r\n$-1\r\n"),
        ("HKEYS mykey", "*2\r\n$6\r\nfield1\r\n$6\r\nfield2\r\n"),
        (
            "HGETEX mykey PXAT 1 FIELDS 1 field2",
            "*1\r\n$5\r\nWorld\r\n",
        ),
        ("HLEN mykey", ":1\r\n"),
        ("HGETDEL mykey FIELDS 1 field1", "*1\r\n$5\r\nHello\r\n"),
        ("EXISTS mykey", ":0\r\n"),
        (
            "HSETEX mykey EXAT 1740470400 FIELDS 2 field1 Hello field2 World",
            ":1\r\n",
        ),
        (
            "HEXPIRETIME mykey FIELDS 2 field1 field2",
            "*2\r\n:1740470400\r\n:1740470400\r\n",
        ),
        (
            "HSETEX mykey FNX EX 60 FIELDS 2 field1 a field3 b",
            ":0\r\n",
        ),
        (
            "HSETEX mykey FXX EX 60 FIELDS 2 field1 a field3 b",
            ":0\r\n",
        ),
        ("HSETEX no FXX FIELDS 1 field1 a", ":0\r\n"),
        ("HMGET mykey field1 field3", "*2\r\n$5\r\nHello\r\n$-1\r\n"),
        ("HSETEX mykey FXX KEEPTTL FIELDS 1 field1 a", ":1\r\n"),
        ("HEXPIRETIME mykey FIELDS 1 field1", "*1\r\n:1740470400\r\n"),
        ("HSETEX mykey FIELDS 1 field1 b", ":1\r\n"),
        ("HEXPIRETIME mykey FIELDS 1 field1", "*1\r\n:-1\r\n"),
        ("HSETEX mykey PX 500 FNX FIELDS 1 field3 c", ":1\r\n"),
        ("HPTTL mykey FIELDS 1 field3", "*1\r\n:500\r\n"),
        ("HSETEX mykey PXAT 0 FIELDS 2 field1 x field9 x", ":1\r\n"),
        ("HMGET mykey field1 field9", "*2\r\n$-1\r\n$-1\r\n"),
        ("HSETEX new EXAT 5 FIELDS 1 field1 x", ":1\r\n"),
        ("EXISTS new", ":0\r\n"),
    ]);
    i.protocol = Protocol::Resp3;
    i.expect("HGETEX no FIELDS 1 a", "*1\r\n_\r\n");
}

#[test]
fn what_is_wrong_with_a_command_is_said_in_the_words_of_redis() {
    let integer = "ERR value is not an integer or out of range";
    let fields = "ERR Mandatory argument FIELDS is missing or not at the right position";
    let count = "ERR Parameter `numFields` should be greater than 0";
    let number = "ERR Number of fields must be a positive integer";
    let mismatch = "ERR The `numfields` parameter must match the number of arguments";
    let negative = "ERR invalid expire time, must be >= 0";
    let wrong = "WRONGTYPE Operation against a key holding the wrong kind of value";
    let one_expiry = "ERR Only one of EX, PX, EXAT, PXAT or KEEPTTL arguments can be specified";
    let one_condition = "ERR Only one of FXX or FNX arguments can be specified";
    let arity = "ERR wrong number of arguments for 'hsetex' command";
    let mut i = Instance::new(1);
    i.run("set s x");
    i.run("hset h f 1");
    for (command, error) in [
        ("hexpire s x fields 1 f", wrong),
        ("httl s fields x f", wrong),
        ("hpersist s fields x f", wrong),
        ("hgetdel s fields x f", wrong),
        ("hgetex s fields x f", wrong),
        ("hsetex s fields 1 f v", wrong),
        ("hsetex s ex x fields 1 f v", integer),
        ("hexpire h x fields 1 f", integer),
        ("hexpire no x fields 1 f", integer),
        ("hexpire h -1 fields 1 f", negative),
        ("hpexpireat h -1 fields 1 f", negative),
        (
            "hexpire h 70368744178 fields 1 f",
            "ERR invalid expire time in 'hexpire' command",
        ),
        (
            "hexpireat h 9223372036854775807 fields 1 f",
            "ERR invalid expire time in 'hexpireat' command",
        ),
        (
            "hpexpire h 70368744177664 fields 1 f",
            "ERR invalid expire time in 'hpexpire' command",
        ),
        (
            "hpexpireat h 70368744177664 fields 1 f",
            "ERR invalid expire time in 'hpexpireat' command",
        ),
        ("hexpire h 1 zz fields 1 f", fields),
        ("hexpire h 1 nx xx fields 1 f", fields),
        ("hexpire h 1 fields 0 f", count),
        ("hexpire h 1 fields x f", count),
        ("hexpire h 1 fields 2 f", mismatch),
        ("hexpire h 1 fields 1 f g", mismatch),
        ("hexpire h 1 nx fields 1", mismatch),
        ("hexpire h 1 fields 9223372036854775807 f", mismatch),
        ("httl h field 1 f", fields),
        ("hpttl h fields -1 f", number),
        ("hexpiretime h fields 99999999999999999999 f", number),
        ("hpexpiretime h fields 2 f", mismatch),
        ("hpersist h field 1 f", fields),
        ("hpersist h fields 0 f", number),
        ("hgetdel h field 1 f", fields),
        ("hgetdel h fields 0 f", number),
        ("hgetdel h fields 2 f", mismatch),
        ("hgetex h zz fields 1 f", fields),
        ("hgetex h ex fields 1 f", integer),
        ("hgetex h ex 10 fields", number),
        ("hgetex h ex 0 ex 1 fields 1 f", fields),
        ("hgetex h exat -1 fields 1 f", negative),
        ("hgetex h persist fields 3 f", mismatch),
        (
            "hgetex h ex 99999999999999 fields 1 f",
            "ERR invalid expire time in 'hgetex' command",
        ),
        ("hsetex h ex 1 px 1 fields 1 f v", one_expiry),
        ("hsetex h keepttl ex 1 fields 1 f v", one_expiry),
        ("hsetex h fxx fnx fields 1 f v", one_condition),
        ("hsetex h fxx fxx fields 1 f v", one_condition),
        ("hsetex h fxx keepttl zz 1 f v", "ERR unknown argument: zz"),
        ("hsetex h fxx keepttl fxx ex", one_condition),
        ("hsetex h fxx ex 10 px", one_expiry),
        ("hsetex h fxx fields 1 f", arity),
        ("hsetex h fields 2 f v", arity),
        ("hsetex h fields 1 f v g", arity),
        ("hsetex h fields 0 f v", "ERR invalid number of fields"),
        ("hsetex h fields x f v", "ERR invalid number of fields"),
        ("hsetex h px -5 fields 1 f v", negative),
    ] {
        i.effects();
        i.expect(command, &format!("-{error}\r\n"));
        assert!(i.effects().is_empty(), "{command} changed something");
    }
}

/// Scenarios 18 and 145.
#[test]
fn effects_have_absolute_times_and_name_the_fields_that_changed() {
    let mut i = Instance::new(1);
    i.run("hset h a 1 b 2 c 3 d 4");
    i.effects();
    let in_10_s = (START.0 + 10_000).to_string();
    let expire = format!("HPEXPIREAT h {in_10_s} FIELDS");
    for (command, expected) in [
        (
            "hexpire h 10 fields 3 a no b",
            vec![format!("{expire} 2 a b")],
        ),
        (
            "hpexpire h 10000 nx fields 2 a c",
            vec![format!("{expire} 1 c")],
        ),
        ("hexpire h 10 xx fields 1 d", vec![]),
        ("hexpire no 10 fields 1 d", vec![]),
        ("httl h fields 1 a", vec![]),
        (
            "hpersist h fields 3 a d no",
            vec!["HPERSIST h FIELDS 1 a".to_owned()],
        ),
        ("hpersist h fields 1 d", vec![]),
        ("hgetex h fields 1 a", vec![]),
        (
            "hgetex h px 10000 fields 2 a no",
            vec![format!("{expire} 1 a")],
        ),
        (
            "hgetex h persist fields 2 a d",
            vec!["HPERSIST h FIELDS 1 a".to_owned()],
        ),
        ("hgetex h exat 1 fields 2 a no", vec!["HDEL h a".to_owned()]),
        ("hexpire h 0 fields 2 b no", vec!["HDEL h b".to_owned()]),
        ("hgetdel h fields 2 c no", vec!["HDEL h c".to_owned()]),
        ("hsetex h fnx fields 1 d v", vec![]),
        ("hsetex h fields 1 d v", vec!["HSET h d v".to_owned()]),
        (
            "hsetex h ex 10 fields 2 d v e w",
            [
                "MULTI",
                "HSET h d v e w",
                &format!("{expire} 2 d e"),
                "EXEC",
            ]
            .map(str::to_owned)
            .to_vec(),
        ),
        (
            "hsetex h fxx keepttl fields 1 d 5",
            vec!["HSETEX h KEEPTTL FIELDS 1 d 5".to_owned()],
        ),
        ("hincrby h d 1", vec!["hincrby h d 1".to_owned()]),
        (
            "hincrbyfloat h d 0.5",
            vec!["HSETEX h KEEPTTL FIELDS 1 d 6.5".to_owned()],
        ),
        ("hincrbyfloat h f 0.5", vec!["HSET h f 0.5".to_owned()]),
        (
            "hsetex h pxat 1 fields 2 d v no w",
            vec!["HDEL h d".to_owned()],
        ),
        ("hsetex h pxat 1 fields 1 no w", vec![]),
    ] {
        assert_eq!(effects(&mut i, command), expected, "{command}");
    }
}

#[test]
fn a_new_value_drops_the_deadline_and_a_counter_keeps_it() {
    let mut i = check(&[
        ("hset h a 1 b 1 c 1 d 1", ":4\r\n"),
        (
            "hexpire h 10 fields 4 a b c d",
            "*4\r\n:1\r\n:1\r\n:1\r\n:1\r\n",
        ),
        ("object encoding h", "$10\r\nlistpackex\r\n"),
        ("hset h a 2", ":0\r\n"),
        ("hincrby h b 1", ":2\r\n"),
        ("hincrbyfloat h c 0.5", "$3\r\n1.5\r\n"),
        ("hsetnx h d 2", ":0\r\n"),
        (
            "httl h fields 4 a b c d",
            "*4\r\n:-1\r\n:10\r\n:10\r\n:10\r\n",
        ),
        ("hdel h b", ":1\r\n"),
        ("hset h b 1", ":1\r\n"),
        ("httl h fields 1 b", "*1\r\n:-1\r\n"),
        ("copy h g", ":1\r\n"),
        ("rename h i", "+OK\r\n"),
        ("httl g fields 2 c d", "*2\r\n:10\r\n:10\r\n"),
        ("httl i fields 2 c d", "*2\r\n:10\r\n:10\r\n"),
    ]);
    i.limits.hash_max_listpack_entries = 2;
    i.expect("hset i e 1", ":1\r\n");
    i.expect("object encoding i", "$9\r\nhashtable\r\n");
    i.expect("httl i fields 2 c e", "*2\r\n:10\r\n:-1\r\n");
}

/// A field is gone at its deadline for every read, and the log has its removal before anything
/// that a write adds.
#[test]
fn fields_past_their_deadline_are_not_seen() {
    let mut i = Instance::new(1);
    i.run("hset h a 1 b 2 c 3");
    i.run("hpexpire h 100 fields 2 a b");
    i.effects();
    i.now.0 += 99;
    i.expect("hlen h", ":3\r\n");
    i.now.0 += 1;
    // What reads come across is removed afterwards, so each gets its own copy.
    i.keep_expired = true;
    for (command, reply) in [
        ("hlen h", ":1\r\n"),
        ("hget h a", "$-1\r\n"),
        ("hmget h a c", "*2\r\n$-1\r\n$1\r\n3\r\n"),
        ("hexists h a", ":0\r\n"),
        ("hstrlen h a", ":0\r\n"),
        ("hgetall h", "*2\r\n$1\r\nc\r\n$1\r\n3\r\n"),
        ("hkeys h", "*1\r\n$1\r\nc\r\n"),
        ("hvals h", "*1\r\n$1\r\n3\r\n"),
        ("httl h fields 2 a c", "*2\r\n:-2\r\n:-1\r\n"),
        ("hrandfield h", "$1\r\nc\r\n"),
        ("hrandfield h 5", "*1\r\n$1\r\nc\r\n"),
        ("hrandfield h -2", "*2\r\n$1\r\nc\r\n$1\r\nc\r\n"),
        ("hrandfield h 1 withvalues", "*2\r\n$1\r\nc\r\n$1\r\n3\r\n"),
        ("hscan h 0", "*2\r\n$1\r\n0\r\n*2\r\n$1\r\nc\r\n$1\r\n3\r\n"),
        ("hscan h 0 novalues", "*2\r\n$1\r\n0\r\n*1\r\n$1\r\nc\r\n"),
        ("type h", "+hash\r\n"),
    ] {
        i.expect(command, reply);
        assert!(i.effects().is_empty(), "{command}");
    }
    i.keep_expired = false;
    i.expect("hget h a", "$-1\r\n");
    assert_eq!(i.effects(), ["HDEL h a b"]);
    assert_eq!(i.counts.expired_fields, 2);
}

#[test]
fn writes_find_expired_fields_removed() {
    for (command, reply, effect) in [
        ("hset h a 5", ":1\r\n", Some("hset h a 5")),
        ("hsetnx h a 5", ":1\r\n", Some("hsetnx h a 5")),
        ("hincrby h a 5", ":5\r\n", Some("hincrby h a 5")),
        ("hincrbyfloat h a 5", "$1\r\n5\r\n", Some("HSET h a 5")),
        ("hdel h a", ":0\r\n", None),
        ("hgetdel h fields 1 a", "*1\r\n$-1\r\n", None),
        ("hgetex h persist fields 1 a", "*1\r\n$-1\r\n", None),
        ("hpersist h fields 1 a", "*1\r\n:-2\r\n", None),
        ("hexpire h 5 fields 1 a", "*1\r\n:-2\r\n", None),
        ("hsetex h fxx fields 1 a 5", ":0\r\n", None),
        ("hsetex h fnx fields 1 a 5", ":1\r\n", Some("HSET h a 5")),
    ] {
        let mut i = Instance::new(1);
        i.run("hset h a 1 b 2");
        i.run("hpexpire h 100 fields 1 a");
        i.effects();
        i.now.0 += 100;
        i.expect(command, reply);
        let expected = match effect {
            Some(effect) => vec!["MULTI", "HDEL h a", effect, "EXEC"],
            None => vec!["HDEL h a"],
        };
        assert_eq!(i.effects(), expected, "{command}");
    }
}

#[test]
fn a_hash_with_expired_fields_only_is_gone() {
    for (command, reply) in [
        ("exists h", ":0\r\n"),
        ("type h", "+none\r\n"),
        ("hlen h", ":0\r\n"),
        ("hgetall h", "*0\r\n"),
        ("keys *", "*0\r\n"),
        ("scan 0", "*2\r\n$1\r\n0\r\n*0\r\n"),
        ("randomkey", "$-1\r\n"),
        ("get h", "$-1\r\n"),
        ("rename h i", "-ERR no such key\r\n"),
        ("copy h i", ":0\r\n"),
        ("set h 1 nx", "+OK\r\n"),
        ("append h 1", ":1\r\n"),
        ("rpush h 1", ":1\r\n"),
        ("hset h a 1", ":1\r\n"),
        ("hexpire h 10 fields 1 a", "*1\r\n:-2\r\n"),
        ("persist h", ":0\r\n"),
    ] {
        let mut i = Instance::new(1);
        i.run("hset h a 1 b 2");
        i.run("hpexpire h 100 fields 1 a");
        i.run("hpexpire h 50 fields 1 b");
        i.effects();
        i.now.0 += 100;
        i.expect(command, reply);
        let effects = i.effects();
        if !["keys", "scan"].contains(&command.split(' ').next().unwrap()) {
            let first = usize::from(effects[0] == "MULTI");
            assert_eq!(effects[first], "DEL h", "{command}");
            assert_eq!(i.counts.expired_fields, 2, "{command}");
        }
    }
}

/// However many fields expire at once, a command removes few of them, and those that it names.
#[test]
fn a_write_to_a_hash_with_many_expired_fields_takes_bounded_time() {
    let mut i = Instance::new(1);
    for field in 0..1000 {
        i.run(&format!("hsetex h px 100 fields 1 f{field} 7"));
    }
    i.run("hset h stays 1");
    i.effects();
    i.now.0 += 100;
    i.expect("hlen h", ":1\r\n");
    i.effects();
    i.expect("hincrby h f999 1", ":1\r\n");
    let effects = i.effects();
    assert_eq!(effects.len(), 4, "{effects:?}");
    let removed = effects[1].split(' ').skip(2).count();
    assert!((2..200).contains(&removed), "{removed} fields");
    i.expect("hlen h", ":2\r\n");
    i.expect("hdel h stays f999 f998", ":2\r\n");
    i.expect("exists h", ":0\r\n");
    i.expect("hset h a 1", ":1\r\n");
    i.expect("hgetall h", "*2\r\n$1\r\na\r\n$1\r\n1\r\n");
}

fn run_cycle(i: &mut Instance, looks: usize) -> (u64, u64, bool) {
    let (mut left, now) = (looks, i.now);
    let shard = i.shards[0].as_deref_mut().expect("here");
    let stats = expire_cycle(shard, now, &mut i.effects, &mut || {
        left = left.saturating_sub(1);
        left == 0
    });
    (stats.expired, stats.expired_fields, stats.out_of_time)
}

#[test]
fn fields_expire_unasked_in_bounded_steps() {
    let mut i = Instance::new(1);
    i.db = 2;
    for key in 0..50 {
        for field in 0..20 {
            i.run(&format!(
                "hsetex k{key} px {} fields 1 f{field} v",
                100 + field
            ));
        }
    }
    i.run("hset k7 stays 1");
    i.effects();
    assert_eq!(run_cycle(&mut i, 1000), (0, 0, false));
    i.now.0 += 109;
    let (_, first, out_of_time) = run_cycle(&mut i, 3);
    assert!((1..=3 * 64).contains(&first) && out_of_time);
    let (_, second, out_of_time) = run_cycle(&mut i, 1000);
    assert_eq!((first + second, out_of_time), (500, false));
    let effects = i.effects();
    assert!(effects.contains(&"HDEL k7 f0 f1 f2 f3 f4 f5 f6 f7 f8 f9".to_owned()));
    i.expect("hlen k7", ":11\r\n");
    i.now.0 += 100;
    assert_eq!(run_cycle(&mut i, 1000), (0, 500, false));
    let effects = i.effects();
    assert!(effects.contains(&"DEL k8".to_owned()), "{effects:?}");
    assert_eq!(i.shard(ShardId(0)).dbs[2].len(), 1);
    i.shard(ShardId(0)).dbs[2].self_check();
}

/// Scenario 145: replay expires nothing by itself, even what is long past.
#[test]
fn replay_keeps_what_the_log_does_not_remove() {
    let mut i = Instance::new(1);
    i.run("hset h a 1 b 2");
    i.run("hpexpire h 100 fields 1 a");
    let payload = i.effects.take();
    let mut copy = Instance::new(3);
    copy.now = UnixMs(START.0 + 1_000_000);
    copy.replay(&payload).expect("it is replayed");
    assert_eq!(copy.dump(), i.dump());
    copy.expect("hgetall h", "*2\r\n$1\r\nb\r\n$1\r\n2\r\n");
    assert_eq!(copy.effects(), ["HDEL h a"]);
}

#[test]
fn dump_and_restore_keep_deadlines_in_every_form() {
    for entries in [128, 1] {
        let mut i = Instance::new(1);
        i.limits.hash_max_listpack_entries = entries;
        i.run("hset h a 1 b 2 c 3");
        i.run("hpexpire h 100 fields 1 a");
        i.run("hpexpire h 5000 fields 1 c");
        let reply = i.run_args(&OwnedArgs::new(["dump", "h"]));
        let head = reply
            .iter()
            .position(|byte| *byte == b'\n')
            .expect("a head");
        let dumped = &reply[head + 1..reply.len() - 2];
        let restore: [&[u8]; 4] = [b"restore", b"g", b"0", dumped];
        assert_eq!(i.run_args(&OwnedArgs::new(restore)), b"+OK\r\n");
        i.expect("hpttl g fields 3 a b c", &array(&[100, -1, 5000]));
        let payload = i.effects.take();
        let mut copy = Instance::new(1);
        copy.limits.hash_max_listpack_entries = entries;
        copy.replay(&payload).expect("it is replayed");
        assert_eq!(copy.dump(), i.dump());
        i.now.0 += 100;
        i.expect("hkeys g", "*2\r\n$1\r\nb\r\n$1\r\nc\r\n");
        assert_eq!(i.effects(), ["HDEL g a"]);
    }
}
