//! The numbers of the format: opcodes, value types, string encodings, names of AUX fields.
//!
//! A file is the magic, a four-digit version, then items, each led by one byte: an opcode (from
//! 244 up) or the type of the value whose key follows. It ends with the EOF opcode and a CRC64.

/// First bytes of every file; the version follows as four decimal digits.
pub const MAGIC: &[u8; 5] = b"REDIS";

/// First bytes of files of Valkey from version 9 on; three digits follow. Its versions are
/// counted apart from those of Redis.
pub const MAGIC_VALKEY: &[u8; 6] = b"VALKEY";

/// The newest version this crate reads: that of Redis 7.4 and 8.0.
pub const VERSION_NEWEST: u32 = 12;

/// Files from this version on end with a checksum.
pub const VERSION_WITH_CHECKSUM: u32 = 5;

pub(crate) mod opcode {
    //! Bytes that lead an item other than a key.
    pub(crate) const SLOT_INFO: u8 = 244;
    pub(crate) const FUNCTION2: u8 = 245;
    pub(crate) const MODULE_AUX: u8 = 247;
    pub(crate) const IDLE: u8 = 248;
    pub(crate) const FREQ: u8 = 249;
    pub(crate) const AUX: u8 = 250;
    pub(crate) const RESIZEDB: u8 = 251;
    pub(crate) const EXPIRETIME_MS: u8 = 252;
    pub(crate) const EXPIRETIME: u8 = 253;
    pub(crate) const SELECTDB: u8 = 254;
    pub(crate) const EOF: u8 = 255;
    /// Up to here a byte is the type of a value, in every version.
    pub(crate) const TYPE_MAX: u8 = 242;

    /// What an opcode that is not read stands for, in words for messages.
    pub(crate) fn name(code: u8) -> &'static str {
        match code {
            243 => "data of a newer version",
            246 => "functions in the form of a release candidate of Redis 7.0",
            _ => "something unknown",
        }
    }
}

pub(crate) mod kind {
    //! Types of values.
    pub(crate) const STRING: u8 = 0;
    pub(crate) const LIST: u8 = 1;
    pub(crate) const SET: u8 = 2;
    pub(crate) const ZSET: u8 = 3;
    pub(crate) const HASH: u8 = 4;
    pub(crate) const ZSET_2: u8 = 5;
    pub(crate) const LIST_ZIPLIST: u8 = 10;
    pub(crate) const SET_INTSET: u8 = 11;
    pub(crate) const ZSET_ZIPLIST: u8 = 12;
    pub(crate) const HASH_ZIPLIST: u8 = 13;
    pub(crate) const LIST_QUICKLIST: u8 = 14;
    pub(crate) const STREAM: u8 = 15;
    pub(crate) const HASH_LISTPACK: u8 = 16;
    pub(crate) const ZSET_LISTPACK: u8 = 17;
    pub(crate) const LIST_QUICKLIST_2: u8 = 18;
    pub(crate) const STREAM_2: u8 = 19;
    pub(crate) const SET_LISTPACK: u8 = 20;
    pub(crate) const STREAM_3: u8 = 21;
    /// As [`HASH_METADATA`], with absolute deadlines and without the earliest one in front:
    /// release candidates of Redis 7.4.
    pub(crate) const HASH_METADATA_PRE_GA: u8 = 22;
    /// As [`HASH_LISTPACK_EX`], without the earliest deadline in front.
    pub(crate) const HASH_LISTPACK_EX_PRE_GA: u8 = 23;
    /// A hash whose fields expire.
    pub(crate) const HASH_METADATA: u8 = 24;
    /// A hash whose fields expire: field, value, deadline or 0, ... in a listpack.
    pub(crate) const HASH_LISTPACK_EX: u8 = 25;

    /// What a type that is not read stands for, in words for messages.
    pub(crate) fn name(kind: u8) -> &'static str {
        match kind {
            6 | 7 => "module value",
            9 => "hash in the form of Redis before 2.6",
            _ => "value of unknown type",
        }
    }
}

pub(crate) mod string {
    //! Encodings of a string, in the low six bits of a length byte that starts with 11.
    pub(crate) const INT8: u8 = 0;
    pub(crate) const INT16: u8 = 1;
    pub(crate) const INT32: u8 = 2;
    pub(crate) const LZF: u8 = 3;
}

/// The Redis version whose behaviour the data has.
pub const AUX_REDIS_VER: &[u8] = b"redis-ver";
/// Word size, 64.
pub const AUX_REDIS_BITS: &[u8] = b"redis-bits";
/// Unix seconds at which the file was begun.
pub const AUX_CTIME: &[u8] = b"ctime";
/// Bytes of memory in use at that time.
pub const AUX_USED_MEM: &[u8] = b"used-mem";
/// 1 if the file is the base of an append-only log.
pub const AUX_AOF_BASE: &[u8] = b"aof-base";
/// The file is the state just before this LSN. Redis ignores the field.
pub const AUX_CUT_LSN: &[u8] = b"moon-cut-lsn";

/// The name in a module's number: nine characters of six bits each, above ten bits of version.
pub(crate) fn module_name(id: u64) -> String {
    const CHARACTERS: &[u8; 64] =
        b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    (0..9)
        .map(|at| char::from(CHARACTERS[(id >> (58 - 6 * at) & 63) as usize]))
        .collect()
}
