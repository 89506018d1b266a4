//! Reading a file, item by item, from a source.
//!
//! The items lie in the reader's own buffers, which are used again for the next one
//! ([`RdbReader::next_ref`]); the iterator hands out copies for whoever prefers to keep them.

use crate::compact;
use crate::elements::{self, Elements};
use crate::error::{RdbError, RdbFault};
use crate::format::{
    MAGIC, MAGIC_VALKEY, VERSION_NEWEST, VERSION_WITH_CHECKSUM, kind, module_name, opcode,
};
use crate::stream::{RdbStream, StreamForm};
use crate::value::{RdbEntryRef, RdbItem, RdbItemRef, RdbReadValue, VolatileFields};
use input::{Input, check_len, parse_score};
use std::io::Read;

mod input;
mod stream;

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

impl RdbLimits {
    /// For files that this server wrote: whatever it could hold comes back, and a checksum there
    /// must be.
    #[must_use]
    pub fn own() -> RdbLimits {
        RdbLimits {
            string_bytes_max: u64::from(u32::MAX),
            elements_max: u64::from(u32::MAX),
            require_checksum: true,
        }
    }
}

/// Reads one file, up to right behind its checksum or to its first error.
///
/// Items come before the checksum is known to be good, so whoever loads them drops them all if
/// an error follows.
pub struct RdbReader<R> {
    input: Input<R>,
    version: u32,
    db: u32,
    state: State,
    /// The key, or the name of an AUX field, of the item handed out last.
    name: Vec<u8>,
    /// The string of that item.
    string: Vec<u8>,
    /// The elements of its collection; fields and values of a hash in turns, so are members and
    /// scores of a sorted set.
    elements: Elements,
    /// Its stream.
    stream: RdbStream,
    /// The deadlines of its fields, if it is a hash whose fields expire.
    deadlines: Vec<Option<i64>>,
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

/// What was read into the buffers.
enum Found {
    Aux,
    SelectDb,
    ResizeDb { keys: u64, expires: u64 },
    Function,
    Entry(KeyMarks, ValueFound),
}

enum ValueFound {
    String,
    List,
    Set,
    Hash,
    VolatileHash,
    ZSet,
    Stream,
}

impl<R: Read> RdbReader<R> {
    /// Reads from `source` with the default limits. The source should buffer: reads are small.
    pub fn new(source: R) -> RdbReader<R> {
        RdbReader::with_limits(source, RdbLimits::default())
    }

    /// Reads from `source`.
    pub fn with_limits(source: R, limits: RdbLimits) -> RdbReader<R> {
        RdbReader {
            input: Input::new(source, limits),
            version: 0,
            db: 0,
            state: State::Header,
            name: Vec::new(),
            string: Vec::new(),
            elements: Elements::default(),
            stream: RdbStream::default(),
            deadlines: Vec::new(),
        }
    }

    /// Bytes read so far; behind the last item, the length of the file.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.input.offset
    }

