//! `check-aof`: what is in a directory or a file, and what a start would make of it.
//!
//! The verdict over a directory comes from [`Recovery::scan`], the code of the start itself, so
//! the two cannot disagree; bases are then read whole, as the start would. Everything beside the
//! verdict is gathered leniently, so that the report is there when the start would refuse.

mod directory;
mod file;
mod print;

use moon_aof::{RecoverError, Recovery, Storage};
use serde::Serialize;
use std::io;
use std::path::{Path, PathBuf};

pub(crate) use directory::read_shard_base;
pub use directory::scan_as_a_start;
pub use print::print;

/// What was found under a path.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The path that was looked at: the append-only directory, or the file.
    pub path: String,
    /// What it is, in words.
    pub what: String,
    /// Whether a server or a tool holds the directory; `null` if that cannot be told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_use: Option<bool>,
    /// What the manifest says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manifest: Option<ManifestReport>,
    /// Bases, oldest generation first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub bases: Vec<BaseReport>,
    /// Segments, oldest generation first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub segments: Vec<SegmentReport>,
    /// Files that no manifest names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub other_files: Vec<OtherFile>,
    /// The stream as all segments together hold it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream: Option<StreamReport>,
    /// What a start would do.
    pub verdict: Verdict,
}

/// What a start would do, and the exit code that says so.
#[derive(Clone, Debug, Serialize)]
pub struct Verdict {
    /// In one word.
    pub outcome: Outcome,
    /// In a sentence.
    pub text: String,
    /// What to do about it, if anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

/// What a start would do, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Recover everything.
    Good,
    /// Cut off a torn tail and recover the rest.
    TornTail,
    /// Refuse, because something durable is missing or changed.
    Damage,
    /// Refuse for another reason: an earlier version, a closed log.
    Refused,
    /// This is no log of this server, so there is nothing to say about a start.
    NotALog,
}

impl Outcome {
    /// The exit code of `check-aof`.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Outcome::Good => 0,
            Outcome::NotALog => 1,
            Outcome::Damage | Outcome::Refused => 2,
            Outcome::TornTail => 3,
        }
    }
}

/// The manifest, its generations included.
#[derive(Clone, Debug, Serialize)]
pub struct ManifestReport {
    /// Format version.
    pub version: u8,
    /// Highest generation named.
    pub seq: u64,
    /// Shards.
    pub shards: u16,
    /// Number of the history.
    pub history: u64,
    /// The current replication id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replication_id: Option<String>,
    /// Generations of segments.
    pub generations: Vec<GenerationReport>,
    /// Where the server stopped cleanly.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clean: Option<u64>,
    /// Where `appendonly no` closed the log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub closed_at: Option<u64>,
    /// The generation that is being written beside the ones in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preparing: Option<u64>,
}

/// One generation of segments.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct GenerationReport {
    /// Its number.
    pub seq: u64,
    /// No frame in it starts before this LSN.
    pub first: u64,
    /// Readers ignore everything from this LSN on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end: Option<u64>,
}

/// One base file.
#[derive(Clone, Debug, Serialize)]
pub struct BaseReport {
    /// The file.
    pub path: String,
    /// Its generation.
    pub seq: u64,
    /// Its shard.
    pub shard: u16,
    /// The state is that of the stream just before this LSN.
    pub cut: u64,
    /// File bytes.
    pub bytes: u64,
    /// Keys.
    pub keys: u64,
    /// Keys with a deadline.
    pub expires: u64,
    /// Why it cannot be used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// One segment.
#[derive(Clone, Debug, Serialize)]
pub struct SegmentReport {
    /// The file.
    pub path: String,
    /// Its generation.
    pub seq: u64,
    /// Its shard.
    pub shard: u16,
    /// File bytes.
    pub bytes: u64,
    /// Good frames.
    pub frames: u64,
    /// Payload bytes in them.
    pub payload_bytes: u64,
    /// First position of the first good frame.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first: Option<u64>,
    /// End of the last good frame.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end: Option<u64>,
    /// Highest durable mark on a good frame header.
    pub durable: u64,
    /// Time of the last good frame.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_time: Option<String>,
    /// Where its bytes are no frames.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub bad: Vec<BadReport>,
    /// Why nothing of it can be used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// Bytes of a segment that are no frame.
#[derive(Clone, Debug, Serialize)]
pub struct BadReport {
    /// Where they begin.
    pub offset: u64,
    /// Where they end.
    pub end_offset: u64,
    /// What is wrong.
    pub what: &'static str,
    /// The frame's position, where its header can still be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lsn: Option<u64>,
    /// End of the last good frame before.
    pub after: u64,
    /// Position of the next good frame.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
}

/// A file beside the ones the manifest names.
#[derive(Clone, Debug, Serialize)]
pub struct OtherFile {
    /// The file.
    pub path: String,
    /// Its bytes.
    pub bytes: u64,
    /// What it is.
    pub what: &'static str,
}

/// The stream as all segments together hold it.
#[derive(Clone, Debug, Serialize)]
pub struct StreamReport {
    /// Where the replay starts: the newest base's cut.
    pub start: u64,
    /// End of the longest gapless prefix: `P`.
    pub end: u64,
    /// Everything below was durable: `D`.
    pub durable: u64,
    /// Whole frames and runs from start to end.
    pub units: u64,
    /// Time of the first of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_time: Option<String>,
    /// Time of the last of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_time: Option<String>,
    /// Ranges that cannot be read, while something later can.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gaps: Vec<Gap>,
}

/// A range of the stream that cannot be read.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Gap {
    /// First missing position.
    pub from: u64,
    /// First position behind it that can be read.
    pub to: u64,
}

/// Why nothing could be said.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The path or something below it cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// What.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] RecoverError),
}

