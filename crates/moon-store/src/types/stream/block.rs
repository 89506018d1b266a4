//! A block of a stream: up to about a hundred entries in one listpack.
//!
//! ```text
//! head:   live  deleted  n  name 1 .. name n  0
//! entry:  flags  ms  seq  [ n  name 1  value 1 .. | value 1 .. value n ]  elements before this
//! ```
//!
//! The names of the head are those of the entry that the block began with; an entry with the same
//! names leaves them out. `ms` and `seq` are differences to the id that the block is filed under.
//! The number at the end of an entry leads back to its beginning. A deleted entry is only marked,
//! until [`Block::compact`] takes the marked ones out. This is the form of Redis, so a block goes
//! into an RDB file as it is.

use moon_rdb::StreamId;
use moon_rdb::listpack::{Element, HEADER_BYTES, Listpack, ListpackWriter};

/// Flag of an entry that was deleted.
const DELETED: i64 = 1;
/// Flag of an entry whose names are those of the head.
const SAME_NAMES: i64 = 2;

/// Elements of the head besides the names.
const HEAD_ELEMENTS: usize = 4;

/// Entries under one id.
///
/// # Invariants
/// Well-formed as above, with at least one live entry once it is in a stream. A block that breaks
/// this reads as one that ends early.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Block {
    pack: Listpack,
}

/// The head, decoded.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    /// Entries that are not deleted.
    pub(super) live: u64,
    /// Entries that are.
    pub(super) deleted: u64,
    names: usize,
    names_at: usize,
    entries_at: usize,
}

/// Where an entry lies.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) id: StreamId,
    pub(super) is_deleted: bool,
    at: usize,
    end: usize,
    pairs: usize,
    /// Where the values begin, names in between if they are not the head's.
    content_at: usize,
    has_head_names: bool,
    elements: usize,
}

/// An entry of a stream.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// Its id.
    pub id: StreamId,
    pack: &'a Listpack,
    pairs: usize,
    /// The next name, if the names are the head's.
    names_at: Option<usize>,
    content_at: usize,
}

impl<'a> Entry<'a> {
    /// How many fields it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pairs
    }

    /// Whether it has none, which no command makes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pairs == 0
    }

    /// Its fields with their values, in order.
    pub fn fields(&self) -> impl Iterator<Item = (Element<'a>, Element<'a>)> + use<'a> {
        let Entry {
            pack,
            mut names_at,
            mut content_at,
            ..
        } = *self;
        (0..self.pairs).map_while(move |_| {
            let name_at = names_at.unwrap_or(content_at);
            let (name, behind) = pack.element(name_at)?;
            match &mut names_at {
                Some(at) => *at = behind,
                None => content_at = behind,
            }
            let (value, behind) = pack.element(content_at)?;
            content_at = behind;
            Some((name, value))
        })
    }
}

/// What a block from outside holds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Checked {
    pub(super) live: u64,
    /// The largest id, deleted or not.
    pub(super) last: StreamId,
}