    /// The version in the header; 0 until it was read.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.version
    }

    /// The source, right behind what was read.
    #[must_use]
    pub fn into_inner(self) -> R {
        self.input.source
    }

    /// The next item, in buffers that its successor overwrites; `None` at the end, or after the
    /// first error.
    pub fn next_ref(&mut self) -> Option<Result<RdbItemRef<'_>, RdbError>> {
        if self.state == State::Ended {
            return None;
        }
        match self.advance() {
            Ok(Some(found)) => Some(Ok(self.item(found))),
            Ok(None) => {
                self.state = State::Ended;
                None
            }
            Err(fault) => {
                self.state = State::Ended;
                let offset = self.input.offset;
                Some(Err(RdbError { offset, fault }))
            }
        }
    }

    #[inline]
    fn item(&self, found: Found) -> RdbItemRef<'_> {
        match found {
            Found::Aux => RdbItemRef::Aux {
                key: &self.name,
                value: &self.string,
            },
            Found::SelectDb => RdbItemRef::SelectDb(self.db),
            Found::ResizeDb { keys, expires } => RdbItemRef::ResizeDb { keys, expires },
            Found::Function => RdbItemRef::Function(&self.string),
            Found::Entry(marks, value) => RdbItemRef::Entry(RdbEntryRef {
                db: self.db,
                key: &self.name,
                deadline: marks.deadline,
                idle_s: marks.idle_s,
                freq: marks.freq,
                value: self.read_value(value),
            }),
        }
    }

    #[inline]
    fn read_value(&self, value: ValueFound) -> RdbReadValue<'_> {
        match value {
            ValueFound::String => RdbReadValue::String(&self.string),
            ValueFound::List => RdbReadValue::List(&self.elements),
            ValueFound::Set => RdbReadValue::Set(&self.elements),
            ValueFound::Hash => RdbReadValue::Hash(&self.elements),
            ValueFound::VolatileHash => RdbReadValue::VolatileHash(VolatileFields {
                pairs: &self.elements,
                deadlines: &self.deadlines,
            }),
            ValueFound::ZSet => RdbReadValue::ZSet(&self.elements),
            ValueFound::Stream => RdbReadValue::Stream(&self.stream),
        }
    }

    fn advance(&mut self) -> Result<Option<Found>, RdbFault> {
        if self.state == State::Header {
            self.header()?;
            self.state = State::Items;
        }
        elements::clear(&mut self.name);
        elements::clear(&mut self.string);
        self.stream = RdbStream::default();
        let mut marks = KeyMarks::default();
        loop {
            let code = self.input.byte()?;
            match code {
                opcode::EXPIRETIME_MS => {
                    marks.deadline = Some(i64::from_le_bytes(self.input.array()?));
                }
                opcode::EXPIRETIME => {
                    let seconds = i32::from_le_bytes(self.input.array()?);
                    marks.deadline = Some(i64::from(seconds) * 1000);
                }
                opcode::IDLE => marks.idle_s = Some(self.input.len()?),
                opcode::FREQ => marks.freq = Some(self.input.byte()?),
                ..=opcode::TYPE_MAX => {
                    let value = self.entry(code)?;
                    return Ok(Some(Found::Entry(marks, value)));
                }
                _ if !marks.is_empty() => return Err(RdbFault::MisplacedOpcode(code)),
                opcode::EOF => return self.checksum().map(|()| None),
                opcode::SLOT_INFO => self.slot_info()?,
                _ => return self.between_keys(code).map(Some),
            }
        }
    }

    fn header(&mut self) -> Result<(), RdbFault> {
        let header: [u8; 9] = self.input.array()?;
        let (digits, newest) = if let Some(digits) = header.strip_prefix(MAGIC) {
            (digits, VERSION_NEWEST)
        } else if let Some(digits) = header.strip_prefix(MAGIC_VALKEY) {
            // The same format counted on from another number, none of which is read here.
            (digits, 0)
        } else {
            return Err(RdbFault::NotRdb);
        };
        if !digits.iter().all(u8::is_ascii_digit) {
            return Err(RdbFault::NotRdb);
        }
        let found = digits
            .iter()
            .fold(0, |number, digit| number * 10 + u32::from(digit - b'0'));
        if found == 0 {
            return Err(RdbFault::NotRdb);
        }
        if found > newest {
            return Err(RdbFault::NewerVersion {
                found,
                newest: VERSION_NEWEST,
            });
        }
        self.version = found;
        Ok(())
    }

    fn between_keys(&mut self, code: u8) -> Result<Found, RdbFault> {
        match code {
            opcode::AUX => {
                self.input.string_into(&mut self.name)?;
                self.input.string_into(&mut self.string)?;
                Ok(Found::Aux)
            }
            opcode::SELECTDB => {
                let found = self.input.len()?;
                self.db = u32::try_from(found).map_err(|_| RdbFault::TooLong {
                    what: "a database number",
                    found,
                    max: u64::from(u32::MAX),
                })?;
                Ok(Found::SelectDb)
            }
            opcode::RESIZEDB => Ok(Found::ResizeDb {
                keys: self.input.len()?,
                expires: self.input.len()?,
            }),
            opcode::FUNCTION2 => {
                self.input.string_into(&mut self.string)?;
                Ok(Found::Function)
            }
            opcode::MODULE_AUX => Err(RdbFault::ModuleData {
                module: module_name(self.input.len()?),
            }),
            _ => Err(RdbFault::UnsupportedOpcode {
                opcode: code,
                name: opcode::name(code),
            }),
        }
    }

    /// How many keys of a cluster slot follow: a hint for servers that keep slots apart.
    fn slot_info(&mut self) -> Result<(), RdbFault> {
        for _slot_keys_expires in 0..3 {
            self.input.len()?;
        }
        Ok(())
    }

    fn checksum(&mut self) -> Result<(), RdbFault> {
        let computed = self.input.crc;
        // Redis writes 0 where checksums are switched off.
        let stored = if self.version >= VERSION_WITH_CHECKSUM {
            u64::from_le_bytes(self.input.array()?)
        } else {
            0
        };
        if stored == computed || (stored == 0 && !self.input.limits.require_checksum) {
            return Ok(());
        }
        Err(match stored {
            0 => RdbFault::NoChecksum,
            _ => RdbFault::BadChecksum { stored, computed },
        })
    }

    fn entry(&mut self, kind: u8) -> Result<ValueFound, RdbFault> {
        self.input.string_into(&mut self.name)?;
        self.value(kind)
    }

    /// Reads what a key holds into the buffers.
    fn value(&mut self, kind: u8) -> Result<ValueFound, RdbFault> {
        if kind == kind::STRING {
            self.input.string_into(&mut self.string)?;
            return Ok(ValueFound::String);
        }
        if let Some(form) = StreamForm::of_kind(kind) {
            self.stream = self.input.stream(form)?;
            return Ok(ValueFound::Stream);
        }
        self.elements.clear();
        let Some(found) = self.collection(kind)? else {
            return Err(RdbFault::UnsupportedType {
                kind,
                type_name: kind::name(kind),
                key: std::mem::take(&mut self.name),
            });
        };
        let count = self.elements.len() as u64;
        let count = match found {
            ValueFound::Hash | ValueFound::VolatileHash | ValueFound::ZSet => count / 2,
            _ => count,
        };
        check_len("a collection", count, self.input.limits.elements_max)?;
        match count {
            0 => Err(RdbFault::EmptyCollection),
            _ => Ok(found),
        }
    }

    /// Reads the elements of a collection; `None` where its type is not read.
    fn collection(&mut self, kind: u8) -> Result<Option<ValueFound>, RdbFault> {
        Ok(Some(match kind {
            kind::LIST => {
                self.strings(1)?;
                ValueFound::List
            }
            kind::SET => {
                self.strings(1)?;
                ValueFound::Set
            }
            kind::HASH => {
                self.strings(2)?;
                ValueFound::Hash
            }
            kind::LIST_ZIPLIST => {
                self.packed(compact::ziplist)?;
                ValueFound::List
            }
            kind::LIST_QUICKLIST | kind::LIST_QUICKLIST_2 => {
                self.quicklist(kind)?;
                ValueFound::List
            }
            kind::SET_INTSET => {
                self.packed(compact::intset)?;
                ValueFound::Set
            }
            kind::SET_LISTPACK => {
                self.packed(compact::listpack)?;
                ValueFound::Set
            }
            kind::HASH_ZIPLIST => {
                self.packed(compact::ziplist)?;
                self.check_pairs("ziplist")?;
                ValueFound::Hash
            }
            kind::HASH_LISTPACK => {
                self.packed(compact::listpack)?;
                self.check_pairs("listpack")?;
                ValueFound::Hash
            }
            kind::HASH_METADATA | kind::HASH_METADATA_PRE_GA => {
                self.volatile_hash(kind)?;
                ValueFound::VolatileHash
            }
            kind::HASH_LISTPACK_EX | kind::HASH_LISTPACK_EX_PRE_GA => {
                self.volatile_listpack(kind)?;
                ValueFound::VolatileHash
            }
            kind::ZSET | kind::ZSET_2 => {
                self.members_with_scores(kind)?;
                ValueFound::ZSet
            }
            kind::ZSET_ZIPLIST => {
                self.packed_with_scores(compact::ziplist, "ziplist")?;
                ValueFound::ZSet
            }
            kind::ZSET_LISTPACK => {
                self.packed_with_scores(compact::listpack, "listpack")?;
                ValueFound::ZSet
            }
            _ => return Ok(None),
        }))
    }

    /// A count, and that many times `per_count` strings.
    fn strings(&mut self, per_count: u64) -> Result<(), RdbFault> {
        let (count, reserve) = self.input.count()?;
        self.elements.reserve(reserve);
        for _ in 0..count.saturating_mul(per_count) {
            let input = &mut self.input;
            self.elements.push_with(|out| input.string_into(out))?;
        }
        Ok(())
    }

    /// Fields with deadlines, which count from the earliest one, or are absolute.
    fn volatile_hash(&mut self, kind: u8) -> Result<(), RdbFault> {
        let first = match kind {
            kind::HASH_METADATA => Some(field_time(u64::from_le_bytes(self.input.array()?))?),
            _ => None,
        };
        let (count, reserve) = self.input.count()?;
        self.elements.reserve(reserve);
        self.deadlines.clear();
        self.deadlines.reserve(reserve);
        for _ in 0..count {
            let deadline = match (self.input.len()?, first) {
                (0, _) => None,
                (number, None) => Some(field_time(number)?),
                (number, Some(first)) => {
                    Some(field_time(first.unsigned_abs().saturating_add(number - 1))?)
                }
            };
            self.deadlines.push(deadline);
            for _field_value in 0..2 {
                let input = &mut self.input;
                self.elements.push_with(|out| input.string_into(out))?;
            }
        }
        Ok(())
    }

    /// Fields with deadlines in one string: field, value, deadline or 0, ...
    fn volatile_listpack(&mut self, kind: u8) -> Result<(), RdbFault> {
        const FAULT: RdbFault = RdbFault::BadCompact("listpack of a hash whose fields expire");
        if kind == kind::HASH_LISTPACK_EX {
            // The earliest deadline, which the fields tell anyway.
            self.input.array::<8>()?;
        }
        self.packed(compact::listpack)?;
        let mixed = std::mem::take(&mut self.elements);
        self.deadlines.clear();
        let mut elements = mixed.iter();
        while let Some(field) = elements.next() {
            let (value, deadline) = elements.next().zip(elements.next()).ok_or(FAULT)?;
            let number = std::str::from_utf8(deadline)
                .ok()
                .and_then(|d| d.parse().ok());
            self.deadlines.push(match number.ok_or(FAULT)? {
                0 => None,
                number => Some(field_time(number)?),
            });
            self.elements.push(field);
            self.elements.push(value);
        }
        Ok(())
    }

    /// A string that holds elements.
    fn packed(
        &mut self,
        unpack: fn(&[u8], &mut Elements) -> Result<(), RdbFault>,
    ) -> Result<(), RdbFault> {
        elements::clear(&mut self.string);
        self.input.string_into(&mut self.string)?;
        unpack(&self.string, &mut self.elements)
    }

    /// A count, and that many times a string and a score.
    fn members_with_scores(&mut self, kind: u8) -> Result<(), RdbFault> {
        let (count, reserve) = self.input.count()?;
        self.elements.reserve(reserve);
        for _ in 0..count {
            let input = &mut self.input;
            self.elements.push_with(|out| input.string_into(out))?;
            let score = match kind {
                kind::ZSET => self.input.spelled_score()?,
                _ => f64::from_le_bytes(self.input.array()?),
            };
            self.push_score(score)?;
        }
        Ok(())
    }

    /// A string that holds members and the text of their scores.
    fn packed_with_scores(
        &mut self,
        unpack: fn(&[u8], &mut Elements) -> Result<(), RdbFault>,
        what: &'static str,
    ) -> Result<(), RdbFault> {
        self.packed(unpack)?;
        self.check_pairs(what)?;
        let spelled = std::mem::take(&mut self.elements);
        for (member, score) in spelled.pairs() {
            self.elements.push(member);
            self.push_score(parse_score(score)?)?;
        }
        Ok(())
    }

    fn push_score(&mut self, score: f64) -> Result<(), RdbFault> {
        if score.is_nan() {
            return Err(RdbFault::BadScore);
        }
        self.elements.push_score(score);
        Ok(())
    }

    /// Pairs are an even number of elements.
    fn check_pairs(&self, what: &'static str) -> Result<(), RdbFault> {
        if self.elements.len().is_multiple_of(2) {
            return Ok(());
        }
        Err(RdbFault::BadCompact(what))
    }

    /// A list in nodes: ziplists in the older form, single elements or listpacks in the newer.
    fn quicklist(&mut self, kind: u8) -> Result<(), RdbFault> {
        const PLAIN: u64 = 1;
        const PACKED: u64 = 2;
        let (nodes, _) = self.input.count()?;
        for _ in 0..nodes {
            if kind == kind::LIST_QUICKLIST {
                self.packed(compact::ziplist)?;
                continue;
            }
            match self.input.len()? {
                PLAIN => {
                    let input = &mut self.input;
                    self.elements.push_with(|out| input.string_into(out))?;
                }
                PACKED => self.packed(compact::listpack)?,
                _ => return Err(RdbFault::BadCompact("quicklist node")),
            }
        }
        Ok(())
    }
}

