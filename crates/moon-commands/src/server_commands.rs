//! The commands that the server runs itself, because they concern the connection or the process:
//! rows only. Their subcommands are in [`crate::subcommands`].

use crate::spec::{ALL_KEYS, CommandSpec, Flags, Keys, Run, Scope};
use moon_resp::Args;

/// What all rows share; each names the rest.
const SERVER: CommandSpec = CommandSpec {
    name: "",
    arity: 1,
    flags: Flags::empty(),
    keys: Keys::None,
    scope: Scope::None,
    run: Run::Server,
    acl: "slow",
    group: "server",
    since: "1.0.0",
    complexity: "O(1)",
    summary: "",
};

/// Allowed at any time, except that authentication comes first.
const ANY_TIME: Flags = Flags::LOADING.union(Flags::STALE);
/// Allowed at any time, without authentication.
const BEFORE_AUTH: Flags = ANY_TIME
    .union(Flags::NO_AUTH)
    .union(Flags::NOSCRIPT)
    .union(Flags::FAST)
    .union(Flags::ALLOW_BUSY);

const CONNECTION: CommandSpec = CommandSpec {
    acl: "connection fast",
    group: "connection",
    ..SERVER
};
const TRANSACTION: CommandSpec = CommandSpec {
    flags: ANY_TIME
        .union(Flags::NOSCRIPT)
        .union(Flags::FAST)
        .union(Flags::ALLOW_BUSY),
    acl: "transaction fast",
    group: "transactions",
    ..SERVER
};
const ADMIN: CommandSpec = CommandSpec {
    flags: Flags::ADMIN.union(Flags::NOSCRIPT),
    acl: "admin slow dangerous",
    ..SERVER
};

/// The key at index 3 unless that is empty: then the arguments behind the word KEYS, if there is
/// one.
fn migrate_keys(args: Args<'_>, positions: &mut Vec<usize>) {
    if args.get(3).is_some_and(|key| !key.is_empty()) {
        return positions.push(3);
    }
    let word = (6..args.len()).find(|at| args.at(*at).eq_ignore_ascii_case(b"keys"));
    positions.extend(word.map_or(3, |at| at + 1)..word.map_or(4, |_| args.len()).min(args.len()));
}

