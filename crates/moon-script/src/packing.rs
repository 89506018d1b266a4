//! `struct`: numbers and strings to and from the layouts of C.
//!
//! A format is a row of letters: `<` and `>` choose the byte order, `!n` an alignment, `x` is
//! padding, `b B h H l L T i I` are integers (lower case signed, `i` and `I` with a size), `f` and
//! `d` floats, `s` a string that ends with a zero, `cn` one of `n` bytes.

use crate::number::to_i64;
use crate::raised::{bad_argument, error_here, error_plain};
use crate::sandbox::{check_argument, number_argument, string_argument};
use crate::state::Shared;
use mlua::{Lua, MultiValue, Table, Value};

/// Bytes of the longest integer.
const INTEGER_BYTES_MAX: usize = 32;
/// The alignment that `!` alone means.
const ALIGN_DEFAULT: usize = 8;
/// Values that one call returns; Lua allows little more.
const RESULTS_MAX: usize = 7000;

/// The table.
pub(crate) fn library(lua: &Lua, shared: &Shared) -> mlua::Result<Table> {
    let table = lua.create_table()?;
    let bytes_max = shared.bytes_max;
    let pack = move |lua: &Lua, args: MultiValue| pack(lua, bytes_max, args);
    table.raw_set("pack", lua.create_function(pack)?)?;
    table.raw_set("unpack", lua.create_function(unpack)?)?;
    table.raw_set("size", lua.create_function(size)?)?;
    Ok(table)
}

/// A format while it is read.
struct Format<'a> {
    rest: &'a [u8],
    big_endian: bool,
    align: usize,
}

/// One letter of a format with its size in bytes.
#[derive(Clone, Copy)]
struct Item {
    letter: u8,
    size: usize,
}

impl Format<'_> {
    fn new(text: &[u8]) -> Format<'_> {
        // The format is a C string.
        let end = text.iter().position(|&byte| byte == 0);
        Format {
            rest: &text[..end.unwrap_or(text.len())],
            big_endian: cfg!(target_endian = "big"),
            align: 1,
        }
    }

    fn next(&mut self, lua: &Lua) -> mlua::Result<Option<Item>> {
        let Some((&letter, rest)) = self.rest.split_first() else {
            return Ok(None);
        };
        self.rest = rest;
        let size = match letter {
            b'b' | b'B' | b'x' => 1,
            b'h' | b'H' => 2,
            b'l' | b'L' | b'T' | b'd' => 8,
            b'f' => 4,
            b'c' => self.number(lua, 1)?,
            b'i' | b'I' => {
                let size = self.number(lua, 4)?;
                if size > INTEGER_BYTES_MAX {
                    let problem =
                        format!("integral size {size} is larger than limit of {INTEGER_BYTES_MAX}");
                    return Err(error_here(lua, problem));
                }
                size
            }
            _ => 0,
        };
        Ok(Some(Item { letter, size }))
    }

    /// The number that follows, or `default`.
    fn number(&mut self, lua: &Lua, default: usize) -> mlua::Result<usize> {
        let mut number: Option<i32> = None;
        while let Some((digit @ b'0'..=b'9', rest)) = self.rest.split_first() {
            let next = number.unwrap_or(0).checked_mul(10);
            let next = next.and_then(|number| number.checked_add(i32::from(digit - b'0')));
            number = Some(next.ok_or_else(|| error_here(lua, "integral size overflow"))?);
            self.rest = rest;
        }
        Ok(number.map_or(default, |n| usize::try_from(n).unwrap_or(0)))
    }

    /// Bytes of padding before `item` if it begins at `position`.
    fn padding(&self, position: usize, item: Item) -> usize {
        if item.size == 0 || item.letter == b'c' {
            return 0;
        }
        let size = item.size.min(self.align);
        (size - (position & (size - 1))) & (size - 1)
    }

    /// A letter that stands for no value.
    fn control(&mut self, lua: &Lua, letter: u8) -> mlua::Result<()> {
        match letter {
            b' ' => {}
            b'>' => self.big_endian = true,
            b'<' => self.big_endian = false,
            b'!' => {
                let align = self.number(lua, ALIGN_DEFAULT)?;
                if !align.is_power_of_two() {
                    let problem = format!("alignment {align} is not a power of 2");
                    return Err(error_here(lua, problem));
                }
                self.align = align;
            }
            _ => {
                let problem = format!("invalid format option '{}'", char::from(letter));
                return Err(bad_argument(lua, 1, &problem));
            }
        }
        Ok(())
    }
}

