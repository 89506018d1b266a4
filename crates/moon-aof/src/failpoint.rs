//! Places where a test can kill the process.
//!
//! With the cargo feature `failpoints` and `MOON_FAILPOINT=<name>[:nth]` in the environment, the
//! process sends itself SIGKILL at the nth hit (the first one without a number). Without the
//! feature every call here is empty.
//!
//! Names: `between-issue-and-write`, `mid-write`, `between-write-and-ack`, `recovery-replay`,
//! `recovery-mid-copy`, `recovery-before-manifest`, `recovery-after-manifest`.
//!
//! Of a rewrite, in its order: `rewrite-segments-created` (no manifest names them yet),
//! `rewrite-first-manifest` (it does), `rewrite-after-cut`, `rewrite-mid-base` (at each chunk of a
//! base), `rewrite-bases-synced`, `rewrite-second-manifest` (written, not renamed),
//! `rewrite-after-manifest`, `rewrite-mid-delete` (before each removal of a superseded file).
//!
//! Of the migration of version 1 in place: `migrate-after-directory`, `migrate-after-rename` (at
//! each of the two), `migrate-after-manifest`.
//!
//! In `moon-tools`: `reshard-preparing` (the manifest says so, no file yet), `reshard-mid-copy` (at
//! each unit), `reshard-before-manifest` (all is synced), `reshard-after-manifest`,
//! `reshard-mid-delete` (before each removal of an old file).

/// The process dies here if the failpoint is armed and its time has come.
#[inline(always)]
pub fn hit(name: &str) {
    if due(name) {
        die();
    }
}

/// Whether the process is to die at this hit; the caller does something first.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub fn due(_name: &str) -> bool {
    false
}

/// Ends the process as SIGKILL does.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub fn die() {}

#[cfg(feature = "failpoints")]
pub use armed::{die, due};

#[cfg(feature = "failpoints")]
mod armed {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    struct Armed {
        name: String,
        /// Hits to go; the process dies when it falls from 1 to 0.
        left: AtomicU64,
    }

    static ARMED: LazyLock<Option<Armed>> = LazyLock::new(|| {
        let value = std::env::var("MOON_FAILPOINT").ok()?;
        let (name, nth) = match value.split_once(':') {
            Some((name, nth)) => (name, nth.parse().ok()?),
            None => (value.as_str(), 1),
        };
        Some(Armed {
            name: name.to_owned(),
            left: AtomicU64::new(nth),
        })
    });

    /// Whether the process is to die at this hit; the caller does something first.
    pub fn due(name: &str) -> bool {
        match &*ARMED {
            Some(armed) if armed.name == name => armed.left.fetch_sub(1, Ordering::SeqCst) == 1,
            _ => false,
        }
    }

    /// Ends the process as SIGKILL does.
    pub fn die() {
        use nix::sys::signal::{Signal, kill};
        // Reached only if the kernel refuses; then dying in another way is as good.
        if kill(nix::unistd::getpid(), Signal::SIGKILL).is_err() {
            std::process::abort();
        }
    }
}
