//! Entries in order with ranks: the large form of a sorted set.
//!
//! A B+-tree. Leaves are runs of about forty entries; an inner node knows how many entries each of
//! its children has, and a bound between each two. A bound is no entry: it is as short as it can be
//! and lies above everything on its left and not above anything on its right, so removals leave it
//! alone, and long members stand in leaves only.
//!
//! Every change goes down once. An inserter splits full inner nodes on its way and so finds room in
//! the last one for another leaf; a remover fills thin ones and so never leaves an empty one. No
//! step touches more than two nodes of each level, whatever the size of the set.

use super::run::{Cut, Run};
use crate::memory::allocated;
use std::ops::Range;

/// Most entries of a leaf.
const LEAF_ENTRIES: usize = 64;

/// A leaf with more bytes than this is split if it has more than one entry.
const LEAF_BYTES: usize = 4096;

/// Most children of an inner node.
const CHILDREN: usize = 64;

/// An inner node, or a leaf, with fewer children or entries than this is thin.
const THIN: usize = 16;

/// Two neighbours become one up to this length, which leaves room to grow.
const MERGED: usize = 48;

/// A tree of entries.
///
/// # Invariants
/// * `root` has children; if they are inner nodes, at least two.
/// * `len` and `memory` are the sums over all nodes.
#[derive(Debug)]
pub(super) struct Tree {
    root: Inner,
    len: usize,
    /// Bytes on the heap.
    memory: usize,
}

#[derive(Clone, Debug)]
enum Node {
    Leaf(Run),
    Inner(Box<Inner>),
}

/// # Invariants
/// * As many counts as children, and one bound less.
/// * `counts[i]` is the number of entries in `children[i]`.
/// * The bound at `i` is above all entries of `children[i]` and not above any of
///   `children[i + 1]`.
/// * All children are leaves, or all are inner nodes of one height with at least one child.
#[derive(Clone, Debug)]
struct Inner {
    bounds: Run,
    counts: Vec<usize>,
    children: Vec<Node>,
}

/// What to remove, or what to begin with.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place<'a> {
    /// The entry with this score and member, which is there.
    Entry(f64, &'a [u8]),
    /// The entry with this rank, which is below the length.
    Rank(usize),
}

impl Default for Tree {
    fn default() -> Self {
        let root = Inner {
            bounds: Run::default(),
            counts: vec![0],
            children: vec![Node::Leaf(Run::default())],
        };
        let memory = root.memory();
        Tree {
            root,
            len: 0,
            memory,
        }
    }
}

impl Clone for Tree {
    fn clone(&self) -> Self {
        let root = self.root.clone();
        // The copies have no spare room.
        let (mut memory, mut to_visit) = (root.memory(), vec![&root]);
        while let Some(inner) = to_visit.pop() {
            memory += inner.children.iter().map(Node::memory).sum::<usize>();
            to_visit.extend(inner.children.iter().filter_map(|child| match child {
                Node::Inner(inner) => Some(&**inner),
                Node::Leaf(_) => None,
            }));
        }
        Tree {
            root,
            len: self.len,
            memory,
        }
    }
}

impl Tree {
    /// Number of entries.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Bytes on the heap.
    pub(super) fn memory(&self) -> usize {
        self.memory
    }

    /// How many entries stand before the cut.
    pub(super) fn rank(&self, cut: Cut<'_>) -> usize {
        let (mut inner, mut rank) = (&self.root, 0);
        loop {
            let at = inner.child_of(cut);
            rank += inner.counts[..at].iter().sum::<usize>();
            match &inner.children[at] {
                Node::Leaf(run) => return rank + run.rank(cut),
                Node::Inner(next) => inner = next,
            }
        }
    }

