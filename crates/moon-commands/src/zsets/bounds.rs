//! Ranges as they stand in arguments: two ranks, two scores or two members, and the ranks that lie
//! between them.

use crate::double::strtod;
use crate::error::CommandError;
use crate::parse::integer;
use moon_store::ZSet;
use moon_store::types::zset::Direction;
use std::ops::{Bound, Range};

/// What a range counts by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    Rank,
    Score,
    Member,
}

/// A range that was read.
#[derive(Clone, Copy, Debug)]
pub(super) enum Bounds<'a> {
    /// The first and the last rank; negative ones count from the end.
    Rank(i64, i64),
    Score(Bound<f64>, Bound<f64>),
    Member(MemberBound<'a>, MemberBound<'a>),
}

/// A bound among members.
#[derive(Clone, Copy, Debug)]
pub(super) enum MemberBound<'a> {
    /// `-`, before all members.
    Lowest,
    /// `+`, behind all members.
    Highest,
    At(Bound<&'a [u8]>),
}

impl<'a> Bounds<'a> {
    /// Reads the lower and the upper bound.
    pub(super) fn parse(by: By, min: &'a [u8], max: &'a [u8]) -> Result<Bounds<'a>, CommandError> {
        Ok(match by {
            By::Rank => Bounds::Rank(integer(min)?, integer(max)?),
            By::Score => Bounds::Score(score_bound(min)?, score_bound(max)?),
            By::Member => Bounds::Member(member_bound(min)?, member_bound(max)?),
        })
    }

    /// The ranks within, from the lowest score, for somebody who begins at `from`. That is where
    /// [`Bounds::Rank`] counts from; members are compared from there on where scores differ.
    pub(super) fn ranks(self, zset: &ZSet, from: Direction) -> Range<usize> {
        match self {
            Bounds::Rank(first, last) => {
                let len = zset.len();
                let range = rank_range(first, last, len);
                match from {
                    Direction::Up => range,
                    Direction::Down => len - range.end..len - range.start,
                }
            }
            Bounds::Score(min, max) => zset.ranks_by_score(min, max),
            Bounds::Member(MemberBound::Highest, _) | Bounds::Member(_, MemberBound::Lowest) => {
                0..0
            }
            Bounds::Member(min, max) => zset.ranks_by_member(min.bound(), max.bound(), from),
        }
    }
}

impl<'a> MemberBound<'a> {
    fn bound(self) -> Bound<&'a [u8]> {
        match self {
            MemberBound::Lowest | MemberBound::Highest => Bound::Unbounded,
            MemberBound::At(bound) => bound,
        }
    }
}

/// The positions from `first` to `last`, both included; negative ones count from the end.
fn rank_range(first: i64, last: i64, len: usize) -> Range<usize> {
    let position = |rank: i64| {
        let magnitude = usize::try_from(rank.unsigned_abs()).unwrap_or(usize::MAX);
        if rank < 0 {
            len.checked_sub(magnitude)
        } else {
            Some(magnitude)
        }
    };
    let start = position(first).unwrap_or(0).min(len);
    let end = position(last).map_or(0, |last| last.saturating_add(1).min(len));
    start..end.max(start)
}

/// A score, excluded if a `(` stands before it. As `strtod` reads it up to the first zero byte, so
/// that nothing at all is 0, and what is too large is infinite.
fn score_bound(arg: &[u8]) -> Result<Bound<f64>, CommandError> {
    let text = arg.split(|byte| *byte == 0).next().unwrap_or_default();
    let (number, excluded) = match text {
        [b'(', rest @ ..] => (rest, true),
        _ => (text, false),
    };
    let read = strtod(number);
    if read.len != number.len() || read.value.is_nan() {
        return Err(CommandError::Text("ERR min or max is not a float"));
    }
    Ok(if excluded {
        Bound::Excluded(read.value)
    } else {
        Bound::Included(read.value)
    })
}

fn member_bound(arg: &[u8]) -> Result<MemberBound<'_>, CommandError> {
    match arg {
        [b'-'] | [b'-', 0, ..] => Ok(MemberBound::Lowest),
        [b'+'] | [b'+', 0, ..] => Ok(MemberBound::Highest),
        [b'(', member @ ..] => Ok(MemberBound::At(Bound::Excluded(member))),
        [b'[', member @ ..] => Ok(MemberBound::At(Bound::Included(member))),
        _ => Err(CommandError::Text(
            "ERR min or max not valid string range item",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_cut_to_what_there_is() {
        for (first, last, range) in [
            (0, -1, 0..5),
            (-100, 100, 0..5),
            (1, 3, 1..4),
            (-2, -1, 3..5),
            (3, 1, 3..3),
            (5, 9, 5..5),
            (0, -6, 0..0),
            (i64::MIN, i64::MAX, 0..5),
            (i64::MAX, i64::MIN, 5..5),
        ] {
            assert_eq!(rank_range(first, last, 5), range, "{first} {last}");
        }
        assert_eq!(rank_range(0, -1, 0), 0..0);
    }

    #[test]
    fn score_bounds_are_what_strtod_makes_of_them() {
        for (text, bound) in [
            (&b"1.5"[..], Bound::Included(1.5)),
            (b"(-inf", Bound::Excluded(f64::NEG_INFINITY)),
            (b"", Bound::Included(0.0)),
            (b"(", Bound::Excluded(0.0)),
            (b" 7", Bound::Included(7.0)),
            (b"1e999", Bound::Included(f64::INFINITY)),
            (b"3\0x", Bound::Included(3.0)),
        ] {
            assert_eq!(score_bound(text), Ok(bound), "{text:?}");
        }
        for text in [&b"x"[..], b"1 ", b" ", b"nan", b"((1", b"1.5x"] {
            assert!(score_bound(text).is_err(), "{text:?}");
        }
    }
}
