//! The mounted file system, used by plain `std::fs`.

mod faults;
mod power;

use moon_faultfs::{FaultFs, Image};
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Whether this machine cannot mount anything, which is said past the test runner, because a test
/// that is left out must not look like one that passed. (`cargo xtask crash-matrix --power-loss`
/// fails on such a machine.)
fn no_fuse() -> bool {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let Err(error) = FaultFs::mount(dir.path(), &Image::default(), 0) else {
        return false;
    };
    let line = format!("moon-faultfs: NOT TESTED HERE, FUSE is not available: {error:?}\n");
    std::io::stderr()
        .write_all(line.as_bytes())
        .expect("standard error is open");
    true
}

/// A directory with a file system mounted on it.
struct Machine {
    fs: Option<FaultFs>,
    dir: TempDir,
}

impl Machine {
    fn new(seed: u64) -> Machine {
        Machine::with(&Image::default(), seed)
    }

    fn with(image: &Image, seed: u64) -> Machine {
        let dir = tempfile::Builder::new()
            .prefix("moon-faultfs-")
            .tempdir()
            .expect("a temporary directory");
        let fs = FaultFs::mount(dir.path(), image, seed).expect("mounts");
        Machine { fs: Some(fs), dir }
    }

    fn fs(&self) -> &FaultFs {
        self.fs.as_ref().expect("mounted until dropped")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Cuts the power and starts again on what is left.
    fn restart(self, seed: u64) -> Machine {
        self.fs().cut();
        let image = self.fs().image().expect("the power was cut");
        Machine::with(&image, seed)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Unmounted before the directory is removed.
        self.fs.take();
    }
}

fn write(path: &Path, bytes: &[u8]) -> File {
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .expect("opens");
    file.write_all(bytes).expect("writes");
    file
}

fn sync_dir(path: &Path) {
    File::open(path)
        .and_then(|dir| dir.sync_all())
        .expect("the directory is synced");
}
