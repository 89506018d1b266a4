//! The synchronisation words of this crate: from `std`, or from `loom` under `cfg(loom)`.
//!
//! [`Word`] has no ordering arguments on purpose. The argument for [`crate::clock`] needs one
//! total order over all its words, so there is nothing to choose.

#[cfg(loom)]
pub(crate) use loom::sync::Mutex;
#[cfg(not(loom))]
pub(crate) use std::sync::Mutex;

#[cfg(loom)]
use loom::sync::atomic::{AtomicU64, Ordering, fence};
#[cfg(not(loom))]
use std::sync::atomic::{AtomicU64, Ordering};

/// A sequentially consistent `u64`.
pub(crate) struct Word(AtomicU64);

/// Loom treats sequentially consistent loads and stores as acquire and release; only its
/// fences are what the language promises. They cost nothing in a normal build.
#[inline(always)]
fn loom_fence() {
    #[cfg(loom)]
    fence(Ordering::SeqCst);
}

impl Word {
    pub(crate) fn new(value: u64) -> Word {
        Word(AtomicU64::new(value))
    }

    #[inline]
    pub(crate) fn load(&self) -> u64 {
        loom_fence();
        let value = self.0.load(Ordering::SeqCst);
        loom_fence();
        value
    }

    #[inline]
    pub(crate) fn store(&self, value: u64) {
        loom_fence();
        self.0.store(value, Ordering::SeqCst);
        loom_fence();
    }

    #[inline]
    pub(crate) fn fetch_add(&self, value: u64) -> u64 {
        loom_fence();
        let previous = self.0.fetch_add(value, Ordering::SeqCst);
        loom_fence();
        previous
    }

    /// Raises the word to `value` if that is higher, and returns what it is now.
    #[inline]
    pub(crate) fn raise(&self, value: u64) -> u64 {
        // Mostly it has that value already; looking is cheaper than a locked operation.
        let now = self.load();
        if now >= value {
            return now;
        }
        loom_fence();
        let previous = self.0.fetch_max(value, Ordering::SeqCst);
        loom_fence();
        previous.max(value)
    }

    /// Replaces `current` with `new`; whether it was there.
    #[inline]
    pub(crate) fn replace(&self, current: u64, new: u64) -> bool {
        loom_fence();
        let swapped = self
            .0
            .compare_exchange(current, new, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok();
        loom_fence();
        swapped
    }
}

/// Locks `mutex`. A poisoned lock means that a thread died while it changed the clock; nothing
/// computed from it may be acknowledged, so the panic spreads.
#[cfg(not(loom))]
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().expect("no thread died inside the clock")
}

/// Locks `mutex`.
#[cfg(loom)]
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> loom::sync::MutexGuard<'_, T> {
    mutex.lock().expect("no thread died inside the clock")
}
