//! What lies at a path. Pure detection: files are looked at, nothing is changed.

use crate::error::{ImportError, read_error};
use moon_manifest::manifest::MANIFEST_BYTES_MAX;
use moon_manifest::{AofManifest, AofPaths, MANIFEST_FILE_NAME, ManifestVersion};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

/// Name of a snapshot where nobody says otherwise.
const DUMP_NAME: &str = "dump.rdb";
/// Name of a log of one file where nobody says otherwise.
pub(crate) const SINGLE_NAME: &str = "appendonly.aof";
/// Name of an append-only directory where nobody says otherwise.
const DIR_NAME: &str = "appendonlydir";
/// What RDB data begins with.
pub(crate) const RDB_MAGIC: &[u8] = b"REDIS";

/// Data to start from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A snapshot: an RDB file.
    Dump(PathBuf),
    /// A multi-part log of Redis 7.
    RedisMultiPart {
        /// The append-only directory.
        dir: PathBuf,
        /// The manifest in it.
        manifest: PathBuf,
    },
    /// A log of one file, as Redis kept it before version 7, with or without an RDB preamble.
    RedisSingleAof(PathBuf),
    /// A log of version 1 of this server: one base and one log in plain RESP.
    V1 {
        /// The append-only directory.
        dir: PathBuf,
        /// Its manifest.
        manifest: Box<AofManifest>,
    },
    /// A log of version 2 of this server: a base and a log in frames for each shard.
    V2 {
        /// The append-only directory.
        dir: PathBuf,
        /// Its manifest.
        manifest: Box<AofManifest>,
    },
    /// A log of this version.
    V3(PathBuf),
}

impl Source {
    /// What the source is, for people.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Source::Dump(_) => "RDB file",
            Source::RedisMultiPart { .. } => "append-only log of Redis in several parts",
            Source::RedisSingleAof(_) => "append-only log of Redis",
            Source::V1 { .. } => "append-only log of version 1",
            Source::V2 { .. } => "append-only log of version 2",
            Source::V3(_) => "append-only log of version 3",
        }
    }

    /// The file or directory that it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Source::Dump(path) | Source::RedisSingleAof(path) | Source::V3(path) => path,
            Source::RedisMultiPart { dir, .. }
            | Source::V1 { dir, .. }
            | Source::V2 { dir, .. } => dir,
        }
    }
}

/// What lies at `path`: a file, an append-only directory, or a data directory with Redis's
/// usual names in it.
///
/// # Errors
/// If nothing is there that could be loaded, if two sources are, or if a manifest is damaged.
pub fn detect(path: &Path) -> Result<Source, ImportError> {
    let metadata = fs::metadata(path).map_err(read_error(path))?;
    if !metadata.is_dir() {
        return file_source(path);
    }
    let mut found = append_only_dir(path)?;
    let nested = path.join(DIR_NAME);
    if nested.is_dir() {
        found.extend(append_only_dir(&nested)?);
    }
    for (name, source) in [
        (SINGLE_NAME, Source::RedisSingleAof as fn(PathBuf) -> Source),
        (DUMP_NAME, Source::Dump),
    ] {
        let file = path.join(name);
        if file.is_file() {
            found.push(source(file));
        }
    }
    let mut found = found.into_iter();
    match (found.next(), found.next()) {
        (None, _) => Err(ImportError::NothingThere {
            path: path.to_owned(),
        }),
        (Some(source), None) => Ok(source),
        (Some(first), Some(second)) => Err(ImportError::Ambiguous {
            first: first.path().to_owned(),
            second: second.path().to_owned(),
        }),
    }
}

/// The logs in an append-only directory: at most one of this server and one of Redis, or more
/// of Redis if it was used with several names.
pub(crate) fn append_only_dir(dir: &Path) -> Result<Vec<Source>, ImportError> {
    let names = names(dir)?;
    let mut found: Vec<Source> = own_log(dir, &names)?.into_iter().collect();
    for name in redis_manifests(&names) {
        found.push(Source::RedisMultiPart {
            dir: dir.to_owned(),
            manifest: dir.join(name),
        });
    }
    Ok(found)
}

/// The names in a directory that are text; nothing looked for here is anything else.
pub(crate) fn names(dir: &Path) -> Result<Vec<String>, ImportError> {
    let entries = fs::read_dir(dir).map_err(read_error(dir))?;
    let names: io::Result<Vec<_>> = entries.map(|entry| Ok(entry?.file_name())).collect();
    let names = names.map_err(read_error(dir))?;
    let mut names: Vec<String> = names
        .into_iter()
        .filter_map(|name| name.into_string().ok())
        .collect();
    names.sort();
    Ok(names)
}

fn redis_manifests(names: &[String]) -> impl Iterator<Item = &String> {
    let ends = |name: &&String| name.ends_with(".manifest") && *name != MANIFEST_FILE_NAME;
    names.iter().filter(ends)
}

/// The log of this server in an append-only directory, if there is one.
fn own_log(dir: &Path, names: &[String]) -> Result<Option<Source>, ImportError> {
    let path = AofPaths::new(dir).manifest();
    let bytes = match read_bounded(&path, MANIFEST_BYTES_MAX) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return match moon_manifest::is_legacy_top_level_layout(None, names) {
                true => Err(ImportError::ManifestMissing {
                    path: dir.to_owned(),
                }),
                false => Ok(None),
            };
        }
        Err(source) => return Err(ImportError::Read { path, source }),
    };
    let manifest = match AofManifest::parse(&bytes) {
        Ok(manifest) => Box::new(manifest),
        Err(source) => return Err(ImportError::Manifest { path, source }),
    };
    let dir = dir.to_owned();
    Ok(Some(match manifest.version {
        ManifestVersion::V1 => Source::V1 { dir, manifest },
        ManifestVersion::V2 => Source::V2 { dir, manifest },
        ManifestVersion::V3 => Source::V3(dir),
    }))
}

