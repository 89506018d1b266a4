//! The server's side of a running script: which commands it may call, on which data.
//!
//! A command on data runs here, on the script's stack, against the shards in hand. What concerns
//! the connection or the process is asked of the connection's task ([`Ask`]).

use super::Scripts;
use super::busy::Fate;
use super::fiber::Asks;
use crate::config::UndeclaredKeys;
use crate::connection::pause::writes;
use moon_commands::evict::OUT_OF_MEMORY;
use moon_commands::{CommandId, CommandSpec, Flags, Run, Scope, by_id, lookup, subcommands};
use moon_core::{Lsn, ShardCount, UnixMs};
use moon_resp::{Args, OwnedArgs, Protocol, Reply};
use moon_script::{AclAnswer, Host, LogLevel, Stop};
use moon_shard::{Borrowed, ShardMask};
use moon_store::DbIndex;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a script asks of the connection's task.
pub(super) enum Ask {
    /// Run a command of the server; [`Answer::Reply`] is the answer.
    Command {
        /// Which.
        id: CommandId,
        /// The request.
        request: OwnedArgs,
        /// In which database.
        db: DbIndex,
        /// How to answer.
        protocol: Protocol,
    },
    /// The script takes long: let others run. It is asked for again and again.
    LetOthersRun,
}

/// What the connection's task answers.
pub(super) enum Answer {
    /// Go on.
    GoOn,
    /// The reply of a command, and what it depends on.
    Reply(Vec<u8>, Lsn),
    /// Somebody has asked for the script's end.
    Kill,
}

/// What is known of a run before it begins.
pub(super) struct Conditions {
    pub(super) shards: ShardCount,
    /// Those of the keys that it declares.
    pub(super) declared: ShardMask,
    pub(super) db: DbIndex,
    /// It may not write: EVAL_RO and the like, or `no-writes`.
    pub(super) read_only: bool,
    /// It may write while memory has run out.
    pub(super) allow_oom: bool,
    /// Whether memory has run out.
    pub(super) out_of_memory: bool,
    /// The error with which writes are refused, if they are.
    pub(super) misconf: Option<String>,
    pub(super) undeclared: UndeclaredKeys,
    /// How long it may take before others run.
    pub(super) threshold: Option<Duration>,
    pub(super) fate: Arc<Fate>,
}

/// The host of one run.
pub(super) struct ScriptHost<'a> {
    asks: &'a Asks,
    conditions: Conditions,
    pub(super) data: Box<Borrowed>,
    in_hand: ShardMask,
    started: Instant,
    /// Microseconds since 1970 for as long as the script runs.
    time_us: i64,
    /// Whether it did what cannot be taken back by running it again.
    acted: bool,
    wrote: bool,
    /// Whether it asked for keys of shards that it did not declare.
    pub(super) strayed: bool,
    pub(super) depends_on: Lsn,
    positions: Vec<usize>,
}

const UNKNOWN: &str = "ERR Unknown Redis command called from script";
const WRONG_ARITY: &str = "ERR Wrong number of args calling Redis command from script";
const NOT_ALLOWED: &str = "ERR This Redis command is not allowed from script";
const READ_ONLY: &str = "ERR Write commands are not allowed from read-only scripts.";
const UNDECLARED: &str = "ERR Script attempted to access a key of another shard that it did not \
                          declare: name it in KEYS";
const UNDECLARED_AFTER_WRITE: &str = "ERR Script attempted to access a key of another shard that \
                                      it did not declare, after it had written: name it in KEYS, \
                                      or set script-undeclared-keys to all";

