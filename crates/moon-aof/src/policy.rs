//! `appendfsync`: when a write counts as safe.

use moon_repl::CommitOn;
use std::fmt;
use std::str::FromStr;

/// When the log is synced, and so which failure an acknowledged write survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FsyncPolicy {
    /// A write is answered after a finished sync. It survives the death of the process, of the
    /// kernel, and a power loss.
    Always,
    /// A write is answered once it is in the file; the file is synced every second. It survives
    /// the death of the process. A power loss takes back about the last second, and what stays
    /// is a prefix of the history.
    EverySec,
    /// A write is answered once it is in the file; when that reaches the disk is the kernel's
    /// business. It survives the death of the process. A power loss may take back more, and what
    /// stays is a prefix of the history.
    No,
}

impl FsyncPolicy {
    /// Which mark `committed` follows under this policy.
    #[must_use]
    pub fn commit_on(self) -> CommitOn {
        match self {
            FsyncPolicy::Always => CommitOn::Durable,
            FsyncPolicy::EverySec | FsyncPolicy::No => CommitOn::Written,
        }
    }

    pub(crate) fn as_byte(self) -> u8 {
        match self {
            FsyncPolicy::Always => 0,
            FsyncPolicy::EverySec => 1,
            FsyncPolicy::No => 2,
        }
    }

    pub(crate) fn from_byte(byte: u8) -> FsyncPolicy {
        match byte {
            0 => FsyncPolicy::Always,
            1 => FsyncPolicy::EverySec,
            _ => FsyncPolicy::No,
        }
    }
}

impl fmt::Display for FsyncPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FsyncPolicy::Always => "always",
            FsyncPolicy::EverySec => "everysec",
            FsyncPolicy::No => "no",
        })
    }
}

/// The text was not `always`, `everysec` or `no`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("appendfsync must be always, everysec or no")]
pub struct UnknownPolicy;

impl FromStr for FsyncPolicy {
    type Err = UnknownPolicy;

    fn from_str(text: &str) -> Result<FsyncPolicy, UnknownPolicy> {
        match text {
            "always" => Ok(FsyncPolicy::Always),
            "everysec" => Ok(FsyncPolicy::EverySec),
            "no" => Ok(FsyncPolicy::No),
            _ => Err(UnknownPolicy),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_three_words_of_redis_are_a_policy() {
        for policy in [FsyncPolicy::Always, FsyncPolicy::EverySec, FsyncPolicy::No] {
            assert_eq!(policy.to_string().parse(), Ok(policy));
            assert_eq!(FsyncPolicy::from_byte(policy.as_byte()), policy);
        }
        for text in ["", "Always", "every", "yes", "no ", "everysec\0"] {
            assert_eq!(text.parse::<FsyncPolicy>(), Err(UnknownPolicy), "{text:?}");
        }
    }
}
