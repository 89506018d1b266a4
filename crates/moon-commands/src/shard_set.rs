//! The data a command runs against: one shard in the fast path, several that were borrowed.

use moon_core::{ShardCount, ShardId};
use moon_store::{DbIndex, Key, ShardData, Value};

/// The shards in hand. A command is written once, against this.
///
/// While an executor holds several shards it is exactly a single-threaded server over them.
pub enum ShardSet<'a> {
    /// One shard; every key of the command is its.
    One(&'a mut ShardData),
    /// Several shards of an instance of `count`, at their own index; `None` was not borrowed.
    Many {
        /// Shards of the instance.
        count: ShardCount,
        /// The boxes in hand.
        shards: &'a mut [Option<Box<ShardData>>],
    },
}

impl ShardSet<'_> {
    /// The shard that owns `key`.
    ///
    /// # Panics
    /// When that shard was not borrowed: the command's scope or keys are described wrongly.
    #[inline]
    pub fn of_key(&mut self, key: &[u8]) -> &mut ShardData {
        match self {
            ShardSet::One(shard) => shard,
            ShardSet::Many { count, shards } => shards[count.shard_of_key(key).index()]
                .as_deref_mut()
                .expect("a command borrows the shards of all its keys"),
        }
    }

    /// The value of a key that is there, expired or not; notes nothing. For commands that look at
    /// several values at once, each of which they have looked up with [`crate::Cx`] before.
    ///
    /// # Panics
    /// As [`ShardSet::of_key`].
    pub(crate) fn peek(&self, db: DbIndex, key: Key<'_>) -> Option<&Value> {
        let shard = match self {
            ShardSet::One(shard) => &**shard,
            ShardSet::Many { count, shards } => shards[count.shard_of_key(key.bytes).index()]
                .as_deref()
                .expect("a command borrows the shards of all its keys"),
        };
        let (value, _) = shard.dbs[usize::from(db)].get(key)?;
        Some(value)
    }

    /// The same shards for a shorter time, so that one set serves several commands.
    pub fn reborrow(&mut self) -> ShardSet<'_> {
        match self {
            ShardSet::One(shard) => ShardSet::One(shard),
            ShardSet::Many { count, shards } => ShardSet::Many {
                count: *count,
                shards,
            },
        }
    }

    /// The shard `id`, if it is in hand.
    pub fn get(&mut self, id: ShardId) -> Option<&mut ShardData> {
        match self {
            ShardSet::One(shard) => (shard.id == id).then_some(&mut **shard),
            ShardSet::Many { shards, .. } => shards.get_mut(id.index())?.as_deref_mut(),
        }
    }

    /// Every shard in hand, in order.
    pub fn iter(&mut self) -> Box<dyn Iterator<Item = &mut ShardData> + '_> {
        match self {
            ShardSet::One(shard) => Box::new(std::iter::once(&mut **shard)),
            ShardSet::Many { shards, .. } => {
                Box::new(shards.iter_mut().filter_map(|shard| shard.as_deref_mut()))
            }
        }
    }
}
