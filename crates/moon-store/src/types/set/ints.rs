//! Sorted integers in as few bytes as the widest of them needs.

use crate::thin::{BYTES_MAX, ThinBuf};

/// Most numbers, whatever the thresholds say.
pub(super) const INTS_MAX: usize = BYTES_MAX / Width::Eight.bytes();

/// Bytes that each number takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Width {
    #[default]
    Two = 2,
    Four = 4,
    Eight = 8,
}

impl Width {
    fn of(number: i64) -> Width {
        if i16::try_from(number).is_ok() {
            Width::Two
        } else if i32::try_from(number).is_ok() {
            Width::Four
        } else {
            Width::Eight
        }
    }

    const fn bytes(self) -> usize {
        self as usize
    }
}

/// Distinct integers in ascending order. All have the same width, which grows with the first
/// number that does not fit and never shrinks again.
///
/// # Invariants
/// `bytes` is a whole number of integers of the width that it says, little-endian, ascending,
/// without repetition. It does not count them.
#[derive(Clone, Debug)]
pub(super) struct Ints {
    bytes: ThinBuf<Width>,
}

impl Default for Ints {
    fn default() -> Self {
        Ints {
            bytes: ThinBuf::new(Width::default()),
        }
    }
}

impl Ints {
    #[inline]
    fn width(&self) -> Width {
        self.bytes.reading()
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        // A shift, where a division would take long: there is a search in everything.
        self.bytes.len() >> self.width().bytes().trailing_zeros()
    }

    /// Starts loading the numbers.
    #[inline]
    pub(super) fn prefetch(&self) {
        self.bytes.prefetch();
    }

    /// Bytes on the heap.
    pub(super) fn memory(&self) -> usize {
        self.bytes.memory()
    }

    /// The number at `index` in ascending order.
    #[inline]
    pub(super) fn get(&self, index: usize) -> Option<i64> {
        let at = index.checked_mul(self.width().bytes())?;
        let bytes = self.bytes.get(at..)?;
        Some(match self.width() {
            Width::Two => i16::from_le_bytes(*bytes.first_chunk()?).into(),
            Width::Four => i32::from_le_bytes(*bytes.first_chunk()?).into(),
            Width::Eight => i64::from_le_bytes(*bytes.first_chunk()?),
        })
    }

    /// The index of a number, or the one that it would have.
    fn search(&self, number: i64) -> Result<usize, usize> {
        let (mut from, mut end) = (0, self.len());
        while from < end {
            let middle = from + (end - from) / 2;
            match self.get(middle) {
                Some(there) if there < number => from = middle + 1,
                Some(there) if there == number => return Ok(middle),
                _ => end = middle,
            }
        }
        Err(from)
    }

    pub(super) fn contains(&self, number: i64) -> bool {
        Width::of(number) <= self.width() && self.search(number).is_ok()
    }

    /// Adds a number; whether it is new.
    pub(super) fn insert(&mut self, number: i64) -> bool {
        let Err(at) = self.search(number) else {
            return false;
        };
        self.widen(Width::of(number));
        let width = self.width().bytes();
        // The lower bytes are the number: it fits into the width.
        let place = self.bytes.replace(at * width..at * width, width);
        place.copy_from_slice(&number.to_le_bytes()[..width]);
        true
    }

    /// Removes a number; whether it was there.
    pub(super) fn remove(&mut self, number: i64) -> bool {
        let Ok(index) = self.search(number) else {
            return false;
        };
        let width = self.width().bytes();
        self.bytes.replace(index * width..(index + 1) * width, 0);
        true
    }

    fn widen(&mut self, width: Width) {
        if width <= self.width() {
            return;
        }
        let mut bytes = ThinBuf::zeroed(width, self.len() * width.bytes());
        for (place, number) in bytes.chunks_exact_mut(width.bytes()).zip(self.iter()) {
            place.copy_from_slice(&number.to_le_bytes()[..width.bytes()]);
        }
        *self = Ints { bytes };
    }

    /// All numbers in ascending order.
    pub(super) fn iter(&self) -> Iter<'_> {
        Iter {
            ints: self,
            next: 0,
        }
    }
}

/// The numbers of an [`Ints`].
#[derive(Clone, Debug)]
pub(super) struct Iter<'a> {
    ints: &'a Ints,
    next: usize,
}

impl Iterator for Iter<'_> {
    type Item = i64;

    #[inline]
    fn next(&mut self) -> Option<i64> {
        let number = self.ints.get(self.next)?;
        self.next += 1;
        Some(number)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.ints.len() - self.next;
        (left, Some(left))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn number() -> impl Strategy<Value = i64> {
        prop_oneof![
            8 => -40..40_i64,
            1 => any::<i16>().prop_map(i64::from),
            1 => any::<i32>().prop_map(i64::from),
            1 => prop_oneof![any::<i64>(), Just(i64::MIN), Just(i64::MAX)],
        ]
    }

    proptest! {
        #[test]
        fn ints_behave_like_a_sorted_set(
            steps in proptest::collection::vec((any::<bool>(), number()), 0..200)
        ) {
            let mut ints = Ints::default();
            let mut model = BTreeSet::new();
            for (add, number) in steps {
                if add {
                    prop_assert_eq!(ints.insert(number), model.insert(number));
                } else {
                    prop_assert_eq!(ints.remove(number), model.remove(&number));
                }
                prop_assert_eq!(ints.contains(number), add);
                prop_assert!(ints.iter().eq(model.iter().copied()));
            }
            prop_assert_eq!(ints.len(), model.len());
            for (index, number) in model.iter().enumerate() {
                prop_assert_eq!(ints.get(index), Some(*number));
            }
            prop_assert_eq!(ints.get(model.len()), None);
            prop_assert_eq!(ints.get(usize::MAX), None);
        }
    }

    #[test]
    fn small_numbers_take_two_bytes_until_a_wider_one_comes() {
        let mut ints = Ints::default();
        (0..500).for_each(|number| assert!(ints.insert(number)));
        assert!(ints.memory() < 2 * 500 * 5 / 4, "{}", ints.memory());
        ints.insert(40_000);
        assert!(ints.memory() >= 4 * 501, "{}", ints.memory());
        ints.insert(1 << 40);
        assert!(ints.memory() >= 8 * 502, "{}", ints.memory());
        for number in 5..500 {
            ints.remove(number);
        }
        assert_eq!(ints.memory(), 8 * 8, "7 numbers");
        assert_eq!(
            ints.iter().collect::<Vec<_>>(),
            [0, 1, 2, 3, 4, 40_000, 1 << 40]
        );
    }
}
