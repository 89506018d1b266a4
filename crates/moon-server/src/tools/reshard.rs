//! `moon-server reshard`.

use super::check::lock;
use super::progress::Shown;
use super::{FAILED, fail};
use clap::Parser;
use moon_aof::{RealStorage, Storage};
use moon_core::ShardCount;
use moon_tools::check::{Target, locate};
use moon_tools::{ReshardError, ReshardOutcome, reshard};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

/// Exit code where a start would refuse the log.
const REFUSED: u8 = 2;

/// Change the number of shards of a directory that no server uses.
///
/// The log stays as it is until the last step, whatever happens before; after an interruption run
/// it again. Exit codes: 0 done, or nothing to do; 1 the words or files cannot be used; 2 a start
/// would refuse the log, so it is not changed.
#[derive(Parser)]
#[command(name = "moon-server reshard")]
pub(super) struct Options {
    /// The data directory.
    #[arg(long)]
    dir: PathBuf,
    /// The number of shards it shall have, 1 to 64.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=i64::from(ShardCount::MAX)))]
    shards: u16,
    /// Name of the append-only directory in it.
    #[arg(long, default_value = "appendonlydir")]
    appenddirname: String,
}

pub(super) fn run(options: Options) -> ExitCode {
    let storage: Arc<dyn Storage> = Arc::new(RealStorage);
    let dir = match locate(&*storage, &options.dir, &options.appenddirname) {
        Ok(Target::Log(dir)) => dir,
        Ok(Target::OtherDirectory { path, hint }) => {
            eprintln!("{}: {hint}", path.display());
            return ExitCode::from(FAILED);
        }
        Ok(Target::File(path)) => {
            eprintln!("{} is a file, not a data directory", path.display());
            return ExitCode::from(FAILED);
        }
        Err(error) => return fail(&error, FAILED),
    };
    // Checked by the parser of the words.
    let shards = ShardCount::new(options.shards).unwrap_or(ShardCount::ONE);
    let _lock = match lock(&dir) {
        Ok(lock) => lock,
        Err(error) => return fail(&error, FAILED),
    };
    match reshard(&storage, &dir, shards, &Shown::new()) {
        Ok(outcome) => {
            println!("{}", told(&outcome, shards));
            ExitCode::SUCCESS
        }
        Err(error) => {
            let code = match &error {
                ReshardError::Refused(_) | ReshardError::Legacy { .. } | ReshardError::Copy(_) => {
                    REFUSED
                }
                _ => FAILED,
            };
            fail(&error, code)
        }
    }
}

/// What was done, for people.
pub(crate) fn told(outcome: &ReshardOutcome, shards: ShardCount) -> String {
    let done = match outcome {
        ReshardOutcome::Same => {
            return format!(
                "the directory has {} shards already; nothing was changed",
                shards.get()
            );
        }
        ReshardOutcome::Done(done) => done,
    };
    let mut text = format!(
        "{} shards became {}: {} keys in bases and {} frames up to LSN {} were copied, {} of them \
         now frames over shards",
        done.from.get(),
        done.to.get(),
        done.copied.keys,
        done.copied.units,
        done.copied.end,
        done.copied.now_cross
    );
    if done.truncated_bytes > 0 {
        text.push_str(&format!(
            "; {} file bytes of a torn tail were cut off and kept in truncated/",
            done.truncated_bytes
        ));
    }
    if done.dropped_bases > 0 {
        text.push_str(&format!(
            "; {} superseded generations kept for restoring were removed: they had the old number \
             of shards",
            done.dropped_bases
        ));
    }
    if !done.left_over.is_empty() {
        text.push_str(&format!(
            "; {} old files could not be removed, the next start tries again",
            done.left_over.len()
        ));
    }
    text
}
