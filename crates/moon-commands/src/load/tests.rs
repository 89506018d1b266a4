//! What loads, and what is refused by which name.

use super::*;
use moon_core::ShardId;
use moon_rdb::{RdbInfo, RdbValue, RdbValueRef, RdbVersion, RdbWriter};

const INFO: RdbInfo<'static> = RdbInfo {
    redis_ver: "7.2.0",
    ctime_s: 1_700_000_000,
    used_mem_bytes: 1,
    aof_base: true,
    cut_lsn: Some(4711),
};

/// A file with these keys of database 0.
fn file(keys: &[(&str, Option<i64>, &str)]) -> Vec<u8> {
    let mut writer = RdbWriter::header(Vec::new(), RdbVersion::V11).unwrap();
    writer.info(&INFO).unwrap();
    writer.select_db(0, keys.len() as u64, 0).unwrap();
    for (key, deadline, text) in keys {
        let value = RdbValueRef::String(text.as_bytes());
        writer.entry(key.as_bytes(), *deadline, value).unwrap();
    }
    writer.finish().unwrap()
}

fn load(shard: &mut ShardData, bytes: &[u8], expired: LoadExpired) -> LoadResult {
    load_rdb(
        ShardSet::One(shard),
        ShardCount::ONE,
        bytes,
        RdbLimits::default(),
        &Limits::default(),
        expired,
        &mut |_| {},
    )
}

type LoadResult = Result<LoadSummary, LoadError>;

fn shard() -> ShardData {
    ShardData::new(ShardId(0), 2, true)
}

fn entry(db: u32, key: &str, value: RdbValue) -> RdbEntry {
    RdbEntry {
        db,
        key: key.into(),
        deadline: None,
        idle_s: None,
        freq: None,
        value,
    }
}

fn words(words: &[&str]) -> Vec<Vec<u8>> {
    words.iter().map(|word| word.as_bytes().to_vec()).collect()
}

fn load_one(shard: &mut ShardData, entry: RdbEntry) -> Result<(), LoadError> {
    load_entry(
        ShardSet::One(shard),
        ShardCount::ONE,
        entry,
        &Limits::default(),
    )
}

#[test]
fn a_file_is_loaded_with_its_deadlines_and_what_it_says_about_itself() {
    let bytes = file(&[("a", None, "1"), ("b", Some(50), "two")]);
    let mut shard = shard();
    let summary = load(&mut shard, &bytes, LoadExpired::Keep).unwrap();
    let expected = LoadSummary {
        keys: 2,
        expired: 0,
        cut_lsn: Some(4711),
        bytes: bytes.len() as u64,
        redis_ver: Some("7.2.0".to_owned()),
        ctime_s: Some(1_700_000_000),
        aof_base: true,
    };
    assert_eq!(summary, expected);
    let (value, deadline) = shard.db(0).get(Key::new(b"a")).unwrap();
    assert_eq!((value.as_int(), deadline), (Some(1), None));
    let (_, deadline) = shard.db(0).get(Key::new(b"b")).unwrap();
    assert_eq!(deadline, Some(UnixMs(50)));
    shard.db(0).self_check();
    assert!(shard.dirty.is_clean(), "what was loaded is not at risk");
}

#[test]
fn expired_keys_are_left_out_on_request_and_counted() {
    let bytes = file(&[
        ("past", Some(49), "x"),
        ("now", Some(50), "x"),
        ("later", Some(51), "x"),
    ]);
    let mut shard = shard();
    let summary = load(&mut shard, &bytes, LoadExpired::Drop(UnixMs(50))).unwrap();
    assert_eq!((summary.keys, summary.expired), (1, 2));
    assert!(shard.db(0).contains(Key::new(b"later")));
}

