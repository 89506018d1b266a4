//! Changes in the middle of a pack. Each costs at most the bytes of the pack, so a structure of
//! many entries keeps its packs short.

use super::{Pack, Position, place_entry};

impl Pack {
    /// Where the entry at `index` begins, walked to from the nearer end; for `len` and above, the
    /// end of the pack.
    #[must_use]
    pub fn position(&self, index: usize) -> Position {
        let mut walk = self.iter();
        if index <= self.count / 2 {
            walk.by_ref().take(index).for_each(drop);
            return Position(self.buf.len() - walk.bytes.len());
        }
        let behind = self.count.saturating_sub(index);
        walk.by_ref().rev().take(behind).for_each(drop);
        Position(self.start + walk.bytes.len())
    }

    /// Adds an entry before the one at `position`, which may be the end.
    ///
    /// # Panics
    /// As [`Pack::push_back`], and when the position is not one of this pack.
    pub fn insert(&mut self, position: Position, entry: &[u8]) {
        let at = position.0;
        let need = Pack::entry_bytes(entry.len());
        let end = self.buf.len();
        self.buf.resize(end + need, 0);
        self.buf.copy_within(at..end, at + need);
        place_entry(&mut self.buf[at..at + need], entry);
        self.count += 1;
    }

    /// Takes the entries from `index` on away, into a pack of their own.
    #[must_use]
    pub fn split_off(&mut self, index: usize) -> Pack {
        let at = self.position(index).0;
        let tail = Pack {
            buf: self.buf[at..].to_vec(),
            start: 0,
            count: self.count.saturating_sub(index),
        };
        self.buf.truncate(at);
        self.count -= tail.count;
        self.give_back();
        tail
    }

    /// Adds all entries of another pack behind the last.
    pub fn append(&mut self, other: &Pack) {
        self.buf.extend_from_slice(&other.buf[other.start..]);
        self.count += other.count;
    }

    /// Removes the entries for which `keep` says no; asks for each once, in order.
    pub fn retain(&mut self, mut keep: impl FnMut(&[u8]) -> bool) {
        let (mut read, mut written) = (self.start, self.start);
        for _ in 0..self.count {
            let (entry, Position(behind)) = self.at(Position(read));
            if keep(entry) {
                self.buf.copy_within(read..behind, written);
                written += behind - read;
            } else {
                self.count -= 1;
            }
            read = behind;
        }
        self.buf.truncate(written);
        self.give_back();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(entries: &[Vec<u8>]) -> Pack {
        let mut pack = Pack::default();
        let front = entries.len() / 3;
        for entry in &entries[front..] {
            pack.push_back(entry);
        }
        for entry in entries[..front].iter().rev() {
            pack.push_front(entry);
        }
        pack
    }

    fn same(pack: &Pack, model: &[Vec<u8>]) {
        assert_eq!(pack.len(), model.len());
        assert!(pack.iter().eq(model.iter().map(Vec::as_slice)));
        assert!(pack.iter().rev().eq(model.iter().rev().map(Vec::as_slice)));
    }

    fn entry() -> impl Strategy<Value = Vec<u8>> {
        (
            0..3_u8,
            prop_oneof![0..4_usize, 120..140_usize, 70_000..70_001_usize],
        )
            .prop_map(|(byte, len)| vec![byte; len])
    }

    proptest! {
        #[test]
        fn changes_in_the_middle_are_those_of_a_vector(
            mut model in proptest::collection::vec(entry(), 1..20),
            steps in proptest::collection::vec((0..4_u8, 0..20_usize, entry()), 0..20),
        ) {
            let mut pack = of(&model);
            for (what, index, entry) in steps {
                let index = index.min(model.len());
                match what {
                    0 | 1 => {
                        pack.insert(pack.position(index), &entry);
                        model.insert(index, entry);
                    }
                    2 => {
                        let tail = pack.split_off(index);
                        let model_tail = model.split_off(index);
                        same(&tail, &model_tail);
                        if entry.len() % 2 == 0 {
                            pack.append(&tail);
                            model.extend(model_tail);
                        }
                    }
                    _ => {
                        pack.retain(|other| other != entry);
                        model.retain(|other| *other != entry);
                    }
                }
                same(&pack, &model);
            }
        }
    }
}
