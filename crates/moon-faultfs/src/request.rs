//! What the kernel asks, translated into operations of the disk.
//!
//! Nothing is cached in the kernel: files are opened for direct I/O and every attribute is asked
//! for again, so that what a program is told is what the disk holds, also after a cut. (Shared
//! memory maps are refused for the same reason.) Locks are left to the kernel.

use crate::directory::Directory;
use crate::disk::{Disk, Kind, Owner, ROOT, listing};
use crate::fault::Operation;
use crate::file::File;
use crate::mount::{Shared, State};
use fuser::consts::FOPEN_DIRECT_IO;
use fuser::{
    FileAttr, FileType, Filesystem, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty,
    ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow,
};
use nix::errno::Errno;
use nix::libc;
use std::ffi::OsStr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// How long the kernel may believe what it was told.
const TTL: Duration = Duration::ZERO;
/// Inode numbers are never used twice.
const GENERATION: u64 = 0;
const BLOCK: u64 = 512;
/// The size of a disk without quota, for `statfs`.
const DISK_BYTES: u64 = 1 << 40;

/// The file system as the kernel sees it.
pub(crate) struct Requests {
    shared: Arc<Shared>,
}

impl Requests {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Requests { shared }
    }

    fn run<T>(
        &self,
        operation: impl FnOnce(&mut State) -> Result<T, Errno>,
    ) -> Result<T, libc::c_int> {
        self.shared.run(operation).map_err(|errno| errno as i32)
    }

    fn sync(&self, inode: u64, reply: ReplyEmpty, is_directory: bool) {
        let begun = self.run(|state| state.begin_sync(inode, is_directory));
        let (changes, delay) = match begun {
            Ok(begun) => begun,
            Err(errno) => return reply.error(errno),
        };
        let shared = Arc::clone(&self.shared);
        let finish = move || {
            shared.wait(delay);
            let finished = shared.run(|state| state.finish_sync(inode, is_directory, changes));
            answer(finished.map_err(|errno| errno as i32), reply);
        };
        if delay.is_zero() {
            finish();
        } else {
            // Other requests go on meanwhile.
            std::thread::spawn(finish);
        }
    }
}

impl State {
    /// Refuses a change that the faults asked for forbid.
    fn check(&mut self, operation: Operation, inode: u64, name: &OsStr) -> Result<(), Errno> {
        let is_change = !matches!(
            operation,
            Operation::Read | Operation::Sync | Operation::SyncDirectory
        );
        if is_change && self.is_read_only {
            return Err(Errno::EROFS);
        }
        let State { failures, disk, .. } = self;
        failures.check(operation, || {
            let path = disk.path(inode);
            if name.is_empty() {
                path
            } else {
                path.join(name)
            }
        })
    }

    /// Bytes by which files may still grow.
    fn room(&self) -> u64 {
        self.quota.map_or(u64::MAX, |quota| {
            quota.saturating_sub(self.disk.used_bytes())
        })
    }

    fn write(&mut self, inode: u64, offset: u64, bytes: &[u8]) -> Result<u32, Errno> {
        self.check(Operation::Write, inode, OsStr::new(""))?;
        let room = self.room();
        let file = self.disk.file_mut(inode)?;
        let end = offset.checked_add(bytes.len() as u64).ok_or(Errno::EFBIG)?;
        // Holes count, too: the end moves from the present one at most by the room that is left.
        let end = end.min(file.content().len().saturating_add(room));
        let len = usize::try_from(end.saturating_sub(offset)).unwrap_or(usize::MAX);
        if len == 0 && !bytes.is_empty() {
            return Err(Errno::ENOSPC);
        }
        let bytes = &bytes[..bytes.len().min(len)];
        file.write(offset, bytes);
        u32::try_from(bytes.len()).map_err(|_| Errno::EINVAL)
    }

    fn set_len(&mut self, inode: u64, len: u64) -> Result<(), Errno> {
        self.check(Operation::Resize, inode, OsStr::new(""))?;
        let room = self.room();
        let file = self.disk.file_mut(inode)?;
        if len.saturating_sub(file.content().len()) > room {
            return Err(Errno::ENOSPC);
        }
        file.set_len(len);
        Ok(())
    }

