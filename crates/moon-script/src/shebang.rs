//! The first line of a script: `#!lua flags=no-writes`. That of a library names it, and is read by
//! [`moon_store::libraries`].

use moon_resp::split_args;

/// What a script or function has declared about itself. The host acts on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(u8);

impl Flags {
    /// Nothing declared.
    pub const NONE: Flags = Flags(0);
    /// It writes nothing.
    pub const NO_WRITES: Flags = Flags(1);
    /// It may run while memory is short.
    pub const ALLOW_OOM: Flags = Flags(2);
    /// It may run on a replica without a primary.
    pub const ALLOW_STALE: Flags = Flags(4);
    /// It does not run in a cluster.
    pub const NO_CLUSTER: Flags = Flags(8);
    /// It may use keys of several slots.
    pub const ALLOW_CROSS_SLOT_KEYS: Flags = Flags(16);
    /// A script without a first line of this kind: nothing is known, so the checks are made for
    /// each of its commands.
    pub const COMPATIBLE: Flags = Flags(128);

    const NAMES: [(&'static str, Flags); 5] = [
        ("no-writes", Flags::NO_WRITES),
        ("allow-oom", Flags::ALLOW_OOM),
        ("allow-stale", Flags::ALLOW_STALE),
        ("no-cluster", Flags::NO_CLUSTER),
        ("allow-cross-slot-keys", Flags::ALLOW_CROSS_SLOT_KEYS),
    ];

    /// Whether all of `flags` are set.
    #[must_use]
    pub fn contains(self, flags: Flags) -> bool {
        self.0 & flags.0 == flags.0
    }

    /// With those of `other` as well.
    #[must_use]
    pub fn union(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }

    /// The flag with this name.
    #[must_use]
    pub fn named(name: &[u8]) -> Option<Flags> {
        let found = Flags::NAMES.iter().find(|(n, _)| n.as_bytes() == name);
        found.map(|&(_, flag)| flag)
    }

    /// The names of the flags that are set, in Redis's order.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        let set = move |&&(_, flag): &&(&str, Flags)| self.contains(flag);
        Flags::NAMES.iter().filter(set).map(|&(name, _)| name)
    }
}

/// A first line that declares something impossible.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShebangError {
    /// The script has no second line.
    #[error("Invalid script shebang")]
    NoEnd,
    /// The line cannot be split into words.
    #[error("Invalid engine in script shebang")]
    Unreadable,
    /// Another language.
    #[error("Unexpected engine in script shebang: {0}")]
    Engine(String),
    /// A flag that does not exist.
    #[error("Unexpected flag in script shebang: {0}")]
    Flag(String),
    /// Something other than flags.
    #[error("Unknown lua shebang option: {0}")]
    Option(String),
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The flags of a script, and how many bytes before its code are to be left out. The line's end
/// stays, so that line numbers are right.
///
/// # Errors
/// [`ShebangError`] for a line that Redis refuses.
pub fn script_flags(body: &[u8]) -> Result<(Flags, usize), ShebangError> {
    if !body.starts_with(b"#!") {
        return Ok((Flags::COMPATIBLE, 0));
    }
    let end = body.iter().position(|&byte| byte == b'\n');
    let end = end.ok_or(ShebangError::NoEnd)?;
    let parts = split_args(&body[..end]).map_err(|_| ShebangError::Unreadable)?;
    let mut parts = parts.as_args().iter();
    let engine = parts.next().unwrap_or_default();
    if engine != b"#!lua" {
        return Err(ShebangError::Engine(lossy(engine)));
    }
    let mut flags = Flags::NONE;
    for part in parts {
        let Some(names) = part.strip_prefix(b"flags=") else {
            return Err(ShebangError::Option(lossy(part)));
        };
        if names.is_empty() {
            continue;
        }
        for name in names.split(|&byte| byte == b',') {
            let flag = Flags::named(name).ok_or_else(|| ShebangError::Flag(lossy(name)))?;
            flags = flags.union(flag);
        }
    }
    Ok((flags, end))
}
