//! `cmsgpack`: MessagePack, encoded and decoded as Redis does.

use crate::host::Patience;
use crate::raised::{bad_argument, error_here, error_plain};
use crate::sandbox::{integer_argument, string_argument};
use crate::state::Shared;
use mlua::{Lua, MultiValue, Table, Value};

/// Tables inside one another that are encoded; deeper ones become nil.
const ENCODE_DEPTH_MAX: usize = 16;
/// Arrays and maps inside one another that are decoded.
const DECODE_DEPTH_MAX: usize = 1500;
/// Values that one call returns; Lua allows little more.
const RESULTS_MAX: usize = 7000;

/// The table.
pub(crate) fn library(lua: &Lua, shared: &Shared) -> mlua::Result<Table> {
    let table = lua.create_table()?;
    let bytes_max = shared.bytes_max;
    let pack = move |lua: &Lua, args: MultiValue| pack(lua, bytes_max, args);
    table.raw_set("pack", lua.create_function(pack)?)?;
    let unpack = |lua: &Lua, args: MultiValue| unpack(lua, &args, 0, 0);
    table.raw_set("unpack", lua.create_function(unpack)?)?;
    let unpack_one = |lua: &Lua, args: MultiValue| {
        let offset = optional_integer(lua, &args, 2)?;
        self::unpack(lua, &args, 1, offset)
    };
    table.raw_set("unpack_one", lua.create_function(unpack_one)?)?;
    let unpack_limit = |lua: &Lua, args: MultiValue| {
        let limit = integer_argument(lua, &args, 2)?;
        let offset = optional_integer(lua, &args, 3)?;
        self::unpack(lua, &args, limit, offset)
    };
    table.raw_set("unpack_limit", lua.create_function(unpack_limit)?)?;
    for (name, text) in [
        ("_NAME", "cmsgpack"),
        ("_VERSION", "lua-cmsgpack 0.4.0"),
        ("_COPYRIGHT", "Copyright (C) 2012, Salvatore Sanfilippo"),
        ("_DESCRIPTION", "MessagePack C implementation for Lua"),
    ] {
        table.raw_set(name, text)?;
    }
    Ok(table)
}

fn optional_integer(lua: &Lua, args: &MultiValue, number: usize) -> mlua::Result<i32> {
    match args.get(number - 1) {
        None | Some(Value::Nil) => Ok(0),
        Some(_) => integer_argument(lua, args, number),
    }
}

fn pack(lua: &Lua, bytes_max: usize, args: MultiValue) -> mlua::Result<mlua::LuaString> {
    if args.is_empty() {
        return Err(bad_argument(lua, 0, "MessagePack pack needs input."));
    }
    let mut encoder = Encoder {
        out: Vec::new(),
        bytes_max,
        patience: Patience::default(),
    };
    for value in &args {
        encoder.value(value, 0)?;
    }
    lua.create_string(encoder.out)
}

struct Encoder {
    out: Vec<u8>,
    bytes_max: usize,
    patience: Patience,
}

impl Encoder {
    fn value(&mut self, value: &Value, depth: usize) -> mlua::Result<()> {
        self.patience.step()?;
        if self.out.len() > self.bytes_max {
            return Err(error_plain("not enough memory"));
        }
        match value {
            Value::String(text) => self.string(&text.as_bytes()),
            Value::Boolean(value) => self.out.push(if *value { 0xc3 } else { 0xc2 }),
            Value::Integer(value) => self.integer(*value),
            Value::Number(value) => self.number(*value),
            Value::Table(table) if depth < ENCODE_DEPTH_MAX => self.table(table, depth)?,
            _ => self.out.push(0xc0),
        }
        Ok(())
    }

    fn head(&mut self, kind: u8, bytes: &[u8]) {
        self.out.push(kind);
        self.out.extend_from_slice(bytes);
    }