    fn allocate(&mut self, inode: u64, end: u64) -> Result<(), Errno> {
        self.check(Operation::Resize, inode, OsStr::new(""))?;
        let room = self.room();
        let file = self.disk.file_mut(inode)?;
        if end.saturating_sub(file.content().len()) > room {
            return Err(Errno::ENOSPC);
        }
        file.grow(end);
        Ok(())
    }

    /// Returns what the sync covers and how long it takes.
    fn begin_sync(&mut self, inode: u64, is_directory: bool) -> Result<(u64, Duration), Errno> {
        if is_directory {
            self.check(Operation::SyncDirectory, inode, OsStr::new(""))?;
            return Ok((0, self.sync_delay));
        }
        if let Err(errno) = self.check(Operation::Sync, inode, OsStr::new("")) {
            self.disk.file_mut(inode)?.sync_failed(&mut self.dice);
            return Err(errno);
        }
        Ok((self.disk.file(inode)?.changes(), self.sync_delay))
    }

    fn finish_sync(&mut self, inode: u64, is_directory: bool, changes: u64) -> Result<(), Errno> {
        if is_directory {
            return self.disk.synced_directory(inode);
        }
        self.disk.file_mut(inode)?.synced(changes);
        Ok(())
    }

    fn create(
        &mut self,
        request: &Request<'_>,
        parent: u64,
        name: &OsStr,
        mode: u32,
        kind: Kind,
    ) -> Result<FileAttr, Errno> {
        self.check(Operation::Create, parent, name)?;
        if self.room() == 0 {
            return Err(Errno::ENOSPC);
        }
        let owner = Owner {
            mode: permissions(mode),
            uid: request.uid(),
            gid: request.gid(),
        };
        let inode = self.disk.create(parent, name, kind, owner)?;
        attributes(&self.disk, inode)
    }
}

impl Filesystem for Requests {
    fn lookup(&mut self, _: &Request<'_>, parent: u64, name: &OsStr, reply: ReplyEntry) {
        let found = self.run(|state| {
            let inode = state.disk.look_up(parent, name)?;
            attributes(&state.disk, inode)
        });
        answer_entry(found, reply);
    }

    fn forget(&mut self, _: &Request<'_>, inode: u64, count: u64) {
        // Nobody waits for an answer, and after a cut there is nothing to forget.
        self.run(|state| {
            state.disk.forget(inode, count);
            Ok(())
        })
        .ok();
    }

    fn getattr(&mut self, _: &Request<'_>, inode: u64, _: Option<u64>, reply: ReplyAttr) {
        answer_attributes(self.run(|state| attributes(&state.disk, inode)), reply);
    }

    fn setattr(
        &mut self,
        _: &Request<'_>,
        inode: u64,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        modified: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<u64>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<u32>,
        reply: ReplyAttr,
    ) {
        let changed = self.run(|state| {
            if let Some(size) = size {
                state.set_len(inode, size)?;
            } else if state.is_read_only {
                return Err(Errno::EROFS);
            }
            let found = state.disk.inode_mut(inode)?;
            let owner = &mut found.owner;
            owner.mode = mode.map_or(owner.mode, permissions);
            owner.uid = uid.unwrap_or(owner.uid);
            owner.gid = gid.unwrap_or(owner.gid);
            match modified {
                Some(TimeOrNow::SpecificTime(time)) => found.modified = time,
                Some(TimeOrNow::Now) => found.modified = SystemTime::now(),
                None => {}
            }
            attributes(&state.disk, inode)
        });
        answer_attributes(changed, reply);
    }

    fn mkdir(
        &mut self,
        request: &Request<'_>,
        parent: u64,
        name: &OsStr,
        mode: u32,
        umask: u32,
        reply: ReplyEntry,
    ) {
        let kind = Kind::Directory(Directory::default());
        let created = self.run(|s| s.create(request, parent, name, mode & !umask, kind));
        answer_entry(created, reply);
    }

    fn create(
        &mut self,
        request: &Request<'_>,
        parent: u64,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _: i32,
        reply: ReplyCreate,
    ) {
        let kind = Kind::File(File::default());
        match self.run(|s| s.create(request, parent, name, mode & !umask, kind)) {
            Ok(attr) => reply.created(&TTL, &attr, GENERATION, 0, FOPEN_DIRECT_IO),
            Err(errno) => reply.error(errno),
        }
    }

