//! One request: its arguments as spans of the buffer they were parsed from.

use crate::encode;
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

    /// The whole request as it stands in the buffer, if it stands there byte for byte as
    /// [`write_args`](crate::write_args) writes it, with short lengths: nearly every request does.
    /// Every byte that is no argument is compared, so it does not matter who made the spans.
    #[inline]
    pub(crate) fn as_sent(&self) -> Option<&'a [u8]> {
        let first = *self.spans.first()?;
        let heads = encode::short_header_len(self.spans.len())?
            + encode::short_header_len(first.len as usize)?;
        let start = (first.start as usize).checked_sub(heads)?;
        let mut at = encode::skip_header(self.buf, start, b'*', self.spans.len())?;
        for span in self.spans {
            let argument = encode::skip_header(self.buf, at, b'$', span.len as usize)?;
            if argument != span.start as usize {
                return None;
            }
            let end = argument + span.len as usize;
            at = end + 2;
            if self.buf.get(end..at)? != b"\r\n" {
                return None;
            }
        }
        Some(&self.buf[start..at])
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

    /// Number of arguments.
    #[must_use]
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether there are no arguments.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// The arguments, to pass on.
    #[must_use]
    pub fn as_args(&self) -> Args<'_> {
        Args::new(&self.buf, &self.spans)
    }
}

impl From<Args<'_>> for OwnedArgs {
    fn from(args: Args<'_>) -> Self {
        let mut owned = OwnedArgs {
            buf: Vec::with_capacity(args.bytes()),
            spans: Vec::with_capacity(args.len()),
        };
        for arg in args.iter() {
            owned.push(arg);
        }
        owned
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_come_back_in_order() {
        let owned = OwnedArgs::new(["SET", "key", ""]);
        let args = owned.as_args();
        assert_eq!(args.len(), 3);
        assert_eq!(args.bytes(), 6);
        assert_eq!(&args[0], b"SET");
        assert_eq!(args.at(1), b"key");
        assert_eq!(args.get(2), Some(&b""[..]));
        assert_eq!(args.get(3), None);
        assert_eq!(
            args.iter().rev().collect::<Vec<_>>(),
            [&b""[..], b"key", b"SET"]
        );
    }

    #[test]
    fn tail_begins_at_the_index_or_is_empty() {
        let owned = OwnedArgs::new(["MSET", "a", "1"]);
        let args = owned.as_args();
        assert_eq!(args.from(1).iter().collect::<Vec<_>>(), [b"a", b"1"]);
        assert!(args.from(3).is_empty());
        assert!(args.from(4).is_empty());
    }

    #[test]
    fn copy_of_spans_keeps_only_the_arguments() {
        let buf = b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n";
        let spans = [Span { start: 8, len: 3 }, Span { start: 17, len: 1 }];
        let owned = OwnedArgs::from(Args::new(buf, &spans));
        assert_eq!(owned, OwnedArgs::new(["GET", "k"]));
        assert!(!owned.is_empty());
        assert_eq!(owned.len(), 2);
    }
}
