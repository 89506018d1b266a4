//! Sorted sets: distinct members with scores, in the order of score, then member.
//!
//! In reading order:
//! * `run`: entries in order in one buffer. The small form is one of them.
//! * `tree`: runs as the leaves of a tree that knows ranks.
//! * `scores`: from member to score. The large form is a tree and this.
//!
//! Ranges by score or by member are first turned into ranges of ranks, so there is one way to walk
//! and one way to remove.

mod run;
mod scores;
mod tree;

use super::{Encoding, PackLimits};
use crate::memory::allocated;
use crate::thin::BYTES_MAX;
use run::{Cut, Run};
use scores::Scores;
use std::iter::FusedIterator;
use std::ops::{Bound, Range};
use tree::{Place, Tree, Walk};

/// Distinct members with scores. A score is never NaN.
#[derive(Clone, Debug)]
pub struct ZSet {
    form: Form,
}

#[derive(Clone, Debug)]
enum Form {
    Small(Run),
    Large(Box<Large>),
}

/// # Invariants
/// `scores` has exactly the entries of `tree`.
#[derive(Clone, Debug, Default)]
struct Large {
    tree: Tree,
    scores: Scores,
}

/// The end of a sorted set that somebody begins at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the lowest score.
    Up,
    /// From the highest score.
    Down,
}

impl Default for ZSet {
    fn default() -> Self {
        ZSet {
            form: Form::Small(Run::default()),
        }
    }
}

impl ZSet {
    /// Number of members.
    #[must_use]
    pub fn len(&self) -> usize {
        match &self.form {
            Form::Small(run) => run.len(),
            Form::Large(large) => large.tree.len(),
        }
    }

    /// Whether there are no members.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The score of a member.
    #[must_use]
    pub fn score(&self, member: &[u8]) -> Option<f64> {
        match &self.form {
            Form::Small(run) => run.position(member).map(|at| run.score(at)),
            Form::Large(large) => large.scores.get(member),
        }
    }

    /// Gives a member a score, and adds it if it is not there. Returns its score before. A score
    /// that compares equal is left as it is.
    pub fn set(&mut self, member: &[u8], score: f64, limits: PackLimits) -> Option<f64> {
        debug_assert!(!score.is_nan(), "no score is NaN");
        if let Form::Small(run) = &mut self.form {
            let score = without_sign_of_zero(score);
            match run.position(member) {
                Some(at) => {
                    let before = run.score(at);
                    if before != score {
                        run.remove(at..at + 1);
                        run.insert(run.rank(Cut::Before(score, member)), score, member);
                    }
                    return Some(before);
                }
                None if is_small(run, member, limits) => {
                    run.insert(run.rank(Cut::Before(score, member)), score, member);
                    return None;
                }
                None => {}
            }
        }
        self.use_large().set(member, score)
    }

    /// Adds a member that is not there, which the caller has made sure of: without looking for it,
    /// which in the small form takes time in proportion to the members.
    pub fn push(&mut self, member: &[u8], score: f64, limits: PackLimits) {
        debug_assert!(!score.is_nan(), "no score is NaN");
        debug_assert!(self.score(member).is_none(), "the member is there already");
        match &mut self.form {
            Form::Small(run) if is_small(run, member, limits) => {
                let score = without_sign_of_zero(score);
                run.insert(run.rank(Cut::Before(score, member)), score, member);
            }
            _ => self.use_large().push(member, score),
        }
    }

    /// Removes a member; returns its score.
    pub fn remove(&mut self, member: &[u8]) -> Option<f64> {
        match &mut self.form {
            Form::Small(run) => {
                let at = run.position(member)?;
                let score = run.score(at);
                run.remove(at..at + 1);
                Some(score)
            }
            Form::Large(large) => large.remove(member),
        }
    }

    /// How many members stand before this one.
    #[must_use]
    pub fn rank(&self, member: &[u8]) -> Option<usize> {
        match &self.form {
            Form::Small(run) => run.position(member),
            Form::Large(large) => {
                let score = large.scores.get(member)?;
                Some(large.tree.rank(Cut::Before(score, member)))
            }
        }
    }

    /// The ranks of the members whose scores lie within the bounds; empty if there are none.
    #[must_use]
    pub fn ranks_by_score(&self, min: Bound<f64>, max: Bound<f64>) -> Range<usize> {
        let start = match min {
            Bound::Included(min) => self.rank_of(Cut::Before(min, b"")),
            Bound::Excluded(min) => self.rank_of(Cut::AfterScore(min)),
            Bound::Unbounded => 0,
        };
        let end = match max {
            Bound::Included(max) => self.rank_of(Cut::AfterScore(max)),
            Bound::Excluded(max) => self.rank_of(Cut::Before(max, b"")),
            Bound::Unbounded => self.len(),
        };
        start..end.max(start)
    }

