//! The RDB format of Redis: a streaming writer and a strict reader.
//!
//! What is written loads in stock Redis and passes `redis-check-rdb`; what Redis writes for
//! strings, lists, sets, hashes, sorted sets and streams is read, in plain and in compact
//! encodings. Every length is
//! checked before it is believed, nothing recurses, and each fault is a typed error with its
//! offset. The crate opens no files, reads no clock and knows neither the keyspace nor expiry:
//! bytes come and go through `std::io`'s traits, so a `Vec<u8>` and a `&[u8]` do.
//!
//! In reading order:
//!
//! * [`format`](mod@format): opcodes and types, shared by both directions.
//! * [`value`]: what a key can hold, and the items of a file.
//! * [`elements`]: the elements of a collection in one buffer.
//! * [`encode`]: the bytes of one key, apart from a file.
//! * [`write`](mod@write): [`RdbWriter`].
//! * [`read`](mod@read): [`RdbReader`].
//! * [`payload`]: one value apart from a file.
//! * [`listpack`]: small values in one string, made, read and changed.
//! * [`stream`]: what a stream is in a file.
//! * `compact`: listpack, ziplist and intset as elements, decode only.
//! * `lzf`: compression of strings.
//! * [`crc64`]: the checksum at the end of a file.
//! * [`error`]: what can be wrong.

#![forbid(unsafe_code)]

pub mod format;

pub mod value;

pub mod elements;

pub mod encode;

pub mod write;

pub mod read;

pub mod listpack;
pub mod payload;

pub mod stream;

mod compact;

pub mod lzf;

pub mod crc64;

pub mod error;

pub use elements::Elements;
pub use error::{RdbError, RdbFault};
pub use read::{RdbLimits, RdbReader};
pub use stream::{RdbStream, StreamId};
pub use value::{
    RdbEntry, RdbEntryRef, RdbItem, RdbItemRef, RdbReadValue, RdbValue, RdbValueRef, VolatileFields,
};
pub use write::{RdbCompression, RdbInfo, RdbVersion, RdbWriter};
