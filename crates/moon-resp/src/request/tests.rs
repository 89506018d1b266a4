//! Requests whole, split at every byte, broken, and at their limits.

use proptest::prelude::*;

use super::*;
use crate::Args;

/// What a stream of bytes parses to: the requests, and the error or the unfinished rest.
#[derive(Debug, Default, PartialEq)]
struct Outcome {
    requests: Vec<Vec<Vec<u8>>>,
    error: Option<ProtocolError>,
    rest: usize,
}

/// Feeds `input` in `pieces` as a server does: the buffer keeps what is not consumed.
fn feed<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, limits: &RequestLimits) -> Outcome {
    let mut parser = RequestParser::new();
    let mut outcome = Outcome::default();
    let mut buf = Vec::new();
    for piece in pieces {
        buf.extend_from_slice(piece);
        let mut pos = 0;
        loop {
            let mut spans = Vec::new();
            match parser.parse_at(&buf, pos, &mut spans, limits) {
                Ok(Parsed::Request { consumed }) => {
                    assert!(consumed > 0, "a request has bytes");
                    let args = Args::new(&buf, &spans).iter().map(<[u8]>::to_vec).collect();
                    outcome.requests.push(args);
                    pos += consumed;
                }
                Ok(Parsed::Inline { consumed, args }) => {
                    assert!(spans.is_empty() && consumed > 0);
                    let args = args.as_args().iter().map(<[u8]>::to_vec).collect();
                    outcome.requests.push(args);
                    pos += consumed;
                }
                Ok(Parsed::Incomplete { needed }) => {
                    assert!(needed > 0 && spans.is_empty());
                    break;
                }
                Err(error) => {
                    assert!(spans.is_empty());
                    outcome.error = Some(error);
                    outcome.rest = 0;
                    return outcome;
                }
            }
        }
        buf.drain(..pos);
        outcome.rest = buf.len();
    }
    outcome
}

fn whole(input: &[u8]) -> Outcome {
    feed([input], &RequestLimits::default())
}

fn error_of(input: &[u8], limits: &RequestLimits) -> Option<String> {
    let in_one = feed([input], limits).error;
    let byte_by_byte = feed(input.chunks(1), limits).error;
    assert_eq!(in_one, byte_by_byte, "{}", input.escape_ascii());
    for at in 0..input.len().min(50) {
        let in_two = feed([&input[..at], &input[at..]], limits).error;
        assert_eq!(in_one, in_two, "{} at {at}", input.escape_ascii());
    }
    in_one.map(|error| error.to_string())
}

const LIMITS: RequestLimits = RequestLimits {
    max_bulk_len: 512 << 20,
    max_multibulk: i32::MAX as usize,
    max_inline: 64 << 10,
    authenticated: true,
};

#[test]
fn pipeline_shares_one_buffer() {
    let buf = b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\nPING x\r\n*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$12\r\n0123456789ab\r\n";
    let mut parser = RequestParser::new();
    let mut spans = Vec::new();
    let mut pos = 0;
    while pos < buf.len() {
        match parser.parse_at(buf, pos, &mut spans, &LIMITS) {
            Ok(Parsed::Request { consumed }) => pos += consumed,
            other => panic!("{other:?}"),
        }
    }
    let args = Args::new(buf, &spans).iter().collect::<Vec<_>>();
    let expected: [&[u8]; 7] = [b"GET", b"k", b"PING", b"x", b"SET", b"k", b"0123456789ab"];
    assert_eq!(args, expected);
}

#[test]
fn needed_is_what_the_argument_lacks() {
    let mut parser = RequestParser::new();
    let mut spans = Vec::new();
    let head = b"*2\r\n$3\r\nGET\r\n$1000\r\nabc";
    let found = parser.parse(head, &mut spans, &LIMITS);
    assert_eq!(found, Ok(Parsed::Incomplete { needed: 999 }));
    assert!(parser.is_partial());
    assert!(spans.is_empty(), "spans come only with the whole request");
}

#[test]
fn partial_request_may_move_in_the_buffer() {
    let request = b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n";
    let mut parser = RequestParser::new();
    let mut spans = Vec::new();
    let mut buf = vec![0; 7];
    buf.extend_from_slice(&request[..15]);
    let found = parser.parse_at(&buf, 7, &mut spans, &LIMITS);
    assert!(matches!(found, Ok(Parsed::Incomplete { .. })));
    let found = parser.parse(request, &mut spans, &LIMITS);
    assert_eq!(
        found,
        Ok(Parsed::Request {
            consumed: request.len()
        })
    );
    assert_eq!(
        Args::new(request, &spans).iter().collect::<Vec<_>>(),
        [&b"GET"[..], b"k"]
    );
    assert!(!parser.is_partial());
}

