//! Parsing a pipeline of requests in place, and writing its replies.
//!
//! Throughput counts requests, so the time for one of them is the reported time divided by
//! [`PIPELINE`].

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use moon_resp::{Args, Parsed, Protocol, Reply, RequestLimits, RequestParser, Span, write_request};

/// Requests in one read buffer.
const PIPELINE: usize = 64;
/// Length of each value in bytes.
const VALUE_LEN: usize = 64;

fn pipeline(request: impl Fn(&mut Vec<u8>, &str)) -> Vec<u8> {
    let mut out = Vec::new();
    for index in 0..PIPELINE {
        request(&mut out, &format!("key:{index:012}"));
    }
    out
}

fn gets() -> Vec<u8> {
    pipeline(|out, key| write_request(out, &["GET", key]))
}

fn sets() -> Vec<u8> {
    let value = "x".repeat(VALUE_LEN);
    pipeline(|out, key| write_request(out, &["SET", key, &value]))
}

fn inline_sets() -> Vec<u8> {
    let value = "x".repeat(VALUE_LEN);
    pipeline(|out, key| out.extend_from_slice(format!("SET {key} {value}\r\n").as_bytes()))
}

/// Parses all of `buf` as a server does, and looks at every key.
fn parse_all(parser: &mut RequestParser, buf: &[u8], spans: &mut Vec<Span>) -> usize {
    let limits = RequestLimits::default();
    spans.clear();
    let mut pos = 0;
    let mut key_bytes = 0;
    loop {
        let first = spans.len();
        match parser.parse_at(buf, pos, spans, &limits) {
            Ok(Parsed::Request { consumed }) => {
                pos += consumed;
                key_bytes += Args::new(buf, &spans[first..]).at(1).len();
            }
            Ok(Parsed::Incomplete { .. }) => return key_bytes,
            other => panic!("the workload is well-formed, yet {other:?}"),
        }
    }
}

fn parse(c: &mut Criterion) {
    let mut group = c.benchmark_group("parse");
    group.throughput(Throughput::Elements(PIPELINE as u64));
    for (name, buf) in [
        ("get", gets()),
        ("set-64", sets()),
        ("set-64-inline", inline_sets()),
    ] {
        let mut parser = RequestParser::new();
        let mut spans = Vec::new();
        assert_eq!(
            parse_all(&mut parser, &buf, &mut spans),
            PIPELINE * "key:000000000000".len(),
            "every key is found"
        );
        group.bench_function(name, |b| {
            b.iter(|| parse_all(&mut parser, black_box(&buf), &mut spans));
        });
    }
    group.finish();
}

fn reply(c: &mut Criterion) {
    let mut group = c.benchmark_group("reply");
    group.throughput(Throughput::Elements(PIPELINE as u64));
    let value = [b'x'; VALUE_LEN];
    let mut out = Vec::new();
    let mut bench = |name: &str, write: &dyn Fn(&mut Reply<'_>, usize)| {
        group.bench_function(name, |b| {
            b.iter(|| {
                out.clear();
                let mut reply = Reply::new(&mut out, Protocol::Resp2);
                for index in 0..PIPELINE {
                    write(&mut reply, black_box(index));
                }
                out.len()
            });
        });
    };
    bench("ok", &|reply, _| reply.ok());
    bench("bulk-64", &|reply, _| reply.bulk(black_box(&value)));
    bench("integer", &|reply, index| {
        reply.count(index * 1000);
    });
    bench("double", &|reply, index| reply.double(index as f64 + 0.1));
    group.finish();
}

criterion_group!(benches, parse, reply);
criterion_main!(benches);
