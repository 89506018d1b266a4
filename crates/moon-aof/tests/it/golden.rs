//! Files of format version 3 as they were written when it was frozen: later versions write the
//! same bytes and read these. `MOON_BLESS=1` writes them anew; that is a change of format.

use crate::harness::{DIR, Stream, options, payload, shards};
use bytes::Bytes;
use moon_aof::faulty::Random;
use moon_aof::frame::{FrameHeader, Seeds};
use moon_aof::segment::SegmentHeader;
use moon_aof::storage::write_all_at;
use moon_aof::{AofOptions, FaultyStorage, FsyncPolicy, NoProgress, Recovery, Storage};
use moon_core::{Lsn, ShardCount, UnixMs};
use moon_repl::{Clock, CommitLog, CommitOn, FrameKind};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/v3");
const PAGE: &str = include_str!("../../../../docs/format/segment.md");

fn golden_options() -> AofOptions {
    AofOptions {
        preallocate: 0,
        frame_max: 200,
        ..options(FsyncPolicy::No)
    }
}

/// Own, cross and control frames and a run on two shards, stopped cleanly. Returns the stream.
fn write(disk: &FaultyStorage) -> Vec<u8> {
    let storage = Arc::new(disk.clone());
    let two = shards(2);
    let recovery = Recovery::scan(storage, &golden_options(), Some(two), two, &NoProgress).unwrap();
    let clock = Clock::new(two, Lsn(0), CommitOn::Written);
    let (pool, mut logs) = recovery.finish(&clock).unwrap();
    let set = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$5\r\nvalue\r\n";
    let mut random = Random(3);
    let frames = [
        (0, FrameKind::Own, set.to_vec()),
        (1, FrameKind::Own, payload(&mut random, 77)),
        (1, FrameKind::Cross, payload(&mut random, 500)),
        (0, FrameKind::Control, b"*1\r\n$4\r\nPING\r\n".to_vec()),
        (0, FrameKind::Own, payload(&mut random, 8)),
    ];
    let mut stream = Vec::new();
    for (i, (shard, kind, payload)) in frames.into_iter().enumerate() {
        if kind != FrameKind::Control {
            stream.extend(&payload);
        }
        let now = UnixMs(1_700_000_000_000 + i as i64);
        logs[shard].append(kind, Bytes::from(payload), now);
    }
    let now = UnixMs(1_700_000_001_000);
    pool.shutdown(logs, now, Duration::from_secs(20)).unwrap();
    stream
}

/// The files without the lock, by their path below the directory.
fn files(disk: &FaultyStorage) -> BTreeMap<PathBuf, Vec<u8>> {
    let all = disk.snapshot().into_iter();
    all.filter_map(|(path, bytes)| Some((path.strip_prefix(DIR).ok()?.to_owned(), bytes)))
        .collect()
}

#[test]
fn this_version_writes_the_bytes_of_the_golden_files() {
    let disk = FaultyStorage::new(2026);
    write(&disk);
    for (name, bytes) in files(&disk) {
        let path = Path::new(GOLDEN).join(&name);
        if std::env::var_os("MOON_BLESS").is_some() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, &bytes).unwrap();
        }
        let golden = std::fs::read(&path).unwrap();
        assert!(golden == bytes, "{} differs", name.display());
    }
}

#[test]
fn the_golden_files_are_read() {
    let disk = FaultyStorage::new(1);
    let root = Path::new(DIR);
    disk.create_dir(root).unwrap();
    for shard in ["shard-0", "shard-1"] {
        disk.create_dir(&root.join(shard)).unwrap();
    }
    for name in [
        "moon.aof.manifest",
        "shard-0/moon.aof.1.incr.aof",
        "shard-1/moon.aof.1.incr.aof",
    ] {
        let bytes = std::fs::read(Path::new(GOLDEN).join(name)).unwrap();
        let file = disk.create(&root.join(name)).unwrap();
        write_all_at(&*file, &[&bytes, &[], &[]], 0).unwrap();
    }
    let mut recovery = Recovery::scan(
        Arc::new(disk),
        &golden_options(),
        None,
        ShardCount::ONE,
        &NoProgress,
    )
    .unwrap();
    assert!(recovery.summary().clean_stop);
    let mut taken = Collected::default();
    recovery.replay(&mut taken, &NoProgress).unwrap();
    assert_eq!(taken.0, write(&FaultyStorage::new(2026)));
    assert_eq!(recovery.end(), Lsn(31 + 77 + 500 + 14 + 8));
}

/// Payloads one after the other; control frames are not handed out, so the stream has holes.
#[derive(Default)]
struct Collected(Vec<u8>);

impl moon_aof::ReplaySink for Collected {
    fn own(
        &mut self,
        _: moon_core::ShardId,
        _: Lsn,
        _: u32,
        payload: Bytes,
    ) -> Result<(), moon_aof::ReplayError> {
        self.0.extend_from_slice(&payload);
        Ok(())
    }

    fn cross(&mut self, _: Lsn, _: u32, payload: Bytes) -> Result<(), moon_aof::ReplayError> {
        self.0.extend_from_slice(&payload);
        Ok(())
    }
}

/// The bytes in the blocks of the page that are marked `segment`.
fn example() -> Vec<u8> {
    let block = PAGE.split("```segment\n").nth(1).unwrap();
    let block = block.split("```").next().unwrap();
    let words = block.lines().flat_map(|line| {
        let bytes = line.split('|').next().unwrap_or_default();
        bytes.split_whitespace().skip(1)
    });
    words
        .map(|word| u8::from_str_radix(word, 16).unwrap())
        .collect()
}

#[test]
fn the_example_in_the_format_page_is_the_golden_segment() {
    let golden = std::fs::read(Path::new(GOLDEN).join("shard-0/moon.aof.1.incr.aof")).unwrap();
    let example = example();
    assert!(
        golden.starts_with(&example) && example.len() == 64 + 72,
        "the page should show:\n{}",
        hex(&golden[..64 + 72])
    );
    let header = SegmentHeader::decode(&example).unwrap();
    let seeds: Seeds = header.seeds();
    let frame = FrameHeader::decode(example[64..].first_chunk().unwrap(), seeds).unwrap();
    assert_eq!((frame.kind, frame.len), (FrameKind::Own, 31));
    assert_eq!(
        seeds.payload_crc(&example[104..104 + 31]),
        frame.payload_crc
    );
}

fn hex(bytes: &[u8]) -> String {
    let mut out = String::new();
    for (i, row) in bytes.chunks(8).enumerate() {
        let cells: Vec<String> = row.iter().map(|byte| format!("{byte:02x}")).collect();
        let text: String = row
            .iter()
            .map(|&b| if b.is_ascii_graphic() { b as char } else { '.' })
            .collect();
        out += &format!("{:03}  {}  | {text}\n", i * 8, cells.join(" "));
    }
    out
}

/// The harness's collector checks that there are no holes; it must not be fooled.
#[test]
#[should_panic(expected = "a hole")]
fn the_collector_notices_a_hole() {
    use moon_aof::ReplaySink;
    let mut stream = Stream::default();
    stream.cross(Lsn(0), 0, Bytes::from_static(b"ab")).unwrap();
    stream.cross(Lsn(3), 0, Bytes::from_static(b"c")).unwrap();
}
