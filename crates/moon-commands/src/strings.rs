//! Commands on strings.
//!
//! * [`set`]: SET and its kin, GETEX, GETDEL: whole values with a deadline.
//! * [`many`]: MGET, MSET, MSETNX.
//! * [`bytes`]: APPEND, STRLEN, GETRANGE, SETRANGE.
//! * [`numbers`]: INCR, DECR and their kin, INCRBYFLOAT.
//! * [`mod@lcs`]: LCS, the longest common subsequence.

mod bytes;
mod lcs;
mod many;
mod numbers;
mod set;

use crate::context::CommandResult;
use crate::error::CommandError;
use crate::spec::{ALL_KEYS, FIRST_KEY, Keys, commands};
use moon_resp::Reply;

use moon_store::{IntText, Kind, Value};

const PAIRS: Keys = Keys::Range {
    first: 1,
    last: -1,
    step: 2,
};
const TWO_KEYS: Keys = Keys::Range {
    first: 1,
    last: 2,
    step: 1,
};

commands! { "string":
    "get" 2 [READONLY FAST] FIRST_KEY, Keys, set::get,
        "read string fast", "1.0.0", "O(1)", "Returns the string value of a key.";
    "set" -3 [WRITE DENYOOM] FIRST_KEY, Keys, set::set,
        "write string slow", "1.0.0", "O(1)",
        "Sets the string value of a key, whatever its type. Creates the key if it doesn't exist.";
    "setnx" 3 [WRITE DENYOOM FAST] FIRST_KEY, Keys, set::setnx,
        "write string fast", "1.0.0", "O(1)",
        "Sets the string value of a key only when the key doesn't exist.";
    "setex" 4 [WRITE DENYOOM] FIRST_KEY, Keys, set::setex,
        "write string slow", "2.0.0", "O(1)",
        "Sets the string value and expiration time of a key in seconds.";
    "psetex" 4 [WRITE DENYOOM] FIRST_KEY, Keys, set::psetex,
        "write string slow", "2.6.0", "O(1)",
        "Sets the string value and expiration time of a key in milliseconds.";
    "getset" 3 [WRITE DENYOOM FAST] FIRST_KEY, Keys, set::getset,
        "write string fast", "1.0.0", "O(1)",
        "Returns the previous string value of a key after setting it to a new value.";
    "getex" -2 [WRITE FAST] FIRST_KEY, Keys, set::getex,
        "write string fast", "6.2.0", "O(1)",
        "Returns the string value of a key after setting its expiration time.";
    "getdel" 2 [WRITE FAST FREES_MEMORY] FIRST_KEY, Keys, set::getdel,
        "write string fast", "6.2.0", "O(1)",
        "Returns the string value of a key after deleting the key.";
    "mget" -2 [READONLY FAST] ALL_KEYS, Keys, many::mget,
        "read string fast", "1.0.0", "O(N) where N is the number of keys.",
        "Returns the string values of one or more keys in one atomic step.";
    "mset" -3 [WRITE DENYOOM] PAIRS, Keys, many::mset,
        "write string slow", "1.0.1", "O(N) where N is the number of keys.",
        "Sets the string values of one or more keys in one atomic step.";
    "msetnx" -3 [WRITE DENYOOM] PAIRS, Keys, many::msetnx,
        "write string slow", "1.0.1", "O(N) where N is the number of keys.",
        "Sets the string values of one or more keys only when none of them exists.";
    "append" 3 [WRITE DENYOOM FAST] FIRST_KEY, Keys, bytes::append,
        "write string fast", "2.0.0", "O(1) amortised, for a short appended value.",
        "Appends a string to the value of a key. Creates the key if it doesn't exist.";
    "strlen" 2 [READONLY FAST] FIRST_KEY, Keys, bytes::strlen,
        "read string fast", "2.2.0", "O(1)", "Returns the length of a string value.";
    "setrange" 4 [WRITE DENYOOM] FIRST_KEY, Keys, bytes::setrange,
        "write string slow", "2.2.0", "O(M) where M is the length of the value.",
        "Overwrites a part of a string value by an offset. Creates the key if it doesn't exist.";
    "getrange" 4 [READONLY] FIRST_KEY, Keys, bytes::getrange,
        "read string slow", "2.4.0", "O(N) where N is the length of the returned string.",
        "Returns a substring of the string stored at a key.";
    "substr" 4 [READONLY] FIRST_KEY, Keys, bytes::getrange,
        "read string slow", "1.0.0", "O(N) where N is the length of the returned string.",
        "Returns a substring from a string value.";
    "incr" 2 [WRITE DENYOOM FAST] FIRST_KEY, Keys, numbers::incr,
        "write string fast", "1.0.0", "O(1)",
        "Increments the integer value of a key by one. Uses 0 as initial value if the key doesn't exist.";
    "decr" 2 [WRITE DENYOOM FAST] FIRST_KEY, Keys, numbers::decr,
        "write string fast", "1.0.0", "O(1)",
        "Decrements the integer value of a key by one. Uses 0 as initial value if the key doesn't exist.";
    "incrby" 3 [WRITE DENYOOM FAST] FIRST_KEY, Keys, numbers::incrby,
        "write string fast", "1.0.0", "O(1)",
        "Increments the integer value of a key by a number. Uses 0 as initial value if the key doesn't exist.";
    "decrby" 3 [WRITE DENYOOM FAST] FIRST_KEY, Keys, numbers::decrby,
        "write string fast", "1.0.0", "O(1)",
        "Decrements a number from the integer value of a key. Uses 0 as initial value if the key doesn't exist.";
    "incrbyfloat" 3 [WRITE DENYOOM FAST] FIRST_KEY, Keys, numbers::incrbyfloat,
        "write string fast", "2.6.0", "O(1)",
        "Increments the floating point value of a key by a number. Uses 0 as initial value if the key doesn't exist.";
    "lcs" -3 [READONLY] TWO_KEYS, Keys, lcs::lcs,
        "read string slow", "7.0.0", "O(N*M) where N and M are the lengths of the two strings.",
        "Finds the longest common substring.";
}

/// Answers with a string value.
#[inline]
fn reply_string(reply: &mut Reply<'_>, value: &Value) -> CommandResult {
    let mut text = IntText::new();
    match value.as_bytes(&mut text) {
        Some(bytes) => {
            reply.bulk(bytes);
            Ok(())
        }
        None => Err(CommandError::WrongType),
    }
}

fn check_string(value: &Value) -> CommandResult {
    if value.kind() == Kind::String {
        Ok(())
    } else {
        Err(CommandError::WrongType)
    }
}
