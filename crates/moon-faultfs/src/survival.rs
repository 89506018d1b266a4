//! The dice: which part of what was not synced a power loss leaves.
//!
//! Sectors that survive independently nearly always leave a hole near the beginning, which hides
//! every fault that needs a longer remainder. So each file first draws the manner in which it
//! fares, from losing everything to losing nothing.

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use std::ops::Range;

/// Bytes that a disk writes as a whole, if it is lucky.
pub(crate) const SECTOR: u64 = 512;

/// What a cut did to everything that was not synced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Sectors of writes that are there.
    pub sectors_kept: u64,
    /// Sectors of writes that are not.
    pub sectors_dropped: u64,
    /// Sectors of writes that are there in part.
    pub sectors_torn: u64,
    /// Changes of a length that took place.
    pub lengths_kept: u64,
    /// Changes of a length that did not.
    pub lengths_dropped: u64,
    /// Changes of a directory that took place.
    pub names_kept: u64,
    /// Changes of a directory that did not.
    pub names_dropped: u64,
}

impl Tally {
    /// Adds `other` to this.
    pub fn add(&mut self, other: Tally) {
        self.sectors_kept += other.sectors_kept;
        self.sectors_dropped += other.sectors_dropped;
        self.sectors_torn += other.sectors_torn;
        self.lengths_kept += other.lengths_kept;
        self.lengths_dropped += other.lengths_dropped;
        self.names_kept += other.names_kept;
        self.names_dropped += other.names_dropped;
    }
}

/// Seeded decisions.
#[derive(Debug)]
pub(crate) struct Dice(StdRng);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Dice(StdRng::seed_from_u64(seed))
    }

    /// How many of `count` changes, the first ones, take place: often none or all.
    pub(crate) fn prefix(&mut self, count: usize) -> usize {
        match self.0.random_range(0..3) {
            0 => 0,
            1 => count,
            _ => self.0.random_range(0..=count),
        }
    }

    /// Draws how a file with `writes` unsynced changes fares.
    pub(crate) fn manner(&mut self, changes: usize) -> Manner {
        match self.0.random_range(0..6) {
            0 => Manner::Dropped,
            1 => Manner::Kept,
            2 | 3 => {
                let changes = self.0.random_range(0..=changes);
                Manner::Until { changes }
            }
            4 => Manner::Sectors { kept_percent: 50 },
            _ => Manner::Sectors { kept_percent: 97 },
        }
    }
}

/// How the unsynced changes of one file fare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Nothing is there.
    Dropped,
    /// Everything is there.
    Kept,
    /// The first changes are there, the next in part, the rest is not.
    Until { changes: usize },
    /// Every sector has its own luck.
    Sectors { kept_percent: u32 },
}

impl Manner {
    /// How many of the `count` changes of the file, the first ones, change its length.
    pub(crate) fn lengths(self, count: usize, dice: &mut Dice) -> usize {
        match self {
            Manner::Dropped => 0,
            Manner::Kept => count,
            // A length can be durable before the data, and the other way round.
            Manner::Until { .. } | Manner::Sectors { .. } => dice.prefix(count),
        }
    }

    /// The part of one sector's `len` bytes that is there; they belong to change `number`.
    pub(crate) fn sector(self, number: usize, len: usize, dice: &mut Dice) -> Range<usize> {
        let kept_percent = match self {
            Manner::Dropped => 0,
            Manner::Kept => 100,
            Manner::Until { changes } if number < changes => 100,
            Manner::Until { changes } if number > changes => 0,
            Manner::Until { .. } => 60,
            Manner::Sectors { kept_percent } => kept_percent,
        };
        if dice.0.random_range(0..100) < kept_percent {
            return 0..len;
        }
        // One lost sector in four is torn.
        if kept_percent == 0 || len < 2 || dice.0.random_range(0..4) > 0 {
            return 0..0;
        }
        let at = dice.0.random_range(1..len);
        if dice.0.random_range(0..2) == 0 {
            0..at
        } else {
            at..len
        }
    }
}

/// The sectors that `len` bytes at `offset` lie in, as ranges of these bytes.
pub(crate) fn sectors(offset: u64, len: usize) -> impl Iterator<Item = Range<usize>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let begin = at;
        if begin == len {
            return None;
        }
        let into = (offset + begin as u64) % SECTOR;
        at = len.min(begin + usize::try_from(SECTOR - into).unwrap_or(len));
        Some(begin..at)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sectors_are_aligned_in_the_file() {
        let all: Vec<_> = sectors(500, 600).collect();
        assert_eq!(all, [0..12, 12..524, 524..600]);
        assert_eq!(sectors(512, 0).count(), 0);
    }

    #[test]
    fn the_same_seed_decides_the_same() {
        let run = || {
            let mut dice = Dice::new(7);
            let manner = dice.manner(9);
            (0..50)
                .map(|n| (manner.sector(n, 512, &mut dice), dice.prefix(n)))
                .collect::<Vec<_>>()
        };
        assert_eq!(run(), run());
    }
}