    /// The leaf that has the entry with this rank, and its index there. `None` if there is no such
    /// rank.
    pub(super) fn locate(&self, rank: usize) -> Option<(&Run, usize)> {
        if rank >= self.len {
            return None;
        }
        let (mut inner, mut rank) = (&self.root, rank);
        loop {
            let at = inner.child_at(&mut rank);
            match &inner.children[at] {
                Node::Leaf(run) => return Some((run, rank)),
                Node::Inner(next) => inner = next,
            }
        }
    }

    /// Adds an entry, which is not there.
    pub(super) fn insert(&mut self, score: f64, member: &[u8]) {
        if self.root.children.len() == CHILDREN {
            self.raise();
        }
        self.len += 1;
        let mut inner = &mut self.root;
        let memory = &mut self.memory;
        loop {
            let mut at = inner.child_of(Cut::After(score, member));
            if inner.children[at].is_full() {
                inner.split(at, None, memory);
                at = inner.child_of(Cut::After(score, member));
            }
            inner.counts[at] += 1;
            if inner.add_to_leaf(at, score, member, memory) {
                return;
            }
            let Node::Inner(next) = &mut inner.children[at] else {
                return;
            };
            inner = next;
        }
    }

    /// Gives an entry another score if it then still belongs into the same leaf; whether it does.
    pub(super) fn rescore(&mut self, score: f64, member: &[u8], new: f64) -> bool {
        let mut inner = &mut self.root;
        loop {
            let at = inner.child_of(Cut::After(score, member));
            if at != inner.child_of(Cut::After(new, member)) {
                return false;
            }
            match &mut inner.children[at] {
                Node::Leaf(run) => {
                    let before = run.memory();
                    let from = run.find(score, member).expect("the entry is there");
                    let to = run.rank(Cut::Before(new, member));
                    // Its own place does not count once it has left it.
                    let to = if to > from { to - 1 } else { to };
                    if to == from {
                        run.set_score(from, new);
                    } else {
                        run.remove(from..from + 1);
                        run.insert(to, new, member);
                    }
                    self.memory = self.memory - before + run.memory();
                    return true;
                }
                Node::Inner(next) => inner = next,
            }
        }
    }

    /// Removes up to `max` entries from this one on, but only out of one leaf; shows them, and
    /// returns how many. At least one, if `max` is.
    pub(super) fn remove(
        &mut self,
        place: Place<'_>,
        max: usize,
        removed: &mut dyn FnMut(f64, &[u8]),
    ) -> usize {
        let gone = match place {
            Place::Entry(..) => max.min(1),
            Place::Rank(rank) => match self.locate(rank) {
                Some((run, index)) => max.min(run.len() - index),
                None => 0,
            },
        };
        if gone == 0 {
            return 0;
        }
        self.len -= gone;
        let mut place = place;
        let mut inner = &mut self.root;
        let memory = &mut self.memory;
        loop {
            let at = inner.fill_before(&mut place, memory);
            inner.counts[at] -= gone;
            if inner.remove_from_leaf(at, place, gone, removed, memory) {
                break;
            }
            let Node::Inner(next) = &mut inner.children[at] else {
                break;
            };
            inner = next;
        }
        self.lower();
        gone
    }

    /// Puts a new root above the one there is, which is full.
    fn raise(&mut self) {
        let root = Inner {
            bounds: Run::default(),
            counts: vec![self.len],
            children: Vec::new(),
        };
        let old = std::mem::replace(&mut self.root, root);
        self.root.children.push(Node::Inner(Box::new(old)));
        self.memory += self.root.memory() + allocated(size_of::<Inner>());
        self.root.split(0, None, &mut self.memory);
    }

    /// Takes away roots that have one inner node below them.
    fn lower(&mut self) {
        while let [Node::Inner(_)] = self.root.children.as_slice() {
            self.memory -= self.root.memory() + allocated(size_of::<Inner>());
            let Some(Node::Inner(only)) = self.root.children.pop() else {
                return;
            };
            self.root = *only;
        }
    }
}

