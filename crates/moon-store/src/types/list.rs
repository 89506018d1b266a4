//! Lists: elements in order, cheap at both ends.
//!
//! The elements lie in short packs, the *nodes*. What changes the middle ([`middle`]) changes one
//! node, splits it, or moves the few bytes that stand for a node in the row of nodes. Nodes that
//! lie deeper than `list-compress-depth` are compressed ([`node`]).

mod middle;
mod node;

use self::node::Node;
pub(crate) use self::node::OpenNode;
use super::pack::Pack;
use super::{Cursor, Encoding};
use crate::memory::allocated;
use std::borrow::Cow;
use std::collections::VecDeque;
use std::ops::{ControlFlow, Range};

/// How large a node of a list may get, from `list-max-listpack-size`, and which are compressed,
/// from `list-compress-depth`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeLimit {
    /// Most bytes, inclusive. A larger element has a node for itself.
    bytes: usize,
    /// Most elements, inclusive.
    entries: usize,
    /// Nodes at each end that are not compressed; 0 for all.
    plain_nodes: usize,
}

/// More nodes at an end are never kept plain.
const PLAIN_NODES_MAX: usize = 0xFFFF;

/// Bytes of a node whose limit is a number of elements.
const COUNTED_NODE_BYTES_MAX: usize = 8 << 10;

impl NodeLimit {
    /// From the setting: positive for a number of elements (0 counts as 1), -1 to -5 for 4, 8, 16,
    /// 32, 64 KiB (anything below is as -5). No node is compressed.
    #[must_use]
    pub fn from_setting(setting: i64) -> NodeLimit {
        let (bytes, entries) = match usize::try_from(setting) {
            Ok(entries) => (COUNTED_NODE_BYTES_MAX, entries.max(1)),
            Err(_) => ((4 << 10) << (setting.unsigned_abs().min(5) - 1), usize::MAX),
        };
        NodeLimit {
            bytes,
            entries,
            plain_nodes: 0,
        }
    }

    /// The same with nodes compressed that have at least `depth` others on both sides; with a
    /// depth of 0, none. More than 65535 is as that.
    #[must_use]
    pub fn with_compress_depth(self, depth: usize) -> NodeLimit {
        NodeLimit {
            plain_nodes: depth.min(PLAIN_NODES_MAX),
            ..self
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
            ..self
        }
    }

    fn covers(self, node: &Node) -> bool {
        self.covers_with(node, 0, 0)
    }

    /// Whether a node with so many more elements and bytes is covered.
    fn covers_with(self, node: &Node, entries: usize, bytes: usize) -> bool {
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
/// * No node is empty; `len` is the sum of their lengths, `node_bytes` that of their memory,
///   `saved` that of what compression saves.
/// * The first and the last node are plain.
/// * Unless `chained`, there is at most one node.
#[derive(Clone, Debug, Default)]
pub struct List {
    nodes: VecDeque<Node>,
    len: usize,
    node_bytes: usize,
    saved: usize,
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
            Some(Node::Plain(pack)) if limit.admits(pack, element) => {
                let before = pack.capacity();
                match end {
                    End::Left => pack.push_front(element),
                    End::Right => pack.push_back(element),
                }
                let after = pack.capacity();
                if before != after {
                    self.node_bytes = self.node_bytes - allocated(before) + allocated(after);
                }
            }
            _ => self.push_node(end, element, limit),
        }
        self.len += 1;
    }

    /// Adds a node with one element at an end.
    fn push_node(&mut self, end: End, element: &[u8], limit: NodeLimit) {
        let len = self.nodes.len();
        let (at, full) = match end {
            End::Left => (0, 0),
            End::Right => (len, len.saturating_sub(1)),
        };
        // Nodes inside the list do not grow again.
        if full < len {
            self.edit(full, Pack::shrink);
        }
        if len == 0 {
            // Most lists have one node, and there may be millions of them.
            self.nodes.reserve_exact(1);
        }
        self.insert_node(at, element);
        self.chained |= self.nodes.len() > 1 || !limit.covers(&self.nodes[at]);
        self.compress_ends(limit);
    }

