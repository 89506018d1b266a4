//! `bit`: arithmetic on 32 bits, as the BitOp library does it. Results are signed.

use crate::sandbox::number_argument;
use mlua::{Lua, MultiValue, Table};

type Unary = fn(u32) -> u32;
type Binary = fn(u32, u32) -> u32;

/// Adding this leaves the low 32 bits of a number, rounded, in the low bits of the mantissa.
const SHIFT: f64 = 6_755_399_441_055_744.0;

#[expect(clippy::cast_possible_truncation, reason = "the low bits are meant")]
fn bits(lua: &Lua, args: &MultiValue, number: usize) -> mlua::Result<u32> {
    Ok((number_argument(lua, args, number)? + SHIFT).to_bits() as u32)
}

fn signed(bits: u32) -> f64 {
    f64::from(bits.cast_signed())
}

/// The table.
pub(crate) fn library(lua: &Lua) -> mlua::Result<Table> {
    let table = lua.create_table()?;
    let unary: [(&str, Unary); 3] = [
        ("tobit", |a| a),
        ("bnot", |a| !a),
        ("bswap", u32::swap_bytes),
    ];
    for (name, operation) in unary {
        let function =
            move |lua: &Lua, args: MultiValue| Ok(signed(operation(bits(lua, &args, 1)?)));
        table.raw_set(name, lua.create_function(function)?)?;
    }
    let folds: [(&str, Binary); 3] = [
        ("band", |a, b| a & b),
        ("bor", |a, b| a | b),
        ("bxor", |a, b| a ^ b),
    ];
    for (name, operation) in folds {
        let function = move |lua: &Lua, args: MultiValue| {
            let mut result = bits(lua, &args, 1)?;
            for number in 2..=args.len() {
                result = operation(result, bits(lua, &args, number)?);
            }
            Ok(signed(result))
        };
        table.raw_set(name, lua.create_function(function)?)?;
    }
    let shifts: [(&str, Binary); 5] = [
        ("lshift", u32::wrapping_shl),
        ("rshift", u32::wrapping_shr),
        ("arshift", |a, n| {
            a.cast_signed().wrapping_shr(n).cast_unsigned()
        }),
        ("rol", u32::rotate_left),
        ("ror", u32::rotate_right),
    ];
    for (name, operation) in shifts {
        let function = move |lua: &Lua, args: MultiValue| {
            let value = bits(lua, &args, 1)?;
            let count = bits(lua, &args, 2)? & 31;
            Ok(signed(operation(value, count)))
        };
        table.raw_set(name, lua.create_function(function)?)?;
    }
    table.raw_set("tohex", lua.create_function(tohex)?)?;
    Ok(table)
}

/// The last digits; a negative number of them means upper case.
fn tohex(lua: &Lua, args: MultiValue) -> mlua::Result<String> {
    let value = bits(lua, &args, 1)?;
    let digits = match args.get(1) {
        None => 8,
        Some(_) => bits(lua, &args, 2)?.cast_signed(),
    };
    let text = match digits < 0 {
        true => format!("{value:08X}"),
        false => format!("{value:08x}"),
    };
    let digits = digits.unsigned_abs().min(8) as usize;
    Ok(text[8 - digits..].to_owned())
}