impl Node {
    /// Whether nothing can be added below.
    fn is_full(&self) -> bool {
        matches!(self, Node::Inner(inner) if inner.children.len() >= CHILDREN)
    }

    /// Bytes on the heap, without those of the children.
    fn memory(&self) -> usize {
        match self {
            Node::Leaf(run) => run.memory(),
            Node::Inner(inner) => allocated(size_of::<Inner>()) + inner.memory(),
        }
    }
}

impl Inner {
    /// As [`Node::memory`], without the node itself.
    fn memory(&self) -> usize {
        self.bounds.memory()
            + allocated(self.counts.capacity() * size_of::<usize>())
            + allocated(self.children.capacity() * size_of::<Node>())
    }

    /// The child that the cut goes through.
    #[inline]
    fn child_of(&self, cut: Cut<'_>) -> usize {
        match cut {
            // What equals a bound stands behind it.
            Cut::Before(score, member) => self.bounds.rank(Cut::After(score, member)),
            _ => self.bounds.rank(cut),
        }
    }

    /// The child that has the entry with this rank, which becomes its rank in there.
    #[inline]
    fn child_at(&self, rank: &mut usize) -> usize {
        let mut at = 0;
        while *rank >= self.counts[at] {
            *rank -= self.counts[at];
            at += 1;
        }
        at
    }

    /// Adds an entry to the child, if that is a leaf; whether it is.
    fn add_to_leaf(&mut self, at: usize, score: f64, member: &[u8], memory: &mut usize) -> bool {
        let Node::Leaf(run) = &mut self.children[at] else {
            return false;
        };
        let index = run.rank(Cut::Before(score, member));
        let before = run.memory();
        run.insert(index, score, member);
        *memory = *memory - before + run.memory();
        if run.len() > LEAF_ENTRIES || run.bytes() > LEAF_BYTES {
            self.split(at, Some(index), memory);
        }
        true
    }

    /// Removes `count` entries, which are there, from the child, if that is a leaf; whether it is.
    fn remove_from_leaf(
        &mut self,
        at: usize,
        place: Place<'_>,
        count: usize,
        removed: &mut dyn FnMut(f64, &[u8]),
        memory: &mut usize,
    ) -> bool {
        let Node::Leaf(run) = &mut self.children[at] else {
            return false;
        };
        let first = match place {
            Place::Entry(score, member) => run.find(score, member).expect("the entry is there"),
            Place::Rank(rank) => rank,
        };
        for index in first..first + count {
            let (score, member) = run.entry(index);
            removed(score, member);
        }
        let before = run.memory();
        run.remove(first..first + count);
        *memory = *memory - before + run.memory();
        self.tidy_leaf(at, memory);
        true
    }

    /// Splits a child in two: in the middle, or, if it has just got an entry at one of its ends,
    /// there, so that whoever adds in order fills the leaves.
    fn split(&mut self, at: usize, added: Option<usize>, memory: &mut usize) {
        let before = self.memory() + self.children[at].memory();
        let (bound, right, count) = match &mut self.children[at] {
            Node::Leaf(run) => {
                if run.len() < 2 {
                    return;
                }
                let last = run.len() - 1;
                let middle = match added {
                    Some(index) if index == last => last,
                    Some(0) => 1,
                    _ => run.middle(),
                };
                let right = run.split_off(middle);
                let bound = bound_between(run.entry(run.len() - 1), right.entry(0));
                let count = right.len();
                (bound, Node::Leaf(right), count)
            }
            Node::Inner(inner) => {
                let (bound, right) = inner.split_off(inner.children.len() / 2);
                let count = right.counts.iter().sum();
                (bound, Node::Inner(Box::new(right)), count)
            }
        };
        let (score, member) = bound;
        self.bounds.insert(at, score, &member);
        self.counts[at] -= count;
        if self.children.len() == self.children.capacity() {
            self.counts.reserve_exact(CHILDREN / 8);
            self.children.reserve_exact(CHILDREN / 8);
        }
        self.counts.insert(at + 1, count);
        self.children.insert(at + 1, right);
        let after = self.memory() + self.children[at].memory() + self.children[at + 1].memory();
        *memory = *memory - before + after;
    }