    /// The element at an end.
    #[must_use]
    pub fn peek(&self, end: End) -> Option<&[u8]> {
        match end {
            End::Left => self.nodes.front()?.plain()?.iter().next(),
            End::Right => self.nodes.back()?.plain()?.iter().next_back(),
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
        let Node::Plain(pack) = node else {
            debug_assert!(false, "the nodes at the ends are plain");
            return None;
        };
        let before = pack.capacity();
        let result = match end {
            End::Left => pack.pop_front(look)?,
            End::Right => pack.pop_back(look)?,
        };
        self.len -= 1;
        let (after, is_empty) = (pack.capacity(), pack.is_empty());
        if before != after {
            self.node_bytes = self.node_bytes - allocated(before) + allocated(after);
        }
        if is_empty {
            self.pop_node(end, limit);
        }
        self.shrunk(limit);
        Some(result)
    }

    /// Takes the node at an end away, which became empty.
    fn pop_node(&mut self, end: End, limit: NodeLimit) {
        let gone = match end {
            End::Left => self.nodes.pop_front(),
            End::Right => self.nodes.pop_back(),
        };
        self.node_bytes -= gone.map_or(0, |node| node.memory());
        self.give_back();
        self.compress_ends(limit);
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
    pub fn get(&self, index: usize) -> Option<Cow<'_, [u8]>> {
        let (node, offset) = self.locate(index)?;
        match self.nodes[node].open() {
            Cow::Borrowed(pack) => pack.get(offset).map(Cow::Borrowed),
            Cow::Owned(pack) => pack.get(offset).map(|element| Cow::Owned(element.to_vec())),
        }
    }

    /// Shows elements with their index, beginning at the first of `range` or, from the right, at
    /// its last, until `look` breaks. Finding the beginning takes a step per node, from the nearer
    /// end.
    #[inline]
    pub fn visit(
        &self,
        range: Range<usize>,
        from: End,
        mut look: impl FnMut(usize, &[u8]) -> ControlFlow<()>,
    ) {
        let range = range.start..range.end.min(self.len);
        if range.is_empty() {
            return;
        }
        let begin = match from {
            End::Left => range.start,
            End::Right => range.end - 1,
        };
        let Some((mut at, offset)) = self.locate(begin) else {
            return;
        };
        // The index of the first element of the node, and of the next element.
        let (mut start, mut index) = (begin - offset, begin);
        loop {
            let pack = self.nodes[at].open();
            let mut walk = pack.iter();
            match from {
                End::Left => {
                    walk.by_ref().take(index - start).for_each(drop);
                    let most = walk.len().min(range.end - index);
                    for element in walk.take(most) {
                        if look(index, element).is_break() {
                            return;
                        }
                        index += 1;
                    }
                    if index == range.end {
                        return;
                    }
                    (at, start) = (at + 1, index);
                }
                End::Right => {
                    let behind = pack.len() - 1 - (index - start);
                    walk.by_ref().rev().take(behind).for_each(drop);
                    while index >= range.start
                        && let Some(element) = walk.next_back()
                    {
                        if look(index, element).is_break() || index == 0 {
                            return;
                        }
                        index -= 1;
                    }
                    if index < range.start || at == 0 {
                        return;
                    }
                    at -= 1;
                    start -= self.nodes[at].len();
                }
            }
        }
    }

    /// Shows all elements in order.
    pub fn for_each(&self, mut look: impl FnMut(&[u8])) {
        self.visit(0..self.len, End::Left, |_, element| {
            look(element);
            ControlFlow::Continue(())
        });
    }

    /// All elements in order.
    #[must_use]
    pub fn to_vecs(&self) -> Vec<Vec<u8>> {
        let mut all = Vec::with_capacity(self.len);
        self.for_each(|element| all.push(element.to_vec()));
        all
    }

    /// The element at the cursor, which moves on; `None` at the end. Constant time, but for opening
    /// each compressed node once.
    #[must_use]
    pub(crate) fn next_from<'a>(
        &'a self,
        cursor: &mut Cursor,
        opened: &'a mut OpenNode,
    ) -> Option<&'a [u8]> {
        // Nodes have no empty ones among them, so the next has the element if this one has not.
        let here = self.nodes.get(cursor.node)?;
        if cursor.at >= here.bytes() {
            *cursor = Cursor {
                node: cursor.node + 1,
                at: 0,
            };
        }
        let node = self.nodes.get(cursor.node)?;
        opened.of(cursor.node, node).next_from(&mut cursor.at)
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

    /// Number of nodes.
    #[must_use]
    pub fn nodes(&self) -> usize {
        self.nodes.len()
    }

    /// Bytes of the elements in all nodes, as they are when none is compressed.
    #[must_use]
    pub fn plain_bytes(&self) -> usize {
        self.nodes.iter().map(Node::bytes).sum()
    }

    /// Bytes of memory.
    #[must_use]
    pub fn memory(&self) -> usize {
        allocated(size_of::<List>())
            + allocated(self.nodes.capacity() * size_of::<Node>())
            + self.node_bytes
    }

    /// Bytes of memory if no node were compressed, roughly: what goes through somebody's hands who
    /// reads everything.
    #[must_use]
    pub fn plain_memory(&self) -> usize {
        self.memory() + self.saved
    }

    /// The nodes at the ends are plain, as many as the limit says, and those next to them are
    /// compressed. To be called when the number of nodes has changed.
    #[inline]
    fn compress_ends(&mut self, limit: NodeLimit) {
        if limit.plain_nodes > 0 || self.saved > 0 {
            self.arrange_ends(limit);
        }
    }

    #[cold]
    fn arrange_ends(&mut self, limit: NodeLimit) {
        let len = self.nodes.len();
        for depth in 0..limit.plain_nodes.max(1).min(len) {
            if self.saved == 0 {
                break;
            }
            for at in [depth, len - 1 - depth] {
                if self.nodes[at].is_compressed() {
                    self.edit(at, |_| ());
                }
            }
        }
        for at in [limit.plain_nodes, len.saturating_sub(1 + limit.plain_nodes)] {
            self.compress(at, limit);
        }
    }