/// A deadline of a field, which Redis keeps in 48 bits.
fn field_time(found: u64) -> Result<i64, RdbFault> {
    const MAX: u64 = (1 << 48) - 1;
    match i64::try_from(found) {
        Ok(time) if found <= MAX => Ok(time),
        _ => Err(RdbFault::BadFieldDeadline(found)),
    }
}

impl<'a> RdbReader<&'a [u8]> {
    /// A reader of `bytes` that are no file but the type of a value and the value, such as
    /// [`payload::open`](crate::payload::open) returns; [`RdbReader::value_alone`] reads it.
    #[must_use]
    pub fn of_value(bytes: &'a [u8], limits: RdbLimits) -> RdbReader<&'a [u8]> {
        let mut reader = RdbReader::with_limits(bytes, limits);
        reader.state = State::Ended;
        reader
    }

    /// Reads the value that a reader made by [`RdbReader::of_value`] has.
    ///
    /// # Errors
    /// As those of a file; and when bytes follow that do not belong to the value.
    pub fn value_alone(&mut self) -> Result<RdbReadValue<'_>, RdbError> {
        let found = self.alone().map_err(|fault| RdbError {
            offset: self.input.offset,
            fault,
        })?;
        Ok(self.read_value(found))
    }

    /// Reads the texts of libraries of functions that a reader made by [`RdbReader::of_value`] has.
    ///
    /// # Errors
    /// As those of a file; and when something else stands there.
    pub fn functions_alone(&mut self) -> Result<Vec<Vec<u8>>, RdbError> {
        let mut codes = Vec::new();
        while !self.input.source.is_empty() {
            let function = self.function_alone();
            let code = function.map_err(|fault| RdbError {
                offset: self.input.offset,
                fault,
            })?;
            codes.push(code);
        }
        Ok(codes)
    }

    fn function_alone(&mut self) -> Result<Vec<u8>, RdbFault> {
        let code = self.input.byte()?;
        if code != opcode::FUNCTION2 {
            return Err(RdbFault::UnsupportedOpcode {
                opcode: code,
                name: opcode::name(code),
            });
        }
        elements::clear(&mut self.string);
        self.input.string_into(&mut self.string)?;
        Ok(self.string.clone())
    }

    fn alone(&mut self) -> Result<ValueFound, RdbFault> {
        elements::clear(&mut self.string);
        let kind = self.input.byte()?;
        let found = self.value(kind)?;
        match self.input.source.len() {
            0 => Ok(found),
            bytes => Err(RdbFault::BytesBehindValue { bytes }),
        }
    }
}

impl<R: Read> Iterator for RdbReader<R> {
    type Item = Result<RdbItem, RdbError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_ref().map(|item| item.map(RdbItemRef::to_owned))
    }
}

#[cfg(test)]
#[path = "read/tests.rs"]
mod tests;