    /// Takes the children from `at` on away, and the bound before them.
    fn split_off(&mut self, at: usize) -> ((f64, Vec<u8>), Inner) {
        let bounds = self.bounds.split_off(at);
        let (score, member) = self.bounds.entry(at - 1);
        let bound = (score, member.to_vec());
        self.bounds.remove(at - 1..at);
        let right = Inner {
            bounds,
            counts: self.counts.split_off(at),
            children: self.children.split_off(at),
        };
        self.counts.shrink_to_fit();
        self.children.shrink_to_fit();
        (bound, right)
    }

    /// The child that has the place, after its neighbour was used to fill it if it is a thin inner
    /// node. A rank becomes the rank in the child.
    fn fill_before(&mut self, place: &mut Place<'_>, memory: &mut usize) -> usize {
        let at = self.child_with(&mut { *place });
        let is_thin = matches!(&self.children[at],
            Node::Inner(inner) if inner.children.len() < THIN);
        if is_thin && self.children.len() > 1 {
            let left = at.saturating_sub(1);
            self.merge(left, memory);
            if matches!(&self.children[left],
                Node::Inner(inner) if inner.children.len() > MERGED)
            {
                self.split(left, None, memory);
            }
        }
        self.child_with(place)
    }

    fn child_with(&self, place: &mut Place<'_>) -> usize {
        match place {
            Place::Entry(score, member) => self.child_of(Cut::After(*score, member)),
            Place::Rank(rank) => self.child_at(rank),
        }
    }

    /// Drops a leaf that has become empty, and joins a thin one with a neighbour that has room.
    fn tidy_leaf(&mut self, at: usize, memory: &mut usize) {
        let Node::Leaf(run) = &self.children[at] else {
            return;
        };
        let (len, bytes) = (run.len(), run.bytes());
        if len >= THIN || self.children.len() == 1 {
            return;
        }
        let fits = |neighbour: usize| match self.children.get(neighbour) {
            Some(Node::Leaf(other)) => {
                len == 0 || (other.len() + len <= MERGED && other.bytes() + bytes <= LEAF_BYTES / 2)
            }
            _ => false,
        };
        if at > 0 && fits(at - 1) {
            self.merge(at - 1, memory);
        } else if fits(at + 1) {
            self.merge(at, memory);
        }
    }

    /// Makes the child at `left` and its right neighbour one.
    fn merge(&mut self, left: usize, memory: &mut usize) {
        let right = left + 1;
        let before = self.memory() + self.children[left].memory() + self.children[right].memory();
        let removed = self.children.remove(right);
        self.counts[left] += self.counts.remove(right);
        match (&mut self.children[left], removed) {
            (Node::Leaf(run), Node::Leaf(other)) => {
                if run.is_empty() {
                    *run = other;
                } else if !other.is_empty() {
                    run.append(&other);
                }
            }
            (Node::Inner(inner), Node::Inner(other)) => {
                let (score, member) = self.bounds.entry(left);
                inner.bounds.insert(inner.bounds.len(), score, member);
                inner.bounds.append(&other.bounds);
                inner.counts.extend_from_slice(&other.counts);
                inner.children.extend(other.children);
            }
            _ => unreachable!("neighbours have one height"),
        }
        self.bounds.remove(left..left + 1);
        let room = self.children.len() + CHILDREN / 8;
        if self.children.capacity() > room * 2 {
            self.counts.shrink_to(room);
            self.children.shrink_to(room);
        }
        let after = self.memory() + self.children[left].memory();
        *memory = *memory - before + after;
    }
}

