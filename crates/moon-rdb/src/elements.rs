//! Byte strings in a row in one buffer: what a collection reads as, without an allocation for
//! each element.

/// Byte strings in order.
///
/// # Invariants
/// `ends` rises, and its last number is the length of `bytes`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Elements {
    bytes: Vec<u8>,
    /// Where each element ends; it begins where the one before it ends.
    ends: Vec<usize>,
}

/// Memory that a cleared buffer keeps for its next use, in bytes.
const KEEP_BYTES: usize = 1 << 20;

impl Elements {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// All of them in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> + Clone {
        let mut start = 0;
        self.ends.iter().map(move |end| {
            let element = &self.bytes[start..*end];
            start = *end;
            element
        })
    }

    /// Every two in a row as a pair; the last of an odd number is left out.
    pub fn pairs(&self) -> impl ExactSizeIterator<Item = (&[u8], &[u8])> + Clone {
        let mut start = 0;
        let (pairs, _) = self.ends.as_chunks::<2>();
        pairs.iter().map(move |[middle, end]| {
            let pair = (&self.bytes[start..*middle], &self.bytes[*middle..*end]);
            start = *end;
            pair
        })
    }

    /// Every two in a row as a member of a sorted set and its score.
    pub fn scored(&self) -> impl ExactSizeIterator<Item = (&[u8], f64)> + Clone {
        self.pairs().map(|(member, score)| {
            let score = score.first_chunk().copied().unwrap_or_default();
            (member, f64::from_le_bytes(score))
        })
    }

    /// Adds the score of the member before it.
    pub(crate) fn push_score(&mut self, score: f64) {
        self.push(&score.to_le_bytes());
    }

    /// Adds an element.
    pub(crate) fn push(&mut self, element: &[u8]) {
        self.bytes.extend_from_slice(element);
        self.ends.push(self.bytes.len());
    }

    /// Adds a number as it is spelled.
    pub(crate) fn push_int(&mut self, number: i64) {
        spell(&mut self.bytes, number);
        self.ends.push(self.bytes.len());
    }

    /// Adds the element that `fill` appends to the buffer; an error adds nothing.
    pub(crate) fn push_with<E>(
        &mut self,
        fill: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        let before = self.bytes.len();
        let filled = fill(&mut self.bytes);
        match filled {
            Ok(()) => self.ends.push(self.bytes.len()),
            Err(_) => self.bytes.truncate(before),
        }
        filled
    }

    /// Makes room for `count` more elements.
    pub(crate) fn reserve(&mut self, count: usize) {
        self.ends.reserve(count);
    }

    /// Removes all and keeps the memory, unless it is much.
    pub(crate) fn clear(&mut self) {
        clear(&mut self.bytes);
        self.ends.clear();
        self.ends.shrink_to(KEEP_BYTES / size_of::<usize>());
    }
}

/// Empties a buffer that is used again; memory beyond the usual is given back.
pub(crate) fn clear(buffer: &mut Vec<u8>) {
    buffer.clear();
    buffer.shrink_to(KEEP_BYTES);
}

/// Appends a number as it is spelled.
pub(crate) fn spell(out: &mut Vec<u8>, number: i64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_come_back_in_order_and_in_pairs() {
        let mut elements = Elements::default();
        elements.push(b"a");
        elements.push(b"");
        elements.push_int(-7);
        let failed = elements.push_with(|buffer| {
            buffer.extend_from_slice(b"half");
            Err(())
        });
        assert_eq!((failed, elements.len()), (Err(()), 3));
        elements.push(b"last");
        let all: Vec<_> = elements.iter().collect();
        assert_eq!(all, [&b"a"[..], b"", b"-7", b"last"]);
        let pairs: Vec<_> = elements.pairs().collect();
        assert_eq!(pairs, [(&b"a"[..], &b""[..]), (b"-7", b"last")]);
        elements.clear();
        assert!(elements.is_empty());
    }
}
