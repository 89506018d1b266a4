//! Replies whole, split at every byte, broken, and at their limits.

use proptest::prelude::*;

use super::*;

fn parse_whole(input: &[u8]) -> Result<Option<(Value, usize)>, ReplyError> {
    ReplyParser::new().parse(input)
}

/// Feeds growing prefixes, as a socket does.
fn parse_byte_by_byte(
    input: &[u8],
    limits: ReplyLimits,
) -> Result<Option<(Value, usize)>, ReplyError> {
    let mut parser = ReplyParser::with_limits(limits);
    for end in 0..=input.len() {
        if let Some(found) = parser.parse(&input[..end])? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

fn value_of(input: &str) -> Value {
    match parse_whole(input.as_bytes()) {
        Ok(Some((value, len))) if len == input.len() => value,
        other => panic!("{input:?} gives {other:?}"),
    }
}

#[test]
fn every_type_is_read() {
    let text = |text: &str| text.as_bytes().to_vec();
    let cases = [
        ("+OK\r\n", Value::Simple(text("OK"))),
        ("+\r\n", Value::Simple(text(""))),
        ("-ERR no\r\n", Value::Error(text("ERR no"))),
        (":-42\r\n", Value::Integer(-42)),
        ("$3\r\na\rb\r\n", Value::bulk("a\rb")),
        ("$0\r\n\r\n", Value::bulk("")),
        ("$-1\r\n", Value::NullBulk),
        ("*-1\r\n", Value::NullArray),
        ("_\r\n", Value::Null),
        ("*0\r\n", Value::Array(vec![])),
        (
            "*2\r\n:1\r\n*1\r\n_\r\n",
            Value::Array(vec![Value::Integer(1), Value::Array(vec![Value::Null])]),
        ),
        (
            "%1\r\n+k\r\n#t\r\n",
            Value::Map(vec![(Value::Simple(text("k")), Value::Boolean(true))]),
        ),
        (
            "~2\r\n#f\r\n:2\r\n",
            Value::Set(vec![Value::Boolean(false), Value::Integer(2)]),
        ),
        (
            ">1\r\n$4\r\npong\r\n",
            Value::Push(vec![Value::bulk("pong")]),
        ),
        (",2.125\r\n", Value::Double(2.125)),
        (",-inf\r\n", Value::Double(f64::NEG_INFINITY)),
        (",1e+21\r\n", Value::Double(1e21)),
        (
            "(-1234567999999999999999999999999999999\r\n",
            Value::BigNumber(text("-1234567999999999999999999999999999999")),
        ),
        ("!3\r\nERR\r\n", Value::BulkError(text("ERR"))),
        (
            "=6\r\ntxt:a\n\r\n",
            Value::Verbatim {
                format: *b"txt",
                text: text("a\n"),
            },
        ),
    ];
    for (input, value) in cases {
        assert_eq!(value_of(input), value);
        let mut out = Vec::new();
        value.write(&mut out);
        assert_eq!(out, input.as_bytes());
    }
    assert_eq!(value_of(":+42\r\n"), Value::Integer(42));
    assert!(matches!(value_of(",nan\r\n"), Value::Double(nan) if nan.is_nan()));
}

#[test]
fn attribute_belongs_to_the_value_behind_it() {
    let reply = "*2\r\n|1\r\n$3\r\nttl\r\n:90\r\n$1\r\na\r\n:5\r\n";
    let Value::Array(values) = value_of(reply) else {
        panic!("an array");
    };
    assert_eq!(values[0].clone().without_attributes(), Value::bulk("a"));
    assert_eq!(values[0].as_bytes(), Some(&b"a"[..]));
    assert_eq!(values[1].as_integer(), Some(5));
    assert_eq!(values.len(), 2);
    assert_eq!(value_of("|0\r\n:1\r\n").as_integer(), Some(1));
}

#[test]
fn replies_follow_each_other() {
    let input = b"+OK\r\n$1\r\nx\r\n:1\r\n";
    let mut parser = ReplyParser::new();
    let mut at = 0;
    let mut found = Vec::new();
    while let Ok(Some((value, len))) = parser.parse(&input[at..]) {
        found.push(value);
        at += len;
    }
    assert_eq!(
        found,
        [
            Value::Simple(b"OK".to_vec()),
            Value::bulk("x"),
            Value::Integer(1)
        ]
    );
    assert_eq!(at, input.len());
}

#[test]
fn broken_replies_are_named() {
    use ReplyError::*;
    let limits = ReplyLimits {
        max_len: 8,
        max_elements: 3,
        max_depth: 2,
    };
    for (input, error) in [
        ("x\r\n", UnknownType { kind: b'x' }),
        ("\r\n", UnknownType { kind: b'\r' }),
        ("*?\r\n", Streamed { kind: b'*' }),
        ("$?\r\n", Streamed { kind: b'$' }),
        (";4\r\n", Streamed { kind: b';' }),
        (".\r\n", Streamed { kind: b'.' }),
        ("+a\rb\r\n", MissingCrlf { kind: b'+' }),
        ("$1\r\nab\r\n", MissingCrlf { kind: b'$' }),
        ("$1\r\na\rb\n", MissingCrlf { kind: b'$' }),
        ("$-2\r\n", InvalidLength { kind: b'$' }),
        ("$\r\n", InvalidLength { kind: b'$' }),
        ("%-1\r\n", InvalidLength { kind: b'%' }),
        (":\r\n", InvalidValue { kind: b':' }),
        (":1x\r\n", InvalidValue { kind: b':' }),
        (":+-1\r\n", InvalidValue { kind: b':' }),
        (",\r\n", InvalidValue { kind: b',' }),
        (",infin\r\n", InvalidValue { kind: b',' }),
        (",1.\u{e9}\r\n", InvalidValue { kind: b',' }),
        ("#x\r\n", InvalidValue { kind: b'#' }),
        ("(\r\n", InvalidValue { kind: b'(' }),
        ("(1-\r\n", InvalidValue { kind: b'(' }),
        ("_x\r\n", InvalidValue { kind: b'_' }),
        ("=3\r\ntxt\r\n", InvalidValue { kind: b'=' }),
        ("$9\r\n", TooLong { limit: 8 }),
        ("+123456789\r\n", TooLong { limit: 8 }),
        ("+123456789", TooLong { limit: 8 }),
        ("*4\r\n", TooManyElements { limit: 3 }),
        ("*1\r\n*1\r\n*1\r\n", TooDeep { limit: 2 }),
        ("*1\r\n%1\r\n|0\r\n", TooDeep { limit: 2 }),
    ] {
        let whole = ReplyParser::with_limits(limits).parse(input.as_bytes());
        assert_eq!(whole, Err(error), "{input:?}");
        assert_eq!(
            parse_byte_by_byte(input.as_bytes(), limits),
            Err(error),
            "{input:?}"
        );
    }
    for within in [
        "$8\r\n12345678\r\n",
        "+12345678\r\n",
        "*3\r\n:1\r\n:2\r\n*0\r\n",
    ] {
        let whole = ReplyParser::with_limits(limits).parse(within.as_bytes());
        assert!(matches!(whole, Ok(Some(_))), "{within:?} gives {whole:?}");
    }
}

#[test]
fn nesting_ends_at_the_limit() {
    let nested = |depth: usize| [b"*1\r\n".repeat(depth), b":1\r\n".to_vec()].concat();
    assert!(matches!(parse_whole(&nested(128)), Ok(Some(_))));
    assert_eq!(
        parse_whole(&nested(129)),
        Err(ReplyError::TooDeep { limit: 128 })
    );
    assert_eq!(
        parse_whole(&nested(100_000)),
        Err(ReplyError::TooDeep { limit: 128 })
    );
}

#[test]
fn announced_elements_cost_no_memory() {
    let huge = b"*2147483647\r\n:1\r\n";
    assert_eq!(parse_whole(huge), Ok(None));
}

fn any_value() -> impl Strategy<Value = Value> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..20);
    let line = || {
        prop::collection::vec(
            any::<u8>().prop_filter("one line", |b| !b"\r\n".contains(b)),
            0..20,
        )
    };
    let leaf = prop_oneof![
        line().prop_map(Value::Simple),
        line().prop_map(Value::Error),
        any::<i64>().prop_map(Value::Integer),
        bytes().prop_map(Value::Bulk),
        Just(Value::NullBulk),
        Just(Value::NullArray),
        Just(Value::Null),
        any::<f64>().prop_map(Value::Double),
        any::<bool>().prop_map(Value::Boolean),
        any::<i128>().prop_map(|n| Value::BigNumber(n.to_string().into_bytes())),
        bytes().prop_map(Value::BulkError),
        bytes().prop_map(|text| Value::Verbatim {
            format: *b"mkd",
            text
        }),
    ];
    leaf.prop_recursive(4, 40, 5, |inner| {
        let many = || prop::collection::vec(inner.clone(), 0..5);
        let pairs = || prop::collection::vec((inner.clone(), inner.clone()), 0..4);
        prop_oneof![
            many().prop_map(Value::Array),
            many().prop_map(Value::Set),
            many().prop_map(Value::Push),
            pairs().prop_map(Value::Map),
            (pairs(), inner.clone()).prop_map(|(attributes, value)| Value::Attribute {
                attributes,
                value: Box::new(value)
            }),
        ]
    })
}

