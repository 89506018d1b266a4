//! Publish and subscribe: rows only, because the server runs them. They touch no data.

use crate::spec::{ALL_KEYS, CommandSpec, FIRST_KEY, Flags, Keys, Run, Scope};

/// What all rows share; each names the rest.
const PUBSUB: CommandSpec = CommandSpec {
    name: "",
    arity: -2,
    flags: Flags::PUBSUB.union(Flags::LOADING).union(Flags::STALE),
    keys: Keys::None,
    scope: Scope::None,
    run: Run::Server,
    acl: "pubsub slow",
    group: "pubsub",
    since: "2.0.0",
    complexity: "O(N) for N names.",
    summary: "",
};
const SUBSCRIBE: CommandSpec = CommandSpec {
    flags: PUBSUB.flags.union(Flags::NOSCRIPT),
    ..PUBSUB
};
const UNSUBSCRIBE: CommandSpec = CommandSpec {
    arity: -1,
    ..SUBSCRIBE
};
const PUBLISH: CommandSpec = CommandSpec {
    arity: 3,
    flags: PUBSUB.flags.union(Flags::FAST),
    acl: "pubsub fast",
    ..PUBSUB
};
const SUBCOMMAND: CommandSpec = CommandSpec {
    since: "2.8.0",
    ..PUBSUB
};

/// The commands of this family.
pub static COMMANDS: &[CommandSpec] = &[
    CommandSpec {
        name: "subscribe",
        summary: "Begins to receive what is published to the channels.",
        ..SUBSCRIBE
    },
    CommandSpec {
        name: "unsubscribe",
        summary: "Ends subscriptions to channels, all of them without names.",
        ..UNSUBSCRIBE
    },
    CommandSpec {
        name: "psubscribe",
        summary: "Begins to receive what is published to channels that the patterns fit.",
        ..SUBSCRIBE
    },
    CommandSpec {
        name: "punsubscribe",
        summary: "Ends subscriptions to patterns, all of them without names.",
        ..UNSUBSCRIBE
    },
    CommandSpec {
        name: "ssubscribe",
        keys: ALL_KEYS,
        since: "7.0.0",
        summary: "Begins to receive what is published to the shard channels.",
        ..SUBSCRIBE
    },
    CommandSpec {
        name: "sunsubscribe",
        keys: ALL_KEYS,
        since: "7.0.0",
        summary: "Ends subscriptions to shard channels, all of them without names.",
        ..UNSUBSCRIBE
    },
    CommandSpec {
        name: "publish",
        complexity: "O(N+M) for N subscribers and M patterns of all clients.",
        summary: "Sends a message to the subscribers of a channel.",
        ..PUBLISH
    },
    CommandSpec {
        name: "spublish",
        keys: FIRST_KEY,
        since: "7.0.0",
        complexity: "O(N) for N subscribers.",
        summary: "Sends a message to the subscribers of a shard channel.",
        ..PUBLISH
    },
    CommandSpec {
        name: "pubsub",
        flags: Flags::empty(),
        acl: "slow",
        complexity: "That of the subcommand.",
        summary: "Holds the subcommands on subscriptions.",
        ..SUBCOMMAND
    },
];

/// The subcommands of PUBSUB.
pub(crate) static SUBCOMMANDS: &[CommandSpec] = &[
    CommandSpec {
        name: "pubsub|channels",
        complexity: "O(N) for N channels with subscribers.",
        summary: "Lists the channels that have subscribers, or those that a pattern fits.",
        ..SUBCOMMAND
    },
    CommandSpec {
        name: "pubsub|help",
        arity: 2,
        flags: Flags::LOADING.union(Flags::STALE),
        acl: "slow",
        since: "6.2.0",
        complexity: "O(1)",
        summary: "Lists the subcommands.",
        ..SUBCOMMAND
    },
    CommandSpec {
        name: "pubsub|numpat",
        arity: 2,
        complexity: "O(1)",
        summary: "Counts the patterns that have subscribers.",
        ..SUBCOMMAND
    },
    CommandSpec {
        name: "pubsub|numsub",
        summary: "Counts the subscribers of channels, without those of patterns.",
        ..SUBCOMMAND
    },
    CommandSpec {
        name: "pubsub|shardchannels",
        since: "7.0.0",
        complexity: "O(N) for N shard channels with subscribers.",
        summary: "Lists the shard channels that have subscribers, or those that a pattern fits.",
        ..SUBCOMMAND
    },
    CommandSpec {
        name: "pubsub|shardnumsub",
        since: "7.0.0",
        summary: "Counts the subscribers of shard channels.",
        ..SUBCOMMAND
    },
];
