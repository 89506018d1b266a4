//! Commands on sets.

use crate::collection::{distinct_picks, pop_count, read, shrink, write};
use crate::context::{CommandResult, Cx};
use crate::error::CommandError;
use crate::parse::integer;
use crate::spec::{CommandSpec, FIRST_KEY, Flags, Run, Scope};
use moon_resp::{Args, Reply};
use moon_store::{Key, Member, PackLimits, Set, SetLimits, Value};
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};

/// What the rows below share; each names the rest.
const SET: CommandSpec = CommandSpec {
    name: "",
    arity: 0,
    flags: Flags::empty(),
    keys: FIRST_KEY,
    scope: Scope::Keys,
    run: Run::Server,
    acl: "",
    group: "set",
    since: "1.0.0",
    complexity: "O(1)",
    summary: "",
};
const READ_FAST: CommandSpec = CommandSpec {
    flags: Flags::READONLY.union(Flags::FAST),
    acl: "read set fast",
    ..SET
};
const READ: CommandSpec = CommandSpec {
    flags: Flags::READONLY,
    acl: "read set slow",
    ..SET
};
const SHRINK: CommandSpec = CommandSpec {
    flags: Flags::WRITE.union(Flags::FAST).union(Flags::FREES_MEMORY),
    acl: "write set fast",
    ..SET
};

/// The commands of this family.
pub static COMMANDS: &[CommandSpec] = &[
    CommandSpec {
        name: "sadd",
        arity: -3,
        flags: Flags::WRITE.union(Flags::DENYOOM).union(Flags::FAST),
        run: Run::Data(sadd),
        acl: "write set fast",
        complexity: "O(N) for N members given.",
        summary: "Adds members to a set, which is created if needed.",
        ..SET
    },
    CommandSpec {
        name: "srem",
        arity: -3,
        run: Run::Data(srem),
        complexity: "O(N) for N members given.",
        summary: "Removes members, and the set with its last one.",
        ..SHRINK
    },
    CommandSpec {
        name: "spop",
        arity: -2,
        run: Run::Data(spop),
        complexity: "O(N) for N members removed.",
        summary: "Takes one or several members at random out of a set.",
        ..SHRINK
    },
    CommandSpec {
        name: "srandmember",
        arity: -2,
        run: Run::Data(srandmember),
        complexity: "O(N) for N members answered.",
        summary: "Answers one or several members at random and leaves them.",
        ..READ
    },
    CommandSpec {
        name: "smembers",
        arity: 2,
        run: Run::Data(smembers),
        complexity: "O(N) for a set of N members.",
        summary: "Answers every member of a set.",
        ..READ
    },
    CommandSpec {
        name: "sismember",
        arity: 3,
        run: Run::Data(sismember),
        summary: "Tells whether something is a member of a set.",
        ..READ_FAST
    },
    CommandSpec {
        name: "smismember",
        arity: -3,
        run: Run::Data(smismember),
        since: "6.2.0",
        complexity: "O(N) for N members asked for.",
        summary: "Tells of several things whether they are members of a set.",
        ..READ_FAST
    },
    CommandSpec {
        name: "scard",
        arity: 2,
        run: Run::Data(scard),
        summary: "Counts the members of a set.",
        ..READ_FAST
    },
];

/// A reply of random picks with repetition may have about this many bytes: its length is the
/// client's choice, independent of what is stored, and it is built in memory.
const RANDOM_REPLY_BYTES_MAX: usize = 1 << 30;

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

fn sadd(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let key = Key::new(args.at(1));
    let members = args.from(2);
    let limits = set_limits(cx);
    let added = match write::<Set>(cx, key)? {
        Some(set) => members.iter().filter(|m| set.add(m, limits)).count(),
        None => {
            let mut set = Set::for_first(members.at(0), members.len(), limits);
            let added = members.iter().filter(|m| set.add(m, limits)).count();
            cx.store(key, Value::Set(Box::new(set)), None);
            added
        }
    };
    if added > 0 {
        cx.changed_as_sent(&[key], args);
    }
    cx.reply.count(added);
    Ok(())
}

fn srem(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let key = Key::new(args.at(1));
    let removed = shrink(cx, key, |set: &mut Set| {
        args.from(2).iter().filter(|m| set.remove(m)).count()
    })?
    .unwrap_or(0);
    if removed > 0 {
        cx.changed_as_sent(&[key], args);
    }
    cx.reply.count(removed);
    Ok(())
}

/// Takes up to `count` members at random out of `set`.
fn take_random(set: &mut Set, count: usize, rng: &mut SmallRng) -> Vec<Vec<u8>> {
    if count >= set.len() {
        let all = set.iter().map(Member::to_vec).collect();
        set.clear();
        return all;
    }
    let mut taken = Vec::with_capacity(count);
    for _ in 0..count {
        if let Some(member) = set.random(rng.random()).map(Member::to_vec) {
            set.remove(&member);
            taken.push(member);
        }
    }
    taken
}

