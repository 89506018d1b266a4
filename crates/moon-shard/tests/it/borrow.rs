//! Commands over several shards: atomic, without deadlock, and every box comes home.
