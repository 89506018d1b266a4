//! Members with scores, in order, in one buffer: a small sorted set, and a leaf of a large one.
//!
//! ```text
//! buf:  [ scores ][ ends ][ bytes of the members, one after the other ]
//! ```
//!
//! A score that is a small integer takes one, two or four bytes, if all scores of the run are such;
//! otherwise each takes the eight bytes of a double. `ends` says where each member ends, in as few
//! bytes as the last one needs, and is absent while all members have the same length. An entry that
//! does not fit the widths of its run makes it choose them afresh.

use crate::memory::allocated;
use std::ops::Range;

/// Entries in the order of score, then member.
///
/// # Invariants
/// * `buf.len() == count * (score_width + end_width) + bytes of the members`.
/// * `score_width` is 1, 2, 4 or 8; `end_width` is 0, 1, 2, 4 or 8; at 0 every member has
///   `member_len` bytes.
/// * No score is NaN, and no two entries are equal in score and member.
#[derive(Clone, Debug)]
pub(super) struct Run {
    buf: Vec<u8>,
    count: u32,
    /// Length of every member while `end_width` is 0.
    member_len: u32,
    score_width: u8,
    end_width: u8,
}

impl Default for Run {
    fn default() -> Self {
        Run {
            buf: Vec::new(),
            count: 0,
            member_len: 0,
            score_width: 1,
            end_width: 0,
        }
    }
}

