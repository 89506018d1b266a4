//! Reading a file, item by item, from a source.
//!
//! Lengths from the file are limits on what may follow, never sizes to allocate at once: memory
//! grows with the bytes that really come.

use crate::compact;
use crate::crc64;
use crate::error::{RdbError, RdbFault};
use crate::format::{MAGIC, VERSION_NEWEST, VERSION_WITH_CHECKSUM, kind, opcode, string};
use crate::lzf;
use crate::value::{RdbEntry, RdbItem, RdbValue};
use std::io::{ErrorKind, Read};

/// Elements to allocate for before any has come.
const RESERVE_MAX: u64 = 1024;

/// What a reader accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RdbLimits {
    /// Longest key, element or compact collection. Redis: `proto-max-bulk-len`, 512 MiB.
    pub string_bytes_max: u64,
    /// Most elements of one collection.
    pub elements_max: u64,
    /// Whether a file without checksum (`rdbchecksum no`, or a version below 5) is refused. For
    /// files that this crate wrote, ask for it: a flipped bit in the version digits can make a
    /// file look as old as that.
    pub require_checksum: bool,
}

impl Default for RdbLimits {
    fn default() -> RdbLimits {
        RdbLimits {
            string_bytes_max: 512 * 1024 * 1024,
            elements_max: u64::from(u32::MAX),
            require_checksum: false,
        }
    }
}

/// Reads one file: an iterator that ends behind the checksum, or after its first error.
///
/// Items come before the checksum is known to be good, so whoever loads them drops them all if
/// an error follows.
pub struct RdbReader<R> {
    source: R,
    limits: RdbLimits,
    crc: u64,
    offset: u64,
    version: u32,
    db: u32,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Header,
    Items,
    Ended,
}

/// What stands before a key and belongs to it.
#[derive(Default)]
struct KeyMarks {
    deadline: Option<i64>,
    idle_s: Option<u64>,
    freq: Option<u8>,
}

impl KeyMarks {
    fn is_empty(&self) -> bool {
        self.deadline.is_none() && self.idle_s.is_none() && self.freq.is_none()
    }
}

impl<R: Read> RdbReader<R> {
    /// Reads from `source` with the default limits. The source should buffer: reads are small.
    pub fn new(source: R) -> RdbReader<R> {
        RdbReader::with_limits(source, RdbLimits::default())
    }

    /// Reads from `source`.
    pub fn with_limits(source: R, limits: RdbLimits) -> RdbReader<R> {
        RdbReader {
            source,
            limits,
            crc: 0,
            offset: 0,
            version: 0,
            db: 0,
            state: State::Header,
        }
    }

    /// Bytes read so far; behind the last item, the length of the file.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The source, right behind what was read.
    #[must_use]
    pub fn into_inner(self) -> R {
        self.source
    }

    fn advance(&mut self) -> Result<Option<RdbItem>, RdbFault> {
        if self.state == State::Header {
            self.header()?;
            self.state = State::Items;
        }
        let mut marks = KeyMarks::default();
        loop {
            let code = self.byte()?;
            match code {
                opcode::EXPIRETIME_MS => marks.deadline = Some(i64::from_le_bytes(self.array()?)),
                opcode::EXPIRETIME => {
                    let seconds = i32::from_le_bytes(self.array()?);
                    marks.deadline = Some(i64::from(seconds) * 1000);
                }
                opcode::IDLE => marks.idle_s = Some(self.len()?),
                opcode::FREQ => marks.freq = Some(self.byte()?),
                ..opcode::LOWEST => {
                    return self.entry(code, marks).map(|e| Some(RdbItem::Entry(e)));
                }
                _ if !marks.is_empty() => return Err(RdbFault::MisplacedOpcode(code)),
                opcode::EOF => return self.checksum().map(|()| None),
                _ => return self.between_keys(code).map(Some),
            }
        }
    }

    fn header(&mut self) -> Result<(), RdbFault> {
        let magic: [u8; MAGIC.len()] = self.array()?;
        let digits: [u8; 4] = self.array()?;
        if magic != *MAGIC || !digits.iter().all(u8::is_ascii_digit) {
            return Err(RdbFault::NotRdb);
        }
        let version = digits
            .iter()
            .fold(0, |number, digit| number * 10 + u32::from(digit - b'0'));
        match version {
            0 => Err(RdbFault::NotRdb),
            found if found > VERSION_NEWEST => Err(RdbFault::NewerVersion {
                found,
                newest: VERSION_NEWEST,
            }),
            _ => {
                self.version = version;
                Ok(())
            }
        }
    }

