//! Commands on sets.
//!
//! * [`members`]: SADD, SREM, SMOVE, and what tells of single members or of all.
//! * [`random`]: SPOP and SRANDMEMBER.
//! * [`algebra`]: intersections, unions, differences.

mod algebra;
mod members;
mod random;

use crate::context::Cx;
use crate::spec::{ALL_KEYS, FIRST_KEY, Keys, NUMKEYS, commands};
use moon_resp::Reply;
use moon_store::{Member, PackLimits, SetLimits};

/// A set that something is taken out of, and one that it goes to.
const TWO_KEYS: Keys = Keys::Range {
    first: 1,
    last: 2,
    step: 1,
};

commands! { "set":
    "sadd" -3 [WRITE DENYOOM FAST] FIRST_KEY, Keys, members::sadd,
        "write set fast", "1.0.0", "O(N) for N members given.",
        "Adds members to a set, which is created if needed.";
    "srem" -3 [WRITE FAST FREES_MEMORY] FIRST_KEY, Keys, members::srem,
        "write set fast", "1.0.0", "O(N) for N members given.",
        "Removes members, and the set with its last one.";
    "smove" 4 [WRITE FAST] TWO_KEYS, Keys, members::smove,
        "write set fast", "1.0.0", "O(1)",
        "Moves a member from one set to another.";
    "scard" 2 [READONLY FAST] FIRST_KEY, Keys, members::scard,
        "read set fast", "1.0.0", "O(1)",
        "Counts the members of a set.";
    "sismember" 3 [READONLY FAST] FIRST_KEY, Keys, members::sismember,
        "read set fast", "1.0.0", "O(1)",
        "Tells whether something is a member of a set.";
    "smismember" -3 [READONLY FAST] FIRST_KEY, Keys, members::smismember,
        "read set fast", "6.2.0", "O(N) for N members asked for.",
        "Tells of several things whether they are members of a set.";
    "smembers" 2 [READONLY] FIRST_KEY, Keys, members::smembers,
        "read set slow", "1.0.0", "O(N) for a set of N members.",
        "Answers every member of a set.";
    "sscan" -3 [READONLY] FIRST_KEY, Keys, members::sscan,
        "read set slow", "2.8.0", "O(1) for every call, O(N) for all N members.",
        "Answers some members of a set, and the cursor to go on with.";
    "spop" -2 [WRITE FAST FREES_MEMORY] FIRST_KEY, Keys, random::spop,
        "write set fast", "1.0.0", "O(N) for N members removed.",
        "Takes one or several members at random out of a set.";
    "srandmember" -2 [READONLY] FIRST_KEY, Keys, random::srandmember,
        "read set slow", "1.0.0", "O(N) for N members answered.",
        "Answers one or several members at random and leaves them.";
    "sinter" -2 [READONLY] ALL_KEYS, Keys, algebra::sinter,
        "read set slow", "1.0.0", "O(N*M) for M sets, the smallest of N members.",
        "Answers the members that several sets have in common.";
    "sinterstore" -3 [WRITE DENYOOM] ALL_KEYS, Keys, algebra::sinterstore,
        "write set slow", "1.0.0", "O(N*M) for M sets, the smallest of N members.",
        "Stores the members that several sets have in common.";
    "sintercard" -3 [READONLY MOVABLEKEYS] NUMKEYS, Keys, algebra::sintercard,
        "read set slow", "7.0.0", "O(N*M) for M sets, the smallest of N members.",
        "Counts the members that several sets have in common, up to a limit.";
    "sunion" -2 [READONLY] ALL_KEYS, Keys, algebra::sunion,
        "read set slow", "1.0.0", "O(N) for N members in all.",
        "Answers the members that any of several sets has.";
    "sunionstore" -3 [WRITE DENYOOM] ALL_KEYS, Keys, algebra::sunionstore,
        "write set slow", "1.0.0", "O(N) for N members in all.",
        "Stores the members that any of several sets has.";
    "sdiff" -2 [READONLY] ALL_KEYS, Keys, algebra::sdiff,
        "read set slow", "1.0.0", "O(N) for N members in all.",
        "Answers the members of a set that several others do not have.";
    "sdiffstore" -3 [WRITE DENYOOM] ALL_KEYS, Keys, algebra::sdiffstore,
        "write set slow", "1.0.0", "O(N) for N members in all.",
        "Stores the members of a set that several others do not have.";
}

fn set_limits(cx: &Cx<'_>) -> SetLimits {
    SetLimits {
        intset_entries: cx.limits.set_max_intset_entries,
        pack: PackLimits {
            entries: cx.limits.set_max_listpack_entries,
            value_bytes: cx.limits.set_max_listpack_value,
        },
    }
}

fn write_member(reply: &mut Reply<'_>, member: Member<'_>) {
    match member {
        Member::Int(number) => reply.bulk_integer(number),
        Member::Bytes(bytes) => reply.bulk(bytes),
    }
}

#[cfg(test)]
mod tests;
