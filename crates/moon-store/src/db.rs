//! One numbered database: keys, values, deadlines.

use crate::key::Key;
use crate::value::Value;
use hashbrown::HashMap;
use moon_core::UnixMs;

/// When a key expires: at this time it is gone. `None` means never.
pub type Deadline = Option<UnixMs>;

/// Keys with their values and deadlines. Knows nothing of "now": a key past its deadline is
/// present here until somebody removes it.
#[derive(Debug, Default)]
pub struct Db {
    keys: HashMap<Box<[u8]>, (Value, Deadline)>,
}

impl Db {
    /// Number of keys, those past their deadline included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there are no keys.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Number of keys with a deadline.
    #[must_use]
    pub fn volatile_len(&self) -> usize {
        self.keys.values().filter(|(_, d)| d.is_some()).count()
    }

    /// The value and deadline of a key.
    #[must_use]
    pub fn get(&self, key: Key<'_>) -> Option<(&Value, Deadline)> {
        self.keys.get(key.bytes).map(|(v, d)| (v, *d))
    }

    /// The value of a key, to change it in place.
    pub fn get_mut(&mut self, key: Key<'_>) -> Option<&mut Value> {
        self.keys.get_mut(key.bytes).map(|(v, _)| v)
    }

    /// Stores a value with a deadline; returns what was there.
    pub fn insert(&mut self, key: Key<'_>, value: Value, deadline: Deadline) -> Option<Value> {
        self.keys
            .insert(key.bytes.into(), (value, deadline))
            .map(|(v, _)| v)
    }

    /// Sets or clears the deadline; `false` if the key is missing.
    pub fn set_deadline(&mut self, key: Key<'_>, deadline: Deadline) -> bool {
        self.keys
            .get_mut(key.bytes)
            .map(|(_, d)| *d = deadline)
            .is_some()
    }

    /// Removes a key; returns what was there.
    pub fn remove(&mut self, key: Key<'_>) -> Option<(Value, Deadline)> {
        self.keys.remove(key.bytes)
    }
}
