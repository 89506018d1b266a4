//! What the engine asks of the server while a script runs.

use crate::raised::Raised;
use moon_resp::{Args, Protocol};

/// The server's side of a running script. Everything a script can do outside itself passes here.
///
/// Whether a command may run (writes in read-only scripts, memory limits, access rules, commands
/// that scripts may not call) is the host's decision; it answers with an error reply.
pub trait Host {
    /// Runs one command and appends its one reply to `reply`, encoded in `protocol`.
    ///
    /// # Errors
    /// [`Stop`] ends the script here; it cannot catch that.
    fn call(&mut self, args: Args<'_>, protocol: Protocol, reply: &mut Vec<u8>)
    -> Result<(), Stop>;

    /// Asked every [`Limits::instructions_per_check`](crate::Limits) Lua instructions, and now and
    /// then while a library or a conversion goes through many values.
    ///
    /// # Errors
    /// [`Stop`] ends the script here; it cannot catch that.
    fn keep_running(&mut self) -> Result<(), Stop>;

    /// A line that the script writes to the server's log.
    fn log(&mut self, level: LogLevel, text: &[u8]);

    /// Whether the user that runs the script might run this command.
    fn acl_check(&mut self, args: Args<'_>) -> AclAnswer;

    /// Seconds of processor time, for `os.clock`.
    fn clock(&mut self) -> f64;
}

/// Why the host ends a script in the middle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stop {
    /// Somebody asked for it.
    #[error("Script killed by user with SCRIPT KILL.")]
    Killed,
    /// Loading a library took too long.
    #[error("FUNCTION LOAD timeout")]
    LoadTimeout,
    /// The host wants to run it again under other conditions, with more keys at hand for
    /// example. The client does not hear of it.
    #[error("Script is to run again.")]
    RunAgain,
}

/// The levels of `redis.log`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// `LOG_DEBUG`.
    Debug,
    /// `LOG_VERBOSE`.
    Verbose,
    /// `LOG_NOTICE`.
    Notice,
    /// `LOG_WARNING`.
    Warning,
}

impl LogLevel {
    /// All levels by their number in scripts.
    pub const ALL: [LogLevel; 4] = [
        LogLevel::Debug,
        LogLevel::Verbose,
        LogLevel::Notice,
        LogLevel::Warning,
    ];
}

/// What `redis.acl_check_cmd` is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AclAnswer {
    /// The user may run the command.
    Allowed,
    /// The user may not.
    Denied,
    /// There is no such command, or not with so many arguments.
    UnknownCommand,
}

scoped_tls_hkt::scoped_thread_local!(
    static mut HOST: for<'a> &'a mut (dyn Host + 'a)
);

/// Makes `host` the one that [`with_host`] finds, for as long as `run` takes.
pub(crate) fn set_host<R>(host: &mut dyn Host, run: impl FnOnce() -> R) -> R {
    HOST.set(host, run)
}

/// Asks the host now and then whether to go on, in loops that are not Lua's.
#[derive(Debug, Default)]
pub(crate) struct Patience {
    steps: u32,
}

impl Patience {
    /// Steps between two questions.
    const STEPS: u32 = 10_000;

    /// To be called for each value.
    pub(crate) fn step(&mut self) -> mlua::Result<()> {
        self.steps += 1;
        if self.steps < Self::STEPS {
            return Ok(());
        }
        self.steps = 0;
        match with_host(|host| host.keep_running()) {
            Some(Err(stop)) => Err(Raised::Stop(stop).into()),
            Some(Ok(())) | None => Ok(()),
        }
    }
}

/// The host of the running script; `None` outside of a run.
pub(crate) fn with_host<R>(ask: impl FnOnce(&mut dyn Host) -> R) -> Option<R> {
    HOST.is_set().then(|| HOST.with(|host| ask(host)))
}
