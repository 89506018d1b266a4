//! One request: its arguments as spans of the buffer they were parsed from.

use std::ops::Index;

/// Where one argument lies in the buffer: `[start, start + len)`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// Offset of the first byte.
    pub start: u32,
    /// Length in bytes.
    pub len: u32,
}

/// The arguments of one request, the command name at index 0.
///
/// The bytes stay where the socket put them, so that a request costs no allocation; the same
/// type serves requests from a batch of another shard, a transaction's queue and the log.
///
/// # Invariants
/// Every span lies inside `buf`; the parser that made the spans guarantees it, and a span that
/// does not panics on use.
#[derive(Clone, Copy, Debug)]
pub struct Args<'a> {
    buf: &'a [u8],
    spans: &'a [Span],
}

impl<'a> Args<'a> {
    /// Arguments that lie at `spans` of `buf`.
    #[must_use]
    pub fn new(buf: &'a [u8], spans: &'a [Span]) -> Self {
        Args { buf, spans }
    }

    /// Number of arguments, the command name included.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether there is not even a command name.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// The argument at `index`, if there is one.
    #[inline]
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&'a [u8]> {
        let span = self.spans.get(index)?;
        Some(&self.buf[span.start as usize..][..span.len as usize])
    }

    /// The argument at `index`, which the command's arity guarantees.
    #[inline]
    #[must_use]
    pub fn at(&self, index: usize) -> &'a [u8] {
        let span = self.spans[index];
        &self.buf[span.start as usize..][..span.len as usize]
    }

    /// Every argument from index `start` on; empty when there are fewer.
    #[must_use]
    pub fn from(&self, start: usize) -> Args<'a> {
        Args {
            buf: self.buf,
            spans: self.spans.get(start..).unwrap_or_default(),
        }
    }

    /// All arguments in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &'a [u8]> + DoubleEndedIterator + use<'a> {
        let buf = self.buf;
        self.spans
            .iter()
            .map(move |s| &buf[s.start as usize..][..s.len as usize])
    }

    /// Total bytes of all arguments.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.spans.iter().map(|s| s.len as usize).sum()
    }
}

impl Index<usize> for Args<'_> {
    type Output = [u8];

    fn index(&self, index: usize) -> &[u8] {
        self.at(index)
    }
}

/// Arguments that own their bytes: a queued command, a synthesised request, a test.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnedArgs {
    buf: Vec<u8>,
    spans: Vec<Span>,
}

impl OwnedArgs {
    /// A copy of `parts`.
    #[must_use]
    pub fn new<P: AsRef<[u8]>>(parts: impl IntoIterator<Item = P>) -> Self {
        let mut args = OwnedArgs::default();
        for part in parts {
            args.push(part.as_ref());
        }
        args
    }

    /// Adds one argument at the end.
    ///
    /// # Panics
    /// When the arguments together pass 4 GiB; the parser's limits are far below.
    pub fn push(&mut self, arg: &[u8]) {
        let start =
            u32::try_from(self.buf.len()).expect("arguments of one request are below 4 GiB");
        let len = u32::try_from(arg.len()).expect("one argument is below 4 GiB");
        self.buf.extend_from_slice(arg);
        self.spans.push(Span { start, len });
    }

    /// The arguments, to pass on.
    #[must_use]
    pub fn as_args(&self) -> Args<'_> {
        Args::new(&self.buf, &self.spans)
    }
}

impl From<Args<'_>> for OwnedArgs {
    fn from(args: Args<'_>) -> Self {
        OwnedArgs::new(args.iter())
    }
}
