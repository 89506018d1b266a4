//! Commands on hashes.

use crate::collection::{read, shrink, write, wrong_arity};
use crate::context::{CommandResult, Cx};
use crate::error::CommandError;
use crate::parse::{canonical_integer, integer};
use crate::spec::{CommandSpec, FIRST_KEY, Flags, Run, Scope};
use moon_resp::{Args, Reply};
use moon_store::{Hash, Key, PackLimits, Value};

/// What the rows below share; each names the rest.
const HASH: CommandSpec = CommandSpec {
    name: "",
    arity: 0,
    flags: Flags::empty(),
    keys: FIRST_KEY,
    scope: Scope::Keys,
    run: Run::Server,
    acl: "",
    group: "hash",
    since: "2.0.0",
    complexity: "O(1)",
    summary: "",
};
const READ_FAST: CommandSpec = CommandSpec {
    flags: Flags::READONLY.union(Flags::FAST),
    acl: "read hash fast",
    ..HASH
};
const READ_ALL: CommandSpec = CommandSpec {
    flags: Flags::READONLY,
    acl: "read hash slow",
    complexity: "O(N) for a hash of N fields.",
    ..HASH
};
const GROW: CommandSpec = CommandSpec {
    flags: Flags::WRITE.union(Flags::DENYOOM).union(Flags::FAST),
    acl: "write hash fast",
    ..HASH
};

/// The commands of this family.
pub static COMMANDS: &[CommandSpec] = &[
    CommandSpec {
        name: "hset",
        arity: -4,
        run: Run::Data(hset),
        complexity: "O(N) for N pairs.",
        summary: "Stores values in fields of a hash, which is created if needed.",
        ..GROW
    },
    CommandSpec {
        name: "hmset",
        arity: -4,
        run: Run::Data(hmset),
        complexity: "O(N) for N pairs.",
        summary: "Stores values in fields of a hash; HSET does the same and counts.",
        ..GROW
    },
    CommandSpec {
        name: "hsetnx",
        arity: 4,
        run: Run::Data(hsetnx),
        summary: "Stores a value in a field of a hash that has no such field.",
        ..GROW
    },
    CommandSpec {
        name: "hincrby",
        arity: 4,
        run: Run::Data(hincrby),
        summary: "Adds an integer to the number in a field, which starts at 0.",
        ..GROW
    },
    CommandSpec {
        name: "hdel",
        arity: -3,
        flags: Flags::WRITE.union(Flags::FAST).union(Flags::FREES_MEMORY),
        run: Run::Data(hdel),
        acl: "write hash fast",
        complexity: "O(N) for N fields named.",
        summary: "Removes fields, and the hash with its last one.",
        ..HASH
    },
    CommandSpec {
        name: "hget",
        arity: 3,
        run: Run::Data(hget),
        summary: "Answers the value of one field.",
        ..READ_FAST
    },
    CommandSpec {
        name: "hmget",
        arity: -3,
        run: Run::Data(hmget),
        complexity: "O(N) for N fields named.",
        summary: "Answers the values of several fields, in the order asked for.",
        ..READ_FAST
    },
    CommandSpec {
        name: "hexists",
        arity: 3,
        run: Run::Data(hexists),
        summary: "Tells whether a hash has a field.",
        ..READ_FAST
    },
    CommandSpec {
        name: "hlen",
        arity: 2,
        run: Run::Data(hlen),
        summary: "Counts the fields of a hash.",
        ..READ_FAST
    },
    CommandSpec {
        name: "hstrlen",
        arity: 3,
        run: Run::Data(hstrlen),
        since: "3.2.0",
        summary: "Answers how many bytes the value of a field has.",
        ..READ_FAST
    },
    CommandSpec {
        name: "hgetall",
        arity: 2,
        run: Run::Data(hgetall),
        summary: "Answers every field with its value.",
        ..READ_ALL
    },
    CommandSpec {
        name: "hkeys",
        arity: 2,
        run: Run::Data(hkeys),
        summary: "Answers the names of all fields.",
        ..READ_ALL
    },
    CommandSpec {
        name: "hvals",
        arity: 2,
        run: Run::Data(hvals),
        summary: "Answers the values of all fields.",
        ..READ_ALL
    },
];

fn pack_limits(cx: &Cx<'_>) -> PackLimits {
    PackLimits {
        entries: cx.limits.hash_max_listpack_entries,
        value_bytes: cx.limits.hash_max_listpack_value,
    }
}

