//! The memory limit: one for the instance, kept by each shard with its own keys.
//!
//! What counts is what the allocator has set aside, without what would come back by itself
//! ([`Memory::counted`]). Before a command that may grow memory runs, its shard evicts until the
//! instance is within the limit, for a bounded time; the deletions are in the log before the
//! command's effects. If the time was not enough the command runs all the same and the shard's
//! evictor goes on between other work. A shard that has nothing to evict, or much less than
//! another, asks the others to, and only when no shard has anything the command is refused.
//!
//! The sum over all threads is taken at most once per millisecond and shard; in between a shard
//! knows what its own thread has allocated, which is nearly all that matters.

use crate::lazy_free::LazyFree;
use crate::mailbox::ControlMessage;
use crate::running::{Running, tell_events};
use crate::shard::{Core, Shard};
use moon_commands::evict::evict_one;
use moon_core::{ShardCount, ShardId, UnixMs};
use moon_store::{EvictionPolicy, Garbage, ShardData, THIS_TURN};
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::{Duration, Instant};

/// Bytes that the allocator has set aside.
pub type Measure = Box<dyn Fn() -> u64 + Send + Sync>;

/// What all shards know about memory.
pub struct Memory {
    measure: Measure,
    lazy_free: LazyFree,
    shards: Box<[ShardMemory]>,
}

/// What one shard tells the others, on cache lines of its own.
#[derive(Default)]
#[repr(align(128))]
struct ShardMemory {
    /// Bytes that go when the log is written: effects and frames.
    on_the_way: AtomicU64,
    /// Bytes of images of a walk.
    images: AtomicU64,
    /// Bytes of the data.
    data: AtomicU64,
    /// Whether there are keys, and keys with a deadline.
    has_keys: AtomicBool,
    has_volatile: AtomicBool,
}

impl ShardMemory {
    fn has_evictable(&self, policy: EvictionPolicy) -> bool {
        match policy {
            EvictionPolicy::NoEviction => false,
            EvictionPolicy::AllKeysLru
            | EvictionPolicy::AllKeysLfu
            | EvictionPolicy::AllKeysRandom => self.has_keys.load(Relaxed),
            EvictionPolicy::VolatileLru
            | EvictionPolicy::VolatileLfu
            | EvictionPolicy::VolatileRandom
            | EvictionPolicy::VolatileTtl => self.has_volatile.load(Relaxed),
        }
    }
}

impl Memory {
    /// The memory of an instance of `count` shards as the allocator counts it.
    #[must_use]
    pub fn new(count: ShardCount, lazy_free: LazyFree) -> Arc<Memory> {
        Memory::measured(count, lazy_free, Box::new(moon_alloc::allocated))
    }

    /// As [`Memory::new`], measured by `measure`.
    #[must_use]
    pub fn measured(count: ShardCount, lazy_free: LazyFree, measure: Measure) -> Arc<Memory> {
        Arc::new(Memory {
            measure,
            lazy_free,
            shards: count.ids().map(|_| ShardMemory::default()).collect(),
        })
    }

    /// Bytes in use, all of them.
    #[must_use]
    pub fn used(&self) -> u64 {
        (self.measure)()
    }

    /// Bytes that do not count towards `limit` (0 for none) because they go by themselves: what the
    /// log has not written yet, up to a small part of the limit; images and garbage. If images
    /// counted, evictions during a walk would not help: each makes one.
    #[must_use]
    pub fn uncounted(&self, limit: u64) -> u64 {
        let sum = |of: fn(&ShardMemory) -> &AtomicU64| -> u64 {
            self.shards
                .iter()
                .map(|shard| of(shard).load(Relaxed))
                .sum()
        };
        let most = if limit == 0 { u64::MAX } else { limit / SLACK };
        let on_the_way = sum(|shard| &shard.on_the_way).min(most);
        on_the_way + sum(|shard| &shard.images) + self.lazy_free.pending_bytes()
    }

    /// Bytes that count towards `limit`.
    #[must_use]
    pub fn counted(&self, limit: u64) -> u64 {
        self.used().saturating_sub(self.uncounted(limit))
    }

    /// Drops what is large.
    #[must_use]
    pub fn lazy_free(&self) -> &LazyFree {
        &self.lazy_free
    }
}

/// What a shard knows of [`Memory::counted`] between two sums.
#[derive(Default)]
pub(crate) struct Budget {
    /// The sum when it was taken, and then.
    counted: Cell<u64>,
    at: Cell<UnixMs>,
    /// This thread's counter then.
    here: Cell<i64>,
    /// Bytes of effects, and of images, then.
    effects: Cell<usize>,
    images: Cell<usize>,
    /// Bytes given to the lazy free since.
    handed: Cell<u64>,
    /// When the others were asked to evict.
    asked: Cell<UnixMs>,
    /// Another shard asked: evict to somewhat below the limit.
    owes: Cell<bool>,
}

/// This part of the limit is room that a shard gets that asked the others to evict, how far it may
/// go beyond the limit meanwhile, and how much on its way to the log does not count.
const SLACK: u64 = 128;

