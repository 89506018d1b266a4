//! Wall-clock time as a value. Pure code gets it as an argument.

/// Milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixMs(pub i64);

impl UnixMs {
    /// Before every deadline: with it as "now" nothing is expired. Replay uses it, because
    /// expiry is in the log as deletions.
    pub const BEFORE_ALL: UnixMs = UnixMs(i64::MIN);
}
