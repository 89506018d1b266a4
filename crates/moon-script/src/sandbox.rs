//! The globals that scripts see, and what guards them.
//!
//! `prelude.lua` builds them out of the standard library and of the Rust functions made here: those
//! that need to see an error object, compile code, or bound the work of a C function.

use crate::host::with_host;
use crate::raised::{
    ErrorReply, PRELUDE, Raised, bad_argument, error_here, error_plain, lua_type, raised_by,
    script_position, without_prelude, wrong_type,
};
use crate::state::{Mode, Shared, Uncaught};
use crate::{api, bits, json, maths, msgpack, number, packing};
use mlua::chunk::ChunkMode;
use mlua::{Function, Lua, MultiValue, Table, Value};
use std::borrow::Cow;

/// The parts of the prelude's result.
#[derive(Debug)]
pub(crate) struct Sandbox {
    /// Calls a function under the handler of uncaught errors.
    pub(crate) run: Function,
    /// The real globals of scripts, where `KEYS` and `ARGV` are set.
    pub(crate) for_scripts: Table,
    pub(crate) for_functions: Table,
    pub(crate) for_loading: Table,
    /// Says which real globals the functions see.
    pub(crate) function_metatable: Table,
    /// The environment of scripts.
    pub(crate) script_globals: Table,
    /// The environment of libraries.
    pub(crate) function_globals: Table,
}

/// What the functions that compile code need to know, which exists only after the prelude ran.
pub(crate) const ENVIRONMENTS: &str = "moon.environments";

impl Sandbox {
    /// Builds the globals in a new state.
    pub(crate) fn new(lua: &Lua, shared: &Shared) -> mlua::Result<Sandbox> {
        let libraries = libraries(lua, shared)?;
        let rust = rust_functions(lua, shared)?;
        let prelude = lua
            .load(include_str!("prelude.lua"))
            .set_name(format!("={PRELUDE}"))
            .set_mode(ChunkMode::Text)
            .into_function()?;
        let made: Table = prelude.call((lua.globals(), rust, libraries))?;
        let sandbox = Sandbox {
            run: made.raw_get("run")?,
            for_scripts: made.raw_get("for_scripts")?,
            for_functions: made.raw_get("for_functions")?,
            for_loading: made.raw_get("for_loading")?,
            function_metatable: made.raw_get("function_metatable")?,
            script_globals: made.raw_get("script_globals")?,
            function_globals: made.raw_get("function_globals")?,
        };
        let environments = lua.create_table()?;
        environments.raw_set("script", &sandbox.script_globals)?;
        environments.raw_set("function", &sandbox.function_globals)?;
        lua.set_named_registry_value(ENVIRONMENTS, environments)?;
        Ok(sandbox)
    }

    /// Compiles a script or a library.
    pub(crate) fn compile(&self, lua: &Lua, body: &[u8], mode: Mode) -> mlua::Result<Function> {
        let (name, globals) = match mode {
            Mode::Script => ("@user_script", &self.script_globals),
            Mode::Function | Mode::Load => ("@user_function", &self.function_globals),
        };
        compile(lua, body, name.to_owned(), globals.clone())
    }
}

fn compile(lua: &Lua, body: &[u8], name: String, globals: Table) -> mlua::Result<Function> {
    // Bytecode is no text, and the error says so as for any other byte that no token begins with.
    let text = match body.first() {
        Some(0x1b) => Cow::Owned([b" ", body].concat()),
        _ => Cow::Borrowed(body),
    };
    lua.load(&*text)
        .set_name(name)
        .set_mode(ChunkMode::Text)
        .set_environment(globals)
        .into_function()
}

fn libraries(lua: &Lua, shared: &Shared) -> mlua::Result<Table> {
    let common = lua.create_table()?;
    common.raw_set("cjson", json::library(lua, shared)?)?;
    common.raw_set("cmsgpack", msgpack::library(lua, shared)?)?;
    common.raw_set("struct", packing::library(lua, shared)?)?;
    common.raw_set("bit", bits::library(lua)?)?;

    let os = lua.create_table()?;
    let clock = |_: &Lua, ()| Ok(with_host(|host| host.clock()).unwrap_or_default());
    os.raw_set("clock", lua.create_function(clock)?)?;

    let libraries = lua.create_table()?;
    libraries.raw_set("common", common)?;
    libraries.raw_set("os", os)?;
    let functions = api::Functions::new(lua, shared)?;
    for (name, part, server) in [
        ("script", api::Part::Script, "server"),
        ("functions", api::Part::Functions, "server_functions"),
        ("loading", api::Part::Loading, "server_loading"),
    ] {
        libraries.raw_set(name, functions.table(lua, part, api::Name::Redis)?)?;
        libraries.raw_set(server, functions.table(lua, part, api::Name::Server)?)?;
    }
    Ok(libraries)
}