fn spop(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    if args.len() > 3 {
        return Err(CommandError::Syntax);
    }
    let count = pop_count(args, 2)?;
    let key = Key::new(args.at(1));
    let mut rng = cx.rng.fork();
    let taken = shrink(cx, key, |set: &mut Set| {
        let popped = take_random(set, count.unwrap_or(1), &mut rng);
        (popped, set.is_empty())
    })?;
    let Some((popped, emptied)) = taken else {
        match count {
            Some(_) => cx.reply.set(0),
            None => cx.reply.null(),
        }
        return Ok(());
    };
    if emptied {
        cx.changed(&[key], &[b"DEL", key.bytes]);
    } else if !popped.is_empty() {
        let mut effect: Vec<&[u8]> = vec![b"SREM", key.bytes];
        effect.extend(popped.iter().map(Vec::as_slice));
        cx.changed(&[key], &effect);
    }
    if count.is_some() {
        cx.reply.set(popped.len());
    }
    for member in &popped {
        cx.reply.bulk(member);
    }
    Ok(())
}

fn srandmember(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    if args.len() > 3 {
        return Err(CommandError::Syntax);
    }
    let count = args.get(2).map(integer).transpose()?;
    if count == Some(i64::MIN) {
        return Err(CommandError::Text(
            "ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807",
        ));
    }
    let mut rng = cx.rng.fork();
    let (set, reply) = read::<Set>(cx, Key::new(args.at(1)))?;
    match (set, count) {
        (None, None) => reply.null(),
        (None, Some(_)) | (_, Some(0)) => reply.array(0),
        (Some(set), None) => {
            if let Some(member) = set.random(rng.random()) {
                write_member(reply, member);
            }
        }
        (Some(set), Some(count)) => {
            let wanted = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX);
            if count < 0 {
                return repeated_picks(set, wanted, &mut rng, reply);
            }
            answer_distinct(set, wanted, &mut rng, reply);
        }
    }
    Ok(())
}

fn repeated_picks(
    set: &Set,
    wanted: usize,
    rng: &mut SmallRng,
    reply: &mut Reply<'_>,
) -> CommandResult {
    // The reply's head and line ends take some bytes of each member, too.
    let mean_bytes = set.memory() / set.len() + 16;
    if wanted.saturating_mul(mean_bytes) > RANDOM_REPLY_BYTES_MAX {
        return Err(CommandError::Text("ERR value is out of range"));
    }
    reply.array(wanted);
    for _ in 0..wanted {
        if let Some(member) = set.random(rng.random()) {
            write_member(reply, member);
        }
    }
    Ok(())
}

fn answer_distinct(set: &Set, wanted: usize, rng: &mut SmallRng, reply: &mut Reply<'_>) {
    if wanted >= set.len() {
        reply.array(set.len());
        for member in set.iter() {
            write_member(reply, member);
        }
        return;
    }
    reply.array(wanted);
    for member in distinct_picks(set.iter(), |r| set.random(r), wanted, rng) {
        write_member(reply, member);
    }
}

fn smembers(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let (set, reply) = read::<Set>(cx, Key::new(args.at(1)))?;
    reply.set(set.map_or(0, Set::len));
    for member in set.into_iter().flat_map(Set::iter) {
        write_member(reply, member);
    }
    Ok(())
}

fn sismember(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let (set, reply) = read::<Set>(cx, Key::new(args.at(1)))?;
    reply.flag(set.is_some_and(|set| set.contains(args.at(2))));
    Ok(())
}

fn smismember(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let (set, reply) = read::<Set>(cx, Key::new(args.at(1)))?;
    let members = args.from(2);
    reply.array(members.len());
    for member in members.iter() {
        reply.flag(set.is_some_and(|set| set.contains(member)));
    }
    Ok(())
}

