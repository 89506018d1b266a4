//! What a command does to each of its keys, as COMMAND INFO and GETKEYSANDFLAGS tell it.
//!
//! The first word is how the key as a whole is used: `RO` read, `RW` read and changed, `OW`
//! overwritten, `RM` removed. The others are about what it holds: `access` answers or copies some
//! of it, `update` changes it, `insert` and `delete` only add to it or take from it.

use crate::spec::{CommandSpec, Flags, Keys};
use crate::subcommands;
use moon_resp::Args;

/// A group of keys of a command.
pub(crate) struct KeySpec {
    /// What is done to them.
    pub(crate) flags: &'static [&'static str],
    /// Where they are; `None` if it takes more than positions to tell.
    pub(crate) place: Option<KeyPlace>,
}

/// Where keys are.
#[derive(Clone, Copy)]
pub(crate) enum KeyPlace {
    /// At positions.
    Range(KeyRange),
    /// Behind a number at this index that counts them.
    Numkeys(i64),
}

/// Positions of keys.
#[derive(Clone, Copy)]
pub(crate) struct KeyRange {
    /// The first key.
    pub(crate) first: i64,
    /// The last, counted from the first; negative: from the end.
    pub(crate) last: i64,
    /// The distance between keys.
    pub(crate) step: i64,
}

/// The key at index 1.
const FIRST: KeyRange = KeyRange {
    first: 1,
    last: 0,
    step: 1,
};

/// The groups of keys of a command; none for a container.
pub(crate) fn key_specs(spec: &CommandSpec) -> Vec<KeySpec> {
    let groups = flag_groups(spec);
    match spec.keys {
        _ if !subcommands::of(spec.name).is_empty() => Vec::new(),
        Keys::None => Vec::new(),
        Keys::Found(_) => (0..)
            .zip(groups)
            .map(|(nth, flags)| KeySpec {
                flags,
                place: usual_place(spec.name).filter(|_| nth == 0),
            })
            .collect(),
        Keys::FirstAndFound(_) => groups
            .iter()
            .enumerate()
            .map(|(nth, flags)| KeySpec {
                flags,
                place: (nth == 0).then_some(KeyPlace::Range(FIRST)),
            })
            .collect(),
        Keys::Numkeys { at, destination } => {
            let counted = KeySpec {
                flags: groups[groups.len() - 1],
                place: Some(KeyPlace::Numkeys(at.into())),
            };
            let stored = KeySpec {
                flags: groups[0],
                place: Some(KeyPlace::Range(FIRST)),
            };
            match destination {
                true => vec![stored, counted],
                false => vec![counted],
            }
        }
        Keys::Range { first, last, step } => {
            let (first, last, step) = (i64::from(first), i64::from(last), i64::from(step));
            if let [flags] = groups {
                let last = if last < 0 { last } else { last - first };
                let place = Some(KeyPlace::Range(KeyRange { first, last, step }));
                return vec![KeySpec { flags, place }];
            }
            // A group is one key, and the last one all that follow.
            let last_group = groups.len() - 1;
            let spec_of = |(nth, flags): (usize, &&'static [&'static str])| KeySpec {
                flags,
                place: Some(KeyPlace::Range(KeyRange {
                    first: first + nth as i64 * step,
                    last: if nth == last_group { last.min(0) } else { 0 },
                    step: 1,
                })),
            };
            groups.iter().enumerate().map(spec_of).collect()
        }
    }
}

/// Where the first group of keys usually is, of a command whose keys take more to find.
fn usual_place(name: &str) -> Option<KeyPlace> {
    let first = match name {
        "migrate" => 3,
        _ => return None,
    };
    Some(KeyPlace::Range(KeyRange {
        first,
        last: 0,
        step: 1,
    }))
}

/// What `request` does to its `nth` key.
pub(crate) fn flags_in_request(
    spec: &CommandSpec,
    request: Args<'_>,
    nth: usize,
) -> &'static [&'static str] {
    if spec.name == "set" {
        let gets = request
            .from(3)
            .iter()
            .any(|option| option.eq_ignore_ascii_case(b"get"));
        return if gets {
            &["RW", "access", "update"]
        } else {
            &["OW", "update"]
        };
    }
    let groups = flag_groups(spec);
    let last = groups.len() - 1;
    match spec.keys {
        // Those that were found are the ones that are stored to.
        Keys::FirstAndFound(_) if nth > 0 => groups[last],
        _ => groups[nth.min(last)],
    }
}

