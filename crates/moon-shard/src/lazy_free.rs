//! The thread that drops what is too large to be dropped on a shard's thread, and gives free memory
//! back to the operating system, which takes too long for one as well.
//!
//! It is one for all shards, and of low priority: on a machine whose cores are all busy it must
//! not take a time slice away from a shard while a request waits. What it has not dropped yet is
//! counted, because the memory limit must not evict for memory that is on its way back.

use moon_store::Garbage;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

/// How much lower than a shard's the priority is: about a tenth of the share, so that on busy cores
/// memory still comes back about as fast as it is needed.
const NICE: i32 = 10;
/// How often free memory is given back. What is used again before that costs nothing.
const COLLECT_EVERY: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
struct Counts {
    pending_objects: AtomicU64,
    pending_bytes: AtomicU64,
    freed_objects: AtomicU64,
}

/// Sends garbage to the thread. What waits there is memory that was in use before, so the queue
/// needs no bound of its own.
#[derive(Clone, Debug)]
pub struct LazyFree {
    garbage: Sender<Garbage>,
    counts: Arc<Counts>,
}

impl LazyFree {
    /// Starts the thread, which ends when the last clone is gone.
    ///
    /// # Errors
    /// When the operating system gives no thread.
    pub fn start() -> io::Result<LazyFree> {
        let (garbage, queue) = channel();
        let counts = Arc::new(Counts::default());
        let shared = Arc::clone(&counts);
        std::thread::Builder::new()
            .name("lazyfree".to_owned())
            .spawn(move || run(&queue, &shared))?;
        Ok(LazyFree { garbage, counts })
    }

    /// Drops `garbage` on the thread.
    pub fn free(&self, garbage: Garbage) {
        if garbage.is_empty() {
            return;
        }
        let (objects, bytes) = (garbage.objects(), garbage.bytes());
        self.counts.pending_objects.fetch_add(objects, Relaxed);
        self.counts.pending_bytes.fetch_add(bytes, Relaxed);
        // Without the thread, at the end of the process, it is dropped here.
        drop(self.garbage.send(garbage));
    }

    /// Values that wait to be dropped.
    #[must_use]
    pub fn pending_objects(&self) -> u64 {
        self.counts.pending_objects.load(Relaxed)
    }

    /// About as many bytes come back when they are.
    #[inline]
    #[must_use]
    pub fn pending_bytes(&self) -> u64 {
        self.counts.pending_bytes.load(Relaxed)
    }

    /// Values dropped since the start.
    #[must_use]
    pub fn freed_objects(&self) -> u64 {
        self.counts.freed_objects.load(Relaxed)
    }
}

fn run(queue: &Receiver<Garbage>, counts: &Counts) {
    if let Err(error) = rustix::process::nice(NICE) {
        tracing::debug!("The lazyfree thread keeps its priority: {error}");
    }
    let _counter = moon_alloc::OwnCounter::take();
    moon_alloc::collect_by_hand();
    let mut collected = Instant::now();
    loop {
        match queue.recv_timeout(COLLECT_EVERY.saturating_sub(collected.elapsed())) {
            Ok(garbage) => drop_parts(garbage, counts),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        if collected.elapsed() >= COLLECT_EVERY {
            moon_alloc::collect();
            collected = Instant::now();
        }
    }
}

fn drop_parts(garbage: Garbage, counts: &Counts) {
    for part in garbage.parts() {
        let (objects, bytes) = (part.objects(), part.bytes());
        drop(part);
        counts.pending_objects.fetch_sub(objects, Relaxed);
        counts.pending_bytes.fetch_sub(bytes, Relaxed);
        counts.freed_objects.fetch_add(objects, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use moon_core::ShardId;
    use moon_store::{Key, ShardData, Value};

    #[test]
    fn what_was_sent_is_counted_until_it_is_dropped() {
        let free = LazyFree::start().unwrap();
        let mut data = ShardData::new(ShardId(0), 1, false);
        data.free_lazily(true);
        let large = || Value::string(&[b'x'; 2 << 20]);
        for key in [&b"a"[..], b"b", b"c"] {
            data.db(0).store(Key::new(key), large(), None);
        }
        data.db(0).delete(Key::new(b"a"));
        free.free(data.garbage());
        data.flush(0);
        free.free(data.garbage());
        free.free(data.garbage());
        while free.freed_objects() < 3 {
            std::thread::yield_now();
        }
        assert_eq!((free.pending_objects(), free.pending_bytes()), (0, 0));
    }
}
