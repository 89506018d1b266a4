//! What can be wrong with a manifest, one variant per fault.
//!
//! Every parse error names its line, counted from 1, and what to do. A manifest is never repaired
//! by guessing: a wrong guess silently loses what was acknowledged.

/// What to do about a file that is not what any version writes.
const RESTORE: &str = "the file is left untouched; restore it, with the whole append-only \
                       directory, from a backup";

/// Why a manifest cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// The file has no bytes. Beside segments this is damage, never a fresh directory.
    #[error("manifest line 1: the file is empty; {RESTORE}")]
    Empty,
    /// The file is larger than any manifest.
    #[error("manifest line 1: the file has {bytes} bytes, more than {bytes_max}; {RESTORE}")]
    TooLarge {
        /// Size found.
        bytes: usize,
        /// Size allowed.
        bytes_max: usize,
    },
    /// The last line has no line end, so its last number may be cut.
    #[error("manifest line {line}: the file is cut off in the middle of this line; {RESTORE}")]
    Truncated {
        /// The line without an end.
        line: usize,
    },
    /// Written by a newer version of the server. Not damage.
    #[error(
        "manifest line 1: written by a newer version (manifest version {found}, this server reads \
         up to {newest}); start the version that wrote it, the file is left untouched"
    )]
    NewerVersion {
        /// Version in the file.
        found: u64,
        /// Newest version read here.
        newest: u64,
    },
    /// `version 0` or `version 1`: no release writes such a line.
    #[error("manifest line 1: no version {found} was ever written with a version line; {RESTORE}")]
    UnknownVersion {
        /// Version in the file.
        found: u64,
    },
    /// The first line starts no version of the format.
    #[error("manifest line 1: this is not a moon manifest; {RESTORE}")]
    NotAManifest,
    /// A line whose first word is not known in this version.
    #[error("manifest line {line}: unknown line {text:?}; {RESTORE}")]
    UnknownLine {
        /// Its number.
        line: usize,
        /// Its beginning.
        text: String,
    },
    /// A line that may stand once stands twice.
    #[error("manifest line {line}: `{keyword}` stands twice; {RESTORE}")]
    DuplicateLine {
        /// Number of the second one.
        line: usize,
        /// Its first word, with the number that repeats.
        keyword: String,
    },
    /// A known line at a place where no version writes it.
    #[error("manifest line {line}: `{keyword}` does not belong behind the line before; {RESTORE}")]
    OutOfOrder {
        /// Its number.
        line: usize,
        /// Its first word.
        keyword: &'static str,
    },
    /// There is no `seq` line.
    #[error("manifest line {line}: the `seq` line is missing; {RESTORE}")]
    MissingSeq {
        /// Where the manifest ends.
        line: usize,
    },
    /// Another line that every manifest of this version has is missing.
    #[error("manifest line {line}: the `{keyword}` line is missing; {RESTORE}")]
    MissingLine {
        /// Where the manifest ends.
        line: usize,
        /// First word of the missing line.
        keyword: &'static str,
    },
    /// A line with a known first word that is not written as that version writes it.
    #[error("manifest line {line}: expected `{expected}`; {RESTORE}")]
    Malformed {
        /// Its number.
        line: usize,
        /// How such a line looks.
        expected: &'static str,
    },
    /// A number that is not plain decimal without sign or leading zero, or does not fit.
    #[error("manifest line {line}: {field} is not a plain decimal number in range; {RESTORE}")]
    BadNumber {
        /// Its line.
        line: usize,
        /// What the number stands for.
        field: &'static str,
    },
    /// A replication id that is not 40 lowercase hexadecimal digits.
    #[error("manifest line {line}: a replication id is 40 digits of 0-9a-f; {RESTORE}")]
    BadReplicationId {
        /// Its line.
        line: usize,
    },
    /// v1 names a file that is not the one its `seq` gives.
    #[error("manifest line {line}: the file name does not follow from `seq`; {RESTORE}")]
    FileName {
        /// Its line.
        line: usize,
    },
    /// `shards K` with a K that no server runs.
    #[error("manifest line {line}: {found} shards, where 1 to {count_max} can be; {RESTORE}")]
    ShardsOutOfRange {
        /// The `shards` line.
        line: usize,
        /// Count found.
        found: u64,
        /// Count allowed.
        count_max: u16,
    },
    /// `shards K` and the number of `shard` lines disagree.
    #[error("manifest line {line}: `shards` says {declared}, but {found} are listed; {RESTORE}")]
    ShardCountMismatch {
        /// The `shards` line.
        line: usize,
        /// K.
        declared: u16,
        /// `shard` lines found.
        found: usize,
    },
    /// Shard ids are not 0, 1, 2 and so on.
    #[error("manifest line {line}: shard {found} where shard {expected} belongs; {RESTORE}")]
    NonContiguousShardIds {
        /// The first line that is off.
        line: usize,
        /// The id that belongs there.
        expected: u16,
        /// The id found.
        found: u16,
    },
    /// The last line is not a checksum line, so bytes are missing or changed.
    #[error("manifest line {line}: the file does not end with its `crc32` line; {RESTORE}")]
    MissingCrc {
        /// The last line.
        line: usize,
    },
    /// The checksum does not match the bytes before it.
    #[error(
        "manifest line {line}: bad CRC, the file says {stored:08x} and its bytes give \
         {computed:08x}; {RESTORE}"
    )]
    BadCrc {
        /// The `crc32` line.
        line: usize,
        /// Checksum in the file.
        stored: u32,
        /// Checksum of the bytes before that line.
        computed: u32,
    },
    /// All lines are well formed, but do not fit together.
    #[error("manifest line {line}: {invariant}; {RESTORE}")]
    Inconsistent {
        /// Where the manifest ends.
        line: usize,
        /// What does not hold.
        invariant: InvariantError,
    },
}

/// Which invariant of [`AofManifest`](crate::AofManifest) does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvariantError {
    /// Only v1 has its files at the top level.
    #[error("the layout does not belong to the version")]
    Layout,
    /// No shard, or more than the version allows.
    #[error("the number of shards is out of range")]
    ShardCount,
    /// Shards are 0..K in order.
    #[error("the shard ids are not contiguous from 0")]
    ShardIds,
    /// Generations ascend, and there is always one to append to.
    #[error("base or incr generations do not ascend, or there is no incr")]
    Generations,
    /// An end lies before its beginning.
    #[error("an incr ends before its first position")]
    IncrEnd,
    /// `seq` is the highest generation named, and generations start at 1.
    #[error("`seq` is not the highest generation named, or one is 0")]
    Seq,
    /// What is being prepared is not in use.
    #[error("the generation being prepared is not above the ones named")]
    Preparing,
    /// The current id comes last and is the only one without an end.
    #[error("there are not 1 to 8 distinct replication ids of which only the last has no end")]
    ReplicationIds,
    /// v1 and v2 cannot say more than one generation and its shards.
    #[error("there is more than this version can hold")]
    Legacy,
}

/// The configured shard count is not the one the directory was written with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "ERR shard count changed (manifest={manifest}, config={config}); refusing to start to avoid \
     data loss. See docs/runbooks/shard-count-change.md"
)]
pub struct ShardCountError {
    /// Shards of the directory.
    pub manifest: u16,
    /// Shards configured.
    pub config: u16,
}
