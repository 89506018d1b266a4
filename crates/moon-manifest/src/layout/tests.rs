//! Paths, names and the recognition of v1's layout.

use super::*;
use moon_core::ShardCount;

const V1: &[u8] = include_bytes!("../../tests/golden/v1/manifest");
const V2: &[u8] = include_bytes!("../../tests/golden/v2/manifest");

#[test]
fn every_path_follows_from_shard_and_generation() {
    let paths = AofPaths::new("/data/appendonlydir");
    let (shard, seq) = (ShardId(3), Generation(12));
    for (path, expected) in [
        (paths.manifest(), "moon.aof.manifest"),
        (paths.manifest_temp(), "moon.aof.manifest.tmp"),
        (paths.shard_dir(shard), "shard-3"),
        (paths.base(shard, seq), "shard-3/moon.aof.12.base.rdb"),
        (paths.incr(shard, seq), "shard-3/moon.aof.12.incr.aof"),
        (paths.legacy_base(seq), "moon.aof.12.base.rdb"),
        (paths.legacy_incr(seq), "moon.aof.12.incr.aof"),
        (
            paths.truncated_tail(shard, seq, Lsn(77)),
            "truncated/shard-3.moon.aof.12.incr.aof.77",
        ),
    ] {
        assert_eq!(path, Path::new("/data/appendonlydir").join(expected));
    }
    assert_eq!(paths.root(), Path::new("/data/appendonlydir"));
}

#[test]
fn file_names_parse_to_what_they_were_made_from() {
    for kind in [FileKind::Base, FileKind::Incr] {
        for seq in [Generation(1), Generation(907), Generation(u64::MAX)] {
            assert_eq!(parse_file_name(&file_name(kind, seq)), Some((kind, seq)));
        }
    }
    for shard in [ShardId(0), ShardId(63), ShardId(u16::MAX)] {
        assert_eq!(parse_shard_dir_name(&shard_dir_name(shard)), Some(shard));
    }
}

#[test]
fn other_names_are_not_taken_for_ours() {
    for name in [
        "moon.aof.manifest",
        "moon.aof..base.rdb",
        "moon.aof.0.base.rdb",
        "moon.aof.01.base.rdb",
        "moon.aof.+1.base.rdb",
        "moon.aof.1.base.rdb.tmp",
        "moon.aof.1.base.aof",
        "moon.aof.18446744073709551616.incr.aof",
        "appendonly.aof.1.incr.aof",
        "",
    ] {
        assert_eq!(parse_file_name(name), None, "{name}");
    }
    for name in [
        "shard-",
        "shard--1",
        "shard-00",
        "shard-65536",
        "shards-1",
        "shard-1.bak",
    ] {
        assert_eq!(parse_shard_dir_name(name), None, "{name}");
    }
}

/// Scenario 99.
#[test]
fn is_legacy_top_level_layout_detects_v1_files() {
    let files = [
        "moon.aof.manifest",
        "moon.aof.1.base.rdb",
        "moon.aof.1.incr.aof",
    ];
    assert!(is_legacy_top_level_layout(Some(V1), files));
    // Files without their manifest, or with one that cannot be read, are still v1's.
    assert!(is_legacy_top_level_layout(None, ["moon.aof.4.incr.aof"]));
    assert!(is_legacy_top_level_layout(
        Some(b""),
        ["moon.aof.4.base.rdb"]
    ));
    assert!(is_legacy_top_level_layout(Some(V1), Vec::<String>::new()));
}

#[test]
fn is_legacy_top_level_layout_returns_false_for_v2() {
    assert!(!is_legacy_top_level_layout(Some(V2), ["moon.aof.manifest"]));
    // Stray files beside a per-shard manifest do not make the directory v1.
    assert!(!is_legacy_top_level_layout(
        Some(V2),
        ["moon.aof.1.base.rdb"]
    ));
    let id = crate::ReplicationId::from_random([7; 20]);
    let v3 = AofManifest::initialize_multi(ShardCount::ONE, 1, id).to_text();
    assert!(!is_legacy_top_level_layout(
        Some(v3.as_bytes()),
        ["moon.aof.1.base.rdb"]
    ));
    assert!(!is_legacy_top_level_layout(None, Vec::<String>::new()));
    assert!(!is_legacy_top_level_layout(
        None,
        ["dump.rdb", "moon.aof.manifest.tmp"]
    ));
}