proptest! {
    #[test]
    fn written_values_read_back(value in any_value()) {
        let mut wire = Vec::new();
        value.write(&mut wire);
        let whole = parse_whole(&wire);
        prop_assert_eq!(&whole, &Ok(Some((value, wire.len()))));
        prop_assert_eq!(&parse_byte_by_byte(&wire, ReplyLimits::default()), &whole);
        for at in 0..wire.len() {
            let mut parser = ReplyParser::new();
            prop_assert_eq!(parser.parse(&wire[..at]), Ok(None));
            prop_assert_eq!(&parser.parse(&wire), &whole);
        }
    }

    #[test]
    fn damaged_replies_are_refused_or_awaited(value in any_value(), at: prop::sample::Index, byte: u8) {
        let mut wire = Vec::new();
        value.write(&mut wire);
        let at = at.index(wire.len());
        wire[at] = byte;
        let limits = ReplyLimits { max_len: 30, max_elements: 6, max_depth: 4 };
        let whole = ReplyParser::with_limits(limits).parse(&wire);
        let pieces = parse_byte_by_byte(&wire, limits);
        // Text, because a NaN is not equal to itself.
        prop_assert_eq!(format!("{whole:?}"), format!("{pieces:?}"));
    }

    #[test]
    fn garbage_is_refused_or_awaited(input in prop::collection::vec(any::<u8>(), 0..200)) {
        let whole = parse_whole(&input);
        prop_assert_eq!(format!("{whole:?}"), format!("{:?}", parse_byte_by_byte(&input, ReplyLimits::default())));
    }
}
