//! `cjson`: JSON as Redis reads and writes it, with its settings, its liberties and its errors.

mod decode;
mod encode;

use crate::raised::bad_argument;
use crate::sandbox::{integer_argument, string_argument};
use crate::state::{Shared, check_memory, without_limit};
use mlua::{Lua, MultiValue, Table, Value};
use std::cell::RefCell;
use std::rc::Rc;

/// Tables inside one another, whatever the settings say: the stack is finite.
const DEPTH_MAX: usize = 1500;

/// Texts up to this length are decoded before memory is checked: what they become is small.
const UNGUARDED_BYTES: usize = 64 << 10;

/// Where the metatable is kept that marks arrays.
const ARRAY_METATABLE: &str = "moon.json_array";

/// What to do with numbers that JSON does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum InvalidNumbers {
    Refuse,
    Write,
    Null,
}

/// The settings of one copy of the library.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct JsonConfig {
    sparse_convert: bool,
    sparse_ratio: i32,
    sparse_safe: i32,
    encode_max_depth: i32,
    decode_max_depth: i32,
    number_precision: i32,
    encode_invalid_numbers: InvalidNumbers,
    decode_invalid_numbers: bool,
    keep_buffer: bool,
    /// Whether decoded arrays get a metatable by which they are encoded as arrays again.
    mark_arrays: bool,
}

impl Default for JsonConfig {
    fn default() -> Self {
        JsonConfig {
            sparse_convert: false,
            sparse_ratio: 2,
            sparse_safe: 10,
            encode_max_depth: 1000,
            decode_max_depth: 1000,
            number_precision: 14,
            encode_invalid_numbers: InvalidNumbers::Refuse,
            decode_invalid_numbers: true,
            keep_buffer: true,
            mark_arrays: false,
        }
    }
}

/// A copy of the library and its settings.
#[derive(Clone, Debug)]
enum Config {
    /// The one that all scripts find.
    Shared(Shared),
    /// One of `cjson.new()`.
    Own(Rc<RefCell<JsonConfig>>),
}

impl Config {
    fn with<R>(&self, use_it: impl FnOnce(&mut JsonConfig) -> R) -> R {
        match self {
            Config::Shared(shared) => use_it(&mut shared.json.borrow_mut()),
            Config::Own(config) => use_it(&mut config.borrow_mut()),
        }
    }

    fn copy(&self) -> JsonConfig {
        self.with(|config| config.clone())
    }
}

/// The table that all scripts find.
pub(crate) fn library(lua: &Lua, shared: &Shared) -> mlua::Result<Table> {
    lua.set_named_registry_value(ARRAY_METATABLE, lua.create_table()?)?;
    copy_of_library(lua, &Config::Shared(shared.clone()), shared.bytes_max)
}

/// A setting: reads the arguments, changes the settings, and returns them.
type Setting = fn(&Lua, &MultiValue, &mut JsonConfig) -> mlua::Result<MultiValue>;

const SETTINGS: [(&str, usize, Setting); 8] = [
    ("encode_sparse_array", 3, sparse_array),
    ("encode_max_depth", 1, |lua, args, config| {
        let depth = &mut config.encode_max_depth;
        one(integer_option(lua, args, 1, depth, 1, i32::MAX)?)
    }),
    ("decode_max_depth", 1, |lua, args, config| {
        let depth = &mut config.decode_max_depth;
        one(integer_option(lua, args, 1, depth, 1, i32::MAX)?)
    }),
    ("encode_number_precision", 1, |lua, args, config| {
        let precision = &mut config.number_precision;
        one(integer_option(lua, args, 1, precision, 1, 14)?)
    }),
    ("encode_keep_buffer", 1, |lua, args, config| {
        one(switch_option(lua, args, 1, &mut config.keep_buffer)?)
    }),
    ("encode_invalid_numbers", 1, invalid_numbers),
    ("decode_invalid_numbers", 1, |lua, args, config| {
        one(switch_option(
            lua,
            args,
            1,
            &mut config.decode_invalid_numbers,
        )?)
    }),
    ("decode_array_with_array_mt", 1, |lua, args, config| {
        one(switch_option(lua, args, 1, &mut config.mark_arrays)?)
    }),
];

