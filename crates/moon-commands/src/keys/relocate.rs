//! A value under another name or in another database: RENAME, RENAMENX, COPY, MOVE.

use crate::context::{CommandResult, Cx};
use crate::error::CommandError;
use crate::notify::Class;
use crate::parse;
use moon_resp::Args;
use moon_store::{DbIndex, Key};

const SAME_OBJECT: CommandError =
    CommandError::Text("ERR source and destination objects are the same");

pub(super) fn rename(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    rename_if(cx, args, true)?;
    cx.reply.ok();
    Ok(())
}

pub(super) fn renamenx(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let renamed = rename_if(cx, args, false)?;
    cx.reply.flag(renamed);
    Ok(())
}

/// Renames, if it may replace the destination or there is none; whether it did.
fn rename_if(cx: &mut Cx<'_>, args: Args<'_>, replace: bool) -> Result<bool, CommandError> {
    let (from, to) = (Key::new(args.at(1)), Key::new(args.at(2)));
    if cx.live(cx.db, from).is_none() {
        return Err(CommandError::Text("ERR no such key"));
    }
    if from.bytes == to.bytes || (cx.live(cx.db, to).is_some() && !replace) {
        return Ok(false);
    }
    if let Some((value, deadline)) = cx.take(from) {
        // What was there is deleted, and not changed.
        cx.notify(Class::NEW, "new", to);
        let db = cx.db;
        cx.shard(to).db(db).store(to, value, deadline);
    }
    cx.changed(&[from, to], &[b"RENAME", from.bytes, to.bytes]);
    cx.notify(Class::GENERIC, "rename_from", from);
    cx.notify(Class::GENERIC, "rename_to", to);
    Ok(true)
}

pub(super) fn copy(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let (from, to) = (Key::new(args.at(1)), Key::new(args.at(2)));
    let (mut to_db, mut replace) = (cx.db, false);
    let mut at = 3;
    while let Some(option) = parse::next_option(args, &mut at) {
        if parse::is(option, "replace") {
            replace = true;
        } else if parse::is(option, "db") {
            to_db = parse::database(parse::option_value(args, &mut at)?, cx.databases())?;
        } else {
            return Err(CommandError::Syntax);
        }
    }
    if to_db == cx.db && from.bytes == to.bytes {
        return Err(SAME_OBJECT);
    }
    let found = cx.is_source_there(from);
    let copied = found && (cx.live(to_db, to).is_none() || replace);
    if copied {
        copy_value(cx, from, to_db, to, args);
    }
    cx.reply.flag(copied);
    Ok(())
}

fn copy_value(cx: &mut Cx<'_>, from: Key<'_>, to_db: DbIndex, to: Key<'_>, args: Args<'_>) {
    let Some((value, deadline)) = cx.shards.of_key(from.bytes).db(cx.db).get(from) else {
        return;
    };
    let value = value.clone();
    // What was there is deleted, and not changed.
    cx.notify_in(Class::NEW, "new", to_db, to);
    cx.shard(to).db(to_db).store(to, value, deadline);
    cx.mark(to_db, to);
    cx.effects.push_args(cx.db, args);
    cx.notify_in(Class::GENERIC, "copy_to", to_db, to);
}

pub(super) fn move_key(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let key = Key::new(args.at(1));
    let to_db = parse::database(args.at(2), cx.databases())?;
    if to_db == cx.db {
        return Err(SAME_OBJECT);
    }
    let moved = cx.live(cx.db, key).is_some() && cx.live(to_db, key).is_none();
    if moved && let Some((value, deadline)) = cx.take(key) {
        cx.store_in(to_db, key, value, deadline);
        let mut text = itoa::Buffer::new();
        let keys = [(cx.db, key), (to_db, key)];
        let effect = [b"MOVE", key.bytes, text.format(to_db).as_bytes()];
        cx.changed_across(&keys, &effect);
        cx.notify(Class::GENERIC, "move_from", key);
        cx.notify_in(Class::GENERIC, "move_to", to_db, key);
    }
    cx.reply.flag(moved);
    Ok(())
}
