//! A whole append-only directory.

use super::{
    BadReport, BaseReport, CheckError, Gap, GenerationReport, ManifestReport, OtherFile, Outcome,
    Report, SegmentReport, StreamReport, Verdict, chain, verdict_of,
};
use crate::Progress;
use crate::rdb::{RdbFileError, RdbSummary, read_base};
use crate::time::PointInTime;
use moon_aof::inspect::{BadBytes, LogFiles, SegmentFile, Step, is_in_use};
use moon_aof::{AofOptions, NoProgress, RecoverError, Recovery, Storage};
use moon_core::{ShardCount, ShardId};
use moon_manifest::layout::{
    MANIFEST_FILE_NAME, MANIFEST_TEMP_FILE_NAME, parse_file_name, parse_shard_dir_name,
};
use moon_manifest::{AofManifest, AofPaths, BaseLine, FileKind, is_legacy_top_level_layout};
use moon_rdb::value::RdbItemRef;
use std::path::Path;
use std::sync::Arc;

/// Gaps that are listed; a log with more is damaged enough.
const GAPS_MAX: usize = 100;

/// Whether a directory with these names holds a log of this server.
pub(super) fn is_log(names: &[String]) -> bool {
    names
        .iter()
        .any(|name| name == MANIFEST_FILE_NAME || parse_shard_dir_name(name).is_some())
        || is_legacy_top_level_layout(None, names)
}

/// What a directory that Redis wrote is called.
pub(super) fn of_redis(names: &[String]) -> Option<&'static str> {
    let any = |test: &dyn Fn(&String) -> bool| names.iter().any(test);
    if any(&|name| name.ends_with(".manifest")) {
        return Some(
            "this is a multi-part append-only directory of Redis; look inside with \
             redis-check-aof, and bring it here with moon-server migrate-aof",
        );
    }
    if any(&|name| name == "appendonly.aof" || name == "appendonlydir") {
        return Some(
            "Redis kept an append-only file here; look inside with redis-check-aof, and bring it \
             here with moon-server migrate-aof",
        );
    }
    any(&|name| name == "dump.rdb").then_some(
        "there is a dump.rdb and no append-only directory; give the dump itself to look inside",
    )
}

/// What a start makes of the directory, by the start's own code.
///
/// # Errors
/// Every reason why it would refuse.
pub fn scan_as_a_start(storage: &Arc<dyn Storage>, dir: &Path) -> Result<Recovery, RecoverError> {
    let options = AofOptions {
        dir: dir.to_owned(),
        ..AofOptions::default()
    };
    let default = ShardCount::ONE;
    Recovery::scan(storage.clone(), &options, None, default, &NoProgress)
}

