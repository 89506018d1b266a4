//! The one description of a command.

use crate::context::Cx;
use crate::error::CommandError;
use moon_resp::Args;

/// The index of a command in the table; statistics are kept in arrays of this length.
pub type CommandId = u16;

bitflags::bitflags! {
    /// Command flags, as COMMAND INFO names them.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Flags: u32 {
        /// May change data.
        const WRITE = 1;
        /// Reads data only.
        const READONLY = 1 << 1;
        /// May grow memory: refused when out of memory.
        const DENYOOM = 1 << 2;
        /// Server administration.
        const ADMIN = 1 << 3;
        /// Publish/subscribe.
        const PUBSUB = 1 << 4;
        /// Not allowed in scripts.
        const NOSCRIPT = 1 << 5;
        /// May block the connection.
        const BLOCKING = 1 << 6;
        /// Allowed while loading.
        const LOADING = 1 << 7;
        /// Allowed on a replica with stale data.
        const STALE = 1 << 8;
        /// Not shown by MONITOR.
        const SKIP_MONITOR = 1 << 9;
        /// Not logged as slow.
        const SKIP_SLOWLOG = 1 << 10;
        /// Constant or logarithmic time.
        const FAST = 1 << 11;
        /// Allowed before AUTH.
        const NO_AUTH = 1 << 12;
        /// Keys cannot be told from the arguments' positions alone.
        const MOVABLEKEYS = 1 << 13;
        /// Not allowed inside MULTI.
        const NO_MULTI = 1 << 14;
        /// Never grows memory on balance; runs even when the log's disk is full.
        const FREES_MEMORY = 1 << 15;
        /// Allowed while a script or command is busy.
        const ALLOW_BUSY = 1 << 16;
    }
}

