//! What COMMAND and its subcommands answer, written from the table.

use crate::command_keys::{self, KeyPlace, KeySpec, flags_in_request, key_specs};
use crate::error::CommandError;
use crate::glob::{self, Case};
use crate::spec::{CommandSpec, Flags, Keys};
use crate::{subcommands, syntax, table};
use moon_resp::{Args, Reply};

/// Runs COMMAND; `args` is the whole request.
///
/// # Errors
/// As Redis words them; nothing but a part of the reply may have been written then.
pub fn command_reply(reply: &mut Reply<'_>, args: Args<'_>) -> Result<(), CommandError> {
    if args.len() < 2 {
        write_all_infos(reply);
        return Ok(());
    }
    let subcommand = subcommands::resolve("command", args)?;
    let rest = args.from(2);
    match subcommands::own_name(subcommand) {
        "count" => reply.count(table::all().len()),
        "docs" => write_docs(reply, rest),
        "getkeys" => write_keys(reply, rest, Detail::Keys)?,
        "getkeysandflags" => write_keys(reply, rest, Detail::KeysAndFlags)?,
        "info" if rest.is_empty() => write_all_infos(reply),
        "info" => {
            reply.array(rest.len());
            for name in rest.iter() {
                match find(name) {
                    Some(spec) => write_info(reply, spec),
                    None => reply.null(),
                }
            }
        }
        "list" => write_list(reply, rest)?,
        _ => subcommands::help_reply(reply, "command"),
    }
    Ok(())
}

/// The command or `container|subcommand` called `name`.
fn find(name: &[u8]) -> Option<&'static CommandSpec> {
    let mut parts = name.split(|byte| *byte == b'|');
    let (_, spec) = table::lookup(parts.next()?)?;
    match (parts.next(), parts.next()) {
        (None, _) => Some(spec),
        (Some(subcommand), None) => subcommands::lookup(spec.name, subcommand),
        (Some(_), Some(_)) => None,
    }
}

/// Every command and subcommand.
fn everything() -> impl Iterator<Item = &'static CommandSpec> {
    table::all()
        .iter()
        .flat_map(|spec| std::iter::once(*spec).chain(subcommands::of(spec.name)))
}

fn write_all_infos(reply: &mut Reply<'_>) {
    reply.array(table::all().len());
    for spec in table::all() {
        write_info(reply, spec);
    }
}

/// The ten elements that describe a command.
fn write_info(reply: &mut Reply<'_>, spec: &CommandSpec) {
    let subcommands = subcommands::of(spec.name);
    reply.array(10);
    reply.bulk(spec.name.as_bytes());
    reply.integer(i64::from(spec.arity));
    let flags = flag_names(spec.flags);
    reply.set(flags.len());
    for flag in flags {
        reply.simple(flag);
    }
    for number in key_range(spec) {
        reply.integer(number);
    }
    reply.set(spec.acl.split_ascii_whitespace().count());
    for category in spec.acl.split_ascii_whitespace() {
        reply.simple(&format!("@{category}"));
    }
    // Tips are for cluster proxies; there are none.
    reply.set(0);
    let specs = key_specs(spec);
    reply.set(specs.len());
    for keys in &specs {
        write_key_spec(reply, keys);
    }
    if subcommands.is_empty() {
        reply.set(0);
    } else {
        reply.array(subcommands.len());
        for subcommand in subcommands {
            write_info(reply, subcommand);
        }
    }
}

/// First key, last key, step. The keys of a container are those of its subcommands.
fn key_range(spec: &CommandSpec) -> [i64; 3] {
    match spec.keys {
        Keys::Range { first, last, step } if subcommands::of(spec.name).is_empty() => {
            [first.into(), last.into(), step.into()]
        }
        Keys::FirstAndFound(_)
        | Keys::Numkeys {
            destination: true, ..
        } => [1; 3],
        Keys::Found(_) => match key_specs(spec).first().and_then(|keys| keys.place) {
            Some(KeyPlace::Range(range)) => [range.first, range.first + range.last, range.step],
            _ => [0; 3],
        },
        _ => [0; 3],
    }
}

