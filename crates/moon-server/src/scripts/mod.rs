//! Scripts and functions: the engine of `moon-script` wired to the data.
//!
//! In reading order:
//! * `call`: EVAL, EVALSHA, FCALL: which data, how often, what comes out.
//! * `host`: what a running script may do.
//! * `fiber`: the stack on which it runs, so that it can be left and gone on with.
//! * `engine`: the Lua state of one shard. `cache`: the scripts of the process.
//! * `functions`: the libraries as all shards see them. `commands`: SCRIPT and FUNCTION.
//! * `busy`: scripts that take long. `refused`: error replies.
//!
//! # A script that takes long
//! Below `busy-reply-threshold` a script runs like a command: nothing else happens on its thread.
//! Beyond, it steps aside every so often: what its shard's turn had before is ended, the data stays
//! with the script, the connections on all shards answer BUSY, and SCRIPT KILL can end it. A
//! script that is ended so, or with the process, leaves nothing in the log, because its effects
//! are issued when it is over.

mod busy;
mod cache;
mod call;
mod commands;
mod engine;
mod fiber;
mod functions;
mod host;
mod refused;

use crate::connection::{Close, Connection};
pub use busy::BusyNumbers;
use busy::BusyScripts;
use cache::ScriptCache;
use engine::ShardEngine;
use functions::FunctionView;
use moon_commands::{CommandId, by_id};
use moon_core::{Lsn, ShardCount};
use moon_resp::Args;
use moon_script::LogLevel;
use moon_shard::{Borrowed, Shard};
use moon_store::Libraries;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

pub(crate) use call::acquire;

/// What runs: a script of a client, or a function of a library.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Script,
    Function,
}

/// The scripts and functions of the process.
#[derive(Debug)]
pub(crate) struct Scripts {
    cache: ScriptCache,
    functions: FunctionView,
    pub(crate) busy: Arc<BusyScripts>,
    /// Bytes that the engine of each shard has.
    engine_bytes: Vec<AtomicU64>,
}

/// What INFO shows of them.
#[derive(Clone, Copy, Debug, Default)]
pub struct ScriptsInfo {
    /// Scripts that are kept.
    pub scripts: u64,
    /// Bytes of their texts.
    pub script_bytes: u64,
    /// Scripts that gave way to others.
    pub evicted: u64,
    /// Libraries of functions.
    pub libraries: u64,
    /// Functions in them.
    pub functions: u64,
    /// Bytes of their texts.
    pub function_bytes: u64,
    /// Bytes of all engines.
    pub engine_bytes: u64,
    /// Those that take long.
    pub busy: BusyNumbers,
}

impl Scripts {
    /// None yet, and the libraries that recovery found.
    pub(crate) fn new(shards: ShardCount, libraries: Libraries) -> Arc<Scripts> {
        Arc::new(Scripts {
            cache: ScriptCache::default(),
            functions: FunctionView::new(libraries),
            busy: Arc::default(),
            engine_bytes: shards.ids().map(|_| AtomicU64::new(0)).collect(),
        })
    }

    /// What INFO shows.
    pub(crate) fn info(&self) -> ScriptsInfo {
        let (scripts, script_bytes, evicted) = self.cache.counts();
        let (libraries, functions, function_bytes) = self.functions.counts();
        let engines = self.engine_bytes.iter();
        ScriptsInfo {
            scripts,
            script_bytes,
            evicted,
            libraries,
            functions,
            function_bytes,
            engine_bytes: engines.map(|bytes| bytes.load(Relaxed)).sum(),
            busy: self.busy.numbers(),
        }
    }

    fn note_memory(&self, shard: &Shard, engine: &ShardEngine) {
        if let Some(bytes) = self.engine_bytes.get(shard.id().index()) {
            bytes.store(engine.lua.memory() as u64, Relaxed);
        }
    }

    /// A line that a script writes to the server's log.
    fn log(level: LogLevel, text: &[u8]) {
        let text = String::from_utf8_lossy(text);
        match level {
            LogLevel::Debug => tracing::trace!("{text}"),
            LogLevel::Verbose => tracing::debug!("{text}"),
            LogLevel::Notice => tracing::info!("{text}"),
            LogLevel::Warning => tracing::warn!("{text}"),
        }
    }
}

/// Loads the libraries that recovery found into this thread's engine, so that they are counted
/// and a broken one is named at the start.
pub(crate) fn load_recovered(scripts: &Arc<Scripts>, shard: &Shard) {
    if scripts.functions.version() == 0 {
        return;
    }
    match ShardEngine::take() {
        Ok(engine) => {
            let engine = call::current(engine, scripts);
            scripts.note_memory(shard, &engine);
            engine.put_back();
        }
        Err(text) => tracing::error!("Cannot load the libraries of functions: {text}"),
    }
}

/// Whether a command is one of these.
pub(crate) fn runs(id: CommandId) -> bool {
    by_id(id).group == "scripting"
}

/// Whether a request changes libraries, so that it needs the data of all shards.
fn changes_libraries(id: CommandId, args: Args<'_>) -> bool {
    moon_commands::subcommands::row_of(by_id(id), args).is_write()
}

/// Runs one of these commands on its own.
pub(crate) async fn run(
    connection: &mut Connection,
    id: CommandId,
    args: Args<'_>,
) -> Result<(), Close> {
    let mut out = Vec::new();
    let depends_on = run_in(connection, id, args, &mut None, &mut out).await?;
    connection.write_dependent_reply(depends_on, |reply| reply.raw(&out));
    Ok(())
}

/// Runs one of these commands: alone, or within a transaction that has `data` of all shards in
/// hand. Appends the reply to `out` and returns what it depends on; [`moon_store::THIS_TURN`]
/// stands for what the transaction writes.
pub(crate) async fn run_in(
    connection: &mut Connection,
    id: CommandId,
    args: Args<'_>,
    data: &mut Option<Box<Borrowed>>,
    out: &mut Vec<u8>,
) -> Result<Lsn, Close> {
    match by_id(id).name {
        "script" | "function" => {
            // The future of the other is made room for with every request otherwise.
            Box::pin(commands::run(connection, id, args, data, out)).await
        }
        _ => call::run(connection, id, args, data, out).await,
    }
}

/// A transaction that changed libraries has ended at `end`.
pub(crate) fn transaction_ended(scripts: &Scripts, end: Lsn) {
    scripts.functions.ended(scripts.functions.version(), end);
}

/// Seconds of processor time that the process has used.
fn processor_seconds() -> f64 {
    use nix::sys::resource::{UsageWho, getrusage};
    use nix::sys::time::TimeValLike as _;
    getrusage(UsageWho::RUSAGE_SELF).map_or(0.0, |usage| {
        let used = usage.user_time() + usage.system_time();
        used.num_microseconds() as f64 / 1e6
    })
}