fn rust_functions(lua: &Lua, shared: &Shared) -> mlua::Result<Table> {
    let rust = lua.create_table()?;
    let readonly = |lua: &Lua, _: MultiValue| -> mlua::Result<()> {
        Err(error_here(lua, "Attempt to modify a readonly table"))
    };
    rust.raw_set("readonly", lua.create_function(readonly)?)?;
    rust.raw_set("missing", lua.create_function(missing)?)?;
    rust.raw_set("caught", lua.create_function(caught)?)?;
    rust.raw_set("caught_as_is", lua.create_function(caught_as_is)?)?;
    let uncatchable = |_: &Lua, value: Value| Ok(stop_in(&value).is_some());
    rust.raw_set("uncatchable", lua.create_function(uncatchable)?)?;
    let too_complex = |_: &Lua, pattern: mlua::LuaString| Ok(is_too_complex(&pattern.as_bytes()));
    rust.raw_set("too_complex", lua.create_function(too_complex)?)?;
    rust.raw_set("describe_error", lua.create_function(describe_error)?)?;

    let state = shared.clone();
    let uncaught = move |lua: &Lua, value: Value| {
        let uncaught = uncaught(lua, &value);
        *state.uncaught.borrow_mut() = Some(uncaught);
        Ok(())
    };
    rust.raw_set("uncaught", lua.create_function(uncaught)?)?;

    let state = shared.clone();
    let load = move |lua: &Lua, args: MultiValue| load(lua, &state, args);
    rust.raw_set("load", lua.create_function(load)?)?;
    let state = shared.clone();
    let loadstring = move |lua: &Lua, args: MultiValue| loadstring(lua, &state, args);
    rust.raw_set("loadstring", lua.create_function(loadstring)?)?;
    let state = shared.clone();
    let rep = move |lua: &Lua, args: MultiValue| repeat(lua, state.bytes_max, args);
    rust.raw_set("rep", lua.create_function(rep)?)?;
    maths::add(lua, shared, &rust)?;
    Ok(rust)
}

/// `__index` of the globals: what is there never comes here.
fn missing(lua: &Lua, (_, name): (Value, Value)) -> mlua::Result<()> {
    let name = match &name {
        Value::String(name) => name.as_bytes().to_vec(),
        Value::Integer(_) | Value::Number(_) => number_text(&name).into_bytes(),
        _ => {
            let problem = "Second argument to luaProtectedTableError must be a string or number";
            return Err(error_here(lua, problem));
        }
    };
    let text = [
        b"Script attempted to access nonexistent global variable '".as_slice(),
        &name,
        b"'",
    ];
    Err(error_here(lua, text.concat()))
}

/// The reason in an error that the host raised to end the script.
fn stop_in(value: &Value) -> Option<crate::host::Stop> {
    match value {
        Value::Error(error) => match raised_by(error) {
            Raised::Stop(stop) => Some(stop),
            _ => None,
        },
        _ => None,
    }
}

/// What `pcall` returns for an error: for a table with an error text only the text, as in Redis.
fn caught(lua: &Lua, value: Value) -> mlua::Result<Value> {
    if let Value::Table(table) = &value {
        let text: Value = table.raw_get("err")?;
        return Ok(match text {
            Value::String(_) | Value::Number(_) | Value::Integer(_) => text,
            _ => value,
        });
    }
    match &value {
        Value::Error(error) => match raised_by(error) {
            Raised::Reply(reply) => Ok(Value::String(lua.create_string(&reply.text)?)),
            _ => caught_as_is(lua, value),
        },
        _ => caught_as_is(lua, value),
    }
}

/// What everything else that catches errors gets.
fn caught_as_is(lua: &Lua, value: Value) -> mlua::Result<Value> {
    match &value {
        Value::Error(error) => match raised_by(error) {
            Raised::Text(text) => Ok(Value::String(lua.create_string(text)?)),
            Raised::Reply(reply) => Ok(Value::Table(reply.to_table(lua)?)),
            stop @ Raised::Stop(_) => Err(stop.into()),
        },
        Value::String(text) => {
            let bytes = text.as_bytes();
            let message = without_prelude(&bytes);
            match message.len() == bytes.len() {
                true => Ok(value.clone()),
                false => Ok(Value::String(lua.create_string(message)?)),
            }
        }
        _ => Ok(value),
    }
}