/// What a path leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// An append-only directory.
    Log(PathBuf),
    /// A file.
    File(PathBuf),
    /// A directory without a log of this server.
    OtherDirectory {
        /// The directory.
        path: PathBuf,
        /// What it seems to be, and what to use.
        hint: &'static str,
    },
}

/// What `path` is: an append-only directory, a data directory with one named `appenddirname`, or
/// a file.
///
/// # Errors
/// If it cannot be read.
pub fn locate(
    storage: &dyn Storage,
    path: &Path,
    appenddirname: &str,
) -> Result<Target, CheckError> {
    let Ok(names) = storage.list(path) else {
        return match storage.open(path) {
            Ok(_) => Ok(Target::File(path.to_owned())),
            Err(source) => Err(CheckError::Read {
                path: path.to_owned(),
                source,
            }),
        };
    };
    if directory::is_log(&names) {
        return Ok(Target::Log(path.to_owned()));
    }
    let below = path.join(appenddirname);
    if names.iter().any(|name| name == appenddirname)
        && let Ok(names) = storage.list(&below)
    {
        if directory::is_log(&names) {
            return Ok(Target::Log(below));
        }
        if let Some(hint) = directory::of_redis(&names) {
            return Ok(Target::OtherDirectory { path: below, hint });
        }
    }
    let hint = directory::of_redis(&names).unwrap_or(
        "there is no append-only directory of this server; give the data directory, the \
         append-only directory in it, or one file, and --appenddirname if it has another name",
    );
    Ok(Target::OtherDirectory {
        path: path.to_owned(),
        hint,
    })
}

/// Looks at what `target` leads to. Changes nothing.
///
/// # Errors
/// [`CheckError`]; damage is no error but a verdict.
pub fn check(
    storage: &std::sync::Arc<dyn Storage>,
    target: &Target,
    progress: &dyn crate::Progress,
) -> Result<Report, CheckError> {
    match target {
        Target::Log(dir) => directory::check(storage, dir, progress),
        Target::File(path) => file::check(&**storage, path),
        Target::OtherDirectory { path, hint } => {
            Ok(Report::not_a_log(path, "a directory", (*hint).to_owned()))
        }
    }
}

impl Report {
    fn new(path: &Path, what: impl Into<String>, verdict: Verdict) -> Report {
        Report {
            path: path.display().to_string(),
            what: what.into(),
            in_use: None,
            manifest: None,
            bases: Vec::new(),
            segments: Vec::new(),
            other_files: Vec::new(),
            stream: None,
            verdict,
        }
    }

    fn not_a_log(path: &Path, what: &str, advice: String) -> Report {
        let verdict = Verdict {
            outcome: Outcome::NotALog,
            text: format!("{} is no log of this server", path.display()),
            advice: Some(advice),
        };
        Report::new(path, what, verdict)
    }
}

/// An error with its causes on one line.
#[must_use]
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

/// A recovery's verdict that nothing stands against.
fn verdict_of(recovery: &Recovery) -> Verdict {
    let summary = recovery.summary();
    let recovered = format!(
        "a start recovers {} frames, {} bytes, up to LSN {}",
        summary.frames,
        summary.bytes,
        recovery.end()
    );
    if summary.truncated_bytes > 0 {
        return Verdict {
            outcome: Outcome::TornTail,
            text: format!(
                "{recovered}, and cuts off {} file bytes of a torn tail behind it (with \
                 aof-load-truncated no it refuses)",
                summary.truncated_bytes
            ),
            advice: Some(
                "nothing has to be done: the next start cuts it off and keeps it in truncated/; \
                 --fix does that now"
                    .to_owned(),
            ),
        };
    }
    let after = if summary.clean_stop {
        ", after a clean stop"
    } else {
        ""
    };
    Verdict {
        outcome: Outcome::Good,
        text: format!("{recovered}{after}"),
        advice: None,
    }
}
