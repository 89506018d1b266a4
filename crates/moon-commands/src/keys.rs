//! Commands on keys of any type.
//!
//! * [`presence`]: DEL, UNLINK, EXISTS, TOUCH, TYPE, OBJECT.
//! * [`deadline`]: EXPIRE and its kin, TTL and its kin, PERSIST.
//! * [`relocate`]: RENAME, RENAMENX, COPY, MOVE.

mod deadline;
pub(crate) mod presence;
mod relocate;

use crate::spec::{ALL_KEYS, FIRST_KEY, Keys, commands};

const TWO_KEYS: Keys = Keys::Range {
    first: 1,
    last: 2,
    step: 1,
};
commands! { "generic":
    "del" -2 [WRITE FREES_MEMORY] ALL_KEYS, Keys, presence::del,
        "keyspace write slow", "1.0.0", "O(N) where N is the number of keys.",
        "Deletes one or more keys.";
    "unlink" -2 [WRITE FAST FREES_MEMORY] ALL_KEYS, Keys, presence::unlink,
        "keyspace write fast", "4.0.0", "O(1) for each key removed.",
        "Deletes one or more keys and frees their memory later.";
    "exists" -2 [READONLY FAST] ALL_KEYS, Keys, presence::exists,
        "keyspace read fast", "1.0.0", "O(N) where N is the number of keys.",
        "Determines how many of the given keys exist.";
    "touch" -2 [READONLY FAST] ALL_KEYS, Keys, presence::touch,
        "keyspace read fast", "3.2.1", "O(N) where N is the number of keys.",
        "Returns how many of the given keys exist after updating the time they were last accessed.";
    "type" 2 [READONLY FAST] FIRST_KEY, Keys, presence::type_of,
        "keyspace read fast", "1.0.0", "O(1)", "Determines the type of value stored at a key.";
    "expire" -3 [WRITE FAST] FIRST_KEY, Keys, deadline::expire,
        "keyspace write fast", "1.0.0", "O(1)", "Sets the expiration time of a key in seconds.";
    "pexpire" -3 [WRITE FAST] FIRST_KEY, Keys, deadline::pexpire,
        "keyspace write fast", "2.6.0", "O(1)",
        "Sets the expiration time of a key in milliseconds.";
    "expireat" -3 [WRITE FAST] FIRST_KEY, Keys, deadline::expireat,
        "keyspace write fast", "1.2.0", "O(1)",
        "Sets the expiration time of a key to a Unix timestamp.";
    "pexpireat" -3 [WRITE FAST] FIRST_KEY, Keys, deadline::pexpireat,
        "keyspace write fast", "2.6.0", "O(1)",
        "Sets the expiration time of a key to a Unix timestamp in milliseconds.";
    "ttl" 2 [READONLY FAST] FIRST_KEY, Keys, deadline::ttl,
        "keyspace read fast", "1.0.0", "O(1)",
        "Returns the expiration time of a key in seconds.";
    "pttl" 2 [READONLY FAST] FIRST_KEY, Keys, deadline::pttl,
        "keyspace read fast", "2.6.0", "O(1)",
        "Returns the expiration time of a key in milliseconds.";
    "expiretime" 2 [READONLY FAST] FIRST_KEY, Keys, deadline::expiretime,
        "keyspace read fast", "7.0.0", "O(1)",
        "Returns the expiration time of a key as a Unix timestamp.";
    "pexpiretime" 2 [READONLY FAST] FIRST_KEY, Keys, deadline::pexpiretime,
        "keyspace read fast", "7.0.0", "O(1)",
        "Returns the expiration time of a key as a Unix timestamp in milliseconds.";
    "persist" 2 [WRITE FAST] FIRST_KEY, Keys, deadline::persist,
        "keyspace write fast", "2.2.0", "O(1)", "Removes the expiration time of a key.";
    "rename" 3 [WRITE] TWO_KEYS, Keys, relocate::rename,
        "keyspace write slow", "1.0.0", "O(1)",
        "Renames a key and overwrites the destination.";
    "renamenx" 3 [WRITE FAST] TWO_KEYS, Keys, relocate::renamenx,
        "keyspace write fast", "1.0.0", "O(1)",
        "Renames a key only when the target key name doesn't exist.";
    "copy" -3 [WRITE DENYOOM] TWO_KEYS, Keys, relocate::copy,
        "keyspace write slow", "6.2.0", "O(N) where N is the size of the value.",
        "Copies the value of a key to a new key.";
    "move" 3 [WRITE FAST] FIRST_KEY, Keys, relocate::move_key,
        "keyspace write fast", "1.0.0", "O(1)", "Moves a key to another database.";
}
