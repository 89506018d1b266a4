//! One server per directory: an advisory lock on `<dir>/moon.lock`, held for the life of the
//! process. The kernel drops it with the process, so a file left by a killed server is harmless.

use nix::fcntl::{Flock, FlockArg};
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

/// The lock file's name in `dir`.
pub const LOCK_FILE: &str = "moon.lock";

/// Why the lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process holds it.
    #[error("the directory {} is in use by another server{}", dir.display(), holder.map(|pid| format!(" (process {pid})")).unwrap_or_default())]
    Held {
        /// The directory.
        dir: PathBuf,
        /// What the holder wrote into the file, if that can be read.
        holder: Option<u32>,
    },
    /// The file cannot be opened, locked or written.
    #[error("cannot lock {}", path.display())]
    Io {
        /// The lock file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// A held lock; dropping it releases it.
#[derive(Debug)]
pub struct DirLock {
    _file: Flock<File>,
    path: PathBuf,
}

impl DirLock {
    /// Takes the lock of `dir`, which must exist, without waiting, and leaves the process id in
    /// the file.
    ///
    /// # Errors
    /// See [`LockError`].
    pub fn acquire(dir: &Path) -> Result<DirLock, LockError> {
        let path = dir.join(LOCK_FILE);
        let io = |source| LockError::Io {
            path: path.clone(),
            source,
        };
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(io)?;
        let mut file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) => file,
            Err((file, nix::errno::Errno::EWOULDBLOCK)) => {
                return Err(LockError::Held {
                    dir: dir.to_owned(),
                    holder: read_pid(file),
                });
            }
            Err((_, errno)) => return Err(io(errno.into())),
        };
        let write_pid = |file: &mut File| -> std::io::Result<()> {
            file.set_len(0)?;
            file.rewind()?;
            writeln!(file, "{}", std::process::id())
        };
        write_pid(&mut file).map_err(io)?;
        Ok(DirLock { _file: file, path })
    }

    /// Whether some process holds the lock of `dir`. Creates nothing; `false` where that cannot
    /// be told.
    #[must_use]
    pub fn is_held(dir: &Path) -> bool {
        let Ok(file) = File::open(dir.join(LOCK_FILE)) else {
            return false;
        };
        matches!(
            Flock::lock(file, FlockArg::LockSharedNonblock),
            Err((_, nix::errno::Errno::EWOULDBLOCK))
        )
    }

    /// The lock file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn read_pid(file: File) -> Option<u32> {
    let mut text = String::new();
    file.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scenario 186.
    #[test]
    fn a_second_server_is_refused_and_told_by_whom() {
        let dir = tempfile::tempdir().unwrap();
        let held = DirLock::acquire(dir.path()).unwrap();
        let error = DirLock::acquire(dir.path()).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains(&format!("process {}", std::process::id())),
            "{text}"
        );
        drop(held);
        DirLock::acquire(dir.path()).unwrap();
    }

    /// Scenario 186: what a killed server leaves behind.
    #[test]
    fn a_stale_lock_file_is_taken_over() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(
            dir.path().join(LOCK_FILE),
            "999999999999 something longer\n",
        )
        .unwrap();
        let lock = DirLock::acquire(dir.path()).unwrap();
        let text = std::fs::read_to_string(lock.path()).unwrap();
        assert_eq!(text, format!("{}\n", std::process::id()));
    }
}