/// Where the keys are among the arguments.
#[derive(Clone, Copy, Debug)]
pub enum Keys {
    /// The command names no keys.
    None,
    /// At `first`, `first + step`, ... up to `last`; a negative `last` counts from the end (-1 is
    /// the last argument). As in COMMAND INFO.
    Range {
        /// Index of the first key.
        first: i16,
        /// Index of the last key, inclusive.
        last: i16,
        /// Distance between keys.
        step: i16,
    },
    /// As many as the number at index `at` says, right behind it. A number that is none, or too
    /// large, names no keys: the command says what is wrong with it.
    Numkeys {
        /// Index of the number.
        at: u16,
        /// Whether the argument at index 1 is a key before them, which the command stores to.
        destination: bool,
    },
    /// At index 1, and where a function finds more, which pushes their indexes.
    FirstAndFound(fn(Args<'_>, &mut Vec<usize>)),
    /// Found by a function, which pushes the indexes of the keys.
    Found(fn(Args<'_>, &mut Vec<usize>)),
}

/// One key, at index 1.
pub const FIRST_KEY: Keys = Keys::Range {
    first: 1,
    last: 1,
    step: 1,
};
/// A number of keys at index 1, and the keys behind it.
pub const NUMKEYS: Keys = Keys::Numkeys {
    at: 1,
    destination: false,
};
/// A destination at index 1, a number of keys behind it, and the keys.
pub const DESTINATION_NUMKEYS: Keys = Keys::Numkeys {
    at: 2,
    destination: true,
};
/// Every argument but the last, which is a timeout.
pub const KEYS_TIMEOUT: Keys = Keys::Range {
    first: 1,
    last: -2,
    step: 1,
};
/// A timeout at index 1, a number of keys behind it, and the keys.
pub const TIMEOUT_NUMKEYS: Keys = Keys::Numkeys {
    at: 2,
    destination: false,
};
/// Every argument after the name is a key.
pub const ALL_KEYS: Keys = Keys::Range {
    first: 1,
    last: -1,
    step: 1,
};

/// Which shards a command runs against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Those of its keys.
    Keys,
    /// All of them, at one point of the history.
    AllShards,
    /// Those of its keys, or all of them where BY or GET of SORT has a pattern: which keys that
    /// names is known only while it runs. [`CommandSpec::scope_of`] tells which.
    Patterns,
    /// The one that the cursor at index 1 names.
    Cursor,
    /// None: it touches no data.
    None,
}

/// Who runs a command.
#[derive(Clone, Copy)]
pub enum Run {
    /// This crate, against data.
    Data(fn(&mut Cx<'_>, Args<'_>) -> Result<(), CommandError>),
    /// The server, because it concerns the connection or the process. It dispatches on the name.
    Server,
}

/// One command, described once.
pub struct CommandSpec {
    /// Lower-case name.
    pub name: &'static str,
    /// Number of arguments, the name included; negative: at least that many.
    pub arity: i16,
    /// What it is and may do.
    pub flags: Flags,
    /// Its keys.
    pub keys: Keys,
    /// Its shards.
    pub scope: Scope,
    /// Its code.
    pub run: Run,
    /// ACL categories without the `@`, such as `write string fast`, separated by spaces.
    pub acl: &'static str,
    /// Documentation group, as in COMMAND DOCS.
    pub group: &'static str,
    /// First Redis version that had it.
    pub since: &'static str,
    /// Time complexity.
    pub complexity: &'static str,
    /// One sentence.
    pub summary: &'static str,
}

impl CommandSpec {
    /// Whether `count` arguments, the name included, fit the arity.
    #[inline]
    #[must_use]
    pub fn accepts(&self, count: usize) -> bool {
        let arity = usize::from(self.arity.unsigned_abs());
        if self.arity >= 0 {
            count == arity
        } else {
            count >= arity
        }
    }

    /// Whether it may change data.
    #[inline]
    #[must_use]
    pub fn is_write(&self) -> bool {
        self.flags.contains(Flags::WRITE)
    }

    /// Whether it does the same small work whatever it meets, so that a clock need not be read for
    /// it alone. What is long of itself (a value of megabytes) still takes its time.
    #[inline]
    #[must_use]
    pub fn is_light(&self) -> bool {
        self.flags.contains(Flags::FAST) || self.complexity == "O(1)"
    }

    /// The scope of one request; never [`Scope::Patterns`].
    #[inline]
    #[must_use]
    pub fn scope_of(&self, args: Args<'_>) -> Scope {
        match self.scope {
            Scope::Patterns if crate::sort::has_patterns(args) => Scope::AllShards,
            Scope::Patterns => Scope::Keys,
            scope => scope,
        }
    }

    /// Pushes the indexes of the keys in `args`, in order. The arity has been checked.
    pub fn key_positions(&self, args: Args<'_>, positions: &mut Vec<usize>) {
        match self.keys {
            Keys::None => {}
            Keys::Found(find) => find(args, positions),
            Keys::FirstAndFound(find) => {
                positions.push(1);
                find(args, positions);
            }
            Keys::Numkeys { at, destination } => {
                let at = usize::from(at);
                positions.extend(destination.then_some(1));
                let number = args.get(at).and_then(crate::parse::canonical_integer);
                let behind = args.len().saturating_sub(at + 1);
                if let Some(count) = number.and_then(|number| usize::try_from(number).ok())
                    && count <= behind
                {
                    positions.extend(at + 1..=at + count);
                }
            }
            Keys::Range { first, last, step } => {
                let last = if last < 0 {
                    args.len().saturating_sub(usize::from(last.unsigned_abs()))
                } else {
                    usize::from(last.unsigned_abs())
                };
                let step = usize::from(step.unsigned_abs()).max(1);
                let mut at = usize::from(first.unsigned_abs());
                while at <= last && at < args.len() {
                    positions.push(at);
                    at += step;
                }
            }
        }
    }
}

/// A family's table, a line or two per command: name, arity, flags; keys, scope, code; ACL
/// categories, first version, complexity; summary.
macro_rules! commands {
    ($group:literal: $(
        $name:literal $arity:literal [$($flag:ident)*] $keys:expr, $scope:ident, $code:path,
        $acl:literal, $since:literal, $complexity:literal, $summary:literal;
    )*) => {
        /// The commands of this family.
        pub static COMMANDS: &[$crate::spec::CommandSpec] = &[$($crate::spec::CommandSpec {
            name: $name,
            arity: $arity,
            flags: $crate::spec::Flags::empty()$(.union($crate::spec::Flags::$flag))*,
            keys: $keys,
            scope: $crate::spec::Scope::$scope,
            run: $crate::spec::Run::Data($code),
            acl: $acl,
            group: $group,
            since: $since,
            complexity: $complexity,
            summary: $summary,
        }),*];
    };
}
pub(crate) use commands;