    fn between_keys(&mut self, code: u8) -> Result<RdbItem, RdbFault> {
        match code {
            opcode::AUX => Ok(RdbItem::Aux {
                key: self.string()?,
                value: self.string()?,
            }),
            opcode::SELECTDB => {
                let found = self.len()?;
                self.db = u32::try_from(found).map_err(|_| RdbFault::TooLong {
                    what: "a database number",
                    found,
                    max: u64::from(u32::MAX),
                })?;
                Ok(RdbItem::SelectDb(self.db))
            }
            opcode::RESIZEDB => Ok(RdbItem::ResizeDb {
                keys: self.len()?,
                expires: self.len()?,
            }),
            _ => Err(RdbFault::UnsupportedOpcode(code)),
        }
    }

    fn checksum(&mut self) -> Result<(), RdbFault> {
        let computed = self.crc;
        // Redis writes 0 where checksums are switched off.
        let stored = if self.version >= VERSION_WITH_CHECKSUM {
            u64::from_le_bytes(self.array()?)
        } else {
            0
        };
        if stored == computed || (stored == 0 && !self.limits.require_checksum) {
            return Ok(());
        }
        Err(match stored {
            0 => RdbFault::NoChecksum,
            _ => RdbFault::BadChecksum { stored, computed },
        })
    }

    fn entry(&mut self, kind: u8, marks: KeyMarks) -> Result<RdbEntry, RdbFault> {
        let key = self.string()?;
        let Some(value) = self.value(kind)? else {
            return Err(RdbFault::UnsupportedType {
                kind,
                type_name: kind::name(kind),
                key,
            });
        };
        let empty = match &value {
            RdbValue::String(_) => false,
            RdbValue::List(elements) | RdbValue::Set(elements) => elements.is_empty(),
            RdbValue::Hash(fields) => fields.is_empty(),
        };
        if empty {
            return Err(RdbFault::EmptyCollection);
        }
        Ok(RdbEntry {
            db: self.db,
            key,
            deadline: marks.deadline,
            idle_s: marks.idle_s,
            freq: marks.freq,
            value,
        })
    }

    /// The value; `None` where its type is not read.
    fn value(&mut self, kind: u8) -> Result<Option<RdbValue>, RdbFault> {
        let value = match kind {
            kind::STRING => RdbValue::String(self.string()?),
            kind::LIST => RdbValue::List(self.strings()?),
            kind::SET => RdbValue::Set(self.strings()?),
            kind::HASH => {
                let (count, reserve) = self.count()?;
                let mut fields = Vec::with_capacity(reserve);
                for _ in 0..count {
                    fields.push((self.string()?, self.string()?));
                }
                RdbValue::Hash(fields)
            }
            kind::LIST_ZIPLIST => RdbValue::List(compact::ziplist(&self.string()?)?),
            kind::LIST_QUICKLIST | kind::LIST_QUICKLIST_2 => self.quicklist(kind)?,
            kind::SET_INTSET => RdbValue::Set(compact::intset(&self.string()?)?),
            kind::SET_LISTPACK => RdbValue::Set(compact::listpack(&self.string()?)?),
            kind::HASH_ZIPLIST => {
                let flat = compact::ziplist(&self.string()?)?;
                RdbValue::Hash(compact::pairs(flat).ok_or(RdbFault::BadCompact("ziplist"))?)
            }
            kind::HASH_LISTPACK => {
                let flat = compact::listpack(&self.string()?)?;
                RdbValue::Hash(compact::pairs(flat).ok_or(RdbFault::BadCompact("listpack"))?)
            }
            _ => return Ok(None),
        };
        Ok(Some(value))
    }

    /// A list in nodes: ziplists in the older form, single elements or listpacks in the newer.
    fn quicklist(&mut self, kind: u8) -> Result<RdbValue, RdbFault> {
        const PLAIN: u64 = 1;
        const PACKED: u64 = 2;
        let (nodes, _) = self.count()?;
        let mut elements = Vec::new();
        for _ in 0..nodes {
            if kind == kind::LIST_QUICKLIST {
                elements.extend(compact::ziplist(&self.string()?)?);
                continue;
            }
            match self.len()? {
                PLAIN => elements.push(self.string()?),
                PACKED => elements.extend(compact::listpack(&self.string()?)?),
                _ => return Err(RdbFault::BadCompact("quicklist node")),
            }
        }
        Ok(RdbValue::List(elements))
    }