/// Bound of what each of `shards` has executed and not made safe, of the `configured` one and
/// what a memory limit leaves: what is on its way to the log takes room from the data.
#[must_use]
pub fn inflight_bytes_max(configured: u64, maxmemory: u64, shards: ShardCount) -> u64 {
    /// Below this every sync would be for next to nothing.
    const AT_LEAST: u64 = 1 << 20;
    const PART: u64 = 8;
    if maxmemory == 0 {
        return configured;
    }
    let each = maxmemory / PART / u64::from(shards.get());
    configured.min(each.max(AT_LEAST))
}

/// How an eviction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Evicted {
    /// There is room.
    Enough,
    /// No key may go any more.
    NoMore,
    /// The time was over.
    OutOfTime,
}

/// How long a command may be held up by evictions: 0.5 ms at the default of 10, and more and more
/// above it.
fn time_for(tenacity: u32) -> Duration {
    const LONGEST: Duration = Duration::from_millis(100);
    if tenacity <= 10 {
        return Duration::from_micros(50) * tenacity;
    }
    let factor = 1.15f64.powi(i32::try_from(tenacity.min(100)).unwrap_or(100) - 10);
    Duration::from_micros(500).mul_f64(factor).min(LONGEST)
}

impl Budget {
    /// Takes the sum.
    fn refresh(&self, memory: &Memory, id: ShardId, core: &Core, now: UnixMs) {
        let images = core.data.as_ref().map_or(0, |data| data.image_bytes());
        let effects = core.effects.len();
        let on_the_way = core.log.bytes_at_risk() + effects as u64;
        let own = &memory.shards[id.index()];
        own.on_the_way.store(on_the_way, Relaxed);
        own.images.store(images as u64, Relaxed);
        self.counted.set(memory.counted(core.limits.maxmemory));
        self.at.set(now);
        self.here.set(moon_alloc::allocated_here().unwrap_or(0));
        self.effects.set(effects);
        self.images.set(images);
        self.handed.set(0);
    }

    /// What counts now, as far as this shard knows.
    #[inline]
    fn estimate(&self, core: &Core) -> u64 {
        let here = moon_alloc::allocated_here().unwrap_or(0);
        let grown = here.wrapping_sub(self.here.get());
        let walked = core.data.as_ref().filter(|data| data.is_walking());
        let images = walked.map_or(0, |data| data.image_bytes());
        let more_images = images.cast_signed() - self.images.get().cast_signed();
        let effects = core.effects.len().saturating_sub(self.effects.get());
        let gone = effects as u64 + self.handed.get();
        let grown = grown.saturating_sub(more_images as i64);
        self.counted
            .get()
            .saturating_add_signed(grown)
            .saturating_sub(gone)
    }
}

impl Shard {
    /// Gives what was removed to the thread that drops it.
    pub(crate) fn free(&self, garbage: Garbage) {
        if !garbage.is_empty() {
            let budget = &self.budget;
            budget.handed.set(budget.handed.get() + garbage.bytes());
            self.shared.memory.lazy_free.free(garbage);
        }
    }

    /// Tells the others about the data.
    pub(crate) fn publish_memory(&self, data: &ShardData) {
        let own = &self.shared.memory.shards[self.config.id.index()];
        own.data.store(data.memory() as u64, Relaxed);
        let has = |policy| data.has_evictable(policy);
        own.has_keys.store(has(EvictionPolicy::AllKeysLru), Relaxed);
        own.has_volatile
            .store(has(EvictionPolicy::VolatileLru), Relaxed);
    }

    /// Whether a command that may grow memory can run, wherever its keys are: true, after
    /// evictions if they were needed, or somebody evicts now.
    #[must_use]
    pub fn has_memory(&self) -> bool {
        if self.core.borrow().limits.maxmemory == 0 {
            return true;
        }
        match self.begin() {
            Some(mut running) => running.has_memory(),
            None => {
                // The executor that has the data is about to give it back.
                let limits = Arc::clone(&self.core.borrow().limits);
                self.shared.memory.counted(limits.maxmemory) <= limits.maxmemory
                    || self.ask_others(limits.maxmemory_policy, None)
            }
        }
    }

    /// Asks the shards that have keys to evict, and more data than `above`, to do so; whether
    /// there are any.
    fn ask_others(&self, policy: EvictionPolicy, above: Option<u64>) -> bool {
        let before = self.budget.asked.replace(crate::shard::unix_now());
        let is_new = before != self.budget.asked.get();
        let mut any = false;
        for (id, shard) in self.count().ids().zip(&self.shared.memory.shards) {
            let is_meant = id != self.id()
                && shard.has_evictable(policy)
                && above.is_none_or(|above| shard.data.load(Relaxed) > above);
            any |= is_meant;
            if is_meant && is_new {
                let errand = Box::new(|shard: &std::rc::Rc<Shard>| {
                    shard.budget.owes.set(true);
                    shard.evictor.notify_one();
                });
                let mailbox = self.directory().of(id);
                mailbox.send_control(ControlMessage::Run(errand));
            }
        }
        any
    }

