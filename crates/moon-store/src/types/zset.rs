//! Sorted sets: distinct members with scores, in the order of score, then member.
//!
//! In reading order:
//! * `run`: entries in order in one buffer; the small form is one of them.
//!
//! Ranges by score or by member are first turned into ranges of ranks, so there is one way to walk
//! and one way to remove.

mod run;

use super::{Encoding, PackLimits};
use run::Run;
use std::iter::FusedIterator;
use std::ops::{Bound, Range};

/// Distinct members with scores. A score is never NaN.
#[derive(Clone, Debug, Default)]
pub struct ZSet {
    run: Run,
}

impl ZSet {
    /// Number of members.
    #[must_use]
    pub fn len(&self) -> usize {
        self.run.len()
    }

    /// Whether there are no members.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The score of a member.
    #[must_use]
    pub fn score(&self, member: &[u8]) -> Option<f64> {
        self.run.position(member).map(|at| self.run.score(at))
    }

    /// Gives a member a score, and adds it if it is not there. Returns its score before.
    pub fn set(&mut self, member: &[u8], score: f64, limits: PackLimits) -> Option<f64> {
        let _ = limits;
        debug_assert!(!score.is_nan(), "no score is NaN");
        let before = self.remove(member);
        let at = self.run.rank(score, member);
        self.run.insert(at, score, member);
        before
    }

    /// Removes a member; returns its score.
    pub fn remove(&mut self, member: &[u8]) -> Option<f64> {
        let at = self.run.position(member)?;
        let score = self.run.score(at);
        self.run.remove(at..at + 1);
        Some(score)
    }

    /// How many members stand before this one.
    #[must_use]
    pub fn rank(&self, member: &[u8]) -> Option<usize> {
        self.run.position(member)
    }

    /// The ranks of the members whose scores lie within the bounds; empty if there are none.
    #[must_use]
    pub fn ranks_by_score(&self, min: Bound<f64>, max: Bound<f64>) -> Range<usize> {
        let start = match min {
            Bound::Included(min) => self.run.partition_scores(|score| score < min),
            Bound::Excluded(min) => self.run.partition_scores(|score| score <= min),
            Bound::Unbounded => 0,
        };
        let end = match max {
            Bound::Included(max) => self.run.partition_scores(|score| score <= max),
            Bound::Excluded(max) => self.run.partition_scores(|score| score < max),
            Bound::Unbounded => self.len(),
        };
        start..end.max(start)
    }

    /// The members of these ranks with their scores, from either end.
    #[must_use]
    pub fn range(&self, ranks: Range<usize>) -> Iter<'_> {
        Iter {
            run: &self.run,
            ranks: ranks.start.min(self.len())..ranks.end.min(self.len()),
        }
    }

    /// All members with their scores, in order.
    #[must_use]
    pub fn iter(&self) -> Iter<'_> {
        self.range(0..self.len())
    }

    /// The internal form.
    #[must_use]
    pub fn encoding(&self) -> Encoding {
        Encoding::Listpack
    }

    /// Bytes of memory.
    #[must_use]
    pub fn memory(&self) -> usize {
        size_of::<ZSet>() + self.run.memory()
    }
}

/// Members of a [`ZSet`] with their scores, in order.
#[derive(Clone, Debug)]
pub struct Iter<'a> {
    run: &'a Run,
    ranks: Range<usize>,
}

impl<'a> Iterator for Iter<'a> {
    type Item = (&'a [u8], f64);

    fn next(&mut self) -> Option<Self::Item> {
        let (score, member) = self.run.entry(self.ranks.next()?);
        Some((member, score))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.ranks.size_hint()
    }
}

impl DoubleEndedIterator for Iter<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        let (score, member) = self.run.entry(self.ranks.next_back()?);
        Some((member, score))
    }
}

impl ExactSizeIterator for Iter<'_> {}
impl FusedIterator for Iter<'_> {}
