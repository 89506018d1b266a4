//! `cargo xtask differential`: the same commands on `redis-server` and `moon-server`, compared.
//!
//! Sequences come from [`moon_oracle::Generator`], one for each seed, and run on the oracle and on
//! one tested server for each number of shards. A sequence that shows a difference is made as short
//! as it can be; the report names it, both replies and the command that repeats it. Sequences that
//! differ in the same way are counted once. The family `documented` runs examples of commands that
//! Redis 7.0 does not have.

mod report;

use crate::binary::ServerOptions;
use anyhow::{Context as _, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use moon_harness::{FsyncPolicy, Server};
use moon_oracle::rig::Thresholds;
use moon_oracle::round::{Crash, Plan};
use moon_oracle::{Generator, Rig, RigConfig, Step, documented, families, round, shrink};
use report::Report;
use std::path::PathBuf;

/// Requests of one sequence.
const SEQUENCE: u64 = 500;
/// Every so many sequences end with a crash of the tested servers.
const CRASH_EVERY: u64 = 10;
/// Runs that making one sequence shorter may take, where no crash belongs to it and where one does.
const TRIES: (usize, usize) = (600, 150);
/// What `notify-keyspace-events` is in the sequences, in turn.
const NOTIFY: &[&str] = &["", "KEA", "", "", "", "Kg$lshztdnm", "", "EAm", "", "", ""];
/// The family that is no family of the generator.
const DOCUMENTED: &str = "documented";

/// Options of `cargo xtask differential`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// Decides every sequence
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Requests sent to each server
    #[arg(long, default_value_t = 100_000)]
    ops: u64,
    /// A family of commands, or documented; may be given several times [default: all]
    #[arg(long, value_delimiter = ',')]
    family: Vec<String>,
    /// Shards of the tested servers, one server each
    #[arg(long, value_delimiter = ',', default_values_t = [1, 4])]
    shards: Vec<u16>,
    /// RESP version, 2 or 3 [default: both in turn]
    #[arg(long, value_parser = clap::value_parser!(u8).range(2..=3))]
    resp: Option<u8>,
    /// A few thousand requests over all families, and the documented examples
    #[arg(long)]
    quick: bool,
    /// Stop after so many different differences
    #[arg(long, default_value_t = 25)]
    differences_max: usize,
    /// The oracle's program
    #[arg(long, default_value = "redis-server")]
    oracle: PathBuf,
    #[command(flatten)]
    program: ServerOptions,
}

/// Compares, and prints what differs; true if nothing does.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let all = match families::all() {
        Ok(all) => all,
        Err(error) => bail!("{}: {}: {:?}", error.family, error.line, error.error),
    };
    for name in &options.family {
        if name != DOCUMENTED && !all.iter().any(|family| family.name == name) {
            let names: Vec<_> = families::names().chain([DOCUMENTED]).collect();
            bail!("{name}: expected one of {}", names.join(", "));
        }
    }
    let profile = if options.quick { "dev" } else { "release" };
    let program = options.program.locate(&[], profile)?;
    let config = RigConfig {
        oracle: options.oracle.clone(),
        flavor: program.flavor,
        tested: program.path,
        shards: options.shards.clone(),
    };
    let mut is_same = true;
    let is_documented = options.family.iter().any(|name| name == DOCUMENTED);
    if is_documented || options.quick {
        is_same &= run_documented(&config)?;
    }
    let chosen: Vec<String> = options
        .family
        .iter()
        .filter(|name| *name != DOCUMENTED)
        .cloned()
        .collect();
    if is_documented && chosen.is_empty() {
        return Ok(is_same);
    }
    let mut rig = Rig::start(&config)?;
    let missing = rig.missing(&families::command_names(&all))?;
    let generator = Generator::new(all, &chosen, &missing);
    let mut report = Report::new(options, &missing);
    if !generator.is_empty() {
        sequences(&mut rig, &generator, options, &mut report)?;
    }
    Ok(report.finish() && is_same)
}

