//! The moon-server program: read the configuration, check the start, serve.

use moon_server::boot::{self, BootError};
use moon_server::config::{self, Config, Outcome, RuntimeConfig};
use moon_server::loading::Progress;
use moon_server::startup::{self, Refusal};
use moon_server::{cores, logging, recover, tools};
use nix::sys::signal::{SigSet, Signal};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

#[global_allocator]
static ALLOCATOR: moon_alloc::Allocator = moon_alloc::Allocator;

/// Exit code of a configuration that is not understood or not supported.
const CONFIG_ERROR: u8 = 1;
/// Exit code of a start that could lose data.
const REFUSED: u8 = 2;
/// Exit code of a stop that could not make the last writes durable.
const UNCLEAN: u8 = 1;

fn main() -> ExitCode {
    abort_on_panic();
    outlive_file_size_limit();
    let args: Vec<String> = std::env::args_os()
        .skip(1)
        .map(|a| a.to_string_lossy().into_owned())
        .collect();
    if let Some(code) = tools::run(&args) {
        return code;
    }
    let loaded = match config::load(&args) {
        Ok(Outcome::Run(loaded)) => *loaded,
        Ok(Outcome::Print(text)) => {
            print!("{text}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(CONFIG_ERROR);
        }
    };
    match run(loaded) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Stop::Refused(refusal)) => {
            eprintln!("{refusal}");
            ExitCode::from(REFUSED)
        }
        Err(Stop::Unclean) => ExitCode::from(UNCLEAN),
    }
}

/// A file that grows beyond RLIMIT_FSIZE gives an error like a full disk, instead of killing the
/// process. Every thread made later inherits this.
fn outlive_file_size_limit() {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGXFSZ);
    if let Err(error) = signals.thread_block() {
        eprintln!("cannot block SIGXFSZ: {error}; a file size limit would end the server");
    }
}

/// A panic anywhere ends the whole process: a server that is half alive would go on
/// acknowledging. Release builds abort by their profile; this makes it so in every build.
fn abort_on_panic() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        print(info);
        std::process::abort();
    }));
}

fn run(loaded: config::Loaded) -> Result<(), Stop> {
    let mut config = loaded.config;
    if config.check_config {
        let scan = |config: &Config| {
            recover::check(config, cores::default_shards(), &Progress::default())
                .map_err(|error| Refusal::from_error(&error))
        };
        let checked = startup::check(&config, scan)?;
        for note in loaded.notes.iter().chain(&checked.notes) {
            println!("{note}");
        }
        println!("{}", config.durability_line());
        println!("The configuration is good; a start would succeed");
        return Ok(());
    }
    if config.disable_thp
        && let Err(error) = nix::sys::prctl::set_thp_disable(true)
    {
        eprintln!("cannot switch transparent huge pages off: {error}; memory may be larger");
    }
    // The scan of the log follows when clients can already be told that it is loading.
    let checked = startup::check(&config, |_| Ok(()))?;
    config.maxclients = checked.maxclients;
    let logfile = config.logfile.clone();
    let pidfile = config.pidfile.clone();
    let runtime = Arc::new(RuntimeConfig::new(config));
    logging::init(&logfile, runtime.settings())
        .map_err(|error| Refusal::new(format!("cannot write the log file {logfile}: {error}")))?;
    for note in loaded.notes.iter().chain(&checked.notes) {
        tracing::info!("{note}");
    }
    if !pidfile.is_empty()
        && let Err(error) = startup::write_pidfile(Path::new(&pidfile))
    {
        tracing::warn!("Cannot write the pid file {pidfile}: {error}");
    }
    let result = boot::run(runtime, cores::default_shards());
    if !pidfile.is_empty() {
        // Somebody may have removed it already; a stale one is overwritten by the next start.
        drop(std::fs::remove_file(&pidfile));
    }
    drop(checked.lock);
    match result {
        Ok(()) => Ok(()),
        // Not a refusal to start, but data may be at risk all the same.
        Err(BootError::Shutdown(error)) => {
            let text = Refusal::from_error(&error).reason;
            tracing::error!("The log was not closed cleanly: {text}");
            Err(Stop::Unclean)
        }
        Err(error) => Err(Stop::Refused(Refusal::from_error(&error))),
    }
}

/// Why the program ends with an error.
enum Stop {
    /// Before serving.
    Refused(Refusal),
    /// After serving; the log says why, and the next start recovers.
    Unclean,
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Stop {
        Stop::Refused(refusal)
    }
}
