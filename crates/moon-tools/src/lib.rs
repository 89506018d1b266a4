//! Offline tools over an append-only directory: look inside, restore to a point, change the shard count.