    fn unlink(&mut self, _: &Request<'_>, parent: u64, name: &OsStr, reply: ReplyEmpty) {
        let removed = self.run(|state| {
            state.writable()?;
            state.disk.unlink(parent, name)
        });
        answer(removed, reply);
    }

    fn rmdir(&mut self, _: &Request<'_>, parent: u64, name: &OsStr, reply: ReplyEmpty) {
        let removed = self.run(|state| {
            state.writable()?;
            state.disk.remove_directory(parent, name)
        });
        answer(removed, reply);
    }

    fn rename(
        &mut self,
        _: &Request<'_>,
        parent: u64,
        name: &OsStr,
        new_parent: u64,
        new_name: &OsStr,
        flags: u32,
        reply: ReplyEmpty,
    ) {
        let renamed = self.run(|state| {
            state.check(Operation::Rename, parent, name)?;
            match flags {
                0 => {}
                libc::RENAME_NOREPLACE => {
                    if state.disk.directory(new_parent)?.get(new_name).is_some() {
                        return Err(Errno::EEXIST);
                    }
                }
                _ => return Err(Errno::EINVAL),
            }
            state.disk.rename((parent, name), (new_parent, new_name))
        });
        answer(renamed, reply);
    }

    fn link(&mut self, _: &Request<'_>, inode: u64, parent: u64, name: &OsStr, reply: ReplyEntry) {
        let linked = self.run(|state| {
            state.check(Operation::Create, parent, name)?;
            state.disk.link(inode, parent, name)?;
            attributes(&state.disk, inode)
        });
        answer_entry(linked, reply);
    }

    fn open(&mut self, _: &Request<'_>, inode: u64, flags: i32, reply: ReplyOpen) {
        let opened = self.run(|state| {
            if flags & libc::O_ACCMODE != libc::O_RDONLY {
                state.writable()?;
            }
            state.disk.file(inode).map(|_| ())
        });
        match opened {
            Ok(()) => reply.opened(0, FOPEN_DIRECT_IO),
            Err(errno) => reply.error(errno),
        }
    }

    fn read(
        &mut self,
        _: &Request<'_>,
        inode: u64,
        _: u64,
        offset: i64,
        size: u32,
        _: i32,
        _: Option<u64>,
        reply: ReplyData,
    ) {
        let read = self.run(|state| {
            state.check(Operation::Read, inode, OsStr::new(""))?;
            let content = state.disk.file(inode)?.content();
            Ok(content.read(unsigned(offset)?, size as usize))
        });
        match read {
            Ok(bytes) => reply.data(&bytes),
            Err(errno) => reply.error(errno),
        }
    }

    fn write(
        &mut self,
        _: &Request<'_>,
        inode: u64,
        _: u64,
        offset: i64,
        data: &[u8],
        _: u32,
        _: i32,
        _: Option<u64>,
        reply: ReplyWrite,
    ) {
        match self.run(|state| state.write(inode, unsigned(offset)?, data)) {
            Ok(written) => reply.written(written),
            Err(errno) => reply.error(errno),
        }
    }

    fn fallocate(
        &mut self,
        _: &Request<'_>,
        inode: u64,
        _: u64,
        offset: i64,
        length: i64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let allocated = self.run(|state| {
            let end = unsigned(offset)?.checked_add(unsigned(length)?);
            match mode {
                0 => state.allocate(inode, end.ok_or(Errno::EFBIG)?),
                // Space is not modelled apart from lengths.
                libc::FALLOC_FL_KEEP_SIZE => Ok(()),
                _ => Err(Errno::EOPNOTSUPP),
            }
        });
        answer(allocated, reply);
    }

    fn fsync(&mut self, _: &Request<'_>, inode: u64, _: u64, _: bool, reply: ReplyEmpty) {
        self.sync(inode, reply, false);
    }

    fn fsyncdir(&mut self, _: &Request<'_>, inode: u64, _: u64, _: bool, reply: ReplyEmpty) {
        self.sync(inode, reply, true);
    }

