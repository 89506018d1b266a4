//! `cargo xtask clients`: client libraries of other people against a real server.
//!
//! Installs what the suites of `tests/clients` need under `target/clients`, starts a server for each
//! suite, runs it and prints a table. A suite says `ok`, `FAIL` or `skip` for each of its checks.

use crate::binary::{ServerBinary, ServerOptions, cargo, target_dir, workspace_root};
use anyhow::{Context as _, Result, ensure};
use moon_harness::{FsyncPolicy, Server, ServerConfig};
use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How long a suite may take. Its own checks give up earlier.
const SUITE_TIMEOUT: Duration = Duration::from_secs(180);

/// Options of `cargo xtask clients`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    server: ServerOptions,
    /// Shards of the server
    #[arg(long, default_value_t = 4)]
    shards: u16,
    /// Only these suites
    #[arg(long, value_enum, value_delimiter = ',')]
    suite: Vec<Suite>,
    /// Show everything that the suites print
    #[arg(long)]
    verbose: bool,
}

/// A library and what is done with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Suite {
    RedisPy,
    RedisPyAsync,
    Celery,
    Rq,
    Ioredis,
    Bullmq,
    RedisRs,
}

impl Suite {
    const ALL: [Suite; 7] = [
        Suite::RedisPy,
        Suite::RedisPyAsync,
        Suite::Celery,
        Suite::Rq,
        Suite::Ioredis,
        Suite::Bullmq,
        Suite::RedisRs,
    ];

    fn name(self) -> &'static str {
        match self {
            Suite::RedisPy => "redis-py",
            Suite::RedisPyAsync => "redis-py-async",
            Suite::Celery => "celery",
            Suite::Rq => "rq",
            Suite::Ioredis => "ioredis",
            Suite::Bullmq => "bullmq",
            Suite::RedisRs => "redis-rs",
        }
    }

    /// Installs what it needs and returns the command that runs it.
    fn prepare(self) -> Result<Command> {
        match self {
            Suite::RedisPy => python("redis_py.py"),
            Suite::RedisPyAsync => python("redis_py_async.py"),
            Suite::Celery => python("celery_jobs.py"),
            Suite::Rq => python("rq_jobs.py"),
            Suite::Ioredis => node("ioredis.mjs"),
            Suite::Bullmq => node("bullmq.mjs"),
            Suite::RedisRs => rust(),
        }
    }
}

/// What a suite said.
#[derive(Debug, Default)]
struct Outcome {
    version: String,
    passed: usize,
    failed: Vec<String>,
    skipped: Vec<String>,
    /// Why it did not run to its end.
    broken: Option<String>,
}

/// Runs the suites; true if every check of every suite passed.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let binary = options.server.locate(&[], "release")?;
    let suites = match options.suite.is_empty() {
        true => Suite::ALL.to_vec(),
        false => options.suite.clone(),
    };
    println!(
        "clients of {}, {} shards\n",
        binary.path.display(),
        options.shards
    );
    println!(
        "{:<16} {:<24} {:>6} {:>6} {:>7}  {:>7}",
        "suite", "library", "ok", "failed", "skipped", "seconds"
    );
    let mut all_passed = true;
    for suite in suites {
        let mut command = suite
            .prepare()
            .with_context(|| format!("preparing {}", suite.name()))?;
        let begun = Instant::now();
        let outcome = run_suite(&mut command, &binary, options)?;
        println!(
            "{:<16} {:<24} {:>6} {:>6} {:>7}  {:>7.1}",
            suite.name(),
            outcome.version,
            outcome.passed,
            outcome.failed.len(),
            outcome.skipped.len(),
            begun.elapsed().as_secs_f64()
        );
        for line in outcome.failed.iter().chain(&outcome.skipped) {
            println!("    {line}");
        }
        if let Some(why) = &outcome.broken {
            println!("    {why}");
        }
        all_passed &= outcome.failed.is_empty() && outcome.broken.is_none() && outcome.passed > 0;
    }
    Ok(all_passed)
}