/// A place between entries, or before or behind all of them.
#[derive(Clone, Copy, Debug)]
pub(super) enum Cut<'a> {
    /// Before the entry with this score and member, or where it would be.
    Before(f64, &'a [u8]),
    /// Behind it.
    After(f64, &'a [u8]),
    /// Behind all entries with this score.
    AfterScore(f64),
}

impl Run {
    /// Number of entries.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether there are none.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes in use.
    #[inline]
    pub(super) fn bytes(&self) -> usize {
        self.buf.len()
    }

    /// Bytes on the heap.
    #[inline]
    pub(super) fn memory(&self) -> usize {
        allocated(self.buf.capacity())
    }

    /// The score at `index`.
    ///
    /// # Panics
    /// As the others here, when there is no such entry.
    #[inline]
    pub(super) fn score(&self, index: usize) -> f64 {
        debug_assert!(index < self.len(), "there is no such entry");
        match self.score_width {
            1 => f64::from(i8::from_le_bytes(self.array(index))),
            2 => f64::from(i16::from_le_bytes(self.array(2 * index))),
            4 => f64::from(i32::from_le_bytes(self.array(4 * index))),
            _ => f64::from_le_bytes(self.array(8 * index)),
        }
    }

    /// The member at `index`.
    #[inline]
    pub(super) fn member(&self, index: usize) -> &[u8] {
        let base = self.members_at();
        let start = match index {
            0 => 0,
            _ => self.end(index - 1),
        };
        &self.buf[base + start..base + self.end(index)]
    }

    /// The entry at `index`.
    #[inline]
    pub(super) fn entry(&self, index: usize) -> (f64, &[u8]) {
        (self.score(index), self.member(index))
    }

    /// All entries, in order.
    pub(super) fn entries(&self) -> impl Iterator<Item = (f64, &[u8])> + Clone {
        (0..self.len()).map(|index| self.entry(index))
    }

    /// How many entries stand before the cut.
    #[inline]
    pub(super) fn rank(&self, cut: Cut<'_>) -> usize {
        let all = 0..self.len();
        match cut {
            Cut::Before(score, member) => {
                let first = partition(all.clone(), |index| self.score(index) < score);
                partition(first..all.end, |index| {
                    self.score(index) == score && self.member(index) < member
                })
            }
            Cut::After(score, member) => {
                let first = partition(all.clone(), |index| self.score(index) < score);
                partition(first..all.end, |index| {
                    self.score(index) == score && self.member(index) <= member
                })
            }
            Cut::AfterScore(score) => partition(all, |index| self.score(index) <= score),
        }
    }

    /// Where the entry (score, member) is, or would be.
    #[inline]
    pub(super) fn find(&self, score: f64, member: &[u8]) -> Result<usize, usize> {
        let rank = self.rank(Cut::Before(score, member));
        if rank < self.len() && self.score(rank) == score && self.member(rank) == member {
            Ok(rank)
        } else {
            Err(rank)
        }
    }

    /// The index of a member, whatever its score: looks at all of them.
    pub(super) fn position(&self, member: &[u8]) -> Option<usize> {
        let base = self.members_at();
        let mut start = base;
        (0..self.len()).find(|index| {
            let end = base + self.end(*index);
            let found = self.buf[start..end] == *member;
            start = end;
            found
        })
    }

    /// Inserts an entry at `index`, where it belongs.
    pub(super) fn insert(&mut self, index: usize, score: f64, member: &[u8]) {
        debug_assert!(index <= self.len(), "there is no such place");
        self.fit(score, member.len());
        let (count, scores, ends) = (self.len(), self.score_width(), self.end_width());
        let base = self.members_at();
        let start = match index {
            0 => 0,
            _ => self.end(index - 1),
        };
        let (old_len, head) = (self.buf.len(), scores + ends);
        let grow = head + member.len();
        if self.buf.capacity() < old_len + grow {
            self.buf.reserve_exact(allocated(old_len + grow) - old_len);
        }
        self.buf.resize(old_len + grow, 0);
        // From the back to the front, each part to where nothing is needed any more.
        let buf = &mut self.buf;
        buf.copy_within(base + start..old_len, base + head + start + member.len());
        buf.copy_within(base..base + start, base + head);
        let ends_at = count * scores;
        buf.copy_within(
            ends_at + index * ends..base,
            ends_at + scores + (index + 1) * ends,
        );
        buf.copy_within(ends_at..ends_at + index * ends, ends_at + scores);
        buf.copy_within(index * scores..ends_at, (index + 1) * scores);
        buf[base + head + start..][..member.len()].copy_from_slice(member);
        self.count += 1;
        self.put_score(index, score);
        if ends > 0 {
            self.put_end(index, start + member.len());
            self.add_to_ends(index + 1, member.len(), usize::wrapping_add);
        }
    }

    /// Gives the entry at `index` another score, with which it still belongs there.
    pub(super) fn set_score(&mut self, index: usize, score: f64) {
        self.fit(score, self.member(index).len());
        self.put_score(index, score);
    }

    /// Removes the entries of a range.
    pub(super) fn remove(&mut self, range: Range<usize>) {
        if range.is_empty() {
            return;
        }
        let (count, scores, ends) = (self.len(), self.score_width(), self.end_width());
        debug_assert!(range.end <= count, "there are no such entries");
        let base = self.members_at();
        let start = match range.start {
            0 => 0,
            first => self.end(first - 1),
        };
        let end = self.end(range.end - 1);
        self.add_to_ends(range.end, end - start, usize::wrapping_sub);
        let (gone, ends_at) = (range.len(), count * scores);
        let len = self.buf.len();
        let buf = &mut self.buf;
        buf.copy_within(range.end * scores..ends_at, range.start * scores);
        let new_ends_at = ends_at - gone * scores;
        buf.copy_within(ends_at..ends_at + range.start * ends, new_ends_at);
        buf.copy_within(
            ends_at + range.end * ends..base,
            new_ends_at + range.start * ends,
        );
        let new_base = base - gone * (scores + ends);
        buf.copy_within(base..base + start, new_base);
        buf.copy_within(base + end..len, new_base + start);
        buf.truncate(len - gone * (scores + ends) - (end - start));
        self.count -= u32::try_from(gone).expect("no more than there are");
        if self.buf.len() < self.buf.capacity() / 2 {
            self.buf.shrink_to(allocated(self.buf.len()));
        }
    }

    /// Takes the entries from `index` on away into a run of their own.
    pub(super) fn split_off(&mut self, index: usize) -> Run {
        let tail = Run::build(self.entries().skip(index), None);
        *self = Run::build(self.entries().take(index), None);
        tail
    }

    /// Adds the entries of a run that all belong behind those of this one.
    pub(super) fn append(&mut self, other: &Run) {
        *self = Run::build(self.entries().chain(other.entries()), None);
    }

    /// Where to split so that both sides have about the same number of bytes, and at least one
    /// entry.
    pub(super) fn middle(&self) -> usize {
        let head = self.score_width() + self.end_width();
        let half = self.bytes() / 2;
        let before = partition(0..self.len(), |index| {
            (index + 1) * head + self.end(index) < half
        });
        before.clamp(1, self.len() - 1)
    }

    /// A run of these entries, which are in order, with room and widths for one more that has this
    /// score and length.
    fn build<'a>(
        entries: impl Iterator<Item = (f64, &'a [u8])> + Clone,
        more: Option<(f64, usize)>,
    ) -> Run {
        let sizes = || {
            let sizes = entries.clone().map(|(score, member)| (score, member.len()));
            sizes.chain(more)
        };
        let mut run = Run::default();
        let (mut count, mut members_len, mut is_uniform) = (0, 0, true);
        let first = sizes().next().map_or(0, |(_, len)| len);
        for (score, len) in sizes() {
            run.score_width = run.score_width.max(score_width(score));
            is_uniform &= len == first;
            members_len += len;
            count += 1;
        }
        match u32::try_from(first) {
            Ok(len) if is_uniform => run.member_len = len,
            _ => run.end_width = end_width(members_len),
        }
        let need = count * (run.score_width() + run.end_width()) + members_len;
        run.buf.reserve_exact(allocated(need));
        for (score, _) in entries.clone() {
            run.push_score(score);
            run.count += 1;
        }
        let mut end = 0;
        for (_, member) in entries.clone() {
            end += member.len();
            let width = run.end_width();
            run.buf.extend_from_slice(&end.to_le_bytes()[..width]);
        }
        for (_, member) in entries {
            run.buf.extend_from_slice(member);
        }
        run
    }

    /// Checks the invariants.
    #[cfg(test)]
    pub(super) fn self_check(&self) {
        let head = self.score_width() + self.end_width();
        let members: usize = (0..self.len()).map(|i| self.member(i).len()).sum();
        assert_eq!(self.buf.len(), self.len() * head + members);
        for index in 1..self.len() {
            let (before, here) = (self.entry(index - 1), self.entry(index));
            assert!(before < here, "{before:?} stands before {here:?}");
        }
    }

    /// Widens the run, where it must be, for an entry with this score and length.
    #[inline]
    fn fit(&mut self, score: f64, member_len: usize) {
        let scores = self.score_width.max(score_width(score));
        let members_len = self.buf.len() - self.members_at() + member_len;
        let ends_fit = match self.end_width {
            0 => member_len == self.member_len as usize,
            1 => members_len <= usize::from(u8::MAX),
            2 => members_len <= usize::from(u16::MAX),
            4 => u32::try_from(members_len).is_ok(),
            _ => true,
        };
        if scores != self.score_width || !ends_fit {
            self.widen(score, member_len);
        }
    }

    #[cold]
    fn widen(&mut self, score: f64, member_len: usize) {
        *self = Run::build(self.entries(), Some((score, member_len)));
    }

    #[inline]
    fn score_width(&self) -> usize {
        usize::from(self.score_width)
    }

    #[inline]
    fn end_width(&self) -> usize {
        usize::from(self.end_width)
    }

    /// Where the members begin.
    #[inline]
    fn members_at(&self) -> usize {
        self.len() * (self.score_width() + self.end_width())
    }

    /// Where the member at `index` ends, counted from the first member's start.
    #[inline]
    fn end(&self, index: usize) -> usize {
        let at = self.len() * self.score_width() + index * self.end_width();
        match self.end_width {
            0 => (index + 1) * self.member_len as usize,
            1 => usize::from(self.buf[at]),
            2 => usize::from(u16::from_le_bytes(self.array(at))),
            4 => u32::from_le_bytes(self.array(at)) as usize,
            _ => usize::from_le_bytes(self.array(at)),
        }
    }

    #[inline]
    fn put_end(&mut self, index: usize, end: usize) {
        let width = self.end_width();
        let at = self.len() * self.score_width() + index * width;
        self.buf[at..at + width].copy_from_slice(&end.to_le_bytes()[..width]);
    }

    /// Changes all ends from `index` on.
    #[inline]
    fn add_to_ends(&mut self, index: usize, by: usize, change: fn(usize, usize) -> usize) {
        let (at, base) = (self.len() * self.score_width(), self.members_at());
        let ends = &mut self.buf[at + index * usize::from(self.end_width)..base];
        // Lower bytes do not depend on higher ones, so each width may drop what is above it.
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the width of the ends was chosen for the sum"
        )]
        match self.end_width {
            0 => {}
            1 => ends
                .iter_mut()
                .for_each(|end| *end = change(usize::from(*end), by) as u8),
            2 => ends.as_chunks_mut().0.iter_mut().for_each(|end| {
                *end = (change(usize::from(u16::from_le_bytes(*end)), by) as u16).to_le_bytes();
            }),
            4 => ends.as_chunks_mut().0.iter_mut().for_each(|end| {
                *end = (change(u32::from_le_bytes(*end) as usize, by) as u32).to_le_bytes();
            }),
            _ => ends.as_chunks_mut().0.iter_mut().for_each(|end| {
                *end = change(usize::from_le_bytes(*end), by).to_le_bytes();
            }),
        }
    }

    #[inline]
    fn put_score(&mut self, index: usize, score: f64) {
        let width = self.score_width();
        let bytes = score_bytes(score, self.score_width);
        self.buf[index * width..(index + 1) * width].copy_from_slice(&bytes[..width]);
    }

    fn push_score(&mut self, score: f64) {
        let width = self.score_width();
        self.buf
            .extend_from_slice(&score_bytes(score, self.score_width)[..width]);
    }

    #[inline]
    fn array<const N: usize>(&self, at: usize) -> [u8; N] {
        *self.buf[at..]
            .first_chunk()
            .expect("the buffer has all entries")
    }
}