/// The shortest bound above one entry and not above the next.
fn bound_between(left: (f64, &[u8]), right: (f64, &[u8])) -> (f64, Vec<u8>) {
    if left.0 < right.0 {
        return (right.0, Vec::new());
    }
    let same = left.1.iter().zip(right.1).take_while(|(a, b)| a == b);
    (right.0, right.1[..=same.count()].to_vec())
}

/// Ranks of a tree, leaf by leaf: how far a leaf reaches is asked once for all its entries.
#[derive(Clone, Debug)]
pub(super) struct Walk<'a> {
    tree: &'a Tree,
    ranks: Range<usize>,
    /// The leaf at the front, and the index of the next entry in it.
    front: Option<(&'a Run, usize)>,
    /// The leaf at the back, and the index behind the next entry in it.
    back: Option<(&'a Run, usize)>,
}

impl<'a> Walk<'a> {
    /// Over these ranks, which there are.
    pub(super) fn new(tree: &'a Tree, ranks: Range<usize>) -> Walk<'a> {
        Walk {
            tree,
            ranks,
            front: None,
            back: None,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.ranks.len()
    }

    pub(super) fn next(&mut self) -> Option<(f64, &'a [u8])> {
        let rank = self.ranks.next()?;
        let (run, index) = match self.front {
            Some((run, index)) if index < run.len() => (run, index),
            _ => self.tree.locate(rank)?,
        };
        self.front = Some((run, index + 1));
        Some(run.entry(index))
    }

    pub(super) fn next_back(&mut self) -> Option<(f64, &'a [u8])> {
        let rank = self.ranks.next_back()?;
        let (run, index) = match self.back {
            Some((run, behind)) if behind > 0 => (run, behind - 1),
            _ => self.tree.locate(rank)?,
        };
        self.back = Some((run, index));
        Some(run.entry(index))
    }
}

#[cfg(test)]
impl Tree {
    /// Checks the invariants.
    pub(super) fn self_check(&self) {
        let mut memory = self.root.memory();
        let mut len = 0;
        let mut last: Option<(f64, Vec<u8>)> = None;
        let mut leaf_depth = None;
        // Nodes to visit, with their depth.
        let mut to_visit = vec![(&self.root, 0)];
        if let Some(Node::Inner(_)) = self.root.children.first() {
            assert!(self.root.children.len() > 1, "a root that should go");
        }
        while let Some((inner, depth)) = to_visit.pop() {
            assert!(!inner.children.is_empty() && inner.children.len() <= CHILDREN);
            assert_eq!(inner.counts.len(), inner.children.len());
            assert_eq!(inner.bounds.len() + 1, inner.children.len());
            inner.bounds.self_check();
            for (at, child) in inner.children.iter().enumerate() {
                let count = match child {
                    Node::Leaf(run) => run.len(),
                    Node::Inner(child) => child.counts.iter().sum(),
                };
                assert_eq!(inner.counts[at], count, "child {at} at depth {depth}");
                memory += child.memory();
            }
            for child in inner.children.iter().rev() {
                if let Node::Inner(child) = child {
                    to_visit.push((child, depth + 1));
                }
            }
            for (at, child) in inner.children.iter().enumerate() {
                let Node::Leaf(run) = child else {
                    continue;
                };
                assert_eq!(*leaf_depth.get_or_insert(depth), depth, "one height");
                run.self_check();
                assert!(run.len() <= LEAF_ENTRIES, "a leaf that is too long");
                assert!(!run.is_empty() || self.len == 0, "an empty leaf");
                for (score, member) in run.entries() {
                    if let Some((score_before, before)) = &last {
                        assert!((*score_before, before.as_slice()) < (score, member));
                    }
                    last = Some((score, member.to_vec()));
                    assert_eq!(inner.child_of(Cut::After(score, member)), at);
                    len += 1;
                }
            }
        }
        assert_eq!((self.len, self.memory), (len, memory));
    }
}
