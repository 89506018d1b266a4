//! Sources that are cut, damaged or incomplete: refused with file and place, or, where Redis
//! goes on, loaded up to the cut and reported.

use crate::harness::{keys, load_into, migrate_to, options};
use moon_core::UnixMs;
use moon_import::error::FrameFault;
use moon_import::{ImportError, ImportOptions};
use std::fs;
use std::path::Path;
use tempfile::TempDir;

fn copy(version: &str) -> TempDir {
    fn all(from: &Path, to: &Path) {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let from = entry.unwrap().path();
            let to = to.join(from.file_name().unwrap());
            if from.is_dir() {
                all(&from, &to);
            } else {
                fs::copy(from, to).unwrap();
            }
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    all(&golden.join(version), dir.path());
    dir
}

fn strict() -> ImportOptions {
    ImportOptions {
        load_truncated: false,
        ..options()
    }
}

fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}

fn manifest(dir: &TempDir, text: &str) {
    fs::write(dir.path().join("a.aof.manifest"), text).unwrap();
}

const SET_A: &str = "*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\n1\r\n";
const SET_B: &str = "*3\r\n$3\r\nSET\r\n$1\r\nb\r\n$1\r\n1\r\n";

/// The end of the last file may be cut, of any other not.
#[test]
fn only_the_last_file_of_a_log_may_be_cut() {
    let dir = tempfile::tempdir().unwrap();
    manifest(&dir, "file a.1 seq 1 type i\nfile a.2 seq 2 type i\n");
    let cut = format!("{SET_A}{}", &SET_B[..20]);
    fs::write(dir.path().join("a.1"), &cut).unwrap();
    fs::write(dir.path().join("a.2"), SET_A).unwrap();
    let error = load_into(dir.path(), 1, &options()).unwrap_err();
    let ImportError::Truncated {
        path,
        offset,
        bytes,
    } = error
    else {
        panic!("{error}");
    };
    assert!(path.ends_with("a.1"));
    assert_eq!((offset, bytes), (27, 20));

    fs::write(dir.path().join("a.1"), SET_B).unwrap();
    fs::write(dir.path().join("a.2"), &cut).unwrap();
    let (data, summary) = load_into(dir.path(), 1, &options()).unwrap();
    assert_eq!(keys(&data).len(), 2);
    let end = &summary.ignored[0];
    assert!(end.path.ends_with("a.2"));
    assert_eq!((end.offset, end.bytes), (27, 20));
    let error = load_into(dir.path(), 1, &strict()).unwrap_err();
    assert!(matches!(error, ImportError::Truncated { .. }), "{error}");
}

/// Every file of a log starts in database 0, and a transaction does not go on in the next.
#[test]
fn files_of_a_log_begin_anew() {
    let dir = tempfile::tempdir().unwrap();
    manifest(&dir, "file a.1 seq 1 type i\nfile a.2 seq 2 type i\n");
    let select = "*2\r\n$6\r\nSELECT\r\n$1\r\n7\r\n";
    fs::write(dir.path().join("a.1"), format!("{select}{SET_A}")).unwrap();
    let open = format!("{SET_B}*1\r\n$5\r\nMULTI\r\n{SET_A}");
    fs::write(dir.path().join("a.2"), open).unwrap();
    let (data, summary) = load_into(dir.path(), 4, &options()).unwrap();
    let found: Vec<_> = keys(&data).into_keys().collect();
    assert_eq!(found, [(0, "b".to_owned()), (7, "a".to_owned())]);
    assert_eq!(summary.ignored[0].bytes, 42);
}

#[test]
fn a_missing_file_is_refused_before_anything_is_read() {
    let dir = tempfile::tempdir().unwrap();
    manifest(&dir, "file a.1 seq 1 type b\nfile a.2 seq 2 type i\n");
    fs::write(dir.path().join("a.1"), "garbage").unwrap();
    let text = load_into(dir.path(), 1, &options())
        .unwrap_err()
        .to_string();
    assert!(text.contains("a.2 is named by "), "{text}");
}

