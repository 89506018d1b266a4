//! A key as a command sees it: its bytes and their hash.

use foldhash::quality::FixedState;
use std::hash::BuildHasher;
use std::sync::OnceLock;

static HASHER: OnceLock<FixedState> = OnceLock::new();

/// Seeds the hash of keys for this process, so that nobody can prepare colliding keys. Only the
/// first call counts; without one the seed is 0.
pub fn seed_key_hash(seed: u64) {
    HASHER.get_or_init(|| FixedState::with_seed(seed));
}

/// The bytes of a key with their hash. All shards and databases use the same hash, so a key is
/// hashed once per command.
#[derive(Clone, Copy, Debug)]
pub struct Key<'a> {
    /// The key itself.
    pub bytes: &'a [u8],
    /// Its hash.
    pub hash: u64,
}

impl<'a> Key<'a> {
    /// Hashes `bytes`.
    #[inline]
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Key<'a> {
        let hasher = HASHER.get_or_init(|| FixedState::with_seed(0));
        Key {
            bytes,
            hash: hasher.hash_one(bytes),
        }
    }
}
