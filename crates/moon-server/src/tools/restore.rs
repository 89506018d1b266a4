//! `moon-server restore`.

use super::progress::Shown;
use super::{FAILED, fail};
use clap::{ArgGroup, Parser};
use moon_aof::RealStorage;
use moon_core::Lsn;
use moon_tools::restore::{RestoreError, RestorePoint, RestoreRequest, Restored, restore};
use moon_tools::time::PointInTime;
use std::path::PathBuf;
use std::process::ExitCode;

/// Exit code of a point that cannot be restored.
const NOT_POSSIBLE: u8 = 2;

/// Make a new data directory with the state at one point of a log.
///
/// The log is only read, and may be in use. Exit codes: 0 done; 1 the words or files cannot be
/// used; 2 that point cannot be restored.
#[derive(Parser)]
#[command(name = "moon-server restore")]
#[command(group = ArgGroup::new("point").required(true))]
pub(super) struct Options {
    /// A data directory, an append-only directory or an archive directory; may be given several
    /// times.
    #[arg(long, required = true)]
    dir: Vec<PathBuf>,
    /// Another archive directory.
    #[arg(long)]
    archive_dir: Vec<PathBuf>,
    /// Restore the state just before this LSN.
    #[arg(long, value_name = "LSN", group = "point")]
    to_lsn: Option<u64>,
    /// Restore the state behind the last write that is not later: Unix seconds or milliseconds,
    /// or RFC 3339 with its offset, such as 2026-11-23T10:00:00Z.
    #[arg(long, value_name = "TIME", group = "point")]
    to_time: Option<PointInTime>,
    /// The new data directory: absent or empty.
    #[arg(long)]
    out: PathBuf,
    /// Name of the append-only directory in data directories.
    #[arg(long, default_value = "appendonlydir")]
    appenddirname: String,
}

pub(super) fn run(options: Options) -> ExitCode {
    let to = match (options.to_lsn, options.to_time) {
        (Some(lsn), _) => RestorePoint::Lsn(Lsn(lsn)),
        (None, time) => RestorePoint::Time(time.unwrap_or(PointInTime(0))),
    };
    let from = [options.dir, options.archive_dir].concat();
    let request = RestoreRequest {
        from: &from,
        to,
        out: &options.out,
        appenddirname: &options.appenddirname,
    };
    match restore(&RealStorage, &request, &Shown::new()) {
        Ok(restored) => {
            println!("{}", told(&restored, to));
            println!(
                "start a server on it with: moon-server --dir {}",
                options.out.display()
            );
            ExitCode::SUCCESS
        }
        Err(error) => {
            let code = match &error {
                RestoreError::TooEarly { .. }
                | RestoreError::TooLate { .. }
                | RestoreError::Hole { .. }
                | RestoreError::TimeTooEarly { .. }
                | RestoreError::TimeInHole { .. }
                | RestoreError::NoTimes
                | RestoreError::Copy(_) => NOT_POSSIBLE,
                _ => FAILED,
            };
            fail(&error, code)
        }
    }
}

fn told(restored: &Restored, asked: RestorePoint) -> String {
    let mut text = format!(
        "restored the state at LSN {}, {} shards, from {}: {} keys in bases and {} frames",
        restored.lsn,
        restored.shards.get(),
        restored.from.display(),
        restored.copied.keys,
        restored.copied.units
    );
    if let Some(time) = restored.time {
        text.push_str(&format!("; its last write is of {time}"));
    }
    match restored.next {
        Some((lsn, time)) => {
            text.push_str(&format!("; the next, at LSN {lsn}, is of {time}"));
        }
        None => text.push_str("; that is the end of what there is"),
    }
    if let RestorePoint::Lsn(lsn) = asked
        && lsn != restored.lsn
    {
        text.push_str(&format!(
            "; LSN {lsn} lies inside a transaction or frame, which is left out as a whole"
        ));
    }
    text
}
