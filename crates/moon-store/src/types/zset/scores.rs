//! The scores of the members of a large sorted set, found by hash.

use crate::types::dict::{self, Dict};

/// Members that are not longer than this are put together with their score without allocating.
const SHORT_MEMBER: usize = 120;

/// From member to score.
#[derive(Clone, Debug, Default)]
pub(super) struct Scores {
    dict: Dict<ScoreMember>,
}

/// An entry: eight bytes of score, the member.
#[derive(Clone, Debug)]
struct ScoreMember;

impl dict::Entry for ScoreMember {
    #[inline]
    fn name(entry: &[u8]) -> &[u8] {
        &entry[8..]
    }
}

impl Scores {
    /// Number of members.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.dict.len()
    }

    /// The score of a member.
    #[inline]
    pub(super) fn get(&self, member: &[u8]) -> Option<f64> {
        self.dict.get(member).map(|entry| split(entry).1)
    }

    /// Stores a score; returns the one before.
    #[inline]
    pub(super) fn put(&mut self, member: &[u8], score: f64) -> Option<f64> {
        let mut before = None;
        let replaced = |entry: &[u8]| before = Some(split(entry).1);
        let mut short = [0; 8 + SHORT_MEMBER];
        if let Some(entry) = short.get_mut(..8 + member.len()) {
            entry[..8].copy_from_slice(&score.to_le_bytes());
            entry[8..].copy_from_slice(member);
            self.dict.swap(entry, replaced);
        } else {
            let entry = [&score.to_le_bytes(), member].concat();
            self.dict.swap(&entry, replaced);
        }
        before
    }

    /// Removes a member; returns its score.
    pub(super) fn remove(&mut self, member: &[u8]) -> Option<f64> {
        let mut score = None;
        self.dict.take(member, |entry| score = Some(split(entry).1));
        score
    }

    /// As [`Dict::scan`], with members and their scores.
    pub(super) fn scan(&self, cursor: u64, count: usize, visit: &mut dyn FnMut(&[u8], f64)) -> u64 {
        self.dict.scan(cursor, count, &mut |entry| {
            let (member, score) = split(entry);
            visit(member, score);
        })
    }

    /// Checks the invariants.
    #[cfg(test)]
    pub(super) fn self_check(&self) {
        self.dict.self_check();
    }

    /// Bytes on the heap.
    pub(super) fn memory(&self) -> usize {
        self.dict.memory()
    }
}

#[inline]
fn split(entry: &[u8]) -> (&[u8], f64) {
    let score = entry.first_chunk().expect("an entry begins with a score");
    (&entry[8..], f64::from_le_bytes(*score))
}
