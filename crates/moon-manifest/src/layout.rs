//! Where the files lie. Every path follows from shard and generation; none is stored.
//!
//! ```text
//! <dir>/<appenddirname>/
//!   moon.aof.manifest
//!   moon.aof.lock                            held by whoever changes the directory
//!   moon.aof.manifest.tmp                    while the manifest is being replaced
//!   moon.aof.lock                            locked by whoever uses the directory
//!   moon.aof.preparing                       while the first manifest of version 3 is on its way
//!   shard-0/moon.aof.<seq>.base.rdb          v2, v3, and v1 after that
//!   shard-0/moon.aof.<seq>.incr.aof
//!   moon.aof.<seq>.base.rdb                  v1, until it is migrated in place
//!   moon.aof.<seq>.incr.aof
//!   truncated/shard-0.moon.aof.<seq>.incr.aof.<lsn>    what recovery cut off
//! ```

use crate::manifest::{AofLayout, AofManifest};
use moon_core::{Generation, Lsn, ShardId};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// Name of the manifest in the append-only directory.
pub const MANIFEST_FILE_NAME: &str = "moon.aof.manifest";

/// Name under which a new manifest is written and synced before it takes the manifest's place.
pub const MANIFEST_TEMP_FILE_NAME: &str = "moon.aof.manifest.tmp";

/// Name of the marker that is there while files are written for a directory whose manifest has no
/// `preparing` line: there is none, or it is of version 1 or 2. Nothing in files that no manifest
/// names counts then; without the marker they belong to a manifest that is lost.
pub const PREPARING_FILE_NAME: &str = "moon.aof.preparing";

/// Name of the file whose lock says that somebody uses the directory.
pub const LOCK_FILE_NAME: &str = "moon.aof.lock";

/// Name of the directory for tails that recovery cut off.
pub const TRUNCATED_DIR_NAME: &str = "truncated";

/// In front of the file names of a v1 manifest whose files were migrated in place.
pub(crate) const MIGRATED_DIR: &str = "shard-0/";

/// What a file of a generation holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FileKind {
    /// A snapshot at a cut, RDB.
    Base,
    /// A segment: what was written from a position on.
    Incr,
}

impl FileKind {
    fn suffix(self) -> &'static str {
        match self {
            FileKind::Base => ".base.rdb",
            FileKind::Incr => ".incr.aof",
        }
    }
}

/// The paths below one append-only directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AofPaths {
    root: PathBuf,
}

impl AofPaths {
    /// Paths below `root`, which is `<dir>/<appenddirname>`.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> AofPaths {
        AofPaths { root: root.into() }
    }

    /// The append-only directory itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The manifest.
    #[must_use]
    pub fn manifest(&self) -> PathBuf {
        self.root.join(MANIFEST_FILE_NAME)
    }

    /// The manifest's temporary file: same directory, so that a rename replaces atomically.
    #[must_use]
    pub fn manifest_temp(&self) -> PathBuf {
        self.root.join(MANIFEST_TEMP_FILE_NAME)
    }

    /// The marker of a directory that is being prepared.
    #[must_use]
    pub fn preparing(&self) -> PathBuf {
        self.root.join(PREPARING_FILE_NAME)
    }

    /// The file whose lock says that somebody uses the directory.
    #[must_use]
    pub fn lock(&self) -> PathBuf {
        self.root.join(LOCK_FILE_NAME)
    }

    /// The directory of one shard.
    #[must_use]
    pub fn shard_dir(&self, shard: ShardId) -> PathBuf {
        self.root.join(shard_dir_name(shard))
    }

    /// A shard's base.
    #[must_use]
    pub fn base(&self, shard: ShardId, seq: Generation) -> PathBuf {
        self.shard_dir(shard).join(file_name(FileKind::Base, seq))
    }

    /// A shard's segment.
    #[must_use]
    pub fn incr(&self, shard: ShardId, seq: Generation) -> PathBuf {
        self.shard_dir(shard).join(file_name(FileKind::Incr, seq))
    }

    /// The base of the v1 layout.
    #[must_use]
    pub fn legacy_base(&self, seq: Generation) -> PathBuf {
        self.root.join(file_name(FileKind::Base, seq))
    }

    /// The incr file of the v1 layout.
    #[must_use]
    pub fn legacy_incr(&self, seq: Generation) -> PathBuf {
        self.root.join(file_name(FileKind::Incr, seq))
    }

    /// The base and the incr file of a v1 log: at the top, or, migrated in place, shard 0's.
    #[must_use]
    pub fn version_1(&self, layout: AofLayout, seq: Generation) -> [PathBuf; 2] {
        match layout {
            AofLayout::TopLevel => [self.legacy_base(seq), self.legacy_incr(seq)],
            AofLayout::PerShard => [self.base(ShardId(0), seq), self.incr(ShardId(0), seq)],
        }
    }

    /// The directory for tails that recovery cut off.
    #[must_use]
    pub fn truncated_dir(&self) -> PathBuf {
        self.root.join(TRUNCATED_DIR_NAME)
    }

    /// The sidecar for what recovery cut off a segment at position `at`. The position is part of
    /// the name, so a second recovery of the same segment does not overwrite the first one's.
    #[must_use]
    pub fn truncated_tail(&self, shard: ShardId, seq: Generation, at: Lsn) -> PathBuf {
        let dir = shard_dir_name(shard);
        let file = file_name(FileKind::Incr, seq);
        self.truncated_dir().join(format!("{dir}.{file}.{at}"))
    }
}

