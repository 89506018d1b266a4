//! Commands on positions, on one shard.

use crate::testing::Session;

fn sicily() -> Session {
    let mut s = Session::new();
    s.expect(
        "GEOADD s 13.361389 38.115556 Palermo 15.087269 37.502669 Catania",
        ":2\r\n",
    );
    s.expect_effect("ZADD s 3479099956230698 Palermo 3479447370796909 Catania");
    s
}

/// Scenario 18.
#[test]
fn a_position_is_logged_as_its_score_and_only_if_it_changed() {
    let mut s = sicily();
    s.expect("GEOADD s CH 13.361389 38.115556 Palermo", ":0\r\n");
    s.expect("GEOADD s XX 1 1 Roma", ":0\r\n");
    s.expect("GEOADD s NX CH 1 1 Palermo", ":0\r\n");
    s.expect_no_effect();
    s.expect("GEOADD s XX CH 1 1 Palermo", ":1\r\n");
    s.expect_effect("ZADD s XX CH 3377822707026402 Palermo");
}

#[test]
fn a_stored_search_is_logged_as_its_result() {
    let mut s = sicily();
    s.expect("GEORADIUS s 15 37 200 km STORE d", ":2\r\n");
    s.expect_effect("ZADD d 3479099956230698 Palermo 3479447370796909 Catania");
    s.expect(
        "GEOSEARCHSTORE d s FROMMEMBER Palermo BYRADIUS 1 m STOREDIST",
        ":1\r\n",
    );
    assert_eq!(
        s.effects(),
        "*1\r\n$5\r\nMULTI\r\n*2\r\n$3\r\nDEL\r\n$1\r\nd\r\n\
         *4\r\n$4\r\nZADD\r\n$1\r\nd\r\n$1\r\n0\r\n$7\r\nPalermo\r\n*1\r\n$4\r\nEXEC\r\n"
    );
    s.expect("GEORADIUS s 0 0 1 m STORE d", ":0\r\n");
    s.expect_effect("DEL d");
    s.expect("GEORADIUS s 0 0 1 m STORE d", ":0\r\n");
    s.expect("GEORADIUSBYMEMBER none x y z STORE d", ":0\r\n");
    s.expect_no_effect();
    assert_eq!(s.keys(), 1);
}

#[test]
fn a_long_result_is_logged_in_pieces() {
    let mut s = Session::new();
    for n in 0..1500 {
        s.run(&format!("GEOADD s 0.{n} 1 member-{n}"));
    }
    s.effects();
    s.expect("GEORADIUS s 0 1 500 km STORE d", ":1500\r\n");
    let effects = s.effects();
    assert!(effects.starts_with("*1\r\n$5\r\nMULTI\r\n*1026\r\n$4\r\nZADD\r\n"));
    assert_eq!(effects.matches("$4\r\nZADD\r\n").count(), 3);
    assert!(effects.ends_with("*1\r\n$4\r\nEXEC\r\n"));
}