fn flag_names(flags: Flags) -> Vec<&'static str> {
    const NAMES: [(Flags, &str); 16] = [
        (Flags::WRITE, "write"),
        (Flags::READONLY, "readonly"),
        (Flags::DENYOOM, "denyoom"),
        (Flags::ADMIN, "admin"),
        (Flags::PUBSUB, "pubsub"),
        (Flags::NOSCRIPT, "noscript"),
        (Flags::BLOCKING, "blocking"),
        (Flags::LOADING, "loading"),
        (Flags::STALE, "stale"),
        (Flags::SKIP_MONITOR, "skip_monitor"),
        (Flags::SKIP_SLOWLOG, "skip_slowlog"),
        (Flags::FAST, "fast"),
        (Flags::NO_AUTH, "no_auth"),
        (Flags::MOVABLEKEYS, "movablekeys"),
        (Flags::NO_MULTI, "no_multi"),
        (Flags::ALLOW_BUSY, "allow_busy"),
    ];
    NAMES
        .iter()
        .filter(|(flag, _)| flags.contains(*flag))
        .map(|(_, name)| *name)
        .collect()
}

fn write_key_spec(reply: &mut Reply<'_>, keys: &KeySpec) {
    reply.map(3);
    reply.bulk(b"flags");
    write_key_flags(reply, keys.flags);
    let Some(place) = keys.place else {
        for part in ["begin_search", "find_keys"] {
            reply.bulk(part.as_bytes());
            write_search(reply, "unknown", &[]);
        }
        return;
    };
    let first = match place {
        KeyPlace::Range(range) => range.first,
        KeyPlace::Numkeys(at) => at,
    };
    reply.bulk(b"begin_search");
    write_search(reply, "index", &[("index", first)]);
    reply.bulk(b"find_keys");
    match place {
        KeyPlace::Range(range) => {
            let numbers = [
                ("lastkey", range.last),
                ("keystep", range.step),
                ("limit", 0),
            ];
            write_search(reply, "range", &numbers);
        }
        KeyPlace::Numkeys(_) => {
            let numbers = [("keynumidx", 0), ("firstkey", 1), ("keystep", 1)];
            write_search(reply, "keynum", &numbers);
        }
    }
}

/// A way to find something, with the numbers it takes.
fn write_search(reply: &mut Reply<'_>, kind: &str, numbers: &[(&str, i64)]) {
    reply.map(2);
    reply.bulk(b"type");
    reply.bulk(kind.as_bytes());
    reply.bulk(b"spec");
    reply.map(numbers.len());
    for (name, number) in numbers {
        reply.bulk(name.as_bytes());
        reply.integer(*number);
    }
}

fn write_key_flags(reply: &mut Reply<'_>, flags: &[&str]) {
    reply.set(flags.len());
    for flag in flags {
        reply.simple(flag);
    }
}

fn write_list(reply: &mut Reply<'_>, filter: Args<'_>) -> Result<(), CommandError> {
    let names: Vec<&str> = match filter.len() {
        0 => everything().map(|spec| spec.name).collect(),
        3 if filter[0].eq_ignore_ascii_case(b"filterby") => {
            let wanted = filter.at(2);
            let kind = filter.at(1).to_ascii_lowercase();
            let fits = |spec: &CommandSpec| match kind.as_slice() {
                b"aclcat" => spec
                    .acl
                    .split_ascii_whitespace()
                    .any(|category| category.as_bytes().eq_ignore_ascii_case(wanted)),
                b"pattern" => glob::matches(wanted, spec.name.as_bytes(), Case::Insensitive),
                // There are no modules.
                _ => false,
            };
            if !matches!(kind.as_slice(), b"aclcat" | b"pattern" | b"module") {
                return Err(CommandError::Syntax);
            }
            everything()
                .filter(|spec| fits(spec))
                .map(|spec| spec.name)
                .collect()
        }
        _ => return Err(CommandError::Syntax),
    };
    reply.array(names.len());
    for name in names {
        reply.bulk(name.as_bytes());
    }
    Ok(())
}

