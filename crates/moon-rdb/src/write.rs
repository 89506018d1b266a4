//! Writing a file, item by item, straight into a sink.
//!
//! Only the plain encodings are written: every Redis since 2.6 loads them and converts them to
//! whatever it prefers. Streams have but one encoding, with more fields in later versions.

use crate::crc64;
use crate::encode;
use crate::format::{
    AUX_AOF_BASE, AUX_CTIME, AUX_CUT_LSN, AUX_REDIS_BITS, AUX_REDIS_VER, AUX_USED_MEM, MAGIC, kind,
    opcode,
};
use crate::stream::{self, StreamForm};
use crate::value::RdbValueRef;
use std::io::{self, Write};

/// The version in a file's header. What is written below it is the same except for streams, because
/// the plain encodings have not changed; the number decides which servers will open the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RdbVersion {
    /// `REDIS0009`, which Redis 5 and everything later opens.
    V9,
    /// `REDIS0010`, which Redis 7.0 and everything later opens.
    V10,
    /// `REDIS0011`, which Redis 7.2 and everything later opens.
    V11,
    /// `REDIS0012`, which Redis 7.4 and everything later opens.
    V12,
}

/// Whether longer strings are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RdbCompression {
    /// They are written as they are: faster, for files that are soon replaced.
    #[default]
    Off,
    /// Strings above 20 bytes are written in LZF where that is shorter: `rdbcompression yes`.
    Lzf,
}

/// What the usual AUX fields say about a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RdbInfo<'a> {
    /// The Redis version whose behaviour the data has, such as `7.2.0`.
    pub redis_ver: &'a str,
    /// Unix seconds.
    pub ctime_s: u64,
    /// Memory in use.
    pub used_mem_bytes: u64,
    /// Whether the file is the base of an append-only log.
    pub aof_base: bool,
    /// The file is the state just before this LSN; `None` where there is none.
    pub cut_lsn: Option<u64>,
}

/// Writes one file. Dropping it without [`RdbWriter::finish`] leaves a file that every reader
/// refuses as truncated. A sink that failed once gives no usable file any more.
pub struct RdbWriter<W> {
    sink: W,
    crc: u64,
    scratch: Vec<u8>,
    compressor: Option<encode::Compressor>,
    version: RdbVersion,
}

impl<W: Write> RdbWriter<W> {
    /// Begins a file with its header. The sink should buffer: writes are small.
    ///
    /// # Errors
    /// As the sink's.
    pub fn header(sink: W, version: RdbVersion) -> io::Result<RdbWriter<W>> {
        let mut writer = RdbWriter {
            sink,
            crc: 0,
            scratch: Vec::new(),
            compressor: None,
            version,
        };
        writer.put(MAGIC)?;
        writer.put(match version {
            RdbVersion::V9 => b"0009",
            RdbVersion::V10 => b"0010",
            RdbVersion::V11 => b"0011",
            RdbVersion::V12 => b"0012",
        })?;
        Ok(writer)
    }

    /// Decides about the strings that follow; without it they are not compressed. What was made
    /// by [`encode`] is written as it is.
    #[must_use]
    pub fn with_compression(mut self, compression: RdbCompression) -> RdbWriter<W> {
        self.compressor = match compression {
            RdbCompression::Off => None,
            RdbCompression::Lzf => Some(encode::Compressor::default()),
        };
        self
    }

    /// Writes a library of functions; its code begins with a line that names engine and library.
    ///
    /// # Errors
    /// As the sink's.
    pub fn function(&mut self, code: &[u8]) -> io::Result<()> {
        self.put(&[opcode::FUNCTION2])?;
        self.string(code)
    }

    /// Writes the usual AUX fields. They stand before the first database.
    ///
    /// # Errors
    /// As the sink's.
    pub fn info(&mut self, info: &RdbInfo<'_>) -> io::Result<()> {
        self.aux(AUX_REDIS_VER, info.redis_ver.as_bytes())?;
        self.aux(AUX_REDIS_BITS, b"64")?;
        self.aux(AUX_CTIME, info.ctime_s.to_string().as_bytes())?;
        self.aux(AUX_USED_MEM, info.used_mem_bytes.to_string().as_bytes())?;
        self.aux(AUX_AOF_BASE, if info.aof_base { b"1" } else { b"0" })?;
        if let Some(lsn) = info.cut_lsn {
            self.aux(AUX_CUT_LSN, lsn.to_string().as_bytes())?;
        }
        Ok(())
    }

    /// Writes one AUX field. Readers ignore names they do not know.
    ///
    /// # Errors
    /// As the sink's.
    pub fn aux(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        self.put(&[opcode::AUX])?;
        self.string(key)?;
        self.string(value)
    }

    /// Begins a database. `keys` and `expires` (keys with a deadline) let the reader size its
    /// tables; they are hints and need not be exact.
    ///
    /// # Errors
    /// As the sink's.
    pub fn select_db(&mut self, db: u32, keys: u64, expires: u64) -> io::Result<()> {
        self.select(db)?;
        self.put(&[opcode::RESIZEDB])?;
        self.len(keys)?;
        self.len(expires)
    }

