//! [`FaultFs`]: a mounted file system and the handle that makes it fail.

use crate::disk::{Disk, Image, Owner};
use crate::fault::{Failing, Failures};
use crate::request::Requests;
use crate::survival::{Dice, Tally};
use fuser::{BackgroundSession, MountOption, Session};
use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};
use nix::unistd::{getegid, geteuid};
use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// The device through which a process serves a file system.
const DEVICE: &str = "/dev/fuse";
/// The name in the list of mounts.
const NAME: &str = "moon-faultfs";

/// Why nothing was mounted.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// This machine has no FUSE.
    #[error("there is no {DEVICE}: this machine cannot mount file systems of its own")]
    NoFuse,
    /// The system refused.
    #[error("cannot mount a FUSE file system at {path}")]
    Refused {
        /// Where it was to be mounted.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// Everything that changes, under one lock, so that a cut falls between two operations.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) disk: Disk,
    pub(crate) dice: Dice,
    pub(crate) failures: Failures,
    /// Bytes that all files together may take.
    pub(crate) quota: Option<u64>,
    pub(crate) is_read_only: bool,
    pub(crate) sync_delay: Duration,
    /// What the power loss left, once it happened.
    pub(crate) remainder: Option<(Image, Tally)>,
    /// Nothing is answered any more.
    pub(crate) is_off: bool,
    /// Directories that are being listed, as they were when opened.
    pub(crate) listings: HashMap<u64, Vec<(OsString, u64, bool)>>,
    pub(crate) next_handle: u64,
}

#[derive(Debug)]
pub(crate) struct Shared {
    state: Mutex<State>,
    /// Signalled when the power is cut, for syncs that are being slow.
    power: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic in another thread has left the state whole: every change is one method call.
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Runs one operation, or fails with EIO if the power is off.
    pub(crate) fn run<T>(
        &self,
        operation: impl FnOnce(&mut State) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        let mut state = self.lock();
        if state.is_off {
            return Err(Errno::EIO);
        }
        operation(&mut state)
    }

    /// Waits for `delay`, or less if the power is cut.
    pub(crate) fn wait(&self, delay: Duration) {
        let end = Instant::now() + delay;
        let mut state = self.lock();
        while !state.is_off {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let waited = self.power.wait_timeout(state, left);
            state = waited.unwrap_or_else(|e| e.into_inner()).0;
        }
    }
}

/// A mounted file system that loses what was not synced. Dropping it unmounts, also while
/// programs have files open there; their operations fail from then on.
pub struct FaultFs {
    shared: Arc<Shared>,
    path: PathBuf,
    /// Ends with the mount.
    session: Option<BackgroundSession>,
}

impl std::fmt::Debug for FaultFs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FaultFs").field("path", &self.path).finish()
    }
}

impl FaultFs {
    /// Mounts a disk that holds `image` at the directory `path`. The seed decides everything that
    /// is left to chance.
    ///
    /// # Errors
    /// When this machine or its administrator does not allow it.
    pub fn mount(path: &Path, image: &Image, seed: u64) -> Result<FaultFs, MountError> {
        if !Path::new(DEVICE).exists() {
            return Err(MountError::NoFuse);
        }
        let owner = Owner {
            mode: 0o755,
            uid: geteuid().as_raw(),
            gid: getegid().as_raw(),
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                disk: Disk::new(image, owner),
                dice: Dice::new(seed),
                failures: Failures::default(),
                quota: None,
                is_read_only: false,
                sync_delay: Duration::ZERO,
                remainder: None,
                is_off: false,
                listings: HashMap::new(),
                next_handle: 1,
            }),
            power: Condvar::new(),
        });
        let options = [
            MountOption::FSName(NAME.into()),
            MountOption::NoAtime,
            MountOption::NoDev,
            MountOption::NoSuid,
        ];
        let requests = Requests::new(Arc::clone(&shared));
        let session = Session::new(requests, path, &options)
            .and_then(Session::spawn)
            .map_err(|source| MountError::Refused {
                path: path.to_owned(),
                source,
            })?;
        Ok(FaultFs {
            shared,
            path: path.to_owned(),
            session: Some(session),
        })
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The power loss. Operations that have not finished, and all later ones, fail with EIO.
    /// Returns what became of everything that was not synced; a second cut changes nothing.
    pub fn cut(&self) -> Tally {
        let mut state = self.shared.lock();
        let state = &mut *state;
        state.is_off = true;
        let (_, tally) = state.remainder.get_or_insert_with(|| {
            let mut tally = Tally::default();
            let image = state.disk.survivor(&mut state.dice, &mut tally);
            (image, tally)
        });
        self.shared.power.notify_all();
        *tally
    }

    /// What the disk holds after the cut, to be mounted; nothing while the power is on.
    #[must_use]
    pub fn image(&self) -> Option<Image> {
        let state = self.shared.lock();
        state.remainder.as_ref().map(|(image, _)| image.clone())
    }

    /// Lets all files together take this many bytes: what goes beyond fails with ENOSPC, after
    /// the part that fits. `None` lifts the limit.
    pub fn set_quota(&self, bytes: Option<u64>) {
        self.shared.lock().quota = bytes;
    }

    /// Bytes that all files take now.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.shared.lock().disk.used_bytes()
    }

    /// Makes an operation fail. Requests add up; the first that matches counts.
    pub fn fail(&self, failing: Failing) {
        self.shared.lock().failures.add(failing);
    }

    /// Takes back everything that [`FaultFs::fail`] asked for.
    pub fn heal(&self) {
        self.shared.lock().failures.clear();
    }

    /// Makes every sync that begins from now on take this long.
    pub fn set_sync_delay(&self, delay: Duration) {
        self.shared.lock().sync_delay = delay;
    }

    /// Refuses every change with EROFS, or no longer.
    pub fn set_read_only(&self, is_read_only: bool) {
        self.shared.lock().is_read_only = is_read_only;
    }
}

impl Drop for FaultFs {
    fn drop(&mut self) {
        self.shared.lock().is_off = true;
        self.shared.power.notify_all();
        // Only root may; for others the session's own end goes through fusermount3.
        umount2(&self.path, MntFlags::MNT_DETACH).ok();
        self.session.take();
    }
}