fn copy_of_library(lua: &Lua, config: &Config, bytes_max: usize) -> mlua::Result<Table> {
    let table = lua.create_table()?;
    let settings = config.clone();
    let encode = move |lua: &Lua, args: MultiValue| {
        let value = only_argument(lua, &args)?;
        // Reading tables makes nothing new in Lua.
        let encode = || encode::encode(lua, &settings.copy(), bytes_max, value);
        lua.create_string(without_limit(lua, bytes_max, encode)?)
    };
    table.raw_set("encode", lua.create_function(encode)?)?;
    let settings = config.clone();
    let decode = move |lua: &Lua, args: MultiValue| {
        only_argument(lua, &args)?;
        let text = string_argument(lua, &args, 1)?;
        let text = text.as_bytes();
        let decode = || decode::decode(lua, &settings.copy(), &text);
        if text.len() > UNGUARDED_BYTES {
            return decode();
        }
        let value = without_limit(lua, bytes_max, decode)?;
        check_memory(lua, bytes_max)?;
        Ok(value)
    };
    table.raw_set("decode", lua.create_function(decode)?)?;
    for (name, args_max, setting) in SETTINGS {
        let config = config.clone();
        let function = move |lua: &Lua, args: MultiValue| {
            if args.len() > args_max {
                return Err(bad_argument(lua, args_max + 1, "found too many arguments"));
            }
            config.with(|config| setting(lua, &args, config))
        };
        table.raw_set(name, lua.create_function(function)?)?;
    }
    let new = move |lua: &Lua, _: MultiValue| {
        copy_of_library(lua, &Config::Own(Rc::default()), bytes_max)
    };
    table.raw_set("new", lua.create_function(new)?)?;
    table.raw_set("null", Value::NULL)?;
    table.raw_set("_NAME", "cjson")?;
    table.raw_set("_VERSION", "2.1.0")?;
    Ok(table)
}

fn only_argument<'a>(lua: &Lua, args: &'a MultiValue) -> mlua::Result<&'a Value> {
    match (args.len(), args.front()) {
        (1, Some(value)) => Ok(value),
        _ => Err(bad_argument(lua, 1, "expected 1 argument")),
    }
}

fn one(value: Value) -> mlua::Result<MultiValue> {
    Ok(MultiValue::from_iter([value]))
}

fn sparse_array(lua: &Lua, args: &MultiValue, config: &mut JsonConfig) -> mlua::Result<MultiValue> {
    Ok(MultiValue::from_iter([
        switch_option(lua, args, 1, &mut config.sparse_convert)?,
        integer_option(lua, args, 2, &mut config.sparse_ratio, 0, i32::MAX)?,
        integer_option(lua, args, 3, &mut config.sparse_safe, 0, i32::MAX)?,
    ]))
}

/// Sets an integer, if one is given, and returns the one in force.
fn integer_option(
    lua: &Lua,
    args: &MultiValue,
    number: usize,
    setting: &mut i32,
    min: i32,
    max: i32,
) -> mlua::Result<Value> {
    if !matches!(args.get(number - 1), None | Some(Value::Nil)) {
        let value = integer_argument(lua, args, number)?;
        if !(min..=max).contains(&value) {
            let problem = format!("expected integer between {min} and {max}");
            return Err(bad_argument(lua, 1, &problem));
        }
        *setting = value;
    }
    Ok(Value::Number(f64::from(*setting)))
}

/// Sets a switch by a boolean or by `on` and `off`.
fn switch_option(
    lua: &Lua,
    args: &MultiValue,
    number: usize,
    setting: &mut bool,
) -> mlua::Result<Value> {
    match args.get(number - 1) {
        None | Some(Value::Nil) => {}
        Some(Value::Boolean(value)) => *setting = *value,
        Some(_) => *setting = word(lua, args, number, &["off", "on"])? == 1,
    }
    Ok(Value::Boolean(*setting))
}

fn invalid_numbers(
    lua: &Lua,
    args: &MultiValue,
    config: &mut JsonConfig,
) -> mlua::Result<MultiValue> {
    let setting = &mut config.encode_invalid_numbers;
    match args.front() {
        None | Some(Value::Nil) => {}
        Some(Value::Boolean(false)) => *setting = InvalidNumbers::Refuse,
        Some(Value::Boolean(true)) => *setting = InvalidNumbers::Write,
        Some(_) => {
            *setting = match word(lua, args, 1, &["off", "on", "null"])? {
                0 => InvalidNumbers::Refuse,
                1 => InvalidNumbers::Write,
                _ => InvalidNumbers::Null,
            };
        }
    }
    one(match setting {
        InvalidNumbers::Refuse => Value::Boolean(false),
        InvalidNumbers::Write => Value::Boolean(true),
        InvalidNumbers::Null => Value::String(lua.create_string("null")?),
    })
}

/// Which of `words` the argument is.
fn word(lua: &Lua, args: &MultiValue, number: usize, words: &[&str]) -> mlua::Result<usize> {
    let text = string_argument(lua, args, number)?;
    let text = text.to_string_lossy();
    let found = words.iter().position(|word| *word == text);
    found.ok_or_else(|| bad_argument(lua, number, &format!("invalid option '{text}'")))
}
