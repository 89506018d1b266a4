//! What waits, and for what.

use super::*;
use crate::table::lookup;

fn request(text: &str) -> (&'static CommandSpec, OwnedArgs) {
    let args = OwnedArgs::new(text.split(' '));
    let (_, spec) = lookup(args.as_args().at(0)).expect("the command is in the table");
    (spec, args)
}

#[test]
fn a_request_that_is_served_from_one_key_names_that_alone() {
    for (sent, key, served) in [
        ("BLPOP a b c 5", "b", Some("BLPOP b 5")),
        ("BLPOP a 5", "a", None),
        ("BLPOP a a 5", "a", Some("BLPOP a 5")),
        ("BZPOPMAX a b 0", "a", Some("BZPOPMAX a 0")),
        (
            "BLMPOP 0 2 a b LEFT COUNT 3",
            "b",
            Some("BLMPOP 0 1 b LEFT COUNT 3"),
        ),
        ("BZMPOP 0 2 a b MIN", "a", Some("BZMPOP 0 1 a MIN")),
        ("BLMOVE a b LEFT RIGHT 0", "a", None),
        (
            "XREAD COUNT 2 BLOCK 9 STREAMS a b 1-1 2-2",
            "b",
            Some("XREAD COUNT 2 BLOCK 9 STREAMS b 2-2"),
        ),
        (
            "XREAD BLOCK 9 STREAMS a a 5-0 0-0",
            "a",
            Some("XREAD BLOCK 9 STREAMS a 5-0"),
        ),
        (
            "XREADGROUP GROUP g c BLOCK 0 NOACK STREAMS a b > >",
            "a",
            Some("XREADGROUP GROUP g c BLOCK 0 NOACK STREAMS a >"),
        ),
    ] {
        let (spec, args) = request(sent);
        let found = narrowed(spec, args.as_args(), key.as_bytes());
        let expected = served.map(|text| OwnedArgs::new(text.split(' ')));
        assert_eq!(found, expected, "{sent}");
    }
}

#[test]
fn only_what_can_wait_is_taken_for_it() {
    for (sent, waits) in [
        ("BLPOP a 0", true),
        ("LPOP a", false),
        ("XREAD STREAMS a 0", false),
        ("XREAD STREAMS block 0", false),
        ("XREAD COUNT block STREAMS block 0", false),
        ("XREAD COUNT 1 block 0 STREAMS a 0", true),
        ("XREADGROUP GROUP block block STREAMS a >", false),
        ("XREADGROUP GROUP g c BLOCK 5 STREAMS a >", true),
    ] {
        let (spec, args) = request(sent);
        assert_eq!(may_wait(spec, args.as_args()), waits, "{sent}");
    }
}

#[test]
fn keys_are_waited_for_once_and_destinations_not_at_all() {
    for (sent, keys) in [
        ("BLPOP a b a 0", "a b"),
        ("BLMOVE a b LEFT LEFT 0", "a"),
        ("BRPOPLPUSH a b 0", "a"),
        ("BLMPOP 0 2 a b LEFT", "a b"),
        ("XREAD BLOCK 0 STREAMS a b 0 0", "a b"),
    ] {
        let (spec, args) = request(sent);
        let found = waited_keys(spec, args.as_args());
        let expected: Vec<&[u8]> = keys.split(' ').map(str::as_bytes).collect();
        assert_eq!(found, expected, "{sent}");
    }
}

/// Scenario 205.
#[test]
fn no_timeout_is_beyond_what_can_be_counted() {
    let now = UnixMs(1_700_000_000_000);
    for (text, expected) in [
        ("0", Ok(0)),
        ("0.0001", Ok(1)),
        ("0.01", Ok(10)),
        ("1.5", Ok(1500)),
        ("-0.0001", Ok(0)),
        ("-1", Err("ERR timeout is negative")),
        ("-inf", Err("ERR timeout is negative")),
        ("inf", Err("ERR timeout is out of range")),
        ("1e300", Err("ERR timeout is out of range")),
        ("9223372036854775", Err("ERR timeout is out of range")),
        ("nan", Err("ERR timeout is not a float or out of range")),
        ("x", Err("ERR timeout is not a float or out of range")),
        ("", Err("ERR timeout is not a float or out of range")),
    ] {
        let found = seconds(text.as_bytes(), now);
        assert_eq!(
            found.as_ref().map_err(CommandError::text),
            expected.as_ref().map_err(|text| *text),
            "{text}"
        );
    }
    for (text, expected) in [
        ("250", Ok(250)),
        ("-1", Err("ERR timeout is negative")),
        ("1.5", Err("ERR timeout is not an integer or out of range")),
        ("9223372036854775807", Err("ERR timeout is out of range")),
    ] {
        let found = milliseconds(text.as_bytes(), now);
        assert_eq!(
            found.as_ref().map_err(CommandError::text),
            expected.as_ref().map_err(|text| *text),
            "{text}"
        );
    }
}
