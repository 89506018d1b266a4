//! `moon-server migrate-aof`: data of Redis, or of an earlier version, made into a new directory.
//!
//! Exit codes: 0 done, 1 the words are not understood, 2 nothing was migrated.

use crate::info::REDIS_VERSION;
use crate::startup::{REFUSED_EXIT_CODE, Refusal};
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use moon_commands::Limits;
use moon_core::ShardCount;
use moon_import::migrate::{MigrateOptions, MigrateProgress, MigrateReport, migrate};
use moon_import::{ImportOptions, Source};
use moon_shard::shard::unix_now;
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};

/// Makes a new append-only directory out of a Redis log or dump, or a log of an earlier version.
/// The source is only read; stop its server first.
#[derive(Debug, Parser)]
#[command(bin_name = "moon-server migrate-aof")]
pub(super) struct Words {
    /// What to read: a dump.rdb, an appendonly.aof, an append-only directory or its manifest, or
    /// a data directory with one of them
    #[arg(long, value_name = "DIR_OR_FILE")]
    from: PathBuf,
    /// The data directory to write, as in --dir of the server
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// How many shards the new log has, 1 to 64
    #[arg(long, value_name = "N", value_parser = shards)]
    shards: ShardCount,
    /// Name of the append-only directory below --to
    #[arg(long, value_name = "NAME", default_value = "appendonlydir", value_parser = dir_name)]
    appenddirname: String,
    /// How many databases there are; data in a higher one is refused
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..))]
    databases: u16,
    /// Whether a cut end of the last file is ignored and reported, as in Redis
    #[arg(long, value_name = "yes|no", default_value = "yes", value_parser = yes_no)]
    aof_load_truncated: bool,
}

fn shards(word: &str) -> Result<ShardCount, String> {
    let count = word.parse().ok().and_then(ShardCount::new);
    count.ok_or_else(|| format!("must be between 1 and {}", ShardCount::MAX))
}

fn yes_no(word: &str) -> Result<bool, &'static str> {
    match word {
        "yes" => Ok(true),
        "no" => Ok(false),
        _ => Err("must be yes or no"),
    }
}

fn dir_name(word: &str) -> Result<String, &'static str> {
    match word {
        "" | "." | ".." => Err("must be a name"),
        _ if word.contains('/') => Err("must be a name and not a path"),
        _ => Ok(word.to_owned()),
    }
}

pub(super) fn run(words: Words) -> ExitCode {
    let options = MigrateOptions {
        from: words.from,
        to: words.to,
        appenddirname: words.appenddirname,
        shards: words.shards,
        databases: words.databases,
        limits: Limits::default(),
        import: ImportOptions {
            load_truncated: words.aof_load_truncated,
            now: unix_now(),
        },
        redis_ver: REDIS_VERSION.to_owned(),
    };
    let shown = Shown::new(std::io::stderr().is_terminal());
    let result = migrate(&options, &shown);
    shown.end();
    match result {
        Ok(report) => {
            print(&report, &options);
            ExitCode::SUCCESS
        }
        Err(error) => {
            let reason = Refusal::from_error(&error).reason;
            eprintln!("REFUSING TO MIGRATE: {reason}");
            ExitCode::from(u8::try_from(REFUSED_EXIT_CODE).unwrap_or(u8::MAX))
        }
    }
}

fn print(report: &MigrateReport, options: &MigrateOptions) {
    let summary = &report.summary;
    for end in &summary.ignored {
        println!(
            "WARNING {} ends in the middle of a request or transaction: {} bytes from byte {} on \
             were ignored",
            end.path.display(),
            end.bytes,
            end.offset
        );
    }
    if summary.expired > 0 {
        println!("{} keys had expired and were left out", summary.expired);
    }
    for (db, (keys, expires)) in report.databases.iter().enumerate() {
        if *keys > 0 {
            println!("db{db}: keys={keys},expires={expires}");
        }
    }
    println!(
        "Migrated {} keys to {} shard{} in {}; read back and equal",
        summary.keys,
        options.shards.get(),
        if options.shards == ShardCount::ONE {
            ""
        } else {
            "s"
        },
        report.dir.display()
    );
}

/// A bar on a terminal, some lines elsewhere.
struct Shown {
    bar: Option<ProgressBar>,
    /// Phase and tenth that the last line told.
    told: Mutex<(&'static str, u64)>,
}

impl Shown {
    fn new(is_terminal: bool) -> Shown {
        let bar = is_terminal.then(|| {
            let style = ProgressStyle::with_template("{msg:10} [{bar:40}] {percent}% {eta}");
            let bar = ProgressBar::new(0);
            // The template is fixed; without it there is the usual bar.
            if let Ok(style) = style {
                bar.set_style(style);
            }
            bar
        });
        Shown {
            bar,
            told: Mutex::new(("", 0)),
        }
    }

    fn step(&self, phase: &'static str, done: u64, total: u64) {
        if let Some(bar) = &self.bar {
            bar.set_message(phase);
            bar.set_length(total);
            bar.set_position(done);
            return;
        }
        let tenth = (done * 10).checked_div(total).unwrap_or(10).min(10);
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        // A phase begins with a line; the total may grow, so a tenth may come again.
        if told.0 == phase && tenth <= told.1 {
            return;
        }
        *told = (phase, tenth);
        eprintln!("{phase}: {}%", tenth * 10);
    }

    fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl MigrateProgress for Shown {
    fn found(&self, source: &Source) {
        let line = format!("Found an {} in {}", source.kind(), source.path().display());
        match &self.bar {
            Some(bar) => bar.println(line),
            None => eprintln!("{line}"),
        }
    }

    fn reading(&self, bytes: u64, total: u64) {
        self.step("Reading", bytes, total);
    }

    fn writing(&self, keys: u64, total: u64) {
        self.step("Writing", keys, total);
    }

    fn verifying(&self, bytes: u64, total: u64) {
        self.step("Verifying", bytes, total);
    }
}