/// The end of an error that nothing in the script caught. Called where it was raised, so the
/// script's frames are still there.
fn uncaught(lua: &Lua, value: &Value) -> Uncaught {
    let position = script_position(lua, 1);
    let mut uncaught = Uncaught {
        text: Vec::new(),
        position,
        counted: false,
        stop: None,
    };
    match value {
        Value::Error(error) => match raised_by(error) {
            Raised::Text(text) => uncaught.text = ErrorReply::of_script(&text),
            Raised::Reply(reply) => {
                uncaught.text = reply.text;
                uncaught.counted = reply.counted;
            }
            Raised::Stop(stop) => {
                uncaught.text = format!("ERR {stop}").into_bytes();
                uncaught.stop = Some(stop);
            }
        },
        Value::Table(table) => {
            let text = match table.raw_get("err") {
                Ok(Value::String(text)) => text.as_bytes().to_vec(),
                Ok(number @ (Value::Integer(_) | Value::Number(_))) => {
                    number_text(&number).into_bytes()
                }
                _ => b"ERR unknown error".to_vec(),
            };
            uncaught.text = text;
            let counted = table.raw_get("ignore_error_stats_update");
            uncaught.counted = matches!(counted, Ok(Value::Boolean(true)));
        }
        other => uncaught.text = ErrorReply::of_script(&text_of(other, &uncaught.position)),
    }
    uncaught
}

impl ErrorReply {
    /// The error reply for a text that a script raised.
    fn of_script(text: &[u8]) -> Vec<u8> {
        [b"ERR ", text].concat()
    }
}

/// A value as `tostring` prints it, except that nothing of the script is called.
fn text_of(value: &Value, position: &Option<(String, usize)>) -> Vec<u8> {
    match value {
        Value::Nil => b"nil".to_vec(),
        Value::Boolean(value) => value.to_string().into_bytes(),
        Value::Integer(_) | Value::Number(_) => number_text(value).into_bytes(),
        Value::String(text) => {
            let bytes = text.as_bytes();
            let message = without_prelude(&bytes);
            match position {
                Some((source, line)) if message.len() < bytes.len() => {
                    let source = source.trim_start_matches('@');
                    [format!("{source}:{line}: ").as_bytes(), message].concat()
                }
                _ => message.to_vec(),
            }
        }
        other => format!("{}: {:p}", lua_type(other), other.to_pointer()).into_bytes(),
    }
}

/// A number as Lua prints it.
#[expect(clippy::cast_precision_loss, reason = "Lua's numbers are doubles")]
pub(crate) fn number_text(value: &Value) -> String {
    match value {
        Value::Integer(value) => number::format_general(*value as f64, 14),
        Value::Number(value) => number::format_general(*value, 14),
        _ => String::new(),
    }
}

/// `__redis__err__handler`: the table that Redis makes of an error.
fn describe_error(lua: &Lua, value: Value) -> mlua::Result<Table> {
    let position = script_position(lua, 1);
    let table = match value {
        Value::Table(table) => table,
        other => {
            let text = ErrorReply::of_script(&text_of(&other, &position));
            let table = lua.create_table()?;
            table.raw_set("err", lua.create_string(text)?)?;
            table
        }
    };
    if let Some((source, line)) = position {
        table.raw_set("source", source)?;
        table.raw_set("line", line)?;
    }
    Ok(table)
}

/// Whether matching this pattern could recurse deeper than the stack allows.
fn is_too_complex(pattern: &[u8]) -> bool {
    const REPETITIONS_MAX: usize = 500;
    let repetitions = pattern.iter().filter(|byte| b"?*+-".contains(byte));
    repetitions.count() > REPETITIONS_MAX
}

/// `string.rep`, without the time that an empty string repeated two thousand million times takes.
fn repeat(lua: &Lua, bytes_max: usize, args: MultiValue) -> mlua::Result<Value> {
    let text = string_argument(lua, &args, 1)?;
    let count = number_argument(lua, &args, 2)?;
    let text = text.as_bytes();
    let count = usize::try_from(number::to_i32(count)).unwrap_or(0);
    match text.len().checked_mul(count) {
        Some(len) if len <= bytes_max => Ok(Value::String(lua.create_string(text.repeat(count))?)),
        _ => Err(error_plain("not enough memory")),
    }
}

