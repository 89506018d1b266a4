//! The `redis` table: commands, replies, and what a script may say to the server.

use crate::from_reply::{FromReply, read_reply};
use crate::functions::register_function;
use crate::host::{AclAnswer, LogLevel, with_host};
use crate::raised::{ErrorReply, Raised, error_plain};
use crate::sandbox::number_text;
use crate::state::{CallBuffers, Shared, check_memory, without_limit};
use mlua::{Function, Lua, MultiValue, Table, Value};
use moon_resp::{Args, Protocol, Span, format_double};

/// The version of Redis whose commands and scripts this server understands.
const VERSION: (&str, u32) = ("7.2.4", 0x0007_0204);

/// Which of the three tables is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// For scripts.
    Script,
    /// For functions of libraries.
    Functions,
    /// While a library is loaded.
    Loading,
}

/// Under which name the table is found: `server` has other version fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    Redis,
    Server,
}

/// The functions of the tables. All tables share them.
#[derive(Debug)]
pub(crate) struct Functions {
    named: Vec<(&'static str, Function, &'static [Part])>,
}

const ALL: &[Part] = &[Part::Script, Part::Functions, Part::Loading];
const RUNNING: &[Part] = &[Part::Script, Part::Functions];
const SCRIPT: &[Part] = &[Part::Script];
const LOADING: &[Part] = &[Part::Loading];

impl Functions {
    pub(crate) fn new(lua: &Lua, shared: &Shared) -> mlua::Result<Functions> {
        let mut named = Vec::new();
        let state = shared.clone();
        let call = move |lua: &Lua, args: MultiValue| match call(lua, &state, args)? {
            FromReply::Value(value) => Ok(value),
            FromReply::Error(error) => Err(Raised::Reply(error).into()),
        };
        named.push(("call", lua.create_function(call)?, RUNNING));
        let state = shared.clone();
        let pcall = move |lua: &Lua, args: MultiValue| match self::call(lua, &state, args)? {
            FromReply::Value(value) => Ok(value),
            FromReply::Error(error) => Ok(Value::Table(error.to_table(lua)?)),
        };
        named.push(("pcall", lua.create_function(pcall)?, RUNNING));
        named.push(("error_reply", lua.create_function(error_reply)?, RUNNING));
        named.push(("status_reply", lua.create_function(status_reply)?, RUNNING));
        named.push(("sha1hex", lua.create_function(sha1hex)?, RUNNING));
        named.push(("log", lua.create_function(log)?, ALL));
        let state = shared.clone();
        let setresp = move |_: &Lua, args: MultiValue| setresp(&state, &args);
        named.push(("setresp", lua.create_function(setresp)?, RUNNING));
        let state = shared.clone();
        let acl_check = move |_: &Lua, args: MultiValue| acl_check_cmd(&state, &args);
        named.push(("acl_check_cmd", lua.create_function(acl_check)?, RUNNING));
        let set_repl = |_: &Lua, args: MultiValue| set_repl(&args);
        named.push(("set_repl", lua.create_function(set_repl)?, RUNNING));
        let replicate = |_: &Lua, _: MultiValue| Ok(true);
        named.push((
            "replicate_commands",
            lua.create_function(replicate)?,
            SCRIPT,
        ));
        let breakpoint = |_: &Lua, _: MultiValue| Ok(false);
        named.push(("breakpoint", lua.create_function(breakpoint)?, SCRIPT));
        let debug = |_: &Lua, _: MultiValue| Ok(());
        named.push(("debug", lua.create_function(debug)?, SCRIPT));
        let state = shared.clone();
        let register = move |_: &Lua, args: MultiValue| register_function(&state, args);
        named.push(("register_function", lua.create_function(register)?, LOADING));
        Ok(Functions { named })
    }

