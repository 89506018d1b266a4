//! Commands on lists.
//!
//! * here: pushes, pops and reads at a position.
//! * [`middle`]: LPOS, LINSERT, LSET, LREM, LTRIM: what goes through a list or changes its middle.
//! * [`moves`]: LMOVE, RPOPLPUSH, LMPOP: what takes from one list and gives elsewhere.
//! * [`blocking`]: BLPOP, BLMOVE and their kin, which wait for an element.

mod blocking;
mod middle;
mod moves;

use crate::collection::{grow, pop_count, read, shrink_with_reply};
use crate::context::{CommandResult, Cx};
use crate::error::CommandError;
use crate::notify::Class;
use crate::parse::integer;
use crate::parse::wrong_arity;
use crate::spec::{FIRST_KEY, KEYS_TIMEOUT, Keys, NUMKEYS, TIMEOUT_NUMKEYS, commands};
use moon_resp::{Args, Reply};
use moon_store::{End, Key, List, NodeLimit, Value};
use std::ops::ControlFlow;

const SOURCE_DESTINATION: Keys = Keys::Range {
    first: 1,
    last: 2,
    step: 1,
};

commands! { "list":
    "lpush" -3 [WRITE DENYOOM FAST] FIRST_KEY, Keys, lpush,
        "write list fast", "1.0.0", "O(N) for N elements given.",
        "Puts elements before the head of a list, which is created if needed.";
    "rpush" -3 [WRITE DENYOOM FAST] FIRST_KEY, Keys, rpush,
        "write list fast", "1.0.0", "O(N) for N elements given.",
        "Puts elements behind the tail of a list, which is created if needed.";
    "lpushx" -3 [WRITE DENYOOM FAST] FIRST_KEY, Keys, lpushx,
        "write list fast", "2.2.0", "O(N) for N elements given.",
        "Puts elements before the head of a list that exists.";
    "rpushx" -3 [WRITE DENYOOM FAST] FIRST_KEY, Keys, rpushx,
        "write list fast", "2.2.0", "O(N) for N elements given.",
        "Puts elements behind the tail of a list that exists.";
    "lpop" -2 [WRITE FAST FREES_MEMORY] FIRST_KEY, Keys, lpop,
        "write list fast", "1.0.0", "O(N) for N elements removed.",
        "Takes one or several elements from the head of a list.";
    "rpop" -2 [WRITE FAST FREES_MEMORY] FIRST_KEY, Keys, rpop,
        "write list fast", "1.0.0", "O(N) for N elements removed.",
        "Takes one or several elements from the tail of a list.";
    "lmpop" -4 [WRITE MOVABLEKEYS FREES_MEMORY] NUMKEYS, Keys, moves::lmpop,
        "write list slow", "7.0.0", "O(N+M): N keys looked at, M elements removed.",
        "Takes elements from an end of the first of several lists that has any.";
    "llen" 2 [READONLY FAST] FIRST_KEY, Keys, llen,
        "read list fast", "1.0.0", "O(1)", "Counts the elements of a list.";
    "lrange" 4 [READONLY] FIRST_KEY, Keys, lrange,
        "read list slow", "1.0.0",
        "O(S+N): S nodes from the nearer end to the start, N elements answered.",
        "Answers the elements between two positions, both included.";
    "lindex" 3 [READONLY] FIRST_KEY, Keys, lindex,
        "read list slow", "1.0.0", "O(S): S nodes from the nearer end.",
        "Answers the element at a position.";
    "lpos" -3 [READONLY] FIRST_KEY, Keys, middle::lpos,
        "read list slow", "6.0.6", "O(N) for N elements gone through.",
        "Answers the positions of elements equal to a given one.";
    "lset" 4 [WRITE DENYOOM] FIRST_KEY, Keys, middle::lset,
        "write list slow", "1.0.0", "O(S): S nodes from the nearer end.",
        "Replaces the element at a position.";
    "linsert" 5 [WRITE DENYOOM] FIRST_KEY, Keys, middle::linsert,
        "write list slow", "2.2.0", "O(N) for N elements before the pivot.",
        "Puts an element before or after the first one equal to a pivot.";
    "lrem" 4 [WRITE FREES_MEMORY] FIRST_KEY, Keys, middle::lrem,
        "write list slow", "1.0.0", "O(N) for N elements gone through.",
        "Removes elements equal to a given one.";
    "ltrim" 4 [WRITE FREES_MEMORY] FIRST_KEY, Keys, middle::ltrim,
        "write list slow", "1.0.0", "O(N) for N elements removed.",
        "Removes the elements outside of two positions.";
    "lmove" 5 [WRITE DENYOOM] SOURCE_DESTINATION, Keys, moves::lmove,
        "write list slow", "6.2.0", "O(1)",
        "Moves an element from an end of a list to an end of another one, or of the same.";
    "rpoplpush" 3 [WRITE DENYOOM] SOURCE_DESTINATION, Keys, moves::rpoplpush,
        "write list slow", "1.2.0", "O(1)",
        "Moves an element from the tail of a list to the head of another one, or of the same.";
    "blpop" -3 [WRITE NOSCRIPT BLOCKING FREES_MEMORY] KEYS_TIMEOUT, Keys, blocking::blpop,
        "write list slow blocking", "2.0.0", "O(N) for N keys looked at.",
        "Takes an element from the head of the first of several lists that has any, or waits for one.";
    "brpop" -3 [WRITE NOSCRIPT BLOCKING FREES_MEMORY] KEYS_TIMEOUT, Keys, blocking::brpop,
        "write list slow blocking", "2.0.0", "O(N) for N keys looked at.",
        "Takes an element from the tail of the first of several lists that has any, or waits for one.";
    "blmove" 6 [WRITE DENYOOM NOSCRIPT BLOCKING] SOURCE_DESTINATION, Keys, blocking::blmove,
        "write list slow blocking", "6.2.0", "O(1)",
        "Moves an element from an end of a list to an end of another one, or waits for one.";
    "brpoplpush" 4 [WRITE DENYOOM NOSCRIPT BLOCKING] SOURCE_DESTINATION, Keys, blocking::brpoplpush,
        "write list slow blocking", "2.2.0", "O(1)",
        "Moves an element from the tail of a list to the head of another one, or waits for one.";
    "blmpop" -5 [WRITE BLOCKING MOVABLEKEYS FREES_MEMORY] TIMEOUT_NUMKEYS, Keys, blocking::blmpop,
        "write list slow blocking", "7.0.0", "O(N+M): N keys looked at, M elements removed.",
        "Takes elements from an end of the first of several lists that has any, or waits for some.";
}

