//! The bytes of a string value: up to 14 in place, longer ones on the heap.

use crate::long_str::LongStr;
use std::fmt;
use std::ops::Deref;

/// Longest string kept in place, in bytes.
const SHORT_LEN_MAX: usize = 14;

/// Above this length OBJECT ENCODING says `raw`, as in Redis.
const EMBSTR_LEN_MAX: usize = 44;

/// Set in the length byte of a short string that was changed in place.
const MODIFIED: u8 = 0x80;

/// The bytes of a string that is not in integer form.
#[derive(Clone)]
pub struct Str(Repr);

#[derive(Clone)]
enum Repr {
    Short {
        /// Length in the low bits, [`MODIFIED`] above.
        len: u8,
        bytes: [u8; SHORT_LEN_MAX],
    },
    Long(LongStr),
}

const _: () = assert!(size_of::<Str>() == 16);

impl Str {
    /// A copy of `bytes`.
    #[inline]
    #[must_use]
    pub fn new(bytes: &[u8]) -> Str {
        match Self::short(bytes, 0) {
            Some(short) => short,
            None => Str(Repr::Long(LongStr::new(bytes))),
        }
    }

    /// A copy of `bytes` that counts as changed in place: it has room to grow, and OBJECT
    /// ENCODING says `raw`.
    #[must_use]
    pub fn modified(bytes: &[u8]) -> Str {
        match Self::short(bytes, MODIFIED) {
            Some(short) => short,
            None => Str(Repr::Long(LongStr::modified(bytes, &[]))),
        }
    }

    #[inline]
    fn short(source: &[u8], flags: u8) -> Option<Str> {
        if source.len() > SHORT_LEN_MAX {
            return None;
        }
        let mut bytes = [0; SHORT_LEN_MAX];
        bytes[..source.len()].copy_from_slice(source);
        let len = source.len() as u8 | flags;
        Some(Str(Repr::Short { len, bytes }))
    }

    /// The bytes.
    #[inline]
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Repr::Short { len, bytes } => &bytes[..usize::from(len & !MODIFIED)],
            Repr::Long(long) => long.as_slice(),
        }
    }

    /// As if made anew from `bytes`, without an allocation; `false`, and nothing happens, if that
    /// is not possible.
    #[inline]
    pub(crate) fn overwrite(&mut self, bytes: &[u8]) -> bool {
        match &mut self.0 {
            Repr::Short { .. } => false,
            Repr::Long(long) => long.overwrite(bytes),
        }
    }

    /// Appends `tail`; amortised cost is its length.
    pub fn append(&mut self, tail: &[u8]) {
        if let Repr::Long(long) = &mut self.0 {
            long.append(tail);
            return;
        }
        let head = self.as_bytes();
        let joined = head.len() + tail.len();
        *self = if joined <= SHORT_LEN_MAX {
            let mut bytes = [0; SHORT_LEN_MAX];
            bytes[..head.len()].copy_from_slice(head);
            bytes[head.len()..joined].copy_from_slice(tail);
            Str(Repr::Short {
                len: joined as u8 | MODIFIED,
                bytes,
            })
        } else {
            Str(Repr::Long(LongStr::modified(head, tail)))
        };
    }

    /// Overwrites from `offset` on, filling a gap with zero bytes. Empty `bytes` change nothing.
    pub fn set_range(&mut self, offset: usize, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let end = offset + bytes.len();
        if let Repr::Short { .. } = &self.0
            && end > SHORT_LEN_MAX
        {
            self.0 = Repr::Long(LongStr::modified(self.as_bytes(), &[]));
        }
        match &mut self.0 {
            Repr::Short { len, bytes: short } => {
                short[offset..end].copy_from_slice(bytes);
                *len = (*len & !MODIFIED).max(end as u8) | MODIFIED;
            }
            Repr::Long(long) => {
                long.extend_to(end);
                long.as_mut_slice()[offset..end].copy_from_slice(bytes);
            }
        }
    }

    /// The bytes, to change them in place without changing the length (SETBIT).
    pub fn as_mut_bytes(&mut self) -> &mut [u8] {
        match &mut self.0 {
            Repr::Short { len, bytes } => {
                *len |= MODIFIED;
                &mut bytes[..usize::from(*len & !MODIFIED)]
            }
            Repr::Long(long) => {
                let len = long.as_slice().len();
                long.extend_to(len);
                long.as_mut_slice()
            }
        }
    }

    /// As OBJECT ENCODING names it: `embstr` or `raw`.
    #[must_use]
    pub fn encoding(&self) -> &'static str {
        let modified = match &self.0 {
            Repr::Short { len, .. } => len & MODIFIED != 0,
            Repr::Long(long) => long.is_modified(),
        };
        if modified || self.as_bytes().len() > EMBSTR_LEN_MAX {
            "raw"
        } else {
            "embstr"
        }
    }

    /// Bytes on the heap.
    #[must_use]
    pub fn memory(&self) -> usize {
        match &self.0 {
            Repr::Short { .. } => 0,
            Repr::Long(long) => crate::memory::allocated(long.capacity()),
        }
    }

    /// The bytes on the heap, if they are there.
    pub(crate) fn heap_bytes(&self) -> Option<&[u8]> {
        match &self.0 {
            Repr::Short { .. } => None,
            Repr::Long(long) => Some(long.as_slice()),
        }
    }
}

impl Deref for Str {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl PartialEq for Str {
    fn eq(&self, other: &Str) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Str {}

impl fmt::Debug for Str {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.as_bytes().escape_ascii())
    }
}