/// Stores the pairs of `args` from index 2 on; how many fields are new.
fn set_pairs(cx: &mut Cx<'_>, args: Args<'_>, name: &str) -> Result<usize, CommandError> {
    if !args.len().is_multiple_of(2) {
        return Err(wrong_arity(name));
    }
    let key = Key::new(args.at(1));
    let limits = pack_limits(cx);
    let set = |hash: &mut Hash| {
        (2..args.len())
            .step_by(2)
            .filter(|at| hash.set(args.at(*at), args.at(at + 1), limits))
            .count()
    };
    let new = match write::<Hash>(cx, key)? {
        Some(hash) => set(hash),
        None => {
            let mut hash = Hash::default();
            let new = set(&mut hash);
            cx.store(key, Value::Hash(Box::new(hash)), None);
            new
        }
    };
    cx.changed_as_sent(&[key], args);
    Ok(new)
}

fn hset(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let new = set_pairs(cx, args, "hset")?;
    cx.reply.count(new);
    Ok(())
}

fn hmset(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    set_pairs(cx, args, "hmset")?;
    cx.reply.ok();
    Ok(())
}

fn hsetnx(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let key = Key::new(args.at(1));
    let present = write::<Hash>(cx, key)?.is_some_and(|hash| hash.contains(args.at(2)));
    if !present {
        set_pairs(cx, args, "hsetnx")?;
    }
    cx.reply.flag(!present);
    Ok(())
}

fn hincrby(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let key = Key::new(args.at(1));
    let field = args.at(2);
    let increment = integer(args.at(3))?;
    let limits = pack_limits(cx);
    let mut digits = itoa::Buffer::new();
    let sum = match write::<Hash>(cx, key)? {
        Some(hash) => {
            let old = match hash.get(field) {
                Some(value) => canonical_integer(value)
                    .ok_or(CommandError::Text("ERR hash value is not an integer"))?,
                None => 0,
            };
            let sum = old.checked_add(increment).ok_or(CommandError::Text(
                "ERR increment or decrement would overflow",
            ))?;
            hash.set(field, digits.format(sum).as_bytes(), limits);
            sum
        }
        None => {
            let mut hash = Hash::default();
            hash.set(field, digits.format(increment).as_bytes(), limits);
            cx.store(key, Value::Hash(Box::new(hash)), None);
            increment
        }
    };
    cx.changed_as_sent(&[key], args);
    cx.reply.integer(sum);
    Ok(())
}

fn hdel(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let key = Key::new(args.at(1));
    let removed = shrink(cx, key, |hash: &mut Hash| {
        args.from(2).iter().filter(|f| hash.remove(f)).count()
    })?
    .unwrap_or(0);
    if removed > 0 {
        cx.changed_as_sent(&[key], args);
    }
    cx.reply.count(removed);
    Ok(())
}

fn value_or_null(reply: &mut Reply<'_>, value: Option<&[u8]>) {
    match value {
        Some(value) => reply.bulk(value),
        None => reply.null(),
    }
}

fn hget(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let (hash, reply) = read::<Hash>(cx, Key::new(args.at(1)))?;
    value_or_null(reply, hash.and_then(|hash| hash.get(args.at(2))));
    Ok(())
}

fn hmget(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let (hash, reply) = read::<Hash>(cx, Key::new(args.at(1)))?;
    let fields = args.from(2);
    reply.array(fields.len());
    for field in fields.iter() {
        value_or_null(reply, hash.and_then(|hash| hash.get(field)));
    }
    Ok(())
}

fn hexists(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let (hash, reply) = read::<Hash>(cx, Key::new(args.at(1)))?;
    reply.flag(hash.is_some_and(|hash| hash.contains(args.at(2))));
    Ok(())
}

fn hlen(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let (hash, reply) = read::<Hash>(cx, Key::new(args.at(1)))?;
    reply.count(hash.map_or(0, Hash::len));
    Ok(())
}

fn hstrlen(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let (hash, reply) = read::<Hash>(cx, Key::new(args.at(1)))?;
    let value = hash.and_then(|hash| hash.get(args.at(2)));
    reply.count(value.map_or(0, <[u8]>::len));
    Ok(())
}

fn hgetall(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let (hash, reply) = read::<Hash>(cx, Key::new(args.at(1)))?;
    reply.map(hash.map_or(0, Hash::len));
    for (field, value) in hash.into_iter().flat_map(Hash::iter) {
        reply.bulk(field);
        reply.bulk(value);
    }
    Ok(())
}

fn hkeys(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let (hash, reply) = read::<Hash>(cx, Key::new(args.at(1)))?;
    reply.array(hash.map_or(0, Hash::len));
    for (field, _) in hash.into_iter().flat_map(Hash::iter) {
        reply.bulk(field);
    }
    Ok(())
}

