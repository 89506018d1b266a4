//! Subcommands: a row each, and the look-up that refuses what is not one.
//!
//! A container, such as XGROUP, is run by none but its subcommands, and says nothing of them: what a
//! request is and may do stands in the row of its subcommand, which [`row_of`] finds.

use crate::error::CommandError;
use crate::keys::presence;
use crate::scripting;
use crate::spec::{CommandSpec, Flags, Keys, Run, Scope};
use crate::streams::{groups, info};
use crate::syntax;
use moon_resp::{Args, Reply};

/// What all rows share; each names the rest. Names are `container|subcommand`.
const SUBCOMMAND: CommandSpec = CommandSpec {
    name: "",
    arity: 2,
    flags: Flags::LOADING.union(Flags::STALE),
    keys: Keys::None,
    scope: Scope::None,
    run: Run::Server,
    acl: "slow",
    group: "server",
    since: "5.0.0",
    complexity: "O(1)",
    summary: "",
};
const CLIENT: CommandSpec = CommandSpec {
    flags: SUBCOMMAND.flags.union(Flags::NOSCRIPT),
    acl: "slow connection",
    group: "connection",
    ..SUBCOMMAND
};
const CLIENT_ADMIN: CommandSpec = CommandSpec {
    flags: CLIENT.flags.union(Flags::ADMIN),
    acl: "admin slow dangerous connection",
    ..CLIENT
};
const COMMAND: CommandSpec = CommandSpec {
    acl: "slow connection",
    ..SUBCOMMAND
};
const CONFIG: CommandSpec = CommandSpec {
    flags: CLIENT_ADMIN.flags,
    acl: "admin slow dangerous",
    since: "2.0.0",
    ..SUBCOMMAND
};
const OBJECT: CommandSpec = CommandSpec {
    arity: 3,
    flags: Flags::READONLY,
    keys: Keys::Range {
        first: 2,
        last: 2,
        step: 1,
    },
    scope: Scope::Keys,
    acl: "keyspace read slow",
    group: "generic",
    since: "2.2.3",
    ..SUBCOMMAND
};

const MEMORY: CommandSpec = CommandSpec {
    flags: Flags::empty(),
    since: "4.0.0",
    ..SUBCOMMAND
};

const CONTAINER: CommandSpec = CommandSpec {
    arity: -2,
    flags: Flags::empty(),
    complexity: "That of the subcommand.",
    ..SUBCOMMAND
};

/// The containers all of whose subcommands run against data.
pub(crate) static CONTAINERS: &[CommandSpec] = &[
    CommandSpec {
        name: "object",
        group: "generic",
        since: "2.2.3",
        summary: "Holds the subcommands on how values are kept.",
        ..CONTAINER
    },
    CommandSpec {
        name: "xgroup",
        group: "stream",
        summary: "Holds the subcommands on groups of consumers.",
        ..CONTAINER
    },
    CommandSpec {
        name: "xinfo",
        group: "stream",
        summary: "Holds the subcommands that describe streams.",
        ..CONTAINER
    },
];