/// Scenario 48. As a base is loaded: with a checksum required.
#[test]
fn every_truncation_and_every_flipped_bit_of_a_base_is_refused() {
    let good = file(&[("a", None, "1"), ("b", Some(50), "a longer text")]);
    let load_base = |bytes: &[u8]| {
        load_rdb(
            ShardSet::One(&mut shard()),
            ShardCount::ONE,
            bytes,
            RdbLimits::own(),
            &Limits::default(),
            LoadExpired::Keep,
            &mut |_| {},
        )
    };
    assert!(load_base(&good).is_ok());
    for end in 0..good.len() {
        match load_base(&good[..end]) {
            Err(LoadError::Rdb(error)) => {
                assert!(matches!(error.fault, RdbFault::Truncated), "cut at {end}");
            }
            other => panic!("cut at {end}: {other:?}"),
        }
    }
    for bit in 0..good.len() * 8 {
        let mut flipped = good.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(load_base(&flipped).is_err(), "bit {bit}");
    }
}

/// Scenario 48: a disk that cannot be read is not an empty file.
#[test]
fn a_source_that_fails_is_an_error_of_reading() {
    struct Failing;
    impl Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::PermissionDenied.into())
        }
    }
    let good = file(&[("a", None, "1")]);
    for end in [0, 5, good.len() - 1] {
        let result = load_rdb(
            ShardSet::One(&mut shard()),
            ShardCount::ONE,
            good[..end].chain(Failing),
            RdbLimits::default(),
            &Limits::default(),
            LoadExpired::Keep,
            &mut |_| {},
        );
        let Err(LoadError::Rdb(error)) = result else {
            panic!("{result:?}");
        };
        assert!(matches!(error.fault, RdbFault::Read(_)), "{error}");
    }
}

/// Scenarios 48 and 109.
#[test]
fn a_newer_file_is_said_to_be_newer_not_damaged() {
    for header in ["REDIS0013", "REDIS9999", "VALKEY080"] {
        let mut bytes = file(&[]);
        bytes[..9].copy_from_slice(header.as_bytes());
        let error = load(&mut shard(), &bytes, LoadExpired::Keep).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("written by a newer version"), "{text}");
        assert!(text.contains("this reads up to 12"), "{text}");
    }
}

/// Scenario 52, as far as RDB files go: what is something else is said to be none.
#[test]
fn a_file_of_another_kind_is_said_to_be_no_rdb_file() {
    let manifest = "version 3\nseq 1\nshards 1\n";
    let commands = "*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n";
    for other in [
        manifest,
        commands,
        "REDISxxxx and more",
        "REDIS0000 and more",
    ] {
        let error = load(&mut shard(), other.as_bytes(), LoadExpired::Keep).unwrap_err();
        let LoadError::Rdb(error) = error else {
            panic!("{error}");
        };
        assert!(matches!(error.fault, RdbFault::NotRdb), "{other}: {error}");
    }
}

#[test]
fn a_second_entry_of_a_key_is_refused() {
    let bytes = file(&[("a", None, "1"), ("b", None, "1"), ("a", None, "2")]);
    let error = load(&mut shard(), &bytes, LoadExpired::Keep).unwrap_err();
    assert!(matches!(error, LoadError::DuplicateKey { db: 0, key } if key == b"a"));
}

#[test]
fn duplicate_members_and_fields_are_refused() {
    let limits = Limits::default();
    // In each form of a set: integers, one buffer, table.
    for more in [vec![], words(&["x"]), vec![vec![b'y'; 100]]] {
        let mut members = words(&["1", "2", "1"]);
        members.splice(1..1, more);
        let result = load_one(&mut shard(), entry(0, "s", RdbValue::Set(members)));
        assert!(
            matches!(result, Err(LoadError::DuplicateElement { element, .. }) if element == b"1")
        );
    }
    // Enough elements that they are told apart by their hashes.
    for prefix in ["", "word "] {
        let names = (0..20).map(|n| format!("{prefix}{n}").into_bytes());
        let mut members: Vec<Vec<u8>> = names.collect();
        let fields = |names: &[Vec<u8>]| names.iter().map(|n| (n.clone(), n.clone())).collect();
        let good = fields(&members);
        assert!(load_one(&mut shard(), entry(0, "s", RdbValue::Set(members.clone()))).is_ok());
        assert!(load_one(&mut shard(), entry(0, "h", RdbValue::Hash(good))).is_ok());
        members.push(members[7].clone());
        let bad = fields(&members);
        for value in [RdbValue::Set(members), RdbValue::Hash(bad)] {
            let result = load_one(&mut shard(), entry(0, "k", value));
            let Err(LoadError::DuplicateElement { element, .. }) = result else {
                panic!("{result:?}");
            };
            assert_eq!(element, format!("{prefix}7").into_bytes());
        }
    }
    for value in ["short", &"long".repeat(limits.hash_max_listpack_value)] {
        let fields = ["f", "g", "f"].map(|field| (field.into(), value.into()));
        let result = load_one(&mut shard(), entry(0, "h", RdbValue::Hash(fields.to_vec())));
        assert!(
            matches!(result, Err(LoadError::DuplicateElement { element, .. }) if element == b"f")
        );
    }
}

