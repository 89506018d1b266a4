//! The manifest of a multi-part log of Redis 7.
//!
//! A line is a list of names and values: `file NAME seq N type T`, quoted as in redis.conf. Type
//! `b` is the base, of which there is at most one; `i` is a log on top of it, in the order of
//! `seq`; `h` is history that Redis will delete. Lines that begin with `#` are comments, and
//! names that are not known are left to newer versions.

use crate::error::ImportError;
use moon_resp::split_args;
use std::path::{Path, PathBuf};

/// Bytes of a manifest at most.
pub const MANIFEST_BYTES_MAX: usize = 1 << 20;

/// What a manifest names, to be loaded in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RedisManifest {
    /// The base: RDB, or a log.
    pub base: Option<String>,
    /// Logs, oldest first.
    pub incrs: Vec<String>,
}

/// What is wrong with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RedisManifestFault {
    /// There is no line that names a file.
    #[error("the manifest names no file")]
    Empty,
    /// More than a manifest has.
    #[error("the manifest is larger than any that Redis writes")]
    TooLarge,
    /// The last line has no end.
    #[error("the line is cut off")]
    CutOff,
    /// Not a list of names and values.
    #[error("this is not a line of a manifest of Redis")]
    Malformed,
    /// `file`, `seq` or `type` is missing, or not what it can be.
    #[error("`{0}` is missing or wrong")]
    Field(&'static str),
    /// The name is a path.
    #[error("the file name leads to another directory")]
    Path,
    /// There is a base already.
    #[error("a second base")]
    SecondBase,
    /// Logs must be in order.
    #[error("`seq` does not ascend")]
    Order,
}

impl RedisManifest {
    /// Reads a manifest's bytes. `path` is for errors.
    ///
    /// # Errors
    /// [`ImportError::RedisManifest`], with the line.
    pub fn parse(path: &Path, bytes: &[u8]) -> Result<RedisManifest, ImportError> {
        let wrong = |line, fault| ImportError::RedisManifest {
            path: path.to_owned(),
            line,
            fault,
        };
        if bytes.len() > MANIFEST_BYTES_MAX {
            return Err(wrong(1, RedisManifestFault::TooLarge));
        }
        let mut manifest = RedisManifest::default();
        let mut newest = 0;
        let mut lines = 0;
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            lines += 1;
            manifest
                .line(line, &mut newest)
                .map_err(|fault| wrong(lines, fault))?;
        }
        if manifest.base.is_none() && manifest.incrs.is_empty() {
            return Err(wrong(lines.max(1), RedisManifestFault::Empty));
        }
        Ok(manifest)
    }

    /// The files, in the order in which they are loaded.
    #[must_use]
    pub fn files(&self, dir: &Path) -> Vec<PathBuf> {
        let names = self.base.iter().chain(&self.incrs);
        names.map(|name| dir.join(name)).collect()
    }

    fn line(&mut self, line: &[u8], newest: &mut u64) -> Result<(), RedisManifestFault> {
        if line.starts_with(b"#") {
            return Ok(());
        }
        let Some(line) = line.strip_suffix(b"\n") else {
            return Err(RedisManifestFault::CutOff);
        };
        let words = split_args(line).map_err(|_| RedisManifestFault::Malformed)?;
        if words.is_empty() || words.len() % 2 != 0 {
            return Err(RedisManifestFault::Malformed);
        }
        let words = words.as_args();
        let value = |name: &'static str| {
            (0..words.len())
                .step_by(2)
                .find(|at| words.at(*at).eq_ignore_ascii_case(name.as_bytes()))
                .and_then(|at| std::str::from_utf8(words.at(at + 1)).ok())
                .ok_or(RedisManifestFault::Field(name))
        };
        let file = value("file")?;
        if file.is_empty() || file.contains('/') || file == "." || file == ".." {
            return Err(RedisManifestFault::Path);
        }
        let seq: u64 = value("seq")?
            .parse()
            .map_err(|_| RedisManifestFault::Field("seq"))?;
        if seq == 0 {
            return Err(RedisManifestFault::Field("seq"));
        }
        match value("type")? {
            "b" if self.base.is_some() => Err(RedisManifestFault::SecondBase),
            "b" => {
                self.base = Some(file.to_owned());
                Ok(())
            }
            "i" if seq <= *newest => Err(RedisManifestFault::Order),
            "i" => {
                *newest = seq;
                self.incrs.push(file.to_owned());
                Ok(())
            }
            "h" => Ok(()),
            _ => Err(RedisManifestFault::Field("type")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<RedisManifest, (usize, RedisManifestFault)> {
        match RedisManifest::parse(Path::new("m"), text.as_bytes()) {
            Ok(manifest) => Ok(manifest),
            Err(ImportError::RedisManifest { line, fault, .. }) => Err((line, fault)),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn files_come_in_order_and_history_is_left_out() {
        let text = "# comment\nfile a.2.base.rdb seq 2 type b\nfile a.1.incr.aof seq 1 type h\n\
                    file \"a \\x41.2.incr.aof\" seq 2 type i startoffset 7\n\
                    SEQ 5 TYPE i FILE a.5.incr.aof\n";
        let manifest = parse(text).unwrap();
        assert_eq!(manifest.base.as_deref(), Some("a.2.base.rdb"));
        assert_eq!(manifest.incrs, ["a A.2.incr.aof", "a.5.incr.aof"]);
        let files = manifest.files(Path::new("/d"));
        assert_eq!(files[0], Path::new("/d/a.2.base.rdb"));
        assert_eq!(files.len(), 3);
    }

    #[test]
    fn what_redis_would_not_load_is_refused_with_its_line() {
        use RedisManifestFault as F;
        for (text, expected) in [
            ("", (1, F::Empty)),
            ("# nothing\n", (1, F::Empty)),
            ("file a seq 1 type b", (1, F::CutOff)),
            ("\n", (1, F::Malformed)),
            ("file a seq 1 type\n", (1, F::Malformed)),
            ("file \"a seq 1 type b\n", (1, F::Malformed)),
            ("seq 1 type b\n", (1, F::Field("file"))),
            ("file a type b\n", (1, F::Field("seq"))),
            ("file a seq x type b\n", (1, F::Field("seq"))),
            ("file a seq 0 type b\n", (1, F::Field("seq"))),
            ("file a seq 1 type x\n", (1, F::Field("type"))),
            ("file ../a seq 1 type b\n", (1, F::Path)),
            (
                "file a seq 1 type b\nfile b seq 2 type b\n",
                (2, F::SecondBase),
            ),
            ("file a seq 2 type i\nfile b seq 2 type i\n", (2, F::Order)),
        ] {
            assert_eq!(parse(text).unwrap_err(), expected, "{text:?}");
        }
    }
}