    /// One of the tables.
    pub(crate) fn table(&self, lua: &Lua, part: Part, name: Name) -> mlua::Result<Table> {
        let table = lua.create_table()?;
        for (name, function, parts) in &self.named {
            if parts.contains(&part) {
                table.raw_set(*name, function)?;
            }
        }
        for (number, level) in ["DEBUG", "VERBOSE", "NOTICE", "WARNING"].iter().enumerate() {
            table.raw_set(format!("LOG_{level}"), number)?;
        }
        table.raw_set("REDIS_VERSION", VERSION.0)?;
        table.raw_set("REDIS_VERSION_NUM", VERSION.1)?;
        if name == Name::Server {
            table.raw_set("SERVER_NAME", "moon")?;
            table.raw_set("SERVER_VERSION", VERSION.0)?;
            table.raw_set("SERVER_VERSION_NUM", VERSION.1)?;
        }
        if part != Part::Loading {
            for (name, value) in [
                ("REPL_NONE", 0),
                ("REPL_AOF", REPL_AOF),
                ("REPL_SLAVE", REPL_REPLICA),
                ("REPL_REPLICA", REPL_REPLICA),
                ("REPL_ALL", REPL_AOF | REPL_REPLICA),
            ] {
                table.raw_set(name, value)?;
            }
        }
        Ok(table)
    }
}

const REPL_AOF: i64 = 1;
const REPL_REPLICA: i64 = 2;

/// Runs a command for `redis.call` and `redis.pcall`.
fn call(lua: &Lua, shared: &Shared, args: MultiValue) -> mlua::Result<FromReply> {
    let mut buffers = shared.call.borrow_mut();
    buffers.clear();
    if let Err(problem) = put_args(&mut buffers, &args) {
        return Ok(FromReply::Error(problem.into()));
    }
    drop(args);
    let CallBuffers { args, spans, reply } = &mut *buffers;
    let protocol = shared.protocol.get();
    let outcome = with_host(|host| host.call(Args::new(args, spans), protocol, reply));
    match outcome {
        Some(Ok(())) => {
            let limit = shared.bytes_max;
            let value = without_limit(lua, limit, || read_reply(lua, reply))?;
            check_memory(lua, limit)?;
            Ok(value)
        }
        Some(Err(stop)) => Err(Raised::Stop(stop).into()),
        None => Err(error_plain("commands run only inside of a script")),
    }
}

/// Arguments that are no command.
#[derive(Clone, Copy, Debug, thiserror::Error)]
enum ArgsError {
    #[error("Please specify at least one argument for this redis lib call")]
    None,
    #[error("Lua redis lib command arguments must be strings or integers")]
    NoText,
    #[error("Lua redis lib command arguments are too long")]
    TooLong,
}

impl From<ArgsError> for ErrorReply {
    fn from(error: ArgsError) -> ErrorReply {
        ErrorReply::of_api(&error.to_string())
    }
}

/// Writes the arguments one behind the other.
fn put_args(buffers: &mut CallBuffers, args: &MultiValue) -> Result<(), ArgsError> {
    if args.is_empty() {
        return Err(ArgsError::None);
    }
    for arg in args {
        let start = buffers.args.len();
        match arg {
            Value::String(text) => buffers.args.extend_from_slice(&text.as_bytes()),
            Value::Integer(value) => buffers.args.extend_from_slice(value.to_string().as_bytes()),
            Value::Number(value) => {
                buffers
                    .args
                    .extend_from_slice(format_double(*value).as_bytes());
            }
            _ => return Err(ArgsError::NoText),
        }
        let len = buffers.args.len() - start;
        let (Ok(start), Ok(len)) = (u32::try_from(start), u32::try_from(len)) else {
            return Err(ArgsError::TooLong);
        };
        buffers.spans.push(Span { start, len });
    }
    match u32::try_from(buffers.args.len()) {
        Ok(_) => Ok(()),
        Err(_) => Err(ArgsError::TooLong),
    }
}

fn only_text(args: &MultiValue) -> Option<&mlua::LuaString> {
    match (args.len(), args.front()) {
        (1, Some(Value::String(text))) => Some(text),
        _ => None,
    }
}

fn error_reply(lua: &Lua, args: MultiValue) -> mlua::Result<Table> {
    let Some(text) = only_text(&args) else {
        return ErrorReply::of_api("wrong number or type of arguments").to_table(lua);
    };
    let bytes = text.as_bytes();
    let text = bytes.strip_prefix(b"-").unwrap_or(&bytes);
    ErrorReply::with_code(text, false).to_table(lua)
}

