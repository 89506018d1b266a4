//! Several strings in one atomic step: MGET, MSET, MSETNX.

use crate::context::{CommandResult, Cx};
use crate::notify::Class;
use crate::parse;
use moon_resp::Args;

use moon_store::{IntText, Key, Value};

pub(super) fn mget(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    cx.reply.array(args.len() - 1);
    let mut text = IntText::new();
    for key in args.from(1).iter() {
        let (found, reply) = cx.read_with_reply(Key::new(key));
        match found.and_then(|(value, _)| value.as_bytes(&mut text)) {
            Some(bytes) => reply.bulk(bytes),
            None => reply.null(),
        }
    }
    Ok(())
}

pub(super) fn mset(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    if args.len().is_multiple_of(2) {
        return Err(parse::wrong_arity("mset"));
    }
    set_all(cx, args);
    cx.effects.push_args(cx.db, args);
    cx.reply.ok();
    Ok(())
}

pub(super) fn msetnx(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    if args.len().is_multiple_of(2) {
        return Err(parse::wrong_arity("msetnx"));
    }
    let db = cx.db;
    let exists = |at| cx.live(db, Key::new(args.at(at))).is_some();
    let any_exists = (1..args.len()).step_by(2).any(exists);
    if !any_exists {
        set_all(cx, args);
        let mut effect: Vec<&[u8]> = Vec::with_capacity(args.len());
        effect.push(b"MSET");
        effect.extend(args.from(1).iter());
        cx.effects.push(cx.db, &effect);
    }
    cx.reply.flag(!any_exists);
    Ok(())
}

/// Sets every pair. The effect is the caller's to tell.
fn set_all(cx: &mut Cx<'_>, args: Args<'_>) {
    for at in (1..args.len()).step_by(2) {
        let key = Key::new(args.at(at));
        cx.live_if_told(key);
        cx.store(key, Value::string(args.at(at + 1)), None);
        cx.mark(cx.db, key);
        cx.notify(Class::STRING, "set", key);
    }
}
