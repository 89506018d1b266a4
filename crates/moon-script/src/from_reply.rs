//! From the reply of a command to the Lua value that a script gets.

use crate::raised::ErrorReply;
use mlua::{Lua, Table, Value};
use moon_resp::{ReplyParser, Value as Reply};

/// A reply as a script sees it. An error is kept apart: one caller raises it, the other returns it.
#[derive(Debug)]
pub(crate) enum FromReply {
    Value(Value),
    Error(ErrorReply),
}

/// Replies inside one another, beyond which a host's reply is refused. No command comes near.
const DEPTH_MAX: usize = 64;

/// Reads the one reply in `bytes`.
pub(crate) fn read_reply(lua: &Lua, bytes: &[u8]) -> mlua::Result<FromReply> {
    // What most commands answer needs no tree.
    if let Some(line) = bytes.strip_suffix(b"\r\n")
        && let [b':', digits @ ..] = line
        && let Some(value) = std::str::from_utf8(digits)
            .ok()
            .and_then(|d| d.parse().ok())
    {
        return Ok(FromReply::Value(number(value)));
    }
    if bytes == b"$-1\r\n" {
        return Ok(FromReply::Value(Value::Boolean(false)));
    }
    match ReplyParser::new().parse(bytes) {
        Ok(Some((reply, len))) if len == bytes.len() => match reply.without_attributes() {
            Reply::Error(text) | Reply::BulkError(text) => {
                Ok(FromReply::Error(ErrorReply::with_code(&text, true)))
            }
            reply => Ok(FromReply::Value(to_lua(lua, reply, DEPTH_MAX)?)),
        },
        _ => Ok(FromReply::Error(ErrorReply::of_api(
            "Protocol error in the reply of a command",
        ))),
    }
}

#[expect(clippy::cast_precision_loss, reason = "Lua's numbers are doubles")]
fn number(value: i64) -> Value {
    Value::Number(value as f64)
}

fn to_lua(lua: &Lua, reply: Reply, depth: usize) -> mlua::Result<Value> {
    let Some(depth) = depth.checked_sub(1) else {
        return Ok(Value::Nil);
    };
    let text = |bytes: &[u8]| lua.create_string(bytes).map(Value::String);
    Ok(match reply {
        Reply::Integer(value) => number(value),
        Reply::Bulk(bytes) => text(&bytes)?,
        Reply::NullBulk | Reply::NullArray => Value::Boolean(false),
        Reply::Null => Value::Nil,
        Reply::Boolean(value) => Value::Boolean(value),
        Reply::Simple(bytes) => field(lua, "ok", text(&bytes)?)?,
        Reply::Error(bytes) | Reply::BulkError(bytes) => {
            Value::Table(ErrorReply::with_code(&bytes, true).to_table(lua)?)
        }
        Reply::Double(value) => field(lua, "double", Value::Number(value))?,
        Reply::BigNumber(digits) => field(lua, "big_number", text(&digits)?)?,
        Reply::Verbatim { format, text: body } => {
            let parts = lua.create_table()?;
            parts.raw_set("format", text(&format)?)?;
            parts.raw_set("string", text(&body)?)?;
            field(lua, "verbatim_string", Value::Table(parts))?
        }
        Reply::Array(values) | Reply::Push(values) => {
            let table = lua.create_table_with_capacity(values.len(), 0)?;
            for (index, value) in values.into_iter().enumerate() {
                table.raw_set(index + 1, to_lua(lua, value, depth)?)?;
            }
            Value::Table(table)
        }
        Reply::Set(values) => {
            let members = lua.create_table_with_capacity(0, values.len())?;
            for value in values {
                set_unless_nil(&members, to_lua(lua, value, depth)?, Value::Boolean(true))?;
            }
            field(lua, "set", Value::Table(members))?
        }
        Reply::Map(pairs) => {
            let map = lua.create_table_with_capacity(0, pairs.len())?;
            for (key, value) in pairs {
                let key = to_lua(lua, key, depth)?;
                set_unless_nil(&map, key, to_lua(lua, value, depth)?)?;
            }
            field(lua, "map", Value::Table(map))?
        }
        Reply::Attribute { value, .. } => to_lua(lua, value.without_attributes(), depth)?,
    })
}

fn field(lua: &Lua, name: &str, value: Value) -> mlua::Result<Value> {
    let table = lua.create_table_with_capacity(0, 1)?;
    table.raw_set(name, value)?;
    Ok(Value::Table(table))
}

/// Neither nil nor NaN can be a key.
fn set_unless_nil(table: &Table, key: Value, value: Value) -> mlua::Result<()> {
    match key {
        Value::Nil => Ok(()),
        Value::Number(number) if number.is_nan() => Ok(()),
        key => table.raw_set(key, value),
    }
}