static CLIENT_SUBCOMMANDS: &[CommandSpec] = &[
    CommandSpec {
        name: "client|caching",
        arity: 3,
        since: "6.0.0",
        summary: "Has the keys that the next command reads remembered, or not.",
        ..CLIENT
    },
    CommandSpec {
        name: "client|getname",
        since: "2.6.9",
        summary: "Answers the name of this connection.",
        ..CLIENT
    },
    CommandSpec {
        name: "client|getredir",
        since: "6.0.0",
        summary: "Answers which client is told of stale copies in the place of this one.",
        ..CLIENT
    },
    CommandSpec {
        name: "client|help",
        flags: SUBCOMMAND.flags,
        summary: "Lists the subcommands.",
        ..CLIENT
    },
    CommandSpec {
        name: "client|id",
        summary: "Answers the number of this connection, which is never used again.",
        ..CLIENT
    },
    CommandSpec {
        name: "client|info",
        since: "6.2.0",
        summary: "Describes this connection.",
        ..CLIENT
    },
    CommandSpec {
        name: "client|kill",
        arity: -3,
        since: "2.4.0",
        complexity: "O(N) for N connections.",
        summary: "Closes the connections that fit the filters.",
        ..CLIENT_ADMIN
    },
    CommandSpec {
        name: "client|list",
        arity: -2,
        since: "2.4.0",
        complexity: "O(N) for N connections.",
        summary: "Describes all connections, or those that fit the filters.",
        ..CLIENT_ADMIN
    },
    CommandSpec {
        name: "client|no-evict",
        arity: 3,
        since: "7.0.0",
        summary: "Keeps this connection from being closed to save memory, or not.",
        ..CLIENT_ADMIN
    },
    CommandSpec {
        name: "client|no-touch",
        arity: 3,
        since: "7.2.0",
        summary: "Keeps this connection's reads from counting as use of a key, or not.",
        ..CLIENT
    },
    CommandSpec {
        name: "client|pause",
        arity: -3,
        since: "2.9.50",
        summary: "Stops writes, or all commands, for some milliseconds.",
        ..CLIENT_ADMIN
    },
    CommandSpec {
        name: "client|reply",
        arity: 3,
        since: "3.2.0",
        summary: "Turns the replies to this connection on or off, or skips the next.",
        ..CLIENT
    },
    CommandSpec {
        name: "client|setinfo",
        arity: 4,
        since: "7.2.0",
        summary: "Tells the name or version of the library at the other end.",
        ..CLIENT
    },
    CommandSpec {
        name: "client|setname",
        arity: 3,
        since: "2.6.9",
        summary: "Names this connection.",
        ..CLIENT
    },
    CommandSpec {
        name: "client|tracking",
        arity: -3,
        since: "6.0.0",
        summary: "Tells this connection when what it has read changes, or ends that.",
        ..CLIENT
    },
    CommandSpec {
        name: "client|trackinginfo",
        since: "6.2.0",
        summary: "Describes how this connection is told of changes.",
        ..CLIENT
    },
    CommandSpec {
        name: "client|unblock",
        arity: -3,
        summary: "Ends the waiting of another connection, as if its time were over or with an error.",
        complexity: "O(log N) for N connections.",
        ..CLIENT_ADMIN
    },
    CommandSpec {
        name: "client|unpause",
        since: "6.2.0",
        complexity: "O(N) for N connections that wait.",
        summary: "Ends what CLIENT PAUSE began.",
        ..CLIENT_ADMIN
    },
];

static COMMAND_SUBCOMMANDS: &[CommandSpec] = &[
    CommandSpec {
        name: "command|count",
        since: "2.8.13",
        summary: "Counts the commands.",
        ..COMMAND
    },
    CommandSpec {
        name: "command|docs",
        arity: -2,
        since: "7.0.0",
        complexity: "O(N) for N commands described.",
        summary: "Answers what is documented about the commands named, or all.",
        ..COMMAND
    },
    CommandSpec {
        name: "command|getkeys",
        arity: -4,
        since: "2.8.13",
        complexity: "O(N) for N arguments.",
        summary: "Finds the keys in a whole command.",
        ..COMMAND
    },
    CommandSpec {
        name: "command|getkeysandflags",
        arity: -4,
        since: "7.0.0",
        complexity: "O(N) for N arguments.",
        summary: "Finds the keys in a whole command, and what it does to each.",
        ..COMMAND
    },
    CommandSpec {
        name: "command|help",
        summary: "Lists the subcommands.",
        ..COMMAND
    },
    CommandSpec {
        name: "command|info",
        arity: -2,
        since: "2.8.13",
        complexity: "O(N) for N commands described.",
        summary: "Describes the commands named, or all.",
        ..COMMAND
    },
    CommandSpec {
        name: "command|list",
        arity: -2,
        since: "7.0.0",
        complexity: "O(N) for N commands in the table.",
        summary: "Names the commands, all or those that fit a filter.",
        ..COMMAND
    },
];

