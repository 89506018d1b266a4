//! A group: a few places for entries, and one byte about each of them.

/// Places of a group. With the 16 bytes in front of them, 14 entries of the keyspace take exactly
/// nine cache lines.
pub(super) const SLOTS: usize = 14;

const LOW_BITS: u64 = 0x0101_0101_0101_0101;
const LOW_SEVEN: u64 = LOW_BITS * 0x7f;

/// Places for entries. A place's tag says whether it is taken and is, if so, a piece of the
/// entry's hash: most wrong entries are told from the right one without a look at them.
///
/// # Invariants
/// `tags[i] == 0` exactly if `slots[i]` is free.
#[derive(Debug)]
#[repr(C, align(16))]
pub(super) struct Group<T> {
    tags: [u8; SLOTS],
    /// Entries that would be here, or in a group before, but found no place and went on to a
    /// later one. `u16::MAX` means so many or more.
    passed: u16,
    slots: [Option<T>; SLOTS],
}

impl<T> Default for Group<T> {
    fn default() -> Self {
        Group {
            tags: [0; SLOTS],
            passed: 0,
            slots: [const { None }; SLOTS],
        }
    }
}

/// The tag of an entry with this hash; never 0.
#[inline]
pub(super) fn tag(hash: u64) -> u8 {
    // Neither the bits that choose the segment nor those that choose the group.
    ((hash >> 32) as u8).max(1)
}

/// The high bit of each byte of `word` that is equal to `byte`.
#[inline]
fn equal_bytes(word: u64, byte: u8) -> u64 {
    let differences = word ^ (LOW_BITS * u64::from(byte));
    !((differences & LOW_SEVEN).wrapping_add(LOW_SEVEN) | differences | LOW_SEVEN)
}

/// Numbers of places, the first first: the high bit of byte `i` stands for place `i`.
#[derive(Clone, Copy)]
pub(super) struct Places(u128);

impl Iterator for Places {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        if self.0 == 0 {
            return None;
        }
        let first = self.0.trailing_zeros() as usize / 8;
        self.0 &= self.0 - 1;
        Some(first)
    }
}

impl<T> Group<T> {
    /// The places with this tag.
    #[inline]
    pub(super) fn tagged(&self, tag: u8) -> Places {
        // Two words that overlap, because 14 bytes are not 16.
        let word = |at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&self.tags[at..at + 8]);
            u64::from_le_bytes(bytes)
        };
        let low = u128::from(equal_bytes(word(0), tag));
        let high = u128::from(equal_bytes(word(SLOTS - 8), tag));
        Places(low | high << (8 * (SLOTS - 8)))
    }

    /// The first free place.
    #[inline]
    pub(super) fn free(&self) -> Option<usize> {
        self.tagged(0).next()
    }

    /// What is at a place.
    #[inline]
    pub(super) fn slot(&self, place: usize) -> &Option<T> {
        &self.slots[place]
    }

    /// The entry at a place, to change anything but its key.
    #[inline]
    pub(super) fn slot_mut(&mut self, place: usize) -> Option<&mut T> {
        self.slots[place].as_mut()
    }

    /// Puts an entry into a free place.
    #[inline]
    pub(super) fn put(&mut self, place: usize, tag: u8, entry: T) -> &mut T {
        debug_assert!(self.tags[place] == 0, "the place is taken");
        self.tags[place] = tag;
        self.slots[place].insert(entry)
    }

    /// Takes the entry of a place out.
    #[inline]
    pub(super) fn take(&mut self, place: usize) -> Option<T> {
        self.tags[place] = 0;
        self.slots[place].take()
    }

    /// Drops the entries for which `keep` does not hold; how many are left.
    pub(super) fn retain(&mut self, keep: &mut impl FnMut(&T) -> bool) -> usize {
        let mut left = 0;
        for (slot, tag) in self.slots.iter_mut().zip(&mut self.tags) {
            match slot {
                Some(entry) if keep(entry) => left += 1,
                _ => {
                    *slot = None;
                    *tag = 0;
                }
            }
        }
        left
    }

    /// Takes all entries out and forgets who passed.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = T> {
        self.tags = [0; SLOTS];
        self.passed = 0;
        self.slots.iter_mut().filter_map(Option::take)
    }

    /// All entries.
    pub(super) fn entries(&self) -> impl Iterator<Item = &T> + Clone {
        self.entries_from(0)
    }

    /// The entries at a place and behind it.
    pub(super) fn entries_from(&self, place: usize) -> impl Iterator<Item = &T> + Clone {
        self.slots[place..].iter().flatten()
    }

    /// Whether an entry that is not here may be in a later group.
    #[inline]
    pub(super) fn was_passed(&self) -> bool {
        self.passed != 0
    }

    /// An entry went on from here to a later group.
    #[inline]
    pub(super) fn pass(&mut self) {
        self.passed = self.passed.saturating_add(1);
    }

    /// An entry that had gone on from here is no more.
    #[inline]
    pub(super) fn unpass(&mut self) {
        // Of too many to count nobody knows when the last one left.
        if self.passed != u16::MAX {
            self.passed -= 1;
        }
    }

    /// How many went on from here.
    pub(super) fn passed(&self) -> u16 {
        self.passed
    }

    /// # Panics
    /// When tags and places do not agree. `tag_of` is the tag that an entry has.
    pub(super) fn self_check(&self, mut tag_of: impl FnMut(&T) -> u8) {
        for (tag, slot) in self.tags.iter().zip(&self.slots) {
            assert_eq!(*tag, slot.as_ref().map_or(0, &mut tag_of), "a tag");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_found_by_their_tags() {
        let mut group = Group::<u32>::default();
        let tags = [3, 2, 3, 1, 255, 128, 127, 3, 255, 1, 2, 130, 3, 129];
        for (place, tag) in tags.into_iter().enumerate() {
            assert_eq!(group.free(), Some(place));
            group.put(place, tag, 7);
        }
        assert_eq!(group.free(), None);
        for tag in 1..=255 {
            let expected: Vec<usize> = (0..SLOTS).filter(|i| tags[*i] == tag).collect();
            assert_eq!(group.tagged(tag).collect::<Vec<_>>(), expected, "{tag}");
        }
        assert_eq!(group.take(6), Some(7));
        assert_eq!(group.take(11), Some(7));
        assert_eq!(group.tagged(0).collect::<Vec<_>>(), [6, 11]);
        assert_eq!(group.entries().count(), SLOTS - 2);
    }

    #[test]
    fn too_many_to_count_are_never_counted_down() {
        let mut group = Group::<u32>::default();
        for _ in 0..70_000 {
            group.pass();
        }
        for _ in 0..70_000 {
            group.unpass();
        }
        assert!(group.was_passed());
    }
}
