//! The source of a file: bytes, lengths and strings, counted and covered by the checksum.
//!
//! A length from the file is a limit on what may follow, never a size to allocate at once:
//! memory grows with the bytes that really come.

use super::RdbLimits;
use crate::crc64;
use crate::elements::spell;
use crate::error::RdbFault;
use crate::format::string;
use crate::lzf;
use std::io::{ErrorKind, Read};

/// Bytes to allocate for before any has come.
const RESERVE_BYTES: u64 = 64 << 10;

/// Elements to allocate for before any has come.
const RESERVE_ELEMENTS: u64 = 1024;

pub(super) struct Input<R> {
    pub(super) source: R,
    pub(super) limits: RdbLimits,
    /// Checksum of everything read.
    pub(super) crc: u64,
    /// Bytes read.
    pub(super) offset: u64,
    /// Compressed bytes on their way to being expanded.
    compressed: Vec<u8>,
}

enum LenOrEncoding {
    Len(u64),
    Encoding(u8),
}

impl<R: Read> Input<R> {
    pub(super) fn new(source: R, limits: RdbLimits) -> Input<R> {
        Input {
            source,
            limits,
            crc: 0,
            offset: 0,
            compressed: Vec::new(),
        }
    }

    #[inline]
    pub(super) fn byte(&mut self) -> Result<u8, RdbFault> {
        self.array::<1>().map(|[byte]| byte)
    }

    #[inline]
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], RdbFault> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    /// A number of elements, and how many of them to allocate for now.
    pub(super) fn count(&mut self) -> Result<(u64, usize), RdbFault> {
        let count = self.len()?;
        check_len("a collection", count, self.limits.elements_max)?;
        let reserve = usize::try_from(count.min(RESERVE_ELEMENTS)).unwrap_or_default();
        Ok((count, reserve))
    }

    /// A length where only a plain one may stand.
    #[inline]
    pub(super) fn len(&mut self) -> Result<u64, RdbFault> {
        match self.len_or_encoding()? {
            LenOrEncoding::Len(len) => Ok(len),
            LenOrEncoding::Encoding(encoding) => Err(RdbFault::BadLength(0xc0 | encoding)),
        }
    }

    /// Appends a string to `out`; after an error its end is not to be used.
    #[inline]
    pub(super) fn string_into(&mut self, out: &mut Vec<u8>) -> Result<(), RdbFault> {
        let number = match self.len_or_encoding()? {
            LenOrEncoding::Len(len) => return self.bytes_into(len, out),
            LenOrEncoding::Encoding(string::INT8) => i32::from(i8::from_le_bytes(self.array()?)),
            LenOrEncoding::Encoding(string::INT16) => i32::from(i16::from_le_bytes(self.array()?)),
            LenOrEncoding::Encoding(string::INT32) => i32::from_le_bytes(self.array()?),
            LenOrEncoding::Encoding(string::LZF) => return self.compressed_into(out),
            LenOrEncoding::Encoding(other) => return Err(RdbFault::BadLength(0xc0 | other)),
        };
        spell(out, i64::from(number));
        Ok(())
    }

    /// A score in the form of Redis before 4.0: a length and as many digits, or a mark.
    pub(super) fn spelled_score(&mut self) -> Result<f64, RdbFault> {
        match self.byte()? {
            255 => Ok(f64::NEG_INFINITY),
            254 => Ok(f64::INFINITY),
            253 => Err(RdbFault::BadScore),
            len => {
                let mut digits = [0; 252];
                let digits = &mut digits[..usize::from(len)];
                self.fill(digits)?;
                parse_score(digits)
            }
        }
    }

    fn compressed_into(&mut self, out: &mut Vec<u8>) -> Result<(), RdbFault> {
        let compressed_len = self.len()?;
        let expanded_len = self.len()?;
        check_len("a string", expanded_len, self.limits.string_bytes_max)?;
        let mut compressed = std::mem::take(&mut self.compressed);
        crate::elements::clear(&mut compressed);
        self.bytes_into(compressed_len, &mut compressed)?;
        if !lzf::can_expand(compressed_len, expanded_len) {
            return Err(RdbFault::BadLzf);
        }
        let expanded_len = usize::try_from(expanded_len).map_err(|_| RdbFault::BadLzf)?;
        let expanded = lzf::decompress(&compressed, expanded_len, out);
        self.compressed = compressed;
        expanded.ok_or(RdbFault::BadLzf)
    }

    #[inline]
    fn len_or_encoding(&mut self) -> Result<LenOrEncoding, RdbFault> {
        let first = self.byte()?;
        let len = match first {
            0x00..=0x3f => u64::from(first),
            0x40..=0x7f => (u64::from(first & 0x3f) << 8) | u64::from(self.byte()?),
            0x80 => u64::from(u32::from_be_bytes(self.array()?)),
            0x81 => u64::from_be_bytes(self.array()?),
            0x82..=0xbf => return Err(RdbFault::BadLength(first)),
            0xc0..=0xff => return Ok(LenOrEncoding::Encoding(first & 0x3f)),
        };
        Ok(LenOrEncoding::Len(len))
    }

    /// Appends `len` bytes. What is allocated ahead of them is bounded, then doubles.
    fn bytes_into(&mut self, len: u64, out: &mut Vec<u8>) -> Result<(), RdbFault> {
        check_len("a string", len, self.limits.string_bytes_max)?;
        let mut left = len;
        let mut step_max = RESERVE_BYTES;
        while left > 0 {
            let step = left.min(step_max);
            let start = out.len();
            let step_len = usize::try_from(step).map_err(|_| too_long(len))?;
            out.resize(start + step_len, 0);
            self.fill(&mut out[start..])?;
            left -= step;
            step_max *= 2;
        }
        Ok(())
    }

    #[inline]
    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), RdbFault> {
        self.source
            .read_exact(bytes)
            .map_err(|error| match error.kind() {
                ErrorKind::UnexpectedEof => RdbFault::Truncated,
                _ => RdbFault::Read(error),
            })?;
        self.crc = crc64::update(self.crc, bytes);
        self.offset += bytes.len() as u64;
        Ok(())
    }
}

/// A score as text.
pub(super) fn parse_score(text: &[u8]) -> Result<f64, RdbFault> {
    let text = std::str::from_utf8(text).map_err(|_| RdbFault::BadScore)?;
    text.parse().map_err(|_| RdbFault::BadScore)
}

/// A string that memory has no addresses for.
fn too_long(found: u64) -> RdbFault {
    RdbFault::TooLong {
        what: "a string",
        found,
        max: usize::MAX as u64,
    }
}

pub(super) fn check_len(what: &'static str, found: u64, max: u64) -> Result<(), RdbFault> {
    if found <= max {
        return Ok(());
    }
    Err(RdbFault::TooLong { what, found, max })
}