    /// Evicts for a while if the instance is beyond the limit or another shard has asked for it;
    /// whether there is more to do at once.
    pub(crate) fn evict_slice(&self) -> bool {
        let limit = self.core.borrow().limits.maxmemory;
        if limit == 0 || self.keeps_expired() {
            self.budget.owes.set(false);
            return false;
        }
        let Some(mut running) = self.begin() else {
            return false;
        };
        running.refresh_memory();
        let target = match self.budget.owes.get() {
            true => limit - limit / SLACK,
            false => limit,
        };
        let time = time_for(running.core.limits.maxmemory_eviction_tenacity);
        let is_more = running.evict_to(target, time) == Evicted::OutOfTime;
        if running.data().waits.has_ready() {
            running.serve_waiting();
        }
        if !is_more {
            self.budget.owes.set(false);
        }
        is_more
    }

    /// Now and then: what others must know, and the evictor if it is needed.
    pub(crate) fn tick_memory(&self) {
        let core = self.core.borrow();
        let limits = Arc::clone(&core.limits);
        let Some(data) = &core.data else { return };
        self.publish_memory(data);
        self.budget.refresh(
            &self.shared.memory,
            self.id(),
            &core,
            crate::shard::unix_now(),
        );
        if limits.maxmemory > 0 && self.budget.counted.get() > limits.maxmemory {
            self.evictor.notify_one();
        }
    }
}

impl Running<'_> {
    /// Whether a command that may grow memory can run now. Evicts if the instance is beyond its
    /// limit; not within a transaction, whose EXEC asked before.
    #[inline]
    pub fn has_memory(&mut self) -> bool {
        let limit = self.core.limits.maxmemory;
        // In a pause nothing is evicted, and nothing is refused for want of memory, as in Redis.
        if limit == 0 || self.in_transaction || self.shard.pause().is_on() {
            return true;
        }
        if self.shard.budget.at.get() != self.now {
            self.refresh_memory();
        }
        self.shard.budget.estimate(&self.core) <= limit || self.make_room(limit)
    }

    #[cold]
    fn make_room(&mut self, limit: u64) -> bool {
        // What others have freed meanwhile counts.
        self.refresh_memory();
        let over = (self.shard.budget.counted.get()).saturating_sub(limit);
        if over == 0 {
            return true;
        }
        let limits = Arc::clone(&self.core.limits);
        if limits.maxmemory_policy == EvictionPolicy::NoEviction {
            return false;
        }
        if over < limit / SLACK {
            let mine = self.data().memory() as u64;
            if (self.shard).ask_others(limits.maxmemory_policy, Some(mine.saturating_mul(2))) {
                return true;
            }
        }
        match self.evict_to(limit, time_for(limits.maxmemory_eviction_tenacity)) {
            Evicted::Enough => true,
            Evicted::OutOfTime => {
                self.shard.evictor.notify_one();
                true
            }
            Evicted::NoMore => self.shard.ask_others(limits.maxmemory_policy, None),
        }
    }

    fn refresh_memory(&mut self) {
        let shard = self.shard;
        let memory = &shard.shared.memory;
        shard
            .budget
            .refresh(memory, shard.id(), &self.core, self.now);
    }

    /// Evicts keys of this shard until `target` bytes count or `time` is over.
    fn evict_to(&mut self, target: u64, time: Duration) -> Evicted {
        /// Keys between two looks at the clock.
        const BATCH: u64 = 16;
        let shard = self.shard;
        let started = Instant::now();
        let limits = Arc::clone(&self.core.limits);
        let was_clean = self.core.effects.is_empty();
        let mut keys = 0;
        let ended = loop {
            if shard.budget.estimate(&self.core) <= target {
                break Evicted::Enough;
            }
            let Core {
                data, effects, rng, ..
            } = &mut *self.core;
            let data = data
                .as_mut()
                .expect("the data is at home while commands run");
            if !evict_one(data, self.now, &limits, effects, rng) {
                break Evicted::NoMore;
            }
            keys += 1;
            shard.free(data.garbage());
            if keys % BATCH == 0 && started.elapsed() >= time {
                break Evicted::OutOfTime;
            }
        };
        let taken = started.elapsed();
        self.meter.leave_out(taken);
        if keys > 0 {
            shard.observer.evicted(keys);
            tell_events(&*shard.observer, &mut self.core.effects, THIS_TURN);
            shard.observer.eviction_cycle(taken);
        }
        if was_clean && !self.core.effects.is_empty() {
            shard.open_turn();
        }
        ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenacity_stretches_the_time_for_evictions() {
        assert_eq!(time_for(0), Duration::ZERO);
        assert_eq!(time_for(10), Duration::from_micros(500));
        assert!(time_for(20) > Duration::from_millis(2));
        assert_eq!(time_for(100), Duration::from_millis(100));
    }
}
