//! The mounted file system, used by plain `std::fs`.

mod faults;
mod power;

use moon_faultfs::{FaultFs, Image};
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

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
        // No test here can say anything without a mount, so there is no way around this.
        let fs = FaultFs::mount(dir.path(), image, seed).unwrap_or_else(|error| {
            panic!("FUSE IS NOT AVAILABLE, nothing about power loss is tested: {error:?}")
        });
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