    /// The ranks of the members that lie within the bounds by their bytes, which means something
    /// where all scores are equal. Where they are not, the small form answers as Redis does for
    /// somebody who begins at this end, and the large form answers something.
    #[must_use]
    pub fn ranks_by_member(
        &self,
        min: Bound<&[u8]>,
        max: Bound<&[u8]>,
        from: Direction,
    ) -> Range<usize> {
        match &self.form {
            Form::Small(run) => walk_by_member(run, min, max, from),
            Form::Large(large) => {
                let Some((run, at)) = large.tree.locate(0) else {
                    return 0..0;
                };
                let score = run.score(at);
                let start = match min {
                    Bound::Included(min) => self.rank_of(Cut::Before(score, min)),
                    Bound::Excluded(min) => self.rank_of(Cut::After(score, min)),
                    Bound::Unbounded => 0,
                };
                let end = match max {
                    Bound::Included(max) => self.rank_of(Cut::After(score, max)),
                    Bound::Excluded(max) => self.rank_of(Cut::Before(score, max)),
                    Bound::Unbounded => self.len(),
                };
                start..end.max(start)
            }
        }
    }

    /// The members of these ranks with their scores, from either end.
    #[must_use]
    pub fn range(&self, ranks: Range<usize>) -> Iter<'_> {
        let end = ranks.end.min(self.len());
        let ranks = ranks.start.min(end)..end;
        Iter(match &self.form {
            Form::Small(run) => Entries::Small(run, ranks),
            Form::Large(large) => Entries::Large(Walk::new(&large.tree, ranks)),
        })
    }

    /// All members with their scores, in order.
    #[must_use]
    pub fn iter(&self) -> Iter<'_> {
        self.range(0..self.len())
    }

    /// Visits members with their scores from a cursor on, in no order, and returns the cursor to go
    /// on with; 0 begins, and 0 says that the end was reached. A member that is there throughout is
    /// visited at least once between the two. About `count` are visited, but all of the small form.
    pub fn scan(&self, cursor: u64, count: usize, visit: &mut dyn FnMut(&[u8], f64)) -> u64 {
        match &self.form {
            Form::Small(_) => {
                self.iter().for_each(|(member, score)| visit(member, score));
                0
            }
            Form::Large(large) => large.scores.scan(cursor, count, visit),
        }
    }

    /// Removes up to `max` members from this rank on and shows them, in order, with their scores;
    /// how many. It may be fewer while there are more: what one call does is bounded, and 0 means
    /// that there is none, or `max` is 0.
    pub fn remove_some(
        &mut self,
        rank: usize,
        max: usize,
        removed: &mut dyn FnMut(&[u8], f64),
    ) -> usize {
        match &mut self.form {
            Form::Small(run) => {
                let start = rank.min(run.len());
                let end = start + max.min(run.len() - start);
                for at in start..end {
                    removed(run.member(at), run.score(at));
                }
                run.remove(start..end);
                end - start
            }
            Form::Large(large) => {
                let Large { tree, scores } = &mut **large;
                tree.remove(Place::Rank(rank), max, &mut |score, member| {
                    removed(member, score);
                    scores.remove(member);
                })
            }
        }
    }

    /// Removes the members of these ranks.
    pub fn remove_range(&mut self, ranks: Range<usize>) {
        let mut left = ranks.len();
        while left > 0 {
            match self.remove_some(ranks.start, left, &mut |_, _| {}) {
                0 => return,
                gone => left -= gone,
            }
        }
    }

    /// The internal form.
    #[must_use]
    pub fn encoding(&self) -> Encoding {
        match &self.form {
            Form::Small(_) => Encoding::Listpack,
            Form::Large(_) => Encoding::Skiplist,
        }
    }

    /// Bytes of memory.
    #[must_use]
    pub fn memory(&self) -> usize {
        allocated(size_of::<ZSet>())
            + match &self.form {
                Form::Small(run) => run.memory(),
                Form::Large(large) => {
                    allocated(size_of::<Large>()) + large.tree.memory() + large.scores.memory()
                }
            }
    }

    fn rank_of(&self, cut: Cut<'_>) -> usize {
        match &self.form {
            Form::Small(run) => run.rank(cut),
            Form::Large(large) => large.tree.rank(cut),
        }
    }

    fn use_large(&mut self) -> &mut Large {
        if let Form::Small(run) = &self.form {
            let mut large = Large::default();
            for (score, member) in run.entries() {
                large.push(member, score);
            }
            self.form = Form::Large(Box::new(large));
        }
        match &mut self.form {
            Form::Large(large) => large,
            Form::Small(_) => unreachable!("the form was just changed"),
        }
    }

    /// Checks the invariants.
    #[cfg(test)]
    fn self_check(&self) {
        match &self.form {
            Form::Small(run) => run.self_check(),
            Form::Large(large) => {
                large.tree.self_check();
                large.scores.self_check();
                assert_eq!(large.scores.len(), large.tree.len());
                for (member, score) in self.iter() {
                    assert_eq!(large.scores.get(member), Some(score));
                }
            }
        }
    }
}

