//! Torn tails: what may lie behind the last good frame, and what becomes of it.

use crate::harness::{Open, open, options, payload, segment};
use moon_aof::faulty::Random;
use moon_aof::{FaultyStorage, FsyncPolicy};
use moon_core::Lsn;

/// A log with one frame of each length, stopped as SIGKILL does.
fn killed(lengths: &[usize]) -> (FaultyStorage, Vec<u8>, u64) {
    let disk = FaultyStorage::new(1);
    let mut log = open(&disk, &options(FsyncPolicy::EverySec), 1).unwrap();
    let mut random = Random(7);
    let mut stream = Vec::new();
    for len in lengths {
        let frame = payload(&mut random, *len);
        log.append(0, &frame);
        stream.extend(frame);
    }
    let used = 64
        + lengths
            .iter()
            .map(|len| (40 + *len as u64).next_multiple_of(8))
            .sum::<u64>();
    (disk.kill(), stream, used)
}

fn reopen(disk: &FaultyStorage) -> Open {
    open(disk, &options(FsyncPolicy::EverySec), 1).unwrap()
}

/// Scenarios 31 and 32: the last frame cut at each byte; then ten more records, a kill, and
/// another recovery.
#[test]
fn torn_tail_is_cut_and_a_second_restart_finds_every_later_record() {
    let (disk, stream, used) = killed(&[30, 50]);
    let last_frame = 64 + 72;
    for cut in last_frame..used {
        let disk = disk.kill();
        disk.damage(&segment(0, 1), |bytes| bytes.truncate(cut as usize))
            .unwrap();
        let mut log = reopen(&disk);
        // The padding behind the payload is not part of the frame.
        let whole = cut >= last_frame + 40 + 50;
        let mut expected = stream[..if whole { 80 } else { 30 }].to_vec();
        assert_eq!(log.recovered.bytes, expected, "cut at {cut}");
        let lost = if whole { 0 } else { cut - last_frame };
        assert_eq!(log.summary.truncated_bytes > 0, lost > 0, "cut at {cut}");
        let left = &disk.snapshot()[&segment(0, 1)];
        assert!(left.len() as u64 <= if whole { used } else { last_frame });
        for i in 0..10u8 {
            log.append(0, &[i; 33]);
            expected.extend([i; 33]);
        }
        let again = reopen(&disk.kill());
        assert_eq!(again.recovered.bytes, expected, "cut at {cut}");
        assert_eq!(again.summary.truncated_bytes, 0);
    }
}

/// Scenario 33.
#[test]
fn zeros_behind_the_last_frame_are_no_damage() {
    let (disk, stream, _) = killed(&[30, 50]);
    for zeros in [1, 511, 4096, 1 << 20] {
        let disk = disk.kill();
        disk.damage(&segment(0, 1), |bytes| bytes.resize(bytes.len() + zeros, 0))
            .unwrap();
        let log = reopen(&disk);
        assert_eq!(log.recovered.bytes, stream);
        assert_eq!(log.summary.truncated_bytes, 0);
        assert!(disk.snapshot()[&segment(0, 1)].len() < 4096);
    }
}

/// Scenario 34: recycled blocks with random bytes, or with whole frames of another segment.
#[test]
fn frames_of_other_files_behind_the_tail_are_not_replayed() {
    let (disk, stream, used) = killed(&[30, 50]);
    let other = FaultyStorage::new(99);
    let mut log = open(&other, &options(FsyncPolicy::EverySec), 1).unwrap();
    for _ in 0..5 {
        log.append(0, &[b'o'; 40]);
    }
    let foreign = other.snapshot()[&segment(0, 1)][64..].to_vec();
    let noise = payload(&mut Random(3), 5000);
    for garbage in [foreign, noise] {
        let disk = disk.kill();
        disk.damage(&segment(0, 1), |bytes| {
            bytes.truncate(used as usize);
            bytes.extend(&garbage);
        })
        .unwrap();
        let log = reopen(&disk);
        assert_eq!(log.recovered.bytes, stream);
        assert!(log.summary.truncated_bytes > 0);
    }
}

/// Scenario 34: the segment's own first frame once more behind its last one.
#[test]
fn an_old_frame_of_the_same_file_is_not_replayed_twice() {
    let (disk, stream, used) = killed(&[30, 50]);
    disk.damage(&segment(0, 1), |bytes| {
        bytes.truncate(used as usize);
        let first = bytes[64..64 + 72].to_vec();
        bytes.extend(first);
    })
    .unwrap();
    assert_eq!(reopen(&disk).recovered.bytes, stream);
}

/// Scenario 38: values full of headers and commands, and the frame before them torn.
#[test]
fn bytes_inside_a_value_are_never_taken_for_a_frame() {
    let disk = FaultyStorage::new(1);
    let mut log = open(&disk, &options(FsyncPolicy::EverySec), 1).unwrap();
    log.append(0, b"good");
    let own_frames = disk.snapshot()[&segment(0, 1)].clone();
    let mut value = b"*3\r\n$3\r\nSET\r\n$1\r\nx\r\n$1\r\ny\r\n".to_vec();
    value.resize(32, b' ');
    // A frame with a header of another segment's seeds, as a client could have built it.
    let other = FaultyStorage::new(5);
    let mut forger = open(&other, &options(FsyncPolicy::EverySec), 1).unwrap();
    forger.append(0, b"pad.");
    forger.append(0, b"*1\r\n$8\r\nFLUSHALL\r\n");
    value.extend(&other.snapshot()[&segment(0, 1)][64..]);
    value.extend(&own_frames[..64]);
    log.append(0, &value);
    let disk = disk.kill();
    // The header of the value's frame is torn.
    disk.damage(&segment(0, 1), |bytes| bytes[64 + 48 + 4] ^= 0x40)
        .unwrap();
    let log = reopen(&disk);
    assert_eq!(log.recovered.bytes, b"good");
    assert_eq!(log.clock.head(), Lsn(4));
}

#[test]
fn what_is_cut_off_is_kept_in_a_sidecar_file() {
    let (disk, _, used) = killed(&[30, 50]);
    disk.damage(&segment(0, 1), |bytes| bytes.truncate(used as usize - 20))
        .unwrap();
    let torn = disk.snapshot()[&segment(0, 1)].clone();
    let log = reopen(&disk);
    assert_eq!(log.summary.truncated_range.unwrap().0, Lsn(30));
    let sidecar = std::path::Path::new("/appendonlydir/truncated/shard-0.moon.aof.1.incr.aof.30");
    let kept = &disk.snapshot()[sidecar];
    assert_eq!(kept[..64], torn[..64]);
    assert_eq!(kept[64..], torn[64 + 72..]);
}

#[test]
fn many_starts_without_writes_leave_no_files_behind() {
    let disk = FaultyStorage::new(1);
    for _ in 0..5 {
        reopen(&disk).stop();
    }
    let mut log = reopen(&disk);
    log.append(0, b"x");
    log.stop();
    for _ in 0..5 {
        drop(reopen(&disk.kill()));
        reopen(&disk).stop();
    }
    let segments = disk.snapshot();
    let segments = segments
        .keys()
        .filter(|p| p.to_string_lossy().ends_with(".incr.aof"));
    // One with the frame, one that this start names, and one to be dropped by the next.
    assert!(segments.count() <= 3);
}
