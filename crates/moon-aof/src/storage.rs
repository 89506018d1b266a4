//! The file operations this crate uses, as traits, so that tests can make each of them fail.
//!
//! What a caller may rely on is what POSIX promises and no more: bytes survive a power loss
//! after [`StorageFile::sync_data`], names after [`Storage::sync_dir`] of their directory, and
//! a rename replaces its target as a whole.

use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;

/// Files and directories.
pub trait Storage: Send + Sync {
    /// Opens an existing file for reading (and syncing).
    fn open(&self, path: &Path) -> io::Result<Arc<dyn StorageFile>>;

    /// Opens an existing file for reading and writing.
    fn open_write(&self, path: &Path) -> io::Result<Arc<dyn StorageFile>>;

    /// Creates a file, or empties the one that is there.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn StorageFile>>;

    /// Gives `from` the name `to`, replacing what had it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in a directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// The names in a directory, in no order.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// Creates a directory; no error if it is there.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;

    /// Removes an empty directory.
    fn remove_dir(&self, dir: &Path) -> io::Result<()>;

    /// Takes an exclusive lock that lives as long as the returned value and dies with the
    /// process. [`io::ErrorKind::WouldBlock`] if somebody else holds it.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>>;

    /// Sixteen bytes that nobody can guess.
    fn random(&self) -> io::Result<[u8; 16]>;
}

/// One open file.
pub trait StorageFile: Send + Sync {
    /// Reads up to `buffer.len()` bytes at `offset`; 0 at the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes some of the bytes at `offset` and returns how many.
    fn write_vectored_at(&self, buffers: &[IoSlice<'_>], offset: u64) -> io::Result<usize>;

    /// Makes all finished writes durable. After an error nothing is known about any of them,
    /// and a later success says nothing about them either.
    fn sync_data(&self) -> io::Result<()>;

    /// Sets the length.
    fn truncate(&self, len: u64) -> io::Result<()>;

    /// Reserves space and extends the file over it; bytes never written read as zero.
    fn allocate(&self, offset: u64, len: u64) -> io::Result<()>;

    /// The length in bytes.
    fn len(&self) -> io::Result<u64>;

    /// Whether the file still has the name it was opened or created by: nobody removed it, moved
    /// it (or a directory above it) away, or put another file in its place.
    ///
    /// # Errors
    /// If that cannot be found out.
    fn is_in_place(&self) -> io::Result<bool> {
        Ok(true)
    }

    /// Whether the file has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}

/// Largest number of bytes handed to the kernel at once. Linux writes at most 2 GiB less a page
/// per call and returns short; staying far below keeps that path boring.
const WRITE_MAX: usize = 1 << 30;

/// Writes all of `parts` at `offset`, going on after short writes and interruptions.
///
/// # Errors
/// The first error; some of the bytes may be in the file then. A write that takes no bytes is
/// [`io::ErrorKind::WriteZero`].
pub fn write_all_at(file: &dyn StorageFile, parts: &[&[u8]; 3], offset: u64) -> io::Result<()> {
    let total: usize = parts.iter().map(|part| part.len()).sum();
    let mut done = 0;
    while done < total {
        let mut skip = done;
        let mut room = WRITE_MAX;
        let slices = parts.map(|part| {
            let from = skip.min(part.len());
            skip -= from;
            let rest = &part[from..];
            let rest = &rest[..rest.len().min(room)];
            room -= rest.len();
            IoSlice::new(rest)
        });
        match file.write_vectored_at(&slices, offset + done as u64) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => done += written,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Fills `buffer` from `offset` as far as the file goes and returns how far that was.
///
/// # Errors
/// Any read error.
pub fn read_full_at(file: &dyn StorageFile, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match file.read_at(&mut buffer[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(read) => done += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// The whole of a file.
///
/// # Errors
/// Any read error, or one of kind `InvalidData` if it is longer than `max` bytes.
pub fn read_whole(storage: &dyn Storage, path: &Path, max: usize) -> io::Result<Vec<u8>> {
    let file = storage.open(path)?;
    let len = usize::try_from(file.len()?).unwrap_or(usize::MAX);
    if len > max {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut bytes = vec![0; len];
    let read = read_full_at(&*file, &mut bytes, 0)?;
    bytes.truncate(read);
    Ok(bytes)
}

/// Replaces the file `target` as a whole: the bytes go to `temporary`, are synced, take the
/// name, and the directory is synced. After an error either the old or the new file is there,
/// and a crash may still bring back the old one.
///
/// # Errors
/// The first step that failed.
pub fn replace_file(
    storage: &dyn Storage,
    temporary: &Path,
    target: &Path,
    bytes: &[u8],
) -> io::Result<()> {
    write_new(storage, temporary, bytes)?;
    storage.rename(temporary, target)?;
    storage.sync_dir(target.parent().unwrap_or(Path::new("/")))
}

/// Writes a whole file and syncs it; not the directory.
///
/// # Errors
/// The first step that failed. Some of the file may be there then.
pub fn write_new(storage: &dyn Storage, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let file = storage.create(path)?;
    write_all_at(&*file, &[bytes, &[], &[]], 0)?;
    file.sync_data()
}
