//! Failures on request, as a program meets them.

use crate::{Machine, no_fuse, sync_dir, write};
use moon_faultfs::{Failing, Operation};
use nix::errno::Errno;
use std::fs;
use std::io::Result;
use std::os::unix::fs::FileExt as _;
use std::time::{Duration, Instant};

fn errno<T>(result: Result<T>) -> Option<Errno> {
    result
        .err()
        .and_then(|error| error.raw_os_error())
        .map(Errno::from_raw)
}

#[test]
fn a_full_disk_takes_what_fits_and_recovers_when_space_returns() {
    if no_fuse() {
        return;
    }
    let machine = Machine::new(1);
    let file = write(&machine.path("a"), &[0; 1000]);
    machine.fs().set_quota(Some(1600));
    assert_eq!(file.write_at(&[1; 1000], 1000).expect("a part fits"), 600);
    assert_eq!(errno(file.write_at(&[1; 10], 1600)), Some(Errno::ENOSPC));
    assert_eq!(
        errno(fs::write(machine.path("b"), b"x")),
        Some(Errno::ENOSPC)
    );
    file.write_all_at(&[2; 1600], 0)
        .expect("overwriting takes no space");
    file.sync_all().expect("what is there can be synced");
    machine.fs().set_quota(Some(1610));
    file.write_all_at(&[1; 10], 1600).expect("space returned");
    assert_eq!(machine.fs().used_bytes(), 1610);
    machine.fs().set_quota(None);
    fs::write(machine.path("b"), b"x").expect("there is no limit");
}

#[test]
fn writes_and_syncs_fail_where_and_as_often_as_asked() {
    if no_fuse() {
        return;
    }
    let machine = Machine::new(1);
    let (a, b) = (
        write(&machine.path("a"), b"x"),
        write(&machine.path("b"), b"x"),
    );
    machine
        .fs()
        .fail(Failing::with_eio(Operation::Sync, 1).at("/a"));
    b.sync_all().expect("another file");
    assert_eq!(errno(a.sync_all()), Some(Errno::EIO));
    a.sync_all().expect("only once");
    machine.fs().fail(Failing::with_eio(Operation::Write, 2));
    assert_eq!(errno(a.write_at(b"y", 0)), Some(Errno::EIO));
    assert_eq!(errno(b.write_at(b"y", 0)), Some(Errno::EIO));
    a.write_all_at(b"z", 0).expect("only twice");
    machine
        .fs()
        .fail(Failing::with_eio(Operation::SyncDirectory, 9));
    let dir = fs::File::open(machine.path(".")).expect("opens");
    assert_eq!(errno(dir.sync_all()), Some(Errno::EIO));
    machine.fs().heal();
    sync_dir(&machine.path("."));
}

#[test]
fn a_slow_sync_covers_what_was_written_before_it_and_ends_with_the_power() {
    if no_fuse() {
        return;
    }
    let machine = Machine::new(1);
    let file = write(&machine.path("a"), b"x");
    machine.fs().set_sync_delay(Duration::from_millis(30));
    let begun = Instant::now();
    file.sync_all().expect("synced");
    assert!(begun.elapsed() >= Duration::from_millis(30));

    machine.fs().set_sync_delay(Duration::from_secs(600));
    let waiting = std::thread::scope(|scope| {
        let sync = scope.spawn(|| file.sync_all());
        fs::write(machine.path("b"), b"x").expect("others go on");
        machine.fs().cut();
        sync.join().expect("no panic")
    });
    assert_eq!(errno(waiting), Some(Errno::EIO));
}

#[test]
fn a_read_only_file_system_refuses_every_change() {
    if no_fuse() {
        return;
    }
    let machine = Machine::new(1);
    let file = write(&machine.path("a"), b"x");
    machine.fs().set_read_only(true);
    let refused = Some(Errno::EROFS);
    assert_eq!(errno(file.write_at(b"y", 0)), refused);
    assert_eq!(errno(file.set_len(0)), refused);
    assert_eq!(errno(fs::write(machine.path("b"), b"y")), refused);
    assert_eq!(errno(fs::remove_file(machine.path("a"))), refused);
    assert_eq!(
        errno(fs::rename(machine.path("a"), machine.path("b"))),
        refused
    );
    assert_eq!(fs::read(machine.path("a")).expect("reads go on"), b"x");
    machine.fs().set_read_only(false);
    file.write_all_at(b"y", 0).expect("writable again");
}