impl Large {
    fn set(&mut self, member: &[u8], score: f64) -> Option<f64> {
        let before = self.scores.put(member, score);
        match before {
            None => self.tree.insert(score, member),
            Some(before) if before == score => {
                // They may differ in the sign of a zero, and the first one stays.
                if before.to_bits() != score.to_bits() {
                    self.scores.put(member, before);
                }
            }
            Some(before) => {
                if !self.tree.rescore(before, member, score) {
                    let gone = Place::Entry(before, member);
                    self.tree.remove(gone, 1, &mut |_, _| {});
                    self.tree.insert(score, member);
                }
            }
        }
        before
    }

    fn push(&mut self, member: &[u8], score: f64) {
        self.scores.put(member, score);
        self.tree.insert(score, member);
    }

    fn remove(&mut self, member: &[u8]) -> Option<f64> {
        let score = self.scores.remove(member)?;
        let gone = Place::Entry(score, member);
        self.tree.remove(gone, 1, &mut |_, _| {});
        Some(score)
    }
}

/// As Redis has it: a negative zero loses its sign where scores are kept as short as they can be.
fn without_sign_of_zero(score: f64) -> f64 {
    score + 0.0
}

/// Whether a run is still a small form with one member more.
fn is_small(run: &Run, more: &[u8], limits: PackLimits) -> bool {
    run.len() < limits.entries && more.len() <= limits.value_bytes && run.bytes() <= BYTES_MAX
}

/// Looks at one member after the other from one end, as Redis does: past those before the range,
/// then through those in it.
fn walk_by_member(
    run: &Run,
    min: Bound<&[u8]>,
    max: Bound<&[u8]>,
    from: Direction,
) -> Range<usize> {
    let len = run.len();
    let is_above_min = |at: &usize| match min {
        Bound::Included(min) => run.member(*at) >= min,
        Bound::Excluded(min) => run.member(*at) > min,
        Bound::Unbounded => true,
    };
    let is_below_max = |at: &usize| match max {
        Bound::Included(max) => run.member(*at) <= max,
        Bound::Excluded(max) => run.member(*at) < max,
        Bound::Unbounded => true,
    };
    if len == 0 || !is_above_min(&(len - 1)) || !is_below_max(&0) {
        return 0..0;
    }
    match from {
        Direction::Up => {
            let start = (0..len).find(is_above_min).unwrap_or(len);
            let end = (start..len).find(|at| !is_below_max(at)).unwrap_or(len);
            start..end
        }
        Direction::Down => {
            let end = (0..len).rev().find(is_below_max).map_or(0, |at| at + 1);
            let start = (0..end).rev().find(|at| !is_above_min(at));
            start.map_or(0, |at| at + 1)..end
        }
    }
}

/// Members of a [`ZSet`] with their scores, in order.
#[derive(Clone, Debug)]
pub struct Iter<'a>(Entries<'a>);

#[derive(Clone, Debug)]
enum Entries<'a> {
    Small(&'a Run, Range<usize>),
    Large(Walk<'a>),
}

impl<'a> Iterator for Iter<'a> {
    type Item = (&'a [u8], f64);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let (score, member) = match &mut self.0 {
            Entries::Small(run, ranks) => run.entry(ranks.next()?),
            Entries::Large(walk) => walk.next()?,
        };
        Some((member, score))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = match &self.0 {
            Entries::Small(_, ranks) => ranks.len(),
            Entries::Large(walk) => walk.len(),
        };
        (left, Some(left))
    }
}

impl DoubleEndedIterator for Iter<'_> {
    #[inline]
    fn next_back(&mut self) -> Option<Self::Item> {
        let (score, member) = match &mut self.0 {
            Entries::Small(run, ranks) => run.entry(ranks.next_back()?),
            Entries::Large(walk) => walk.next_back()?,
        };
        Some((member, score))
    }
}

impl ExactSizeIterator for Iter<'_> {}
impl FusedIterator for Iter<'_> {}

#[cfg(test)]
mod tests;