    #[expect(clippy::cast_possible_truncation, reason = "the ranges are checked")]
    fn string(&mut self, text: &[u8]) {
        match text.len() {
            len @ 0..32 => self.out.push(0xa0 | len as u8),
            len @ 32..=0xff => self.head(0xd9, &[len as u8]),
            len @ 0x100..=0xffff => self.head(0xda, &(len as u16).to_be_bytes()),
            len => self.head(0xdb, &(len as u32).to_be_bytes()),
        }
        self.out.extend_from_slice(text);
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the ranges are checked"
    )]
    fn integer(&mut self, value: i64) {
        match value {
            0..=0x7f => self.out.push(value as u8),
            0x80..=0xff => self.head(0xcc, &[value as u8]),
            0x100..=0xffff => self.head(0xcd, &(value as u16).to_be_bytes()),
            0x1_0000..=0xffff_ffff => self.head(0xce, &(value as u32).to_be_bytes()),
            0x1_0000_0000.. => self.head(0xcf, &value.to_be_bytes()),
            -32..0 => self.out.push(value as u8),
            -0x80..-32 => self.head(0xd0, &[value as u8]),
            -0x8000..-0x80 => self.head(0xd1, &(value as i16).to_be_bytes()),
            -0x8000_0000..-0x8000 => self.head(0xd2, &(value as i32).to_be_bytes()),
            _ => self.head(0xd3, &value.to_be_bytes()),
        }
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        clippy::float_cmp,
        reason = "whether nothing is lost is the question"
    )]
    fn number(&mut self, value: f64) {
        let integer = value as i64;
        let float = value as f32;
        if integer as f64 == value && integer != i64::MAX {
            self.integer(integer);
        } else if f64::from(float) == value {
            self.head(0xca, &float.to_be_bytes());
        } else {
            self.head(0xcb, &value.to_be_bytes());
        }
    }

    fn table(&mut self, table: &Table, depth: usize) -> mlua::Result<()> {
        let (is_array, len) = shape(table)?;
        match is_array {
            true => {
                let len = table.raw_len();
                self.collection_head(len, 0x90, 0xdc);
                for index in 1..=len {
                    self.value(&table.raw_get(index)?, depth + 1)?;
                }
            }
            false => {
                self.collection_head(len, 0x80, 0xde);
                for pair in table.pairs::<Value, Value>() {
                    let (key, value) = pair?;
                    self.value(&key, depth + 1)?;
                    self.value(&value, depth + 1)?;
                }
            }
        }
        Ok(())
    }

    #[expect(clippy::cast_possible_truncation, reason = "the ranges are checked")]
    fn collection_head(&mut self, len: usize, short: u8, long: u8) {
        match len {
            0..=15 => self.out.push(short | len as u8),
            16..=0xffff => self.head(long, &(len as u16).to_be_bytes()),
            _ => self.head(long + 1, &(len as u32).to_be_bytes()),
        }
    }
}

/// Whether the keys are 1 to n, and how many keys there are.
fn shape(table: &Table) -> mlua::Result<(bool, usize)> {
    let mut is_array = true;
    let mut len: usize = 0;
    let mut max: f64 = 0.0;
    table.for_each(|key: Value, _: Value| {
        len += 1;
        let key = match key {
            Value::Integer(key) => f64::from(i32::try_from(key).unwrap_or(0)),
            Value::Number(key) => key,
            _ => 0.0,
        };
        let is_index = key > 0.0 && key.fract() == 0.0 && key <= f64::from(i32::MAX);
        is_array &= is_index;
        max = max.max(key);
        Ok(())
    })?;
    #[expect(clippy::cast_precision_loss, reason = "a table has fewer entries")]
    let is_dense = max == len as f64;
    Ok((is_array && is_dense, len))
}

/// Input that is no MessagePack.
#[derive(Debug)]
enum DecodeError {
    End,
    Format,
    Depth,
    Lua(mlua::Error),
}

impl From<mlua::Error> for DecodeError {
    fn from(error: mlua::Error) -> DecodeError {
        DecodeError::Lua(error)
    }
}

/// Decodes values from `offset` on. With neither limit nor offset all of them; else up to `limit`,
/// and the position of the next comes first, -1 at the end.
#[expect(clippy::cast_precision_loss, reason = "positions are small")]
fn unpack(lua: &Lua, args: &MultiValue, limit: i32, offset: i32) -> mlua::Result<MultiValue> {
    let data = string_argument(lua, args, 1)?;
    let data = data.as_bytes();
    let (Ok(limit), Ok(offset)) = (usize::try_from(limit), usize::try_from(offset)) else {
        let problem = format!(
            "Invalid request to unpack with offset of {offset} and limit of {}.",
            data.len()
        );
        return Err(error_here(lua, problem));
    };
    if offset > data.len() {
        let problem = format!(
            "Start offset {offset} greater than input length {}.",
            data.len()
        );
        return Err(error_here(lua, problem));
    }
    let all = limit == 0 && offset == 0;
    let mut decoder = Decoder {
        lua,
        rest: &data[offset..],
    };
    let mut results = Vec::new();
    while !decoder.rest.is_empty() && (all || results.len() < limit) {
        if results.len() >= RESULTS_MAX {
            return Err(error_here(lua, "stack overflow (too many results)"));
        }
        let value = decoder.value(DECODE_DEPTH_MAX);
        results.push(value.map_err(|error| match error {
            DecodeError::End => error_here(lua, "Missing bytes in input."),
            DecodeError::Format => error_here(lua, "Bad data format in input."),
            DecodeError::Depth => {
                error_here(lua, "stack overflow (in function mp_decode_to_lua_type)")
            }
            DecodeError::Lua(error) => error,
        })?);
    }
    if !all {
        let next = match decoder.rest.len() {
            0 => -1.0,
            rest => (data.len() - rest) as f64,
        };
        results.insert(0, Value::Number(next));
    }
    Ok(MultiValue::from_vec(results))
}