/// How many indexes of a range, from its start, fulfil `is_before`, as an index.
#[inline]
fn partition(range: Range<usize>, is_before: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (range.start, range.end);
    while low < high {
        let middle = low.midpoint(high);
        if is_before(middle) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

/// Bytes that a score needs: those of a small integer, or of a double. A negative zero is not the
/// integer 0: it is shown as it came.
#[inline]
fn score_width(score: f64) -> u8 {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "what does not come back the same is seen"
    )]
    let integer = score as i32;
    if f64::from(integer).to_bits() != score.to_bits() {
        8
    } else if i8::try_from(integer).is_ok() {
        1
    } else if i16::try_from(integer).is_ok() {
        2
    } else {
        4
    }
}

/// A score in the form of this width, in the first bytes.
#[inline]
fn score_bytes(score: f64, width: u8) -> [u8; 8] {
    if width == 8 {
        return score.to_le_bytes();
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the width was chosen for the score"
    )]
    i64::to_le_bytes(score as i64)
}

/// Bytes that each end takes where the last one is `last`.
fn end_width(last: usize) -> u8 {
    if u8::try_from(last).is_ok() {
        1
    } else if u16::try_from(last).is_ok() {
        2
    } else if u32::try_from(last).is_ok() {
        4
    } else {
        8
    }
}
