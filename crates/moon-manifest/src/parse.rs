//! Reading a manifest, strictly: a file is accepted only if some version prints exactly its bytes.
//!
//! The first line decides the version. v1 has no version line and starts with `seq`; from v3 on
//! the last line is a CRC32 over all bytes before it, checked before anything else is believed.
//! Then every line is looked up in its version's table of keywords, which fixes order and number.

use crate::error::ManifestError;
use crate::layout::{FileKind, MIGRATED_DIR, parse_file_name, strict_number};
use crate::manifest::{
    AofLayout, AofManifest, BaseLine, IncrLine, MANIFEST_BYTES_MAX, ManifestVersion, ReplicationId,
    ReplicationIdEntry, ShardManifest,
};
use moon_core::{Generation, Lsn, ShardCount};

const NEWEST_VERSION: u64 = 3;

/// One kind of line in one version. The tables are in file order.
struct Rule {
    keyword: &'static str,
    /// How the line looks, for the error text.
    form: &'static str,
    times: Times,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Times {
    Once,
    AtMostOnce,
    Any,
}

const fn rule(keyword: &'static str, form: &'static str, times: Times) -> Rule {
    Rule {
        keyword,
        form,
        times,
    }
}

const V1_RULES: &[Rule] = &[
    rule("seq", "seq N", Times::Once),
    rule("base", "base moon.aof.N.base.rdb", Times::Once),
    rule("incr", "incr moon.aof.N.incr.aof", Times::Once),
];

const V2_RULES: &[Rule] = &[
    rule("version", "version 2", Times::Once),
    rule("seq", "seq N", Times::Once),
    rule("shards", "shards K", Times::Once),
    rule("shard", "shard I max_lsn L", Times::Any),
];

const V3_RULES: &[Rule] = &[
    rule("version", "version 3", Times::Once),
    rule("seq", "seq N", Times::Once),
    rule("shards", "shards K", Times::Once),
    rule("history", "history H", Times::Once),
    rule("replid", "replid ID` or `replid ID end L", Times::Any),
    rule("base", "base N cut L", Times::Any),
    rule(
        "incr",
        "incr N first L` or `incr N first L end L",
        Times::Any,
    ),
    rule("shard", "shard I max_lsn L", Times::Any),
    rule("clean", "clean L", Times::AtMostOnce),
    rule("closed", "closed at L", Times::AtMostOnce),
    rule("preparing", "preparing N", Times::AtMostOnce),
];

impl AofManifest {
    /// Reads a manifest's bytes.
    ///
    /// # Errors
    /// One [`ManifestError`] variant per fault. Nothing is repaired or skipped.
    pub fn parse(text: &[u8]) -> Result<AofManifest, ManifestError> {
        if text.is_empty() {
            return Err(ManifestError::Empty);
        }
        if text.len() > MANIFEST_BYTES_MAX {
            return Err(ManifestError::TooLarge {
                bytes: text.len(),
                bytes_max: MANIFEST_BYTES_MAX,
            });
        }
        let mut lines: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
        if lines.pop() != Some(b"") {
            let line = lines.len() + 1;
            return Err(ManifestError::Truncated { line });
        }
        let (version, rules) = match detect_version(lines[0])? {
            Detected::V1 => (ManifestVersion::V1, V1_RULES),
            Detected::V2 => (ManifestVersion::V2, V2_RULES),
            Detected::V3 => {
                check_crc(text, &lines)?;
                lines.pop();
                (ManifestVersion::V3, V3_RULES)
            }
            Detected::Newer(found) => return Err(newer_or_damaged(found, text, &lines)),
        };
        let manifest = Reader::new(version, rules).read(&lines)?;
        manifest
            .check()
            .map_err(|invariant| ManifestError::Inconsistent {
                line: lines.len(),
                invariant,
            })?;
        Ok(manifest)
    }
}

enum Detected {
    V1,
    V2,
    V3,
    Newer(u64),
}

fn detect_version(first: &[u8]) -> Result<Detected, ManifestError> {
    if let Some(number) = first.strip_prefix(b"version ") {
        let field = "the version";
        return match strict_number(number).ok_or(ManifestError::BadNumber { line: 1, field })? {
            2 => Ok(Detected::V2),
            3 => Ok(Detected::V3),
            found if found > NEWEST_VERSION => Ok(Detected::Newer(found)),
            found => Err(ManifestError::UnknownVersion { found }),
        };
    }
    let keyword = first.split(|byte| *byte == b' ').next().unwrap_or_default();
    let known = V1_RULES.iter().any(|r| r.keyword.as_bytes() == keyword);
    // `version` without a number is a damaged v2 or v3, any other word some other file.
    match keyword {
        b"version" => Err(ManifestError::Malformed {
            line: 1,
            expected: "version N",
        }),
        _ if known => Ok(Detected::V1),
        _ => Err(ManifestError::NotAManifest),
    }
}

/// Versions above 3 keep the first and the last line, so a flipped bit in the version number of a
/// v3 file shows in the checksum and is not mistaken for a newer version.
fn newer_or_damaged(found: u64, text: &[u8], lines: &[&[u8]]) -> ManifestError {
    match check_crc(text, lines) {
        Err(damaged @ ManifestError::BadCrc { .. }) => damaged,
        _ => ManifestError::NewerVersion {
            found,
            newest: NEWEST_VERSION,
        },
    }
}

fn check_crc(text: &[u8], lines: &[&[u8]]) -> Result<(), ManifestError> {
    let line = lines.len();
    let missing = ManifestError::MissingCrc { line };
    let last = lines.last().copied().unwrap_or_default();
    let stored = last.strip_prefix(b"crc32 ").and_then(parse_crc);
    let Some(stored) = stored else {
        return Err(missing);
    };
    // The checksum line and its line end are no part of what it covers.
    let covered = &text[..text.len() - last.len() - 1];
    let computed = crc32fast::hash(covered);
    if stored == computed {
        return Ok(());
    }
    Err(ManifestError::BadCrc {
        line,
        stored,
        computed,
    })
}

/// Eight lowercase digits: a second spelling would let a flipped bit pass.
fn parse_crc(digits: &[u8]) -> Option<u32> {
    let plain = digits.len() == 8
        && digits
            .iter()
            .all(|d| matches!(d, b'0'..=b'9' | b'a'..=b'f'));
    let text = std::str::from_utf8(digits).ok().filter(|_| plain)?;
    u32::from_str_radix(text, 16).ok()
}

/// Collects the lines of one manifest.
struct Reader {
    version: ManifestVersion,
    rules: &'static [Rule],
    /// How often each rule's line came, by place in `rules`.
    seen: Vec<usize>,
    /// Place in `rules` of the last line's rule.
    reached: usize,
    /// v1 says it with its file names; all later ones have one.
    layout: AofLayout,
    seq: Generation,
    history: u64,
    /// `shards K` and its line.
    declared: (u16, usize),
    replication_ids: Vec<ReplicationIdEntry>,
    bases: Vec<BaseLine>,
    incrs: Vec<IncrLine>,
    shards: Vec<ShardManifest>,
    clean_stop: Option<Lsn>,
    closed_at: Option<Lsn>,
    preparing: Option<Generation>,
}

impl Reader {
    fn new(version: ManifestVersion, rules: &'static [Rule]) -> Reader {
        Reader {
            version,
            rules,
            seen: vec![0; rules.len()],
            reached: 0,
            layout: AofLayout::PerShard,
            seq: Generation(0),
            history: 0,
            declared: (0, 0),
            replication_ids: Vec::new(),
            bases: Vec::new(),
            incrs: Vec::new(),
            shards: Vec::new(),
            clean_stop: None,
            closed_at: None,
            preparing: None,
        }
    }