/// Scenarios 48 and 49.
#[test]
fn a_base_that_is_missing_or_damaged_is_refused() {
    for (version, base) in [
        ("v1", "moon.aof.7.base.rdb"),
        ("v2", "shard-1/moon.aof.3.base.rdb"),
    ] {
        let dir = copy(version);
        let base = dir.path().join(base);
        change(&base, |bytes| bytes.truncate(bytes.len() - 9));
        let error = load_into(dir.path(), 2, &options()).unwrap_err();
        assert!(
            matches!(&error, ImportError::Rdb { path, .. } if *path == base),
            "{error}"
        );
        fs::remove_file(&base).unwrap();
        let text = load_into(dir.path(), 2, &options())
            .unwrap_err()
            .to_string();
        assert!(text.starts_with("AOF base RDB missing: "), "{text}");
    }
}

/// Scenario 50.
#[test]
fn a_missing_log_is_refused_if_it_had_something() {
    let dir = copy("v1");
    fs::remove_file(dir.path().join("moon.aof.7.incr.aof")).unwrap();
    let error = load_into(dir.path(), 1, &options()).unwrap_err();
    assert!(matches!(error, ImportError::Missing { .. }), "{error}");

    let dir = copy("v2");
    fs::remove_file(dir.path().join("shard-1/moon.aof.3.incr.aof")).unwrap();
    let error = load_into(dir.path(), 1, &options()).unwrap_err();
    assert!(matches!(error, ImportError::Missing { .. }), "{error}");
    change(&dir.path().join("moon.aof.manifest"), |bytes| {
        *bytes = b"version 2\nseq 3\nshards 2\nshard 0 max_lsn 9\nshard 1 max_lsn 0\n".to_vec();
    });
    load_into(dir.path(), 1, &options()).unwrap();
}

/// Every cut of the last frame is a cut end; nothing before it is lost.
#[test]
fn a_cut_frame_at_the_end_is_ignored_and_reported() {
    let whole = fs::read(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v2/shard-0/moon.aof.3.incr.aof"),
    )
    .unwrap();
    let last = 12 + "*3\r\n$6\r\nAPPEND\r\n$6\r\nshared\r\n$5\r\n-zero\r\n".len();
    for cut in 1..last {
        let dir = copy("v2");
        let file = dir.path().join("shard-0/moon.aof.3.incr.aof");
        fs::write(&file, &whole[..whole.len() - cut]).unwrap();
        let (data, summary) = load_into(dir.path(), 3, &options()).unwrap();
        assert_eq!(keys(&data)[&(0, "shared".to_owned())].0, "string one");
        let end = &summary.ignored[0];
        assert_eq!(end.offset as usize, whole.len() - last);
        assert_eq!(end.bytes as usize, last - cut);
        let error = load_into(dir.path(), 3, &strict()).unwrap_err();
        assert!(matches!(error, ImportError::Truncated { .. }), "{error}");
    }
}

#[test]
fn damaged_frames_are_refused_with_their_place() {
    let cases: [(usize, u8, FrameFault); 4] = [
        // The length of the first frame leads far behind the end, but frames follow: no cut.
        (
            10,
            1,
            FrameFault::Length {
                len: (1 << 16) + 34,
            },
        ),
        (8, 0, FrameFault::Empty),
        (8, 30, FrameFault::CutRequest),
        (0, 5, FrameFault::Descends { lsn: 4, before: 5 }),
    ];
    for (at, byte, expected) in cases {
        let dir = copy("v2");
        let file = dir.path().join("shard-0/moon.aof.3.incr.aof");
        change(&file, |bytes| bytes[at] = byte);
        let error = load_into(dir.path(), 2, &options()).unwrap_err();
        let ImportError::Frame {
            path,
            offset,
            fault,
        } = error
        else {
            panic!("{expected}: {error}");
        };
        assert_eq!((path, fault), (file, expected));
        let second_frame = matches!(expected, FrameFault::Descends { .. });
        assert_eq!(offset > 0, second_frame, "{offset}");
    }
}

