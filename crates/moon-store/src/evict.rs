//! Which key goes when memory runs out: the policies, and a pool of the best candidates.
//!
//! As in Redis nothing is sorted and no list is kept: a few keys are looked at each time, at a
//! random place of the table, and the best of them join a small pool, from which the best of all
//! leaves. With five looks that comes near to true LRU or LFU. A candidate that was used since it
//! joined has lost its place: it is looked at again before it goes.

use crate::clock::AccessRule;
use crate::db::Db;
use crate::key::Key;
use crate::shard::{DbIndex, ShardData};

/// `maxmemory-policy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EvictionPolicy {
    /// No key goes; writes that need memory are refused.
    #[default]
    NoEviction,
    /// Any key, the longest unused first.
    AllKeysLru,
    /// Any key, the least used first.
    AllKeysLfu,
    /// Any key.
    AllKeysRandom,
    /// A key with a deadline, the longest unused first.
    VolatileLru,
    /// A key with a deadline, the least used first.
    VolatileLfu,
    /// A key with a deadline.
    VolatileRandom,
    /// A key with a deadline, the nearest first.
    VolatileTtl,
}

impl EvictionPolicy {
    /// All of them.
    pub const ALL: [EvictionPolicy; 8] = [
        EvictionPolicy::NoEviction,
        EvictionPolicy::AllKeysLru,
        EvictionPolicy::AllKeysLfu,
        EvictionPolicy::AllKeysRandom,
        EvictionPolicy::VolatileLru,
        EvictionPolicy::VolatileLfu,
        EvictionPolicy::VolatileRandom,
        EvictionPolicy::VolatileTtl,
    ];

    /// Whether uses of keys are counted (and not only the last one remembered).
    #[must_use]
    pub fn is_lfu(self) -> bool {
        matches!(
            self,
            EvictionPolicy::AllKeysLfu | EvictionPolicy::VolatileLfu
        )
    }

    fn is_random(self) -> bool {
        matches!(
            self,
            EvictionPolicy::AllKeysRandom | EvictionPolicy::VolatileRandom
        )
    }

    fn is_all_keys(self) -> bool {
        matches!(
            self,
            EvictionPolicy::AllKeysLru | EvictionPolicy::AllKeysLfu | EvictionPolicy::AllKeysRandom
        )
    }

    /// How many keys of a database may go.
    fn evictable(self, db: &Db) -> usize {
        match self {
            EvictionPolicy::NoEviction => 0,
            policy if policy.is_all_keys() => db.len(),
            _ => db.volatile_len(),
        }
    }
}

/// Candidates that the pool holds.
const POOL_LEN: usize = 16;

/// So often a pool whose candidates have all lost their place is filled again; then the first
/// that comes goes.
const ROUNDS_MAX: usize = 8;

/// How much a key should go: the highest does.
type Score = u64;

#[derive(Debug)]
struct Candidate {
    score: Score,
    db: DbIndex,
    key: Box<[u8]>,
}

/// The best candidates seen so far, the best last.
#[derive(Debug, Default)]
pub(crate) struct EvictionPool {
    /// What the scores mean.
    policy: EvictionPolicy,
    candidates: Vec<Candidate>,
    /// The database that a random key is taken from next.
    next_db: DbIndex,
}

impl EvictionPool {
    fn set_policy(&mut self, policy: EvictionPolicy) {
        if self.policy != policy {
            self.policy = policy;
            self.candidates.clear();
        }
    }

    fn offer(&mut self, score: Score, db: DbIndex, key: &[u8]) {
        let at = self.candidates.partition_point(|c| c.score < score);
        let is_full = self.candidates.len() >= POOL_LEN;
        if is_full && at == 0 {
            return;
        }
        let same = |c: &Candidate| c.score == score && c.db == db && *c.key == *key;
        if self.candidates[at..]
            .iter()
            .take_while(|c| c.score == score)
            .any(same)
        {
            return;
        }
        let key = key.into();
        let candidate = Candidate { score, db, key };
        if is_full {
            // The worst one makes room.
            self.candidates[..at].rotate_left(1);
            self.candidates[at - 1] = candidate;
        } else {
            self.candidates.insert(at, candidate);
        }
    }
}

/// A key that is to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Victim {
    /// Its database.
    pub db: DbIndex,
    /// Its name.
    pub key: Box<[u8]>,
}

impl ShardData {
    /// Whether there is a key that may go under `policy`. O(databases).
    #[must_use]
    pub fn has_evictable(&self, policy: EvictionPolicy) -> bool {
        self.dbs.iter().any(|db| policy.evictable(db) > 0)
    }

    /// The key that goes next under `policy`, after a look at `samples` more of each database.
    /// `rule` is how uses are remembered now. `None` if no key may go.
    ///
    /// A value that a walk has to write out whole before it can change is passed over while there
    /// is another choice.
    pub fn pick_victim(
        &mut self,
        policy: EvictionPolicy,
        samples: usize,
        rule: AccessRule,
        random: &mut dyn FnMut() -> u64,
    ) -> Option<Victim> {
        if !self.has_evictable(policy) {
            return None;
        }
        let mut pool = std::mem::take(&mut self.eviction);
        pool.set_policy(policy);
        let mut victim = None;
        for round in 0..ROUNDS_MAX {
            let is_last = round + 1 == ROUNDS_MAX;
            victim = if policy.is_random() {
                self.random_victim(policy, &mut pool.next_db, random)
                    .filter(|v| is_last || !self.is_held(v.db, Key::new(&v.key)))
            } else {
                self.fill(&mut pool, samples, rule, random);
                self.best_of(&mut pool, rule, is_last)
            };
            if victim.is_some() {
                break;
            }
        }
        self.eviction = pool;
        victim
    }

    fn fill(
        &self,
        pool: &mut EvictionPool,
        samples: usize,
        rule: AccessRule,
        random: &mut dyn FnMut() -> u64,
    ) {
        let policy = pool.policy;
        for (number, db) in (0..).zip(&self.dbs) {
            if policy.evictable(db) == 0 {
                continue;
            }
            let mut offer = |key: &[u8], score| pool.offer(score, number, key);
            db.sample(policy, random(), samples.max(1), rule, &mut offer);
        }
    }

    fn best_of(&self, pool: &mut EvictionPool, rule: AccessRule, take_any: bool) -> Option<Victim> {
        while let Some(Candidate { score, db, key }) = pool.candidates.pop() {
            let name = Key::new(&key);
            let now = self.dbs[usize::from(db)].eviction_score(name, pool.policy, rule);
            let may_go = match now {
                None => false,
                Some(now) => now >= score && !self.is_held(db, name),
            };
            if may_go || (take_any && now.is_some()) {
                return Some(Victim { db, key });
            }
        }
        None
    }

    fn random_victim(
        &self,
        policy: EvictionPolicy,
        next_db: &mut DbIndex,
        random: &mut dyn FnMut() -> u64,
    ) -> Option<Victim> {
        let count = self.dbs.len();
        for step in 0..count {
            let index = (usize::from(*next_db) + step) % count;
            let db = &self.dbs[index];
            if policy.evictable(db) == 0 {
                continue;
            }
            let number = DbIndex::try_from(index).unwrap_or(0);
            let key = db.random_evictable(policy.is_all_keys(), random())?;
            *next_db = DbIndex::try_from((index + 1) % count).unwrap_or(0);
            return Some(Victim { db: number, key });
        }
        None
    }
}

#[cfg(test)]
mod tests;