fn scard(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let (set, reply) = read::<Set>(cx, Key::new(args.at(1)))?;
    reply.count(set.map_or(0, Set::len));
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::testing::Session;
    use std::collections::BTreeSet;

    /// The bulk strings of an array or set reply.
    fn bulks(reply: &str) -> Vec<String> {
        let lines: Vec<&str> = reply.split("\r\n").collect();
        lines[1..lines.len() - 1]
            .chunks(2)
            .map(|bulk| bulk[1].to_owned())
            .collect()
    }

    #[test]
    fn members_are_added_found_and_removed() {
        let mut s = Session::new();
        s.expect("SADD s 3 1 2 1", ":3\r\n");
        s.expect("SMEMBERS s", "*3\r\n$1\r\n1\r\n$1\r\n2\r\n$1\r\n3\r\n");
        s.expect("SCARD s", ":3\r\n");
        s.expect("SISMEMBER s 2", ":1\r\n");
        s.expect("SMISMEMBER s 2 02 x", "*3\r\n:1\r\n:0\r\n:0\r\n");
        s.expect("SMISMEMBER none a", "*1\r\n:0\r\n");
        s.expect("SREM s 1 9 2", ":2\r\n");
        s.resp3();
        s.expect("SMEMBERS s", "~1\r\n$1\r\n3\r\n");
        s.expect("SMEMBERS none", "~0\r\n");
        s.expect("SREM s 3", ":1\r\n");
        assert_eq!(s.keys(), 0);
    }

    #[test]
    fn a_write_that_changes_nothing_has_no_effect() {
        let mut s = Session::new();
        s.expect("SADD s a", ":1\r\n");
        s.expect_effect("SADD s a");
        s.expect("SADD s a", ":0\r\n");
        s.expect("SREM s b", ":0\r\n");
        s.expect("SREM none b", ":0\r\n");
        s.expect("SPOP none", "$-1\r\n");
        s.expect("SPOP none 1", "*0\r\n");
        s.expect("SPOP s 0", "*0\r\n");
        s.expect(
            "SPOP s -1",
            "-ERR value is out of range, must be positive\r\n",
        );
        s.expect("SPOP s 1 2", "-ERR syntax error\r\n");
        s.expect_no_effect();
    }

    /// What was picked is in the effect, so that replay picks the same.
    #[test]
    fn pops_are_logged_as_what_was_popped() {
        let mut s = Session::new();
        s.expect("SADD s a b c d", ":4\r\n");
        s.effects();
        let popped = s.run("SPOP s");
        let member = popped
            .split("\r\n")
            .nth(1)
            .expect("a bulk string")
            .to_owned();
        s.expect_effect(&format!("SREM s {member}"));
        s.expect(&format!("SISMEMBER s {member}"), ":0\r\n");
        let popped = bulks(&s.run("SPOP s 2"));
        s.expect_effect(&format!("SREM s {} {}", popped[0], popped[1]));
        assert_eq!(bulks(&s.run("SPOP s 7")).len(), 1);
        s.expect_effect("DEL s");
        assert_eq!(s.keys(), 0);
    }

    #[test]
    fn random_members_are_distinct_unless_the_count_is_negative() {
        for prefix in ["", "m"] {
            for size in [5, 200, 1000] {
                let mut s = Session::new();
                let all: BTreeSet<String> = (0..size).map(|n| format!("{prefix}{n}")).collect();
                for member in &all {
                    s.run(&format!("SADD s {member}"));
                }
                let half = bulks(&s.run(&format!("SRANDMEMBER s {}", size / 2)));
                let distinct: BTreeSet<String> = half.iter().cloned().collect();
                assert_eq!((half.len(), distinct.len()), (size / 2, size / 2));
                assert!(distinct.is_subset(&all));
                assert_eq!(bulks(&s.run("SRANDMEMBER s 9999")).len(), size);
                assert_eq!(bulks(&s.run("SRANDMEMBER s -3000")).len(), 3000);
                assert!(s.run("SRANDMEMBER s").starts_with('$'));
            }
        }
    }

    #[test]
    fn random_members_answer_odd_counts_with_an_error() {
        let mut s = Session::new();
        s.expect("SADD s a", ":1\r\n");
        s.expect("SRANDMEMBER none", "$-1\r\n");
        s.expect("SRANDMEMBER none 3", "*0\r\n");
        s.expect("SRANDMEMBER s 0", "*0\r\n");
        s.expect("SRANDMEMBER s 1 2", "-ERR syntax error\r\n");
        s.expect(
            "SRANDMEMBER s x",
            "-ERR value is not an integer or out of range\r\n",
        );
        s.expect(
            "SRANDMEMBER s -9223372036854775808",
            "-ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807\r\n",
        );
        s.expect(
            "SRANDMEMBER s -9223372036854775807",
            "-ERR value is out of range\r\n",
        );
    }

    #[test]
    fn other_types_are_refused() {
        let wrong = "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n";
        let mut s = Session::new();
        s.expect("HSET h a 1", ":1\r\n");
        s.expect_effect("HSET h a 1");
        for command in [
            "SADD h a",
            "SREM h a",
            "SPOP h",
            "SPOP h 0",
            "SRANDMEMBER h",
            "SRANDMEMBER h 1",
            "SMEMBERS h",
            "SISMEMBER h a",
            "SMISMEMBER h a",
            "SCARD h",
        ] {
            s.expect(command, wrong);
        }
        s.expect_no_effect();
    }
}
