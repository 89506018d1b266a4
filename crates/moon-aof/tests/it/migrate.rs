//! Version 1 in place: every step can fail, and every moment can be the last one.

use moon_aof::faulty::{Fault, Operation, Rule};
use moon_aof::storage::write_all_at;
use moon_aof::{FaultyStorage, MigrateError, Migrated, Storage, migrate_in_place};
use moon_manifest::{AofLayout, AofManifest, AofPaths, MigrationError};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const V1: &[u8] = b"seq 7\nbase moon.aof.7.base.rdb\nincr moon.aof.7.incr.aof\n";
const BASE: &str = "/d/moon.aof.7.base.rdb";
const INCR: &str = "/d/moon.aof.7.incr.aof";
const EIO: i32 = 5;

fn paths() -> AofPaths {
    AofPaths::new("/d")
}

fn write(storage: &FaultyStorage, path: &str, bytes: &[u8]) {
    let file = storage.create(Path::new(path)).unwrap();
    write_all_at(&*file, &[bytes, &[], &[]], 0).unwrap();
    file.sync_data().unwrap();
}

/// A directory of version 1, durable.
fn version_1() -> FaultyStorage {
    let storage = FaultyStorage::new(1);
    storage.create_dir(Path::new("/d")).unwrap();
    write(&storage, "/d/moon.aof.manifest", V1);
    write(&storage, BASE, b"base");
    write(&storage, INCR, b"incr");
    storage.sync_dir(Path::new("/d")).unwrap();
    storage.sync_dir(Path::new("/")).unwrap();
    storage
}

/// The files, without the one that is only there for the moment.
fn files(storage: &FaultyStorage) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = storage.snapshot();
    files.remove(Path::new("/d/moon.aof.manifest.tmp"));
    files
}

fn migrated() -> BTreeMap<PathBuf, Vec<u8>> {
    let text = "seq 7\nbase shard-0/moon.aof.7.base.rdb\nincr shard-0/moon.aof.7.incr.aof\n";
    [
        ("/d/moon.aof.manifest", text),
        ("/d/shard-0/moon.aof.7.base.rdb", "base"),
        ("/d/shard-0/moon.aof.7.incr.aof", "incr"),
    ]
    .map(|(path, bytes)| (PathBuf::from(path), bytes.as_bytes().to_vec()))
    .into()
}

/// Scenario 99.
#[test]
fn migrate_top_level_to_per_shard_moves_files_and_rewrites_manifest() {
    let storage = version_1();
    assert_eq!(migrate_in_place(&storage, &paths()).unwrap(), Migrated::Now);
    assert_eq!(files(&storage), migrated());
    let manifest = AofManifest::parse(&files(&storage)[Path::new("/d/moon.aof.manifest")]);
    assert_eq!(manifest.unwrap().layout, AofLayout::PerShard);
    // Again, and after a power loss: there is nothing left to do.
    for storage in [storage.clone(), storage.crash(3)] {
        let again = migrate_in_place(&storage, &paths()).unwrap();
        assert_eq!(again, Migrated::Already);
        assert_eq!(files(&storage), migrated());
    }
}

/// Scenario 101.
#[test]
fn migrate_rolls_back_filesystem_when_incr_rename_fails() {
    let storage = version_1();
    let before = files(&storage);
    let rule = Rule::once(
        Operation::Rename,
        "shard-0/moon.aof.7.incr",
        Fault::Error(EIO),
    );
    storage.add_rule(rule);
    let error = migrate_in_place(&storage, &paths()).unwrap_err();
    let MigrateError::PutBack { path, source } = &error else {
        panic!("{error}");
    };
    assert!(path.ends_with("shard-0/moon.aof.7.incr.aof"));
    assert_eq!(source.raw_os_error(), Some(EIO));
    assert_eq!(files(&storage), before);
    assert_eq!(
        files(&storage.crash(1)),
        before,
        "what was put back is durable"
    );
    assert_eq!(migrate_in_place(&storage, &paths()).unwrap(), Migrated::Now);
}