    fn read(mut self, lines: &[&[u8]]) -> Result<AofManifest, ManifestError> {
        for (index, bytes) in lines.iter().enumerate() {
            let words: Vec<&[u8]> = bytes.split(|byte| *byte == b' ').collect();
            let line = index + 1;
            let place = self.admit(line, bytes, &words)?;
            let rule = &self.rules[place];
            self.line(&Words { line, words, rule })?;
        }
        self.require_all(lines.len())?;
        self.finish()
    }

    /// Looks the line's rule up, and checks its place and number.
    fn admit(
        &mut self,
        line: usize,
        bytes: &[u8],
        words: &[&[u8]],
    ) -> Result<usize, ManifestError> {
        let keyword = words.first().copied().unwrap_or_default();
        let place = self
            .rules
            .iter()
            .position(|rule| rule.keyword.as_bytes() == keyword);
        let Some(place) = place else {
            // Enough to recognise the line, never a whole megabyte in a log.
            let shown = &bytes[..bytes.len().min(60)];
            return Err(ManifestError::UnknownLine {
                line,
                text: String::from_utf8_lossy(shown).into_owned(),
            });
        };
        let rule = &self.rules[place];
        if rule.times != Times::Any && self.seen[place] > 0 {
            let keyword = rule.keyword.to_owned();
            return Err(ManifestError::DuplicateLine { line, keyword });
        }
        // A missing `seq` is named as such, not as whatever follows in its place.
        if place < self.reached {
            let keyword = rule.keyword;
            return Err(ManifestError::OutOfOrder { line, keyword });
        }
        self.seen[place] += 1;
        self.reached = place;
        Ok(place)
    }