/// The commands of this family.
pub static COMMANDS: &[CommandSpec] = &[
    CommandSpec {
        name: "multi",
        since: "1.2.0",
        summary: "Begins a transaction: what follows is queued until EXEC.",
        ..TRANSACTION
    },
    CommandSpec {
        name: "exec",
        flags: ANY_TIME.union(Flags::NOSCRIPT).union(Flags::SKIP_SLOWLOG),
        acl: "transaction slow",
        since: "1.2.0",
        complexity: "That of the queued commands.",
        summary: "Runs the queued commands at one point of the history, or none of them.",
        ..TRANSACTION
    },
    CommandSpec {
        name: "discard",
        since: "2.0.0",
        complexity: "O(N) for N queued commands.",
        summary: "Forgets the queued commands and ends the transaction.",
        ..TRANSACTION
    },
    CommandSpec {
        name: "watch",
        arity: -2,
        keys: ALL_KEYS,
        scope: Scope::Keys,
        since: "2.2.0",
        complexity: "O(N) for N keys.",
        summary: "Makes the next EXEC fail if one of the keys changes before it.",
        ..TRANSACTION
    },
    CommandSpec {
        name: "unwatch",
        since: "2.2.0",
        summary: "Forgets all watched keys.",
        ..TRANSACTION
    },
    CommandSpec {
        name: "ping",
        arity: -1,
        flags: Flags::FAST,
        summary: "Answers PONG, or the message given.",
        ..CONNECTION
    },
    CommandSpec {
        name: "echo",
        arity: 2,
        flags: ANY_TIME.union(Flags::FAST),
        summary: "Answers the message given.",
        ..CONNECTION
    },
    CommandSpec {
        name: "hello",
        arity: -1,
        flags: BEFORE_AUTH,
        since: "6.0.0",
        summary: "Chooses the protocol version, and may authenticate and name the connection.",
        ..CONNECTION
    },
    CommandSpec {
        name: "auth",
        arity: -2,
        flags: BEFORE_AUTH,
        complexity: "O(N) for N passwords of the user.",
        summary: "Authenticates the connection.",
        ..CONNECTION
    },
    CommandSpec {
        name: "quit",
        arity: -1,
        flags: BEFORE_AUTH,
        summary: "Ends the connection after the replies that are due.",
        ..CONNECTION
    },
    CommandSpec {
        name: "reset",
        flags: BEFORE_AUTH,
        since: "6.2.0",
        summary: "Returns the connection to the state it began in.",
        ..CONNECTION
    },
    CommandSpec {
        name: "select",
        arity: 2,
        flags: ANY_TIME.union(Flags::FAST),
        summary: "Chooses the database that later commands work on.",
        ..CONNECTION
    },
    CommandSpec {
        name: "client",
        arity: -2,
        acl: "slow",
        since: "2.4.0",
        complexity: "That of the subcommand.",
        summary: "Holds the subcommands on connections.",
        ..CONNECTION
    },
    CommandSpec {
        name: "command",
        arity: -1,
        flags: ANY_TIME,
        acl: "slow connection",
        since: "2.8.13",
        complexity: "O(N) for N commands in the table.",
        summary: "Describes every command.",
        ..SERVER
    },
    CommandSpec {
        name: "info",
        arity: -1,
        flags: ANY_TIME,
        acl: "slow dangerous",
        summary: "Answers figures about the server, by section.",
        ..SERVER
    },
    CommandSpec {
        name: "config",
        arity: -2,
        since: "2.0.0",
        complexity: "That of the subcommand.",
        summary: "Holds the subcommands on settings.",
        ..SERVER
    },
    CommandSpec {
        name: "memory",
        arity: -2,
        since: "4.0.0",
        complexity: "That of the subcommand.",
        summary: "Holds the subcommands on memory.",
        ..SERVER
    },
    CommandSpec {
        name: "slowlog",
        arity: -2,
        since: "2.2.12",
        complexity: "That of the subcommand.",
        summary: "Holds the subcommands on commands that took long.",
        ..SERVER
    },
    CommandSpec {
        name: "latency",
        arity: -2,
        since: "2.8.13",
        complexity: "That of the subcommand.",
        summary: "Holds the subcommands on what made the server slow.",
        ..SERVER
    },
    CommandSpec {
        name: "monitor",
        flags: ANY_TIME.union(ADMIN.flags),
        summary: "Shows this connection every command that the server runs.",
        ..ADMIN
    },
    CommandSpec {
        name: "debug",
        arity: -2,
        flags: ANY_TIME.union(Flags::ADMIN).union(Flags::NOSCRIPT),
        complexity: "That of the subcommand.",
        summary: "Helps with finding faults; not for production.",
        ..ADMIN
    },
    CommandSpec {
        name: "time",
        flags: ANY_TIME.union(Flags::FAST),
        acl: "fast",
        since: "2.6.0",
        summary: "Answers the server's clock in seconds and microseconds.",
        ..SERVER
    },
    CommandSpec {
        name: "role",
        flags: ANY_TIME.union(Flags::FAST).union(Flags::NOSCRIPT),
        acl: "admin fast dangerous",
        since: "2.8.12",
        summary: "Tells whether the server is a primary or a replica, and how far it is.",
        ..SERVER
    },
    CommandSpec {
        name: "lastsave",
        flags: ANY_TIME.union(Flags::FAST),
        acl: "admin fast dangerous",
        summary: "Answers when the last snapshot was finished, in Unix seconds.",
        ..SERVER
    },
    CommandSpec {
        name: "bgrewriteaof",
        summary: "Starts to replace the log by a shorter one.",
        ..ADMIN
    },
    CommandSpec {
        name: "save",
        flags: ADMIN.flags.union(Flags::NO_MULTI),
        complexity: "O(N) for N keys.",
        summary: "Writes a snapshot and answers when it is written.",
        ..ADMIN
    },
    CommandSpec {
        name: "bgsave",
        arity: -1,
        summary: "Starts to write a snapshot.",
        ..ADMIN
    },
    CommandSpec {
        name: "migrate",
        arity: -6,
        flags: Flags::WRITE.union(Flags::MOVABLEKEYS),
        keys: Keys::Found(migrate_keys),
        scope: Scope::Keys,
        acl: "keyspace write slow dangerous",
        group: "generic",
        since: "2.6.0",
        complexity: "That of DUMP, RESTORE and DEL for each key.",
        summary: "Moves or copies keys to another server.",
        ..SERVER
    },
    CommandSpec {
        name: "wait",
        arity: 3,
        flags: Flags::NOSCRIPT,
        acl: "slow connection",
        group: "generic",
        since: "3.0.0",
        summary: "Waits until so many replicas have received what this connection wrote.",
        ..SERVER
    },
    CommandSpec {
        name: "waitaof",
        arity: 4,
        flags: Flags::NOSCRIPT,
        acl: "slow connection",
        group: "generic",
        since: "7.2.0",
        summary: "Waits until what this connection wrote is synced here, and on so many replicas.",
        ..SERVER
    },
    CommandSpec {
        name: "shutdown",
        arity: -1,
        flags: ANY_TIME
            .union(Flags::ADMIN)
            .union(Flags::NOSCRIPT)
            .union(Flags::NO_MULTI)
            .union(Flags::ALLOW_BUSY),
        complexity: "O(N) for N keys when a snapshot is written, else O(1).",
        summary: "Syncs what is written and ends the server.",
        ..ADMIN
    },
];
