//! Commands on hashes.
//!
//! * `access`: the hash at a key, for reading and for writing: where fields past their deadline
//!   disappear.
//! * `fields`: HSET and its kin, HGET and its kin, HDEL, HGETALL, HLEN.
//! * `numbers`: HINCRBY, HINCRBYFLOAT.
//! * `deadline`: HEXPIRE and its kin set deadlines of fields, HTTL and its kin show them,
//!   HPERSIST clears them.
//! * `combined`: HGETDEL, HGETEX, HSETEX: values and deadlines in one step.
//! * `pick`: HRANDFIELD, HSCAN.

pub(crate) mod access;
mod combined;
mod deadline;
mod fields;
mod numbers;
mod pick;

use crate::spec::{FIRST_KEY, commands};

commands! { "hash":
    "hset" -4 [WRITE DENYOOM FAST] FIRST_KEY, Keys, fields::hset,
        "write hash fast", "2.0.0", "O(N) for N pairs.",
        "Stores values in fields of a hash, which is created if needed.";
    "hmset" -4 [WRITE DENYOOM FAST] FIRST_KEY, Keys, fields::hmset,
        "write hash fast", "2.0.0", "O(N) for N pairs.",
        "Stores values in fields of a hash; HSET does the same and counts.";
    "hsetnx" 4 [WRITE DENYOOM FAST] FIRST_KEY, Keys, fields::hsetnx,
        "write hash fast", "2.0.0", "O(1)",
        "Stores a value in a field of a hash that has no such field.";
    "hincrby" 4 [WRITE DENYOOM FAST] FIRST_KEY, Keys, numbers::hincrby,
        "write hash fast", "2.0.0", "O(1)",
        "Adds an integer to the number in a field, which starts at 0.";
    "hincrbyfloat" 4 [WRITE DENYOOM FAST] FIRST_KEY, Keys, numbers::hincrbyfloat,
        "write hash fast", "2.6.0", "O(1)",
        "Adds a floating point number to the number in a field, which starts at 0.";
    "hdel" -3 [WRITE FAST FREES_MEMORY] FIRST_KEY, Keys, fields::hdel,
        "write hash fast", "2.0.0", "O(N) for N fields named.",
        "Removes fields, and the hash with its last one.";
    "hget" 3 [READONLY FAST] FIRST_KEY, Keys, fields::hget,
        "read hash fast", "2.0.0", "O(1)", "Answers the value of one field.";
    "hmget" -3 [READONLY FAST] FIRST_KEY, Keys, fields::hmget,
        "read hash fast", "2.0.0", "O(N) for N fields named.",
        "Answers the values of several fields, in the order asked for.";
    "hexists" 3 [READONLY FAST] FIRST_KEY, Keys, fields::hexists,
        "read hash fast", "2.0.0", "O(1)", "Tells whether a hash has a field.";
    "hlen" 2 [READONLY FAST] FIRST_KEY, Keys, fields::hlen,
        "read hash fast", "2.0.0", "O(1)", "Counts the fields of a hash.";
    "hstrlen" 3 [READONLY FAST] FIRST_KEY, Keys, fields::hstrlen,
        "read hash fast", "3.2.0", "O(1)", "Answers how many bytes the value of a field has.";
    "hgetall" 2 [READONLY] FIRST_KEY, Keys, fields::hgetall,
        "read hash slow", "2.0.0", "O(N) for a hash of N fields.",
        "Answers every field with its value.";
    "hkeys" 2 [READONLY] FIRST_KEY, Keys, fields::hkeys,
        "read hash slow", "2.0.0", "O(N) for a hash of N fields.",
        "Answers the names of all fields.";
    "hvals" 2 [READONLY] FIRST_KEY, Keys, fields::hvals,
        "read hash slow", "2.0.0", "O(N) for a hash of N fields.",
        "Answers the values of all fields.";
    "hrandfield" -2 [READONLY] FIRST_KEY, Keys, pick::hrandfield,
        "read hash slow", "6.2.0", "O(N) for N fields answered.",
        "Answers fields picked at random.";
    "hscan" -3 [READONLY] FIRST_KEY, Keys, pick::hscan,
        "read hash slow", "2.8.0",
        "O(1) for every call, O(N) for a whole walk through N fields.",
        "Walks through the fields of a hash.";
    "hexpire" -6 [WRITE DENYOOM FAST] FIRST_KEY, Keys, deadline::hexpire,
        "write hash fast", "7.4.0", "O(N) for N fields named.",
        "Sets the expiration time of fields in seconds.";
    "hpexpire" -6 [WRITE DENYOOM FAST] FIRST_KEY, Keys, deadline::hpexpire,
        "write hash fast", "7.4.0", "O(N) for N fields named.",
        "Sets the expiration time of fields in milliseconds.";
    "hexpireat" -6 [WRITE DENYOOM FAST] FIRST_KEY, Keys, deadline::hexpireat,
        "write hash fast", "7.4.0", "O(N) for N fields named.",
        "Sets the expiration time of fields to a Unix timestamp.";
    "hpexpireat" -6 [WRITE DENYOOM FAST] FIRST_KEY, Keys, deadline::hpexpireat,
        "write hash fast", "7.4.0", "O(N) for N fields named.",
        "Sets the expiration time of fields to a Unix timestamp in milliseconds.";
    "httl" -5 [READONLY FAST] FIRST_KEY, Keys, deadline::httl,
        "read hash fast", "7.4.0", "O(N) for N fields named.",
        "Answers the time to live of fields in seconds.";
    "hpttl" -5 [READONLY FAST] FIRST_KEY, Keys, deadline::hpttl,
        "read hash fast", "7.4.0", "O(N) for N fields named.",
        "Answers the time to live of fields in milliseconds.";
    "hexpiretime" -5 [READONLY FAST] FIRST_KEY, Keys, deadline::hexpiretime,
        "read hash fast", "7.4.0", "O(N) for N fields named.",
        "Answers the expiration time of fields as a Unix timestamp.";
    "hpexpiretime" -5 [READONLY FAST] FIRST_KEY, Keys, deadline::hpexpiretime,
        "read hash fast", "7.4.0", "O(N) for N fields named.",
        "Answers the expiration time of fields as a Unix timestamp in milliseconds.";
    "hpersist" -5 [WRITE FAST] FIRST_KEY, Keys, deadline::hpersist,
        "write hash fast", "7.4.0", "O(N) for N fields named.",
        "Removes the expiration time of fields.";
    "hgetdel" -5 [WRITE FAST FREES_MEMORY] FIRST_KEY, Keys, combined::hgetdel,
        "write hash fast", "8.0.0", "O(N) for N fields named.",
        "Answers the values of fields and removes the fields.";
    "hgetex" -5 [WRITE FAST] FIRST_KEY, Keys, combined::hgetex,
        "write hash fast", "8.0.0", "O(N) for N fields named.",
        "Answers the values of fields and sets or removes their expiration time.";
    "hsetex" -6 [WRITE DENYOOM FAST] FIRST_KEY, Keys, combined::hsetex,
        "write hash fast", "8.0.0", "O(N) for N pairs.",
        "Stores values in fields of a hash and sets the fields' expiration time.";
}

#[cfg(test)]
mod tests;