    fn line(&mut self, words: &Words<'_>) -> Result<(), ManifestError> {
        match (words.rule.keyword, self.version) {
            ("version", _) => words.shape(&["version", "_"])?,
            ("seq", _) => {
                words.shape(&["seq", "_"])?;
                self.seq = Generation(words.number(1, "seq")?);
            }
            ("base", ManifestVersion::V1) => {
                self.layout = words.file_name(FileKind::Base, self.seq)?;
                self.legacy_base();
            }
            ("incr", ManifestVersion::V1) => {
                let line = words.line;
                if words.file_name(FileKind::Incr, self.seq)? != self.layout {
                    return Err(ManifestError::FileName { line });
                }
                self.legacy_incr();
                self.shards.push(ShardManifest {
                    shard_id: 0,
                    max_lsn: 0,
                });
                self.declared = (1, words.line);
            }
            ("shards", _) => self.shards_line(words)?,
            ("history", _) => {
                words.shape(&["history", "_"])?;
                self.history = words.number(1, "history")?;
            }
            ("replid", _) => self.replid_line(words)?,
            ("base", _) => self.base_line(words)?,
            ("incr", _) => self.incr_line(words)?,
            ("shard", _) => self.shard_line(words)?,
            ("clean", _) => {
                words.shape(&["clean", "_"])?;
                self.clean_stop = Some(words.lsn(1, "the clean-stop mark")?);
            }
            ("closed", _) => {
                words.shape(&["closed", "at", "_"])?;
                self.closed_at = Some(words.lsn(2, "the closing mark")?);
            }
            _ => {
                words.shape(&["preparing", "_"])?;
                self.preparing = Some(Generation(words.number(1, "preparing")?));
            }
        }
        Ok(())
    }

    fn shards_line(&mut self, words: &Words<'_>) -> Result<(), ManifestError> {
        words.shape(&["shards", "_"])?;
        let found = words.number(1, "shards")?;
        let count_max = match self.version {
            ManifestVersion::V3 => ShardCount::MAX,
            _ => u16::MAX,
        };
        let line = words.line;
        match u16::try_from(found) {
            Ok(count) if (1..=count_max).contains(&count) => self.declared = (count, line),
            _ => {
                return Err(ManifestError::ShardsOutOfRange {
                    line,
                    found,
                    count_max,
                });
            }
        }
        if self.version == ManifestVersion::V2 {
            self.legacy_base();
            self.legacy_incr();
        }
        Ok(())
    }

    fn replid_line(&mut self, words: &Words<'_>) -> Result<(), ManifestError> {
        let end = words.optional_end(&["replid", "_"])?;
        let line = words.line;
        let id =
            ReplicationId::new(words.words[1]).ok_or(ManifestError::BadReplicationId { line })?;
        if self.replication_ids.iter().any(|entry| entry.id == id) {
            return Err(words.duplicate());
        }
        self.replication_ids.push(ReplicationIdEntry { id, end });
        Ok(())
    }

    fn base_line(&mut self, words: &Words<'_>) -> Result<(), ManifestError> {
        words.shape(&["base", "_", "cut", "_"])?;
        let seq = Generation(words.number(1, "the base's seq")?);
        let cut = words.lsn(3, "the base's cut")?;
        if self.bases.iter().any(|base| base.seq == seq) {
            return Err(words.duplicate());
        }
        self.bases.push(BaseLine { seq, cut });
        Ok(())
    }

    fn incr_line(&mut self, words: &Words<'_>) -> Result<(), ManifestError> {
        let end = words.optional_end(&["incr", "_", "first", "_"])?;
        let seq = Generation(words.number(1, "the incr's seq")?);
        let first = words.lsn(3, "the incr's first position")?;
        if self.incrs.iter().any(|incr| incr.seq == seq) {
            return Err(words.duplicate());
        }
        self.incrs.push(IncrLine { seq, first, end });
        Ok(())
    }

    fn shard_line(&mut self, words: &Words<'_>) -> Result<(), ManifestError> {
        words.shape(&["shard", "_", "max_lsn", "_"])?;
        let line = words.line;
        let field = "the shard id";
        let shard_id = u16::try_from(words.number(1, field)?)
            .map_err(|_| ManifestError::BadNumber { line, field })?;
        let max_lsn = words.number(3, "max_lsn")?;
        // Ids so far are 0, 1, 2 ..., so a smaller one was there before.
        let expected = u16::try_from(self.shards.len())
            .map_err(|_| ManifestError::BadNumber { line, field })?;
        if shard_id < expected {
            return Err(words.duplicate());
        }
        if shard_id > expected {
            return Err(ManifestError::NonContiguousShardIds {
                line,
                expected,
                found: shard_id,
            });
        }
        self.shards.push(ShardManifest { shard_id, max_lsn });
        Ok(())
    }