fn hvals(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let (hash, reply) = read::<Hash>(cx, Key::new(args.at(1)))?;
    reply.array(hash.map_or(0, Hash::len));
    for (_, value) in hash.into_iter().flat_map(Hash::iter) {
        reply.bulk(value);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::testing::Session;

    #[test]
    fn fields_are_stored_counted_and_removed() {
        let mut s = Session::new();
        s.expect("HSET h a 1 b 2", ":2\r\n");
        s.expect("HSET h a 3 c 4", ":1\r\n");
        s.expect("HMSET h d 5", "+OK\r\n");
        s.expect("HGET h a", "$1\r\n3\r\n");
        s.expect("HGET h x", "$-1\r\n");
        s.expect("HLEN h", ":4\r\n");
        s.expect("HSTRLEN h a", ":1\r\n");
        s.expect("HEXISTS h x", ":0\r\n");
        s.expect("HMGET h a x", "*2\r\n$1\r\n3\r\n$-1\r\n");
        s.expect("HDEL h a b x a", ":2\r\n");
        s.expect("HKEYS h", "*2\r\n$1\r\nc\r\n$1\r\nd\r\n");
        s.expect("HVALS h", "*2\r\n$1\r\n4\r\n$1\r\n5\r\n");
        s.expect(
            "HGETALL h",
            "*4\r\n$1\r\nc\r\n$1\r\n4\r\n$1\r\nd\r\n$1\r\n5\r\n",
        );
        s.resp3();
        s.expect(
            "HGETALL h",
            "%2\r\n$1\r\nc\r\n$1\r\n4\r\n$1\r\nd\r\n$1\r\n5\r\n",
        );
        s.expect("HGETALL none", "%0\r\n");
        s.expect("HGET none a", "_\r\n");
    }

    #[test]
    fn a_write_that_changes_nothing_has_no_effect() {
        let mut s = Session::new();
        s.expect("HSETNX h a 1", ":1\r\n");
        s.expect_effect("HSETNX h a 1");
        s.expect("HSETNX h a 2", ":0\r\n");
        s.expect_no_effect();
        s.expect("HDEL h x", ":0\r\n");
        s.expect_no_effect();
        s.expect("HDEL none x", ":0\r\n");
        s.expect_no_effect();
        s.expect(
            "HSET h a 1 b",
            "-ERR wrong number of arguments for 'hset' command\r\n",
        );
        s.expect(
            "HMSET h a 1 b",
            "-ERR wrong number of arguments for 'hmset' command\r\n",
        );
        s.expect_no_effect();
    }

    #[test]
    fn the_last_field_takes_the_key_with_it() {
        let mut s = Session::new();
        s.expect("HSET h a 1", ":1\r\n");
        s.expect_effect("HSET h a 1");
        s.expect("HDEL h a", ":1\r\n");
        s.expect_effect("HDEL h a");
        assert_eq!(s.keys(), 0);
    }

    #[test]
    fn counters_refuse_what_is_not_a_number_or_overflows() {
        let mut s = Session::new();
        s.expect("HINCRBY h n 5", ":5\r\n");
        s.expect_effect("HINCRBY h n 5");
        s.expect("HINCRBY h n -7", ":-2\r\n");
        s.expect_effect("HINCRBY h n -7");
        s.expect(
            "HINCRBY h n x",
            "-ERR value is not an integer or out of range\r\n",
        );
        s.expect("HSET h m 9223372036854775807 t 010", ":2\r\n");
        s.expect_effect("HSET h m 9223372036854775807 t 010");
        s.expect(
            "HINCRBY h m 1",
            "-ERR increment or decrement would overflow\r\n",
        );
        s.expect("HINCRBY h t 1", "-ERR hash value is not an integer\r\n");
        s.expect_no_effect();
    }

    #[test]
    fn other_types_are_refused() {
        let wrong = "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n";
        let mut s = Session::new();
        s.expect("RPUSH l a", ":1\r\n");
        s.expect_effect("RPUSH l a");
        for command in [
            "HSET l a 1",
            "HMSET l a 1",
            "HSETNX l a 1",
            "HINCRBY l a 1",
            "HDEL l a",
            "HGET l a",
            "HMGET l a",
            "HEXISTS l a",
            "HLEN l",
            "HSTRLEN l a",
            "HGETALL l",
            "HKEYS l",
            "HVALS l",
        ] {
            s.expect(command, wrong);
        }
        s.expect_no_effect();
    }
}
