//! What changes a list elsewhere than at its ends.
//!
//! A node that has no room for a new element is split where the element goes; so a change costs
//! the bytes of a node or two, and a move of what stands for half the nodes at most. Removing by
//! value joins neighbours that became small together.

use super::node::Node;
use super::{End, List, NodeLimit};
use crate::types::pack::Pack;
use std::collections::VecDeque;
use std::ops::Range;

/// So many nodes that became empty are taken out one by one; more than that, in one pass.
const SINGLE_NODES_MAX: usize = 8;

impl List {
    /// Adds an element before the one at `index`; behind the last if there is none.
    pub fn insert(&mut self, index: usize, element: &[u8], limit: NodeLimit) {
        if index == 0 {
            return self.push(End::Left, element, limit);
        }
        let Some((node, offset)) = self.locate(index) else {
            return self.push(End::Right, element, limit);
        };
        let add_back = |pack: &mut Pack| pack.push_back(element);
        let add_front = |pack: &mut Pack| pack.push_front(element);
        if self.admits(node, element, limit) {
            self.edit(node, |pack| pack.insert(pack.position(offset), element));
        } else if offset == 0 {
            // Between two nodes: the end of the one before, or a node for itself.
            if self.admits(node - 1, element, limit) {
                self.edit(node - 1, add_back);
            } else {
                self.insert_node(node, element);
            }
        } else {
            let tail = Node::Plain(self.edit(node, |pack| pack.split_off(offset)));
            self.node_bytes += tail.memory();
            self.nodes.insert(node + 1, tail);
            if self.admits(node, element, limit) {
                self.edit(node, add_back);
            } else if self.admits(node + 1, element, limit) {
                self.edit(node + 1, add_front);
            } else {
                self.insert_node(node + 1, element);
            }
        }
        self.len += 1;
        self.chained |= self.nodes.len() > 1 || !limit.covers(&self.nodes[0]);
        self.close(node.saturating_sub(1)..node + 3, limit);
    }

    fn admits(&self, node: usize, element: &[u8], limit: NodeLimit) -> bool {
        let (more, node) = (Pack::entry_bytes(element.len()), &self.nodes[node]);
        limit.covers_with(node, 1, more)
    }

    /// Compresses what was opened to be changed, where it lies deep enough.
    fn close(&mut self, nodes: Range<usize>, limit: NodeLimit) {
        if limit.plain_nodes > 0 || self.saved > 0 {
            self.compress_ends(limit);
            for at in nodes.start..nodes.end.min(self.nodes.len()) {
                self.compress(at, limit);
            }
        }
    }

    /// Replaces the element at `index`; whether there is one.
    pub fn set(&mut self, index: usize, element: &[u8], limit: NodeLimit) -> bool {
        let Some((node, offset)) = self.locate(index) else {
            return false;
        };
        // As in Redis, a list that would not have room for one more changes its form.
        self.chained |= !limit.covers_with(&self.nodes[node], 1, element.len());
        let is_replaced = self.edit(node, |pack| {
            let old_len = pack.get(offset).map_or(0, <[u8]>::len);
            let bytes =
                pack.bytes() - Pack::entry_bytes(old_len) + Pack::entry_bytes(element.len());
            let fits = pack.len() == 1 || element.len() <= old_len || bytes <= limit.bytes;
            let at = pack.position(offset);
            match fits {
                true => pack.replace(at, element),
                false => pack.remove(at, 1),
            }
            fits
        });
        if is_replaced {
            self.shrunk(limit);
            self.close(node..node + 1, limit);
        } else {
            self.len -= 1;
            self.insert(index, element, limit);
        }
        true
    }

    /// Keeps `count` elements from `start` on, or as many as there are, and no others.
    pub fn trim(&mut self, start: usize, count: usize, limit: NodeLimit) {
        let start = start.min(self.len);
        let behind = (self.len - start).saturating_sub(count);
        self.drop_many(End::Right, behind);
        self.drop_many(End::Left, start);
        self.give_back();
        self.shrunk(limit);
        self.compress_ends(limit);
    }

    /// Removes at most `count` elements from an end.
    fn drop_many(&mut self, end: End, count: usize) {
        let mut left = count.min(self.len);
        self.len -= left;
        while left > 0 {
            let at = match end {
                End::Left => 0,
                End::Right => self.nodes.len() - 1,
            };
            let in_node = self.nodes[at].len();
            if in_node > left {
                let first = match end {
                    End::Left => 0,
                    End::Right => in_node - left,
                };
                self.edit(at, |pack| pack.remove(pack.position(first), left));
                return;
            }
            left -= in_node;
            self.remove_node(at);
        }
    }

    /// Removes elements equal to `wanted`, at most `most` of them, the first ones seen from `end`.
    /// Returns how many.
    pub fn remove_equal(
        &mut self,
        wanted: &[u8],
        most: usize,
        end: End,
        limit: NodeLimit,
    ) -> usize {
        let (mut removed, mut touched) = (0, 0);
        let mut empty = Vec::new();
        for step in 0..self.nodes.len() {
            let at = match end {
                End::Left => step,
                End::Right => self.nodes.len() - 1 - step,
            };
            let node = self.nodes[at].open();
            let equal = node.iter().filter(|e| *e == wanted).count();
            let removing = equal.min(most - removed);
            if removing > 0 {
                let spared = match end {
                    End::Left => 0,
                    End::Right => equal - removing,
                };
                self.edit(at, |pack| {
                    let mut nth = 0;
                    pack.retain(|element| {
                        let is_equal = element == wanted;
                        nth += usize::from(is_equal);
                        !is_equal || nth <= spared || nth > spared + removing
                    });
                });
                removed += removing;
                touched += 1;
                if self.nodes[at].is_empty() {
                    empty.push(at);
                } else {
                    self.compress(at, limit);
                }
            }
            if removed == most {
                break;
            }
        }
        self.len -= removed;
        // A pass over all nodes is for a search that went over a good part of them.
        if empty.len() > SINGLE_NODES_MAX || touched > self.nodes.len() / 4 {
            self.join_small(limit);
        } else {
            empty.sort_unstable();
            for at in empty.into_iter().rev() {
                self.remove_node(at);
            }
            self.give_back();
        }
        self.shrunk(limit);
        self.compress_ends(limit);
        removed
    }

