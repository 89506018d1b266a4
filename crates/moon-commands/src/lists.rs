//! Commands on lists.

use crate::collection::{pop_count, read, shrink, write, wrong_arity};
use crate::context::{CommandResult, Cx};
use crate::parse::integer;
use crate::spec::{CommandSpec, FIRST_KEY, Flags, Run, Scope};
use moon_resp::{Args, Reply};
use moon_store::{End, Key, List, NodeLimit, Value};

/// What the rows below share; each names the rest.
const LIST: CommandSpec = CommandSpec {
    name: "",
    arity: 0,
    flags: Flags::empty(),
    keys: FIRST_KEY,
    scope: Scope::Keys,
    run: Run::Server,
    acl: "",
    group: "list",
    since: "1.0.0",
    complexity: "O(1)",
    summary: "",
};
const PUSH: CommandSpec = CommandSpec {
    arity: -3,
    flags: Flags::WRITE.union(Flags::DENYOOM).union(Flags::FAST),
    acl: "write list fast",
    complexity: "O(N) for N elements given.",
    ..LIST
};
const POP: CommandSpec = CommandSpec {
    arity: -2,
    flags: Flags::WRITE.union(Flags::FAST).union(Flags::FREES_MEMORY),
    acl: "write list fast",
    complexity: "O(N) for N elements removed.",
    ..LIST
};
const READ: CommandSpec = CommandSpec {
    flags: Flags::READONLY,
    acl: "read list slow",
    ..LIST
};

/// The commands of this family.
pub static COMMANDS: &[CommandSpec] = &[
    CommandSpec {
        name: "lpush",
        run: Run::Data(lpush),
        summary: "Puts elements before the head of a list, which is created if needed.",
        ..PUSH
    },
    CommandSpec {
        name: "rpush",
        run: Run::Data(rpush),
        summary: "Puts elements behind the tail of a list, which is created if needed.",
        ..PUSH
    },
    CommandSpec {
        name: "lpushx",
        run: Run::Data(lpushx),
        since: "2.2.0",
        summary: "Puts elements before the head of a list that exists.",
        ..PUSH
    },
    CommandSpec {
        name: "rpushx",
        run: Run::Data(rpushx),
        since: "2.2.0",
        summary: "Puts elements behind the tail of a list that exists.",
        ..PUSH
    },
    CommandSpec {
        name: "lpop",
        run: Run::Data(lpop),
        summary: "Takes one or several elements from the head of a list.",
        ..POP
    },
    CommandSpec {
        name: "rpop",
        run: Run::Data(rpop),
        summary: "Takes one or several elements from the tail of a list.",
        ..POP
    },
    CommandSpec {
        name: "llen",
        arity: 2,
        flags: Flags::READONLY.union(Flags::FAST),
        run: Run::Data(llen),
        acl: "read list fast",
        summary: "Counts the elements of a list.",
        ..LIST
    },
    CommandSpec {
        name: "lrange",
        arity: 4,
        run: Run::Data(lrange),
        complexity: "O(S+N): S nodes from the nearer end to the start, N elements answered.",
        summary: "Answers the elements between two positions, both included.",
        ..READ
    },
    CommandSpec {
        name: "lindex",
        arity: 3,
        run: Run::Data(lindex),
        complexity: "O(S): S nodes from the nearer end.",
        summary: "Answers the element at a position.",
        ..READ
    },
];

fn node_limit(cx: &Cx<'_>) -> NodeLimit {
    NodeLimit::from_setting(cx.limits.list_max_listpack_size)
}

/// What a push does when there is no list.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Missing {
    Create,
    Leave,
}

fn push(cx: &mut Cx<'_>, args: Args<'_>, end: End, missing: Missing) -> CommandResult {
    let key = Key::new(args.at(1));
    let limit = node_limit(cx);
    let fill = |list: &mut List| {
        for element in args.from(2).iter() {
            list.push(end, element, limit);
        }
        list.len()
    };
    let len = match write::<List>(cx, key)? {
        Some(list) => fill(list),
        None if missing == Missing::Leave => {
            cx.reply.count(0);
            return Ok(());
        }
        None => {
            let mut list = List::default();
            let len = fill(&mut list);
            cx.store(key, Value::List(Box::new(list)), None);
            len
        }
    };
    cx.changed_as_sent(&[key], args);
    cx.reply.count(len);
    Ok(())
}

fn lpush(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    push(cx, args, End::Left, Missing::Create)
}

fn rpush(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    push(cx, args, End::Right, Missing::Create)
}

fn lpushx(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    push(cx, args, End::Left, Missing::Leave)
}

fn rpushx(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    push(cx, args, End::Right, Missing::Leave)
}

fn pop(cx: &mut Cx<'_>, args: Args<'_>, end: End, name: &str) -> CommandResult {
    if args.len() > 3 {
        return Err(wrong_arity(name));
    }
    let count = pop_count(args, 2)?;
    let key = Key::new(args.at(1));
    let limit = node_limit(cx);
    let mut encoded = Vec::new();
    let mut elements = Reply::new(&mut encoded, cx.reply.protocol());
    let popped = shrink(cx, key, |list: &mut List| {
        let popping = count.unwrap_or(1).min(list.len());
        for _ in 0..popping {
            if let Some(element) = list.peek(end) {
                elements.bulk(element);
            }
            list.drop(end, limit);
        }
        popping
    })?;
    match (popped, count) {
        (None, None) => cx.reply.null(),
        (None, Some(_)) => cx.reply.null_array(),
        (Some(_), None) => {}
        (Some(popped), Some(_)) => cx.reply.array(popped),
    }
    cx.reply.raw(&encoded);
    if popped.is_some_and(|popped| popped > 0) {
        cx.changed_as_sent(&[key], args);
    }
    Ok(())
}

