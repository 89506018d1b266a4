//! Directories of versions 1 and 2, as they were.

use crate::harness::{NOW, keys, load_into, migrates, options};
use std::path::{Path, PathBuf};

fn golden(version: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    dir.join(version)
}

fn expected(entries: &[(usize, &str, &str, Option<i64>)]) -> crate::harness::Keys {
    let entry = |(db, key, value, deadline): &(usize, &str, &str, Option<i64>)| {
        ((*db, (*key).to_owned()), ((*value).to_owned(), *deadline))
    };
    entries.iter().map(entry).collect()
}

/// Scenarios 99 and 100: with one shard and with more.
#[test]
fn a_directory_of_version_1_is_loaded() {
    let found = migrates(&golden("v1"));
    let expected = expected(&[
        (0, "base:2", "string 2", Some(4_102_444_800_000)),
        // A relative time in an old log counts from the loading.
        (0, "incr:1", r"string \x00bin", Some(NOW.0 + 100_000)),
        (0, "list", "list a,b,c", None),
        (2, "set", "set 1,2,3", None),
    ]);
    assert_eq!(found, expected);
}

/// The frames of both shards are applied in one order: FLUSHALL at 4 spares what came later.
#[test]
fn a_directory_of_version_2_is_loaded() {
    let found = migrates(&golden("v2"));
    let expected = expected(&[
        (0, "shared", "string one-zero", None),
        (0, "{0}x", "string 2", None),
        (1, "{1}h", "hash f=v", None),
    ]);
    assert_eq!(found, expected);
}

/// After the migration in place the same data is found at the new place.
#[test]
fn version_1_is_loaded_from_its_place_after_the_migration() {
    let dir = tempfile::tempdir().unwrap();
    for name in [
        "moon.aof.manifest",
        "moon.aof.7.base.rdb",
        "moon.aof.7.incr.aof",
    ] {
        std::fs::copy(golden("v1").join(name), dir.path().join(name)).unwrap();
    }
    let (before, _) = load_into(dir.path(), 1, &options()).unwrap();
    let paths = moon_manifest::AofPaths::new(dir.path());
    for expected in [moon_aof::Migrated::Now, moon_aof::Migrated::Already] {
        let migrated = moon_aof::migrate_in_place(&moon_aof::RealStorage, &paths).unwrap();
        assert_eq!(migrated, expected);
        let (after, _) = load_into(dir.path(), 1, &options()).unwrap();
        assert_eq!(keys(&after), keys(&before));
    }
    assert!(!dir.path().join("moon.aof.7.base.rdb").exists());
}