    /// v1 and v2 always have a base and an incr of their one generation.
    fn legacy_base(&mut self) {
        self.bases.push(BaseLine {
            seq: self.seq,
            cut: Lsn::ZERO,
        });
    }

    fn legacy_incr(&mut self) {
        self.incrs.push(IncrLine {
            seq: self.seq,
            first: Lsn::ZERO,
            end: None,
        });
    }

    fn require_all(&self, line: usize) -> Result<(), ManifestError> {
        for (rule, seen) in self.rules.iter().zip(&self.seen) {
            if rule.times == Times::Once && *seen == 0 {
                return Err(match rule.keyword {
                    "seq" => ManifestError::MissingSeq { line },
                    keyword => ManifestError::MissingLine { line, keyword },
                });
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<AofManifest, ManifestError> {
        let (declared, line) = self.declared;
        let found = self.shards.len();
        if found != usize::from(declared) {
            return Err(ManifestError::ShardCountMismatch {
                line,
                declared,
                found,
            });
        }
        Ok(AofManifest {
            version: self.version,
            layout: self.layout,
            seq: self.seq,
            history: self.history,
            replication_ids: self.replication_ids,
            bases: self.bases,
            incrs: self.incrs,
            shards: self.shards,
            clean_stop: self.clean_stop,
            closed_at: self.closed_at,
            preparing: self.preparing,
        })
    }
}

/// One line, split at single spaces, with its rule.
struct Words<'a> {
    line: usize,
    words: Vec<&'a [u8]>,
    rule: &'static Rule,
}

impl Words<'_> {
    /// The line has exactly these words, `_` standing for any one.
    fn shape(&self, pattern: &[&str]) -> Result<(), ManifestError> {
        let fits = self.words.len() == pattern.len() && self.starts_with(pattern);
        fits.then_some(()).ok_or(self.malformed())
    }

    /// The line has exactly these words, or these and `end L`, which is returned.
    fn optional_end(&self, pattern: &[&str]) -> Result<Option<Lsn>, ManifestError> {
        let at = pattern.len();
        match self.words.get(at..) {
            Some([]) if self.starts_with(pattern) => Ok(None),
            Some([keyword, _]) if *keyword == b"end" && self.starts_with(pattern) => {
                self.lsn(at + 1, "the end").map(Some)
            }
            _ => Err(self.malformed()),
        }
    }

    fn starts_with(&self, pattern: &[&str]) -> bool {
        pattern
            .iter()
            .zip(&self.words)
            .all(|(expected, word)| *expected == "_" || expected.as_bytes() == *word)
    }

    fn number(&self, at: usize, field: &'static str) -> Result<u64, ManifestError> {
        let word = self.words.get(at).copied().unwrap_or_default();
        let line = self.line;
        strict_number(word).ok_or(ManifestError::BadNumber { line, field })
    }

    fn lsn(&self, at: usize, field: &'static str) -> Result<Lsn, ManifestError> {
        self.number(at, field).map(Lsn)
    }

    /// v1 stores names that it could have derived; they must be the derived ones. Says where
    /// the file lies.
    fn file_name(&self, kind: FileKind, seq: Generation) -> Result<AofLayout, ManifestError> {
        self.shape(&[self.rule.keyword, "_"])?;
        let path = std::str::from_utf8(self.words[1]).unwrap_or_default();
        let (layout, name) = match path.strip_prefix(MIGRATED_DIR) {
            Some(name) => (AofLayout::PerShard, name),
            None => (AofLayout::TopLevel, path),
        };
        let line = self.line;
        match parse_file_name(name) == Some((kind, seq)) {
            true => Ok(layout),
            false => Err(ManifestError::FileName { line }),
        }
    }

    fn malformed(&self) -> ManifestError {
        ManifestError::Malformed {
            line: self.line,
            expected: self.rule.form,
        }
    }

    fn duplicate(&self) -> ManifestError {
        let subject = self.words.get(1).copied().unwrap_or_default();
        let subject = String::from_utf8_lossy(subject);
        ManifestError::DuplicateLine {
            line: self.line,
            keyword: format!("{} {subject}", self.rule.keyword),
        }
    }
}

#[cfg(test)]
#[path = "parse/tests.rs"]
mod tests;