#[test]
fn many_arguments_in_many_reads_take_linear_time() {
    const COUNT: usize = 200_000;
    let args = vec![b"x"; COUNT];
    let mut buf = Vec::new();
    crate::write_request(&mut buf, &args);
    let mut parser = RequestParser::new();
    let mut spans = Vec::new();
    // Quadratic work would be 10^10 steps here.
    for end in (1..buf.len()).step_by(14) {
        let found = parser.parse(&buf[..end], &mut spans, &LIMITS);
        assert!(matches!(found, Ok(Parsed::Incomplete { .. })));
    }
    let found = parser.parse(&buf, &mut spans, &LIMITS);
    let consumed = buf.len();
    assert_eq!(found, Ok(Parsed::Request { consumed }));
    assert_eq!(spans.len(), COUNT);
    assert_eq!(
        parser.partial.capacity(),
        0,
        "nothing is held for the next request"
    );
}

#[test]
fn nothing_to_execute_is_no_error() {
    for nothing in [
        "*0\r\n",
        "*-1\r\n",
        "*-99\r\n",
        "*-9223372036854775808\r\n",
        "\r\n",
        "\n",
        "  \r\n",
        "\r\r\n",
    ] {
        let input = [nothing.as_bytes(), b"*1\r\n$4\r\nPING\r\n"].concat();
        let outcome = whole(&input);
        assert_eq!(
            outcome.requests,
            [vec![], vec![b"PING".to_vec()]],
            "{nothing:?}"
        );
        assert_eq!(outcome, feed(input.chunks(1), &LIMITS));
    }
}

#[test]
fn skipped_bytes_are_not_read() {
    let outcome = whole(b"*1\rX$4\rYPINGZZ*1\r\n$0\r\n\r\n");
    assert_eq!(outcome.requests, [[b"PING".to_vec()], [Vec::new()]]);
}

#[test]
fn broken_headers_get_the_errors_of_redis() {
    let multibulk = Some("Protocol error: invalid multibulk length");
    let bulk = Some("Protocol error: invalid bulk length");
    let cases: &[(&[u8], Option<&str>)] = &[
        (b"*\r\n", multibulk),
        (b"*01\r\n", multibulk),
        (b"*+1\r\n", multibulk),
        (b"*-0\r\n", multibulk),
        (b"*1 \r\n", multibulk),
        (b"*a\r\n", multibulk),
        (b"*2147483647\r\n", None),
        (b"*2147483648\r\n", multibulk),
        (b"*9223372036854775808\r\n", multibulk),
        (b"*1\r\n$04\r\nPING\r\n", bulk),
        (b"*1\r\n$-1\r\n", bulk),
        (b"*1\r\n$\r\n", bulk),
        (b"*1\r\n$1a\r\n", bulk),
        // What was searched of a longer line before must not hide the end of these.
        (b"*12\r\n$\r\n", bulk),
        (b"*2\r\n$10\r\n0123456789\r\n$\r\n", bulk),
        (b"*1\r\n$536870912\r\n", None),
        (b"*1\r\n$536870913\r\n", bulk),
        (
            b"*1\r\nx4\r\n",
            Some("Protocol error: expected '$', got 'x'"),
        ),
        (b"*1\r\nPING", None),
        (
            b"*1\r\n\r\n",
            Some("Protocol error: expected '$', got '\r'"),
        ),
        (
            b"GET \"k\r\n",
            Some("Protocol error: unbalanced quotes in request"),
        ),
        (
            b"GET 'k'x\r\n",
            Some("Protocol error: unbalanced quotes in request"),
        ),
    ];
    for (input, expected) in cases {
        let padded = [*input, b"*1\r\n$4\r\nPING\r\n"].concat();
        assert_eq!(
            error_of(input, &LIMITS).as_deref(),
            *expected,
            "{}",
            input.escape_ascii()
        );
        if expected.is_some() {
            assert_eq!(
                error_of(&padded, &LIMITS).as_deref(),
                *expected,
                "{}",
                input.escape_ascii()
            );
        }
    }
}

#[test]
fn unauthenticated_clients_have_small_limits() {
    let limits = RequestLimits {
        authenticated: false,
        ..LIMITS
    };
    let error = |input: &[u8]| error_of(input, &limits);
    assert_eq!(error(b"*10\r\n"), None);
    assert_eq!(
        error(b"*11\r\n").as_deref(),
        Some("Protocol error: unauthenticated multibulk length")
    );
    assert_eq!(
        error(b"*2147483648\r\n").as_deref(),
        Some("Protocol error: invalid multibulk length")
    );
    assert_eq!(error(b"*1\r\n$16384\r\n"), None);
    assert_eq!(
        error(b"*1\r\n$16385\r\n").as_deref(),
        Some("Protocol error: unauthenticated bulk length")
    );
}

#[test]
fn lines_end_within_64_kib() {
    let line =
        |head: &[u8], len: usize, tail: &[u8]| [head, &vec![b'1'; len - head.len()], tail].concat();
    let error = |input: &[u8]| error_of(input, &LIMITS);
    let max = LIMITS.max_inline;
    assert_eq!(error(&line(b"*", max, b"")), None);
    assert_eq!(
        error(&line(b"*", max, b"\r\n")).as_deref(),
        Some("Protocol error: invalid multibulk length")
    );
    assert_eq!(
        error(&line(b"*", max + 1, b"\r\n")).as_deref(),
        Some("Protocol error: too big mbulk count string")
    );
    let one = |input: &[u8]| error(&[b"*1\r\n", input].concat());
    assert_eq!(one(&line(b"$", max, b"")), None);
    assert_eq!(
        one(&line(b"$", max + 1, b"")).as_deref(),
        Some("Protocol error: too big bulk count string")
    );
    assert_eq!(error(&line(b"GET ", max, b"")), None);
    assert_eq!(error(&line(b"GET ", max - 1, b"\r\n")), None);
    assert_eq!(
        error(&line(b"GET ", max + 1, b"\n")).as_deref(),
        Some("Protocol error: too big inline request")
    );
}

