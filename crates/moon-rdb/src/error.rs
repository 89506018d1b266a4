//! What can be wrong with a file: one variant per fault, with the offset where it was noticed.

/// A fault and its place.
#[derive(Debug, thiserror::Error)]
#[error("RDB byte {offset}: {fault}")]
pub struct RdbError {
    /// Bytes read when the fault was noticed.
    pub offset: u64,
    /// What is wrong.
    pub fault: RdbFault,
}

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RdbFault {
    /// The source failed.
    #[error("cannot read on ({0})")]
    Read(std::io::Error),
    /// The file ends before its EOF opcode and checksum.
    #[error("the file ends in the middle of an item")]
    Truncated,
    /// The file does not begin with `REDIS` and four digits.
    #[error("this is not an RDB file")]
    NotRdb,
    /// Written by a newer version of the format. Not damage.
    #[error("written by a newer version (RDB version {found}, this reads up to {newest})")]
    NewerVersion {
        /// Version in the file.
        found: u32,
        /// Newest version read here.
        newest: u32,
    },
    /// A value type of the format that is not read here, or of no version.
    #[error("a {type_name} (value type {kind}), which cannot be read")]
    UnsupportedType {
        /// The byte in front of the key.
        kind: u8,
        /// What it stands for.
        type_name: &'static str,
        /// The key.
        key: Vec<u8>,
    },
    /// Data of a module.
    #[error("data of the module '{module}', which cannot be read")]
    ModuleData {
        /// The module as it calls itself.
        module: String,
    },
    /// An opcode that is not read here.
    #[error("{name} (opcode {opcode}), which cannot be read")]
    UnsupportedOpcode {
        /// The opcode.
        opcode: u8,
        /// What it stands for.
        name: &'static str,
    },
    /// A deadline or idle time that belongs to no key.
    #[error("opcode {0} stands between a deadline and its key")]
    MisplacedOpcode(u8),
    /// A length byte of no known form where a plain length belongs.
    #[error("bad length encoding {0:#04x}")]
    BadLength(u8),
    /// A length above the limit for its kind.
    #[error("{what} has length {found}, more than {max}")]
    TooLong {
        /// What has the length.
        what: &'static str,
        /// Length found.
        found: u64,
        /// Length allowed.
        max: u64,
    },
    /// A compressed string does not expand to what its lengths say.
    #[error("bad compressed string")]
    BadLzf,
    /// A listpack, ziplist or intset breaks its own rules.
    #[error("bad {0}")]
    BadCompact(&'static str),
    /// A field of a hash expires at no time that there is.
    #[error("a field expires at {0}, which is no time")]
    BadFieldDeadline(u64),
    /// A score of a sorted set is no number.
    #[error("a score that is no number")]
    BadScore,
    /// A list, set, hash or sorted set without elements: no server keeps such a key.
    #[error("a collection without elements")]
    EmptyCollection,
    /// A value that stands alone, and more.
    #[error("{bytes} bytes behind the value")]
    BytesBehindValue {
        /// How many.
        bytes: usize,
    },
    /// The checksum does not match the bytes before it.
    #[error("bad checksum, the file says {stored:016x} and its bytes give {computed:016x}")]
    BadChecksum {
        /// Checksum in the file.
        stored: u64,
        /// Checksum of the bytes.
        computed: u64,
    },
    /// The file was written without a checksum, and the reader asks for one.
    #[error("the file has no checksum")]
    NoChecksum,
}