    /// Takes empty nodes out and joins neighbours that fit half a node together.
    fn join_small(&mut self, limit: NodeLimit) {
        let half = limit.half();
        let mut joined: VecDeque<Node> = VecDeque::new();
        for node in std::mem::take(&mut self.nodes) {
            match joined.back_mut() {
                _ if node.is_empty() => {}
                Some(last) if half.covers_with(last, node.len(), node.bytes()) => {
                    last.open_mut().append(&node.open());
                }
                _ => joined.push_back(node),
            }
        }
        self.node_bytes = joined.iter().map(Node::memory).sum();
        self.saved = joined.iter().map(Node::saved).sum();
        self.nodes = joined;
        self.close(0..self.nodes.len(), limit);
    }

    /// Puts an element into a node of its own at `at`.
    pub(super) fn insert_node(&mut self, at: usize, element: &[u8]) {
        let own = Node::of(element);
        self.node_bytes += own.memory();
        self.nodes.insert(at, own);
    }

    /// Takes a node out.
    fn remove_node(&mut self, at: usize) {
        if let Some(gone) = self.nodes.remove(at) {
            self.node_bytes -= gone.memory();
            self.saved -= gone.saved();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Encoding;
    use proptest::prelude::*;

    fn element() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            (0..3_u8).prop_map(|byte| vec![byte]),
            (0..3_u8, 0..300_usize).prop_map(|(byte, len)| vec![byte; len]),
            proptest::collection::vec(any::<u8>(), 0..60),
            Just(vec![7; 9000]),
        ]
    }

    fn list_of(model: &[Vec<u8>], limit: NodeLimit) -> List {
        let mut list = List::default();
        for element in model {
            list.push(End::Right, element, limit);
        }
        list
    }

    proptest! {
        #[test]
        fn changes_in_the_middle_are_those_of_a_vector(
            setting in prop_oneof![Just(-2), Just(0), 1..10_i64],
            depths in proptest::collection::vec(0..4_usize, 1..3),
            mut model in proptest::collection::vec(element(), 0..60),
            steps in proptest::collection::vec((0..8_u8, 0..70_usize, 0..70_usize, element()), 0..60),
        ) {
            let limit = NodeLimit::from_setting(setting);
            let mut list = list_of(&model, limit);
            for (number, (what, at, count, element)) in steps.into_iter().enumerate() {
                let limit = limit.with_compress_depth(depths[number * depths.len() / 60]);
                match what {
                    0..=3 => {
                        list.insert(at, &element, limit);
                        model.insert(at.min(model.len()), element);
                    }
                    4 | 5 => {
                        prop_assert_eq!(list.set(at, &element, limit), at < model.len());
                        if let Some(old) = model.get_mut(at) {
                            *old = element;
                        }
                    }
                    6 => {
                        let end = if at % 2 == 0 { End::Left } else { End::Right };
                        let most = count / 8;
                        let removed = list.remove_equal(&element, most, end, limit);
                        if end == End::Right {
                            model.reverse();
                        }
                        let mut expected = 0;
                        model.retain(|other| {
                            let goes = *other == element && expected < most;
                            expected += usize::from(goes);
                            !goes
                        });
                        if end == End::Right {
                            model.reverse();
                        }
                        prop_assert_eq!(removed, expected);
                    }
                    _ => {
                        // Trims little, so that something is left for the next steps.
                        let (at, count) = (at / 10, count + 20);
                        list.trim(at, count, limit);
                        model = model.into_iter().skip(at).take(count).collect();
                    }
                }
                list.self_check();
                prop_assert_eq!(list.len(), model.len());
                prop_assert_eq!(&list.to_vecs(), &model);
            }
        }
    }

    #[test]
    fn what_is_removed_from_the_middle_gives_its_memory_back() {
        let limit = NodeLimit::from_setting(-2);
        let mut list = List::default();
        for i in 0..50_000 {
            let element: &[u8] = if i % 500 == 0 { b"keep" } else { b"0123456789" };
            list.push(End::Right, element, limit);
        }
        let all = usize::MAX;
        assert_eq!(
            list.remove_equal(b"0123456789", all, End::Left, limit),
            49_900
        );
        list.self_check();
        assert!(list.memory() < 2000, "{}", list.memory());

        let mut list = list_of(&vec![b"0123456789".to_vec(); 50_000], limit);
        list.trim(20_000, 10, limit);
        list.self_check();
        assert_eq!(list.len(), 10);
        assert!(list.memory() < 1000, "{}", list.memory());
        assert_eq!(list.encoding(), Encoding::Listpack);
    }

    #[test]
    fn a_replacement_changes_the_form_as_one_more_element_would() {
        let limit = NodeLimit::from_setting(4);
        let mut list = list_of(&vec![b"e".to_vec(); 4], limit);
        assert_eq!(list.encoding(), Encoding::Listpack);
        assert!(list.set(0, b"f", limit));
        assert_eq!(list.encoding(), Encoding::Quicklist);
        let mut list = list_of(&vec![b"e".to_vec(); 2], limit);
        assert!(list.set(0, b"f", limit));
        assert_eq!(list.encoding(), Encoding::Listpack);
    }
}
