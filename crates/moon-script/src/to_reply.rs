//! From the value that a script returns to the reply of its client.

use crate::host::Patience;
use crate::number::to_i64;
use crate::raised::error_plain;
use mlua::{Lua, LuaString, Table, Value};
use moon_resp::{Protocol, Reply};

/// Tables inside one another that are written; deeper ones become an error.
const DEPTH_MAX: usize = 200;

/// Writes the reply of one script.
#[derive(Debug)]
pub(crate) struct ReplyWriter<'a, 'b> {
    reply: &'a mut Reply<'b>,
    /// The protocol of `redis.setresp`: only a script that chose RESP3 has booleans, to others
    /// true is 1 and false is null.
    chosen: Protocol,
    /// The position behind which nothing more is written.
    end: usize,
    fields: &'a Fields,
    patience: Patience,
}

/// The names of the fields that give a table a meaning, made once.
#[derive(Debug)]
pub(crate) struct Fields {
    err: LuaString,
    ok: LuaString,
    double: LuaString,
    map: LuaString,
    set: LuaString,
    big_number: LuaString,
    verbatim_string: LuaString,
}

impl Fields {
    pub(crate) fn new(lua: &Lua) -> mlua::Result<Fields> {
        Ok(Fields {
            err: lua.create_string("err")?,
            ok: lua.create_string("ok")?,
            double: lua.create_string("double")?,
            map: lua.create_string("map")?,
            set: lua.create_string("set")?,
            big_number: lua.create_string("big_number")?,
            verbatim_string: lua.create_string("verbatim_string")?,
        })
    }
}

impl<'a, 'b> ReplyWriter<'a, 'b> {
    /// Writes at most about `bytes_max`: a small table can hold itself many times over.
    pub(crate) fn new(
        reply: &'a mut Reply<'b>,
        chosen: Protocol,
        bytes_max: usize,
        fields: &'a Fields,
    ) -> Self {
        let end = reply.position().saturating_add(bytes_max);
        ReplyWriter {
            reply,
            chosen,
            end,
            fields,
            patience: Patience::default(),
        }
    }

    /// Writes `value` as Redis does.
    pub(crate) fn write(&mut self, value: &Value) -> mlua::Result<()> {
        self.value(value, DEPTH_MAX)
    }

    fn value(&mut self, value: &Value, depth: usize) -> mlua::Result<()> {
        self.patience.step()?;
        if self.reply.position() > self.end {
            return Err(error_plain("not enough memory"));
        }
        match value {
            Value::String(text) => self.reply.bulk(&text.as_bytes()),
            Value::Integer(value) => self.reply.integer(*value),
            Value::Number(value) => self.reply.integer(to_i64(*value)),
            Value::Boolean(value) => match (self.chosen, value) {
                (Protocol::Resp3, value) => self.reply.boolean(*value),
                (Protocol::Resp2, true) => self.reply.integer(1),
                (Protocol::Resp2, false) => self.reply.null(),
            },
            Value::Table(table) => match depth.checked_sub(1) {
                Some(depth) => self.table(table, depth)?,
                None => self.reply.error("ERR reached lua stack limit"),
            },
            _ => self.reply.null(),
        }
        Ok(())
    }

    /// Looks for the fields in the order of Redis.
    fn table(&mut self, table: &Table, depth: usize) -> mlua::Result<()> {
        if let Value::String(text) = table.raw_get(&self.fields.err)? {
            self.reply.error_bytes(&text.as_bytes());
            return Ok(());
        }
        if let Value::String(text) = table.raw_get(&self.fields.ok)? {
            self.line(b'+', &text.as_bytes());
            return Ok(());
        }
        match table.raw_get(&self.fields.double)? {
            Value::Number(value) => {
                self.reply.double(value);
                return Ok(());
            }
            #[expect(clippy::cast_precision_loss, reason = "Lua's numbers are doubles")]
            Value::Integer(value) => {
                self.reply.double(value as f64);
                return Ok(());
            }
            _ => {}
        }
        if let Value::Table(map) = table.raw_get(&self.fields.map)? {
            return self.map(&map, depth);
        }
        if let Value::Table(set) = table.raw_get(&self.fields.set)? {
            return self.set(&set, depth);
        }
        if let Value::String(digits) = table.raw_get(&self.fields.big_number)? {
            match self.reply.protocol() {
                Protocol::Resp3 => self.line(b'(', &digits.as_bytes()),
                Protocol::Resp2 => self.reply.bulk(&one_line(&digits.as_bytes())),
            }
            return Ok(());
        }
        if let Value::Table(verbatim) = table.raw_get(&self.fields.verbatim_string)?
            && let Value::String(format) = verbatim.raw_get("format")?
            && let Value::String(text) = verbatim.raw_get("string")?
        {
            self.verbatim(&format.as_bytes(), &text.as_bytes());
            return Ok(());
        }
        self.array(table, depth)
    }

    /// The elements up to the first nil.
    fn array(&mut self, table: &Table, depth: usize) -> mlua::Result<()> {
        let position = self.reply.position();
        let mut len = 0;
        loop {
            let value: Value = table.raw_get(len + 1)?;
            if value.is_nil() {
                break;
            }
            self.value(&value, depth)?;
            len += 1;
        }
        self.reply.array_since(position, len);
        Ok(())
    }

    fn map(&mut self, map: &Table, depth: usize) -> mlua::Result<()> {
        let position = self.reply.position();
        let mut len = 0;
        for pair in map.pairs::<Value, Value>() {
            let (key, value) = pair?;
            self.value(&key, depth)?;
            self.value(&value, depth)?;
            len += 1;
        }
        self.reply.map_since(position, len);
        Ok(())
    }

    fn set(&mut self, set: &Table, depth: usize) -> mlua::Result<()> {
        let position = self.reply.position();
        let mut len = 0;
        for pair in set.pairs::<Value, Value>() {
            let (member, _) = pair?;
            self.value(&member, depth)?;
            len += 1;
        }
        self.reply.set_since(position, len);
        Ok(())
    }

    /// A text with its format, which is cut or filled up to three letters.
    fn verbatim(&mut self, format: &[u8], text: &[u8]) {
        if self.reply.protocol() == Protocol::Resp2 {
            return self.reply.bulk(text);
        }
        let mut three = [b' '; 3];
        for (to, from) in three.iter_mut().zip(format) {
            *to = *from;
        }
        let head = format!("={}\r\n", text.len() + 4);
        for part in [head.as_bytes(), &three, b":", text, b"\r\n"] {
            self.reply.raw(part);
        }
    }

    fn line(&mut self, kind: u8, text: &[u8]) {
        for part in [&[kind], one_line(text).as_slice(), b"\r\n"] {
            self.reply.raw(part);
        }
    }
}

fn one_line(text: &[u8]) -> Vec<u8> {
    let one_line = |&byte: &u8| match byte {
        b'\r' | b'\n' => b' ',
        other => other,
    };
    text.iter().map(one_line).collect()
}
