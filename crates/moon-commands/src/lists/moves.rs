//! What takes from one list and gives elsewhere: LMOVE, RPOPLPUSH, LMPOP.

use super::{node_limit, pop_event, push_event, take};
use crate::collection::{shrink, write};
use crate::context::{CommandResult, Cx};
use crate::error::CommandError;
use crate::notify::Class;
use crate::parse::{at_least, is, next_option, option_value};
use moon_resp::{Args, Reply};
use moon_store::{End, Key, List, Value};

pub(super) fn end(arg: &[u8]) -> Result<End, CommandError> {
    if is(arg, "left") {
        Ok(End::Left)
    } else if is(arg, "right") {
        Ok(End::Right)
    } else {
        Err(CommandError::Syntax)
    }
}

pub(super) fn lmove(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let (from, to) = (end(args.at(3))?, end(args.at(4))?);
    move_as_sent(cx, args, from, to)
}

pub(super) fn rpoplpush(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    move_as_sent(cx, args, End::Right, End::Left)
}

fn move_as_sent(cx: &mut Cx<'_>, args: Args<'_>, from: End, to: End) -> CommandResult {
    let (source, destination) = (Key::new(args.at(1)), Key::new(args.at(2)));
    if move_element(cx, source, destination, from, to)? {
        cx.changed_as_sent(&[source, destination], args);
    } else {
        cx.reply.null();
    }
    Ok(())
}

/// Moves an element from an end of the list `source` to an end of `destination` and answers it;
/// `false`, and nothing is written, if there is no list. The effect is the caller's to tell.
pub(super) fn move_element(
    cx: &mut Cx<'_>,
    source: Key<'_>,
    destination: Key<'_>,
    from: End,
    to: End,
) -> Result<bool, CommandError> {
    let limit = node_limit(cx);
    let Some(list) = write::<List>(cx, source)? else {
        return Ok(false);
    };
    let element = list.peek(from).unwrap_or_default().to_vec();
    // Nothing is taken before the type of the destination is known. With one list at both keys it
    // is the same look-up, and the list stays although it may be empty in between.
    match write::<List>(cx, destination)? {
        Some(list) if source.bytes == destination.bytes => {
            list.pop(from, limit, |_| ());
            list.push(to, &element, limit);
        }
        Some(list) => list.push(to, &element, limit),
        None => {
            let mut list = List::default();
            list.push(to, &element, limit);
            cx.store(destination, Value::List(Box::new(list)), None);
        }
    }
    if source.bytes != destination.bytes {
        shrink(cx, source, |list: &mut List| list.pop(from, limit, |_| ()))?;
    }
    cx.notify(Class::LIST, push_event(to), destination);
    cx.notify_shrunk(Class::LIST, pop_event(from), source);
    cx.reply.bulk(&element);
    Ok(true)
}

pub(super) fn lmpop(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let pop = PopOfSeveral::parse(args.from(1))?;
    pop.run(cx)?;
    Ok(())
}

/// What LMPOP and BLMPOP ask for.
pub(super) struct PopOfSeveral<'a> {
    keys: Args<'a>,
    /// How many of `keys` are keys.
    key_count: usize,
    from: End,
    count: usize,
}

impl<'a> PopOfSeveral<'a> {
    /// Arguments that begin with the number of keys.
    pub(super) fn parse(args: Args<'a>) -> Result<PopOfSeveral<'a>, CommandError> {
        let number = "ERR numkeys should be greater than 0";
        let key_count = at_least(1, args.at(0), number)?;
        let mut at = key_count.saturating_add(1);
        let from = end(option_value(args, &mut at)?)?;
        let mut count = None;
        while let Some(option) = next_option(args, &mut at) {
            if count.is_some() || !is(option, "count") {
                return Err(CommandError::Syntax);
            }
            let value = option_value(args, &mut at)?;
            count = Some(at_least(1, value, "ERR count should be greater than 0")?);
        }
        Ok(PopOfSeveral {
            keys: args.from(1),
            key_count,
            from,
            count: count.unwrap_or(1),
        })
    }

    /// Takes from the first list that there is and answers; whether there was one.
    pub(super) fn run(&self, cx: &mut Cx<'_>) -> Result<bool, CommandError> {
        for key in self.keys.iter().take(self.key_count).map(Key::new) {
            let head = |reply: &mut Reply<'_>, taking| {
                reply.array(2);
                reply.bulk(key.bytes);
                reply.array(taking);
            };
            let Some(taken) = take(cx, key, self.from, self.count, head)? else {
                continue;
            };
            let name: &[u8] = match self.from {
                End::Left => b"LPOP",
                End::Right => b"RPOP",
            };
            let mut text = itoa::Buffer::new();
            cx.changed(&[key], &[name, key.bytes, text.format(taken).as_bytes()]);
            cx.notify_shrunk(Class::LIST, pop_event(self.from), key);
            return Ok(true);
        }
        cx.reply.null_array();
        Ok(false)
    }
}