impl<'a> ScriptHost<'a> {
    pub(super) fn new(
        asks: &'a Asks,
        data: Box<Borrowed>,
        conditions: Conditions,
    ) -> ScriptHost<'a> {
        let UnixMs(time_ms) = data.now();
        ScriptHost {
            asks,
            in_hand: data.mask(),
            conditions,
            time_us: time_ms.saturating_mul(1000),
            data,
            started: Instant::now(),
            acted: false,
            wrote: false,
            strayed: false,
            depends_on: Lsn::ZERO,
            positions: Vec::new(),
        }
    }

    /// The shards that a command touches.
    fn shards_of(&mut self, spec: &CommandSpec, args: Args<'_>) -> ShardMask {
        let count = self.conditions.shards;
        match spec.scope_of(args) {
            Scope::None => ShardMask::default(),
            Scope::AllShards => ShardMask::all(count),
            Scope::Cursor => {
                let cursor = args.get(1).unwrap_or_default();
                ShardMask::default().with(moon_commands::scan::cursor_shard(cursor, count))
            }
            Scope::Keys | Scope::Patterns => {
                self.positions.clear();
                spec.key_positions(args, &mut self.positions);
                let keys = self.positions.iter().filter_map(|at| args.get(*at));
                keys.fold(ShardMask::default(), |mask, key| {
                    mask.with(count.shard_of_key(key))
                })
            }
        }
    }

    /// Whether a write may happen now. As in Redis only the first one of a script is refused for
    /// what has befallen disk or memory: later ones could leave it half done.
    fn refuses_write(&self, spec: &CommandSpec) -> Option<&str> {
        let conditions = &self.conditions;
        // What may reach replicas counts as a write here, though it changes no key.
        if conditions.read_only && writes(spec) {
            return Some(READ_ONLY);
        }
        if !spec.is_write() || self.wrote {
            return None;
        }
        if let Some(misconf) = &conditions.misconf
            && !spec.flags.contains(Flags::FREES_MEMORY)
        {
            return Some(misconf);
        }
        let is_short = conditions.out_of_memory && !conditions.allow_oom;
        (is_short && spec.flags.contains(Flags::DENYOOM)).then_some(OUT_OF_MEMORY)
    }

    fn run_here(
        &mut self,
        spec: &'static CommandSpec,
        id: CommandId,
        args: Args<'_>,
        protocol: Protocol,
        reply: &mut Vec<u8>,
    ) -> Result<(), Stop> {
        let needed = self.shards_of(spec, args);
        self.strayed |= !self.conditions.declared.contains_all(needed);
        if !self.in_hand.contains_all(needed) {
            let text = match self.conditions.undeclared {
                UndeclaredKeys::Refuse => UNDECLARED,
                _ if self.acted || self.wrote => UNDECLARED_AFTER_WRITE,
                UndeclaredKeys::Retry | UndeclaredKeys::All => return Err(Stop::RunAgain),
            };
            Reply::new(reply, protocol).error(text);
            return Ok(());
        }
        if spec.is_write() && !self.wrote {
            if !self.conditions.fate.write() {
                return Err(Stop::Killed);
            }
            self.wrote = true;
        }
        let db = self.conditions.db;
        let depends_on = self.data.execute_as(spec, id, args, db, protocol, reply);
        self.depends_on = self.depends_on.max(depends_on);
        Ok(())
    }

    fn run_on_server(
        &mut self,
        id: CommandId,
        args: Args<'_>,
        protocol: Protocol,
        reply: &mut Vec<u8>,
    ) -> Result<(), Stop> {
        match by_id(id).name {
            "select" => {
                let databases = self.databases();
                match moon_commands::parse::database(args.at(1), databases) {
                    Ok(db) => {
                        self.conditions.db = db;
                        Reply::new(reply, protocol).ok();
                    }
                    Err(error) => Reply::new(reply, protocol).error(error.text()),
                }
            }
            "time" => {
                let mut reply = Reply::new(reply, protocol);
                reply.array(2);
                reply.bulk((self.time_us / 1_000_000).to_string().as_bytes());
                reply.bulk((self.time_us % 1_000_000).to_string().as_bytes());
            }
            // It waits for another server, and nothing waits inside a script.
            "migrate" => Reply::new(reply, protocol).error(NOT_ALLOWED),
            _ => {
                self.acted = true;
                let request = args.into();
                let db = self.conditions.db;
                let ask = Ask::Command {
                    id,
                    request,
                    db,
                    protocol,
                };
                match self.asks.suspend(ask) {
                    Answer::Reply(bytes, depends_on) => {
                        reply.extend_from_slice(&bytes);
                        self.depends_on = self.depends_on.max(depends_on);
                    }
                    Answer::Kill => return Err(Stop::Killed),
                    Answer::GoOn => Reply::new(reply, protocol).error(NOT_ALLOWED),
                }
            }
        }
        Ok(())
    }

    fn databases(&self) -> usize {
        self.data.all().next().map_or(0, |data| data.dbs.len())
    }
}