impl Block {
    /// An empty block for entries with these names.
    pub(super) fn new<'f>(names: impl Iterator<Item = &'f [u8]>, count: usize) -> Block {
        let mut writer = ListpackWriter::new();
        writer.push_int(0);
        writer.push_int(0);
        writer.push_int(as_int(count));
        names.for_each(|name| writer.push(name));
        writer.push_int(0);
        Block {
            pack: Listpack::from_finished(writer.finish()),
        }
    }

    /// A block out of a file, whose bytes are a listpack; the rest is for [`Block::check`].
    pub(super) fn from_bytes(bytes: Vec<u8>) -> Block {
        Block {
            pack: Listpack::from_finished(bytes),
        }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        self.pack.as_bytes()
    }

    /// Bytes on the heap.
    pub(super) fn memory(&self) -> usize {
        crate::memory::allocated(self.pack.capacity())
    }

    pub(super) fn shrink(&mut self) {
        self.pack.shrink();
    }

    fn int(&self, at: usize) -> Option<(i64, usize)> {
        match self.pack.element(at)? {
            (Element::Int(number), next) => Some((number, next)),
            (Element::Bytes(_), _) => None,
        }
    }

    fn count(&self, at: usize) -> Option<(usize, usize)> {
        let (number, next) = self.int(at)?;
        Some((usize::try_from(number).ok()?, next))
    }

    #[inline]
    pub(super) fn head(&self) -> Option<Head> {
        let (live, at) = self.count(HEADER_BYTES)?;
        let (deleted, at) = self.count(at)?;
        let (names, names_at) = self.count(at)?;
        let mut at = names_at;
        for _ in 0..names {
            at = self.pack.skip(at)?;
        }
        Some(Head {
            live: live as u64,
            deleted: deleted as u64,
            names,
            names_at,
            entries_at: self.pack.skip(at)?,
        })
    }

    /// Entries, deleted ones included, and bytes.
    pub(super) fn extent(&self) -> (usize, usize) {
        let counts = || {
            let (live, at) = self.count(HEADER_BYTES)?;
            Some(live + self.count(at)?.0)
        };
        (counts().unwrap_or(0), self.pack.as_bytes().len())
    }

    /// Adds an entry behind all others. `base` is the id that the block is filed under.
    pub(super) fn append<'f>(
        &mut self,
        base: StreamId,
        id: StreamId,
        fields: impl Iterator<Item = (&'f [u8], &'f [u8])> + Clone,
        count: usize,
    ) {
        let Some(head) = self.head() else {
            return;
        };
        let has_head_names = head.names == count && {
            let mut at = head.names_at;
            fields.clone().all(|(name, _)| match self.pack.element(at) {
                Some((element, next)) => {
                    at = next;
                    element.is(name)
                }
                None => false,
            })
        };
        self.pack.append(|writer| {
            writer.push_int(if has_head_names { SAME_NAMES } else { 0 });
            writer.push_int(id.ms.wrapping_sub(base.ms).cast_signed());
            writer.push_int(id.seq.wrapping_sub(base.seq).cast_signed());
            if has_head_names {
                fields.for_each(|(_, value)| writer.push(value));
                writer.push_int(as_int(count + 3));
            } else {
                writer.push_int(as_int(count));
                for (name, value) in fields {
                    writer.push(name);
                    writer.push(value);
                }
                writer.push_int(as_int(2 * count + 4));
            }
        });
        self.set_counts(head.live + 1, head.deleted);
    }

    fn set_counts(&mut self, live: u64, deleted: u64) {
        self.pack.set_int(HEADER_BYTES, live.cast_signed());
        if let Some(at) = self.pack.skip(HEADER_BYTES) {
            self.pack.set_int(at, deleted.cast_signed());
        }
    }

    /// The entry at a place in the listpack.
    fn place(&self, base: StreamId, head: &Head, at: usize) -> Option<Place> {
        let (flags, next) = self.int(at)?;
        let (ms, next) = self.int(next)?;
        let (seq, mut next) = self.int(next)?;
        let has_head_names = flags & SAME_NAMES != 0;
        let pairs = if has_head_names {
            head.names
        } else {
            let (pairs, behind) = self.count(next)?;
            next = behind;
            pairs
        };
        let content_at = next;
        let (strings, elements) = match has_head_names {
            true => (pairs, pairs.checked_add(3)?),
            false => (pairs.checked_mul(2)?, pairs.checked_mul(2)?.checked_add(4)?),
        };
        for _ in 0..strings {
            next = self.pack.skip(next)?;
        }
        Some(Place {
            id: StreamId {
                ms: base.ms.wrapping_add(ms.cast_unsigned()),
                seq: base.seq.wrapping_add(seq.cast_unsigned()),
            },
            is_deleted: flags & DELETED != 0,
            at,
            end: self.pack.skip(next)?,
            pairs,
            content_at,
            has_head_names,
            elements,
        })
    }

    /// All entries in order, deleted ones included.
    pub(super) fn places<'a>(
        &'a self,
        base: StreamId,
        head: &Head,
    ) -> impl Iterator<Item = Place> + use<'a> {
        let head = *head;
        let mut at = head.entries_at;
        std::iter::from_fn(move || self.place_behind(base, &head, &mut at))
    }

    /// As [`Block::places`], from the last on.
    pub(super) fn places_back<'a>(
        &'a self,
        base: StreamId,
        head: &Head,
    ) -> impl Iterator<Item = Place> + use<'a> {
        let head = *head;
        let mut end = self.last_place();
        std::iter::from_fn(move || self.place_before(base, &head, &mut end))
    }

    /// Where [`Block::place_behind`] begins.
    pub(super) fn first_place(head: &Head) -> usize {
        head.entries_at
    }

    /// Where [`Block::place_before`] begins.
    pub(super) fn last_place(&self) -> usize {
        self.pack.end()
    }

    /// The entry behind a place, which moves on.
    #[inline]
    pub(super) fn place_behind(
        &self,
        base: StreamId,
        head: &Head,
        at: &mut usize,
    ) -> Option<Place> {
        let place = self.place(base, head, *at)?;
        *at = place.end;
        Some(place)
    }

    /// The entry before a place, which moves back.
    #[inline]
    pub(super) fn place_before(
        &self,
        base: StreamId,
        head: &Head,
        end: &mut usize,
    ) -> Option<Place> {
        if *end <= head.entries_at {
            return None;
        }
        let count_at = self.pack.before(*end)?;
        let (elements, _) = self.count(count_at)?;
        let mut at = count_at;
        for _ in 0..elements {
            at = self.pack.before(at)?;
        }
        let place = self.place(base, head, at)?;
        *end = at;
        Some(place)
    }

    /// What an entry holds.
    pub(super) fn entry(&self, head: &Head, place: &Place) -> Entry<'_> {
        Entry {
            id: place.id,
            pack: &self.pack,
            pairs: place.pairs,
            names_at: place.has_head_names.then_some(head.names_at),
            content_at: place.content_at,
        }
    }

    /// Marks live entries as deleted, from the first on, as long as `is_doomed` says so; how many.
    pub(super) fn delete_while(
        &mut self,
        base: StreamId,
        mut is_doomed: impl FnMut(StreamId) -> bool,
    ) -> u64 {
        let Some(head) = self.head() else {
            return 0;
        };
        let doomed: Vec<Place> = self
            .places(base, &head)
            .filter(|place| !place.is_deleted)
            .take_while(|place| is_doomed(place.id))
            .collect();
        self.mark(&head, &doomed);
        doomed.len() as u64
    }

    /// Marks one live entry as deleted; whether there was one.
    pub(super) fn delete(&mut self, base: StreamId, id: StreamId) -> bool {
        let Some(head) = self.head() else {
            return false;
        };
        let found = self
            .places(base, &head)
            .take_while(|place| place.id <= id)
            .find(|place| place.id == id && !place.is_deleted);
        self.mark(&head, found.as_slice());
        found.is_some()
    }

    fn mark(&mut self, head: &Head, places: &[Place]) {
        // The flags keep their size, so the places stay where they are.
        for place in places {
            let same = if place.has_head_names { SAME_NAMES } else { 0 };
            self.pack.set_int(place.at, same | DELETED);
        }
        let marked = places.len() as u64;
        if marked > 0 {
            self.set_counts(head.live.saturating_sub(marked), head.deleted + marked);
        }
    }

    /// Takes the deleted entries out, if they are at least as many as the others: then the work
    /// was paid for by the deletions.
    pub(super) fn compact(&mut self, base: StreamId) {
        if let Some(head) = self.head()
            && head.deleted >= head.live
        {
            self.drop_deleted(base);
        }
    }

    /// Takes the deleted entries out.
    pub(super) fn drop_deleted(&mut self, base: StreamId) {
        let Some(head) = self.head().filter(|head| head.deleted > 0) else {
            return;
        };
        let bytes = self.pack.as_bytes();
        let mut writer = ListpackWriter::new();
        writer.push_int(head.live.cast_signed());
        writer.push_int(0);
        writer.push_int(as_int(head.names));
        let names = &bytes[head.names_at..head.entries_at];
        writer.push_raw(names, HEAD_ELEMENTS - 3 + head.names);
        for place in self.places(base, &head).filter(|place| !place.is_deleted) {
            writer.push_raw(&bytes[place.at..place.end], place.elements + 1);
        }
        let mut bytes = writer.finish();
        bytes.shrink_to_fit();
        self.pack = Listpack::from_finished(bytes);
    }

    /// Looks at everything in a block from outside; `None` if it is not as it must be.
    pub(super) fn check(&self, base: StreamId) -> Option<Checked> {
        let head = self.head()?;
        let terminator = self.pack.before(head.entries_at)?;
        if self.int(terminator)?.0 != 0 {
            return None;
        }
        let (mut live, mut deleted) = (0, 0);
        let mut last: Option<StreamId> = None;
        let mut at = head.entries_at;
        while at < self.pack.end() {
            let place = self.place(base, &head, at)?;
            let (flags, _) = self.int(at)?;
            let (elements, _) = self.count(self.pack.before(place.end)?)?;
            let is_behind = last.map_or(place.id >= base, |last| place.id > last);
            if flags & !(DELETED | SAME_NAMES) != 0 || elements != place.elements || !is_behind {
                return None;
            }
            // Marking it must not move anything.
            if self.pack.skip(at)? - at != 2 {
                return None;
            }
            match place.is_deleted {
                true => deleted += 1,
                false => live += 1,
            }
            last = Some(place.id);
            at = place.end;
        }
        (live > 0 && head.live == live && head.deleted == deleted)
            .then_some(Checked { live, last: last? })
    }
}

fn as_int(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