fn node_limit(cx: &Cx<'_>) -> NodeLimit {
    cx.limits.list_nodes()
}

fn value_of(list: List) -> Value {
    Value::List(Box::new(list))
}

fn push_event(end: End) -> &'static str {
    match end {
        End::Left => "lpush",
        End::Right => "rpush",
    }
}

fn pop_event(end: End) -> &'static str {
    match end {
        End::Left => "lpop",
        End::Right => "rpop",
    }
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
    let create = || (missing == Missing::Create).then(List::default);
    let pushed = grow(cx, key, value_of, create, |list| {
        for element in args.from(2).iter() {
            list.push(end, element, limit);
        }
        list.len()
    })?;
    if pushed.is_some() {
        cx.changed_as_sent(&[key], args);
        cx.notify(Class::LIST, push_event(end), key);
    }
    cx.reply.count(pushed.unwrap_or(0));
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

/// Takes at most `count` elements from an end of the list at `key`, and the key with the last one,
/// and writes them behind the `head` of the reply, which gets to know how many they are. Returns
/// how many; `None`, and nothing is written, if there is no list. The effect is the caller's to
/// tell.
fn take(
    cx: &mut Cx<'_>,
    key: Key<'_>,
    end: End,
    count: usize,
    head: impl FnOnce(&mut Reply<'_>, usize),
) -> Result<Option<usize>, CommandError> {
    let limit = node_limit(cx);
    shrink_with_reply(cx, key, |list: &mut List, reply| {
        let taking = count.min(list.len());
        head(reply, taking);
        for _ in 0..taking {
            list.pop(end, limit, |element| reply.bulk(element));
        }
        taking
    })
}

fn pop(cx: &mut Cx<'_>, args: Args<'_>, end: End, name: &str) -> CommandResult {
    if args.len() > 3 {
        return Err(wrong_arity(name));
    }
    let count = pop_count(args, 2)?;
    let key = Key::new(args.at(1));
    let head = |reply: &mut Reply<'_>, taking| {
        if count.is_some() {
            reply.array(taking);
        }
    };
    match (take(cx, key, end, count.unwrap_or(1), head)?, count) {
        (None, None) => cx.reply.null(),
        (None, Some(_)) => cx.reply.null_array(),
        (Some(0), _) => {}
        (Some(_), _) => {
            cx.changed_as_sent(&[key], args);
            cx.notify_shrunk(Class::LIST, pop_event(end), key);
        }
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

/// The part of a list between two positions, both included: its start and its length.
fn part(start: i64, stop: i64, len: usize) -> (usize, usize) {
    let start = position(start, len).unwrap_or(0);
    let end = match position(stop, len) {
        Some(stop) => stop.saturating_add(1).min(len),
        None => 0,
    };
    (start, end.saturating_sub(start))
}

fn lrange(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let (start, stop) = (integer(args.at(2))?, integer(args.at(3))?);
    let (list, reply) = read::<List>(cx, Key::new(args.at(1)))?;
    let Some(list) = list else {
        reply.array(0);
        return Ok(());
    };
    let (start, count) = part(start, stop, list.len());
    reply.array(count);
    list.visit(start..start + count, End::Left, |_, element| {
        reply.bulk(element);
        ControlFlow::Continue(())
    });
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
        Some(element) => reply.bulk(&element),
        None => reply.null(),
    }
    Ok(())
}

#[cfg(test)]
mod tests;