    fn strings(&mut self) -> Result<Vec<Vec<u8>>, RdbFault> {
        let (count, reserve) = self.count()?;
        let mut strings = Vec::with_capacity(reserve);
        for _ in 0..count {
            strings.push(self.string()?);
        }
        Ok(strings)
    }

    /// A number of elements, and how many of them to allocate for now.
    fn count(&mut self) -> Result<(u64, usize), RdbFault> {
        let count = self.len()?;
        let max = self.limits.elements_max;
        check_len("a collection", count, max)?;
        let reserve = usize::try_from(count.min(RESERVE_MAX)).unwrap_or_default();
        Ok((count, reserve))
    }

    fn string(&mut self) -> Result<Vec<u8>, RdbFault> {
        let number = match self.len_or_encoding()? {
            LenOrEncoding::Len(len) => return self.bytes(len),
            LenOrEncoding::Encoding(string::INT8) => i32::from(i8::from_le_bytes(self.array()?)),
            LenOrEncoding::Encoding(string::INT16) => i32::from(i16::from_le_bytes(self.array()?)),
            LenOrEncoding::Encoding(string::INT32) => i32::from_le_bytes(self.array()?),
            LenOrEncoding::Encoding(string::LZF) => return self.compressed(),
            LenOrEncoding::Encoding(other) => return Err(RdbFault::BadLength(0xc0 | other)),
        };
        Ok(number.to_string().into_bytes())
    }

    fn compressed(&mut self) -> Result<Vec<u8>, RdbFault> {
        let compressed_len = self.len()?;
        let expanded_len = self.len()?;
        check_len("a string", expanded_len, self.limits.string_bytes_max)?;
        let compressed = self.bytes(compressed_len)?;
        if !lzf::can_expand(compressed_len, expanded_len) {
            return Err(RdbFault::BadLzf);
        }
        let expanded_len = usize::try_from(expanded_len).map_err(|_| RdbFault::BadLzf)?;
        lzf::decompress(&compressed, expanded_len).ok_or(RdbFault::BadLzf)
    }

    fn len(&mut self) -> Result<u64, RdbFault> {
        match self.len_or_encoding()? {
            LenOrEncoding::Len(len) => Ok(len),
            LenOrEncoding::Encoding(encoding) => Err(RdbFault::BadLength(0xc0 | encoding)),
        }
    }

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

    fn bytes(&mut self, len: u64) -> Result<Vec<u8>, RdbFault> {
        check_len("a string", len, self.limits.string_bytes_max)?;
        let mut bytes = Vec::new();
        // Grows with what comes, so a length that lies costs nothing.
        let read = self.source.by_ref().take(len).read_to_end(&mut bytes);
        read.map_err(RdbFault::Read)?;
        if bytes.len() as u64 != len {
            return Err(RdbFault::Truncated);
        }
        self.took(&bytes);
        Ok(bytes)
    }

    fn byte(&mut self) -> Result<u8, RdbFault> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], RdbFault> {
        let mut bytes = [0; N];
        self.source
            .read_exact(&mut bytes)
            .map_err(|error| match error.kind() {
                ErrorKind::UnexpectedEof => RdbFault::Truncated,
                _ => RdbFault::Read(error),
            })?;
        self.took(&bytes);
        Ok(bytes)
    }

    fn took(&mut self, bytes: &[u8]) {
        self.crc = crc64::update(self.crc, bytes);
        self.offset += bytes.len() as u64;
    }
}

impl<R: Read> Iterator for RdbReader<R> {
    type Item = Result<RdbItem, RdbError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.state == State::Ended {
            return None;
        }
        let item = self.advance().map_err(|fault| RdbError {
            offset: self.offset,
            fault,
        });
        if !matches!(item, Ok(Some(_))) {
            self.state = State::Ended;
        }
        item.transpose()
    }
}

enum LenOrEncoding {
    Len(u64),
    Encoding(u8),
}

fn check_len(what: &'static str, found: u64, max: u64) -> Result<(), RdbFault> {
    if found <= max {
        return Ok(());
    }
    Err(RdbFault::TooLong { what, found, max })
}

#[cfg(test)]
#[path = "read/tests.rs"]
mod tests;
