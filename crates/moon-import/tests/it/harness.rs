//! Loading a source in a test, and looking at what came of it.

use moon_commands::Limits;
use moon_core::{ShardCount, UnixMs};
use moon_import::migrate::{MigrateError, MigrateOptions, MigrateProgress, MigrateReport, migrate};
use moon_import::{
    ImportError, ImportOptions, ImportSummary, KeyspaceDigest, NoProgress, Source, detect, load,
};
use moon_store::{IntText, ShardData, Value};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

pub(crate) const NOW: UnixMs = UnixMs(1_700_000_000_000);

pub(crate) fn options() -> ImportOptions {
    ImportOptions {
        load_truncated: true,
        now: NOW,
    }
}

pub(crate) type Data = Vec<Box<ShardData>>;

pub(crate) fn load_into(
    path: &Path,
    shards: u16,
    options: &ImportOptions,
) -> Result<(Data, ImportSummary), ImportError> {
    let source = detect(path)?;
    load_source(&source, shards, options)
}

pub(crate) fn load_source(
    source: &Source,
    shards: u16,
    options: &ImportOptions,
) -> Result<(Data, ImportSummary), ImportError> {
    let count = ShardCount::new(shards).unwrap();
    let data = count
        .ids()
        .map(|id| Box::new(ShardData::new(id, 16, false)))
        .collect();
    load(
        source,
        data,
        count,
        &Limits::default(),
        options,
        &NoProgress,
    )
}

/// Every key in readable form: what it is, what it holds, and its deadline.
pub(crate) type Keys = BTreeMap<(usize, String), (String, Option<i64>)>;

pub(crate) fn keys(data: &[Box<ShardData>]) -> Keys {
    let mut keys = Keys::new();
    for shard in data {
        for (db, content) in shard.dbs.iter().enumerate() {
            content.for_each(&mut |key, value, deadline| {
                let key = key.escape_ascii().to_string();
                let entry = (show(value), deadline.map(|at| at.0));
                assert!(keys.insert((db, key), entry).is_none(), "in two shards");
            });
        }
    }
    keys
}

fn show(value: &Value) -> String {
    let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
    match value {
        Value::List(list) => {
            let elements: Vec<String> = list.to_vecs().iter().map(|e| text(e)).collect();
            format!("list {}", elements.join(","))
        }
        Value::Set(set) => {
            let mut members: Vec<String> = set.iter().map(|m| text(&m.to_vec())).collect();
            members.sort();
            format!("set {}", members.join(","))
        }
        Value::Hash(hash) => {
            let mut fields: Vec<String> = (hash.fields())
                .map(|field| {
                    let at = field
                        .deadline
                        .map_or(String::new(), |at| format!("@{}", at.0));
                    format!("{}={}{at}", text(field.name), text(field.value))
                })
                .collect();
            fields.sort();
            format!("hash {}", fields.join(","))
        }
        Value::ZSet(zset) => {
            let pair = |(member, score)| format!("{}={score:?}", text(member));
            let members: Vec<String> = zset.iter().map(pair).collect();
            format!("zset {}", members.join(","))
        }
        Value::Stream(stream) => format!("stream {:?}", stream.to_rdb()),
        string => {
            let mut scratch = IntText::new();
            format!("string {}", text(string.as_bytes(&mut scratch).unwrap()))
        }
    }
}

struct Quiet;

impl MigrateProgress for Quiet {
    fn found(&self, _source: &Source) {}
    fn reading(&self, _bytes: u64, _total: u64) {}
    fn writing(&self, _keys: u64, _total: u64) {}
    fn verifying(&self, _bytes: u64, _total: u64) {}
}

pub(crate) fn migrate_to(
    from: &Path,
    to: &Path,
    shards: u16,
) -> Result<MigrateReport, MigrateError> {
    let options = MigrateOptions {
        from: from.to_owned(),
        to: to.to_owned(),
        appenddirname: "aof".to_owned(),
        shards: ShardCount::new(shards).unwrap(),
        databases: 16,
        limits: Limits::default(),
        import: options(),
        redis_ver: "7.2.0".to_owned(),
    };
    migrate(&options, &Quiet)
}

/// A file, or every file below a directory, with its bytes: to see that it was only read.
pub(crate) fn snapshot(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    if dir.is_file() {
        files.insert(dir.display().to_string(), fs::read(dir).unwrap());
        return files;
    }
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.display().to_string();
        if path.is_dir() {
            files.insert(name, Vec::new());
            files.extend(snapshot(&path));
        } else if path.is_file() {
            files.insert(name, fs::read(&path).unwrap());
        }
    }
    files
}

/// Migrates to 1 and 4 shards, and checks the source, the digest and every key. Returns the keys.
#[track_caller]
pub(crate) fn migrates(from: &Path) -> Keys {
    let before = snapshot(from);
    let (data, _) = load_into(from, 1, &options()).unwrap();
    let expected = keys(&data);
    let digest = KeyspaceDigest::of(data.iter().map(|shard| &**shard));
    for shards in [1, 4] {
        let target = tempfile::tempdir().unwrap();
        let to = target.path().join("a/b");
        let report = migrate_to(from, &to, shards).unwrap();
        assert_eq!(report.dir, to.join("aof"));
        assert_eq!(report.summary.keys, expected.len() as u64);
        // The new log goes to any other number of shards as well.
        for read_with in [shards, 3] {
            let (data, _) = load_into(&report.dir, read_with, &options()).unwrap();
            assert_eq!(keys(&data), expected, "{shards} shards");
            let again = KeyspaceDigest::of(data.iter().map(|shard| &**shard));
            assert_eq!(again, digest);
        }
        let error = migrate_to(from, &to, shards).unwrap_err();
        assert!(matches!(error, MigrateError::Occupied { .. }), "{error}");
    }
    assert!(snapshot(from) == before, "the source was changed");
    expected
}
