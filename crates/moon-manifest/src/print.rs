//! Printing a manifest, in the format of its version.
//!
//! The order of the lines is fixed, so equal manifests are equal bytes.

use crate::layout::{FileKind, MIGRATED_DIR, file_name};
use crate::manifest::{AofLayout, AofManifest, ManifestVersion};
use std::fmt::Write as _;

impl AofManifest {
    /// The manifest's bytes, in the format of its version: what [`AofManifest::parse`] reads.
    ///
    /// # Panics
    /// If an invariant of the type does not hold: a manifest that the next start would refuse
    /// must not replace a good one.
    #[must_use]
    pub fn to_text(&self) -> String {
        if let Err(error) = self.check() {
            panic!("a manifest that no start would accept: {error}");
        }
        let mut text = String::new();
        // Writing to a String cannot fail.
        let written = match self.version {
            ManifestVersion::V1 => self.write_v1(&mut text),
            ManifestVersion::V2 => self.write_v2(&mut text),
            ManifestVersion::V3 => self.write_v3(&mut text),
        };
        debug_assert!(written.is_ok(), "a String takes every write");
        text
    }

    fn write_v1(&self, text: &mut String) -> std::fmt::Result {
        writeln!(text, "seq {}", self.seq)?;
        let dir = match self.layout {
            AofLayout::TopLevel => "",
            AofLayout::PerShard => MIGRATED_DIR,
        };
        writeln!(text, "base {dir}{}", file_name(FileKind::Base, self.seq))?;
        writeln!(text, "incr {dir}{}", file_name(FileKind::Incr, self.seq))
    }

    fn write_v2(&self, text: &mut String) -> std::fmt::Result {
        writeln!(text, "version 2")?;
        writeln!(text, "seq {}", self.seq)?;
        writeln!(text, "shards {}", self.shards.len())?;
        self.write_shards(text)
    }

    fn write_v3(&self, text: &mut String) -> std::fmt::Result {
        writeln!(text, "version 3")?;
        writeln!(text, "seq {}", self.seq)?;
        writeln!(text, "shards {}", self.shards.len())?;
        writeln!(text, "history {}", self.history)?;
        for entry in &self.replication_ids {
            write!(text, "replid {}", entry.id)?;
            if let Some(end) = entry.end {
                write!(text, " end {end}")?;
            }
            writeln!(text)?;
        }
        for base in &self.bases {
            writeln!(text, "base {} cut {}", base.seq, base.cut)?;
        }
        for incr in &self.incrs {
            write!(text, "incr {} first {}", incr.seq, incr.first)?;
            if let Some(end) = incr.end {
                write!(text, " end {end}")?;
            }
            writeln!(text)?;
        }
        self.write_shards(text)?;
        if let Some(lsn) = self.clean_stop {
            writeln!(text, "clean {lsn}")?;
        }
        if let Some(lsn) = self.closed_at {
            writeln!(text, "closed at {lsn}")?;
        }
        if let Some(seq) = self.preparing {
            writeln!(text, "preparing {seq}")?;
        }
        let crc = crc32fast::hash(text.as_bytes());
        writeln!(text, "crc32 {crc:08x}")
    }

    fn write_shards(&self, text: &mut String) -> std::fmt::Result {
        for shard in &self.shards {
            writeln!(text, "shard {} max_lsn {}", shard.shard_id, shard.max_lsn)?;
        }
        Ok(())
    }
}
