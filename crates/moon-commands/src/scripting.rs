//! Rows of the commands around scripts and functions. The server runs them, because it has the
//! engine, except for what changes libraries: [`crate::libraries`].

use crate::libraries;
use crate::spec::{CommandSpec, Flags, Keys, Run, Scope};

/// The keys behind the script or function and their number.
const KEYS: Keys = Keys::Numkeys {
    at: 2,
    destination: false,
};

const RUNS: CommandSpec = CommandSpec {
    name: "",
    arity: -3,
    flags: Flags::NOSCRIPT
        .union(Flags::STALE)
        .union(Flags::SKIP_MONITOR)
        .union(Flags::MOVABLEKEYS),
    keys: KEYS,
    scope: Scope::Keys,
    run: Run::Server,
    acl: "slow scripting",
    group: "scripting",
    since: "2.6.0",
    complexity: "That of what is run.",
    summary: "",
};
const RUNS_READ_ONLY: CommandSpec = CommandSpec {
    flags: RUNS.flags.union(Flags::READONLY),
    since: "7.0.0",
    ..RUNS
};
const CONTAINER: CommandSpec = CommandSpec {
    arity: -2,
    flags: Flags::empty(),
    keys: Keys::None,
    scope: Scope::None,
    acl: "slow",
    complexity: "That of the subcommand.",
    ..RUNS
};

/// The commands of this family.
pub(crate) static COMMANDS: &[CommandSpec] = &[
    CommandSpec {
        name: "eval",
        summary: "Runs a script as one step of the history.",
        ..RUNS
    },
    CommandSpec {
        name: "evalsha",
        summary: "Runs a script that the server has, named by the digest of its text.",
        ..RUNS
    },
    CommandSpec {
        name: "eval_ro",
        summary: "Runs a script that may not write.",
        ..RUNS_READ_ONLY
    },
    CommandSpec {
        name: "evalsha_ro",
        summary: "Runs a script that the server has and that may not write.",
        ..RUNS_READ_ONLY
    },
    CommandSpec {
        name: "fcall",
        since: "7.0.0",
        summary: "Calls a function of a library as one step of the history.",
        ..RUNS
    },
    CommandSpec {
        name: "fcall_ro",
        summary: "Calls a function of a library that may not write.",
        ..RUNS_READ_ONLY
    },
    CommandSpec {
        name: "script",
        summary: "Holds the subcommands on the scripts that the server has.",
        ..CONTAINER
    },
    CommandSpec {
        name: "function",
        since: "7.0.0",
        summary: "Holds the subcommands on libraries of functions.",
        ..CONTAINER
    },
];

const SCRIPT: CommandSpec = CommandSpec {
    arity: 2,
    flags: Flags::NOSCRIPT,
    acl: "slow scripting",
    complexity: "O(1)",
    ..CONTAINER
};
const FUNCTION: CommandSpec = CommandSpec {
    since: "7.0.0",
    ..SCRIPT
};
const CHANGES: CommandSpec = CommandSpec {
    flags: FUNCTION.flags.union(Flags::WRITE),
    scope: Scope::AllShards,
    acl: "write slow scripting",
    ..FUNCTION
};
const HELP: CommandSpec = CommandSpec {
    flags: Flags::LOADING.union(Flags::STALE),
    since: "5.0.0",
    summary: "Lists the subcommands.",
    ..SCRIPT
};

pub(crate) static SCRIPT_SUBCOMMANDS: &[CommandSpec] = &[
    CommandSpec {
        name: "script|debug",
        arity: 3,
        since: "3.2.0",
        summary: "Accepts NO only: there is no debugger.",
        ..SCRIPT
    },
    CommandSpec {
        name: "script|exists",
        arity: -3,
        complexity: "O(N) for N scripts asked about.",
        summary: "Says of each digest whether the server has the script.",
        ..SCRIPT
    },
    CommandSpec {
        name: "script|flush",
        arity: -2,
        complexity: "O(N) for N scripts.",
        summary: "Forgets all scripts.",
        ..SCRIPT
    },
    CommandSpec {
        name: "script|help",
        ..HELP
    },
    CommandSpec {
        name: "script|kill",
        flags: SCRIPT.flags.union(Flags::ALLOW_BUSY),
        summary: "Ends the script that keeps the server busy, if it has not written.",
        ..SCRIPT
    },
    CommandSpec {
        name: "script|load",
        arity: 3,
        flags: SCRIPT.flags.union(Flags::STALE),
        complexity: "O(N) for N bytes of text.",
        summary: "Keeps a script without running it, and answers its digest.",
        ..SCRIPT
    },
];

pub(crate) static FUNCTION_SUBCOMMANDS: &[CommandSpec] = &[
    CommandSpec {
        name: "function|delete",
        arity: 3,
        flags: CHANGES.flags.union(Flags::FREES_MEMORY),
        run: Run::Data(libraries::delete),
        summary: "Deletes a library with its functions.",
        ..CHANGES
    },
    CommandSpec {
        name: "function|dump",
        complexity: "O(N) for N bytes of libraries.",
        summary: "Answers all libraries as bytes that FUNCTION RESTORE takes.",
        ..FUNCTION
    },
    CommandSpec {
        name: "function|flush",
        arity: -2,
        flags: CHANGES.flags.union(Flags::FREES_MEMORY),
        run: Run::Data(libraries::flush),
        complexity: "O(N) for N functions.",
        summary: "Deletes all libraries.",
        ..CHANGES
    },
    CommandSpec {
        name: "function|help",
        since: "7.0.0",
        ..HELP
    },
    CommandSpec {
        name: "function|kill",
        flags: FUNCTION.flags.union(Flags::ALLOW_BUSY),
        summary: "Ends the function that keeps the server busy, if it has not written.",
        ..FUNCTION
    },
    CommandSpec {
        name: "function|list",
        arity: -2,
        complexity: "O(N) for N functions.",
        summary: "Describes libraries and their functions.",
        ..FUNCTION
    },
    CommandSpec {
        name: "function|load",
        arity: -3,
        flags: CHANGES.flags.union(Flags::DENYOOM),
        run: Run::Data(libraries::load),
        complexity: "O(1) and what the library does when it is loaded.",
        summary: "Adds a library, or replaces one.",
        ..CHANGES
    },
    CommandSpec {
        name: "function|restore",
        arity: -3,
        flags: CHANGES.flags.union(Flags::DENYOOM),
        run: Run::Data(libraries::restore),
        complexity: "O(N) for N functions.",
        summary: "Adds the libraries of a payload that FUNCTION DUMP answered.",
        ..CHANGES
    },
    CommandSpec {
        name: "function|stats",
        flags: FUNCTION.flags.union(Flags::ALLOW_BUSY),
        summary: "Tells which function runs, and how many there are.",
        ..FUNCTION
    },
];