static CONFIG_SUBCOMMANDS: &[CommandSpec] = &[
    CommandSpec {
        name: "config|get",
        arity: -3,
        complexity: "O(N) for N settings asked for.",
        summary: "Answers the settings whose names match a pattern.",
        ..CONFIG
    },
    CommandSpec {
        name: "config|help",
        flags: SUBCOMMAND.flags,
        acl: "slow",
        since: "5.0.0",
        summary: "Lists the subcommands.",
        ..CONFIG
    },
    CommandSpec {
        name: "config|resetstat",
        summary: "Sets the counters of INFO to zero.",
        ..CONFIG
    },
    CommandSpec {
        name: "config|rewrite",
        since: "2.8.0",
        summary: "Writes the settings in force to the configuration file.",
        ..CONFIG
    },
    CommandSpec {
        name: "config|set",
        arity: -4,
        complexity: "O(N) for N settings given.",
        summary: "Changes settings, all of them or none.",
        ..CONFIG
    },
];

static OBJECT_SUBCOMMANDS: &[CommandSpec] = &[
    CommandSpec {
        name: "object|encoding",
        run: Run::Data(presence::object_encoding),
        summary: "Names the internal form of a value.",
        ..OBJECT
    },
    CommandSpec {
        name: "object|freq",
        run: Run::Data(presence::object_freq),
        since: "4.0.0",
        summary: "Answers how often a key is used, on a logarithmic scale.",
        ..OBJECT
    },
    CommandSpec {
        name: "object|help",
        run: Run::Data(presence::object_help),
        arity: 2,
        flags: SUBCOMMAND.flags,
        keys: Keys::None,
        scope: Scope::None,
        acl: "keyspace slow",
        since: "6.2.0",
        summary: "Lists the subcommands.",
        ..OBJECT
    },
    CommandSpec {
        name: "object|idletime",
        run: Run::Data(presence::object_idletime),
        summary: "Answers for how many seconds a key was not used.",
        ..OBJECT
    },
    CommandSpec {
        name: "object|refcount",
        run: Run::Data(presence::object_refcount),
        summary: "Answers how many references there are to a value.",
        ..OBJECT
    },
];

const XGROUP: CommandSpec = CommandSpec {
    flags: Flags::WRITE,
    keys: OBJECT.keys,
    scope: Scope::Keys,
    acl: "write stream slow",
    group: "stream",
    since: "5.0.0",
    ..SUBCOMMAND
};
const XINFO: CommandSpec = CommandSpec {
    flags: Flags::READONLY,
    acl: "read stream slow",
    ..XGROUP
};
const STREAM_HELP: CommandSpec = CommandSpec {
    acl: "stream slow",
    group: "stream",
    summary: "Lists the subcommands.",
    ..SUBCOMMAND
};

static XGROUP_SUBCOMMANDS: &[CommandSpec] = &[
    CommandSpec {
        name: "xgroup|create",
        run: Run::Data(groups::create),
        arity: -5,
        flags: XGROUP.flags.union(Flags::DENYOOM),
        summary: "Creates a group of consumers.",
        ..XGROUP
    },
    CommandSpec {
        name: "xgroup|createconsumer",
        run: Run::Data(groups::create_consumer),
        arity: 5,
        flags: XGROUP.flags.union(Flags::DENYOOM),
        since: "6.2.0",
        summary: "Creates a consumer in a group.",
        ..XGROUP
    },
    CommandSpec {
        name: "xgroup|delconsumer",
        run: Run::Data(groups::delete_consumer),
        flags: XGROUP.flags.union(Flags::FREES_MEMORY),
        arity: 5,
        complexity: "O(N) for N pending entries of the consumer.",
        summary: "Deletes a consumer with its pending entries.",
        ..XGROUP
    },
    CommandSpec {
        name: "xgroup|destroy",
        run: Run::Data(groups::destroy),
        flags: XGROUP.flags.union(Flags::FREES_MEMORY),
        arity: 4,
        complexity: "O(N) for N pending entries of the group.",
        summary: "Deletes a group.",
        ..XGROUP
    },
    CommandSpec {
        name: "xgroup|help",
        run: Run::Data(groups::help),
        ..STREAM_HELP
    },
    CommandSpec {
        name: "xgroup|setid",
        run: Run::Data(groups::set_id),
        arity: -5,
        summary: "Says which entry a group has delivered last.",
        ..XGROUP
    },
];

