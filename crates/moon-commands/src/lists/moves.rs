//! What takes from one list and gives elsewhere: LMOVE, RPOPLPUSH, LMPOP.

use super::{node_limit, pop_event, push_event, take};
use crate::collection::{shrink, write};
use crate::context::{CommandResult, Cx};
use crate::error::CommandError;
use crate::notify::Class;
use crate::parse::is;
use crate::pop_several::{self, PopEnd};
use moon_resp::Args;
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
    pop_several::pop::<End>(cx, args)
}

impl PopEnd for End {
    const CLASS: Class = Class::LIST;

    fn parse(word: &[u8]) -> Result<End, CommandError> {
        end(word)
    }

    fn effect(self) -> &'static [u8] {
        match self {
            End::Left => b"LPOP",
            End::Right => b"RPOP",
        }
    }

    fn event(self) -> &'static str {
        pop_event(self)
    }

    fn take(
        self,
        cx: &mut Cx<'_>,
        key: Key<'_>,
        count: usize,
    ) -> Result<Option<usize>, CommandError> {
        take(cx, key, self, count, |reply, taking| {
            reply.array(2);
            reply.bulk(key.bytes);
            reply.array(taking);
        })
    }
}
