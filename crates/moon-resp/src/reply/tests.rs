//! Every reply in both protocol versions, byte for byte as a Redis server sends it.

use super::*;

/// What `write` appends in RESP2 and in RESP3.
fn both(write: impl Fn(&mut Reply<'_>)) -> (String, String) {
    let in_protocol = |protocol| {
        let mut out = Vec::new();
        write(&mut Reply::new(&mut out, protocol));
        String::from_utf8(out).expect("the test writes UTF-8")
    };
    (in_protocol(Protocol::Resp2), in_protocol(Protocol::Resp3))
}

fn assert_both(write: impl Fn(&mut Reply<'_>), resp2: &str, resp3: &str) {
    assert_eq!(both(write), (resp2.to_owned(), resp3.to_owned()));
}

fn assert_same(write: impl Fn(&mut Reply<'_>), wire: &str) {
    assert_both(write, wire, wire);
}

#[test]
fn types_of_both_versions_are_written_alike() {
    assert_same(|r| r.ok(), "+OK\r\n");
    assert_same(|r| r.simple("QUEUED"), "+QUEUED\r\n");
    assert_same(|r| r.error("ERR no\r\nsuch"), "-ERR no  such\r\n");
    assert_same(|r| r.integer(12345), ":12345\r\n");
    assert_same(|r| r.integer(-2), ":-2\r\n");
    assert_same(|r| r.count(10), ":10\r\n");
    assert_same(|r| r.flag(true), ":1\r\n");
    assert_same(|r| r.bulk(b"Hello World"), "$11\r\nHello World\r\n");
    assert_same(|r| r.bulk(b""), "$0\r\n\r\n");
    assert_same(|r| r.bulk_integer(-17), "$3\r\n-17\r\n");
    assert_same(
        |r| r.bulk_with(4, |out| out.extend_from_slice(b"abcd")),
        "$4\r\nabcd\r\n",
    );
    assert_same(|r| r.array(0), "*0\r\n");
}

#[test]
fn types_of_resp3_are_downgraded_for_resp2() {
    assert_both(|r| r.null(), "$-1\r\n", "_\r\n");
    assert_both(|r| r.null_array(), "*-1\r\n", "_\r\n");
    assert_both(|r| r.map(3), "*6\r\n", "%3\r\n");
    assert_both(|r| r.set(3), "*3\r\n", "~3\r\n");
    assert_both(|r| r.push(2), "*2\r\n", ">2\r\n");
    assert_both(|r| r.double(2.125), "$5\r\n2.125\r\n", ",2.125\r\n");
    assert_both(
        |r| r.double(f64::NEG_INFINITY),
        "$4\r\n-inf\r\n",
        ",-inf\r\n",
    );
    assert_both(|r| r.boolean(true), ":1\r\n", "#t\r\n");
    assert_both(|r| r.boolean(false), ":0\r\n", "#f\r\n");
    let big = "1234567999999999999999999999999999999";
    assert_both(
        |r| r.big_number(big),
        &format!("$37\r\n{big}\r\n"),
        &format!("({big}\r\n"),
    );
    let text = b"This is a verbatim\nstring";
    assert_both(
        |r| r.verbatim("txt", text),
        "$25\r\nThis is a verbatim\nstring\r\n",
        "=29\r\ntxt:This is a verbatim\nstring\r\n",
    );
}

#[test]
fn attribute_is_left_out_in_resp2() {
    let write = |r: &mut Reply<'_>| {
        if r.attribute(1) {
            r.bulk(b"ttl");
            r.integer(90);
        }
        r.bulk(b"a");
    };
    assert_both(
        write,
        "$1\r\na\r\n",
        "|1\r\n$3\r\nttl\r\n:90\r\n$1\r\na\r\n",
    );
}

#[test]
fn heads_may_come_last() {
    let write = |r: &mut Reply<'_>| {
        r.ok();
        let start = r.position();
        r.bulk(b"a");
        r.integer(7);
        r.map_since(start, 1);
        r.array_since(start, 1);
        r.set_since(r.position(), 0);
    };
    assert_both(
        write,
        "+OK\r\n*1\r\n*2\r\n$1\r\na\r\n:7\r\n*0\r\n",
        "+OK\r\n*1\r\n%1\r\n$1\r\na\r\n:7\r\n~0\r\n",
    );
}

#[test]
fn rolled_back_reply_leaves_nothing() {
    let write = |r: &mut Reply<'_>| {
        r.ok();
        let start = r.position();
        r.array(2);
        r.truncate(start);
        r.error("ERR late");
    };
    assert_same(write, "+OK\r\n-ERR late\r\n");
}

#[test]
fn protocol_errors_quote_the_byte_as_it_came() {
    let wire = |error| {
        let mut out = Vec::new();
        Reply::new(&mut out, Protocol::Resp2).protocol_error(error);
        out
    };
    let got = |got| wire(ProtocolError::ExpectedBulk { got });
    assert_eq!(got(b'x'), b"-ERR Protocol error: expected '$', got 'x'\r\n");
    assert_eq!(
        got(b'\r'),
        b"-ERR Protocol error: expected '$', got ' '\r\n"
    );
    assert_eq!(
        got(0xff),
        b"-ERR Protocol error: expected '$', got '\xff'\r\n"
    );
    assert_eq!(
        wire(ProtocolError::InvalidMultibulkLength),
        b"-ERR Protocol error: invalid multibulk length\r\n"
    );
}

#[test]
fn requests_are_arrays_of_bulk_strings() {
    let expected = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$0\r\n\r\n";
    let mut out = Vec::new();
    write_request(&mut out, &["SET", "k", ""]);
    assert_eq!(out, expected);
    out.clear();
    write_args(&mut out, crate::OwnedArgs::new(["SET", "k", ""]).as_args());
    assert_eq!(out, expected);
}

fn bytes(len: std::ops::Range<usize>) -> impl proptest::strategy::Strategy<Value = Vec<u8>> {
    proptest::collection::vec(proptest::prelude::any::<u8>(), len)
}

proptest::proptest! {
    /// Whatever the request looked like when it came: parsers skip some bytes without a look.
    #[test]
    fn arguments_are_written_in_one_form(
        before in bytes(0..12),
        parts in proptest::collection::vec(
            proptest::prop_oneof![bytes(0..4), bytes(0..120)], 1..5),
        broken in proptest::option::of((0..1000_usize, proptest::prelude::any::<u8>())),
        from in 0..3_usize,
    ) {
        let mut buf = before.clone();
        write_request(&mut buf, &parts);
        if let Some((at, byte)) = broken {
            let at = before.len() + at % (buf.len() - before.len());
            buf[at] = byte;
        }
        let mut spans = Vec::new();
        let limits = crate::request::RequestLimits::default();
        let parsed = crate::request::RequestParser::new()
            .parse_at(&buf, before.len(), &mut spans, &limits);
        if let Ok(crate::request::Parsed::Request { .. }) = parsed {
            let args = Args::new(&buf, &spans).from(from);
            let (mut expected, mut written) = (Vec::new(), Vec::new());
            write_request(&mut expected, &args.iter().collect::<Vec<_>>());
            write_args(&mut written, args);
            proptest::prop_assert_eq!(&written, &expected);
            if broken.is_none() && from == 0 {
                let is_short = parts.iter().all(|part| part.len() < 100);
                proptest::prop_assert_eq!(args.as_sent().is_some(), is_short);
            }
        }
    }
}