fn sequences(
    rig: &mut Rig,
    generator: &Generator,
    options: &Options,
    report: &mut Report,
) -> Result<()> {
    let ops = if options.quick { 6000 } else { options.ops };
    let progress = ProgressBar::new(ops);
    progress.set_style(
        ProgressStyle::with_template("{bar:40} {pos}/{len} requests, {per_sec}, {eta} {msg}")
            .context("the style of the progress bar")?,
    );
    let mut sent = 0;
    let mut seed = options.seed;
    while sent < ops {
        let length = SEQUENCE.min(ops - sent);
        let is_last = sent + length >= ops;
        let plan = plan(options, seed, is_last);
        let steps = generator.sequence(seed, usize::try_from(length)?);
        let outcome = round::run(rig, &steps, plan)?;
        sent += length;
        progress.set_position(sent);
        report.sequence(&outcome);
        if let Some(difference) = outcome.difference {
            if report.is_new(&difference.class) {
                let steps = steps[..difference.steps.min(steps.len())].to_vec();
                let found = shortened(rig, steps, plan, &difference)?;
                progress.suspend(|| report.difference(seed, plan, &found));
                progress.set_message(format!("{} differences", report.differences()));
            }
            report.count(&difference.class);
        }
        if report.differences() >= options.differences_max {
            break;
        }
        seed += 1;
    }
    progress.finish_and_clear();
    Ok(())
}

/// How the sequence of `seed` is run; depends on nothing else, so that it can be repeated alone.
fn plan(options: &Options, seed: u64, is_last: bool) -> Plan {
    let crash = match seed % CRASH_EVERY {
        0 => Crash::Kill,
        5 => Crash::RewriteAndKill,
        _ if is_last => Crash::Kill,
        _ => Crash::None,
    };
    Plan {
        protocol: options
            .resp
            .unwrap_or(if seed.is_multiple_of(2) { 2 } else { 3 }),
        thresholds: match seed / 2 % 2 {
            0 => Thresholds::Usual,
            _ => Thresholds::Low,
        },
        crash,
        notify: NOTIFY[usize::try_from(seed).unwrap_or(0) % NOTIFY.len()],
    }
}

/// A difference and the sequence that shows it.
struct Found {
    steps: Vec<Step>,
    difference: moon_oracle::Difference,
    /// Whether the sequence showed it again when it was repeated.
    is_repeated: bool,
}

fn shortened(
    rig: &mut Rig,
    steps: Vec<Step>,
    plan: Plan,
    difference: &moon_oracle::Difference,
) -> Result<Found> {
    // A crash costs time, and only some differences need one.
    let needs_crash = ["recovered", "rewritten"]
        .iter()
        .any(|when| difference.class.starts_with(when));
    let (plan, tries) = match needs_crash {
        true => (plan, TRIES.1),
        false => (
            Plan {
                crash: Crash::None,
                ..plan
            },
            TRIES.0,
        ),
    };
    let mut last = None;
    let mut fails = |candidate: &[Step]| -> Result<bool> {
        let found = round::run(rig, candidate, plan)?.difference;
        let is_same = found.as_ref().is_some_and(|f| f.class == difference.class);
        if is_same {
            last = found;
        }
        Ok(is_same)
    };
    if !fails(&steps)? {
        return Ok(Found {
            steps,
            difference: difference.clone(),
            is_repeated: false,
        });
    }
    let steps = shrink::shortest(steps, tries, fails)?;
    Ok(Found {
        steps,
        difference: last.unwrap_or_else(|| difference.clone()),
        is_repeated: true,
    })
}

/// Runs the documented examples on a server of its own; true if all replies are as documented.
fn run_documented(config: &RigConfig) -> Result<bool> {
    let mut is_same = true;
    for &shards in &config.shards {
        for (name, text) in documented::FILES {
            let server = Server::start_temp(config.flavor, &config.tested, |c| {
                c.shards(shards).append(FsyncPolicy::Everysec)
            })?;
            let mut client = server.client()?;
            let examples = documented::run(text, &mut client)
                .with_context(|| format!("the examples {name}"))?;
            println!(
                "documented {name}, {shards} shards: {} as documented, {} not there yet, {} differ",
                examples.passed,
                examples.missing,
                examples.failed.len()
            );
            for failed in &examples.failed {
                println!("{failed}");
            }
            is_same &= examples.failed.is_empty();
        }
    }
    Ok(is_same)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        options: Options,
    }

    #[test]
    fn a_sequence_runs_in_the_same_way_when_it_is_repeated_alone() {
        let parse = |args: &[&str]| Cli::parse_from([&["x"], args].concat()).options;
        let long = parse(&["--ops", "100000"]);
        for seed in 0..40 {
            let alone = plan(&long, seed, true);
            let among = plan(&long, seed, false);
            assert_eq!(alone.protocol, among.protocol);
            assert_eq!(alone.thresholds, among.thresholds);
            assert!(among.crash == Crash::None || among.crash == alone.crash);
        }
        assert_eq!(plan(&parse(&["--resp", "3"]), 2, false).protocol, 3);
    }
}
