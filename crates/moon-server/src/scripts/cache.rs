//! The scripts that the process knows: texts by digest.
//!
//! Each shard's engine compiles what it runs and keeps it, so this map is asked only where an
//! engine does not know a digest. Scripts that came with EVAL give way when there are many of
//! them; those of SCRIPT LOAD stay until SCRIPT FLUSH.

use moon_script::ScriptSha;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Scripts that came with EVAL and are kept, as in Redis 7.4.
pub(super) const EVALUATED_MAX: usize = 500;

/// Where a script came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// SCRIPT LOAD: it stays.
    Loaded,
    /// EVAL: it may give way.
    Evaluated,
}

#[derive(Debug)]
struct Script {
    body: Arc<[u8]>,
    origin: Origin,
}

#[derive(Debug, Default)]
struct Known {
    by_sha: HashMap<ScriptSha, Script>,
    /// Those that may give way, the oldest first. One that was loaded since may still be here.
    evaluated: VecDeque<ScriptSha>,
    bytes: usize,
}

/// The scripts of the process.
#[derive(Debug, Default)]
pub(crate) struct ScriptCache {
    known: Mutex<Known>,
    /// Raised by every SCRIPT FLUSH; engines that remember another one forget their scripts.
    flushes: AtomicU64,
    evicted: AtomicU64,
}

impl ScriptCache {
    fn known(&self) -> MutexGuard<'_, Known> {
        // A panic aborts the process, so a poisoned lock is never seen.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How often the scripts were flushed.
    pub(super) fn flushes(&self) -> u64 {
        self.flushes.load(Acquire)
    }

    /// The text of a script, and where it came from.
    pub(super) fn get(&self, sha: &ScriptSha) -> Option<(Arc<[u8]>, Origin)> {
        let known = self.known();
        let script = known.by_sha.get(sha)?;
        Some((Arc::clone(&script.body), script.origin))
    }

    /// Whether a script is known.
    pub(super) fn contains(&self, sha: &ScriptSha) -> bool {
        self.known().by_sha.contains_key(sha)
    }

    /// Keeps a script. The oldest that came with EVAL give way.
    pub(super) fn insert(&self, sha: ScriptSha, body: &[u8], origin: Origin) {
        let mut known = self.known();
        let known = &mut *known;
        if let Some(script) = known.by_sha.get_mut(&sha) {
            if origin == Origin::Loaded && script.origin == Origin::Evaluated {
                script.origin = Origin::Loaded;
                known.evaluated.retain(|other| *other != sha);
            }
            return;
        }
        known.bytes += body.len();
        let body = body.into();
        known.by_sha.insert(sha, Script { body, origin });
        if origin == Origin::Loaded {
            return;
        }
        known.evaluated.push_back(sha);
        while known.evaluated.len() > EVALUATED_MAX {
            let oldest = known.evaluated.pop_front();
            if let Some(script) = oldest.and_then(|sha| known.by_sha.remove(&sha)) {
                known.bytes -= script.body.len();
                self.evicted.fetch_add(1, Release);
            }
        }
    }

    /// Forgets all scripts. Engines follow before they run the next one.
    pub(super) fn flush(&self) {
        let mut known = self.known();
        *known = Known::default();
        self.flushes.fetch_add(1, Release);
    }

    /// How many there are, the bytes of their texts, and how many gave way since the start.
    pub(super) fn counts(&self) -> (u64, u64, u64) {
        let known = self.known();
        let scripts = known.by_sha.len() as u64;
        (scripts, known.bytes as u64, self.evicted.load(Acquire))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sha(n: usize) -> ScriptSha {
        ScriptSha::of(n.to_string().as_bytes())
    }

    #[test]
    fn scripts_of_eval_give_way_and_loaded_ones_stay() {
        let cache = ScriptCache::default();
        cache.insert(sha(0), b"0", Origin::Loaded);
        cache.insert(sha(1), b"1", Origin::Evaluated);
        cache.insert(sha(1), b"1", Origin::Loaded);
        for n in 2..EVALUATED_MAX + 4 {
            cache.insert(sha(n), b"n", Origin::Evaluated);
        }
        let kept: Vec<_> = (0..6).map(|n| cache.contains(&sha(n))).collect();
        assert_eq!(kept, [true, true, false, false, true, true]);
        let expected = EVALUATED_MAX as u64 + 2;
        assert_eq!(cache.counts(), (expected, expected, 2));
        cache.flush();
        assert_eq!((cache.counts(), cache.flushes()), ((0, 0, 2), 1));
    }
}
