//! Errors on their way through Lua.
//!
//! A Rust function cannot raise a Lua value, only an error of its own, which Lua carries as an
//! opaque object. So [`Raised`] says which value is meant, and whoever catches the object (`pcall`
//! and the like in the prelude, and the end of a run) turns it into that value. Scripts never see
//! the object itself.

use crate::host::Stop;
use mlua::{Error, Lua, Table, Value};
use std::sync::Arc;

/// The chunk name of the prelude, whose frames are not the script's.
pub(crate) const PRELUDE: &str = "builtin";

/// The value that a Rust function raises.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Raised {
    /// A string.
    #[error("{}", .0.escape_ascii())]
    Text(Vec<u8>),
    /// A table with `err`, as the functions of `redis` raise it.
    #[error("{}", .0.text.escape_ascii())]
    Reply(ErrorReply),
    /// The host ends the script. Nothing catches this.
    #[error("{0}")]
    Stop(Stop),
}

/// An error as scripts get it from `redis.pcall`: a table with the field `err`.
#[derive(Clone, Debug)]
pub(crate) struct ErrorReply {
    /// The text with its code, without `-`.
    pub(crate) text: Vec<u8>,
    /// Whether a command answered it, which has counted it already.
    pub(crate) counted: bool,
}

impl ErrorReply {
    /// An error of the API itself; its code is `ERR`.
    pub(crate) fn of_api(text: &str) -> ErrorReply {
        ErrorReply {
            text: [b"ERR ", text.as_bytes()].concat(),
            counted: false,
        }
    }

    /// Takes an error reply apart as Redis does: what has no code gets `ERR`.
    pub(crate) fn with_code(text: &[u8], counted: bool) -> ErrorReply {
        let is_line_end = |byte: &u8| matches!(byte, b'\r' | b'\n');
        let len = text.iter().rposition(|byte| !is_line_end(byte));
        let text = &text[..len.map_or(0, |last| last + 1)];
        let text = match text.contains(&b' ') {
            true => text.to_vec(),
            false => [b"ERR ", text].concat(),
        };
        ErrorReply { text, counted }
    }

    /// The table.
    pub(crate) fn to_table(&self, lua: &Lua) -> mlua::Result<Table> {
        let table = lua.create_table()?;
        table.raw_set("err", lua.create_string(&self.text)?)?;
        if self.counted {
            table.raw_set("ignore_error_stats_update", true)?;
        }
        Ok(table)
    }
}

impl From<Raised> for Error {
    fn from(raised: Raised) -> Error {
        Error::external(raised)
    }
}

/// A string error with the position of the Lua code that called, as `luaL_error` puts it.
pub(crate) fn error_here(lua: &Lua, text: impl AsRef<[u8]>) -> Error {
    Raised::Text([position(lua, 1).as_bytes(), text.as_ref()].concat()).into()
}

/// A string error without position, as code without Lua frames raises it.
pub(crate) fn error_plain(text: impl AsRef<[u8]>) -> Error {
    Raised::Text(text.as_ref().to_vec()).into()
}

/// The error for an argument that a library function cannot use; `number` counts from 1.
pub(crate) fn bad_argument(lua: &Lua, number: usize, problem: &str) -> Error {
    let names = lua.inspect_stack(0, |frame| {
        let names = frame.names();
        let is_method = names.name_what == Some("method");
        (names.name.map(|name| name.into_owned()), is_method)
    });
    let (name, is_method) = names.unwrap_or_default();
    let name = name.unwrap_or_else(|| "?".to_owned());
    let number = number - usize::from(is_method && number > 0);
    if is_method && number == 0 {
        return error_here(lua, format!("calling '{name}' on bad self ({problem})"));
    }
    error_here(
        lua,
        format!("bad argument #{number} to '{name}' ({problem})"),
    )
}

/// The same, for an argument of another type; `None` is an argument that was not given.
pub(crate) fn wrong_type(lua: &Lua, number: usize, expected: &str, got: Option<&Value>) -> Error {
    let got = got.map_or("no value", lua_type);
    bad_argument(lua, number, &format!("{expected} expected, got {got}"))
}

/// The type of a value as Lua names it.
pub(crate) fn lua_type(value: &Value) -> &'static str {
    match value {
        Value::Nil => "nil",
        Value::Boolean(_) => "boolean",
        Value::Integer(_) | Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Table(_) => "table",
        Value::Function(_) => "function",
        Value::Thread(_) => "thread",
        Value::LightUserData(_) => "userdata",
        _ => "userdata",
    }
}

/// `chunk:line: ` of the frame at `level`, or nothing where that is no Lua code.
fn position(lua: &Lua, level: usize) -> String {
    match source_line(lua, level) {
        Some((source, line)) if source != PRELUDE => format!("{source}:{line}: "),
        _ => String::new(),
    }
}

fn source_line(lua: &Lua, level: usize) -> Option<(String, usize)> {
    lua.inspect_stack(level, |frame| {
        let line = frame.current_line()?;
        let source = frame.source().short_src?.into_owned();
        Some((source, line))
    })?
}

/// Where the script is: the source and line of its innermost frame above `level`.
pub(crate) fn script_position(lua: &Lua, level: usize) -> Option<(String, usize)> {
    // At most this many frames are looked at: the prelude's and one of a library.
    const FRAMES_MAX: usize = 6;
    for level in level..level + FRAMES_MAX {
        let frame = lua.inspect_stack(level, |frame| {
            let source = frame.source();
            let is_script = source.what != "C" && source.short_src.as_deref() != Some(PRELUDE);
            let name = source.source.map(|name| name.into_owned());
            (is_script, name, frame.current_line())
        })?;
        if let (true, Some(name), Some(line)) = frame {
            return Some((name, line));
        }
    }
    None
}

/// What an error object stands for.
pub(crate) fn raised_by(error: &Error) -> Raised {
    let mut error = error;
    loop {
        match error {
            Error::CallbackError { cause, .. } => error = cause,
            Error::WithContext { cause, .. } => error = cause,
            Error::ExternalError(external) => return external_raised(external),
            Error::MemoryError(_) => return Raised::Text(b"not enough memory".to_vec()),
            Error::RuntimeError(text) => return Raised::Text(text.clone().into_bytes()),
            other => return Raised::Text(other.to_string().into_bytes()),
        }
    }
}

fn external_raised(error: &Arc<dyn std::error::Error + 'static>) -> Raised {
    match error.downcast_ref::<Raised>() {
        Some(raised) => raised.clone(),
        None => Raised::Text(error.to_string().into_bytes()),
    }
}

/// A message of the C libraries without the position of the prelude function that called them.
pub(crate) fn without_prelude(text: &[u8]) -> &[u8] {
    let Some(rest) = text.strip_prefix(PRELUDE.as_bytes()) else {
        return text;
    };
    let Some(rest) = rest.strip_prefix(b":") else {
        return text;
    };
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    match rest[digits..].strip_prefix(b": ") {
        Some(message) if digits > 0 => message,
        _ => text,
    }
}