struct Decoder<'a> {
    lua: &'a Lua,
    rest: &'a [u8],
}

impl<'a> Decoder<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(DecodeError::End)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        self.take(N)?.try_into().map_err(|_| DecodeError::End)
    }

    /// A length of `bytes` bytes.
    fn len(&mut self, bytes: usize) -> Result<usize, DecodeError> {
        let digits = self.take(bytes)?.iter();
        Ok(digits.fold(0, |len, &byte| len << 8 | usize::from(byte)))
    }

    #[expect(clippy::cast_precision_loss, reason = "Lua's numbers are doubles")]
    fn value(&mut self, depth: usize) -> Result<Value, DecodeError> {
        let [kind] = self.array()?;
        Ok(Value::Number(match kind {
            0x00..=0x7f => f64::from(kind),
            0xe0..=0xff => f64::from(kind.cast_signed()),
            0xcc => f64::from(u8::from_be_bytes(self.array()?)),
            0xcd => f64::from(u16::from_be_bytes(self.array()?)),
            0xce => f64::from(u32::from_be_bytes(self.array()?)),
            // Redis reads large ones as negative.
            0xcf => u64::from_be_bytes(self.array()?).cast_signed() as f64,
            0xd0 => f64::from(i8::from_be_bytes(self.array()?)),
            0xd1 => f64::from(i16::from_be_bytes(self.array()?)),
            0xd2 => f64::from(i32::from_be_bytes(self.array()?)),
            0xd3 => i64::from_be_bytes(self.array()?) as f64,
            0xca => f64::from(f32::from_be_bytes(self.array()?)),
            0xcb => f64::from_be_bytes(self.array()?),
            0xc0 => return Ok(Value::Nil),
            0xc2 | 0xc3 => return Ok(Value::Boolean(kind == 0xc3)),
            0xa0..=0xbf => return self.string(usize::from(kind & 31)),
            0xd9..=0xdb => {
                let len = self.len(1 << (kind - 0xd9))?;
                return self.string(len);
            }
            0x90..=0x9f => return self.list(usize::from(kind & 15), depth),
            0xdc | 0xdd => {
                let len = self.len(2 << (kind - 0xdc))?;
                return self.list(len, depth);
            }
            0x80..=0x8f => return self.map(usize::from(kind & 15), depth),
            0xde | 0xdf => {
                let len = self.len(2 << (kind - 0xde))?;
                return self.map(len, depth);
            }
            _ => return Err(DecodeError::Format),
        }))
    }

    fn string(&mut self, len: usize) -> Result<Value, DecodeError> {
        let bytes = self.take(len)?;
        Ok(Value::String(self.lua.create_string(bytes)?))
    }

    fn list(&mut self, len: usize, depth: usize) -> Result<Value, DecodeError> {
        let depth = depth.checked_sub(1).ok_or(DecodeError::Depth)?;
        let table = self.lua.create_table()?;
        for index in 1..=len {
            table.raw_set(index, self.value(depth)?)?;
        }
        Ok(Value::Table(table))
    }

    fn map(&mut self, len: usize, depth: usize) -> Result<Value, DecodeError> {
        let depth = depth.checked_sub(1).ok_or(DecodeError::Depth)?;
        let table = self.lua.create_table()?;
        for _ in 0..len {
            let key = self.value(depth)?;
            let value = self.value(depth)?;
            match key {
                Value::Nil => return Err(error_plain("table index is nil").into()),
                Value::Number(key) if key.is_nan() => {
                    return Err(error_plain("table index is NaN").into());
                }
                key => table.raw_set(key, value)?,
            }
        }
        Ok(Value::Table(table))
    }
}