fn status_reply(lua: &Lua, args: MultiValue) -> mlua::Result<Table> {
    let Some(text) = only_text(&args) else {
        return ErrorReply::of_api("wrong number or type of arguments").to_table(lua);
    };
    let table = lua.create_table()?;
    table.raw_set("ok", text)?;
    Ok(table)
}

fn sha1hex(_: &Lua, args: MultiValue) -> mlua::Result<String> {
    let text = match (args.len(), args.front()) {
        (1, Some(Value::String(text))) => text.as_bytes().to_vec(),
        (1, Some(number @ (Value::Integer(_) | Value::Number(_)))) => {
            number_text(number).into_bytes()
        }
        // Redis reads everything else as an empty string.
        (1, _) => Vec::new(),
        _ => return Err(api_error("wrong number of arguments")),
    };
    Ok(sha1_smol::Sha1::from(text).digest().to_string())
}

fn api_error(text: &str) -> mlua::Error {
    Raised::Reply(ErrorReply::of_api(text)).into()
}

fn log(_: &Lua, args: MultiValue) -> mlua::Result<()> {
    if args.len() < 2 {
        return Err(api_error("redis.log() requires two arguments or more."));
    }
    let level = match args.front() {
        Some(Value::Integer(level)) => Some(*level),
        Some(Value::Number(level)) => Some(crate::number::to_i64(*level)),
        _ => None,
    };
    let Some(level) = level else {
        return Err(api_error("First argument must be a number (log level)."));
    };
    let level = usize::try_from(level)
        .ok()
        .and_then(|n| LogLevel::ALL.get(n));
    let Some(&level) = level else {
        return Err(api_error("Invalid debug level."));
    };
    let mut line = Vec::new();
    for (index, arg) in args.iter().skip(1).enumerate() {
        if index > 0 {
            line.push(b' ');
        }
        match arg {
            Value::String(text) => line.extend_from_slice(&text.as_bytes()),
            number @ (Value::Integer(_) | Value::Number(_)) => {
                line.extend_from_slice(number_text(number).as_bytes());
            }
            _ => {}
        }
    }
    with_host(|host| host.log(level, &line));
    Ok(())
}

fn integer(value: Option<&Value>) -> i64 {
    match value {
        Some(Value::Integer(value)) => *value,
        Some(Value::Number(value)) => crate::number::to_i64(*value),
        Some(Value::String(text)) => {
            let text = text.to_string_lossy();
            text.trim().parse().map_or(0, crate::number::to_i64)
        }
        _ => 0,
    }
}

fn setresp(shared: &Shared, args: &MultiValue) -> mlua::Result<()> {
    if args.len() != 1 {
        return Err(api_error("redis.setresp() requires one argument."));
    }
    shared.protocol.set(match integer(args.front()) {
        2 => Protocol::Resp2,
        3 => Protocol::Resp3,
        _ => return Err(api_error("RESP version must be 2 or 3.")),
    });
    Ok(())
}

/// Which copies of the data a write reaches is not for a script to say here: the log is the
/// stream, and both always get everything. The argument is checked all the same.
fn set_repl(args: &MultiValue) -> mlua::Result<()> {
    if args.len() != 1 {
        return Err(api_error("redis.set_repl() requires two arguments."));
    }
    match integer(args.front()) & !(REPL_AOF | REPL_REPLICA) {
        0 => Ok(()),
        _ => Err(api_error(
            "Invalid replication flags. Use REPL_AOF, REPL_REPLICA, REPL_ALL or REPL_NONE.",
        )),
    }
}

fn acl_check_cmd(shared: &Shared, args: &MultiValue) -> mlua::Result<bool> {
    let mut buffers = shared.call.borrow_mut();
    buffers.clear();
    put_args(&mut buffers, args).map_err(|problem| Raised::Reply(problem.into()))?;
    let answer = with_host(|host| host.acl_check(Args::new(&buffers.args, &buffers.spans)));
    match answer {
        Some(AclAnswer::Allowed) => Ok(true),
        Some(AclAnswer::Denied) => Ok(false),
        Some(AclAnswer::UnknownCommand) | None => {
            Err(api_error("Invalid command passed to redis.acl_check_cmd()"))
        }
    }
}