/// A string argument, or a number as its text.
pub(crate) fn string_argument(
    lua: &Lua,
    args: &MultiValue,
    number: usize,
) -> mlua::Result<mlua::LuaString> {
    match args.get(number - 1) {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(value @ (Value::Integer(_) | Value::Number(_))) => {
            lua.create_string(number_text(value))
        }
        other => Err(wrong_type(lua, number, "string", other)),
    }
}

/// A number argument, or a string that reads as one.
#[expect(clippy::cast_precision_loss, reason = "Lua's numbers are doubles")]
pub(crate) fn number_argument(lua: &Lua, args: &MultiValue, number: usize) -> mlua::Result<f64> {
    let value = args.get(number - 1);
    match value {
        Some(Value::Integer(value)) => return Ok(*value as f64),
        Some(Value::Number(value)) => return Ok(*value),
        Some(Value::String(_)) => {
            let read = lua.coerce_number(value.cloned().unwrap_or(Value::Nil))?;
            if let Some(read) = read {
                return Ok(read);
            }
        }
        _ => {}
    }
    Err(wrong_type(lua, number, "number", value))
}

/// `loadstring(text, [name])`.
fn loadstring(lua: &Lua, shared: &Shared, args: MultiValue) -> mlua::Result<MultiValue> {
    let body = string_argument(lua, &args, 1)?;
    let name = match args.get(1) {
        None | Some(Value::Nil) => body.clone(),
        Some(_) => string_argument(lua, &args, 2)?,
    };
    load_text(lua, shared, &body.as_bytes(), &name.as_bytes())
}

/// `load(function, [name])`: the pieces are put together first, so that none of the script's code
/// runs inside the compiler.
fn load(lua: &Lua, shared: &Shared, args: MultiValue) -> mlua::Result<MultiValue> {
    let Some(Value::Function(next)) = args.front() else {
        return Err(wrong_type(lua, 1, "function", args.front()));
    };
    let name = match args.get(1) {
        None | Some(Value::Nil) => b"=(load)".to_vec(),
        Some(_) => string_argument(lua, &args, 2)?.as_bytes().to_vec(),
    };
    let mut body = Vec::new();
    loop {
        let piece: Value = next.call(())?;
        match &piece {
            Value::Nil => break,
            Value::String(piece) if piece.as_bytes().is_empty() => break,
            Value::String(piece) => body.extend_from_slice(&piece.as_bytes()),
            Value::Integer(_) | Value::Number(_) => body.extend(number_text(&piece).bytes()),
            _ => return refuse(lua, b"reader function must return a string"),
        }
        if body.len() > shared.bytes_max {
            return Err(error_plain("not enough memory"));
        }
    }
    load_text(lua, shared, &body, &name)
}

/// What loading code answers instead of a function.
fn refuse(lua: &Lua, problem: &[u8]) -> mlua::Result<MultiValue> {
    let problem = Value::String(lua.create_string(problem)?);
    Ok(MultiValue::from_iter([Value::Nil, problem]))
}

fn load_text(lua: &Lua, shared: &Shared, body: &[u8], name: &[u8]) -> mlua::Result<MultiValue> {
    if body.starts_with(b"\x1b") {
        return refuse(lua, b"attempt to load a binary chunk");
    }
    let environments: Table = lua.named_registry_value(ENVIRONMENTS)?;
    let globals: Table = environments.raw_get(match shared.mode.get() {
        Mode::Script => "script",
        Mode::Function | Mode::Load => "function",
    })?;
    // The name is a C string.
    let name = name.split(|&byte| byte == 0).next().unwrap_or_default();
    let name = String::from_utf8_lossy(name).into_owned();
    match compile(lua, body, name, globals) {
        Ok(function) => Ok(MultiValue::from_iter([Value::Function(function)])),
        Err(mlua::Error::SyntaxError { message, .. }) => refuse(lua, message.as_bytes()),
        Err(other) => Err(other),
    }
}

/// An integer argument as the C libraries read it.
pub(crate) fn integer_argument(lua: &Lua, args: &MultiValue, number: usize) -> mlua::Result<i32> {
    Ok(number::to_i32(number_argument(lua, args, number)?))
}

/// An argument out of a range, as the C libraries refuse it.
pub(crate) fn check_argument(
    lua: &Lua,
    holds: bool,
    number: usize,
    problem: &str,
) -> mlua::Result<()> {
    match holds {
        true => Ok(()),
        false => Err(bad_argument(lua, number, problem)),
    }
}