static XINFO_SUBCOMMANDS: &[CommandSpec] = &[
    CommandSpec {
        name: "xinfo|consumers",
        run: Run::Data(info::consumers),
        arity: 4,
        complexity: "O(N) for N consumers.",
        summary: "Describes the consumers of a group.",
        ..XINFO
    },
    CommandSpec {
        name: "xinfo|groups",
        run: Run::Data(info::groups),
        arity: 3,
        complexity: "O(N) for N groups.",
        summary: "Describes the groups of a stream.",
        ..XINFO
    },
    CommandSpec {
        name: "xinfo|help",
        run: Run::Data(info::help),
        ..STREAM_HELP
    },
    CommandSpec {
        name: "xinfo|stream",
        run: Run::Data(info::stream_info),
        arity: -3,
        complexity: "O(N) for N entries, groups and consumers described.",
        summary: "Describes a stream.",
        ..XINFO
    },
];

static MEMORY_SUBCOMMANDS: &[CommandSpec] = &[
    CommandSpec {
        name: "memory|doctor",
        summary: "Says what is unusual about the use of memory.",
        ..MEMORY
    },
    CommandSpec {
        name: "memory|help",
        flags: SUBCOMMAND.flags,
        summary: "Lists the subcommands.",
        ..MEMORY
    },
    CommandSpec {
        name: "memory|malloc-stats",
        complexity: "That of the allocator.",
        summary: "Answers what the allocator tells about itself.",
        ..MEMORY
    },
    CommandSpec {
        name: "memory|purge",
        complexity: "That of the allocator.",
        summary: "Asks the allocator to give free memory back to the operating system.",
        ..MEMORY
    },
    CommandSpec {
        name: "memory|stats",
        summary: "Answers what memory is used for.",
        ..MEMORY
    },
    CommandSpec {
        name: "memory|usage",
        arity: -3,
        flags: Flags::READONLY,
        keys: Keys::Range {
            first: 2,
            last: 2,
            step: 1,
        },
        scope: Scope::Keys,
        run: Run::Data(crate::memory::usage),
        acl: "read slow",
        summary: "Answers how many bytes a key takes with its value.",
        ..MEMORY
    },
];

const LATENCY: CommandSpec = CommandSpec {
    flags: CLIENT_ADMIN.flags,
    acl: "admin slow dangerous",
    since: "2.8.13",
    ..SUBCOMMAND
};

static LATENCY_SUBCOMMANDS: &[CommandSpec] = &[
    CommandSpec {
        name: "latency|doctor",
        summary: "Says in words what was slow, and what helps.",
        ..LATENCY
    },
    CommandSpec {
        name: "latency|graph",
        arity: 3,
        summary: "Draws when an event was how slow.",
        ..LATENCY
    },
    CommandSpec {
        name: "latency|help",
        flags: SUBCOMMAND.flags,
        acl: "slow",
        summary: "Lists the subcommands.",
        ..LATENCY
    },
    CommandSpec {
        name: "latency|histogram",
        arity: -2,
        since: "7.0.0",
        complexity: "O(N) for N commands asked for.",
        summary: "Answers how many calls of commands took how long.",
        ..LATENCY
    },
    CommandSpec {
        name: "latency|history",
        arity: 3,
        summary: "Answers when an event was how slow.",
        ..LATENCY
    },
    CommandSpec {
        name: "latency|latest",
        summary: "Answers when each event was slow last, and how slow.",
        ..LATENCY
    },
    CommandSpec {
        name: "latency|reset",
        arity: -2,
        summary: "Forgets what was slow: the events named, or all.",
        ..LATENCY
    },
];

const SLOWLOG: CommandSpec = CommandSpec {
    flags: SUBCOMMAND.flags.union(Flags::ADMIN),
    acl: "admin slow dangerous",
    since: "2.2.12",
    ..SUBCOMMAND
};

static SLOWLOG_SUBCOMMANDS: &[CommandSpec] = &[
    CommandSpec {
        name: "slowlog|get",
        arity: -2,
        complexity: "O(N) for N entries.",
        summary: "Answers the last commands that took long.",
        ..SLOWLOG
    },
    CommandSpec {
        name: "slowlog|help",
        flags: SUBCOMMAND.flags,
        acl: "slow",
        since: "6.2.0",
        summary: "Lists the subcommands.",
        ..SLOWLOG
    },
    CommandSpec {
        name: "slowlog|len",
        summary: "Counts the commands that SLOWLOG GET could answer.",
        ..SLOWLOG
    },
    CommandSpec {
        name: "slowlog|reset",
        complexity: "O(N) for N entries.",
        summary: "Forgets the commands that took long.",
        ..SLOWLOG
    },
];

