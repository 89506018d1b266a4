//! One node of a list: a pack, or a pack that LZF has made smaller.
//!
//! A compressed node is opened to be read or changed. Opening for a change leaves it open, and
//! the list compresses it again when the change is done; opening to read makes a copy.

use crate::memory::allocated;
use crate::types::pack::Pack;
use moon_rdb::lzf::{self, Compressor};
use std::borrow::Cow;
use std::cell::RefCell;

/// Nodes with fewer bytes stay as they are.
const COMPRESS_MIN: usize = 48;
/// Nodes with more bytes stay as they are: this many take about a millisecond.
const COMPRESS_MAX: usize = 256 << 10;
/// Compressed bytes are used if they are more than this much shorter.
const COMPRESS_GAIN: usize = 8;

thread_local! {
    /// Its table is large next to a node, and cleared by nobody.
    static COMPRESSOR: RefCell<Compressor> = RefCell::default();
}

/// Elements in order, plain or compressed.
#[derive(Clone, Debug)]
pub(super) enum Node {
    Plain(Pack),
    Lzf(Compressed),
}

const _: () = assert!(size_of::<Node>() == size_of::<Pack>());

/// The entries of a pack, compressed.
#[derive(Clone, Debug)]
pub(super) struct Compressed {
    bytes: Box<[u8]>,
    /// Bytes of the entries, below [`COMPRESS_MAX`].
    plain_bytes: u32,
    count: u32,
}

impl Compressed {
    fn open(&self) -> Pack {
        let plain_bytes = self.plain_bytes as usize;
        let mut bytes = Vec::with_capacity(plain_bytes);
        lzf::decompress(&self.bytes, plain_bytes, &mut bytes)
            .expect("a node opens to what was compressed");
        Pack::from_bytes(bytes, self.count as usize)
    }
}

impl Node {
    /// A node of one element.
    pub(super) fn of(element: &[u8]) -> Node {
        let mut pack = Pack::default();
        pack.push_back(element);
        Node::Plain(pack)
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        match self {
            Node::Plain(pack) => pack.len(),
            Node::Lzf(node) => node.count as usize,
        }
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of the entries as they are in a plain node.
    #[inline]
    pub(super) fn bytes(&self) -> usize {
        match self {
            Node::Plain(pack) => pack.bytes(),
            Node::Lzf(node) => node.plain_bytes as usize,
        }
    }

    /// Bytes on the heap.
    #[inline]
    pub(super) fn memory(&self) -> usize {
        match self {
            Node::Plain(pack) => pack.memory(),
            Node::Lzf(node) => allocated(node.bytes.len()),
        }
    }

    /// How many bytes fewer the entries take because they are compressed.
    pub(super) fn saved(&self) -> usize {
        match self {
            Node::Plain(_) => 0,
            Node::Lzf(node) => node.plain_bytes as usize - node.bytes.len(),
        }
    }

    pub(super) fn is_compressed(&self) -> bool {
        matches!(self, Node::Lzf(_))
    }

    /// The entries, if they are plain.
    #[inline]
    pub(super) fn plain(&self) -> Option<&Pack> {
        match self {
            Node::Plain(pack) => Some(pack),
            Node::Lzf(_) => None,
        }
    }

    /// The entries, to read.
    pub(super) fn open(&self) -> Cow<'_, Pack> {
        match self {
            Node::Plain(pack) => Cow::Borrowed(pack),
            Node::Lzf(node) => Cow::Owned(node.open()),
        }
    }

    /// The entries, to change: the node is plain afterwards.
    #[inline]
    pub(super) fn open_mut(&mut self) -> &mut Pack {
        if let Node::Lzf(node) = self {
            *self = Node::Plain(node.open());
        }
        match self {
            Node::Plain(pack) => pack,
            Node::Lzf(_) => unreachable!("a node was just opened"),
        }
    }

    /// Compresses the entries if that makes them short enough.
    pub(super) fn compress(&mut self) {
        let Node::Plain(pack) = self else { return };
        let entries = pack.as_bytes();
        if !(COMPRESS_MIN..=COMPRESS_MAX).contains(&entries.len()) {
            return;
        }
        let (Ok(plain_bytes), Ok(count)) =
            (u32::try_from(entries.len()), u32::try_from(pack.len()))
        else {
            return;
        };
        let len_max = entries.len() - COMPRESS_GAIN - 1;
        let mut bytes = Vec::with_capacity(len_max);
        let is_shorter = COMPRESSOR.with_borrow_mut(|c| c.compress(entries, len_max, &mut bytes));
        if is_shorter {
            *self = Node::Lzf(Compressed {
                bytes: bytes.into_boxed_slice(),
                plain_bytes,
                count,
            });
        }
    }
}

/// The last compressed node that somebody who goes through a list has opened. Means nothing any
/// more once the list changes.
#[derive(Debug, Default)]
pub(crate) struct OpenNode {
    node: usize,
    pack: Option<Pack>,
}

impl OpenNode {
    /// The entries of `node`, which has this number in its list.
    pub(super) fn of<'a>(&'a mut self, number: usize, node: &'a Node) -> &'a Pack {
        match node {
            Node::Plain(pack) => pack,
            Node::Lzf(compressed) => {
                if self.node != number {
                    self.pack = None;
                    self.node = number;
                }
                self.pack.get_or_insert_with(|| compressed.open())
            }
        }
    }
}
