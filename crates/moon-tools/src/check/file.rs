//! One file by itself: what it is, by its bytes and never by its name alone.

use super::directory::segment_report;
use super::{CheckError, Outcome, Report, Verdict, chain};
use crate::rdb::summarize;
use moon_aof::Storage;
use moon_aof::inspect::SegmentFile;
use moon_aof::storage::{read_full_at, read_whole};
use moon_manifest::manifest::MANIFEST_BYTES_MAX;
use moon_manifest::{AofManifest, ManifestVersion};
use std::path::Path;

/// Bytes that tell what a file is.
const HEAD: usize = 64;

pub(super) fn check(storage: &dyn Storage, path: &Path) -> Result<Report, CheckError> {
    let read_error = |source| CheckError::Read {
        path: path.to_owned(),
        source,
    };
    let file = storage.open(path).map_err(read_error)?;
    let mut head = [0; HEAD];
    let read = read_full_at(&*file, &mut head, 0).map_err(read_error)?;
    let head = &head[..read];
    if head.starts_with(b"MOON-AOF") {
        return segment(storage, path);
    }
    if head.starts_with(b"REDIS") {
        let len = file.len().map_err(read_error)?;
        return Ok(rdb(storage, path, len));
    }
    if head.starts_with(b"version ") || head.starts_with(b"seq ") {
        let bytes = read_whole(storage, path, MANIFEST_BYTES_MAX + 1).map_err(read_error)?;
        return Ok(manifest(path, &bytes));
    }
    let (what, advice) = if head.starts_with(b"file ") {
        (
            "a manifest of Redis's multi-part append-only file",
            "look inside with redis-check-aof, and bring its directory here with moon-server \
             migrate-aof",
        )
    } else if head.starts_with(b"*") || head.starts_with(b"#TS:") {
        (
            "an append-only file of Redis, or an incr file of version 1 (plain RESP)",
            "look inside with redis-check-aof, and bring it here with moon-server migrate-aof",
        )
    } else if head.is_empty() {
        ("an empty file", "there is nothing in it to check")
    } else {
        (
            "none of the files this server writes",
            "give a data directory, an append-only directory, a segment, a base or a manifest",
        )
    };
    Ok(Report::not_a_log(path, what, advice.to_owned()))
}

/// A segment alone says less than all together: where the stream goes on in other files it
/// cannot tell, but bad bytes below its own durable mark are damage in any case.
fn segment(storage: &dyn Storage, path: &Path) -> Result<Report, CheckError> {
    let segment = match SegmentFile::open(storage, path) {
        Ok(segment) => segment,
        Err(error @ moon_aof::RecoverError::Read { .. }) => return Err(error.into()),
        Err(error) => {
            let verdict = Verdict {
                outcome: Outcome::Damage,
                text: format!("a start refuses: {}", chain(&error)),
                advice: None,
            };
            return Ok(Report::new(path, "segment", verdict));
        }
    };
    let bad = segment.bad()?;
    let durable = segment.durable();
    let below_mark = bad
        .iter()
        .find(|bad| bad.after < durable && bad.next.is_some());
    let together = Some(
        "check the whole append-only directory: only all segments together tell what a start does"
            .to_owned(),
    );
    let verdict = match (below_mark, bad.first()) {
        (Some(bad), _) => Verdict {
            outcome: Outcome::Damage,
            text: format!(
                "bad bytes at {} to {}, although everything below LSN {durable} was durable",
                bad.offset, bad.end_offset
            ),
            advice: together,
        },
        (None, Some(bad)) => Verdict {
            outcome: Outcome::TornTail,
            text: format!("bad bytes from {} on, behind LSN {}", bad.offset, bad.after),
            advice: together,
        },
        (None, None) => Verdict {
            outcome: Outcome::Good,
            text: format!("all {} frames are good", segment.frame_count()),
            advice: None,
        },
    };
    let mut report = Report::new(path, "segment", verdict);
    report.segments.push(segment_report(&segment)?);
    Ok(report)
}

fn rdb(storage: &dyn Storage, path: &Path, len: u64) -> Report {
    let verdict = match summarize(storage, path) {
        Ok(summary) if summary.bytes < len => {
            return Report::not_a_log(
                path,
                "an append-only file of Redis that begins with an RDB preamble",
                format!(
                    "the preamble is good ({} keys); look at the rest with redis-check-aof, and \
                     bring the file here with moon-server migrate-aof",
                    summary.keys
                ),
            );
        }
        Ok(summary) => {
            let databases: Vec<String> = summary
                .databases
                .iter()
                .map(|(db, keys)| format!("db{db}: {keys}"))
                .collect();
            let aux: Vec<String> = summary
                .aux
                .iter()
                .map(|(key, value)| format!("{key}={value}"))
                .collect();
            Verdict {
                outcome: Outcome::Good,
                text: format!(
                    "{} keys ({} with a deadline) in {} bytes; {}; {}",
                    summary.keys,
                    summary.expires,
                    summary.bytes,
                    if databases.is_empty() {
                        "no database".to_owned()
                    } else {
                        databases.join(", ")
                    },
                    aux.join(" ")
                ),
                advice: None,
            }
        }
        Err(error) => Verdict {
            outcome: Outcome::Damage,
            text: format!("it cannot be loaded: {}", chain(&error)),
            advice: None,
        },
    };
    Report::new(path, "RDB file", verdict)
}

fn manifest(path: &Path, bytes: &[u8]) -> Report {
    let verdict = match AofManifest::parse(bytes) {
        Ok(manifest) if manifest.version == ManifestVersion::V3 => Verdict {
            outcome: Outcome::Good,
            text: format!(
                "version 3, {} shards, generation {}",
                manifest.shard_count(),
                manifest.seq
            ),
            advice: Some("check its directory to see what a start does".to_owned()),
        },
        Ok(manifest) => Verdict {
            outcome: Outcome::Refused,
            text: format!(
                "a manifest of version {}, {} shards",
                if manifest.version == ManifestVersion::V1 {
                    1
                } else {
                    2
                },
                manifest.shard_count()
            ),
            advice: Some(
                "bring its directory to this version with moon-server migrate-aof".to_owned(),
            ),
        },
        Err(error) => Verdict {
            outcome: Outcome::Damage,
            text: format!("a start refuses: {}", chain(&error)),
            advice: None,
        },
    };
    Report::new(path, "manifest", verdict)
}