/// `shard-<i>`.
#[must_use]
pub fn shard_dir_name(shard: ShardId) -> String {
    format!("shard-{}", shard.0)
}

/// The shard whose directory is named `name`; `None` if it is no such name.
#[must_use]
pub fn parse_shard_dir_name(name: &str) -> Option<ShardId> {
    let digits = name.strip_prefix("shard-")?;
    let shard = u16::try_from(strict_number(digits.as_bytes())?).ok()?;
    Some(ShardId(shard))
}

/// `moon.aof.<seq>.base.rdb` or `moon.aof.<seq>.incr.aof`.
#[must_use]
pub fn file_name(kind: FileKind, seq: Generation) -> String {
    format!("moon.aof.{seq}{}", kind.suffix())
}

/// What a file named `name` holds; `None` if [`file_name`] never gives this name.
#[must_use]
pub fn parse_file_name(name: &str) -> Option<(FileKind, Generation)> {
    let rest = name.strip_prefix("moon.aof.")?;
    [FileKind::Base, FileKind::Incr]
        .into_iter()
        .find_map(|kind| {
            let digits = rest.strip_suffix(kind.suffix())?;
            let seq = strict_number(digits.as_bytes()).filter(|seq| *seq > 0)?;
            Some((kind, Generation(seq)))
        })
}

/// Whether an append-only directory holds v1's top-level layout. A pure question: nothing is
/// migrated, and the caller has read the directory.
///
/// `manifest` is the manifest's bytes if there is one; `file_names` are the plain files directly
/// in the directory. A manifest that parses decides alone: beside a per-shard one, stray files
/// at the top level mean nothing. Without one, a base or incr at the top level means v1.
#[must_use]
pub fn is_legacy_top_level_layout<N: AsRef<OsStr>>(
    manifest: Option<&[u8]>,
    file_names: impl IntoIterator<Item = N>,
) -> bool {
    if let Some(Ok(manifest)) = manifest.map(AofManifest::parse) {
        return manifest.layout == AofLayout::TopLevel;
    }
    file_names
        .into_iter()
        .any(|name| name.as_ref().to_str().and_then(parse_file_name).is_some())
}

/// A decimal number as this crate prints it: digits only, no leading zero, fits `u64`.
pub(crate) fn strict_number(digits: &[u8]) -> Option<u64> {
    let plain = !digits.is_empty()
        && digits.iter().all(u8::is_ascii_digit)
        && (digits.len() == 1 || digits[0] != b'0');
    if !plain {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
#[path = "layout/tests.rs"]
mod tests;