/// The row of a command that a script calls, and its id.
fn find(args: Args<'_>) -> Result<(CommandId, &'static CommandSpec), &'static str> {
    let (id, spec) = lookup(args.at(0)).ok_or(UNKNOWN)?;
    if !spec.accepts(args.len()) {
        return Err(WRONG_ARITY);
    }
    if subcommands::of(spec.name).is_empty() {
        return Ok((id, spec));
    }
    let name = args.get(1).unwrap_or_default();
    let spec = subcommands::lookup(spec.name, name).ok_or(UNKNOWN)?;
    if spec.accepts(args.len()) {
        Ok((id, spec))
    } else {
        Err(WRONG_ARITY)
    }
}

impl Host for ScriptHost<'_> {
    fn call(
        &mut self,
        args: Args<'_>,
        protocol: Protocol,
        reply: &mut Vec<u8>,
    ) -> Result<(), Stop> {
        let found = find(args).and_then(|(id, spec)| {
            if spec.flags.contains(Flags::NOSCRIPT) {
                return Err(NOT_ALLOWED);
            }
            Ok((id, spec))
        });
        let (id, spec) = match found {
            Ok(found) => found,
            Err(text) => {
                Reply::new(reply, protocol).error(text);
                return Ok(());
            }
        };
        if let Some(text) = self.refuses_write(spec) {
            Reply::new(reply, protocol).error(text);
            return Ok(());
        }
        match spec.run {
            Run::Data(_) => self.run_here(spec, id, args, protocol, reply),
            Run::Server => self.run_on_server(id, args, protocol, reply),
        }
    }

    fn keep_running(&mut self) -> Result<(), Stop> {
        let takes_long = |threshold| self.started.elapsed() >= threshold;
        if !self.conditions.threshold.is_some_and(takes_long) {
            return Ok(());
        }
        self.data.step_aside();
        match self.asks.suspend(Ask::LetOthersRun) {
            Answer::Kill => Err(Stop::Killed),
            Answer::GoOn | Answer::Reply(..) => Ok(()),
        }
    }

    fn log(&mut self, level: LogLevel, text: &[u8]) {
        Scripts::log(level, text);
    }

    fn acl_check(&mut self, args: Args<'_>) -> AclAnswer {
        match find(args) {
            Ok(_) => AclAnswer::Allowed,
            Err(_) => AclAnswer::UnknownCommand,
        }
    }

    fn clock(&mut self) -> f64 {
        super::processor_seconds()
    }
}

/// The host of a library's code while it is loaded: no commands, and little time.
pub(super) struct LoadHost {
    until: Option<Instant>,
}

/// How long the code of a library may take, as in Redis.
const LOAD_TIME_MAX: Duration = Duration::from_millis(500);

impl LoadHost {
    /// For a library that a client sends.
    pub(super) fn new() -> LoadHost {
        LoadHost {
            until: Some(Instant::now() + LOAD_TIME_MAX),
        }
    }

    /// For one that was loaded before, here or on another shard.
    pub(super) fn again() -> LoadHost {
        LoadHost { until: None }
    }
}

impl Host for LoadHost {
    fn call(&mut self, _: Args<'_>, protocol: Protocol, reply: &mut Vec<u8>) -> Result<(), Stop> {
        Reply::new(reply, protocol).error(NOT_ALLOWED);
        Ok(())
    }

    fn keep_running(&mut self) -> Result<(), Stop> {
        match self.until {
            Some(until) if Instant::now() >= until => Err(Stop::LoadTimeout),
            _ => Ok(()),
        }
    }

    fn log(&mut self, level: LogLevel, text: &[u8]) {
        Scripts::log(level, text);
    }

    fn acl_check(&mut self, _: Args<'_>) -> AclAnswer {
        AclAnswer::UnknownCommand
    }

    fn clock(&mut self) -> f64 {
        super::processor_seconds()
    }
}
