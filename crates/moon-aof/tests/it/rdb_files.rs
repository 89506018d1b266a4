//! RDB files that are written beside the log: a dump is the old one or the new one, never half.

use moon_aof::faulty::{Fault, Operation, Rule};
use moon_aof::storage::{read_whole, write_new};
use moon_aof::{DumpFile, FaultyStorage, RdbFile, RdbFileInfo, Storage};
use moon_rdb::encode::{ValueKind, entry_head, len, string};
use moon_rdb::{RdbEntry, RdbItem, RdbReader, RdbValue};
use std::io;
use std::path::Path;
use std::sync::Arc;

const DIR: &str = "/";

fn info() -> RdbFileInfo {
    RdbFileInfo {
        redis_ver: "7.2.0".to_owned(),
        ctime_s: 1_700_000_000,
        used_mem_bytes: 12,
        aof_base: false,
        cut_lsn: Some(77),
        databases: vec![(0, 2, 0), (3, 1, 1)],
    }
}

fn key(name: &str, deadline: Option<i64>, value: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    entry_head(&mut out, ValueKind::String, name.as_bytes(), deadline);
    string(&mut out, value);
    out
}

/// Items of a good file.
fn items(disk: &FaultyStorage, path: &str) -> Vec<RdbItem> {
    let bytes = read_whole(disk, Path::new(path), 1 << 28).unwrap();
    RdbReader::new(&*bytes).map(Result::unwrap).collect()
}

fn entries(disk: &FaultyStorage, path: &str) -> Vec<RdbEntry> {
    let entry = |item| match item {
        RdbItem::Entry(entry) => Some(entry),
        _ => None,
    };
    items(disk, path).into_iter().filter_map(entry).collect()
}

#[test]
fn chunks_of_several_databases_come_back_with_their_hints() {
    let disk = FaultyStorage::new(1);
    let mut file = RdbFile::create(&disk, Path::new("/f.rdb"), &info()).unwrap();
    file.chunk(0, &key("a", None, b"1")).unwrap();
    // A long list, in pieces.
    let mut head = Vec::new();
    entry_head(&mut head, ValueKind::List, b"list", None);
    len(&mut head, 3);
    file.chunk(0, &head).unwrap();
    for _ in 0..3 {
        let mut element = Vec::new();
        string(&mut element, &[b'x'; 300_000]);
        file.chunk(0, &element).unwrap();
    }
    file.chunk(3, &key("b", Some(5), b"2")).unwrap();
    file.chunk(0, &key("c", None, b"3")).unwrap();
    assert!(file.bytes() > 900_000);
    let bytes = file.finish().unwrap();
    let on_disk = disk.snapshot().remove(Path::new("/f.rdb")).unwrap();
    assert_eq!(bytes, on_disk.len() as u64);

    let found = entries(&disk, "/f.rdb");
    let names: Vec<(u32, &[u8])> = found.iter().map(|e| (e.db, e.key.as_slice())).collect();
    let expected: [(u32, &[u8]); 4] = [(0, b"a"), (0, b"list"), (3, b"b"), (0, b"c")];
    assert_eq!(names, expected);
    assert_eq!(found[1].value, RdbValue::List(vec![vec![b'x'; 300_000]; 3]));
    assert_eq!(found[2].deadline, Some(5));
    let items = items(&disk, "/f.rdb");
    let hint = |keys, expires| items.contains(&RdbItem::ResizeDb { keys, expires });
    assert!(hint(2, 0) && hint(1, 1));
    let cut = |item: &RdbItem| matches!(item, RdbItem::Aux { key, value } if key == b"moon-cut-lsn" && value == b"77");
    assert!(items.iter().any(cut));
}

/// A file is synced as it grows, so that the last sync is short.
#[test]
fn a_long_file_is_synced_on_the_way() {
    let disk = FaultyStorage::new(1);
    disk.add_rule(Rule {
        skip: 3,
        ..Rule::once(Operation::Sync, "f.rdb", Fault::Error(5))
    });
    let mut file = RdbFile::create(&disk, Path::new("/f.rdb"), &info()).unwrap();
    let big = key("k", None, &vec![b'x'; 1 << 20]);
    let mut taken = 0;
    while file.chunk(0, &big).is_ok() {
        taken += 1;
        assert!(taken < 40, "no sync came");
    }
    assert!((31..34).contains(&taken), "{taken} MiB and three syncs");
    // What failed once is of no use any more.
    assert!(file.chunk(0, &big).is_err());
    assert!(file.finish().is_err());
}

fn dump(disk: &FaultyStorage, value: &[u8]) -> io::Result<u64> {
    let storage: Arc<dyn Storage> = Arc::new(disk.clone());
    let mut dump = DumpFile::create(storage, Path::new(DIR), "dump.rdb", &info())?;
    for i in 0..30 {
        dump.chunk(0, &key(&format!("key-{i}"), None, value))?;
    }
    dump.commit()
}

/// Scenarios 45 and 67.
#[test]
fn a_dump_is_the_old_one_or_the_new_one_wherever_the_power_goes() {
    let (old, new) = ([b'o'; 20_000], [b'n'; 20_000]);
    let mut step = 0;
    loop {
        for fault in [Fault::Halt, Fault::Error(28)] {
            let disk = FaultyStorage::new(step);
            dump(&disk, &old).unwrap();
            disk.add_rule(Rule {
                operation: None,
                path: String::new(),
                skip: step,
                times: 1,
                fault,
            });
            let before = disk.operations();
            let done = dump(&disk, &new);
            let met = disk.operations() > before + step;
            if fault != Fault::Halt {
                let names = disk.list(Path::new(DIR)).unwrap();
                assert_eq!(names, ["dump.rdb"], "step {step}");
            }
            for seed in 0..5 {
                let found = entries(&disk.crash(seed), "/dump.rdb");
                assert_eq!(found.len(), 30);
                let value = |wanted: &[u8]| {
                    let wanted = RdbValue::String(wanted.to_vec());
                    found.iter().all(|entry| entry.value == wanted)
                };
                assert!(value(&new) || (done.is_err() && value(&old)), "step {step}");
            }
            if !met {
                done.unwrap();
                assert!(step > 5);
                return;
            }
        }
        step += 1;
    }
}

#[test]
fn a_dump_that_is_given_up_leaves_the_one_before() {
    let disk = FaultyStorage::new(1);
    write_new(&disk, Path::new("/dump.rdb"), b"the one before").unwrap();
    let storage: Arc<dyn Storage> = Arc::new(disk.clone());
    let mut given_up = DumpFile::create(storage, Path::new(DIR), "dump.rdb", &info()).unwrap();
    given_up.chunk(0, &key("a", None, b"1")).unwrap();
    assert!(given_up.bytes() > 0);
    assert_eq!(disk.list(Path::new(DIR)).unwrap().len(), 2);
    drop(given_up);
    let files = disk.snapshot();
    assert_eq!(files.len(), 1);
    assert_eq!(files[Path::new("/dump.rdb")], b"the one before");
}