fn write_docs(reply: &mut Reply<'_>, names: Args<'_>) {
    let specs: Vec<&CommandSpec> = if names.is_empty() {
        table::all().to_vec()
    } else {
        names.iter().filter_map(find).collect()
    };
    reply.map(specs.len());
    for spec in specs {
        write_doc(reply, spec);
    }
}

/// A name, and the map of what is documented about it.
fn write_doc(reply: &mut Reply<'_>, spec: &CommandSpec) {
    let subcommands = subcommands::of(spec.name);
    let deprecated = deprecation(spec.name);
    reply.bulk(spec.name.as_bytes());
    let arguments = syntax::of(spec.name);
    let pairs = 4 + usize::from(!subcommands.is_empty()) + usize::from(!arguments.is_empty());
    reply.map(pairs + if deprecated.is_some() { 3 } else { 0 });
    for (name, text) in [
        ("summary", spec.summary),
        ("since", spec.since),
        ("group", spec.group),
        ("complexity", spec.complexity),
    ] {
        reply.bulk(name.as_bytes());
        reply.bulk(text.as_bytes());
    }
    if let Some((since, instead)) = deprecated {
        reply.bulk(b"doc_flags");
        reply.set(1);
        reply.simple("deprecated");
        reply.bulk(b"deprecated_since");
        reply.bulk(since.as_bytes());
        reply.bulk(b"replaced_by");
        reply.bulk(instead.as_bytes());
    }
    if !arguments.is_empty() {
        reply.bulk(b"arguments");
        syntax::write_arguments(reply, arguments);
    }
    if !subcommands.is_empty() {
        reply.bulk(b"subcommands");
        reply.map(subcommands.len());
        for subcommand in subcommands {
            write_doc(reply, subcommand);
        }
    }
}

/// Since when a command should not be used any more, and what instead.
fn deprecation(name: &str) -> Option<(&'static str, &'static str)> {
    match name {
        "getset" => Some(("6.2.0", "`SET` with `GET`")),
        "hmset" => Some(("4.0.0", "`HSET`")),
        "substr" => Some(("2.0.0", "`GETRANGE`")),
        _ => None,
    }
}

/// What is answered about the keys of a request.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Detail {
    Keys,
    KeysAndFlags,
}

/// Whether a request says that it names no keys, which only scripts and functions may do.
fn names_no_keys(spec: &CommandSpec, request: Args<'_>) -> bool {
    spec.group == "scripting" && request.get(2) == Some(b"0")
}

/// The keys of `request`, a whole command.
fn write_keys(
    reply: &mut Reply<'_>,
    request: Args<'_>,
    detail: Detail,
) -> Result<(), CommandError> {
    let name = request.get(0).unwrap_or_default();
    let mut spec = table::lookup(name).map(|(_, spec)| spec);
    if let Some(container) = spec.filter(|spec| !subcommands::of(spec.name).is_empty())
        && let Some(subcommand) = request.get(1)
    {
        spec = subcommands::lookup(container.name, subcommand);
    }
    let spec = spec.ok_or(CommandError::Text("ERR Invalid command specified"))?;
    if matches!(spec.keys, Keys::None) || command_keys::are_no_keys(spec) {
        return Err(CommandError::Text("ERR The command has no key arguments"));
    }
    if !spec.accepts(request.len()) {
        return Err(CommandError::Text(
            "ERR Invalid number of arguments specified for command",
        ));
    }
    let mut positions = Vec::new();
    spec.key_positions(request, &mut positions);
    if positions.is_empty() && !names_no_keys(spec, request) {
        return Err(CommandError::Text(
            "ERR Invalid arguments specified for command",
        ));
    }
    reply.array(positions.len());
    for (nth, at) in positions.iter().enumerate() {
        let key = request.get(*at).unwrap_or_default();
        if detail == Detail::Keys {
            reply.bulk(key);
            continue;
        }
        reply.array(2);
        reply.bulk(key);
        write_key_flags(reply, flags_in_request(spec, request, nth));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