fn run_suite(command: &mut Command, binary: &ServerBinary, options: &Options) -> Result<Outcome> {
    let dir = tempfile::Builder::new().prefix("moon-clients-").tempdir()?;
    let config = ServerConfig::new(binary.flavor, &binary.path, dir.path().join("data"))
        .shards(options.shards)
        .append(FsyncPolicy::Everysec);
    let mut server = Server::start(config)?;
    command
        .env("MOON_CLIENTS_PORT", server.config().port.to_string())
        .env("PYTHONDONTWRITEBYTECODE", "1");
    let (stdout, stderr) = (dir.path().join("stdout"), dir.path().join("stderr"));
    let status = run_to_end(command, &stdout, &stderr)?;
    let text = read(&stdout);
    let errors = read(&stderr);
    if options.verbose {
        println!("{text}{errors}");
    }
    let mut outcome = Outcome::default();
    for line in text.lines() {
        match line.split_once(' ') {
            Some(("version", version)) => outcome.version = version.to_owned(),
            Some(("ok", _)) => outcome.passed += 1,
            Some(("FAIL", _)) => outcome.failed.push(line.to_owned()),
            Some(("skip", _)) => outcome.skipped.push(line.to_owned()),
            _ => {}
        }
    }
    match status {
        None => outcome.broken = Some(format!("not done after {SUITE_TIMEOUT:?}")),
        Some(status) if !status.success() && outcome.failed.is_empty() => {
            let last = errors.lines().last().unwrap_or_default();
            outcome.broken = Some(format!("ended with {status}: {last}"));
        }
        Some(_) => {}
    }
    // A server that died under the suite is worse than a check that failed.
    if server.wait_ready().is_err() {
        outcome.broken = Some(format!("the server died\n{}", server.log_tail()));
    }
    Ok(outcome)
}

/// Runs a suite with the processes that it starts, and ends all of them if it takes too long; `None`
/// then.
fn run_to_end(command: &mut Command, stdout: &Path, stderr: &Path) -> Result<Option<ExitStatus>> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(File::create(stdout)?)
        .stderr(File::create(stderr)?)
        .process_group(0)
        .spawn()
        .with_context(|| format!("running {command:?}"))?;
    let deadline = Instant::now() + SUITE_TIMEOUT;
    let status = loop {
        match child.try_wait()? {
            Some(status) => break Some(status),
            None if Instant::now() > deadline => break None,
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    };
    // Workers that it started may be left; they have its group.
    if let Ok(group) = i32::try_from(child.id()) {
        let killed = killpg(Pid::from_raw(group), Signal::SIGKILL);
        // None is left: all is well.
        ensure!(
            matches!(killed, Ok(()) | Err(Errno::ESRCH)),
            "cannot end {command:?}"
        );
    }
    child.wait()?;
    Ok(status)
}

fn read(path: &Path) -> String {
    let bytes = std::fs::read(path).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn sources(language: &str) -> PathBuf {
    workspace_root().join("tests/clients").join(language)
}

fn installed(language: &str) -> PathBuf {
    target_dir().join("clients").join(language)
}

/// Runs an installer; its output is shown only if it fails.
fn install(command: &mut Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("running {command:?}"))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} failed\n{errors}");
    Ok(())
}

fn python(script: &str) -> Result<Command> {
    let venv = installed("python");
    let python = venv.join("bin/python");
    if !python.exists() {
        install(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
    }
    let wanted = sources("python").join("requirements.txt");
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--quiet", "-r"])
        .arg(wanted);
    install(&mut pip)?;
    let mut command = Command::new(python);
    command.arg(script).current_dir(sources("python"));
    Ok(command)
}

fn node(script: &str) -> Result<Command> {
    let dir = installed("node");
    std::fs::create_dir_all(&dir)?;
    // Modules are looked up beside the script, so the scripts go where they are installed.
    for entry in std::fs::read_dir(sources("node"))? {
        let path = entry?.path();
        copy_into(&path, &dir)?;
    }
    let mut npm = Command::new("npm");
    npm.args(["install", "--no-audit", "--no-fund"])
        .current_dir(&dir);
    install(&mut npm)?;
    let mut command = Command::new("node");
    command.arg(script).current_dir(dir);
    Ok(command)
}

fn copy_into(path: &Path, dir: &Path) -> Result<()> {
    if let (true, Some(name)) = (path.is_file(), path.file_name()) {
        std::fs::copy(path, dir.join(name))?;
    }
    Ok(())
}

fn rust() -> Result<Command> {
    let target = installed("rust");
    let mut build = cargo();
    build.arg("build").current_dir(sources("rust"));
    build.env("CARGO_TARGET_DIR", &target);
    install(&mut build)?;
    Ok(Command::new(target.join("debug/moon-clients")))
}