#[test]
fn arguments_beyond_4_gib_are_refused_before_they_are_read() {
    let limits = RequestLimits {
        max_bulk_len: usize::MAX,
        ..LIMITS
    };
    for len in ["4294967295", "9223372036854775807"] {
        let input = format!("*1\r\n${len}\r\n");
        let error = feed([input.as_bytes()], &limits).error;
        assert_eq!(error, Some(ProtocolError::TooBigRequest));
    }
    let within = feed([&b"*1\r\n$4294967000\r\n"[..]], &limits);
    assert_eq!(within.error, None);
}

#[test]
fn requests_before_a_broken_one_are_found() {
    let outcome = whole(b"PING\r\n*1\r\n$4\r\nPING\r\n*1\r\n!");
    assert_eq!(outcome.requests.len(), 2);
    let outcome = whole(b"PING\r\n*1\r\n$4\r\nPING\r\n*1\r\n!\r\n");
    assert_eq!(outcome.requests.len(), 2);
    assert_eq!(
        outcome.error,
        Some(ProtocolError::ExpectedBulk { got: b'!' })
    );
}

#[test]
fn header_integers_are_strict() {
    for (text, value) in [
        ("0", Some(0)),
        ("7", Some(7)),
        ("-7", Some(-7)),
        ("9223372036854775807", Some(i64::MAX)),
        ("-9223372036854775808", Some(i64::MIN)),
        ("9223372036854775808", None),
        ("-9223372036854775809", None),
        ("", None),
        ("-", None),
        ("-0", None),
        ("00", None),
        ("+1", None),
        ("1 ", None),
    ] {
        assert_eq!(parse_integer(text.as_bytes()), value, "{text:?}");
    }
}

fn encoded_request() -> impl Strategy<Value = Vec<u8>> {
    let arg = prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 0..20),
        1 => prop::collection::vec(any::<u8>(), 90..130),
        1 => prop::collection::vec(any::<u8>(), 990..1010),
    ];
    prop::collection::vec(arg, 0..12).prop_map(|args| {
        let mut out = Vec::new();
        crate::write_request(&mut out, &args);
        out
    })
}

/// Bytes that meet the parser's branches far more often than random ones do.
fn protocol_like() -> impl Strategy<Value = Vec<u8>> {
    let token = prop::sample::select(vec![
        &b"*"[..],
        b"$",
        b"\r\n",
        b"\n",
        b"\r",
        b"0",
        b"1",
        b"2",
        b"12",
        b"-1",
        b"*1\r\n",
        b"*2\r\n",
        b"$4\r\nPING\r\n",
        b"$1\r\nk\r\n",
        b"$3\r\n",
        b"GET k\r\n",
        b"\"",
        b"'",
        b"\\",
        b"\\x4",
        b" ",
        b"k",
        b"\0",
    ]);
    prop::collection::vec(token, 0..24).prop_map(|tokens| tokens.concat())
}

proptest! {
    #[test]
    fn written_requests_read_back(args in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..20)) {
        let mut out = Vec::new();
        crate::write_request(&mut out, &args);
        let outcome = whole(&out);
        prop_assert_eq!(outcome.requests, [args]);
        prop_assert_eq!(outcome.rest, 0);
    }

    #[test]
    fn every_split_gives_the_same_requests(
        requests in prop::collection::vec(prop_oneof![encoded_request(), protocol_like()], 1..4),
        chunk in 1_usize..40,
    ) {
        let input = requests.concat();
        let expected = whole(&input);
        for at in 0..=input.len() {
            prop_assert_eq!(&feed([&input[..at], &input[at..]], &LIMITS), &expected, "split at {}", at);
        }
        prop_assert_eq!(&feed(input.chunks(chunk), &LIMITS), &expected);
        prop_assert_eq!(&feed(input.chunks(1), &LIMITS), &expected);
    }

    #[test]
    fn garbage_is_refused_or_awaited(input in prop::collection::vec(any::<u8>(), 0..400), authenticated: bool) {
        let limits = RequestLimits { max_inline: 64, max_multibulk: 50, max_bulk_len: 100, authenticated };
        prop_assert_eq!(feed([&input[..]], &limits), feed(input.chunks(1), &limits));
    }

    #[test]
    fn protocol_like_garbage_is_refused_or_awaited(input in protocol_like(), authenticated: bool) {
        let limits = RequestLimits { max_inline: 8, max_multibulk: 3, max_bulk_len: 5, authenticated };
        prop_assert_eq!(feed([&input[..]], &limits), feed(input.chunks(1), &limits));
    }
}
