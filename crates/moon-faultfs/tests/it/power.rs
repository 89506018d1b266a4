//! What a power loss leaves, as a program finds it after the restart.

use crate::{Machine, no_fuse, sync_dir, write};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::FileExt as _;

/// Enough seeds to see every outcome that matters.
const SEEDS: u64 = 40;

#[test]
fn it_reads_as_written_while_the_power_is_on() {
    if no_fuse() {
        return;
    }
    let machine = Machine::new(1);
    let bytes: Vec<u8> = (0..300_000_u32).map(|n| n.to_le_bytes()[1]).collect();
    let file = write(&machine.path("a"), &bytes);
    assert_eq!(fs::read(machine.path("a")).expect("reads"), bytes);
    file.write_all_at(b"xyz", 299_999).expect("writes");
    file.set_len(300_001).expect("truncates");
    let read = fs::read(machine.path("a")).expect("reads");
    assert_eq!(
        (read.len(), &read[299_998..]),
        (300_001, &[bytes[299_998], b'x', b'y'][..])
    );
    fs::create_dir(machine.path("d")).expect("creates");
    fs::rename(machine.path("a"), machine.path("d/b")).expect("renames");
    fs::write(machine.path("c"), b"").expect("writes");
    let names = |dir: &str| -> BTreeSet<String> {
        fs::read_dir(machine.path(dir))
            .expect("lists")
            .map(|e| {
                e.expect("an entry")
                    .file_name()
                    .to_string_lossy()
                    .into_owned()
            })
            .collect()
    };
    assert_eq!(names("."), ["c".to_owned(), "d".to_owned()].into());
    assert_eq!(names("d"), ["b".to_owned()].into());
    assert!(fs::remove_dir(machine.path("d")).is_err(), "not empty");
    fs::remove_dir_all(machine.path("d")).expect("removes");
    assert!(!machine.path("d").exists());
}

/// The control of everything that uses this file system: a program that does not sync loses.
#[test]
fn what_was_not_synced_is_lost_now_and_then() {
    if no_fuse() {
        return;
    }
    let (mut lost, mut kept, mut torn) = (0, 0, 0);
    for seed in 0..SEEDS {
        let machine = Machine::new(seed);
        let file = write(&machine.path("a"), &[1; 4096]);
        file.sync_all().expect("synced");
        sync_dir(&machine.path("."));
        file.write_all_at(&[2; 4096], 0).expect("writes");
        let machine = machine.restart(seed);
        let read = fs::read(machine.path("a")).expect("the name was synced");
        match read.iter().filter(|b| **b == 2).count() {
            0 => lost += 1,
            4096 => kept += 1,
            _ => torn += 1,
        }
    }
    assert!(lost > 0 && kept > 0 && torn > 0, "{lost} {kept} {torn}");
}

#[test]
fn what_was_synced_is_there_under_every_seed() {
    if no_fuse() {
        return;
    }
    for seed in 0..SEEDS {
        let machine = Machine::new(seed);
        fs::create_dir(machine.path("d")).expect("creates");
        let file = write(&machine.path("d/temp"), b"first ");
        file.write_all_at(&[7; 5000], 6).expect("writes");
        file.sync_data().expect("synced");
        fs::rename(machine.path("d/temp"), machine.path("d/final")).expect("renames");
        sync_dir(&machine.path("d"));
        sync_dir(&machine.path("."));
        file.write_all_at(&[8; 100], 5006).expect("writes");
        fs::write(machine.path("d/other"), b"not synced").expect("writes");
        // And once more: what one restart found, the next one finds.
        let mut machine = machine;
        for _ in 0..2 {
            machine = machine.restart(seed);
            let read = fs::read(machine.path("d/final")).expect("it is there");
            assert_eq!(read[..6], *b"first ");
            assert_eq!(read[6..5006], [7; 5000]);
            assert!(!machine.path("d/temp").exists());
        }
    }
}

#[test]
fn a_file_may_lose_its_name_although_it_was_synced() {
    if no_fuse() {
        return;
    }
    let outcomes: BTreeSet<bool> = (0..SEEDS)
        .map(|seed| {
            let machine = Machine::new(seed);
            write(&machine.path("a"), b"x").sync_all().expect("synced");
            machine.restart(seed).path("a").exists()
        })
        .collect();
    assert_eq!(outcomes, [false, true].into());
}

#[test]
fn an_unsynced_rename_and_removal_may_be_undone() {
    if no_fuse() {
        return;
    }
    let outcomes: BTreeSet<Vec<String>> = (0..SEEDS)
        .map(|seed| {
            let machine = Machine::new(seed);
            write(&machine.path("a"), b"old")
                .sync_all()
                .expect("synced");
            write(&machine.path("b"), b"new")
                .sync_all()
                .expect("synced");
            sync_dir(&machine.path("."));
            fs::rename(machine.path("b"), machine.path("a")).expect("renames");
            fs::remove_file(machine.path("a")).expect("removes");
            let machine = machine.restart(seed);
            ["a", "b"]
                .iter()
                .filter_map(|name| fs::read_to_string(machine.path(name)).ok())
                .collect()
        })
        .collect();
    let expected: [&[&str]; 3] = [&[], &["new"], &["old", "new"]];
    let expected = expected.map(|all| all.iter().map(|s| (*s).to_owned()).collect());
    assert_eq!(outcomes, expected.into());
}

#[test]
fn after_the_cut_nothing_works_any_more() {
    if no_fuse() {
        return;
    }
    let machine = Machine::new(1);
    let file = write(&machine.path("a"), b"x");
    machine.fs().cut();
    let is_eio = |result: std::io::Result<()>| {
        let errno = nix::errno::Errno::EIO as i32;
        result.expect_err("the power is off").raw_os_error() == Some(errno)
    };
    assert!(is_eio(file.write_all_at(b"y", 0)));
    assert!(is_eio(file.sync_all()));
    assert!(is_eio(file.read_exact_at(&mut [0], 0)));
    assert!(is_eio(fs::write(machine.path("b"), b"y")));
    assert!(is_eio(fs::rename(machine.path("a"), machine.path("c"))));
    assert!(is_eio(fs::remove_file(machine.path("a"))));
    let first = machine.fs().image().expect("cut").files();
    machine.fs().cut();
    assert_eq!(machine.fs().image().expect("cut").files(), first);
}

#[test]
fn the_kernel_keeps_locks_and_they_end_with_the_file() {
    if no_fuse() {
        return;
    }
    let machine = Machine::new(1);
    let first = write(&machine.path("lock"), b"");
    first.try_lock().expect("free");
    let second = write(&machine.path("lock"), b"");
    assert!(second.try_lock().is_err());
    drop(first);
    second.try_lock().expect("free again");
}