fn lpop(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    pop(cx, args, End::Left, "lpop")
}

fn rpop(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    pop(cx, args, End::Right, "rpop")
}

fn llen(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let (list, reply) = read::<List>(cx, Key::new(args.at(1)))?;
    reply.count(list.map_or(0, List::len));
    Ok(())
}

/// The position that `index` means: negative ones count from the end. `None` lies before the
/// head; the result may lie behind the tail.
fn position(index: i64, len: usize) -> Option<usize> {
    match usize::try_from(index) {
        Ok(index) => Some(index),
        Err(_) => len.checked_sub(usize::try_from(index.unsigned_abs()).ok()?),
    }
}

fn lrange(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let (start, stop) = (integer(args.at(2))?, integer(args.at(3))?);
    let (list, reply) = read::<List>(cx, Key::new(args.at(1)))?;
    let Some(list) = list else {
        reply.array(0);
        return Ok(());
    };
    let start = position(start, list.len()).unwrap_or(0);
    let end = match position(stop, list.len()) {
        Some(stop) => stop.saturating_add(1).min(list.len()),
        None => 0,
    };
    let count = end.saturating_sub(start);
    reply.array(count);
    for element in list.range(start, count) {
        reply.bulk(element);
    }
    Ok(())
}

fn lindex(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let (list, reply) = read::<List>(cx, Key::new(args.at(1)))?;
    let Some(list) = list else {
        reply.null();
        return Ok(());
    };
    let at = position(integer(args.at(2))?, list.len());
    match at.and_then(|at| list.get(at)) {
        Some(element) => reply.bulk(element),
        None => reply.null(),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::testing::Session;

    #[test]
    fn elements_go_in_and_out_at_both_ends() {
        let mut s = Session::new();
        s.expect("RPUSH l a b", ":2\r\n");
        s.expect("LPUSH l c d", ":4\r\n");
        s.expect(
            "LRANGE l 0 -1",
            "*4\r\n$1\r\nd\r\n$1\r\nc\r\n$1\r\na\r\n$1\r\nb\r\n",
        );
        s.expect("LPOP l", "$1\r\nd\r\n");
        s.expect("RPOP l 2", "*2\r\n$1\r\nb\r\n$1\r\na\r\n");
        s.expect("LLEN l", ":1\r\n");
        s.expect("RPOP l 9", "*1\r\n$1\r\nc\r\n");
        assert_eq!(s.keys(), 0);
    }

    #[test]
    fn pops_say_whether_there_was_a_list() {
        let mut s = Session::new();
        s.expect("LPOP none", "$-1\r\n");
        s.expect("LPOP none 0", "*-1\r\n");
        s.expect("RPUSH l a", ":1\r\n");
        s.expect_effect("RPUSH l a");
        s.expect("RPOP l 0", "*0\r\n");
        s.expect_no_effect();
        let positive = "-ERR value is out of range, must be positive\r\n";
        s.expect("LPOP l -1", positive);
        s.expect("LPOP none x", positive);
        s.expect(
            "LPOP l 1 2",
            "-ERR wrong number of arguments for 'lpop' command\r\n",
        );
        s.expect(
            "RPOP l 1 2",
            "-ERR wrong number of arguments for 'rpop' command\r\n",
        );
        s.resp3();
        s.expect("LPOP none", "_\r\n");
        s.expect("LPOP none 1", "_\r\n");
        s.expect_no_effect();
        s.expect("LPOP l 5", "*1\r\n$1\r\na\r\n");
        s.expect_effect("LPOP l 5");
    }

    #[test]
    fn pushx_leaves_what_is_missing_missing() {
        let mut s = Session::new();
        s.expect("LPUSHX l a", ":0\r\n");
        s.expect("RPUSHX l a", ":0\r\n");
        s.expect_no_effect();
        s.expect("LPUSH l a", ":1\r\n");
        s.expect("RPUSHX l b c", ":3\r\n");
        s.expect("LPUSHX l z", ":4\r\n");
        s.expect("LINDEX l 0", "$1\r\nz\r\n");
        s.expect("LINDEX l -1", "$1\r\nc\r\n");
    }

    #[test]
    fn positions_outside_are_empty_or_cut() {
        let mut s = Session::new();
        s.expect("RPUSH l a b c", ":3\r\n");
        let all = "*3\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n";
        s.expect("LRANGE l -100 100", all);
        s.expect("LRANGE l -9223372036854775808 9223372036854775807", all);
        s.expect("LRANGE l 1 1", "*1\r\n$1\r\nb\r\n");
        s.expect("LRANGE l -2 -1", "*2\r\n$1\r\nb\r\n$1\r\nc\r\n");
        for empty in [
            "LRANGE l 2 1",
            "LRANGE l 3 9",
            "LRANGE l 0 -4",
            "LRANGE none 0 1",
        ] {
            s.expect(empty, "*0\r\n");
        }
        for nothing in ["LINDEX l 3", "LINDEX l -4", "LINDEX none x"] {
            s.expect(nothing, "$-1\r\n");
        }
        let number = "-ERR value is not an integer or out of range\r\n";
        s.expect("LINDEX l x", number);
        s.expect("LRANGE none x 1", number);
    }

    #[test]
    fn other_types_are_refused() {
        let wrong = "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n";
        let mut s = Session::new();
        s.expect("SADD s a", ":1\r\n");
        s.expect_effect("SADD s a");
        for command in [
            "LPUSH s a",
            "RPUSH s a",
            "LPUSHX s a",
            "RPUSHX s a",
            "LPOP s",
            "RPOP s 0",
            "LLEN s",
            "LRANGE s 0 1",
            "LINDEX s x",
        ] {
            s.expect(command, wrong);
        }
        s.expect_no_effect();
    }
}
