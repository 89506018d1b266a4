//! XGROUP: consumer groups and their consumers.

use super::{ids, no_group_of_key, now_ms};
use crate::collection::write;
use crate::context::{CommandResult, Cx};
use crate::error::CommandError;
use crate::notify::Class;
use crate::parse::{self, is, next_option, option_value};
use crate::subcommands;
use moon_resp::Args;
use moon_store::{Key, Stream, StreamId, Value};

pub(crate) fn help(cx: &mut Cx<'_>, _: Args<'_>) -> CommandResult {
    subcommands::help_reply(&mut cx.reply, "xgroup");
    Ok(())
}

/// What may stand behind the id of CREATE and SETID.
#[derive(Default)]
struct Options {
    creates_stream: bool,
    entries_read: Option<u64>,
}

impl Options {
    fn parse(args: Args<'_>, may_create: bool) -> Result<Options, CommandError> {
        let mut options = Options::default();
        let mut at = 5;
        while let Some(option) = next_option(args, &mut at) {
            if may_create && is(option, "mkstream") {
                options.creates_stream = true;
            } else if is(option, "entriesread") && at < args.len() {
                let number = parse::integer(option_value(args, &mut at)?)?;
                options.entries_read = u64::try_from(number).ok();
                if number < -1 {
                    return Err(CommandError::Text(
                        "ERR value for ENTRIESREAD must be positive or -1",
                    ));
                }
            } else {
                return Err(subcommands::wrong_arguments(args, "XGROUP"));
            }
        }
        Ok(options)
    }
}

const NO_KEY: CommandError = CommandError::Text(
    "ERR The XGROUP subcommand requires the key to exist. Note that for CREATE you may want to use \
     the MKSTREAM option to create an empty stream automatically.",
);

/// The stream at `key` with the group `group`.
fn stream_with_group<'c>(
    cx: &'c mut Cx<'_>,
    key: Key<'_>,
    group: &[u8],
) -> Result<&'c mut Stream, CommandError> {
    let stream = write::<Stream>(cx, key)?.ok_or(NO_KEY)?;
    match stream.group(group) {
        Some(_) => Ok(stream),
        None => Err(no_group_of_key(key.bytes, group)),
    }
}

pub(crate) fn create(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let options = Options::parse(args, true)?;
    let (key, group) = (Key::new(args.at(2)), args.at(3));
    let stream = write::<Stream>(cx, key)?;
    if stream.is_none() && !options.creates_stream {
        return Err(NO_KEY);
    }
    if args.len() > 8 {
        return Err(subcommands::wrong_arguments(args, "XGROUP"));
    }
    let id = match args.at(4) {
        b"$" => stream.as_ref().map_or(StreamId::MIN, |s| s.last_id()),
        id => ids::strict(id, 0)?,
    };
    match stream {
        Some(stream) => {
            if !stream.create_group(group, id, options.entries_read) {
                return Err(CommandError::Text(
                    "BUSYGROUP Consumer Group name already exists",
                ));
            }
        }
        None => {
            let mut stream = Stream::default();
            stream.create_group(group, id, options.entries_read);
            cx.store(key, Value::Stream(Box::new(stream)), None);
        }
    }
    let (id, read) = (id.to_string(), options.entries_read.map(|n| n.to_string()));
    let mut effect: Vec<&[u8]> = vec![b"XGROUP", b"CREATE", key.bytes, group, id.as_bytes()];
    if options.creates_stream {
        effect.push(b"MKSTREAM");
    }
    if let Some(read) = &read {
        effect.extend([b"ENTRIESREAD", read.as_bytes()]);
    }
    cx.changed(&[key], &effect);
    cx.notify(Class::STREAM, "xgroup-create", key);
    cx.reply.ok();
    Ok(())
}

pub(crate) fn set_id(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let options = Options::parse(args, false)?;
    let (key, group) = (Key::new(args.at(2)), args.at(3));
    let stream = stream_with_group(cx, key, group)?;
    if !matches!(args.len(), 5 | 7) {
        return Err(subcommands::wrong_arguments(args, "XGROUP"));
    }
    let id = match args.at(4) {
        b"$" => stream.last_id(),
        id => ids::lenient(id, 0)?,
    };
    stream.change_group(group, |group| {
        group.last_id = id;
        group.entries_read = options.entries_read;
    });
    let (id, read) = (id.to_string(), options.entries_read.map(|n| n.to_string()));
    let mut effect: Vec<&[u8]> = vec![b"XGROUP", b"SETID", key.bytes, group, id.as_bytes()];
    if let Some(read) = &read {
        effect.extend([b"ENTRIESREAD", read.as_bytes()]);
    }
    cx.changed(&[key], &effect);
    cx.notify(Class::STREAM, "xgroup-setid", key);
    cx.reply.ok();
    Ok(())
}

pub(crate) fn destroy(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let (key, group) = (Key::new(args.at(2)), args.at(3));
    let stream = write::<Stream>(cx, key)?.ok_or(NO_KEY)?;
    let was_there = stream.destroy_group(group);
    if was_there {
        cx.changed_as_sent(&[key], args);
        cx.notify(Class::STREAM, "xgroup-destroy", key);
    }
    cx.reply.flag(was_there);
    Ok(())
}

pub(crate) fn create_consumer(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let (key, group, name) = (Key::new(args.at(2)), args.at(3), args.at(4));
    let now = now_ms(cx);
    let stream = stream_with_group(cx, key, group)?;
    let created = stream.change_group(group, |group| group.create_consumer(name, now).1);
    if created == Some(true) {
        cx.changed_as_sent(&[key], args);
        cx.notify(Class::STREAM, "xgroup-createconsumer", key);
    }
    cx.reply.flag(created == Some(true));
    Ok(())
}

pub(crate) fn delete_consumer(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let (key, group, name) = (Key::new(args.at(2)), args.at(3), args.at(4));
    let stream = stream_with_group(cx, key, group)?;
    let pending = stream
        .change_group(group, |group| group.remove_consumer(name))
        .flatten();
    if pending.is_some() {
        cx.changed_as_sent(&[key], args);
        cx.notify(Class::STREAM, "xgroup-delconsumer", key);
    }
    cx.reply.count(pending.unwrap_or(0));
    Ok(())
}
