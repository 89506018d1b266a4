//! The notation, and that every command has its line.

use super::*;
use crate::{subcommands, table};

fn read(text: &'static str) -> Argument {
    let arguments = parse(text).expect(text);
    assert_eq!(arguments.len(), 1, "{text}");
    arguments.into_iter().next().expect("one")
}

fn shown(text: &'static str) -> String {
    let arguments = parse(text).expect(text);
    let mut out = String::new();
    for argument in arguments {
        argument.show(&mut out);
        out.push(' ');
    }
    out.trim_end().to_owned()
}

#[test]
fn signs_tell_what_an_argument_is() {
    for (text, kind, name, key_spec) in [
        ("field", Kind::String, "field", None),
        ("ip:port", Kind::String, "ip:port", None),
        ("#count", Kind::Integer, "count", None),
        ("%score", Kind::Double, "score", None),
        ("!at", Kind::UnixTime, "at", None),
        ("~pattern", Kind::Pattern, "pattern", None),
        ("~@1pattern", Kind::Pattern, "pattern", Some(1)),
        ("@key", Kind::Key, "key", Some(0)),
        ("@2destination", Kind::Key, "destination", Some(2)),
    ] {
        let argument = read(text);
        let found = (argument.kind, argument.name.as_str(), argument.key_spec);
        assert_eq!(found, (kind, name, key_spec), "{text}");
    }
}

#[test]
fn tokens_stand_alone_or_in_front() {
    let alone = read("NX");
    assert_eq!((&*alone.name, alone.token), ("nx", Some("NX")));
    let named = read("equal<=>");
    assert_eq!((&*named.name, named.token), ("equal", Some("=")));
    assert_eq!(read("none<>").token, Some(""));
    let in_front = read("EX=#seconds^6.2.0");
    assert_eq!(in_front.token, Some("EX"));
    assert_eq!(
        (&*in_front.name, in_front.since),
        ("seconds", Some("6.2.0"))
    );
    assert_eq!(read("ip:port^-2.8.12").deprecated_since, Some("2.8.12"));
}

#[test]
fn parts_give_their_names_if_there_is_none() {
    assert_eq!(read("(ON|OFF)").name, "on_off");
    assert_eq!(read("{field value}...").name, "field_value");
    let named = read("[condition(NX|XX)]");
    assert_eq!((&*named.name, named.is_optional), ("condition", true));
    assert_eq!(named.arguments.len(), 2);
}

#[test]
fn usage_is_written_as_users_know_it() {
    for (text, expected) in [
        ("@key value", "key value"),
        ("@key...", "key [key ...]"),
        ("{field value}...", "field value [field value ...]"),
        ("[condition(NX|XX)]", "[NX | XX]"),
        ("where(LEFT|RIGHT)", "<LEFT | RIGHT>"),
        (
            "[FILTERBY=filterby(MODULE=name|PATTERN=~p)]",
            "[FILTERBY <MODULE name | PATTERN p>]",
        ),
        ("[KEYS=@1key...]", "[KEYS key [key ...]]"),
        ("[GET=~pattern&...]", "[GET pattern [GET pattern ...]]"),
        ("(@key|none<>)", "<key | \"\">"),
        ("{[IDLE=#ms] start}", "[IDLE ms] start"),
    ] {
        assert_eq!(shown(text), expected);
    }
    assert_eq!(
        usage("set"),
        "SET key value [NX | XX] [GET] [EX seconds | PX milliseconds | EXAT unix-time-seconds \
         | PXAT unix-time-milliseconds | KEEPTTL]"
    );
    assert_eq!(usage("config|get"), "CONFIG GET parameter [parameter ...]");
}

#[test]
fn what_cannot_be_read_is_named() {
    assert_eq!(parse("key )"), Err(SyntaxError::NoArgument { rest: ")" }));
    let rest = "";
    assert_eq!(
        parse("[key"),
        Err(SyntaxError::Missing {
            expected: ']',
            rest
        })
    );
    assert_eq!(
        parse("(a|b"),
        Err(SyntaxError::Missing {
            expected: ')',
            rest
        })
    );
    assert_eq!(
        parse("a<X"),
        Err(SyntaxError::Missing {
            expected: '>',
            rest
        })
    );
    assert!(parse("").is_err());
    assert!(parse("key  value").is_err());
    assert!(parse("[[]]").is_err());
}

#[test]
fn every_line_can_be_read_and_none_is_there_twice() {
    let mut names = Vec::new();
    for (name, text) in lines() {
        parse(text).unwrap_or_else(|error| panic!("{name}: {error}"));
        names.push(name);
    }
    assert!(names.is_sorted_by(|a, b| a < b), "in order, each once");
}

/// Words that a request must have at least, by its arguments.
fn least(arguments: &[Argument]) -> usize {
    let required = arguments.iter().filter(|argument| !argument.is_optional);
    required
        .map(|argument| {
            let parts = match argument.kind {
                Kind::PureToken => 0,
                Kind::Block => least(&argument.arguments),
                Kind::OneOf => {
                    let each = argument
                        .arguments
                        .iter()
                        .map(|part| least(std::slice::from_ref(part)));
                    each.min().unwrap_or(0)
                }
                _ => 1,
            };
            parts + usize::from(argument.token.is_some())
        })
        .sum()
}

/// Commands whose arity leaves the check of their arguments to themselves, and those that take any.
const LOOSE: &[&str] = &[
    "client|kill",
    "command|getkeys",
    "command|getkeysandflags",
    "debug",
    "geohash",
    "geopos",
    "pfmerge",
    "quit",
];

#[test]
fn arguments_fit_the_arity() {
    let rows =
        |spec: &'static crate::CommandSpec| std::iter::once(spec).chain(subcommands::of(spec.name));
    let mut wrong = Vec::new();
    for spec in table::all().iter().copied().flat_map(rows) {
        if !subcommands::of(spec.name).is_empty() || LOOSE.contains(&spec.name) {
            continue;
        }
        let arguments = of(spec.name);
        let words = 1 + usize::from(spec.name.contains('|')) + least(arguments);
        let arity = usize::from(spec.arity.unsigned_abs());
        if words != arity || (spec.arity > 0) == has_choice(arguments) {
            wrong.push(format!("{} has arity {}", usage(spec.name), spec.arity));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Whether the number of words may differ from request to request.
fn has_choice(arguments: &[Argument]) -> bool {
    arguments.iter().any(|argument| {
        let parts = &argument.arguments;
        let lens = || parts.iter().map(|part| least(std::slice::from_ref(part)));
        argument.is_optional
            || argument.times != Times::One
            || argument.kind == Kind::OneOf && lens().min() != lens().max()
            || has_choice(parts)
    })
}
