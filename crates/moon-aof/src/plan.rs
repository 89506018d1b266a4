//! Merging segments by LSN: how far the gapless prefix goes, and what lies beyond it.
//!
//! Pure: it sees the lists of good frames that scanning found. Coverage is judged per LSN, not
//! per file: the same range in two segments (a replacement segment repeats the unsynced tail of
//! the one it replaces) is one range.

use crate::frame::Piece;
use crate::scan::FrameRef;
use moon_core::Lsn;
use std::ops::Range;

/// A whole frame or a whole run: the unit that is replayed or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unit {
    /// Index of the segment.
    pub(crate) segment: usize,
    /// Indices of its frames: one, or all of a run.
    pub(crate) frames: Range<usize>,
    pub(crate) lsn: Lsn,
    pub(crate) end: Lsn,
}

/// What comes next in the merge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// The unit that starts exactly where the last one ended.
    Unit(Unit),
    /// No unit starts here; the next readable one, if any, starts at the position given.
    Gap(Option<Lsn>),
    /// A unit starts before the last one ended and ends behind it.
    Overlap(Unit),
}

/// Goes through all segments' frames in LSN order. Frames without payload carry only marks and
/// are passed over.
pub(crate) struct Merge<'a> {
    segments: Vec<Cursor<'a>>,
    /// Where the next unit must start.
    pub(crate) at: Lsn,
}

struct Cursor<'a> {
    frames: &'a [FrameRef],
    next: usize,
}

impl<'a> Merge<'a> {
    pub(crate) fn new(segments: impl Iterator<Item = &'a [FrameRef]>, start: Lsn) -> Merge<'a> {
        Merge {
            segments: segments.map(|frames| Cursor { frames, next: 0 }).collect(),
            at: start,
        }
    }

    pub(crate) fn next(&mut self) -> Next {
        let mut lowest: Option<Unit> = None;
        for (segment, cursor) in self.segments.iter_mut().enumerate() {
            let Some(unit) = cursor.peek(segment, self.at) else {
                continue;
            };
            if lowest.as_ref().is_none_or(|lowest| unit.lsn < lowest.lsn) {
                lowest = Some(unit);
            }
        }
        match lowest {
            Some(unit) if unit.lsn == self.at => {
                self.at = unit.end;
                self.segments[unit.segment].next = unit.frames.end;
                Next::Unit(unit)
            }
            Some(unit) if unit.lsn < self.at => Next::Overlap(unit),
            other => Next::Gap(other.map(|unit| unit.lsn)),
        }
    }
}

impl Cursor<'_> {
    /// The first whole unit that ends beyond `covered`. What lies before it is passed for good.
    fn peek(&mut self, segment: usize, covered: Lsn) -> Option<Unit> {
        loop {
            let frames = unit_at(self.frames, self.next)?;
            let (first, last) = (&self.frames[frames.start], &self.frames[frames.end - 1]);
            let whole = !matches!(last.piece, Piece::Part);
            if whole && last.end() > covered && first.lsn < last.end() {
                return Some(Unit {
                    segment,
                    lsn: first.lsn,
                    end: last.end(),
                    frames,
                });
            }
            self.next = frames.end;
        }
    }
}

/// The frames that belong together from `from` on: one, or the pieces of a run as far as they
/// follow each other. A run that does not end in its last piece is not whole.
fn unit_at(frames: &[FrameRef], from: usize) -> Option<Range<usize>> {
    let mut end = from + 1;
    let mut last = frames.get(from)?;
    while last.piece == Piece::Part {
        match frames.get(end) {
            Some(next) if next.piece != Piece::Whole && next.lsn == last.end() => last = next,
            _ => break,
        }
        end += 1;
    }
    Some(from..end)
}

/// File offset behind the last byte that belongs to the stream before `end`.
pub(crate) fn keep_until(frames: &[FrameRef], end: Lsn, header_len: u64) -> u64 {
    frames
        .iter()
        .rev()
        .find(|frame| frame.end() <= end)
        .map_or(header_len, FrameRef::end_offset)
}

#[cfg(test)]
mod tests {
    use super::*;
    use moon_repl::FrameKind;

    fn frame(lsn: u64, len: u32, piece: Piece) -> FrameRef {
        FrameRef {
            lsn: Lsn(lsn),
            offset: lsn * 2,
            len,
            payload_crc: 0,
            db: 0,
            kind: FrameKind::Own,
            piece,
        }
    }

    fn whole(lsn: u64, len: u32) -> FrameRef {
        frame(lsn, len, Piece::Whole)
    }

    /// The starts of all units, and what ended the merge.
    fn merged(segments: &[Vec<FrameRef>]) -> (Vec<u64>, Lsn, Next) {
        let mut merge = Merge::new(segments.iter().map(Vec::as_slice), Lsn(0));
        let mut starts = Vec::new();
        loop {
            match merge.next() {
                Next::Unit(unit) => starts.push(unit.lsn.0),
                end => return (starts, merge.at, end),
            }
        }
    }

    #[test]
    fn frames_of_all_shards_come_in_the_order_of_the_stream() {
        let segments = [
            vec![whole(0, 10), whole(15, 5), whole(20, 0)],
            vec![whole(10, 5), whole(20, 1)],
        ];
        let (starts, end, last) = merged(&segments);
        assert_eq!(starts, [0, 10, 15, 20]);
        assert_eq!((end, last), (Lsn(21), Next::Gap(None)));
    }

    #[test]
    fn the_prefix_ends_at_the_first_hole_in_any_shard() {
        let segments = [vec![whole(0, 10), whole(15, 5)], vec![whole(20, 5)]];
        let (starts, end, last) = merged(&segments);
        assert_eq!(starts, [0]);
        assert_eq!((end, last), (Lsn(10), Next::Gap(Some(Lsn(15)))));
    }

    #[test]
    fn the_same_range_in_two_segments_is_one_range() {
        let segments = [
            vec![whole(0, 10), whole(10, 5)],
            vec![whole(10, 5), whole(15, 5)],
        ];
        assert_eq!(merged(&segments).0, [0, 10, 15]);
    }

    #[test]
    fn a_run_is_one_unit_or_nothing() {
        let run = vec![
            whole(0, 2),
            frame(2, 4, Piece::Part),
            frame(6, 4, Piece::Part),
            frame(10, 1, Piece::Last),
            whole(11, 1),
        ];
        assert_eq!(merged(std::slice::from_ref(&run)).0, [0, 2, 11]);
        for cut in 2..4 {
            let (starts, end, _) = merged(&[run[..cut].to_vec()]);
            assert_eq!((starts, end), (vec![0], Lsn(2)), "cut at {cut}");
        }
        for lost in 1..4 {
            let mut holed = run.clone();
            holed.remove(lost);
            assert_eq!(merged(&[holed]).1, Lsn(2), "lost {lost}");
        }
    }

    #[test]
    fn overlapping_frames_are_not_guessed_at() {
        let (_, _, last) = merged(&[vec![whole(0, 10)], vec![whole(5, 10)]]);
        assert!(matches!(last, Next::Overlap(unit) if unit.lsn == Lsn(5)));
    }
}