    /// Compresses a node if it lies deep enough.
    fn compress(&mut self, at: usize, limit: NodeLimit) {
        let depth = limit.plain_nodes;
        if depth == 0 || at < depth || at + depth >= self.nodes.len() {
            return;
        }
        let node = &mut self.nodes[at];
        if !node.is_compressed() {
            self.node_bytes -= node.memory();
            node.compress();
            self.node_bytes += node.memory();
            self.saved += node.saved();
        }
    }

    /// Changes a node, which is plain afterwards.
    fn edit<R>(&mut self, at: usize, change: impl FnOnce(&mut Pack) -> R) -> R {
        let node = &mut self.nodes[at];
        self.node_bytes -= node.memory();
        self.saved -= node.saved();
        let result = change(node.open_mut());
        self.node_bytes += node.memory();
        result
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
            assert_eq!(self.len, self.nodes.iter().map(Node::len).sum::<usize>());
            let node_bytes: usize = self.nodes.iter().map(Node::memory).sum();
            assert_eq!(self.node_bytes, node_bytes);
            assert_eq!(
                self.saved,
                self.nodes.iter().map(Node::saved).sum::<usize>()
            );
            for end in [self.nodes.front(), self.nodes.back()] {
                assert!(
                    !end.is_some_and(Node::is_compressed),
                    "an end is compressed"
                );
            }
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
            depths in proptest::collection::vec(0..4_usize, 1..3),
            steps in proptest::collection::vec((0..5_u8, end(), 0..400_usize), 0..200),
            start in 0..100_usize,
            count in 0..100_usize,
        ) {
            let limit = NodeLimit::from_setting(setting);
            let mut list = List::default();
            let mut model: VecDeque<Vec<u8>> = VecDeque::new();
            for (number, (what, end, len)) in steps.into_iter().enumerate() {
                let limit = limit.with_compress_depth(depths[number * depths.len() / 200]);
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
            prop_assert!(list.to_vecs().iter().eq(model.iter()));
            for (index, element) in model.iter().enumerate() {
                let got = list.get(index).map(Cow::into_owned);
                prop_assert_eq!(got.as_ref(), Some(element));
            }
            prop_assert_eq!(list.get(model.len()), None);
            for from in [End::Left, End::Right] {
                let mut seen = Vec::new();
                list.visit(start..start + count, from, |at, element| {
                    seen.push((at, element.to_vec()));
                    if seen.len() > 40 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
                });
                let mut expected: Vec<_> = model.iter().cloned().enumerate().collect();
                expected = expected.into_iter().skip(start).take(count).collect();
                if from == End::Right {
                    expected.reverse();
                }
                expected.truncate(41);
                prop_assert_eq!(seen, expected);
            }
            let (mut cursor, mut opened) = (Cursor::default(), OpenNode::default());
            for element in &model {
                let next = list.next_from(&mut cursor, &mut opened);
                prop_assert_eq!(next, Some(element.as_slice()));
            }
            prop_assert_eq!(list.next_from(&mut cursor, &mut opened), None);
        }
    }

    #[test]
    fn nodes_deeper_than_the_depth_are_compressed_if_that_pays() {
        let push = |list: &mut List, count: usize, limit: NodeLimit| {
            for i in 0..count {
                let element = format!("the element with the number {i:09}");
                list.push(End::Right, element.as_bytes(), limit);
            }
        };
        let compressed =
            |list: &List| -> Vec<bool> { list.nodes.iter().map(Node::is_compressed).collect() };
        let limit = NodeLimit::from_setting(10);
        let mut list = List::default();
        push(&mut list, 60, limit.with_compress_depth(2));
        assert_eq!(compressed(&list), [false, false, true, true, false, false]);
        let plain = list.plain_memory();
        assert!(list.memory() < plain - 300, "{} of {plain}", list.memory());
        // Reading opens nothing for good, changing neither.
        assert_eq!(list.to_vecs().len(), 60);
        let depth_2 = limit.with_compress_depth(2);
        assert!(list.set(25, b"the element in place of number 25", depth_2));
        assert_eq!(compressed(&list), [false, false, true, true, false, false]);
        // Another depth counts for what is touched from then on.
        let depth_1 = limit.with_compress_depth(1);
        push(&mut list, 10, depth_1);
        let expected = [false, true, true, true, false, true, false];
        assert_eq!(compressed(&list), expected);
        for _ in 0..10 {
            list.pop(End::Left, limit, |_| ());
        }
        assert_eq!(compressed(&list), [false, true, true, false, true, false]);
        list.self_check();

        let mut noise = List::default();
        for i in 0..60_u64 {
            let random = i.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes();
            noise.push(End::Left, &random, depth_1);
        }
        assert_eq!(noise.saved, 0, "eight bytes are not gained");
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
    fn a_short_list_has_room_for_one_node() {
        let mut list = List::default();
        list.push(End::Left, b"element", NodeLimit::from_setting(-2));
        let node = allocated(size_of::<Pack>()) + list.node_bytes;
        assert_eq!(list.memory(), allocated(size_of::<List>()) + node);
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
