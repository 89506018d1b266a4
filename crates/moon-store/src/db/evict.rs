//! A look at some keys of a database, for eviction.

use super::{Db, Entry, deadline};
use crate::clock::AccessRule;
use crate::evict::EvictionPolicy;
use crate::key::Key;
use crate::table::Keyed;

impl Db {
    /// Visits about `count` keys that may go under `policy`, from a place drawn by the random
    /// number `r` on, each with its score: the higher, the sooner it should go.
    pub(crate) fn sample(
        &self,
        policy: EvictionPolicy,
        r: u64,
        count: usize,
        rule: AccessRule,
        visit: &mut dyn FnMut(&[u8], u64),
    ) {
        match policy {
            EvictionPolicy::AllKeysLru | EvictionPolicy::AllKeysLfu => {
                self.table.sample(r, count, |entry| {
                    visit(entry.key(), score(entry, rule));
                });
            }
            EvictionPolicy::VolatileLru | EvictionPolicy::VolatileLfu => {
                self.expires.sample(r, count, |expire| {
                    let key = Key::new(expire.key());
                    if let Some(entry) = self.table.find(key) {
                        visit(key.bytes, score(entry, rule));
                    }
                });
            }
            EvictionPolicy::VolatileTtl => {
                self.expires.sample(r, count, |expire| {
                    visit(expire.key(), soonest_first(expire.at.0));
                });
            }
            // These do not compare keys.
            EvictionPolicy::NoEviction
            | EvictionPolicy::AllKeysRandom
            | EvictionPolicy::VolatileRandom => {}
        }
    }

    /// The score of one key as it is now; `None` if it is gone or may not go.
    pub(crate) fn eviction_score(
        &self,
        key: Key<'_>,
        policy: EvictionPolicy,
        rule: AccessRule,
    ) -> Option<u64> {
        let entry = self.table.find(key)?;
        let at = || deadline(&self.expires, entry, key);
        match policy {
            EvictionPolicy::AllKeysLru | EvictionPolicy::AllKeysLfu => Some(score(entry, rule)),
            EvictionPolicy::VolatileLru | EvictionPolicy::VolatileLfu => {
                at().map(|_| score(entry, rule))
            }
            EvictionPolicy::VolatileTtl => at().map(|at| soonest_first(at.0)),
            _ => None,
        }
    }

    /// Any key, or any with a deadline.
    pub(crate) fn random_evictable(&self, all_keys: bool, r: u64) -> Option<Box<[u8]>> {
        if all_keys {
            self.table.random(r).map(|entry| entry.key().into())
        } else {
            self.expires.random(r).map(|expire| expire.key().into())
        }
    }
}

fn score(entry: &Entry, rule: AccessRule) -> u64 {
    rule.unused(entry.key.clock())
}

/// A score that is the higher the earlier the deadline.
fn soonest_first(at: i64) -> u64 {
    // Order-preserving from i64 to u64, then reversed.
    !(at.cast_unsigned() ^ (1 << 63))
}