    fn opendir(&mut self, _: &Request<'_>, inode: u64, _: i32, reply: ReplyOpen) {
        let opened = self.run(|state| {
            state.disk.directory(inode)?;
            state.next_handle += 1;
            Ok(state.next_handle)
        });
        match opened {
            Ok(handle) => reply.opened(handle, 0),
            Err(errno) => reply.error(errno),
        }
    }

    fn readdir(
        &mut self,
        _: &Request<'_>,
        inode: u64,
        handle: u64,
        offset: i64,
        mut reply: ReplyDirectory,
    ) {
        let filled = self.run(|state| {
            if offset == 0 {
                // A program that begins again wants to see what has changed.
                let entries = listing(&state.disk, inode)?;
                state.listings.insert(handle, entries);
            }
            let entries = state.listings.get(&handle).ok_or(Errno::EBADF)?;
            let begin = usize::try_from(offset).map_err(|_| Errno::EINVAL)?;
            for ((name, inode, is_directory), next) in entries.iter().skip(begin).zip(offset + 1..)
            {
                let kind = if *is_directory {
                    FileType::Directory
                } else {
                    FileType::RegularFile
                };
                if reply.add(*inode, next, kind, name) {
                    break;
                }
            }
            Ok(())
        });
        match filled {
            Ok(()) => reply.ok(),
            Err(errno) => reply.error(errno),
        }
    }

    fn releasedir(&mut self, _: &Request<'_>, _: u64, handle: u64, _: i32, reply: ReplyEmpty) {
        self.run(|state| {
            state.listings.remove(&handle);
            Ok(())
        })
        .ok();
        reply.ok();
    }

    fn statfs(&mut self, _: &Request<'_>, _: u64, reply: ReplyStatfs) {
        let sizes = self.run(|state| {
            let total = state.quota.unwrap_or(DISK_BYTES);
            let free = total.saturating_sub(state.disk.used_bytes());
            Ok((total / BLOCK, free / BLOCK))
        });
        match sizes {
            Ok((total, free)) => {
                let block = u32::try_from(BLOCK).unwrap_or(u32::MAX);
                reply.statfs(total, free, free, 1 << 20, 1 << 20, block, 255, block);
            }
            Err(errno) => reply.error(errno),
        }
    }
}

impl State {
    fn writable(&self) -> Result<(), Errno> {
        if self.is_read_only {
            return Err(Errno::EROFS);
        }
        Ok(())
    }
}

fn answer(outcome: Result<(), libc::c_int>, reply: ReplyEmpty) {
    match outcome {
        Ok(()) => reply.ok(),
        Err(errno) => reply.error(errno),
    }
}

fn answer_entry(outcome: Result<FileAttr, libc::c_int>, reply: ReplyEntry) {
    match outcome {
        Ok(attr) => reply.entry(&TTL, &attr, GENERATION),
        Err(errno) => reply.error(errno),
    }
}

fn answer_attributes(outcome: Result<FileAttr, libc::c_int>, reply: ReplyAttr) {
    match outcome {
        Ok(attr) => reply.attr(&TTL, &attr),
        Err(errno) => reply.error(errno),
    }
}

fn attributes(disk: &Disk, number: u64) -> Result<FileAttr, Errno> {
    let inode = disk.inode(number)?;
    let (kind, size, nlink) = match &inode.kind {
        Kind::File(file) => (FileType::RegularFile, file.content().len(), 1),
        Kind::Directory(_) => (FileType::Directory, 0, 2),
    };
    Ok(FileAttr {
        ino: number.max(ROOT),
        size,
        blocks: size.div_ceil(BLOCK),
        atime: inode.modified,
        mtime: inode.modified,
        ctime: inode.modified,
        crtime: inode.modified,
        kind,
        perm: inode.owner.mode,
        nlink,
        uid: inode.owner.uid,
        gid: inode.owner.gid,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    })
}

fn permissions(mode: u32) -> u16 {
    u16::try_from(mode & 0o7777).unwrap_or(0o644)
}

fn unsigned(n: i64) -> Result<u64, Errno> {
    u64::try_from(n).map_err(|_| Errno::EINVAL)
}
