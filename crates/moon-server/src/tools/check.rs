//! `moon-server check-aof`.

use super::progress::Shown;
use super::{FAILED, fail};
use crate::lock::{DirLock, LockError};
use clap::Parser;
use moon_aof::inspect::{LogFiles, SegmentFile};
use moon_aof::{RealStorage, Storage};
use moon_core::Lsn;
use moon_tools::check::{Outcome, Report, Target, chain, check, locate, print};
use moon_tools::dump::{DumpError, DumpOptions, dump_log, dump_segment};
use moon_tools::fix::{FixError, FixOptions, FixOutcome, fix};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

/// Exit code of a fix that was refused: the log is as it was.
const NOT_FIXED: u8 = 2;

/// Look inside a log without serving it, and say what a start would do.
///
/// Exit codes: 0 a start recovers everything; 1 the words or files cannot be used, or there is no
/// log of this server; 2 a start would refuse, above all because of damage; 3 a start would cut
/// off a torn tail and go on.
#[derive(Parser)]
#[command(name = "moon-server check-aof")]
pub(super) struct Options {
    /// A data directory, an append-only directory, or one file: segment, base, manifest.
    path: PathBuf,
    /// Name of the append-only directory in a data directory.
    #[arg(long, default_value = "appendonlydir")]
    appenddirname: String,
    /// Print the frames, too, in the order of the stream.
    #[arg(long, conflicts_with = "fix")]
    dump: bool,
    /// With --dump: leave out frames that end at or before this LSN.
    #[arg(long, value_name = "LSN", default_value_t = 0, requires = "dump")]
    from_lsn: u64,
    /// With --dump: print at most so many frames.
    #[arg(long, value_name = "N", default_value_t = u64::MAX, requires = "dump",
          hide_default_value = true)]
    limit: u64,
    /// Print JSON: the report as one object; with --dump one object per line, the report last.
    #[arg(long)]
    json: bool,
    /// Cut off a torn tail as a start would; with --accept-loss-from also damage. Takes the
    /// directory's lock, and keeps what it cuts off.
    #[arg(long)]
    fix: bool,
    /// With --fix: give up everything from this LSN on, durable or not.
    #[arg(long, value_name = "LSN", requires = "fix")]
    accept_loss_from: Option<u64>,
    /// With --fix: refuse to cut off more than this.
    #[arg(long, value_name = "BYTES", default_value_t = 1 << 20, requires = "fix")]
    max_loss_bytes: u64,
}

pub(super) fn run(options: Options) -> ExitCode {
    let storage: Arc<dyn Storage> = Arc::new(RealStorage);
    let target = match locate(&*storage, &options.path, &options.appenddirname) {
        Ok(target) => target,
        Err(error) => return fail(&error, FAILED),
    };
    if options.fix {
        return run_fix(&storage, &target, &options);
    }
    // A report is read after the run, a dump before it.
    let mut out = BufWriter::new(io::stdout().lock());
    if options.dump
        && let Err(error) = dump(&*storage, &target, &options, &mut out)
    {
        return match error {
            // Whoever read has seen enough.
            DumpError::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                ExitCode::SUCCESS
            }
            error => fail(&error, FAILED),
        };
    }
    let report = check(&storage, &target, &Shown::new());
    let mut report = match report {
        Ok(report) => report,
        Err(error) => return fail(&error, FAILED),
    };
    if let Target::Log(dir) = &target
        && dir.parent().is_some_and(DirLock::is_held)
    {
        report.in_use = Some(true);
    }
    match show(&report, &options, &mut out) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => fail(&error, FAILED),
        _ => ExitCode::from(report.verdict.outcome.exit_code()),
    }
}

fn show(report: &Report, options: &Options, out: &mut dyn Write) -> io::Result<()> {
    if !options.json {
        print(report, out)?;
    } else if options.dump {
        writeln!(out, "{}", serde_json::to_string(report)?)?;
    } else {
        writeln!(out, "{}", serde_json::to_string_pretty(report)?)?;
    }
    out.flush()
}

fn dump(
    storage: &dyn Storage,
    target: &Target,
    options: &Options,
    out: &mut dyn Write,
) -> Result<(), DumpError> {
    let wanted = DumpOptions {
        from: Lsn(options.from_lsn),
        limit: options.limit,
        json: options.json,
    };
    match target {
        Target::Log(dir) => match LogFiles::open(storage, dir)? {
            Some(log) => dump_log(&log, wanted, out),
            None => Ok(()),
        },
        // A file that is no segment has no frames; the report says what it is.
        Target::File(path) => match SegmentFile::open(storage, path) {
            Ok(segment) => dump_segment(&segment, wanted, out),
            Err(_) => Ok(()),
        },
        Target::OtherDirectory { .. } => Ok(()),
    }
}

fn run_fix(storage: &Arc<dyn Storage>, target: &Target, options: &Options) -> ExitCode {
    let Target::Log(dir) = target else {
        eprintln!(
            "--fix needs a data directory or an append-only directory: only all segments together \
             tell where a log ends"
        );
        return ExitCode::from(FAILED);
    };
    let _lock = match lock(dir) {
        Ok(lock) => lock,
        Err(error) => return fail(&error, FAILED),
    };
    let how = FixOptions {
        accept_loss_from: options.accept_loss_from.map(Lsn),
        max_loss_bytes: options.max_loss_bytes,
        now: moon_shard::shard::unix_now(),
    };
    match fix(storage, dir, &how, &Shown::new()) {
        Ok(outcome) => say(&outcome, options.json),
        Err(error) => {
            let code = match &error {
                FixError::NoLog { .. } | FixError::InUse { .. } | FixError::Write { .. } => FAILED,
                _ => NOT_FIXED,
            };
            if options.json {
                let text = chain(&error);
                println!("{}", serde_json::json!({ "fixed": false, "error": text }));
            }
            fail(&error, code)
        }
    }
}

/// The lock of the data directory around an append-only one.
pub(super) fn lock(dir: &Path) -> Result<DirLock, LockError> {
    // A path of one word has the empty path for its parent.
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
    DirLock::acquire(parent.unwrap_or(Path::new(".")))
}

fn say(outcome: &FixOutcome, json: bool) -> ExitCode {
    let (text, value) = match outcome {
        FixOutcome::Nothing => (
            "nothing to fix: a start recovers everything".to_owned(),
            serde_json::json!({ "fixed": true, "changed": false }),
        ),
        FixOutcome::TornTail {
            end,
            bytes,
            kept_in,
        } => (
            format!(
                "cut off {bytes} file bytes of a torn tail; the log ends at LSN {end}; what was \
                 cut off is kept in {}",
                kept_in.display()
            ),
            serde_json::json!({
                "fixed": true, "changed": true, "end": end.0, "cut_bytes": bytes,
                "kept_in": kept_in.display().to_string(),
            }),
        ),
        FixOutcome::GivenUp { from, to, backup } => (
            format!(
                "gave up LSN {from} to {to}, {} bytes of writes on all shards; the log ends at \
                 LSN {from}; the files as they were are in {}",
                to.bytes_since(*from),
                backup.display()
            ),
            serde_json::json!({
                "fixed": true, "changed": true, "end": from.0, "lost_from": from.0,
                "lost_to": to.0, "backup": backup.display().to_string(),
            }),
        ),
    };
    if json {
        println!("{value}");
    } else {
        println!("{text}");
    }
    ExitCode::from(Outcome::Good.exit_code())
}