/// The subcommands of `container`; empty for a command without any.
#[must_use]
pub fn of(container: &str) -> &'static [CommandSpec] {
    match container {
        "client" => CLIENT_SUBCOMMANDS,
        "command" => COMMAND_SUBCOMMANDS,
        "config" => CONFIG_SUBCOMMANDS,
        "latency" => LATENCY_SUBCOMMANDS,
        "memory" => MEMORY_SUBCOMMANDS,
        "function" => scripting::FUNCTION_SUBCOMMANDS,
        "object" => OBJECT_SUBCOMMANDS,
        "pubsub" => crate::pubsub::SUBCOMMANDS,
        "script" => scripting::SCRIPT_SUBCOMMANDS,
        "slowlog" => SLOWLOG_SUBCOMMANDS,
        "xgroup" => XGROUP_SUBCOMMANDS,
        "xinfo" => XINFO_SUBCOMMANDS,
        _ => &[],
    }
}

/// The part of a subcommand's name behind the container's.
#[must_use]
pub fn own_name(spec: &CommandSpec) -> &'static str {
    spec.name.split_once('|').map_or(spec.name, |(_, own)| own)
}

/// The subcommand of `container` called `name`, in any case.
#[must_use]
pub fn lookup(container: &str, name: &[u8]) -> Option<&'static CommandSpec> {
    of(container)
        .iter()
        .find(|spec| own_name(spec).as_bytes().eq_ignore_ascii_case(name))
}

/// The row that says what a request to `spec` is and may do: that of its subcommand, where there is
/// one of that name, else `spec`.
#[inline]
#[must_use]
pub fn row_of(spec: &'static CommandSpec, args: Args<'_>) -> &'static CommandSpec {
    if matches!(spec.run, Run::Data(_)) {
        // No container runs against data, and most requests end here.
        return spec;
    }
    args.get(1)
        .and_then(|name| lookup(spec.name, name))
        .unwrap_or(spec)
}

/// The subcommand that `args`, a whole request to `container`, asks for; its arity fits.
///
/// # Errors
/// It does not exist, or takes another number of arguments.
pub fn resolve(container: &str, args: Args<'_>) -> Result<&'static CommandSpec, CommandError> {
    let name = args.get(1).unwrap_or_default();
    let Some(spec) = lookup(container, name) else {
        let shown = String::from_utf8_lossy(&name[..name.len().min(NAME_SHOWN_BYTES_MAX)]);
        let container = container.to_ascii_uppercase();
        let text = format!("ERR unknown subcommand '{shown}'. Try {container} HELP.");
        return Err(CommandError::Detailed(text.into_boxed_str()));
    };
    if !spec.accepts(args.len()) {
        return Err(crate::parse::wrong_arity(spec.name));
    }
    Ok(spec)
}

/// The error for a subcommand with arguments that it does not take, where more than their number
/// decides about that.
#[must_use]
pub fn wrong_arguments(args: Args<'_>, container: &str) -> CommandError {
    let name = args.get(1).unwrap_or_default();
    let name = String::from_utf8_lossy(&name[..name.len().min(NAME_SHOWN_BYTES_MAX)]);
    let text = format!(
        "ERR unknown subcommand or wrong number of arguments for '{name}'. Try {container} HELP."
    );
    CommandError::Detailed(text.into_boxed_str())
}

/// An unknown name is quoted up to here.
const NAME_SHOWN_BYTES_MAX: usize = 128;

/// Writes the reply to `container HELP`: a line per subcommand and one for what it does.
pub fn help_reply(reply: &mut Reply<'_>, container: &str) {
    let subcommands = of(container);
    reply.array(1 + 2 * subcommands.len());
    let container = container.to_ascii_uppercase();
    reply.simple(&format!(
        "{container} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"
    ));
    for spec in subcommands {
        let usage = syntax::usage(spec.name);
        let behind_container = usage.get(container.len() + 1..);
        reply.simple(behind_container.unwrap_or(&usage));
        reply.simple(&format!("    {}", spec.summary));
    }
}
