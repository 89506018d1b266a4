//! What commands on streams add to the log: no chance, no clock, nothing for nothing.

use crate::harness::{Instance, START};
use moon_core::ShardCount;

/// Commands, one after the other on one instance, with the effects of each.
fn check(cases: &[(&str, &[&str])]) {
    let mut instance = Instance::new(1);
    for (command, effects) in cases {
        instance.run(command);
        assert_eq!(instance.effects(), *effects, "{command}");
    }
}

#[test]
fn ids_and_lengths_are_told_as_they_came_out() {
    let now = START.0.to_string();
    let (first, second) = (format!("XADD s {now}-0 f v"), format!("XADD s {now}-1 f v"));
    let partial = format!("XADD s {now}-7 f v");
    let trimmed = format!("XADD s MAXLEN = 2 {now}-8 f v");
    check(&[
        ("xadd s * f v", &[&first]),
        ("xadd s nomkstream * f v", &[&second]),
        (
            &format!("xadd s {now}-7 f v"),
            &[&partial.replace("XADD", "xadd")],
        ),
        (&format!("xadd s maxlen 2 {now}-* f v"), &[&trimmed]),
        (
            "xadd s maxlen ~ 1 9999999999999-5 f v",
            &["XADD s 9999999999999-5 f v"],
        ),
        ("xadd none nomkstream * f v", &[]),
        ("xtrim s maxlen ~ 1", &[]),
        ("xtrim s minid 9999999999999", &["XTRIM s MAXLEN = 1"]),
        ("xtrim s maxlen 1", &[]),
        ("xdel s 5", &[]),
        ("xdel s 9999999999999-5 5", &["xdel s 9999999999999-5 5"]),
        ("xdelex s ids 1 5", &[]),
        ("xadd s 1-1 f v", &[]),
        ("xsetid s 99999999999999", &["xsetid s 99999999999999"]),
    ]);
}

#[test]
fn deliveries_are_told_with_their_times_and_counts() {
    let now = START.0;
    let claim = |ids: &str, consumer: &str, count: u32, last: &str| {
        format!(
            "XCLAIM s g {consumer} 0 {ids} TIME {now} RETRYCOUNT {count} FORCE JUSTID LASTID {last}"
        )
    };
    let both = claim("1-1 2-2", "c", 1, "2-2");
    let again = claim("1-1 2-2", "c", 2, "2-2");
    let taken = claim("1-1", "d", 3, "3-3");
    check(&[
        ("xgroup create s g $", &[]),
        (
            "xgroup create s g $ mkstream",
            &["XGROUP CREATE s g 0-0 MKSTREAM"],
        ),
        ("xadd s 1-1 f v", &["xadd s 1-1 f v"]),
        ("xadd s 2-2 f v", &["xadd s 2-2 f v"]),
        ("xadd s 3-3 f v", &["xadd s 3-3 f v"]),
        (
            "xreadgroup group g c count 2 streams s >",
            &[
                "MULTI",
                "XGROUP CREATECONSUMER s g c",
                &both,
                "XGROUP SETID s g 2-2 ENTRIESREAD 2",
                "EXEC",
            ],
        ),
        ("xreadgroup group g c streams s 0", &[&again]),
        (
            "xreadgroup group g c noack streams s >",
            &["XGROUP SETID s g 3-3 ENTRIESREAD 3"],
        ),
        ("xreadgroup group g c streams s >", &[]),
        (
            "xreadgroup group g d streams s >",
            &["XGROUP CREATECONSUMER s g d"],
        ),
        ("xclaim s g d 1000 1-1", &[]),
        ("xclaim s g d 0 1-1", &[&taken]),
        ("xdel s 2-2", &["xdel s 2-2"]),
        ("xautoclaim s g d 0 (1-1", &["XACK s g 2-2"]),
        ("xack s g 2-2", &[]),
        ("xack s g 1-1", &["xack s g 1-1"]),
        (
            "xclaim s g d 0 3-3 lastid 9",
            &["XGROUP SETID s g 9-0 ENTRIESREAD 3"],
        ),
        ("xgroup setid s g $", &["XGROUP SETID s g 3-3"]),
        ("xgroup createconsumer s g d", &[]),
        ("xgroup delconsumer s g d", &["xgroup delconsumer s g d"]),
        ("xgroup delconsumer s g d", &[]),
        ("xgroup destroy s g", &["xgroup destroy s g"]),
        ("xgroup destroy s g", &[]),
    ]);
}

/// Scenario 141.
#[test]
fn an_expired_stream_goes_before_what_a_command_does_to_it() {
    let mut instance = Instance::new(1);
    instance.run("xadd s 1-1 f v");
    instance.run("xgroup create s g 0");
    instance.run("pexpire s 100");
    instance.effects();
    instance.now.0 += 100;
    instance.expect("xread streams s 0", "*-1\r\n");
    assert_eq!(instance.effects(), ["DEL s"]);
    instance.run("xadd s 1-1 f v");
    instance.run("pexpire s 100");
    instance.effects();
    instance.now.0 += 100;
    let error = instance.run("xreadgroup group g c streams s >");
    assert!(error.starts_with("-NOGROUP"), "{error}");
    assert_eq!(instance.effects(), ["DEL s"]);
}

/// A log has no clock: what it says of times is what is known of them.
#[test]
fn replayed_consumers_were_seen_when_they_last_got_something() {
    let mut instance = Instance::new(1);
    let payload = |commands: &[&str]| {
        let mut bytes = Vec::new();
        for command in commands {
            let parts: Vec<&str> = command.split(' ').collect();
            moon_resp::write_request(&mut bytes, &parts);
        }
        bytes
    };
    let log = payload(&[
        "XADD s 1-1 f v",
        "XGROUP CREATE s g 0",
        "XGROUP CREATECONSUMER s g idle",
        "XCLAIM s g c 0 1-1 TIME 1699999999000 RETRYCOUNT 3 FORCE JUSTID LASTID 1-1",
    ]);
    instance.replay(&log).expect("a good log");
    assert_eq!(instance.count, ShardCount::ONE);
    let full = instance.run("XINFO STREAM s FULL");
    for shown in [
        "seen-time\r\n:1699999999000\r\n$11\r\nactive-time\r\n:1699999999000\r\n",
        "seen-time\r\n:0\r\n$11\r\nactive-time\r\n:-1\r\n",
        "*4\r\n$3\r\n1-1\r\n$1\r\nc\r\n:1699999999000\r\n:3\r\n",
    ] {
        assert!(full.contains(shown), "{full}");
    }
}
