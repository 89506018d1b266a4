//! The large form of hashes and sets: entries in an array, found by hash.
//!
//! The array gives what a bare hash table cannot: an entry at a random position in constant time,
//! and an order that only changes where something is removed (the last entry takes its place). A
//! scan that walks from the end to the start therefore returns every entry that stays.

use crate::key::Key;
use crate::memory::allocated;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry as Slot;
use std::marker::PhantomData;

/// What the entries of a [`Dict`] look like.
pub trait Entry {
    /// The part of the entry that names it.
    fn name(entry: &[u8]) -> &[u8];
}

/// Where an entry is, with half of its hash, so that growing never has to look at entries.
#[derive(Clone, Copy, Debug)]
struct Place {
    hash: u32,
    index: u32,
}

/// Entries with distinct names.
///
/// # Invariants
/// `places` has exactly one place per index of `entries`, under the hash of the entry's name.
///
/// Limit: 2³² entries.
#[derive(Debug)]
pub struct Dict<E> {
    entries: Vec<Box<[u8]>>,
    places: HashTable<Place>,
    /// What the entries take on the heap, rounded as the allocator does.
    entry_bytes: usize,
    kind: PhantomData<E>,
}

impl<E> Clone for Dict<E> {
    fn clone(&self) -> Self {
        Dict {
            entries: self.entries.clone(),
            places: self.places.clone(),
            entry_bytes: self.entry_bytes,
            kind: PhantomData,
        }
    }
}

impl<E> Default for Dict<E> {
    fn default() -> Self {
        Dict {
            entries: Vec::new(),
            places: HashTable::new(),
            entry_bytes: 0,
            kind: PhantomData,
        }
    }
}

impl<E: Entry> Dict<E> {
    /// Number of entries.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are no entries.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes on the heap.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.entry_bytes
            + self.entries.capacity() * size_of::<Box<[u8]>>()
            + self.places.allocation_size()
    }

    /// The entry called `name`.
    #[inline]
    #[must_use]
    pub fn get(&self, name: &[u8]) -> Option<&[u8]> {
        let hash = hash_of(name);
        let place = self.places.find(spread(hash), |place| {
            place.hash == hash && E::name(&self.entries[place.index as usize]) == name
        })?;
        Some(&self.entries[place.index as usize])
    }

    /// The entry at `index` of the present order.
    #[must_use]
    pub fn nth(&self, index: usize) -> Option<&[u8]> {
        self.entries.get(index).map(AsRef::as_ref)
    }

    /// All entries, in the present order.
    pub fn iter(&self) -> std::slice::Iter<'_, Box<[u8]>> {
        self.entries.iter()
    }

    /// Stores an entry in place of the one with the same name; whether there was none.
    ///
    /// # Panics
    /// At 2³² entries.
    pub fn put(&mut self, entry: Box<[u8]>) -> bool {
        let hash = hash_of(E::name(&entry));
        match self.slot(hash, E::name(&entry)) {
            Some(index) => {
                let old = std::mem::replace(&mut self.entries[index], entry);
                self.entry_bytes -= allocated(old.len());
                self.entry_bytes += allocated(self.entries[index].len());
                false
            }
            None => {
                self.entry_bytes += allocated(entry.len());
                self.entries.push(entry);
                true
            }
        }
    }

    /// Stores the entry that `make` returns, which is called `name`, unless there is one with
    /// that name; whether there was none.
    ///
    /// # Panics
    /// At 2³² entries.
    pub fn add(&mut self, name: &[u8], make: impl FnOnce() -> Box<[u8]>) -> bool {
        if self.slot(hash_of(name), name).is_some() {
            return false;
        }
        let entry = make();
        debug_assert_eq!(E::name(&entry), name, "the entry has another name");
        self.entry_bytes += allocated(entry.len());
        self.entries.push(entry);
        true
    }

    /// The index of the entry called `name`. If there is none, makes the place of the entry that
    /// the caller has to push.
    fn slot(&mut self, hash: u32, name: &[u8]) -> Option<usize> {
        let entries = &self.entries;
        let slot = self.places.entry(
            spread(hash),
            |place| place.hash == hash && E::name(&entries[place.index as usize]) == name,
            |place| spread(place.hash),
        );
        match slot {
            Slot::Occupied(place) => Some(place.get().index as usize),
            Slot::Vacant(place) => {
                let index = u32::try_from(entries.len()).expect("fewer than 2^32 entries");
                place.insert(Place { hash, index });
                None
            }
        }
    }

    /// Removes the entry called `name`; the last one takes its position. Returns whether it was
    /// there.
    pub fn remove(&mut self, name: &[u8]) -> bool {
        let hash = hash_of(name);
        let entries = &self.entries;
        let Ok(found) = self.places.find_entry(spread(hash), |place| {
            place.hash == hash && E::name(&entries[place.index as usize]) == name
        }) else {
            return false;
        };
        let index = found.remove().0.index;
        let last = u32::try_from(self.entries.len() - 1).expect("fewer than 2^32 entries");
        if index != last {
            let moved = hash_of(E::name(&self.entries[last as usize]));
            self.places
                .find_mut(spread(moved), |place| place.index == last)
                .expect("every entry has a place")
                .index = index;
        }
        let removed = self.entries.swap_remove(index as usize);
        self.entry_bytes -= allocated(removed.len());
        self.give_back();
        true
    }

    /// Gives memory back when less than a quarter is in use, and keeps room to grow to a half.
    fn give_back(&mut self) {
        let used = self.entries.len();
        if self.entries.capacity() > 64 && used < self.entries.capacity() / 4 {
            self.entries.shrink_to(used * 2);
        }
        if self.places.num_buckets() > 64 && used < self.places.num_buckets() / 8 {
            self.places.shrink_to(used * 2, |place| spread(place.hash));
        }
    }
}