#[test]
fn a_member_of_a_sorted_set_comes_once_and_with_a_number() {
    let one = |score| RdbValue::ZSet(vec![(b"a".to_vec(), 1.0), (b"b".to_vec(), score)]);
    assert!(load_one(&mut shard(), entry(0, "z", one(-0.0))).is_ok());
    let result = load_one(&mut shard(), entry(0, "z", one(f64::NAN)));
    assert!(matches!(result, Err(LoadError::NoScore { member, .. }) if member == b"b"));
    for len in [2, 300] {
        let mut members: Vec<_> = (0..len)
            .map(|n| (format!("{n}").into_bytes(), 0.5))
            .collect();
        members.push((b"1".to_vec(), 2.5));
        let result = load_one(&mut shard(), entry(0, "z", RdbValue::ZSet(members)));
        assert!(
            matches!(result, Err(LoadError::DuplicateElement { element, .. }) if element == b"1")
        );
    }
}

/// A base of one shard that holds a key of another is damage.
#[test]
fn a_key_of_another_shard_is_refused() {
    let count = ShardCount::new(2).unwrap();
    let mut refused = 0;
    for id in count.ids() {
        let mut shard = ShardData::new(id, 1, true);
        let entry = entry(0, "key", RdbValue::String(b"v".to_vec()));
        let result = load_entry(ShardSet::One(&mut shard), count, entry, &Limits::default());
        match result {
            Ok(()) => assert_eq!(count.shard_of_key(b"key"), id),
            Err(LoadError::WrongShard { key }) => {
                assert_eq!(key, b"key");
                assert!(shard.is_empty());
                refused += 1;
            }
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!(refused, 1);
}

#[test]
fn a_dump_of_all_shards_is_spread_over_them() {
    let names: Vec<String> = (0..100).map(|n| format!("key{n}")).collect();
    let keys: Vec<_> = names.iter().map(|n| (n.as_str(), None, "v")).collect();
    let count = ShardCount::new(3).unwrap();
    let mut shards: Vec<Option<Box<ShardData>>> = count
        .ids()
        .map(|id| Some(Box::new(ShardData::new(id, 1, true))))
        .collect();
    let set = ShardSet::Many {
        count,
        shards: &mut shards,
    };
    let summary = load_rdb(
        set,
        count,
        file(&keys).as_slice(),
        RdbLimits::default(),
        &Limits::default(),
        LoadExpired::Keep,
        &mut |_| {},
    )
    .unwrap();
    assert_eq!(summary.keys, 100);
    for name in &names {
        let owner = count.shard_of_key(name.as_bytes());
        let shard = shards[owner.index()].as_mut().unwrap();
        assert!(shard.db(0).contains(Key::new(name.as_bytes())), "{name}");
    }
    assert!(shards.iter().flatten().all(|shard| !shard.is_empty()));
}

#[test]
fn a_database_that_there_is_not_is_refused() {
    for db in [2, 70_000] {
        let result = load_one(&mut shard(), entry(db, "k", RdbValue::String(vec![])));
        let expected = db;
        assert!(matches!(
            result,
            Err(LoadError::NoSuchDatabase { db, databases: 2, .. }) if db == expected
        ));
    }
}

#[test]
fn an_empty_collection_is_refused() {
    for value in [
        RdbValue::List(vec![]),
        RdbValue::Set(vec![]),
        RdbValue::Hash(vec![]),
        RdbValue::ZSet(vec![]),
    ] {
        let result = load_one(&mut shard(), entry(0, "k", value));
        assert!(matches!(result, Err(LoadError::Empty { .. })));
    }
}

#[test]
fn a_type_that_there_is_not_is_named_with_its_key() {
    let mut bytes = file(&[]);
    // In place of the end: a module's value with a key of one byte.
    bytes.truncate(bytes.len() - 9);
    bytes.extend_from_slice(&[7, 1, b'z', 1]);
    let error = load(&mut shard(), &bytes, LoadExpired::Keep).unwrap_err();
    assert_eq!(
        error.to_string(),
        "key \"z\" is a module value, which this server does not have"
    );
}

#[test]
fn libraries_of_functions_are_loaded_by_their_names() {
    let with = |code: &[u8]| {
        let mut writer = RdbWriter::header(Vec::new(), RdbVersion::V11).unwrap();
        writer.function(code).unwrap();
        writer.finish().unwrap()
    };
    let mut shard = shard();
    let code = b"#!lua name=lib\nreturn 1";
    load(&mut shard, &with(code), LoadExpired::Keep).unwrap();
    let found: Vec<_> = shard.libraries.iter().collect();
    assert_eq!(found.len(), 1);
    assert_eq!((&*found[0].name, &*found[0].code), ("lib", &code[..]));
    load(&mut shard, &with(b"return 1"), LoadExpired::Keep).unwrap_err();
}

#[test]
fn a_cut_that_is_no_number_is_refused() {
    let mut writer = RdbWriter::header(Vec::new(), RdbVersion::V11).unwrap();
    writer.aux(b"moon-cut-lsn", b"soon").unwrap();
    let bytes = writer.finish().unwrap();
    let error = load(&mut shard(), &bytes, LoadExpired::Keep).unwrap_err();
    assert!(matches!(error, LoadError::BadCutLsn { .. }));
}

#[test]
fn the_source_is_read_exactly_up_to_the_end_of_the_file() {
    let mut bytes = file(&[("a", None, "1")]);
    bytes.extend_from_slice(b"*1\r\n$4\r\nPING\r\n");
    let mut source = bytes.as_slice();
    load_rdb(
        ShardSet::One(&mut shard()),
        ShardCount::ONE,
        &mut source,
        RdbLimits::default(),
        &Limits::default(),
        LoadExpired::Keep,
        &mut |_| {},
    )
    .unwrap();
    assert_eq!(source, b"*1\r\n$4\r\nPING\r\n");
}

#[test]
fn a_file_that_promises_too_many_keys_gets_bounded_memory() {
    let mut writer = RdbWriter::header(Vec::new(), RdbVersion::V11).unwrap();
    for db in [0, 1] {
        writer.select_db(db, u64::MAX, u64::MAX).unwrap();
        let value = RdbValueRef::String(b"v");
        writer.entry(b"key", None, value).unwrap();
    }
    let bytes = writer.finish().unwrap();
    let mut shard = shard();
    let summary = load(&mut shard, &bytes, LoadExpired::Keep).unwrap();
    assert_eq!(summary.keys, 2);
    assert!(shard.memory() < 1 << 30, "{} bytes", shard.memory());
    shard.db(0).self_check();
}

#[test]
fn progress_never_goes_back_and_ends_at_the_length() {
    let text = "x".repeat(100_000);
    let names: Vec<String> = (0..50).map(|n| format!("key{n}")).collect();
    let keys: Vec<_> = names.iter().map(|n| (n.as_str(), None, &*text)).collect();
    let bytes = file(&keys);
    let mut reports = Vec::new();
    load_rdb(
        ShardSet::One(&mut shard()),
        ShardCount::ONE,
        bytes.as_slice(),
        RdbLimits::default(),
        &Limits::default(),
        LoadExpired::Keep,
        &mut |read| reports.push(read),
    )
    .unwrap();
    assert!(reports.is_sorted());
    assert!(reports.len() >= 4, "about one per MiB of 5 MB");
    assert_eq!(reports.last(), Some(&(bytes.len() as u64)));
}

#[test]
fn a_long_key_is_shortened_in_messages() {
    let key = vec![b'k'; 1000];
    let text = LoadError::WrongShard { key }.to_string();
    assert!(text.len() < 200 && text.contains("\"..."), "{text}");
}