/// Scenario 101.
#[test]
fn migrate_does_not_mutate_on_missing_base() {
    for missing in [BASE, INCR] {
        let storage = version_1();
        storage.remove(Path::new(missing)).unwrap();
        let (before, operations) = (files(&storage), storage.operations());
        let error = migrate_in_place(&storage, &paths()).unwrap_err();
        match error {
            MigrateError::Plan(MigrationError::BaseMissing { path }) => {
                assert_eq!(path, Path::new(BASE));
            }
            MigrateError::Plan(MigrationError::IncrMissing { path }) => {
                assert_eq!(path, Path::new(INCR));
            }
            other => panic!("{other}"),
        }
        assert_eq!(files(&storage), before);
        assert_eq!(storage.operations(), operations, "not even tried");
    }
}

/// Scenario 101: a failure at any operation puts everything back, and the next call succeeds.
#[test]
fn a_failure_at_any_operation_restores_the_old_state() {
    let storage = version_1();
    let before = storage.operations();
    migrate_in_place(&storage, &paths()).unwrap();
    let operations = storage.operations() - before;
    assert!(operations > 8, "{operations}");
    for skip in 0..operations {
        let storage = version_1();
        let old = files(&storage);
        storage.add_rule(Rule {
            operation: None,
            path: String::new(),
            skip,
            times: 1,
            fault: Fault::Error(EIO),
        });
        let error = migrate_in_place(&storage, &paths()).unwrap_err();
        assert!(
            matches!(error, MigrateError::PutBack { .. }),
            "{skip}: {error}"
        );
        assert_eq!(files(&storage), old, "operation {skip}");
        assert_eq!(migrate_in_place(&storage, &paths()).unwrap(), Migrated::Now);
        assert_eq!(files(&storage), migrated());
    }
}

/// Scenarios 102 and 113: a crash at any operation, of the process or of the power, also while
/// things are put back; the next start does the rest.
#[test]
fn a_crash_at_any_operation_leaves_what_the_next_start_finishes() {
    let operations = 40;
    for put_back in [false, true] {
        for skip in 0..operations {
            for seed in 0..20 {
                let storage = version_1();
                if put_back {
                    let rule = Rule::once(Operation::Rename, "manifest", Fault::Error(EIO));
                    storage.add_rule(rule);
                }
                storage.add_rule(Rule {
                    operation: None,
                    path: String::new(),
                    skip,
                    times: 1,
                    fault: Fault::Halt,
                });
                // It may have come to its end before.
                drop(migrate_in_place(&storage, &paths()));
                let left = match seed {
                    0 => storage.kill(),
                    _ => storage.crash(seed),
                };
                migrate_in_place(&left, &paths()).unwrap();
                assert_eq!(files(&left), migrated(), "operation {skip}, seed {seed}");
            }
        }
    }
}

/// Scenario 101: something else has the name.
#[test]
fn a_name_that_is_taken_is_refused_before_anything_moves() {
    let storage = version_1();
    storage.create_dir(Path::new("/d/shard-0")).unwrap();
    write(&storage, "/d/shard-0/moon.aof.7.incr.aof", b"other");
    let before = files(&storage);
    let error = migrate_in_place(&storage, &paths()).unwrap_err();
    assert!(
        matches!(error, MigrateError::Plan(MigrationError::Both { .. })),
        "{error}"
    );
    assert_eq!(files(&storage), before);
}

#[test]
fn other_versions_and_new_directories_are_left_alone() {
    let storage = FaultyStorage::new(1);
    assert_eq!(
        migrate_in_place(&storage, &paths()).unwrap(),
        Migrated::Already
    );
    storage.create_dir(Path::new("/d")).unwrap();
    let v2 = b"version 2\nseq 1\nshards 1\nshard 0 max_lsn 0\n";
    write(&storage, "/d/moon.aof.manifest", v2);
    assert_eq!(
        migrate_in_place(&storage, &paths()).unwrap(),
        Migrated::Already
    );
    write(&storage, "/d/moon.aof.manifest", b"seq x\n");
    let error = migrate_in_place(&storage, &paths()).unwrap_err();
    assert!(matches!(error, MigrateError::Manifest { .. }), "{error}");
}
