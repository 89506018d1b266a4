//! Failures on request.

use nix::errno::Errno;
use std::path::Path;

/// What is to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Writing bytes.
    Write,
    /// Syncing a file.
    Sync,
    /// Syncing a directory.
    SyncDirectory,
    /// Creating a file or directory.
    Create,
    /// Renaming; the path is the old name.
    Rename,
    /// Reserving space or changing the length.
    Resize,
    /// Reading bytes.
    Read,
}

/// An operation that fails a number of times.
#[derive(Clone, Debug)]
pub struct Failing {
    /// What fails.
    pub operation: Operation,
    /// Only where the path, from the root of the mount with a leading slash, contains this.
    pub path_contains: String,
    /// How often it fails before it works again.
    pub times: u32,
    /// With which error.
    pub errno: Errno,
}

impl Failing {
    /// `operation` fails `times` times with EIO, wherever.
    #[must_use]
    pub fn with_eio(operation: Operation, times: u32) -> Self {
        Failing {
            operation,
            path_contains: String::new(),
            times,
            errno: Errno::EIO,
        }
    }

    /// Only where the path contains `part`.
    #[must_use]
    pub fn at(mut self, part: impl Into<String>) -> Self {
        self.path_contains = part.into();
        self
    }
}

/// The failures that are asked for.
#[derive(Debug, Default)]
pub(crate) struct Failures(Vec<Failing>);

impl Failures {
    pub(crate) fn add(&mut self, failing: Failing) {
        self.0.push(failing);
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// Fails if it is asked for; `path` is called only if it decides.
    pub(crate) fn check(
        &mut self,
        operation: Operation,
        path: impl Fn() -> std::path::PathBuf,
    ) -> Result<(), Errno> {
        self.0.retain(|failing| failing.times > 0);
        let matches = |failing: &Failing, path: &Path| {
            path.to_string_lossy().contains(&failing.path_contains)
        };
        for failing in self.0.iter_mut().filter(|f| f.operation == operation) {
            if failing.path_contains.is_empty() || matches(failing, &path()) {
                failing.times -= 1;
                return Err(failing.errno);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    #[test]
    fn an_operation_fails_as_often_as_asked_and_only_where_asked() {
        let mut failures = Failures::default();
        failures.add(Failing::with_eio(Operation::Sync, 2).at("shard-1"));
        let mut sync = |path: &str| failures.check(Operation::Sync, || PathBuf::from(path));
        assert_eq!(sync("/shard-0/a"), Ok(()));
        assert_eq!(sync("/shard-1/a"), Err(Errno::EIO));
        assert_eq!(sync("/shard-1/b"), Err(Errno::EIO));
        assert_eq!(sync("/shard-1/a"), Ok(()));
    }
}
