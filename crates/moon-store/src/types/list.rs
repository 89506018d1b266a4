//! Lists: elements in order, cheap at both ends.
//!
//! The elements lie in short packs, the *nodes*. What changes the middle ([`middle`]) changes one
//! node, splits it, or moves the few bytes that stand for a node in the row of nodes.

mod middle;

use super::pack::Pack;
use super::{Cursor, Encoding};
use std::collections::VecDeque;

/// How large a node of a list may get, from `list-max-listpack-size`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeLimit {
    /// Most bytes, inclusive. A larger element has a node for itself.
    bytes: usize,
    /// Most elements, inclusive.
    entries: usize,
}

/// Bytes of a node whose limit is a number of elements.
const COUNTED_NODE_BYTES_MAX: usize = 8 << 10;

impl NodeLimit {
    /// From the setting: positive for a number of elements (0 counts as 1), -1 to -5 for 4, 8, 16,
    /// 32, 64 KiB (anything below is as -5).
    #[must_use]
    pub fn from_setting(setting: i64) -> NodeLimit {
        match usize::try_from(setting) {
            Ok(entries) => NodeLimit {
                bytes: COUNTED_NODE_BYTES_MAX,
                entries: entries.max(1),
            },
            Err(_) => NodeLimit {
                bytes: (4 << 10) << (setting.unsigned_abs().min(5) - 1),
                entries: usize::MAX,
            },
        }
    }

    fn admits(self, node: &Pack, element: &[u8]) -> bool {
        node.is_empty()
            || (node.len() < self.entries
                && node.bytes() + Pack::entry_bytes(element.len()) <= self.bytes)
    }

    fn half(self) -> NodeLimit {
        NodeLimit {
            bytes: self.bytes / 2,
            entries: self.entries / 2,
        }
    }

    fn covers(self, node: &Pack) -> bool {
        self.covers_with(node, 0, 0)
    }

    /// Whether a node with so many more elements and bytes is covered.
    fn covers_with(self, node: &Pack, entries: usize, bytes: usize) -> bool {
        node.len() + entries <= self.entries && node.bytes() + bytes <= self.bytes
    }
}

/// An end of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The head, where LPUSH and LPOP work.
    Left,
    /// The tail.
    Right,
}

/// Elements in order.
///
/// # Invariants
/// * No node is empty; `len` is the sum of their lengths, `node_bytes` that of their memory.
/// * Unless `chained`, there is at most one node.
#[derive(Clone, Debug, Default)]
pub struct List {
    nodes: VecDeque<Pack>,
    len: usize,
    node_bytes: usize,
    /// Whether the list is in its large form; it returns only at half the limit, so that a list
    /// at the limit does not change form with every push and pop.
    chained: bool,
}

impl List {
    /// Number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no elements.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds an element at an end.
    #[inline]
    pub fn push(&mut self, end: End, element: &[u8], limit: NodeLimit) {
        let node = match end {
            End::Left => self.nodes.front_mut(),
            End::Right => self.nodes.back_mut(),
        };
        match node {
            Some(node) if limit.admits(node, element) => {
                let before = node.memory();
                match end {
                    End::Left => node.push_front(element),
                    End::Right => node.push_back(element),
                }
                self.node_bytes = self.node_bytes - before + node.memory();
            }
            full => {
                // Nodes inside the list do not grow again.
                if let Some(full) = full {
                    self.node_bytes -= full.memory();
                    full.shrink();
                    self.node_bytes += full.memory();
                }
                let at = match end {
                    End::Left => 0,
                    End::Right => self.nodes.len(),
                };
                self.insert_node(at, element);
                self.chained |= self.nodes.len() > 1 || !limit.covers(&self.nodes[at]);
            }
        }
        self.len += 1;
    }

    /// The element at an end.
    #[must_use]
    pub fn peek(&self, end: End) -> Option<&[u8]> {
        match end {
            End::Left => self.nodes.front()?.iter().next(),
            End::Right => self.nodes.back()?.iter().next_back(),
        }
    }

    /// Removes the element at an end, if there is one, and shows it before it goes.
    #[inline]
    pub fn pop<R>(
        &mut self,
        end: End,
        limit: NodeLimit,
        look: impl FnOnce(&[u8]) -> R,
    ) -> Option<R> {
        let node = match end {
            End::Left => self.nodes.front_mut()?,
            End::Right => self.nodes.back_mut()?,
        };
        let before = node.memory();
        let result = match end {
            End::Left => node.pop_front(look)?,
            End::Right => node.pop_back(look)?,
        };
        self.node_bytes -= before;
        self.len -= 1;
        if node.is_empty() {
            match end {
                End::Left => self.nodes.pop_front(),
                End::Right => self.nodes.pop_back(),
            };
            self.give_back();
        } else {
            self.node_bytes += node.memory();
        }
        self.shrunk(limit);
        Some(result)
    }

    /// The row of nodes became shorter.
    fn give_back(&mut self) {
        if self.nodes.capacity() > 8 && self.nodes.len() < self.nodes.capacity() / 4 {
            self.nodes.shrink_to(self.nodes.len() * 2);
        }
    }

    /// Elements went away: the list may return to its small form.
    #[inline]
    fn shrunk(&mut self, limit: NodeLimit) {
        if self.chained && self.nodes.len() <= 1 {
            self.chained = self.nodes.iter().any(|node| !limit.half().covers(node));
        }
    }