/// No changed byte makes the loader panic; what it accepts is a log all the same.
#[test]
fn any_changed_byte_is_an_error_or_another_log() {
    for (version, name) in [
        ("v1", "moon.aof.7.incr.aof"),
        ("v2", "shard-1/moon.aof.3.incr.aof"),
    ] {
        let dir = copy(version);
        let file = dir.path().join(name);
        let good = fs::read(&file).unwrap();
        for at in 0..good.len() {
            for flip in [1, 0x20, 0x80] {
                let mut bytes = good.clone();
                bytes[at] ^= flip;
                fs::write(&file, &bytes).unwrap();
                if let Err(error) = load_into(dir.path(), 2, &options()) {
                    let text = format!("{error:?}");
                    assert!(text.contains("path"), "{text}");
                }
            }
        }
    }
}

#[test]
fn what_follows_a_dump_is_refused() {
    let dir = copy("v1");
    let dump = dir.path().join("dump.rdb");
    fs::rename(dir.path().join("moon.aof.7.base.rdb"), &dump).unwrap();
    fs::remove_file(dir.path().join("moon.aof.manifest")).unwrap();
    let len = fs::metadata(&dump).unwrap().len();
    load_into(&dump, 1, &options()).unwrap();
    change(&dump, |bytes| bytes.extend_from_slice(SET_A.as_bytes()));
    let error = load_into(&dump, 1, &options()).unwrap_err();
    assert!(
        matches!(error, ImportError::TrailingBytes { offset, .. } if offset == len),
        "{error}"
    );
    let log = dir.path().join("log.aof");
    fs::rename(&dump, &log).unwrap();
    let (data, _) = load_into(&log, 1, &options()).unwrap();
    assert!(keys(&data).contains_key(&(0, "a".to_owned())));
}

/// Keys that have expired are no data of a dump; in a log, what follows may still keep them.
#[test]
fn expired_keys_of_a_dump_are_left_out_and_of_a_log_kept() {
    let dir = copy("v1");
    let late = ImportOptions {
        now: UnixMs(4_102_444_800_000),
        ..options()
    };
    let (data, summary) = load_into(dir.path(), 1, &late).unwrap();
    assert!(keys(&data).contains_key(&(0, "base:2".to_owned())));
    assert_eq!(summary.expired, 0);
    fs::remove_file(dir.path().join("moon.aof.manifest")).unwrap();
    let (data, summary) = load_into(&dir.path().join("moon.aof.7.base.rdb"), 1, &late).unwrap();
    assert!(!keys(&data).contains_key(&(0, "base:2".to_owned())));
    assert_eq!(summary.expired, 1);
}

#[test]
fn a_source_with_an_error_leaves_no_target() {
    let dir = copy("v1");
    change(&dir.path().join("moon.aof.7.incr.aof"), |bytes| {
        bytes.extend_from_slice(b"*2\r\n$4\r\nZADD\r\n$1\r\nk\r\n");
    });
    let target = tempfile::tempdir().unwrap();
    let to = target.path().join("new");
    let error = migrate_to(dir.path(), &to, 2).unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("'ZADD' at byte "), "{cause}");
    assert!(!to.exists());
}

/// Scenario 113: what an attempt left that was killed is no obstacle; anything else is.
#[test]
fn what_a_killed_attempt_left_is_replaced_and_nothing_else() {
    let target = tempfile::tempdir().unwrap();
    let aof = target.path().join("aof");
    fs::create_dir_all(aof.join("shard-0")).unwrap();
    fs::write(aof.join("shard-0/moon.aof.1.base.rdb"), "half").unwrap();
    let source = copy("v1");
    let error = migrate_to(source.path(), target.path(), 1).unwrap_err();
    assert!(error.to_string().contains("something in "), "{error}");
    assert!(aof.join("shard-0/moon.aof.1.base.rdb").exists());
    fs::write(aof.join("moon.aof.preparing"), "").unwrap();
    migrate_to(source.path(), target.path(), 1).unwrap();
    load_into(&aof, 2, &options()).unwrap();
}