#[expect(clippy::cast_possible_truncation, reason = "floats have fewer digits")]
fn pack(lua: &Lua, bytes_max: usize, mut args: MultiValue) -> mlua::Result<mlua::LuaString> {
    let text = string_argument(lua, &args, 1)?;
    // A missing value counts as nil.
    args.push_back(Value::Nil);
    let text = text.as_bytes();
    let mut format = Format::new(&text);
    let mut out = Vec::new();
    let mut arg = 2;
    while let Some(item) = format.next(lua)? {
        out.resize(out.len() + format.padding(out.len(), item), 0);
        match item.letter {
            b'b' | b'B' | b'h' | b'H' | b'l' | b'L' | b'T' | b'i' | b'I' => {
                let value = number_argument(lua, &args, arg)?;
                put_integer(&mut out, value, item.size, format.big_endian);
                arg += 1;
            }
            b'x' => out.push(0),
            b'f' => {
                let value = number_argument(lua, &args, arg)? as f32;
                out.extend(ordered(value.to_le_bytes(), format.big_endian));
                arg += 1;
            }
            b'd' => {
                let value = number_argument(lua, &args, arg)?;
                out.extend(ordered(value.to_le_bytes(), format.big_endian));
                arg += 1;
            }
            b'c' | b's' => {
                let value = string_argument(lua, &args, arg)?;
                let value = value.as_bytes();
                arg += 1;
                let size = if item.size == 0 {
                    value.len()
                } else {
                    item.size
                };
                check_argument(lua, value.len() >= size, arg, "string too short")?;
                out.extend_from_slice(&value[..size]);
                if item.letter == b's' {
                    out.push(0);
                }
            }
            letter => format.control(lua, letter)?,
        }
        if out.len() > bytes_max {
            return Err(error_plain("not enough memory"));
        }
    }
    lua.create_string(out)
}

/// Bytes in little-endian order, turned round if wanted.
fn ordered<const N: usize>(mut bytes: [u8; N], big_endian: bool) -> [u8; N] {
    if big_endian {
        bytes.reverse();
    }
    bytes
}

fn put_integer(out: &mut Vec<u8>, value: f64, size: usize, big_endian: bool) {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    let value = match value >= LIMIT {
        // The machine converts the upper half in two steps, and what is too large to 0.
        true => (to_i64(value - LIMIT) ^ i64::MIN).cast_unsigned(),
        // What is no number becomes the smallest integer.
        false => to_i64(value).cast_unsigned(),
    };
    let mut bytes = [0; INTEGER_BYTES_MAX];
    bytes[..8].copy_from_slice(&value.to_le_bytes());
    bytes[..size].reverse_if(big_endian);
    out.extend_from_slice(&bytes[..size]);
}

trait ReverseIf {
    fn reverse_if(&mut self, condition: bool);
}