/// Half of the seeded hash of keys; collisions in it only cost a comparison.
#[inline]
#[expect(
    clippy::cast_possible_truncation,
    reason = "half of the hash is wanted"
)]
fn hash_of(name: &[u8]) -> u32 {
    Key::new(name).hash as u32
}

/// The table looks at the lowest and the highest bits, so the half must reach both.
#[inline]
fn spread(hash: u32) -> u64 {
    u64::from(hash) | u64::from(hash.wrapping_mul(0x9E37_79B1)) << 32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// Entries whose first two bytes are their name.
    #[derive(Clone, Debug)]
    struct TwoBytes;

    impl Entry for TwoBytes {
        fn name(entry: &[u8]) -> &[u8] {
            &entry[..2]
        }
    }

    impl Dict<TwoBytes> {
        fn self_check(&self) {
            assert_eq!(self.places.len(), self.entries.len());
            assert_eq!(
                self.entry_bytes,
                self.entries
                    .iter()
                    .map(|e| allocated(e.len()))
                    .sum::<usize>()
            );
            for (index, entry) in self.entries.iter().enumerate() {
                let hash = hash_of(&entry[..2]);
                let place = self
                    .places
                    .find(spread(hash), |p| p.index as usize == index)
                    .expect("every entry has a place");
                assert_eq!(place.hash, hash);
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn dict_behaves_like_a_map(
            steps in proptest::collection::vec((any::<bool>(), 0_u16..200, any::<u8>()), 0..600)
        ) {
            let mut dict = Dict::<TwoBytes>::default();
            let mut model = BTreeMap::new();
            for (put, name, value) in steps {
                let name = name.to_le_bytes();
                if put {
                    let entry = vec![name[0], name[1], value];
                    prop_assert_eq!(
                        dict.put(entry.clone().into()),
                        model.insert(name, entry).is_none()
                    );
                } else {
                    prop_assert_eq!(dict.remove(&name), model.remove(&name).is_some());
                }
            }
            dict.self_check();
            prop_assert_eq!(dict.len(), model.len());
            for (name, entry) in &model {
                prop_assert_eq!(dict.get(name), Some(entry.as_slice()));
            }
        }
    }

    #[test]
    fn a_walk_from_the_end_sees_everything_that_stays() {
        let mut dict = Dict::<TwoBytes>::default();
        for name in 0..100_u16 {
            dict.put(name.to_le_bytes().into());
        }
        let mut seen = Vec::new();
        let mut cursor = dict.len();
        while cursor > 0 {
            cursor = cursor.min(dict.len());
            let Some(entry) = cursor.checked_sub(1).and_then(|at| dict.nth(at)) else {
                break;
            };
            seen.push(u16::from_le_bytes([entry[0], entry[1]]));
            cursor -= 1;
            // Removes one not seen yet and one seen, and adds one.
            let step = u16::try_from(seen.len()).expect("small");
            dict.remove(&(step * 2 + 1).to_le_bytes());
            dict.put((1000 + step).to_le_bytes().into());
        }
        for stays in (0..100).step_by(2) {
            assert!(seen.contains(&stays), "{stays} was skipped");
        }
    }

    #[test]
    fn what_is_removed_gives_its_memory_back() {
        let mut dict = Dict::<TwoBytes>::default();
        for name in 0..10_000_u16 {
            dict.put(name.to_le_bytes().into());
        }
        let full = dict.memory();
        for name in 10..10_000_u16 {
            dict.remove(&name.to_le_bytes());
        }
        assert!(dict.memory() < full / 20, "{} of {full}", dict.memory());
        dict.self_check();
    }
}
