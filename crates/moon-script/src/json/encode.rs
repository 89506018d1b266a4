//! Lua values to JSON.

use super::{ARRAY_METATABLE, DEPTH_MAX, InvalidNumbers, JsonConfig};
use crate::host::Patience;
use crate::number::{format_general, to_i32};
use crate::raised::{error_here, error_plain, lua_type};
use mlua::{Lua, Table, Value};

/// The JSON of `value`.
pub(super) fn encode(
    lua: &Lua,
    config: &JsonConfig,
    bytes_max: usize,
    value: &Value,
) -> mlua::Result<Vec<u8>> {
    let mut encoder = Encoder {
        lua,
        config,
        out: Vec::new(),
        bytes_max,
        patience: Patience::default(),
    };
    encoder.value(value, 0)?;
    Ok(encoder.out)
}

struct Encoder<'a> {
    lua: &'a Lua,
    config: &'a JsonConfig,
    out: Vec<u8>,
    bytes_max: usize,
    patience: Patience,
}

impl Encoder<'_> {
    fn unsupported(&self, value: &Value, reason: &str) -> mlua::Error {
        let kind = lua_type(value);
        error_here(self.lua, format!("Cannot serialise {kind}: {reason}"))
    }

    fn value(&mut self, value: &Value, depth: usize) -> mlua::Result<()> {
        self.patience.step()?;
        if self.out.len() > self.bytes_max {
            return Err(error_plain("not enough memory"));
        }
        match value {
            Value::String(text) => self.string(&text.as_bytes()),
            #[expect(clippy::cast_precision_loss, reason = "Lua's numbers are doubles")]
            Value::Integer(number) => self.number(*number as f64)?,
            Value::Number(number) => self.number(*number)?,
            Value::Boolean(true) => self.out.extend_from_slice(b"true"),
            Value::Boolean(false) => self.out.extend_from_slice(b"false"),
            Value::Nil => self.out.extend_from_slice(b"null"),
            value if value.is_null() => self.out.extend_from_slice(b"null"),
            Value::Table(table) => self.table(table, depth + 1)?,
            value => return Err(self.unsupported(value, "type not supported")),
        }
        Ok(())
    }

    fn table(&mut self, table: &Table, depth: usize) -> mlua::Result<()> {
        let depth_max = usize::try_from(self.config.encode_max_depth).unwrap_or(0);
        if depth > depth_max.min(DEPTH_MAX) {
            let problem = format!("Cannot serialise, excessive nesting ({depth})");
            return Err(error_here(self.lua, problem));
        }
        if self.is_marked(table)? {
            let len = table.raw_len();
            return self.array(table, len, depth);
        }
        match self.array_len(table)? {
            Some(len) if len > 0 => self.array(table, len, depth),
            _ => self.object(table, depth),
        }
    }

    /// Whether the table was decoded from an array, and marked so.
    fn is_marked(&self, table: &Table) -> mlua::Result<bool> {
        if !table.has_metatable() {
            return Ok(false);
        }
        let mark: Table = self.lua.named_registry_value(ARRAY_METATABLE)?;
        Ok(table.metatable().is_some_and(|metatable| metatable == mark))
    }

    /// The largest index if all keys are indexes. `None` is an object.
    fn array_len(&self, table: &Table) -> mlua::Result<Option<usize>> {
        let mut max: i32 = 0;
        let mut items: i32 = 0;
        let mut all_indexes = true;
        table.for_each(|key: Value, _: Value| {
            #[expect(clippy::cast_precision_loss, reason = "Lua's numbers are doubles")]
            let key = match key {
                Value::Integer(key) => key as f64,
                Value::Number(key) => key,
                _ => 0.0,
            };
            if key >= 1.0 && key.floor() == key {
                if key > f64::from(max) {
                    max = to_i32(key);
                }
                items = items.saturating_add(1);
            } else {
                all_indexes = false;
            }
            Ok(())
        })?;
        if !all_indexes {
            return Ok(None);
        }
        let ratio = self.config.sparse_ratio;
        let is_sparse = ratio > 0 && max > items.saturating_mul(ratio);
        if is_sparse && max > self.config.sparse_safe {
            return match self.config.sparse_convert {
                true => Ok(None),
                false => {
                    let table = Value::Table(table.clone());
                    Err(self.unsupported(&table, "excessively sparse array"))
                }
            };
        }
        Ok(usize::try_from(max).ok())
    }

    fn array(&mut self, table: &Table, len: usize, depth: usize) -> mlua::Result<()> {
        self.out.push(b'[');
        for index in 1..=len {
            if index > 1 {
                self.out.push(b',');
            }
            self.value(&table.raw_get(index)?, depth)?;
        }
        self.out.push(b']');
        Ok(())
    }

    fn object(&mut self, table: &Table, depth: usize) -> mlua::Result<()> {
        self.out.push(b'{');
        for (index, pair) in table.pairs::<Value, Value>().enumerate() {
            let (key, value) = pair?;
            if index > 0 {
                self.out.push(b',');
            }
            match &key {
                Value::String(text) => self.string(&text.as_bytes()),
                Value::Integer(_) | Value::Number(_) => {
                    self.out.push(b'"');
                    self.value(&key, depth)?;
                    self.out.push(b'"');
                }
                key => {
                    let reason = "table key must be a number or string";
                    return Err(self.unsupported(key, reason));
                }
            }
            self.out.push(b':');
            drop(key);
            self.value(&value, depth)?;
        }
        self.out.push(b'}');
        Ok(())
    }

    fn number(&mut self, number: f64) -> mlua::Result<()> {
        let text = match self.config.encode_invalid_numbers {
            InvalidNumbers::Refuse if !number.is_finite() => {
                let number = Value::Number(number);
                return Err(self.unsupported(&number, "must not be NaN or Inf"));
            }
            InvalidNumbers::Write if number.is_nan() => "nan".to_owned(),
            InvalidNumbers::Null if !number.is_finite() => "null".to_owned(),
            _ => {
                let precision = usize::try_from(self.config.number_precision).unwrap_or(14);
                format_general(number, precision)
            }
        };
        self.out.extend_from_slice(text.as_bytes());
        Ok(())
    }

    fn string(&mut self, text: &[u8]) {
        self.out.push(b'"');
        for &byte in text {
            let escape = match byte {
                b'"' => b'"',
                b'\\' => b'\\',
                b'/' => b'/',
                0x08 => b'b',
                0x09 => b't',
                0x0a => b'n',
                0x0c => b'f',
                0x0d => b'r',
                0..0x20 | 0x7f => {
                    self.out
                        .extend_from_slice(format!("\\u{byte:04x}").as_bytes());
                    continue;
                }
                byte => {
                    self.out.push(byte);
                    continue;
                }
            };
            self.out.extend_from_slice(&[b'\\', escape]);
        }
        self.out.push(b'"');
    }
}