    /// The element at `index`.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&[u8]> {
        let (node, offset) = self.locate(index)?;
        self.nodes[node].get(offset)
    }

    /// At most `count` elements from `start` on. Finding the start takes a step per node, from the
    /// nearer end.
    pub fn range(&self, start: usize, count: usize) -> impl Iterator<Item = &[u8]> {
        let (node, offset) = self.locate(start).unwrap_or((self.nodes.len(), 0));
        self.nodes
            .range(node..)
            .flat_map(Pack::iter)
            .skip(offset)
            .take(count)
    }

    /// All elements in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.nodes.iter().flat_map(Pack::iter)
    }

    /// The element at the cursor, which moves on; `None` at the end. Constant time.
    #[must_use]
    pub fn next_from(&self, cursor: &mut Cursor) -> Option<&[u8]> {
        loop {
            let node = self.nodes.get(cursor.node)?;
            if let Some(element) = node.next_from(&mut cursor.at) {
                return Some(element);
            }
            cursor.node += 1;
            cursor.at = 0;
        }
    }

    /// The internal form.
    #[must_use]
    pub fn encoding(&self) -> Encoding {
        if self.chained {
            Encoding::Quicklist
        } else {
            Encoding::Listpack
        }
    }

    /// Bytes of memory.
    #[must_use]
    pub fn memory(&self) -> usize {
        size_of::<List>() + self.nodes.capacity() * size_of::<Pack>() + self.node_bytes
    }

    /// The node that holds the element at `index`, and the element's index in it.
    fn locate(&self, index: usize) -> Option<(usize, usize)> {
        if index >= self.len {
            return None;
        }
        if index <= self.len / 2 {
            let mut before = 0;
            for (at, node) in self.nodes.iter().enumerate() {
                if index < before + node.len() {
                    return Some((at, index - before));
                }
                before += node.len();
            }
        } else {
            let mut start = self.len;
            for (at, node) in self.nodes.iter().enumerate().rev() {
                start -= node.len();
                if index >= start {
                    return Some((at, index - start));
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    impl List {
        pub(super) fn self_check(&self) {
            assert!(self.nodes.iter().all(|node| !node.is_empty()));
            assert_eq!(self.len, self.nodes.iter().map(Pack::len).sum::<usize>());
            let node_bytes: usize = self.nodes.iter().map(Pack::memory).sum();
            assert_eq!(self.node_bytes, node_bytes);
            assert!(self.chained || self.nodes.len() <= 1);
        }
    }

    fn end() -> impl Strategy<Value = End> {
        prop_oneof![Just(End::Left), Just(End::Right)]
    }

    proptest! {
        #[test]
        fn list_behaves_like_a_deque(
            setting in prop_oneof![Just(-2), Just(0), 1..10_i64],
            steps in proptest::collection::vec((0..5_u8, end(), 0..400_usize), 0..200),
            start in 0..100_usize,
            count in 0..100_usize,
        ) {
            let limit = NodeLimit::from_setting(setting);
            let mut list = List::default();
            let mut model: VecDeque<Vec<u8>> = VecDeque::new();
            for (what, end, len) in steps {
                if what < 3 {
                    let element = vec![b'e'; len];
                    list.push(end, &element, limit);
                    match end {
                        End::Left => model.push_front(element),
                        End::Right => model.push_back(element),
                    }
                } else {
                    let expected = match end {
                        End::Left => model.pop_front(),
                        End::Right => model.pop_back(),
                    };
                    prop_assert_eq!(list.peek(end), expected.as_deref());
                    prop_assert_eq!(list.pop(end, limit, <[u8]>::to_vec), expected);
                }
                list.self_check();
            }
            prop_assert_eq!(list.len(), model.len());
            prop_assert!(list.iter().eq(model.iter().map(Vec::as_slice)));
            for (index, element) in model.iter().enumerate() {
                prop_assert_eq!(list.get(index), Some(element.as_slice()));
            }
            prop_assert_eq!(list.get(model.len()), None);
            let expected = model.iter().skip(start).take(count).map(Vec::as_slice);
            prop_assert!(list.range(start, count).eq(expected));
        }
    }

    #[test]
    fn a_list_is_chained_beyond_the_limit_and_returns_at_half_of_it() {
        let limit = NodeLimit::from_setting(4);
        let mut list = List::default();
        for _ in 0..4 {
            list.push(End::Right, b"e", limit);
        }
        assert_eq!(list.encoding(), Encoding::Listpack);
        list.push(End::Right, b"e", limit);
        assert_eq!(list.encoding(), Encoding::Quicklist);
        list.pop(End::Right, limit, |_| ());
        list.pop(End::Right, limit, |_| ());
        assert_eq!(list.encoding(), Encoding::Quicklist);
        list.pop(End::Right, limit, |_| ());
        assert_eq!(list.encoding(), Encoding::Listpack);

        let mut list = List::default();
        let limit = NodeLimit::from_setting(-2);
        list.push(End::Left, &[0; 9000], limit);
        assert_eq!(list.encoding(), Encoding::Quicklist);
    }

    #[test]
    fn a_long_list_costs_little_more_than_its_bytes_and_gives_them_back() {
        let limit = NodeLimit::from_setting(-2);
        for end in [End::Left, End::Right] {
            let mut list = List::default();
            for _ in 0..20_000 {
                list.push(end, b"0123456789", limit);
            }
            assert!(
                list.memory() < 20_000 * 12 + 20_000 * 2,
                "{}",
                list.memory()
            );
            for _ in 0..19_990 {
                list.pop(end, limit, |_| ());
            }
            assert!(list.memory() < 1000, "{}", list.memory());
        }
    }
}