    /// Writes one key of the database selected last, with its deadline in Unix milliseconds.
    ///
    /// # Errors
    /// As the sink's; `InvalidInput` if a collection is empty or yields another number of
    /// elements than its length says. The file is then unusable.
    pub fn entry(
        &mut self,
        key: &[u8],
        deadline: Option<i64>,
        value: RdbValueRef<'_, '_>,
    ) -> io::Result<()> {
        if let Some(deadline) = deadline {
            self.put(&[opcode::EXPIRETIME_MS])?;
            self.put(&deadline.to_le_bytes())?;
        }
        match value {
            RdbValueRef::String(bytes) => {
                self.put(&[kind::STRING])?;
                self.string(key)?;
                self.string(bytes)
            }
            RdbValueRef::List(elements) => self.collection(kind::LIST, key, elements, Self::string),
            RdbValueRef::Set(members) => self.collection(kind::SET, key, members, Self::string),
            RdbValueRef::Hash(fields) => {
                self.collection(kind::HASH, key, fields, |writer, (field, value)| {
                    writer.string(field)?;
                    writer.string(value)
                })
            }
            RdbValueRef::VolatileHash { first, fields } => {
                self.put(&[kind::HASH_METADATA])?;
                self.string(key)?;
                self.put(&first.to_le_bytes())?;
                self.elements(fields, |writer, (field, value, deadline)| {
                    writer.scratch.clear();
                    encode::field_deadline(&mut writer.scratch, deadline, first);
                    writer.put_scratch()?;
                    writer.string(field)?;
                    writer.string(value)
                })
            }
            RdbValueRef::ZSet(members) => {
                self.collection(kind::ZSET_2, key, members, |writer, (member, score)| {
                    writer.string(member)?;
                    writer.score(score)
                })
            }
            RdbValueRef::Stream(stream) => {
                let form = match self.version {
                    RdbVersion::V9 => StreamForm::First,
                    RdbVersion::V10 => StreamForm::Second,
                    RdbVersion::V11 | RdbVersion::V12 => StreamForm::Third,
                };
                self.put(&[form.kind()])?;
                self.string(key)?;
                let mut bytes = Vec::new();
                stream::encode(&mut bytes, stream, form, self.compressor.as_mut());
                self.put(&bytes)
            }
        }
    }

    /// Says which database the following keys belong to, without a hint.
    ///
    /// # Errors
    /// As the sink's.
    pub fn select(&mut self, db: u32) -> io::Result<()> {
        self.put(&[opcode::SELECTDB])?;
        self.len(u64::from(db))
    }

    /// Writes bytes that were made by [`encode`]: whole keys, or the next part of one.
    ///
    /// # Errors
    /// As the sink's.
    pub fn encoded(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.put(bytes)
    }

    /// Ends the file with its checksum and gives the sink back. Flushing and syncing are the
    /// caller's.
    ///
    /// # Errors
    /// As the sink's.
    pub fn finish(mut self) -> io::Result<W> {
        self.put(&[opcode::EOF])?;
        let crc = self.crc;
        self.sink.write_all(&crc.to_le_bytes())?;
        Ok(self.sink)
    }

    fn collection<T>(
        &mut self,
        kind: u8,
        key: &[u8],
        elements: &mut dyn ExactSizeIterator<Item = T>,
        write: impl FnMut(&mut Self, T) -> io::Result<()>,
    ) -> io::Result<()> {
        self.put(&[kind])?;
        self.string(key)?;
        self.elements(elements, write)
    }

    /// What follows the key of a collection.
    fn elements<T>(
        &mut self,
        elements: &mut dyn ExactSizeIterator<Item = T>,
        mut write: impl FnMut(&mut Self, T) -> io::Result<()>,
    ) -> io::Result<()> {
        let promised = elements.len() as u64;
        if promised == 0 {
            return Err(invalid("a collection without elements"));
        }
        self.len(promised)?;
        let mut written = 0;
        for element in elements {
            write(self, element)?;
            written += 1;
        }
        if written == promised {
            return Ok(());
        }
        Err(invalid("a collection whose length is wrong"))
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.sink.write_all(bytes)?;
        self.crc = crc64::update(self.crc, bytes);
        Ok(())
    }

    fn len(&mut self, len: u64) -> io::Result<()> {
        self.scratch.clear();
        encode::len(&mut self.scratch, len);
        self.put_scratch()
    }

    fn score(&mut self, score: f64) -> io::Result<()> {
        self.scratch.clear();
        encode::score(&mut self.scratch, score);
        self.put_scratch()
    }

    fn string(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.scratch.clear();
        if let Some(compressor) = &mut self.compressor {
            encode::string_compressed(&mut self.scratch, bytes, compressor);
            let result = self.put_scratch();
            crate::elements::clear(&mut self.scratch);
            return result;
        }
        if encode::string_head(&mut self.scratch, bytes) {
            self.put_scratch()?;
            return self.put(bytes);
        }
        self.put_scratch()
    }

    fn put_scratch(&mut self) -> io::Result<()> {
        let scratch = std::mem::take(&mut self.scratch);
        let result = self.put(&scratch);
        self.scratch = scratch;
        result
    }
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what)
}
