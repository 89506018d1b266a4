//! A file system that loses what was not synced, for tests of what a power loss leaves behind.
//!
//! It is mounted through FUSE, so that an unchanged program can work on it, and keeps everything
//! in the memory of the process that mounted it. [`FaultFs::cut`] is the power loss: from then on
//! every operation fails, and [`FaultFs::image`] is what a disk may hold now. Mounting that image
//! is switching the machine on again.
//!
//! What survives a cut, and nothing else may be relied on:
//!
//! * bytes and length of a file as they were when it was last synced (`fsync`, `fdatasync`);
//! * the names in a directory as they were when the directory was last synced; syncing a file
//!   says nothing about its name;
//! * of later changes to a file any part: each 512-byte sector of each write is kept, dropped or
//!   torn on its own; of changes to the length (writes behind the end, `fallocate`, `ftruncate`)
//!   a prefix, so that a file may be longer than its data (zeros) or as long as before;
//! * of later changes to a directory a prefix; a rename is done or not done, also between two
//!   directories.
//!
//! All of this is decided by a seed. [`FaultFs`] also makes operations fail on request: a full
//! disk, errors of writes and syncs, slow syncs, a read-only file system.
//!
//! * [`content`]: bytes of a file, sparse and cheap to copy.
//! * [`file`]: a file: what is durable, and the changes since.
//! * [`directory`]: the same for the names in a directory.
//! * [`survival`]: the dice: which part of the changes a cut leaves.
//! * [`disk`]: all files and directories, and the operations on them.
//! * [`fault`]: failures on request.
//! * [`request`]: what the kernel asks, translated.
//! * [`mount`]: [`FaultFs`], the mounted file system.

#![forbid(unsafe_code)]

mod content;
mod directory;
mod disk;
mod fault;
mod file;
mod mount;
mod request;
mod survival;

pub use disk::Image;
pub use fault::{Failing, Operation};
pub use mount::{FaultFs, MountError};
pub use survival::Tally;