pub(super) fn check(
    storage: &Arc<dyn Storage>,
    dir: &Path,
    progress: &dyn Progress,
) -> Result<Report, CheckError> {
    let verdict = match scan_as_a_start(storage, dir) {
        Ok(recovery) if recovery.is_new() => Verdict {
            outcome: Outcome::NotALog,
            text: "there is no log yet: a start begins a new one".to_owned(),
            advice: None,
        },
        Ok(recovery) => verdict_of(&recovery),
        Err(error) => refusal(error)?,
    };
    let mut report = Report::new(dir, "append-only directory", verdict);
    report.in_use = is_in_use(&**storage, dir);
    let paths = AofPaths::new(dir);
    let log = match LogFiles::open(&**storage, dir) {
        Ok(log) => log,
        // The verdict says so already.
        Err(RecoverError::Manifest { .. } | RecoverError::Legacy { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    let named = log.as_ref().map(LogFiles::manifest);
    report.other_files = other_files(&**storage, &paths, named)?;
    let Some(log) = log else {
        return Ok(report);
    };
    report.manifest = Some(manifest_report(log.manifest()));
    for segment in log.segments() {
        report.segments.push(segment_report(segment)?);
    }
    report.stream = Some(stream_report(&log)?);
    check_bases(&**storage, &log, &mut report, progress);
    Ok(report)
}

/// The verdict for a start that refuses; an error if nothing can be said.
fn refusal(error: RecoverError) -> Result<Verdict, CheckError> {
    let text = format!("a start refuses: {}", chain(&error));
    let (outcome, advice) = match error {
        RecoverError::Read { .. } => return Err(error.into()),
        RecoverError::Legacy { .. } => (
            Outcome::Refused,
            "bring it to this version with moon-server migrate-aof; a server with one shard brings \
             version 1 along by itself"
                .to_owned(),
        ),
        RecoverError::Closed { at } => (
            Outcome::Refused,
            format!(
                "the log ends where appendonly was switched off; start with appendonly no on the \
                 dump, or restore this log with moon-server restore --to-lsn {at}"
            ),
        ),
        RecoverError::Damage { missing_from, .. } => (
            Outcome::Damage,
            format!(
                "restore the directory from a backup; or give up everything from LSN \
                 {missing_from} on, with --fix --accept-loss-from {missing_from}; see \
                 docs/runbooks/corrupted-aof-recovery.md"
            ),
        ),
        _ => (
            Outcome::Damage,
            "restore the directory from a backup; or save what can be read with moon-server \
             restore --to-lsn; see docs/runbooks/corrupted-aof-recovery.md"
                .to_owned(),
        ),
    };
    Ok(Verdict {
        outcome,
        text,
        advice: Some(advice),
    })
}

fn manifest_report(manifest: &AofManifest) -> ManifestReport {
    ManifestReport {
        version: 3,
        seq: manifest.seq.0,
        shards: manifest.shard_count(),
        history: manifest.history,
        replication_id: manifest.current_replication_id().map(|id| id.to_string()),
        generations: manifest
            .incrs
            .iter()
            .map(|line| GenerationReport {
                seq: line.seq.0,
                first: line.first.0,
                end: line.end.map(|end| end.0),
            })
            .collect(),
        clean: manifest.clean_stop.map(|lsn| lsn.0),
        closed_at: manifest.closed_at.map(|lsn| lsn.0),
        preparing: manifest.preparing.map(|seq| seq.0),
    }
}

/// One segment as the report shows it.
pub(super) fn segment_report(segment: &SegmentFile) -> Result<SegmentReport, CheckError> {
    let range = segment.range();
    let time_ms = segment.time_ms();
    Ok(SegmentReport {
        path: segment.path().display().to_string(),
        seq: segment.seq().0,
        shard: segment.shard().0,
        bytes: segment.file_len(),
        frames: segment.frame_count() as u64,
        payload_bytes: segment.payload_bytes(),
        first: range.map(|(first, _)| first.0),
        end: range.map(|(_, end)| end.0),
        durable: segment.durable().0,
        last_time: (time_ms > 0).then(|| PointInTime(time_ms).to_string()),
        bad: segment.bad()?.iter().map(bad_report).collect(),
        problem: segment.problem().map(|error| chain(error)),
    })
}

fn bad_report(bad: &BadBytes) -> BadReport {
    BadReport {
        offset: bad.offset,
        end_offset: bad.end_offset,
        what: match (&bad.header, bad.next) {
            (Some(_), _) => "the payload's checksum is wrong, or the file ends inside it",
            (None, Some(_)) => "no good frame header",
            (None, None) => "no good frame header, and no frame follows",
        },
        lsn: bad.header.map(|header| header.lsn.0),
        after: bad.after.0,
        next: bad.next.map(|lsn| lsn.0),
    }
}

fn stream_report(log: &LogFiles) -> Result<StreamReport, CheckError> {
    let start = log.start();
    let mut units = log.units(start)?;
    let mut report = StreamReport {
        start: start.0,
        end: start.0,
        durable: log.durable().0,
        units: 0,
        first_time: None,
        last_time: None,
        gaps: Vec::new(),
    };
    let mut last = None;
    let mut in_prefix = true;
    while report.gaps.len() < GAPS_MAX {
        match units.step() {
            Step::Unit(unit) if in_prefix => {
                if report.first_time.is_none() {
                    report.first_time = Some(PointInTime(units.time_ms(&unit)?).to_string());
                }
                report.units += 1;
                report.end = unit.end.0;
                last = Some(unit);
            }
            Step::Unit(_) => {}
            Step::Gap(next) => {
                in_prefix = false;
                report.gaps.push(Gap {
                    from: units.at().0,
                    to: next.0,
                });
                units.skip_to(next);
            }
            Step::Overlap(unit) => {
                in_prefix = false;
                units.skip_to(unit.end);
            }
            Step::End => break,
        }
    }
    if let Some(unit) = last {
        report.last_time = Some(PointInTime(units.time_ms(&unit)?).to_string());
    }
    Ok(report)
}

/// Reads all bases whole. A newest one that cannot be used turns the verdict.
fn check_bases(
    storage: &dyn Storage,
    log: &LogFiles,
    report: &mut Report,
    progress: &dyn Progress,
) {
    let manifest = log.manifest();
    let Some(shards) = ShardCount::new(manifest.shard_count()) else {
        return;
    };
    let newest = manifest.newest_base();
    for line in &manifest.bases {
        for shard in shards.ids() {
            let base = base_report(storage, log.paths(), *line, shard, shards, progress);
            if let (Some(problem), true) = (&base.problem, newest == Some(*line))
                && !matches!(report.verdict.outcome, Outcome::Damage | Outcome::Refused)
            {
                report.verdict = Verdict {
                    outcome: Outcome::Damage,
                    text: format!("a start refuses: cannot load {}: {problem}", base.path),
                    advice: Some(
                        "restore the directory from a backup; if an older base is kept, \
                         moon-server restore can begin there"
                            .to_owned(),
                    ),
                };
            }
            report.bases.push(base);
        }
    }
}

fn base_report(
    storage: &dyn Storage,
    paths: &AofPaths,
    line: BaseLine,
    shard: ShardId,
    shards: ShardCount,
    progress: &dyn Progress,
) -> BaseReport {
    let path = paths.base(shard, line.seq);
    let len = storage.open(&path).and_then(|file| file.len()).unwrap_or(0);
    progress.begin("checking bases", len);
    let (summary, problem) = match read_shard_base(storage, paths, line, shard, shards, progress) {
        Ok(summary) => (summary, None),
        Err(error) => (RdbSummary::default(), Some(chain(&error))),
    };
    BaseReport {
        path: path.display().to_string(),
        seq: line.seq.0,
        shard: shard.0,
        cut: line.cut.0,
        bytes: len,
        keys: summary.keys,
        expires: summary.expires,
        problem,
    }
}

/// Reads the base of one shard whole, as a start does: its checksum, its cut, its keys' shard.
pub(crate) fn read_shard_base(
    storage: &dyn Storage,
    paths: &AofPaths,
    line: BaseLine,
    shard: ShardId,
    shards: ShardCount,
    progress: &dyn Progress,
) -> Result<RdbSummary, RdbFileError> {
    let mut summary = RdbSummary::default();
    let mut done = 0;
    let path = paths.base(shard, line.seq);
    summary.bytes = read_base(storage, &path, line.cut.0, |item, at| {
        progress.advance(at - done);
        done = at;
        match item {
            RdbItemRef::Entry(entry) if shards.shard_of_key(entry.key) != shard => {
                let key = entry.key.escape_ascii().to_string();
                return Err(RdbFileError::WrongShard { key });
            }
            RdbItemRef::Function(_) if shard != ShardId(0) => return Err(RdbFileError::Function),
            item => summary.add(item),
        }
        Ok(())
    })?;
    Ok(summary)
}

/// What lies in the directory and is not named.
fn other_files(
    storage: &dyn Storage,
    paths: &AofPaths,
    manifest: Option<&AofManifest>,
) -> Result<Vec<OtherFile>, CheckError> {
    let list = |dir: &Path| {
        storage.list(dir).map_err(|source| CheckError::Read {
            path: dir.to_owned(),
            source,
        })
    };
    let mut found = Vec::new();
    let mut add = |path: std::path::PathBuf, what| {
        let len = storage.open(&path).and_then(|file| file.len());
        found.push(OtherFile {
            bytes: len.unwrap_or(0),
            path: path.display().to_string(),
            what,
        });
    };
    for name in list(paths.root())? {
        if name == MANIFEST_TEMP_FILE_NAME {
            add(
                paths.manifest_temp(),
                "left by an interrupted replacement of the manifest",
            );
        } else if paths.truncated_dir().ends_with(&name) {
            for tail in list(&paths.truncated_dir())? {
                add(
                    paths.truncated_dir().join(tail),
                    "a tail that a start cut off",
                );
            }
        } else if let Some(shard) = parse_shard_dir_name(&name) {
            for name in list(&paths.shard_dir(shard))? {
                let Some((kind, seq)) = parse_file_name(&name) else {
                    continue;
                };
                let (named, preparing) = match manifest {
                    None => (false, false),
                    Some(m) => {
                        let line = match kind {
                            FileKind::Base => m.bases.iter().any(|base| base.seq == seq),
                            FileKind::Incr => m.incrs.iter().any(|incr| incr.seq == seq),
                        };
                        (line && shard.0 < m.shard_count(), m.preparing == Some(seq))
                    }
                };
                let what = match kind {
                    _ if preparing => "being prepared; nothing in it counts",
                    FileKind::Base => "a base that no manifest names",
                    FileKind::Incr => "a segment that no manifest names",
                };
                if !named {
                    add(paths.shard_dir(shard).join(name), what);
                }
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}
