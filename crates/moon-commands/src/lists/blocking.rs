//! BLPOP, BRPOP, BLMOVE, BRPOPLPUSH, BLMPOP: as LPOP and its kin, and if there is no element, they
//! would wait for one. Their effects are those of the commands that do not wait.

use super::moves::{self, move_element};
use super::{pop_event, take};
use crate::blocking::{seconds, waits};
use crate::context::{CommandResult, Cx};
use crate::notify::Class;
use crate::pop_several;
use moon_resp::{Args, Reply};
use moon_store::{End, Key};

pub(super) fn blpop(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    pop(cx, args, End::Left, b"LPOP")
}

pub(super) fn brpop(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    pop(cx, args, End::Right, b"RPOP")
}

fn pop(cx: &mut Cx<'_>, args: Args<'_>, end: End, effect: &[u8]) -> CommandResult {
    let last = args.len() - 1;
    let timeout_ms = seconds(args.at(last), cx.now)?;
    for key in args.iter().take(last).skip(1).map(Key::new) {
        let head = |reply: &mut Reply<'_>, _| {
            reply.array(2);
            reply.bulk(key.bytes);
        };
        if take(cx, key, end, 1, head)?.is_some() {
            cx.changed(&[key], &[effect, key.bytes]);
            cx.notify_shrunk(Class::LIST, pop_event(end), key);
            return Ok(());
        }
    }
    cx.reply.null_array();
    waits(cx, timeout_ms);
    Ok(())
}

pub(super) fn blmove(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let (from, to) = (moves::end(args.at(3))?, moves::end(args.at(4))?);
    let timeout_ms = seconds(args.at(5), cx.now)?;
    let (source, destination) = (Key::new(args.at(1)), Key::new(args.at(2)));
    if move_element(cx, source, destination, from, to)? {
        let [from, to] = [from, to].map(|end| match end {
            End::Left => b"LEFT".as_slice(),
            End::Right => b"RIGHT",
        });
        let effect = [b"LMOVE", source.bytes, destination.bytes, from, to];
        cx.changed(&[source, destination], &effect);
    } else {
        cx.reply.null();
        waits(cx, timeout_ms);
    }
    Ok(())
}

pub(super) fn brpoplpush(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let timeout_ms = seconds(args.at(3), cx.now)?;
    let (source, destination) = (Key::new(args.at(1)), Key::new(args.at(2)));
    if move_element(cx, source, destination, End::Right, End::Left)? {
        let effect = [b"RPOPLPUSH", source.bytes, destination.bytes];
        cx.changed(&[source, destination], &effect);
    } else {
        cx.reply.null();
        waits(cx, timeout_ms);
    }
    Ok(())
}

pub(super) fn blmpop(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    pop_several::pop_or_wait::<End>(cx, args)
}
