//! Bytes set aside, counted per thread and summed by whoever asks.
//!
//! A thread that allocates all the time takes a counter of its own ([`OwnCounter`]): one load and
//! one store per allocation. All others share a few, with an atomic addition. Memory is often
//! freed on another thread than it was allocated on, so a single counter may be negative; only
//! the sum means something, and it is exact whenever no thread is between two additions.

use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize};

/// Counters that threads share.
const SHARED: usize = 32;
/// Counters that threads can have to themselves: one per shard and some for helpers.
const OWN: usize = 96;

/// A counter that shares its cache lines (the processor fetches them in pairs) with nothing.
#[repr(align(128))]
struct Counter {
    bytes: AtomicI64,
    /// Whether a thread has it to itself.
    taken: AtomicBool,
}

static COUNTERS: [Counter; SHARED + OWN] = [const {
    Counter {
        bytes: AtomicI64::new(0),
        taken: AtomicBool::new(false),
    }
}; SHARED + OWN];

/// The next thread's shared counter, in turn.
static NEXT_SHARED: AtomicUsize = AtomicUsize::new(0);

/// This thread has no counter yet.
const NONE: usize = usize::MAX;

thread_local! {
    // Without a destructor and without code to initialise it, so it can be read at any time in
    // the life of a thread, and reading it allocates nothing.
    static COUNTER: Cell<usize> = const { Cell::new(NONE) };
}

/// Counts bytes set aside (or, negative, given back) by this thread.
#[inline]
pub(crate) fn add(bytes: i64) {
    let index = COUNTER.get();
    match COUNTERS.get(index) {
        Some(counter) if index >= SHARED => {
            // Nobody else writes it.
            let sum = counter.bytes.load(Relaxed).wrapping_add(bytes);
            counter.bytes.store(sum, Relaxed);
        }
        _ => add_shared(index, bytes),
    }
}

fn add_shared(index: usize, bytes: i64) {
    let index = if index == NONE {
        let index = NEXT_SHARED.fetch_add(1, Relaxed) % SHARED;
        COUNTER.set(index);
        index
    } else {
        index
    };
    COUNTERS[index].bytes.fetch_add(bytes, Relaxed);
}

/// Bytes that the allocator has set aside for this process and not got back.
#[must_use]
pub fn allocated() -> u64 {
    let sum = COUNTERS
        .iter()
        .fold(0i64, |sum, c| sum.wrapping_add(c.bytes.load(Relaxed)));
    // Read while others count, a sum can miss the allocation of what it saw freed.
    u64::try_from(sum).unwrap_or(0)
}

/// What this thread has allocated minus what it has freed, if it has a counter of its own. Only
/// differences mean something.
#[inline]
#[must_use]
pub fn allocated_here() -> Option<i64> {
    let index = COUNTER.get();
    let counter = COUNTERS.get(index).filter(|_| index >= SHARED)?;
    Some(counter.bytes.load(Relaxed))
}

/// A counter of the thread's own, until it is dropped.
#[derive(Debug)]
pub struct OwnCounter {
    index: usize,
    /// It belongs to the thread that made it.
    not_send: PhantomData<*const ()>,
}

impl OwnCounter {
    /// Takes a counter for this thread; `None` if all are taken or it has one, which costs some
    /// speed and nothing else.
    #[must_use]
    pub fn take() -> Option<OwnCounter> {
        if allocated_here().is_some() {
            return None;
        }
        let index = (SHARED..SHARED + OWN).find(|index| {
            let taken = &COUNTERS[*index].taken;
            taken
                .compare_exchange(false, true, Acquire, Relaxed)
                .is_ok()
        })?;
        COUNTER.set(index);
        Some(OwnCounter {
            index,
            not_send: PhantomData,
        })
    }
}

impl Drop for OwnCounter {
    fn drop(&mut self) {
        COUNTER.set(NONE);
        // What it counted stays in the sum, and the next owner goes on from there.
        COUNTERS[self.index].taken.store(false, Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_has_one_counter_of_its_own_and_leaves_it_to_the_next() {
        let index = std::thread::spawn(|| {
            assert_eq!(allocated_here(), None);
            let own = OwnCounter::take().unwrap();
            assert!(OwnCounter::take().is_none());
            let before = allocated_here().unwrap();
            add(100);
            add(-30);
            assert_eq!(allocated_here(), Some(before + 70));
            add(-70);
            let index = own.index;
            drop(own);
            assert_eq!(allocated_here(), None);
            index
        })
        .join()
        .unwrap();
        assert!(index >= SHARED);
    }
}