/// Whether what stands where keys do decides about the shard only, and names no keys.
pub(crate) fn are_no_keys(spec: &CommandSpec) -> bool {
    let is_none = |flags: &&[&str]| flags.contains(&"not_key");
    !matches!(spec.keys, Keys::None) && flag_groups(spec).iter().all(is_none)
}

/// What is done to the keys: to all the same, or a group of flags for each. Never empty.
fn flag_groups(spec: &CommandSpec) -> &'static [&'static [&'static str]] {
    match spec.name {
        "append" | "hsetnx" | "linsert" | "lpush" | "lpushx" | "pfadd" | "rpush" | "rpushx"
        | "sadd" => &[&["RW", "insert"]],
        "copy" => &[&["RO", "access"], &["OW", "update"]],
        "rename" => &[&["RW", "access", "delete"], &["OW", "update"]],
        "renamenx" => &[&["RW", "access", "delete"], &["OW", "insert"]],
        "del" | "unlink" => &[&["RM", "delete"]],
        "exists" | "hexists" | "hlen" | "hstrlen" | "llen" | "memory|usage" | "object|encoding"
        | "object|freq" | "object|idletime" | "object|refcount" | "scard" | "sismember"
        | "strlen" | "touch" | "type" | "watch" => &[&["RO"]],
        "expire" | "expireat" | "geoadd" | "hexpire" | "hexpireat" | "hmset" | "hpersist"
        | "hpexpire" | "hpexpireat" | "hset" | "hsetex" | "lset" | "persist" | "pexpire"
        | "pexpireat" | "setrange" => &[&["RW", "update"]],
        "blmpop" | "blpop" | "brpop" | "getdel" | "hgetdel" | "lmpop" | "lpop" | "rpop"
        | "spop" => &[&["RW", "access", "delete"]],
        "bitfield" => &[&["RW", "access", "update", "variable_flags"]],
        "bitop" => &[&["OW", "update"], &["RO", "access"]],
        "pfcount" | "pfdebug" => &[&["RW", "access"]],
        "pfmerge" => &[&["RW", "access", "insert"], &["RO", "access"]],
        "geosearchstore" => &[&["OW", "update"], &["RO", "access"]],
        "georadius" | "georadiusbymember" => {
            &[&["RO", "access"], &["OW", "update"], &["OW", "update"]]
        }
        "sort" => &[&["RO", "access"], &["RO", "access"], &["OW", "update"]],
        "sort_ro" => &[&["RO", "access"], &["RO", "access"]],
        "blmove" | "brpoplpush" | "lmove" | "rpoplpush" | "smove" => {
            &[&["RW", "access", "delete"], &["RW", "insert"]]
        }
        "hdel" | "lrem" | "ltrim" | "srem" => &[&["RW", "delete"]],
        "mset" | "psetex" | "restore" | "setex" => &[&["OW", "update"]],
        "migrate" => &[
            &["RW", "access", "delete"],
            &["RW", "access", "delete", "incomplete"],
        ],
        "zadd" => &[&["RW", "update"]],
        "zcard" => &[&["RO"]],
        "zdiffstore" | "zinterstore" | "zrangestore" | "zunionstore" => {
            &[&["OW", "update"], &["RO", "access"]]
        }
        "bzmpop" | "bzpopmax" | "bzpopmin" | "zmpop" | "zpopmax" | "zpopmin" => {
            &[&["RW", "access", "delete"]]
        }
        "zrem" | "zremrangebylex" | "zremrangebyrank" | "zremrangebyscore" => &[&["RW", "delete"]],
        "msetnx" | "setnx" => &[&["OW", "insert"]],
        "sdiffstore" | "sunionstore" => &[&["OW", "update"], &["RO", "access"]],
        "set" => &[&["RW", "access", "update", "variable_flags"]],
        "sinterstore" => &[&["RW", "update"], &["RO", "access"]],
        "xack" | "xadd" | "xclaim" | "xgroup|setid" | "xsetid" => &[&["RW", "update"]],
        "xackdel" | "xautoclaim" | "xdel" | "xdelex" | "xgroup|delconsumer" | "xgroup|destroy"
        | "xtrim" => &[&["RW", "delete"]],
        "xgroup|create" | "xgroup|createconsumer" => &[&["RW", "insert"]],
        "xlen" => &[&["RO"]],
        "xreadgroup" => &[&["RO", "access"]],
        "spublish" | "ssubscribe" | "sunsubscribe" => &[&["not_key"]],
        _ if spec.flags.contains(Flags::READONLY) => &[&["RO", "access"]],
        _ => &[&["RW", "access", "update"]],
    }
}
