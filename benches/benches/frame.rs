//! The frame codec: the checksum of a payload, and a header in both directions.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use moon_aof::frame::{FrameHeader, Piece, Seeds};
use moon_core::Lsn;
use moon_repl::FrameKind;
use std::hint::black_box;

/// A turn of a few small writes, and one of a busy shard.
const PAYLOADS: [usize; 2] = [1 << 10, 64 << 10];

fn header(payload: &[u8], seeds: Seeds) -> FrameHeader {
    FrameHeader {
        kind: FrameKind::Own,
        piece: Piece::Whole,
        db: 0,
        len: u32::try_from(payload.len()).expect("payloads here are short"),
        lsn: Lsn(1 << 40),
        durable: Lsn((1 << 40) - 1),
        time_ms: 1_700_000_000_000,
        payload_crc: seeds.payload_crc(payload),
    }
}

fn frame(c: &mut Criterion) {
    let seeds = Seeds::new(*b"0123456789abcdef");
    let mut group = c.benchmark_group("frame");
    for bytes in PAYLOADS {
        let payload: Vec<u8> = (0..bytes)
            .map(|i| u8::try_from(i % 251).unwrap_or(0))
            .collect();
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function(BenchmarkId::new("payload crc", bytes), |b| {
            b.iter(|| seeds.payload_crc(black_box(&payload)));
        });
        group.bench_function(BenchmarkId::new("encode with crc", bytes), |b| {
            b.iter(|| header(black_box(&payload), seeds).encode(seeds));
        });
        let encoded = header(&payload, seeds).encode(seeds);
        group.bench_function(BenchmarkId::new("decode and check", bytes), |b| {
            b.iter(|| {
                let header = FrameHeader::decode(black_box(&encoded), seeds)?;
                (header.payload_crc == seeds.payload_crc(black_box(&payload))).then_some(header)
            });
        });
    }
    group.finish();
    let encoded = header(&[0; 1024], seeds).encode(seeds);
    let decoded = header(&[0; 1024], seeds);
    c.bench_function("frame header/encode", |b| {
        b.iter(|| black_box(&decoded).encode(seeds));
    });
    c.bench_function("frame header/decode", |b| {
        b.iter(|| FrameHeader::decode(black_box(&encoded), seeds));
    });
}

criterion_group!(benches, frame);
criterion_main!(benches);
