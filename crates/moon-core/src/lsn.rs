//! Positions in the stream of all writes, and generations of the files that hold it.

use std::fmt;

/// A byte position in the one stream of all writes of all shards.
///
/// A frame with a payload of `n` bytes issued at `lsn` covers `[lsn, lsn + n)`, and the next
/// frame starts exactly at `lsn + n`. The replication offset is the same number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Lsn(pub u64);

impl Lsn {
    /// The beginning of a history.
    pub const ZERO: Lsn = Lsn(0);
    /// Greater than every position that is ever issued.
    pub const MAX: Lsn = Lsn(u64::MAX);

    /// The position `bytes` further on.
    ///
    /// # Panics
    /// When the stream would pass 2^64 bytes, which no server reaches.
    #[must_use]
    pub fn advance(self, bytes: u64) -> Lsn {
        Lsn(self
            .0
            .checked_add(bytes)
            .expect("the stream is shorter than 2^64 bytes"))
    }

    /// Bytes from `earlier` to here; zero if `earlier` is later.
    #[must_use]
    pub fn bytes_since(self, earlier: Lsn) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// The `seq` of a base or incr file, as in Redis's multi-part AOF: it grows with each new file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub u64);

impl Generation {
    /// The generation after this one.
    #[must_use]
    pub fn next(self) -> Generation {
        Generation(self.0 + 1)
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}
