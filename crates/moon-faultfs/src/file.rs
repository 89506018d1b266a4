//! A file: its bytes as a program sees them, as they were last synced, and the changes between.

use crate::content::Content;
use crate::survival::{Dice, Tally, sectors};
use std::collections::VecDeque;

/// One change of a file that is not synced.
#[derive(Debug)]
enum Change {
    /// Bytes at an offset.
    Write { offset: u64, bytes: Vec<u8> },
    /// `ftruncate`, in either direction.
    SetLen(u64),
    /// `fallocate`: at least so long.
    Grow(u64),
}

impl Change {
    fn apply(&self, content: &mut Content) {
        match self {
            Change::Write { offset, bytes } => content.write(*offset, bytes),
            Change::SetLen(len) => content.set_len(*len),
            Change::Grow(len) => content.grow(*len),
        }
    }
}

/// A file.
///
/// # Invariants
/// Unless a sync has failed, `pending` applied to `durable` gives `current`.
#[derive(Debug, Default)]
pub(crate) struct File {
    current: Content,
    durable: Content,
    pending: VecDeque<Change>,
    /// Number of the first pending change, counted from the file's beginning.
    first: u64,
}

impl File {
    /// A file that is durable as it is.
    pub(crate) fn durable(content: Content) -> Self {
        File {
            current: content.clone(),
            durable: content,
            pending: VecDeque::new(),
            first: 0,
        }
    }

    /// What a program sees.
    pub(crate) fn content(&self) -> &Content {
        &self.current
    }

    pub(crate) fn write(&mut self, offset: u64, bytes: &[u8]) {
        self.change(Change::Write {
            offset,
            bytes: bytes.to_vec(),
        });
    }

    pub(crate) fn set_len(&mut self, len: u64) {
        if len != self.current.len() {
            self.change(Change::SetLen(len));
        }
    }

    pub(crate) fn grow(&mut self, len: u64) {
        if len > self.current.len() {
            self.change(Change::Grow(len));
        }
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.current);
        self.pending.push_back(change);
    }

    /// How many changes there have been: what a sync that begins now covers.
    pub(crate) fn changes(&self) -> u64 {
        self.first + self.pending.len() as u64
    }

    /// The first `changes` changes are durable now.
    pub(crate) fn synced(&mut self, changes: u64) {
        while self.first < changes {
            let Some(change) = self.pending.pop_front() else {
                return;
            };
            change.apply(&mut self.durable);
            self.first += 1;
        }
    }

    /// A sync failed. The program goes on seeing its writes; the disk has any part of them and
    /// no later sync brings the rest, because the system takes the pages for clean.
    pub(crate) fn sync_failed(&mut self, dice: &mut Dice) {
        self.durable = self.survivor(dice, &mut Tally::default());
        self.first += self.pending.len() as u64;
        self.pending.clear();
    }

    /// What a power loss leaves.
    pub(crate) fn survivor(&self, dice: &mut Dice, tally: &mut Tally) -> Content {
        let mut content = self.durable.clone();
        let manner = dice.manner(self.pending.len());
        let lengths = manner.lengths(self.pending.len(), dice);
        for (number, change) in self.pending.iter().enumerate() {
            let has_length = number < lengths;
            match change {
                Change::Write { offset, bytes } => {
                    if has_length {
                        content.grow(offset + bytes.len() as u64);
                    }
                    for sector in sectors(*offset, bytes.len()) {
                        let piece = &bytes[sector.clone()];
                        let kept = manner.sector(number, piece.len(), dice);
                        match kept.len() {
                            0 => tally.sectors_dropped += 1,
                            n if n == piece.len() => tally.sectors_kept += 1,
                            _ => tally.sectors_torn += 1,
                        }
                        let at = offset + (sector.start + kept.start) as u64;
                        // What lies behind the length that is there is in no file.
                        content.patch(at, &piece[kept]);
                    }
                }
                length if has_length => {
                    tally.lengths_kept += 1;
                    length.apply(&mut content);
                }
                _ => tally.lengths_dropped += 1,
            }
        }
        content
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn survivors(file: &File) -> Vec<Vec<u8>> {
        (0..200)
            .map(|seed| {
                let content = file.survivor(&mut Dice::new(seed), &mut Tally::default());
                content.read(0, 1 << 20)
            })
            .collect()
    }

    #[test]
    fn what_was_synced_is_never_changed() {
        let mut file = File::default();
        file.write(0, &[1; 2000]);
        file.synced(file.changes());
        file.write(2000, &[2; 3000]);
        for left in survivors(&file) {
            assert_eq!(left[..2000], [1; 2000]);
        }
    }

    #[test]
    fn what_was_not_synced_is_kept_dropped_and_torn() {
        let mut file = File::default();
        file.set_len(4096);
        file.synced(file.changes());
        file.write(0, &[1; 2048]);
        file.write(2048, &[2; 2048]);
        let all = survivors(&file);
        let whole = |left: &Vec<u8>| left[..2048] == [1; 2048] && left[2048..] == [2; 2048];
        assert!(all.iter().any(whole), "kept");
        assert!(all.iter().any(|left| left[..] == [0; 4096]), "dropped");
        let hole = |left: &Vec<u8>| left[..2048] != [1; 2048] && left[2048..] == [2; 2048];
        assert!(all.iter().any(hole), "a later write without the earlier");
        let torn = |left: &Vec<u8>| left.chunks(512).any(|s| s.iter().any(|b| *b != s[0]));
        assert!(all.iter().any(torn), "torn");
    }

    #[test]
    fn a_length_may_be_there_before_its_data_and_a_truncation_be_undone() {
        let mut file = File::default();
        file.write(0, &[1; 600]);
        file.synced(file.changes());
        file.write(600, &[2; 600]);
        let all = survivors(&file);
        assert!(all.iter().any(|left| left.len() == 600));
        assert!(all.iter().any(|left| left.len() == 1200 && left[1100] == 0));
        assert!(all.iter().any(|left| left.len() == 1200 && left[1100] == 2));

        file.synced(file.changes());
        file.set_len(100);
        let all = survivors(&file);
        assert!(all.iter().any(|left| left.len() == 1200 && left[1100] == 2));
        assert!(all.iter().any(|left| left.len() == 100));
    }

    #[test]
    fn a_sync_covers_what_was_there_when_it_began() {
        let mut file = File::default();
        file.write(0, b"one");
        let begun = file.changes();
        file.write(3, b"two");
        file.synced(begun);
        for left in survivors(&file) {
            assert!(left.starts_with(b"one"));
        }
        assert!(survivors(&file).iter().any(|left| left == b"one"));
    }

    #[test]
    fn a_sync_that_succeeds_after_one_that_failed_proves_nothing() {
        let lost = (0..100).any(|seed| {
            let mut file = File::default();
            file.write(0, b"bytes");
            file.sync_failed(&mut Dice::new(seed));
            assert_eq!(file.content().read(0, 10), b"bytes");
            file.synced(file.changes());
            let left = file.survivor(&mut Dice::new(1), &mut Tally::default());
            left.read(0, 10) != b"bytes"
        });
        assert!(lost);
    }
}