/// A small file; one byte more than `max` if it is longer, for its parser to refuse.
pub(crate) fn read_bounded(path: &Path, max: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = File::open(path)?;
    file.take(max as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn file_source(path: &Path) -> Result<Source, ImportError> {
    let dir = match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    let unknown = || ImportError::UnknownFile {
        path: path.to_owned(),
    };
    let names = names(dir)?;
    if path.file_name() == Some(OsStr::new(MANIFEST_FILE_NAME)) {
        return own_log(dir, &names)?.ok_or_else(unknown);
    }
    let extension = path.extension().and_then(OsStr::to_str).unwrap_or_default();
    if extension == "manifest" {
        return Ok(Source::RedisMultiPart {
            dir: dir.to_owned(),
            manifest: path.to_owned(),
        });
    }
    let named_by = names
        .iter()
        .find(|name| *name == MANIFEST_FILE_NAME)
        .or_else(|| redis_manifests(&names).next());
    if let Some(manifest) = named_by {
        return Err(ImportError::PartOfLog {
            path: path.to_owned(),
            manifest: dir.join(manifest),
        });
    }
    let head = read_head(path).map_err(read_error(path))?;
    let is_log = extension == "aof";
    match head.first() {
        Some(_) if head.starts_with(RDB_MAGIC) && !is_log => Ok(Source::Dump(path.to_owned())),
        Some(_) if head.starts_with(RDB_MAGIC) => Ok(Source::RedisSingleAof(path.to_owned())),
        Some(b'*' | b'#') => Ok(Source::RedisSingleAof(path.to_owned())),
        None if is_log => Ok(Source::RedisSingleAof(path.to_owned())),
        _ => Err(unknown()),
    }
}

fn read_head(path: &Path) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    let file = File::open(path)?;
    file.take(RDB_MAGIC.len() as u64).read_to_end(&mut head)?;
    Ok(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    const V1: &str = "seq 1\nbase moon.aof.1.base.rdb\nincr moon.aof.1.incr.aof\n";

    fn write(path: &Path, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn one_source_is_found_in_a_data_directory_or_below() {
        for (file, text, kind) in [
            ("dump.rdb", "", "RDB file"),
            ("appendonly.aof", "", "append-only log of Redis"),
            (
                "appendonlydir/moon.aof.manifest",
                V1,
                "append-only log of version 1",
            ),
            ("moon.aof.manifest", V1, "append-only log of version 1"),
            (
                "appendonlydir/a.aof.manifest",
                "",
                "append-only log of Redis in several parts",
            ),
            (
                "a.aof.manifest",
                "",
                "append-only log of Redis in several parts",
            ),
        ] {
            let dir = tempfile::tempdir().unwrap();
            write(&dir.path().join(file), text);
            assert_eq!(detect(dir.path()).unwrap().kind(), kind, "{file}");
        }
    }

    #[test]
    fn two_sources_are_named_and_not_guessed_between() {
        let dir = tempfile::tempdir().unwrap();
        write(&dir.path().join("dump.rdb"), "");
        write(&dir.path().join("appendonlydir/moon.aof.manifest"), V1);
        let text = detect(dir.path()).unwrap_err().to_string();
        assert!(text.contains("appendonlydir and "), "{text}");
        assert!(text.contains("dump.rdb are both there"), "{text}");
        write(&dir.path().join("appendonlydir/a.manifest"), "");
        let nested = detect(&dir.path().join("appendonlydir")).unwrap_err();
        assert!(matches!(nested, ImportError::Ambiguous { .. }), "{nested}");
    }

    #[test]
    fn files_are_known_by_what_they_hold() {
        let dir = tempfile::tempdir().unwrap();
        for (name, text, kind) in [
            ("x.rdb", "REDIS0011", Some("RDB file")),
            ("x", "REDIS0011", Some("RDB file")),
            ("x.aof", "REDIS0011", Some("append-only log of Redis")),
            ("y", "*1\r\n", Some("append-only log of Redis")),
            ("z.aof", "", Some("append-only log of Redis")),
            ("text", "hello", None),
            ("empty", "", None),
        ] {
            let path = dir.path().join(name);
            fs::write(&path, text).unwrap();
            assert_eq!(detect(&path).ok().map(|s| s.kind()), kind, "{name}");
        }
    }

    #[test]
    fn a_part_of_a_log_is_not_taken_for_the_whole() {
        let dir = tempfile::tempdir().unwrap();
        write(&dir.path().join("a.aof.manifest"), "");
        let part = dir.path().join("a.aof.1.incr.aof");
        write(&part, "*1\r\n");
        let text = detect(&part).unwrap_err().to_string();
        assert!(text.contains("a.aof.1.incr.aof is a part of"), "{text}");
        let other = tempfile::tempdir().unwrap();
        write(&other.path().join("moon.aof.1.base.rdb"), "REDIS");
        let error = detect(other.path()).unwrap_err();
        assert!(
            matches!(error, ImportError::ManifestMissing { .. }),
            "{error}"
        );
    }

    #[test]
    fn nothing_is_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let error = detect(dir.path()).unwrap_err();
        assert!(matches!(error, ImportError::NothingThere { .. }), "{error}");
        let error = detect(&dir.path().join("missing")).unwrap_err();
        assert!(matches!(error, ImportError::Read { .. }), "{error}");
    }
}