impl ReverseIf for [u8] {
    fn reverse_if(&mut self, condition: bool) {
        if condition {
            self.reverse();
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "Lua's numbers are doubles")]
fn get_integer(data: &[u8], is_signed: bool, big_endian: bool) -> f64 {
    let mut value: u64 = 0;
    let mut take = |byte: &u8| value = value << 8 | u64::from(*byte);
    match big_endian {
        true => data.iter().for_each(&mut take),
        false => data.iter().rev().for_each(&mut take),
    }
    if !is_signed {
        return value as f64;
    }
    // The shift wraps for odd sizes as it does in the machine.
    let top = u32::try_from(data.len() * 8).unwrap_or(0).wrapping_sub(1);
    let mask = u64::MAX.wrapping_shl(top);
    if value & mask != 0 {
        value |= mask;
    }
    value.cast_signed() as f64
}

#[expect(clippy::cast_precision_loss, reason = "positions are small")]
fn unpack(lua: &Lua, args: MultiValue) -> mlua::Result<MultiValue> {
    let text = string_argument(lua, &args, 1)?;
    let text = text.as_bytes();
    let data = string_argument(lua, &args, 2)?;
    let data = data.as_bytes();
    let position = match args.get(2) {
        None | Some(Value::Nil) => 1,
        Some(_) => to_i64(number_argument(lua, &args, 3)?),
    };
    // A negative position is a huge one, as in C.
    check_argument(lua, position != 0, 3, "offset must be 1 or greater")?;
    let mut position = usize::try_from(position).map_or(usize::MAX / 2, |p| p - 1);
    let mut format = Format::new(&text);
    let mut results: Vec<Value> = Vec::new();
    while let Some(item) = format.next(lua)? {
        position += format.padding(position, item);
        let slice = |size: usize| {
            position
                .checked_add(size)
                .and_then(|end| data.get(position..end))
        };
        let too_short = || bad_argument(lua, 2, "data string too short");
        let bytes = slice(item.size).ok_or_else(too_short)?;
        if results.len() >= RESULTS_MAX {
            return Err(error_here(lua, "stack overflow (too many results)"));
        }
        let mut size = item.size;
        match item.letter {
            b'b' | b'B' | b'h' | b'H' | b'l' | b'L' | b'T' | b'i' | b'I' => {
                let is_signed = item.letter.is_ascii_lowercase();
                let value = get_integer(bytes, is_signed, format.big_endian);
                results.push(Value::Number(value));
            }
            b'x' => {}
            b'f' => {
                let bytes = bytes.try_into().expect("a float has four bytes");
                let value = f32::from_le_bytes(ordered(bytes, format.big_endian));
                results.push(Value::Number(f64::from(value)));
            }
            b'd' => {
                let bytes = bytes.try_into().expect("a double has eight bytes");
                let value = f64::from_le_bytes(ordered(bytes, format.big_endian));
                results.push(Value::Number(value));
            }
            b'c' => {
                if size == 0 {
                    let len = lua.coerce_number(results.pop().unwrap_or(Value::Nil))?;
                    let Some(len) = len else {
                        return Err(error_here(lua, "format 'c0' needs a previous size"));
                    };
                    size = usize::try_from(to_i64(len)).unwrap_or(usize::MAX);
                }
                let bytes = slice(size).ok_or_else(too_short)?;
                results.push(Value::String(lua.create_string(bytes)?));
            }
            b's' => {
                let rest = data.get(position..).unwrap_or_default();
                let Some(end) = rest.iter().position(|&byte| byte == 0) else {
                    return Err(error_here(lua, "unfinished string in data"));
                };
                results.push(Value::String(lua.create_string(&rest[..end])?));
                size = end + 1;
            }
            letter => format.control(lua, letter)?,
        }
        position += size;
    }
    results.push(Value::Number((position + 1) as f64));
    Ok(MultiValue::from_vec(results))
}

#[expect(clippy::cast_precision_loss, reason = "sizes are small")]
fn size(lua: &Lua, args: MultiValue) -> mlua::Result<f64> {
    let text = string_argument(lua, &args, 1)?;
    let text = text.as_bytes();
    let mut format = Format::new(&text);
    let mut position = 0;
    while let Some(item) = format.next(lua)? {
        position += format.padding(position, item);
        match (item.letter, item.size) {
            (b's', _) => return Err(bad_argument(lua, 1, "option 's' has no fixed size")),
            (b'c', 0) => return Err(bad_argument(lua, 1, "option 'c0' has no fixed size")),
            (letter, _) if !letter.is_ascii_alphanumeric() => format.control(lua, letter)?,
            _ => {}
        }
        position += item.size;
    }
    Ok(position as f64)
}
