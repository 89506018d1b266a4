//! The libraries of functions as the whole process sees them.
//!
//! The libraries themselves are data: shard 0 has them, they change only in a step that holds the
//! data of all shards, and so they have their place in the history. What is here is a copy that
//! every shard can read at any time. It is replaced in that same step, so whoever has data in
//! hand sees the libraries that belong to it.

use moon_core::Lsn;
use moon_store::Libraries;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::{Mutex, MutexGuard, PoisonError};

#[derive(Debug, Default)]
struct State {
    libraries: Libraries,
    /// What a reply depends on that shows them; `None` until the step that changed them has its
    /// end.
    end: Option<Lsn>,
}

/// The libraries, and which version of them it is.
#[derive(Debug, Default)]
pub(crate) struct FunctionView {
    state: Mutex<State>,
    version: AtomicU64,
    /// Functions in them, as an engine has counted.
    functions: AtomicU64,
}

impl FunctionView {
    /// The libraries that recovery found.
    pub(crate) fn new(libraries: Libraries) -> FunctionView {
        let end = Some(Lsn::ZERO);
        FunctionView {
            version: AtomicU64::new(u64::from(!libraries.is_empty())),
            state: Mutex::new(State { libraries, end }),
            functions: AtomicU64::new(0),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic aborts the process, so a poisoned lock is never seen.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Grows with every change. An engine that has none is at 0.
    pub(super) fn version(&self) -> u64 {
        self.version.load(Acquire)
    }

    /// The libraries and their version.
    pub(super) fn get(&self) -> (Libraries, u64) {
        let state = self.state();
        (state.libraries.clone(), self.version.load(Acquire))
    }

    /// What a reply depends on that shows the libraries; `head` is that of the history, read while
    /// this shard's data was at home or in hand.
    pub(super) fn depends_on(&self, head: impl FnOnce() -> Lsn) -> Lsn {
        let end = self.state().end;
        end.unwrap_or_else(head)
    }

    /// Puts `libraries` in force. The caller holds the data of all shards. Returns the version.
    pub(super) fn replace(&self, libraries: Libraries) -> u64 {
        let mut state = self.state();
        state.libraries = libraries;
        state.end = None;
        self.version.fetch_add(1, Release) + 1
    }

    /// The step that made `version` ends at `end`.
    pub(super) fn ended(&self, version: u64, end: Lsn) {
        let mut state = self.state();
        if self.version.load(Acquire) == version {
            state.end = Some(end);
        }
    }

    /// An engine that follows has counted the functions.
    pub(super) fn count_functions(&self, functions: usize) {
        self.functions.store(functions as u64, Relaxed);
    }

    /// How many libraries and functions there are, and the bytes of their texts.
    pub(super) fn counts(&self) -> (u64, u64, u64) {
        let state = self.state();
        let libraries = &state.libraries;
        let functions = self.functions.load(Relaxed);
        (libraries.len() as u64, functions, libraries.bytes() as u64)
    }
}
